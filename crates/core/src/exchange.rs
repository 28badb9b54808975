//! Drives one client request from arrival to outcome, as a state machine: events in, actions out. Never sends, waits or reads a clock.
//!
//! The shell calls [`Exchange::poll`] until it gets [`Action::Wait`], then waits for its sockets or the deadline, reports what happened
//! with one of the `on_*` functions, and polls again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attempt::{AttemptId, AttemptKind, AttemptPlan, AttemptRecord};
use crate::commitment::{self, Commitment, Ending, Position};
use crate::facts::{Endpoint, RequestFacts};
use crate::failure::{Failure, FailureKind, NextStep, Stage, Verdict};
use crate::health::Health;
use crate::policy::{
    CLIENT_WAIT, HOLD_TIME, MAX_ATTEMPTS, OnExhausted, Policy, RETRY_IN_PLACE_CAP, SESSION_DETOUR, SESSION_DETOUR_AFTER_THINKING,
    WAIT_IN_PLACE,
};
use crate::retries::RetryMemory;
use crate::route::{Candidate, Plan, ProfileId};

/// What the exchange may know and change of the world while it decides.
pub struct World<'a> {
    /// Which profiles failed lately.
    pub health: &'a mut Health,
    /// Which sessions and requests failed lately.
    pub memory: &'a mut RetryMemory,
    /// The request's key (session, path and body, hashed), where it could be computed.
    pub request_key: Option<u64>,
    /// A throw of the dice in `0.0..1.0`.
    pub dice: f64,
}

/// What the shell is to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Begin this attempt; whatever ran before is over.
    Start(AttemptPlan),
    /// Nothing, until something happens or this instant comes.
    Wait(Option<Instant>),
    /// Send the head and all that is held; from here on the answer is this attempt's.
    Commit,
    /// Nothing was sent: this is the answer, and the exchange is over.
    Answer(Answer),
    /// The committed answer ends so, and the exchange is over.
    End(Ending),
}

/// The whole answer to a request that no profile could serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An upstream's own answer.
    Relay {
        /// Whose.
        attempt: AttemptId,
        /// Seconds put into `retry-after`; none leaves the provider's own.
        retry_after: Option<u32>,
        /// Whether `x-should-retry: false` is put in.
        final_word: bool,
    },
    /// Words of our own.
    Local(LocalAnswer),
}

/// An answer in Anthropic's error shape; the shell writes the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAnswer {
    /// HTTP status: 502, 503, 504 or 424.
    pub status: u16,
    /// The `error.type`.
    pub error_type: &'static str,
    /// Seconds, 1 to 59.
    pub retry_after: Option<u32>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The client has a whole answer.
    Served,
    /// The client has an upstream's own refusal, as that upstream gave it.
    Relayed,
    /// The answer broke after commit and was cut.
    Cut,
    /// The answer broke after commit and was handed back.
    HandedBack,
    /// No profile could answer.
    Exhausted,
    /// The client went away.
    Cancelled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [Self::Served, Self::Relayed, Self::Cut, Self::HandedBack, Self::Exhausted, Self::Cancelled];

    /// The word that stands for it in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Relayed => "relayed",
            Self::Cut => "cut",
            Self::HandedBack => "handed_back",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What kind of body a good head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// An event stream: held to its first content, judged by its end.
    Stream,
    /// One JSON document: held until it is whole.
    Whole,
    /// Anything: passed on as it comes.
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for the head.
    Head,
    /// Head and first events are held back.
    Held,
    /// The client has bytes.
    Flowing,
}

#[derive(Debug, Clone)]
struct Running {
    id: AttemptId,
    candidate: Candidate,
    phase: Phase,
    body: BodyKind,
    /// When the request, or its last part, went out.
    sent: Instant,
    head: Instant,
    last_bytes: Instant,
    last_content: Instant,
    succeeded: bool,
}

