//! Reads what Claude Code would use in one of its folders: a token or key of its settings, its helper, or its stored login.
//!
//! Invariant: none of it is written, copied or sent to renew it. Of a refresh token it is read whether there is one, and no more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::files::{self, FILE_CAP};
use super::{CredentialError, HeaderForm};

/// What is kept in the folder.
pub(super) enum Kept {
    /// The credential itself, and how Claude Code sends it.
    Secret(SecretString, HeaderForm),
    /// The token of a stored login, and how long it lives; `None` if that is not known.
    Login(SecretString, Option<Duration>),
    /// The program that prints it.
    Helper(Vec<String>),
}

/// The part of `settings.json` that is about credentials.
#[derive(Deserialize, Default)]
struct Settings {
    #[serde(default)]
    env: Environment,
    #[serde(rename = "apiKeyHelper", default)]
    helper: Option<String>,
}

#[derive(Deserialize, Default)]
struct Environment {
    #[serde(rename = "ANTHROPIC_AUTH_TOKEN", default)]
    auth_token: Option<SecretText>,
    #[serde(rename = "ANTHROPIC_API_KEY", default)]
    api_key: Option<SecretText>,
    #[serde(rename = "CLAUDE_CODE_OAUTH_TOKEN", default)]
    oauth_token: Option<SecretText>,
}

/// The part of `.credentials.json` that is the login.
#[derive(Deserialize)]
struct Credentials {
    #[serde(rename = "claudeAiOauth", default)]
    login: Option<Login>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    access_token: SecretText,
    /// Whether there is a refresh token. The client empties it when the provider has refused it (measured, 2.1.332).
    #[serde(rename = "refreshToken", default, deserialize_with = "is_given")]
    is_renewable: bool,
    /// Milliseconds since 1970.
    #[serde(default)]
    expires_at: Option<u64>,
    #[serde(default)]
    subscription_type: Option<String>,
}

/// What is known of a folder's credential without the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaudeAuth {
    /// A login with a subscription.
    Login,
    /// A token or key that stands in the folder's settings.
    Settings,
    /// A program that the folder's settings name.
    Helper,
}

/// What a folder of Claude Code holds, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaudeFolder {
    /// How it authenticates.
    pub auth: ClaudeAuth,
    /// The subscription's plan, such as `max`.
    pub plan: Option<String>,
    /// When the login's token runs out; Claude Code renews it when it runs.
    pub expires: Option<SystemTime>,
}

/// How long the stored login of a folder is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The settings name another credential, or there is no login that can be read.
    NoLogin,
    /// The token lives for this long; `None` if that is not known.
    Lives(Option<Duration>),
    /// The token ran out this long ago.
    RanOut(Duration),
    /// There is no token that lives, and none to renew it with.
    Ended,
}

impl Standing {
    /// Whether the token lives for less than this, and may be renewed.
    pub(super) fn is_login_within(self, left: Duration) -> bool {
        match self {
            Self::RanOut(_) => true,
            Self::Lives(lives) => lives.is_some_and(|lives| lives < left),
            Self::NoLogin | Self::Ended => false,
        }
    }
}

/// Describes how long the stored login of a folder is good for.
pub(super) fn standing(folder: &Path, now: SystemTime) -> Standing {
    match read(folder, now) {
        Ok(Kept::Login(_, lives)) => Standing::Lives(lives),
        Err(CredentialError::LoginExpired { since, .. }) => Standing::RanOut(since),
        Err(CredentialError::LoginEnded { .. }) => Standing::Ended,
        Ok(Kept::Secret(..) | Kept::Helper(_)) | Err(_) => Standing::NoLogin,
    }
}

/// The file of a folder in which Claude Code keeps its login.
pub(super) fn credentials_file(folder: &Path) -> PathBuf {
    folder.join(".credentials.json")
}

/// The variables that the settings of a folder set for Claude Code. Others than texts are left out.
pub(crate) fn variables(folder: &Path) -> BTreeMap<String, String> {
    #[derive(Deserialize, Default)]
    struct Variables {
        #[serde(default)]
        env: BTreeMap<String, serde_json::Value>,
    }
    let variables: Variables = serde_json::from_slice(&settings_text(folder)).unwrap_or_default();
    let text = |(name, value): (String, serde_json::Value)| Some((name, value.as_str()?.to_owned()));
    variables.env.into_iter().filter_map(text).collect()
}

/// Longest plan that is told: a word.
const PLAN_CAP: usize = 24;

