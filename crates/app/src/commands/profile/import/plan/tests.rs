//! Random sources beside random configurations and keychains: nothing is lost, nothing that is stored changes.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::json;

use super::super::super::add::{inline, with_profile};
use super::super::model::API_KEY;
use super::*;

const NAMES: [&str; 7] = ["glm", "GLM", "智谱", "Claude", "Kimi 国内", "a/b", "glm-2"];

const ADDRESSES: [&str; 6] = [
    "https://api.anthropic.com",
    "https://gw.example/",
    "https://gw.example",
    "https://api.z.ai/api/anthropic",
    "https://openrouter.ai/api/v1",
    "ftp://no",
];

/// A keychain and a configuration in memory.
struct Memory {
    text: String,
    stored: BTreeMap<String, String>,
    spare: bool,
}

impl Memory {
    fn config(text: &str) -> Result<hotspare_config::Config, String> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        hotspare_config::parse(text, Path::new("config.json"), Path::new("/home/me")).map_err(|errors| errors.to_string())
    }

    fn take(&mut self, text: String) -> Result<(), String> {
        Self::config(&text)?;
        self.text = text;
        Ok(())
    }
}

impl Ground for Memory {
    fn stored(&mut self, name: &str) -> Stored {
        match self.stored.get(name).map(String::as_str) {
            None => Stored::Absent,
            Some("unreadable") => Stored::Occupied,
            Some(key) => Stored::Held(KeyId::of(&SecretString::from(key))),
        }
    }

    fn add(&mut self, name: &str, profile: &Map<String, Value>, entry: &Entry) -> Result<(), String> {
        let is_enabled = entry.content.as_ref().is_ok_and(|provider| provider.state == State::Enabled);
        let value = inline(&Value::Object(profile.clone()));
        let text = with_profile(&self.text, name, &value, self.spare && is_enabled).map_err(|error| error.to_string())?.text;
        self.take(text)
    }

    fn point(&mut self, name: &str, entry: &str) -> Result<(), String> {
        let path = hotspare_config::KeyPath::parse(&format!("profiles.\"{name}\".auth.keychain")).expect("a path");
        let text = hotspare_config::edit::set(&self.text, &path, &Value::from(entry).to_string()).map_err(|error| error.to_string())?.text;
        self.take(text)
    }
}

#[derive(Debug, Clone)]
struct Given {
    entries: Vec<(usize, usize, u8, bool, u8, bool)>,
    profiles: Vec<(usize, usize, u8)>,
    stored: Vec<(usize, u8)>,
    spare: bool,
    replace: bool,
}

fn secret(key: u8) -> String {
    format!("sk-test-{key}")
}

fn entry((name, address, key, is_api_key, kind, is_off): (usize, usize, u8, bool, u8, bool)) -> Entry {
    let source = if key == 9 { Key::Reference(json!({ "env": "SOME_KEY" })) } else { Key::Literal(SecretString::from(secret(key))) };
    let models = match kind {
        0 => Vec::new(),
        1 => vec![("claude-*".to_owned(), "m".to_owned())],
        _ => vec![("claude-opus-*".to_owned(), "big model".to_owned()), ("claude-*".to_owned(), "m2[1m]".to_owned())],
    };
    let provider = Provider::new(ADDRESSES[address], source)
        .with_header(is_api_key.then_some(API_KEY))
        .with_models(models)
        .with_state(if is_off { State::Resting("off".to_owned()) } else { State::Enabled });
    let content = if kind == 3 { Err("speaks another format".to_owned()) } else { Ok(provider) };
    Entry { name: NAMES[name].to_owned(), from: PathBuf::from("source"), content }
}

