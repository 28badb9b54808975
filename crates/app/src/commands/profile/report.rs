//! Gathers what is known of each profile: its configuration and where it stands, whether its credential is there, and what running gateways
//! and the lasting state say of it. Never holds a credential, and runs no program to see one.

use std::time::{Duration, SystemTime};

use hotspare_config::{Auth, AuthHeader, AuthSource, Config, Inspection, KeyPath, Locations, Origin, Profile};
use hotspare_core::lasting::{LastingBench, LastingBreaker, LastingPause};
use hotspare_core::{Grip, ProfileId};
use hotspare_gateway::{Snapshot, Status, lasting};
use hotspare_upstream::Presence;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands;
use crate::error::CliError;
use crate::gateways;
use crate::state;

/// The version of the JSON's shape.
const PROFILES_VERSION: u32 = 1;

/// What `profile list --json` prints; `profile show --json` prints the same with one profile.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProfileList {
    /// The shape's version.
    pub(super) version: u32,
    /// In the order of the default chain, then those that it does not ask.
    pub(super) profiles: Vec<ProfileReport>,
}

/// One profile.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProfileReport {
    /// Its name.
    pub(super) name: String,
    /// What the first running gateway says (see `status --json`); with none running what the next start will know: `paused`, `blocked`,
    /// `open`, `cooling`, else `no_credential` (in the process that serves, where one runs), `unused` (no chain asks it) or `ready`.
    pub(super) state: String,
    /// Seconds until it may be asked again, where that is known.
    pub(super) back_in_s: Option<u64>,
    /// `anthropic`, `anthropic_compatible` or `openrouter`.
    pub(super) platform: String,
    /// Which provider's endpoint it is, where that is known.
    pub(super) preset: Option<String>,
    /// Where its requests go.
    pub(super) address: String,
    /// Its credential.
    pub(super) auth: AuthReport,
    /// Its own model map, in the order in which it is looked through.
    pub(super) models: Vec<ModelReport>,
    /// The chains of this folder that ask it.
    pub(super) chains: Vec<ChainPlace>,
    /// Where it is defined; none: it is built in.
    pub(super) origin: Option<OriginReport>,
    /// Every gateway that runs and has it in its default chain.
    pub(super) gateways: Vec<AtGateway>,
}

/// Where a profile's credential comes from, and whether it is there. Never the credential.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuthReport {
    /// `client`, `none`, `env`, `file`, `command`, `keychain`, `claude_config_dir` or `value`.
    pub(super) kind: String,
    /// The variable, file, folder, name or program that it comes from.
    pub(super) from: Option<String>,
    /// `x-api-key` or `bearer`; none: by the credential's form.
    pub(super) header: Option<String>,
    /// Whether it can be read; none: the client brings it, or only a program could tell, which was not run.
    pub(super) there: Option<bool>,
    /// Why it cannot be had.
    pub(super) problem: Option<String>,
    /// Seconds until the login runs out, 0 when it has, where that is known.
    pub(super) ends_in_s: Option<u64>,
    /// Whether the login has run out and is renewed when it is needed.
    pub(super) renewable: bool,
    /// `service`, `serve` or `run`: the process that was asked whether it can be read. `None` if nothing runs, and this shell looked.
    pub(super) seen_by: Option<String>,
}

/// One line of a model map.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelReport {
    /// A model's name, or a pattern.
    pub(super) pattern: String,
    /// What the profile calls it; none: it refuses it.
    pub(super) to: Option<String>,
}

/// A chain that asks a profile.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChainPlace {
    /// The chain's name.
    pub(super) chain: String,
    /// From 1.
    pub(super) place: usize,
    /// The weaker or other model that the chain asks it for, where it names one.
    pub(super) model: Option<String>,
}

/// A place in a text.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OriginReport {
    /// The text's layer.
    pub(super) layer: String,
    /// A file, or what stands for one.
    pub(super) file: String,
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
}

/// What one running gateway says of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AtGateway {
    /// `run` or `serve`.
    pub(super) kind: String,
    /// Where it listens.
    pub(super) gateway: String,
    /// See `status --json`.
    pub(super) state: String,
    /// Seconds until it may be asked again.
    pub(super) back_in_s: Option<u64>,
    /// Its last failure, in words.
    pub(super) last_failure: Option<String>,
    /// Seconds since its last good answer.
    pub(super) last_success_ago_s: Option<u64>,
}

