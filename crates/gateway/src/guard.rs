//! Judges the raw head of every request before the HTTP library sees it. Never looks at a body, and never changes a byte that passes.
//!
//! hyper accepts missing and doubled Host headers, bare LF, `TE: gzip, chunked`, CONNECT, dot segments and more (measured, security.md F3),
//! and has dropped the evidence by the time a handler runs. So the rules of security.md T1, T7 and T12 hold here, on the bytes.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use hotspare_upstream::clock::{self, Deadline};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

use crate::answer;

mod opening;
mod turn;

pub use opening::{Connect, Opening};
pub use turn::Turn;

/// Most bytes of a request head.
pub const HEAD_CAP: usize = 64 * 1024;

/// Most header fields of a request.
const FIELD_CAP: usize = 100;

/// Most bytes taken from the socket at once while a head is incomplete.
const HEAD_READ: usize = 8 * 1024;

/// Longest that a head may take from its first byte, and that a fresh connection may stay silent (security.md T15).
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// For people.
    pub reason: &'static str,
}

const fn refuse(status: u16, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

/// Whom a connection's requests must take us for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Ourselves, at this address.
    Port(SocketAddr),
    /// The host that we are the proxy for, within its tunnel: nobody else's pages can get there, and most of its paths are not ours to judge.
    Host(&'static str),
}

/// How long the body behind a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, often none.
    Length(u64),
    /// Chunked. The connection serves no request after it, so no unread head can hide behind it.
    Chunked,
}

/// Judges a whole head, line ends included.
pub fn inspect(head: &[u8], place: Place) -> Result<Framing, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELD_CAP];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(refuse(431, "too many header fields")),
        Ok(httparse::Status::Partial) | Err(_) => return Err(refuse(400, "not a valid HTTP request head")),
    }
    if request.version != Some(1) {
        return Err(refuse(400, "only HTTP/1.1 is served"));
    }
    method(request.method.unwrap_or_default())?;
    target(request.path.unwrap_or_default(), place)?;
    host(request.headers, place)?;
    framing(request.headers)
}

fn method(method: &str) -> Result<(), Refusal> {
    match method {
        "CONNECT" | "TRACE" | "TRACK" => Err(refuse(405, "method is not served")),
        _ => Ok(()),
    }
}

/// Origin form only, and nothing that two readers could understand differently. What is passed through to one host goes there as it came,
/// whatever the path means.
fn target(target: &str, place: Place) -> Result<(), Refusal> {
    let bad = Err(refuse(400, "request target is not allowed"));
    if !target.starts_with('/')
        || !target.is_ascii()
        || target.contains(['\\', '#'])
        || target.bytes().any(|byte| byte <= b' ' || byte == 0x7f)
    {
        return bad;
    }
    if matches!(place, Place::Host(_)) {
        return Ok(());
    }
    // A query is data: page tokens hold encoded slashes and line ends, and no reader takes them for segments of the path.
    let path = target.split('?').next().unwrap_or_default().to_ascii_lowercase();
    if path.contains("//") || ["%2f", "%5c", "%00", "%0a", "%0d"].iter().any(|code| path.contains(code)) {
        return bad;
    }
    let dots = path.replace("%2e", ".");
    if dots.split('/').any(|segment| segment == "." || segment == "..") || dots.contains("%25") {
        return bad;
    }
    Ok(())
}

/// Exactly one Host, and it is ours (DNS rebinding, T1) or the one that we stand for.
fn host(fields: &[httparse::Header<'_>], place: Place) -> Result<(), Refusal> {
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(refuse(400, "exactly one Host header is needed"));
    };
    let value = std::str::from_utf8(host.value).map_err(|_| refuse(400, "Host is not valid"))?;
    let default_port = if matches!(place, Place::Host(_)) { 443 } else { 80 };
    let (name, named_port) = match value.rsplit_once(':') {
        Some((name, digits)) if !digits.contains(']') => (name, digits.parse::<u16>().ok()),
        _ => (value, Some(default_port)),
    };
    let (ours, port): (&[&str], u16) = match &place {
        Place::Port(local) => (&["127.0.0.1", "localhost", "[::1]"], local.port()),
        Place::Host(host) => (std::slice::from_ref(host), default_port),
    };
    let named = ours.iter().any(|ours| name.eq_ignore_ascii_case(ours));
    if named && named_port == Some(port) { Ok(()) } else { Err(refuse(421, "this address is not served here")) }
}

