//! Reads the events of an answer as the client's SDK reads them. Never keeps an answer's text.
//!
//! The name of an event decides whether its data is parsed at all, and the data's own `type` what it then is: `@anthropic-ai/sdk` 0.128.0,
//! which Claude Code 2.1.330 to 2.1.332 carries, parses the events of a message and skips a `ping`, an unknown name and an event without
//! one, whatever their data holds (measured with 2.1.332). A provider that leaves the names out has sent nothing to such a client.

use std::borrow::Cow;
use std::collections::HashMap;

use hotspare_core::commitment::BlockKind;
use hotspare_core::{Position, Tokens};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure;
use crate::sse::{BOM, Event, Scanner};

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// An event that the client does not read: `ping`, an unknown name or type. It proves life, nothing more.
    Sign,
    /// `message_start`.
    Start {
        /// The model that it names; empty where it names none.
        model: Box<str>,
    },
    /// `content_block_start`.
    BlockStart {
        /// Its place in the message.
        index: u64,
        /// What it holds.
        kind: BlockKind,
    },
    /// `content_block_delta`.
    Delta {
        /// Whether it brings something a reader would miss.
        substance: bool,
    },
    /// `content_block_stop`.
    BlockStop,
    /// `message_delta`.
    MessageDelta {
        /// The stop reason, where it names one.
        stop: Option<StopReason>,
    },
    /// `message_stop`.
    Stop,
    /// `error`.
    Error {
        /// `error.type`.
        kind: Box<str>,
        /// `error.message`, cut to what people read.
        message: Box<str>,
    },
    /// The client parses its data and cannot: it gives the whole answer up.
    Malformed,
}

/// Why an answer ended, as far as routing cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// `tool_use`: the client's turn goes on with the tool's result.
    ToolUse,
    /// `end_turn`.
    EndTurn,
    /// The answer was ended from outside, perhaps before its first block: `refusal`, `max_tokens`, `stop_sequence`, `pause_turn`,
    /// `model_context_window_exceeded`, `compaction`.
    CutShort,
    /// Any other.
    Other,
}

/// Most output tokens of an answer without a block that the model itself meant to be empty. Anthropic's documentation counts two or three
/// for it ("Handling stop reasons", 2026-08).
const MAX_SILENT_TOKENS: u64 = 3;

/// What an answer without any block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// A whole answer: it was refused, or ended before its first block.
    Meant,
    /// The model had nothing to say. Claude Code asks for such answers itself after news from the background ("an empty reply is a valid,
    /// complete turn", read in 2.1.332), and asks once more where it did not expect one.
    Silent,
    /// An answer whose content was lost.
    Lost,
}

impl Empty {
    /// Classifies an answer without a block by its stop reason and the tokens it counts.
    pub fn of(stop: Option<StopReason>, usage: &UsageSoFar) -> Self {
        let counted = usage.tokens().output.unwrap_or_default();
        match stop {
            Some(StopReason::CutShort) => Self::Meant,
            Some(StopReason::EndTurn) if (1..=MAX_SILENT_TOKENS).contains(&counted) => Self::Silent,
            Some(StopReason::EndTurn | StopReason::ToolUse | StopReason::Other) | None => Self::Lost,
        }
    }
}

/// Longest error message that is kept for people, in bytes.
const MESSAGE_CAP: usize = 300;

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    error: Option<ErrorBody<'a>>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    partial_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Message<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
}

/// A whole answer, as far as it is judged.
#[derive(Debug, Clone, Default)]
pub struct WholeMessage {
    /// The model that it names; empty where it names none.
    pub model: String,
    /// Whether its `content` holds a block.
    pub has_block: bool,
    /// Its stop reason.
    pub stop: Option<StopReason>,
    /// Its token counts.
    pub usage: UsageSoFar,
}

impl WholeMessage {
    /// Reads a whole answer; `None` if it is not an object whose `content` is a list. Nothing else is looked for: Claude Code 2.1.332
    /// takes a message without `type` or behind a byte order mark.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Whole<'a> {
            #[serde(borrow)]
            content: Vec<&'a RawValue>,
            #[serde(borrow, default)]
            model: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            stop_reason: Option<&'a RawValue>,
            #[serde(borrow, default)]
            usage: Option<&'a RawValue>,
        }
        let whole: Whole<'_> = serde_json::from_slice(body.strip_prefix(BOM).unwrap_or(body)).ok()?;
        Some(Self {
            model: whole.model.map(Cow::into_owned).unwrap_or_default(),
            has_block: !whole.content.is_empty(),
            stop: whole.stop_reason.map(stop_reason),
            usage: UsageSoFar { start: whole.usage.map(ToOwned::to_owned), delta: None },
        })
    }
}

