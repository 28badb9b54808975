//! `install` and `uninstall`: whatever a settings file looks like, it comes back byte for byte; also when the process dies between any two
//! steps. Nothing is pointed at a port that is not ours.

mod fixtures;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::user::User;
use fixtures::{FIXTURES, Fixture};

/// More than a change has steps: the process then lives to its end.
const MOST_STEPS: u32 = 20;

/// A user whose service runs for as long as the test.
struct Wired {
    user: User,
    address: SocketAddr,
}

impl Wired {
    async fn new() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let user = User::new().config(&json!({ "server": { "listen": address.to_string() } }).to_string());
        let started = user.runs(&["service", "start"]).await;
        assert_eq!(started.code, Some(0), "{started:?}");
        Self { user, address }
    }

    fn state(&self) -> PathBuf {
        self.user.path("home/.local/state/hotspare")
    }

    /// Runs it to its end, with Claude Code's settings in this folder. `die_at` is the step behind which it is killed.
    fn run(&self, folder: &Path, arguments: &[&str], die_at: Option<u32>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
        command.args(arguments).env_clear().current_dir(self.user.path("work"));
        command.envs([("HOME", self.user.path("home")), ("CLAUDE_CONFIG_DIR", folder.to_owned())]).env("SHELL", "/bin/bash");
        if let Some(step) = die_at {
            command.env("HOTSPARE_TEST_DIE_AT_STEP", step.to_string());
        }
        command.output().expect("it starts")
    }

    fn runs(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run(folder, arguments, None);
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    }
}

impl Drop for Wired {
    fn drop(&mut self) {
        let _ = self.run(&self.user.path("home/.claude"), &["service", "stop"], None);
    }
}

/// Everything of a folder: names, kinds, modes, content.
fn picture(folder: &Path) -> Vec<(String, String, u32, Vec<u8>)> {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    let mut seen = Vec::new();
    for path in entries {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let name = path.display().to_string();
        if meta.is_symlink() {
            seen.push((name, format!("link to {}", fs::read_link(&path).expect("a link").display()), 0, Vec::new()));
        } else if meta.is_dir() {
            seen.push((name, "folder".to_owned(), 0, Vec::new()));
            seen.extend(picture(&path));
        } else {
            seen.push((name, "file".to_owned(), meta.permissions().mode() & 0o777, fs::read(&path).expect("read")));
        }
    }
    seen
}

/// Lays a fixture out in a folder of its own; gives the client's folder.
fn laid_out(fixture: &Fixture, root: &Path) -> PathBuf {
    let folder = root.join("claude");
    if fixture.is_missing_folder {
        fs::create_dir_all(root).expect("made");
        return folder;
    }
    fs::create_dir_all(&folder).expect("made");
    let file = folder.join("settings.json");
    let real = match fixture.link {
        None => file,
        Some(target) => {
            symlink(target, &file).expect("linked");
            let real = folder.join(target);
            fs::create_dir_all(real.parent().expect("a folder")).expect("made");
            real
        }
    };
    if let Some(text) = fixture.text() {
        fs::write(&real, text).expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(fixture.mode)).expect("set");
    }
    folder
}

