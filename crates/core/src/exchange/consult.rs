//! Asks for the user's word (a `Pre…` hook) before a retry or a move to another profile, and goes by it. Never waits for it longer than
//! it said it would, and never lets it lead beyond the plan's candidates.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::Run;
use super::{Action, Exchange};
use crate::attempt::AttemptKind;
use crate::commitment::{Commitment, Ending, Position};
use crate::failure::{Failure, FailureKind};
use crate::hook::HookEvent;
use crate::policy::{BUDGET_STEP, HOLD_TIME, LONGEST_RULING, MOST_RULINGS};
use crate::record::Decision;
use crate::route::{Candidate, ProfileId, SkipReason, Skipped};
use crate::world::Surroundings;

/// What the user's hooks are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consultation {
    /// [`HookEvent::PreRetry`] or [`HookEvent::PreFailover`].
    pub event: HookEvent,
    /// Who failed; where nobody has been asked yet, who would have been asked first.
    pub from: ProfileId,
    /// Who is asked next when nobody objects.
    pub to: ProfileId,
    /// Who else may be asked instead, `to` first.
    pub candidates: Vec<ProfileId>,
    /// What `from` failed with, as far as that is known.
    pub failure: Option<FailureKind>,
    /// The status that it failed with.
    pub status: Option<u16>,
    /// The model that `to` would be asked for, where that is not the client's own.
    pub model: Option<Arc<str>>,
    /// The number of the attempt that waits, from 1.
    pub attempt: usize,
    /// From then on nobody waits for the word any more.
    pub until: Instant,
}

/// The user's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Go on as planned. Also where nobody has said anything.
    Allow,
    /// Not this retry, or not this profile.
    Block,
    /// Ask this one instead. One that is no candidate changes nothing.
    Use(ProfileId),
}

/// What waits for a word.
#[derive(Debug)]
pub(super) struct Consulting {
    pub until: Instant,
    next: Next,
}

/// What is done when nobody objects.
#[derive(Debug)]
pub(super) enum Next {
    /// The same profile again.
    Retry { run: Run, failure: Failure, fresh_connection: bool, delay: Duration },
    /// Another profile, from the start. `after`: who failed, where anybody was asked.
    Move { to: Candidate, kind: AttemptKind, after: Option<(Run, Failure)> },
    /// Another profile goes on with a broken answer, which otherwise ends so.
    Resume { to: Candidate, after: (Run, Failure), otherwise: Ending },
}

impl Next {
    fn to(&self) -> &Candidate {
        match self {
            Self::Retry { run, .. } => &run.candidate,
            Self::Move { to, .. } | Self::Resume { to, .. } => to,
        }
    }

    fn failure(&self) -> Option<(&Run, &Failure)> {
        match self {
            Self::Retry { run, failure, .. } => Some((run, failure)),
            Self::Move { after, .. } => after.as_ref().map(|(run, failure)| (run, failure)),
            Self::Resume { after: (run, failure), .. } => Some((run, failure)),
        }
    }

    fn event(&self) -> HookEvent {
        match self {
            Self::Retry { .. } => HookEvent::PreRetry,
            Self::Move { .. } | Self::Resume { .. } => HookEvent::PreFailover,
        }
    }
}

impl Exchange {
    /// The user's word, asked for by [`Action::Consult`].
    pub fn on_ruling(&mut self, now: Instant, ruling: Ruling, at: &mut Surroundings<'_>) {
        let Some(next) = self.consulting.take().map(|consulting| consulting.next) else { return };
        match ruling {
            Ruling::Allow => self.go_if_still_right(now, next, at),
            Ruling::Block => self.refused(now, next, at),
            Ruling::Use(profile) => self.redirected(now, next, profile, at),
        }
    }

    /// Whether the user's word is waited for.
    pub fn is_consulting(&self) -> bool {
        self.consulting.is_some()
    }

    /// Whether this request began at another profile than the chain's first because of a failure, and moved its session there.
    pub fn began_elsewhere(&self) -> bool {
        self.began_elsewhere
    }

    /// Does it, or asks first where the user wants to be asked.
    pub(super) fn go_or_ask(&mut self, now: Instant, next: Next, at: &mut Surroundings<'_>) {
        let asks = match &next {
            Next::Retry { .. } => self.policy.gates.retry,
            Next::Move { to, kind: AttemptKind::Initial, .. } => {
                self.began_elsewhere = self.begins_elsewhere(now, to, at);
                self.began_elsewhere && self.policy.gates.failover
            }
            // An answer that was kept open goes home: that is no failover.
            Next::Move { to, after: None, .. } => self.policy.gates.failover && to.profile != self.plan.primary,
            Next::Move { .. } | Next::Resume { .. } => self.policy.gates.failover,
        };
        if asks { self.consult(now, next, at) } else { self.go(now, next, at) }
    }

