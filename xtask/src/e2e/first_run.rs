//! A new user: a login, one key, one command, and the next session is protected. Prints how long it took. Never edits a file of the user's.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotspare_testkit::{Script, Upstream};
use serde_json::Value;
use tokio::process::Command;

use super::canary::Secret;
use super::faults::{self, SECOND};
use super::world::{Login, Tools, World};

pub(super) const NAME: &str = "init, and the first protected answer";

/// Longest from the start of `init` to the end of the first answer, the client's own start included.
const PROMISE: Duration = Duration::from_secs(5);

/// Longest that one program may take.
const PATIENCE: Duration = Duration::from_secs(45);

/// The home as it was before, with a login that is good for a while and a gateway in use.
pub(super) struct NewUser<'a> {
    pub world: &'a World,
    pub environment: Vec<(&'static str, OsString)>,
}

impl NewUser<'_> {
    pub(super) async fn runs(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(self.world.project())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.spawn()?.wait_with_output()).await.context("it did not end")??;
        self.world.keep("programs", &output.stdout)?;
        self.world.keep("programs", &output.stderr)?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status.success(),
            "`{} {}` ended with {}: {stdout}\n{stderr}",
            program.display(),
            arguments.join(" "),
            output.status
        );
        Ok(stdout)
    }
}

pub(super) async fn run(tools: &Tools) -> Result<()> {
    let primary = Upstream::start(|_| faults::status(529, "overloaded_error")).await?;
    // `init` tests the key where that is free, as OpenRouter answers it.
    let spare = Upstream::start(|request| match request.target.as_str() {
        "/v1/key" => Script::new().body(200, &[("content-type", "application/json")], r#"{"data":{"limit_remaining":12.5}}"#),
        _ => faults::healthy(SECOND),
    })
    .await?;
    let world = World::new(tools, &primary.url(), &spare.url(), Login::Stored).await?;
    let mut environment = world.environment();
    environment.push(("ANTHROPIC_BASE_URL", primary.url().into()));
    // Another than the usual port, which may be taken on a developer's machine.
    environment.push(("HOTSPARE_SERVER__LISTEN", hotspare_testkit::refused_addr()?.to_string().into()));
    environment.push(("OPENROUTER_API_KEY", Secret::Spare.text().into()));
    environment.push(("OPENROUTER_BASE_URL", spare.url().into()));
    let user = NewUser { world: &world, environment };
    let begun = Instant::now();
    let said = user.runs(&tools.hotspare, &["init", "--yes", "--json"]).await?;
    let set_up = begun.elapsed();
    let report: Value = serde_json::from_str(&said).context("`init --json` is no JSON")?;
    ensure!(report["passed"] == true, "the drill did not pass: {report}");
    let wired = report["wired"] == true;
    let answered = first_answer(tools, &user, wired).await;
    let took = begun.elapsed();
    if wired {
        // Whatever happened: nothing of it stays behind, the service neither.
        user.runs(&tools.hotspare, &["uninstall"]).await?;
    }
    answered?;
    println!(
        "        init {:.2} s, first protected answer after {:.2} s{}",
        set_up.as_secs_f64(),
        took.as_secs_f64(),
        if wired { "" } else { " (by `hotspare run`)" }
    );
    ensure!(took <= PROMISE, "it took {took:?}, {PROMISE:?} are promised");
    let asked = spare.messages();
    ensure!(asked.len() == 1, "the spare was asked {} times", asked.len());
    let head = String::from_utf8_lossy(&asked[0].raw_head);
    ensure!(
        head.contains(Secret::Spare.text()) && !head.contains(Secret::Client.text()),
        "the spare got another credential than its own:\n{head}"
    );
    Ok(())
}

/// As the user types it.
async fn first_answer(tools: &Tools, user: &NewUser<'_>, wired: bool) -> Result<()> {
    let claude = tools.claude.to_string_lossy();
    let prompt = ["-p", "Say something."];
    let said = if wired {
        user.runs(&tools.claude, &prompt).await?
    } else {
        user.runs(&tools.hotspare, &["run", "--", &claude, prompt[0], prompt[1]]).await?
    };
    ensure!(said.trim() == SECOND, "the first answer: {said}");
    Ok(())
}