/// One client request and its answer.
#[derive(Debug)]
pub struct Exchange {
    facts: RequestFacts,
    plan: Plan,
    policy: Arc<Policy>,
    started: Instant,
    attempts: Vec<AttemptRecord>,
    attempts_allowed: usize,
    next_candidate: usize,
    hops: usize,
    bare_limit_hops: usize,
    fresh_retry_used: bool,
    in_place_retry_used: bool,
    replayable: bool,
    running: Option<Running>,
    commitment: Commitment,
    pending: Option<Action>,
    outcome: Option<Outcome>,
}

impl Exchange {
    /// Begins with the plan's first candidate. `attempts_left` is what the request's own retries have left of their common limit.
    pub fn new(now: Instant, facts: RequestFacts, plan: Plan, policy: Arc<Policy>, attempts_left: u32) -> Self {
        let mut exchange = Self {
            facts,
            plan,
            policy,
            started: now,
            attempts: Vec::with_capacity(1),
            attempts_allowed: MAX_ATTEMPTS.min(attempts_left as usize).max(1),
            next_candidate: 0,
            hops: 0,
            bare_limit_hops: 0,
            fresh_retry_used: false,
            in_place_retry_used: false,
            replayable: true,
            running: None,
            commitment: Commitment::Open,
            pending: None,
            outcome: None,
        };
        match exchange.plan.candidates.first().cloned() {
            Some(first) => exchange.start(now, first, AttemptKind::Initial, false, Duration::ZERO),
            None => exchange.answer(Answer::Local(LocalAnswer { status: 424, error_type: "invalid_request_error", retry_after: None })),
        }
        exchange
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Action {
        self.pending.take().unwrap_or_else(|| Action::Wait(self.poll_timeout()))
    }

    /// When [`Exchange::on_timer`] must be called if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        let clocks = &running.candidate.terms.clocks;
        match running.phase {
            Phase::Head => Some(running.sent + clocks.head),
            Phase::Held => {
                let first_content = match running.body {
                    BodyKind::Stream => running.head + clocks.first_content,
                    BodyKind::Whole | BodyKind::Opaque => running.head + clocks.content_idle.max(HOLD_TIME),
                };
                Some(first_content.min(running.last_bytes + clocks.bytes_idle).min(self.hold_ends(running)))
            }
            Phase::Flowing if running.succeeded => Some(running.last_bytes + clocks.bytes_idle),
            Phase::Flowing => {
                let bytes = running.last_bytes + clocks.bytes_idle;
                Some(if running.body == BodyKind::Stream { bytes.min(running.last_content + clocks.content_idle) } else { bytes })
            }
        }
    }

    fn hold_ends(&self, running: &Running) -> Instant {
        if running.body == BodyKind::Stream { self.started + HOLD_TIME } else { running.head + 2 * HOLD_TIME }
    }

    /// The request body cannot be sent a second time: from the first body byte on this attempt is the last.
    pub fn cannot_replay(&mut self) {
        self.replayable = false;
    }

    /// A good head came. An opaque body is committed at once.
    pub fn on_head(&mut self, now: Instant, body: BodyKind) {
        let Some(running) = &mut self.running else { return };
        running.body = body;
        running.phase = Phase::Held;
        running.head = now;
        running.last_bytes = now;
        running.last_content = now;
        let id = running.id;
        if let Some(record) = self.attempts.get_mut(usize::from(id.0)) {
            record.head = Some(now);
        }
        self.commitment = Commitment::Held;
        if body == BodyKind::Opaque {
            self.commit(now);
        }
    }

    /// Bytes came, whatever they hold.
    pub fn on_bytes(&mut self, now: Instant) {
        if let Some(running) = &mut self.running {
            running.last_bytes = now;
        }
    }

    /// An event with content came. The first one commits.
    pub fn on_content(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        running.last_content = now;
        let (held, id) = (running.phase == Phase::Held, running.id);
        if let Some(record) = self.attempts.get_mut(usize::from(id.0)) {
            record.first_content.get_or_insert(now);
        }
        if held {
            self.commit(now);
        }
    }

    /// What is held has reached its bound: it is released.
    pub fn on_held_full(&mut self, now: Instant) {
        self.commit(now);
    }

