//! `profile import` on a corpus of files in the formats of other tools, each beside what its owner would expect of it.
//!
//! `corpus/import/NAME` is a source, `NAME.expect` the expectation. `NAME.db.sql` is made into a database of SQLite first. In an expectation:
//!
//! - `profile NAME ADDRESS CREDENTIAL[:HEADER] [PATTERN=MODEL …]`: exactly these profiles come of it;
//! - `- TEXT`, `= TEXT`: an entry that is skipped, or the same as another; exactly as many as there are lines;
//! - `note TEXT`: what else is said of an entry; `file TEXT`: what is said of the whole file;
//! - `unused KEY …`: the keys of the source that are stored nowhere: all others are;
//! - `chain NAME …`: the spares with `--spare`; `order NAME …`: the order in the file; `config TEXT`: stands in the file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::home::Home;

const FILE: &str = ".config/hotspare/config.json";

/// Fewest sources that the corpus must have.
const MIN_SOURCES: usize = 60;

struct Expectation {
    lines: Vec<(String, String)>,
}

impl Expectation {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let line = |line: &str| line.split_once(' ').map(|(word, rest)| (word.to_owned(), rest.to_owned()));
        Self { lines: text.lines().map(|text| line(text).unwrap_or_else(|| panic!("{}: {text}", file.display()))).collect() }
    }

    fn of(&self, word: &str) -> Vec<&str> {
        self.lines.iter().filter(|(known, _)| known == word).map(|(_, rest)| rest.as_str()).collect()
    }

    fn words(&self, word: &str) -> Vec<&str> {
        self.of(word).into_iter().flat_map(str::split_whitespace).collect()
    }
}

/// Everything in a text that looks like one of the corpus's keys.
fn keys(text: &str) -> BTreeSet<String> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '-';
    let words = text
        .split(|char| !is_part(char))
        .map(|word| word.trim_matches('-'))
        .filter(|word| word.starts_with("sk-") && word.contains("test-"));
    words.map(str::to_owned).collect()
}

fn stored(home: &Home) -> Vec<(String, String)> {
    let entries = fs::read_dir(home.path(".local/state/hotspare/keychain")).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path()).expect("read"))).collect()
}

/// A profile as the expectations write it.
fn drawn(name: &str, profile: &Value, stored: &[(String, String)]) -> String {
    let address = match profile["platform"].as_str() {
        Some("openrouter") => "openrouter",
        _ => profile["base_url"].as_str().unwrap_or("https://api.anthropic.com"),
    };
    let auth = &profile["auth"];
    let key = |entry: &str| stored.iter().find(|(known, _)| known == entry).map_or("missing", |(_, key)| key.as_str()).to_owned();
    let credential = match auth["keychain"].as_str() {
        Some(entry) => format!("key:{}", key(entry)),
        None if auth["env"].is_string() => format!("env:{}", auth["env"].as_str().expect("text")),
        None => format!("command:{}", auth["command"]),
    };
    let header = auth["header"].as_str().map(|header| format!(":{header}")).unwrap_or_default();
    let models = profile["models"].as_object().into_iter().flatten();
    let models: String = models.map(|(from, to)| format!(" {from}={}", to.as_str().unwrap_or("null"))).collect();
    format!("{name} {address} {credential}{header}{models}")
}

