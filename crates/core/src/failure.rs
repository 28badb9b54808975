//! Says what can go wrong, and answers two questions apart: what next for this request, and what it tells about the profile.
//! Never looks at a clock or at the world.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{LONGEST_TRUST, SHORT_THROTTLE};

/// How far an attempt had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Name look-up, TCP, TLS: no request byte was sent.
    Connect,
    /// The request was going out or was sent; no byte of an answer came.
    Send,
    /// The answer's status line and headers came.
    Head,
    /// A good head came and is held back; the client has nothing.
    Held,
    /// The client has bytes of this answer.
    Committed,
}

impl Stage {
    /// The word that stands for it in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Head => "head",
            Self::Held => "held",
            Self::Committed => "committed",
        }
    }
}

/// What went wrong. One row of the product's failure table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// A kept-alive connection died before any byte of the answer.
    StaleConnection,
    /// Nobody listens there.
    ConnectRefused,
    /// No route to the host or network.
    Unreachable,
    /// The name could not be looked up.
    Dns,
    /// TCP did not connect in time.
    ConnectTimeout,
    /// The TLS handshake broke or took too long.
    TlsHandshake,
    /// The server's certificate is not valid for it.
    TlsCertificate,
    /// A fresh connection closed before the head of an answer was whole.
    ClosedBeforeHead,
    /// What came is no HTTP answer.
    BadHead,
    /// The head did not come in time.
    HeadTimeout,
    /// 500, and every other 5xx without a row of its own.
    ServerError,
    /// 502, 503, 504 and 408: something on the way.
    BadGateway,
    /// 529: capacity of a model family.
    Overloaded,
    /// 429 for seconds or minutes.
    Throttled,
    /// 429: a usage window is used up.
    QuotaExhausted,
    /// 429 without a word on when or why; bound to the request.
    BareRateLimit,
    /// 429: a spend cap.
    SpendCap,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 402, or a 400 that says credit or spend limit.
    Billing,
    /// 404 for the model.
    ModelNotFound,
    /// A 400 that names something only this provider minds.
    ProviderBound,
    /// Any other 4xx: the request's own fault.
    BadRequest,
    /// 413.
    TooLarge,
    /// 3xx: never followed.
    Redirect,
    /// 200 with HTML, an error body, nothing, or another content type than was asked for.
    WrongContent,
    /// The stream ended or broke before it was complete.
    StreamDied,
    /// No bytes, or no content, for too long.
    Stalled,
    /// What came is no event stream.
    Malformed,
    /// The profile's own credential cannot be had.
    NoCredential,
    /// The request body cannot be sent again.
    CannotReplay,
}

/// Whose capacity or fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole profile.
    Profile,
    /// One model family on the profile.
    Family,
}

/// One thing that went wrong in one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which row of the table.
    pub kind: FailureKind,
    /// How far the attempt had come.
    pub stage: Stage,
    /// The HTTP status, or the one that an in-stream error type stands for.
    pub status: Option<u16>,
    /// When the provider asked to be asked again. At most [`LONGEST_TRUST`].
    pub retry_after: Option<Duration>,
    /// Whether the limit names a model family and not the account.
    pub family_only: bool,
    /// For people, short: `529 overloaded`. Holds no prompt, no answer and no secret.
    pub detail: Box<str>,
}

impl Failure {
    /// A failure without a status.
    pub fn new(kind: FailureKind, stage: Stage, detail: impl Into<Box<str>>) -> Self {
        Self { kind, stage, status: None, retry_after: None, family_only: false, detail: detail.into() }
    }

