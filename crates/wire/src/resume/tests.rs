//! How the rest of a broken answer is joined to what the client has. Never talks to anybody.

use super::*;
use crate::sse::Scanner;
use crate::stream;
use proptest::prelude::*;

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// The events of an answer: its blocks as kind and text, with the counts that a provider gives.
fn answer(blocks: &[(&str, &str)]) -> String {
    let mut events = event(&serde_json::json!({"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}));
    for (index, (kind, text)) in blocks.iter().enumerate() {
        let (block, delta) = match *kind {
            "thinking" => (serde_json::json!({"type": "thinking"}), serde_json::json!({"type": "thinking_delta", "thinking": text})),
            "tool_use" => (
                serde_json::json!({"type": "tool_use", "id": "toolu_1", "name": "Bash"}),
                serde_json::json!({"type": "input_json_delta", "partial_json": text}),
            ),
            _ => (serde_json::json!({"type": "text", "text": ""}), serde_json::json!({"type": "text_delta", "text": text})),
        };
        events += &event(&serde_json::json!({"type": "content_block_start", "index": index, "content_block": block}));
        for piece in pieces(text) {
            let mut delta = delta.clone();
            for key in ["text", "thinking", "partial_json"] {
                if delta.get(key).is_some() {
                    delta[key] = piece.as_str().into();
                }
            }
            events += &event(&serde_json::json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events += &event(&serde_json::json!({"type": "content_block_stop", "index": index}));
    }
    let usage = serde_json::json!({"output_tokens": 20});
    events += &event(&serde_json::json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}));
    events + &event(&serde_json::json!({"type": "message_stop"}))
}

/// Three characters at a time, as tokens come.
fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(3).map(|chunk| chunk.iter().collect()).collect()
}

fn position(text_open: bool) -> Position {
    let mut position = Position { started: true, ..Position::default() };
    position.open(0, BlockKind::Text);
    position.begin();
    if !text_open {
        position.close();
    }
    position
}

/// What a client sees of `rest` behind `said`: its block starts, its text, its stops, and the usage.
fn spliced(said: &str, text_open: bool, rest: &str) -> (Splice, Vec<Value>) {
    let mut earlier = UsageSoFar::default();
    let start = br#"{"type":"message_start","message":{"usage":{"input_tokens":100,"cache_read_input_tokens":50,"output_tokens":3}}}"#;
    stream::read(&Event { name: b"message_start", data: start, end: 0 }, &mut earlier);
    let mut splice = Splice::new(&position(text_open), &[said.to_owned()], earlier);
    let mut out = Vec::new();
    Scanner::new().feed(rest.as_bytes(), |event| splice.event(&event, &mut out));
    let mut events = Vec::new();
    Scanner::new().feed(&out, |event| events.push(serde_json::from_slice(event.data).unwrap()));
    (splice, events)
}

fn text_at(events: &[Value], index: u64) -> String {
    let deltas = events.iter().filter(|event| event["type"] == "content_block_delta" && event["index"] == index);
    deltas.filter_map(|event| event["delta"]["text"].as_str()).collect()
}

fn shape(events: &[Value]) -> Vec<String> {
    let name = |event: &Value| {
        let kind = event["type"].as_str().unwrap_or_default().trim_start_matches("content_block_").to_owned();
        if event["index"].is_null() { kind } else { format!("{kind} {}", event["index"]) }
    };
    let mut names: Vec<String> = events.iter().map(name).collect();
    names.dedup();
    names
}

#[test]
fn the_rest_goes_on_in_the_client_s_open_block() {
    let (splice, events) = spliced("The first half, ", true, &answer(&[("thinking", "Hmm."), ("text", "and the second.")]));
    assert_eq!(shape(&events), ["delta 0", "stop 0", "message_delta", "message_stop"]);
    assert_eq!(text_at(&events, 0), "and the second.");
    assert!(!splice.started_over());
    assert_eq!(splice.usage().tokens().output, Some(20));
}

#[test]
fn behind_a_closed_block_the_rest_begins_the_next() {
    let (_, events) = spliced("A whole paragraph.", false, &answer(&[("text", " Another."), ("tool_use", "{\"a\":1}")]));
    assert_eq!(shape(&events), ["start 1", "delta 1", "stop 1", "start 2", "delta 2", "stop 2", "message_delta", "message_stop"]);
    assert_eq!(text_at(&events, 1), " Another.");
}

#[test]
fn a_tool_call_instead_of_text_closes_the_open_block_first() {
    let (_, events) = spliced("I look", true, &answer(&[("tool_use", "{}")]));
    assert_eq!(shape(&events), ["stop 0", "start 1", "delta 1", "stop 1", "message_delta", "message_stop"]);
}

#[test]
fn an_empty_rest_closes_the_open_block() {
    let (_, events) = spliced("All was said", true, &answer(&[("thinking", "Nothing to add.")]));
    assert_eq!(shape(&events), ["stop 0", "message_delta", "message_stop"]);
}

#[test]
fn the_counts_of_both_parts_are_added_up() {
    let (_, events) = spliced("x", true, &answer(&[("text", "y")]));
    let usage = &events[events.len() - 2]["usage"];
    assert_eq!(*usage, serde_json::json!({"output_tokens": 23, "input_tokens": 100, "cache_read_input_tokens": 50}));
}

#[test]
fn repeated_last_words_are_cut_and_a_shared_letter_is_not() {
    let text = |said: &str, rest: &str| text_at(&spliced(said, true, &answer(&[("text", rest)])).1, 0);
    assert_eq!(text("It has three parts: the core, the wire", "the core, the wire and the gateway."), " and the gateway.");
    assert_eq!(text("one two three four", "two three four five"), " five");
    assert_eq!(text("banana", "a split"), "a split");
    assert_eq!(text("It ends here.", "here. Not."), "here. Not.", "too short to be sure");
    assert_eq!(text("Grüße aus Köln am Rhein", "aus Köln am Rhein und mehr"), " und mehr");
    assert_eq!(text("the whole of it", "the whole of it"), "");
}

#[test]
fn a_rest_that_starts_over_is_known_before_any_of_it_goes_on() {
    let said = format!("{}{}", "A long beginning that nobody would write twice by chance, word for word. ", "x".repeat(600));
    let (splice, events) = spliced(&said, true, &answer(&[("text", &said)]));
    assert!(splice.started_over());
    assert_eq!(text_at(&events, 0), "");
    let (splice, events) = spliced(&said, true, &answer(&[("text", "A long beginning of another kind.")]));
    assert!(!splice.started_over());
    assert_eq!(text_at(&events, 0), "A long beginning of another kind.");
}

#[test]
fn pings_and_unknown_events_pass() {
    let (_, events) =
        spliced("x", true, "event: ping\ndata: {\"type\": \"ping\"}\n\nevent: new\ndata: not json\ndata: at all\n\n".get(..41).unwrap());
    assert_eq!(events, [serde_json::json!({"type": "ping"})]);
}

#[test]
fn the_wish_for_the_rest_stands_behind_the_client_s_messages_and_no_other_byte_changes() {
    let body = Bytes::from_static(br#"{ "messages" : [ {"role":"user","content":"Tell me"} ] , "n": 1.50e3, "stream":true}"#);
    let changed = request(&body, &["First \"half\"".to_owned(), String::new(), " more".to_owned()]).unwrap().concat();
    let text = String::from_utf8(changed.clone()).unwrap();
    assert!(
        text.starts_with(r#"{ "messages" : [ {"role":"user","content":"Tell me"} ,{"#)
            && text.ends_with(r#"] , "n": 1.50e3, "stream":true}"#)
    );
    let value: Value = serde_json::from_slice(&changed).unwrap();
    let messages = value["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[1]["role"], "assistant");
    assert_eq!(messages[1]["content"], serde_json::json!([{"type": "text", "text": "First \"half\""}, {"type": "text", "text": " more"}]));
    assert_eq!(messages[2]["role"], "user");
}

/// litellm #27967 #31067, aisix #893: current models reject a prefilled answer, and tool calls must not be continued.
#[test]
fn r18_nothing_is_put_behind_an_answer_or_without_a_text() {
    let ask = |body: &'static str, text: &str| request(&Bytes::from_static(body.as_bytes()), &[text.to_owned()]);
    assert!(ask(r#"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"pre"}]}"#, "text").is_none());
    assert!(ask(r#"{"messages":[]}"#, "text").is_none());
    assert!(ask(r#"{"messages":"x"}"#, "text").is_none());
    assert!(ask("[]", "text").is_none());
    assert!(ask(r#"{"messages":[{"role":"user","content":"x"}]}"#, " \n").is_none());
    assert!(ask(r#"{"messages":[{"role":"user","content":"x"},{"role":"system","content":"y"}]}"#, "text").is_some());
}

/// Held to a form of its own, the rest would begin the document anew, and nobody could tell the two halves from a whole one.
#[test]
fn r18_an_answer_of_a_given_form_is_not_gone_on_with() {
    let ask = |more: &str| {
        let body = format!(r#"{{{more}"messages":[{{"role":"user","content":"x"}}]}}"#);
        request(&Bytes::from(body), &["{\"name\": \"Jo".to_owned()]).is_some()
    };
    assert!(!ask(r#""output_config":{"effort":"low","format":{"type":"json_schema","schema":{}}},"#));
    assert!(!ask(r#""output_format":{"type":"json_schema","schema":{}},"#));
    assert!(ask(r#""output_config":{"effort":"medium"},"output_format":null,"#));
    assert!(ask(r#""output_config":{"format":null},"#));
}

#[test]
fn events_that_only_their_names_tell_apart_are_spliced_too() {
    let nameless = answer(&[("text", "and the second.")]);
    let nameless = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"]
        .iter()
        .fold(nameless, |events, kind| events.replace(&format!(r#","type":"{kind}"}}"#), "}").replace(&format!(r#""type":"{kind}","#), ""));
    let (_, events) = spliced("The first half, ", true, &nameless);
    let starts = events.iter().filter(|event| event.get("message").is_some()).count();
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!((starts, &*text), (0, "and the second."));
}

#[test]
fn what_waits_to_be_told_from_a_repetition_goes_before_the_message_ends() {
    let unclosed = answer(&[("text", "the end")]).split("event: content_block_stop").next().unwrap().to_owned();
    let ending = answer(&[]).split("event: message_delta").nth(1).map(|rest| format!("event: message_delta{rest}")).unwrap();
    let (_, events) = spliced("All that is left is the ending.", true, &(unclosed + &ending));
    assert_eq!(text_at(&events, 0), "the end");
    assert_eq!(shape(&events), ["delta 0", "stop 0", "message_delta", "message_stop"]);
}

/// Events in any order, and lines that are none.
fn anything() -> impl Strategy<Value = String> {
    let kinds = vec!["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"];
    let blocks = vec!["text", "thinking", "tool_use"];
    let event = (proptest::sample::select(kinds), proptest::sample::select(blocks), 0_u64..3, "[a-z]{0,12}");
    let event = event.prop_map(|(kind, block, index, text)| {
        serde_json::json!({"type": kind, "index": index, "content_block": {"type": block}, "delta": {"text": text}}).to_string()
    });
    prop_oneof![4 => event, 1 => "[ -~]{0,60}"]
}

proptest! {
    /// However the text is cut in two and in pieces, and whatever of its end is repeated, the client has it once.
    #[test]
    fn the_client_has_the_text_once(words in proptest::collection::vec("[a-zäß]{1,9}", 8..60), cut in 0.2_f64..0.9, again in 0_usize..6) {
        let numbered: Vec<String> = words.iter().enumerate().map(|(place, word)| format!("{word}{place}")).collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a small count")]
        let cut = ((numbered.len() as f64 * cut) as usize).max(1);
        let said = numbered[..cut].join(" ") + " ";
        let repeated = numbered[cut.saturating_sub(again)..cut].join(" ");
        let repeated = if repeated.len() + 1 < OVERLAP_LEAST { String::new() } else { repeated + " " };
        let rest = repeated + &numbered[cut..].join(" ");
        let (splice, events) = spliced(&said, true, &answer(&[("text", &rest)]));
        prop_assume!(!splice.started_over());
        prop_assert_eq!(said + &text_at(&events, 0), numbered.join(" "));
    }

    /// sub2api #991 #1007: an index opened again, a second `message_start`.
    #[test]
    fn r17_any_events_are_spliced_without_a_panic_and_open_no_index_twice(data in proptest::collection::vec(anything(), 0..20)) {
        let mut splice = Splice::new(&position(true), &["said".to_owned()], UsageSoFar::default());
        let mut out = Vec::new();
        for line in data {
            splice.event(&Event { name: b"x", data: line.as_bytes(), end: 0 }, &mut out);
        }
        let mut opened = std::collections::HashSet::new();
        Scanner::new().feed(&out, |event| {
            let Ok(value) = serde_json::from_slice::<Value>(event.data) else { return };
            assert_ne!(value["type"], "message_start");
            if value["type"] == "content_block_start" {
                assert!(opened.insert(value["index"].as_u64()));
            }
        });
    }
}
