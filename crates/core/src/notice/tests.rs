//! Holds that each move is told or counted, that the same one is told once in a while, and what counts as a move.

use hotspare_testkit::VirtualClock;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::failure::{FailureKind, Stage};

fn attempt(profile: &str, class: Option<&str>) -> Value {
    json!({
        "profile": profile, "model": null, "kind": "initial", "started_us": 0, "connect_us": null, "head_us": null, "first_content_us": null,
        "ended_us": null, "status": null, "class": class, "stage": null, "detail": class.map(|class| format!("it was {class}")),
        "decision": "commit", "reason": null, "tokens": { "input": null, "output": null, "cache_read": null, "cache_write": null },
        "bytes_up": 0, "bytes_down": 0, "wasted": false, "maybe_billed": false
    })
}

/// An attempt whose refusal the client got.
fn relayed(profile: &str, class: &str) -> Value {
    let mut relayed = attempt(profile, Some(class));
    relayed["decision"] = "relay".into();
    relayed
}

struct Scene {
    watch: Watch,
    now: Instant,
    id: u64,
}

impl Scene {
    fn new() -> Self {
        Self { watch: Watch::default(), now: VirtualClock::new().now(), id: 0 }
    }

    /// An exchange of a session: who failed with what, who answered; the notices as `from>to:reason×times`.
    fn exchange(&mut self, session: &str, failed: &[(&str, &str)], served_by: Option<&str>, more: &Value) -> Vec<String> {
        self.id += 1;
        let mut attempts: Vec<Value> = failed.iter().map(|(profile, class)| attempt(profile, Some(class))).collect();
        attempts.extend(served_by.map(|profile| attempt(profile, None)));
        let mut record = json!({
            "version": 1, "id": crate::record::id_text(self.id), "at_ms": 1, "took_us": 1, "endpoint": "messages", "client": "program",
            "session": session, "agent": null, "model": null, "stream": true, "chain": "default", "rule": null,
            "outcome": if served_by.is_some() { "served" } else { "exhausted" }, "status": 200, "served_by": served_by,
            "on_spare": served_by.is_some_and(|profile| profile != "work"), "request_bytes": 1, "response_bytes": 1, "changed": [],
            "skipped": [], "cold_prefix_tokens": null, "est_cost_micro_usd": null, "attempts": attempts
        });
        record.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let record: ExchangeRecord = serde_json::from_value(record).expect("a record");
        let mut notices = Vec::new();
        for (profile, class) in failed {
            let kind = FailureKind::ALL.into_iter().find(|kind| kind.word() == *class).expect("a kind");
            self.watch.failed(self.id, profile, None, &Failure::new(kind, Stage::Head, format!("it was {class}")));
        }
        if let Some(profile) = served_by {
            notices.extend(self.watch.committed(self.now, QUIET, self.id, profile, record.other_model(profile)));
        }
        notices.extend(self.watch.over(self.now, QUIET, Some("work"), &record));
        told(&notices)
    }

    fn plain(&mut self, session: &str, served_by: &str) -> Vec<String> {
        self.exchange(session, &[], Some(served_by), &json!({}))
    }

    fn later(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        told(&self.watch.due(self.now, QUIET))
    }
}

fn told(notices: &[Notice]) -> Vec<String> {
    let one = |notice: &Notice| {
        let Move { from, to, reason, model } = &notice.what;
        let model = model.as_deref().map(|model| format!(" as {model}")).unwrap_or_default();
        format!("{from}>{}{model}:{reason}×{}", to.as_deref().unwrap_or("nobody"), notice.times)
    };
    notices.iter().map(one).collect()
}

#[test]
fn a_switch_is_told_once_and_then_counted() {
    let mut scene = Scene::new();
    assert!(scene.plain("s", "work").is_empty());
    let switch = |scene: &mut Scene| scene.exchange("s", &[("work", "overloaded")], Some("spare"), &json!({}));
    assert_eq!(switch(&mut scene), ["work>spare:overloaded×1"]);
    assert!(switch(&mut scene).is_empty() && switch(&mut scene).is_empty());
    assert!(scene.later(599).is_empty());
    assert_eq!(scene.watch.next_due(QUIET), Some(scene.now + Duration::from_secs(1)));
    assert_eq!(scene.later(1), ["work>spare:overloaded×2"]);
    assert!(scene.later(600).is_empty(), "nothing came since");
    assert_eq!(switch(&mut scene), ["work>spare:overloaded×1"], "as new again");
}

