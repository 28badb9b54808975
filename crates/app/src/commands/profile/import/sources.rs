//! Finds and reads the files of other tools and of Claude Code's other folders, and turns each into entries. Nothing is written and nothing
//! is run.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::model::{ANTHROPIC, API_KEY, Entry, Provider, host, is_anthropic, key};
use super::settings::{Setting, about, of_settings, of_variables};
use super::shell::{Group, Language, Scope, Shell};
use super::tables::{self, Tables};
use super::{ccflare, litellm, router, switch, yaml};
use crate::found;

/// Largest file that is read.
const FILE_CAP: u64 = 32 * 1024 * 1024;

/// Most entries of one file.
const MAX_ENTRIES: usize = 4096;

/// Variables that make a set of them an endpoint of its own.
const ENDPOINT: [&str; 8] = [
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_API_KEY",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
];

/// Variables that hold a credential.
const CREDENTIALS: [&str; 3] = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"];

/// Everything that was found, in order, and what is to be said of whole files.
#[derive(Default)]
pub(super) struct Sources {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Files and folders of which nothing can be read, and what is not seen of others.
    pub remarks: Vec<(PathBuf, String)>,
}

impl Sources {
    /// Reads Claude Code's folders, those that shells name, and the files of other tools, all below a home folder.
    pub(super) fn everywhere(&mut self, home: &Path) {
        let own = home.join(".claude");
        let mut shell = Shell::default();
        for file in found::tools::shell_files(home) {
            self.shell_file(&mut shell, &file);
        }
        let mut folders = found::folders(home, &own);
        folders.extend(named_folders(&shell, home));
        folders.sort();
        folders.dedup();
        for folder in folders.iter().filter(|folder| **folder != own) {
            self.claude_folder(folder);
        }
        for found in found::tools::tool_files(home) {
            self.file(&found.file, home);
        }
        self.shell_groups(&shell, home);
    }

    /// Reads one folder or file that the user named.
    pub(super) fn at(&mut self, path: &Path, home: &Path) {
        if path.is_dir() {
            self.claude_folder(path);
        } else if path.is_file() {
            self.file(path, home);
        } else {
            self.remark(path, "there is no such file or folder");
        }
    }

    fn remark(&mut self, path: &Path, words: impl Into<String>) {
        self.remarks.push((path.to_owned(), words.into()));
    }

    fn add(&mut self, file: &Path, entries: Vec<Entry>) {
        let count = entries.len();
        self.entries.extend(entries.into_iter().take(MAX_ENTRIES));
        if count > MAX_ENTRIES {
            self.remark(file, format!("{} of its {count} entries were not looked at: {MAX_ENTRIES} are the limit", count - MAX_ENTRIES));
        }
    }

    fn file(&mut self, file: &Path, home: &Path) {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = file.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
        if is_database(file) {
            return self.database(file);
        }
        let text = match text(file) {
            Ok(text) => text,
            Err(why) => return self.remark(file, why),
        };
        match extension.as_str() {
            "sql" => return self.tables(file, &Tables::dump(&text)),
            "yaml" | "yml" => {
                return match yaml::read(&text) {
                    Some(value) if value["model_list"].is_array() => self.add(file, litellm::entries(file, &value)),
                    Some(_) => self.remark(file, "it has no `model_list`: no LiteLLM file that can be read here"),
                    None => self.remark(file, "it is not YAML, or too large"),
                };
            }
            _ => {}
        }
        if let Some(language) = language(&name, &extension) {
            let mut shell = Shell::default();
            shell.read(file, &text, language);
            for folder in named_folders(&shell, home) {
                self.claude_folder(&folder);
            }
            let before = self.entries.len();
            self.shell_groups(&shell, home);
            if self.entries.len() == before && named_folders(&shell, home).is_empty() {
                self.remark(file, "it sends Claude Code nowhere: no `ANTHROPIC_BASE_URL`, key or `CLAUDE_CONFIG_DIR`");
            }
            return;
        }
        match hotspare_config::json5(&text) {
            Some(value) => self.json(file, &value),
            None => self.remark(file, "it is not JSON"),
        }
    }

