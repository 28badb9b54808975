//! Plays scripts to whoever connects. Never outlives its owner: dropping it ends every connection.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::network::{Listener, Network};
use crate::pipe::Pipe;
use crate::request::{self, Received};
use crate::script::{Script, Step};

type Play = dyn Fn(&Received) -> Script + Send + Sync;

struct Shared {
    play: Box<Play>,
    /// The script is chosen when the whole request is here.
    reads_first: bool,
    log: Mutex<Log>,
    changed: watch::Sender<u64>,
    open: AtomicUsize,
    ever: AtomicU64,
}

#[derive(Default)]
struct Log {
    requests: Vec<Received>,
    playing: BTreeSet<usize>,
    hung_up: Vec<(u64, Instant)>,
}

impl Shared {
    fn new(play: impl Fn(&Received) -> Script + Send + Sync + 'static, reads_first: bool) -> Arc<Self> {
        Arc::new(Self {
            play: Box::new(play),
            reads_first,
            log: Mutex::default(),
            changed: watch::channel(0).0,
            open: AtomicUsize::new(0),
            ever: AtomicU64::new(0),
        })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A provider that plays scripts, on a real loopback socket or in memory.
pub struct Upstream {
    addr: SocketAddr,
    url: String,
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Serves on a free loopback port until dropped. `play` is asked once for each request, when its head is here.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start(play: impl Fn(&Received) -> Script + Send + Sync + 'static) -> io::Result<Self> {
        Self::serve(Shared::new(play, false)).await
    }

    /// The same, but `play` is asked when the body is here too.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start_reading(play: impl Fn(&Received) -> Script + Send + Sync + 'static) -> io::Result<Self> {
        Self::serve(Shared::new(play, true)).await
    }

    async fn serve(shared: Arc<Shared>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Ok(Self { addr, url: format!("http://{addr}"), shared, task })
    }

    /// Serves as a host of a network in memory, until dropped. `play` is asked once for each request, when its body is here too.
    pub fn in_memory(network: &Network, host: &str, play: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Self {
        let shared = Shared::new(play, true);
        let task = tokio::spawn(accept_in_memory(network.listen(host), shared.clone())).abort_handle();
        Self { addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443)), url: format!("https://{host}"), shared, task }
    }

    /// The n-th `POST /v1/messages` gets the n-th script, later ones the last; every other request a 404.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn sequence(scripts: Vec<Script>) -> io::Result<Self> {
        let next = AtomicUsize::new(0);
        Self::start(move |request| {
            if !is_message(request) {
                return Script::not_found();
            }
            let index = next.fetch_add(1, Ordering::Relaxed);
            scripts.get(index).or(scripts.last()).cloned().unwrap_or_default()
        })
        .await
    }

    /// Where it listens; nowhere (`0.0.0.0`) in memory.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, or `https://HOST` in memory.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Every request so far whose head and body were read.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.log().requests.clone()
    }

    /// Of those, the `POST /v1/messages`.
    pub fn messages(&self) -> Vec<Received> {
        self.requests().into_iter().filter(is_message).collect()
    }

    /// Requests whose script is not over, and whose peer has not gone.
    pub fn playing(&self) -> Vec<Received> {
        let log = self.shared.log();
        log.playing.iter().filter_map(|index| log.requests.get(*index)).cloned().collect()
    }

    /// Waits until so many requests have come.
    pub async fn wait_for(&self, count: usize) {
        self.wait(|log| (log.requests.len() >= count).then_some(())).await;
    }

    /// Waits until the peer has closed the connection of the request with this index, and says when.
    pub async fn wait_hung_up(&self, index: usize) -> Instant {
        self.wait(|log| {
            let connection = log.requests.get(index)?.connection;
            log.hung_up.iter().find(|(number, _)| *number == connection).map(|(_, at)| *at)
        })
        .await
    }

    async fn wait<T>(&self, look: impl Fn(&Log) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        loop {
            if let Some(found) = look(&self.shared.log()) {
                return found;
            }
            // The sender lives in `self`, so the wait cannot fail.
            let _ = changed.changed().await;
        }
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections ever accepted.
    pub fn connections(&self) -> usize {
        usize::try_from(self.shared.ever.load(Ordering::SeqCst)).unwrap_or(usize::MAX)
    }
}

fn is_message(request: &Received) -> bool {
    request.method == "POST" && request.path() == "/v1/messages"
}

/// A loopback address on which nobody listens.
///
/// # Errors
///
/// When no port can be had.
pub fn refused_addr() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping the set with this task ends every connection.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        welcome(stream, &shared, &mut connections);
    }
}

async fn accept_in_memory(mut listener: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Some(pipe) = listener.accept().await {
        welcome(pipe, &shared, &mut connections);
    }
}

fn welcome(peer: impl Peer, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let number = shared.ever.fetch_add(1, Ordering::SeqCst);
    let guard = OpenGuard::new(shared.clone());
    connections.spawn(async move {
        let _ = converse(peer, number, &guard.0).await;
    });
    while connections.try_join_next().is_some() {}
}

