//! Turns a status, headers and a body, or an error event, into a failure of its class. Never decides what follows from it.
//!
//! Every reader tolerates partial sets: a missing header or an unreadable body makes the class broader, never wrong. Two envelopes are
//! known: Anthropic's, with a type, and OpenRouter's, with a number and what it knows of the provider behind it.

use std::time::SystemTime;

use hotspare_core::policy::SHORT_THROTTLE;
use hotspare_core::{Endpoint, Failure, FailureKind, Stage};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::limits;
use crate::repair::Repair;

/// Longest type of an error that is shown; Anthropic's longest has 21 letters.
const TYPE_CAP: usize = 40;

/// What an error body says, where it can be read.
#[derive(Debug, Default)]
struct ErrorBody {
    kind: String,
    message: String,
    code: String,
    /// The status in the body, where there is one.
    number: Option<u16>,
    /// OpenRouter's word for whose limit was met.
    limit_source: String,
    /// What the provider behind OpenRouter said.
    behind: String,
    /// Whether OpenRouter's moderation has stopped the request.
    moderated: bool,
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
    #[serde(default)]
    code: Option<serde_json::Value>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    limit_source: Option<String>,
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    raw: Option<serde_json::Value>,
    #[serde(default)]
    reasons: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    error_code: Option<String>,
}

/// Reads both envelopes; anything else gives empty words.
fn read_error(body: &[u8]) -> ErrorBody {
    let Some(inner) = serde_json::from_slice::<Envelope>(body).ok().and_then(|envelope| envelope.error) else {
        return ErrorBody::default();
    };
    let metadata = inner.metadata.unwrap_or_default();
    ErrorBody {
        kind: inner.kind.or(metadata.error_type).unwrap_or_default(),
        message: inner.message.unwrap_or_default(),
        code: inner.details.and_then(|details| details.error_code).unwrap_or_default(),
        number: inner.code.as_ref().and_then(number),
        limit_source: metadata.limit_source.unwrap_or_default(),
        behind: metadata.raw.map(|raw| raw.as_str().map_or_else(|| raw.to_string(), str::to_owned)).unwrap_or_default(),
        moderated: metadata.reasons.is_some(),
    }
}

/// A status, as a number or in quotes.
fn number(code: &serde_json::Value) -> Option<u16> {
    let number = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|number| (100..600).contains(number))
}

/// The words of a refusal, in whichever envelope it came; empty where it has none.
pub(crate) fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Bare {
        #[serde(default)]
        message: Option<String>,
    }
    let error = read_error(body);
    if !error.behind.is_empty() {
        // OpenRouter's own words say only that there are others.
        return error.behind;
    }
    if !error.message.is_empty() {
        return error.message;
    }
    serde_json::from_slice::<Bare>(body).ok().and_then(|bare| bare.message).unwrap_or_default()
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
        // In flight, others of the same account use its credit up: it comes back by itself.
        402 if error.limit_source == "openrouter_in_flight_budget" => FailureKind::Throttled,
        402 => FailureKind::Billing,
        // The request was stopped, not the account.
        403 if error.moderated => FailureKind::ProviderBound,
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
    let mut failure = Failure::new(kind, Stage::Head, described(code, &error.kind)).with_status(code).with_retry_after(retry_after);
    failure.no_retry = forbids_retry(headers);
    failure
}

fn forbids_retry(headers: &HeaderMap) -> bool {
    limits::text(headers, "x-should-retry") == Some("false")
}

/// The class of a whole answer that is an error although its status is good; none where it is no error. It was told by the answer's body,
/// and counts as the status that it names.
pub fn under_good_status(endpoint: Endpoint, body: &[u8], now: SystemTime) -> Option<Failure> {
    if !is_error_body(body) {
        return None;
    }
    let error = read_error(body);
    let status = error.number.or_else(|| status_of(&error.kind)).and_then(|number| StatusCode::from_u16(number).ok());
    let Some(status) = status.filter(|status| status.as_u16() >= 400) else {
        return Some(Failure::new(FailureKind::WrongContent, Stage::Held, "200 with an error in its body"));
    };
    let mut failure = of_response(endpoint, status, &HeaderMap::new(), body, now);
    failure.stage = Stage::Held;
    failure.detail = format!("200 with an error in its body: {}", failure.detail).into();
    Some(failure)
}

