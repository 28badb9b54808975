//! What `hotspare status` shows: profiles, their state, and what happened last. Never holds a secret.

use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use hotspare_config::{Config, Server};
use hotspare_core::health::Report;
use hotspare_core::{Outcome, ProfileId};
use hotspare_store::Store;
use hotspare_upstream::clock;

use crate::metrics::Present;
use crate::server::Gateway;

/// The version of this shape.
pub const STATUS_VERSION: u32 = 1;

/// One running gateway.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// [`STATUS_VERSION`].
    pub version: u32,
    /// The program's version.
    pub hotspare: String,
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether failover is on.
    pub enabled: bool,
    /// Who served the last exchange; the primary before the first.
    pub serving: String,
    /// In the order of the default chain.
    pub profiles: Vec<ProfileStatus>,
    /// Exchanges since the start.
    pub exchanges: u64,
    /// Of those, served by another profile than the first.
    pub failovers: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// The last move to another profile, in words.
    pub last_failover: Option<LastFailover>,
    /// Where the configuration comes from. None: the gateway is older than this field.
    #[serde(default)]
    pub config: Option<ConfigStatus>,
    /// Why exchanges cannot be remembered on disk just now, in words; none: they are.
    #[serde(default)]
    pub ledger: Option<String>,
}

/// The configuration that serves.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ConfigStatus {
    /// When it was read, in seconds since 1970.
    pub loaded_at: u64,
    /// The texts that had a say, the one with the last word first.
    pub sources: Vec<String>,
    /// Why a newer one is not used.
    pub error: Option<String>,
    /// What of it needs a restart to take effect.
    pub needs_restart: Option<String>,
}

/// The same, with what the process was started with.
pub(crate) struct ConfigState {
    pub(crate) status: ConfigStatus,
    started_with: Server,
}

impl ConfigState {
    pub(crate) fn new(config: &Config, now: SystemTime) -> Self {
        let status = ConfigStatus { loaded_at: seconds(now), sources: sources(config), error: None, needs_restart: None };
        Self { status, started_with: config.server.clone() }
    }

    pub(crate) fn note(&mut self, outcome: Result<Config, String>, now: SystemTime) {
        match outcome {
            Ok(config) => {
                let needs_restart = needs_restart(&self.started_with, &config.server);
                self.status = ConfigStatus { loaded_at: seconds(now), sources: sources(&config), error: None, needs_restart };
            }
            Err(error) => self.status.error = Some(error),
        }
    }
}

/// The address and the connections belong to the process (security.md T28).
fn needs_restart(was: &Server, is: &Server) -> Option<String> {
    let keys = [("server.listen", was.listen != is.listen), ("server.max_connections", was.max_connections != is.max_connections)];
    let changed: Vec<String> = keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| format!("`{key}`")).collect();
    (!changed.is_empty()).then(|| changed.join(", "))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn sources(config: &Config) -> Vec<String> {
    config.sources.iter().map(|source| source.display().to_string()).collect()
}

/// One profile.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ProfileStatus {
    /// Its name.
    pub name: String,
    /// `serving`, `ready`, `cooling` or `blocked`.
    pub state: String,
    /// Seconds until it may be asked again.
    pub back_in_s: Option<u64>,
    /// Its last failure, in words.
    pub last_failure: Option<String>,
    /// Seconds since then.
    pub last_failure_ago_s: Option<u64>,
    /// Seconds since its last good answer.
    pub last_success_ago_s: Option<u64>,
    /// Seconds until the login that it uses runs out, 0 when it has; none: it has no such end, or none that is known.
    #[serde(default)]
    pub login_ends_in_s: Option<u64>,
}

/// The last move to another profile.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct LastFailover {
    /// From where.
    pub from: String,
    /// To where; none when no profile answered.
    pub to: Option<String>,
    /// What the first failed with.
    pub why: String,
    /// Seconds since then.
    pub ago_s: u64,
}

impl Gateway {
    /// What is going on now.
    pub fn status(&self) -> Status {
        let now = clock::now();
        let snapshot = self.snapshot();
        let ids: Vec<ProfileId> = snapshot
            .rules
            .last()
            .map(|rule| {
                let mut ids: Vec<ProfileId> = rule.chain.entries.iter().map(|entry| entry.profile).collect();
                ids.dedup();
                ids
            })
            .unwrap_or_default();
        let serving = self.serving().unwrap_or_else(|| ids.first().map_or_else(String::new, |id| snapshot.name(*id).to_owned()));
        let mut profiles: Vec<ProfileStatus> = self.with_world(|world| {
            ids.iter().map(|id| profile_status(now, snapshot.name(*id), &serving, &world.health.report(now, *id))).collect()
        });
        for (profile, id) in profiles.iter_mut().zip(&ids) {
            let end = snapshot.target(*id).and_then(|target| target.credential.expires());
            profile.login_ends_in_s = end.map(|end| end.duration_since(self.outside().wall()).unwrap_or_default().as_secs());
        }
        let (exchanges, failovers, in_flight) = self.counts();
        Status {
            version: STATUS_VERSION,
            hotspare: env!("CARGO_PKG_VERSION").to_owned(),
            address: format!("http://{}", self.local()),
            pid: std::process::id(),
            uptime_s: clock::since(self.started()).as_secs(),
            enabled: snapshot.policy.enabled,
            serving,
            profiles,
            exchanges,
            failovers,
            in_flight,
            last_failover: self.last_failover(now),
            config: Some(self.config_status()),
            ledger: self.store().and_then(Store::trouble).map(|trouble| trouble.to_string()),
        }
    }

    /// What a scrape wants to know of the present.
    pub(crate) fn present(&self) -> Present {
        let now = clock::now();
        let states = self.status().profiles.into_iter().map(|profile| (profile.name, profile.state)).collect();
        let snapshot = self.snapshot();
        let windows = self.with_world(|world| {
            let of = |id: ProfileId| {
                let name = snapshot.name(id).to_owned();
                let windows = world.health.report(now, id).windows;
                windows.into_iter().map(move |window| (name.clone(), window.name.to_string(), window.used))
            };
            snapshot.ids().flat_map(of).collect()
        });
        Present { states, windows }
    }

    fn last_failover(&self, now: Instant) -> Option<LastFailover> {
        let (at, record) = self.last_failover_record()?;
        let failed = record.attempts.iter().find(|attempt| attempt.class.is_some())?;
        let served = matches!(record.outcome, Outcome::Served | Outcome::Relayed);
        Some(LastFailover {
            from: failed.profile.clone(),
            to: record.served_by.clone().filter(|_| served),
            why: failed.detail.clone().unwrap_or_default(),
            ago_s: now.saturating_duration_since(at).as_secs(),
        })
    }
}

fn profile_status(now: Instant, name: &str, serving: &str, report: &Report) -> ProfileStatus {
    let ago = |at: Instant| now.saturating_duration_since(at).as_secs();
    let state = match &report.bench {
        Some(bench) if bench.hard => "blocked",
        Some(_) => "cooling",
        None if name == serving => "serving",
        None => "ready",
    };
    ProfileStatus {
        name: name.to_owned(),
        state: state.to_owned(),
        back_in_s: report.bench.as_ref().map(|bench| bench.until.saturating_duration_since(now).as_secs() + 1),
        last_failure: report.last_failure.as_ref().map(|(_, words)| words.to_string()),
        last_failure_ago_s: report.last_failure.as_ref().map(|(at, _)| ago(*at)),
        last_success_ago_s: report.last_success.map(ago),
        login_ends_in_s: None,
    }
}
