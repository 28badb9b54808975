//! The one clock of everything that waits. Never the operating system's own: a paused runtime in a test moves all of it together.

use std::time::{Duration, Instant};

/// The present, as the runtime's timers see it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago it was; nothing for what is still to come.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}
