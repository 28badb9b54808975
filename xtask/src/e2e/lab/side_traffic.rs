//! A side request that fails on the primary: the user's turns stay there. Only the terminal sends side requests (Claude Code 2.1.332), behind
//! a base URL with the main model, by its own host with Haiku.

use anyhow::{Context, Result, ensure};
use hotspare_testkit::{Received, Script};

use super::super::cases::Mode;
use super::super::world::Tools;
use super::provider::{self, Numbered, Purpose};
use super::user::{Account, Lab, WORK, Way, calls, good_spare, spare, turns_of};

/// A failing side request of one kind of user.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub name: &'static str,
    account: Account,
    way: Way,
    /// What the primary answers to side requests.
    status: u16,
    kind: &'static str,
}

pub(super) const CASES: [Case; 3] = [
    Case {
        name: "title request gets 529, the main model's, a key",
        account: Account::Key,
        way: Way::Run,
        status: 529,
        kind: "overloaded_error",
    },
    Case { name: "title request gets 529, Haiku's, a key", account: Account::Key, way: Way::Full, status: 529, kind: "overloaded_error" },
    Case { name: "title request gets 429, Haiku's, a login", account: Account::Max, way: Way::Full, status: 429, kind: "rate_limit_error" },
];

/// Turns of each session.
const TURNS: usize = 3;

pub(super) async fn run(tools: &Tools, case: Case) -> Result<()> {
    let Case { account, way, status, kind, .. } = case;
    let numbers = Numbered::default();
    let play = move |request: &Received| match provider::purpose(request) {
        Some(Purpose::Title | Purpose::Quota) => Script::error(status, kind, "scripted failure"),
        _ => numbers.next(WORK),
    };
    let second = good_spare().await?;
    let lab = Lab::open(tools, account, play, &[("spare", spare(&second))]).await?;
    let turns = turns_of(WORK, TURNS);
    let talked = lab.talk(Mode::Interactive, way, &turns, |_| ()).await;
    lab.look_around()?;
    let (primary, spare) = (lab.main_calls(), calls(&second, Purpose::Main));
    ensure!(calls(&lab.provider, Purpose::Title) > 0, "the terminal sent no title request: the case shows nothing");
    talked.with_context(|| format!("the primary got {primary} turns and the spare {spare}"))?;
    ensure!((primary, spare) == (TURNS, 0), "the primary got {primary} turns and the spare {spare}");
    Ok(())
}
