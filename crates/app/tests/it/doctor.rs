//! `hotspare doctor`: finds what is wrong, says what to do, and mends only what is safe to mend.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};

use crate::user::{Ended, User};

/// Two providers that are well and a user who has both.
struct House {
    primary: Upstream,
    spare: Upstream,
    user: User,
}

impl House {
    async fn new() -> Self {
        let answers = |words: &'static str| Upstream::start(move |_| Script::new().sse().events(&text(words)).end());
        let (primary, spare) = (answers("primary").await.expect("started"), answers("spare").await.expect("started"));
        let user = User::new().keyed_pair(&primary.url(), &spare.url());
        // A client that says its version and nothing else.
        let claude = user.path("bin/claude");
        fs::write(&claude, "#!/bin/sh\necho '2.1.330 (Claude Code)'\n").expect("written");
        Self { primary, spare, user }
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.user.path(name)).expect("made").permissions().mode() & 0o777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.user.path(name), Permissions::from_mode(mode)).expect("set");
    }
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

async fn doctor(user: &User, arguments: &[&str]) -> (Option<i32>, Value) {
    let ended = user.runs(&[&["doctor", "--json"], arguments].concat()).await;
    assert_eq!(ended.stderr, "", "{ended:?}");
    (ended.code, report(&ended))
}

/// The checks of one name that are not well.
fn bad(report: &Value, name: &str) -> Vec<Value> {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().filter(|check| check["name"] == name && (check["mark"] == "fail" || check["mark"] == "warn")).cloned().collect()
}

/// One of a scheme that nobody knows was passed by in silence.
#[tokio::test]
async fn a_proxy_of_an_unknown_kind_is_told_at_the_start_and_by_doctor_without_its_password() {
    let house = House::new().await;
    let user = house.user.env("HTTPS_PROXY", "socks4://me:secret@proxy.corp:1080");
    let (code, told) = doctor(&user, &[]).await;
    let told = &bad(&told, "proxy")[0];
    assert!(code == Some(1) && told["found"].as_str().is_some_and(|found| found.contains("`socks4` cannot be used")), "{told}");
    let ran = user.runs(&["run", "--", "true"]).await;
    assert!(ran.code == Some(0) && ran.stderr.contains("`socks4` cannot be used; http, https, socks5 and socks5h can"), "{ran:?}");
    assert!(!told.to_string().contains("secret") && !ran.stderr.contains("secret"), "{ran:?}");
}

#[tokio::test]
async fn a_hook_that_cannot_be_run_is_told_before_it_is_needed() {
    let house = House::new().await;
    let file = house.user.path("home/.config/hotspare/config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).expect("written")).expect("JSON");
    let calls = |program: &str| json!([{ "hooks": [{ "type": "command", "command": [program] }] }]);
    config["hooks"] =
        json!({ "PreFailover": calls("~/bin/veto"), "PostFailover": calls("no-such-program-of-ours"), "Exhausted": calls("true") });
    fs::write(&file, config.to_string()).expect("written");
    fs::create_dir_all(house.user.path("home/bin")).expect("made");
    fs::write(house.user.path("home/bin/veto"), "#!/bin/sh\nexit 2\n").expect("written");
    for (mode, words) in [(0o644, "chmod +x"), (0o777, "chmod go-w")] {
        house.set_mode("home/bin/veto", mode);
        let (code, report) = doctor(&house.user, &[]).await;
        let told = bad(&report, "hooks");
        assert_eq!((code, told.len()), (Some(1), 2), "{report}");
        assert!(told[0]["mark"] == "fail" && told[0]["found"].as_str().is_some_and(|found| found.contains(words)), "{told:?}");
        assert_eq!((&told[0]["command"], &told[1]["mark"]), (&json!("hotspare hook test PreFailover"), &json!("warn")));
    }
    house.set_mode("home/bin/veto", 0o755);
    let (code, report) = doctor(&house.user, &[]).await;
    assert_eq!((code, bad(&report, "hooks").len()), (Some(0), 1), "{report}");
}

#[tokio::test]
async fn what_is_well_is_told_as_well_and_nothing_is_changed() {
    let house = House::new().await;
    let before = house.user.everything();
    let (code, report) = doctor(&house.user, &[]).await;
    assert_eq!((code, &report["failed"], &report["warned"]), (Some(0), &json!(0), &json!(0)), "{report}");
    assert_eq!(house.user.everything(), before, "looking changes nothing");
    // Each host was looked at, and nobody was asked for an answer.
    for provider in [&house.primary, &house.spare] {
        assert!(!provider.requests().is_empty() && provider.messages().is_empty());
    }
    let told: BTreeSet<&str> = report["checks"].as_array().expect("checks").iter().filter_map(|check| check["name"].as_str()).collect();
    let docs = include_str!("../../../../docs/doctor.md");
    for name in &told {
        assert!(docs.contains(&format!("\n## {name}\n")), "{name} has no place in docs/doctor.md");
    }
    assert!(told.len() >= 17, "{told:?}");
    let names: BTreeSet<&str> = report["features"].as_array().expect("features").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains("MCP tool search") && names.contains("Remote Control"), "{names:?}");
}