/// cc-switch #366 #1236 #1691 #2096 #4254 #4947 #6017: settings rewritten, and not given back.
#[tokio::test]
async fn r59_every_settings_file_comes_back_byte_for_byte_also_after_a_kill_at_every_step() {
    let wired = Wired::new().await;
    let (mut kills, mut steps) = (0, 0);
    let root = tempfile::tempdir().expect("a temporary folder");
    for (number, fixture) in FIXTURES.iter().enumerate() {
        let place = root.path().join(number.to_string());
        let folder = laid_out(fixture, &place);
        let before = picture(&place);
        let install = ["install", "claude", "statusline"];
        let uninstall = ["uninstall", "claude", "statusline"];
        let clean = |after: &str| {
            assert_eq!(picture(&place), before, "{}: {after}", fixture.name);
            assert!(!wired.state().join("wiring.json").exists(), "{}: {after}: the receipt is left", fixture.name);
        };
        wired.runs(&folder, &install);
        let installed = picture(&place);
        assert_ne!(installed, before, "{}", fixture.name);
        wired.runs(&folder, &install);
        assert_eq!(picture(&place), installed, "{}: a second install changes nothing", fixture.name);
        offline(&wired, &folder, &uninstall);
        clean("installed and uninstalled");
        for step in 1..=MOST_STEPS {
            let first = wired.run(&folder, &install, Some(step)).status.success();
            offline(&wired, &folder, &uninstall);
            clean(&format!("install killed at step {step}"));
            let _ = wired.run(&folder, &install, Some(step));
            wired.runs(&folder, &install);
            assert_eq!(picture(&place), installed, "{}: install killed at step {step}, and again", fixture.name);
            let last = offline_killed(&wired, &folder, &uninstall, step);
            offline(&wired, &folder, &uninstall);
            clean(&format!("uninstall killed at step {step}"));
            kills += 3;
            steps = steps.max(step);
            if first && last {
                break;
            }
        }
    }
    println!("{} fixtures, {kills} runs with a kill, at up to {steps} steps each", FIXTURES.len());
    assert!(FIXTURES.len() >= 50 && steps < MOST_STEPS);
}

/// The same where the client is led by its proxy, and from one mode to the other.
#[tokio::test]
async fn r59_in_full_mode_and_from_mode_to_mode_every_settings_file_comes_back_byte_for_byte() {
    let wired = Wired::new().await;
    let root = tempfile::tempdir().expect("a temporary folder");
    let uninstall = ["uninstall", "claude", "statusline"];
    let in_mode = |mode: &'static str| ["install", "claude", "statusline", "--mode", mode];
    let mut kills = 0;
    for (number, fixture) in FIXTURES.iter().enumerate() {
        let place = root.path().join(number.to_string());
        let folder = laid_out(fixture, &place);
        let before = picture(&place);
        let clean = |after: &str| {
            assert_eq!(picture(&place), before, "{}: {after}", fixture.name);
            let left = ["wiring.json", "outward.json"].map(|name| wired.state().join(name).exists());
            assert_eq!(left, [false, false], "{}: {after}: a receipt is left", fixture.name);
        };
        wired.runs(&folder, &in_mode("base"));
        let base = picture(&place);
        wired.runs(&folder, &in_mode("full"));
        let full = picture(&place);
        assert_ne!(full, base, "{}", fixture.name);
        for again in [&["install", "claude", "statusline"][..], &["install", "claude", "statusline", "--check"], &in_mode("full")] {
            wired.runs(&folder, again);
            assert_eq!(picture(&place), full, "{}: it stays in its mode, and is there once", fixture.name);
        }
        wired.runs(&folder, &in_mode("base"));
        assert_eq!(picture(&place), base, "{}: as if it had never been full", fixture.name);
        wired.runs(&folder, &in_mode("full"));
        offline(&wired, &folder, &uninstall);
        clean("from mode to mode, and out");
        // What a kill leaves is the receipt's business, whatever the values are: some files of each kind show it.
        for step in (1..=MOST_STEPS).filter(|_| number % 8 == 0) {
            wired.runs(&folder, &in_mode("base"));
            let first = wired.run(&folder, &in_mode("full"), Some(step)).status.success();
            offline(&wired, &folder, &uninstall);
            clean(&format!("base to full killed at step {step}"));
            let _ = wired.run(&folder, &in_mode("full"), Some(step));
            wired.runs(&folder, &in_mode("full"));
            assert_eq!(picture(&place), full, "{}: full killed at step {step}, and again", fixture.name);
            let last = offline_killed(&wired, &folder, &uninstall, step);
            offline(&wired, &folder, &uninstall);
            clean(&format!("uninstall killed at step {step}"));
            kills += 3;
            if first && last {
                break;
            }
        }
    }
    println!("{} fixtures from mode to mode, {kills} runs with a kill", FIXTURES.len());
}

