//! What the user's word does to an exchange: a veto, another profile, nothing said, and where it is asked for at all.

use super::*;
use crate::hook::HookEvent;
use crate::policy::{LONGEST_RULING, MOST_RULINGS};
use crate::route::SkipReason;

const FAILOVER: Gates = Gates { retry: false, failover: true };
const RETRY: Gates = Gates { retry: true, failover: false };

fn gated(profiles: u16, gates: Gates) -> Rig {
    Rig::new(profiles).with(|rig| rig.policy.gates = gates)
}

fn profile(number: u16) -> Ruling {
    Ruling::Use(ProfileId(number))
}

#[test]
fn without_a_hook_nobody_is_asked() {
    let mut rig = Rig::new(3).begin();
    rig.overload();
    rig.expect(&["initial 0", "failover 1"]);
}

#[test]
fn a_move_waits_for_the_word_and_goes_on_when_nobody_objects() {
    let mut rig = gated(3, FAILOVER).begin();
    rig.overload();
    rig.expect(&["initial 0", "PreFailover 0→1 of 1,2"]);
    rig.rules(Ruling::Allow);
    rig.expect(&["initial 0", "PreFailover 0→1 of 1,2", "failover 1"]);
    rig.head().content().success().ends();
    assert_eq!(rig.outcome(), Some(Outcome::Served));
}

#[test]
fn a_profile_that_is_ruled_out_is_left_out_and_the_next_one_is_asked_for() {
    let mut rig = gated(4, FAILOVER).begin();
    rig.overload().rules(Ruling::Block).rules(Ruling::Block).rules(Ruling::Allow);
    let asked = ["initial 0", "PreFailover 0→1 of 1,2,3", "PreFailover 0→2 of 2,3", "PreFailover 0→3 of 3", "failover 3"];
    rig.expect(&asked);
    let plan = rig.exchange.as_ref().unwrap().plan();
    let vetoed: Vec<u16> = plan.skipped.iter().filter(|one| one.reason == SkipReason::Vetoed).map(|one| one.profile.0).collect();
    assert_eq!(vetoed, [1, 2]);
}

#[test]
fn with_everybody_ruled_out_the_client_hears_the_failure_and_waits() {
    let mut rig = gated(2, FAILOVER).begin();
    rig.overload().rules(Ruling::Block);
    rig.expect(&["initial 0", "PreFailover 0→1 of 1", "relay #0 in 17 s"]);
    assert!(rig.exchange.as_ref().unwrap().found_nobody());
}

#[test]
fn another_profile_is_asked_where_it_is_a_candidate_and_the_first_stays_one() {
    let mut rig = gated(3, FAILOVER).begin();
    rig.overload().rules(profile(2)).overload();
    rig.expect(&["initial 0", "PreFailover 0→1 of 1,2", "failover 2", "PreFailover 2→1 of 1"]);
}

#[test]
fn a_profile_that_the_policy_excludes_is_never_asked() {
    // The one that has failed, one of no chain, and one whose window is used up.
    for wanted in [0, 7] {
        let mut rig = gated(3, FAILOVER).begin();
        rig.overload().rules(profile(wanted));
        rig.expect(&["initial 0", "PreFailover 0→1 of 1,2", "failover 1"]);
    }
    let mut rig = gated(3, FAILOVER).begin();
    let victim = victim(ProfileId(2));
    let spent = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "limit").with_status(429);
    rig.world.health.on_failure(rig.clock.now(), &victim, &spent, EVEN);
    rig.overload().rules(profile(2));
    rig.expect(&["initial 0", "PreFailover 0→1 of 1", "failover 1"]);
}

#[test]
fn what_was_learned_while_the_word_was_awaited_still_counts() {
    let mut rig = gated(3, FAILOVER).begin();
    rig.overload();
    let victim = victim(ProfileId(1));
    let spent = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "limit").with_status(429);
    rig.world.health.on_failure(rig.clock.now(), &victim, &spent, EVEN);
    rig.rules(Ruling::Allow);
    rig.expect(&["initial 0", "PreFailover 0→1 of 1,2", "PreFailover 0→2 of 2"]);
}

