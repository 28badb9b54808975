//! What the user's own next request would meet: which profiles can serve it, and why the others cannot.
//!
//! The last request of a client is planned again on a copy of what is known, as a real one would be. Every screen takes its claims from this
//! one answer, so that none of them says "protected" of a chain that the next request would not get through.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use hotspare_core::health::Standing;
use hotspare_core::route::{SkipReason, Skipped, chain_for, plan};
use hotspare_core::{
    ClientKind, Endpoint, Exchange, ExchangeRecord, Failure, FailureKind, Grip, ModelFamily, Plan, ProfileId, RequestFacts, SlowRequest,
    Stage, Surroundings, Verdict, World,
};
use hotspare_upstream::{CredentialError, Presence};

use crate::in_flight::WaitingRequest;
use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// A failure that no answer has followed counts against the profile for this long. Cooldowns of guesses last seconds to a few minutes
/// (`core/failure.rs`), so beyond it nothing is known of the profile.
const FAILED_TTL: Duration = Duration::from_secs(300);

/// Most results that are kept: 64 profiles with a few model families each.
const MAX_RESULTS: usize = 512;

/// What the next request of the user's client would meet.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct NextRequest {
    /// Model that it would name: that of the last request of a client. `None` if there was none.
    pub model: Option<String>,
    /// Profile that would be tried first and may answer. `None` if no profile can serve it.
    pub served_by: Option<String>,
    /// Every profile of its chain, in the chain's order.
    pub profiles: Vec<Prospect>,
}

/// What the next request would meet at one profile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct Prospect {
    /// Its name.
    pub profile: String,
    /// Whether it can serve the request.
    pub verdict: Chance,
    /// Why it cannot, or may not, in a few words. `None` if it can.
    pub why: Option<String>,
    /// Seconds until it may be tried again. `None` if it may be tried now, or time alone does not help.
    pub back_in_s: Option<u64>,
}

/// Whether a profile can serve the next request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Chance {
    /// It would be tried, and nothing speaks against an answer.
    Usable,
    /// It would be tried, but its last answer to such a request was a failure.
    Unproven,
    /// It would not be tried, or has no credential.
    Unusable,
}

/// Whether this process can read a profile's credential. Never the credential.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct CredentialStatus {
    /// `client`, `none`, `env`, `file`, `command`, `keychain`, `claude_config_dir` or `value`.
    pub source: String,
    /// The variable, file, folder, name or program that it comes from.
    pub from: Option<String>,
    /// True if the process that serves can read it. `None` if the client brings it, or only a program can tell and was not run yet.
    pub readable: Option<bool>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

impl CredentialStatus {
    /// True if the process that serves cannot read it.
    pub fn is_missing(&self) -> bool {
        self.readable == Some(false)
    }
}

/// A request that has no answer yet.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct WaitStatus {
    /// Profile that has it now. `None` while it waits for one that is cooling down.
    pub profile: Option<String>,
    /// Seconds that this profile has had it.
    pub for_s: u64,
    /// Seconds since the client sent it.
    pub since_s: u64,
    /// Seconds until hotspare gives up on this profile.
    pub goes_on_in_s: Option<u64>,
    /// Profile that is tried then. `None` if no other is left.
    pub to: Option<String>,
}

/// What is remembered of clients and of the results of their requests.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    last: Option<(Instant, RequestFacts)>,
    results: BTreeMap<(String, ModelFamily), LastResult>,
}

/// How the last attempt at a profile for a model family ended.
#[derive(Debug, Clone)]
struct LastResult {
    at: Instant,
    /// `None` if it answered.
    failed: Option<String>,
}

impl Clients {
    /// Takes note of a client's request. Side traffic does not stand for the conversation.
    pub(crate) fn note(&mut self, now: Instant, facts: &RequestFacts) {
        if facts.endpoint != Endpoint::Messages {
            return;
        }
        match &mut self.last {
            Some((at, _)) if facts.side => *at = now,
            last => *last = Some((now, facts.clone())),
        }
    }

