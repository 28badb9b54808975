//! Decides whether a request is served, and which facts of it routing may know. Never reads a body.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use hotspare_core::policy::{CACHE_LIFE, CACHE_LIFE_LONG};
use hotspare_core::{ClientKind, Endpoint, RequestFacts, SlowRequest};
use hotspare_upstream::ClientCredential;
use hotspare_upstream::auth::X_API_KEY;
use hotspare_upstream::headers::{LOCAL_TOKEN, VIA};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use subtle::ConstantTimeEq;

use crate::answer;
use crate::body::ClientBody;
use crate::intercept;

/// Where a request goes inside the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// To a provider.
    Upstream(Endpoint),
    /// Answered here: the client's warm-up.
    Hello,
    /// Answered here: what `hotspare status` asks.
    Status,
    /// Answered here: requests that have no answer yet.
    InFlight,
    /// Answered here: what was told of moves.
    Notices,
    /// Answered here: what a session has not heard of them.
    NoticesFor,
    /// Answered here: `hotspare reset`.
    Reset,
    /// Answered here: `hotspare switch`.
    Switch,
    /// Answered here: the folder of a session, named by the client's hooks.
    Session,
    /// Answered here: `hotspare drill`.
    Drill,
    /// Answered here: whether the spares of a drill would answer.
    CheckSpares,
    /// Answered here: the end of a drill.
    EndDrill,
    /// Answered here: `hotspare profile pause`.
    Pause,
    /// Answered here: `hotspare profile resume`.
    Resume,
    /// Ours, and not there: no provider hears of it.
    Nowhere,
    /// Answered here: what Prometheus asks.
    Metrics,
}

/// Whether a request within a tunnel asks a model: that alone is carried from profile to profile, all else goes where it was sent.
pub fn asks_a_model(method: &Method, uri: &Uri) -> Option<Endpoint> {
    match (method, uri.path()) {
        (&Method::POST, "/v1/messages") => Some(Endpoint::Messages),
        (&Method::POST, "/v1/messages/count_tokens") => Some(Endpoint::CountTokens),
        _ => None,
    }
}

/// Finds the room by method and path; the query is nobody's business here.
pub fn room(method: &Method, uri: &Uri) -> Room {
    match (method, uri.path()) {
        // `claude doctor` sends the GET, without our header (measured, 2.1.331).
        (&Method::HEAD, "/" | "/api/hello") | (&Method::GET, "/api/hello") => Room::Hello,
        (&Method::GET, "/hotspare/status") => Room::Status,
        (&Method::GET, "/hotspare/in_flight") => Room::InFlight,
        (&Method::GET, "/hotspare/notices") => Room::Notices,
        (&Method::POST, "/hotspare/notices") => Room::NoticesFor,
        (&Method::POST, "/hotspare/reset") => Room::Reset,
        (&Method::POST, "/hotspare/switch") => Room::Switch,
        (&Method::POST, "/hotspare/session") => Room::Session,
        (&Method::POST, "/hotspare/drill") => Room::Drill,
        (&Method::POST, "/hotspare/drill/check") => Room::CheckSpares,
        (&Method::POST, "/hotspare/drill/end") => Room::EndDrill,
        (&Method::POST, "/hotspare/pause") => Room::Pause,
        (&Method::POST, "/hotspare/resume") => Room::Resume,
        (&Method::GET, "/metrics") => Room::Metrics,
        (&Method::POST, "/v1/messages") => Room::Upstream(Endpoint::Messages),
        (&Method::POST, "/v1/messages/count_tokens") => Room::Upstream(Endpoint::CountTokens),
        (&Method::GET, "/v1/models") => Room::Upstream(Endpoint::Models),
        (_, path) if path.starts_with("/hotspare/") => Room::Nowhere,
        _ => Room::Upstream(Endpoint::Other),
    }
}

/// A request that may be served.
#[derive(Debug)]
pub struct Admitted {
    /// The client's own credential, without our token.
    pub credential: ClientCredential,
}

