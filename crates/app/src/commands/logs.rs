//! `hotspare logs`: the exchanges of late, one line each, from the ledger alone. Never asks a running gateway.

use std::process::ExitCode;
use std::time::Duration;

use hotspare_config::Locations;
use hotspare_core::record::{AttemptEntry, ExchangeRecord, Reception, id_text};
use hotspare_core::{Endpoint, Outcome};
use hotspare_store::{Fault, Filter, Listing, Reader, Row};

use crate::cli::LogsArgs;
use crate::commands::{self, why};
use crate::error::CliError;
use crate::output::{self, Look, Paint, Style};
use crate::words;

/// How many are shown where nothing else is said.
const DEFAULT_LIMIT: u32 = 30;

/// Most that are shown at once.
const MOST: u32 = 100_000;

/// How often `-f` looks.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Last digits of an id that are shown: enough for `hotspare why`.
const ID_COLUMNS: usize = 10;

/// Columns for the model.
const MODEL_COLUMNS: usize = 14;

/// Columns before the course that an exchange took.
const COURSE_AT: usize = 8 + 2 + ID_COLUMNS + 2 + 2 + MODEL_COLUMNS + 1 + 8 + 2;

/// Runs `hotspare logs`.
pub(crate) fn logs(arguments: &LogsArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let limit = arguments.limit.unwrap_or(if arguments.since.is_some() { MOST } else { DEFAULT_LIMIT }).min(MOST);
    let since_ms = arguments.since.map_or(0, commands::ms_ago);
    let filter = Filter { since_ms, failovers: arguments.failovers, after: None, limit };
    let drills = arguments.drills;
    let mut lines = Lines { look: Look::of_stdout(), json: arguments.json, day: String::new() };
    let ledger = commands::ledger(&locations)?;
    if ledger.is_none() && !arguments.follow && !arguments.json {
        return Err(commands::nothing_recorded());
    }
    let mut seen = 0;
    if let Some(ledger) = &ledger {
        // Before the list: what is written between the two is news, not lost.
        let before = ledger.last_seq()?.unwrap_or(0);
        let listing = listed(ledger, &filter, drills)?;
        seen = listing.last_seq.unwrap_or(0).max(before);
        if listing.rows.is_empty() && !arguments.follow && !arguments.json {
            output::talk("hotspare: no such exchange is recorded");
        }
        if !lines.print(&listing)? {
            return Ok(ExitCode::SUCCESS);
        }
        let hidden = if drills { 0 } else { ledger.count_played(&filter)? };
        if hidden > 0 {
            let some = words::several(hidden, "request of a drill is", "requests of drills are");
            output::talk(&format!("hotspare: {some} not listed; add `--drills`"));
        }
    }
    drop(ledger);
    if arguments.follow {
        commands::runtime()?.block_on(follow(&locations, &filter, drills, seen, &mut lines))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the filter lets through. Nothing of a drill's own request was real, so it is listed only where that is wanted.
fn listed(ledger: &Reader, filter: &Filter, drills: bool) -> Result<Listing, Fault> {
    if drills { ledger.list(filter) } else { ledger.list_real(filter) }
}

/// Prints each exchange that ends, until nobody reads any more.
async fn follow(locations: &Locations, filter: &Filter, drills: bool, mut seen: i64, lines: &mut Lines) -> Result<(), CliError> {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        // Opened anew each time: the file may have been made, or replaced, since.
        let listing = match news(locations, filter, drills, &mut seen) {
            Ok(listing) => listing,
            Err(Fault::Locked(_)) => continue,
            Err(fault) => return Err(fault.into()),
        };
        if !lines.print(&listing)? {
            return Ok(());
        }
    }
}

/// What ended since the place that was seen last, which moves on.
fn news(locations: &Locations, filter: &Filter, drills: bool, seen: &mut i64) -> Result<Listing, Fault> {
    let Some(ledger) = Reader::open(&locations.state_dir)? else { return Ok(Listing::default()) };
    let last = ledger.last_seq()?.unwrap_or(0);
    if last < *seen {
        *seen = 0;
    }
    let listing = listed(&ledger, &Filter { after: Some(*seen), limit: MOST, ..filter.clone() }, drills)?;
    *seen = last.max(listing.last_seq.unwrap_or(*seen));
    Ok(listing)
}

/// Prints rows, with a heading for each day on a terminal.
struct Lines {
    look: Look,
    json: bool,
    day: String,
}

impl Lines {
    /// Returns whether anybody still reads.
    fn print(&mut self, listing: &Listing) -> Result<bool, CliError> {
        for row in &listing.rows {
            if !output::still_read(&self.text(row)?)? {
                return Ok(false);
            }
        }
        if listing.unreadable > 0 {
            output::talk(&format!("hotspare: {} more were written by a newer hotspare and cannot be shown", listing.unreadable));
        }
        Ok(true)
    }

    fn text(&mut self, row: &Row) -> Result<String, CliError> {
        if self.json {
            return why::json(row);
        }
        let line = line(row, self.look);
        let day = row.local_time.split(' ').next().unwrap_or_default();
        if self.look.width.is_none() || self.day == day {
            return Ok(line);
        }
        let first = self.day.is_empty();
        day.clone_into(&mut self.day);
        let dim = |text: &str| self.look.paint.paint(Style::Dim, text);
        let heading = if first { format!("{}\n", dim(&heading())) } else { String::new() };
        Ok(format!("{heading}{}\n{line}", dim(day)))
    }
}

fn heading() -> String {
    format!("{:8}  {:ID_COLUMNS$}    {:MODEL_COLUMNS$} {:>8}  COURSE", "TIME", "ID", "MODEL", "TOOK")
}

/// What `logs` says of one exchange, on one plain line.
pub(crate) fn plain_line(row: &Row) -> String {
    line(row, Look { paint: Paint(false), unicode: true, width: None })
}

/// One exchange on one line. In a file each line has its date and is as long as it is.
fn line(row: &Row, look: Look) -> String {
    let record = &row.record;
    let paint = |style, text: &str| look.paint.paint(style, text);
    let when = if look.width.is_some() { row.local_time.split(' ').next_back().unwrap_or_default() } else { &row.local_time };
    let id = id_text(record.id);
    let id = if look.width.is_some() { &id[id.len() - ID_COLUMNS..] } else { &id };
    let (sign, style) = sign(record, look);
    let model = words::padded(&words::fit(&what(record), MODEL_COLUMNS, look.unicode), MODEL_COLUMNS);
    let room = look.width.map_or(usize::MAX, |width| width.saturating_sub(COURSE_AT).max(16));
    let course = words::fit(&course(record, look), room, look.unicode);
    let course = if style == Style::Green && !record.on_spare { course } else { paint(style, &course) };
    format!(
        "{}  {}  {} {model} {:>8}  {course}",
        paint(Style::Dim, when),
        paint(Style::Cyan, id),
        paint(style, sign),
        words::time(record.took_us)
    )
}

fn sign(record: &ExchangeRecord, look: Look) -> (&'static str, Style) {
    match record.outcome {
        Outcome::Served if record.on_spare => (look.sign("⇄", "~"), Style::Yellow),
        Outcome::Served => (look.sign("✔", "+"), Style::Green),
        Outcome::Relayed if record.reception() == Reception::Unanswered => (look.sign("✖", "x"), Style::Red),
        Outcome::Relayed => (look.sign("⚠", "!"), Style::Yellow),
        Outcome::HandedBack => (look.sign("⇄", "~"), Style::Yellow),
        Outcome::Cut | Outcome::Exhausted => (look.sign("✖", "x"), Style::Red),
        Outcome::Cancelled => (look.sign("○", "o"), Style::Dim),
    }
}

/// The model without the words that are the same everywhere, or what was asked instead of a model.
fn what(record: &ExchangeRecord) -> String {
    match (record.endpoint, &record.model) {
        (Endpoint::CountTokens, _) => "count tokens".to_owned(),
        (Endpoint::Models, _) => "models".to_owned(),
        (_, Some(model)) => model.rsplit('/').next().unwrap_or(model).trim_start_matches("claude-").to_owned(),
        (_, None) => "-".to_owned(),
    }
}

/// Who was asked in turn, and what each failed with: `work 529 → spare`.
fn course(record: &ExchangeRecord, look: Look) -> String {
    let arrow = look.sign(" → ", " -> ");
    let mut stops: Vec<String> = record.attempts.iter().map(stop).collect();
    stops.dedup();
    let ending = match record.outcome {
        Outcome::Served => "",
        Outcome::Relayed if record.reception() == Reception::Unanswered && record.profiles().len() > 1 => "none left",
        Outcome::Relayed => "passed on",
        Outcome::Cut => "cut",
        Outcome::HandedBack => "handed back",
        Outcome::Exhausted => "none left",
        Outcome::Cancelled => "client gone",
    };
    if !ending.is_empty() {
        stops.push(ending.to_owned());
    }
    let course = stops.join(arrow);
    record
        .drill
        .map_or_else(|| course.clone(), |drill| format!("{} {}: {course}", if drill.live { "live drill" } else { "drill" }, drill.fault))
}

fn stop(attempt: &AttemptEntry) -> String {
    // What broke under a good status is not told by it.
    let status = attempt.status.filter(|status| *status >= 300);
    let fault = attempt.class.map(|class| status.map_or_else(|| class.word().replace('_', " "), |status| status.to_string()));
    fault.map_or_else(|| attempt.profile.clone(), |fault| format!("{} {fault}", attempt.profile))
}

#[cfg(test)]
mod tests;
