//! Keeps an answer open until a profile recovers (`on_exhausted: hold`), and for how long. Never asks anybody.

use std::time::{Duration, Instant};

use super::{Action, Exchange};
use crate::commitment::Commitment;
use crate::facts::Endpoint;
use crate::policy::{HOLD_LOOKS, HOLD_OPEN};
use crate::world::Surroundings;

/// An answer that is kept open until a profile recovers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holding {
    pub since: Instant,
    /// When the profiles are looked at again; none while one is asked.
    pub wake: Option<Instant>,
}

impl Exchange {
    pub(super) fn may_hold(&self, at: &Surroundings<'_>) -> bool {
        at.streamed && self.facts.endpoint == Endpoint::Messages && self.replayable && !self.plan.lone
    }

    pub(super) fn begin_hold(&mut self, now: Instant, at: &mut Surroundings<'_>) {
        self.holding = Some(Holding { since: now, wake: None });
        self.runs.clear();
        self.pending.push_back(Action::HoldOpen);
        self.keep_waiting(now, at);
    }

    pub(super) fn keep_waiting(&mut self, now: Instant, at: &Surroundings<'_>) {
        let wait = self.time_to_next(now, at).clamp(Duration::from_secs(1), HOLD_LOOKS);
        if let Some(holding) = &mut self.holding {
            holding.wake = Some(now + wait);
        }
    }

    pub(super) fn holding_is_over(&self, now: Instant) -> bool {
        let waiting = self.commitment != Commitment::Committed;
        waiting && self.holding.is_some_and(|holding| now >= holding.since + HOLD_OPEN)
    }
}
