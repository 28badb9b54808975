//! One try of an exchange at one profile: what is to be done, and what became of it. Never does it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::record::Decision;
use crate::route::{Candidate, ProfileId};
use crate::spend::Reservation;

/// A try's number within its exchange, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId(pub u8);

/// Why this try is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptKind {
    /// The first.
    Initial,
    /// The same profile again.
    Retry,
    /// The next profile.
    Failover,
    /// Another profile, to go on with a broken answer.
    Resume,
    /// Another profile beside a slow one.
    Hedge,
    /// A profile that failed, to see whether it is well again.
    Probe,
}

impl AttemptKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::Initial, Self::Retry, Self::Failover, Self::Resume, Self::Hedge, Self::Probe];

    /// The word that stands for it in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Retry => "retry",
            Self::Failover => "failover",
            Self::Resume => "resume",
            Self::Hedge => "hedge",
            Self::Probe => "probe",
        }
    }
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
    /// What was done next; none: it still runs.
    pub decision: Option<Decision>,
    /// The model that it was asked for, where that is not the client's own.
    pub model: Option<Arc<str>>,
    /// Whether its answer was thrown away although it may be paid for.
    pub wasted: bool,
    /// What a budget has set aside for it; whoever records the attempt settles it.
    pub reserved: Option<Reservation>,
    /// The session left a warm prompt cache elsewhere for it.
    pub cold: bool,
}
