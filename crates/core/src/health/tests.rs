//! Who may be asked after which failure, and from when on. Never waits: time is an argument.

#![expect(clippy::unchecked_time_subtraction, reason = "times in a test are in order")]

use super::*;
use crate::failure::Stage;
use crate::policy::HEDGE_DELAY;
use crate::window::{WindowReading, WindowStatus};
use hotspare_testkit::VirtualClock;
use proptest::prelude::*;

const P: ProfileId = ProfileId(0);
const Q: ProfileId = ProfileId(1);
const OPUS: ModelFamily = ModelFamily::Opus;
const EVEN: f64 = 0.5;

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, Stage::Head, "failed")
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn victim(profile: ProfileId) -> Victim {
    Victim { profile, family: OPUS, credential: None, host: Some(u64::from(profile.0)), another_usable: true, asked: None, request: None }
}

fn failed(now: Instant, kind: FailureKind) -> Health {
    let mut health = Health::default();
    health.on_failure(now, &victim(P), &failure(kind), EVEN);
    health
}

fn usable(health: &Health, now: Instant) -> bool {
    health.standing(now, P, OPUS, None) == Standing::Usable
}

#[test]
fn a_profile_is_held_while_benched_or_on_trial_and_no_longer() {
    let mut clock = VirtualClock::new();
    let mut health = failed(clock.now(), FailureKind::HeadTimeout);
    assert!(health.report(clock.now(), P).is_held());
    let over = clock.advance(secs(30));
    assert!(!health.report(over, P).is_held(), "a bench ends at its end");
    for _ in 0..3 {
        health.on_failure(clock.now(), &victim(P), &failure(FailureKind::HeadTimeout), EVEN);
    }
    let until = health.report(clock.now(), P).bench.unwrap().until;
    let trial = clock.advance(until - clock.now());
    health.begin(trial, P, OPUS);
    let report = health.report(trial, P);
    assert!(report.bench.is_none() && report.half_open.is_some() && report.is_held(), "one that may try is still held: {report:?}");
    assert!(!health.report(trial, Q).is_held());
}

#[test]
fn a_failed_profile_is_usable_again_after_its_cooldown() {
    let now = VirtualClock::new().now();
    let health = failed(now, FailureKind::HeadTimeout);
    assert!(matches!(health.standing(now + secs(29), P, OPUS, None), Standing::Cooling { grip: Grip::Loose, .. }));
    assert!(usable(&health, now + secs(30)));
}

#[test]
fn what_a_profile_failed_with_last_is_known() {
    let now = VirtualClock::new().now();
    let mut health = failed(now, FailureKind::HeadTimeout);
    health.on_failure(now, &victim(P), &failure(FailureKind::ServerError), EVEN);
    assert_eq!(health.last_failure(P), Some(FailureKind::ServerError));
    assert_eq!(health.last_failure(Q), None);
}

#[test]
fn an_overload_is_a_guess_the_first_time_and_none_when_it_repeats() {
    let now = VirtualClock::new().now();
    let mut health = failed(now, FailureKind::Overloaded);
    let grip = |health: &Health, now| match health.standing(now, P, OPUS, None) {
        Standing::Cooling { grip, .. } => grip,
        other => panic!("{other:?}"),
    };
    assert_eq!(grip(&health, now), Grip::Loose);
    health.on_failure(now + secs(15), &victim(P), &failure(FailureKind::Overloaded), EVEN);
    assert_eq!(grip(&health, now + secs(15)), Grip::Firm);
}

#[test]
fn a_breaker_is_reported_until_its_time_is_over_and_no_longer() {
    let mut clock = VirtualClock::new();
    let mut health = Health::default();
    for _ in 0..3 {
        health.on_failure(clock.now(), &victim(P), &failure(FailureKind::ServerError), EVEN);
    }
    let open = health.report(clock.now(), P).bench.filter(|bench| bench.open).expect("its breaker is open");
    let just_before = clock.advance(open.until - clock.now() - Duration::from_millis(1));
    assert_eq!(health.report(just_before, P).bench, Some(open));
    assert_eq!(health.report(open.until, P).bench, None);
}

