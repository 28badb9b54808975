//! Names the moments at which a user's hooks are called, and the words by which they tell failures apart. Never runs a hook.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::FailureKind;

/// A moment at which hooks are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum HookEvent {
    /// An attempt failed.
    AttemptFailure,
    /// The same profile is about to be asked again.
    PreRetry,
    /// A request is about to go to another profile.
    PreFailover,
    /// The client gets the answer of another profile than the request began with, or would have begun with.
    PostFailover,
    /// A session is back at a better profile.
    Failback,
    /// No profile could answer a request.
    Exhausted,
    /// A usage window is nearly or wholly used up.
    LimitWarning,
    /// A budget is used up.
    BudgetReached,
    /// A profile is out of use: its circuit breaker opened, or waiting alone may not help.
    ProfileDown,
    /// It may be used again.
    ProfileUp,
}

impl HookEvent {
    /// Every event.
    pub const ALL: [Self; 10] = [
        Self::AttemptFailure,
        Self::PreRetry,
        Self::PreFailover,
        Self::PostFailover,
        Self::Failback,
        Self::Exhausted,
        Self::LimitWarning,
        Self::BudgetReached,
        Self::ProfileDown,
        Self::ProfileUp,
    ];

    /// Its name in configuration, in a hook's input and in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::AttemptFailure => "AttemptFailure",
            Self::PreRetry => "PreRetry",
            Self::PreFailover => "PreFailover",
            Self::PostFailover => "PostFailover",
            Self::Failback => "Failback",
            Self::Exhausted => "Exhausted",
            Self::LimitWarning => "LimitWarning",
            Self::BudgetReached => "BudgetReached",
            Self::ProfileDown => "ProfileDown",
            Self::ProfileUp => "ProfileUp",
        }
    }

    /// The event of this name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.word() == word)
    }

    /// Whether a request waits for its hooks, and goes by their word.
    pub fn rules(self) -> bool {
        matches!(self, Self::PreRetry | Self::PreFailover)
    }

    /// Whether there is a failure that a matcher could name.
    pub fn has_failure(self) -> bool {
        match self {
            Self::AttemptFailure | Self::PreRetry | Self::PreFailover | Self::PostFailover | Self::Exhausted | Self::ProfileDown => true,
            Self::Failback | Self::LimitWarning | Self::BudgetReached | Self::ProfileUp => false,
        }
    }
}

/// Which `Pre…` events have hooks: only for those the user's word is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gates {
    /// [`HookEvent::PreRetry`].
    pub retry: bool,
    /// [`HookEvent::PreFailover`].
    pub failover: bool,
}

/// Claude Code's own words for errors, as its `StopFailure` hook has them.
pub const ERROR_WORDS: [&str; 8] =
    ["rate_limit", "overloaded", "authentication_failed", "billing_error", "model_not_found", "invalid_request", "server_error", "unknown"];

/// Claude Code's own word for a failure. What has no status of a provider's is `unknown` to it.
pub fn error_word(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Throttled | FailureKind::QuotaExhausted | FailureKind::BareRateLimit | FailureKind::SpendCap => "rate_limit",
        FailureKind::Overloaded => "overloaded",
        FailureKind::Unauthorized | FailureKind::Forbidden | FailureKind::NoCredential => "authentication_failed",
        FailureKind::Billing => "billing_error",
        FailureKind::ModelNotFound => "model_not_found",
        FailureKind::ProviderBound
        | FailureKind::BadRequest
        | FailureKind::TooLarge
        | FailureKind::Refused
        | FailureKind::ContentPolicy
        | FailureKind::ResourceNotFound
        | FailureKind::CannotReplay => "invalid_request",
        FailureKind::ServerError | FailureKind::BadGateway => "server_error",
        FailureKind::Misconfigured
        | FailureKind::StaleConnection
        | FailureKind::ConnectRefused
        | FailureKind::Unreachable
        | FailureKind::Dns
        | FailureKind::ConnectTimeout
        | FailureKind::TlsHandshake
        | FailureKind::TlsCertificate
        | FailureKind::ClosedBeforeHead
        | FailureKind::BadHead
        | FailureKind::HeadTimeout
        | FailureKind::Redirect
        | FailureKind::WrongContent
        | FailureKind::StreamDied
        | FailureKind::Stalled
        | FailureKind::OutOfDescriptors
        | FailureKind::Malformed => "unknown",
    }
}

