//! Reads YAML as a tree of texts, which is all that the files of other tools need: every scalar is text as it stands there, an alias is what
//! its anchor holds, and `<<` takes over the members of another mapping. Never reads more than the caps below, and never resolves a type.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Deepest nesting; LiteLLM's files have five levels.
const DEPTH_CAP: usize = 32;

/// Most bytes of the tree, what anchors keep and aliases repeat counted each time.
const SIZE_CAP: usize = 8 * 1024 * 1024;

/// What a node takes beside its text, about.
const NODE: usize = 32;

/// A list or mapping that has not ended, with the number of its anchor (0: none).
enum Open {
    List(usize, Vec<Value>),
    Mapping(usize, Map<String, Value>, Option<String>),
}

/// The first document of a text; none where it is no YAML, has other keys than texts, or is beyond the caps.
pub(super) fn read(text: &str) -> Option<Value> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Value> = HashMap::new();
    let mut bytes = 0;
    for event in Parser::new_from_str(text) {
        let (anchor, value) = match event.ok()?.0 {
            Event::SequenceStart(anchor, _) if open.len() < DEPTH_CAP => {
                open.push(Open::List(anchor, Vec::new()));
                continue;
            }
            Event::MappingStart(anchor, _) if open.len() < DEPTH_CAP => {
                open.push(Open::Mapping(anchor, Map::new(), None));
                continue;
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => return None,
            Event::Scalar(text, style, anchor, _) => {
                bytes += text.len();
                (anchor, scalar(&text, style))
            }
            Event::Alias(anchor) => {
                let value = anchors.get(&anchor)?;
                bytes += size(value);
                (0, value.clone())
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop()? {
                Open::List(anchor, list) => (anchor, Value::Array(list)),
                Open::Mapping(anchor, mapping, _) => (anchor, Value::Object(mapping)),
            },
            Event::DocumentEnd | Event::StreamEnd => return None,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
        };
        bytes += NODE + if anchor > 0 { size(&value) } else { 0 };
        if bytes > SIZE_CAP {
            return None;
        }
        if anchor > 0 {
            anchors.insert(anchor, value.clone());
        }
        match open.last_mut() {
            None => return Some(value),
            Some(Open::List(_, list)) => list.push(value),
            Some(Open::Mapping(_, mapping, key)) => match key.take() {
                Some(name) => put(mapping, name, value),
                None => *key = Some(value.as_str()?.to_owned()),
            },
        }
    }
    None
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match text {
        "" | "~" | "null" if style == ScalarStyle::Plain => Value::Null,
        text => text.into(),
    }
}

/// The bytes of a value and all that is in it, about.
fn size(value: &Value) -> usize {
    NODE + match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(mapping) => mapping.iter().map(|(name, value)| NODE + name.len() + size(value)).sum(),
        Value::String(text) => text.len(),
        _ => 0,
    }
}

/// What stands in the mapping itself goes before what `<<` takes over, wherever that stands.
fn put(mapping: &mut Map<String, Value>, name: String, value: Value) {
    if name != "<<" {
        mapping.insert(name, value);
        return;
    }
    let others = if let Value::Array(others) = value { others } else { vec![value] };
    for other in others.into_iter().filter_map(|other| if let Value::Object(other) = other { Some(other) } else { None }) {
        for (name, value) in other {
            mapping.entry(name).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_lists_mappings_aliases_and_merges_are_read() {
        let text = "# a comment\nbase: &base\n  key: \"a: b\"\n  port: 4000\nlist:\n- <<: *base\n  port: '1'\n- {flow: [x, ~, null, 'null']}\n- *base\n";
        let base = json!({ "key": "a: b", "port": "4000" });
        let list = json!([{ "key": "a: b", "port": "1" }, { "flow": ["x", null, null, "null"] }, base]);
        assert_eq!(read(text), Some(json!({ "base": base, "list": list })));
    }

    #[test]
    fn what_is_no_yaml_or_beyond_the_caps_is_not_read() {
        let level = |level: usize| format!("a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 9].join(", "));
        let bomb = std::iter::once("a0: &a0 [x]".to_owned()).chain((1..9).map(level)).collect::<Vec<_>>().join("\n");
        let fat = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(1000));
        let many = format!("[{}]", "1,".repeat(SIZE_CAP / NODE));
        for text in ["", "a: [", "{", "? [a]\n: b", "a: *b", &bomb, &fat, &many, &"- ".repeat(200_000), &"[".repeat(200_000)] {
            assert_eq!(read(text), None, "{}", &text[..text.len().min(40)]);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_gets_an_answer(text in "[-:,\\[\\]{}&*!|>'\"%@#?ab \\n\\t~<=0.\\\\]{0,80}|(?s).{0,60}") {
            read(&text);
        }
    }
}
