//! Collects what an error body of any shape says: names, words and waits, wherever they stand.
//!
//! A scanner without recursion reads JSON, its Python spelling and JSON that text surrounds, so that one odd field or a cut end loses
//! nothing. Strings that hold JSON are read again. Of 364 collected JSON refusals 91 have no `error` object, and seven carry the real one
//! inside a string.

/// Most bytes of a body that are read; the longest collected refusal has 3 KiB.
const MAX_BODY: usize = 256 * 1024;

/// Most scalars that are read of one body.
const MAX_SCALARS: usize = 512;

/// Most bytes of one string that are kept.
const MAX_STRING: usize = 4096;

/// Most bytes of words that are kept of one body.
const MAX_WORDS: usize = 64 * 1024;

/// Wrappers that are opened: a relay around a router around a provider was seen (three), and one more for luck.
const MAX_WRAPPERS: usize = 4;

/// Fields that repeat what was sent or answered, or hold a label: their words are not about the refusal.
const ECHOES: [&str; 13] = [
    "failedgeneration",
    "flaggedinput",
    "input",
    "prompt",
    "request",
    "requestbody",
    "requestid",
    "allowedclients",
    "docs",
    "url",
    "stack",
    "modelid",
    "providername",
];

/// Fields that hold a name: its value is compared as a whole with the names of the tables.
const NAMES: [&str; 24] = [
    "type",
    "code",
    "status",
    "reason",
    "errorcode",
    "errortype",
    "error",
    "errcode",
    "limitsource",
    "statuscode",
    "httpcode",
    "httpstatus",
    "quotaid",
    "name",
    "kind",
    "domain",
    "errormessage",
    "message",
    "msg",
    "detail",
    "statusmsg",
    "title",
    "innererror",
    "raw",
];

/// Longest value that can be a name, in bytes.
const MAX_NAME: usize = 96;

/// What a body says.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Names and numbers, as `(normalised field, normalised value)`.
    pub(super) names: Vec<(Box<str>, Box<str>)>,
    /// Every other string as it was written.
    pub(super) words: Vec<String>,
    /// Fields that tell a time, as `(normalised field, value)`.
    pub(super) times: Vec<(Box<str>, Box<str>)>,
    /// The innermost `type` as it was written; empty if there is none.
    pub(super) kind: String,
    /// Whether the body is JSON, or holds an object of it.
    pub(super) structured: bool,
    scalars: usize,
    size: usize,
}

impl Evidence {
    /// Reads a body.
    pub(super) fn of_body(body: &[u8]) -> Self {
        let mut evidence = Self::default();
        let text = String::from_utf8_lossy(&body[..body.len().min(MAX_BODY)]);
        let text = text.trim().trim_start_matches('\u{feff}');
        match text.as_bytes().first() {
            Some(b'"') => {
                evidence.structured = true;
                let (value, _) = string(text, 0);
                evidence.add("message", &value, 0);
            }
            Some(_) => evidence.read_text("message", text, 0),
            None => {}
        }
        evidence
    }

    /// Adds a name that was told outside the body.
    pub(super) fn add_name(&mut self, field: &str, value: &str) {
        self.names.push((field.into(), normalised(value).into()));
    }

