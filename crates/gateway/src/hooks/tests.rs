//! Holds the queue's bound, and what only events of the gateway lead to.

use std::path::Path;

use hotspare_core::spend::{Period, Reached};
use hotspare_upstream::connect::Connector;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::outside::Outside;
use crate::server::Options;

fn config(hooks: &Value) -> hotspare_config::Config {
    hotspare_config::parse(&json!({ "hooks": hooks }).to_string(), Path::new("c.json"), Path::new("/h")).expect("valid")
}

#[tokio::test]
async fn what_waits_to_be_told_is_bounded_and_the_oldest_gives_way() {
    let hooks = Hooks::new(Arc::new(Connector::new(None)));
    let config = config(&json!({ "AttemptFailure": [{ "hooks": [{ "type": "command", "command": ["true"] }] }] }));
    // Nothing is told before this task waits for something.
    for number in 0..WAITING as u64 + 44 {
        let mut input = HookInput::new(HookEvent::AttemptFailure);
        input.attempt = Some(number);
        hooks.tell(&config.hooks, &input);
    }
    hooks.tell(&config.hooks, &HookInput::new(HookEvent::Exhausted));
    let queue = hooks.queue.lock().expect("not poisoned");
    assert_eq!((queue.waiting.len(), queue.given_way), (WAITING, 44));
    let first: Value = serde_json::from_slice(&queue.waiting[0].input).expect("JSON");
    assert_eq!(first["attempt"], 44);
}

#[tokio::test]
async fn whoever_comes_after_all_was_told_is_told_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("told");
    let script = format!("cat >> '{}'", file.display());
    let hooks = Hooks::new(Arc::new(Connector::new(None)));
    let config = config(&json!({ "ProfileUp": [{ "hooks": [{ "type": "command", "command": ["sh", "-c", script] }] }] }));
    for told in 1..=3 {
        hooks.tell(&config.hooks, &HookInput::new(HookEvent::ProfileUp));
        hooks.finish().await;
        assert_eq!(std::fs::read_to_string(&file).expect("told").lines().count(), told);
    }
}

#[tokio::test]
async fn a_budget_that_is_used_up_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("told");
    let script = format!("cat >> '{}'", file.display());
    let config = config(&json!({ "BudgetReached": [{ "hooks": [{ "type": "command", "command": ["sh", "-c", script] }] }] }));
    let local = "127.0.0.1:4117".parse().expect("an address");
    let options =
        Options { token: SecretString::from("hs-test"), extra_roots: None, observer: None, outside: Outside::default(), store: None };
    let gateway = Gateway::at(&config, local, options).expect("a gateway");
    let reached = Reached { period: Period::Day, limit: 10_000_000, spent: 10_021_000 };
    gateway.tell(&Event::BudgetReached { id: 0xa1, session: Some("s-one".into()), profile: "spare".into(), reached });
    gateway.finish_hooks().await;
    let told: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("told")).expect("JSON");
    assert_eq!(
        (&told["hook_event_name"], &told["from"], &told["request_id"]),
        (&json!("BudgetReached"), &json!("spare"), &json!("hs_00000000000000a1"))
    );
    assert_eq!(told["session_id"], "s-one");
    assert_eq!(told["detail"], "$10.02 of $10.00 a day is spent");
}