#[tokio::test]
async fn in_full_mode_the_settings_get_the_proxy_what_it_shows_and_no_other_base_url() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let corp = wired.user.path("corp.pem");
    fs::write(&corp, "# the company's own\n").expect("written");
    let own = json!({ "env": {
        "ANTHROPIC_CUSTOM_HEADERS": "x-team: 7", "HTTPS_PROXY": "http://corp:secret@proxy.example:3128", "NO_PROXY": ".corp,anthropic.com",
        "NODE_EXTRA_CA_CERTS": corp.display().to_string(),
    } });
    let text = own.to_string();
    fs::write(folder.join("settings.json"), &text).expect("written");
    let said = wired.runs(&folder, &["install", "claude", "--mode", "full"]);
    let token = fs::read_to_string(wired.state().join("token")).expect("made");
    assert!(!said.contains(&token) && said.contains("http://hotspare:"), "{said}");
    let env = settings(&folder)["env"].clone();
    for name in ["HTTPS_PROXY", "https_proxy"] {
        assert_eq!(env[name], format!("http://hotspare:{token}@{}", wired.address));
    }
    assert_eq!(
        (&env["ANTHROPIC_BASE_URL"], &env["ANTHROPIC_CUSTOM_HEADERS"]),
        (&json!("https://api.anthropic.com"), &json!("x-team: 7")),
        "the token goes to us alone"
    );
    assert_eq!((&env["NO_PROXY"], &env["no_proxy"]), (&json!(".corp,127.0.0.1,localhost"), &json!(".corp,127.0.0.1,localhost")));
    assert_eq!(env["CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS"], "360000");
    assert!(env.get("ENABLE_TOOL_SEARCH").is_none() && env.get("ANTHROPIC_AUTH_TOKEN").is_none(), "{env}");
    let trusted = PathBuf::from(env["NODE_EXTRA_CA_CERTS"].as_str().expect("a file"));
    let both = fs::read_to_string(&trusted).expect("made before anybody needs it");
    let ours = fs::read_to_string(wired.state().join("ca/ca.pem")).expect("made");
    assert_eq!(both, format!("{ours}\n# the company's own\n"));
    let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(wired.state().join("ca/authority.json")), mode(wired.state().join("outward.json"))), (0o600, 0o600));
    let kept = fs::read_to_string(wired.state().join("outward.json")).expect("kept");
    assert!(kept.contains("http://corp:secret@proxy.example:3128") && !kept.contains(&token), "{kept}");
    // The company's certificates are renewed: what the client trusts follows with the service's next start.
    fs::write(&corp, "# the company's new one\n").expect("written");
    wired.runs(&folder, &["service", "restart"]);
    wired.runs(&folder, &["install", "claude"]);
    assert_eq!(fs::read_to_string(&trusted).expect("there"), format!("{ours}\n# the company's new one\n"));
    wired.runs(&folder, &["uninstall", "claude"]);
    assert_eq!(fs::read_to_string(folder.join("settings.json")).expect("read"), text);
    assert!(!wired.state().join("outward.json").exists());
    wired.runs(&folder, &["uninstall", "claude", "--check"]);
}

