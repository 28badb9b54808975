//! A network in which one profile is broken. Never opens a socket itself: connections to the others are played too, or, in a live drill,
//! are the machine's own.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use hotspare_core::{Clocks, Fault};
use hotspare_upstream::Target;
use hotspare_upstream::connect::{self, Connecting, Stream};
use hotspare_wire::messages;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Most bytes of a request that are looked at; what is longer is counted and forgotten.
const HEARD_CAP: usize = 256 * 1024;

/// Between two pings of a profile that has nothing to say.
const PING_EVERY: Duration = Duration::from_millis(250);

/// Pings before such a profile falls silent: longer than anybody waits in a drill.
const MOST_PINGS: usize = 40;

/// Between the last words and the break, so that they arrive.
const BREAK_PAUSE: Duration = Duration::from_millis(50);

/// The window of the `5h` fault ends so much later.
const WINDOW_LEFT: Duration = Duration::from_secs(2 * 3600);

/// What the spare says in a drill.
const WORDS: &str = "This answer is played by a hotspare drill: no provider was asked.";

/// What the broken profile says before it breaks.
const BEGUN: &str = "This sentence breaks off in a hotspare drill ";

/// The network of a drill.
pub(super) struct Network {
    victim: Arc<str>,
    fault: Fault,
    wall: SystemTime,
    /// For the other profiles of a live drill.
    real: Option<Arc<dyn connect::Network>>,
}

impl Network {
    pub(super) fn new(victim: Arc<str>, fault: Fault, wall: SystemTime, real: Option<Arc<dyn connect::Network>>) -> Self {
        Self { victim, fault, wall, real }
    }
}

impl connect::Network for Network {
    fn connect<'a>(&'a self, target: &'a Target, clocks: &'a Clocks) -> Connecting<'a> {
        let broken = (target.name == self.victim).then_some(self.fault);
        match &self.real {
            Some(real) if broken.is_none() => real.connect(target, clocks),
            Some(_) | None => {
                let connection = Connection { wall: self.wall, fault: broken, ..Connection::default() };
                Box::pin(std::future::ready(Ok(Stream::Other(TokioIo::new(Box::new(connection))))))
            }
        }
    }
}

/// One thing that a played profile does.
enum Step {
    Send(Bytes),
    Pause(Duration),
    /// Nothing more, and no end.
    Hang,
    Reset,
    Close,
}

