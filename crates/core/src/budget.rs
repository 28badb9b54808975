//! Decides whether another upstream request may be afforded. Never counts the first attempt, nor the first hop.
//!
//! A count of retries for each request is no bound on the whole: when everything fails, every request retries. A bucket that good answers
//! fill and retries empty keeps retries a small share of the traffic, and an outage from being fed by them.

use std::collections::VecDeque;
use std::time::Instant;

use crate::policy::{BUDGET, BUDGET_FLOOR, BUDGET_HEDGE, BUDGET_REFUND, BUDGET_STEP, HEDGE_SHARE, HEDGE_WINDOW};

/// The retry budget of one process.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    left: f64,
    filled: Option<Instant>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { left: BUDGET, filled: None }
    }
}

impl RetryBudget {
    /// Takes `cost`; false: it is not there, and nothing was taken.
    pub fn take(&mut self, now: Instant, cost: f64) -> bool {
        self.fill(now);
        let enough = self.left >= cost;
        if enough {
            self.left -= cost;
        }
        enough
    }

    /// A first attempt answered well.
    pub fn refund(&mut self) {
        self.left = (self.left + BUDGET_REFUND).min(BUDGET);
    }

    /// What is left.
    pub fn left(&mut self, now: Instant) -> f64 {
        self.fill(now);
        self.left
    }

    fn fill(&mut self, now: Instant) {
        let since = self.filled.replace(now).map_or(0.0, |filled| now.saturating_duration_since(filled).as_secs_f64());
        self.left = (self.left + since / BUDGET_FLOOR.as_secs_f64() * BUDGET_STEP).min(BUDGET);
    }
}

/// Most requests that are counted for the share of races.
const MOST_COUNTED: usize = 4096;

/// Counts races against requests.
#[derive(Debug, Clone, Default)]
pub struct HedgeMeter {
    /// When each request came, and whether it was raced.
    requests: VecDeque<(Instant, bool)>,
}

impl HedgeMeter {
    /// A request came.
    pub fn on_request(&mut self, now: Instant) {
        self.forget_old(now);
        if self.requests.len() == MOST_COUNTED {
            self.requests.pop_front();
        }
        self.requests.push_back((now, false));
    }

    /// Whether one more race keeps the share; it is then counted, and paid from the budget, which must be more than half full.
    pub fn take(&mut self, now: Instant, budget: &mut RetryBudget) -> bool {
        self.forget_old(now);
        let raced = self.requests.iter().filter(|(_, raced)| *raced).count();
        #[expect(clippy::cast_precision_loss, reason = "at most MOST_COUNTED")]
        let within = (raced + 1) as f64 <= self.requests.len() as f64 * HEDGE_SHARE;
        let affordable = within && budget.left(now) > BUDGET / 2.0 && budget.take(now, BUDGET_HEDGE);
        if affordable && let Some((_, raced)) = self.requests.iter_mut().rev().find(|(_, raced)| !raced) {
            *raced = true;
        }
        affordable
    }

    fn forget_old(&mut self, now: Instant) {
        while self.requests.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= HEDGE_WINDOW) {
            self.requests.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotspare_testkit::VirtualClock;

    #[test]
    fn retries_end_when_the_budget_is_empty_and_come_back_with_time_and_good_answers() {
        let mut clock = VirtualClock::new();
        let mut budget = RetryBudget::default();
        for _ in 0..10 {
            assert!(budget.take(clock.now(), BUDGET_STEP));
        }
        assert!(!budget.take(clock.now(), BUDGET_STEP));
        assert!(budget.take(clock.advance(BUDGET_FLOOR), BUDGET_STEP));
        assert!(!budget.take(clock.now(), BUDGET_STEP));
        for _ in 0..5 {
            budget.refund();
        }
        assert!(budget.take(clock.now(), BUDGET_STEP));
    }

    #[test]
    fn the_budget_is_never_more_than_full() {
        let mut clock = VirtualClock::new();
        let mut budget = RetryBudget::default();
        budget.refund();
        assert!((budget.left(clock.advance(BUDGET_FLOOR * 100)) - BUDGET).abs() < 1e-9);
        assert!(!budget.take(clock.now(), BUDGET + 0.1));
        assert!(budget.take(clock.now(), BUDGET), "a refusal takes nothing");
    }

    #[test]
    fn races_stay_a_small_share_and_leave_half_of_the_budget() {
        let clock = VirtualClock::new();
        let (mut meter, mut budget) = (HedgeMeter::default(), RetryBudget::default());
        (0..19).for_each(|_| meter.on_request(clock.now()));
        assert!(!meter.take(clock.now(), &mut budget), "one of 19 is more than 5 %");
        (0..200).for_each(|_| meter.on_request(clock.now()));
        let raced = (0..20).filter(|_| meter.take(clock.now(), &mut budget)).count();
        assert_eq!(raced, 3, "10, 8 and 6 are more than half of the budget; 4 is not");
        let mut half = RetryBudget::default();
        assert!(half.take(clock.now(), BUDGET / 2.0));
        assert!(!meter.take(clock.now(), &mut half), "half of the budget is not more than half");
        assert!(!meter.take(clock.now() + HEDGE_WINDOW, &mut RetryBudget::default()), "old requests count no longer");
    }
}
