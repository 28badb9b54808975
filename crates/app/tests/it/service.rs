//! `hotspare service` and the hook of a session's start: the port is kept over a restart with a stream in flight, a dead service comes back
//! before the client's first request, and where it cannot, Claude Code goes on without us.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hotspare_testkit::answers::text;
use hotspare_testkit::{Gate, Script, Upstream};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::user::{User, asks, wait_for};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn config(address: SocketAddr, primary: &str) -> String {
    json!({
        "failover_policy": { "primary_profile": "work" }, "profiles": { "work": { "base_url": primary } },
        "server": { "listen": address.to_string() },
    })
    .to_string()
}

/// Stops the service when the test ends, however it ends.
struct Serving(PathBuf);

impl Drop for Serving {
    fn drop(&mut self) {
        let mut stop = std::process::Command::new(env!("CARGO_BIN_EXE_hotspare"));
        let _ = stop.args(["service", "stop"]).env_clear().env("HOME", &self.0).output();
    }
}

async fn status(user: &User) -> (Option<i32>, Value) {
    let ended = user.runs(&["service", "status", "--json"]).await;
    (ended.code, serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}")))
}

fn token(user: &User) -> String {
    user.local_token()
}

async fn killed(user: &User) {
    let (_, status) = status(user).await;
    let pid = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::KILL).expect("killed");
    let gone = async {
        while TcpStream::connect(status["address"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address")).await.is_ok()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is gone");
}

#[tokio::test]
async fn it_starts_once_stops_and_says_what_runs() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let address = free_address();
    let user = User::new().config(&config(address, &primary.url()));
    let _serving = Serving(user.path("home"));
    assert_eq!(status(&user).await.0, Some(3));
    let started = user.runs(&["service", "start"]).await;
    assert!(started.code == Some(0) && started.stdout.contains("in the background"), "{started:?}");
    assert!(started.stderr.contains("neither systemd nor launchd"), "{started:?}");
    let (code, running) = status(&user).await;
    assert_eq!(
        (code, &running["running"], &running["manager"], &running["installed"]),
        (Some(0), &json!(true), &json!("background"), &json!(false))
    );
    assert!(user.runs(&["service", "start"]).await.stdout.contains("runs already"));
    let answer = asks(address, &format!("x-hotspare-token: {}\r\nx-api-key: sk-ant-test", token(&user)), "{\"stream\":true}").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(fs::metadata(user.path("home/.local/state/hotspare/service.log")).expect("a log").permissions().mode() & 0o777, 0o600);
    assert!(user.runs(&["service", "stop"]).await.stdout.contains("stopped"));
    user.runs(&["service", "stop"]).await.fails(3, &["no service of yours runs"]);
}

#[tokio::test]
async fn a_restart_refuses_nobody_and_cuts_no_stream() {
    let gate = Gate::new();
    let held = gate.clone();
    let events = text("a long answer");
    let half = events.len() / 2;
    let primary = Upstream::start(move |_| Script::new().sse().events(&events[..half]).gate(&held).events(&events[half..]).end())
        .await
        .expect("started");
    let address = free_address();
    let user = User::new().config(&config(address, &primary.url()));
    let _serving = Serving(user.path("home"));
    assert_eq!(user.runs(&["service", "start"]).await.code, Some(0));
    let before = status(&user).await.1["pid"].clone();
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: {address}\r\nx-hotspare-token: {}\r\nx-api-key: sk-ant-test\r\nContent-Length: 15\r\n\r\n{{\"stream\":true}}",
        token(&user)
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let begun = wait_for(&mut stream, "content_block_delta").await;
    // Others go on asking all the while; not one of them is refused.
    let asking = tokio::spawn(async move {
        let (mut asked, until) = (0, Instant::now() + Duration::from_millis(800));
        while Instant::now() < until {
            let answer = asks(address, "x-hotspare-token: wrong", "{}").await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
            asked += 1;
        }
        asked
    });
    let restarted = user.runs(&["service", "restart"]).await;
    assert!(restarted.code == Some(0) && restarted.stderr.contains("ends with its last answer"), "{restarted:?}");
    assert_ne!(status(&user).await.1["pid"], before, "another process serves");
    let asked = asking.await.expect("nobody was refused");
    gate.open();
    let mut rest = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut rest)).await.expect("in time").expect("whole");
    assert!((begun + &rest).contains("message_stop") && rest.ends_with("0\r\n\r\n"), "the stream ended whole: {rest}");
    println!("{asked} requests while the port was handed over, none refused");
    assert!(asked > 10);
}

