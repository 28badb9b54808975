//! When a breaker opens, how long it waits, and what closes it. Never waits: time is an argument.

#![expect(clippy::unchecked_time_subtraction, reason = "times in a test are in order")]

use super::*;
use crate::policy::{BREAKER_BUCKET, COOLDOWN_CAP, COOLDOWN_CAP_ALONE};
use hotspare_testkit::VirtualClock;
use proptest::prelude::*;

const GOOD: u32 = 2;
const EVEN: f64 = 0.5;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fail(breaker: &mut CircuitBreaker, now: Instant, strike: Strike) {
    breaker.on_failure(now, strike, COOLDOWN_CAP, EVEN);
}

/// Opened by three hard failures at `now`.
fn opened(now: Instant) -> CircuitBreaker {
    let mut breaker = CircuitBreaker::default();
    (0..BREAKER_FAILURES).for_each(|_| fail(&mut breaker, now, Strike::Hard));
    breaker
}

#[test]
fn three_hard_failures_in_a_row_open_it_and_a_good_answer_between_starts_the_count_anew() {
    let now = VirtualClock::new().now();
    let mut breaker = CircuitBreaker::default();
    fail(&mut breaker, now, Strike::Hard);
    breaker.on_success(now, GOOD);
    fail(&mut breaker, now, Strike::Hard);
    fail(&mut breaker, now, Strike::Hard);
    assert_eq!(breaker.permit(now), Permit::Pass);
    fail(&mut breaker, now, Strike::Hard);
    assert_eq!(breaker.permit(now), Permit::Denied(now + secs(15)));
}

#[test]
fn soft_failures_are_never_a_row_but_count_in_the_rate() {
    let now = VirtualClock::new().now();
    let mut breaker = CircuitBreaker::default();
    for _ in 0..4 {
        fail(&mut breaker, now, Strike::Soft);
        assert_eq!(breaker.permit(now), Permit::Pass);
    }
    fail(&mut breaker, now, Strike::Soft);
    assert!(matches!(breaker.permit(now), Permit::Denied(_)), "none of five answers was good");
}

#[test]
fn a_failure_that_counts_for_nothing_changes_nothing() {
    let now = VirtualClock::new().now();
    let mut breaker = CircuitBreaker::default();
    (0..20).for_each(|_| fail(&mut breaker, now, Strike::None));
    assert!(breaker.is_closed());
}

#[test]
fn half_good_passes_and_less_than_half_does_not() {
    let now = VirtualClock::new().now();
    let mut breaker = CircuitBreaker::default();
    for _ in 0..10 {
        breaker.on_success(now, GOOD);
        fail(&mut breaker, now, Strike::Hard);
        assert!(breaker.is_closed(), "half of the answers are good");
    }
    fail(&mut breaker, now, Strike::Hard);
    assert!(!breaker.is_closed(), "10 good of 21");
}

#[test]
fn what_is_older_than_the_window_counts_no_more() {
    let start = VirtualClock::new().now();
    let mut breaker = CircuitBreaker::default();
    (0..4).for_each(|_| fail(&mut breaker, start, Strike::Soft));
    let last_moment = start + BREAKER_BUCKET * 10 - Duration::from_millis(1);
    let mut just_within = breaker.clone();
    fail(&mut just_within, last_moment, Strike::Soft);
    assert!(!just_within.is_closed());
    fail(&mut breaker, start + BREAKER_BUCKET * 10, Strike::Soft);
    assert!(breaker.is_closed());
}

#[test]
fn it_opens_for_longer_each_time_up_to_its_cap_chance_included() {
    let mut now = VirtualClock::new().now();
    let mut breaker = opened(now);
    let mut times = Vec::new();
    for _ in 0..8 {
        let Permit::Denied(until) = breaker.permit(now) else { panic!("open") };
        times.push((until - now).as_secs());
        now = until;
        breaker.begin_trial(now);
        fail(&mut breaker, now, Strike::Soft);
    }
    assert_eq!(times, [15, 30, 60, 120, 240, 300, 300, 300]);
    for dice in [0.0, 1.0] {
        let mut breaker = breaker.clone();
        breaker.begin_trial(now + secs(300));
        breaker.on_failure(now + secs(300), Strike::Hard, COOLDOWN_CAP_ALONE, dice);
        let Permit::Denied(until) = breaker.permit(now + secs(300)) else { panic!("open") };
        assert_eq!(until, now + secs(300) + COOLDOWN_CAP_ALONE);
    }
}

