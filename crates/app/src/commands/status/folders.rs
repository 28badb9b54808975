//! Says which folders the sessions behind a gateway work in, and what holds there. Says nothing where no rule holds in some folders alone.

use hotspare_gateway::session_folder::{FolderStatus, FoldersStatus};

use crate::folder_hooks::Trouble;
use crate::output::{Look, Style};
use crate::words;

/// Most folders that are shown.
const MAX_SHOWN: usize = 5;

/// What is said of folders, each line with its style.
pub(super) fn lines(folders: Option<&FoldersStatus>, trouble: Option<&Trouble>, home: Option<&str>, look: Look) -> Vec<(Style, String)> {
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
    if let Some(Trouble { what, effect, mend }) = trouble.filter(|_| folders.has_rules) {
        lines.push((Style::Yellow, format!("{what}: {effect}; to mend it: {mend}")));
    }
    if folders.has_rules && folders.sessions == 0 {
        lines.push((Style::Dim, "rules of folders hold; no session has named its folder yet".to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { paint: crate::output::Paint(false), unicode: true, width: None };

    fn folder(path: &str, ruled: bool, problems: &[&str]) -> FolderStatus {
        FolderStatus {
            folder: path.to_owned(),
            sessions: 2,
            ruled,
            chain: "chains[0]".to_owned(),
            rule: None,
            profiles: vec!["work".to_owned(), "spare".to_owned()],
            problems: problems.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn said(folders: &FoldersStatus, trouble: Option<&Trouble>) -> Vec<String> {
        lines(Some(folders), trouble, Some("/home/me"), PLAIN).into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn folders_without_rules_say_nothing() {
        let folders = FoldersStatus { sessions: 1, folders: vec![folder("/home/me/x", false, &[])], ..FoldersStatus::default() };
        assert_eq!(said(&folders, None), Vec::<String>::new());
        assert!(lines(None, None, None, PLAIN).is_empty());
    }

    #[test]
    fn folders_with_rules_name_chain_and_problems() {
        let problem = "/home/me/src/bank/.hotspare/config.json:3: no value; nothing of it holds";
        let folders = FoldersStatus {
            has_rules: true,
            sessions: 4,
            unknown_requests: 3,
            refused_requests: 1,
            folders: vec![folder("/home/me/src/bank", true, &[problem]), folder("/home/me2/x", true, &[problem])],
        };
        assert_eq!(
            said(&folders, None),
            [
                "~/src/bank: 2 sessions, chain chains[0] work → spare",
                "/home/me2/x: 2 sessions, chain chains[0] work → spare",
                "~/src/bank/.hotspare/config.json:3: no value; nothing of it holds",
                "3 requests of sessions whose folder is not known: only what every chain allows; 1 refused; see: hotspare doctor",
            ]
        );
    }

    #[test]
    fn folders_with_rules_and_no_hooks_say_so() {
        let folders = FoldersStatus { has_rules: true, ..FoldersStatus::default() };
        let trouble = Trouble { what: "it is off".to_owned(), effect: "no effect", mend: "mend it" };
        assert_eq!(
            said(&folders, Some(&trouble)),
            ["it is off: no effect; to mend it: mend it", "rules of folders hold; no session has named its folder yet"]
        );
    }
}
