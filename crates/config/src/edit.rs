//! Changes one key of a configuration's text and nothing else: comments, order, indentation and line ends stay. Never writes a file (see
//! [`crate::replace`]), and never judges what the key means.

mod chain;
mod look;

use std::ops::Range;
use std::path::Path;

use thiserror::Error;

use crate::assign::literal_credential;
use crate::diagnostic::Errors;
use crate::key::KeyPath;
use crate::layers::Layer;
use crate::mask::mask;
use crate::source::Place;
use crate::tree::{self, Member, Node, Value};
use crate::trust::digest;

pub use chain::{Mention, add_spare, mentions, without_profile};
pub use look::{keys, line_of};

/// What a new file begins with.
pub(crate) const EMPTY: &str = "{}\n";

/// Indentation of a file that has none.
pub(crate) const INDENT: &str = "  ";

/// A changed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The whole new text.
    pub text: String,
    /// How to come back.
    pub undo: Undo,
}

/// What takes a change back, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// SHA-256 of the text after the change: any other text has been changed since.
    pub digest: String,
    /// Bytes of the changed text that the change put in.
    pub put_in: Range<usize>,
    /// What stood there before.
    pub taken_out: String,
    /// Whether what stood there may hold a credential: then it shall not be kept.
    pub is_delicate: bool,
}

