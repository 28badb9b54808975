//! The environment of the commands that run inside a session. Claude Code gives its own variables to each of them, and with them what leads
//! it to hotspare; a script that its shell reads first puts the user's own values back. Writes no file.
//!
//! Measured on Claude Code 2.1.332: the text of the file that `CLAUDE_ENV_FILE` names stands in the command line of every shell that the
//! Bash tool starts, where each user of the machine can read it. So that text is one line that reads another file, which its owner alone
//! can read.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{BASE_URL, CUSTOM_HEADERS, NO_PROXY, PROXY_USER, TOKEN_HEADER, TOKEN_START, UserSetup, is_our_proxy, is_token_line, no_proxy};
use crate::wiring::shell::Shell;

/// The client's variable for a script that the Bash tool runs before each command (documented under "environment variables"). Hooks find in
/// it a file of their own, whose text comes later.
pub(crate) const ENV_FILE: &str = "CLAUDE_ENV_FILE";

/// The line that the client reads, in the folder of a run.
const LINE_FILE: &str = "inside.sh";

/// The script that this line reads.
const SCRIPT_FILE: &str = "environment.sh";

/// Where the requests of programs inside a session go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Children {
    /// Where they would go without hotspare.
    Direct,
    /// Through the chain.
    Protected,
}

impl From<hotspare_config::Children> for Children {
    fn from(children: hotspare_config::Children) -> Self {
        match children {
            hotspare_config::Children::Direct => Self::Direct,
            hotspare_config::Children::Protected => Self::Protected,
        }
    }
}

/// A variable that hotspare has changed for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Changed {
    name: String,
    /// What the client has.
    ours: String,
    /// What a command inside the session gets; `None` if it gets none.
    inside: Option<String>,
}

/// All variables that hotspare has changed for one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overlay(Vec<Changed>);

impl Overlay {
    /// Notes a variable; one that has not changed is left alone.
    pub(crate) fn note(&mut self, name: &str, ours: &str, inside: Option<String>) {
        if inside.as_deref() != Some(ours) {
            self.0.push(Changed { name: name.to_owned(), ours: ours.to_owned(), inside });
        }
    }

    /// The script, for `bash`, `zsh` and `sh`. A variable that has got another value meanwhile, by a hook or a start file of the user's own,
    /// keeps it.
    pub(crate) fn script(&self) -> String {
        let mut script = String::from("# hotspare: the user's own environment, for the commands inside this session.\n");
        for Changed { name, ours, inside } in &self.0 {
            let own = match inside {
                Some(value) => format!("export {name}={}", Shell::Bash.quoted(value)),
                None => format!("unset {name}"),
            };
            let _ = writeln!(script, "case \"${{{name}-}}\" in {}) {own} ;; esac", pattern(ours));
        }
        script
    }

    #[cfg(test)]
    fn of(&self, name: &str) -> Option<&Option<String>> {
        self.0.iter().find(|changed| changed.name == name).map(|changed| &changed.inside)
    }
}

/// The shell pattern of a value of ours. It holds no token.
fn pattern(ours: &str) -> String {
    if is_our_proxy(ours) {
        format!("http://{PROXY_USER}:{TOKEN_START}*")
    } else if ours.lines().any(is_token_line) {
        format!("*{TOKEN_HEADER}:*")
    } else if ours.starts_with(TOKEN_START) {
        format!("{TOKEN_START}*")
    } else {
        Shell::Bash.quoted(ours)
    }
}

/// The line by which a shell reads a script, if it is still there.
pub(crate) fn line_for(script: &Path) -> String {
    let script = Shell::Bash.quoted(&script.to_string_lossy());
    format!("{{ [ ! -r {script} ] || . {script}; }}\n")
}

/// What stands in the settings of a client where `install` has put ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Displaced {
    /// The variable.
    pub name: String,
    /// Our value.
    pub ours: String,
    /// The value that stood there before.
    pub prior: Option<String>,
}

impl UserSetup {
    /// The same with what `install` has displaced in the user's settings.
    pub(crate) fn with_displaced(mut self, displaced: Vec<Displaced>) -> Self {
        self.displaced = displaced;
        self
    }

    /// The same with a script for the commands inside the session, in this folder.
    pub(crate) fn with_inside(mut self, children: Children, folder: &Path) -> Self {
        self.inside = Some((children, folder.to_owned()));
        self
    }

