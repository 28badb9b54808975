//! Keeps idle HTTP/1.1 connections for the next request to the same origin. Never opens one, and never shares one between exchanges.
//!
//! Why not a ready-made pool: the first row of the failure table (a kept-alive connection that died) needs to know whether the connection
//! was used before, and a cancel must close its socket at once; the pools on offer hide both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

/// Idle connections kept for one origin.
const IDLE_PER_ORIGIN: usize = 32;

/// An idle connection is closed after this. Short: providers and middle boxes drop idle ones silently (peers.md R10).
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginKey(pub Arc<str>);

struct Idle<B> {
    sender: SendRequest<B>,
    task: Task,
    since: Instant,
}

/// The task that drives a connection; it ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The idle connections of every origin.
pub struct Pool<B> {
    idle: Arc<Mutex<HashMap<OriginKey, Vec<Idle<B>>>>>,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { idle: Arc::default() }
    }
}

/// A connection in use. Dropped before its answer is whole, it closes; after [`Lease::finish`] it goes back.
pub struct Lease<B> {
    sender: SendRequest<B>,
    task: Task,
    key: OriginKey,
    home: Arc<Mutex<HashMap<OriginKey, Vec<Idle<B>>>>>,
    reused: bool,
}

impl<B> Pool<B> {
    /// An idle connection that looks alive.
    pub fn take(&self, key: &OriginKey) -> Option<Lease<B>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(key)?;
        while let Some(candidate) = list.pop() {
            if candidate.sender.is_ready() && candidate.since.elapsed() < IDLE_TIME {
                return Some(Lease {
                    sender: candidate.sender,
                    task: candidate.task,
                    key: key.clone(),
                    home: self.idle.clone(),
                    reused: true,
                });
            }
        }
        None
    }

    /// A new connection, with the task that drives it.
    pub fn adopt(&self, key: OriginKey, sender: SendRequest<B>, task: AbortHandle) -> Lease<B> {
        Lease { sender, task: Task(task), key, home: self.idle.clone(), reused: false }
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl<B> Lease<B> {
    /// Whether another exchange used the connection before.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// The connection's sending side.
    pub fn sender(&mut self) -> &mut SendRequest<B> {
        &mut self.sender
    }

    /// The answer was read to its end: the connection may serve another.
    pub fn finish(self) {
        let Self { sender, task, key, home, .. } = self;
        if sender.is_closed() {
            return;
        }
        let mut idle = home.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.entry(key).or_default();
        list.retain(|other| other.since.elapsed() < IDLE_TIME && !other.sender.is_closed());
        if list.len() < IDLE_PER_ORIGIN {
            list.push(Idle { sender, task, since: Instant::now() });
        }
    }
}
