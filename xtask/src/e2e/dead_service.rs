//! A service that was killed, with Claude Code's settings pointing at it: the next session is answered as if nothing had been. Prints how
//! long the hook took. Ends no process but that service.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotspare_testkit::Upstream;
use serde_json::Value;

use super::faults::{self, SECOND};
use super::first_run::NewUser;
use super::world::{Login, Tools, World};

pub(super) const NAME: &str = "a dead service, and the next session";

/// Longest that the session's hook may take to bring it back.
const PROMISE: Duration = Duration::from_millis(300);

pub(super) async fn run(tools: &Tools) -> Result<()> {
    let primary = Upstream::start(|_| faults::healthy(SECOND)).await?;
    let spare = Upstream::start(|_| faults::status(529, "overloaded_error")).await?;
    let world = World::new(&primary.url(), &spare.url(), Login::Key).await?;
    let mut environment = world.environment();
    environment.push(("HOTSPARE_CONFIG", world.config.clone().into()));
    environment.push(("HOTSPARE_SERVER__LISTEN", hotspare_testkit::refused_addr()?.to_string().into()));
    let user = NewUser { world: &world, environment };
    user.runs(&tools.hotspare, &["install"]).await?;
    let outcome = sessions(tools, &user, &primary).await;
    // Whatever happened: nothing of it stays behind.
    user.runs(&tools.hotspare, &["uninstall"]).await?;
    user.runs(&tools.hotspare, &["uninstall", "--all", "--check"]).await?;
    outcome
}

async fn sessions(tools: &Tools, user: &NewUser<'_>, primary: &Upstream) -> Result<()> {
    let claude = &tools.claude;
    kill(tools, user).await?;
    let said = user.runs(claude, &["-p", "Say something.", "--output-format", "stream-json", "--verbose"]).await?;
    ensure!(said.contains(SECOND), "the session was not answered: {said}");
    ensure!(said.contains("hotspare was not running and has been started"), "nobody was told: {said}");
    ensure!(!said.contains("api_retry"), "the client had to ask again: {said}");
    ensure!(primary.messages().len() == 1, "the primary was asked {} times", primary.messages().len());
    kill(tools, user).await?;
    let begun = Instant::now();
    user.runs(&tools.hotspare, &["hook", "session-start"]).await?;
    let took = begun.elapsed();
    println!("        the hook brought it back in {} ms", took.as_millis());
    ensure!(took <= PROMISE, "the hook took {took:?}, {PROMISE:?} are promised");
    Ok(())
}

async fn kill(tools: &Tools, user: &NewUser<'_>) -> Result<()> {
    let status: Value = serde_json::from_str(&user.runs(&tools.hotspare, &["service", "status", "--json"]).await?)?;
    let pid = status["pid"].as_i64().context("the service has no process")?.to_string();
    ensure!(Command::new("kill").args(["-9", &pid]).status()?.success(), "process {pid} could not be killed");
    Ok(())
}
