//! Finds the settings of editors that Claude Code's extension runs in, and decides what they get. Never writes a file.

use std::fs;
use std::path::{Path, PathBuf};

use hotspare_config::Settings;
use serde_json::Value;

use super::Part;
use super::patch::{Change, Place};

/// The list of variables that the extension gives the client. A dot is part of the key's name.
const VARIABLES: &str = "claudeCode.environmentVariables";

/// Each editor's folder of settings, and its folder of extensions below the home folder.
const EDITORS: [(&str, &str); 4] =
    [("Code", ".vscode"), ("Code - Insiders", ".vscode-insiders"), ("VSCodium", ".vscode-oss"), ("Cursor", ".cursor")];

/// How the extension's folder begins.
const EXTENSION: &str = "anthropic.claude-code";

/// The settings file of every editor that has the extension.
pub(crate) fn settings_files(home: &Path) -> Vec<PathBuf> {
    let has_extension = |extensions: &str| {
        let entries = fs::read_dir(home.join(extensions).join("extensions")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().to_ascii_lowercase().starts_with(EXTENSION))
    };
    let with_extension = EDITORS.into_iter().filter(|(_, extensions)| has_extension(extensions));
    with_extension.map(|(name, _)| config_home(home).join(name).join("User/settings.json")).collect()
}

/// The variables that the extension gives the client, as its settings have them.
pub(crate) fn variables(settings: &Settings) -> Vec<(String, String)> {
    let entries = settings.entries(&[VARIABLES]).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    entries.iter().filter_map(|entry| Some((text(&entry["name"])?, text(&entry["value"])?))).collect()
}

fn config_home(home: &Path) -> PathBuf {
    if cfg!(target_os = "macos") {
        return home.join("Library/Application Support");
    }
    std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).unwrap_or_else(|| home.join(".config"))
}

/// The variables that point the client at us, as the extension has them.
pub(crate) fn changes<'e>(env: impl IntoIterator<Item = (&'e str, String)>) -> Vec<Change> {
    let change = |(name, value): (&str, String)| Change {
        part: Part::Claude,
        place: Place::Entry { list: vec![VARIABLES.to_owned()], name: Some(name.to_owned()) },
        value: format!("{{ \"name\": {}, \"value\": {} }}", Value::from(name), Value::from(value)),
    };
    env.into_iter().map(change).collect()
}
