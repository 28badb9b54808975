//! Holds the configurations of the folders that clients work in, so that one service serves projects with different rules. Never holds
//! more than a few, and never reads one again that has not changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::compile::Config;
use crate::context::Context;
use crate::diagnostic::Errors;
use crate::fingerprint::Fingerprint;
use crate::layers;
use crate::lenient::{LeftOut, load_leniently};
use crate::locations::Locations;

/// The header in which a client's folder travels; it ends at the proxy.
pub const FOLDER_HEADER: &str = "x-hotspare-cwd";

/// Most folders that are remembered.
const MOST_FOLDERS: usize = 64;

/// Longest path that is read, in bytes of the header.
const LONGEST: usize = 16 * 1024;

/// A folder's files are looked at no more often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What holds in a folder.
#[derive(Debug, Clone)]
pub struct FolderConfig {
    /// Its configuration; the same `Arc` as long as nothing has changed. `None` if it never had a valid one.
    pub config: Option<Arc<Config>>,
    /// The project files that are faulty, of which nothing or their last good text is in force.
    pub left_out: Arc<[LeftOut]>,
    /// Why the configuration could not be read; the last good one is in force, if there was any.
    pub errors: Option<Arc<Errors>>,
}

/// The configurations of folders.
pub struct Folders {
    locations: Locations,
    context: Context,
    /// The one that was asked for last stands last. Never held while a file is read: that may take long.
    known: Mutex<Vec<Known>>,
}

#[derive(Clone)]
struct Known {
    cwd: PathBuf,
    seen: Fingerprint,
    /// When its files were last looked at; `None` if that does not count any more.
    looked: Option<Instant>,
    outcome: FolderConfig,
}

impl Folders {
    /// For folders in which everything but the working directory is as in `context`.
    pub fn new(locations: Locations, context: Context) -> Self {
        Self { locations, context, known: Mutex::default() }
    }

    /// What is known of a folder without looking at its files, and whether they were looked at within `LOOK_EVERY`.
    pub fn known(&self, now: Instant, cwd: &Path) -> Option<(FolderConfig, bool)> {
        let mut known = self.lock();
        let place = known.iter().position(|known| known.cwd == cwd)?;
        let entry = known.remove(place);
        let is_fresh = entry.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_EVERY);
        let outcome = entry.outcome.clone();
        known.push(entry);
        Some((outcome, is_fresh))
    }

    /// What holds in a folder, by its files as they are now. Waits for the disk.
    pub fn look(&self, now: Instant, cwd: &Path) -> FolderConfig {
        let before = self.lock().iter().find(|known| known.cwd == cwd).cloned();
        let entry = self.looked_at(now, cwd, before);
        let outcome = entry.outcome.clone();
        let mut known = self.lock();
        known.retain(|known| known.cwd != cwd);
        known.push(entry);
        if known.len() > MOST_FOLDERS {
            known.remove(0);
        }
        outcome
    }

    /// Has the files of every folder looked at again before they count: the user's own configuration has changed.
    pub fn look_again(&self) {
        self.lock().iter_mut().for_each(|known| known.looked = None);
    }

    /// The configuration of a folder, without project files that are faulty; the same `Arc` as long as nothing has changed.
    ///
    /// # Errors
    ///
    /// As [`load_leniently`], where it never had a valid one.
    pub fn compile_for(&self, now: Instant, cwd: &Path) -> Result<Arc<Config>, Arc<Errors>> {
        let outcome = match self.known(now, cwd) {
            Some((outcome, true)) => outcome,
            _ => self.look(now, cwd),
        };
        match (outcome.config, outcome.errors) {
            (Some(config), _) => Ok(config),
            (None, errors) => Err(errors.unwrap_or_else(|| Arc::new(Errors(Vec::new())))),
        }
    }

    fn looked_at(&self, now: Instant, cwd: &Path, known: Option<Known>) -> Known {
        let context = self.context.in_folder(cwd);
        // Before it is read: a change meanwhile is seen the next time.
        let seen = Fingerprint::of(&layers::candidates(&self.locations, &context));
        if let Some(known) = known.as_ref().filter(|known| known.seen == seen) {
            return Known { looked: Some(now), ..known.clone() };
        }
        let last_good = known.and_then(|known| known.outcome.config);
        let outcome = match load_leniently(&self.locations, &context, &texts(last_good.as_deref())) {
            Ok((config, left_out)) => FolderConfig { config: Some(Arc::new(config)), left_out: left_out.into(), errors: None },
            Err(errors) => FolderConfig { config: last_good, left_out: Arc::from([]), errors: Some(Arc::new(errors)) },
        };
        Known { cwd: cwd.to_owned(), seen, looked: Some(now), outcome }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The texts of the project files that had a say.
fn texts(config: Option<&Config>) -> Vec<(PathBuf, Arc<str>)> {
    let projects = config.map(|config| config.projects.as_slice()).unwrap_or_default();
    projects.iter().filter_map(|project| Some((project.file.clone(), project.text.clone()?))).collect()
}

/// A folder as a header's value: everything but plain characters in `%XX`.
pub fn folder_to_header(cwd: &Path) -> String {
    use std::fmt::Write as _;
    let mut value = String::new();
    for byte in cwd.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~:\\".contains(byte) {
            value.push(char::from(*byte));
        } else {
            write!(value, "%{byte:02X}").expect("a string takes all");
        }
    }
    value
}

/// The folder in a header's value; none if it is no absolute path.
pub fn folder_from_header(value: &[u8]) -> Option<PathBuf> {
    if value.len() > LONGEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let byte = if *first == b'%' {
            let (digits, more) = rest.split_at_checked(2)?;
            rest = more;
            u8::from_str_radix(std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?, 16)
                .ok()?
        } else {
            *first
        };
        // No path has one, and nobody shall read a shorter one.
        bytes.push(Some(byte).filter(|byte| *byte != 0)?);
    }
    let path = path_of(bytes)?;
    path.is_absolute().then_some(path)
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere not every sequence of bytes is a path")]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Some(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_travels_in_a_header() {
        for path in ["/home/me/src", "/with space/é/100%", "/a\nb\tc", "/"] {
            let value = folder_to_header(Path::new(path));
            assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{value}");
            assert_eq!(folder_from_header(value.as_bytes()).as_deref(), Some(Path::new(path)));
        }
        for wrong in ["", "relative", "%", "/%4", "/%zz", "/%+1", "/a%00b"] {
            assert_eq!(folder_from_header(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(folder_from_header(&vec![b'/'; LONGEST + 1]), None);
    }
}
