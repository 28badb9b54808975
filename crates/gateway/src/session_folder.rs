//! Takes note of the folder that a session works in, and answers what holds there. The client's hooks send it before its requests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use hotspare_core::RequestFacts;
use hotspare_core::lasting::Entry;
use hotspare_store::{Change, StateEntry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bound::{Bound, problem};
use crate::control::{CONTROL_VERSION, Refused};
use crate::lasting;
use crate::limits::Reason;
use crate::server::Gateway;
use crate::sessions::{LastingSession, is_folder, session_id};
use crate::snapshot::Snapshot;

/// Most folders that `status` names.
const MAX_SHOWN: usize = 16;

/// `POST /hotspare/session`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// The client's own session id.
    pub session: String,
    /// The folder that it works in now, an absolute path.
    pub folder: String,
}

/// What holds there.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct SessionAnswer {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Whether the folder decides how the session's requests are led. Otherwise this gateway serves one folder alone.
    pub bound: bool,
    /// What holds in the folder; `None` if that could not be read in time, or never was valid.
    pub folder: Option<FolderStatus>,
}

/// The folders behind one gateway.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct FoldersStatus {
    /// Whether any rule holds in some folders alone: a chain that names folders, or a project file in a folder that is known.
    pub has_rules: bool,
    /// Sessions whose folder is known.
    pub sessions: u64,
    /// Requests since the start whose session's folder was not known, where rules of folders hold.
    pub unknown_requests: u64,
    /// Of those, requests that were refused: no profile is allowed by every chain.
    pub refused_requests: u64,
    /// The folders with sessions, at most 16: the one that was named last first.
    pub folders: Vec<FolderStatus>,
}

/// One folder.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct FolderStatus {
    /// Its path.
    pub folder: String,
    /// Sessions that are in it now.
    pub sessions: u64,
    /// Whether rules hold here that do not hold in every folder.
    pub ruled: bool,
    /// The chain for any model that holds here.
    pub chain: String,
    /// The file and line where that stands, where it stands anywhere.
    pub rule: Option<String>,
    /// Its profiles, in order.
    pub profiles: Vec<String>,
    /// What is wrong with its project files, with file and line, and what holds in their place.
    pub problems: Vec<String>,
}

impl Gateway {
    /// Notes the folder of a session.
    pub(crate) async fn enter_folder(self: &Arc<Self>, request: &SessionRequest) -> Result<SessionAnswer, Refused> {
        let folder = PathBuf::from(&request.folder);
        let session = session_id(&request.session).filter(|_| is_folder(&folder)).ok_or(Refused::BadFolder)?;
        let Some(bound) = self.bound() else { return Ok(SessionAnswer { version: CONTROL_VERSION, bound: false, folder: None }) };
        let (folders, gone) = bound.sessions.enter(session, &folder);
        self.look_at(folders.clone()).await;
        let settled = self.settled(bound, &folders);
        let entry = bound.sessions.settle(session, (&folders, settled), self.wall_ms());
        self.keep_session(entry, gone);
        Ok(SessionAnswer { version: CONTROL_VERSION, bound: true, folder: self.folder_status(bound, &folder, 1) })
    }

    /// The folders that count, the newest last: of those with the same rules only the newest, and of those without any none but the one that
    /// it is in now.
    fn settled(&self, bound: &Bound, folders: &[PathBuf]) -> Vec<PathBuf> {
        let mut counts: Vec<(PathBuf, Option<Arc<Snapshot>>)> = Vec::new();
        for (place, folder) in folders.iter().enumerate() {
            let snapshot = self.snapshot_in(bound, folder);
            let is_last = place + 1 == folders.len();
            if let Some(snapshot) = &snapshot {
                if !is_last && !snapshot.is_ruled() {
                    continue;
                }
                let is_same = |other: &Arc<Snapshot>| other.leads_as(snapshot) && other.is_ruled() == snapshot.is_ruled();
                counts.retain(|(_, other)| !other.as_ref().is_some_and(is_same));
            }
            counts.push((folder.clone(), snapshot));
        }
        counts.into_iter().map(|(folder, _)| folder).collect()
    }

