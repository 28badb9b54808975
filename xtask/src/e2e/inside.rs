//! What runs inside a session: commands of the Bash tool, an MCP server, a hook, and a server that outlives the session. Each case compares
//! a session behind hotspare with one that has none of it, in the same set-up: a company's proxy, its certificates, a key of the user's own,
//! and programs with a key of theirs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotspare_testkit::answers::{message_json, tool};
use hotspare_testkit::canary::has_local_token;
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::{Value, json};

use super::authority::Authority;
use super::canary::Secret;
use super::cases::{Lead, Mode};
use super::faults::{self, FIRST};
use super::first_run::NewUser;
use super::full::{Company, Host};
use super::tui;
use super::world::{Login, Tools, World};

pub(super) const BY_RUN: &str = "what runs inside a session, under `run`";
pub(super) const BY_INSTALL: &str = "what runs inside a session, installed";

/// The provider's host, behind the company's proxy.
const PROVIDER: &str = "api.anthropic.com";

/// The credential of the programs inside the session.
const PROGRAM_KEY: &str = "sk-ant-program-own-key";

/// What the provider answers to a program.
const ANSWER: &str = "ANSWER to a program.";

/// The user's words before the script's path.
const ORDER: &str = "Run the probe: ";

/// Longest that what outlives the session may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the client is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With nothing of hotspare.
    Direct,
    /// By `hotspare run`.
    Run,
    /// As it is, after `hotspare install`.
    Installed,
}

/// Variables of each session that differ from one to the next.
const OF_THE_SESSION: [&str; 6] = [
    "CLAUDE_CODE_CHILD_NOTES_DIR",
    "CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS",
    "CLAUDE_CODE_MESSAGING_SOCKET",
    "CLAUDE_CODE_MESSAGING_TOKEN",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_PID",
];

/// What an MCP server and a hook inherit beside the user's own (docs/inside.md). No other variable may differ.
const INHERITED: [&str; 33] = [
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_API_BASE_URL",
    "CLAUDE_CODE_DISABLE_AGENT_VIEW",
    "CLAUDE_CODE_ENABLE_FINE_GRAINED_TOOL_STREAMING",
    "CLAUDE_CODE_HOST_HTTP_PROXY_PORT",
    "CLAUDE_CODE_HOST_SOCKS_PROXY_PORT",
    "CLAUDE_CODE_HTTPS_PROXY",
    "CLAUDE_CODE_HTTP_PROXY",
    "CLAUDE_CODE_PROPAGATE_TRACEPARENT",
    "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST",
    "CLAUDE_CODE_PROXY_HOST",
    "CLAUDE_CODE_PROXY_URL",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_GATEWAY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_ENV_FILE",
    "CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS",
    "ENABLE_TOOL_SEARCH",
    "HTTPS_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NO_PROXY",
    "TRACEPARENT",
    "TRACESTATE",
    "https_proxy",
    "no_proxy",
    "_",
];

/// Writes its environment, asks a model with the SDK, and then serves no tool.
const MCP_SERVER: &str = r#"
import json, os, subprocess, sys
folder = sys.argv[1]
with open(folder + "/mcp.env", "w") as file:
    file.write("\0".join(f"{name}={value}" for name, value in os.environ.items()))
asked = subprocess.run([sys.executable, folder + "/program.py"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
with open(folder + "/mcp.part", "w") as file:
    file.write(asked.stdout + asked.stderr[-2000:])
os.rename(folder + "/mcp.part", folder + "/mcp.said")
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"tools": []}
    if message["method"] == "initialize":
        answer = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "probe", "version": "1"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer}), flush=True)
"#;

/// A program with a key of its own, which finds everything else in its environment.
const PYTHON: &str = r#"
import anthropic
client = anthropic.Anthropic(api_key="sk-ant-program-own-key", max_retries=0)
answer = client.messages.create(model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": "Hello."}])
print(answer.content[0].text)
"#;

/// The same. The runtime knows no proxy, so it has an address of its own unless its environment gives it another.
const NODE: &str = r#"
import Anthropic from "@anthropic-ai/sdk";
const baseURL = process.env.ANTHROPIC_BASE_URL ?? process.argv[2];
const client = new Anthropic({ apiKey: "sk-ant-program-own-key", baseURL, maxRetries: 0 });
const answer = await client.messages.create({ model: "claude-opus-5-5", max_tokens: 100, messages: [{ role: "user", content: "Hello." }] });
console.log(answer.content[0].text);
"#;

/// One session, and what was seen inside it.
struct Session<'t> {
    tools: &'t Tools,
    world: World,
    start: Start,
    lead: Lead,
    /// The model's provider for hotspare's first profile.
    primary: Upstream,
    /// The provider's own host, for everything that goes past hotspare.
    provider: Host,
    company: Company,
}

