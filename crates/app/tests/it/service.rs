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
use tokio::net::{TcpStream, UnixDatagram};

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
    // Without its supervisor nothing starts it again; one of systemd's has none.
    for process in ["supervisor", "pid"].into_iter().filter_map(|name| status[name].as_i64()) {
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::KILL).expect("killed");
    }
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
    let settings = || fs::read_to_string(user.path("home/.claude/settings.json")).expect("read");
    let left: Value = serde_json::from_str(&settings()).expect("JSON");
    // What a session that runs must read; all else is gone at once, and this a moment later.
    assert_eq!(left["env"], json!({ "ANTHROPIC_BASE_URL": "" }));
    assert!(left.get("hooks").is_none() && settings().contains("statusline"), "{left}");
    let begun = Instant::now();
    let prompt = user.runs(&["hook", "prompt"]).await;
    assert!(prompt.code == Some(0) && prompt.stdout.is_empty() && prompt.stderr.is_empty(), "{prompt:?}");
    assert!(begun.elapsed() > Duration::from_secs(1), "the prompt waits until the session has read its settings");
    let swept = async {
        while settings().contains("ANTHROPIC") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("nothing of it stays");
    assert_eq!(user.runs(&["uninstall"]).await.code, Some(0));
    assert_eq!(settings(), "{\"model\":\"opus\"}\n");
}

/// Where hotspare is installed, a session in the background goes through the service like every other.
#[tokio::test]
async fn r64_where_hotspare_is_installed_a_session_in_the_background_is_the_service_s() {
    let address = free_address();
    let user = User::new().config(&config(address, "https://provider.example"));
    let _serving = Serving(user.path("home"));
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    let begun = user.runs(&["run", "--", "claude", "--bg", "hi"]).await;
    assert_eq!(begun.code, Some(0), "{begun:?}");
    assert!(begun.stderr.contains(&format!("the service on http://{address}")), "{begun:?}");
    assert_eq!(user.report("argv"), "--bg\nhi\n", "nothing that ends with the run is in it");
    assert_eq!(user.runs(&["uninstall"]).await.code, Some(0));
}

#[tokio::test]
async fn what_is_wired_in_again_is_not_swept_away() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let address = free_address();
    let user = User::new().config(&config(address, &primary.url()));
    let _serving = Serving(user.path("home"));
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    killed(&user).await;
    let stranger = TcpListener::bind(address).expect("free again");
    // It takes connections and says nothing.
    let left = user.runs(&["hook", "session-start"]).await;
    assert!(left.stdout.contains("another program listens on"), "{left:?}");
    drop(stranger);
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    let prompt = user.runs(&["hook", "prompt"]).await;
    assert_eq!((prompt.stdout.as_str(), prompt.stderr.as_str()), ("", ""), "all is well again, so nothing is said");
    assert_eq!(user.runs(&["hook", "sweep"]).await.code, Some(0));
    let settings = fs::read_to_string(user.path("home/.claude/settings.json")).expect("read");
    assert!(settings.contains(&format!("\"ANTHROPIC_BASE_URL\": \"http://{address}\"")), "{settings}");
    assert_eq!(user.runs(&["uninstall"]).await.code, Some(0));
}

/// A machine that is busy, or a service that systemd is just starting again: it is ours, and nobody is sent away.
#[tokio::test]
async fn a_port_that_systemd_keeps_for_us_is_no_strangers() {
    let address = free_address();
    let shown = format!("#!/bin/sh\ncase \"$*\" in *show*) printf 'ActiveState=active\\nListen={address} (Stream)\\n' ;; esac\n");
    let user = User::new()
        .config(&json!({ "server": { "listen": address.to_string() } }).to_string())
        .file("bin/systemctl", FAKE_SYSTEMCTL)
        .file("run/systemd/private", "")
        .env("HOTSPARE", env!("CARGO_BIN_EXE_hotspare"))
        .env("ADDRESS", &address.to_string());
    let runtime = user.path("run").display().to_string();
    let user = user.env("XDG_RUNTIME_DIR", &runtime);
    let _serving = Serving(user.path("home"));
    fs::set_permissions(user.path("bin/systemctl"), fs::Permissions::from_mode(0o755)).expect("executable");
    assert_eq!(user.runs(&["install"]).await.code, Some(0));
    killed(&user).await;
    // systemd's socket: connections are taken, and nobody answers yet.
    let socket = TcpListener::bind(address).expect("free again");
    let user = user.file("bin/systemctl", &shown);
    let waits = user.runs(&["hook", "session-start"]).await;
    assert!(waits.stdout.contains("does not answer yet") && waits.stdout.contains("requests wait for it"), "{waits:?}");
    assert!(fs::read_to_string(user.path("home/.claude/settings.json")).expect("read").contains(&address.to_string()));
    drop(socket);
    let _ = user.file("bin/systemctl", FAKE_SYSTEMCTL).runs(&["uninstall"]).await;
}

