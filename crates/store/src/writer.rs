//! The one thread that writes. Decides when to write, when to try again and when to prune; never what is worth keeping.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::database::{Database, Fault};
use crate::now_ms;
use crate::pending::{BATCH_CAP, Batch};
use crate::rows;
use crate::state;
use crate::store::{self, Shared};

/// Longest that a write waits for another process that holds the file.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);

/// The file that could not be used is tried again after this time, which doubles up to [`RETRY_LAST`].
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest time between two tries.
const RETRY_LAST: Duration = Duration::from_secs(60);

/// Old rows are looked for this often.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Shortest time from one commit to the next, for each record of the first one: an exchange now and then is written at once, many in a row
/// share a commit, which costs as much as twenty-five records (measured: 350 µs of processor and 15 for each record).
const REST_PER_RECORD: Duration = Duration::from_millis(10);

/// Longest time between two commits while something waits. Each holds up an answer where both share a core: at an answer every 0.3 ms, a commit
/// every 10 ms was the slowest one in fifty of them, at 3 to 4 times the median; every 100 ms, the slowest one in a hundred is at 1.4.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// Priority of the thread that writes, from -20 (first) to 19 (last): on a machine with one core to spare the answers go first, and a commit
/// fits between two of them. Not lower: whoever holds the file's lock must get to the end of its commit while a build takes all cores.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// The thread's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    dir: PathBuf,
    database: Option<Database>,
    /// Failures in a row.
    failures: u32,
    /// The last try before the end was made.
    took_leave: bool,
    try_at: Instant,
    /// Until then more may join the next commit.
    rests_until: Instant,
    prune_at: Instant,
}

/// Lets every other thread go first. Only Linux has a priority for one thread alone; elsewhere nothing is lost but a little haste.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "the thread that writes the ledger keeps its priority");
    }
}

/// How long more may join the next commit, after one of `written` records while `waiting` wait. The busier, the longer, so that what a kill may
/// cost grows only with the load; a full batch leaves other processes just time to write theirs.
fn rest_after(written: usize, waiting: usize) -> Duration {
    let records = if waiting < BATCH_CAP { written.max(1) } else { 1 };
    REST_PER_RECORD.saturating_mul(u32::try_from(records).unwrap_or(u32::MAX)).min(LONGEST_REST)
}

