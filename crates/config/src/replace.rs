//! Puts a new text in a file's place: whole or not at all. A link stays a link, a file keeps its mode, and a file that somebody else has
//! changed meanwhile stays as it is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// How the name of a text that is not yet in its place begins and ends. A crash may leave one behind.
const LEFTOVER: (&str, &str) = (".hotspare-", ".tmp");

/// Replaces the text of a file, which must still be `before`; an absent file counts as empty and is made for its owner alone.
///
/// # Errors
///
/// When the file cannot be written, or does not hold `before` any more. It is then as it was.
pub fn replace(file: &Path, before: &str, after: &str) -> io::Result<()> {
    Replacement::prepare(file, after)?.commit(before)
}

/// A text that stands beside the file whose place it shall take.
pub struct Replacement {
    target: PathBuf,
    temporary: NamedTempFile,
}

impl Replacement {
    /// Writes the text beside the file, with the file's mode; the folder is made where it is missing.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn prepare(file: &Path, after: &str) -> io::Result<Self> {
        let target = target(file)?;
        let folder = target.parent().ok_or_else(|| io::Error::other("the path has no folder"))?;
        fs::create_dir_all(folder)?;
        let mut temporary = tempfile::Builder::new().prefix(LEFTOVER.0).suffix(LEFTOVER.1).tempfile_in(folder)?;
        if let Ok(meta) = fs::metadata(&target) {
            temporary.as_file().set_permissions(meta.permissions())?;
        }
        temporary.write_all(after.as_bytes())?;
        temporary.as_file().sync_all()?;
        Ok(Self { target, temporary })
    }

    /// Puts it in place, if the file still holds `before`.
    ///
    /// # Errors
    ///
    /// When it does not, or cannot be replaced. It is then as it was.
    pub fn commit(self, before: &str) -> io::Result<()> {
        if current(&self.target)? != before.as_bytes() {
            return Err(io::Error::other("the file was changed by somebody else meanwhile; nothing was written"));
        }
        self.temporary.persist(&self.target).map_err(|error| error.error)?;
        // The new name must outlive a crash too; not every file system knows how.
        let _ = self.target.parent().map_or(Ok(()), |folder| File::open(folder).and_then(|folder| folder.sync_all()));
        Ok(())
    }
}

/// Whether a file of this name was left behind by a crash.
pub fn is_leftover(name: &str) -> bool {
    name.starts_with(LEFTOVER.0) && name.ends_with(LEFTOVER.1)
}

fn current(target: &Path) -> io::Result<Vec<u8>> {
    match fs::read(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome,
    }
}

/// Where a link leads, also where nothing is there yet; any other file is its own.
///
/// # Errors
///
/// When links lead in a circle.
pub fn target(file: &Path) -> io::Result<PathBuf> {
    match file.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(file) {
            Ok(link) => Ok(file.parent().unwrap_or(Path::new("")).join(link)),
            Err(_) => Ok(file.to_owned()),
        },
        outcome => outcome,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_link_stays_a_link_and_the_mode_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (real, link) = (folder.path().join("dotfiles/config.json"), folder.path().join("config.json"));
        fs::create_dir(real.parent().expect("a folder")).expect("made");
        fs::write(&real, "old").expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("set");
        symlink("dotfiles/config.json", &link).expect("linked");
        replace(&link, "old", "new").expect("replaced");
        assert!(link.is_symlink());
        assert_eq!((fs::read_to_string(&real).expect("read"), mode(&real)), ("new".to_owned(), 0o640));
        assert_eq!(fs::read_dir(real.parent().expect("a folder")).expect("listed").count(), 1, "nothing is left over");
    }

    #[test]
    fn a_new_file_is_its_owner_s_alone_also_behind_a_link() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("a/b/config.json");
        replace(&file, "", "{}").expect("made");
        assert_eq!((fs::read_to_string(&file).expect("read"), mode(&file)), ("{}".to_owned(), 0o600));
        let link = folder.path().join("link.json");
        symlink("a/later.json", &link).expect("linked");
        replace(&link, "", "{}").expect("made");
        assert!(link.is_symlink() && folder.path().join("a/later.json").is_file());
    }

    #[test]
    fn what_somebody_else_wrote_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.json");
        fs::write(&file, "theirs").expect("written");
        replace(&file, "mine", "new").expect_err("it is another text");
        assert_eq!(fs::read_to_string(&file).expect("read"), "theirs");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing is left over");
    }
}
