//! The command line as typed. Never does anything.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Keeps Claude Code working when its API does not.
#[derive(Debug, Parser)]
#[command(
    name = "hotspare",
    version,
    about,
    disable_help_subcommand = true,
    after_help = "Start with:  hotspare demo              see three failovers, no account needed\n             hotspare run -- claude     protect one session"
)]
pub(crate) struct Cli {
    /// What to do; none shows the status.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Protect one command: a proxy on a free local port that ends with it
    #[command(after_help = "Examples:  hotspare run -- claude\n           hotspare run --config ci.json -- claude -p 'fix the build'")]
    Run(Run),
    /// Serve in the foreground on the configured port
    Serve(Serve),
    /// What serves now, and what happened last
    Status(StatusArgs),
    /// Check and describe the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show three failovers with simulated providers; no account needed
    Demo,
}

/// What lies over the files of the configuration.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Layers {
    /// Configuration file instead of the user's own
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, e.g. `failover_policy.enabled=false`
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Leave out the files of the project
    #[arg(long)]
    pub no_project: bool,
}

/// `hotspare run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub layers: Layers,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `hotspare serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub layers: Layers,
    /// Loopback address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

/// `hotspare status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and say what is wrong with it
    Validate {
        #[command(flatten)]
        layers: Layers,
    },
    /// Print where the configuration file is
    Path,
    /// Print the JSON Schema of the configuration
    Schema,
}
