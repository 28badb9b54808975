//! Lets a second provider go on with an answer that broke: the request that asks for the rest, and the rest's events as the client must
//! see them. Never repeats a block, never opens an index twice, and never goes on inside thinking or a tool call.
//!
//! Current models reject a prefilled answer, so the rest is asked for in words. What comes back is a message of its own: its start and its
//! thinking are dropped, its first text goes on in the client's open text block, and everything behind gets the next free places.

use bytes::Bytes;
use hotspare_core::Position;
use hotspare_core::commitment::BlockKind;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::messages;
use crate::sse::Event;
use crate::stream::UsageSoFar;

/// Most bytes of text that a broken answer may have for another profile to go on with it.
pub const TEXT_CAP: usize = 1024 * 1024;

/// Longest repetition of the last words that is looked for, in bytes.
const OVERLAP_CAP: usize = 400;

/// Shortest repetition that is taken for one, in bytes: a shared letter or two is chance.
const OVERLAP_LEAST: usize = 10;

/// So many bytes equal to the answer's beginning mean that it starts over.
const START_OVER: usize = 64;

const ASK: &str = "Your answer above was cut off on its way to me. Go on exactly where it stops, beginning with the very next character. \
                   Repeat nothing of it, do not mention the interruption, and do not greet or sum up.";

/// The request with the client's part of the answer and the wish for the rest put behind its messages, as cheap slices around the new
/// bytes. None: the request ends in a way that nothing can be put behind, wants an answer of a given form, or there is no text to go on from.
pub fn request(body: &Bytes, texts: &[String]) -> Option<Vec<Bytes>> {
    let peek = messages::peek(body).filter(|peek| !peek.gives_form)?;
    let at = peek.messages_at?;
    if !ends_with_a_turn_of_the_user(&body[at.clone()]) {
        return None;
    }
    let blocks: Vec<Value> =
        texts.iter().filter(|text| !text.trim().is_empty()).map(|text| serde_json::json!({"type": "text", "text": text})).collect();
    if blocks.is_empty() {
        return None;
    }
    let said = serde_json::json!({"role": "assistant", "content": blocks});
    let asked = serde_json::json!({"role": "user", "content": [{"type": "text", "text": ASK}]});
    let end = at.end - 1;
    Some(vec![body.slice(..end), Bytes::from(format!(",{said},{asked}")), body.slice(end..)])
}

fn ends_with_a_turn_of_the_user(messages: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: std::borrow::Cow<'a, str>,
    }
    let Ok(messages) = serde_json::from_slice::<Vec<Message<'_>>>(messages) else { return false };
    // The client puts a word of the system behind the user's turn at times; an answer may follow that too.
    messages.last().is_some_and(|last| last.role == "user" || last.role == "system")
}

/// Turns the events of the rest into those that the client must see.
#[derive(Debug)]
pub struct Splice {
    /// What the client has of the text so far, its first and its last part.
    begin: String,
    tail: String,
    /// The client's open text block.
    open: Option<u64>,
    next: u64,
    /// The rest's open block, and where it goes.
    current: Option<Current>,
    /// Text that may still turn out to be a repetition.
    waiting: String,
    met_text: bool,
    earlier: UsageSoFar,
    usage: UsageSoFar,
    started_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    /// Goes on in a block of the client's, or in a new one.
    At { index: u64, first_text: bool },
    /// Thinking: the client has had its own.
    Dropped,
}

enum Repetition {
    /// More must come before it is known.
    Open,
    /// So many bytes of it.
    Bytes(usize),
    /// The answer begins anew.
    StartsOver,
}

impl Splice {
    /// `position` and `texts` are what the client has; `earlier` are its token counts.
    pub fn new(position: &Position, texts: &[String], earlier: UsageSoFar) -> Self {
        let whole: String = texts.concat();
        Self {
            begin: prefix(&whole, START_OVER).to_owned(),
            tail: suffix(&whole, OVERLAP_CAP).to_owned(),
            open: position.open.filter(|open| open.kind == BlockKind::Text).map(|open| open.index),
            next: position.next_index,
            current: None,
            waiting: String::new(),
            met_text: false,
            earlier,
            usage: UsageSoFar::default(),
            started_over: false,
        }
    }

    /// Whether the rest began from the start: it must not go on.
    pub fn started_over(&self) -> bool {
        self.started_over
    }

    /// The token counts of the rest alone.
    pub fn usage(&self) -> &UsageSoFar {
        &self.usage
    }

