//! Remembers which profiles failed lately, and decides which may be asked. Never sends a probe: a live request is the trial.

mod breaker;
mod latency;
mod network;

use std::collections::HashMap;
use std::time::{Duration, Instant};

pub use breaker::{CircuitBreaker, Permit};
pub use latency::Latency;
pub use network::{ClockWatch, Jump, Network};

use crate::facts::{ModelFamily, SlowRequest};
use crate::failure::{Failure, FailureKind, Grip, Scope, Strike, Verdict};
use crate::policy::{
    BARE_LIMIT_COOLDOWNS, COOLDOWN_CAP, COOLDOWN_CAP_ALONE, LAST_RESORT_INTERVAL, LONGEST_TRUST, LOOK_INTERVAL, OVERRULED_SESSIONS,
    OVERRULED_TTL, PANIC_FORGETS, PANIC_INTERVAL, PANIC_TIME, PANIC_TRIALS, RESET_JITTER,
};
use crate::route::ProfileId;
use crate::window::{LimitReading, UsageWindow, Windows};

/// Whether a profile may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Usable,
    /// One live request may try it.
    Trial,
    /// Not before this instant.
    Cooling {
        /// When it may be asked again.
        until: Instant,
        /// What it failed with.
        because: FailureKind,
        /// How strictly that is meant.
        grip: Grip,
    },
}

impl Standing {
    /// Where a request that asks for slower service stands: it asks for what is left when the usage window is used up.
    #[must_use]
    pub fn for_slow(self, request: SlowRequest, client_login: bool) -> Self {
        let asked = request == SlowRequest::Asked && client_login;
        match self {
            Self::Cooling { because: FailureKind::QuotaExhausted, .. } if asked => Self::Usable,
            standing => standing,
        }
    }
}

/// Doublings after which a bench has surely reached its cap.
const LONGEST_STREAK: u32 = 8;

/// Why a profile, or one model family on it, is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bench {
    since: Instant,
    pub until: Instant,
    pub because: FailureKind,
    pub grip: Grip,
    /// The client's credential that it is about, where that is what was sent: another one is another account.
    credential: Option<u64>,
    /// When a request last tried the profile all the same, or it was blocked.
    looked: Instant,
    /// Whether the provider said when it ends.
    told: bool,
}

impl Bench {
    fn new(now: Instant, time: Duration, because: FailureKind, grip: Grip, credential: Option<u64>) -> Self {
        Self { since: now, until: now + time, because, grip, credential, looked: now, told: false }
    }

    fn holds(&self, now: Instant, credential: Option<u64>) -> bool {
        let about = self.grip < Grip::Hard || self.credential.is_none() || self.credential == credential;
        self.until > now && about
    }

    /// Whether it may be told to a later process: not when another credential would end it, for that is what a restart may bring.
    pub(crate) fn lasts(&self, now: Instant) -> bool {
        self.until > now && self.grip < Grip::Credential && (self.grip < Grip::Hard || self.credential.is_none())
    }

    /// One that was remembered over a restart.
    pub(crate) fn remembered(now: Instant, until: Instant, because: FailureKind, grip: Grip) -> Self {
        Self { since: now, until, because, grip, credential: None, looked: now, told: because == FailureKind::QuotaExhausted }
    }

    /// Whether a usage window is used up until a time that the provider named.
    fn is_used_up(&self) -> bool {
        self.told && self.because == FailureKind::QuotaExhausted
    }

    /// Whether it blocks and no request has looked for [`LOOK_INTERVAL`].
    fn is_look_due(&self, now: Instant) -> bool {
        self.grip >= Grip::Hard && now.saturating_duration_since(self.looked) >= LOOK_INTERVAL
    }

    /// Whether a request without another candidate may try the profile. An end that the provider named is waited for.
    fn is_last_resort(&self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.looked) >= LAST_RESORT_INTERVAL;
        self.grip >= Grip::Hard && due && (!self.told || self.is_look_due(now))
    }
}

/// What a bench and a breaker are about: one model family on a profile; none: all of it.
pub(crate) type About = Option<ModelFamily>;

/// What is known of one profile.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProfileHealth {
    pub benches: HashMap<About, Bench>,
    pub breakers: HashMap<About, CircuitBreaker>,
    pub windows: Windows,
    heads: Latency,
    pub last_failure: Option<(Instant, FailureKind, Box<str>)>,
    /// Soft failures without a good answer between them: too few in a minute for a breaker to see.
    soft_streaks: HashMap<About, u32>,
    last_success: Option<Instant>,
    /// Bare 429s in a row to different requests of a model family.
    bare_limits: HashMap<ModelFamily, BareLimits>,
    /// Conversations that another profile served after this one had refused them.
    overruled: Vec<(Instant, Option<u64>)>,
    /// Clients in a row that left without any content after they had waited.
    given_up: u32,
}

