//! The Python and TypeScript SDKs through `hotspare serve`, with the local token as their API key. Never changes what the SDKs do.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotspare_testkit::{Script, Upstream, answers};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::faults::{self, FIRST, SECOND};
use super::world::{CLIENT_KEY, SPARE_KEY, Tools, World};

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

pub(super) struct Case {
    pub name: &'static str,
    sdk: Sdk,
    primary: Script,
    expect: &'static str,
}

pub(super) fn all() -> Vec<Case> {
    let good = || Script::new().sse().events(&answers::text(FIRST)).end();
    let overloaded = || faults::status(529, "overloaded_error");
    vec![
        Case { name: "Python SDK streams", sdk: Sdk::Python, primary: good(), expect: FIRST },
        Case { name: "Python SDK, primary answers 529", sdk: Sdk::Python, primary: overloaded(), expect: SECOND },
        Case { name: "TypeScript SDK streams", sdk: Sdk::Node, primary: good(), expect: FIRST },
        Case { name: "TypeScript SDK, primary answers 529", sdk: Sdk::Node, primary: overloaded(), expect: SECOND },
    ]
}

pub(super) async fn run(tools: &Tools, case: &Case) -> Result<()> {
    let primary = Upstream::sequence(vec![case.primary.clone()]).await?;
    let spare = Upstream::sequence(vec![faults::healthy()]).await?;
    let world = World::new(&primary.url(), &spare.url())?;
    // A program has no login of its own: each profile has its key.
    let config = std::fs::read_to_string(&world.config)?.replace(r#""client""#, r#"{ "env": "PRIMARY_KEY" }"#);
    std::fs::write(&world.config, config)?;
    let (mut server, address) = serve(tools, &world).await?;
    let token = std::fs::read_to_string(world.path("state/hotspare/token")).context("the local token")?;
    let output = program(tools, &world, case.sdk)?
        .env("ANTHROPIC_BASE_URL", &address)
        .env("ANTHROPIC_API_KEY", token.trim())
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(TURN, output).await.context("the program did not end")??;
    server.kill().await?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "exit {}: {stdout}\n{stderr}", output.status);
    ensure!(stdout.trim() == format!("{} end_turn", case.expect), "it printed: {stdout}");
    for (requests, own) in [(primary.requests(), CLIENT_KEY), (spare.requests(), SPARE_KEY)] {
        for request in requests {
            let head = String::from_utf8_lossy(&request.raw_head);
            ensure!(head.contains(own) && !head.contains(token.trim()), "wrong credential:\n{head}");
        }
    }
    Ok(())
}

fn program(tools: &Tools, world: &World, sdk: Sdk) -> Result<Command> {
    let (program, file, text): (PathBuf, _, _) = match sdk {
        Sdk::Python => (tools.python.clone(), world.path("project/main.py"), PYTHON),
        Sdk::Node => ("node".into(), world.path("project/main.mjs"), NODE),
    };
    std::fs::write(&file, text)?;
    if matches!(sdk, Sdk::Node) {
        std::os::unix::fs::symlink(&tools.node_modules, world.path("project/node_modules"))?;
    }
    let mut command = Command::new(program);
    command.arg(file).env_clear().envs(world.environment()).current_dir(world.project()).kill_on_drop(true);
    Ok(command)
}

/// Starts `hotspare serve` on a free port and reads where it listens.
async fn serve(tools: &Tools, world: &World) -> Result<(Child, String)> {
    let mut child = Command::new(&tools.hotspare)
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&world.config)
        .env_clear()
        .envs(world.environment())
        .env("PRIMARY_KEY", CLIENT_KEY)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let mut lines = BufReader::new(stderr).lines();
    let mut told = String::new();
    while let Some(line) = tokio::time::timeout(TURN, lines.next_line()).await.context("the server did not start")?? {
        if let Some((_, address)) = line.split_once("listening on ") {
            let address = address.to_owned();
            // The rest is read on, so that the server never waits for its reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((child, address));
        }
        told.push_str(&line);
        told.push('\n');
    }
    anyhow::bail!("the server ended: {told}")
}