impl WholeMessage {
    /// Whether it counts tokens: Claude Code 2.1.332 refuses a message that does not.
    pub fn has_usage(&self) -> bool {
        self.usage.start.as_ref().is_some_and(|usage| usage.get().starts_with('{'))
    }
}

/// Whether a whole answer to a request for a count holds one.
pub fn is_count(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Count {
        #[serde(rename = "input_tokens")]
        _input_tokens: f64,
    }
    serde_json::from_slice::<Count>(body.strip_prefix(BOM).unwrap_or(body)).is_ok()
}

/// The token counts that a stream has told so far, as the provider wrote them.
#[derive(Debug, Clone, Default)]
pub struct UsageSoFar {
    start: Option<Box<RawValue>>,
    delta: Option<Box<RawValue>>,
}

impl UsageSoFar {
    /// The latest counts as JSON: a `message_delta`'s are cumulative, else those of `message_start`.
    pub fn json(&self) -> &str {
        self.delta.as_ref().or(self.start.as_ref()).map_or(r#"{"output_tokens":0}"#, |usage| usage.get())
    }
}

#[derive(Deserialize, Default)]
struct Counts {
    #[serde(rename = "input_tokens", default)]
    input: Option<u64>,
    #[serde(rename = "output_tokens", default)]
    output: Option<u64>,
    #[serde(rename = "cache_read_input_tokens", default)]
    cache_read: Option<u64>,
    #[serde(rename = "cache_creation_input_tokens", default)]
    cache_write: Option<u64>,
    /// Absent or null where the provider keeps no two kinds of cache.
    #[serde(default)]
    cache_creation: Option<CacheCreation>,
}

/// How long what was written to the cache lives.
#[derive(Deserialize, Default)]
struct CacheCreation {
    #[serde(rename = "ephemeral_1h_input_tokens", default)]
    hour: Option<u64>,
}

impl UsageSoFar {
    /// The counts as numbers: what a later event does not repeat is taken from `message_start`.
    pub fn tokens(&self) -> Tokens {
        let read = |usage: &Option<Box<RawValue>>| {
            usage.as_ref().and_then(|usage| serde_json::from_str::<Counts>(usage.get()).ok()).unwrap_or_default()
        };
        let (start, delta) = (read(&self.start), read(&self.delta));
        Tokens {
            input: delta.input.or(start.input),
            output: delta.output.or(start.output),
            cache_read: delta.cache_read.or(start.cache_read),
            cache_write: delta.cache_write.or(start.cache_write),
            cache_write_1h: [delta.cache_creation, start.cache_creation].into_iter().flatten().find_map(|creation| creation.hour),
        }
    }
}

/// How the client's SDK treats an event, by its name.
enum Reading {
    Parsed,
    Error,
    /// Skipped, and without a name.
    Nameless,
    Skipped,
}

fn reading(name: &[u8]) -> Reading {
    match name {
        b"content_block_delta"
        | b"content_block_start"
        | b"content_block_stop"
        | b"message_start"
        | b"message_delta"
        | b"message_stop"
        | b"message"
        | b"completion" => Reading::Parsed,
        b"error" => Reading::Error,
        b"" => Reading::Nameless,
        _ => Reading::Skipped,
    }
}

/// Reads one event; token counts go into `usage`.
pub fn read(event: &Event<'_>, usage: &mut UsageSoFar) -> Fact {
    match reading(event.name) {
        Reading::Parsed => match PlainDelta::of(event.data) {
            Some(delta) => delta.fact(),
            None => parsed(event.data, usage).0,
        },
        _ => unparsed(event),
    }
}

/// Like [`read`], with the text that the event brings: of a text block alone, not of thinking or a tool call.
pub fn read_with_text(event: &Event<'_>, usage: &mut UsageSoFar) -> (Fact, Option<String>) {
    match reading(event.name) {
        Reading::Parsed => match PlainDelta::of(event.data) {
            Some(delta) => (delta.fact(), delta.text()),
            None => parsed(event.data, usage),
        },
        _ => (unparsed(event), None),
    }
}

/// An event that the client does not parse. A failure that a provider reports in one is a failure all the same.
fn unparsed(event: &Event<'_>) -> Fact {
    match reading(event.name) {
        Reading::Error => error_event(event.data),
        // Some providers send an error body without an event name.
        Reading::Nameless => nameless_error(event.data).unwrap_or(Fact::Sign),
        Reading::Parsed | Reading::Skipped => Fact::Sign,
    }
}

/// An error body, or a code and a message without one.
fn nameless_error(data: &[u8]) -> Option<Fact> {
    let text = str::from_utf8(data).ok()?;
    let raw = lenient(text)?;
    if raw.kind.as_deref().is_some_and(|kind| kind != "error") {
        return None;
    }
    let flat = || serde_json::from_str::<ErrorBody<'_>>(text).ok().filter(|flat| flat.code.is_some() && flat.message.is_some());
    raw.error.or_else(flat).map(|told| error(Some(&told)))
}

/// An `error` event is one whatever its data holds.
fn error_event(data: &[u8]) -> Fact {
    let text = String::from_utf8_lossy(data);
    match lenient(&text) {
        Some(raw) => error(raw.error.as_ref()),
        None => Fact::Error { kind: "api_error".into(), message: shortened(&text).into() },
    }
}

fn parsed(data: &[u8], usage: &mut UsageSoFar) -> (Fact, Option<String>) {
    if let Ok(raw) = serde_json::from_slice::<Raw<'_>>(data) {
        return fact_with_text(&raw, usage);
    }
    let text = String::from_utf8_lossy(data);
    match lenient(&text) {
        Some(raw) => fact_with_text(&raw, usage),
        // A list, a string or a number has no type, so the client skips it; `null` it cannot look into.
        None if text.trim() != "null" && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() => (Fact::Sign, None),
        None => (Fact::Malformed, None),
    }
}

