//! Reads `supports`: what a profile takes of requests. Never decides whether a request fits.

use crate::reader::{Field, Findings};

/// Tokens of a context window: less holds no request of an agent, more has no model.
const CONTEXT: std::ops::RangeInclusive<u64> = 1000..=100_000_000;

/// What a profile takes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supports {
    /// Tokens of its context window; none: nobody said.
    pub context: Option<u64>,
    /// Whether it may be asked to think.
    pub thinking: bool,
    /// Whether it sees pictures.
    pub images: bool,
    /// Whether it knows tools.
    pub tools: bool,
}

impl Default for Supports {
    fn default() -> Self {
        Self { context: None, thinking: true, images: true, tools: true }
    }
}

/// Reads the section; what is missing or faulty counts as there.
pub(crate) fn read(field: &Field<'_>, findings: &mut Findings) -> Supports {
    let mut supports = Supports::default();
    let Some(mut table) = field.table(findings) else { return supports };
    supports.context = table.take("context").and_then(|field| field.number(*CONTEXT.start(), *CONTEXT.end(), findings));
    for (key, known) in [("thinking", &mut supports.thinking), ("images", &mut supports.images), ("tools", &mut supports.tools)] {
        if let Some(answer) = table.take(key).and_then(|field| field.bool(findings)) {
            *known = answer;
        }
    }
    table.finish(findings);
    supports
}
