//! What `hotspare status` shows: profiles, their state, and what happened last. Never holds a secret.

use std::time::{Duration, Instant, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use hotspare_config::{Config, Server};
use hotspare_core::health::Report;
use hotspare_core::pause::left_out;
use hotspare_core::{ChainEntry, FailbackAt, FailureKind, Outcome, Pause, Policy, ProfileId, UsageWindow, WindowStatus, World};
use hotspare_store::Store;
use hotspare_upstream::{clock, login_command};

use crate::drill::DrillStatus;
use crate::metrics::Present;
pub use crate::outlook::{Chance, CredentialStatus, NextRequest, Prospect, WaitStatus};
use crate::recent::Glance;
use crate::server::Gateway;
use crate::session_folder::FoldersStatus;
use crate::snapshot::Snapshot;

/// The version of this shape.
pub const STATUS_VERSION: u32 = 1;

/// One running gateway.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
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
    /// Who served the last exchange, or is tried first since a switch; the primary before the first.
    pub serving: String,
    /// Seconds since that one took over.
    #[serde(default)]
    pub serving_for_s: Option<u64>,
    /// The model that it is asked for where that is another one than the client's own; none: the client's own.
    #[serde(default)]
    pub serving_model: Option<String>,
    /// Sessions that were served within the life of their prompt cache.
    #[serde(default)]
    pub sessions: u64,
    /// The user's word that outranks the chains.
    #[serde(default)]
    pub switch: Option<SwitchStatus>,
    /// Whom the user has paused, of every chain.
    #[serde(default)]
    pub pauses: Vec<PauseStatus>,
    /// This machine's network is down: seconds until it is tried again.
    #[serde(default)]
    pub offline_for_s: Option<u64>,
    /// When sessions go home.
    #[serde(default)]
    pub failback: Option<FailbackStatus>,
    /// A drill that runs: what it does is no news of any profile.
    #[serde(default)]
    pub drill: Option<DrillStatus>,
    /// In the order of the default chain.
    pub profiles: Vec<ProfileStatus>,
    /// The folders that sessions work in, and what holds there. `None` if this gateway serves one folder alone.
    #[serde(default)]
    pub folders: Option<FoldersStatus>,
    /// Exchanges since the start.
    pub exchanges: u64,
    /// Of those, served by another profile than the first.
    pub failovers: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Of those, the ones without an answer yet, the oldest first.
    #[serde(default)]
    pub waiting: Vec<WaitStatus>,
    /// What the next request of the user's client would meet. `None` if the gateway is older than this field.
    #[serde(default)]
    pub next: Option<NextRequest>,
    /// Seconds since the last Messages request of a client. `None` if none came since the start.
    #[serde(default)]
    pub client_seen_ago_s: Option<u64>,
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
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
#[derive(Clone)]
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
    let keys = [
        ("server.listen", was.listen != is.listen),
        ("server.max_connections", was.max_connections != is.max_connections),
        ("server.children", was.children != is.children),
    ];
    let changed: Vec<String> = keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| format!("`{key}`")).collect();
    (!changed.is_empty()).then(|| changed.join(", "))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn sources(config: &Config) -> Vec<String> {
    config.sources.iter().map(|source| source.display().to_string()).collect()
}

/// `hotspare switch` in force.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct SwitchStatus {
    /// Who is asked first.
    pub profile: String,
    /// Seconds until it is over; none: until it is taken back.
    pub for_s: Option<u64>,
}

/// `hotspare profile pause` in force.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct PauseStatus {
    /// Who is left alone.
    pub profile: String,
    /// Seconds until it is over; none: until it is taken back.
    pub for_s: Option<u64>,
    /// Whether the default chain asks it all the same, for nobody else is left there.
    pub without_effect: bool,
}

/// When sessions go home to a profile that is well again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct FailbackStatus {
    /// Good answers that close an open circuit breaker.
    pub after_good: u32,
    /// Shortest time that a session stays where it went, in seconds.
    pub min_stay_s: u64,
    /// `cold_cache`, `turn` or `manual`.
    pub at: String,
}

