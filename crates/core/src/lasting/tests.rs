//! What outlives a restart, for how long, and beside what other processes have learned. Never touches a disk.

use hotspare_testkit::VirtualClock;
use proptest::prelude::*;

use super::*;
use crate::health::{Standing, Victim};
use crate::policy::CACHE_LIFE;
use crate::window::{LimitReading, WindowReading};

const WALL_MS: u64 = 1_770_000_000_000;
const WORK: ProfileId = ProfileId(0);
const SPARE: ProfileId = ProfileId(1);
const HOUR: Duration = Duration::from_secs(3600);

fn name(id: ProfileId) -> Option<&'static str> {
    ["work", "spare"].get(usize::from(id.0)).copied()
}

/// In the next process the profiles stand in another order.
fn id(name: &str) -> Option<ProfileId> {
    ["spare", "work"].iter().position(|known| *known == name).and_then(|place| u16::try_from(place).ok()).map(ProfileId)
}

fn later(calendar: Calendar, by: Duration) -> Calendar {
    calendar.go_on(calendar.now + by, calendar.wall_ms() + millis(by))
}

fn start() -> Calendar {
    Calendar::new(VirtualClock::new().now(), WALL_MS)
}

fn victim(profile: ProfileId, credential: Option<u64>) -> Victim {
    Victim { profile, family: ModelFamily::Opus, credential, host: Some(1), another_usable: true, asked: None, request: None }
}

fn failure(kind: FailureKind, after: Option<Duration>) -> Failure {
    Failure { retry_after: after, ..Failure::new(kind, Stage::Head, kind.word()) }
}

/// What a process that starts so much later knows of it.
fn restarted(world: &World, calendar: Calendar, after: Duration) -> (World, Calendar) {
    let lasting = Lasting::of(world, calendar, name);
    let then = later(calendar, after);
    let mut next = World::default();
    lasting.restore(&mut next, then, id);
    (next, then)
}

fn standing(world: &World, now: Instant, profile: ProfileId) -> Standing {
    world.health.standing(now, profile, ModelFamily::Opus, None)
}

#[test]
fn a_used_up_window_is_kept_until_its_reset_and_no_longer() {
    let calendar = start();
    let mut world = World::default();
    world.health.on_failure(calendar.now, &victim(WORK, None), &failure(FailureKind::QuotaExhausted, Some(2 * HOUR)), 0.0);
    let (next, then) = restarted(&world, calendar, HOUR);
    assert_eq!(
        standing(&next, then.now, SPARE),
        Standing::Cooling { until: calendar.now + 2 * HOUR, because: FailureKind::QuotaExhausted, grip: Grip::Hard },
        "the profile keeps its name and not its number"
    );
    assert_eq!(standing(&next, then.now, WORK), Standing::Usable);
    assert_eq!(standing(&next, calendar.now + 2 * HOUR, SPARE), Standing::Usable);
    let (next, then) = restarted(&world, calendar, 2 * HOUR);
    assert_eq!(standing(&next, then.now, SPARE), Standing::Usable);
    assert_eq!(next.health.report(then.now, SPARE).last_failure, None, "what it stood for is over");
}

#[test]
fn what_is_about_a_client_s_own_credential_or_ends_with_another_one_does_not_last() {
    let calendar = start();
    let mut world = World::default();
    world.health.on_failure(calendar.now, &victim(WORK, Some(7)), &failure(FailureKind::QuotaExhausted, Some(HOUR)), 0.0);
    world.health.on_failure(calendar.now, &victim(SPARE, None), &failure(FailureKind::Unauthorized, None), 0.0);
    assert_eq!(Lasting::of(&world, calendar, name), Lasting::default());
    // Whoever asks, an overloaded provider is overloaded.
    world.health.on_failure(calendar.now, &victim(SPARE, Some(7)), &failure(FailureKind::BadGateway, None), 0.0);
    assert_eq!(Lasting::of(&world, calendar, name).benches.len(), 0, "a stricter bench stands in its place");
    world.health.reset(None);
    world.health.on_failure(calendar.now, &victim(SPARE, Some(7)), &failure(FailureKind::BadGateway, None), 0.0);
    assert_eq!(Lasting::of(&world, calendar, name).benches.len(), 1);
}

