//! Turns `--set key=value` and `HOTSPARE_…` into trees, as if each were a file of one key. Never knows which keys exist, and never takes a
//! credential from an argument: every user of the machine can read those.

use std::ops::Range;

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};
use crate::key::KeyPath;
use crate::layers::Layer;
use crate::mask::mask;
use crate::reader::{Findings, nearest};
use crate::source::{At, Place, Source};
use crate::tree::{self, Member, Node, Value};

/// The keys of the format's root that a variable may set.
const SECTIONS: &[&str] = &["failover_policy", "profiles", "server", "hooks", "notify", "log"];

/// Stands between two keys in a variable's name.
const LEVEL: &str = "__";

const PREFIX: &str = "HOTSPARE_";

/// Variables of ours that are no key: the configuration file, the filter of our own log, the completion of a command line.
const OWN_VARIABLES: [&str; 3] = ["HOTSPARE_CONFIG", "HOTSPARE_LOG", "HOTSPARE_COMPLETE"];

/// What the name of a variable for our own tests begins with.
const TEST_PREFIX: &str = "HOTSPARE_TEST_";

/// The trees of `--set` arguments, in their order.
pub(crate) fn arguments(assignments: &[String], findings: &mut Findings) -> Vec<(Place, Node)> {
    assignments.iter().filter_map(|text| argument(text, findings)).collect()
}

