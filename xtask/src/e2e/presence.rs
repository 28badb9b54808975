//! `hotspare run -- claude` alone, with nothing installed: after a move the status line shows the spare beside the user's own line, and the
//! session is told once. Never lets a file of the user's change, or a word of it reach the model.

use anyhow::{Context, Result, ensure};
use hotspare_testkit::Upstream;

use super::cases::Lead;
use super::faults::{self, SECOND};
use super::plugin::{AGAIN, MESSAGE, SEGMENT};
use super::tui;
use super::world::{Login, Tools, World};

pub(super) const NAME: &str = "`run` alone tells of a move, and in the status line";

/// The user's own settings.
const SETTINGS: &str = r#"{ "statusLine": { "type": "command", "command": "echo 'my own line'", "padding": 0 } }"#;

pub(super) async fn run(tools: &Tools, lead: Lead) -> Result<()> {
    let primary = Upstream::sequence(vec![faults::status(529, "overloaded_error")]).await?;
    let spare = Upstream::sequence(vec![faults::healthy(SECOND), faults::healthy(AGAIN)]).await?;
    let world = World::new(tools, &primary.url(), &spare.url(), Login::Key).await?.led(lead);
    let settings = world.path("claude/settings.json");
    std::fs::write(&settings, SETTINGS)?;
    let turns = [("Say something.".to_owned(), MESSAGE.to_owned()), ("Once more.".to_owned(), AGAIN.to_owned())];
    let screen = tui::talk(tools, &world, &[], &turns, |_| ()).await?;
    ensure!(screen.matches(MESSAGE).count() == 1, "the move is told {} times:\n{screen}", screen.matches(MESSAGE).count());
    ensure!(SEGMENT.iter().all(|part| screen.contains(part)), "the status line does not tell of the spare:\n{screen}");
    ensure!(std::fs::read_to_string(&settings).context("the user's settings")? == SETTINGS, "the user's settings were changed");
    let got = spare.messages();
    ensure!(got.len() == 2, "the spare was asked {} times", got.len());
    let told = got.iter().find(|request| String::from_utf8_lossy(&request.body).contains("took over"));
    ensure!(told.is_none(), "the message reached the model");
    Ok(())
}
