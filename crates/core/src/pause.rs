//! Decides whom a pause keeps from being asked. Never leaves a chain with nobody, unless the user said that too.

use std::time::Instant;

use crate::route::{ChainEntry, ProfileId};
use crate::world::World;

/// `hotspare profile pause`: this profile is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When it is over; none: it holds until it is taken back.
    pub until: Option<Instant>,
    /// Whether it also holds where nobody else is left.
    pub even_last: bool,
}

impl Pause {
    /// Whether it is not over.
    pub fn holds(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Whom a chain does not ask for a pause of theirs. Where every one of them is paused, only those are left out who are so even as the last:
/// a configuration may have lost the others since.
pub fn left_out(now: Instant, world: &World, entries: &[ChainEntry]) -> Vec<ProfileId> {
    if world.pauses.is_empty() {
        return Vec::new();
    }
    let paused = |entry: &ChainEntry| world.paused(now, entry.profile).map(|pause| (entry.profile, pause));
    let out: Vec<(ProfileId, Pause)> = entries.iter().filter_map(paused).collect();
    let nobody_is_left = out.len() == entries.len();
    out.into_iter().filter(|(_, pause)| !nobody_is_left || pause.even_last).map(|(profile, _)| profile).collect()
}