/// Everything that is known of every profile.
pub(super) fn gather(locations: &Locations, inspection: &Inspection) -> Result<ProfileList, CliError> {
    let config = &inspection.config;
    let snapshot = Snapshot::compile_with(config, &commands::renewals_here());
    let instances = state::instances(&locations.state_dir);
    // A ledger that cannot be read is no reason to show nothing.
    let reader = commands::ledger(locations).ok().flatten();
    let kept = Kept {
        pauses: reader.as_ref().map(lasting::read::<LastingPause>).unwrap_or_default(),
        benches: reader.as_ref().map(lasting::read::<LastingBench>).unwrap_or_default(),
        breakers: reader.as_ref().map(lasting::read::<LastingBreaker>).unwrap_or_default(),
    };
    commands::runtime()?.block_on(async {
        let answers = gateways::get::<Status>(&instances, "/hotspare/status").await;
        let running: Vec<(String, Status)> =
            instances.into_iter().zip(answers).filter_map(|(instance, answer)| Some((instance.kind, answer.ok()?))).collect();
        let mut profiles = Vec::with_capacity(config.profiles.len());
        for place in order(config) {
            let profile = &config.profiles[place];
            let mut report = ProfileReport {
                name: profile.name.to_string(),
                state: String::new(),
                back_in_s: None,
                platform: profile.platform.word().to_owned(),
                preset: profile.platform.preset_word().map(str::to_owned),
                address: profile.base_url.to_string(),
                auth: auth(profile, &snapshot).await,
                models: models(profile),
                chains: chains(config, place),
                origin: origin(inspection, &profile.name),
                gateways: at_gateways(&running, &profile.name),
            };
            take_service_view(&mut report.auth, &running, &report.name);
            (report.state, report.back_in_s) = kept.state(&report);
            profiles.push(report);
        }
        Ok(ProfileList { version: PROFILES_VERSION, profiles })
    })
}

/// What the next start will know.
struct Kept {
    pauses: Vec<LastingPause>,
    benches: Vec<LastingBench>,
    breakers: Vec<LastingBreaker>,
}

impl Kept {
    fn state(&self, report: &ProfileReport) -> (String, Option<u64>) {
        if let Some(at) = report.gateways.first() {
            return (at.state.clone(), at.back_in_s);
        }
        let name = &report.name;
        let left = |until_ms: u64| until_ms.saturating_sub(commands::ms_ago(Duration::ZERO)).div_ceil(1000);
        if let Some(pause) = self.pauses.iter().find(|pause| pause.profile == *name) {
            return ("paused".to_owned(), pause.until_ms.map(left));
        }
        if let Some(bench) =
            self.benches.iter().filter(|bench| bench.profile == *name && bench.family.is_none()).max_by_key(|bench| bench.grip)
        {
            let word = if bench.grip >= Grip::Hard { "blocked" } else { "cooling" };
            return (word.to_owned(), Some(left(bench.until_ms)));
        }
        if let Some(breaker) = self.breakers.iter().find(|breaker| breaker.profile == *name && breaker.family.is_none()) {
            return ("open".to_owned(), Some(left(breaker.until_ms)));
        }
        let word = match report.auth.there {
            Some(false) => "no_credential",
            _ if report.chains.is_empty() => "unused",
            _ => "ready",
        };
        (word.to_owned(), None)
    }
}

