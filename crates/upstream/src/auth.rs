//! Gets a profile's own credential when it is needed. Never logs, stores or copies one, and never hands one to another profile.

pub mod claude_dir;
mod command;
mod files;
pub mod keychain;
pub mod renewal;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, header};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use claude_dir::Standing;
use command::Cache;
use keychain::Keychain;
use renewal::{CLIENT_RENEWS_BEFORE, NotRenewed, RENEW_BEFORE, Renewals, Renewed};

/// Longest that a credential's program may run, unless the profile says otherwise.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long its answer is used before it is asked again, unless the profile says otherwise.
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
    /// The operating system's keychain, or the file that stands for it, under this name.
    Keychain(Keychain, String),
    /// The login, token or helper of Claude Code in this folder.
    ClaudeConfigDir(PathBuf),
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

/// How long a credential's program may take, and how long its answer is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// It is killed after this.
    pub timeout: Duration,
    /// Its answer is used so long, or until the provider rejects it.
    pub ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: COMMAND_TIMEOUT, ttl: COMMAND_TTL }
    }
}

/// What a profile authenticates with.
pub enum Credential {
    /// The client's own, passed through untouched and unstored.
    Client,
    /// Nothing, and the profile is left out: the client's own credential belongs to this host and not to the profile's.
    Withheld(Arc<str>),
    /// Nothing is sent.
    None,
    /// The profile's own.
    Own(Own),
}

/// A profile's own credential.
pub struct Own {
    source: Source,
    /// None: a login token as Bearer, any other as `x-api-key`.
    form: Option<HeaderForm>,
    limits: Limits,
    /// What a program last answered.
    cache: Cache,
    /// Renew the login of a folder; `None` if it is not to be renewed.
    renewals: Option<Arc<Renewals>>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client | Self::Withheld(_) => "client",
            Self::None => "none",
            Self::Own(own) => match own.source {
                Source::Env(_) => "env",
                Source::File(_) => "file",
                Source::Command(_) => "command",
                Source::Keychain(..) => "keychain",
                Source::ClaudeConfigDir(_) => "claude_config_dir",
                Source::Value(_) => "value",
            },
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
    /// The keychain has nothing under the name.
    #[error("nothing is kept under `{name}`: neither in `{}` nor by {looked}", file.display())]
    NotKept {
        /// The name.
        name: String,
        /// The file that stands for a keychain.
        file: PathBuf,
        /// Which program of the operating system was asked.
        looked: &'static str,
    },
    /// There is no login in the folder.
    #[error("`{}` holds no login: start Claude Code with `CLAUDE_CONFIG_DIR={}` and use `/login`", folder.display(), folder.display())]
    NoLogin {
        /// Which folder.
        folder: PathBuf,
    },
    /// The login has run out. Only Claude Code itself renews it.
    #[error("the login in `{}` ran out {}: start Claude Code with `CLAUDE_CONFIG_DIR={}` to renew it", folder.display(), ago(*since), folder.display())]
    LoginExpired {
        /// Which folder.
        folder: PathBuf,
        /// How long ago.
        since: Duration,
    },
    /// The login has run out, and Claude Code did not renew it.
    #[error("the login in `{}` ran out {} and is not renewed: {why}", folder.display(), ago(*since))]
    LoginNotRenewed {
        /// Which folder.
        folder: PathBuf,
        /// How long ago.
        since: Duration,
        /// Why not.
        why: NotRenewed,
    },
    /// The login has ended: its refresh token is dead or gone.
    #[error("the login in `{}` has ended; log in again: `{}`", folder.display(), login_command(folder))]
    LoginEnded {
        /// Which folder.
        folder: PathBuf,
    },
    /// The client's own credential was issued by another host.
    #[error("the client's credential belongs to {owner}, and is sent to no other host: give the profile its own `auth`")]
    ClientElsewhere {
        /// Host, with a port where it is not the usual one.
        owner: Arc<str>,
    },
    /// There is nothing in it, or bytes that no header can hold.
    #[error("the credential from {0} is empty or holds bytes that a header cannot")]
    Unusable(&'static str),
}

/// The command that makes the login of a folder again.
pub fn login_command(folder: &Path) -> String {
    if crate::claude::is_default(folder) {
        // Named, the same folder would be another login on macOS.
        return "claude auth login".to_owned();
    }
    let folder = folder.display().to_string();
    let is_plain = folder.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@,:".contains(&byte));
    let folder = if is_plain { folder } else { format!("'{}'", folder.replace('\'', r"'\''")) };
    format!("CLAUDE_CONFIG_DIR={folder} claude auth login")
}

fn ago(since: Duration) -> String {
    match since.as_secs() {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86400),
    }
}

