//! Boils samples down: quantiles of a round, medians over rounds. Never drops a sample.

use std::time::Duration;

/// The nearest-rank quantile, `q` within 0..=1, of samples in any order.
pub(super) fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "ranks of some thousands")]
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

pub(super) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// Microseconds.
pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The p50 and p99 of one figure, in microseconds, round by round.
#[derive(Debug, Default, Clone)]
pub(super) struct Rounds {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Rounds {
    /// Takes one round's samples.
    pub(super) fn push(&mut self, samples: &[f64]) {
        self.p50.push(median(samples));
        self.p99.push(quantile(samples, 0.99));
    }

    /// The median round's p50.
    pub(super) fn p50(&self) -> f64 {
        median(&self.p50)
    }

    /// The median round's p99.
    pub(super) fn p99(&self) -> f64 {
        median(&self.p99)
    }

    /// What the p50 is above `base`, round by round, then the median: both saw the same weather.
    pub(super) fn added_p50(&self, base: &Self) -> f64 {
        added(&self.p50, &base.p50)
    }

    /// As [`Self::added_p50`], of the p99.
    pub(super) fn added_p99(&self, base: &Self) -> f64 {
        added(&self.p99, &base.p99)
    }
}

fn added(ours: &[f64], base: &[f64]) -> f64 {
    let differences: Vec<f64> = ours.iter().zip(base).map(|(ours, base)| ours - base).collect();
    median(&differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_by_nearest_rank() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
        near(quantile(&samples, 0.5), 50.0);
        near(quantile(&samples, 0.99), 99.0);
        near(quantile(&samples, 1.0), 100.0);
        near(quantile(&[7.0], 0.01), 7.0);
        near(quantile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn added_time_compares_within_each_round() {
        let (mut base, mut ours) = (Rounds::default(), Rounds::default());
        for weather in [10.0, 1000.0, 20.0] {
            base.push(&[weather]);
            ours.push(&[weather + 5.0]);
        }
        assert!((ours.added_p50(&base) - 5.0).abs() < 1e-9);
    }
}
