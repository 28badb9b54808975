//! Builds the headers of an answer on its way down. Never passes what belongs to another connection, origin or account.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Never passed down: hop-by-hop, and what would bind the client to the upstream's origin.
fn stays_behind(name: &HeaderName) -> bool {
    const NAMES: [HeaderName; 13] = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::SET_COOKIE,
        header::LOCATION,
        header::ALT_SVC,
        header::STRICT_TRANSPORT_SECURITY,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    NAMES.contains(name) || name.as_str().starts_with("access-control-") || name.as_str().starts_with("x-hotspare-")
}

/// Whose account an answer's limit headers describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// The one the client thinks it talks to: they are passed on.
    Own,
    /// A spare's: they would mislead the client.
    Foreign,
}

/// The upstream's headers that the client gets. The body's length is set by whoever knows it.
pub(crate) fn for_client(upstream: &HeaderMap, limits: Limits) -> HeaderMap {
    let named: Vec<HeaderName> = upstream
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut headers = HeaderMap::with_capacity(upstream.len() + 4);
    for (name, value) in upstream {
        let foreign = limits == Limits::Foreign && name.as_str().starts_with("anthropic-ratelimit-");
        if !stays_behind(name) && !foreign && !named.contains(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// Whether an answer says that the account is over its limit.
pub(crate) fn says_rejected(headers: &HeaderMap) -> bool {
    headers.get("anthropic-ratelimit-unified-status").is_some_and(|status| status.as_bytes().eq_ignore_ascii_case(b"rejected"))
}

/// Adds our headers to an answer. `profile` and `request_id` are empty where no profile received the request.
pub(crate) fn mark(headers: &mut HeaderMap, profile: &str, attempts: usize, request_id: &str) {
    if !profile.is_empty()
        && let Ok(profile) = HeaderValue::from_str(profile)
    {
        headers.insert("x-hotspare-profile", profile);
    }
    headers.insert("x-hotspare-attempts", HeaderValue::from(attempts));
    if !request_id.is_empty()
        && let Ok(id) = HeaderValue::from_str(request_id)
    {
        headers.insert("x-hotspare-request-id", id);
    }
    headers.append(header::VIA, HeaderValue::from_static(hotspare_upstream::headers::VIA));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_limit_headers_pass_and_bindings_stay() {
        let upstream: HeaderMap = [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("set-cookie", "a=b"),
            ("location", "https://evil.example/"),
            ("access-control-allow-origin", "*"),
            ("strict-transport-security", "max-age=1"),
            ("alt-svc", "h3"),
            ("content-length", "9"),
            ("x-hotspare-profile", "forged"),
            ("request-id", "req_1"),
            ("x-unknown", "kept"),
            ("anthropic-ratelimit-unified-status", "allowed"),
        ]
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        let names = |limits| {
            let mut names: Vec<_> = for_client(&upstream, limits).keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(Limits::Own), ["anthropic-ratelimit-unified-status", "request-id", "x-unknown"]);
        assert_eq!(names(Limits::Foreign), ["request-id", "x-unknown"]);
    }
}
