//! Runs `claude -p` through `hotspare run` and reads what it printed. Never retries a case.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::cases::{Expect, texts};
use super::world::{Tools, World};

/// Longest a turn may take; a good one takes two seconds.
const TURN: Duration = Duration::from_secs(45);

pub(super) async fn print(tools: &Tools, world: &World, expect: Expect) -> Result<()> {
    let mut command = Command::new(&tools.hotspare);
    command
        .arg("run")
        .arg("--config")
        .arg(&world.config)
        .arg("--")
        .arg(&tools.claude)
        .args(["-p", "Say something.", "--output-format", "stream-json", "--verbose"])
        .env_clear()
        .envs(world.environment())
        .current_dir(world.project())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(TURN, command.spawn()?.wait_with_output()).await.context("the client did not end")??;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "exit {}: {stdout}\n{stderr}", output.status);
    ensure!(!stdout.contains("API Error") && !stderr.contains("API Error"), "the client shows an error: {stdout}\n{stderr}");
    let events: Vec<Value> = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let result = events.iter().rfind(|event| event["type"] == "result").context("no result event")?;
    ensure!(result["is_error"] == false, "the result is an error: {result}");
    let said: String =
        events.iter().filter(|event| event["type"] == "assistant").map(|event| event["message"]["content"].to_string()).collect();
    for text in texts(expect) {
        ensure!(said.contains(text), "`{text}` is missing in what the client has: {said}");
    }
    ensure!(
        result["result"].as_str().is_some_and(|text| texts(expect).iter().any(|part| text.contains(part))),
        "the printed result: {result}"
    );
    Ok(())
}