#[test]
fn overload_benches_its_model_family_alone() {
    let now = VirtualClock::new().now();
    let health = failed(now, FailureKind::Overloaded);
    assert_eq!(health.standing(now, P, ModelFamily::Haiku, None), Standing::Usable);
    assert!(matches!(health.standing(now, P, OPUS, None), Standing::Cooling { .. }));
}

/// `CLIProxyAPI` #5915 #5920: a weekly limit of one model family took the whole account out for 33.7 h.
#[test]
fn r28_a_model_family_s_limit_benches_that_family_alone() {
    let now = VirtualClock::new().now();
    let mut limit = failure(FailureKind::QuotaExhausted).with_retry_after(Some(secs(3600)));
    limit.family_only = true;
    let told = LimitReading { rejected: true, family_only: true, resets_in: Some(secs(3600)), ..LimitReading::default() };
    for from_headers in [false, true] {
        let mut health = Health::default();
        if from_headers {
            health.on_limits(now, &victim(P), &told, EVEN);
        } else {
            health.on_failure(now, &victim(P), &limit, EVEN);
        }
        assert!(matches!(health.standing(now, P, OPUS, None), Standing::Cooling { grip: Grip::Hard, .. }));
        assert_eq!(health.standing(now, P, ModelFamily::Sonnet, None), Standing::Usable);
    }
}

#[test]
fn a_used_up_window_is_left_alone_until_its_reset_and_a_little_longer() {
    let now = VirtualClock::new().now();
    for (dice, until) in [(0.0, 600), (1.0, 630)] {
        let mut health = Health::default();
        let limit = failure(FailureKind::QuotaExhausted).with_retry_after(Some(secs(600)));
        health.on_failure(now, &victim(P), &limit, dice);
        assert!(!usable(&health, now + secs(until - 1)));
        assert!(usable(&health, now + secs(until)));
    }
}

/// One 529 each quarter of a minute is too seldom for a breaker: without this a long overload would be asked 40 times in ten minutes.
#[test]
fn an_overload_that_goes_on_is_asked_ever_more_seldom_until_a_good_answer() {
    let mut clock = VirtualClock::new();
    let mut health = Health::default();
    let mut waits = Vec::new();
    for _ in 0..6 {
        health.on_failure(clock.now(), &victim(P), &failure(FailureKind::Overloaded), EVEN);
        let wait = health.soonest(clock.now(), [P].into_iter(), OPUS, None).unwrap();
        waits.push(wait.as_secs());
        clock.advance(wait);
    }
    assert_eq!(waits, [15, 30, 60, 120, 240, 300]);
    health.on_success(clock.now(), P, OPUS, clock.now(), 2);
    health.on_failure(clock.now(), &victim(P), &failure(FailureKind::Overloaded), EVEN);
    assert_eq!(health.soonest(clock.now(), [P].into_iter(), OPUS, None), Some(secs(15)));
}

/// Four agents of one session meet one moment of too much: that is no overload that goes on.
#[test]
fn requests_that_were_under_way_together_meet_one_overload() {
    let mut clock = VirtualClock::new();
    let mut health = Health::default();
    let together = Victim { asked: Some(clock.now()), ..victim(P) };
    for _ in 0..4 {
        clock.advance(Duration::from_millis(1));
        health.on_failure(clock.now(), &together, &failure(FailureKind::Overloaded), EVEN);
    }
    assert_eq!(health.soonest(clock.now(), [P].into_iter(), OPUS, None), Some(secs(15)));
    // Whoever asks later and meets it still has met another.
    let later = Victim { asked: Some(clock.now()), ..victim(P) };
    health.on_failure(clock.advance(secs(60)), &later, &failure(FailureKind::Overloaded), EVEN);
    assert_eq!(health.soonest(clock.now(), [P].into_iter(), OPUS, None), Some(secs(30)));
}

