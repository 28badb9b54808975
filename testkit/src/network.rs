//! A network in memory: hosts by name, each reachable or broken in a way of its own. Never opens a socket; under a paused clock every run is
//! the same to the letter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::pipe::{Pipe, Route};

/// Connections that may wait to be accepted by one host.
const BACKLOG: usize = 256;

/// What becomes of an attempt to connect to a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dial {
    /// It is connected, TLS included.
    #[default]
    Works,
    /// The name is not known.
    UnknownName,
    /// Nobody listens.
    Refused,
    /// There is no way there.
    Unreachable,
    /// Nothing ever comes back.
    Silent,
    /// The TLS handshake is answered with an alert.
    TlsAlert,
    /// The certificate is not valid.
    BadCertificate,
    /// The TLS handshake is never answered.
    TlsSilent,
}

#[derive(Debug, Default)]
struct Host {
    dial: Dial,
    route: Arc<Route>,
    listener: Option<mpsc::Sender<Pipe>>,
}

/// A network in memory. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct Network {
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
}

impl Network {
    /// A network without hosts.
    pub fn new() -> Self {
        Self::default()
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, host: &str, act: impl FnOnce(&mut Host) -> T) -> T {
        act(self.hosts().entry(host.to_owned()).or_default())
    }

    /// Listens on a host; whoever listened there before no longer does.
    pub fn listen(&self, host: &str) -> Listener {
        let (sender, incoming) = mpsc::channel(BACKLOG);
        self.with(host, |host| host.listener = Some(sender));
        Listener { incoming }
    }

    /// Decides what becomes of connections from now on.
    pub fn set_dial(&self, host: &str, dial: Dial) {
        self.with(host, |host| host.dial = dial);
    }

    /// Delays everything to and from a host, each way by so much.
    pub fn set_latency(&self, host: &str, latency: Duration) {
        self.with(host, |host| host.route.set_latency(latency));
    }

    /// Severs or mends the way to a host: while severed nothing passes, and nothing is lost.
    pub fn set_severed(&self, host: &str, severed: bool) {
        self.with(host, |host| host.route.set_severed(severed));
    }

    /// Whether the way to a host is severed.
    pub fn is_severed(&self, host: &str) -> bool {
        self.with(host, |host| host.route.is_severed())
    }

    /// Resets every connection to a host, as a machine does that has slept.
    pub fn reset_connections(&self, host: &str) {
        self.with(host, |host| host.route.clone()).reset_all();
    }

    /// Connects to a host. A [`Dial`] but [`Dial::Works`] comes back as the error at once: how long it takes to notice is the caller's
    /// business.
    ///
    /// # Errors
    ///
    /// What is wrong with the host.
    pub async fn connect(&self, host: &str) -> Result<Pipe, Dial> {
        let (dial, route, listener) = self.with(host, |host| (host.dial, host.route.clone(), host.listener.clone()));
        if dial != Dial::Works {
            return Err(dial);
        }
        std::future::poll_fn(|cx| route.poll_passable(cx)).await;
        let latency = route.latency();
        if !latency.is_zero() {
            tokio::time::sleep(2 * latency).await;
        }
        let (near, far) = Pipe::pair_on(&route);
        let listener = listener.ok_or(Dial::Refused)?;
        listener.send(far).await.map_err(|_| Dial::Refused)?;
        Ok(near)
    }
}

/// Takes the connections of one host.
#[derive(Debug)]
pub struct Listener {
    incoming: mpsc::Receiver<Pipe>,
}

impl Listener {
    /// The next connection; none when somebody else listens on the host now.
    pub async fn accept(&mut self) -> Option<Pipe> {
        self.incoming.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Script, Upstream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_script_plays_in_memory_as_on_a_socket() {
        let network = Network::new();
        let reply = Script::new().body(200, &[], "hello");
        let length = reply.wire_len();
        let upstream = Upstream::in_memory(&network, "a.test", move |request| match request.path() {
            "/whole" => reply.clone().fin(),
            "/part" => reply.clone().truncate_after(length - 2),
            _ => reply.clone().reset_after(length - 2),
        });
        assert_eq!(upstream.url(), "https://a.test");
        for (path, missing, error) in [("/whole", 0, false), ("/part", 2, false), ("/reset", 2, true)] {
            let mut pipe = network.connect("a.test").await.expect("connected");
            pipe.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            assert_eq!(pipe.read_to_end(&mut answer).await.is_err(), error, "{path}");
            assert_eq!(answer.len(), length - missing, "{path}");
        }
        assert_eq!(upstream.requests().len(), 3);
    }

    #[tokio::test]
    async fn a_broken_host_says_how() {
        let network = Network::new();
        assert_eq!(network.connect("nobody.test").await.unwrap_err(), Dial::Refused);
        let _listener = network.listen("a.test");
        network.set_dial("a.test", Dial::BadCertificate);
        assert_eq!(network.connect("a.test").await.unwrap_err(), Dial::BadCertificate);
        network.set_dial("a.test", Dial::Works);
        assert!(network.connect("a.test").await.is_ok());
    }
}