/// Bare 429s in a row, by request: one may be bound to its request, two are a limit of the account.
#[derive(Debug, Clone, Copy, Default)]
struct BareLimits {
    count: usize,
    last: Option<(Instant, Option<u64>)>,
}

impl BareLimits {
    /// Counts one. The cooldown that follows, `None` while it may be bound to the request.
    fn add(&mut self, now: Instant, victim: &Victim) -> Option<Duration> {
        let same = self.last.is_some_and(|(at, request)| {
            let together = victim.asked.is_some_and(|asked| asked < at);
            together || (request.is_some() && request == victim.request)
        });
        self.last = Some((now, victim.request));
        if !same {
            self.count += 1;
        }
        let step = self.count.checked_sub(2)?.min(BARE_LIMIT_COOLDOWNS.len() - 1);
        BARE_LIMIT_COOLDOWNS.get(step).copied()
    }
}

/// What is known of every profile, and of this machine's network.
#[derive(Debug, Clone, Default)]
pub struct Health {
    pub(crate) profiles: HashMap<ProfileId, ProfileHealth>,
    network: Network,
    panic: Option<Panic>,
}

/// Nobody is well.
#[derive(Debug, Clone, Copy)]
struct Panic {
    since: Instant,
    /// When a request last tried all the same.
    admitted: Option<Instant>,
    /// When a request last found nobody well.
    seen: Instant,
}

/// What a failure happened to.
#[derive(Debug, Clone, Copy)]
pub struct Victim {
    /// The profile.
    pub profile: ProfileId,
    /// The model family it was asked for.
    pub family: ModelFamily,
    /// The client's own credential, where that is what was sent.
    pub credential: Option<u64>,
    /// The host, where it is not this machine.
    pub host: Option<u64>,
    /// Whether any other profile could serve: alone, nothing is benched for long.
    pub another_usable: bool,
    /// When the request went out; none where that is not known.
    pub asked: Option<Instant>,
    /// The request's key, `None` if it is not known.
    pub request: Option<u64>,
}

/// One profile's state, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The longest bench that holds now.
    pub bench: Option<BenchReport>,
    /// Good trials so far of a breaker that waits for more.
    pub half_open: Option<u32>,
    /// The last failure's words.
    pub last_failure: Option<(Instant, Box<str>)>,
    /// When it last answered well.
    pub last_success: Option<Instant>,
    /// Time to the head, 50th and 95th percentile.
    pub head: Option<(Duration, Duration)>,
    /// Its usage windows.
    pub windows: Vec<UsageWindow>,
    /// Clients in a row that gave up on it before any content came.
    pub given_up: u32,
}

impl Report {
    /// Whether anything keeps requests from it, be it that one may try it.
    pub fn is_held(&self) -> bool {
        self.bench.is_some() || self.half_open.is_some()
    }
}

/// Why a profile is not asked, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchReport {
    /// When it may be asked again.
    pub until: Instant,
    /// What it failed with.
    pub because: FailureKind,
    /// The model family it is about; none: all of them.
    pub family: Option<ModelFamily>,
    /// Waiting alone may not help.
    pub hard: bool,
    /// It is the circuit breaker that keeps it.
    pub open: bool,
    /// When the next live request may look whether it is well again; before `until` for a blocked profile.
    pub next_look: Instant,
}

impl Health {
    /// Whether the profile may be asked for this model family, by a client with this credential of its own.
    pub fn standing(&self, now: Instant, profile: ProfileId, family: ModelFamily, credential: Option<u64>) -> Standing {
        let Some(health) = self.profiles.get(&profile) else {
            return Standing::Usable;
        };
        let scopes = [None, Some(family)];
        let mut look = false;
        let benches = health.holding(now, family, credential).filter(|bench| {
            look |= bench.is_look_due(now);
            !bench.is_look_due(now)
        });
        let benches: Vec<_> = benches.map(|bench| (bench.grip, bench.until, bench.because)).collect();
        let permits: Vec<Permit> =
            scopes.iter().filter_map(|about| health.breakers.get(about)).map(|breaker| breaker.permit(now)).collect();
        let open = permits.iter().filter_map(|permit| match permit {
            Permit::Denied(until) => Some((Grip::Firm, *until, health.last_kind())),
            Permit::Pass | Permit::Trial => None,
        });
        match benches.into_iter().chain(open).max() {
            Some((grip, until, because)) => Standing::Cooling { until, because, grip },
            None if look || permits.contains(&Permit::Trial) => Standing::Trial,
            None => Standing::Usable,
        }
    }

