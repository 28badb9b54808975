//! Holds that every code can be explained, and that the index in the docs is the code's own.
//!
//! To write it anew: `HOTSPARE_WRITE=1 cargo nextest run -p hotspare the_index_in_the_docs`.

use std::fmt::Write as _;

use super::*;
use crate::output::Paint;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");

#[test]
fn the_index_in_the_docs_is_the_code_s_own() {
    let index = markdown(&index());
    if std::env::var_os("HOTSPARE_WRITE").is_some() {
        return std::fs::write(DOCUMENT, index).expect("written");
    }
    let kept = std::fs::read_to_string(DOCUMENT).expect("docs/errors.md is there");
    assert!(kept == index, "docs/errors.md is not the code's: run `HOTSPARE_WRITE=1 cargo nextest run -p hotspare the_index_in_the_docs`");
}

fn markdown(entries: &[Entry]) -> String {
    let mut text = "# Codes, and what to do\n\n`hotspare explain CODE` says the same. Written from the code by a test.\n".to_owned();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Check) {
        let (heading, sentence) = kind.heading();
        let _ = write!(text, "\n## {heading}\n\n{sentence}\n\n| code | means | do |\n| --- | --- | --- |\n");
        for entry in entries.iter().filter(|entry| entry.kind == kind) {
            let cell = |words: &str| words.replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {} | {} |", entry.code, cell(&entry.meaning), cell(&entry.cure));
        }
    }
    text
}

#[test]
fn every_code_has_a_meaning_and_a_cure_and_is_found_as_it_is_met() {
    let all = index();
    for entry in &all {
        assert!(!entry.meaning.is_empty() && !entry.cure.is_empty(), "{entry:?}");
        assert_eq!(find(&all, &entry.code), Some(entry), "{entry:?}");
    }
    for (asked, code) in [
        ("hs103", "HS0103"),
        ("error[HS0103]", "HS0103"),
        ("HS0103", "HS0103"),
        ("exit 3", "3"),
        ("bad gateway", "bad_gateway"),
        ("Half_open", "half-open"),
        ("HTTP 529", "529"),
        ("failback", "Failback"),
        ("full mode", "full-mode"),
    ] {
        assert_eq!(find(&all, asked).map(|entry| entry.code.as_str()), Some(code), "{asked}");
    }
    for none in ["", "HS", "HS9999", "999", "\u{1b}[2J"] {
        assert_eq!(find(&all, none), None, "{none:?}");
        assert!(!unknown(&all, none).to_string().contains('\u{1b}'));
    }
}

#[test]
fn the_exit_codes_in_the_readme_are_those_that_can_be_explained() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).expect("README.md is there");
    let table = readme.split("| exit code | means |").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("the table");
    let cell = |line: &str, at: usize| line.split('|').nth(at).unwrap_or_default().trim().to_owned();
    let told: Vec<(String, String)> = table.lines().skip(2).map(|line| (cell(line, 1), cell(line, 2))).collect();
    let known: Vec<(String, String)> = index()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Exit && entry.code != "130")
        .map(|entry| (entry.code, entry.meaning))
        .collect();
    assert_eq!(told, known);
}

#[test]
fn one_code_reads_well() {
    let narrow = Look { paint: Paint(false), unicode: true, width: Some(60) };
    insta::assert_snapshot!(drawn(find(&index(), "quota_exhausted").expect("a failure"), narrow));
}
