//! The client gives up before the primary has sent a byte: its second try at the latest is answered by the spare.

use anyhow::{Result, ensure};
use hotspare_testkit::Script;

use super::super::cases::Mode;
use super::super::world::Tools;
use super::provider::{self, Purpose};
use super::user::{Account, Lab, SPARE, Way, calls, good_spare, spare, turns_of};

pub(super) const NAME: &str = "client gives up after 3 s, primary hangs";

/// Tries of the client until it has its answer.
const MAX_TRIES: usize = 2;

pub(super) async fn run(tools: &Tools, mode: Mode) -> Result<()> {
    let second = good_spare().await?;
    let hang = |request: &_| provider::model(request, || Script::new().hang());
    let mut lab = Lab::open(tools, Account::Key, hang, &[("spare", spare(&second))]).await?;
    lab.environment.push(("API_TIMEOUT_MS", "3000".into()));
    lab.forgiven = MAX_TRIES - 1;
    let talked = lab.talk(mode, Way::Run, &turns_of(SPARE, 1), |_| ()).await;
    lab.look_around()?;
    talked?;
    ensure!(lab.main_calls() <= MAX_TRIES, "the hanging primary got the turn {} times", lab.main_calls());
    ensure!(calls(&second, Purpose::Main) == 1, "the spare got the turn {} times", calls(&second, Purpose::Main));
    Ok(())
}
