//! The one shape that every reader fills: an entry of another tool's file, usable or with the reason why not.

use std::fmt;
use std::path::{Path, PathBuf};

use hotspare_config::digest;
use hotspare_core::models::without_long_context;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

pub(super) const ANTHROPIC: &str = "https://api.anthropic.com";

pub(super) const OPENROUTER: &str = "https://openrouter.ai/api";

/// The header in which the tools send a key to an endpoint in Anthropic's format, where nothing else is said.
pub(super) const API_KEY: &str = "x-api-key";

/// Longest name of an entry that is shown, in characters.
const MAX_NAME: usize = 60;

/// Longest credential; the keychain takes no longer one.
const MAX_KEY: usize = 16 * 1024;

/// One entry of a source.
pub(super) struct Entry {
    /// Its name there, as a person wrote it.
    pub name: String,
    /// The file or folder it stands in.
    pub from: PathBuf,
    /// What it is, or why no profile can be made of it.
    pub content: Result<Provider, String>,
}

/// An endpoint with its credential, as another tool knows it.
pub(super) struct Provider {
    /// Where requests go, without `/v1/messages`.
    pub address: String,
    /// The credential.
    pub key: Key,
    /// The header the credential goes in, where it is not the platform's own.
    pub header: Option<&'static str>,
    /// Patterns of the client's names and the provider's name for each; `None` refuses the model.
    pub models: Vec<(String, Option<String>)>,
    /// Whether its tool uses it now.
    pub state: State,
    /// What of the entry does not come along, or what is different from there.
    pub notes: Vec<String>,
}

/// Where a credential is.
#[derive(Clone)]
pub(super) enum Key {
    /// A profile can point at it (`auth`).
    Reference(Value),
    /// It stands in the file itself, among other things.
    Literal(SecretString),
}

/// Whether a tool uses an entry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It is used.
    Enabled,
    /// It is kept and not used, for this reason.
    Resting(String),
}

/// A format or service that hotspare does not speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    OpenAiChat,
    OpenAiResponses,
    Gemini,
    Bedrock,
    Vertex,
    Foundry,
    ClaudeOnAws,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FORMAT: &str = "hotspare speaks Anthropic's alone and translates nothing";
        const CLOUD: &str = "hotspare cannot sign in there; a gateway in front of it can be a profile";
        match self {
            Self::OpenAiChat => write!(f, "speaks OpenAI's Chat Completions format: {FORMAT}"),
            Self::OpenAiResponses => write!(f, "speaks OpenAI's Responses format: {FORMAT}"),
            Self::Gemini => write!(f, "speaks Google's Gemini format: {FORMAT}"),
            Self::Bedrock => write!(f, "is Claude on Amazon Bedrock: {CLOUD}"),
            Self::Vertex => write!(f, "is Claude on Google Vertex AI: {CLOUD}"),
            Self::Foundry => write!(f, "is Claude on Microsoft Foundry: {CLOUD}"),
            Self::ClaudeOnAws => write!(f, "is Claude Platform on AWS: {CLOUD}"),
        }
    }
}

impl From<Foreign> for String {
    fn from(foreign: Foreign) -> Self {
        foreign.to_string()
    }
}

/// The identity of a credential without its text: its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct KeyId(String);

impl KeyId {
    pub(super) fn of(secret: &SecretString) -> Self {
        Self(digest(secret.expose_secret().trim().as_bytes()))
    }
}

impl Provider {
    /// An enabled provider without models of its own.
    pub(super) fn new(address: &str, key: Key) -> Self {
        Self { address: address.trim().to_owned(), key, header: None, models: Vec::new(), state: State::Enabled, notes: Vec::new() }
    }

    /// The login or key that Claude Code keeps in a folder.
    pub(super) fn folder(folder: &Path) -> Self {
        Self::new(ANTHROPIC, Key::Reference(json!({ "claude_config_dir": folder.display().to_string() })))
    }

    pub(super) fn with_header(mut self, header: Option<&'static str>) -> Self {
        self.header = header;
        self
    }

    pub(super) fn with_state(mut self, state: State) -> Self {
        self.state = state;
        self
    }

    /// Takes a model map over as a profile can have it: the client strips `[1m]` before it sends a name, the first entry for a name counts,
    /// and narrow patterns stand before wide ones. What cannot be said is noted.
    pub(super) fn with_models(mut self, models: impl IntoIterator<Item = (String, String)>) -> Self {
        for (pattern, target) in models {
            let (pattern, target) = (bare(&pattern), bare(&target));
            if target.is_empty() || pattern.is_empty() || pattern == target {
                continue;
            }
            if let Some(wrong) = [pattern, target].into_iter().find(|name| !is_model(name)) {
                self.notes.push(format!("`{}` is left out: no request can carry a model's name with blanks or accents", shown(wrong)));
                continue;
            }
            match self.models.iter().find(|(known, _)| known == pattern) {
                Some((_, known)) if known.as_deref() != Some(target) => {
                    self.notes.push(format!(
                        "`{}` is `{}`; a second model for it, `{}`, is left out",
                        shown(pattern),
                        known.as_deref().unwrap_or("refused"),
                        shown(target)
                    ));
                }
                Some(_) => {}
                None => self.models.push((pattern.to_owned(), Some(target.to_owned()))),
            }
        }
        let width = |pattern: &str| if pattern.contains('*') { usize::MAX - pattern.len() } else { 0 };
        self.models.sort_by_key(|(pattern, _)| width(pattern));
        self
    }

    /// Refuses the models of Claude that the tool itself does not send there.
    pub(super) fn without_other_claude_models(mut self) -> Self {
        if !self.models.iter().any(|(pattern, _)| matches!(pattern.as_str(), "*" | "claude-*")) {
            self.models.push(("claude-*".to_owned(), None));
        }
        self
    }
}

