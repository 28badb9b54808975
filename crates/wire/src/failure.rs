//! Turns a status, headers and a body, or an error event, into a failure of its class. Never decides what follows from it.
//!
//! Every reader tolerates partial sets: a missing header or an unreadable body makes the class broader, never wrong. What names and words
//! mean is read in `refusal`.

use std::time::SystemTime;

use hotspare_core::{Endpoint, Failure, FailureKind, Stage};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::refusal::{self, Answer, Refusal};

/// Longest type of an error that is shown; Anthropic's longest has 21 letters.
const TYPE_CAP: usize = 40;

/// The words of a refusal, in whatever shape it came; empty where it has none.
pub(crate) fn message_of(body: &[u8]) -> String {
    refusal::words_of(body)
}

/// Whether a body under a good status is an error all the same: `{"type":"error", …}`, `{"error": {…}}`, `{"code":500,"msg":…}`,
/// `{"base_resp":{"status_code":…}}`, `{"success":false, …}`.
pub fn is_error_body(body: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(items)) => items.first().is_some_and(|item| item.get("error").is_some_and(|error| !error.is_null())),
        Ok(body @ Value::Object(_)) => is_error_object(&body),
        _ => false,
    }
}

fn is_error_object(body: &Value) -> bool {
    let is_there = |key: &str| body.get(key).is_some_and(|value| !value.is_null());
    match body.get("type").and_then(Value::as_str) {
        Some("error") => return true,
        // Relays whose type is empty or Go's `<nil>` say it elsewhere.
        Some(kind) if !kind.is_empty() && kind != "<nil>" && is_there("content") => return false,
        _ => {}
    }
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let told = |key: &str| body.get(key).and_then(number);
    let status = ["code", "status", "status_code", "statusCode"].into_iter().find_map(told);
    let has_words = ["msg", "message", "detail", "error_msg"].into_iter().any(is_there);
    let has_answer = ["content", "choices", "input_tokens", "data"].into_iter().any(is_there);
    is_there("error")
        || body.get("success") == Some(&Value::Bool(false))
        || body.pointer("/base_resp/status_code").and_then(number).is_some_and(|status| status != 0)
        || status.is_some_and(|status| status >= 400) && has_words && !has_answer
}

