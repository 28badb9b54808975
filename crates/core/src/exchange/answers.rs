//! Decides what the client hears when no profile could answer. Never invents a status that the client would misread: each one is chosen by
//! what Claude Code does on it (measured, 2.1.330).

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::{Action, Answer, Exchange, LocalAnswer, Outcome};
use crate::attempt::AttemptId;
use crate::commitment::Ending;
use crate::failure::{Failure, FailureKind, Stage};
use crate::fit::Misfit;
use crate::health::Standing;
use crate::policy::{CLIENT_RETRIES, CLIENT_WAIT, OnExhausted, WAIT_JITTER};
use crate::record::Decision;
use crate::route::{ProfileId, SkipReason};
use crate::world::Surroundings;

/// Words at once: waiting does not help.
const EXPLAIN: LocalAnswer = LocalAnswer { status: 424, error_type: "invalid_request_error", retry_after: None };

/// The words on which the client makes its conversation shorter, so that somebody can take it.
const TOO_LONG: LocalAnswer = LocalAnswer { status: TOO_LONG_STATUS, ..EXPLAIN };

/// See [`Exchange::worth`]: above what only a person can end, below what waiting ends.
const PRIMARY_REFUSAL_WORTH: u8 = 3;

/// The status of the answer that says what is too long for whom.
pub const TOO_LONG_STATUS: u16 = 400;

impl Exchange {
    pub(super) fn answer(&mut self, answer: Answer) {
        self.outcome.get_or_insert(match answer {
            Answer::Relay { .. } | Answer::Remembered { .. } => Outcome::Relayed,
            Answer::Local(_) => Outcome::Exhausted,
        });
        self.runs.clear();
        self.consulting = None;
        self.pending.clear();
        self.pending.push_back(Action::Answer(answer));
    }

    /// The client gets this very refusal, unless another said more.
    pub(super) fn relay_or_explain(&mut self, now: Instant, attempt: AttemptId, failure: &Failure, at: &mut Surroundings<'_>) {
        if self.holding.is_some() {
            // The client has a head of ours: a refusal cannot be told any more. It asks again, and hears it then.
            self.decide(attempt, Decision::Cut);
            return self.end(now, Ending::Cut);
        }
        // A spare's own 4xx never takes the place of what the primary said.
        let earlier = self.attempts.iter().filter_map(|record| record.failure.as_ref());
        let more_was_said = earlier.map(Failure::recoverability).any(|other| other > failure.recoverability());
        if relayable(failure) && !more_was_said {
            self.decide(attempt, Decision::Relay);
            self.answer(Answer::Relay { attempt, retry_after: None, final_word: false });
        } else {
            self.give_up(now, at);
        }
    }

    /// Every attempt failed: the client hears the most recoverable failure, in the form that makes it do the right thing.
    pub(super) fn give_up(&mut self, now: Instant, at: &mut Surroundings<'_>) {
        if let Some(last) = self.attempts.len().checked_sub(1).and_then(|last| u8::try_from(last).ok()) {
            self.decide(AttemptId(last), Decision::GiveUp);
        }
        if self.holding.is_some() {
            return self.keep_waiting(now, at);
        }
        self.found_nobody = true;
        let failed = self.attempts.iter().enumerate().filter_map(|(place, record)| record.failure.as_ref().map(|failure| (place, failure)));
        let best = failed.max_by_key(|(place, failure)| {
            (self.worth(self.attempts[*place].profile, failure), Reverse(failure.retry_after), Reverse(*place))
        });
        let Some((place, failure)) = best.map(|(place, failure)| (place, failure.clone())) else {
            return self.answer_without_asking(now, at);
        };
        if self.plan.on_exhausted == OnExhausted::Hold && waiting_helps(failure.kind) && self.may_hold(at) {
            return self.begin_hold(now, at);
        }
        let attempt = AttemptId(u8::try_from(place).expect("an exchange makes few attempts"));
        let profile = self.attempts[place].profile;
        if self.is_worth_waiting(now, profile, &failure, at) {
            return self.answer(Answer::Local(self.try_again(now, at)));
        }
        if !self.is_primary(profile) && failure.kind.is_refusal() {
            return self.answer(self.hide_spare_refusal(attempt, &failure));
        }
        let client_login = self.asked.iter().any(|candidate| candidate.profile == profile && candidate.terms.client_login);
        let has_its_words = self.plan.lone || blames_the_request(failure.kind) || is_a_login_s_own_word(&failure, client_login);
        if !has_its_words && self.shorter_helps(waiting_helps(failure.kind), now, at) {
            return self.answer(Answer::Local(TOO_LONG));
        }
        let wait = self.seconds_to_next(now, at);
        let answer = self.shape(attempt, &failure, client_login, wait);
        if matches!(answer, Answer::Relay { .. }) {
            self.decide(attempt, Decision::Relay);
        }
        self.answer(answer);
    }

