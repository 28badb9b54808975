//! Gives the commands inside a session of an installed Claude Code the user's own environment: part of `hotspare hook session-start`. Fails
//! silently: the session goes on with what it has.
//!
//! What the client was started with is in `/proc/PID/environ` of its process, which hooks know as `CLAUDE_PID` (measured, 2.1.332). Where a
//! system has no such file, a variable that `install` sets is taken away inside the session.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use hotspare_config::Locations;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::claude::inside::{Children, Displaced, ENV_FILE, line_for};
use crate::claude::{UserSetup, is_our_proxy, is_token_line};
use crate::cli::Layers;
use crate::commands;
use crate::{state, wiring};

/// The client's process, in a hook's environment.
const CLIENT: &str = "CLAUDE_PID";

/// The script, beside the file that the client names; it goes when the client forgets the session.
const SCRIPT: &str = "hotspare.sh";

/// Most processes above the client that are looked at. Each of a session in the background may have its environment from the one before.
const MAX_ANCESTORS: usize = 16;

/// Most bytes of an environment that are read; Linux allows 2 MiB by default.
const MAX_ENVIRONMENT: u64 = 4 * 1024 * 1024;

/// Writes the script for this session, and the line that reads it.
pub(crate) fn give_back(locations: &Locations) {
    let Some(file) = std::env::var_os(ENV_FILE).filter(|file| !file.is_empty()).map(PathBuf::from) else { return };
    if let Err(error) = write(locations, &file) {
        tracing::debug!(%error, "the session's commands keep the client's environment");
    }
}

fn write(locations: &Locations, file: &Path) -> io::Result<()> {
    let displaced = wiring::displaced(locations);
    if displaced.is_empty() {
        return Ok(());
    }
    let script = file.parent().unwrap_or(Path::new("")).join(SCRIPT);
    state::write_private(&script, script_for(locations, displaced)?.as_bytes())?;
    let line = line_for(&script);
    // The client keeps the file from start to start of one session.
    if fs::read_to_string(file).is_ok_and(|text| text.contains(&line)) {
        return Ok(());
    }
    File::options().create(true).append(true).open(file)?.write_all(line.as_bytes())
}

fn script_for(locations: &Locations, displaced: Vec<Displaced>) -> io::Result<String> {
    let config = commands::context(&Layers::default()).ok().and_then(|context| hotspare_config::load(locations, &context).ok());
    let children = config.map_or(Children::Direct, |config| config.server.children.into());
    let text = wiring::read(&locations.claude_settings)?.unwrap_or_default();
    let settings = match serde_json::from_str(&text) {
        Ok(Value::Object(settings)) => settings,
        _ => serde_json::Map::new(),
    };
    let environment = environment_of_client(&displaced);
    let set = displaced.clone();
    let setup = UserSetup::lasting(settings, environment).with_displaced(displaced);
    let base = match wiring::receipt::look(&locations.state_dir).ok().and_then(|receipt| wiring::wired_address(&receipt, locations)) {
        Some(address) => setup.base_set(format!("http://{address}"), state::known_token(&locations.state_dir).expose_secret()),
        None => Vec::new(),
    };
    let set = set.iter().map(|displaced| (displaced.name.as_str(), displaced.ours.as_str()));
    Ok(setup.overlay(set, children, &base).script())
}

/// The environment that the client was started in by the user. A process that a wired one has started has ours in it; then the one above it
/// counts.
fn environment_of_client(displaced: &[Displaced]) -> HashMap<OsString, OsString> {
    let mut process: Option<u32> = std::env::var(CLIENT).ok().and_then(|process| process.parse().ok());
    for _ in 0..MAX_ANCESTORS {
        let Some((environment, parent)) = process.and_then(|process| Some((environment(process)?, parent(process)))) else { break };
        if !is_wired(&environment, displaced) {
            return environment;
        }
        process = parent.filter(|parent| *parent > 1);
    }
    std::env::vars_os().filter(|(name, _)| !displaced.iter().any(|displaced| *name == *displaced.name)).collect()
}

/// Whether something that leads to us stands in an environment.
fn is_wired(environment: &HashMap<OsString, OsString>, displaced: &[Displaced]) -> bool {
    displaced.iter().any(|displaced| {
        let ours = &displaced.ours;
        let leads = is_our_proxy(ours) || ours.lines().any(is_token_line);
        leads && environment.get(OsStr::new(&displaced.name)).is_some_and(|value| *value == **ours)
    })
}

fn environment(process: u32) -> Option<HashMap<OsString, OsString>> {
    let bytes = read(&format!("/proc/{process}/environ"))?;
    let variable = |entry: &[u8]| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        Some((OsString::from_vec(entry[..equals].to_vec()), OsString::from_vec(entry[equals + 1..].to_vec())))
    };
    Some(bytes.split(|byte| *byte == 0).filter_map(variable).collect())
}

/// The process that has started another one: the second field behind its name, which may hold anything.
fn parent(process: u32) -> Option<u32> {
    let stat = String::from_utf8_lossy(&read(&format!("/proc/{process}/stat"))?).into_owned();
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn read(file: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(MAX_ENVIRONMENT).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn displaced() -> Vec<Displaced> {
        let ours = |name: &str, ours: &str| Displaced { name: name.to_owned(), ours: ours.to_owned(), prior: None };
        vec![ours("ANTHROPIC_CUSTOM_HEADERS", "x-hotspare-token: hs-1"), ours("NO_PROXY", "127.0.0.1,localhost")]
    }

    #[test]
    fn own_process_is_read_with_its_parent() {
        let own = environment(std::process::id()).expect("it runs");
        assert_eq!(own.get(OsStr::new("PATH")).cloned(), std::env::var_os("PATH"));
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
        assert_eq!((environment(u32::MAX), parent(u32::MAX)), (None, None));
    }

    #[test]
    fn only_what_leads_to_us_makes_an_environment_ours() {
        let of = |name: &str, value: &str| HashMap::from([(OsString::from(name), OsString::from(value))]);
        assert!(is_wired(&of("ANTHROPIC_CUSTOM_HEADERS", "x-hotspare-token: hs-1"), &displaced()));
        assert!(!is_wired(&of("ANTHROPIC_CUSTOM_HEADERS", "x-team: 7"), &displaced()));
        assert!(!is_wired(&of("NO_PROXY", "127.0.0.1,localhost"), &displaced()), "the user may have the same");
    }
}
