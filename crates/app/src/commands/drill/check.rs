//! Turns what the gateway found of the spares into proofs: for each model of the client, for each spare, and for the client's own route.

use std::time::Duration;

use hotspare_gateway::drill::{CheckAnswer, CheckRequest, ModelCheck, ProofState, SpareCheck};

use super::Proof;
use super::client::{Client, Goes};
use crate::gateways::{self, NoAnswer};
use crate::state::Instance;

/// Longest that the free tests of all spares may take: they run at the same time.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// What was found of the spares.
#[derive(Debug, Clone, Default)]
pub(super) struct Checks {
    pub models: Vec<ModelCheck>,
    pub spares: Vec<SpareCheck>,
    pub proofs: Vec<Proof>,
    /// Whether every model has a spare that a free request has proved.
    pub proved: bool,
}

impl Checks {
    /// Has the gateway test its spares.
    pub(super) async fn make(instance: &Instance, client: &Client, profile: Option<&str>) -> Self {
        let request = CheckRequest { models: client.models.clone(), profile: profile.map(str::to_owned), login: client.login };
        let path = "/hotspare/drill/check";
        let answers = gateways::post_within::<CheckAnswer>(CHECK_TIMEOUT, std::slice::from_ref(instance), path, &request).await;
        match answers.into_iter().next() {
            Some(Ok(answer)) => Self::of(answer, instance, client),
            // The drill itself names an unknown profile.
            Some(Err(NoAnswer::Refused(http::StatusCode::NOT_FOUND, words))) if !words.contains("nothing at this path") => Self::default(),
            Some(Err(NoAnswer::Refused(http::StatusCode::NOT_FOUND, _))) => {
                Self::unproved("the gateway is older than this command; restart it")
            }
            Some(Err(NoAnswer::Late)) => Self::unproved("the free tests took too long"),
            Some(Err(NoAnswer::Refused(_, words))) => Self::unproved(&words),
            Some(Err(NoAnswer::Gone)) | None => Self::unproved("the gateway did not answer"),
        }
    }

    fn unproved(why: &str) -> Self {
        Self { proofs: vec![unproved("spare", format!("not proved: {why}"))], ..Self::default() }
    }

    fn of(answer: CheckAnswer, instance: &Instance, client: &Client) -> Self {
        let state = |name: &str| answer.spares.iter().find(|spare| spare.profile == name).map(|spare| spare.state);
        let mut proofs: Vec<Proof> = answer.models.iter().map(|model| model_proof(model, &state)).collect();
        proofs.extend(answer.spares.iter().map(spare_proof));
        proofs.extend(answer.spares.iter().filter_map(names_proof));
        proofs.push(client_proof(instance, &client.goes));
        let is_proved = |model: &ModelCheck| model.spares.iter().any(|spare| state(&spare.profile) == Some(ProofState::Proved));
        let proved = !answer.models.is_empty() && answer.models.iter().all(is_proved);
        Self { models: answer.models, spares: answer.spares, proofs, proved }
    }
}

fn held(name: &str, words: String) -> Proof {
    Proof { name: name.to_owned(), held: true, unproved: false, after_ms: None, words }
}

fn failed(name: &str, words: String) -> Proof {
    Proof { held: false, ..held(name, words) }
}

fn unproved(name: &str, words: String) -> Proof {
    Proof { held: false, unproved: true, ..held(name, words) }
}

/// Whether a request for this model has a spare to fall back on.
fn model_proof(check: &ModelCheck, state: &impl Fn(&str) -> Option<ProofState>) -> Proof {
    let model = &check.model;
    let works = |name: &str| state(name) != Some(ProofState::Failed);
    let tried: Vec<String> = check
        .spares
        .iter()
        .filter(|spare| works(&spare.profile))
        .map(|spare| if spare.model == *model { spare.profile.clone() } else { format!("{} as {}", spare.profile, spare.model) })
        .collect();
    let skipped: Vec<String> = check.skipped.iter().map(|skipped| format!("{}: {}", skipped.profile, skipped.why)).collect();
    let broken = check.spares.iter().filter(|spare| !works(&spare.profile)).map(|spare| format!("{} would fail", spare.profile));
    let out: Vec<String> = skipped.into_iter().chain(broken).collect();
    match (tried.as_slice(), out.as_slice()) {
        ([], []) => failed("model", format!("{model}: no spare is configured")),
        ([], out) => failed("model", format!("{model}: no spare takes it ({})", out.join("; "))),
        (tried, []) => held("model", format!("{model}: {}", tried.join(", then "))),
        (tried, out) => held("model", format!("{model}: {}; not {}", tried.join(", then "), out.join("; "))),
    }
}

fn spare_proof(spare: &SpareCheck) -> Proof {
    let took = spare.took_ms.filter(|_| spare.state == ProofState::Proved).map(|ms| format!(", {} ms", ms.max(1))).unwrap_or_default();
    let words = format!("{}: {}{took}", spare.profile, spare.words);
    match spare.state {
        ProofState::Proved => held("spare", words),
        ProofState::NotProved => unproved("spare", words),
        ProofState::Failed => failed("spare", words),
    }
}

/// Names of models that nothing free shows the spare to know.
fn names_proof(spare: &SpareCheck) -> Option<Proof> {
    let names = spare.unproved_models.join(", ");
    (!names.is_empty()).then(|| unproved("names", format!("{}: that it knows {names} is shown by no free request", spare.profile)))
}

/// Whether the client's requests come to this gateway.
fn client_proof(instance: &Instance, goes: &Goes) -> Proof {
    let (name, here) = ("client", instance.address);
    match (instance.kind.as_str(), goes) {
        ("drill", _) => {
            unproved(name, "nothing runs: this was tried in this shell's environment, and no request goes through hotspare now".to_owned())
        }
        (_, Goes::Local(address)) if *address == here => held(name, format!("Claude Code's requests go to {here}")),
        ("run", _) => held(name, "this gateway belongs to `hotspare run`, whose client goes through it".to_owned()),
        (_, Goes::Local(address)) => unproved(name, format!("Claude Code's requests go to {address}, not to {here}")),
        (_, Goes::Elsewhere(host)) => unproved(name, format!("Claude Code's requests go to {host}, not to {here}; `hotspare install`")),
        (_, Goes::Direct) => {
            unproved(name, "Claude Code's settings name no hotspare; `hotspare install`, or `hotspare run -- claude`".to_owned())
        }
    }
}
