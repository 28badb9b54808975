//! Says which folders the sessions behind a gateway work in, and what holds there. Says nothing where no rule holds in some folders alone.

use hotspare_gateway::session_folder::{FolderStatus, FoldersStatus};

use crate::output::{Look, Style};
use crate::words;

/// Most folders that are shown.
const MAX_SHOWN: usize = 5;

/// What is said of folders, each line with its style.
pub(super) fn lines(folders: Option<&FoldersStatus>, home: Option<&str>, look: Look) -> Vec<(Style, String)> {
    let Some(folders) = folders else { return Vec::new() };
    let path = |path: &str| match home.and_then(|home| path.strip_prefix(home)) {
        Some(below) if below.is_empty() || below.starts_with('/') => format!("~{below}"),
        _ => path.to_owned(),
    };
    let mut lines = Vec::new();
    let ruled: Vec<&FolderStatus> = folders.folders.iter().filter(|folder| folder.ruled).collect();
    for folder in ruled.iter().take(MAX_SHOWN) {
        let sessions = words::several(folder.sessions, "session", "sessions");
        let profiles = folder.profiles.join(look.sign(" → ", " -> "));
        lines.push((Style::Dim, format!("{}: {sessions}, chain {} {profiles}", path(&folder.folder), folder.chain)));
    }
    if ruled.len() > MAX_SHOWN {
        lines.push((Style::Dim, format!("{} more with rules of their own", ruled.len() - MAX_SHOWN)));
    }
    let problems = folders.folders.iter().flat_map(|folder| &folder.problems);
    let mut told: Vec<&String> = Vec::new();
    for problem in problems {
        if !told.contains(&problem) {
            lines.push((Style::Yellow, path(problem)));
            told.push(problem);
        }
    }
    if folders.unknown_requests > 0 {
        let requests = words::several(folders.unknown_requests, "request", "requests");
        let refused = if folders.refused_requests > 0 { format!("; {} refused", folders.refused_requests) } else { String::new() };
        let words =
            format!("{requests} of sessions whose folder is not known: only what every chain allows{refused}; see: hotspare doctor");
        lines.push((Style::Yellow, words));
    }
    lines
}
