//! One try of an exchange at one profile: what is to be done, and what became of it. Never does it.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::route::{Candidate, ProfileId};

/// A try's number within its exchange, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId(pub u8);

/// Why this try is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    /// The first.
    Initial,
    /// The same profile again.
    Retry,
    /// The next profile.
    Failover,
}

/// What the shell is to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptPlan {
    /// Its number.
    pub id: AttemptId,
    /// Why.
    pub kind: AttemptKind,
    /// Where, and with which model.
    pub candidate: Candidate,
    /// Whether a kept-alive connection must not be used.
    pub fresh_connection: bool,
    /// How long to wait before it.
    pub delay: Duration,
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptRecord {
    /// Where.
    pub profile: ProfileId,
    /// Why it was made.
    pub kind: AttemptKind,
    /// When it began.
    pub started: Instant,
    /// When its head came.
    pub head: Option<Instant>,
    /// When its first content came.
    pub first_content: Option<Instant>,
    /// When it ended.
    pub ended: Option<Instant>,
    /// What it failed with, if it failed.
    pub failure: Option<Failure>,
}
