//! Builds the headers of an attempt from nothing: what may pass is copied, everything else stays behind. Never passes a client's
//! credential to a profile that has its own (security.md T5).

use hotspare_core::Platform;
use hotspare_wire::betas;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::auth::{AuthHeader, X_API_KEY};

/// The header that carries our local token.
pub const LOCAL_TOKEN: HeaderName = HeaderName::from_static("x-hotspare-token");

/// What `via` says of us (RFC 9110, 7.6.3).
pub const VIA: &str = "1.1 hotspare";

/// The beta that belongs to a login token and to no key.
const OAUTH_BETA: &str = "oauth-2025-04-20";

const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// The headers in which the client authenticates itself, already known not to be our local token.
#[derive(Debug, Clone, Default)]
pub struct ClientCredential {
    /// `authorization` and `x-api-key` as they came.
    pub headers: Vec<AuthHeader>,
}

impl ClientCredential {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Whether it is the login of a plan, which nobody pays by the token.
    pub fn is_login(&self) -> bool {
        self.headers.iter().any(|(_, value)| value.as_bytes().starts_with(LOGIN_BEARER))
    }
}

impl ClientCredential {
    /// True if there is one and every header of it has the form of Anthropic's keys and logins. What a gateway has issued looks otherwise
    /// (`LiteLLM`: `sk-…`), and Anthropic is no place for it.
    pub fn has_anthropic_form(&self) -> bool {
        let is_anthropics = |value: &HeaderValue| {
            let value = value.as_bytes();
            value.strip_prefix(b"Bearer ").unwrap_or(value).starts_with(b"sk-ant-")
        };
        !self.is_empty() && self.headers.iter().all(|(_, value)| is_anthropics(value))
    }
}

/// How the header of a login begins.
const LOGIN_BEARER: &[u8] = b"Bearer sk-ant-oat";

/// Never passed up, whoever sends them: hop-by-hop, credentials, cookies, and what tells of browsers and other proxies.
fn stays_behind(name: &HeaderName) -> bool {
    const NAMES: [HeaderName; 19] = [
        header::CONNECTION,
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        header::AUTHORIZATION,
        X_API_KEY,
        LOCAL_TOKEN,
        header::COOKIE,
        header::ORIGIN,
        header::REFERER,
        header::FORWARDED,
        header::VIA,
        HeaderName::from_static("keep-alive"),
    ];
    let text = name.as_str();
    NAMES.contains(name)
        || text.starts_with("x-hotspare-")
        || text.starts_with("proxy-")
        || text.starts_with("sec-")
        || names_the_user(text)
        || names_the_peer(text)
}

/// True if the header holds the user's identity as a sign-in gateway asserts it. No provider takes part in that sign-in, so it goes to
/// none, the client's own gateway included: a gateway sets these itself, from the session it has checked.
fn names_the_user(text: &str) -> bool {
    const PREFIXES: [&str; 8] = [
        // Claude Code's own sign-in gateway (client 2.1.332).
        "x-claude-gateway-user-",
        // oauth2-proxy, Google IAP, AWS ALB, Azure App Service, Tailscale, Pomerium, Authelia and authentik.
        "x-auth-request-",
        "x-goog-authenticated-user-",
        "x-amzn-oidc-",
        "x-ms-client-principal",
        "tailscale-user-",
        "x-pomerium-",
        "remote-",
    ];
    const NAMES: [&str; 7] = [
        "x-goog-iap-jwt-assertion",
        "cf-access-jwt-assertion",
        "cf-access-authenticated-user-email",
        "x-remote-user",
        "x-authenticated-user",
        "x-authentik-username",
        "from",
    ];
    PREFIXES.iter().any(|prefix| text.starts_with(prefix)) || NAMES.contains(&text)
}

/// True if a proxy in front wrote the header about the connection it took: addresses, country, edge. It describes another hop.
fn names_the_peer(text: &str) -> bool {
    const NAMES: [&str; 14] = [
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-original-forwarded-for",
        "x-original-host",
        "x-amzn-trace-id",
        "true-client-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-pseudo-ipv4",
        "cdn-loop",
    ];
    NAMES.contains(&text)
        || text.starts_with("x-forwarded")
        || ["cf-ray", "cf-visitor", "cf-worker", "cf-warp-tag-id"].contains(&text)
        || text.starts_with("cf-ip")
}

