//! Holds every default number of the product in plain data. Never decides anything by itself.
//!
//! The numbers come from the product's failover design; where one was measured against the real client, its comment says so.

use std::time::Duration;

use crate::failure::{Failure, FailureKind};
use crate::hook::Gates;

/// The separate time limits of one attempt. Each is armed on its own; none of them is a total.
///
/// All lie below the 300 s after which Claude Code itself gives up on a silent stream (measured, 2.1.330).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// DNS and TCP: from the first look-up to an open socket.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// From the request sent to the answer's status line and headers.
    pub head: Duration,
    /// From the head to the first content block of a stream.
    pub first_content: Duration,
    /// Between any two bytes of an answer; pings count.
    pub bytes_idle: Duration,
    /// Between two events that carry content; pings do not count.
    pub content_idle: Duration,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(10),
            head: Duration::from_secs(60),
            first_content: Duration::from_secs(120),
            bytes_idle: Duration::from_secs(120),
            content_idle: Duration::from_secs(240),
        }
    }
}

impl Clocks {
    /// The clocks of a profile without a spare: the client's own patience ends the wait, as it would without a proxy. Limits that differ from
    /// the defaults were named by the user and stay; `fits_head` is true if the head's was not.
    #[must_use]
    pub fn as_patient_as_the_client(self, fits_head: bool) -> Self {
        let usual = Self::default();
        let patient = |own: Duration, usual: Duration| if own == usual { CLIENT_SILENCE } else { own };
        Self {
            head: if fits_head { CLIENT_PATIENCE } else { self.head },
            first_content: patient(self.first_content, usual.first_content),
            bytes_idle: patient(self.bytes_idle, usual.bytes_idle),
            content_idle: patient(self.content_idle, usual.content_idle),
            ..self
        }
    }

    /// These clocks with every limit that `over` names put in place of its own.
    #[must_use]
    pub fn overridden(self, over: &ClockOverrides) -> Self {
        Self {
            connect: over.connect.unwrap_or(self.connect),
            tls: over.tls.unwrap_or(self.tls),
            head: over.head.unwrap_or(self.head),
            first_content: over.first_content.unwrap_or(self.first_content),
            bytes_idle: over.bytes_idle.unwrap_or(self.bytes_idle),
            content_idle: over.content_idle.unwrap_or(self.content_idle),
        }
    }
}

/// The clocks that a policy or a profile names; the rest stay as they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockOverrides {
    /// See [`Clocks::connect`].
    pub connect: Option<Duration>,
    /// See [`Clocks::tls`].
    pub tls: Option<Duration>,
    /// See [`Clocks::head`].
    pub head: Option<Duration>,
    /// See [`Clocks::first_content`].
    pub first_content: Option<Duration>,
    /// See [`Clocks::bytes_idle`].
    pub bytes_idle: Option<Duration>,
    /// See [`Clocks::content_idle`].
    pub content_idle: Option<Duration>,
}

/// What may break a stream that the client has begun to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MidStream {
    /// The ending fits the position and the client (see [`crate::commitment::repair`]).
    #[default]
    Auto,
    /// Always truncate.
    Cut,
}

/// What the client hears when no profile is left and waiting may help.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnExhausted {
    /// 503 with a `retry-after` that the client waits out (1 to 59 s).
    #[default]
    Wait,
    /// The answer begins at once and is kept alive until a profile recovers, at most [`HOLD_OPEN`]; then it is cut, and the client asks
    /// again. For work that nobody watches. A request for a whole answer is told to wait instead.
    Hold,
    /// 424 at once, with one line for each profile.
    Fail,
}

/// What happens to an offer of slower service at an account's 5-hour limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SlowService {
    /// `status` and the notice name it, and the next profile answers.
    #[default]
    Name,
    /// The client that can take it gets the refusal with the offer, and the user decides. Any other request goes on.
    Prefer,
}

