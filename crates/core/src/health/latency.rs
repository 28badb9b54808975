//! Remembers how long a profile's heads took lately, and fits the `head` clock to it. Never waits.

use std::time::Duration;

use crate::policy::{HEAD_RANGE, HEAD_SAMPLES, HEDGE_DELAY};

/// Heads that are remembered.
const MOST_SAMPLES: usize = 64;

/// The last heads of one profile.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    samples: Vec<Duration>,
    next: usize,
}

impl Latency {
    /// A head took so long.
    pub fn add(&mut self, took: Duration) {
        if self.samples.len() < MOST_SAMPLES {
            self.samples.push(took);
        } else {
            self.samples[self.next] = took;
        }
        self.next = (self.next + 1) % MOST_SAMPLES;
    }

    /// The smallest time that at least `percent` (0 to 100) of the heads kept; none without any.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.samples.len() * percent.min(100)).div_ceil(100).checked_sub(1)?;
        let mut samples = self.samples.clone();
        // Asked for with every request: to sort them all would cost ten times as much.
        Some(*samples.select_nth_unstable(rank).1)
    }

    /// How long a head may take: fitted where enough were seen, else as given.
    pub fn head_clock(&self, given: Duration) -> Duration {
        if self.samples.len() < HEAD_SAMPLES {
            return given;
        }
        self.percentile(99).map_or(given, |p99| (p99 * 4).clamp(HEAD_RANGE.0, HEAD_RANGE.1))
    }

    /// How long a start may take before it is raced.
    pub fn hedge_delay(&self) -> Duration {
        self.percentile(95).unwrap_or_default().max(HEDGE_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(50), None);
        (1..=10).for_each(|sample| latency.add(millis(sample)));
        assert_eq!(latency.percentile(50), Some(millis(5)));
        assert_eq!(latency.percentile(95), Some(millis(10)));
        assert_eq!(latency.percentile(1), Some(millis(1)));
    }

    #[test]
    fn the_head_clock_is_fitted_to_enough_samples_and_stays_in_its_range() {
        let given = Duration::from_secs(60);
        let fitted = |count: usize, each: Duration| {
            let mut latency = Latency::default();
            (0..count).for_each(|_| latency.add(each));
            latency.head_clock(given)
        };
        assert_eq!(fitted(HEAD_SAMPLES - 1, millis(1)), given);
        assert_eq!(fitted(HEAD_SAMPLES, millis(1)), HEAD_RANGE.0);
        assert_eq!(fitted(HEAD_SAMPLES, millis(9_000)), millis(36_000));
        assert_eq!(fitted(HEAD_SAMPLES, millis(90_000)), HEAD_RANGE.1);
    }

    #[test]
    fn old_samples_fall_out() {
        let mut latency = Latency::default();
        (0..MOST_SAMPLES).for_each(|_| latency.add(millis(9_000)));
        (0..MOST_SAMPLES).for_each(|_| latency.add(millis(1)));
        assert_eq!(latency.percentile(99), Some(millis(1)));
        assert_eq!(latency.hedge_delay(), HEDGE_DELAY);
    }
}
