//! Decides what of a world lasts over a restart, told by the names of profiles and the wall clock, and takes it into another world. Never
//! writes it anywhere, and never lets anything outlive its evidence.
//!
//! What comes back may be old, from a clock that went wrong, or damaged: nothing of it is believed for longer than it could have been
//! learned, and what makes no sense is left out. A bench that is about a client's own credential does not last: whoever comes next may be
//! another account.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::affinity;
use crate::facts::ModelFamily;
use crate::failure::{Failure, FailureKind, Grip, Stage};
use crate::health::Bench;
use crate::pause::Pause;
use crate::policy::{CACHE_LIFE_LONG, COOLDOWN_CAP, LONGEST_TRUST, RESET_JITTER};
use crate::route::ProfileId;
use crate::spend::{Account, Spending};
use crate::window::{UsageWindow, WindowStatus};
use crate::world::{Switch, World};

/// Most sessions that last; those served last go first.
pub const MOST_STAYS: usize = 512;

/// The clocks so far apart have come apart: another program has set the wall clock, or the machine slept.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// A word of the user's without an end is written anew at most so often.
const HOUR_MS: u64 = 3_600_000;

/// Most characters of a failure's words that are believed.
const WORDS_CAP: usize = 200;

/// Most characters of a window's name that are believed.
const WINDOW_NAME_CAP: usize = 32;

/// An open breaker is remembered so long beyond its time, so that the first request after it is still a trial.
const BREAKER_MEMORY: Duration = COOLDOWN_CAP;

/// Times that a breaker is believed to have opened.
const MOST_OPENED: u32 = 16;

/// Most that a window is believed to be used beyond its limit.
const MOST_USED: f64 = 10.0;

/// The present, and what the wall clock says of it. As long as it goes on from one meeting of the two clocks, an instant keeps its time to
/// the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    now: Instant,
    met: Instant,
    met_ms: u64,
}

impl Calendar {
    /// Both clocks meet: the wall clock says so many milliseconds since 1970 (UTC).
    pub fn new(now: Instant, wall_ms: u64) -> Self {
        Self { now, met: now, met_ms: wall_ms }
    }

    /// Time goes on. The clocks meet anew when they have come apart.
    #[must_use]
    pub fn go_on(self, now: Instant, wall_ms: u64) -> Self {
        let on = Self { now, ..self };
        if on.wall_ms().abs_diff(wall_ms) > millis(CLOCKS_APART) { Self::new(now, wall_ms) } else { on }
    }

    /// The present by the wall clock, in milliseconds since 1970 (UTC).
    pub fn wall_ms(&self) -> u64 {
        self.ms(self.now)
    }

    /// What the wall clock says at that instant.
    pub fn ms(&self, at: Instant) -> u64 {
        match at.checked_duration_since(self.met) {
            Some(ahead) => self.met_ms.saturating_add(millis(ahead)),
            None => self.met_ms.saturating_sub(millis(self.met.saturating_duration_since(at))),
        }
    }

    /// The instant at which the wall clock says so, at most `longest` from now; none when it is over.
    fn ahead(&self, ms: u64, longest: Duration) -> Option<Instant> {
        let left = Duration::from_millis(ms.checked_sub(self.wall_ms()).filter(|left| *left > 0)?);
        self.now.checked_add(left.min(longest))
    }

    /// The instant at which the wall clock said so; one that is not over yet is now.
    fn back(&self, ms: u64) -> Instant {
        let ago = Duration::from_millis(self.wall_ms().saturating_sub(ms));
        // A machine that started a moment ago knows no earlier instant.
        self.now.checked_sub(ago).unwrap_or(self.now)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One thing that lasts.
pub trait Entry: Serialize + DeserializeOwned {
    /// The group that it belongs to.
    const KIND: &'static str;

    /// What it is about, unique in its group.
    fn key(&self) -> String;

    /// The profile that it is about.
    fn profile(&self) -> &str;

    /// When it is forgotten, in milliseconds since 1970 (UTC).
    fn ends_at_ms(&self) -> u64;
}

/// A profile, or one model family on it, is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingBench {
    /// Whom it is about.
    pub profile: String,
    /// The model family; none: all of them.
    pub family: Option<ModelFamily>,
    /// What it failed with.
    pub because: FailureKind,
    /// How strictly it is meant.
    pub grip: Grip,
    /// Until when, in milliseconds since 1970 (UTC).
    pub until_ms: u64,
}

/// A circuit breaker that is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingBreaker {
    /// Whom it is about.
    pub profile: String,
    /// The model family; none: all of them.
    pub family: Option<ModelFamily>,
    /// Until when it lets nothing pass, in milliseconds since 1970 (UTC).
    pub until_ms: u64,
    /// How often it has opened.
    pub opened: u32,
}

