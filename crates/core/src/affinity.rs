//! Remembers which profile a session is at home with, because of its prompt cache, and decides when it may go back to a better one. Never
//! moves one session because of another.
//!
//! Every switch reads the whole conversation uncached, and so does the way back (protocol.md 6). But a detour that ends while the old
//! cache still lives costs nothing, and neither does a switch when both caches are cold: those are the two moments to go home.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::facts::session_part;
use crate::policy::{CACHE_LIFE_LONG, Failback, FailbackAt};
use crate::route::ProfileId;

/// Most sessions remembered; beyond it the longest unused is forgotten.
const MOST_SESSIONS: usize = 4096;

/// Most earlier homes remembered for one session.
const MOST_HOMES: usize = 8;

/// Where a session is.
#[derive(Debug, Clone)]
pub struct Stay {
    /// The profile that served it last.
    pub profile: ProfileId,
    /// Since when.
    pub since: Instant,
    /// When it was last served.
    pub last_used: Instant,
    /// Life of its prompt cache.
    pub cache_life: Duration,
    /// The last answer asked for a tool: the turn goes on.
    pub mid_turn: bool,
    /// Where else it was, and when last.
    homes: Vec<(ProfileId, Instant)>,
}

impl Stay {
    /// Whether the session's cache at `profile` is still alive.
    pub fn is_warm_at(&self, now: Instant, profile: ProfileId) -> bool {
        let last = if profile == self.profile {
            Some(self.last_used)
        } else {
            self.homes.iter().find(|(home, _)| *home == profile).map(|(_, at)| *at)
        };
        last.is_some_and(|at| now.saturating_duration_since(at) < self.cache_life)
    }

    /// Whether it may leave for `better`, which is well again.
    pub fn may_return(&self, now: Instant, better: ProfileId, failback: &Failback) -> bool {
        if failback.at == FailbackAt::Manual {
            return false;
        }
        let idle = now.saturating_duration_since(self.last_used) >= self.cache_life;
        if idle {
            return true;
        }
        if self.mid_turn || now.saturating_duration_since(self.since) < failback.min_stay {
            return false;
        }
        match failback.at {
            FailbackAt::Manual => false,
            FailbackAt::Turn => true,
            FailbackAt::ColdCache => self.is_warm_at(now, better),
        }
    }
}

/// The profile that each session last used. Keys are [`RequestFacts::stay_key`](crate::RequestFacts::stay_key).
#[derive(Debug, Clone, Default)]
pub struct Affinity {
    sessions: HashMap<u64, Stay>,
    /// The last profile of sessions that a reset released, until they are served again.
    released: HashMap<u64, ProfileId>,
}

impl Affinity {
    /// Where the session is; none: it is new, or long gone.
    pub fn stay(&self, now: Instant, session: Option<u64>) -> Option<&Stay> {
        self.sessions.get(&session?).filter(|stay| now.saturating_duration_since(stay.last_used) < CACHE_LIFE_LONG)
    }

    /// The profile that served the session last, whether or not it stays there. `None` if the session is new.
    pub fn previous(&self, now: Instant, session: u64) -> Option<ProfileId> {
        self.stay(now, Some(session)).map(|stay| stay.profile).or_else(|| self.released.get(&session).copied())
    }

    /// The session was served.
    pub fn on_served(&mut self, now: Instant, session: u64, profile: ProfileId, cache_life: Duration, mid_turn: bool) {
        self.make_room(session);
        self.released.remove(&session);
        let stay = self.sessions.entry(session).or_insert_with(|| Stay {
            profile,
            since: now,
            last_used: now,
            cache_life,
            mid_turn,
            homes: Vec::new(),
        });
        if stay.profile != profile {
            let left = (stay.profile, stay.last_used);
            stay.homes.retain(|(home, _)| *home != left.0 && *home != profile);
            if stay.homes.len() == MOST_HOMES {
                stay.homes.remove(0);
            }
            stay.homes.push(left);
            stay.profile = profile;
            stay.since = now;
        }
        stay.last_used = now;
        stay.cache_life = cache_life;
        stay.mid_turn = mid_turn;
    }

    /// A session that was remembered over a restart.
    pub fn restore(&mut self, session: u64, stay: Stay) {
        self.make_room(session);
        self.sessions.insert(session, stay);
    }

