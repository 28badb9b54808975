//! Reads the few facts of a Messages request that routing needs, and puts another model in its place. Never parses prompts, and never
//! re-serialises a body: every byte but the replaced value stays as it came.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::splice::span;

/// What the first bytes of a body say about its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlyModel {
    /// It is named at the front, as Claude Code does.
    Named(String),
    /// Not before these bytes end, or not at all: the whole body must be read.
    NotYet,
}

/// Looks for `model` in the part of a body that has come. Cheap where `model` is the first key.
pub fn early_model(prefix: &[u8]) -> EarlyModel {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(prefix);
    // The visitor ends with an error as soon as it knows, so the rest is never read.
    let _ = reader.deserialize_map(FirstKey { model: &mut found });
    found.map_or(EarlyModel::NotYet, EarlyModel::Named)
}

struct FirstKey<'a> {
    model: &'a mut Option<String>,
}

impl<'de> Visitor<'de> for FirstKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Messages request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if map.next_key::<String>()?.as_deref() == Some("model") {
            *self.model = Some(map.next_value()?);
        }
        Err(serde::de::Error::custom("known"))
    }
}

/// Where the values that matter stand in a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peek {
    /// The model's name.
    pub model: Option<String>,
    /// The bytes of the model's value, quotes included.
    pub model_at: Option<Range<usize>>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Whether the provider itself may act on it: server-side tools, containers, remote servers. Asking twice may act twice.
    pub acts: bool,
    /// Whether the answer's text must have a given form (a JSON schema): two halves of it make no whole.
    pub gives_form: bool,
    /// The bytes of the `messages` list, brackets included.
    pub messages_at: Option<Range<usize>>,
    /// The values that a client changes between tries of the same request.
    changing: Vec<Range<usize>>,
}

/// Reads the top level of a whole body. None: it is no JSON object.
pub fn peek(body: &[u8]) -> Option<Peek> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let peek = reader.deserialize_map(TopLevel { body }).ok()?;
    reader.end().ok()?;
    Some(peek)
}

/// Whether a stream is asked for; `None` if the body is not a JSON object. Cheap where `stream` is the last key, as Claude Code writes it.
pub fn wants_stream(body: &[u8]) -> Option<bool> {
    // Right before the brace that closes a JSON object stands one of its own fields.
    let last = body.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end();
    for (value, wanted) in [(&b"true"[..], true), (b"false", false)] {
        let key = last.strip_suffix(value).and_then(|rest| rest.trim_ascii_end().strip_suffix(b":"));
        let before = key.and_then(|key| key.trim_ascii_end().strip_suffix(b"\"stream\""));
        // An escaped quote would be part of a longer name.
        if before.is_some_and(|before| !before.ends_with(b"\\")) {
            return Some(wanted);
        }
    }
    peek(body).map(|peek| peek.stream)
}

struct TopLevel<'a> {
    body: &'a [u8],
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = Peek;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Messages request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Peek, A::Error> {
        let mut peek = Peek::default();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match key.as_ref() {
                "model" => {
                    let value: &RawValue = map.next_value()?;
                    peek.model = serde_json::from_str(value.get()).ok();
                    peek.model_at = Some(span(self.body, value));
                }
                "stream" => {
                    let value: &RawValue = map.next_value()?;
                    peek.stream = value.get() == "true";
                    peek.changing.push(span(self.body, value));
                }
                "messages" => {
                    let value: &RawValue = map.next_value()?;
                    peek.messages_at = Some(span(self.body, value));
                }
                "container" | "mcp_servers" => {
                    let value: &RawValue = map.next_value()?;
                    peek.acts |= !matches!(value.get(), "null" | "[]");
                }
                "tools" => {
                    let value: &RawValue = map.next_value()?;
                    peek.acts |= has_server_tools(value.get());
                }
                "output_format" => {
                    let value: &RawValue = map.next_value()?;
                    peek.gives_form |= value.get() != "null";
                }
                "output_config" => {
                    let value: &RawValue = map.next_value()?;
                    peek.gives_form |= has_format(value.get());
                }
                "max_tokens" => {
                    let value: &RawValue = map.next_value()?;
                    peek.changing.push(span(self.body, value));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(peek)
    }
}

/// Whether a list of tools holds one that the provider runs: those name a type of their own.
fn has_server_tools(tools: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Tool<'a> {
        #[serde(rename = "type", borrow, default)]
        kind: Option<std::borrow::Cow<'a, str>>,
    }
    // What cannot be read is taken for one that acts.
    serde_json::from_str::<Vec<Tool<'_>>>(tools)
        .map_or(true, |tools| tools.iter().any(|tool| tool.kind.as_deref().is_some_and(|kind| kind != "custom")))
}

fn has_format(output_config: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct OutputConfig {
        #[serde(default)]
        format: Option<IgnoredAny>,
    }
    serde_json::from_str::<OutputConfig>(output_config).is_ok_and(|config| config.format.is_some())
}