#[test]
fn a_dead_login_is_over_when_another_credential_comes() {
    let now = VirtualClock::new().now();
    let mut health = Health::default();
    health.on_failure(now, &Victim { credential: Some(1), ..victim(P) }, &failure(FailureKind::Unauthorized), EVEN);
    assert!(matches!(health.standing(now, P, OPUS, Some(1)), Standing::Cooling { grip: Grip::Credential, .. }));
    assert_eq!(health.standing(now, P, OPUS, Some(2)), Standing::Usable);
}

#[test]
fn a_used_up_window_is_over_when_the_client_comes_with_another_login() {
    let now = VirtualClock::new().now();
    let mut health = Health::default();
    let limit = failure(FailureKind::QuotaExhausted).with_retry_after(Some(secs(600)));
    health.on_failure(now, &Victim { credential: Some(1), ..victim(P) }, &limit, EVEN);
    assert_ne!(health.standing(now, P, OPUS, Some(1)), Standing::Usable);
    assert_eq!(health.standing(now, P, OPUS, Some(2)), Standing::Usable);
}

#[test]
fn a_good_answer_ends_what_came_before_its_request_and_nothing_newer() {
    let now = VirtualClock::new().now();
    let mut health = failed(now, FailureKind::ServerError);
    health.on_success(now, P, OPUS, now - secs(1), 2);
    assert!(!usable(&health, now), "the answer is older than the failure");
    health.on_success(now, P, OPUS, now, 2);
    assert!(usable(&health, now));
    assert_eq!(health.soonest(now, [P].into_iter(), OPUS, None), None);
}

/// `CLIProxyAPI` #1655 #4724 #5639 #5758 #5770 (18 days after quota was back), better-ccflare #139 #262, openclaw/openclaw#64083.
#[test]
fn r30_nothing_is_benched_for_longer_than_its_cap() {
    let now = VirtualClock::new().now();
    for kind in FailureKind::ALL {
        for another_usable in [true, false] {
            let mut health = Health::default();
            let far = failure(kind).with_retry_after(Some(LONGEST_TRUST * 3));
            for _ in 0..30 {
                health.on_failure(now, &Victim { another_usable, ..victim(P) }, &far, 1.0);
            }
            let Standing::Cooling { until, grip, .. } = health.standing(now, P, OPUS, None) else { continue };
            let cap = match (grip >= Grip::Hard, another_usable) {
                (true, _) => LONGEST_TRUST,
                (false, true) => COOLDOWN_CAP,
                (false, false) => COOLDOWN_CAP_ALONE,
            };
            assert!(until - now <= cap, "{kind:?} for {:?}", until - now);
        }
    }
}

#[test]
fn a_guess_never_loosens_a_block() {
    let now = VirtualClock::new().now();
    let mut health = failed(now, FailureKind::Forbidden);
    health.on_failure(now, &victim(P), &failure(FailureKind::ServerError), EVEN);
    assert!(matches!(health.standing(now + secs(60), P, OPUS, None), Standing::Cooling { grip: Grip::Hard, .. }));
}

#[test]
fn a_breaker_opens_after_three_hard_failures_and_waits_for_a_trial() {
    let mut clock = VirtualClock::new();
    let mut health = Health::default();
    for _ in 0..3 {
        assert!(usable(&health, clock.now()));
        health.on_failure(clock.now(), &victim(P), &failure(FailureKind::ServerError), EVEN);
        clock.advance(secs(5));
    }
    assert!(matches!(health.standing(clock.now(), P, OPUS, None), Standing::Cooling { grip: Grip::Firm, .. }));
    clock.advance(secs(10));
    assert_eq!(health.standing(clock.now(), P, OPUS, None), Standing::Trial);
    health.begin(clock.now(), P, OPUS);
    assert_ne!(health.standing(clock.now(), P, OPUS, None), Standing::Trial);
    health.abandon(P, OPUS);
    assert_eq!(health.standing(clock.now(), P, OPUS, None), Standing::Trial);
}