/// A title request on a small model is served elsewhere; the conversation itself has not moved.
#[test]
fn side_request_on_another_family_is_no_move_of_the_session() {
    let mut scene = Scene::new();
    let main = json!({ "model": "claude-opus-5-5" });
    let title = json!({ "model": "claude-haiku-5-5" });
    assert!(scene.exchange("s", &[], Some("work"), &main).is_empty());
    assert_eq!(scene.exchange("s", &[("work", "overloaded")], Some("spare"), &title), ["work>spare:overloaded×1"]);
    assert!(scene.exchange("s", &[], Some("work"), &main).is_empty());
}

#[test]
fn another_reason_and_another_profile_are_told_apart() {
    let mut scene = Scene::new();
    assert_eq!(scene.exchange("s", &[("work", "overloaded")], Some("spare"), &json!({})), ["work>spare:overloaded×1"]);
    assert_eq!(scene.exchange("s", &[("work", "unauthorized")], Some("spare"), &json!({})), ["work>spare:unauthorized×1"]);
    let both = [("work", "overloaded"), ("spare", "billing")];
    assert_eq!(scene.exchange("s", &both, Some("third"), &json!({})), ["work>third:overloaded×1"]);
    assert_eq!(scene.exchange("s", &both, None, &json!({})), ["work>nobody:overloaded×1"]);
}

/// claude-code #3434 #44398 #76793: a weaker model that answered without a word.
#[test]
fn r52_a_move_to_another_model_is_told_with_it_and_by_itself() {
    let mut scene = Scene::new();
    let asked_for = |model: &str| {
        let mut spare = attempt("spare", None);
        spare["model"] = model.into();
        json!({ "model": "claude-opus-5-5", "attempts": [attempt("work", Some("overloaded")), spare] })
    };
    let mut told = |session: &str, model: &str| {
        let skipped = asked_for(model);
        scene.exchange(session, &[], Some("spare"), &skipped)
    };
    assert_eq!(told("a", "anthropic/claude-opus-5.5"), ["work>spare:overloaded×1"], "another name of the same one");
    assert_eq!(told("b", "claude-sonnet-5"), ["work>spare as claude-sonnet-5:overloaded×1"]);
    assert!(told("c", "claude-sonnet-5").is_empty(), "once in a while, as every move");
    assert_eq!(told("d", "glm-5"), ["work>spare as glm-5:overloaded×1"]);
}

/// The same account, a weaker model: no other profile, and yet no silence.
#[test]
fn r52_a_weaker_model_of_the_same_profile_is_a_move_and_the_way_back_another() {
    let mut scene = Scene::new();
    let sent = |asked: &str, sent: &str, failed: Option<&str>| {
        let mut served = attempt("work", None);
        served["model"] = sent.into();
        let failed = failed.map(|class| {
            let mut failed = attempt("work", Some(class));
            failed["model"] = asked.into();
            failed
        });
        json!({ "model": asked, "attempts": failed.into_iter().chain([served]).collect::<Vec<_>>() })
    };
    let (opus, sonnet, haiku) = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5");
    assert!(scene.exchange("s", &[], Some("work"), &sent(opus, opus, None)).is_empty());
    let moved = sent(opus, sonnet, Some("overloaded"));
    assert_eq!(scene.exchange("s", &[("work", "overloaded")], Some("work"), &moved), ["work>work as claude-sonnet-5-5:overloaded×1"]);
    assert!(scene.exchange("s", &[], Some("work"), &sent(opus, sonnet, None)).is_empty(), "it stays there");
    assert!(scene.exchange("s", &[], Some("work"), &sent(haiku, haiku, None)).is_empty(), "a side request says nothing of it");
    assert_eq!(scene.exchange("new", &[], Some("work"), &sent(opus, sonnet, None)), ["work>work as claude-sonnet-5-5:moved×1"]);
    assert_eq!(scene.exchange("s", &[], Some("work"), &sent(opus, opus, None)), ["work>work:well_again×1"]);
    let again = sent(opus, opus, Some("stale_connection"));
    assert!(scene.exchange("s", &[("work", "stale_connection")], Some("work"), &again).is_empty(), "the same one again is no move");
}

