//! Whatever the file holds: an answer, never a panic, and never the secret.

use std::path::Path;

use hotspare_config::{BaseUrl, Errors, Severity, codes, parse, schema};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::agreement::json;
use crate::corpus::examples;
use crate::validator::fits;

/// Parses and draws everything, as the command would.
fn run(text: &str) -> String {
    match parse(text, Path::new("config.json"), Path::new("/home/me")) {
        Ok(config) => format!("{config:?}{}", Errors(config.warnings.clone()).render(true)),
        Err(errors) => {
            assert!(!errors.0.is_empty(), "an error without a word");
            format!("{}{errors:?}", errors.render(true))
        }
    }
}

/// An example with some places changed.
fn mutated() -> impl Strategy<Value = String> {
    let texts: Vec<String> = ["good", "shape", "meaning"].iter().flat_map(|folder| examples(folder)).map(|example| example.text).collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, "[\\PC\\n\\t{}\\[\\],:\"/*]{0,4}"), 1..6);
    (prop::sample::select(texts), edits)
        .prop_map(|(text, edits)| edits.iter().fold(text, |text, (at, cut, put)| edit(&text, *at, *cut, put)))
}

/// A good example with one value, wherever it stands, in place of another.
fn rearranged() -> impl Strategy<Value = Value> {
    let whole: Vec<Value> = examples("good").iter().map(json).collect();
    let mut pool =
        vec![Value::Null, true.into(), 0.into(), "x".into(), "5s".into(), 3.5.into(), Value::Array(Vec::new()), Value::Object(Map::new())];
    for value in &whole {
        collect(value, &mut pool);
    }
    (prop::sample::select(whole), any::<prop::sample::Index>(), prop::sample::select(pool)).prop_map(|(mut value, at, put)| {
        let mut nodes = Vec::new();
        collect(&value, &mut nodes);
        replace(&mut value, &mut at.index(nodes.len()), &put);
        value
    })
}

/// The value and all that is in it, the outer before the inner.
fn collect(value: &Value, found: &mut Vec<Value>) {
    found.push(value.clone());
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(members) => members.values().for_each(|member| collect(member, found)),
        _ => {}
    }
}

/// Puts another in the place of the value that comes so far behind; returns whether it is done.
fn replace(value: &mut Value, behind: &mut usize, put: &Value) -> bool {
    if *behind == 0 {
        value.clone_from(put);
        return true;
    }
    *behind -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| replace(item, behind, put)),
        Value::Object(members) => members.values_mut().any(|member| replace(member, behind, put)),
        _ => false,
    }
}

fn edit(text: &str, at: prop::sample::Index, cut: usize, put: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = at.index(chars.len() + 1);
    let end = (at + cut).min(chars.len());
    chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,200}|(?s).{0,200}") {
        run(&text);
    }

    #[test]
    fn any_change_to_a_file_gets_an_answer(text in mutated()) {
        run(&text);
    }

    /// Both ways: what loads fits the schema, and what fits it has no fault that a schema can see. Which keys need which others, and what
    /// another layer may bring, is the loader's to know.
    #[test]
    fn schema_and_loader_agree_on_whatever_is_put_anywhere(value in rearranged()) {
        let fits = fits(&schema(), &value);
        match parse(&value.to_string(), Path::new("config.json"), Path::new("/home/me")) {
            Ok(_) => prop_assert!(fits, "it loads, and the schema refuses it: {value}"),
            Err(errors) => {
                let shape = [codes::WRONG_TYPE, codes::UNKNOWN_KEY, codes::UNKNOWN_WORD].map(|code| code.id);
                let faults = errors.0.iter().filter(|error| error.severity == Severity::Error && shape.contains(&error.code));
                prop_assert!(!fits || faults.count() == 0, "the schema takes it, and the loader does not: {value}\n{errors}");
            }
        }
    }

    /// One stray character anywhere but in the key or the credential itself, in a file with a credential in it.
    #[test]
    fn a_typo_never_lays_the_credential_bare(at in any::<prop::sample::Index>(), cut in 0..2_usize, put in "[{}\\[\\],:\"'/*a0 \\n]{0,2}") {
        let before = "{\n  \"failover_policy\": { \"primary_profile\": \"a\", \"secondary_profile\": \"b\" },\n  \"profiles\": { \"a\": {}, \"b\": { \"auth\": { \"value\": \"";
        let after = "\", \"header\": \"bearer\" }, \"models\": { \"x\": null } } },\n  \"server\": { \"listen\": \"127.0.0.1:0\" }\n}\n";
        let secret = "Tr0ub4dor and three";
        let at = at.index(before.len() + after.len());
        let text = if at < before.len() {
            edit_bytes(before, at, cut, &put) + secret + after
        } else {
            before.to_owned() + secret + &edit_bytes(after, at - before.len(), cut, &put)
        };
        let shown = run(&text);
        prop_assert!(!shown.contains("Tr0ub4dor"), "{text}\n{shown}");
    }

    #[test]
    fn any_address_gets_an_answer_and_reads_back(text in "(https?://)?[a-zA-Z0-9.:/\\[\\]@?#%\\\\-]{0,40}") {
        if let Ok(url) = BaseUrl::parse(&text) {
            prop_assert_eq!(BaseUrl::parse(&url.to_string()), Ok(url));
        }
    }
}

