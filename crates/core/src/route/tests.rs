//! Who is asked in which order, and why somebody is passed over. Never sends anything.

use super::*;
use crate::facts::{ClientKind, Endpoint, SlowRequest};
use crate::failure::{Failure, Stage};
use crate::health::Victim;
use crate::pause::Pause;
use crate::policy::{CACHE_LIFE, FailbackAt, HEDGE_DELAY};
use crate::window::{LimitReading, WindowReading};
use crate::world::Switch;
use hotspare_testkit::VirtualClock;

const A: ProfileId = ProfileId(0);
const B: ProfileId = ProfileId(1);
const C: ProfileId = ProfileId(2);
/// Its own stay key for Opus, the first family.
const SESSION: u64 = (u64::MAX / 2) & !0b111;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn facts() -> RequestFacts {
    RequestFacts {
        endpoint: Endpoint::Messages,
        model: Some("claude-opus-5-5".into()),
        client: ClientKind::ClaudeInteractive,
        session: Some(SESSION),
        own_credential: Some(1),
        credential_digests: Vec::new(),
        anthropic_credential: true,
        slow: SlowRequest::Unable,
        cache_life: CACHE_LIFE,
        whole_session: None,
        on_plan: false,
        length: None,
        needs: None,
        side: false,
        patience: None,
        hedgeable: false,
    }
}

fn chain(profiles: &[ProfileId]) -> Chain {
    let entries = profiles.iter().map(|profile| ChainEntry { profile: *profile, model: None }).collect();
    Chain { name: "default".into(), entries, on_exhausted: None }
}

/// What fails at `profile` for Opus, with another profile usable.
fn victim(profile: ProfileId) -> Victim {
    Victim { profile, family: ModelFamily::Opus, credential: None, host: None, another_usable: true, asked: None, request: None }
}

fn terms(profile: ProfileId) -> Terms {
    Terms {
        model: None,
        clocks: Clocks::default(),
        fits_head: true,
        hedge_delay: HEDGE_DELAY,
        client_login: profile == A,
        rereadable: false,
        origin: u64::from(profile.0),
        host: Some(u64::from(profile.0)),
        ..Terms::default()
    }
}

fn planned(now: Instant, world: &mut World, policy: &Policy, profiles: &[ProfileId]) -> Plan {
    let plan = plan(now, &facts(), &chain(profiles), policy, world, Some(9), |entry| Fit::Fits(terms(entry.profile)));
    // Whatever a test is about: nobody is passed over without a word.
    let first = plan.candidates.first().and_then(|first| profiles.iter().position(|profile| *profile == first.profile));
    for profile in &profiles[..first.unwrap_or_default()] {
        let told = plan.skipped.iter().any(|skipped| skipped.profile == *profile) || over(&plan, *profile).is_some();
        assert!(told, "{profile:?} stands first in the chain, and nothing says why it is not asked first: {plan:?}");
    }
    plan
}

fn over(plan: &Plan, profile: ProfileId) -> Option<PassedOver> {
    plan.passed_over.iter().find(|(passed, _)| *passed == profile).map(|(_, why)| *why)
}

fn order(now: Instant, world: &mut World) -> Vec<ProfileId> {
    planned(now, world, &Policy::default(), &[A, B, C]).candidates.iter().map(|candidate| candidate.profile).collect()
}

fn fail(now: Instant, world: &mut World, profile: ProfileId, kind: FailureKind) {
    let victim = Victim {
        profile,
        family: ModelFamily::Opus,
        credential: None,
        host: Some(u64::from(profile.0)),
        another_usable: true,
        asked: None,
        request: None,
    };
    world.health.on_failure(now, &victim, &Failure::new(kind, Stage::Head, "failed"), 0.5);
}

fn open(now: Instant, world: &mut World, profile: ProfileId) {
    (0..3).for_each(|_| fail(now, world, profile, FailureKind::ClosedBeforeHead));
}

