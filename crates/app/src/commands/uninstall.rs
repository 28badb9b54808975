//! `hotspare uninstall`: takes out what is ours and nothing else. Needs neither a running service nor a configuration that can be read, and
//! never removes a value that somebody has changed since.

mod purge;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use hotspare_config::Locations;

use crate::background;
use crate::cli::Uninstall;
use crate::commands;
use crate::commands::install::{Report, tilde};
use crate::commands::service;
use crate::error::{CliError, Exit};
use crate::output;
use crate::wiring::receipt;
use crate::wiring::shell::Shell;
use crate::wiring::{self, Mode, Outcome, Part, WiringError, vscode};
use crate::{processes, state};

/// Everything, in the order in which it goes: nobody is pointed at a service that is gone.
const ALL: [Part; 4] = [Part::Claude, Part::Statusline, Part::Shell, Part::Service];

/// Runs `hotspare uninstall`.
pub(crate) fn uninstall(arguments: &Uninstall) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let parts = if arguments.parts.is_empty() { ALL.to_vec() } else { arguments.parts.clone() };
    if arguments.check {
        return check(&locations, &parts, arguments.json);
    }
    let mode = if arguments.dry_run { Mode::DryRun } else { Mode::Write };
    // Where nothing of ours ever was, nothing is made to find that out.
    let mut receipt = if mode == Mode::Write && locations.state_dir.exists() {
        receipt::open(&locations.state_dir)?
    } else {
        receipt::look(&locations.state_dir)?
    };
    wiring::assume(&mut receipt, &locations);
    let address = service::known_address(&receipt, &locations);
    let mut results = Vec::new();
    let mut notes = Vec::new();
    if mode == Mode::Write && parts.contains(&Part::Claude) && wiring::led(&receipt, &locations).is_some() {
        let sessions = processes::sessions(&locations.claude_settings);
        if let Some(words) = processes::about_sessions(&sessions) {
            output::talk(&format!("hotspare: {words}"));
        }
    }
    let files: Vec<Part> = parts.iter().copied().filter(|part| *part != Part::Service).collect();
    if mode == Mode::Write && files.contains(&Part::Claude) && service::is_running(&locations, address) {
        // Sessions that run shall follow before the service goes.
        results.extend(wiring::retire(&mut receipt, &locations));
    }
    results.extend(wiring::unwire(&mut receipt, &files, mode));
    if parts.contains(&Part::Service) {
        if mode == Mode::Write {
            match service::disable(&locations, address) {
                Ok(true) => notes.push("the service is stopped".to_owned()),
                Ok(false) => {}
                Err(error) => notes.push(error.to_string()),
            }
        }
        let units = wiring::unwire(&mut receipt, &[Part::Service], mode);
        if mode == Mode::Write && !units.is_empty() {
            service::forget();
        }
        results.extend(units);
    }
    if mode == Mode::Write {
        wiring::forget_outward(&receipt, &locations)?;
        for path in residue_beside(&locations) {
            let _ = fs::remove_file(path);
        }
    }
    if mode == Mode::Write && files.contains(&Part::Claude) {
        notes.extend(background::led_to(address, &locations.claude_settings).map(|process| {
            format!(
                "Claude Code's background sessions (process {process}) were started with hotspare's address and keep it: `{}`",
                background::STOP
            )
        }));
    }
    let (outcomes, failed) = parted(results);
    drop(receipt);
    let mut is_whole = failed.is_empty();
    if arguments.purge && is_whole {
        match purge::purge(&locations) {
            Ok(told) => notes.extend(told),
            Err(error) => {
                is_whole = false;
                notes.push(error.message().to_owned());
            }
        }
    } else {
        notes.push(format!("your configuration and what was recorded stay: {}", kept(&locations)));
    }
    let report = Report::of(&locations, &outcomes, notes);
    if arguments.json {
        output::data(&serde_json::to_string(&report).map_err(io::Error::from)?)?;
    } else {
        output::data(&report.drawn(mode == Mode::DryRun, "nothing of hotspare was wired in"))?;
    }
    for error in failed {
        output::talk(&CliError::from(error).to_string());
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failed as u8) })
}

