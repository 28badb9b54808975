//! What is remembered and counted of exchanges: the ledger and `/metrics`, from the one record. Neither ever fails a request.

use std::path::Path;
use std::time::Duration;

use hotspare_core::record::Decision;
use hotspare_core::{FailureKind, Outcome};
use hotspare_gateway::{Gateway, Options, Status};
use hotspare_store::{Filter, Reader, Row, Store};
use hotspare_testkit::Script;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::client::{Ask, Connection};
use crate::proxy::{CLIENT_KEY, FROM_SPARE, Proxy, SPARE_KEY, TOKEN, healthy, options, parse, plays};

/// Longest that a test waits for the writer.
const LONG: Duration = Duration::from_secs(20);

/// In the prompt, and nowhere else.
const PROMPT: &str = "CANARY-of-the-prompt";

struct World {
    folder: TempDir,
    store: Store,
    proxy: Proxy,
}

impl World {
    /// An overloaded primary, a healthy spare, and a ledger below `place`.
    async fn with_ledger_at(place: &str) -> Self {
        let primary = plays(Script::error(529, "overloaded_error", "busy")).await;
        let spare = healthy(FROM_SPARE).await;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a-file"), "").expect("written");
        let store = Store::open(&folder.path().join(place), hotspare_store::Options::default());
        let config = json!({
            "failover_policy": { "primary_profile": "primary", "secondary_profile": "spare" },
            "profiles": { "primary": { "base_url": primary.url() }, "spare": { "base_url": spare.url(), "auth": { "value": SPARE_KEY } } },
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let options = Options { store: Some(store.clone()), ..options() };
        let gateway = Gateway::new(&parse(&config), &listener, options).expect("a gateway");
        let addr = gateway.local();
        let task = tokio::spawn(async move {
            // The providers live as long as their proxy.
            let _providers = (primary, spare);
            hotspare_gateway::serve(gateway, listener, std::future::pending()).await;
        });
        Self { folder, store, proxy: Proxy { addr, task: task.abort_handle() } }
    }

    async fn turn(&self) -> String {
        let body =
            json!({ "model": "claude-opus-5-5", "max_tokens": 9, "stream": true, "messages": [{ "role": "user", "content": PROMPT }] });
        let ask = Ask::turn().session("5f0c-session").body(body.to_string());
        let answer = self.proxy.ask(&ask).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("message_stop"), "{}", answer.text());
        answer.header("x-hotspare-request-id").expect("an id").to_owned()
    }

    async fn get(&self, target: &str) -> String {
        let mut connection = Connection::open(self.proxy.addr).await;
        connection.ask(&Ask::new("GET", target)).await;
        connection.answer().await.text()
    }

    fn rows(&self) -> Vec<Row> {
        assert!(self.store.flush(LONG), "{:?}", self.store.trouble());
        let reader = Reader::open(&self.folder.path().join("ledger")).expect("readable").expect("a ledger");
        reader.list(&Filter { since_ms: 0, failovers: false, after: None, limit: 100 }).expect("a list").rows
    }
}

#[tokio::test]
async fn an_exchange_is_in_the_ledger_with_every_attempt() {
    let world = World::with_ledger_at("ledger").await;
    let id = world.turn().await;
    let rows = world.rows();
    assert_eq!(rows.len(), 1);
    let record = &rows[0].record;
    assert_eq!(hotspare_core::record::id_text(record.id), id);
    assert_eq!(
        (record.outcome, record.served_by.as_deref(), record.on_spare, record.status),
        (Outcome::Served, Some("spare"), true, Some(200))
    );
    assert_eq!((record.model.as_deref(), record.session.as_deref()), (Some("claude-opus-5-5"), Some("5f0c-session")));
    assert_eq!(record.rule.as_deref(), Some("test.json:1"));
    let [first, second] = record.attempts.as_slice() else { panic!("{:?}", record.attempts) };
    assert_eq!((first.class, first.status, first.decision), (Some(FailureKind::Overloaded), Some(529), Decision::NextProfile));
    assert_eq!((second.profile.as_str(), second.class, second.decision), ("spare", None, Decision::Commit));
    assert!(first.started_us <= second.started_us && second.first_content_us.is_some() && second.ended_us.is_some());
    assert!(second.tokens.output.is_some() && record.request_bytes > 0 && record.response_bytes > 0);
}

#[tokio::test]
async fn t11_no_prompt_no_answer_and_no_secret_is_in_the_ledger_or_in_the_figures() {
    let world = World::with_ledger_at("ledger").await;
    world.turn().await;
    world.rows();
    let metrics = world.get("/metrics").await;
    let mut searched = metrics.clone().into_bytes();
    for entry in std::fs::read_dir(world.folder.path().join("ledger")).expect("a folder") {
        searched.extend(std::fs::read(entry.expect("an entry").path()).expect("readable"));
    }
    assert!(contains(&searched, "claude-opus-5-5"), "something was searched");
    for secret in [PROMPT, FROM_SPARE, CLIENT_KEY, SPARE_KEY, TOKEN] {
        // Any eight characters in a row.
        for part in secret.as_bytes().windows(8).filter_map(|part| std::str::from_utf8(part).ok()) {
            let told_anyway = ["sk-ant-t", "k-ant-te", "-ant-tes", "ant-test"].contains(&part);
            assert!(told_anyway || !contains(&searched, part), "{part:?} of {secret:?}");
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// `LiteLLM` CVE-2026-42208: a stranger's key became a part of the question to the database, before anybody knew who asked.
#[tokio::test]
async fn t23_what_a_client_writes_is_never_a_part_of_a_question_to_the_ledger() {
    const INJECTIONS: [&str; 5] =
        ["'OR'1'='1", "');DROP_TABLE_exchanges;--", "\"OR\"\"=\"", "'UNION/**/SELECT(1)--", "$1;DELETE/**/FROM/**/attempts;--"];
    let world = World::with_ledger_at("ledger").await;
    for text in INJECTIONS {
        for (name, value) in
            [("x-hotspare-token", text.to_owned()), ("x-api-key", text.to_owned()), ("Authorization", format!("Bearer {text}"))]
        {
            let stranger = Ask { headers: Vec::new(), ..Ask::turn() }.header(name, &value).session(text);
            assert_eq!(world.proxy.ask(&stranger).await.status, 401, "{name}: {value}");
        }
        let body = json!({ "model": text, "max_tokens": 9, "stream": true, "messages": [{ "role": "user", "content": text }] });
        let known = Ask::turn().session(text).header("x-claude-code-agent-id", text).agent(text).body(body.to_string());
        assert_eq!(world.proxy.ask(&known).await.status, 200, "{text}");
    }
    let rows = world.rows();
    let told: Vec<_> = rows.iter().map(|row| (row.record.session.as_deref(), row.record.model.as_deref())).collect();
    assert_eq!(told.len(), INJECTIONS.len(), "a stranger leaves nothing, and nothing is lost: {told:?}");
    for text in INJECTIONS {
        assert!(told.contains(&(Some(text), Some(text))), "{text} stands as it was written: {told:?}");
    }
}

#[tokio::test]
async fn the_figures_are_prometheus_text_and_need_the_token() {
    let world = World::with_ledger_at("ledger").await;
    world.turn().await;
    let text = world.get("/metrics").await;
    for line in [
        r#"hotspare_requests_total{profile="spare",outcome="served"} 1"#,
        r#"hotspare_attempts_total{profile="primary",reason="overloaded"} 1"#,
        r#"hotspare_failovers_total{from="primary",to="spare",reason="overloaded"} 1"#,
        r#"hotspare_profile_state{profile="spare",state="serving"} 1"#,
        r#"hotspare_ttft_seconds_count{profile="spare"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    let mut connection = Connection::open(world.proxy.addr).await;
    connection.ask(&Ask::new("GET", "/metrics").with("x-hotspare-token", None)).await;
    assert_eq!(connection.answer().await.status, 401);
}

#[tokio::test]
async fn i12_a_ledger_that_cannot_be_written_fails_no_request_and_is_told() {
    // A file stands where the folder is to be.
    let world = World::with_ledger_at("a-file/ledger").await;
    for _ in 0..5 {
        world.turn().await;
    }
    assert!(!world.store.flush(LONG));
    let status: Status = serde_json::from_str(&world.get("/hotspare/status").await).expect("a status");
    let told = status.ledger.expect("the trouble is told");
    assert!(told.contains("cannot be opened") && told.contains("5 wait"), "{told}");
    assert_eq!(status.exchanges, 5);
    let record: Value = serde_json::from_str(&world.get("/hotspare/status").await).expect("JSON");
    assert!(record["ledger"].is_string());
    assert!(!Path::new(world.folder.path()).join("a-file/ledger").exists());
}
