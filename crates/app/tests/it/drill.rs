//! `hotspare drill`: every fault leaves its traces, on a service that runs and on none, and nobody real is asked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hotspare_testkit::{Script, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::user::{Ended, User, asks, ended, free_answer, provider, signal, signalled, wait_for};

const FAULTS: [&str; 9] = ["429", "5h", "529", "500", "401", "timeout", "reset", "slow", "midstream"];

/// Everything that a drill looks for in the end.
const PROOFS: [&str; 8] = ["answer", "why", "log", "metric", "status", "line", "notice", "undone"];

/// What it finds of the spares, and of the way to them.
const CHECKS: [&str; 3] = ["model", "spare", "client"];

/// Longest that anything may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two providers that are well and a user who has both.
struct House {
    primary: Upstream,
    spare: Upstream,
    user: User,
}

impl House {
    async fn new() -> Self {
        let (primary, spare) = (provider("primary").await, provider("spare").await);
        let user = User::new().pair(&primary.url(), &spare.url());
        Self { primary, spare, user }
    }

    async fn serving(&self) -> (Child, SocketAddr, String) {
        let (child, address, _) = self.user.serves().await;
        (child, address, self.user.local_token())
    }

    fn asked(&self) -> (usize, usize) {
        (self.primary.messages().len(), self.spare.messages().len())
    }

    async fn status(&self) -> Value {
        serde_json::from_str(&self.user.runs(&["status", "--json"]).await.stdout).expect("JSON")
    }
}

