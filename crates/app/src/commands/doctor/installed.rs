//! Holds what `install` has put into other programs' files against what is there now. Never changes any of it: `install` and `uninstall` do.

use std::path::Path;

use hotspare_config::Locations;

use super::check::Check;
use crate::commands::service;
use crate::wiring::receipt::{self, Wired};
use crate::wiring::{self, Part, patch};
use crate::words;

/// What the receipt knows, file by file.
pub(super) fn checks(locations: &Locations) -> Vec<Check> {
    let receipt = match receipt::look(&locations.state_dir) {
        Ok(receipt) => receipt,
        Err(error) => {
            let cause = "what `install` has changed, and what was there before, is not known";
            return vec![Check::fail("install", error.to_string(), cause, "hotspare uninstall --all --check")];
        }
    };
    let files: Vec<_> = receipt.paths().map(|path| (receipt.wired(&path), path)).collect();
    let mut checks: Vec<Check> = files.iter().filter_map(|(wired, path)| changed(path, wired)).collect();
    let mut parts: Vec<Part> = files.iter().flat_map(|(wired, _)| wired.parts().collect::<Vec<_>>()).collect();
    parts.sort_unstable();
    parts.dedup();
    if !parts.contains(&Part::Service)
        && let Some(left) = service::leftovers(locations).first()
    {
        let cause = "it is no part of what `install` knows, and would start another program";
        checks.push(Check::warn("install", format!("{} is there", left.display()), cause, "hotspare install service"));
    }
    if checks.is_empty() {
        checks.push(if files.is_empty() {
            Check::ok("install", "nothing of hotspare is in other programs' files")
        } else {
            let names: Vec<&str> = parts.iter().map(|part| name(*part)).collect();
            let count = words::several(files.len() as u64, "file", "files");
            Check::ok("install", format!("{} in {count}, as they were put in", names.join(", ")))
        });
    }
    checks
}

/// Who has changed a file since, or whether a change of ours was interrupted.
fn changed(path: &Path, wired: &Wired) -> Option<Check> {
    let shown = path.display();
    let text = match wiring::read(path) {
        Ok(text) => text,
        Err(error) => {
            return Some(Check::fail(
                "install",
                format!("{shown}: {error}"),
                "what `install` put there cannot be checked",
                "hotspare install",
            ));
        }
    };
    let Some(text) = text else {
        let cause = "something of hotspare was in it";
        return Some(Check::warn("install", format!("{shown} is gone"), cause, "hotspare install    (or hotspare uninstall)"));
    };
    if wired.states.len() > 1 {
        let cause = "a change was interrupted; the next one finishes it or takes it back";
        return Some(Check::warn(
            "install",
            format!("{shown} is between two states"),
            cause,
            "hotspare install    (or hotspare uninstall)",
        ));
    }
    let Ok(pristine) = patch::pristine(path, &text, &wired.states) else {
        let cause = "the program that it belongs to cannot read it either";
        return Some(Check::fail("install", format!("{shown} cannot be understood"), cause, format!("mend {shown}")));
    };
    let left: Vec<String> = pristine.left.iter().map(|entry| entry.place.words()).collect();
    let cause = "somebody else has changed what `install` put there: sessions may go past hotspare";
    (!left.is_empty())
        .then(|| Check::warn("install", format!("{} in {shown} is not as it was put in", left.join(", ")), cause, "hotspare install"))
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Claude => "Claude Code's settings",
        Part::Service => "the service",
        Part::Statusline => "the status line",
        Part::Shell => "the shell",
    }
}
