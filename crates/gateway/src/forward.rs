//! The only loop that drives an exchange: does what `core` says, and tells it what happens. Never decides anything itself.
//!
//! There is no task and no channel between upstream and client: the client's connection polls the driver, and dropping it (the client hung
//! up) drops the upstreams' connections with it. What goes up is in `sending`, what comes down in `reading`, and what the client gets when
//! that is not a stream in `answering`.

mod answering;
mod attempt;
mod fitting;
mod moments;
mod reading;
mod report;
mod sending;
mod settling;
mod transcript;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use hotspare_core::{
    Action, AttemptId, Commitment, Ending, Endpoint, Exchange, Failure, FailureKind, Plan, Position, ProfileId, RequestFacts, Stage,
    Surroundings, Tokens,
};
use hotspare_upstream::ClientCredential;
use hotspare_upstream::clock::{self, Deadline};
use hotspare_wire::messages::{self, EarlyModel};
use hotspare_wire::{side_traffic, stream};
use http::{Extensions, HeaderMap, Method, Response, StatusCode, response};
use http_body::Frame;
use tokio::time::Sleep;
use xxhash_rust::xxh3::Xxh3;

use self::answering::broken_body;
use self::attempt::{Attempt, Doing, Outbox};
use self::moments::Consulting;
use self::report::Notes;
use self::sending::MAX_MENDED;
use crate::answer;
use crate::body::{ClientBody, CutShort};
use crate::in_flight::Listed;
use crate::record::{self, Event};
use crate::replay::{Broken, Replay};
use crate::server::{Gateway, InFlight};
use crate::session_folder;
use crate::snapshot::Snapshot;

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
    /// True if the body is a Messages request, or one that counts its tokens.
    pub is_messages: bool,
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
    broken: Option<Box<crate::holdback::Holdback>>,
    /// What is known of the request's body, once a failure has asked for it.
    question: Option<Question>,
    /// Whether the client asked for a stream, once its body has told.
    asks_stream: OnceLock<bool>,
    /// What a profile refused before the request was changed for it, while the changed one is under way.
    before_repair: Option<Box<Kept>>,
    /// The client has a head: an upstream's or, where the answer is kept open, ours.
    has_head: bool,
    /// The length that the client was told: nobody asks for more once it has that.
    promised: Option<u64>,
    ending: Option<Ending>,
    /// The user's hooks are asked.
    consulting: Option<Consulting>,
    pause: Option<Pin<Box<Sleep>>>,
    timer: Deadline,
    recorded: bool,
    /// Lists the request while it has no answer; `None` in a drill.
    listed: Option<Listed>,
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
    match is_side_traffic(&facts, &request.body).await {
        Ok(side) => facts.side = side,
        Err(broken) => return broken_body(broken),
    }
    let key = if gateway.with_world(|world| world.retries.remembers_requests()) {
        match request.body.text().await {
            Ok(text) => text.or_else(|| request.body.whole_if_here()).map(|text| request_key(&facts, &request.path_and_query, &text)),
            Err(broken) => return broken_body(broken),
        }
    } else {
        None
    };
    gateway.look_at_clocks();
    gateway.look_at_calendar(&snapshot);
    gateway.look_at_credential_files(clock::now(), &snapshot);
    if facts.own_credential.is_some() {
        gateway.note_login(facts.on_plan);
    }
    let now = clock::now();
    gateway.note_client(now, &facts);
    let Some(plan) = plan(&gateway, &snapshot, &facts, key) else {
        gateway.note_limited(&snapshot, &facts, gateway.next_id(), true);
        return answer::error(StatusCode::FAILED_DEPENDENCY, "invalid_request_error", &session_folder::refusal(&snapshot));
    };
    if let Err(broken) = fitting::look_first(&plan, &mut facts, &request.body).await {
        return broken_body(broken);
    }
    if facts.endpoint == Endpoint::CountTokens && plan.candidates.is_empty() {
        // A client that is told so counts by itself; a number of ours would be a guess that nobody could tell from a count.
        return answer::error(StatusCode::NOT_FOUND, "not_found_error", "hotspare: no profile can count tokens now");
    }
    let notes = Notes::of_request(&request.headers);
    let id = gateway.next_id();
    gateway.tell(&Event::Arrived { id });
    gateway.note_limited(&snapshot, &facts, id, false);
    // Known otherwise only when it matters: reading a large body costs more than all the rest.
    let streamed = plan.candidates.is_empty() && asks_for_a_stream(&request.body);
    let dice = gateway.outside().dice();
    let exchange = gateway.with_world(|world| {
        let mut at = Surroundings { world, request_key: key, streamed, dice };
        Exchange::new(now, facts, plan, snapshot.policy.clone(), &mut at)
    });
    let at_ms = gateway.outside().wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let listed = (!gateway.is_shadow()).then(|| Listed::new(gateway.clone(), id));
    let driver = Driver {
        gateway,
        snapshot,
        exchange,
        request: Arc::new(request),
        id,
        at_ms: u64::try_from(at_ms).unwrap_or(u64::MAX),
        attempts: Vec::with_capacity(1),
        kept: Vec::new(),
        notes,
        question: None,
        asks_stream: OnceLock::new(),
        out: Outbox::default(),
        last_out: now,
        broken: None,
        before_repair: None,
        has_head: false,
        promised: None,
        ending: None,
        consulting: None,
        pause: None,
        timer: Deadline::default(),
        recorded: false,
        listed,
        _in_flight: in_flight,
    };
    driver.until_answer().await
}

