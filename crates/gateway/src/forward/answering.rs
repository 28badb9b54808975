//! Makes the answer that the client gets: its head, an upstream's own refusal, or words of ours. Never chooses which.

use std::sync::Arc;

use bytes::Bytes;
use hotspare_core::{Answer, AttemptId, LocalAnswer, ProfileId};
use hotspare_upstream::{ClientCredential, clock};
use hotspare_wire::stream;
use http::{Extensions, HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::attempt::Doing;
use super::{Driver, Kept};
use crate::body::ClientBody;
use crate::headers::Limits;
use crate::record::Event;
use crate::replay::Broken;
use crate::{answer, headers, record};

impl Driver {
    pub(super) fn committed(mut self: Box<Self>, id: AttemptId) -> Response<ClientBody> {
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
        let length = self.known_length(place, &head.headers);
        self.promised = if self.is_bodiless(head.status) { Some(0) } else { length };
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        self.notes.status = Some(head.status.as_u16());
        if !self.wants().text {
            self.forget_head();
        }
        *response.body_mut() = ClientBody::Driven(self);
        response
    }

    /// Nobody else will be asked to go on with this answer: what is only needed to ask is let go. It is more than all else that an exchange
    /// keeps besides the body, and an answer may flow for minutes.
    fn forget_head(&mut self) {
        if let Some(request) = Arc::get_mut(&mut self.request) {
            request.headers = HeaderMap::new();
            request.extensions = Extensions::new();
            request.credential = ClientCredential::default();
        }
    }

    /// From here on the client gets this attempt's answer.
    pub(super) fn go_on_with(&mut self, id: AttemptId) {
        self.has_head = true;
        self.listed = None;
        if let Some(place) = self.attempts.iter().position(|attempt| attempt.id == id) {
            self.note_answer(place, &[]);
            if let Some(served) = self.attempts[place].hold.served().map(str::to_owned) {
                self.note_model(id, &served);
            }
        }
        let model = self.exchange.attempts().get(usize::from(id.0)).and_then(|attempt| self.other_model(attempt));
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.id == id) {
            attempt.on_wire = true;
            self.gateway.tell(&Event::Committed { id: self.id, profile: attempt.target.name.clone(), model });
        }
        self.tell_of_a_move(id);
        self.release();
    }

    /// No profile can answer now, and the client is to wait within its answer.
    pub(super) fn kept_open(mut self: Box<Self>) -> Response<ClientBody> {
        self.has_head = true;
        self.list();
        self.notes.status = Some(200);
        self.out.push(Bytes::from_static(stream::PING.as_bytes()));
        let mut response = Response::new(ClientBody::full(Bytes::new()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers::mark(response.headers_mut(), "", self.exchange.attempts().len(), &record::id_text(self.id));
        *response.body_mut() = ClientBody::Driven(self);
        response
    }

    /// Whether nothing follows the head, whatever length it names (RFC 9110, 6.4.1).
    fn is_bodiless(&self, status: StatusCode) -> bool {
        self.request.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// The length of what the client will get, where nothing can change it any more.
    pub(super) fn known_length(&self, place: usize, upstream: &HeaderMap) -> Option<u64> {
        match &self.attempts[place].doing {
            Doing::Nothing => Some(self.out.waiting() as u64),
            Doing::Opaque(_) => upstream.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok(),
            Doing::Pausing(..) | Doing::Sending(_) | Doing::Refused(_) | Doing::First(..) | Doing::Stream(_) | Doing::Whole(..) => None,
        }
    }

    pub(super) fn client_headers(&mut self, id: AttemptId, upstream: &HeaderMap) -> HeaderMap {
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

    pub(super) fn answer(mut self: Box<Self>, answer: &Answer) -> Response<ClientBody> {
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

    pub(super) fn explain(&self, shape: LocalAnswer) -> Response<ClientBody> {
        if let Some(broken) = self.request.body.broken() {
            return broken_body(broken);
        }
        let mut response = answer::exhausted(shape, &self.snapshot, self.exchange.plan(), self.exchange.attempts());
        let last = self.exchange.attempts().last().map_or("", |attempt| self.snapshot.name(attempt.profile));
        headers::mark(response.headers_mut(), last, self.exchange.attempts().len(), &record::id_text(self.id));
        response
    }

    pub(super) fn relay(&mut self, attempt: AttemptId, retry_after: Option<u32>, final_word: bool) -> Response<ClientBody> {
        let Some(at) = self.kept.iter().position(|(kept, _)| *kept == attempt) else {
            return self.explain(LocalAnswer { status: 502, error_type: "api_error", retry_after: Some(retry_after.unwrap_or(1)) });
        };
        let (id, kept) = self.kept.swap_remove(at);
        let headers = self.client_headers(id, &kept.head.headers);
        self.notes.refused_by = Some(kept.profile);
        let mut response = answer_of(kept, headers);
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if final_word {
            response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }

    pub(super) fn remembered(&mut self, profile: ProfileId, instead: LocalAnswer) -> Response<ClientBody> {
        let Some(kept) = self.gateway.remembered_refusal(profile, self.exchange.facts().own_credential) else {
            return self.explain(instead);
        };
        self.notes.refused_by = Some(kept.profile);
        let mut headers = headers::for_client(&kept.head.headers, Limits::Own);
        headers::mark(&mut headers, self.snapshot.name(kept.profile), self.exchange.attempts().len(), &record::id_text(self.id));
        answer_of(kept, headers)
    }
}

fn answer_of(kept: Kept, headers: HeaderMap) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(kept.body));
    *response.status_mut() = kept.head.status;
    *response.headers_mut() = headers;
    *response.extensions_mut() = kept.head.extensions;
    response
}

pub(super) fn broken_body(broken: Broken) -> Response<ClientBody> {
    let (status, kind) = match broken {
        Broken::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
        Broken::TooSlow => (StatusCode::REQUEST_TIMEOUT, "timeout_error"),
        Broken::Aborted => (StatusCode::BAD_REQUEST, "invalid_request_error"),
    };
    let mut response = answer::error(status, kind, &format!("hotspare: {broken}"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