/// The type of Anthropic's that an envelope with nothing but a number stands for.
pub(crate) fn type_of_number(number: u16) -> &'static str {
    match number {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 502..=504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

/// The status that an error's type stands for: Anthropic's words, then OpenRouter's.
fn status_of(kind: &str) -> Option<u16> {
    Some(match kind {
        "invalid_request_error" | "context_length_exceeded" => 400,
        "authentication_error" => 401,
        "billing_error" | "payment_required" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" => 429,
        "provider_unavailable" => 503,
        "timeout_error" => 504,
        "overloaded_error" | "provider_overloaded" => 529,
        _ => return None,
    })
}

/// The class of an `error` event inside a good answer: it counts as the status that its type stands for.
pub fn of_event(kind: &str, message: &str, stage: Stage) -> Failure {
    let status = status_of(kind).unwrap_or(500);
    let error = ErrorBody { message: message.into(), ..ErrorBody::default() };
    let class = match status {
        400 => bad_request(&error),
        401 => FailureKind::Unauthorized,
        402 => FailureKind::Billing,
        403 => FailureKind::Forbidden,
        404 => FailureKind::ModelNotFound,
        413 => FailureKind::TooLarge,
        429 => FailureKind::Throttled,
        503 | 504 => FailureKind::BadGateway,
        529 => FailureKind::Overloaded,
        _ => FailureKind::ServerError,
    };
    Failure::new(class, stage, format!("{} in the stream", described(status, kind))).with_status(status)
}

fn rate_limit(headers: &HeaderMap, error: &ErrorBody, now: SystemTime) -> Failure {
    let retry_after = limits::retry_after(headers, now);
    let told = limits::reading(headers, now);
    let spend_cap = matches!(error.code.as_str(), "enforced_spend_limit_reached" | "contract_spend_limit_reached");
    let no_retry = forbids_retry(headers);
    let (kind, wait, family_only) = match (told, retry_after) {
        (Some(told), _) if told.rejected => (FailureKind::QuotaExhausted, told.resets_in.or(retry_after), told.family_only),
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
    failure.no_retry = no_retry;
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
    if ACCOUNT_CODES.contains(&error.code.as_str()) {
        return FailureKind::Billing;
    }
    // OpenRouter's own words for a failure behind it, which is not the request's fault (peers.md R6).
    let relayed = error.message.trim().eq_ignore_ascii_case("provider returned error");
    let told = if error.behind.is_empty() { &error.message } else { &error.behind };
    let message = told.to_ascii_lowercase();
    let spend_limit = message.contains("you have reached your specified") && message.contains("api usage limits");
    if message.contains("credit balance is too low") || spend_limit {
        FailureKind::Billing
    } else if Repair::of_message(told).is_some() || message.contains("extra inputs are not permitted") {
        FailureKind::ProviderBound
    } else if message.contains("prompt is too long") {
        // How long a prompt may be differs from one provider to the next.
        FailureKind::TooLarge
    } else if relayed && !message.contains("too long") && !message.contains("invalid_request_error") {
        FailureKind::BadGateway
    } else {
        FailureKind::BadRequest
    }
}

/// The status and the error's type. A provider may put anything there, also the credential that it was told: only what can be the name of a
/// type is shown.
fn described(status: u16, kind: &str) -> String {
    let is_name = (1..=TYPE_CAP).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let name = match status {
        _ if is_name => kind.strip_suffix("_error").unwrap_or(kind),
        529 => "overloaded",
        _ => StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default(),
    };
    format!("{status} {name}").trim_end().to_owned()
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
    fn of_an_error_s_type_only_a_name_is_shown() {
        for (kind, shown) in [
            ("api_error", "500 api"),
            ("InternalServerError", "500 InternalServerError"),
            ("", "500 Internal Server Error"),
            ("sk-ant-test-1234567890", "500 Internal Server Error"),
            ("api_error for key ABCDEFGH", "500 Internal Server Error"),
            ("\u{1b}[2J", "500 Internal Server Error"),
            (&"a".repeat(TYPE_CAP + 1), "500 Internal Server Error"),
        ] {
            assert_eq!(&*classify(500, &[], &error(kind, "x")).detail, shown);
            assert_eq!(&*of_event(kind, "x", Stage::Held).detail, format!("{shown} in the stream"));
        }
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

    /// teamclaude #137 #165 #271 #288 #296 #307, better-ccflare #301 #169, subrouter #64: kinds of 429 taken for one another.
    #[test]
    fn r26_a_429_is_read_from_whatever_headers_there_are() {
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

    /// cc-switch #2438: a 400 that was the provider's own ended the turn.
    #[test]
    fn r6_a_400_is_the_request_s_fault_unless_it_names_the_account_or_the_provider() {
        check(400, &[], &error("invalid_request_error", "messages: at least one message is required"), FailureKind::BadRequest);
        check(400, &[], &error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), FailureKind::TooLarge);
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
    fn each_type_stands_for_one_status_and_its_class() {
        for (kind, status, class) in [
            ("invalid_request_error", 400, FailureKind::BadRequest),
            ("context_length_exceeded", 400, FailureKind::BadRequest),
            ("authentication_error", 401, FailureKind::Unauthorized),
            ("billing_error", 402, FailureKind::Billing),
            ("payment_required", 402, FailureKind::Billing),
            ("permission_error", 403, FailureKind::Forbidden),
            ("not_found_error", 404, FailureKind::ModelNotFound),
            ("request_too_large", 413, FailureKind::TooLarge),
            ("rate_limit_error", 429, FailureKind::Throttled),
            ("rate_limit_exceeded", 429, FailureKind::Throttled),
            ("provider_unavailable", 503, FailureKind::BadGateway),
            ("timeout_error", 504, FailureKind::BadGateway),
            ("overloaded_error", 529, FailureKind::Overloaded),
            ("provider_overloaded", 529, FailureKind::Overloaded),
            ("api_error", 500, FailureKind::ServerError),
        ] {
            let failure = of_event(kind, "", Stage::Held);
            assert_eq!((failure.kind, failure.status), (class, Some(status)), "{kind}");
        }
        let signature = "messages.1.content.0: Invalid `signature` in `thinking` block";
        assert_eq!(of_event("invalid_request_error", signature, Stage::Held).kind, FailureKind::ProviderBound, "its words count too");
        let words = of_event("timeout_error", "", Stage::Held).detail;
        assert!(words.contains("504 timeout"), "{words}");
    }

    #[test]
    fn a_number_alone_has_the_type_that_anthropic_gives_it() {
        for (number, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (408, "timeout_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (501, "api_error"),
            (502, "timeout_error"),
            (503, "timeout_error"),
            (504, "timeout_error"),
            (505, "api_error"),
            (529, "overloaded_error"),
        ] {
            assert_eq!(type_of_number(number), kind, "{number}");
        }
    }

    #[test]
    fn a_404_speaks_of_the_model_only_where_a_model_is_asked() {
        let of = |endpoint, body: &str| {
            of_response(endpoint, StatusCode::NOT_FOUND, &HeaderMap::new(), body.as_bytes(), SystemTime::UNIX_EPOCH).kind
        };
        assert_eq!(of(Endpoint::Messages, ""), FailureKind::ModelNotFound);
        assert_eq!(of(Endpoint::Models, ""), FailureKind::BadRequest);
        let thread = r#"{"error":{"type":"not_found_error","message":"","details":{"error_code":"thread_not_found"}}}"#;
        assert_eq!(of(Endpoint::Messages, thread), FailureKind::BadRequest);
    }

    #[test]
    fn each_kind_of_429_has_its_words() {
        assert_eq!(&*classify(429, &[("retry-after", "3600")], "").detail, "429 usage limit reached");
        assert_eq!(&*classify(429, &[("x-should-retry", "false")], "").detail, "429 spend limit reached");
        assert_eq!(&*classify(429, &[], "").detail, "429 rate limited");
    }

    #[test]
    fn a_spend_limit_is_known_by_both_halves_of_its_words() {
        check(400, &[], &error("invalid_request_error", "You have reached your specified length"), FailureKind::BadRequest);
        check(400, &[], &error("invalid_request_error", "see the docs on API usage limits"), FailureKind::BadRequest);
    }

    #[test]
    fn words_for_people_are_short_and_clean() {
        assert_eq!(&*classify(529, &[], "").detail, "529 overloaded");
        assert_eq!(&*classify(500, &[], &error("api_error", "secret prompt")).detail, "500 api");
        assert_eq!(&*classify(503, &[], &error("x\n\u{1b}[31m", "")).detail, "503 Service Unavailable");
    }

    /// decocms/studio#6657: "400 Provider returned error" is a failure behind `OpenRouter`.
    #[test]
    fn r6_the_envelope_of_openrouter_is_read() {
        let openrouter = |code: u16, metadata: serde_json::Value| {
            serde_json::json!({"error": {"code": code, "message": "Provider returned error", "metadata": metadata}}).to_string()
        };
        check(402, &[], &openrouter(402, serde_json::json!({})), FailureKind::Billing);
        let in_flight = openrouter(402, serde_json::json!({"limit_source": "openrouter_in_flight_budget"}));
        check(402, &[("retry-after", "3")], &in_flight, FailureKind::Throttled);
        check(403, &[], &openrouter(403, serde_json::json!({"reasons": ["x"], "flagged_input": "secret"})), FailureKind::ProviderBound);
        check(400, &[], &openrouter(400, serde_json::json!({"provider_name": "x"})), FailureKind::BadGateway);
        let signature = error("invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block");
        check(400, &[], &openrouter(400, serde_json::json!({"raw": signature})), FailureKind::ProviderBound);
        let long = error("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum");
        check(400, &[], &openrouter(400, serde_json::json!({"raw": long})), FailureKind::TooLarge);
        check(502, &[], &openrouter(502, serde_json::json!({})), FailureKind::BadGateway);
    }

    /// cc-switch #4637: an error or nothing under 200 was passed on as an answer.
    #[test]
    fn r14_an_error_under_a_good_status_is_of_the_class_that_it_names() {
        let kind = |body: &str| {
            under_good_status(Endpoint::Messages, body.as_bytes(), SystemTime::UNIX_EPOCH).map(|failure| (failure.kind, failure.stage))
        };
        assert_eq!(kind(r#"{"error":{"code":402,"message":"no credits"}}"#), Some((FailureKind::Billing, Stage::Held)));
        assert_eq!(kind(r#"{"error":{"code":"429","message":"slow down"}}"#), Some((FailureKind::BareRateLimit, Stage::Held)));
        assert_eq!(kind(r#"{"type":"error","error":{"type":"overloaded_error"}}"#), Some((FailureKind::Overloaded, Stage::Held)));
        assert_eq!(
            kind(r#"{"error":{"message":"","metadata":{"error_type":"provider_unavailable"}}}"#),
            Some((FailureKind::BadGateway, Stage::Held))
        );
        assert_eq!(kind(r#"{"error":{"message":"what"}}"#), Some((FailureKind::WrongContent, Stage::Held)));
        assert_eq!(kind(r#"{"error":{"code":200}}"#), Some((FailureKind::WrongContent, Stage::Held)));
        assert_eq!(kind(r#"{"type":"message","content":[]}"#), None);
    }

    #[test]
    fn an_error_under_200_is_seen() {
        assert!(is_error_body(br#"{"type":"error","error":{"type":"api_error"}}"#));
        assert!(is_error_body(br#"{"error":{"message":"x"}}"#));
        assert!(!is_error_body(br#"{"type":"message","content":[]}"#));
        assert!(!is_error_body(b"[]"));
    }
}
