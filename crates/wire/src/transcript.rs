//! Makes an answer of another company valid in the client's transcript, which outlives hotspare: Anthropic must accept it later without us.
//!
//! - Ids of tool calls are made valid and unique ([`tool_id`]), and so are the tools' names.
//! - Thinking is left out. Anthropic refuses a block that is unsigned or signed by another company for good, and no other form of it is
//!   valid there. The company that minted it gets it back while this process lives: DeepSeek and Kimi refuse a tool loop without it
//!   (`NousResearch/hermes-agent#22313`), so [`Thoughts`] hands it over.
//! - Results of the company's own tools, citations of what it found, and unknown kinds of blocks are left out: they are bound to it.
//! - Text without a visible letter is left out.
//!
//! What follows a block that is left out moves up, so that indexes stay gapless. Invariants: an event that needs no change goes on byte for
//! byte, and nothing is held back but text that is blank so far and half an event.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use crate::history::ids::valid_tool_name;
use crate::splice;
use crate::sse::{Event, Scanner};
use crate::tool_id::{self, Minted, Tag};

/// Blocks of a stream that are open at a time; a company that opens more is not followed.
const MAX_OPEN: usize = 64;

/// Bytes of thinking that are handed over with one tool call, as JSON.
pub const MAX_THOUGHT: usize = 256 * 1024;

/// Bytes that are left out between two pings: about a second of thinking. They keep the client's own watch for silence content.
const PING_EVERY: usize = 4096;

const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";

/// What is left out, and whose ids are renamed.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The company's, for the ids.
    pub tag: Tag,
    /// False if it speaks as Anthropic itself: only invalid ids and names of calls are mended then.
    pub foreign: bool,
}

/// Thinking that was left out before one tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thoughts {
    /// The call's id as the client has it.
    pub call: String,
    /// The blocks as JSON, each with the number of visible blocks between it and the call.
    pub blocks: Vec<(usize, String)>,
}

/// What the gateway has to remember of an answer.
#[derive(Debug, Default)]
pub struct Left {
    /// Thinking, by the call that it led to.
    pub thoughts: Vec<Thoughts>,
    /// Ids as the client has them, and originals that cannot be read from them.
    pub ids: Vec<(String, String)>,
}

/// The ids of a request's tool calls and results, as far as they could be in the way.
#[derive(Debug, Clone, Default)]
pub struct TakenIds(std::collections::HashSet<u64>);

impl TakenIds {
    /// Reads the ids of a request's body.
    pub fn of(body: &[u8]) -> Self {
        let mut taken = Self::default();
        for at in memchr::memmem::find_iter(body, br#""id""#) {
            let rest = body[at + 4..].trim_ascii_start();
            let value = rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start).and_then(|value| value.strip_prefix(b"\""));
            let id = value.and_then(|value| Some(&value[..memchr::memchr(b'"', value)?]));
            if let Some(id) = id.filter(|id| id.len() <= tool_id::MAX_TOOL_ID) {
                taken.0.insert(xxhash_rust::xxh3::xxh3_64(id));
            }
        }
        taken
    }

    fn has(&self, id: &str) -> bool {
        self.0.contains(&xxhash_rust::xxh3::xxh3_64(id.as_bytes()))
    }

    fn add(&mut self, id: &str) {
        self.0.insert(xxhash_rust::xxh3::xxh3_64(id.as_bytes()));
    }
}

/// What streams and whole answers share: names for calls, and the thinking that waits for one.
#[derive(Debug)]
struct Naming {
    rules: Rules,
    taken: TakenIds,
    /// Thinking since the last call, with the number of visible blocks before it.
    waiting: Vec<(usize, String)>,
    waiting_bytes: usize,
    /// Visible blocks since the last call.
    visible: usize,
    left: Left,
}

impl Naming {
    fn new(rules: Rules, taken: TakenIds) -> Self {
        Self { rules, taken, waiting: Vec::new(), waiting_bytes: 0, visible: 0, left: Left::default() }
    }

    /// Names a call; `original` is empty if it has no id.
    fn call(&mut self, original: &str, name: &str) -> String {
        let Minted { id, reversible } = tool_id::mint(original, name, self.rules.tag, |id| self.rules.foreign && self.taken.has(id));
        self.taken.add(&id);
        if !reversible && !original.is_empty() {
            self.left.ids.push((id.clone(), original.to_owned()));
        }
        let blocks: Vec<_> = self.waiting.drain(..).map(|(before, block)| (self.visible - before, block)).collect();
        if !blocks.is_empty() {
            self.left.thoughts.push(Thoughts { call: id.clone(), blocks });
        }
        (self.waiting_bytes, self.visible) = (0, 0);
        id
    }

