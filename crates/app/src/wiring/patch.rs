//! Puts values into a text and takes them out again. Pure: reads and writes no file. Never takes out what is not ours any more.

use std::ops::Range;
use std::path::Path;

use hotspare_config::edit::{EditError, difference};
use hotspare_config::{Settings, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Part;
use super::shell::{block_in, with_block};

/// Where a value stands in a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// JSON: at these keys, from the root.
    Key(Vec<String>),
    /// JSON: an entry of the list at these keys; where a `name` is given, it takes the place of the one with that `name`.
    Entry {
        /// Where the list is.
        list: Vec<String>,
        /// The entry's own `name`.
        name: Option<String>,
    },
    /// Lines between our two marks.
    Block,
    /// The whole file.
    Whole,
}

impl Place {
    /// At these keys.
    pub(crate) fn key(keys: &[&str]) -> Self {
        Self::Key(keys.iter().map(|key| (*key).to_owned()).collect())
    }

    /// For people: `env.ANTHROPIC_BASE_URL`.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Key(keys) => keys.join("."),
            Self::Entry { list, name: Some(name) } => format!("{}[{name}]", list.join(".")),
            Self::Entry { list, name: None } => format!("{}[]", list.join(".")),
            Self::Block => "the block of hotspare".to_owned(),
            Self::Whole => "the file".to_owned(),
        }
    }
}

/// A value that is wanted somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub part: Part,
    pub place: Place,
    /// JSON, or lines.
    pub value: String,
}

/// A value of ours in a file, and what it displaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub part: Part,
    pub place: Place,
    pub value: String,
    /// What stood there before, as it was written.
    pub prior: Option<String>,
    /// How many objects and lists around it were made for it.
    pub made: usize,
}

impl Entry {
    /// The same again.
    pub(crate) fn to_change(&self) -> Change {
        Change { part: self.part, place: self.place.clone(), value: self.value.clone() }
    }

    /// What taking it out does.
    pub(crate) fn taken(&self) -> Taken {
        if self.prior.is_some() { Taken::Back } else { Taken::Out }
    }
}

/// How a value of ours went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing is there now.
    Out,
    /// What was there before is there again.
    Back,
}

/// One change of a text, backwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Splice {
    from: usize,
    to: usize,
    taken_out: String,
}

/// A text that a file of others has with our values in it, and how to come back from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// SHA-256 of the text with our values.
    digest: String,
    /// SHA-256 of the text without them.
    base: String,
    /// Whether the file was there before us.
    pub existed: bool,
    undo: Vec<Splice>,
    pub entries: Vec<Entry>,
}

impl State {
    pub(super) fn new(base: &str, applied: &Applied, existed: bool) -> Self {
        Self {
            digest: digest(applied.text.as_bytes()),
            base: digest(base.as_bytes()),
            existed,
            undo: applied.splices.clone(),
            entries: applied.entries.clone(),
        }
    }

    /// Of a text that no receipt knows: there is no way back byte for byte.
    pub(super) fn found(entries: Vec<Entry>) -> Self {
        Self { digest: String::new(), base: String::new(), existed: true, undo: Vec::new(), entries }
    }

    /// The text before, byte for byte, if this is the text after.
    fn undone(&self, text: &str, digest_of_text: &str) -> Option<String> {
        if digest_of_text != self.digest {
            return None;
        }
        let mut text = text.to_owned();
        for Splice { from, to, taken_out } in self.undo.iter().rev() {
            text.get(*from..*to)?;
            text.replace_range(from..to, taken_out);
        }
        (digest(text.as_bytes()) == self.base).then_some(text)
    }
}

/// A text with our values in it.
#[derive(Debug)]
pub(crate) struct Applied {
    pub text: String,
    pub entries: Vec<Entry>,
    splices: Vec<Splice>,
}

