//! `hotspare hook …` as typed. Never does anything.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use hotspare_core::HookEvent;

use super::{Layers, complete};

/// `hotspare hook …`.
#[derive(Debug, Subcommand)]
pub(crate) enum HookCommand {
    /// Call the hooks of an event on a sample of it, and show what they are told and say
    #[command(after_help = "Examples:  hotspare hook test PreFailover\n           hotspare hook test PreFailover --error rate_limit\n\n\
                      Events:  PreRetry and PreFailover may decide; AttemptFailure, PostFailover, Failback, Exhausted,\n         \
                      LimitWarning, BudgetReached, ProfileDown and ProfileUp are told.\n\n\
                      Exit code 0: each hook that was called had its say. Nothing is asked of any provider.")]
    Test(HookTest),
    /// What Claude Code runs when a session begins: revives the service, or takes our values out of its settings
    #[command(hide = true)]
    SessionStart,
    /// What Claude Code runs before a prompt goes out: the same, and it waits until values that were taken out have no effect any more
    #[command(hide = true)]
    Prompt,
    /// What Claude Code runs when a session enters another folder: names it to the gateway
    #[command(hide = true)]
    Folder,
    /// What these two leave behind them where the service cannot run: takes out what they have emptied
    #[command(hide = true)]
    Sweep,
}

/// `hotspare hook test`.
#[derive(Debug, Args)]
pub(crate) struct HookTest {
    /// One of the ten of `docs/hooks.md`, such as `PreFailover`
    #[arg(value_parser = event, add = ArgValueCandidates::new(complete::events))]
    pub event: HookEvent,
    /// The sample's failure, by a name that a matcher may have
    #[arg(long, value_name = "NAME", default_value = "overloaded")]
    pub error: String,
    #[command(flatten)]
    pub layers: Layers,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn event(word: &str) -> Result<HookEvent, String> {
    // Nobody has to remember the capitals.
    let found = HookEvent::ALL.into_iter().find(|event| event.word().eq_ignore_ascii_case(word));
    found.ok_or_else(|| format!("no event has this name; there are {}", HookEvent::ALL.map(HookEvent::word).join(", ")))
}
