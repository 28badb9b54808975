//! Clients as they were measured: the interactive Claude Code, `claude -p`, and a program on an SDK. What they send, how they ask again, and
//! what they take for an answer. Never knows that a proxy is in between.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::question::Question;
use crate::reading::{Kind, Reading, Sign};
use crate::trace::Trace;
use crate::world::{Door, LOGIN};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// Claude Code in a terminal.
    Interactive,
    /// `claude -p`.
    Print,
    /// A program on an SDK, which repeats a call that threw.
    Program,
}

impl Client {
    pub(crate) const ALL: [Self; 3] = [Self::Interactive, Self::Print, Self::Program];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Print => "print",
            Self::Program => "program",
        }
    }

    fn user_agent(self) -> &'static str {
        match self {
            Self::Interactive => "claude-cli/2.1.332 (external, cli)",
            Self::Print => "claude-cli/2.1.332 (external, sdk-cli)",
            Self::Program => "Anthropic/Python 2.12.0",
        }
    }

    /// Requests that are sent again after a refusal or a lost connection.
    fn retries(self) -> u32 {
        match self {
            Self::Interactive | Self::Print => 10,
            Self::Program => 2,
        }
    }
}

/// Longest wait for a head.
const HEAD_WAIT: Duration = Duration::from_secs(360);

/// Longest silence inside an answer.
const SILENCE: Duration = Duration::from_secs(300);

/// Longest time with pings and nothing else.
const PINGS_ONLY: Duration = Duration::from_secs(600);

/// Beta features of Claude Code 2.1.332, the first to be left out last.
const BETAS: [&str; 6] = [
    "claude-code-20250219",
    "interleaved-thinking-2025-05-14",
    "effort-2025-11-24",
    "advanced-tool-use-2025-11-20",
    "thinking-display-updates-2026-08-18",
    "thinking-token-count-2026-05-13",
];

/// What a title request of 2.1.332 asks for in addition.
const TITLE_BETA: &str = "structured-outputs-2025-12-15";

/// How often Claude Code asks for the rest of an answer in a row.
const RESUMES: u32 = 3;

/// Calls that a program makes before it gives up.
const CALLS: u32 = 4;

/// A `retry-after` of more seconds ends Claude Code's turn.
const LONGEST_WAIT: u64 = 60;

/// What one request got.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    /// The same for every form of the same request: the question and what of its answer was said.
    pub key: String,
    /// Of what was asked for.
    pub streaming: bool,
    pub status: u16,
    pub headers: HeaderMap,
    pub end: End,
    /// The stream, or as much of it as came.
    pub reading: Reading,
    /// Any other body.
    pub body: Bytes,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Proper,
    /// The connection broke, before the head or after it.
    Broken,
    /// Nothing came for longer than the client waits.
    Silent,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Seconds in `retry-after`.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header("retry-after").and_then(|text| text.parse().ok())
    }

    /// Who answered, as the gateway says.
    pub(crate) fn profile(&self) -> &str {
        self.header("x-hotspare-profile").unwrap_or_default()
    }

    /// The exchange's id, as the gateway says.
    pub(crate) fn exchange(&self) -> Option<u64> {
        u64::from_str_radix(self.header("x-hotspare-request-id")?.strip_prefix("hs_")?, 16).ok()
    }

    /// Whether the client reads the body as events. The label does not matter (measured with 2.1.330): the clients read what they asked for.
    fn is_stream(&self) -> bool {
        self.streaming && self.status == 200
    }

    fn message(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// How a turn ended for the user.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    /// The answer as it stands in the conversation, or the error that the user sees.
    pub answer: Result<Answer, String>,
    /// Everything that was asked, in order.
    pub requests: Vec<Got>,
}

/// An answer as it stands in the conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// All text, over every part.
    pub text: String,
    pub calls: Vec<(String, String)>,
    /// What `claude -p` prints: the last text block of the last part.
    pub printed: String,
}

