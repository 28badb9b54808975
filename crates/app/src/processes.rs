//! Looks at this user's other processes: sessions of Claude Code, and hotspares that no entry of the state folder records. Linux only; elsewhere
//! nothing is found.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use hotspare_config::Locations;

use crate::state;

/// Longest command line or environment that is looked at, in bytes: as much as Linux gives a process with its usual stack.
const LOOK: u64 = 2 << 20;

/// The processes of this machine.
pub(crate) fn ids() -> impl Iterator<Item = i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
}

/// One of a process's files of words; nothing where it is another user's, or gone.
pub(crate) fn words(process: i32, file: &str) -> Vec<u8> {
    let mut words = Vec::new();
    if let Ok(file) = std::fs::File::open(format!("/proc/{process}/{file}")) {
        // Half of it is better than none.
        let _ = file.take(LOOK).read_to_end(&mut words);
    }
    words
}

/// A process's command line.
fn command_line(process: i32) -> Vec<String> {
    let line = words(process, "cmdline");
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The environment that a process was started with.
fn environment(process: i32) -> HashMap<String, OsString> {
    let environment = words(process, "environ");
    let variables = environment.split(|byte| *byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        Some((String::from_utf8_lossy(&variable[..at]).into_owned(), OsString::from_vec(variable[at + 1..].to_vec())))
    });
    variables.collect()
}

/// A session of Claude Code that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Its process.
    pub pid: i32,
    /// Whether its sign-in is an Anthropic profile. Such a session sends nothing once its base URL is another than at its start (read in Claude
    /// Code 2.1.332, `session_profile_address`).
    pub on_profile: bool,
}

/// The sessions whose settings are this file.
pub(crate) fn sessions(settings: &Path) -> Vec<Session> {
    ids().filter_map(|pid| session(pid, settings)).collect()
}

fn session(pid: i32, settings: &Path) -> Option<Session> {
    let line = command_line(pid);
    let name = |word: &String| Path::new(word).file_name().and_then(|name| name.to_str()).map(str::to_owned);
    // The native program is the first word; an npm installation runs it through node.
    let is_client = line.iter().take(2).any(|word| name(word).as_deref() == Some("claude"));
    if !is_client || line.get(1).is_some_and(|word| matches!(word.as_str(), "daemon" | "mcp" | "--version" | "-v")) {
        return None;
    }
    let environment = environment(pid);
    let folder = match environment.get("CLAUDE_CONFIG_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(environment.get("HOME")?).join(".claude"),
    };
    (settings.parent() == Some(folder.as_path())).then(|| Session { pid, on_profile: is_on_profile(&environment, &folder) })
}

/// Whether a session with this environment signs in by an Anthropic profile. A key or token in the environment goes before it, and so does a
/// saved claude.ai login unless the profile is named (read in 2.1.332).
fn is_on_profile(environment: &HashMap<String, OsString>, claude_folder: &Path) -> bool {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"].into_iter().any(|name| set(name).is_some()) {
        return false;
    }
    let home = || Some(Path::new(set("HOME")?).join(".config/anthropic"));
    let Some(folder) = set("ANTHROPIC_CONFIG_DIR").map(PathBuf::from).or_else(home) else { return false };
    let active = || std::fs::read_to_string(folder.join("active_config")).unwrap_or_default().trim().to_owned();
    let named = set("ANTHROPIC_PROFILE").map(|name| name.to_string_lossy().into_owned());
    let is_named = named.is_some();
    let name = Some(named.unwrap_or_else(active)).filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    let has_login = || {
        let saved = std::fs::read_to_string(claude_folder.join(".credentials.json")).unwrap_or_default();
        saved.contains("claudeAiOauth")
    };
    folder.join("configs").join(format!("{name}.json")).is_file() && (is_named || !has_login())
}

/// What a person must know before the settings of running sessions change. `None` if nothing.
pub(crate) fn about_sessions(sessions: &[Session]) -> Option<String> {
    let (all, on_profile) = (sessions.len(), sessions.iter().filter(|session| session.on_profile).count());
    let some = |count: usize| if count == 1 { "1 Claude Code session".to_owned() } else { format!("{count} Claude Code sessions") };
    match (all, on_profile) {
        (0, _) => None,
        (_, 0) => Some(format!("open now: {}; each reads its settings again within seconds of its last answer", some(all))),
        (_, count) => Some(format!(
            "{} {} signed in by an Anthropic profile and will send nothing after this change: exit and run `claude --resume`",
            some(count),
            if count == 1 { "is" } else { "are" }
        )),
    }
}

/// Processes `hotspare serve` and `hotspare run` of this state folder that it does not record: its entries were removed, or a disk was full.
pub(crate) fn unrecorded(locations: &Locations) -> Vec<i32> {
    let recorded: Vec<i32> = state::instances(&locations.state_dir)
        .into_iter()
        .map(|instance| instance.pid)
        .chain(state::supervisors(&locations.state_dir).into_iter().map(|supervisor| supervisor.pid))
        .collect();
    let own = std::process::id().cast_signed();
    ids().filter(|pid| *pid != own && !recorded.contains(pid) && is_of(*pid, &locations.state_dir)).collect()
}

fn is_of(pid: i32, state_dir: &Path) -> bool {
    let line = command_line(pid);
    let is_ours = line.first().is_some_and(|word| Path::new(word).file_name().is_some_and(|name| name == "hotspare"));
    if !is_ours || !line.get(1).is_some_and(|word| matches!(word.as_str(), "serve" | "run")) {
        return false;
    }
    let environment = environment(pid);
    Locations::find(&|name| environment.get(name).cloned(), None).is_ok_and(|locations| locations.state_dir == state_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_login_is_told_from_others() {
        let home = tempfile::tempdir().expect("a folder");
        let claude = home.path().join(".claude");
        let configs = home.path().join(".config/anthropic/configs");
        std::fs::create_dir_all(&configs).and_then(|()| std::fs::create_dir_all(&claude)).expect("made");
        let on_profile = |variables: &[(&str, &str)]| {
            let home = ("HOME", home.path().to_str().expect("UTF-8"));
            let variables = variables.iter().chain([&home]).map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
            is_on_profile(&variables.collect(), &claude)
        };
        assert!(!on_profile(&[]), "there is no profile");
        std::fs::write(configs.join("default.json"), "{}").expect("written");
        assert!(on_profile(&[]));
        assert!(!on_profile(&[("ANTHROPIC_API_KEY", "sk-ant-test")]), "a key goes before it");
        assert!(!on_profile(&[("ANTHROPIC_PROFILE", "work")]), "there is no such profile");
        std::fs::write(claude.join(".credentials.json"), r#"{"claudeAiOauth":{}}"#).expect("written");
        assert!(!on_profile(&[]), "a saved login goes before a profile that is not named");
        assert!(on_profile(&[("ANTHROPIC_PROFILE", "default")]));
    }

    #[test]
    fn sessions_are_counted_in_words() {
        let session = |on_profile| Session { pid: 1, on_profile };
        assert_eq!(about_sessions(&[]), None);
        let told = about_sessions(&[session(false), session(true)]).expect("words");
        assert!(told.starts_with("1 Claude Code session is signed in by an Anthropic profile"), "{told}");
        let told = about_sessions(&[session(false), session(false)]).expect("words");
        assert!(told.starts_with("open now: 2 Claude Code sessions;"), "{told}");
    }
}
