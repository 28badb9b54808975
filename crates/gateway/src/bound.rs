//! Finds the snapshot that holds for a request: that of the folder which the client works in, where it says so. Never lets a folder's
//! broken configuration stop a request.

use std::sync::{Arc, Mutex, PoisonError};

use hotspare_config::{Config, FOLDER_HEADER, Folders, folder_from_header};
use hotspare_upstream::clock;
use http::HeaderMap;

use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// Most compiled snapshots that are kept beside the gateway's own.
const MOST: usize = 64;

/// The configurations of folders, compiled.
pub(crate) struct Bound {
    folders: Folders,
    /// The one that was asked for last stands last.
    compiled: Mutex<Vec<(Arc<Config>, Arc<Snapshot>)>>,
}

impl Bound {
    pub(crate) fn new(folders: Folders) -> Self {
        Self { folders, compiled: Mutex::default() }
    }
}

impl Gateway {
    /// What an exchange with these headers gets; it keeps it for its whole life.
    pub fn snapshot_for(&self, headers: &HeaderMap) -> Arc<Snapshot> {
        if let Some(snapshot) = self.lane.as_ref().and_then(|lane| lane.snapshot(headers)) {
            return snapshot;
        }
        self.snapshot_of_folder(headers).unwrap_or_else(|| self.snapshot())
    }

    /// None: no folder is named, or its configuration cannot be used.
    fn snapshot_of_folder(&self, headers: &HeaderMap) -> Option<Arc<Snapshot>> {
        let bound = self.bound()?;
        let cwd = folder_from_header(headers.get(FOLDER_HEADER)?.as_bytes())?;
        let config = bound
            .folders
            .compile_for(clock::now(), &cwd)
            .inspect_err(|errors| tracing::warn!("the configuration of a client's folder is not used:\n{errors}"))
            .ok()?;
        let mut compiled = bound.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let found = compiled.iter().position(|(known, _)| Arc::ptr_eq(known, &config)).map(|place| compiled.remove(place));
        let entry = match found {
            Some(entry) => entry,
            None => (config.clone(), self.compile(&config).ok()?),
        };
        let snapshot = entry.1.clone();
        compiled.push(entry);
        if compiled.len() > MOST {
            compiled.remove(0);
        }
        Some(snapshot)
    }
}
