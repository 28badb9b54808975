//! Finds what the published schema says of a key. Never adds to it: what people are told is what the schema tells their editors.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::key::KeyPath;

/// The schema of one key, with the type's own words below the key's.
pub(crate) fn find(root: &Value, path: &KeyPath) -> Option<Map<String, Value>> {
    path.keys().iter().try_fold(resolved(root, root)?, |schema, key| child(root, &schema, key))
}

/// The schema of a key of this object.
pub(crate) fn child(root: &Value, schema: &Map<String, Value>, key: &str) -> Option<Map<String, Value>> {
    if let Some(property) = schema.get("properties").and_then(|properties| properties.get(key)) {
        return resolved(root, property);
    }
    if let Some(any) = schema.get("additionalProperties").filter(|any| any.is_object()) {
        return resolved(root, any);
    }
    let choices = ["anyOf", "oneOf"].iter().filter_map(|word| schema.get(*word)?.as_array()).flatten();
    choices.filter_map(|choice| resolved(root, choice)).find_map(|choice| child(root, &choice, key))
}

/// The schema with what it refers to put below it.
pub(crate) fn resolved(root: &Value, schema: &Value) -> Option<Map<String, Value>> {
    let own = schema.as_object()?;
    let mut whole = match own.get("$ref").and_then(Value::as_str) {
        Some(reference) => resolved(root, root.pointer(reference.strip_prefix('#')?)?)?,
        None => Map::new(),
    };
    // `null` drops a profile or refuses a model; it says nothing of the keys below.
    if let Some(only) = not_null(own) {
        whole = resolved(root, &only)?;
    }
    whole.extend(own.iter().filter(|(word, _)| !matches!(word.as_str(), "$ref")).map(|(word, value)| (word.clone(), value.clone())));
    Some(whole)
}

fn not_null(schema: &Map<String, Value>) -> Option<Cow<'_, Value>> {
    let choices = schema.get("anyOf")?.as_array()?;
    let mut others = choices.iter().filter(|choice| choice["type"] != "null");
    match (others.next(), others.next()) {
        (Some(only), None) if choices.len() > 1 => Some(Cow::Borrowed(only)),
        _ => None,
    }
}