async fn metrics(address: SocketAddr, token: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let head = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nx-hotspare-token: {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answered");
    text
}

async fn stopped(child: Child) {
    assert_eq!(signalled(child, Signal::TERM).await.code, Some(0));
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

#[track_caller]
fn all_held(report: &Value, fault: &str) {
    let proofs = report["proofs"].as_array().expect("proofs");
    let names: Vec<&str> = proofs.iter().map(|proof| proof["name"].as_str().expect("a name")).collect();
    assert_eq!(names, [&PROOFS[..], &CHECKS[..]].concat(), "{report}");
    assert_eq!((&proofs[8]["held"], &proofs[9]["held"], &report["proved"]), (&json!(true), &json!(true), &json!(true)), "{report}");
    assert_eq!((&proofs[10]["held"], &proofs[10]["unproved"]), (&json!(false), &json!(true)), "no client goes there: {report}");
    for proof in &proofs[..PROOFS.len()] {
        assert_eq!(proof["held"], true, "{fault}: {proof}");
        assert!(proof["after_ms"].as_u64().is_some_and(|ms| ms <= 1000), "{fault}: within a second: {proof}");
    }
    assert_eq!((&report["passed"], &report["served_by"]), (&json!(true), &json!("backup")), "{fault}: {report}");
}

/// cc-switch #6022: a switch turned failover off while the log said that it was on. Whether it works is tried, not read.
#[tokio::test]
async fn r62_every_fault_is_proven_on_what_runs_and_asks_nobody() {
    let house = House::new().await;
    let (child, address, token) = house.serving().await;
    let before = house.status().await["gateways"][0]["status"]["profiles"].clone();
    for fault in FAULTS {
        let drilled = house.user.runs(&["drill", fault, "--json"]).await;
        assert_eq!((drilled.code, &*drilled.stderr), (Some(0), ""), "{fault}: {drilled:?}");
        let report = report(&drilled);
        all_held(&report, fault);
        assert_eq!((&report["gateway"], report["address"].as_str()), (&json!("serve"), Some(&*address.to_string())), "{fault}");
        let id = report["exchanges"].as_array().and_then(|ids| ids.last()).and_then(Value::as_str).expect("an id");
        let why = house.user.runs(&["why", id]).await.stdout;
        assert!(why.contains("drill") && why.contains("all of it was played") && why.contains("backup"), "{fault}: {why}");
        let record: Value = serde_json::from_str(&house.user.runs(&["why", id, "--json"]).await.stdout).expect("JSON");
        assert_eq!(record["drill"], json!({ "fault": fault, "live": false }));
    }
    assert_eq!(house.asked(), (0, 0), "no provider was asked");
    let log = house.user.runs(&["logs"]).await;
    assert_eq!(log.stdout, "", "a drill's own requests are not listed: {log:?}");
    assert!(log.stderr.contains("requests of drills are not listed; add `--drills`"), "{log:?}");
    let last = house.user.runs(&["why"]).await;
    assert!(last.code == Some(1) && last.stderr.contains("no exchange is recorded"), "a drill is not the last request: {last:?}");
    let log = house.user.runs(&["logs", "--drills"]).await.stdout;
    for fault in FAULTS {
        assert!(log.contains(&format!("drill {fault}: ")), "{fault}: {log}");
    }
    let usage = house.user.runs(&["usage", "--json"]).await;
    assert!(!usage.stdout.contains("backup"), "a drill is no usage: {usage:?}");
    let status = house.status().await["gateways"][0]["status"].clone();
    assert_eq!((&status["profiles"], &status["drill"], &status["exchanges"]), (&before, &Value::Null, &json!(0)));
    let answer = asks(address, &format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test"), "{\"stream\":true}").await;
    assert!(answer.contains("x-hotspare-profile: work"), "{answer}");
    stopped(child).await;
}

#[tokio::test]
async fn with_nothing_running_one_is_started_for_it_and_leaves_no_trace_but_the_ledger() {
    let house = House::new().await;
    let drilled = house.user.runs(&["drill", "529", "--json"]).await;
    assert_eq!(drilled.code, Some(0), "{drilled:?}");
    let report = report(&drilled);
    all_held(&report, "529");
    assert_eq!((&report["gateway"], house.asked()), (&json!("drill"), (0, 0)));
    assert_eq!(house.user.runs(&["status"]).await.code, Some(3), "it has ended");
    let text = house.user.runs(&["drill", "401"]).await;
    assert!(
        text.stdout.contains("Passed: 10 of 10") && text.stdout.contains("Not proved: client") && text.stdout.contains("no token is spent"),
        "{text:?}"
    );
}

/// What a user and their programs see of every fault: each of the five is looked for by its own command, within a second of the answer.
#[tokio::test]
async fn every_fault_leaves_a_notice_a_log_row_a_metric_a_why_record_and_a_changed_status_line() {
    let house = House::new().await;
    let (child, address, token) = house.serving().await;
    let headers = format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test");
    let user = house.user.env("ANTHROPIC_BASE_URL", &format!("http://{address}"));
    let user = user.env("ANTHROPIC_CUSTOM_HEADERS", &format!("x-hotspare-token: {token}"));
    let says = async |arguments: &[&str]| user.runs(arguments).await.stdout;
    assert_eq!(says(&["statusline"]).await, "", "all is well");
    for fault in FAULTS {
        let mut drill = user.starts(&["drill", fault, "--live", "5"]);
        wait_for(drill.stderr.as_mut().expect("piped"), "It ends after that").await;
        // A client asks again after a cut.
        for _ in 0..2 {
            asks(address, &headers, "{\"stream\":true}").await;
        }
        let named = format!("drill {fault}: ");
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let is_told = |told: &Value| told["drill"]["fault"] == fault && told["to"] == "backup";
        let is_counted = |line: &str| line.contains("hotspare_drills_total{") && line.contains(&format!("fault=\"{fault}\""));
        tokio::join!(
            within_a_second(
                "a notice",
                async || says(&["notices", "--json"]).await,
                |text| { json(text)["notices"].as_array().is_some_and(|notices| notices.iter().any(is_told)) }
            ),
            within_a_second("a log row", async || says(&["logs"]).await, |text| text.contains(&named)),
            within_a_second("a metric", async || metrics(address, &token).await, |text| text.lines().any(is_counted)),
            within_a_second(
                "a why record",
                async || says(&["why", "--json"]).await,
                |text| { json(text)["drill"]["fault"] == fault && json(text)["served_by"] == "backup" }
            ),
            within_a_second(
                "a changed status line",
                async || says(&["statusline"]).await,
                |text| { text.contains(&named) && text.contains("backup") }
            ),
        );
        signal(&drill, Signal::INT);
        ended(drill).await;
    }
    stopped(child).await;
}

/// Looks until it is there.
async fn within_a_second(what: &str, look: impl AsyncFn() -> String, is_there: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    loop {
        let seen = look().await;
        if is_there(&seen) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{what} is not there: {seen}");
    }
}

/// Others work while it is tried: what their requests change is not the drill's.
#[tokio::test]
async fn requests_beside_it_do_not_make_it_fail() {
    let house = House::new().await;
    let (child, address, token) = house.serving().await;
    let headers = format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test");
    let mut drill = house.user.starts(&["drill", "slow", "--json"]);
    let mut asked = 0;
    while drill.try_wait().expect("it runs").is_none() {
        assert!(asks(address, &headers, "{\"stream\":true}").await.contains("x-hotspare-profile: work"));
        asked += 1;
    }
    let report = report(&ended(drill).await);
    all_held(&report, "slow");
    assert!(asked > 0 && house.asked() == (asked, 0), "{:?}", house.asked());
    stopped(child).await;
}

#[tokio::test]
async fn all_of_them_run_one_after_another() {
    let house = House::new().await;
    let drilled = house.user.runs(&["drill", "all"]).await;
    assert_eq!((drilled.code, drilled.stdout.lines().count()), (Some(0), FAULTS.len() + CHECKS.len()), "{drilled:?}");
    for fault in FAULTS {
        assert!(drilled.stdout.lines().any(|line| line.contains(fault) && line.contains("10 of 10 held")), "{fault}: {drilled:?}");
    }
    assert_eq!(house.asked(), (0, 0));
    assert_eq!(house.spare.requests().len(), 1, "the spare is tested once");
}

#[tokio::test]
async fn a_drill_without_a_spare_fails_and_says_what_is_missing() {
    let house = House::new().await;
    let alone = json!({ "failover_policy": { "primary_profile": "work" }, "profiles": { "work": { "base_url": house.primary.url() } } });
    let user = User::new().config(&alone.to_string());
    let drilled = user.runs(&["drill", "529"]).await;
    assert_eq!(drilled.code, Some(6), "{drilled:?}");
    assert!(drilled.stdout.contains("nobody stands behind work") && drilled.stdout.contains("secondary_profile"), "{drilled:?}");
    assert_eq!(house.asked(), (0, 0));
}

/// A chain in which no failover could ever happen passed 8 of 8: the drill asked for Claude, the client for its gateway's own model.
#[tokio::test]
async fn spare_without_the_clients_model_fails_the_drill() {
    let house = House::new().await;
    let unknown = Upstream::start(|request| match request.path() {
        "/v1/messages/count_tokens" => Script::error(404, "not_found_error", "model: glm-4.7"),
        _ => free_answer(request).unwrap_or_else(Script::not_found),
    });
    let unknown = unknown.await.expect("started");
    let settings = json!({ "env": { "ANTHROPIC_MODEL": "glm-4.7", "ANTHROPIC_DEFAULT_HAIKU_MODEL": "glm-4.5-air" } }).to_string();
    let with_map = |models: Value, spare: &str| {
        let config = json!({
            "failover_policy": { "primary_profile": "glm", "secondary_profile": "backup" },
            "profiles": {
                "glm": { "base_url": house.primary.url(), "auth": "client" },
                "backup": { "base_url": spare, "auth": { "env": "BACKUP_KEY" }, "models": models },
            },
        });
        let user = User::new().config(&config.to_string()).env("BACKUP_KEY", "sk-ant-test-backup");
        user.file("home/.claude/settings.json", &settings)
    };
    let drilled = with_map(json!({}), &unknown.url()).runs(&["drill", "529"]).await;
    assert_eq!(drilled.code, Some(1), "{drilled:?}");
    for words in ["glm-4.7: no spare takes it (backup would fail)", "it has no model `glm-4.7`", "Failed: 8 of 11 held"] {
        assert!(drilled.stdout.contains(words), "{words:?} is not in:\n{}", drilled.stdout);
    }
    let refused = with_map(json!({ "claude-*": "claude-sonnet-5-5", "*": null }), &house.spare.url()).runs(&["drill", "529"]).await;
    assert!(refused.code != Some(0) && refused.stdout.contains("its model map rejects the model"), "{refused:?}");
    let mapped = with_map(json!({ "*": "claude-sonnet-5-5" }), &house.spare.url()).runs(&["drill", "529"]).await;
    assert_eq!(mapped.code, Some(0), "{mapped:?}");
    assert!(mapped.stdout.contains("glm-4.5-air: backup as claude-sonnet-5-5"), "{mapped:?}");
}

/// A made-up key, and a host without an address: what a played answer cannot show.
#[tokio::test]
async fn spare_that_would_not_answer_fails_the_drill() {
    let primary = provider("primary").await;
    let dead = Upstream::start(|_| Script::error(401, "authentication_error", "invalid x-api-key")).await.expect("started");
    let drilled = User::new().pair(&primary.url(), &dead.url()).runs(&["drill", "529"]).await;
    assert_eq!(drilled.code, Some(1), "{drilled:?}");
    assert!(drilled.stdout.contains("backup: count_tokens failed: 401") && drilled.stdout.contains("Failed: 8 of 10 held"), "{drilled:?}");
    let gone = hotspare_testkit::refused_addr().expect("a port");
    let drilled = User::new().pair(&primary.url(), &format!("http://{gone}")).runs(&["drill", "529", "--json"]).await;
    let report = report(&drilled);
    assert_eq!((&report["passed"], &report["proved"], &report["checked"][0]["state"]), (&json!(false), &json!(false), &json!("failed")));
}

/// What the shell has or lacks says nothing of the process that serves.
#[tokio::test]
async fn drill_takes_credentials_of_the_service_not_of_the_shell() {
    let house = House::new().await;
    let (child, ..) = house.serving().await;
    let user = house.user.without("BACKUP_KEY");
    let proved = user.runs(&["drill", "529", "--json"]).await;
    assert_eq!((proved.code, &report(&proved)["proved"]), (Some(0), &json!(true)), "the service has the key: {proved:?}");
    stopped(child).await;
    let config = json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "backup" },
        "profiles": { "work": { "base_url": house.primary.url() }, "backup": { "base_url": house.spare.url(), "auth": { "file": "~/key" } } },
        "server": { "listen": "127.0.0.1:0" },
    });
    let user = User::new().config(&config.to_string()).file("home/key", "sk-ant-test-backup");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(user.path("home/key"), private).expect("mode set");
    let (child, ..) = user.serves().await;
    std::fs::remove_file(user.path("home/key")).expect("removed");
    let missing = user.runs(&["drill", "529", "--json"]).await;
    let words = report(&missing)["checked"][0]["words"].clone();
    assert!(words.as_str().is_some_and(|words| words.contains("no credential in the process that serves")), "{missing:?}");
    assert_eq!(missing.code, Some(1), "{missing:?}");
    stopped(child).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let user = User::new();
    user.runs(&["drill", "404"]).await.fails(2, &["there are 429, 5h, 529, 500, 401, timeout, reset, slow, midstream, and `all`"]);
    user.runs(&["drill", "all", "--live"]).await.fails(2, &["takes one fault"]);
    user.runs(&["drill", "529", "--live", "21"]).await.fails(2, &["21"]);
    user.runs(&["drill", "529", "--live"]).await.fails(3, &["nothing is running", "without `--live`"]);
    let house = House::new().await;
    house.user.runs(&["drill", "529", "--at", "wrok"]).await.fails(2, &["did you mean `work`?"]);
}

