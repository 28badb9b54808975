//! Decides what Claude Code's settings get, and knows what of ours is in them when the receipt is lost. Never writes a file, and never a
//! credential: `ANTHROPIC_API_KEY` or `ANTHROPIC_AUTH_TOKEN` in the settings would hide a subscription's login.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use hotspare_config::Settings;
use serde_json::{Map, Value, json};

use super::Part;
use super::outward::Outward;
use super::patch::{Change, Entry, Place};
use super::shell::Shell;
use crate::authority;
use crate::claude::{BASE_URL, CUSTOM_HEADERS, EXTRA_CERTIFICATES, HTTPS_PROXY, Lead, OWN_URL, UserSetup, is_our_proxy, is_token_line};

/// The client's event at the start of a session, and what our command for it ends with.
const SESSION_START: (&str, &str) = ("SessionStart", "hook session-start");

/// The client's event before each prompt goes out, and what our command for it ends with.
const PROMPT: (&str, &str) = ("UserPromptSubmit", "hook prompt");

/// The client's event when a session enters another folder (since 2.1.83), and what our command for it ends with.
pub(crate) const CWD_CHANGED: (&str, &str) = ("CwdChanged", "hook folder");

/// The hooks that name the folder of a session.
pub(crate) const FOLDER_HOOKS: [(&str, &str); 3] = [SESSION_START, PROMPT, CWD_CHANGED];

/// What the status line's command goes on with.
const STATUSLINE: &str = "statusline";

/// Seconds after which the client runs its status line again although nothing has happened in the session: Claude Code has it since
/// 2.1.97, and an older one ignores it. Without it an outage between two turns is not shown.
pub(crate) const REFRESH: &str = "refreshInterval";

/// For our segment alone.
pub(crate) const REFRESH_INTERVAL: u64 = 5;

/// Around a command of the user's, which may cost more than ours.
pub(crate) const WRAPPED_REFRESH_INTERVAL: u64 = 10;

/// What a hook's command goes on with that tells of moves.
pub(crate) const NOTICES: &str = "notices --hook";

/// Seconds that the client gives a hook. It takes far fewer; see `commands/session_start.rs`.
const HOOK_TIME: u64 = 5;

/// The user's own set-up, as far as it matters: what stands in this text, and in the environment.
pub(crate) fn setup(settings: &Settings, state_dir: &Path) -> UserSetup {
    let own = match settings.json(&[]) {
        Some(Value::Object(own)) => own,
        _ => Map::new(),
    };
    let environment: HashMap<OsString, OsString> = std::env::vars_os().collect();
    UserSetup::lasting(own, environment).with_kept(Outward::kept(state_dir))
}

/// One variable of the settings.
fn variable(name: &str, value: &str) -> Change {
    Change { part: Part::Claude, place: Place::key(&["env", name]), value: Value::from(value).to_string() }
}

/// The variables that point the client at us: which ones is a value, so that each mode brings its own.
pub(crate) fn env_changes<'e>(env: impl IntoIterator<Item = (&'e str, String)>) -> Vec<Change> {
    env.into_iter().map(|(name, value)| variable(name, &value)).collect()
}

/// The hooks that revive the service, or take our values out, and name the session's folder: at a session's start and before each prompt.
/// One more does the latter alone when the session enters another folder.
pub(crate) fn hook_changes(program: &str, lead: Lead<'_>) -> [Change; 3] {
    let quoted = Shell::Bash.quoted(program);
    let names = match lead {
        Lead::Base => format!("env.{BASE_URL} and env.{CUSTOM_HEADERS}"),
        Lead::Full(_) => format!("env.{}, env.{} and env.{EXTRA_CERTIFICATES}", HTTPS_PROXY[0], HTTPS_PROXY[1]),
    };
    let gone = json!({ "systemMessage": format!(
        "hotspare is gone from {program}, but Claude Code's settings still point at it: take {names} out"
    ) });
    // The client runs it with a shell. Whoever has deleted the program shall hear once a session why nothing works.
    let told = format!("echo {}", Shell::Bash.quoted(&gone.to_string()));
    let command = |hook: &str, otherwise: &str| format!("if [ -x {quoted} ]; then {quoted} {hook}; else {otherwise}; fi");
    [(SESSION_START, told.as_str()), (PROMPT, ":"), (CWD_CHANGED, ":")]
        .map(|((event, hook), otherwise)| hook_change(event, &command(hook, otherwise)))
}

fn hook_change(event: &str, command: &str) -> Change {
    let value = json!({ "hooks": [{ "type": "command", "command": command, "timeout": HOOK_TIME }] });
    Change { part: Part::Claude, place: Place::Entry { list: hooks_of(event).to_vec(), name: None }, value: inline(&value) }
}

/// Where the client's hooks of an event are.
fn hooks_of(event: &str) -> [String; 2] {
    ["hooks".to_owned(), event.to_owned()]
}