/// Whether a profile's own credential is there, as far as that can be known without running a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// The client brings it, or none is needed.
    NotOurs,
    /// It can be read.
    There,
    /// The login of a folder has run out, and is renewed when it is needed.
    Renewable,
    /// It cannot be had.
    Missing(CredentialError),
    /// Only a program can tell, and it may ask the user: it was not run.
    Unasked,
}

/// A header that authenticates. Marked sensitive, so that it is never printed.
pub type AuthHeader = (HeaderName, HeaderValue);

/// Tells one credential from another, and tells nothing of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of a header that authenticates.
    pub fn of(value: &HeaderValue) -> Self {
        use std::hash::{BuildHasher, RandomState};
        use std::sync::OnceLock;
        // Keyed anew in each process: it is of no use to anyone who sees it.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self(KEY.get_or_init(RandomState::new).hash_one(value.as_bytes()))
    }
}

/// A credential as its source gave it.
struct Found {
    secret: SecretString,
    /// The form that the source itself names.
    form: Option<HeaderForm>,
    from: &'static str,
}

impl Credential {
    /// A profile's own credential.
    pub fn own(source: Source, form: Option<HeaderForm>) -> Self {
        Self::limited(source, form, Limits::default())
    }

    /// The same, with bounds for its program.
    pub fn limited(source: Source, form: Option<HeaderForm>, limits: Limits) -> Self {
        Self::Own(Own { source, form, limits, cache: Cache::default(), renewals: None })
    }

    /// With the login of a folder renewed where it has run out.
    #[must_use]
    pub fn renewed_by(mut self, renewals: Arc<Renewals>) -> Self {
        if let Self::Own(own) = &mut self {
            own.renewals = Some(renewals);
        }
        self
    }

    /// Where it comes from, in a word, and the variable, file, folder, name or program there. Of a program its name alone: arguments may be
    /// anything.
    pub fn source(&self) -> (&'static str, Option<String>) {
        let own = match self {
            Self::Client | Self::Withheld(_) => return ("client", None),
            Self::None => return ("none", None),
            Self::Own(own) => own,
        };
        match &own.source {
            Source::Env(name) => ("env", Some(name.clone())),
            Source::File(file) => ("file", Some(file.display().to_string())),
            Source::Command(argv) => ("command", argv.first().cloned()),
            Source::Keychain(_, name) => ("keychain", Some(name.clone())),
            Source::ClaudeConfigDir(folder) => ("claude_config_dir", Some(folder.display().to_string())),
            Source::Value(_) => ("value", None),
        }
    }

    /// How the last run of its program ended; `None` if it was not run, or runs now.
    pub fn last_result(&self) -> Option<Result<(), CredentialError>> {
        let Self::Own(own) = self else { return None };
        own.cache.last_result()
    }

    /// Whether the client's own is passed on.
    pub fn is_client(&self) -> bool {
        matches!(self, Self::Client)
    }

    /// Why the client's own credential is not sent to this profile; `None` if it is, or the profile does not take it.
    pub fn withheld(&self) -> Option<CredentialError> {
        match self {
            Self::Withheld(owner) => Some(CredentialError::ClientElsewhere { owner: owner.clone() }),
            _ => None,
        }
    }

    /// Whether reading it anew may give another one.
    pub fn is_rereadable(&self) -> bool {
        matches!(self, Self::Own(own) if !matches!(own.source, Source::Env(_) | Source::Value(_)))
    }