fn plan(gateway: &Gateway, snapshot: &Snapshot, facts: &RequestFacts, key: Option<u64>) -> Option<Plan> {
    let chain = snapshot.chain_for(facts)?;
    let fit = |entry: &_| snapshot.fit(entry, facts);
    Some(gateway.with_world(|world| hotspare_core::route::plan(clock::now(), facts, &chain, &snapshot.policy, world, key, fit)))
}

/// Finds the model: from the first bytes, or from the whole body where routing needs it and it does not come first. Where races are on,
/// finds out whether this request may be raced.
async fn learn_facts(snapshot: &Snapshot, facts: &mut RequestFacts, body: &Replay) -> Result<(), Broken> {
    if !matches!(facts.endpoint, Endpoint::Messages | Endpoint::CountTokens) {
        return Ok(());
    }
    let first = if body.is_encoded() {
        let text = body.text().await?;
        facts.length = text.as_ref().map(|text| text.len() as u64);
        text.unwrap_or_default()
    } else {
        body.first_chunk().await?
    };
    facts.model = match messages::early_model(&first) {
        EarlyModel::Named(model) => Some(model.into()),
        EarlyModel::NotYet if snapshot.routes_by_model() => model_of(body.text().await?),
        EarlyModel::NotYet => model_of(body.text_if_here()),
    };
    if snapshot.policy.hedge && facts.endpoint == Endpoint::Messages {
        let peek = body.text().await?.and_then(|text| messages::peek(&text));
        facts.hedgeable = peek.is_some_and(|peek| peek.stream && !peek.acts);
    }
    // What is invalid by form is mended before the first profile is tried. The wait is short (the client is on this machine), and no clock
    // of an attempt runs yet.
    if facts.length.is_some_and(|length| length <= MAX_MENDED && body.has_room(length)) {
        body.arrived().await?;
    }
    Ok(())
}

fn model_of(text: Option<Bytes>) -> Option<Arc<str>> {
    text.and_then(|text| messages::peek(&text)).and_then(|peek| peek.model).map(Into::into)
}

/// Whether the request stands beside the conversation of its session. Turns are larger than what is looked at.
async fn is_side_traffic(facts: &RequestFacts, body: &Replay) -> Result<bool, Broken> {
    let may_be = facts.client.is_claude() && facts.endpoint == Endpoint::Messages;
    if !may_be || facts.length.is_none_or(|length| length > side_traffic::MAX_SIDE_BYTES as u64) {
        return Ok(false);
    }
    Ok(body.text().await?.is_some_and(|text| side_traffic::is_side_traffic(&text)))
}

