//! Reads `log`: how long exchanges are remembered. Never writes any.

use std::time::Duration;

use crate::reader::{Field, Findings};
use crate::units::retention;

/// What is remembered of exchanges. Prompts and answers never are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How long.
    pub retain: Duration,
}

impl Default for Log {
    fn default() -> Self {
        Self { retain: Duration::from_secs(14 * 24 * 3600) }
    }
}

/// Reads the section; what is missing or faulty keeps its default.
pub(crate) fn read(field: &Field<'_>, findings: &mut Findings) -> Log {
    let mut log = Log::default();
    let Some(mut table) = field.table(findings) else { return log };
    if let Some(retain) = table.take("retain").and_then(|field| retention(&field, findings)) {
        log.retain = retain;
    }
    if let Some(bodies) = table.take("bodies") {
        // The key says what holds anyway, for those who want it in writing.
        bodies.word(&[("never", ())], &[], findings);
    }
    table.finish(findings);
    log
}
