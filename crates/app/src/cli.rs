//! The command line as typed. Never does anything.

mod complete;
mod overview;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod hook;
pub(crate) mod profile;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;
use hotspare_core::Fault;
use hotspare_gateway::drill::LIVE_REQUESTS;

pub(crate) use overview::{command, plain_command};

use crate::wiring::Part;
use crate::wiring::shell::Shell;

/// The variable with which a shell asks for completions.
pub(crate) const COMPLETE_VARIABLE: &str = "HOTSPARE_COMPLETE";

/// Keeps Claude Code working when its API does not.
#[derive(Debug, Parser)]
#[command(name = "hotspare", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do; none shows the status.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find your logins and keys, set up a chain, and prove it
    #[command(
        after_help = "Examples:  hotspare init                what was found, one question, what would change\n           hotspare init --dry-run      change nothing\n           \
                      hotspare init --yes          take the proposal"
    )]
    Init(InitArgs),
    /// Protect one command; the proxy ends with it
    #[command(after_help = "Examples:  hotspare run -- claude\n           hotspare run --config ci.json -- claude -p 'fix the build'")]
    Run(Run),
    /// Serve in the foreground on the configured port
    Serve(Serve),
    /// Show what serves now, and what happened last
    Status(StatusArgs),
    /// Print a segment for Claude Code's status line
    #[command(
        after_help = "Examples:  hotspare statusline                       as `statusLine.command` in Claude Code's settings\n           \
                      hotspare statusline --wrap '~/.claude/line.sh'   with the status line that you have\n\n\
                      It says nothing while the primary serves and is well. The exit code is always 0."
    )]
    Statusline(StatuslineArgs),
    /// End the cooldown of a profile, or of every one
    #[command(after_help = "Examples:  hotspare reset\n           hotspare reset work")]
    Reset(ResetArgs),
    /// Put one profile first for a while
    #[command(after_help = "Examples:  hotspare switch backup --for 30m\n           hotspare switch auto                back to the chain")]
    Switch(SwitchArgs),
    /// Show how one exchange went: attempts, failures, answer
    #[command(
        after_help = "Examples:  hotspare why                    the last exchange\n           hotspare why hs_00696f5ac8000001    one of those that `hotspare logs` lists; its last digits are enough"
    )]
    Why(WhyArgs),
    /// List the latest exchanges, one line each
    #[command(after_help = "Examples:  hotspare logs -f\n           hotspare logs --failovers --since 1d")]
    Logs(LogsArgs),
    /// List the latest notices of failovers and returns
    #[command(
        after_help = "Examples:  hotspare notices\n           hotspare notices --hook     in Claude Code's hooks: tells a session what it has not heard"
    )]
    Notices(NoticesArgs),
    /// Show tokens and cost per profile, model, session or project
    Usage(UsageArgs),
    /// Check the whole set-up; say what is wrong and what to type
    #[command(
        after_help = "Examples:  hotspare doctor\n           hotspare doctor --fix         takes from other users what only you should read"
    )]
    Doctor(DoctorArgs),
    /// Find out whose fault it is: yours, a provider's, the account's
    #[command(after_help = "Exit codes:  0 nothing is wrong    7 a provider    8 this machine or its network    9 the account")]
    Outage(OutageArgs),
    /// Simulate a failure and check the failover; spends no token
    #[command(
        after_help = "Examples:  hotspare drill 529                  the first profile is overloaded; a played spare answers\n           hotspare drill midstream --at work\n           hotspare drill 5h --live 2 --for 2m    the next two real requests meet it; the spare is real and costs what it costs"
    )]
    Drill(DrillArgs),
    /// Manage profiles: an address and a credential each
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Test your hooks
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Check, explain and change the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Trust a project's configuration files until they change
    Trust {
        /// The project; none is this folder
        folder: Option<PathBuf>,
    },
    /// Take trust back
    Untrust {
        /// The project; none is this folder
        folder: Option<PathBuf>,
    },
    /// Show three failovers with simulated providers; no account needed
    Demo,
    /// Explain a code, a failure or a word that a screen shows
    #[command(
        after_help = "Examples:  hotspare explain HS0103          of an error in the configuration\n           hotspare explain overloaded      of a failure in `status`, `why` or `logs`\n           hotspare explain                 all of them"
    )]
    Explain(ExplainArgs),
    /// Show the help of a command, or explain a word that a screen shows
    #[command(after_help = "Examples:  hotspare help run\n           hotspare help profile add\n           hotspare help cooling")]
    Help {
        /// A command, or what `hotspare explain` takes
        #[arg(value_name = "COMMAND")]
        words: Vec<String>,
    },
    /// Print the completions for a shell
    #[command(
        after_help = "Examples:  hotspare completions bash > ~/.local/share/bash-completion/completions/hotspare\n           hotspare completions zsh > ~/.zfunc/_hotspare\n           hotspare completions fish > ~/.config/fish/completions/hotspare.fish"
    )]
    Completions(CompletionsArgs),
    /// Print the manual page
    #[command(after_help = "Examples:  hotspare man | man -l -\n           hotspare man run > hotspare-run.1")]
    Man(ManArgs),
    /// Print the version
    Version(VersionArgs),
    /// Set up the service, Claude Code's settings and status line
    #[command(
        after_help = "Examples:  hotspare install --dry-run        show what would be changed\n           hotspare install                  the service, Claude Code and its status line\n           hotspare install shell            programs that a shell starts, too"
    )]
    Install(Install),
    /// Restore everything that `install` changed
    #[command(
        after_help = "Examples:  hotspare uninstall\n           hotspare uninstall statusline\n           hotspare uninstall --all --check   prove that nothing is left"
    )]
    Uninstall(Uninstall),
    /// Start, stop or restart the background service
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Print variables that lead other programs through hotspare
    #[command(after_help = "Examples:  eval \"$(hotspare env)\"\n           hotspare env --shell fish | source")]
    Env(EnvArgs),
    /// Print the JSON Schema of what `--json` prints
    Schema {
        /// Of what
        #[arg(value_enum)]
        of: Shape,
    },
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