    /// The same with the status it came as.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same with the provider's wish, cut to what is believed.
    #[must_use]
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after.map(|after| after.min(LONGEST_TRUST));
        self
    }

    /// The status that the user's triggers are asked about; none where a failure always triggers.
    pub fn trigger_status(&self) -> Option<u16> {
        match self.kind {
            // What only one provider minds says nothing about the request: no list of statuses is asked about it.
            FailureKind::Redirect | FailureKind::WrongContent | FailureKind::NoCredential | FailureKind::ProviderBound => None,
            _ => self.status,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// What a failure means for the request at hand, before anything reached the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// The same profile on a fresh connection, at once and uncounted.
    SameFresh,
    /// The next profile.
    NextProfile,
    /// The next profile, but no further one after that.
    NextProfileOnce,
    /// The client gets this very answer.
    Relay,
}

/// What a failure means for the profile; independent of [`NextStep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Neutral,
    /// Not asked first for so long; grows when it happens again.
    Cooldown(Duration, Scope),
    /// Not asked at all for so long.
    Block(Duration, Scope),
    /// Not asked until its credential changes, at most for so long.
    BlockCredential(Duration),
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

impl FailureKind {
    /// Every kind, in the table's order.
    pub const ALL: [Self; 31] = [
        Self::StaleConnection,
        Self::ConnectRefused,
        Self::Unreachable,
        Self::Dns,
        Self::ConnectTimeout,
        Self::TlsHandshake,
        Self::TlsCertificate,
        Self::ClosedBeforeHead,
        Self::BadHead,
        Self::HeadTimeout,
        Self::ServerError,
        Self::BadGateway,
        Self::Overloaded,
        Self::Throttled,
        Self::QuotaExhausted,
        Self::BareRateLimit,
        Self::SpendCap,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Billing,
        Self::ModelNotFound,
        Self::ProviderBound,
        Self::BadRequest,
        Self::TooLarge,
        Self::Redirect,
        Self::WrongContent,
        Self::StreamDied,
        Self::Stalled,
        Self::Malformed,
        Self::NoCredential,
        Self::CannotReplay,
    ];

    /// The word that stands for it in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::StaleConnection => "stale_connection",
            Self::ConnectRefused => "connect_refused",
            Self::Unreachable => "unreachable",
            Self::Dns => "dns",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsHandshake => "tls_handshake",
            Self::TlsCertificate => "tls_certificate",
            Self::ClosedBeforeHead => "closed_before_head",
            Self::BadHead => "bad_head",
            Self::HeadTimeout => "head_timeout",
            Self::ServerError => "server_error",
            Self::BadGateway => "bad_gateway",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
            Self::QuotaExhausted => "quota_exhausted",
            Self::BareRateLimit => "bare_rate_limit",
            Self::SpendCap => "spend_cap",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Billing => "billing",
            Self::ModelNotFound => "model_not_found",
            Self::ProviderBound => "provider_bound",
            Self::BadRequest => "bad_request",
            Self::TooLarge => "too_large",
            Self::Redirect => "redirect",
            Self::WrongContent => "wrong_content",
            Self::StreamDied => "stream_died",
            Self::Stalled => "stalled",
            Self::Malformed => "malformed",
            Self::NoCredential => "no_credential",
            Self::CannotReplay => "cannot_replay",
        }
    }

    /// What next for the request. `from_primary` tells the chain's first profile from a spare: the client heals itself on the primary's
    /// own 400, so that one is relayed byte for byte.
    pub fn next_step(self, from_primary: bool) -> NextStep {
        match self {
            Self::StaleConnection => NextStep::SameFresh,
            // A sibling account may share the limit on the network address, and a bare 429 may be bound to the request: one try elsewhere.
            Self::Throttled | Self::BareRateLimit => NextStep::NextProfileOnce,
            Self::ProviderBound if from_primary => NextStep::Relay,
            Self::BadRequest | Self::TooLarge | Self::CannotReplay => NextStep::Relay,
            Self::ConnectRefused
            | Self::Unreachable
            | Self::Dns
            | Self::ConnectTimeout
            | Self::TlsHandshake
            | Self::TlsCertificate
            | Self::ClosedBeforeHead
            | Self::BadHead
            | Self::HeadTimeout
            | Self::ServerError
            | Self::BadGateway
            | Self::Overloaded
            | Self::QuotaExhausted
            | Self::SpendCap
            | Self::Unauthorized
            | Self::Forbidden
            | Self::Billing
            | Self::ModelNotFound
            | Self::ProviderBound
            | Self::Redirect
            | Self::WrongContent
            | Self::StreamDied
            | Self::Stalled
            | Self::Malformed
            | Self::NoCredential => NextStep::NextProfile,
        }
    }

    /// Whether one retry in place is worth it when no other profile is left.
    pub fn may_retry_in_place(self) -> bool {
        matches!(self, Self::ServerError | Self::BadGateway | Self::Overloaded)
    }

    /// Whether it speaks against the profile at all once the client has bytes: a stream that died moves its session, not everyone.
    fn counts_after_commit(self) -> bool {
        matches!(self, Self::QuotaExhausted | Self::Unauthorized | Self::Billing | Self::Overloaded)
    }
}

impl Failure {
    /// What it says about the profile.
    pub fn verdict(&self) -> Verdict {
        if self.stage == Stage::Committed && !self.kind.counts_after_commit() {
            return Verdict::Neutral;
        }
        self.verdict_before_commit()
    }