    /// Whether the profile is blocked and no request has looked for an hour whether it still has to be.
    pub fn is_look_due(&self, now: Instant, profile: ProfileId, family: ModelFamily, credential: Option<u64>) -> bool {
        let health = self.profiles.get(&profile);
        health.is_some_and(|health| health.holding(now, family, credential).any(|bench| bench.is_look_due(now)))
    }

    /// Whether waiting alone may not help the profile, for any model family.
    pub fn is_blocked(&self, now: Instant, profile: ProfileId) -> bool {
        let blocks = |bench: &Bench| bench.grip >= Grip::Hard && bench.until > now;
        self.profiles.get(&profile).is_some_and(|health| health.benches.values().any(blocks))
    }

    /// Whether a blocked profile may be tried by a request that has no other candidate left.
    pub fn is_last_resort(&self, now: Instant, profile: ProfileId, family: ModelFamily, credential: Option<u64>) -> bool {
        let Some(health) = self.profiles.get(&profile) else { return false };
        let mut blocks = health.holding(now, family, credential).filter(|bench| bench.grip >= Grip::Hard);
        blocks.all(|bench| bench.is_last_resort(now))
    }

    /// Records that a request goes out to the profile: the probe of a half-open breaker, the look at a blocked profile.
    pub fn begin(&mut self, now: Instant, profile: ProfileId, family: ModelFamily) {
        self.each_breaker(profile, family, |breaker| breaker.begin_trial(now));
        if let Some(health) = self.profiles.get_mut(&profile) {
            for about in [None, Some(family)] {
                if let Some(bench) = health.benches.get_mut(&about) {
                    bench.looked = now;
                }
            }
        }
    }

    /// Records that another profile served a conversation which this one had refused with unknown words. After
    /// [`OVERRULED_SESSIONS`] conversations the refusal is not about them, and the profile cools down.
    pub fn on_overruled(&mut self, now: Instant, profile: ProfileId, session: Option<u64>) {
        let health = self.profiles.entry(profile).or_default();
        health.overruled.retain(|(at, other)| now.saturating_duration_since(*at) < OVERRULED_TTL && *other != session);
        health.overruled.push((now, session));
        if health.overruled.len() >= OVERRULED_SESSIONS {
            health.overruled.clear();
            health.bench(now, None, Bench::new(now, OVERRULED_TTL, FailureKind::Refused, Grip::Loose, None));
        }
    }

    /// Records that a client gave up on the profile before any content came. Moves no request but the client's own.
    pub fn on_given_up(&mut self, profile: ProfileId) {
        let health = self.profiles.entry(profile).or_default();
        health.given_up = health.given_up.saturating_add(1);
    }

    /// The request ended without a word on the profile.
    pub fn abandon(&mut self, profile: ProfileId, family: ModelFamily) {
        self.each_breaker(profile, family, CircuitBreaker::abandon_trial);
    }

    fn each_breaker(&mut self, profile: ProfileId, family: ModelFamily, act: impl Fn(&mut CircuitBreaker)) {
        if let Some(health) = self.profiles.get_mut(&profile) {
            for about in [None, Some(family)] {
                if let Some(breaker) = health.breakers.get_mut(&about) {
                    act(breaker);
                }
            }
        }
    }