/// A connection that can be reset.
trait Peer: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Resets it; nothing more is written.
    fn reset(&mut self) -> io::Result<()>;
}

impl Peer for TcpStream {
    fn reset(&mut self) -> io::Result<()> {
        // The reset goes out when the stream is dropped, which is next.
        self.set_zero_linger()
    }
}

impl Peer for Pipe {
    fn reset(&mut self) -> io::Result<()> {
        Pipe::reset(self);
        Ok(())
    }
}

struct OpenGuard(Arc<Shared>);

impl OpenGuard {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.changed();
    }
}

async fn converse(mut stream: impl Peer, number: u64, shared: &Shared) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(mut received) = request::read_head(&mut stream, &mut buffer, number).await? {
        let early = if shared.reads_first { Script::new() } else { (shared.play)(&received) };
        if !early.before_body {
            received.body = request::read_body(&mut stream, &mut buffer, &received).await?;
        }
        let script = if shared.reads_first { (shared.play)(&received) } else { early };
        let playing = Playing::begin(shared, received);
        let goes_on = play(&mut stream, &mut buffer, script, number, shared).await?;
        drop(playing);
        if !goes_on {
            return Ok(());
        }
    }
    hung_up(number, shared);
    Ok(())
}

/// A request is in the log, and counts as playing while this lives.
struct Playing<'a> {
    shared: &'a Shared,
    index: usize,
}

impl<'a> Playing<'a> {
    fn begin(shared: &'a Shared, received: Received) -> Self {
        let mut log = shared.log();
        let index = log.requests.len();
        log.requests.push(received);
        log.playing.insert(index);
        drop(log);
        shared.changed();
        Self { shared, index }
    }
}

impl Drop for Playing<'_> {
    fn drop(&mut self) {
        self.shared.log().playing.remove(&self.index);
    }
}

fn hung_up(number: u64, shared: &Shared) {
    shared.log().hung_up.push((number, tokio::time::Instant::now().into_std()));
    shared.changed();
}

/// Plays one script. False: the connection is over.
async fn play(stream: &mut impl Peer, buffer: &mut BytesMut, script: Script, number: u64, shared: &Shared) -> io::Result<bool> {
    let mut room = script.truncate_after.unwrap_or(usize::MAX);
    for step in script.steps {
        let watched = matches!(step, Step::Sleep(_) | Step::Gate(_) | Step::Hang | Step::Drip(..));
        let done = if watched {
            // Cancel-safe: what the watch has read stays in the buffer, and a drip is over when the peer is gone.
            let (mut reading, mut writing) = tokio::io::split(&mut *stream);
            tokio::select! {
                biased;
                done = wait_or_drip(step, &mut writing, &mut room) => done,
                () = gone(&mut reading, buffer) => {
                    hung_up(number, shared);
                    return Ok(false);
                }
            }
        } else {
            perform(step, stream, &mut room).await
        };
        match done {
            Ok(Done::GoOn) => {}
            Ok(Done::Close) => return Ok(false),
            Err(error) => {
                hung_up(number, shared);
                return Err(error);
            }
        }
        if room == 0 {
            close(stream, script.truncate_with_rst).await?;
            return Ok(false);
        }
    }
    Ok(true)
}

enum Done {
    GoOn,
    Close,
}

async fn perform(step: Step, stream: &mut impl Peer, room: &mut usize) -> io::Result<Done> {
    match step {
        Step::Write(bytes) => {
            let part = cut(&bytes, room);
            stream.write_all(&part).await?;
            stream.flush().await?;
            Ok(Done::GoOn)
        }
        Step::Fin => close(stream, false).await.map(|()| Done::Close),
        Step::Rst => close(stream, true).await.map(|()| Done::Close),
        Step::Sleep(_) | Step::Gate(_) | Step::Hang | Step::Drip(..) => Ok(Done::GoOn),
    }
}

async fn wait_or_drip(step: Step, writing: &mut (impl AsyncWriteExt + Unpin), room: &mut usize) -> io::Result<Done> {
    match step {
        Step::Sleep(time) => tokio::time::sleep(time).await,
        Step::Gate(gate) => gate.wait().await,
        Step::Hang => std::future::pending().await,
        Step::Drip(bytes, pause) => {
            for byte in cut(&bytes, room) {
                writing.write_all(&[byte]).await?;
                tokio::time::sleep(pause).await;
            }
        }
        Step::Write(_) | Step::Fin | Step::Rst => {}
    }
    Ok(Done::GoOn)
}

fn cut(bytes: &Bytes, room: &mut usize) -> Bytes {
    let part = bytes.slice(..bytes.len().min(*room));
    *room -= part.len();
    part
}

/// Ends when the peer closes or resets.
async fn gone(reading: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) {
    use tokio::io::AsyncReadExt;
    while matches!(reading.read_buf(buffer).await, Ok(count) if count > 0) {}
}

async fn close(stream: &mut impl Peer, reset: bool) -> io::Result<()> {
    if reset { stream.reset() } else { stream.shutdown().await }
}

#[cfg(test)]
mod tests;
