//! Lists every value that holds, each with the place it comes from. Never shows a credential: a text is shown as a diagnostic would.

use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use crate::compile::Config;
use crate::context::Context;
use crate::diagnostic::Errors;
use crate::explain;
use crate::key::KeyPath;
use crate::layers::Layer;
use crate::locations::Locations;
use crate::lookup;
use crate::schema::schema;
use crate::source::At;
use crate::tree::{Node, Value};

/// A value that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// Its key.
    pub key: KeyPath,
    /// The value; lists are whole, what may be a credential is masked.
    pub value: Json,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// It stands in a text.
    Text {
        /// The text's layer.
        layer: Layer,
        /// A file, or what stands for one: `--set`, `$HOTSPARE_SERVER`.
        place: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
}

/// A valid configuration with all its values.
pub struct Inspection {
    /// What it means.
    pub config: Config,
    /// Every value that is set, and the defaults of those that are not, in the order of the format.
    pub values: Vec<Effective>,
    /// All texts, merged.
    root: Option<Node>,
}

/// Reads the configuration of a working directory as [`crate::load`] does, and lists its values.
///
/// # Errors
///
/// As [`crate::load`].
pub fn inspect(locations: &Locations, context: &Context) -> Result<Inspection, Errors> {
    let (config, root) = crate::load_with_root(locations, context)?;
    let mut values = Vec::new();
    if let Some(root) = &root {
        flatten(root, None, &mut values);
    }
    add_defaults(&mut values);
    Ok(Inspection { config, values, root })
}

impl Inspection {
    /// The value of a key; of an object all that is in it.
    pub fn get(&self, path: &KeyPath) -> Option<Json> {
        let below = |key: &KeyPath| key.keys().strip_prefix(path.keys()).map(<[String]>::to_vec);
        let mut whole: Option<Json> = None;
        for (rest, value) in self.values.iter().filter_map(|value| Some((below(&value.key)?, &value.value))) {
            if rest.is_empty() {
                return Some(value.clone());
            }
            put(whole.get_or_insert_with(|| Json::Object(Map::new())), &rest, value);
        }
        whole
    }

    /// Where a key itself stands, be its value an object or not; none where no text has it.
    pub fn place(&self, path: &KeyPath) -> Option<Origin> {
        let mut node = self.root.as_ref()?;
        let mut place = None;
        for key in path.keys() {
            let member = node.member(key)?;
            (node, place) = (&member.node, Some(&member.name_at));
        }
        place.map(origin)
    }

    /// Where the value of a key comes from; of an object where its first value does.
    pub fn origin(&self, path: &KeyPath) -> Option<&Origin> {
        self.values.iter().find(|value| value.key.keys().starts_with(path.keys())).map(|value| &value.origin)
    }
}

fn put(object: &mut Json, keys: &[String], value: &Json) {
    let (Some((key, deeper)), Json::Object(members)) = (keys.split_first(), object) else { return };
    if deeper.is_empty() {
        members.insert(key.clone(), value.clone());
    } else {
        put(members.entry(key.clone()).or_insert_with(|| Json::Object(Map::new())), deeper, value);
    }
}

/// Leaves are lists and all that is no object; an empty object is one too.
fn flatten(node: &Node, parent: Option<&KeyPath>, values: &mut Vec<Effective>) {
    let Value::Object(members) = &node.value else { return };
    for member in members {
        let key = KeyPath::child(parent, &member.name);
        match &member.node.value {
            Value::Object(inner) if !inner.is_empty() => flatten(&member.node, Some(&key), values),
            _ => values.push(Effective { key, value: json(&member.node), origin: origin(&member.name_at) }),
        }
    }
}

fn origin(at: &At) -> Origin {
    let (line, column) = at.line_column();
    Origin::Text { layer: at.source.place.layer, place: at.source.place.path.clone(), line, column }
}

/// As it may be shown.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
        Value::String(text) => {
            let shown = &node.at.source.masked[node.at.span.clone()];
            // Masked or not, quotes and all: where it is, the stars say so.
            if shown.contains('*') && !is_plainly(text, shown) { Json::String("********".to_owned()) } else { Json::String(text.clone()) }
        }
        Value::List(nodes) => Json::Array(nodes.iter().map(json).collect()),
        Value::Object(members) => Json::Object(members.iter().map(|member| (member.name.clone(), json(&member.node))).collect()),
    }
}

/// Whether the stars in a shown text are the text's own (`claude-*`).
fn is_plainly(text: &str, shown: &str) -> bool {
    shown.strip_prefix('"').and_then(|shown| shown.strip_suffix('"')).unwrap_or(shown) == text
}

/// The defaults of all keys that stand at fixed places, and are not set.
fn add_defaults(values: &mut Vec<Effective>) {
    let schema = schema();
    let Some(root) = lookup::resolved(&schema, &schema) else { return };
    let mut ordered = Vec::new();
    in_order(&schema, &root, None, values, &mut ordered);
    // What the schema does not order: nothing that loads, but nothing shall be lost.
    ordered.append(values);
    *values = ordered;
}

fn in_order(schema: &Json, object: &Map<String, Json>, parent: Option<&KeyPath>, set: &mut Vec<Effective>, ordered: &mut Vec<Effective>) {
    for (name, property) in object.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let key = KeyPath::child(parent, name);
        let Some(property) = lookup::resolved(schema, property) else { continue };
        let (mut own, others): (Vec<Effective>, Vec<Effective>) = set.drain(..).partition(|value| value.key.keys().starts_with(key.keys()));
        *set = others;
        if property.contains_key("properties") {
            in_order(schema, &property, Some(&key), &mut own, ordered);
        } else if own.is_empty()
            && let Some(value) = explain::default_of(&property)
        {
            ordered.push(Effective { key, value, origin: Origin::Default });
        }
        ordered.append(&mut own);
    }
}