impl Layers {
    /// True if the command line changes nothing.
    pub(crate) fn is_default(&self) -> bool {
        self.config.is_none() && self.set.is_empty() && !self.no_project
    }
}

/// The file that is changed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// This file instead of the user's own
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The project's file in this folder
    #[arg(long, conflicts_with = "config")]
    pub project: bool,
    /// The project's file for yourself in this folder
    #[arg(long, conflicts_with_all = ["config", "project"])]
    pub local: bool,
}

/// `hotspare init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Take the proposal without a question
    #[arg(long)]
    pub yes: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write the configuration alone; Claude Code stays as it is, for `hotspare run -- claude`
    #[arg(long)]
    pub no_install: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub layers: Layers,
    /// `base` (by its base URL), `full` (as its proxy), `auto`
    #[arg(long, value_enum, value_name = "MODE", hide_possible_values = true)]
    pub mode: Option<Mode>,
    /// The command and its arguments, with or without `--` before it
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// How a client is led through hotspare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    // No words of help at the values: with them the page has four lines for each and no longer fits a screen.
    Auto,
    Base,
    Full,
}

/// `hotspare serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub layers: Layers,
    /// Loopback address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// As the user service: takes a socket from systemd, never refuses to start for its configuration
    #[arg(long, hide = true)]
    pub service: bool,
    /// The socket is on stdin, from the process that ends
    #[arg(long, hide = true, requires = "service")]
    pub take_over: bool,
    /// Opens the port, and starts the service again when it crashes
    #[arg(long, hide = true, requires = "service", requires = "listen", conflicts_with = "worker")]
    pub supervised: bool,
    /// As started by the supervisor
    #[arg(long, hide = true, requires = "service")]
    pub worker: bool,
}