/// `LiteLLM`'s connection errors never cool down (measured), and litellm #40404: stalls and cuts that count for nothing.
#[test]
fn r35_failures_without_a_status_count_like_those_with_one() {
    let without = [
        FailureKind::ConnectRefused,
        FailureKind::Unreachable,
        FailureKind::Dns,
        FailureKind::ConnectTimeout,
        FailureKind::TlsHandshake,
        FailureKind::ClosedBeforeHead,
        FailureKind::BadHead,
        FailureKind::HeadTimeout,
        FailureKind::WrongContent,
        FailureKind::StreamDied,
        FailureKind::Stalled,
    ];
    for kind in without {
        let now = VirtualClock::new().now();
        let mut health = Health::default();
        // When every guess is over, only an open breaker still asks for a trial.
        let later = now + secs(31);
        for _ in 0..3 {
            assert_eq!(health.standing(later, P, OPUS, None), Standing::Usable, "{kind:?}");
            health.on_failure(now, &victim(P), &failure(kind), EVEN);
        }
        assert_eq!(health.standing(later, P, OPUS, None), Standing::Trial, "{kind:?}");
    }
}

#[test]
fn a_soft_failure_fails_a_trial() {
    let mut clock = VirtualClock::new();
    let mut health = Health::default();
    (0..3).for_each(|_| health.on_failure(clock.now(), &victim(P), &failure(FailureKind::ServerError), EVEN));
    clock.advance(secs(20));
    for kind in [FailureKind::Overloaded, FailureKind::Throttled] {
        let mut health = health.clone();
        health.begin(clock.now(), P, OPUS);
        health.on_failure(clock.now(), &victim(P), &failure(kind), EVEN);
        assert_ne!(health.standing(clock.now() + secs(16), P, OPUS, None), Standing::Trial, "{kind:?}: open again, for 30 s");
        assert_eq!(health.standing(clock.now() + secs(30), P, OPUS, None), Standing::Trial, "{kind:?}");
    }
}

#[test]
fn with_nobody_else_left_open_breakers_are_shortened() {
    let mut clock = VirtualClock::new();
    let mut health = Health::default();
    for _ in 0..12 {
        health.on_failure(clock.now(), &victim(P), &failure(FailureKind::ServerError), EVEN);
        clock.advance(secs(301));
        health.begin(clock.now(), P, OPUS);
    }
    health.on_failure(clock.now(), &victim(P), &failure(FailureKind::ServerError), EVEN);
    let left = |health: &Health, now| health.soonest(now, [P].into_iter(), OPUS, None).unwrap_or_default();
    assert!(left(&health, clock.now()) > COOLDOWN_CAP_ALONE);
    health.on_failure(clock.now(), &Victim { another_usable: false, ..victim(Q) }, &failure(FailureKind::ServerError), EVEN);
    assert!(left(&health, clock.now()) <= COOLDOWN_CAP_ALONE);
}

#[test]
fn a_network_that_is_down_blames_nobody_and_forgives_what_it_looked_like() {
    let now = VirtualClock::new().now();
    let mut health = failed(now, FailureKind::Dns);
    assert!(!usable(&health, now));
    health.on_failure(now, &victim(Q), &failure(FailureKind::Unreachable), EVEN);
    assert!(health.offline_for(now).is_some());
    assert!(usable(&health, now), "it was the network");
    (0..9).for_each(|_| health.on_failure(now, &victim(P), &failure(FailureKind::ConnectTimeout), EVEN));
    assert!(usable(&health, now), "frozen while the network is down");
    health.on_head(Q, Some(1), secs(1));
    assert_eq!(health.offline_for(now), None);
    health.on_failure(now, &victim(P), &failure(FailureKind::ConnectTimeout), EVEN);
    assert!(!usable(&health, now));
}

