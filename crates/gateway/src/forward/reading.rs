//! Reads what an attempt brings, event by event, and tells the exchange. Never decides what follows.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hotspare_core::attempt::AttemptRecord;
use hotspare_core::exchange::BodyKind;
use hotspare_core::{AttemptId, Endpoint, Failure, FailureKind, NextStep, Stage};
use hotspare_upstream::headers::beta_values;
use hotspare_upstream::{Connected, LoginRenewed, Received, UpstreamBody, clock};
use hotspare_wire::mint::Mark;
use hotspare_wire::sniff::{self, Form};
use hotspare_wire::stream::{self, Empty, Fact, StopReason, WholeMessage};
use hotspare_wire::{failure, limits, messages, mint};
use http::{HeaderMap, StatusCode, header, response};

use super::attempt::{Doing, Happened, Refused};
use super::sending::MAX_MENDED;
use super::{Driver, Kept};
use crate::coding::Unpacker;
use crate::history::Changed;
use crate::holdback::{Holdback, Wants};
use crate::record;
use crate::replay::RequestBody;

/// Most bytes of an error body that are unpacked to be classified (security.md T16).
const UNPACKED_CAP: u64 = 8 * 1024 * 1024;

/// Most bytes of a whole JSON answer that are held until it is complete; a longer one is passed on as it comes.
const WHOLE_CAP: usize = 32 * 1024 * 1024;

/// Longest name of a model that is told of, in characters.
const SERVED_CAP: usize = 80;

const BROKE: &str = "connection broke before the answer was complete";

const EMPTY: &str = "an answer without content";

impl Driver {
    /// Notes who has answered in this conversation, and which thinking is theirs, once anyone but Anthropic may be asked.
    pub(super) fn note_answer(&self, place: usize, marks: &[Mark]) {
        let Some(attempt) = self.attempts.get(place) else { return };
        if self.exchange.facts().endpoint == Endpoint::Messages && self.snapshot.has_foreign() {
            self.gateway.histories().answered(self.conversation(), &attempt.target, marks);
        }
    }

    /// What an attempt asks for, where that is another model than the client's own.
    pub(super) fn other_model(&self, attempt: &AttemptRecord) -> Option<Arc<str>> {
        let sent = attempt.model.clone()?;
        let asked = self.exchange.facts().model.as_deref()?;
        (!hotspare_core::models::is_served_as_asked(asked, &sent)).then_some(sent)
    }

    /// Tells people when another model answers than was asked for. The answer stands: it is all there is.
    pub(super) fn note_model(&mut self, id: AttemptId, served: &str) {
        let record = self.exchange.attempts().get(usize::from(id.0));
        let Some(asked) = record.and_then(|attempt| attempt.model.clone()).or_else(|| self.exchange.facts().model.clone()) else { return };
        if !hotspare_core::models::is_served_as_asked(&asked, served) {
            let served: String = served.chars().filter(char::is_ascii_graphic).take(SERVED_CAP).collect();
            if self.gateway.histories().is_news(&asked, &served) {
                tracing::warn!(id = %record::id_text(self.id), %asked, %served, "another model answered than was asked for");
            }
            self.notes.of(id).changed.push(format!("{asked} was asked for, {served} answered"));
        }
    }

    /// Whether what this refusal minds can be changed, and was not changed before. Claude Code mends its own request where the profile is
    /// the first of its chain (measured), so there it gets the refusal instead.
    pub(super) fn repairs(&mut self, place: usize, refusal: &Bytes) -> bool {
        let facts = self.exchange.facts();
        let attempt = &self.attempts[place];
        let profile = self.exchange.attempts()[usize::from(attempt.id.0)].profile;
        let heals_itself = facts.client.is_claude() && profile == self.exchange.plan().primary && attempt.target.platform.is_native();
        if heals_itself || facts.endpoint != Endpoint::Messages || self.request.body.text_if_here().is_none() {
            return false;
        }
        let betas = beta_values(&self.request.headers);
        self.gateway.histories().repair(self.conversation(), &attempt.target, refusal, &betas)
    }

    /// Whether a refusal of the request may be one that only this profile has. The words decide which change could help.
    fn may_be_repaired(&self, place: usize, failure: &Failure) -> bool {
        let is_foreign = !self.attempts[place].target.platform.is_native();
        failure.kind == FailureKind::ProviderBound || is_foreign && failure.kind.is_refusal()
    }

