//! Plays scripts to one exchange on a virtual clock and holds what it does; over any script, what must never happen. Never waits.
#![expect(clippy::unchecked_time_subtraction, reason = "times in a test are in order")]

mod consult;

use super::*;
use crate::commitment::BlockKind;
use crate::facts::{ClientKind, Endpoint, ModelFamily, SlowRequest};
use crate::failure::NextStep;
use crate::fit::{Misfit, Needs, Takes};
use crate::health::Victim;
use crate::hook::Gates;
use crate::platform::Platform;
use crate::policy::{
    BREAKER_FAILURES, CACHE_LIFE, CLIENT_PATIENCE, COOLDOWN_CAP, Clocks, HEDGE_DELAY, HOLD_TIME, MAX_HOPS, MidStream, OnExhausted,
    SlowService, Triggers,
};
use crate::price::Price;
use crate::route::{self, Chain, ChainEntry, Fit, SkipReason, Terms};
use crate::spend::{Budget, Period};
use crate::world::World;
use hotspare_testkit::VirtualClock;
use proptest::prelude::*;

const EVEN: f64 = 0.5;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One exchange over three profiles (0 passes the client's own login on), on a clock that a test moves, with a trace of what it does.
/// Its own stay key for Opus, the first family.
const SESSION: u64 = 8;

/// What fails at `profile` for Opus, with another profile usable.
fn victim(profile: ProfileId) -> Victim {
    Victim { profile, family: ModelFamily::Opus, credential: None, host: None, another_usable: true, asked: None, request: None }
}

struct Rig {
    side: bool,
    patience: Option<Duration>,
    clock: VirtualClock,
    world: World,
    policy: Policy,
    profiles: u16,
    client: ClientKind,
    streamed: bool,
    endpoint: Endpoint,
    hedgeable: bool,
    /// What profile 1 takes.
    slow: SlowRequest,
    takes: Takes,
    needs: Option<Needs>,
    /// What profile 1 costs, and may.
    price: Option<Price>,
    budget: Budget,
    exchange: Option<Exchange>,
    position: Position,
    trace: Vec<String>,
}

impl Rig {
    fn new(profiles: u16) -> Self {
        Self {
            clock: VirtualClock::new(),
            world: World::default(),
            policy: Policy::default(),
            profiles,
            client: ClientKind::ClaudeInteractive,
            streamed: true,
            endpoint: Endpoint::Messages,
            side: false,
            patience: None,
            hedgeable: false,
            slow: SlowRequest::Unable,
            takes: Takes::default(),
            needs: None,
            price: Price::of(Platform::Anthropic, "claude-opus-5-5"),
            budget: Budget::default(),
            exchange: None,
            position: Position::default(),
            trace: Vec::new(),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn plan(&mut self) -> (RequestFacts, Plan) {
        let facts = RequestFacts {
            endpoint: self.endpoint,
            model: Some("claude-opus-5-5".into()),
            client: self.client,
            session: Some(SESSION),
            own_credential: Some(1),
            credential_digests: Vec::new(),
            anthropic_credential: true,
            slow: self.slow,
            cache_life: CACHE_LIFE,
            whole_session: Some(70),
            on_plan: false,
            length: None,
            needs: self.needs,
            side: self.side,
            patience: self.patience,
            hedgeable: self.hedgeable,
        };
        let entries = (0..self.profiles).map(|profile| ChainEntry { profile: ProfileId(profile), model: None }).collect();
        let chain = Chain { name: "default".into(), entries, on_exhausted: None };
        let (clocks, takes) = (self.policy.clocks, self.takes);
        let (price, budget) = (self.price, self.budget);
        let fit = |entry: &ChainEntry| {
            Fit::Fits(Terms {
                model: None,
                clocks,
                fits_head: false,
                hedge_delay: HEDGE_DELAY,
                client_login: entry.profile.0 == 0,
                rereadable: entry.profile.0 == 2,
                // 0 and 1 share an address.
                origin: u64::from(entry.profile.0 / 2),
                host: None,
                takes: if entry.profile.0 == 1 { takes } else { Takes::default() },
                price: (entry.profile.0 == 1).then_some(price).flatten(),
                budget: if entry.profile.0 == 1 { budget } else { Budget::default() },
            })
        };
        let plan = route::plan(self.clock.now(), &facts, &chain, &self.policy, &mut self.world, Some(9), fit);
        (facts, plan)
    }

    /// Blocks a profile for an hour, as an empty account does.
    fn block(mut self, profile: u16) -> Self {
        let victim = victim(ProfileId(profile));
        self.world.health.on_failure(self.clock.now(), &victim, &Failure::new(FailureKind::Billing, Stage::Head, "402"), EVEN);
        self
    }

    fn begin(mut self) -> Self {
        let (facts, plan) = self.plan();
        let mut at = Surroundings { world: &mut self.world, request_key: Some(9), streamed: self.streamed, dice: EVEN };
        self.exchange = Some(Exchange::new(self.clock.now(), facts, plan, Arc::new(self.policy.clone()), &mut at));
        self.drain();
        self
    }

    fn tell(&mut self, act: impl FnOnce(&mut Exchange, Instant, &Position, &mut Surroundings<'_>)) -> &mut Self {
        let mut at = Surroundings { world: &mut self.world, request_key: Some(9), streamed: self.streamed, dice: EVEN };
        act(self.exchange.as_mut().expect("begun"), self.clock.now(), &self.position, &mut at);
        self.drain();
        self
    }

    fn drain(&mut self) {
        loop {
            let action = self.exchange.as_mut().expect("begun").poll();
            let line = match action {
                Action::Wait(_) => return,
                Action::Start(plan) => {
                    let pause = if plan.delay.is_zero() { String::new() } else { format!(" in {} ms", plan.delay.as_millis()) };
                    let fresh = if plan.fresh_connection { " fresh" } else { "" };
                    format!("{} {}{fresh}{pause}", plan.kind.word(), plan.candidate.profile.0)
                }
                Action::Cancel(id) => format!("cancel #{}", id.0),
                Action::HoldOpen => "hold open".to_owned(),
                Action::PlanAnew => {
                    let (_, plan) = self.plan();
                    self.trace.push("plan anew".to_owned());
                    let mut at = Surroundings { world: &mut self.world, request_key: Some(9), streamed: self.streamed, dice: EVEN };
                    self.exchange.as_mut().expect("begun").on_plan(self.clock.now(), plan, &mut at);
                    continue;
                }
                Action::Consult(asked) => {
                    let others: Vec<String> = asked.candidates.iter().map(|profile| profile.0.to_string()).collect();
                    format!("{} {}→{} of {}", asked.event.word(), asked.from.0, asked.to.0, others.join(","))
                }
                Action::Commit(id) => format!("commit #{}", id.0),
                Action::Answer(Answer::Relay { attempt, retry_after, final_word }) => {
                    let wait = retry_after.map_or(String::new(), |wait| format!(" in {wait} s"));
                    format!("relay #{}{wait}{}", attempt.0, if final_word { " final" } else { "" })
                }
                Action::Answer(Answer::Remembered { profile, instead }) => format!("remembered {} or {}", profile.0, instead.status),
                Action::Answer(Answer::Local(answer)) => {
                    format!("say {}{}", answer.status, answer.retry_after.map_or(String::new(), |wait| format!(" in {wait} s")))
                }
                Action::End(ending) => format!("end {ending:?}"),
            };
            self.trace.push(line);
        }
    }

    fn last(&self) -> AttemptId {
        AttemptId(u8::try_from(self.exchange.as_ref().expect("begun").attempts().len() - 1).expect("few"))
    }

    fn fail(&mut self, failure: Failure) -> &mut Self {
        let id = self.last();
        self.tell(|exchange, now, position, at| exchange.on_failure(now, id, failure, position, at))
    }

    fn status(&mut self, kind: FailureKind, status: u16) -> &mut Self {
        self.fail(Failure::new(kind, Stage::Head, status.to_string()).with_status(status))
    }

    fn overload(&mut self) -> &mut Self {
        self.status(FailureKind::Overloaded, 529)
    }

    fn head(&mut self) -> &mut Self {
        let id = self.last();
        self.tell(|exchange, now, _, at| exchange.on_head(now, id, BodyKind::Stream, at))
    }

    fn content(&mut self) -> &mut Self {
        let id = self.last();
        self.tell(|exchange, now, _, at| exchange.on_first_content(now, id, at))
    }

    fn success(&mut self) -> &mut Self {
        let id = self.last();
        self.tell(|exchange, now, _, at| exchange.on_success(now, id, false, at))
    }

    fn ends(&mut self) -> &mut Self {
        let id = self.last();
        self.tell(|exchange, now, position, at| exchange.on_end(now, id, position, at))
    }

    fn dies(&mut self) -> &mut Self {
        self.fail(Failure::new(FailureKind::StreamDied, Stage::Held, "reset"))
    }

    fn rules(&mut self, ruling: Ruling) -> &mut Self {
        self.tell(|exchange, now, _, at| exchange.on_ruling(now, ruling, at))
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.clock.advance(time);
        self.tell(|exchange, now, position, at| exchange.on_timer(now, None, position, at))
    }

    /// The client has seen this much.
    fn seen(&mut self, build: impl FnOnce(&mut Position)) -> &mut Self {
        self.position.started = true;
        build(&mut self.position);
        self
    }

    #[track_caller]
    fn expect(&self, trace: &[&str]) {
        assert_eq!(self.trace, trace);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.exchange.as_ref().expect("begun").outcome()
    }
}

fn text(position: &mut Position) {
    position.open(0, BlockKind::Text);
    position.begin();
}

fn closed_text(position: &mut Position) {
    text(position);
    position.close();
}

// Before anything reached the client.

#[test]
fn a_good_answer_is_committed_at_its_first_content_and_ends_whole() {
    let mut rig = Rig::new(2).begin();
    rig.head().content().success().ends();
    rig.expect(&["initial 0", "commit #0", "end Complete"]);
    assert_eq!(rig.outcome(), Some(Outcome::Served));
    assert_eq!(rig.world.affinity.stay(rig.clock.now(), Some(SESSION)).map(|stay| stay.profile), Some(ProfileId(0)));
}

/// One that cannot be read on its way (a packed stream) is judged by its end; else a breaker that waits for a good one would wait for ever.
#[test]
fn an_answer_that_cannot_be_read_is_a_good_one_at_its_end() {
    let mut rig = Rig::new(2).begin();
    let id = rig.last();
    rig.tell(|exchange, now, _, at| exchange.on_head(now, id, BodyKind::Opaque, at)).ends();
    rig.expect(&["initial 0", "commit #0", "end Complete"]);
    assert_eq!(rig.world.health.report(rig.clock.now(), ProfileId(0)).last_success, Some(rig.clock.now()));
    // A long document is gathered no further, and then passes in the same way.
    let mut long = Rig::new(2).begin();
    let id = long.last();
    long.tell(|exchange, now, _, at| exchange.on_head(now, id, BodyKind::Whole, at));
    long.tell(|exchange, now, _, at| exchange.on_held_full(now, id, at)).ends();
    long.expect(&["initial 0", "commit #0", "end Complete"]);
}

/// I11.
#[test]
fn a_refusal_of_the_request_inside_its_stream_says_nothing_about_the_profile() {
    let mut rig = Rig::new(2).begin();
    let id = rig.last();
    rig.head().tell(|exchange, now, _, at| exchange.on_refusal(now, id, at)).dies();
    rig.expect(&["initial 0", "commit #0", "end Complete"]);
    assert_eq!(rig.outcome(), Some(Outcome::Relayed));
    let report = rig.world.health.report(rig.clock.now(), ProfileId(0));
    assert_eq!((report.last_failure, report.last_success), (None, None));
}

/// How much a spare takes is its own affair: the next may take more.
#[test]
fn a_request_too_large_for_a_spare_goes_on_to_the_next() {
    let mut rig = Rig::new(3).begin();
    rig.overload().status(FailureKind::TooLarge, 413).head().content().success().ends();
    rig.expect(&["initial 0", "failover 1", "failover 2", "commit #2", "end Complete"]);
    // With nobody left the client hears what the first said.
    let mut last = Rig::new(2).begin();
    last.overload().status(FailureKind::TooLarge, 413);
    last.expect(&["initial 0", "failover 1", "relay #0 in 17 s"]);
}

/// teamclaude #156 #21, better-ccflare #465, openclaw #69642: server errors went to the client while others were idle.
#[test]
fn r1_every_failure_that_another_profile_may_not_have_goes_on_at_once() {
    for kind in FailureKind::ALL {
        let expected = match Failure::new(kind, Stage::Held, "").next_step(true) {
            NextStep::Relay => continue,
            NextStep::SameFresh => "retry 0 fresh",
            NextStep::NextProfile | NextStep::NextElsewhere => "failover 1",
        };
        let mut rig = Rig::new(2).begin();
        rig.fail(Failure::new(kind, Stage::Held, "failed"));
        rig.expect(&["initial 0", expected]);
    }
}

/// teamclaude #13, openclaw/openclaw#143364 (1806 s): the wait that a provider names was sat out before the next one was asked.
#[test]
fn r8_no_wait_that_is_named_is_sat_out_while_another_profile_is_well() {
    for kind in FailureKind::ALL
        .into_iter()
        .filter(|kind| matches!(Failure::new(*kind, Stage::Head, "").next_step(true), NextStep::NextProfile | NextStep::NextElsewhere))
    {
        for wait in [1, 1806] {
            let mut rig = Rig::new(2).begin();
            rig.fail(Failure::new(kind, Stage::Head, "failed").with_retry_after(Some(secs(wait))));
            rig.expect(&["initial 0", "failover 1"]);
        }
    }
}

// Whom the request does not fit.

const SMALL: Takes = Takes { context: Some(1000), images: true, tools: true, thinking: true, foreign: true };
const LONG: Needs = Needs { tokens: 1001, images: false, tools: true, bound: None };

/// cc-switch-cli #284, openclaw #60947, hermes #109698: a conversation was sent where it could not fit, and froze there.
#[test]
fn r48_a_request_is_not_sent_where_it_does_not_fit() {
    let too_long = Misfit::TooLong { tokens: 1001, most: 1000 };
    let picture = Needs { tokens: 1, images: true, ..LONG };
    let bound = Needs { tokens: 1, bound: Some("a file"), ..LONG };
    let cases = [
        (SMALL, LONG, Some(too_long)),
        (SMALL, Needs { tokens: 1000, ..LONG }, None),
        (SMALL, picture, None),
        (Takes { images: false, ..SMALL }, picture, Some(Misfit::Images)),
        (Takes { tools: false, ..SMALL }, Needs { tokens: 1, ..LONG }, Some(Misfit::Tools)),
        (Takes { thinking: false, ..SMALL }, Needs { tokens: 1, ..LONG }, None),
        (SMALL, bound, Some(Misfit::Bound("a file"))),
        (Takes { foreign: false, ..SMALL }, bound, None),
        (Takes::default(), LONG, None),
    ];
    for (takes, needs, misfit) in cases {
        let mut rig = Rig::new(3).with(|rig| rig.takes = takes).begin();
        rig.tell(|exchange, _, _, _| assert_eq!(exchange.asks_for_needs(), takes.is_limited()));
        rig.tell(|exchange, _, _, _| exchange.on_needs(needs)).overload();
        rig.expect(&["initial 0", if misfit.is_some() { "failover 2" } else { "failover 1" }]);
        let exchange = rig.exchange.as_ref().expect("begun");
        let skipped: Vec<_> = exchange.plan().skipped.iter().map(|skipped| (skipped.profile, skipped.reason.clone())).collect();
        assert_eq!(skipped, misfit.map(|misfit| (ProfileId(1), SkipReason::Misfit(misfit))).into_iter().collect::<Vec<_>>());
    }
}

/// free-claude-code #1215: on these words the client makes its conversation shorter.
#[test]
fn r48_the_client_is_told_to_shorten_only_where_that_helps() {
    let rig = || Rig::new(2).with(|rig| (rig.takes, rig.needs) = (SMALL, Some(LONG)));
    // The first comes back soon: waiting loses nothing of the conversation.
    let mut soon = rig().begin();
    soon.overload().overload();
    soon.expect(&["initial 0", "retry 0 in 125 ms", "relay #0 in 33 s"]);
    // It does not: shorter, the spare could take it.
    let mut late = rig().begin();
    late.status(FailureKind::Billing, 402);
    late.expect(&["initial 0", "say 400"]);
    // And nobody is asked the next time: no refusal of a window's or a login's is kept that could be said instead.
    let again = Rig { trace: Vec::new(), exchange: None, ..late }.begin();
    again.expect(&["remembered 0 or 400"]);
    // But the words of a used-up login of the client's own are worth more: it goes on by itself at the reset.
    let mut used_up = rig().begin();
    used_up.fail(Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_status(429).with_retry_after(Some(secs(7200))));
    used_up.expect(&["initial 0", "relay #0"]);
    let again = Rig { trace: Vec::new(), exchange: None, ..used_up }.begin();
    again.expect(&["remembered 0 or 400"]);
    // What the client has sent is to be blamed for is told in the provider's own words.
    let mut blamed = rig().begin();
    blamed.status(FailureKind::BadRequest, 400);
    blamed.expect(&["initial 0", "relay #0"]);
}

#[test]
fn a_profile_without_a_spare_says_itself_what_does_not_fit() {
    let none = Takes { context: Some(0), images: false, tools: false, thinking: false, foreign: true };
    let mut rig = Rig::new(2).with(|rig| (rig.takes, rig.needs) = (none, Some(LONG)));
    rig.policy.enabled = false;
    rig.begin().expect(&["initial 0"]);
}

// Whose money is used up.

const TEN_CENTS: Budget = Budget { per_day: Some(100_000), per_session: None };

/// The attempts are over, and each has cost so much.
fn pay(rig: &mut Rig, cost: u64) -> Vec<Period> {
    let reservations = rig.exchange.as_mut().expect("begun").take_reservations();
    let settled = reservations.iter().flat_map(|(_, reservation)| rig.world.spending.settle(reservation, cost));
    settled.map(|reached| reached.period).collect()
}

/// claude-code #62338 #81078, `CLIProxyAPI` #6004: nobody had asked for so much to be spent.
#[test]
fn r51_a_profile_without_money_is_not_asked() {
    let budgeted = || Rig::new(3).with(|rig| rig.budget = TEN_CENTS);
    let mut rig = budgeted().begin();
    rig.overload();
    rig.expect(&["initial 0", "failover 1"]);
    assert_eq!(pay(&mut rig, 100_000), [Period::Day]);
    let mut again = Rig { trace: Vec::new(), exchange: None, ..rig }.begin();
    assert_eq!(again.trace, ["initial 2"], "the first cools down, the second has no money left");
    again.overload();
    let skipped = &again.exchange.as_ref().expect("begun").plan().skipped;
    assert!(
        skipped.iter().any(|skipped| skipped.profile == ProfileId(1) && matches!(skipped.reason, SkipReason::Budget(_))),
        "{skipped:?}"
    );
}

/// `CLIProxyAPI` #6004: a limit that nobody could count against was none.
#[test]
fn r51_a_budget_is_not_kept_by_guessing_a_price() {
    let mut rig = Rig::new(3).with(|rig| (rig.budget, rig.price) = (TEN_CENTS, None)).begin();
    rig.overload();
    rig.expect(&["initial 0", "failover 2"]);
    assert_eq!(rig.exchange.as_ref().expect("begun").plan().skipped[0].reason, SkipReason::NoPrice);
    let mut free = Rig::new(3).with(|rig| rig.price = None).begin();
    free.overload();
    free.expect(&["initial 0", "failover 1"]);
}

/// claude-code #95803: it ran on for hours. What a session may cost holds for all its agents, and while other requests are under way.
#[test]
fn r53_a_session_that_has_spent_its_money_goes_elsewhere_while_others_go_on() {
    let each = Budget { per_day: None, per_session: Some(100_000) };
    let mut rig = Rig::new(3).with(|rig| rig.budget = each).begin();
    rig.overload();
    rig.expect(&["initial 0", "failover 1"]);
    // Under way, with more set aside than there is: another request of the session is not let in.
    let reserved = rig.world.spending.reached(ProfileId(1), Some(70), &each);
    assert!(reserved.is_some_and(|reached| reached.period == Period::Session && reached.spent > 100_000), "{reserved:?}");
    assert_eq!(rig.world.spending.reached(ProfileId(1), Some(71), &each), None);
    assert_eq!(pay(&mut rig, 40_000), []);
    assert_eq!(rig.world.spending.reached(ProfileId(1), Some(70), &each), None, "it cost less than was set aside");
}

#[test]
fn a_second_try_spends_what_was_set_aside_for_the_first() {
    let mut rig = Rig::new(3).with(|rig| rig.budget = TEN_CENTS).begin();
    rig.overload();
    rig.fail(Failure::new(FailureKind::StaleConnection, Stage::Send, "dead"));
    rig.expect(&["initial 0", "failover 1", "retry 1 fresh"]);
    let held: Vec<usize> = rig.exchange.as_mut().expect("begun").take_reservations().iter().map(|(place, _)| *place).collect();
    assert_eq!(held, [2]);
}

#[test]
fn a_profile_without_a_spare_keeps_its_budget_too() {
    let mut rig = Rig::new(2).with(|rig| rig.budget = Budget { per_day: Some(0), per_session: None });
    rig.policy.enabled = false;
    rig.world.switch = None;
    let (facts, mut plan) = rig.plan();
    let terms = Arc::make_mut(&mut plan.candidates[0].terms);
    terms.budget = rig.budget;
    terms.price = rig.price;
    let mut at = Surroundings { world: &mut rig.world, request_key: Some(9), streamed: true, dice: EVEN };
    let mut exchange = Exchange::new(rig.clock.now(), facts, plan, Arc::new(rig.policy.clone()), &mut at);
    assert!(matches!(exchange.poll(), Action::Answer(Answer::Local(LocalAnswer { status: 424, .. }))));
}

#[test]
fn a_move_away_from_a_warm_cache_is_known_to_be_cold() {
    let mut rig = Rig::new(2).begin();
    rig.head().content().success().ends();
    let mut next = Rig { trace: Vec::new(), exchange: None, ..rig }.begin();
    next.overload();
    let cold: Vec<bool> = next.exchange.as_ref().expect("begun").attempts().iter().map(|attempt| attempt.cold).collect();
    assert_eq!(cold, [false, true]);
}

#[test]
fn a_dead_kept_connection_is_tried_once_more_and_counts_for_nothing() {
    let mut rig = Rig::new(3).begin();
    rig.fail(Failure::new(FailureKind::StaleConnection, Stage::Send, "dead"));
    rig.fail(Failure::new(FailureKind::StaleConnection, Stage::Send, "dead"));
    rig.overload().overload();
    rig.expect(&["initial 0", "retry 0 fresh", "failover 1", "failover 2", "relay #2 in 1 s"]);
}

/// teamclaude #390, `LiteLLM`: failing over on the caller's own fault.
#[test]
fn r5_the_request_s_own_fault_is_relayed_without_a_hop() {
    for (kind, status) in [(FailureKind::BadRequest, 400), (FailureKind::BadRequest, 422), (FailureKind::TooLarge, 413)] {
        let mut rig = Rig::new(2).begin();
        rig.fail(Failure { client_mends: true, ..Failure::new(kind, Stage::Head, "4xx").with_status(status) });
        rig.expect(&["initial 0", "relay #0"]);
        assert_eq!(rig.outcome(), Some(Outcome::Relayed));
    }
}

/// juspay/neurolink#1605: a fallback's 400 masked the real 429.
#[test]
fn r32_a_spare_s_fault_never_takes_the_place_of_what_the_primary_said() {
    let mut rig = Rig::new(2).begin();
    rig.overload().status(FailureKind::BadRequest, 400);
    rig.expect(&["initial 0", "failover 1", "relay #0 in 17 s"]);
}

/// claude-code #2728 #70417, link-assistant/hive-mind#1438: a proxy's tries times the client's own ten.
#[test]
fn r7_at_most_four_attempts_and_as_many_hops_as_the_policy_allows() {
    let mut rig = Rig::new(6).begin();
    for _ in 0..6 {
        rig.status(FailureKind::ServerError, 500);
    }
    assert_eq!(rig.trace.iter().filter(|line| line.contains("failover")).count(), MAX_HOPS);
    let mut none = Rig::new(3).with(|rig| rig.policy.max_hops = 0).begin();
    none.status(FailureKind::ServerError, 500);
    none.expect(&["initial 0", "relay #0 in 1 s"]);
    // Whatever the tries are for: after a repaired request and two hops there is no second look at a credential, and nobody resumes.
    let four = || {
        let bound = Failure::new(FailureKind::ProviderBound, Stage::Head, "400").with_status(400);
        let mut rig = Rig::new(6).with(|rig| rig.client = ClientKind::Program).begin();
        rig.fail(Failure { repaired: true, ..bound }).overload().overload();
        rig.expect(&["initial 0", "retry 0", "failover 1", "failover 2"]);
        rig
    };
    let mut refused = four();
    refused.status(FailureKind::Unauthorized, 401);
    let mut broken = four();
    broken.head().content().seen(text).dies();
    for rig in [refused, broken] {
        assert_eq!(rig.exchange.as_ref().map(|exchange| exchange.attempts().len()), Some(4), "{:?}", rig.trace);
    }
}

/// badrisnarayanan/antigravity-claude-proxy#284: every 429 was a switch. teamclaude #13: none was, and the client waited.
#[test]
fn r29_a_throttle_goes_on_once_and_then_only_to_another_address() {
    let throttle = |rig: &mut Rig| {
        rig.fail(Failure::new(FailureKind::Throttled, Stage::Head, "429").with_status(429).with_retry_after(Some(secs(30))));
    };
    let mut rig = Rig::new(3).begin();
    throttle(&mut rig);
    throttle(&mut rig);
    rig.expect(&["initial 0", "failover 1", "failover 2"]);
    let mut siblings = Rig::new(2).begin();
    throttle(&mut siblings);
    throttle(&mut siblings);
    siblings.expect(&["initial 0", "failover 1", "relay #0 in 33 s"]);
    let mut pairs = Rig::new(5).begin();
    throttle(&mut pairs);
    throttle(&mut pairs);
    throttle(&mut pairs);
    pairs.expect(&["initial 0", "failover 1", "failover 2", "failover 4"]);
}

#[test]
fn triggers_given_by_the_user_are_all_there_are_for_statuses() {
    let mut triggers = Triggers::none();
    triggers.add_status(429);
    let policy = Policy { triggers, ..Policy::default() };
    let mut rig = Rig::new(2).with(|rig| rig.policy = policy.clone()).begin();
    rig.status(FailureKind::ServerError, 500);
    rig.expect(&["initial 0", "relay #0"]);
    let mut refused = Rig::new(2).with(|rig| rig.policy = policy).begin();
    refused.fail(Failure::new(FailureKind::ConnectRefused, Stage::Connect, "refused"));
    refused.expect(&["initial 0", "failover 1"]);
}

#[test]
fn what_may_have_side_effects_goes_out_on_a_connection_that_cannot_be_stale() {
    for (endpoint, fresh) in [(Endpoint::Other, true), (Endpoint::Messages, false)] {
        let rig = Rig::new(2).with(|rig| rig.endpoint = endpoint).begin();
        rig.expect(&[if fresh { "initial 0 fresh" } else { "initial 0" }]);
    }
}

#[test]
fn what_has_side_effects_or_cannot_be_sent_again_stays_where_it_went() {
    let mut other = Rig::new(2).with(|rig| rig.endpoint = Endpoint::Other).begin();
    other.status(FailureKind::ServerError, 500);
    other.expect(&["initial 0 fresh", "relay #0"]);
    let mut unsent = Rig::new(2).with(|rig| rig.endpoint = Endpoint::Other).begin();
    unsent.fail(Failure::new(FailureKind::ConnectRefused, Stage::Connect, "refused"));
    unsent.expect(&["initial 0 fresh", "failover 1 fresh"]);
    let mut lost = Rig::new(2).begin();
    lost.tell(|exchange, _, _, _| exchange.cannot_replay());
    lost.status(FailureKind::ServerError, 500);
    lost.expect(&["initial 0", "relay #0"]);
}

#[test]
fn a_credential_that_can_be_read_anew_is_read_once_before_the_hop() {
    let mut rig = Rig::new(3).begin();
    rig.overload().overload();
    rig.status(FailureKind::Unauthorized, 401).status(FailureKind::Unauthorized, 401);
    rig.expect(&["initial 0", "failover 1", "failover 2", "retry 2", "relay #0 in 17 s"]);
}

#[test]
fn a_refusal_that_was_repaired_is_tried_once_more_and_not_twice() {
    let refused = |repaired: bool| {
        let failure = Failure::new(FailureKind::ProviderBound, Stage::Head, "400").with_status(400);
        Failure { repaired, client_mends: true, ..failure }
    };
    let mut primary = Rig::new(2).begin();
    primary.fail(refused(true)).fail(refused(true));
    primary.expect(&["initial 0", "retry 0", "relay #1"]);
    let mut spare = Rig::new(3).begin();
    spare.overload().fail(refused(true)).fail(refused(false));
    spare.expect(&["initial 0", "failover 1", "retry 1", "failover 2"]);
}

#[test]
fn what_cannot_even_be_sent_to_the_primary_goes_on() {
    let mut rig = Rig::new(2).begin();
    rig.fail(Failure::new(FailureKind::ProviderBound, Stage::Connect, "a file of another provider"));
    rig.expect(&["initial 0", "failover 1"]);
}

#[test]
fn a_profile_that_another_session_found_dead_in_the_meantime_is_passed_over() {
    let mut rig = Rig::new(3).begin();
    let victim = victim(ProfileId(1));
    let now = rig.clock.now();
    rig.world.health.on_failure(now, &victim, &Failure::new(FailureKind::ServerError, Stage::Head, "500"), EVEN);
    rig.overload();
    rig.expect(&["initial 0", "failover 2"]);
}

#[test]
fn further_hops_cost_the_budget_and_the_first_does_not() {
    let mut rig = Rig::new(3).begin();
    let now = rig.clock.now();
    assert!(rig.world.budget.take(now, crate::policy::BUDGET));
    rig.overload().overload();
    rig.expect(&["initial 0", "failover 1", "relay #0 in 1 s"]);
}

#[test]
fn last_candidate_after_server_error_is_retried_once() {
    let mut rig = Rig::new(2).block(1).begin();
    rig.status(FailureKind::ServerError, 500).status(FailureKind::ServerError, 500);
    rig.expect(&["initial 0", "retry 0 in 125 ms", "relay #0 in 6 s"]);
}

/// The client's own retries are the best timetable there is (2.1.330: served at 36 s after an outage of 25 s).
#[test]
fn lone_profile_is_never_retried_or_delayed() {
    let mut rig = Rig::new(1).begin();
    rig.status(FailureKind::ServerError, 500);
    rig.expect(&["initial 0", "relay #0"]);
    let mut refused = Rig::new(1).begin();
    refused.fail(Failure::new(FailureKind::ConnectRefused, Stage::Connect, "refused"));
    refused.expect(&["initial 0", "say 503"]);
    let mut often = Rig::new(1);
    for _ in 0..20 {
        let now = often.clock.now();
        often.world.retries.count_attempt(now, 9, now);
    }
    often.begin().expect(&["initial 0"]);
    let mut throttled = Rig::new(1).begin();
    throttled.fail(Failure::new(FailureKind::Throttled, Stage::Head, "429").with_status(429).with_retry_after(Some(secs(3))));
    throttled.expect(&["initial 0", "relay #0"]);
}

// Refusals: whose fault a 4xx is.

fn refused(kind: FailureKind, status: u16) -> Failure {
    Failure::new(kind, Stage::Head, status.to_string()).with_status(status)
}

#[test]
fn unknown_refusal_gets_one_second_opinion() {
    let mut rig = Rig::new(2).begin();
    rig.status(FailureKind::Refused, 400).head().content().success();
    rig.expect(&["initial 0", "failover 1", "commit #1"]);
    // The conversation stays where it was served, and others still go to the first profile.
    let rig = rig.begin();
    rig.expect(&["initial 0", "failover 1", "commit #1", "initial 1"]);
}

#[test]
fn confirmed_refusal_is_relayed_and_costs_no_more_opinions() {
    for spare in [FailureKind::Refused, FailureKind::BadRequest] {
        let mut rig = Rig::new(3).begin();
        rig.status(FailureKind::Refused, 400).status(spare, 400);
        rig.expect(&["initial 0", "failover 1", "relay #0"]);
        let mut again = Rig::new(3);
        again.world = rig.world;
        let mut again = again.begin();
        again.status(FailureKind::Refused, 400);
        again.expect(&["initial 0", "relay #0"]);
    }
}

#[test]
fn mended_refusal_of_the_primary_is_relayed_at_once() {
    for kind in [FailureKind::ProviderBound, FailureKind::TooLarge, FailureKind::BadRequest] {
        let mut rig = Rig::new(2).begin();
        rig.fail(Failure { client_mends: true, ..refused(kind, 400) });
        rig.expect(&["initial 0", "relay #0"]);
    }
}

#[test]
fn spare_refusals_never_reach_the_client() {
    use FailureKind as Kind;
    for kind in [Kind::Refused, Kind::BadRequest, Kind::TooLarge, Kind::ProviderBound, Kind::ContentPolicy, Kind::ResourceNotFound] {
        let mut rig = Rig::new(2).begin();
        rig.overload().status(kind, 400);
        assert!(rig.trace.last().unwrap().starts_with("relay #0 in "), "{kind:?}: {:?}", rig.trace);
        let mut third = Rig::new(3).begin();
        third.overload().status(kind, 400);
        third.expect(&["initial 0", "failover 1", "failover 2"]);
        let mut blocked = Rig::new(2).block(0).begin();
        blocked.status(kind, 400);
        let end = blocked.trace.last().unwrap();
        let own = if kind == Kind::TooLarge { "say 400" } else { "remembered 0 or 424" };
        assert_eq!(end, own, "{kind:?}: {:?}", blocked.trace);
    }
}

#[test]
fn spare_that_refused_a_conversation_is_skipped_for_it() {
    let mut rig = Rig::new(3).begin();
    rig.overload().status(FailureKind::BadRequest, 400).head().content().success();
    let mut next = Rig::new(3);
    next.world = rig.world;
    let (_, plan) = next.plan();
    let refused = plan.skipped.iter().find(|skipped| matches!(skipped.reason, SkipReason::Refused { .. }));
    assert_eq!(refused.map(|skipped| skipped.profile), Some(ProfileId(1)));
}

#[test]
fn final_failure_waits_for_a_profile_that_comes_back() {
    let mut rig = Rig::new(2).begin();
    rig.overload().status(FailureKind::Forbidden, 403);
    rig.expect(&["initial 0", "failover 1", "relay #0 in 17 s"]);
    let mut rig = Rig::new(2).block(0).begin();
    rig.status(FailureKind::Forbidden, 403);
    rig.expect(&["initial 1", "say 424"]);
}

// A client that waits in vain.

#[test]
fn client_that_gave_up_is_sent_elsewhere_next() {
    let mut rig = Rig::new(2).begin();
    rig.after(secs(5)).tell(|exchange, now, _, at| exchange.on_client_gone(now, at));
    let mut again = Rig::new(2);
    (again.world, again.clock) = (rig.world, rig.clock);
    again.begin().expect(&["initial 1"]);
}

#[test]
fn client_that_left_at_once_moves_nothing() {
    let mut rig = Rig::new(2).begin();
    rig.after(secs(4)).tell(|exchange, now, _, at| exchange.on_client_gone(now, at));
    let mut flowing = Rig::new(2).begin();
    flowing.head().content().after(secs(2)).tell(|exchange, now, _, at| exchange.on_client_gone(now, at));
    for left in [rig, flowing] {
        let mut again = Rig::new(2);
        (again.world, again.clock) = (left.world, left.clock);
        again.begin().expect(&["initial 0"]);
    }
}

#[test]
fn short_client_limit_brings_the_hop_forward() {
    let mut rig = Rig::new(2).with(|rig| rig.patience = Some(secs(10))).begin();
    rig.after(secs(6));
    rig.expect(&["initial 0", "failover 1"]);
    let standing = rig.world.health.standing(rig.clock.now(), ProfileId(0), ModelFamily::Opus, Some(1));
    assert_eq!(standing, Standing::Usable, "the client's limit says nothing to others");
    let mut last = Rig::new(1).with(|rig| rig.patience = Some(secs(10))).begin();
    last.after(secs(9));
    last.expect(&["initial 0"]);
}

// Side traffic.

#[test]
fn side_traffic_moves_no_session() {
    let mut rig = Rig::new(2).with(|rig| rig.side = true).begin();
    rig.overload().head().content().success();
    rig.expect(&["initial 0", "failover 1", "commit #1"]);
    assert!(rig.world.affinity.stay(rig.clock.now(), Some(SESSION)).is_none());
    assert_eq!(standing_of_first(&rig), Standing::Usable, "a failed title cools no turn");
}

// The clocks.

/// One clock for everything cut long streams (shunt, measured) and let a head that never came look like a reset (teamclaude #106), and pings kept
/// stalls alive (litellm #40404).
#[test]
fn r3_r19_each_clock_is_its_own() {
    let clocks = Clocks { head: secs(3), first_content: secs(5), bytes_idle: secs(7), content_idle: secs(11), ..Clocks::default() };
    let rig = || Rig::new(2).with(|rig| rig.policy.clocks = clocks).begin();
    let mut head = rig();
    head.after(secs(2)).after(secs(1));
    head.expect(&["initial 0", "failover 1"]);
    let mut first = rig();
    first.head().after(secs(4)).after(secs(1));
    first.expect(&["initial 0", "failover 1"]);
    let mut silent = rig();
    silent.head().content().seen(text).after(secs(6)).after(secs(1));
    silent.expect(&["initial 0", "commit #0", "end Cut"]);
    let mut pings = rig();
    pings.head().content().seen(text);
    for _ in 0..11 {
        let id = pings.last();
        pings.tell(|exchange, now, _, _| exchange.on_bytes(now, id)).after(secs(1));
    }
    pings.expect(&["initial 0", "commit #0", "end Cut"]);
    let last = pings.exchange.as_ref().unwrap().attempts()[0].failure.clone().unwrap();
    assert_eq!(&*last.detail, "no content for 11 s");
    let mut flowing = rig();
    flowing.head().content().seen(text);
    for second in 1..=20 {
        let id = flowing.last();
        flowing.after(secs(1)).tell(|exchange, now, _, _| exchange.on_bytes(now, id));
        if second == 10 {
            flowing.tell(|exchange, now, _, _| exchange.on_content(now, id));
        }
    }
    flowing.expect(&["initial 0", "commit #0"]);
    flowing.after(secs(1)).expect(&["initial 0", "commit #0", "end Cut"]);
}

/// The same while an answer is held (sub2api #2121, archestra #7810).
#[test]
fn r20_what_is_held_is_released_before_the_client_gives_up() {
    let mut rig = Rig::new(2).with(|rig| rig.policy.clocks.first_content = secs(600)).begin();
    rig.head();
    for _ in 0..24 {
        let id = rig.last();
        rig.tell(|exchange, now, _, _| exchange.on_bytes(now, id)).after(secs(10));
    }
    rig.expect(&["initial 0", "commit #0"]);
}

/// sub2api #1707 #2121 #6363, archestra #7810, agent-maestro #227: a watchdog ended a wait in which nothing came.
#[test]
fn r20_the_client_hears_something_before_its_own_patience_ends() {
    let mut rig = Rig::new(4).with(|rig| rig.policy.clocks.head = secs(200)).begin();
    rig.after(secs(200)).after(CLIENT_PATIENCE - secs(200));
    rig.expect(&["initial 0", "failover 1", "say 504 in 1 s"]);
}

// Nobody is left.

/// `LiteLLM` drops `retry-after` (measured), and Claude Code gives up at once from 61 s on: no peer shapes the wait for the client.
#[test]
fn r33_the_most_recoverable_failure_is_told_with_the_soonest_wait() {
    let mut rig = Rig::new(3).begin();
    rig.status(FailureKind::Forbidden, 403).fail(Failure::new(FailureKind::ConnectRefused, Stage::Connect, "refused")).overload();
    rig.expect(&["initial 0", "failover 1", "failover 2", "relay #2 in 6 s"]);
    // And never longer than the client waits.
    let mut spent = Rig::new(2).begin();
    let window = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_status(429).with_retry_after(Some(secs(3600)));
    spent.status(FailureKind::Forbidden, 403).fail(window);
    spent.expect(&["initial 0", "failover 1", "say 503 in 59 s"]);
}

#[test]
fn what_waiting_cannot_cure_is_said_at_once() {
    let mut rig = Rig::new(2).begin();
    rig.status(FailureKind::Forbidden, 403).status(FailureKind::Billing, 402);
    rig.expect(&["initial 0", "failover 1", "say 424"]);
    let mut fail = Rig::new(2).with(|rig| rig.policy.on_exhausted = OnExhausted::Fail).begin();
    fail.overload().overload();
    fail.expect(&["initial 0", "failover 1", "say 424"]);
}

/// dhkts1/teamclaude-rs#174, teamclaude #407: a limit or a dead login told as something else; and pools that know no login but their own.
#[test]
fn r32_r68_the_client_s_own_limit_and_dead_login_are_relayed_when_nothing_else_can_answer() {
    for (kind, status) in [(FailureKind::QuotaExhausted, 429), (FailureKind::Unauthorized, 401)] {
        let mut rig = Rig::new(2).begin();
        rig.status(kind, status).status(FailureKind::Forbidden, 403);
        rig.expect(&["initial 0", "failover 1", "relay #0"]);
        // The next request reaches nobody, and is told the same.
        let mut again = Rig { trace: Vec::new(), exchange: None, ..rig }.begin();
        let instead = if kind == FailureKind::QuotaExhausted { 503 } else { 424 };
        again.expect(&[&format!("remembered 0 or {instead}")]);
        again.clock.advance(secs(1));
    }
}

/// teamclaude #193 #412 #407: a login failure of the proxy's own account reached the client. A spare's 401 would log the user out.
#[test]
fn r2_a_spare_s_own_login_failure_never_reaches_the_client() {
    let mut rig = Rig::new(2).begin();
    rig.status(FailureKind::Forbidden, 403).status(FailureKind::Unauthorized, 401);
    rig.expect(&["initial 0", "failover 1", "say 424"]);
}

#[test]
fn an_answer_is_held_open_until_a_profile_recovers() {
    let mut rig = Rig::new(2).with(|rig| rig.policy.on_exhausted = OnExhausted::Hold).begin();
    rig.overload().overload();
    rig.expect(&["initial 0", "failover 1", "hold open"]);
    rig.after(secs(10)).after(secs(5));
    rig.head().content().success().ends();
    rig.expect(&["initial 0", "failover 1", "hold open", "plan anew", "plan anew", "failover 0", "commit #2", "end Complete"]);
}

#[test]
fn an_answer_is_held_open_for_nine_minutes_at_most_and_cut_then() {
    let mut rig = Rig::new(2).with(|rig| rig.policy.on_exhausted = OnExhausted::Hold).begin();
    let spent = || Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_status(429).with_retry_after(Some(secs(3600)));
    rig.fail(spent()).fail(spent());
    for _ in 0..60 {
        rig.after(secs(10));
    }
    assert_eq!(rig.trace.last().map(String::as_str), Some("end Cut"));
    assert_eq!(rig.trace.iter().filter(|line| line.contains("failover")).count(), 1, "a used-up window is not asked");
    let mut whole = Rig::new(2).with(|rig| (rig.policy.on_exhausted, rig.streamed) = (OnExhausted::Hold, false)).begin();
    whole.overload().overload();
    whole.expect(&["initial 0", "failover 1", "relay #0 in 17 s"]);
}

/// The client has a head of ours and hears pings: nothing hurries a profile that comes back late, and its answer is held like any other.
#[test]
fn late_in_an_answer_that_is_kept_open_a_profile_has_its_full_time() {
    let mut rig = Rig::new(2).with(|rig| rig.policy.on_exhausted = OnExhausted::Hold).begin();
    let spent = || Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_status(429).with_retry_after(Some(secs(350)));
    rig.fail(spent()).fail(spent());
    while !rig.trace.iter().any(|line| line == "failover 0") {
        rig.after(secs(10));
    }
    rig.trace.clear();
    rig.after(secs(55)).head().after(secs(20));
    rig.expect(&[]);
    rig.fail(Failure::new(FailureKind::Overloaded, Stage::Held, "529 in the stream").with_status(529));
    rig.expect(&["failover 1"]);
    rig.head().content().success().ends();
    rig.expect(&["failover 1", "commit #3", "end Complete"]);
}

// After the client has bytes.

#[test]
fn a_broken_answer_of_the_interactive_client_is_cut_or_handed_back() {
    let mut cut = Rig::new(2).begin();
    cut.head().content().seen(text).dies();
    cut.expect(&["initial 0", "commit #0", "end Cut"]);
    let mut back = Rig::new(2).begin();
    back.head().content().seen(closed_text).dies();
    back.expect(&["initial 0", "commit #0", "end HandBack"]);
    assert_eq!(back.outcome(), Some(Outcome::HandedBack));
}

#[test]
fn the_client_s_next_try_goes_elsewhere() {
    let mut rig = Rig::new(2).begin();
    rig.head().content().seen(text).dies();
    let mut again = Rig { trace: Vec::new(), exchange: None, position: Position::default(), ..rig };
    again.clock.advance(Duration::from_millis(600));
    let mut again = again.begin();
    again.head().content().success().ends();
    again.expect(&["initial 1", "commit #0", "end Complete"]);
}

/// Two stalls in a row: the third try must not go back to where the first was lost, minutes ago.
#[test]
fn after_a_lost_wait_the_detour_outlasts_the_next_one() {
    let mut rig = Rig::new(3).begin();
    rig.head().content().seen(text).after(secs(120));
    let again = |rig: Rig| Rig { trace: Vec::new(), exchange: None, position: Position::default(), ..rig };
    let mut second = again(rig).begin();
    second.head().content().seen(text).after(secs(120));
    second.expect(&["initial 1", "commit #0", "end Cut"]);
    again(second).begin().expect(&["initial 2"]);
}

#[test]
fn pings_after_the_stop_reason_keep_nothing_open() {
    let mut rig = Rig::new(2).begin();
    rig.head().content().success();
    for _ in 0..12 {
        let id = rig.last();
        rig.tell(|exchange, now, _, _| exchange.on_bytes(now, id)).after(secs(10));
    }
    rig.expect(&["initial 0", "commit #0", "end Complete"]);
}

#[test]
fn a_program_s_broken_text_is_resumed_once_by_the_next_profile() {
    let mut rig = Rig::new(3).with(|rig| rig.client = ClientKind::Program).begin();
    rig.head().content().seen(text).dies();
    rig.expect(&["initial 0", "commit #0", "resume 1"]);
    rig.head().content().success().ends();
    rig.expect(&["initial 0", "commit #0", "resume 1", "commit #1", "end Complete"]);
    assert_eq!(rig.outcome(), Some(Outcome::Served));
}

#[test]
fn a_resume_that_fails_is_cut_and_not_tried_again() {
    let mut rig = Rig::new(3).with(|rig| rig.client = ClientKind::Program).begin();
    rig.head().content().seen(text).dies().overload();
    rig.expect(&["initial 0", "commit #0", "resume 1", "end Cut"]);
    let mut later = Rig::new(3).with(|rig| rig.client = ClientKind::Program).begin();
    later.head().content().seen(text).dies().head().content().dies();
    later.expect(&["initial 0", "commit #0", "resume 1", "commit #1", "end Cut"]);
}

#[test]
fn with_nobody_to_resume_print_mode_gets_its_answer_handed_back() {
    let mut alone = Rig::new(1).with(|rig| rig.client = ClientKind::ClaudePrint).begin();
    alone.head().content().seen(closed_text).dies();
    alone.expect(&["initial 0", "commit #0", "end HandBack"]);
    let mut lost = Rig::new(2).with(|rig| rig.client = ClientKind::ClaudePrint).begin();
    lost.tell(|exchange, _, _, _| exchange.cannot_replay());
    lost.head().content().seen(closed_text).dies();
    lost.expect(&["initial 0", "commit #0", "end HandBack"]);
    let mut cut = Rig::new(2).with(|rig| (rig.client, rig.policy.mid_stream) = (ClientKind::ClaudePrint, MidStream::Cut)).begin();
    cut.head().content().seen(closed_text).dies();
    cut.expect(&["initial 0", "commit #0", "end Cut"]);
}

#[test]
fn what_breaks_after_the_stop_reason_harms_nobody() {
    let mut rig = Rig::new(2).begin();
    rig.head().content().success().dies();
    rig.expect(&["initial 0", "commit #0", "end Complete"]);
    assert!(rig.exchange.as_ref().unwrap().attempts()[0].failure.is_none());
    let mut hangs = Rig::new(2).begin();
    hangs.head().content().success().after(secs(120));
    hangs.expect(&["initial 0", "commit #0", "end Complete"]);
}

/// Invariant I7.
#[test]
fn i7_a_client_that_goes_away_moves_neither_breaker_nor_budget() {
    let mut rig = Rig::new(2).begin();
    rig.head();
    rig.tell(|exchange, now, _, at| exchange.on_client_gone(now, at));
    assert_eq!(rig.outcome(), Some(Outcome::Cancelled));
    let now = rig.clock.now();
    assert_eq!(rig.world.health.standing(now, ProfileId(0), ModelFamily::Opus, Some(1)), Standing::Usable);
    assert!((rig.world.budget.left(now) - crate::policy::BUDGET).abs() < f64::EPSILON);
    assert_eq!(rig.exchange.as_ref().unwrap().attempts()[0].decision, Some(Decision::Drop));
}

// This process's own want.

/// The descriptors are this process's, or the machine's: no profile has done anything.
#[test]
fn where_no_descriptor_is_left_everybody_is_tried_and_nobody_blamed() {
    let no_descriptor = || Failure::new(FailureKind::OutOfDescriptors, Stage::Connect, "no file descriptor is left");
    let mut rig = Rig::new(3).begin();
    for _ in 0..4 {
        rig.fail(no_descriptor()).fail(no_descriptor()).fail(no_descriptor());
        rig.expect(&["initial 0", "failover 1", "failover 2", "say 503 in 1 s"]);
        assert!((rig.world.budget.left(rig.clock.now()) - crate::policy::BUDGET).abs() < f64::EPSILON, "nothing was spent");
        rig = Rig { trace: Vec::new(), exchange: None, ..rig };
        rig.clock.advance(secs(30));
        rig = rig.begin();
    }
    rig.expect(&["initial 0"]);
    for profile in 0..3 {
        let standing = rig.world.health.standing(rig.clock.now(), ProfileId(profile), ModelFamily::Opus, Some(1));
        assert_eq!(standing, Standing::Usable);
        assert_eq!(rig.world.health.last_failure(ProfileId(profile)), None);
    }
    rig.fail(no_descriptor()).head().content().success().ends();
    rig.expect(&["initial 0", "failover 1", "commit #1", "end Complete"]);
}

/// A trial that could not even be begun is nobody's evidence.
#[test]
fn a_trial_for_which_no_descriptor_is_left_is_left_to_the_next_request() {
    let mut rig = on_trial(Rig::new(2)).begin();
    rig.fail(Failure::new(FailureKind::OutOfDescriptors, Stage::Connect, "no file descriptor is left"));
    assert_eq!(standing_of_first(&rig), Standing::Trial);
}

// Races.

fn ready_to_race() -> Rig {
    let mut rig = Rig::new(2).with(|rig| (rig.policy.hedge, rig.hedgeable) = (true, true));
    let now = rig.clock.now();
    (0..40).for_each(|_| rig.world.hedges.on_request(now));
    rig
}

fn racing() -> Rig {
    ready_to_race().begin()
}

/// claude-code-hub #1281: a race billed twice without anybody's wish.
#[test]
fn r11_nothing_is_raced_unless_the_user_asked_for_it_and_it_is_harmless() {
    let mut off = Rig::new(2).with(|rig| rig.hedgeable = true).begin();
    off.after(HEDGE_DELAY);
    off.expect(&["initial 0"]);
    let mut acts = Rig::new(2).with(|rig| rig.policy.hedge = true).begin();
    acts.after(HEDGE_DELAY);
    acts.expect(&["initial 0"]);
    let mut few = Rig::new(2).with(|rig| (rig.policy.hedge, rig.hedgeable) = (true, true)).begin();
    few.after(HEDGE_DELAY).after(HEDGE_DELAY);
    few.expect(&["initial 0"]);
}

#[test]
fn a_slow_start_is_raced_and_the_first_content_wins() {
    let mut rig = racing();
    rig.after(HEDGE_DELAY);
    rig.head().content();
    rig.expect(&["initial 0", "hedge 1", "cancel #0", "commit #1"]);
    let first = &rig.exchange.as_ref().unwrap().attempts()[0];
    assert!(first.wasted && first.decision == Some(Decision::Drop));
}

#[test]
fn the_slow_one_may_still_win_and_each_may_fail_alone() {
    let mut slow = racing();
    slow.after(HEDGE_DELAY);
    let first = AttemptId(0);
    slow.tell(|exchange, now, _, at| exchange.on_head(now, first, BodyKind::Stream, at));
    slow.tell(|exchange, now, _, at| exchange.on_first_content(now, first, at));
    slow.expect(&["initial 0", "hedge 1", "cancel #1", "commit #0"]);
    let mut failing = racing();
    failing.after(HEDGE_DELAY).overload();
    failing.tell(|exchange, now, _, at| exchange.on_head(now, first, BodyKind::Stream, at));
    failing.tell(|exchange, now, _, at| exchange.on_first_content(now, first, at));
    failing.expect(&["initial 0", "hedge 1", "commit #0"]);
    let mut both = racing();
    both.after(HEDGE_DELAY).overload();
    both.tell(|exchange, now, position, at| {
        exchange.on_failure(now, first, Failure::new(FailureKind::ClosedBeforeHead, Stage::Send, "closed"), position, at);
    });
    both.expect(&["initial 0", "hedge 1", "relay #1 in 12 s"]);
}

/// The first profile's breaker has opened, and its time is up.
fn on_trial(mut rig: Rig) -> Rig {
    let now = rig.clock.now();
    let victim = victim(ProfileId(0));
    for _ in 0..BREAKER_FAILURES {
        rig.world.health.on_failure(now, &victim, &Failure::new(FailureKind::ServerError, Stage::Head, "500"), EVEN);
    }
    rig.clock.advance(COOLDOWN_CAP);
    rig
}

fn standing_of_first(rig: &Rig) -> Standing {
    rig.world.health.standing(rig.clock.now(), ProfileId(0), ModelFamily::Opus, Some(1))
}

/// The loser's breaker waits for a trial, and this request was it: until the trial is over nobody else is let in.
#[test]
fn a_race_that_is_lost_on_trial_leaves_the_trial_to_the_next_request() {
    for ends in ["content", "a full hold", "an opaque body"] {
        let mut rig = on_trial(ready_to_race());
        assert_eq!(standing_of_first(&rig), Standing::Trial);
        rig = rig.begin();
        assert!(matches!(standing_of_first(&rig), Standing::Cooling { .. }), "the trial is under way");
        rig.after(HEDGE_DELAY);
        let winner = rig.last();
        match ends {
            "an opaque body" => rig.tell(|exchange, now, _, at| exchange.on_head(now, winner, BodyKind::Opaque, at)),
            "a full hold" => rig.head().tell(|exchange, now, _, at| exchange.on_held_full(now, winner, at)),
            _ => rig.head().content(),
        };
        rig.expect(&["initial 0", "hedge 1", "cancel #0", "commit #1"]);
        assert_eq!(standing_of_first(&rig), Standing::Trial, "{ends}: nothing was learned of the loser");
    }
}

/// A request that went out while all was well ends no trial of another one.
#[test]
fn a_race_that_is_lost_by_who_was_not_on_trial_ends_no_trial() {
    let mut rig = on_trial(racing());
    let now = rig.clock.now();
    rig.world.health.begin(now, ProfileId(0), ModelFamily::Opus);
    rig.after(HEDGE_DELAY).head().content();
    assert!(matches!(standing_of_first(&rig), Standing::Cooling { .. }), "{:?}", standing_of_first(&rig));
}

// What must hold whatever happens.

#[derive(Debug, Clone)]
enum Happening {
    Head,
    Content,
    Bytes,
    Success,
    End,
    Fail(FailureKind, u16),
    Pass(u64),
    Gone,
    Text,
    CloseText,
    Rule(Ruling),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => Just(Happening::Head),
        3 => Just(Happening::Content),
        2 => Just(Happening::Bytes),
        1 => Just(Happening::Success),
        1 => Just(Happening::End),
        6 => (proptest::sample::select(FailureKind::ALL.to_vec()), 400_u16..599).prop_map(|(kind, status)| Happening::Fail(kind, status)),
        3 => (0_u64..400).prop_map(Happening::Pass),
        1 => Just(Happening::Gone),
        2 => Just(Happening::Text),
        1 => Just(Happening::CloseText),
        4 => prop_oneof![
            3 => Just(Ruling::Allow),
            2 => Just(Ruling::Block),
            2 => (0_u16..6).prop_map(|profile| Ruling::Use(ProfileId(profile))),
        ].prop_map(Happening::Rule),
    ]
}

fn any_client() -> impl Strategy<Value = ClientKind> {
    proptest::sample::select(vec![ClientKind::ClaudeInteractive, ClientKind::ClaudePrint, ClientKind::Program])
}

fn any_exhausted() -> impl Strategy<Value = OnExhausted> {
    proptest::sample::select(vec![OnExhausted::Wait, OnExhausted::Hold, OnExhausted::Fail])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// sub2api #991 #1007: two answers in one stream.
    /// Invariants I1, I3 and I10, and that every exchange ends: over any profiles, clients, wishes and happenings.
    #[test]
    fn r17_whatever_happens_the_invariants_hold(
        profiles in 1_u16..6,
        client in any_client(),
        on_exhausted in any_exhausted(),
        hedge in any::<bool>(),
        (retry, failover) in any::<(bool, bool)>(),
        happenings in proptest::collection::vec(happening(), 0..60),
    ) {
        let mut rig = Rig::new(profiles).with(|rig| {
            rig.client = client;
            rig.policy.on_exhausted = on_exhausted;
            (rig.policy.hedge, rig.hedgeable) = (hedge, hedge);
            rig.policy.gates = Gates { retry, failover };
        });
        let now = rig.clock.now();
        (0..100).for_each(|_| rig.world.hedges.on_request(now));
        let mut rig = rig.begin();
        for happening in happenings {
            if rig.exchange.as_ref().unwrap().attempts().is_empty() {
                break;
            }
            match happening {
                Happening::Head => rig.head(),
                Happening::Content => rig.content(),
                Happening::Bytes => {
                    let id = rig.last();
                    rig.tell(|exchange, now, _, _| exchange.on_bytes(now, id))
                }
                Happening::Success => rig.success(),
                Happening::End => rig.ends(),
                Happening::Fail(kind, status) => rig.status(kind, status),
                Happening::Pass(seconds) => rig.after(secs(seconds)),
                Happening::Gone => rig.tell(|exchange, now, _, at| exchange.on_client_gone(now, at)),
                Happening::Text => rig.seen(text),
                Happening::CloseText => rig.seen(Position::close),
                Happening::Rule(ruling) => rig.rules(ruling),
            };
        }
        // Time alone brings every exchange to its end.
        for _ in 0..200 {
            rig.after(secs(60));
        }
        let exchange = rig.exchange.as_ref().unwrap();
        prop_assert!(exchange.outcome().is_some(), "{:?}", rig.trace);
        let commits = rig.trace.iter().filter(|line| line.starts_with("commit")).count();
        let resumes = rig.trace.iter().filter(|line| line.starts_with("resume")).count();
        prop_assert!(commits <= 1 + resumes && resumes <= 1, "I1: {:?}", rig.trace);
        let held = rig.trace.iter().any(|line| line == "hold open");
        let fresh = rig.trace.iter().filter(|line| line.ends_with("fresh")).count();
        let most = if held { MAX_ATTEMPTS_PER_KEY as usize } else { MAX_ATTEMPTS };
        prop_assert!(exchange.attempts().len() - fresh <= most + resumes, "I3: {:?}", rig.trace);
        let answers: Vec<&String> = rig.trace.iter().filter(|line| line.starts_with("say") || line.starts_with("relay")).collect();
        prop_assert!(answers.len() <= 1 && (answers.is_empty() || commits == 0), "I1: {:?}", rig.trace);
        for answer in answers.iter().filter(|answer| answer.starts_with("say")) {
            let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
            prop_assert!(matches!(status, 424 | 502..=504), "I10: {answer}");
            prop_assert_eq!(status == 424 || profiles == 1, !answer.contains(" in "), "I10: {}", answer);
        }
        prop_assert!(rig.trace.iter().filter(|line| line.starts_with("end")).count() <= 1, "{:?}", rig.trace);
        let unasked = |word: &str, asks: bool| !asks && rig.trace.iter().any(|line| line.starts_with(word));
        prop_assert!(!unasked("PreRetry", retry) && !unasked("PreFailover", failover), "{:?}", rig.trace);
        // With a gate no retry and no move begins but behind a question.
        for (word, gate, starts) in [("PreRetry", retry, &["retry"][..]), ("PreFailover", failover, &["failover", "resume", "hedge"])] {
            for place in (0..rig.trace.len()).filter(|_| gate) {
                let begins = starts.iter().any(|start| rig.trace[place].starts_with(start));
                let home = rig.trace[place] == "failover 0" && held;
                let asked = place > 0 && rig.trace[place - 1].starts_with(if starts.len() > 1 { "Pre" } else { word });
                prop_assert!(!begins || home || asked, "{} {:?}", rig.trace[place], rig.trace);
            }
        }
    }
}

/// Claude Code 2.1.332: behind a base URL it never sends `anthropic-usage-limit`, so only a client in full mode can take the offer; any
/// other would lose its turn for nothing.
#[test]
fn field_19_preferred_slow_service_relays_the_offer() {
    let refusal = || {
        let mut failure = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_status(429).with_retry_after(Some(secs(7200)));
        failure.slow_service = true;
        failure
    };
    let trace_of = |slow: SlowRequest, service: SlowService| {
        let mut case = Rig::new(2).with(|case| (case.slow, case.policy.slow_service) = (slow, service)).begin();
        case.fail(refusal());
        case.trace.join(", ")
    };
    for (slow, service, goes_on) in [
        (SlowRequest::Able, SlowService::Name, true),
        (SlowRequest::Asked, SlowService::Name, true),
        (SlowRequest::Unable, SlowService::Prefer, true),
        (SlowRequest::Able, SlowService::Prefer, false),
        (SlowRequest::Asked, SlowService::Prefer, false),
    ] {
        let trace = trace_of(slow, service);
        assert_eq!(trace.contains("failover 1"), goes_on, "{slow:?} {service:?}: {trace}");
        assert_eq!(trace.contains("relay #0"), !goes_on, "{slow:?} {service:?}: {trace}");
    }
}

/// A request for slower service asks for what is left when the window is used up: the block of the window does not hold it.
#[test]
fn field_19_request_for_slow_service_passes_the_window_s_block() {
    let mut case = Rig::new(2).begin();
    case.fail(Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_status(429).with_retry_after(Some(secs(7200))));
    for (slow, first) in [(SlowRequest::Able, 1), (SlowRequest::Asked, 0)] {
        case.slow = slow;
        let (_, plan) = case.plan();
        assert_eq!(plan.candidates[0].profile, ProfileId(first), "{slow:?}");
    }
}
