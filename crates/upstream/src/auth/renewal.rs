//! Renews stored logins by running the user's own Claude Code in their folders, one run at a time per folder.
//!
//! `claude auth status --json` makes the client renew a login whose token lives for less than 5 minutes more: one request to the token
//! endpoint, no model token, 0.5 s, and the client rewrites its credentials file itself (measured with 2.1.237, 2.1.330 and 2.1.332).
//! A refresh token is for single use, so a client that is killed between the endpoint's answer and its own write loses the login. A run
//! therefore belongs to no exchange: who waits for it may go, and it is killed only long after the client's own timeout of 8 s.
//!
//! Invariant: no refresh token is read, sent or written here, and nothing is written into the folder. What came of a run is read from the
//! credentials file, not from the client's output or exit code: both are the same for a renewed and for a dead login.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::claude_dir::{self, Standing};
use crate::claude::ClaudeClient;

/// A token that lives for less than this is renewed before it is sent.
pub(super) const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// The client renews a token that lives for less than this (measured, 2.1.332: at 290 s it does, at 310 s it does not).
pub(super) const CLIENT_RENEWS_BEFORE: Duration = Duration::from_secs(300);

/// Longest that an attempt waits for a renewal. The client's own request ends after 8 s.
const WAIT_TIMEOUT: Duration = Duration::from_secs(9);

/// A failed renewal is not repeated for this long, unless the credentials file changes.
const RETRY_INTERVAL: Duration = Duration::from_secs(300);

/// Longest wait for another process that renews the same login: a run is killed after 30 s.
const LOCK_TIMEOUT: Duration = Duration::from_secs(31);

/// Pause between two looks whether the other process has ended its run.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Why a login was not renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRenewed {
    /// There is no Claude Code that may be run.
    #[error("{0}")]
    NoClient(String),
    /// The client has removed the tokens: the refresh token is dead.
    #[error("its refresh token is dead")]
    Ended,
    /// The client ran and left the file as it was.
    #[error("Claude Code could not renew it")]
    Unchanged,
    /// The client did not end well.
    #[error("`claude auth status` {0}")]
    Client(String),
    /// The run takes longer than an attempt waits.
    #[error("its renewal takes more than {} s", WAIT_TIMEOUT.as_secs())]
    Late,
}

/// What is known of the login of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    /// When this process last saw it renewed.
    pub at: Option<SystemTime>,
    /// Why the last renewal failed; `None` if it did not, or the credentials file has changed since.
    pub failed: Option<NotRenewed>,
}

/// The renewals of all folders, shared by all configurations of a process.
#[derive(Debug)]
pub struct Renewals {
    client: ClaudeClient,
    /// How long an attempt waits.
    wait: Duration,
    /// As many as configurations name.
    folders: Mutex<HashMap<PathBuf, Folder>>,
}

#[derive(Debug, Default)]
struct Folder {
    /// Becomes true when the run has ended. Closed: the run is gone with its runtime.
    running: Option<watch::Receiver<bool>>,
    renewed: Option<SystemTime>,
    failed: Option<Failed>,
    /// The login has ended, and this was not reported yet.
    is_news: bool,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    file: Option<Stamp>,
    why: NotRenewed,
}

/// Tells one state of the credentials file from another: the client replaces it.
type Stamp = (SystemTime, u64);

impl Failed {
    fn new(folder: &Path, why: NotRenewed) -> Self {
        Self { at: Instant::now(), file: stamp(folder), why }
    }

    /// A dead refresh token stays dead; anything else may pass.
    fn holds(&self, folder: &Path) -> bool {
        (self.why == NotRenewed::Ended || self.at.elapsed() < RETRY_INTERVAL) && self.file == stamp(folder)
    }
}

fn stamp(folder: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(claude_dir::credentials_file(folder)).ok()?;
    Some((file.modified().ok()?, file.len()))
}

impl Renewals {
    /// Renewals by this client.
    pub fn by(client: ClaudeClient) -> Arc<Self> {
        Arc::new(Self { client, wait: WAIT_TIMEOUT, folders: Mutex::default() })
    }

    /// What is known of the login of this folder.
    pub fn of(&self, folder: &Path) -> Renewed {
        let folders = self.lock();
        let Some(known) = folders.get(folder) else { return Renewed::default() };
        let failed = known.failed.as_ref().filter(|failed| failed.holds(folder)).map(|failed| failed.why.clone());
        Renewed { at: known.renewed, failed }
    }

    /// Whether an expired login of this folder would be renewed now: there is a client, and its last run did not fail a moment ago.
    pub(super) fn can_renew(&self, folder: &Path) -> Result<(), NotRenewed> {
        match self.of(folder).failed {
            Some(failed) => Err(failed),
            None => self.client.find().map(drop).map_err(NotRenewed::NoClient),
        }
    }

    /// Renews the login of this folder, or waits for the run that does.
    pub(super) async fn renew(self: &Arc<Self>, folder: &Path) -> Result<(), NotRenewed> {
        let mut running = self.running(folder)?;
        // An error means that the run is gone with its runtime: its outcome is then not there.
        tokio::time::timeout(self.wait, running.wait_for(|ended| *ended)).await.map_err(|_| NotRenewed::Late)?.ok();
        match self.of(folder).failed {
            Some(failed) => Err(failed),
            None => Ok(()),
        }
    }