    fn consult(&mut self, now: Instant, next: Next, at: &mut Surroundings<'_>) {
        if self.consultations == MOST_RULINGS {
            // Nobody may be asked without a word, and no more words are asked for.
            return self.leave(now, next, at);
        }
        self.consultations += 1;
        self.leave_out_unfit(at);
        let to = next.to();
        let cause = next.failure().map(|(_, failure)| failure);
        let consultation = Consultation {
            event: next.event(),
            from: next.failure().map_or(self.plan.primary, |(run, _)| run.candidate.profile),
            to: to.profile,
            candidates: self.instead_of(now, &next, at),
            failure: cause.map(|failure| failure.kind).or_else(|| self.passed_over_for(at)),
            status: cause.and_then(|failure| failure.status),
            model: to.terms.model.clone(),
            attempt: self.attempts.len() + 1,
            until: self.word_due(now),
        };
        self.consulting = Some(Box::new(Consulting { until: consultation.until, next }));
        self.pending.push_back(Action::Consult(consultation));
    }

    /// A client that has no head yet must hear something in time.
    fn word_due(&self, now: Instant) -> Instant {
        let longest = now + LONGEST_RULING;
        let has_head = self.commitment == Commitment::Committed || self.holding.is_some();
        if has_head { longest } else { longest.min((self.started + HOLD_TIME).max(now + Duration::from_secs(1))) }
    }

    /// Who may be asked, the one that is meant first.
    fn instead_of(&self, now: Instant, next: &Next, at: &Surroundings<'_>) -> Vec<ProfileId> {
        let mut candidates = vec![next.to().profile];
        if !matches!(next, Next::Retry { .. }) || self.may_leave() {
            let others = self.queue.iter().filter(|candidate| self.may_be_asked(now, candidate, at));
            for profile in others.map(|candidate| candidate.profile) {
                if !candidates.contains(&profile) {
                    candidates.push(profile);
                }
            }
        }
        candidates
    }

    /// Whether a retry may become a move.
    fn may_leave(&self) -> bool {
        self.replayable && self.hops < self.policy.max_hops
    }

    /// Whether this request begins at another profile than the chain's first because of a failure, and its session is not there already.
    fn begins_elsewhere(&self, now: Instant, to: &Candidate, at: &Surroundings<'_>) -> bool {
        let is_there = || at.world.affinity.stay(now, self.facts.stay_key()).is_some_and(|stay| stay.profile == to.profile);
        to.profile != self.plan.primary && self.is_passed_over() && at.world.switched_to(now) != Some(to.profile) && !is_there()
    }

    fn skip_of_primary(&self) -> Option<&SkipReason> {
        self.plan.skipped.iter().find(|skipped| skipped.profile == self.plan.primary).map(|skipped| &skipped.reason)
    }

    /// Whether the chain's first profile could take this request and is not asked first. One that cannot take it at all fails over to nobody.
    fn is_passed_over(&self) -> bool {
        match self.skip_of_primary() {
            None | Some(SkipReason::Cooling { .. } | SkipReason::Refused { .. } | SkipReason::Offline | SkipReason::Budget(_)) => true,
            Some(
                SkipReason::NoModel
                | SkipReason::UnknownModel
                | SkipReason::NotServed
                | SkipReason::NoClientCredential
                | SkipReason::CredentialElsewhere(_)
                | SkipReason::NoCredential(_)
                | SkipReason::Paused
                | SkipReason::Misfit(_)
                | SkipReason::NoPrice
                | SkipReason::Vetoed,
            ) => false,
        }
    }

    /// What keeps it from being asked first, as far as that is known.
    fn passed_over_for(&self, at: &Surroundings<'_>) -> Option<FailureKind> {
        match self.skip_of_primary() {
            Some(SkipReason::Cooling { because, .. } | SkipReason::Refused { because, .. }) => Some(*because),
            Some(SkipReason::Offline) => Some(FailureKind::Unreachable),
            Some(SkipReason::Budget(_)) => None,
            _ => at.world.health.last_failure(self.plan.primary),
        }
    }