#[test]
fn chance_moves_the_first_opening_by_a_fifth_either_way() {
    let now = VirtualClock::new().now();
    let time = |dice| {
        let mut breaker = CircuitBreaker::default();
        (0..3).for_each(|_| breaker.on_failure(now, Strike::Hard, COOLDOWN_CAP, dice));
        breaker.open_until().map(|(until, _)| until - now)
    };
    assert_eq!((time(0.0), time(1.0), time(7.0)), (Some(secs(12)), Some(secs(18)), Some(secs(18))));
}

/// teamclaude #84 #89, hermes #109234, clodex #81: everyone tried the profile that had just come back.
#[test]
fn r39_one_trial_at_a_time_and_two_good_ones_close_it() {
    let start = VirtualClock::new().now();
    let mut breaker = opened(start);
    let now = start + secs(15);
    assert_eq!(breaker.permit(now), Permit::Trial);
    breaker.begin_trial(now);
    assert!(matches!(breaker.permit(now), Permit::Denied(_)), "the trial is under way");
    breaker.on_success(now, GOOD);
    assert_eq!((breaker.permit(now), breaker.half_open()), (Permit::Trial, Some(1)));
    breaker.begin_trial(now);
    breaker.on_success(now, GOOD);
    assert_eq!((breaker.permit(now), breaker.half_open()), (Permit::Pass, None));
}

#[test]
fn a_lost_or_abandoned_trial_lets_the_next_one_go() {
    let start = VirtualClock::new().now();
    let now = start + secs(15);
    let mut breaker = opened(start);
    breaker.begin_trial(now);
    assert_eq!(breaker.permit(now + TRIAL_TIME), Permit::Trial);
    assert_eq!(breaker.permit(now + TRIAL_TIME - secs(1)), Permit::Denied(now + TRIAL_TIME));
    breaker.abandon_trial();
    assert_eq!(breaker.permit(now), Permit::Trial);
    breaker.begin_trial(now);
    assert!(matches!(breaker.permit(now), Permit::Denied(_)));
}

#[test]
fn the_good_end_of_a_request_from_before_is_evidence_too() {
    let now = VirtualClock::new().now();
    let mut breaker = opened(now);
    breaker.on_success(now, GOOD);
    assert_eq!(breaker.half_open(), Some(1));
    let mut once = opened(now);
    once.on_success(now, 1);
    assert!(once.is_closed());
}

#[test]
fn ten_minutes_of_peace_make_it_forget_how_often_it_opened() {
    let start = VirtualClock::new().now();
    let reopened = |peace: Duration| {
        let mut breaker = opened(start);
        let closed = start + secs(15);
        breaker.on_success(closed, 1);
        let now = closed + peace;
        (0..3).for_each(|_| fail(&mut breaker, now, Strike::Hard));
        breaker.open_until().map(|(until, _)| (until - now).as_secs())
    };
    assert_eq!(reopened(BREAKER_FORGETS - secs(1)), Some(30));
    assert_eq!(reopened(BREAKER_FORGETS), Some(15));
}

#[test]
fn failures_while_it_is_open_do_not_lengthen_it() {
    let now = VirtualClock::new().now();
    let mut breaker = opened(now);
    let until = breaker.open_until();
    fail(&mut breaker, now + secs(10), Strike::Hard);
    assert_eq!(breaker.open_until(), until);
}

#[test]
fn it_can_be_shortened_and_moved_but_not_lengthened() {
    let now = VirtualClock::new().now();
    let mut breaker = opened(now);
    breaker.shorten(now, secs(60));
    assert_eq!(breaker.open_until(), Some((now + secs(15), 1)));
    breaker.shorten(now, secs(4));
    assert_eq!(breaker.open_until(), Some((now + secs(4), 1)));
    breaker.shift_back(secs(3));
    assert_eq!(breaker.open_until(), Some((now + secs(1), 1)));
    breaker.restore(now + secs(9), 3);
    assert_eq!(breaker.open_until(), Some((now + secs(9), 3)));
}

#[test]
fn sessions_come_back_little_by_little() {
    let start = VirtualClock::new().now();
    let mut breaker = opened(start);
    assert!((CircuitBreaker::default().ramp(start) - 1.0).abs() < f64::EPSILON, "who never failed takes all");
    breaker.on_success(start, 1);
    assert!((breaker.ramp(start) - RAMP_START).abs() < f64::EPSILON);
    assert!((breaker.ramp(start + RAMP_TIME / 2) - 0.5).abs() < 1e-9);
    assert!((breaker.ramp(start + RAMP_TIME * 2) - 1.0).abs() < f64::EPSILON);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Good,
    Soft,
    Hard,
    Trial,
    Abandon,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Good),
        2 => Just(Step::Soft),
        3 => Just(Step::Hard),
        2 => Just(Step::Trial),
        1 => Just(Step::Abandon),
        3 => (0_u64..400).prop_map(Step::Pass),
    ]
}