#[test]
fn a_session_that_is_led_elsewhere_without_a_failure_of_its_own_is_told_why() {
    let mut scene = Scene::new();
    assert!(scene.plain("s", "work").is_empty());
    let skipped = json!({"skipped": [{"profile": "work", "reason": "not asked, overloaded a moment ago"}]});
    assert_eq!(scene.exchange("s", &[], Some("spare"), &skipped), ["work>spare:not asked, overloaded a moment ago×1"]);
    assert!(scene.plain("s", "spare").is_empty(), "it stays there");
    assert_eq!(scene.plain("s", "work"), ["spare>work:well_again×1"]);
    assert_eq!(scene.plain("new", "spare"), ["work>spare:moved×1"], "a session that begins on a spare");
    assert!(scene.plain("other", "work").is_empty());
}

#[test]
fn what_broke_in_the_middle_of_an_answer_is_the_reason_of_the_next_move() {
    let mut scene = Scene::new();
    let cut = json!({"outcome": "cut", "served_by": "work", "on_spare": false, "attempts": [attempt("work", Some("stream_died"))]});
    assert!(scene.exchange("s", &[("work", "stream_died")], None, &cut).is_empty(), "the client asks again");
    assert_eq!(scene.plain("s", "spare"), ["work>spare:stream_died×1"]);
}

#[test]
fn an_answer_that_a_third_profile_ends_is_a_second_move() {
    let mut scene = Scene::new();
    let resumed = json!({"served_by": "third", "attempts": [attempt("work", Some("overloaded")), attempt("spare", Some("stream_died")), attempt("third", None)]});
    let notices = scene.exchange("s", &[("work", "overloaded")], Some("spare"), &resumed);
    assert_eq!(notices, ["work>spare:overloaded×1", "spare>third:stream_died×1"]);
}

#[test]
fn a_failure_that_moved_nobody_is_none() {
    let mut scene = Scene::new();
    assert!(scene.exchange("s", &[("work", "stale_connection")], Some("work"), &json!({})).is_empty());
    let relayed = json!({"outcome": "relayed", "served_by": null, "attempts": [relayed("work", "bad_request")]});
    assert!(scene.exchange("s", &[("work", "bad_request")], None, &relayed).is_empty());
    let gone = json!({"outcome": "cancelled", "served_by": null});
    assert!(scene.exchange("s", &[("work", "overloaded")], None, &gone).is_empty());
    assert!(scene.watch.open.is_empty());
}

/// Measured with 2.1.330 behind two providers that fail: `backup took over` was said although the client had got the primary's 529.
#[test]
fn relayed_failure_of_all_is_no_move_to_the_last() {
    let mut scene = Scene::new();
    let all = json!({"outcome": "relayed", "served_by": null, "attempts": [relayed("work", "overloaded"), attempt("spare", Some("unauthorized"))]});
    let failed = [("work", "overloaded"), ("spare", "unauthorized")];
    assert_eq!(scene.exchange("s", &failed, None, &all), ["work>nobody:overloaded×1"]);
    assert!(scene.exchange("s", &failed, None, &all).is_empty(), "counted");
    let remembered = json!({"outcome": "relayed", "served_by": null, "attempts": [], "skipped": [
        {"profile": "work", "reason": "not asked, quota exhausted a moment ago"}, {"profile": "spare", "reason": "not asked, billing a moment ago"}]});
    assert!(scene.exchange("s", &[], None, &remembered).is_empty(), "the same failure, whose profiles are blocked by now");
    let mut scene = Scene::new();
    assert_eq!(scene.exchange("s", &[], None, &remembered), ["work>nobody:not asked, quota exhausted a moment ago×1"]);
}

#[test]
fn recovery_from_total_failure_is_reported() {
    let mut scene = Scene::new();
    let all = [("work", "overloaded"), ("spare", "billing")];
    assert_eq!(scene.exchange("s", &all, None, &json!({})), ["work>nobody:overloaded×1"]);
    assert!(scene.exchange("s", &all, None, &json!({})).is_empty());
    assert_eq!(scene.plain("s", "work"), ["work>nobody:overloaded×1", "work>work:answers_again×1"], "with the count so far");
    assert!(scene.plain("s", "work").is_empty());
    assert_eq!(scene.exchange("s", &all, None, &json!({})), ["work>nobody:overloaded×1"], "news again after a recovery");
    assert_eq!(scene.plain("s", "spare"), ["work>spare:moved×1"], "the spare answers after a total failure");
    assert_eq!(scene.exchange("s", &all, None, &json!({})), ["work>nobody:overloaded×1"]);
    assert_eq!(scene.plain("s", "work"), ["spare>work:well_again×1"]);
}

