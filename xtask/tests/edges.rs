//! Holds the rooms apart: which of our crates may use which, and what the two pure ones may bring in. Reads `cargo metadata`; builds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Who may use whom in what we ship and run. What is not here is not allowed.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("hotspare-core", &[]),
    ("hotspare-wire", &["hotspare-core"]),
    ("hotspare-config", &["hotspare-core"]),
    ("hotspare-upstream", &["hotspare-core", "hotspare-wire"]),
    ("hotspare-store", &["hotspare-core"]),
    ("hotspare-gateway", &["hotspare-core", "hotspare-wire", "hotspare-config", "hotspare-upstream", "hotspare-store"]),
    // The binary puts the rooms together. `demo` plays its two providers with the testkit.
    (
        "hotspare",
        &[
            "hotspare-core",
            "hotspare-wire",
            "hotspare-config",
            "hotspare-upstream",
            "hotspare-store",
            "hotspare-gateway",
            "hotspare-testkit",
        ],
    ),
    ("hotspare-testkit", &["hotspare-core"]),
    ("xtask", &["hotspare-testkit"]),
    // Drives the whole proxy, from both sides.
    (
        "hotspare-proof",
        &["hotspare-core", "hotspare-config", "hotspare-upstream", "hotspare-store", "hotspare-gateway", "hotspare-testkit"],
    ),
];

/// What tests may use on top.
const ALLOWED_IN_TESTS: &str = "hotspare-testkit";

/// The core decides; these are words and numbers, not a world.
const CORE_EXTERNALS: [&str; 5] = ["bytes", "http", "schemars", "serde", "thiserror"];

/// Crates that open sockets or run tasks. None may stand behind a pure crate, however deep.
const IMPURE: [&str; 8] = ["tokio", "hyper", "hyper-util", "mio", "socket2", "rustls", "rand", "getrandom"];

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).other_options(["--locked".to_owned()]).exec().expect("cargo reads the workspace")
}

/// The names of our own crates.
fn ours(metadata: &Metadata) -> BTreeSet<String> {
    metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect()
}

/// Everything that the crate builds on, through normal and build dependencies.
fn behind(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let names: BTreeMap<&PackageId, String> = metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
    let graph = metadata.resolve.as_ref().expect("asked for with its graph");
    let mut todo: Vec<&PackageId> = names.iter().filter(|(_, known)| *known == name).map(|(id, _)| *id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        let node = graph.nodes.iter().find(|node| node.id == *id).expect("every package is a node");
        for dependency in &node.deps {
            let only_tests = dependency.dep_kinds.iter().all(|info| info.kind == DependencyKind::Development);
            if !only_tests && seen.insert(names[&dependency.pkg].clone()) {
                todo.push(&dependency.pkg);
            }
        }
    }
    seen
}

#[test]
fn every_crate_of_ours_is_in_the_table() {
    let metadata = metadata();
    let listed: BTreeSet<String> = ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(ours(&metadata), listed);
}

#[test]
fn no_edge_between_our_crates_but_the_allowed_ones() {
    let metadata = metadata();
    let ours = ours(&metadata);
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == package.name.as_str()).map_or(&[][..], |(_, allowed)| allowed);
        for dependency in package.dependencies.iter().filter(|dependency| ours.contains(&dependency.name)) {
            let in_tests = dependency.kind == DependencyKind::Development && dependency.name == ALLOWED_IN_TESTS;
            if !in_tests && !allowed.contains(&dependency.name.as_str()) {
                wrong.push(format!("{} -> {} ({:?})", package.name, dependency.name, dependency.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that architecture does not allow: {wrong:#?}");
}

#[test]
fn the_core_uses_words_and_nothing_that_acts() {
    let metadata = metadata();
    let core = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == "hotspare-core").unwrap();
    let used = core.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
    let foreign: Vec<&str> = used.map(|dependency| dependency.name.as_str()).filter(|name| !CORE_EXTERNALS.contains(name)).collect();
    assert!(foreign.is_empty(), "`core` may use {CORE_EXTERNALS:?}, not {foreign:?}");
}

#[test]
fn nothing_that_acts_stands_behind_the_pure_crates() {
    let metadata = metadata();
    assert!(behind(&metadata, "hotspare-gateway").contains("mio"), "the graph was not read to its end");
    for pure in ["hotspare-core", "hotspare-wire"] {
        let behind = behind(&metadata, pure);
        let impure: Vec<&str> = IMPURE.into_iter().filter(|name| behind.contains(*name)).collect();
        assert!(impure.is_empty(), "`{pure}` pulls in {impure:?}");
    }
}

/// Two releases of `LiteLLM` (1.82.7, 1.82.8) were poisoned on their way: what is built in must be known.
#[test]
fn r58_every_shared_dependency_says_why_it_is_there() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml")).unwrap();
    let lines = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let section: Vec<&str> = lines.take_while(|line| !line.starts_with('[')).collect();
    let mut silent = Vec::new();
    let mut read = 0;
    // A reason stands behind the line, or above the group that the line belongs to; an empty line ends a group.
    for group in section.split(|line| line.trim().is_empty()) {
        let told_above = group.first().is_some_and(|line| line.starts_with('#'));
        for line in group.iter().filter(|line| !line.starts_with('#')) {
            read += 1;
            if !told_above && !line.contains('#') {
                silent.push(*line);
            }
        }
    }
    assert!(read > 20, "only {read} dependencies were found: has the section moved?");
    assert!(silent.is_empty(), "dependencies without a reason: {silent:#?}");
}