    pub(super) fn on_happened(&mut self, place: usize, happened: Happened) {
        match happened {
            Happened::Paused(plan) => self.send(&plan),
            Happened::Head(outcome) => self.on_head(place, outcome),
            Happened::RefusalRead => self.finish_refusal(place),
            Happened::Frame(frame) => match self.attempts[place].doing {
                Doing::First(..) => self.on_first_frame(place, frame),
                Doing::Stream(_) => self.on_stream_frame(place, frame),
                Doing::Whole(..) => self.on_whole_frame(place, frame),
                Doing::Opaque(_) => self.on_opaque_frame(place, frame),
                Doing::Nothing | Doing::Pausing(..) | Doing::Sending(_) | Doing::Refused(_) => {}
            },
        }
    }

    pub(super) fn on_head(&mut self, place: usize, outcome: Result<Received<RequestBody>, Failure>) {
        let id = self.attempts[place].id;
        let (head, body) = match outcome {
            Ok(response) => response.into_parts(),
            Err(failure) => return self.failed(id, failure),
        };
        let note = self.notes.of(id);
        note.status = Some(head.status.as_u16());
        note.connected = head.extensions.get::<Connected>().map(|connected| connected.0);
        note.changed.extend(head.extensions.get::<Changed>().map(|changed| changed.0.to_string()));
        note.changed.extend(head.extensions.get::<LoginRenewed>().map(|_| "login renewed by Claude Code".to_owned()));
        let now = clock::now();
        if let Some(reading) = limits::reading(&head.headers, self.gateway.outside().wall()) {
            let before = self.windows_near(id);
            self.with_world(|exchange, at| exchange.on_limits(now, id, &reading, at));
            self.tell_of_limits(id, before.as_deref());
        }
        if !is_good(self.exchange.facts().endpoint, head.status) {
            self.attempts[place].doing = Doing::Refused(Box::new(Refused::new(head, body)));
            return;
        }
        let endpoint = self.exchange.facts().endpoint;
        let kind = announced(endpoint, &head, || self.wants_stream());
        let attempt = &mut self.attempts[place];
        attempt.head = Some(head);
        attempt.doing = if endpoint == Endpoint::Other { Doing::Opaque(body) } else { Doing::First(body, Vec::new()) };
        self.with_world(|exchange, at| exchange.on_head(now, id, kind, at));
    }

    /// Whether the client asked for a stream; `None` while its request has not come, cannot be read, or is too large to be joined for it.
    /// The body is read for it once.
    fn wants_stream(&self) -> Option<bool> {
        once(&self.asks_stream, || self.read_wants_stream())
    }

    fn read_wants_stream(&self) -> Option<bool> {
        if self.exchange.facts().endpoint != Endpoint::Messages {
            return Some(false);
        }
        if self.request.body.received() > MAX_MENDED {
            return None;
        }
        messages::wants_stream(&self.request.body.text_if_here()?)
    }

    fn on_first_frame(&mut self, place: usize, frame: Option<Result<Bytes, ()>>) {
        let attempt = &mut self.attempts[place];
        let id = attempt.id;
        let Doing::First(_, pieces) = &mut attempt.doing else { return };
        match frame {
            Some(Ok(data)) => {
                self.notes.of(id).bytes_down += data.len() as u64;
                self.exchange.on_bytes(clock::now(), id);
                pieces.push(data);
                self.recognise(place);
            }
            Some(Err(())) => self.failed(id, Failure::new(FailureKind::StreamDied, Stage::Held, BROKE)),
            None => {
                let body = pieces.concat().into();
                attempt.stop();
                self.judge_whole(place, body);
            }
        }
    }

