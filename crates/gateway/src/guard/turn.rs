//! Whose turn it is on a connection: a client that sends its next request early waits with it until its answer before has gone out. Never
//! looks at a byte.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

/// Whether the request that passed last is still being answered: shared by the guard and whoever answers.
#[derive(Debug, Clone, Default)]
pub struct Turn(Arc<AtomicBool>);

impl Turn {
    /// A request has passed.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The turn ends when this body is read to its end, or dropped.
    pub(crate) fn answered_by<B>(self, body: B) -> Answering<B> {
        Answering { body, _turn: EndsTurn(self) }
    }
}

struct EndsTurn(Turn);

impl Drop for EndsTurn {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// An answer's body as it is.
pub(crate) struct Answering<B> {
    body: B,
    _turn: EndsTurn,
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
