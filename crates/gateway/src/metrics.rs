//! Counts what the one record of each exchange says, for `GET /metrics`. Never measures anything itself, and never fails a request: what
//! goes wrong here is missing there.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use hotspare_core::record::{AttemptEntry, Tokens};
use hotspare_core::{Endpoint, ExchangeRecord, FailureKind};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Most profile names that are told apart. A configuration has 64 at most; names that come with later ones are told apart up to here.
const NAMES_CAP: usize = 256;

/// The label of a profile beyond [`NAMES_CAP`].
const ANY_OTHER: &str = "other";

/// The label where no profile answered.
const NOBODY: &str = "none";

/// The label of an attempt that did not fail.
const OK: &str = "ok";

/// Every state that a profile may be in; exactly one of them is 1.
pub const STATES: [&str; 9] = ["serving", "ready", "cooling", "open", "half_open", "blocked", "offline", "paused", "spent"];

/// Upper bounds in seconds: from a warm cache to the longest wait that a client sits through.
const TTFT_BUCKETS: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0, 120.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    profile: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    profile: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByHop {
    from: String,
    to: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDrill {
    fault: &'static str,
    live: &'static str,
    from: String,
    to: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProfile {
    profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTokens {
    profile: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    profile: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWindow {
    profile: String,
    window: String,
}

/// Dollars of millionths of them.
#[expect(clippy::cast_precision_loss, reason = "a float holds nine billion dollars to the millionth")]
fn usd(micro: u64) -> f64 {
    micro as f64 / 1e6
}

/// What a scrape asks the gateway itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Present {
    /// Each profile's name with its state, one of [`STATES`].
    pub states: Vec<(String, String)>,
    /// Each known usage window: profile, window, share used from 0 to 1.
    pub windows: Vec<(String, String, f64)>,
}

/// The counters, and the names that they tell apart.
pub struct Metrics {
    requests: Family<ByOutcome, Counter>,
    attempts: Family<ByReason, Counter>,
    failovers: Family<ByHop, Counter>,
    drills: Family<ByDrill, Counter>,
    states: Family<ByState, Gauge>,
    ttft: Family<ByProfile, Histogram>,
    windows: Family<ByWindow, Gauge<f64, std::sync::atomic::AtomicU64>>,
    cost: Family<ByProfile, Counter<f64, std::sync::atomic::AtomicU64>>,
    tokens: Family<ByTokens, Counter>,
    registry: Registry,
    names: Mutex<HashSet<String>>,
    /// One scrape at a time: the gauges are set for it.
    scrape: Mutex<()>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            requests: Family::default(),
            attempts: Family::default(),
            failovers: Family::default(),
            drills: Family::default(),
            states: Family::default(),
            ttft: Family::new_with_constructor(|| Histogram::new(TTFT_BUCKETS)),
            windows: Family::default(),
            cost: Family::default(),
            tokens: Family::default(),
            registry: Registry::default(),
            names: Mutex::default(),
            scrape: Mutex::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("hotspare_requests", "Requests by the profile that answered and how they ended", metrics.requests.clone());
        registry.register("hotspare_attempts", "Attempts by profile and what they failed with", metrics.attempts.clone());
        registry.register("hotspare_failovers", "Moves from one profile to another within a request", metrics.failovers.clone());
        registry.register("hotspare_drills", "Exchanges of drills, which count nowhere else unless they are live", metrics.drills.clone());
        registry.register("hotspare_profile_state", "1 for the state that the profile is in", metrics.states.clone());
        registry.register(
            "hotspare_ttft_seconds",
            "Time from a request's arrival to the first content of its answer",
            metrics.ttft.clone(),
        );
        registry.register("hotspare_window_used_ratio", "Share of a usage window that is used up", metrics.windows.clone());
        registry.register("hotspare_cost_usd", "Estimated cost of attempts whose price is known, in US dollars", metrics.cost.clone());
        registry.register("hotspare_tokens", "Tokens by profile and kind, as the providers counted them", metrics.tokens.clone());
        metrics
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counts an exchange that is over.
    pub fn count(&self, record: &ExchangeRecord) {
        let profile = record.served_by.as_deref().map_or_else(|| NOBODY.to_owned(), |name| self.name(name));
        self.requests.get_or_create(&ByOutcome { profile: profile.clone(), outcome: record.outcome.word() }).inc();
        for attempt in &record.attempts {
            self.attempts.get_or_create(&ByReason { profile: self.name(&attempt.profile), reason: reason(attempt) }).inc();
            if let Some(cost) = attempt.cost_micro_usd {
                self.cost.get_or_create(&ByProfile { profile: self.name(&attempt.profile) }).inc_by(usd(cost));
            }
            for (kind, count) in kinds_of_tokens(&attempt.tokens) {
                self.tokens.get_or_create(&ByTokens { profile: self.name(&attempt.profile), kind }).inc_by(count);
            }
        }
        for hop in record.attempts.windows(2) {
            if let [before, after] = hop
                && before.profile != after.profile
            {
                let (from, to) = (self.name(&before.profile), self.name(&after.profile));
                self.failovers.get_or_create(&ByHop { from, to, reason: reason(before) }).inc();
            }
        }
        if record.endpoint == Endpoint::Messages
            && let Some(first) = first_content(record)
        {
            self.ttft.get_or_create(&ByProfile { profile }).observe(first);
        }
    }

    /// Counts an exchange of a drill that is over.
    pub fn count_drill(&self, record: &ExchangeRecord) {
        let Some(drill) = record.drill else { return };
        let failed = record.attempts.iter().find(|attempt| attempt.class.is_some());
        let name = |name: Option<&String>| name.map_or_else(|| NOBODY.to_owned(), |name| self.name(name));
        let labels = ByDrill {
            fault: drill.fault.word(),
            live: if drill.live { "true" } else { "false" },
            from: name(failed.map(|attempt| &attempt.profile)),
            to: name(record.served_by.as_ref()),
            outcome: record.outcome.word(),
        };
        self.drills.get_or_create(&labels).inc();
    }

    /// All of it as Prometheus reads it; none when it cannot be written.
    pub fn text(&self, present: &Present) -> Option<String> {
        let _alone = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.states.clear();
        for (profile, now) in &present.states {
            for state in STATES {
                let labels = ByState { profile: self.name(profile), state };
                self.states.get_or_create(&labels).set(i64::from(state == now));
            }
        }
        self.windows.clear();
        for (profile, window, used) in &present.windows {
            let labels = ByWindow { profile: self.name(profile), window: window.clone() };
            self.windows.get_or_create(&labels).set(*used);
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry).ok()?;
        Some(text)
    }

    /// The name as a label: a name that is one too many is not told apart.
    fn name(&self, name: &str) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) || names.len() < NAMES_CAP && names.insert(name.to_owned()) {
            name.to_owned()
        } else {
            ANY_OTHER.to_owned()
        }
    }
}

/// The counts that the provider gave, with their labels.
fn kinds_of_tokens(tokens: &Tokens) -> impl Iterator<Item = (&'static str, u64)> {
    let counts =
        [("input", tokens.input), ("output", tokens.output), ("cache_read", tokens.cache_read), ("cache_write", tokens.cache_write)];
    counts.into_iter().filter_map(|(kind, count)| Some((kind, count?)))
}

fn reason(attempt: &AttemptEntry) -> &'static str {
    attempt.class.map_or(OK, FailureKind::word)
}

/// Seconds until the first content of the answer that the client got.
#[expect(clippy::cast_precision_loss, reason = "an exchange takes minutes, not millennia")]
fn first_content(record: &ExchangeRecord) -> Option<f64> {
    let served_by = record.served_by.as_ref()?;
    let serving = record.attempts.iter().rev().find(|attempt| attempt.profile == *served_by)?;
    Some(serving.first_content_us? as f64 / 1e6)
}

#[cfg(test)]
mod tests;
