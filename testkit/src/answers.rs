//! Ready-made answers as event lists, so that tests can cut them at named positions. The words are our own.

use serde_json::{Value, json};

use crate::script::Event;

/// A named place in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// After `message_start`.
    AfterMessageStart,
    /// After the start of the n-th block.
    AfterBlockStart(usize),
    /// After the first delta with content of the n-th block.
    InBlock(usize),
    /// After the end of the n-th block.
    AfterBlock(usize),
    /// Before the event with the stop reason.
    BeforeMessageDelta,
    /// Before `message_stop`.
    BeforeMessageStop,
    /// All of it.
    Whole,
}

/// The part of an answer before a position.
///
/// # Panics
///
/// When the answer has no such place.
pub fn upto(events: &[Event], position: Position) -> &[Event] {
    let kind = |event: &Event| serde_json::from_str::<Value>(&event.data).unwrap_or_default();
    let nth = |name: &str, block: usize| {
        events.iter().position(|event| event.name == name && kind(event)["index"] == block).expect("the answer has this block")
    };
    let first = |name: &str| events.iter().position(|event| event.name == name).expect("the answer has this event");
    let end = match position {
        Position::AfterMessageStart => first("message_start") + 1,
        Position::AfterBlockStart(block) => nth("content_block_start", block) + 1,
        Position::InBlock(block) => {
            let start = nth("content_block_start", block);
            let delta = events[start..].iter().position(|event| has_content(&kind(event))).expect("the block has content");
            start + delta + 1
        }
        Position::AfterBlock(block) => nth("content_block_stop", block) + 1,
        Position::BeforeMessageDelta => first("message_delta"),
        Position::BeforeMessageStop => first("message_stop"),
        Position::Whole => events.len(),
    };
    &events[..end]
}

fn has_content(event: &Value) -> bool {
    ["text", "thinking", "partial_json"].iter().any(|key| event["delta"][key].as_str().is_some_and(|text| !text.is_empty()))
}

fn event(name: &str, data: &Value) -> Event {
    Event { name: name.to_owned(), data: data.to_string() }
}

fn usage(output: usize) -> Value {
    json!({"input_tokens": 12, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 4000, "output_tokens": output, "service_tier": "standard"})
}

fn start() -> Vec<Event> {
    start_of("msg_scripted", "claude-opus-5-5")
}

fn start_of(id: &str, model: &str) -> Vec<Event> {
    let message = json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(1),
    });
    vec![event("message_start", &json!({"type": "message_start", "message": message})), event("ping", &json!({"type": "ping"}))]
}

fn block(index: usize, start: &Value, deltas: &[Value]) -> Vec<Event> {
    let mut events = vec![event("content_block_start", &json!({"type": "content_block_start", "index": index, "content_block": start}))];
    events.extend(
        deltas.iter().map(|delta| event("content_block_delta", &json!({"type": "content_block_delta", "index": index, "delta": delta}))),
    );
    events.push(event("content_block_stop", &json!({"type": "content_block_stop", "index": index})));
    events
}

fn finish(stop_reason: &str, output: usize) -> Vec<Event> {
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": null}, "usage": usage(output)});
    vec![event("message_delta", &delta), event("message_stop", &json!({"type": "message_stop"}))]
}

/// About four pieces, cut between characters.
fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(letters.len().div_ceil(4).max(1)).map(|piece| piece.iter().collect()).collect()
}

fn text_block(index: usize, text: &str) -> Vec<Event> {
    let deltas: Vec<Value> = pieces(text).into_iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect();
    block(index, &json!({"type": "text", "text": ""}), &deltas)
}

fn thinking_block(index: usize, thinking: &str) -> Vec<Event> {
    thought(index, thinking, Some("c2NyaXB0ZWQtc2lnbmF0dXJl"))
}

fn thought(index: usize, thinking: &str, signature: Option<&str>) -> Vec<Event> {
    let mut deltas: Vec<Value> = pieces(thinking).into_iter().map(|piece| json!({"type": "thinking_delta", "thinking": piece})).collect();
    deltas.extend(signature.map(|signature| json!({"type": "signature_delta", "signature": signature})));
    block(index, &json!({"type": "thinking", "thinking": "", "signature": ""}), &deltas)
}

fn tool_block(index: usize, tool: &str, input: &str) -> Vec<Event> {
    call(index, &format!("toolu_scripted_{index}"), tool, input)
}