fn framing(fields: &[httparse::Header<'_>]) -> Result<Framing, Refusal> {
    let mut length: Option<u64> = None;
    let mut chunked = false;
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let digits =
                std::str::from_utf8(field.value).ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            let value = digits.and_then(|text| text.parse().ok()).ok_or(refuse(400, "Content-Length is not valid"))?;
            if length.replace(value).is_some() {
                return Err(refuse(400, "more than one Content-Length"));
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(refuse(501, "only one transfer coding is known: chunked"));
            }
            chunked = true;
        } else if field.name.eq_ignore_ascii_case("upgrade") {
            return Err(refuse(501, "upgrades are not served"));
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(refuse(400, "both Content-Length and Transfer-Encoding")),
        (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
        (None, true) => Ok(Framing::Chunked),
    }
}

/// Where the bytes of a head end, or that it can never end well. `from` is where the last search stopped.
fn head_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Refusal> {
    let mut at = from.saturating_sub(3);
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line_end = at + found;
        if line_end == 0 || bytes[line_end - 1] != b'\r' {
            return Err(refuse(400, "a line ends without CR"));
        }
        if line_end == 1 {
            return Err(refuse(400, "an empty line before the request"));
        }
        if line_end >= 3 && bytes[line_end - 3..line_end] == *b"\r\n\r" {
            return Ok(Some(line_end + 1));
        }
        at = line_end + 1;
    }
    Ok(None)
}

/// When a head that has begun must be whole.
struct HeadTimer {
    due: Instant,
    deadline: Deadline,
}

impl HeadTimer {
    fn new() -> Self {
        Self { due: clock::now() + HEAD_TIME, deadline: Deadline::default() }
    }
}

enum State {
    /// Bytes of a head are gathered in `pending`.
    Head { searched: usize },
    /// So many body bytes pass.
    Body(u64),
    /// Everything passes until the connection closes.
    Opaque,
    /// A refusal is being written.
    Refusing(BytesMut),
    /// Nothing more comes.
    Closed,
}

/// A client connection whose request heads are judged before they pass.
pub struct Guarded<I> {
    io: Take<I>,
    place: Place,
    state: State,
    /// Read from the socket, not yet passed on.
    pending: BytesMut,
    /// How much of `pending` may pass.
    cleared: usize,
    /// Runs while a head is incomplete.
    head_timer: Option<HeadTimer>,
    turn: Turn,
    /// The answer to the request that passed last has not gone out yet: what comes next is not looked at.
    in_turn: bool,
    /// Whoever wants to read on when it has.
    reader: Option<Waker>,
}

impl<I> fmt::Debug for Guarded<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Guarded<I> {
    /// Guards a fresh connection to `local`.
    pub fn new(io: I, local: SocketAddr) -> Self {
        Self { head_timer: Some(HeadTimer::new()), ..Self::at(Place::Port(local), io) }
    }

    /// Guards what comes through a tunnel to `host`. It was opened with the token, and may be opened before there is anything to say.
    pub fn within(io: I, host: &'static str) -> Self {
        Self::at(Place::Host(host), io)
    }

    fn at(place: Place, io: I) -> Self {
        Self {
            io: io.take(u64::MAX),
            place,
            state: State::Head { searched: 0 },
            pending: BytesMut::new(),
            cleared: 0,
            head_timer: None,
            turn: Turn::default(),
            in_turn: false,
            reader: None,
        }
    }

    /// To be told by whoever answers.
    pub fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Passes cleared bytes on.
    fn pass(&mut self, into: &mut ReadBuf<'_>) {
        let count = self.cleared.min(into.remaining());
        into.put_slice(&self.pending[..count]);
        self.pending.advance(count);
        self.cleared -= count;
        if self.pending.is_empty() {
            // Five hundred open streams shall not keep five hundred buffers.
            self.pending = BytesMut::new();
        }
    }