/// Breakers that live in memory alone (cc-switch, better-ccflare, measured; `CLIProxyAPI` #3368).
#[test]
fn r36_an_open_breaker_stays_open_and_its_first_request_is_a_trial() {
    let calendar = start();
    let mut world = World::default();
    for _ in 0..3 {
        world.health.on_failure(calendar.now, &victim(WORK, None), &failure(FailureKind::ConnectTimeout, None), 0.5);
    }
    let (next, then) = restarted(&world, calendar, Duration::from_secs(5));
    assert_eq!(standing(&next, then.now, SPARE), standing(&world, then.now, WORK));
    assert_eq!(next.health.report(then.now, SPARE).last_failure, world.health.report(then.now, WORK).last_failure);
    let (next, then) = restarted(&world, calendar, Duration::from_secs(60));
    assert_eq!(standing(&next, then.now, SPARE), Standing::Trial);
    let (next, then) = restarted(&world, calendar, Duration::from_secs(16) + COOLDOWN_CAP);
    assert_eq!(standing(&next, then.now, SPARE), Standing::Usable);
}

#[test]
fn sessions_windows_and_the_switch_come_back_while_they_mean_something() {
    let calendar = start();
    let mut world = World::default();
    world.affinity.on_served(calendar.now, 8, WORK, CACHE_LIFE, true);
    world.affinity.on_served(calendar.now, 16, WORK, HOUR, false);
    let window = WindowReading { name: "5h".into(), status: None, used: Some(0.62), resets_in: Some(HOUR) };
    let endless = WindowReading { name: "7d".into(), status: None, used: Some(0.31), resets_in: None };
    let reading = LimitReading { windows: vec![window, endless], ..LimitReading::default() };
    world.health.on_limits(calendar.now, &victim(WORK, None), &reading, 0.0);
    world.switch = Some(Switch { profile: WORK, until: Some(calendar.now + HOUR / 2) });

    let (next, then) = restarted(&world, calendar, Duration::from_secs(299));
    assert_eq!((next.affinity.active(then.now), next.switched_to(then.now)), (2, Some(SPARE)));
    let windows = next.health.report(then.now, SPARE).windows;
    assert_eq!(windows.iter().map(|window| (&*window.name, window.resets_at)).collect::<Vec<_>>(), [("5h", Some(calendar.now + HOUR))]);
    assert_eq!(next.switched_to(calendar.now + HOUR / 2), None);

    let (next, then) = restarted(&world, calendar, HOUR / 2);
    assert_eq!((next.affinity.active(then.now), next.switch), (1, None));
    let (next, then) = restarted(&world, calendar, HOUR);
    assert_eq!((next.affinity.active(then.now), next.health.report(then.now, SPARE).windows.len()), (0, 0));
}

#[test]
fn a_switch_without_an_end_lasts_eight_days_at_most() {
    let calendar = start();
    let mut world = World::default();
    world.switch = Some(Switch { profile: WORK, until: None });
    let (next, _) = restarted(&world, calendar, LONGEST_TRUST.saturating_sub(2 * HOUR));
    assert_eq!(next.switch, Some(Switch { profile: SPARE, until: None }));
    assert_eq!(restarted(&world, calendar, LONGEST_TRUST).0.switch, None);
}

#[test]
fn an_instant_keeps_its_time_until_the_clocks_come_apart() {
    let calendar = start();
    let end = calendar.now + HOUR;
    let on = calendar.go_on(calendar.now + Duration::from_micros(1_500_700), WALL_MS + 1_502);
    assert_eq!(on.ms(end), calendar.ms(end));
    let set = calendar.go_on(calendar.now + Duration::from_secs(1), WALL_MS + 60_000);
    assert_eq!(set.ms(end), WALL_MS + 60_000 + 3_599_000);
}

#[test]
fn what_the_world_has_learned_itself_stands() {
    let calendar = start();
    let mut world = World::default();
    world.health.on_failure(calendar.now, &victim(WORK, None), &failure(FailureKind::BadGateway, None), 0.0);
    let lasting = Lasting::of(&world, calendar, name);
    let mut next = World::default();
    next.health.on_failure(calendar.now, &victim(SPARE, None), &failure(FailureKind::SpendCap, Some(HOUR)), 0.0);
    let before = standing(&next, calendar.now, SPARE);
    lasting.restore(&mut next, calendar, id);
    assert_eq!(standing(&next, calendar.now, SPARE), before);
}

