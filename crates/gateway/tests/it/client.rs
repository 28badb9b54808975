//! A client that writes what it is told and keeps every byte it gets. Never retries, and never mends what it reads.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proxy::{CLIENT_KEY, TOKEN};

/// Longest that anything may take: a test that waits for longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const INTERACTIVE: &str = "claude-cli/2.1.330 (external, cli)";
pub(crate) const PRINT: &str = "claude-cli/2.1.330 (external, sdk-cli)";
pub(crate) const PROGRAM: &str = "Anthropic/Python 2.12.0";

/// A Messages request for a stream.
pub(crate) const STREAMED: &str =
    r#"{"model":"claude-opus-5-5","max_tokens":128000,"messages":[{"role":"user","content":"Say something."}],"stream":true}"#;

/// The same as Claude Code sends it when it wants the answer whole.
pub(crate) const WHOLE: &str =
    r#"{"model":"claude-opus-5-5","max_tokens":64000,"messages":[{"role":"user","content":"Say something."}],"stream":false}"#;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Ask {
    /// Any request, with the local token and nothing else.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let headers = vec![("x-hotspare-token".to_owned(), TOKEN.to_owned())];
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: Bytes::new() }
    }

    /// A turn of the interactive client, with a key of its own.
    pub(crate) fn turn() -> Self {
        Self::new("POST", "/v1/messages?beta=true")
            .header("User-Agent", INTERACTIVE)
            .header("Content-Type", "application/json")
            .header("x-api-key", CLIENT_KEY)
            .header("X-Claude-Code-Session-Id", "session-1")
            .body(STREAMED)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with another value, or without the header.
    pub(crate) fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    pub(crate) fn agent(self, agent: &str) -> Self {
        self.with("User-Agent", Some(agent))
    }

    pub(crate) fn session(self, session: &str) -> Self {
        self.with("X-Claude-Code-Session-Id", Some(session))
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The head as it goes out.
    pub(crate) fn head(&self, proxy: impl std::fmt::Display) -> String {
        let own: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = if self.body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", self.body.len()) };
        format!("{} {} HTTP/1.1\r\nHost: {proxy}\r\n{own}{length}\r\n", self.method, self.target)
    }
}

/// How an answer's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As HTTP wants it: after its length, or with the last chunk.
    Whole,
    /// The connection ended before that.
    Cut,
}

/// An answer, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: u16,
    /// Fields in order, names as they were spelled.
    pub headers: Vec<(String, String)>,
    /// Unchunked.
    pub body: Bytes,
    pub end: End,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Who answered, as the proxy says.
    pub(crate) fn profile(&self) -> Option<&str> {
        self.header("x-hotspare-profile")
    }
}

/// A connection to the proxy.
pub(crate) struct Connection<S = TcpStream> {
    stream: S,
    /// Come, but not yet looked at.
    buffer: BytesMut,
    ended: bool,
}

impl Connection {
    pub(crate) async fn open(proxy: SocketAddr) -> Self {
        let stream = TcpStream::connect(proxy).await.expect("the proxy listens");
        stream.set_nodelay(true).expect("set");
        Self::over(stream)
    }

    pub(crate) async fn ask(&mut self, ask: &Ask) {
        let head = ask.head(self.stream.peer_addr().expect("connected"));
        self.send(head).await;
        self.send(&ask.body).await;
    }

    /// Closes without a word.
    pub(crate) fn hang_up(self) {
        drop(self.stream);
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("set");
        drop(self.stream);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection that stands already, within a tunnel for instance.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new(), ended: false }
    }

    /// What it is made of. Nothing may be unread.
    pub(crate) fn into_stream(self) -> S {
        assert!(self.buffer.is_empty(), "unread: {:?}", self.buffer);
        self.stream
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A proxy that refuses may close before it has read all.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Everything until the proxy closes.
    pub(crate) async fn rest(&mut self) -> Bytes {
        while self.more().await {}
        self.buffer.split().freeze()
    }

    /// The same on a paused clock, which runs as fast as nothing happens: only the proxy's own clocks end it.
    pub(crate) async fn rest_however_slow(&mut self) -> Bytes {
        while matches!(self.stream.read_buf(&mut self.buffer).await, Ok(count) if count > 0) {}
        self.buffer.split().freeze()
    }

    /// Throws away what has come, and says how much it was; none at the end.
    pub(crate) async fn skip(&mut self) -> Option<usize> {
        self.buffer.clear();
        let last_chunk = b"0\r\n\r\n";
        let more = self.more().await;
        (more && !self.buffer.ends_with(last_chunk)).then_some(self.buffer.len())
    }

    /// Waits until this text has come.
    pub(crate) async fn wait_for(&mut self, text: &str) {
        while !self.buffer.windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            assert!(self.more().await, "the connection ended before {text:?} came: {:?}", self.buffer);
        }
    }

    /// Takes more in. False: the connection has ended.
    async fn more(&mut self) -> bool {
        if !self.ended {
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("nothing came for {PATIENCE:?}; so far: {:?}", self.buffer));
            self.ended = !matches!(read, Ok(count) if count > 0);
        }
        !self.ended
    }

    /// The next answer; none when the connection ends before one.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let (status, headers) = self.head().await?;
        let field = |name: &str| {
            headers.iter().find(|(known, _): &&(String, String)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        let (body, end) = if method == "HEAD" || matches!(status, 204 | 304) {
            (Bytes::new(), End::Whole)
        } else if field("transfer-encoding").is_some() {
            self.chunked().await
        } else if let Some(length) = field("content-length") {
            self.counted(length.parse().expect("a length")).await
        } else {
            (self.rest().await, End::Cut)
        };
        Some(Answer { status, headers, body, end })
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await.expect("an answer")
    }

    async fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head = self.buffer.split_to(end);
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut fields);
        response.parse(&head).expect("the proxy's head is valid");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((response.code.expect("a status"), response.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect()))
    }

    async fn counted(&mut self, length: usize) -> (Bytes, End) {
        while self.buffer.len() < length {
            if !self.more().await {
                return (self.buffer.split().freeze(), End::Cut);
            }
        }
        (self.buffer.split_to(length).freeze(), End::Whole)
    }

    async fn chunked(&mut self) -> (Bytes, End) {
        let mut body = BytesMut::new();
        loop {
            let Some(size) = self.chunk_size().await else { return (body.freeze(), End::Cut) };
            let (chunk, end) = self.counted(size + 2).await;
            body.extend_from_slice(&chunk[..chunk.len().min(size)]);
            if end == End::Cut || size == 0 {
                return (body.freeze(), end);
            }
        }
    }

    async fn chunk_size(&mut self) -> Option<usize> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = self.buffer.split_to(at);
                self.buffer.advance(2);
                return Some(usize::from_str_radix(std::str::from_utf8(&line).expect("a chunk's size"), 16).expect("a chunk's size"));
            }
            if !self.more().await {
                return None;
            }
        }
    }
}