#[test]
fn the_chain_s_order_holds_while_all_are_well() {
    let now = VirtualClock::new().now();
    assert_eq!(order(now, &mut World::default()), [A, B, C]);
    let off = Policy { enabled: false, ..Policy::default() };
    let plan = planned(now, &mut World::default(), &off, &[A, B]);
    assert_eq!(plan.candidates.len(), 1);
    assert!(plan.lone);
}

#[test]
fn who_failed_a_moment_ago_is_asked_last_and_who_is_blocked_or_open_not_at_all() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    fail(now, &mut world, A, FailureKind::ServerError);
    assert_eq!(order(now, &mut world), [B, C, A]);
    fail(now, &mut world, B, FailureKind::Forbidden);
    assert_eq!(order(now, &mut world), [C, A]);
    open(now, &mut world, C);
    assert_eq!(order(now, &mut world), [A]);
    let plan = planned(now, &mut world, &Policy::default(), &[A, B, C]);
    assert_eq!(plan.skipped.iter().map(|skipped| skipped.profile).collect::<Vec<_>>(), [A, B, C], "each with its reason");
}

#[test]
fn a_lone_profile_is_asked_whatever_is_known_of_it() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    fail(now, &mut world, A, FailureKind::Unauthorized);
    let plan = planned(now, &mut world, &Policy::default(), &[A]);
    assert!(plan.candidates.iter().all(|candidate| candidate.insist) && plan.candidates.len() == 1);
}

#[test]
fn a_blocked_login_of_the_client_s_own_is_named() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    fail(now, &mut world, A, FailureKind::QuotaExhausted);
    fail(now, &mut world, B, FailureKind::Forbidden);
    let plan = planned(now, &mut world, &Policy::default(), &[A, B]);
    assert!(plan.candidates.is_empty());
    assert_eq!(plan.blocked_login, Some(A));
}

#[test]
fn a_detour_comes_after_the_well_ones() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    world.retries.avoid_for_request(now, 9, A, secs(30));
    assert_eq!(order(now, &mut world), [B, C, A]);
    assert_eq!(order(now + secs(30), &mut world), [A, B, C]);
}

/// better-ccflare #115, teamclaude #286 #306, codex-lb #217 #1505: a pin to a dead target. A pin is a preference, checked against health.
#[test]
fn r37_a_session_stays_where_it_is_while_that_is_well() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    world.affinity.on_served(now, SESSION, B, CACHE_LIFE, false);
    assert_eq!(order(now + secs(10), &mut world), [B, A, C]);
    fail(now + secs(10), &mut world, B, FailureKind::ServerError);
    assert_eq!(order(now + secs(10), &mut world), [A, C, B]);
}

#[test]
fn a_session_goes_home_once_its_cache_is_cold_and_another_stays() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    world.affinity.on_served(now, SESSION, B, CACHE_LIFE, false);
    world.affinity.on_served(now, 1, B, CACHE_LIFE, false);
    assert_eq!(order(now + CACHE_LIFE, &mut world), [A, B, C]);
    let manual = Policy { failback: crate::policy::Failback { at: FailbackAt::Manual, ..Default::default() }, ..Policy::default() };
    assert_eq!(planned(now + CACHE_LIFE, &mut world, &manual, &[A, B]).candidates[0].profile, B);
}

