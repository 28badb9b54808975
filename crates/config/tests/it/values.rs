//! Values with their origins, edits on real examples, and defaults that are what they are said to be.

use hotspare_config::edit::{self, undo};
use hotspare_config::{Config, Context, Errors, Inspection, KeyPath, Layer, Origin, inspect, parse};
use hotspare_core::Policy;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::corpus::examples;
use crate::home::Home;

fn path(text: &str) -> KeyPath {
    KeyPath::parse(text).expect("a path")
}

fn inspected(home: &Home, context: &Context) -> Inspection {
    inspect(&home.locations(None), context).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_value_knows_where_it_comes_from() {
    let home = Home::new()
        .config("{\n  \"failover_policy\": {\n    \"primary_profile\": \"a\",\n    \"triggers\": [500, 529]\n  },\n  \"profiles\": { \"a\": {}, \"b\": { \"auth\": { \"value\": \"hunter2\" } } }\n}\n")
        .claude(r#"{ "failover_policy": { "secondary_profile": ["b"], "triggers": [429] } }"#)
        .with("p/.hotspare/config.json", r#"{ "failover_policy": { "enabled": false } }"#);
    let context = Context::new(home.path("p")).with_assignments(vec!["server.max_connections=9".to_owned()]);
    let inspection = inspected(&home, &context);
    let shown = |key: &str| {
        let value = inspection.values.iter().find(|value| value.key == path(key)).unwrap_or_else(|| panic!("{key} is missing"));
        let origin = match &value.origin {
            Origin::Default => "default".to_owned(),
            Origin::Text { layer, place, line, column } => {
                format!("{layer} {}:{line}:{column}", place.file_name().expect("a name").to_string_lossy())
            }
        };
        (value.value.clone(), origin)
    };
    assert_eq!(shown("failover_policy.primary_profile"), (json!("a"), "user config.json:3:5".into()));
    assert_eq!(shown("failover_policy.triggers"), (json!([500, 529]), "user config.json:4:5".into()));
    assert_eq!(shown("failover_policy.secondary_profile"), (json!(["b"]), "user settings.json:1:24".into()));
    assert_eq!(shown("failover_policy.enabled"), (json!(false), "project config.json:1:24".into()));
    assert_eq!(shown("server.max_connections"), (json!(9), "flags --set:1:8".into()));
    assert_eq!(shown("failover_policy.clocks.head"), (json!("60s"), "default".into()));
    assert_eq!(shown("failover_policy.max_failover_attempts"), (json!(3), "default".into()));
    assert_eq!(shown("profiles.a"), (json!({}), "user config.json:6:17".into()));
    assert_eq!(shown("profiles.b.auth.value").0, json!("********"));
    assert_eq!(inspection.get(&path("server.max_connections")), Some(json!(9)));
    assert_eq!(inspection.get(&path("profiles.b")), Some(json!({ "auth": { "value": "********" } })));
    assert_eq!(inspection.get(&path("profiles.c")), None);
    assert!(matches!(inspection.origin(&path("server")), Some(Origin::Default)));
    assert!(matches!(inspection.origin(&path("profiles")), Some(Origin::Text { layer: Layer::User, .. })));
}

/// All defaults that the descriptions name, set by hand, change nothing.
#[test]
fn described_defaults_are_the_real_ones() {
    let home = Home::new();
    let mut text = "{}".to_owned();
    let mut count = 0;
    for value in inspected(&home, &Context::default()).values {
        // Triggers are described in words.
        if value.key != path("failover_policy.triggers") {
            text = edit::set(&text, &value.key, &value.value.to_string()).expect("an edit").text;
            count += 1;
        }
    }
    assert!(count >= 13, "only {count} defaults are described: {text}");
    let config = home.config(&text).config_of();
    // A clock that is named does not adapt itself; that alone differs.
    let policy = Policy { head_is_named: true, ..Policy::default() };
    assert_eq!((config.policy, config.server), (policy, Home::new().config_of().server), "{text}");
}

fn loads(text: &str) -> Result<Config, Errors> {
    parse(text, std::path::Path::new("config.json"), std::path::Path::new("/home/me"))
}

fn comments(text: &str) -> usize {
    text.matches("//").count() + text.matches("/*").count()
}

/// Keys and values that any good example takes.
const SETTABLE: [(&str, &str); 8] = [
    ("failover_policy.enabled", "false"),
    ("failover_policy.max_failover_attempts", "2"),
    ("failover_policy.clocks.head", "\"31s\""),
    ("failover_policy.triggers", "[ 500,529 ]"),
    ("server.max_connections", "77"),
    ("server.max_body", "\"1MiB\""),
    ("profiles.\"new-one\"", "{ \"auth\": { \"env\": \"NEW\" } }"),
    ("$schema", "\"https://example.com/other.json\""),
];

#[test]
fn any_good_example_can_be_edited_and_comes_back_byte_for_byte() {
    for example in examples("good") {
        for (key, value) in SETTABLE {
            let key = path(key);
            let edited = edit::set(&example.text, &key, value).unwrap_or_else(|error| panic!("{} {key}: {error}", example.name));
            assert_eq!(undo(&edited.text, &edited.undo).as_deref(), Some(example.text.as_str()), "{} {key}", example.name);
            assert!(comments(&edited.text) >= comments(&example.text), "{} {key}:\n{}", example.name, edited.text);
            // It may mean nonsense now (a policy without a primary); it may not be broken.
            let broken = loads(&edited.text).err().filter(|errors| errors.0.iter().any(|error| error.code < "HS0100"));
            assert!(broken.is_none(), "{} {key}:\n{}", example.name, edited.text);
            let again = edit::set(&edited.text, &key, value).expect("an edit");
            assert_eq!(again.text, edited.text, "setting twice is setting once");
            let gone = edit::unset(&edited.text, &key).expect("it is there now");
            assert!(edit::unset(&gone.text, &key).is_err(), "{} {key}", example.name);
            assert_eq!(undo(&gone.text, &gone.undo).as_deref(), Some(edited.text.as_str()));
        }
    }
}

/// Objects with comments, odd blanks and both line ends.
fn document() -> impl Strategy<Value = String> {
    let blank = prop::sample::select(vec!["", " ", "\n", "\r\n", "\t", "  \n  ", " /* c */ ", " // l\n", "\n  // é\n  "]);
    let leaf = prop::sample::select(vec!["1", "true", "null", "\"x, }\"", "[1, /* , */ 2]", "\"é\\\"\"", "{}", "{ // in\n }"])
        .prop_map(str::to_owned);
    let blanks = blank.clone();
    let object = leaf.prop_recursive(3, 24, 4, move |inner| {
        let member = (blanks.clone(), 0..5_u8, blanks.clone(), inner, blanks.clone());
        (prop::collection::vec(member, 0..4), any::<bool>(), blanks.clone()).prop_map(|(members, trailing, end)| {
            let mut seen = std::collections::BTreeSet::new();
            let members: Vec<String> = members
                .into_iter()
                .filter(|(_, key, ..)| seen.insert(*key))
                .map(|(before, key, middle, value, after)| format!("{before}\"k{key}\"{middle}:{value}{after}"))
                .collect();
            let comma = if trailing && !members.is_empty() { "," } else { "" };
            format!("{{{}{comma}{end}}}", members.join(","))
        })
    });
    (blank.clone(), object.prop_filter("an object", |text| text.starts_with('{')), blank)
        .prop_map(|(before, object, after)| format!("{before}{object}{after}"))
}

/// The document as plain JSON.
fn plain(text: &str) -> Value {
    let options = jsonc_parser::ParseOptions::default();
    let parsed = jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &options);
    parsed.unwrap_or_else(|error| panic!("{error}\n{text}")).value.expect("a value").into()
}

fn at<'v>(value: &'v Value, key: &KeyPath) -> Option<&'v Value> {
    key.keys().iter().try_fold(value, |value, key| value.get(key))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn set_then_get_and_set_then_undo(text in document(), keys in prop::collection::vec(0..6_u8, 1..4), value in prop::sample::select(vec!["7", "\"new\"", "[]", "{ \"a\": 1 }"])) {
        let key = path(&keys.iter().map(|key| format!("k{key}")).collect::<Vec<_>>().join("."));
        let before = plain(&text);
        if let Ok(edited) = edit::set(&text, &key, value) {
            let after = plain(&edited.text);
            prop_assert_eq!(at(&after, &key), Some(&plain(value)), "{}", edited.text);
            prop_assert_eq!(undo(&edited.text, &edited.undo), Some(text.clone()));
            // Everything else is as it was, and so is every comment outside the value.
            let mut rest = after.clone();
            let mut was = before.clone();
            for tree in [&mut rest, &mut was] {
                tree.as_object_mut().expect("an object").shift_remove(&key.keys()[0]);
            }
            prop_assert_eq!(rest, was);
            if at(&before, &key).is_none() {
                prop_assert_eq!(comments(&edited.text), comments(&text), "{}\n----\n{}", text, edited.text);
            }
        }
        if let Ok(gone) = edit::unset(&text, &key) {
            let rest = plain(&gone.text);
            prop_assert_eq!(at(&rest, &key), None, "{}\n----\n{}", text, gone.text);
            prop_assert_eq!(undo(&gone.text, &gone.undo), Some(text.clone()));
        }
    }
}
