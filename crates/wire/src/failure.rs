//! Turns a status, headers and a body, or an error event, into a failure of its class. Never decides what follows from it.
//!
//! Every reader tolerates partial sets: a missing header or an unreadable body makes the class broader, never wrong.

use std::time::SystemTime;

use hotspare_core::policy::SHORT_THROTTLE;
use hotspare_core::{Endpoint, Failure, FailureKind, Stage};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::limits;
use crate::stream::shortened;

/// What an error body says, where it can be read.
#[derive(Debug, Default)]
struct ErrorBody {
    kind: String,
    message: String,
    code: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    error: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    error_code: Option<String>,
}

/// Reads Anthropic's error shape; anything else gives empty words.
fn read_error(body: &[u8]) -> ErrorBody {
    let Some(inner) = serde_json::from_slice::<Envelope>(body).ok().and_then(|envelope| envelope.error) else {
        return ErrorBody::default();
    };
    ErrorBody {
        kind: inner.kind.unwrap_or_default(),
        message: inner.message.unwrap_or_default(),
        code: inner.details.and_then(|details| details.error_code).unwrap_or_default(),
    }
}

/// Whether a body under a good status is an error all the same: `{"type":"error", …}` or `{"error": {…}}`.
pub fn is_error_body(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Top {
        #[serde(rename = "type", default)]
        kind: Option<String>,
        #[serde(default)]
        error: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Top>(body).is_ok_and(|top| top.kind.as_deref() == Some("error") || (top.kind.is_none() && top.error.is_some()))
}

/// The class of an answer with a status that is no success. `body` is decoded, and may be cut short.
pub fn of_response(endpoint: Endpoint, status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Failure {
    let error = read_error(body);
    let retry_after = limits::retry_after(headers, now);
    let code = status.as_u16();
    let html = limits::text(headers, "content-type").is_some_and(|kind| kind.starts_with("text/html"));
    let kind = match code {
        300..400 => FailureKind::Redirect,
        400 => bad_request(&error),
        401 => FailureKind::Unauthorized,
        402 => FailureKind::Billing,
        403 => FailureKind::Forbidden,
        404 if endpoint == Endpoint::Messages && error.code != "thread_not_found" => FailureKind::ModelNotFound,
        413 => FailureKind::TooLarge,
        429 => return rate_limit(headers, &error, now),
        529 => FailureKind::Overloaded,
        500.. if error.kind == "overloaded_error" => FailureKind::Overloaded,
        408 | 502..=504 => FailureKind::BadGateway,
        500.. if html => FailureKind::BadGateway,
        500.. => FailureKind::ServerError,
        _ => FailureKind::BadRequest,
    };
    Failure::new(kind, Stage::Head, described(code, &error.kind)).with_status(code).with_retry_after(retry_after)
}

/// The class of an `error` event inside a good answer: it counts as the status that its type stands for.
pub fn of_event(kind: &str, message: &str, stage: Stage) -> Failure {
    let status = match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    };
    let error = ErrorBody { kind: kind.into(), message: message.into(), code: String::new() };
    let class = match status {
        400 => bad_request(&error),
        401 => FailureKind::Unauthorized,
        402 => FailureKind::Billing,
        403 => FailureKind::Forbidden,
        404 => FailureKind::ModelNotFound,
        413 => FailureKind::TooLarge,
        429 => FailureKind::Throttled,
        504 => FailureKind::BadGateway,
        529 => FailureKind::Overloaded,
        _ => FailureKind::ServerError,
    };
    Failure::new(class, stage, format!("{} in the stream", described(status, kind))).with_status(status)
}

fn rate_limit(headers: &HeaderMap, error: &ErrorBody, now: SystemTime) -> Failure {
    let retry_after = limits::retry_after(headers, now);
    let unified = limits::unified(headers, now);
    let spend_cap = matches!(error.code.as_str(), "enforced_spend_limit_reached" | "contract_spend_limit_reached");
    let no_retry = limits::text(headers, "x-should-retry") == Some("false");
    let (kind, wait, family_only) = match (unified, retry_after) {
        (Some(unified), _) if unified.rejected => (FailureKind::QuotaExhausted, unified.resets_in.or(retry_after), unified.family_only),
        _ if spend_cap || no_retry => (FailureKind::SpendCap, retry_after, false),
        (_, Some(after)) if after <= SHORT_THROTTLE => (FailureKind::Throttled, retry_after, true),
        (_, Some(_)) => (FailureKind::QuotaExhausted, retry_after, false),
        (_, None) if limits::minute_limit_reached(headers) => (FailureKind::Throttled, None, true),
        (_, None) => (FailureKind::BareRateLimit, None, false),
    };
    let words = match kind {
        FailureKind::QuotaExhausted => "429 usage limit reached",
        FailureKind::SpendCap => "429 spend limit reached",
        _ => "429 rate limited",
    };
    let mut failure = Failure::new(kind, Stage::Head, words).with_status(429).with_retry_after(wait);
    failure.family_only = family_only;
    failure
}

/// A 400 is the request's own fault, but for these: the account's (documented codes, and wording where no code exists), and what only
/// this provider minds.
fn bad_request(error: &ErrorBody) -> FailureKind {
    const ACCOUNT_CODES: [&str; 6] = [
        "organization_on_hold",
        "claude_code_key_creator_not_member",
        "claude_code_version_too_old",
        "cmek_key_disabled",
        "cmek_key_network_blocked",
        "user_profile_required",
    ];
    const PROVIDER_BOUND: [&str; 7] = [
        "invalid `signature` in `thinking` block",
        "thinking.signature",
        "blocks in the latest assistant message cannot be modified",
        "extra inputs are not permitted",
        "for the `anthropic-beta` header",
        "invalid beta flag",
        "input tag 'adaptive'",
    ];
    if ACCOUNT_CODES.contains(&error.code.as_str()) {
        return FailureKind::Billing;
    }
    let message = error.message.to_ascii_lowercase();
    let spend_limit = message.contains("you have reached your specified") && message.contains("api usage limits");
    if message.contains("credit balance is too low") || spend_limit {
        FailureKind::Billing
    } else if PROVIDER_BOUND.iter().any(|words| message.contains(words)) {
        FailureKind::ProviderBound
    } else {
        FailureKind::BadRequest
    }
}

fn described(status: u16, kind: &str) -> String {
    let name = match (kind, status) {
        ("", 529) => "overloaded",
        ("", _) => StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default(),
        (kind, _) => kind.strip_suffix("_error").unwrap_or(kind),
    };
    let clean: String = shortened(name).chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(40).collect();
    format!("{status} {clean}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(status: u16, headers: &[(&'static str, &str)], body: &str) -> Failure {
        let headers = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        of_response(Endpoint::Messages, StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), SystemTime::UNIX_EPOCH)
    }

    fn error(kind: &str, message: &str) -> String {
        serde_json::json!({"type": "error", "error": {"type": kind, "message": message}}).to_string()
    }

    #[track_caller]
    fn check(status: u16, headers: &[(&'static str, &str)], body: &str, kind: FailureKind) {
        assert_eq!(classify(status, headers, body).kind, kind);
    }

    #[test]
    fn statuses_have_their_classes_with_and_without_a_body() {
        check(500, &[], &error("api_error", "x"), FailureKind::ServerError);
        check(500, &[("content-type", "text/html; charset=utf-8")], "<html>", FailureKind::BadGateway);
        for status in [502, 503, 504, 408] {
            check(status, &[], "", FailureKind::BadGateway);
        }
        check(503, &[], &error("overloaded_error", "x"), FailureKind::Overloaded);
        check(529, &[], "not json", FailureKind::Overloaded);
        check(520, &[], "", FailureKind::ServerError);
        check(401, &[], "", FailureKind::Unauthorized);
        check(402, &[], "", FailureKind::Billing);
        check(403, &[], "", FailureKind::Forbidden);
        check(404, &[], "", FailureKind::ModelNotFound);
        check(413, &[], "", FailureKind::TooLarge);
        check(422, &[], "", FailureKind::BadRequest);
        check(307, &[("location", "https://elsewhere.example/")], "", FailureKind::Redirect);
    }

    #[test]
    fn a_429_is_read_from_whatever_headers_there_are() {
        check(429, &[], "", FailureKind::BareRateLimit);
        check(429, &[("retry-after", "20")], "", FailureKind::Throttled);
        check(429, &[("retry-after", "3600")], "", FailureKind::QuotaExhausted);
        check(429, &[("anthropic-ratelimit-tokens-remaining", "0")], "", FailureKind::Throttled);
        check(429, &[("anthropic-ratelimit-unified-status", "rejected")], "", FailureKind::QuotaExhausted);
        check(429, &[("anthropic-ratelimit-unified-status", "allowed"), ("retry-after", "5")], "", FailureKind::Throttled);
        check(429, &[("x-should-retry", "false")], "", FailureKind::SpendCap);
        let body =
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        check(429, &[], body, FailureKind::SpendCap);
    }

    #[test]
    fn a_400_is_the_request_s_fault_unless_it_names_the_account_or_the_provider() {
        check(400, &[], &error("invalid_request_error", "messages: at least one message is required"), FailureKind::BadRequest);
        check(400, &[], &error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), FailureKind::BadRequest);
        check(
            400,
            &[],
            &error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            FailureKind::Billing,
        );
        check(
            400,
            &[],
            &error("invalid_request_error", "You have reached your specified workspace API usage limits."),
            FailureKind::Billing,
        );
        check(
            400,
            &[],
            &error("invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block"),
            FailureKind::ProviderBound,
        );
        check(400, &[], &error("invalid_request_error", "safeguards: Extra inputs are not permitted"), FailureKind::ProviderBound);
        let held = r#"{"error":{"type":"invalid_request_error","message":"","details":{"error_code":"organization_on_hold"}}}"#;
        check(400, &[], held, FailureKind::Billing);
    }

    #[test]
    fn an_error_event_counts_as_the_status_of_its_type() {
        let of = |kind| of_event(kind, "", Stage::Held);
        assert_eq!((of("overloaded_error").kind, of("overloaded_error").status), (FailureKind::Overloaded, Some(529)));
        assert_eq!(of("api_error").kind, FailureKind::ServerError);
        assert_eq!(of("never heard of").kind, FailureKind::ServerError);
        assert_eq!(of("rate_limit_error").kind, FailureKind::Throttled);
    }

    #[test]
    fn words_for_people_are_short_and_clean() {
        assert_eq!(&*classify(529, &[], "").detail, "529 overloaded");
        assert_eq!(&*classify(500, &[], &error("api_error", "secret prompt")).detail, "500 api");
        assert_eq!(&*classify(503, &[], &error("x\n\u{1b}[31m", "")).detail, "503 x[31m");
    }

    #[test]
    fn an_error_under_200_is_seen() {
        assert!(is_error_body(br#"{"type":"error","error":{"type":"api_error"}}"#));
        assert!(is_error_body(br#"{"error":{"message":"x"}}"#));
        assert!(!is_error_body(br#"{"type":"message","content":[]}"#));
        assert!(!is_error_body(b"[]"));
    }
}
