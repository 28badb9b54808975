//! Drives one client request from arrival to outcome, as a state machine: events in, actions out. Never sends, waits or reads a clock.
//!
//! The shell calls [`Exchange::poll`] until it gets [`Action::Wait`], then waits for its sockets or the deadline, reports what happened
//! with one of the `on_*` functions, and polls again.

mod answers;
mod choice;
mod consult;
mod following;
mod holding;
mod learning;
mod racing;
mod run;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::answers::TOO_LONG_STATUS;
pub use self::consult::{Consultation, Ruling};
use self::consult::{Consulting, Next};
use self::holding::Holding;
use self::run::{Due, Phase, Run};
use crate::attempt::{AttemptId, AttemptKind, AttemptPlan, AttemptRecord};
use crate::commitment::{Commitment, Ending, Position};
use crate::facts::{Endpoint, RequestFacts};
use crate::failure::{Failure, FailureKind, Stage};
use crate::fit::Needs;
use crate::health::Standing;
use crate::policy::{CLIENT_PATIENCE, HOLD_OPEN, MAX_ATTEMPTS, MAX_ATTEMPTS_PER_KEY, PATIENCE_SHARE, Policy};
use crate::record::Decision;
use crate::route::{Candidate, Plan, ProfileId};
use crate::spend::Reservation;
use crate::window::LimitReading;
use crate::world::Surroundings;

/// What the shell is to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Begin this attempt. Attempts that were begun before and have not failed go on.
    Start(AttemptPlan),
    /// Drop this attempt: another was faster.
    Cancel(AttemptId),
    /// Nothing, until something happens or this instant comes.
    Wait(Option<Instant>),
    /// Send a head of our own and keep it alive: the answer comes when a profile recovers.
    HoldOpen,
    /// Make a new plan and give it to [`Exchange::on_plan`].
    PlanAnew,
    /// Ask the user's hooks and tell [`Exchange::on_ruling`] what they say. Nothing else is begun before.
    Consult(Consultation),
    /// Send this attempt's head and all that is held; from here on the answer is this attempt's. For [`AttemptKind::Resume`] and after
    /// [`Action::HoldOpen`] the client has a head already: only content goes on.
    Commit(AttemptId),
    /// Nothing was sent: this is the answer, and the exchange is over.
    Answer(Answer),
    /// The committed answer ends so, and the exchange is over.
    End(Ending),
}

