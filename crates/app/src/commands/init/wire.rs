//! Points Claude Code at hotspare for good, where this version can. Never touches a file of the user itself.

use crate::cli::InitArgs;
use crate::error::CliError;

/// Returns whether Claude Code goes through hotspare from now on.
#[expect(clippy::unnecessary_wraps, reason = "wiring in can fail")]
pub(super) fn wire(_arguments: &InitArgs) -> Result<bool, CliError> {
    Ok(false)
}