/// A model's name as it travels: without blanks around it and without the client's `[1m]`.
pub(super) fn bare(model: &str) -> &str {
    let model = model.trim();
    without_long_context(model).unwrap_or(model).trim()
}

/// Whether it can be a model's name in a configuration.
fn is_model(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a name is one of Claude's, as Anthropic or a gateway spells it.
pub(super) fn is_claude(model: &str) -> bool {
    bare(model).to_ascii_lowercase().contains("claude")
}

/// A text of a source as it may be shown: bounded, on one line, without control characters.
pub(super) fn shown(text: &str) -> String {
    let text: String = text.trim().chars().map(|char| if is_odd(char) { '?' } else { char }).collect();
    match text.char_indices().nth(MAX_NAME) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Control characters, and those that turn the direction of a line around or cannot be seen.
pub(super) fn is_odd(char: char) -> bool {
    char.is_control() || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

pub(super) fn is_anthropic(url: &str) -> bool {
    let url = url.trim().trim_end_matches('/');
    url.strip_suffix("/v1").unwrap_or(url).eq_ignore_ascii_case(ANTHROPIC)
}

pub(super) fn is_openrouter(url: &str) -> bool {
    let rest = url.trim().strip_prefix("https://openrouter.ai");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where a provider answers in Anthropic's format, by the name that other tools give it.
pub(super) fn address(provider: &str) -> Option<&'static str> {
    Some(match provider {
        "anthropic" => ANTHROPIC,
        "openrouter" => OPENROUTER,
        "deepseek" => "https://api.deepseek.com/anthropic",
        "minimax" => "https://api.minimax.io/anthropic",
        "moonshot" => "https://api.moonshot.ai/anthropic",
        "zai" => "https://api.z.ai/api/anthropic",
        _ => return None,
    })
}

/// The host of an address.
pub(super) fn host(url: &str) -> &str {
    let rest = url.split("://").last().unwrap_or(url);
    rest.split(['/', '?', '#']).next().and_then(|authority| authority.rsplit('@').next()).unwrap_or(rest).split(':').next().unwrap_or(rest)
}

/// The name of the variable that `$NAME`, `${NAME}` or `os.environ/NAME` stands for.
pub(super) fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix("os.environ/").or_else(|| {
        let name = text.strip_prefix('$')?;
        if name.starts_with('{') { name.strip_prefix('{')?.strip_suffix('}') } else { Some(name) }
    })?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.starts_with(|c: char| c.is_ascii_digit());
    (is_name && !name.is_empty()).then_some(name)
}

/// A key as a tool's file has it: a variable, or the key itself.
///
/// # Errors
///
/// The reason why it is not a key.
pub(super) fn key(text: &str) -> Result<Key, String> {
    match variable(text.trim()) {
        Some(name) => Ok(Key::Reference(json!({ "env": name }))),
        None => literal(text),
    }
}

/// A key that stands in a file.
///
/// # Errors
///
/// The reason why it is not a key.
pub(super) fn literal(text: &str) -> Result<Key, String> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if text.is_empty() {
        return Err("has an address and no key".to_owned());
    }
    if text.len() > MAX_KEY || text.chars().any(|char| char.is_control() || char.is_whitespace()) || !text.is_ascii() {
        return Err("has a key that no header can hold: it has blanks, line ends or letters beyond ASCII".to_owned());
    }
    let is_stand_in =
        text.starts_with('<') || text.contains("${") || text.contains("{{") || lower.contains("your-") || lower.contains("your_");
    if is_stand_in || lower.trim_start_matches("sk-").trim_start_matches("ant-").bytes().all(|byte| b"x*.".contains(&byte)) {
        return Err("has a stand-in where its key should be: nothing was filled in there".to_owned());
    }
    Ok(Key::Literal(SecretString::from(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_taken_over_as_the_client_sends_them() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let models = [
            pair("claude-*", " glm-5[1m] "),
            pair("claude-opus-*", "glm-5[1M]"),
            pair("claude-opus-4-5[1m]", "a"),
            pair("claude-opus-4-5", "b"),
            pair("Claude Sonnet", "c"),
            pair("claude-x", "d e"),
            pair("same", "same"),
            pair("none", ""),
        ];
        let provider = Provider::new(ANTHROPIC, Key::Reference(json!({}))).with_models(models);
        let expected = [("claude-opus-4-5", "a"), ("claude-opus-*", "glm-5"), ("claude-*", "glm-5")];
        assert_eq!(provider.models, expected.map(|(from, to)| (from.to_owned(), Some(to.to_owned()))));
        assert_eq!(provider.notes.len(), 3, "{:?}", provider.notes);
    }

    #[test]
    fn variables_and_stand_ins_are_not_keys() {
        assert_eq!([variable("$A"), variable("${A_1}"), variable("os.environ/B")], [Some("A"), Some("A_1"), Some("B")]);
        for text in ["$", "${A", "$A-b", "a", "$1", "${A:-b}", "os.environ/"] {
            assert_eq!(variable(text), None, "{text}");
        }
        for text in ["", " ", "sk-xxxx", "<key>", "YOUR_API_KEY", "your-key", "a b", "a\nb", "schlüssel", "${A:-}"] {
            assert!(literal(text).is_err(), "{text}");
        }
        assert!(matches!(key(" sk-test-1 "), Ok(Key::Literal(secret)) if secret.expose_secret() == "sk-test-1"));
    }

    #[test]
    fn host_of_an_address_has_no_port_and_no_path() {
        assert_eq!([host("https://a.example:8/x"), host("a.example"), host("http://u:p@b/")], ["a.example", "a.example", "b"]);
    }
}