/// What was seen inside a session, with the world's own folder left out.
#[derive(Debug)]
struct Seen {
    bash: BTreeMap<String, String>,
    mcp: BTreeMap<String, String>,
    hook: BTreeMap<String, String>,
    /// What each program said.
    said: BTreeMap<&'static str, String>,
}

/// Compares a session behind hotspare with one that has none of it.
pub(super) async fn run(tools: &Tools, mode: Mode, lead: Lead, start: Start) -> Result<()> {
    let direct = Session::new(tools, Start::Direct, lead).await?.seen(mode).await.context("without hotspare")?;
    let behind = Session::new(tools, start, lead).await?.seen(mode).await.context("behind hotspare")?;
    ensure!(direct.said == behind.said, "programs inside the session: {:#?}\nwithout hotspare: {:#?}", behind.said, direct.said);
    let differ = differences(&direct.bash, &behind.bash);
    ensure!(differ.is_empty(), "the environment of a command: {differ:#?}");
    for (place, one, other) in [("an MCP server", &direct.mcp, &behind.mcp), ("a hook", &direct.hook, &behind.hook)] {
        let differ = differences(one, other);
        let unknown: Vec<_> = differ.iter().filter(|(name, ..)| !INHERITED.contains(&name.as_str())).collect();
        ensure!(unknown.is_empty(), "the environment of {place}: {unknown:#?}");
        println!("        {place} differs in {} variables", differ.len());
    }
    Ok(())
}

/// Name, without hotspare, behind it.
type Difference = (String, Option<String>, Option<String>);

