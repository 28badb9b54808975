//! Where other tools keep the endpoints and keys of a user: what `profile import` reads without being given a path.

use std::fs;
use std::path::{Path, PathBuf};

/// Most files of one folder that are looked at.
const MAX_FILES: usize = 64;

/// The files of tools, below the home folder.
const FILES: [(&str, &str); 13] = [
    ("teamclaude", ".config/teamclaude.json"),
    ("claude-code-router", ".claude-code-router/config.sqlite"),
    ("claude-code-router", ".claude-code-router/config.json"),
    ("cc-switch", ".cc-switch/cc-switch.db"),
    ("cc-switch", ".cc-switch/config.json"),
    ("better-ccflare", ".config/better-ccflare/better-ccflare.db"),
    ("better-ccflare", "Library/Application Support/better-ccflare/better-ccflare.db"),
    ("ccflare", ".config/ccflare/ccflare.db"),
    ("ccflare", "Library/Application Support/ccflare/ccflare.db"),
    ("LiteLLM", "litellm_config.yaml"),
    ("LiteLLM", ".litellm/config.yaml"),
    ("LiteLLM", ".config/litellm/config.yaml"),
    ("LiteLLM", "litellm/config.yaml"),
];

/// Start files of shells, below the home folder.
const SHELL_FILES: [&str; 13] = [
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".bash_aliases",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".zlogin",
    ".zsh_aliases",
    ".aliases",
    ".envrc",
    ".config/fish/config.fish",
];

/// Folders whose `*.fish` files fish reads.
const FISH_FOLDERS: [&str; 2] = [".config/fish/conf.d", ".config/fish/functions"];

/// A file of another tool that `profile import` can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolSource {
    /// The tool, as it calls itself; `shell` for the start file of one.
    pub tool: &'static str,
    /// The file.
    pub file: PathBuf,
}

/// The files of tools that exist.
pub(crate) fn tool_files(home: &Path) -> Vec<ToolSource> {
    FILES.iter().map(|(tool, file)| ToolSource { tool, file: home.join(file) }).filter(|found| found.file.is_file()).collect()
}

/// The start files of shells that exist, in the order in which shells read them.
pub(crate) fn shell_files(home: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = SHELL_FILES.iter().map(|file| home.join(file)).collect();
    for folder in FISH_FOLDERS {
        let entries = fs::read_dir(home.join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut fish: Vec<PathBuf> =
            entries.filter(|file| file.extension().is_some_and(|extension| extension == "fish")).take(MAX_FILES).collect();
        fish.sort();
        files.extend(fish);
    }
    files.retain(|file| file.is_file());
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_tools_and_shells_are_found() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let write = |file: &str| {
            let file = home.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, "").expect("written");
        };
        assert_eq!((tool_files(home.path()), shell_files(home.path())), (Vec::new(), Vec::new()));
        for file in
            [".cc-switch/cc-switch.db", ".zshenv", ".config/fish/conf.d/claude.fish", "Library/Application Support/ccflare/ccflare.db"]
        {
            write(file);
        }
        let tools: Vec<&str> = tool_files(home.path()).iter().map(|found| found.tool).collect();
        assert_eq!(tools, ["cc-switch", "ccflare"]);
        let shells = shell_files(home.path());
        assert_eq!(shells, [home.path().join(".zshenv"), home.path().join(".config/fish/conf.d/claude.fish")]);
    }
}