#[test]
fn this_machine_s_own_ports_say_nothing_about_the_network() {
    let now = VirtualClock::new().now();
    let mut health = Health::default();
    for profile in [P, Q] {
        health.on_failure(now, &Victim { host: None, ..victim(profile) }, &failure(FailureKind::ConnectRefused), EVEN);
    }
    assert_eq!(health.offline_for(now), None);
    assert!(!usable(&health, now));
}

#[test]
fn a_block_is_a_block_also_while_time_settles() {
    let now = VirtualClock::new().now();
    let mut health = Health::default();
    health.on_jump(now, Jump::Back);
    health.on_failure(now, &victim(P), &failure(FailureKind::ServerError), EVEN);
    assert!(usable(&health, now), "sockets are dead after a sleep");
    health.on_failure(now, &victim(P), &failure(FailureKind::Unauthorized), EVEN);
    assert!(!usable(&health, now));
    let later = now + crate::policy::CLOCK_SETTLES;
    health.on_failure(later, &victim(Q), &failure(FailureKind::ServerError), EVEN);
    assert_ne!(health.standing(later, Q, OPUS, None), Standing::Usable);
}

#[test]
fn time_slept_through_has_passed_for_every_wait() {
    let now = VirtualClock::new().now();
    let mut health = Health::default();
    health.on_failure(now, &victim(P), &failure(FailureKind::QuotaExhausted).with_retry_after(Some(secs(3600))), 0.0);
    health.on_jump(now, Jump::Forward(secs(3000)));
    assert!(!usable(&health, now + secs(599)));
    assert!(usable(&health, now + secs(600)));
}

fn limits(status: WindowStatus, used: f64, resets_in: u64) -> LimitReading {
    LimitReading {
        windows: vec![WindowReading { name: "5h".into(), status: Some(status), used: Some(used), resets_in: Some(secs(resets_in)) }],
        rejected: status == WindowStatus::Rejected,
        family_only: false,
        resets_in: Some(secs(resets_in)),
    }
}

/// manaflow-ai/subrouter#26: an account over its limit that is still answered must not be asked by the next request.
#[test]
fn r27_a_good_answer_that_says_rejected_blocks_the_next_request() {
    let now = VirtualClock::new().now();
    let mut health = Health::default();
    health.on_limits(now, &victim(P), &limits(WindowStatus::Warning, 0.95, 100), 0.0);
    assert!(usable(&health, now));
    assert!((health.window_used(now, P, OPUS) - 0.95).abs() < f64::EPSILON);
    health.on_limits(now, &victim(P), &limits(WindowStatus::Rejected, 1.01, 100), 0.0);
    assert!(!usable(&health, now + secs(99)));
    assert!(usable(&health, now + secs(100)));
}

#[test]
fn in_panic_a_request_now_and_then_tries_for_half_a_minute() {
    let mut clock = VirtualClock::new();
    let mut health = Health::default();
    let mut admitted = 0;
    for _ in 0..600 {
        admitted += usize::from(health.admit_panic(clock.now()));
        clock.advance(secs(1));
    }
    assert_eq!(admitted, 6, "one in 5 s over 30 s");
    health.on_success(clock.now(), P, OPUS, clock.now(), 2);
    assert!(health.admit_panic(clock.now()), "the next panic is a new one");
}

