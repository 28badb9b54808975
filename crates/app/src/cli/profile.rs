//! `hotspare profile …` as typed. Never does anything.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use super::{Layers, complete};

/// `hotspare profile …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Every profile: its state, its address, and whether its credential is there
    List {
        #[command(flatten)]
        layers: Layers,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One profile, with all that is known of it
    Show {
        /// The profile
        #[arg(add = ArgValueCandidates::new(complete::profiles))]
        name: String,
        #[command(flatten)]
        layers: Layers,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a profile to your configuration
    #[command(
        after_help = "Examples:  hotspare profile add openrouter-backup --platform openrouter --env OPENROUTER_API_KEY --spare\n           \
                      hotspare profile add console --keychain < key.txt\n           \
                      hotspare profile add glm --preset zai --model 'claude-*=glm-5' -- pass show zai"
    )]
    Add(Box<AddArgs>),
    /// Remove a profile from your configuration
    Remove(RemoveArgs),
    /// Prove a profile step by step, without spending a token where that can be
    #[command(
        after_help = "Examples:  hotspare profile test openrouter-backup\n           hotspare profile test glm --spend --model claude-opus-5-5"
    )]
    Test(TestArgs),
    /// Turn other folders of Claude Code and the files of other tools into profiles
    #[command(after_help = "Reads folders such as ~/.claude-work, start files of shells (exports, aliases, functions), and\n\
                      the files of claude-code-router, cc-switch, teamclaude, better-ccflare and LiteLLM.\n\
                      Nothing of theirs is changed, and no stored key is replaced.\n\n\
                      Examples:  hotspare profile import --dry-run\n           hotspare profile import ~/.claude-work ~/.config/teamclaude.json")]
    Import(ImportArgs),
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
    #[arg(add = ArgValueCandidates::new(complete::profiles))]
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
    #[arg(add = ArgValueCandidates::new(complete::profiles))]
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare profile add`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("credential").args(["env", "file", "claude_config_dir", "keychain", "program"])))]
pub(crate) struct AddArgs {
    /// Its name: letters, digits, `.`, `_` and `-`
    pub name: String,
    /// `anthropic`, `anthropic_compatible` or `openrouter`
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// A known provider's endpoint: `zai`, `deepseek`, `kimi`, `minimax`, `ollama`, `litellm`, …
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<String>,
    /// Where its requests go, without `/v1`
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// Let plain http go to another machine
    #[arg(long, requires = "base_url")]
    pub allow_http: bool,
    /// Its credential is in this environment variable
    #[arg(long, value_name = "VARIABLE")]
    pub env: Option<String>,
    /// Its credential is in this file, which nobody else may read
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// It uses the login that Claude Code keeps in this folder
    #[arg(long, value_name = "FOLDER")]
    pub claude_config_dir: Option<PathBuf>,
    /// Its credential is read from stdin, or asked for, and kept in the keychain under its name or this one
    #[arg(long, value_name = "ENTRY", num_args = 0..=1, default_missing_value = "")]
    pub keychain: Option<String>,
    /// Put the credential in the place of another one that the keychain has under the name
    #[arg(long, requires = "keychain")]
    pub replace: bool,
    /// Its credential is what this program prints: no shell takes it apart
    #[arg(last = true, value_name = "PROGRAM")]
    pub program: Vec<String>,
    /// How the credential is sent, where the platform does not say
    #[arg(long, value_name = "HEADER", value_parser = ["x-api-key", "bearer"])]
    pub header: Option<String>,
    /// What a model is called there, e.g. `claude-*=glm-5`; may be given again
    #[arg(long = "model", value_name = "PATTERN=NAME", value_parser = pair)]
    pub models: Vec<(String, String)>,
    /// Ask it after all others of the first pair
    #[arg(long)]
    pub spare: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Configuration file instead of the user's own
    #[arg(long, value_name = "CONFIG")]
    pub config: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (pattern, name) = text.split_once('=').ok_or("write it as `claude-*=name-at-the-provider`")?;
    Ok((pattern.to_owned(), name.to_owned()))
}

/// `hotspare profile remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The profile
    #[arg(add = ArgValueCandidates::new(complete::profiles))]
    pub name: String,
    /// Take it out of the policy too
    #[arg(long)]
    pub from_policy: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Configuration file instead of the user's own
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `hotspare profile test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The profile
    #[arg(add = ArgValueCandidates::new(complete::profiles))]
    pub name: String,
    /// Send one short message where nothing free proves it: it is paid for
    #[arg(long)]
    pub spend: bool,
    /// The model that is asked about, as the client calls it
    #[arg(long, value_name = "MODEL", default_value = "claude-haiku-4-5")]
    pub model: String,
    #[command(flatten)]
    pub layers: Layers,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hotspare profile import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Folders of Claude Code, and files of other tools; none: where they usually are
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Ask them after all others of the first pair
    #[arg(long)]
    pub spare: bool,
    /// Let a profile use the new key where a source has another one for it; the old one stays stored
    #[arg(long)]
    pub replace: bool,
    /// Agree to what is found, keys going into the keychain included
    #[arg(long)]
    pub yes: bool,
    /// Configuration file instead of the user's own
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
