//! Reads `auth`: where a profile's credential comes from. Never fetches one: that happens at the moment of use, elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hotspare_core::Platform;
use secrecy::SecretString;

use crate::argv::{argv, expand};
use crate::base_url::BaseUrl;
use crate::codes;
use crate::mask::is_env_name;
use crate::platforms;
use crate::reader::{Field, Findings, Table};
use crate::tree::Value;
use crate::units;

const ONE_OF: &str = r#"write `"auth": "client"`, or one of `{ "env": "NAME" }`, `{ "file": "~/path" }`, `{ "command": ["program", "argument"] }`, `{ "keychain": "name" }`, `{ "claude_config_dir": "~/.claude-other" }`, `{ "value": "…" }`"#;

const OWN_CREDENTIAL: &str = r#"name the profile's own credential, e.g. `"auth": { "env": "NAME_OF_A_VARIABLE" }`"#;

const NOT_YET: &[(&str, &str)] = &[
    ("aws", "reach the provider through a gateway that speaks the Anthropic format, with a key of the gateway"),
    ("aws_profile", "reach the provider through a gateway that speaks the Anthropic format, with a key of the gateway"),
    ("gcp", "reach the provider through a gateway that speaks the Anthropic format, with a key of the gateway"),
    ("azure", "reach the provider through a gateway that speaks the Anthropic format, with a key of the gateway"),
];

/// How long a credential's program may run, unless the profile says otherwise.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long its answer is used, unless the profile says otherwise.
const COMMAND_TTL: Duration = Duration::from_secs(300);

/// Longest that a program may keep a request waiting.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A profile's credential: where it comes from and how it is sent.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Where from.
    pub source: AuthSource,
    /// In which header.
    pub header: AuthHeader,
    /// Of a command, how long it may take and how long its answer is used.
    pub command: CommandLimits,
    /// True if a login that has run out is renewed by Claude Code, run in its folder. Matters for [`AuthSource::ClaudeConfigDir`] alone.
    pub renew: bool,
    /// True if the configuration has an `auth` for the profile; false if it is the default of the platform.
    pub is_written: bool,
}

/// The bounds of a credential's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    /// It is killed after this. At most a minute.
    pub timeout: Duration,
    /// Its answer is used so long, or until the provider rejects it.
    pub ttl: Duration,
}

impl Default for CommandLimits {
    fn default() -> Self {
        Self { timeout: COMMAND_TIMEOUT, ttl: COMMAND_TTL }
    }
}

impl Auth {
    /// The client's own credential, passed on in the header it came in.
    pub fn client() -> Self {
        Self::of(AuthSource::Client)
    }

    fn of(source: AuthSource) -> Self {
        Self { source, header: AuthHeader::Auto, command: CommandLimits::default(), renew: true, is_written: false }
    }
}

/// Where a credential comes from, at the moment it is needed.
#[derive(Debug, Clone)]
pub enum AuthSource {
    /// The client sent it.
    Client,
    /// None is sent: a server on this machine that asks for none.
    None,
    /// An environment variable of this name.
    Env(String),
    /// A file that holds nothing else. Whether its mode is tight enough is checked where it is read.
    File(PathBuf),
    /// What this program prints: argv, no shell. Never empty.
    Command(Vec<String>),
    /// The operating system keeps it under this name.
    Keychain(String),
    /// The login that Claude Code keeps in this folder; read when it is needed, never copied or written. Claude Code itself renews it.
    ClaudeConfigDir(PathBuf),
    /// It stands in the configuration itself.
    Value(SecretString),
}

/// How a credential is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthHeader {
    /// `x-api-key: …`
    ApiKey,
    /// `authorization: Bearer …`
    Bearer,
    /// Decided when it is sent, by the platform and the credential's form.
    Auto,
}

