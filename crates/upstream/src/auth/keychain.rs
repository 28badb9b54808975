//! Looks a credential up by name: in the file that stands for a keychain, then in the operating system's; and keeps one there when it is asked to.
//! Never lists what is kept, and hands a credential to a program by its stdin alone.
//!
//! The operating system is asked through its own program (`security` on macOS, `secret-tool` elsewhere), so that no desktop library is
//! part of the binary. On a machine without either, a file in the state folder stands for the keychain: mode 0600, in a folder of 0700.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;

use super::command::Cache;
use super::{CredentialError, Limits, SECRET_CAP, files};

/// The service that credentials are kept for.
pub const SERVICE: &str = "hotspare";

#[cfg(target_os = "macos")]
const PROGRAM: &str = "security";

#[cfg(not(target_os = "macos"))]
const PROGRAM: &str = "secret-tool";

/// The folder whose files stand for a keychain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keychain {
    folder: PathBuf,
}

impl Keychain {
    /// In a given folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// This user's: `keychain` in hotspare's state folder, found as the base directory specification says.
    pub fn of_user() -> Self {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // Without `HOME` it is what the password database has.
        let home = || std::env::home_dir().filter(|home| home.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| home().map(|home| home.join(".local/state")));
        Self::in_folder(state.unwrap_or_default().join("hotspare/keychain"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the file of this name holds; none where there is no such file.
    pub(super) fn file(&self, name: &str) -> Result<Option<SecretString>, CredentialError> {
        files::text(&self.path(name), SECRET_CAP)
    }

    /// The operating system's program that prints what it keeps under the name.
    pub(super) fn command(name: &str) -> Vec<String> {
        let words: &[&str] = if cfg!(target_os = "macos") {
            &[PROGRAM, "find-generic-password", "-w", "-s", SERVICE, "-a", name]
        } else {
            &[PROGRAM, "lookup", "service", SERVICE, "account", name]
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Whether a name can be one in the keychain: it may become that of a file, and an argument of a program.
    pub fn is_name(name: &str) -> bool {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte));
        plain && !name.is_empty() && name.len() <= 100 && !name.starts_with(['.', '-'])
    }

    /// Keeps a credential where the operating system does, and in the file that stands for it where there is no such place; in place of an
    /// older one.
    ///
    /// # Errors
    ///
    /// When neither can be written, or the name is none ([`Keychain::is_name`]).
    pub async fn store(&self, name: &str, secret: &SecretString) -> io::Result<Place> {
        if !Self::is_name(name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this cannot be a name in the keychain"));
        }
        if system_keeps(name, secret).await {
            // The file is looked at first: an old one there would hide the new.
            match std::fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => return Ok(Place::System(PROGRAM)),
            }
        }
        self.keep(name, secret)?;
        Ok(Place::File(self.path(name)))
    }

    /// Looks up what is stored under a name, in both places, without changing anything.
    pub async fn look(&self, name: &str) -> Looked {
        if !Self::is_name(name) {
            return Looked::Occupied;
        }
        match self.file(name) {
            Ok(Some(secret)) => Looked::Held(secret),
            // A file that is there and cannot be read: whose it is cannot be known.
            Err(_) => Looked::Occupied,
            Ok(None) => match system_look(name).await {
                SystemLook::Held(secret) => Looked::Held(secret),
                SystemLook::Absent | SystemLook::Unreachable => Looked::Absent,
            },
        }
    }

    /// Stores a credential under a name that holds nothing yet; an entry that is there stays as it is.
    ///
    /// # Errors
    ///
    /// If the name is taken or not valid, or nothing can be written.
    pub async fn add(&self, name: &str, secret: &SecretString) -> io::Result<Place> {
        let taken = || io::Error::new(io::ErrorKind::AlreadyExists, format!("the keychain has an entry `{name}` already"));
        if !matches!(self.look(name).await, Looked::Absent) {
            return Err(taken());
        }
        // Where the system's keychain does not answer, what it holds is not known: only the file is written then.
        if matches!(system_look(name).await, SystemLook::Absent) && system_keeps(name, secret).await {
            return Ok(Place::System(PROGRAM));
        }
        self.write(name, secret, |unfinished, file| std::fs::hard_link(unfinished, file).and_then(|()| std::fs::remove_file(unfinished)))
            .map_err(|error| if error.kind() == io::ErrorKind::AlreadyExists { taken() } else { error })?;
        Ok(Place::File(self.path(name)))
    }

    /// Removes what [`Keychain::add`] stored, while it still holds that value.
    ///
    /// # Errors
    ///
    /// If it cannot be removed.
    pub async fn take_back(&self, name: &str, secret: &SecretString, place: &Place) -> io::Result<()> {
        let is_ours = matches!(self.look(name).await, Looked::Held(held) if held.expose_secret() == secret.expose_secret());
        match place {
            _ if !is_ours => Ok(()),
            Place::File(file) => std::fs::remove_file(file),
            Place::System(program) => {
                let mut command = tokio::process::Command::new(program);
                let words: &[&str] = if cfg!(target_os = "macos") {
                    &["delete-generic-password", "-s", SERVICE, "-a", name]
                } else {
                    &["clear", "service", SERVICE, "account", name]
                };
                command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
                let ended = tokio::time::timeout(SYSTEM_TIME, command.status()).await.map_err(io::Error::other)??;
                if ended.success() { Ok(()) } else { Err(io::Error::other(format!("{program} failed"))) }
            }
        }
    }

    pub(super) fn not_kept(&self, name: &str) -> CredentialError {
        CredentialError::NotKept { name: name.to_owned(), file: self.path(name), looked: PROGRAM }
    }

    /// Keeps a credential in the file that stands for a keychain, in place of an older one; never half of it.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or the file cannot be written.
    pub fn keep(&self, name: &str, secret: &SecretString) -> io::Result<()> {
        self.write(name, secret, |unfinished, file| std::fs::rename(unfinished, file))
    }

    /// Writes a file beside the one of this name, and lets `place` put it there.
    fn write(&self, name: &str, secret: &SecretString, place: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        make_private_folder(&self.folder)?;
        let unfinished = self.folder.join(format!(".{name}.{}", std::process::id()));
        let written = write_private(&unfinished, secret.expose_secret().as_bytes());
        written.and_then(|()| place(&unfinished, &self.path(name))).inspect_err(|_| {
            // What could not be finished must not stay behind.
            let _ = std::fs::remove_file(&unfinished);
        })
    }
}

/// What a name of the keychain holds.
#[derive(Debug, Clone)]
pub enum Looked {
    /// Nothing, as far as can be seen.
    Absent,
    /// This credential.
    Held(SecretString),
    /// Something that cannot be read: the name is not free.
    Occupied,
}

/// What the operating system's keychain holds under a name.
enum SystemLook {
    Absent,
    Held(SecretString),
    /// There is no such keychain, or it does not answer.
    Unreachable,
}

/// Where a credential was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The operating system's keychain, through this program.
    System(&'static str),
    /// The file that stands for one.
    File(PathBuf),
}

/// Longest that the operating system's program may take: it may ask the user.
const SYSTEM_TIME: Duration = Duration::from_secs(60);

/// `security` exits with this where there is no such entry (`errSecItemNotFound`, -25300, as the program's exit code).
const NOT_FOUND: i32 = 44;

/// Looks a name up with the operating system's program.
async fn system_look(name: &str) -> SystemLook {
    let argv = Keychain::command(name);
    let mut command = tokio::process::Command::new(&argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let Ok(Ok(ended)) = tokio::time::timeout(SYSTEM_TIME, command.output()).await else { return SystemLook::Unreachable };
    let text = Zeroizing::new(ended.stdout);
    if ended.status.success() {
        return match std::str::from_utf8(&text).map(str::trim) {
            Ok("") => SystemLook::Absent,
            Ok(secret) => SystemLook::Held(SecretString::from(secret)),
            Err(_) => SystemLook::Unreachable,
        };
    }
    // `secret-tool` fails without a word where there is no such entry, and with one where no keychain answers.
    let is_absent = if cfg!(target_os = "macos") { ended.status.code() == Some(NOT_FOUND) } else { ended.stderr.is_empty() };
    if is_absent { SystemLook::Absent } else { SystemLook::Unreachable }
}

/// Hands the credential to the operating system's program, and looks whether it is there.
async fn system_keeps(name: &str, secret: &SecretString) -> bool {
    let Some((arguments, input)) = keeping(name, secret) else { return false };
    let stored = tokio::time::timeout(SYSTEM_TIME, fed(&arguments, input.expose_secret().as_bytes())).await;
    if !matches!(stored, Ok(Ok(true))) {
        return false;
    }
    let found = Cache::default().run(&Keychain::command(name), Limits { timeout: SYSTEM_TIME, ..Limits::default() }).await;
    found.is_ok_and(|found| found.expose_secret() == secret.expose_secret())
}

/// The program's arguments, and what it reads from stdin; none where the credential cannot be told to it.
fn keeping(name: &str, secret: &SecretString) -> Option<(Vec<String>, SecretString)> {
    let text = secret.expose_secret();
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if !plain || text.is_empty() {
        return None;
    }
    if cfg!(target_os = "macos") {
        let line = format!("add-generic-password -U -s {SERVICE} -a {name} -w \"{text}\"\n");
        return Some((vec!["-i".to_owned()], SecretString::from(line)));
    }
    let words = ["store", "--label", &format!("hotspare {name}"), "service", SERVICE, "account", name].map(str::to_owned);
    Some((words.to_vec(), secret.clone()))
}

/// Runs the program with this input; whether it was content.
async fn fed(arguments: &[String], input: &[u8]) -> io::Result<bool> {
    let mut child = tokio::process::Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).await?;
        // Dropped here: the program reads to the end.
    }
    Ok(child.wait().await?.success())
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)
}

