//! `hotspare demo`: placeholder until the timeline is drawn.

use std::process::ExitCode;

use crate::error::CliError;

pub(crate) fn demo() -> Result<ExitCode, CliError> {
    Ok(ExitCode::SUCCESS)
}