    /// Takes note of a failure. `dice` is in `0.0..1.0`.
    pub fn on_failure(&mut self, now: Instant, victim: &Victim, failure: &Failure, dice: f64) {
        let mut verdict = failure.verdict();
        if failure.kind == FailureKind::BareRateLimit {
            let cooldown = self.profiles.entry(victim.profile).or_default().bare_limits.entry(victim.family).or_default().add(now, victim);
            verdict.bench = cooldown.map(|time| (time, Grip::Loose));
            verdict.scope = if cooldown.is_some() { Scope::Family } else { verdict.scope };
        }
        if verdict == Verdict::NEUTRAL || self.is_not_to_blame(now, victim, failure, &verdict) {
            return self.abandon(victim.profile, victim.family);
        }
        let about = match verdict.scope {
            Scope::Profile => None,
            Scope::Family => Some(victim.family),
        };
        let cap = if victim.another_usable { COOLDOWN_CAP } else { COOLDOWN_CAP_ALONE };
        let health = self.profiles.entry(victim.profile).or_default();
        health.last_failure = Some((now, failure.kind, failure.detail.clone()));
        if let Some((time, grip)) = verdict.bench {
            let repeated = if verdict.strike == Strike::Soft { health.soft_streak(about, victim.asked) } else { 0 };
            // What repeats is no guess any more.
            let grip = if repeated > 0 && grip == Grip::Loose { Grip::Firm } else { grip };
            let time = bench_time(time.saturating_mul(1 << repeated), grip, failure.kind, cap, dice);
            let bench = Bench { told: failure.retry_after.is_some(), ..Bench::new(now, time, failure.kind, grip, victim.credential) };
            health.bench(now, about, bench);
        }
        // A trial ends with any failure that speaks against the profile, a soft one too.
        for scope in [None, Some(victim.family)] {
            if let Some(breaker) = health.breakers.get_mut(&scope)
                && breaker.half_open().is_some()
            {
                breaker.on_failure(now, Strike::Hard, cap, dice);
            } else if scope == about {
                health.breakers.entry(scope).or_default().on_failure(now, verdict.strike, cap, dice);
            }
        }
        if !victim.another_usable {
            self.shorten_all(now);
        }
    }

    /// Whether the failure says nothing about the provider: the network is down, or time has just jumped.
    fn is_not_to_blame(&mut self, now: Instant, victim: &Victim, failure: &Failure, verdict: &Verdict) -> bool {
        if let Some(host) = victim.host {
            if failure.is_local_origin() {
                if self.network.on_local_failure(now, host) {
                    self.forgive_local_failures();
                }
            } else if failure.status.is_some() {
                self.network.on_contact();
            }
        }
        let grave = verdict.bench.is_some_and(|(_, grip)| grip >= Grip::Hard);
        !grave && (self.network.is_settling(now) || (victim.host.is_some() && self.network.is_down()))
    }

    /// What looked like dead providers was our own network.
    fn forgive_local_failures(&mut self) {
        let local = |kind| matches!(kind, FailureKind::Dns | FailureKind::Unreachable | FailureKind::ConnectRefused);
        for health in self.profiles.values_mut() {
            health.benches.retain(|_, bench| !local(bench.because));
            if local(health.last_kind()) {
                health.breakers.remove(&None);
            }
        }
    }

    /// With nobody else usable no breaker may stay open for longer than the short cap: a recovered profile must not stay benched.
    fn shorten_all(&mut self, now: Instant) {
        for breaker in self.profiles.values_mut().flat_map(|health| health.breakers.values_mut()) {
            breaker.shorten(now, COOLDOWN_CAP_ALONE);
        }
    }

    /// Takes note of a whole, good answer to a request that went out at `sent`: whatever benched the profile or the family before is over.
    /// `after_good` such answers close an open breaker.
    pub fn on_success(&mut self, now: Instant, profile: ProfileId, family: ModelFamily, sent: Instant, after_good: u32) {
        self.panic = None;
        let health = self.profiles.entry(profile).or_default();
        health.last_success = Some(now);
        health.soft_streaks.clear();
        health.bare_limits.remove(&family);
        health.given_up = 0;
        for about in [None, Some(family)] {
            // What was learned after the request went out is newer than its answer.
            if health.benches.get(&about).is_some_and(|bench| bench.since <= sent) {
                health.benches.remove(&about);
            }
            health.breakers.entry(about).or_default().on_success(now, after_good);
        }
    }

    /// An answer's head came, so long after the request went out.
    pub fn on_head(&mut self, profile: ProfileId, host: Option<u64>, took: Duration) {
        if host.is_some() {
            self.network.on_contact();
        }
        self.profiles.entry(profile).or_default().heads.add(took);
    }

    /// Takes note of what an answer said of limits. An account over its limit is not asked by the next request, also where this one was
    /// still answered (paid overage).
    pub fn on_limits(&mut self, now: Instant, victim: &Victim, reading: &LimitReading, dice: f64) {
        let health = self.profiles.entry(victim.profile).or_default();
        health.windows.note(now, reading);
        if !reading.rejected {
            return;
        }
        let because = FailureKind::QuotaExhausted;
        let time = bench_time(reading.resets_in.unwrap_or(COOLDOWN_CAP), Grip::Hard, because, COOLDOWN_CAP, dice);
        let told = reading.resets_in.is_some();
        let bench = Bench { told, ..Bench::new(now, time, because, Grip::Hard, victim.credential) };
        health.bench(now, reading.family_only.then_some(victim.family), bench);
        health.last_failure = Some((now, because, "usage limit reached".into()));
    }