    /// The answer is whole in meaning: a stop reason came, or one JSON document ended. Bytes may still follow.
    pub fn on_success(&mut self, now: Instant, world: &mut World<'_>) {
        let Some(running) = &mut self.running else { return };
        if std::mem::replace(&mut running.succeeded, true) {
            return;
        }
        let profile = running.candidate.profile;
        let family = running.candidate.family(&self.facts);
        if self.facts.endpoint.moves_health() {
            world.health.on_success(now, profile, family);
        }
        self.commit(now);
    }

    /// The upstream ended its answer properly.
    pub fn on_end(&mut self, now: Instant, position: &Position, world: &mut World<'_>) {
        let Some(running) = &self.running else { return };
        if running.succeeded || running.body == BodyKind::Opaque {
            self.end(now, Ending::Complete);
            return;
        }
        let failure = Failure::new(FailureKind::StreamDied, self.stage(), "ended before the answer was complete");
        self.on_failure(now, failure, position, world);
    }

    /// A deadline of [`Exchange::poll_timeout`] came. `sent` is when the last part of the request went out.
    pub fn on_timer(&mut self, now: Instant, sent: Option<Instant>, position: &Position, world: &mut World<'_>) {
        if let (Some(running), Some(sent)) = (&mut self.running, sent) {
            running.sent = running.sent.max(sent);
        }
        let (Some(running), Some(due)) = (&self.running, self.poll_timeout()) else { return };
        if now < due {
            return;
        }
        let clocks = &running.candidate.terms.clocks;
        let silent = now >= running.last_bytes + clocks.bytes_idle;
        let failure = match running.phase {
            Phase::Head => Failure::new(FailureKind::HeadTimeout, Stage::Send, format!("no answer within {}", seconds(clocks.head))),
            Phase::Flowing if running.succeeded => return self.end(now, Ending::Complete),
            Phase::Held if !silent && now >= self.hold_ends(running) => return self.commit(now),
            Phase::Held if silent => Failure::new(FailureKind::Stalled, Stage::Held, format!("silent for {}", seconds(clocks.bytes_idle))),
            Phase::Held => Failure::new(FailureKind::Stalled, Stage::Held, format!("no content within {}", seconds(clocks.first_content))),
            Phase::Flowing if silent => {
                Failure::new(FailureKind::Stalled, Stage::Committed, format!("silent for {}", seconds(clocks.bytes_idle)))
            }
            Phase::Flowing => {
                Failure::new(FailureKind::Stalled, Stage::Committed, format!("no content for {}", seconds(clocks.content_idle)))
            }
        };
        self.on_failure(now, failure, position, world);
    }

    /// The running attempt failed. `position` is what the client has seen.
    pub fn on_failure(&mut self, now: Instant, mut failure: Failure, position: &Position, world: &mut World<'_>) {
        let Some(running) = self.running.clone() else { return };
        if self.commitment == Commitment::Committed {
            failure.stage = Stage::Committed;
        }
        if running.succeeded {
            // Everything that counts has come: what the upstream does after it harms nobody.
            return self.end(now, Ending::Complete);
        }
        self.learn(now, &running, &failure, position, world);
        if let Some(record) = self.attempts.get_mut(usize::from(running.id.0)) {
            record.ended = Some(now);
            record.failure = Some(failure.clone());
        }
        self.running = None;
        if failure.stage == Stage::Committed {
            let ending = match running.body {
                BodyKind::Stream => commitment::ending(position, self.facts.client, self.policy.mid_stream),
                BodyKind::Whole | BodyKind::Opaque => Ending::Cut,
            };
            return self.end(now, ending);
        }
        self.commitment = Commitment::Open;
        self.go_on(now, &running, &failure, world);
    }

    /// The client hung up. Says nothing about the profile.
    pub fn on_client_gone(&mut self, now: Instant) {
        self.finish(now, Outcome::Cancelled);
        self.running = None;
        self.pending = None;
    }