/// The failure behind a bench or an open breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingFailure {
    /// Who failed.
    pub profile: String,
    /// With what.
    pub because: FailureKind,
    /// The same, for people.
    pub words: String,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// When the last bench or breaker that it stands for is forgotten.
    pub until_ms: u64,
}

/// A usage window that has not begun anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastingWindow {
    /// Whose it is.
    pub profile: String,
    /// Its name.
    pub name: String,
    /// The last status told.
    pub status: WindowStatus,
    /// The used part.
    pub used: f64,
    /// When it begins anew, in milliseconds since 1970 (UTC).
    pub resets_ms: u64,
}

/// A session that has a live prompt cache at a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingStay {
    /// Session and agent, hashed.
    pub session: u64,
    /// Where it is.
    pub profile: String,
    /// Since when, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// When it was last served.
    pub last_used_ms: u64,
    /// Life of its cache.
    pub cache_life_ms: u64,
}

/// What one process has spent of a profile's budget, on one day or in one session. Each process has entries of its own: the sum counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingSpend {
    /// Whose budget it is.
    pub profile: String,
    /// The session, hashed; none: the day.
    pub session: Option<u64>,
    /// When the day began, in milliseconds since 1970 (UTC); 0 for a session.
    pub day_begins_ms: u64,
    /// Who has spent it.
    pub writer: u64,
    /// How much, in millionths of a US dollar.
    pub micro_usd: u64,
    /// When it was last added to.
    pub used_ms: u64,
    /// When it counts no more: the day is over, or nobody remembers the session.
    pub ends_at_ms: u64,
}

/// The user's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingSwitch {
    /// Who is asked first.
    pub profile: String,
    /// Until when, in milliseconds since 1970 (UTC); none: until it is taken back.
    pub until_ms: Option<u64>,
    /// When it is forgotten, unless a gateway still goes by it.
    pub ends_at_ms: u64,
}

impl LastingSwitch {
    /// The user's word at this moment.
    pub fn new(profile: impl Into<String>, until_ms: Option<u64>, wall_ms: u64) -> Self {
        let latest = (wall_ms - wall_ms % HOUR_MS).saturating_add(millis(LONGEST_TRUST));
        let longest = wall_ms.saturating_add(millis(LONGEST_TRUST));
        Self { profile: profile.into(), until_ms, ends_at_ms: until_ms.unwrap_or(latest).min(longest) }
    }
}

/// The user's word that a profile is to be left alone. It has no evidence that could grow old: without an end it lasts until it is taken
/// back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingPause {
    /// Who is left alone.
    pub profile: String,
    /// Until when, in milliseconds since 1970 (UTC); none: until it is taken back.
    pub until_ms: Option<u64>,
    /// Whether it also holds where nobody else is left.
    pub even_last: bool,
}

impl LastingPause {
    fn believed(&self, calendar: Calendar) -> Option<Pause> {
        let until = match self.until_ms {
            None => None,
            Some(until_ms) => Some(calendar.ahead(until_ms, LONGEST_TRUST)?),
        };
        Some(Pause { until, even_last: self.even_last })
    }
}

fn about(profile: &str, family: Option<ModelFamily>) -> String {
    family.map_or_else(|| profile.to_owned(), |family| format!("{profile}/{}", family.word()))
}

impl Entry for LastingBench {
    const KIND: &'static str = "bench";

    fn key(&self) -> String {
        about(&self.profile, self.family)
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.until_ms
    }
}

impl Entry for LastingBreaker {
    const KIND: &'static str = "breaker";

    fn key(&self) -> String {
        about(&self.profile, self.family)
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.until_ms.saturating_add(millis(BREAKER_MEMORY))
    }
}

