//! Keeps a request body so that it can be sent again: chunks as they came, shared and but for small ones never copied. A compressed body is
//! decoded at most once. Nothing is spooled to disk.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hotspare_upstream::clock::{self, Deadline};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::coding::Coding;

/// Most bytes of request bodies kept in all. Past it a body is passed on unkept, and its exchange cannot hop once bytes were sent.
pub const KEPT_IN_ALL: usize = 512 * 1024 * 1024;

/// A body may start slowly for so long.
const SLOW_START: Duration = Duration::from_secs(30);

/// Like [`SLOW_START`], for a body that the client holds open while its user types (`x-claude-code-upload-ahead`, up to 120 s; read in
/// Claude Code 2.1.332).
const UPLOAD_AHEAD_START: Duration = Duration::from_secs(150);

/// From then on it must bring this many bytes a second (security.md T15).
const MIN_BYTES_PER_SECOND: u64 = 1024;

/// A chunk of at most so many bytes is kept as a copy of its own. What comes is a slice of the HTTP library's buffer, and a small slice would keep
/// the whole of it, 8 KiB at least and the request's head with it, for as long as the answer flows.
const COPIED: usize = 4 * 1024;

/// Why a request body is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It is longer than `server.max_body`.
    TooLarge,
    /// It came too slowly.
    TooSlow,
    /// The client broke off.
    Aborted,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request body is too large",
            Self::TooSlow => "the request body comes too slowly",
            Self::Aborted => "the client broke the request body off",
        })
    }
}

impl std::error::Error for Broken {}

/// A compressed body as it reads.
enum Decoded {
    /// It was not asked for.
    NotYet,
    /// It is damaged, or too large.
    Unreadable,
    /// It is kept.
    Kept(Bytes),
}

struct Shared<S> {
    source: Option<S>,
    chunks: Vec<Bytes>,
    received: u64,
    kept: usize,
    kept_in_all: Arc<AtomicUsize>,
    /// Some chunk was not kept.
    lost: bool,
    broken: Option<Broken>,
    limit: u64,
    coding: Option<Coding>,
    decoded: Decoded,
    slow_start: Duration,
    began: Instant,
    last_passed: Option<Instant>,
    alarm: Deadline,
}

impl<S> Drop for Shared<S> {
    fn drop(&mut self) {
        self.kept_in_all.fetch_sub(self.kept, Ordering::Relaxed);
    }
}

/// A request body that can be read from its start as often as needed, by one reader at a time.
pub struct Replay<S = Incoming> {
    shared: Arc<Mutex<Shared<S>>>,
}

