//! `hotspare serve` and `status`: found while it runs, gone when it ends, and its token lasts.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::user::{User, asks, signal, signalled, wait_for};

const BODY: &str = r#"{"model":"claude-opus-5-5","max_tokens":9,"messages":[],"stream":true}"#;

async fn stopped(child: Child, with: Signal) -> Option<i32> {
    signalled(child, with).await.code
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_may_hold_as_many_sockets_as_its_connections_need() {
    let user = User::new().pair("https://work.example", "https://spare.example");
    let program = user.command(&["serve"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -S -n 100; exec \"$0\" serve"]).arg(program.as_std().get_program());
    limited.env_clear().envs(program.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = limited.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("started");
    wait_for(child.stderr.as_mut().expect("piped"), "client ").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id().expect("runs"))).expect("read");
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    assert_eq!(soft, Some("896"), "{limits}");
}

#[tokio::test]
async fn it_serves_until_it_is_told_to_stop_and_keeps_its_token() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let user = User::new().pair(&primary.url(), "https://spare.example");
    let mut tokens = Vec::new();
    for signal in [Signal::TERM, Signal::INT] {
        let (child, address, said) = user.serves().await;
        assert!(said.contains("chain  work → backup"), "{said}");
        let file = user.path("home/.local/state/hotspare/token");
        assert_eq!(std::fs::metadata(&file).expect("made").permissions().mode() & 0o777, 0o600);
        let token = std::fs::read_to_string(&file).expect("read");
        assert!(!said.contains(&token), "the token is in a file, not on the screen");
        let answer = asks(address, &format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test"), "{\"stream\":true}").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let status: Value = serde_json::from_str(&user.runs(&["status", "--json"]).await.stdout).expect("JSON");
        let gateway = &status["gateways"][0];
        assert_eq!((&status["version"], &gateway["kind"]), (&Value::from(1), &Value::from("serve")));
        assert_eq!(gateway["status"]["address"], format!("http://{address}"));
        assert_eq!((&gateway["status"]["serving"], &gateway["status"]["exchanges"]), (&Value::from("work"), &Value::from(1)));
        assert!(!status.to_string().contains(&token) && !status.to_string().contains("sk-ant"), "{status}");
        let bare = user.runs(&[]).await;
        assert!(bare.stdout.contains("Protected") && bare.stdout.contains("work"), "without a command the status is shown: {bare:?}");
        assert_eq!(stopped(child, signal).await, Some(0));
        assert_eq!(user.runs(&["status"]).await.code, Some(3));
        tokens.push(token);
    }
    assert_eq!(tokens[0], tokens[1], "clients keep working over a restart");
}