#[test]
fn money_that_is_spent_while_the_word_is_awaited_is_spent() {
    let mut rig = gated(3, FAILOVER).with(|rig| rig.budget = TEN_CENTS).begin();
    rig.overload();
    rig.world.spending.set_aside(ProfileId(1), None, TEN_CENTS, 100_000);
    rig.rules(Ruling::Allow);
    rig.expect(&["initial 0", "PreFailover 0→1 of 1,2", "PreFailover 0→2 of 2"]);
    let skipped = &rig.exchange.as_ref().unwrap().plan().skipped;
    assert!(matches!(skipped.last().map(|skipped| &skipped.reason), Some(SkipReason::Budget(_))), "{skipped:?}");
}

#[test]
fn a_word_that_does_not_come_holds_a_request_up_no_longer_than_said() {
    let mut rig = gated(2, FAILOVER).begin();
    rig.overload();
    let due = rig.exchange.as_ref().unwrap().poll_timeout().unwrap();
    assert_eq!(due, rig.clock.now() + LONGEST_RULING);
    rig.after(LONGEST_RULING - Duration::from_millis(1));
    rig.expect(&["initial 0", "PreFailover 0→1 of 1"]);
    rig.after(Duration::from_millis(1));
    rig.expect(&["initial 0", "PreFailover 0→1 of 1", "failover 1"]);
    rig.rules(Ruling::Block);
    rig.expect(&["initial 0", "PreFailover 0→1 of 1", "failover 1"]);
}

#[test]
fn the_client_s_patience_outlasts_every_word() {
    let mut rig = gated(2, FAILOVER).with(|rig| rig.policy.clocks.head = HOLD_TIME - secs(10)).begin();
    rig.after(HOLD_TIME - secs(10));
    let due = rig.exchange.as_ref().unwrap().poll_timeout().unwrap();
    assert_eq!(due, rig.clock.now() + secs(10), "the head must come before the client gives up");
}

#[test]
fn a_client_that_goes_away_ends_the_wait_for_the_word() {
    let mut rig = gated(2, FAILOVER).begin();
    rig.overload();
    rig.tell(|exchange, now, _, at| exchange.on_client_gone(now, at));
    rig.rules(Ruling::Allow);
    rig.expect(&["initial 0", "PreFailover 0→1 of 1"]);
    assert_eq!(rig.outcome(), Some(Outcome::Cancelled));
}

#[test]
fn every_kind_of_retry_is_asked_for() {
    let mut stale = gated(2, RETRY).begin();
    stale.fail(Failure::new(FailureKind::StaleConnection, Stage::Send, "dead")).rules(Ruling::Allow);
    stale.expect(&["initial 0", "PreRetry 0→0 of 0,1", "retry 0 fresh"]);
    let mut repaired = gated(1, RETRY).begin();
    let failure = Failure { repaired: true, ..Failure::new(FailureKind::ProviderBound, Stage::Head, "400").with_status(400) };
    repaired.fail(failure).rules(Ruling::Allow);
    repaired.expect(&["initial 0", "PreRetry 0→0 of 0", "retry 0"]);
    let mut alone = gated(2, RETRY).block(1).begin();
    alone.overload().rules(Ruling::Allow);
    alone.expect(&["initial 0", "PreRetry 0→0 of 0", "retry 0 in 125 ms"]);
}

#[test]
fn a_retry_that_is_ruled_out_gives_way_to_the_next_profile_or_to_the_refusal() {
    let mut stale = gated(2, RETRY).begin();
    stale.fail(Failure::new(FailureKind::StaleConnection, Stage::Send, "dead")).rules(Ruling::Block);
    stale.expect(&["initial 0", "PreRetry 0→0 of 0,1", "failover 1"]);
    let mut alone = gated(2, RETRY).block(1).begin();
    alone.overload().rules(Ruling::Block);
    alone.expect(&["initial 0", "PreRetry 0→0 of 0", "relay #0 in 17 s"]);
}

