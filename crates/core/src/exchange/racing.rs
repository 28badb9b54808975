//! Lets a second profile race one that is slow to answer, where the user wants that, and drops the slower one. Never races what may act twice.

use std::time::{Duration, Instant};

use super::run::Phase;
use super::{Action, Exchange};
use crate::attempt::{AttemptId, AttemptKind};
use crate::health::Standing;
use crate::policy::WINDOW_HEDGE_LIMIT;
use crate::record::Decision;
use crate::world::Surroundings;

impl Exchange {
    /// When the lone run may be raced by the next profile.
    pub(super) fn hedge_due(&self) -> Option<Instant> {
        let [run] = &self.runs[..] else { return None };
        // A race is a move that no hook could rule on in time.
        let wanted = self.policy.hedge
            && !self.policy.gates.failover
            && self.facts.hedgeable
            && self.attempts.len() == 1
            && run.phase != Phase::Flowing;
        wanted.then(|| run.sent + run.candidate.terms.hedge_delay)
    }

    pub(super) fn hedge_if_due(&mut self, now: Instant, at: &mut Surroundings<'_>) {
        if self.hedge_due().is_none_or(|due| now < due) {
            return;
        }
        let place = self.next_place(now, at).filter(|place| {
            let candidate = &self.queue[*place];
            let family = candidate.family(&self.facts);
            self.standing(now, candidate, at) == Standing::Usable
                && at.world.health.window_used(now, candidate.profile, family) < WINDOW_HEDGE_LIMIT
        });
        let affordable = place.is_some() && at.world.hedges.take(now, &mut at.world.budget);
        match place.filter(|_| affordable).and_then(|place| self.queue.remove(place)) {
            Some(next) => {
                self.hops += 1;
                self.start(now, next, AttemptKind::Hedge, false, Duration::ZERO, at);
            }
            // Not now, and hence not for this request.
            None => self.facts.hedgeable = false,
        }
    }

    /// The other of a race was faster. That says nothing about this profile.
    pub(super) fn drop_loser(&mut self, now: Instant, id: AttemptId, at: &mut Surroundings<'_>) {
        let Some(place) = self.runs.iter().position(|run| run.id == id) else { return };
        let run = self.runs.remove(place);
        if run.on_trial {
            // Else nobody would be let in until the trial's time is over.
            at.world.health.abandon(run.candidate.profile, run.candidate.family(&self.facts));
        }
        let record = self.record_mut(id);
        record.ended = Some(now);
        record.decision = Some(Decision::Drop);
        record.wasted = true;
        self.pending.push_back(Action::Cancel(id));
    }
}
