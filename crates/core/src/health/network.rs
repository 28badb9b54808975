//! Decides whether this machine's own network is down, and whether time has jumped. Never blames a provider for either.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::policy::{CLOCK_JUMP, CLOCK_SETTLES, OFFLINE_PROBE_FIRST, OFFLINE_PROBE_LAST, OFFLINE_WITHIN};

/// Most failures of this side that are looked at together.
const MOST_SIGNS: usize = 16;

/// What is known of this machine's network.
#[derive(Debug, Clone, Default)]
pub struct Network {
    signs: VecDeque<(Instant, u64)>,
    down: Option<Down>,
    settles_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    next_probe: Instant,
    pause: Duration,
}

impl Network {
    /// A request did not get out to `host`. True: with it the network is down.
    pub fn on_local_failure(&mut self, now: Instant, host: u64) -> bool {
        if self.down.is_some() {
            return false;
        }
        self.signs.retain(|(at, _)| now.saturating_duration_since(*at) < OFFLINE_WITHIN);
        if self.signs.len() == MOST_SIGNS {
            self.signs.pop_front();
        }
        self.signs.push_back((now, host));
        if self.signs.iter().all(|(_, other)| *other == host) {
            return false;
        }
        self.signs.clear();
        self.down = Some(Down { next_probe: now + OFFLINE_PROBE_FIRST, pause: OFFLINE_PROBE_FIRST });
        true
    }

    /// Some host out there answered, whatever it said.
    pub fn on_contact(&mut self) {
        self.signs.clear();
        self.down = None;
    }

    /// Whether the network is down.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Whether a request may try the network now; asking takes the place of the one that may.
    pub fn admit_probe(&mut self, now: Instant) -> bool {
        let Some(down) = &mut self.down else { return true };
        if now < down.next_probe {
            return false;
        }
        down.pause = (down.pause * 2).min(OFFLINE_PROBE_LAST);
        down.next_probe = now + down.pause;
        true
    }

    /// Time until the network is tried again.
    pub fn next_probe_in(&self, now: Instant) -> Option<Duration> {
        self.down.map(|down| down.next_probe.saturating_duration_since(now))
    }

    /// Whether failures say nothing now, because time has just jumped.
    pub fn is_settling(&self, now: Instant) -> bool {
        self.settles_at.is_some_and(|at| now < at)
    }

    /// Time has jumped.
    pub fn on_jump(&mut self, now: Instant) {
        self.signs.clear();
        self.settles_at = Some(now + CLOCK_SETTLES);
    }
}

/// Compares the steady clock with the wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClockWatch {
    last: Option<(Instant, SystemTime)>,
}

/// How the wall clock moved against the steady one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// So far ahead: the machine slept, or its clock was set forward.
    Forward(Duration),
    /// Back.
    Back,
}

impl ClockWatch {
    /// Looks at both clocks; none: they agree within [`CLOCK_JUMP`].
    pub fn observe(&mut self, now: Instant, wall: SystemTime) -> Option<Jump> {
        let (last, last_wall) = self.last.replace((now, wall))?;
        let steady = now.saturating_duration_since(last);
        match wall.duration_since(last_wall) {
            Ok(moved) => {
                let ahead = moved.saturating_sub(steady);
                let behind = steady.saturating_sub(moved);
                if ahead > CLOCK_JUMP { Some(Jump::Forward(ahead)) } else { (behind > CLOCK_JUMP).then_some(Jump::Back) }
            }
            Err(back) => (back.duration() + steady > CLOCK_JUMP).then_some(Jump::Back),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotspare_testkit::VirtualClock;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn two_hosts_within_five_seconds_mean_that_the_network_is_down() {
        let now = VirtualClock::new().now();
        let mut network = Network::default();
        assert!(!network.on_local_failure(now, 1));
        assert!(!network.on_local_failure(now, 1), "one host alone says nothing about the network");
        assert!(!network.on_local_failure(now + secs(5), 2), "too long ago");
        assert!(network.on_local_failure(now + secs(9), 1));
        assert!(network.is_down());
        network.on_contact();
        assert!(!network.is_down());
    }

    #[test]
    fn a_network_that_is_down_is_tried_ever_more_seldom() {
        let mut clock = VirtualClock::new();
        let mut network = Network::default();
        network.on_local_failure(clock.now(), 1);
        network.on_local_failure(clock.now(), 2);
        let mut gaps = Vec::new();
        for _ in 0..5 {
            let wait = network.next_probe_in(clock.now()).unwrap();
            assert!(!network.admit_probe(clock.now()));
            assert!(network.admit_probe(clock.advance(wait)));
            gaps.push(wait.as_secs());
        }
        assert_eq!(gaps, [2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_sleep_is_seen_and_an_ordinary_wait_is_not() {
        let now = VirtualClock::new().now();
        let wall = SystemTime::UNIX_EPOCH + secs(1_000_000);
        let mut watch = ClockWatch::default();
        assert_eq!(watch.observe(now, wall), None);
        assert_eq!(watch.observe(now + secs(500), wall + secs(500)), None);
        assert_eq!(watch.observe(now + secs(501), wall + secs(4101)), Some(Jump::Forward(secs(3600))));
        assert_eq!(watch.observe(now + secs(502), wall + secs(4102)), None);
        assert_eq!(watch.observe(now + secs(503), wall), Some(Jump::Back));
        assert_eq!(watch.observe(now + secs(600), wall + secs(1)), Some(Jump::Back));
    }

    #[test]
    fn clocks_that_differ_by_no_more_than_a_jump_agree() {
        let now = VirtualClock::new().now();
        let wall = SystemTime::UNIX_EPOCH + secs(1_000_000);
        let look = |steady: Duration, moved: Result<Duration, Duration>| {
            let mut watch = ClockWatch::default();
            watch.observe(now, wall);
            watch.observe(now + steady, moved.map_or_else(|back| wall - back, |ahead| wall + ahead))
        };
        let moment = Duration::from_millis(1);
        assert_eq!(look(secs(1), Ok(secs(1) + CLOCK_JUMP)), None);
        assert_eq!(look(secs(1), Ok(secs(1) + CLOCK_JUMP + moment)), Some(Jump::Forward(CLOCK_JUMP + moment)));
        assert_eq!(look(secs(1) + CLOCK_JUMP, Ok(secs(1))), None);
        assert_eq!(look(secs(1) + CLOCK_JUMP + moment, Ok(secs(1))), Some(Jump::Back));
        let back = CLOCK_JUMP / 2;
        assert_eq!(look(CLOCK_JUMP / 2, Err(back)), None);
        assert_eq!(look(CLOCK_JUMP / 2, Err(back + moment)), Some(Jump::Back));
    }
}
