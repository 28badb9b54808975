//! Knows which commands of Claude Code have to do with sessions in the background, and whether their supervisor still has an address of
//! ours. Never ends a process, and never looks at one of another user.
//!
//! Measured on Claude Code 2.1.330: a session that `claude --bg` begins outlives the command. Its supervisor keeps processes ready for the
//! next sessions, with the variables that the settings held when they were started. So what `hotspare run` sets must not get there; and what
//! `install` has set stays there until the supervisor ends, which it does by itself with its last session. Settings that hold a variable
//! when a session begins outrank that.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::claude::{self, BASE_URL, CUSTOM_HEADERS, HTTPS_PROXY};
use crate::processes::{self, words};

/// Words that the client knows as the first argument, and whether a session begins by them in this process's environment. `respawn` has the
/// supervisor start a session again, with the supervisor's environment and not this one's.
const WORDS: [(&str, bool); 8] = [
    ("agents", true),
    ("attach", true),
    ("daemon", true),
    ("kill", false),
    ("logs", false),
    ("respawn", false),
    ("rm", false),
    ("stop", false),
];

/// Arguments by which those words only report or end something.
const HARMLESS: [(&str, &[&str]); 2] =
    [("agents", &["--json", "--help", "-h"]), ("daemon", &["status", "stop", "logs", "list", "--help", "-h"])];

/// What begins a session in the background, wherever it stands.
const FLAGS: [&str; 2] = ["--bg", "--background"];

/// What stands in the command line of a process that waits to be the next session.
const READY: &str = "--bg-spare";

/// What ends the supervisor and its sessions.
pub(crate) const STOP: &str = "claude daemon stop --any";

/// A command that has to do with sessions in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Background<'a> {
    /// What says so.
    pub word: &'a str,
    /// Whether a session begins or goes on by it.
    pub runs: bool,
}

impl<'a> Background<'a> {
    /// None for every other command.
    pub(crate) fn of(command: &'a [OsString]) -> Option<Self> {
        let arguments = command.get(claude::client_at(command)?..)?;
        let words = || arguments.iter().map_while(|argument| argument.to_str()).take_while(|word| *word != "--");
        let flag = words().find(|word| FLAGS.contains(word)).map(|word| Self { word, runs: true });
        flag.or_else(|| {
            let word = words().next()?;
            let (name, runs) = WORDS.iter().find(|(name, _)| *name == word)?;
            let harmless = HARMLESS.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, arguments)| arguments);
            let is_harmless = words().skip(1).any(|argument| harmless.contains(&argument));
            Some(Self { word, runs: *runs && !is_harmless })
        })
    }
}

/// A process from which the next background session of the Claude Code with this settings file would come, where it was started with this address of ours.
pub(crate) fn led_to(address: SocketAddr, settings: &Path) -> Option<i32> {
    led(settings).into_iter().find_map(|(process, led)| (led == address).then_some(process))
}

/// All such processes of the Claude Code with this settings file that were started with an address of a hotspare, and which. Found on Linux alone.
pub(crate) fn led(settings: &Path) -> Vec<(i32, SocketAddr)> {
    processes::ids().filter(|id| is_of_background(*id)).filter_map(|id| Some((id, address(id, settings)?))).collect()
}

/// Whether a process is a supervisor, or one that it keeps ready for the next session.
fn is_of_background(process: i32) -> bool {
    let line = words(process, "cmdline");
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.contains(&READY.as_bytes()) || words.get(1..3) == Some(&[b"daemon", b"run"])
}

/// Where a process was led to when it was started, if to a hotspare.
fn address(process: i32, settings: &Path) -> Option<SocketAddr> {
    let environment = words(process, "environ");
    let variables = environment.split(|byte| *byte == 0).filter_map(|variable| std::str::from_utf8(variable).ok()?.split_once('='));
    let variables: HashMap<&str, &str> = variables.collect();
    let folder = match variables.get("CLAUDE_CONFIG_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(variables.get("HOME")?).join(".claude"),
    };
    if settings.parent() != Some(folder.as_path()) {
        return None;
    }
    let has_token = variables.get(CUSTOM_HEADERS).is_some_and(|headers| headers.lines().any(claude::is_token_line));
    let base =
        variables.get(BASE_URL).filter(|_| has_token).and_then(|url| url.strip_prefix("http://")?.trim_end_matches('/').parse().ok());
    base.or_else(|| HTTPS_PROXY.iter().find_map(|name| claude::our_proxy(variables.get(name)?)))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn command(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn commands_for_the_background_are_told_from_all_others() {
        let runs = |line: &str| Background::of(&command(line)).map(|background| (background.word.to_owned(), background.runs));
        for (line, word) in [
            ("claude --bg hello", "--bg"),
            ("/opt/claude --model opus --background hello", "--background"),
            ("npx -y @anthropic-ai/claude-code@2 --bg hello", "--bg"),
            ("claude agents", "agents"),
            ("claude daemon run", "daemon"),
        ] {
            assert_eq!(runs(line), Some((word.to_owned(), true)), "{line}");
        }
        for (line, word) in [
            ("claude logs 1", "logs"),
            ("claude agents --json", "agents"),
            ("claude daemon status", "daemon"),
            ("claude daemon stop --any", "daemon"),
            ("claude respawn 1", "respawn"),
        ] {
            assert_eq!(runs(line), Some((word.to_owned(), false)), "{line}");
        }
        for line in
            ["claude", "claude -p agents", "claude -- --bg", "claude hello agents", "other --bg", "npx other --bg", "claude remote-control"]
        {
            assert_eq!(runs(line), None, "{line}");
        }
    }

    /// A shell stands for the client's processes: its words are theirs.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_for_the_background_with_our_address_is_found_and_no_other() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join(".claude");
        let settings = folder.join("settings.json");
        let led_to = |port: u16| led_to(SocketAddr::from(([127, 0, 0, 1], port)), &settings);
        let begun = |words: [&str; 2], variables: &[(&str, &str)]| {
            let mut child = Command::new("sh")
                .args(["-c", "echo begun; read -r line", "claude"])
                .args(words)
                .env("CLAUDE_CONFIG_DIR", &folder)
                .envs(variables.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("started");
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().expect("piped")), &mut line).expect("it speaks");
            child
        };
        let ready = ["--bg-spare", "claim.sock"];
        let token = (CUSTOM_HEADERS, "x-own: 1\nx-hotspare-token: hs-test");
        let base = begun(ready, &[(BASE_URL, "http://127.0.0.1:4101"), token]);
        let full = begun(ready, &[(HTTPS_PROXY[1], "http://hotspare:hs-test@127.0.0.1:4102")]);
        let foreign = begun(ready, &[(BASE_URL, "http://127.0.0.1:4103")]);
        let other = begun(["-p", "hi"], &[(BASE_URL, "http://127.0.0.1:4104"), token]);
        assert_eq!(led_to(4101), Some(base.id().cast_signed()));
        assert_eq!(led_to(4102), Some(full.id().cast_signed()));
        assert_eq!(led_to(4103), None, "it is not a hotspare's");
        assert_eq!(led_to(4104), None, "it is not for the background");
        for mut child in [base, full, foreign, other] {
            drop(child.stdin.take());
            child.wait().expect("it ended");
        }
        assert_eq!(led_to(4101), None);
    }
}