/// What the user sees as "it went to the spare, and `why` says nothing": each reason to ask another first is in the plan.
#[test]
fn who_is_passed_over_is_told_with_the_reason() {
    let now = VirtualClock::new().now();
    let why = |world: &mut World, at: Instant| over(&planned(at, world, &Policy::default(), &[A, B, C]), A);
    let mut world = World::default();
    assert_eq!(why(&mut world, now), None, "it is asked first");
    world.affinity.on_served(now, SESSION, B, CACHE_LIFE, false);
    assert_eq!(why(&mut world, now + secs(10)), Some(PassedOver::AtHomeElsewhere));
    world.switch = Some(Switch { profile: C, until: None });
    assert_eq!(why(&mut world, now + secs(10)), Some(PassedOver::Switched));
    let mut world = World::default();
    world.retries.avoid_for_request(now, 9, A, secs(30));
    assert_eq!(why(&mut world, now), Some(PassedOver::Avoided));
    let mut world = World::default();
    open(now, &mut world, A);
    world.affinity.on_served(now + secs(20), SESSION, B, CACHE_LIFE, false);
    assert_eq!(why(&mut world, now + secs(21)), Some(PassedOver::OnTrial));
    (0..2).for_each(|_| world.health.on_success(now + secs(22), A, ModelFamily::Opus, now + secs(22), 2));
    world.affinity.clear();
    assert_eq!(why(&mut world, now + secs(22)), Some(PassedOver::ComesBack));
    let mut world = World::default();
    let window = WindowReading { name: "5h".into(), status: None, used: Some(0.985), resets_in: Some(secs(900)) };
    let victim = victim(A);
    world.health.on_limits(now, &victim, &LimitReading { windows: vec![window], ..LimitReading::default() }, 0.0);
    assert_eq!(why(&mut world, now), Some(PassedOver::NearlyFull));
}

#[test]
fn a_trial_is_made_by_who_would_come_home_anyway() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    open(now, &mut world, A);
    let later = now + secs(20);
    assert_eq!(order(later, &mut world), [A, B, C], "a new session tries");
    world.affinity.on_served(later, SESSION, B, CACHE_LIFE, false);
    assert_eq!(order(later + secs(1), &mut world), [B, C, A], "a session with a warm cache elsewhere does not");
}

#[test]
fn new_sessions_begin_elsewhere_when_a_window_is_nearly_full_and_running_ones_stay() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    let window = WindowReading { name: "5h".into(), status: None, used: Some(0.985), resets_in: Some(secs(900)) };
    let victim = victim(A);
    world.health.on_limits(now, &victim, &LimitReading { windows: vec![window], ..LimitReading::default() }, 0.0);
    assert_eq!(order(now, &mut world), [B, C, A]);
    world.affinity.on_served(now, SESSION, A, CACHE_LIFE, false);
    assert_eq!(order(now, &mut world), [A, B, C]);
    assert_eq!(order(now + secs(900), &mut world), [A, B, C]);
}

/// teamclaude #84 #89, hermes #109234: everyone came back at once.
#[test]
fn r39_sessions_come_back_little_by_little() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    open(now, &mut world, A);
    let closed = now + secs(20);
    (0..2).for_each(|_| world.health.on_success(closed, A, ModelFamily::Opus, closed, 2));
    assert_eq!(order(closed, &mut world), [B, C, A], "this session's place is in the middle");
    assert_eq!(order(closed + secs(29), &mut world), [B, C, A]);
    assert_eq!(order(closed + secs(31), &mut world), [A, B, C]);
}

/// cc-switch #6022 #5120: a switch by hand turned failover off without a word.
#[test]
fn r62_the_user_s_word_outranks_the_chain_until_it_is_over() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    world.switch = Some(Switch { profile: C, until: Some(now + secs(60)) });
    assert_eq!(order(now, &mut world), [C, A, B]);
    assert_eq!(order(now + secs(60), &mut world), [A, B, C]);
    world.forget_old(now + secs(60));
    assert_eq!(world.switch, None);
    world.switch = Some(Switch { profile: C, until: None });
    fail(now, &mut world, C, FailureKind::Forbidden);
    assert_eq!(order(now, &mut world), [A, B], "a word makes no dead profile well");
}

