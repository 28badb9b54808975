//! The only loop that drives an exchange: does what `core` says, and tells it what happens. Never decides anything itself.
//!
//! There is no task and no channel between upstream and client: the client's connection polls the driver, and dropping it (the client hung
//! up) drops the upstream's connection with it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hotspare_core::exchange::BodyKind;
use hotspare_core::{
    Action, Answer, AttemptId, AttemptPlan, Ending, Endpoint, Exchange, Failure, FailureKind, LocalAnswer, RequestFacts, Stage, World,
};
use hotspare_upstream::{ClientCredential, Outgoing, Received, Target, UpstreamBody, clock};
use hotspare_wire::messages::{self, EarlyModel};
use hotspare_wire::stream::{self, Fact};
use hotspare_wire::{failure, limits};
use http::{Extensions, HeaderMap, HeaderValue, Method, Response, StatusCode, header, response};
use http_body::{Body, Frame};
use tokio::time::Sleep;
use xxhash_rust::xxh3::Xxh3;

use crate::answer;
use crate::body::{ClientBody, CutShort};
use crate::headers::{self, Limits};
use crate::holdback::Holdback;
use crate::record::{self, Event, ExchangeRecord};
use crate::replay::{Broken, Replay};
use crate::server::{Gateway, InFlight, RequestBody};
use crate::snapshot::Snapshot;

/// Most bytes of an error body that are kept to be relayed.
const ERROR_CAP: usize = 4 * 1024 * 1024;

/// Most bytes of an error body that are unpacked to be classified (security.md T16).
const UNPACKED_CAP: u64 = 8 * 1024 * 1024;

/// Most bytes of a whole JSON answer that are held until it is complete; a longer one is passed on as it comes.
const WHOLE_CAP: usize = 32 * 1024 * 1024;

/// Pause between the last bytes and a cut. A client may lose what it has not read yet when the connection dies at once (measured).
const CUT_PAUSE: Duration = Duration::from_millis(60);

/// A ping of ours goes out when the client has heard nothing for so long while something is withheld.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Bytes that are joined into one frame for the client.
const BATCH: usize = 16 * 1024;

/// A client's request, as far as it is sent up.
pub(crate) struct ClientRequest {
    pub method: Method,
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub extensions: Extensions,
    pub credential: ClientCredential,
    pub body: Replay,
    pub length: Option<u64>,
}

/// What the running attempt is doing.
enum Running {
    Nothing,
    /// Waiting before a retry in place.
    Pausing(Pin<Box<Sleep>>, AttemptPlan),
    /// Connecting, sending, waiting for the head.
    Sending(Pin<Box<dyn Future<Output = Result<Received<RequestBody>, Failure>> + Send>>),
    /// Reading the body of a refusal.
    Refused(Refused),
    /// Reading an event stream.
    Stream(UpstreamBody<RequestBody>),
    /// Reading a JSON document.
    Whole(UpstreamBody<RequestBody>, Vec<Bytes>, usize),
    /// Passing anything on.
    Opaque(UpstreamBody<RequestBody>),
}

struct Refused {
    head: response::Parts,
    body: UpstreamBody<RequestBody>,
    read: BytesMut,
}

/// An upstream's refusal, kept in case it is the answer.
struct Kept {
    attempt: AttemptId,
    head: response::Parts,
    body: Bytes,
}

/// Drives one exchange.
pub struct Driver {
    gateway: Arc<Gateway>,
    snapshot: Arc<Snapshot>,
    exchange: Exchange,
    request: Arc<ClientRequest>,
    id: u64,
    running: Running,
    attempt: AttemptId,
    target: Option<Arc<Target>>,
    client_login: bool,
    head: Option<response::Parts>,
    kept: Vec<Kept>,
    hold: Holdback,
    /// Ready for the client.
    out: VecDeque<Bytes>,
    last_out: Instant,
    ending: Option<Ending>,
    pause: Option<Pin<Box<Sleep>>>,
    succeeded: bool,
    timer: Timer,
    recorded: bool,
    _in_flight: InFlight,
}