    /// Finds out what the body is, once enough of it has come.
    fn recognise(&mut self, place: usize) {
        let attempt = &self.attempts[place];
        let (Doing::First(_, pieces), Some(head)) = (&attempt.doing, &attempt.head) else { return };
        let first = joined(pieces);
        if let Some(coding) = limits::content_coding(&head.headers) {
            return match sniff::fits_coding(coding, &first) {
                None => {}
                Some(true) if is_labelled_stream(head) => match Unpacker::of(coding).filter(|_| self.is_made_valid(place)) {
                    Some(unpacker) => {
                        self.attempts[place].unpacker = Some(Box::new(unpacker));
                        self.drop_coding(place);
                        self.begin_stream(place);
                    }
                    None => self.begin_opaque(place),
                },
                Some(true) => self.begin_whole(place),
                Some(false) => {
                    let words = format!("{} labelled {coding} that is not", head.status.as_u16());
                    self.not_an_answer(place, Failure::new(FailureKind::WrongContent, Stage::Held, words));
                }
            };
        }
        let Some(form) = sniff::form(&first) else { return };
        let wrong = |what: &str| Failure::new(FailureKind::WrongContent, Stage::Held, format!("{} with {what}", head.status.as_u16()));
        match (form, self.wants_stream()) {
            (Form::Markup, _) => self.not_an_answer(place, wrong("a web page")),
            (Form::Events, Some(false)) => self.not_an_answer(place, wrong("an event stream where a whole answer was asked for")),
            (Form::Json, _) | (Form::Other, Some(false)) => self.begin_whole(place),
            (Form::Other, None) if !is_labelled_stream(head) => self.begin_whole(place),
            (Form::Events | Form::Other, _) => self.begin_stream(place),
        }
    }

    fn begin_stream(&mut self, place: usize) {
        let Some((body, pieces)) = self.take_first(place) else { return };
        let attempt = &mut self.attempts[place];
        attempt.doing = Doing::Stream(body);
        self.notes.stream = true;
        self.exchange.on_body(attempt.id, BodyKind::Stream);
        self.on_events(place, &joined(&pieces));
    }

    fn begin_whole(&mut self, place: usize) {
        if self.has_head {
            // The client reads a stream already.
            let words = "a whole answer where a stream goes on";
            return self.failed(self.attempts[place].id, Failure::new(FailureKind::WrongContent, Stage::Held, words));
        }
        let Some((body, pieces)) = self.take_first(place) else { return };
        let attempt = &mut self.attempts[place];
        let size = pieces.iter().map(Bytes::len).sum();
        attempt.doing = Doing::Whole(body, pieces, size);
        self.exchange.on_body(attempt.id, BodyKind::Whole);
    }

    /// What came cannot be read on its way, and is passed on as it comes.
    fn begin_opaque(&mut self, place: usize) {
        let attempt = &mut self.attempts[place];
        let id = attempt.id;
        if self.has_head {
            let words = "a packed answer where a stream goes on";
            return self.failed(id, Failure::new(FailureKind::WrongContent, Stage::Held, words));
        }
        match std::mem::replace(&mut attempt.doing, Doing::Nothing) {
            Doing::First(body, pieces) | Doing::Whole(body, pieces, _) => {
                self.out.extend(pieces);
                attempt.doing = Doing::Opaque(body);
            }
            Doing::Stream(body) => {
                attempt.hold.lift_barrier();
                attempt.hold.release_all(&mut self.out);
                attempt.hold = Holdback::new(Wants::default());
                attempt.doing = Doing::Opaque(body);
            }
            other => attempt.doing = other,
        }
        self.exchange.on_body(id, BodyKind::Whole);
        self.with_world(|exchange, at| exchange.on_held_full(clock::now(), id, at));
    }

    fn take_first(&mut self, place: usize) -> Option<(UpstreamBody<RequestBody>, Vec<Bytes>)> {
        match std::mem::replace(&mut self.attempts[place].doing, Doing::Nothing) {
            Doing::First(body, pieces) => Some((body, pieces)),
            other => {
                self.attempts[place].doing = other;
                None
            }
        }
    }

    /// The client could not read what came as an answer. A profile without a spare has it passed on as it came: Claude Code asks again
    /// without a stream then, as it would without hotspare.
    fn not_an_answer(&mut self, place: usize, failure: Failure) {
        if self.relays_anything(place) {
            self.attempts[place].relayed = true;
            return self.begin_opaque(place);
        }
        self.failed(self.attempts[place].id, failure);
    }

    fn relays_anything(&self, place: usize) -> bool {
        self.exchange.plan().lone && !self.has_head && !self.exchange.is_flowing(self.attempts[place].id)
    }