/// One client's conversation.
pub(crate) struct Session {
    pub door: Door,
    pub client: Client,
    /// Its id, as the client sends it.
    pub id: String,
    /// The model asked for.
    pub model: &'static str,
    /// A subagent's id.
    pub agent: Option<String>,
    /// What the client asks for, without the question: earlier turns.
    pub history: Vec<Value>,
    /// Longest wait for the first content; `None` for the client's own limits.
    pub patience: Option<Duration>,
    /// Seconds in `x-stainless-timeout`; `None` for what Claude Code says by default.
    pub announced_timeout: Option<u64>,
    /// Whether it is a side request: a title, without tools, in a format of its own.
    pub title: bool,
    /// Results of tools that go before the question.
    pub results: Vec<Value>,
    /// Beta features left out of the request after refusals (measured with 2.1.330).
    dropped_betas: usize,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    connection: Option<AbortHandle>,
    requests: Vec<Got>,
}

/// What became of one part of an answer.
enum Part {
    /// The message is whole.
    Whole,
    /// The client asks for the rest.
    Rest(&'static str),
    /// The same request again, with a pause that grows.
    Again,
    /// The same at once; twice at most.
    Quickly,
    /// The same without streaming.
    NotStreaming,
    /// The user sees this.
    Error(String),
}

/// A client that goes closes its connection.
impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }
}

impl Session {
    pub(crate) fn new(door: &Door, client: Client, id: impl Into<String>) -> Self {
        Self {
            door: door.clone(),
            client,
            id: id.into(),
            model: "claude-opus-5-5",
            agent: None,
            history: Vec::new(),
            patience: None,
            announced_timeout: None,
            title: false,
            results: Vec::new(),
            dropped_betas: 0,
            sender: None,
            connection: None,
            requests: Vec::new(),
        }
    }

    fn trace(&self) -> &Trace {
        &self.door.trace
    }

    /// Asks until there is an answer or an error.
    pub(crate) async fn ask(&mut self, question: Question, streaming: bool) -> Turn {
        self.requests.clear();
        let answer = match self.client {
            Client::Program => self.program(question, streaming).await,
            Client::Interactive | Client::Print => self.claude(question, streaming).await,
        };
        self.trace().line(&self.id, format_args!("turn: {answer:?}"));
        Turn { answer, requests: std::mem::take(&mut self.requests) }
    }

    /// What Claude Code does with its turn.
    async fn claude(&mut self, question: Question, mut streaming: bool) -> Result<Answer, String> {
        let mut answer = Answer::default();
        let mut said: Vec<Value> = Vec::new();
        let (mut retries, mut resumes, mut quick, mut variants, mut stream_errors) = (0, 0, 0, 0, 0);
        loop {
            let got = self.send(question, &said, streaming).await;
            let part = self.judge(&got, stream_errors);
            self.requests.push(got.clone());
            if got.reading.error.is_some() {
                stream_errors += 1;
            }
            match part {
                Part::Whole => {
                    take_in(&got, &mut answer);
                    return Ok(answer);
                }
                Part::Rest(words) if resumes < RESUMES => {
                    resumes += 1;
                    let text = got.reading.closed_text();
                    take_in(&got, &mut answer);
                    if !text.is_empty() {
                        said.push(json!({"role": "assistant", "content": [{"type": "text", "text": text}]}));
                    }
                    // Wrapped so since 2.1.331.
                    said.push(json!({"role": "user", "content": format!("<system-reminder>\n{words}\n</system-reminder>")}));
                }
                Part::Rest(_) => return Err("API Error: the answer ended three times before its end".into()),
                Part::Again if retries < self.client.retries() => {
                    self.pause(retries, got.retry_after()).await;
                    retries += 1;
                }
                Part::Again if streaming && got.status == 200 => streaming = false,
                Part::Again => return Err(format!("API Error: {} {}", got.status, got.message())),
                Part::Quickly if quick < 2 => {
                    quick += 1;
                    tokio::time::sleep(Duration::from_millis(100) * quick).await;
                }
                Part::Quickly => return Err("Connection lost before a response was produced. Try again.".into()),
                Part::NotStreaming if streaming => streaming = false,
                Part::NotStreaming => return Err(format!("API Error: {} {}", got.status, got.message())),
                Part::Error(message) if message.starts_with("heal ") && variants < 5 => {
                    variants += 1;
                    self.heal(&message);
                }
                Part::Error(message) => return Err(message),
            }
        }
    }

