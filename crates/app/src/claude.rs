//! Decides how a child is pointed at the proxy, so that nothing else can pull its traffic away. Never writes a file, and never puts a token
//! into argv.
//!
//! Measured on Claude Code 2.1.330 in `-p`, with a hostile project's `.claude/settings.json` (which applies there without a question):
//! its `env` outranks the shell, so a base URL, keys, a helper, proxy variables and the switches to other clouds took the traffic or the
//! credential away. A file given with `--settings` outranks it, an empty string switches a variable off, and of several `--settings` only
//! the last one counts. So everything that decides where a request goes, and as whom, stands in our file: with the user's own value, or
//! empty.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

const BASE_URL: &str = "ANTHROPIC_BASE_URL";
const CUSTOM_HEADERS: &str = "ANTHROPIC_CUSTOM_HEADERS";
const AUTH_TOKEN: &str = "ANTHROPIC_AUTH_TOKEN";
const API_KEY: &str = "ANTHROPIC_API_KEY";
const TOKEN_HEADER: &str = "x-hotspare-token";

/// Where a request goes, or as whom: each is pinned to the user's own value, or empty.
const PINNED: [&str; 18] = [
    API_KEY,
    AUTH_TOKEN,
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_API_BASE_URL",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_GATEWAY",
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_HTTP_PROXY",
    "CLAUDE_CODE_HTTPS_PROXY",
    "CLAUDE_CODE_PROXY_URL",
    "CLAUDE_CODE_PROXY_HOST",
    "CLAUDE_CODE_HOST_HTTP_PROXY_PORT",
    "CLAUDE_CODE_HOST_SOCKS_PROXY_PORT",
];

/// The switches that send the client to another cloud, past any base URL.
const OTHER_CLOUDS: [&str; 7] = [
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_GATEWAY",
];

/// Our own port must be reached directly, whatever proxy variables a project sets.
const LOOPBACK: &str = "127.0.0.1,localhost";

/// Why the user's own settings cannot be merged with ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaudeError {
    /// A settings file cannot be read.
    #[error("`--settings {}` cannot be read: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Settings are no JSON object.
    #[error("`--settings {what}` is no JSON object: {reason}")]
    NotAnObject {
        /// The file, or `{…}`.
        what: String,
        /// Why.
        reason: String,
    },
}

/// What the user has set up, as far as it matters for where requests go.
#[derive(Debug, Default)]
pub(crate) struct UserSetup {
    argv: Vec<OsString>,
    is_claude: bool,
    /// What `--settings` held.
    given: Map<String, Value>,
    /// The user settings file.
    settings: Map<String, Value>,
    environment: HashMap<OsString, OsString>,
}

/// How the child is started.
#[derive(Debug)]
pub(crate) struct Injection {
    /// The child's arguments, without a `--settings`.
    pub argv: Vec<OsString>,
    /// What our settings file holds; none when the child is not Claude Code.
    pub settings: Option<String>,
    /// Put into the child's environment.
    pub environment: HashMap<OsString, OsString>,
}

impl UserSetup {
    /// Looks at the command, the environment and the files that Claude Code would read.
    pub(crate) fn read(command: &[OsString], environment: &HashMap<OsString, OsString>, user_settings: &Path) -> Result<Self, ClaudeError> {
        let is_claude = command.first().is_some_and(|program| is_claude(program));
        let mut setup = Self { argv: command.to_vec(), is_claude, environment: environment.clone(), ..Self::default() };
        if !is_claude {
            return Ok(setup);
        }
        let (argv, settings) = take_settings(command);
        setup.argv = argv;
        if let Some(settings) = settings {
            setup.given = read_given(&settings)?;
        }
        // A broken user file is the client's to complain about.
        let text = std::fs::read_to_string(user_settings).unwrap_or_default();
        if let Ok(Value::Object(settings)) = serde_json::from_str(&text) {
            setup.settings = settings;
        }
        Ok(setup)
    }

    /// The base URL that the client would use without us.
    pub(crate) fn existing_base_url(&self) -> Option<&str> {
        self.value(BASE_URL)
    }