#[test]
fn a_key_that_is_not_read_again_counts_as_rejected() {
    let mut rig = gated(3, RETRY).begin();
    rig.overload().overload();
    rig.status(FailureKind::Unauthorized, 401).rules(Ruling::Block);
    assert_eq!(rig.trace[3], "PreRetry 2→2 of 2");
    let standing = rig.world.health.standing(rig.clock.now(), ProfileId(2), ModelFamily::Opus, Some(1));
    assert!(matches!(standing, Standing::Cooling { because: FailureKind::Unauthorized, .. }));
}

#[test]
fn a_retry_may_become_a_move() {
    let mut rig = gated(3, RETRY).begin();
    rig.fail(Failure::new(FailureKind::StaleConnection, Stage::Send, "dead")).rules(profile(2));
    rig.expect(&["initial 0", "PreRetry 0→0 of 0,1,2", "failover 2"]);
    let mut none = gated(3, RETRY).with(|rig| rig.policy.max_hops = 0).begin();
    none.fail(Failure::new(FailureKind::StaleConnection, Stage::Send, "dead")).rules(profile(2));
    none.expect(&["initial 0", "PreRetry 0→0 of 0", "retry 0 fresh"]);
}

/// A veto that only held for the request that failed first would be none: the next one begins at the spare.
#[test]
fn a_request_that_would_begin_at_a_spare_is_asked_for_too() {
    let mut first = gated(2, FAILOVER).begin();
    first.status(FailureKind::QuotaExhausted, 429).rules(Ruling::Block);
    let world = std::mem::take(&mut first.world);
    let mut second = gated(2, FAILOVER).with(|rig| (rig.world, rig.clock) = (world, first.clock)).begin();
    second.expect(&["PreFailover 0→1 of 1"]);
    second.rules(Ruling::Block);
    assert!(second.trace[1].starts_with("remembered 0 or 503"), "{:?}", second.trace);
    let world = std::mem::take(&mut second.world);
    let mut third = gated(2, FAILOVER).with(|rig| (rig.world, rig.clock) = (world, first.clock)).begin();
    third.rules(Ruling::Allow).head().content().success().ends();
    // The session is there now: its next turn is no move.
    let world = std::mem::take(&mut third.world);
    let fourth = gated(2, FAILOVER).with(|rig| (rig.world, rig.clock) = (world, first.clock)).begin();
    fourth.expect(&["initial 1"]);
}

#[test]
fn a_switch_of_the_user_s_own_is_no_failover() {
    let mut rig = gated(2, FAILOVER);
    rig.world.switch = Some(crate::world::Switch { profile: ProfileId(1), until: None });
    rig.begin().expect(&["initial 1"]);
}

#[test]
fn a_broken_answer_is_resumed_only_where_nobody_objects() {
    for (ruling, then) in [(Ruling::Allow, "resume 1"), (profile(2), "resume 2"), (profile(9), "resume 1")] {
        let mut rig = gated(3, FAILOVER).with(|rig| rig.client = ClientKind::Program).begin();
        rig.head().content().seen(text).dies().rules(ruling);
        rig.expect(&["initial 0", "commit #0", "PreFailover 0→1 of 1,2", then]);
    }
    let mut rig = gated(2, FAILOVER).with(|rig| rig.client = ClientKind::ClaudePrint).begin();
    rig.head().content().seen(closed_text).dies().rules(Ruling::Block);
    rig.expect(&["initial 0", "commit #0", "PreFailover 0→1 of 1", "end HandBack"]);
}

#[test]
fn nothing_is_raced_where_moves_are_asked_for() {
    let mut rig = Rig::new(2).with(|rig| (rig.policy.hedge, rig.hedgeable, rig.policy.gates) = (true, true, FAILOVER));
    let now = rig.clock.now();
    (0..40).for_each(|_| rig.world.hedges.on_request(now));
    let mut rig = rig.begin();
    rig.after(HEDGE_DELAY);
    rig.expect(&["initial 0"]);
}

