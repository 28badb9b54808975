//! The body of an answer to the client. Never ends properly unless the answer is complete.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::forward::Driver;
use crate::intercept::Passed;
use crate::replay::Reader;

/// The body of an answer to the client.
pub enum ClientBody {
    /// All of it is here.
    Full(Option<Bytes>),
    /// All of it is here, but the client is still sending: what it sends is read and thrown away, so that the connection is not reset
    /// under the answer before the client has read it.
    Draining(Option<Bytes>, Box<Drain>),
    /// It comes from an upstream, driven by its exchange.
    Driven(Box<Driver>),
    /// It comes from the client's own provider as it is.
    Passed(Box<Passed>),
}

impl ClientBody {
    /// All of it is here.
    pub fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    /// The same answer, while the rest of a refused request is thrown away.
    #[must_use]
    pub fn draining(self, request: Incoming) -> Self {
        if request.is_end_stream() { self } else { self.with_drain(DrainSource::Refused(request)) }
    }

    /// The same answer, while the rest of a request that an upstream refused early is thrown away.
    #[must_use]
    pub fn draining_kept(self, request: Reader) -> Self {
        if request.is_end_stream() { self } else { self.with_drain(DrainSource::Kept(request)) }
    }

    fn with_drain(self, source: DrainSource) -> Self {
        match self {
            Self::Full(bytes) => Self::Draining(bytes, Box::new(Drain::new(source))),
            other => other,
        }
    }
}

/// A request body that nobody wants.
pub struct Drain {
    source: DrainSource,
    /// Ends the drain of a client that never ends.
    deadline: Pin<Box<Sleep>>,
}

enum DrainSource {
    Refused(Incoming),
    Kept(Reader),
}

/// Longest that an unwanted body is read.
const DRAIN_TIME: Duration = Duration::from_secs(10);

impl Drain {
    fn new(source: DrainSource) -> Self {
        Self { source, deadline: Box::pin(tokio::time::sleep(DRAIN_TIME)) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let over = match &mut self.source {
                DrainSource::Refused(body) => Pin::new(body).poll_frame(cx).map(|frame| !matches!(frame, Some(Ok(_)))),
                DrainSource::Kept(body) => Pin::new(body).poll_frame(cx).map(|frame| !matches!(frame, Some(Ok(_)))),
            };
            match over {
                Poll::Ready(true) => return Poll::Ready(()),
                Poll::Ready(false) => {}
                Poll::Pending => return self.deadline.as_mut().poll(cx),
            }
        }
    }
}

/// The answer broke: the connection closes without a proper end, so that the client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutShort;

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer was cut short")
    }
}

impl std::error::Error for CutShort {}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Draining(bytes, drain) => match bytes.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => drain.poll(cx).map(|()| None),
            },
            Self::Driven(driver) => driver.poll_frame(cx),
            Self::Passed(passed) => passed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Passed(passed) => passed.size_hint(),
            Self::Draining(..) | Self::Driven(_) => SizeHint::default(),
        }
    }
}