/// Describes what Claude Code would use in a folder; none: nothing that can be read. No credential leaves this function.
pub fn describe(folder: &Path) -> Option<ClaudeFolder> {
    let settings = settings(folder);
    let is_given = |text: &Option<SecretText>| text.as_ref().is_some_and(|text| !text.0.expose_secret().trim().is_empty());
    if [&settings.env.auth_token, &settings.env.api_key, &settings.env.oauth_token].into_iter().any(is_given) {
        return Some(ClaudeFolder { auth: ClaudeAuth::Settings, plan: None, expires: None });
    }
    if settings.helper.is_some_and(|helper| !helper.trim().is_empty()) {
        return Some(ClaudeFolder { auth: ClaudeAuth::Helper, plan: None, expires: None });
    }
    let login = login(folder).ok().flatten()?;
    let expires = login.expiry();
    let plan = login.subscription_type.map(|plan| plan.chars().filter(|char| !char.is_control()).take(PLAN_CAP).collect());
    Some(ClaudeFolder { auth: ClaudeAuth::Login, plan, expires })
}

/// A text that is a secret from the moment it is read.
struct SecretText(SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

/// What Claude Code would use there, in its own order: a token, a key and a helper of the settings come before the login.
pub(super) fn read(folder: &Path, now: SystemTime) -> Result<Kept, CredentialError> {
    let settings = settings(folder);
    let given = |text: Option<SecretText>| text.map(|text| text.0).filter(|text| !text.expose_secret().trim().is_empty());
    if let Some(token) = given(settings.env.auth_token) {
        return Ok(Kept::Secret(token, HeaderForm::Bearer));
    }
    if let Some(key) = given(settings.env.api_key) {
        return Ok(Kept::Secret(key, HeaderForm::ApiKey));
    }
    if let Some(helper) = settings.helper.filter(|helper| !helper.trim().is_empty()) {
        return Ok(Kept::Helper(shell(helper)));
    }
    if let Some(token) = given(settings.env.oauth_token) {
        return Ok(Kept::Secret(token, HeaderForm::Bearer));
    }
    let login = login(folder)?.ok_or_else(|| CredentialError::NoLogin { folder: folder.to_owned() })?;
    let since = login.expiry().and_then(|expiry| now.duration_since(expiry).ok());
    let is_gone = login.access_token.0.expose_secret().is_empty();
    if !login.is_renewable && (is_gone || since.is_some()) {
        return Err(CredentialError::LoginEnded { folder: folder.to_owned() });
    }
    if is_gone || since.is_some() {
        return Err(CredentialError::LoginExpired { folder: folder.to_owned(), since: since.unwrap_or_default() });
    }
    let lives = login.expiry().and_then(|expiry| expiry.duration_since(now).ok());
    Ok(Kept::Login(login.access_token.0, lives))
}

/// Whether a program must be run for it.
pub(super) fn is_helper(folder: &Path) -> bool {
    matches!(read(folder, SystemTime::now()), Ok(Kept::Helper(_)))
}

/// When the stored login runs out.
pub(super) fn expires(folder: &Path) -> Option<SystemTime> {
    login(folder).ok().flatten().and_then(|login| login.expiry())
}

impl Login {
    fn expiry(&self) -> Option<SystemTime> {
        self.expires_at.map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }
}

/// Settings are the user's own and may hold anything; what cannot be read there is not for us.
fn settings(folder: &Path) -> Settings {
    serde_json::from_slice(&settings_text(folder)).unwrap_or_default()
}

fn settings_text(folder: &Path) -> Zeroizing<Vec<u8>> {
    let file = folder.join("settings.json");
    let small = std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() <= FILE_CAP as u64);
    Zeroizing::new(if small { std::fs::read(&file).unwrap_or_default() } else { Vec::new() })
}

/// Whether a text is there, and not empty. The text itself is dropped.
fn is_given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<SecretText>::deserialize(deserializer)?.is_some_and(|text| !text.0.expose_secret().is_empty()))
}

fn login(folder: &Path) -> Result<Option<Login>, CredentialError> {
    let file = credentials_file(folder);
    let Some(text) = files::text(&file, FILE_CAP)? else { return Ok(None) };
    let read = serde_json::from_str::<Credentials>(text.expose_secret());
    // The parser's words may quote the file.
    read.map(|credentials| credentials.login).map_err(|_| files::unreadable(&file, &"it has not the form that Claude Code gives it"))
}

