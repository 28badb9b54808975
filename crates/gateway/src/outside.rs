//! What a gateway takes from outside itself: the wall clock, chance, the network and the user's Claude Code. Never more than that, so that a test which gives its
//! own sees the same run every time.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use hotspare_upstream::connect::Network;
use hotspare_upstream::{ClaudeClient, Renewals};

/// Sources of all that is not in a request, an answer or the configuration. The default is the real world.
#[derive(Clone)]
pub struct Outside {
    wall: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    dice: Arc<dyn Fn() -> f64 + Send + Sync>,
    network: Option<Arc<dyn Network>>,
    renewals: Arc<Renewals>,
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            wall: Arc::new(SystemTime::now),
            dice: Arc::new(rand::random),
            network: None,
            renewals: Renewals::by(ClaudeClient::default()),
        }
    }
}

impl Outside {
    /// With another wall clock. It may jump; waiting goes by the runtime's own clock.
    #[must_use]
    pub fn with_wall(self, wall: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { wall: Arc::new(wall), ..self }
    }

    /// With other dice, which give numbers in `0.0..1.0`.
    #[must_use]
    pub fn with_dice(self, dice: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { dice: Arc::new(dice), ..self }
    }

    /// With another network toward the providers than the machine's.
    #[must_use]
    pub fn with_network(self, network: Arc<dyn Network>) -> Self {
        Self { network: Some(network), ..self }
    }

    /// With other renewals of the logins of folders than by the Claude Code that is found by itself.
    #[must_use]
    pub fn with_renewals(self, renewals: Arc<Renewals>) -> Self {
        Self { renewals, ..self }
    }

    /// The renewals of the logins of folders.
    pub(crate) fn renewals(&self) -> &Arc<Renewals> {
        &self.renewals
    }

    pub(crate) fn network(&self) -> Option<Arc<dyn Network>> {
        self.network.clone()
    }

    /// The present as calendars count it.
    pub fn wall(&self) -> SystemTime {
        (self.wall)()
    }

    /// A throw of the dice in `0.0..1.0`.
    pub fn dice(&self) -> f64 {
        (self.dice)()
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}
