//! Turns a file's text into a tree whose every node knows its place, and lays one tree over another. Never looks at what keys mean.
//!
//! The parser is used nowhere else: its interface is young and may change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};
use crate::reader::Findings;
use crate::source::{At, Place, Source};

/// A value and its place. Holds credentials in the clear, hence no `Debug`.
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    String(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) name_at: At,
    pub(crate) node: Node,
}

impl Value {
    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl Node {
    /// The member of that name, if this is an object that has one.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        match &self.value {
            Value::Object(members) => members.iter().find(|member| member.name == name),
            _ => None,
        }
    }

    /// Takes the member of that name out.
    pub(crate) fn take_member(&mut self, name: &str) -> Option<Member> {
        let Value::Object(members) = &mut self.value else { return None };
        let index = members.iter().position(|member| member.name == name)?;
        Some(members.remove(index))
    }

    /// The member of that name, if this is an object that has one.
    pub(crate) fn into_member(self, name: &str) -> Option<Member> {
        match self.value {
            Value::Object(members) => members.into_iter().find(|member| member.name == name),
            _ => None,
        }
    }
}

impl Member {
    /// An object with this one member, as if it were a file of its own.
    pub(crate) fn into_root(self) -> Node {
        Node { at: self.node.at.clone(), value: Value::Object(vec![self]) }
    }
}

/// Parses a file's text; the second part of a success are the keys that are given twice.
pub(crate) fn parse(place: &Place, text: &str) -> Result<(Node, Vec<Diagnostic>), Box<Diagnostic>> {
    parse_part(&Source::new(place, text), text, 0)
}

/// Parses a text that stands `offset` bytes behind the start of its source.
pub(crate) fn parse_part(source: &Arc<Source>, text: &str, offset: usize) -> Result<(Node, Vec<Diagnostic>), Box<Diagnostic>> {
    if text.starts_with(BYTE_ORDER_MARK) {
        let at = At::new(source, offset..offset + 3);
        let fault = fault(codes::BYTE_ORDER_MARK, &at, "the file starts with a byte order mark", "three bytes before the first character");
        return Err(Box::new(fault.with_help("save it as UTF-8 without a byte order mark")));
    }
    let result =
        parse_to_ast(text, &CollectOptions::default(), &options()).map_err(|error| Box::new(syntax_error(source, offset, &error)))?;
    let Some(value) = result.value else {
        let place = &source.place;
        let fault = Diagnostic::about(Severity::Error, codes::EMPTY, &place.path, "the file is empty").in_layer(place.layer);
        return Err(Box::new(fault.with_help("write `{}` for a configuration that sets nothing, or remove the file")));
    };
    let mut convert = Convert { source, text, offset, keeps_duplicates: false, faults: Vec::new() };
    let node = convert.node(value);
    Ok((node, convert.faults))
}

/// Parses another program's text: a byte order mark may stand before it, and a key may be given twice; both members are kept, in order.
pub(crate) fn parse_foreign(place: &Place, text: &str) -> Result<Node, Box<Diagnostic>> {
    let offset = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
    let (source, text) = (&Source::new(place, text), &text[offset..]);
    let result =
        parse_to_ast(text, &CollectOptions::default(), &options()).map_err(|error| Box::new(syntax_error(source, offset, &error)))?;
    let Some(value) = result.value else {
        return Err(Box::new(Diagnostic::about(Severity::Error, codes::EMPTY, &place.path, "the file holds no value")));
    };
    let mut convert = Convert { source, text, offset, keeps_duplicates: true, faults: Vec::new() };
    let node = convert.node(value);
    convert.faults.into_iter().next().map_or(Ok(node), |fault| Err(Box::new(fault)))
}

/// Parses another program's JSON5 without places: comments, trailing commas, single quotes and bare names pass, and of a key that is
/// given twice the last one counts. `None` if it is not even that.
pub(crate) fn parse_json5(text: &str) -> Option<serde_json::Value> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let options = ParseOptions {
        allow_loose_object_property_names: true,
        allow_single_quoted_strings: true,
        allow_hexadecimal_numbers: true,
        allow_unary_plus_numbers: true,
        allow_bare_decimal_point_numbers: true,
        allow_non_finite_numbers: true,
        allow_extended_string_escapes: true,
        ..options()
    };
    parse_to_ast(text, &CollectOptions::default(), &options).ok()?.value.map(plain)
}

fn plain(value: ast::Value<'_>) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        ast::Value::NullKeyword(_) => Json::Null,
        ast::Value::BooleanLit(literal) => Json::Bool(literal.value),
        // What JSON cannot say as a number (`0x10`, `NaN`) stays as it is written.
        ast::Value::NumberLit(literal) => serde_json::from_str(literal.value).unwrap_or_else(|_| Json::String(literal.value.to_owned())),
        ast::Value::StringLit(literal) => Json::String(literal.value.into_owned()),
        ast::Value::Array(array) => array.elements.into_iter().map(plain).collect(),
        ast::Value::Object(object) => {
            object.properties.into_iter().map(|property| (property.name.into_string(), plain(property.value))).collect()
        }
    }
}

