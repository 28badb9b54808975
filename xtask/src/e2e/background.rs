//! A session in the background of an installed user: its failures are carried on to the spare like every other's, and `uninstall` says that
//! the client's own supervisor keeps the address. Ends that supervisor, and no other process.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotspare_testkit::Upstream;
use serde_json::json;

use super::faults::{self, SECOND};
use super::first_run::NewUser;
use super::world::{Login, Tools, World, credentials_kept_apart};

pub(super) const NAME: &str = "a session in the background, and after it";

/// Longest that the session may take, its supervisor's start included.
const PATIENCE: Duration = Duration::from_secs(45);

pub(super) async fn run(tools: &Tools) -> Result<()> {
    let primary = Upstream::start(|_| faults::status(529, "overloaded_error")).await?;
    let spare = Upstream::start(|_| faults::healthy(SECOND)).await?;
    let world = World::new(tools, &primary.url(), &spare.url(), Login::Key).await?;
    // Where the client went before: what it asks once hotspare is gone is seen there.
    let before = json!({ "env": { "ANTHROPIC_BASE_URL": primary.url() } }).to_string();
    std::fs::write(world.path("claude/settings.json"), &before)?;
    let address = hotspare_testkit::refused_addr()?;
    let mut environment = world.environment();
    environment.push(("HOTSPARE_CONFIG", world.config.clone().into()));
    environment.push(("HOTSPARE_SERVER__LISTEN", address.to_string().into()));
    let user = NewUser { world: &world, environment };
    user.runs(&tools.hotspare, &["install"]).await?;
    let outcome = answered(tools, &user, &spare).await;
    let left = user.runs(&tools.hotspare, &["uninstall"]).await;
    // Whatever happened: the client's supervisor does not outlive the case.
    user.runs(&tools.claude, &["daemon", "stop", "--any"]).await?;
    outcome?;
    ensure!(left?.contains("claude daemon stop --any"), "nobody was told that the supervisor keeps hotspare's address");
    ensure!(std::fs::read_to_string(world.path("claude/settings.json"))? == before, "the settings are not as they were");
    credentials_kept_apart(&primary.messages(), &spare.messages())
}

/// The session is begun, and its answer waited for where the client keeps it.
async fn answered(tools: &Tools, user: &NewUser<'_>, spare: &Upstream) -> Result<()> {
    let begun = user.runs(&tools.claude, &["--bg", "Say something."]).await?;
    ensure!(begun.contains("backgrounded"), "no session in the background was begun: {begun}");
    let kept = async {
        while !user.world.transcript().is_ok_and(|said| said.iter().any(|text| text == SECOND)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.context("the session in the background was not answered")?;
    ensure!(!spare.messages().is_empty(), "the answer is not the spare's");
    Ok(())
}
