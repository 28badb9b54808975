//! The Python and TypeScript SDKs through `hotspare serve` and `hotspare run`, with the local token as their API key. Never changes what the SDKs do.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hotspare_testkit::{Script, Upstream};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::canary;
use super::faults::{self, FIRST, SECOND};
use super::world::{Login, Tools, World, credentials_kept_apart};

/// Longest a program may take.
const TURN: Duration = Duration::from_secs(30);

const PYTHON: &str = r#"
import anthropic
client = anthropic.Anthropic(max_retries=0)
with client.messages.stream(model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": "Say something."}]) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
print(text, final.stop_reason)
"#;

const NODE: &str = r#"
import Anthropic from "@anthropic-ai/sdk";
const client = new Anthropic({ maxRetries: 0 });
const stream = client.messages.stream({ model: "claude-opus-5-5", max_tokens: 100, messages: [{ role: "user", content: "Say something." }] });
let text = "";
stream.on("text", (part) => { text += part; });
const final = await stream.finalMessage();
console.log(text, final.stop_reason);
"#;

#[derive(Clone, Copy)]
enum Sdk {
    Python,
    Node,
}

/// How the program comes to hotspare.
#[derive(Clone, Copy)]
enum Way {
    /// `hotspare run -- PROGRAM`, which gives it address and token by its environment.
    Run,
    /// `hotspare serve`, with address and token given by the user.
    Serve,
}

pub(super) struct Case {
    pub name: &'static str,
    sdk: Sdk,
    way: Way,
    primary: Script,
    expect: &'static str,
}

pub(super) fn all() -> Vec<Case> {
    let good = |name, sdk, way| Case { name, sdk, way, primary: faults::healthy(FIRST), expect: FIRST };
    let overloaded = |name, sdk, way| Case { name, sdk, way, primary: faults::status(529, "overloaded_error"), expect: SECOND };
    vec![
        good("Python SDK streams", Sdk::Python, Way::Serve),
        overloaded("Python SDK, primary answers 529", Sdk::Python, Way::Serve),
        overloaded("Python SDK, primary answers 529, under `run`", Sdk::Python, Way::Run),
        good("TypeScript SDK streams", Sdk::Node, Way::Serve),
        overloaded("TypeScript SDK, primary answers 529", Sdk::Node, Way::Serve),
        overloaded("TypeScript SDK, primary answers 529, under `run`", Sdk::Node, Way::Run),
    ]
}

pub(super) async fn run(tools: &Tools, case: &Case) -> Result<()> {
    let primary = Upstream::sequence(vec![case.primary.clone()]).await?;
    let spare = Upstream::sequence(vec![faults::healthy(SECOND)]).await?;
    let world = World::new(tools, &primary.url(), &spare.url(), Login::None).await?;
    let program = program(tools, &world, case.sdk)?;
    let output = match case.way {
        Way::Run => {
            let mut command = Command::new(&tools.hotspare);
            command.args(["run", "--config"]).arg(&world.config).arg("--").args(program);
            output(&mut command, &world).await?
        }
        Way::Serve => {
            let server = Server::start(tools, &world).await?;
            let token = std::fs::read_to_string(world.path("state/hotspare/token")).context("the local token")?;
            let mut command = Command::new(&program[0]);
            command.args(&program[1..]).env("ANTHROPIC_BASE_URL", &server.address).env("ANTHROPIC_API_KEY", token.trim());
            let output = output(&mut command, &world).await?;
            world.keep("metrics", server.metrics(token.trim()).await?.as_bytes())?;
            server.stop().await?;
            output
        }
    };
    world.keep("program", &output.stdout)?;
    world.keep("program", &output.stderr)?;
    canary::look_around(tools, &world)?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "exit {}: {stdout}\n{stderr}", output.status);
    ensure!(stdout.trim() == format!("{} end_turn", case.expect), "it printed: {stdout}");
    credentials_kept_apart(&primary.requests(), &spare.requests())
}

/// What the program printed, in the world's environment and what the command adds to it.
async fn output(command: &mut Command, world: &World) -> Result<Output> {
    command.current_dir(world.project()).stdin(Stdio::null()).kill_on_drop(true);
    let added: Vec<_> = command.as_std().get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    command.env_clear().envs(world.environment());
    command.envs(added.into_iter().filter_map(|(name, value)| Some((name, value?))));
    tokio::time::timeout(TURN, command.output()).await.context("the program did not end")?.context("the program does not start")
}

/// The program's file, written into the project, behind what runs it.
fn program(tools: &Tools, world: &World, sdk: Sdk) -> Result<[OsString; 2]> {
    let (runner, file, text): (OsString, _, _) = match sdk {
        Sdk::Python => (tools.python.clone().into(), world.path("project/main.py"), PYTHON),
        Sdk::Node => ("node".into(), world.path("project/main.mjs"), NODE),
    };
    std::fs::write(&file, text)?;
    if matches!(sdk, Sdk::Node) {
        std::os::unix::fs::symlink(&tools.node_modules, world.path("project/node_modules"))?;
    }
    Ok([runner, file.into()])
}

/// `hotspare serve` on a free port.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts it and reads where it listens.
    async fn start(tools: &Tools, world: &World) -> Result<Self> {
        let mut child = Command::new(&tools.hotspare)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&world.config)
            .env_clear()
            .envs(world.environment())
            .env("HOTSPARE_LOG", "trace")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let (mut told, mut said) = (String::new(), world.open("serve")?);
        while let Some(line) = tokio::time::timeout(TURN, lines.next_line()).await.context("the server did not start")?? {
            if let Some((_, address)) = line.split_once("listening on ") {
                let address = address.to_owned();
                // The rest is read on, so that the server never waits for its reader.
                tokio::spawn(async move {
                    while let Ok(Some(line)) = lines.next_line().await {
                        // Without it the search at the end finds nothing of this kind, and says so.
                        let _ = writeln!(said, "{line}");
                    }
                });
                return Ok(Self { child, address });
            }
            writeln!(said, "{line}")?;
            told.push_str(&line);
            told.push('\n');
        }
        bail!("the server ended: {told}")
    }

    /// What a monitor gets.
    async fn metrics(&self, token: &str) -> Result<String> {
        let address = self.address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.context("refused")?;
        let head = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nx-hotspare-token: {token}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        tokio::time::timeout(TURN, stream.read_to_string(&mut answer)).await.context("no figures came")??;
        ensure!(answer.contains("hotspare_requests_total"), "no figures came: {answer}");
        Ok(answer)
    }

    /// Ends it as a user would, and sees that it ends well.
    async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the server has ended by itself")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(TURN, self.child.wait()).await.context("the server does not end")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}