/// headroom #2221: a proxy that did not start stopped the client.
#[tokio::test]
async fn r60_a_configuration_that_cannot_be_read_stops_nobody() {
    let gateway = Upstream::start(|_| Script::new().sse().events(&text("as before")).end()).await.expect("started");
    let address = free_address();
    // The user's own gateway, as it was before hotspare.
    let settings = json!({ "env": { "ANTHROPIC_BASE_URL": gateway.url() } }).to_string();
    let user = User::new().config(&config(address, &gateway.url())).file("home/.claude/settings.json", &settings);
    let _serving = Serving(user.path("home"));
    let installed = user.runs(&["install"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    assert_eq!(user.runs(&["service", "stop"]).await.code, Some(0));
    let user = user.config("{ broken");
    let hook = user.runs(&["hook", "session-start"]).await;
    assert!(
        hook.code == Some(0) && hook.stdout.contains("has been started") && hook.stdout.contains("hotspare config validate"),
        "{hook:?}"
    );
    let answer = asks(address, &format!("x-hotspare-token: {}\r\nx-api-key: sk-ant-test", token(&user)), "{\"stream\":true}").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-hotspare-profile: claude"), "{answer}");
    assert_eq!(gateway.messages().len(), 1, "where the client went before");
    let told: Value = serde_json::from_str(&user.runs(&["status", "--json"]).await.stdout).expect("JSON");
    assert!(told.to_string().contains("HS0"), "status says what is wrong: {told}");
    let uninstalled = user.runs(&["uninstall"]).await;
    assert_eq!(uninstalled.code, Some(0), "{uninstalled:?}");
    assert_eq!(fs::read_to_string(user.path("home/.claude/settings.json")).expect("read"), settings);
    assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0));
}

