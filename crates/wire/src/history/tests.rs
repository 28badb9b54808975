//! Properties of every change: what is not named stays byte for byte, the same history gives the same bytes, and a second time changes
//! nothing. The golden matrix in `tests/golden.rs` shows what is changed.

use std::collections::HashMap;

use hotspare_core::Preset;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const WORK: &str = "work";

fn issuer(name: &str) -> Issuer {
    Issuer { profile: name.into(), native: name == WORK }
}

/// A signature that tells its issuer.
fn mint(by: &str, number: u8) -> Value {
    json!({"type": "thinking", "thinking": "", "signature": format!("{by}-{number}")})
}

fn block() -> impl Strategy<Value = Value> {
    let thinking = (proptest::sample::select(vec![WORK, "glm", "openrouter", "nobody"]), 0u8..9).prop_map(|(by, number)| mint(by, number));
    prop_oneof![
        3 => thinking,
        2 => "\\PC{0,9}".prop_map(|text| json!({"type": "text", "text": text})),
        1 => Just(json!({"type": "thinking", "thinking": "unsigned"})),
        1 => Just(json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}})),
        1 => Just(json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []})),
        1 => Just(json!({"type": "fallback"})),
    ]
}

/// A turn: the user's words, perhaps the system's, answers with a tool call and its result between them, and an answer.
fn turn(number: usize) -> impl Strategy<Value = Vec<Value>> {
    let answers = proptest::collection::vec((proptest::collection::vec(block(), 0..4), proptest::option::of("[a-z.:]{1,4}")), 1..3);
    (answers, any::<bool>()).prop_map(move |(answers, system)| {
        let mut messages = vec![json!({"role": "user", "content": format!("turn {number}")})];
        if system {
            messages.push(json!({"role": "system", "content": "be brief \"now\""}));
        }
        for (mut blocks, call) in answers {
            let id = call.map(|call| format!("{call}{number}"));
            if let Some(id) = &id {
                blocks.push(json!({"type": "tool_use", "id": id, "name": "Bash", "input": {"a": 1.50}}));
            }
            messages.push(json!({"role": "assistant", "content": blocks}));
            if let Some(id) = &id {
                messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "r"}]}));
            }
        }
        messages
    })
}

fn request() -> impl Strategy<Value = Bytes> {
    let turns = (turn(0), turn(1), turn(2)).prop_map(|(a, b, c)| [a, b, c].concat());
    (turns, any::<bool>(), proptest::sample::select(vec!["adaptive", "enabled", "disabled"])).prop_map(|(messages, pretty, thinking)| {
        let body = json!({
            "model": "claude-opus-5-5", "max_tokens": 128_000, "messages": messages, "thinking": {"type": thinking, "budget_tokens": 9},
            "system": [{"type": "text", "text": "x-anthropic-billing-header: v"}, {"type": "text", "text": "prompt"}],
            "metadata": {"user_id": "me"}, "safeguards": [], "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        });
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
        Bytes::from(text.expect("a value is JSON"))
    })
}

fn target() -> impl Strategy<Value = Target<'static>> {
    let target = |profile, platform, model| Target { profile, company: profile, platform, model, repair: None };
    proptest::sample::select(vec![
        target(WORK, Platform::Anthropic, None),
        target(WORK, Platform::Anthropic, Some("claude-haiku-4-5")),
        target("openrouter", Platform::OpenRouter, Some("anthropic/claude-opus-5.5")),
        target("glm", Platform::Compatible(Preset::Zai), Some("glm-5")),
        target("deepseek", Platform::Compatible(Preset::DeepSeek), Some("deepseek-v4-pro")),
    ])
}

fn parts(body: &Bytes, target: &Target<'_>) -> Vec<Bytes> {
    let issuers: HashMap<Mark, Issuer> = [WORK, "glm", "openrouter"]
        .iter()
        .flat_map(|by| (0..9).map(move |number| (Mark::of_signature(&format!("{by}-{number}")), issuer(by))))
        .collect();
    match adapt(body, target, &|mark| issuers.get(&mark).cloned()).expect("nothing here is bound to one place") {
        Adapted::Same => vec![body.clone()],
        Adapted::Changed(parts, _) => parts,
    }
}

/// Where a part stands in the body that it is a slice of; none: it is new.
fn place(body: &Bytes, part: &Bytes) -> Option<std::ops::Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    (start + part.len() <= body.len()).then(|| start..start + part.len())
}

