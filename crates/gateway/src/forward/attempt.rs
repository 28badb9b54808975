//! One attempt's input and output: sends it, reads its answer, and knows what of it the client has. Never decides what follows.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hotspare_core::{AttemptId, AttemptPlan, Failure};
use hotspare_upstream::clock::{self, Deadline};
use hotspare_upstream::{Received, Target, UpstreamBody};
use hotspare_wire::resume::Splice;
use hotspare_wire::sse::Scanner;
use hotspare_wire::transcript::Transcript;
use http::response;
use http_body::{Body, Frame};
use tokio::time::Sleep;

use crate::coding::Unpacker;
use crate::holdback::{Holdback, Wants};
use crate::replay::RequestBody;

/// Most bytes of an error body that are kept to be relayed.
const ERROR_CAP: usize = 4 * 1024 * 1024;

/// A refusal's head says enough to go on: the rest of its body is not waited for once nothing of it has come for so long.
const REFUSAL_IDLE: Duration = Duration::from_secs(5);

/// What the attempt is doing.
pub(super) enum Doing {
    /// Nothing any more.
    Nothing,
    /// Waiting before a retry in place.
    Pausing(Pin<Box<Sleep>>, AttemptPlan),
    /// Connecting, sending, waiting for the head.
    Sending(Pin<Box<dyn Future<Output = Result<Received<RequestBody>, Failure>> + Send>>),
    /// Reading the body of a refusal.
    Refused(Box<Refused>),
    /// Reading the first bytes of a body, which show what it is.
    First(UpstreamBody<RequestBody>, Vec<Bytes>),
    /// Reading an event stream.
    Stream(UpstreamBody<RequestBody>),
    /// Reading a JSON document.
    Whole(UpstreamBody<RequestBody>, Vec<Bytes>, usize),
    /// Passing anything on.
    Opaque(UpstreamBody<RequestBody>),
}

/// An answer with a status that is no success.
pub(super) struct Refused {
    pub head: response::Parts,
    pub body: UpstreamBody<RequestBody>,
    pub read: BytesMut,
    /// When something of the body came last.
    read_at: Instant,
    patience: Deadline,
}

/// Something that happened to an attempt.
pub(super) enum Happened {
    /// The pause is over: it is to be sent.
    Paused(AttemptPlan),
    /// Its head came, or did not.
    Head(Result<Received<RequestBody>, Failure>),
    /// The refusal is as whole as it will be.
    RefusalRead,
    /// A frame of its body, its end, or its break.
    Frame(Option<Result<Bytes, ()>>),
}

/// One attempt.
pub(super) struct Attempt {
    pub id: AttemptId,
    pub target: Arc<Target>,
    pub client_login: bool,
    pub doing: Doing,
    pub head: Option<response::Parts>,
    pub hold: Holdback,
    /// The client has bytes of it.
    pub on_wire: bool,
    /// It is not an answer, and is passed on as it came.
    pub relayed: bool,
    /// Where it goes on with another's answer.
    pub splicer: Option<Box<Splicer>>,
    /// When its stream began, and what makes it valid in the client's transcript; the inner `None` if it goes on byte for byte.
    pub transcript: Option<(Instant, Option<Box<Transcript>>)>,
    /// What decodes its stream, which came compressed although no coding was asked for.
    pub unpacker: Option<Box<Unpacker>>,
    /// Its clock for the first content.
    pub first_content: Duration,
}

impl Attempt {
    pub(super) fn new(plan: &AttemptPlan, target: Arc<Target>, wants: Wants) -> Self {
        Self {
            id: plan.id,
            target,
            client_login: plan.candidate.terms.client_login,
            doing: Doing::Nothing,
            head: None,
            hold: Holdback::new(wants),
            on_wire: false,
            relayed: false,
            splicer: None,
            transcript: None,
            unpacker: None,
            first_content: plan.candidate.terms.clocks.first_content,
        }
    }