/// A text without our values.
#[derive(Debug)]
pub(crate) struct Pristine {
    pub text: String,
    /// What was taken out.
    pub undone: Vec<Entry>,
    /// What somebody else has changed since.
    pub left: Vec<Entry>,
    /// Whether it is the very text of before.
    pub is_exact: bool,
    /// Whether the file was there before us.
    pub existed: bool,
}

/// Puts values in, one after the other. What is there already is not ours and no entry.
pub(crate) fn apply(file: &Path, base: &str, changes: &[Change]) -> Result<Applied, EditError> {
    let mut applied = Applied { text: base.to_owned(), entries: Vec::new(), splices: Vec::new() };
    for change in changes {
        let Some((text, prior, made)) = put(file, &applied.text, change)? else { continue };
        let (put_in, taken_out) = difference(&applied.text, &text);
        let Range { start: from, end: to } = put_in;
        applied.splices.push(Splice { from, to, taken_out: taken_out.to_owned() });
        applied.entries.push(Entry { part: change.part, place: change.place.clone(), value: change.value.clone(), prior, made });
        applied.text = text;
    }
    Ok(applied)
}

/// Whether a text holds a value where it is wanted.
pub(super) fn holds(file: &Path, text: &str, change: &Change) -> Result<bool, EditError> {
    Ok(put(file, text, change)?.is_none())
}

/// The text with one value more, what it displaced, and how much was made around it; none where it is there already.
fn put(file: &Path, text: &str, change: &Change) -> Result<Option<(String, Option<String>, usize)>, EditError> {
    match &change.place {
        Place::Key(keys) => {
            let (keys, settings) = (strs(keys), Settings::parse(file, text)?);
            if settings.json(&keys).is_some_and(|value| is(&value, &change.value)) {
                return Ok(None);
            }
            let prior = settings.value(&keys).map(str::to_owned);
            let made = if prior.is_some() { 0 } else { keys.len() - settings.depth(&keys) - 1 };
            Ok(Some((settings.with(&keys, &change.value)?, prior, made)))
        }
        Place::Entry { list, name } => {
            let (list, settings) = (strs(list), Settings::parse(file, text)?);
            let entries = settings.entries(&list).unwrap_or_default();
            if entries.iter().any(|entry| is(entry, &change.value)) {
                return Ok(None);
            }
            let named = name.as_ref().and_then(|name| entries.iter().rposition(|entry| entry["name"] == **name));
            if let Some(index) = named {
                let prior = settings.entry(&list, index).map(str::to_owned);
                return Ok(Some((settings.with_entry_replaced(&list, index, &change.value), prior, 0)));
            }
            let made = list.len() - settings.depth(&list);
            Ok(Some((settings.with_entry(&list, &change.value)?, None, made)))
        }
        Place::Block => {
            if block_in(text).is_some_and(|range| text[range] == change.value) {
                return Ok(None);
            }
            Ok(Some((with_block(text, &change.value), None, 0)))
        }
        Place::Whole => Ok((text != change.value).then(|| (change.value.clone(), None, 0))),
    }
}

/// Takes everything of ours out.
pub(crate) fn pristine(file: &Path, text: &str, states: &[State]) -> Result<Pristine, EditError> {
    let digest_of_text = digest(text.as_bytes());
    for state in states {
        if let Some(before) = state.undone(text, &digest_of_text) {
            let undone = state.entries.clone();
            return Ok(Pristine { text: before, undone, left: Vec::new(), is_exact: true, existed: state.existed });
        }
    }
    let existed = states.iter().any(|state| state.existed);
    let mut out = Pristine { text: text.to_owned(), undone: Vec::new(), left: Vec::new(), is_exact: false, existed };
    // Where nothing was written yet, or everything is out already.
    out.is_exact = states.iter().any(|state| state.base == digest_of_text);
    if out.is_exact {
        return Ok(out);
    }
    let mut changed: Vec<&Entry> = Vec::new();
    for entry in states.iter().flat_map(|state| state.entries.iter().rev()) {
        if out.undone.iter().any(|done| done.place == entry.place) {
            continue;
        }
        match take(file, &out.text, entry)? {
            Take::Taken(text) => {
                out.text = text;
                out.undone.push(entry.clone());
            }
            Take::Gone => {}
            Take::Changed => changed.push(entry),
        }
    }
    for entry in changed {
        let is_known = |known: &&Entry| known.place == entry.place;
        if !out.undone.iter().any(|done| is_known(&done)) && !out.left.iter().any(|left| is_known(&left)) {
            out.left.push(entry.clone());
        }
    }
    out.undone.reverse();
    Ok(out)
}