/// `LiteLLM` refuses everything once every deployment cools (measured).
#[test]
fn r43_with_every_breaker_open_one_request_now_and_then_tries_the_soonest() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    open(now, &mut world, B);
    open(now, &mut world, A);
    let mut asked = 0;
    for tick in 0..11 {
        let plan = planned(now + secs(tick), &mut world, &Policy::default(), &[A, B]);
        asked += plan.candidates.len();
        assert!(plan.candidates.iter().all(|candidate| candidate.insist));
    }
    assert_eq!(asked, 3, "at 0, 5 and 10 s");
}

#[test]
fn with_the_network_down_only_this_machine_is_asked_but_for_a_probe_now_and_then() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    fail(now, &mut world, A, FailureKind::Dns);
    fail(now, &mut world, B, FailureKind::Dns);
    let plan = planned(now, &mut world, &Policy::default(), &[A, B]);
    assert!(plan.candidates.is_empty());
    assert!(plan.skipped.iter().all(|skipped| skipped.reason == SkipReason::Offline));
    assert_eq!(order(now + secs(2), &mut world), [A, B, C], "the probe");
    assert!(order(now + secs(3), &mut world).is_empty());
    let at_home = |entry: &ChainEntry| Fit::Fits(Terms { host: (entry.profile != C).then_some(1), ..terms(entry.profile) });
    let plan = plan_with(now + secs(3), &mut world, at_home);
    assert_eq!(plan.candidates.iter().map(|candidate| candidate.profile).collect::<Vec<_>>(), [C]);
}

fn plan_with(now: Instant, world: &mut World, fit: impl Fn(&ChainEntry) -> Fit) -> Plan {
    plan(now, &facts(), &chain(&[A, B, C]), &Policy::default(), world, None, fit)
}

#[test]
fn who_cannot_take_the_request_is_left_out_with_the_reason() {
    let now = VirtualClock::new().now();
    let fit = |entry: &ChainEntry| if entry.profile == A { Fit::Cannot(SkipReason::NoModel) } else { Fit::Fits(terms(entry.profile)) };
    let plan = plan_with(now, &mut World::default(), fit);
    assert_eq!(plan.skipped, [Skipped { profile: A, reason: SkipReason::NoModel }]);
    assert_eq!((plan.candidates[0].profile, plan.primary), (B, A));
}

#[test]
fn the_head_clock_is_fitted_unless_somebody_named_it() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    (0..40).for_each(|_| world.health.on_head(A, None, secs(1)));
    let head = |world: &mut World, fits_head| {
        let plan = plan_with(now, world, |entry| Fit::Fits(Terms { fits_head, ..terms(entry.profile) }));
        plan.candidates[0].terms.clocks.head
    };
    assert_eq!(head(&mut world, true), secs(20));
    assert_eq!(head(&mut world, false), secs(60));
}

#[test]
fn a_pattern_s_star_stands_for_any_characters() {
    let fits = |pattern: &str, name: &str| ModelPattern::new(pattern).matches(name);
    assert!(fits("claude-haiku-*", "claude-haiku-4-5") && fits("*", "") && fits("*opus*", "claude-opus-5"));
    assert!(fits("a*b*c", "a1b2c") && fits("exact", "exact"));
    assert!(!fits("claude-haiku-*", "claude-opus-5") && !fits("exact", "exactly") && !fits("a*b*c", "acb"));
}

#[test]
fn the_first_rule_that_matches_is_used() {
    let rule = |model: Option<&str>, name: &str| ChainRule {
        model: model.map(ModelPattern::new),
        chain: Chain { name: name.into(), ..chain(&[A]) },
    };
    let rules = [rule(Some("claude-haiku-*"), "1"), rule(None, "default")];
    assert_eq!(chain_for(&rules, &facts()).map(|chain| &*chain.name), Some("default"));
    let haiku = RequestFacts { model: Some("claude-haiku-4-5".into()), ..facts() };
    assert_eq!(chain_for(&rules, &haiku).map(|chain| &*chain.name), Some("1"));
    assert_eq!(chain_for(&rules[..1], &RequestFacts { model: None, ..facts() }), None);
}

