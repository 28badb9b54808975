//! `hotspare reset` and `hotspare switch`: tells every running gateway of this user, and the lasting state, so that the next start knows it
//! too. Never changes the configuration. What else is told so uses the same ways (`profile pause`).

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use hotspare_config::Locations;
use hotspare_core::lasting::{LastingPause, LastingSwitch};
use hotspare_core::policy::LONGEST_TRUST;
use hotspare_gateway::control::{self, AUTO, KeptWindow, ResetAnswer, ResetRequest, SwitchAnswer, SwitchRequest};
use hotspare_gateway::lasting;
use hotspare_store::Store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::{Layers, ResetArgs, SwitchArgs};
use crate::commands;
use crate::error::{CliError, Exit};
use crate::gateways::{self, NoAnswer};
use crate::state::{self, Instance};
use crate::{output, words};

/// The version of the JSON's shape.
pub(crate) const CONTROL_VERSION: u32 = 1;

/// Longest that the lasting state may take to be written.
const WRITE_TIME: Duration = Duration::from_secs(3);

/// What `reset --json` and `switch --json` print.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Outcome<A> {
    /// The shape's version.
    pub(crate) version: u32,
    /// Every gateway that runs.
    pub(crate) gateways: Vec<Told<A>>,
    /// What the next start will know; none: nothing could be, or had to be, kept for it.
    pub(crate) stored: Option<A>,
}

/// What one gateway said.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Told<A> {
    /// `run` or `serve`.
    kind: String,
    /// Where it listens.
    address: String,
    /// What came of it.
    pub(crate) answer: Option<A>,
    /// Why it was not heard.
    error: Option<String>,
}

/// Runs `hotspare reset`.
pub(crate) fn reset(arguments: &ResetArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let request = ResetRequest { profile: arguments.profile.clone() };
    let gateways = tell::<ResetAnswer>(&locations, "/hotspare/reset", &request, arguments.profile.as_deref())?;
    // Also what gateways have learned that are gone by now.
    let store = existing_store(&locations);
    let freed = store.as_ref().map(|store| lasting::forget_benches(store, arguments.profile.as_deref()));
    written(store.as_ref())?;
    let stored = freed.map(|(freed, kept)| ResetAnswer { version: control::CONTROL_VERSION, freed, kept });
    print(arguments.json, &Outcome { version: CONTROL_VERSION, gateways, stored }, reset_text)
}

fn reset_text(outcome: &Outcome<ResetAnswer>) -> String {
    let freed = |answer: &ResetAnswer| {
        let kept: Vec<String> = answer.kept.iter().map(kept_words).collect();
        let freed = match (answer.freed.as_slice(), kept.is_empty()) {
            ([], true) => "nothing was benched".to_owned(),
            ([], false) => String::new(),
            (freed, _) => format!("{} may be asked again", freed.join(", ")),
        };
        let parts: Vec<String> = std::iter::once(freed).filter(|words| !words.is_empty()).chain(kept).collect();
        parts.join("; ")
    };
    let mut text = lines(&outcome.gateways, freed);
    if outcome.gateways.is_empty() {
        let stored = outcome.stored.as_ref().map_or_else(|| "nothing was benched".to_owned(), freed);
        let _ = write!(text, "nothing is running; for the next start: {stored}");
    }
    text + "\nundo: none is needed; a profile that fails again is benched again"
}

/// `work stays blocked, its usage window resets at 15:40 (in 2 h 3 min)`
fn kept_words(kept: &KeptWindow) -> String {
    let resets = kept.resets_in_s.map_or_else(String::new, |seconds| format!(" {}", words::at_or_in(seconds)));
    format!("{} stays blocked, its usage window resets{resets}", kept.profile)
}

