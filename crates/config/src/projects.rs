//! Finds and opens the files that a project brings along. Never follows a link, never reads a device, a pipe or another user's file: what
//! a checked-out folder holds was put there by somebody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotspare_core::ModelPattern;

use crate::codes;
use crate::context::Context;
use crate::diagnostic::{Diagnostic, Errors, Severity};
use crate::layers::Layer;
use crate::reader::Findings;
use crate::source::{self, Place};
use crate::trust::{self, LoosePin, TrustStore, Trusted};

/// Most folders above the working directory that are looked at.
const MOST_FOLDERS: usize = 64;

/// The folder of ours in a project.
const OWN: &str = ".hotspare";

/// Claude Code's folder in a project.
const CLAUDES: &str = ".claude";

/// Largest text of a project file that is kept, to stand in for a later one that is broken. Bytes; such a file has a few hundred.
const MAX_KEPT_TEXT: usize = 64 * 1024;

/// A project file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Absolute, without links.
    pub file: PathBuf,
    /// [`Layer::Project`] or [`Layer::LocalProject`].
    pub layer: Layer,
    /// What the user said of its text.
    pub trusted: Trusted,
    /// SHA-256 of the text that was read; of the policy alone in Claude Code's settings.
    pub digest: String,
    /// What it wanted beyond narrowing and did not get, in words.
    pub refused: Vec<String>,
    /// The whole text of the file; `None` if it is larger than [`MAX_KEPT_TEXT`].
    pub(crate) text: Option<Arc<str>>,
}

impl Project {
    /// The part of the file's text that counts is what trust is about.
    pub(crate) fn new(file: &Path, layer: Layer, (part, whole): (&str, &str), store: &TrustStore, findings: &mut Findings) -> Self {
        let digest = trust::digest(part.as_bytes());
        let trusted = store.standing(file, &digest).unwrap_or_else(|LoosePin(pin)| {
            findings.warnings.push(loose(&pin));
            Trusted::No
        });
        let text = (whole.len() <= MAX_KEPT_TEXT).then(|| Arc::from(whole));
        Self { file: file.to_owned(), layer, trusted, digest, refused: Vec::new(), text }
    }
}

/// The files of one layer in one folder.
pub(crate) struct Files {
    pub(crate) layer: Layer,
    pub(crate) folder: PathBuf,
    /// hotspare's own.
    pub(crate) own: PathBuf,
    /// Claude Code's.
    pub(crate) claude: PathBuf,
}

impl Files {
    pub(crate) fn of(layer: Layer, folder: &Path) -> Self {
        let (own, claude) = match layer {
            Layer::LocalProject => ("config.local.json", "settings.local.json"),
            _ => ("config.json", "settings.json"),
        };
        Self { layer, folder: folder.to_owned(), own: folder.join(OWN).join(own), claude: folder.join(CLAUDES).join(claude) }
    }
}

/// The working directory and the folders above it, the outermost first. Below home they end there: home's own files are the user's.
pub(crate) fn folders(cwd: &Path, home: &Path) -> Vec<PathBuf> {
    let Ok(cwd) = cwd.canonicalize() else { return Vec::new() };
    let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    let mut folders: Vec<PathBuf> = cwd.ancestors().take_while(|folder| *folder != home).take(MOST_FOLDERS).map(Path::to_owned).collect();
    folders.reverse();
    folders
}

/// Whether a working directory is where a pattern says: `~/src/bank` is that folder, `~/src/bank/**` that and all below it, and `*`
/// stands for any one name. Links on the way to the first `*` count as what they lead to.
pub(crate) fn is_within(cwd: &Path, pattern: &str, home: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let whole = match pattern.strip_prefix('~') {
        Some(rest) => home.join(rest.trim_start_matches('/')),
        None => PathBuf::from(pattern),
    };
    let names: Vec<_> = whole.components().collect();
    let plain = names.iter().take_while(|name| !name.as_os_str().to_string_lossy().contains('*')).count();
    let start = real(&names[..plain].iter().collect::<PathBuf>());
    let Ok(below) = real(cwd).strip_prefix(&start).map(Path::to_owned) else { return false };
    let wanted: Vec<String> = names[plain..].iter().map(|name| name.as_os_str().to_string_lossy().into_owned()).collect();
    let found: Vec<String> = below.components().map(|name| name.as_os_str().to_string_lossy().into_owned()).collect();
    cwd.is_absolute() && fits(&wanted, &found)
}

fn fits(wanted: &[String], found: &[String]) -> bool {
    match wanted.split_first() {
        None => found.is_empty(),
        Some((name, rest)) if name == "**" => (0..=found.len()).any(|skipped| fits(rest, &found[skipped..])),
        Some((name, rest)) => found.split_first().is_some_and(|(first, more)| ModelPattern::new(name).matches(first) && fits(rest, more)),
    }
}

/// The text of a file of ours; none if there is none or it is not read for the reason that the warning names.
pub(crate) fn read(folder: &Path, file: &Path, context: &Context, layer: Layer, findings: &mut Findings) -> Result<Option<String>, Errors> {
    if context.leaves_out(file) {
        return Ok(None);
    }
    if let Some(text) = context.text_in_place_of(file) {
        return Ok(Some(text.to_owned()));
    }
    let place = Place::new(layer, file);
    match open(folder, file) {
        Opened::Absent => Ok(None),
        Opened::File(opened) => Ok(Some(source::text_of(&place, opened)?)),
        Opened::Refused(code, why) => {
            findings.warnings.push(not_read(&place, code, why));
            Ok(None)
        }
        Opened::Failed(error) => Err(source::unreadable(&place, &error).into()),
    }
}

