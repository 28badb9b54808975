//! Looks whether rules that hold in some folders alone have an effect behind the service. Says nothing where there are none.

use hotspare_config::{Config, Locations};

use super::Running;
use super::check::Check;
use crate::folder_hooks::{self, FolderHooks, Trouble};
use crate::words;

const NAME: &str = "folders";

/// `None` where no rule holds in some folders alone.
pub(super) fn check(config: &Config, running: &[Running], locations: &Locations) -> Option<Check> {
    let behind = running.iter().filter_map(|one| one.status.as_ref()?.folders.as_ref());
    let told = behind.filter(|folders| folders.has_rules || folders.unknown_requests > 0).max_by_key(|folders| folders.unknown_requests);
    let rules = match (folder_hooks::rules(config), told) {
        (None, None) => return None,
        (Some(rules), _) => rules,
        (None, Some(_)) => "project files of other folders".to_owned(),
    };
    let hooks = FolderHooks::read(locations);
    if let Some(Trouble { what, effect, mend }) = hooks.trouble() {
        return Some(Check::warn(NAME, format!("{rules}, and {what}"), effect, mend));
    }
    if let Some(problem) = told.and_then(|told| told.folders.iter().find_map(|folder| folder.problems.first())) {
        let found = format!("a project file is left out: {}", words::fit(problem, usize::MAX, true));
        return Some(Check::warn(NAME, found, "the rest of the folder's rules hold", "hotspare status"));
    }
    let unknown = told.map_or(0, |told| told.unknown_requests);
    if unknown > 0 {
        let requests = words::several(unknown, "request", "requests");
        let found =
            format!("{requests} came from sessions whose folder is not known; {} refused", told.map_or(0, |told| told.refused_requests));
        let cause = "they reach only profiles that every chain allows: programs without Claude Code's hooks, or a client before 2.1.83";
        return Some(Check::warn(NAME, found, cause, "hotspare status"));
    }
    Some(match (hooks, told) {
        (FolderHooks::NotWired, None) => Check::ok(NAME, format!("{rules}, in force under `hotspare run`")),
        (_, None) => Check::ok(NAME, format!("{rules}, in force behind the service: its sessions name their folders")),
        (_, Some(told)) => {
            Check::ok(NAME, format!("{rules}, in force behind the service: {} known", words::several(told.sessions, "session", "sessions")))
        }
    })
}
