//! Keeps idle HTTP/1.1 connections for the next request to the same origin. Never opens one, and never shares one between exchanges.
//!
//! Why not a ready-made pool: the first row of the failure table (a kept-alive connection that died) needs to know whether the connection
//! was used before, a cancel must close its socket at once, and a connection must be driven by the exchange that uses it: a task and a
//! channel between the two cost a wake-up and a write for every event (measured: 4 µs each). The pools on offer hide all three.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;

use crate::clock;

/// Idle connections kept for one origin.
const IDLE_PER_ORIGIN: usize = 32;

/// An idle connection is closed after this. Short: providers and middle boxes drop idle ones silently (peers.md R10).
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginKey(pub Arc<str>);

/// What reads and writes a connection while it is polled.
pub(crate) type Drive = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

struct Idle<B> {
    sender: SendRequest<B>,
    drive: Drive,
    since: Instant,
}

type IdleLists<B> = Arc<Mutex<HashMap<OriginKey, Vec<Idle<B>>>>>;

/// The idle connections of every origin.
pub struct Pool<B> {
    idle: IdleLists<B>,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { idle: Arc::default() }
    }
}

/// A connection in use, driven by whoever polls it. Dropped before its answer is whole, it closes; after [`Lease::finish`] it goes back.
pub struct Lease<B> {
    sender: SendRequest<B>,
    drive: Option<Drive>,
    key: OriginKey,
    home: IdleLists<B>,
    reused: bool,
}

impl<B> Idle<B> {
    /// Looks whether the peer has closed it while nobody was looking.
    fn is_alive(&mut self) -> bool {
        clock::since(self.since) < IDLE_TIME
            && self.drive.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
            && self.sender.is_ready()
    }
}

impl<B> Pool<B> {
    /// An idle connection that looks alive.
    pub fn take(&self, key: &OriginKey) -> Option<Lease<B>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(key)?;
        while let Some(mut candidate) = list.pop() {
            if candidate.is_alive() {
                let Idle { sender, drive, .. } = candidate;
                return Some(Lease { sender, drive: Some(drive), key: key.clone(), home: self.idle.clone(), reused: true });
            }
        }
        None
    }

    /// A new connection, with what drives it.
    pub(crate) fn adopt(&self, key: OriginKey, sender: SendRequest<B>, drive: Drive) -> Lease<B> {
        Lease { sender, drive: Some(drive), key, home: self.idle.clone(), reused: false }
    }

    /// Lets go of what is dead or has been idle for too long, where no request comes that would look at it.
    pub fn sweep(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, list| {
            list.retain_mut(Idle::is_alive);
            !list.is_empty()
        });
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

    /// Reads and writes what the socket has room for.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(drive) = &mut self.drive
            && let Poll::Ready(ended) = drive.as_mut().poll(cx)
        {
            self.drive = None;
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream connection ended");
            }
        }
    }

    /// The answer was read to its end: the connection may serve another.
    pub fn finish(mut self) {
        // One more turn lets the connection come to rest.
        self.drive(&mut Context::from_waker(Waker::noop()));
        let Self { sender, drive: Some(drive), key, home, .. } = self else { return };
        let mut idle = home.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.entry(key).or_default();
        list.retain(|other| clock::since(other.since) < IDLE_TIME);
        if list.len() < IDLE_PER_ORIGIN {
            list.push(Idle { sender, drive, since: clock::now() });
        }
    }
}