    /// Waits for the next thing to happen.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        match &mut self.doing {
            Doing::Nothing => Poll::Pending,
            Doing::Pausing(sleep, plan) => {
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Happened::Paused(plan.clone()))
            }
            Doing::Sending(sending) => sending.as_mut().poll(cx).map(Happened::Head),
            Doing::Refused(refused) => refused.poll(cx).map(|()| Happened::RefusalRead),
            Doing::First(body, _) | Doing::Stream(body) | Doing::Whole(body, ..) | Doing::Opaque(body) => loop {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                match frame.map(|frame| frame.map(Frame::into_data)) {
                    Some(Ok(Ok(data))) => return Poll::Ready(Happened::Frame(Some(Ok(data)))),
                    // Trailers: nobody waits for them.
                    Some(Ok(Err(_))) => {}
                    Some(Err(_)) => return Poll::Ready(Happened::Frame(Some(Err(())))),
                    None => return Poll::Ready(Happened::Frame(None)),
                }
            },
        }
    }

    /// Stops whatever it does; the connection closes.
    pub(super) fn stop(&mut self) {
        self.doing = Doing::Nothing;
    }

    /// Takes the next bytes of an event stream in.
    pub(super) fn receive(&mut self, data: Bytes) {
        match &mut self.splicer {
            None => self.hold.receive(data),
            Some(splicer) => {
                let spliced = splicer.feed(&data);
                if !spliced.is_empty() {
                    self.hold.receive(spliced);
                }
            }
        }
    }

    /// Takes over what the client has of a broken answer, to go on with it.
    pub(super) fn take_over(&mut self, mut broken: Holdback) {
        let texts = broken.texts().unwrap_or_default();
        let splice = Splice::new(broken.delivered(), texts, broken.usage().clone());
        self.splicer = Some(Box::new(Splicer { scanner: Scanner::new(), splice }));
        broken.splice();
        self.hold = broken;
    }
}

impl Refused {
    pub(super) fn new(head: response::Parts, body: UpstreamBody<RequestBody>) -> Self {
        Self { head, body, read: BytesMut::new(), read_at: clock::now(), patience: Deadline::default() }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.read.len() <= ERROR_CAP {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return self.patience.poll(cx, self.read_at + REFUSAL_IDLE),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.read.extend_from_slice(data);
                        self.read_at = clock::now();
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => break,
            }
        }
        Poll::Ready(())
    }
}

/// Turns the bytes of the rest of an answer into those that the client must see.
pub(super) struct Splicer {
    scanner: Scanner,
    pub splice: Splice,
}

impl Splicer {
    fn feed(&mut self, piece: &[u8]) -> Bytes {
        let Self { scanner, splice } = self;
        let mut out = Vec::new();
        scanner.feed(piece, |event| splice.event(&event, &mut out));
        out.into()
    }
}

/// Ready for the client, in order, and how much has gone.
#[derive(Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    waiting: usize,
    pub sent: u64,
}

impl Extend<Bytes> for Outbox {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, pieces: I) {
        pieces.into_iter().for_each(|piece| self.push(piece));
    }
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.waiting += piece.len();
        self.pieces.push_back(piece);
    }

    /// What is ready: one large piece as it is, or small ones joined to at most `batch` bytes.
    pub(super) fn next(&mut self, batch: usize) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        let piece = if first.len() >= batch || self.pieces.is_empty() { first } else { self.join(&first, batch) };
        self.waiting -= piece.len();
        self.sent += piece.len() as u64;
        Some(piece)
    }

    fn join(&mut self, first: &Bytes, batch: usize) -> Bytes {
        let mut joined = BytesMut::with_capacity(self.waiting.min(batch));
        joined.extend_from_slice(first);
        while let Some(next) = self.pieces.pop_front_if(|next| joined.len() + next.len() <= batch) {
            joined.extend_from_slice(&next);
        }
        joined.freeze()
    }
}