/// Whether a text holds nothing that a file of others would be kept for.
pub(super) fn is_nothing(file: &Path, text: &str, pristine: &Pristine) -> bool {
    text.trim().is_empty() || (!pristine.is_exact && Settings::parse(file, text).is_ok_and(|settings| settings.is_empty(&[])))
}

enum Take {
    /// It was ours: the text without it.
    Taken(String),
    /// It is not there.
    Gone,
    /// Something else is there.
    Changed,
}

fn take(file: &Path, text: &str, entry: &Entry) -> Result<Take, EditError> {
    let json = matches!(entry.place, Place::Key(_) | Place::Entry { .. }).then(|| Settings::parse(file, text)).transpose()?;
    Ok(match (&entry.place, json) {
        (Place::Key(keys), Some(settings)) => take_key(file, &settings, &strs(keys), entry)?,
        (Place::Entry { list, name }, Some(settings)) => take_entry(file, &settings, &strs(list), name.as_deref(), entry)?,
        (Place::Block, _) => match block_in(text) {
            // Between the two marks everything is ours, whatever version wrote it.
            Some(range) => Take::Taken([&text[..range.start], &text[range.end..]].concat()),
            None => Take::Gone,
        },
        _ if text.is_empty() => Take::Gone,
        _ if text == entry.value => Take::Taken(String::new()),
        _ => Take::Changed,
    })
}

fn take_key(file: &Path, settings: &Settings, keys: &[&str], entry: &Entry) -> Result<Take, EditError> {
    let Some(value) = settings.json(keys) else { return Ok(Take::Gone) };
    if !is(&value, &entry.value) {
        // What was there before is nobody's change.
        let is_prior = entry.prior.as_ref().is_some_and(|prior| is(&value, prior));
        return Ok(if is_prior { Take::Gone } else { Take::Changed });
    }
    let text = match &entry.prior {
        Some(prior) => settings.with(keys, prior)?,
        None => without_empty(file, settings.without(keys), &keys[..keys.len() - 1], entry.made)?,
    };
    Ok(Take::Taken(text))
}

fn take_entry(file: &Path, settings: &Settings, list: &[&str], name: Option<&str>, entry: &Entry) -> Result<Take, EditError> {
    let entries = settings.entries(list).unwrap_or_default();
    let Some(index) = entries.iter().rposition(|known| is(known, &entry.value)) else {
        let is_changed = name.is_some_and(|name| entries.iter().any(|known| known["name"] == name)) && entry.prior.is_none();
        return Ok(if is_changed { Take::Changed } else { Take::Gone });
    };
    let text = match &entry.prior {
        Some(prior) => settings.with_entry_replaced(list, index, prior),
        None => without_empty(file, settings.without_entry(list, index), list, entry.made)?,
    };
    Ok(Take::Taken(text))
}

/// Takes out what was made around a value, as far as it holds nothing else now.
fn without_empty(file: &Path, mut text: String, around: &[&str], made: usize) -> Result<String, EditError> {
    for depth in (1..=around.len()).rev().take(made) {
        let settings = Settings::parse(file, &text)?;
        if !settings.is_empty(&around[..depth]) {
            break;
        }
        text = settings.without(&around[..depth]);
    }
    Ok(text)
}

/// Whether a value is the one that a text stands for, however it is written.
fn is(value: &Value, text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|known| known == *value)
}

fn strs(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}
