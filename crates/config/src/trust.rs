//! Remembers which project files the user agreed to, each by its path and the SHA-256 of its content. Never decides what an untrusted one
//! may do: that is for [`crate::narrow`].
//!
//! A pin is about one text at one place: the same text elsewhere, another text there, or a link to it is not trusted. Nothing in the
//! folder itself has a say, neither its name in git nor where its worktree belongs.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The store's folder in the state folder.
pub(crate) const TRUST_FOLDER: &str = "trust";

/// The version of a pin's shape.
const VERSION: u64 = 1;

/// Largest pin that is read; ours have a few hundred bytes.
const LARGEST_PIN: u64 = 64 * 1024;

/// What the user said of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trusted {
    /// It may set anything.
    Yes,
    /// Nothing.
    No,
    /// Yes to an earlier text at this place.
    Changed,
}

/// The pins of this user, one file each in the state folder.
#[derive(Debug, Clone)]
pub struct TrustStore {
    /// None: every text counts as trusted, to see what trust would do.
    folder: Option<PathBuf>,
}

impl TrustStore {
    /// The store in the state folder, whether it exists or not.
    pub fn new(state_dir: &Path) -> Self {
        Self { folder: Some(state_dir.join(TRUST_FOLDER)) }
    }

    /// A store that trusts everything and remembers nothing.
    pub(crate) fn of_everything() -> Self {
        Self { folder: None }
    }

    /// What the user said of this text at this place.
    ///
    /// # Errors
    ///
    /// When there is a pin that others could have written: it does not count.
    pub(crate) fn standing(&self, file: &Path, digest: &str) -> Result<Trusted, LoosePin> {
        let Some(pin) = self.pin_file(file) else { return Ok(Trusted::Yes) };
        let Some(text) = read_pin(&pin)? else { return Ok(Trusted::No) };
        let Ok(record) = serde_json::from_str::<Value>(&text) else { return Ok(Trusted::No) };
        let is_about = |file: &Path| record["version"] == VERSION && record["file"].as_str().map(Path::new) == Some(file);
        Ok(match record["sha256"].as_str() {
            Some(known) if is_about(file) && known == digest => Trusted::Yes,
            Some(_) if is_about(file) => Trusted::Changed,
            _ => Trusted::No,
        })
    }

    /// Trusts this text at this place; the file's path is absolute and without links.
    ///
    /// # Errors
    ///
    /// When the path is no text, or the state folder cannot be written.
    pub fn pin(&self, file: &Path, digest: &str) -> io::Result<()> {
        let path = file.to_str().ok_or_else(|| io::Error::other("the path is not UTF-8 text, and cannot be pinned"))?;
        let Some(pin) = self.pin_file(file) else { return Ok(()) };
        let Some(folder) = pin.parent() else { return Ok(()) };
        private_folder(folder)?;
        // The temporary file is made with mode 0600 whatever the umask says.
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        temporary.write_all(json!({ "version": VERSION, "file": path, "sha256": digest }).to_string().as_bytes())?;
        temporary.as_file().sync_all()?;
        temporary.persist(&pin).map_err(|error| error.error)?;
        Ok(())
    }

    /// Takes trust back; whether there was any.
    ///
    /// # Errors
    ///
    /// When the pin cannot be removed.
    pub fn unpin(&self, file: &Path) -> io::Result<bool> {
        let Some(pin) = self.pin_file(file) else { return Ok(false) };
        match fs::remove_file(pin) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the store's folder, so that it can be watched before there is a pin in it.
    ///
    /// # Errors
    ///
    /// When the state folder cannot be written.
    pub fn make(&self) -> io::Result<()> {
        self.folder.as_deref().map_or(Ok(()), private_folder)
    }

    fn pin_file(&self, file: &Path) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{}.json", digest(file.as_os_str().as_encoded_bytes()))))
    }
}

/// A pin that others could have written.
#[derive(Debug)]
pub(crate) struct LoosePin(pub(crate) PathBuf);

