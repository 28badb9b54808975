//! What happened, in order, with the time of the run. Never holds anything of the machine: the same run gives the same lines.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// A list of lines. Clones write to the same one.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    begun: Instant,
    lines: Option<Arc<Mutex<Vec<String>>>>,
}

impl Trace {
    /// Begins now. One that is not `kept` costs nothing.
    pub(crate) fn begin(kept: bool) -> Self {
        Self { begun: Instant::now(), lines: kept.then(Arc::default) }
    }

    /// Adds a line.
    pub(crate) fn line(&self, who: impl Display, what: impl Display) {
        if let Some(lines) = &self.lines {
            let line = format!("{:>10.3}  {who:<12} {what}", self.begun.elapsed().as_secs_f64());
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    /// All lines so far.
    pub(crate) fn text(&self) -> String {
        let lines = self.lines.as_ref().map(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n"));
        lines.unwrap_or_default()
    }
}
