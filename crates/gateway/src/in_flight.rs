//! Requests that wait for an answer, for `hotspare why`: where each one is, since when, and where it goes next.
//!
//! The ledger knows a request only when it is over. A hang would otherwise leave nothing to look at while it lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hotspare_core::Exchange;
use hotspare_core::record::id_text;
use hotspare_upstream::clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// The version of these shapes.
pub const IN_FLIGHT_VERSION: u32 = 1;

/// Most requests that are listed; what is beyond is served, but not listed.
const MAX_LISTED: usize = 1024;

/// `GET /hotspare/in_flight`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct InFlightAnswer {
    /// [`IN_FLIGHT_VERSION`].
    pub version: u32,
    /// Requests that have no answer yet, the oldest first.
    pub waiting: Vec<WaitingRequest>,
}

/// A request that has no answer yet.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct WaitingRequest {
    /// Its id, for `hotspare why`.
    pub id: String,
    /// The client's own session id.
    pub session: Option<String>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// Milliseconds since it came.
    pub waits_ms: u64,
    /// The profile that it was sent to; `None` if it waits for one that can be tried.
    pub profile: Option<String>,
    /// Milliseconds since it was sent there.
    pub sent_ago_ms: Option<u64>,
    /// Milliseconds until it goes on if nothing comes; `None` if there is no such limit.
    pub goes_on_in_ms: Option<u64>,
    /// The profile that it goes to then; `None` if no further profile would be tried.
    pub next: Option<String>,
    /// Profiles that have failed for it, with why.
    pub failed: Vec<String>,
}

/// What is known of one.
#[derive(Debug, Clone)]
struct Entry {
    session: Option<String>,
    model: Option<String>,
    came: Instant,
    profile: Option<String>,
    sent: Option<Instant>,
    until: Option<Instant>,
    next: Option<String>,
    failed: Vec<String>,
}

/// All of them, by their number.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<BTreeMap<u64, Entry>>);

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists a request until it is dropped.
pub(crate) struct Listed {
    gateway: Arc<Gateway>,
    id: u64,
}

impl Listed {
    pub(crate) fn new(gateway: Arc<Gateway>, id: u64) -> Self {
        Self { gateway, id }
    }

    /// Records what the request waits for now.
    pub(crate) fn note(&self, exchange: &Exchange, snapshot: &Snapshot, session: Option<&str>) {
        let mut waiting = self.gateway.waiting.lock();
        if waiting.len() >= MAX_LISTED && !waiting.contains_key(&self.id) {
            return;
        }
        let name = |id| snapshot.name(id).to_owned();
        let wait = exchange.waits_for();
        let failed = exchange.attempts().iter().filter_map(|attempt| {
            let failure = attempt.failure.as_ref()?;
            Some(format!("{}: {failure}", snapshot.name(attempt.profile)))
        });
        let entry = Entry {
            session: session.map(str::to_owned),
            model: exchange.facts().model.as_ref().map(ToString::to_string),
            came: exchange.started(),
            profile: wait.profile.map(name),
            sent: wait.since,
            until: exchange.poll_timeout(),
            next: wait.next.map(name),
            failed: failed.collect(),
        };
        waiting.insert(self.id, entry);
    }

    /// The client begins to get an answer.
    pub(crate) fn is_answered(&self) {
        self.gateway.waiting.lock().remove(&self.id);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.is_answered();
    }
}

impl Gateway {
    /// Requests that have no answer yet, the oldest first.
    pub fn requests_waiting(&self) -> InFlightAnswer {
        let now = clock::now();
        let ago = |at: Instant| millis(now.saturating_duration_since(at));
        let request = |(id, entry): (&u64, &Entry)| WaitingRequest {
            id: id_text(*id),
            session: entry.session.clone(),
            model: entry.model.clone(),
            waits_ms: ago(entry.came),
            profile: entry.profile.clone(),
            sent_ago_ms: entry.sent.map(ago),
            goes_on_in_ms: entry.until.map(|until| millis(until.saturating_duration_since(now))),
            next: entry.next.clone(),
            failed: entry.failed.clone(),
        };
        InFlightAnswer { version: IN_FLIGHT_VERSION, waiting: self.waiting.lock().iter().map(request).collect() }
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