/// What the product's description says, written down a second time as plainly as possible: every answer is kept, nothing is counted ahead.
#[derive(Default)]
struct Model {
    answers: Vec<(Duration, bool)>,
    row: u32,
    open_until: Option<Duration>,
    half_open: Option<(u32, Option<Duration>)>,
    opened: u32,
    closed_at: Option<Duration>,
}

impl Model {
    fn open(&mut self, now: Duration) {
        if self.closed_at.is_some_and(|at| now - at >= BREAKER_FORGETS) {
            self.opened = 0;
        }
        let time = (BREAKER_OPEN * 2_u32.pow(self.opened.min(16))).min(COOLDOWN_CAP);
        *self = Self { opened: self.opened + 1, open_until: Some(now + time), closed_at: self.closed_at, ..Self::default() };
    }

    fn take(&mut self, now: Duration, step: Step, bucket_start: Duration) {
        let good = matches!(step, Step::Good);
        match (step, self.open_until, self.half_open) {
            (Step::Pass(_), ..) => {}
            (Step::Trial, Some(until), _) if now >= until => (self.open_until, self.half_open) = (None, Some((0, Some(now)))),
            (Step::Trial, Some(_), _) => (self.open_until, self.half_open) = (None, Some((0, Some(now)))),
            (Step::Trial, _, Some((so_far, _))) => self.half_open = Some((so_far, Some(now))),
            (Step::Abandon, _, Some((so_far, _))) => self.half_open = Some((so_far, None)),
            (Step::Trial | Step::Abandon, ..) => {}
            (Step::Good, Some(_), _) => (self.open_until, self.half_open) = (None, Some((1, None))),
            (Step::Good, _, Some((1, _))) => *self = Self { opened: self.opened, closed_at: Some(now), ..Self::default() },
            (Step::Good, _, Some((so_far, _))) => self.half_open = Some((so_far + 1, None)),
            (Step::Soft | Step::Hard, Some(_), _) => {}
            (Step::Soft | Step::Hard, _, Some(_)) => self.open(now),
            (Step::Good | Step::Soft | Step::Hard, None, None) => {
                self.row = match step {
                    Step::Hard => self.row + 1,
                    Step::Good => 0,
                    _ => self.row,
                };
                self.answers.push((now, good));
                let recent: Vec<bool> = self.answers.iter().filter(|(at, _)| *at >= bucket_start).map(|(_, good)| *good).collect();
                let bad = recent.iter().filter(|good| !**good).count();
                if !good && (self.row >= 3 || (recent.len() >= 5 && bad * 2 > recent.len())) {
                    self.open(now);
                }
            }
        }
    }
}

proptest! {
    /// Invariant I8: the breaker is a function of what happened and when.
    #[test]
    fn i8_it_does_what_a_plain_reading_of_its_description_does(steps in proptest::collection::vec(step(), 0..120)) {
        let start = VirtualClock::new().now();
        let (mut breaker, mut model) = (CircuitBreaker::default(), Model::default());
        let mut now = Duration::ZERO;
        let mut first = None;
        for step in steps {
            let at = start + now;
            match step {
                Step::Good => breaker.on_success(at, GOOD),
                Step::Soft => fail(&mut breaker, at, Strike::Soft),
                Step::Hard => fail(&mut breaker, at, Strike::Hard),
                Step::Trial => breaker.begin_trial(at),
                Step::Abandon => breaker.abandon_trial(),
                Step::Pass(seconds) => now += secs(seconds),
            }
            // Buckets are counted from the first answer of a fresh window.
            let was_closed = model.open_until.is_none() && model.half_open.is_none();
            if was_closed && matches!(step, Step::Good | Step::Soft | Step::Hard) && model.answers.is_empty() {
                first = Some(now);
            }
            let bucket_start = first.map_or(Duration::ZERO, |first: Duration| {
                let passed = (now - first).as_secs() / BREAKER_BUCKET.as_secs();
                (first + BREAKER_BUCKET * u32::try_from(passed).unwrap()).saturating_sub(BREAKER_BUCKET * 9)
            });
            model.take(now, step, bucket_start);
            prop_assert_eq!(breaker.open_until().map(|(until, _)| until - start), model.open_until);
            prop_assert_eq!(breaker.half_open(), model.half_open.map(|(good, _)| good));
            if let Some((until, _)) = breaker.open_until() {
                prop_assert!(until <= start + now + COOLDOWN_CAP, "nothing is benched for more than its cap");
            }
        }
    }
}
