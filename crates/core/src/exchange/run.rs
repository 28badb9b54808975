//! One attempt under way: how far it has come, and which of its clocks ends next. Never decides what follows.

use std::time::{Duration, Instant};

use super::BodyKind;
use crate::attempt::{AttemptId, AttemptKind};
use crate::failure::{Failure, FailureKind, Stage};
use crate::policy::{CLIENT_PATIENCE, HOLD_TIME, IMPATIENCE};
use crate::route::Candidate;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for the head.
    Head,
    /// Head and first events are held back.
    Held,
    /// The client has bytes of it.
    Flowing,
}

/// One attempt under way.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub id: AttemptId,
    pub kind: AttemptKind,
    pub candidate: Candidate,
    pub phase: Phase,
    pub body: BodyKind,
    /// When the attempt began.
    pub began: Instant,
    /// When the request, or its last part, went out.
    pub sent: Instant,
    pub head: Instant,
    pub last_bytes: Instant,
    pub last_content: Instant,
    pub succeeded: bool,
    /// It is asked to see whether it is well again.
    pub on_trial: bool,
    /// The client has had no head yet, and waits for one only so long. A resumed or kept-open answer has its head already.
    pub head_is_due: bool,
    /// When the client's own limit makes the next candidate due although no limit of the profile has ended.
    pub patient_until: Option<Instant>,
}

/// What a clock that ran out means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Due {
    /// None has run out.
    Nothing,
    /// What is held is released: the client must hear something.
    Release,
    /// All that counts has come; the rest is not waited for.
    Complete,
    /// The attempt failed.
    Failed(Failure),
}

impl Run {
    pub(super) fn new(id: AttemptId, kind: AttemptKind, candidate: Candidate, at: Instant) -> Self {
        Self {
            id,
            kind,
            candidate,
            phase: Phase::Head,
            body: BodyKind::Opaque,
            began: at,
            sent: at,
            head: at,
            last_bytes: at,
            last_content: at,
            succeeded: false,
            on_trial: false,
            head_is_due: true,
            patient_until: None,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.phase {
            Phase::Head => Stage::Send,
            Phase::Held => Stage::Held,
            Phase::Flowing => Stage::Committed,
        }
    }

    /// When the next of its clocks runs out. `started` is when the client's request came.
    pub(super) fn deadline(&self, started: Instant) -> Instant {
        let clocks = &self.candidate.terms.clocks;
        let silent = self.last_bytes + clocks.bytes_idle;
        match self.phase {
            Phase::Head => self.within_patience(self.head_deadline(started)),
            Phase::Held => {
                let hold_ends = self.hold_ends(started).unwrap_or(silent);
                self.within_patience(self.first_content_deadline().min(silent).min(hold_ends))
            }
            Phase::Flowing if self.body == BodyKind::Stream && !self.succeeded => silent.min(self.last_content + clocks.content_idle),
            // All that counts has come: pings alone do not keep it open.
            Phase::Flowing if self.body == BodyKind::Stream => self.last_content + clocks.bytes_idle,
            Phase::Flowing => silent,
        }
    }

    fn within_patience(&self, deadline: Instant) -> Instant {
        self.patient_until.map_or(deadline, |until| until.min(deadline))
    }

    /// Whether the client's patience ended the attempt and no limit of the profile.
    pub(super) fn is_cut_short(&self, now: Instant) -> bool {
        let patience_is_over = self.phase != Phase::Flowing && self.patient_until.is_some_and(|until| until <= now);
        let own = match self.phase {
            Phase::Head => self.sent + self.candidate.terms.clocks.head,
            Phase::Held | Phase::Flowing => self.first_content_deadline().min(self.last_bytes + self.candidate.terms.clocks.bytes_idle),
        };
        patience_is_over && now < own
    }

    /// Whether nothing, or nothing of content, came for as long as no key press explains.
    pub(super) fn keeps_client_waiting(&self, now: Instant) -> bool {
        let since = match self.phase {
            Phase::Head | Phase::Held => self.began,
            Phase::Flowing => self.last_content,
        };
        !self.succeeded && now.saturating_duration_since(since) >= IMPATIENCE
    }

    fn head_deadline(&self, started: Instant) -> Instant {
        let own = self.sent + self.candidate.terms.clocks.head;
        if self.head_is_due { own.min((started + CLIENT_PATIENCE).max(self.began + Duration::from_secs(1))) } else { own }
    }

    fn first_content_deadline(&self) -> Instant {
        let clocks = &self.candidate.terms.clocks;
        match self.body {
            BodyKind::Stream => self.head + clocks.first_content,
            BodyKind::Whole | BodyKind::Opaque => self.head + clocks.content_idle.max(HOLD_TIME),
        }
    }

    /// When what is held must go, content or not; none where the client has a head already.
    fn hold_ends(&self, started: Instant) -> Option<Instant> {
        match self.body {
            _ if !self.head_is_due => None,
            BodyKind::Stream => Some(started + HOLD_TIME),
            BodyKind::Whole | BodyKind::Opaque => Some(self.head + 2 * HOLD_TIME),
        }
    }

    /// What the clocks say now.
    pub(super) fn due(&self, now: Instant, started: Instant) -> Due {
        if now < self.deadline(started) {
            return Due::Nothing;
        }
        let clocks = &self.candidate.terms.clocks;
        let silent = now >= self.last_bytes + clocks.bytes_idle;
        let stalled = |words: String| Due::Failed(Failure::new(FailureKind::Stalled, self.stage(), words));
        match self.phase {
            Phase::Head => {
                let words = format!("no answer within {}", seconds(now.saturating_duration_since(self.sent)));
                Due::Failed(Failure::new(FailureKind::HeadTimeout, Stage::Send, words))
            }
            Phase::Flowing if self.succeeded => Due::Complete,
            _ if silent => stalled(format!("silent for {}", seconds(clocks.bytes_idle))),
            Phase::Held if self.hold_ends(started).is_some_and(|at| now >= at) => Due::Release,
            Phase::Held => stalled(format!("no content within {}", seconds(now.saturating_duration_since(self.head)))),
            Phase::Flowing => stalled(format!("no content for {}", seconds(clocks.content_idle))),
        }
    }
}

fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{:.1} s", time.as_secs_f64()) }
}
