//! `hotspare why`: shows how one exchange went, from the ledger, and what waits for an answer now, from the gateways that run.

#[cfg(test)]
pub(crate) mod samples;
mod waiting;
mod waterfall;

use std::path::Path;
use std::process::ExitCode;

use hotspare_config::Locations;
use hotspare_store::{FindError, Row};

use crate::cli::WhyArgs;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Paint};

/// Runs `hotspare why`.
pub(crate) fn why(arguments: &WhyArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let waits = waiting::find(&locations)?;
    let look = Look::of_stdout();
    let is_last = arguments.exchange == "last";
    // A hang is what a user who asks without an id means, and no ledger has it.
    let hanging = if is_last && !arguments.json { waiting::hanging(waits.clone()) } else { Vec::new() };
    for request in &hanging {
        output::data(&format!("{}\n", waiting::draw(request, look)))?;
    }
    let row = match find(&locations, &arguments.exchange) {
        Ok(row) => row,
        Err(error) => {
            let waits = waiting::by_id(waits, &arguments.exchange).filter(|_| !is_last);
            match waits {
                Some(request) if arguments.json => output::data(&waiting::json(&request)?)?,
                Some(request) => output::data(&waiting::draw(&request, look))?,
                None if !hanging.is_empty() => {}
                None => return Err(error),
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    if arguments.json {
        output::data(&json(&row)?)?;
    } else {
        output::data(&waterfall::draw(&row, look, Some(&locations.home)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find(locations: &Locations, id: &str) -> Result<Row, CliError> {
    let ledger = commands::ledger(locations)?.ok_or_else(commands::nothing_recorded)?;
    let found = if id == "last" { ledger.last() } else { ledger.by_id(id) };
    found.map_err(|error| explained(&error))
}

/// What `why` says of one exchange, plain.
pub(crate) fn plain(row: &Row) -> String {
    waterfall::draw(row, Look { paint: Paint(false), unicode: true, width: None }, None)
}

/// One exchange on one line.
pub(crate) fn json(row: &Row) -> Result<String, CliError> {
    serde_json::to_string(&row.record).map_err(|error| CliError::new(Exit::Failed, format!("the exchange cannot be written: {error}")))
}

fn explained(error: &FindError) -> CliError {
    match error {
        FindError::Empty => commands::nothing_recorded(),
        FindError::NotAnId(_) | FindError::Unknown(_) => {
            CliError::new(Exit::Failed, error.to_string()).hint("`hotspare logs` lists the latest")
        }
        FindError::Ambiguous { .. } => CliError::new(Exit::Failed, error.to_string()).hint("give more of its digits"),
        FindError::Unreadable(_) | FindError::Fault(_) => CliError::new(Exit::Failed, error.to_string()),
    }
}

/// A path below the user's home with `~` in its place.
fn shortened_path(path: &str, home: Option<&Path>) -> String {
    let below = home.and_then(|home| path.strip_prefix(home.to_str()?)).filter(|rest| rest.starts_with('/'));
    below.map_or_else(|| path.to_owned(), |rest| format!("~{rest}"))
}
