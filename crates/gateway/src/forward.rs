//! The only loop that drives an exchange: does what `core` says, and tells it what happens. Never decides anything itself.
//!
//! There is no task and no channel between upstream and client: the client's connection polls the driver, and dropping it (the client hung
//! up) drops the upstreams' connections with it.

mod attempt;
mod report;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use hotspare_core::exchange::BodyKind;
use hotspare_core::{
    Action, Answer, AttemptId, AttemptKind, AttemptPlan, ClientKind, Commitment, Ending, Endpoint, Exchange, Failure, FailureKind,
    LocalAnswer, MidStream, Plan, Position, ProfileId, RequestFacts, Stage, Surroundings, Tokens,
};
use hotspare_upstream::headers::{beta_values, keep_betas};
use hotspare_upstream::{ClientCredential, Connected, Fingerprint, Outgoing, Received, clock};
use hotspare_wire::messages::{self, EarlyModel};
use hotspare_wire::mint::{self, Mark};
use hotspare_wire::stream::{self, Fact, StopReason, UsageSoFar};
use hotspare_wire::{failure, limits, resume};
use http::{Extensions, HeaderMap, HeaderValue, Method, Response, StatusCode, header, response};
use http_body::Frame;
use tokio::time::Sleep;
use xxhash_rust::xxh3::Xxh3;

use self::attempt::{Attempt, Doing, Happened, Outbox, Refused, Timer};
use self::report::Notes;
use crate::answer;
use crate::body::{ClientBody, CutShort};
use crate::headers::{self, Limits};
use crate::history::{Adaptation, Changed};
use crate::holdback::Wants;
use crate::record::{self, Event};
use crate::replay::{Broken, Replay};
use crate::server::{Gateway, InFlight, RequestBody};
use crate::snapshot::Snapshot;

/// Most bytes of an error body that are unpacked to be classified (security.md T16).
const UNPACKED_CAP: u64 = 8 * 1024 * 1024;

/// Most bytes of a whole JSON answer that are held until it is complete; a longer one is passed on as it comes.
const WHOLE_CAP: usize = 32 * 1024 * 1024;

/// Pause between the last bytes and a cut. A client may lose what it has not read yet when the connection dies at once (measured).
const CUT_PAUSE: Duration = Duration::from_millis(60);

/// A ping of ours goes out when the client has heard nothing for so long while something is withheld.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Longest name of a model that is told of, in characters.
const SERVED_CAP: usize = 80;

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

/// An upstream's refusal, kept in case it is the answer.
#[derive(Clone)]
pub(crate) struct Kept {
    profile: ProfileId,
    head: response::Parts,
    body: Bytes,
}

/// What only failures ask of a request's body: reading all of it costs too much for a good answer.
#[derive(Debug, Clone, Copy)]
struct Question {
    key: u64,
    streamed: bool,
}

/// Drives one exchange.
pub struct Driver {
    gateway: Arc<Gateway>,
    snapshot: Arc<Snapshot>,
    exchange: Exchange,
    request: Arc<ClientRequest>,
    id: u64,
    at_ms: u64,
    /// Under way: one, or two that race.
    attempts: Vec<Attempt>,
    kept: Vec<(AttemptId, Kept)>,
    notes: Notes,
    out: Outbox,
    last_out: Instant,
    /// What the client saw of an answer that broke, until another goes on with it.
    broken: Option<crate::holdback::Holdback>,
    /// What is known of the request's body, once a failure has asked for it.
    question: Option<Question>,
    /// What a profile refused before the request was changed for it, while the changed one is under way.
    before_repair: Option<Kept>,
    /// The client has a head: an upstream's or, where the answer is kept open, ours.
    has_head: bool,
    /// The length that the client was told: nobody asks for more once it has that.
    promised: Option<u64>,
    ending: Option<Ending>,
    pause: Option<Pin<Box<Sleep>>>,
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
    let snapshot = gateway.snapshot_for(&request.headers);
    if let Err(broken) = learn_facts(&snapshot, &mut facts, &request.body).await {
        return broken_body(broken);
    }
    let key = if gateway.with_world(|world| world.retries.remembers_requests()) {
        match request.body.whole().await {
            Ok(whole) => Some(request_key(&facts, &request.path_and_query, &whole)),
            Err(broken) => return broken_body(broken),
        }
    } else {
        None
    };
    gateway.look_at_clocks();
    let now = clock::now();
    let Some(plan) = plan(&gateway, &snapshot, &facts, key) else {
        return answer::error(StatusCode::FAILED_DEPENDENCY, "invalid_request_error", "hotspare: no chain matches this request");
    };
    if facts.endpoint == Endpoint::CountTokens && plan.candidates.is_empty() {
        // A client that is told so counts by itself; a number of ours would be a guess that nobody could tell from a count.
        return answer::error(StatusCode::NOT_FOUND, "not_found_error", "hotspare: no profile can count tokens now");
    }
    let id = gateway.next_id();
    gateway.tell(&Event::Arrived { id });
    // Known otherwise only when it matters: reading a large body costs more than all the rest.
    let streamed = plan.candidates.is_empty() && asks_for_a_stream(&request.body);
    let dice = gateway.outside().dice();
    let exchange = gateway.with_world(|world| {
        let mut at = Surroundings { world, request_key: key, streamed, dice };
        Exchange::new(now, facts, plan, snapshot.policy.clone(), &mut at)
    });
    let at_ms = gateway.outside().wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let driver = Driver {
        gateway,
        snapshot,
        exchange,
        request: Arc::new(request),
        id,
        at_ms: u64::try_from(at_ms).unwrap_or(u64::MAX),
        attempts: Vec::with_capacity(1),
        kept: Vec::new(),
        notes: Notes::default(),
        question: None,
        out: Outbox::default(),
        last_out: now,
        broken: None,
        before_repair: None,
        has_head: false,
        promised: None,
        ending: None,
        pause: None,
        timer: Timer::default(),
        recorded: false,
        _in_flight: in_flight,
    };
    driver.until_answer().await
}