    /// Whether a name is among those told.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|(_, value)| **value == *name)
    }

    /// Reads text that may hold JSON: the objects as such, and what stands around them as words.
    fn read_text(&mut self, field: &str, text: &str, depth: usize) {
        let mut from = 0;
        while let Some(begin) = next_object(text, from) {
            self.words_of(field, &text[from..begin]);
            if depth == 0 {
                self.structured = true;
            }
            from = self.read_object(text, begin, depth);
            if self.is_full() {
                return;
            }
        }
        self.words_of(field, &text[from..]);
    }

    /// Reads one object or list from its bracket on; returns the place after it.
    fn read_object(&mut self, text: &str, begin: usize, depth: usize) -> usize {
        let bytes = text.as_bytes();
        let mut place = begin;
        let mut open = 0_usize;
        let mut field = String::new();
        while place < bytes.len() && !self.is_full() {
            match bytes[place] {
                b'{' | b'[' => {
                    open += 1;
                    place += 1;
                }
                b'}' | b']' => {
                    open = open.saturating_sub(1);
                    place += 1;
                    if open == 0 {
                        return place;
                    }
                }
                b'"' | b'\'' => {
                    let (value, end) = string(text, place);
                    place = end;
                    if bytes[place..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':') {
                        field = normalised(&value);
                        while bytes[place] != b':' {
                            place += 1;
                        }
                        place += 1;
                    } else {
                        self.add(&field, &value, depth);
                    }
                }
                byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'<' | b'.') => {
                    let end = place + bytes[place..].iter().take_while(|byte| is_bare(**byte)).count();
                    let end = end.max(place + 1);
                    let value = &text[place..end];
                    place = end;
                    // Python's spelling of bytes: `b'{...}'`.
                    let prefix = matches!(value, "b" | "u" | "r") && matches!(bytes.get(place), Some(b'\'' | b'"'));
                    if !prefix {
                        self.add(&field, value, depth);
                    }
                }
                _ => place += 1,
            }
        }
        // A place inside a letter of several bytes is none that a slice may begin at.
        (place..=text.len()).find(|place| text.is_char_boundary(*place)).unwrap_or(text.len())
    }

    /// Sorts one scalar.
    fn add(&mut self, field: &str, value: &str, depth: usize) {
        self.scalars += 1;
        if field == "flaggedinput" {
            self.add_name("field", field);
        }
        if ECHOES.contains(&field) || matches!(value, "null" | "None" | "true" | "false" | "True" | "False" | "<nil>" | "") {
            return;
        }
        if super::waits::is_time(field) {
            self.times.push((field.into(), cut(value).into()));
        }
        if NAMES.contains(&field) && value.len() <= MAX_NAME && !value.contains(char::is_whitespace) {
            if matches!(field, "type" | "errortype") && value != "error" {
                value.clone_into(&mut self.kind);
            }
            self.names.push((field.into(), normalised(value).into()));
        }
        if value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return;
        }
        if depth < MAX_WRAPPERS && next_object(value, 0).is_some() {
            self.read_text(field, value, depth + 1);
        } else {
            self.words_of(field, value);
        }
    }

    fn words_of(&mut self, field: &str, text: &str) {
        let text = cut(text.trim());
        if text.is_empty() || field == "type" && text == "error" || self.size >= MAX_WORDS {
            return;
        }
        self.size += text.len();
        self.words.push(text.to_owned());
    }

    fn is_full(&self) -> bool {
        self.scalars >= MAX_SCALARS
    }
}

/// Where the next object or list of objects or strings begins.
fn next_object(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let first = |after: usize| bytes.get(after..)?.iter().find(|byte| !byte.is_ascii_whitespace());
    (from..bytes.len()).find(|place| match bytes[*place] {
        b'{' => matches!(first(place + 1), Some(b'"' | b'\'' | b'}')),
        b'[' => matches!(first(place + 1), Some(b'{')),
        _ => false,
    })
}

fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_' | b'<' | b'>')
}

/// A quoted string from its first quote on, and the place after its last; up to the end where it has none.
fn string(text: &str, begin: usize) -> (String, usize) {
    let quote = char::from(text.as_bytes()[begin]);
    let mut value = String::new();
    let mut rest = text[begin + 1..].char_indices();
    while let Some((place, letter)) = rest.next() {
        match letter {
            letter if letter == quote => return (value, begin + 1 + place + 1),
            '\\' => match rest.next() {
                Some((_, 'n' | 'r' | 't')) => value.push(' '),
                Some((_, 'u')) => value.extend(escaped(&mut rest, 4)),
                Some((_, 'x')) => value.extend(escaped(&mut rest, 2)),
                Some((_, letter)) => value.push(letter),
                None => break,
            },
            letter => value.push(letter),
        }
    }
    (value, text.len())
}

/// The letter that some hexadecimal digits stand for; `None` for half of a pair.
fn escaped(rest: &mut std::str::CharIndices<'_>, digits: usize) -> Option<char> {
    let text: String = rest.clone().take(digits).map(|(_, letter)| letter).collect();
    let number = u32::from_str_radix(&text, 16).ok()?;
    rest.nth(digits - 1);
    char::from_u32(number)
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_STRING.min(text.len()))]
}

