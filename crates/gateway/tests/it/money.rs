//! What answers cost, and budgets that end: on real sockets, over a restart, beside another process, and until the next day.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use hotspare_core::spend::{Period, Reached};
use hotspare_gateway::record::{Event, Observer};
use hotspare_gateway::{Gateway, Options, Outside, Status};
use hotspare_store::{Filter, Reader, Store};
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::client::{Answer, Ask};
use crate::proxy::{Proxy, SPARE_KEY, options, parse, plays};

const DAY_MS: u64 = 86_400_000;

/// Longest that a test waits for the writer.
const LONG: Duration = Duration::from_secs(20);

/// An answer that says what it took.
fn costing(usage: &Value) -> Script {
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [],
        "model": "claude-opus-5-5", "stop_reason": null, "stop_sequence": null, "usage": usage}});
    let events = [
        start,
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 1000}}),
        json!({"type": "message_stop"}),
    ];
    let text: String =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())).collect();
    Script::new().sse().chunk(text).end()
}

/// On Opus 5.5: 1000 out, 2000 in, 10,000 written (4000 of them for an hour), 100,000 read; 132,000 millionths of a dollar.
fn twelve_cents() -> Script {
    let usage = json!({"input_tokens": 2000, "output_tokens": 1, "cache_read_input_tokens": 100_000, "cache_creation_input_tokens": 10_000,
        "cache_creation": {"ephemeral_5m_input_tokens": 6000, "ephemeral_1h_input_tokens": 4000}});
    costing(&usage)
}

const COST: u64 = 20_000 + 8_000 + 6_000 * 5 + 4_000 * 8 + 20_000;

#[derive(Default)]
struct Heard(Mutex<Vec<(Arc<str>, Reached)>>);

impl Observer for Heard {
    fn on_event(&self, event: &Event) {
        if let Event::BudgetReached { profile, reached, .. } = event {
            self.0.lock().expect("nobody panics with the lock").push((profile.clone(), *reached));
        }
    }
}

/// Noon of today: what is kept must not have ended by the real clock, and no test runs over midnight.
fn noon_ms() -> u64 {
    let now = UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let (begins_ms, _) = hotspare_store::local_day(u64::try_from(now).expect("soon")).expect("a day");
    begins_ms + DAY_MS / 2
}

/// A machine whose providers, ledger and calendar outlive a gateway.
struct World {
    folder: TempDir,
    primary: Upstream,
    spare: Upstream,
    budget: Value,
    wall_ms: Arc<AtomicU64>,
    heard: Arc<Heard>,
}

struct Running {
    proxy: Proxy,
    store: Store,
    gateway: Arc<Gateway>,
}

impl World {
    async fn new(budget: Value) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            primary: plays(Script::error(529, "overloaded_error", "busy")).await,
            spare: plays(twelve_cents()).await,
            budget,
            wall_ms: Arc::new(AtomicU64::new(noon_ms())),
            heard: Arc::default(),
        }
    }

    fn config(&self) -> Value {
        json!({
            "failover_policy": { "primary_profile": "work", "secondary_profile": "spare" },
            "profiles": {
                "work": { "base_url": self.primary.url() },
                "spare": { "base_url": self.spare.url(), "auth": { "value": SPARE_KEY }, "budget": self.budget },
            },
        })
    }

    async fn start(&self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let store = Store::open(self.folder.path(), hotspare_store::Options::default());
        let wall_ms = self.wall_ms.clone();
        let outside = Outside::default().with_wall(move || UNIX_EPOCH + Duration::from_millis(wall_ms.load(Ordering::Relaxed)));
        let options = Options { store: Some(store.clone()), observer: Some(self.heard.clone()), outside, ..options() };
        let gateway = Gateway::new(&parse(&self.config()), &listener, options).expect("a gateway");
        let addr = gateway.local();
        let task = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending())).abort_handle();
        Running { proxy: Proxy { addr, task }, store, gateway }
    }

    fn reached(&self) -> Vec<(String, Period, u64, u64)> {
        let heard = self.heard.0.lock().expect("nobody panics with the lock");
        heard.iter().map(|(profile, reached)| (profile.to_string(), reached.period, reached.limit, reached.spent)).collect()
    }
}

impl Running {
    async fn turn(&self, session: &str) -> Answer {
        self.proxy.ask(&Ask::turn().session(session)).await
    }

    fn spare(&self) -> hotspare_gateway::status::ProfileStatus {
        let status: Status = self.gateway.status();
        status.profiles.into_iter().find(|profile| profile.name == "spare").expect("the spare")
    }

    fn last_record(&self, folder: &Path) -> hotspare_core::ExchangeRecord {
        assert!(self.store.flush(LONG), "{:?}", self.store.trouble());
        let reader = Reader::open(folder).expect("readable").expect("a ledger");
        let filter = Filter { since_ms: 0, failovers: false, after: None, limit: 100 };
        reader.list(&filter).expect("a list").rows.pop().expect("a record").record
    }
}