    /// Judges what is pending; clears what may pass.
    fn judge(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Head { searched } => {
                let Some(end) = head_end(&self.pending, searched)? else {
                    if self.pending.len() > HEAD_CAP {
                        return Err(refuse(431, "the request head is too long"));
                    }
                    self.state = State::Head { searched: self.pending.len() };
                    return Ok(());
                };
                if end > HEAD_CAP {
                    return Err(refuse(431, "the request head is too long"));
                }
                self.state = match inspect(&self.pending[..end], self.place)? {
                    Framing::Length(length) => State::Body(length),
                    Framing::Chunked => State::Opaque,
                };
                self.cleared = end;
                self.head_timer = None;
                self.turn.begin();
                self.in_turn = true;
                self.clear_body();
            }
            State::Body(_) | State::Opaque | State::Refusing(_) | State::Closed => self.clear_body(),
        }
        Ok(())
    }

    /// Body bytes that came along with a head may pass, but not the next head behind them.
    fn clear_body(&mut self) {
        let waiting = self.pending.len() - self.cleared;
        match &mut self.state {
            State::Opaque => self.cleared = self.pending.len(),
            State::Body(left) => {
                let now = waiting.min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.cleared += now;
                *left -= now as u64;
                if *left == 0 {
                    self.state = State::Head { searched: 0 };
                }
            }
            State::Head { .. } | State::Refusing(_) | State::Closed => {}
        }
    }

    /// From now on only the refusal goes out, and nothing comes in.
    fn refuse(&mut self, refusal: &Refusal) {
        tracing::debug!(status = refusal.status, reason = refusal.reason, "request head refused");
        self.pending.clear();
        self.state = State::Refusing(BytesMut::from(&answer::raw_refusal(refusal)[..]));
    }

    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Refusing(words) = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        while words.has_remaining() {
            let written = ready!(Pin::new(self.io.get_mut()).poll_write(cx, words))?;
            if written == 0 {
                break;
            }
            words.advance(written);
        }
        ready!(Pin::new(self.io.get_mut()).poll_shutdown(cx))?;
        self.state = State::Closed;
        Poll::Ready(Ok(()))
    }

    /// Takes more of a head in. Between two requests of a kept connection there is no hurry.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(outcome) = self.poll_read_head(cx) {
            return Poll::Ready(outcome);
        }
        if !self.pending.is_empty() {
            self.head_timer.get_or_insert_with(HeadTimer::new);
        }
        let Some(timer) = &mut self.head_timer else { return Poll::Pending };
        ready!(timer.deadline.poll(cx, timer.due));
        tracing::debug!("a request head took too long");
        self.state = State::Closed;
        Poll::Ready(Ok(()))
    }

    /// Gathers what comes during an answer, so that the connection's end is seen. No more of it than a head may be long.
    fn poll_during_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reader = Some(cx.waker().clone());
        while self.pending.len() <= HEAD_CAP && !matches!(self.state, State::Closed) {
            ready!(self.poll_read_head(cx))?;
        }
        if matches!(self.state, State::Closed) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// What was written has gone out. If that was the end of an answer, the next request may come.
    fn end_turn(&mut self) {
        if self.in_turn && !self.turn.is_under_way() {
            self.in_turn = false;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    fn poll_read_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.set_limit(u64::MAX);
        // On the stack: a connection that waits, for its next request or for the end of a long answer, keeps no buffer for it.
        let mut taken = [const { MaybeUninit::uninit() }; HEAD_READ];
        let mut space = ReadBuf::uninit(&mut taken);
        let outcome = Pin::new(&mut self.io).poll_read(cx, &mut space);
        self.pending.extend_from_slice(space.filled());
        let count = space.filled().len();
        ready!(outcome)?;
        if count == 0 {
            self.state = State::Closed;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.cleared > 0 {
                this.pass(buf);
                return Poll::Ready(Ok(()));
            }
            match &mut this.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Refusing(_) => ready!(this.poll_refuse(cx))?,
                State::Opaque => {
                    this.io.set_limit(u64::MAX);
                    return Pin::new(&mut this.io).poll_read(cx, buf);
                }
                State::Body(left) => {
                    let expected = *left;
                    this.io.set_limit(expected);
                    ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                    let left = this.io.limit();
                    this.state = match left {
                        0 => State::Head { searched: 0 },
                        left if left == expected => State::Closed,
                        left => State::Body(left),
                    };
                    return Poll::Ready(Ok(()));
                }
                State::Head { .. } if this.in_turn => ready!(this.poll_during_answer(cx))?,
                State::Head { .. } => {
                    if this.pending.is_empty() || matches!(this.state, State::Head { searched } if searched == this.pending.len()) {
                        ready!(this.poll_head(cx))?;
                    }
                    if let Err(refusal) = this.judge() {
                        this.refuse(&refusal);
                    }
                }
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.io.get_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(self.io.get_mut()).poll_flush(cx))?;
        self.end_turn();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(self.io.get_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.get_ref().is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
