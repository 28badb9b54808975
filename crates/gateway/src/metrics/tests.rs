//! Which figures a record adds to. Never serves them.

use hotspare_core::attempt::AttemptKind;
use hotspare_core::record::{Decision, RECORD_VERSION, Tokens};
use hotspare_core::{ClientKind, Outcome};

use super::*;

fn attempt(profile: &str, class: Option<FailureKind>, first_content_us: Option<u64>) -> AttemptEntry {
    AttemptEntry {
        profile: profile.to_owned(),
        model: None,
        kind: AttemptKind::Initial,
        started_us: 0,
        connect_us: None,
        head_us: None,
        first_content_us,
        ended_us: None,
        status: None,
        class,
        stage: None,
        detail: None,
        decision: Decision::Commit,
        reason: None,
        tokens: Tokens::default(),
        bytes_up: 0,
        bytes_down: 0,
        wasted: false,
        maybe_billed: false,
        cost_micro_usd: None,
        on_plan: false,
    }
}

fn record(served_by: Option<&str>, attempts: Vec<AttemptEntry>) -> ExchangeRecord {
    ExchangeRecord {
        version: RECORD_VERSION,
        id: 1,
        at_ms: 0,
        took_us: 0,
        endpoint: Endpoint::Messages,
        client: ClientKind::Program,
        session: None,
        agent: None,
        model: None,
        stream: true,
        chain: "default".to_owned(),
        rule: None,
        folder: None,
        limited: None,
        outcome: if served_by.is_some() { Outcome::Served } else { Outcome::Exhausted },
        status: None,
        served_by: served_by.map(str::to_owned),
        on_spare: false,
        refused_by: None,
        request_bytes: 0,
        response_bytes: 0,
        changed: Vec::new(),
        skipped: Vec::new(),
        cold_prefix_tokens: None,
        est_cost_micro_usd: None,
        drill: None,
        attempts,
        rulings: Vec::new(),
    }
}

/// The value of the line that begins so.
fn value<'t>(text: &'t str, series: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

#[test]
fn a_failover_is_counted_once_on_each_side() {
    let metrics = Metrics::default();
    let overloaded = || attempt("work", Some(FailureKind::Overloaded), None);
    metrics.count(&record(Some("spare"), vec![overloaded(), attempt("spare", None, Some(1_620_000))]));
    metrics.count(&record(Some("work"), vec![attempt("work", None, Some(300_000))]));
    metrics.count(&record(None, vec![overloaded(), attempt("spare", Some(FailureKind::HeadTimeout), None)]));
    let text = metrics.text(&Present::default()).unwrap();
    let of = |series: &str| value(&text, series).unwrap_or_else(|| panic!("{series} is not in:\n{text}"));
    assert_eq!(of(r#"hotspare_requests_total{profile="spare",outcome="served"}"#), "1");
    assert_eq!(of(r#"hotspare_requests_total{profile="none",outcome="exhausted"}"#), "1");
    assert_eq!(of(r#"hotspare_attempts_total{profile="work",reason="overloaded"}"#), "2");
    assert_eq!(of(r#"hotspare_attempts_total{profile="work",reason="ok"}"#), "1");
    assert_eq!(of(r#"hotspare_failovers_total{from="work",to="spare",reason="overloaded"}"#), "2");
    assert_eq!(of(r#"hotspare_ttft_seconds_bucket{profile="spare",le="2"}"#), "1");
    assert_eq!(of(r#"hotspare_ttft_seconds_bucket{profile="spare",le="1"}"#), "0");
    assert_eq!(of(r#"hotspare_ttft_seconds_count{profile="work"}"#), "1");
}

#[test]
fn tokens_are_counted_by_kind() {
    let metrics = Metrics::default();
    let mut served = attempt("work", None, Some(300_000));
    served.tokens = Tokens { input: Some(10), output: Some(20), cache_read: Some(1000), cache_write: None, ..Tokens::default() };
    metrics.count(&record(Some("work"), vec![served.clone(), served]));
    let text = metrics.text(&Present::default()).unwrap();
    let of = |kind: &str| value(&text, &format!(r#"hotspare_tokens_total{{profile="work",kind="{kind}"}}"#));
    assert_eq!(["input", "output", "cache_read", "cache_write"].map(of), [Some("20"), Some("40"), Some("2000"), None], "{text}");
}

#[test]
fn a_profile_is_in_one_state_and_a_gone_one_in_none() {
    let metrics = Metrics::default();
    let states = |states: &[(&str, &str)]| Present {
        states: states.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect(),
        windows: vec![("work".to_owned(), "5h".to_owned(), 0.62)],
    };
    let before = metrics.text(&states(&[("work", "cooling"), ("spare", "serving")])).unwrap();
    assert_eq!(value(&before, r#"hotspare_profile_state{profile="work",state="cooling"}"#), Some("1"));
    assert_eq!(value(&before, r#"hotspare_profile_state{profile="work",state="serving"}"#), Some("0"));
    assert_eq!(value(&before, r#"hotspare_window_used_ratio{profile="work",window="5h"}"#), Some("0.62"));
    let after = metrics.text(&states(&[("spare", "ready")])).unwrap();
    assert!(!after.contains(r#"hotspare_profile_state{profile="work""#), "{after}");
}

#[test]
fn names_are_bounded_and_cannot_forge_a_line() {
    let metrics = Metrics::default();
    for number in 0..1000 {
        metrics.count(&record(Some(&format!("p{number}")), Vec::new()));
    }
    let text = metrics.text(&Present::default()).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("hotspare_requests_total{")).count(), NAMES_CAP + 1);
    assert_eq!(value(&text, r#"hotspare_requests_total{profile="other",outcome="served"}"#), Some("744"));
    let metrics = Metrics::default();
    metrics.count(&record(Some("a\"} 1\nhotspare_requests_total{profile=\"b\\"), Vec::new()));
    let text = metrics.text(&Present::default()).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("hotspare_requests_total{")).count(), 1, "{text}");
}
