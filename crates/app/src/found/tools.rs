//! Where other tools keep the endpoints and keys of a user: what `profile import` reads without being given a path.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Most files of one folder that are looked at.
const MAX_FILES: usize = 64;

/// Largest start file of a shell that is looked into.
const FILE_CAP: u64 = 1024 * 1024;

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

/// Variables by which a start file says where Claude Code goes.
const SIGNS: [&str; 4] = ["ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"];

/// A file of another tool that `profile import` can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolFile {
    /// The tool, as it calls itself; `shell` for the start file of one.
    pub tool: &'static str,
    /// The file.
    pub file: PathBuf,
}

impl ToolFile {
    /// The command that imports it.
    #[cfg_attr(not(test), allow(dead_code, reason = "`init` names it"))]
    pub(crate) fn command(&self, home: &Path) -> String {
        let file = match self.file.strip_prefix(home) {
            Ok(rest) => format!("~/{}", rest.display()),
            Err(_) => self.file.display().to_string(),
        };
        let file = if file.contains(char::is_whitespace) { file.replace(' ', "\\ ") } else { file };
        format!("hotspare profile import {file}")
    }
}

/// The files of other tools below a home folder: those of tools, then the start files of shells that send Claude Code somewhere. Looks at
/// names, and into start files; nothing is run and nothing is written.
#[cfg_attr(not(test), allow(dead_code, reason = "`init` names what it finds"))]
pub(crate) fn other_tools(home: &Path) -> Vec<ToolFile> {
    let says_where = |file: &Path| text(file).is_some_and(|text| SIGNS.iter().any(|sign| text.contains(sign)));
    let shells = shell_files(home).into_iter().filter(|file| says_where(file)).map(|file| ToolFile { tool: "shell", file });
    tool_files(home).into_iter().chain(shells).collect()
}

/// The files of tools that exist.
pub(crate) fn tool_files(home: &Path) -> Vec<ToolFile> {
    FILES.iter().map(|(tool, file)| ToolFile { tool, file: home.join(file) }).filter(|found| found.file.is_file()).collect()
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

fn text(file: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(file).ok()?.take(FILE_CAP).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_tools_are_found_with_their_commands() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let write = |file: &str, text: &str| {
            let file = home.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, text).expect("written");
        };
        assert_eq!(other_tools(home.path()), []);
        write(".cc-switch/cc-switch.db", "");
        write(".zshrc", "export EDITOR=vi\n");
        write(".zshenv", "export ANTHROPIC_BASE_URL=https://gw.example\n");
        write(".config/fish/conf.d/claude.fish", "set -gx ANTHROPIC_API_KEY x\n");
        write("Library/Application Support/ccflare/ccflare.db", "");
        let commands: Vec<String> =
            other_tools(home.path()).iter().map(|found| format!("{}: {}", found.tool, found.command(home.path()))).collect();
        assert_eq!(
            commands,
            [
                "cc-switch: hotspare profile import ~/.cc-switch/cc-switch.db",
                "ccflare: hotspare profile import ~/Library/Application\\ Support/ccflare/ccflare.db",
                "shell: hotspare profile import ~/.zshenv",
                "shell: hotspare profile import ~/.config/fish/conf.d/claude.fish",
            ]
        );
    }
}
