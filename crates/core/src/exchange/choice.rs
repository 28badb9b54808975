//! Decides who of those that wait their turn cannot take this request. Never asks anybody.

use super::Exchange;
use crate::facts::RequestFacts;
use crate::route::{Candidate, SkipReason, Skipped};

impl Exchange {
    /// Takes everyone out of the queue whom this request does not fit, with the reason. A profile without a spare is always asked: it says
    /// itself what is wrong.
    pub(super) fn leave_out_unfit(&mut self) {
        if self.plan.lone || !self.facts.endpoint.moves_health() {
            return;
        }
        let Self { queue, plan, facts, .. } = self;
        queue.retain(|candidate| {
            let Some(reason) = unfit(candidate, facts) else { return true };
            plan.candidates.retain(|planned| planned != candidate);
            if !plan.skipped.iter().any(|skipped| skipped.profile == candidate.profile && skipped.reason == reason) {
                plan.skipped.push(Skipped { profile: candidate.profile, reason });
            }
            false
        });
    }
}

fn unfit(candidate: &Candidate, facts: &RequestFacts) -> Option<SkipReason> {
    let misfit = facts.needs.as_ref().and_then(|needs| candidate.terms.takes.misfit(needs));
    misfit.map(SkipReason::Misfit)
}
