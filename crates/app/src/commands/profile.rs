//! `hotspare profile`: shows, adds, removes, proves, pauses and imports profiles. Never shows a credential.

mod add;
pub(crate) mod diff;
mod grid;
mod import;
mod list;
mod pause;
mod remove;
pub(crate) mod report;
mod secret;
mod show;
pub(crate) mod test;

use std::process::ExitCode;

use crate::cli::profile::ProfileCommand;
use crate::error::CliError;

/// Runs `hotspare profile …`.
pub(crate) fn profile(command: ProfileCommand) -> Result<ExitCode, CliError> {
    match command {
        ProfileCommand::List { layers, json } => list::list(&layers, json),
        ProfileCommand::Show { name, layers, json } => show::show(&name, &layers, json),
        ProfileCommand::Add(arguments) => add::add(&arguments),
        ProfileCommand::Remove(arguments) => remove::remove(&arguments),
        ProfileCommand::Test(arguments) => test::test(&arguments),
        ProfileCommand::Import(arguments) => import::import(&arguments),
        ProfileCommand::Pause(arguments) => pause::pause(&arguments),
        ProfileCommand::Resume(arguments) => pause::resume(&arguments),
    }
}