/// Reads `auth` of a profile; without one, the client's own login where the platform is Anthropic's, and none where a server on this
/// machine asks for none.
pub(crate) fn read(
    profile: &mut Table<'_>,
    platform: Platform,
    base_url: Option<&BaseUrl>,
    home: &Path,
    findings: &mut Findings,
) -> Option<Auth> {
    let renew = profile.take("renew");
    let Some(field) = profile.take("auth") else {
        if let Some(field) = &renew {
            renewal(field, &AuthSource::Client, findings);
        }
        if platform.is_native() {
            return Some(Auth::client());
        }
        // Of an address with a fault nobody knows whether it is this machine.
        if base_url.is_none_or(|url| platforms::needs_no_credential(platform, url)) {
            return Some(Auth::of(AuthSource::None));
        }
        let title = format!("`{}` does not say where its credential comes from", profile.path);
        findings.error(codes::AUTH_MISSING, &profile.at, title, "needs `auth`").help(OWN_CREDENTIAL);
        return None;
    };
    let mut auth = match &field.node.value {
        Value::String(word) if word == "client" => Some(Auth::client()),
        Value::String(word) if word == "none" => Some(Auth::of(AuthSource::None)),
        Value::Object(_) => object(&field, home, findings),
        _ => not_one(&field, "is no place a credential can come from", findings),
    }?;
    if !platform.is_native() && matches!(auth.source, AuthSource::Client | AuthSource::ClaudeConfigDir(_)) {
        let whose = if matches!(auth.source, AuthSource::Client) { "the client's own login" } else { "a login of Claude Code" };
        let title = format!("`{}` would send {whose} to another provider", field.path);
        findings
            .error(codes::CLIENT_LOGIN_ABROAD, &field.at(), title, "the login belongs to Anthropic")
            .help(OWN_CREDENTIAL)
            .note(r#"for a gateway that passes requests on to Anthropic, use `"platform": "anthropic"`"#);
        return None;
    }
    auth.is_written = true;
    if auth.header == AuthHeader::Auto {
        auth.header = platforms::header(platform);
    }
    if let Some(field) = &renew {
        auth.renew = renewal(field, &auth.source, findings)?;
    }
    Some(auth)
}

/// Reads `renew` of a profile; warns where the profile uses no login of a folder. `None` if it is not true or false.
fn renewal(field: &Field<'_>, source: &AuthSource, findings: &mut Findings) -> Option<bool> {
    let renew = field.bool(findings)?;
    if !matches!(source, AuthSource::ClaudeConfigDir(_)) {
        let title = format!("`{}` has no effect: only the login of a folder is renewed", field.path);
        findings
            .warning(codes::RENEW_WITHOUT_FOLDER, &field.key_at, title, "no login of a folder is used here")
            .help(r#"remove it, or use `"auth": { "claude_config_dir": "~/.claude-other" }`"#);
    }
    Some(renew)
}

fn object(field: &Field<'_>, home: &Path, findings: &mut Findings) -> Option<Auth> {
    let mut table = field.table(findings)?;
    let sources = [
        table.take("env").map(|field| env(&field, findings)),
        table.take("file").map(|field| file(&field, home, findings)),
        table.take("command").map(|field| command(&field, home, findings)),
        table.take("keychain").map(|field| keychain(&field, findings)),
        table.take("claude_config_dir").map(|field| claude_config_dir(&field, home, findings)),
        table.take("value").map(|field| value(&field, findings)),
    ];
    let header = match table.take("header") {
        None => Some(AuthHeader::Auto),
        Some(field) => field.word(&[("x-api-key", AuthHeader::ApiKey), ("bearer", AuthHeader::Bearer)], &[], findings),
    };
    let is_command = sources[2].is_some();
    let command = if is_command { limits(&mut table, findings) } else { Some(CommandLimits::default()) };
    let before = findings.errors.len();
    for (key, instead) in NOT_YET {
        table.not_yet(key, instead, findings);
    }
    table.finish_with(advice, findings);
    let foreign_keys = findings.errors.len() > before;
    let mut given = sources.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(source), None) => Some(Auth { source: source?, header: header?, command: command?, renew: true, is_written: true }),
        (Some(_), Some(_)) => not_one(field, "names more than one place", findings),
        (None, _) if foreign_keys => None,
        (None, _) => not_one(field, "names no place", findings),
    }
}