    fn json(&mut self, file: &Path, value: &Value) {
        if value["accounts"].is_array() {
            self.add(file, teamclaude(file, value));
        } else if router::is_config(value) {
            self.add(file, router::entries(file, value));
        } else if switch::is_json(value) {
            self.add(file, switch::of_json(file, value));
        } else if value["model_list"].is_array() {
            self.add(file, litellm::entries(file, value));
        } else if value["env"].is_object() || value["apiKeyHelper"].is_string() {
            let name = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            self.settings(file, name.trim_start_matches('.'), value);
        } else {
            self.remark(file, "no format that is known here");
        }
    }

    fn settings(&mut self, file: &Path, name: &str, settings: &Value) {
        self.add(file, vec![Entry { name: name.to_owned(), from: file.to_owned(), content: of_settings(settings) }]);
    }

    fn database(&mut self, file: &Path) {
        match Tables::open(file) {
            Some(tables) => {
                self.tables(file, &tables);
                if tables.is_behind() {
                    self.remark(file, "its program runs: what it has not written back yet is not seen");
                }
            }
            None => self.remark(file, "it cannot be opened as a database"),
        }
    }

    fn tables(&mut self, file: &Path, tables: &Tables) {
        let entries = if let Some(rows) = tables.rows("providers").filter(|rows| rows.iter().all(|row| row.contains_key("app_type"))) {
            switch::of_rows(file, rows)
        } else if let Some(rows) = tables.rows("accounts").filter(|rows| rows.iter().all(|row| row.contains_key("name"))) {
            ccflare::of_rows(file, rows)
        } else if let Some(rows) = tables.rows("app_config") {
            let config = rows.iter().find(|row| tables::text(row, "key") == "default");
            let value = config.and_then(|row| serde_json::from_str::<Value>(tables::text(row, "value_json")).ok()).unwrap_or_default();
            router::entries(file, &value)
        } else {
            return self.remark(file, "no database that is known here");
        };
        if entries.is_empty() {
            self.remark(file, "it holds no provider");
        }
        self.add(file, entries);
    }

    /// A folder that Claude Code uses with `CLAUDE_CONFIG_DIR`.
    fn claude_folder(&mut self, folder: &Path) {
        let short = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let short = short.trim_start_matches('.');
        let name = match short.strip_prefix("claude") {
            Some("") => "claude-folder",
            Some(rest) => rest.strip_prefix(['-', '_', '.']).filter(|rest| !rest.is_empty()).unwrap_or(short),
            None => short,
        };
        let file = folder.join("settings.json");
        let settings = match text(&file).map(|text| hotspare_config::json5(&text)) {
            Ok(Some(settings)) => settings,
            Ok(None) if file.is_file() => return self.remark(&file, "it is not JSON"),
            _ => Value::Null,
        };
        let found = of_settings(&settings);
        // Another address, or a cloud: the login that may be in the folder is not what Claude Code uses with it.
        let leads_away = match &found {
            Ok(provider) => !is_anthropic(&provider.address),
            Err(_) => settings["env"]["ANTHROPIC_BASE_URL"].as_str().is_some_and(|url| !is_anthropic(url)) || is_cloud(&settings),
        };
        if leads_away {
            return self.add(&file, vec![Entry { name: name.to_owned(), from: file.clone(), content: found }]);
        }
        if hotspare_upstream::describe_claude_folder(folder).is_none() {
            return self.remark(folder, "it holds no login, key or helper");
        }
        self.add(folder, vec![Entry { name: name.to_owned(), from: folder.to_owned(), content: Ok(Provider::folder(folder)) }]);
    }

    fn shell_file(&mut self, shell: &mut Shell, file: &Path) {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = file.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
        match text(file) {
            Ok(text) => shell.read(file, &text, language(&name, &extension).unwrap_or(Language::Posix)),
            Err(why) => self.remark(file, why),
        }
    }

