//! Looks who may read and change hotspare's own files, and with `--fix` takes that from everybody else. Never touches a file that is not
//! hotspare's, never follows a link, and says the way back of each change.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hotspare_config::Locations;

use super::check::Check;

/// Nobody else reads or writes.
const PRIVATE: u32 = 0o077;

/// Nobody else writes.
const UNWRITABLE: u32 = 0o022;

/// Most files of the state folder that are looked at: a handful, and one for each gateway and trusted project.
const FILES: usize = 1000;

/// One file that others may do too much with.
struct Loose {
    path: PathBuf,
    mode: u32,
    /// These bits are to go.
    excess: u32,
    /// Somebody else owns it: nothing here can mend that.
    foreign: bool,
}

/// Modes and owners, mended where that is asked for.
pub(super) fn modes(locations: &Locations, fix: bool) -> Check {
    let loose = look(locations);
    let Some(first) = loose.first() else {
        return Check::ok("files", format!("{} and the configuration are yours alone to change", locations.state_dir.display()));
    };
    if let Some(foreign) = loose.iter().find(|loose| loose.foreign) {
        let path = foreign.path.display();
        let cause = "whoever owns it can read and replace it";
        return Check::fail("files", format!("{path} belongs to another user"), cause, format!("ls -l {path}"));
    }
    if fix {
        return mended(&loose);
    }
    let more = loose.len() - 1;
    let found = format!("{} has mode {:o}", first.path.display(), first.mode);
    let found = if more == 0 { found } else { format!("{found}, and {more} more are as open") };
    let cause = "other users of this machine can read the local token, or change what is configured";
    Check::fail("files", found, cause, "hotspare doctor --fix")
}

fn mended(loose: &[Loose]) -> Check {
    let mut done = Vec::new();
    for one in loose {
        let (path, mode) = (one.path.display(), one.mode & !one.excess);
        match fs::set_permissions(&one.path, Permissions::from_mode(mode)) {
            Ok(()) => done.push(format!("{path}: mode {:o} is now {mode:o}; undo: chmod {:o} {path}", one.mode, one.mode)),
            Err(error) => {
                let mut check =
                    Check::fail("files", format!("{path}: {error}"), "its mode could not be changed", format!("chmod {mode:o} {path}"));
                check.fixed = done;
                return check;
            }
        }
    }
    let mut check = Check::ok("files", "what others could read or change is yours alone now");
    check.fixed = done;
    check
}

fn look(locations: &Locations) -> Vec<Loose> {
    let mut loose = Vec::new();
    let mut folders = vec![locations.state_dir.clone()];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        note(&folder, PRIVATE, &mut loose);
        for path in fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            looked += 1;
            if looked > FILES {
                return loose;
            }
            match fs::symlink_metadata(&path) {
                Ok(data) if data.is_dir() => folders.push(path),
                Ok(data) if data.is_file() => note(&path, PRIVATE, &mut loose),
                _ => {}
            }
        }
    }
    note(&locations.config_file, UNWRITABLE, &mut loose);
    loose.sort_by(|one, other| one.path.cmp(&other.path));
    loose
}

fn note(path: &Path, forbidden: u32, loose: &mut Vec<Loose>) {
    let Ok(data) = fs::symlink_metadata(path) else { return };
    if data.is_symlink() {
        return;
    }
    let mode = data.permissions().mode() & 0o7777;
    let foreign = is_foreign(&data);
    let excess = mode & forbidden;
    if foreign || excess != 0 {
        loose.push(Loose { path: path.to_owned(), mode, excess, foreign });
    }
}

/// What root owns is as good as one's own: it could do all of it anyway.
fn is_foreign(data: &Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    data.uid() != own && data.uid() != 0
}
