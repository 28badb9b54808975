//! Sets of texts, one for each layer: what holds in the end and where it comes from, or what is wrong and where.
//!
//! Each file in `corpus/layers` has a section for each text, after a line such as `──── user`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use hotspare_config::{Context, Errors, Inspection, Origin, codes, inspect};

use crate::corpus::examples;
use crate::home::Home;

const MARK: &str = "──── ";

/// Where a section's text stands.
const PLACES: [(&str, &str); 9] = [
    ("user", ".config/hotspare/config.json"),
    ("claude user", ".claude/settings.json"),
    ("outer", "code/.hotspare/config.json"),
    ("project", "code/p/.hotspare/config.json"),
    ("claude project", "code/p/.claude/settings.json"),
    ("local", "code/p/.hotspare/config.local.json"),
    ("claude local", "code/p/.claude/settings.local.json"),
    ("managed", "etc/managed.json"),
    ("claude managed", "etc/managed-settings.json"),
];

fn sections(text: &str) -> BTreeMap<&str, &str> {
    text.split(MARK).skip(1).filter_map(|section| section.split_once('\n')).collect()
}

fn outcome(home: &Home, text: &str) -> Result<Inspection, Errors> {
    let sections = sections(text);
    home.write("code/p/README", "");
    for (name, place) in PLACES {
        if let Some(text) = sections.get(name) {
            home.write(place, text);
        }
    }
    let lines = |name: &str| sections.get(name).into_iter().flat_map(|text| text.lines()).map(str::to_owned).collect::<Vec<_>>();
    let variables: Vec<(OsString, OsString)> =
        lines("env").iter().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect();
    let context = Context::new(home.path("code/p")).with_assignments(lines("set")).with_variables(variables.into_iter());
    let context = if sections.contains_key("trust") { context.trusting_all() } else { context };
    let known = PLACES.iter().map(|(name, _)| *name).chain(["set", "env", "trust"]).collect::<Vec<_>>();
    assert!(sections.keys().all(|name| known.contains(name)), "{:?}", sections.keys());
    inspect(&home.locations(None), &context)
}

fn told(outcome: Result<Inspection, Errors>) -> String {
    match outcome {
        Err(errors) => errors.render(false),
        Ok(inspection) => {
            let values = inspection.values.iter().filter_map(|value| match &value.origin {
                Origin::Default => None,
                Origin::Text { layer, place, line, column } => {
                    Some(format!("{} = {}  {}:{line}:{column} ({layer})", value.key, value.value, place.display()))
                }
            });
            let values = values.collect::<Vec<_>>().join("\n");
            let warnings = Errors(inspection.config.warnings).render(false);
            if warnings.is_empty() { values } else { format!("{values}\n\n{warnings}") }
        }
    }
}

#[test]
fn every_set_of_layers_reads_well() {
    let mut book = String::new();
    for example in examples("layers") {
        let home = Home::new();
        let told = told(outcome(&home, &example.text)).replace(crate::home::text(&home.path("")).trim_end_matches('/'), "~");
        write!(book, "{MARK}{}\n\n{told}\n\n", example.name).expect("a string takes all");
    }
    insta::assert_snapshot!("layers", book);
}

#[test]
fn every_error_of_a_layer_has_a_code_a_place_a_layer_and_advice() {
    let mut faulty = 0;
    for example in examples("layers") {
        let home = Home::new();
        let Err(errors) = outcome(&home, &example.text) else { continue };
        faulty += 1;
        for error in errors.0 {
            let shown = error.render(false);
            assert!(codes::meaning(error.code).is_some() && !error.help.is_empty(), "{}\n{shown}", example.name);
            assert!(error.layer.is_some(), "{} does not say which layer\n{shown}", example.name);
            // Of an empty file, and of an argument that has no form, there is nothing to draw.
            if ![codes::EMPTY.id, codes::BAD_ASSIGNMENT.id].contains(&error.code) {
                let (line, column) = error.line_column().expect("a place");
                let name = error.file.file_name().unwrap_or(error.file.as_os_str());
                assert!(shown.contains(&format!("{}:{line}:{column}\n", Path::new(name).display())), "{}\n{shown}", example.name);
                assert!(shown.contains('^') && !error.label.is_empty(), "{}\n{shown}", example.name);
            }
        }
    }
    assert!(faulty >= 12, "only {faulty} sets are faulty");
}

#[test]
fn the_corpus_is_large() {
    let count: usize = ["good", "shape", "meaning", "layers"].map(|folder| examples(folder).len()).iter().sum();
    assert!(count >= 200, "{count} configurations");
}