/// The signatures of each turn's thinking.
fn thinking(request: &Value) -> Vec<Vec<String>> {
    let mut turns: Vec<Vec<String>> = Vec::new();
    for message in request["messages"].as_array().into_iter().flatten() {
        if message["content"].as_str().is_some_and(|text| text.starts_with("turn ")) {
            turns.push(Vec::new());
        }
        for block in message["content"].as_array().into_iter().flatten().filter(|block| block["type"] == "thinking") {
            turns.last_mut().expect("a turn begins it").push(block["signature"].as_str().unwrap_or_default().to_owned());
        }
    }
    turns
}

proptest! {
    #[test]
    fn what_stays_is_a_slice_of_what_came(body in request(), target in target()) {
        let parts = parts(&body, &target);
        let mut from = 0;
        for part in &parts {
            if let Some(at) = place(&body, part) {
                prop_assert!(at.start >= from, "slices stay in order");
                from = at.end;
            } else {
                prop_assert!(part.len() < 300, "what is new is small");
            }
        }
        prop_assert!(serde_json::from_slice::<Value>(&parts.concat()).is_ok());
    }

    #[test]
    fn the_same_history_gives_the_same_bytes_and_a_second_time_changes_nothing(body in request(), target in target()) {
        let once: Bytes = parts(&body, &target).concat().into();
        prop_assert_eq!(&Bytes::from(parts(&body, &target).concat()), &once);
        prop_assert_eq!(&Bytes::from(parts(&once, &target).concat()), &once);
    }

    #[test]
    fn a_longer_history_begins_with_the_bytes_of_the_shorter(body in request(), target in target()) {
        // The provider's check of the prefix and its prompt cache hold only so.
        let mut longer: Value = serde_json::from_slice(&body).expect("made here");
        let messages = longer["messages"].as_array_mut().expect("made here");
        messages.push(json!({"role": "assistant", "content": [mint(target.profile, 8), {"type": "text", "text": "answer"}]}));
        messages.push(json!({"role": "user", "content": "and then?"}));
        let shorter: Value = serde_json::from_slice(&parts(&body, &target).concat()).expect("JSON");
        let longer: Value = serde_json::from_slice(&parts(&Bytes::from(longer.to_string()), &target).concat()).expect("JSON");
        let (shorter, longer) = (shorter["messages"].as_array().expect("messages"), longer["messages"].as_array().expect("messages"));
        let open_turn = shorter.last().is_some_and(|last| last["content"][0]["type"] == "tool_result");
        if !open_turn {
            prop_assert_eq!(shorter, &longer[..shorter.len()]);
        }
    }

    #[test]
    fn claude_never_sees_a_stranger_s_thought_nor_half_a_turn_of_its_own(body in request(), target in target()) {
        let sent: Value = serde_json::from_slice(&parts(&body, &target).concat()).expect("JSON");
        let came: Value = serde_json::from_slice(&body).expect("made here");
        for message in sent["messages"].as_array().expect("messages") {
            let empty = message["content"].as_array().is_some_and(Vec::is_empty);
            prop_assert!(!empty || came["messages"].to_string().contains("\"content\":[]"), "only what came empty is empty");
        }
        let known = |signature: &String| match target.platform {
            Platform::Anthropic => signature.starts_with(WORK) || signature.starts_with("nobody"),
            _ => signature.starts_with(&format!("{}-", target.profile)),
        };
        for (came, sent) in thinking(&came).into_iter().zip(thinking(&sent)) {
            prop_assert!(sent.iter().all(known), "{sent:?}");
            let claude = !matches!(target.platform, Platform::Compatible(_));
            prop_assert!(!claude || sent.is_empty() || sent == came, "half of {came:?}: {sent:?}");
            prop_assert!(sent == came || !came.iter().all(known), "{came:?} is its own");
        }
    }

    #[test]
    fn toward_its_own_company_an_unmixed_history_stays(answers in proptest::collection::vec((0u8..9, "[a-z]{1,9}", any::<bool>()), 1..6), space in any::<bool>()) {
        let mut messages = vec![json!({"role": "user", "content": "go"}), json!({"role": "system", "content": "s"})];
        for (number, (mint_number, text, search)) in answers.into_iter().enumerate() {
            let search = search.then(|| json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}));
            let mut blocks = vec![mint(WORK, mint_number), json!({"type": "redacted_thinking", "data": "nobody knows"})];
            blocks.extend(search);
            blocks.extend([json!({"type": "text", "text": text}), json!({"type": "tool_use", "id": format!("toolu_{number}"), "name": "Bash", "input": {}})]);
            messages.push(json!({"role": "assistant", "content": blocks}));
            messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": format!("toolu_{number}"), "content": ""}]}));
        }
        let request = json!({"model": "claude-opus-5-5", "thinking": {"type": "enabled"}, "safeguards": [], "messages": messages});
        let text = if space { serde_json::to_string_pretty(&request) } else { serde_json::to_string(&request) };
        let body = Bytes::from(text.expect("JSON"));
        let target = Target { profile: WORK, company: WORK, platform: Platform::Anthropic, model: None, repair: None };
        let work = issuer(WORK);
        prop_assert_eq!(adapt(&body, &target, &|mark| (mark != Mark::of_redacted("nobody knows")).then(|| work.clone())), Ok(Adapted::Same));
    }

    #[test]
    fn a_conversation_is_known_by_how_it_began(body in request()) {
        let mut longer: Value = serde_json::from_slice(&body).expect("made here");
        longer["messages"].as_array_mut().expect("made here").push(json!({"role": "user", "content": "more"}));
        prop_assert_eq!(opening(&serde_json::to_vec(&serde_json::from_slice::<Value>(&body).expect("JSON")).expect("JSON")), opening(longer.to_string().as_bytes()));
    }

    #[test]
    fn any_bytes_are_adapted_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..300), target in target()) {
        let _ = adapt(&Bytes::from(body), &target, &|_| None);
    }

    #[test]
    fn any_json_is_adapted_without_a_panic(
        content in "\\PC{0,20}", odd in proptest::sample::select(vec!["null", "7", "[]", "{}", "[{}]", "[7]", "\"x\"", "[{\"type\":\"text\"}]"]),
        key in proptest::sample::select(vec!["messages", "system", "tools", "thinking", "metadata", "context_management", "model", "thread"]),
        target in target(),
    ) {
        let text = json!({"messages": [{"role": "user", "content": content}]}).to_string();
        let body = format!("{},\"{key}\":{odd},\"tools\":{odd},\"thinking\":{odd}}}", &text[..text.len() - 1]);
        if let Ok(Adapted::Changed(parts, _)) = adapt(&Bytes::from(body), &target, &|_| None) {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&parts.concat()).is_ok());
        }
    }
}