fn advice(key: &str) -> Option<String> {
    match key {
        "client" | "none" => Some(format!(r#"write `"auth": "{key}"`"#)),
        "timeout" | "ttl" => Some("it goes with `command` alone; remove it".to_owned()),
        _ => None,
    }
}

/// `timeout` and `ttl` of a command.
fn limits(table: &mut Table<'_>, findings: &mut Findings) -> Option<CommandLimits> {
    let usual = CommandLimits::default();
    let timeout = match table.take("timeout") {
        None => Some(usual.timeout),
        Some(field) => units::duration(&field, findings).and_then(|timeout| {
            if timeout <= LONGEST_TIMEOUT {
                return Some(timeout);
            }
            let title = format!("`{}` is longer than a request can wait", field.path);
            findings.error(codes::BAD_DURATION, &field.at(), title, "at most `\"60s\"`").help("write at most a minute: `\"10s\"`");
            None
        }),
    };
    let ttl = match table.take("ttl") {
        None => Some(usual.ttl),
        Some(field) => units::duration(&field, findings),
    };
    Some(CommandLimits { timeout: timeout?, ttl: ttl? })
}

fn keychain(field: &Field<'_>, findings: &mut Findings) -> Option<AuthSource> {
    let name = field.text(findings)?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte));
    // The name may become that of a file, and an argument of a program.
    if plain && name.len() <= 100 && !name.starts_with(['.', '-']) {
        return Some(AuthSource::Keychain(name.to_owned()));
    }
    let title = format!("`{}` cannot be a name in the keychain", field.path);
    findings
        .error(codes::BAD_NAME, &field.at(), title, "not a name")
        .help("use up to 100 letters, digits, `.`, `_`, `@` and `-`, first a letter, a digit, `_` or `@`");
    None
}

fn claude_config_dir(field: &Field<'_>, home: &Path, findings: &mut Findings) -> Option<AuthSource> {
    let folder = whole_path(field, home, findings)?;
    findings
        .warning(
            codes::LOGIN_OF_A_FOLDER,
            &field.at(),
            format!("`{}` lets hotspare use the login that Claude Code keeps in this folder", field.path),
            "a login that was made for Claude Code",
        )
        .help("read the provider's terms first: Anthropic's say that logins of Free, Pro and Max plans are for its own applications")
        .note(
            "it is read when it is needed, and never copied or written; when it runs out, Claude Code is run with this folder to renew it \
             (off: `\"renew\": false`)",
        );
    Some(AuthSource::ClaudeConfigDir(folder))
}

fn not_one<T>(field: &Field<'_>, what: &str, findings: &mut Findings) -> Option<T> {
    let title = format!("`{}` {what}", field.path);
    findings.error(codes::AUTH_NOT_ONE, &field.at(), title, "exactly one place is needed").help(ONE_OF);
    None
}

fn env(field: &Field<'_>, findings: &mut Findings) -> Option<AuthSource> {
    let name = field.text(findings)?;
    if is_env_name(name) {
        return Some(AuthSource::Env(name.to_owned()));
    }
    let title = format!("`{}` cannot be the name of an environment variable", field.path);
    findings
        .error(codes::BAD_ENV_NAME, &field.at(), title, "not a variable's name")
        .help("write the variable's name, not the key itself: letters, digits and `_`");
    None
}

fn file(field: &Field<'_>, home: &Path, findings: &mut Findings) -> Option<AuthSource> {
    whole_path(field, home, findings).map(AuthSource::File)
}

fn whole_path(field: &Field<'_>, home: &Path, findings: &mut Findings) -> Option<PathBuf> {
    let path = expand(field.text(findings)?, home);
    if path.is_absolute() {
        return Some(path);
    }
    let title = format!("`{}` is not a whole path: `{}`", field.path, field.at().quote());
    findings.error(codes::BAD_PATH, &field.at(), title, "relative to what?").help("start it with `/` or `~/`");
    None
}

fn command(field: &Field<'_>, home: &Path, findings: &mut Findings) -> Option<AuthSource> {
    argv(field, r#"["pass", "show", "name"]"#, home, findings).map(AuthSource::Command)
}

fn value(field: &Field<'_>, findings: &mut Findings) -> Option<AuthSource> {
    let text = field.text(findings)?;
    findings
        .warning(
            codes::AUTH_IN_FILE,
            &field.key_at,
            format!("`{}` keeps a credential in this file", field.path),
            "a credential in clear text",
        )
        .help(r#"keep it elsewhere: `{ "env": "NAME" }`, `{ "file": "~/path" }` or `{ "command": ["program"] }`"#);
    Some(AuthSource::Value(SecretString::from(text)))
}
