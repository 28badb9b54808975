//! Reads `notify`: how a move to another profile is told. Never tells one.

use std::time::Duration;

use hotspare_core::notice::QUIET;

use crate::reader::{Field, Findings};
use crate::units::duration;

/// How a move to another profile is told, beside the status line, `status` and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify {
    /// By the desktop.
    pub desktop: bool,
    /// By a line on standard error.
    pub terminal: bool,
    /// The same move is told once in so long, then as a count.
    pub quiet: Duration,
}

impl Default for Notify {
    fn default() -> Self {
        Self { desktop: true, terminal: true, quiet: QUIET }
    }
}

/// Reads the section; what is missing or faulty keeps its default.
pub(crate) fn read(field: &Field<'_>, findings: &mut Findings) -> Notify {
    let mut notify = Notify::default();
    let Some(mut table) = field.table(findings) else { return notify };
    if let Some(desktop) = table.take("desktop").and_then(|field| field.bool(findings)) {
        notify.desktop = desktop;
    }
    if let Some(terminal) = table.take("terminal").and_then(|field| field.bool(findings)) {
        notify.terminal = terminal;
    }
    if let Some(quiet) = table.take("quiet").and_then(|field| duration(&field, findings)) {
        notify.quiet = quiet;
    }
    table.finish(findings);
    notify
}