    /// The used part of the fullest usage window that counts.
    pub fn window_used(&self, now: Instant, profile: ProfileId, family: ModelFamily) -> f64 {
        self.profiles.get(&profile).map_or(0.0, |health| health.windows.used(now, family))
    }

    /// How long a head may take, fitted to what was measured.
    pub fn head_clock(&self, profile: ProfileId, given: Duration) -> Duration {
        self.profiles.get(&profile).map_or(given, |health| health.heads.head_clock(given))
    }

    /// How long a start may take before it is raced.
    pub fn hedge_delay(&self, profile: ProfileId) -> Duration {
        self.profiles.get(&profile).map_or_else(|| Latency::default().hedge_delay(), |health| health.heads.hedge_delay())
    }

    /// The share of sessions that may come back to the profile now.
    pub fn ramp(&self, now: Instant, profile: ProfileId) -> f64 {
        let health = self.profiles.get(&profile);
        health.and_then(|health| health.breakers.get(&None)).map_or(1.0, |breaker| breaker.ramp(now))
    }

    /// Nobody is well: whether this request may try one all the same. Asking takes the place of the one that may.
    pub fn admit_panic(&mut self, now: Instant) -> bool {
        let known = self.panic.filter(|panic| now.saturating_duration_since(panic.seen) < PANIC_FORGETS);
        let panic = self.panic.insert(known.unwrap_or(Panic { since: now, admitted: None, seen: now }));
        panic.seen = now;
        let early = now.saturating_duration_since(panic.since) < PANIC_TIME;
        let due = panic.admitted.is_none_or(|at| early && now.saturating_duration_since(at) >= PANIC_INTERVAL);
        if due {
            panic.admitted = Some(now);
        }
        due
    }

    /// Nobody is well, but some may be tried: whether this request may. Asking takes the place of the one that may.
    pub fn admit_trial(&mut self, now: Instant) -> bool {
        let Some(panic) = &mut self.panic else { return true };
        let early = now.saturating_duration_since(panic.since) < PANIC_TIME;
        let due = early || panic.admitted.is_none_or(|at| now.saturating_duration_since(at) >= PANIC_TRIALS);
        panic.seen = now;
        if due {
            panic.admitted = Some(now);
        }
        due
    }

    /// How long nobody has been well.
    pub fn in_panic_for(&self, now: Instant) -> Duration {
        let known = self.panic.filter(|panic| now.saturating_duration_since(panic.seen) < PANIC_FORGETS);
        known.map_or(Duration::ZERO, |panic| now.saturating_duration_since(panic.since))
    }

    /// This machine's network.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Time until the network is tried again, while it is down.
    pub fn offline_for(&self, now: Instant) -> Option<Duration> {
        self.network.next_probe_in(now)
    }

    /// The clock jumped. Time that passed unseen has passed for every wait too.
    pub fn on_jump(&mut self, now: Instant, jump: Jump) {
        self.network.on_jump(now);
        let Jump::Forward(by) = jump else { return };
        for health in self.profiles.values_mut() {
            for bench in health.benches.values_mut() {
                bench.until = bench.until.checked_sub(by).unwrap_or(bench.until);
                bench.looked = bench.looked.checked_sub(by).unwrap_or(bench.looked);
            }
            health.breakers.values_mut().for_each(|breaker| breaker.shift_back(by));
            health.windows.shift_back(by);
        }
    }

    /// Clears cooldowns, blocks and breakers of one profile, or of all: `hotspare reset`. A usage window stays as the provider named it, and
    /// so does the block of one that is used up: only time, or another account, ends it.
    pub fn reset(&mut self, profile: Option<ProfileId>) {
        self.panic = None;
        for (id, health) in &mut self.profiles {
            if profile.is_none_or(|only| only == *id) {
                health.benches.retain(|_, bench| bench.is_used_up());
                health.breakers.clear();
                health.soft_streaks.clear();
                health.bare_limits.clear();
                health.overruled.clear();
                health.given_up = 0;
            }
        }
    }

    /// Forgets all that keeps requests from a profile, usage windows too: its credential has changed, so it may be another account.
    pub fn on_new_credential(&mut self, profile: ProfileId) {
        self.reset(Some(profile));
        if let Some(health) = self.profiles.get_mut(&profile) {
            health.benches.clear();
            health.windows = Windows::default();
        }
    }

