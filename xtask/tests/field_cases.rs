//! Keeps `docs/field-cases.md` and the tests it names one thing: the document holds the cases, the sources hold the tests.
//!
//! To write the table's last column again: `HOTSPARE_WRITE=1 cargo nextest run -p xtask --test field_cases`.

use std::collections::BTreeMap;

mod sources;

use sources::{Test, root, tests_below};

const DOCUMENT: &str = "docs/field-cases.md";

/// Begins the name of a test of a case; its number follows.
const PREFIX: &str = "field_";

const ADVICE: &str = "run `HOTSPARE_WRITE=1 cargo nextest run -p xtask --test field_cases`, and review the difference";

/// A row of the table: `| F3 | what happened | source | tests |`.
#[derive(Debug)]
struct Row<'a> {
    number: u32,
    situation: &'a str,
    source: &'a str,
}

/// The row in a line; `None` if the line is another part of the document.
fn row(line: &str) -> Option<Row<'_>> {
    let cells: Vec<&str> = line.strip_prefix("| F")?.split(" | ").map(str::trim).collect();
    let [number, situation, source, ..] = cells[..] else { panic!("a row has four cells: {line}") };
    Some(Row { number: number.parse().expect("a number behind F"), situation, source })
}

/// The number of the case that a test is about: `field_07_ping_…` is about 7.
fn case_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('_').next()?.parse().ok()
}

fn tests_by_case() -> BTreeMap<u32, Vec<Test>> {
    let mut found: BTreeMap<u32, Vec<Test>> = BTreeMap::new();
    for test in tests_below() {
        if let Some(number) = case_of(&test.name) {
            found.entry(number).or_default().push(test);
        }
    }
    found
}

fn written(row: &Row<'_>, tests: Option<&Vec<Test>>) -> String {
    let named: Vec<String> = tests.into_iter().flatten().map(|test| format!("`{}` ({})", test.name, test.path)).collect();
    let held = if named.is_empty() { "none yet".to_owned() } else { named.join("<br>") };
    format!("| F{} | {} | {} | {held} |", row.number, row.situation, row.source)
}

#[test]
fn table_lists_every_case_with_its_tests() {
    let document = std::fs::read_to_string(root().join(DOCUMENT)).expect("the document is there");
    let tests = tests_by_case();
    let lines: Vec<String> =
        document.lines().map(|line| row(line).map_or_else(|| line.to_owned(), |row| written(&row, tests.get(&row.number)))).collect();
    let numbers: Vec<u32> = document.lines().filter_map(row).map(|row| row.number).collect();
    let expected: Vec<u32> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "each case once, in order");
    let unknown: Vec<&u32> = tests.keys().filter(|number| !numbers.contains(number)).collect();
    assert!(unknown.is_empty(), "{DOCUMENT} has no row F{unknown:?}: write what happened, and where");
    if std::env::var_os("HOTSPARE_WRITE").is_some() {
        return std::fs::write(root().join(DOCUMENT), lines.join("\n") + "\n").expect("written");
    }
    for (old, new) in document.lines().zip(&lines) {
        assert_eq!(old, new, "{DOCUMENT} is stale: {ADVICE}");
    }
}

#[test]
fn every_case_has_a_source_and_a_test_that_tells_it() {
    let document = std::fs::read_to_string(root().join(DOCUMENT)).expect("the document is there");
    let tests = tests_by_case();
    let sourceless: Vec<u32> = document.lines().filter_map(row).filter(|row| row.source.is_empty()).map(|row| row.number).collect();
    assert!(sourceless.is_empty(), "cases without a source: {sourceless:?}");
    let silent: Vec<&str> = tests.values().flatten().filter(|test| test.doc.is_empty()).map(|test| test.name.as_str()).collect();
    assert!(silent.is_empty(), "tests of a case without a comment on what happened: {silent:#?}");
    let untested: Vec<u32> = document.lines().filter_map(row).map(|row| row.number).filter(|number| !tests.contains_key(number)).collect();
    assert!(untested.is_empty(), "cases without a test named `{PREFIX}NN_…`: {untested:?}");
}
