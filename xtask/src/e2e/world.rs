//! The tools and the isolated places of a case: fetched clients, a home of its own, a configuration. Never touches the developer's own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use hotspare_testkit::canary::{has_local_token, percent_encoded};
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::canary::Secret;
use super::cases::Lead;
use super::{Options, version};
use crate::workspace;

/// Whom the machine's proxy knows.
pub(super) const PROXY_USER: &str = "corp";

/// The pinned clients and the binary under test.
pub(super) struct Tools {
    pub hotspare: PathBuf,
    pub claude: PathBuf,
    pub node_modules: PathBuf,
    pub python: PathBuf,
    /// The client goes to the primary itself, without hotspare: shows that the cases notice what then breaks.
    direct: bool,
    /// Where all worlds are, gone with this.
    worlds: TempDir,
}

impl Tools {
    /// Builds the binary unless one is given, and fetches the clients where they are not there yet.
    pub(super) fn fetch(options: &Options<'_>) -> Result<Self> {
        let root = &workspace::root();
        let hotspare = match options.binary {
            Some(path) => fs::canonicalize(path).with_context(|| format!("`--bin {path}`"))?,
            None => workspace::hotspare(!options.dev)?,
        };
        let place = root.join(".e2e");
        fs::create_dir_all(&place)?;
        let node = fetch_node(root, &place)?;
        let python = fetch_python(root, &place)?;
        let node_modules = node.join("node_modules");
        let claude = match options.client {
            Some(version) => version::fetch(&place, version)?,
            None => native_client(&node_modules)?,
        };
        let worlds = tempfile::Builder::new().prefix("hotspare-e2e-").tempdir()?;
        Ok(Self { hotspare, claude, node_modules, python, direct: options.direct, worlds })
    }

    /// The arguments with which the same cases are run by another process, which builds nothing.
    pub(super) fn arguments<'a>(&'a self, options: &Options<'a>) -> Vec<&'a str> {
        let mut arguments = vec!["--bin", self.hotspare.to_str().unwrap_or_default(), options.wanted];
        if let Some(version) = options.client {
            arguments.extend(["--client", version]);
        }
        arguments
    }

    /// The folder with the folders of all cases so far.
    pub(super) fn worlds(&self) -> &Path {
        self.worlds.path()
    }

    /// The client as a user starts it.
    pub(super) fn protected_client(&self, world: &World) -> Vec<OsString> {
        let mut command = Vec::new();
        if !self.direct {
            command.extend([self.hotspare.as_os_str(), "run".as_ref(), "--config".as_ref(), world.config.as_os_str()]);
            if world.lead == Lead::Full {
                command.extend([OsStr::new("--mode"), OsStr::new("full")]);
            }
            command.push("--".as_ref());
        }
        command.push(self.claude.as_os_str());
        command.into_iter().map(OsStr::to_owned).collect()
    }

    /// The whole environment that it is started in.
    pub(super) fn environment(&self, world: &World) -> Vec<(&'static str, OsString)> {
        let mut environment = world.environment();
        if self.direct {
            environment.push(("ANTHROPIC_BASE_URL", world.primary.clone().into()));
            environment.push(("NO_PROXY", "127.0.0.1".into()));
            environment.push(("CLAUDE_CODE_MAX_RETRIES", "0".into()));
        }
        environment
    }
}

/// Installs exactly what the lock file names, without running any script of the packages. The lock file holds no addresses: they come
/// from wherever npm is set up to look, and must have the recorded hashes.
fn fetch_node(root: &Path, place: &Path) -> Result<PathBuf> {
    let (folder, source) = (place.join("node"), root.join("xtask/e2e"));
    let lock = fs::read_to_string(source.join("package-lock.json"))?;
    let installed = folder.join("installed.json");
    if fs::read_to_string(&installed).is_ok_and(|have| have == lock) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), folder.join(name))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(&mut npm).context("the pinned clients could not be fetched with npm")?;
    fs::write(installed, lock)?;
    Ok(folder)
}

