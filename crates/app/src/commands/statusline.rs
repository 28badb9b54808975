//! `hotspare statusline`: one segment for Claude Code's status line, from this machine alone. Never fails, never asks a provider, and says
//! nothing while the primary serves and is well.

mod segment;
mod wrap;

use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use hotspare_gateway::Status;
use hotspare_store::Reader;
use serde_json::Value;

use crate::cli::StatuslineArgs;
use crate::commands;
use crate::gateways::{self, NoAnswer};
use crate::output::{self, Look, Paint};
use crate::way::Way;
use segment::Segment;

/// Longest that a gateway may take to answer: milliseconds, but on a machine whose load is twice its cores one call in 25 took more than 100 ms.
/// Claude Code gives up on a status line after 5 s.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Most bytes of what the client writes to its status line; it is a few KiB.
const MAX_INPUT: u64 = 256 * 1024;

/// Longest that the client's JSON is waited for. It is written at once; a terminal writes none.
const INPUT_TIME: Duration = Duration::from_millis(200);

/// Columns at the right and left that the client keeps for itself (`anthropics/claude-code#5430`).
const CLIENT_MARGIN: usize = 4;

/// Runs `hotspare statusline`. Whatever happens, the exit code is 0: with another one the client shows no status line at all.
pub(crate) fn statusline(arguments: &StatuslineArgs) -> ExitCode {
    let look = Look::of_status_line();
    let Ok(runtime) = commands::runtime() else { return ExitCode::SUCCESS };
    let line = runtime.block_on(async {
        match &arguments.wrap {
            None => {
                let input = Input::read().await;
                own(Look { width: input.width(), ..look }, input.model.as_deref()).await.unwrap_or_default()
            }
            // Their command gets the client's JSON byte for byte, and has half of the line.
            Some(command) => {
                let half = Input::default().width().map(|width| width / 2);
                let (own, theirs) = tokio::join!(own(Look { width: half, ..look }, None), wrap::output(command));
                wrap::joined(own.as_deref(), &theirs, look)
            }
        }
    });
    if !line.is_empty() {
        // A client that is gone needs no status line.
        let _ = output::data(&line);
    }
    ExitCode::SUCCESS
}

/// What the client writes to its status line, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Input {
    /// The session's model.
    model: Option<String>,
    /// Columns of the terminal, where the client says so.
    columns: Option<usize>,
}

impl Input {
    /// Read from stdin. Empty if nothing comes in time.
    async fn read() -> Self {
        if io::stdin().is_terminal() {
            return Self::default();
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // A thread of its own: a pipe that nobody closes must not hold the process back, and ends with it.
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = io::stdin().lock().take(MAX_INPUT).read_to_end(&mut text);
            // Nobody waits any more: the line is drawn.
            let _ = sender.send(text);
        });
        let text = tokio::time::timeout(INPUT_TIME, receiver).await.ok().and_then(Result::ok).unwrap_or_default();
        Self::of(&text)
    }

    fn of(text: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(text).unwrap_or_default();
        let number = |place: &Value| place.as_u64().and_then(|columns| usize::try_from(columns).ok());
        let columns = [&json["terminal"]["columns"], &json["terminal_width"], &json["columns"]].into_iter().find_map(number);
        Self { model: json["model"]["id"].as_str().map(str::to_owned), columns }
    }

    /// Columns for a line of ours: by the client's JSON, else by `COLUMNS`.
    fn width(&self) -> Option<usize> {
        let variable = || std::env::var("COLUMNS").ok()?.parse().ok();
        self.columns.or_else(variable).map(|columns| columns.saturating_sub(CLIENT_MARGIN))
    }
}

/// Our segment, painted; none while there is nothing to say. `model` is the session's own.
async fn own(look: Look, model: Option<&str>) -> Option<String> {
    let segment = match find(model).await {
        Found::Serving(status) => {
            let cost = (status.serving != *primary(&status)).then(|| cost_today(&status.serving)).flatten();
            segment::of(&status, cost, &clock, look)
        }
        Found::Late => Some(Segment::late(ANSWER_TIME.as_secs(), look)),
        Found::Down => Some(Segment::down(look)),
        Found::Past => Some(Segment::past(look)),
    };
    segment.map(|segment| segment.painted(look))
}

/// The segment for what a gateway says, plain; none while there is nothing to say.
pub(crate) fn plain(status: &Status, unicode: bool) -> Option<String> {
    segment::of(status, None, &clock, Look { paint: Paint(false), unicode, width: None }).map(|segment| segment.text)
}

fn primary(status: &Status) -> &str {
    status.profiles.first().map_or("", |profile| profile.name.as_str())
}

/// What there is at the end of this client's way.
enum Found {
    /// A gateway, and what it says.
    Serving(Box<Status>),
    /// A gateway that does not answer in time.
    Late,
    /// None.
    Down,
    /// The client goes elsewhere.
    Past,
}

async fn find(model: Option<&str>) -> Found {
    let Ok(locations) = commands::locations(None) else { return Found::Down };
    let instance = match Way::of_this_process(&locations) {
        Way::Through(instance) => instance,
        Way::Nowhere => return Found::Down,
        Way::Elsewhere => return Found::Past,
    };
    match gateways::status_within(ANSWER_TIME, &instance, model).await {
        Ok(status) => Found::Serving(Box::new(status)),
        Err(NoAnswer::Late) => Found::Late,
        _ => Found::Down,
    }
}

/// What this profile cost today, where a price is known.
fn cost_today(profile: &str) -> Option<u64> {
    let locations = commands::locations(None).ok()?;
    let cost = Reader::open(&locations.state_dir).ok()??.cost_today(profile).ok()?;
    (cost > 0).then_some(cost)
}

/// `15:40`, by this machine's time zone, so many seconds from now.
fn clock(seconds: u64) -> Option<String> {
    let at = SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs().checked_add(seconds)?;
    hotspare_store::local_clock(at)
}

#[cfg(test)]
mod tests;