/// Some editors put it first; three bytes in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// JSON with comments and trailing commas, and no other liberty: what is accepted here other tools read too.
fn options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

struct Convert<'t> {
    source: &'t Arc<Source>,
    text: &'t str,
    offset: usize,
    keeps_duplicates: bool,
    faults: Vec<Diagnostic>,
}

impl Convert<'_> {
    fn node(&mut self, value: ast::Value<'_>) -> Node {
        let at = self.at(&value);
        let value = match value {
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
            ast::Value::NumberLit(literal) => Value::Number(literal.value.to_owned()),
            ast::Value::StringLit(literal) => self.string(&at, literal),
            ast::Value::Array(array) => Value::List(array.elements.into_iter().map(|element| self.node(element)).collect()),
            ast::Value::Object(object) => Value::Object(self.members(object)),
        };
        Node { at, value }
    }

    /// JSON has no raw control characters in strings; the parser lets them pass.
    fn string(&mut self, at: &At, literal: ast::StringLit<'_>) -> Value {
        if self.text[at.span.start - self.offset..at.span.end - self.offset].bytes().any(|byte| byte < 0x20) {
            let fault = fault(codes::SYNTAX, &at.first_line(), "a string runs over the end of its line or holds a tab", "this string");
            self.faults.push(fault.with_help("write `\\n` or `\\t` inside the quotes, or close the string"));
        }
        Value::String(literal.value.into_owned())
    }

    fn members(&mut self, object: ast::Object<'_>) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::with_capacity(object.properties.len());
        let mut places: HashMap<String, At> = HashMap::new();
        for property in object.properties {
            let name_at = self.at(&property.name);
            let name = property.name.into_string();
            let node = self.node(property.value);
            if self.keeps_duplicates {
                members.push(Member { name, name_at, node });
                continue;
            }
            match places.entry(name) {
                Entry::Occupied(first) => self.faults.push(duplicate(first.get(), &name_at)),
                Entry::Vacant(place) => {
                    members.push(Member { name: place.key().clone(), name_at: name_at.clone(), node });
                    place.insert(name_at);
                }
            }
        }
        members
    }

    fn at(&self, ranged: &impl Ranged) -> At {
        At::new(self.source, self.offset + ranged.start()..self.offset + ranged.end())
    }
}

fn duplicate(first: &At, second: &At) -> Diagnostic {
    let mut diagnostic = fault(codes::DUPLICATE_KEY, second, format!("`{}` is given twice", second.quote()), "given again");
    diagnostic.also = Some((first.span.clone(), "first given here".to_owned()));
    diagnostic.with_help("keep one of the two")
}

fn fault(code: codes::Code, at: &At, title: impl Into<String>, label: &str) -> Diagnostic {
    Diagnostic::at(Severity::Error, code, at, title, label)
}

fn syntax_error(source: &Arc<Source>, offset: usize, error: &ParseError) -> Diagnostic {
    let range = offset + error.range().start..offset + error.range().end;
    if let Some(start) = source.unclosed_string.filter(|start| *start <= range.start) {
        // The parser lets strings run on to the next quote, lines away from the mistake.
        let at = At::new(source, start..source.masked.len()).first_line();
        return fault(codes::SYNTAX, &at, "a string is not closed", "opened here").with_help("close it with `\"`");
    }
    let at = At::new(source, range.start..range.end).first_line();
    let (title, label, help) = explain(error.kind());
    let code = if matches!(error.kind(), ParseErrorKind::NestingDepthExceeded) { codes::TOO_DEEP } else { codes::SYNTAX };
    fault(code, &at, title, label).with_help(help)
}