/// When a session goes home to a better profile that is well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failback {
    /// Good answers that close an open circuit breaker.
    pub after_good: u32,
    /// Shortest time that a session stays where it went.
    pub min_stay: Duration,
    /// What a session waits for.
    pub at: FailbackAt,
}

/// What a session waits for before it goes home.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailbackAt {
    /// A turn's beginning at which going home costs no warm prompt cache: home's is still warm, or the other's is cold too.
    #[default]
    ColdCache,
    /// The next turn.
    Turn,
    /// `hotspare switch` or `reset`.
    Manual,
}

impl Default for Failback {
    fn default() -> Self {
        Self { after_good: 2, min_stay: Duration::from_secs(120), at: FailbackAt::ColdCache }
    }
}

/// Which failures with an HTTP status start a failover. Failures without one always do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggers {
    statuses: Vec<Range>,
    names: Vec<TriggerName>,
    /// True for the default list: it also lets pass the 4xx that have no entry of their own.
    unlisted: bool,
}

/// Inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    from: u16,
    to: u16,
}

/// Claude Code's own words for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerName {
    /// 429 of any kind.
    RateLimit,
    /// 529.
    Overloaded,
    /// 401 and 403.
    AuthenticationFailed,
    /// 402, and a 400 that says the credit or the spend limit is used up.
    BillingError,
    /// A 404 for the model.
    ModelNotFound,
    /// Any 5xx but 529, which has its own word.
    ServerError,
}

impl TriggerName {
    /// The word as it stands in configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::AuthenticationFailed => "authentication_failed",
            Self::BillingError => "billing_error",
            Self::ModelNotFound => "model_not_found",
            Self::ServerError => "server_error",
        }
    }

    /// Every name.
    pub const ALL: [Self; 6] =
        [Self::RateLimit, Self::Overloaded, Self::AuthenticationFailed, Self::BillingError, Self::ModelNotFound, Self::ServerError];
}

impl Default for Triggers {
    /// 5xx, 408, 429, 401, 402, 403, billing and model-not-found, and every 4xx whose failure kind goes on to the next profile.
    fn default() -> Self {
        let mut triggers = Self { unlisted: true, ..Self::none() };
        triggers.add_range(500, 599);
        for status in [401, 402, 403, 408, 429] {
            triggers.add_status(status);
        }
        triggers.add_name(TriggerName::BillingError);
        triggers.add_name(TriggerName::ModelNotFound);
        triggers
    }
}

impl Triggers {
    /// No status triggers anything.
    pub fn none() -> Self {
        Self { statuses: Vec::new(), names: Vec::new(), unlisted: false }
    }

    /// Adds one status.
    pub fn add_status(&mut self, status: u16) {
        self.add_range(status, status);
    }

    /// Adds an inclusive range of statuses.
    pub fn add_range(&mut self, from: u16, to: u16) {
        self.statuses.push(Range { from, to });
    }

    /// Adds a named kind of error.
    pub fn add_name(&mut self, name: TriggerName) {
        self.names.push(name);
    }

    /// Whether 529 is covered, as a number or as `overloaded`.
    pub fn covers_overload(&self) -> bool {
        self.has_status(529) || self.names.contains(&TriggerName::Overloaded)
    }

    /// Whether this failure may go on to the next profile.
    pub fn fire(&self, failure: &Failure, from_primary: bool) -> bool {
        let Some(status) = failure.trigger_status(from_primary) else {
            return true;
        };
        let unlisted = self.unlisted && (400..500).contains(&status);
        unlisted || self.has_status(status) || self.names.iter().any(|name| names(*name, failure.kind, status))
    }

    fn has_status(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| (range.from..=range.to).contains(&status))
    }
}

