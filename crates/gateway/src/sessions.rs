//! Remembers in which folders each session of a client works, so that a request can be judged by its session alone. Knows no
//! configuration: what holds in a folder is `bound`'s to say.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotspare_config::{folder_from_header, folder_to_header};
use hotspare_core::lasting::Entry;
use hotspare_core::record::SESSION_ID_CAP;
use hotspare_store::LONGEST_LIFE;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Most sessions that are remembered. Beyond it the one that was named least lately is forgotten; the client names it again with its next
/// prompt.
pub(crate) const MAX_SESSIONS: usize = 1024;

/// Most folders of one session. A session with more is judged as one whose folder is not known.
pub(crate) const MAX_SESSION_FOLDERS: usize = 8;

/// Longest path of a folder, in bytes; `PATH_MAX` of Linux.
pub(crate) const MAX_FOLDER_BYTES: usize = 4096;

/// How long a session is remembered after it was last named. The store keeps nothing longer.
pub(crate) const SESSION_TTL: Duration = LONGEST_LIFE;

/// Longest that a request waits for its session to be named. The interactive client checks its quota while its hooks run (measured, 2.1.332:
/// the request is there about 0.1 s before the name).
const NAMING_TIMEOUT: Duration = Duration::from_secs(1);

/// Most sessions that are known for not being named; only the first requests of a session wait.
const MAX_NAMELESS: usize = 256;

/// The store's copy of a session that has not changed is renewed this often.
const RENEW_INTERVAL: Duration = Duration::from_secs(3600);

/// A session and its folders, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingSession {
    /// The client's own id of the session.
    session: String,
    /// Each as in a header: not every path is text. The newest is the last one.
    folders: Vec<String>,
    /// When it is forgotten, in milliseconds since 1970 (UTC).
    ends_at_ms: u64,
}

impl Entry for LastingSession {
    const KIND: &'static str = "session_folder";

    fn key(&self) -> String {
        self.session.clone()
    }

    fn profile(&self) -> &'static str {
        ""
    }

    fn ends_at_ms(&self) -> u64 {
        self.ends_at_ms
    }
}

/// The sessions that a client has named.
#[derive(Default)]
pub(crate) struct Sessions {
    inner: Mutex<Inner>,
    /// A session was named.
    named: Notify,
}

#[derive(Default)]
struct Inner {
    known: HashMap<String, Session>,
    /// Grows with each session that is named.
    turn: u64,
    /// Sessions that were waited for in vain, the oldest first.
    nameless: VecDeque<String>,
}

#[derive(Debug, Clone, Default)]
struct Session {
    /// The newest is the last one.
    folders: Vec<PathBuf>,
    /// The turn in which it was last named.
    named: u64,
    /// The end of life that the store has for it, in milliseconds since 1970 (UTC).
    ends_at_ms: u64,
}

/// A session's id as it counts here; `None` if it is none.
pub(crate) fn session_id(text: &str) -> Option<&str> {
    let is_id = (1..=SESSION_ID_CAP).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_id.then_some(text)
}

/// A folder as it may be remembered: an absolute path of a bearable length.
pub(crate) fn is_folder(folder: &Path) -> bool {
    let bytes = folder.as_os_str().as_encoded_bytes();
    folder.is_absolute() && bytes.len() <= MAX_FOLDER_BYTES && !bytes.contains(&0)
}

impl Sessions {
    /// The folders of a session, the newest last; `None` if it was never named.
    pub(crate) fn folders(&self, session: &str) -> Option<Vec<PathBuf>> {
        self.lock().known.get(session).map(|session| session.folders.clone())
    }

    /// Waits a moment for a session that was not named yet, unless that was in vain before.
    pub(crate) async fn wait_for(&self, session: &str) {
        if self.lock().nameless.iter().any(|known| known == session) {
            return;
        }
        let naming = async {
            loop {
                // Made before the look, so that no name falls between.
                let named = self.named.notified();
                if self.folders(session).is_some() {
                    break;
                }
                named.await;
            }
        };
        // Cancel-safe: a name that comes later is found by the next request.
        if tokio::time::timeout(NAMING_TIMEOUT, naming).await.is_err() {
            let mut inner = self.lock();
            inner.nameless.push_back(session.to_owned());
            if inner.nameless.len() > MAX_NAMELESS {
                inner.nameless.pop_front();
            }
        }
    }

    /// Notes that a session works in this folder now. Returns all its folders, the newest last, and the session that was forgotten for it.
    pub(crate) fn enter(&self, session: &str, folder: &Path) -> (Vec<PathBuf>, Option<String>) {
        let mut inner = self.lock();
        let gone = if inner.known.contains_key(session) { None } else { inner.make_room() };
        inner.turn += 1;
        let turn = inner.turn;
        let known = inner.known.entry(session.to_owned()).or_default();
        known.named = turn;
        if known.folders.len() <= MAX_SESSION_FOLDERS {
            known.folders.retain(|known| known != folder);
            known.folders.push(folder.to_owned());
        }
        let folders = known.folders.clone();
        drop(inner);
        self.named.notify_waiters();
        (folders, gone)
    }