impl Entry for LastingFailure {
    const KIND: &'static str = "failure";

    fn key(&self) -> String {
        self.profile.clone()
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.until_ms
    }
}

impl Entry for LastingWindow {
    const KIND: &'static str = "window";

    fn key(&self) -> String {
        format!("{}/{}", self.profile, self.name)
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.resets_ms
    }
}

impl Entry for LastingStay {
    const KIND: &'static str = "stay";

    fn key(&self) -> String {
        format!("{:016x}", self.session)
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.last_used_ms.saturating_add(self.cache_life_ms)
    }
}

impl Entry for LastingSpend {
    const KIND: &'static str = "spend";

    fn key(&self) -> String {
        match self.session {
            None => format!("{}/d{}/{:x}", self.profile, self.day_begins_ms, self.writer),
            Some(session) => format!("{}/s{session:016x}/{:x}", self.profile, self.writer),
        }
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.ends_at_ms
    }
}

impl Entry for LastingSwitch {
    const KIND: &'static str = "switch";

    fn key(&self) -> String {
        "switch".to_owned()
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.ends_at_ms
    }
}

impl Entry for LastingPause {
    const KIND: &'static str = "pause";

    fn key(&self) -> String {
        self.profile.clone()
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.until_ms.unwrap_or(u64::MAX)
    }
}

/// Everything that lasts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lasting {
    /// Who is not asked, and why.
    pub benches: Vec<LastingBench>,
    /// Open circuit breakers.
    pub breakers: Vec<LastingBreaker>,
    /// What they failed with.
    pub failures: Vec<LastingFailure>,
    /// Usage windows.
    pub windows: Vec<LastingWindow>,
    /// Where sessions are at home.
    pub stays: Vec<LastingStay>,
    /// What was spent of budgets: told, this process's part alone.
    pub spends: Vec<LastingSpend>,
    /// The user's word.
    pub switch: Option<LastingSwitch>,
    /// Whom the user wants to be left alone.
    pub pauses: Vec<LastingPause>,
}