/// What a client in full mode gives its hooks: our own proxy, as the settings have it.
fn as_in_the_client(user: User) -> User {
    let settings: Value = serde_json::from_str(&fs::read_to_string(user.path("home/.claude/settings.json")).expect("read")).expect("JSON");
    let env = settings["env"].as_object().expect("variables").clone();
    env.iter().fold(user, |user, (name, value)| user.env(name, value.as_str().expect("text")))
}

/// A company's proxy that tells the head of the next tunnel that is asked of it.
fn company() -> (SocketAddr, std::thread::JoinHandle<String>) {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("read");
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("sent");
        String::from_utf8(head).expect("UTF-8")
    });
    (address, heard)
}

/// Revived by a client's hook, a service must not take us for the company's proxy.
#[tokio::test]
async fn t25_in_full_mode_a_revived_service_goes_through_the_company_s_proxy_and_not_through_itself() {
    let primary = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let (company, heard) = company();
    let address = free_address();
    let proxy = format!("http://corp:secret@{company}");
    let user = User::new().config(&config(address, &primary.url())).env("HTTPS_PROXY", &proxy).env("NO_PROXY", ".corp");
    let _serving = Serving(user.path("home"));
    let installed = user.runs(&["install", "--mode", "full"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    killed(&user).await;
    let user = as_in_the_client(user);
    let revived = user.runs(&["hook", "session-start"]).await;
    assert_eq!(revived.stdout, "{\"systemMessage\":\"hotspare was not running and has been started\"}\n");
    let (_, running) = status(&user).await;
    let environment = fs::read(format!("/proc/{}/environ", running["pid"])).expect("it runs");
    let environment = String::from_utf8_lossy(&environment).replace('\0', "\n");
    assert!(!environment.contains("hotspare:hs-") && !environment.contains("ca.pem"), "nothing of ours: {environment}");
    assert!(environment.contains(&format!("HTTPS_PROXY={proxy}\n")) && environment.contains("NO_PROXY=.corp\n"), "{environment}");
    // The client asks for another host: the tunnel goes on through the company's proxy.
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let credentials = tokio::process::Command::new("sh")
        .args(["-c", &format!("printf %s 'hotspare:{}' | base64 -w0", token(&user))])
        .output()
        .await
        .expect("base64 is there");
    let credentials = String::from_utf8(credentials.stdout).expect("UTF-8");
    let head = format!("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\nProxy-Authorization: Basic {credentials}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    wait_for(&mut stream, "\r\n\r\n").await;
    let head = heard.join().expect("it heard");
    assert!(head.starts_with("CONNECT other.example:443") && head.contains("Basic Y29ycDpzZWNyZXQ="), "{head}");
    assert!(!head.contains(&credentials), "the token is ours alone: {head}");
    drop(stream);
    assert_eq!(user.runs(&["uninstall"]).await.code, Some(0));
    assert_eq!(user.runs(&["uninstall", "--all", "--check"]).await.code, Some(0));
    assert!(!user.path("home/.local/state/hotspare/outward.json").exists());
}

/// The same where systemd starts it, with nothing of the shell's.
#[tokio::test]
async fn in_full_mode_a_service_with_an_empty_environment_knows_the_company_s_proxy() {
    let (company, heard) = company();
    let address = free_address();
    let settings = json!({ "env": { "HTTPS_PROXY": format!("http://corp:secret@{company}") } }).to_string();
    // Nobody answers at that name: what counts is who was asked for the way.
    let user = User::new().config(&config(address, "https://provider.example")).file("home/.claude/settings.json", &settings);
    let _serving = Serving(user.path("home"));
    assert_eq!(user.runs(&["service", "start"]).await.code, Some(0));
    let before = status(&user).await.1["pid"].clone();
    let installed = user.runs(&["install", "claude", "--mode", "full"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    assert_ne!(status(&user).await.1["pid"], before, "a service that runs already learns of it");
    let headers = format!("x-hotspare-token: {}\r\nx-api-key: sk-ant-test", token(&user));
    let asked = asks(address, &headers, "{\"stream\":true}");
    let (_, head) = tokio::join!(asked, tokio::task::spawn_blocking(|| heard.join().expect("it heard")));
    assert!(head.expect("ended").starts_with("CONNECT provider.example:443"));
    assert_eq!(user.runs(&["uninstall"]).await.code, Some(0));
    assert_eq!(fs::read_to_string(user.path("home/.claude/settings.json")).expect("read"), settings);
}

#[tokio::test]
async fn in_full_mode_too_the_hook_leaves_where_somebody_else_has_the_port() {
    let address = free_address();
    let user = User::new()
        .config(&config(address, "https://provider.example"))
        .file("home/.claude/settings.json", "{\"model\":\"opus\"}\n")
        .env("HTTPS_PROXY", "http://corp.example:3128");
    let _serving = Serving(user.path("home"));
    assert_eq!(user.runs(&["install", "claude", "service", "--mode", "full"]).await.code, Some(0));
    killed(&user).await;
    let user = as_in_the_client(user);
    let stranger = TcpListener::bind(address).expect("free again");
    let serving = std::thread::spawn(move || {
        use std::io::Write;
        for stream in stranger.incoming().take(1) {
            let _ = stream.expect("a connection").write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let file = user.path("home/.claude/settings.json");
    let left = user.runs(&["hook", "session-start"]).await;
    assert!(left.stdout.contains("another program listens on") && left.stdout.contains("hotspare install --mode full"), "{left:?}");
    serving.join().expect("it ended");
    // A proxy is shown its credentials before any hook comes: what this one may have learned opens nothing any more.
    assert!(!user.path("home/.local/state/hotspare/token").exists(), "the next install makes another");
    // What a session that runs is shown for a moment: the shell's own proxy, which ours has hidden. All else is gone at once.
    let shown: Value = serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
    let own = "http://corp.example:3128";
    assert_eq!(shown, json!({ "model": "opus", "env": { "HTTPS_PROXY": own, "https_proxy": own, "ANTHROPIC_BASE_URL": "" } }));
    let swept = async {
        while user.path("home/.local/state/hotspare/outward.json").exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("nothing of it stays");
    assert_eq!(fs::read_to_string(file).expect("read"), "{\"model\":\"opus\"}\n");
}

/// What `systemctl` was told, where there is one for this user.
const FAKE_SYSTEMCTL: &str = r#"#!/bin/sh
printf '%s\n' "$*" >> "$REPORT/systemctl"
case "$*" in
    *"enable --now hotspare.socket"*|*"start hotspare.socket"*) "$HOTSPARE" serve --service --listen "$ADDRESS" </dev/null >/dev/null 2>&1 & ;;
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
    let told = UnixDatagram::bind(user.path("notify")).expect("a socket of systemd's");
    command.env("NOTIFY_SOCKET", user.path("notify"));
    command.stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(listener))).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("started");
    let said = wait_for(child.stderr.as_mut().expect("piped"), "client ").await;
    assert!(said.contains(&format!("listening on http://{address}")), "{said}");
    assert_eq!(notice(&told).await, "READY=1");
    assert!(asks(address, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"));
    // An upgrade: systemd is told which process it is now, by the one that it knows.
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::USR2).expect("told");
    let next = notice(&told).await;
    let next: i32 = next.strip_prefix("MAINPID=").and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{next}"));
    assert!(child.wait().await.expect("ended").success(), "without answers in flight it ends at once");
    assert!(asks(address, "x-hotspare-token: wrong", "{}").await.starts_with("HTTP/1.1 401"));
    kill_process(Pid::from_raw(next).expect("a process"), Signal::TERM).expect("ended");
}

async fn notice(socket: &UnixDatagram) -> String {
    let mut text = [0; 64];
    let read = tokio::time::timeout(PATIENCE, socket.recv(&mut text)).await.expect("in time").expect("told");
    String::from_utf8_lossy(&text[..read]).into_owned()
}