    fn learn(&self, now: Instant, running: &Running, failure: &Failure, position: &Position, world: &mut World<'_>) {
        if !self.facts.endpoint.moves_health() {
            return;
        }
        let profile = running.candidate.profile;
        let family = running.candidate.family(&self.facts);
        let credential = if running.candidate.terms.client_login { self.facts.own_credential } else { None };
        let another = self.other_usable(now, profile, world.health);
        world.health.on_failure(now, profile, family, failure, credential, another);
        let died_in_hands = failure.stage == Stage::Committed;
        if failure.verdict() == Verdict::Neutral && !died_in_hands {
            return;
        }
        let time = if position.closed_thinking { SESSION_DETOUR_AFTER_THINKING } else { SESSION_DETOUR };
        if let Some(key) = world.request_key {
            world.memory.avoid_for_request(now, key, profile, time);
            world.memory.count_attempts(now, key, 1);
        }
        if let (true, Some(session)) = (died_in_hands, self.facts.session) {
            world.memory.avoid_for_session(now, session, profile, time);
        }
    }

    fn other_usable(&self, now: Instant, profile: ProfileId, health: &Health) -> bool {
        self.plan.candidates.iter().filter(|candidate| candidate.profile != profile).any(|candidate| {
            let family = candidate.family(&self.facts);
            health.standing(now, candidate.profile, family, self.facts.own_credential) == crate::health::Standing::Usable
        })
    }

    /// Nothing was sent and an attempt failed: what now?
    fn go_on(&mut self, now: Instant, running: &Running, failure: &Failure, world: &World<'_>) {
        let from_primary = running.candidate.profile == self.plan.primary;
        let step = self.step(failure, from_primary);
        match step {
            NextStep::SameFresh if !self.fresh_retry_used => {
                self.fresh_retry_used = true;
                self.start(now, running.candidate.clone(), AttemptKind::Retry, true, Duration::ZERO);
            }
            NextStep::Relay => self.relay_or_explain(now, running.id, failure, world),
            NextStep::SameFresh | NextStep::NextProfile | NextStep::NextProfileOnce => {
                if step == NextStep::NextProfileOnce {
                    self.bare_limit_hops += 1;
                }
                let hop_allowed = step != NextStep::NextProfileOnce || self.bare_limit_hops <= 1;
                if let Some(next) = self.next_profile(hop_allowed) {
                    self.hops += 1;
                    self.start(now, next, AttemptKind::Failover, false, Duration::ZERO);
                } else if let Some(delay) = self.retry_in_place(failure, world.dice) {
                    self.in_place_retry_used = true;
                    self.start(now, running.candidate.clone(), AttemptKind::Retry, false, delay);
                } else {
                    self.give_up(now, world);
                }
            }
        }
    }

    fn step(&self, failure: &Failure, from_primary: bool) -> NextStep {
        let step = failure.kind.next_step(from_primary);
        let sent = failure.stage > Stage::Connect;
        // Unknown endpoints may have side effects, and a body that is gone cannot be sent again.
        let bound = sent && (self.facts.endpoint == Endpoint::Other || !self.replayable);
        if bound || !self.policy.triggers.fire(failure) { NextStep::Relay } else { step }
    }

    fn next_profile(&mut self, hop_allowed: bool) -> Option<Candidate> {
        if !hop_allowed || self.hops >= self.policy.max_hops || self.counted_attempts() >= self.attempts_allowed {
            return None;
        }
        let next = self.plan.candidates.get(self.next_candidate)?.clone();
        Some(next)
    }

    fn retry_in_place(&self, failure: &Failure, dice: f64) -> Option<Duration> {
        let alone = self.plan.candidates.len() == 1;
        if !alone || self.in_place_retry_used || self.counted_attempts() >= self.attempts_allowed || !self.facts.endpoint.moves_health() {
            return None;
        }
        match (failure.kind, failure.retry_after) {
            (FailureKind::Throttled, Some(after)) if after <= WAIT_IN_PLACE => Some(after),
            (kind, after) if kind.may_retry_in_place() && after.unwrap_or_default() <= WAIT_IN_PLACE => {
                Some(after.unwrap_or_default().max(RETRY_IN_PLACE_CAP.mul_f64(dice.clamp(0.0, 1.0))))
            }
            _ => None,
        }
    }