    /// The client knows some refusals and sends the request again in another form.
    fn heal(&mut self, message: &str) {
        if message.contains("signature") {
            for turn in &mut self.history {
                if let Some(blocks) = turn["content"].as_array_mut() {
                    blocks.retain(|block| block["type"] != "thinking");
                }
            }
        } else {
            self.dropped_betas += 1;
        }
    }

    async fn pause(&self, retry: u32, retry_after: Option<u64>) {
        let own = Duration::from_millis(550) * 2u32.pow(retry.min(6));
        let told = Duration::from_secs(retry_after.unwrap_or_default()).mul_f64(1.05);
        tokio::time::sleep(own.min(Duration::from_secs(36)).max(told)).await;
    }

    /// What a program does: the SDK's own retries before the head, and a call again when it threw.
    async fn program(&mut self, question: Question, streaming: bool) -> Result<Answer, String> {
        let mut error = String::new();
        for _ in 0..CALLS {
            let mut retries = 0;
            let got = loop {
                let got = self.send(question, &[], streaming).await;
                self.requests.push(got.clone());
                let transient = matches!(got.status, 0 | 408 | 409 | 429 | 500..) && got.header("x-should-retry") != Some("false");
                if !transient || retries == self.client.retries() {
                    break got;
                }
                self.pause(retries, got.retry_after()).await;
                retries += 1;
            };
            if got.status != 200 {
                // A refusal is not repeated by the caller: only a call that broke is.
                return Err(format!("{} {}", got.status, got.message()));
            }
            if !got.is_stream() {
                let mut answer = Answer::default();
                take_in(&got, &mut answer);
                return if is_message(&got.body) { Ok(answer) } else { Err("no message in the answer".into()) };
            }
            if got.reading.garbage {
                return Err("garbage in the stream".into());
            }
            // The SDK takes a proper end for an answer, whatever is missing.
            if got.end == End::Proper && got.reading.error.is_none() {
                let mut answer = Answer::default();
                take_in(&got, &mut answer);
                return if got.reading.is_whole() { Ok(answer) } else { Err("silently cut short".into()) };
            }
            error = format!("the stream broke: {:?}", got.end);
        }
        Err(error)
    }

    /// Claude Code's view of what one request got.
    fn judge(&self, got: &Got, stream_errors: u32) -> Part {
        let should_retry = got.header("x-should-retry");
        match got.status {
            200 if got.end == End::Silent && got.reading.blocks.is_empty() && self.patience.is_some() => Part::Again,
            200 if got.is_stream() => self.judge_stream(got, stream_errors),
            200 if !got.streaming && is_message(&got.body) => Part::Whole,
            200 => Part::NotStreaming,
            0 => Part::Again,
            408 | 409 | 401 | 429 | 500.. => {
                let end = should_retry == Some("false") || got.retry_after().is_some_and(|wait| wait > LONGEST_WAIT);
                if end { Part::Error(format!("API Error: {} {}", got.status, got.message())) } else { Part::Again }
            }
            400 | 422 => Part::Error(format!("heal {} {}", got.status, got.message())),
            404 => Part::NotStreaming,
            status => Part::Error(format!("API Error: {status} {}", got.message())),
        }
    }