/// Checks what comes before any body byte is read: browsers (T2), the local token (T3), loops (T25).
#[expect(clippy::result_large_err, reason = "the refusal is the answer that is sent, made once")]
pub fn admit(headers: &HeaderMap, token: &str) -> Result<Admitted, Response<ClientBody>> {
    if headers.contains_key(header::ORIGIN) {
        return Err(refusal(StatusCode::FORBIDDEN, "permission_error", "requests from web pages are not served"));
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"none" && site != b"same-origin") {
        return Err(refusal(StatusCode::FORBIDDEN, "permission_error", "requests from web pages are not served"));
    }
    let Some(credential) = credential(headers, token) else {
        let mut response = refusal(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            "hotspare: the local token is missing or wrong; start the client with `hotspare run -- …`",
        );
        // The client would otherwise ask again for three minutes (measured).
        response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
        return Err(response);
    };
    no_loop(headers)?;
    Ok(Admitted { credential })
}

/// Whether a request may come from a program inside a session, and not from Claude Code: it does not bear its name, and no web page or
/// other hotspare has sent it.
pub fn may_be_inside(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_page = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    !agent.starts_with(b"claude-cli/") && !is_page && !headers.contains_key(header::VIA)
}

/// The same for a request within a tunnel, which was opened with the token: no page can get there, and the request needs no token of its own.
#[expect(clippy::result_large_err, reason = "the refusal is the answer that is sent, made once")]
pub fn admit_within(headers: &HeaderMap, token: &str) -> Result<Admitted, Response<ClientBody>> {
    no_loop(headers)?;
    Ok(Admitted { credential: own_credential(headers, token).0 })
}

#[expect(clippy::result_large_err, reason = "the refusal is the answer that is sent, made once")]
fn no_loop(headers: &HeaderMap) -> Result<(), Response<ClientBody>> {
    let looped = headers.get_all(header::VIA).iter().any(|via| via.to_str().is_ok_and(|via| via.split(',').any(|hop| hop.trim() == VIA)));
    if looped {
        let message = "hotspare: this request has already passed through hotspare; a profile's base_url points back at it";
        return Err(refusal(StatusCode::FAILED_DEPENDENCY, "invalid_request_error", message));
    }
    Ok(())
}

