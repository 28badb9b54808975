//! Decides which parts of a configuration file a diagnostic may show, and masks the rest. Never parses: it works on broken files too.
//!
//! A diagnostic draws the line where the fault is, and a credential may stand on that line, on purpose (`"value"`) or by mistake (in
//! `"env"`, in `"auth"`, under a key that does not exist). So the rule is the careful one: a value is shown only where the format has
//! a key for something harmless and it does not look like a credential. Comments are emptied: they may hold yesterday's key.

/// Keys whose values are names, numbers, words or addresses.
const HARMLESS_KEYS: &[&str] = &[
    "$schema",
    "enabled",
    "primary_profile",
    "secondary_profile",
    "triggers",
    "max_failover_attempts",
    "chains",
    "match",
    "model",
    "profiles",
    "profile",
    "on_exhausted",
    "mid_stream",
    "clocks",
    "connect",
    "tls",
    "head",
    "first_content",
    "bytes_idle",
    "content_idle",
    "platform",
    "base_url",
    "allow_http",
    "models",
    "file",
    "env",
    "command",
    "header",
    "server",
    "listen",
    "max_body",
    "max_connections",
    "mode",
    "failover_policy",
];

/// Words of the format itself, and those that people take for them: harmless wherever they stand, like the keys above.
const HARMLESS_WORDS: &[&str] = &[
    "",
    "auth",
    "value",
    "yes",
    "no",
    "on",
    "off",
    "true",
    "false",
    "null",
    "client",
    "anthropic",
    "anthropic_compatible",
    "x-api-key",
    "bearer",
    "wait",
    "fail",
    "hold",
    "auto",
    "cut",
];

/// How credentials of well-known issuers begin, and ours.
const CREDENTIAL_STARTS: &[&str] = &["sk-", "sk_", "hs-", "eyj", "ghp_", "gho_", "github_pat_", "akia", "asia", "aiza", "xox", "bearer "];

/// From this length on, letters mixed with digits and nothing else are taken for a credential.
const CREDENTIAL_LENGTH: usize = 24;

/// Longest number that is shown, in characters.
const LONGEST_NUMBER: usize = 12;

/// A text that may be shown.
pub(crate) struct Masked {
    /// All that could be a credential is replaced by `*`, and comments are emptied; every byte keeps its place.
    pub(crate) text: String,
    /// Where the first string opens that its line does not close.
    pub(crate) unclosed_string: Option<usize>,
}

/// Masks a whole file's text.
pub(crate) fn mask(text: &str) -> Masked {
    let mut masker = Masker { text, out: text.as_bytes().to_vec(), at: 0, key: "", outer: Vec::new(), unclosed_string: None };
    while masker.at < text.len() {
        masker.step();
    }
    let text = String::from_utf8(masker.out).expect("only whole characters are replaced, by ASCII");
    Masked { text: without_controls(text), unclosed_string: masker.unclosed_string }
}

/// A terminal obeys control characters, and reordering marks make text read as what it is not.
fn without_controls(text: String) -> String {
    let harmful =
        |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(harmful) {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) { clean.extend(std::iter::repeat_n('?', c.len_utf8())) } else { clean.push(c) }
    }
    clean
}

struct Masker<'t> {
    text: &'t str,
    out: Vec<u8>,
    at: usize,
    /// The key that the next value belongs to, as far as can be told.
    key: &'t str,
    /// The keys of the objects around.
    outer: Vec<&'t str>,
    unclosed_string: Option<usize>,
}

impl<'t> Masker<'t> {
    fn step(&mut self) {
        let rest = &self.text[self.at..];
        let bytes = rest.as_bytes();
        match bytes[0] {
            b'{' => {
                self.outer.push(std::mem::take(&mut self.key));
                self.at += 1;
            }
            b'}' => {
                self.key = self.outer.pop().unwrap_or_default();
                self.at += 1;
            }
            b'"' => self.string(rest),
            b'/' if rest.starts_with("//") => self.blank(rest.find('\n').unwrap_or(rest.len())),
            b'/' if rest.starts_with("/*") => self.blank(rest.find("*/").map_or(rest.len(), |end| end + 2)),
            byte if byte.is_ascii_whitespace() || b"[],:".contains(&byte) => self.at += 1,
            _ => self.bare(rest),
        }
    }

    /// From a quote to the closing one, or to the line's end where there is none.
    fn string(&mut self, rest: &'t str) {
        let (content, length) = quoted(rest);
        if length < content.len() + 2 {
            self.unclosed_string = self.unclosed_string.or(Some(self.at));
        }
        let start = self.at + 1;
        self.at += length;
        if is_followed_by_colon(&self.text[self.at..]) {
            self.key = content;
            if looks_like_credential(content) {
                self.cover(start, content.len());
            }
        } else if self.key == "base_url" && content.contains(['@', '?', '#']) {
            // A user, a password or a key in the query; the scheme alone stays.
            let shown = content.find("://").map_or(0, |at| at + 3);
            self.cover(start + shown, content.len() - shown);
        } else if !self.may_show(content) {
            self.cover(start, content.len());
        }
        if self.key == "command" && content != "command" {
            // The program is shown, its arguments are not.
            self.key = "";
        }
    }

    /// A run without quotes: a number, a word, or what a missing quote laid bare.
    fn bare(&mut self, rest: &str) {
        let mut length = rest.find(|c: char| c.is_ascii_whitespace() || "{}[],:\"".contains(c)).unwrap_or(rest.len());
        length = ["//", "/*"].iter().filter_map(|mark| rest.find(mark)).chain([length]).min().unwrap_or(length).max(1);
        while !rest.is_char_boundary(length) {
            length += 1;
        }
        let word = &rest[..length];
        let number = length <= LONGEST_NUMBER && word.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eExX".contains(&byte));
        if !(is_format_word(word.trim_matches('\'')) || number && HARMLESS_KEYS.contains(&self.key)) {
            self.cover(self.at, length);
        }
        self.at += length;
    }