    fn shell_groups(&mut self, shell: &Shell, home: &Path) {
        for group in &shell.groups {
            if !Shell::sets(group, &ENDPOINT) {
                continue;
            }
            // A key of its own stands alone, and a key that was exported for another address does not go to this one.
            let has_key = Shell::sets(group, &CREDENTIALS);
            let get = |name: &str| {
                let is_foreign = has_key && CREDENTIALS.contains(&name) && !Shell::sets(group, &[name]);
                if is_foreign { None } else { shell.setting(group, name, home) }
            };
            let is_named = matches!(group.scope, Scope::Named(_));
            let borrows =
                is_named && !has_key && Shell::sets(group, &["ANTHROPIC_BASE_URL"]) && CREDENTIALS.iter().any(|name| get(name).is_some());
            let content = if borrows {
                Err("has an address of its own and no key of its own: the exported key was made for another address".to_owned())
            } else {
                of_variables(&get, None)
            };
            let name = match (&group.scope, &content) {
                (Scope::Named(name), _) => name.clone(),
                (Scope::Exported, Ok(provider)) if is_anthropic(&provider.address) => "anthropic".to_owned(),
                (Scope::Exported, Ok(provider)) => host(&provider.address).to_owned(),
                (Scope::Exported, Err(_)) => "exported variables".to_owned(),
            };
            let content = content.map(|mut provider| {
                if matches!(&provider.key, super::model::Key::Reference(auth) if auth["env"].is_string()) {
                    provider.notes.push("its key is in a variable of the shell, which a service does not see".to_owned());
                }
                provider
            });
            self.add(&group.file, vec![Entry { name, from: group.file.clone(), content }]);
        }
    }
}

/// The folders that start files name as `CLAUDE_CONFIG_DIR`, where nothing else says where Claude Code goes.
fn named_folders(shell: &Shell, home: &Path) -> Vec<PathBuf> {
    let folder = |group: &Group| {
        if Shell::sets(group, &ENDPOINT) || !Shell::sets(group, &["CLAUDE_CONFIG_DIR"]) {
            return None;
        }
        let Setting::Text(folder) = shell.setting(group, "CLAUDE_CONFIG_DIR", home)? else { return None };
        let folder = folder.strip_prefix("~/").map_or_else(|| PathBuf::from(&folder), |rest| home.join(rest));
        (folder.is_absolute() && folder.is_dir()).then_some(folder)
    };
    let mut folders: Vec<PathBuf> = shell.groups.iter().filter_map(folder).collect();
    folders.dedup();
    folders
}

fn is_cloud(settings: &Value) -> bool {
    settings["env"].as_object().into_iter().flatten().any(|(name, _)| name.starts_with("CLAUDE_CODE_USE_"))
}

/// teamclaude: keys, and logins that it takes from a folder.
fn teamclaude(file: &Path, value: &Value) -> Vec<Entry> {
    let shared = value["upstream"].as_str().unwrap_or(ANTHROPIC);
    let content = |account: &Value| {
        if let Some(folder) = account["importFrom"].as_str().and_then(|file| file.strip_suffix("/.credentials.json")) {
            return Ok(Provider::folder(Path::new(folder)));
        }
        let Some(text) = account["apiKey"].as_str() else {
            return Err("is a login that teamclaude keeps and renews: two who renew one login end it".to_owned());
        };
        let models = account["modelMap"].as_object().into_iter().flatten();
        let models = models.filter_map(|(from, to)| Some((from.clone(), to.as_str()?.to_owned())));
        Ok(Provider::new(account["upstream"].as_str().unwrap_or(shared), key(text)?).with_header(Some(API_KEY)).with_models(models))
    };
    let state = |account: &Value| account["enabled"].as_bool() == Some(false) || account["disabled"].as_bool() == Some(true);
    let entry = |account: &Value| Entry {
        name: account["name"].as_str().unwrap_or("account").to_owned(),
        from: file.to_owned(),
        content: content(account).map(|provider| {
            if state(account) { provider.with_state(super::model::State::Resting("it is switched off there".to_owned())) } else { provider }
        }),
    };
    value["accounts"].as_array().into_iter().flatten().map(entry).collect()
}

/// The language of a start file by its name; `None` if it is none.
fn language(name: &str, extension: &str) -> Option<Language> {
    const NAMES: [&str; 14] = [
        ".bashrc",
        ".bash_aliases",
        ".bash_profile",
        ".bash_login",
        ".profile",
        ".zshrc",
        ".zshenv",
        ".zprofile",
        ".zlogin",
        ".zsh_aliases",
        ".aliases",
        ".env",
        ".envrc",
        ".shrc",
    ];
    match extension {
        "fish" => Some(Language::Fish),
        "sh" | "bash" | "zsh" | "env" => Some(Language::Posix),
        _ => NAMES.contains(&name).then_some(Language::Posix),
    }
}