impl<S> Clone for Replay<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S: Body<Data = Bytes> + Unpin> Replay<S> {
    /// Keeps `source`, at most `limit` bytes of it.
    pub fn new(source: S, limit: u64, kept_in_all: Arc<AtomicUsize>, now: Instant) -> Self {
        let ended = source.is_end_stream();
        let shared = Shared {
            source: (!ended).then_some(source),
            chunks: Vec::new(),
            received: 0,
            kept: 0,
            kept_in_all,
            lost: false,
            broken: None,
            limit,
            coding: None,
            decoded: Decoded::NotYet,
            slow_start: SLOW_START,
            began: now,
            last_passed: None,
            alarm: Deadline::default(),
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Declares how the body is compressed, so that [`Replay::text`] can decode it.
    #[must_use]
    pub(crate) fn with_coding(self, coding: Option<Coding>) -> Self {
        self.lock().coding = coding;
        self
    }

    /// Gives a body that the client holds open the time that it needs.
    #[must_use]
    pub fn with_upload_ahead(self, upload_ahead: bool) -> Self {
        if upload_ahead {
            self.lock().slow_start = UPLOAD_AHEAD_START;
        }
        self
    }

    fn lock(&self) -> MutexGuard<'_, Shared<S>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader at the body's start.
    pub fn reader(&self) -> Reader<S> {
        Reader { shared: self.shared.clone(), next: 0 }
    }

    /// A reader of what has not come yet.
    pub fn rest(&self) -> Reader<S> {
        let next = self.lock().chunks.len();
        Reader { shared: self.shared.clone(), next }
    }

    /// The first chunk, as soon as it is there; empty for an empty body.
    pub async fn first_chunk(&self) -> Result<Bytes, Broken> {
        std::future::poll_fn(|cx| {
            let mut shared = self.lock();
            if let Some(first) = shared.chunks.first() {
                return Poll::Ready(Ok(first.clone()));
            }
            match ready!(shared.poll_next(cx)) {
                Some(chunk) => Poll::Ready(chunk),
                None => Poll::Ready(Ok(Bytes::new())),
            }
        })
        .await
    }

    /// The whole body in one piece, once all of it has come.
    pub async fn whole(&self) -> Result<Bytes, Broken> {
        self.arrived().await?;
        Ok(self.whole_if_here().unwrap_or_default())
    }

    /// Waits until all of the body has come.
    pub async fn arrived(&self) -> Result<(), Broken> {
        std::future::poll_fn(|cx| {
            let mut shared = self.lock();
            while let Some(chunk) = ready!(shared.poll_next(cx)) {
                if let Err(broken) = chunk {
                    return Poll::Ready(Err(broken));
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The whole body if all of it has come and was kept.
    pub fn whole_if_here(&self) -> Option<Bytes> {
        let shared = self.lock();
        if shared.source.is_some() || shared.lost || shared.broken.is_some() {
            return None;
        }
        if let [only] = &shared.chunks[..] {
            return Some(only.clone());
        }
        let mut whole = BytesMut::with_capacity(shared.chunks.iter().map(Bytes::len).sum());
        for chunk in &shared.chunks {
            whole.extend_from_slice(chunk);
        }
        Some(whole.freeze())
    }

    /// The body as it reads, decoded if it is compressed, once all of it has come. `None` if it was not kept or cannot be decoded.
    pub async fn text(&self) -> Result<Option<Bytes>, Broken> {
        self.whole().await?;
        Ok(self.text_if_here())
    }

    /// Like [`Replay::text`]; `None` also while some of the body has not come.
    pub fn text_if_here(&self) -> Option<Bytes> {
        let whole = self.whole_if_here()?;
        let mut shared = self.lock();
        match shared.coding {
            None => Some(whole),
            Some(coding) => shared.decoded(coding, &whole),
        }
    }

    /// True if it is compressed.
    pub fn is_encoded(&self) -> bool {
        self.lock().coding.is_some()
    }

    /// True if `more` bytes of it can still be kept.
    pub fn has_room(&self, more: u64) -> bool {
        let shared = self.lock();
        let kept_in_all = shared.kept_in_all.load(Ordering::Relaxed) as u64;
        !shared.lost && kept_in_all.saturating_add(more) <= KEPT_IN_ALL as u64
    }

    /// Whether some of it is gone, so that it cannot be sent again.
    pub fn is_lost(&self) -> bool {
        self.lock().lost
    }

    /// Bytes that have come.
    pub fn received(&self) -> u64 {
        self.lock().received
    }

    /// Why it is not whole, if it broke.
    pub fn broken(&self) -> Option<Broken> {
        self.lock().broken
    }

    /// When a chunk last went out to an upstream.
    pub fn last_passed(&self) -> Option<Instant> {
        self.lock().last_passed
    }
}

impl<S> Shared<S> {
    /// Decodes the body once; the result counts as kept.
    fn decoded(&mut self, coding: Coding, whole: &[u8]) -> Option<Bytes> {
        if matches!(self.decoded, Decoded::NotYet) {
            let decoded = coding.decode(whole).filter(|decoded| self.reserve(decoded.len()));
            self.decoded = decoded.map_or(Decoded::Unreadable, Decoded::Kept);
        }
        match &self.decoded {
            Decoded::Kept(decoded) => Some(decoded.clone()),
            Decoded::NotYet | Decoded::Unreadable => None,
        }
    }

    /// Counts bytes as kept. False if there is no room for them.
    fn reserve(&mut self, length: usize) -> bool {
        let fits = self.kept_in_all.fetch_add(length, Ordering::Relaxed) + length <= KEPT_IN_ALL;
        if fits {
            self.kept += length;
        } else {
            self.kept_in_all.fetch_sub(length, Ordering::Relaxed);
        }
        fits
    }
}

impl<S: Body<Data = Bytes> + Unpin> Shared<S> {
    /// The next chunk from the client, kept if there is room.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if let Some(broken) = self.broken {
            return Poll::Ready(Some(Err(broken)));
        }
        loop {
            let Some(source) = &mut self.source else {
                return Poll::Ready(None);
            };
            match Pin::new(&mut *source).poll_frame(cx) {
                Poll::Pending => {
                    ready!(self.poll_alarm(cx));
                    return Poll::Ready(Some(Err(self.fail(Broken::TooSlow))));
                }
                Poll::Ready(None) => {
                    self.source = None;
                    self.alarm = Deadline::default();
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(self.fail(Broken::Aborted)))),
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(chunk) = frame.into_data() else { continue };
                    if source.is_end_stream() {
                        self.source = None;
                    }
                    return Poll::Ready(Some(self.keep(chunk)));
                }
            }
        }
    }

    fn keep(&mut self, mut chunk: Bytes) -> Result<Bytes, Broken> {
        self.received += chunk.len() as u64;
        if self.received > self.limit {
            return Err(self.fail(Broken::TooLarge));
        }
        let length = chunk.len();
        if self.lost || self.kept_in_all.fetch_add(length, Ordering::Relaxed) + length > KEPT_IN_ALL {
            if !self.lost {
                self.kept_in_all.fetch_sub(length, Ordering::Relaxed);
                tracing::warn!("too many request bodies in flight to keep another: this request cannot go to a second profile");
            }
            self.lost = true;
        } else {
            if length <= COPIED {
                chunk = Bytes::copy_from_slice(&chunk);
            }
            self.kept += length;
            self.chunks.push(chunk.clone());
        }
        Ok(chunk)
    }

    fn fail(&mut self, broken: Broken) -> Broken {
        self.broken = Some(broken);
        self.source = None;
        broken
    }

    /// Ready when the body came too slowly for too long.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let earned = Duration::from_secs(self.received / MIN_BYTES_PER_SECOND);
        self.alarm.poll(cx, self.began + self.slow_start + earned)
    }
}

/// Reads a kept body from its start, and on from where the client is.
pub struct Reader<S = Incoming> {
    shared: Arc<Mutex<Shared<S>>>,
    next: usize,
}

impl<S: Body<Data = Bytes> + Unpin> Body for Reader<S> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let mut shared = this.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = match shared.chunks.get(this.next) {
            Some(chunk) => Some(Ok(chunk.clone())),
            None => ready!(shared.poll_next(cx)),
        };
        this.next += 1;
        shared.last_passed = Some(clock::now());
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.source.is_none() && shared.broken.is_none() && self.next >= shared.chunks.len()
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.source.is_none() && !shared.lost {
            SizeHint::with_exact(shared.chunks[self.next.min(shared.chunks.len())..].iter().map(|chunk| chunk.len() as u64).sum())
        } else {
            SizeHint::default()
        }
    }
}