/// Which failures a hook is called for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Matcher {
    /// All of them, and events without one.
    #[default]
    All,
    /// Those with one of these names, each of [`Matcher::names`].
    Named(Vec<Box<str>>),
}

impl Matcher {
    /// Every name that a matcher may hold: Claude Code's words first, then the failure table's.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let classes = FailureKind::ALL.into_iter().map(FailureKind::word).filter(|word| !ERROR_WORDS.contains(word));
        ERROR_WORDS.into_iter().chain(classes)
    }

    /// Reads `rate_limit|overloaded`; nothing and `*` stand for all. The error is the first name that is none.
    ///
    /// # Errors
    ///
    /// When a part is not one of [`Matcher::names`].
    pub fn parse(text: &str) -> Result<Self, &str> {
        if matches!(text.trim(), "" | "*") {
            return Ok(Self::All);
        }
        let mut names: Vec<Box<str>> = Vec::new();
        for part in text.split('|').map(str::trim) {
            if !Self::names().any(|name| name == part) {
                return Err(part);
            }
            if !names.iter().any(|name| **name == *part) {
                names.push(part.into());
            }
        }
        Ok(Self::Named(names))
    }

    /// Whether a hook with this matcher is called.
    pub fn fits(&self, failure: Option<FailureKind>) -> bool {
        let Self::Named(names) = self else { return true };
        failure.is_some_and(|kind| names.iter().any(|name| **name == *kind.word() || **name == *error_word(kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_are_found_by_the_words_that_serde_writes() {
        for event in HookEvent::ALL {
            assert_eq!(serde_json::to_value(event).unwrap(), event.word());
            assert_eq!(HookEvent::parse(event.word()), Some(event));
            assert_eq!(event.rules(), event.word().starts_with("Pre"));
        }
        assert_eq!(HookEvent::parse("prefailover"), None);
    }

    #[test]
    fn every_failure_has_one_of_claude_codes_words() {
        for kind in FailureKind::ALL {
            assert!(ERROR_WORDS.contains(&error_word(kind)), "{}", kind.word());
        }
    }

    #[test]
    fn a_matcher_names_failures_by_claude_codes_words_or_by_ours() {
        let fits = |text: &str, kind| Matcher::parse(text).expect("known names").fits(Some(kind));
        assert!(fits("rate_limit|overloaded", FailureKind::QuotaExhausted) && fits(" overloaded ", FailureKind::Overloaded));
        assert!(fits("quota_exhausted", FailureKind::QuotaExhausted) && !fits("quota_exhausted", FailureKind::Throttled));
        assert!(fits("server_error", FailureKind::BadGateway) && !fits("server_error", FailureKind::Dns));
        assert!(fits("unknown", FailureKind::Dns) && fits("dns|tls_handshake", FailureKind::Dns));
        for all in ["", " ", "*"] {
            assert!(fits(all, FailureKind::Dns) && Matcher::parse(all) == Ok(Matcher::All) && Matcher::All.fits(None));
        }
        assert!(!Matcher::parse("dns").expect("known").fits(None), "no failure has no name");
        for (wrong, part) in
            [("rate_limit|overlaoded", "overlaoded"), ("rate_limit|", ""), ("|", ""), ("5xx", "5xx"), ("dns,tls", "dns,tls")]
        {
            assert_eq!(Matcher::parse(wrong), Err(part));
        }
    }

    proptest! {
        #[test]
        fn no_text_matches_a_failure_that_it_does_not_name(text in "[a-z_|* ]{0,40}", kind in prop::sample::select(FailureKind::ALL.to_vec())) {
            if let Ok(Matcher::Named(names)) = Matcher::parse(&text) {
                let named = text.split('|').any(|part| part.trim() == kind.word() || part.trim() == error_word(kind));
                prop_assert_eq!(Matcher::Named(names).fits(Some(kind)), named);
            }
        }
    }
}