/// `MiniMax-AI/MiniMax-M2#76`: a result whose call is not there ended the conversation at that provider.
#[test]
fn orphaned_results_become_text_where_they_were_refused() {
    let refusal = "invalid params, tool result's tool id(toolu_gone) not found (2013)";
    let repair = crate::repair::Repair::of_message(refusal).expect("it can be mended");
    let result = |id: &str, content: Value| json!({"type": "tool_result", "tool_use_id": id, "content": content});
    let body = json!({"model": "claude-opus-5-5", "messages": [
        {"role": "user", "content": [result("toolu_gone", json!("it said a")), {"type": "text", "text": "go on"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}]},
        {"role": "user", "content": [result("toolu_1", json!("b")), result("toolu_1", json!([{"type": "text", "text": "c"}]))]},
    ]});
    let to = |repair| Target {
        profile: "glm",
        company: "api.z.ai",
        platform: Platform::Compatible(Preset::Plain),
        model: Some("glm-5"),
        repair,
    };
    let adapted = |repair| match adapt(&Bytes::from(body.to_string()), &to(repair), &|_| None) {
        Ok(Adapted::Changed(parts, _)) => serde_json::from_slice::<Value>(&parts.concat()).expect("JSON")["messages"].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(adapted(None), body["messages"], "only where it was refused");
    let mended = adapted(Some(&repair));
    let text = |said: &str| json!({"type": "text", "text": format!("Result of an earlier tool call:\n{said}")});
    assert_eq!(mended[0]["content"][0], text("it said a"));
    assert_eq!(mended[2]["content"], json!([result("toolu_1", json!("b")), text("c")]));
}
