//! Decides what follows when an attempt has failed: the same profile once more, another one, the rest from another one, or an end. Never
//! begins an attempt.

use std::time::{Duration, Instant};

use super::consult::Next;
use super::run::Run;
use super::{BodyKind, Exchange};
use crate::attempt::AttemptKind;
use crate::commitment::{self, Ending, Position, Repair};
use crate::facts::{Endpoint, SlowRequest};
use crate::failure::{Failure, FailureKind, Grip, NextStep, Stage};
use crate::health::Standing;
use crate::policy::{BUDGET_STEP, HOLD_TIME, RETRY_IN_PLACE_CAP, SlowService, WAIT_IN_PLACE};
use crate::route::Candidate;
use crate::world::Surroundings;

impl Exchange {
    /// Nothing was sent and an attempt failed: what now?
    pub(super) fn go_on(&mut self, now: Instant, run: &Run, failure: &Failure, at: &mut Surroundings<'_>) {
        let from_primary = run.candidate.profile == self.plan.primary;
        let step = self.step(failure, from_primary);
        if failure.repaired && self.replayable && !self.repair_used && self.may_try_again() {
            self.repair_used = true;
            return self.again(now, run, failure, false, Duration::ZERO, at);
        }
        if step == NextStep::Relay {
            return self.relay_or_explain(now, run.id, failure, at);
        }
        if step == NextStep::SameFresh && !self.fresh_retry_used {
            self.fresh_retry_used = true;
            return self.again(now, run, failure, true, Duration::ZERO, at);
        }
        if self.rereads(run, failure) {
            self.reread_used = true;
            return self.again(now, run, failure, false, Duration::ZERO, at);
        }
        if step == NextStep::NextElsewhere {
            self.throttled_at.push(run.candidate.terms.origin);
        }
        if let Some(to) = self.next_profile(now, failure, at) {
            let after = Some((run.clone(), failure.clone()));
            self.go_or_ask(now, Next::Move { to, kind: AttemptKind::Failover, after }, at);
        } else if let Some(delay) = self.retry_in_place(now, run, failure, at) {
            self.in_place_retry_used = true;
            self.again(now, run, failure, false, delay, at);
        } else {
            self.give_up(now, at);
        }
    }

    pub(super) fn again(
        &mut self,
        now: Instant,
        run: &Run,
        failure: &Failure,
        fresh_connection: bool,
        delay: Duration,
        at: &mut Surroundings<'_>,
    ) {
        let (run, failure) = (run.clone(), failure.clone());
        self.go_or_ask(now, Next::Retry { run, failure, fresh_connection, delay }, at);
    }

    pub(super) fn step(&self, failure: &Failure, from_primary: bool) -> NextStep {
        let sent = failure.stage > Stage::Connect;
        // What cannot even be sent to the first profile was refused by nobody: there are no words of its own to relay.
        let unsendable = failure.kind == FailureKind::ProviderBound && !sent;
        let step = failure.kind.next_step(from_primary && !unsendable);
        if failure.slow_service && self.policy.slow_service == SlowService::Prefer && self.facts.slow != SlowRequest::Unable {
            return NextStep::Relay;
        }
        // Unknown endpoints may have side effects, and a body that is gone cannot be sent again.
        let bound = sent && (self.facts.endpoint == Endpoint::Other || !self.replayable);
        if bound || !self.policy.triggers.fire(failure) { NextStep::Relay } else { step }
    }

    /// The next profile that may be asked, if one more may be asked at all.
    pub(super) fn next_profile(&mut self, now: Instant, failure: &Failure, at: &mut Surroundings<'_>) -> Option<Candidate> {
        let late = self.holding.is_none() && now.saturating_duration_since(self.started) >= HOLD_TIME;
        if late || self.hops >= self.policy.max_hops || !self.may_try_again() {
            return None;
        }
        let place = self.next_place(now, at)?;
        // The first hop is free: another profile has its own breaker.
        let cost = if failure.timed_out() { 2.0 * BUDGET_STEP } else { BUDGET_STEP };
        // Where nobody was asked, nothing was spent.
        if self.hops > 0 && !failure.is_our_own() && !at.world.budget.take(now, cost) {
            return None;
        }
        self.queue.remove(place)
    }