/// Reads what a browser's `JSON.parse` takes and a strict reader does not: broken UTF-8, a name twice, an index in quotes.
fn lenient(text: &str) -> Option<Raw<'_>> {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    Some(Raw {
        kind: field(&fields, "type"),
        index: field(&fields, "index"),
        content_block: field(&fields, "content_block"),
        delta: field(&fields, "delta"),
        error: field(&fields, "error"),
        message: fields.get("message").copied(),
        usage: fields.get("usage").copied(),
    })
}

fn field<'a, T: Deserialize<'a>>(fields: &HashMap<String, &'a RawValue>, name: &str) -> Option<T> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

fn fact_with_text(raw: &Raw<'_>, usage: &mut UsageSoFar) -> (Fact, Option<String>) {
    let fact = fact(raw, usage);
    let text = raw.delta.as_ref().and_then(|delta| delta.text).filter(|_| matches!(fact, Fact::Delta { .. }));
    (fact, text.and_then(|text| serde_json::from_str(text.get()).ok()))
}

/// A delta in the form in which Claude's own servers write it, as nearly every event of an answer is. It is told from its bytes: to read it as any JSON
/// costs seven times as much, and more than all else that is done for an event.
struct PlainDelta<'a> {
    /// What it brings, a JSON string with its quotes.
    said: &'a str,
    is_text: bool,
}

