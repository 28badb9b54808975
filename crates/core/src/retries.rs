//! Recognises the client's own retries, and keeps a session away from a profile whose stream died in its hands. Never hashes bodies itself.
//!
//! Claude Code marks no retry (its retry counter stays 0, measured), so a request is known by its key: session, path and body.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::failure::FailureKind;
use crate::policy::{MAX_ATTEMPTS_PER_KEY, REFUSAL_TTL, RETRY_MEMORY};
use crate::route::ProfileId;

/// Most sessions and requests remembered; beyond it the oldest are forgotten.
const MOST_ENTRIES: usize = 4096;

/// Most attempts remembered of one request: it may cause no more than [`MAX_ATTEMPTS_PER_KEY`] and those that were under way together.
const MOST_ATTEMPTS: usize = 64;

/// What is remembered of one session or one request.
#[derive(Debug, Clone, Default)]
struct Entry {
    avoid: Vec<(ProfileId, Instant)>,
    /// Profiles that refused it with a 4xx of their own, until when, and with what.
    refused: Vec<(ProfileId, Instant, FailureKind)>,
    /// Until when the primary's refusal of this request stands without another opinion.
    settled: Option<Instant>,
    /// When each upstream request for it began, within [`RETRY_MEMORY`].
    attempts: Vec<Instant>,
    touched: Option<Instant>,
}

/// The profiles that one exchange tries last, or skips.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detours {
    avoid: Vec<(ProfileId, Instant)>,
    refused: Vec<(ProfileId, Instant, FailureKind)>,
}

impl Detours {
    /// Whether this profile failed this session or request a moment ago.
    pub fn avoids(&self, now: Instant, profile: ProfileId) -> bool {
        self.avoid.iter().any(|(avoided, until)| *avoided == profile && *until > now)
    }

    /// What this profile refused this session or request with, and until when it is skipped for it.
    pub fn refused(&self, now: Instant, profile: ProfileId) -> Option<(Instant, FailureKind)> {
        let refusal =
            self.refused.iter().filter(|(refused, until, _)| *refused == profile && *until > now).max_by_key(|(_, until, _)| *until);
        refusal.map(|(_, until, because)| (*until, *because))
    }
}

/// The memory of failed sessions and requests. Keys are hashes; zero knowledge of their content.
#[derive(Debug, Clone, Default)]
pub struct RetryMemory {
    sessions: HashMap<u64, Entry>,
    requests: HashMap<u64, Entry>,
}

impl RetryMemory {
    /// Whether any request is remembered: only then is a request's key worth computing before it is sent.
    pub fn remembers_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// What this session and this request avoid.
    pub fn detours(&self, now: Instant, session: Option<u64>, request: Option<u64>) -> Detours {
        let entries = [session.and_then(|key| self.sessions.get(&key)), request.and_then(|key| self.requests.get(&key))];
        let mut detours = Detours::default();
        for entry in entries.into_iter().flatten() {
            detours.avoid.extend(entry.avoid.iter().filter(|(_, until)| *until > now));
            detours.refused.extend(entry.refused.iter().filter(|(_, until, _)| *until > now));
        }
        detours
    }

    /// Whether the primary's refusal of this request stands: another profile has refused it as well.
    pub fn is_settled(&self, now: Instant, request: Option<u64>) -> bool {
        request.and_then(|key| self.requests.get(&key)).and_then(|entry| entry.settled).is_some_and(|until| until > now)
    }

    /// Records that two profiles refused this request: no further opinion is wanted for [`REFUSAL_TTL`].
    pub fn settle_refusal(&mut self, now: Instant, request: u64) {
        fresh_entry(&mut self.requests, now, request).settled = Some(now + REFUSAL_TTL);
    }

    /// Records that a profile refused this session with a 4xx of its own; it is skipped for it for [`REFUSAL_TTL`].
    pub fn refused_session(&mut self, now: Instant, session: u64, profile: ProfileId, because: FailureKind) {
        refused(&mut self.sessions, now, session, profile, because);
    }

    /// Like [`RetryMemory::refused_session`], for a request without a session.
    pub fn refused_request(&mut self, now: Instant, request: u64, profile: ProfileId, because: FailureKind) {
        refused(&mut self.requests, now, request, profile, because);
    }