/// A name without case, separators and what stands before `#`: `com.amazon#ThrottlingException` is `throttlingexception`.
pub(super) fn normalised(name: &str) -> String {
    let name = name.rsplit('#').next().unwrap_or(name);
    name.chars().filter(|letter| letter.is_alphanumeric()).take(MAX_NAME).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(body: &str) -> Vec<String> {
        Evidence::of_body(body.as_bytes()).names.iter().map(|(_, value)| value.to_string()).collect()
    }

    #[test]
    fn name_is_found_wherever_it_stands() {
        for body in [
            r#"{"error":{"code":"insufficient_quota"}}"#,
            r#"[{"error":{"code":"insufficient_quota"}}]"#,
            r#"{"code":"insufficient_quota","message":"x"}"#,
            r#"{"error":"insufficient_quota"}"#,
            r#"{"error":{"details":[{"reason":"INSUFFICIENT_QUOTA"}]}}"#,
            r#"{"error":{"message":"{\"error\":{\"code\":\"insufficient_quota\"}}"}}"#,
            r#"{"error":{"message":"from upstream: {\"error\":{\"message\":\"{\\\"code\\\":\\\"insufficient_quota\\\"}\"}}"}}"#,
            r#"{"detail":"Error code: 429 - {'error': {'code': 'insufficient_quota', 'param': None}}"}"#,
            r#"{"detail":"b'{\"code\":\"insufficient_quota\"}'"}"#,
            "event: error\ndata: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n",
            r#"{"error":{"code":"insufficient_quota","message":"the end is mis"#,
        ] {
            assert!(names(body).contains(&"insufficientquota".to_owned()), "{body}");
        }
    }

    #[test]
    fn echo_of_the_request_is_no_word() {
        let body = r#"{"error":{"code":"tool_use_failed","failed_generation":"the credit balance is too low"}}"#;
        assert!(Evidence::of_body(body.as_bytes()).words.iter().all(|words| !words.contains("balance")));
    }

    #[test]
    fn apostrophe_in_a_sentence_opens_no_string() {
        let evidence = Evidence::of_body(b"You've reached the limit, that's it");
        assert_eq!(evidence.words, ["You've reached the limit, that's it"]);
        assert!(!evidence.structured);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![any::<u32>().prop_map(Into::into), "[a-z ☃\"\\\\']{1,20}".prop_map(|text| format!("w{text}").into())];
        leaf.prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("[a-c]{1,3}", inner, 0..4).prop_map(|map| serde_json::json!(map)),
            ]
        })
    }

    fn texts(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => into.push(text.trim().to_owned()),
            serde_json::Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
            serde_json::Value::Object(fields) => fields.values().for_each(|item| texts(item, into)),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn every_string_of_valid_json_is_found(value in json()) {
            let value = serde_json::json!({ "error": value });
            let evidence = Evidence::of_body(value.to_string().as_bytes());
            let mut expected = Vec::new();
            texts(&value, &mut expected);
            prop_assert_eq!(evidence.words, expected);
        }

        #[test]
        fn any_bytes_are_read_within_the_bounds(body in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let evidence = Evidence::of_body(&body);
            prop_assert!(evidence.words.iter().map(String::len).sum::<usize>() <= MAX_WORDS + MAX_STRING);
        }

        #[test]
        fn any_brackets_and_quotes_are_read(body in "[\\[\\]{}:,\"'\\\\ubx0-9a ☃]{0,400}") {
            let evidence = Evidence::of_body(body.as_bytes());
            prop_assert!(evidence.names.len() <= 2 * MAX_SCALARS);
        }
    }

    #[test]
    fn endless_body_is_read_up_to_its_bounds() {
        let body = format!("{}{}", r#"{"a":["#, r#""x","#.repeat(400_000));
        let evidence = Evidence::of_body(body.as_bytes());
        assert!(evidence.words.len() <= MAX_SCALARS);
        let deep = "{\"a\":".repeat(100_000);
        assert!(Evidence::of_body(deep.as_bytes()).words.len() <= 1, "the last is cut");
    }
}