#[test]
fn a_panic_s_half_minute_and_its_memory_end_on_the_second() {
    let now = VirtualClock::new().now();
    let mut health = Health::default();
    assert!(health.admit_panic(now));
    let end = now + PANIC_TIME;
    assert!(health.clone().admit_panic(end - secs(1)) && !health.clone().admit_panic(end), "half a minute is over at its end");
    // A trial may be asked freely in the half minute, then one in half a minute.
    assert!(health.clone().admit_trial(end - secs(1)));
    let mut late = health.clone();
    late.panic.as_mut().unwrap().admitted = Some(end);
    assert!(!late.admit_trial(end) && !late.admit_trial(end + PANIC_TRIALS - secs(1)) && late.admit_trial(end + PANIC_TRIALS));
    // Nobody has asked for so long: it is another panic.
    let forgotten = now + PANIC_FORGETS;
    assert_eq!(health.in_panic_for(forgotten - secs(1)), PANIC_FORGETS - secs(1));
    assert_eq!(health.in_panic_for(forgotten), Duration::ZERO);
    assert!(health.admit_panic(forgotten), "the first of a new one");
}

#[test]
fn a_later_bench_takes_the_place_of_one_that_is_as_strict_or_over() {
    let now = VirtualClock::new().now();
    let told = |seconds| failure(FailureKind::BadGateway).with_retry_after(Some(secs(seconds)));
    let until = |health: &Health, at: Instant| health.report(at, P).bench.map(|bench| bench.until);
    let mut health = Health::default();
    health.on_failure(now, &victim(P), &told(20), EVEN);
    health.on_failure(now, &victim(P), &told(8), EVEN);
    assert_eq!(until(&health, now), Some(now + secs(8)), "the latest word counts");
    let stricter = failed(now, FailureKind::Forbidden);
    let end = until(&stricter, now).unwrap();
    let mut before = stricter.clone();
    before.on_failure(end - secs(1), &victim(P), &told(20), EVEN);
    assert_eq!(until(&before, end - secs(1)), Some(end), "it holds to its end");
    let mut over = stricter;
    over.on_failure(end, &victim(P), &told(20), EVEN);
    assert_eq!(until(&over, end), Some(end + secs(20)), "and not beyond");
}

#[test]
fn who_is_not_known_yet_is_raced_after_the_usual_time() {
    let mut health = Health::default();
    assert_eq!(health.hedge_delay(P), HEDGE_DELAY);
    health.on_head(P, None, HEDGE_DELAY * 2);
    assert_eq!(health.hedge_delay(P), HEDGE_DELAY * 2);
}

/// better-ccflare #391 #404, `CLIProxyAPI` #5277: a bench that nobody could end by hand.
#[test]
fn r30_a_reset_forgets_one_profile_or_all() {
    let now = VirtualClock::new().now();
    let mut health = failed(now, FailureKind::Forbidden);
    health.on_failure(now, &victim(Q), &failure(FailureKind::Forbidden), EVEN);
    let mut one = health.clone();
    one.reset(Some(P));
    assert!(usable(&one, now) && one.standing(now, Q, OPUS, None) != Standing::Usable);
    health.reset(None);
    assert_eq!(health.standing(now, Q, OPUS, None), Standing::Usable);
}

#[test]
fn a_report_tells_why_and_until_when() {
    let now = VirtualClock::new().now();
    let mut health = failed(now, FailureKind::Overloaded);
    health.on_head(P, None, secs(2));
    let report = health.report(now, P);
    let bench = report.bench.unwrap();
    assert_eq!((bench.because, bench.family, bench.hard, bench.open), (FailureKind::Overloaded, Some(OPUS), false, false));
    assert_eq!(report.head, Some((secs(2), secs(2))));
    assert_eq!(health.report(now, Q), Report::default());
}

proptest! {
    /// Over any headers: a rejected window gets no request before its reset, and one half a minute after it at the latest.
    #[test]
    fn a_window_gets_no_request_before_its_reset(resets_in in 1_u64..700_000, dice in 0.0_f64..1.0, at in 0.0_f64..2.0) {
        let now = VirtualClock::new().now();
        let mut health = Health::default();
        health.on_limits(now, &victim(P), &limits(WindowStatus::Rejected, 1.0, resets_in), dice);
        let reset = secs(resets_in).min(LONGEST_TRUST);
        let asked = reset.mul_f64(at);
        if asked < reset {
            prop_assert!(!usable(&health, now + asked));
        }
        if asked >= reset + RESET_JITTER {
            prop_assert!(usable(&health, now + asked));
        }
    }
}