/// `hotspare install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// What; none: `service`, `claude` and `statusline`
    #[arg(value_enum)]
    pub parts: Vec<Part>,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Say whether everything is in place, and change nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// For `shell`: another one than `$SHELL`
    #[arg(long, value_enum)]
    pub shell: Option<Shell>,
    /// For `claude`: `base` (by its base URL), `full` (as its proxy), `auto`
    #[arg(long, value_enum, value_name = "MODE", hide_possible_values = true)]
    pub mode: Option<Mode>,
    /// Write into settings that a git repository holds, too
    #[arg(long)]
    pub force: bool,
}

/// `hotspare uninstall`.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// What; none: everything
    #[arg(value_enum)]
    pub parts: Vec<Part>,
    /// Everything
    #[arg(long, conflicts_with = "parts")]
    pub all: bool,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Say whether anything is left, and change nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,
    /// Remove copied keys and all that was recorded, too; the configuration stays
    #[arg(long, conflicts_with_all = ["parts", "check", "dry_run"])]
    pub purge: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare service …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Start it, unless it runs
    Start,
    /// Stop it; answers in flight may end
    Stop,
    /// Put a new process in its place, e.g. after an upgrade; nobody is refused meanwhile
    Restart,
    /// Whether it runs, and who keeps it
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `hotspare env`.
#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// In the words of this shell; none: of `$SHELL`
    #[arg(long, value_enum)]
    pub shell: Option<Shell>,
    /// `base` (a base URL; also `auto`), or `full` (an HTTPS proxy)
    #[arg(long, value_enum, value_name = "MODE", hide_possible_values = true)]
    pub mode: Option<Mode>,
    /// Configuration file instead of the user's own
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "shell")]
    pub json: bool,
}

/// `hotspare status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare statusline`.
#[derive(Debug, Args)]
pub(crate) struct StatuslineArgs {
    /// Your own status line's command, run by a shell with the same stdin; its output comes after ours
    #[arg(long, value_name = "CMD")]
    pub wrap: Option<String>,
}

/// `hotspare reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The profile; none: every one
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::profiles))]
    pub profile: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare switch`.
#[derive(Debug, Args)]
pub(crate) struct SwitchArgs {
    /// The profile, or `auto`
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::profiles_or_auto))]
    pub profile: String,
    /// For so long: 90s, 30m, 2h; until you take it back where nothing is said
    #[arg(long = "for", value_name = "TIME", value_parser = crate::words::parse_duration)]
    pub time: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// An exchange's id, or its first or last digits; `last` is the last one that asked a model
    #[arg(default_value = "last", value_name = "ID")]
    pub exchange: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on with each exchange that ends from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Only those that left their chain's first profile
    #[arg(long)]
    pub failovers: bool,
    /// List the requests of drills, too
    #[arg(long)]
    pub drills: bool,
    /// Only those of so long: 90s, 15m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = crate::words::parse_duration)]
    pub since: Option<Duration>,
    /// At most so many of the latest; 30 where `--since` says nothing
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// Print JSON, one line for each
    #[arg(long)]
    pub json: bool,
}

/// `hotspare notices`.
#[derive(Debug, Args)]
pub(crate) struct NoticesArgs {
    /// As a hook of Claude Code: read its JSON, print a `systemMessage` where there is news
    #[arg(long, conflicts_with = "json")]
    pub hook: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Of so long: 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = crate::words::parse_duration)]
    pub since: Duration,
    /// One line for each of these, on each day
    #[arg(long, value_enum, default_value_t = UsageKey::Profile)]
    pub by: UsageKey,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What the lines of `usage` stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageKey {
    Profile,
    Model,
    Session,
    Project,
}

/// `hotspare doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Mend what is safe to mend, and say how to take it back
    #[arg(long)]
    pub fix: bool,
    /// Also say what was found of each thing that is well
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare outage`.
#[derive(Debug, Args)]
pub(crate) struct OutageArgs {
    /// Ask this status page (Statuspage's `summary.json`) instead of Anthropic's
    #[arg(long, value_name = "URL")]
    pub page: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare drill`.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// 429, 5h, 529, 500, 401, timeout, reset, slow, midstream, or `all` of them one after another
    #[arg(value_name = "FAULT", value_parser = fault, add = ArgValueCandidates::new(complete::faults))]
    pub fault: Which,
    /// The profile that breaks; none: whoever is asked first
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::profiles))]
    pub at: Option<String>,
    /// Let so many of the next real requests meet the fault, from 1 to 20; the spare's answers are real
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u32).range(1..=i64::from(LIVE_REQUESTS)))]
    pub live: Option<u32>,
    /// End a live drill after so long: 30s, 10m at most
    #[arg(long = "for", value_name = "TIME", requires = "live", default_value = "60s", value_parser = crate::words::parse_duration)]
    pub time: Duration,
    /// The only model to prove; else those that Claude Code's settings name and its last requests asked for
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One fault, or none: all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Which(pub Option<Fault>);

