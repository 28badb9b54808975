//! Records to keep, made up.
#![allow(unreachable_pub, reason = "shared by several test programs, each of which uses a part")]
#![allow(dead_code, clippy::unwrap_used, reason = "as above; helpers of tests")]

use hotspare_core::attempt::AttemptKind;
use hotspare_core::record::{AttemptEntry, Decision, ExchangeRecord, RECORD_VERSION, Tokens};
use hotspare_core::{ClientKind, Endpoint, FailureKind, Outcome, Stage};

/// The present in milliseconds since 1970.
pub fn now_ms() -> u64 {
    u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// Served by the only attempt.
pub fn served(id: u64) -> ExchangeRecord {
    ExchangeRecord {
        version: RECORD_VERSION,
        id,
        at_ms: now_ms(),
        took_us: 1_500_000,
        endpoint: Endpoint::Messages,
        client: ClientKind::ClaudePrint,
        session: Some("5f0c".to_owned()),
        agent: None,
        model: Some("claude-opus-5-5".to_owned()),
        stream: true,
        chain: "default".to_owned(),
        rule: None,
        folder: None,
        limited: None,
        outcome: Outcome::Served,
        status: Some(200),
        served_by: Some("work".to_owned()),
        on_spare: false,
        refused_by: None,
        request_bytes: 1000,
        response_bytes: 500,
        changed: Vec::new(),
        skipped: Vec::new(),
        cold_prefix_tokens: None,
        est_cost_micro_usd: None,
        drill: None,
        attempts: vec![attempt("work", None)],
        rulings: Vec::new(),
    }
}

/// Served by the second profile.
pub fn failed_over(id: u64) -> ExchangeRecord {
    let mut record = served(id);
    record.served_by = Some("spare".to_owned());
    record.on_spare = true;
    record.est_cost_micro_usd = Some(93_000);
    record.attempts = vec![attempt("work", Some(FailureKind::Overloaded)), attempt("spare", None)];
    record.attempts[1].kind = AttemptKind::Failover;
    record
}

fn attempt(profile: &str, class: Option<FailureKind>) -> AttemptEntry {
    AttemptEntry {
        profile: profile.to_owned(),
        model: None,
        kind: AttemptKind::Initial,
        started_us: 0,
        connect_us: Some(100),
        head_us: Some(400_000),
        first_content_us: class.is_none().then_some(500_000),
        ended_us: Some(1_500_000),
        status: Some(if class.is_some() { 529 } else { 200 }),
        class,
        stage: class.map(|_| Stage::Head),
        detail: class.map(|_| "529 overloaded".to_owned()),
        decision: if class.is_some() { Decision::NextProfile } else { Decision::Commit },
        reason: None,
        tokens: if class.is_some() {
            Tokens::default()
        } else {
            Tokens { input: Some(10), output: Some(20), cache_read: Some(1000), ..Tokens::default() }
        },
        bytes_up: 1000,
        bytes_down: 500,
        wasted: false,
        maybe_billed: false,
        cost_micro_usd: None,
        on_plan: false,
    }
}
