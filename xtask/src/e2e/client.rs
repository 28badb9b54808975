//! Runs `claude -p` and reads what it printed. Never retries a case.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::cases::{Expect, Mode};
use super::world::{Tools, World};

/// Longest a turn may take; a good one takes a second.
const TURN: Duration = Duration::from_secs(45);

pub(super) async fn print(tools: &Tools, world: &World, expect: Expect) -> Result<()> {
    let protected = tools.protected_client(world);
    let mut command = Command::new(&protected[0]);
    command
        .args(&protected[1..])
        .args(["-p", "Say something.", "--output-format", "stream-json", "--verbose"])
        .env_clear()
        .envs(tools.environment(world))
        .env("HOTSPARE_LOG", "trace")
        .current_dir(world.project())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(TURN, command.spawn()?.wait_with_output()).await.context("the client did not end")??;
    world.keep("claude", &output.stdout)?;
    world.keep("claude", &output.stderr)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "exit {}: {stdout}\n{stderr}", output.status);
    ensure!(!stdout.contains("API Error") && !stderr.contains("API Error"), "the client shows an error: {stdout}\n{stderr}");
    judge(&stdout, expect)
}

/// What was streamed is the whole answer; the result, which is what a plain `-p` prints, is its last part (so the client does it by itself).
fn judge(stdout: &str, expect: Expect) -> Result<()> {
    let events: Vec<Value> = stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("a line is no event")?;
    let result = events.iter().rfind(|event| event["type"] == "result").context("no result event")?;
    ensure!(result["is_error"] == false, "the result is an error: {result}");
    let said: Vec<&str> = events.iter().filter(|event| event["type"] == "assistant").flat_map(texts).collect();
    ensure!(said == expect.texts(Mode::Print), "the answer as it was streamed: {said:?}");
    ensure!(result["result"].as_str() == said.last().copied(), "the printed result: {result}");
    Ok(())
}

fn texts(event: &Value) -> impl Iterator<Item = &str> {
    event["message"]["content"].as_array().into_iter().flatten().filter_map(|block| block["text"].as_str())
}