/// A connection to a played profile: it hears one request, answers it, and closes.
struct Connection {
    /// What it is broken by; none: it is well.
    fault: Option<Fault>,
    wall: SystemTime,
    heard: Vec<u8>,
    /// Bytes of the request that went by, `heard` or not.
    passed: usize,
    /// What is still to be done, once the request is whole.
    steps: Option<VecDeque<Step>>,
    sleep: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

impl Default for Connection {
    fn default() -> Self {
        Self { fault: None, wall: UNIX_EPOCH, heard: Vec::new(), passed: 0, steps: None, sleep: None, reader: None }
    }
}

impl Connection {
    /// Begins to answer when the request is whole; one of unknown length is answered behind its head.
    fn hear(&mut self, bytes: &[u8]) {
        self.passed += bytes.len();
        let room = HEARD_CAP.saturating_sub(self.heard.len()).min(bytes.len());
        self.heard.extend_from_slice(&bytes[..room]);
        if self.steps.is_some() {
            return;
        }
        let Some(head) = self.heard.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else { return };
        if self.passed >= head + content_length(&self.heard[..head]).unwrap_or_default() {
            self.steps = Some(self.answer(&self.heard[head..]).into());
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    fn answer(&self, body: &[u8]) -> Vec<Step> {
        let peek = messages::peek(body);
        let model = peek.as_ref().and_then(|peek| peek.model.as_deref()).unwrap_or("claude");
        let streams = peek.as_ref().is_some_and(|peek| peek.stream);
        match self.fault {
            None => well(model, streams),
            Some(fault) => broken(fault, model, streams, self.wall),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.hear(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if let Some(sleep) = &mut this.sleep {
                ready!(sleep.as_mut().poll(cx));
                this.sleep = None;
            }
            let Some(steps) = &mut this.steps else {
                this.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            match steps.front_mut() {
                Some(Step::Send(bytes)) => {
                    let part = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes[..part]);
                    bytes.advance(part);
                    if bytes.is_empty() {
                        steps.pop_front();
                    }
                    return Poll::Ready(Ok(()));
                }
                Some(Step::Pause(time)) => {
                    this.sleep = Some(Box::pin(tokio::time::sleep(*time)));
                    steps.pop_front();
                }
                Some(Step::Hang) => return Poll::Pending,
                Some(Step::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Some(Step::Close) | None => return Poll::Ready(Ok(())),
            }
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let line = head.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")))?;
    line.1.trim().parse().ok()
}

/// What a profile does that is broken in this way.
fn broken(fault: Fault, model: &str, streams: bool, wall: SystemTime) -> Vec<Step> {
    match fault {
        Fault::Throttled => {
            refusal("429 Too Many Requests", "retry-after: 20\r\n", "rate_limit_error", "played by a drill: too many requests")
        }
        Fault::FiveHours => refusal("429 Too Many Requests", &used_up(wall), "rate_limit_error", "played by a drill: usage limit reached"),
        Fault::Overloaded => refusal("529 Overloaded", "", "overloaded_error", "played by a drill: overloaded"),
        Fault::ServerError => refusal("500 Internal Server Error", "", "api_error", "played by a drill: internal server error"),
        Fault::Unauthorized => refusal("401 Unauthorized", "", "authentication_error", "played by a drill: invalid credential"),
        Fault::Timeout => vec![Step::Hang],
        Fault::Reset => vec![Step::Reset],
        Fault::Slow => {
            let ping = || Step::Send(chunk(&event("ping", &json!({ "type": "ping" }))));
            let pings = (0..MOST_PINGS).flat_map(|_| [ping(), Step::Pause(PING_EVERY)]);
            [Step::Send(stream_head()), Step::Send(chunk(&opening(model)))].into_iter().chain(pings).chain([Step::Hang]).collect()
        }
        Fault::Midstream if streams => {
            let begun = [opening(model), block_start(), delta(BEGUN)].concat();
            vec![Step::Send(stream_head()), Step::Send(chunk(&begun)), Step::Pause(BREAK_PAUSE), Step::Reset]
        }
        Fault::Midstream => {
            let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4096\r\nconnection: close\r\n\r\n{\"id\":";
            vec![Step::Send(Bytes::from_static(half.as_bytes())), Step::Pause(BREAK_PAUSE), Step::Reset]
        }
    }
}

/// The headers of a five-hour window that is used up.
fn used_up(wall: SystemTime) -> String {
    let reset = (wall + WINDOW_LEFT).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = |name: &str, value: &str| format!("anthropic-ratelimit-unified-{name}: {value}\r\n");
    [
        header("status", "rejected"),
        header("reset", &reset.to_string()),
        header("representative-claim", "five_hour"),
        header("5h-status", "rejected"),
        header("5h-utilization", "1.0"),
        header("5h-reset", &reset.to_string()),
    ]
    .concat()
}

fn refusal(status: &str, headers: &str, kind: &str, message: &str) -> Vec<Step> {
    let body = json!({ "type": "error", "error": { "type": kind, "message": message } }).to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    vec![Step::Send((head + &body).into()), Step::Close]
}

/// What a spare answers. It counts no tokens: none were spent.
fn well(model: &str, streams: bool) -> Vec<Step> {
    if !streams {
        let mut message = message(model);
        message["content"] = json!([{ "type": "text", "text": WORDS }]);
        message["stop_reason"] = json!("end_turn");
        let body = message.to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        return vec![Step::Send((head + &body).into()), Step::Close];
    }
    let rest = [
        block_start(),
        delta(WORDS),
        event("content_block_stop", &json!({ "type": "content_block_stop", "index": 0 })),
        event("message_delta", &json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": 0 } })),
        event("message_stop", &json!({ "type": "message_stop" })),
    ]
    .concat();
    let last = Bytes::from_static(b"0\r\n\r\n");
    vec![Step::Send(stream_head()), Step::Send(chunk(&opening(model))), Step::Send(chunk(&rest)), Step::Send(last), Step::Close]
}

fn stream_head() -> Bytes {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    Bytes::from_static(head.as_bytes())
}

fn chunk(data: &str) -> Bytes {
    format!("{:x}\r\n{data}\r\n", data.len()).into()
}

fn event(name: &str, data: &serde_json::Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn message(model: &str) -> serde_json::Value {
    json!({
        "id": "msg_hotspare_drill", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": { "input_tokens": 0, "output_tokens": 0 }
    })
}

fn opening(model: &str) -> String {
    event("message_start", &json!({ "type": "message_start", "message": message(model) }))
}

fn block_start() -> String {
    event("content_block_start", &json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }))
}

fn delta(text: &str) -> String {
    event("content_block_delta", &json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }))
}
