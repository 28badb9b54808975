//! The schema and the loader say the same, as far as a schema can know it.

use hotspare_config::schema;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::Value;

use crate::corpus::{Example, examples};
use crate::validator::fits;

/// The example as plain JSON.
pub(crate) fn json(example: &Example) -> Value {
    let result = parse_to_ast(&example.text, &CollectOptions::default(), &ParseOptions::default()).expect("JSON");
    result.value.expect("a value").into()
}

#[test]
fn the_schema_accepts_what_loads() {
    for example in examples("good") {
        assert!(fits(&schema(), &json(&example)), "{}", example.name);
    }
}

#[test]
fn the_schema_sees_a_wrong_shape() {
    for example in examples("shape") {
        if example.name.starts_with("syntax_") {
            continue; // No editor needs a schema to see that.
        }
        assert!(!fits(&schema(), &json(&example)), "{}", example.name);
    }
}

#[test]
fn the_schema_leaves_the_meaning_to_the_loader() {
    for example in examples("meaning") {
        assert!(fits(&schema(), &json(&example)), "{}", example.name);
    }
}

/// Both ways: `every_key` loads and fits, so neither side lacks a key of it; and the schema has no key that it lacks.
#[test]
fn one_example_has_every_key_of_the_schema() {
    let example = examples("good").into_iter().find(|example| example.name == "every_key").expect("the example");
    let text = example.text;
    // A lock is for the administrator's file alone: see `layered`.
    let keys = keys(&schema()).into_iter().filter(|key| key != "locked");
    let missing: Vec<String> = keys.filter(|key| !text.contains(&format!("\"{key}\":"))).collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The names of all properties, wherever they are defined.
fn keys(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(members) => {
            let own = members.get("properties").and_then(Value::as_object).into_iter().flat_map(|properties| properties.keys().cloned());
            own.chain(members.values().flat_map(keys)).collect()
        }
        Value::Array(items) => items.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_key_and_every_type_is_described() {
    fn check(path: &str, schema: &Value) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let described = property["description"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n'));
            assert!(described, "{path}.{name} has no description");
        }
    }
    let schema = schema();
    check("root", &schema);
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        check(name, definition);
    }
}

#[test]
fn the_schema_is_the_published_one() {
    insta::assert_snapshot!("schema", serde_json::to_string_pretty(&schema()).expect("JSON"));
}
