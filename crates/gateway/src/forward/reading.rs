//! Reads what an attempt brings, event by event, and tells the exchange. Never decides what follows.

use std::sync::Arc;

use bytes::Bytes;
use hotspare_core::attempt::AttemptRecord;
use hotspare_core::exchange::BodyKind;
use hotspare_core::{AttemptId, Endpoint, Failure, FailureKind, Stage};
use hotspare_upstream::headers::beta_values;
use hotspare_upstream::{Connected, Received, clock};
use hotspare_wire::mint::Mark;
use hotspare_wire::stream::{Fact, StopReason, UsageSoFar};
use hotspare_wire::{failure, limits, mint, stream};
use http::{HeaderMap, StatusCode, header, response};

use super::attempt::{Doing, Happened, Refused};
use super::{Driver, Kept, asks_for_a_stream};
use crate::history::Changed;
use crate::record;
use crate::replay::RequestBody;

/// Most bytes of an error body that are unpacked to be classified (security.md T16).
const UNPACKED_CAP: u64 = 8 * 1024 * 1024;

/// Most bytes of a whole JSON answer that are held until it is complete; a longer one is passed on as it comes.
const WHOLE_CAP: usize = 32 * 1024 * 1024;

/// Longest name of a model that is told of, in characters.
const SERVED_CAP: usize = 80;

const BROKE: &str = "connection broke before the answer was complete";

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
        if heals_itself || facts.endpoint != Endpoint::Messages || self.request.body.whole_if_here().is_none() {
            return false;
        }
        let betas = beta_values(&self.request.headers);
        self.gateway.histories().repair(self.conversation(), &attempt.target, refusal, &betas)
    }

    pub(super) fn on_happened(&mut self, place: usize, happened: Happened) {
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
    pub(super) fn finish_refusal(&mut self, place: usize) {
        let attempt = &mut self.attempts[place];
        let Doing::Refused(refused) = std::mem::replace(&mut attempt.doing, Doing::Nothing) else { return };
        let Refused { head, read, .. } = *refused;
        let id = attempt.id;
        let client_login = attempt.client_login;
        let body = read.freeze();
        let unpacked = unpacked(&head.headers, &body);
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
        } else if failure.kind == FailureKind::ProviderBound && self.repairs(place, &unpacked) {
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
                    self.with_world(|exchange, at| exchange.on_held_full(now, id, at));
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
            Fact::Malformed if held => self.failed(id, Failure::new(FailureKind::Malformed, Stage::Held, "what came is no event stream")),
            Fact::MessageDelta { stop: Some(reason) } => self.succeed(id, *reason == StopReason::ToolUse),
            fact if fact.is_success() => self.succeed(id, false),
            // An error that came along with the first content is still an error before the commit.
            fact if fact.is_content() && held && !doomed => self.with_world(|exchange, at| exchange.on_first_content(clock::now(), id, at)),
            fact if fact.is_content() && !doomed => self.exchange.on_content(clock::now(), id),
            _ => {}
        }
        self.release();
        true
    }

    pub(super) fn on_error_event(&mut self, place: usize, kind: &str, message: &str) {
        let failure = failure::of_event(kind, message, Stage::Held);
        let id = self.attempts[place].id;
        let from_primary = self.exchange.attempts()[usize::from(id.0)].profile == self.exchange.plan().primary;
        let attempt = &mut self.attempts[place];
        let bound_to_request = match failure.kind {
            FailureKind::BadRequest => true,
            FailureKind::TooLarge | FailureKind::ProviderBound => from_primary,
            _ => false,
        };
        if bound_to_request && !self.has_head && !self.exchange.is_flowing(id) {
            // The request's own fault, told inside a stream: the client gets the provider's words as they came.
            attempt.hold.lift_barrier();
            return self.with_world(|exchange, at| exchange.on_refusal(clock::now(), id, at));
        }
        self.failed(id, failure);
    }

    pub(super) fn on_whole_frame(&mut self, place: usize, frame: Option<Result<Bytes, ()>>) {
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
                    self.out.extend(pieces);
                    attempt.doing = Doing::Opaque(body);
                    self.with_world(|exchange, at| exchange.on_held_full(now, id, at));
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
    pub(super) fn judge_whole(&mut self, place: usize, body: Bytes) {
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
        self.out.push(body);
        self.succeed(id, mid_turn);
        self.on_end(place);
    }

    pub(super) fn fault_of_whole(&self, body: &[u8]) -> Option<Failure> {
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
}

/// Whether a status is that of an answer. "Not modified" is no redirect: it answers a client that has asked for nothing else.
fn is_good(endpoint: Endpoint, status: StatusCode) -> bool {
    status.is_success() || (endpoint == Endpoint::Other && status == StatusCode::NOT_MODIFIED)
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

/// Adds the offer to the failure's words, which `status`, `why` and the notice show.
fn name_slow_service(failure: &mut Failure, offer: limits::SlowService) {
    failure.slow_service = true;
    let words = match offer {
        limits::SlowService::Offered => "slower service is offered: /low-priority in Claude Code",
        limits::SlowService::Busy => "no room for slower service yet",
    };
    failure.detail = format!("{}; {words}", failure.detail).into();
}
