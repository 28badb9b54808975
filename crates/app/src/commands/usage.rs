//! `hotspare usage`: tokens per profile and day, as the providers counted them, from the ledger alone. Never guesses: what was not counted
//! or has no known price is said to be so.

use std::process::ExitCode;
use std::time::Duration;

use hotspare_store::{Split, Total};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::{UsageArgs, UsageKey};
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};
use crate::words;

/// The version of the JSON's shape.
const USAGE_VERSION: u32 = 1;

/// Widest column of profile names.
const NAME_CAP: usize = 20;

/// What `usage --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Usage {
    /// The shape's version.
    version: u32,
    /// From when on, in milliseconds since 1970 (UTC).
    since_ms: u64,
    /// One for each day, profile and model.
    totals: Vec<UsageTotal>,
}

/// What one profile did for one model on one day. Tokens are as the provider counted them.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct UsageTotal {
    /// `2026-01-31`, in this machine's time zone.
    day: String,
    /// The profile's name.
    profile: String,
    /// The model that the profile was asked for, where one was named.
    model: Option<String>,
    /// The client's session id, with `--by session`. `None` if none was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// The client's folder, with `--by project`. `None` if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    /// Requests that were sent to it.
    attempts: u64,
    /// Of those, failed ones.
    failed: u64,
    /// Of those, answers that a client got.
    served: u64,
    /// Of those, answers that were thrown away although they were paid for.
    wasted: u64,
    /// Of those, requests that may be billed although no count came.
    maybe_billed: u64,
    /// Requests for which a count came.
    counted: u64,
    /// Input without what the cache held.
    input_tokens: u64,
    /// Output.
    output_tokens: u64,
    /// Input read from the prompt cache.
    cache_read_tokens: u64,
    /// Input written to the prompt cache.
    cache_write_tokens: u64,
    /// Answers whose price is known.
    priced: u64,
    /// What those are estimated to cost, in millionths of a US dollar; none where no price is known, which does not mean that it was free.
    est_cost_micro_usd: Option<u64>,
}

impl UsageTotal {
    fn new(total: Total, key: UsageKey) -> Self {
        let (session, project) = if key == UsageKey::Project { (None, total.part) } else { (total.part, None) };
        Self {
            day: total.day,
            profile: total.profile,
            model: total.model,
            session,
            project,
            attempts: total.attempts,
            failed: total.failed,
            served: total.served,
            wasted: total.wasted,
            maybe_billed: total.maybe_billed,
            counted: total.counted,
            input_tokens: total.input,
            output_tokens: total.output,
            cache_read_tokens: total.cache_read,
            cache_write_tokens: total.cache_write,
            priced: total.priced,
            est_cost_micro_usd: (total.priced > 0).then_some(total.est_cost_micro_usd),
        }
    }
}

