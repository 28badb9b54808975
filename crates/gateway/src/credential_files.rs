//! Ends a block when the file of the profile's credential changes: the user logged in again, or put another key there.
//!
//! Files are looked at with each request, those of profiles that are well too: a user who logs in again does so right after the refusal,
//! before any further request could look at the old file.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use hotspare_core::ProfileId;

use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// When the credential file of each profile was last written; `None` if it is missing. One entry for each profile with such a file.
#[derive(Debug, Default)]
pub(crate) struct CredentialFiles(HashMap<ProfileId, Option<SystemTime>>);

impl Gateway {
    /// Clears the cooldowns of each blocked profile whose credential file has changed since it was blocked.
    pub(crate) fn look_at_credential_files(&self, now: Instant, snapshot: &Snapshot) {
        for profile in snapshot.ids() {
            let Some(file) = snapshot.target(profile).and_then(|target| target.credential.file()) else { continue };
            let written = std::fs::metadata(&file).and_then(|found| found.modified()).ok();
            let known = self.credential_files().0.insert(profile, written);
            let has_changed = known.is_some_and(|known| known != written);
            if has_changed && self.with_world(|world| world.health.is_blocked(now, profile)) {
                tracing::info!(profile = snapshot.name(profile), "its credential file has changed, so its cooldowns are cleared");
                self.with_world(|world| world.on_new_credential(profile));
            }
        }
    }
}