fn plan(gateway: &Gateway, snapshot: &Snapshot, facts: &RequestFacts, key: Option<u64>) -> Option<Plan> {
    let chain = hotspare_core::route::chain_for(&snapshot.rules, facts)?;
    let fit = |entry: &_| snapshot.fit(entry, facts);
    Some(gateway.with_world(|world| hotspare_core::route::plan(clock::now(), facts, chain, &snapshot.policy, world, key, fit)))
}

/// Finds the model: from the first bytes, or from the whole body where routing needs it and it does not come first. Where races are on,
/// finds out whether this request may be raced.
async fn learn_facts(snapshot: &Snapshot, facts: &mut RequestFacts, body: &Replay) -> Result<(), Broken> {
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
    if snapshot.policy.hedge && facts.endpoint == Endpoint::Messages {
        facts.hedgeable = messages::peek(&body.whole().await?).is_some_and(|peek| peek.stream && !peek.acts);
    }
    Ok(())
}

fn asks_for_a_stream(body: &Replay) -> bool {
    body.whole_if_here().and_then(|whole| messages::peek(&whole)).is_some_and(|peek| peek.stream)
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
                Action::Wait(_) => std::future::poll_fn(|cx| driver.poll_progress(cx)).await,
                Action::Commit(id) => return driver.committed(id),
                Action::HoldOpen => return driver.kept_open(),
                Action::Answer(answer) => return driver.answer(&answer),
                action @ (Action::Start(_) | Action::Cancel(_) | Action::PlanAnew | Action::End(_)) => driver.act(action),
            }
        }
    }

    /// The next frame of a committed answer. Everything that has already come goes in one frame: the client's connection flushes after
    /// each frame it has to wait for.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        while self.ending.is_none() && self.out.waiting() < BATCH {
            match self.exchange.poll() {
                Action::Wait(_) => {
                    if self.poll_progress(cx).is_pending() {
                        break;
                    }
                }
                action => self.act(action),
            }
        }
        if let Some(bytes) = self.out.next(BATCH) {
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

    /// Does what the core says, where the client's connection has no part in it.
    fn act(&mut self, action: Action) {
        match action {
            Action::Start(plan) => self.start(&plan),
            Action::Cancel(id) => self.cancel(id),
            Action::PlanAnew => self.plan_anew(),
            Action::Commit(id) => self.go_on_with(id),
            Action::End(ending) => self.end(ending),
            // The client has a head already: neither can be told any more (invariant I1), and a cut is the honest end.
            Action::Answer(_) | Action::HoldOpen => self.end(Ending::Cut),
            Action::Wait(_) => {}
        }
    }

    fn start(&mut self, plan: &AttemptPlan) {
        let Some(target) = self.snapshot.target(plan.candidate.profile).cloned() else {
            // A plan is made from the same snapshot, so the profile is there.
            return self.failed(plan.id, Failure::new(FailureKind::NoCredential, Stage::Connect, "profile is gone"));
        };
        let wants = self.wants();
        let mut attempt = Attempt::new(plan, target, wants);
        if plan.kind == AttemptKind::Resume
            && let Some(broken) = self.broken.take()
        {
            attempt.take_over(broken);
        }
        if !plan.delay.is_zero() {
            attempt.doing = Doing::Pausing(Box::pin(tokio::time::sleep(plan.delay)), plan.clone());
        }
        self.attempts.push(attempt);
        if plan.delay.is_zero() {
            self.send(plan);
        }
    }

    /// What this client needs of a stream's holdback.
    fn wants(&self) -> Wants {
        let client = self.exchange.facts().client;
        let others = self.exchange.plan().candidates.len() > 1 && self.snapshot.policy.mid_stream == MidStream::Auto;
        Wants { whole_tool_calls: client.is_claude(), text: others && client != ClientKind::ClaudeInteractive }
    }

    fn send(&mut self, plan: &AttemptPlan) {
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.id == plan.id) else { return };
        self.gateway.tell(&Event::Asked { id: self.id, profile: attempt.target.name.clone(), kind: plan.kind });
        let target = attempt.target.clone();
        let gateway = self.gateway.clone();
        let request = self.request.clone();
        let read_answer = self.exchange.facts().endpoint != Endpoint::Other;
        let terms = plan.candidate.terms.clone();
        let fresh = plan.fresh_connection;
        let texts = attempt.splicer.as_ref().map(|_| attempt.hold.texts().unwrap_or_default().to_vec());
        if let Some(model) = &terms.model {
            self.notes.of(plan.id).changed.push(format!("model → {model}"));
        }
        let endpoint = self.exchange.facts().endpoint;
        let conversation = || self.conversation();
        let adaptation = self.gateway.histories().adaptation(endpoint, conversation, &target, terms.model.as_ref());
        if texts.is_some() {
            self.notes.of(plan.id).changed.push("asked for the rest of a broken answer".to_owned());
        }
        let refused = if plan.kind == AttemptKind::Retry && terms.rereadable { self.refused_credential(plan) } else { None };
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.id == plan.id) else { return };
        attempt.doing = Doing::Sending(Box::pin(async move {
            if let Some(refused) = refused
                && !target.credential.renew(refused).await
            {
                return Err(Failure::new(FailureKind::Unauthorized, Stage::Connect, "401, and there is no other credential"));
            }
            let (body, length, changed) = outgoing_body(&gateway, &request, adaptation.as_ref(), texts.as_deref()).await?;
            let mut headers = request.headers.clone();
            if let Some(adaptation) = adaptation.filter(Adaptation::changes_betas) {
                keep_betas(&mut headers, |beta| adaptation.keeps_beta(beta));
            }
            let outgoing = Outgoing {
                method: request.method.clone(),
                path_and_query: request.path_and_query.clone(),
                headers,
                extensions: request.extensions.clone(),
                client_credential: if terms.client_login { request.credential.clone() } else { ClientCredential::default() },
                body,
                length,
                read_answer,
            };
            let mut received = gateway.upstreams().send(&target, outgoing, &terms.clocks, fresh).await?;
            if !changed.is_empty() {
                received.extensions_mut().insert(Changed(changed.into()));
            }
            Ok(received)
        }));
    }

    /// What tells this conversation from others: the client's session, else how it began.
    fn conversation(&self) -> u64 {
        let began = || self.request.body.whole_if_here().and_then(|whole| hotspare_wire::history::opening(&whole));
        self.exchange.facts().session.or_else(began).unwrap_or(0)
    }

    /// The credential that the profile has just rejected.
    fn refused_credential(&self, plan: &AttemptPlan) -> Option<Fingerprint> {
        let (_, kept) = self.kept.iter().rev().find(|(_, kept)| kept.profile == plan.candidate.profile)?;
        kept.head.extensions.get().copied().filter(|_| kept.head.status == StatusCode::UNAUTHORIZED)
    }

    /// Notes who has answered in this conversation, and which thinking is theirs, once anyone but Anthropic may be asked.
    fn note_answer(&self, place: usize, marks: &[Mark]) {
        let Some(attempt) = self.attempts.get(place) else { return };
        if self.exchange.facts().endpoint == Endpoint::Messages && self.snapshot.has_foreign() {
            self.gateway.histories().answered(self.conversation(), &attempt.target, marks);
        }
    }

    /// Tells people when another model answers than was asked for. The answer stands: it is all there is.
    fn note_model(&mut self, id: AttemptId, served: &str) {
        let record = self.exchange.attempts().get(usize::from(id.0));
        let Some(asked) = record.and_then(|attempt| attempt.model.clone()).or_else(|| self.exchange.facts().model.clone()) else { return };
        if !hotspare_core::models::is_served_as_asked(&asked, served) {
            let served: String = served.chars().filter(char::is_ascii_graphic).take(SERVED_CAP).collect();
            tracing::warn!(id = %record::id_text(self.id), %asked, %served, "another model answered than was asked for");
            self.notes.of(id).changed.push(format!("{asked} was asked for, {served} answered"));
        }
    }

    /// Whether what this refusal minds can be changed, and was not changed before. Claude Code mends its own request where the profile is
    /// the first of its chain (measured), so there it gets the refusal instead.
    fn repairs(&mut self, place: usize, refusal: &Bytes) -> bool {
        let facts = self.exchange.facts();
        let attempt = &self.attempts[place];
        let profile = self.exchange.attempts()[usize::from(attempt.id.0)].profile;
        let heals_itself = facts.client.is_claude() && profile == self.exchange.plan().primary && attempt.target.platform.is_native();
        if heals_itself || facts.endpoint != Endpoint::Messages || self.request.body.whole_if_here().is_none() {
            return false;
        }
        let betas = beta_values(&self.request.headers);
        self.gateway.histories().repair(self.conversation(), &attempt.target, refusal, &betas)
    }

    fn cancel(&mut self, id: AttemptId) {
        self.attempts.retain(|attempt| attempt.id != id);
    }

    fn plan_anew(&mut self) {
        let key = self.question().map(|question| question.key);
        if let Some(plan) = plan(&self.gateway, &self.snapshot, self.exchange.facts(), key) {
            self.with_exchange(|exchange, at| exchange.on_plan(clock::now(), plan, at));
        }
    }

    /// Waits for the next thing to happen and tells the exchange.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for place in 0..self.attempts.len() {
            if self.judge_next_fact(place) {
                return Poll::Ready(());
            }
            if let Poll::Ready(happened) = self.attempts[place].poll(cx) {
                self.on_happened(place, happened);
                return Poll::Ready(());
            }
        }
        self.poll_timer(cx)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let keep_alive = self.keeps_alive().then(|| self.last_out + KEEP_ALIVE);
        let due = [self.exchange.poll_timeout(), keep_alive].into_iter().flatten().min();
        let Some(due) = due else { return Poll::Pending };
        ready!(self.timer.poll(cx, due));
        let now = clock::now();
        if keep_alive.is_some_and(|at| at <= now) {
            self.out.pieces.push_back(Bytes::from_static(stream::PING.as_bytes()));
            self.last_out = now;
            return Poll::Ready(());
        }
        if let Some(place) = self.attempts.iter().position(|attempt| matches!(attempt.doing, Doing::Refused(_))) {
            // The head said enough; the rest of the body does not come.
            self.finish_refusal(place);
            return Poll::Ready(());
        }
        let sent = self.request.body.last_passed();
        let position = self.position();
        let before = self.failures();
        self.with_exchange(|exchange, at| exchange.on_timer(now, sent, &position, at));
        self.after_failure(before);
        Poll::Ready(())
    }

    /// Whether the client hears nothing only because of us.
    fn keeps_alive(&self) -> bool {
        if !self.has_head || self.ending.is_some() {
            return false;
        }
        let silenced = |attempt: &Attempt| {
            let streams = matches!(attempt.doing, Doing::Stream(_));
            streams && (attempt.hold.is_withholding() || !attempt.hold.delivered().started)
        };
        let resuming = |attempt: &Attempt| attempt.splicer.is_some() && !self.exchange.is_flowing(attempt.id);
        let kept_open = self.exchange.commitment() != Commitment::Committed;
        kept_open || self.attempts.iter().any(|attempt| silenced(attempt) || resuming(attempt))
    }

    /// What the client has seen of a message.
    fn position(&self) -> Position {
        let flowing = self.attempts.iter().find(|attempt| self.exchange.is_flowing(attempt.id) || attempt.splicer.is_some());
        flowing.map(|attempt| *attempt.hold.delivered()).unwrap_or_default()
    }

    fn on_happened(&mut self, place: usize, happened: Happened) {
        match happened {
            Happened::Paused(plan) => self.send(&plan),
            Happened::Head(outcome) => self.on_head(place, outcome),
            Happened::RefusalRead => self.finish_refusal(place),
            Happened::Frame(frame) => match self.attempts[place].doing {
                Doing::Stream(_) => self.on_stream_frame(place, frame),
                Doing::Whole(..) => self.on_whole_frame(place, frame),
                Doing::Opaque(_) => self.on_opaque_frame(place, frame),
                Doing::Nothing | Doing::Pausing(..) | Doing::Sending(_) | Doing::Refused(_) => {}
            },
        }
    }

    fn on_head(&mut self, place: usize, outcome: Result<Received<RequestBody>, Failure>) {
        let id = self.attempts[place].id;
        let (head, body) = match outcome {
            Ok(response) => response.into_parts(),
            Err(failure) => return self.failed(id, failure),
        };
        let note = self.notes.of(id);
        note.status = Some(head.status.as_u16());
        note.connected = head.extensions.get::<Connected>().map(|connected| connected.0);
        note.changed.extend(head.extensions.get::<Changed>().map(|changed| changed.0.to_string()));
        let now = clock::now();
        if let Some(reading) = limits::reading(&head.headers, self.gateway.outside().wall()) {
            self.with_world(|exchange, at| exchange.on_limits(now, id, &reading, at));
        }
        if !head.status.is_success() {
            self.attempts[place].doing = Doing::Refused(Refused { head, body, read: BytesMut::new() });
            return;
        }
        let kind = body_kind(self.exchange.facts().endpoint, &head).filter(|kind| *kind == BodyKind::Stream || !self.has_head);
        let Some(kind) = kind else {
            let said = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no content type");
            let words = format!("{} with {}", head.status.as_u16(), said.split(';').next().unwrap_or_default());
            return self.failed(id, Failure::new(FailureKind::WrongContent, Stage::Head, words));
        };
        let attempt = &mut self.attempts[place];
        attempt.head = Some(head);
        attempt.doing = match kind {
            BodyKind::Stream => {
                self.notes.stream = true;
                Doing::Stream(body)
            }
            BodyKind::Whole => Doing::Whole(body, Vec::new(), 0),
            BodyKind::Opaque => Doing::Opaque(body),
        };
        self.with_world(|exchange, at| exchange.on_head(now, id, kind, at));
    }

    /// The refusal is as whole as it will be: it becomes a failure of its class, and is kept.
    fn finish_refusal(&mut self, place: usize) {
        let attempt = &mut self.attempts[place];
        let Doing::Refused(Refused { head, read, .. }) = std::mem::replace(&mut attempt.doing, Doing::Nothing) else { return };
        let id = attempt.id;
        let client_login = attempt.client_login;
        let body = read.freeze();
        let unpacked = unpacked(&head.headers, &body);
        let endpoint = self.exchange.facts().endpoint;
        let mut failure = failure::of_response(endpoint, head.status, &head.headers, &unpacked, self.gateway.outside().wall());
        let mut kept = Kept { profile: self.exchange.attempts()[usize::from(id.0)].profile, head, body };
        if let Some(first) = self.before_repair.take() {
            if matches!(failure.kind, FailureKind::ProviderBound | FailureKind::BadRequest) {
                // The change did not help: the client gets the words that its own request got.
                self.gateway.histories().repair_failed(self.conversation(), &self.attempts[place].target);
                kept = first;
            }
        } else if failure.kind == FailureKind::ProviderBound && self.repairs(place, &unpacked) {
            failure.repaired = true;
            self.before_repair = Some(kept.clone());
        }
        if client_login && matches!(failure.kind, FailureKind::QuotaExhausted | FailureKind::Unauthorized) {
            self.gateway.remember_refusal(kept.profile, self.exchange.facts().own_credential, &kept);
        }
        self.kept.push((id, kept));
        self.failed(id, failure);
    }

    fn on_stream_frame(&mut self, place: usize, frame: Option<Result<Bytes, ()>>) {
        let now = clock::now();
        let attempt = &mut self.attempts[place];
        let id = attempt.id;
        match frame {
            Some(Ok(data)) => {
                self.notes.of(id).bytes_down += data.len() as u64;
                self.exchange.on_bytes(now, id);
                attempt.receive(data);
                let marks = attempt.hold.take_marks();
                if !marks.is_empty() {
                    self.note_answer(place, &marks);
                }
                let attempt = &mut self.attempts[place];
                if attempt.splicer.as_ref().is_some_and(|splicer| splicer.splice.started_over()) {
                    return self.failed(id, Failure::new(FailureKind::Malformed, Stage::Held, "the rest began from the start"));
                }
                if attempt.hold.held() > hotspare_core::policy::HOLD_BYTES {
                    self.exchange.on_held_full(now, id);
                }
                if !self.judge_next_fact(place) {
                    self.release();
                }
            }
            Some(Err(())) => self.failed(id, Failure::new(FailureKind::StreamDied, Stage::Held, BROKE)),
            None => self.on_end(place),
        }
    }

    /// Tells the exchange of the next event that came, and releases what may go with it. False: there is none.
    fn judge_next_fact(&mut self, place: usize) -> bool {
        if self.ending.is_some() {
            return false;
        }
        let Some(attempt) = self.attempts.get_mut(place) else { return false };
        let id = attempt.id;
        let held = !self.exchange.is_flowing(id);
        let doomed = held && attempt.hold.error_is_coming();
        let Some(fact) = attempt.hold.next_fact() else { return false };
        match &fact {
            Fact::Error { kind, message } => self.on_error_event(place, kind, message),
            Fact::Malformed if held => self.failed(id, Failure::new(FailureKind::Malformed, Stage::Held, "what came is no event stream")),
            Fact::MessageDelta { stop: Some(reason) } => self.succeed(id, *reason == StopReason::ToolUse),
            fact if fact.is_success() => self.succeed(id, false),
            // An error that came along with the first content is still an error before the commit.
            fact if fact.is_content() && !doomed => self.exchange.on_content(clock::now(), id),
            _ => {}
        }
        self.release();
        true
    }

    fn on_error_event(&mut self, place: usize, kind: &str, message: &str) {
        let failure = failure::of_event(kind, message, Stage::Held);
        let attempt = &mut self.attempts[place];
        let id = attempt.id;
        let bound_to_request = matches!(failure.kind, FailureKind::BadRequest | FailureKind::TooLarge);
        if bound_to_request && !self.has_head && !self.exchange.is_flowing(id) {
            // The request's own fault, told inside a stream: the client gets the provider's words as they came.
            attempt.hold.lift_barrier();
            return self.exchange.on_held_full(clock::now(), id);
        }
        self.failed(id, failure);
    }

    fn on_whole_frame(&mut self, place: usize, frame: Option<Result<Bytes, ()>>) {
        let now = clock::now();
        let attempt = &mut self.attempts[place];
        let id = attempt.id;
        let Doing::Whole(_, pieces, size) = &mut attempt.doing else { return };
        match frame {
            Some(Ok(data)) => {
                self.notes.of(id).bytes_down += data.len() as u64;
                self.exchange.on_bytes(now, id);
                *size += data.len();
                pieces.push(data);
                if *size > WHOLE_CAP
                    && let Doing::Whole(body, pieces, _) = std::mem::replace(&mut attempt.doing, Doing::Nothing)
                {
                    self.out.pieces.extend(pieces);
                    attempt.doing = Doing::Opaque(body);
                    self.exchange.on_held_full(now, id);
                }
            }
            Some(Err(())) => self.failed(id, Failure::new(FailureKind::StreamDied, Stage::Held, BROKE)),
            None => {
                let pieces = std::mem::take(pieces);
                attempt.stop();
                self.judge_whole(place, pieces.concat().into());
            }
        }
    }

    /// A whole JSON answer is here: is it one?
    fn judge_whole(&mut self, place: usize, body: Bytes) {
        let attempt = &self.attempts[place];
        let id = attempt.id;
        let headers = attempt.head.as_ref().map(|head| head.headers.clone()).unwrap_or_default();
        let unpacked = unpacked(&headers, &body);
        let unreadable = unpacked.is_empty() && !body.is_empty();
        if !unreadable && let Some(failure) = self.fault_of_whole(&unpacked) {
            return self.failed(id, failure);
        }
        self.note_answer(place, &mint::marks_of_answer(&unpacked));
        if let Some(served) = stream::model_of_whole(&unpacked).filter(|served| !served.is_empty()) {
            self.note_model(id, &served);
        }
        self.notes.of(id).tokens = UsageSoFar::of_whole(&unpacked).tokens();
        let mid_turn = stream::stop_of_whole(&unpacked) == Some(StopReason::ToolUse);
        self.out.pieces.push_back(body);
        self.succeed(id, mid_turn);
        self.on_end(place);
    }

    fn fault_of_whole(&self, body: &[u8]) -> Option<Failure> {
        let wrong = |words: &str| Some(Failure::new(FailureKind::WrongContent, Stage::Head, words));
        if body.iter().all(u8::is_ascii_whitespace) {
            return wrong("200 with an empty body");
        }
        if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
            return wrong("200 with a body that is no JSON");
        }
        if let Some(failure) = failure::under_good_status(self.exchange.facts().endpoint, body, self.gateway.outside().wall()) {
            return Some(failure);
        }
        let streamed = self.exchange.facts().endpoint == Endpoint::Messages && asks_for_a_stream(&self.request.body);
        if streamed { wrong("200 with a whole answer where a stream was asked for") } else { None }
    }

    fn on_opaque_frame(&mut self, place: usize, frame: Option<Result<Bytes, ()>>) {
        let id = self.attempts[place].id;
        match frame {
            Some(Ok(data)) => {
                self.notes.of(id).bytes_down += data.len() as u64;
                self.exchange.on_bytes(clock::now(), id);
                self.out.pieces.push_back(data);
            }
            Some(Err(())) => self.failed(id, Failure::new(FailureKind::StreamDied, Stage::Committed, BROKE)),
            None => self.on_end(place),
        }
    }

    fn on_end(&mut self, place: usize) {
        let now = clock::now();
        let attempt = &mut self.attempts[place];
        attempt.stop();
        let id = attempt.id;
        if attempt.hold.gave_up() {
            // It grew past reading: nothing says that it is not whole.
            self.succeed(id, false);
        }
        let position = self.position();
        if self.exchange.is_whole(id) {
            return self.with_world(|exchange, at| exchange.on_end(now, id, &position, at));
        }
        let before = self.failures();
        self.with_exchange(|exchange, at| exchange.on_end(now, id, &position, at));
        self.after_failure(before);
    }

    fn failed(&mut self, id: AttemptId, mut failure: Failure) {
        if let Some(broken) = self.request.body.broken() {
            failure = Failure::new(FailureKind::CannotReplay, Stage::Send, broken.to_string());
        }
        if self.request.body.is_lost() {
            self.exchange.cannot_replay();
        }
        let position = self.position();
        let before = self.failures();
        self.retire(id);
        self.with_exchange(|exchange, at| exchange.on_failure(clock::now(), id, failure, &position, at));
        self.after_failure(before);
    }

    /// An attempt is over. What the client has of it is kept, in case another goes on with it.
    fn retire(&mut self, id: AttemptId) {
        let Some(place) = self.attempts.iter().position(|attempt| attempt.id == id) else { return };
        let attempt = self.attempts.remove(place);
        self.note_tokens(&attempt);
        if attempt.on_wire {
            self.broken = Some(attempt.hold);
        }
    }

    fn note_tokens(&mut self, attempt: &Attempt) {
        let tokens = attempt.splicer.as_ref().map_or_else(|| attempt.hold.usage().tokens(), |splicer| splicer.splice.usage().tokens());
        if tokens != Tokens::default() {
            self.notes.of(attempt.id).tokens = tokens;
        }
    }

    fn failures(&self) -> usize {
        self.exchange.attempts().iter().filter(|attempt| attempt.failure.is_some()).count()
    }

    /// Tells whoever watches of a failure that the exchange has just recorded, and lets the connection of its attempt go.
    fn after_failure(&mut self, before: usize) {
        if self.failures() == before {
            return;
        }
        let gone: Vec<AttemptId> = self.attempts.iter().map(|attempt| attempt.id).filter(|id| self.has_failed(*id)).collect();
        for id in gone {
            self.retire(id);
        }
        let last = self.exchange.attempts().iter().filter(|attempt| attempt.failure.is_some()).max_by_key(|attempt| attempt.ended);
        if let Some((record, failure)) = last.and_then(|record| record.failure.clone().map(|failure| (record, failure))) {
            let profile: Arc<str> = self.snapshot.name(record.profile).into();
            tracing::info!(id = %record::id_text(self.id), %profile, failure = %failure, "attempt failed");
            self.gateway.tell(&Event::Failed { id: self.id, profile, failure });
        }
    }

    fn has_failed(&self, id: AttemptId) -> bool {
        self.exchange.attempts().get(usize::from(id.0)).is_some_and(|attempt| attempt.failure.is_some())
    }

    /// With everything that a failure needs to know, the request's key among it.
    fn with_exchange(&mut self, act: impl FnOnce(&mut Exchange, &mut Surroundings<'_>)) {
        let question = self.question();
        let (request_key, streamed) = (question.map(|question| question.key), question.is_some_and(|question| question.streamed));
        let dice = self.gateway.outside().dice();
        let Self { gateway, exchange, .. } = self;
        gateway.with_world(|world| act(exchange, &mut Surroundings { world, request_key, streamed, dice }));
    }

    /// Reads the body once; none while it has not come, or for other requests than for messages.
    fn question(&mut self) -> Option<Question> {
        if self.question.is_none() && self.exchange.facts().endpoint == Endpoint::Messages {
            let whole = self.request.body.whole_if_here()?;
            let key = request_key(self.exchange.facts(), &self.request.path_and_query, &whole);
            let streamed = messages::peek(&whole).is_some_and(|peek| peek.stream);
            self.notes.stream |= streamed;
            self.question = Some(Question { key, streamed });
        }
        self.question
    }

    /// The same for good news, which need no key: a key costs a hash over the whole body.
    fn with_world(&mut self, act: impl FnOnce(&mut Exchange, &mut Surroundings<'_>)) {
        let dice = self.gateway.outside().dice();
        let Self { gateway, exchange, .. } = self;
        gateway.with_world(|world| act(exchange, &mut Surroundings { world, request_key: None, streamed: false, dice }));
    }

    /// The answer is whole in meaning.
    fn succeed(&mut self, id: AttemptId, mid_turn: bool) {
        self.with_world(|exchange, at| exchange.on_success(clock::now(), id, mid_turn, at));
    }

    fn committed(mut self: Box<Self>, id: AttemptId) -> Response<ClientBody> {
        self.go_on_with(id);
        let Some(place) = self.attempts.iter().position(|attempt| attempt.id == id) else {
            return answer::error(StatusCode::BAD_GATEWAY, "api_error", "hotspare: the answer is gone");
        };
        let Some(head) = self.attempts[place].head.take() else {
            return answer::error(StatusCode::BAD_GATEWAY, "api_error", "hotspare: the answer has no head");
        };
        let mut response = Response::new(ClientBody::full(Bytes::new()));
        *response.status_mut() = head.status;
        *response.headers_mut() = self.client_headers(id, &head.headers);
        *response.extensions_mut() = head.extensions;
        self.promised = self.known_length(place, &head.headers);
        if let Some(length) = self.promised {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        self.notes.status = Some(head.status.as_u16());
        *response.body_mut() = ClientBody::Driven(self);
        response
    }

    /// From here on the client gets this attempt's answer.
    fn go_on_with(&mut self, id: AttemptId) {
        self.has_head = true;
        if let Some(place) = self.attempts.iter().position(|attempt| attempt.id == id) {
            self.note_answer(place, &[]);
            if let Some(served) = self.attempts[place].hold.served().map(str::to_owned) {
                self.note_model(id, &served);
            }
        }
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.id == id) {
            attempt.on_wire = true;
            self.gateway.tell(&Event::Committed { id: self.id, profile: attempt.target.name.clone() });
        }
        self.release();
    }

    /// No profile can answer now, and the client is to wait within its answer.
    fn kept_open(mut self: Box<Self>) -> Response<ClientBody> {
        self.has_head = true;
        self.notes.status = Some(200);
        self.out.pieces.push_back(Bytes::from_static(stream::PING.as_bytes()));
        let mut response = Response::new(ClientBody::full(Bytes::new()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers::mark(response.headers_mut(), "", self.exchange.attempts().len(), &record::id_text(self.id));
        *response.body_mut() = ClientBody::Driven(self);
        response
    }

    /// The length of what the client will get, where nothing can change it any more.
    fn known_length(&self, place: usize, upstream: &HeaderMap) -> Option<u64> {
        match &self.attempts[place].doing {
            Doing::Nothing => Some(self.out.waiting() as u64),
            Doing::Opaque(_) => upstream.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok(),
            Doing::Pausing(..) | Doing::Sending(_) | Doing::Refused(_) | Doing::Stream(_) | Doing::Whole(..) => None,
        }
    }

    fn client_headers(&mut self, id: AttemptId, upstream: &HeaderMap) -> HeaderMap {
        let record = &self.exchange.attempts()[usize::from(id.0)];
        let (profile, primary) = (record.profile, self.exchange.plan().primary);
        let client_login = self.snapshot.target(profile).is_some_and(|target| target.credential.is_client());
        let limits = if profile == primary || client_login { Limits::Own } else { Limits::Foreign };
        let mut headers = headers::for_client(upstream, limits);
        if headers::says_rejected(&headers) {
            // Paid overage: the client would stop at this word although others can serve (manaflow-ai/subrouter#26).
            let mut hides = false;
            self.with_world(|exchange, at| hides = exchange.hides_limits(clock::now(), id, at));
            if hides {
                headers = headers::for_client(upstream, Limits::Foreign);
            }
        }
        headers::mark(&mut headers, self.snapshot.name(profile), self.exchange.attempts().len(), &record::id_text(self.id));
        headers
    }

    fn answer(mut self: Box<Self>, answer: &Answer) -> Response<ClientBody> {
        let response = match answer {
            Answer::Relay { attempt, retry_after, final_word } => self.relay(*attempt, *retry_after, *final_word),
            Answer::Remembered { profile, instead } => self.remembered(*profile, *instead),
            Answer::Local(shape) => self.explain(*shape),
        };
        self.notes.status = Some(response.status().as_u16());
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
        let last = self.exchange.attempts().last().map_or("", |attempt| self.snapshot.name(attempt.profile));
        headers::mark(response.headers_mut(), last, self.exchange.attempts().len(), &record::id_text(self.id));
        response
    }

    fn relay(&mut self, attempt: AttemptId, retry_after: Option<u32>, final_word: bool) -> Response<ClientBody> {
        let Some(at) = self.kept.iter().position(|(kept, _)| *kept == attempt) else {
            return self.explain(LocalAnswer { status: 502, error_type: "api_error", retry_after: Some(retry_after.unwrap_or(1)) });
        };
        let (id, kept) = self.kept.swap_remove(at);
        let headers = self.client_headers(id, &kept.head.headers);
        let mut response = answer_of(kept, headers);
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if final_word {
            response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }

    fn remembered(&mut self, profile: ProfileId, instead: LocalAnswer) -> Response<ClientBody> {
        let Some(kept) = self.gateway.remembered_refusal(profile, self.exchange.facts().own_credential) else {
            return self.explain(instead);
        };
        let mut headers = headers::for_client(&kept.head.headers, Limits::Own);
        headers::mark(&mut headers, self.snapshot.name(kept.profile), self.exchange.attempts().len(), &record::id_text(self.id));
        answer_of(kept, headers)
    }

    /// Lets go on what may go on.
    fn release(&mut self) {
        for attempt in &mut self.attempts {
            if self.exchange.is_flowing(attempt.id) {
                attempt.hold.release(&mut self.out.pieces);
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        let complete = ending == Ending::Complete;
        if complete && let Some(hold) = &mut self.broken {
            // It broke when all that counts had come.
            hold.release_all(&mut self.out.pieces);
        }
        for mut attempt in std::mem::take(&mut self.attempts) {
            self.note_tokens(&attempt);
            if complete {
                attempt.hold.release_all(&mut self.out.pieces);
            }
        }
        if ending == Ending::HandBack
            && let Some(hold) = &self.broken
        {
            self.out.pieces.push_back(stream::hand_back(hold.delivered(), hold.usage()).into());
        }
        if !complete {
            self.gateway.tell(&Event::Ending { id: self.id, ending });
        }
        self.ending = Some(ending);
    }

    /// Writes the exchange's one record.
    fn record(&mut self) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        for attempt in std::mem::take(&mut self.attempts) {
            self.note_tokens(&attempt);
        }
        self.notes.response_bytes = self.out.sent;
        self.notes.request_bytes = self.request.body.received();
        for note in &mut self.notes.attempts {
            note.bytes_up = self.notes.request_bytes;
        }
        let took = clock::since(self.exchange.started());
        let headers = &self.request.headers;
        if let Some(record) = report::record(self.id, self.at_ms, took, &self.exchange, &self.snapshot, headers, &self.notes) {
            self.gateway.over(Arc::new(record));
        }
    }
}

const BROKE: &str = "connection broke before the answer was complete";

impl Drop for Driver {
    fn drop(&mut self) {
        let (now, position) = (clock::now(), self.position());
        let whole = self.promised == Some(self.out.sent);
        match self.attempts.first().map(|attempt| attempt.id).filter(|_| whole) {
            _ if self.exchange.outcome().is_some() => {}
            Some(id) => self.with_world(|exchange, at| exchange.on_end(now, id, &position, at)),
            None => self.with_world(|exchange, at| exchange.on_client_gone(now, at)),
        }
        self.record();
    }
}

fn answer_of(kept: Kept, headers: HeaderMap) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(kept.body));
    *response.status_mut() = kept.head.status;
    *response.headers_mut() = headers;
    *response.extensions_mut() = kept.head.extensions;
    response
}

/// The request's body as it goes to one profile, its length where it is known, and what was changed in it for people.
async fn outgoing_body(
    gateway: &Gateway,
    request: &ClientRequest,
    adaptation: Option<&Adaptation>,
    texts: Option<&[String]>,
) -> Result<(RequestBody, Option<u64>, String), Failure> {
    if adaptation.is_none() && texts.is_none() {
        return Ok((RequestBody::Kept(request.body.reader()), request.length, String::new()));
    }
    let broken = |broken: Broken| Failure::new(FailureKind::CannotReplay, Stage::Connect, broken.to_string());
    let mut whole = request.body.whole().await.map_err(broken)?;
    if let Some(texts) = texts {
        let parts = resume::request(&whole, texts)
            .ok_or_else(|| Failure::new(FailureKind::CannotReplay, Stage::Connect, "nothing can be put behind this request"))?;
        whole = parts.concat().into();
    }
    let (parts, changed) = match adaptation {
        Some(adaptation) => gateway.histories().adapt(&whole, adaptation)?,
        None => (vec![whole], String::new()),
    };
    let length = parts.iter().map(|part| part.len() as u64).sum();
    Ok((RequestBody::Parts(parts.into()), Some(length), changed))
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