    /// Keeps a block of thinking for the call that it leads to.
    fn thought(&mut self, block: &Map<String, Value>) {
        let block = serde_json::to_string(block).unwrap_or_default();
        self.waiting_bytes += block.len();
        if self.waiting_bytes <= MAX_THOUGHT {
            self.waiting.push((self.visible, block));
        } else {
            // A part of it would be refused like none.
            self.waiting.clear();
        }
    }
}

/// One streamed answer on its way to the client.
#[derive(Debug)]
pub struct Transcript {
    scanner: Scanner,
    naming: Naming,
    /// Bytes that came and did not go on; the first stands at `passed` in the stream.
    pending: BytesMut,
    passed: u64,
    blocks: HashMap<u64, Place>,
    /// The next free place in the client's message.
    next: u64,
    unpinged: usize,
    /// Bytes of thinking came since this was last asked.
    thinks: bool,
}

/// Where a block of the company goes.
#[derive(Debug)]
enum Place {
    /// Into this place.
    At(u64),
    /// Text that is blank so far, and its events.
    Blank(Vec<u8>),
    /// Nowhere; thinking is gathered.
    Out(Option<Thought>),
}

#[derive(Debug, Default)]
struct Thought {
    block: Map<String, Value>,
    bytes: usize,
}

impl Thought {
    /// Adds a delta's member to the block's.
    fn add(&mut self, key: &str, more: &str) {
        self.bytes += more.len();
        if self.bytes > MAX_THOUGHT {
            return;
        }
        match self.block.get_mut(key) {
            Some(Value::String(text)) => text.push_str(more),
            _ => drop(self.block.insert(key.to_owned(), more.into())),
        }
    }
}

impl Transcript {
    /// Nothing came yet. `taken` are the ids of the request.
    pub fn new(rules: Rules, taken: TakenIds) -> Self {
        Self {
            scanner: Scanner::new(),
            naming: Naming::new(rules, taken),
            pending: BytesMut::new(),
            passed: 0,
            blocks: HashMap::new(),
            next: 0,
            unpinged: 0,
            thinks: false,
        }
    }

    /// Takes the next bytes in. Returns those that go on.
    pub fn feed(&mut self, piece: &Bytes) -> Bytes {
        let Self { scanner, naming, pending, passed, blocks, next, unpinged, thinks } = self;
        if scanner.gave_up() {
            return piece.clone();
        }
        pending.extend_from_slice(piece);
        let mut out = Vec::with_capacity(pending.len());
        let mut walk = Walk { naming, blocks, next, unpinged, thinks };
        scanner.feed(piece, |event| {
            let length = usize::try_from(event.end - *passed).unwrap_or(usize::MAX).min(pending.len());
            let raw = pending.split_to(length);
            *passed = event.end;
            walk.event(&event, &raw, &mut out);
        });
        if scanner.gave_up() {
            out.extend_from_slice(&pending.split());
        }
        out.into()
    }

    /// What is left when the stream ends: half an event, or what follows the last.
    pub fn finish(&mut self) -> Bytes {
        self.passed += self.pending.len() as u64;
        self.pending.split().freeze()
    }

    /// True if thinking came since this was last asked: the company is at work, although the client sees nothing of it.
    pub fn take_thinking(&mut self) -> bool {
        std::mem::take(&mut self.thinks)
    }

    /// What there is to remember since this was last asked.
    pub fn take_left(&mut self) -> Left {
        std::mem::take(&mut self.naming.left)
    }
}

/// One event's view of a [`Transcript`].
struct Walk<'a> {
    naming: &'a mut Naming,
    blocks: &'a mut HashMap<u64, Place>,
    next: &'a mut u64,
    unpinged: &'a mut usize,
    thinks: &'a mut bool,
}