fn refusal(status: StatusCode, kind: &str, message: &str) -> Response<ClientBody> {
    let mut response = answer::error(status, kind, message);
    // The body behind a refused head is not read.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The client's credential without our token; none when our token is nowhere.
fn credential(headers: &HeaderMap, token: &str) -> Option<ClientCredential> {
    let (own, has_token) = own_credential(headers, token);
    has_token.then_some(own)
}

/// The client's credential without our token, and whether that was there. The token stands in its own header or, for SDK programs, in place
/// of the key.
fn own_credential(headers: &HeaderMap, token: &str) -> (ClientCredential, bool) {
    let mut has_token = headers.get_all(LOCAL_TOKEN).iter().any(|value| bool::from(value.as_bytes().ct_eq(token.as_bytes())));
    let mut own = ClientCredential::default();
    for name in [header::AUTHORIZATION, X_API_KEY] {
        for value in headers.get_all(&name) {
            if stands_for_key(&name, value, token) {
                has_token = true;
            } else {
                let mut value = value.clone();
                value.set_sensitive(true);
                own.headers.push((name.clone(), value));
            }
        }
    }
    (own, has_token)
}

/// Whether the value of a credential's header is our token, in constant time.
fn stands_for_key(name: &http::HeaderName, value: &HeaderValue, token: &str) -> bool {
    let secret = if *name == header::AUTHORIZATION { value.as_bytes().strip_prefix(b"Bearer ") } else { Some(value.as_bytes()) };
    secret.is_some_and(|secret| bool::from(secret.ct_eq(token.as_bytes())))
}

/// What routing may know, before the body is read.
pub fn facts(endpoint: Endpoint, headers: &HeaderMap, credential: &ClientCredential) -> RequestFacts {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    RequestFacts {
        endpoint,
        model: None,
        client: ClientKind::of_user_agent(text("user-agent").unwrap_or_default()),
        session: text("x-claude-code-session-id").map(|session| hashed(&(session, text("x-claude-code-agent-id")))),
        own_credential: (!credential.is_empty()).then(|| {
            let values: Vec<_> = credential.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            hashed(&values)
        }),
        credential_digests: credential.headers.iter().map(|(_, value)| digest_of(value)).collect(),
        anthropic_credential: credential.has_anthropic_form(),
        slow: slow(headers),
        cache_life: if text("anthropic-beta").is_some_and(|betas| betas.contains("extended-cache-ttl")) {
            CACHE_LIFE_LONG
        } else {
            CACHE_LIFE
        },
        whole_session: text("x-claude-code-session-id").map(|session| hashed(&session)),
        on_plan: credential.is_login(),
        length: text("content-length").and_then(|length| length.parse().ok()),
        needs: None,
        side: false,
        patience: text("x-stainless-timeout")
            .and_then(|seconds| seconds.parse().ok())
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        hedgeable: false,
    }
}

/// Of a credential without its scheme.
fn digest_of(value: &HeaderValue) -> u64 {
    let value = value.as_bytes();
    hotspare_config::credential_digest(value.strip_prefix(b"Bearer ").unwrap_or(value))
}

/// The guard has seen to it that `host` names the terminated host within a tunnel alone: there the client knows no gateway in its way.
fn slow(headers: &HeaderMap) -> SlowRequest {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let client = ClientKind::of_user_agent(text("user-agent"));
    match text("anthropic-usage-limit") {
        "slow" => SlowRequest::Asked,
        _ if text("host") == intercept::HOST && client == ClientKind::ClaudeInteractive => SlowRequest::Able,
        _ => SlowRequest::Unable,
    }
}

fn hashed(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "hs-0123456789abcdef";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[track_caller]
    fn check(pairs: &[(&'static str, &'static str)], expected: Result<&[&str], u16>) {
        let outcome = admit(&headers(pairs), TOKEN);
        let seen = match &outcome {
            Ok(admitted) => Ok(admitted.credential.headers.iter().map(|(_, value)| value.to_str().unwrap()).collect::<Vec<_>>()),
            Err(response) => Err(response.status().as_u16()),
        };
        assert_eq!(seen, expected.map(<[&str]>::to_vec), "{pairs:?}");
    }

    #[test]
    fn t3_without_the_local_token_nothing_is_served() {
        check(&[], Err(401));
        check(&[("x-hotspare-token", "hs-wrong")], Err(401));
        check(&[("x-api-key", "sk-ant-test")], Err(401));
        check(&[("authorization", "Bearer sk-ant-test")], Err(401));
        check(&[("authorization", "hs-0123456789abcdef")], Err(401));
        check(&[("x-hotspare-token", "hs-0123456789abcde")], Err(401));
    }

    #[test]
    fn the_token_opens_and_is_never_taken_for_the_client_s_own_credential() {
        check(&[("x-hotspare-token", TOKEN)], Ok(&[]));
        check(&[("x-api-key", TOKEN)], Ok(&[]));
        check(&[("authorization", "Bearer hs-0123456789abcdef")], Ok(&[]));
        check(&[("x-hotspare-token", TOKEN), ("authorization", "Bearer login")], Ok(&["Bearer login"]));
        check(&[("authorization", "Bearer hs-0123456789abcdef"), ("x-api-key", "sk-ant-test")], Ok(&["sk-ant-test"]));
    }

    #[test]
    fn t2_web_pages_are_refused_even_with_the_token() {
        for page in
            [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")]
        {
            check(&[("x-hotspare-token", TOKEN), page], Err(403));
        }
        check(&[("x-hotspare-token", TOKEN), ("sec-fetch-site", "none")], Ok(&[]));
    }

    #[test]
    fn within_a_tunnel_no_token_is_needed_and_one_that_comes_is_no_credential() {
        let admitted = |pairs: &[(&'static str, &'static str)]| {
            let admitted = admit_within(&headers(pairs), TOKEN).map_err(|refusal| refusal.status().as_u16())?;
            Ok::<_, u16>(admitted.credential.headers.iter().map(|(_, value)| value.to_str().unwrap().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(admitted(&[("authorization", "Bearer login")]), Ok(vec!["Bearer login".to_owned()]));
        assert_eq!(admitted(&[("authorization", "Bearer hs-0123456789abcdef"), ("x-api-key", TOKEN)]), Ok(Vec::new()));
        assert_eq!(admitted(&[("via", "1.1 hotspare")]), Err(424));
    }

    #[test]
    fn within_a_tunnel_only_questions_to_a_model_are_ours() {
        let asks = |method: &str, uri: &'static str| asks_a_model(&method.parse().unwrap(), &Uri::from_static(uri));
        assert_eq!(asks("POST", "/v1/messages?beta=true"), Some(Endpoint::Messages));
        assert_eq!(asks("POST", "/v1/messages/count_tokens?beta=true&x=%2F"), Some(Endpoint::CountTokens));
        let others = [("GET", "/v1/messages"), ("POST", "/v1/messages/"), ("POST", "/v1//messages"), ("POST", "/v1/messages/batches")];
        for (method, uri) in others.into_iter().chain([("GET", "/v1/models"), ("HEAD", "/api/hello"), ("GET", "/hotspare/status")]) {
            assert_eq!(asks(method, uri), None, "{method} {uri}");
        }
    }

    #[test]
    fn slow_request_needs_a_client_that_can_take_the_offer() {
        let cli = ("user-agent", "claude-cli/2.1.332 (external, cli)");
        let slow = |pairs: &[(&'static str, &'static str)]| slow(&headers(pairs));
        assert_eq!(slow(&[("host", "api.anthropic.com"), cli]), SlowRequest::Able);
        assert_eq!(slow(&[("host", "127.0.0.1:4117"), cli]), SlowRequest::Unable);
        let print = ("user-agent", "claude-cli/2.1.332 (external, sdk-cli)");
        assert_eq!(slow(&[("host", "api.anthropic.com"), print]), SlowRequest::Unable);
        assert_eq!(slow(&[("host", "127.0.0.1:4117"), print, ("anthropic-usage-limit", "slow")]), SlowRequest::Asked);
        assert_eq!(slow(&[("host", "api.anthropic.com"), ("anthropic-usage-limit", "extended")]), SlowRequest::Unable);
    }

    #[test]
    fn t25_a_loop_is_named() {
        check(&[("x-hotspare-token", TOKEN), ("via", "1.1 other, 1.1 hotspare")], Err(424));
        check(&[("x-hotspare-token", TOKEN), ("via", "1.1 other")], Ok(&[]));
    }

    #[test]
    fn paths_have_their_rooms_whatever_the_query() {
        let room = |method: &str, uri: &'static str| room(&method.parse().unwrap(), &Uri::from_static(uri));
        assert_eq!(room("POST", "/v1/messages?beta=true"), Room::Upstream(Endpoint::Messages));
        assert_eq!(room("POST", "/v1/messages/count_tokens?beta=true"), Room::Upstream(Endpoint::CountTokens));
        assert_eq!(room("GET", "/v1/models?limit=1000"), Room::Upstream(Endpoint::Models));
        assert_eq!(room("GET", "/v1/messages"), Room::Upstream(Endpoint::Other));
        assert_eq!(room("POST", "/v1/files"), Room::Upstream(Endpoint::Other));
        assert_eq!(room("HEAD", "/api/hello"), Room::Hello);
        assert_eq!(room("GET", "/api/hello"), Room::Hello);
        assert_eq!(room("GET", "/hotspare/notices"), Room::Notices);
        assert_eq!(room("POST", "/hotspare/notices"), Room::NoticesFor);
        assert_eq!(room("POST", "/hotspare/reset"), Room::Reset);
        assert_eq!(room("POST", "/hotspare/switch"), Room::Switch);
        assert_eq!(room("GET", "/hotspare/in_flight"), Room::InFlight);
        assert_eq!(room("POST", "/hotspare/drill"), Room::Drill);
        assert_eq!(room("POST", "/hotspare/drill/check"), Room::CheckSpares);
        assert_eq!(room("POST", "/hotspare/drill/end"), Room::EndDrill);
        assert_eq!(room("GET", "/hotspare/drill"), Room::Nowhere);
        assert_eq!(room("POST", "/hotspare/pause"), Room::Pause);
        assert_eq!(room("POST", "/hotspare/resume"), Room::Resume);
        assert_eq!(room("GET", "/hotspare/reset"), Room::Nowhere);
        assert_eq!(room("POST", "/hotspare/status"), Room::Nowhere);
    }
}