    /// Attempts that count against the limit: all but the one on a fresh connection after a stale one.
    fn counted_attempts(&self) -> usize {
        self.attempts.len() - usize::from(self.fresh_retry_used)
    }

    fn start(&mut self, now: Instant, candidate: Candidate, kind: AttemptKind, fresh_connection: bool, delay: Duration) {
        let id = AttemptId(u8::try_from(self.attempts.len()).expect("an exchange makes at most five attempts"));
        self.attempts.push(AttemptRecord {
            profile: candidate.profile,
            kind,
            started: now,
            head: None,
            first_content: None,
            ended: None,
            failure: None,
        });
        if kind != AttemptKind::Retry {
            self.next_candidate += 1;
        }
        let at = now + delay;
        self.running = Some(Running {
            id,
            candidate: candidate.clone(),
            phase: Phase::Head,
            body: BodyKind::Opaque,
            sent: at,
            head: at,
            last_bytes: at,
            last_content: at,
            succeeded: false,
        });
        self.pending = Some(Action::Start(AttemptPlan { id, kind, candidate, fresh_connection, delay }));
    }

    fn commit(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        if running.phase != Phase::Held {
            return;
        }
        running.phase = Phase::Flowing;
        running.last_content = now;
        self.commitment = Commitment::Committed;
        self.pending = Some(Action::Commit);
    }

    fn stage(&self) -> Stage {
        match self.commitment {
            Commitment::Open => Stage::Send,
            Commitment::Held => Stage::Held,
            Commitment::Committed => Stage::Committed,
        }
    }

    fn end(&mut self, now: Instant, ending: Ending) {
        self.finish(
            now,
            match ending {
                Ending::Complete => Outcome::Served,
                Ending::Cut => Outcome::Cut,
                Ending::HandBack => Outcome::HandedBack,
            },
        );
        self.pending = Some(Action::End(ending));
    }

    fn answer(&mut self, answer: Answer) {
        self.outcome.get_or_insert(match answer {
            Answer::Relay { .. } => Outcome::Relayed,
            Answer::Local(_) => Outcome::Exhausted,
        });
        self.running = None;
        self.pending = Some(Action::Answer(answer));
    }

    fn finish(&mut self, now: Instant, outcome: Outcome) {
        if let Some(record) = self.running.as_ref().and_then(|running| self.attempts.get_mut(usize::from(running.id.0))) {
            record.ended.get_or_insert(now);
        }
        self.outcome.get_or_insert(outcome);
    }

    fn relay_or_explain(&mut self, now: Instant, attempt: AttemptId, failure: &Failure, world: &World<'_>) {
        // A spare's own 4xx never takes the place of what the primary said.
        let primary_said_more = self
            .attempts
            .iter()
            .filter_map(|record| record.failure.as_ref())
            .any(|earlier| earlier.recoverability() > failure.recoverability());
        if relayable(failure) && !primary_said_more {
            self.answer(Answer::Relay { attempt, retry_after: None, final_word: false });
        } else {
            self.give_up(now, world);
        }
    }

    /// Every attempt failed: the client hears the most recoverable failure, in the form that makes it do the right thing.
    fn give_up(&mut self, now: Instant, world: &World<'_>) {
        let best = self
            .attempts
            .iter()
            .enumerate()
            .filter_map(|(index, record)| record.failure.as_ref().map(|failure| (index, record, failure)))
            .max_by_key(|(index, _, failure)| {
                (failure.recoverability(), std::cmp::Reverse(failure.retry_after), std::cmp::Reverse(*index))
            });
        let Some((index, record, failure)) = best else {
            return self.answer(Answer::Local(LocalAnswer { status: 503, error_type: "overloaded_error", retry_after: Some(1) }));
        };
        let attempt = AttemptId(u8::try_from(index).expect("an exchange makes at most five attempts"));
        let client_login = self.plan.candidates.iter().any(|candidate| candidate.profile == record.profile && candidate.terms.client_login);
        let answer = self.shape(attempt, failure, client_login, self.seconds_to_next(now, world.health));
        self.answer(answer);
    }

