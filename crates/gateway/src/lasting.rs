//! Keeps what the world has learned in the store, and finds it there at the next start. Never waits for the disk, and never fails or delays
//! a request: what cannot be kept is learned again.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant, UNIX_EPOCH};

use hotspare_core::lasting::{
    Entry, LastingBench, LastingBreaker, LastingFailure, LastingPause, LastingSpend, LastingStay, LastingSwitch, LastingWindow,
};
use hotspare_core::spend::Day;
use hotspare_core::{Calendar, FailureKind, Lasting, ProfileId, lasting};
use hotspare_store::{Change, Reader, StateEntry, Store};
use hotspare_upstream::clock;

use crate::control::KeptWindow;
use crate::history::Minted;
use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// Sessions and windows change with every answer: they are kept at most so often, and at the end. Whom nobody is to ask is kept at once.
const EASY_EVERY: Duration = Duration::from_secs(2);

/// What the store has of it, kind by kind and key by key.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    kinds: BTreeMap<&'static str, BTreeMap<String, StateEntry>>,
    calendar: Option<Calendar>,
    eased: Option<Instant>,
    /// How often the store had heard of other processes.
    heard: u64,
}

impl Kept {
    /// What must be told to the store so that it has these and no others of their kind.
    fn changes<E: Entry>(&mut self, entries: &[E], now_ms: u64) -> Vec<Change> {
        let known = self.kinds.entry(E::KIND).or_default();
        // The store lets go of what has ended by itself.
        known.retain(|_, entry| entry.expires_at_ms > now_ms);
        let fresh: BTreeMap<String, StateEntry> = entries.iter().map(state_entry).map(|entry| (entry.key.clone(), entry)).collect();
        let gone = known.keys().filter(|key| !fresh.contains_key(*key)).cloned().map(Change::Remove);
        let put = fresh.values().filter(|entry| known.get(&entry.key) != Some(entry)).cloned().map(Change::Put);
        let changes = gone.chain(put).collect();
        *known = fresh;
        changes
    }

    fn tell<E: Entry>(&mut self, store: &Store, entries: &[E], now_ms: u64) {
        let changes = self.changes(entries, now_ms);
        if !changes.is_empty() {
            store.change(E::KIND, changes);
        }
    }
}

/// The day by this machine's calendar.
fn today(now_ms: u64) -> Option<Day> {
    let (begins_ms, ends_ms) = hotspare_store::local_day(now_ms)?;
    Some(Day { begins_ms, ends_ms })
}

fn state_entry(entry: &impl Entry) -> StateEntry {
    let value = serde_json::to_string(entry).expect("an entry is plain data with text keys");
    StateEntry { key: entry.key(), value, expires_at_ms: entry.ends_at_ms() }
}

/// What the store has of one kind. An entry that makes no sense is left out.
pub fn load<E: Entry>(store: &Store) -> Vec<E> {
    store.load(E::KIND).iter().filter_map(|entry| serde_json::from_str(&entry.value).ok()).collect()
}

/// The same for whoever only reads.
pub fn read<E: Entry>(reader: &Reader) -> Vec<E> {
    let entries = reader.state(E::KIND).unwrap_or_default();
    entries.iter().filter_map(|entry| serde_json::from_str(&entry.value).ok()).collect()
}

/// Puts the user's word in the place of an earlier one; none takes it back.
pub fn keep_switch(store: &Store, switch: Option<&LastingSwitch>) {
    let change = switch.map_or_else(|| Change::Remove("switch".to_owned()), |switch| Change::Put(state_entry(switch)));
    store.change(LastingSwitch::KIND, vec![change]);
}

/// Puts a pause in the place of an earlier one of the same profile.
pub fn keep_pause(store: &Store, pause: &LastingPause) {
    store.change(LastingPause::KIND, vec![Change::Put(state_entry(pause))]);
}

/// Takes one pause back, or every one. Returns the profiles that were paused.
pub fn forget_pauses(store: &Store, profile: Option<&str>) -> Vec<String> {
    forget::<LastingPause>(store, profile, |_| true)
}

