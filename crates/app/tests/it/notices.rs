//! Holds how a move is told: on standard error, by the desktop, to Claude Code's hooks; once, and with nothing of others run.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::user::{Ended, User, asks, ended, wait_for};

/// Writes down its arguments, one a line, and what it got of the environment.
const FAKE_NOTIFIER: &str = r#"#!/bin/sh
printf '%s\n' "$@" > "$HOME/notifier-argv.tmp"
env > "$HOME/notifier-env"
mv "$HOME/notifier-argv.tmp" "$HOME/notifier-argv"
"#;

struct House {
    user: User,
    _providers: [Upstream; 2],
}

impl House {
    /// A primary that is overloaded at every request, and a spare that is well.
    async fn new(more: &Value) -> Self {
        let primary = Upstream::start(|_| Script::error(529, "overloaded_error", "<b>--help</b> $(touch x)")).await.expect("started");
        let spare = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
        let mut config = json!({
            "failover_policy": { "primary_profile": "work", "secondary_profile": "backup" },
            "profiles": { "work": { "base_url": primary.url() }, "backup": { "base_url": spare.url(), "auth": { "env": "BACKUP_KEY" } } },
            "server": { "listen": "127.0.0.1:0" },
        });
        config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let user = User::new().config(&config.to_string()).env("BACKUP_KEY", "sk-ant-test-backup").file("bin/notify-send", FAKE_NOTIFIER);
        std::fs::set_permissions(user.path("bin/notify-send"), std::fs::Permissions::from_mode(0o755)).expect("executable");
        Self { user, _providers: [primary, spare] }
    }

    async fn serving(&self) -> (Child, SocketAddr) {
        let (child, address, _) = self.user.serves().await;
        (child, address)
    }

    async fn turn(&self, proxy: SocketAddr, session: &str) {
        let token = self.user.local_token();
        let headers = format!("x-hotspare-token: {token}\r\nauthorization: Bearer sk-ant-test\r\nx-claude-code-session-id: {session}");
        let answer = asks(proxy, &headers, r#"{"model":"claude-opus-5-5","stream":true}"#).await;
        assert!(answer.contains("x-hotspare-profile: backup"), "{answer}");
    }

    /// What the hook tells this session.
    async fn hook(&self, session: &str) -> Ended {
        let mut child = self.user.command(&["notices", "--hook"]).stdin(Stdio::piped()).spawn().expect("started");
        let input = json!({ "session_id": session, "hook_event_name": "Stop" }).to_string();
        child.stdin.take().expect("piped").write_all(input.as_bytes()).await.expect("read");
        ended(child).await
    }
}

#[tokio::test]
async fn t19_a_move_is_told_once_on_standard_error_by_the_desktop_and_to_each_session() {
    let house = House::new(&json!({})).await;
    let user = User::env(house.user, "DISPLAY", ":0");
    let house = House { user, ..house };
    let (mut serve, proxy) = house.serving().await;
    house.turn(proxy, "one").await;
    let told = "backup took over from work: 529 overloaded; its own account pays; work is tried again in";
    let said = wait_for(serve.stderr.as_mut().expect("piped"), told).await;
    assert!(said.contains("hotspare: backup took over"), "{said}");
    house.user.wait_for("home/notifier-argv").await;
    let argv = std::fs::read_to_string(house.user.path("home/notifier-argv")).expect("written");
    assert!(argv.starts_with("--app-name\nhotspare\n--\nhotspare\nbackup took over from work: 529 overloaded"), "{argv}");
    let environment = std::fs::read_to_string(house.user.path("home/notifier-env")).expect("written");
    assert!(environment.contains("DISPLAY=:0") && !environment.contains("BACKUP_KEY"), "{environment}");
    for session in ["one", "two"] {
        let heard: Value = serde_json::from_str(&house.hook(session).await.stdout).expect("JSON");
        let message = heard["systemMessage"].as_str().expect("a message");
        assert!(message.starts_with("hotspare: backup took over from work: 529 overloaded"), "{message}");
        assert!(heard["terminalSequence"].is_null(), "the desktop has it: {heard}");
        let again = house.hook(session).await;
        assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (Some(0), "", ""));
    }
    let listed = house.user.runs(&["notices"]).await;
    assert!(listed.stdout.contains(told) && listed.stdout.lines().count() == 1, "{listed:?}");
    let report: Value = serde_json::from_str(&house.user.runs(&["notices", "--json"]).await.stdout).expect("JSON");
    let notice = &report["notices"][0];
    assert_eq!(
        (&notice["from"], &notice["to"], &notice["reason"], &notice["times"]),
        (&json!("work"), &json!("backup"), &json!("overloaded"), &json!(1))
    );
    serve.kill().await.expect("ended");
}