    /// Renews the login of this folder after a delay, unless it was renewed by then. Outside a runtime nothing happens.
    pub(super) fn renew_later(self: &Arc<Self>, folder: &Path, delay: Duration) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (this, folder) = (self.clone(), folder.to_owned());
        runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            let left = claude_dir::standing(&folder, SystemTime::now());
            if left.is_login_within(CLIENT_RENEWS_BEFORE)
                && let Err(why) = this.renew(&folder).await
            {
                tracing::info!(folder = %folder.display(), %why, "login not renewed ahead of need");
            }
        });
    }

    /// Records that the login of this folder has ended, as its file says.
    pub(super) fn note_ended(&self, folder: &Path) {
        let mut folders = self.lock();
        let known = folders.entry(folder.to_owned()).or_default();
        if known.failed.as_ref().is_none_or(|failed| failed.why != NotRenewed::Ended || !failed.holds(folder)) {
            known.failed = Some(Failed::new(folder, NotRenewed::Ended));
            known.is_news = true;
        }
    }

    /// Folders whose login was found to have ended since the last call.
    pub fn take_ended(&self) -> Vec<PathBuf> {
        let mut folders = self.lock();
        folders.iter_mut().filter_map(|(folder, known)| std::mem::take(&mut known.is_news).then(|| folder.clone())).collect()
    }

    /// The run for this folder: the one that is on its way, or a new one.
    fn running(self: &Arc<Self>, folder: &Path) -> Result<watch::Receiver<bool>, NotRenewed> {
        let mut folders = self.lock();
        let known = folders.entry(folder.to_owned()).or_default();
        if let Some(running) = known.running.as_ref().filter(|running| running.has_changed().is_ok()) {
            return Ok(running.clone());
        }
        if let Some(failed) = known.failed.as_ref().filter(|failed| failed.holds(folder)) {
            return Err(failed.why.clone());
        }
        let (ended, running) = watch::channel(false);
        known.running = Some(running.clone());
        let (this, folder) = (self.clone(), folder.to_owned());
        // Apart from the exchange that waits: see the module's head.
        tokio::spawn(async move {
            let outcome = this.run(&folder).await;
            this.note(&folder, outcome);
            // Nobody may be waiting any more.
            let _ = ended.send(true);
        });
        Ok(running)
    }

    async fn run(&self, folder: &Path) -> Result<(), NotRenewed> {
        let begun = Instant::now();
        let before = claude_dir::standing(folder, SystemTime::now());
        let client = self.client.checked().await.map_err(NotRenewed::NoClient)?;
        // Held until the run has ended. `run` and the service may serve the same login, and its refresh token is for single use.
        let _lock = lock(folder).await;
        if is_renewed(before, claude_dir::standing(folder, SystemTime::now())) {
            return Ok(());
        }
        let ran = client.auth_status(folder).await;
        let standing = claude_dir::standing(folder, SystemTime::now());
        tracing::info!(folder = %folder.display(), ?ran, ?standing, ms = begun.elapsed().as_millis(), "ran Claude Code to renew a login");
        match standing {
            Standing::Ended => Err(NotRenewed::Ended),
            Standing::Lives(_) if is_renewed(before, standing) => Ok(()),
            _ => Err(ran.err().map_or(NotRenewed::Unchanged, NotRenewed::Client)),
        }
    }

    fn note(&self, folder: &Path, outcome: Result<(), NotRenewed>) {
        if outcome == Err(NotRenewed::Ended) {
            self.note_ended(folder);
        }
        let mut folders = self.lock();
        let known = folders.entry(folder.to_owned()).or_default();
        known.running = None;
        match outcome {
            Ok(()) => (known.renewed, known.failed) = (Some(SystemTime::now()), None),
            Err(NotRenewed::Ended) => {}
            Err(why) => known.failed = Some(Failed::new(folder, why)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Folder>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until no other process renews the login of this folder. The folder itself is locked, so that nothing is written into it, and the
/// lock ends with its process. `None` if the folder cannot be locked, or the other run takes longer than any may.
async fn lock(folder: &Path) -> Option<File> {
    let begun = Instant::now();
    let file = File::open(folder).ok()?;
    while begun.elapsed() < LOCK_TIMEOUT {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_INTERVAL).await,
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, folder = %folder.display(), "the folder of a login cannot be locked");
                return None;
            }
        }
    }
    None
}

/// Whether the token lives longer after a run than before it. One that still lives without a known end is not told from an old one.
fn is_renewed(before: Standing, after: Standing) -> bool {
    match (before, after) {
        (Standing::Lives(Some(before)), Standing::Lives(Some(after))) => after > before.max(CLIENT_RENEWS_BEFORE),
        (_, Standing::Lives(Some(after))) => after > RENEW_BEFORE,
        (_, Standing::Lives(None)) => true,
        (_, Standing::NoLogin | Standing::RanOut(_) | Standing::Ended) => false,
    }
}

#[cfg(test)]
mod tests;