    fn verdict_before_commit(&self) -> Verdict {
        let scope = if self.family_only { Scope::Family } else { Scope::Profile };
        match self.kind {
            FailureKind::StaleConnection
            | FailureKind::BareRateLimit
            | FailureKind::ProviderBound
            | FailureKind::BadRequest
            | FailureKind::TooLarge
            | FailureKind::Malformed
            | FailureKind::CannotReplay => Verdict::Neutral,
            FailureKind::ConnectRefused | FailureKind::Unreachable | FailureKind::Dns | FailureKind::ServerError => {
                Verdict::Cooldown(5 * SECOND, Scope::Profile)
            }
            FailureKind::ConnectTimeout | FailureKind::TlsHandshake => Verdict::Cooldown(15 * SECOND, Scope::Profile),
            FailureKind::TlsCertificate => Verdict::Cooldown(60 * SECOND, Scope::Profile),
            FailureKind::HeadTimeout | FailureKind::BadHead | FailureKind::WrongContent | FailureKind::Stalled => {
                Verdict::Cooldown(30 * SECOND, Scope::Profile)
            }
            FailureKind::ClosedBeforeHead | FailureKind::StreamDied => Verdict::Cooldown(10 * SECOND, Scope::Profile),
            FailureKind::BadGateway => {
                Verdict::Cooldown(self.retry_after.unwrap_or(10 * SECOND).min(crate::policy::COOLDOWN_CAP), Scope::Profile)
            }
            // Capacity is per model: other families of the same profile stay usable.
            FailureKind::Overloaded => Verdict::Cooldown(15 * SECOND, Scope::Family),
            FailureKind::Throttled => Verdict::Cooldown(self.retry_after.unwrap_or(5 * SECOND).min(SHORT_THROTTLE), Scope::Family),
            FailureKind::QuotaExhausted => Verdict::Block(self.retry_after.unwrap_or(300 * SECOND), scope),
            FailureKind::SpendCap => Verdict::Block(self.retry_after.unwrap_or(HOUR), Scope::Profile),
            FailureKind::Unauthorized => Verdict::BlockCredential(15 * 60 * SECOND),
            FailureKind::Forbidden | FailureKind::Billing => Verdict::Block(HOUR, Scope::Profile),
            FailureKind::ModelNotFound => Verdict::Block(HOUR, Scope::Family),
            FailureKind::Redirect => Verdict::Block(10 * 60 * SECOND, Scope::Profile),
            FailureKind::NoCredential => Verdict::Cooldown(15 * SECOND, Scope::Profile),
        }
    }

    /// How good an answer it makes when every profile failed: higher is more recoverable. Retryable waits first, then server errors, then
    /// login and billing, then the request's own faults.
    pub fn recoverability(&self) -> u8 {
        match self.kind {
            FailureKind::Throttled | FailureKind::Overloaded => 6,
            FailureKind::QuotaExhausted => 5,
            FailureKind::ServerError
            | FailureKind::BadGateway
            | FailureKind::ConnectRefused
            | FailureKind::Unreachable
            | FailureKind::Dns
            | FailureKind::ConnectTimeout
            | FailureKind::TlsHandshake
            | FailureKind::ClosedBeforeHead
            | FailureKind::HeadTimeout
            | FailureKind::StreamDied
            | FailureKind::Stalled
            | FailureKind::StaleConnection => 4,
            FailureKind::BareRateLimit | FailureKind::WrongContent | FailureKind::BadHead | FailureKind::Malformed => 3,
            FailureKind::SpendCap
            | FailureKind::Unauthorized
            | FailureKind::Forbidden
            | FailureKind::Billing
            | FailureKind::NoCredential
            | FailureKind::TlsCertificate
            | FailureKind::Redirect => 2,
            FailureKind::ModelNotFound => 1,
            FailureKind::ProviderBound | FailureKind::BadRequest | FailureKind::TooLarge | FailureKind::CannotReplay => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_kinds_is_whole_and_has_no_doubles() {
        let mut kinds = FailureKind::ALL.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), FailureKind::ALL.len());
    }

    #[test]
    fn the_request_s_own_fault_is_relayed_and_blames_nobody() {
        for kind in [FailureKind::BadRequest, FailureKind::TooLarge] {
            let failure = Failure::new(kind, Stage::Head, "4xx");
            assert_eq!(kind.next_step(true), NextStep::Relay);
            assert_eq!(kind.next_step(false), NextStep::Relay);
            assert_eq!(failure.verdict(), Verdict::Neutral);
        }
    }

    #[test]
    fn a_provider_bound_400_is_relayed_from_the_primary_and_hops_from_a_spare() {
        assert_eq!(FailureKind::ProviderBound.next_step(true), NextStep::Relay);
        assert_eq!(FailureKind::ProviderBound.next_step(false), NextStep::NextProfile);
    }

    #[test]
    fn a_spare_s_provider_bound_400_goes_on_with_the_default_triggers() {
        let failure = Failure::new(FailureKind::ProviderBound, Stage::Head, "400").with_status(400);
        assert!(crate::Triggers::default().fire(&failure));
    }

    #[test]
    fn a_stream_that_dies_in_the_client_s_hands_benches_nobody_else() {
        let died = Failure::new(FailureKind::StreamDied, Stage::Committed, "reset");
        assert_eq!(died.verdict(), Verdict::Neutral);
        let spent = Failure::new(FailureKind::QuotaExhausted, Stage::Committed, "limit");
        assert!(matches!(spent.verdict(), Verdict::Block(..)));
    }

    #[test]
    fn a_known_reset_is_kept_in_full_and_trusted_no_longer_than_eight_days() {
        // opencodex #3809: 7999 s clamped to 15 min re-offered a drained account four times an hour.
        let failure = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_retry_after(Some(7999 * SECOND));
        assert_eq!(failure.verdict(), Verdict::Block(7999 * SECOND, Scope::Profile));
        let absurd = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_retry_after(Some(LONGEST_TRUST * 9));
        assert_eq!(absurd.retry_after, Some(LONGEST_TRUST));
    }
}
