//! Checks which spares a real request could fall back on: routing for the client's own models, and a free test of each spare.
//!
//! A drill plays its spares, so it proves that failover works, but not that a spare would answer. This does, in the process that serves.

use std::time::Duration;

use futures_util::future;
use hotspare_core::route::{Fit, Skipped};
use hotspare_core::{ChainEntry, FailureKind, Plan, ProfileId, RequestFacts, Switch, World};
use hotspare_upstream::{Credential, clock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClientLogin, facts, plan};
use crate::answer::skip_words;
use crate::control::{AUTO, CONTROL_VERSION, Refused};
use crate::proof::{self, Step};
use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// Most models that are checked; what is beyond is ignored.
pub const MAX_MODELS: usize = 16;

/// Most names of models that a free test tries at one spare.
const MAX_TRIED_MODELS: usize = 4;

/// Longest that the free tests of one spare may take together.
const SPARE_TIMEOUT: Duration = Duration::from_secs(15);

/// `POST /hotspare/drill/check`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The models that the client asks for, most important first.
    pub models: Vec<String>,
    /// The profile that the drill breaks; `None` if it is the one that is tried first.
    #[serde(default)]
    pub profile: Option<String>,
    /// The credential that the client sends.
    #[serde(default)]
    pub login: ClientLogin,
}

/// The result.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct CheckAnswer {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Each model of the client.
    pub models: Vec<ModelCheck>,
    /// Each spare of the chains that these models use, in their order.
    pub spares: Vec<SpareCheck>,
}

/// What routing does with requests for one model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct ModelCheck {
    /// The model, as the client names it.
    pub model: String,
    /// The profile that is tried first; `None` if no profile can be tried.
    pub first: Option<String>,
    /// The spares that are tried after it, with the name of the model there.
    pub spares: Vec<Fallback>,
    /// The spares that are skipped, and why.
    pub skipped: Vec<SkippedSpare>,
}

/// A spare that is tried for a model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct Fallback {
    /// The profile.
    pub profile: String,
    /// What the model is called there.
    pub model: String,
}

/// A spare that is skipped for a model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct SkippedSpare {
    /// The profile.
    pub profile: String,
    /// Why.
    pub why: String,
}

/// Whether a spare would answer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ProofState {
    /// A free request was accepted there.
    Proved,
    /// Nothing that is free proves it.
    NotProved,
    /// A real request would fail there, or skip it.
    Failed,
}

/// One spare.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct SpareCheck {
    /// Its name.
    pub profile: String,
    /// Whether it would answer.
    pub state: ProofState,
    /// By what that is known, or why not.
    pub words: String,
    /// How long the free test took, in milliseconds; `None` if there was none.
    pub took_ms: Option<u64>,
    /// Names of models that no free request has shown the spare to know.
    #[serde(default)]
    pub unproved_models: Vec<String>,
}

/// A spare while it is checked.
struct Spare {
    id: ProfileId,
    /// Names under which it is tried for the client's models.
    models: Vec<String>,
    /// Why it is skipped, by model.
    skipped: Vec<(String, String)>,
}

/// What routing goes by.
struct Routing<'a> {
    snapshot: &'a Snapshot,
    world: &'a World,
    login: ClientLogin,
}

impl Routing<'_> {
    /// Routing for one model; adds its spares to those that are tested.
    fn check(&self, model: &str, plan: &Plan, spares: &mut Vec<Spare>) -> ModelCheck {
        let snapshot = self.snapshot;
        let name = |id: ProfileId| snapshot.name(id).to_owned();
        let facts = facts(Some(model), self.login);
        let first = plan.candidates.first().map(|candidate| candidate.profile);
        // Without a profile to try, the chain's own first one is the primary.
        let primary = first.unwrap_or(plan.primary);
        let mut check = ModelCheck { model: model.to_owned(), first: first.map(name), spares: Vec::new(), skipped: Vec::new() };
        for entry in chain_entries(snapshot, &facts).iter().filter(|entry| entry.profile != primary) {
            let place = spares.iter().position(|spare| spare.id == entry.profile).unwrap_or_else(|| {
                spares.push(Spare { id: entry.profile, models: Vec::new(), skipped: Vec::new() });
                spares.len() - 1
            });
            let spare = &mut spares[place];
            match self.fallback(entry, &facts, plan) {
                Ok(asked) => {
                    if !check.spares.iter().any(|known| known.profile == snapshot.name(entry.profile)) {
                        check.spares.push(Fallback { profile: name(entry.profile), model: asked.clone() });
                    }
                    if !spare.models.contains(&asked) {
                        spare.models.push(asked);
                    }
                }
                Err(why) => {
                    check.skipped.push(SkippedSpare { profile: name(entry.profile), why: why.clone() });
                    spare.skipped.push((model.to_owned(), why));
                }
            }
        }
        check.skipped.retain(|skipped| !check.spares.iter().any(|tried| tried.profile == skipped.profile));
        check.skipped.dedup();
        check
    }

    /// The model's name at this spare, or why a request for it would not be answered there.
    fn fallback(&self, entry: &ChainEntry, facts: &RequestFacts, plan: &Plan) -> Result<String, String> {
        let snapshot = self.snapshot;
        let is_candidate = plan.candidates.iter().any(|candidate| candidate.profile == entry.profile && !candidate.last_resort);
        if !is_candidate {
            let skipped = plan.skipped.iter().find(|skipped| skipped.profile == entry.profile);
            return Err(skipped.map_or_else(|| "not tried".to_owned(), |Skipped { reason, .. }| skip_words(reason)));
        }
        let terms = match snapshot.fit(entry, facts) {
            Fit::Fits(terms) => terms,
            Fit::Cannot(reason) => return Err(skip_words(&reason)),
        };
        if let Some(reached) = self.world.spending.reached(entry.profile, facts.whole_session, &terms.budget) {
            return Err(skip_words(&hotspare_core::route::SkipReason::Budget(reached)));
        }
        let asked = terms.model.as_deref().or(facts.model.as_deref()).unwrap_or_default().to_owned();
        if snapshot.is_anthropic(entry.profile) && !asked.starts_with("claude") {
            return Err(format!("Anthropic has no model `{asked}`; name one in its `models`"));
        }
        Ok(asked)
    }
}