    /// How many upstream requests this request may still cause now.
    pub fn attempts_left(&self, now: Instant, request: Option<u64>) -> u32 {
        let used = self.attempts_of(now, request).count();
        MAX_ATTEMPTS_PER_KEY.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// How long until it may cause another.
    pub fn next_attempt_in(&self, now: Instant, request: Option<u64>) -> Duration {
        let oldest = self.attempts_of(now, request).min().filter(|_| self.attempts_left(now, request) == 0);
        oldest.map_or(Duration::ZERO, |at| (at + RETRY_MEMORY).saturating_duration_since(now))
    }

    fn attempts_of(&self, now: Instant, request: Option<u64>) -> impl Iterator<Item = Instant> {
        let entry = request.and_then(|key| self.requests.get(&key));
        let within = move |at: &Instant| now.saturating_duration_since(*at) < RETRY_MEMORY;
        entry.into_iter().flat_map(|entry| entry.attempts.iter().copied()).filter(within)
    }

    /// A profile's stream died in this session's hands.
    pub fn avoid_for_session(&mut self, now: Instant, session: u64, profile: ProfileId, time: Duration) {
        avoid(&mut self.sessions, now, session, profile, time);
    }

    /// A profile failed this request.
    pub fn avoid_for_request(&mut self, now: Instant, request: u64, profile: ProfileId, time: Duration) {
        avoid(&mut self.requests, now, request, profile, time);
    }

    /// An upstream request for it began at `at`.
    pub fn count_attempt(&mut self, now: Instant, request: u64, at: Instant) {
        let entry = fresh_entry(&mut self.requests, now, request);
        entry.attempts.retain(|earlier| now.saturating_duration_since(*earlier) < RETRY_MEMORY);
        if entry.attempts.len() < MOST_ATTEMPTS {
            entry.attempts.push(at);
        }
    }

    /// Nobody avoids this profile any longer, or any; how often a request was tried stands.
    pub fn forgive(&mut self, profile: Option<ProfileId>) {
        for entry in self.sessions.values_mut().chain(self.requests.values_mut()) {
            let other = |id: &ProfileId| profile.is_some_and(|only| only != *id);
            entry.avoid.retain(|(avoided, _)| other(avoided));
            entry.refused.retain(|(refused, ..)| other(refused));
            entry.settled = None;
        }
    }

    /// Forgets what is too old to matter.
    pub fn forget_old(&mut self, now: Instant) {
        self.sessions.retain(|_, entry| is_fresh(entry, now));
        self.requests.retain(|_, entry| is_fresh(entry, now));
    }
}

fn is_fresh(entry: &Entry, now: Instant) -> bool {
    let recent = entry.touched.is_some_and(|touched| now.saturating_duration_since(touched) < RETRY_MEMORY);
    let holds = |until: Option<&Instant>| until.is_some_and(|until| *until > now);
    let longest = entry.refused.iter().map(|(_, until, _)| until).chain(entry.avoid.iter().map(|(_, until)| until)).max();
    recent || holds(longest) || holds(entry.settled.as_ref())
}

fn fresh_entry(map: &mut HashMap<u64, Entry>, now: Instant, key: u64) -> &mut Entry {
    if map.len() >= MOST_ENTRIES && !map.contains_key(&key) {
        let oldest = map.iter().min_by_key(|(_, entry)| entry.touched).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            map.remove(&oldest);
        }
    }
    let entry = map.entry(key).or_default();
    if !is_fresh(entry, now) {
        *entry = Entry::default();
    }
    entry.touched = Some(now);
    entry
}

fn refused(map: &mut HashMap<u64, Entry>, now: Instant, key: u64, profile: ProfileId, because: FailureKind) {
    let entry = fresh_entry(map, now, key);
    entry.refused.retain(|(refused, until, _)| *refused != profile && *until > now);
    entry.refused.push((profile, now + REFUSAL_TTL, because));
}

fn avoid(map: &mut HashMap<u64, Entry>, now: Instant, key: u64, profile: ProfileId, time: Duration) {
    let entry = fresh_entry(map, now, key);
    entry.avoid.retain(|(avoided, until)| *avoided != profile && *until > now);
    entry.avoid.push((profile, now + time));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::SESSION_DETOUR;
    use hotspare_testkit::VirtualClock;

    const A: ProfileId = ProfileId(0);

    #[test]
    fn a_detour_moves_its_session_alone_and_ends() {
        let now = VirtualClock::new().now();
        let mut memory = RetryMemory::default();
        memory.avoid_for_session(now, 7, A, SESSION_DETOUR);
        assert!(memory.detours(now, Some(7), None).avoids(now, A));
        assert!(!memory.detours(now, Some(8), None).avoids(now, A));
        let later = now + SESSION_DETOUR;
        assert!(!memory.detours(later, Some(7), None).avoids(later, A));
    }

    #[test]
    fn whom_the_user_forgives_nobody_avoids() {
        const B: ProfileId = ProfileId(1);
        let now = VirtualClock::new().now();
        let mut memory = RetryMemory::default();
        for profile in [A, B] {
            memory.avoid_for_session(now, 7, profile, SESSION_DETOUR);
            memory.avoid_for_request(now, 1, profile, SESSION_DETOUR);
        }
        let avoids = |memory: &RetryMemory| [A, B].map(|profile| memory.detours(now, Some(7), Some(1)).avoids(now, profile));
        memory.forgive(Some(A));
        assert_eq!(avoids(&memory), [false, true]);
        memory.forgive(None);
        assert_eq!(avoids(&memory), [false, false]);
    }

    /// claude-code #2728, link-assistant/hive-mind#1438: the client's retries count, although its header always says 0.
    #[test]
    fn r7_a_request_s_attempts_are_counted_over_its_retries_and_forgotten() {
        let now = VirtualClock::new().now();
        let mut memory = RetryMemory::default();
        for second in 0..12 {
            memory.count_attempt(now, 1, now + Duration::from_secs(second));
        }
        assert_eq!(memory.attempts_left(now, Some(1)), 0);
        assert_eq!(memory.attempts_left(now, Some(2)), MAX_ATTEMPTS_PER_KEY);
        assert_eq!(memory.next_attempt_in(now + Duration::from_secs(20), Some(1)), Duration::from_secs(100));
        assert_eq!(memory.next_attempt_in(now, Some(2)), Duration::ZERO);
        assert_eq!(memory.attempts_left(now + RETRY_MEMORY, Some(1)), 1, "the first has left the window");
        assert_eq!(memory.next_attempt_in(now + RETRY_MEMORY, Some(1)), Duration::ZERO);
        memory.forget_old(now + RETRY_MEMORY);
        assert!(!memory.remembers_requests());
    }

    #[test]
    fn the_memory_is_bounded() {
        let now = VirtualClock::new().now();
        let mut memory = RetryMemory::default();
        for key in 0..2 * MOST_ENTRIES as u64 {
            let at = now + Duration::from_nanos(key);
            memory.count_attempt(at, key, at);
        }
        assert_eq!(memory.requests.len(), MOST_ENTRIES);
    }
}
