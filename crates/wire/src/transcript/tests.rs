//! Holds what the transcript changes in a spare's answer, on made and on random inputs.

use super::*;
use proptest::prelude::*;
use serde_json::json;

const COMPANY: &str = "api.moonshot.ai";

fn rules() -> Rules {
    Rules { tag: Tag::of(COMPANY), foreign: true }
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

fn block(index: u64, start: &Value, deltas: &[Value]) -> String {
    let mut stream = event(&json!({"type": "content_block_start", "index": index, "content_block": start}));
    for delta in deltas {
        stream += &event(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
    }
    stream + &event(&json!({"type": "content_block_stop", "index": index}))
}

fn text(index: u64, parts: &[&str]) -> String {
    let deltas: Vec<_> = parts.iter().map(|part| json!({"type": "text_delta", "text": part})).collect();
    block(index, &json!({"type": "text", "text": ""}), &deltas)
}

fn thinking(index: u64, thought: &str, signature: &str) -> String {
    let deltas = [json!({"type": "thinking_delta", "thinking": thought}), json!({"type": "signature_delta", "signature": signature})];
    block(index, &json!({"type": "thinking", "thinking": "", "signature": ""}), &deltas)
}

fn call(index: u64, id: &str) -> String {
    let input = json!({"type": "input_json_delta", "partial_json": "{\"command\":\"ls\"}"});
    block(index, &json!({"type": "tool_use", "id": id, "name": "Bash", "input": {}}), &[input])
}

fn start() -> String {
    event(&json!({"type": "message_start", "message": {"id": "msg_1", "model": "kimi-k3", "usage": {"output_tokens": 1}}}))
}

fn end() -> String {
    event(&json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}))
        + &event(&json!({"type": "message_stop"}))
}

/// The stream in pieces that end at `cuts`, without pings.
fn passed(stream: &str, cuts: &[usize], transcript: &mut Transcript) -> String {
    let mut out = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([stream.len()]) {
        let cut = cut.clamp(from, stream.len());
        out.extend_from_slice(&transcript.feed(&Bytes::copy_from_slice(&stream.as_bytes()[from..cut])));
        from = cut;
    }
    out.extend_from_slice(&transcript.finish());
    String::from_utf8(out).unwrap().replace(std::str::from_utf8(PING).unwrap(), "")
}

fn new() -> Transcript {
    Transcript::new(rules(), TakenIds::default())
}

#[test]
fn valid_answer_passes_byte_for_byte() {
    let stream = format!(
        ": hi\n\n{}event: ping\ndata: {{\"type\": \"ping\"}}\n\n{}{}{}data: half",
        start(),
        text(0, &["a", " b"]),
        call(1, "call_1"),
        end()
    );
    let pings = stream.replace(std::str::from_utf8(PING).unwrap(), "");
    assert_eq!(passed(&stream, &[], &mut new()), pings);
}

#[test]
fn id_is_renamed_and_thinking_left_out_with_gapless_indexes() {
    let stream = start() + &thinking(0, "hm", "") + &text(1, &["let me"]) + &call(2, "functions.Bash:0") + &end();
    let mut transcript = new();
    let got = passed(&stream, &[], &mut transcript);
    let id = tool_id::mint("functions.Bash:0", "Bash", Tag::of(COMPANY), |_| false).id;
    assert_eq!(got, start() + &text(0, &["let me"]) + &call(1, &id) + &end());
    let left = transcript.take_left();
    let block = json!({"type": "thinking", "thinking": "hm", "signature": ""}).to_string();
    assert_eq!(left.thoughts, [Thoughts { call: id, blocks: vec![(1, block)] }]);
    assert!(left.ids.is_empty() && transcript.take_thinking() && !transcript.take_thinking());
}

