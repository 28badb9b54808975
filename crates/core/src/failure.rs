//! Says what can go wrong, and answers two questions apart: what next for this request, and what it tells about the profile.
//! Never looks at a clock or at the world.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{COOLDOWN_CAP, LONGEST_TRUST, SHORT_THROTTLE};

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
    /// This process, or this machine, has no file descriptor left.
    OutOfDescriptors,
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
    /// Whether the provider said `x-should-retry: false`: it is not asked the same again at once.
    pub no_retry: bool,
    /// Whether the request has been changed in just what the provider minds, so that it is worth one more try there.
    pub repaired: bool,
    /// Whether the refusal offers slower service, or a request for it has to wait for room.
    pub slow_service: bool,
    /// For people, short: `529 overloaded`. Holds no prompt, no answer and no secret.
    pub detail: Box<str>,
}

impl Failure {
    /// A failure without a status.
    pub fn new(kind: FailureKind, stage: Stage, detail: impl Into<Box<str>>) -> Self {
        let (family_only, no_retry, repaired, slow_service) = (false, false, false, false);
        Self { kind, stage, status: None, retry_after: None, family_only, no_retry, repaired, slow_service, detail: detail.into() }
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
            FailureKind::Redirect
            | FailureKind::WrongContent
            | FailureKind::NoCredential
            | FailureKind::ProviderBound
            | FailureKind::TooLarge => None,
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
    /// The next profile; once one was tried, only one at another address, for a sibling there may share the limit.
    NextElsewhere,
    /// The client gets this very answer.
    Relay,
}

/// What a failure means for the profile; independent of [`NextStep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What its circuit breaker counts.
    pub strike: Strike,
    /// How long it is not asked, and how strictly.
    pub bench: Option<(Duration, Grip)>,
    /// What both are about.
    pub scope: Scope,
}

impl Verdict {
    /// It says nothing about the profile.
    pub const NEUTRAL: Self = Self { strike: Strike::None, bench: None, scope: Scope::Profile };

    const fn new(strike: Strike, time: Duration, grip: Grip, scope: Scope) -> Self {
        Self { strike, bench: Some((time, grip)), scope }
    }
}

/// How a failure counts in a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// Not at all.
    None,
    /// In the rate of good answers, not as one of the failures in a row.
    Soft,
    /// In both.
    Hard,
}

/// How strictly a bench is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grip {
    /// The profile is asked all the same when nobody else is left.
    Loose,
    /// Its end is known: asking earlier is a wasted request.
    Firm,
    /// Waiting alone may not help (login, billing, a used-up window): it gets no request before.
    Hard,
    /// As [`Grip::Hard`], but another credential ends it at once.
    Credential,
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