/// SHA-256 in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    })
}

/// A pin's text; what is judged is what is read: the open file, not the path.
fn read_pin(pin: &Path) -> Result<Option<String>, LoosePin> {
    let mut options = OpenOptions::new();
    options.read(true);
    refuse_links(&mut options);
    let file = match options.open(pin) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(LoosePin(pin.to_owned())),
    };
    if !file.metadata().is_ok_and(|meta| is_private(&meta)) {
        return Err(LoosePin(pin.to_owned()));
    }
    let mut text = String::new();
    match file.take(LARGEST_PIN).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(_) => Err(LoosePin(pin.to_owned())),
    }
}

#[cfg(unix)]
fn refuse_links(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options.custom_flags(flags.bits().cast_signed());
}

#[cfg(unix)]
fn is_private(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & WRITABLE_BY_OTHERS == 0
}

#[cfg(unix)]
fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn refuse_links(_options: &mut OpenOptions) {}

#[cfg(not(unix))]
fn is_private(meta: &fs::Metadata) -> bool {
    meta.is_file()
}

#[cfg(not(unix))]
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn store() -> (tempfile::TempDir, TrustStore) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = TrustStore::new(&folder.path().join("state"));
        (folder, store)
    }

    fn standing(store: &TrustStore, file: &str, text: &str) -> Option<Trusted> {
        store.standing(Path::new(file), &digest(text.as_bytes())).ok()
    }

    #[test]
    fn a_digest_is_sha_256() {
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_pin_is_about_one_text_at_one_place() {
        let (_folder, store) = store();
        assert_eq!(standing(&store, "/p/a", "one"), Some(Trusted::No));
        store.pin(Path::new("/p/a"), &digest(b"one")).expect("written");
        assert_eq!(standing(&store, "/p/a", "one"), Some(Trusted::Yes));
        assert_eq!(standing(&store, "/p/a", "two"), Some(Trusted::Changed));
        assert_eq!(standing(&store, "/p/b", "one"), Some(Trusted::No));
        assert!(store.unpin(Path::new("/p/a")).expect("removed"));
        assert!(!store.unpin(Path::new("/p/a")).expect("nothing to remove"));
        assert_eq!(standing(&store, "/p/a", "one"), Some(Trusted::No));
    }

    #[test]
    fn t9_pins_are_private_and_a_loose_one_does_not_count() {
        let (folder, store) = store();
        let file = Path::new("/p/a");
        store.pin(file, &digest(b"one")).expect("written");
        let pin = store.pin_file(file).expect("a real store");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&pin), mode(pin.parent().expect("a folder"))), (0o600, 0o700));
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o622)).expect("loosened");
        assert_eq!(standing(&store, "/p/a", "one"), None);
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).expect("tightened");
        assert_eq!(standing(&store, "/p/a", "one"), Some(Trusted::Yes));
        // A link to a pin of one's own is no pin.
        let elsewhere = folder.path().join("elsewhere.json");
        fs::rename(&pin, &elsewhere).expect("moved");
        symlink(&elsewhere, &pin).expect("linked");
        assert_eq!(standing(&store, "/p/a", "one"), None);
    }

    #[test]
    fn a_pin_that_was_moved_or_damaged_says_nothing() {
        let (_folder, store) = store();
        store.pin(Path::new("/p/a"), &digest(b"one")).expect("written");
        let pin = |file: &str| store.pin_file(Path::new(file)).expect("a real store");
        fs::copy(pin("/p/a"), pin("/p/b")).expect("copied");
        assert_eq!(standing(&store, "/p/b", "one"), Some(Trusted::No), "it names another file");
        for text in ["", "{", "null", r#"{"version":2,"file":"/p/a","sha256":"x"}"#, r#"{"version":1,"file":"/p/a"}"#, "\u{0}"] {
            fs::write(pin("/p/a"), text).expect("damaged");
            assert_eq!(standing(&store, "/p/a", "one"), Some(Trusted::No), "{text}");
        }
    }
}