    /// Every session that still has a cache somewhere, with its key.
    pub fn sessions(&self, now: Instant) -> impl Iterator<Item = (u64, &Stay)> {
        let fresh = move |stay: &Stay| now.saturating_duration_since(stay.last_used) < stay.cache_life;
        self.sessions.iter().filter(move |(_, stay)| fresh(stay)).map(|(session, stay)| (*session, stay))
    }

    /// Number of sessions served within their cache's life; a session with several model families counts once.
    pub fn active(&self, now: Instant) -> usize {
        self.sessions(now).map(|(key, _)| session_part(key)).collect::<HashSet<_>>().len()
    }

    /// The sessions that have left this profile may go back with their next request.
    pub fn send_home(&mut self, profile: ProfileId) {
        self.release(|stay| stay.homes.iter().any(|(home, _)| *home == profile));
    }

    /// Sessions that are at this profile choose again with their next request.
    pub fn leave(&mut self, profile: ProfileId) {
        self.sessions.retain(|_, stay| stay.profile != profile);
    }

    /// Everyone goes home with the next request.
    pub fn clear(&mut self) {
        self.release(|_| true);
    }

    fn release(&mut self, leaves: impl Fn(&Stay) -> bool) {
        let left: Vec<(u64, ProfileId)> =
            self.sessions.extract_if(|_, stay| leaves(stay)).map(|(session, stay)| (session, stay.profile)).collect();
        if self.released.len() + left.len() > MOST_SESSIONS {
            self.released.clear();
        }
        self.released.extend(left);
    }

    /// Forgets what is too old to matter.
    pub fn forget_old(&mut self, now: Instant) {
        self.sessions.retain(|_, stay| now.saturating_duration_since(stay.last_used) < CACHE_LIFE_LONG);
    }

    fn make_room(&mut self, session: u64) {
        if self.sessions.len() >= MOST_SESSIONS && !self.sessions.contains_key(&session) {
            let oldest = self.sessions.iter().min_by_key(|(_, stay)| stay.last_used).map(|(session, _)| *session);
            if let Some(oldest) = oldest {
                self.sessions.remove(&oldest);
            }
        }
    }
}

/// A stay without earlier homes, as it comes back from a restart.
pub fn remembered(profile: ProfileId, since: Instant, last_used: Instant, cache_life: Duration) -> Stay {
    Stay { profile, since, last_used, cache_life, mid_turn: false, homes: Vec::new() }
}

#[cfg(test)]
#[expect(clippy::unchecked_time_subtraction, reason = "times in a test are in order")]
mod tests {
    use super::*;
    use crate::policy::CACHE_LIFE;
    use hotspare_testkit::VirtualClock;

    const HOME: ProfileId = ProfileId(0);
    const SPARE: ProfileId = ProfileId(1);
    const SESSION: u64 = 7;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Served at home at 0 s, and by the spare from 10 s on, every 10 s until `until`.
    fn away(start: Instant, until: u64, mid_turn: bool) -> Affinity {
        let mut affinity = Affinity::default();
        affinity.on_served(start, SESSION, HOME, CACHE_LIFE, false);
        for at in (10..=until).step_by(10) {
            affinity.on_served(start + secs(at), SESSION, SPARE, CACHE_LIFE, mid_turn);
        }
        affinity
    }

    fn may_return(affinity: &Affinity, now: Instant, at: FailbackAt) -> bool {
        affinity.stay(now, Some(SESSION)).is_some_and(|stay| stay.may_return(now, HOME, &Failback { at, ..Failback::default() }))
    }

    /// llxprt #901 #902 #903 #2132 #2492 #2712: to and fro between two providers.
    #[test]
    fn r40_it_goes_home_while_home_is_warm_but_not_before_its_shortest_stay() {
        let start = VirtualClock::new().now();
        assert!(!may_return(&away(start, 120, false), start + secs(125), FailbackAt::ColdCache), "115 s are too short");
        assert!(may_return(&away(start, 130, false), start + secs(135), FailbackAt::ColdCache));
        assert!(may_return(&away(start, 130, false), start + secs(135), FailbackAt::Turn));
        assert!(!may_return(&away(start, 130, false), start + secs(135), FailbackAt::Manual));
    }

    /// teamclaude #88, opencodex #2939, sub2api #6344, cc-switch #7252, `CLIProxyAPI` #5727: switching paid for the whole prompt anew.
    #[test]
    fn r41_once_home_is_cold_it_stays_until_the_other_is_cold_too() {
        let start = VirtualClock::new().now();
        let affinity = away(start, 400, false);
        assert!(!may_return(&affinity, start + secs(410), FailbackAt::ColdCache));
        assert!(may_return(&affinity, start + secs(410), FailbackAt::Turn));
        assert!(may_return(&affinity, start + secs(700), FailbackAt::ColdCache), "idle for longer than the cache lives");
        assert!(!may_return(&affinity, start + secs(700), FailbackAt::Manual));
    }