fn write_private(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Credential, Fingerprint, HeaderForm, Source};

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_is_kept_is_found_again_and_only_by_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keychain = Keychain::in_folder(folder.path().join("state/keychain"));
        keychain.keep("backup", &secret("sk-ant-test-1")).expect("kept");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&keychain.folder), mode(&keychain.path("backup"))), (0o700, 0o600));
        let credential = Credential::own(Source::Keychain(keychain.clone(), "backup".into()), Some(HeaderForm::Bearer));
        let (_, used) = credential.header().await.expect("found").expect("a header");
        assert_eq!(used.to_str().ok(), Some("Bearer sk-ant-test-1"));
        keychain.keep("backup", &secret("sk-ant-test-2")).expect("kept");
        assert!(credential.renew(Fingerprint::of(&used)).await, "a new one is used at once");
        assert_eq!(std::fs::read_dir(&keychain.folder).expect("the folder").count(), 1, "nothing is left behind");
        std::fs::set_permissions(keychain.path("backup"), std::fs::Permissions::from_mode(0o644)).expect("mode set");
        assert!(credential.header().await.is_err(), "others may read it");
    }

    #[tokio::test]
    async fn what_is_stored_is_found_wherever_it_was_put_and_a_strange_name_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keychain = Keychain::in_folder(folder.path().join("keychain"));
        // Quotes are for no command line: this one goes to the file on every machine.
        let place = keychain.store("odd", &secret("sk-\"ant\"-test")).await.expect("kept");
        assert_eq!(place, Place::File(keychain.path("odd")));
        let credential = Credential::own(Source::Keychain(keychain.clone(), "odd".into()), Some(HeaderForm::ApiKey));
        assert!(credential.header().await.is_ok());
        for name in ["", "../x", "-x", ".x", "a b", "a/b", &"x".repeat(101)] {
            assert!(keychain.store(name, &secret("x")).await.is_err(), "{name:?}");
        }
    }

    #[tokio::test]
    async fn keychain_add_keeps_what_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keychain = Keychain::in_folder(folder.path().join("keychain"));
        let held = |looked: Looked| if let Looked::Held(secret) = looked { secret.expose_secret().to_owned() } else { String::new() };
        assert!(matches!(keychain.look("glm").await, Looked::Absent));
        // A quote goes into no command line: this one is in the file on every machine.
        let place = keychain.add("glm", &secret("sk-\"test-1")).await.expect("stored");
        let error = keychain.add("glm", &secret("sk-test-2")).await.expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(held(keychain.look("glm").await), "sk-\"test-1");
        assert_eq!(std::fs::read_dir(&keychain.folder).expect("the folder").count(), 1, "nothing is left behind");
        keychain.take_back("glm", &secret("sk-test-2"), &place).await.expect("not ours");
        assert_eq!(held(keychain.look("glm").await), "sk-\"test-1", "another value stays");
        keychain.take_back("glm", &secret("sk-\"test-1"), &place).await.expect("removed");
        assert!(matches!(keychain.look("glm").await, Looked::Absent));
    }

    #[test]
    fn t9_a_credential_never_stands_in_an_argument() {
        let (arguments, input) = keeping("backup", &secret("sk-ant-test")).expect("it can be told");
        assert!(arguments.iter().all(|argument| !argument.contains("sk-ant")) && input.expose_secret().contains("sk-ant-test"));
        assert!(keeping("backup", &secret("two\nlines")).is_none() && keeping("backup", &secret("a\"b")).is_none());
    }

    #[tokio::test]
    async fn what_is_not_kept_is_said_with_both_places() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keychain = Keychain::in_folder(folder.path());
        let credential = Credential::own(Source::Keychain(keychain, "hotspare-test-none".into()), None);
        let words = credential.header().await.expect_err("nothing is there").to_string();
        assert!(words.contains("hotspare-test-none") && words.contains(PROGRAM), "{words}");
    }
}
