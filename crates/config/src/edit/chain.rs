//! Puts a profile behind the others of a policy, and takes one out wherever the policy names it. Never looks at other texts than the one it
//! is given.

use std::ops::Range;

use super::{Edit, EditError, changed, parse, quoted, removed, set, spliced};
use crate::key::KeyPath;
use crate::tree::{Member, Node, Value};

/// A place of a policy that names a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// The line, from 1.
    pub line: usize,
    /// The key: `secondary_profile`, `chains[2]`.
    pub key: String,
}

/// Asks a profile after all others of the first pair: at the end of `secondary_profile`.
///
/// # Errors
///
/// When the text is broken, or the policy is no object.
pub fn add_spare(text: &str, name: &str) -> Result<Edit, EditError> {
    let path = KeyPath::child(Some(&KeyPath::child(None, "failover_policy")), SPARES);
    let root = if text.trim().is_empty() { None } else { Some(parse(text)?) };
    let spares = root.as_ref().and_then(|root| root.member("failover_policy")).and_then(|policy| policy.node.member("secondary_profile"));
    match spares.map(|member| &member.node) {
        Some(Node { value: Value::List(entries), at }) => {
            let put = match entries.last() {
                Some(last) => spliced(text, last.at.span.end..last.at.span.end, &format!(", {}", quoted(name))),
                None => spliced(text, at.span.clone(), &format!("[{}]", quoted(name))),
            };
            Ok(changed(text, put))
        }
        Some(Node { value: Value::String(first), .. }) => set(text, &path, &format!("[{}, {}]", quoted(first), quoted(name))),
        _ => set(text, &path, &quoted(name)),
    }
}

/// Where the policy of a text names a profile.
///
/// # Errors
///
/// When the text is broken.
pub fn mentions(text: &str, name: &str) -> Result<Vec<Mention>, EditError> {
    let root = parse(text)?;
    Ok(found(&root, name).into_iter().map(|found| found.mention).collect())
}

/// Takes a profile out of a text, and out of its policy: another takes the place of a primary, and what is left empty goes. Gives the
/// places that it was taken out of, as they were before, and the profile that is the primary instead.
///
/// # Errors
///
/// When the text is broken, has no such profile, or its policy would be left with nobody.
pub fn without_profile(text: &str, name: &str) -> Result<(Edit, Vec<Mention>, Option<String>), EditError> {
    let mentions = mentions(text, name)?;
    let mut now = text.to_owned();
    let mut instead = None;
    loop {
        let root = parse(&now)?;
        let Some(next) = found(&root, name).into_iter().next() else { break };
        now = match next.cut {
            Cut::Item { items, place } => removed(&now, &items, place),
            Cut::Primary(span) => {
                let heir = first_spare(&root, name).ok_or_else(|| EditError::LastProfile(name.to_owned()))?;
                let promoted = spliced(&now, span, &quoted(&heir));
                let root = parse(&promoted)?;
                let spare = found(&root, &heir).into_iter().find(|found| found.mention.key == SPARES);
                instead = Some(heir);
                match spare.map(|found| found.cut) {
                    Some(Cut::Item { items, place }) => removed(&promoted, &items, place),
                    _ => promoted,
                }
            }
        };
    }
    let path = KeyPath::parse(&format!("profiles.\"{name}\"")).ok_or_else(|| EditError::Absent(name.to_owned()))?;
    let gone = super::unset(&now, &path)?.text;
    Ok((changed(text, gone), mentions, instead))
}

const SPARES: &str = "secondary_profile";

/// A mention, and how it goes.
struct Found {
    mention: Mention,
    cut: Cut,
}

enum Cut {
    /// One of these goes: a list's entries, or an object's members where the entry was the last one.
    Item { items: Vec<Range<usize>>, place: usize },
    /// Another name must stand here.
    Primary(Range<usize>),
}

fn found(root: &Node, name: &str) -> Vec<Found> {
    let Some(policy) = root.member("failover_policy") else { return Vec::new() };
    let Value::Object(members) = &policy.node.value else { return Vec::new() };
    let mut all = Vec::new();
    for (place, member) in members.iter().enumerate() {
        let whole = || Cut::Item { items: spans(members), place };
        match member.name.trim_start_matches('+') {
            "primary_profile" if names(&member.node, name) => {
                all.push(Found { mention: mention(&member.node, &member.name), cut: Cut::Primary(member.node.at.span.clone()) });
            }
            SPARES if names(&member.node, name) => all.push(Found { mention: mention(&member.node, &member.name), cut: whole() }),
            SPARES => all.extend(in_list(&member.node, name, &member.name, &whole)),
            "chains" => {
                let Value::List(chains) = &member.node.value else { continue };
                for (index, chain) in chains.iter().enumerate() {
                    let Some(profiles) = chain.member("profiles") else { continue };
                    let key = format!("{}[{index}]", member.name);
                    let whole_chain = || match chains.len() {
                        1 => whole(),
                        _ => Cut::Item { items: chains.iter().map(|chain| chain.at.span.clone()).collect(), place: index },
                    };
                    all.extend(in_list(&profiles.node, name, &key, &whole_chain));
                }
            }
            _ => {}
        }
    }
    all
}

/// The entries of a list that name the profile; the last one takes all of it along.
fn in_list(list: &Node, name: &str, key: &str, whole: &dyn Fn() -> Cut) -> Vec<Found> {
    let Value::List(entries) = &list.value else { return Vec::new() };
    let items: Vec<Range<usize>> = entries.iter().map(|entry| entry.at.span.clone()).collect();
    let named = entries.iter().enumerate().filter(|(_, entry)| names(entry, name));
    let cut = |place| if entries.len() == 1 { whole() } else { Cut::Item { items: items.clone(), place } };
    named.map(|(place, entry)| Found { mention: mention(entry, key), cut: cut(place) }).collect()
}