/// Runs `hotspare switch`.
pub(crate) fn switch(arguments: &SwitchArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let for_s = arguments.time.map(|time| time.as_secs());
    if for_s.is_some_and(|seconds| seconds == 0 || seconds > LONGEST_TRUST.as_secs()) {
        return Err(CliError::new(Exit::Usage, "`--for` is from 1s to 8d"));
    }
    let request = SwitchRequest { profile: arguments.profile.clone(), for_s };
    let named = Some(arguments.profile.as_str()).filter(|name| *name != AUTO);
    let gateways = tell::<SwitchAnswer>(&locations, "/hotspare/switch", &request, named)?;
    let store = if named.is_some() { Some(open_store(&locations)) } else { existing_store(&locations) };
    if let Some(name) = named.filter(|_| gateways.is_empty() && lasting_pause(store.as_ref(), &arguments.profile)) {
        return Err(CliError::new(Exit::Failed, control::Refused::IsPaused(name.to_owned()).to_string()));
    }
    let before = store.as_ref().and_then(|store| lasting::load::<LastingSwitch>(store).pop());
    if let Some(store) = &store {
        let now_ms = commands::ms_ago(Duration::ZERO);
        let until_ms = for_s.map(|seconds| now_ms.saturating_add(seconds * 1000));
        lasting::keep_switch(store, named.map(|name| LastingSwitch::new(name, until_ms, now_ms)).as_ref());
    }
    written(store.as_ref())?;
    let stored = SwitchAnswer {
        version: control::CONTROL_VERSION,
        profile: named.map(ToOwned::to_owned),
        for_s: for_s.filter(|_| named.is_some()),
        before: before.map(|switch| switch.profile),
        serving: None,
        not_now: None,
    };
    if !arguments.json && !gateways.is_empty() {
        output::talk(match named {
            Some(_) => "  open conversations too, from their next request",
            None => "  open conversations stay with their profile while only its prompt cache is warm and it answers",
        });
    }
    print(arguments.json, &Outcome { version: CONTROL_VERSION, gateways, stored: Some(stored) }, switch_text)
}

/// Whether the next start leaves this profile alone.
fn lasting_pause(store: Option<&Store>, name: &str) -> bool {
    store.is_some_and(|store| lasting::load::<LastingPause>(store).iter().any(|pause| pause.profile == name))
}

fn switch_text(outcome: &Outcome<SwitchAnswer>) -> String {
    let said = |answer: &SwitchAnswer| {
        let before = answer.before.as_ref().map_or_else(|| "whoever the chain says".to_owned(), Clone::clone);
        let switched = match (&answer.profile, answer.for_s) {
            (Some(profile), Some(seconds)) => format!("{profile} is asked first for {} (before: {before})", words::span(seconds)),
            (Some(profile), None) => format!("{profile} is asked first until you take it back (before: {before})"),
            (None, _) => format!("whoever the chain says is asked first (before: {before})"),
        };
        match (&answer.not_now, &answer.serving) {
            (Some(why), Some(serving)) => format!("{switched}\n  but not now: {why}; requests go to {serving} meanwhile"),
            (Some(why), None) => format!("{switched}\n  but not now: {why}; no profile can be tried"),
            (None, Some(serving)) => format!("{switched}; the next request goes to {serving}"),
            (None, None) => switched,
        }
    };
    let mut text = lines(&outcome.gateways, said);
    let answer = outcome.gateways.iter().find_map(|told| told.answer.as_ref()).or(outcome.stored.as_ref());
    if outcome.gateways.is_empty() {
        let _ = write!(text, "nothing is running; for the next start: {}", answer.map(said).unwrap_or_default());
    }
    match answer.map(|answer| (&answer.profile, &answer.before)) {
        Some((Some(_), _)) => text + "\nundo: `hotspare switch auto`",
        Some((None, Some(before))) => format!("{text}\nundo: `hotspare switch {before}`"),
        _ => text,
    }
}

