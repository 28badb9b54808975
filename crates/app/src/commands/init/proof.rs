//! Proves the chain by a drill: a fault on live routing, with no token spent. Never fails what has been set up.

use hotspare_config::Locations;
use hotspare_core::Fault;

use crate::commands::drill;

/// Whether it passed, in words.
pub(super) fn prove(locations: &Locations) -> (bool, String) {
    let not_run = || (false, "no drill could be run; try `hotspare drill 529`".to_owned());
    let (passed, words) = drill::summary(locations, Fault::Overloaded).unwrap_or_else(not_run);
    (passed, if passed { words } else { format!("{words}; look closer: `hotspare drill 529`") })
}
