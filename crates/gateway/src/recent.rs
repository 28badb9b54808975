//! Adds up what each profile did in the last minutes, from the one record of each exchange, for `status`. Never moves health: that is the
//! core's business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hotspare_core::ExchangeRecord;
use hotspare_core::health::Latency;

/// What `status` looks back on: so many parts …
const PARTS: usize = 10;

/// … of so long each. The oldest part falls out as a whole.
const PART: Duration = Duration::from_secs(30);

/// Most names told apart; a configuration has 64 at most, and names that a new one brings are told apart up to here.
const NAMES_CAP: usize = 256;

/// What the profiles did of late, by name.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    profiles: BTreeMap<String, Profile>,
}

#[derive(Debug, Default)]
struct Profile {
    first_contents: Latency,
    /// The newest last: when a part began, attempts, failed ones.
    parts: Vec<(Instant, u64, u64)>,
}

/// What one profile did of late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Glance {
    /// Time to the first content, 50th and 95th percentile of the last answers.
    pub first_content: Option<(Duration, Duration)>,
    /// Attempts of the last five minutes.
    pub attempts: u64,
    /// Of those, failed ones.
    pub failed: u64,
}

impl Recent {
    /// An exchange is over.
    pub(crate) fn note(&mut self, now: Instant, record: &ExchangeRecord) {
        if !record.endpoint.moves_health() {
            return;
        }
        for attempt in &record.attempts {
            if self.profiles.len() >= NAMES_CAP && !self.profiles.contains_key(&attempt.profile) {
                continue;
            }
            let profile = self.profiles.entry(attempt.profile.clone()).or_default();
            let answered = attempt.first_content_us.or(attempt.head_us.filter(|_| !record.stream));
            if attempt.class.is_some() || answered.is_some() {
                profile.count(now, attempt.class.is_some());
            }
            if let Some(at) = answered.filter(|_| attempt.class.is_none()) {
                profile.first_contents.add(Duration::from_micros(at.saturating_sub(attempt.started_us)));
            }
        }
    }

    /// What a profile did of late.
    pub(crate) fn glance(&self, now: Instant, name: &str) -> Glance {
        let Some(profile) = self.profiles.get(name) else { return Glance::default() };
        let fresh = profile.parts.iter().filter(|(began, ..)| is_fresh(now, *began));
        let (attempts, failed) = fresh.fold((0, 0), |(attempts, failed), part| (attempts + part.1, failed + part.2));
        let percentile = |percent| profile.first_contents.percentile(percent);
        Glance { first_content: percentile(50).zip(percentile(95)), attempts, failed }
    }
}

fn is_fresh(now: Instant, began: Instant) -> bool {
    now.saturating_duration_since(began) < PART * u32::try_from(PARTS).expect("a small constant")
}

impl Profile {
    fn count(&mut self, now: Instant, failed: bool) {
        self.parts.retain(|(began, ..)| is_fresh(now, *began));
        if self.parts.last().is_none_or(|(began, ..)| now.saturating_duration_since(*began) >= PART) {
            self.parts.push((now, 0, 0));
        }
        if let Some((_, attempts, failures)) = self.parts.last_mut() {
            *attempts += 1;
            *failures += u64::from(failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotspare_testkit::VirtualClock;
    use serde_json::json;

    fn record(profile: &str, class: Option<&str>, first_content_us: Option<u64>) -> ExchangeRecord {
        let attempt = json!({
            "profile": profile, "model": null, "kind": "initial", "started_us": 500_000, "connect_us": null, "head_us": null,
            "first_content_us": first_content_us, "ended_us": 2000, "status": 200, "class": class, "stage": null,
            "detail": null, "decision": "commit", "reason": null,
            "tokens": { "input": null, "output": null, "cache_read": null, "cache_write": null },
            "bytes_up": 1, "bytes_down": 1, "wasted": false, "maybe_billed": false
        });
        serde_json::from_value(json!({
            "version": 1, "id": "hs_00000000000000a1", "at_ms": 1, "took_us": 2000, "endpoint": "messages", "client": "program",
            "session": null, "agent": null, "model": null, "stream": true, "chain": "default", "rule": null, "outcome": "served",
            "status": 200, "served_by": profile, "on_spare": false, "request_bytes": 1, "response_bytes": 1,
            "changed": [], "skipped": [], "cold_prefix_tokens": null, "est_cost_micro_usd": null, "attempts": [attempt]
        }))
        .expect("a record")
    }

    #[test]
    fn it_looks_back_on_five_minutes_and_no_longer() {
        let start = VirtualClock::new().now();
        let mut recent = Recent::default();
        recent.note(start, &record("work", Some("overloaded"), None));
        recent.note(start + Duration::from_secs(200), &record("work", None, Some(1_700_000)));
        let glance = |at| recent.glance(start + Duration::from_secs(at), "work");
        let time = Duration::from_millis(1200);
        assert_eq!(glance(299), Glance { first_content: Some((time, time)), attempts: 2, failed: 1 });
        assert_eq!((glance(300).attempts, glance(300).failed), (1, 0));
        assert_eq!(recent.glance(start, "spare"), Glance::default());
    }

    #[test]
    fn what_it_keeps_is_bounded() {
        let start = VirtualClock::new().now();
        let mut recent = Recent::default();
        for number in 0..1000 {
            recent.note(start + Duration::from_secs(number), &record("work", None, Some(600_000)));
            recent.note(start, &record(&format!("p{number}"), None, Some(600_000)));
        }
        assert!(recent.profiles.len() <= NAMES_CAP && recent.profiles["work"].parts.len() <= PARTS);
        let attempts = recent.glance(start + Duration::from_secs(999), "work").attempts;
        assert!((270..=300).contains(&attempts), "{attempts}");
    }
}