pub(crate) fn lines<A>(gateways: &[Told<A>], said: impl Fn(&A) -> String) -> String {
    let line = |told: &Told<A>| {
        let words = told.answer.as_ref().map_or_else(|| told.error.clone().unwrap_or_default(), &said);
        format!("{} {}: {words}", told.kind, told.address)
    };
    gateways.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn print<A: Serialize>(json: bool, outcome: &Outcome<A>, text: impl Fn(&Outcome<A>) -> String) -> Result<ExitCode, CliError> {
    if json {
        let text = serde_json::to_string(outcome).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&text(outcome))?;
    }
    let heard = outcome.gateways.is_empty() || outcome.gateways.iter().any(|told| told.answer.is_some());
    Ok(if heard { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells every running gateway. An error: none of them hears it, or no configuration knows the profile.
pub(crate) fn tell<A: serde::de::DeserializeOwned>(
    locations: &Locations,
    path: &str,
    request: &impl Serialize,
    profile: Option<&str>,
) -> Result<Vec<Told<A>>, CliError> {
    let instances = state::instances(&locations.state_dir);
    let answers = commands::runtime()?.block_on(gateways::post::<A>(&instances, path, request));
    let alive: Vec<(&Instance, Result<A, NoAnswer>)> =
        instances.iter().zip(answers).filter(|(_, answer)| !matches!(answer, Err(NoAnswer::Gone | NoAnswer::Late))).collect();
    let refused = |answer: &Result<A, NoAnswer>| match answer {
        Err(NoAnswer::Refused(http::StatusCode::NOT_FOUND, words)) => Some((Exit::Usage, words.clone())),
        Err(NoAnswer::Refused(http::StatusCode::CONFLICT, words)) => Some((Exit::Failed, words.clone())),
        _ => None,
    };
    if alive.is_empty() {
        profile.map_or(Ok(()), |profile| check_profile(locations, profile))?;
    } else if let Some(Some((exit, words))) = alive.iter().map(|(_, answer)| refused(answer)).reduce(Option::and) {
        return Err(CliError::new(exit, words));
    }
    Ok(alive.into_iter().map(|(instance, answer)| told(instance, answer)).collect())
}

fn told<A>(instance: &Instance, answer: Result<A, NoAnswer>) -> Told<A> {
    let (kind, address) = (instance.kind.clone(), instance.address.to_string());
    match answer {
        Ok(answer) => Told { kind, address, answer: Some(answer), error: None },
        Err(NoAnswer::Refused(_, words)) => Told { kind, address, answer: None, error: Some(words) },
        Err(NoAnswer::Gone | NoAnswer::Late) => Told { kind, address, answer: None, error: Some("it did not answer".to_owned()) },
    }
}

/// With nobody to ask, the configuration knows whom there is.
pub(crate) fn check_profile(locations: &Locations, profile: &str) -> Result<(), CliError> {
    let config = commands::load_quietly(locations, &commands::context(&Layers::default())?)?;
    let names: Vec<String> = config.profiles.iter().map(|profile| profile.name.to_string()).collect();
    if names.iter().any(|name| name == profile) {
        return Ok(());
    }
    Err(CliError::new(Exit::Usage, control::unknown_profile(profile, &names)))
}

pub(crate) fn open_store(locations: &Locations) -> Store {
    Store::open(&locations.state_dir, hotspare_store::Options::default())
}

/// Nothing is made where there is nothing to take back.
pub(crate) fn existing_store(locations: &Locations) -> Option<Store> {
    locations.state_dir.join(hotspare_store::FILE).exists().then(|| open_store(locations))
}

/// What is to be known at the next start must be on the disk, or it is said that it is not.
pub(crate) fn written(store: Option<&Store>) -> Result<(), CliError> {
    let Some(store) = store.filter(|store| !store.flush(WRITE_TIME)) else { return Ok(()) };
    let words = store.trouble().map_or_else(|| "it took too long".to_owned(), |trouble| trouble.words);
    Err(CliError::new(Exit::Failed, format!("running gateways know it, but it cannot be kept for the next start: {words}")))
}