/// Serves one admitted request.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    mut facts: RequestFacts,
    request: ClientRequest,
    in_flight: InFlight,
) -> Response<ClientBody> {
    let snapshot = gateway.snapshot();
    if let Err(broken) = learn_model(&snapshot, &mut facts, &request.body).await {
        return broken_body(broken);
    }
    let key = if gateway.with_world(|world| world.memory.remembers_requests()) {
        match request.body.whole().await {
            Ok(whole) => Some(request_key(&facts, &request.path_and_query, &whole)),
            Err(broken) => return broken_body(broken),
        }
    } else {
        None
    };
    let now = clock::now();
    let planned = gateway.with_world(|world| {
        let chain = hotspare_core::route::chain_for(&snapshot.rules, &facts)?;
        let detours = world.memory.detours(now, facts.session, key);
        let fit = |entry: &_| snapshot.fit(entry, &facts);
        let plan = hotspare_core::route::plan(now, &facts, chain, &snapshot.policy, &world.health, &detours, fit);
        Some((plan, world.memory.attempts_left(now, key)))
    });
    let Some((plan, attempts_left)) = planned else {
        return answer::error(StatusCode::FAILED_DEPENDENCY, "invalid_request_error", "hotspare: no chain matches this request");
    };
    let id = gateway.next_id();
    gateway.tell(&Event::Arrived { id });
    let claude = facts.client.is_claude();
    let exchange = Exchange::new(now, facts, plan, snapshot.policy.clone(), attempts_left);
    let driver = Driver {
        gateway,
        snapshot,
        exchange,
        request: Arc::new(request),
        id,
        running: Running::Nothing,
        attempt: AttemptId(0),
        target: None,
        client_login: false,
        head: None,
        kept: Vec::new(),
        hold: Holdback::new(claude),
        out: VecDeque::new(),
        last_out: now,
        ending: None,
        pause: None,
        succeeded: false,
        timer: Timer::default(),
        recorded: false,
        _in_flight: in_flight,
    };
    driver.until_answer().await
}

/// Finds the model: from the first bytes, or from the whole body where routing needs it and it does not come first.
async fn learn_model(snapshot: &Snapshot, facts: &mut RequestFacts, body: &Replay) -> Result<(), Broken> {
    if !matches!(facts.endpoint, Endpoint::Messages | Endpoint::CountTokens) {
        return Ok(());
    }
    let first = body.first_chunk().await?;
    facts.model = match messages::early_model(&first) {
        EarlyModel::Named(model) => Some(model.into()),
        EarlyModel::NotYet if snapshot.routes_by_model() => {
            messages::peek(&body.whole().await?).and_then(|peek| peek.model).map(Into::into)
        }
        EarlyModel::NotYet => body.whole_if_here().and_then(|whole| messages::peek(&whole)).and_then(|peek| peek.model).map(Into::into),
    };
    Ok(())
}

fn request_key(facts: &RequestFacts, path: &str, body: &Bytes) -> u64 {
    let mut hasher = Xxh3::new();
    match messages::peek(body) {
        Some(peek) => peek.stable_parts(body).into_iter().for_each(|part| hasher.update(part)),
        None => hasher.update(body),
    }
    let mut key = DefaultHasher::new();
    (facts.session, path, hasher.digest128()).hash(&mut key);
    key.finish()
}

