//! Finds out whether rules of folders have an effect behind the service: Claude Code's hooks must name the folder of each session. Reads
//! settings, and changes none.

use std::path::Path;

use hotspare_config::{Config, Locations, Settings};
use serde_json::Value;

use crate::wiring::claude::{CWD_CHANGED, FOLDER_HOOKS};
use crate::wiring::{self, receipt};

/// Whether sessions behind the service name their folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderHooks {
    /// Nothing is installed: only `hotspare run` leads sessions here, and it knows its folder.
    NotWired,
    /// They do.
    InPlace,
    /// The hook of this event is not in the settings: an older hotspare wrote them, or it was taken out.
    Missing(&'static str),
    /// Settings switch all hooks off.
    SwitchedOff,
}

/// What keeps rules of folders from having their effect behind the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What is not as it should be.
    pub(crate) what: String,
    /// What that does.
    pub(crate) effect: &'static str,
    /// What to do.
    pub(crate) mend: &'static str,
}

/// The settings that keep the user's hooks from running; the second one counts in an administrator's settings alone (documented).
const SWITCHES: [&str; 2] = ["disableAllHooks", "allowManagedHooksOnly"];

impl FolderHooks {
    /// By the receipt and the settings as they are now.
    pub(crate) fn read(locations: &Locations) -> Self {
        let wired = receipt::look(&locations.state_dir).ok().and_then(|receipt| wiring::wired_address(&receipt, locations));
        if wired.is_none() {
            return Self::NotWired;
        }
        let is_set = |settings: &Settings, name: &str| settings.json(&[name]) == Some(Value::Bool(true));
        let own = settings(&locations.claude_settings);
        let managed = settings(&locations.claude_managed);
        let off = own.iter().any(|own| is_set(own, SWITCHES[0]))
            || managed.iter().any(|managed| SWITCHES.iter().any(|name| is_set(managed, name)));
        if off {
            return Self::SwitchedOff;
        }
        let missing = |(event, command): &&(&'static str, &'static str)| !own.as_ref().is_some_and(|own| has_hook(own, event, command));
        FOLDER_HOOKS.iter().find(missing).map_or(Self::InPlace, |(event, _)| Self::Missing(event))
    }

    /// What keeps rules of folders from having their effect; `None` if nothing does.
    pub(crate) fn trouble(self) -> Option<Trouble> {
        const UNNAMED: &str = "sessions do not name their folder: they reach only profiles that every chain allows";
        let (what, effect, mend) = match self {
            Self::NotWired | Self::InPlace => return None,
            Self::Missing(event) if event == CWD_CHANGED.0 => (
                format!("the `{event}` hook is not in Claude Code's settings"),
                "a session that enters another folder is led by the old one's rules until its next prompt",
                "hotspare install",
            ),
            Self::Missing(event) => (format!("the `{event}` hook is not in Claude Code's settings"), UNNAMED, "hotspare install"),
            Self::SwitchedOff => ("Claude Code's hooks are switched off".to_owned(), UNNAMED, "take `disableAllHooks` out of its settings"),
        };
        Some(Trouble { what, effect, mend })
    }
}

/// How many rules hold in some folders alone, as far as this configuration knows; in words. `None` if there are none.
pub(crate) fn rules(config: &Config) -> Option<String> {
    let (chains, files) = (config.folder_rules.len(), config.projects.len());
    let several = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    match (chains, files) {
        (0, 0) => None,
        (chains, 0) => Some(several(chains, "chain") + " with `match.project`"),
        (0, files) => Some(several(files, "project file")),
        (chains, files) => Some(format!("{} with `match.project`, {}", several(chains, "chain"), several(files, "project file"))),
    }
}

/// What `config validate` adds; `None` where no rule holds in some folders alone.
pub(crate) fn told(config: &Config, locations: &Locations) -> Option<String> {
    let rules = rules(config)?;
    let hooks = FolderHooks::read(locations);
    Some(match hooks.trouble() {
        Some(Trouble { what, effect, mend }) => format!("{rules}, but behind the service {effect}\n         {what}: {mend}"),
        None if hooks == FolderHooks::NotWired => format!("{rules}: in force under `hotspare run`"),
        None => format!("{rules}: in force under `hotspare run` and behind the service"),
    })
}

fn settings(path: &Path) -> Option<Settings> {
    Settings::parse(path, &std::fs::read_to_string(path).ok()?).ok()
}

fn has_hook(settings: &Settings, event: &str, command: &str) -> bool {
    let entries = settings.entries(&["hooks", event]).unwrap_or_default();
    let hooks = entries.iter().filter_map(|entry| entry["hooks"].as_array()).flatten();
    hooks.filter_map(|hook| hook["command"].as_str()).any(|text| wiring::claude::is_our_command(text, command))
}
