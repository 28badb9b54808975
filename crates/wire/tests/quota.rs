//! A hundred thousand refusals with random, often partial, limit headers: a used-up window gets no request before its reset.
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small numbers in a simulation")]

use std::time::{Duration, SystemTime};

use hotspare_core::health::{Health, Standing, Victim};
use hotspare_core::policy::{LONGEST_TRUST, RESET_JITTER};
use hotspare_core::{Endpoint, FailureKind, ModelFamily, ProfileId};
use hotspare_testkit::VirtualClock;
use hotspare_wire::{failure, limits};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const SETS: u64 = 100_000;
const P: ProfileId = ProfileId(0);

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.throw() * end as f64) as u64
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A refusal's headers, and the reset that an exact reader would take from them: the latest of the rejected windows', else the one named
/// for all, else `retry-after`.
fn refusal(dice: &mut Dice, now: u64) -> (HeaderMap, Option<u64>) {
    let mut headers = HeaderMap::new();
    let mut put = |name: String, value: String| {
        let name = HeaderName::try_from(name).expect("a header's name");
        headers.insert(name, HeaderValue::try_from(value).expect("plain text"));
    };
    put("anthropic-ratelimit-unified-status".into(), dice.one_of(&["rejected", "Rejected", "REJECTED"]).into());
    let mut latest = None;
    for window in ["5h", "7d", "7d_oi", "7d_opus", "overage", "something-new"] {
        if dice.throw() < 0.5 {
            continue;
        }
        let status = dice.one_of(&["allowed", "allowed_warning", "rejected", "nonsense"]);
        put(format!("anthropic-ratelimit-unified-{window}-status"), status.into());
        if dice.throw() < 0.7 {
            put(format!("anthropic-ratelimit-unified-{window}-utilization"), format!("{:.3}", dice.throw() * 1.5));
        }
        if dice.throw() < 0.7 {
            let reset = now + 1 + dice.below(9 * 24 * 3600);
            put(format!("anthropic-ratelimit-unified-{window}-reset"), reset.to_string());
            if status == "rejected" && window != "overage" {
                latest = latest.max(Some(reset));
            }
        }
    }
    let mut overall = None;
    if dice.throw() < 0.6 {
        let reset = now + 1 + dice.below(8 * 24 * 3600);
        put("anthropic-ratelimit-unified-reset".into(), reset.to_string());
        overall = Some(reset);
    }
    let mut after = None;
    if dice.throw() < 0.5 {
        let seconds = 1 + dice.below(20_000);
        put("retry-after".into(), seconds.to_string());
        after = Some(now + seconds);
    }
    if dice.throw() < 0.5 {
        put("anthropic-ratelimit-unified-representative-claim".into(), dice.one_of(&["five_hour", "seven_day"]).into());
    }
    (headers, latest.or(overall).or(after))
}

/// opencodex #3809: a known reset was cut to a quarter of an hour, and a drained account re-offered four times an hour.
#[test]
fn r31_a_used_up_window_gets_no_request_before_its_reset() {
    let mut dice = Dice(1);
    let start = VirtualClock::new().now();
    let now = 1_790_000_000;
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
    let (mut known, mut early, mut late) = (0_u32, 0_u32, 0_u32);
    for _ in 0..SETS {
        let (headers, reset) = refusal(&mut dice, now);
        let refused = failure::of_response(Endpoint::Messages, StatusCode::TOO_MANY_REQUESTS, &headers, b"", wall);
        assert_eq!(refused.kind, FailureKind::QuotaExhausted, "{headers:?}");
        let victim = Victim {
            profile: P,
            family: ModelFamily::Opus,
            credential: None,
            host: None,
            another_usable: dice.throw() < 0.5,
            asked: None,
            request: None,
        };
        let mut health = Health::default();
        let throw = dice.throw();
        health.on_limits(start, &victim, &limits::reading(&headers, wall).expect("a status is there"), throw);
        health.on_failure(start, &victim, &refused, throw);
        let usable = |after: Duration| health.standing(start + after, P, ModelFamily::Opus, None) == Standing::Usable;
        let Some(reset) = reset else { continue };
        known += 1;
        let wait = Duration::from_secs(reset - now).min(LONGEST_TRUST);
        for at in [0.0, dice.throw(), 0.999_999] {
            early += u32::from(usable(wait.mul_f64(at)));
        }
        late += u32::from(!usable(wait + RESET_JITTER));
    }
    println!("{SETS} header sets, {known} with a reset: {early} requests before it, {late} not back half a minute after it");
    assert!(known > 80_000, "{known}");
    assert_eq!((early, late), (0, 0));
}