    /// Whether it is a login that Claude Code keeps in a folder of its own.
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::Own(Own { source: Source::ClaudeConfigDir(_), .. }))
    }

    /// The header of the profile's own credential; none when the client's is passed on, or nothing is sent.
    ///
    /// # Errors
    ///
    /// When it cannot be had, or no header can hold it.
    pub async fn header(&self) -> Result<Option<AuthHeader>, CredentialError> {
        if let Some(withheld) = self.withheld() {
            return Err(withheld);
        }
        let Self::Own(own) = self else { return Ok(None) };
        own.header(&own.find().await?).map(Some)
    }

    /// Like [`Credential::header`], for an attempt: the login of a folder that has run out is renewed first.
    ///
    /// # Errors
    ///
    /// When it cannot be had, or no header can hold it.
    pub async fn header_renewed(&self) -> Result<Option<AuthHeader>, CredentialError> {
        if let Some(withheld) = self.withheld() {
            return Err(withheld);
        }
        let Self::Own(own) = self else { return Ok(None) };
        own.renew_at_need().await?;
        own.header(&own.find().await?).map(Some)
    }

    /// Renews the login of a folder after a delay, where it runs out within minutes.
    pub fn renew_ahead(&self, delay: Duration) {
        let Some((folder, renewals)) = self.renewal() else { return };
        if claude_dir::standing(folder, SystemTime::now()).is_login_within(CLIENT_RENEWS_BEFORE) && renewals.can_renew(folder).is_ok() {
            renewals.renew_later(folder, delay);
        }
    }

    /// What is known of the renewal of the login of a folder; `None` if that is off, or this is another credential.
    pub fn renewed(&self) -> Option<Renewed> {
        self.renewal().map(|(folder, renewals)| renewals.of(folder))
    }

    /// The file that holds the credential; `None` if it comes from elsewhere.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Own(Own { source: Source::File(file), .. }) => Some(file.clone()),
            Self::Own(Own { source: Source::ClaudeConfigDir(folder), .. }) => Some(claude_dir::credentials_file(folder)),
            _ => None,
        }
    }

    /// When this process last saw the login of a folder renewed.
    pub(crate) fn renewed_at(&self) -> Option<SystemTime> {
        self.renewed()?.at
    }

    /// The folder whose login this is.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Own(Own { source: Source::ClaudeConfigDir(folder), .. }) => Some(folder),
            _ => None,
        }
    }

    /// Whether the login of a folder has ended, as its file says.
    pub fn has_ended(&self) -> bool {
        self.folder().is_some_and(|folder| claude_dir::standing(folder, SystemTime::now()) == Standing::Ended)
    }

    /// Why the login of a folder cannot be used before the user logs in again; `None` if it may be used. The file is not read for it.
    pub fn ended(&self) -> Option<CredentialError> {
        let (folder, renewals) = self.renewal()?;
        (renewals.of(folder).failed? == NotRenewed::Ended).then(|| CredentialError::LoginEnded { folder: folder.to_owned() })
    }

    fn renewal(&self) -> Option<(&Path, &Arc<Renewals>)> {
        let Self::Own(own) = self else { return None };
        self.folder().zip(own.renewals.as_ref())
    }

    /// The provider has rejected this credential: reads it again, at most once for all who ask at the same time. True: it is another one
    /// now, which is worth a try.
    pub async fn renew(&self, refused: Fingerprint) -> bool {
        let Self::Own(own) = self else { return false };
        let is_other = |found: Result<Found, CredentialError>| {
            found.and_then(|found| own.header(&found)).is_ok_and(|(_, value)| Fingerprint::of(&value) != refused)
        };
        match &own.source {
            Source::Env(_) | Source::Value(_) => false,
            Source::File(_) => is_other(own.find().await),
            Source::Command(_) | Source::Keychain(..) | Source::ClaudeConfigDir(_) => {
                let is_refused = |secret: &SecretString| {
                    let found = Found { secret: secret.clone(), form: None, from: "" };
                    own.header(&found).is_ok_and(|(_, value)| Fingerprint::of(&value) == refused)
                };
                own.cache.refuse(is_refused).await;
                is_other(own.find().await)
            }
        }
    }

    /// Whether it is there. No program is run for it.
    pub async fn presence(&self) -> Presence {
        if let Some(withheld) = self.withheld() {
            return Presence::Missing(withheld);
        }
        let Self::Own(own) = self else { return Presence::NotOurs };
        let is_asked = match &own.source {
            Source::Command(_) => true,
            Source::Keychain(keychain, name) => matches!(keychain.file(name), Ok(None)),
            Source::ClaudeConfigDir(folder) => claude_dir::is_helper(folder),
            Source::Env(_) | Source::File(_) | Source::Value(_) => false,
        };
        if is_asked {
            return Presence::Unasked;
        }
        match self.header().await {
            Ok(_) => Presence::There,
            Err(error @ CredentialError::LoginExpired { .. }) => own.renewability(error),
            Err(error) => Presence::Missing(error),
        }
    }

    /// When it runs out, where that is known. Reads it anew.
    pub fn expires(&self) -> Option<SystemTime> {
        match self {
            Self::Own(Own { source: Source::ClaudeConfigDir(folder), .. }) => claude_dir::expires(folder),
            _ => None,
        }
    }
}

