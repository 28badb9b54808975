//! What `install` and `uninstall` say of each file. Never shows a secret.

use std::path::Path;

use hotspare_config::Locations;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::claude::{CUSTOM_HEADERS, our_proxy};
use crate::output::{Look, Style};
use crate::wiring::Outcome;
use crate::wiring::patch::{Entry, Place, Taken};
use crate::words;

/// The version of the JSON.
const VERSION: u32 = 1;

/// Longest value that is shown, in characters.
const LONGEST: usize = 72;

/// Columns that a note gets at least.
const LEAST_ROOM: usize = 24;

/// Columns of a line that neither its key nor its value takes.
const BESIDE: usize = 6;

/// `install --json` and `uninstall --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// Of this shape.
    pub version: u32,
    /// Each file that something of ours is, was or would be in.
    pub files: Vec<FileReport>,
    /// What else a person must know.
    pub notes: Vec<String>,
}

/// One file.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FileReport {
    /// Where it is.
    pub path: String,
    /// Whether it is changed, or would be.
    pub changed: bool,
    /// What is ours in it.
    pub set: Vec<Line>,
    /// What was ours, and is gone.
    pub removed: Vec<String>,
    /// What was there before ours, and is there again.
    pub put_back: Vec<String>,
    /// What was ours and has been changed by somebody since: it stays.
    pub left: Vec<String>,
}

/// One value.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Line {
    /// Where in the file.
    pub key: String,
    /// What it is; secrets are masked.
    pub value: String,
    /// Whether it stands in the place of another, which the receipt keeps.
    pub replaces: bool,
}

impl Report {
    /// What came of some files.
    pub(crate) fn of(locations: &Locations, outcomes: &[Outcome], notes: Vec<String>) -> Self {
        let files = outcomes.iter().map(|outcome| FileReport::of(locations, outcome)).collect();
        Self { version: VERSION, files, notes }
    }

    /// True if a file is changed, or would be.
    pub(crate) fn changes(&self) -> bool {
        self.files.iter().any(|file| file.changed)
    }

    /// The names of the files that were changed, and the notes that are new, for a person who has just read what changes in them.
    pub(crate) fn outcome(&self, read: &[String]) -> String {
        let files: Vec<&str> = self.files.iter().filter(|file| file.changed).map(|file| file.path.as_str()).collect();
        let wrote = Some(format!("wrote {}", files.join(", "))).filter(|_| !files.is_empty());
        let new = self.notes.iter().filter(|note| !read.contains(note));
        let look = Look::of_stdout();
        wrote.into_iter().chain(new.flat_map(|note| drawn_note(note, look))).collect::<Vec<_>>().join("\n")
    }

    /// For people. `nothing` is said where nothing changes.
    pub(crate) fn drawn(&self, is_plan: bool, nothing: &str) -> String {
        let look = Look::of_stdout();
        let mut lines = Vec::new();
        for file in self.files.iter().filter(|file| file.changed || !file.left.is_empty()) {
            lines.push(look.paint.paint(Style::Bold, &file.path));
            for line in &file.set {
                let sign = if line.replaces { look.paint.paint(Style::Yellow, "~") } else { look.paint.paint(Style::Green, "+") };
                let room = look.width.map_or(usize::MAX, |width| width.saturating_sub(line.key.len() + BESIDE));
                let value = words::fit(&line.value, room, look.unicode);
                lines.push(format!("  {sign} {}  {}", line.key, look.paint.paint(Style::Dim, &value)));
            }
            let is_new = |key: &&String| !file.set.iter().any(|line| line.key == **key);
            lines.extend(file.removed.iter().filter(is_new).map(|key| format!("  {} {key}", look.paint.paint(Style::Red, "-"))));
            lines.extend(
                file.put_back.iter().filter(is_new).map(|key| format!("  {} {key}  as it was before", look.paint.paint(Style::Green, "="))),
            );
            lines.extend(
                file.left
                    .iter()
                    .map(|key| format!("  {} {key}  changed since by somebody else: left as it is", look.paint.paint(Style::Yellow, "!"))),
            );
        }
        if lines.is_empty() {
            lines.push(nothing.to_owned());
        } else if is_plan {
            lines.push("nothing was changed: this is a dry run".to_owned());
        }
        lines.extend(self.notes.iter().flat_map(|note| drawn_note(note, look)));
        lines.join("\n")
    }
}

/// A note, broken between words where the terminal ends.
fn drawn_note(note: &str, look: Look) -> Vec<String> {
    const HEAD: &str = "note:";
    let room = look.width.map(|width| width.saturating_sub(HEAD.len() + 1).max(LEAST_ROOM));
    let lines = room.map_or_else(|| vec![note.to_owned()], |room| words::wrapped(note, room));
    let head = format!("{} ", look.paint.paint(Style::Cyan, HEAD));
    let heads = std::iter::once(head).chain(std::iter::repeat(" ".repeat(HEAD.len() + 1)));
    heads.zip(lines).map(|(head, line)| format!("{head}{line}")).collect()
}

impl FileReport {
    fn of(locations: &Locations, outcome: &Outcome) -> Self {
        let words = |entries: &[Entry], taken: Taken| {
            entries.iter().filter(|entry| entry.taken() == taken).map(|entry| entry.place.words()).collect()
        };
        Self {
            path: tilde(locations, &outcome.path),
            changed: outcome.changed,
            set: outcome.entries.iter().map(Line::of).collect(),
            removed: words(&outcome.undone, Taken::Out),
            put_back: words(&outcome.undone, Taken::Back),
            left: outcome.left.iter().map(|entry| entry.place.words()).collect(),
        }
    }
}

impl Line {
    fn of(entry: &Entry) -> Self {
        Self { key: entry.place.words(), value: shown(entry), replaces: entry.prior.is_some() }
    }
}

/// The value without its secrets, on one line that fits.
fn shown(entry: &Entry) -> String {
    let is_headers = entry.place.words().contains(CUSTOM_HEADERS);
    let text = match &entry.place {
        Place::Block | Place::Whole => format!("{} lines", entry.value.lines().count()),
        Place::Key(_) | Place::Entry { .. } if is_headers => {
            let value: Value = serde_json::from_str(&entry.value).unwrap_or_default();
            let text = value.as_str().or_else(|| value["value"].as_str()).unwrap_or_default().to_owned();
            text.lines().map(|line| format!("{}: …", line.split(':').next().unwrap_or_default())).collect::<Vec<_>>().join(", ")
        }
        Place::Key(_) | Place::Entry { .. } => without_token(&entry.value),
    };
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

/// A value in which the proxy's address may stand, without the token.
fn without_token(value: &str) -> String {
    let parsed: Value = serde_json::from_str(value).unwrap_or_default();
    let text = parsed.as_str().or_else(|| parsed["value"].as_str()).unwrap_or_default();
    match our_proxy(text) {
        Some(address) => format!("\"http://hotspare:…@{address}\""),
        None => value.to_owned(),
    }
}

/// The home folder is `~`.
pub(crate) fn tilde(locations: &Locations, path: &Path) -> String {
    match path.strip_prefix(&locations.home) {
        Ok(below) => format!("~/{}", below.display()),
        Err(_) => path.display().to_string(),
    }
}