fn kinds() -> impl Strategy<Value = FailureKind> {
    proptest::sample::select(FailureKind::ALL.to_vec())
}

/// Something that happens to a profile: a failure, a good answer or a word on limits, so many seconds after the last.
#[derive(Debug, Clone)]
enum Happening {
    Fails { kind: FailureKind, after_s: Option<u64>, dice: f64 },
    Answers,
    Limits { rejected: bool, resets_s: u64 },
}

fn happenings() -> impl Strategy<Value = Vec<(u64, bool, Happening)>> {
    let fails = (kinds(), proptest::option::of(0..900_000_u64), 0.0..1.0_f64).prop_map(|(kind, after_s, dice)| Happening::Fails {
        kind,
        after_s,
        dice,
    });
    let limits = (any::<bool>(), 0..900_000_u64).prop_map(|(rejected, resets_s)| Happening::Limits { rejected, resets_s });
    let one = prop_oneof![6 => fails, 1 => Just(Happening::Answers), 1 => limits];
    proptest::collection::vec((0..40_u64, any::<bool>(), one), 0..30)
}

fn play(world: &mut World, mut calendar: Calendar, happenings: &[(u64, bool, Happening)]) -> Calendar {
    for (pause, spare, happening) in happenings {
        calendar = later(calendar, Duration::from_secs(*pause));
        let victim = Victim { host: None, ..victim(if *spare { SPARE } else { WORK }, None) };
        match happening {
            Happening::Fails { kind, after_s, dice } => {
                world.health.on_failure(calendar.now, &victim, &failure(*kind, after_s.map(Duration::from_secs)), *dice);
            }
            Happening::Answers => world.health.on_success(calendar.now, victim.profile, victim.family, calendar.now, 2),
            Happening::Limits { rejected, resets_s } => {
                let resets_in = Some(Duration::from_secs(*resets_s));
                let windows = vec![WindowReading { name: "5h".into(), status: None, used: Some(0.5), resets_in }];
                let reading = LimitReading { windows, rejected: *rejected, family_only: false, resets_in };
                world.health.on_limits(calendar.now, &victim, &reading, 0.5);
            }
        }
    }
    calendar
}

/// The same but for parts of a millisecond, and for what the kinds of entry that do not last stood for.
fn same(before: Standing, after: Standing) -> bool {
    match (before, after) {
        (Standing::Cooling { grip: Grip::Credential, .. }, _) => true,
        (Standing::Cooling { until, because, grip }, Standing::Cooling { until: then, because: reason, grip: held }) => {
            until.saturating_duration_since(then) < Duration::from_millis(2) && then <= until && because == reason && grip == held
        }
        (before, after) => before == after,
    }
}

