//! Holds the configurations of the folders that clients work in, so that one service serves projects with different rules. Never holds
//! more than a few, and never reads one again that has not changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::compile::Config;
use crate::context::Context;
use crate::diagnostic::Errors;
use crate::fingerprint::Fingerprint;
use crate::layers;
use crate::locations::Locations;

/// The header in which a client's folder travels; it ends at the proxy.
pub const FOLDER_HEADER: &str = "x-hotspare-cwd";

/// Most folders that are remembered.
const MOST_FOLDERS: usize = 64;

/// Longest path that is read, in bytes of the header.
const LONGEST: usize = 16 * 1024;

/// A folder's files are looked at no more often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The configurations of folders.
pub struct Folders {
    locations: Locations,
    context: Context,
    /// The one that was asked for last stands last.
    known: Mutex<Vec<Known>>,
}

struct Known {
    cwd: PathBuf,
    seen: Fingerprint,
    looked: Instant,
    outcome: Result<Arc<Config>, Arc<Errors>>,
}

impl Folders {
    /// For folders in which everything but the working directory is as in `context`.
    pub fn new(locations: Locations, context: Context) -> Self {
        Self { locations, context, known: Mutex::default() }
    }

    /// The configuration of a folder; the same `Arc` as long as nothing has changed.
    ///
    /// # Errors
    ///
    /// As [`crate::load`].
    pub fn compile_for(&self, now: Instant, cwd: &Path) -> Result<Arc<Config>, Arc<Errors>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().position(|known| known.cwd == cwd).map(|place| known.remove(place));
        let entry = match found {
            Some(entry) if now.saturating_duration_since(entry.looked) < LOOK_EVERY => entry,
            found => self.looked_at(now, cwd, found),
        };
        let outcome = entry.outcome.clone();
        known.push(entry);
        if known.len() > MOST_FOLDERS {
            known.remove(0);
        }
        outcome
    }

    fn looked_at(&self, now: Instant, cwd: &Path, known: Option<Known>) -> Known {
        let context = self.context.in_folder(cwd);
        // Before it is read: a change meanwhile is seen the next time.
        let seen = Fingerprint::of(&layers::candidates(&self.locations, &context));
        match known {
            Some(known) if known.seen == seen => Known { looked: now, ..known },
            _ => {
                let outcome = crate::load(&self.locations, &context).map(Arc::new).map_err(Arc::new);
                Known { cwd: cwd.to_owned(), seen, looked: now, outcome }
            }
        }
    }
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