    /// Whether another profile could answer now.
    fn another_is_usable(&mut self, id: AttemptId) -> bool {
        let mut usable = false;
        self.with_world(|exchange, at| usable = exchange.hides_limits(clock::now(), id, at));
        usable
    }

    /// The refusal is as whole as it will be: it becomes a failure of its class, and is kept.
    pub(super) fn finish_refusal(&mut self, place: usize) {
        let attempt = &mut self.attempts[place];
        let Doing::Refused(refused) = std::mem::replace(&mut attempt.doing, Doing::Nothing) else { return };
        let Refused { head, read, .. } = *refused;
        let id = attempt.id;
        let client_login = attempt.client_login;
        let body = read.freeze();
        let unpacked = unpacked(&head.headers, &body).unwrap_or_default();
        let endpoint = self.exchange.facts().endpoint;
        let mut failure = failure::of_response(endpoint, head.status, &head.headers, &unpacked, self.gateway.outside().wall());
        if let Some(offer) = limits::slow_service(&head.headers) {
            name_slow_service(&mut failure, offer);
        }
        let mut kept = Kept { profile: self.exchange.attempts()[usize::from(id.0)].profile, head, body };
        if let Some(first) = self.before_repair.take() {
            if matches!(failure.kind, FailureKind::ProviderBound | FailureKind::BadRequest) {
                // The change did not help: the client gets the words that its own request got.
                self.gateway.histories().repair_failed(self.conversation(), &self.attempts[place].target);
                kept = *first;
            }
        } else if self.may_be_repaired(place, &failure) && self.repairs(place, &unpacked) {
            failure.repaired = true;
            self.before_repair = Some(Box::new(kept.clone()));
        }
        if client_login && matches!(failure.kind, FailureKind::QuotaExhausted | FailureKind::Unauthorized) {
            self.gateway.remember_refusal(kept.profile, self.exchange.facts().own_credential, &kept);
        }
        self.kept.push((id, kept));
        self.failed(id, failure);
    }

    pub(super) fn on_stream_frame(&mut self, place: usize, frame: Option<Result<Bytes, ()>>) {
        let id = self.attempts[place].id;
        match frame {
            Some(Ok(data)) => {
                self.notes.of(id).bytes_down += data.len() as u64;
                self.exchange.on_bytes(clock::now(), id);
                self.on_events(place, &data);
            }
            Some(Err(())) => self.failed(id, Failure::new(FailureKind::StreamDied, Stage::Held, BROKE)),
            None => self.on_end(place),
        }
    }

    /// Takes the next bytes of an event stream in.
    fn on_events(&mut self, place: usize, data: &Bytes) {
        let id = self.attempts[place].id;
        match self.attempts[place].unpacker.as_mut().map(|unpacker| unpacker.feed(data)) {
            None => self.take_in(place, data),
            Some(Ok(data)) => self.take_in(place, &data),
            Some(Err(error)) => {
                let words = format!("a compressed stream that is broken: {error}");
                return self.failed(id, Failure::new(FailureKind::StreamDied, Stage::Held, words));
            }
        }
        let marks = self.attempts[place].hold.take_marks();
        if !marks.is_empty() {
            self.note_answer(place, &marks);
        }
        let attempt = &mut self.attempts[place];
        if attempt.splicer.as_ref().is_some_and(|splicer| splicer.splice.started_over()) {
            return self.failed(id, Failure::new(FailureKind::Malformed, Stage::Held, "the rest began from the start"));
        }
        if attempt.hold.held() > hotspare_core::policy::HOLD_BYTES {
            self.with_world(|exchange, at| exchange.on_held_full(clock::now(), id, at));
        }
        if !self.judge_next_fact(place) {
            self.release();
        }
    }