impl Walk<'_> {
    fn event(&mut self, event: &Event<'_>, raw: &[u8], out: &mut Vec<u8>) {
        // Most events are deltas of a block that stays where it is: they are told apart without being parsed.
        let moved = self.blocks.iter().any(|(from, place)| !matches!(place, Place::At(to) if to == from));
        let is_delta = event.data.starts_with(br#"{"type":"content_block_delta""#);
        let cites = || self.naming.rules.foreign && memchr::memmem::find(event.data, b"citation").is_some();
        if is_delta && !moved && !cites() {
            return out.extend_from_slice(raw);
        }
        let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(event.data) else { return out.extend_from_slice(raw) };
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or(std::str::from_utf8(event.name).unwrap_or_default()).to_owned();
        let Some(index) = fields.get("index").and_then(Value::as_u64) else { return out.extend_from_slice(raw) };
        match kind.as_str() {
            "content_block_start" => self.start(index, &mut fields, raw, out),
            "content_block_delta" => self.delta(index, &mut fields, raw, out),
            "content_block_stop" => self.stop(index, &mut fields, raw, out),
            _ => out.extend_from_slice(raw),
        }
    }

    fn start(&mut self, index: u64, fields: &mut Map<String, Value>, raw: &[u8], out: &mut Vec<u8>) {
        let Some(Value::Object(block)) = fields.get_mut("content_block") else { return out.extend_from_slice(raw) };
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if self.blocks.len() >= MAX_OPEN {
            self.blocks.clear();
        }
        let mut changed = false;
        match kind.as_str() {
            "tool_use" => changed |= self.call(block),
            _ if !self.naming.rules.foreign => {}
            "text" => {
                changed |= block.remove("citations").is_some_and(|citations| citations.as_array().is_some_and(|all| !all.is_empty()));
                let blank = block.get("text").and_then(Value::as_str).is_none_or(|text| text.trim().is_empty());
                if blank {
                    self.blocks.insert(index, Place::Blank(render("content_block_start", fields, raw, !changed)));
                    return;
                }
            }
            "thinking" | "redacted_thinking" => {
                *self.thinks = true;
                let thought = Thought { bytes: raw.len(), block: block.clone() };
                self.blocks.insert(index, Place::Out(Some(thought)));
                return self.leave_out(PING_EVERY, out);
            }
            _ => {
                self.blocks.insert(index, Place::Out(None));
                return self.leave_out(PING_EVERY, out);
            }
        }
        let place = self.open(index);
        changed |= place != index;
        fields.insert("index".to_owned(), place.into());
        out.extend_from_slice(&render("content_block_start", fields, raw, !changed));
    }

    /// Makes a call's id and name valid. True if anything changed.
    fn call(&mut self, block: &mut Map<String, Value>) -> bool {
        let text = |block: &Map<String, Value>, key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (original, name) = (text(block, "id"), text(block, "name"));
        let id = self.naming.call(&original, &name);
        let valid = valid_tool_name(&name);
        let changed = id != original || valid != name;
        if changed {
            block.insert("id".to_owned(), id.into());
            block.insert("name".to_owned(), valid.into_owned().into());
        }
        changed
    }

    /// Gives a block the next free place.
    fn open(&mut self, index: u64) -> u64 {
        let place = *self.next;
        *self.next += 1;
        self.naming.visible += 1;
        self.blocks.insert(index, Place::At(place));
        place
    }

    fn delta(&mut self, index: u64, fields: &mut Map<String, Value>, raw: &[u8], out: &mut Vec<u8>) {
        let Some(delta) = fields.get("delta").and_then(Value::as_object) else { return out.extend_from_slice(raw) };
        let kind = delta.get("type").and_then(Value::as_str).unwrap_or_default();
        match self.blocks.get_mut(&index) {
            Some(Place::Out(thought)) => {
                *self.thinks |= thought.is_some();
                for (key, more) in delta.iter().filter_map(|(key, value)| Some((key, value.as_str()?))) {
                    if let Some(thought) = thought.as_mut().filter(|_| key != "type") {
                        thought.add(key, more);
                    }
                }
                self.leave_out(raw.len(), out);
            }
            // Citations point into what the company's own tools have found.
            Some(Place::At(_) | Place::Blank(_)) if kind == "citations_delta" && self.naming.rules.foreign => {}
            Some(Place::At(place)) => {
                let place = *place;
                fields.insert("index".to_owned(), place.into());
                out.extend_from_slice(&render("content_block_delta", fields, raw, place == index));
            }
            Some(Place::Blank(held)) => {
                let is_blank = delta.get("text").and_then(Value::as_str).is_none_or(|text| text.trim().is_empty());
                held.extend_from_slice(raw);
                if !is_blank || held.len() > PING_EVERY {
                    let held = std::mem::take(held);
                    let place = self.open(index);
                    release(&held, place, out);
                }
            }
            None => out.extend_from_slice(raw),
        }
    }

    fn stop(&mut self, index: u64, fields: &mut Map<String, Value>, raw: &[u8], out: &mut Vec<u8>) {
        match self.blocks.remove(&index) {
            Some(Place::At(place)) => {
                fields.insert("index".to_owned(), place.into());
                out.extend_from_slice(&render("content_block_stop", fields, raw, place == index));
            }
            Some(Place::Out(Some(thought))) => {
                if thought.bytes <= MAX_THOUGHT {
                    self.naming.thought(&thought.block);
                }
            }
            Some(Place::Out(None) | Place::Blank(_)) => {}
            None => out.extend_from_slice(raw),
        }
    }

    /// Sends a sign of life now and then in place of what is left out.
    fn leave_out(&mut self, bytes: usize, out: &mut Vec<u8>) {
        *self.unpinged += bytes;
        if *self.unpinged >= PING_EVERY {
            *self.unpinged = 0;
            out.extend_from_slice(PING);
        }
    }
}