/// A file that was changed twice is told once: what went of it in all, and what is in it in the end.
fn together(outcomes: &mut Vec<Outcome>, later: Outcome) {
    let Some(earlier) = outcomes.iter_mut().find(|earlier| earlier.path == later.path) else {
        outcomes.push(later);
        return;
    };
    earlier.undone.extend(later.undone);
    (earlier.entries, earlier.left) = (later.entries, later.left);
    earlier.changed |= later.changed;
}

fn parted(results: Vec<Result<Outcome, (PathBuf, WiringError)>>) -> (Vec<Outcome>, Vec<WiringError>) {
    let (mut outcomes, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(outcome) => together(&mut outcomes, outcome),
            Err((_, error)) => failed.push(error),
        }
    }
    (outcomes, failed)
}

fn kept(locations: &Locations) -> String {
    let folder = locations.config_file.parent().unwrap_or(&locations.config_file);
    format!("{} and {}", tilde(locations, folder), tilde(locations, &locations.state_dir))
}

/// Whether nothing is left of these parts.
fn check(locations: &Locations, parts: &[Part], json: bool) -> Result<ExitCode, CliError> {
    let mut receipt = receipt::look(&locations.state_dir)?;
    wiring::assume(&mut receipt, locations);
    let (outcomes, failed) = parted(wiring::unwire(&mut receipt, parts, Mode::DryRun));
    let mut notes: Vec<String> = failed.into_iter().map(|error| error.to_string()).collect();
    notes.extend(residue_beside(locations).iter().map(|path| format!("{} is left", tilde(locations, path))));
    if parts.contains(&Part::Service) {
        notes.extend(service::leftovers(locations).iter().map(|path| format!("{} is left", tilde(locations, path))));
        notes.extend(processes_left(locations));
    }
    let is_clean = outcomes.is_empty() && notes.is_empty();
    let report = Report::of(locations, &outcomes, notes);
    if json {
        output::data(&serde_json::to_string(&report).map_err(io::Error::from)?)?;
    } else if is_clean {
        output::data("nothing of hotspare is wired in: no residue")?;
    } else {
        let mut lines: Vec<String> = outcomes.iter().flat_map(|outcome| residue(locations, outcome)).collect();
        lines.extend(report.notes.iter().cloned());
        output::data(&lines.join("\n"))?;
    }
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failed as u8) })
}

/// Every process of ours that runs, wherever it listens, in words.
fn processes_left(locations: &Locations) -> Vec<String> {
    let instances = state::instances(&locations.state_dir);
    let supervisors = state::supervisors(&locations.state_dir);
    let mut lines: Vec<String> = instances
        .iter()
        .map(|instance| {
            let (pid, at) = (instance.pid, instance.address);
            match instance.kind.as_str() {
                "service" => format!("the service runs on http://{at} as process {pid}; stop it: `hotspare service stop`"),
                kind => format!("`hotspare {kind}` runs on http://{at} as process {pid}; end it where it was started"),
            }
        })
        .collect();
    let idle = supervisors.iter().filter(|supervisor| !instances.iter().any(|instance| instance.address == supervisor.address));
    lines.extend(idle.map(|supervisor| {
        format!("process {} holds http://{} for the service; stop it: `hotspare service stop`", supervisor.pid, supervisor.address)
    }));
    lines.extend(
        processes::unrecorded(locations).iter().map(|pid| format!("process {pid} is a hotspare that nothing records: `kill {pid}`")),
    );
    lines
}

fn residue(locations: &Locations, outcome: &Outcome) -> Vec<String> {
    let path = tilde(locations, &outcome.path);
    let entries = outcome.undone.iter().chain(&outcome.left);
    let lines: Vec<String> = entries.map(|entry| format!("{path}: {}", entry.place.words())).collect();
    // A crash came between the receipt and the file.
    if lines.is_empty() { vec![format!("{path}: only the receipt still knows it")] } else { lines }
}

/// Texts that a crash has left beside a file.
fn residue_beside(locations: &Locations) -> Vec<PathBuf> {
    let mut files = vec![locations.claude_settings.clone()];
    files.extend(vscode::settings_files(&locations.home));
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Powershell];
    files.extend(shells.map(|shell| shell.start_file(&locations.home)));
    let mut found: Vec<PathBuf> = files.iter().flat_map(|file| wiring::leftovers(file)).collect();
    found.sort();
    found.dedup();
    found
}
