//! Gets a profile's own credential when it is needed. Never logs, stores or copies one, and never hands one to another profile.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use crate::clock;

/// Longest a credential command may run.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a command's answer is used before it is asked again.
const COMMAND_TTL: Duration = Duration::from_secs(300);

/// Longest credential that is read, in bytes.
const SECRET_CAP: usize = 16 * 1024;

/// `x-api-key`.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Where a profile's credential comes from.
pub enum Source {
    /// An environment variable of this process.
    Env(String),
    /// A file that nobody but its owner may read.
    File(PathBuf),
    /// A program and its arguments; its first line of output is the credential.
    Command(Vec<String>),
    /// Written in the configuration.
    Value(SecretString),
}

/// In which header it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderForm {
    /// `x-api-key`.
    ApiKey,
    /// `authorization: Bearer`.
    Bearer,
}

/// What a profile authenticates with.
pub enum Credential {
    /// The client's own, passed through untouched and unstored.
    Client,
    /// The profile's own.
    Own {
        /// Where it comes from.
        source: Source,
        /// In which header it goes; none: a login token as Bearer, any other as `x-api-key`.
        form: Option<HeaderForm>,
        /// What a command last answered.
        cache: Mutex<Option<(Instant, SecretString)>>,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Own { source: Source::Env(_), .. } => "env",
            Self::Own { source: Source::File(_), .. } => "file",
            Self::Own { source: Source::Command(_), .. } => "command",
            Self::Own { source: Source::Value(_), .. } => "value",
        })
    }
}

