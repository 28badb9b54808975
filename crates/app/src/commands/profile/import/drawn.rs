//! The report of an import: every entry of every source, and what becomes of it.

use std::path::{Path, PathBuf};

use super::model::{Entry, Key, shown};
use super::plan::{Decision, Outcome};
use super::sources::{Sources, sentence};
use crate::commands::profile::list::tilde;
use crate::output::{Look, Style};
use crate::words;

/// Columns before the text of an entry.
const INDENT: usize = 4;

/// The whole report; empty if nothing was found.
pub(super) fn report(sources: &Sources, decisions: &[Decision], home: &Path, look: Look) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut last: Option<&PathBuf> = None;
    for (entry, decision) in sources.entries.iter().zip(decisions) {
        if last != Some(&entry.from) {
            lines.push(look.paint.paint(Style::Bold, &path(&entry.from, home)));
            last = Some(&entry.from);
        }
        entry_lines(&mut lines, entry, decision, home, look);
    }
    for (file, words) in &sources.remarks {
        lines.push(format!("skipped  {}: {}", path(file, home), shown_sentence(words)));
    }
    if !decisions.is_empty() {
        lines.push(sum(decisions));
    }
    lines.join("\n")
}

fn entry_lines(lines: &mut Vec<String>, entry: &Entry, decision: &Decision, home: &Path, look: Look) {
    let (sign, style, text) = match &decision.outcome {
        Outcome::Imported { name, kept } => ('+', Style::Green, imported(entry, name, kept.as_deref(), home)),
        Outcome::Replaced { name, kept } => {
            ('~', Style::Yellow, format!("{name}: gets the new key, as `{kept}` in the keychain; the old one stays there"))
        }
        Outcome::Merged { with } => ('=', Style::Dim, sentence(entry, &format!("is the same as `{with}`: address, key and header"))),
        Outcome::Skipped { why } => ('-', Style::Yellow, sentence(entry, why)),
    };
    push(lines, &look.paint.paint(style, &sign.to_string()), &text, look);
    for note in &decision.notes {
        push(lines, " ", note, look);
    }
}

fn imported(entry: &Entry, name: &str, kept: Option<&str>, home: &Path) -> String {
    let Ok(provider) = &entry.content else { return name.to_owned() };
    let own = shown(&entry.name);
    let called = if own == name { String::new() } else { format!("`{own}`, ") };
    let key = match (kept, &provider.key) {
        (Some(kept), _) => format!("key in the keychain as `{kept}`"),
        (None, Key::Reference(auth)) => reference(auth, home),
        (None, Key::Literal(_)) => "key in the keychain".to_owned(),
    };
    format!("{name}: {called}{}, {key}", shown(provider.address.trim_start_matches("https://").trim_end_matches('/')))
}

fn reference(auth: &serde_json::Value, home: &Path) -> String {
    let text = |key: &str| auth[key].as_str().map(|text| shown(&tilde(text, home)));
    if let Some(name) = text("env") {
        return format!("key in the variable `{name}`");
    }
    if let Some(file) = text("file") {
        return format!("key in {file}");
    }
    if let Some(folder) = text("claude_config_dir") {
        return format!("what Claude Code keeps in {folder}");
    }
    format!("key from the program `{}`", shown(auth["command"][0].as_str().unwrap_or_default()))
}

fn push(lines: &mut Vec<String>, sign: &str, text: &str, look: Look) {
    let text = shown_sentence(text);
    let wrapped = match look.width {
        Some(width) => words::wrapped(&text, width.saturating_sub(INDENT).max(20)),
        None => vec![text],
    };
    for (place, line) in wrapped.iter().enumerate() {
        lines.push(if place == 0 { format!("  {sign} {line}") } else { format!("    {line}") });
    }
}

/// A sentence may quote a file that comes from anywhere.
fn shown_sentence(text: &str) -> String {
    text.chars().map(|char| if super::model::is_odd(char) { '?' } else { char }).collect()
}

fn path(path: &Path, home: &Path) -> String {
    shown_sentence(&tilde(&path.display().to_string(), home))
}

/// `5 entries: 2 to import, 1 the same as another, 2 skipped`
fn sum(decisions: &[Decision]) -> String {
    let count = |is: fn(&Outcome) -> bool| decisions.iter().filter(|decision| is(&decision.outcome)).count();
    let parts = [
        (count(|outcome| matches!(outcome, Outcome::Imported { .. })), "to import"),
        (count(|outcome| matches!(outcome, Outcome::Replaced { .. })), "with a new key"),
        (count(|outcome| matches!(outcome, Outcome::Merged { .. })), "there already"),
        (count(|outcome| matches!(outcome, Outcome::Skipped { .. })), "skipped"),
    ];
    let parts: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    format!("{}: {}", words::several(decisions.len() as u64, "entry", "entries"), parts.join(", "))
}