    /// The switch that makes the client bypass any proxy for the Anthropic API, if the user set one.
    pub(crate) fn bypass(&self) -> Option<&'static str> {
        let on = |value: &str| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off");
        OTHER_CLOUDS.into_iter().find(|name| self.value(name).is_some_and(on))
    }

    /// The user's own value of a variable, as the client ranks them: `--settings`, user settings, shell. Empty counts as none.
    fn value(&self, name: &str) -> Option<&str> {
        for settings in [&self.given, &self.settings] {
            // A variable that is set there, even to nothing, hides the ones below.
            if let Some(value) = settings.get("env").and_then(|env| env.get(name)) {
                return value.as_str().filter(|value| !value.is_empty());
            }
        }
        self.environment.get(OsStr::new(name)).and_then(|value| value.to_str()).filter(|value| !value.is_empty())
    }

    /// Points the child at the proxy.
    pub(crate) fn inject(&self, base_url: &str, token: &str, uses_client_login: bool) -> Injection {
        let mut env = Map::new();
        for name in PINNED {
            env.insert(name.to_owned(), self.value(name).unwrap_or_default().into());
        }
        env.insert(BASE_URL.to_owned(), base_url.into());
        env.insert(CUSTOM_HEADERS.to_owned(), self.headers(token).into());
        for name in ["NO_PROXY", "no_proxy"] {
            let kept = self.value(name).map_or_else(|| LOOPBACK.to_owned(), |own| format!("{own},{LOOPBACK}"));
            env.insert(name.to_owned(), kept.into());
        }
        let no_credential = [API_KEY, AUTH_TOKEN, "CLAUDE_CODE_OAUTH_TOKEN"].iter().all(|name| self.value(name).is_none());
        if !uses_client_login && no_credential {
            // Without any credential the client does not ask at all; with one it would hide the user's login, so only where nobody needs it.
            env.insert(AUTH_TOKEN.to_owned(), token.into());
        }
        if self.is_claude { self.inject_settings(env) } else { self.inject_environment(&env, token, uses_client_login) }
    }

    fn inject_settings(&self, env: Map<String, Value>) -> Injection {
        let mut settings = self.given.clone();
        let own_helper = self.given.get("apiKeyHelper").or_else(|| self.settings.get("apiKeyHelper"));
        settings.insert("apiKeyHelper".to_owned(), own_helper.cloned().unwrap_or_else(|| "".into()));
        let merged = settings.entry("env").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(merged) = merged {
            merged.extend(env);
        } else {
            *merged = Value::Object(env);
        }
        Injection { argv: self.argv.clone(), settings: Some(Value::Object(settings).to_string()), environment: HashMap::new() }
    }

    /// Another program: it gets the variables that the SDKs read, and the token as its key where no profile needs a key of its own.
    fn inject_environment(&self, env: &Map<String, Value>, token: &str, uses_client_login: bool) -> Injection {
        let mut environment = HashMap::new();
        for name in [BASE_URL, CUSTOM_HEADERS, "NO_PROXY", "no_proxy"] {
            if let Some(value) = env.get(name).and_then(Value::as_str) {
                environment.insert(name.into(), value.into());
            }
        }
        if !uses_client_login {
            environment.insert(API_KEY.into(), token.into());
        }
        Injection { argv: self.argv.clone(), settings: None, environment }
    }

    /// The user's own custom headers with our token beside them.
    fn headers(&self, token: &str) -> String {
        let ours = format!("{TOKEN_HEADER}: {token}");
        let own = self.value(CUSTOM_HEADERS).unwrap_or_default();
        let name = |line: &str| line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        let mut lines: Vec<&str> = own.lines().filter(|line| !line.trim().is_empty() && name(line) != TOKEN_HEADER).collect();
        lines.push(&ours);
        lines.join("\n")
    }
}

impl Injection {
    /// The child's arguments with our settings file. It stands first, before any subcommand or `--`.
    pub(crate) fn argv_with(&self, settings: &Path) -> Vec<OsString> {
        let mut argv = self.argv.clone();
        let at = argv.len().min(1);
        argv.splice(at..at, [OsString::from("--settings"), settings.as_os_str().to_owned()]);
        argv
    }
}

/// Claude Code is known by its file's name.
fn is_claude(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "claude" || name == "claude.exe")
}

/// Takes every `--settings` out of the arguments; the last one counts, as in the client.
fn take_settings(command: &[OsString]) -> (Vec<OsString>, Option<OsString>) {
    let mut kept = Vec::with_capacity(command.len());
    let mut settings = None;
    let mut rest = command.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            kept.push(argument.clone());
            kept.extend(rest.by_ref().cloned());
        } else if argument == "--settings" {
            settings = rest.next().cloned().or(settings);
        } else if let Some(value) = argument.to_str().and_then(|text| text.strip_prefix("--settings=")) {
            settings = Some(value.into());
        } else {
            kept.push(argument.clone());
        }
    }
    (kept, settings)
}

/// `--settings` is a file, or JSON as it stands.
fn read_given(settings: &OsStr) -> Result<Map<String, Value>, ClaudeError> {
    let inline = settings.to_str().filter(|text| text.trim_start().starts_with('{'));
    let (what, text) = if let Some(text) = inline {
        ("{…}".to_owned(), text.to_owned())
    } else {
        let file = PathBuf::from(settings);
        let text = std::fs::read_to_string(&file).map_err(|source| ClaudeError::Unreadable { file: file.clone(), source })?;
        (file.display().to_string(), text)
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(settings)) => Ok(settings),
        Ok(_) => Err(ClaudeError::NotAnObject { what, reason: "it is another kind of value".to_owned() }),
        Err(error) => Err(ClaudeError::NotAnObject { what, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests;