#[tokio::test]
async fn what_is_switched_off_stays_silent_and_the_same_is_told_as_a_count() {
    let house = House::new(&json!({ "notify": { "desktop": false, "terminal": false, "quiet": "50ms" } })).await;
    let user = User::env(house.user, "DISPLAY", ":0");
    let house = House { user, ..house };
    let (mut serve, proxy) = house.serving().await;
    for session in ["a", "b", "c"] {
        house.turn(proxy, session).await;
    }
    // The second and third session find the primary cooling: another reason, told once and then counted.
    let heard: Value = serde_json::from_str(&house.hook("a").await.stdout).expect("JSON");
    assert!(heard["systemMessage"].is_string() && heard["terminalSequence"].is_null(), "{heard}");
    let times = async || {
        let report: Value = serde_json::from_str(&house.user.runs(&["notices", "--json"]).await.stdout).expect("JSON");
        report["notices"].as_array().expect("a list").iter().map(|notice| notice["times"].as_u64().expect("a number")).sum::<u64>()
    };
    let all = async { while times().await < 3 {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("each move is told or counted");
    serve.start_kill().expect("ended");
    let said = ended(serve).await;
    assert!(!said.stderr.contains("took over"), "{}", said.stderr);
    assert!(!house.user.path("home/notifier-argv").exists());
}

#[tokio::test]
async fn without_a_desktop_the_client_is_asked_to_tell_the_terminal() {
    let house = House::new(&json!({})).await;
    let (mut serve, proxy) = house.serving().await;
    house.turn(proxy, "one").await;
    let heard: Value = serde_json::from_str(&house.hook("one").await.stdout).expect("JSON");
    let sequence = heard["terminalSequence"].as_str().expect("a sequence");
    let text = sequence.strip_prefix("\u{1b}]9;hotspare: backup took over").and_then(|rest| rest.strip_suffix('\u{7}')).expect("OSC 9");
    assert!(!text.chars().any(char::is_control), "{sequence:?}");
    serve.kill().await.expect("ended");
}

#[tokio::test]
async fn a_hook_never_fails() {
    let user = User::new();
    for input in ["", "not JSON", "{}", r#"{"session_id":7}"#, r#"{"session_id":"s"}"#] {
        let mut child = user.command(&["notices", "--hook"]).stdin(Stdio::piped()).spawn().expect("started");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).await.expect("read");
        let ended = ended(child).await;
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""), "{input}");
    }
    user.runs(&["notices"]).await.fails(3, &["nothing is running", "hotspare logs"]);
}

/// claude-code #3434 #44398 #76793: a weaker model that answered without a word.
#[tokio::test]
async fn r52_another_model_is_named_in_the_notice_the_status_and_the_status_line() {
    let backup = json!({ "profile": "backup", "model": "claude-sonnet-5-5" });
    let policy = json!({ "chains": [{ "match": {}, "profiles": ["work", backup] }] });
    let house = House::new(&json!({ "failover_policy": policy })).await;
    let (mut serve, proxy) = house.serving().await;
    house.turn(proxy, "one").await;
    let told = "backup took over from work: 529 overloaded; another model answers, claude-sonnet-5-5;";
    wait_for(serve.stderr.as_mut().expect("piped"), told).await;
    let heard: Value = serde_json::from_str(&house.hook("one").await.stdout).expect("JSON");
    assert!(heard["systemMessage"].as_str().is_some_and(|text| text.contains(told)), "{heard}");
    let status: Value = serde_json::from_str(&house.user.runs(&["status", "--json"]).await.stdout).expect("JSON");
    assert_eq!(status["gateways"][0]["status"]["serving_model"], "claude-sonnet-5-5", "{status}");
    let line = house.user.runs(&["statusline"]).await;
    assert!(line.stdout.contains("backup as sonnet-5-5 (work 529)"), "{line:?}");
}

#[tokio::test]
async fn a_run_tells_of_its_moves_where_its_command_draws_nothing() {
    let house = House::new(&json!({})).await;
    let script = r#"
        url="$ANTHROPIC_BASE_URL"
        header="$(printf '%s\n' "$ANTHROPIC_CUSTOM_HEADERS" | grep -i x-hotspare-token)"
        printf '%s' '{"model":"claude-opus-5-5","stream":true}' > body
        python3 - "$url" "$header" <<'PY'
import sys, urllib.request
name, value = sys.argv[2].split(": ", 1)
request = urllib.request.Request(sys.argv[1] + "/v1/messages", open("body", "rb").read(), {name: value, "authorization": "Bearer sk-ant-test"})
print(urllib.request.urlopen(request).headers["x-hotspare-profile"])
PY
    "#;
    let ran = house.user.runs(&["run", "--", "sh", "-c", script]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "backup\n"), "{ran:?}");
    assert_eq!(ran.stderr.matches("backup took over from work: 529 overloaded").count(), 1, "{}", ran.stderr);
}
