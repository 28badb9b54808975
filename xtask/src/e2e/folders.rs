//! Three folders with a chain each behind the installed service: sessions at once, resumed, forked, with sub-agents, and after a restart
//! and a kill of the service. Each request must reach the profile of its own folder and no other, whatever project files say that are broken
//! or hostile; and a session that nobody has named reaches none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hotspare_testkit::{Received, Script, Upstream, answers};
use serde_json::{Value, json};

use super::faults;
use super::tui;
use super::world::{Login, Tools, World};

pub(super) const NAME: &str = "three folders behind the service, a chain each";

/// Longest that one run of the client may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folders below `~/src`, their profiles and their providers have one name each.
const FOLDERS: [&str; 3] = ["bank", "shop", "toys"];

/// What asks for a sub-agent.
const AGENT: &str = "Use a sub-agent for this.";

/// What is said after `/clear`.
const AGAIN: &str = "Say it again.";

/// What the sub-agent is told.
const TASK: &str = "Say that the task is done.";

/// Project files that must not change where anything goes, one kind for each round.
const EVIL: [(&str, &str); 4] = [
    ("config.json", "{ \"failover_policy\": { \"primary_profile\": "),
    (
        "config.local.json",
        r#"{ "failover_policy": { "chains": [{ "profiles": ["main"] }] }, "profiles": { "main": { "base_url": "http://127.0.0.1:9" } } }"#,
    ),
    ("config.json", r#"{ "failover_policy": { "+chains": [{ "profiles": ["main"] }], "primary_profile": "main" } }"#),
    ("config.json", r#"{ "profiles": { "bank": null, "shop": null, "toys": null, "main": null } }"#),
];

/// An installed user with three projects.
struct Installed<'a> {
    tools: &'a Tools,
    world: &'a World,
    environment: Vec<(&'static str, std::ffi::OsString)>,
    providers: Vec<Upstream>,
    /// Where all that goes that no folder's rule names.
    main: Upstream,
}

pub(super) async fn run(tools: &Tools) -> Result<()> {
    let mut providers = Vec::new();
    for name in FOLDERS {
        providers.push(Upstream::start_reading(move |request| play(name, request)).await?);
    }
    let main = Upstream::start_reading(|request| play("main", request)).await?;
    let world = World::new(tools, &main.url(), &main.url(), Login::Key).await?;
    let mut environment = world.environment();
    environment.push(("HOTSPARE_CONFIG", world.config.clone().into()));
    environment.push(("HOTSPARE_SERVER__LISTEN", hotspare_testkit::refused_addr()?.to_string().into()));
    let installed = Installed { tools, world: &world, environment, providers, main };
    installed.settle()?;
    installed.hotspare(&["install"]).await?;
    let outcome = installed.story().await;
    installed.hotspare(&["uninstall"]).await?;
    installed.hotspare(&["uninstall", "--all", "--check"]).await?;
    outcome
}

/// The interactive client, with a login and with all that it asks beside the conversation: none of it comes before its session is named, nor
/// after `/clear`, which begins another.
pub(super) async fn run_interactive(tools: &Tools) -> Result<()> {
    let bank = Upstream::start_reading(|request| play("bank", request)).await?;
    let shop = Upstream::start_reading(|request| play("shop", request)).await?;
    let world = World::new(tools, &bank.url(), &shop.url(), Login::Stored).await?;
    let project = format!("{}/**", world.project().display());
    let profile =
        |upstream: &Upstream, name: &str| json!({ "base_url": upstream.url(), "auth": { "value": format!("sk-ant-test-{name}") } });
    let config = json!({
        "failover_policy": { "primary_profile": "shop", "chains": [{ "match": { "project": project }, "profiles": ["bank"] }] },
        "profiles": { "bank": profile(&bank, "bank"), "shop": profile(&shop, "shop") },
    });
    fs::write(&world.config, config.to_string())?;
    let mut environment = world.environment();
    environment.retain(|(name, _)| *name != "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC");
    environment.push(("HOTSPARE_CONFIG", world.config.clone().into()));
    environment.push(("HOTSPARE_SERVER__LISTEN", hotspare_testkit::refused_addr()?.to_string().into()));
    let installed = Installed { tools, world: &world, environment, providers: vec![bank], main: shop };
    installed.hotspare(&["install"]).await?;
    let turns = [("Say something.", "From-bank."), ("/clear", "/clear"), (AGAIN, "Again-from-bank.")];
    let turns = turns.map(|(words, answer)| (words.to_owned(), answer.to_owned()));
    let command = [tools.claude.clone().into_os_string()];
    let talked = tui::talk_as(&world, &installed.environment, &command, &turns, |_| ()).await;
    let status = installed.hotspare(&["status", "--json"]).await;
    installed.hotspare(&["uninstall"]).await?;
    talked?;
    let status: Value = serde_json::from_str(&status?)?;
    let folders = &status["gateways"][0]["status"]["folders"];
    ensure!(folders["unknown_requests"] == 0, "requests came before their session was named: {folders}");
    ensure!(installed.main.messages().is_empty(), "the other profile was asked");
    let sessions: BTreeSet<String> = installed.providers[0].messages().iter().filter_map(session).map(str::to_owned).collect();
    ensure!(folders["sessions"] == sessions.len(), "sessions {sessions:?}, and {folders}");
    Ok(())
}

/// Answers with its name; asks for a sub-agent where the prompt does.
fn play(name: &str, request: &Received) -> Script {
    if request.method != "POST" || request.path() != "/v1/messages" {
        return Script::not_found();
    }
    let body = request.json();
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let agent = tools.iter().filter_map(|tool| tool["name"].as_str()).find(|name| matches!(*name, "Agent" | "Task"));
    let messages = body["messages"].to_string();
    match agent.filter(|_| !is_agents(request) && messages.contains(AGENT) && !messages.contains("tool_result")) {
        Some(tool) => {
            let input = json!({ "description": "A task", "prompt": TASK, "subagent_type": "general-purpose" });
            Script::new().sse().events(&answers::tool(tool, &input.to_string())).end()
        }
        // An answer of its own, which no earlier screen shows.
        None if messages.contains(AGAIN) => faults::healthy(&format!("Again-from-{name}.")),
        None => faults::healthy(&format!("From-{name}.")),
    }
}

fn is_agents(request: &Received) -> bool {
    request.header("x-claude-code-agent-id").is_some()
}

fn session(request: &Received) -> Option<&str> {
    request.header("x-claude-code-session-id")
}

impl Installed<'_> {
    fn settle(&self) -> Result<()> {
        let profile =
            |upstream: &Upstream, name: &str| json!({ "base_url": upstream.url(), "auth": { "value": format!("sk-ant-test-{name}") } });
        let mut profiles = json!({ "main": profile(&self.main, "main") });
        for (name, provider) in FOLDERS.iter().zip(&self.providers) {
            profiles[*name] = profile(provider, name);
            fs::create_dir_all(self.folder(name))?;
        }
        self.trust(FOLDERS[0])?;
        let chains: Vec<Value> =
            FOLDERS.iter().map(|name| json!({ "match": { "project": format!("~/src/{name}/**") }, "profiles": [name] })).collect();
        let config = json!({ "failover_policy": { "primary_profile": "main", "secondary_profile": FOLDERS, "chains": chains }, "profiles": profiles });
        fs::write(&self.world.config, serde_json::to_string_pretty(&config)?)?;
        Ok(())
    }

    /// As the client's own question does, which it asks before a session in the background.
    fn trust(&self, name: &str) -> Result<()> {
        let file = self.world.path("claude/.claude.json");
        let mut state: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        state["projects"][self.folder(name).to_string_lossy().as_ref()] = json!({ "hasTrustDialogAccepted": true });
        Ok(fs::write(file, state.to_string())?)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.world.path("home/src").join(name)
    }

    /// Puts hostile or broken project files into each folder.
    fn spoil(&self, round: usize) -> Result<()> {
        let (file, text) = EVIL[round % EVIL.len()];
        for name in FOLDERS {
            let own = self.folder(name).join(".hotspare");
            let _ = fs::remove_dir_all(&own);
            fs::create_dir_all(&own)?;
            fs::write(own.join(file), text)?;
        }
        Ok(())
    }

    /// A pipe, a link and a file that is far too large, in place of project files.
    fn spoil_the_names(&self) -> Result<()> {
        for name in FOLDERS {
            let _ = fs::remove_dir_all(self.folder(name).join(".hotspare"));
        }
        ensure!(Command::new("mkfifo").arg(self.folder(FOLDERS[0]).join(".hotspare")).status()?.success(), "no pipe");
        std::os::unix::fs::symlink(self.world.path("home"), self.folder(FOLDERS[1]).join(".hotspare"))?;
        fs::create_dir(self.folder(FOLDERS[2]).join(".hotspare"))?;
        fs::write(self.folder(FOLDERS[2]).join(".hotspare/config.json"), vec![b' '; 2 << 20])?;
        Ok(())
    }

    async fn story(&self) -> Result<()> {
        // At once.
        let begun = self.everywhere(|_| vec!["-p", "Say something."]).await?;
        // A folder without rules of its own is led by the gateway's own chain.
        let (_, said) = self.claude(&self.world.project(), &["-p", "Say something."]).await?;
        ensure!(said.contains("From-main."), "another folder has a rule too: {said}");
        self.spoil(0)?;
        let resumed = self.everywhere(|place| vec!["-p", "Go on.", "--resume", &begun[place]]).await?;
        ensure!(resumed == begun, "a resumed session has another id: {resumed:?}");
        let status = self.hotspare(&["status"]).await?;
        for name in FOLDERS {
            let line = format!("src/{name}/.hotspare/config.json:1:");
            ensure!(status.contains(&line), "`status` does not say `{line}`:\n{status}");
        }
        self.spoil(1)?;
        let forked = self.everywhere(|place| vec!["-p", "Go on.", "--resume", &begun[place], "--fork-session"]).await?;
        ensure!(forked.iter().all(|id| !begun.contains(id)), "a fork has the session's own id: {forked:?}");
        self.spoil(2)?;
        self.everywhere(|_| vec!["-p", AGENT]).await?;
        self.spoil(3)?;
        self.hotspare(&["service", "restart"]).await?;
        self.everywhere(|place| vec!["-p", "Go on.", "--resume", &forked[place]]).await?;
        self.in_the_background().await?;
        self.spoil_the_names()?;
        self.kill().await?;
        self.everywhere(|_| vec!["-p", AGENT]).await?;
        self.each_request_on_its_own_chain()?;
        self.unknown().await
    }

    /// A session in the background, in the first folder.
    async fn in_the_background(&self) -> Result<()> {
        let sessions = || self.providers[0].messages().iter().filter_map(session).map(str::to_owned).collect::<BTreeSet<_>>();
        let known = sessions();
        let begun = self.runs(&self.tools.claude, &self.folder(FOLDERS[0]), &["--bg", "Say something."]).await;
        let asked = async {
            while sessions().is_subset(&known) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        // Whatever happened: the client's supervisor does not outlive the case.
        self.runs(&self.tools.claude, &self.world.project(), &["daemon", "stop", "--any"]).await?;
        begun?;
        asked.context("the session in the background has not reached its folder's provider")
    }

    /// Runs the client in all three folders at once. The sessions' ids.
    async fn everywhere<'s>(&'s self, arguments: impl Fn(usize) -> Vec<&'s str>) -> Result<Vec<String>> {
        let run = async |place: usize| {
            let (id, said) = self.claude(&self.folder(FOLDERS[place]), &arguments(place)).await?;
            ensure!(said.contains(&format!("From-{}.", FOLDERS[place])), "in {}: {said}", FOLDERS[place]);
            Ok(id)
        };
        let (one, two, three) = tokio::try_join!(run(0), run(1), run(2))?;
        Ok(vec![one, two, three])
    }

    /// One run of the client in a folder: the session's id, and all that it printed.
    async fn claude(&self, folder: &Path, arguments: &[&str]) -> Result<(String, String)> {
        let arguments = [arguments, &["--output-format", "json"]].concat();
        let said = self.runs(&self.tools.claude, folder, &arguments).await?;
        let result: Value = serde_json::from_str(said.trim()).with_context(|| format!("no JSON: {said}"))?;
        let id = result["session_id"].as_str().context("no session id")?;
        Ok((id.to_owned(), said.clone()))
    }

    async fn hotspare(&self, arguments: &[&str]) -> Result<String> {
        self.runs(&self.tools.hotspare, &self.world.project(), arguments).await
    }

    async fn runs(&self, program: &Path, folder: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.spawn()?.wait_with_output()).await.context("it did not end")??;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
        self.world.keep("programs", &output.stdout)?;
        self.world.keep("programs", &output.stderr)?;
        if !output.status.success() {
            bail!("`{}` {arguments:?} in {} ended with {}: {stdout}\n{stderr}", program.display(), folder.display(), output.status);
        }
        Ok(stdout)
    }

    async fn kill(&self) -> Result<()> {
        let status: Value = serde_json::from_str(&self.hotspare(&["service", "status", "--json"]).await?)?;
        let pid = status["pid"].as_i64().context("the service has no process")?.to_string();
        ensure!(Command::new("kill").args(["-9", &pid]).status()?.success(), "process {pid} could not be killed");
        Ok(())
    }

    /// No session's request has reached two providers, and each has seen sub-agents.
    fn each_request_on_its_own_chain(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        // One more in the background.
        let expected = [5, 4, 4];
        for ((name, provider), expected) in FOLDERS.iter().zip(&self.providers).zip(expected) {
            let requests = provider.messages();
            let sessions: BTreeSet<String> = requests.iter().filter_map(session).map(str::to_owned).collect();
            ensure!(sessions.len() == expected, "{name} has seen the sessions {sessions:?}");
            ensure!(requests.iter().filter(|request| is_agents(request)).count() >= 2, "{name} has seen too few requests of sub-agents");
            ensure!(sessions.is_disjoint(&seen), "a session has reached {name} and another provider");
            seen.extend(sessions);
        }
        let elsewhere = self.main.messages();
        ensure!(elsewhere.iter().filter_map(session).all(|id| !seen.contains(id)), "a folder's request went to the chain for all folders");
        let folders = self.world.path("home/src").display().to_string();
        ensure!(elsewhere.iter().all(|request| !request.json().to_string().contains(&folders)), "a folder's text went elsewhere");
        Ok(())
    }

    /// A session whose hooks are off is not named: no profile is allowed by all three chains, so none is asked.
    async fn unknown(&self) -> Result<()> {
        let count = || self.providers.iter().chain([&self.main]).map(|provider| provider.messages().len()).sum::<usize>();
        let before = count();
        let arguments = ["-p", "Say something.", "--settings", r#"{ "disableAllHooks": true }"#];
        let refused = self.claude(&self.folder(FOLDERS[0]), &arguments).await.err().context("an unknown session was answered")?.to_string();
        ensure!(refused.contains("folder is not known"), "it is not said why: {refused}");
        ensure!(count() == before, "an unknown session's request has reached a provider");
        let status = self.hotspare(&["status"]).await?;
        ensure!(status.contains("whose folder is not known") || status.contains("not known"), "`status` is silent:\n{status}");
        Ok(())
    }
}