#[tokio::test]
async fn full_mode_is_refused_where_it_would_not_work_and_nothing_is_written() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let text = r#"{"env":{"ANTHROPIC_BASE_URL":"https://gateway.example/llm"}}"#;
    fs::write(folder.join("settings.json"), text).expect("written");
    let refused = |words: &[&str]| {
        let output = wired.run(&folder, &["install", "claude", "--mode", "full"], None);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!wired.state().join("outward.json").exists(), "nothing is kept for nobody");
    };
    refused(&["https://gateway.example/llm", "api.anthropic.com alone", "--mode base"]);
    assert_eq!(fs::read_to_string(folder.join("settings.json")).expect("read"), text);
    fs::remove_file(folder.join("settings.json")).expect("removed");
    let file = wired.user.path("home/.config/hotspare/config.json");
    fs::write(&file, json!({ "server": { "listen": wired.address.to_string(), "mode": "base" } }).to_string()).expect("written");
    refused(&["`server.mode` is `base`", "hotspare config set server.mode auto"]);
    // A service that was started so answers as one: what counts is what it does, not what is configured.
    wired.runs(&folder, &["service", "restart"]);
    fs::write(&file, json!({ "server": { "listen": wired.address.to_string(), "mode": "full" } }).to_string()).expect("written");
    refused(&["full mode does not work", "405", "hotspare service restart"]);
    assert!(!folder.join("settings.json").exists());
    wired.runs(&folder, &["service", "restart"]);
    wired.runs(&folder, &["install", "claude"]);
    assert!(settings(&folder)["env"]["HTTPS_PROXY"].is_string(), "by the configuration's word");
}

#[tokio::test]
async fn a_lost_receipt_leaves_nobody_stuck_in_full_mode_either() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let own = json!({ "model": "opus", "env": { "HTTPS_PROXY": "http://proxy.example:3128" } });
    fs::write(folder.join("settings.json"), own.to_string()).expect("written");
    wired.runs(&folder, &["install", "claude", "--mode", "full"]);
    fs::remove_file(wired.state().join("wiring.json")).expect("lost");
    assert_eq!(wired.run(&folder, &["uninstall", "--check"], None).status.code(), Some(1));
    offline(&wired, &folder, &["uninstall"]);
    let left = settings(&folder);
    let env = &left["env"];
    assert_eq!((&env["HTTPS_PROXY"], &env["https_proxy"]), (&json!("http://proxy.example:3128"), &json!("http://proxy.example:3128")));
    let ours = ["ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS", "NODE_EXTRA_CA_CERTS"];
    assert!(ours.iter().all(|name| env.get(*name).is_none()) && left.get("hooks").is_none() && left["model"] == "opus", "{left}");
}

#[tokio::test]
async fn env_prints_full_mode_for_who_asks_for_it() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let lines = wired.runs(&folder, &["env", "--mode", "full"]);
    let token = fs::read_to_string(wired.state().join("token")).expect("made");
    assert!(lines.contains(&format!("export HTTPS_PROXY='http://hotspare:{token}@{}'", wired.address)), "{lines}");
    let ca = wired.state().join("ca/ca.pem");
    assert!(lines.contains(&format!("export NODE_EXTRA_CA_CERTS='{}'", ca.display())) && ca.exists(), "{lines}");
    assert!(lines.contains("unset ANTHROPIC_BASE_URL\nunset ANTHROPIC_CUSTOM_HEADERS\n"), "to an SDK an empty one is an address: {lines}");
    assert!(wired.runs(&folder, &["env", "--mode", "full", "--shell", "fish"]).contains("set -e ANTHROPIC_BASE_URL"));
    let full: Value = serde_json::from_str(&wired.runs(&folder, &["env", "--mode", "full", "--json"])).expect("JSON");
    assert_eq!((&full["version"], &full["unset"]), (&json!(1), &json!(["ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"])));
    assert!(full["env"]["HTTPS_PROXY"].is_string() && full["env"].get("ANTHROPIC_BASE_URL").is_none(), "{full}");
    for mode in [&[][..], &["--mode", "base"], &["--mode", "auto"]] {
        let base: Value = serde_json::from_str(&wired.runs(&folder, &[&["env", "--json"], mode].concat())).expect("JSON");
        assert!(base["env"]["ANTHROPIC_BASE_URL"].is_string() && base["env"].get("HTTPS_PROXY").is_none() && base.get("unset").is_none());
    }
}

/// `uninstall` as it is with nothing running: the list of what runs is elsewhere meanwhile. It then need not wait for sessions to follow.
fn offline(wired: &Wired, folder: &Path, arguments: &[&str]) {
    let (instances, aside) = (wired.state().join("instances"), wired.state().join("aside"));
    fs::rename(&instances, &aside).expect("moved");
    wired.runs(folder, arguments);
    fs::rename(&aside, &instances).expect("moved back");
}