fn call(index: usize, id: &str, tool: &str, input: &str) -> Vec<Event> {
    let mut deltas = vec![json!({"type": "input_json_delta", "partial_json": ""})];
    deltas.extend(pieces(input).into_iter().map(|piece| json!({"type": "input_json_delta", "partial_json": piece})));
    block(index, &json!({"type": "tool_use", "id": id, "name": tool, "input": {}}), &deltas)
}

/// A text.
pub fn text(text: &str) -> Vec<Event> {
    [start(), text_block(0, text), finish("end_turn", text.len())].concat()
}

/// Signed thinking, then a text.
pub fn thinking_text(thinking: &str, text: &str) -> Vec<Event> {
    [start(), thinking_block(0, thinking), text_block(1, text), finish("end_turn", text.len())].concat()
}

/// A text, then a tool call.
pub fn text_tool(text: &str, tool: &str, input_json: &str) -> Vec<Event> {
    [start(), text_block(0, text), tool_block(1, tool, input_json), finish("tool_use", text.len())].concat()
}

/// A tool call alone.
pub fn tool(tool: &str, input_json: &str) -> Vec<Event> {
    [start(), tool_block(0, tool, input_json), finish("tool_use", input_json.len())].concat()
}

/// One answer of a conversation.
#[derive(Debug, Clone)]
pub struct Turn<'a> {
    /// The message's own name: Claude Code takes two answers of one name for one.
    pub id: &'a str,
    /// The model that it names.
    pub model: &'a str,
    /// Thinking and its signature; an unsigned thought has none.
    pub thinking: Option<(&'a str, Option<&'a str>)>,
    /// What it says.
    pub text: &'a str,
    /// Id, name and input of a tool call.
    pub tool: Option<(&'a str, &'a str, &'a str)>,
}

/// A turn as events.
pub fn turn(turn: &Turn<'_>) -> Vec<Event> {
    let mut events = start_of(turn.id, turn.model);
    let mut index = 0;
    if let Some((thinking, signature)) = turn.thinking {
        events.extend(thought(index, thinking, signature));
        index += 1;
    }
    events.extend(text_block(index, turn.text));
    if let Some((id, tool, input)) = turn.tool {
        events.extend(call(index + 1, id, tool, input));
    }
    let stop = if turn.tool.is_some() { "tool_use" } else { "end_turn" };
    [events, finish(stop, turn.text.len())].concat()
}

/// A text as a whole, non-streaming message.
pub fn message_json(text: &str) -> String {
    json!({
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": "claude-opus-5-5",
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null, "usage": usage(text.len()),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_grammatical() {
        let answers = [text("Hello, wörld"), thinking_text("hm", "ok"), text_tool("look", "Read", r#"{"a":1}"#), tool("Read", "{}")];
        for events in answers {
            let mut open = None;
            let mut next = 0;
            for event in &events {
                let data: Value = serde_json::from_str(&event.data).expect("JSON");
                assert_eq!(data["type"], event.name.as_str());
                match event.name.as_str() {
                    "content_block_start" => {
                        assert_eq!((open, data["index"].as_u64()), (None, Some(next)));
                        open = Some(next);
                        next += 1;
                    }
                    "content_block_delta" => assert_eq!(data["index"].as_u64(), open),
                    "content_block_stop" => assert_eq!(data["index"].as_u64(), open.take()),
                    _ => {}
                }
            }
            assert_eq!(events.first().map(|event| event.name.as_str()), Some("message_start"));
            assert_eq!(events.last().map(|event| event.name.as_str()), Some("message_stop"));
            assert_eq!(open, None);
        }
    }

    #[test]
    fn positions_are_where_their_names_say() {
        let events = thinking_text("deep", "answer");
        assert_eq!(upto(&events, Position::AfterMessageStart).len(), 1);
        let last = |position| upto(&events, position).last().map(|event| event.name.clone());
        assert_eq!(last(Position::AfterBlock(0)).as_deref(), Some("content_block_stop"));
        assert_eq!(last(Position::AfterBlockStart(1)).as_deref(), Some("content_block_start"));
        assert_eq!(last(Position::InBlock(1)).as_deref(), Some("content_block_delta"));
        assert_eq!(last(Position::BeforeMessageStop).as_deref(), Some("message_delta"));
        assert_eq!(upto(&events, Position::Whole).len(), events.len());
    }
}