/// claude-code #87259: settings that pointed at a dead port.
#[tokio::test]
async fn r60_the_hook_revives_a_dead_service_or_leaves() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let address = free_address();
    let user = User::new().config(&config(address, &primary.url())).file("home/.claude/settings.json", "{\"model\":\"opus\"}\n");
    let _serving = Serving(user.path("home"));
    assert_eq!(user.runs(&["hook", "session-start"]).await.stdout, "", "nothing is installed: nothing is said");
    let installed = user.runs(&["install"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    let alive = user.runs(&["hook", "session-start"]).await;
    assert!(alive.code == Some(0) && alive.stdout.is_empty() && alive.stderr.is_empty(), "{alive:?}");
    killed(&user).await;
    let revived = user.runs(&["hook", "session-start"]).await;
    assert_eq!(revived.stdout, "{\"systemMessage\":\"hotspare was not running and has been started\"}\n");
    assert_eq!(status(&user).await.0, Some(0));
    killed(&user).await;
    // Now somebody else has the port: nobody's login shall go there.
    let stranger = TcpListener::bind(address).expect("free again");
    let serving = std::thread::spawn(move || {
        use std::io::Write;
        for stream in stranger.incoming().take(1) {
            let _ = stream.expect("a connection").write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let left = user.runs(&["hook", "session-start"]).await;
    let said: Value = serde_json::from_str(&left.stdout).expect("JSON");
    let message = said["systemMessage"].as_str().expect("words");
    assert!(message.contains("another program listens on") && message.contains("hotspare install") && !message.contains('\n'), "{message}");
    serving.join().expect("it ended");
    let settings = fs::read_to_string(user.path("home/.claude/settings.json")).expect("read");
    assert!(!settings.contains("ANTHROPIC") && !settings.contains("session-start") && settings.contains("statusline"), "{settings}");
    assert_eq!(user.runs(&["uninstall"]).await.code, Some(0));
    assert_eq!(fs::read_to_string(user.path("home/.claude/settings.json")).expect("read"), "{\"model\":\"opus\"}\n");
}

/// What `systemctl` was told, where there is one for this user.
const FAKE_SYSTEMCTL: &str = r#"#!/bin/sh
printf '%s\n' "$*" >> "$REPORT/systemctl"
case "$*" in
    *"enable --now hotspare.socket"*|*"start --no-block"*) "$HOTSPARE" serve --service --listen "$ADDRESS" </dev/null >/dev/null 2>&1 & ;;
esac
"#;

#[tokio::test]
async fn systemd_gets_its_units_and_gives_them_back() {
    let address = free_address();
    let user = User::new()
        .config(&json!({ "server": { "listen": address.to_string() } }).to_string())
        .file("bin/systemctl", FAKE_SYSTEMCTL)
        .file("run/systemd/private", "")
        .env("HOTSPARE", env!("CARGO_BIN_EXE_hotspare"))
        .env("ADDRESS", &address.to_string());
    fs::set_permissions(user.path("bin/systemctl"), fs::Permissions::from_mode(0o755)).expect("executable");
    let runtime = user.path("run").display().to_string();
    let user = user.env("XDG_RUNTIME_DIR", &runtime);
    let _serving = Serving(user.path("home"));
    let units = user.path("home/.config/systemd/user");
    let theirs = user.path("home/.config/systemd/user/hotspare.service");
    let user = user.file("home/.config/systemd/user/hotspare.service", "[Service]\nExecStart=/bin/true\n");
    user.runs(&["install", "service"]).await.fails(1, &["is there already, and not from hotspare"]);
    assert!(!units.join("hotspare.socket").exists(), "all of it or nothing");
    fs::remove_file(&theirs).expect("removed");
    let installed = user.runs(&["install", "service"]).await;
    assert!(installed.code == Some(0) && installed.stdout.contains("after each login"), "{installed:?}");
    let socket = fs::read_to_string(units.join("hotspare.socket")).expect("written");
    assert!(socket.contains(&format!("ListenStream={address}")), "{socket}");
    let running = status(&user).await.1;
    assert_eq!((&running["installed"], &running["manager"]), (&json!(true), &json!("systemd")));
    let uninstalled = user.runs(&["uninstall", "service"]).await;
    assert_eq!(uninstalled.code, Some(0), "{uninstalled:?}");
    assert!(!units.join("hotspare.socket").exists() && !theirs.exists());
    let told = user.report("systemctl");
    for order in [
        "daemon-reload",
        "enable --now hotspare.socket",
        "enable hotspare.service",
        "disable hotspare.socket hotspare.service",
        "stop hotspare.socket hotspare.service",
    ] {
        assert!(told.contains(order), "{order} is not in:\n{told}");
    }
    assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0));
}

#[tokio::test]
async fn a_socket_from_systemd_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let user = User::new();
    // As systemd does it: the socket is descriptor 3, and the number of the process is told.
    let mut command = tokio::process::Command::new("sh");
    let start =
        format!("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec {} serve --service", env!("CARGO_BIN_EXE_hotspare"));
    command.args(["-c", &start]).env_clear().env("HOME", user.path("home")).kill_on_drop(true);
    command.stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(listener))).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("started");
    let said = wait_for(child.stderr.as_mut().expect("piped"), "client ").await;
    assert!(said.contains(&format!("listening on http://{address}")), "{said}");
    assert!(asks(address, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"));
    child.kill().await.expect("ended");
}
