//! Writes the block that the shell's start file gets. Never touches a line outside its two marks.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Part;
use super::patch::{Change, Place};

/// The line before our lines.
const OPEN: &str = "# >>> hotspare >>> written by `hotspare install shell`; `hotspare uninstall shell` takes it out";

/// How that line begins, whatever version wrote it.
const OPENS: &str = "# >>> hotspare >>>";

/// The line behind our lines.
const CLOSE: &str = "# <<< hotspare <<<";

/// A shell whose language we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// `~/.bashrc`
    Bash,
    /// `$ZDOTDIR/.zshrc`
    Zsh,
    /// `~/.config/fish/config.fish`
    Fish,
    /// `~/.config/powershell/profile.ps1`
    Powershell,
}

impl Shell {
    /// The one of this user.
    pub(crate) fn of_user() -> Option<Self> {
        let shell = std::env::var_os("SHELL")?;
        match Path::new(&shell).file_stem()?.to_str()? {
            // What bash reads, POSIX shells read too.
            "bash" | "sh" | "dash" | "ksh" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            "pwsh" | "powershell" => Some(Self::Powershell),
            _ => None,
        }
    }

    /// Its start file.
    pub(crate) fn start_file(self, home: &Path) -> PathBuf {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = || absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        match self {
            Self::Bash => home.join(".bashrc"),
            Self::Zsh => absolute("ZDOTDIR").unwrap_or_else(|| home.to_owned()).join(".zshrc"),
            Self::Fish => config().join("fish/config.fish"),
            Self::Powershell => config().join("powershell/profile.ps1"),
        }
    }

    /// A word that the shell takes as it is, whatever it holds.
    pub(crate) fn quoted(self, text: &str) -> String {
        match self {
            Self::Bash | Self::Zsh => format!("'{}'", text.replace('\'', r"'\''")),
            Self::Fish => format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'")),
            Self::Powershell => format!("'{}'", text.replace('\'', "''")),
        }
    }

    /// Sets a variable for the programs that the shell starts.
    pub(crate) fn export(self, name: &str, value: &str) -> String {
        let value = self.quoted(value);
        match self {
            Self::Bash | Self::Zsh => format!("export {name}={value}"),
            Self::Fish => format!("set -gx {name} {value}"),
            Self::Powershell => format!("$env:{name} = {value}"),
        }
    }

    /// Takes a variable from them.
    pub(crate) fn unset(self, name: &str) -> String {
        match self {
            Self::Bash | Self::Zsh => format!("unset {name}"),
            Self::Fish => format!("set -e {name}"),
            Self::Powershell => format!("Remove-Item Env:{name} -ErrorAction SilentlyContinue"),
        }
    }

    /// Our lines, marks included. A program that is gone, or a service that does not run, leaves the shell as it is.
    fn block(self, program: &str) -> String {
        let program = self.quoted(program);
        let line = match self {
            Self::Bash => format!("if [ -x {program} ]; then eval \"$({program} env --shell bash 2>/dev/null)\"; fi"),
            Self::Zsh => format!("if [ -x {program} ]; then eval \"$({program} env --shell zsh 2>/dev/null)\"; fi"),
            Self::Fish => format!("if test -x {program}; {program} env --shell fish 2>/dev/null | source; end"),
            Self::Powershell => {
                format!("if (Test-Path {program}) {{ & {program} env --shell powershell 2>$null | Out-String | Invoke-Expression }}")
            }
        };
        format!("{OPEN}\n{line}\n{CLOSE}\n")
    }

    /// What the start file shall hold.
    pub(crate) fn change(self, program: &str) -> Change {
        Change { part: Part::Shell, place: Place::Block, value: self.block(program) }
    }
}

/// Where our block stands in a text, with the line end behind it.
pub(super) fn block_in(text: &str) -> Option<Range<usize>> {
    let start = text.match_indices(OPENS).map(|(at, _)| at).find(|at| *at == 0 || text[..*at].ends_with('\n'))?;
    let close = start + text[start..].find(CLOSE)? + CLOSE.len();
    Some(start..close + text[close..].find('\n').map_or(text.len() - close, |end| end + 1))
}

/// The text with this block, in the place of the one it has or at its end.
pub(super) fn with_block(text: &str, block: &str) -> String {
    match block_in(text) {
        Some(range) => [&text[..range.start], block, &text[range.end..]].concat(),
        None if text.is_empty() || text.ends_with('\n') => [text, block].concat(),
        None => [text, "\n", block].concat(),
    }
}
