//! `why`, `logs` and `usage` read the ledger with nothing running, and beside whoever writes it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use hotspare_core::ExchangeRecord;
use hotspare_store::{Options, Store};
use serde_json::{Value, json};

fn hotspare(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
    command.args(arguments).env_clear().env("HOME", home).env("TZ", "UTC").env("LANG", "C.UTF-8");
    command
}

fn output(home: &Path, arguments: &[&str]) -> Output {
    hotspare(home, arguments).output().expect("it starts")
}

fn stdout(home: &Path, arguments: &[&str]) -> String {
    let output = output(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn store(home: &Path) -> Store {
    Store::open(&home.join(".local/state/hotspare"), Options::default())
}

fn keep(store: &Store, id: &str, failed: bool) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let attempt = |profile: &str, class: Value| {
        json!({
            "profile": profile, "model": null, "kind": if profile == "work" { "initial" } else { "failover" }, "started_us": 0,
            "connect_us": null, "head_us": 1000, "first_content_us": null, "ended_us": 2000, "status": 200, "class": class, "stage": null,
            "detail": null, "decision": "commit", "reason": null,
            "tokens": { "input": 10, "output": 20, "cache_read": null, "cache_write": null },
            "bytes_up": 1, "bytes_down": 1, "wasted": false, "maybe_billed": false
        })
    };
    let attempts =
        if failed { vec![attempt("work", json!("overloaded")), attempt("spare", Value::Null)] } else { vec![attempt("work", Value::Null)] };
    let record: ExchangeRecord = serde_json::from_value(json!({
        "version": 1, "id": id, "at_ms": u64::try_from(now).expect("fits"), "took_us": 2000, "endpoint": "messages", "client": "program",
        "session": null, "agent": null, "model": "claude-opus-5-5", "stream": true, "chain": "default", "rule": null, "outcome": "served",
        "status": 200, "served_by": if failed { "spare" } else { "work" }, "on_spare": failed, "request_bytes": 1, "response_bytes": 1,
        "changed": [], "skipped": [], "cold_prefix_tokens": null, "est_cost_micro_usd": null, "attempts": attempts
    }))
    .expect("a record");
    store.record(record);
    assert!(store.flush(Duration::from_secs(20)));
}

#[test]
fn without_a_ledger_each_says_so_and_what_to_do() {
    let home = tempfile::tempdir().expect("a folder");
    for command in ["why", "logs", "usage"] {
        let output = output(home.path(), &[command]);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("no exchange is recorded yet\n  hint: "));
    }
    let usage: Value = serde_json::from_str(&stdout(home.path(), &["usage", "--json"])).expect("JSON");
    assert_eq!(usage["totals"], json!([]), "a script gets a list");
    assert_eq!(stdout(home.path(), &["logs", "--json"]), "");
    assert_eq!(output(home.path(), &["why", "--json"]).status.code(), Some(1), "there is no exchange to print");
}

#[test]
fn the_ledger_is_read_beside_its_writer_and_without_one() {
    let home = tempfile::tempdir().expect("a folder");
    let store = store(home.path());
    keep(&store, "hs_00000000000000a1", false);
    keep(&store, "hs_00000000000000a2", true);
    for _ in ["beside its writer", "without one"] {
        assert!(stdout(home.path(), &["why"]).starts_with("✔ Served by the spare spare, 2 attempts"));
        assert!(stdout(home.path(), &["why", "00a1"]).starts_with("✔ Served by work"));
        let json = stdout(home.path(), &["why", "--json", "00a2"]);
        assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON")["id"], "hs_00000000000000a2");
        assert_eq!(stdout(home.path(), &["logs", "--json"]).lines().count(), 2);
        assert_eq!(stdout(home.path(), &["logs", "--failovers", "--since", "1h"]).lines().count(), 1);
        let usage: Value = serde_json::from_str(&stdout(home.path(), &["usage", "--json"])).expect("JSON");
        assert_eq!((&usage["version"], usage["totals"].as_array().map(Vec::len)), (&json!(1), Some(2)));
        let by_model = stdout(home.path(), &["usage", "--by", "model"]);
        assert!(by_model.starts_with("  MODEL"), "{by_model}");
        assert!(stdout(home.path(), &["usage", "--by", "session"]).contains("(no session)"));
        assert!(stdout(home.path(), &["usage", "--by", "project"]).contains("(not known)"));
    }
    drop(store);
    assert!(stdout(home.path(), &["why"]).starts_with("✔ Served by the spare spare"));
}

#[test]
fn an_id_that_stands_for_none_or_several_is_explained() {
    let home = tempfile::tempdir().expect("a folder");
    let store = store(home.path());
    keep(&store, "hs_00000000000000a1", false);
    keep(&store, "hs_00000000000000a2", false);
    for (id, words) in [("hs_0000", "stands for several exchanges"), ("ffff", "no exchange has the id"), ("x", "is not an id")] {
        let output = output(home.path(), &["why", id]);
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(words) && told.contains("hint: "), "{told}");
    }
}

#[test]
fn follow_shows_each_exchange_as_it_ends() {
    let home = tempfile::tempdir().expect("a folder");
    let mut child = hotspare(home.path(), &["logs", "-f", "--json"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let store = store(home.path());
    for id in ["hs_00000000000000a1", "hs_00000000000000a2"] {
        keep(&store, id, false);
        let line = lines.next().expect("a line").expect("text");
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON")["id"], id);
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_damaged_ledger_is_named() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path().join(".local/state/hotspare");
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join(hotspare_store::FILE), "garbage ".repeat(1000)).expect("written");
    let output = output(home.path(), &["logs"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ledger.db` is damaged"));
}