    /// As planned, unless what was learned meanwhile forbids it.
    fn go_if_still_right(&mut self, now: Instant, next: Next, at: &mut Surroundings<'_>) {
        if matches!(next, Next::Retry { .. }) || self.may_be_asked(now, next.to(), at) {
            return self.go(now, next, at);
        }
        // Whoever looks through the queue next says why it is not asked.
        self.queue.push_front(next.to().clone());
        self.another_way(now, next, at);
    }

    /// As planned.
    fn go(&mut self, now: Instant, next: Next, at: &mut Surroundings<'_>) {
        match next {
            Next::Retry { run, fresh_connection, delay, .. } => {
                self.decide(run.id, Decision::Retry);
                self.start(now, run.candidate, AttemptKind::Retry, fresh_connection, delay, at);
            }
            Next::Move { to, kind, after } => {
                if let Some((run, _)) = after {
                    self.hops += 1;
                    self.decide(run.id, Decision::NextProfile);
                }
                self.start(now, to, kind, false, Duration::ZERO, at);
            }
            Next::Resume { to, after: (run, _), .. } => {
                self.resumed = true;
                self.hops += 1;
                self.decide(run.id, Decision::Resume);
                self.start(now, to, AttemptKind::Resume, false, Duration::ZERO, at);
            }
        }
    }

    /// The user says no.
    fn refused(&mut self, now: Instant, next: Next, at: &mut Surroundings<'_>) {
        if matches!(next, Next::Retry { .. }) {
            return self.leave(now, next, at);
        }
        self.plan.skipped.push(Skipped { profile: next.to().profile, reason: SkipReason::Vetoed });
        self.another_way(now, next, at);
    }

    /// The next candidate, and if there is none, what would be without one.
    fn another_way(&mut self, now: Instant, next: Next, at: &mut Surroundings<'_>) {
        let place = self.next_place(now, at);
        // In an answer that is kept open there is time: who still cools down is not asked before it is well.
        let is_due = |place: &usize| self.holding.is_none() || self.is_well(now, &self.queue[*place], at);
        match place.filter(is_due).and_then(|place| self.queue.remove(place)) {
            Some(to) => self.go_or_ask(now, next.with(to), at),
            None => self.leave(now, next, at),
        }
    }

    /// It is not done, and nobody else is asked in its place.
    fn leave(&mut self, now: Instant, next: Next, at: &mut Surroundings<'_>) {
        match next {
            Next::Retry { run, failure, .. } => {
                if failure.kind == FailureKind::Unauthorized {
                    // It was to be believed only after a second look.
                    self.learn(now, &run, &failure, &Position::default(), at);
                }
                self.go_on(now, &run, &failure, at);
            }
            Next::Move { .. } if self.holding.is_some() => self.keep_waiting(now, at),
            Next::Move { after: Some(_), .. } => self.give_up(now, at),
            Next::Move { after: None, .. } => self.answer_without_asking(now, at),
            Next::Resume { after: (run, _), otherwise, .. } => {
                self.decide_ending(run.id, otherwise);
                self.end(now, otherwise);
            }
        }
    }

    /// The user wants another one.
    fn redirected(&mut self, now: Instant, next: Next, profile: ProfileId, at: &mut Surroundings<'_>) {
        let is_retry = matches!(next, Next::Retry { .. });
        let meant = |candidate: &Candidate| candidate.profile == profile && self.may_be_asked(now, candidate, at);
        let place = self.queue.iter().position(meant).filter(|_| next.to().profile != profile && (!is_retry || self.may_leave()));
        let affordable = !is_retry || self.hops == 0 || place.is_none() || at.world.budget.take(now, BUDGET_STEP);
        let Some(to) = place.filter(|_| affordable).and_then(|place| self.queue.remove(place)) else {
            return self.go_if_still_right(now, next, at);
        };
        if !is_retry {
            // It stays a candidate for what comes after.
            self.queue.push_front(next.to().clone());
        }
        self.go(now, next.with(to), at);
    }
}

impl Next {
    /// The same with another profile; a retry becomes a move.
    fn with(self, to: Candidate) -> Self {
        match self {
            Self::Retry { run, failure, .. } => Self::Move { to, kind: AttemptKind::Failover, after: Some((run, failure)) },
            Self::Move { kind, after, .. } => Self::Move { to, kind, after },
            Self::Resume { after, otherwise, .. } => Self::Resume { to, after, otherwise },
        }
    }
}