// Looks and last resorts.

#[test]
fn blocked_profile_is_looked_at_every_hour() {
    for kind in [FailureKind::Billing, FailureKind::QuotaExhausted] {
        let mut clock = VirtualClock::new();
        let mut health = Health::default();
        let told = failure(kind).with_retry_after(Some(secs(5 * 3600)));
        health.on_failure(clock.now(), &victim(P), &told, EVEN);
        let early = clock.advance(LOOK_INTERVAL - secs(1));
        assert!(matches!(health.standing(early, P, OPUS, None), Standing::Cooling { .. }), "{kind:?}");
        let due = clock.advance(secs(1));
        assert_eq!(health.standing(due, P, OPUS, None), Standing::Trial, "{kind:?}");
        assert!(health.is_look_due(due, P, OPUS, None));
        health.begin(due, P, OPUS);
        assert!(matches!(health.standing(due, P, OPUS, None), Standing::Cooling { .. }), "{kind:?}: one request looks");
        let next = clock.advance(LOOK_INTERVAL);
        assert_eq!(health.standing(next, P, OPUS, None), Standing::Trial, "{kind:?}");
    }
}

#[test]
fn blocked_profile_is_a_last_resort_once_a_minute() {
    let mut clock = VirtualClock::new();
    let mut health = failed(clock.now(), FailureKind::Billing);
    assert!(!health.is_last_resort(clock.now(), P, OPUS, None));
    let due = clock.advance(LAST_RESORT_INTERVAL);
    assert!(health.is_last_resort(due, P, OPUS, None));
    health.begin(due, P, OPUS);
    assert!(!health.is_last_resort(due, P, OPUS, None));
    // An end that the provider named is waited for.
    let mut told = Health::default();
    told.on_failure(due, &victim(P), &failure(FailureKind::QuotaExhausted).with_retry_after(Some(secs(7_200))), EVEN);
    assert!(!told.is_last_resort(due + LAST_RESORT_INTERVAL, P, OPUS, None));
}

#[test]
fn bare_limits_of_different_requests_become_a_cooldown() {
    let mut clock = VirtualClock::new();
    let mut health = Health::default();
    let limit = failure(FailureKind::BareRateLimit);
    let of = |request, asked| Victim { request: Some(request), asked: Some(asked), ..victim(P) };
    for _ in 0..3 {
        let now = clock.advance(secs(1));
        health.on_failure(now, &of(1, now), &limit, EVEN);
    }
    assert!(usable(&health, clock.now()), "the same request three times");
    let first = clock.now();
    let now = clock.advance(secs(1));
    health.on_failure(now, &of(2, first - secs(1)), &limit, EVEN);
    assert!(usable(&health, now), "sent before the first limit was known");
    let now = clock.advance(secs(1));
    health.on_failure(now, &of(3, now), &limit, EVEN);
    assert!(!usable(&health, now));
    health.on_success(now + secs(1), P, OPUS, now + secs(1), 1);
    let now = clock.advance(secs(2));
    health.on_failure(now, &of(4, now), &limit, EVEN);
    assert!(usable(&health, now), "a good answer ends the row");
}

#[test]
fn overruled_refusals_of_two_sessions_cool_the_profile() {
    let now = VirtualClock::new().now();
    let mut health = Health::default();
    health.on_overruled(now, P, Some(1));
    health.on_overruled(now, P, Some(1));
    assert!(usable(&health, now), "one session alone");
    health.on_overruled(now, P, Some(2));
    assert!(!usable(&health, now));
}
