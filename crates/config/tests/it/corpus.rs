//! Every example file, and the diagnostics exactly as people read them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hotspare_config::{Diagnostic, Errors, Severity, codes};

/// One example.
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Example {
    pub(crate) fn parse(&self) -> Result<hotspare_config::Config, Errors> {
        hotspare_config::parse(&self.text, Path::new("config.json"), Path::new("/home/me"))
    }
}

/// All examples of a folder, by name.
pub(crate) fn examples(folder: &str) -> Vec<Example> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: PathBuf| Example {
        name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
        text: std::fs::read_to_string(&path).expect("UTF-8"),
    };
    paths.into_iter().map(read).collect()
}

fn bad_examples() -> Vec<Example> {
    examples("shape").into_iter().chain(examples("meaning")).collect()
}

fn errors_of(example: &Example) -> Vec<Diagnostic> {
    match example.parse() {
        Ok(_) => panic!("{} loads", example.name),
        Err(errors) => errors.0,
    }
}

/// One document for each folder: it is reviewed by reading it.
fn book<'a>(chapters: impl Iterator<Item = (&'a Example, String)>) -> String {
    let mut book = String::new();
    for (example, rendered) in chapters {
        write!(book, "──── {}\n\n{rendered}\n\n", example.name).expect("a string takes all");
    }
    book
}

#[test]
fn errors_read_well() {
    for folder in ["shape", "meaning"] {
        let examples = examples(folder);
        let chapters = examples.iter().map(|example| (example, Errors(errors_of(example)).render(false)));
        insta::assert_snapshot!(folder, book(chapters));
    }
}

#[test]
fn warnings_read_well() {
    let examples: Vec<_> = examples("good").into_iter().filter(|example| example.name.starts_with("warn_")).collect();
    let chapters = examples.iter().map(|example| {
        let warnings = example.parse().expect("a good example").warnings;
        assert!(!warnings.is_empty(), "{} gives no warning", example.name);
        (example, Errors(warnings).render(false))
    });
    insta::assert_snapshot!("warnings", book(chapters));
}

#[test]
fn good_examples_load() {
    for example in examples("good") {
        let config = example.parse().unwrap_or_else(|errors| panic!("{}:\n{errors}", example.name));
        // These two hold a credential and the request's own triggers.
        let warns = example.name.starts_with("warn_") || ["every_key", "request_as_it_stands"].contains(&example.name.as_str());
        assert_eq!(config.warnings.is_empty(), !warns, "{}: {:?}", example.name, config.warnings);
        let last = config.rules.last().expect("a chain");
        assert_eq!(last.model, None, "{}: the last chain matches everything", example.name);
        for rule in &config.rules {
            assert!(!rule.chain.entries.is_empty(), "{}: {} asks nobody", example.name, rule.chain.name);
            assert!(rule.chain.entries.iter().all(|entry| usize::from(entry.profile.0) < config.profiles.len()), "{}", example.name);
        }
    }
}

#[test]
fn every_error_has_a_code_a_place_and_advice() {
    for example in bad_examples() {
        let diagnostics = errors_of(&example);
        assert!(diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error), "{}", example.name);
        for diagnostic in diagnostics {
            let shown = diagnostic.render(false);
            assert!(codes::meaning(diagnostic.code).is_some(), "{}: {} is not listed", example.name, diagnostic.code);
            assert!(!diagnostic.help.is_empty(), "{}: no advice\n{shown}", example.name);
            if diagnostic.code == codes::EMPTY.id {
                continue; // There is no place in an empty file.
            }
            let (line, column) = diagnostic.line_column().expect("a place");
            assert!(shown.contains(&format!("config.json:{line}:{column}\n")), "{}: {line}:{column}\n{shown}", example.name);
            assert!(shown.contains('^') && !diagnostic.label.is_empty(), "{}: no caret\n{shown}", example.name);
        }
    }
}

/// Whoever adds a code draws it once: here, in `files`, `layers` or `layered`.
#[test]
fn every_code_is_drawn_in_a_snapshot() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots");
    let snapshots = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let shown: String = snapshots.map(|path| std::fs::read_to_string(path).expect("UTF-8")).collect();
    let missing: Vec<_> = codes::ALL.iter().map(|code| code.id).filter(|id| !shown.contains(&format!("[{id}]: "))).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn no_secret_is_shown() {
    for example in bad_examples().iter().chain(&examples("good")) {
        let shown = match example.parse() {
            Ok(config) => format!("{config:?}{}", Errors(config.warnings.clone()).render(true)),
            Err(errors) => format!("{errors:?}{}", errors.render(true)),
        };
        for secret in ["hunter2", "sk-ant-test"] {
            assert!(!shown.contains(secret), "{} shows {secret}:\n{shown}", example.name);
        }
    }
}

#[test]
fn color_is_the_callers_choice() {
    for example in bad_examples() {
        let errors = example.parse().expect_err("a bad example");
        assert!(!errors.render(false).contains('\u{1b}'), "{}", example.name);
        assert!(errors.render(true).contains('\u{1b}'), "{}", example.name);
    }
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let text = "{ \"failover_policy\": { \"primary_profile\": \"a\\u001b[2J\u{9b}2J\" }, \"profiles\": { \"b\u{7f}\u{202e}\": {} } }";
    let shown = hotspare_config::parse(text, Path::new("c"), Path::new("/h")).expect_err("bad names").render(false);
    let bad: Vec<char> = shown.chars().filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}').collect();
    assert_eq!(bad, Vec::<char>::new(), "{shown}");
}