/// Providers send one thing under many statuses (z.ai's balance is a 429, MiniMax's a 500), so a name also means the kind.
fn names(name: TriggerName, kind: FailureKind, status: u16) -> bool {
    use FailureKind as Kind;
    match name {
        TriggerName::RateLimit => {
            status == 429 || matches!(kind, Kind::Throttled | Kind::QuotaExhausted | Kind::BareRateLimit | Kind::SpendCap)
        }
        TriggerName::Overloaded => status == 529 || kind == Kind::Overloaded,
        TriggerName::AuthenticationFailed => status == 401 || status == 403 || matches!(kind, Kind::Unauthorized | Kind::Forbidden),
        TriggerName::BillingError => matches!(kind, Kind::Billing | Kind::SpendCap),
        TriggerName::ModelNotFound => kind == Kind::ModelNotFound,
        TriggerName::ServerError => (500..600).contains(&status) && status != 529,
    }
}

/// Everything an exchange must know about the user's wishes. One value, fixed for the exchange's whole life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Off: the primary alone is asked and its answers are relayed.
    pub enabled: bool,
    /// Which statuses start a failover.
    pub triggers: Triggers,
    /// Further profiles per request, 0 to [`MAX_HOPS`].
    pub max_hops: usize,
    /// How a broken stream may end.
    pub mid_stream: MidStream,
    /// What the client hears when nothing is left.
    pub on_exhausted: OnExhausted,
    /// What happens to an offer of slower service.
    pub slow_service: SlowService,
    /// The policy's clocks; a profile may override them.
    pub clocks: Clocks,
    /// Whether the user named the `head` clock: then it is not fitted to what was measured.
    pub head_is_named: bool,
    /// When a session goes home.
    pub failback: Failback,
    /// Whether a slow start may be raced by the next profile. Each race is billed twice.
    pub hedge: bool,
    /// What the user's hooks want to be asked before.
    pub gates: Gates,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: true,
            triggers: Triggers::default(),
            max_hops: MAX_HOPS,
            mid_stream: MidStream::Auto,
            on_exhausted: OnExhausted::Wait,
            slow_service: SlowService::Name,
            clocks: Clocks::default(),
            head_is_named: false,
            failback: Failback::default(),
            hedge: false,
            gates: Gates::default(),
        }
    }
}

/// Most further profiles one request may visit.
pub const MAX_HOPS: usize = 3;

/// Most upstream requests for one client request: the first, its hops, one retry in place (invariant I3).
pub const MAX_ATTEMPTS: usize = 4;

/// Most upstream requests for one recognised request over all of the client's own retries.
pub const MAX_ATTEMPTS_PER_KEY: u32 = 12;

/// Longest time a stream's head is held back while no content has come. The client waits 360 s (measured).
pub const HOLD_TIME: Duration = Duration::from_secs(240);

/// Longest from the request's arrival to a head: the client gives up after 360 s (measured), and must hear of it before.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(330);

/// Longest silence of an answer that the client sits through (measured, 2.1.330).
pub const CLIENT_SILENCE: Duration = Duration::from_secs(300);

/// Most by which the waits told to several clients are set apart.
pub const WAIT_JITTER: Duration = Duration::from_secs(5);

/// While an answer is kept open, the profiles are looked at again at least so often.
pub const HOLD_LOOKS: Duration = Duration::from_secs(10);

/// Most bytes of a stream held back before the head is released.
pub const HOLD_BYTES: usize = 256 * 1024;

/// How long a request is remembered so that its retry is recognised.
pub const RETRY_MEMORY: Duration = Duration::from_secs(120);

/// How long a session avoids a profile whose stream died in its hands.
pub const SESSION_DETOUR: Duration = Duration::from_secs(30);

/// The same after a finished thinking block: the client re-tries twice within 0.3 s and must land elsewhere (measured).
pub const SESSION_DETOUR_AFTER_THINKING: Duration = Duration::from_secs(60);

/// Longest detour. One that began with a lost wait lasts twice as long as the wait: the next profile may lose as much time before the client
/// asks a third time, and must not send it back to the first.
pub const DETOUR_CAP: Duration = Duration::from_secs(600);

