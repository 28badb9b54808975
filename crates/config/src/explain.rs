//! Says in words what a key is: from the schema's own descriptions, so that people and editors are told the same.

use serde_json::{Map, Value};

use crate::key::KeyPath;
use crate::lookup;
use crate::reader::nearest;
use crate::schema::schema;

/// Before a default in a description.
const DEFAULT: &str = "Default: ";

/// What a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What it does, in words.
    pub description: String,
    /// What it takes: `a whole number from 0 to 3`.
    pub takes: String,
    /// As described.
    pub default: Option<String>,
    /// Words that it takes, with their meanings.
    pub words: Vec<(String, String)>,
    /// Examples, as JSON.
    pub examples: Vec<String>,
    /// The keys below it, with the first sentence of each.
    pub keys: Vec<(String, String)>,
}

/// Explains a key. The error is the key that was probably meant, if one is near.
///
/// # Errors
///
/// When the format has no such key.
pub fn explain(path: &KeyPath) -> Result<Explained, Option<KeyPath>> {
    let root = schema();
    let Some(found) = lookup::find(&root, path) else { return Err(meant(&root, path)) };
    let description = text(&found, "description");
    Ok(Explained {
        default: default_text(&found),
        description: description.split(DEFAULT).next().unwrap_or_default().trim().to_owned(),
        takes: takes(&root, &found),
        words: words(&root, &found),
        examples: found.get("examples").and_then(Value::as_array).into_iter().flatten().map(Value::to_string).collect(),
        keys: keys(&root, &found),
    })
}

/// Deepest key that [`all_keys`] lists; the format has five levels.
const MAX_KEY_DEPTH: usize = 6;