impl Gateway {
    /// Checks routing for these models and tests each spare without spending tokens.
    pub async fn check_spares(&self, request: &CheckRequest) -> Result<CheckAnswer, Refused> {
        let now = clock::now();
        let snapshot = self.snapshot();
        let chosen = request.profile.as_deref().filter(|name| *name != AUTO).map(|name| crate::control::id(&snapshot, name)).transpose()?;
        let mut world = self.with_world(|world| world.clone());
        if let Some(profile) = chosen {
            world.switch = Some(Switch { profile, until: None });
        }
        let routing = Routing { snapshot: &snapshot, world: &world, login: request.login };
        let mut models = Vec::new();
        let mut spares: Vec<Spare> = Vec::new();
        for model in request.models.iter().take(MAX_MODELS) {
            let Some(plan) = plan(&snapshot, Some(model), now, &mut world.clone(), request.login) else { continue };
            models.push(routing.check(model, &plan, &mut spares));
        }
        let tested = future::join_all(spares.iter().map(|spare| self.test_spare(&snapshot, spare))).await;
        Ok(CheckAnswer { version: CONTROL_VERSION, models, spares: tested })
    }

    async fn test_spare(&self, snapshot: &Snapshot, spare: &Spare) -> SpareCheck {
        let check = |state, words: String, took_ms| SpareCheck {
            profile: snapshot.name(spare.id).to_owned(),
            state,
            words,
            took_ms,
            unproved_models: Vec::new(),
        };
        let Some(target) = snapshot.target(spare.id) else { return check(ProofState::Failed, "not configured".to_owned(), None) };
        if let (true, Some((model, why))) = (spare.models.is_empty(), spare.skipped.first()) {
            return check(ProofState::Failed, format!("{why} ({model})"), None);
        }
        let network = self.network();
        let begun = clock::now();
        let tests = async {
            let mut last = Vec::new();
            for model in spare.models.iter().take(MAX_TRIED_MODELS) {
                last = proof::test(target, &network, model, false).await;
                let names_models = last.iter().any(|step| step.name == "count_tokens" && step.proves());
                if !names_models || last.iter().any(|step| step.failure().is_some()) {
                    break;
                }
            }
            last
        };
        let Ok(steps) = tokio::time::timeout(SPARE_TIMEOUT, tests).await else {
            return check(ProofState::Failed, format!("no answer within {} s", SPARE_TIMEOUT.as_secs()), None);
        };
        let took_ms = u64::try_from(clock::since(begun).as_millis()).ok();
        if let Some(failed) = steps.iter().find(|step| step.failure().is_some()) {
            return check(ProofState::Failed, failure_words(failed), took_ms);
        }
        if let Some(step) = steps.iter().find(|step| step.proves()) {
            let counts = step.name == "count_tokens";
            let tried = if counts { spare.models.iter().take(MAX_TRIED_MODELS).collect() } else { Vec::new() };
            let (known, unproved_models): (Vec<String>, Vec<String>) =
                spare.models.iter().cloned().partition(|model| tried.contains(&model) || step.listed.contains(model));
            let knows = if known.is_empty() { String::new() } else { format!(" and knows {}", known.join(", ")) };
            let key = if matches!(target.credential.as_ref(), Credential::None) { "answers" } else { "accepts its key" };
            return SpareCheck { unproved_models, ..check(ProofState::Proved, format!("{key}{knows}"), took_ms) };
        }
        let why = if target.credential.is_client() {
            "passes the client's own login on, which only a request of the client proves"
        } else {
            "reached, but nothing that is free proves its key"
        };
        check(ProofState::NotProved, why.to_owned(), took_ms)
    }
}

fn failure_words(step: &Step) -> String {
    match step.failure() {
        Some(FailureKind::NoCredential) => format!("no credential in the process that serves: {}", step.words),
        _ => format!("{} failed: {}", step.name, step.words),
    }
}

fn chain_entries<'a>(snapshot: &'a Snapshot, facts: &RequestFacts) -> &'a [ChainEntry] {
    hotspare_core::route::chain_for(&snapshot.rules, facts).map_or(&[], |chain| chain.entries.as_slice())
}