impl Lasting {
    /// What lasts of a world. A profile without a name does not.
    pub fn of<'a>(world: &World, calendar: Calendar, name: impl Fn(ProfileId) -> Option<&'a str>) -> Self {
        let mut lasting = Self::default();
        for (id, health) in &world.health.profiles {
            let Some(profile) = name(*id) else { continue };
            lasting.add_health(profile, health, calendar);
        }
        lasting.benches.sort_by_key(Entry::key);
        lasting.breakers.sort_by_key(Entry::key);
        lasting.failures.sort_by_key(Entry::key);
        lasting.windows.sort_by_key(Entry::key);
        lasting.add_stays(world, calendar, &name);
        lasting.spends = spends(&world.spending, &name);
        let switched = world.switch.filter(|switch| switch.until.is_none_or(|until| until > calendar.now));
        lasting.switch = switched.and_then(|switch| {
            let until = switch.until.map(|until| calendar.ms(until));
            Some(LastingSwitch::new(name(switch.profile)?, until, calendar.wall_ms()))
        });
        let held = world.pauses.iter().filter(|(_, pause)| pause.holds(calendar.now));
        let pauses = held.filter_map(|(id, pause)| {
            let until_ms = pause.until.map(|until| calendar.ms(until));
            Some(LastingPause { profile: name(*id)?.to_owned(), until_ms, even_last: pause.even_last })
        });
        lasting.pauses = pauses.collect();
        lasting.pauses.sort_by_key(Entry::key);
        lasting
    }

    fn add_health(&mut self, profile: &str, health: &crate::health::ProfileHealth, calendar: Calendar) {
        let mut evidence_ends = 0;
        for (family, bench) in health.benches.iter().filter(|(_, bench)| bench.lasts(calendar.now)) {
            let until_ms = calendar.ms(bench.until);
            let (because, grip) = (bench.because, bench.grip);
            evidence_ends = evidence_ends.max(until_ms);
            self.benches.push(LastingBench { profile: profile.to_owned(), family: *family, because, grip, until_ms });
        }
        for (family, breaker) in &health.breakers {
            let Some((until, opened)) = breaker.lasting(calendar.now) else { continue };
            let entry = LastingBreaker { profile: profile.to_owned(), family: *family, until_ms: calendar.ms(until), opened };
            if entry.ends_at_ms() > calendar.wall_ms() {
                evidence_ends = evidence_ends.max(entry.ends_at_ms());
                self.breakers.push(entry);
            }
        }
        if let Some((at, because, words)) = health.last_failure.as_ref().filter(|_| evidence_ends > 0) {
            self.failures.push(LastingFailure {
                profile: profile.to_owned(),
                because: *because,
                words: words.to_string(),
                at_ms: calendar.ms(*at),
                until_ms: evidence_ends,
            });
        }
        for window in health.windows.all(calendar.now) {
            // One whose end nobody told would never go.
            let Some(resets_at) = window.resets_at else { continue };
            self.windows.push(LastingWindow {
                profile: profile.to_owned(),
                name: window.name.to_string(),
                status: window.status,
                used: window.used,
                resets_ms: calendar.ms(resets_at),
            });
        }
    }

    fn add_stays<'a>(&mut self, world: &World, calendar: Calendar, name: &impl Fn(ProfileId) -> Option<&'a str>) {
        for (session, stay) in world.affinity.sessions(calendar.now) {
            let Some(profile) = name(stay.profile) else { continue };
            self.stays.push(LastingStay {
                session,
                profile: profile.to_owned(),
                since_ms: calendar.ms(stay.since),
                last_used_ms: calendar.ms(stay.last_used),
                cache_life_ms: millis(stay.cache_life),
            });
        }
        self.stays.sort_by_key(|stay| (std::cmp::Reverse(stay.last_used_ms), stay.session));
        self.stays.truncate(MOST_STAYS);
    }

    /// Takes it into a world; what that world has learned itself stands. Profiles that `id` does not know are left out.
    pub fn restore(self, world: &mut World, calendar: Calendar, id: impl Fn(&str) -> Option<ProfileId>) {
        for entry in self.benches {
            let Some((profile, bench)) = id(&entry.profile).zip(believed(&entry, calendar)) else { continue };
            let health = world.health.profiles.entry(profile).or_default();
            health.benches.entry(entry.family).or_insert(bench);
        }
        for entry in self.breakers {
            let alive = calendar.ahead(entry.ends_at_ms(), LONGEST_TRUST).is_some();
            let Some(profile) = id(&entry.profile).filter(|_| alive) else { continue };
            let breaker = world.health.profiles.entry(profile).or_default().breakers.entry(entry.family).or_default();
            if breaker.is_closed() {
                let until = calendar.ahead(entry.until_ms, COOLDOWN_CAP).unwrap_or(calendar.now);
                breaker.restore(until, entry.opened.min(MOST_OPENED));
            }
        }
        for entry in self.failures {
            // Without a bench or a breaker it says nothing.
            let Some(health) = id(&entry.profile).and_then(|profile| world.health.profiles.get_mut(&profile)) else { continue };
            let words: String = entry.words.chars().filter(|char| !char.is_control()).take(WORDS_CAP).collect();
            health.last_failure.get_or_insert((calendar.back(entry.at_ms), entry.because, words.into()));
        }
        for entry in self.windows {
            let Some((profile, window)) = id(&entry.profile).zip(entry.believed(calendar)) else { continue };
            world.health.profiles.entry(profile).or_default().windows.restore(window);
        }
        for entry in self.stays.into_iter().take(MOST_STAYS) {
            let cache_life = Duration::from_millis(entry.cache_life_ms).min(CACHE_LIFE_LONG);
            let last_used = calendar.back(entry.last_used_ms);
            let warm = calendar.now.saturating_duration_since(last_used) < cache_life && entry.ends_at_ms() > calendar.wall_ms();
            let known = world.affinity.stay(calendar.now, Some(entry.session)).is_some();
            if let Some(profile) = id(&entry.profile).filter(|_| warm && !known) {
                let since = calendar.back(entry.since_ms).min(last_used);
                world.affinity.restore(entry.session, affinity::remembered(profile, since, last_used, cache_life));
            }
        }
        hear_of_spending(&mut world.spending, &self.spends, calendar.wall_ms(), &id);
        for entry in self.pauses {
            if let Some((profile, pause)) = id(&entry.profile).zip(entry.believed(calendar)) {
                world.pauses.entry(profile).or_insert(pause);
            }
        }
        if world.switch.is_none()
            && let Some(switch) = self.switch
            && switch.ends_at_ms > calendar.wall_ms()
            && let Some(profile) = id(&switch.profile)
        {
            let until = switch.until_ms.map(|until_ms| calendar.ahead(until_ms, LONGEST_TRUST));
            if until != Some(None) {
                world.switch = Some(Switch { profile, until: until.flatten() });
            }
        }
    }
}