/// A file as people write it, one profile a line.
fn config(profiles: &[(usize, usize, u8)]) -> (String, Vec<String>) {
    let mut lines: Vec<String> = Vec::new();
    for (name, address, entry) in profiles {
        let name = names::plain(NAMES[*name], "x");
        let line = format!(
            "    \"{name}\":  {{ \"platform\": \"anthropic_compatible\", \"base_url\": \"{}\", \"models\": {{ \"claude-*\": \"m\" }}, \"auth\": {{ \"keychain\": \"e{entry}\" }} }}",
            ADDRESSES[1 + address % 3].trim_end_matches('/')
        );
        if !lines.iter().any(|known| known.starts_with(&format!("    \"{name}\":"))) {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        return (String::new(), lines);
    }
    let first = lines[0].trim().split('"').nth(1).unwrap_or_default().to_owned();
    let text = format!(
        "{{\n  // mine\n  \"failover_policy\": {{ \"primary_profile\": \"{first}\" }},\n  \"profiles\": {{\n{}\n  }}\n}}\n",
        lines.join(",\n")
    );
    (text, lines)
}

/// The entry of the keychain that a profile of a text uses.
fn entry_of(text: &str, name: &str) -> Option<String> {
    let config = Memory::config(text).expect("valid");
    let profile = config.profiles.iter().find(|profile| &*profile.name == name)?;
    if let AuthSource::Keychain(entry) = &profile.auth.source { Some(entry.clone()) } else { None }
}

fn check(given: &Given) -> Result<(), TestCaseError> {
    let entries: Vec<Entry> = given.entries.iter().copied().map(entry).collect();
    let (before, lines) = config(&given.profiles);
    let mut stored: BTreeMap<String, String> = BTreeMap::new();
    for (name, key) in &given.stored {
        let name = if *name < 4 { format!("e{name}") } else { names::plain(NAMES[name % NAMES.len()], "x") };
        stored.insert(name, if *key == 8 { "unreadable".to_owned() } else { secret(*key) });
    }
    let mut memory = Memory { text: before.clone(), stored: stored.clone(), spare: given.spare };
    let parsed = Memory::config(&before).expect("a valid configuration");
    let written: Vec<String> =
        if lines.is_empty() { Vec::new() } else { parsed.profiles.iter().map(|profile| profile.name.to_string()).collect() };
    let profiles = if lines.is_empty() { &[][..] } else { &parsed.profiles[..] };
    let mut plan = Plan::new(&mut memory, Path::new("/home/me"), profiles, &written, given.replace);
    let decisions = plan.decide(&entries);
    let keys = std::mem::take(&mut plan.keys);
    let text = memory.text;

    // No stored value is replaced, and no key is stored twice.
    let mut after = stored.clone();
    for key in &keys {
        let text = secrecy::ExposeSecret::expose_secret(&key.secret).to_owned();
        prop_assert!(
            !keys.iter().any(|other| other.entry != key.entry && KeyId::of(&other.secret) == KeyId::of(&key.secret)),
            "twice: {}",
            key.entry
        );
        prop_assert!(after.insert(key.entry.clone(), text).is_none(), "overwritten: {}", key.entry);
    }
    // Every entry has an outcome, and each key is where the outcome says.
    prop_assert_eq!(decisions.len(), entries.len());
    for (entry, decision) in entries.iter().zip(&decisions) {
        let key =
            entry.content.as_ref().ok().and_then(|provider| if let Key::Literal(secret) = &provider.key { Some(secret) } else { None });
        let key = key.map(|key| secrecy::ExposeSecret::expose_secret(key).to_owned());
        let name = match &decision.outcome {
            Outcome::Skipped { why } => {
                prop_assert!(!why.is_empty());
                continue;
            }
            Outcome::Imported { name, .. } | Outcome::Replaced { name, .. } | Outcome::Merged { with: name } => name,
        };
        let Some(key) = key else { continue };
        // A later entry may have taken the profile over, where `--replace` says so; its key is kept then all the same.
        let kept = entry_of(&text, name).and_then(|entry| after.get(&entry));
        let is_held = kept == Some(&key) || (given.replace && after.values().any(|held| *held == key));
        prop_assert!(is_held, "{name} has {kept:?} for {key}: {:?}\n{text}", decision.outcome);
    }
    // The configuration is valid, and what was in it stands there as it did.
    if !text.is_empty() {
        Memory::config(&text).map_err(TestCaseError::fail)?;
    }
    for line in &lines {
        let name = line.trim().split('"').nth(1).unwrap_or_default();
        let is_replaced =
            decisions.iter().any(|decision| matches!(&decision.outcome, Outcome::Replaced { name: replaced, .. } if replaced == name));
        prop_assert!(is_replaced || text.contains(line.as_str()), "changed: {line}\n{text}");
        prop_assert!(!is_replaced || given.replace);
    }
    // The same again changes nothing.
    let mut again = Memory { text: text.clone(), stored: after, spare: given.spare };
    let parsed = Memory::config(&text).expect("valid");
    let written: Vec<String> = parsed.profiles.iter().map(|profile| profile.name.to_string()).collect();
    let profiles = if text.is_empty() { &[][..] } else { &parsed.profiles[..] };
    let mut plan = Plan::new(&mut again, Path::new("/home/me"), profiles, if text.is_empty() { &[] } else { &written }, false);
    let second = plan.decide(&entries);
    prop_assert!(plan.keys.is_empty());
    for (first, second) in decisions.iter().zip(&second) {
        let is_settled = matches!(second.outcome, Outcome::Merged { .. } | Outcome::Skipped { .. });
        prop_assert!(is_settled, "{:?} then {:?}\n{text}", first.outcome, second.outcome);
    }
    prop_assert_eq!(again.text, text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn import_loses_no_key_and_replaces_none(
        entries in prop::collection::vec((0..NAMES.len(), 0..ADDRESSES.len(), 0..10_u8, any::<bool>(), 0..4_u8, any::<bool>()), 0..10),
        profiles in prop::collection::vec((0..NAMES.len(), 0..3_usize, 0..4_u8), 0..4),
        stored in prop::collection::vec((0..11_usize, 0..9_u8), 0..6),
        spare in any::<bool>(),
        replace in any::<bool>(),
    ) {
        check(&Given { entries, profiles, stored, spare, replace })?;
    }
}

/// The plan for these entries beside this configuration and keychain: the outcomes, and the names of new entries in the keychain.
fn planned(entries: &[Entry], text: &str, stored: &[(&str, &str)], replace: bool) -> (Vec<Decision>, Vec<String>, String) {
    let stored = stored.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned())).collect();
    let mut memory = Memory { text: text.to_owned(), stored, spare: false };
    let config = Memory::config(text).expect("valid");
    let written: Vec<String> =
        if text.is_empty() { Vec::new() } else { config.profiles.iter().map(|profile| profile.name.to_string()).collect() };
    let profiles = if text.is_empty() { &[][..] } else { &config.profiles[..] };
    let mut plan = Plan::new(&mut memory, Path::new("/home/me"), profiles, &written, replace);
    let decisions = plan.decide(entries);
    let keys = plan.keys.iter().map(|key| key.entry.clone()).collect();
    (decisions, keys, memory.text)
}