fn pause(world: &mut World, profile: ProfileId, until: Option<Instant>, even_last: bool) {
    world.pauses.insert(profile, Pause { until, even_last });
}

#[test]
fn whom_the_user_paused_is_not_asked_until_the_pause_is_over() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    pause(&mut world, A, Some(now + secs(60)), false);
    let plan = planned(now, &mut world, &Policy::default(), &[A, B, C]);
    assert_eq!(plan.candidates.iter().map(|candidate| candidate.profile).collect::<Vec<_>>(), [B, C]);
    assert_eq!(plan.skipped, [Skipped { profile: A, reason: SkipReason::Paused }]);
    assert_eq!((plan.primary, plan.lone), (A, false));
    assert_eq!(order(now + secs(60), &mut world), [A, B, C]);
    // Neither a switch nor a failure of all others brings it back.
    world.switch = Some(Switch { profile: A, until: None });
    open(now, &mut world, B);
    open(now, &mut world, C);
    assert!(!order(now, &mut world).contains(&A));
}

#[test]
fn who_is_left_alone_with_paused_ones_is_asked_like_a_lone_profile() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    pause(&mut world, B, None, false);
    fail(now, &mut world, A, FailureKind::Unauthorized);
    let plan = planned(now, &mut world, &Policy::default(), &[A, B]);
    assert!(plan.lone && plan.candidates.len() == 1 && plan.candidates[0].insist);
}

#[test]
fn a_pause_of_everybody_has_no_effect_unless_it_holds_even_for_the_last() {
    let now = VirtualClock::new().now();
    let mut world = World::default();
    pause(&mut world, A, None, false);
    pause(&mut world, B, None, false);
    let candidates = |world: &mut World| -> Vec<ProfileId> {
        planned(now, world, &Policy::default(), &[A, B]).candidates.iter().map(|candidate| candidate.profile).collect()
    };
    assert_eq!(candidates(&mut world), [A, B]);
    pause(&mut world, B, None, true);
    assert_eq!(candidates(&mut world), [A], "who said so is left alone all the same");
    pause(&mut world, A, None, true);
    assert_eq!(candidates(&mut world), []);
    let off = Policy { enabled: false, ..Policy::default() };
    pause(&mut world, A, None, false);
    assert_eq!(planned(now, &mut world, &off, &[A, B]).candidates.len(), 1, "with failover off the first is the last");
}

#[test]
fn blocked_profiles_are_the_last_resort_once_a_minute() {
    let start = VirtualClock::new().now();
    let mut world = World::default();
    let empty = Failure::new(FailureKind::Billing, Stage::Head, "402").with_status(402);
    for profile in [A, B] {
        let victim = victim(profile);
        world.health.on_failure(start, &victim, &empty, 0.5);
    }
    let candidates = |world: &mut World, now| {
        let plan = planned(now, world, &Policy::default(), &[A, B]);
        plan.candidates.iter().map(|candidate| (candidate.profile, candidate.last_resort)).collect::<Vec<_>>()
    };
    assert_eq!(candidates(&mut world, start + secs(59)), []);
    assert_eq!(candidates(&mut world, start + secs(60)), [(A, true), (B, true)]);
}

#[test]
fn due_look_at_the_primary_comes_before_a_session_s_spare() {
    let start = VirtualClock::new().now();
    let mut world = World::default();
    let victim = victim(A);
    let window = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_retry_after(Some(secs(18_000)));
    world.health.on_failure(start, &victim, &window, 0.5);
    for (mid_turn, first) in [(true, B), (false, A)] {
        let now = start + secs(3_600);
        world.affinity.on_served(now, SESSION, B, CACHE_LIFE, mid_turn);
        let plan = planned(now, &mut world, &Policy::default(), &[A, B]);
        assert_eq!(plan.candidates.first().map(|candidate| candidate.profile), Some(first), "mid_turn: {mid_turn}");
    }
}
