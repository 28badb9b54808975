//! Remembers what was put into whose file, and what was there before. Never forgets a prior value while ours is in its place; readable by
//! its owner alone, since a prior value may be a secret.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::patch::State;
use super::{Part, steps};
use crate::state;

/// The file of the state folder that holds it.
const FILE: &str = "wiring.json";

/// Held by whoever changes something.
const LOCK: &str = "wiring.lock";

/// The version of its shape.
const VERSION: u32 = 1;

/// Most texts of one file that are known at once: the one before a change, the one after it, and those of two crashes.
pub(super) const MOST_STATES: usize = 4;

/// What is known of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wired {
    /// Folders that were made for it, outermost first.
    pub made_folders: Vec<PathBuf>,
    /// The texts that it may have, the latest first. More than one only while it is changed, or after a crash.
    pub states: Vec<State>,
}

impl Wired {
    /// The parts that have something in it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        self.states.iter().flat_map(|state| state.entries.iter().map(|entry| entry.part))
    }

    /// Takes note of the folders that are going to be made.
    pub(super) fn note_folders(&mut self, path: &Path) {
        let target = hotspare_config::link_target(path).unwrap_or_else(|_| path.to_owned());
        let mut missing: Vec<PathBuf> = target.ancestors().skip(1).take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        missing.reverse();
        self.made_folders.extend(missing);
    }
}

#[derive(Serialize, Deserialize)]
struct Shape {
    version: u32,
    files: BTreeMap<PathBuf, Wired>,
}

/// The receipt, opened by the one process that may change something now.
pub(crate) struct Open {
    file: PathBuf,
    files: BTreeMap<PathBuf, Wired>,
    /// Held until this is dropped; a crash lets it go too.
    _lock: Option<File>,
}

/// Opens the receipt, and waits for whoever has it.
pub(crate) fn open(state_dir: &Path) -> io::Result<Open> {
    let lock = state::private_file(&state_dir.join(LOCK))?;
    lock.lock()?;
    let open = Open { _lock: Some(lock), ..look(state_dir)? };
    super::sweep(&open.file);
    Ok(open)
}

/// Opens it to read: nothing is made, and nobody waits.
pub(crate) fn look(state_dir: &Path) -> io::Result<Open> {
    let file = state_dir.join(FILE);
    let told = |error: &dyn std::fmt::Display| io::Error::other(format!("`{}`: {error}", file.display()));
    let files = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(told(&error)),
        Ok(bytes) => {
            let shape: Shape = serde_json::from_slice(&bytes).map_err(|error| told(&error))?;
            if shape.version != VERSION {
                return Err(told(&"it was written by another version of hotspare"));
            }
            shape.files
        }
    };
    Ok(Open { file, files, _lock: None })
}

impl Open {
    /// What is known of a file.
    pub(crate) fn wired(&self, path: &Path) -> Wired {
        self.files.get(path).cloned().unwrap_or_default()
    }

    /// What is known of every file, to come back to it.
    pub(crate) fn all(&self) -> BTreeMap<PathBuf, Wired> {
        self.files.clone()
    }

    /// Every file that something of ours is in.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.keys().cloned()
    }

    /// Takes entries for granted that were found in a file which no receipt knows. Remembered with the next change.
    pub(crate) fn assume(&mut self, path: &Path, entries: Vec<super::patch::Entry>) {
        if !entries.is_empty() && !self.files.contains_key(path) {
            self.files.insert(path.to_owned(), Wired { made_folders: Vec::new(), states: vec![State::found(entries)] });
        }
    }

    pub(super) fn put(&mut self, path: &Path, wired: Wired) -> io::Result<()> {
        self.files.insert(path.to_owned(), wired);
        self.save()
    }

    pub(super) fn forget(&mut self, path: &Path) -> io::Result<()> {
        if self.files.remove(path).is_none() {
            return Ok(());
        }
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        if self.files.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            };
        }
        let text = serde_json::to_vec(&Shape { version: VERSION, files: self.files.clone() }).map_err(io::Error::other)?;
        steps::reached();
        state::write_private(&self.file, &text)
    }
}