/// Every key of the format whose name is fixed, sorted: `failover_policy`, `failover_policy.clocks`, ….
#[must_use]
pub fn all_keys() -> Vec<String> {
    let root = schema();
    let mut found = Vec::new();
    if let Some(top) = lookup::resolved(&root, &root) {
        collect_keys(&root, &top, "", MAX_KEY_DEPTH, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn collect_keys(root: &Value, schema: &Map<String, Value>, prefix: &str, depth: usize, found: &mut Vec<String>) {
    let choices = ["anyOf", "oneOf"].iter().filter_map(|word| schema.get(*word)?.as_array()).flatten();
    let mut shapes: Vec<Map<String, Value>> = choices.filter_map(|choice| lookup::resolved(root, choice)).collect();
    shapes.push(schema.clone());
    for name in shapes.iter().filter_map(|shape| shape.get("properties")?.as_object()).flat_map(Map::keys) {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if depth > 1
            && let Some(below) = lookup::child(root, schema, name)
        {
            collect_keys(root, &below, &path, depth - 1, found);
        }
        found.push(path);
    }
}

/// The path with its first wrong key replaced by the nearest right one.
fn meant(root: &Value, path: &KeyPath) -> Option<KeyPath> {
    let mut schema = lookup::resolved(root, root)?;
    let mut known: Option<KeyPath> = None;
    for key in path.keys() {
        if let Some(deeper) = lookup::child(root, &schema, key) {
            schema = deeper;
            known = Some(KeyPath::child(known.as_ref(), key));
            continue;
        }
        let names = schema.get("properties")?.as_object()?.keys().map(String::as_str);
        return nearest(key, names).map(|name| KeyPath::child(known.as_ref(), name));
    }
    None
}

/// A default as JSON, where the description names one.
pub(crate) fn default_of(schema: &Map<String, Value>) -> Option<Value> {
    let default = default_text(schema)?;
    let is_text = schema.get("type").is_some_and(|kind| kind == "string") || schema.contains_key("oneOf");
    match serde_json::from_str(&default) {
        Ok(value) if !is_text => Some(value),
        _ => Some(Value::String(default)),
    }
}

/// `Default: 5s.` at the end of a sentence, without its backticks.
fn default_text(schema: &Map<String, Value>) -> Option<String> {
    let description = schema.get("description")?.as_str()?;
    let (_, rest) = description.split_once(DEFAULT)?;
    let end = rest.find(". ").or_else(|| rest.find("; ")).unwrap_or_else(|| rest.strip_suffix('.').map_or(rest.len(), str::len));
    let default = &rest[..end];
    let plain = default.trim_matches('`').trim_matches('"');
    Some(if plain.contains('`') { default.to_owned() } else { plain.to_owned() })
}

fn text(schema: &Map<String, Value>, word: &str) -> String {
    schema.get(word).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a value may be, in words.
fn takes(root: &Value, schema: &Map<String, Value>) -> String {
    let choices: Vec<String> =
        choices(schema).filter_map(|choice| lookup::resolved(root, choice)).map(|choice| takes(root, &choice)).collect();
    let number = |word: &str| schema.get(word).filter(|value| value.is_number()).map(ToString::to_string);
    match schema.get("type").and_then(Value::as_str) {
        _ if schema.contains_key("const") || schema.contains_key("enum") => "one of a few words".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("integer") => match (number("minimum"), number("maximum")) {
            (Some(from), Some(to)) => format!("a whole number from {from} to {to}"),
            _ => "a whole number".to_owned(),
        },
        Some("string") => match schema.get("pattern").and_then(Value::as_str) {
            Some(pattern) if pattern.contains("(ms|s|m|h)") => {
                "a duration: a whole number and `ms`, `s`, `m` or `h`, at most 24 h".to_owned()
            }
            Some(pattern) if pattern.contains("(KiB|MiB)") => "a size: a whole number and `KiB` or `MiB`".to_owned(),
            _ => "text".to_owned(),
        },
        Some("array") => {
            let items = schema.get("items").and_then(|items| lookup::resolved(root, items)).map(|items| takes(root, &items));
            items.map_or_else(|| "a list".to_owned(), |items| format!("a list, each entry {items}"))
        }
        Some("object") if schema.contains_key("properties") => "an object".to_owned(),
        Some("object") => "an object whose keys are names of your own".to_owned(),
        Some("null") => "`null`".to_owned(),
        _ if choices.is_empty() => "anything".to_owned(),
        _ => either(choices),
    }
}

fn either(mut choices: Vec<String>) -> String {
    choices.dedup();
    choices.join(", or ")
}

fn choices(schema: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten()
}

/// The words that a value may be, wherever they stand in its schema.
fn words(root: &Value, schema: &Map<String, Value>) -> Vec<(String, String)> {
    let meaning = || first_line(&text(schema, "description"));
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return vec![(word.to_owned(), meaning())];
    }
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut words: Vec<(String, String)> = listed.map(|word| (word.to_owned(), String::new())).collect();
    let items = schema.get("items").into_iter();
    for choice in choices(schema).chain(items).filter_map(|choice| lookup::resolved(root, choice)) {
        if !choice.contains_key("properties") {
            words.extend(self::words(root, &choice));
        }
    }
    words
}

fn keys(root: &Value, schema: &Map<String, Value>) -> Vec<(String, String)> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let own = properties.filter_map(|(name, property)| {
        let property = lookup::resolved(root, property)?;
        Some((name.clone(), first_line(&text(&property, "description"))))
    });
    let mut keys: Vec<(String, String)> = own.collect();
    for choice in choices(schema).filter_map(|choice| lookup::resolved(root, choice)) {
        for key in self::keys(root, &choice) {
            if !keys.iter().any(|(known, _)| *known == key.0) {
                keys.push(key);
            }
        }
    }
    keys
}

/// The first sentence.
fn first_line(description: &str) -> String {
    let end = description.find(". ").map_or(description.len(), |end| end + 1);
    description[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Explained {
        explain(&KeyPath::parse(path).expect("a path")).unwrap_or_else(|_| panic!("{path} is a key"))
    }

    #[test]
    fn a_key_is_explained_in_the_schema_s_own_words() {
        let head = of("failover_policy.clocks.head");
        assert_eq!(head.description, "From the request to the answer's head.");
        assert_eq!(
            (head.takes.as_str(), head.default.as_deref()),
            ("a duration: a whole number and `ms`, `s`, `m` or `h`, at most 24 h", Some("60s"))
        );
        let attempts = of("failover_policy.max_failover_attempts");
        assert_eq!((attempts.takes.as_str(), attempts.default.as_deref()), ("a whole number from 0 to 3", Some("3")));
        assert!(
            of("failover_policy.on_exhausted").words.iter().any(|(word, meaning)| word == "wait" && meaning.starts_with("An answer that"))
        );
        assert!(of("failover_policy.triggers").words.iter().any(|(word, _)| word == "overloaded"));
        assert!(of("profiles").takes.contains("names of your own"));
        assert!(of("profiles.anything.auth").keys.iter().any(|(key, _)| key == "env"));
        assert!(of("profiles.anything.base_url").examples.iter().any(|example| example.contains("api.z.ai")));
        assert!(of("failover_policy").keys.iter().any(|(key, first)| key == "triggers" && first.starts_with("Which failures")));
        assert_eq!(of("server.listen").default.as_deref(), Some("127.0.0.1:4117"));
    }

    #[test]
    fn a_key_that_does_not_exist_has_a_neighbour() {
        let meant = |path: &str| explain(&KeyPath::parse(path).expect("a path")).expect_err("no such key").map(|path| path.to_string());
        assert_eq!(meant("failover_policy.trigers").as_deref(), Some("failover_policy.triggers"));
        assert_eq!(meant("profiles.a.baseurl").as_deref(), Some("profiles.a.base_url"));
        assert_eq!(meant("colour"), None);
    }
}
