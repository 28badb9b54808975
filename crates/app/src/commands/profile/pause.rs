//! `hotspare profile pause` and `resume`: the user's word that a profile is to be left alone, told to every running gateway and kept for the
//! next start. Never leaves a chain with nobody to ask without saying so.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use hotspare_config::{Config, Locations};
use hotspare_core::ProfileId;
use hotspare_core::lasting::LastingPause;
use hotspare_core::policy::LONGEST_TRUST;
use hotspare_gateway::control::{self, CONTROL_VERSION, PauseAnswer, PauseRequest, ResumeAnswer, ResumeRequest};
use hotspare_gateway::lasting;
use hotspare_store::Store;

use crate::cli::Layers;
use crate::cli::profile::{PauseArgs, ResumeArgs};
use crate::commands;
use crate::commands::control::{self as told, Outcome};
use crate::error::{CliError, Exit};
use crate::words;

/// Runs `hotspare profile pause`.
pub(super) fn pause(arguments: &PauseArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let for_s = arguments.time.map(|time| time.as_secs());
    if for_s.is_some_and(|seconds| seconds == 0 || seconds > LONGEST_TRUST.as_secs()) {
        return Err(CliError::new(Exit::Usage, "`--for` is from 1s to 8d").hint("without `--for` it holds until `hotspare profile resume`"));
    }
    let name = &arguments.name;
    let request = PauseRequest { profile: name.clone(), for_s, even_last: arguments.even_last };
    let gateways = told::tell::<PauseAnswer>(&locations, "/hotspare/pause", &request, Some(name))?;
    let store = told::open_store(&locations);
    let mut warning = None;
    if gateways.is_empty() {
        warning = with_none_running(&locations, &store, name, arguments.even_last)?;
    }
    let until_ms = for_s.map(|seconds| commands::ms_ago(Duration::ZERO).saturating_add(seconds * 1000));
    lasting::keep_pause(&store, &LastingPause { profile: name.clone(), until_ms, even_last: arguments.even_last });
    told::written(Some(&store))?;
    let stored = PauseAnswer { version: CONTROL_VERSION, profile: name.clone(), for_s, warning };
    told::print(arguments.json, &Outcome { version: told::CONTROL_VERSION, gateways, stored: Some(stored) }, pause_text)
}

/// Without a gateway to judge it, the configuration and the kept pauses do. Returns what the user must know.
fn with_none_running(locations: &Locations, store: &Store, name: &str, even_last: bool) -> Result<Option<String>, CliError> {
    let config = commands::load_quietly(locations, &commands::context(&Layers::default())?)?;
    let paused: Vec<String> = lasting::load::<LastingPause>(store).into_iter().map(|pause| pause.profile).collect();
    let is_paused =
        |id: ProfileId| profile_name(&config, id).is_some_and(|known| known == name || paused.iter().any(|other| other == known));
    let chains = config.rules.iter().map(|rule| &rule.chain);
    let has = |id: ProfileId| profile_name(&config, id) == Some(name);
    let mut last = chains.filter(|chain| chain.entries.iter().any(|entry| has(entry.profile)));
    match last.find(|chain| chain.entries.iter().all(|entry| is_paused(entry.profile))) {
        None => Ok(None),
        Some(chain) if even_last => {
            Ok(Some(format!("nobody is left to ask in chain `{}`: requests fail until somebody is resumed", chain.name)))
        }
        Some(chain) => Err(CliError::new(Exit::Failed, control::last_one(name, &chain.name))),
    }
}

fn profile_name(config: &Config, id: ProfileId) -> Option<&str> {
    config.profiles.get(usize::from(id.0)).map(|profile| &*profile.name)
}

fn pause_text(outcome: &Outcome<PauseAnswer>) -> String {
    let said = |answer: &PauseAnswer| {
        let time = answer.for_s.map_or_else(|| "until you resume it".to_owned(), |seconds| format!("for {}", words::span(seconds)));
        let warning = answer.warning.as_ref().map(|warning| format!("\n  warning: {warning}")).unwrap_or_default();
        format!("{} is not asked {time}{warning}", answer.profile)
    };
    let mut text = told::lines(&outcome.gateways, said);
    if let Some(stored) = outcome.stored.as_ref().filter(|_| outcome.gateways.is_empty()) {
        let _ = write!(text, "nothing is running; for the next start: {}", said(stored));
    }
    let name = outcome.stored.as_ref().map_or("", |stored| &stored.profile);
    format!("{text}\nundo: `hotspare profile resume {name}`")
}

/// Runs `hotspare profile resume`.
pub(super) fn resume(arguments: &ResumeArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let name = arguments.name.as_deref();
    let request = ResumeRequest { profile: arguments.name.clone() };
    // A pause of a profile that is gone from the configuration can be taken back too.
    let store = told::existing_store(&locations);
    let resumed = store.as_ref().map(|store| lasting::forget_pauses(store, name));
    let known = name.filter(|_| resumed.as_ref().is_none_or(Vec::is_empty));
    let gateways = match told::tell::<ResumeAnswer>(&locations, "/hotspare/resume", &request, known) {
        Err(error) if known.is_some() => return Err(error),
        outcome => outcome.unwrap_or_default(),
    };
    told::written(store.as_ref())?;
    let stored = resumed.map(|resumed| ResumeAnswer { version: CONTROL_VERSION, resumed });
    told::print(arguments.json, &Outcome { version: told::CONTROL_VERSION, gateways, stored }, resume_text)
}

fn resume_text(outcome: &Outcome<ResumeAnswer>) -> String {
    let said = |answer: &ResumeAnswer| match answer.resumed.as_slice() {
        [] => "nobody was paused".to_owned(),
        several => format!("{} may be asked again", several.join(", ")),
    };
    let mut text = told::lines(&outcome.gateways, said);
    let stored = outcome.stored.as_ref();
    if outcome.gateways.is_empty() {
        let _ = write!(text, "nothing is running; for the next start: {}", stored.map_or_else(|| "nobody was paused".to_owned(), said));
    }
    let resumed = outcome.gateways.iter().filter_map(|told| told.answer.as_ref()).chain(stored).find(|answer| !answer.resumed.is_empty());
    match resumed.map(|answer| answer.resumed.as_slice()) {
        Some([one]) => format!("{text}\nundo: `hotspare profile pause {one}`"),
        _ => text,
    }
}
