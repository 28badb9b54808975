//! Folders behind the installed service: the hooks name each session's folder, its chain holds over a restart, and `status`, `doctor`,
//! `config validate` and `why` say what holds and what does not.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::user::{Ended, User, asks, ended};

/// Stops the service when the test ends, however it ends.
struct Serving(PathBuf);

impl Drop for Serving {
    fn drop(&mut self) {
        let mut stop = std::process::Command::new(env!("CARGO_BIN_EXE_hotspare"));
        let _ = stop.args(["service", "stop"]).env_clear().env("HOME", &self.0).output();
    }
}

/// A user with a chain for `~/bank`, and one for all else.
struct World {
    user: User,
    address: SocketAddr,
    /// The providers of `work` and of `bank`.
    _providers: [Upstream; 2],
    _serving: Serving,
}

impl World {
    async fn new() -> Self {
        let provider = || Upstream::start(|_| Script::new().sse().events(&text("fine")).end());
        let providers = [provider().await.expect("started"), provider().await.expect("started")];
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let profile =
            |place: usize, name: &str| json!({ "base_url": providers[place].url(), "auth": { "value": format!("sk-ant-test-{name}") } });
        let config = json!({
            "failover_policy": {
                "primary_profile": "work", "chains": [{ "match": { "project": "~/bank/**" }, "profiles": ["bank"] }],
            },
            "profiles": { "work": profile(0, "work"), "bank": profile(1, "bank") },
            "server": { "listen": address.to_string() },
        });
        let user = User::new().config(&config.to_string()).file("home/bank/deep/README", "").file("home/toys/README", "");
        let serving = Serving(user.path("home"));
        Self { user, address, _providers: providers, _serving: serving }
    }

    /// A hook as the client runs it.
    async fn hook(&self, name: &str, session: &str, folder: &str) -> Ended {
        let mut child = self.user.command(&["hook", name]).stdin(Stdio::piped()).spawn().expect("started");
        let input = json!({ "session_id": session, "cwd": self.user.path(folder), "hook_event_name": "SessionStart", "source": "startup" });
        child.stdin.take().expect("piped").write_all(input.to_string().as_bytes()).await.expect("read");
        ended(child).await
    }

    /// The name of the profile that answered a turn of this session, or the head of a refusal.
    async fn turn(&self, session: &str) -> String {
        let token = self.user.local_token();
        let headers = format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test\r\nx-claude-code-session-id: {session}");
        let answer = asks(self.address, &headers, "{\"stream\":true}").await;
        let profile = answer.lines().find_map(|line| line.strip_prefix("x-hotspare-profile: "));
        profile.unwrap_or_else(|| answer.lines().next().unwrap_or_default()).trim().to_owned()
    }
}

#[tokio::test]
async fn session_hooks_lead_each_folder_on_its_chain() {
    let world = World::new().await;
    let user = &world.user;
    let before = fs::read_to_string(user.path("home/.claude/settings.json")).ok();
    let validated = user.runs(&["config", "validate"]).await;
    assert!(validated.stdout.contains("1 chain with `match.project`: in force under `hotspare run`\n"), "{validated:?}");
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    let validated = user.runs(&["config", "validate"]).await;
    assert!(validated.stdout.contains("in force under `hotspare run` and behind the service"), "{validated:?}");
    assert_eq!(world.turn("unknown").await, "HTTP/1.1 424 Failed Dependency", "no profile is in both chains");
    let started = world.hook("session-start", "in-bank", "home/bank/deep").await;
    assert_eq!((started.code, started.stdout.as_str(), started.stderr.as_str()), (Some(0), "", ""));
    world.hook("prompt", "in-toys", "home/toys").await;
    world.hook("folder", "moved", "home/bank").await;
    for (session, profile) in [("in-bank", "bank"), ("in-toys", "work"), ("moved", "bank")] {
        assert_eq!(world.turn(session).await, profile, "{session}");
    }
    let status = user.runs(&["status"]).await.stdout;
    assert!(status.contains("~/bank/deep: 1 session, chain chains[0] bank"), "{status}");
    assert!(status.contains("1 request of sessions whose folder is not known") && status.contains("1 refused"), "{status}");
    let why = user.runs(&["why", "last"]).await.stdout;
    assert!(why.contains("folder") && why.contains("~/bank"), "{why}");
    assert_eq!(user.runs(&["service", "restart"]).await.code, Some(0));
    assert_eq!((world.turn("in-bank").await, world.turn("in-toys").await), ("bank".to_owned(), "work".to_owned()));
    assert_eq!(user.runs(&["uninstall"]).await.code, Some(0));
    assert_eq!(fs::read_to_string(user.path("home/.claude/settings.json")).ok(), before);
}

#[tokio::test]
async fn broken_project_file_is_told_by_hook_and_status() {
    let world = World::new().await;
    let user = &world.user;
    fs::create_dir(user.path("home/bank/.hotspare")).expect("made");
    fs::write(user.path("home/bank/.hotspare/config.json"), "{\n  \u{1b}[2J broken").expect("written");
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    let started = world.hook("session-start", "s", "home/bank").await;
    let said: Value = serde_json::from_str(&started.stdout).expect("a message");
    let message = said["systemMessage"].as_str().expect("text");
    assert!(message.contains("bank/.hotspare/config.json:2:") && message.contains("nothing of it holds"), "{message}");
    assert!(!message.contains('\u{1b}') && started.code == Some(0), "{message:?}");
    assert_eq!(world.turn("s").await, "bank");
    let status = user.runs(&["status"]).await.stdout;
    assert!(status.contains("bank/.hotspare/config.json:2:") && !status.contains('\u{1b}'), "{status}");
    let doctor: Value = serde_json::from_str(&user.runs(&["doctor", "--json"]).await.stdout).expect("JSON");
    let check = doctor["checks"].as_array().and_then(|checks| checks.iter().find(|check| check["name"] == "folders")).expect("a check");
    assert!(check["mark"] == "warn" && check["found"].as_str().is_some_and(|found| found.contains("left out")), "{check}");
    user.runs(&["uninstall"]).await;
}

#[tokio::test]
async fn folder_rules_without_hooks_are_said_to_have_no_effect() {
    let world = World::new().await;
    let user = &world.user;
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    let file = user.path("home/.claude/settings.json");
    let mut settings: Value = serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
    settings["disableAllHooks"] = true.into();
    fs::write(&file, settings.to_string()).expect("written");
    for command in [&["status"][..], &["config", "validate"], &["doctor", "--all"]] {
        let said = user.runs(command).await.stdout;
        let words: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("hooks are switched off"), "{command:?}: {said}");
        assert!(words.contains("only profiles that every chain allows"), "{command:?}: {said}");
    }
    user.runs(&["uninstall"]).await;
}

#[tokio::test]
async fn folder_hook_with_odd_input_says_nothing() {
    let world = World::new().await;
    for input in ["", "not JSON", "{}", r#"{"session_id":7}"#, r#"{"session_id":"s"}"#, r#"{"session_id":"s","cwd":"relative"}"#] {
        let mut child = world.user.command(&["hook", "folder"]).stdin(Stdio::piped()).spawn().expect("started");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).await.expect("read");
        let ended = ended(child).await;
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""), "{input}");
    }
}