    fn keep_session(&self, entry: Option<LastingSession>, gone: Option<String>) {
        let Some(store) = self.store() else { return };
        let put = entry.map(|entry| {
            let value = serde_json::to_string(&entry).expect("an entry is plain data with text keys");
            Change::Put(StateEntry { key: entry.key(), value, expires_at_ms: entry.ends_at_ms() })
        });
        store.change(LastingSession::KIND, gone.map(Change::Remove).into_iter().chain(put).collect());
    }

    /// Takes over the sessions that earlier processes knew.
    pub(crate) fn recall_sessions(&self) {
        if let Some((bound, store)) = self.bound().zip(self.store()) {
            bound.sessions.remember(lasting::load::<LastingSession>(store));
        }
    }

    fn wall_ms(&self) -> u64 {
        let since = self.outside().wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// What `status` says of folders; `None` where one folder is all that is served.
    pub(crate) fn folders_status(&self) -> Option<FoldersStatus> {
        let bound = self.bound()?;
        let (sessions, folders) = bound.sessions.in_use(MAX_SHOWN);
        let folders: Vec<FolderStatus> =
            folders.iter().filter_map(|(folder, sessions)| self.folder_status(bound, folder, *sessions)).collect();
        let (unknown_requests, refused_requests) = self.limited_counts();
        Some(FoldersStatus {
            has_rules: self.has_rules_of_folders(bound),
            sessions: sessions as u64,
            unknown_requests,
            refused_requests,
            folders,
        })
    }

    fn folder_status(&self, bound: &Bound, folder: &Path, sessions: u64) -> Option<FolderStatus> {
        let known = bound.known(folder)?;
        let snapshot = self.snapshot_in(bound, folder)?;
        let chain = snapshot.rules.iter().find(|rule| rule.model.is_none()).map(|rule| &rule.chain)?;
        let mut profiles: Vec<String> = chain.entries.iter().map(|entry| snapshot.name(entry.profile).to_owned()).collect();
        profiles.dedup();
        profiles.truncate(if snapshot.policy.enabled { usize::MAX } else { 1 });
        let errors = known.errors.iter().filter_map(|errors| errors.0.first()).map(|error| {
            let line = error.line_column().map(|(line, _)| format!(":{line}")).unwrap_or_default();
            format!("{}{line}: {}; the last good configuration holds", error.file.display(), error.title)
        });
        Some(FolderStatus {
            folder: folder.display().to_string(),
            sessions,
            ruled: snapshot.is_ruled(),
            chain: chain.name.to_string(),
            rule: snapshot.origin(&chain.name).map(str::to_owned),
            profiles,
            problems: known.left_out.iter().map(problem).chain(errors).collect(),
        })
    }

    /// Tells of a request that does not reach every profile of its chain, and counts those of unknown sessions. `is_refused`: it reaches
    /// none.
    pub(crate) fn note_limited(&self, snapshot: &Snapshot, facts: &RequestFacts, id: u64, is_refused: bool) {
        let Some(reason) = snapshot.limited().filter(|_| !self.is_shadow()) else { return };
        if *reason == Reason::UnknownFolder {
            self.count_limited(is_refused);
        }
        if let Some(reason) = snapshot.limited_for(facts) {
            self.notice_limited(snapshot, id, &reason.words(), is_refused);
        }
    }
}

/// What a client is told whose request no profile may get.
pub(crate) fn refusal(snapshot: &Snapshot) -> String {
    let Some(reason) = snapshot.limited() else { return "hotspare: no chain matches this request".to_owned() };
    let next = match reason {
        Reason::UnknownFolder => "send a prompt again, so that Claude Code's hooks name the folder; without hooks: `hotspare install`",
        Reason::Unreadable(_) => "see `hotspare status`",
        Reason::SeveralFolders(_) => "begin a new session in the folder, with `/clear` or `claude`",
    };
    format!("hotspare: no profile may answer here; {}, and there is none. To go on: {next}", reason.words())
}