#[test]
fn relayed_failure_of_a_chain_of_one_is_silent() {
    let mut scene = Scene::new();
    let alone = json!({"outcome": "relayed", "served_by": null, "attempts": [relayed("work", "overloaded")]});
    assert!(scene.exchange("s", &[("work", "overloaded")], None, &alone).is_empty(), "the client itself reports it");
}

#[test]
fn refusal_by_the_primary_is_no_way_home() {
    let mut scene = Scene::new();
    assert_eq!(scene.exchange("s", &[("work", "overloaded")], Some("spare"), &json!({})), ["work>spare:overloaded×1"]);
    let refused = json!({"outcome": "relayed", "served_by": null, "attempts": [relayed("work", "bad_request")]});
    assert!(scene.exchange("s", &[("work", "bad_request")], None, &refused).is_empty());
    assert!(scene.plain("s", "spare").is_empty(), "the session was at the spare all the time");
    assert_eq!(scene.plain("s", "work"), ["spare>work:well_again×1"]);
}

#[test]
fn switch_is_reported_once_for_all_sessions() {
    let mut scene = Scene::new();
    assert!(scene.plain("s", "work").is_empty());
    assert_eq!(told(&[scene.watch.switched("work", "spare")]), ["work>spare:switched×1"]);
    assert!(scene.plain("s", "spare").is_empty(), "the session follows the switch");
}

#[test]
fn a_drill_is_told_each_time_and_teaches_nothing() {
    let mut scene = Scene::new();
    assert!(scene.plain("s", "work").is_empty());
    let drill = json!({"drill": {"fault": "529", "live": false}});
    for _ in 0..2 {
        let switch = scene.exchange("s", &[], Some("spare"), &drill);
        assert_eq!(switch, ["work>spare:moved×1"]);
    }
    assert!(scene.plain("s", "work").is_empty(), "the session was never away");
    assert_eq!(scene.exchange("s", &[("work", "overloaded")], Some("spare"), &json!({})), ["work>spare:overloaded×1"]);
}

#[test]
fn what_is_remembered_is_bounded_and_no_count_is_lost() {
    let mut scene = Scene::new();
    let mut sum = 0;
    for number in 0..2 * MOST_MOVES {
        let name = format!("p{number}");
        for _ in 0..2 {
            let notices = scene.exchange(&format!("s{}", number * 7), &[(&name, "overloaded")], Some("spare"), &json!({}));
            sum += notices.iter().filter_map(|notice| notice.rsplit('×').next()?.parse::<u64>().ok()).sum::<u64>();
        }
    }
    assert!(scene.watch.quiet.known.len() <= MOST_MOVES && scene.watch.sessions.len() <= MOST_SESSIONS);
    sum += scene.later(600).iter().filter_map(|notice| notice.rsplit('×').next()?.parse::<u64>().ok()).sum::<u64>();
    assert_eq!(sum, 4 * MOST_MOVES as u64);
}

proptest! {
    #[test]
    fn every_move_is_told_or_counted_and_the_same_is_told_once_in_a_while(
        moves in proptest::collection::vec((0_u64..400, 0_usize..3, 0_usize..3), 1..200), quiet in 1_u64..900,
    ) {
        let (mut known, mut now, quiet) = (Quiet::default(), VirtualClock::new().now(), Duration::from_secs(quiet));
        let mut told: HashMap<Move, (u64, Option<Instant>)> = HashMap::new();
        let mut made: HashMap<Move, u64> = HashMap::new();
        let mut tell = |now: Instant, notices: Vec<Notice>| -> Result<(), TestCaseError> {
            for notice in notices {
                let (sum, last) = told.entry(notice.what.clone()).or_default();
                let since = last.map(|last| now.duration_since(last));
                prop_assert!(notice.times > 0 && since.is_none_or(|since| since >= quiet), "told again after {since:?}");
                *sum += notice.times;
                *last = Some(now);
            }
            Ok(())
        };
        for (number, (wait, from, reason)) in moves.iter().enumerate() {
            now += Duration::from_secs(*wait);
            tell(now, known.due(now, quiet))?;
            let what = Move { from: format!("p{from}"), to: Some("spare".to_owned()), reason: format!("r{reason}"), model: None };
            *made.entry(what.clone()).or_default() += 1;
            tell(now, known.note(now, quiet, what, String::new(), number as u64))?;
        }
        while let Some(due) = known.next_due(quiet) {
            now = due.max(now);
            tell(now, known.due(now, quiet))?;
        }
        let told: HashMap<Move, u64> = told.into_iter().map(|(what, (sum, _))| (what, sum)).collect();
        prop_assert_eq!(told, made);
    }
}
