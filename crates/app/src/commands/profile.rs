//! `hotspare profile`: shows, adds, removes, proves, pauses and imports profiles. Never shows a credential.

mod pause;

use std::process::ExitCode;

use crate::cli::profile::ProfileCommand;
use crate::error::CliError;

/// Runs `hotspare profile …`.
pub(crate) fn profile(command: ProfileCommand) -> Result<ExitCode, CliError> {
    match command {
        ProfileCommand::Pause(arguments) => pause::pause(&arguments),
        ProfileCommand::Resume(arguments) => pause::resume(&arguments),
    }
}
