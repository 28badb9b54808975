//! Processes and ports of the service: one that crashes comes back before a client notices, a changed address moves everything, and no process
//! stays unseen.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Gate, Script, Upstream};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::user::{User, asks, signalled, wait_for};

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

fn started(primary: &str) -> (User, SocketAddr, Serving) {
    let address = free_address();
    let user = User::new().config(&config(address, primary)).file("home/.claude/settings.json", "{}\n");
    let serving = Serving(user.path("home"));
    (user, address, serving)
}

async fn status(user: &User) -> Value {
    let ended = user.runs(&["service", "status", "--json"]).await;
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn killed(pid: &Value) {
    let pid = pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::KILL).expect("killed");
}

async fn turn(address: SocketAddr, user: &User) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: {address}\r\nx-hotspare-token: {}\r\nx-api-key: sk-ant-test\r\nConnection: close\r\n\
         Content-Length: 15\r\n\r\n{{\"stream\":true}}",
        user.local_token()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

fn settings(user: &User) -> Value {
    let text = fs::read_to_string(user.path("home/.claude/settings.json")).expect("read");
    serde_json::from_str(&text).expect("JSON")
}

/// As Claude Code does it: a turn that breaks off is sent again at once. No connection is refused at any time.
#[tokio::test]
async fn worker_killed_in_a_turn_is_revived_at_once() {
    let gate = Gate::new();
    let (held, events) = (gate.clone(), text("a long answer"));
    let half = events.len() / 2;
    let primary = Upstream::start(move |_| Script::new().sse().events(&events[..half]).gate(&held).events(&events[half..]).end())
        .await
        .expect("started");
    let (user, address, _serving) = started(&primary.url());
    let installed = user.runs(&["install"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    for _ in 0..3 {
        let mut stream = turn(address, &user).await;
        wait_for(&mut stream, "content_block_delta").await;
        let before = status(&user).await;
        killed(&before["pid"]);
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the stream broke off");
        let mut again = turn(address, &user).await;
        wait_for(&mut again, "content_block_delta").await;
        assert_ne!(status(&user).await["pid"], before["pid"]);
    }
    gate.open();
    let hook = user.runs(&["hook", "prompt"]).await;
    assert_eq!((hook.code, hook.stdout.as_str()), (Some(0), ""), "nothing had to be done by a hook");
    assert!(user.runs(&["service", "stop"]).await.stdout.contains("stopped"));
    assert!(TcpStream::connect(address).await.is_err(), "the supervisor is gone too");
}

/// While no worker runs, a hook must not take the port for another program's and take hotspare out of the settings.
#[tokio::test]
async fn supervisor_without_worker_is_no_stranger() {
    let (user, address, _serving) = started("http://127.0.0.1:9");
    let installed = user.runs(&["install"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    let supervisor = status(&user).await["supervisor"].clone();
    let pid = supervisor.as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::STOP).expect("stopped");
    killed(&status(&user).await["pid"]);
    let hook = user.runs(&["hook", "session-start"]).await;
    kill_process(pid, Signal::CONT).expect("continued");
    assert!(hook.stdout.contains("does not answer yet"), "{hook:?}");
    assert_eq!(settings(&user)["env"]["ANTHROPIC_BASE_URL"], format!("http://{address}"));
    assert!(asks(address, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn service_without_supervisor_goes_on_and_stops() {
    let (user, address, _serving) = started("http://127.0.0.1:9");
    assert_eq!(user.runs(&["service", "start"]).await.code, Some(0));
    killed(&status(&user).await["supervisor"]);
    assert!(asks(address, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"));
    assert!(user.runs(&["service", "stop"]).await.stdout.contains("stopped"));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn restart_replaces_supervisor_and_worker() {
    let (user, address, _serving) = started("http://127.0.0.1:9");
    assert_eq!(user.runs(&["service", "start"]).await.code, Some(0));
    let before = status(&user).await;
    let restarted = user.runs(&["service", "restart"]).await;
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    wait_until(|| fs::read_dir(user.path("home/.local/state/hotspare/supervisors")).expect("a folder").count() == 1).await;
    let after = status(&user).await;
    assert!(before["pid"] != after["pid"] && before["supervisor"] != after["supervisor"], "{before} {after}");
    killed(&after["pid"]);
    assert!(asks(address, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"), "the new one is supervised too");
}

async fn wait_until(holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("in time");
}

#[tokio::test]
async fn status_after_a_crash_names_service_start() {
    let (user, _address, _serving) = started("http://127.0.0.1:9");
    user.runs(&["status"]).await.fails(3, &["nothing is running", "hotspare run -- claude"]);
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    let running = status(&user).await;
    killed(&running["supervisor"]);
    killed(&running["pid"]);
    user.runs(&["status"]).await.fails(3, &["nothing is running", "hotspare service start"]);
}

/// `install` again, or `service restart`: the service, the settings and the receipt have the new port, and open sessions keep the old one.
#[tokio::test]
async fn changed_port_moves_service_settings_and_receipt() {
    for command in [&["install"][..], &["service", "restart"], &["service", "start"]] {
        let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
        let (user, old, _serving) = started(&primary.url());
        assert_eq!(user.runs(&["install"]).await.code, Some(0));
        let new = free_address();
        let user = user.config(&config(new, &primary.url()));
        let moved = user.runs(command).await;
        assert_eq!(moved.code, Some(0), "{command:?} {moved:?}");
        assert_eq!(settings(&user)["env"]["ANTHROPIC_BASE_URL"], format!("http://{new}"), "{command:?}");
        let running = status(&user).await;
        assert_eq!((&running["running"], &running["address"]), (&json!(true), &json!(format!("http://{new}"))), "{command:?}");
        assert!((moved.stdout.clone() + &moved.stderr).contains(&format!("http://{old}")), "{command:?} {moved:?}");
        // A session that has not read its settings yet is still served, and seen.
        assert!(asks(old, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"), "{command:?}");
        let check = user.runs(&["uninstall", "--all", "--check"]).await;
        assert!(check.stdout.contains(&format!("http://{old}")) && check.stdout.contains(&format!("http://{new}")), "{check:?}");
        let removed = user.runs(&["uninstall"]).await;
        assert_eq!(removed.code, Some(0), "{removed:?}");
        assert!(TcpStream::connect(old).await.is_err() && TcpStream::connect(new).await.is_err(), "{command:?}");
        assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0), "{command:?}");
        assert_eq!(fs::read_to_string(user.path("home/.claude/settings.json")).expect("read"), "{}\n", "{command:?}");
    }
}

/// The port that was chosen belongs to another program: all is as before, the receipt included.
#[tokio::test]
async fn refused_install_leaves_nothing_behind() {
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = stranger.local_addr().expect("an address");
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in stranger.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let user = User::new().config(&config(address, "http://127.0.0.1:9")).file("home/.claude/settings.json", "{}\n");
    user.runs(&["install"]).await.fails(1, &["another program listens on"]);
    assert!(!user.path("home/.local/state/hotspare/wiring.json").exists());
    assert_eq!(fs::read_to_string(user.path("home/.claude/settings.json")).expect("read"), "{}\n");
    assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0));
    // The same for a move of what is installed.
    let old = free_address();
    let user = user.config(&config(old, "http://127.0.0.1:9"));
    let _serving = Serving(user.path("home"));
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    let receipt = || fs::read_to_string(user.path("home/.local/state/hotspare/wiring.json")).expect("read");
    let before = receipt();
    let user = user.file("home/.config/hotspare/config.json", &config(address, "http://127.0.0.1:9"));
    user.runs(&["install"]).await.fails(1, &["another program listens on"]);
    let receipt = fs::read_to_string(user.path("home/.local/state/hotspare/wiring.json")).expect("read");
    assert_eq!(receipt, before);
    assert_eq!(settings(&user)["env"]["ANTHROPIC_BASE_URL"], format!("http://{old}"));
    assert!(asks(old, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"), "the old service goes on");
}

/// A file that cannot be written comes after the service was started: neither it nor the receipt stays.
#[tokio::test]
async fn install_that_fails_late_is_taken_back() {
    let (user, address, _serving) = started("http://127.0.0.1:9");
    // The folder of the shell's start file is a file, so the last part fails.
    let user = user.file("home/zdot", "");
    let zdotdir = user.path("home/zdot/below").display().to_string();
    let user = user.env("ZDOTDIR", &zdotdir).env("SHELL", "/bin/zsh");
    let failed = user.runs(&["install", "service", "claude", "statusline", "shell"]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(!user.path("home/.local/state/hotspare/wiring.json").exists(), "{failed:?}");
    assert_eq!(fs::read_to_string(user.path("home/.claude/settings.json")).expect("read"), "{}\n");
    assert!(TcpStream::connect(address).await.is_err(), "no service stays that was not there before");
    assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0));
}

#[tokio::test]
async fn uninstall_makes_no_settings_file_that_was_removed() {
    let (user, _address, _serving) = started("http://127.0.0.1:9");
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    fs::remove_file(user.path("home/.claude/settings.json")).expect("removed");
    let removed = user.runs(&["uninstall"]).await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert!(!user.path("home/.claude/settings.json").exists());
    assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0));
}

#[tokio::test]
async fn purge_removes_keys_and_state_and_lists_the_rest() {
    let (user, _address, _serving) = started("http://127.0.0.1:9");
    let user = user.file("home/.config/hotspare/environment", "OWN_KEY=sk-ant-test-own\n");
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    let state = user.path("home/.local/state/hotspare");
    fs::create_dir(state.join("keychain")).expect("made");
    fs::write(state.join("keychain/backup"), "sk-ant-test-copied").expect("written");
    user.runs(&["uninstall", "claude", "--purge"]).await.fails(2, &["--purge"]);
    let purged = user.runs(&["uninstall", "--all", "--purge"]).await;
    assert_eq!(purged.code, Some(0), "{purged:?}");
    assert!(!state.exists(), "{:?}", names(&state));
    for stays in ["~/.config/hotspare/config.json", "~/.config/hotspare/environment"] {
        assert!(purged.stdout.contains(stays), "{stays} is not in {purged:?}");
    }
    assert!(purged.stdout.contains("1 copied key"), "{purged:?}");
    assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0));
    assert!(!state.exists(), "a check makes nothing");
}

fn names(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// What `serve --listen` and `--config` started is found by `env`, `status` and `uninstall --check`.
#[tokio::test]
async fn instance_on_another_port_is_found() {
    let (user, configured, _serving) = started("http://127.0.0.1:9");
    let other = free_address();
    let mut serve = user.starts(&["serve", "--listen", &other.to_string()]);
    wait_for(serve.stderr.as_mut().expect("piped"), "client ").await;
    let env = user.runs(&["env", "--json"]).await;
    assert_eq!(env.code, Some(0), "{env:?}");
    let env: Value = serde_json::from_str(&env.stdout).expect("JSON");
    assert_eq!(env["env"]["ANTHROPIC_BASE_URL"], format!("http://{other}"));
    let check = user.runs(&["uninstall", "--all", "--check"]).await;
    assert!(check.code == Some(1) && check.stdout.contains(&format!("http://{other}")), "{check:?}");
    // Another configuration is asked for its own address first.
    let elsewhere = free_address();
    let user = user.file("work/other.json", &config(elsewhere, "http://127.0.0.1:9"));
    let mut second = user.starts(&["serve", "--config", "other.json"]);
    wait_for(second.stderr.as_mut().expect("piped"), "client ").await;
    let env = user.runs(&["env", "--json", "--config", "other.json"]).await;
    let env: Value = serde_json::from_str(&env.stdout).unwrap_or_else(|error| panic!("{error}: {env:?}"));
    assert_eq!(env["env"]["ANTHROPIC_BASE_URL"], format!("http://{elsewhere}"));
    signalled(serve, Signal::TERM).await;
    signalled(second, Signal::TERM).await;
    user.runs(&["env"]).await.fails(3, &[&format!("no hotspare listens on {configured}")]);
}

/// The state folder was emptied under a running service: it is no longer recorded, and still one of ours.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn unrecorded_process_is_seen_by_check() {
    let (user, address, _serving) = started("http://127.0.0.1:9");
    let mut serve = user.starts(&["serve", "--listen", &address.to_string()]);
    wait_for(serve.stderr.as_mut().expect("piped"), "client ").await;
    fs::remove_dir_all(user.path("home/.local/state/hotspare/instances")).expect("removed");
    let check = user.runs(&["uninstall", "--all", "--check"]).await;
    let pid = serve.id().expect("it runs").to_string();
    assert!(check.code == Some(1) && check.stdout.contains(&pid), "{check:?}");
    signalled(serve, Signal::TERM).await;
    assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0));
}

/// 2,497 public repositories hold `claude/settings.json`: the address of this machine must not get to others by a commit.
#[tokio::test]
async fn settings_in_a_repository_are_refused_without_force() {
    let (user, address, _serving) = started("http://127.0.0.1:9");
    let home = user.path("home");
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(arguments).current_dir(home.join("dotfiles"));
        let done = git.env("HOME", &home).env("GIT_CONFIG_NOSYSTEM", "1").output().expect("git");
        assert!(done.status.success(), "{arguments:?} {done:?}");
    };
    fs::create_dir_all(user.path("home/dotfiles/claude")).expect("made");
    let tracked = user.path("home/dotfiles/claude/settings.json");
    fs::rename(user.path("home/.claude/settings.json"), &tracked).expect("moved");
    std::os::unix::fs::symlink(&tracked, user.path("home/.claude/settings.json")).expect("linked");
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    let refused = user.runs(&["install"]).await;
    refused.fails(1, &["git repository", "dotfiles", "hotspare install service shell", "--force"]);
    assert_eq!(fs::read_to_string(&tracked).expect("read"), "{}\n");
    assert!(!user.path("home/.local/state/hotspare/wiring.json").exists());
    // Machine-local: the shell's start file is guarded, so a machine without hotspare is as before.
    let user = user.env("SHELL", "/bin/bash");
    let local = user.runs(&["install", "service", "shell"]).await;
    assert_eq!(local.code, Some(0), "{local:?}");
    let asked = || {
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", ". ~/.bashrc; echo \"[$ANTHROPIC_BASE_URL]\""])
            .env_clear()
            .env("HOME", user.path("home"))
            .env("PATH", std::env::var("PATH").expect("a path"));
        String::from_utf8(bash.output().expect("bash").stdout).expect("UTF-8")
    };
    assert_eq!(asked(), format!("[http://{address}]\n"));
    let text = fs::read_to_string(user.path("home/.bashrc")).expect("read");
    fs::write(user.path("home/.bashrc"), text.replace(env!("CARGO_BIN_EXE_hotspare"), "/nowhere/hotspare")).expect("written");
    assert_eq!(asked(), "[]\n", "a machine without hotspare");
    fs::write(user.path("home/.bashrc"), text).expect("written");
    let forced = user.runs(&["install", "--force"]).await;
    assert!(forced.code == Some(0) && forced.stdout.contains("git repository"), "{forced:?}");
    assert_eq!(settings(&user)["env"]["ANTHROPIC_BASE_URL"], format!("http://{address}"));
    assert_eq!(user.runs(&["uninstall"]).await.code, Some(0));
    assert_eq!(fs::read_to_string(&tracked).expect("read"), "{}\n");
    // What the repository ignores is no one else's.
    fs::write(user.path("home/dotfiles/.gitignore"), "claude/\n").expect("written");
    git(&["rm", "-q", "-r", "--cached", "claude"]);
    let ignored = user.runs(&["install"]).await;
    assert_eq!(ignored.code, Some(0), "{ignored:?}");
}

/// A move of the port that dies between any two steps: the next `uninstall`, or `install` and `uninstall`, brings the file back byte for byte.
#[tokio::test]
async fn move_killed_at_every_step_is_undone() {
    let text = "{\r\n\t\"model\": \"opus\",\r\n\t\"env\": { \"X\": \"1\" }\r\n}";
    let (user, old, _serving) = started("http://127.0.0.1:9");
    let mut user = user.file("home/.claude/settings.json", text);
    let new = free_address();
    let mut died = 0;
    for step in 1..=20 {
        user = user.config(&config(old, "http://127.0.0.1:9"));
        assert_eq!(user.runs(&["install"]).await.code, Some(0), "{step}");
        user = user.config(&config(new, "http://127.0.0.1:9"));
        let killed = user.command(&["install"]).env("HOTSPARE_TEST_DIE_AT_STEP", step.to_string()).output().await.expect("it ran");
        if step % 2 == 0 {
            assert_eq!(user.runs(&["install"]).await.code, Some(0), "{step}");
        }
        let removed = user.runs(&["uninstall"]).await;
        assert_eq!(removed.code, Some(0), "{step} {removed:?}");
        assert_eq!(fs::read_to_string(user.path("home/.claude/settings.json")).expect("read"), text, "{step}");
        assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0), "{step}");
        if killed.status.success() {
            break;
        }
        died += 1;
    }
    assert!(died > 2, "no step was reached");
}