fn offline_killed(wired: &Wired, folder: &Path, arguments: &[&str], step: u32) -> bool {
    let (instances, aside) = (wired.state().join("instances"), wired.state().join("aside"));
    fs::rename(&instances, &aside).expect("moved");
    let success = wired.run(folder, arguments, Some(step)).status.success();
    fs::rename(&aside, &instances).expect("moved back");
    success
}

fn settings(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("settings.json")).expect("read")).expect("JSON")
}

#[tokio::test]
async fn what_the_settings_get_is_what_the_client_needs_and_no_credential() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let own = json!({ "env": { "ANTHROPIC_CUSTOM_HEADERS": "x-team: 7" }, "statusLine": { "type": "command", "command": "echo 'mine'", "padding": 1 } });
    fs::write(folder.join("settings.json"), own.to_string()).expect("written");
    let said = wired.runs(&folder, &["install"]);
    let now = settings(&folder);
    let token = fs::read_to_string(wired.state().join("token")).expect("made");
    assert_eq!(now["env"]["ANTHROPIC_BASE_URL"], format!("http://{}", wired.address));
    assert_eq!(now["env"]["ANTHROPIC_CUSTOM_HEADERS"], format!("x-team: 7\nx-hotspare-token: {token}"));
    assert_eq!((&now["env"]["ENABLE_TOOL_SEARCH"], &now["env"]["NO_PROXY"]), (&json!("true"), &json!("127.0.0.1,localhost")));
    assert!(now["env"].get("ANTHROPIC_API_KEY").is_none() && now["env"].get("ANTHROPIC_AUTH_TOKEN").is_none(), "{now}");
    let line = now["statusLine"]["command"].as_str().expect("a command");
    assert!(line.ends_with(r" statusline --wrap 'echo '\''mine'\'''") && now["statusLine"]["padding"] == 1, "{line}");
    let hook = &now["hooks"]["SessionStart"][0]["hooks"][0];
    assert!(hook["command"].as_str().is_some_and(|command| command.contains("hook session-start")), "{hook}");
    assert!(!said.contains(&token) && said.contains("undo: `hotspare uninstall`"), "{said}");
    assert_eq!(fs::metadata(wired.state().join("wiring.json")).expect("kept").permissions().mode() & 0o777, 0o600);
    assert!(wired.run(&folder, &["uninstall", "--all", "--check"], None).status.code() == Some(1));
    wired.runs(&folder, &["install", "--check"]);
    // The service runs: sessions follow before it goes, and everything is as it was.
    wired.runs(&folder, &["uninstall"]);
    assert_eq!(settings(&folder), own);
    let proof = wired.runs(&folder, &["uninstall", "--all", "--check"]);
    assert!(proof.contains("no residue"), "{proof}");
}