/// A request body on its way up.
pub enum RequestBody {
    /// As the client sends it.
    Kept(Reader),
    /// With another model in it.
    Parts(VecDeque<Bytes>),
    /// Passed through, kept nowhere.
    Passed(Incoming),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Kept(reader) => Pin::new(reader).poll_frame(cx),
            Self::Parts(parts) => Poll::Ready(parts.pop_front().map(|part| Ok(Frame::data(part)))),
            Self::Passed(body) => Pin::new(body).poll_frame(cx).map_err(|_| Broken::Aborted),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(reader) => reader.is_end_stream(),
            Self::Parts(parts) => parts.is_empty(),
            Self::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(reader) => reader.size_hint(),
            Self::Parts(parts) => SizeHint::with_exact(parts.iter().map(|part| part.len() as u64).sum()),
            Self::Passed(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    type Frames = Vec<Result<Frame<Bytes>, std::io::Error>>;

    fn source(chunks: &[&'static str]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let frames: Frames = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    fn replay(
        chunks: &[&'static str],
        limit: u64,
        total: &Arc<AtomicUsize>,
    ) -> Replay<impl Body<Data = Bytes, Error = std::io::Error> + Unpin> {
        Replay::new(source(chunks), limit, total.clone(), clock::now())
    }

    /// better-ccflare #354 #382: bodies kept for a second try were never let go, and an outage filled the memory.
    #[tokio::test]
    async fn r24_a_body_reads_the_same_every_time_and_lets_its_memory_go() {
        let total = Arc::new(AtomicUsize::new(0));
        let body = replay(&["abc", "de"], 5, &total);
        assert_eq!(body.first_chunk().await, Ok(Bytes::from("abc")));
        let mut half = body.reader();
        assert!(half.frame().await.is_some());
        drop(half);
        for _ in 0..2 {
            assert_eq!(body.reader().collect().await.map(http_body_util::Collected::to_bytes), Ok(Bytes::from("abcde")));
        }
        assert_eq!(body.whole().await, Ok(Bytes::from("abcde")));
        assert_eq!(total.load(Ordering::Relaxed), 5);
        drop(body);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_breaks_for_every_reader() {
        let total = Arc::new(AtomicUsize::new(0));
        let body = replay(&["abc", "de"], 4, &total);
        for _ in 0..2 {
            assert_eq!(body.reader().collect().await.map(|_| ()), Err(Broken::TooLarge));
        }
        assert_eq!(body.broken(), Some(Broken::TooLarge));
    }

    /// Five hundred open answers kept five hundred of the HTTP library's buffers, each for a request of two kilobytes.
    #[tokio::test]
    async fn a_small_chunk_does_not_keep_the_buffer_it_came_in() {
        let buffer = Bytes::from(vec![b'x'; 8 * COPIED]);
        for (length, copied) in [(1, true), (COPIED, true), (COPIED + 1, false)] {
            let frames: Frames = vec![Ok(Frame::data(buffer.slice(..length)))];
            let body = Replay::new(StreamBody::new(futures_util::stream::iter(frames)), u64::MAX, Arc::default(), clock::now());
            let kept = body.whole().await.unwrap();
            assert_eq!(kept.as_ptr() != buffer.as_ptr(), copied, "{length} bytes");
            assert_eq!(kept, buffer.slice(..length));
        }
    }

    /// MAXeaglet/commandcode-proxy#20, better-ccflare #382: memory that grows with the requests in flight.
    #[tokio::test]
    async fn r24_past_the_common_limit_a_body_passes_unkept() {
        let total = Arc::new(AtomicUsize::new(KEPT_IN_ALL));
        let body = replay(&["abc", "de"], 10, &total);
        assert_eq!(body.reader().collect().await.map(http_body_util::Collected::to_bytes), Ok(Bytes::from("abcde")));
        assert!(body.is_lost());
        assert_eq!(body.whole_if_here(), None);
        drop(body);
        assert_eq!(total.load(Ordering::Relaxed), KEPT_IN_ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn t15_a_body_that_drips_is_given_up() {
        let silent = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let body = Replay::new(silent, 10, Arc::default(), clock::now());
        assert_eq!(body.whole().await, Err(Broken::TooSlow));
    }
}
