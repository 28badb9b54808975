//! Decides when a profile stops receiving requests, and when one may try it again. Never sleeps, logs or reads a clock.
//!
//! Two signals, because each is blind to what the other sees: failures in a row find a dead provider within three requests; the rate over a
//! minute finds one that answers every second request. A soft failure (529) counts in the rate alone: it says "busy", not "broken".

use std::time::{Duration, Instant};

use crate::failure::Strike;
use crate::policy::{
    BREAKER_BUCKET, BREAKER_BUCKETS, BREAKER_FAILURES, BREAKER_FORGETS, BREAKER_OPEN, BREAKER_SAMPLES, RAMP_START, RAMP_TIME, TRIAL_TIME,
};

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Pass,
    /// As the one trial that decides.
    Trial,
    /// Not before this instant.
    Denied(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests pass.
    Closed,
    /// None passes before `until`; then one may try.
    Open { until: Instant },
    /// So many trials went well, and one may be under way since.
    HalfOpen { good: u32, trial: Option<Instant> },
}

/// The circuit breaker of one profile, or of one model family on it.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    state: State,
    in_a_row: u32,
    recent: Recent,
    /// How often it opened without [`BREAKER_FORGETS`] of peace in between.
    opened: u32,
    closed_at: Option<Instant>,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { state: State::Closed, in_a_row: 0, recent: Recent::default(), opened: 0, closed_at: None }
    }
}

impl CircuitBreaker {
    /// Whether a request may pass now.
    pub fn permit(&self, now: Instant) -> Permit {
        match self.state {
            State::Closed => Permit::Pass,
            State::Open { until } if now < until => Permit::Denied(until),
            State::Open { .. } => Permit::Trial,
            State::HalfOpen { trial: Some(since), .. } if now < since + TRIAL_TIME => Permit::Denied(since + TRIAL_TIME),
            State::HalfOpen { .. } => Permit::Trial,
        }
    }

    /// A request goes out as the trial: no other passes until it is over.
    pub fn begin_trial(&mut self, now: Instant) {
        match &mut self.state {
            State::Closed => {}
            State::Open { .. } => self.state = State::HalfOpen { good: 0, trial: Some(now) },
            State::HalfOpen { trial, .. } => *trial = Some(now),
        }
    }

    /// The trial ended without a word on the profile: the client went away, or the request was at fault.
    pub fn abandon_trial(&mut self) {
        if let State::HalfOpen { trial, .. } = &mut self.state {
            *trial = None;
        }
    }

    /// A whole, good answer came. `after_good` of them in a row close an open breaker.
    pub fn on_success(&mut self, now: Instant, after_good: u32) {
        self.in_a_row = 0;
        self.recent.add(now, true);
        let good = match self.state {
            State::Closed => return,
            // Requests that were under way when it opened are evidence as good as a trial.
            State::Open { .. } => 1,
            State::HalfOpen { good, .. } => good + 1,
        };
        if good >= after_good {
            *self = Self { opened: self.opened, closed_at: Some(now), ..Self::default() };
        } else {
            self.state = State::HalfOpen { good, trial: None };
        }
    }

    /// A failure that counts. `cap` is the longest that it may stay open, chance included.
    pub fn on_failure(&mut self, now: Instant, strike: Strike, cap: Duration, dice: f64) {
        match self.state {
            State::Open { .. } => {}
            State::HalfOpen { .. } => self.open(now, cap, dice),
            State::Closed => {
                if strike == Strike::None {
                    return;
                }
                self.recent.add(now, false);
                if strike == Strike::Hard {
                    self.in_a_row += 1;
                }
                if self.in_a_row >= BREAKER_FAILURES || self.recent.is_bad(now) {
                    self.open(now, cap, dice);
                }
            }
        }
    }

    fn open(&mut self, now: Instant, cap: Duration, dice: f64) {
        if self.closed_at.is_some_and(|at| now.saturating_duration_since(at) >= BREAKER_FORGETS) {
            self.opened = 0;
        }
        let doubled = BREAKER_OPEN.saturating_mul(1 << self.opened.min(16));
        let time = doubled.mul_f64(0.8 + 0.4 * dice.clamp(0.0, 1.0)).min(cap);
        self.opened = self.opened.saturating_add(1);
        self.in_a_row = 0;
        self.recent = Recent::default();
        self.state = State::Open { until: now + time };
    }

    /// Nothing else is usable any more: it stays open no longer than `cap` from now.
    pub fn shorten(&mut self, now: Instant, cap: Duration) {
        if let State::Open { until } = &mut self.state {
            *until = (*until).min(now + cap);
        }
    }

    /// Time has passed that nobody saw: the machine slept.
    pub fn shift_back(&mut self, by: Duration) {
        if let State::Open { until } = &mut self.state {
            *until = until.checked_sub(by).unwrap_or(*until);
        }
    }

    /// Opens until an instant that was remembered over a restart.
    pub fn restore(&mut self, until: Instant, opened: u32) {
        self.opened = opened;
        self.state = State::Open { until };
    }

    /// What a later process must know of it: until when it lets nothing pass, and how often it has opened. None: it is closed.
    pub fn lasting(&self, now: Instant) -> Option<(Instant, u32)> {
        match self.state {
            State::Open { until } => Some((until, self.opened)),
            State::HalfOpen { .. } => Some((now, self.opened)),
            State::Closed => None,
        }
    }

    /// Until when it is open, and how often it has opened; none when it is closed.
    pub fn open_until(&self) -> Option<(Instant, u32)> {
        match self.state {
            State::Open { until } => Some((until, self.opened)),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Good trials so far, where it waits for more.
    pub fn half_open(&self) -> Option<u32> {
        match self.state {
            State::HalfOpen { good, .. } => Some(good),
            State::Closed | State::Open { .. } => None,
        }
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The share of sessions that may come back to a profile that has just recovered: they must not all come at once.
    pub fn ramp(&self, now: Instant) -> f64 {
        let Some(closed) = self.closed_at else { return 1.0 };
        let share = now.saturating_duration_since(closed).as_secs_f64() / RAMP_TIME.as_secs_f64();
        share.clamp(RAMP_START, 1.0)
    }
}

/// Good and bad answers of the last minute, in buckets that fall out one by one.
#[derive(Debug, Clone, Default)]
struct Recent {
    buckets: [Bucket; BREAKER_BUCKETS],
    newest: usize,
    began: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    good: u32,
    bad: u32,
}

impl Recent {
    fn add(&mut self, now: Instant, good: bool) {
        self.turn(now);
        let bucket = &mut self.buckets[self.newest];
        let count = if good { &mut bucket.good } else { &mut bucket.bad };
        *count = count.saturating_add(1);
    }

    fn is_bad(&mut self, now: Instant) -> bool {
        self.turn(now);
        let (good, bad) = self.buckets.iter().fold((0_u32, 0_u32), |(good, bad), bucket| (good + bucket.good, bad + bucket.bad));
        good + bad >= BREAKER_SAMPLES && good < bad
    }

    /// Empties the buckets whose time is over.
    fn turn(&mut self, now: Instant) {
        let width = BREAKER_BUCKET;
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began).as_nanos() / width.as_nanos();
        let Ok(passed) = usize::try_from(passed) else { return };
        for _ in 0..passed.min(BREAKER_BUCKETS) {
            self.newest = (self.newest + 1) % BREAKER_BUCKETS;
            self.buckets[self.newest] = Bucket::default();
        }
        if passed > 0 {
            self.began = Some(began + width.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX)));
        }
    }
}

#[cfg(test)]
mod tests;
