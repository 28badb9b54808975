//! What was learned outlives the process, and no longer than its evidence; `reset` and `switch`, with gateways running and with none.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use hotspare_core::lasting::{LastingBench, LastingSwitch};
use hotspare_gateway::lasting::load;
use hotspare_store::{Change, Options, StateEntry, Store};
use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::user::{User, asks, ended, signal, signalled};

/// A primary whose usage window is used up for an hour, and a spare that answers; each with a key of its own.
pub(crate) struct World {
    pub(crate) user: User,
    pub(crate) primary: Upstream,
    pub(crate) spare: Upstream,
}

impl World {
    async fn new() -> Self {
        Self::with(|| {
            let reset = (now_ms() / 1000 + 3600).to_string();
            let headers = [
                ("anthropic-ratelimit-unified-status", "rejected"),
                ("anthropic-ratelimit-unified-reset", &*reset),
                ("anthropic-ratelimit-unified-5h-status", "rejected"),
                ("anthropic-ratelimit-unified-5h-utilization", "1.0"),
                ("anthropic-ratelimit-unified-5h-reset", &*reset),
            ];
            let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"usage limit"}}"#;
            Script::new().body(429, &headers, body)
        })
        .await
    }

    /// The primary refuses the account, which only a person or a reset ends.
    async fn forbidden() -> Self {
        Self::with(|| Script::error(403, "permission_error", "not allowed")).await
    }

    /// The primary answers so.
    pub(crate) async fn with(primary: impl Fn() -> Script + Send + Sync + 'static) -> Self {
        let primary = Upstream::start(move |_| primary()).await.expect("started");
        let spare = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
        let user = User::new().keyed_pair(&primary.url(), &spare.url());
        Self { user, primary, spare }
    }

    pub(crate) async fn serving(&self) -> (Child, SocketAddr) {
        let (child, address, _) = self.user.serves().await;
        (child, address)
    }

    pub(crate) async fn turn(&self, proxy: SocketAddr) -> String {
        let token = self.user.local_token();
        asks(proxy, &format!("x-hotspare-token: {token}"), r#"{"model":"claude-opus-5-5","stream":true}"#).await
    }

    /// Requests that reached the primary and the spare.
    pub(crate) fn asked(&self) -> (usize, usize) {
        (self.primary.messages().len(), self.spare.messages().len())
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.user.path("home/.local/state/hotspare"), Options::default())
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.user.runs(arguments).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).expect("JSON")
    }

    pub(crate) async fn status(&self) -> Value {
        self.json(&["status", "--json"]).await["gateways"][0]["status"].clone()
    }
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis()).expect("fits")
}

pub(crate) async fn stopped(child: Child) {
    assert_eq!(signalled(child, Signal::TERM).await.code, Some(0));
}

/// Looks again and again, for a while.
pub(crate) async fn comes(what: &str, is: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not come: {what}");
}

/// `CLIProxyAPI` #3368: what was known of a profile was gone after a restart.
#[tokio::test]
async fn r36_a_used_up_window_is_still_used_up_after_a_restart_and_after_a_kill() {
    let world = World::new().await;
    let (child, proxy) = world.serving().await;
    assert!(world.turn(proxy).await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.asked(), (1, 1));
    comes("the bench in the store", async || !load::<LastingBench>(&world.store()).is_empty()).await;
    signal(&child, Signal::KILL);
    ended(child).await;
    for turns in 2..4 {
        let (child, proxy) = world.serving().await;
        let work = &world.status().await["profiles"][0];
        assert_eq!((&work["state"], &work["because"]), (&json!("blocked"), &json!("quota_exhausted")), "before any request");
        assert_eq!((&work["windows"][0]["name"], &work["windows"][0]["used"]), (&json!("5h"), &json!(1.0)));
        let left = work["back_in_s"].as_u64().expect("a number");
        assert!((3500..=3630).contains(&left), "{left}");
        assert!(world.turn(proxy).await.starts_with("HTTP/1.1 200"));
        assert_eq!(world.asked(), (1, turns), "no request is wasted on it");
        stopped(child).await;
    }
}

#[tokio::test]
async fn a_bench_ends_at_its_time_whoever_learned_it() {
    let world = World::with(|| Script::new().sse().events(&text("fine")).end()).await;
    let until_ms = now_ms() + 2500;
    let value = json!({ "profile": "work", "family": null, "because": "quota_exhausted", "grip": "hard", "until_ms": until_ms });
    let entry = StateEntry { key: "work".to_owned(), value: value.to_string(), expires_at_ms: until_ms };
    let store = world.store();
    store.change("bench", vec![Change::Put(entry)]);
    drop(store);
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    assert_eq!(world.asked(), (0, 1));
    comes("the end of the bench", async || world.status().await["profiles"][0]["back_in_s"].is_null()).await;
    assert!(now_ms() >= until_ms);
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 1));
    stopped(child).await;
}

