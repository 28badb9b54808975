//! What the one record of an exchange says where an answer has no events to judge it by: none, too long, packed, or a refusal inside a stream.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hotspare_core::exchange::Outcome;
use hotspare_core::{ExchangeRecord, record::Decision};
use hotspare_gateway::{Event, Observer, Options};
use hotspare_testkit::answers::{Position, message_json, text, upto};
use hotspare_testkit::{Script, Upstream};
use serde_json::json;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::client::{Ask, End, STREAMED, WHOLE};
use crate::proxy::{CLIENT_KEY, FROM_SPARE, Proxy, healthy, options, pair, plays, wire};

/// Longest that a record may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// More records than any test waits for.
const MOST: usize = 16;

struct Sends(Mutex<Sender<Arc<ExchangeRecord>>>);

impl Observer for Sends {
    fn on_event(&self, event: &Event) {
        if let Event::Over(record) = event {
            let _ = self.0.lock().expect("not poisoned").try_send(record.clone());
        }
    }
}

/// A primary beside a healthy spare, and the record of every exchange.
struct Watched {
    proxy: Proxy,
    _providers: [Upstream; 2],
    records: Receiver<Arc<ExchangeRecord>>,
}

impl Watched {
    async fn beside(primary: Upstream) -> Self {
        let spare = healthy(FROM_SPARE).await;
        let (sender, records) = channel(MOST);
        let options = Options { observer: Some(Arc::new(Sends(Mutex::new(sender)))), ..options() };
        let (proxy, _) = Proxy::start_with(&pair(&primary.url(), &spare.url(), &json!({})), options).await;
        Self { proxy, _providers: [primary, spare], records }
    }

    async fn record(&mut self) -> Arc<ExchangeRecord> {
        tokio::time::timeout(PATIENCE, self.records.recv()).await.expect("a record comes").expect("the gateway runs")
    }
}

#[tokio::test]
async fn an_answer_without_a_body_is_whole() {
    let primary = Upstream::start(|request| match &*request.method {
        "HEAD" => Script::new().head(200, &[("Content-Length", "500")]),
        "DELETE" => Script::new().head(204, &[]),
        _ => Script::new().head(304, &[("ETag", "\"v1\"")]),
    })
    .await
    .expect("started");
    let mut watched = Watched::beside(primary).await;
    for (method, status) in [("HEAD", 200), ("DELETE", 204), ("GET", 304)] {
        let answer = watched.proxy.ask(&Ask::new(method, "/v1/files/file_1").header("x-api-key", CLIENT_KEY)).await;
        assert_eq!((answer.status, answer.profile()), (status, Some("primary")), "{method}");
        assert_eq!(answer.header("content-length"), (method == "HEAD").then_some("500"), "{method}");
        assert_eq!(watched.record().await.outcome, Outcome::Served, "{method}");
    }
}

/// Not read, not held: what is longer than an answer that is held is passed on as it comes, and its end is its end.
#[tokio::test]
async fn a_whole_answer_longer_than_is_held_is_whole_at_its_end() {
    let long = message_json(&"x".repeat(33 * 1024 * 1024));
    let (half, rest) = long.split_at(long.len() / 2);
    let (half, rest) = (half.to_owned(), rest.to_owned());
    let head = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
    let primary = plays(Script::new().head(200, &head).chunk(half).chunk(rest).end()).await;
    let mut watched = Watched::beside(primary).await;
    let answer = watched.proxy.ask(&Ask::turn().body(WHOLE)).await;
    assert_eq!((answer.end, answer.body.len(), answer.profile()), (End::Whole, long.len(), Some("primary")));
    assert_eq!(watched.record().await.outcome, Outcome::Served);
}

#[tokio::test]
async fn a_packed_stream_that_ends_is_a_good_answer() {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(wire(&text("packed")).as_bytes()).expect("in memory");
    let packed = packer.finish().expect("in memory");
    let head = [("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")];
    let primary = plays(Script::new().head(200, &head).chunk(packed.clone()).end()).await;
    let mut watched = Watched::beside(primary).await;
    let answer = watched.proxy.ask(&Ask::turn()).await;
    assert_eq!((answer.end, &answer.body[..], answer.profile()), (End::Whole, &packed[..], Some("primary")));
    assert_eq!(watched.record().await.outcome, Outcome::Served);
}

/// I11: the request's own fault, told inside a stream, moves nobody: not its session, and none of the others.
#[tokio::test]
async fn a_refusal_of_the_request_inside_a_stream_speaks_against_nobody() {
    let error = r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages: at least one message is required"}}"#;
    let refuses = Script::new().sse().events(upto(&text("never"), Position::AfterMessageStart)).event("error", error).end();
    let mut watched = Watched::beside(plays(refuses).await).await;
    for count in 0..6 {
        let turn = Ask::turn().session(&format!("session-{}", count / 2)).body(STREAMED.replace("Say", &format!("{count}: say")));
        let answer = watched.proxy.ask(&turn).await;
        assert_eq!((answer.end, answer.profile()), (End::Whole, Some("primary")), "request {count}");
        let record = watched.record().await;
        let decisions: Vec<_> = record.attempts.iter().map(|attempt| attempt.decision).collect();
        assert_eq!((record.outcome, decisions), (Outcome::Relayed, vec![Decision::Relay]));
    }
}