/// What this process has spent of budgets. A profile without a name is left out.
pub fn spends<'a>(spending: &Spending, name: impl Fn(ProfileId) -> Option<&'a str>) -> Vec<LastingSpend> {
    let entry = |profile: ProfileId, session: Option<u64>, account: &Account, ends_at_ms: u64| {
        Some(LastingSpend {
            profile: name(profile).filter(|_| account.own > 0)?.to_owned(),
            session,
            day_begins_ms: spending.day().filter(|_| session.is_none()).map_or(0, |day| day.begins_ms),
            writer: spending.writer,
            micro_usd: account.own,
            used_ms: account.used_ms,
            ends_at_ms,
        })
    };
    let today = spending.day().into_iter().flat_map(|day| {
        let entry = &entry;
        spending.days.iter().filter_map(move |(profile, account)| entry(*profile, None, account, day.ends_ms))
    });
    let sessions = spending.sessions.iter().filter_map(|((profile, session), account)| {
        entry(*profile, Some(*session), account, account.used_ms.saturating_add(millis(LONGEST_TRUST)))
    });
    let mut spends: Vec<LastingSpend> = today.chain(sessions).collect();
    spends.sort_by_key(Entry::key);
    spends
}

/// What others have spent takes the place of what was heard of it before. Another day's counts nothing.
pub fn hear_of_spending(spending: &mut Spending, entries: &[LastingSpend], wall_ms: u64, id: impl Fn(&str) -> Option<ProfileId>) {
    spending.forget_elsewhere();
    let (day, writer) = (spending.day().map(|day| day.begins_ms), spending.writer);
    for entry in entries.iter().filter(|entry| entry.writer != writer && entry.ends_at_ms > wall_ms) {
        let counts = entry.session.is_some() || day == Some(entry.day_begins_ms);
        if let Some(profile) = id(&entry.profile).filter(|_| counts) {
            spending.add_elsewhere(profile, entry.session, entry.micro_usd, entry.used_ms.min(wall_ms));
        }
    }
}

/// The bench that an entry stands for: no stricter and no longer than its kind of failure can bench.
fn believed(entry: &LastingBench, calendar: Calendar) -> Option<Bench> {
    let worst = Failure { retry_after: Some(LONGEST_TRUST), ..Failure::new(entry.because, Stage::Head, "") };
    let (longest, strictest) = match entry.because {
        // What follows from several of them, not from one.
        FailureKind::BareRateLimit | FailureKind::Refused => (COOLDOWN_CAP, Grip::Loose),
        _ => worst.verdict().bench?,
    };
    if entry.grip >= Grip::Credential {
        return None;
    }
    let grip = entry.grip.min(strictest);
    let longest = match grip {
        Grip::Loose | Grip::Firm => longest.min(COOLDOWN_CAP),
        Grip::Hard | Grip::Credential if entry.because == FailureKind::QuotaExhausted => {
            longest.saturating_add(RESET_JITTER).min(LONGEST_TRUST)
        }
        Grip::Hard | Grip::Credential => longest,
    };
    let until = calendar.ahead(entry.until_ms, longest)?;
    Some(Bench::remembered(calendar.now, until, entry.because, grip))
}

impl LastingWindow {
    /// The window that it stands for.
    fn believed(&self, calendar: Calendar) -> Option<UsageWindow> {
        let named = !self.name.is_empty() && self.name.len() <= WINDOW_NAME_CAP && self.name.bytes().all(|byte| byte.is_ascii_graphic());
        let used = Some(self.used).filter(|used| used.is_finite() && named)?.clamp(0.0, MOST_USED);
        let resets_at = Some(calendar.ahead(self.resets_ms, LONGEST_TRUST)?);
        Some(UsageWindow { name: self.name.as_str().into(), status: self.status, used, resets_at })
    }
}

#[cfg(test)]
mod tests;