/// The status line: ours, around the user's own where there is one. None where theirs is of a kind that cannot be wrapped.
pub(crate) fn statusline_changes(settings: &Settings, program: &str) -> Option<Vec<Change>> {
    let change = |keys: &[&str], value: String| Change { part: Part::Statusline, place: Place::key(keys), value };
    let Some(own) = settings.json(&["statusLine"]) else {
        let value = json!({ "type": "command", "command": statusline_command(program, None), REFRESH: REFRESH_INTERVAL });
        return Some(vec![change(&["statusLine"], inline(&value))]);
    };
    let command = own.get("command").and_then(Value::as_str).filter(|_| own["type"] == "command")?;
    let wrapped = statusline_command(program, Some(command));
    let mut changes = vec![change(&["statusLine", "command"], Value::from(wrapped).to_string())];
    if own.get(REFRESH).is_none() {
        changes.push(change(&["statusLine", REFRESH], WRAPPED_REFRESH_INTERVAL.to_string()));
    }
    Some(changes)
}

/// The command of our status line, around the user's own where there is one.
pub(crate) fn statusline_command(program: &str, own: Option<&str>) -> String {
    let wrap = own.map(|own| format!(" --wrap {}", Shell::Bash.quoted(own))).unwrap_or_default();
    format!("{} {STATUSLINE}{wrap}", Shell::Bash.quoted(program))
}

/// Whether a status line's command is ours.
pub(crate) fn is_our_statusline(command: &str) -> bool {
    is_our_command(command, STATUSLINE)
}

/// What of ours stands in a text that no receipt knows: the token's header or the proxy with the token, and what comes with either.
pub(crate) fn recognised(file: &Path, text: &str, state_dir: &Path) -> Vec<Entry> {
    let Ok(settings) = Settings::parse(file, text) else { return Vec::new() };
    let mut found = Vec::new();
    let mut note = |part: Part, keys: &[&str], prior: Option<String>| {
        let Some(value) = settings.json(keys) else { return };
        let made = keys.len() - 1;
        found.push(Entry { part, place: Place::key(keys), value: value.to_string(), prior, made });
    };
    let text_at = |keys: &[&str]| settings.json(keys).and_then(|value| value.as_str().map(str::to_owned));
    let headers = text_at(&["env", CUSTOM_HEADERS]).unwrap_or_default();
    if headers.lines().any(is_token_line) {
        let own: Vec<&str> = headers.lines().filter(|line| !is_token_line(line)).collect();
        note(Part::Claude, &["env", CUSTOM_HEADERS], (!own.is_empty()).then(|| Value::from(own.join("\n")).to_string()));
        if text_at(&["env", BASE_URL]).is_some_and(|url| url.starts_with("http://127.0.0.1:") || url.starts_with("http://[::1]:")) {
            note(Part::Claude, &["env", BASE_URL], None);
        }
    }
    let proxies = HTTPS_PROXY.into_iter().filter(|name| text_at(&["env", name]).is_some_and(|url| is_our_proxy(&url)));
    let proxies: Vec<&str> = proxies.collect();
    if !proxies.is_empty() {
        let own = Outward::kept(state_dir).unwrap_or_default();
        let is_ours = |name: &str| match name {
            EXTRA_CERTIFICATES => text_at(&["env", name]).is_some_and(|file| authority::is_ours(state_dir, Path::new(&file))),
            name => text_at(&["env", name]).is_some_and(|value| value.is_empty() || (name == BASE_URL && value == OWN_URL)),
        };
        let beside = [BASE_URL, CUSTOM_HEADERS, EXTRA_CERTIFICATES].into_iter().filter(|name| is_ours(name));
        for name in proxies.into_iter().chain(beside) {
            let prior = own.value(name).filter(|value| !value.is_empty());
            note(Part::Claude, &["env", name], prior.map(|value| Value::from(value).to_string()));
        }
    }
    if let Some(command) = text_at(&["statusLine", "command"]).filter(|command| is_our_statusline(command)) {
        match command.split_once(" --wrap ") {
            None => note(Part::Statusline, &["statusLine"], None),
            Some((_, own)) => {
                let own = own.strip_prefix('\'').and_then(|own| own.strip_suffix('\'')).unwrap_or(own).replace(r"'\''", "'");
                note(Part::Statusline, &["statusLine", "command"], Some(Value::from(own).to_string()));
            }
        }
    }
    for (event, hook) in FOLDER_HOOKS {
        let is_ours = |entry: &Value| entry["command"].as_str().is_some_and(|command| is_our_command(command, hook));
        for entry in settings.entries(&["hooks", event]).unwrap_or_default() {
            if entry["hooks"].as_array().is_some_and(|hooks| hooks.len() == 1 && is_ours(&hooks[0])) {
                let list = hooks_of(event).to_vec();
                let made = list.len();
                let place = Place::Entry { list, name: None };
                found.push(Entry { part: Part::Claude, place, value: entry.to_string(), prior: None, made });
            }
        }
    }
    found
}

/// Whether a command is ours, and goes on so.
pub(crate) fn is_our_command(command: &str, word: &str) -> bool {
    command.contains("hotspare") && command.contains(&format!(" {word}"))
}

/// JSON on one line, with blanks where a person would put them.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), inline(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(entries) => format!("[{}]", entries.iter().map(inline).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
