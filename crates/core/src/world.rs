//! Everything that exchanges learn and share: one value, changed by one exchange at a time. Never holds a prompt or a credential.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use crate::affinity::Affinity;
use crate::budget::{HedgeMeter, RetryBudget};
use crate::health::{ClockWatch, Health, Jump};
use crate::pause::Pause;
use crate::retries::RetryMemory;
use crate::route::ProfileId;
use crate::spend::Spending;

/// What is known of the world.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Which profiles failed lately.
    pub health: Health,
    /// Which sessions and requests failed lately.
    pub retries: RetryMemory,
    /// Which profile each session is at home with.
    pub affinity: Affinity,
    /// What further attempts may cost.
    pub budget: RetryBudget,
    /// How many requests were raced.
    pub hedges: HedgeMeter,
    /// What was spent of budgets in money.
    pub spending: Spending,
    /// The user's word that outranks the order of the chains.
    pub switch: Option<Switch>,
    /// Whom the user wants to be left alone.
    pub pauses: BTreeMap<ProfileId, Pause>,
    clock: ClockWatch,
}

/// `hotspare switch`: this profile first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The profile.
    pub profile: ProfileId,
    /// When the word is over; none: it holds until it is taken back.
    pub until: Option<Instant>,
}

impl World {
    /// The profile that the user wants first now.
    pub fn switched_to(&self, now: Instant) -> Option<ProfileId> {
        self.switch.filter(|switch| switch.until.is_none_or(|until| now < until)).map(|switch| switch.profile)
    }

    /// The pause of a profile, while it lasts. Whether a chain goes by it says [`crate::pause::left_out`].
    pub fn paused(&self, now: Instant, profile: ProfileId) -> Option<Pause> {
        self.pauses.get(&profile).copied().filter(|pause| pause.holds(now))
    }

    /// Compares the clocks. True: time has jumped, and kept connections are dead.
    pub fn look_at_clocks(&mut self, now: Instant, wall: SystemTime) -> bool {
        let Some(jump) = self.clock.observe(now, wall) else { return false };
        self.health.on_jump(now, jump);
        if let Jump::Forward(by) = jump {
            let switch = self.switch.as_mut().and_then(|switch| switch.until.as_mut());
            for until in switch.into_iter().chain(self.pauses.values_mut().filter_map(|pause| pause.until.as_mut())) {
                *until = until.checked_sub(by).unwrap_or(*until);
            }
        }
        true
    }

    /// `hotspare reset`: clears the cooldowns of one profile, or of all, but not their usage windows, and lets the sessions that left it go
    /// home with their next request.
    pub fn reset(&mut self, profile: Option<ProfileId>) {
        self.health.reset(profile);
        self.retries.forgive(profile);
        match profile {
            Some(profile) => self.affinity.send_home(profile),
            None => self.affinity.clear(),
        }
    }

    /// The profile's credential has changed: clears its cooldowns and usage windows, which may have been another account's.
    pub fn on_new_credential(&mut self, profile: ProfileId) {
        self.reset(Some(profile));
        self.health.on_new_credential(profile);
    }

    /// Forgets what is too old to matter.
    pub fn forget_old(&mut self, now: Instant) {
        self.retries.forget_old(now);
        self.affinity.forget_old(now);
        if self.switched_to(now).is_none() {
            self.switch = None;
        }
        self.pauses.retain(|_, pause| pause.holds(now));
    }
}

/// What an exchange sees of the world while it decides.
pub struct Surroundings<'a> {
    /// What is known and learned.
    pub world: &'a mut World,
    /// The request's key (session, path and body, hashed), where it could be computed.
    pub request_key: Option<u64>,
    /// Whether the client asked for a stream, as far as that is known.
    pub streamed: bool,
    /// A throw of the dice in `0.0..1.0`.
    pub dice: f64,
}