/// The text of Claude Code's settings in the folder. What is wrong with them is the client's to say.
pub(crate) fn read_foreign(folder: &Path, file: &Path, context: &Context) -> Option<String> {
    if context.leaves_out(file) {
        return None;
    }
    if let Some(text) = context.text_in_place_of(file) {
        return Some(text.to_owned());
    }
    let Opened::File(opened) = open(folder, file) else { return None };
    source::text_of(&Place::new(Layer::Project, file), opened).ok()
}

fn not_read(place: &Place, code: codes::Code, why: &str) -> Diagnostic {
    let mut warning = Diagnostic::about(Severity::Warning, code, &place.path, format!("the project's file is not read: {why}"));
    warning.help("make it a plain file of your own, or remove it");
    warning.in_layer(place.layer)
}

fn loose(pin: &Path) -> Diagnostic {
    let title = "a record of trust could have been written by others, and does not count";
    let mut warning = Diagnostic::about(Severity::Warning, codes::TRUST_RECORD, pin, title);
    warning.help("remove it, look at the project's file, and trust it again: `hotspare trust`");
    warning
}

enum Opened {
    Absent,
    File(std::fs::File),
    /// With the reason.
    Refused(codes::Code, &'static str),
    Failed(std::io::Error),
}

const A_LINK: &str = "it is a symbolic link, or stands in a folder that is one";
const NO_FILE: &str = "it is no plain file";
const NOT_YOURS: &str = "it belongs to another user";

/// Opens the file step by step from its folder, so that nothing on the way can be swapped for a link; judges what was opened.
#[cfg(unix)]
fn open(folder: &Path, file: &Path) -> Opened {
    use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
    use rustix::io::Errno;
    let below = file.strip_prefix(folder).expect("the file stands below its folder");
    let (Some(inner), Some(name)) = (below.parent(), below.file_name()) else { return Opened::Absent };
    let failed = |errno: Errno| match errno {
        Errno::NOENT => Opened::Absent,
        Errno::LOOP | Errno::MLINK => Opened::Refused(codes::NOT_A_PLAIN_FILE, A_LINK),
        errno => Opened::Failed(errno.into()),
    };
    let folder_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = match openat(CWD, folder.join(inner), folder_flags, Mode::empty()) {
        Ok(inner) => inner,
        // A link, or a file of that name: either way no folder of ours.
        Err(Errno::NOTDIR) if folder.join(inner).is_symlink() => return Opened::Refused(codes::NOT_A_PLAIN_FILE, A_LINK),
        Err(Errno::NOTDIR) => return Opened::Absent,
        Err(errno) => return failed(errno),
    };
    // Not blocking: a pipe without a writer would hold us for ever.
    let file_flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match openat(&inner, name, file_flags, Mode::empty()) {
        Ok(opened) => opened,
        // A socket, or a device without a driver.
        Err(Errno::NXIO | Errno::NODEV) => return Opened::Refused(codes::NOT_A_PLAIN_FILE, NO_FILE),
        Err(errno) => return failed(errno),
    };
    match fstat(&opened) {
        Err(errno) => failed(errno),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => Opened::Refused(codes::NOT_A_PLAIN_FILE, NO_FILE),
        Ok(stat) if stat.st_uid != rustix::process::geteuid().as_raw() => Opened::Refused(codes::FOREIGN_FILE, NOT_YOURS),
        Ok(_) => Opened::File(opened.into()),
    }
}

#[cfg(not(unix))]
fn open(_folder: &Path, file: &Path) -> Opened {
    match std::fs::symlink_metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Opened::Absent,
        Err(error) => Opened::Failed(error),
        Ok(meta) if !meta.is_file() => Opened::Refused(codes::NOT_A_PLAIN_FILE, NO_FILE),
        Ok(_) => std::fs::File::open(file).map_or_else(Opened::Failed, Opened::File),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_folders() {
        let home = Path::new("/home/me");
        let within = |cwd: &str, pattern: &str| is_within(Path::new(cwd), pattern, home);
        assert!(within("/home/me/src/bank", "~/src/bank") && !within("/home/me/src/bank/a", "~/src/bank"));
        assert!(within("/home/me/src/bank", "~/src/bank/**") && within("/home/me/src/bank/a/b", "~/src/bank/**"));
        assert!(!within("/home/me/src/banks", "~/src/bank/**") && !within("/home/me/src", "~/src/bank/**"));
        assert!(within("/home/me/a/bank/x", "~/*/bank/**") && !within("/home/me/a/b/bank", "~/*/bank/**"));
        assert!(within("/x/y/bank-7/z", "/**/bank-*/**") && within("/home/me", "~") && within("/home/me/x", "~/**"));
        assert!(!within("", "~/**") && !within("/home/you/x", "~/**"));
        let root = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(root.path().join("data/bank")).expect("made");
        std::os::unix::fs::symlink(root.path().join("data"), root.path().join("src")).expect("linked");
        assert!(is_within(&root.path().join("data/bank"), "~/src/bank/**", root.path()), "a link is what it leads to");
        assert!(is_within(&root.path().join("src/bank"), "~/data/**", root.path()));
    }

    #[test]
    fn folders_end_below_home_and_the_outermost_comes_first() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let home = root.path().canonicalize().expect("it is there");
        let inner = home.join("src/project");
        std::fs::create_dir_all(&inner).expect("made");
        assert_eq!(folders(&inner, &home), [home.join("src"), inner.clone()]);
        assert_eq!(folders(&home, &home), Vec::<PathBuf>::new());
        let elsewhere = folders(&inner, Path::new("/nobody/here"));
        assert_eq!((elsewhere.first(), elsewhere.last()), (Some(&PathBuf::from("/")), Some(&inner)));
        assert_eq!(folders(&home.join("gone"), &home), Vec::<PathBuf>::new());
    }
}
