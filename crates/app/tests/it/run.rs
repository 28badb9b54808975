//! `hotspare run`: the child's own code, signals and terminal; nothing left behind, nothing of the user's touched.

use std::os::unix::fs::PermissionsExt;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::user::{User, asks, ended, wait_for};

const BODY: &str = r#"{"model":"claude-opus-5-5","max_tokens":9,"messages":[],"stream":true}"#;

fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
    kill_process(pid, signal).expect("sent");
}

/// Where the client was pointed, and with which headers.
fn injected(user: &User) -> (std::net::SocketAddr, String) {
    let env = &user.settings()["env"];
    let url = env["ANTHROPIC_BASE_URL"].as_str().expect("a base URL");
    let headers = env["ANTHROPIC_CUSTOM_HEADERS"].as_str().expect("headers").replace('\n', "\r\n");
    (url.strip_prefix("http://").and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{url}")), headers)
}

#[tokio::test]
async fn the_child_s_code_is_ours() {
    for code in ["0", "1", "3", "42", "127", "255"] {
        let user = User::new().env("CODE", code);
        assert_eq!(user.runs(&["run", "--", "claude"]).await.code, code.parse().ok());
        let bare = user.runs(&["run", "--no-project", "claude", "-p", "--config", "x"]).await;
        assert_eq!(bare.code, code.parse().ok(), "what follows the command is its own: {bare:?}");
    }
    let user = User::new();
    let killed = user.runs(&["run", "--", "sh", "-c", "kill -KILL $$"]).await;
    assert_eq!(killed.code, Some(128 + 9), "as shells have it");
}

#[tokio::test]
async fn output_and_input_are_the_child_s_own() {
    let user = User::new();
    let mut child = user.starts(&["run", "--", "sh", "-c", "read -r line; echo \"out $line\"; echo \"err $line\" >&2"]);
    child.stdin.take().expect("piped").write_all(b"hello\n").await.expect("sent");
    let ended = ended(child).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "out hello\n"));
    assert!(ended.stderr.ends_with("err hello\n"), "{}", ended.stderr);
}

#[tokio::test]
async fn without_a_configuration_it_runs_and_says_in_one_line_that_there_is_no_spare() {
    let user = User::new();
    let ended = user.runs(&["run", "--", "claude"]).await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("no spare is configured") && ended.stderr.contains("hotspare init"), "{}", ended.stderr);
    let pair = r#"{
        "failover_policy": { "primary_profile": "work", "secondary_profile": "backup" },
        "profiles": { "work": {}, "backup": { "auth": { "env": "BACKUP_KEY" } } }
    }"#;
    let user = User::new().config(pair).env("BACKUP_KEY", "sk-ant-test-backup");
    assert_eq!(user.runs(&["run", "--", "claude"]).await.stderr, "", "with a spare there is nothing to say");
}