    /// Where in the queue the next candidate stands: the first that is well, else the first that nobody's word forbids.
    pub(super) fn next_place(&mut self, now: Instant, at: &Surroundings<'_>) -> Option<usize> {
        self.leave_out_unfit(at);
        let well = |candidate: &Candidate| candidate.insist || self.is_well(now, candidate, at);
        let may = |candidate: &Candidate| self.may_be_asked(now, candidate, at);
        let queue = &self.queue;
        queue.iter().position(|candidate| may(candidate) && well(candidate)).or_else(|| queue.iter().position(may))
    }

    /// Whether nobody's word forbids it, no limit of its address, and no budget.
    pub(super) fn may_be_asked(&self, now: Instant, candidate: &Candidate, at: &Surroundings<'_>) -> bool {
        let elsewhere = !self.throttled_at.contains(&candidate.terms.origin) || self.throttled_at.len() < 2;
        let open = match self.standing(now, candidate, at) {
            Standing::Usable | Standing::Trial | Standing::Cooling { grip: Grip::Loose, .. } => true,
            Standing::Cooling { .. } => candidate.insist,
        };
        elsewhere && open && self.has_money(candidate, at)
    }

    pub(super) fn standing(&self, now: Instant, candidate: &Candidate, at: &Surroundings<'_>) -> Standing {
        let standing = at.world.health.standing(now, candidate.profile, candidate.family(&self.facts), self.facts.own_credential);
        standing.for_slow(self.facts.slow, candidate.terms.client_login)
    }

    pub(super) fn is_well(&self, now: Instant, candidate: &Candidate, at: &Surroundings<'_>) -> bool {
        matches!(self.standing(now, candidate, at), Standing::Usable | Standing::Trial)
    }

    pub(super) fn retry_in_place(&mut self, now: Instant, run: &Run, failure: &Failure, at: &mut Surroundings<'_>) -> Option<Duration> {
        // A trial has its answer, and so has who was told not to retry: a second try a moment later would only feed the outage.
        let alone = self.plan.candidates.len() == 1 && !run.on_trial && !failure.no_retry && at.world.health.in_panic_for(now).is_zero();
        if !alone || self.in_place_retry_used || !self.may_try_again() || !self.facts.endpoint.moves_health() {
            return None;
        }
        let after = failure.retry_after.unwrap_or_default();
        let delay = match failure.kind {
            FailureKind::Throttled if failure.retry_after.is_some_and(|after| after <= WAIT_IN_PLACE) => after,
            kind if kind.may_retry_in_place() && after <= WAIT_IN_PLACE => after.max(RETRY_IN_PLACE_CAP.mul_f64(at.dice.clamp(0.0, 1.0))),
            _ => return None,
        };
        at.world.budget.take(now, BUDGET_STEP).then_some(delay)
    }

    /// Whether one more upstream request stays within the limit. All count but the one on a fresh connection after a stale one (invariant I3).
    pub(super) fn may_try_again(&self) -> bool {
        self.attempts.len() - usize::from(self.fresh_retry_used) < self.attempts_allowed
    }

    /// The client has bytes of an answer that broke.
    pub(super) fn repair(&mut self, now: Instant, run: &Run, failure: &Failure, position: &Position, at: &mut Surroundings<'_>) {
        let repair = match run.body {
            BodyKind::Stream if run.kind != AttemptKind::Resume => commitment::repair(position, self.facts.client, self.policy.mid_stream),
            // A resumed answer that breaks is not mended a second time; other bodies have no grammar to end them by.
            BodyKind::Stream | BodyKind::Whole | BodyKind::Opaque => Repair::End(Ending::Cut),
        };
        match repair {
            Repair::End(ending) => {
                self.decide_ending(run.id, ending);
                self.end(now, ending);
            }
            Repair::Resume { otherwise } => {
                let Some(to) = self.next_to_resume(now, failure, at) else {
                    self.decide_ending(run.id, otherwise);
                    return self.end(now, otherwise);
                };
                let after = (run.clone(), failure.clone());
                self.go_or_ask(now, Next::Resume { to, after, otherwise }, at);
            }
        }
    }

    pub(super) fn next_to_resume(&mut self, now: Instant, failure: &Failure, at: &mut Surroundings<'_>) -> Option<Candidate> {
        let possible = !self.resumed && self.replayable && self.holding.is_none() && self.policy.enabled;
        if !possible || !self.policy.triggers.fire(failure) || self.hops >= self.policy.max_hops || !self.may_try_again() {
            return None;
        }
        let place = self.next_place(now, at)?;
        self.queue.remove(place)
    }
}
