//! Where Claude Code goes without hotspare, and whether a configuration respects that.
//!
//! hotspare replaces the client's base URL and leaves its credential alone. So the credential arrives here whatever named it: settings, an
//! editor, the environment, a shell alias. The first profile that takes the client's credential must be where it was going, or the command
//! stops before anything is written or started. What the files name together with a URL is recorded by its digest, and the gateway sends
//! such a credential to no other host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hotspare_config::{BaseUrl, Config, Locations, NamedCredential, Settings, credential_digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::claude::{API_KEY, AUTH_TOKEN, BASE_URL, UserSetup};
use crate::commands::install::tilde;
use crate::error::{CliError, Exit};
use crate::state;
use crate::wiring::patch;
use crate::wiring::receipt::Open;
use crate::wiring::vscode;

/// The file of the state folder that records where the client went when `install` was run.
const FILE: &str = "client.json";

/// The version of its shape.
const VERSION: u32 = 1;

/// Largest shell file that is searched, in bytes. Such files have a few KB.
const MAX_SHELL_FILE: u64 = 1024 * 1024;

/// Most places that are recorded of all files.
const MAX_NAMED: usize = 64;

/// Lines around a URL in which its credential is looked for: as long as functions that start a client are.
const MAX_DISTANCE: usize = 8;

/// Files of shells, below home, in which people start Claude Code with another provider.
const SHELL_FILES: [&str; 10] = [
    ".bashrc",
    ".bash_aliases",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zsh_aliases",
    ".aliases",
    ".config/fish/config.fish",
];

/// A URL that a file gives Claude Code, and the credential beside it.
#[derive(Debug)]
pub(crate) struct Named {
    /// The URL.
    pub url: BaseUrl,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// True if every session of a new shell has it; false if it is an alias's or a function's.
    pub is_exported: bool,
    credential: Option<SecretString>,
}

impl Named {
    /// Whether a credential was named together with the URL.
    pub(crate) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// `~/.zshrc:12`
    pub(crate) fn place(&self, locations: &Locations) -> String {
        format!("{}:{}", tilde(locations, &self.file), self.line)
    }
}

/// Fails unless the client's requests stay where they go today: at the first profile that takes the client's credential, or, where none
/// does, at one with a credential of its own. `place` is what names the URL.
pub(crate) fn refuse_elsewhere(config: &Config, existing: &BaseUrl, place: &str) -> Result<(), CliError> {
    let is_there = |url: &BaseUrl| url.host == existing.host && url.port == existing.port;
    let first = config.first_with_client_credential();
    let in_chain = || {
        let entries = config.rules.last().map(|rule| rule.chain.entries.as_slice()).unwrap_or_default();
        entries.iter().filter_map(|entry| config.profiles.get(usize::from(entry.profile.0))).any(|profile| is_there(&profile.base_url))
    };
    let problem = match first {
        Some(profile) if is_there(&profile.base_url) => return Ok(()),
        Some(profile) => format!("profile `{}`, which would be sent its credential, is at {}", profile.name, profile.base_url.authority()),
        None if in_chain() => return Ok(()),
        None => "no profile of the chain goes there".to_owned(),
    };
    let message = format!(
        "Claude Code goes to `{existing}` today ({place})\n          {problem}\n          the client's credential belongs to {}, and is sent to no \
         other host",
        existing.authority()
    );
    Err(CliError::new(Exit::Failed, message)
        .hint("`hotspare init` makes it the first profile")
        .hint(format!("or take `{BASE_URL}` out of where it is set, and the credential beside it")))
}

/// What the settings of editors give the client, as they are without hotspare.
pub(crate) fn in_editors(locations: &Locations, receipt: &Open) -> Vec<Named> {
    vscode::settings_files(&locations.home).into_iter().filter_map(|file| in_editor(file, receipt)).collect()
}

fn in_editor(file: PathBuf, receipt: &Open) -> Option<Named> {
    let text = crate::wiring::read(&file).ok()??;
    let text = patch::pristine(&file, &text, &receipt.wired(&file).states).ok()?.text;
    let variables = vscode::variables(&Settings::parse(&file, &text).ok()?);
    let value =
        |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).filter(|value| !value.is_empty());
    let url = BaseUrl::parse(&value(BASE_URL)?).ok()?;
    let credential = value(AUTH_TOKEN).or_else(|| value(API_KEY)).map(SecretString::from);
    let line = text.lines().position(|line| line.contains(BASE_URL)).unwrap_or_default() + 1;
    Some(Named { url, file, line, is_exported: true, credential })
}