/// `"name"`, or `{ "profile": "name", … }`.
fn names(node: &Node, name: &str) -> bool {
    match &node.value {
        Value::String(text) => text == name,
        Value::Object(_) => node.member("profile").is_some_and(|member| names(&member.node, name)),
        _ => false,
    }
}

fn mention(node: &Node, key: &str) -> Mention {
    Mention { line: node.at.line_column().0, key: key.to_owned() }
}

fn spans(members: &[Member]) -> Vec<Range<usize>> {
    members.iter().map(|member| member.name_at.span.start..member.node.at.span.end).collect()
}

fn first_spare(root: &Node, but: &str) -> Option<String> {
    let spares = &root.member("failover_policy")?.node.member(SPARES)?.node;
    let name = |node: &Node| match &node.value {
        Value::String(text) if text != but => Some(text.clone()),
        _ => None,
    };
    match &spares.value {
        Value::List(entries) => entries.iter().find_map(name),
        _ => name(spares),
    }
}

#[cfg(test)]
mod tests {
    use super::super::undo;
    use super::*;

    #[track_caller]
    fn check_spare(text: &str, expect: &str) {
        let edit = add_spare(text, "new").expect("an edit");
        assert_eq!(edit.text, expect);
        assert_eq!(undo(&edit.text, &edit.undo).as_deref(), Some(text));
    }

    #[test]
    fn a_spare_comes_behind_the_others() {
        check_spare("", "{\n  \"failover_policy\": { \"secondary_profile\": \"new\" }\n}\n");
        check_spare(
            r#"{ "failover_policy": { "primary_profile": "a" } }"#,
            r#"{ "failover_policy": { "primary_profile": "a", "secondary_profile": "new" } }"#,
        );
        check_spare(r#"{"failover_policy":{"secondary_profile":"b"}}"#, r#"{"failover_policy":{"secondary_profile":["b", "new"]}}"#);
        check_spare(r#"{"failover_policy":{"secondary_profile":[]}}"#, r#"{"failover_policy":{"secondary_profile":["new"]}}"#);
        check_spare(
            "{\n  \"failover_policy\": {\n    \"secondary_profile\": [\n      \"b\" // why\n    ]\n  }\n}\n",
            "{\n  \"failover_policy\": {\n    \"secondary_profile\": [\n      \"b\", \"new\" // why\n    ]\n  }\n}\n",
        );
    }

    const TEXT: &str = r#"{
  "failover_policy": {
    // the pair
    "primary_profile": "a",
    "secondary_profile": ["b", "c"], // spares
    "chains": [
      { "match": { "model": "claude-haiku-*" }, "profiles": ["c"] },
      { "match": {}, "profiles": ["a", { "profile": "b", "model": "claude-sonnet-5-5" }, "c"] }
    ]
  },
  "profiles": {
    "a": {}, // mine
    "b": { "auth": { "env": "B" } },
    "c": { "auth": { "env": "C" } }
  }
}
"#;

    #[track_caller]
    fn check_without(name: &str, lines: &[usize], instead: Option<&str>) -> String {
        let (edit, taken_out, heir) = without_profile(TEXT, name).expect("an edit");
        assert_eq!(taken_out.iter().map(|mention| mention.line).collect::<Vec<_>>(), lines);
        assert_eq!(heir.as_deref(), instead);
        assert_eq!(undo(&edit.text, &edit.undo).as_deref(), Some(TEXT));
        assert!(mentions(&edit.text, name).expect("whole").is_empty());
        edit.text
    }

    #[test]
    fn a_profile_goes_from_everywhere_and_all_else_stays() {
        let without = check_without("b", &[5, 8], None);
        let expect = TEXT.replace(r#"["b", "c"]"#, r#"["c"]"#).replace(r#"{ "profile": "b", "model": "claude-sonnet-5-5" }, "#, "");
        assert_eq!(without, expect.replace("    \"b\": { \"auth\": { \"env\": \"B\" } },\n", ""));
    }

    #[test]
    fn a_chain_that_asks_nobody_goes_whole() {
        let without = check_without("c", &[5, 7, 8], None);
        assert!(!without.contains("haiku") && without.contains(r#""secondary_profile": ["b"]"#), "{without}");
    }

    #[test]
    fn the_first_spare_takes_the_place_of_a_primary() {
        let without = check_without("a", &[4, 8], Some("b"));
        assert!(without.contains(r#""primary_profile": "b""#) && without.contains(r#""secondary_profile": ["c"]"#), "{without}");
        let text = r#"{ "failover_policy": { "primary_profile": "a", "secondary_profile": "b" }, "profiles": { "a": {}, "b": {} } }"#;
        let (edit, _, heir) = without_profile(text, "a").expect("an edit");
        assert_eq!(
            (edit.text.as_str(), heir.as_deref()),
            (r#"{ "failover_policy": { "primary_profile": "b" }, "profiles": { "b": {} } }"#, Some("b"))
        );
    }

    #[test]
    fn the_last_one_cannot_go_and_an_unknown_one_is_named() {
        let text = r#"{ "failover_policy": { "primary_profile": "a" }, "profiles": { "a": {} } }"#;
        assert!(matches!(without_profile(text, "a"), Err(EditError::LastProfile(name)) if name == "a"));
        assert!(matches!(without_profile(text, "b"), Err(EditError::Absent(_))));
    }
}
