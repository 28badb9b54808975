//! Holds the segment's words and its forty columns. Never asks a running gateway.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::segment::COLUMNS;
use super::*;
use crate::output::Paint;

const PLAIN: Look = Look { paint: Paint(false), unicode: true, width: None };
const ASCII: Look = Look { paint: Paint(false), unicode: false, width: None };

fn profile(name: &str, state: &str, more: &Value) -> Value {
    let mut profile = json!({
        "name": name, "state": state, "back_in_s": null, "last_failure": null, "last_failure_ago_s": null, "last_success_ago_s": null
    });
    profile.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    profile
}

fn status(serving: &str, profiles: &[Value], more: &Value) -> Status {
    let mut status = json!({
        "version": 1, "hotspare": "0.1.0", "address": "http://127.0.0.1:4117", "pid": 1, "uptime_s": 1, "enabled": true,
        "serving": serving, "profiles": profiles, "exchanges": 1, "failovers": 0, "in_flight": 0, "last_failover": null
    });
    status.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    serde_json::from_value(status).expect("a status")
}

/// Seconds after three o'clock.
fn from_three(seconds: u64) -> String {
    format!("{:02}:{:02}", (15 + seconds / 3600) % 24, seconds / 60 % 60)
}

fn said(status: &Status, cost: Option<u64>, look: Look) -> String {
    segment::of(status, cost, &|seconds| Some(from_three(seconds)), look).map(|segment| segment.text).unwrap_or_default()
}

fn failed(name: &str, state: &str, words: &str, back_in_s: u64) -> Value {
    profile(name, state, &json!({"last_failure": words, "back_in_s": back_in_s, "because": "head_timeout"}))
}

fn window(used: f64, resets_in_s: u64) -> Value {
    json!({"windows": [{"name": "5h", "status": "allowed", "used": used, "resets_in_s": resets_in_s}]})
}

#[test]
fn a_drill_is_told_as_one_and_never_as_an_outage() {
    let profiles = [profile("work", "serving", &json!({})), profile("openrouter-backup", "ready", &json!({}))];
    let drill = |to: Value, live: bool| {
        let drill =
            json!({ "fault": "529", "profile": "work", "live": live, "left": 3, "ends_in_s": 30, "exchange": null, "why": null, "to": to });
        said(&status("work", &profiles, &json!({ "drill": drill })), None, PLAIN)
    };
    assert_eq!(drill(Value::Null, false), "⚑ drill 529: work");
    assert_eq!(drill(json!("backup"), false), "⚑ drill 529: work → backup");
    assert_eq!(drill(json!("openrouter-backup"), true), "⚑ live drill 529: work → openrouter-bac…");
}