/// claude-code #65871: sessions in the background went past the proxy, and here one that outlives a run would be pointed at nobody.
#[tokio::test]
async fn r64_a_session_in_the_background_is_none_of_a_run_that_ends_before_it() {
    for arguments in [&["--bg", "hi"][..], &["-m", "opus", "--background", "hi"], &["agents"], &["daemon", "run"]] {
        let user = User::new();
        let refused = user.runs(&[&["run", "--", "claude"], arguments].concat()).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("outlive `hotspare run`") && refused.stderr.contains("`hotspare install`"), "{refused:?}");
        assert!(!user.path("report/argv").exists(), "nothing is started");
    }
    for arguments in [&["logs", "1"][..], &["agents", "--json"], &["daemon", "status"], &["respawn", "1"]] {
        let user = User::new();
        let looked = user.runs(&[&["run", "--", "claude"], arguments].concat()).await;
        assert_eq!((looked.code, looked.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert_eq!(user.report("argv"), arguments.join("\n") + "\n", "what only looks is started as it is");
    }
}

#[tokio::test]
async fn signals_reach_the_child_once_and_its_code_comes_back() {
    let user = User::new();
    let script = "for s in TERM HUP INT QUIT; do trap \"echo $s; exit 42\" $s; done; echo ready; while :; do sleep 0.05; done";
    for (sent, word) in [(Signal::TERM, "TERM"), (Signal::HUP, "HUP"), (Signal::INT, "INT"), (Signal::QUIT, "QUIT")] {
        // A session of its own: a program that cancels a CI job, or a container without a terminal.
        let hotspare = env!("CARGO_BIN_EXE_hotspare");
        let mut child = user.shell(&format!("exec setsid {hotspare} run -- sh -c '{}'", script.replace('\'', "'\\''")));
        let mut stdout = child.stdout.take().expect("piped");
        wait_for(&mut stdout, "ready").await;
        signal(&child, sent);
        let said = wait_for(&mut stdout, word).await;
        assert_eq!(said.matches(word).count(), 1);
        assert_eq!(ended(child).await.code, Some(42), "{word}");
    }
    assert!(user.everything().is_empty(), "{:?}", user.everything().keys());
}

/// A terminal sends Ctrl-C to the whole foreground group: the client has it from there, and only once. `script` is the terminal.
#[tokio::test]
async fn ctrl_c_of_a_terminal_reaches_the_child_once() {
    let user =
        User::new().file("work/client.sh", "trap 'echo INT >> got' INT\necho ready > up\nread -r line\nread -r line\necho end >> got\n");
    let hotspare = env!("CARGO_BIN_EXE_hotspare");
    let mut child = user.shell_with_input(&format!("exec script -qec '{hotspare} run -- sh client.sh' /dev/null"));
    user.wait_for("work/up").await;
    let mut keys = child.stdin.take().expect("piped");
    keys.write_all(b"\x03").await.expect("sent");
    user.wait_for("work/got").await;
    // The shell ends its trap before it reads on; a second signal would be handled before these lines.
    keys.write_all(b"go\ngo\n").await.expect("sent");
    ended(child).await;
    let got = std::fs::read_to_string(user.path("work/got")).expect("written");
    assert_eq!(got.matches("INT").count(), 1, "{got}");
}

/// cc-switch #366 #1236 #1691 #2096 #4254, claude-code #87259, headroom #2221: settings damaged, and an outage that stayed behind.
#[tokio::test]
async fn r59_r60_nothing_is_left_behind_and_nothing_of_the_user_s_is_touched() {
    let user = User::new()
        .pair("https://primary.example", "https://spare.example")
        .file("home/.claude/settings.json", r#"{ "model": "opus", "env": { "X": "1" } }"#)
        .file("home/.claude.json", "{}")
        .file("work/.claude/settings.json", "{}");
    let before = user.everything();
    for arguments in [&["run", "--", "claude", "-p", "hi"][..], &["run", "--", "sh", "-c", "exit 3"], &["run", "--", "/no/such"]] {
        user.runs(arguments).await;
        assert_eq!(user.everything(), before, "{arguments:?}");
    }
}

#[tokio::test]
async fn while_it_runs_its_files_are_its_owner_s_alone_and_no_token_stands_in_argv() {
    let user = User::new().env("WAIT", "1");
    let mut child = user.starts(&["run", "--", "claude", "-p", "a prompt"]);
    user.wait_for("report/started").await;
    assert_eq!(user.report("modes"), "600\n700\n");
    let argv = user.report("argv");
    let lines: Vec<&str> = argv.lines().collect();
    assert_eq!((lines[0], &lines[2..]), ("--settings", &["-p", "a prompt"][..]), "{argv}");
    let (_, headers) = injected(&user);
    let token = headers.strip_prefix("x-hotspare-token: ").expect("our header");
    assert!(token.starts_with("hs-") && token.len() == 67, "{token}");
    for report in ["argv", "parent", "env"] {
        assert!(!user.report(report).contains(token), "the token is in {report}");
    }
    for (path, content) in user.everything().iter().filter(|(path, _)| path.components().any(|part| part.as_os_str() == "instances")) {
        let mode = std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        assert!(!content.is_empty());
    }
    child.stdin.take().expect("piped").write_all(b"go\n").await.expect("sent");
    assert_eq!(ended(child).await.code, Some(0));
    let left: Vec<_> = user.everything().into_keys().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_the_primary_cannot_answer_the_spare_answers() {
    let primary = Upstream::sequence(vec![Script::error(529, "overloaded_error", "Overloaded")]).await.expect("started");
    let spare = Upstream::sequence(vec![Script::new().sse().events(&text("from the spare")).end()]).await.expect("started");
    let user = User::new().pair(&primary.url(), &spare.url()).env("WAIT", "1").env("ANTHROPIC_API_KEY", "sk-ant-test-client");
    let mut child = user.starts(&["run", "--", "claude"]);
    user.wait_for("report/started").await;
    let (proxy, headers) = injected(&user);
    let answer = asks(proxy, &format!("{headers}\r\nx-api-key: sk-ant-test-client"), BODY).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-hotspare-profile: backup"), "{answer}");
    assert_eq!(primary.messages()[0].header("x-api-key"), Some("sk-ant-test-client"));
    assert_eq!(spare.messages()[0].header("x-api-key"), Some("sk-ant-test-backup"));
    // A stranger on the same machine does not get in.
    assert!(asks(proxy, "x-api-key: sk-ant-test-client", BODY).await.starts_with("HTTP/1.1 401"));
    let status = user.runs(&["status"]).await;
    assert_eq!(status.code, Some(0), "{status:?}");
    for words in [
        "⇄ On the spare   run → ",
        " → backup   for ",
        "why    work: 529 overloaded, ",
        "back   work is asked again in ",
        "1 served by a spare",
    ] {
        assert!(status.stdout.contains(words), "{words:?} is not in:\n{}", status.stdout);
    }
    child.stdin.take().expect("piped").write_all(b"go\n").await.expect("sent");
    assert_eq!(ended(child).await.code, Some(0));
    assert_eq!(user.runs(&["status"]).await.code, Some(3));
}

/// A company's gateway that the user already has stays in the path.
#[tokio::test]
async fn an_existing_base_url_is_where_the_implicit_primary_is() {
    let company = Upstream::start(|_| Script::new().sse().events(&text("from the gateway")).end()).await.expect("started");
    let url = format!("{}/team/anthropic", company.url());
    let in_settings = format!(r#"{{ "env": {{ "ANTHROPIC_BASE_URL": "{url}", "ANTHROPIC_CUSTOM_HEADERS": "x-team: 7" }} }}"#);
    let users = [
        User::new().env("ANTHROPIC_BASE_URL", &url).env("ANTHROPIC_CUSTOM_HEADERS", "x-team: 7"),
        User::new().file("home/.claude/settings.json", &in_settings).env("ANTHROPIC_BASE_URL", "https://other.example"),
    ];
    for (count, user) in users.into_iter().enumerate() {
        let user = user.env("WAIT", "1");
        let mut child = user.starts(&["run", "--", "claude"]);
        user.wait_for("report/started").await;
        let (proxy, headers) = injected(&user);
        let answer = asks(proxy, &format!("{headers}\r\nauthorization: Bearer sk-ant-test-company"), BODY).await;
        assert!(answer.contains("from the gateway") || answer.starts_with("HTTP/1.1 200"), "{answer}");
        let got = &company.requests()[count];
        assert_eq!(got.target, "/team/anthropic/v1/messages");
        assert_eq!((got.header("x-team"), got.header("authorization")), (Some("7"), Some("Bearer sk-ant-test-company")));
        assert_eq!(got.header("x-hotspare-token"), None);
        child.stdin.take().expect("piped").write_all(b"go\n").await.expect("sent");
        assert_eq!(ended(child).await.code, Some(0));
    }
}

#[tokio::test]
async fn another_cloud_is_told_apart() {
    let user = User::new().env("CLAUDE_CODE_USE_BEDROCK", "1");
    let ended = user.runs(&["run", "--", "claude"]).await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("`CLAUDE_CODE_USE_BEDROCK` is set") && ended.stderr.contains("past hotspare"), "{}", ended.stderr);
}