/// Claude Code runs its helper through a shell.
fn shell(helper: String) -> Vec<String> {
    if cfg!(windows) { vec!["cmd".into(), "/C".into(), helper] } else { vec!["sh".into(), "-c".into(), helper] }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::auth::{Credential, Source};
    use std::os::unix::fs::PermissionsExt;

    fn write(folder: &Path, name: &str, text: &str) {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    }

    fn login_until(millis: u128) -> String {
        format!(
            r#"{{"claudeAiOauth":{{"accessToken":"sk-ant-oat01-test","refreshToken":"sk-ant-test-refresh","expiresAt":{millis},"scopes":[]}}}}"#
        )
    }

    fn in_an_hour() -> u128 {
        (SystemTime::now() + Duration::from_secs(3600)).duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis()
    }

    async fn header(folder: &Path) -> Result<String, String> {
        let credential = Credential::own(Source::ClaudeConfigDir(folder.to_owned()), None);
        let (name, value) = credential.header().await.map_err(|error| error.to_string())?.expect("an own credential has a header");
        Ok(format!("{name}: {}", value.to_str().expect("ASCII")))
    }

    #[tokio::test]
    async fn a_stored_login_is_read_and_its_end_is_known() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path();
        assert!(header(folder).await.expect_err("no login").contains("/login"));
        write(folder, ".credentials.json", &login_until(in_an_hour()));
        let before = std::fs::read(folder.join(".credentials.json")).expect("there");
        assert_eq!(header(folder).await, Ok("authorization: Bearer sk-ant-oat01-test".into()));
        let described = describe(folder).expect("a login");
        assert!(described.auth == ClaudeAuth::Login && described.expires.is_some_and(|end| end > SystemTime::now()), "{described:?}");
        let credential = Credential::own(Source::ClaudeConfigDir(folder.to_owned()), None);
        assert!(credential.expires().is_some_and(|end| end > SystemTime::now()));
        assert_eq!(std::fs::read(folder.join(".credentials.json")).expect("there"), before, "never written");
        assert_eq!(std::fs::read_dir(folder).expect("the folder").count(), 1, "never copied");
        write(folder, ".credentials.json", &login_until(1000));
        let words = header(folder).await.expect_err("it ran out");
        assert!(words.contains("days ago") && words.contains("CLAUDE_CONFIG_DIR=") && !words.contains("sk-ant"), "{words}");
    }

    /// As Claude Code 2.1.332 leaves the file when the token endpoint has refused the refresh token.
    #[tokio::test]
    async fn emptied_login_is_to_be_made_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path();
        for ended in [
            r#"{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0,"subscriptionType":"max"}}"#,
            r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-test","refreshToken":null,"expiresAt":1000}}"#,
            r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-test","expiresAt":1000}}"#,
        ] {
            write(folder, ".credentials.json", ended);
            assert_eq!(standing(folder, SystemTime::now()), Standing::Ended, "{ended}");
            let words = header(folder).await.expect_err("nothing can be sent");
            assert!(words.contains(&format!("`CLAUDE_CONFIG_DIR={} claude auth login`", folder.display())), "{words}");
        }
        let unknown = r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-test"}}"#;
        write(folder, ".credentials.json", unknown);
        assert_eq!(standing(folder, SystemTime::now()), Standing::Lives(None), "a token of a year's life has no end in the file");
    }

    #[tokio::test]
    async fn settings_come_before_the_login_as_in_claude_code() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path();
        write(folder, ".credentials.json", &login_until(in_an_hour()));
        for (settings, expected) in [
            (r#"{"env":{"CLAUDE_CODE_OAUTH_TOKEN":"sk-ant-oat01-env"}}"#, "authorization: Bearer sk-ant-oat01-env"),
            (r#"{"apiKeyHelper":"echo sk-ant-test-helper","env":{"CLAUDE_CODE_OAUTH_TOKEN":"x"}}"#, "x-api-key: sk-ant-test-helper"),
            (r#"{"env":{"ANTHROPIC_API_KEY":"sk-ant-test-key","OTHER":"1"}}"#, "x-api-key: sk-ant-test-key"),
            (r#"{"env":{"ANTHROPIC_API_KEY":"k","ANTHROPIC_AUTH_TOKEN":"sk-ant-test-token"}}"#, "authorization: Bearer sk-ant-test-token"),
            (r#"{"env":{"ANTHROPIC_API_KEY":" "}}"#, "authorization: Bearer sk-ant-oat01-test"),
            ("not JSON", "authorization: Bearer sk-ant-oat01-test"),
        ] {
            write(folder, "settings.json", settings);
            assert_eq!(header(folder).await.as_deref(), Ok(expected), "{settings}");
        }
    }

    #[tokio::test]
    async fn a_login_that_others_may_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path();
        write(folder, ".credentials.json", r#"{"claudeAiOauth":{"accessToken":7,"sk-ant-oat01-secret":1}}"#);
        let words = header(folder).await.expect_err("not a login");
        assert!(!words.contains("secret"), "{words}");
        write(folder, ".credentials.json", &login_until(in_an_hour()));
        std::fs::set_permissions(folder.join(".credentials.json"), std::fs::Permissions::from_mode(0o644)).expect("mode set");
        assert!(header(folder).await.expect_err("too open").contains("chmod 600"));
    }
}