impl<'a> PlainDelta<'a> {
    /// None: it is something else, or some other form of it, and JSON has to say what.
    fn of(data: &'a [u8]) -> Option<Self> {
        const KINDS: [(&[u8], bool); 3] = [
            (br#"{"type":"text_delta","text":"#, true),
            (br#"{"type":"thinking_delta","thinking":"#, false),
            (br#"{"type":"input_json_delta","partial_json":"#, false),
        ];
        let rest = data.strip_prefix(br#"{"type":"content_block_delta","index":"#)?;
        let rest = after_index(rest)?.strip_prefix(br#","delta":"#)?;
        let (rest, is_text) = KINDS.iter().find_map(|(start, is_text)| Some((rest.strip_prefix(*start)?, *is_text)))?;
        // The servers put spaces there, so that lengths on the wire say nothing of the words.
        let mut said = rest.strip_suffix(b"}")?;
        while let Some(shorter) = said.strip_suffix(b" ") {
            said = shorter;
        }
        let said = said.strip_suffix(b"}").filter(|said| is_plain_string(said))?;
        Some(Self { said: str::from_utf8(said).ok()?, is_text })
    }

    fn fact(&self) -> Fact {
        Fact::Delta { substance: self.said != "\"\"" }
    }

    fn text(&self) -> Option<String> {
        serde_json::from_str(self.said).ok().filter(|_| self.is_text)
    }
}

/// What stands behind a block's place in the message.
fn after_index(rest: &[u8]) -> Option<&[u8]> {
    // Fewer than the digits of the largest number, and no leading zero: a place that JSON would take, too.
    let digits = rest.iter().take(19).take_while(|byte| byte.is_ascii_digit()).count();
    let is_number = digits == 1 || (2..19).contains(&digits) && rest[0] != b'0';
    is_number.then(|| &rest[digits..])
}

/// Whether this is a whole JSON string without `\u`, which can be wrong in more ways than one.
fn is_plain_string(quoted: &[u8]) -> bool {
    let Some(inside) = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else { return false };
    let mut bytes = inside.iter();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'\\' => matches!(bytes.next(), Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')),
            b'"' => false,
            byte => *byte >= b' ',
        };
        if !fits {
            return false;
        }
    }
    true
}

fn fact(raw: &Raw<'_>, usage: &mut UsageSoFar) -> Fact {
    match raw.kind.as_deref().unwrap_or_default().as_bytes() {
        b"content_block_delta" => Fact::Delta { substance: raw.delta.as_ref().is_some_and(has_substance) },
        b"content_block_start" => Fact::BlockStart {
            index: raw.index.unwrap_or_default(),
            kind: block_kind(raw.content_block.as_ref().and_then(|block| block.kind.as_deref()).unwrap_or_default()),
        },
        b"content_block_stop" => Fact::BlockStop,
        b"message_start" => {
            let message = raw.message.and_then(|message| serde_json::from_str::<Message<'_>>(message.get()).ok()).unwrap_or_default();
            usage.start = message.usage.map(ToOwned::to_owned);
            Fact::Start { model: message.model.unwrap_or_default().into() }
        }
        b"message_delta" => {
            if let Some(counts) = raw.usage {
                usage.delta = Some(counts.to_owned());
            }
            let stop = raw.delta.as_ref().and_then(|delta| delta.stop_reason).map(stop_reason);
            Fact::MessageDelta { stop }
        }
        b"message_stop" => Fact::Stop,
        b"error" => error(raw.error.as_ref()),
        _ => Fact::Sign,
    }
}

fn stop_reason(json: &RawValue) -> StopReason {
    match json.get().trim_matches('"') {
        "tool_use" => StopReason::ToolUse,
        "end_turn" => StopReason::EndTurn,
        "refusal" | "max_tokens" | "stop_sequence" | "pause_turn" | "model_context_window_exceeded" | "compaction" => StopReason::CutShort,
        _ => StopReason::Other,
    }
}

fn error(body: Option<&ErrorBody<'_>>) -> Fact {
    let code = body.and_then(|error| error.code).map(|code| code.get().trim_matches('"'));
    // OpenRouter gives a status where Anthropic gives a type.
    let number = || code.and_then(|code| code.parse().ok()).map(failure::type_of_number);
    // A generic type stands beside a code that says what it is.
    let telling = code.filter(|code| failure::is_known_name(code));
    let kind = telling.or_else(|| body?.kind.as_deref()).or_else(number).unwrap_or("api_error");
    let message = body.and_then(|error| error.message.as_deref()).unwrap_or_default();
    Fact::Error { kind: kind.into(), message: shortened(message).into() }
}

pub(crate) fn shortened(message: &str) -> &str {
    let mut end = message.len().min(MESSAGE_CAP);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

fn has_substance(delta: &Delta<'_>) -> bool {
    [delta.text, delta.thinking, delta.partial_json].into_iter().flatten().any(|value| value.get() != "\"\"")
}

fn block_kind(kind: &str) -> BlockKind {
    match kind {
        "thinking" | "redacted_thinking" => BlockKind::Thinking,
        "tool_use" => BlockKind::ToolCall,
        "server_tool_use" | "mcp_tool_use" => BlockKind::ServerTool,
        kind if kind.ends_with("_tool_result") => BlockKind::ServerToolResult,
        _ => BlockKind::Text,
    }
}

impl Fact {
    /// Whether it brings the answer on: the first such event commits, and the content clock starts anew with each.
    pub fn is_content(&self) -> bool {
        matches!(self, Self::BlockStart { .. } | Self::Delta { .. } | Self::BlockStop | Self::MessageDelta { .. } | Self::Stop)
    }

    /// Whether the answer is whole in meaning with it.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::MessageDelta { stop: Some(_) } | Self::Stop)
    }

    /// Puts it into what a reader of the stream has seen.
    pub fn apply(&self, position: &mut Position) {
        match self {
            Self::Start { .. } => position.started = true,
            Self::BlockStart { index, kind } => position.open(*index, *kind),
            Self::Delta { substance: true } => position.begin(),
            Self::BlockStop => position.close(),
            Self::MessageDelta { stop: Some(_) } => position.stop_reason = true,
            Self::Stop => position.stopped = true,
            Self::Sign | Self::Delta { substance: false } | Self::MessageDelta { stop: None } | Self::Error { .. } | Self::Malformed => {}
        }
    }
}

/// Whether a stream of which everything is here is an answer: it starts, has a block and ends.
pub fn is_whole(text: &[u8]) -> bool {
    let (mut usage, mut position, mut broken) = (UsageSoFar::default(), Position::default(), false);
    Scanner::new().feed(text, |event| {
        let fact = read(&event, &mut usage);
        broken |= matches!(fact, Fact::Error { .. } | Fact::Malformed);
        fact.apply(&mut position);
    });
    !broken && position.started && position.next_index > 0 && position.is_complete()
}

/// The events that hand a broken answer back to Claude Code: an open text block is closed, an open tool call or thinking block stays open
/// (the client drops it), and the message ends as if its length were used up, so that the client asks for the rest.
pub fn hand_back(position: &Position, usage: &UsageSoFar) -> String {
    let open_text = position.open.filter(|open| matches!(open.kind, BlockKind::Text));
    let mut events = open_text.map_or_else(String::new, |open| {
        format!("event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{}}}\n\n", open.index)
    });
    events += "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null},\"usage\":";
    events += &usage.json().replace(['\n', '\r'], " ");
    events += "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    events
}

/// A ping of our own, in the provider's form.
pub const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(stream: &str) -> (Vec<Fact>, Position, UsageSoFar) {
        let mut usage = UsageSoFar::default();
        let mut facts = Vec::new();
        let mut position = Position::default();
        Scanner::new().feed(stream.as_bytes(), |event| {
            let fact = read(&event, &mut usage);
            fact.apply(&mut position);
            facts.push(fact);
        });
        (facts, position, usage)
    }

    /// An event of a message, as a provider names it.
    fn event(data: &str) -> Fact {
        named("message", data)
    }

    fn named(name: &str, data: &str) -> Fact {
        read(&Event { name: name.as_bytes(), data: data.as_bytes(), end: 0 }, &mut UsageSoFar::default())
    }

    #[test]
    fn each_kind_of_event_is_known() {
        assert_eq!(event(r#"{"type":"ping"}"#), Fact::Sign);
        assert_eq!(event(r#"{"type":"something_new","x":[1]}"#), Fact::Sign);
        assert_eq!(
            event(r#"{"type":"content_block_start","index":3,"content_block":{"type":"redacted_thinking","data":"x"}}"#),
            Fact::BlockStart { index: 3, kind: BlockKind::Thinking }
        );
        assert_eq!(
            event(r#"{"type":"content_block_start","index":0,"content_block":{"type":"web_search_tool_result","content":[]}}"#),
            Fact::BlockStart { index: 0, kind: BlockKind::ServerToolResult }
        );
        assert_eq!(
            event(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#),
            Fact::Delta { substance: false }
        );
        assert_eq!(
            event(r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}"#),
            Fact::Delta { substance: true }
        );
        assert_eq!(
            event(r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":3}}"#),
            Fact::MessageDelta { stop: None }
        );
        assert_eq!(event("[DONE]"), Fact::Malformed);
        assert_eq!(event("<html>"), Fact::Malformed);
        assert_eq!(
            named("", r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#),
            Fact::Error { kind: "overloaded_error".into(), message: "Overloaded".into() }
        );
        assert_eq!(
            named("", r#"{"message":"insufficient_user_quota","code":429}"#),
            Fact::Error { kind: "rate_limit_error".into(), message: "insufficient_user_quota".into() }
        );
        assert_eq!(
            named("", r#"{"error":{"code":402,"message":"no credits"},"id":"x"}"#),
            Fact::Error { kind: "billing_error".into(), message: "no credits".into() }
        );
        assert_eq!(
            named("", r#"{"error":{"type":"api_error","code":"insufficient_quota","message":"no"}}"#),
            Fact::Error { kind: "insufficient_quota".into(), message: "no".into() }
        );
    }

    #[test]
    fn each_kind_of_block_is_known() {
        let kind = |name: &str| match event(&format!(r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"{name}"}}}}"#)) {
            Fact::BlockStart { kind, .. } => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!((kind("text"), kind("something_new")), (BlockKind::Text, BlockKind::Text));
        assert_eq!(kind("thinking"), BlockKind::Thinking);
        assert_eq!(kind("tool_use"), BlockKind::ToolCall);
        assert_eq!((kind("server_tool_use"), kind("mcp_tool_use")), (BlockKind::ServerTool, BlockKind::ServerTool));
        assert_eq!(kind("mcp_tool_result"), BlockKind::ServerToolResult);
    }

    #[test]
    fn stop_reason_is_read_from_a_message_delta() {
        for (said, reason) in [
            ("null", None),
            ("\"tool_use\"", Some(StopReason::ToolUse)),
            ("\"end_turn\"", Some(StopReason::EndTurn)),
            ("\"refusal\"", Some(StopReason::CutShort)),
            ("\"network_error\"", Some(StopReason::Other)),
        ] {
            let told = event(&format!(r#"{{"type":"message_delta","delta":{{"stop_reason":{said}}}}}"#));
            assert_eq!(told, Fact::MessageDelta { stop: reason });
            assert_eq!(told.is_success(), reason.is_some());
        }
    }

    #[test]
    fn events_outside_the_message_are_not_parsed() {
        let text = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#;
        for (name, data) in [
            ("ping", "ping"),
            ("ping", "{"),
            ("keepalive", "not JSON"),
            ("", "[DONE]"),
            ("", "x"),
            ("", text),
            ("chunk", text),
            ("ping", text),
            ("ping ", "x"),
            ("Message_start", r#"{"type":"message_start"}"#),
        ] {
            assert_eq!(named(name, data), Fact::Sign, "{name}: {data}");
        }
    }

    #[test]
    fn events_of_the_message_are_read_by_their_type() {
        assert_eq!(named("message", r#"{"type":"content_block_stop","index":0}"#), Fact::BlockStop);
        assert_eq!(named("message_stop", r#"{"type":"content_block_stop","index":0}"#), Fact::BlockStop);
        for data in ["[]", "7", "\"x\"", "{}", r#"{"index":0}"#, r#"{"type":"new"}"#] {
            assert_eq!(named("content_block_stop", data), Fact::Sign, "{data}");
        }
        for data in ["null", "{", "x", "{} {}", "{'type':1}"] {
            assert_eq!(named("content_block_stop", data), Fact::Malformed, "{data}");
        }
    }

    /// Each passes the client's own parser (measured with Claude Code 2.1.332 for the first two).
    #[test]
    fn json_that_the_client_takes_is_not_malformed() {
        let delta =
            |text: &[u8]| [br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""#, text, br#""}}"#].concat();
        for data in [
            delta(br"half a pair \ud83d"),
            delta(b"broken \xc3 UTF-8"),
            br#"{"type":"content_block_delta","type":"content_block_delta","delta":{"text":"x"}}"#.to_vec(),
            br#"{"type":"content_block_delta","index":"0","delta":{"text":"x"}}"#.to_vec(),
            br#"{"type":"content_block_delta","index":-1,"delta":{"text":"x"}}"#.to_vec(),
        ] {
            let fact = read(&Event { name: b"content_block_delta", data: &data, end: 0 }, &mut UsageSoFar::default());
            assert_eq!(fact, Fact::Delta { substance: true }, "{}", String::from_utf8_lossy(&data));
        }
    }

    #[test]
    fn error_event_needs_no_json() {
        assert_eq!(named("error", "upstream gone"), Fact::Error { kind: "api_error".into(), message: "upstream gone".into() });
        assert_eq!(named("error", r#"{"error":"gone"}"#), Fact::Error { kind: "api_error".into(), message: "".into() });
        assert_eq!(named("error", "[]"), Fact::Error { kind: "api_error".into(), message: "[]".into() });
    }

    #[test]
    fn empty_answer_is_judged_by_reason_and_tokens() {
        let empty = |stop, output: &str| {
            let mut usage = UsageSoFar::default();
            let data = format!(r#"{{"type":"message_delta","delta":{{}},"usage":{{"output_tokens":{output}}}}}"#);
            read(&Event { name: b"message_delta", data: data.as_bytes(), end: 0 }, &mut usage);
            Empty::of(stop, &usage)
        };
        assert_eq!(empty(Some(StopReason::CutShort), "0"), Empty::Meant);
        for (tokens, kind) in [("0", Empty::Lost), ("1", Empty::Silent), ("3", Empty::Silent), ("4", Empty::Lost), ("null", Empty::Lost)] {
            assert_eq!(empty(Some(StopReason::EndTurn), tokens), kind, "{tokens}");
        }
        for stop in [Some(StopReason::ToolUse), Some(StopReason::Other), None] {
            assert_eq!(empty(stop, "2"), Empty::Lost, "{stop:?}");
        }
    }

    #[test]
    fn what_brings_an_answer_on_is_content_and_a_sign_of_life_is_none() {
        let start = event(r#"{"type":"message_start","message":{}}"#);
        let error = event(r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#);
        for fact in [&start, &error, &Fact::Sign, &Fact::Malformed] {
            assert!(!fact.is_content() && !fact.is_success(), "{fact:?}");
        }
        for fact in [Fact::BlockStop, Fact::Delta { substance: false }, Fact::MessageDelta { stop: None }] {
            assert!(fact.is_content() && !fact.is_success(), "{fact:?}");
        }
        assert!(Fact::Stop.is_content() && Fact::Stop.is_success());
    }

    #[test]
    fn an_error_is_known_by_its_event_s_name_too_and_its_words_are_cut_between_letters() {
        let known = Fact::Error { kind: "overloaded_error".into(), message: "".into() };
        assert_eq!(named("error", r#"{"error":{"type":"overloaded_error"}}"#), known);
        assert!(matches!(named("error", "{}"), Fact::Error { .. }));
        assert_eq!(event(r#"{"type":"error","error":{"type":"overloaded_error"}}"#), known);
        let other = event(r#"{"type":"something_new","error":{"type":"overloaded_error"}}"#);
        assert_eq!(other, Fact::Sign, "what names another type is no error");
        let long = format!("{}é", "x".repeat(MESSAGE_CAP - 1));
        assert_eq!(shortened(&long), "x".repeat(MESSAGE_CAP - 1));
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn an_answer_names_its_model_at_its_start() {
        let start = |model: &str| Fact::Start { model: model.into() };
        assert_eq!(event(r#"{"type":"message_start","message":{"id":"m","model":"glm-5"}}"#), start("glm-5"));
        assert_eq!(event(r#"{"type":"message_start","message":{}}"#), start(""));
        assert_eq!(event(r#"{"type":"ping","message":{"model":"x"}}"#), Fact::Sign);
    }

    /// What both ways of reading say of an event.
    fn both_ways(data: &[u8]) -> [(Fact, Fact, Option<String>); 2] {
        let event = Event { name: b"content_block_delta", data, end: 0 };
        let mut usage = UsageSoFar::default();
        let (fast, slow) = (read_with_text(&event, &mut usage), parsed(data, &mut usage));
        [(read(&event, &mut usage), fast.0, fast.1), (slow.0.clone(), slow.0, slow.1)]
    }

    #[test]
    fn a_delta_as_it_usually_is_needs_no_json_and_says_the_same() {
        for data in [
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"**A**\n\n- \"b\" \u{e9}"}           }"#,
            r#"{"type":"content_block_delta","index":12,"delta":{"type":"thinking_delta","thinking":"Hm"}  }"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"/a\\\\b"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        ] {
            let data = data.replace("\\u{e9}", "é");
            assert!(PlainDelta::of(data.as_bytes()).is_some(), "{data}");
            let [fast, slow] = both_ways(data.as_bytes());
            assert_eq!(fast, slow);
            assert!(matches!(fast.0, Fact::Delta { .. }), "{data}");
        }
    }

    proptest! {
        #[test]
        fn a_delta_says_the_same_to_both_ways_of_reading_however_it_is_bent(
            said in r#"([a-z" \\\x00-\x20éu]|\\["\\/bfnrtux]){0,8}"#,
            index in "[0-9]{0,21}",
            kind in 0usize..4,
            padding in "[ \t\r\n]{0,2}",
            end in proptest::sample::select(vec!["}", "", "}}", "} ", ",\"x\":1}"]),
            flip in proptest::option::of((0usize..120, any::<u8>())),
        ) {
            let kind = [
                r#"{"type":"text_delta","text":""#,
                r#"{"type":"thinking_delta","thinking":""#,
                r#"{"type":"input_json_delta","partial_json":""#,
                r#"{"type":"signature_delta","signature":""#,
            ][kind];
            let mut data = format!("{{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{kind}{said}\"}}{padding}{end}").into_bytes();
            if let Some((at, byte)) = flip {
                let at = at % data.len();
                data[at] = byte;
            }
            let [fast, slow] = both_ways(&data);
            prop_assert_eq!(fast, slow, "{}", String::from_utf8_lossy(&data));
        }
    }

    #[test]
    fn a_hand_back_is_a_well_formed_ending() {
        let (_, position, usage) = facts(concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
        ));
        let (facts, after, _) = facts(&hand_back(&position, &usage));
        assert_eq!(facts, [Fact::BlockStop, Fact::MessageDelta { stop: Some(StopReason::CutShort) }, Fact::Stop]);
        assert!(after.stopped);
        assert!(hand_back(&position, &usage).contains(r#""usage":{"input_tokens":9,"output_tokens":1}"#));
    }

    #[test]
    fn whole_stream_starts_has_a_block_and_ends() {
        let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
        let block = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{}}\n\n";
        let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let odd = "event: message_stop\ndata: oops\n\n";
        assert!(is_whole([start, block, stop].concat().as_bytes()));
        for text in [[start, stop, ""], [block, stop, ""], [start, block, ""], [start, block, odd], ["{}", "", ""]] {
            assert!(!is_whole(text.concat().as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn a_hand_back_leaves_an_open_tool_call_open() {
        let mut position = Position::default();
        position.open(0, BlockKind::Text);
        position.close();
        position.open(1, BlockKind::ToolCall);
        let (facts, _, _) = facts(&hand_back(&position, &UsageSoFar::default()));
        assert_eq!(facts, [Fact::MessageDelta { stop: Some(StopReason::CutShort) }, Fact::Stop]);
    }

    #[test]
    fn what_is_written_to_the_cache_for_an_hour_is_counted_apart() {
        let tokens = |usage: &str| {
            let body = format!(r#"{{"type":"message","content":[],"usage":{usage}}}"#);
            let tokens = WholeMessage::read(body.as_bytes()).expect("a message").usage.tokens();
            (tokens.cache_write, tokens.cache_write_1h)
        };
        let both = r#"{"input_tokens":1,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":7}}"#;
        assert_eq!(tokens(both), (Some(9), Some(7)));
        assert_eq!(tokens(r#"{"input_tokens":1,"cache_creation_input_tokens":9,"cache_creation":null}"#), (Some(9), None));
        assert_eq!(tokens(r#"{"input_tokens":1}"#), (None, None));
    }

    #[test]
    fn whole_answer_is_an_object_with_a_list_of_content() {
        let whole = r#"{"content":[{"type":"text","text":"x"}],"model":"glm-5","stop_reason":"tool_use","usage":{"output_tokens":4}}"#;
        for body in [whole.to_owned(), format!("\u{feff}{whole}"), format!(" \n{whole}\n")] {
            let message = WholeMessage::read(body.as_bytes()).expect("a message");
            assert_eq!((&*message.model, message.has_block, message.stop), ("glm-5", true, Some(StopReason::ToolUse)));
            assert_eq!(message.usage.tokens().output, Some(4));
        }
        assert!(!WholeMessage::read(br#"{"content":[]}"#).expect("a message").has_block);
        for body in
            ["", "{}", "[]", "\"x\"", "null", r#"{"content":null}"#, r#"{"content":"x"}"#, r#"{"code":500,"msg":"x"}"#, "event: ping\n\n"]
        {
            assert!(WholeMessage::read(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn count_is_an_object_with_a_number() {
        assert!(is_count(br#"{"input_tokens":42}"#) && is_count(b"\xef\xbb\xbf{\"input_tokens\":0,\"x\":1}"));
        for body in ["{}", "42", r#"{"input_tokens":null}"#, r#"{"input_tokens":"42"}"#, r#"{"code":500}"#] {
            assert!(!is_count(body.as_bytes()), "{body}");
        }
    }
}