    #[test]
    fn it_never_leaves_in_the_middle_of_a_turn() {
        let start = VirtualClock::new().now();
        for at in [FailbackAt::ColdCache, FailbackAt::Turn] {
            assert!(!may_return(&away(start, 200, true), start + secs(205), at));
        }
    }

    /// teamclaude #286 #306, codex-lb #1707: one conversation's trouble moved the others.
    #[test]
    fn r37_one_session_s_detour_moves_no_other() {
        let now = VirtualClock::new().now();
        let mut affinity = Affinity::default();
        affinity.on_served(now, 8, HOME, CACHE_LIFE, false);
        affinity.on_served(now, 16, HOME, CACHE_LIFE, false);
        affinity.on_served(now, 16, SPARE, CACHE_LIFE, false);
        assert_eq!(affinity.stay(now, Some(8)).map(|stay| stay.profile), Some(HOME));
        assert_eq!(affinity.stay(now, Some(16)).map(|stay| stay.profile), Some(SPARE));
        assert!(affinity.stay(now, None).is_none());
        assert_eq!(affinity.active(now), 2);
    }

    #[test]
    fn only_those_who_left_a_profile_are_sent_home_to_it() {
        let now = VirtualClock::new().now();
        let mut affinity = away(now, 20, true);
        affinity.on_served(now, 8, SPARE, CACHE_LIFE, false);
        affinity.on_served(now, 9, HOME, CACHE_LIFE, false);
        affinity.send_home(HOME);
        let stays = |session| affinity.stay(now, Some(session)).map(|stay| stay.profile);
        assert_eq!([SESSION, 8, 9].map(stays), [None, Some(SPARE), Some(HOME)]);
        assert_eq!([SESSION, 8, 10].map(|session| affinity.previous(now, session)), [Some(SPARE), Some(SPARE), None]);
        affinity.on_served(now, SESSION, HOME, CACHE_LIFE, false);
        affinity.clear();
        assert_eq!(affinity.previous(now, SESSION), Some(HOME));
    }

    #[test]
    fn times_are_over_at_their_end_and_not_after_it() {
        let start = VirtualClock::new().now();
        let affinity = away(start, 10, false);
        let stay = affinity.stay(start, Some(SESSION)).unwrap();
        assert!(stay.is_warm_at(start + CACHE_LIFE - Duration::from_nanos(1), HOME));
        assert!(!stay.is_warm_at(start + CACHE_LIFE, HOME));
        let left = start + secs(10) + Failback::default().min_stay;
        assert!(!stay.may_return(left - Duration::from_nanos(1), HOME, &Failback::default()));
        assert!(stay.may_return(left, HOME, &Failback::default()));
        let gone = start + secs(10) + CACHE_LIFE_LONG;
        assert!(affinity.stay(gone - Duration::from_nanos(1), Some(SESSION)).is_some());
        assert!(affinity.stay(gone, Some(SESSION)).is_none());
    }

    #[test]
    fn each_earlier_home_is_known_once_with_its_last_time() {
        const THIRD: ProfileId = ProfileId(2);
        let start = VirtualClock::new().now();
        let mut affinity = Affinity::default();
        for (at, profile) in [(0, HOME), (10, SPARE), (20, THIRD), (30, HOME), (40, SPARE)] {
            affinity.on_served(start + secs(at), SESSION, profile, CACHE_LIFE, false);
        }
        let stay = affinity.stay(start, Some(SESSION)).unwrap();
        assert_eq!(stay.homes, [(THIRD, start + secs(20)), (HOME, start + secs(30))]);
    }

    #[test]
    fn the_memory_is_bounded_and_forgets() {
        let now = VirtualClock::new().now();
        let mut affinity = Affinity::default();
        for session in 0..2 * MOST_SESSIONS as u64 {
            affinity.on_served(now + Duration::from_nanos(session), session, HOME, CACHE_LIFE, false);
        }
        assert_eq!(affinity.sessions.len(), MOST_SESSIONS);
        affinity.forget_old(now + CACHE_LIFE_LONG + secs(1));
        assert!(affinity.sessions.is_empty());
    }
}
