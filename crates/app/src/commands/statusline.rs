//! `hotspare statusline`: one segment for Claude Code's status line, from this machine alone. Never fails, never asks a provider, and says
//! nothing while the primary serves and is well.

mod segment;
mod wrap;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use hotspare_gateway::Status;
use hotspare_store::Reader;

use crate::cli::StatuslineArgs;
use crate::commands;
use crate::gateways::{self, NoAnswer};
use crate::output::{self, Look, Paint};
use crate::way::Way;
use segment::Segment;

/// Longest that a gateway may take to answer. It takes a millisecond; this is for one that hangs, or a machine that is busy.
const ANSWER_TIME: Duration = Duration::from_millis(100);

/// Runs `hotspare statusline`. Whatever happens, the exit code is 0: with another one the client shows no status line at all.
pub(crate) fn statusline(arguments: &StatuslineArgs) -> ExitCode {
    let look = Look::of_status_line();
    let Ok(runtime) = commands::runtime() else { return ExitCode::SUCCESS };
    let line = runtime.block_on(async {
        match &arguments.wrap {
            None => own(look).await.unwrap_or_default(),
            Some(command) => {
                let (own, theirs) = tokio::join!(own(look), wrap::output(command));
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

/// Our segment, painted; none while there is nothing to say.
async fn own(look: Look) -> Option<String> {
    let segment = match find().await {
        Found::Serving(status) => {
            let cost = (status.serving != *primary(&status)).then(|| cost_today(&status.serving)).flatten();
            segment::of(&status, cost, &clock, look)
        }
        Found::Silent => Some(Segment::silent(look)),
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
    Silent,
    /// None.
    Down,
    /// The client goes elsewhere.
    Past,
}

async fn find() -> Found {
    let Ok(locations) = commands::locations(None) else { return Found::Down };
    let instance = match Way::of_this_process(&locations) {
        Way::Through(instance) => instance,
        Way::Nowhere => return Found::Down,
        Way::Elsewhere => return Found::Past,
    };
    match gateways::get_within::<Status>(ANSWER_TIME, std::slice::from_ref(&instance), "/hotspare/status").await.pop() {
        Some(Ok(status)) => Found::Serving(Box::new(status)),
        Some(Err(NoAnswer::Late)) => Found::Silent,
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
