//! Changes single values in the settings of another program and nothing else: order, comments, indentation, line ends and a byte order
//! mark stay. Never writes a file (see [`crate::Replacement`]), and never judges what a value means.
//!
//! Such a text is not ours to correct: a key may be given twice, and then the last one counts, as it does for the program itself.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::diagnostic::Errors;
use crate::edit::{EMPTY, EditError, INDENT, indent_at, inserted, items, line_end, own_line, quoted, removed, spliced};
use crate::layers::Layer;
use crate::source::Place;
use crate::tree::{self, Member, Node, Value};

/// Reads another program's JSON5 file: JSON with comments, trailing commas, single quotes and bare names. `None` if it is not that.
///
/// ```
/// assert_eq!(hotspare_config::json5("{ a: 'b', } // c"), Some(serde_json::json!({ "a": "b" })));
/// ```
pub fn json5(text: &str) -> Option<Json> {
    tree::parse_json5(text)
}

/// The text of a settings file, and where everything in it is.
pub struct Settings {
    text: String,
    root: Node,
}

impl Settings {
    /// Reads a text; one that holds nothing counts as an empty object.
    ///
    /// # Errors
    ///
    /// When it is no JSON; comments and trailing commas pass.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Errors> {
        let is_blank = text.trim_start_matches('\u{feff}').trim().is_empty();
        let text =
            if is_blank { format!("{}{EMPTY}", if text.starts_with('\u{feff}') { "\u{feff}" } else { "" }) } else { text.to_owned() };
        let root = tree::parse_foreign(&Place::new(Layer::User, PathBuf::from(file)), &text)?;
        Ok(Self { text, root })
    }

    /// The text of the value at these keys.
    pub fn value(&self, keys: &[&str]) -> Option<&str> {
        self.node(keys).map(|node| &self.text[node.at.span.clone()])
    }

    /// The value at these keys, read.
    pub fn json(&self, keys: &[&str]) -> Option<Json> {
        self.node(keys).map(json)
    }

    /// The entries of the list at these keys, read; none where there is no list.
    pub fn entries(&self, keys: &[&str]) -> Option<Vec<Json>> {
        self.list(keys).map(|nodes| nodes.iter().map(json).collect())
    }

    /// The text of one entry of the list at these keys.
    pub fn entry(&self, keys: &[&str], index: usize) -> Option<&str> {
        self.list(keys)?.get(index).map(|node| &self.text[node.at.span.clone()])
    }

    /// How many of the keys lead somewhere, from the root.
    pub fn depth(&self, keys: &[&str]) -> usize {
        (0..=keys.len()).rev().find(|depth| self.node(&keys[..*depth]).is_some()).unwrap_or(0)
    }

    /// Whether an object or a list is there that holds nothing.
    pub fn is_empty(&self, keys: &[&str]) -> bool {
        self.node(keys).is_some_and(|node| match &node.value {
            Value::Object(members) => members.is_empty(),
            Value::List(nodes) => nodes.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        })
    }

    /// The text with this value at these keys; what is missing on the way is made.
    ///
    /// # Errors
    ///
    /// When something on the way is no object.
    pub fn with(&self, keys: &[&str], value: &str) -> Result<String, EditError> {
        let depth = self.depth(keys);
        let Some(found) = self.node(&keys[..depth]) else { return Ok(self.text.clone()) };
        let Some((key, deeper)) = keys[depth..].split_first() else {
            return Ok(spliced(&self.text, found.at.span.clone(), value));
        };
        if !matches!(found.value, Value::Object(_)) {
            let path = if depth == 0 { "the file".to_owned() } else { keys[..depth].join(".") };
            return Err(EditError::NotAnObject { path, kind: found.value.kind() });
        }
        let items = items(found);
        let indent = match items.last() {
            Some(last) => own_line(&self.text, last.start).map(str::to_owned),
            None if depth == 0 => Some(format!("{}{INDENT}", indent_at(&self.text, found.at.span.start))),
            None => None,
        };
        let member = format!("{}: {}", quoted(key), self.nested(deeper, value, indent.as_deref()));
        Ok(inserted(&self.text, &found.at.span, &items, depth == 0, &member))
    }

    /// The text without the value at these keys; of a key that is given twice, without the last one.
    pub fn without(&self, keys: &[&str]) -> String {
        let Some((key, above)) = keys.split_last() else { return self.text.clone() };
        let Some(parent) = self.node(above) else { return self.text.clone() };
        let Value::Object(members) = &parent.value else { return self.text.clone() };
        match members.iter().rposition(|member| member.name == *key) {
            Some(place) => removed(&self.text, &items(parent), place),
            None => self.text.clone(),
        }
    }

    /// The text with one more entry at the end of the list at these keys, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// When something else than a list is there, or something on the way is no object.
    pub fn with_entry(&self, keys: &[&str], entry: &str) -> Result<String, EditError> {
        match self.node(keys) {
            None => self.with(keys, &format!("[{entry}]")),
            Some(node) if matches!(node.value, Value::List(_)) => Ok(inserted(&self.text, &node.at.span, &items(node), false, entry)),
            Some(node) => Err(EditError::NotAList { path: keys.join("."), kind: node.value.kind() }),
        }
    }

    /// The text with another entry in the place of one.
    pub fn with_entry_replaced(&self, keys: &[&str], index: usize, entry: &str) -> String {
        match self.list(keys).and_then(|nodes| nodes.get(index)) {
            Some(node) => spliced(&self.text, node.at.span.clone(), entry),
            None => self.text.clone(),
        }
    }

    /// The text without one entry of a list.
    pub fn without_entry(&self, keys: &[&str], index: usize) -> String {
        match self.node(keys) {
            Some(node) if index < items(node).len() => removed(&self.text, &items(node), index),
            _ => self.text.clone(),
        }
    }

    /// Whether the program's own parser may stumble over what other parsers let pass: a comment or a trailing comma.
    pub fn is_plain_json(&self) -> bool {
        serde_json::from_str::<Json>(self.text.trim_start_matches('\u{feff}')).is_ok()
    }

    fn list(&self, keys: &[&str]) -> Option<&[Node]> {
        match &self.node(keys)?.value {
            Value::List(nodes) => Some(nodes),
            _ => None,
        }
    }

    /// The node that counts: of a key that is given twice the last.
    fn node(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(&self.root, |node, key| match &node.value {
            Value::Object(members) => members.iter().rev().find(|member| member.name == *key).map(|member| &member.node),
            _ => None,
        })
    }

    /// The value inside objects that are made for it: one key a line where the object they stand in has lines.
    fn nested(&self, keys: &[&str], value: &str, indent: Option<&str>) -> String {
        let Some((key, deeper)) = keys.split_first() else { return value.to_owned() };
        match indent {
            None => format!("{{ {}: {} }}", quoted(key), self.nested(deeper, value, None)),
            Some(indent) => {
                let (inner, end) = (format!("{indent}{}", self.unit()), line_end(&self.text));
                format!("{{{end}{inner}{}: {}{end}{indent}}}", quoted(key), self.nested(deeper, value, Some(&inner)))
            }
        }
    }

    /// One step of indentation, as the file has it.
    fn unit(&self) -> &str {
        let first = items(&self.root).first().and_then(|first: &Range<usize>| own_line(&self.text, first.start));
        first.filter(|indent| !indent.is_empty()).unwrap_or(INDENT)
    }
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(text) => serde_json::from_str(text).unwrap_or(Json::Null),
        Value::String(text) => Json::String(text.clone()),
        Value::List(nodes) => Json::Array(nodes.iter().map(json).collect()),
        // A later member of the same name takes the earlier one's place.
        Value::Object(members) => Json::Object(members.iter().map(|Member { name, node, .. }| (name.clone(), json(node))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::parse(Path::new("settings.json"), text).unwrap_or_else(|error| panic!("{text}: {}", error.render(false)))
    }

    #[track_caller]
    fn check_with(text: &str, keys: &[&str], value: &str, expect: &str) {
        assert_eq!(settings(text).with(keys, value).expect("set"), expect);
    }

    #[test]
    fn what_is_missing_gets_lines_where_the_file_has_lines() {
        check_with("", &["env", "A"], "1", "{\n  \"env\": {\n    \"A\": 1\n  }\n}\n");
        check_with("{\r\n\t\"a\": 1\r\n}", &["env", "A"], "1", "{\r\n\t\"a\": 1,\r\n\t\"env\": {\r\n\t\t\"A\": 1\r\n\t}\r\n}");
        check_with(r#"{"a":1}"#, &["env", "A"], "1", r#"{"a":1, "env": { "A": 1 }}"#);
        check_with(r#"{"env":{}}"#, &["env", "A"], "1", r#"{"env":{ "A": 1 }}"#);
        check_with("\u{feff}{\"a\":1}", &["a"], "2", "\u{feff}{\"a\":2}");
    }

    #[test]
    fn of_a_key_that_is_given_twice_the_last_one_counts() {
        let text = r#"{ "env": { "A": "x" }, "env": { "A": "1", "A": "2" } }"#;
        assert_eq!(settings(text).value(&["env", "A"]), Some("\"2\""));
        check_with(text, &["env", "A"], "3", r#"{ "env": { "A": "x" }, "env": { "A": "1", "A": 3 } }"#);
        check_with(text, &["env", "B"], "3", r#"{ "env": { "A": "x" }, "env": { "A": "1", "A": "2", "B": 3 } }"#);
    }

    #[test]
    fn a_list_gets_and_loses_entries() {
        let text = "{\n  \"l\": [\n    1, // one\n    2\n  ]\n}\n";
        let with = settings(text).with_entry(&["l"], "{}").expect("a list");
        assert_eq!(with, "{\n  \"l\": [\n    1, // one\n    2,\n    {}\n  ]\n}\n");
        assert_eq!(settings(&with).without_entry(&["l"], 2), text);
        assert_eq!(settings("{}").with_entry(&["h", "s"], "1").expect("made"), "{\n  \"h\": {\n    \"s\": [1]\n  }\n}");
        assert_eq!(settings(r#"{"l":[1,2,3]}"#).without_entry(&["l"], 1), r#"{"l":[1,3]}"#);
        assert_eq!(settings(r#"{"l":[1,2]}"#).with_entry_replaced(&["l"], 0, "5"), r#"{"l":[5,2]}"#);
        let error = settings(r#"{"l":{}}"#).with_entry(&["l"], "1").expect_err("no list");
        assert_eq!(error.to_string(), "`l` is an object, and no list");
    }

    #[test]
    fn json5_is_read_with_its_liberties() {
        let text = "\u{feff}{ // c\n  'a': \"x\", b: [1, 0x10, .5,], \"b2\": null, /* d */ \"a\": 'y',\n}\n";
        assert_eq!(json5(text), Some(serde_json::json!({ "a": "y", "b": [1, "0x10", ".5"], "b2": null })));
        for text in ["", "{", "{a:}", "\u{0}", &"[".repeat(200_000), &"{a:".repeat(200_000)] {
            assert_eq!(json5(text), None);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn json5_reads_any_text_without_a_panic(text in "[-{}\\[\\]:,'\"/*a0x.+ \\n\\\\u]{0,60}|(?s).{0,40}") {
            json5(&text);
        }
    }

    #[test]
    fn what_is_no_json_is_told_and_what_is_no_object_too() {
        assert!(Settings::parse(Path::new("s"), "{ \"a\": ").is_err());
        assert_eq!(settings(r#"{"env":[]}"#).with(&["env", "A"], "1").expect_err("a list").to_string(), "`env` is a list, and has no keys");
        assert!(settings("{ \"a\": [1, 2] }").is_plain_json() && !settings("{ \"a\": 1, // x\n }").is_plain_json());
    }
}