/// How long a (conversation, profile) pair is skipped after the profile refused the conversation with a 4xx of its own, and how long the
/// primary's refusal of a request stands after a second opinion. Long enough for the client's whole retry schedule (about 200 s,
/// measured, 2.1.330), short enough that a conversation which was compacted meets the profile again.
pub const REFUSAL_TTL: Duration = Duration::from_secs(300);

/// From then on a client that left without content had waited in vain; a shorter wait is a key press.
pub const IMPATIENCE: Duration = Duration::from_secs(5);

/// How long a request avoids a profile that its client gave up on.
pub const IMPATIENCE_DETOUR: Duration = Duration::from_secs(120);

/// Share of the client's own time limit within which an attempt must answer while another profile is left.
pub const PATIENCE_SHARE: f64 = 0.6;

/// Longest that a blocked profile goes without a live request that looks whether it is well again.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(3600);

/// A blocked profile is tried so often at most while no other profile is left.
pub const LAST_RESORT_INTERVAL: Duration = Duration::from_secs(60);

/// Longest that Claude Code keeps retrying when each answer names a wait it accepts: ten retries of [`CLIENT_WAIT`] (measured, 2.1.330).
pub const CLIENT_RETRIES: Duration = Duration::from_secs(9 * 59);

/// Cooldowns after bare 429s to different requests in a row: the second, and every later one.
pub const BARE_LIMIT_COOLDOWNS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(300)];

/// Different conversations for which another profile answered what this one refused, until the profile cools down for all.
pub const OVERRULED_SESSIONS: usize = 2;

/// How long an overruled refusal counts, and how long the profile then cools down.
pub const OVERRULED_TTL: Duration = Duration::from_secs(300);

/// Longest `retry-after` the client waits out; from 61 s on it ends the turn (measured).
pub const CLIENT_WAIT: Duration = Duration::from_secs(59);

/// A 429 whose `retry-after` is at most this long is a throttle, not a used-up window.
pub const SHORT_THROTTLE: Duration = Duration::from_secs(300);

/// Longest reset time or `retry-after` that is believed.
pub const LONGEST_TRUST: Duration = Duration::from_secs(8 * 24 * 3600);

/// Longest cooldown that repeated failures may grow to.
pub const COOLDOWN_CAP: Duration = Duration::from_secs(300);

/// The same while no other profile is usable: a recovered primary must not stay benched (simulated: 60 s finished 308 of
/// 313 turns over a 10 min outage, 300 s only 272).
pub const COOLDOWN_CAP_ALONE: Duration = Duration::from_secs(60);

/// Longest pause before the one retry in place.
pub const RETRY_IN_PLACE_CAP: Duration = Duration::from_millis(250);

/// Hard failures in a row that open a circuit breaker.
pub const BREAKER_FAILURES: u32 = 3;

/// A circuit breaker looks at the rate of good answers over a minute: so many parts of [`BREAKER_BUCKET`], the oldest of which falls out
/// as a whole.
pub const BREAKER_BUCKETS: usize = 10;

/// One part of that minute.
pub const BREAKER_BUCKET: Duration = Duration::from_secs(6);

/// Fewest answers in the window from which a rate is read.
pub const BREAKER_SAMPLES: u32 = 5;

/// How long a circuit breaker stays open the first time; it doubles with each time after that.
pub const BREAKER_OPEN: Duration = Duration::from_secs(15);

/// Closed for so long, a circuit breaker forgets how often it has opened.
pub const BREAKER_FORGETS: Duration = Duration::from_secs(600);

/// A trial that says nothing for so long is taken for lost, and another may be made.
pub const TRIAL_TIME: Duration = Duration::from_secs(240);

/// A profile that came back takes a growing share of the sessions over so long.
pub const RAMP_TIME: Duration = Duration::from_secs(60);

/// The share it begins with.
pub const RAMP_START: f64 = 0.1;

/// While every profile's breaker is open, one request may try the soonest so often …
pub const PANIC_INTERVAL: Duration = Duration::from_secs(5);

