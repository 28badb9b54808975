//! Reads the names and comments of the project's own tests, for the documents that list them.

use std::path::{Path, PathBuf};

/// Folders with tests.
const ROOTS: [&str; 4] = ["crates", "proof", "testkit", "xtask"];

/// A test, where it stands and what its comment says.
#[derive(Debug)]
pub(crate) struct Test {
    /// Its function.
    pub name: String,
    /// Its file, from the project's folder.
    pub path: String,
    /// Its doc comment in one line; empty if it has none.
    pub doc: String,
}

/// Every test of the project.
pub(crate) fn tests_below() -> impl Iterator<Item = Test> {
    let files = ROOTS.iter().flat_map(|folder| sources(folder));
    files.flat_map(|(path, source)| tests_of(&source).into_iter().map(move |(name, doc)| Test { name, path: path.clone(), doc }))
}

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust source below a folder, with its path from the root.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
    let mut todo = vec![PathBuf::from(folder)];
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        let full = root().join(&path);
        if full.is_dir() {
            let entries = std::fs::read_dir(&full).expect("readable");
            todo.extend(entries.map(|entry| path.join(entry.expect("an entry").file_name())).filter(|path| !path.ends_with("target")));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&full).expect("UTF-8")));
        }
    }
    found.sort();
    found
}

/// Every test of a source: its name and its comment.
fn tests_of(source: &str) -> Vec<(String, String)> {
    let (mut found, mut doc, mut is_test) = (Vec::new(), Vec::new(), false);
    for line in source.lines().map(str::trim) {
        let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some(words) = line.strip_prefix("///") {
            doc.push(words.trim());
        } else if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else {
            if let Some(rest) = declared.filter(|_| is_test) {
                let name = rest.split(['(', '<']).next().unwrap_or_default();
                found.push((name.to_owned(), doc.join(" ")));
            }
            (doc, is_test) = (Vec::new(), false);
        }
    }
    found
}
