//! Decides who of those that wait their turn cannot take this request or has no money left for it, and sets money aside for whoever is
//! asked. Never asks anybody.

use std::time::Instant;

use super::Exchange;
use crate::attempt::AttemptKind;
use crate::facts::RequestFacts;
use crate::route::{Candidate, ProfileId, SkipReason, Skipped};
use crate::spend::{Reservation, Spending};
use crate::world::Surroundings;

impl Exchange {
    /// Takes everyone out of the queue whom this request does not fit, or whose budget is used up, with the reason. A profile without a
    /// spare is always asked whether it fits: it says itself what is wrong. Its budget holds all the same.
    pub(super) fn leave_out_unfit(&mut self, at: &Surroundings<'_>) {
        if !self.facts.endpoint.moves_health() {
            return;
        }
        let Self { queue, plan, facts, .. } = self;
        queue.retain(|candidate| {
            let misfit = if plan.lone { None } else { unfit(candidate, facts) };
            let Some(reason) = misfit.or_else(|| unaffordable(candidate, facts, &at.world.spending)) else { return true };
            plan.candidates.retain(|planned| planned != candidate);
            if !plan.skipped.iter().any(|skipped| skipped.profile == candidate.profile && skipped.reason == reason) {
                plan.skipped.push(Skipped { profile: candidate.profile, reason });
            }
            false
        });
    }

    /// Sets aside what an attempt will probably cost. Another try at the same profile goes on with what the one before has left.
    pub(super) fn reserve(&mut self, kind: AttemptKind, candidate: &Candidate, at: &mut Surroundings<'_>) -> Option<Reservation> {
        let budget = Some(candidate.terms.budget).filter(|budget| !budget.is_empty() && self.facts.endpoint.moves_health())?;
        let before = self.attempts.iter_mut().rev().find(|attempt| attempt.profile == candidate.profile);
        if let Some(left) = before.filter(|_| kind == AttemptKind::Retry).and_then(|attempt| attempt.reserved.take()) {
            return Some(left);
        }
        let amount = candidate.terms.price?.reserve(self.facts.length);
        // Whether there is any was looked at when it was chosen.
        Some(at.world.spending.set_aside(candidate.profile, self.facts.whole_session, budget, amount))
    }

    /// Whether its budget has anything left for this request.
    pub(super) fn has_money(&self, candidate: &Candidate, at: &Surroundings<'_>) -> bool {
        !self.facts.endpoint.moves_health() || unaffordable(candidate, &self.facts, &at.world.spending).is_none()
    }

    /// Whether the session has its warm prompt cache elsewhere, and none with this profile.
    pub(super) fn leaves_warm_cache(&self, now: Instant, profile: ProfileId, at: &Surroundings<'_>) -> bool {
        let stay = at.world.affinity.stay(now, self.facts.stay_key());
        stay.is_some_and(|stay| stay.is_warm_at(now, stay.profile) && !stay.is_warm_at(now, profile))
    }
}

fn unfit(candidate: &Candidate, facts: &RequestFacts) -> Option<SkipReason> {
    let misfit = facts.needs.as_ref().and_then(|needs| candidate.terms.takes.misfit(needs));
    misfit.map(SkipReason::Misfit)
}

/// A budget whose end nobody could see is none: without a price the profile is not asked.
fn unaffordable(candidate: &Candidate, facts: &RequestFacts, spending: &Spending) -> Option<SkipReason> {
    let budget = Some(candidate.terms.budget).filter(|budget| !budget.is_empty())?;
    if candidate.terms.price.is_none() {
        return Some(SkipReason::NoPrice);
    }
    spending.reached(candidate.profile, facts.whole_session, &budget).map(SkipReason::Budget)
}