/// What a request without an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The profile that it was sent to last and that has not failed; `None` if no attempt is under way.
    pub profile: Option<ProfileId>,
    /// When it was sent there.
    pub since: Option<Instant>,
    /// The profile that is tried next; `None` if no further one would be.
    pub next: Option<ProfileId>,
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
    /// The last refusal of a blocked profile that passes the client's own login on, as it came then.
    Remembered {
        /// The profile.
        profile: ProfileId,
        /// The answer where no refusal is remembered.
        instead: LocalAnswer,
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

/// One client request and its answer.
#[derive(Debug)]
pub struct Exchange {
    facts: RequestFacts,
    plan: Plan,
    policy: Arc<Policy>,
    started: Instant,
    attempts: Vec<AttemptRecord>,
    attempts_allowed: usize,
    /// Attempts that were counted against the request's limit over all of the client's own retries.
    counted: usize,
    /// Not asked yet.
    queue: VecDeque<Candidate>,
    asked: Vec<Candidate>,
    hops: usize,
    /// Addresses that said "too many requests".
    throttled_at: Vec<u64>,
    fresh_retry_used: bool,
    reread_used: bool,
    repair_used: bool,
    in_place_retry_used: bool,
    resumed: bool,
    replayable: bool,
    /// Under way: one, or two that race.
    runs: Vec<Run>,
    commitment: Commitment,
    holding: Option<Holding>,
    /// The user's word is waited for.
    consulting: Option<Box<Consulting>>,
    /// How often it was asked for with this plan.
    consultations: usize,
    /// The session was at home with another profile before this answer.
    left: Option<ProfileId>,
    found_nobody: bool,
    began_elsewhere: bool,
    pending: VecDeque<Action>,
    outcome: Option<Outcome>,
}

impl Exchange {
    /// Begins with the plan's first candidate.
    pub fn new(now: Instant, facts: RequestFacts, plan: Plan, policy: Arc<Policy>, at: &mut Surroundings<'_>) -> Self {
        let left = at.world.retries.attempts_left(now, at.request_key);
        if policy.hedge {
            at.world.hedges.on_request(now);
        }
        let attempts_allowed = if plan.lone { MAX_ATTEMPTS } else { MAX_ATTEMPTS.min(left as usize) };
        let mut exchange = Self {
            queue: plan.candidates.iter().cloned().collect(),
            facts,
            plan,
            policy,
            started: now,
            attempts: Vec::with_capacity(1),
            attempts_allowed,
            counted: 0,
            asked: Vec::with_capacity(1),
            hops: 0,
            throttled_at: Vec::new(),
            fresh_retry_used: false,
            reread_used: false,
            repair_used: false,
            in_place_retry_used: false,
            resumed: false,
            replayable: true,
            runs: Vec::with_capacity(1),
            commitment: Commitment::Open,
            holding: None,
            consulting: None,
            consultations: 0,
            left: None,
            found_nobody: false,
            began_elsewhere: false,
            pending: VecDeque::with_capacity(1),
            outcome: None,
        };
        exchange.leave_out_unfit(at);
        match exchange.queue.pop_front() {
            Some(_) if attempts_allowed == 0 => exchange.answer_later(now, at),
            Some(first) => exchange.go_or_ask(now, Next::Move { to: first, kind: AttemptKind::Initial, after: None }, at),
            None => exchange.answer_without_asking(now, at),
        }
        exchange
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Action {
        self.pending.pop_front().unwrap_or_else(|| Action::Wait(self.poll_timeout()))
    }

    /// Whether [`Exchange::poll`] has something to do.
    pub fn has_action(&self) -> bool {
        !self.pending.is_empty()
    }

    /// When [`Exchange::on_timer`] must be called if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let runs = self.runs.iter().map(|run| run.deadline(self.started));
        let holding = self.holding.filter(|_| self.commitment != Commitment::Committed);
        let hold = holding.map(|holding| holding.wake.unwrap_or(holding.since + HOLD_OPEN).min(holding.since + HOLD_OPEN));
        let word = self.consulting.as_ref().map(|consulting| consulting.until);
        runs.chain(hold).chain(word).chain(self.hedge_due()).min()
    }

    /// The request body cannot be sent a second time: from the first body byte on this attempt is the last.
    pub fn cannot_replay(&mut self) {
        self.replayable = false;
    }

    /// What the request needs of whoever serves it has been found out.
    pub fn on_needs(&mut self, needs: Needs) {
        self.facts.needs = Some(needs);
    }

    /// Whether what the request needs is still to be found out before another profile is asked.
    pub fn asks_for_needs(&self) -> bool {
        self.facts.needs.is_none() && self.queue.iter().any(|candidate| candidate.terms.takes.is_limited())
    }

    /// A good head came. An opaque body is committed at once.
    pub fn on_head(&mut self, now: Instant, id: AttemptId, body: BodyKind, at: &mut Surroundings<'_>) {
        let Some(run) = self.run_mut(id).filter(|run| run.phase == Phase::Head) else { return };
        run.body = body;
        run.phase = Phase::Held;
        run.head = now;
        run.last_bytes = now;
        run.last_content = now;
        let (profile, host, sent) = (run.candidate.profile, run.candidate.terms.host, run.sent);
        if self.facts.endpoint.moves_health() {
            at.world.health.on_head(profile, host, now.saturating_duration_since(sent));
        }
        self.record_mut(id).head = Some(now);
        if self.commitment == Commitment::Open {
            self.commitment = Commitment::Held;
        }
        if body == BodyKind::Opaque {
            self.commit(now, id, at);
        }
    }

    /// The first bytes of the body show what it is, whatever the head announced.
    pub fn on_body(&mut self, id: AttemptId, body: BodyKind) {
        if let Some(run) = self.run_mut(id).filter(|run| run.phase == Phase::Held) {
            run.body = body;
        }
    }

    /// What an answer's head said of limits. Only those of questions count: counting tokens, for instance, has its own.
    pub fn on_limits(&mut self, now: Instant, id: AttemptId, reading: &LimitReading, at: &mut Surroundings<'_>) {
        let moves_health = self.facts.endpoint.moves_health();
        let Some(run) = self.run(id).filter(|_| moves_health) else { return };
        let candidate = run.candidate.clone();
        let victim = self.victim(now, &candidate, at);
        at.world.health.on_limits(now, &victim, reading, at.dice);
    }

    /// Bytes came, whatever they hold.
    pub fn on_bytes(&mut self, now: Instant, id: AttemptId) {
        if let Some(run) = self.run_mut(id) {
            run.last_bytes = now;
        }
    }

    /// The first event with content came: it commits.
    pub fn on_first_content(&mut self, now: Instant, id: AttemptId, at: &mut Surroundings<'_>) {
        self.on_content(now, id);
        self.commit(now, id, at);
    }

    /// One more event with content came. Says nothing to anybody else, so that a stream's events need no [`Surroundings`].
    pub fn on_content(&mut self, now: Instant, id: AttemptId) {
        let Some(run) = self.run_mut(id) else { return };
        run.last_content = now;
        self.record_mut(id).first_content.get_or_insert(now);
    }

    /// What is held has reached its bound: it is released. A document that is no longer gathered is passed on as it comes.
    pub fn on_held_full(&mut self, now: Instant, id: AttemptId, at: &mut Surroundings<'_>) {
        if let Some(run) = self.run_mut(id).filter(|run| run.body == BodyKind::Whole) {
            run.body = BodyKind::Opaque;
        }
        self.commit(now, id, at);
    }

    /// Inside its stream the answer refuses the request itself: the client gets it as it came, and it says nothing about the profile.
    pub fn on_refusal(&mut self, now: Instant, id: AttemptId, at: &mut Surroundings<'_>) {
        let Some(run) = self.run_mut(id) else { return };
        // All that counts has come.
        run.succeeded = true;
        let candidate = run.candidate.clone();
        at.world.health.abandon(candidate.profile, candidate.family(&self.facts));
        self.count_attempts(now, at);
        self.commit(now, id, at);
        self.decide(id, Decision::Relay);
        self.outcome = Some(Outcome::Relayed);
    }

    /// The answer is whole in meaning: a stop reason came, or one JSON document ended. Bytes may still follow. `mid_turn`: it asks for a
    /// tool, so the client's turn goes on.
    pub fn on_success(&mut self, now: Instant, id: AttemptId, mid_turn: bool, at: &mut Surroundings<'_>) {
        let Some(run) = self.run_mut(id) else { return };
        if std::mem::replace(&mut run.succeeded, true) {
            return;
        }
        run.last_content = now;
        let (candidate, began, kind) = (run.candidate.clone(), run.began, run.kind);
        let family = candidate.family(&self.facts);
        if self.facts.endpoint.moves_health() {
            at.world.health.on_success(now, candidate.profile, family, began, self.policy.failback.after_good);
            if let Some(session) = self.facts.stay_key().filter(|_| !self.facts.side) {
                let home = at.world.affinity.previous(now, session);
                self.left = home.filter(|home| *home != candidate.profile);
                at.world.affinity.on_served(now, session, candidate.profile, self.facts.cache_life, mid_turn);
            }
        }
        self.learn_from_answer(now, candidate.profile, at);
        self.count_attempts(now, at);
        if kind == AttemptKind::Initial {
            at.world.budget.refund();
        }
        self.commit(now, id, at);
    }

    /// The upstream ended its answer properly.
    pub fn on_end(&mut self, now: Instant, id: AttemptId, position: &Position, at: &mut Surroundings<'_>) {
        let Some(run) = self.run(id) else { return };
        if run.body == BodyKind::Opaque && self.facts.endpoint.moves_health() {
            // It could not be read on its way: that it ends properly is all that is known of it.
            self.on_success(now, id, false, at);
        }
        let Some(run) = self.run(id) else { return };
        if run.succeeded || run.body == BodyKind::Opaque {
            return self.end(now, Ending::Complete);
        }
        let failure = Failure::new(FailureKind::StreamDied, run.stage(), "ended before the answer was complete");
        self.on_failure(now, id, failure, position, at);
    }

    /// A deadline of [`Exchange::poll_timeout`] came. `sent` is when the last part of the request went out.
    pub fn on_timer(&mut self, now: Instant, sent: Option<Instant>, position: &Position, at: &mut Surroundings<'_>) {
        if let Some(sent) = sent {
            for run in self.runs.iter_mut().filter(|run| run.phase == Phase::Head) {
                run.sent = run.sent.max(sent);
            }
        }
        if self.holding_is_over(now) {
            for run in &self.runs {
                at.world.health.abandon(run.candidate.profile, run.candidate.family(&self.facts));
            }
            return self.end(now, Ending::Cut);
        }
        if let Some(holding) = &mut self.holding
            && holding.wake.is_some_and(|wake| wake <= now)
        {
            holding.wake = None;
            self.pending.push_back(Action::PlanAnew);
            return;
        }
        if self.consulting.as_ref().is_some_and(|consulting| consulting.until <= now) {
            return self.on_ruling(now, Ruling::Allow, at);
        }
        let due = self.runs.iter().map(|run| (run.id, run.due(now, self.started))).find(|(_, due)| *due != Due::Nothing);
        match due {
            Some((id, Due::Release)) => self.commit(now, id, at),
            Some((_, Due::Complete)) => self.end(now, Ending::Complete),
            Some((id, Due::Failed(failure))) => self.on_failure(now, id, failure, position, at),
            Some((_, Due::Nothing)) | None => self.hedge_if_due(now, at),
        }
    }

    /// An attempt failed. `position` is what the client has seen.
    pub fn on_failure(&mut self, now: Instant, id: AttemptId, mut failure: Failure, position: &Position, at: &mut Surroundings<'_>) {
        let Some(place) = self.runs.iter().position(|run| run.id == id) else { return };
        let run = self.runs[place].clone();
        if run.phase == Phase::Flowing {
            failure.stage = Stage::Committed;
        }
        if run.succeeded {
            // Everything that counts has come: what the upstream does after it harms nobody.
            return self.end(now, Ending::Complete);
        }
        self.runs.remove(place);
        self.count_attempts(now, at);
        if run.is_cut_short(now) && failure.timed_out() {
            // The client's own limit is short: that the profile is slower says nothing to others.
            self.learn_from_impatience(now, &run, at);
        } else {
            self.learn(now, &run, &failure, position, at);
        }
        let record = self.record_mut(id);
        record.ended = Some(now);
        record.failure = Some(failure.clone());
        if self.commitment == Commitment::Committed {
            return self.repair(now, &run, &failure, position, at);
        }
        if !self.runs.is_empty() {
            // The other one of a race goes on.
            return self.decide(id, Decision::NextProfile);
        }
        self.commitment = Commitment::Open;
        self.go_on(now, &run, &failure, at);
    }

    /// The client hung up. Moves no other request; its own next try avoids a profile that it waited for in vain.
    pub fn on_client_gone(&mut self, now: Instant, at: &mut Surroundings<'_>) {
        self.count_attempts(now, at);
        for run in std::mem::take(&mut self.runs) {
            self.learn_from_impatience(now, &run, at);
            at.world.health.abandon(run.candidate.profile, run.candidate.family(&self.facts));
            let record = self.record_mut(run.id);
            record.ended.get_or_insert(now);
            record.decision.get_or_insert(Decision::Drop);
        }
        self.outcome.get_or_insert(Outcome::Cancelled);
        self.consulting = None;
        self.pending.clear();
    }

    /// A new plan, asked for by [`Action::PlanAnew`].
    pub fn on_plan(&mut self, now: Instant, plan: Plan, at: &mut Surroundings<'_>) {
        self.queue = plan.candidates.iter().cloned().collect();
        self.plan = plan;
        self.leave_out_unfit(at);
        self.consultations = 0;
        // There is time: who still cools down is not asked before it is well.
        let well = self.queue.iter().position(|candidate| candidate.insist || self.is_well(now, candidate, at));
        let left = at.world.retries.attempts_left(now, at.request_key);
        let few = self.attempts.len() < MAX_ATTEMPTS_PER_KEY as usize && left > 0;
        match well.filter(|_| few).and_then(|place| self.queue.remove(place)) {
            Some(to) => self.go_or_ask(now, Next::Move { to, kind: AttemptKind::Failover, after: None }, at),
            None => self.keep_waiting(now, at),
        }
    }

    /// Whether the answer's own word that a limit is reached must be kept from the client: it would stop although others can serve.
    pub fn hides_limits(&self, now: Instant, id: AttemptId, at: &Surroundings<'_>) -> bool {
        self.run(id).is_some_and(|run| self.other_usable(now, run.candidate.profile, at))
    }

    // What is done.

    fn start(
        &mut self,
        now: Instant,
        candidate: Candidate,
        kind: AttemptKind,
        fresh_connection: bool,
        delay: Duration,
        at: &mut Surroundings<'_>,
    ) {
        let id = AttemptId(u8::try_from(self.attempts.len()).expect("an exchange makes few attempts"));
        let on_trial = !self.plan.lone && (candidate.insist || self.standing(now, &candidate, at) == Standing::Trial);
        if self.facts.endpoint.moves_health() {
            at.world.health.begin(now, candidate.profile, candidate.family(&self.facts));
        }
        let reserved = self.reserve(kind, &candidate, at);
        let cold = self.leaves_warm_cache(now, candidate.profile, at);
        self.attempts.push(AttemptRecord {
            profile: candidate.profile,
            kind,
            started: now,
            head: None,
            first_content: None,
            ended: None,
            failure: None,
            decision: None,
            model: candidate.terms.model.clone(),
            wasted: false,
            reserved,
            cold,
        });
        if kind != AttemptKind::Retry {
            self.asked.push(candidate.clone());
        }
        if let Some(holding) = &mut self.holding {
            holding.wake = None;
        }
        let head_is_due = kind != AttemptKind::Resume && self.holding.is_none();
        // An unknown request may act: it could not be sent again if a kept connection turned out dead.
        let fresh_connection = fresh_connection || self.facts.endpoint == Endpoint::Other;
        let patient_until = self.patient_until(now + delay);
        self.runs.push(Run { on_trial, head_is_due, patient_until, ..Run::new(id, kind, candidate.clone(), now + delay) });
        self.pending.push_back(Action::Start(AttemptPlan { id, kind, candidate, fresh_connection, delay }));
    }

    /// Until when an attempt may be without content so that the next candidate can still answer before the client gives up. `None` if no
    /// candidate is left, or the client is more patient than our own limits.
    fn patient_until(&self, from: Instant) -> Option<Instant> {
        let patience = self.facts.patience.filter(|patience| *patience < CLIENT_PATIENCE && !self.queue.is_empty())?;
        let left = (self.started + patience).saturating_duration_since(from);
        Some(from + left.mul_f64(PATIENCE_SHARE))
    }

    fn commit(&mut self, now: Instant, id: AttemptId, at: &mut Surroundings<'_>) {
        let Some(run) = self.run_mut(id) else { return };
        if run.phase != Phase::Held {
            return;
        }
        run.phase = Phase::Flowing;
        run.last_content = now;
        self.commitment = Commitment::Committed;
        self.found_nobody = false;
        self.decide(id, Decision::Commit);
        let losers: Vec<AttemptId> = self.runs.iter().map(|run| run.id).filter(|other| *other != id).collect();
        for loser in losers {
            self.drop_loser(now, loser, at);
        }
        self.pending.push_back(Action::Commit(id));
    }

    // The end.

    fn end(&mut self, now: Instant, ending: Ending) {
        self.holding = None;
        self.consulting = None;
        for run in std::mem::take(&mut self.runs) {
            self.record_mut(run.id).ended.get_or_insert(now);
        }
        self.outcome.get_or_insert(match ending {
            Ending::Complete => Outcome::Served,
            Ending::Cut => Outcome::Cut,
            Ending::HandBack => Outcome::HandedBack,
        });
        self.pending.push_back(Action::End(ending));
    }

    fn decide(&mut self, id: AttemptId, decision: Decision) {
        self.record_mut(id).decision = Some(decision);
    }

    fn decide_ending(&mut self, id: AttemptId, ending: Ending) {
        match ending {
            Ending::Complete => {}
            Ending::Cut => self.decide(id, Decision::Cut),
            Ending::HandBack => self.decide(id, Decision::HandBack),
        }
    }

    fn run(&self, id: AttemptId) -> Option<&Run> {
        self.runs.iter().find(|run| run.id == id)
    }

    fn run_mut(&mut self, id: AttemptId) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.id == id)
    }

    fn record_mut(&mut self, id: AttemptId) -> &mut AttemptRecord {
        self.attempts.get_mut(usize::from(id.0)).expect("every attempt has its record from the start")
    }

    /// What budgets have set aside for its attempts, by their place. Whoever takes it settles it.
    pub fn take_reservations(&mut self) -> Vec<(usize, Reservation)> {
        let attempts = self.attempts.iter_mut().enumerate();
        attempts.filter_map(|(place, attempt)| Some((place, attempt.reserved.take()?))).collect()
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

    /// Whether an attempt has content on the client's wire.
    pub fn is_flowing(&self, id: AttemptId) -> bool {
        self.run(id).is_some_and(|run| run.phase == Phase::Flowing)
    }

    /// Whether all that counts of an attempt's answer has come.
    pub fn is_whole(&self, id: AttemptId) -> bool {
        self.run(id).is_some_and(|run| run.succeeded || run.body == BodyKind::Opaque)
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// The profile that the session was at home with before another served it here.
    pub fn left(&self) -> Option<ProfileId> {
        self.left
    }

    /// Whether every profile that could be asked failed, whatever the client was told of it.
    pub fn found_nobody(&self) -> bool {
        self.found_nobody
    }

    /// Where the request is, and where it goes if nothing comes.
    pub fn waits_for(&self) -> Wait {
        let run = self.runs.last();
        let may_go_on = self.hops < self.policy.max_hops && self.may_try_again() && self.replayable;
        let next = self.queue.iter().find(|candidate| !candidate.last_resort).or_else(|| self.queue.front());
        Wait {
            profile: run.map(|run| run.candidate.profile),
            since: run.map(|run| run.began),
            next: next.filter(|_| may_go_on).map(|candidate| candidate.profile),
        }
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }
}

#[cfg(test)]
mod tests;