/// Why a text cannot be changed so.
#[derive(Debug, Error)]
pub enum EditError {
    /// The text itself is broken.
    #[error(transparent)]
    Broken(#[from] Errors),
    /// The value is no JSON.
    #[error("the value is not JSON")]
    Value(#[source] Errors),
    /// Something on the way to the key is no object.
    #[error("`{path}` is {kind}, and has no keys")]
    NotAnObject {
        /// The path that leads there.
        path: String,
        /// What is there.
        kind: &'static str,
    },
    /// There is something else in a list's place.
    #[error("`{path}` is {kind}, and no list")]
    NotAList {
        /// The path that leads there.
        path: String,
        /// What is there.
        kind: &'static str,
    },
    /// There is nothing to remove.
    #[error("`{0}` is not set there")]
    Absent(String),
    /// Whoever is to be taken out is all that the policy asks.
    #[error("`{0}` is the primary profile, and the file names nobody who could take its place")]
    LastProfile(String),
}

/// Sets a key. The value is JSON and is put in as it is written; whatever is missing on the way to the key is made.
///
/// # Errors
///
/// When the text or the value is broken, or the path leads through what is no object.
pub fn set(text: &str, path: &KeyPath, value: &str) -> Result<Edit, EditError> {
    parse(value).map_err(EditError::Value)?;
    let before = text;
    let text = if text.trim().is_empty() { EMPTY } else { text };
    let root = parse(text)?;
    let (found, rest) = walk(&root, path)?;
    let edited = match rest.split_first() {
        None => spliced(text, found.at.span.clone(), value),
        Some((key, deeper)) => {
            let value = deeper.iter().rev().fold(value.to_owned(), |value, key| format!("{{ {}: {value} }}", quoted(key)));
            let is_root = path.keys().len() == rest.len();
            inserted(text, &found.at.span, &items(found), is_root, &format!("{}: {value}", quoted(key)))
        }
    };
    Ok(changed(before, edited))
}

/// Whether the value holds a credential itself: then it does not belong on a command line.
pub fn is_credential(path: &KeyPath, value: &str) -> bool {
    let alone = set(EMPTY, path, value).ok().and_then(|alone| parse(&alone.text).ok());
    alone.is_some_and(|root| literal_credential(&root).is_some())
}

/// Removes a key.
///
/// # Errors
///
/// When the text is broken, or the key is not there.
pub fn unset(text: &str, path: &KeyPath) -> Result<Edit, EditError> {
    let root = parse(text)?;
    let absent = || EditError::Absent(path.to_string());
    let (key, parents) = path.keys().split_last().ok_or_else(absent)?;
    let mut parent = &root;
    for key in parents {
        parent = &parent.member(key).ok_or_else(absent)?.node;
    }
    let Value::Object(members) = &parent.value else { return Err(absent()) };
    let place = members.iter().position(|member| member.name == *key).ok_or_else(absent)?;
    let items: Vec<Range<usize>> = members.iter().map(member_span).collect();
    Ok(changed(text, removed(text, &items, place)))
}

/// Takes a change back; none where the text is not the one that it led to.
pub fn undo(text: &str, undo: &Undo) -> Option<String> {
    let is_that =
        digest(text.as_bytes()) == undo.digest && text.is_char_boundary(undo.put_in.start) && text.is_char_boundary(undo.put_in.end);
    (is_that && undo.put_in.start <= undo.put_in.end).then(|| spliced(text, undo.put_in.clone(), &undo.taken_out))
}

/// The text of a value as typed: JSON stays as it is, anything else becomes a string.
pub fn value_text(typed: &str) -> String {
    let looks_like_json = typed.starts_with(['{', '[', '"']);
    if looks_like_json || parse(typed).is_ok() { typed.to_owned() } else { quoted(typed) }
}

pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The tree of a text without any fault.
fn parse(text: &str) -> Result<Node, Errors> {
    let (node, faults) = tree::parse(&Place::new(Layer::User, Path::new("value")), text)?;
    if faults.is_empty() { Ok(node) } else { Err(Errors(faults)) }
}

/// The deepest node on the way to the key, and the keys that are missing from there.
fn walk<'n, 'p>(root: &'n Node, path: &'p KeyPath) -> Result<(&'n Node, &'p [String]), EditError> {
    let mut node = root;
    for (depth, key) in path.keys().iter().enumerate() {
        if !matches!(node.value, Value::Object(_)) {
            let above = path.keys()[..depth].join(".");
            let above = if above.is_empty() { "the file".to_owned() } else { above };
            return Err(EditError::NotAnObject { path: above, kind: node.value.kind() });
        }
        match node.member(key) {
            Some(member) => node = &member.node,
            None => return Ok((node, &path.keys()[depth..])),
        }
    }
    Ok((node, &[]))
}

/// Where each member of an object or each entry of a list stands.
pub(crate) fn items(node: &Node) -> Vec<Range<usize>> {
    match &node.value {
        Value::Object(members) => members.iter().map(member_span).collect(),
        Value::List(nodes) => nodes.iter().map(|node| node.at.span.clone()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn member_span(member: &Member) -> Range<usize> {
    member.name_at.span.start..member.node.at.span.end
}

/// Puts a member behind the last one of an object, or an entry behind the last one of a list; `whole` is the object with its brackets.
pub(crate) fn inserted(text: &str, whole: &Range<usize>, items: &[Range<usize>], is_root: bool, member: &str) -> String {
    let closing = whole.end - 1;
    match items.last() {
        None => inserted_into_empty(text, whole.start + 1..closing, is_root, member),
        Some(last) => {
            let end = last.end;
            let gap = &text[end..closing];
            let comma = comma_in(gap).map(|at| end + at + 1);
            match own_line(text, last.start) {
                // A line of its own, as the one before; behind the comments that stand there.
                Some(indent) => {
                    let content_end = end + gap.trim_end().len();
                    let trailing = if comma.is_some() { "," } else { "" };
                    let with_member = spliced(text, content_end..content_end, &format!("{}{indent}{member}{trailing}", line_end(text)));
                    if comma.is_some() { with_member } else { spliced(&with_member, end..end, ",") }
                }
                None => match comma {
                    Some(comma) => spliced(text, comma..comma, &format!(" {member},")),
                    None => spliced(text, end..end, &format!(", {member}")),
                },
            }
        }
    }
}

fn inserted_into_empty(text: &str, inside: Range<usize>, is_root: bool, member: &str) -> String {
    let content = text[inside.clone()].trim_end();
    let indent = indent_at(text, inside.start);
    let end = line_end(text);
    if content.trim().is_empty() && !is_root {
        return spliced(text, inside, &format!(" {member} "));
    }
    // Comments stay where they are; the closing bracket gets a line of its own.
    let at = inside.start + content.len();
    spliced(text, at..inside.end, &format!("{end}{indent}{INDENT}{member}{end}{indent}"))
}

/// Takes one of an object's members or a list's entries out: with its line where nothing else stands on it, and with the comma that it
/// leaves without a use.
pub(crate) fn removed(text: &str, items: &[Range<usize>], place: usize) -> String {
    let Range { start, end } = items[place];
    let follower = items.get(place + 1).map_or(text.len(), |next| next.start);
    let comma = comma_in(&text[end..follower]).map(|at| end + at);
    let own = start..end;
    let cuts = match comma {
        Some(comma) => vec![own, comma..comma + 1],
        // The last one: the comma before it would be left over.
        None if place > 0 => {
            let before = items[place - 1].end;
            let left_over = comma_in(&text[before..start]).map(|at| before + at..before + at + 1);
            match left_over {
                // Nothing but blanks between the two.
                Some(comma) if text[comma.end..start].bytes().all(|byte| byte == b' ') => std::iter::once(comma.start..end).collect(),
                left_over => left_over.into_iter().chain([own]).collect(),
            }
        }
        None => Vec::from([own]),
    };
    let line = whole_line(text, start, comma.map_or(end, |comma| comma + 1));
    cut_out(text, &cuts, line.as_ref())
}

/// The whole line, its end included, around a range that starts and ends on it with nothing else there.
fn whole_line(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let line_start = text[..start].rfind('\n')? + 1;
    let line_stop = end + text[end..].find('\n')? + 1;
    let is_alone = text[line_start..start].trim().is_empty() && text[end..line_stop].trim().is_empty();
    is_alone.then_some(line_start..line_stop)
}

fn cut_out(text: &str, cuts: &[Range<usize>], line: Option<&Range<usize>>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for cut in cuts {
        let (start, end) = match line {
            Some(line) if line.contains(&cut.start) => (line.start, line.end),
            _ => (cut.start, cut.end),
        };
        if start >= at {
            out.push_str(&text[at..start]);
            at = end;
        }
    }
    // On a line with others the blank behind goes too.
    if line.is_none() && text[at..].starts_with(' ') && out.ends_with([' ', '{', '[']) {
        at += 1;
    }
    out.push_str(&text[at..]);
    out
}

/// The indentation of a member that begins its line.
pub(crate) fn own_line(text: &str, start: usize) -> Option<&str> {
    let line_start = text[..start].rfind('\n')? + 1;
    let indent = &text[line_start..start];
    indent.bytes().all(|byte| matches!(byte, b' ' | b'\t')).then_some(indent)
}

/// The indentation of the line that a byte is on.
pub(crate) fn indent_at(text: &str, at: usize) -> &str {
    let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..];
    &line[..line.find(|c| !matches!(c, ' ' | '\t')).unwrap_or(0)]
}

/// As the file has them.
pub(crate) fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// The first comma that stands in no comment.
fn comma_in(gap: &str) -> Option<usize> {
    let mut at = 0;
    while at < gap.len() {
        let rest = &gap[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if rest.starts_with(',') {
            return Some(at);
        } else if rest.starts_with(['"', '}', ']']) {
            return None;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

pub(crate) fn spliced(text: &str, range: Range<usize>, put: &str) -> String {
    format!("{}{put}{}", &text[..range.start], &text[range.end..])
}

/// A change that somebody else made. What takes it back is what lies between the longest common start and the longest common end.
pub fn changed(before: &str, after: String) -> Edit {
    let (put_in, taken_out) = difference(before, &after);
    let is_delicate = mask(before).text.get(put_in.start..put_in.start + taken_out.len()) != Some(taken_out);
    Edit { undo: Undo { digest: digest(after.as_bytes()), put_in, taken_out: taken_out.to_owned(), is_delicate }, text: after }
}

/// Bytes of `after` that are new, and what stood in their place before.
pub fn difference<'b>(before: &'b str, after: &str) -> (Range<usize>, &'b str) {
    let mut start = before.bytes().zip(after.bytes()).take_while(|(one, other)| one == other).count();
    while !(before.is_char_boundary(start) && after.is_char_boundary(start)) {
        start -= 1;
    }
    let (old, new) = (&before[start..], &after[start..]);
    let mut same = old.bytes().rev().zip(new.bytes().rev()).take_while(|(one, other)| one == other).count();
    while !(old.is_char_boundary(old.len() - same) && new.is_char_boundary(new.len() - same)) {
        same -= 1;
    }
    (start..start + new.len() - same, &old[..old.len() - same])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> KeyPath {
        KeyPath::parse(text).expect("a path")
    }

    #[track_caller]
    fn check_set(text: &str, key: &str, value: &str, expect: &str) {
        let edit = set(text, &path(key), value).expect("an edit");
        assert_eq!(edit.text, expect);
        assert_eq!(undo(&edit.text, &edit.undo).as_deref(), Some(text));
    }

    #[track_caller]
    fn check_unset(text: &str, key: &str, expect: &str) {
        let edit = unset(text, &path(key)).expect("an edit");
        assert_eq!(edit.text, expect);
        assert_eq!(undo(&edit.text, &edit.undo).as_deref(), Some(text));
    }

    #[test]
    fn a_value_is_replaced_in_its_place() {
        check_set(r#"{"a":1,"b":2}"#, "a", "[3]", r#"{"a":[3],"b":2}"#);
        check_set("{ // one\n  \"a\" : 1 /* two */ , // three\n}\n", "a", "2", "{ // one\n  \"a\" : 2 /* two */ , // three\n}\n");
        check_set(r#"{"a":{"b":[1, /* x */ 2]}}"#, "a.b", "\"é\"", r#"{"a":{"b":"é"}}"#);
        check_set("{ \"\\u0061\": 1 }", "a", "2", "{ \"\\u0061\": 2 }");
    }

    #[test]
    fn a_new_key_stands_behind_the_last_one_as_that_stands() {
        check_set("{\n  \"a\": 1\n}\n", "b", "2", "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
        check_set("{\r\n\t\"a\": 1\r\n}\r\n", "b", "2", "{\r\n\t\"a\": 1,\r\n\t\"b\": 2\r\n}\r\n");
        check_set("{\n  \"a\": 1, // why\n  // end\n}", "b", "2", "{\n  \"a\": 1, // why\n  // end\n  \"b\": 2,\n}");
        check_set("{\n  \"a\": 1 // why\n}", "b", "2", "{\n  \"a\": 1, // why\n  \"b\": 2\n}");
        check_set("{\n  \"a\": 1 /* , */\n}", "b", "2", "{\n  \"a\": 1, /* , */\n  \"b\": 2\n}");
        check_set(r#"{ "a": 1 }"#, "b", "2", r#"{ "a": 1, "b": 2 }"#);
        check_set(r#"{ "a": 1, }"#, "b", "2", r#"{ "a": 1, "b": 2, }"#);
        check_set("{ \"a\": 1 // x\n}", "b", "2", "{ \"a\": 1, \"b\": 2 // x\n}");
        check_set("{\n  \"a\": { \"x\": 1 }\n}", "a.y", "2", "{\n  \"a\": { \"x\": 1, \"y\": 2 }\n}");
    }

    #[test]
    fn what_is_missing_on_the_way_is_made() {
        check_set("", "a.b", "1", "{\n  \"a\": { \"b\": 1 }\n}\n");
        check_set("{}", "a", "1", "{\n  \"a\": 1\n}");
        check_set("{ }\n", "a.b.c", "1", "{\n  \"a\": { \"b\": { \"c\": 1 } }\n}\n");
        check_set("// top\n{\n  // nothing yet\n}\n", "a", "1", "// top\n{\n  // nothing yet\n  \"a\": 1\n}\n");
        check_set("{\n  \"a\": {}\n}", "a.b", "1", "{\n  \"a\": { \"b\": 1 }\n}");
        check_set("{\n  \"a\": {\n    // none\n  }\n}", "a.b", "1", "{\n  \"a\": {\n    // none\n    \"b\": 1\n  }\n}");
    }

    #[test]
    fn a_key_is_removed_with_its_comma_and_comments_stay() {
        check_unset("{\n  \"a\": 1,\n  \"b\": 2\n}\n", "a", "{\n  \"b\": 2\n}\n");
        check_unset("{\n  \"a\": 1,\n  \"b\": 2\n}\n", "b", "{\n  \"a\": 1\n}\n");
        check_unset("{\n  \"a\": 1,\n  \"b\": 2,\n}\n", "b", "{\n  \"a\": 1,\n}\n");
        check_unset("{\n  // why a\n  \"a\": 1, // because\n  \"b\": 2\n}\n", "a", "{\n  // why a\n  // because\n  \"b\": 2\n}\n");
        check_unset("{\n  \"a\": 1, // because\n  \"b\": 2\n}\n", "b", "{\n  \"a\": 1 // because\n}\n");
        check_unset(r#"{ "a": 1, "b": 2 }"#, "a", r#"{ "b": 2 }"#);
        check_unset(r#"{ "a": 1, "b": 2 }"#, "b", r#"{ "a": 1 }"#);
        check_unset(r#"{"a": 1, "b": 2}"#, "b", r#"{"a": 1}"#);
        check_unset(r#"{"a":1}"#, "a", "{}");
        check_unset(r#"{ "a": { "b": 1 } }"#, "a.b", r#"{ "a": { } }"#);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert!(matches!(set("{", &path("a"), "1"), Err(EditError::Broken(_))));
        assert!(matches!(set("{}", &path("a"), "1 2"), Err(EditError::Value(_))));
        assert!(matches!(set(r#"{"a":1,"a":2}"#, &path("a"), "1"), Err(EditError::Broken(_))));
        let error = set(r#"{"a":[1]}"#, &path("a.b"), "1").expect_err("a list has no keys");
        assert_eq!(error.to_string(), "`a` is a list, and has no keys");
        assert_eq!(set("[]", &path("a"), "1").expect_err("a list").to_string(), "`the file` is a list, and has no keys");
        assert!(matches!(unset("{}", &path("a.b")), Err(EditError::Absent(_))));
        let edit = set("{}", &path("a"), "1").expect("an edit");
        assert_eq!(undo("{\n  \"a\": 2\n}", &edit.undo), None, "somebody changed it since");
    }

    #[test]
    fn what_may_be_a_credential_is_not_for_keeping() {
        let text = r#"{ "profiles": { "a": { "auth": { "value": "hunter2" } } }, "server": { "max_connections": 5 } }"#;
        assert!(set(text, &path("profiles.a.auth.value"), "\"x\"").expect("an edit").undo.is_delicate);
        assert!(unset(text, &path("profiles")).expect("an edit").undo.is_delicate);
        assert!(!set(text, &path("server.max_connections"), "7").expect("an edit").undo.is_delicate);
        assert!(is_credential(&path("profiles.a.auth.value"), "\"x\"") && is_credential(&path("profiles.a"), r#"{"auth":{"value":"x"}}"#));
        assert!(!is_credential(&path("profiles.a.auth"), r#"{"env":"X"}"#));
    }

    #[test]
    fn a_value_as_typed_is_json_or_text() {
        for (typed, text) in
            [("work", "\"work\""), ("5", "5"), ("true", "true"), ("\"5\"", "\"5\""), ("5s", "\"5s\""), ("[1, 2]", "[1, 2]"), ("", "\"\"")]
        {
            assert_eq!(value_text(typed), text);
        }
        assert_eq!(value_text("{ broken"), "{ broken", "which is then said to be broken");
    }
}