impl Own {
    /// Renews the login of a folder if its token has run out or is about to.
    async fn renew_at_need(&self) -> Result<(), CredentialError> {
        let (Source::ClaudeConfigDir(folder), Some(renewals)) = (&self.source, &self.renewals) else { return Ok(()) };
        match claude_dir::standing(folder, SystemTime::now()) {
            Standing::Ended => {
                renewals.note_ended(folder);
                Err(CredentialError::LoginEnded { folder: folder.clone() })
            }
            Standing::RanOut(since) => renewals.renew(folder).await.map_err(|why| not_renewed(folder, since, why)),
            standing if standing.is_login_within(RENEW_BEFORE) => {
                // The token is still good: an attempt with it comes before a renewal that fails.
                let _ = renewals.renew(folder).await;
                Ok(())
            }
            Standing::Lives(_) | Standing::NoLogin => Ok(()),
        }
    }

    fn renewability(&self, error: CredentialError) -> Presence {
        match (error, &self.renewals) {
            (CredentialError::LoginExpired { folder, since }, Some(renewals)) => match renewals.can_renew(&folder) {
                Ok(()) => Presence::Renewable,
                Err(why) => Presence::Missing(not_renewed(&folder, since, why)),
            },
            (error, _) => Presence::Missing(error),
        }
    }

    async fn find(&self) -> Result<Found, CredentialError> {
        let plain = |secret, from| Found { secret, form: None, from };
        match &self.source {
            Source::Env(name) => Ok(plain(read_env(name)?, "the environment")),
            Source::File(file) => Ok(plain(files::secret(file)?, "the file")),
            Source::Command(argv) => Ok(plain(self.cache.run(argv, self.limits).await?, "the command")),
            Source::Keychain(keychain, name) => {
                if let Some(secret) = keychain.file(name)? {
                    return Ok(plain(secret, "the keychain"));
                }
                let kept = self.cache.run(&Keychain::command(name), self.limits).await;
                kept.map(|secret| plain(secret, "the keychain")).map_err(|_| keychain.not_kept(name))
            }
            Source::ClaudeConfigDir(folder) => match claude_dir::read(folder, SystemTime::now())? {
                claude_dir::Kept::Secret(secret, form) => Ok(Found { secret, form: Some(form), from: "Claude Code's folder" }),
                claude_dir::Kept::Login(secret, _) => Ok(Found { secret, form: Some(HeaderForm::Bearer), from: "Claude Code's folder" }),
                claude_dir::Kept::Helper(argv) => Ok(plain(self.cache.run(&argv, self.limits).await?, "`apiKeyHelper`")),
            },
            Source::Value(value) => Ok(plain(value.clone(), "the configuration")),
        }
    }

    fn header(&self, found: &Found) -> Result<AuthHeader, CredentialError> {
        header_of(&found.secret, self.form.or(found.form), found.from)
    }
}