    /// How good a failure is as the client's answer, higher is better. The primary's own refusal is worth more than a spare's hopeless
    /// one, and less than one that goes away with time; a spare's refusal is worth least.
    fn worth(&self, profile: ProfileId, failure: &Failure) -> u8 {
        match failure.kind.is_refusal() {
            true if self.is_primary(profile) => PRIMARY_REFUSAL_WORTH,
            true => 0,
            false => failure.recoverability(),
        }
    }

    /// Whether the failure itself is final, but another profile comes back while the client waits.
    fn is_worth_waiting(&self, now: Instant, profile: ProfileId, failure: &Failure, at: &Surroundings<'_>) -> bool {
        let is_about_the_request = self.is_primary(profile) && failure.kind.is_refusal();
        let waits = !self.plan.lone && self.plan.on_exhausted != OnExhausted::Fail;
        waits && !is_about_the_request && !waiting_helps(failure.kind) && self.soonest_return(now, at).is_some()
    }

    /// The answer in place of a spare's own refusal: in a form on which the client changes its request, or in our own words.
    fn hide_spare_refusal(&self, attempt: AttemptId, failure: &Failure) -> Answer {
        match failure.kind {
            FailureKind::TooLarge => Answer::Local(TOO_LONG),
            FailureKind::ProviderBound if failure.client_mends && relayable(failure) => {
                Answer::Relay { attempt, retry_after: None, final_word: false }
            }
            _ => match self.plan.blocked_login {
                Some(profile) => Answer::Remembered { profile, instead: EXPLAIN },
                None => Answer::Local(EXPLAIN),
            },
        }
    }

    /// Time until a profile whose failure goes away with time may be tried again; `None` if the client does not wait that long.
    fn soonest_return(&self, now: Instant, at: &Surroundings<'_>) -> Option<Duration> {
        let failed = |profile: ProfileId| {
            let mut of_profile = self.attempts.iter().rev().filter(move |attempt| attempt.profile == profile);
            of_profile.find_map(|attempt| attempt.failure.as_ref()).map(|failure| failure.kind)
        };
        let skipped = self.plan.skipped.iter().filter(|skipped| matches!(skipped.reason, SkipReason::Cooling { .. }));
        let left_out = |profile: ProfileId| {
            self.plan.skipped.iter().any(|skipped| skipped.profile == profile && !matches!(skipped.reason, SkipReason::Cooling { .. }))
        };
        let candidates = self.plan.candidates.iter().map(|candidate| candidate.profile).filter(|profile| !left_out(*profile));
        let profiles = candidates.chain(skipped.map(|skipped| skipped.profile));
        let mut returns = Vec::new();
        for profile in profiles {
            let standing = at.world.health.standing(now, profile, self.facts.family(), self.facts.own_credential);
            match (standing, failed(profile)) {
                (_, Some(kind)) if !waiting_helps(kind) => {}
                (Standing::Cooling { because, .. }, _) if !waiting_helps(because) => {}
                (Standing::Cooling { until, .. }, _) => returns.push(until.saturating_duration_since(now)),
                (Standing::Usable | Standing::Trial, _) => returns.push(Duration::ZERO),
            }
        }
        returns.into_iter().min().filter(|wait| *wait <= CLIENT_RETRIES)
    }

    /// The answer on which the client waits and tries again.
    fn try_again(&self, now: Instant, at: &Surroundings<'_>) -> LocalAnswer {
        LocalAnswer { status: 503, error_type: "overloaded_error", retry_after: Some(self.seconds_to_next(now, at)) }
    }

