//! The handle that whoever serves holds. Never touches the disk on the caller's thread once it is open, and never makes it wait.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hotspare_core::ExchangeRecord;

use crate::database::{Database, FILE, Fault};
use crate::now_ms;
use crate::pending::Pending;
use crate::rows;
use crate::state::{self, Change, StateEntry};
use crate::writer::Writer;

/// How long records are kept where nothing else is said.
pub const DEFAULT_RETAIN: Duration = Duration::from_secs(14 * 24 * 3600);

/// Longest that [`Store::open`] waits for another process that holds the file.
const OPEN_PATIENCE: Duration = Duration::from_millis(250);

/// Longest that the last handle waits for what is still to be written.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// How a store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long records are kept.
    pub retain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { retain: DEFAULT_RETAIN }
    }
}

/// Why nothing can be written just now. Everything goes on in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Since when, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// What is wrong with which file.
    pub words: String,
    /// Exchanges that wait for the disk.
    pub waiting: usize,
    /// Exchanges that were given up since the start, the oldest first.
    pub dropped: u64,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; exchanges are kept in memory ({} wait, {} were given up)", self.words, self.waiting, self.dropped)
    }
}

/// Remembers. Handles are cheap to clone; the last one that goes writes what is left, within a bound.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    _closer: Arc<Closer>,
}

/// What the handles and the writer share. The lock is never held over anything that may wait.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// For the writer: there is work.
    pub(crate) work: Condvar,
    /// For those who wait for the writer.
    pub(crate) progress: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) pending: Pending,
    /// Each kind as it was found in the file, with what changed here.
    known: HashMap<String, Vec<StateEntry>>,
    /// How often what others have learned was read anew.
    heard: u64,
    pub(crate) trouble: Option<(u64, String)>,
    /// The writer has taken something and is not done with it.
    pub(crate) busy: bool,
    /// Somebody waits: the writer is to try now, whatever it is waiting for.
    pub(crate) hurry: bool,
    pub(crate) closing: bool,
    pub(crate) ended: bool,
    /// How long records are kept.
    pub(crate) retain: Duration,
}

impl State {
    /// Takes over what the file holds, where nothing has changed here since.
    pub(crate) fn adopt(&mut self, found: HashMap<String, Vec<StateEntry>>) {
        for (kind, mut entries) in found {
            let known = self.known.entry(kind.clone()).or_default();
            entries.retain(|entry| known.iter().all(|known| known.key != entry.key) && !self.pending.removes(&kind, &entry.key));
            known.append(&mut entries);
        }
    }
}

impl State {
    /// What the file holds of one kind takes the place of what was known of it, but for what is still to be written.
    pub(crate) fn hear(&mut self, kind: &str, mut found: Vec<StateEntry>) {
        let mut known = self.known.remove(kind).unwrap_or_default();
        known.retain(|entry| self.pending.changes(kind, &entry.key));
        found.retain(|entry| !self.pending.changes(kind, &entry.key));
        known.append(&mut found);
        self.known.insert(kind.to_owned(), known);
        self.heard += 1;
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.work.notify_all();
        wait(&self.0, CLOSE_TIME, |state| state.ended);
    }
}

impl Store {
    /// Opens the file in `dir`; where there is none, it is made for its owner alone with the first thing to keep. Always returns a store:
    /// one that cannot write says so with [`Store::trouble`] and tries again.
    pub fn open(dir: &Path, options: Options) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), progress: Condvar::new() });
        shared.lock().retain = options.retain;
        let is_there = dir.join(FILE).try_exists().unwrap_or(true);
        let opened = is_there.then(|| open_and_load(dir, &shared, OPEN_PATIENCE)).transpose();
        if let Err(fault) = &opened {
            tracing::warn!(%fault, "the ledger cannot be opened: exchanges are kept in memory");
            shared.lock().trouble = Some((now_ms(), fault.to_string()));
        }
        let writer = Writer::new(shared.clone(), dir, opened);
        let started = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run());
        if let Err(error) = started {
            let mut state = shared.lock();
            state.ended = true;
            state.trouble = Some((now_ms(), format!("the thread that writes the ledger cannot be started: {error}")));
        }
        Self { _closer: Arc::new(Closer(shared.clone())), shared }
    }

    /// Keeps a record. Never waits: when too many wait already, the oldest gives way.
    pub fn record(&self, record: impl Into<Arc<ExchangeRecord>>) {
        let mut state = self.shared.lock();
        let first = state.pending.is_empty();
        state.pending.push(record.into());
        drop(state);
        // While something waits already, the writer knows when to come by itself; waking it for each record would cost the data path more
        // than all the rest of keeping it.
        if first {
            self.shared.work.notify_one();
        }
    }

    /// Keeps what changed of this kind; what other processes have learned stands beside it. Never waits.
    pub fn change(&self, kind: &'static str, changes: Vec<Change>) {
        let mut state = self.shared.lock();
        let known = state.known.remove(kind).unwrap_or_default();
        state.known.insert(kind.to_owned(), state::changed(known, &changes, now_ms()));
        state.pending.change(kind, changes);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Keeps records for so long from now on.
    pub fn set_retain(&self, retain: Duration) {
        self.shared.lock().retain = retain;
    }

    /// What is known of this kind and has not ended.
    pub fn load(&self, kind: &str) -> Vec<StateEntry> {
        let entries = self.shared.lock().known.get(kind).cloned().unwrap_or_default();
        state::kept(entries, now_ms())
    }

    /// How often what other processes have learned was read anew: when it changes, [`Store::load`] may tell more.
    pub fn heard(&self) -> u64 {
        self.shared.lock().heard
    }

    /// Why nothing can be written just now; none when all is well.
    pub fn trouble(&self) -> Option<Trouble> {
        let state = self.shared.lock();
        let (since_ms, words) = state.trouble.clone()?;
        Some(Trouble { since_ms, words, waiting: state.pending.waiting(), dropped: state.pending.dropped() })
    }

    /// Exchanges that were given up since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.lock().pending.dropped()
    }

    /// Waits until everything so far is written, at most so long. Returns whether it is; while there is trouble one try is made.
    pub fn flush(&self, within: Duration) -> bool {
        self.shared.lock().hurry = true;
        self.shared.work.notify_one();
        wait(&self.shared, within, |state| state.ended || !state.hurry && !state.busy);
        let state = self.shared.lock();
        state.trouble.is_none() && state.pending.is_empty() && !state.busy
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Opens the file and takes over what it holds; a file that cannot be read to its end is moved aside like one that cannot be opened.
pub(crate) fn open_and_load(dir: &Path, shared: &Shared, patience: Duration) -> Result<Database, Fault> {
    let database = Database::open(dir, patience)?;
    match load(&database, shared) {
        Ok(()) => Ok(database),
        Err(Fault::Damaged(_)) => {
            database.give_up_damaged()?;
            Database::open(dir, patience)
        }
        Err(fault) => Err(fault),
    }
}

fn load(database: &Database, shared: &Shared) -> Result<(), Fault> {
    let found = rows::load_state(&database.connection, now_ms()).map_err(|error| database.fault(error))?;
    shared.lock().adopt(found);
    Ok(())
}

/// Waits for the writer, at most so long.
fn wait(shared: &Shared, within: Duration, until: impl Fn(&State) -> bool) {
    let deadline = Instant::now() + within;
    let mut state = shared.lock();
    while !until(&state) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        (state, _) = shared.progress.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
    }
}