#[tokio::test]
async fn a_live_drill_waits_for_the_real_requests_and_tells_of_each() {
    let house = House::new().await;
    let (child, address, token) = house.serving().await;
    let mut drill = house.user.starts(&["drill", "529", "--live", "2", "--json"]);
    let mut stderr = drill.stderr.take().expect("piped");
    wait_for(&mut stderr, "It ends after that").await;
    let headers = format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test");
    let ask = || asks(address, &headers, "{\"stream\":true}");
    for _ in 0..2 {
        assert!(ask().await.contains("x-hotspare-profile: backup"));
    }
    assert!(ask().await.contains("x-hotspare-profile: work"), "the third is not touched");
    drill.stderr = Some(stderr);
    let report = report(&tokio::time::timeout(PATIENCE, ended(drill)).await.expect("it ends"));
    assert_eq!(
        (&report["passed"], report["exchanges"].as_array().map(Vec::len), &report["live"]),
        (&json!(true), Some(2), &json!(true)),
        "{report}"
    );
    assert_eq!(house.asked(), (1, 2));
    let status = house.status().await["gateways"][0]["status"].clone();
    assert_eq!((&status["drill"], &status["profiles"][0]["last_failure"]), (&Value::Null, &Value::Null), "{status}");
    stopped(child).await;
}

#[tokio::test]
async fn a_live_drill_that_is_interrupted_is_over() {
    let house = House::new().await;
    let (child, address, token) = house.serving().await;
    let mut drill = house.user.starts(&["drill", "500", "--live", "3", "--for", "10m"]);
    let mut stderr = drill.stderr.take().expect("piped");
    wait_for(&mut stderr, "It ends after that").await;
    signal(&drill, Signal::INT);
    let told = ended(drill).await;
    assert!(told.stdout.contains("No real request came"), "{told:?}");
    let answer = asks(address, &format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test"), "{\"stream\":true}").await;
    assert!(answer.contains("x-hotspare-profile: work"), "{answer}");
    stopped(child).await;
}