/// Why a credential cannot be had. Says where it was looked for, never what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The variable is not set, or empty.
    #[error("environment variable `{0}` is not set")]
    EnvMissing(String),
    /// The file cannot be read.
    #[error("`{}` cannot be read: {reason}", file.display())]
    FileUnreadable {
        /// Which file.
        file: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// Others may read the file.
    #[error("`{}` may be read by others (mode {mode:o}): run `chmod 600` on it", file.display())]
    FileTooOpen {
        /// Which file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The command did not give one.
    #[error("command `{command}` {reason}")]
    CommandFailed {
        /// The program's name, without its arguments.
        command: String,
        /// What happened.
        reason: String,
    },
    /// There is nothing in it, or bytes that no header can hold.
    #[error("the credential from {0} is empty or holds bytes that a header cannot")]
    Unusable(&'static str),
}

/// A header that authenticates. Marked sensitive, so that it is never printed.
pub type AuthHeader = (HeaderName, HeaderValue);

impl Credential {
    /// A profile's own credential.
    pub fn own(source: Source, form: Option<HeaderForm>) -> Self {
        Self::Own { source, form, cache: Mutex::new(None) }
    }

    /// Whether the client's own is passed on.
    pub fn is_client(&self) -> bool {
        matches!(self, Self::Client)
    }

    /// Whether reading it anew may give another one.
    pub fn is_rereadable(&self) -> bool {
        matches!(self, Self::Own { source: Source::Command(_) | Source::File(_), .. })
    }

    /// Whether a program must be run for it.
    pub fn is_command(&self) -> bool {
        matches!(self, Self::Own { source: Source::Command(_), .. })
    }

    /// The header of the profile's own credential; none when the client's is passed on.
    pub async fn header(&self) -> Result<Option<AuthHeader>, CredentialError> {
        let Self::Own { source, form, cache } = self else {
            return Ok(None);
        };
        let (secret, from) = match source {
            Source::Env(name) => (read_env(name)?, "the environment"),
            Source::File(file) => (read_file(file)?, "the file"),
            Source::Command(argv) => (cached_command(argv, cache).await?, "the command"),
            Source::Value(value) => (value.clone(), "the configuration"),
        };
        header_of(&secret, *form, from).map(Some)
    }

    /// The provider rejected it: a command is asked anew the next time.
    pub async fn forget(&self) {
        if let Self::Own { cache, .. } = self {
            *cache.lock().await = None;
        }
    }
}

fn header_of(secret: &SecretString, form: Option<HeaderForm>, from: &'static str) -> Result<AuthHeader, CredentialError> {
    let secret = secret.expose_secret().trim();
    if secret.is_empty() {
        return Err(CredentialError::Unusable(from));
    }
    let form = form.unwrap_or(if secret.starts_with("sk-ant-oat") { HeaderForm::Bearer } else { HeaderForm::ApiKey });
    let (name, value) = match form {
        HeaderForm::ApiKey => (X_API_KEY, HeaderValue::from_str(secret)),
        HeaderForm::Bearer => (header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {secret}"))),
    };
    let mut value = value.map_err(|_| CredentialError::Unusable(from))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn read_env(name: &str) -> Result<SecretString, CredentialError> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
        .map(SecretString::from)
        .ok_or_else(|| CredentialError::EnvMissing(name.to_owned()))
}

/// Read at each use, so that a rotated key is used at once. Small and local: not worth a thread.
fn read_file(file: &PathBuf) -> Result<SecretString, CredentialError> {
    let unreadable = |reason: std::io::Error| CredentialError::FileUnreadable { file: file.clone(), reason: reason.to_string() };
    let metadata = std::fs::metadata(file).map_err(unreadable)?;
    if let Some(mode) = too_open(&metadata) {
        return Err(CredentialError::FileTooOpen { file: file.clone(), mode });
    }
    if metadata.len() > SECRET_CAP as u64 {
        return Err(CredentialError::Unusable("the file"));
    }
    std::fs::read_to_string(file).map(SecretString::from).map_err(unreadable)
}

#[cfg(unix)]
fn too_open(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn too_open(_metadata: &std::fs::Metadata) -> Option<u32> {
    None
}

/// One caller runs the command, the others wait for its answer.
async fn cached_command(argv: &[String], cache: &Mutex<Option<(Instant, SecretString)>>) -> Result<SecretString, CredentialError> {
    let mut cached = cache.lock().await;
    if let Some((since, secret)) = &*cached
        && clock::since(*since) < COMMAND_TTL
    {
        return Ok(secret.clone());
    }
    let secret = run_command(argv).await?;
    *cached = Some((clock::now(), secret.clone()));
    Ok(secret)
}

async fn run_command(argv: &[String]) -> Result<SecretString, CredentialError> {
    let (program, arguments) = argv.split_first().ok_or(CredentialError::Unusable("an empty command"))?;
    let failed = |reason: String| CredentialError::CommandFailed { command: program.clone(), reason };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let stdout = child.stdout.take().expect("stdout was piped a line above");
    let work = async {
        let mut output = Vec::new();
        stdout.take(SECRET_CAP as u64 + 1).read_to_end(&mut output).await.map_err(|error| failed(error.to_string()))?;
        let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
        Ok::<_, CredentialError>((status, output))
    };
    let (status, output) = tokio::time::timeout(COMMAND_TIMEOUT, work)
        .await
        .map_err(|_| failed(format!("gave no answer within {} s", COMMAND_TIMEOUT.as_secs())))??;
    if !status.success() {
        return Err(failed(format!("ended with {status}")));
    }
    if output.len() > SECRET_CAP {
        return Err(failed("printed more than a credential".to_owned()));
    }
    let text = String::from_utf8(output).map_err(|_| CredentialError::Unusable("the command"))?;
    Ok(SecretString::from(text.lines().next().unwrap_or_default().to_owned()))
}

/// Shared by every attempt at one profile.
pub type SharedCredential = Arc<Credential>;

#[cfg(test)]
mod tests {
    use super::*;

    async fn value(credential: &Credential) -> Result<String, CredentialError> {
        let (name, value) = credential.header().await?.expect("an own credential has a header");
        assert!(value.is_sensitive());
        Ok(format!("{name}: {}", value.to_str().expect("test credentials are ASCII")))
    }

    #[tokio::test]
    async fn a_key_goes_as_x_api_key_and_a_login_token_as_bearer() {
        let own = |secret: &str, form| Credential::own(Source::Value(SecretString::from(secret.to_owned())), form);
        assert_eq!(value(&own("sk-ant-test\n", None)).await, Ok("x-api-key: sk-ant-test".into()));
        assert_eq!(value(&own("sk-ant-oat01-test", None)).await, Ok("authorization: Bearer sk-ant-oat01-test".into()));
        assert_eq!(value(&own("k", Some(HeaderForm::Bearer))).await, Ok("authorization: Bearer k".into()));
        assert_eq!(value(&own(" ", None)).await, Err(CredentialError::Unusable("the configuration")));
        assert_eq!(value(&own("a\u{7f}b", None)).await, Err(CredentialError::Unusable("the configuration")));
        assert_eq!(Credential::Client.header().await, Ok(None));
    }

    #[tokio::test]
    async fn a_missing_variable_is_named() {
        let credential = Credential::own(Source::Env("HOTSPARE_TEST_NO_SUCH_VARIABLE".into()), None);
        assert_eq!(value(&credential).await, Err(CredentialError::EnvMissing("HOTSPARE_TEST_NO_SUCH_VARIABLE".into())));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-ant-test\n").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("mode set");
        let credential = Credential::own(Source::File(file.clone()), None);
        assert!(matches!(value(&credential).await, Err(CredentialError::FileTooOpen { mode: 0o640, .. })));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        assert_eq!(value(&credential).await, Ok("x-api-key: sk-ant-test".into()));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_command_is_run_once_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let count = folder.path().join("count");
        let script = format!("echo x >> '{}'; echo sk-ant-test; echo noise", count.display());
        let credential = Credential::own(Source::Command(vec!["sh".into(), "-c".into(), script]), None);
        for _ in 0..3 {
            assert_eq!(value(&credential).await, Ok("x-api-key: sk-ant-test".into()));
        }
        credential.forget().await;
        assert_eq!(value(&credential).await, Ok("x-api-key: sk-ant-test".into()));
        assert_eq!(std::fs::read_to_string(&count).expect("counted").lines().count(), 2);
    }

    #[tokio::test]
    async fn a_failing_command_is_named_without_its_arguments() {
        let credential = Credential::own(Source::Command(vec!["false".into(), "sk-ant-test".into()]), None);
        let error = value(&credential).await.expect_err("false fails").to_string();
        assert!(error.contains("false") && !error.contains("sk-ant-test"), "{error}");
    }
}
