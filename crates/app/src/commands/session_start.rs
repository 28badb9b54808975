//! `hotspare hook session-start` and `hotspare hook prompt`: what Claude Code runs when a session begins and before each prompt. The service
//! answers, or is revived; where that cannot be, our values go out of the settings and the session goes on without us. Never fails, never
//! waits for a person.
//!
//! Measured on Claude Code 2.1.330: the first request waits for both hooks, so a service that is revived here loses nothing. The settings are
//! read anew about a second after they were changed, and never while an answer comes; a variable that goes has no effect on a session that
//! runs, one that becomes empty has. `continue: false` and exit 2 stop nothing at a session's start. So that hook says the cause at once, and
//! the prompt's hook keeps the first request back until the settings have been read: no login goes to whoever has our port.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use hotspare_config::Locations;
use serde_json::json;

use crate::background;
use crate::cli::Layers;
use crate::commands;
use crate::commands::service::{self, Started};
use crate::commands::session_environment;
use crate::commands::session_folder;
use crate::error::CliError;
use crate::output;
use crate::state;
use crate::wiring::{self, Led, Part, receipt};

/// The hook's time for the service. The client shows nothing until it ends.
const HOOK_TIME: Duration = Duration::from_millis(200);

/// How long a prompt is kept back. A touched file begins the client's own wait anew: 1.3 s were too short once in two, 1.6 s enough (measured,
/// 2.1.330).
const READ_TIME: Duration = Duration::from_millis(2500);

/// How long an emptied address stays: a busy client reads it later than [`READ_TIME`], and it harms nobody.
const EMPTY_TIME: Duration = Duration::from_secs(5);

/// How often a sweep looks again where sessions go on emptying it. What then stays is found by `uninstall`.
const SWEEPS: usize = 10;

/// Runs `hotspare hook session-start`.
pub(crate) fn session_start() -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let Some(address) = wired_address(&locations) else { return Ok(ExitCode::SUCCESS) };
    session_environment::give_back(&locations);
    let message = match look_after(&locations, address) {
        Outcome::Serves(message) => joined(also_about_configuration(message, &locations), session_folder::enter(&locations, Some(address))),
        Outcome::Left(message) => Some(message),
    };
    tell(message)?;
    Ok(ExitCode::SUCCESS)
}

fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one}\n{other}")),
        (one, other) => one.or(other),
    }
}

/// Runs `hotspare hook prompt`.
pub(crate) fn prompt() -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let address = wired_address(&locations);
    let outcome = address.map(|address| look_after(&locations, address));
    if matches!(outcome, Some(Outcome::Serves(_))) {
        session_folder::enter(&locations, address);
    } else {
        // A session that still has this hook has not read yet that we are out.
        have_read(&locations.claude_settings);
    }
    tell(match outcome {
        Some(Outcome::Serves(message)) => message,
        Some(Outcome::Left(message)) => Some(message),
        None => None,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `hotspare hook sweep`.
pub(crate) fn sweep() -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let mut wait = EMPTY_TIME;
    for _ in 0..SWEEPS {
        commands::rest(wait);
        let mut receipt = receipt::open(&locations.state_dir)?;
        // Another session may have emptied it just now, and must have the time to read that.
        wait = EMPTY_TIME.saturating_sub(age(&locations.claude_settings));
        if wait.is_zero() {
            wiring::sweep_emptied(&mut receipt, &locations);
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How long ago a file was changed.
fn age(file: &Path) -> Duration {
    let changed = file.metadata().and_then(|meta| meta.modified()).ok();
    changed.and_then(|changed| SystemTime::now().duration_since(changed).ok()).unwrap_or(Duration::MAX)
}

/// How it stands with the service, and what the user is told.
enum Outcome {
    /// It serves, or will in a moment.
    Serves(Option<String>),
    /// It cannot.
    Left(String),
}

fn tell(message: Option<String>) -> Result<(), CliError> {
    if let Some(message) = message {
        output::data(&json!({ "systemMessage": message }).to_string())?;
    }
    Ok(())
}

fn wired_address(locations: &Locations) -> Option<SocketAddr> {
    wiring::wired_address(&receipt::look(&locations.state_dir).ok()?, locations)
}

fn look_after(locations: &Locations, address: SocketAddr) -> Outcome {
    match service::start(locations, address, Instant::now() + HOOK_TIME) {
        Ok(Started::Already) => Outcome::Serves(None),
        Ok(Started::Now(_)) => Outcome::Serves(Some("hotspare was not running and has been started".to_owned())),
        Ok(Started::Soon) => Outcome::Serves(Some(format!("hotspare does not answer yet on {address}; requests wait for it"))),
        Err(error) => Outcome::Left(leave(locations, address, &error)),
    }
}

/// Once a session, a service that serves with another configuration than the one on the disk is told.
fn also_about_configuration(message: Option<String>, locations: &Locations) -> Option<String> {
    let is_valid = commands::context(&Layers::default()).is_ok_and(|context| hotspare_config::load(locations, &context).is_ok());
    if is_valid {
        return message;
    }
    let broken = "hotspare's configuration cannot be read, so the last good one is in force, or none: hotspare config validate";
    Some(message.map_or_else(|| broken.to_owned(), |message| format!("{message}; {broken}")))
}

/// Takes our values out, so that this session and the next ones work without us.
fn leave(locations: &Locations, address: SocketAddr, cause: &CliError) -> String {
    let cause = cause.message();
    let was_full = receipt::look(&locations.state_dir).is_ok_and(|receipt| matches!(wiring::led(&receipt, locations), Some(Led::Full(_))));
    let again = if was_full { "hotspare install --mode full" } else { "hotspare install" };
    let taken_out = take_out(locations);
    if was_full && taken_out.is_ok() {
        // The client shows a proxy its credentials before this hook comes (measured, 2.1.330), so whoever has our port has the token. One that
        // stays is no worse than before.
        let _ = state::forget_token(&locations.state_dir);
    }
    match taken_out {
        Ok(()) => {
            let background = background::led_to(address, &locations.claude_settings)
                .map(|_| format!(" Sessions in the background stay pointed at it until `{}`.", background::STOP));
            let background = background.unwrap_or_default();
            format!("hotspare cannot run ({cause}), so Claude Code goes on without it.{background} When that is mended: {again}")
        }
        Err(_) => format!("hotspare cannot run ({cause}), and Claude Code's settings still point at {address}. Run: hotspare uninstall"),
    }
}

fn take_out(locations: &Locations) -> Result<(), CliError> {
    let mut receipt = receipt::open(&locations.state_dir)?;
    let Some(emptied) = wiring::empty_address(&mut receipt, locations) else {
        return wiring::unwire(&mut receipt, &[Part::Claude], wiring::Mode::Write).into_iter().try_for_each(|result| match result {
            Ok(_) => Ok(()),
            Err((_, error)) => Err(error.into()),
        });
    };
    emptied?;
    // Where it cannot be started, an empty variable stays, which `uninstall` finds.
    let _ = Command::new(wiring::program()?)
        .args(["hook", "sweep"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // The client ends its hook's group where it thinks that a hook takes too long.
        .process_group(0)
        .spawn();
    Ok(())
}

/// Has the client read its settings anew, and gives it the time. It does so on its own, but one that had not begun to watch them when they
/// were changed would never.
fn have_read(settings: &Path) {
    // Only the time of the file is touched. Where even that cannot be, the client has still noticed the change itself.
    let _ = File::options().append(true).open(settings).and_then(|file| file.set_modified(SystemTime::now()));
    commands::rest(READ_TIME);
}
