//! What a hook is told, as JSON. Never holds a prompt, an answer's text, a provider's own words or a credential.

use bytes::Bytes;
use hotspare_core::hook::error_word;
use hotspare_core::record::words;
use hotspare_core::{FailureKind, HookEvent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a hook is told. Every field is always there; what is not known is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HookInput {
    /// What happens.
    pub hook_event_name: HookEvent,
    /// The client's own session id; at most 64 visible ASCII characters.
    pub session_id: Option<String>,
    /// The exchange's id: `hotspare why` knows it.
    pub request_id: Option<String>,
    /// Claude Code's word for the failure: `rate_limit`, `overloaded`, `authentication_failed`, `billing_error`, `model_not_found`,
    /// `invalid_request`, `server_error` or `unknown`.
    pub error: Option<String>,
    /// The failure's name in the failure table.
    pub class: Option<FailureKind>,
    /// The HTTP status that it came as.
    pub status: Option<u16>,
    /// The profile that failed, or that this is about.
    pub from: Option<String>,
    /// The profile that is asked next, or that answered.
    pub to: Option<String>,
    /// Who may be asked, `to` first: a `use` names one of these.
    pub candidates: Vec<String>,
    /// The model, as `to` or else the client has it; at most 200 characters.
    pub model: Option<String>,
    /// The number of the attempt that failed or is to be made, from 1.
    pub attempt: Option<u64>,
    /// What the move or the exchange costs about, in US dollars; where no price is known `null`.
    pub est_cost_usd: Option<f64>,
    /// What is to be said besides, in words of hotspare's own.
    pub detail: Option<String>,
    /// The configuration file that has the last word.
    pub config: Option<String>,
}

impl HookInput {
    /// Nothing known yet but what happens.
    pub fn new(event: HookEvent) -> Self {
        Self {
            hook_event_name: event,
            session_id: None,
            request_id: None,
            error: None,
            class: None,
            status: None,
            from: None,
            to: None,
            candidates: Vec::new(),
            model: None,
            attempt: None,
            est_cost_usd: None,
            detail: None,
            config: None,
        }
    }

    /// With a failure.
    #[must_use]
    pub fn failed(mut self, class: Option<FailureKind>, status: Option<u16>) -> Self {
        self.error = class.map(|class| error_word(class).to_owned());
        self.class = class;
        self.status = status;
        self
    }

    /// From one profile to another.
    #[must_use]
    pub fn between(mut self, from: &str, to: Option<&str>) -> Self {
        self.from = Some(from.to_owned());
        self.to = to.map(str::to_owned);
        self
    }

    /// With a model's name, which a client may have made up.
    #[must_use]
    pub fn with_model(mut self, model: Option<&str>) -> Self {
        self.model = model.map(words);
        self
    }

    /// As it is written to the hook: one line.
    pub fn bytes(&self) -> Bytes {
        // Plain data with text keys can always be written.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text.into()
    }
}
