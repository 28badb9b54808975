//! `hotspare why`: shows how one exchange went, from the ledger alone. Never asks a running gateway.

#[cfg(test)]
pub(crate) mod samples;
mod waterfall;

use std::path::Path;
use std::process::ExitCode;

use hotspare_store::{FindError, Row};

use crate::cli::WhyArgs;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Paint};

/// Runs `hotspare why`.
pub(crate) fn why(arguments: &WhyArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let ledger = commands::ledger(&locations)?.ok_or_else(commands::nothing_recorded)?;
    let found = if arguments.exchange == "last" { ledger.last() } else { ledger.by_id(&arguments.exchange) };
    let row = found.map_err(|error| explained(&error))?;
    if arguments.json {
        output::data(&json(&row)?)?;
    } else {
        output::data(&waterfall::draw(&row, Look::of_stdout(), Some(&locations.home)))?;
    }
    Ok(ExitCode::SUCCESS)
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