/// Title, words at the caret, help.
fn explain(kind: &ParseErrorKind) -> (&'static str, &'static str, &'static str) {
    use ParseErrorKind as K;
    use jsonc_parser::ParseStringErrorKind::UnterminatedStringLiteral;
    match kind {
        K::ExpectedComma => ("a comma is missing", "a comma belongs here", "separate two entries by `,`"),
        K::ExpectedColonAfterObjectKey => ("a colon is missing", "a colon must come before this", "write `\"key\": value`"),
        K::ExpectedObjectValue => ("a value is missing", "a value belongs here", "write `\"key\": value`"),
        K::ExpectedStringObjectProperty | K::UnexpectedTokenInObject => {
            ("a key is missing or has no quotes", "a key in double quotes belongs here", "write `\"key\": value`")
        }
        K::UnexpectedWord => ("a word stands without quotes", "not a JSON value", "put text into double quotes"),
        K::SingleQuotedStringsNotAllowed => ("single quotes do not make a string", "this quote", "use double quotes"),
        K::UnterminatedObject => ("an object is not closed", "opened here", "close it with `}`"),
        K::UnterminatedArray => ("a list is not closed", "opened here", "close it with `]`"),
        K::UnterminatedCommentBlock => ("a comment is not closed", "opened here", "close it with `*/`"),
        K::MultipleRootJsonValues => ("more text follows the configuration", "this is too much", "a file holds one object: `{ … }`"),
        K::UnexpectedCloseBrace | K::UnexpectedCloseBracket => {
            ("a closing bracket does not fit", "the wrong bracket, or something is missing before it", "check the brackets before it")
        }
        K::NestingDepthExceeded => {
            ("objects and lists are nested too deeply", "too deep", "a configuration needs no more than eight levels")
        }
        K::String(UnterminatedStringLiteral) => ("a string is not closed", "opened here", "close it with `\"`"),
        K::String(_) => ("a string holds an escape that JSON does not have", "this escape", "write a backslash as `\\\\`"),
        K::HexadecimalNumbersNotAllowed
        | K::UnaryPlusNumbersNotAllowed
        | K::BareDecimalPointNumbersNotAllowed
        | K::NonFiniteNumbersNotAllowed
        | K::ExpectedDigit
        | K::ExpectedDigitFollowingNegativeSign
        | K::ExpectedPlusMinusOrDigitInNumberLiteral => ("a number has a form that JSON does not have", "this number", "write digits only"),
        _ => ("the text is not JSON", "unexpected here", "comments and trailing commas are allowed, nothing else beyond JSON"),
    }
}

/// Before a key: its list is put behind the one of the layers below.
const APPEND: char = '+';

impl Member {
    /// The key that this one appends to, if it does.
    fn appends_to(&self) -> Option<&str> {
        self.name.strip_prefix(APPEND).filter(|key| !key.is_empty())
    }

    /// The key without its mark.
    pub(crate) fn key(&self) -> &str {
        self.appends_to().unwrap_or(&self.name)
    }
}