fn entries() -> impl Strategy<Value = Lasting> {
    let profile = || proptest::sample::select(vec!["work", "spare", "gone", "", "w\u{0}rk"]).prop_map(str::to_owned);
    let ms = || prop_oneof![any::<u64>(), (0..2 * millis(LONGEST_TRUST)).prop_map(|ahead| WALL_MS + ahead), Just(0), Just(u64::MAX)];
    let family = || proptest::sample::select(vec![None, Some(ModelFamily::Opus), Some(ModelFamily::Other)]);
    let grip = proptest::sample::select(vec![Grip::Loose, Grip::Firm, Grip::Hard, Grip::Credential]);
    let benches = (profile(), family(), kinds(), grip, ms()).prop_map(|(profile, family, because, grip, until_ms)| LastingBench {
        profile,
        family,
        because,
        grip,
        until_ms,
    });
    let breakers = (profile(), family(), ms(), any::<u32>()).prop_map(|(profile, family, until_ms, opened)| LastingBreaker {
        profile,
        family,
        until_ms,
        opened,
    });
    let failures = (profile(), kinds(), ".{0,300}", ms(), ms()).prop_map(|(profile, because, words, at_ms, until_ms)| LastingFailure {
        profile,
        because,
        words,
        at_ms,
        until_ms,
    });
    let windows = (profile(), ".{0,40}", any::<f64>(), ms()).prop_map(|(profile, name, used, resets_ms)| LastingWindow {
        profile,
        name,
        status: WindowStatus::Rejected,
        used,
        resets_ms,
    });
    let stays =
        (any::<u64>(), profile(), ms(), ms(), any::<u64>()).prop_map(|(session, profile, since_ms, last_used_ms, cache_life_ms)| {
            LastingStay { session, profile, since_ms, last_used_ms, cache_life_ms }
        });
    let spends = (profile(), proptest::option::of(any::<u64>()), ms(), any::<u64>(), any::<u64>(), ms()).prop_map(
        |(profile, session, day_begins_ms, micro_usd, used_ms, ends_at_ms)| LastingSpend {
            profile,
            session,
            day_begins_ms,
            writer: 9,
            micro_usd,
            used_ms,
            ends_at_ms,
        },
    );
    let pauses = (profile(), proptest::option::of(ms()), any::<bool>()).prop_map(|(profile, until_ms, even_last)| LastingPause {
        profile,
        until_ms,
        even_last,
    });
    let switch = proptest::option::of((profile(), proptest::option::of(ms()), ms()))
        .prop_map(|switch| switch.map(|(profile, until_ms, ends_at_ms)| LastingSwitch { profile, until_ms, ends_at_ms }));
    let many = 0..6;
    (
        proptest::collection::vec(benches, many.clone()),
        proptest::collection::vec(breakers, many.clone()),
        proptest::collection::vec(failures, many.clone()),
        proptest::collection::vec(windows, many.clone()),
        proptest::collection::vec(stays, many.clone()),
        proptest::collection::vec(spends, many.clone()),
        switch,
        proptest::collection::vec(pauses, many),
    )
        .prop_map(|(benches, breakers, failures, windows, stays, spends, switch, pauses)| Lasting {
            benches,
            breakers,
            failures,
            windows,
            stays,
            spends,
            switch,
            pauses,
        })
}

proptest! {
    /// `CLIProxyAPI` #3368: what was known of a profile was gone after a restart.
    #[test]
    fn r36_a_restart_changes_no_standing(happenings in happenings(), gap in 0..200_u64) {
        let mut world = World::default();
        let calendar = play(&mut world, start(), &happenings);
        let (next, then) = restarted(&world, calendar, Duration::from_secs(gap));
        for (before, after) in [(WORK, SPARE), (SPARE, WORK)] {
            let (before, after) = (standing(&world, then.now, before), standing(&next, then.now, after));
            // A breaker that was to be tried is forgotten after a while.
            let forgotten = before == Standing::Trial && after == Standing::Usable && gap + 40 * 30 >= COOLDOWN_CAP.as_secs();
            prop_assert!(same(before, after) || forgotten, "{before:?} became {after:?}");
        }
    }

    #[test]
    fn nothing_lasts_without_an_end_or_beyond_eight_days(happenings in happenings()) {
        let mut world = World::default();
        let calendar = play(&mut world, start(), &happenings);
        let lasting = Lasting::of(&world, calendar, name);
        let ends = lasting.benches.iter().map(Entry::ends_at_ms).chain(lasting.breakers.iter().map(Entry::ends_at_ms))
            .chain(lasting.failures.iter().map(Entry::ends_at_ms)).chain(lasting.windows.iter().map(Entry::ends_at_ms));
        for end in ends {
            prop_assert!(end > calendar.wall_ms() && end <= calendar.wall_ms() + millis(LONGEST_TRUST), "{end}");
        }
    }

    #[test]
    fn garbage_never_panics_and_never_benches_beyond_the_cap(garbage in entries(), after in 0..2_000_000_u64) {
        let calendar = start();
        let mut world = World::default();
        garbage.restore(&mut world, calendar, id);
        for profile in [WORK, SPARE] {
            if let Standing::Cooling { until, because, grip } = standing(&world, calendar.now, profile) {
                let cap = if grip >= Grip::Hard { LONGEST_TRUST } else { COOLDOWN_CAP };
                prop_assert!(until <= calendar.now + cap && grip < Grip::Credential, "{because:?} {grip:?}");
            }
            prop_assert!(world.health.report(calendar.now, profile).windows.iter().all(|window| window.resets_at <= Some(calendar.now + LONGEST_TRUST)));
            let cools = matches!(standing(&world, calendar.now + LONGEST_TRUST, profile), Standing::Cooling { .. });
            prop_assert!(!cools);
        }
        prop_assert!(world.switch.and_then(|switch| switch.until).is_none_or(|until| until <= calendar.now + LONGEST_TRUST));
        prop_assert!(world.pauses.values().filter_map(|pause| pause.until).all(|until| until <= calendar.now + LONGEST_TRUST));
        // It goes on like any other.
        let then = calendar.now + Duration::from_secs(after);
        world.forget_old(then);
        let _ = Lasting::of(&world, later(calendar, Duration::from_secs(after)), name);
    }
}