#[test]
fn each_state_has_its_words_and_the_good_one_none() {
    let ready = profile("openrouter-backup", "ready", &json!({}));
    let serving = profile("openrouter-backup", "serving", &json!({}));
    let well = profile("work", "serving", &json!({}));
    let by_work = |profiles: &[Value]| status("work", profiles, &json!({}));
    let by_spare = |profiles: &[Value]| status("openrouter-backup", profiles, &json!({}));
    let limit = profile("work", "serving", &window(0.91, 2400));
    let far = profile("work", "serving", &window(0.97, 183_600));
    let overloaded = failed("work", "open", "529 overloaded", 40);
    let timed_out = failed("work", "cooling", "no answer within 60 s", 40);
    let none_left = [failed("work", "open", "529 overloaded", 140), failed("spare", "blocked", "402 billing", 3600)];
    let cases = [
        ("well", by_work(&[well.clone(), ready.clone()]), None),
        ("near a limit", by_work(&[limit.clone(), ready.clone()]), None),
        ("near a limit, days away, alone", by_work(std::slice::from_ref(&far)), None),
        ("on a spare", by_spare(&[overloaded.clone(), serving.clone()]), Some(1_840_000)),
        (
            "on a spare with another model",
            status("openrouter-backup", &[overloaded.clone(), serving.clone()], &json!({"serving_model": "anthropic/claude-sonnet-5"})),
            Some(1_840_000),
        ),
        (
            "on a spare with a strange model",
            status("spare", &[overloaded.clone(), serving.clone()], &json!({"serving_model": "a-model-with-a-long-name"})),
            None,
        ),
        (
            "on another model of the primary",
            status("work", &[well.clone(), ready.clone()], &json!({"serving_model": "claude-sonnet-5-5"})),
            None,
        ),
        ("on a spare, price unknown", by_spare(&[timed_out.clone(), serving.clone()]), None),
        ("primary failed, nothing asked since", by_work(&[overloaded, ready.clone()]), None),
        ("exhausted", by_work(&none_left), None),
        (
            "switched by hand",
            status("openrouter-backup", &[well.clone(), serving], &json!({"switch": {"profile": "openrouter-backup", "for_s": 1800}})),
            None,
        ),
        ("offline", status("work", std::slice::from_ref(&well), &json!({"offline_for_s": 60})), None),
        ("failover off", status("work", std::slice::from_ref(&well), &json!({"enabled": false})), None),
        (
            "broken configuration",
            status(
                "work",
                &[well, ready],
                &json!({"config": {"loaded_at": 1, "sources": [], "error": "error[HS0005]", "needs_restart": null}}),
            ),
            None,
        ),
    ];
    let told: Vec<String> = cases
        .iter()
        .flat_map(|(name, status, cost)| {
            [format!("{name:36} {}", said(status, *cost, PLAIN)), format!("{:36} {}", "", said(status, *cost, ASCII))]
        })
        .map(|line| line.trim_end().to_owned())
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_family_of_models_that_cools_down_does_not_make_the_profile_a_bad_one() {
    let family = profile("work", "cooling", &json!({"family": "opus", "back_in_s": 9, "last_failure": "529 overloaded"}));
    assert_eq!(said(&status("work", &[family], &json!({})), None, PLAIN), "");
}

#[test]
fn a_colour_never_stands_alone() {
    let painted = Segment::down(Look { paint: Paint(true), ..PLAIN }).painted(Look { paint: Paint(true), ..PLAIN });
    assert_eq!(painted, "\u{1b}[31m✖ hotspare down · hotspare doctor\u{1b}[0m");
    assert_eq!(Segment::down(ASCII).painted(ASCII), "x hotspare down - hotspare doctor");
}

#[test]
fn ours_comes_first_and_stands_alone_where_theirs_is_broken() {
    assert_eq!(wrap::joined(Some("⇄ spare"), "main ✔\nsecond\n", PLAIN), "⇄ spare │ main ✔\nsecond");
    assert_eq!(wrap::joined(Some("~ spare"), "main", ASCII), "~ spare | main");
    assert_eq!(wrap::joined(Some("⇄ spare"), "", PLAIN), "⇄ spare");
    assert_eq!(wrap::joined(None, "main\n", PLAIN), "main");
}

proptest! {
    #[test]
    fn it_never_has_more_than_forty_columns(
        name in ".{1,80}", spare in ".{1,80}", words in ".{0,80}", state in "serving|ready|cooling|open|blocked|half_open",
        on_spare: bool, used in 0.0..20.0_f64, seconds in 0_u64..1_000_000, cost in proptest::option::of(0_u64..10_000_000_000), unicode: bool,
    ) {
        let primary = profile(&name, &state, &json!({
            "last_failure": words, "back_in_s": seconds,
            "windows": [{"name": "7d_opus_and_more", "status": "warning", "used": used, "resets_in_s": seconds}]
        }));
        let status = status(if on_spare { &spare } else { &name }, &[primary, profile(&spare, "ready", &json!({}))], &json!({}));
        let text = said(&status, cost, if unicode { PLAIN } else { ASCII });
        prop_assert!(text.chars().count() <= COLUMNS, "{text}");
        prop_assert!(!text.chars().any(char::is_control), "{text}");
        prop_assert!(unicode || text.is_ascii(), "{text}");
    }
}