/// Says which marks of this text stand before what is no list.
pub(crate) fn check_appends(node: &Node, findings: &mut Findings) {
    match &node.value {
        Value::Object(members) => {
            for member in members {
                let can_append = matches!(member.node.value, Value::List(_) | Value::String(_) | Value::Number(_));
                if member.appends_to().is_some() && !can_append {
                    let title = format!("`{}` appends to a list, and this is {}", member.name_at.quote(), member.node.value.kind());
                    findings
                        .error(codes::NOT_APPENDABLE, &member.node.at.first_line(), title, "nothing to append")
                        .help("write a list, or leave the `+` away: objects merge by themselves");
                }
                check_appends(&member.node, findings);
            }
        }
        Value::List(nodes) => nodes.iter().for_each(|node| check_appends(node, findings)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `high` laid over `low`: objects merge key by key, `+key` appends, anything else is replaced whole. Of one that was settled, or came
/// from here, nothing is left to append.
pub(crate) fn merge(low: Node, high: Node) -> Node {
    let (below, above) = match (low.value, high.value) {
        (Value::Object(below), Value::Object(above)) => (below, above),
        (_, value) => return settle(Node { at: high.at, value }),
    };
    let (appended, above): (Vec<Member>, Vec<Member>) = above.into_iter().partition(|member| member.appends_to().is_some());
    let mut below = below;
    // What stands above comes first: where the order of keys is meaning, the upper layer has the first word.
    let mut members: Vec<Member> = Vec::with_capacity(below.len() + above.len());
    for Member { name, name_at, node } in above {
        let node = match below.iter().position(|member| member.name == name) {
            Some(index) => merge(below.remove(index).node, node),
            None => settle(node),
        };
        members.push(Member { name, name_at, node });
    }
    members.extend(below);
    append_all(&mut members, appended);
    Node { at: high.at, value: Value::Object(members) }
}

/// A tree with nothing below it: `+key` is as `key`.
pub(crate) fn settle(node: Node) -> Node {
    let value = match node.value {
        Value::Object(members) => {
            let (appended, plain): (Vec<Member>, Vec<Member>) = members.into_iter().partition(|member| member.appends_to().is_some());
            let mut members: Vec<Member> = plain.into_iter().map(|member| Member { node: settle(member.node), ..member }).collect();
            append_all(&mut members, appended);
            Value::Object(members)
        }
        Value::List(nodes) => Value::List(nodes.into_iter().map(settle).collect()),
        value => value,
    };
    Node { at: node.at, value }
}

fn append_all(members: &mut Vec<Member>, appended: Vec<Member>) {
    for member in appended {
        let key = member.key().to_owned();
        let node = settle(member.node);
        match members.iter_mut().find(|known| known.name == key) {
            Some(known) => append(&key, &mut known.node, node),
            None => members.push(Member { name: key, name_at: member.name_at, node }),
        }
    }
}

/// The one key whose list may be written as its only entry.
const ONE_OR_MORE: &str = "secondary_profile";

/// What is no list stays, or comes, as it is: whoever reads it says so. As an entry of a list it would pass for a good one.
fn append(key: &str, list: &mut Node, more: Node) {
    if !is_list(key, list) {
        return;
    }
    if !is_list(key, &more) {
        *list = more;
        return;
    }
    let at = more.at.clone();
    let known = std::mem::replace(list, Node { at, value: Value::Null });
    list.value = Value::List(entries(known).into_iter().chain(entries(more)).collect());
}

fn is_list(key: &str, node: &Node) -> bool {
    matches!(node.value, Value::List(_)) || matches!(node.value, Value::String(_)) && key == ONE_OR_MORE
}

fn entries(node: Node) -> Vec<Node> {
    match node.value {
        Value::List(nodes) => nodes,
        _ => vec![node],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let Ok((node, _)) = parse(&Place::new(crate::layers::Layer::User, "t"), text) else { panic!("not JSON: {text}") };
        node
    }

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".into(),
            Value::Bool(value) => value.to_string(),
            Value::Number(value) | Value::String(value) => value.clone(),
            Value::List(nodes) => format!("[{}]", nodes.iter().map(show).collect::<Vec<_>>().join(" ")),
            Value::Object(members) => {
                let mut shown: Vec<_> = members.iter().map(|member| format!("{}={}", member.name, show(&member.node))).collect();
                shown.sort();
                format!("{{{}}}", shown.join(" "))
            }
        }
    }

    #[track_caller]
    fn check_merge(low: &str, high: &str, expect: &str) {
        assert_eq!(show(&merge(settle(tree(low)), tree(high))), expect);
    }

    #[test]
    fn objects_merge_and_all_else_is_replaced() {
        check_merge(r#"{"a":1,"b":2}"#, r#"{"b":3,"c":4}"#, "{a=1 b=3 c=4}");
        check_merge(r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":3}}"#, "{a={x=1 y=3}}");
        check_merge(r#"{"a":[1,2,3]}"#, r#"{"a":[4]}"#, "{a=[4]}");
        check_merge(r#"{"a":{"x":1}}"#, r#"{"a":"b"}"#, "{a=b}");
        check_merge(r#"{"a":"b"}"#, r#"{"a":{"x":1}}"#, "{a={x=1}}");
    }

    #[test]
    fn a_plus_appends_to_what_stands_below() {
        check_merge(r#"{"a":[1,2]}"#, r#"{"+a":[3]}"#, "{a=[1 2 3]}");
        let one = r#"{"secondary_profile":"x"}"#;
        check_merge(one, r#"{"+secondary_profile":"y"}"#, "{secondary_profile=[x y]}");
        check_merge(one, r#"{"+secondary_profile":["y","z"]}"#, "{secondary_profile=[x y z]}");
        check_merge("{}", r#"{"+a":[3]}"#, "{a=[3]}");
        check_merge(r#"{"+a":[1]}"#, r#"{"+a":[2]}"#, "{a=[1 2]}");
        check_merge(r#"{"a":[1]}"#, r#"{"a":[2],"+a":[3]}"#, "{a=[2 3]}");
        check_merge(r#"{"a":{"+b":[1]}}"#, r#"{"a":{"b":[2]}}"#, "{a={b=[2]}}");
        check_merge(r#"{"a":1}"#, r#"{"a":{"+b":[1],"c":[{"+d":[1]}]}}"#, "{a={b=[1] c=[{d=[1]}]}}");
        check_merge("{}", r#"{"+":[1]}"#, "{+=[1]}");
    }

    #[test]
    fn what_is_no_list_is_left_for_its_reader_to_refuse() {
        check_merge(r#"{"a":1}"#, r#"{"+a":[2]}"#, "{a=1}");
        check_merge(r#"{"a":null}"#, r#"{"+a":[2]}"#, "{a=null}");
        check_merge("{}", r#"{"a":{"x":1},"+a":[]}"#, "{a={x=1}}");
        check_merge(r#"{"a":[1]}"#, r#"{"+a":2}"#, "{a=2}");
        check_merge(r#"{"secondary_profile":1}"#, r#"{"+secondary_profile":["y"]}"#, "{secondary_profile=1}");
    }

    #[test]
    fn an_upper_layers_keys_come_first_in_its_own_order() {
        let merged = merge(tree(r#"{"b":1,"a":2,"c":3}"#), tree(r#"{"z":1,"c":4}"#));
        let Value::Object(members) = merged.value else { panic!("an object") };
        assert_eq!(members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["z", "c", "b", "a"]);
    }
}
