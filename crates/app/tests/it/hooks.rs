//! `hotspare hook test`, the hooks of `docs/hooks`, and what the commands around them show: real programs in a home of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};

use crate::lasting::stopped;
use crate::user::User;

/// A program of the user's.
fn program(user: User, path: &str, script: &str) -> User {
    let user = user.file(path, &format!("#!/bin/sh\n{script}\n"));
    executable(&user.path(path));
    user
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
}

/// A chain of three, and these hooks.
fn config(hooks: &Value) -> String {
    json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": ["openrouter-backup", "local"] },
        "profiles": { "work": {}, "openrouter-backup": { "auth": { "env": "A" } }, "local": { "auth": { "env": "B" } } },
        "server": { "listen": "127.0.0.1:0" },
        "hooks": hooks,
    })
    .to_string()
}

fn calls(program: &str) -> Value {
    json!([{ "hooks": [{ "type": "command", "command": [program] }] }])
}

#[tokio::test]
async fn a_hook_is_tried_on_a_sample_and_all_of_it_is_shown() {
    let script = r#"grep -q '"to":"openrouter-backup"' && echo '{"decision":"use","profile":"local","reason":"free"}'"#;
    let user = program(User::new(), "home/bin/may-switch", script).config(&config(&json!({ "PreFailover": calls("~/bin/may-switch") })));
    let told = user.runs(&["hook", "test", "PreFailover", "--error", "rate_limit"]).await;
    assert_eq!((told.code, &*told.stderr), (Some(0), ""), "{told:?}");
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(lines[0], "PreFailover  rate_limit (429) · work → openrouter-backup");
    assert!(lines.contains(&r#"  hook_event_name "PreFailover""#) && lines.contains(&r"  status          429"), "{}", told.stdout);
    assert!(told.stdout.contains("\n⇄ may-switch  use `local` · exit code 0 · "), "{}", told.stdout);
    assert!(told.stdout.contains("\n  why      free\n") && told.stdout.contains("\n  printed  {\"decision\":\"use\""), "{}", told.stdout);
    assert!(told.stdout.ends_with("→ the request would go to `local`\n"), "{}", told.stdout);
    let told = user.runs(&["hook", "test", "prefailover", "--json"]).await;
    let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!((&report["version"], &report["decision"], &report["profile"]), (&json!(1), &json!("use"), &json!("local")));
    assert_eq!(report["input"]["candidates"], json!(["openrouter-backup", "local"]));
    assert_eq!(report["input"]["config"], json!(user.path("home/.config/hotspare/config.json")));
}

#[tokio::test]
async fn every_event_can_be_tried_and_no_input_holds_a_secret() {
    let events = [
        "AttemptFailure",
        "PreRetry",
        "PreFailover",
        "PostFailover",
        "Failback",
        "Exhausted",
        "LimitWarning",
        "BudgetReached",
        "ProfileDown",
        "ProfileUp",
    ];
    let hooks: serde_json::Map<String, Value> = events.iter().map(|event| ((*event).to_owned(), calls("~/bin/cat"))).collect();
    let user = program(User::new(), "home/bin/cat", "cat >> \"$HOME/told\"; env >> \"$HOME/told\"").config(&config(&hooks.into()));
    let user = user.env("A", "sk-ant-test-a").env("B", "sk-ant-test-b");
    for event in events {
        let told = user.runs(&["hook", "test", event]).await;
        assert_eq!(told.code, Some(0), "{told:?}");
    }
    let told = fs::read_to_string(user.path("home/told")).expect("told");
    assert!(events.iter().all(|event| told.contains(&format!(r#""hook_event_name":"{event}""#))), "{told}");
    assert!(!told.contains("sk-ant-test"), "{told}");
}

#[tokio::test]
async fn a_hook_that_has_no_say_is_a_failed_test() {
    let user = program(User::new(), "home/bin/crash", "echo boom >&2; exit 1");
    let hooks = json!({ "PreRetry": calls("~/bin/crash"), "PreFailover": [{ "matcher": "dns", "hooks": [{ "type": "command", "command": ["~/bin/crash"] }] }] });
    let user = user.config(&config(&hooks));
    let told = user.runs(&["hook", "test", "PreRetry"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(
        told.stdout.contains("! crash  nothing that counts · exit code 1 ·")
            && told.stdout.contains("why      ended with exit code 1: boom"),
        "{}",
        told.stdout
    );
    assert!(told.stdout.contains("→ the request would go to `work`"), "{}", told.stdout);
    let told = user.runs(&["hook", "test", "PreFailover"]).await;
    assert!(told.code == Some(0) && told.stdout.contains("○ crash  not called: its matcher names other failures"), "{told:?}");
    user.runs(&["hook", "test", "Exhausted"]).await.fails(1, &["no hook is configured for Exhausted", "hint:"]);
    user.runs(&["hook", "test", "Exhaustion"]).await.fails(2, &["no event has this name", "AttemptFailure"]);
    user.runs(&["hook", "test", "PreRetry", "--error", "5xx"]).await.fails(2, &["no failure is named `5xx`", "overloaded"]);
}

#[tokio::test]
async fn hooks_are_shown_with_their_origin_and_their_arguments_masked() {
    let hooks = json!({ "PostFailover": [{ "hooks": [{ "type": "command", "command": ["curl", "-H", "hunter2"] }] }] });
    let user = User::new().config(&config(&hooks));
    let shown = user.runs(&["config", "show", "--origin"]).await.stdout;
    let line = shown.lines().find(|line| line.starts_with("hooks.PostFailover = ")).expect("shown");
    assert!(line.contains(r#""command":["curl","#) && line.contains("config.json:1:") && line.ends_with("(user)"), "{line}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let explained = user.runs(&["config", "explain", "hooks.PreFailover"]).await.stdout;
    assert!(explained.contains("Before a request goes to another profile."), "{explained}");
}

/// A user who has put `docs/hooks` in place, with a program that takes messages for a desktop.
fn with_examples() -> User {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hooks");
    let mut user = program(User::new(), "bin/notify-send", r#"printf '%s|' "$@" >> "$HOME/messages""#);
    for name in ["no-paid-spare-at-night.sh", "notify.sh", "log-line.sh"] {
        let path = format!("home/.config/hotspare/hooks/{name}");
        user = user.file(&path, &fs::read_to_string(docs.join(name)).expect("an example"));
        executable(&user.path(&path));
    }
    // As it stands, and its hooks beside profiles of the user's.
    let text = fs::read_to_string(docs.join("config.json")).expect("an example");
    let strict: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut hooks = serde_json::from_str::<Value>(&strict).expect("JSON")["hooks"].clone();
    hooks["PreFailover"][0]["hooks"][0]["env"] = json!(["HOUR"]);
    user.file("examples.json", &text).config(&config(&hooks))
}

#[tokio::test]
async fn the_examples_load_as_they_stand() {
    let user = with_examples();
    let file = user.path("examples.json").display().to_string();
    let told = user.runs(&["config", "validate", "--config", &file]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
}

#[tokio::test]
async fn the_example_for_the_night_keeps_the_paid_spare_away_and_no_other() {
    for (hour, decision) in [("23", "block"), ("22", "block"), ("06", "block"), ("07", "allow"), ("12", "allow")] {
        let user = with_examples().env("HOUR", hour);
        let told = user.runs(&["hook", "test", "PreFailover", "--json"]).await;
        let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
        assert_eq!(report["decision"], decision, "{hour}: {report}");
        let reason = report["hooks"][0]["reason"].as_str().unwrap_or_default();
        assert_eq!(reason.contains("openrouter-backup costs money"), decision == "block", "{reason}");
    }
    let user = with_examples().env("HOUR", "23");
    let told = user.runs(&["hook", "test", "PreFailover", "--json", "--set", r#"failover_policy.secondary_profile=["local"]"#]).await;
    assert_eq!(serde_json::from_str::<Value>(&told.stdout).expect("JSON")["decision"], "allow", "{told:?}");
}

#[tokio::test]
async fn the_examples_that_tell_say_what_happened() {
    let user = with_examples();
    for event in ["PostFailover", "Exhausted", "AttemptFailure", "ProfileDown", "ProfileUp"] {
        assert_eq!(user.runs(&["hook", "test", event]).await.code, Some(0), "{event}");
    }
    let messages = fs::read_to_string(user.path("home/messages")).expect("told");
    assert_eq!(messages, "hotspare|work: overloaded, now on openrouter-backup|hotspare|no profile can answer (work: overloaded)|");
    let log = fs::read_to_string(user.path("home/.local/state/hotspare/hooks.jsonl")).expect("logged");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"]["hook_event_name"].as_str()).collect();
    assert_eq!(events, ["AttemptFailure", "ProfileDown", "ProfileUp"]);
    assert!(lines.iter().all(|line| line["at"].as_str().is_some_and(|at| at.ends_with('Z'))), "{log}");
}

#[tokio::test]
async fn a_veto_is_told_by_why_and_what_is_still_to_be_told_is_told_at_the_end() {
    let primary = Upstream::start(|_| Script::error(529, "overloaded_error", "busy")).await.expect("started");
    let spare = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let user = program(User::new(), "home/bin/veto", "echo 'not the spare' >&2; exit 2");
    let user = program(user, "home/bin/late", "sleep 0.2; cat >> \"$HOME/told\"").pair(&primary.url(), &spare.url());
    let file = user.path("home/.config/hotspare/config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).expect("written")).expect("JSON");
    config["hooks"] = json!({ "PreFailover": calls("~/bin/veto"), "Exhausted": calls("~/bin/late") });
    fs::write(&file, config.to_string()).expect("written");
    let (child, proxy, _) = user.serves().await;
    let token = user.local_token();
    let headers = format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test");
    let answer = crate::user::asks(proxy, &headers, "{\"stream\":true}").await;
    assert!(answer.starts_with("HTTP/1.1 529"), "{answer}");
    stopped(child).await;
    let told = fs::read_to_string(user.path("home/told")).expect("told at the end");
    assert!(told.contains(r#""hook_event_name":"Exhausted""#) && told.lines().count() == 1, "{told}");
    let why = user.runs(&["why"]).await.stdout;
    assert!(why.contains("hook     PreFailover to `backup`: `veto` blocked it: not the spare"), "{why}");
    assert!(why.contains("skipped  backup: not asked, a hook ruled it out"), "{why}");
    assert!(spare.requests().is_empty());
}
