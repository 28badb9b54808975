//! What waits to be written. Bounded: when it is full the oldest record gives way and is counted. Never touches the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use hotspare_core::ExchangeRecord;

use crate::state::{self, Change};

/// Most records that wait.
pub(crate) const RECORDS_CAP: usize = 2048;

/// Most records that are written in one go.
pub(crate) const BATCH_CAP: usize = 256;

/// What waits, or is being written.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    records: VecDeque<Arc<ExchangeRecord>>,
    /// What changed of each kind.
    changes: HashMap<&'static str, Vec<Change>>,
    dropped: u64,
}

/// A part of it, on its way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) records: VecDeque<Arc<ExchangeRecord>>,
    pub(crate) changes: HashMap<&'static str, Vec<Change>>,
}

impl Pending {
    /// One more record.
    pub(crate) fn push(&mut self, record: Arc<ExchangeRecord>) {
        self.records.push_back(record);
        self.give_way();
    }

    /// Changes of one kind, over what waited.
    pub(crate) fn change(&mut self, kind: &'static str, changes: Vec<Change>) {
        state::merged(self.changes.entry(kind).or_default(), changes);
    }

    /// Whether a removal of this key waits.
    pub(crate) fn removes(&self, kind: &str, key: &str) -> bool {
        let changes = self.changes.get(kind).into_iter().flatten();
        changes.into_iter().any(|change| matches!(change, Change::Remove(removed) if removed == key))
    }

    /// Whether a change of this key waits.
    pub(crate) fn changes(&self, kind: &str, key: &str) -> bool {
        self.changes.get(kind).is_some_and(|changes| changes.iter().any(|change| change.key() == key))
    }

    /// The next part, oldest first.
    pub(crate) fn take(&mut self) -> Batch {
        let count = self.records.len().min(BATCH_CAP);
        Batch { records: self.records.drain(..count).collect(), changes: std::mem::take(&mut self.changes) }
    }

    /// A part that could not be written comes back; what changed since then stands.
    pub(crate) fn put_back(&mut self, mut batch: Batch) {
        batch.records.append(&mut self.records);
        self.records = batch.records;
        for (kind, mut changes) in batch.changes {
            state::merged(&mut changes, self.changes.remove(kind).unwrap_or_default());
            self.changes.insert(kind, changes);
        }
        self.give_way();
    }

    fn give_way(&mut self) {
        while self.records.len() > RECORDS_CAP {
            self.records.pop_front();
            self.dropped += 1;
        }
    }

    /// A record that can never be written.
    pub(crate) fn drop_one(&mut self) {
        self.dropped += 1;
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.changes.is_empty()
    }

    /// Records that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.records.len()
    }

    /// Records that were given up.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Batch {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.changes.is_empty()
    }
}