/// The class of an answer with a status that is no success. `body` is decoded, and may be cut short.
pub fn of_response(endpoint: Endpoint, status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Failure {
    Refusal::read(Answer { endpoint, status: status.as_u16(), headers, body, now }).failure(Stage::Head)
}

/// The class of a whole answer that is an error although its status is good; `None` if it is not an error. It was told by the answer's body,
/// and counts as the status that it names.
pub fn under_good_status(endpoint: Endpoint, body: &[u8], now: SystemTime) -> Option<Failure> {
    is_error_body(body).then(|| of_no_answer(endpoint, &HeaderMap::new(), body, now))
}

/// The class of a body under a good status that is known to be no answer, whatever its shape: an error, a page, nothing, or something else.
pub fn of_no_answer(endpoint: Endpoint, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Failure {
    let refusal = Refusal::read(Answer { endpoint, status: 400, headers, body, now });
    let words = "200 with an error in its body";
    // Without a status nothing but known names and words can say more than that it is no answer.
    let Some(status) = refusal.status_named().or_else(|| refusal.kind_told().map(|_| 400)) else {
        return Failure::new(FailureKind::WrongContent, Stage::Held, words);
    };
    let mut failure = refusal.with_status(status).failure(Stage::Held);
    failure.detail = format!("{words}: {}", failure.detail).into();
    failure
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

/// Whether a code decides by itself what a failure is.
pub(crate) fn is_known_name(code: &str) -> bool {
    refusal::is_known_name(code)
}

/// The class of an `error` event inside a good answer: it counts as the status that its type stands for.
pub fn of_event(kind: &str, message: &str, stage: Stage, now: SystemTime) -> Failure {
    let data = serde_json::json!({ "error": { "type": kind, "message": message } }).to_string();
    of_error_event(data.as_bytes(), stage, now)
}

/// The class of an event's data that is an error of any shape: of Anthropic's, a chunk of another company's with an `error`, or less.
pub fn of_error_event(data: &[u8], stage: Stage, now: SystemTime) -> Failure {
    let headers = HeaderMap::new();
    let refusal = Refusal::read(Answer { endpoint: Endpoint::Messages, status: 500, headers: &headers, body: data, now });
    let status = refusal.status_named().unwrap_or(500);
    let mut failure = refusal.with_status(status).failure(stage);
    if failure.kind == FailureKind::BareRateLimit {
        // It was an answer already: the limit is not bound to the request.
        failure.kind = FailureKind::Throttled;
        failure.family_only = true;
    }
    failure.detail = format!("{} in the stream", failure.detail).into();
    failure
}

/// A body that makes Claude Code shorten its conversation, for a request that no profile takes for its size.
///
/// The token is read by 2.1.330 and later whatever the other words say; 2.1.330's own wording stands first for the versions before.
pub fn shortening_body(words: &str) -> String {
    let message = format!("prompt is too long: {words} (capability_rejected: prompt_too_long)");
    serde_json::json!({ "type": "error", "error": { "type": "invalid_request_error", "message": message } }).to_string()
}

/// The status and the error's type. A provider may put anything there, also the credential that it was told: only what can be the name of a
/// type is shown.
pub(crate) fn described(status: u16, kind: &str) -> String {
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

    /// A date in an event is counted from today: counted from 1970 it would block the profile for the longest time that is believed.
    #[test]
    fn event_with_a_date_waits_until_that_date() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_772_835_594);
        let failure = of_event("rate_limit_error", "usage limit reached, resets at 2026-03-06 22:29:54 UTC", Stage::Held, now);
        assert_eq!(failure.retry_after, Some(std::time::Duration::from_secs(600)));
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
            assert_eq!(&*of_event(kind, "x", Stage::Held, SystemTime::UNIX_EPOCH).detail, format!("{shown} in the stream"));
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
        check(520, &[], "", FailureKind::BadGateway);
        check(505, &[], "", FailureKind::ServerError);
        check(401, &[], "", FailureKind::Unauthorized);
        check(402, &[], "", FailureKind::Billing);
        check(403, &[], &error("permission_error", "x"), FailureKind::Forbidden);
        check(404, &[], &error("not_found_error", "x"), FailureKind::ModelNotFound);
        check(413, &[], "", FailureKind::TooLarge);
        for status in [400, 409, 412, 421, 422, 423, 424, 425, 451, 498, 499] {
            check(status, &[], &error("x", "x"), FailureKind::Refused);
            check(status, &[], "", FailureKind::Refused);
        }
        check(407, &[], "", FailureKind::Misconfigured);
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
    fn r6_a_400_is_the_request_s_fault_where_it_plainly_says_so() {
        check(400, &[], &error("invalid_request_error", "messages: at least one message is required"), FailureKind::BadRequest);
        check(400, &[], &error("invalid_request_error", "words that nobody has listed"), FailureKind::Refused);
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
            FailureKind::SpendCap,
        );
        check(
            400,
            &[],
            &error("invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block"),
            FailureKind::ProviderBound,
        );
        check(400, &[], &error("invalid_request_error", "safeguards: Extra inputs are not permitted"), FailureKind::ProviderBound);
        let held = r#"{"error":{"type":"invalid_request_error","message":"","details":{"error_code":"organization_on_hold"}}}"#;
        check(400, &[], held, FailureKind::Forbidden);
    }

    #[test]
    fn an_error_event_counts_as_the_status_of_its_type() {
        let of = |kind| of_event(kind, "", Stage::Held, SystemTime::UNIX_EPOCH);
        assert_eq!((of("overloaded_error").kind, of("overloaded_error").status), (FailureKind::Overloaded, Some(529)));
        assert_eq!(of("api_error").kind, FailureKind::ServerError);
        assert_eq!(of("never heard of").kind, FailureKind::ServerError);
        assert_eq!(of("rate_limit_error").kind, FailureKind::Throttled);
    }

    #[test]
    fn each_type_stands_for_one_status_and_its_class() {
        for (kind, status, class) in [
            ("invalid_request_error", 400, FailureKind::Refused),
            ("context_length_exceeded", 400, FailureKind::TooLarge),
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
            let failure = of_event(kind, "", Stage::Held, SystemTime::UNIX_EPOCH);
            assert_eq!((failure.kind, failure.status), (class, Some(status)), "{kind}");
        }
        let signature = "messages.1.content.0: Invalid `signature` in `thinking` block";
        assert_eq!(
            of_event("invalid_request_error", signature, Stage::Held, SystemTime::UNIX_EPOCH).kind,
            FailureKind::ProviderBound,
            "its words count too"
        );
        let words = of_event("timeout_error", "", Stage::Held, SystemTime::UNIX_EPOCH).detail;
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
        assert_eq!(of(Endpoint::Messages, &error("not_found_error", "model: x")), FailureKind::ModelNotFound);
        assert_eq!(of(Endpoint::Messages, ""), FailureKind::BadGateway);
        assert_eq!(of(Endpoint::Messages, "404 page not found"), FailureKind::BadGateway);
        assert_eq!(of(Endpoint::Models, ""), FailureKind::ResourceNotFound);
        let thread = r#"{"error":{"type":"not_found_error","message":"","details":{"error_code":"thread_not_found"}}}"#;
        assert_eq!(of(Endpoint::Messages, thread), FailureKind::ResourceNotFound);
    }

    #[test]
    fn each_kind_of_429_has_its_words() {
        assert_eq!(&*classify(429, &[("retry-after", "3600")], "").detail, "429 usage limit reached");
        assert_eq!(&*classify(429, &[("x-should-retry", "false")], "").detail, "429 spend limit reached");
        assert_eq!(&*classify(429, &[], "").detail, "429 rate limited");
    }

    #[test]
    fn spend_limit_is_known_by_more_than_one_of_its_words() {
        check(400, &[], &error("invalid_request_error", "You have reached your specified length"), FailureKind::Refused);
        check(400, &[], &error("invalid_request_error", "See https://docs.example/api usage"), FailureKind::Refused);
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
        check(403, &[], &openrouter(403, serde_json::json!({"reasons": ["x"], "flagged_input": "secret"})), FailureKind::ContentPolicy);
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
        assert_eq!(kind(r#"{"code":500,"msg":"x"}"#), Some((FailureKind::ServerError, Stage::Held)));
        assert_eq!(kind(r#"{"base_resp":{"status_code":2056,"status_msg":"x"}}"#), Some((FailureKind::QuotaExhausted, Stage::Held)));
        assert_eq!(kind(r#"{"base_resp":{"status_code":0,"status_msg":"success"}}"#), None);
        assert_eq!(kind(r#"{"success":false,"message":"x"}"#), Some((FailureKind::WrongContent, Stage::Held)));
        assert_eq!(kind(r#"{"code":30001,"message":"x","data":null}"#), Some((FailureKind::Billing, Stage::Held)));
        assert_eq!(kind(r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]"#), Some((FailureKind::BareRateLimit, Stage::Held)));
    }

    #[test]
    fn size_refusal_gets_the_words_on_which_the_client_compacts() {
        let body = shortening_body("no profile takes 300000 tokens");
        check(400, &[], &body, FailureKind::TooLarge);
        assert!(classify(400, &[], &body).client_mends);
    }

    /// A clock a day behind made a day of two minutes.
    #[test]
    fn absolute_reset_is_relative_to_the_answer_s_own_date() {
        let failure = classify(429, &[("date", "Fri, 06 Mar 2026 14:00:00 GMT"), ("retry-after", "Fri, 06 Mar 2026 14:02:00 GMT")], "");
        assert_eq!((failure.kind, failure.retry_after), (FailureKind::Throttled, Some(std::time::Duration::from_secs(120))));
        let body = error("rate_limit_error", "Usage limit reached, resets at 2026-03-06 16:00:00 UTC");
        let failure = classify(429, &[("date", "Fri, 06 Mar 2026 14:00:00 GMT")], &body);
        assert_eq!((failure.kind, failure.retry_after), (FailureKind::QuotaExhausted, Some(std::time::Duration::from_secs(7200))));
    }

    #[test]
    fn an_error_under_200_is_seen() {
        assert!(is_error_body(br#"{"type":"error","error":{"type":"api_error"}}"#));
        assert!(is_error_body(br#"{"error":{"message":"x"}}"#));
        assert!(!is_error_body(br#"{"type":"message","content":[]}"#));
        assert!(!is_error_body(b"[]"));
    }
}
