//! What was left out of answers of other companies, for the company that gave them: thinking, and ids that their replacement cannot carry.
//!
//! It is kept in memory alone and ends with the process. A company that demands its thinking back is then asked to answer without
//! thinking. Invariant: all entries together stay below [`MAX_BYTES`]; the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Most bytes that are kept in all: some thousand tool calls with a page of thinking each.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that an entry takes beside its texts, roughly.
const ENTRY_BYTES: usize = 256;

/// What was left out at one tool call.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Blocks of thinking as JSON, each with the number of visible blocks between it and the call.
    pub(super) thoughts: Option<Arc<[(usize, String)]>>,
    /// The id that the company had minted.
    pub(super) id: Option<String>,
}

impl LeftOut {
    fn bytes(&self) -> usize {
        let thoughts = self.thoughts.iter().flat_map(|thoughts| thoughts.iter()).map(|(_, block)| block.len());
        ENTRY_BYTES + thoughts.sum::<usize>() + self.id.as_ref().map_or(0, String::len)
    }
}

/// Everything that was left out, by company and the call's id as the client has it.
#[derive(Debug, Default)]
pub(super) struct LeftOuts {
    entries: HashMap<(Arc<str>, Arc<str>), LeftOut>,
    order: VecDeque<(Arc<str>, Arc<str>)>,
    bytes: usize,
}

impl LeftOuts {
    /// Adds to what was left out at a call.
    pub(super) fn add(&mut self, company: &str, call: &str, change: impl FnOnce(&mut LeftOut)) {
        let key: (Arc<str>, Arc<str>) = (company.into(), call.into());
        if !self.entries.contains_key(&key) {
            self.order.push_back(key.clone());
        }
        let entry = self.entries.entry(key).or_insert_with(|| {
            self.bytes += ENTRY_BYTES;
            LeftOut::default()
        });
        let before = entry.bytes();
        change(entry);
        self.bytes = self.bytes - before + entry.bytes();
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.entries.remove(&oldest).map_or(0, |entry| entry.bytes());
        }
    }

    /// What was left out at a call. `None` if nothing was, or it is forgotten.
    pub(super) fn of(&self, company: &str, call: &str) -> Option<&LeftOut> {
        self.entries.get(&(company.into(), call.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_company_and_call() {
        let mut left = LeftOuts::default();
        left.add("api.z.ai", "toolu_1", |entry| entry.id = Some("a.b".to_owned()));
        left.add("api.z.ai", "toolu_1", |entry| entry.thoughts = Some(Arc::from([(0, "{}".to_owned())])));
        let entry = left.of("api.z.ai", "toolu_1").expect("kept");
        assert_eq!((entry.id.as_deref(), entry.thoughts.as_deref()), (Some("a.b"), Some(&[(0, "{}".to_owned())][..])));
        assert!(left.of("api.deepseek.com", "toolu_1").is_none() && left.of("api.z.ai", "toolu_2").is_none());
    }

    #[test]
    fn oldest_entries_go_first_and_the_sum_is_bounded() {
        let mut left = LeftOuts::default();
        for call in 0..200 {
            left.add("c", &call.to_string(), |entry| entry.thoughts = Some(Arc::from([(0, "x".repeat(128 * 1024))])));
        }
        let kept: usize = left.entries.values().map(LeftOut::bytes).sum();
        assert!(left.bytes == kept && kept <= MAX_BYTES && left.order.len() == left.entries.len());
        assert!(left.of("c", "0").is_none() && left.of("c", "199").is_some());
        left.add("c", "huge", |entry| entry.id = Some("x".repeat(MAX_BYTES)));
        assert_eq!((left.entries.len(), left.bytes), (0, 0));
    }
}