    /// No profile could even be asked.
    pub(super) fn answer_without_asking(&mut self, now: Instant, at: &mut Surroundings<'_>) {
        let curable = |reason: &SkipReason| match reason {
            SkipReason::Offline => true,
            SkipReason::Cooling { because, .. } => waiting_helps(*because),
            SkipReason::Refused { .. } => false,
            SkipReason::NoModel
            | SkipReason::UnknownModel
            | SkipReason::NotServed
            | SkipReason::NoClientCredential
            | SkipReason::CredentialElsewhere(_)
            | SkipReason::Paused
            | SkipReason::NoCredential(_)
            | SkipReason::Misfit(_)
            | SkipReason::Vetoed
            | SkipReason::Budget(_)
            | SkipReason::NoPrice => false,
        };
        self.found_nobody = true;
        let waits = self.plan.skipped.iter().any(|skipped| curable(&skipped.reason));
        if waits && self.plan.on_exhausted == OnExhausted::Hold && self.may_hold(at) {
            return self.begin_hold(now, at);
        }
        let instead = if self.shorter_helps(waits, now, at) {
            TOO_LONG
        } else if waits && self.plan.on_exhausted != OnExhausted::Fail {
            self.try_again(now, at)
        } else {
            EXPLAIN
        };
        self.answer(match self.plan.blocked_login {
            Some(profile) => Answer::Remembered { profile, instead },
            None => Answer::Local(instead),
        });
    }

    /// Whether a shorter conversation would be served where this one is not: it is too long for somebody, and nobody who could take it comes
    /// back while the client waits.
    fn shorter_helps(&self, waits: bool, now: Instant, at: &Surroundings<'_>) -> bool {
        let too_long = |reason: &SkipReason| matches!(reason, SkipReason::Misfit(Misfit::TooLong { .. }));
        self.plan.skipped.iter().any(|skipped| too_long(&skipped.reason)) && (!waits || self.time_to_next(now, at) > CLIENT_WAIT)
    }

    /// The client has sent this request so often that it has used up its share of requests to providers for now.
    pub(super) fn answer_later(&mut self, now: Instant, at: &mut Surroundings<'_>) {
        let wait = at.world.retries.next_attempt_in(now, at.request_key).min(CLIENT_WAIT).as_millis().div_ceil(1000);
        let seconds = u32::try_from(wait).unwrap_or(1).clamp(1, 59);
        self.answer(Answer::Local(LocalAnswer { status: 503, error_type: "overloaded_error", retry_after: Some(seconds) }));
    }

    fn shape(&self, attempt: AttemptId, failure: &Failure, client_login: bool, wait: u32) -> Answer {
        let relay = |retry_after, final_word| Answer::Relay { attempt, retry_after, final_word };
        if self.plan.lone && relayable(failure) {
            // Without a spare there is nothing to decide: the client sees what it would have seen without us.
            return relay(None, false);
        }
        let fails = self.plan.on_exhausted == OnExhausted::Fail;
        let local = |status, error_type, retry_after: u32| {
            // Without a spare the client's own timetable is the best one there is.
            let retry_after = Some(retry_after).filter(|_| !self.plan.lone);
            Answer::Local(if fails { EXPLAIN } else { LocalAnswer { status, error_type, retry_after } })
        };
        match failure.kind {
            FailureKind::Overloaded | FailureKind::ServerError | FailureKind::Throttled if relayable(failure) && !fails => {
                relay(Some(wait), false)
            }
            FailureKind::QuotaExhausted | FailureKind::Unauthorized if is_a_login_s_own_word(failure, client_login) => relay(None, false),
            FailureKind::QuotaExhausted
            | FailureKind::Overloaded
            | FailureKind::ServerError
            | FailureKind::Throttled
            | FailureKind::BadGateway
            | FailureKind::ConnectRefused
            | FailureKind::Unreachable
            | FailureKind::Dns
            | FailureKind::ConnectTimeout
            | FailureKind::TlsHandshake
            | FailureKind::StaleConnection
            | FailureKind::ClosedBeforeHead
            | FailureKind::StreamDied
            | FailureKind::Stalled
            | FailureKind::OutOfDescriptors
            | FailureKind::Malformed => local(503, "overloaded_error", wait),
            FailureKind::HeadTimeout => local(504, "timeout_error", wait),
            FailureKind::WrongContent | FailureKind::BadHead => local(502, "api_error", wait),
            FailureKind::SpendCap if relayable(failure) => relay(None, true),
            FailureKind::BareRateLimit
            | FailureKind::ModelNotFound
            | FailureKind::ProviderBound
            | FailureKind::BadRequest
            | FailureKind::TooLarge
            | FailureKind::Refused
            | FailureKind::ContentPolicy
            | FailureKind::ResourceNotFound
                if relayable(failure) =>
            {
                relay(None, false)
            }
            FailureKind::SpendCap
            | FailureKind::BareRateLimit
            | FailureKind::ModelNotFound
            | FailureKind::ProviderBound
            | FailureKind::BadRequest
            | FailureKind::TooLarge
            | FailureKind::Refused
            | FailureKind::ContentPolicy
            | FailureKind::ResourceNotFound
            | FailureKind::Misconfigured
            | FailureKind::Unauthorized
            | FailureKind::Forbidden
            | FailureKind::Billing
            | FailureKind::TlsCertificate
            | FailureKind::Redirect
            | FailureKind::NoCredential
            | FailureKind::CannotReplay => Answer::Local(EXPLAIN),
        }
    }