/// One profile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct ProfileStatus {
    /// Its name.
    pub name: String,
    /// `serving`, `ready`, `cooling` (it failed a moment ago), `open` (its circuit breaker), `half_open` (on trial), `blocked` (waiting
    /// alone may not help), `offline` (this machine's network is down), `spent` (its budget of the day), `no_credential` (this process cannot
    /// read its credential) or `paused` (by the user, or because failover is off).
    pub state: String,
    /// Seconds until it may be asked again.
    pub back_in_s: Option<u64>,
    /// Seconds until a live request may look whether a blocked profile is well again, at most an hour after the last look.
    #[serde(default)]
    pub next_look_in_s: Option<u64>,
    /// Clients in a row that gave up on it after they had waited without any content.
    #[serde(default)]
    pub given_up: u32,
    /// Why no request is sent there whatever its health is: the client's credential belongs to another host. `None` if requests may go there.
    #[serde(default)]
    pub left_out: Option<String>,
    /// What keeps it from being asked, as the failure table names it.
    #[serde(default)]
    pub because: Option<String>,
    /// The model family that this is about; none: all of them.
    #[serde(default)]
    pub family: Option<String>,
    /// Good answers so far while it is on trial.
    #[serde(default)]
    pub good_trials: Option<u32>,
    /// Its last failure, in words.
    pub last_failure: Option<String>,
    /// Seconds since then.
    pub last_failure_ago_s: Option<u64>,
    /// Seconds since its last good answer.
    pub last_success_ago_s: Option<u64>,
    /// Seconds until the login that it uses runs out, 0 when it has; none: it has no such end, or none that is known.
    #[serde(default)]
    pub login_ends_in_s: Option<u64>,
    /// The renewal of the login of a folder. `None` if that is off, or the profile uses another credential.
    #[serde(default)]
    pub login: Option<LoginStatus>,
    /// What its answers told of its limits.
    #[serde(default)]
    pub windows: Vec<WindowReport>,
    /// Time to the first content of its last answers, 50th percentile, in milliseconds.
    #[serde(default)]
    pub ttft_p50_ms: Option<u64>,
    /// The same, 95th percentile.
    #[serde(default)]
    pub ttft_p95_ms: Option<u64>,
    /// Requests sent to it in the last five minutes.
    #[serde(default)]
    pub attempts_5m: u64,
    /// Of those, failed ones.
    #[serde(default)]
    pub failed_5m: u64,
    /// Its limit in money for a day, and what of it is spent. A session's limit is each session's own, and is not here.
    #[serde(default)]
    pub budget: Option<BudgetReport>,
    /// A login is used, whose plan pays.
    #[serde(default)]
    pub on_plan: bool,
    /// Whether the process that serves can read its credential. `None` if the gateway is older than this field.
    #[serde(default)]
    pub credential: Option<CredentialStatus>,
}

/// The renewal of a login that Claude Code keeps in a folder.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct LoginStatus {
    /// Seconds since this gateway last saw it renewed; `None` if it has not since its start.
    pub renewed_ago_s: Option<u64>,
    /// Why the last renewal failed; `None` if it did not, or the folder has changed since.
    pub problem: Option<String>,
    /// The command that makes the login again, where it has ended (its refresh token is dead); the profile is skipped until then.
    pub log_in: Option<String>,
}

impl ProfileStatus {
    /// Whether the login that the profile uses has ended, so that only the user can make it usable.
    pub fn has_ended_login(&self) -> bool {
        self.login.as_ref().is_some_and(|login| login.log_in.is_some())
    }
}

/// A profile's budget of a day, in millionths of a US dollar.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct BudgetReport {
    /// What it may take in a day of this machine's calendar.
    pub per_day_micro_usd: u64,
    /// What it has taken today.
    pub spent_micro_usd: u64,
    /// Seconds until it begins anew.
    pub resets_in_s: Option<u64>,
}

/// One usage window or limit.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct WindowReport {
    /// `5h`, `7d`, `7d_opus`, …, or `requests`, `tokens`, … of a key's limits.
    pub name: String,
    /// `allowed`, `warning` or `rejected`.
    pub status: String,
    /// The used part, 0 to 1; more where the account pays for more.
    pub used: f64,
    /// Seconds until it begins anew, where that was told.
    pub resets_in_s: Option<u64>,
}