#[tokio::test]
async fn garbage_in_the_store_is_left_out() {
    let world = World::with(|| Script::new().sse().events(&text("fine")).end()).await;
    let store = world.store();
    for (kind, value) in [
        ("bench", "{"),
        ("breaker", "[]"),
        ("window", "\u{1b}"),
        ("switch", r#"{"profile":"nobody","until_ms":null,"ends_at_ms":18446744073709551615}"#),
    ] {
        let entry = StateEntry { key: "x".to_owned(), value: value.to_owned(), expires_at_ms: u64::MAX };
        store.change(kind, vec![Change::Put(entry)]);
    }
    drop(store);
    let (child, proxy) = world.serving().await;
    assert!(world.turn(proxy).await.starts_with("HTTP/1.1 200"));
    assert_eq!((world.asked(), &world.status().await["switch"]), ((1, 0), &Value::Null));
    stopped(child).await;
}

#[tokio::test]
async fn without_a_place_to_remember_it_serves_all_the_same_and_says_so() {
    let world = World::new().await;
    let world = World { user: world.user.file("home/.local/state/hotspare/ledger.db/in-the-way", ""), ..world };
    let (child, proxy) = world.serving().await;
    for _ in 0..3 {
        assert!(world.turn(proxy).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(world.asked(), (1, 3), "memory goes on");
    let status = world.user.runs(&["status"]).await;
    assert!(status.stdout.contains("\n  ledger `") && status.stdout.contains("kept in memory"), "{}", status.stdout);
    stopped(child).await;
}

/// `CLIProxyAPI` #5277, better-ccflare #391 #404: a bench that nobody could end by hand.
#[tokio::test]
async fn r30_reset_lets_a_running_gateway_ask_again() {
    let world = World::forbidden().await;
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 2));
    let told = world.user.runs(&["reset", "work"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stdout.contains(&format!("serve {proxy}: work may be asked again\nundo: ")), "{}", told.stdout);
    world.turn(proxy).await;
    assert_eq!(world.asked(), (2, 3));
    let told = world.json(&["reset", "--json"]).await;
    assert_eq!((&told["version"], &told["gateways"][0]["answer"]["freed"]), (&json!(1), &json!(["work"])));
    assert_eq!(world.json(&["reset", "backup", "--json"]).await["gateways"][0]["answer"]["freed"], json!([]));
    world.user.runs(&["reset", "wrok"]).await.fails(2, &["no profile is named `wrok`; did you mean `work`?"]);
    stopped(child).await;
}

/// The provider named the end of its window: a reset does not make it end sooner.
#[tokio::test]
async fn reset_keeps_used_up_windows_running_or_not() {
    let world = World::new().await;
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    let told = world.user.runs(&["reset"]).await;
    assert!(told.stdout.contains(": work stays blocked, its usage window resets at "), "{}", told.stdout);
    let answer = world.json(&["reset", "--json"]).await["gateways"][0]["answer"].clone();
    assert_eq!((&answer["freed"], &answer["kept"][0]["profile"]), (&json!([]), &json!("work")));
    let work = world.status().await["profiles"][0].clone();
    assert_eq!((&work["state"], &work["windows"][0]["status"]), (&json!("blocked"), &json!("rejected")), "{work}");
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 2), "the used up window is not tried");
    stopped(child).await;
    let told = world.user.runs(&["reset"]).await;
    assert!(told.stdout.starts_with("nothing is running; for the next start: work stays blocked"), "{}", told.stdout);
    assert_eq!(load::<LastingBench>(&world.store()).len(), 1);
}

