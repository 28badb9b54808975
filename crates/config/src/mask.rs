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
    "slow_service",
    "mid_stream",
    "failback",
    "after_good",
    "min_stay",
    "at",
    "hedge",
    "clocks",
    "connect",
    "tls",
    "head",
    "first_content",
    "bytes_idle",
    "content_idle",
    "platform",
    "preset",
    "keychain",
    "claude_config_dir",
    "renew",
    "timeout",
    "ttl",
    "base_url",
    "allow_http",
    "models",
    "supports",
    "context",
    "thinking",
    "images",
    "tools",
    "budget",
    "per_day_usd",
    "per_session_usd",
    "file",
    "env",
    "command",
    "header",
    "server",
    "listen",
    "max_body",
    "max_connections",
    "mode",
    "children",
    "notify",
    "desktop",
    "terminal",
    "quiet",
    "log",
    "retain",
    "bodies",
    "failover_policy",
    "locked",
    "project",
    "hooks",
    "matcher",
    "type",
    "url",
];

/// Words of the format itself, and those that people take for them: harmless wherever they stand, like the keys above.
const HARMLESS_WORDS: &[&str] = &[
    "",
    "never",
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
    "openrouter",
    "none",
    "x-api-key",
    "bearer",
    "wait",
    "fail",
    "hold",
    "auto",
    "cut",
    "http",
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
    let mut masker = Masker::new(text);
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

/// Goes through the text once, with a rough idea of where it is. Where the text is broken the idea may be wrong; then it errs
/// towards masking.
struct Masker<'t> {
    text: &'t str,
    out: Vec<u8>,
    at: usize,
    /// The key that the next value belongs to; empty when there is none.
    key: &'t str,
    /// A colon came, a value must follow.
    after_colon: bool,
    /// What is open around, each with the key it stands under.
    outer: Vec<(Open, &'t str)>,
    unclosed_string: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Object,
    List,
}

impl<'t> Masker<'t> {
    fn new(text: &'t str) -> Self {
        let out = text.as_bytes().to_vec();
        Self { text, out, at: 0, key: "", after_colon: false, outer: Vec::new(), unclosed_string: None }
    }

    fn step(&mut self) {
        let rest = &self.text[self.at..];
        match rest.as_bytes()[0] {
            b'"' => self.string(rest),
            b'/' if comment_length(rest).is_some() => self.comment(rest),
            byte if byte.is_ascii_whitespace() => self.at += 1,
            byte if b"{}[],:".contains(&byte) => self.punctuation(byte),
            _ => self.bare(rest),
        }
    }

    fn punctuation(&mut self, byte: u8) {
        self.at += 1;
        match byte {
            b'{' => self.outer.push((Open::Object, std::mem::take(&mut self.key))),
            b'[' => self.outer.push((Open::List, self.key)),
            b'}' | b']' => {
                self.outer.pop();
                self.value_done();
            }
            b',' => self.value_done(),
            _ => {}
        }
        self.after_colon = byte == b':';
    }

    /// In a list the next value belongs to the list's key, elsewhere to no key that has come yet.
    fn value_done(&mut self) {
        self.after_colon = false;
        self.key = match self.outer.last() {
            // The program is shown, its arguments are not.
            Some((Open::List, "command") | (Open::Object, _)) | None => "",
            Some((Open::List, key)) => key,
        };
    }

    /// From a quote to the closing one, or to the line's end where there is none.
    fn string(&mut self, rest: &'t str) {
        let (content, length) = quoted(rest);
        let is_closed = length == content.len() + 2;
        if !is_closed {
            self.unclosed_string = self.unclosed_string.or(Some(self.at));
        }
        let start = self.at + 1;
        self.at += length;
        if !self.after_colon && is_followed_by_colon(&self.text[self.at..]) {
            self.key = content.strip_prefix('+').unwrap_or(content);
            // A list has no keys: this may as well be a value with a stray colon.
            let in_list = matches!(self.outer.last(), Some((Open::List, _)));
            if looks_like_credential(content) || in_list && !is_format_word(content) {
                self.cover(start, content.len());
            }
            return;
        }
        let shown = match self.key {
            _ if !self.may_show(content) => 0,
            "base_url" | "url" if is_closed => plain_start(content),
            _ if is_closed => content.len(),
            // Whatever else stands on the line may be anything.
            _ => content.find(|c: char| !(c.is_ascii_alphanumeric() || "._-*".contains(c))).unwrap_or(content.len()),
        };
        self.cover(start + shown, content.len() - shown);
        self.value_done();
    }

    /// A run without quotes: a number, a word, or what a missing quote laid bare.
    fn bare(&mut self, rest: &str) {
        let run = &rest[..rest.find(|c: char| c.is_ascii_whitespace() || "{}[],:\"".contains(c)).unwrap_or(rest.len())];
        let comment = run.match_indices('/').map(|(at, _)| at).find(|at| *at > 0 && comment_length(&rest[*at..]).is_some());
        let word = &run[..comment.unwrap_or(run.len())];
        let number = word.len() <= LONGEST_NUMBER && word.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eExX".contains(&byte));
        if !(is_format_word(word.trim_matches('\'')) || number && HARMLESS_KEYS.contains(&self.key)) {
            self.cover(self.at, word.len());
        }
        self.at += word.len();
        self.value_done();
    }

    fn may_show(&self, value: &str) -> bool {
        let in_model_map = matches!(self.outer.last(), Some((Open::Object, "models")));
        let harmless = match self.key {
            "env" => is_env_name(value) && !value.contains(|c: char| c.is_ascii_lowercase()),
            "" | "value" | "auth" => false,
            key => in_model_map || HARMLESS_KEYS.contains(&key),
        };
        (harmless || is_format_word(value)) && !looks_like_credential(value)
    }

    fn cover(&mut self, start: usize, length: usize) {
        self.out[start..start + length].fill(b'*');
    }

    /// A comment keeps its marks and its line ends, so that lines keep their numbers.
    fn comment(&mut self, rest: &str) {
        let length = comment_length(rest).expect("the caller looked");
        if rest[..length].contains('"') {
            // A slip may have made a comment of keys and values, and what follows it belongs to one of those.
            self.key = "";
        }
        let comment = &mut self.out[self.at..self.at + length];
        let is_closed = length >= 4 && comment.starts_with(b"/*") && comment.ends_with(b"*/");
        let end = if is_closed { length - 2 } else { length };
        for byte in comment[2..end].iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
        self.at += length;
    }
}

/// The length of the comment that the text starts with, if it does.
fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let inside = rest.strip_prefix("/*")?;
    Some(inside.find("*/").map_or(rest.len(), |end| end + 4))
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

/// How much of an address may be shown: all of it, or the scheme where it may hold a user, a password or a key in the query.
fn plain_start(url: &str) -> usize {
    let scheme = url.find("://").map_or(0, |at| at + 3);
    let authority = url[scheme..].split('/').next().unwrap_or_default();
    let after_brackets = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(authority, |(_, rest)| rest);
    let port = after_brackets.split_once(':').map_or("", |(_, port)| port);
    if url.contains(['@', '?', '#']) || !port.bytes().all(|byte| byte.is_ascii_digit()) { scheme } else { url.len() }
}

fn is_format_word(word: &str) -> bool {
    HARMLESS_WORDS.contains(&word) || HARMLESS_KEYS.contains(&word)
}

fn is_followed_by_colon(rest: &str) -> bool {
    let mut rest = rest.trim_start();
    while let Some(length) = comment_length(rest) {
        rest = rest[length..].trim_start();
    }
    rest.starts_with(':')
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
        check(r#"{ "header": "bearer" "value" "hunter2" }"#, r#"{ "header": "bearer" "value" "*******" }"#);
        check(r#"{ "header": "bearer", "value" /**/ : "hunter2" }"#, r#"{ "header": "bearer", "value" /**/ : "*******" }"#);
        check(r#"{ "value": "hunter2" : "bearer" }"#, r#"{ "value": "*******" : "bearer" }"#);
        check("{ \"value\": \"hun\nter2\", \"enabled\": 1 }", "{ \"value\": \"***\n****\"**\"enabled\"*****");
        check(r#"{ "value": 'hunter2' }"#, r#"{ "value": ********* }"#);
        check("é\u{2028}/", "******");
        check("/*/ hunter2", "/*         ");
    }

    /// Every way to mistype one place of a file with a credential, but in the credential itself.
    #[test]
    fn no_typo_lays_a_credential_bare() {
        const SECRET: &str = "Tr0ub4dor";
        const PUTS: [&str; 16] = ["", "{", "}", "[", "]", ",", ":", "\"", "'", "//", "/*", "*/", "a", "0", " ", "\n"];
        for text in [
            r#"{ "profiles": { "a": {}, "b": { "auth": { "value": "Tr0ub4dor", "header": "bearer" } } } }"#,
            r#"{ "profiles": { "b": { "models": { "x": "y" }, "auth": { "header": "bearer", "value": "Tr0ub4dor" } } } }"#,
            r#"{ "triggers": ["5xx", 429], "auth": { "value" /* key */ : "Tr0ub4dor" }, "base_url": "https://h" }"#,
            r#"{ "base_url": "https://me:Tr0ub4dor@h", "auth": "Tr0ub4dor", "command": ["p", "Tr0ub4dor"], "models": {} }"#,
            r#"{ "enabled": true, "api_key": "Tr0ub4dor", /* Tr0ub4dor */ "model": "m" } // Tr0ub4dor"#,
        ] {
            let spots: Vec<usize> = text.match_indices(SECRET).map(|(at, _)| at).collect();
            let in_secret = |at: usize| spots.iter().any(|spot| (spot + 1..spot + SECRET.len()).contains(&at));
            for at in (0..=text.len()).filter(|at| !in_secret(*at)) {
                for (put, cut) in PUTS.iter().flat_map(|put| [(put, 0), (put, 1)]) {
                    let end = (at + cut).min(text.len());
                    if end > at && in_secret(end) {
                        continue;
                    }
                    let typo = format!("{}{put}{}", &text[..at], &text[end..]);
                    let masked = mask(&typo).text;
                    assert!(!masked.contains(SECRET), "{typo}\n{masked}");
                }
            }
        }
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
