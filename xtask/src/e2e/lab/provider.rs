//! What Anthropic's hosts answer besides the main conversation: titles, the quota probe, the organisation's settings and limits, the user's
//! profile, a renewed login.

use std::sync::atomic::{AtomicUsize, Ordering};

use hotspare_testkit::{Received, Script, answers};
use serde_json::{Value, json};

use super::super::canary::Secret;
use super::super::faults;

/// The title that every session gets.
const TITLE: &str = r#"{"title":"A short talk"}"#;

/// What a model call is for (Claude Code 2.1.332).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// A turn of the user, with tools.
    Main,
    /// The terminal's title request: streaming, no tools.
    Title,
    /// The quota probe of a login: one token, not streaming.
    Quota,
}

/// The purpose of a model call; `None` for any other request.
pub(super) fn purpose(request: &Received) -> Option<Purpose> {
    if request.method != "POST" || request.path() != "/v1/messages" {
        return None;
    }
    let body = request.json();
    Some(match (body["tools"].as_array().is_some_and(|tools| !tools.is_empty()), body["stream"] == true) {
        (true, _) => Purpose::Main,
        (false, true) => Purpose::Title,
        (false, false) => Purpose::Quota,
    })
}

/// Answers that differ from turn to turn, so that a screen shows which turn is over.
#[derive(Default)]
pub(super) struct Numbered(AtomicUsize);

impl Numbered {
    /// The next answer of this company.
    pub(super) fn next(&self, company: &str) -> Script {
        faults::healthy(&numbered(company, self.0.fetch_add(1, Ordering::SeqCst)))
    }
}

/// The text of a company's answer, counted from 0.
pub(super) fn numbered(company: &str, number: usize) -> String {
    format!("{company} gives answer {number}.")
}

/// Good answers to titles and quota probes, `main` for turns of the user, and 404 for what is no model call.
pub(super) fn model(request: &Received, main: impl FnOnce() -> Script) -> Script {
    match purpose(request) {
        None => Script::not_found(),
        Some(Purpose::Main) => main(),
        Some(Purpose::Title) => faults::healthy(TITLE),
        Some(Purpose::Quota) => json_body(answers::message_json("ok")),
    }
}

/// The answer to whatever is no model call.
pub(super) fn side(request: &Received) -> Script {
    let ok = |body: Value| json_body(body.to_string());
    match (request.method.as_str(), request.path()) {
        (_, "/" | "/api/hello") => Script::new().body(200, &[], ""),
        ("GET", "/api/claude_code/settings") => ok(json!({ "uuid": "5e771465", "checksum": "sha256:0", "settings": {} })),
        ("GET", "/api/claude_code/policy_limits") => ok(json!({ "restrictions": {} })),
        ("GET", "/api/oauth/profile") => ok(profile()),
        ("POST", "/v1/oauth/token") => ok(json!({
            "access_token": Secret::Client.text(), "refresh_token": Secret::Refresh.text(), "expires_in": 28_800, "token_type": "Bearer",
            "scope": "user:inference user:profile",
        })),
        ("POST", "/v1/messages/count_tokens") => ok(json!({ "input_tokens": 12 })),
        ("POST", path) if path.starts_with("/api/event_logging/") => ok(json!({ "accepted_count": 1, "rejected_count": 0 })),
        _ => Script::not_found(),
    }
}

fn json_body(body: String) -> Script {
    Script::new().body(200, &[("content-type", "application/json")], body)
}

/// The user and the organisation of a login.
pub(super) const ACCOUNT_ID: &str = "0a0a0a0a-0000-4000-8000-000000000001";
pub(super) const ORGANISATION_ID: &str = "0b0b0b0b-0000-4000-8000-000000000001";
pub(super) const EMAIL: &str = "user@example.test";

fn profile() -> Value {
    json!({
        "account": { "uuid": ACCOUNT_ID, "email": EMAIL, "has_claude_max": true, "has_claude_pro": false },
        "organization": {
            "uuid": ORGANISATION_ID, "name": "Example", "organization_type": "claude_max",
            "rate_limit_tier": "default_claude_max_5x", "has_extra_usage_enabled": false, "billing_type": "stripe_subscription",
        },
    })
}