    fn may_show(&self, value: &str) -> bool {
        if looks_like_credential(value) {
            return false;
        }
        let in_model_map = self.outer.last() == Some(&"models");
        match self.key {
            "env" => is_env_name(value),
            key => HARMLESS_KEYS.contains(&key) || in_model_map || is_format_word(value),
        }
    }

    fn cover(&mut self, start: usize, length: usize) {
        self.out[start..start + length].fill(b'*');
    }

    /// A comment keeps its marks and its line ends, so that lines keep their numbers.
    fn blank(&mut self, length: usize) {
        let comment = &mut self.out[self.at..self.at + length];
        let is_closed = length >= 4 && comment.ends_with(b"*/");
        let end = if is_closed { length - 2 } else { length };
        for byte in comment[2..end].iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
        self.at += length;
    }
}

/// A string's content and its length with the quotes.
fn quoted(rest: &str) -> (&str, usize) {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\n' | '\r' => return (&rest[1..at], at),
            '"' if !escaped => return (&rest[1..at], at + 1),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    (&rest[1..], rest.len())
}

fn is_format_word(word: &str) -> bool {
    HARMLESS_WORDS.contains(&word) || HARMLESS_KEYS.contains(&word)
}

fn is_followed_by_colon(rest: &str) -> bool {
    rest.trim_start().starts_with(':')
}

fn looks_like_credential(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    CREDENTIAL_STARTS.iter().any(|start| lower.starts_with(start))
        || lower.contains("sk-ant")
        || lower.contains("bearer ")
        || text.split(|c: char| !(c.is_ascii_alphanumeric() || "+=".contains(c))).any(is_random_run)
}

fn is_random_run(run: &str) -> bool {
    run.len() >= CREDENTIAL_LENGTH && run.bytes().any(|byte| byte.is_ascii_digit()) && run.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Whether the text can name an environment variable: letters, digits and `_`, not first a digit.
pub(crate) fn is_env_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let masked = mask(text).text;
        assert_eq!(masked, expect);
        assert_eq!(masked.len(), text.len());
    }

    #[test]
    fn names_and_numbers_stay() {
        let text = r#"{ "failover_policy": { "primary_profile": "work", "triggers": [500, "5xx"], "enabled": true } }"#;
        check(text, text);
        let text = r#"{ "models": { "claude-*": "glm-5", "x": null }, "chains": [{ "match": { "model": "a*" } }] }"#;
        check(text, text);
        let text = r#"{ "auth": { "env": "KEY_2" }, "platform": "nonsense" }"#;
        check(text, text);
    }

    #[test]
    fn credentials_go_wherever_they_stand() {
        check(r#"{ "auth": { "value": "hunter2" } }"#, r#"{ "auth": { "value": "*******" } }"#);
        check(r#"{ "auth": "hunter2" }"#, r#"{ "auth": "*******" }"#);
        check(r#"{ "auth": { "env": "sk-ant-test" } }"#, r#"{ "auth": { "env": "***********" } }"#);
        check(r#"{ "api_key": "hunter2", "n": 12 }"#, r#"{ "api_key": "*******", "n": ** }"#);
        check(r#"{ "primary_profile": "sk-ant-test" }"#, r#"{ "primary_profile": "***********" }"#);
        check(r#"{ "command": ["pass", "show", "it"] }"#, r#"{ "command": ["pass", "****", "**"] }"#);
        check(r#"{ "base_url": "https://me:pw@host/x?k=1" }"#, r#"{ "base_url": "https://****************" }"#);
        check(r#"{ "sk-ant-test": 1 }"#, r#"{ "***********": * }"#);
        check(r#"{ "model": "a1b2c3d4e5f6g7h8i9j0k1l2" }"#, r#"{ "model": "************************" }"#);
        check("{} // old: hunter2\n[]", "{} //             \n[]");
        check("{} /* hunter2\nhunter3 */ []", "{} /*        \n        */ []");
        check("{} /* hunter2", "{} /*        ");
    }

    #[test]
    fn broken_text_hides_no_worse() {
        check(r#"{ "value": "hunter2"#, r#"{ "value": "*******"#);
        check(r#"{ "value": hunter2 }"#, r#"{ "value": ******* }"#);
        check(r#"{ "auth" { "value" "hunter2" } }"#, r#"{ "auth" { "value" "*******" } }"#);
        check(r#"{ value": "hunter2" }"#, r#"{ value"**"*******"**"#);
        check(r#"{ "header": "bearer, "value": "hunter2" }"#, r#"{ "header": "bearer, "value": "*******" }"#);
        check("{ \"value\": \"hun\nter2\" }", "{ \"value\": \"***\n****\"**");
        check(r#"{ "value": 'hunter2' }"#, r#"{ "value": ********* }"#);
        check("é\u{2028}/", "******");
    }

    #[test]
    fn an_unclosed_string_is_found() {
        assert_eq!(mask("{ \"a\": \"b\\\"\", // \"\n \"c").unclosed_string, Some(20));
        assert_eq!(mask("{ \"a\": \"b\" }").unclosed_string, None);
    }

    #[test]
    fn environment_names_are_told_from_keys() {
        assert!(is_env_name("OPENROUTER_API_KEY") && is_env_name("_x1"));
        assert!(!is_env_name("") && !is_env_name("1x") && !is_env_name("a-b") && !is_env_name("ä"));
    }
}
