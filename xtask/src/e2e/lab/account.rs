//! A 400 that is bound to the primary's account, in words that no table has: the spare answers, and the primary is not tried in vain again.

use anyhow::{Result, ensure};
use hotspare_testkit::Script;

use super::super::cases::Mode;
use super::super::world::Tools;
use super::provider::Purpose;
use super::user::{Account, Lab, SPARE, Way, calls, good_spare, spare, turns_of};

pub(super) const NAME: &str = "account-bound 400 in unknown words";

const REFUSAL: &str = "Ledger 7 of this workspace was closed by its steward.";

/// Turns of the session.
const TURNS: usize = 2;

/// Most turns that reach an account which refuses every one.
const MAX_TRIES: usize = 1;

pub(super) async fn run(tools: &Tools, mode: Mode) -> Result<()> {
    let second = good_spare().await?;
    let refuse = |_: &_| Script::error(400, "invalid_request_error", REFUSAL);
    let lab = Lab::open(tools, Account::Key, refuse, &[("spare", spare(&second))]).await?;
    let talked = lab.talk(mode, Way::Run, &turns_of(SPARE, TURNS), |_| ()).await;
    lab.look_around()?;
    talked?;
    ensure!(calls(&second, Purpose::Main) == TURNS, "the spare got {} turns", calls(&second, Purpose::Main));
    ensure!(lab.main_calls() <= MAX_TRIES, "the refusing primary got {} turns", lab.main_calls());
    Ok(())
}
