//! Time as a value for tests of the decision core. Never sleeps and never looks at a real clock again after it was made.

use std::time::{Duration, Instant};

/// A clock that moves only when it is told to.
#[derive(Debug, Clone, Copy)]
pub struct VirtualClock {
    start: Instant,
    now: Instant,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtualClock {
    /// A clock at its start.
    pub fn new() -> Self {
        let start = Instant::now();
        Self { start, now: start }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Moves on.
    pub fn advance(&mut self, time: Duration) -> Instant {
        self.now += time;
        self.now
    }

    /// Moves on to an instant; the past stays the past.
    pub fn advance_to(&mut self, at: Instant) -> Instant {
        self.now = self.now.max(at);
        self.now
    }

    /// Time since the start.
    pub fn since_start(&self) -> Duration {
        self.now - self.start
    }
}