/// Runs `hotspare usage`.
pub(crate) fn usage(arguments: &UsageArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let since_ms = commands::ms_ago(arguments.since);
    let found = match commands::ledger(&locations)? {
        // A script that adds up gets an empty list.
        None if arguments.json => Vec::new(),
        None => return Err(commands::nothing_recorded()),
        Some(ledger) => match arguments.by {
            UsageKey::Profile | UsageKey::Model => ledger.totals(since_ms)?,
            UsageKey::Session => ledger.totals_split(since_ms, Split::Session)?,
            UsageKey::Project => ledger.totals_split(since_ms, Split::Folder)?,
        },
    };
    let totals: Vec<UsageTotal> = found.into_iter().map(|total| UsageTotal::new(total, arguments.by)).collect();
    if arguments.json {
        let usage = Usage { version: USAGE_VERSION, since_ms, totals };
        let text = serde_json::to_string(&usage).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&table(&totals, arguments.by, arguments.since, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl UsageKey {
    fn heading(self) -> &'static str {
        match self {
            Self::Profile => "PROFILE",
            Self::Model => "MODEL",
            Self::Session => "SESSION",
            Self::Project => "PROJECT",
        }
    }

    fn of(self, total: &UsageTotal) -> &str {
        match self {
            Self::Profile => &total.profile,
            Self::Model => total.model.as_deref().unwrap_or("(no model)"),
            Self::Session => total.session.as_deref().unwrap_or("(no session)"),
            Self::Project => total.project.as_deref().unwrap_or("(not known)"),
        }
    }
}

/// The totals of a day with the same key added up.
fn by_day_and_key(totals: &[UsageTotal], key: UsageKey) -> Vec<UsageTotal> {
    let mut rows: Vec<UsageTotal> = Vec::new();
    for total in totals {
        match rows.iter_mut().find(|row| row.day == total.day && key.of(row) == key.of(total)) {
            Some(row) => row.add(total),
            None => rows.push(total.clone()),
        }
    }
    rows
}

impl UsageTotal {
    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.served += other.served;
        self.wasted += other.wasted;
        self.maybe_billed += other.maybe_billed;
        self.counted += other.counted;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cache_read_tokens += other.cache_read_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.priced += other.priced;
        self.est_cost_micro_usd = match (self.est_cost_micro_usd, other.est_cost_micro_usd) {
            (None, None) => None,
            (mine, others) => Some(mine.unwrap_or_default() + others.unwrap_or_default()),
        };
    }
}

fn table(totals: &[UsageTotal], key: UsageKey, since: Duration, look: Look) -> String {
    let rows = by_day_and_key(totals, key);
    let Some(whole) = rows.iter().cloned().reduce(|mut sum, row| {
        sum.add(&row);
        sum
    }) else {
        return "no request in that time".to_owned();
    };
    let name = rows.iter().map(|row| key.of(row).chars().count()).max().unwrap_or_default().clamp(7, NAME_CAP);
    let heading = cells(
        &words::padded(key.heading(), name),
        ["ANSWERS", "FAILED", "INPUT", "CACHE W", "CACHE R", "OUTPUT", "COST"].map(str::to_owned),
    );
    let mut lines = vec![look.paint.paint(Style::Dim, &heading)];
    let mut day = "";
    for row in &rows {
        if row.day != day {
            day = &row.day;
            lines.push(look.paint.paint(Style::Bold, day));
        }
        lines.push(line(key.of(row), name, row, look));
    }
    if rows.len() > 1 {
        lines.push(look.paint.paint(Style::Bold, &format!("the last {}", period(since))));
        lines.push(line("all", name, &whole, look));
    }
    lines.push(String::new());
    lines.extend(remarks(&whole).iter().map(|remark| look.paint.paint(Style::Dim, remark)));
    lines.join("\n")
}

fn line(label: &str, name: usize, row: &UsageTotal, look: Look) -> String {
    let cost = row.est_cost_micro_usd.map_or_else(
        || look.sign("—", "-").to_owned(),
        |cost| {
            let partly = if row.priced < row.served { "+" } else { "" };
            format!("{}{partly}", words::money(cost))
        },
    );
    let failed = if row.failed == 0 { look.sign("—", "-").to_owned() } else { row.failed.to_string() };
    let label = words::padded(&words::fit(label, name, look.unicode), name);
    cells(
        &label,
        [
            row.served.to_string(),
            failed,
            words::count(row.input_tokens),
            words::count(row.cache_write_tokens),
            words::count(row.cache_read_tokens),
            words::count(row.output_tokens),
            cost,
        ],
    )
}

fn cells(label: &str, cells: [String; 7]) -> String {
    let [answers, failed, input, written, cached, output, cost] = cells;
    format!("  {label} {answers:>7} {failed:>6} {input:>7} {written:>7} {cached:>7} {output:>7} {cost:>9}").trim_end().to_owned()
}

fn period(since: Duration) -> String {
    let seconds = since.as_secs();
    match seconds {
        86_400.. if seconds.is_multiple_of(86_400) => format!("{} days", seconds / 86_400),
        3600.. if seconds.is_multiple_of(3600) => format!("{} hours", seconds / 3600),
        60.. if seconds.is_multiple_of(60) => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} seconds"),
    }
}

/// What the numbers do not say.
fn remarks(whole: &UsageTotal) -> Vec<String> {
    let mut remarks = vec!["Tokens are as the providers counted them.".to_owned()];
    remarks.push(match whole.priced {
        0 => "No price is known for these answers; that does not mean they were free.".to_owned(),
        priced if priced < whole.served => format!("Cost is an estimate; {} of {} answers have a known price.", priced, whole.served),
        _ => "Cost is an estimate.".to_owned(),
    });
    let uncounted = whole.served.saturating_sub(whole.counted);
    if uncounted > 0 {
        remarks.push(format!("{} came without a count of tokens.", words::several(uncounted, "answer", "answers")));
    }
    if whole.maybe_billed > 0 {
        remarks.push(format!(
            "{} may be billed although no count came.",
            words::several(whole.maybe_billed, "failed request", "failed requests")
        ));
    }
    if whole.wasted > 0 {
        remarks.push(format!("Paid for and thrown away: {}.", words::several(whole.wasted, "answer", "answers")));
    }
    remarks
}

#[cfg(test)]
mod tests;