/// An event with its fields changed, or as it came.
fn render(name: &str, fields: &Map<String, Value>, raw: &[u8], unchanged: bool) -> Vec<u8> {
    if unchanged {
        return raw.to_vec();
    }
    format!("event: {name}\ndata: {}\n\n", serde_json::to_string(fields).unwrap_or_default()).into_bytes()
}

/// Passes on the events of a block that was held, with their place.
fn release(held: &[u8], place: u64, out: &mut Vec<u8>) {
    let mut from = 0;
    Scanner::new().feed(held, |event| {
        let end = usize::try_from(event.end).unwrap_or(usize::MAX).min(held.len());
        let raw = &held[from..end];
        from = end;
        match serde_json::from_slice::<Value>(event.data) {
            Ok(Value::Object(mut fields)) => {
                let unchanged = fields.insert("index".to_owned(), place.into()).and_then(|index| index.as_u64()) == Some(place);
                let name = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
                out.extend_from_slice(&render(&name, &fields, raw, unchanged));
            }
            _ => out.extend_from_slice(raw),
        }
    });
}

/// A whole answer as it goes to the client, and what there is to remember of it. `None` if it stays as it came.
pub fn whole(body: &Bytes, rules: Rules, taken: TakenIds) -> Option<(Bytes, Left)> {
    let root: &serde_json::value::RawValue = serde_json::from_slice(body).ok()?;
    let members = splice::members(body, root)?;
    let content = members.iter().find(|member| member.name == "content")?.value;
    let items = splice::items(content)?;
    let mut naming = Naming::new(rules, taken);
    let fates: Vec<_> = items.iter().map(|item| fate(item.get(), &mut naming)).collect();
    if fates.iter().all(|fate| *fate == splice::Fate::Keep) {
        return None;
    }
    let mut splices = splice::Splices::default();
    let places: Vec<_> = items.iter().map(|item| splice::span(body, item)).collect();
    splices.list(&places, &fates, &[], splice::span(body, content).end - 1);
    Some((splices.apply(body).concat().into(), naming.left))
}

fn fate(item: &str, naming: &mut Naming) -> splice::Fate {
    let Ok(Value::Object(mut block)) = serde_json::from_str::<Value>(item) else { return splice::Fate::Keep };
    let text = |block: &Map<String, Value>, key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut changed = false;
    match text(&block, "type").as_str() {
        kind if kind != "tool_use" && !naming.rules.foreign => return splice::Fate::Keep,
        "text" if text(&block, "text").trim().is_empty() => return splice::Fate::Drop,
        "text" => changed |= block.remove("citations").is_some_and(|citations| !citations.is_null()),
        "tool_use" => {
            let (original, name) = (text(&block, "id"), text(&block, "name"));
            let (id, valid) = (naming.call(&original, &name), valid_tool_name(&name).into_owned());
            changed |= id != original || valid != name;
            block.insert("id".to_owned(), id.into());
            block.insert("name".to_owned(), valid.into());
        }
        "thinking" | "redacted_thinking" => {
            naming.thought(&block);
            return splice::Fate::Drop;
        }
        _ => return splice::Fate::Drop,
    }
    naming.visible += 1;
    if changed { splice::Fate::Replace(Value::Object(block).to_string()) } else { splice::Fate::Keep }
}

#[cfg(test)]
mod tests;
