//! The logins of folders that Claude Code keeps: renewed ahead of need, and reported when they have ended.

use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use hotspare_core::{ChainRule, ProfileId};
use hotspare_upstream::clock;

use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// Logins are looked at no more often than this.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// A renewal ahead of need begins at a random time within this: several gateways may serve the same logins.
const RENEWAL_SPREAD: Duration = Duration::from_secs(45);

impl Gateway {
    /// Renews the logins of spares whose turn comes soon, and reports those that have ended. Called after the exchange `id`.
    pub(crate) fn look_after_logins(&self, id: u64) {
        let snapshot = self.snapshot();
        for folder in self.outside().renewals().take_ended() {
            self.report_ended(&snapshot, id, &folder);
        }
        if !self.looks_at_logins(clock::now()) {
            return;
        }
        for id in self.spares_soon_needed(&snapshot) {
            if let Some(target) = snapshot.target(id) {
                target.credential.renew_ahead(RENEWAL_SPREAD.mul_f64(self.outside().dice()));
            }
        }
    }

    fn looks_at_logins(&self, now: Instant) -> bool {
        let mut looked = self.looked_at_logins.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_INTERVAL);
        if is_due {
            *looked = Some(now);
        }
        is_due
    }

    /// Profiles with the login of a folder that stand in a chain behind one with a usage window near its end.
    fn spares_soon_needed(&self, snapshot: &Snapshot) -> Vec<ProfileId> {
        let is_login = |id: &ProfileId| snapshot.target(*id).is_some_and(|target| target.credential.is_folder());
        if !snapshot.ids().any(|id| is_login(&id)) {
            return Vec::new();
        }
        let now = clock::now();
        let mut soon: Vec<ProfileId> = self.with_world(|world| {
            let is_near = |id: ProfileId| world.health.report(now, id).windows.iter().any(hotspare_core::UsageWindow::is_near);
            let behind = |rule: &ChainRule| {
                let profiles = rule.chain.entries.iter().map(|entry| entry.profile);
                profiles.skip_while(|id| !is_near(*id)).skip(1).collect::<Vec<_>>()
            };
            snapshot.rules.iter().flat_map(behind).filter(is_login).collect()
        });
        soon.sort_unstable();
        soon.dedup();
        soon
    }

    /// One notice for each profile that uses the login of this folder.
    fn report_ended(&self, snapshot: &Snapshot, exchange: u64, folder: &Path) {
        for id in snapshot.ids() {
            let Some(target) = snapshot.target(id).filter(|target| target.credential.folder() == Some(folder)) else { continue };
            tracing::warn!(profile = %target.name, folder = %folder.display(), "the login has ended: its refresh token is dead");
            self.notice_ended_login(snapshot, exchange, &target.name, folder);
        }
    }
}
