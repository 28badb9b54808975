//! Reads an event stream the way clients do: blocks opened, filled and closed, and a stop reason. Keeps a list of what no stream may do.

use serde_json::Value;

/// The events whose data the SDKs parse (`@anthropic-ai/sdk` 1.12.0 and `anthropic` 2.12.0 for Python); a ping is none of them.
const READ_EVENTS: [&str; 7] =
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop", "error"];

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Thinking,
    Tool,
}

/// One content block as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub kind: Kind,
    pub index: u64,
    /// Text, thinking, or the tool's input.
    pub content: String,
    pub name: String,
    pub closed: bool,
}

/// A stream as far as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Every byte of the body.
    pub raw: Vec<u8>,
    parsed: usize,
    pub starts: usize,
    pub blocks: Vec<Block>,
    pub stop_reason: Option<String>,
    pub stopped: bool,
    /// The `error` event's type.
    pub error: Option<String>,
    /// A data line that is no JSON.
    pub garbage: bool,
    /// What the grammar of a stream forbids.
    pub violations: Vec<String>,
}

/// What one piece of a stream brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nothing but pings, comments and parts of events.
    Life,
    /// An event that brings the answer on.
    Progress,
}

impl Reading {
    /// Takes bytes in.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Sign {
        // A pair of line ends may have begun in what came before.
        let mut from = self.raw.len().saturating_sub(1).max(self.parsed);
        self.raw.extend_from_slice(bytes);
        let mut sign = Sign::Life;
        while let Some(found) = pair(&self.raw[from..]) {
            let event = self.raw[self.parsed..from + found].to_vec();
            self.parsed = from + found + 2;
            from = self.parsed;
            if self.event(&event) {
                sign = Sign::Progress;
            }
        }
        sign
    }

    fn event(&mut self, event: &[u8]) -> bool {
        let field = |name: &[u8]| event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name));
        // The SDKs go by the event's name and parse the data of these alone.
        let read = field(b"event: ").is_some_and(|name| READ_EVENTS.iter().any(|known| known.as_bytes() == name));
        let Some(data) = field(b"data: ").filter(|_| read) else { return false };
        let Ok(data) = serde_json::from_slice::<Value>(data) else {
            self.garbage = true;
            return true;
        };
        let index = data["index"].as_u64().unwrap_or_default();
        match data["type"].as_str().unwrap_or_default() {
            "message_start" => {
                self.starts += 1;
                self.forbid(self.starts > 1, "a second message_start");
            }
            "content_block_start" => self.open(index, &data["content_block"]),
            "content_block_delta" => self.fill(index, &data["delta"]),
            "content_block_stop" => self.close(index),
            "message_delta" => {
                if let Some(reason) = data["delta"]["stop_reason"].as_str() {
                    self.forbid(self.stop_reason.is_some(), "a second stop reason");
                    self.stop_reason = Some(reason.to_owned());
                }
            }
            "message_stop" => self.stopped = true,
            "error" => self.error = Some(data["error"]["type"].as_str().unwrap_or_default().to_owned()),
            _ => return false,
        }
        true
    }

    fn forbid(&mut self, wrong: bool, what: &str) {
        if wrong {
            self.violations.push(what.to_owned());
        }
    }

    fn open(&mut self, index: u64, block: &Value) {
        self.forbid(self.blocks.iter().any(|known| known.index == index), &format!("index {index} opened again"));
        self.forbid(index != self.blocks.len() as u64, &format!("index {index} out of order"));
        self.forbid(self.open_block().is_some(), "a block opened while another is open");
        self.forbid(self.stop_reason.is_some(), "a block after the stop reason");
        let kind = match block["type"].as_str().unwrap_or_default() {
            "thinking" => Kind::Thinking,
            "tool_use" => Kind::Tool,
            _ => Kind::Text,
        };
        let name = block["name"].as_str().unwrap_or_default().to_owned();
        self.blocks.push(Block { kind, index, content: String::new(), name, closed: false });
    }

    fn fill(&mut self, index: u64, delta: &Value) {
        let text = ["text", "thinking", "partial_json"].iter().find_map(|key| delta[*key].as_str()).unwrap_or_default();
        match self.blocks.iter_mut().rev().find(|block| block.index == index && !block.closed) {
            Some(block) => block.content.push_str(text),
            None => self.violations.push(format!("a delta for block {index}, which is not open")),
        }
    }

    fn close(&mut self, index: u64) {
        match self.blocks.iter_mut().rev().find(|block| block.index == index && !block.closed) {
            Some(block) => block.closed = true,
            None => self.violations.push(format!("an end of block {index}, which is not open")),
        }
    }

    /// The block that is open now.
    pub(crate) fn open_block(&self) -> Option<&Block> {
        self.blocks.last().filter(|block| !block.closed)
    }

    /// Whether a block of this kind is closed.
    pub(crate) fn closed(&self, kind: Kind) -> bool {
        self.blocks.iter().any(|block| block.closed && block.kind == kind)
    }

    /// All text of closed blocks.
    pub(crate) fn closed_text(&self) -> String {
        self.blocks.iter().filter(|block| block.closed && block.kind == Kind::Text).map(|block| block.content.as_str()).collect()
    }

    /// The closed tool calls, each with its input.
    pub(crate) fn calls(&self) -> Vec<(String, String)> {
        let calls = self.blocks.iter().filter(|block| block.closed && block.kind == Kind::Tool);
        calls.map(|block| (block.name.clone(), block.content.clone())).collect()
    }

    /// Whether the answer is whole for a client: a message began, and a stop reason came. The SDKs raise an error on a block before the
    /// message.
    pub(crate) fn is_whole(&self) -> bool {
        self.starts > 0 && self.stop_reason.is_some()
    }
}

/// Where an event ends.
fn pair(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = memchr::memchr(b'\n', &bytes[from..]) {
        let at = from + found;
        if bytes.get(at + 1) == Some(&b'\n') {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The body without our own pings and comments, which may stand between any two events.
pub(crate) fn without_pings(body: &[u8]) -> Vec<u8> {
    const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let mut left = Vec::with_capacity(body.len());
    let mut rest = body;
    while !rest.is_empty() {
        let end = pair(rest).map_or(rest.len(), |at| at + 2);
        if rest[..end] != *PING && rest[0] != b':' {
            left.extend_from_slice(&rest[..end]);
        }
        rest = &rest[end..];
    }
    left
}

/// The events of a body as text.
pub(crate) fn events(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    text.split("\n\n").filter(|event| !event.is_empty()).map(str::to_owned).collect()
}
