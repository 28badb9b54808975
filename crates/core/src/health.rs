//! Remembers which profiles failed lately, and decides which may be asked. Never sends a probe: a live request is the trial.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::facts::ModelFamily;
use crate::failure::{Failure, FailureKind, Scope, Verdict};
use crate::policy::{COOLDOWN_CAP, COOLDOWN_CAP_ALONE};
use crate::route::ProfileId;

/// Whether a profile may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Usable,
    /// Not before this instant.
    Cooling {
        /// When it may be asked again.
        until: Instant,
        /// What it failed with.
        because: FailureKind,
        /// Waiting alone does not help (login, billing, a used-up window): not even a last resort.
        hard: bool,
    },
}

/// Why a profile, or one model family on it, is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bench {
    until: Instant,
    because: FailureKind,
    hard: bool,
    bound_to: Binding,
}

/// What must change for a bench to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    /// Nothing does it.
    Time,
    /// Another credential than this one (none: the profile's own).
    Credential(Option<u64>),
}

impl Binding {
    fn holds_for(self, credential: Option<u64>) -> bool {
        match self {
            Self::Time => true,
            Self::Credential(blocked) => blocked.is_none() || blocked == credential,
        }
    }
}

/// What is known of one profile.
#[derive(Debug, Clone, Default)]
struct ProfileHealth {
    benches: HashMap<Option<ModelFamily>, Bench>,
    /// Failures in a row, for the growing cooldown.
    streak: u32,
    last_failure: Option<(Instant, Box<str>)>,
    last_success: Option<Instant>,
}

/// What is known of every profile.
#[derive(Debug, Clone, Default)]
pub struct Health {
    profiles: HashMap<ProfileId, ProfileHealth>,
}

/// One profile's state, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The longest bench that holds now.
    pub bench: Option<BenchReport>,
    /// The last failure's words.
    pub last_failure: Option<(Instant, Box<str>)>,
    /// When it last answered well.
    pub last_success: Option<Instant>,
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
    /// Waiting alone does not help.
    pub hard: bool,
}

impl Health {
    /// Whether the profile may be asked for this model family, by a client with this credential of its own.
    pub fn standing(&self, now: Instant, profile: ProfileId, family: ModelFamily, credential: Option<u64>) -> Standing {
        let Some(health) = self.profiles.get(&profile) else {
            return Standing::Usable;
        };
        [None, Some(family)]
            .iter()
            .filter_map(|scope| health.benches.get(scope))
            .filter(|bench| bench.until > now)
            .filter(|bench| bench.bound_to.holds_for(credential))
            .max_by_key(|bench| (bench.hard, bench.until))
            .map_or(Standing::Usable, |bench| Standing::Cooling { until: bench.until, because: bench.because, hard: bench.hard })
    }

    /// Takes note of a failure. `another_usable` says whether any other profile could serve: alone, nothing is benched for long.
    pub fn on_failure(
        &mut self,
        now: Instant,
        profile: ProfileId,
        family: ModelFamily,
        failure: &Failure,
        credential: Option<u64>,
        another_usable: bool,
    ) {
        let verdict = failure.verdict();
        if verdict == Verdict::Neutral {
            return;
        }
        let health = self.profiles.entry(profile).or_default();
        health.last_failure = Some((now, failure.detail.clone()));
        health.streak = health.streak.saturating_add(1);
        let (scope, bench) = match verdict {
            Verdict::Neutral => return,
            Verdict::Cooldown(base, scope) => {
                let cap = if another_usable { COOLDOWN_CAP } else { COOLDOWN_CAP_ALONE };
                let time = grown(base, health.streak, cap);
                (scope, Bench { until: now + time, because: failure.kind, hard: false, bound_to: Binding::Time })
            }
            Verdict::Block(time, scope) => (scope, Bench { until: now + time, because: failure.kind, hard: true, bound_to: Binding::Time }),
            Verdict::BlockCredential(time) => {
                (Scope::Profile, Bench { until: now + time, because: failure.kind, hard: true, bound_to: Binding::Credential(credential) })
            }
        };
        let key = match scope {
            Scope::Profile => None,
            Scope::Family => Some(family),
        };
        health.benches.insert(key, bench);
    }

