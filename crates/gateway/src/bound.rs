//! Finds the snapshot that holds for a request: that of the folder which its session works in. A folder's broken configuration stops no
//! request, and a folder that is not known loosens nothing: then only what every chain of this home allows may be asked.
//!
//! A session is where it was named last (`POST /hotspare/session`, sent by the client's hooks), and the rules of a folder go on to hold when
//! it leaves that folder: its conversation holds what was read there. So the last of its folders that has rules of its own decides, and
//! every other one with rules limits it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hotspare_config::{Config, FOLDER_HEADER, FolderConfig, Folders, folder_from_header};
use hotspare_upstream::clock;
use http::HeaderMap;

use crate::limits::{Limit, Limited, Reason};
use crate::server::Gateway;
use crate::sessions::{MAX_SESSION_FOLDERS, Sessions, is_folder, session_id};
use crate::snapshot::Snapshot;

/// The header with the client's own id of a session; requests of its sub-agents carry the same (measured, 2.1.332).
pub(crate) const SESSION_HEADER: &str = "x-claude-code-session-id";

/// Most compiled snapshots that are kept beside the gateway's own.
const MAX_COMPILED: usize = 64;

/// Most folders whose project files limit a session that is not known, those that were named last.
const MAX_LIMITING_FOLDERS: usize = 32;

/// Most folders that are looked at at a time. A folder on a network's file system that does not answer holds one.
const MAX_LOOKS: usize = MAX_LIMITING_FOLDERS;

/// Longest that a request waits for a look at a folder's files. A local look takes less than a millisecond.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// A look at a folder's files that is under way.
type Look = Shared<BoxFuture<'static, ()>>;

/// Compiled once for these parts, which it keeps alive.
type Joined = (Vec<Arc<Snapshot>>, Reason, Arc<Snapshot>);

/// The configurations of folders, compiled, and the sessions that work there.
pub(crate) struct Bound {
    pub(crate) folders: Folders,
    pub(crate) sessions: Sessions,
    /// The one that was asked for last stands last.
    compiled: Mutex<Vec<(Arc<Config>, Arc<Snapshot>)>>,
    joined: Mutex<Vec<Joined>>,
    looks: Mutex<HashMap<PathBuf, Look>>,
}

impl Bound {
    pub(crate) fn new(folders: Folders) -> Self {
        let (sessions, compiled, joined, looks) = Default::default();
        Self { folders, sessions, compiled, joined, looks }
    }

    /// The folders that the client of a request has named, the newest last; `None` if it has named none.
    fn folders_of(&self, headers: &HeaderMap) -> Option<Vec<PathBuf>> {
        if let Some(named) = headers.get(FOLDER_HEADER) {
            return folder_from_header(named.as_bytes()).filter(|folder| is_folder(folder)).map(|folder| vec![folder]);
        }
        self.sessions.folders(session_of(headers)?)
    }

    /// The folders whose files decide how a request is led.
    fn concerned(&self, headers: &HeaderMap) -> Vec<PathBuf> {
        self.folders_of(headers).unwrap_or_else(|| self.limiting())
    }

    fn limiting(&self) -> Vec<PathBuf> {
        self.sessions.in_use(MAX_LIMITING_FOLDERS).1.into_iter().map(|(folder, _)| folder).collect()
    }

    /// What is known of a folder without a look at its files.
    pub(crate) fn known(&self, folder: &Path) -> Option<FolderConfig> {
        self.folders.known(clock::now(), folder).map(|(outcome, _)| outcome)
    }

    fn is_fresh(&self, folder: &Path) -> bool {
        self.folders.known(clock::now(), folder).is_some_and(|(_, is_fresh)| is_fresh)
    }
}

impl Gateway {
    /// What an exchange with these headers gets; it keeps it for its whole life. By what is known of the folders' files: see
    /// [`Gateway::look_at_folders`].
    pub fn snapshot_for(&self, headers: &HeaderMap) -> Arc<Snapshot> {
        if let Some(snapshot) = self.lane.as_ref().and_then(|lane| lane.snapshot(headers)) {
            return snapshot;
        }
        let Some(bound) = self.bound() else { return self.snapshot() };
        match bound.folders_of(headers) {
            Some(folders) => self.snapshot_of(bound, &folders),
            None => self.strictest(bound, Reason::UnknownFolder),
        }
    }