fn asks_for_a_stream(body: &Replay) -> bool {
    body.text_if_here().and_then(|text| messages::peek(&text)).is_some_and(|peek| peek.stream)
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

impl Driver {
    /// Runs until there is something to answer with.
    async fn until_answer(self) -> Response<ClientBody> {
        let mut driver = Box::new(self);
        loop {
            match driver.exchange.poll() {
                Action::Wait(_) => {
                    driver.list();
                    std::future::poll_fn(|cx| driver.poll_progress(cx)).await;
                }
                Action::Commit(id) => return driver.committed(id),
                Action::HoldOpen => return driver.kept_open(),
                Action::Answer(answer) => return driver.answer(&answer),
                action @ (Action::Start(_) | Action::Cancel(_) | Action::PlanAnew | Action::Consult(_) | Action::End(_)) => {
                    driver.act(action);
                }
            }
        }
    }

    /// Lists the request as one that has no answer yet.
    fn list(&self) {
        if let Some(listed) = &self.listed {
            listed.note(&self.exchange, &self.snapshot, self.notes.session.as_deref());
        }
    }

    /// The next frame of a committed answer. Everything that has already come goes in one frame: the client's connection flushes after
    /// each frame it has to wait for.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        while self.ending.is_none() && self.out.waiting() < BATCH {
            if self.exchange.has_action() {
                let action = self.exchange.poll();
                self.act(action);
            } else if self.poll_progress(cx).is_pending() {
                break;
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
            Action::Consult(asked) => self.consult(&asked),
            Action::Commit(id) => self.go_on_with(id),
            Action::End(ending) => self.end(ending),
            // The client has a head already: neither can be told any more (invariant I1), and a cut is the honest end.
            Action::Answer(_) | Action::HoldOpen => self.end(Ending::Cut),
            Action::Wait(_) => {}
        }
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
        if self.poll_word(cx).is_ready() {
            return Poll::Ready(());
        }
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
            self.out.push(Bytes::from_static(stream::PING.as_bytes()));
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
        if !self.exchange.is_consulting() {
            // Nobody waits for the word any more.
            self.consulting = None;
        }
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
        kept_open || self.consulting.is_some() || self.attempts.iter().any(|attempt| silenced(attempt) || resuming(attempt))
    }

    /// What the client has seen of a message.
    fn position(&self) -> Position {
        let flowing = self.attempts.iter().find(|attempt| self.exchange.is_flowing(attempt.id) || attempt.splicer.is_some());
        flowing.map(|attempt| *attempt.hold.delivered()).unwrap_or_default()
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
            self.broken = Some(Box::new(attempt.hold));
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
            self.gateway.tell(&Event::Failed { id: self.id, profile, model: self.other_model(record), failure });
        }
        self.tell_of_failures(before);
    }

    fn has_failed(&self, id: AttemptId) -> bool {
        self.exchange.attempts().get(usize::from(id.0)).is_some_and(|attempt| attempt.failure.is_some())
    }

    /// With everything that a failure needs to know, the request's key among it.
    fn with_exchange(&mut self, act: impl FnOnce(&mut Exchange, &mut Surroundings<'_>)) {
        let question = self.question();
        self.find_needs();
        let (request_key, streamed) = (question.map(|question| question.key), question.is_some_and(|question| question.streamed));
        let dice = self.gateway.outside().dice();
        let Self { gateway, exchange, .. } = self;
        gateway.with_world(|world| act(exchange, &mut Surroundings { world, request_key, streamed, dice }));
    }

    /// Reads the body once; none while it has not come, or for other requests than for messages.
    fn question(&mut self) -> Option<Question> {
        if self.question.is_none() && self.exchange.facts().endpoint == Endpoint::Messages {
            let whole = self.request.body.text_if_here().or_else(|| self.request.body.whole_if_here())?;
            let key = request_key(self.exchange.facts(), &self.request.path_and_query, &whole);
            let streamed = messages::peek(&whole).is_some_and(|peek| peek.stream);
            self.notes.stream |= streamed;
            self.question = Some(Question { key, streamed });
        }
        self.question
    }

    /// The same for good news, which compute no key: that costs a hash over the whole body.
    fn with_world(&mut self, act: impl FnOnce(&mut Exchange, &mut Surroundings<'_>)) {
        let dice = self.gateway.outside().dice();
        let Self { gateway, exchange, question, .. } = self;
        let request_key = question.map(|question| question.key);
        gateway.with_world(|world| act(exchange, &mut Surroundings { world, request_key, streamed: false, dice }));
    }

    /// The answer is whole in meaning.
    fn succeed(&mut self, id: AttemptId, mid_turn: bool) {
        self.with_world(|exchange, at| exchange.on_success(clock::now(), id, mid_turn, at));
    }

    /// Lets go on what may go on.
    fn release(&mut self) {
        for attempt in &mut self.attempts {
            if self.exchange.is_flowing(attempt.id) {
                attempt.hold.release(&mut self.out);
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        let complete = ending == Ending::Complete;
        if complete && let Some(hold) = &mut self.broken {
            // It broke when all that counts had come.
            hold.release_all(&mut self.out);
        }
        for mut attempt in std::mem::take(&mut self.attempts) {
            self.note_tokens(&attempt);
            if complete {
                attempt.hold.release_all(&mut self.out);
            }
        }
        if ending == Ending::HandBack
            && let Some(hold) = &self.broken
        {
            self.out.push(stream::hand_back(hold.delivered(), hold.usage()).into());
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
        self.notes.drill = self.gateway.drill_mark();
        self.notes.request_bytes = self.request.body.received();
        for note in &mut self.notes.attempts {
            note.bytes_up = self.notes.request_bytes;
        }
        let took = clock::since(self.exchange.started());
        if let Some(mut record) = report::record(self.id, self.at_ms, took, &self.exchange, &self.snapshot, &self.notes) {
            self.gateway.forgive_played(&mut record);
            let record = Arc::new(record);
            self.settle(&record);
            self.gateway.over(record.clone());
            self.tell_of_the_end(&record);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let (now, position) = (clock::now(), self.position());
        let whole = self.promised == Some(self.out.sent);
        match self.attempts.first().map(|attempt| attempt.id).filter(|_| whole) {
            _ if self.exchange.outcome().is_some() => {}
            Some(id) => self.with_world(|exchange, at| exchange.on_end(now, id, &position, at)),
            None => self.with_exchange(|exchange, at| exchange.on_client_gone(now, at)),
        }
        self.record();
    }
}