/// True if the header means something for one account alone: a workspace, a person, or what the user chose at the account's usage limit
/// (`anthropic-usage-limit: slow`, client 2.1.332). It goes with that account's credential and no other.
fn belongs_to_the_account(name: &HeaderName) -> bool {
    ["anthropic-workspace-id", "anthropic-organization-id", "anthropic-user-profile-id", "anthropic-usage-limit"].contains(&name.as_str())
}

/// Tells who the client is and what it runs on: for its own provider, and for no other company.
fn is_private(name: &HeaderName) -> bool {
    let text = name.as_str();
    ["x-claude-code-", "x-stainless-", "x-claude-remote-"].iter().any(|start| text.starts_with(start))
        || ["x-app", "anthropic-dangerous-direct-browser-access"].contains(&text)
}

/// What describes the bytes of a body (RFC 9110, 8; RFC 9530; RFC 1864). It goes with the body to every profile, and away with any change.
const BODY_DESCRIPTION: [HeaderName; 6] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// Removes what describes the client's own bytes, for a body that was decoded or changed. `content-type` and `content-language` still hold.
pub fn drop_body_description(headers: &mut HeaderMap) {
    for name in BODY_DESCRIPTION.iter().filter(|name| **name != header::CONTENT_LANGUAGE) {
        headers.remove(name);
    }
}

/// What a client of this API says in its head. Anything else is its user's own (`ANTHROPIC_CUSTOM_HEADERS`), and may well be what opens a
/// gateway: like a credential, it goes where the client's own credential goes, and nowhere else.
fn is_known(name: &HeaderName) -> bool {
    const NAMES: [&str; 9] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "content-type",
        "idempotency-key",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-app",
    ];
    let text = name.as_str();
    BODY_DESCRIPTION.contains(name)
        || NAMES.contains(&text)
        || ["anthropic-", "x-anthropic-", "x-claude-", "x-stainless-"].iter().any(|start| text.starts_with(start))
}

