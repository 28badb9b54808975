//! Sends one attempt: which body and headers a profile gets. Never reads an answer.

use std::borrow::Cow;

use bytes::Bytes;
use hotspare_core::{AttemptKind, AttemptPlan, ClientKind, Endpoint, Failure, FailureKind, MidStream, Stage};
use hotspare_upstream::headers::{drop_body_description, keep_betas};
use hotspare_upstream::{ClientCredential, Fingerprint, Outgoing, Target};
use hotspare_wire::history::{self, Adapted, Unfit};
use hotspare_wire::resume;
use http::StatusCode;

use super::attempt::{Attempt, Doing};
use super::{ClientRequest, Driver};
use crate::history::{Adaptation, Changed};
use crate::holdback::Wants;
use crate::record::Event;
use crate::replay::{Broken, RequestBody};
use crate::server::Gateway;

impl Driver {
    pub(super) fn start(&mut self, plan: &AttemptPlan) {
        let Some(target) = self.snapshot.target(plan.candidate.profile).cloned() else {
            // A plan is made from the same snapshot, so the profile is there.
            return self.failed(plan.id, Failure::new(FailureKind::NoCredential, Stage::Connect, "profile is gone"));
        };
        let wants = self.wants();
        let mut attempt = Attempt::new(plan, target, wants);
        if plan.kind == AttemptKind::Resume
            && let Some(broken) = self.broken.take()
        {
            attempt.take_over(*broken);
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
    pub(super) fn wants(&self) -> Wants {
        let client = self.exchange.facts().client;
        let others = self.exchange.plan().candidates.len() > 1 && self.snapshot.policy.mid_stream == MidStream::Auto;
        Wants { whole_tool_calls: client.is_claude(), text: others && client != ClientKind::ClaudeInteractive }
    }

    pub(super) fn send(&mut self, plan: &AttemptPlan) {
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
        let adaptation = self.gateway.histories().adaptation(endpoint, conversation, &target, terms.model.as_ref(), terms.takes.thinking);
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
            let OutgoingBody { body, length, changed, original } =
                outgoing_body(&gateway, &request, &target, adaptation.as_ref(), texts.as_deref()).await?;
            let mut headers = Cow::Borrowed(&request.headers);
            if let Some(adaptation) = adaptation.filter(Adaptation::changes_betas) {
                keep_betas(headers.to_mut(), |beta| adaptation.keeps_beta(beta));
            }
            if !original {
                drop_body_description(headers.to_mut());
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
    pub(super) fn conversation(&self) -> u64 {
        let began = || self.request.body.text_if_here().and_then(|text| hotspare_wire::history::opening(&text));
        self.exchange.facts().session.or_else(began).unwrap_or(0)
    }

    /// The credential that the profile has just rejected.
    pub(super) fn refused_credential(&self, plan: &AttemptPlan) -> Option<Fingerprint> {
        let (_, kept) = self.kept.iter().rev().find(|(_, kept)| kept.profile == plan.candidate.profile)?;
        kept.head.extensions.get().copied().filter(|_| kept.head.status == StatusCode::UNAUTHORIZED)
    }
}

/// Largest body, in bytes as it came, that is looked through before it goes to a profile of Anthropic's protocol: the look joins the body,
/// which takes its size a second time.
pub(super) const MAX_MENDED: u64 = 16 * 1024 * 1024;

/// A request's body as it goes to one profile.
pub(super) struct OutgoingBody {
    body: RequestBody,
    /// `None` if it is not known.
    length: Option<u64>,
    /// What was changed, for people.
    changed: String,
    /// True if its bytes are the client's own, compressed or not.
    original: bool,
}

/// The request's body for one profile.
///
/// The client's own bytes go out where nothing has to change. Otherwise the body is decoded first: what leaves then is plain. Other
/// companies get the decoded body in any case, because few of their endpoints decode one.
pub(super) async fn outgoing_body(
    gateway: &Gateway,
    request: &ClientRequest,
    target: &Target,
    adaptation: Option<&Adaptation>,
    texts: Option<&[String]>,
) -> Result<OutgoingBody, Failure> {
    let mut text = if adaptation.is_none() && texts.is_none() {
        let is_mended = request.body.received() <= MAX_MENDED;
        if is_mended { request.body.text_if_here() } else { None }
    } else {
        let broken = |broken: Broken| Failure::new(FailureKind::CannotReplay, Stage::Connect, broken.to_string());
        request.body.text().await.map_err(broken)?
    };
    if let Some(texts) = texts {
        let parts = text
            .and_then(|text| resume::request(&text, texts))
            .ok_or_else(|| Failure::new(FailureKind::CannotReplay, Stage::Connect, "nothing can be put behind this request"))?;
        text = Some(parts.concat().into());
    }
    let adapted = match (adaptation, &text) {
        (Some(adaptation), Some(text)) => gateway.histories().adapt(text, adaptation)?,
        (Some(_), None) if !target.platform.is_native() => {
            return Err(Failure::new(FailureKind::ProviderBound, Stage::Connect, Unfit::Unreadable.to_string()));
        }
        (None, Some(text)) if target.platform.is_native() && request.is_messages => history::mend(text),
        _ => Adapted::Same,
    };
    let plain = |parts: Vec<Bytes>, changed: String| {
        let length = parts.iter().map(|part| part.len() as u64).sum();
        OutgoingBody { body: RequestBody::Parts(parts.into()), length: Some(length), changed, original: false }
    };
    Ok(match (adapted, text) {
        (Adapted::Changed(parts, changes), _) => plain(parts, changes.to_string()),
        (Adapted::Same, Some(text)) if texts.is_some() || request.body.is_encoded() && !target.platform.is_native() => {
            plain(vec![text], String::new())
        }
        _ => {
            OutgoingBody { body: RequestBody::Kept(request.body.reader()), length: request.length, changed: String::new(), original: true }
        }
    })
}
