//! `hotspare hook session-start`: what Claude Code runs when a session begins. The service answers, or is revived; where that cannot be,
//! our values go out of the settings and the session goes on without us. Never fails, never waits for a person.
//!
//! Measured on Claude Code 2.1.330: the first request waits for this hook, so a service that is revived here loses nothing. The settings
//! are read anew about a second after they were changed, and never in the middle of a turn; a variable that goes has no effect on a session
//! that runs, one that becomes empty has. `continue: false` and exit 2 stop nothing here.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hotspare_config::Locations;
use serde_json::json;

use crate::cli::Layers;
use crate::commands;
use crate::commands::service::{self, Started};
use crate::error::CliError;
use crate::output;
use crate::wiring::{self, Led, receipt};

/// The hook's time. The client shows nothing until it ends.
const HOOK_TIME: Duration = Duration::from_millis(250);

/// Runs `hotspare hook session-start`.
pub(crate) fn session_start() -> Result<ExitCode, CliError> {
    let deadline = Instant::now() + HOOK_TIME;
    let locations = commands::locations(None)?;
    if let Some(message) = revived(&locations, deadline) {
        output::data(&json!({ "systemMessage": message }).to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the user is told; nothing where all is well.
fn revived(locations: &Locations, deadline: Instant) -> Option<String> {
    let address = wiring::wired_address(&receipt::look(&locations.state_dir).ok()?, locations)?;
    let started = match service::start(locations, address, deadline) {
        Ok(started) => started,
        Err(error) => return Some(leave(locations, address, &error)),
    };
    let revived = match started {
        Started::Already => None,
        Started::Now(_) => Some("hotspare was not running and has been started".to_owned()),
        Started::Soon => Some(format!("hotspare was not running and is starting on {address}; requests wait for it")),
    };
    let is_valid = commands::context(&Layers::default()).is_ok_and(|context| hotspare_config::load(locations, &context).is_ok());
    if is_valid {
        return revived;
    }
    let broken = "hotspare's configuration cannot be read, so the last good one is in force, or none: hotspare config validate";
    Some(revived.map_or_else(|| broken.to_owned(), |revived| format!("{revived}; {broken}")))
}

/// Takes our values out, so that this session and the next ones work without us.
fn leave(locations: &Locations, address: SocketAddr, cause: &CliError) -> String {
    let cause = cause.message();
    let was_full = receipt::look(&locations.state_dir).is_ok_and(|receipt| matches!(wiring::led(&receipt, locations), Some(Led::Full(_))));
    let again = if was_full { "hotspare install --mode full" } else { "hotspare install" };
    let left = receipt::open(&locations.state_dir).map(|mut receipt| wiring::retire(&mut receipt, locations));
    match left {
        Ok(results) if results.iter().all(Result::is_ok) => {
            format!("hotspare cannot run ({cause}), so Claude Code goes on without it. When that is mended: {again}")
        }
        _ => format!("hotspare cannot run ({cause}), and Claude Code's settings still point at {address}. Run: hotspare uninstall"),
    }
}