/// The last move to another profile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
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
        self.status_for(None)
    }

    /// Like [`Gateway::status`], with the next request naming this model.
    pub fn status_for(&self, model: Option<&str>) -> Status {
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
        let policy = &snapshot.policy;
        let last = self.serving();
        let serving_for_s = last.as_ref().map(|last| seconds_since(now, last.since));
        let serving_model = last.as_ref().and_then(|last| Some(last.other.as_ref()?.1.clone()));
        let serving = last.map_or_else(|| ids.first().map_or_else(String::new, |id| snapshot.name(*id).to_owned()), |last| last.name);
        let entries = snapshot.rules.last().map(|rule| rule.chain.entries.as_slice()).unwrap_or_default();
        let entries = if snapshot.policy.enabled { entries } else { entries.get(..1).unwrap_or_default() };
        let (out, pauses) = self.with_world(|world| (left_out(now, world, entries), pauses(now, &snapshot, world, entries)));
        let (reports, sessions, switch, offline) = self.with_world(|world| {
            let reports: Vec<Report> = ids.iter().map(|id| world.health.report(now, *id)).collect();
            let switch = world.switch.filter(|_| world.switched_to(now).is_some());
            (reports, world.affinity.active(now), switch, world.health.offline_for(now))
        });
        let mut profiles = Vec::with_capacity(ids.len());
        for (place, (id, report)) in ids.iter().zip(&reports).enumerate() {
            let name = snapshot.name(*id);
            let unreachable = offline.is_some() && snapshot.target(*id).is_some_and(|target| !target.is_loopback());
            let off = !policy.enabled && place > 0;
            let state = if out.contains(id) { "paused" } else { state(report, unreachable, off, name == serving) };
            let mut profile = profile_status(now, name, state, report, self.glance(now, name));
            profile.left_out = snapshot.target(*id).and_then(|target| target.credential.withheld()).map(|why| why.to_string());
            if profile.left_out.is_some() {
                "blocked".clone_into(&mut profile.state);
            }
            let end = snapshot.target(*id).and_then(|target| target.credential.expires());
            profile.login_ends_in_s = end.map(|end| end.duration_since(self.outside().wall()).unwrap_or_default().as_secs());
            add_credential(&snapshot, *id, &mut profile);
            self.add_login(&snapshot, *id, &mut profile);
            self.add_money(&snapshot, *id, &mut profile);
            profiles.push(profile);
        }
        let (exchanges, failovers, in_flight) = self.counts();
        Status {
            version: STATUS_VERSION,
            hotspare: env!("CARGO_PKG_VERSION").to_owned(),
            address: format!("http://{}", self.local()),
            pid: std::process::id(),
            uptime_s: clock::since(self.started()).as_secs(),
            enabled: policy.enabled,
            serving,
            serving_for_s,
            serving_model,
            sessions: sessions as u64,
            switch: switch.map(|switch| SwitchStatus {
                profile: snapshot.name(switch.profile).to_owned(),
                for_s: switch.until.map(|until| whole_seconds(until.saturating_duration_since(now))),
            }),
            pauses,
            offline_for_s: offline.map(whole_seconds),
            failback: Some(failback(policy)),
            drill: self.drill_status(),
            profiles,
            folders: self.folders_status(),
            exchanges,
            failovers,
            in_flight,
            waiting: self.waits(),
            next: self.next_request(now, &snapshot, model),
            client_seen_ago_s: self.client_seen(now),
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

    /// Adds what is known of the renewal of the profile's login.
    fn add_login(&self, snapshot: &Snapshot, id: ProfileId, profile: &mut ProfileStatus) {
        let Some(target) = snapshot.target(id) else { return };
        let Some(renewed) = target.credential.renewed() else { return };
        let ago = |at: SystemTime| self.outside().wall().duration_since(at).unwrap_or_default().as_secs();
        let has_ended = target.credential.has_ended();
        if has_ended {
            "blocked".clone_into(&mut profile.state);
            profile.because = Some(FailureKind::NoCredential.word().to_owned());
        }
        profile.login = Some(LoginStatus {
            renewed_ago_s: renewed.at.map(ago),
            problem: renewed.failed.map(|why| why.to_string()),
            log_in: target.credential.folder().filter(|_| has_ended).map(login_command),
        });
    }

    /// What the profile has spent, and who pays.
    fn add_money(&self, snapshot: &Snapshot, id: ProfileId, profile: &mut ProfileStatus) {
        let credential = snapshot.target(id).map(|target| &target.credential);
        profile.on_plan = credential.is_some_and(|credential| credential.is_folder() || credential.is_client() && self.client_is_on_plan());
        let Some(per_day) = snapshot.budget(id).per_day.filter(|_| !profile.on_plan) else { return };
        self.look_at_calendar(snapshot);
        let now_ms = u64::try_from(self.outside().wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis());
        let (spent, day) = self.with_world(|world| (world.spending.today(id), world.spending.day()));
        let resets_in_s = day.zip(now_ms.ok()).map(|(day, now_ms)| day.ends_ms.saturating_sub(now_ms).div_ceil(1000));
        if spent >= per_day && matches!(profile.state.as_str(), "serving" | "ready" | "half_open") {
            "spent".clone_into(&mut profile.state);
            profile.back_in_s = resets_in_s;
        }
        profile.budget = Some(BudgetReport { per_day_micro_usd: per_day, spent_micro_usd: spent, resets_in_s });
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

/// Adds whether this process can read the profile's credential. Without one nothing else matters of it.
fn add_credential(snapshot: &Snapshot, id: ProfileId, profile: &mut ProfileStatus) {
    let Some((credential, _)) = Gateway::credential_status(snapshot, id) else { return };
    if credential.is_missing() && profile.left_out.is_none() && profile.state != "paused" {
        "no_credential".clone_into(&mut profile.state);
        profile.because = Some(FailureKind::NoCredential.word().to_owned());
    }
    profile.credential = Some(credential);
}

fn pauses(now: Instant, snapshot: &Snapshot, world: &World, default: &[ChainEntry]) -> Vec<PauseStatus> {
    let out = left_out(now, world, default);
    let status = |(id, pause): (ProfileId, Pause)| PauseStatus {
        profile: snapshot.name(id).to_owned(),
        for_s: pause.until.map(|until| whole_seconds(until.saturating_duration_since(now))),
        without_effect: default.iter().any(|entry| entry.profile == id) && !out.contains(&id),
    };
    snapshot.ids().filter_map(|id| Some((id, world.paused(now, id)?))).map(status).collect()
}

fn failback(policy: &Policy) -> FailbackStatus {
    let at = match policy.failback.at {
        FailbackAt::ColdCache => "cold_cache",
        FailbackAt::Turn => "turn",
        FailbackAt::Manual => "manual",
    };
    FailbackStatus { after_good: policy.failback.after_good, min_stay_s: policy.failback.min_stay.as_secs(), at: at.to_owned() }
}

fn state(report: &Report, unreachable: bool, off: bool, serving: bool) -> &'static str {
    match &report.bench {
        _ if unreachable => "offline",
        Some(bench) if bench.hard => "blocked",
        Some(bench) if bench.open => "open",
        Some(_) => "cooling",
        None if off => "paused",
        None if report.half_open.is_some() => "half_open",
        None if serving => "serving",
        None => "ready",
    }
}

/// Begun seconds count: nothing is over before it is.
fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

fn seconds_since(now: Instant, at: Instant) -> u64 {
    now.saturating_duration_since(at).as_secs()
}

fn profile_status(now: Instant, name: &str, state: &str, report: &Report, glance: Glance) -> ProfileStatus {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    ProfileStatus {
        name: name.to_owned(),
        state: state.to_owned(),
        left_out: None,
        back_in_s: report.bench.as_ref().map(|bench| whole_seconds(bench.until.saturating_duration_since(now))),
        next_look_in_s: report.bench.as_ref().map(|bench| whole_seconds(bench.next_look.saturating_duration_since(now))),
        given_up: report.given_up,
        because: report.bench.as_ref().map(|bench| bench.because.word().to_owned()),
        family: report.bench.as_ref().and_then(|bench| bench.family).map(|family| family.word().to_owned()),
        good_trials: report.half_open,
        last_failure: report.last_failure.as_ref().map(|(_, words)| words.to_string()),
        last_failure_ago_s: report.last_failure.as_ref().map(|(at, _)| seconds_since(now, *at)),
        last_success_ago_s: report.last_success.map(|at| seconds_since(now, at)),
        login_ends_in_s: None,
        login: None,
        windows: report.windows.iter().map(|window| window_report(now, window)).collect(),
        ttft_p50_ms: glance.first_content.map(|(p50, _)| millis(p50)),
        ttft_p95_ms: glance.first_content.map(|(_, p95)| millis(p95)),
        attempts_5m: glance.attempts,
        failed_5m: glance.failed,
        budget: None,
        on_plan: false,
        credential: None,
    }
}

fn window_report(now: Instant, window: &UsageWindow) -> WindowReport {
    let status = match window.status {
        WindowStatus::Allowed => "allowed",
        WindowStatus::Warning => "warning",
        WindowStatus::Rejected => "rejected",
    };
    WindowReport {
        name: window.name.to_string(),
        status: status.to_owned(),
        used: window.used,
        resets_in_s: window.resets_at.map(|at| whole_seconds(at.saturating_duration_since(now))),
    }
}