#[tokio::test]
async fn reset_with_none_running_is_seen_by_the_next_start() {
    let world = World::forbidden().await;
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    stopped(child).await;
    world.user.runs(&["reset", "wrok"]).await.fails(2, &["did you mean `work`?"]);
    let told = world.user.runs(&["reset"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stdout.starts_with("nothing is running; for the next start: work may be asked again\nundo: "), "{}", told.stdout);
    assert!(load::<LastingBench>(&world.store()).is_empty());
    let (child, _) = world.serving().await;
    assert_eq!(world.status().await["profiles"][0]["state"], "serving");
    stopped(child).await;
}

#[tokio::test]
async fn reset_of_nothing_makes_nothing() {
    let world = World::new().await;
    let before = world.user.everything();
    let told = world.user.runs(&["reset"]).await;
    assert_eq!((told.code, told.stdout.lines().next()), (Some(0), Some("nothing is running; for the next start: nothing was benched")));
    assert_eq!(world.user.runs(&["switch", "auto"]).await.code, Some(0));
    assert_eq!(world.user.everything(), before);
}

#[tokio::test]
async fn switch_puts_a_profile_first_until_it_is_taken_back_or_over() {
    let world = World::with(|| Script::new().sse().events(&text("fine")).end()).await;
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 0));
    let told = world.user.runs(&["switch", "backup", "--for", "30m"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let switched = format!("serve {proxy}: backup is asked first for 30 min (before: whoever the chain says)");
    assert_eq!(told.stdout, format!("{switched}; the next request goes to backup\nundo: `hotspare switch auto`\n"));
    assert_eq!(world.status().await["serving"], "backup", "before the next request");
    let notices = world.json(&["notices", "--json"]).await;
    assert_eq!(notices["notices"][0]["text"], "backup is tried first from now on, in place of work (`hotspare switch`)");
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 1));
    let status = world.user.runs(&["status"]).await;
    assert!(status.stdout.contains("\n  switch backup is asked first for "), "{}", status.stdout);
    assert_eq!(world.status().await["switch"]["profile"], "backup");
    let told = world.json(&["switch", "auto", "--json"]).await;
    assert_eq!((&told["gateways"][0]["answer"]["profile"], &told["gateways"][0]["answer"]["before"]), (&Value::Null, &json!("backup")));
    world.turn(proxy).await;
    assert_eq!((world.asked(), &world.status().await["switch"]), ((2, 1), &Value::Null));
    world.user.runs(&["switch", "bakcup"]).await.fails(2, &["did you mean `backup`?"]);
    world.user.runs(&["switch", "backup", "--for", "0s"]).await.fails(2, &["`--for` is from 1s to 8d"]);
    world.user.runs(&["switch", "backup", "--for", "soon"]).await.fails(2, &["--for"]);
    // A short one is over by itself.
    world.json(&["switch", "backup", "--for", "1s", "--json"]).await;
    comes("the end of the switch", async || world.status().await["switch"].is_null()).await;
    assert_eq!(world.status().await["serving"], "work", "nothing was sent to the spare while it held");
    stopped(child).await;
}

#[tokio::test]
async fn switch_with_none_running_is_seen_by_the_next_start_and_outlives_it() {
    let world = World::with(|| Script::new().sse().events(&text("fine")).end()).await;
    world.user.runs(&["switch", "bakcup"]).await.fails(2, &["did you mean `backup`?"]);
    let told = world.user.runs(&["switch", "backup"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(
        told.stdout.starts_with("nothing is running; for the next start: backup is asked first until you take it back"),
        "{}",
        told.stdout
    );
    for turns in 1..3 {
        let (child, proxy) = world.serving().await;
        world.turn(proxy).await;
        assert_eq!(world.asked(), (0, turns));
        stopped(child).await;
    }
    let told = world.user.runs(&["switch", "auto"]).await;
    assert!(told.stdout.ends_with("(before: backup)\nundo: `hotspare switch backup`\n"), "{}", told.stdout);
    assert!(load::<LastingSwitch>(&world.store()).is_empty());
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 2));
    stopped(child).await;
}

/// Every field of the JSON stands in its published schema.
#[tokio::test]
async fn what_is_printed_is_what_is_published() {
    let world = World::new().await;
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    for (shape, command) in [
        ("pause", &["profile", "pause", "work", "--json"][..]),
        ("status", &["status", "--json"]),
        ("resume", &["profile", "resume", "--json"]),
        ("reset", &["reset", "--json"]),
        ("switch", &["switch", "backup", "--json"]),
    ] {
        let printed = world.json(command).await;
        let file = format!("{}/../../docs/{shape}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let published: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("published")).expect("JSON");
        assert_eq!(world.user.runs(&["schema", shape]).await.stdout.trim(), serde_json::to_string_pretty(&published).expect("JSON"));
        assert_described(&published, &published, &printed, shape);
    }
    stopped(child).await;
}

pub(crate) fn assert_described(root: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(&reference[1..]).expect("it leads somewhere"),
        None => schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null")).unwrap_or(schema),
    };
    let schema = schema["$ref"].as_str().map_or(schema, |reference| root.pointer(&reference[1..]).expect("it leads somewhere"));
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                assert!(schema["properties"][name].is_object(), "{at}.{name} is not described");
                assert_described(root, &schema["properties"][name], value, &format!("{at}.{name}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| assert_described(root, &schema["items"], item, at)),
        _ => {}
    }
}
