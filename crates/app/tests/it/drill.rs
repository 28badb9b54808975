//! `hotspare drill`: every fault leaves its traces, on a service that runs and on none, and nobody real is asked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::user::{Ended, User, asks, ended, signal, signalled, wait_for};

const FAULTS: [&str; 9] = ["429", "5h", "529", "500", "401", "timeout", "reset", "slow", "midstream"];

/// Everything that a drill looks for in the end.
const PROOFS: [&str; 8] = ["answer", "why", "log", "metric", "status", "line", "notice", "undone"];

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
        let answers = |words: &'static str| Upstream::start(move |_| Script::new().sse().events(&text(words)).end());
        let (primary, spare) = (answers("primary").await.expect("started"), answers("spare").await.expect("started"));
        let user = User::new().pair(&primary.url(), &spare.url());
        Self { primary, spare, user }
    }

    async fn serving(&self) -> (Child, SocketAddr, String) {
        let (child, address, _) = self.user.serves().await;
        (child, address, self.user.local_token())
    }

    fn asked(&self) -> (usize, usize) {
        (self.primary.requests().len(), self.spare.requests().len())
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
    assert_eq!(proofs.iter().map(|proof| proof["name"].as_str().expect("a name")).collect::<Vec<_>>(), PROOFS, "{report}");
    for proof in proofs {
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
    let log = house.user.runs(&["logs"]).await.stdout;
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
    assert!(text.stdout.contains("Passed: 8 of 8") && text.stdout.contains("no token is spent"), "{text:?}");
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
    assert_eq!((drilled.code, drilled.stdout.lines().count()), (Some(0), FAULTS.len()), "{drilled:?}");
    for fault in FAULTS {
        assert!(drilled.stdout.lines().any(|line| line.contains(fault) && line.contains("8 of 8 held")), "{fault}: {drilled:?}");
    }
    assert_eq!(house.asked(), (0, 0));
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