/// The client comes as a native binary in the package for this platform. An older npm brings those for both C libraries.
pub(super) fn native_client(node_modules: &Path) -> Result<PathBuf> {
    let packages = node_modules.join("@anthropic-ai");
    for entry in fs::read_dir(&packages)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let binary = entry.path().join("claude");
        if name.starts_with("claude-code-") && name.ends_with("-musl") == cfg!(target_env = "musl") && binary.is_file() {
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

/// What the client has to show for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    /// A key in the environment, passed through to the primary.
    Key,
    /// A stored login that has run out: it is passed through, and the client tries to renew it by itself, elsewhere.
    Stored,
    /// Nothing: each profile has a key of its own.
    None,
}

/// Folders and files of one case. They stay until the run is over, when they are searched.
pub(super) struct World {
    folder: PathBuf,
    login: Login,
    lead: Lead,
    primary: String,
    /// The proxy of this machine, for whatever the client asks of other hosts: it lets nothing out.
    pub outside: Upstream,
    pub config: PathBuf,
}

impl World {
    /// An isolated home, client configuration, project, and hotspare configuration.
    pub(super) async fn new(tools: &Tools, primary: &str, spare: &str, login: Login) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("case-").tempdir_in(tools.worlds())?.keep();
        for name in ["home", "claude", "project/.claude", "state", "bin", "said", "tmp"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let config = folder.join("hotspare.json");
        let own = if login == Login::None { json!({ "env": "PRIMARY_KEY" }) } else { json!("client") };
        // The clocks are shortened so that a stall is found in a test's time.
        let policy = json!({
            "failover_policy": {
                "primary_profile": "primary", "secondary_profile": "spare",
                "clocks": { "head": "2s", "first_content": "2s", "bytes_idle": "2s", "content_idle": "3s" },
            },
            "profiles": {
                "primary": { "base_url": primary, "auth": own },
                "spare": { "base_url": spare, "auth": { "env": "SPARE_KEY" } },
            },
            "hooks": hooks(&folder)?,
        });
        fs::write(&config, serde_json::to_string_pretty(&policy)?)?;
        let outside = Upstream::start(|_| Script::not_found()).await?;
        let world = Self { folder, login, lead: Lead::default(), primary: primary.to_owned(), outside, config };
        world.settle_client()?;
        Ok(world)
    }

    /// The same with the client led in another way.
    pub(super) fn led(self, lead: Lead) -> Self {
        Self { lead, ..self }
    }

    /// What a user has done once: onboarding, the trust dialog, the approval of the key or the login.
    fn settle_client(&self) -> Result<()> {
        let key = Secret::Client.text();
        let tail: String = key.chars().skip(key.len().saturating_sub(20)).collect();
        let state = json!({
            "hasCompletedOnboarding": true, "theme": "dark",
            "customApiKeyResponses": { "approved": [key, tail], "rejected": [] },
            "projects": { self.project().to_string_lossy(): { "hasTrustDialogAccepted": true, "projectOnboardingSeenCount": 3, "allowedTools": [] } },
        });
        fs::write(self.path("claude/.claude.json"), state.to_string())?;
        if self.login == Login::Stored {
            let login = json!({ "claudeAiOauth": {
                "accessToken": key, "refreshToken": Secret::Refresh.text(), "expiresAt": 1000,
                "scopes": ["user:inference", "user:profile"], "subscriptionType": "max",
            }});
            let file = self.path("claude/.credentials.json");
            fs::write(&file, login.to_string())?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn project(&self) -> PathBuf {
        self.path("project")
    }

    /// Keeps what was printed or shown for the search at the end.
    pub(super) fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.open(name)?.write_all(bytes)?;
        Ok(())
    }

    /// The same, for a process that writes by itself.
    pub(super) fn open(&self, name: &str) -> Result<File> {
        let file = self.path("said").join(name);
        File::options().read(true).create(true).append(true).open(&file).with_context(|| file.display().to_string())
    }

    /// The machine's proxy, with its user.
    fn proxy(&self) -> String {
        self.outside.url().replace("http://", &format!("http://{PROXY_USER}:{}@", percent_encoded(Secret::Proxy.text())))
    }

    /// What the case itself puts into `bin`, and the machine's own.
    fn search_path(&self) -> OsString {
        let mut path = self.path("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }

    /// The whole environment of a client: nothing of the developer's but PATH.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut environment: Vec<(&'static str, OsString)> = vec![
            ("PATH", self.search_path()),
            ("HOME", self.path("home").into()),
            ("CLAUDE_CONFIG_DIR", self.path("claude").into()),
            ("XDG_STATE_HOME", self.path("state").into()),
            ("TMPDIR", self.path("tmp").into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm-256color".into()),
            ("IS_SANDBOX", "1".into()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
            ("DISABLE_TELEMETRY", "1".into()),
            ("DISABLE_AUTOUPDATER", "1".into()),
            ("HTTPS_PROXY", self.proxy().into()),
            ("SPARE_KEY", Secret::Spare.text().into()),
        ];
        match self.login {
            Login::Key => environment.push(("ANTHROPIC_API_KEY", Secret::Client.text().into())),
            Login::None => environment.push(("PRIMARY_KEY", Secret::Client.text().into())),
            Login::Stored => {}
        }
        environment
    }

    /// What the client keeps of the conversation: the assistant's text, part after part.
    pub(super) fn transcript(&self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for project in fs::read_dir(self.path("claude/projects")).context("the client has kept no conversation")? {
            for file in fs::read_dir(project?.path())? {
                let file = file?.path();
                if file.extension().is_some_and(|extension| extension == "jsonl") {
                    said(&fs::read_to_string(&file)?, &mut texts)?;
                }
            }
        }
        Ok(texts)
    }
}

fn said(lines: &str, texts: &mut Vec<String>) -> Result<()> {
    for line in lines.lines() {
        let entry: Value = serde_json::from_str(line)?;
        ensure!(entry["isApiErrorMessage"] != true, "an error is in the transcript: {entry}");
        if entry["type"] == "assistant" {
            let blocks = entry["message"]["content"].as_array().map(Vec::as_slice).unwrap_or_default();
            texts.extend(blocks.iter().filter_map(|block| block["text"].as_str()).map(str::to_owned));
        }
    }
    Ok(())
}

/// What a hook is told is kept for the search at the end.
fn hooks(folder: &Path) -> Result<Value> {
    let (program, heard) = (folder.join("bin/hook"), folder.join("said/hook"));
    fs::write(&program, format!("#!/bin/sh\nenv >> '{0}'\ncat >> '{0}'\n", heard.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let told = json!([{ "hooks": [{ "type": "command", "command": [program] }] }]);
    Ok(json!({ "AttemptFailure": told, "PostFailover": told, "ProfileDown": told }))
}

/// Each provider saw its own credential, no other provider's, no stranger's, and never the local token.
pub(super) fn credentials_kept_apart(primary: &[Received], spare: &[Received]) -> Result<()> {
    for (requests, own, foreign) in [(primary, Secret::Client, Secret::Spare), (spare, Secret::Spare, Secret::Client)] {
        for request in requests {
            let head = String::from_utf8_lossy(&request.raw_head);
            ensure!(head.contains(own.text()), "a request came without its provider's own credential:\n{head}");
            ensure!(!head.contains(foreign.text()), "a credential reached another provider:\n{head}");
            let small = head.replace(own.text(), "").to_ascii_lowercase();
            ensure!(!small.contains("evil"), "something of the project's came along:\n{head}");
            let token = small.contains("x-hotspare-token") || has_local_token(&request.raw_head);
            ensure!(!token, "the local token went out:\n{head}");
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