    /// When the first of these profiles may be asked again; none when one may be asked now.
    pub fn soonest(
        &self,
        now: Instant,
        profiles: impl Iterator<Item = ProfileId>,
        family: ModelFamily,
        credential: Option<u64>,
    ) -> Option<Duration> {
        let mut soonest: Option<Duration> = None;
        for profile in profiles {
            let wait = match self.standing(now, profile, family, credential) {
                Standing::Usable | Standing::Trial => return None,
                Standing::Cooling { until, .. } => until.duration_since(now),
            };
            soonest = Some(soonest.map_or(wait, |so_far| so_far.min(wait)));
        }
        soonest
    }

    /// What a profile failed with last, if it ever failed.
    pub fn last_failure(&self, profile: ProfileId) -> Option<FailureKind> {
        self.profiles.get(&profile)?.last_failure.as_ref().map(|(_, kind, _)| *kind)
    }

    /// What is known of a profile, for `status`.
    pub fn report(&self, now: Instant, profile: ProfileId) -> Report {
        let Some(health) = self.profiles.get(&profile) else { return Report::default() };
        let benches = health.benches.iter().filter(|(_, bench)| bench.until > now).map(|(family, bench)| BenchReport {
            until: bench.until,
            because: bench.because,
            family: *family,
            hard: bench.grip >= Grip::Hard,
            open: false,
            next_look: if bench.grip >= Grip::Hard { bench.until.min(bench.looked + LOOK_INTERVAL) } else { bench.until },
        });
        let because = health.last_kind();
        let open = health.breakers.iter().filter_map(|(family, breaker)| {
            let (until, _) = breaker.open_until().filter(|(until, _)| *until > now)?;
            Some(BenchReport { until, because, family: *family, hard: false, open: true, next_look: until })
        });
        Report {
            bench: benches.chain(open).max_by_key(|bench| bench.until),
            half_open: health.breakers.get(&None).and_then(CircuitBreaker::half_open),
            last_failure: health.last_failure.as_ref().map(|(at, _, words)| (*at, words.clone())),
            last_success: health.last_success,
            head: health.heads.percentile(50).zip(health.heads.percentile(95)),
            windows: health.windows.all(now).cloned().collect(),
            given_up: health.given_up,
        }
    }
}

impl ProfileHealth {
    /// The benches that hold now for this family and credential.
    fn holding(&self, now: Instant, family: ModelFamily, credential: Option<u64>) -> impl Iterator<Item = &Bench> {
        let benches = [None, Some(family)].into_iter().filter_map(|about| self.benches.get(&about));
        benches.filter(move |bench| bench.holds(now, credential))
    }

    fn last_kind(&self) -> FailureKind {
        self.last_failure.as_ref().map_or(FailureKind::ServerError, |(_, kind, _)| *kind)
    }

    /// Counts a soft failure; how many came before it without a good answer, as far as that lengthens a bench. Requests that were under way
    /// together have met one and the same.
    fn soft_streak(&mut self, about: About, asked: Option<Instant>) -> u32 {
        let is_the_same = asked.zip(self.benches.get(&about)).is_some_and(|(asked, bench)| asked < bench.since);
        let streak = self.soft_streaks.entry(about).or_default();
        if !is_the_same {
            *streak = streak.saturating_add(1);
        }
        streak.saturating_sub(1).min(LONGEST_STREAK)
    }

    /// A later bench never loosens a stricter one that still holds.
    pub(crate) fn bench(&mut self, now: Instant, about: About, bench: Bench) {
        let stricter = self.benches.get(&about).is_some_and(|old| old.until > now && old.grip > bench.grip);
        if !stricter {
            self.benches.insert(about, bench);
        }
    }
}

/// How long a bench lasts: nothing is benched for more than its cap, and a used-up window a little beyond its reset.
fn bench_time(told: Duration, grip: Grip, kind: FailureKind, cap: Duration, dice: f64) -> Duration {
    match grip {
        Grip::Loose | Grip::Firm => told.min(cap),
        Grip::Hard if kind == FailureKind::QuotaExhausted => (told + RESET_JITTER.mul_f64(dice.clamp(0.0, 1.0))).min(LONGEST_TRUST),
        Grip::Hard | Grip::Credential => told.min(LONGEST_TRUST),
    }
}

#[cfg(test)]
mod tests;