fn argument(text: &str, findings: &mut Findings) -> Option<(Place, Node)> {
    let place = Place::new(Layer::Flags, "--set");
    let split = text.find('=').and_then(|at| Some((at, KeyPath::ranges(&text[..at])?)));
    let Some((equals, ranges)) = split else {
        let title = "`--set` needs a key and a value";
        let mut error = Diagnostic::about(Severity::Error, codes::BAD_ASSIGNMENT, &place.path, title).in_layer(place.layer);
        error.help("write it as `--set failover_policy.enabled=false`; a key with a dot in it stands in double quotes");
        findings.errors.push(error);
        return None;
    };
    let keys = ranges.into_iter().map(|range| (text[range.clone()].trim_matches('"').to_owned(), range)).collect();
    let node = assigned(&place, text, keys, equals + 1, findings)?;
    if let Some(secret) = literal_credential(&node) {
        findings
            .error(codes::SECRET_IN_ARGUMENT, &secret.name_at, "a credential on the command line can be read by every user", "this key")
            .help(r#"name where it comes from: `--set 'profiles.NAME.auth={"env":"NAME_OF_A_VARIABLE"}'`"#);
        return None;
    }
    Some((place, node))
}

/// The trees of our variables. `HOTSPARE_FAILOVER_POLICY__CLOCKS__HEAD=30s` is `failover_policy.clocks.head`.
pub(crate) fn variables(variables: &[(String, String)], findings: &mut Findings) -> Vec<(Place, Node)> {
    variables.iter().filter_map(|(name, value)| variable(name, value, findings)).collect()
}

fn variable(name: &str, value: &str, findings: &mut Findings) -> Option<(Place, Node)> {
    let place = Place::new(Layer::Environment, format!("${name}"));
    let path = name.strip_prefix(PREFIX)?;
    let keys: Vec<(String, Range<usize>)> = levels(path, PREFIX.len());
    let (section, _) = keys.first()?;
    if is_own(name) {
        return None;
    }
    if !SECTIONS.contains(&section.as_str()) {
        let meant = misplaced(path).or_else(|| misspelt(path, section));
        // Without a level or a near name it is probably a credential that the user named so.
        if meant.is_some() || path.contains(LEVEL) {
            let title = format!("`{name}` is not read: it names no key");
            let mut warning = Diagnostic::about(Severity::Warning, codes::NO_SUCH_KEY, &place.path, title).in_layer(place.layer);
            if let Some(meant) = meant {
                warning.help(format!("did you mean `{meant}`?"));
            }
            findings.warnings.push(warning);
        }
        return None;
    }
    let text = format!("{name}={value}");
    let node = assigned(&place, &text, keys, name.len() + 1, findings)?;
    Some((place, node))
}

fn levels(path: &str, offset: usize) -> Vec<(String, Range<usize>)> {
    let mut start = 0;
    let level = |part: &str| {
        let range = offset + start..offset + start + part.len();
        start += part.len() + LEVEL.len();
        (part.to_ascii_lowercase(), range)
    };
    path.split(LEVEL).map(level).collect()
}

/// True for a variable of ours that is no key of the configuration.
fn is_own(name: &str) -> bool {
    OWN_VARIABLES.contains(&name) || name.starts_with(TEST_PREFIX)
}

/// The variable that was probably meant: one of ours, or one with its section spelt right.
fn misspelt(path: &str, section: &str) -> Option<String> {
    let own = OWN_VARIABLES.iter().map(|name| &name[PREFIX.len()..]);
    if let Some(meant) = nearest(path, own) {
        return Some(format!("{PREFIX}{meant}"));
    }
    let meant = nearest(section, SECTIONS.iter().copied())?;
    Some(format!("{PREFIX}{}{}", meant.to_ascii_uppercase(), &path[section.len()..]))
}

/// Keys of the policy that stand one level too high.
fn misplaced(path: &str) -> Option<String> {
    const POLICY_KEYS: [&str; 5] = ["ENABLED", "PRIMARY_PROFILE", "SECONDARY_PROFILE", "TRIGGERS", "MAX_FAILOVER_ATTEMPTS"];
    POLICY_KEYS.contains(&path).then(|| format!("{PREFIX}FAILOVER_POLICY{LEVEL}{path}"))
}

/// The tree of one key with its value, which begins at `value_at`. The value is JSON, or text as it stands where it looks like none.
fn assigned(place: &Place, text: &str, keys: Vec<(String, Range<usize>)>, value_at: usize, findings: &mut Findings) -> Option<Node> {
    let value = &text[value_at..];
    let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
    let is_json = value.starts_with(['{', '[', '"']) || matches!(value, "true" | "false" | "null") || is_number(value);
    let source = Source::with_masked(place, &masked(&names, text, value_at, is_json));
    let node = if is_json {
        match tree::parse_part(&source, value, value_at) {
            Ok((node, faults)) => {
                findings.errors.extend(faults);
                node
            }
            Err(fault) => {
                findings.errors.push(*fault);
                return None;
            }
        }
    } else {
        Node { at: At::new(&source, value_at..text.len()), value: Value::String(value.to_owned()) }
    };
    let whole = At::new(&source, 0..text.len());
    Some(keys.into_iter().rev().fold(node, |node, (name, range)| {
        let member = Member { name, name_at: At::new(&source, range), node };
        Node { at: whole.clone(), value: Value::Object(vec![member]) }
    }))
}

fn is_number(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

/// The text with its value masked as in a file of that one key, byte for byte as long.
fn masked(names: &[&str], text: &str, value_at: usize, is_json: bool) -> String {
    let stars = |text: &str| "*".repeat(text.len());
    let value = &text[value_at..];
    let quote = if is_json { "" } else { "\"" };
    let open: String = names.iter().map(|name| format!("{{{}:", serde_json::Value::from(*name))).collect();
    let whole = format!("{open}{quote}{value}{quote}{}", "}".repeat(names.len()));
    let shown = mask(&whole).text;
    let needs_escapes = !is_json && value.contains(|c: char| c == '"' || c == '\\' || c.is_control());
    let from = open.len() + quote.len();
    let value = match shown.get(from..from + value.len()) {
        Some(shown) if !needs_escapes => shown.to_owned(),
        _ => stars(value),
    };
    let key = &text[..value_at];
    let key = if shown.starts_with(&open) { key.to_owned() } else { stars(key) };
    key + &value
}

/// `auth.value` of some profile.
pub(crate) fn literal_credential(root: &Node) -> Option<&Member> {
    let profiles = root.member("profiles")?;
    let Value::Object(profiles) = &profiles.node.value else { return None };
    profiles.iter().find_map(|profile| profile.node.member("auth")?.node.member("value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_as_in_a_file() {
        let shown = |key: &str, value: &str, is_json| {
            let names: Vec<&str> = key.split('.').collect();
            masked(&names, &format!("{key}={value}"), key.len() + 1, is_json)
        };
        assert_eq!(shown("failover_policy.primary_profile", "work", false), "failover_policy.primary_profile=work");
        assert_eq!(shown("profiles.a.auth.value", "hunter2", false), "profiles.a.auth.value=*******");
        assert_eq!(shown("profiles.a.auth", r#"{"value":"hunter2"}"#, true), r#"profiles.a.auth={"value":"*******"}"#);
        assert_eq!(shown("profiles.a.base_url", "https://me:pw@host", false), "profiles.a.base_url=https://**********");
        assert_eq!(shown("failover_policy.primary_profile", "a\"b", false), "failover_policy.primary_profile=***");
        assert_eq!(shown("sk-ant-test", "1", true), "************1".replace('1', "*"));
    }
}
