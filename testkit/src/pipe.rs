//! A connection in memory: bounded, ordered, and able to end as a socket does, in order or by a reset. Never opens a socket, and never looks
//! at a clock but the runtime's.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes that one direction holds before its writer must wait.
const LANE_CAP: usize = 64 * 1024;

/// What lies between two ends. Shared by every connection that goes the same way.
#[derive(Debug, Default)]
pub(crate) struct Route {
    state: Mutex<RouteState>,
}

#[derive(Debug, Default)]
struct RouteState {
    latency: Duration,
    severed: bool,
    waiting: Vec<Waker>,
    lanes: Vec<Weak<Lane>>,
}

impl Route {
    fn state(&self) -> MutexGuard<'_, RouteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    pub(crate) fn latency(&self) -> Duration {
        self.state().latency
    }

    /// Nothing passes while it is severed, and nothing is lost.
    pub(crate) fn set_severed(&self, severed: bool) {
        let waiting = {
            let mut state = self.state();
            state.severed = severed;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_severed(&self) -> bool {
        self.state().severed
    }

    pub(crate) fn poll_passable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.severed {
            return Poll::Ready(());
        }
        state.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// Resets every connection on it.
    pub(crate) fn reset_all(&self) {
        let lanes = std::mem::take(&mut self.state().lanes);
        for lane in lanes.iter().filter_map(Weak::upgrade) {
            lane.finish(End::Reset);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The writer has said all.
    Fin,
    /// The connection is void.
    Reset,
}

/// One direction.
#[derive(Debug)]
struct Lane {
    route: Arc<Route>,
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    /// What was written, and when it arrives.
    pieces: VecDeque<(Instant, Bytes)>,
    size: usize,
    last_due: Option<Instant>,
    end: Option<End>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl LaneState {
    fn wake(&mut self) {
        [self.reader.take(), self.writer.take()].into_iter().flatten().for_each(Waker::wake);
    }
}

impl Lane {
    fn new(route: &Arc<Route>) -> Arc<Self> {
        let lane = Arc::new(Self { route: route.clone(), state: Mutex::default() });
        let mut state = route.state();
        state.lanes.retain(|other| other.strong_count() > 0);
        state.lanes.push(Arc::downgrade(&lane));
        drop(state);
        lane
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first end counts, but a reset comes over a proper one.
    fn finish(&self, end: End) {
        let mut state = self.state();
        if state.end.is_none() || end == End::Reset {
            state.end = Some(end);
        }
        state.wake();
    }

    fn is_reset(&self) -> bool {
        self.state().end == Some(End::Reset)
    }
}

/// One end of a connection in memory.
#[derive(Debug)]
pub struct Pipe {
    incoming: Arc<Lane>,
    outgoing: Arc<Lane>,
    /// Runs until the next piece arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl Pipe {
    /// Both ends of a connection that nothing delays.
    pub fn pair() -> (Self, Self) {
        Self::pair_on(&Arc::default())
    }

    pub(crate) fn pair_on(route: &Arc<Route>) -> (Self, Self) {
        let (up, down) = (Lane::new(route), Lane::new(route));
        let client = Self { incoming: down.clone(), outgoing: up.clone(), arrival: None };
        (client, Self { incoming: up, outgoing: down, arrival: None })
    }

    /// Resets the connection: the peer reads what has come, then an error.
    pub fn reset(&mut self) {
        self.outgoing.finish(End::Reset);
        self.incoming.finish(End::Reset);
        self.stop_reading();
    }

    fn stop_reading(&self) {
        let mut state = self.incoming.state();
        state.reader_gone = true;
        state.pieces.clear();
        state.size = 0;
        state.wake();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // As a kernel does: who closes with bytes unread resets.
        let unread = self.incoming.state().size > 0;
        let done = self.outgoing.state().end.is_some();
        if unread || !done {
            self.outgoing.finish(if unread { End::Reset } else { End::Fin });
        }
        self.stop_reading();
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.incoming.route.poll_passable(cx).is_pending() {
            return Poll::Pending;
        }
        let mut state = this.incoming.state();
        let Some((due, piece)) = state.pieces.front_mut() else {
            return match state.end {
                Some(End::Fin) => Poll::Ready(Ok(())),
                Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let due = *due;
        if due <= Instant::now() {
            let count = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..count]);
            piece.advance(count);
            if piece.is_empty() {
                state.pieces.pop_front();
            }
            state.size -= count;
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        state.reader = Some(cx.waker().clone());
        drop(state);
        let arrival = this.arrival.insert(Box::pin(tokio::time::sleep_until(due)));
        // The runtime's clock has not come to `due` yet, so this only arms the timer.
        if arrival.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.incoming.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let latency = self.outgoing.route.latency();
        let mut state = self.outgoing.state();
        if state.end.is_some() || state.reader_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(LANE_CAP - state.size);
        if count == 0 && !bytes.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let due = state.last_due.map_or_else(Instant::now, |last| last.max(Instant::now()));
        let due = due.max(Instant::now() + latency);
        state.last_due = Some(due);
        state.pieces.push_back((due, Bytes::copy_from_slice(&bytes[..count])));
        state.size += count;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.state().end.is_none() {
            self.outgoing.finish(End::Fin);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn read_all(pipe: &mut Pipe) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut all = Vec::new();
        let error = pipe.read_to_end(&mut all).await.err().map(|error| error.kind());
        (all, error)
    }

    #[tokio::test]
    async fn an_orderly_end_and_a_reset_look_as_on_a_socket() {
        let (mut near, mut far) = Pipe::pair();
        near.write_all(b"all").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(read_all(&mut far).await, (b"all".to_vec(), None));
        // The other direction is still open.
        far.write_all(b"back").await.unwrap();
        drop(far);
        assert_eq!(read_all(&mut near).await, (b"back".to_vec(), None));

        let (mut near, mut far) = Pipe::pair();
        near.write_all(b"part").await.unwrap();
        near.reset();
        assert_eq!(read_all(&mut far).await, (b"part".to_vec(), Some(io::ErrorKind::ConnectionReset)));
        assert_eq!(far.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn who_closes_with_bytes_unread_resets() {
        let (mut near, mut far) = Pipe::pair();
        far.write_all(b"unread").await.unwrap();
        near.write_all(b"last").await.unwrap();
        drop(near);
        assert_eq!(read_all(&mut far).await, (b"last".to_vec(), Some(io::ErrorKind::ConnectionReset)));
    }

    #[tokio::test]
    async fn a_writer_waits_for_its_reader_and_hears_that_it_went() {
        let (mut near, mut far) = Pipe::pair();
        let writing = tokio::spawn(async move {
            near.write_all(&vec![7; 3 * LANE_CAP]).await?;
            near.shutdown().await
        });
        assert_eq!(read_all(&mut far).await.0.len(), 3 * LANE_CAP);
        writing.await.unwrap().unwrap();

        let (mut near, far) = Pipe::pair();
        let writing = tokio::spawn(async move { near.write_all(&vec![7; 3 * LANE_CAP]).await });
        tokio::task::yield_now().await;
        drop(far);
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_delays_and_a_severed_route_holds_everything_back() {
        let route = Arc::new(Route::default());
        let (mut near, mut far) = Pipe::pair_on(&route);
        route.set_latency(Duration::from_secs(2));
        let begun = Instant::now();
        near.write_all(b"x").await.unwrap();
        far.read_u8().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 2);

        route.set_severed(true);
        near.write_all(b"y").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), far.read_u8()).await.is_err());
        route.set_severed(false);
        assert_eq!(far.read_u8().await.unwrap(), b'y');

        route.reset_all();
        assert_eq!(far.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
