//! Finds out cheaply whether a request may hold something that Anthropic refuses by its form, and mends it.
//!
//! Other models, other tools and older clients leave such things in a transcript: tool ids with dots and colons, empty text, thinking
//! without a signature. They are mended from the body alone, so that a fork, another session id or a restart makes no difference.
//! Invariant: a body without them goes out as it came; [`looks_valid`] costs a few passes of `memchr` and no parsing.

use std::collections::HashSet;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use xxhash_rust::xxh3::xxh3_64;

use super::draft::Draft;
use super::view::View;
use super::{Adapted, content, ids, thinking};
use crate::tool_id::MAX_TOOL_ID;

/// Makes a Messages request valid by its form at Anthropic's own API. What is valid, and what is not a request, stays as it came.
pub fn mend(body: &Bytes) -> Adapted {
    if looks_valid(body) {
        return Adapted::Same;
    }
    let Some(view) = View::of(body) else { return Adapted::Same };
    let mut draft = Draft::new(&view);
    thinking::unsigned(&mut draft);
    by_form(&mut draft);
    draft.finish(body)
}

/// Mends what every Claude model refuses whoever minted it.
pub(super) fn by_form(draft: &mut Draft<'_, '_>) {
    content::empty_text(draft);
    ids::valid(draft);
    content::empty_messages(draft);
}

/// What a value at a key may be.
type Check = fn(&[u8], &mut HashSet<u64>) -> bool;