    /// Takes note of what each attempt of an exchange says of its profile.
    pub(crate) fn note_results(&mut self, now: Instant, record: &ExchangeRecord) {
        if !record.endpoint.moves_health() {
            return;
        }
        for attempt in &record.attempts {
            let family = attempt.model.as_deref().or(record.model.as_deref()).map_or(ModelFamily::Other, ModelFamily::of);
            let failed = match attempt.class {
                None if attempt.first_content_us.is_some() || attempt.head_us.is_some() => None,
                Some(kind) if speaks_against(kind) => Some(reason(kind, attempt.detail.as_deref())),
                _ => continue,
            };
            let key = (attempt.profile.clone(), family);
            if self.results.len() < MAX_RESULTS || self.results.contains_key(&key) {
                self.results.insert(key, LastResult { at: now, failed });
            }
        }
    }

    /// Why the last attempt failed, and how long ago, where no answer has followed.
    fn failure(&self, now: Instant, profile: &str, family: ModelFamily) -> Option<(String, Duration)> {
        let result = self.results.get(&(profile.to_owned(), family))?;
        let ago = now.saturating_duration_since(result.at);
        result.failed.clone().filter(|_| ago < FAILED_TTL).map(|why| (why, ago))
    }
}

/// Whether a failure of this kind says that the next request may fail there too.
fn speaks_against(kind: FailureKind) -> bool {
    kind == FailureKind::BareRateLimit || Failure::new(kind, Stage::Head, "").verdict() != Verdict::NEUTRAL
}

/// A failure in a few words.
fn reason(kind: FailureKind, detail: Option<&str>) -> String {
    let words = match kind {
        FailureKind::NoCredential => "key missing",
        FailureKind::QuotaExhausted => "limit reached",
        FailureKind::Billing | FailureKind::SpendCap => "out of credit",
        FailureKind::Unauthorized => "401 key refused",
        FailureKind::Forbidden => "403 refused",
        FailureKind::Throttled | FailureKind::BareRateLimit => "429 rate limited",
        FailureKind::Overloaded => "529 overloaded",
        FailureKind::ModelNotFound => "404 model not found",
        _ => return detail.map_or_else(|| kind.word().replace('_', " "), str::to_owned),
    };
    words.to_owned()
}

/// Why a profile is left out of a request, in a few words.
fn skip_words(reason: &SkipReason) -> String {
    match reason {
        SkipReason::Cooling { because, .. } | SkipReason::Refused { because, .. } => self::reason(*because, None),
        SkipReason::NoModel => "its model map rejects the model".to_owned(),
        SkipReason::UnknownModel => "no name for the model".to_owned(),
        SkipReason::NotServed => "does not serve such requests".to_owned(),
        SkipReason::NoClientCredential => "the client sends no login".to_owned(),
        SkipReason::CredentialElsewhere(_) => "login of another host".to_owned(),
        SkipReason::NoCredential(_) => "login ended".to_owned(),
        SkipReason::Offline => "network down".to_owned(),
        SkipReason::Paused => "paused".to_owned(),
        SkipReason::Misfit(misfit) => misfit.to_string(),
        SkipReason::Vetoed => "ruled out by a hook".to_owned(),
        SkipReason::Budget(_) => "budget reached".to_owned(),
        SkipReason::NoPrice => "no price for its budget".to_owned(),
    }
}