impl Peek {
    /// The parts of the body that are the same in every try of one request: all but `stream` and `max_tokens`, which Claude Code changes
    /// when it falls back to a whole answer (measured).
    pub fn stable_parts<'a>(&self, body: &'a [u8]) -> Vec<&'a [u8]> {
        let mut changing = self.changing.clone();
        changing.sort_by_key(|range| range.start);
        let mut parts = Vec::with_capacity(changing.len() + 1);
        let mut from = 0;
        for range in changing {
            parts.push(&body[from..range.start]);
            from = range.end;
        }
        parts.push(&body[from..]);
        parts
    }
}

/// The body with another model, as cheap slices around the new value. The body unchanged where it names no model.
pub fn with_model(body: &Bytes, model: &str) -> Vec<Bytes> {
    let Some(at) = peek(body).and_then(|peek| peek.model_at) else {
        return vec![body.clone()];
    };
    let quoted = serde_json::Value::from(model).to_string();
    vec![body.slice(..at.start), Bytes::from(quoted), body.slice(at.end..)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wish_for_a_stream_is_read_wherever_it_stands() {
        for (body, wish) in [
            (r#"{"model":"m","stream":true}"#, Some(true)),
            ("{\"model\":\"m\", \"stream\" : false }\n", Some(false)),
            (r#"{"stream":true,"model":"m"}"#, Some(true)),
            (r#"{"model":"m"}"#, Some(false)),
            (r#"{"model":"m","x":{"stream":true}}"#, Some(false)),
            (r#"{"x":"\"stream\":true"}"#, Some(false)),
            (r#"{"x\"stream":true}"#, Some(false)),
            ("", None),
            ("not JSON", None),
            ("[true]", None),
        ] {
            assert_eq!(wants_stream(body.as_bytes()), wish, "{body}");
        }
    }
    use proptest::prelude::*;

    #[test]
    fn the_model_is_known_from_the_first_bytes_when_it_comes_first() {
        assert_eq!(early_model(br#"{"model":"claude-opus-5-5","messages":[{"role""#), EarlyModel::Named("claude-opus-5-5".into()));
        assert_eq!(early_model(br#"{ "model" : "a\u0062c" , "#), EarlyModel::Named("abc".into()));
        for unknown in [&br#"{"model":"cla"#[..], br#"{"max_tokens":1,"model":"x"}"#, b"", b"[", b"{\"model\":7}", b"\xff"] {
            assert_eq!(early_model(unknown), EarlyModel::NotYet);
        }
    }

    #[test]
    fn another_model_changes_its_value_and_no_other_byte() {
        let body = Bytes::from_static(br#"{ "messages" : [ {"model":"inner"} ],  "model" :  "claude-opus-5-5" , "n":1.50e3,"n":2 }"#);
        let changed = with_model(&body, "glm-5 \"x\"").concat();
        assert_eq!(changed, br#"{ "messages" : [ {"model":"inner"} ],  "model" :  "glm-5 \"x\"" , "n":1.50e3,"n":2 }"#);
    }

    #[test]
    fn a_body_that_is_no_object_stays_as_it_is() {
        for body in ["", "[]", "{", "{}", r#"{"model":"#, "\u{0}"] {
            let body = Bytes::from(body);
            assert_eq!(with_model(&body, "x").concat(), body);
        }
    }

    #[test]
    fn a_request_that_lets_the_provider_act_is_known() {
        let acts = |body: &[u8]| peek(body).map(|peek| peek.acts);
        assert_eq!(acts(br#"{"tools":[{"name":"Bash","input_schema":{}},{"type":"custom","name":"x"}]}"#), Some(false));
        assert_eq!(acts(br#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#), Some(true));
        assert_eq!(acts(br#"{"container":"c_1"}"#), Some(true));
        assert_eq!(acts(br#"{"container":null,"mcp_servers":[]}"#), Some(false));
        assert_eq!(acts(br#"{"mcp_servers":[{"url":"https://example.com"}]}"#), Some(true));
    }

    #[test]
    fn tries_of_one_request_share_their_stable_parts() {
        let stable = |body: &[u8]| peek(body).map(|peek| peek.stable_parts(body).concat());
        let streamed = br#"{"model":"m","max_tokens":128000,"messages":[],"stream":true}"#;
        let whole = br#"{"model":"m","max_tokens":64000,"messages":[],"stream":false}"#;
        let other = br#"{"model":"m","max_tokens":64000,"messages":[1],"stream":false}"#;
        assert_eq!(stable(streamed), stable(whole));
        assert_ne!(stable(whole), stable(other));
        assert!(peek(streamed).is_some_and(|peek| peek.stream));
        assert!(peek(whole).is_some_and(|peek| !peek.stream));
    }

    proptest! {
        #[test]
        fn any_bytes_are_peeked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = early_model(&bytes);
            if let Some(peek) = peek(&bytes) {
                let _ = peek.stable_parts(&bytes);
            }
        }

        #[test]
        fn a_replaced_model_reads_back(name in ".{0,20}", key in "[a-z]{1,5}", text in ".{0,30}") {
            let body = Bytes::from(serde_json::json!({ key: text, "model": "old", "z": [1, {"model": 2}] }).to_string());
            let changed = with_model(&body, &name).concat();
            prop_assert_eq!(peek(&changed).and_then(|peek| peek.model), Some(name));
        }
    }
}
