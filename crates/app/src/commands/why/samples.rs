//! Exchanges for the tests of what is drawn of them.

use hotspare_store::Row;
use serde_json::{Value, json};

fn attempt(changes: Value) -> Value {
    let mut attempt = json!({
        "profile": "work", "model": null, "kind": "initial", "started_us": 0, "connect_us": 900, "head_us": 400_000, "first_content_us": null,
        "ended_us": 410_000, "status": 200, "class": null, "stage": null, "detail": null, "decision": "commit", "reason": null,
        "tokens": { "input": null, "output": null, "cache_read": null, "cache_write": null },
        "bytes_up": 87_461, "bytes_down": 4021, "wasted": false, "maybe_billed": false
    });
    change(&mut attempt, changes);
    attempt
}

fn change(value: &mut Value, changes: Value) {
    let (Value::Object(fields), Value::Object(changes)) = (value, changes) else { panic!("objects") };
    fields.extend(changes);
}

fn row(local_time: &str, changes: Value) -> Row {
    let mut record = json!({
        "version": 1, "id": "hs_00696f5ac8000001", "at_ms": 1_769_000_000_000_u64, "took_us": 5_130_000, "endpoint": "messages",
        "client": "claude_print", "session": "5f0c7d3e-9a51-4c0e-8d1b-2f7a33f0b6aa", "agent": null, "model": "claude-opus-5-5",
        "stream": true, "chain": "default", "rule": null, "outcome": "served", "status": 200, "served_by": "work", "on_spare": false,
        "request_bytes": 87_461, "response_bytes": 4021, "changed": [], "skipped": [], "cold_prefix_tokens": null,
        "est_cost_micro_usd": null, "attempts": []
    });
    change(&mut record, changes);
    Row { seq: 1, local_time: local_time.to_owned(), record: serde_json::from_value(record).expect("a record") }
}

/// The primary alone, all well.
pub(crate) fn served() -> Row {
    let tokens = json!({ "input": 3, "output": 66, "cache_read": 20_100, "cache_write": 1300 });
    let attempt = attempt(json!({ "ended_us": 1_500_000, "first_content_us": 500_000, "tokens": tokens }));
    row("2026-01-31 14:55:10", json!({ "took_us": 1_500_000, "attempts": [attempt] }))
}

/// The primary overloaded, the spare answers; everything that can be told is.
pub(crate) fn served_by_a_spare() -> Row {
    let tokens = json!({ "input": 21_402, "output": 127, "cache_read": 0, "cache_write": 0 });
    row(
        "2026-01-31 14:56:02",
        json!({
            "id": "hs_00696f5ac8000002", "served_by": "openrouter-backup", "on_spare": true, "rule": "/home/me/.config/hotspare/config.json:14",
            "changed": ["model → anthropic/claude-opus-5.5", "2 betas dropped", "3 foreign thinking blocks removed"],
            "skipped": [{ "profile": "bedrock-eu", "reason": "cooling for another 12 s after a timeout" }],
            "cold_prefix_tokens": 21_400, "est_cost_micro_usd": 93_000,
            "attempts": [
                attempt(json!({ "status": 529, "class": "overloaded", "stage": "head", "detail": "529 overloaded", "decision": "next_profile",
                    "reason": "trigger `overloaded`" })),
                attempt(json!({ "profile": "openrouter-backup", "kind": "failover", "started_us": 415_000, "head_us": 1_800_000,
                    "first_content_us": 2_035_000, "ended_us": 5_130_000, "tokens": tokens })),
            ]
        }),
    )
}

/// The stream broke in the client's hands.
pub(crate) fn handed_back() -> Row {
    row(
        "2026-01-31 14:57:00",
        json!({
            "id": "hs_00696f5ac8000003", "outcome": "handed_back", "took_us": 1_500_000,
            "attempts": [attempt(json!({ "ended_us": 1_500_000, "first_content_us": 800_000, "class": "stream_died", "stage": "committed",
                "detail": "connection broke before the answer was complete", "decision": "hand_back", "maybe_billed": true }))]
        }),
    )
}

/// Nobody could.
pub(crate) fn exhausted() -> Row {
    row(
        "2026-02-01 00:00:30",
        json!({
            "id": "hs_00696f5ac8000004", "outcome": "exhausted", "status": 503, "served_by": null, "took_us": 120_510_000, "response_bytes": 212,
            "attempts": [
                attempt(json!({ "status": 529, "class": "overloaded", "stage": "head", "detail": "529 overloaded", "decision": "next_profile" })),
                attempt(json!({ "profile": "spare", "kind": "failover", "status": null, "started_us": 415_000, "head_us": null,
                    "ended_us": 120_500_000, "class": "head_timeout", "stage": "send", "detail": "no answer in 120 s", "decision": "give_up",
                    "maybe_billed": true })),
            ]
        }),
    )
}

/// Hooks had their say.
pub(crate) fn ruled() -> Row {
    let ruling = |changes: Value| {
        let mut ruling = json!({ "event": "PreFailover", "from": "work", "to": "openrouter-backup", "hook": "may-switch", "word": "allow",
            "profile": null, "reason": null, "asked_us": 411_000, "took_us": 24_000 });
        change(&mut ruling, changes);
        ruling
    };
    row(
        "2026-01-31 23:10:00",
        json!({
            "id": "hs_00696f5ac8000006", "served_by": "local", "on_spare": true,
            "skipped": [{ "profile": "openrouter-backup", "reason": "not asked, a hook ruled it out" }],
            "rulings": [
                ruling(json!({ "word": "block", "reason": "not at night: it costs money" })),
                ruling(json!({ "to": "bedrock-eu", "word": "use", "profile": "local", "reason": "free" })),
                ruling(json!({ "to": "bedrock-eu", "hook": "http://127.0.0.1:9000", "word": "nothing", "reason": "was not over after 5.0 s",
                    "took_us": 5_000_000 })),
                ruling(json!({ "to": "bedrock-eu" })),
            ],
            "attempts": [
                attempt(json!({ "status": 529, "class": "overloaded", "stage": "head", "detail": "529 overloaded", "decision": "next_profile" })),
                attempt(json!({ "profile": "local", "kind": "failover", "started_us": 435_000, "head_us": 1_800_000,
                    "first_content_us": 2_035_000, "ended_us": 5_130_000 })),
            ]
        }),
    )
}

/// Nobody was even asked, and every text tries to move the cursor.
pub(crate) fn hostile() -> Row {
    let evil = "\u{1b}[2J\u{7}evil\r\nname";
    row(
        "2026-02-01 00:01:00",
        json!({
            "id": "hs_00696f5ac8000005", "outcome": "relayed", "status": 400, "served_by": evil, "model": evil, "chain": evil, "rule": evil,
            "rulings": [{ "event": "PreFailover", "from": evil, "to": evil, "hook": evil, "word": "use", "profile": evil, "reason": evil,
                "asked_us": 1, "took_us": 2 }],
            "session": evil, "changed": [evil], "skipped": [{ "profile": evil, "reason": evil }],
            "attempts": [attempt(json!({ "profile": evil, "status": 400, "class": "bad_request", "detail": evil, "reason": evil, "decision": "relay" }))]
        }),
    )
}