/// Says that the writer is gone, however it went.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.busy = false;
        if !state.closing {
            state.trouble = Some((now_ms(), "the thread that writes the ledger ended by a bug of ours".to_owned()));
        }
        drop(state);
        self.0.progress.notify_all();
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, dir: &Path, opened: Result<Option<Database>, Fault>) -> Self {
        let now = Instant::now();
        let failed = opened.is_err();
        Self {
            shared,
            dir: dir.to_owned(),
            database: opened.unwrap_or_default(),
            failures: u32::from(failed),
            took_leave: false,
            try_at: if failed { now + RETRY_FIRST } else { now },
            rests_until: now,
            prune_at: now,
        }
    }

    /// Writes until the last handle is gone and nothing can be written any more.
    pub(crate) fn run(mut self) {
        let _ended = Ended(self.shared.clone());
        step_back();
        while let Some(batch) = self.next() {
            match self.write(&batch) {
                Ok(too_long) => self.succeeded(&batch, too_long),
                Err(fault) => self.failed(&fault, batch),
            }
        }
        // Closed before anybody is told that it is over: another process may open it next.
        self.database = None;
    }

    /// Waits for something to do; an empty batch is a look at the file itself. None: it is over.
    fn next(&mut self) -> Option<Batch> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.busy = false;
        loop {
            let now = Instant::now();
            let may_try = now >= self.try_at || state.hurry || state.closing && !self.took_leave;
            let rested = now >= self.rests_until || state.hurry || state.closing;
            let work = !state.pending.is_empty();
            let prune = self.database.is_some() && now >= self.prune_at && !state.closing;
            // A file that was never made is made with the first thing to keep.
            let reopen = self.failures > 0 && !work && !state.closing;
            if may_try && (work && rested || prune || reopen) {
                state.busy = true;
                // While it succeeds there may be more; after a failure this was the last try.
                self.took_leave = state.closing && self.failures > 0;
                let batch = if prune { Batch::default() } else { state.pending.take() };
                // Whoever waits does so for all the work.
                state.hurry = state.hurry && !state.pending.is_empty();
                return Some(batch);
            }
            if state.closing {
                return None;
            }
            state.hurry = false;
            shared.progress.notify_all();
            let wake_at = if work || self.failures > 0 { self.try_at.max(self.rests_until) } else { self.prune_at };
            // A look that is due before the file is made waits for it.
            let wait = if wake_at > now { wake_at - now } else { PRUNE_EVERY };
            (state, _) = shared.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes the batch; with an empty one, removes some of what is too old. Returns how many records were too long to be kept.
    fn write(&mut self, batch: &Batch) -> Result<usize, Fault> {
        let database = match &mut self.database {
            Some(database) => database,
            none => none.insert(store::open_and_load(&self.dir, &self.shared, WRITE_PATIENCE)?),
        };
        database.check_in_place()?;
        database.set_patience(WRITE_PATIENCE)?;
        if !batch.is_empty() {
            let too_long = rows::write(&mut database.connection, batch).map_err(|error| database.fault(error))?;
            for kind in state::SHARED.into_iter().filter(|kind| batch.changes.contains_key(kind)) {
                let found = rows::load_kind(&database.connection, kind, now_ms()).map_err(|error| database.fault(error))?;
                self.shared.lock().hear(kind, found);
            }
            return Ok(too_long);
        }
        let retain = self.shared.lock().retain;
        let now_ms = now_ms();
        let oldest_ms = now_ms.saturating_sub(u64::try_from(retain.as_millis()).unwrap_or(u64::MAX));
        let more = rows::prune(&database.connection, oldest_ms, now_ms).map_err(|error| database.fault(error))?;
        self.prune_at = Instant::now() + if more { Duration::ZERO } else { PRUNE_EVERY };
        Ok(0)
    }

    fn succeeded(&mut self, batch: &Batch, too_long: usize) {
        self.failures = 0;
        self.try_at = Instant::now();
        let mut state = self.shared.lock();
        self.rests_until = self.try_at + rest_after(batch.records.len(), state.pending.waiting());
        (0..too_long).for_each(|_| state.pending.drop_one());
        if state.trouble.take().is_some() {
            tracing::info!("the ledger is written again");
        }
    }

    /// Keeps what was not written, and decides when to try again: at once with a fresh file, else later and later.
    fn failed(&mut self, fault: &Fault, batch: Batch) {
        // Whoever waits has waited for this try.
        self.shared.lock().hurry = false;
        let fresh_file = self.failures == 0 && matches!(fault, Fault::Damaged(_) | Fault::Replaced(_));
        if let Some(database) = self.database.take()
            && matches!(fault, Fault::Damaged(_))
            && let Err(error) = database.give_up_damaged()
        {
            tracing::warn!(%error, "the damaged ledger cannot be moved aside");
        }
        let wait = if fresh_file { Duration::ZERO } else { RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(RETRY_LAST) };
        self.failures = self.failures.saturating_add(1);
        self.try_at = Instant::now() + wait;
        let mut state = self.shared.lock();
        state.pending.put_back(batch);
        if !fresh_file {
            if state.trouble.is_none() {
                tracing::warn!(%fault, "the ledger cannot be written: exchanges are kept in memory");
            }
            let since_ms = state.trouble.as_ref().map_or_else(now_ms, |(since_ms, _)| *since_ms);
            state.trouble = Some((since_ms, fault.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_now_and_then_hardly_waits_and_many_wait_within_the_bound() {
        let rests = [(0, 0), (1, 0), (2, 1), (9, 50), (10, 255), (11, 0), (usize::MAX, 0), (256, 256)];
        let rests = rests.map(|(written, waiting)| rest_after(written, waiting).as_millis());
        assert_eq!(rests, [10, 10, 20, 90, 100, 100, 100, 10]);
    }
}
