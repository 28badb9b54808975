//! `hotspare completions`, `man` and `version`: what packagers and shells ask for, made from the one command line. Never reads anything.

use std::process::ExitCode;

use clap_complete::env::Shells;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::{self, CompletionsArgs, ManArgs, VersionArgs};
use crate::error::{CliError, Exit};
use crate::output;

/// The version of the JSON's shape.
const VERSION_VERSION: u32 = 1;

/// What `version --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Build {
    /// The shape's version.
    version: u32,
    /// The program's version.
    hotspare: &'static str,
    /// The operating system it was built for.
    os: &'static str,
    /// The processor it was built for.
    arch: &'static str,
}

/// Runs `hotspare completions`. The script calls `hotspare` for candidates, so that profiles of the moment are among them.
pub(crate) fn completions(arguments: &CompletionsArgs) -> Result<ExitCode, CliError> {
    let shell = arguments.shell.to_string();
    let shells = Shells::builtins();
    let completer = shells.completer(&shell).ok_or_else(|| CliError::new(Exit::Usage, format!("no completions for `{shell}`")))?;
    let mut script = Vec::new();
    completer.write_registration(cli::COMPLETE_VARIABLE, "hotspare", "hotspare", "hotspare", &mut script)?;
    print(&script)
}

/// Runs `hotspare man`.
pub(crate) fn man(arguments: &ManArgs) -> Result<ExitCode, CliError> {
    // The page that is laid out for a screen is no manual. Built, so that each command knows its own whole name.
    let mut all = cli::plain_command();
    all.build();
    let command = match &arguments.command {
        None => all,
        Some(name) => all
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| CliError::new(Exit::Usage, format!("no command is named `{name}`")).hint("all of them: `hotspare --help`"))?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).manual("hotspare").render(&mut page)?;
    print(&page)
}

/// Runs `hotspare version`.
pub(crate) fn version(arguments: &VersionArgs) -> Result<ExitCode, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    if arguments.json {
        let report = Build { version: VERSION_VERSION, hotspare: version, os: std::env::consts::OS, arch: std::env::consts::ARCH };
        let text = serde_json::to_string(&report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&format!("hotspare {version}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &[u8]) -> Result<ExitCode, CliError> {
    output::data(String::from_utf8_lossy(text).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