    /// Seconds until the first profile may be asked again, in the range that the client waits out, and a little apart for several clients.
    fn seconds_to_next(&self, now: Instant, at: &Surroundings<'_>) -> u32 {
        // In a long outage only a trial now and then is made: whoever comes sooner has spent one of the client's ten tries for nothing.
        let wait = self.time_to_next(now, at).max(at.world.health.in_panic_for(now));
        let apart = WAIT_JITTER.min(wait / 4).mul_f64(at.dice.clamp(0.0, 1.0));
        let rounded = (wait + apart).min(CLIENT_WAIT).as_millis().div_ceil(1000);
        u32::try_from(rounded).unwrap_or(1).clamp(1, 59)
    }

    /// Time until the first profile may be asked again.
    pub(super) fn time_to_next(&self, now: Instant, at: &Surroundings<'_>) -> Duration {
        if let Some(offline) = at.world.health.offline_for(now) {
            return offline;
        }
        if let Some(wait) = self.soonest_return(now, at) {
            return wait;
        }
        let asked = self.asked.iter().map(|candidate| candidate.profile);
        let waiting = self.queue.iter().map(|candidate| candidate.profile);
        let skipped = self.plan.skipped.iter().filter(|skipped| matches!(skipped.reason, SkipReason::Cooling { .. }));
        let profiles = asked.chain(waiting).chain(skipped.map(|skipped| skipped.profile));
        at.world.health.soonest(now, profiles, self.facts.family(), self.facts.own_credential).unwrap_or_default()
    }
}

/// Whether this is what the client's own login was refused with: the client arms its continue-at-reset or its renewal on it, and no words of
/// ours are worth more.
fn is_a_login_s_own_word(failure: &Failure, client_login: bool) -> bool {
    client_login && relayable(failure) && matches!(failure.kind, FailureKind::QuotaExhausted | FailureKind::Unauthorized)
}

/// Whether the cause goes away with time alone.
fn waiting_helps(kind: FailureKind) -> bool {
    match kind {
        FailureKind::StaleConnection
        | FailureKind::ConnectRefused
        | FailureKind::Unreachable
        | FailureKind::Dns
        | FailureKind::ConnectTimeout
        | FailureKind::TlsHandshake
        | FailureKind::ClosedBeforeHead
        | FailureKind::BadHead
        | FailureKind::HeadTimeout
        | FailureKind::ServerError
        | FailureKind::BadGateway
        | FailureKind::Overloaded
        | FailureKind::Throttled
        | FailureKind::QuotaExhausted
        | FailureKind::WrongContent
        | FailureKind::StreamDied
        | FailureKind::Stalled
        | FailureKind::OutOfDescriptors
        | FailureKind::Malformed => true,
        FailureKind::TlsCertificate
        | FailureKind::BareRateLimit
        | FailureKind::SpendCap
        | FailureKind::Unauthorized
        | FailureKind::Forbidden
        | FailureKind::Billing
        | FailureKind::ModelNotFound
        | FailureKind::ProviderBound
        | FailureKind::BadRequest
        | FailureKind::TooLarge
        | FailureKind::Refused
        | FailureKind::Misconfigured
        | FailureKind::ContentPolicy
        | FailureKind::ResourceNotFound
        | FailureKind::Redirect
        | FailureKind::NoCredential
        | FailureKind::CannotReplay => false,
    }
}

/// Whether the client must hear this very failure: it is about what it has sent.
fn blames_the_request(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::BadRequest
            | FailureKind::TooLarge
            | FailureKind::ProviderBound
            | FailureKind::Refused
            | FailureKind::ContentPolicy
            | FailureKind::ResourceNotFound
            | FailureKind::BareRateLimit
    )
}

/// Whether there is an upstream's answer that may be passed on: a real one, with a status, and no redirect.
pub(super) fn relayable(failure: &Failure) -> bool {
    failure.status.is_some()
        && failure.stage == Stage::Head
        && !matches!(failure.kind, FailureKind::Redirect | FailureKind::WrongContent | FailureKind::BadHead)
}