/// … for so long. Afterwards the breakers' own trials are all: a total outage must not be hammered (at most 0.2 requests to providers
/// per user and minute; an interval of 5 s without an end would be 0.6 with 20 users).
pub const PANIC_TIME: Duration = Duration::from_secs(30);

/// After that, trials of whichever profile are at least so far apart: their number must not grow with the number of profiles.
pub const PANIC_TRIALS: Duration = Duration::from_secs(30);

/// No request for so long has found everyone unwell: what was known of the outage is out of date.
pub const PANIC_FORGETS: Duration = Duration::from_secs(120);

/// A used-up window is left alone until its reset and up to so much longer, so that not everyone comes back at once.
pub const RESET_JITTER: Duration = Duration::from_secs(30);

/// From this share of a usage window on, new sessions begin elsewhere.
pub const WINDOW_NEARLY_FULL: f64 = 0.98;

/// From this share of a usage window on, the user is told.
pub const WINDOW_WARNING: f64 = 0.9;

/// From this share of a usage window on, nothing is raced there.
pub const WINDOW_HEDGE_LIMIT: f64 = 0.8;

/// Failures of this side at two hosts within so long mean that the network is down.
pub const OFFLINE_WITHIN: Duration = Duration::from_secs(5);

/// While the network is down one request tries it so often at first …
pub const OFFLINE_PROBE_FIRST: Duration = Duration::from_secs(2);

/// … and so often at last.
pub const OFFLINE_PROBE_LAST: Duration = Duration::from_secs(10);

/// The wall clock and the steady clock this far apart mean that the machine slept, or that its clock was set.
pub const CLOCK_JUMP: Duration = Duration::from_secs(30);

/// After a jump of the clock failures say nothing for so long: sockets are dead, the network is coming up.
pub const CLOCK_SETTLES: Duration = Duration::from_secs(10);

/// Life of a prompt cache where the client asks for no other (the provider's documentation).
pub const CACHE_LIFE: Duration = Duration::from_secs(300);

/// Life of a prompt cache where the client asks for the long one: the main conversation of a subscription.
pub const CACHE_LIFE_LONG: Duration = Duration::from_secs(3600);

/// What the retry budget holds at most, and at the start.
pub const BUDGET: f64 = 10.0;

/// What a retry in place costs, and a further hop. The first hop is free: another profile has its own breaker.
pub const BUDGET_STEP: f64 = 1.0;

/// What a race costs.
pub const BUDGET_HEDGE: f64 = 2.0;

/// What a first attempt that answers well puts back.
pub const BUDGET_REFUND: f64 = 0.2;

/// Time in which one step comes back by itself.
pub const BUDGET_FLOOR: Duration = Duration::from_secs(10);

/// Shortest time after which a slow start is raced; the profile's own 95th percentile where that is longer.
pub const HEDGE_DELAY: Duration = Duration::from_secs(10);

/// Most races, as a share of the requests of [`HEDGE_WINDOW`].
pub const HEDGE_SHARE: f64 = 0.05;

/// The time over which races are counted.
pub const HEDGE_WINDOW: Duration = Duration::from_secs(600);

/// Longest that a request waits for the user's word on one retry or move: the longest timeout that a hook may have.
pub const LONGEST_RULING: Duration = Duration::from_secs(30);

/// How often one request asks for the user's word: each move once, and once more for each candidate that is ruled out.
pub const MOST_RULINGS: usize = 8;

/// Longest that an answer is kept open while no profile is usable: the client sits through 600 s of pings once (measured).
pub const HOLD_OPEN: Duration = Duration::from_secs(540);

/// Fewest measured heads from which the `head` clock is fitted: four times their 99th percentile, within 20 to 120 s.
pub const HEAD_SAMPLES: usize = 20;

/// The range of a fitted `head` clock.
pub const HEAD_RANGE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(120));

/// Longest `retry-after` that a lone profile's throttle is waited out in place.
pub const WAIT_IN_PLACE: Duration = Duration::from_secs(2);