    fn judge_stream(&self, got: &Got, stream_errors: u32) -> Part {
        let reading = &got.reading;
        if reading.garbage && !reading.is_whole() {
            return Part::NotStreaming;
        }
        if reading.is_whole() {
            let handed_back = reading.stop_reason.as_deref() == Some("max_tokens");
            return if handed_back {
                Part::Rest("Output token limit hit. Resume directly — no apology, no recap of what you were doing.")
            } else {
                Part::Whole
            };
        }
        let open = reading.open_block();
        let begun_text = open.is_some_and(|block| block.kind == Kind::Text && !block.content.is_empty());
        if reading.closed(Kind::Tool) {
            return Part::Error("API Error: Connection lost after a tool call".into());
        }
        if reading.closed(Kind::Text) || (reading.closed(Kind::Thinking) && begun_text) {
            return match self.client {
                Client::Print => {
                    Part::Rest("Your response above was cut off mid-stream. Resume directly from where it stops; do not repeat it.")
                }
                _ => Part::Error("API Error: Connection lost mid-response".into()),
            };
        }
        match (&reading.error, got.end) {
            (Some(kind), _) if kind == "overloaded_error" && !begun_text && stream_errors < 2 => Part::Again,
            (Some(_), _) => Part::NotStreaming,
            (None, End::Proper) if reading.blocks.is_empty() => Part::NotStreaming,
            (None, _) if reading.closed(Kind::Thinking) => Part::Quickly,
            (None, _) => Part::Again,
        }
    }

    fn body(&self, question: Question, said: &[Value], streaming: bool) -> Bytes {
        let mut messages = self.history.clone();
        if self.results.is_empty() {
            messages.push(json!({"role": "user", "content": question.prompt()}));
        } else {
            let words = json!({"type": "text", "text": question.prompt()});
            messages.push(json!({"role": "user", "content": self.results.iter().cloned().chain([words]).collect::<Vec<_>>()}));
        }
        messages.extend_from_slice(said);
        let max_tokens = if streaming { 128_000 } else { 64_000 };
        let mut body = json!({
            "model": self.model, "max_tokens": max_tokens, "system": [{"type": "text", "text": "You answer."}],
            "messages": messages, "stream": streaming,
        });
        if self.title {
            body["max_tokens"] = 32_000.into();
            body["output_config"] = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
        }
        body.to_string().into()
    }

    fn request(&self, body: Bytes, streaming: bool) -> Request<Full<Bytes>> {
        let mut request = Request::post("/v1/messages?beta=true")
            .header(header::HOST, self.door.host())
            .header(header::USER_AGENT, self.client.user_agent())
            .header(header::CONTENT_TYPE, "application/json")
            .header("anthropic-version", "2023-06-01")
            .header("x-claude-code-session-id", &self.id)
            .header(header::AUTHORIZATION, format!("Bearer {LOGIN}"))
            .header("x-hotspare-token", &self.door.token);
        if let Some(agent) = &self.agent {
            request = request.header("x-claude-code-agent-id", agent);
        }
        // Claude Code's own limits: seconds with and without streaming (2.1.330).
        let timeout = self.announced_timeout.unwrap_or(if streaming { 600 } else { 300 });
        request = request.header("x-stainless-timeout", timeout);
        if self.client != Client::Program {
            request = request.header("anthropic-beta", self.betas());
        }
        request.body(Full::new(body)).expect("the request is made of valid parts")
    }

    fn betas(&self) -> String {
        let title = self.title.then_some(TITLE_BETA);
        BETAS[..BETAS.len().saturating_sub(self.dropped_betas).max(1)].iter().copied().chain(title).collect::<Vec<_>>().join(",")
    }

    async fn sender(&mut self) -> anyhow::Result<http1::SendRequest<Full<Bytes>>> {
        if let Some(mut sender) = self.sender.take()
            && !sender.is_closed()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let io = self.door.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        self.connection = Some(tokio::spawn(connection).abort_handle());
        Ok(sender)
    }