/// Whether a file begins as SQLite's do, or is named like one.
fn is_database(file: &Path) -> bool {
    let mut start = [0; 16];
    fs::File::open(file).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"SQLite format 3\0"
}

/// What a plain file holds.
///
/// # Errors
///
/// The reason why it is not read.
fn text(file: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    let mut bytes = Vec::new();
    fs::File::open(file).map_err(unreadable)?.take(FILE_CAP + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_CAP {
        return Err(format!("it is larger than {} MiB", FILE_CAP / 1024 / 1024));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An entry in one sentence.
pub(super) fn sentence(entry: &Entry, what: &str) -> String {
    about(&entry.name, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A value of JSON with the names that the formats use.
    fn value() -> impl Strategy<Value = Value> {
        let names = "Providers|providers|Router|default|accounts|claude|current|env|apiKeyHelper|model_list|litellm_params|model_name|model|api_base|api_key|settingsConfig|meta|apiFormat|name|ANTHROPIC_BASE_URL|ANTHROPIC_AUTH_TOKEN|ANTHROPIC_MODEL|credentials|capabilities|type|baseUrl|models|transformer|use|upstream|apiKey|modelMap|importFrom|sortIndex";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "(sk-test-[a-z]|https://[a-z]{1,4}\\.example(/v1/messages)?|os\\.environ/[A-Z]|anthropic/[a-z]|a,b|[é\u{0}-~]{0,8})"
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((names, inner), 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn corpus() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/corpus/import");
        let mut files: Vec<PathBuf> = fs::read_dir(folder).expect("the corpus").flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension != "expect"));
        files.sort();
        files
    }

    /// The bytes of a source, and the name that it is read under.
    fn source(file: &Path, folder: &Path) -> (Vec<u8>, String) {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".db.sql") else { return (fs::read(file).expect("read"), name) };
        let made = folder.join("made.db");
        let _ = fs::remove_file(&made);
        let connection = rusqlite::Connection::open(&made).expect("opened");
        connection.execute_batch(&fs::read_to_string(file).expect("read")).expect("made");
        drop(connection);
        (fs::read(made).expect("read"), format!("{name}.db"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_json_gets_an_answer(value in value()) {
            let mut sources = Sources::default();
            sources.json(Path::new("/x/source.json"), &value);
            prop_assert!(!sources.entries.is_empty() || !sources.remarks.is_empty() || value.is_object());
        }

        /// No entry of a list is dropped on the way.
        #[test]
        fn every_provider_of_a_file_becomes_an_entry(providers in prop::collection::vec(value(), 0..6)) {
            let file = Path::new("/x/source.json");
            let count = |value: &Value| {
                let mut sources = Sources::default();
                sources.json(file, value);
                sources.entries.len()
            };
            let routed = count(&json!({ "Providers": providers }));
            prop_assert!(routed >= providers.len(), "{routed} entries");
            prop_assert_eq!(count(&json!({ "accounts": providers })), providers.len());
            let named: serde_json::Map<String, Value> = providers.iter().enumerate().map(|(at, value)| (at.to_string(), value.clone())).collect();
            prop_assert_eq!(count(&json!({ "claude": { "providers": named }, "codex": { "providers": named } })), 2 * providers.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..Default::default() })]

        #[test]
        fn damaged_sources_get_an_answer(which in any::<prop::sample::Index>(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..12)) {
            let files = corpus();
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (mut bytes, name) = source(&files[which.index(files.len())], folder.path());
            for (at, byte, kind) in damage {
                let at = at.index(bytes.len().max(1));
                match kind {
                    _ if bytes.is_empty() => {}
                    0 => bytes[at] = byte,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(16)),
                }
            }
            let file = folder.path().join(name);
            fs::write(&file, &bytes).expect("written");
            let mut sources = Sources::default();
            sources.at(&file, folder.path());
            prop_assert_eq!(fs::read(&file).expect("read"), bytes);
        }
    }
}
