//! `hotspare help`: the page of a command, or the meaning of a word that a screen shows.

use std::process::ExitCode;

use crate::cli::{self, ExplainArgs};
use crate::commands::explain;
use crate::error::CliError;
use crate::output;

/// Runs `hotspare help`.
pub(crate) fn help(words: &[String]) -> Result<ExitCode, CliError> {
    let mut command = cli::command();
    command.build();
    let found = words.iter().try_fold(&mut command, |command, word| command.find_subcommand_mut(word));
    match found {
        Some(command) => {
            output::data(command.render_long_help().to_string().trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        None => explain::explain(&ExplainArgs { code: Some(words.join(" ")), json: false }),
    }
}
