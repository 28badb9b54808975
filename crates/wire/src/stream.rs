//! Says what one event of an answer means for the stream's grammar. Never judges, and never keeps an answer's text.

use std::borrow::Cow;

use hotspare_core::commitment::BlockKind;
use hotspare_core::{Position, Tokens};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure;
use crate::sse::Event;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// `ping`, or an event of an unknown type: it proves life, nothing more.
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
    /// Its data is no JSON object.
    Malformed,
}

/// Why an answer ended, as far as routing cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// `tool_use`: the client's turn goes on with the tool's result.
    ToolUse,
    /// Any other.
    Other,
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

/// The model that a whole answer names.
pub fn model_of_whole(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Message<'_>>(body).ok()?.model.map(Cow::into_owned)
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
    /// The counts of a whole answer.
    pub fn of_whole(body: &[u8]) -> Self {
        let usage = serde_json::from_slice::<Message<'_>>(body).ok().and_then(|message| message.usage.map(ToOwned::to_owned));
        Self { start: usage, delta: None }
    }

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

/// Reads one event; token counts go into `usage`.
pub fn read(event: &Event<'_>, usage: &mut UsageSoFar) -> Fact {
    if let Some(delta) = PlainDelta::of(event.data) {
        return delta.fact();
    }
    read_any(event, usage)
}

fn read_any(event: &Event<'_>, usage: &mut UsageSoFar) -> Fact {
    serde_json::from_slice::<Raw<'_>>(event.data).map_or(Fact::Malformed, |raw| fact(&raw, event.name, usage))
}

/// The same, with the text that the event brings: of a text block alone, not of thinking or a tool call.
pub fn read_with_text(event: &Event<'_>, usage: &mut UsageSoFar) -> (Fact, Option<String>) {
    if let Some(delta) = PlainDelta::of(event.data) {
        return (delta.fact(), delta.text());
    }
    read_any_with_text(event, usage)
}

fn read_any_with_text(event: &Event<'_>, usage: &mut UsageSoFar) -> (Fact, Option<String>) {
    let Ok(raw) = serde_json::from_slice::<Raw<'_>>(event.data) else {
        return (Fact::Malformed, None);
    };
    let text = raw.delta.as_ref().and_then(|delta| delta.text);
    let fact = fact(&raw, event.name, usage);
    let text = text.filter(|_| matches!(fact, Fact::Delta { .. }));
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

fn fact(raw: &Raw<'_>, name: &[u8], usage: &mut UsageSoFar) -> Fact {
    let kind = match &raw.kind {
        Some(kind) => kind.as_bytes(),
        None => name,
    };
    match kind {
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
        // Some providers send an error body without an event name or type.
        _ if raw.kind.is_none() && raw.error.is_some() => error(raw.error.as_ref()),
        _ => Fact::Sign,
    }
}

fn stop_reason(json: &RawValue) -> StopReason {
    if json.get() == "\"tool_use\"" { StopReason::ToolUse } else { StopReason::Other }
}

/// The stop reason of a whole answer.
pub fn stop_of_whole(body: &[u8]) -> Option<StopReason> {
    #[derive(Deserialize)]
    struct Whole<'a> {
        #[serde(borrow, default)]
        stop_reason: Option<&'a RawValue>,
    }
    serde_json::from_slice::<Whole<'_>>(body).ok()?.stop_reason.map(stop_reason)
}