#[test]
fn what_was_spent_of_a_budget_outlives_a_restart_and_counts_beside_that_of_others() {
    use crate::spend::{Budget, Day, Period};
    const DAY: Day = Day { begins_ms: WALL_MS - 1000, ends_ms: WALL_MS + 3_600_000 };
    let budget = Budget { per_day: Some(100), per_session: Some(100) };
    let mut calendar = start();
    let mut told: Vec<LastingSpend> = Vec::new();
    for writer in [1, 2] {
        let mut world = World::default();
        world.spending.writer = writer;
        world.spending.look_at_calendar(WALL_MS);
        world.spending.begin_day(DAY);
        let reservation = world.spending.reserve(WORK, Some(7), budget, 10).unwrap();
        world.spending.settle(&reservation, 40);
        told.extend(Lasting::of(&world, calendar, name).spends);
    }
    let keys: std::collections::BTreeSet<String> = told.iter().map(Entry::key).collect();
    assert_eq!(keys.len(), 4, "a day and a session of each process: {keys:?}");
    let text = serde_json::to_string(&told).unwrap();
    let told: Vec<LastingSpend> = serde_json::from_str(&text).unwrap();

    calendar = later(calendar, Duration::from_secs(60));
    let mut next = World::default();
    next.spending.writer = 3;
    next.spending.begin_day(DAY);
    // Heard twice is not spent twice.
    for _ in 0..2 {
        hear_of_spending(&mut next.spending, &told, calendar.wall_ms(), id);
    }
    assert_eq!(next.spending.today(SPARE), 80, "in this process the profile `work` has the other number");
    let reservation = next.spending.reserve(SPARE, Some(7), budget, 1).unwrap();
    let reached: Vec<Period> = next.spending.settle(&reservation, 20).iter().map(|reached| reached.period).collect();
    assert_eq!(reached, [Period::Day, Period::Session]);
    let own = Lasting::of(&next, calendar, |id| (id == SPARE).then_some("work")).spends;
    assert_eq!(own.iter().map(|entry| (entry.writer, entry.micro_usd)).collect::<Vec<_>>(), [(3, 20), (3, 20)], "its own part alone");

    let mut tomorrow = World::default();
    tomorrow.spending.begin_day(Day { begins_ms: DAY.ends_ms, ends_ms: DAY.ends_ms + 1 });
    hear_of_spending(&mut tomorrow.spending, &told, DAY.ends_ms, id);
    assert_eq!(tomorrow.spending.today(SPARE), 0);
    assert!(tomorrow.spending.reached(SPARE, Some(7), &Budget { per_day: None, per_session: Some(80) }).is_some(), "the session goes on");
}

#[test]
fn a_pause_lasts_until_its_end_and_without_one_until_it_is_taken_back() {
    let calendar = start();
    let mut world = World::default();
    world.pauses.insert(WORK, Pause { until: Some(calendar.now + HOUR), even_last: true });
    world.pauses.insert(SPARE, Pause { until: None, even_last: false });
    let (next, then) = restarted(&world, calendar, HOUR / 2);
    assert_eq!(
        next.paused(then.now, SPARE),
        Some(Pause { until: Some(calendar.now + HOUR), even_last: true }),
        "the names, not the numbers"
    );
    assert_eq!(next.paused(then.now, WORK), Some(Pause { until: None, even_last: false }));
    let (next, then) = restarted(&world, calendar, 400 * 24 * HOUR);
    assert_eq!((next.paused(then.now, SPARE), next.paused(then.now, WORK).is_some()), (None, true));
    let mut gone = World::default();
    gone.forget_old(calendar.now);
    assert_eq!(Lasting::of(&gone, calendar, name).pauses, []);
}
