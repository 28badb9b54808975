//! Reads what decides where Claude Code sends its requests, and as whom: its settings files in their order, and the environment. Never reads
//! a credential's value further than whether there is one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hotspare_config::Locations;
use serde_json::Value;

use crate::claude;

/// Largest settings file that is read.
const LARGEST: u64 = 4 * 1024 * 1024;

/// One place that may set a variable, the strongest first.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub file: Option<PathBuf>,
    pub kind: Kind,
    env: HashMap<String, String>,
    /// It has an `apiKeyHelper`.
    pub helper: bool,
}

/// Whose word it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Managed,
    Project,
    User,
    Shell,
}

/// All of them, and whether there is a login.
#[derive(Debug, Clone, Default)]
pub(super) struct Setup {
    pub sources: Vec<Source>,
    pub login: bool,
    /// A settings file that is no JSON.
    pub broken: Vec<PathBuf>,
}

impl Setup {
    /// Reads them for whoever starts Claude Code in this folder.
    pub(super) fn read(locations: &Locations, folder: &Path) -> Self {
        let mut setup = Self::default();
        let files = [
            (Kind::Managed, locations.claude_managed.clone()),
            (Kind::Project, folder.join(".claude/settings.local.json")),
            (Kind::Project, folder.join(".claude/settings.json")),
            (Kind::User, locations.claude_settings.clone()),
        ];
        for (kind, file) in files {
            // A home that is the working folder has one file for both.
            if kind == Kind::Project && file == locations.claude_settings {
                continue;
            }
            match read(&file) {
                Ok(Some(settings)) => setup.sources.push(source(kind, Some(file), &settings)),
                Ok(None) => {}
                Err(()) => setup.broken.push(file),
            }
        }
        let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
        setup.sources.push(Source { file: None, kind: Kind::Shell, env, helper: false });
        setup.login = locations.claude_settings.with_file_name(".credentials.json").exists();
        setup
    }

    /// Who sets a variable with the last word, and to what. An empty value sets it to nothing.
    pub(super) fn value(&self, name: &str) -> Option<(&Source, &str)> {
        let (source, value) = self.sources.iter().find_map(|source| Some((source, source.env.get(name)?.as_str())))?;
        // The provider's own base URL leads where none does.
        let leads = name != claude::BASE_URL || value != claude::OWN_URL;
        (!value.is_empty() && leads).then_some((source, value))
    }

    /// The proxy that a client in full mode has in us, and who says so. A base URL goes before it.
    pub(super) fn our_proxy(&self) -> Option<(&Source, &str)> {
        let led_by_base_url = self.value(claude::BASE_URL).is_some();
        let proxy = claude::HTTPS_PROXY.into_iter().find_map(|name| self.value(name).filter(|(_, url)| claude::is_our_proxy(url)));
        proxy.filter(|_| !led_by_base_url)
    }

    /// Whether the user's own settings have us for a proxy, whoever has the last word.
    pub(super) fn proxied(&self) -> bool {
        claude::HTTPS_PROXY.into_iter().any(|name| self.all(Kind::User, name).any(|(_, url)| claude::is_our_proxy(url)))
    }

    /// Every place of one kind that sets a variable to something.
    pub(super) fn all(&self, kind: Kind, name: &str) -> impl Iterator<Item = (&Source, &str)> {
        let of_kind = self.sources.iter().filter(move |source| source.kind == kind);
        of_kind.filter_map(move |source| source.env.get(name).filter(|value| !value.is_empty()).map(|value| (source, value.as_str())))
    }
}

impl Source {
    /// For people.
    pub(super) fn place(&self) -> String {
        self.file.as_ref().map_or_else(|| "the environment".to_owned(), |file| file.display().to_string())
    }
}

/// None: there is no such file. An error: it is no settings file.
fn read(file: &Path) -> Result<Option<Value>, ()> {
    let Ok(data) = std::fs::metadata(file) else { return Ok(None) };
    if !data.is_file() || data.len() > LARGEST {
        return Err(());
    }
    let text = std::fs::read_to_string(file).map_err(|_| ())?;
    // Claude Code takes an empty file for none.
    if text.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str::<Value>(&text).ok().filter(Value::is_object).map(Some).ok_or(())
}

fn source(kind: Kind, file: Option<PathBuf>, settings: &Value) -> Source {
    let env = settings["env"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let helper = settings["apiKeyHelper"].as_str().is_some_and(|helper| !helper.is_empty());
    Source { file, kind, env: env.map(|(name, value)| (name.clone(), text(value))).collect(), helper }
}

#[cfg(test)]
impl Setup {
    /// Made up, for tests.
    pub(super) fn of(sources: &[(Kind, &[(&str, &str)])], login: bool) -> Self {
        let sources = sources.iter().map(|(kind, env)| Source {
            file: (*kind != Kind::Shell).then(|| format!("/made/up/{kind:?}.json").into()),
            kind: *kind,
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            helper: false,
        });
        Self { sources: sources.collect(), login, broken: Vec::new() }
    }
}