fn differences(direct: &BTreeMap<String, String>, behind: &BTreeMap<String, String>) -> Vec<Difference> {
    let mut names: Vec<&String> = direct.keys().chain(behind.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let value = |name: &String, of: &BTreeMap<String, String>| {
        of.get(name).map(|value| if OF_THE_SESSION.contains(&name.as_str()) { String::new() } else { value.clone() })
    };
    let pairs = names.into_iter().map(|name| (name.clone(), value(name, direct), value(name, behind)));
    pairs.filter(|(_, one, other)| one != other).collect()
}

impl<'t> Session<'t> {
    async fn new(tools: &'t Tools, start: Start, lead: Lead) -> Result<Self> {
        let primary = Upstream::start_reading(answers).await?;
        let world = World::new(tools, &primary.url(), "http://127.0.0.1:9", Login::Key).await?;
        let issuer = Authority::new()?;
        std::fs::write(world.path("company.pem"), &issuer.pem)?;
        let provider = Host::in_front_of(Upstream::start_reading(answers).await?, PROVIDER, &issuer).await?;
        let company = Company::start(vec![(PROVIDER, provider.address)]).await?;
        let session = Self { tools, world, start, lead, primary, provider, company };
        session.prepare()?;
        Ok(session)
    }

    /// What a user and a project have: permission for the Bash tool, a hook that sets a variable, an MCP server, programs.
    fn prepare(&self) -> Result<()> {
        let (folder, python) = (self.world.path("said"), &self.tools.python);
        let hook = format!("env -0 > '{}/hook.env'; echo 'export FROM_HOOK=1' >> \"$CLAUDE_ENV_FILE\"", folder.display());
        let settings = json!({
            "permissions": { "allow": ["Bash"], "defaultMode": "default" }, "enableAllProjectMcpServers": true,
            "hooks": { "SessionStart": [{ "hooks": [{ "type": "command", "command": hook }] }] },
        });
        std::fs::write(self.world.path("claude/settings.json"), settings.to_string())?;
        let server = json!({ "mcpServers": { "probe": { "command": python, "args": [folder.join("server.py"), folder] } } });
        std::fs::write(self.world.path("project/.mcp.json"), server.to_string())?;
        std::os::unix::fs::symlink(&self.tools.node_modules, folder.join("node_modules"))?;
        for (name, text) in [("server.py", MCP_SERVER), ("program.py", PYTHON), ("program.mjs", NODE), ("probe.sh", &self.probe())] {
            std::fs::write(folder.join(name), text)?;
        }
        Ok(())
    }

    /// What the model runs.
    fn probe(&self) -> String {
        let (folder, python, node) = (self.world.path("said"), self.tools.python.display(), self.provider.upstream.url());
        let curl = format!(
            "curl -sS --max-time 20 -H 'x-api-key: {PROGRAM_KEY}' -H 'content-type: application/json' -d '{{}}' https://{PROVIDER}/v1/messages"
        );
        format!(
            "cd '{folder}'\n\
             env -0 > bash.env\n\
             {python} program.py > python.said 2>&1 </dev/null\n\
             node program.mjs {node} > node.said 2>&1 </dev/null\n\
             {curl} > curl.said 2>&1\n\
             git ls-remote https://{PROVIDER}/repository.git > git.said 2>&1 </dev/null\n\
             tries=0; while [ ! -e mcp.said ] && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done\n\
             mkfifo gate\n\
             setsid sh -c 'read line < gate; {late} > late.said 2>&1; echo over > over' </dev/null >/dev/null 2>&1 &\n",
            folder = folder.display(),
            late = curl.replace('\'', r#"""#),
        )
    }

    fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let company = self.world.path("company.pem");
        let own = ["HTTPS_PROXY"];
        let mut environment: Vec<_> = self.world.environment().into_iter().filter(|(name, _)| !own.contains(name)).collect();
        environment.push(("HTTPS_PROXY", format!("http://{}", self.company.address).into()));
        environment.push(("NO_PROXY", ".internal,127.0.0.1".into()));
        for name in ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
            environment.push((name, company.clone().into()));
        }
        environment.push(("GIT_TERMINAL_PROMPT", "0".into()));
        environment.push(("HOTSPARE_CONFIG", self.world.config.clone().into()));
        environment.push(("HOTSPARE_SERVER__LISTEN", hotspare_testkit::refused_addr()?.to_string().into()));
        Ok(environment)
    }

    async fn seen(&self, mode: Mode) -> Result<Seen> {
        let user = NewUser { world: &self.world, environment: self.environment()? };
        let install: &[&str] = if self.lead == Lead::Full { &["install", "--mode", "full"] } else { &["install"] };
        if self.start == Start::Installed {
            user.runs(&self.tools.hotspare, install).await?;
        }
        let outcome = self.converse(&user, mode).await;
        if self.start == Start::Installed {
            user.runs(&self.tools.hotspare, &["uninstall"]).await?;
        }
        outcome?;
        self.wake_what_is_left().await?;
        let seen = self.gather();
        self.judge_credentials()?;
        seen
    }

    async fn converse(&self, user: &NewUser<'_>, mode: Mode) -> Result<()> {
        let claude = self.tools.claude.to_string_lossy();
        let mut command: Vec<&str> = Vec::new();
        let hotspare = self.tools.hotspare.to_string_lossy();
        if self.start == Start::Run {
            command.extend([&*hotspare, "run"]);
            if self.lead == Lead::Full {
                command.extend(["--mode", "full"]);
            }
            command.push("--");
        }
        command.push(&claude);
        let words = format!("{ORDER}{}", self.world.path("said/probe.sh").display());
        match mode {
            Mode::Print => {
                command.extend(["-p", &words]);
                let said = user.runs(Path::new(command[0]), &command[1..]).await?;
                ensure!(said.trim() == FIRST, "the answer: {said}");
            }
            Mode::Interactive => {
                let command: Vec<OsString> = command.into_iter().map(OsString::from).collect();
                tui::talk_as(&self.world, &user.environment, &command, &[(words, FIRST.to_owned())], |_| ()).await?;
            }
        }
        Ok(())
    }

    /// The server that the session has left behind asks once more, when nothing of hotspare is there any longer.
    async fn wake_what_is_left(&self) -> Result<()> {
        let (gate, over) = (self.world.path("said/gate"), self.world.path("said/over"));
        ensure!(gate.exists(), "the probe did not run: {}", self.last_result());
        tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(gate)?.write_all(b"\n")).await??;
        let waited = async {
            while !over.exists() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.context("the server that outlives the session did not ask")
    }

    /// What the model was told of the probe.
    fn last_result(&self) -> String {
        let all = self.primary.messages().into_iter().chain(self.provider.upstream.messages());
        let results = all.filter_map(|request| {
            let text = request.json()["messages"].to_string();
            text.find("\"tool_result\"").map(|at| text[at..].chars().take(1500).collect::<String>())
        });
        results.last().unwrap_or_else(|| "no command was run".to_owned())
    }

    fn gather(&self) -> Result<Seen> {
        let environment = |name: &str| -> Result<BTreeMap<String, String>> {
            let file = self.world.path("said").join(name);
            let text = std::fs::read_to_string(&file).with_context(|| format!("no `{name}` was written"))?;
            // The user's own key is in it.
            std::fs::remove_file(&file)?;
            let text = self.neutral(&text);
            Ok(text
                .split('\0')
                .filter_map(|entry| entry.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect())
        };
        let bash = environment("bash.env")?;
        let token = bash.iter().find(|(_, value)| has_local_token(value.as_bytes()));
        ensure!(token.is_none(), "the local token is in a command's environment: {token:?}");
        ensure!(bash.get("FROM_HOOK").is_some_and(|value| value == "1"), "the user's own hook has set nothing");
        let mut said = BTreeMap::new();
        for name in ["python.said", "node.said", "curl.said", "git.said", "late.said", "mcp.said"] {
            let text = std::fs::read_to_string(self.world.path("said").join(name)).with_context(|| format!("no `{name}` was written"))?;
            ensure!(name == "git.said" || text.contains(ANSWER), "{name}: {text}");
            said.insert(name, self.neutral(&text));
        }
        Ok(Seen { bash, mcp: environment("mcp.env")?, hook: environment("hook.env")?, said })
    }

    /// A text without what differs from world to world.
    fn neutral(&self, text: &str) -> String {
        let folder = self.world.path("");
        let folder = folder.to_string_lossy();
        let (folder, encoded) = (folder.trim_end_matches('/'), folder.trim_end_matches('/').replace(['/', '.'], "-"));
        let text = text.replace(folder, "WORLD").replace(&encoded, "WORLD").replace(&self.company.address.to_string(), "COMPANY");
        text.split('\0').map(|entry| if entry.starts_with("HOTSPARE_SERVER__LISTEN=") { "" } else { entry }).collect::<Vec<_>>().join("\0")
    }

    /// Each program reached the provider itself with its own key; nothing of hotspare went along, and no profile saw that key.
    fn judge_credentials(&self) -> Result<()> {
        let at_provider = self.provider.upstream.requests();
        let of_programs = at_provider.iter().filter(|request| is_program(request)).count();
        // Python, Node, curl, what outlives the session, and the MCP server.
        ensure!(of_programs == 5, "{of_programs} requests of programs reached the provider, 5 were expected");
        for request in &at_provider {
            let head = String::from_utf8_lossy(&request.raw_head);
            let ours = has_local_token(&request.raw_head) || head.to_ascii_lowercase().contains("hotspare");
            ensure!(!ours, "something of ours came along:\n{head}");
            ensure!(!is_program(request) || !head.contains(Secret::Client.text()), "a program sent the user's own key:\n{head}");
        }
        let stray = self.primary.requests().iter().find(|request| is_program(request)).map(|request| request.target.clone());
        ensure!(stray.is_none(), "a program's request went through the chain: {stray:?}");
        Ok(())
    }
}

fn is_program(request: &Received) -> bool {
    String::from_utf8_lossy(&request.raw_head).contains(PROGRAM_KEY)
}

/// A program gets its answer; the model runs the probe once, and then says something.
fn answers(request: &Received) -> Script {
    if is_program(request) {
        return Script::new().body(200, &[("content-type", "application/json")], message_json(ANSWER));
    }
    if request.path() != "/v1/messages" {
        return Script::not_found();
    }
    let asked = request.json();
    match probe_in(&asked) {
        Some(probe)
            if asked["tools"].as_array().is_some_and(|tools| !tools.is_empty())
                && !asked["messages"].to_string().contains("\"tool_result\"") =>
        {
            let input = json!({ "command": format!("sh {probe}"), "description": "Look around" });
            Script::new().sse().events(&tool("Bash", &input.to_string())).end()
        }
        _ => faults::healthy(FIRST),
    }
}

/// The script that the user has asked for.
fn probe_in(asked: &Value) -> Option<String> {
    let text = asked["messages"].to_string();
    let at = text.find(ORDER)?;
    Some(text[at + ORDER.len()..].split(['"', '\\', ' ']).next()?.to_owned())
}
