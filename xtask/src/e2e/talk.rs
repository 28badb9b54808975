//! One conversation of `claude -p`, turn after turn. Never forgives an error, a retry that the user sees, or a call that failed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::world::{Tools, World};

/// Longest a turn may take; a good one takes a second or two.
const TURN: Duration = Duration::from_secs(45);

/// `claude -p` that takes one turn after the other.
pub(super) struct Client {
    child: Child,
    words: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    /// Everything that it says, on either stream.
    said: File,
    /// Retries that the user may see from now on.
    pub forgiven: usize,
}

impl Client {
    pub(super) fn start(tools: &Tools, world: &World) -> Result<Self> {
        Self::spawn(world, &tools.environment(world), &tools.protected_client(world))
    }

    /// The client by this command, in this environment.
    pub(super) fn spawn(world: &World, environment: &[(&'static str, OsString)], command: &[OsString]) -> Result<Self> {
        let said = world.open("claude")?;
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .args(["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose", "--allowedTools", "Bash"])
            .env_clear()
            .envs(environment.iter().cloned())
            .env("HOTSPARE_LOG", "trace")
            .current_dir(world.project())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said.try_clone()?)
            .kill_on_drop(true)
            .spawn()?;
        let words = child.stdin.take().context("stdin is piped")?;
        let events = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        Ok(Self { child, words, events, said, forgiven: 0 })
    }

    /// Says something, and reads until the turn is over. What the assistant said.
    pub(super) async fn turn(&mut self, words: &str) -> Result<Vec<String>> {
        let line = json!({ "type": "user", "message": { "role": "user", "content": words } });
        self.words.write_all(format!("{line}\n").as_bytes()).await?;
        self.words.flush().await?;
        let mut said = Vec::new();
        loop {
            let Some(line) = tokio::time::timeout(TURN, self.events.next_line()).await.context("the turn did not end")?? else {
                bail!("the client ended: {}", self.errors());
            };
            writeln!(self.said, "{line}")?;
            let event: Value = serde_json::from_str(&line).with_context(|| format!("no event: {line}"))?;
            let blocks = event["message"]["content"].as_array().map(Vec::as_slice).unwrap_or_default();
            match event["type"].as_str() {
                Some("assistant") => said.extend(blocks.iter().filter_map(|block| block["text"].as_str().map(str::to_owned))),
                Some("user") => {
                    let failed = blocks.iter().find(|block| block["type"] == "tool_result" && block["is_error"] == true);
                    ensure!(failed.is_none(), "a call failed: {failed:?}");
                }
                Some("system") if event["subtype"] == "api_retry" => {
                    ensure!(self.forgiven > 0, "the user sees a retry: {event}");
                    self.forgiven -= 1;
                }
                Some("result") => {
                    ensure!(event["is_error"] == false, "the turn ended with an error: {event}");
                    return Ok(said);
                }
                _ => {}
            }
        }
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        // Whatever can be read is better than nothing.
        let _ = self.said.rewind().and_then(|()| self.said.read_to_string(&mut text));
        text
    }

    /// Says nothing more, and waits for its end.
    pub(super) async fn leave(mut self) -> Result<()> {
        drop(self.words);
        let status = tokio::time::timeout(TURN, self.child.wait()).await.context("the client did not end")??;
        ensure!(status.success(), "the client ended with {status}");
        Ok(())
    }
}