    /// Keeps these of a session's folders and no others, where they are still the ones that it had. Returns what the store must know.
    pub(crate) fn settle(&self, session: &str, (before, after): (&[PathBuf], Vec<PathBuf>), now_ms: u64) -> Option<LastingSession> {
        let mut inner = self.lock();
        let known = inner.known.get_mut(session)?;
        let has_changed = known.folders == before && before != after.as_slice();
        if has_changed {
            known.folders = after;
        }
        let life = millis(SESSION_TTL);
        let is_old = known.ends_at_ms < now_ms.saturating_add(life).saturating_sub(millis(RENEW_INTERVAL));
        let entry = LastingSession {
            session: session.to_owned(),
            folders: known.folders.iter().map(|folder| folder_to_header(folder)).collect(),
            ends_at_ms: if is_old { now_ms.saturating_add(life) } else { known.ends_at_ms },
        };
        known.ends_at_ms = entry.ends_at_ms;
        Some(entry)
    }

    /// What was kept of earlier processes. What makes no sense is left out.
    pub(crate) fn remember(&self, mut kept: Vec<LastingSession>) {
        // The newest stay where there are too many.
        kept.sort_by_key(|entry| entry.ends_at_ms);
        let mut inner = self.lock();
        for LastingSession { session, folders, ends_at_ms } in kept {
            let folders: Vec<PathBuf> = folders
                .iter()
                .take(MAX_SESSION_FOLDERS + 1)
                .filter_map(|folder| folder_from_header(folder.as_bytes()))
                .filter(|folder| is_folder(folder))
                .collect();
            if session_id(&session).is_none() || folders.is_empty() {
                continue;
            }
            inner.make_room();
            inner.turn += 1;
            let named = inner.turn;
            inner.known.insert(session, Session { folders, named, ends_at_ms });
        }
    }

    /// How many sessions are remembered, and the folder that each of them is in with how many are in it, the one that was named last first.
    pub(crate) fn in_use(&self, most: usize) -> (usize, Vec<(PathBuf, u64)>) {
        let inner = self.lock();
        let mut newest: HashMap<&Path, (u64, u64)> = HashMap::new();
        for session in inner.known.values() {
            let Some(folder) = session.folders.last() else { continue };
            let entry = newest.entry(folder).or_default();
            *entry = (entry.0.max(session.named), entry.1 + 1);
        }
        let mut folders: Vec<(&Path, (u64, u64))> = newest.into_iter().collect();
        folders.sort_by_key(|(_, (named, _))| std::cmp::Reverse(*named));
        folders.truncate(most);
        (inner.known.len(), folders.into_iter().map(|(folder, (_, sessions))| (folder.to_owned(), sessions)).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn make_room(&mut self) -> Option<String> {
        if self.known.len() < MAX_SESSIONS {
            return None;
        }
        let oldest = self.known.iter().min_by_key(|(_, session)| session.named).map(|(id, _)| id.clone())?;
        self.known.remove(&oldest);
        Some(oldest)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(sessions: &Sessions, session: &str, folder: &str) -> Vec<PathBuf> {
        sessions.enter(session, Path::new(folder)).0
    }

    #[test]
    fn session_folders_are_ordered_by_the_last_entry() {
        let sessions = Sessions::default();
        enter(&sessions, "one", "/a");
        enter(&sessions, "one", "/b");
        assert_eq!(enter(&sessions, "one", "/a"), [PathBuf::from("/b"), "/a".into()]);
        assert_eq!(sessions.folders("two"), None);
    }

    #[test]
    fn session_beyond_the_bound_drops_the_oldest() {
        let sessions = Sessions::default();
        for number in 0..MAX_SESSIONS {
            assert_eq!(sessions.enter(&format!("s{number}"), Path::new("/a")).1, None);
        }
        enter(&sessions, "s0", "/a");
        assert_eq!(sessions.enter("new", Path::new("/a")).1.as_deref(), Some("s1"));
        assert!(sessions.folders("s0").is_some() && sessions.folders("s1").is_none());
    }

    #[test]
    fn session_folders_beyond_the_bound_are_not_added() {
        let sessions = Sessions::default();
        for number in 0..40 {
            enter(&sessions, "one", &format!("/{number}"));
        }
        assert_eq!(sessions.folders("one").map(|folders| folders.len()), Some(MAX_SESSION_FOLDERS + 1));
    }

    #[test]
    fn session_kept_is_remembered_and_nonsense_is_not() {
        let sessions = Sessions::default();
        enter(&sessions, "one", "/with space/\u{1b}[2J");
        let kept = sessions.settle("one", (&[], Vec::new()), 1000).expect("it is known");
        assert_eq!(kept.ends_at_ms, 1000 + millis(SESSION_TTL));
        let bad = |session: &str, folder: &str| LastingSession { session: session.into(), folders: vec![folder.into()], ends_at_ms: 1 };
        let restored = Sessions::default();
        restored.remember(vec![kept, bad("two", "relative"), bad("", "/a"), bad("a\nb", "/a"), bad("three", "/a%00b")]);
        assert_eq!(restored.folders("one"), Some(vec![PathBuf::from("/with space/\u{1b}[2J")]));
        assert_eq!(restored.in_use(9).0, 1);
    }

    #[test]
    fn session_settled_meanwhile_changed_keeps_the_newer() {
        let sessions = Sessions::default();
        let before = enter(&sessions, "one", "/a");
        enter(&sessions, "one", "/b");
        sessions.settle("one", (&before, Vec::new()), 0);
        assert_eq!(sessions.folders("one"), Some(vec!["/a".into(), "/b".into()]));
    }

    #[test]
    fn folder_relative_long_or_with_nul_is_refused() {
        assert!(is_folder(Path::new("/a/../b")) && !is_folder(Path::new("a")) && !is_folder(Path::new("/a\0b")));
        assert!(!is_folder(&PathBuf::from(format!("/{}", "x".repeat(MAX_FOLDER_BYTES)))));
    }
}