/// Puts a source of the corpus below a home folder.
fn placed(home: &Home, source: &Path) -> PathBuf {
    let name = source.file_name().expect("a name").to_string_lossy().into_owned();
    let text = fs::read_to_string(source).expect("read");
    fs::create_dir_all(home.path("sources")).expect("made");
    if let Some(name) = name.strip_suffix(".db.sql") {
        let file = home.path(&format!("sources/{name}.db"));
        rusqlite::Connection::open(&file).expect("opened").execute_batch(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        return file;
    }
    // Settings are known by the name of their folder.
    let file = home.path(&format!("sources/{name}"));
    fs::write(&file, text).expect("written");
    file
}

/// What is different from the expectation.
fn judged(source: &Path) -> Vec<String> {
    let expected = Expectation::read(&PathBuf::from(format!("{}.expect", source.display())));
    let home = Home::new();
    let file = placed(&home, source);
    let before = fs::read(&file).expect("read");
    let ended = home.run(&["profile", "import", "--yes", "--spare", &file.display().to_string()]);
    let mut wrong = Vec::new();
    let mut check = |is_right: bool, what: String| {
        if !is_right {
            wrong.push(what);
        }
    };
    check(ended.code == 0, format!("ended with {}: {}", ended.code, ended.err));
    check(fs::read(&file).expect("read") == before, "the source was changed".to_owned());
    let stored = stored(&home);
    let config = fs::read_to_string(home.path(FILE)).unwrap_or_default();
    let profiles = hotspare_config::json5(&config).unwrap_or_default()["profiles"].take();
    let profiles: Vec<(&String, &Value)> = profiles.as_object().into_iter().flatten().filter(|(name, _)| *name != "claude").collect();
    let mut found: Vec<String> = profiles.iter().map(|(name, profile)| drawn(name, profile, &stored)).collect();
    let mut wanted = expected.of("profile");
    found.sort();
    wanted.sort_unstable();
    check(found == wanted, format!("profiles are {found:#?}, not {wanted:#?}"));
    for (word, start) in [("-", "  - "), ("=", "  = "), ("note", "    "), ("file", "skipped  ")] {
        let lines: Vec<&str> = ended.out.lines().filter(|line| line.starts_with(start)).collect();
        let wanted = expected.of(word);
        check(lines.len() == wanted.len(), format!("{} lines `{word}`, not {}: {lines:#?}", lines.len(), wanted.len()));
        for text in wanted {
            check(lines.iter().any(|line| line.contains(text)), format!("`{word} {text}` is missing: {lines:#?}"));
        }
    }
    // No key is lost in silence, and none is shown or written into the configuration.
    let kept: BTreeSet<String> = stored.iter().map(|(_, key)| key.clone()).collect();
    let lost: BTreeSet<String> = keys(&fs::read_to_string(source).expect("read")).difference(&kept).cloned().collect();
    let unused: BTreeSet<String> = expected.words("unused").into_iter().map(str::to_owned).collect();
    check(lost == unused, format!("stored nowhere: {lost:?}, not {unused:?}"));
    check(stored.len() == kept.len(), format!("a key is stored twice: {stored:?}"));
    let shown = keys(&format!("{}{}{config}", ended.out, ended.err));
    check(shown.is_empty(), format!("shown: {shown:?}"));
    if let [names] = expected.of("chain").as_slice() {
        let chain = format!("chain: claude → {}", names.replace(' ', " → "));
        check(ended.err.lines().any(|line| line.trim() == chain), format!("`{chain}` is missing: {}", ended.err));
    }
    let order = expected.words("order");
    let names: Vec<&str> = profiles.iter().map(|(name, _)| name.as_str()).collect();
    check(order.is_empty() || order == names, format!("order is {names:?}"));
    for text in expected.of("config") {
        check(config.contains(text), format!("`{text}` does not stand in {config}"));
    }
    if !config.is_empty() {
        check(home.run(&["config", "validate"]).code == 0, "the configuration is not valid".to_owned());
        // The same again adds nothing.
        let again = home.run(&["profile", "import", "--yes", "--spare", &file.display().to_string()]);
        check(fs::read_to_string(home.path(FILE)).unwrap_or_default() == config, format!("a second import changed it: {}", again.out));
    }
    wrong
}

#[test]
fn import_corpus_becomes_what_its_owners_expect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/corpus/import");
    let entries = fs::read_dir(&folder).expect("the corpus").flatten().map(|entry| entry.path());
    let mut sources: Vec<PathBuf> = entries.filter(|file| file.extension().is_some_and(|extension| extension != "expect")).collect();
    sources.sort();
    assert!(sources.len() >= MIN_SOURCES, "{} sources", sources.len());
    let wrong: Vec<String> = sources
        .iter()
        .filter_map(|source| {
            let wrong = judged(source);
            (!wrong.is_empty()).then(|| format!("{}:\n  {}", source.file_name().expect("a name").to_string_lossy(), wrong.join("\n  ")))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} are wrong\n{}", wrong.len(), sources.len(), wrong.join("\n"));
}