#[test]
fn an_answer_that_is_kept_open_asks_again_when_a_spare_is_well_but_not_to_come_home() {
    let hold = |rig: &mut Rig| rig.policy.on_exhausted = OnExhausted::Hold;
    let mut home = gated(2, FAILOVER).with(hold).begin();
    home.overload().rules(Ruling::Block);
    home.expect(&["initial 0", "PreFailover 0→1 of 1", "hold open"]);
    home.after(secs(10)).rules(Ruling::Block).after(secs(10));
    let asked = "PreFailover 0→1 of 1,0";
    let after: Vec<&str> = home.trace[3..].iter().map(String::as_str).collect();
    assert_eq!(after, ["plan anew", asked, "plan anew", asked], "the first profile still cools down at the first look");
    home.rules(Ruling::Block);
    assert_eq!(home.trace.last().map(String::as_str), Some("failover 0"));
}

#[test]
fn one_request_asks_only_so_often() {
    let mut rig = gated(20, FAILOVER).begin();
    rig.overload();
    for _ in 0..20 {
        rig.rules(Ruling::Block);
    }
    assert_eq!(rig.trace.iter().filter(|line| line.starts_with("PreFailover")).count(), MOST_RULINGS);
    assert!(rig.trace.last().unwrap().starts_with("relay #0"), "{:?}", rig.trace);
}

#[test]
fn what_is_asked_says_what_is_known() {
    let mut rig = gated(2, FAILOVER);
    let (facts, plan) = rig.plan();
    let mut at = Surroundings { world: &mut rig.world, request_key: None, streamed: true, dice: EVEN };
    let mut exchange = Exchange::new(rig.clock.now(), facts, plan, Arc::new(rig.policy.clone()), &mut at);
    exchange.poll();
    let failure = Failure::new(FailureKind::Overloaded, Stage::Head, "529").with_status(529);
    exchange.on_failure(rig.clock.now(), AttemptId(0), failure, &Position::default(), &mut at);
    let Action::Consult(asked) = exchange.poll() else { panic!("a question") };
    let (from, to) = (ProfileId(0), ProfileId(1));
    let until = rig.clock.now() + LONGEST_RULING;
    let expected = Consultation {
        event: HookEvent::PreFailover,
        from,
        to,
        candidates: vec![to],
        failure: Some(FailureKind::Overloaded),
        status: Some(529),
        model: None,
        attempt: 2,
        until,
    };
    assert_eq!(asked, expected);
}

#[test]
fn who_served_a_session_before_is_known_for_the_way_back() {
    let mut rig = Rig::new(2).begin();
    rig.overload().head().content().success().ends();
    let world = std::mem::take(&mut rig.world);
    let mut clock = rig.clock;
    clock.advance(secs(600));
    let mut back = Rig::new(2).with(|rig| (rig.world, rig.clock) = (world, clock)).begin();
    back.head().content().success().ends();
    back.expect(&["initial 0", "commit #0", "end Complete"]);
    assert_eq!(back.exchange.as_ref().unwrap().left(), Some(ProfileId(1)));
}

#[test]
fn session_after_a_reset_reports_where_it_was() {
    let manual = |rig: &mut Rig| rig.policy.failback.at = crate::policy::FailbackAt::Manual;
    let mut rig = Rig::new(2).with(manual).begin();
    rig.overload().head().content().success().ends();
    let mut world = std::mem::take(&mut rig.world);
    world.reset(None);
    let clock = rig.clock;
    let mut back = Rig::new(2).with(manual).with(|rig| (rig.world, rig.clock) = (world, clock)).begin();
    back.head().content().success().ends();
    back.expect(&["initial 0", "commit #0", "end Complete"]);
    assert_eq!(back.exchange.as_ref().unwrap().left(), Some(ProfileId(1)));
}
