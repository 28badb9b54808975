//! Drives the interactive client in a terminal of its own and reads its screen. Never shares a tmux server with anyone.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::process::Command;

use super::cases::{Expect, Mode};
use super::world::{Tools, World};

/// Longest until the client is ready, and until it has answered.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the session's script says when the client has ended, before its exit code.
const ENDED: &str = "The client ended with ";

/// How often the screen is read.
const LOOK: Duration = Duration::from_millis(150);

/// A tmux server with one session, ended when dropped.
struct Terminal<'a> {
    world: &'a World,
    socket: PathBuf,
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").status();
    }
}

impl<'a> Terminal<'a> {
    async fn open(world: &'a World, session: &str) -> Result<Self> {
        let script = world.path("session.sh");
        std::fs::write(&script, session)?;
        let terminal = Self { world, socket: world.path("tmux") };
        let shell = format!("sh {}", script.display());
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "s", "-x", "140", "-y", "50", &shell]).await?;
        Ok(terminal)
    }

    async fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(arguments).output().await?;
        ensure!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-S", "-200", "-t", "s"]).await
    }

    /// Types a line, and sends it once it is there.
    async fn enter(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-t", "s", "-l", line]).await?;
        self.wait("what was typed", |screen| screen.contains(line)).await?;
        self.tmux(&["send-keys", "-t", "s", "Enter"]).await?;
        Ok(())
    }

    /// Reads the screen until it satisfies, at most [`PATIENCE`].
    async fn wait(&self, what: &str, satisfied: impl Fn(&str) -> bool) -> Result<String> {
        let started = Instant::now();
        loop {
            let screen = self.screen().await?;
            if satisfied(&screen) {
                self.world.keep("screens", screen.as_bytes())?;
                return Ok(screen);
            }
            if started.elapsed() > PATIENCE {
                bail!("{what} did not come; the screen:\n{screen}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// One turn, and the way out that a user takes.
pub(super) async fn converse(tools: &Tools, world: &World, expect: Expect) -> Result<()> {
    let terminal = Terminal::open(world, &protected(tools, world, &[])).await?;
    terminal.wait("the prompt", |screen| screen.contains('❯') || screen.contains("? for shortcuts")).await?;
    terminal.enter("Say something.").await?;
    let texts = expect.texts(Mode::Interactive);
    let done = |screen: &str| texts.iter().all(|text| flat(screen).contains(text)) && !screen.contains("esc to interrupt");
    let screen = terminal.wait("the answer", |screen| done(screen) || screen.contains("API Error")).await?;
    ensure!(!screen.contains("API Error"), "the client shows an error:\n{screen}");
    // It leaves an empty screen behind: what came after this look is in the conversation that it keeps.
    leave(&terminal).await
}

async fn leave(terminal: &Terminal<'_>) -> Result<()> {
    terminal.enter("/exit").await?;
    let screen = terminal.wait("the end", |screen| screen.contains(ENDED)).await?;
    ensure!(screen.contains(&format!("{ENDED}0.")), "the client did not end well:\n{screen}");
    Ok(())
}

/// Several turns: what is said, and what the screen must show in the end of each. `before` is called with each turn's number. Gives the last
/// screen on one line.
pub(super) async fn talk(
    tools: &Tools,
    world: &World,
    arguments: &[&str],
    turns: &[(String, String)],
    before: impl Fn(usize),
) -> Result<String> {
    conversation(world, &protected(tools, world, arguments), turns, before).await
}

/// One turn of the client as it is installed, with nothing before its name: gives the last screen on one line.
pub(super) async fn ask(
    client: &Path,
    world: &World,
    environment: &[(&'static str, OsString)],
    words: &str,
    answer: &str,
) -> Result<String> {
    let script = session(world, environment, &[client.as_os_str().to_owned()]);
    conversation(world, &script, &[(words.to_owned(), answer.to_owned())], |_| ()).await
}

/// Like [`talk`], for a client that this command starts in this environment.
pub(super) async fn talk_as(
    world: &World,
    environment: &[(&'static str, OsString)],
    command: &[OsString],
    turns: &[(String, String)],
    before: impl Fn(usize),
) -> Result<String> {
    conversation(world, &session(world, environment, command), turns, before).await
}

async fn conversation(world: &World, script: &str, turns: &[(String, String)], before: impl Fn(usize)) -> Result<String> {
    let terminal = Terminal::open(world, script).await?;
    terminal.wait("the prompt", |screen| screen.contains('❯') || screen.contains("? for shortcuts")).await?;
    let mut last = String::new();
    for (number, (words, answer)) in turns.iter().enumerate() {
        before(number);
        terminal.enter(words).await?;
        let over = |screen: &str| flat(screen).contains(answer) && !screen.contains("esc to interrupt");
        let screen = terminal.wait(answer, |screen| over(screen) || screen.contains("API Error")).await?;
        ensure!(!screen.contains("API Error"), "the client shows an error in turn {number}:\n{screen}");
        last = flat(&screen);
    }
    leave(&terminal).await?;
    Ok(last)
}

/// The screen without its line breaks.
fn flat(screen: &str) -> String {
    screen.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The script of a client that `hotspare run` protects.
fn protected(tools: &Tools, world: &World, arguments: &[&str]) -> String {
    let mut command = tools.protected_client(world);
    command.extend(arguments.iter().map(OsString::from));
    session(world, &tools.environment(world), &command)
}

/// A script with the whole environment, so that tmux's own does not matter. It stays after the client, so that the screen can be read.
fn session(world: &World, environment: &[(&'static str, OsString)], command: &[OsString]) -> String {
    let quoted = |text: &OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
    let mut script = format!("cd {}\nenv -i", quoted(world.project().as_os_str()));
    for (name, value) in environment {
        let _ = write!(script, " {name}={}", quoted(value));
    }
    for argument in command {
        let _ = write!(script, " {}", quoted(argument));
    }
    let _ = write!(script, "\necho \"{ENDED}$?.\"\nexec sleep {}\n", PATIENCE.as_secs());
    script
}