/// A credential that cannot be read, in two words.
fn missing_words(error: &CredentialError) -> String {
    let words = match error {
        CredentialError::LoginEnded { .. } => "login ended",
        CredentialError::LoginExpired { .. } | CredentialError::LoginNotRenewed { .. } => "login expired",
        CredentialError::NoLogin { .. } => "login missing",
        CredentialError::ClientElsewhere { .. } => "login of another host",
        CredentialError::FileTooOpen { .. } => "key file open to others",
        _ => "key missing",
    };
    words.to_owned()
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// A conversation's request before any client was seen: with a login of Anthropic's, for no model by name.
fn unseen() -> RequestFacts {
    RequestFacts {
        endpoint: Endpoint::Messages,
        model: None,
        client: ClientKind::ClaudeInteractive,
        session: None,
        own_credential: Some(0),
        credential_digests: Vec::new(),
        anthropic_credential: true,
        slow: SlowRequest::Unable,
        cache_life: Duration::from_secs(300),
        whole_session: None,
        on_plan: false,
        length: None,
        needs: None,
        side: false,
        patience: None,
        hedgeable: false,
    }
}

impl Gateway {
    fn clients<T>(&self, act: impl FnOnce(&mut Clients) -> T) -> T {
        act(&mut self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of a client's request. A live drill's are real ones.
    pub(crate) fn note_client(&self, now: Instant, facts: &RequestFacts) {
        match &self.lane {
            None => self.clients(|clients| clients.note(now, facts)),
            Some(lane) if lane.is_live() => {
                if let Some(base) = lane.base() {
                    base.clients(|clients| clients.note(now, facts));
                }
            }
            Some(_) => {}
        }
    }

    pub(crate) fn note_results(&self, now: Instant, record: &ExchangeRecord) {
        self.clients(|clients| clients.note_results(now, record));
    }

    /// Seconds since a client's last conversation request or side traffic.
    pub(crate) fn client_seen(&self, now: Instant) -> Option<u64> {
        self.clients(|clients| clients.last.as_ref().map(|(at, _)| now.saturating_duration_since(*at).as_secs()))
    }

    /// Requests without an answer, the oldest first.
    pub(crate) fn waits(&self) -> Vec<WaitStatus> {
        let shown = |request: WaitingRequest| WaitStatus {
            profile: request.profile,
            for_s: request.sent_ago_ms.unwrap_or(request.waits_ms) / 1000,
            since_s: request.waits_ms / 1000,
            goes_on_in_s: request.goes_on_in_ms.map(|ms| ms.div_ceil(1000)),
            to: request.next,
        };
        let mut waits: Vec<WaitStatus> = self.requests_waiting().waiting.into_iter().map(shown).collect();
        waits.sort_by_key(|one| std::cmp::Reverse(one.since_s));
        waits
    }

    /// Whether the profile's credential can be read by this process. No program is run for it.
    pub(crate) fn credential_status(snapshot: &Snapshot, id: ProfileId) -> Option<(CredentialStatus, Option<CredentialError>)> {
        let credential = &snapshot.target(id)?.credential;
        let (source, from) = credential.source();
        let mut status = CredentialStatus { source: source.to_owned(), from, readable: None, problem: None };
        // Only a program or a renewal is waited for, and neither is begun here.
        let found = match credential.presence().now_or_never()? {
            Presence::There | Presence::Renewable => Ok(()),
            Presence::Missing(error) => Err(error),
            Presence::NotOurs => return Some((status, None)),
            Presence::Unasked => match credential.last_result() {
                Some(result) => result,
                None => return Some((status, None)),
            },
        };
        status.readable = Some(found.is_ok());
        let error = found.err();
        status.problem = error.as_ref().map(ToString::to_string);
        Some((status, error))
    }

    /// What the next request would meet. `model` is the one that it names; `None` for that of the last one.
    pub(crate) fn next_request(&self, now: Instant, snapshot: &Snapshot, model: Option<&str>) -> Option<NextRequest> {
        let mut facts = self.clients(|clients| clients.last.as_ref().map(|(_, facts)| facts.clone())).unwrap_or_else(unseen);
        if let Some(model) = model {
            facts.model = Some(model.into());
        }
        let chain = chain_for(&snapshot.rules, &facts)?;
        let known = self.with_world(|world| world.clone());
        let mut world = known.clone();
        let plan = plan(now, &facts, chain, &snapshot.policy, &mut world, None, |entry| snapshot.fit(entry, &facts));
        let mut at = Surroundings { world: &mut world, request_key: None, streamed: false, dice: 0.5 };
        let exchange = Exchange::new(now, facts.clone(), plan, snapshot.policy.clone(), &mut at);
        let plan = exchange.plan();
        let mut ids: Vec<ProfileId> = Vec::new();
        for entry in &chain.entries {
            if !ids.contains(&entry.profile) {
                ids.push(entry.profile);
            }
        }
        let looked = Looked { now, snapshot, facts: &facts, known: &known, plan };
        let prospects: Vec<(ProfileId, Prospect)> = ids.iter().map(|id| (*id, self.prospect(&looked, *id))).collect();
        let first = |wanted: Chance| {
            let order = plan.candidates.iter().map(|candidate| candidate.profile);
            order.filter_map(|id| prospects.iter().find(|(other, _)| *other == id)).find(|(_, prospect)| prospect.verdict == wanted)
        };
        let served_by = first(Chance::Usable).or_else(|| first(Chance::Unproven)).map(|(_, prospect)| prospect.profile.clone());
        Some(NextRequest {
            model: facts.model.as_ref().map(ToString::to_string),
            served_by,
            profiles: prospects.into_iter().map(|(_, prospect)| prospect).collect(),
        })
    }

    fn prospect(&self, looked: &Looked<'_>, id: ProfileId) -> Prospect {
        let Looked { now, snapshot, facts, known, plan } = *looked;
        let name = snapshot.name(id).to_owned();
        let prospect = |verdict, why: Option<String>, back_in_s| Prospect { profile: name.clone(), verdict, why, back_in_s };
        if let Some((_, Some(error))) = Self::credential_status(snapshot, id) {
            return prospect(Chance::Unusable, Some(missing_words(&error)), None);
        }
        let candidate = plan.candidates.iter().find(|candidate| candidate.profile == id);
        let skipped = plan.skipped.iter().find(|skipped| skipped.profile == id);
        let Some(candidate) = candidate else {
            let off = || if snapshot.policy.enabled { "not tried".to_owned() } else { "failover is off".to_owned() };
            let why = skipped.map_or_else(off, |skipped| skip_reason(now, known, skipped));
            return prospect(Chance::Unusable, Some(why), skipped.and_then(|skipped| back_in(now, &skipped.reason)));
        };
        let family = candidate.family(facts);
        let standing = known.health.standing(now, id, family, facts.own_credential).for_slow(facts.slow, candidate.terms.client_login);
        if let Standing::Cooling { until, because, grip } = standing {
            let verdict = if grip >= Grip::Hard || candidate.last_resort { Chance::Unusable } else { Chance::Unproven };
            let why = reason(because, last_failure(now, known, id).as_deref());
            return prospect(verdict, Some(why), Some(whole_seconds(until.saturating_duration_since(now))));
        }
        if candidate.last_resort {
            return prospect(Chance::Unusable, skipped.map(|skipped| skip_words(&skipped.reason)), None);
        }
        match self.clients(|clients| clients.failure(now, &name, family)) {
            Some((why, ago)) => prospect(Chance::Unproven, Some(format!("{why} {} s ago", ago.as_secs())), None),
            None => prospect(Chance::Usable, None, None),
        }
    }
}

/// What a forecast is made from.
#[derive(Clone, Copy)]
struct Looked<'a> {
    now: Instant,
    snapshot: &'a Snapshot,
    facts: &'a RequestFacts,
    known: &'a World,
    plan: &'a Plan,
}

fn skip_reason(now: Instant, known: &World, skipped: &Skipped) -> String {
    match &skipped.reason {
        SkipReason::Cooling { because, .. } => reason(*because, last_failure(now, known, skipped.profile).as_deref()),
        other => skip_words(other),
    }
}

fn last_failure(now: Instant, known: &World, id: ProfileId) -> Option<String> {
    known.health.report(now, id).last_failure.map(|(_, words)| words.to_string())
}

fn back_in(now: Instant, reason: &SkipReason) -> Option<u64> {
    match reason {
        SkipReason::Cooling { until, .. } | SkipReason::Refused { until, .. } => Some(whole_seconds(until.saturating_duration_since(now))),
        _ => None,
    }
}