#[tokio::test]
async fn what_is_wrong_comes_with_its_cause_a_command_and_a_place_to_read() {
    let house = House::new().await;
    let settings =
        json!({ "env": { "ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_CUSTOM_HEADERS": "x-hotspare-token: hs-gone" } });
    let user = house
        .user
        .env("BACKUP_KEY", "")
        .env("ANTHROPIC_API_KEY", "sk-ant-test-doctor")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .file("home/.claude/.credentials.json", "{}")
        .file("home/.claude/settings.json", &settings.to_string())
        .file("work/.claude/settings.json", r#"{ "env": { "ANTHROPIC_AUTH_TOKEN": "sk-evil" } }"#);
    let (code, report) = doctor(&user, &[]).await;
    assert_eq!(code, Some(1), "{report}");
    for (name, words) in [
        ("credentials", "BACKUP_KEY"),
        ("wiring", "nothing of hotspare listens there"),
        ("override", "ANTHROPIC_AUTH_TOKEN"),
        ("key", "ANTHROPIC_API_KEY"),
        ("proxy", "HTTP_PROXY"),
    ] {
        let checks = bad(&report, name);
        assert!(checks.iter().any(|check| check.to_string().contains(words)), "{name}: {report}");
        for check in checks {
            assert!(check["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{check}");
            assert!(check["command"].as_str().is_some_and(|command| !command.is_empty()), "{check}");
            assert_eq!(check["docs"], format!("docs/doctor.md#{name}"));
        }
    }
    let shown = user.runs(&["doctor"]).await;
    for secret in ["sk-ant-test-doctor", "sk-evil", "hs-gone"] {
        assert!(!report.to_string().contains(secret) && !shown.stdout.contains(secret), "{secret}");
    }
    assert!(shown.stdout.contains("to be mended") && shown.stdout.lines().count() <= 60, "{shown:?}");
    let all = user.runs(&["doctor", "--all"]).await;
    assert!(all.stdout.contains("✔ disk") && !shown.stdout.contains("✔ disk"), "what is well is one line unless asked for: {all:?}");
}

#[tokio::test]
async fn t9_fix_takes_from_others_what_is_the_user_s_own_and_nothing_else() {
    let house = House::new().await;
    house.user.runs(&["drill", "529"]).await;
    let (state, ledger, config) =
        ("home/.local/state/hotspare", "home/.local/state/hotspare/ledger.db", "home/.config/hotspare/config.json");
    house.set_mode(state, 0o755);
    house.set_mode(ledger, 0o644);
    house.set_mode(config, 0o666);
    house.set_mode("home/.claude", 0o777);
    let (code, report) = doctor(&house.user, &[]).await;
    assert_eq!((code, bad(&report, "files").len()), (Some(1), 1), "{report}");
    assert_eq!(bad(&report, "files")[0]["command"], "hotspare doctor --fix");
    assert_eq!(house.mode(ledger), 0o644, "nothing without being asked");
    let (code, report) = doctor(&house.user, &["--fix"]).await;
    assert_eq!((code, bad(&report, "files").len()), (Some(0), 0), "{report}");
    assert_eq!((house.mode(state), house.mode(ledger), house.mode(config)), (0o700, 0o600, 0o644));
    assert_eq!(house.mode("home/.claude"), 0o777, "that is another program's");
    let fixed =
        report["checks"].as_array().expect("checks").iter().flat_map(|check| check["fixed"].as_array().cloned().unwrap_or_default());
    let fixed: Vec<String> = fixed.filter_map(|text| text.as_str().map(ToOwned::to_owned)).collect();
    assert!(fixed.iter().any(|text| text.contains("mode 644 is now 600; undo: chmod 644 ")), "{fixed:?}");
    assert!(fixed.len() >= 3, "{fixed:?}");
}

#[tokio::test]
async fn links_in_the_state_folder_are_not_followed() {
    let house = House::new().await;
    house.user.runs(&["drill", "529"]).await;
    let user = house.user.file("home/mine", "open to all");
    fs::set_permissions(user.path("home/mine"), Permissions::from_mode(0o644)).expect("set");
    std::os::unix::fs::symlink(user.path("home/mine"), user.path("home/.local/state/hotspare/link")).expect("linked");
    doctor(&user, &["--fix"]).await;
    assert_eq!(fs::metadata(user.path("home/mine")).expect("there").permissions().mode() & 0o777, 0o644);
}

#[tokio::test]
async fn a_broken_configuration_is_named_and_the_rest_is_looked_at() {
    let user = User::new().config("{ \"profiles\": ");
    let (code, report) = doctor(&user, &[]).await;
    assert_eq!((code, bad(&report, "config").len()), (Some(5), 1), "{report}");
    let told = report["checks"].to_string();
    assert!(told.contains("\"disk\"") && told.contains("\"wiring\""), "{report}");
}

#[tokio::test]
async fn nobody_to_take_over_and_a_port_that_is_somebody_else_s_are_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let house = House::new().await;
    let config = json!({
        "failover_policy": { "primary_profile": "work" }, "profiles": { "work": { "base_url": house.primary.url() } },
        "server": { "listen": taken.local_addr().expect("an address").to_string() },
    });
    let (code, report) = doctor(&User::new().config(&config.to_string()), &[]).await;
    assert_eq!(code, Some(1), "{report}");
    assert!(bad(&report, "chain").iter().any(|check| check["cause"].to_string().contains("no spare")), "{report}");
    assert!(bad(&report, "service").iter().any(|check| check["found"].to_string().contains("another program listens")), "{report}");
}

#[tokio::test]
async fn a_spare_without_a_ceiling_is_named() {
    let house = House::new().await;
    let budget = async || {
        let (_, report) = doctor(&house.user, &[]).await;
        report["checks"].as_array().expect("checks").iter().find(|check| check["name"] == "budget").expect("told").clone()
    };
    let open = budget().await;
    assert!(
        open["mark"] == "note" && open["found"].to_string().contains("backup") && !open["found"].to_string().contains("work"),
        "{open}"
    );
    let command = open["command"].as_str().expect("a command").strip_prefix("hotspare ").expect("ours").to_owned();
    let done = house.user.runs(&command.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(done.code, Some(0), "what doctor says to type works: {done:?}");
    assert_eq!(budget().await["mark"], "ok");
}

#[tokio::test]
async fn a_drill_is_the_proof_and_is_told_as_one() {
    let house = House::new().await;
    let drill = async || {
        let (_, report) = doctor(&house.user, &[]).await;
        report["checks"].as_array().expect("checks").iter().find(|check| check["name"] == "drill").expect("told").clone()
    };
    assert_eq!(drill().await["mark"], "note");
    house.user.runs(&["drill", "500"]).await;
    let told = drill().await;
    assert!(told["mark"] == "ok" && told["found"].to_string().contains("(500) went to backup"), "{told}");
}

#[tokio::test]
async fn what_install_has_put_in_and_somebody_has_changed_is_told() {
    let house = House::new().await;
    let listen = hotspare_testkit::refused_addr().expect("a port").to_string();
    let config: Value =
        serde_json::from_slice(&fs::read(house.user.path("home/.config/hotspare/config.json")).expect("read")).expect("JSON");
    let mut config = config;
    config["server"]["listen"] = json!(listen);
    let user = house.user.config(&config.to_string());
    let told = async || {
        let (_, report) = doctor(&user, &[]).await;
        report["checks"].as_array().expect("checks").iter().filter(|check| check["name"] == "install").cloned().collect::<Vec<_>>()
    };
    assert!(told().await[0]["found"].to_string().contains("nothing of hotspare"), "{:?}", told().await);
    let installed = user.runs(&["install", "statusline"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    let well = told().await;
    assert!(well.len() == 1 && well[0]["mark"] == "ok" && well[0]["found"].to_string().contains("status line"), "{well:?}");
    let file = user.path("home/.claude/settings.json");
    let text = fs::read_to_string(&file).expect("read");
    fs::write(&file, text.replace("statusline", "statusline --mine")).expect("written");
    let changed = told().await;
    assert!(changed[0]["mark"] == "warn" && changed[0]["found"].to_string().contains("not as it was put in"), "{changed:?}");
    fs::remove_file(&file).expect("removed");
    assert!(told().await[0]["found"].to_string().contains("is gone"), "{:?}", told().await);
}

/// A service that ends with the test.
struct Serving(std::path::PathBuf);

impl Drop for Serving {
    fn drop(&mut self) {
        let mut stop = std::process::Command::new(env!("CARGO_BIN_EXE_hotspare"));
        let _ = stop.args(["service", "stop"]).env_clear().env("HOME", &self.0).output();
    }
}

/// claude-code #10458: certificates that the client is told of and does not have.
#[tokio::test]
async fn t21_in_full_mode_the_authority_its_file_and_a_handshake_are_looked_at_and_mended() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let user = User::new().config(&json!({ "server": { "listen": address.to_string() } }).to_string());
    let _serving = Serving(user.path("home"));
    let (_, before) = doctor(&user, &[]).await;
    assert_eq!((&before["led"], bad(&before, "full-mode").len()), (&json!("base"), 0), "not in use, and nothing made: {before}");
    let installed = user.runs(&["install", "claude", "service", "--mode", "full"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    let (_, report) = doctor(&user, &[]).await;
    let found = |report: &Value| {
        let checks = report["checks"].as_array().expect("checks").clone();
        checks.iter().filter(|check| check["name"] == "full-mode" || check["name"] == "wiring").cloned().collect::<Vec<_>>()
    };
    let all = found(&report);
    assert!(all.len() == 4 && all.iter().all(|check| check["mark"] == "ok"), "{all:?}");
    assert!(all.iter().any(|check| check["found"].as_str().is_some_and(|found| found.contains("shows a certificate"))), "{all:?}");
    assert_eq!(report["led"], "full");
    assert!(report["features"].as_array().expect("features").iter().all(|feature| feature["on"] == true), "{report}");
    let (key, ca) = (user.path("home/.local/state/hotspare/ca/authority.json"), user.path("home/.local/state/hotspare/ca/ca.pem"));
    let first = fs::read_to_string(&ca).expect("made");
    // What others could have read is replaced, and not only closed.
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("loosened");
    let (code, report) = doctor(&user, &[]).await;
    let told = bad(&report, "full-mode");
    assert!(code == Some(1) && told[0]["found"].as_str().is_some_and(|found| found.contains("can be read by others")), "{report}");
    assert_eq!(told[0]["command"], "hotspare doctor --fix");
    let (_, fixed) = doctor(&user, &["--fix"]).await;
    assert_eq!(bad(&fixed, "full-mode"), Vec::<Value>::new(), "the service shows the new one: {fixed}");
    assert!(fixed.to_string().contains("a new authority was made"), "{fixed}");
    assert_eq!(fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
    let second = fs::read_to_string(&ca).expect("made");
    assert_ne!(first, second);
    // The client's file is another's certificate.
    fs::write(&ca, &first).expect("written");
    let (_, report) = doctor(&user, &[]).await;
    let told = bad(&report, "full-mode").iter().map(|check| check["found"].to_string()).collect::<Vec<_>>().join("; ");
    assert!(told.contains("does not hold this machine's certificate") && told.contains("a handshake through"), "{told}");
    let (_, fixed) = doctor(&user, &["--fix"]).await;
    assert_eq!((bad(&fixed, "full-mode").len(), fs::read_to_string(&ca).expect("there") == second), (0, true), "{fixed}");
    // A file that is not ours is not written.
    let settings = user.path("home/.claude/settings.json");
    let text = fs::read_to_string(&settings).expect("there");
    let other = user.path("home/other.pem");
    fs::write(&other, "").expect("written");
    fs::write(&settings, text.replace(&ca.display().to_string(), &other.display().to_string())).expect("written");
    let (_, report) = doctor(&user, &["--fix"]).await;
    assert_eq!(
        (&bad(&report, "full-mode")[0]["command"], fs::read_to_string(&other).expect("there").len()),
        (&json!("hotspare install claude"), 0)
    );
    fs::write(&settings, text).expect("written");
    assert_eq!(user.runs(&["service", "stop"]).await.code, Some(0));
    let (code, report) = doctor(&user, &[]).await;
    let told = bad(&report, "wiring");
    assert!(code == Some(1) && told[0]["cause"] == "nothing of hotspare listens there: no session gets out", "{report}");
}
