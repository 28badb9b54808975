//! `hotspare outage`: each party by its exit code, with real requests behind it; bounded, and without a word of a credential.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use hotspare_testkit::answers::text;
use hotspare_testkit::{Received, Script, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::user::{Ended, User, asks, signalled};

/// All probes run at the same time, three seconds each.
const BOUND: Duration = Duration::from_secs(8);

/// A status page that says so.
fn page(api: &str, login: &str) -> Script {
    let body = json!({
        "page": { "id": "made-up", "name": "Claude" }, "status": { "indicator": "none" }, "incidents": [],
        "components": [{ "name": "Claude API (api.anthropic.com)", "status": api }, { "name": "claude.ai", "status": login }],
    });
    Script::new().body(200, &[("content-type", "application/json")], body.to_string())
}

/// What the primary does when it is asked for an answer; to anything else it says 404.
fn primary(request: &Received, script: &Script) -> Script {
    if request.path() == "/v1/messages" { script.clone() } else { Script::not_found() }
}

/// Two providers, a status page and a user who has all of them.
struct House {
    primary: Upstream,
    spare: Upstream,
    page: Upstream,
    user: User,
}

impl House {
    async fn new(script: Script, page: Script) -> Self {
        let primary = Upstream::start(move |request| primary(request, &script)).await.expect("started");
        let spare = Upstream::start(|_| Script::new().sse().events(&text("spare")).end()).await.expect("started");
        let page = Upstream::start(move |_| page.clone()).await.expect("started");
        let user = User::new().pair(&primary.url(), &spare.url());
        Self { primary, spare, page, user }
    }

    /// Sends one request through a gateway that runs for it.
    async fn asks(&self) {
        let (child, address, _) = self.user.serves().await;
        let token = self.user.local_token();
        let headers = format!("x-hotspare-token: {token}\r\nx-api-key: sk-ant-test");
        asks(address, &headers, "{\"model\":\"claude-opus-5-5\",\"stream\":true}").await;
        assert_eq!(signalled(child, Signal::TERM).await.code, Some(0));
    }

    async fn outage(&self, arguments: &[&str]) -> Ended {
        let url = format!("{}/api/v2/summary.json", self.page.url());
        self.user.runs(&[&["outage", "--page", &url], arguments].concat()).await
    }

    async fn report(&self) -> (Option<i32>, Value) {
        let ended = self.outage(&["--json"]).await;
        (ended.code, serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}")))
    }
}

fn well() -> Script {
    Script::new().sse().events(&text("fine")).end()
}

#[tokio::test]
async fn each_party_has_its_exit_code() {
    let quota = || {
        let headers = [("anthropic-ratelimit-unified-status", "rejected"), ("anthropic-ratelimit-unified-5h-status", "rejected")];
        Script::new().body(429, &headers, r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#)
    };
    let operational = || page("operational", "operational");
    let cases = [
        ("well", well(), operational(), 0, "nobody", "all_well"),
        ("529", Script::error(529, "overloaded_error", "busy"), operational(), 7, "provider", "overloaded"),
        ("limit", quota(), operational(), 9, "account", "limit"),
        ("login", Script::error(401, "authentication_error", "no"), operational(), 9, "account", "login"),
        (
            "login outage",
            Script::error(401, "authentication_error", "no"),
            page("operational", "major_outage"),
            7,
            "provider",
            "login_outage",
        ),
        ("page is wrong", well(), page("major_outage", "major_outage"), 0, "nobody", "all_well"),
    ];
    for (name, script, page, code, party, cause) in cases {
        let house = House::new(script, page).await;
        house.asks().await;
        let (exit, report) = house.report().await;
        assert_eq!((exit, report["party"].as_str(), report["cause"].as_str()), (Some(code), Some(party), Some(cause)), "{name}: {report}");
        assert!(report["advice"].as_array().is_some_and(|advice| !advice.is_empty()), "{name}: {report}");
    }
}

/// The advice was to name a spare, which would have replaced the chain that was there.
#[tokio::test]
async fn total_failure_is_told_with_what_ends_it() {
    let house = House::new(Script::error(529, "overloaded_error", "busy"), page("operational", "operational")).await;
    let spare = Upstream::start(|_| Script::error(401, "authentication_error", "no")).await.expect("started");
    let user = User::new().pair(&house.primary.url(), &spare.url());
    let house = House { spare, user, ..house };
    let (child, address, _) = house.user.serves().await;
    let headers = format!("x-hotspare-token: {}\r\nx-api-key: sk-ant-test", house.user.local_token());
    asks(address, &headers, "{\"model\":\"claude-opus-5-5\",\"stream\":true}").await;
    let (code, report) = house.report().await;
    assert_eq!((code, &report["is_total"], &report["held"][0]["profile"]), (Some(7), &json!(true), &json!("backup")), "{report}");
    assert_eq!(report["verdict"], "work is overloaded, and no spare can stand in");
    let text = house.outage(&[]).await.stdout;
    assert!(text.contains("backup cannot stand in: 401") && !text.contains("secondary_profile") && !text.contains("nothing:"), "{text}");
    let why = house.user.runs(&["why"]).await.stdout;
    assert!(why.starts_with("✖ No profile could answer; the client got the refusal of work"), "{why}");
    let told: Value = serde_json::from_str(&house.user.runs(&["notices", "--json"]).await.stdout).expect("JSON");
    let text = told["notices"][0]["text"].as_str().expect("a text");
    assert!(
        text.starts_with("no profile could answer: work (529 overloaded), backup (401 authentication); work is tried again in"),
        "{text}"
    );
    assert_eq!((told["notices"].as_array().map(Vec::len), &told["notices"][0]["to"]), (Some(1), &Value::Null));
    assert_eq!(signalled(child, Signal::TERM).await.code, Some(0));
}

#[tokio::test]
async fn t6_probes_are_bounded_and_say_nothing_of_the_user() {
    // Connected, and then silence: the page too.
    let house = House::new(well(), Script::new().hang()).await;
    let begun = Instant::now();
    let (_, report) = house.report().await;
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert_eq!(report["seen"]["page"], "unreachable", "{report}");
    let requests: Vec<Received> = [&house.primary, &house.spare, &house.page].iter().flat_map(|one| one.requests()).collect();
    assert!(requests.len() >= 3, "all of them were looked at");
    for request in requests {
        for name in ["authorization", "x-api-key", "cookie", "x-hotspare-token"] {
            assert_eq!(request.header(name), None, "{name}");
        }
        assert!(request.path() == "/" || request.path() == "/api/v2/summary.json", "{}: no model is asked", request.path());
    }
}

#[tokio::test]
async fn a_local_server_that_does_not_run_is_the_user_s_own() {
    let gone = hotspare_testkit::refused_addr().expect("a port");
    let house = House::new(well(), page("operational", "operational")).await;
    let config = json!({
        "failover_policy": { "primary_profile": "local" },
        "profiles": { "local": { "platform": "anthropic_compatible", "base_url": format!("http://{gone}"), "auth": { "env": "PATH" }, "models": { "*": "m" } } },
    });
    let house = House { user: User::new().config(&config.to_string()), ..house };
    let (exit, report) = house.report().await;
    assert_eq!((exit, report["cause"].as_str()), (Some(8), Some("local_server")), "{report}");
    let text = house.outage(&[]).await;
    assert!(text.stdout.contains("Your side") && text.stdout.contains("start the server that `local` names"), "{text:?}");
}

#[tokio::test]
async fn a_page_is_asked_once_a_minute_and_a_wrong_one_is_no_news() {
    let house = House::new(well(), page("degraded_performance", "operational")).await;
    for _ in 0..3 {
        let (exit, report) = house.report().await;
        assert_eq!((exit, report["seen"]["page"]["says"]["api"].as_str()), (Some(0), Some("degraded")), "{report}");
    }
    assert_eq!(house.page.requests().len(), 1);
    let mode = std::fs::metadata(house.user.path("home/.local/state/hotspare/status-page.json")).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for wrong in [Script::new().body(200, &[("content-type", "text/html")], "<html>"), Script::error(503, "api_error", "no")] {
        let house = House::new(well(), wrong).await;
        let (exit, report) = house.report().await;
        assert_eq!((exit, report["seen"]["page"].as_str()), (Some(0), Some("wrong")), "{report}");
        assert!(report["page"]["trouble"].as_str().is_some(), "{report}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let user = User::new();
    user.runs(&["outage", "--page", "http://status.example/"]).await.fails(2, &["`https` is needed"]);
    user.config("{").runs(&["outage"]).await.fails(5, &["config.json"]);
}