#[tokio::test]
async fn a_dry_run_shows_each_key_and_changes_nothing() {
    let user = User::new().config(r#"{ "server": { "listen": "127.0.0.1:4217" } }"#);
    let before = user.everything();
    let planned = user.runs(&["install", "--dry-run"]).await;
    assert_eq!(planned.code, Some(0), "{planned:?}");
    for key in ["+ env.ANTHROPIC_BASE_URL", "+ env.ANTHROPIC_CUSTOM_HEADERS", "+ hooks.SessionStart[]", "+ statusLine", "dry run"] {
        assert!(planned.stdout.contains(key), "{key} is not in:\n{}", planned.stdout);
    }
    assert_eq!(user.everything(), before);
    assert_eq!(user.runs(&["install", "--check"]).await.code, Some(1));
    let uninstalled = user.runs(&["uninstall"]).await;
    assert_eq!((uninstalled.code, user.everything() == before), (Some(0), true), "{uninstalled:?}");
}

#[tokio::test]
async fn t3_nothing_is_written_where_nobody_or_a_stranger_listens() {
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = stranger.local_addr().expect("an address");
    let user = User::new().config(&json!({ "server": { "listen": address.to_string() } }).to_string());
    let squatting = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut heard = Vec::new();
        for stream in stranger.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 1024];
            let read = stream.read(&mut head).expect("read");
            heard.extend_from_slice(&head[..read]);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").expect("sent");
        }
        String::from_utf8(heard).expect("UTF-8")
    });
    user.runs(&["install", "claude"]).await.fails(1, &["another program listens on", "hint:"]);
    user.runs(&["service", "start"]).await.fails(1, &["another program listens on"]);
    let heard = squatting.join().expect("it heard");
    let token = user.local_token();
    assert!(heard.contains("x-hotspare-challenge") && !heard.contains(&token), "the token is told to nobody: {heard}");
    user.runs(&["install", "claude"]).await.fails(3, &["no hotspare listens", "hotspare service start"]);
    user.runs(&["env"]).await.fails(3, &["no hotspare listens"]);
    assert!(!user.path("home/.claude/settings.json").exists());
}

/// cc-switch #6017: a proxy that led to itself.
#[tokio::test]
async fn r59_our_own_address_is_no_provider_and_a_gateway_is_not_lost() {
    let loops = r#"{ "failover_policy": { "primary_profile": "a" }, "profiles": { "a": { "base_url": "http://127.0.0.1:4218" } }, "server": { "listen": "127.0.0.1:4218" } }"#;
    User::new().config(loops).runs(&["install"]).await.fails(5, &["HS0303", "hotspare's own listener"]);
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let text = r#"{"env":{"ANTHROPIC_BASE_URL":"https://gateway.example/llm"}}"#;
    fs::write(folder.join("settings.json"), text).expect("written");
    let refused = wired.run(&folder, &["install", "claude"], None);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("https://gateway.example/llm") && said.contains("hotspare init"), "{said}");
    assert_eq!(fs::read_to_string(folder.join("settings.json")).expect("read"), text);
}

#[tokio::test]
async fn what_somebody_has_changed_since_stays_and_is_listed() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    fs::write(folder.join("settings.json"), "{\n  \"model\": \"opus\"\n}\n").expect("written");
    wired.runs(&folder, &["install", "claude", "statusline"]);
    // The client writes its settings anew when a person changes something in it.
    let mut now = settings(&folder);
    now["permissions"] = json!({ "allow": ["Bash(ls)"] });
    now["env"]["ENABLE_TOOL_SEARCH"] = json!("auto");
    now["hooks"]["SessionStart"].as_array_mut().expect("a list").push(json!({ "hooks": [{ "type": "command", "command": "mine" }] }));
    fs::write(folder.join("settings.json"), serde_json::to_string(&now).expect("JSON")).expect("written");
    wired.runs(&folder, &["install", "claude", "statusline"]);
    assert_eq!(settings(&folder)["permissions"], now["permissions"]);
    let mut now = settings(&folder);
    now["env"]["CLAUDE_CODE_PROPAGATE_TRACEPARENT"] = json!("0");
    now["statusLine"]["command"] = json!("theirs");
    fs::write(folder.join("settings.json"), serde_json::to_string(&now).expect("JSON")).expect("written");
    let said = wired.runs(&folder, &["uninstall", "claude", "statusline"]);
    for left in ["! env.CLAUDE_CODE_PROPAGATE_TRACEPARENT  changed since by somebody else", "! statusLine  changed since"] {
        assert!(said.contains(left), "{left} is not in:\n{said}");
    }
    let left = settings(&folder);
    assert_eq!((&left["model"], &left["permissions"]), (&json!("opus"), &now["permissions"]));
    assert_eq!(left["env"], json!({ "ENABLE_TOOL_SEARCH": "auto", "CLAUDE_CODE_PROPAGATE_TRACEPARENT": "0" }));
    assert_eq!(left["hooks"]["SessionStart"], json!([{ "hooks": [{ "type": "command", "command": "mine" }] }]));
    assert_eq!(left["statusLine"]["command"], "theirs");
}

