//! Gives tool calls of other models names that Claude takes: letters, digits, `_` and `-`, none twice. Never renames a call without its
//! results, and gives the same name on every turn.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use super::draft::Draft;
use super::view::Block;

/// Renames what must be renamed.
pub(super) fn valid(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    let mut taken: HashSet<String> = HashSet::new();
    // What the results that come next are called by.
    let mut current: HashMap<Cow<'_, str>, String> = HashMap::new();
    for message in &view.messages {
        for block in message.blocks() {
            match &*block.kind {
                "tool_use" => {
                    let Some(id) = block.fields.string("id") else { continue };
                    let name = free_name(&id, &taken);
                    if name != id {
                        draft.changes.renamed += 1;
                        rename(draft, block, "id", &name);
                    }
                    taken.insert(name.clone());
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
}

fn rename(draft: &mut Draft<'_, '_>, block: &Block<'_>, key: &str, name: &str) {
    if let Some(value) = block.fields.get(key) {
        draft.splices.replace(draft.view.span(value), format!("\"{name}\""));
    }
}

/// The id itself where Claude takes it, else a name made from it.
fn free_name(id: &str, taken: &HashSet<String>) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    if !id.is_empty() && id.chars().all(plain) && !taken.contains(id) {
        return id.to_owned();
    }
    let clean: String = id.chars().filter(|letter| plain(*letter)).take(40).collect();
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
        for bad in ["functions.Bash:0", "", "call_0", "é", &"x.".repeat(400)] {
            let name = free_name(bad, &taken);
            assert!(name.starts_with("toolu_") && name.len() < 64, "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{name}");
            assert_eq!(name, free_name(bad, &taken));
        }
        assert_ne!(free_name("a.b", &taken), free_name("a:b", &taken));
    }
}