/// What the shells' files give the client: in an export, an alias or a function.
pub(crate) fn in_shell_files(home: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Named> {
    let files = SHELL_FILES.iter().map(|file| home.join(file));
    files
        .filter_map(|file| Some((shell_text(&file)?, file)))
        .flat_map(|(text, file)| in_shell_text(&text, &file, variable))
        .take(MAX_NAMED)
        .collect()
}

fn shell_text(file: &Path) -> Option<String> {
    let small = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_SHELL_FILE);
    small.then(|| fs::read(file).ok()).flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn in_shell_text(text: &str, file: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Named> {
    let lines: Vec<&str> = text.lines().map(|line| if line.trim_start().starts_with('#') { "" } else { line }).collect();
    // What the file itself gives a variable comes before what this process has.
    let known = |name: &str| lines.iter().find_map(|line| assigned(line, name)).or_else(|| variable(name));
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(url) = assigned(line, BASE_URL).and_then(|value| expanded(&value, &known)) else { continue };
        let Ok(url) = BaseUrl::parse(&url) else { continue };
        let credential = beside(&lines, at).and_then(|value| expanded(&value, &known)).map(SecretString::from);
        let starts_here = line.contains("claude") && !line.contains(&format!("{BASE_URL}=")) || line.contains(" claude");
        let is_exported = (line.starts_with("export ") || line.starts_with("set -gx ") || line.starts_with("set -Ux ")) && !starts_here;
        found.push(Named { url, file: file.to_owned(), line: at + 1, is_exported, credential });
    }
    found
}

/// The credential that is assigned nearest to a line, before the next URL.
fn beside(lines: &[&str], at: usize) -> Option<String> {
    let of = |line: &str| assigned(line, AUTH_TOKEN).or_else(|| assigned(line, API_KEY));
    let is_other = |line: &&&str| assigned(line, BASE_URL).is_some();
    let after = lines[at + 1..].iter().take(MAX_DISTANCE).take_while(|line| !is_other(line)).find_map(|line| of(line));
    let before = || lines[..at].iter().rev().take(MAX_DISTANCE).take_while(|line| !is_other(line)).find_map(|line| of(line));
    of(lines[at]).or(after).or_else(before)
}

/// The value that a line gives a variable, unquoted: `NAME=value`, or `set -gx NAME value` in fish.
fn assigned(line: &str, name: &str) -> Option<String> {
    let mut rest = line;
    loop {
        let at = rest.find(name)?;
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let is_name = !before.ends_with(|char: char| char.is_ascii_alphanumeric() || "_${".contains(char));
        let is_fish = line.trim_start().starts_with("set ") && after.starts_with(' ');
        if is_name && (after.starts_with('=') || is_fish) {
            return Some(word(&after[1..])).filter(|value| !value.is_empty());
        }
        rest = after;
    }
}

/// The first word of a shell's text, without its quotes. A quote that the line has opened before ends it too.
fn word(text: &str) -> String {
    let text = text.trim_start();
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => text[1..].split(quote).next().unwrap_or_default().to_owned(),
        _ => text.split(|char: char| char.is_whitespace() || "'\";)&|".contains(char)).next().unwrap_or_default().to_owned(),
    }
}

/// A value with its one variable put in: `$NAME`, `${NAME}` or `${NAME:-otherwise}`; `None` if only a shell could say what it is.
fn expanded(value: &str, known: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let plain = |value: String| Some(value).filter(|value| !value.is_empty() && !value.contains(['$', '`']));
    let Some(name) = value.strip_prefix('$') else { return plain(value.to_owned()) };
    let Some(inner) = name.strip_prefix('{') else { return known(name).and_then(plain) };
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (name, otherwise) = inner.split_once(":-").or_else(|| inner.split_once('-')).unwrap_or((inner, ""));
    known(name).and_then(plain).or_else(|| plain(otherwise.trim_matches(['"', '\'']).to_owned()))
}

/// Where the client went when `install` was run, and what files name for hosts of their own.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// The client's own base URL; `None` if it had none.
    base_url: Option<String>,
    named: Vec<RecordedCredential>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedCredential {
    digest: String,
    base_url: String,
}

impl Record {
    /// Of the client's own base URL and of what files name.
    pub(crate) fn of(base_url: Option<&BaseUrl>, named: &[Named]) -> Self {
        let recorded = named.iter().filter_map(|named| {
            let digest = credential_digest(named.credential.as_ref()?.expose_secret().as_bytes());
            Some(RecordedCredential { digest: format!("{digest:016x}"), base_url: named.url.to_string() })
        });
        Self { version: VERSION, base_url: base_url.map(ToString::to_string), named: recorded.take(MAX_NAMED).collect() }
    }

    /// What is recorded; nothing if the file is missing or of another version.
    pub(crate) fn read(state_dir: &Path) -> Self {
        let record = fs::read(state_dir.join(FILE)).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        record.filter(|record| record.version == VERSION).unwrap_or_default()
    }

    /// Writes it; true if it changed.
    pub(crate) fn write(&self, state_dir: &Path) -> io::Result<bool> {
        let before = Self::read(state_dir);
        let is_nothing = self.base_url.is_none() && self.named.is_empty();
        if before == *self || (is_nothing && before == Self::default()) {
            return Ok(false);
        }
        state::write_private(&state_dir.join(FILE), &serde_json::to_vec(self).map_err(io::Error::other)?)?;
        Ok(true)
    }

    /// The client's own base URL.
    pub(crate) fn base_url(&self) -> Option<BaseUrl> {
        BaseUrl::parse(self.base_url.as_deref()?).ok()
    }

    /// The credentials that belong to a host of their own.
    pub(crate) fn named(&self) -> Vec<NamedCredential> {
        let named = self.named.iter().filter_map(|named| {
            Some(NamedCredential { digest: u64::from_str_radix(&named.digest, 16).ok()?, base_url: BaseUrl::parse(&named.base_url).ok()? })
        });
        named.collect()
    }
}

/// What names the client's own base URL, for messages.
pub(crate) fn place_of(setup: &UserSetup, locations: &Locations) -> String {
    if setup.names_in_settings(BASE_URL) {
        tilde(locations, &locations.claude_settings)
    } else {
        format!("`{BASE_URL}` in the environment")
    }
}

#[cfg(test)]
mod tests;