fn error(body: Option<&ErrorBody<'_>>) -> Fact {
    // OpenRouter gives a status where Anthropic gives a type.
    let number = || body.and_then(|error| error.code?.get().trim_matches('"').parse().ok()).map(failure::type_of_number);
    let kind = body.and_then(|error| error.kind.as_deref()).or_else(number).unwrap_or("api_error");
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
    use crate::sse::Scanner;

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

    fn event(data: &str) -> Fact {
        read(&Event { name: b"", data: data.as_bytes(), end: 0 }, &mut UsageSoFar::default())
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
            event(r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#),
            Fact::Error { kind: "overloaded_error".into(), message: "Overloaded".into() }
        );
        assert_eq!(
            event(r#"{"error":{"code":402,"message":"no credits"},"id":"x"}"#),
            Fact::Error { kind: "billing_error".into(), message: "no credits".into() }
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
    fn a_stop_reason_says_whether_the_turn_goes_on() {
        for (said, reason) in [("null", None), ("\"tool_use\"", Some(StopReason::ToolUse)), ("\"end_turn\"", Some(StopReason::Other))] {
            let told = event(&format!(r#"{{"type":"message_delta","delta":{{"stop_reason":{said}}}}}"#));
            assert_eq!(told, Fact::MessageDelta { stop: reason });
            assert_eq!(told.is_success(), reason.is_some());
            assert_eq!(stop_of_whole(format!(r#"{{"type":"message","stop_reason":{said}}}"#).as_bytes()), reason);
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
        let nameless = Event { name: b"error", data: br#"{"error":{"type":"overloaded_error"}}"#, end: 0 };
        let known = Fact::Error { kind: "overloaded_error".into(), message: "".into() };
        assert_eq!(read(&nameless, &mut UsageSoFar::default()), known);
        let told = Event { name: b"error", data: b"{}", end: 0 };
        assert!(matches!(read(&told, &mut UsageSoFar::default()), Fact::Error { .. }));
        let other = event(r#"{"type":"something_new","error":{"type":"overloaded_error"}}"#);
        assert_eq!(other, Fact::Sign, "what names another type is no error");
        let long = format!("{}é", "x".repeat(MESSAGE_CAP - 1));
        assert_eq!(shortened(&long), "x".repeat(MESSAGE_CAP - 1));
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn an_answer_names_its_model_at_its_start() {
        let named = |model: &str| Fact::Start { model: model.into() };
        assert_eq!(event(r#"{"type":"message_start","message":{"id":"m","model":"glm-5"}}"#), named("glm-5"));
        assert_eq!(event(r#"{"type":"message_start","message":{}}"#), named(""));
        assert_eq!(event(r#"{"type":"ping","message":{"model":"x"}}"#), Fact::Sign);
        assert_eq!(model_of_whole(br#"{"type":"message","model":"glm-5"}"#).as_deref(), Some("glm-5"));
    }

    /// What both ways of reading say of an event.
    fn both_ways(data: &[u8]) -> [(Fact, Fact, Option<String>); 2] {
        let event = Event { name: b"", data, end: 0 };
        let mut usage = UsageSoFar::default();
        let (fast, slow) = (read_with_text(&event, &mut usage), read_any_with_text(&event, &mut usage));
        [(read(&event, &mut usage), fast.0, fast.1), (read_any(&event, &mut usage), slow.0, slow.1)]
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
        assert_eq!(facts, [Fact::BlockStop, Fact::MessageDelta { stop: Some(StopReason::Other) }, Fact::Stop]);
        assert!(after.stopped);
        assert!(hand_back(&position, &usage).contains(r#""usage":{"input_tokens":9,"output_tokens":1}"#));
    }

    #[test]
    fn a_hand_back_leaves_an_open_tool_call_open() {
        let mut position = Position::default();
        position.open(0, BlockKind::Text);
        position.close();
        position.open(1, BlockKind::ToolCall);
        let (facts, _, _) = facts(&hand_back(&position, &UsageSoFar::default()));
        assert_eq!(facts, [Fact::MessageDelta { stop: Some(StopReason::Other) }, Fact::Stop]);
    }

    #[test]
    fn what_is_written_to_the_cache_for_an_hour_is_counted_apart() {
        let tokens = |usage: &str| {
            let body = format!(r#"{{"type":"message","usage":{usage}}}"#);
            let tokens = UsageSoFar::of_whole(body.as_bytes()).tokens();
            (tokens.cache_write, tokens.cache_write_1h)
        };
        let both = r#"{"input_tokens":1,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":7}}"#;
        assert_eq!(tokens(both), (Some(9), Some(7)));
        assert_eq!(tokens(r#"{"input_tokens":1,"cache_creation_input_tokens":9,"cache_creation":null}"#), (Some(9), None));
        assert_eq!(tokens(r#"{"input_tokens":1}"#), (None, None));
    }
}
