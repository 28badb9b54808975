//! What routing may know of a request. Never the prompt.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fit::Needs;

/// Where a request goes, as far as failover cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`: hops like messages, never moves health.
    CountTokens,
    /// `GET /v1/models`: hops like messages, never moves health.
    Models,
    /// Anything else: hops only while no request byte was sent, never moves health.
    Other,
}

impl Endpoint {
    /// Whether outcomes on this endpoint say anything about the profile's health.
    pub fn moves_health(self) -> bool {
        matches!(self, Self::Messages)
    }

    /// The word that stands for it in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::Models => "models",
            Self::Other => "other",
        }
    }
}

/// Who is asking; broken streams end differently for each (measured on Claude Code 2.1.330).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// `claude-cli/… (external, cli)`.
    ClaudeInteractive,
    /// `claude-cli/… (external, sdk-cli)`: `claude -p`.
    ClaudePrint,
    /// Any other program.
    Program,
}

impl ClientKind {
    /// Reads the `user-agent` header.
    pub fn of_user_agent(agent: &str) -> Self {
        let Some(rest) = agent.strip_prefix("claude-cli/") else {
            return Self::Program;
        };
        match rest.split_once('(').map(|(_, detail)| detail) {
            Some(detail) if detail.contains("sdk-") => Self::ClaudePrint,
            Some(detail) if detail.contains("cli") => Self::ClaudeInteractive,
            _ => Self::ClaudePrint,
        }
    }

    /// Whether it is Claude Code in either form.
    pub fn is_claude(self) -> bool {
        !matches!(self, Self::Program)
    }

    /// The word that stands for it in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::ClaudeInteractive => "claude_interactive",
            Self::ClaudePrint => "claude_print",
            Self::Program => "program",
        }
    }
}

/// The family whose capacity and limits a model shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelFamily {
    /// Claude Opus.
    Opus,
    /// Claude Sonnet.
    Sonnet,
    /// Claude Haiku.
    Haiku,
    /// Claude Fable and Mythos.
    Fable,
    /// Any other or unknown model.
    Other,
}

impl ModelFamily {
    /// The word that stands for it in state and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Sonnet => "sonnet",
            Self::Haiku => "haiku",
            Self::Fable => "fable",
            Self::Other => "other",
        }
    }

    /// The family of a model id, in whatever spelling a platform uses.
    pub fn of(model: &str) -> Self {
        let has = |word: &str| contains_ignoring_case(model, word);
        if has("opus") {
            Self::Opus
        } else if has("sonnet") {
            Self::Sonnet
        } else if has("haiku") {
            Self::Haiku
        } else if has("fable") || has("mythos") {
            Self::Fable
        } else {
            Self::Other
        }
    }
}

fn contains_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether a request can go on with slower service, which an account's 5-hour limit may offer (Claude Code 2.1.332).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SlowRequest {
    /// Its client cannot ask for it: behind a base URL Claude Code sends no `anthropic-usage-limit`, and print mode has no commands.
    #[default]
    Unable,
    /// Its client shows the offer, and asks for it once the user has agreed.
    Able,
    /// It asks for it: the user has agreed.
    Asked,
}

/// What routing may know about one client request.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    /// Where it goes.
    pub endpoint: Endpoint,
    /// The model it asks for, where it names one.
    pub model: Option<Arc<str>>,
    /// Who asks.
    pub client: ClientKind,
    /// The client's session and agent, hashed; a session's detour moves no other session.
    pub session: Option<u64>,
    /// Fingerprint of the credential that the client itself sent, if it sent one that is not our local token.
    pub own_credential: Option<u64>,
    /// Digests of that credential's values, by which one that the user has named for another host is known.
    pub credential_digests: Vec<u64>,
    /// True if that credential has the form of Anthropic's keys and logins (`sk-ant-…`).
    pub anthropic_credential: bool,
    /// Whether it can go on with slower service.
    pub slow: SlowRequest,
    /// Life of the prompt cache that the request asks for.
    pub cache_life: Duration,
    /// The client's session with all its agents, hashed: a budget's session.
    pub whole_session: Option<u64>,
    /// Whether the client's own credential is the login of a plan, which is not paid by the token.
    pub on_plan: bool,
    /// Bytes of its body, where the client told.
    pub length: Option<u64>,
    /// What it needs of whoever serves it, once a hop or a limited profile has asked for it: reading the whole body costs too much for a
    /// good answer.
    pub needs: Option<Needs>,
    /// Whether it is side traffic of the client: a title, a summary, a quota check. Its outcome moves no session.
    pub side: bool,
    /// How long the client waits for a response head before it gives up, where it says so (`x-stainless-timeout`).
    pub patience: Option<Duration>,
    /// Whether racing it is harmless: a stream without server-side tools, containers or remote servers. Known only where races are on.
    pub hedgeable: bool,
}

impl RequestFacts {
    /// The model family, [`ModelFamily::Other`] when no model is named.
    pub fn family(&self) -> ModelFamily {
        self.model.as_deref().map_or(ModelFamily::Other, ModelFamily::of)
    }

    /// Key of the session's affinity: session, agent and model family. One family's failures move no other family.
    pub fn stay_key(&self) -> Option<u64> {
        self.session.map(|session| (session & !FAMILY_BITS) | self.family() as u64)
    }

    /// Key of what the session avoids for a while. Side traffic has one of its own, so that its failures move no turn.
    pub fn detour_key(&self) -> Option<u64> {
        if self.side { self.session.map(|session| session | FAMILY_BITS) } else { self.stay_key() }
    }
}

/// The bits of a stay key that hold the model family.
const FAMILY_BITS: u64 = 0b111;

/// The part of a stay key that all families of a session share.
pub(crate) fn session_part(stay_key: u64) -> u64 {
    stay_key & !FAMILY_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_tell_the_clients_apart() {
        let kind = ClientKind::of_user_agent;
        assert_eq!(kind("claude-cli/2.1.330 (external, cli)"), ClientKind::ClaudeInteractive);
        assert_eq!(kind("claude-cli/2.1.330 (external, sdk-cli)"), ClientKind::ClaudePrint);
        assert_eq!(kind("claude-cli/2.1.330 (external, sdk-ts, agent-sdk/0.1)"), ClientKind::ClaudePrint);
        assert_eq!(kind("Anthropic/Python 2.12.0"), ClientKind::Program);
        assert_eq!(kind(""), ClientKind::Program);
    }

    #[test]
    fn families_are_read_from_any_spelling() {
        assert_eq!(ModelFamily::of("anthropic/claude-Opus-5.5"), ModelFamily::Opus);
        assert_eq!(ModelFamily::of("eu.anthropic.claude-sonnet-5-5-v1:0"), ModelFamily::Sonnet);
        assert_eq!(ModelFamily::of("glm-5"), ModelFamily::Other);
        assert_eq!(ModelFamily::of(""), ModelFamily::Other);
    }
}
