//! What was learned and lasts over a restart. Decides how long it may live; never what it means.

use std::time::Duration;

/// Longest that anything learned is believed.
pub const LONGEST_LIFE: Duration = Duration::from_secs(8 * 24 * 3600);

/// Most entries of one kind; those that end first are given up first.
pub(crate) const ENTRIES_CAP: usize = 4096;

/// Kinds in which every process has keys of its own and wants to know those of others while it runs: they are read anew whenever it has
/// written some itself.
pub(crate) const SHARED: [&str; 1] = ["spend"];

/// One thing that was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// What it is about, unique in its kind.
    pub key: String,
    /// JSON.
    pub value: String,
    /// When it is forgotten, in milliseconds since 1970 (UTC); at most [`LONGEST_LIFE`] from now.
    pub expires_at_ms: u64,
}

/// What became of one thing that was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is so now.
    Put(StateEntry),
    /// What has this key holds no longer.
    Remove(String),
}

impl Change {
    /// What it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Remove(key) => key,
        }
    }

    /// Whether it is still worth writing: what has ended is forgotten anyway.
    pub(crate) fn counts(&self, now_ms: u64) -> bool {
        match self {
            Self::Put(entry) => entry.expires_at_ms > now_ms,
            Self::Remove(_) => true,
        }
    }

    fn ends_at_ms(&self) -> u64 {
        match self {
            Self::Put(entry) => entry.expires_at_ms,
            Self::Remove(_) => u64::MAX,
        }
    }
}

/// The changes with those of later put over them, at most [`ENTRIES_CAP`].
pub(crate) fn merged(changes: &mut Vec<Change>, later: Vec<Change>) {
    for change in later {
        match changes.iter_mut().find(|known| known.key() == change.key()) {
            Some(known) => *known = change,
            None => changes.push(change),
        }
    }
    if changes.len() > ENTRIES_CAP {
        changes.sort_by_key(|change| std::cmp::Reverse(change.ends_at_ms()));
        changes.truncate(ENTRIES_CAP);
    }
}

/// What is known with the changes put over it.
pub(crate) fn changed(mut known: Vec<StateEntry>, changes: &[Change], now_ms: u64) -> Vec<StateEntry> {
    known.retain(|entry| !changes.iter().any(|change| change.key() == entry.key));
    let put = changes.iter().filter_map(|change| if let Change::Put(entry) = change { Some(entry.clone()) } else { None });
    known.extend(put);
    kept(known, now_ms)
}

/// What may be kept of them: alive, none for longer than [`LONGEST_LIFE`], at most [`ENTRIES_CAP`].
pub(crate) fn kept(mut entries: Vec<StateEntry>, now_ms: u64) -> Vec<StateEntry> {
    let latest = now_ms.saturating_add(u64::try_from(LONGEST_LIFE.as_millis()).unwrap_or(u64::MAX));
    entries.retain(|entry| entry.expires_at_ms > now_ms);
    for entry in &mut entries {
        entry.expires_at_ms = entry.expires_at_ms.min(latest);
    }
    if entries.len() > ENTRIES_CAP {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.expires_at_ms));
        entries.truncate(ENTRIES_CAP);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: usize, expires_at_ms: u64) -> StateEntry {
        StateEntry { key: key.to_string(), value: "1".to_owned(), expires_at_ms }
    }

    #[test]
    fn the_ones_that_end_first_go_first() {
        let entries: Vec<StateEntry> = (0..ENTRIES_CAP + 10).map(|place| entry(place, 1000 + place as u64)).collect();
        let kept = kept(entries, 0);
        assert_eq!(kept.len(), ENTRIES_CAP);
        assert!(kept.iter().all(|entry| entry.expires_at_ms >= 1010));
    }

    proptest! {
        #[test]
        fn nothing_is_kept_dead_or_for_longer_than_it_may_live(now: u64, ends in proptest::collection::vec(any::<u64>(), 0..20)) {
            let entries: Vec<StateEntry> = ends.iter().enumerate().map(|(place, ends)| entry(place, *ends)).collect();
            let kept = kept(entries, now);
            prop_assert_eq!(kept.len(), ends.iter().filter(|ends| **ends > now).count());
            for entry in kept {
                prop_assert!(entry.expires_at_ms > now && entry.expires_at_ms - now <= 8 * 24 * 3_600_000);
            }
        }
    }
}