/// The headers of one attempt. `credential`: the client's own; `None` if the profile takes no credential of the client's, and so none of
/// its user's own headers either.
pub fn for_attempt(
    platform: Platform,
    client: &HeaderMap,
    credential: Option<&ClientCredential>,
    own: Option<AuthHeader>,
    read_answer: bool,
) -> HeaderMap {
    let named = named_in_connection(client);
    let is_client_s = platform.is_native() && own.is_none() && credential.is_some();
    let mut headers = HeaderMap::with_capacity(client.len() + 4);
    for (name, value) in client {
        let goes = is_client_s || is_known(name) && !belongs_to_the_account(name) && (platform.is_native() || !is_private(name));
        if goes && !stays_behind(name) && !named.iter().any(|hop| hop == name) {
            headers.append(name, value.clone());
        }
    }
    if let Some((name, value)) = own {
        fit_oauth_beta(&mut headers, value.as_bytes().starts_with(LOGIN_BEARER));
        headers.insert(name, value);
    } else {
        for (name, value) in credential.iter().flat_map(|credential| &credential.headers) {
            headers.append(name, value.clone());
        }
    }
    if !platform.is_native() {
        map_betas(&mut headers, |beta| betas::name_at(platform, beta));
    }
    if read_answer {
        // A compressed stream cannot be read on its way, and a compressed error cannot be told from another (peers.md R9).
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    headers.append(header::VIA, HeaderValue::from_static(VIA));
    headers
}

/// The headers of a request that is passed through to the client's own provider: all of them, but what belongs to this connection and what
/// is ours. `is_ours` knows our local token, which some clients send in the place of a key.
pub fn for_passing(client: &HeaderMap, is_ours: impl Fn(&HeaderValue) -> bool) -> HeaderMap {
    let named = named_in_connection(client);
    let mut headers = HeaderMap::with_capacity(client.len());
    for (name, value) in client {
        let text = name.as_str();
        let stays = is_of_this_hop(name) || names_the_user(text) || text.starts_with("x-hotspare-");
        if !stays && !named.contains(name) && !is_ours(value) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// The headers of an answer that is passed through.
pub fn for_passing_back(upstream: &HeaderMap) -> HeaderMap {
    for_passing(upstream, |_| false)
}

/// Hop-by-hop (RFC 9110, 7.6.1), and what is meant for a proxy.
fn is_of_this_hop(name: &HeaderName) -> bool {
    let names = [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];
    names.contains(name) || name == "keep-alive" || name.as_str().starts_with("proxy-")
}

fn named_in_connection(client: &HeaderMap) -> Vec<HeaderName> {
    client
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

/// The capability of a login token goes with the login token, not with the client: another credential needs it taken out or put in.
fn fit_oauth_beta(headers: &mut HeaderMap, login: bool) {
    let has = beta_values(headers).iter().any(|beta| beta == OAUTH_BETA);
    if has == login {
        return;
    }
    keep_betas(headers, |beta| beta != OAUTH_BETA);
    if login {
        let mut kept = beta_values(headers);
        kept.push(OAUTH_BETA.to_owned());
        set_betas(headers, &kept);
    }
}

/// Takes out the betas that are not wanted; a header of which nothing is left goes.
pub fn keep_betas(headers: &mut HeaderMap, wanted: impl Fn(&str) -> bool) {
    map_betas(headers, |beta| wanted(beta).then_some(beta));
}

/// Gives each beta another name, or takes it out; a header of which nothing is left goes.
fn map_betas(headers: &mut HeaderMap, name: impl Fn(&str) -> Option<&str>) {
    let all = beta_values(headers);
    let mut kept: Vec<String> = Vec::with_capacity(all.len());
    for beta in all.iter().filter_map(|beta| name(beta)) {
        if !kept.iter().any(|known| known == beta) {
            kept.push(beta.to_owned());
        }
    }
    if kept != all {
        set_betas(headers, &kept);
    }
}

fn set_betas(headers: &mut HeaderMap, betas: &[String]) {
    headers.remove(BETA);
    if let Ok(value) = HeaderValue::from_str(&betas.join(","))
        && !betas.is_empty()
    {
        headers.insert(BETA, value);
    }
}

/// The betas that a request names, in order.
pub fn beta_values(headers: &HeaderMap) -> Vec<String> {
    betas::listed(headers.get_all(BETA).iter().filter_map(|value| value.to_str().ok())).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_passes_through_loses_only_what_is_this_connection_s_or_ours() {
        let client = map(&[
            ("host", "api.anthropic.com"),
            ("connection", "keep-alive, x-drop-me"),
            ("x-drop-me", "1"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("authorization", "Bearer sk-ant-test-login"),
            ("x-api-key", "hs-1"),
            ("x-hotspare-token", "hs-1"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("accept-encoding", "gzip, br"),
            ("content-length", "3"),
            ("sec-websocket-key", "k"),
        ]);
        let kept = [
            ("host", "api.anthropic.com"),
            ("authorization", "Bearer sk-ant-test-login"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("accept-encoding", "gzip, br"),
            ("content-length", "3"),
            ("sec-websocket-key", "k"),
        ];
        assert_eq!(for_passing(&client, |value| value == "hs-1"), map(&kept));
    }

    fn own(name: HeaderName, value: &'static str) -> AuthHeader {
        (name, HeaderValue::from_static(value))
    }

    #[test]
    fn hop_by_hop_cookies_and_strangers_stay_behind() {
        let client = map(&[
            ("connection", "keep-alive, x-drop-me"),
            ("x-drop-me", "1"),
            ("cookie", "a"),
            ("origin", "http://x"),
            ("x-forwarded-for", "1.2.3.4"),
            ("sec-fetch-site", "none"),
            ("proxy-authorization", "Basic x"),
            ("x-hotspare-token", "hs-1"),
            ("host", "127.0.0.1"),
            ("content-length", "3"),
            ("anthropic-version", "2023-06-01"),
            ("x-unknown", "kept"),
            ("x-unknown", "twice"),
        ]);
        let headers = for_attempt(Platform::Anthropic, &client, Some(&ClientCredential::default()), None, false);
        assert_eq!(headers, map(&[("anthropic-version", "2023-06-01"), ("x-unknown", "kept"), ("x-unknown", "twice"), ("via", VIA)]));
    }

    /// teamclaude #311, `LiteLLM` #32202: the client's credential went along to the next provider.
    #[test]
    fn r56_a_profile_with_its_own_credential_never_sees_the_client_s() {
        let client = map(&[("authorization", "Bearer client"), ("x-api-key", "client")]);
        let credential = ClientCredential {
            headers: vec![
                (header::AUTHORIZATION, HeaderValue::from_static("Bearer client")),
                (X_API_KEY, HeaderValue::from_static("client")),
            ],
        };
        let spare = for_attempt(Platform::Anthropic, &client, Some(&credential), Some(own(X_API_KEY, "spare")), false);
        assert_eq!(spare, map(&[("x-api-key", "spare"), ("via", VIA)]));
        let primary = for_attempt(Platform::Anthropic, &client, Some(&credential), None, false);
        assert_eq!(primary, map(&[("authorization", "Bearer client"), ("x-api-key", "client"), ("via", VIA)]));
    }

    #[test]
    fn the_login_beta_goes_with_the_login() {
        let client = map(&[("anthropic-beta", "claude-code-20250219,oauth-2025-04-20,effort-2025-11-24")]);
        let none = ClientCredential::default();
        let beta = |headers: HeaderMap| headers.get(BETA).map(|value| value.to_str().map(str::to_owned).unwrap_or_default());
        assert_eq!(
            beta(for_attempt(Platform::Anthropic, &client, Some(&none), Some(own(X_API_KEY, "k")), false)).as_deref(),
            Some("claude-code-20250219,effort-2025-11-24")
        );
        assert_eq!(
            beta(for_attempt(Platform::Anthropic, &client, Some(&none), None, false)).as_deref(),
            Some("claude-code-20250219,oauth-2025-04-20,effort-2025-11-24")
        );
        let plain = map(&[("anthropic-beta", "a, b")]);
        let login = own(header::AUTHORIZATION, "Bearer sk-ant-oat01-x");
        assert_eq!(
            beta(for_attempt(Platform::Anthropic, &plain, Some(&none), Some(login), false)).as_deref(),
            Some("a,b,oauth-2025-04-20")
        );
        assert_eq!(beta(for_attempt(Platform::Anthropic, &plain, Some(&none), Some(own(X_API_KEY, "k")), false)).as_deref(), Some("a, b"));
    }

    /// A gateway's own key, a tenant's name: what the user makes the client send is meant for whom the client would ask.
    #[test]
    fn t5_the_user_s_own_headers_go_with_the_client_s_own_credential_alone() {
        let client = map(&[
            ("x-company-key", "secret"),
            ("cf-aig-authorization", "Bearer secret"),
            ("anthropic-version", "2023-06-01"),
            ("x-app", "cli"),
        ]);
        let key = || Some(own(X_API_KEY, "k"));
        let none = ClientCredential::default();
        let compatible = Platform::Compatible(hotspare_core::Preset::Plain);
        assert_eq!(
            for_attempt(Platform::Anthropic, &client, Some(&none), None, false).get("x-company-key").map(HeaderValue::as_bytes),
            Some(&b"secret"[..])
        );
        let version = ("anthropic-version", "2023-06-01");
        // `auth: none`: the user wants nothing secret to be sent there.
        let bare = map(&[version, ("x-app", "cli"), ("via", VIA)]);
        assert_eq!(for_attempt(Platform::Anthropic, &client, None, None, false), bare);
        let native = map(&[version, ("x-app", "cli"), ("x-api-key", "k"), ("via", VIA)]);
        assert_eq!(for_attempt(Platform::Anthropic, &client, Some(&none), key(), false), native);
        for other in [compatible, Platform::OpenRouter] {
            assert_eq!(for_attempt(other, &client, Some(&none), key(), false), map(&[version, ("x-api-key", "k"), ("via", VIA)]));
            // A server of one's own that asks for no credential is another company too.
            assert_eq!(for_attempt(other, &client, Some(&none), None, false), map(&[version, ("via", VIA)]));
        }
    }

    #[test]
    fn body_description_goes_with_the_body_to_every_profile() {
        let described = [
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
            ("content-language", "en"),
            ("content-md5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
            ("digest", "sha-256=x"),
        ];
        let client = map(&described);
        let none = ClientCredential::default();
        for platform in [Platform::Anthropic, Platform::OpenRouter, Platform::Compatible(hotspare_core::Preset::Zai)] {
            let headers = for_attempt(platform, &client, Some(&none), Some(own(X_API_KEY, "k")), false);
            for (name, value) in described {
                assert_eq!(headers.get(name).map(HeaderValue::as_bytes), Some(value.as_bytes()), "{name}");
            }
        }
        let mut changed = client;
        drop_body_description(&mut changed);
        assert_eq!(changed, map(&[("content-type", "application/json"), ("content-language", "en")]));
    }

    /// A sign-in gateway in front of a shared hotspare adds the user's name and address: 0.1.0 passed the first on to every native profile.
    #[test]
    fn field_16_identity_headers_reach_no_profile() {
        let client = map(&[
            ("x-claude-gateway-user-id", "u-1"),
            ("x-claude-gateway-user-email", "me@company.example"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded", "10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("cf-connecting-ip", "10.0.0.1"),
            ("cf-ipcountry", "CH"),
            ("true-client-ip", "10.0.0.1"),
            ("x-amzn-oidc-identity", "me"),
            ("x-amzn-trace-id", "Root=1"),
            ("x-auth-request-email", "me@company.example"),
            ("x-goog-iap-jwt-assertion", "e30"),
            ("cf-access-jwt-assertion", "e30"),
            ("remote-user", "me"),
            ("from", "me@company.example"),
            ("cookie", "session=1"),
            // A service token that the user sends to the own gateway is a credential, not an identity.
            ("cf-access-client-id", "gateway"),
        ]);
        let none = ClientCredential::default();
        let own_profile = for_attempt(Platform::Anthropic, &client, Some(&none), None, false);
        assert_eq!(own_profile, map(&[("cf-access-client-id", "gateway"), ("via", VIA)]));
        let spare = for_attempt(Platform::Anthropic, &client, Some(&none), Some(own(X_API_KEY, "k")), false);
        assert_eq!(spare, map(&[("x-api-key", "k"), ("via", VIA)]));
        let other = for_attempt(Platform::OpenRouter, &client, Some(&none), Some(own(header::AUTHORIZATION, "Bearer k")), false);
        assert_eq!(other, map(&[("authorization", "Bearer k"), ("via", VIA)]));
        let passed = for_passing(&client, |_| false);
        assert!(passed.keys().all(|name| !name.as_str().starts_with("x-claude-gateway-user-")), "{passed:?}");
    }

    #[test]
    fn anthropic_form_is_told_from_a_gateway_s() {
        let of = |values: &[(HeaderName, &'static str)]| {
            let headers = values.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            ClientCredential { headers }.has_anthropic_form()
        };
        assert!(of(&[(X_API_KEY, "sk-ant-api03-test")]));
        assert!(of(&[(header::AUTHORIZATION, "Bearer sk-ant-oat01-test")]));
        assert!(!of(&[(header::AUTHORIZATION, "Bearer sk-gateway-test")]));
        assert!(!of(&[(X_API_KEY, "sk-ant-api03-test"), (header::AUTHORIZATION, "Bearer sk-gateway-test")]));
        assert!(!of(&[]));
    }

    #[test]
    fn account_headers_stay_with_the_account() {
        let client = map(&[("anthropic-usage-limit", "slow"), ("anthropic-workspace-id", "w"), ("anthropic-version", "2023-06-01")]);
        let none = ClientCredential::default();
        let mut expected = client.clone();
        expected.append(header::VIA, HeaderValue::from_static(VIA));
        assert_eq!(for_attempt(Platform::Anthropic, &client, Some(&none), None, false), expected);
        let second_login = own(header::AUTHORIZATION, "Bearer sk-ant-oat01-test");
        let spare = for_attempt(Platform::Anthropic, &client, Some(&none), Some(second_login), false);
        assert!(!spare.contains_key("anthropic-usage-limit") && !spare.contains_key("anthropic-workspace-id"), "{spare:?}");
    }

    /// Five of five builds sent the client's identity to other companies (measured); litellm #20021: betas that they refuse.
    #[test]
    fn r54_another_company_learns_nothing_of_the_client_and_gets_only_betas_it_knows() {
        let client = map(&[
            ("user-agent", "claude-cli/2.1.330 (external, cli)"),
            ("x-claude-code-session-id", "s"),
            ("x-stainless-os", "Linux"),
            ("x-app", "cli"),
            ("anthropic-version", "2023-06-01"),
            (
                "anthropic-beta",
                "claude-code-20250219,interleaved-thinking-2025-05-14,oauth-2025-04-20,structured-outputs-2025-12-15,new-thing-2027-01-01",
            ),
        ]);
        let key = || Some(own(header::AUTHORIZATION, "Bearer k"));
        let none = ClientCredential::default();
        let openrouter = for_attempt(Platform::OpenRouter, &client, Some(&none), key(), false);
        let common = [
            ("user-agent", "claude-cli/2.1.330 (external, cli)"),
            ("anthropic-version", "2023-06-01"),
            ("authorization", "Bearer k"),
            ("via", VIA),
        ];
        assert_eq!(
            openrouter,
            map(&[&common[..], &[("anthropic-beta", "interleaved-thinking-2025-05-14,structured-outputs-2025-11-13")]].concat())
        );
        let glm = for_attempt(Platform::Compatible(hotspare_core::Preset::Zai), &client, Some(&none), key(), false);
        assert_eq!(glm, map(&common));
    }
}