fn fault(word: &str) -> Result<Which, String> {
    let one = Fault::of_word(word);
    if one.is_none() && word != "all" {
        return Err(format!("there are {}, and `all`", Fault::ALL.map(Fault::word).join(", ")));
    }
    Ok(Which(one))
}

/// `hotspare explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Such as `HS0103`, `overloaded`, or an exit code; none: all of them
    #[arg(value_name = "CODE", add = ArgValueCandidates::new(complete::codes))]
    pub code: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `hotspare man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Of which command; none: of `hotspare`
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

/// `hotspare version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `--json` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// One exchange: `why --json`, and each line of `logs --json`
    Exchange,
    /// `usage --json`
    Usage,
    /// `status --json`
    Status,
    /// `reset --json`
    Reset,
    /// `switch --json`
    Switch,
    /// `drill --json`
    Drill,
    /// `outage --json`
    Outage,
    /// `doctor --json`
    Doctor,
    /// `profile list --json` and `profile show --json`
    Profiles,
    /// `profile test --json`
    Test,
    /// `profile pause --json`
    Pause,
    /// `profile resume --json`
    Resume,
    /// `hook test --json`
    Hook,
    /// `notices --json`
    Notices,
    /// `init --json`
    Init,
    /// `explain --json`
    Explain,
    /// `version --json`
    Version,
    /// `install --json` and `uninstall --json`
    Install,
    /// `service status --json`
    Service,
    /// `env --json`
    Env,
}

/// `hotspare config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and say what is wrong with it
    Validate {
        #[command(flatten)]
        layers: Layers,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every value that holds here, defaults included
    Show {
        #[command(flatten)]
        layers: Layers,
        /// With the place that each value comes from
        #[arg(long)]
        origin: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print one value
    Get {
        /// The key, e.g. `failover_policy.clocks.head`
        #[arg(add = ArgValueCandidates::new(complete::keys))]
        key: String,
        #[command(flatten)]
        layers: Layers,
        /// Print JSON, with the place that the value comes from
        #[arg(long)]
        json: bool,
    },
    /// Set one key in the user's file, if the result is valid
    #[command(
        after_help = "Examples:  hotspare config set failover_policy.max_failover_attempts 2\n           hotspare config set --local failover_policy.enabled false"
    )]
    Set {
        /// The key, e.g. `failover_policy.clocks.head`
        #[arg(add = ArgValueCandidates::new(complete::keys))]
        key: String,
        /// JSON, or plain text
        value: String,
        #[command(flatten)]
        target: Target,
    },
    /// Remove one key from the user's file, if the result is valid
    Unset {
        /// The key
        #[arg(add = ArgValueCandidates::new(complete::keys))]
        key: String,
        #[command(flatten)]
        target: Target,
    },
    /// Take the last `set` or `unset` back
    Undo,
    /// Open the file in `$EDITOR`, and put it in place when it is valid
    Edit {
        #[command(flatten)]
        target: Target,
    },
    /// Say what a key does, what it takes, and what holds now
    Explain {
        /// The key, e.g. `failover_policy.triggers`
        #[arg(add = ArgValueCandidates::new(complete::keys))]
        key: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print where the configuration file is
    Path,
    /// Print the JSON Schema of the configuration
    Schema,
}
