//! The tools and the isolated places of a case: fetched clients, a home of its own, a configuration. Never touches the developer's own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use hotspare_testkit::{Received, Upstream};
use serde_json::{Value, json};

use crate::workspace;

/// The client's own key: it may reach the primary alone.
pub(super) const CLIENT_KEY: &str = "sk-ant-test-client";

/// The spare's key: it may reach the spare alone.
pub(super) const SPARE_KEY: &str = "sk-ant-test-spare";

/// The pinned clients and the binary under test.
pub(super) struct Tools {
    pub hotspare: PathBuf,
    pub claude: PathBuf,
    pub node_modules: PathBuf,
    pub python: PathBuf,
}

impl Tools {
    /// Builds the binary and fetches the clients, where they are not there yet.
    pub(super) fn fetch() -> Result<Self> {
        let root = &workspace::root();
        let hotspare = workspace::hotspare(true)?;
        let place = root.join(".e2e");
        fs::create_dir_all(&place)?;
        let node = fetch_node(root, &place)?;
        let python = fetch_python(root, &place)?;
        let node_modules = node.join("node_modules");
        let claude = native_client(&node_modules)?;
        Ok(Self { hotspare, claude, node_modules, python })
    }
}

/// The packages named in `xtask/e2e/package.json`, installed without running any script of theirs.
fn fetch_node(root: &Path, place: &Path) -> Result<PathBuf> {
    let folder = place.join("node");
    let wanted = fs::read_to_string(root.join("xtask/e2e/package.json"))?;
    let have = fs::read_to_string(folder.join("installed.json")).unwrap_or_default();
    if wanted == have {
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), &wanted)?;
    let mut npm = Command::new("npm");
    npm.current_dir(&folder).args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]);
    run(&mut npm).context("the pinned clients could not be fetched with npm")?;
    fs::write(folder.join("installed.json"), wanted)?;
    Ok(folder)
}

/// The client comes as a native binary in the package for this platform.
fn native_client(node_modules: &Path) -> Result<PathBuf> {
    let packages = node_modules.join("@anthropic-ai");
    for entry in fs::read_dir(&packages)? {
        let entry = entry?;
        let binary = entry.path().join("claude");
        if entry.file_name().to_string_lossy().starts_with("claude-code-") && binary.is_file() {
            return Ok(binary);
        }
    }
    bail!("no native client in `{}`: npm left the package for this platform out", packages.display())
}

fn fetch_python(root: &Path, place: &Path) -> Result<PathBuf> {
    let folder = place.join("python");
    let python = folder.join("bin/python");
    let list = root.join("xtask/e2e/requirements.txt");
    let wanted = fs::read_to_string(&list)?;
    if fs::read_to_string(folder.join("installed.txt")).unwrap_or_default() == wanted {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).context("python3 and its venv module are needed")?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&list))?;
    fs::write(folder.join("installed.txt"), wanted)?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` could not be started", command.get_program().display()))?;
    ensure!(status.success(), "`{}` ended with {status}", command.get_program().display());
    Ok(())
}

/// Folders and files of one case, gone with it.
pub(super) struct World {
    folder: tempfile::TempDir,
    pub config: PathBuf,
}

impl World {
    /// An isolated home, client configuration, project, and hotspare configuration.
    pub(super) fn new(primary: &str, spare: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("hotspare-e2e-").tempdir()?;
        for name in ["home", "claude", "project/.claude", "state"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        let config = folder.path().join("hotspare.json");
        // The clocks are shortened so that a stall is found in a test's time.
        let policy = json!({
            "failover_policy": {
                "primary_profile": "primary", "secondary_profile": "spare",
                "clocks": { "head": "2s", "first_content": "2s", "bytes_idle": "2s", "content_idle": "3s" },
            },
            "profiles": {
                "primary": { "base_url": primary, "auth": "client" },
                "spare": { "base_url": spare, "auth": { "env": "SPARE_KEY" } },
            },
        });
        fs::write(&config, serde_json::to_string_pretty(&policy)?)?;
        let world = Self { folder, config };
        world.settle_client()?;
        Ok(world)
    }

    /// What a user has done once: onboarding, the trust dialog, the approval of the key.
    fn settle_client(&self) -> Result<()> {
        let tail: String = CLIENT_KEY.chars().skip(CLIENT_KEY.len().saturating_sub(20)).collect();
        let state = json!({
            "hasCompletedOnboarding": true, "theme": "dark",
            "customApiKeyResponses": { "approved": [CLIENT_KEY, tail], "rejected": [] },
            "projects": { self.project().to_string_lossy(): { "hasTrustDialogAccepted": true, "projectOnboardingSeenCount": 3, "allowedTools": [] } },
        });
        fs::write(self.path("claude/.claude.json"), state.to_string())?;
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn project(&self) -> PathBuf {
        self.path("project")
    }

    /// The whole environment of a client: nothing of the developer's but PATH.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("HOME", self.path("home").into()),
            ("CLAUDE_CONFIG_DIR", self.path("claude").into()),
            ("XDG_STATE_HOME", self.path("state").into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm-256color".into()),
            ("IS_SANDBOX", "1".into()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
            ("DISABLE_TELEMETRY", "1".into()),
            ("DISABLE_AUTOUPDATER", "1".into()),
            ("ANTHROPIC_API_KEY", CLIENT_KEY.into()),
            ("SPARE_KEY", SPARE_KEY.into()),
        ]
    }
}

/// Each provider saw its own credential and nobody else's, and never the local token.
pub(super) fn credentials_kept_apart(primary: &[Received], spare: &[Received]) -> Result<()> {
    for (requests, own, foreign) in [(primary, CLIENT_KEY, SPARE_KEY), (spare, SPARE_KEY, CLIENT_KEY)] {
        for request in requests.iter().filter(|request| request.method == "POST") {
            let head = String::from_utf8_lossy(&request.raw_head);
            ensure!(head.contains(own), "a request came without its provider's own credential:\n{head}");
            ensure!(!head.contains(foreign), "a credential reached another provider:\n{head}");
            ensure!(!head.to_ascii_lowercase().contains("x-hotspare-token"), "the local token went out:\n{head}");
        }
    }
    Ok(())
}

/// All texts of a request's messages.
pub(super) fn history(request: &Received) -> String {
    fn collect(value: &Value, into: &mut String) {
        match value {
            Value::String(text) => {
                into.push_str(text);
                into.push('\n');
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            Value::Object(fields) => fields.values().for_each(|item| collect(item, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut text = String::new();
    collect(&request.json()["messages"], &mut text);
    text
}

/// The two providers of a case.
pub(super) struct Providers {
    pub primary: Upstream,
    pub spare: Upstream,
}
