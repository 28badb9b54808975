//! Tells whether files have changed without reading them. Never says what has changed.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// What can be told of files by their names alone: it changes with every way of writing one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint(Vec<Option<(SystemTime, u64, u64)>>);

impl Fingerprint {
    /// Of these files as they are now; a link counts as what it leads to, and an absent file counts too.
    pub fn of(files: &[PathBuf]) -> Self {
        let one = |file: &PathBuf| {
            let meta = fs::metadata(file).ok()?;
            Some((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), number(&meta)))
        };
        Self(files.iter().map(one).collect())
    }
}

#[cfg(unix)]
fn number(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn number(_meta: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_a_file_is_seen() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let file = root.path().join("config.json");
        let look = || Fingerprint::of(std::slice::from_ref(&file));
        let none = look();
        fs::write(&file, "{}").expect("written");
        let first = look();
        fs::write(&file, "{} ").expect("written longer");
        let longer = look();
        fs::write(root.path().join("next"), "{1}").expect("written");
        fs::rename(root.path().join("next"), &file).expect("replaced");
        let replaced = look();
        fs::remove_file(&file).expect("removed");
        assert!(none != first && first != longer && longer != replaced);
        assert_eq!(look(), none);
    }
}
