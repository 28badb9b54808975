//! `hotspare profile …` as typed. Never does anything.

use std::time::Duration;

use clap::{Args, Subcommand};

/// `hotspare profile …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Leave a profile alone for a while, or until you resume it
    #[command(after_help = "Examples:  hotspare profile pause work --for 2h\n           hotspare profile pause work")]
    Pause(PauseArgs),
    /// Let a paused profile be asked again, or every one
    Resume(ResumeArgs),
}

/// `hotspare profile pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// The profile
    pub name: String,
    /// For so long: 90s, 30m, 2h; until you resume it where nothing is said
    #[arg(long = "for", value_name = "TIME", value_parser = crate::words::parse_duration)]
    pub time: Option<Duration>,
    /// Also where nobody else is left to ask: requests fail then
    #[arg(long)]
    pub even_last: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare profile resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The profile; none: every one
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
