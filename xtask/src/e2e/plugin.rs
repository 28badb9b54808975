//! The plugin and the status line in the real client: the plugin is valid, a move to the spare is told in the session, once, and the status
//! line tells of it beside the user's own. Never looks at what the model got but to see that the message is not in it.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use hotspare_testkit::{Received, Upstream};
use tokio::process::Command;

use super::faults::{self, SECOND};
use super::tui;
use super::world::{Login, Tools, World};
use crate::workspace;

pub(super) const NAME: &str = "the plugin tells of a move once, the status line too";

/// What the message says, whatever the client puts around it.
pub(super) const MESSAGE: &str = "spare took over from primary: 529 overloaded";

/// What the status line says while the spare serves; what that cost so far comes behind it, and then the user's own.
pub(super) const SEGMENT: [&str; 2] = ["⇄ spare (primary 529)", "│ my own line"];

/// The spare's second answer.
pub(super) const AGAIN: &str = "The same again, in other words.";

pub(super) async fn run(tools: &Tools) -> Result<()> {
    let plugin = workspace::root().join("plugin");
    let primary = Upstream::sequence(vec![faults::status(529, "overloaded_error")]).await?;
    let spare = Upstream::sequence(vec![faults::healthy(SECOND), faults::healthy(AGAIN)]).await?;
    let world = World::new(tools, &primary.url(), &spare.url(), Login::Key).await?;
    for folder in [&plugin, &workspace::root()] {
        let mut validate = Command::new(&tools.claude);
        validate.args(["plugin", "validate", "--strict"]).arg(folder).env_clear().envs(tools.environment(&world)).stdin(Stdio::null());
        let output = validate.output().await.context("the client does not start")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "`claude plugin validate --strict {}`: {said}", folder.display());
    }
    std::os::unix::fs::symlink(&tools.hotspare, world.path("bin/hotspare"))?;
    let line = r#"{ "statusLine": { "type": "command", "command": "hotspare statusline --wrap 'echo my own line'" } }"#;
    std::fs::write(world.path("claude/settings.json"), line)?;
    let folder = plugin.to_string_lossy();
    let turns = [("Say something.".to_owned(), MESSAGE.to_owned()), ("Once more.".to_owned(), AGAIN.to_owned())];
    let screen = tui::talk(tools, &world, &["--plugin-dir", &folder], &turns, |_| ()).await?;
    ensure!(screen.matches(MESSAGE).count() == 1, "the move is told {} times:\n{screen}", screen.matches(MESSAGE).count());
    ensure!(SEGMENT.iter().all(|part| screen.contains(part)), "the status line does not tell of the spare:\n{screen}");
    let got: Vec<Received> = spare.messages();
    ensure!(got.len() == 2, "the spare was asked {} times", got.len());
    for request in got {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        ensure!(!body.contains("took over"), "the message reached the model");
    }
    Ok(())
}