fn not_renewed(folder: &Path, since: Duration, why: NotRenewed) -> CredentialError {
    let folder = folder.to_owned();
    match why {
        NotRenewed::Ended => CredentialError::LoginEnded { folder },
        why => CredentialError::LoginNotRenewed { folder, since, why },
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
        HeaderForm::Bearer => (header::AUTHORIZATION, HeaderValue::from_str(&Zeroizing::new(format!("Bearer {secret}")))),
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
        let (_, used) = credential.header().await.expect("cached").expect("a header");
        assert!(!credential.renew(Fingerprint::of(&used)).await, "the command gives the same again");
        assert_eq!(std::fs::read_to_string(&count).expect("counted").lines().count(), 2);
    }

    /// A command that gives `first` once, and `then` from its second run on; and the file in which it counts.
    #[cfg(unix)]
    fn rotating(folder: &std::path::Path, first: &str, then: &str) -> (Credential, PathBuf) {
        let count = folder.join("count");
        let script =
            format!("n=$(cat '{0}' 2>/dev/null | wc -l); echo x >> '{0}'; [ $n = 0 ] && echo {first} || echo {then}", count.display());
        (Credential::own(Source::Command(vec!["sh".into(), "-c".into(), script]), None), count)
    }

    /// teamclaude #139 #96, clauth #52 #84: a race of refreshes ended the login of every session.
    #[cfg(unix)]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn r56_two_hundred_rejections_at_once_ask_the_command_once_more() {
        for (then, renewed) in [("sk-ant-test-new", true), ("sk-ant-test-old", false)] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (credential, count) = rotating(folder.path(), "sk-ant-test-old", then);
            let credential = Arc::new(credential);
            let (_, used) = credential.header().await.expect("found").expect("a header");
            let refused = Fingerprint::of(&used);
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..200 {
                let credential = credential.clone();
                all.spawn(async move { credential.renew(refused).await });
            }
            assert!(all.join_all().await.into_iter().all(|one| one == renewed), "{then}");
            assert_eq!(std::fs::read_to_string(&count).expect("counted").lines().count(), 2, "{then}");
            assert_eq!(value(&credential).await, Ok(format!("x-api-key: {then}")));
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_hanging_command_and_one_that_floods_are_ended() {
        let run = |script: &str| {
            let limits = Limits { timeout: Duration::from_millis(200), ..Limits::default() };
            Credential::limited(Source::Command(vec!["sh".into(), "-c".into(), script.into()]), None, limits)
        };
        let words = |error: CredentialError| error.to_string();
        assert!(value(&run("sleep 60")).await.map_err(words).expect_err("too long").contains("within 0.2 s"));
        let flood = value(&run("yes sk-ant-test")).await.map_err(words).expect_err("too much");
        assert!(flood.contains("more than a credential"), "{flood}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_is_read_again_and_a_fixed_key_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-ant-test-1").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        let credential = Credential::own(Source::File(file.clone()), None);
        let (_, used) = credential.header().await.expect("read").expect("a header");
        assert!(!credential.renew(Fingerprint::of(&used)).await);
        std::fs::write(&file, "sk-ant-test-2").expect("written");
        assert!(credential.renew(Fingerprint::of(&used)).await);
        let fixed = Credential::own(Source::Value(SecretString::from("sk-ant-test".to_owned())), None);
        assert!(!fixed.renew(Fingerprint::of(&used)).await && !Credential::Client.renew(Fingerprint::of(&used)).await);
    }

    #[tokio::test]
    async fn nothing_is_sent_where_nothing_is_wanted() {
        assert_eq!(Credential::None.header().await, Ok(None));
        assert!(!Credential::None.is_client());
    }

    #[tokio::test]
    async fn a_failing_command_is_named_without_its_arguments() {
        let credential = Credential::own(Source::Command(vec!["false".into(), "sk-ant-test".into()]), None);
        let error = value(&credential).await.expect_err("false fails").to_string();
        assert!(error.contains("false") && !error.contains("sk-ant-test"), "{error}");
    }
}
