//! Reads `auth`: where a profile's credential comes from. Never fetches one: that happens at the moment of use, elsewhere.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::codes;
use crate::mask::is_env_name;
use crate::profiles::Platform;
use crate::reader::{Field, Findings, Table};

const ONE_OF: &str = r#"write `"auth": "client"`, or one of `{ "env": "NAME" }`, `{ "file": "~/path" }`, `{ "command": ["program", "argument"] }`, `{ "value": "…" }`"#;

const OWN_CREDENTIAL: &str = r#"name the profile's own credential, e.g. `"auth": { "env": "NAME_OF_A_VARIABLE" }`"#;

const NOT_YET: &[(&str, &str)] = &[
    ("keychain", r#"read it with a command, e.g. `{ "command": ["secret-tool", "lookup", "service", "NAME"] }`"#),
    ("claude_config_dir", r#"use the login of the client that is running (`"auth": "client"`), or a key (`{ "env": "NAME" }`)"#),
    ("aws", "reach the provider through a gateway that speaks the Anthropic format, with a key of the gateway"),
    ("aws_profile", "reach the provider through a gateway that speaks the Anthropic format, with a key of the gateway"),
    ("gcp", "reach the provider through a gateway that speaks the Anthropic format, with a key of the gateway"),
    ("azure", "reach the provider through a gateway that speaks the Anthropic format, with a key of the gateway"),
];

/// A profile's credential: where it comes from and how it is sent.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Where from.
    pub source: AuthSource,
    /// In which header.
    pub header: AuthHeader,
}

impl Auth {
    /// The client's own credential, passed on in the header it came in.
    pub fn client() -> Self {
        Self { source: AuthSource::Client, header: AuthHeader::Auto }
    }
}

/// Where a credential comes from, at the moment it is needed.
#[derive(Debug, Clone)]
pub enum AuthSource {
    /// The client sent it.
    Client,
    /// An environment variable of this name.
    Env(String),
    /// A file that holds nothing else. Whether its mode is tight enough is checked where it is read.
    File(PathBuf),
    /// What this program prints: argv, no shell. Never empty.
    Command(Vec<String>),
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

/// Reads `auth` of a profile; without one, the client's own login where the platform is Anthropic's.
pub(crate) fn read(profile: &mut Table<'_>, platform: Platform, home: &Path, findings: &mut Findings) -> Option<Auth> {
    let Some(field) = profile.take("auth") else {
        if platform == Platform::Anthropic {
            return Some(Auth::client());
        }
        let title = format!("`{}` does not say where its credential comes from", profile.path);
        findings.error(codes::AUTH_MISSING, &profile.at, title, "needs `auth`").help(OWN_CREDENTIAL);
        return None;
    };
    let auth = match &field.node.value {
        crate::tree::Value::String(word) if word == "client" => Some(Auth::client()),
        crate::tree::Value::Object(_) => object(&field, home, findings),
        _ => not_one(&field, "is no place a credential can come from", findings),
    }?;
    if platform == Platform::AnthropicCompatible && matches!(auth.source, AuthSource::Client) {
        let title = format!("`{}` would send the client's own login to another provider", field.path);
        findings
            .error(codes::CLIENT_LOGIN_ABROAD, &field.at(), title, "the login belongs to Anthropic")
            .help(OWN_CREDENTIAL)
            .note(r#"for a gateway that passes requests on to Anthropic, use `"platform": "anthropic"`"#);
        return None;
    }
    Some(auth)
}

fn object(field: &Field<'_>, home: &Path, findings: &mut Findings) -> Option<Auth> {
    let mut table = field.table(findings)?;
    let sources = [
        table.take("env").map(|field| env(&field, findings)),
        table.take("file").map(|field| file(&field, home, findings)),
        table.take("command").map(|field| command(&field, home, findings)),
        table.take("value").map(|field| value(&field, findings)),
    ];
    let header = match table.take("header") {
        None => Some(AuthHeader::Auto),
        Some(field) => field.word(&[("x-api-key", AuthHeader::ApiKey), ("bearer", AuthHeader::Bearer)], &[], findings),
    };
    let before = findings.errors.len();
    for (key, instead) in NOT_YET {
        table.not_yet(key, instead, findings);
    }
    table.finish_with(|key| (key == "client").then(|| r#"write `"auth": "client"`"#.to_owned()), findings);
    let foreign_keys = findings.errors.len() > before;
    let mut given = sources.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(source), None) => Some(Auth { source: source?, header: header? }),
        (Some(_), Some(_)) => not_one(field, "names more than one place", findings),
        (None, _) if foreign_keys => None,
        (None, _) => not_one(field, "names no place", findings),
    }
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
    let text = field.text(findings)?;
    let path = expand(text, home);
    if path.is_absolute() {
        return Some(AuthSource::File(path));
    }
    let title = format!("`{}` is not a whole path: `{}`", field.path, field.at().quote());
    findings.error(codes::BAD_PATH, &field.at(), title, "relative to what?").help("start it with `/` or `~/`");
    None
}

fn command(field: &Field<'_>, home: &Path, findings: &mut Findings) -> Option<AuthSource> {
    if matches!(field.node.value, crate::tree::Value::String(_)) {
        let title = format!("`{}` must be a list", field.path);
        findings
            .error(codes::WRONG_TYPE, &field.at(), title, "no shell takes this apart")
            .help(r#"write the program and its arguments one by one: `["pass", "show", "name"]`"#);
        return None;
    }
    let entries = field.list(findings)?;
    let Some(program) = entries.first() else {
        findings
            .error(codes::EMPTY_VALUE, &field.at(), format!("`{}` is empty", field.path), "no program")
            .help(r#"write the program and its arguments: `["pass", "show", "name"]`"#);
        return None;
    };
    let program = expand(program.text(findings)?, home).to_string_lossy().into_owned();
    let arguments: Option<Vec<_>> = entries[1..].iter().map(|entry| entry.string(findings).map(str::to_owned)).collect();
    Some(AuthSource::Command([vec![program], arguments?].concat()))
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

/// `~` and `~/…` are the home folder; another user's is not looked up.
fn expand(text: &str, home: &Path) -> PathBuf {
    match text.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_folder() {
        let home = Path::new("/home/u");
        assert_eq!(expand("~", home), Path::new("/home/u"));
        assert_eq!(expand("~/a/b", home), Path::new("/home/u/a/b"));
        assert_eq!(expand("~//etc/passwd", home), Path::new("/home/u/etc/passwd"));
        assert_eq!(expand("~other/x", home), Path::new("~other/x"));
        assert_eq!(expand("/a/~", home), Path::new("/a/~"));
    }
}