    /// What a command inside a session would have of a variable without hotspare: by the client's settings, else by its environment. Empty
    /// is a value.
    pub(crate) fn original(&self, name: &str) -> Option<String> {
        for settings in [&self.given, &self.settings] {
            let Some(value) = settings.get("env").and_then(|env| env.get(name)).and_then(Value::as_str) else { continue };
            match self.displaced.iter().find(|displaced| displaced.name == name && displaced.ours == value) {
                Some(Displaced { prior: Some(prior), .. }) => return Some(prior.clone()),
                Some(_) => {}
                // A receipt may be lost.
                None if is_our_proxy(value) || value.lines().any(is_token_line) => {}
                None => return Some(value.to_owned()),
            }
        }
        self.environment.get(OsStr::new(name)).map(|value| value.to_string_lossy().into_owned())
    }

    /// The script's variables: each one that is set for the client, as a command inside gets it.
    pub(crate) fn overlay<'e>(
        &self,
        set: impl IntoIterator<Item = (&'e str, &'e str)>,
        children: Children,
        base: &[(&str, String)],
    ) -> Overlay {
        let mut overlay = Overlay::default();
        let protected = |name: &str| base.iter().find(|(known, _)| *known == name && children == Children::Protected);
        for (name, ours) in set {
            let inside = protected(name).map(|(_, value)| value.clone()).or_else(|| self.original(name));
            overlay.note(name, ours, inside);
        }
        overlay
    }

    /// What leads a program by its base URL, whatever leads the client.
    pub(crate) fn base_set(&self, url: String, token: &str) -> Vec<(&'static str, String)> {
        let mut set = vec![(BASE_URL, url), (CUSTOM_HEADERS, self.headers(Some(token)))];
        let own = |name: &'static str| self.original(name).unwrap_or_default();
        set.extend(NO_PROXY.map(|name| (name, no_proxy(&own(name), super::Lead::Base))));
        set
    }

    /// The files that give the commands of this run the user's own environment, and the variable by which the client finds them.
    pub(super) fn inside_files(
        &self,
        env: &mut Map<String, Value>,
        process: &[(&'static str, String)],
        base: &[(&str, String)],
    ) -> Vec<(PathBuf, String)> {
        let Some((children, folder)) = &self.inside else { return Vec::new() };
        let (line, script) = (folder.join(LINE_FILE), folder.join(SCRIPT_FILE));
        let own = self.original(ENV_FILE).filter(|own| !own.is_empty());
        env.insert(ENV_FILE.to_owned(), line.to_string_lossy().into_owned().into());
        let set = env.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let of_process = process.iter().map(|(name, value)| (*name, value.as_str())).filter(|(name, _)| !env.contains_key(*name));
        let mut script_text = self.overlay(set.chain(of_process), *children, base).script();
        if let Some(own) = own {
            script_text.push_str(&line_for(Path::new(&own)));
        }
        vec![(line, line_for(&script)), (script, script_text)]
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(shell: &str, script: &str, environment: &[(&str, &str)]) -> Option<String> {
        let script = format!("{script}\nenv");
        let mut command = Command::new(shell);
        command.args(["-c", &script]).env_clear().envs(environment.iter().copied()).env("PATH", "/usr/bin:/bin");
        let output = command.output().ok()?;
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).expect("UTF-8"))
    }

    fn overlay() -> Overlay {
        let mut overlay = Overlay::default();
        overlay.note("ANTHROPIC_BASE_URL", "http://127.0.0.1:4117", None);
        overlay.note("ANTHROPIC_CUSTOM_HEADERS", "x-team: 7\nx-hotspare-token: hs-secret", Some("x-team: it's 7\nx-b: $HOME".to_owned()));
        overlay.note("HTTPS_PROXY", "http://hotspare:hs-secret@127.0.0.1:4117", Some("http://me:p'w@corp:3128".to_owned()));
        overlay.note("ANTHROPIC_AUTH_TOKEN", "hs-secret", None);
        overlay.note("HTTP_PROXY", "", None);
        overlay.note("NO_PROXY", "127.0.0.1,localhost", Some(String::new()));
        overlay.note("KEPT", "same", Some("same".to_owned()));
        overlay
    }

    #[test]
    fn script_restores_each_value_in_every_shell() {
        let script = overlay().script();
        assert!(!script.contains("secret") && !script.contains("KEPT"), "{script}");
        let ours = [
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:4117"),
            ("ANTHROPIC_CUSTOM_HEADERS", "x-team: 7\nx-hotspare-token: hs-secret"),
            ("HTTPS_PROXY", "http://hotspare:hs-secret@127.0.0.1:4117"),
            ("ANTHROPIC_AUTH_TOKEN", "hs-secret"),
            ("HTTP_PROXY", ""),
            ("NO_PROXY", "127.0.0.1,localhost"),
        ];
        for shell in ["sh", "bash", "zsh"] {
            // A shell that this machine has not is left out.
            let Some(seen) = run(shell, &format!("set -u\n{script}"), &ours) else { continue };
            assert!(seen.contains("ANTHROPIC_CUSTOM_HEADERS=x-team: it's 7\nx-b: $HOME\n"), "{shell}: {seen}");
            assert!(seen.contains("HTTPS_PROXY=http://me:p'w@corp:3128\n") && seen.contains("NO_PROXY=\n"), "{shell}: {seen}");
            for gone in ["ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "HTTP_PROXY", "hs-"] {
                assert!(!seen.contains(gone), "{shell}: {gone} in {seen}");
            }
        }
    }

    #[test]
    fn script_leaves_a_value_that_somebody_else_has_set() {
        let theirs = [("ANTHROPIC_BASE_URL", "https://theirs.example"), ("HTTPS_PROXY", "http://vpn:1"), ("NO_PROXY", ".vpn")];
        let seen = run("sh", &overlay().script(), &theirs).expect("every machine has sh");
        for (name, value) in theirs {
            assert!(seen.contains(&format!("{name}={value}\n")), "{seen}");
        }
    }

    #[test]
    fn line_does_nothing_once_its_script_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = folder.path().join("it's.sh");
        let line = line_for(&script);
        assert!(run("sh", &format!("set -e\n{line}"), &[]).is_some());
        std::fs::write(&script, "export FOUND=1").expect("written");
        assert!(run("sh", &line, &[]).expect("every machine has sh").contains("FOUND=1"));
    }

    #[test]
    fn original_is_what_the_client_would_have_without_us() {
        let settings = serde_json::json!({ "env": {
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:4117", "NO_PROXY": "ours", "HTTPS_PROXY": "http://hotspare:hs-1@127.0.0.1:4117",
            "HTTP_PROXY": "http://settings:1",
        }});
        let Value::Object(settings) = settings else { panic!("an object") };
        let shell = [("NO_PROXY", ".shell"), ("HTTPS_PROXY", "http://shell:1"), ("HTTP_PROXY", "http://shell:2"), ("EMPTY", "")];
        let shell = shell.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let displaced = |name: &str, ours: &str, prior: Option<&str>| Displaced {
            name: name.to_owned(),
            ours: ours.to_owned(),
            prior: prior.map(str::to_owned),
        };
        let setup = UserSetup::lasting(settings, shell).with_displaced(vec![
            displaced("ANTHROPIC_BASE_URL", "http://127.0.0.1:4117", Some("https://gw.example")),
            displaced("NO_PROXY", "ours", None),
        ]);
        for (name, expected) in [
            ("ANTHROPIC_BASE_URL", Some("https://gw.example")),
            ("NO_PROXY", Some(".shell")),
            ("HTTPS_PROXY", Some("http://shell:1")),
            ("HTTP_PROXY", Some("http://settings:1")),
            ("EMPTY", Some("")),
            ("ABSENT", None),
        ] {
            assert_eq!(setup.original(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn protected_children_get_the_base_url_and_nothing_else_of_ours() {
        let setup = UserSetup::default();
        let base = setup.base_set("http://127.0.0.1:4117".to_owned(), "hs-1");
        let set = [("ANTHROPIC_BASE_URL", ""), ("HTTPS_PROXY", "http://hotspare:hs-1@127.0.0.1:4117"), ("NO_PROXY", "x")];
        let overlay = setup.overlay(set, Children::Protected, &base);
        assert_eq!(overlay.of("ANTHROPIC_BASE_URL"), Some(&Some("http://127.0.0.1:4117".to_owned())));
        assert_eq!(overlay.of("HTTPS_PROXY"), Some(&None));
        assert_eq!(overlay.of("NO_PROXY"), Some(&Some("127.0.0.1,localhost".to_owned())));
        assert_eq!(setup.overlay(set, Children::Direct, &base).of("ANTHROPIC_BASE_URL"), Some(&None));
    }
}