/// The texts above are ASCII.
fn edit_bytes(text: &str, at: usize, cut: usize, put: &str) -> String {
    let end = (at + cut).min(text.len());
    format!("{}{put}{}", &text[..at], &text[end..])
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000), format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))] {
        assert!(run(&text).contains("HS0007"), "nested too deeply");
    }
}

#[test]
fn a_thousand_faults_are_not_all_shown() {
    let entries: Vec<String> = (0..20_000).map(|number| format!("\"k{number}\": [{number}]")).collect();
    let text = format!("{{ \"failover_policy\": {{ {} }} }}", entries.join(",\n"));
    let errors = parse(&text, Path::new("c"), Path::new("/h")).expect_err("unknown keys");
    assert_eq!(errors.0.len(), 50);
    assert!(errors.render(false).ends_with("= note: 19950 more are not shown"));
}

/// Found by the property above: as an entry of a list it passed for a good one.
#[test]
fn what_is_no_list_is_refused_beside_a_plus_too() {
    let schema = schema();
    for (list, wrong) in
        [(r#""AttemptFailure""#, r#"{ "matcher": "", "hooks": [] }"#), (r#""AttemptFailure""#, "null"), (r#""PreRetry""#, r#""x""#)]
    {
        let plus = list.replacen('"', "\"+", 1);
        for hooks in [format!("{list}: {wrong}, {plus}: []"), format!("{list}: [], {plus}: {wrong}")] {
            refused(&schema, &format!(r#"{{ "profiles": {{ "a": {{}} }}, "hooks": {{ {hooks} }} }}"#));
        }
    }
    for policy in [r#""triggers": "5xx", "+triggers": [429]"#, r#""triggers": [429], "+triggers": "5xx""#, r#""chains": 5, "+chains": []"#]
    {
        refused(&schema, &format!(r#"{{ "profiles": {{ "a": {{}} }}, "failover_policy": {{ "primary_profile": "a", {policy} }} }}"#));
    }
    let good = r#"{ "profiles": { "a": {}, "b": {}, "c": {} }, "failover_policy": { "primary_profile": "a", "secondary_profile": "b", "+secondary_profile": "c" } }"#;
    assert!(fits(&schema, &whole(good)) && parse(good, Path::new("config.json"), Path::new("/home/me")).is_ok());
}

fn refused(schema: &Value, text: &str) {
    assert!(!fits(schema, &whole(text)), "the schema takes {text}");
    assert!(parse(text, Path::new("config.json"), Path::new("/home/me")).is_err(), "the loader takes {text}");
}

fn whole(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}