fn broken_body(broken: Broken) -> Response<ClientBody> {
    let (status, kind) = match broken {
        Broken::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
        Broken::TooSlow => (StatusCode::REQUEST_TIMEOUT, "timeout_error"),
        Broken::Aborted => (StatusCode::BAD_REQUEST, "invalid_request_error"),
    };
    let mut response = answer::error(status, kind, &format!("hotspare: {broken}"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

impl Driver {
    /// Runs until there is something to answer with.
    async fn until_answer(self) -> Response<ClientBody> {
        let mut driver = Box::new(self);
        loop {
            match driver.exchange.poll() {
                Action::Start(plan) => driver.start(plan),
                Action::Wait(_) => std::future::poll_fn(|cx| driver.poll_progress(cx)).await,
                Action::Commit => return driver.committed(),
                Action::Answer(answer) => return driver.answer(&answer),
                // Ends before a commit only when the answer was whole at once; there is no body to drive then.
                Action::End(ending) => {
                    driver.end(ending);
                    return driver.committed();
                }
            }
        }
    }

    /// The next frame of a committed answer. Everything that has already come goes in one frame: the client's connection flushes after
    /// each frame it has to wait for.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let mut ready_bytes = self.out.iter().map(Bytes::len).sum::<usize>();
        while self.ending.is_none() && ready_bytes < BATCH {
            match self.exchange.poll() {
                Action::Wait(_) => {
                    if self.poll_progress(cx).is_pending() {
                        break;
                    }
                }
                Action::End(ending) => self.end(ending),
                Action::Commit => self.release(),
                // The core starts and answers nothing after a commit (invariant I1); a cut is the honest end if it ever did.
                Action::Start(_) | Action::Answer(_) => self.end(Ending::Cut),
            }
            ready_bytes = self.out.iter().map(Bytes::len).sum();
        }
        if let Some(bytes) = self.next_out() {
            self.last_out = clock::now();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match self.ending {
            None => Poll::Pending,
            Some(Ending::Complete | Ending::HandBack) => {
                self.record();
                Poll::Ready(None)
            }
            Some(Ending::Cut) => {
                let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(CUT_PAUSE)));
                ready!(pause.as_mut().poll(cx));
                self.record();
                Poll::Ready(Some(Err(CutShort)))
            }
        }
    }

    /// What is ready for the client: one large piece as it is, or small ones joined.
    fn next_out(&mut self) -> Option<Bytes> {
        let first = self.out.pop_front()?;
        if first.len() >= BATCH || self.out.is_empty() {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity((first.len() + self.out.iter().map(Bytes::len).sum::<usize>()).min(BATCH));
        joined.extend_from_slice(&first);
        while let Some(next) = self.out.front()
            && joined.len() + next.len() <= BATCH
        {
            joined.extend_from_slice(next);
            self.out.pop_front();
        }
        Some(joined.freeze())
    }

    fn start(&mut self, plan: AttemptPlan) {
        self.attempt = plan.id;
        self.client_login = plan.candidate.terms.client_login;
        self.hold = Holdback::new(self.exchange.facts().client.is_claude());
        self.head = None;
        if plan.delay.is_zero() {
            self.send(&plan);
        } else {
            self.running = Running::Pausing(Box::pin(tokio::time::sleep(plan.delay)), plan);
        }
    }

    fn send(&mut self, plan: &AttemptPlan) {
        let Some(target) = self.snapshot.target(plan.candidate.profile).cloned() else {
            // A plan is made from the same snapshot, so the profile is there.
            self.running = Running::Nothing;
            return self.failed(Failure::new(FailureKind::NoCredential, Stage::Connect, "profile is gone"));
        };
        self.gateway.tell(&Event::Asked { id: self.id, profile: target.name.clone(), kind: plan.kind });
        self.target = Some(target.clone());
        let gateway = self.gateway.clone();
        let request = self.request.clone();
        let read_answer = self.exchange.facts().endpoint != Endpoint::Other;
        let terms = plan.candidate.terms.clone();
        let fresh = plan.fresh_connection;
        self.running = Running::Sending(Box::pin(async move {
            let (body, length) = match &terms.model {
                None => (RequestBody::Kept(request.body.reader()), request.length),
                Some(model) => {
                    let whole = request
                        .body
                        .whole()
                        .await
                        .map_err(|broken| Failure::new(FailureKind::CannotReplay, Stage::Connect, broken.to_string()))?;
                    let parts: VecDeque<Bytes> = messages::with_model(&whole, model).into();
                    let length = parts.iter().map(|part| part.len() as u64).sum();
                    (RequestBody::Parts(parts), Some(length))
                }
            };
            let outgoing = Outgoing {
                method: request.method.clone(),
                path_and_query: request.path_and_query.clone(),
                headers: request.headers.clone(),
                extensions: request.extensions.clone(),
                client_credential: if terms.client_login { request.credential.clone() } else { ClientCredential::default() },
                body,
                length,
                read_answer,
            };
            gateway.upstreams().send(&target, outgoing, &terms.clocks, fresh).await
        }));
    }

    /// Waits for the next thing to happen and tells the exchange.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.judge_next_fact() {
            return Poll::Ready(());
        }
        let progress = match &mut self.running {
            Running::Nothing => Poll::Pending,
            Running::Pausing(sleep, plan) => match sleep.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    let plan = plan.clone();
                    self.send(&plan);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            },
            Running::Sending(sending) => match sending.as_mut().poll(cx) {
                Poll::Ready(outcome) => {
                    self.on_head(outcome);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            },
            Running::Refused(refused) => match Pin::new(&mut refused.body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    self.on_refusal_frame(frame);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            },
            Running::Stream(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    self.on_stream_frame(frame);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            },
            Running::Whole(body, ..) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    self.on_whole_frame(frame);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            },
            Running::Opaque(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    self.on_opaque_frame(frame);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            },
        };
        if progress.is_ready() { progress } else { self.poll_timer(cx) }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let keep_alive = self.keeps_alive().then(|| self.last_out + KEEP_ALIVE);
        let due = [self.exchange.poll_timeout(), keep_alive].into_iter().flatten().min();
        let Some(due) = due else { return Poll::Pending };
        ready!(self.timer.poll(cx, due));
        let now = clock::now();
        if keep_alive.is_some_and(|at| at <= now) {
            self.out.push_back(Bytes::from_static(stream::PING.as_bytes()));
            self.last_out = now;
            return Poll::Ready(());
        }
        if matches!(self.running, Running::Refused(_)) {
            // The head said enough; the rest of the body does not come.
            self.finish_refusal();
            return Poll::Ready(());
        }
        let sent = self.request.body.last_passed();
        let position = *self.hold.delivered();
        let before = self.exchange.attempts().len();
        self.with_exchange(|exchange, world| exchange.on_timer(now, sent, &position, world));
        self.after_failure(before);
        Poll::Ready(())
    }

    /// Whether the client hears nothing only because of us.
    fn keeps_alive(&self) -> bool {
        let committed = self.exchange.commitment() == hotspare_core::Commitment::Committed;
        committed
            && self.ending.is_none()
            && matches!(self.running, Running::Stream(_))
            && (self.hold.is_withholding() || !self.hold.delivered().started)
    }

    fn on_head(&mut self, outcome: Result<Received<RequestBody>, Failure>) {
        let response = match outcome {
            Ok(response) => response,
            Err(failure) => {
                self.running = Running::Nothing;
                return self.failed(failure);
            }
        };
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            self.running = Running::Refused(Refused { head, body, read: BytesMut::new() });
            return;
        }
        let Some(kind) = body_kind(self.exchange.facts().endpoint, &head) else {
            self.running = Running::Nothing;
            let said = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no content type");
            let words = format!("{} with {}", head.status.as_u16(), said.split(';').next().unwrap_or_default());
            return self.failed(Failure::new(FailureKind::WrongContent, Stage::Head, words));
        };
        self.head = Some(head);
        self.running = match kind {
            BodyKind::Stream => Running::Stream(body),
            BodyKind::Whole => Running::Whole(body, Vec::new(), 0),
            BodyKind::Opaque => Running::Opaque(body),
        };
        self.exchange.on_head(clock::now(), kind);
    }

    fn on_refusal_frame(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        let Running::Refused(refused) = &mut self.running else { return };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    refused.read.extend_from_slice(data);
                }
                if refused.read.len() > ERROR_CAP {
                    self.finish_refusal();
                }
            }
            Some(Err(_)) | None => self.finish_refusal(),
        }
    }

    /// The refusal is as whole as it will be: it becomes a failure of its class, and is kept.
    fn finish_refusal(&mut self) {
        let Running::Refused(refused) = std::mem::replace(&mut self.running, Running::Nothing) else { return };
        let Refused { head, read, .. } = refused;
        let body = read.freeze();
        let unpacked = unpacked(&head.headers, &body);
        let endpoint = self.exchange.facts().endpoint;
        let failure = failure::of_response(endpoint, head.status, &head.headers, &unpacked, self.gateway.outside().wall());
        self.kept.push(Kept { attempt: self.attempt, head, body });
        self.failed(failure);
    }

    fn on_stream_frame(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        let now = clock::now();
        match frame {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { return };
                self.exchange.on_bytes(now);
                self.hold.receive(data);
                if self.hold.held() > hotspare_core::policy::HOLD_BYTES {
                    self.exchange.on_held_full(now);
                }
                if !self.judge_next_fact() {
                    self.release();
                }
            }
            Some(Err(_)) => {
                self.running = Running::Nothing;
                self.failed(Failure::new(FailureKind::StreamDied, Stage::Held, "connection broke before the answer was complete"));
            }
            None => {
                self.running = Running::Nothing;
                self.on_end();
            }
        }
    }

    /// Tells the exchange of the next event that came, and releases what may go with it. False: there is none.
    fn judge_next_fact(&mut self) -> bool {
        if self.ending.is_some() {
            return false;
        }
        let held = self.exchange.commitment() == hotspare_core::Commitment::Held;
        let doomed = held && self.hold.error_is_coming();
        let Some(fact) = self.hold.next_fact() else { return false };
        let now = clock::now();
        match &fact {
            Fact::Error { kind, message } => self.on_error_event(kind, message),
            Fact::Malformed if held => {
                self.running = Running::Nothing;
                self.failed(Failure::new(FailureKind::Malformed, Stage::Held, "what came is no event stream"));
            }
            fact if fact.is_success() => self.succeed(),
            // An error that came along with the first content is still an error before the commit.
            fact if fact.is_content() && !doomed => self.exchange.on_content(now),
            _ => {}
        }
        self.release();
        true
    }

    fn on_error_event(&mut self, kind: &str, message: &str) {
        let failure = failure::of_event(kind, message, Stage::Held);
        let bound_to_request = matches!(failure.kind, FailureKind::BadRequest | FailureKind::TooLarge);
        if bound_to_request && self.exchange.commitment() == hotspare_core::Commitment::Held {
            // The request's own fault, told inside a stream: the client gets the provider's words as they came.
            self.hold.lift_barrier();
            return self.exchange.on_held_full(clock::now());
        }
        self.running = Running::Nothing;
        self.failed(failure);
    }

    fn on_whole_frame(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        let now = clock::now();
        let Running::Whole(_, pieces, size) = &mut self.running else { return };
        match frame {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { return };
                self.exchange.on_bytes(now);
                *size += data.len();
                pieces.push(data);
                if *size > WHOLE_CAP
                    && let Running::Whole(body, pieces, _) = std::mem::replace(&mut self.running, Running::Nothing)
                {
                    self.out.extend(pieces);
                    self.running = Running::Opaque(body);
                    self.exchange.on_held_full(now);
                }
            }
            Some(Err(_)) => {
                self.running = Running::Nothing;
                self.failed(Failure::new(FailureKind::StreamDied, Stage::Held, "connection broke before the answer was complete"));
            }
            None => {
                let pieces = std::mem::take(pieces);
                self.running = Running::Nothing;
                self.judge_whole(pieces.concat().into());
            }
        }
    }

    /// A whole JSON answer is here: is it one?
    fn judge_whole(&mut self, body: Bytes) {
        let headers = self.head.as_ref().map(|head| head.headers.clone()).unwrap_or_default();
        let unpacked = unpacked(&headers, &body);
        let unreadable = unpacked.is_empty() && !body.is_empty();
        if !unreadable && let Some(failure) = self.fault_of_whole(&unpacked) {
            return self.failed(failure);
        }
        self.out.push_back(body);
        self.succeed();
    }

    fn fault_of_whole(&self, body: &[u8]) -> Option<Failure> {
        let wrong = |words: &str| Some(Failure::new(FailureKind::WrongContent, Stage::Head, words));
        if body.iter().all(u8::is_ascii_whitespace) {
            return wrong("200 with an empty body");
        }
        if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
            return wrong("200 with a body that is no JSON");
        }
        if failure::is_error_body(body) {
            return wrong("200 with an error in its body");
        }
        let streamed = self.exchange.facts().endpoint == Endpoint::Messages
            && self.request.body.whole_if_here().and_then(|whole| messages::peek(&whole)).is_some_and(|peek| peek.stream);
        if streamed { wrong("200 with a whole answer where a stream was asked for") } else { None }
    }

    fn on_opaque_frame(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.exchange.on_bytes(clock::now());
                    self.out.push_back(data);
                }
            }
            Some(Err(_)) => {
                self.running = Running::Nothing;
                self.failed(Failure::new(FailureKind::StreamDied, Stage::Committed, "connection broke before the answer was complete"));
            }
            None => {
                self.running = Running::Nothing;
                self.on_end();
            }
        }
    }

    fn on_end(&mut self) {
        let now = clock::now();
        if self.hold.gave_up() {
            // It grew past reading: nothing says that it is not whole.
            self.succeed();
        }
        let position = *self.hold.delivered();
        let before = self.exchange.attempts().len();
        self.with_exchange(|exchange, world| exchange.on_end(now, &position, world));
        self.after_failure(before);
    }

    fn failed(&mut self, mut failure: Failure) {
        if let Some(broken) = self.request.body.broken() {
            failure = Failure::new(FailureKind::CannotReplay, Stage::Send, broken.to_string());
        }
        if self.request.body.is_lost() {
            self.exchange.cannot_replay();
        }
        if failure.kind == FailureKind::Unauthorized
            && let Some(target) = self.target.clone()
        {
            // A command that gave a dead key is asked for another the next time.
            tokio::spawn(async move { target.credential.forget().await });
        }
        let position = *self.hold.delivered();
        let before = self.exchange.attempts().len();
        let now = clock::now();
        self.with_exchange(|exchange, world| exchange.on_failure(now, failure, &position, world));
        self.after_failure(before);
    }

    /// Tells whoever watches of the failure that the exchange has just recorded.
    fn after_failure(&self, attempts_before: usize) {
        let Some(record) = attempts_before.checked_sub(1).and_then(|last| self.exchange.attempts().get(last)) else { return };
        if let Some(failure) = &record.failure {
            let profile: Arc<str> = self.snapshot.name(record.profile).into();
            tracing::info!(id = %record::id_text(self.id), %profile, failure = %failure, "attempt failed");
            self.gateway.tell(&Event::Failed { id: self.id, profile, failure: failure.clone() });
        }
    }

    fn with_exchange(&mut self, act: impl FnOnce(&mut Exchange, &mut World<'_>)) {
        let key = if self.wants_key() { self.request_key() } else { None };
        let Self { gateway, exchange, .. } = self;
        gateway.with_world(|state| {
            let mut world =
                World { health: &mut state.health, memory: &mut state.memory, request_key: key, dice: gateway.outside().dice() };
            act(exchange, &mut world);
        });
    }

    /// Whether a request's key is worth its hash: only for one that may have failed.
    fn wants_key(&self) -> bool {
        self.exchange.facts().endpoint == Endpoint::Messages && !self.succeeded
    }

    fn request_key(&self) -> Option<u64> {
        let whole = self.request.body.whole_if_here()?;
        Some(request_key(self.exchange.facts(), &self.request.path_and_query, &whole))
    }

    /// The answer is whole in meaning.
    fn succeed(&mut self) {
        self.succeeded = true;
        let now = clock::now();
        self.with_exchange(|exchange, world| exchange.on_success(now, world));
    }

    fn committed(mut self: Box<Self>) -> Response<ClientBody> {
        let Some(head) = self.head.take() else {
            return answer::error(StatusCode::BAD_GATEWAY, "api_error", "hotspare: the answer has no head");
        };
        let name: Arc<str> = self.target.as_ref().map_or_else(|| "".into(), |target| target.name.clone());
        self.gateway.tell(&Event::Committed { id: self.id, profile: name });
        self.release();
        let mut response = Response::new(ClientBody::full(Bytes::new()));
        *response.status_mut() = head.status;
        *response.headers_mut() = self.client_headers(&head.headers);
        *response.extensions_mut() = head.extensions;
        if let Some(length) = self.known_length(&head.headers) {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.body_mut() = ClientBody::Driven(self);
        response
    }

    /// The length of what the client will get, where nothing can change it any more.
    fn known_length(&self, upstream: &HeaderMap) -> Option<u64> {
        match &self.running {
            Running::Nothing => Some(self.out.iter().map(|piece| piece.len() as u64).sum()),
            Running::Opaque(_) => upstream.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok(),
            _ => None,
        }
    }

    fn client_headers(&self, upstream: &HeaderMap) -> HeaderMap {
        let primary = self.target.as_ref().is_some_and(|target| *target.name == *self.snapshot.name(self.exchange.plan().primary));
        let limits = if primary || self.client_login { Limits::Own } else { Limits::Foreign };
        let mut headers = headers::for_client(upstream, limits);
        let profile = self.target.as_ref().map_or("", |target| &target.name);
        headers::mark(&mut headers, profile, self.exchange.attempts().len(), &record::id_text(self.id));
        headers
    }

    fn answer(mut self: Box<Self>, answer: &Answer) -> Response<ClientBody> {
        let response = match answer {
            Answer::Relay { attempt, retry_after, final_word } => self.relay(*attempt, *retry_after, *final_word),
            Answer::Local(shape) => self.explain(*shape),
        };
        self.record();
        // An upstream may refuse before the client has sent all.
        let rest = self.request.body.rest();
        response.map(|body| body.draining_kept(rest))
    }

    fn explain(&self, shape: LocalAnswer) -> Response<ClientBody> {
        if let Some(broken) = self.request.body.broken() {
            return broken_body(broken);
        }
        let mut response = answer::exhausted(shape, &self.snapshot, self.exchange.plan(), self.exchange.attempts());
        let profile = self.target.as_ref().map_or("", |target| &target.name);
        headers::mark(response.headers_mut(), profile, self.exchange.attempts().len(), &record::id_text(self.id));
        response
    }

    fn relay(&mut self, attempt: AttemptId, retry_after: Option<u32>, final_word: bool) -> Response<ClientBody> {
        let Some(at) = self.kept.iter().position(|kept| kept.attempt == attempt) else {
            return self.explain(LocalAnswer { status: 502, error_type: "api_error", retry_after: Some(retry_after.unwrap_or(1)) });
        };
        let kept = self.kept.swap_remove(at);
        if let Some(record) = self.exchange.attempts().get(usize::from(attempt.0)) {
            self.target = self.snapshot.target(record.profile).cloned();
        }
        let mut response = Response::new(ClientBody::full(kept.body));
        *response.status_mut() = kept.head.status;
        *response.headers_mut() = self.client_headers(&kept.head.headers);
        *response.extensions_mut() = kept.head.extensions;
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if final_word {
            response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }

    /// Lets go on what may go on.
    fn release(&mut self) {
        if self.exchange.commitment() == hotspare_core::Commitment::Committed {
            self.hold.release(&mut self.out);
        }
    }

    fn end(&mut self, ending: Ending) {
        self.running = Running::Nothing;
        match ending {
            Ending::Complete => self.hold.release_all(&mut self.out),
            Ending::Cut => {}
            Ending::HandBack => self.out.push_back(stream::hand_back(self.hold.delivered(), self.hold.usage()).into()),
        }
        if ending != Ending::Complete {
            self.gateway.tell(&Event::Ending { id: self.id, ending });
        }
        self.ending = Some(ending);
    }

    /// Writes the exchange's one record.
    fn record(&mut self) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let Some(outcome) = self.exchange.outcome() else { return };
        let primary = self.exchange.plan().primary;
        let attempts = self.exchange.attempts();
        let served =
            attempts.last().filter(|_| self.exchange.commitment() == hotspare_core::Commitment::Committed).map(|last| last.profile);
        let record = ExchangeRecord {
            id: self.id,
            started: self.exchange.started(),
            took: clock::since(self.exchange.started()),
            chain: self.exchange.plan().chain.clone(),
            served_by: served.map(|profile| self.snapshot.name(profile).into()),
            on_spare: served.is_some_and(|profile| profile != primary),
            attempts: attempts
                .iter()
                .map(|attempt| (self.snapshot.name(attempt.profile).into(), attempt.kind, attempt.failure.clone()))
                .collect(),
            outcome,
        };
        self.gateway.over(Arc::new(record), self.exchange.facts().endpoint);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.exchange.outcome().is_none() {
            self.exchange.on_client_gone(clock::now());
        }
        self.record();
    }
}

/// What a good head's body is to be taken for; none: it is not what was asked for.
fn body_kind(endpoint: Endpoint, head: &response::Parts) -> Option<BodyKind> {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    let packed = head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    match endpoint {
        Endpoint::Other => Some(BodyKind::Opaque),
        // It was asked for unpacked; what comes packed all the same cannot be read on its way, and is passed on as it is.
        Endpoint::Messages if media.eq_ignore_ascii_case("text/event-stream") && packed => Some(BodyKind::Opaque),
        Endpoint::Messages if media.eq_ignore_ascii_case("text/event-stream") => Some(BodyKind::Stream),
        Endpoint::Messages | Endpoint::CountTokens | Endpoint::Models if media.eq_ignore_ascii_case("application/json") => {
            Some(BodyKind::Whole)
        }
        Endpoint::Messages | Endpoint::CountTokens | Endpoint::Models => None,
    }
}

/// The body as it reads, up to a cap; empty where its coding is not known.
fn unpacked(headers: &HeaderMap, body: &Bytes) -> Bytes {
    use std::io::Read;
    let mut text = Vec::new();
    let read = match limits::content_coding(headers) {
        None => return body.clone(),
        Some("gzip" | "x-gzip") => flate2::read::MultiGzDecoder::new(&body[..]).take(UNPACKED_CAP).read_to_end(&mut text),
        Some("deflate") => flate2::read::ZlibDecoder::new(&body[..]).take(UNPACKED_CAP).read_to_end(&mut text),
        Some(_) => return Bytes::new(),
    };
    // What came before a fault in the coding is still worth reading.
    if let Err(error) = read {
        tracing::debug!(%error, "an answer's coding is broken");
    }
    text.into()
}

/// One timer for the exchange's moving deadlines: it is reset only to come earlier, and looks again when it comes too early.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let due: tokio::time::Instant = due.into();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= due {
                // Spent: the next deadline arms it anew.
                self.sleep = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}
