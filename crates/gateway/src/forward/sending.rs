//! Sends one attempt: which body and headers a profile gets. Never reads an answer.

use std::borrow::Cow;

use hotspare_core::{AttemptKind, AttemptPlan, ClientKind, Endpoint, Failure, FailureKind, MidStream, Stage};
use hotspare_upstream::headers::keep_betas;
use hotspare_upstream::{ClientCredential, Fingerprint, Outgoing};
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
            let (body, length, changed) = outgoing_body(&gateway, &request, adaptation.as_ref(), texts.as_deref()).await?;
            let headers = match adaptation.filter(Adaptation::changes_betas) {
                None => Cow::Borrowed(&request.headers),
                Some(adaptation) => {
                    let mut headers = request.headers.clone();
                    keep_betas(&mut headers, |beta| adaptation.keeps_beta(beta));
                    Cow::Owned(headers)
                }
            };
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
        let began = || self.request.body.whole_if_here().and_then(|whole| hotspare_wire::history::opening(&whole));
        self.exchange.facts().session.or_else(began).unwrap_or(0)
    }

    /// The credential that the profile has just rejected.
    pub(super) fn refused_credential(&self, plan: &AttemptPlan) -> Option<Fingerprint> {
        let (_, kept) = self.kept.iter().rev().find(|(_, kept)| kept.profile == plan.candidate.profile)?;
        kept.head.extensions.get().copied().filter(|_| kept.head.status == StatusCode::UNAUTHORIZED)
    }
}

/// The request's body as it goes to one profile, its length where it is known, and what was changed in it for people.
pub(super) async fn outgoing_body(
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