/// Clears the persisted cooldowns and breakers of one profile, or of all, but not what is known of usage windows. Returns the profiles that
/// may be tried again, and those whose window is used up.
pub fn forget_benches(store: &Store, profile: Option<&str>) -> (Vec<String>, Vec<KeptWindow>) {
    let is_used_up = |bench: &LastingBench| bench.because == FailureKind::QuotaExhausted;
    let now_ms = u64::try_from(std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let of_profile = |bench: &LastingBench| profile.is_none_or(|only| only == bench.profile);
    let kept: Vec<KeptWindow> = load::<LastingBench>(store)
        .into_iter()
        .filter(|bench| of_profile(bench) && is_used_up(bench))
        .map(|bench| KeptWindow { resets_in_s: Some(bench.until_ms.saturating_sub(now_ms).div_ceil(1000)), profile: bench.profile })
        .collect();
    let mut freed: Vec<String> = forget::<LastingBench>(store, profile, |bench| !is_used_up(bench));
    freed.extend(forget::<LastingBreaker>(store, profile, |_| true));
    forget::<LastingFailure>(store, profile, |failure| failure.because != FailureKind::QuotaExhausted);
    freed.retain(|name| !kept.iter().any(|kept| kept.profile == *name));
    freed.sort();
    freed.dedup();
    (freed, kept)
}

fn forget<E: Entry>(store: &Store, profile: Option<&str>, is_over: impl Fn(&E) -> bool) -> Vec<String> {
    let of_profile = |entry: &E| profile.is_none_or(|only| only == entry.profile());
    let held: Vec<E> = load::<E>(store).into_iter().filter(|entry| of_profile(entry) && is_over(entry)).collect();
    if !held.is_empty() {
        store.change(E::KIND, held.iter().map(|entry| Change::Remove(entry.key())).collect());
    }
    held.iter().map(|entry| entry.profile().to_owned()).collect()
}

impl Gateway {
    /// Takes over what earlier processes have learned and still holds.
    pub(crate) fn recall(&self) {
        let Some(store) = self.store() else { return };
        let lasting = Lasting {
            benches: load::<LastingBench>(store),
            breakers: load::<LastingBreaker>(store),
            failures: load::<LastingFailure>(store),
            windows: load::<LastingWindow>(store),
            stays: load::<LastingStay>(store),
            spends: load::<LastingSpend>(store),
            switch: load::<LastingSwitch>(store).pop(),
            pauses: load::<LastingPause>(store),
        };
        self.histories().remember(load::<Minted>(store));
        let snapshot = self.snapshot();
        let mut kept = self.kept();
        let calendar = self.calendar(&mut kept);
        let id = |name: &str| snapshot.id(name);
        let day = today(calendar.wall_ms());
        // One process from another, also where both start in one second.
        let writer = self.outside().dice().to_bits();
        let own = self.with_world(|world| {
            world.spending.writer = writer;
            world.spending.look_at_calendar(calendar.wall_ms());
            if let Some(day) = day {
                world.spending.begin_day(day);
            }
            lasting.restore(world, calendar, id);
            Lasting::of(world, calendar, |id: ProfileId| snapshot.known_name(id))
        });
        // These the store has; what this configuration does not know is left to those who know it.
        let now_ms = calendar.wall_ms();
        kept.changes(&own.benches, now_ms);
        kept.changes(&own.breakers, now_ms);
        kept.changes(&own.failures, now_ms);
        kept.changes(&own.windows, now_ms);
        kept.changes(&own.stays, now_ms);
        kept.changes(own.switch.as_slice(), now_ms);
        kept.changes(&own.pauses, now_ms);
    }

    /// Keeps what has been learned since the last time: at once what a failure or the user taught, else now and then. Looking through all
    /// that is known costs more than a good exchange.
    pub(crate) fn keep_learned(&self, at_once: bool) {
        let due = |eased: Option<Instant>| eased.is_none_or(|eased| clock::since(eased) >= EASY_EVERY);
        if at_once || due(self.kept().eased) {
            self.keep(due);
        }
    }

    /// Keeps what was spent of budgets, at once: a crash must not give money back. Hears what other processes have spent meanwhile.
    pub(crate) fn keep_spending(&self) {
        let Some(store) = self.store() else { return };
        let snapshot = self.snapshot();
        let mut kept = self.kept();
        let now_ms = self.calendar(&mut kept).wall_ms();
        let own = self.with_world(|world| lasting::spends(&world.spending, |id: ProfileId| snapshot.known_name(id)));
        kept.tell(store, &own, now_ms);
        self.hear_of_spending(store, &snapshot, now_ms);
    }

    /// Keeps who minted which thinking block, when another company has answered: a way back after a restart needs it.
    pub(crate) fn keep_mints(&self) {
        let Some(store) = self.store() else { return };
        let since = self.outside().wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let fresh = self.histories().take_fresh(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        if !fresh.is_empty() {
            store.change(Minted::KIND, fresh.iter().map(state_entry).map(Change::Put).collect());
        }
    }

    fn hear_of_spending(&self, store: &Store, snapshot: &Snapshot, now_ms: u64) {
        let told = load::<LastingSpend>(store);
        self.with_world(|world| lasting::hear_of_spending(&mut world.spending, &told, now_ms, |name| snapshot.id(name)));
    }

    /// Begins another day's budgets when this machine's calendar does. Asks for it only where there are budgets.
    pub(crate) fn look_at_calendar(&self, snapshot: &Snapshot) {
        if !snapshot.has_budgets() {
            return;
        }
        let since = self.outside().wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let same_day = self.with_world(|world| world.spending.look_at_calendar(now_ms));
        if let Some(day) = if same_day { None } else { today(now_ms) } {
            self.with_world(|world| world.spending.begin_day(day));
        }
        let Some(store) = self.store() else { return };
        let heard = store.heard();
        if std::mem::replace(&mut self.kept().heard, heard) != heard || !same_day {
            self.hear_of_spending(store, snapshot, now_ms);
        }
    }

    /// Keeps everything that lasts: this is the end.
    pub fn keep_all(&self) {
        self.keep(|_| true);
    }

    fn keep(&self, is_due: impl Fn(Option<Instant>) -> bool) {
        let Some(store) = self.store() else { return };
        let snapshot = self.snapshot();
        let mut kept = self.kept();
        let calendar = self.calendar(&mut kept);
        let lasting = self.with_world(|world| Lasting::of(world, calendar, |id: ProfileId| snapshot.known_name(id)));
        let now_ms = calendar.wall_ms();
        kept.tell(store, &lasting.benches, now_ms);
        kept.tell(store, &lasting.breakers, now_ms);
        kept.tell(store, &lasting.failures, now_ms);
        kept.tell(store, lasting.switch.as_slice(), now_ms);
        kept.tell(store, &lasting.spends, now_ms);
        kept.tell(store, &lasting.pauses, now_ms);
        if is_due(kept.eased) {
            kept.eased = Some(clock::now());
            kept.tell(store, &lasting.windows, now_ms);
            kept.tell(store, &lasting.stays, now_ms);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calendar(&self, kept: &mut Kept) -> Calendar {
        let since = self.outside().wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (now, wall_ms) = (clock::now(), u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        *kept.calendar.insert(kept.calendar.map_or_else(|| Calendar::new(now, wall_ms), |calendar| calendar.go_on(now, wall_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(until_ms: u64) -> LastingSwitch {
        LastingSwitch { profile: "work".to_owned(), until_ms: Some(until_ms), ends_at_ms: until_ms }
    }

    #[test]
    fn only_what_changed_is_told_and_what_ended_goes_by_itself() {
        let mut kept = Kept::default();
        assert_eq!(kept.changes::<LastingSwitch>(&[], 0), []);
        assert_eq!(kept.changes(&[switch(10)], 0), [Change::Put(state_entry(&switch(10)))]);
        assert_eq!(kept.changes(&[switch(10)], 5), []);
        assert_eq!(kept.changes::<LastingSwitch>(&[], 5), [Change::Remove("switch".to_owned())]);
        kept.changes(&[switch(10)], 0);
        assert_eq!(kept.changes::<LastingSwitch>(&[], 10), []);
    }
}