    /// Sends one request and reads what comes, to its end.
    pub(crate) async fn send(&mut self, question: Question, said: &[Value], streaming: bool) -> Got {
        let body = self.body(question, said, streaming);
        self.trace().line(&self.id, format_args!("asks, {} bytes{}", body.len(), if streaming { "" } else { ", not streaming" }));
        let mut got = Got {
            key: format!("{} {} {} {}", self.id, self.agent.as_deref().unwrap_or_default(), question.prompt(), Value::from(said)),
            streaming,
            status: 0,
            headers: HeaderMap::new(),
            end: End::Broken,
            reading: Reading::default(),
            body: Bytes::new(),
        };
        let gives_up = self.patience.map(|patience| tokio::time::Instant::now() + patience);
        if let Ok(mut sender) = self.sender().await {
            let request = self.request(body, streaming);
            let wait = self.patience.unwrap_or(HEAD_WAIT);
            match tokio::time::timeout(wait, sender.send_request(request)).await {
                Err(_) => got.end = End::Silent,
                Ok(Err(_)) => {}
                Ok(Ok(response)) => {
                    let (head, incoming) = response.into_parts();
                    got.status = head.status.as_u16();
                    got.headers = head.headers;
                    got.end = read(incoming, &mut got, gives_up).await;
                    if got.end == End::Proper {
                        self.sender = Some(sender);
                    }
                }
            }
            if got.end == End::Silent
                && let Some(connection) = self.connection.take()
            {
                connection.abort();
            }
        }
        let reason = got.reading.stop_reason.as_deref().unwrap_or("-");
        self.trace().line(&self.id, format_args!("got {} from `{}`, ended {:?}, stop reason {reason}", got.status, got.profile(), got.end));
        got
    }
}

/// Reads a body to its end, as long as the client has patience.
async fn read(mut incoming: Incoming, got: &mut Got, gives_up: Option<tokio::time::Instant>) -> End {
    let stream = got.is_stream();
    let mut body = Vec::new();
    let mut progress = tokio::time::Instant::now();
    let end = loop {
        let silent_at = tokio::time::Instant::now() + SILENCE;
        let until = gives_up.filter(|_| got.reading.blocks.is_empty() && body.is_empty()).map_or(silent_at, |at| at.min(silent_at));
        let frame = match tokio::time::timeout_at(until, incoming.frame()).await {
            Err(_) => break End::Silent,
            Ok(None) => break End::Proper,
            Ok(Some(Err(_))) => break End::Broken,
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if !stream {
            body.extend_from_slice(&data);
            continue;
        }
        if got.reading.feed(&data) == Sign::Progress {
            progress = tokio::time::Instant::now();
        }
        if progress.elapsed() > PINGS_ONLY {
            break End::Silent;
        }
    };
    got.body = body.into();
    end
}

/// Puts one part into the answer: what is closed counts, what is open is dropped.
fn take_in(got: &Got, answer: &mut Answer) {
    if got.is_stream() {
        answer.text += &got.reading.closed_text();
        answer.calls.extend(got.reading.calls());
        let mut texts = got.reading.blocks.iter().rev().filter(|block| block.closed && block.kind == Kind::Text);
        answer.printed = texts.next().map(|block| block.content.clone()).unwrap_or_default();
        return;
    }
    let message: Value = serde_json::from_slice(&got.body).unwrap_or_default();
    for block in message["content"].as_array().into_iter().flatten() {
        if let Some(text) = block["text"].as_str() {
            answer.text += text;
            text.clone_into(&mut answer.printed);
        } else if block["type"] == "tool_use" {
            answer.calls.push((block["name"].as_str().unwrap_or_default().to_owned(), block["input"].to_string()));
        }
    }
}

/// Whether a whole answer is one for the clients.
pub(crate) fn is_message(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["type"] == "message" && body["stop_reason"].is_string())
}