    /// One event of the rest; what the client must see of it goes into `out`.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(event.data) else {
            return raw(event, out);
        };
        let named = || String::from_utf8_lossy(event.name).into_owned();
        let kind = fields.get("type").and_then(Value::as_str).map_or_else(named, str::to_owned);
        crate::stream::read(event, &mut self.usage);
        match kind.as_str() {
            "message_start" => {}
            "content_block_start" => self.block_start(fields, out),
            "content_block_delta" => self.delta(fields, out),
            "content_block_stop" => self.block_stop(fields, out),
            "message_delta" => {
                self.flush(out);
                self.close_open_text(out);
                fields.insert("usage".to_owned(), self.added_usage());
                render("message_delta", &fields, out);
            }
            _ => raw(event, out),
        }
    }

    fn block_start(&mut self, mut fields: Map<String, Value>, out: &mut Vec<u8>) {
        let kind = fields.get("content_block").and_then(|block| block.get("type")).and_then(Value::as_str).unwrap_or_default();
        if matches!(kind, "thinking" | "redacted_thinking") {
            self.current = Some(Current::Dropped);
            return;
        }
        let first_text = kind == "text" && !std::mem::replace(&mut self.met_text, true);
        if first_text && let Some(index) = self.open {
            self.current = Some(Current::At { index, first_text });
            return;
        }
        self.met_text = true;
        self.close_open_text(out);
        let index = self.next;
        self.next += 1;
        self.current = Some(Current::At { index, first_text });
        fields.insert("index".to_owned(), index.into());
        render("content_block_start", &fields, out);
    }

    fn delta(&mut self, mut fields: Map<String, Value>, out: &mut Vec<u8>) {
        let Some(Current::At { index, first_text }) = self.current else { return };
        fields.insert("index".to_owned(), index.into());
        let text = fields.get("delta").and_then(|delta| delta.get("text")).and_then(Value::as_str);
        match text {
            Some(text) if first_text => {
                self.waiting.push_str(text);
                self.judge(index, false, out);
            }
            _ => render("content_block_delta", &fields, out),
        }
    }

    fn block_stop(&mut self, mut fields: Map<String, Value>, out: &mut Vec<u8>) {
        let Some(Current::At { index, first_text }) = self.current.take() else { return };
        if first_text {
            self.judge(index, true, out);
        }
        if self.open == Some(index) {
            self.open = None;
        }
        fields.insert("index".to_owned(), index.into());
        render("content_block_stop", &fields, out);
    }

    /// No block is closed for what still waits in it: the message ends.
    fn flush(&mut self, out: &mut Vec<u8>) {
        if let Some(Current::At { index, first_text: true }) = self.current {
            self.judge(index, true, out);
        }
    }

    /// The client's text block is open and no text goes on in it.
    fn close_open_text(&mut self, out: &mut Vec<u8>) {
        if let Some(index) = self.open.take() {
            let mut fields = Map::new();
            fields.insert("type".to_owned(), "content_block_stop".into());
            fields.insert("index".to_owned(), index.into());
            render("content_block_stop", &fields, out);
        }
    }

    /// Lets the waiting text go as soon as it is known what of it is a repetition.
    fn judge(&mut self, index: u64, last: bool, out: &mut Vec<u8>) {
        if self.started_over {
            return;
        }
        let skip = match self.repetition(last) {
            Repetition::Open => return,
            Repetition::StartsOver => {
                self.started_over = true;
                return;
            }
            Repetition::Bytes(skip) => skip,
        };
        let text = self.waiting.split_off(skip);
        self.waiting.clear();
        if let Some(Current::At { first_text, .. }) = &mut self.current {
            *first_text = false;
        }
        if !text.is_empty() {
            let event = serde_json::json!({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}});
            line("content_block_delta", &event.to_string(), out);
        }
    }

    fn repetition(&self, last: bool) -> Repetition {
        let new = self.waiting.as_str();
        let mut longest = 0;
        for (at, _) in self.tail.char_indices() {
            let end = &self.tail[at..];
            if !last && end.len() > new.len() && end.starts_with(new) {
                return Repetition::Open;
            }
            if end.len() >= OVERLAP_LEAST && new.starts_with(end) {
                longest = longest.max(end.len());
            }
        }
        if longest > 0 {
            return Repetition::Bytes(longest);
        }
        let enough = self.begin.len() >= START_OVER;
        if enough && !last && self.begin.len() > new.len() && self.begin.starts_with(new) {
            return Repetition::Open;
        }
        if enough && new.starts_with(&self.begin) { Repetition::StartsOver } else { Repetition::Bytes(0) }
    }

    /// The counts of both parts, added up key by key.
    fn added_usage(&self) -> Value {
        let read = |usage: &UsageSoFar| serde_json::from_str::<Map<String, Value>>(usage.json()).unwrap_or_default();
        let mut sum = read(&self.usage);
        for (key, earlier) in read(&self.earlier) {
            if let Some(earlier) = earlier.as_u64() {
                let later = sum.get(&key).and_then(Value::as_u64).unwrap_or_default();
                sum.insert(key, earlier.saturating_add(later).into());
            }
        }
        Value::Object(sum)
    }
}

fn render(name: &str, fields: &Map<String, Value>, out: &mut Vec<u8>) {
    line(name, &serde_json::to_string(fields).unwrap_or_default(), out);
}

fn line(name: &str, data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}

/// As it came, but for its line ends.
fn raw(event: &Event<'_>, out: &mut Vec<u8>) {
    if !event.name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.name);
        out.push(b'\n');
    }
    for part in event.data.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(part);
        out.push(b'\n');
    }
    out.push(b'\n');
}

fn prefix(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn suffix(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests;