#[tokio::test]
async fn a_second_one_does_not_harm_the_first() {
    let user = User::new();
    let (first, address, _) = user.config(r#"{ "server": { "listen": "127.0.0.1:0" } }"#).serves().await;
    let other = User::new().config(&format!(r#"{{ "server": {{ "listen": "{address}" }} }}"#));
    other.runs(&["serve"]).await.fails(1, &["cannot listen on", "hint:"]);
    assert!(asks(address, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"));
    assert_eq!(stopped(first, Signal::TERM).await, Some(0));
}

#[tokio::test]
async fn what_it_served_is_told_beside_it_and_after_it() {
    let primary = Upstream::start(|_| Script::error(529, "overloaded_error", "busy")).await.expect("started");
    let spare = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let user = User::new().pair(&primary.url(), &spare.url()).env("LANG", "C.UTF-8");
    let (child, address, _) = user.serves().await;
    let token = user.local_token();
    let answer = asks(address, &format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test"), "{\"stream\":true}").await;
    let header = answer.lines().find_map(|line| line.strip_prefix("x-hotspare-request-id: ")).expect("an id").trim().to_owned();
    assert_eq!(stopped(child, Signal::TERM).await, Some(0));
    let why = user.runs(&["why"]).await.stdout;
    assert!(why.starts_with("✔ Served by the spare backup, 2 attempts"), "{why}");
    assert!(why.contains(&header) && why.contains("529 overloaded"), "{why}");
    let log = user.runs(&["logs"]).await.stdout;
    assert!(log.lines().count() == 1 && log.contains("work 529 → backup"), "{log}");
    let usage: Value = serde_json::from_str(&user.runs(&["usage", "--json"]).await.stdout).expect("JSON");
    assert_eq!(usage["totals"].as_array().map(Vec::len), Some(2), "{usage}");
    let modes = |name: &str| std::fs::metadata(user.path(name)).expect("made").permissions().mode() & 0o777;
    assert_eq!(modes("home/.local/state/hotspare/ledger.db"), 0o600);
}

#[tokio::test]
async fn i12_a_ledger_that_cannot_be_written_stops_nothing_and_is_told() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    // A folder stands where the file is to be.
    let user = User::new().pair(&primary.url(), "https://spare.example").file("home/.local/state/hotspare/ledger.db/full", "");
    let (child, address, _) = user.serves().await;
    let token = user.local_token();
    let answer = asks(address, &format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test"), "{\"stream\":true}").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let status = user.runs(&["status"]).await.stdout;
    assert!(status.contains("ledger ") && status.contains("exchanges are kept in memory"), "{status}");
    user.runs(&["why"]).await.fails(1, &["ledger.db"]);
    assert_eq!(stopped(child, Signal::TERM).await, Some(0));
}

/// Found by the bench: whoever reads the log is gone, and the first line about a failure took the client's connection with it.
#[tokio::test]
async fn a_log_that_nobody_reads_any_more_harms_no_request() {
    let primary = Upstream::start(|_| Script::error(529, "overloaded_error", "busy")).await.expect("started");
    let spare = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let user = User::new().pair(&primary.url(), &spare.url());
    let (mut child, address, _) = user.serves().await;
    drop(child.stderr.take());
    let token = user.local_token();
    let answer = asks(address, &format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test"), "{\"stream\":true}").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-hotspare-profile: backup"), "{answer}");
}

/// A helper may ask the user: it is run for a request, and not to look whether it is there.
#[tokio::test]
async fn no_program_is_run_for_a_credential_before_it_is_needed() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let user = User::new();
    let (folder, ran) = (user.path("home/.claude-other"), user.path("home/ran"));
    let settings = json!({ "apiKeyHelper": format!("touch '{}'; echo sk-ant-test-helper", ran.display()) });
    let config = json!({
        "failover_policy": { "primary_profile": "other" },
        "profiles": { "other": { "base_url": primary.url(), "auth": { "claude_config_dir": folder } } },
        "server": { "listen": "127.0.0.1:0" },
    });
    let user = user.file("home/.claude-other/settings.json", &settings.to_string()).config(&config.to_string());
    let (child, address, _) = user.serves().await;
    user.runs(&["doctor"]).await;
    assert!(!ran.exists(), "the helper was run before anybody asked");
    let answer = asks(address, &format!("x-hotspare-token: {}", user.local_token()), "{\"stream\":true}").await;
    assert!(answer.contains("message_stop") && ran.exists(), "{answer}");
    stopped(child, Signal::TERM).await;
}

/// Asks for the status until its word on the configuration's fault is this.
async fn until_fault(user: &User, is_so: impl Fn(Option<&str>) -> bool) -> String {
    let told = async {
        loop {
            let status: Value = serde_json::from_str(&user.runs(&["status", "--json"]).await.stdout).expect("JSON");
            let gateway = &status["gateways"][0]["status"];
            if is_so(gateway["config"]["error"].as_str()) {
                return gateway["serving"].to_string();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("it is told")
}

/// A login of another folder lives for hours, and nobody but Claude Code renews it: one that ran out over night must not keep the others
/// from being protected, nor a changed configuration from being used.
#[tokio::test]
async fn a_spare_s_login_that_has_run_out_is_told_and_keeps_nothing_from_starting() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let spent = json!({ "claudeAiOauth": { "accessToken": "sk-ant-oat01-test-old", "expiresAt": 1000 } });
    let config = |primary_name: &str| {
        let profiles = json!({
            (primary_name): { "base_url": primary.url(), "auth": { "env": "WORK_KEY" } },
            "other": { "auth": { "claude_config_dir": "~/.claude-other" } },
        });
        let policy = json!({ "primary_profile": primary_name, "secondary_profile": "other" });
        json!({ "failover_policy": policy, "profiles": profiles, "server": { "listen": "127.0.0.1:0" } }).to_string()
    };
    let user = User::new()
        .env("WORK_KEY", "sk-ant-test-work")
        .config(&config("work"))
        .file("home/.claude-other/.credentials.json", &spent.to_string());
    std::fs::set_permissions(user.path("home/.claude-other/.credentials.json"), std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let (child, address, said) = user.serves().await;
    assert!(said.contains("profile `other` is skipped: the login in") && said.contains("to renew it"), "{said}");
    let answer = asks(address, &format!("x-hotspare-token: {}", user.local_token()), "{\"stream\":true}").await;
    assert!(answer.contains("message_stop"), "{answer}");
    let ran = user.runs(&["run", "--", "claude"]).await;
    assert!(ran.code == Some(0) && user.client_was_started(), "{ran:?}");
    let user = user.config(&config("renamed"));
    until_first(&user, "renamed").await;
    assert_eq!(stopped(child, Signal::TERM).await, Some(0));
    // With nobody else to ask it is a reason not to begin.
    let alone = json!({ "failover_policy": { "primary_profile": "other" }, "profiles": { "other": { "auth": { "claude_config_dir": "~/.claude-other" } } } });
    user.config(&alone.to_string()).runs(&["serve"]).await.fails(4, &["profile `other` has no credential: the login in", "to renew it"]);
}

/// Waits until this profile is the first of the chain.
async fn until_first(user: &User, name: &str) {
    let is_first = async {
        loop {
            let status: Value = serde_json::from_str(&user.runs(&["status", "--json"]).await.stdout).expect("JSON");
            if status["gateways"][0]["status"]["profiles"][0]["name"] == name {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_first).await.expect("it is read");
}

/// What nobody saves cannot be seen: a key that has come, a mounted folder. Who knows of it says so.
#[tokio::test]
async fn a_hangup_has_everything_read_anew() {
    let user = User::new().pair("https://work.example", "https://spare.example");
    let (child, _, _) = user.serves().await;
    let key = user.path("home/keys/late");
    let config = json!({
        "failover_policy": { "primary_profile": "late" },
        "profiles": { "late": { "base_url": "https://late.example", "auth": { "file": key } } },
        "server": { "listen": "127.0.0.1:0" },
    });
    let user = user.config(&config.to_string());
    assert_eq!(until_fault(&user, |fault| fault.is_some()).await, "\"work\"", "the last good one serves");
    let user = user.file("home/keys/late", "sk-ant-test-late");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    signal(&child, Signal::HUP);
    assert_eq!(until_fault(&user, |fault| fault.is_none()).await, "\"late\"");
    assert_eq!(stopped(child, Signal::TERM).await, Some(0));
}

/// A read-only home as a container has it. The state folder's parent is a file here: unlike permission bits that stops root too.
#[tokio::test]
async fn field_18_read_only_home_does_not_stop_serve() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("served")).end()).await.expect("started");
    let spare = Upstream::start(|_| Script::new().sse().events(&text("spare")).end()).await.expect("started");
    let user = User::new().pair(&primary.url(), &spare.url()).file("home/.local/state", "");
    let (child, address, said) = user.serves().await;
    assert!(said.contains("cannot be written: what is learned and the ledger stay in memory"), "{said}");
    let folder = said.split("the token is in `").nth(1).and_then(|rest| rest.split('`').next()).unwrap_or_else(|| panic!("{said}"));
    let token = std::fs::read_to_string(std::path::Path::new(folder).join("token")).expect("made");
    let answer = asks(address, &format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test-client"), BODY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = user.runs(&["status", "--json"]).await;
    assert!(seen.stdout.contains(&address.to_string()), "{seen:?}");
    let status: serde_json::Value = serde_json::from_str(&seen.stdout).expect("JSON");
    assert!(status.to_string().contains("Not a directory"), "{status:#}");
    signalled(child, Signal::TERM).await;
}

/// Like `serve`: no entry in the state folder, and the command runs.
#[tokio::test]
async fn field_18_read_only_home_does_not_stop_run() {
    let user = User::new().file("home/.local/state", "");
    let ended = user.runs(&["run", "--", "sh", "-c", &format!("{} status", env!("CARGO_BIN_EXE_hotspare"))]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("run"), "{ended:?}");
}

/// Containers and system units start programs without `HOME`; the password database has the folder.
#[tokio::test]
async fn field_18_missing_home_is_in_the_password_database() {
    let user = User::new().without("HOME");
    let ended = user.runs(&["config", "path"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with('/'), "{ended:?}");
}