#[tokio::test]
async fn a_lost_receipt_leaves_nobody_stuck() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let own = json!({ "env": { "ANTHROPIC_CUSTOM_HEADERS": "x-team: 7" }, "statusLine": { "type": "command", "command": "echo 'mine'" } });
    fs::write(folder.join("settings.json"), own.to_string()).expect("written");
    wired.runs(&folder, &["install", "claude", "statusline"]);
    fs::remove_file(wired.state().join("wiring.json")).expect("lost");
    assert_eq!(wired.run(&folder, &["uninstall", "--check"], None).status.code(), Some(1));
    offline(&wired, &folder, &["uninstall"]);
    let left = settings(&folder);
    assert_eq!((&left["statusLine"], &left["env"]["ANTHROPIC_CUSTOM_HEADERS"]), (&own["statusLine"], &json!("x-team: 7")));
    assert!(left["env"].get("ANTHROPIC_BASE_URL").is_none() && left.get("hooks").is_none(), "{left}");
}

#[tokio::test]
async fn one_part_goes_and_the_others_stay() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let bashrc = wired.user.path("home/.bashrc");
    fs::write(&bashrc, "alias ll='ls -l'").expect("written");
    fs::write(folder.join("settings.json"), "{}").expect("written");
    wired.runs(&folder, &["install", "claude", "statusline", "shell"]);
    let block = fs::read_to_string(&bashrc).expect("read");
    assert!(block.starts_with("alias ll='ls -l'\n# >>> hotspare >>>") && block.ends_with("# <<< hotspare <<<\n"), "{block}");
    let mut bash = Command::new("bash");
    bash.args(["-c", ". ~/.bashrc; echo $ANTHROPIC_BASE_URL"]).env_clear();
    bash.env("HOME", wired.user.path("home")).env("PATH", std::env::var("PATH").expect("a path"));
    let sourced = bash.output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&sourced.stdout), format!("http://{}\n", wired.address));
    wired.runs(&folder, &["uninstall", "statusline"]);
    assert!(settings(&folder).get("statusLine").is_none() && settings(&folder)["env"]["ANTHROPIC_BASE_URL"].is_string());
    wired.runs(&folder, &["uninstall", "shell"]);
    assert_eq!(fs::read_to_string(&bashrc).expect("read"), "alias ll='ls -l'");
    offline(&wired, &folder, &["uninstall", "claude"]);
    assert_eq!(fs::read_to_string(folder.join("settings.json")).expect("read"), "{}");
}

#[tokio::test]
async fn an_editor_with_the_extension_is_wired_too() {
    let wired = Wired::new().await;
    let folder = wired.user.path("home/.claude");
    let editor = wired.user.path("home/.config/Code/User/settings.json");
    fs::create_dir_all(wired.user.path("home/.vscode/extensions/anthropic.claude-code-2.1.330")).expect("made");
    fs::create_dir_all(editor.parent().expect("a folder")).expect("made");
    let text =
        "{\n    // mine\n    \"claudeCode.environmentVariables\": [\n        { \"name\": \"FOO\", \"value\": \"bar\" },\n    ],\n}\n";
    fs::write(&editor, text).expect("written");
    wired.runs(&folder, &["install", "claude"]);
    let now = fs::read_to_string(&editor).expect("read");
    assert!(now.contains(&format!("{{ \"name\": \"ANTHROPIC_BASE_URL\", \"value\": \"http://{}\" }}", wired.address)), "{now}");
    assert!(now.contains("// mine") && now.contains("ANTHROPIC_CUSTOM_HEADERS"), "{now}");
    offline(&wired, &folder, &["uninstall", "claude"]);
    assert_eq!(fs::read_to_string(&editor).expect("read"), text);
    assert!(!folder.join("settings.json").exists(), "what we made is gone");
}