#[tokio::test]
async fn an_answer_costs_what_its_tokens_cost() {
    let world = World::new(json!({})).await;
    let running = world.start().await;
    assert_eq!(running.turn("s").await.status, 200);
    let record = running.last_record(world.folder.path());
    let costs: Vec<Option<u64>> = record.attempts.iter().map(|attempt| attempt.cost_micro_usd).collect();
    assert_eq!((costs, record.est_cost_micro_usd), (vec![None, Some(COST)], Some(COST)));
    assert_eq!(record.attempts[1].tokens.cache_write_1h, Some(4000));
    assert_eq!(record.cold_prefix_tokens, None, "the session had no warm cache to leave");
    let metrics = running.proxy.ask(&Ask::new("GET", "/metrics")).await.text();
    assert!(metrics.contains("hotspare_cost_usd_total{profile=\"spare\"} 0.11"), "{metrics}");
}

/// claude-code #62338: a bill that nobody had meant to run up.
#[tokio::test]
async fn r51_a_spent_budget_holds_over_a_restart_until_the_next_day() {
    let world = World::new(json!({ "per_day_usd": 0.1 })).await;
    let running = world.start().await;
    assert_eq!(running.spare().budget.map(|budget| budget.spent_micro_usd), Some(0));
    assert_eq!(running.turn("a").await.profile(), Some("spare"));
    assert_eq!(world.reached(), [("spare".to_owned(), Period::Day, 100_000, COST)]);
    let answer = running.turn("b").await;
    assert_ne!(answer.status, 200);
    let record = running.last_record(world.folder.path());
    assert!(
        record.skipped.iter().any(|skipped| skipped.profile == "spare" && skipped.reason == "daily budget $0.10 reached"),
        "{record:?}"
    );
    let status = running.spare();
    assert_eq!((status.state.as_str(), status.budget.map(|budget| budget.spent_micro_usd)), ("spent", Some(COST)));
    assert!(status.back_in_s.is_some_and(|seconds| seconds <= 86_400));
    drop(running);

    let again = world.start().await;
    assert_ne!(again.turn("c").await.status, 200);
    assert_eq!(world.spare.messages().len(), 1, "one answer was paid for, and no more");
    world.wall_ms.fetch_add(DAY_MS, Ordering::Relaxed);
    assert_eq!(again.turn("d").await.profile(), Some("spare"));
    assert_eq!(world.reached().len(), 2, "told anew for the new day");
}

/// `CLIProxyAPI` #6004: two processes, each with the whole limit for itself.
#[tokio::test]
async fn r51_two_processes_share_one_budget() {
    let world = World::new(json!({ "per_day_usd": 0.2 })).await;
    let (one, other) = (world.start().await, world.start().await);
    assert_eq!(one.turn("a").await.profile(), Some("spare"));
    assert!(one.store.flush(LONG));
    // What the first has spent is heard when the second has written its own.
    assert_eq!(other.turn("b").await.profile(), Some("spare"));
    assert!(other.store.flush(LONG));
    assert_ne!(other.turn("c").await.status, 200);
    let third = world.start().await;
    assert_ne!(third.turn("d").await.status, 200);
    assert_eq!(world.spare.messages().len(), 2);
}

/// claude-code #95803: a session that nobody watched.
#[tokio::test]
async fn r53_one_session_s_limit_is_no_other_s() {
    let world = World::new(json!({ "per_session_usd": 0.1 })).await;
    let running = world.start().await;
    assert_eq!(running.turn("a").await.profile(), Some("spare"));
    assert_eq!(world.reached(), [("spare".to_owned(), Period::Session, 100_000, COST)]);
    // The session's sub-agents spend of the same purse.
    let agent = Ask::turn().session("a").header("X-Claude-Code-Agent-Id", "agent-1");
    assert_ne!(running.proxy.ask(&agent).await.status, 200);
    let record = running.last_record(world.folder.path());
    assert_eq!(record.skipped.last().map(|skipped| skipped.reason.as_str()), Some("budget $0.10 of this session reached"));
    assert_eq!(running.turn("b").await.profile(), Some("spare"));
}

#[tokio::test]
async fn nobody_pays_for_a_login_by_the_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let work = plays(twelve_cents()).await;
    let config = json!({
        "failover_policy": { "primary_profile": "work" },
        "profiles": { "work": { "base_url": work.url(), "budget": { "per_day_usd": 0 } } },
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let store = Store::open(folder.path(), hotspare_store::Options::default());
    let options = Options { store: Some(store.clone()), ..options() };
    let gateway = Gateway::new(&parse(&config), &listener, options).expect("a gateway");
    let addr = gateway.local();
    let task = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending())).abort_handle();
    let running = Running { proxy: Proxy { addr, task }, store, gateway };
    let login = Ask::turn().with("x-api-key", None).header("Authorization", "Bearer sk-ant-oat01-test");
    assert_eq!(running.proxy.ask(&login).await.status, 200);
    let record = running.last_record(folder.path());
    assert_eq!((record.attempts[0].on_plan, record.attempts[0].cost_micro_usd, record.est_cost_micro_usd), (true, None, None));
    assert!(running.gateway.status().profiles[0].on_plan);
    // The same profile with a key is paid by the token, and may take nothing.
    let answer = running.proxy.ask(&Ask::turn()).await;
    assert_eq!(answer.status, 424, "{}", answer.text());
    assert!(answer.text().contains("The only profile failed: work daily budget $0 reached. Run: hotspare why last"), "{}", answer.text());
}