    fn shape(&self, attempt: AttemptId, failure: &Failure, client_login: bool, wait: u32) -> Answer {
        let relay = |retry_after, final_word| Answer::Relay { attempt, retry_after, final_word };
        if self.plan.lone && relayable(failure) {
            // Without a spare there is nothing to decide: the client sees what it would have seen without us.
            return relay(None, false);
        }
        let explain = Answer::Local(LocalAnswer { status: 424, error_type: "invalid_request_error", retry_after: None });
        let local = |status, error_type, retry_after: u32| match self.plan.on_exhausted {
            OnExhausted::Wait => Answer::Local(LocalAnswer { status, error_type, retry_after: Some(retry_after) }),
            OnExhausted::Fail => explain.clone(),
        };
        let relay_or_wait = |retry_after: u32| match self.plan.on_exhausted {
            OnExhausted::Wait if relayable(failure) => relay(Some(retry_after), false),
            OnExhausted::Wait => local(503, "overloaded_error", retry_after),
            OnExhausted::Fail => explain.clone(),
        };
        match failure.kind {
            FailureKind::Overloaded | FailureKind::ServerError | FailureKind::Throttled => relay_or_wait(wait),
            FailureKind::QuotaExhausted if client_login && relayable(failure) => relay(None, false),
            FailureKind::Unauthorized if client_login && relayable(failure) => relay(None, false),
            FailureKind::QuotaExhausted
            | FailureKind::BadGateway
            | FailureKind::ConnectRefused
            | FailureKind::Unreachable
            | FailureKind::Dns
            | FailureKind::ConnectTimeout
            | FailureKind::TlsHandshake
            | FailureKind::StaleConnection
            | FailureKind::ClosedBeforeHead
            | FailureKind::StreamDied
            | FailureKind::Stalled
            | FailureKind::Malformed => local(503, "overloaded_error", wait),
            FailureKind::HeadTimeout => local(504, "timeout_error", wait),
            FailureKind::WrongContent | FailureKind::BadHead => local(502, "api_error", wait),
            FailureKind::SpendCap if relayable(failure) => relay(None, true),
            FailureKind::BareRateLimit
            | FailureKind::ModelNotFound
            | FailureKind::ProviderBound
            | FailureKind::BadRequest
            | FailureKind::TooLarge
                if relayable(failure) =>
            {
                relay(None, false)
            }
            FailureKind::SpendCap
            | FailureKind::BareRateLimit
            | FailureKind::ModelNotFound
            | FailureKind::ProviderBound
            | FailureKind::BadRequest
            | FailureKind::TooLarge
            | FailureKind::Unauthorized
            | FailureKind::Forbidden
            | FailureKind::Billing
            | FailureKind::TlsCertificate
            | FailureKind::Redirect
            | FailureKind::NoCredential
            | FailureKind::CannotReplay => explain,
        }
    }

    /// Seconds until the first profile may be asked again, in the range that the client waits out.
    fn seconds_to_next(&self, now: Instant, health: &Health) -> u32 {
        let family = self.facts.family();
        let profiles =
            self.plan.candidates.iter().map(|candidate| candidate.profile).chain(self.plan.skipped.iter().map(|skipped| skipped.profile));
        let wait = health.soonest(now, profiles, family, self.facts.own_credential).unwrap_or_default();
        let rounded = wait.min(CLIENT_WAIT).as_millis().div_ceil(1000);
        u32::try_from(rounded).unwrap_or(1).clamp(1, 59)
    }

    /// What was asked for.
    pub fn facts(&self) -> &RequestFacts {
        &self.facts
    }

    /// The plan it follows.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Every attempt so far.
    pub fn attempts(&self) -> &[AttemptRecord] {
        &self.attempts
    }

    /// What has reached the client.
    pub fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }
}

/// Whether there is an upstream's answer that may be passed on: a real one, with a status, and no redirect.
fn relayable(failure: &Failure) -> bool {
    failure.status.is_some()
        && failure.stage == Stage::Head
        && !matches!(failure.kind, FailureKind::Redirect | FailureKind::WrongContent | FailureKind::BadHead)
}

fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{:.1} s", time.as_secs_f64()) }
}

#[cfg(test)]
mod tests;
