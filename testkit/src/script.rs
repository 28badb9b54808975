//! What a scripted provider does with one request, step by step. Never does it: [`crate::Upstream`] plays it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field.
    pub name: String,
    /// The `data:` field.
    pub data: String,
}

impl Event {
    /// The event's bytes.
    pub fn bytes(&self) -> Bytes {
        Bytes::from(format!("event: {}\ndata: {}\n\n", self.name, self.data))
    }
}

/// Holds a script up until the test opens it.
#[derive(Debug, Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self { open: Arc::new(watch::channel(false).0) }
    }

    /// Opens it for good.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) async fn wait(&self) {
        // The sender lives as long as the gate, so the wait cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// One step.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write(Bytes),
    Drip(Bytes, Duration),
    Sleep(Duration),
    Gate(Gate),
    Fin,
    Rst,
    Hang,
}

/// What to do with one request. Each function appends a step.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) before_body: bool,
    pub(crate) truncate_after: Option<usize>,
    pub(crate) truncate_with_rst: bool,
}

impl Script {
    /// Does nothing, and takes the next request.
    pub fn new() -> Self {
        Self::default()
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Writes exactly these bytes in one go.
    #[must_use]
    pub fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Write(bytes.into()))
    }

    /// Writes a status line and headers, and adds none of its own.
    #[must_use]
    pub fn head(self, status: u16, headers: &[(&str, &str)]) -> Self {
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.raw(format!("HTTP/1.1 {status} {}\r\n{fields}\r\n", reason(status)))
    }

    /// Adds a field to the first head that is written.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        let first = self.steps.iter_mut().find_map(|step| match step {
            Step::Write(bytes) if bytes.starts_with(b"HTTP/1.1 ") => Some(bytes),
            _ => None,
        });
        if let Some(bytes) = first
            && let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n")
        {
            *bytes = [&bytes[..end + 2], format!("{name}: {value}\r\n").as_bytes(), &bytes[end + 2..]].concat().into();
        }
        self
    }

    /// Writes the head of an event stream.
    #[must_use]
    pub fn sse(self) -> Self {
        self.head(
            200,
            &[
                ("Content-Type", "text/event-stream; charset=utf-8"),
                ("Cache-Control", "no-cache"),
                ("Transfer-Encoding", "chunked"),
                ("request-id", "req_scripted"),
                ("x-provider-extra", "kept"),
            ],
        )
    }

    /// Writes one HTTP chunk.
    #[must_use]
    pub fn chunk(self, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(&bytes);
        chunk.extend_from_slice(b"\r\n");
        self.raw(chunk)
    }

    /// Writes one event as one chunk.
    #[must_use]
    pub fn event(self, name: &str, data: &str) -> Self {
        self.chunk(Event { name: name.to_owned(), data: data.to_owned() }.bytes())
    }

    /// Writes each event as a chunk of its own.
    #[must_use]
    pub fn events(self, events: &[Event]) -> Self {
        events.iter().fold(self, |script, event| script.chunk(event.bytes()))
    }

    /// Writes a whole reply.
    #[must_use]
    pub fn body(self, status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        all.push(("Content-Length", &length));
        self.head(status, &all).raw(body)
    }

    /// An error reply in Anthropic's shape.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        let body = serde_json::json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"});
        Self::new().body(status, &[("Content-Type", "application/json"), ("request-id", "req_scripted")], body.to_string())
    }

    /// 404 in Anthropic's shape.
    pub fn not_found() -> Self {
        Self::error(404, "not_found_error", "Not found")
    }

    /// Waits: a delay of the provider's, part of the fault that is played.
    #[must_use]
    pub fn sleep(self, time: Duration) -> Self {
        self.then(Step::Sleep(time))
    }

    /// The same, after a wait before its first byte.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.steps.insert(0, Step::Sleep(time));
        self
    }

    /// Waits until the test opens the gate.
    #[must_use]
    pub fn gate(self, gate: &Gate) -> Self {
        self.then(Step::Gate(gate.clone()))
    }

    /// Writes one byte at a time, with a pause after each.
    #[must_use]
    pub fn drip(self, bytes: impl Into<Bytes>, pause: Duration) -> Self {
        self.then(Step::Drip(bytes.into(), pause))
    }

    /// Writes the final chunk; the connection stays.
    #[must_use]
    pub fn end(self) -> Self {
        self.raw("0\r\n\r\n")
    }

    /// Closes in order, without a final chunk.
    #[must_use]
    pub fn fin(self) -> Self {
        self.then(Step::Fin)
    }

    /// Resets the connection.
    #[must_use]
    pub fn rst(self) -> Self {
        self.then(Step::Rst)
    }

    /// Sends nothing more until the peer goes.
    #[must_use]
    pub fn hang(self) -> Self {
        self.then(Step::Hang)
    }

    /// Plays as soon as the head is read; the body is left on the socket.
    #[must_use]
    pub fn before_body(mut self) -> Self {
        self.before_body = true;
        self
    }

    /// Cuts everything this script writes after so many bytes on the wire, and closes in order.
    #[must_use]
    pub fn truncate_after(mut self, bytes: usize) -> Self {
        self.truncate_after = Some(bytes);
        self
    }

    /// The same, with a reset.
    #[must_use]
    pub fn reset_after(mut self, bytes: usize) -> Self {
        self.truncate_with_rst = true;
        self.truncate_after(bytes)
    }

    /// How many bytes it writes if nothing cuts it.
    pub fn wire_len(&self) -> usize {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Write(bytes) | Step::Drip(bytes, _) => bytes.len(),
                Step::Sleep(_) | Step::Gate(_) | Step::Fin | Step::Rst | Step::Hang => 0,
            })
            .sum()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        529 => "Overloaded",
        _ => "Scripted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_of_a_reply_stands_behind_its_status_line() {
        let script = Script::new().body(200, &[("Content-Type", "text/plain")], "x").after(Duration::from_secs(1)).field("Date", "now");
        let written: Vec<&[u8]> =
            script.steps.iter().filter_map(|step| if let Step::Write(bytes) = step { Some(&bytes[..]) } else { None }).collect();
        assert_eq!(written.concat(), b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx");
    }
}