impl FailureKind {
    /// What it is, for people and for the table in `ARCHITECTURE.md`.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::StaleConnection => "A kept-alive connection died before any byte of the answer",
            Self::ConnectRefused => "Nobody listens there",
            Self::Unreachable => "No route to the host or network",
            Self::Dns => "The name could not be looked up",
            Self::ConnectTimeout => "TCP did not connect in time",
            Self::TlsHandshake => "The TLS handshake broke or took too long",
            Self::TlsCertificate => "The server's certificate is not valid for it",
            Self::ClosedBeforeHead => "A fresh connection closed before the head of an answer was whole",
            Self::BadHead => "What came is no HTTP answer",
            Self::HeadTimeout => "The head did not come in time",
            Self::ServerError => "500, and every other 5xx without a row of its own",
            Self::BadGateway => "502, 503, 504 and 408: something on the way",
            Self::Overloaded => "529: capacity of a model family",
            Self::Throttled => "429 for seconds or minutes",
            Self::QuotaExhausted => "429: a usage window is used up",
            Self::BareRateLimit => "429 without a word on when or why; bound to the request",
            Self::SpendCap => "429: a spend cap",
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::Billing => "402, or a 400 that says credit or spend limit",
            Self::ModelNotFound => "404 for the model",
            Self::ProviderBound => "A 400 that names something only this provider minds",
            Self::BadRequest => "Any other 4xx: the request's own fault",
            Self::TooLarge => "413, or a 400 that says the prompt is too long",
            Self::Redirect => "3xx: never followed",
            Self::WrongContent => "200 with HTML, an error body, nothing, or another content type than was asked for",
            Self::StreamDied => "The stream ended or broke before it was complete",
            Self::Stalled => "No bytes, or no content, for too long",
            Self::Malformed => "What came is no event stream",
            Self::OutOfDescriptors => "This process, or this machine, has no file descriptor left",
            Self::NoCredential => "The profile's own credential cannot be had",
            Self::CannotReplay => "The request body cannot be sent again",
        }
    }

    /// Every kind, in the table's order.
    pub const ALL: [Self; 32] = [
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
        Self::OutOfDescriptors,
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
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::NoCredential => "no_credential",
            Self::CannotReplay => "cannot_replay",
        }
    }

    /// What next for the request. `from_primary` tells the chain's first profile from a spare: the client heals itself on the primary's
    /// own 400, so that one is relayed byte for byte.
    pub fn next_step(self, from_primary: bool) -> NextStep {
        match self {
            Self::StaleConnection => NextStep::SameFresh,
            // A sibling account may share the limit on the network address, and a bare 429 may be bound to the request.
            Self::Throttled | Self::BareRateLimit => NextStep::NextElsewhere,
            // How much a spare takes is its own affair as well.
            Self::ProviderBound | Self::TooLarge if from_primary => NextStep::Relay,
            Self::BadRequest | Self::CannotReplay => NextStep::Relay,
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
            | Self::TooLarge
            | Self::Redirect
            | Self::WrongContent
            | Self::StreamDied
            | Self::Stalled
            | Self::Malformed
            // Another one may have a connection that is open already.
            | Self::OutOfDescriptors
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
        let verdict = self.verdict_before_commit();
        if self.stage == Stage::Committed && !self.kind.counts_after_commit() {
            // It moves its session (see `retries`), and the breaker counts it; nobody else is moved by one broken stream.
            return Verdict { bench: None, ..verdict };
        }
        verdict
    }

    fn verdict_before_commit(&self) -> Verdict {
        use Grip::{Credential, Firm, Hard as Blocked, Loose};
        use Scope::{Family, Profile};
        use Strike::{Hard, None as No, Soft};
        let limited = if self.family_only { Family } else { Profile };
        let told = self.retry_after.map(|after| after.min(COOLDOWN_CAP));
        let grip = if told.is_some() { Firm } else { Loose };
        match self.kind {
            FailureKind::StaleConnection
            | FailureKind::BareRateLimit
            | FailureKind::ProviderBound
            | FailureKind::BadRequest
            | FailureKind::TooLarge
            | FailureKind::OutOfDescriptors
            | FailureKind::CannotReplay => Verdict::NEUTRAL,
            FailureKind::Malformed => Verdict { strike: Soft, ..Verdict::NEUTRAL },
            FailureKind::ConnectRefused | FailureKind::Unreachable | FailureKind::Dns | FailureKind::ServerError => {
                Verdict::new(Hard, 5 * SECOND, Loose, Profile)
            }
            FailureKind::ConnectTimeout | FailureKind::TlsHandshake => Verdict::new(Hard, 15 * SECOND, Loose, Profile),
            FailureKind::TlsCertificate => Verdict::new(Hard, 60 * SECOND, Firm, Profile),
            FailureKind::HeadTimeout | FailureKind::BadHead | FailureKind::WrongContent | FailureKind::Stalled => {
                Verdict::new(Hard, 30 * SECOND, Loose, Profile)
            }
            FailureKind::ClosedBeforeHead | FailureKind::StreamDied => Verdict::new(Hard, 10 * SECOND, Loose, Profile),
            FailureKind::BadGateway => Verdict::new(Hard, told.unwrap_or(10 * SECOND), grip, Profile),
            // Capacity is per model: other families of the same profile stay usable.
            FailureKind::Overloaded => Verdict::new(Soft, told.unwrap_or(15 * SECOND), grip, Family),
            FailureKind::Throttled => Verdict::new(No, told.unwrap_or(5 * SECOND).min(SHORT_THROTTLE), grip, Family),
            FailureKind::QuotaExhausted => Verdict::new(No, self.retry_after.unwrap_or(300 * SECOND), Blocked, limited),
            FailureKind::SpendCap => Verdict::new(No, self.retry_after.unwrap_or(HOUR), Blocked, Profile),
            FailureKind::Unauthorized => Verdict::new(No, 15 * 60 * SECOND, Credential, Profile),
            FailureKind::Forbidden | FailureKind::Billing => Verdict::new(No, HOUR, Blocked, Profile),
            FailureKind::ModelNotFound => Verdict::new(No, HOUR, Blocked, Family),
            FailureKind::Redirect => Verdict::new(Hard, 10 * 60 * SECOND, Blocked, Profile),
            FailureKind::NoCredential => Verdict::new(No, 15 * SECOND, Firm, Profile),
        }
    }

    /// Whether it comes from this side of the network: no name, no route, nobody listening.
    pub fn is_local_origin(&self) -> bool {
        matches!(self.kind, FailureKind::Dns | FailureKind::Unreachable | FailureKind::ConnectRefused)
    }

    /// Whether it is this process's own want: nobody was asked, and nobody else is to blame.
    pub fn is_our_own(&self) -> bool {
        self.kind == FailureKind::OutOfDescriptors
    }

    /// Whether time was lost on it: it costs the retry budget twice.
    pub fn timed_out(&self) -> bool {
        matches!(self.kind, FailureKind::ConnectTimeout | FailureKind::HeadTimeout | FailureKind::Stalled)
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
            | FailureKind::OutOfDescriptors
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
    fn a_failure_reads_as_what_was_seen() {
        assert_eq!(Failure::new(FailureKind::Overloaded, Stage::Head, "529 overloaded").to_string(), "529 overloaded");
    }

    #[test]
    fn which_failures_cost_time_and_which_are_worth_a_second_try_in_place() {
        use FailureKind as Kind;
        for kind in FailureKind::ALL {
            let timed_out = matches!(kind, Kind::ConnectTimeout | Kind::HeadTimeout | Kind::Stalled);
            assert_eq!(Failure::new(kind, Stage::Head, "").timed_out(), timed_out, "{kind:?}");
            let again = matches!(kind, Kind::ServerError | Kind::BadGateway | Kind::Overloaded);
            assert_eq!(kind.may_retry_in_place(), again, "{kind:?}");
        }
    }

    #[test]
    fn the_request_s_own_fault_is_relayed_and_blames_nobody() {
        for (kind, from_spare) in [(FailureKind::BadRequest, NextStep::Relay), (FailureKind::TooLarge, NextStep::NextProfile)] {
            let failure = Failure::new(kind, Stage::Head, "4xx");
            assert_eq!(kind.next_step(true), NextStep::Relay);
            assert_eq!(kind.next_step(false), from_spare);
            assert_eq!(failure.verdict(), Verdict::NEUTRAL);
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

    /// litellm #40404: cut and stalled streams never counted against the one that cut them.
    #[test]
    fn r35_a_stream_that_dies_in_the_client_s_hands_benches_nobody_else_but_counts() {
        let died = Failure::new(FailureKind::StreamDied, Stage::Committed, "reset");
        assert_eq!(died.verdict(), Verdict { strike: Strike::Hard, ..Verdict::NEUTRAL });
        let spent = Failure::new(FailureKind::QuotaExhausted, Stage::Committed, "limit");
        assert!(spent.verdict().bench.is_some_and(|(_, grip)| grip == Grip::Hard));
    }

    #[test]
    fn a_provider_s_own_time_is_kept_firmly_and_a_guess_loosely() {
        let bench = |after| Failure::new(FailureKind::BadGateway, Stage::Head, "503").with_retry_after(after).verdict().bench;
        assert_eq!(bench(Some(40 * SECOND)), Some((40 * SECOND, Grip::Firm)));
        assert_eq!(bench(None), Some((10 * SECOND, Grip::Loose)));
    }

    /// opencodex #3809: a `retry-after` of 7999 s was cut to a quarter of an hour.
    #[test]
    fn r31_a_known_reset_is_kept_in_full_and_trusted_no_longer_than_eight_days() {
        // opencodex #3809: 7999 s clamped to 15 min re-offered a drained account four times an hour.
        let failure = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_retry_after(Some(7999 * SECOND));
        assert_eq!(failure.verdict().bench, Some((7999 * SECOND, Grip::Hard)));
        let absurd = Failure::new(FailureKind::QuotaExhausted, Stage::Head, "429").with_retry_after(Some(LONGEST_TRUST * 9));
        assert_eq!(absurd.retry_after, Some(LONGEST_TRUST));
    }
}