const ROTATED: &str = r#"{ "profiles": { "glm": { "platform": "anthropic_compatible", "base_url": "https://gw.example", "auth": { "keychain": "glm" } } }, "failover_policy": { "primary_profile": "glm" } }"#;

fn imported(name: &str, kept: &str) -> Outcome {
    Outcome::Imported { name: name.to_owned(), kept: Some(kept.to_owned()) }
}

#[test]
fn rotated_key_is_kept_beside_the_old_one_or_used() {
    let entries = [entry((0, 2, 2, false, 0, false))];
    let (decisions, keys, _) = planned(&entries, ROTATED, &[("glm", "sk-test-1")], false);
    assert_eq!((&decisions[0].outcome, keys), (&imported("glm-2", "glm-2"), vec!["glm-2".to_owned()]));
    assert!(decisions[0].notes[0].contains("`--replace`"), "{:?}", decisions[0].notes);
    let (decisions, keys, text) = planned(&entries, ROTATED, &[("glm", "sk-test-1")], true);
    assert_eq!(decisions[0].outcome, Outcome::Replaced { name: "glm".to_owned(), kept: "glm-2".to_owned() });
    assert_eq!((keys, text.contains(r#"{ "keychain": "glm-2" }"#)), (vec!["glm-2".to_owned()], true));
}

#[test]
fn second_account_is_no_rotated_key() {
    // The first one's key is still in the source.
    let entries = [entry((0, 2, 1, false, 0, false)), entry((0, 2, 2, false, 0, false))];
    let (decisions, _, _) = planned(&entries, ROTATED, &[("glm", "sk-test-1")], true);
    assert_eq!(decisions[0].outcome, Outcome::Merged { with: "glm".to_owned() });
    assert_eq!(decisions[1].outcome, imported("glm-2", "glm-2"));
    assert!(decisions[1].notes.is_empty());
}

#[test]
fn taken_entry_of_the_keychain_stays() {
    let entries = [entry((0, 2, 2, false, 0, false))];
    let (decisions, keys, _) = planned(&entries, "", &[("glm", "sk-other"), ("glm-2", "unreadable")], false);
    assert_eq!((&decisions[0].outcome, keys), (&imported("glm", "glm-3"), vec!["glm-3".to_owned()]));
    let (decisions, keys, _) = planned(&entries, "", &[("glm", "sk-test-2")], false);
    assert_eq!((&decisions[0].outcome, keys.len()), (&imported("glm", "glm"), 0));
}

#[test]
fn one_key_with_two_maps_is_stored_once() {
    let entries = [entry((0, 2, 1, false, 0, false)), entry((4, 2, 1, false, 1, false)), entry((1, 1, 1, false, 0, false))];
    let (decisions, keys, _) = planned(&entries, "", &[], false);
    let outcomes: Vec<&Outcome> = decisions.iter().map(|decision| &decision.outcome).collect();
    assert_eq!(outcomes, [&imported("glm", "glm"), &imported("kimi", "glm"), &Outcome::Merged { with: "glm".to_owned() }]);
    assert_eq!(keys, ["glm"]);
}

#[test]
fn what_has_no_room_is_skipped_with_the_reason() {
    let entries: Vec<Entry> = (0..80)
        .map(|number| Entry {
            name: format!("p{number}"),
            from: PathBuf::from("source"),
            content: Ok(Provider::new("https://gw.example", Key::Literal(SecretString::from(format!("sk-test-{number}"))))),
        })
        .collect();
    let (decisions, keys, _) = planned(&entries, "", &[], false);
    let skipped =
        decisions.iter().filter(|decision| matches!(&decision.outcome, Outcome::Skipped { why } if why.contains("64 profiles"))).count();
    assert_eq!((skipped, keys.len()), (16, 64));
}