    /// The snapshot of the session that an exchange belonged to, for what is told of it afterwards.
    pub(crate) fn snapshot_of_session(&self, session: Option<&str>) -> Arc<Snapshot> {
        let folders = self.bound().zip(session).and_then(|(bound, session)| Some((bound, bound.sessions.folders(session)?)));
        folders.map_or_else(|| self.snapshot(), |(bound, folders)| self.snapshot_of(bound, &folders))
    }

    /// Looks at the files of the folders that decide how a request is led, where that was not done a moment ago. Waits for the disk, but not
    /// for long; what is known then holds.
    pub async fn look_at_folders(self: &Arc<Self>, headers: &HeaderMap) {
        let Some(bound) = self.bound() else { return };
        if let Some(session) = session_of(headers).filter(|session| bound.sessions.folders(session).is_none())
            && self.has_rules_of_folders(bound)
        {
            bound.sessions.wait_for(session).await;
        }
        self.look_at(bound.concerned(headers)).await;
    }

    pub(crate) async fn look_at(self: &Arc<Self>, folders: Vec<PathBuf>) {
        let Some(bound) = self.bound() else { return };
        let stale = folders.into_iter().filter(|folder| !bound.is_fresh(folder));
        let looks: Vec<Look> = stale.filter_map(|folder| self.look(bound, folder)).collect();
        if !looks.is_empty() {
            // Cancel-safe: a look goes on without whoever waits for it.
            let _ = tokio::time::timeout(LOOK_TIMEOUT, futures_util::future::join_all(looks)).await;
        }
    }

    /// The look at this folder that is under way, or one that begins. `None` if too many are.
    fn look(self: &Arc<Self>, bound: &Bound, folder: PathBuf) -> Option<Look> {
        let mut looks = lock(&bound.looks);
        if let Some(look) = looks.get(&folder) {
            return Some(look.clone());
        }
        if looks.len() >= MAX_LOOKS {
            return None;
        }
        let (gateway, cwd) = (self.clone(), folder.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let Some(bound) = gateway.bound() else { return };
            let before = bound.known(&cwd);
            let now = bound.folders.look(clock::now(), &cwd);
            tell(&cwd, before.as_ref(), &now);
            lock(&bound.looks).remove(&cwd);
        });
        let look = reading.map(|_| ()).boxed().shared();
        looks.insert(folder, look.clone());
        Some(look)
    }

    /// Whether rules hold in some folders alone, as far as that is known.
    pub(crate) fn has_rules_of_folders(&self, bound: &Bound) -> bool {
        let is_ruled = |folder: &PathBuf| self.snapshot_in(bound, folder).is_some_and(|snapshot| snapshot.is_ruled());
        self.snapshot().has_folder_rules() || bound.limiting().iter().any(is_ruled)
    }

    /// What holds for a session in these folders, the newest last.
    fn snapshot_of(&self, bound: &Bound, folders: &[PathBuf]) -> Arc<Snapshot> {
        if folders.len() > MAX_SESSION_FOLDERS {
            return self.strictest(bound, Reason::UnknownFolder);
        }
        let mut known = Vec::with_capacity(folders.len());
        for folder in folders {
            let Some(snapshot) = self.snapshot_in(bound, folder) else {
                return self.strictest(bound, Reason::Unreadable(folder.display().to_string()));
            };
            known.push(snapshot);
        }
        let decides = known.iter().rposition(|snapshot| snapshot.is_ruled()).unwrap_or(known.len().saturating_sub(1));
        let Some(snapshot) = known.get(decides).cloned() else { return self.strictest(bound, Reason::UnknownFolder) };
        let others: Vec<Arc<Snapshot>> =
            known.into_iter().take(decides).filter(|other| other.is_ruled() && !other.leads_as(&snapshot)).collect();
        let Some(before) = others.last().and_then(|other| other.folder.clone()) else { return snapshot };
        let base = self.snapshot();
        let limits = |others: &[Arc<Snapshot>]| {
            let firm = |other: &Arc<Snapshot>| {
                let other = other.clone();
                let place = base.clone();
                base.folder_limits(move |at, _| place.holds_in(at, &other)).collect::<Vec<_>>()
            };
            others.iter().flat_map(|other| firm(other).into_iter().chain([other.as_limit()])).collect()
        };
        join(bound, snapshot, &others, Reason::SeveralFolders(before.to_string()), limits)
    }

    /// The gateway's own chains, without the profiles that any chain of this home keeps from its folder: the user's, which name folders, and
    /// those of the project files in the folders that are known. Where no chain names a folder and no project file is known, the gateway's own.
    fn strictest(&self, bound: &Bound, reason: Reason) -> Arc<Snapshot> {
        let base = self.snapshot();
        let projects: Vec<Arc<Snapshot>> = bound
            .limiting()
            .iter()
            .filter_map(|folder| self.snapshot_in(bound, folder))
            .filter(|snapshot| snapshot.has_project_files())
            .collect();
        if !base.has_folder_rules() && projects.is_empty() {
            return base;
        }
        let limits = |projects: &[Arc<Snapshot>]| {
            let mut limits: Vec<Limit> = Vec::new();
            // The gateway's own working directory says nothing of a session's.
            let own = base.folder_limits(|_, _| true).chain(base.elsewhere_limit());
            let firm_first = projects.iter().map(|project| project.as_limit()).partition::<Vec<_>, _>(|limit| limit.is_firm);
            for limit in own.chain(firm_first.0).chain(firm_first.1) {
                if !limits.contains(&limit) {
                    limits.push(limit);
                }
            }
            limits
        };
        join(bound, base.clone(), &projects, reason, limits)
    }

    /// The snapshot of a folder by what is known of its files; `None` if it never had a valid configuration, or was never looked at.
    pub(crate) fn snapshot_in(&self, bound: &Bound, folder: &Path) -> Option<Arc<Snapshot>> {
        let config = bound.known(folder)?.config?;
        let mut compiled = lock(&bound.compiled);
        let found = compiled.iter().position(|(known, _)| Arc::ptr_eq(known, &config)).map(|place| compiled.remove(place));
        let entry = if let Some(entry) = found {
            entry
        } else {
            let snapshot = Arc::unwrap_or_clone(self.compile(&config).ok()?);
            (config, Arc::new(snapshot.in_folder(folder)))
        };
        let snapshot = entry.1.clone();
        compiled.push(entry);
        if compiled.len() > MAX_COMPILED {
            compiled.remove(0);
        }
        Some(snapshot)
    }
}