    /// Takes note of a whole, good answer: whatever benched the profile or the family is over.
    pub fn on_success(&mut self, now: Instant, profile: ProfileId, family: ModelFamily) {
        let health = self.profiles.entry(profile).or_default();
        health.streak = 0;
        health.last_success = Some(now);
        if !health.benches.is_empty() {
            health.benches.remove(&None);
            health.benches.remove(&Some(family));
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
                Standing::Usable => return None,
                Standing::Cooling { until, .. } => until.duration_since(now),
            };
            soonest = Some(soonest.map_or(wait, |so_far| so_far.min(wait)));
        }
        soonest
    }

    /// What is known of a profile, for `status`.
    pub fn report(&self, now: Instant, profile: ProfileId) -> Report {
        let health = self.profiles.get(&profile);
        let bench = health.and_then(|health| {
            health
                .benches
                .iter()
                .filter(|(_, bench)| bench.until > now)
                .max_by_key(|(_, bench)| bench.until)
                .map(|(family, bench)| BenchReport { until: bench.until, because: bench.because, family: *family, hard: bench.hard })
        });
        Report {
            bench,
            last_failure: health.and_then(|health| health.last_failure.clone()),
            last_success: health.and_then(|health| health.last_success),
        }
    }
}

/// Doubles with each failure in a row, up to the cap; a provider's own longer wish is kept.
fn grown(base: Duration, streak: u32, cap: Duration) -> Duration {
    let doublings = streak.saturating_sub(1).min(16);
    base.saturating_mul(1 << doublings).min(cap.max(base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Stage;
    use hotspare_testkit::VirtualClock;

    const P: ProfileId = ProfileId(0);
    const OPUS: ModelFamily = ModelFamily::Opus;

    fn failure(kind: FailureKind) -> Failure {
        Failure::new(kind, Stage::Head, "failed")
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_failed_profile_is_usable_again_after_its_cooldown() {
        let now = VirtualClock::new().now();
        let mut health = Health::default();
        health.on_failure(now, P, OPUS, &failure(FailureKind::HeadTimeout), None, true);
        assert!(matches!(health.standing(now + secs(29), P, OPUS, None), Standing::Cooling { hard: false, .. }));
        assert_eq!(health.standing(now + secs(30), P, OPUS, None), Standing::Usable);
    }

    #[test]
    fn overload_benches_its_model_family_alone() {
        let now = VirtualClock::new().now();
        let mut health = Health::default();
        health.on_failure(now, P, OPUS, &failure(FailureKind::Overloaded), None, true);
        assert_eq!(health.standing(now, P, ModelFamily::Haiku, None), Standing::Usable);
        assert!(matches!(health.standing(now, P, OPUS, None), Standing::Cooling { .. }));
    }

    #[test]
    fn cooldowns_grow_and_are_capped_and_shorter_when_alone() {
        let now = VirtualClock::new().now();
        for (another, cap) in [(true, COOLDOWN_CAP), (false, COOLDOWN_CAP_ALONE)] {
            let mut health = Health::default();
            let mut last = Duration::ZERO;
            for _ in 0..40 {
                health.on_failure(now, P, OPUS, &failure(FailureKind::ServerError), None, another);
                let Standing::Cooling { until, .. } = health.standing(now, P, OPUS, None) else {
                    panic!("benched after a failure");
                };
                assert!(until - now >= last && until - now <= cap);
                last = until - now;
            }
            assert_eq!(last, cap);
        }
    }

    #[test]
    fn a_dead_login_is_over_when_another_credential_comes() {
        let now = VirtualClock::new().now();
        let mut health = Health::default();
        health.on_failure(now, P, OPUS, &failure(FailureKind::Unauthorized), Some(1), true);
        assert!(matches!(health.standing(now, P, OPUS, Some(1)), Standing::Cooling { hard: true, .. }));
        assert_eq!(health.standing(now, P, OPUS, Some(2)), Standing::Usable);
    }

    #[test]
    fn a_good_answer_ends_the_bench() {
        let now = VirtualClock::new().now();
        let mut health = Health::default();
        health.on_failure(now, P, OPUS, &failure(FailureKind::ServerError), None, true);
        health.on_success(now, P, OPUS);
        assert_eq!(health.standing(now, P, OPUS, None), Standing::Usable);
        assert_eq!(health.soonest(now, [P].into_iter(), OPUS, None), None);
    }
}
