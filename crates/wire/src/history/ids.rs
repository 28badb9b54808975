//! Gives tool calls names that the target takes: valid and unique ones at Claude, its own at the company that minted them.
//!
//! Invariants: a call is never renamed without its results, and the same history gives the same names on every turn, so that a provider's
//! prompt cache and its check of a conversation's prefix hold.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use super::draft::Draft;
use super::view::{Block, Message};
use crate::splice::Fate;
use crate::tool_id::{self, Tag};

/// Longest name of a tool, in bytes (Messages API, `tools.name`).
const MAX_TOOL_NAME: usize = 128;

/// Letters of an unusable id that its replacement shows.
const SHOWN_LETTERS: usize = 40;

/// Renames what Claude refuses.
pub(super) fn valid(draft: &mut Draft<'_, '_>) {
    let mut taken: HashSet<String> = HashSet::new();
    rename_calls(draft, |id, _| {
        let name = free_name(id, &taken);
        taken.insert(name.clone());
        name
    });
    tool_names(draft);
}

/// Turns ids back into those that the target itself has minted.
pub(super) fn restored(draft: &mut Draft<'_, '_>, tag: Tag, remembered: impl Fn(&str) -> Option<String>) {
    rename_calls(draft, |id, name| tool_id::original(id, name, tag).or_else(|| remembered(id)).unwrap_or_else(|| id.to_owned()));
}

/// Renames calls as `new_name` says for an id and its tool, and their results with them.
fn rename_calls(draft: &mut Draft<'_, '_>, mut new_name: impl FnMut(&str, &str) -> String) {
    let view = draft.view;
    // What the results that come next are called by.
    let mut current: HashMap<Cow<'_, str>, String> = HashMap::new();
    let fates = draft.blocks.clone();
    let blocks = view.messages.iter().flat_map(Message::blocks).zip(fates.iter().flatten());
    // What text stands for has no id any more.
    for (block, _) in blocks.filter(|(_, fate)| !matches!(fate, Fate::Replace(_))) {
        match &*block.kind {
            "tool_use" => {
                let Some(id) = block.fields.string("id") else { continue };
                let name = new_name(&id, &block.fields.string("name").unwrap_or_default());
                if name != id {
                    draft.changes.renamed += 1;
                    rename(draft, block, "id", &name);
                }
                current.insert(id, name);
            }
            "tool_result" => {
                let Some(id) = block.fields.string("tool_use_id") else { continue };
                if let Some(name) = current.get(&id).filter(|name| **name != id) {
                    rename(draft, block, "tool_use_id", &name.clone());
                }
            }
            _ => {}
        }
    }
}

/// A call of a tool that cannot exist keeps its place: the client has answered it with an error.
fn tool_names(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    for block in view.messages.iter().flat_map(Message::blocks).filter(|block| block.kind == "tool_use") {
        let Some(name) = block.fields.string("name") else { continue };
        let valid = valid_tool_name(&name);
        if valid != name {
            rename(draft, block, "name", &valid);
        }
    }
}

/// The name with `_` for every letter that a tool's name cannot have.
pub(crate) fn valid_tool_name(name: &str) -> Cow<'_, str> {
    if name.len() <= MAX_TOOL_NAME && tool_id::is_plain(name) {
        return name.into();
    }
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') { letter } else { '_' };
    let valid: String = name.chars().map(plain).take(MAX_TOOL_NAME).collect();
    if valid.is_empty() { "unnamed".into() } else { valid.into() }
}

fn rename(draft: &mut Draft<'_, '_>, block: &Block<'_>, key: &str, name: &str) {
    if let Some(value) = block.fields.get(key) {
        draft.splices.replace(draft.view.span(value), serde_json::Value::from(name).to_string());
    }
}

/// The id itself where Claude takes it, else a name made from it.
fn free_name(id: &str, taken: &HashSet<String>) -> String {
    if tool_id::is_valid(id) && !taken.contains(id) {
        return id.to_owned();
    }
    let plain = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    let clean: String = id.chars().filter(plain).take(SHOWN_LETTERS).collect();
    let mut count = 0u32;
    loop {
        let hash = xxh3_64(format!("{id}\n{count}").as_bytes());
        let name = format!("toolu_{clean}_{:08x}", hash >> 32);
        if !taken.contains(&name) {
            return name;
        }
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_stay_and_others_become_good() {
        let taken = HashSet::from(["call_0".to_owned()]);
        assert_eq!(free_name("toolu_01A-b", &taken), "toolu_01A-b");
        for bad in ["functions.Bash:0", "", "call_0", "é", &"x.".repeat(400), &"x".repeat(65)] {
            let name = free_name(bad, &taken);
            assert!(name.starts_with("toolu_") && tool_id::is_valid(&name), "{name}");
            assert_eq!(name, free_name(bad, &taken));
        }
        assert_ne!(free_name("a.b", &taken), free_name("a:b", &taken));
    }

    #[test]
    fn tool_name_gets_only_letters_that_it_may_have() {
        for (name, valid) in [("Bash", "Bash"), ("functions.Bash", "functions_Bash"), ("", "unnamed"), ("é x", "__x")] {
            assert_eq!(valid_tool_name(name), valid);
        }
        assert_eq!(valid_tool_name(&"x".repeat(200)).len(), MAX_TOOL_NAME);
    }
}