/// A snapshot with the limits that come of others, made once.
fn join(
    bound: &Bound,
    snapshot: Arc<Snapshot>,
    others: &[Arc<Snapshot>],
    reason: Reason,
    limits: impl FnOnce(&[Arc<Snapshot>]) -> Vec<Limit>,
) -> Arc<Snapshot> {
    let is_of = |parts: &[Arc<Snapshot>]| {
        parts.len() == others.len() + 1
            && Arc::ptr_eq(&parts[0], &snapshot)
            && parts[1..].iter().zip(others).all(|(one, other)| Arc::ptr_eq(one, other))
    };
    let mut joined = lock(&bound.joined);
    let found = joined.iter().position(|(parts, known, _)| is_of(parts) && *known == reason).map(|place| joined.remove(place));
    let entry = found.unwrap_or_else(|| {
        let limited = Arc::new(snapshot.with_limits(Limited { reason: reason.clone(), of: limits(others) }));
        (std::iter::once(snapshot).chain(others.iter().cloned()).collect(), reason, limited)
    });
    let limited = entry.2.clone();
    joined.push(entry);
    if joined.len() > MAX_COMPILED {
        joined.remove(0);
    }
    limited
}

/// Logs what has become wrong with a folder's configuration.
fn tell(folder: &Path, before: Option<&FolderConfig>, now: &FolderConfig) {
    if before.is_some_and(|before| before.left_out == now.left_out && before.errors.is_some() == now.errors.is_some()) {
        return;
    }
    for fault in now.left_out.iter() {
        tracing::warn!(folder = %folder.display(), "a project file is left out: {}", problem(fault));
    }
    if let Some(errors) = &now.errors {
        tracing::warn!(folder = %folder.display(), "the configuration for a client's folder cannot be read:\n{errors}");
    }
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION_HEADER)?.to_str().ok().and_then(session_id)
}

/// What is wrong with a project file, with file and line, and what holds in its place.
pub(crate) fn problem(fault: &hotspare_config::LeftOut) -> String {
    let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
    let holds = if fault.keeps_last_good { "its last good text holds" } else { "nothing of it holds" };
    format!("{}{line}: {}; {holds}", fault.file.display(), fault.title)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
