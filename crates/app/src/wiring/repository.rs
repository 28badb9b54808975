//! Finds out whether a settings file belongs to a git repository, as dotfiles do. What is written there reaches other machines by a commit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hotspare_config::link_target;

/// The work tree that this file is in, through links too. `None` if there is none, or if the repository ignores the file.
pub(crate) fn holding(file: &Path) -> Option<PathBuf> {
    let target = link_target(file).unwrap_or_else(|_| file.to_owned());
    let folder = target.parent()?.canonicalize().ok()?;
    let root = folder.ancestors().find(|folder| folder.join(".git").exists())?.to_owned();
    let name = folder.join(target.file_name()?);
    let ignored = Command::new("git")
        .arg("-C")
        .arg(&folder)
        .args(["check-ignore", "--quiet", "--"])
        .arg(name)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Without git nobody can say; then the file counts as one of the repository's.
    let is_ignored = ignored.is_ok_and(|status| status.success());
    (!is_ignored).then_some(root)
}
