//! Which credentials the service would have, and whether their providers accept them. Spends no token.

use std::path::Path;
use std::time::Duration;

use hotspare_config::{AuthSource, Config, Locations, Profile};
use hotspare_gateway::Snapshot;
use hotspare_upstream::Presence;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::plan::{Candidate, Current, Existing, Plan};
use crate::commands;
use crate::commands::profile::test::{Verdict, verdict};
use crate::state;

/// Longest that the test of one key may take. `profile test` gives each step more; here a person waits for all of them.
const TEST_TIMEOUT: Duration = Duration::from_secs(6);

/// The model that a key is tested with, as the client calls it.
const TEST_MODEL: &str = "claude-haiku-4-5";

/// The file beside the configuration that systemd gives the service's variables from.
const ENVIRONMENT_FILE: &str = "environment";

/// What the free test said of a profile's key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KeyReport {
    /// The profile.
    profile: String,
    /// `accepted`, `unproved` or `rejected`.
    outcome: String,
    /// Why it is unproved or rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// The reports of all that was tested.
pub(super) fn reports(plan: &Plan) -> Vec<KeyReport> {
    let report = |candidate: &Candidate| {
        let (outcome, why) = match candidate.verdict.as_ref()? {
            Verdict::Accepted => ("accepted", None),
            Verdict::Unproved(why) => ("unproved", Some(why.clone())),
            Verdict::Rejected(why) => ("rejected", Some(why.clone())),
        };
        Some(KeyReport { profile: candidate.name.clone(), outcome: outcome.to_owned(), why })
    };
    plan.candidates.iter().filter_map(report).collect()
}

/// The configuration that is there, with what its profiles lack. `for_service`: judged by what the service has, not by this shell.
pub(super) async fn current(locations: &Locations, config: &Config, for_service: bool) -> Current {
    let snapshot = Snapshot::compile_with(config, &commands::renewals_here());
    let mut profiles = Vec::new();
    // Where nothing is configured, the first one stands for the client's own login.
    for profile in config.profiles.iter().skip(usize::from(config.implicit)) {
        let (missing, only_in_shell) = match &profile.auth.source {
            AuthSource::Client | AuthSource::None | AuthSource::Command(_) => (None, None),
            AuthSource::Env(name) => {
                let in_shell = std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
                let in_service = !for_service || service_has(locations, name);
                let missing = (!(in_shell || for_service && in_service)).then(|| format!("environment variable `{name}` is not set"));
                (missing, (in_shell && !in_service).then(|| name.clone()))
            }
            _ => {
                let target = snapshot.id(&profile.name).and_then(|id| snapshot.target(id));
                let missing = match target {
                    Some(target) => match target.credential.presence().await {
                        Presence::Missing(error) => Some(error.to_string()),
                        _ => None,
                    },
                    None => None,
                };
                (missing, None)
            }
        };
        profiles.push(Existing { profile: profile.clone(), missing, only_in_shell });
    }
    Current { profiles, chain: Current::chain_of(config) }
}

/// True if the service has a variable: the one that runs, or its manager's file of variables.
fn service_has(locations: &Locations, name: &str) -> bool {
    let gives = |text: &[u8], separator: u8| {
        text.split(|byte| *byte == separator).any(|line| {
            let value = line.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            value.is_some_and(|value| !value.trim_ascii().is_empty())
        })
    };
    let service = state::instances(&locations.state_dir).into_iter().find(|instance| instance.kind == "service");
    let environment = service.and_then(|service| std::fs::read(format!("/proc/{}/environ", service.pid)).ok());
    if let Some(environment) = environment {
        return gives(&environment, 0);
    }
    let file = locations.config_file.parent().unwrap_or(Path::new("")).join(ENVIRONMENT_FILE);
    std::fs::read(file).is_ok_and(|text| gives(&text, b'\n'))
}

/// Tests the key of each candidate that has one, all at the same time.
pub(super) async fn test(plan: &mut Plan, config: &Config, locations: &Locations) {
    let tests = plan.candidates.iter().enumerate().filter_map(|(place, candidate)| {
        let profile = testable(candidate, config, &locations.home)?;
        Some(async move { (place, tested(config, profile).await) })
    });
    for (place, verdict) in futures_util::future::join_all(tests).await {
        plan.judge(place, verdict);
    }
}

/// The profile with a credential that can be read without running a program or a client.
fn testable(candidate: &Candidate, config: &Config, home: &Path) -> Option<Profile> {
    if candidate.problem.is_some() {
        return None;
    }
    if candidate.is_there {
        let profile = config.profiles.iter().find(|profile| *profile.name == candidate.name)?.clone();
        let is_plain =
            matches!(profile.auth.source, AuthSource::Env(_) | AuthSource::File(_) | AuthSource::Keychain(_) | AuthSource::Value(_));
        // A key that this shell does not have is the service's to prove.
        let is_readable = !matches!(&profile.auth.source, AuthSource::Env(name) if std::env::var_os(name).is_none());
        return Some(profile).filter(|_| is_plain && is_readable && candidate.proposed);
    }
    let variable = candidate.key_of.as_ref()?;
    let mut profile = candidate.profile.clone();
    profile.insert("auth".to_owned(), json!({ "env": variable }));
    let text = json!({ "profiles": { candidate.name.as_str(): profile } }).to_string();
    let config = hotspare_config::parse(&text, Path::new("config.json"), home).ok()?;
    config.profiles.into_iter().find(|profile| *profile.name == candidate.name)
}

async fn tested(config: &Config, profile: Profile) -> Verdict {
    let model = match profile.models.map(TEST_MODEL) {
        hotspare_config::Mapped::To(name) => name.to_string(),
        _ => TEST_MODEL.to_owned(),
    };
    let name = profile.name.clone();
    let alone = Config { profiles: vec![profile], rules: Vec::new(), ..config.clone() };
    let snapshot = Snapshot::compile_with(&alone, &commands::renewals_here());
    let Some(target) = snapshot.id(&name).and_then(|id| snapshot.target(id)).cloned() else {
        return Verdict::Unproved("it cannot be tested".to_owned());
    };
    let late = || Verdict::Unproved(format!("no answer within {} s", TEST_TIMEOUT.as_secs()));
    tokio::time::timeout(TEST_TIMEOUT, verdict(&target, &model)).await.unwrap_or_else(|_| late())
}