#[test]
fn id_that_the_conversation_has_already_is_renamed() {
    let request =
        json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "call_0", "name": "Bash", "input": {}}]}]});
    let mut transcript = Transcript::new(rules(), TakenIds::of(request.to_string().as_bytes()));
    let got = passed(&(start() + &call(0, "call_0") + &call(1, "call_0") + &end()), &[], &mut transcript);
    let ids: Vec<_> = starts(&got).iter().map(|start| start["content_block"]["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids[0] != "call_0" && ids[1] != "call_0" && ids[0] != ids[1], "{ids:?}");
    for id in ids {
        assert_eq!(tool_id::original(&id, "Bash", Tag::of(COMPANY)).as_deref(), Some("call_0"));
    }
}

#[test]
fn blank_text_and_foreign_blocks_are_left_out() {
    let stream = start()
        + &text(0, &["", "\n", " "])
        + &text(1, &["\n", "\n", "so"])
        + &block(2, &json!({"type": "server_tool_use", "id": "srv.1", "name": "web_search", "input": {}}), &[])
        + &block(3, &json!({"type": "redacted_thinking", "data": "x"}), &[])
        + &block(4, &json!({"type": "brand_new"}), &[])
        + &block(5, &json!({"type": "text", "text": "done"}), &[json!({"type": "citations_delta", "citation": {"url": "x"}})])
        + &end();
    let expected = start() + &text(0, &["\n", "\n", "so"]) + &block(1, &json!({"type": "text", "text": "done"}), &[]) + &end();
    assert_eq!(passed(&stream, &[], &mut new()), expected);
}

#[test]
fn long_thinking_brings_pings_and_is_not_kept() {
    let long = "x".repeat(10_000);
    let mut transcript = new();
    let mut out = Vec::new();
    let stream = start()
        + &(0..40).map(|n| if n == 0 { thinking(0, &long, "") } else { thinking(n, &long, "s") }).collect::<String>()
        + &call(40, "call_1");
    out.extend_from_slice(&transcript.feed(&stream.into()));
    let pings = String::from_utf8(out).unwrap().matches("event: ping").count();
    assert!((40..400).contains(&pings), "{pings}");
    assert!(transcript.take_left().thoughts.is_empty(), "a part of a turn's thinking is of no use");
}

#[test]
fn whole_answer_is_made_valid_too() {
    let answer = Bytes::from(
        json!({"type": "message", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "GLM"}, {"type": "text", "text": ""},
            {"type": "tool_use", "id": "a.b", "name": "Bash", "input": {"n": 1}}, {"type": "text", "text": "t"}],
            "usage": {"output_tokens": 1}})
        .to_string(),
    );
    let (changed, left) = whole(&answer, rules(), TakenIds::default()).expect("changed");
    let id = tool_id::mint("a.b", "Bash", Tag::of(COMPANY), |_| false).id;
    let expected = json!({"type": "message", "content": [
        {"type": "tool_use", "id": id, "name": "Bash", "input": {"n": 1}}, {"type": "text", "text": "t"}],
        "usage": {"output_tokens": 1}});
    assert_eq!(serde_json::from_slice::<Value>(&changed).unwrap(), expected);
    assert_eq!(left.thoughts.len(), 1);
    assert!(whole(&changed, rules(), TakenIds::default()).is_none_or(|(again, _)| again == changed) || id.starts_with("toolu_hs_"));
    for same in [r#"{"content":[{"type":"text","text":"t"}]}"#, r#"{"input_tokens":3}"#, r#"{"content":"x"}"#, "[]", ""] {
        assert_eq!(whole(&Bytes::from(same), rules(), TakenIds::default()).map(|(body, _)| body), None, "{same}");
    }
}

fn starts(stream: &str) -> Vec<Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|data| data["type"] == "content_block_start").collect()
}

/// Stands for a block's index in a generated stream.
const PLACE: u64 = 7777;

fn any_block() -> impl Strategy<Value = String> {
    let words = proptest::collection::vec(proptest::sample::select(vec!["", " ", "\n", "a", "é b"]), 0..4);
    prop_oneof![
        words.prop_map(|words| text(PLACE, &words)),
        ".{0,9}".prop_map(|id| call(PLACE, &id)),
        ".{0,9}".prop_map(|thought| thinking(PLACE, &thought, "")),
        Just(block(PLACE, &json!({"type": "mcp_tool_use", "id": "x"}), &[])),
    ]
}

fn any_stream() -> impl Strategy<Value = String> {
    proptest::collection::vec(any_block(), 0..7).prop_map(|blocks| {
        let numbered = blocks.iter().enumerate().map(|(index, block)| block.replace(&PLACE.to_string(), &index.to_string()));
        start() + &numbered.collect::<String>() + &end()
    })
}

proptest! {
    #[test]
    fn whatever_comes_the_client_gets_valid_blocks(stream in any_stream(), cuts in proptest::collection::vec(0usize..2000, 0..6)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let got = passed(&stream, &cuts, &mut new());
        prop_assert_eq!(&got, &passed(&stream, &[], &mut new()), "the pieces make no difference");
        let mut ids = std::collections::HashSet::new();
        for (place, start) in starts(&got).iter().enumerate() {
            prop_assert_eq!(start["index"].as_u64(), Some(place as u64));
            match start["content_block"]["type"].as_str() {
                Some("text") => {}
                Some("tool_use") => {
                    let id = start["content_block"]["id"].as_str().unwrap_or_default().to_owned();
                    prop_assert!(tool_id::is_valid(&id) && ids.insert(id));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(got.matches("event: content_block_stop").count(), starts(&got).len());
    }
}

/// Some gateways in front of Claude print JSON with blanks, which leaves the fast path.
#[test]
fn native_citations_go_on_whatever_the_spacing() {
    let citation =
        r#"{"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"type": "char_location"}}}"#;
    let stream = format!("{}event: content_block_delta\ndata: {citation}\n\n", block_start_of_text());
    let mut native = Transcript::new(Rules { foreign: false, ..rules() }, TakenIds::default());
    assert_eq!(passed(&stream, &[], &mut native), stream);
}

fn block_start_of_text() -> String {
    event(&json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}))
}
