//! Refusals in the words and envelopes of many providers. The sentences are our own; codes, statuses and shapes are those that public issues
//! and documents show. Each names the part at fault, from which the matrix derives the outcome.

use hotspare_testkit::Script;

/// The part at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The request: the client mends it on this wording, or it names a field. Relayed from the primary, byte for byte.
    Request,
    /// Unknown: a second profile is tried. If it answers, the profile was at fault; if it refuses too, the request.
    Unknown,
    /// The profile. With no other profile left the client gets this status.
    Profile(u16),
}

/// One refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its name in the table.
    pub word: &'static str,
    pub status: u16,
    pub headers: &'static [(&'static str, &'static str)],
    /// `@who` stands for the profile that refuses.
    pub body: &'static str,
    pub blame: Blame,
}

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
const HTML: &[(&str, &str)] = &[("Content-Type", "text/html")];

const fn unknown(word: &'static str, status: u16, body: &'static str) -> Refusal {
    Refusal { word, status, headers: JSON, body, blame: Blame::Unknown }
}

const fn of_profile(word: &'static str, status: u16, body: &'static str, none_left: u16) -> Refusal {
    Refusal { word, status, headers: JSON, body, blame: Blame::Profile(none_left) }
}

const fn page(word: &'static str, status: u16, body: &'static str, none_left: u16) -> Refusal {
    Refusal { word, status, headers: HTML, body, blame: Blame::Profile(none_left) }
}

const fn of_request(word: &'static str, status: u16, body: &'static str) -> Refusal {
    Refusal { word, status, headers: JSON, body, blame: Blame::Request }
}

/// Unlisted words under a status without a meaning of its own.
const NO_SUCH_LUCK: &str = r#"{"error":{"message":"The tide is out at @who today","type":"tide_error"}}"#;

/// Every refusal of the matrix.
pub(crate) static REFUSALS: [Refusal; 39] = [
    unknown(
        "400-unheard-of",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"The moon at @who is in the wrong house"},"request_id":"req_1"}"#,
    ),
    unknown("400-error-string", 400, r#"{"error":"not on a Tuesday at @who"}"#),
    unknown("400-list", 400, r#"[{"error":{"code":400,"message":"Not as things stand at @who","status":"FAILED_PRECONDITION"}}]"#),
    unknown("400-top-level", 400, r#"{"message":"nope, says @who","code":"E1077"}"#),
    unknown(
        "400-details-list",
        400,
        r#"{"error":{"code":400,"message":"Come back with a hat, says @who","status":"FAILED_PRECONDITION","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"NO_HAT","domain":"hats.test"}]}}"#,
    ),
    unknown("400-chinese", 400, r#"{"error":{"message":"今天@who不办理此项业务","type":"bad_day"}}"#),
    unknown(
        "400-json-in-a-string",
        400,
        r#"{"error":{"message":"{\"error\":{\"message\":\"{\\\"detail\\\":\\\"the lift is stuck at @who\\\"}\"}}","type":"upstream_error"}}"#,
    ),
    unknown("400-bare-string", 400, r#""out for lunch, @who""#),
    // A proxy on the way, and a retired model.
    of_profile("407", 407, NO_SUCH_LUCK, 424),
    of_profile("410", 410, NO_SUCH_LUCK, 410),
    unknown("409", 409, NO_SUCH_LUCK),
    unknown("412", 412, NO_SUCH_LUCK),
    unknown("421", 421, NO_SUCH_LUCK),
    unknown("422", 422, NO_SUCH_LUCK),
    unknown("423", 423, NO_SUCH_LUCK),
    unknown("424", 424, NO_SUCH_LUCK),
    unknown("425", 425, NO_SUCH_LUCK),
    unknown("451", 451, NO_SUCH_LUCK),
    unknown("498", 498, NO_SUCH_LUCK),
    unknown("499", 499, NO_SUCH_LUCK),
    of_profile("429-balance-code", 429, r#"{"error":{"code":"1113","message":"余额不足,请充值"}}"#, 424),
    of_profile(
        "500-balance",
        500,
        r#"{"type":"error","error":{"type":"api_error","message":"insufficient balance (1008)"},"request_id":"x"}"#,
        424,
    ),
    of_profile(
        "400-extra-usage",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"You're out of extra usage for now"}}"#,
        424,
    ),
    of_profile(
        "400-organization",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled, ask its admin"}}"#,
        424,
    ),
    of_profile(
        "400-quota-in-a-string",
        400,
        r#"{"error":{"message":"upstream said: {\"error\":{\"code\":\"insufficient_quota\",\"message\":\"the purse is empty\"}}","type":"relay_error"}}"#,
        424,
    ),
    of_profile(
        "429-day-in-a-list",
        429,
        r#"[{"error":{"code":429,"message":"A limit was met","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel"}]}]}}]"#,
        503,
    ),
    of_profile(
        "403-region",
        403,
        r#"{"error":{"message":"This service is not available in your region","code":"unsupported_country"}}"#,
        424,
    ),
    of_profile("400-model", 400, r#"{"error":{"message":"The model `claude-x` does not exist here","code":"model_not_found"}}"#, 400),
    page("401-html", 401, "<html><body>Please sign in</body></html>", 503),
    page("403-html", 403, "<html><body>Access denied by the edge</body></html>", 503),
    Refusal {
        word: "403-mitigated",
        status: 403,
        headers: &[("Content-Type", "text/html"), ("cf-mitigated", "challenge")],
        body: "<html><body>One moment</body></html>",
        blame: Blame::Profile(503),
    },
    page("404-html", 404, "<html><body>404 page not found</body></html>", 503),
    Refusal { word: "404-empty", status: 404, headers: &[], body: "", blame: Blame::Profile(503) },
    page("413-html", 413, "<html><body>413 Request Entity Too Large</body></html>", 413),
    of_request(
        "400-too-long",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210001 tokens > 200000 maximum"},"request_id":"req_@who"}"#,
    ),
    of_request(
        "400-field-path",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.0.content.0.text.text: Field required"},"request_id":"req_@who"}"#,
    ),
    of_request(
        "400-role",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.role: Input should be 'user' or 'assistant'"},"request_id":"req_@who"}"#,
    ),
    of_request(
        "400-foreign-too-long",
        400,
        r#"{"error":{"message":"maximum context length is 200000 tokens, @who counted more","code":"context_length_exceeded"}}"#,
    ),
    of_request(
        "400-usage-policy",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"},"request_id":"req_@who"}"#,
    ),
];

impl Refusal {
    /// The body with this profile's name.
    pub(crate) fn body_of(&self, profile: &str) -> String {
        self.body.replace("@who", profile)
    }

    /// The response of this profile.
    pub(crate) fn script(&self, profile: &str) -> Script {
        Script::new().body(self.status, self.headers, self.body_of(profile))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_labelled_json_are_json() {
        for refusal in REFUSALS.iter().filter(|refusal| refusal.headers == JSON) {
            let body = refusal.body_of("a");
            assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}: {body}", refusal.word);
        }
    }

    #[test]
    fn relayed_bodies_name_their_profile() {
        for refusal in REFUSALS.iter().filter(|refusal| matches!(refusal.blame, Blame::Request | Blame::Unknown)) {
            assert_ne!(refusal.body_of("a"), refusal.body_of("b"), "{}", refusal.word);
        }
    }
}