    /// Tells the exchange of the next event that came, and releases what may go with it. False: there is none.
    pub(super) fn judge_next_fact(&mut self, place: usize) -> bool {
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
            Fact::Malformed => {
                self.not_an_answer(place, Failure::new(FailureKind::Malformed, Stage::Held, "an event whose data is not JSON"));
            }
            fact if held && fact.is_content() => self.judge_held(place, fact, doomed),
            Fact::MessageDelta { stop: Some(reason) } => self.succeed(id, *reason == StopReason::ToolUse),
            fact if fact.is_success() => self.succeed(id, false),
            fact if fact.is_content() && !doomed => self.exchange.on_content(clock::now(), id),
            _ => {}
        }
        self.release();
        true
    }

    /// Judges an event that brings the answer on, of which the client has nothing yet: the order in which the client can read them, and
    /// whether an answer that is over has any content.
    fn judge_held(&mut self, place: usize, fact: &Fact, doomed: bool) {
        let attempt = &self.attempts[place];
        let id = attempt.id;
        let (started, has_block) = (attempt.hold.received().started, attempt.hold.received().next_index > 0);
        let disorder = |words: &str| Failure::new(FailureKind::WrongContent, Stage::Held, words);
        match fact {
            _ if !started => self.not_an_answer(place, disorder("content before the start of its message")),
            Fact::MessageDelta { stop: None } if !has_block => {}
            Fact::MessageDelta { stop } if !has_block => self.judge_empty(place, *stop),
            Fact::Stop if !has_block => self.judge_empty(place, None),
            _ if !has_block => self.not_an_answer(place, disorder("content outside of any block")),
            Fact::MessageDelta { stop: Some(reason) } => self.succeed(id, *reason == StopReason::ToolUse),
            Fact::Stop => self.succeed(id, false),
            // An error that came along with the first content is still an error before the commit.
            _ if !doomed => self.with_world(|exchange, at| exchange.on_first_content(clock::now(), id, at)),
            _ => {}
        }
    }

    /// A stream is over without a block.
    fn judge_empty(&mut self, place: usize, stop: Option<StopReason>) {
        let id = self.attempts[place].id;
        let empty = Empty::of(stop, self.attempts[place].hold.usage());
        if self.is_good_empty(id, empty) {
            self.succeed(id, false);
        } else {
            self.not_an_answer(place, Failure::new(FailureKind::Malformed, Stage::Held, EMPTY));
        }
    }

    /// Whether an answer without a block goes to the client. From its own provider the client reads one that the model meant; a spare's is
    /// taken only where no other profile can answer.
    fn is_good_empty(&mut self, id: AttemptId, empty: Empty) -> bool {
        match empty {
            Empty::Meant => true,
            Empty::Silent => self.is_primary(id) || !self.another_is_usable(id),
            Empty::Lost => false,
        }
    }

    fn is_primary(&self, id: AttemptId) -> bool {
        self.exchange.attempts()[usize::from(id.0)].profile == self.exchange.plan().primary
    }

    pub(super) fn on_error_event(&mut self, place: usize, kind: &str, message: &str) {
        let failure = failure::of_event(kind, message, Stage::Held, self.gateway.outside().wall());
        let id = self.attempts[place].id;
        let from_primary = self.is_primary(id);
        let attempt = &mut self.attempts[place];
        let bound_to_request = failure.next_step(from_primary) == NextStep::Relay;
        if bound_to_request && !self.has_head && !self.exchange.is_flowing(id) {
            // The request's own fault, told inside a stream: the client gets the provider's words as they came.
            attempt.hold.lift_barrier();
            return self.with_world(|exchange, at| exchange.on_refusal(clock::now(), id, at));
        }
        self.failed(id, failure);
    }

    pub(super) fn on_whole_frame(&mut self, place: usize, frame: Option<Result<Bytes, ()>>) {
        let attempt = &mut self.attempts[place];
        let id = attempt.id;
        let Doing::Whole(_, pieces, size) = &mut attempt.doing else { return };
        match frame {
            Some(Ok(data)) => {
                self.notes.of(id).bytes_down += data.len() as u64;
                self.exchange.on_bytes(clock::now(), id);
                *size += data.len();
                pieces.push(data);
                if *size > WHOLE_CAP {
                    self.begin_opaque(place);
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

    /// A body that is not a stream is here.
    pub(super) fn judge_whole(&mut self, place: usize, body: Bytes) {
        let attempt = &self.attempts[place];
        let id = attempt.id;
        let headers = attempt.head.as_ref().map(|head| head.headers.clone()).unwrap_or_default();
        let unpacked = unpacked(&headers, &body);
        let message = unpacked.as_deref().and_then(WholeMessage::read);
        // What is packed in a way that cannot be read is passed on as it is.
        let fault = unpacked.as_deref().and_then(|text| self.fault_of_whole(id, text, message.as_ref()));
        if let Some(fault) = fault {
            if self.relays_anything(place) || (fault.relayed_alone && !self.has_head && self.is_primary(id) && !self.another_is_usable(id))
            {
                self.attempts[place].relayed = true;
                self.out.push(body);
                return self.on_end(place);
            }
            return self.failed(id, fault.failure);
        }
        self.note_answer(place, &mint::marks_of_answer(unpacked.as_deref().unwrap_or_default()));
        let message = message.unwrap_or_default();
        if !message.model.is_empty() {
            self.note_model(id, &message.model);
        }
        self.notes.of(id).tokens = message.usage.tokens();
        let valid = unpacked.and_then(|unpacked| self.valid_whole(place, &unpacked));
        if valid.is_some() {
            self.drop_coding(place);
        }
        self.out.push(valid.unwrap_or(body));
        self.succeed(id, message.stop == Some(StopReason::ToolUse));
        self.on_end(place);
    }

    /// Why a whole body is not what the client asked for.
    fn fault_of_whole(&mut self, id: AttemptId, body: &[u8], message: Option<&WholeMessage>) -> Option<WholeFault> {
        let wrong = |words: &str| Some(Failure::new(FailureKind::WrongContent, Stage::Held, words).into());
        let endpoint = self.exchange.facts().endpoint;
        if body.iter().all(u8::is_ascii_whitespace) {
            return wrong("200 with an empty body");
        }
        if let Some(failure) = failure::under_good_status(endpoint, body, self.gateway.outside().wall()) {
            return Some(failure.into());
        }
        match (endpoint, message) {
            // A stream that came packed under another label.
            (Endpoint::Messages, None) if self.wants_stream() != Some(false) && stream::is_whole(body) => None,
            (Endpoint::CountTokens, _) if !stream::is_count(body) => {
                Some(self.no_answer(id, body, "200 with a body that is not a count").into())
            }
            (Endpoint::Models, _) if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() => {
                wrong("200 with a body that is not JSON")
            }
            (Endpoint::Messages, None) => Some(self.no_answer(id, body, "200 with a body that is not a message").into()),
            (Endpoint::Messages, Some(_)) if self.wants_stream() == Some(true) => {
                let failure = Failure::new(FailureKind::WrongContent, Stage::Held, "200 with a whole answer where a stream was asked for");
                // Claude Code throws it away and asks without a stream at once.
                Some(WholeFault { failure, relayed_alone: true })
            }
            (Endpoint::Messages, Some(message)) if self.exchange.facts().client.is_claude() && !message.has_usage() => {
                wrong("200 with a message without usage")
            }
            (Endpoint::Messages, Some(message)) if !message.has_block => {
                let empty = Empty::of(message.stop, &message.usage);
                let lost = || Failure::new(FailureKind::Malformed, Stage::Held, EMPTY).into();
                (!self.is_good_empty(id, empty)).then(lost)
            }
            _ => None,
        }
    }

    /// The class of a body that is not an answer: that of the error in it, if there is one.
    fn no_answer(&self, id: AttemptId, body: &[u8], words: &str) -> Failure {
        let head = self.attempts.iter().find(|attempt| attempt.id == id).and_then(|attempt| attempt.head.as_ref());
        let headers = head.map(|head| head.headers.clone()).unwrap_or_default();
        let failure = failure::of_no_answer(self.exchange.facts().endpoint, &headers, body, self.gateway.outside().wall());
        if failure.kind == FailureKind::WrongContent { Failure::new(failure.kind, Stage::Held, words) } else { failure }
    }

    pub(super) fn on_opaque_frame(&mut self, place: usize, frame: Option<Result<Bytes, ()>>) {
        let id = self.attempts[place].id;
        match frame {
            Some(Ok(data)) => {
                self.notes.of(id).bytes_down += data.len() as u64;
                self.exchange.on_bytes(clock::now(), id);
                self.out.push(data);
            }
            Some(Err(())) => self.failed(id, Failure::new(FailureKind::StreamDied, Stage::Committed, BROKE)),
            None => self.on_end(place),
        }
    }

    pub(super) fn on_end(&mut self, place: usize) {
        let now = clock::now();
        self.finish_transcript(place);
        let attempt = &mut self.attempts[place];
        attempt.stop();
        let id = attempt.id;
        if attempt.hold.gave_up() {
            // It grew past reading: nothing says that it is not whole.
            self.succeed(id, false);
        }
        if self.relays_anything(place) && !self.exchange.is_whole(id) {
            // A stream that ended in order, without anything that the client reads.
            let attempt = &mut self.attempts[place];
            attempt.relayed = true;
            attempt.hold.lift_barrier();
            attempt.hold.release_all(&mut self.out);
        }
        if self.attempts[place].relayed {
            self.with_world(|exchange, at| exchange.on_refusal(now, id, at));
        }
        let position = self.position();
        if self.exchange.is_whole(id) {
            return self.with_world(|exchange, at| exchange.on_end(now, id, &position, at));
        }
        let before = self.failures();
        self.with_exchange(|exchange, at| exchange.on_end(now, id, &position, at));
        self.after_failure(before);
    }
}

/// Whether a status is that of an answer. "Not modified" is no redirect: it answers a client that has asked for nothing else.
fn is_good(endpoint: Endpoint, status: StatusCode) -> bool {
    status.is_success() || (endpoint == Endpoint::Other && status == StatusCode::NOT_MODIFIED)
}

/// What a good head announces: it sets the clocks until the first bytes of the body show what it is.
fn announced(endpoint: Endpoint, head: &response::Parts, wants_stream: impl FnOnce() -> Option<bool>) -> BodyKind {
    match endpoint {
        Endpoint::Other => BodyKind::Opaque,
        Endpoint::CountTokens | Endpoint::Models => BodyKind::Whole,
        Endpoint::Messages if is_labelled_stream(head) => BodyKind::Stream,
        Endpoint::Messages if wants_stream() == Some(true) => BodyKind::Stream,
        Endpoint::Messages => BodyKind::Whole,
    }
}

fn is_labelled_stream(head: &response::Parts) -> bool {
    let label = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    label.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// What was found before, or is found now. What cannot be told yet is looked for again.
fn once(known: &OnceLock<bool>, find: impl FnOnce() -> Option<bool>) -> Option<bool> {
    known.get().copied().or_else(|| find().map(|found| *known.get_or_init(|| found)))
}

/// The pieces as one: nearly always there is only one.
fn joined(pieces: &[Bytes]) -> Bytes {
    match pieces {
        [one] => one.clone(),
        pieces => pieces.concat().into(),
    }
}

/// Why a whole body is not an answer.
struct WholeFault {
    failure: Failure,
    /// The primary's is passed on all the same where no other profile can answer.
    relayed_alone: bool,
}

impl From<Failure> for WholeFault {
    fn from(failure: Failure) -> Self {
        Self { failure, relayed_alone: false }
    }
}

/// The body as it reads, up to a cap; `None` if its coding is not known. What a broken coding yields is read as far as it goes.
fn unpacked(headers: &HeaderMap, body: &Bytes) -> Option<Bytes> {
    use std::io::Read;
    let mut text = Vec::new();
    let read = match limits::content_coding(headers) {
        None => return Some(body.clone()),
        Some("gzip" | "x-gzip") => flate2::read::MultiGzDecoder::new(&body[..]).take(UNPACKED_CAP).read_to_end(&mut text),
        Some("deflate") => flate2::read::ZlibDecoder::new(&body[..]).take(UNPACKED_CAP).read_to_end(&mut text),
        Some(_) => return None,
    };
    if let Err(error) = read {
        tracing::debug!(%error, "an answer's coding is broken");
    }
    Some(text.into())
}

/// Adds the offer to the failure's words, which `status`, `why` and the notice show.
fn name_slow_service(failure: &mut Failure, offer: limits::SlowService) {
    failure.slow_service = true;
    let words = match offer {
        limits::SlowService::Offered => "slower service is offered: /low-priority in Claude Code",
        limits::SlowService::Busy => "no room for slower service yet",
    };
    failure.detail = format!("{}; {words}", failure.detail).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_once_is_not_looked_for_again() {
        let known = OnceLock::new();
        assert_eq!(once(&known, || None), None, "the body has not come");
        assert_eq!(once(&known, || Some(true)), Some(true));
        assert_eq!(once(&known, || panic!("it is known")), Some(true));
    }
}