/// Keys, and what their values are if all is well. A string that a request quotes has its quotes escaped, so that only true keys are found;
/// the input of a tool may hold the same keys, and then costs a parse that changes nothing.
static KEYS: LazyLock<[(Finder<'static>, Check); 6]> = LazyLock::new(|| {
    [
        (Finder::new(r#""id""#), (|value, seen| !is_string(value) || plain_id(value).is_some_and(|id| seen.insert(xxh3_64(id)))) as Check),
        (Finder::new(r#""tool_use_id""#), |value, _| !is_string(value) || plain_id(value).is_some()),
        (Finder::new(r#""name""#), |value, _| !is_string(value) || string(value).is_some_and(is_plain)),
        (Finder::new(r#""text""#), |value, _| !is_blank(value)),
        (Finder::new(r#""content""#), |value, _| !is_blank(value) && !is_empty_list(value)),
        (Finder::new(r#""signature""#), |value, _| !value.starts_with(b"\"\"")),
    ]
});

static THINKING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""thinking""#));

static SIGNATURE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""signature""#));

/// False if the request must be parsed to know. A false alarm costs time alone.
pub(super) fn looks_valid(body: &[u8]) -> bool {
    let mut ids = HashSet::new();
    let fine = KEYS.iter().all(|(key, check)| values(body, key).all(|value| check(value, &mut ids)));
    fine && !has_unsigned_thinking(body)
}

/// What stands behind each place where a key is followed by a colon.
fn values<'a>(body: &'a [u8], key: &'a Finder<'_>) -> impl Iterator<Item = &'a [u8]> {
    key.find_iter(body).filter_map(|at| {
        let rest = body[at + key.needle().len()..].trim_ascii_start();
        Some(rest.strip_prefix(b":")?.trim_ascii_start())
    })
}

fn is_string(value: &[u8]) -> bool {
    value.first() == Some(&b'"')
}

/// The text of a string without escapes. `None` if it is not one.
fn string(value: &[u8]) -> Option<&[u8]> {
    let text = value.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', text)?;
    (text[end] == b'"').then(|| &text[..end])
}

fn is_plain(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'-'))
}

fn plain_id(value: &[u8]) -> Option<&[u8]> {
    string(value).filter(|id| id.len() <= MAX_TOOL_ID && is_plain(id))
}

/// True if a string begins with its end, a space or what may be an escaped or unusual space.
fn is_blank(value: &[u8]) -> bool {
    let Some(text) = value.strip_prefix(b"\"") else { return false };
    let mut rest = text.trim_ascii_start();
    while let Some(escaped) = [&b"\\n"[..], b"\\r", b"\\t", b"\\f"].iter().find_map(|escape| rest.strip_prefix(*escape)) {
        rest = escaped.trim_ascii_start();
    }
    let unusual = [&b"\\u"[..], b"\xc2", b"\xe1\x9a", b"\xe2\x80", b"\xe2\x81", b"\xe3\x80\x80"];
    rest.first() == Some(&b'"') || unusual.iter().any(|start| rest.starts_with(start))
}

fn is_empty_list(value: &[u8]) -> bool {
    value.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b']'))
}

/// True if there are more blocks of thinking than signatures.
fn has_unsigned_thinking(body: &[u8]) -> bool {
    // The name of a block's type is not followed by a colon, that of its text is.
    let named = THINKING.find_iter(body).filter(|at| body[at + THINKING.needle().len()..].trim_ascii_start().first() != Some(&b':'));
    named.count() > values(body, &SIGNATURE).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn request(messages: &Value) -> Bytes {
        json!({"model": "claude-opus-5-5", "tools": [{"name": "Bash", "input_schema": {}}], "messages": messages}).to_string().into()
    }

    #[test]
    fn valid_request_is_not_parsed() {
        let messages = json!([
            {"role": "user", "content": "say \"id\":\"a.b\" and \"text\":\"\" and \"content\":[]"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "", "signature": "Erq+/=="},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "\n\nwell, \u{e9}"},
                {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "ok"}]}]},
        ]);
        assert!(looks_valid(&request(&messages)));
        assert_eq!(mend(&request(&messages)), Adapted::Same);
    }

    #[test]
    fn each_fault_is_found() {
        let call = |id: &str| json!([{"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "Bash", "input": {}}]}]);
        let said = |content: Value| json!([{"role": "assistant", "content": content}]);
        let twice = json!([call("toolu_1")[0], call("toolu_1")[0]]);
        for messages in [
            call("functions.Bash:0"),
            call("é"),
            call(""),
            call(&"x".repeat(65)),
            twice,
            said(json!([{"type": "text", "text": ""}])),
            said(json!([{"type": "text", "text": "\u{a0}\n"}])),
            said(json!([])),
            said(json!(" ")),
            said(json!([{"type": "thinking", "thinking": "x", "signature": ""}])),
            said(json!([{"type": "thinking", "thinking": "x"}])),
            said(json!([{"type": "tool_use", "id": "a", "name": "", "input": {}}])),
        ] {
            assert!(!looks_valid(&request(&messages)), "{messages}");
            assert_ne!(mend(&request(&messages)), Adapted::Same, "{messages}");
        }
    }

    #[test]
    fn anything_else_stays_as_it_came() {
        for body in ["", "[]", "{}", "\u{1f}\u{8b}", r#"{"messages":7,"content":[]}"#, r#"{"content":[]"#] {
            assert_eq!(mend(&Bytes::from(body)), Adapted::Same, "{body}");
        }
    }

    /// One round of a tool loop: what the assistant says and calls, and the results.
    fn round(ids: &[String], texts: &[&str], signature: Option<&str>) -> [Value; 2] {
        let mut said: Vec<Value> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
        if let Some(signature) = signature {
            said.insert(0, json!({"type": "thinking", "thinking": "hm", "signature": signature}));
        }
        said.extend(ids.iter().map(|id| json!({"type": "tool_use", "id": id, "name": "Bash", "input": {"text": ""}})));
        let results =
            ids.iter().rev().map(|id| json!({"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": ""}]}));
        [json!({"role": "assistant", "content": said}), json!({"role": "user", "content": results.collect::<Vec<_>>()})]
    }

    /// What Anthropic minds by form, in the order in which it stands.
    fn check(request: &Value) {
        let (mut calls, mut open): (HashSet<String>, Vec<String>) = (HashSet::new(), Vec::new());
        for message in request["messages"].as_array().expect("messages") {
            let content = &message["content"];
            assert!(content.as_str().is_none_or(|text| !text.trim().is_empty()), "{message}");
            assert!(content.as_array().is_none_or(|blocks| !blocks.is_empty()), "{message}");
            let mut answered = Vec::new();
            for block in content.as_array().into_iter().flatten() {
                let text = |key: &str| block[key].as_str().unwrap_or_default().to_owned();
                match block["type"].as_str() {
                    Some("text") => assert!(!text("text").trim().is_empty()),
                    Some("thinking") => assert!(!text("signature").is_empty()),
                    Some("tool_use") => {
                        assert!(crate::tool_id::is_valid(&text("id")) && calls.insert(text("id")), "{block}");
                        open.push(text("id"));
                    }
                    Some("tool_result") => answered.push(text("tool_use_id")),
                    _ => {}
                }
            }
            if message["role"] == "user" {
                open.sort();
                answered.sort();
                assert_eq!(open, answered, "each call has its result");
                open.clear();
            }
        }
    }

    proptest! {
        #[test]
        fn mended_request_is_valid_and_stays_so(
            rounds in proptest::collection::vec(
                (
                    proptest::collection::hash_set("[ab.:é]{0,3}|x{60,70}|toolu_[ab]", 0..3),
                    proptest::collection::vec(proptest::sample::select(vec!["", " ", "\u{3000}", "a"]), 0..3),
                    proptest::option::of(proptest::sample::select(vec!["", "sig"])),
                ),
                0..5,
            ),
        ) {
            let mut messages = vec![json!({"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "go"}]})];
            for (ids, texts, signature) in &rounds {
                messages.extend(round(&ids.iter().cloned().collect::<Vec<_>>(), texts, *signature));
            }
            let body = request(&Value::from(messages));
            let whole = |adapted, body: &Bytes| match adapted {
                Adapted::Same => body.clone(),
                Adapted::Changed(parts, _) => Bytes::from(parts.concat()),
            };
            let once = whole(mend(&body), &body);
            check(&serde_json::from_slice(&once).expect("JSON"));
            prop_assert_eq!(whole(mend(&once), &once), once);
        }
    }
}