/// The default chain's profiles first, each once.
fn order(config: &Config) -> Vec<usize> {
    let chain = config.rules.last().map(|rule| rule.chain.entries.as_slice()).unwrap_or_default();
    let first = chain.iter().map(|entry| usize::from(entry.profile.0));
    let mut places: Vec<usize> = Vec::with_capacity(config.profiles.len());
    for place in first.chain(0..config.profiles.len()) {
        if place < config.profiles.len() && !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn models(profile: &Profile) -> Vec<ModelReport> {
    let report = |(pattern, to): (&str, Option<&str>)| ModelReport { pattern: pattern.to_owned(), to: to.map(str::to_owned) };
    profile.models.entries().map(report).collect()
}

fn chains(config: &Config, place: usize) -> Vec<ChainPlace> {
    let here = |id: ProfileId| usize::from(id.0) == place;
    let places = |chain: &hotspare_core::Chain| -> Vec<ChainPlace> {
        let entries = chain.entries.iter().enumerate().filter(|(_, entry)| here(entry.profile));
        entries
            .map(|(at, entry)| ChainPlace {
                chain: chain.name.to_string(),
                place: at + 1,
                model: entry.model.as_ref().map(ToString::to_string),
            })
            .collect()
    };
    config.rules.iter().flat_map(|rule| places(&rule.chain)).collect()
}

fn origin(inspection: &Inspection, name: &str) -> Option<OriginReport> {
    let path = KeyPath::parse(&format!("profiles.\"{name}\""))?;
    let Origin::Text { layer, place, line, column } = inspection.place(&path)? else { return None };
    Some(OriginReport { layer: layer.word().to_owned(), file: place.display().to_string(), line, column })
}

async fn auth(profile: &Profile, snapshot: &Snapshot) -> AuthReport {
    let (kind, from) = source(&profile.auth);
    let header = match profile.auth.header {
        AuthHeader::ApiKey => Some("x-api-key"),
        AuthHeader::Bearer => Some("bearer"),
        AuthHeader::Auto => None,
    };
    let mut report = AuthReport {
        kind: kind.to_owned(),
        from,
        header: header.filter(|_| !matches!(kind, "client" | "none")).map(str::to_owned),
        there: None,
        problem: None,
        ends_in_s: None,
        renewable: false,
        seen_by: None,
    };
    let Some(target) = snapshot.id(&profile.name).and_then(|id| snapshot.target(id)) else { return report };
    match target.credential.presence().await {
        Presence::There => report.there = Some(true),
        Presence::Renewable => (report.there, report.renewable) = (Some(true), true),
        Presence::Missing(error) => (report.there, report.problem) = (Some(false), Some(error.to_string())),
        Presence::NotOurs | Presence::Unasked => {}
    }
    report.ends_in_s = target.credential.expires().map(|end| end.duration_since(SystemTime::now()).unwrap_or_default().as_secs());
    report
}

/// What the first gateway that serves the profile says of its credential goes before what this shell sees: it is what a request meets.
fn take_service_view(auth: &mut AuthReport, running: &[(String, Status)], name: &str) {
    let of_profile = |status: &Status| status.profiles.iter().find(|profile| profile.name == name)?.credential.clone();
    let Some((kind, credential)) = running.iter().find_map(|(kind, status)| Some((kind, of_profile(status)?))) else { return };
    let Some(readable) = credential.readable.filter(|_| credential.source == auth.kind) else { return };
    let in_shell = auth.there == Some(true);
    auth.seen_by = Some(kind.clone());
    auth.there = Some(readable);
    auth.problem = credential.problem.map(|problem| if in_shell { format!("{problem} in the {kind}; this shell has it") } else { problem });
}

/// The kind of credential, and where it comes from. Of a program its name alone: arguments may be anything.
pub(super) fn source(auth: &Auth) -> (&'static str, Option<String>) {
    match &auth.source {
        AuthSource::Client => ("client", None),
        AuthSource::None => ("none", None),
        AuthSource::Env(name) => ("env", Some(name.clone())),
        AuthSource::File(file) => ("file", Some(file.display().to_string())),
        AuthSource::Command(argv) => ("command", argv.first().cloned()),
        AuthSource::Keychain(name) => ("keychain", Some(name.clone())),
        AuthSource::ClaudeConfigDir(folder) => ("claude_config_dir", Some(folder.display().to_string())),
        AuthSource::Value(_) => ("value", None),
    }
}

fn at_gateways(running: &[(String, Status)], name: &str) -> Vec<AtGateway> {
    let at = |(kind, status): &(String, Status)| {
        let profile = status.profiles.iter().find(|profile| profile.name == name)?;
        Some(AtGateway {
            kind: kind.clone(),
            gateway: status.address.clone(),
            state: profile.state.clone(),
            back_in_s: profile.back_in_s,
            last_failure: profile.last_failure.clone(),
            last_success_ago_s: profile.last_success_ago_s,
        })
    };
    running.iter().filter_map(at).collect()
}
