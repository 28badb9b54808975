//! Full mode on raw sockets: who gets a tunnel, where it leads, what is terminated and what passes. The names of the outside world lead to
//! loopback through a network of the test's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hotspare_core::Clocks;
use hotspare_gateway::{Authority, Gateway, Options, Outside, Terminator};
use hotspare_testkit::answers::{Position, text, upto};
use hotspare_testkit::{Script, Upstream};
use hotspare_upstream::Target;
use hotspare_upstream::connect::{Connecting, Connector, Network};
use hotspare_upstream::dial::Dialing;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::client::{Ask, Connection, End};
use crate::proxy::{CLIENT_KEY, FROM_SPARE, Proxy, SPARE_KEY, TOKEN, healthy, options, pair, plays, streamed, together, wire};

const HOST: &str = "api.anthropic.com";

/// The machine's network, but names of the outside world lead to loopback; TLS to the provider is left out.
struct Mapped {
    real: Connector,
    names: BTreeMap<String, SocketAddr>,
}

impl Network for Mapped {
    fn connect<'a>(&'a self, target: &'a Target, clocks: &'a Clocks) -> Connecting<'a> {
        let Some(address) = self.names.get(&format!("{}:{}", target.host, target.port)).filter(|_| target.https) else {
            return self.real.connect(target, clocks);
        };
        let plain = Target { https: false, host: address.ip().to_string(), port: address.port(), ..target.clone() };
        Box::pin(async move { self.real.connect(&plain, clocks).await })
    }

    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a> {
        match self.names.get(&format!("{host}:{port}")) {
            None => self.real.dial(host, port),
            Some(address) => Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await.expect("it listens")) as _) }),
        }
    }
}

/// A proxy in full mode, its authority, and the outside world.
struct Full {
    proxy: Proxy,
    gateway: Arc<Gateway>,
    authority: Arc<Authority>,
    primary: Upstream,
    spare: Upstream,
    /// `api.anthropic.com` itself, for what passes through.
    origin: Upstream,
}

impl Full {
    async fn new(primary: Script, names: &[(&str, SocketAddr)]) -> Self {
        let origin = Upstream::start(|request| {
            let echo = format!("{} {}", request.method, request.target);
            Script::new().body(200, &[("X-Origin", "yes"), ("Set-Cookie", "a=1"), ("Content-Encoding", "br")], echo)
        });
        Self::with_origin(primary, origin.await.expect("started"), names).await
    }

    async fn with_origin(primary: Script, origin: Upstream, names: &[(&str, SocketAddr)]) -> Self {
        let (primary, spare) = (plays(primary).await, healthy(FROM_SPARE).await);
        let mut all: BTreeMap<String, SocketAddr> = names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        all.insert(format!("{HOST}:443"), origin.addr());
        let network = Arc::new(Mapped { real: Connector::new(None), names: all });
        let options = Options { outside: Outside::default().with_network(network), ..options() };
        let (proxy, gateway) = Proxy::start_with(&pair(&primary.url(), &spare.url(), &json!({})), options).await;
        let authority = Arc::new(Authority::make(SystemTime::now()).expect("made"));
        gateway.offer_full_mode(Terminator::of(authority.clone()));
        Self { proxy, gateway, authority, primary, spare, origin }
    }

    /// What the proxy answers to this head.
    async fn answered(&self, head: &str) -> (u16, String) {
        let mut connection = Connection::open(self.proxy.addr).await;
        connection.send(head).await;
        let answer = String::from_utf8_lossy(&connection.rest().await).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"));
        (status, answer)
    }

    /// An open tunnel.
    async fn tunnel(&self, to: &str) -> TcpStream {
        let mut connection = Connection::open(self.proxy.addr).await;
        connection.send(connect(to, Some(&credentials(TOKEN)))).await;
        let answer = connection.answer_to("HEAD").await.expect("an answer");
        assert_eq!(answer.status, 200);
        connection.into_stream()
    }

    /// A connection as Claude Code has it.
    async fn inside(&self) -> Connection<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(trusting(&self.authority)));
        let stream = connector.connect(name(HOST), self.tunnel(&format!("{HOST}:443")).await).await.expect("the handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        Connection::over(stream)
    }
}

fn credentials(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("hotspare:{token}")))
}

fn connect(to: &str, credentials: Option<&str>) -> String {
    let credentials = credentials.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{credentials}\r\n")
}

fn name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("a name")
}

/// A client that trusts this certificate and no other.
fn trusting_only(certificate: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    builder.with_root_certificates(roots).with_no_client_auth()
}

fn trusting(authority: &Authority) -> ClientConfig {
    let certificate = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).expect("PEM");
    let mut config = trusting_only(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// A turn as it goes through a tunnel: to the host, without a token of its own.
fn turn() -> Ask {
    Ask::turn().with("x-hotspare-token", None)
}

async fn asks(connection: &mut Connection<TlsStream<TcpStream>>, ask: &Ask) -> crate::client::Answer {
    connection.send(ask.head(HOST)).await;
    connection.send(&ask.body).await;
    connection.answer_to(&ask.method).await.expect("an answer")
}

#[tokio::test]
async fn a_model_is_asked_through_the_chain_and_the_answer_s_bytes_are_the_provider_s() {
    let full = Full::new(streamed(&text("Hello")), &[]).await;
    let mut inside = full.inside().await;
    for _ in 0..2 {
        let answer = asks(&mut inside, &turn()).await;
        assert_eq!((answer.status, answer.end, answer.profile()), (200, End::Whole, Some("primary")));
        assert_eq!(answer.text(), wire(&text("Hello")), "byte for byte");
    }
    let counted = asks(&mut inside, &Ask { target: "/v1/messages/count_tokens?beta=true".to_owned(), ..turn() }).await;
    assert!(counted.profile().is_some(), "counting asks a model too");
    let sent = &full.primary.messages()[0];
    assert_eq!(
        (sent.header("x-api-key"), sent.header("x-hotspare-token"), sent.header("proxy-authorization")),
        (Some(CLIENT_KEY), None, None)
    );
    assert!(full.origin.requests().is_empty(), "the host itself was asked nothing");
    assert_eq!(full.gateway.status().exchanges, 3);
}

#[tokio::test]
async fn in_an_outage_the_spare_answers_inside_the_tunnel() {
    let full = Full::new(Script::error(529, "overloaded_error", "Overloaded"), &[]).await;
    let answer = asks(&mut full.inside().await, &turn()).await;
    assert_eq!((answer.status, answer.profile()), (200, Some("spare")));
    assert_eq!(answer.text(), wire(&text(FROM_SPARE)));
    let sent = &full.spare.messages()[0];
    assert_eq!(sent.header("x-api-key"), Some(SPARE_KEY), "and never the client's");
}

/// The client must see the break, or it would take half an answer for a whole one.
#[tokio::test]
async fn a_cut_answer_ends_without_its_last_chunk_inside_tls_too() {
    let broken = Script::new().sse().events(upto(&text("Hello"), Position::AfterBlock(0))).rst();
    let full = Full::new(broken, &[]).await;
    let ask = turn().agent(crate::client::PROGRAM);
    let lone = json!({ "failover_policy": { "primary_profile": "primary", "mid_stream": "cut" }, "profiles": { "primary": { "base_url": full.primary.url() } } });
    let network = Arc::new(Mapped { real: Connector::new(None), names: BTreeMap::new() });
    let (proxy, gateway) = Proxy::start_with(&lone, Options { outside: Outside::default().with_network(network), ..options() }).await;
    gateway.offer_full_mode(Terminator::of(full.authority.clone()));
    let alone = Full { proxy, gateway, ..full };
    let answer = asks(&mut alone.inside().await, &ask).await;
    assert_eq!((answer.status, answer.end), (200, End::Cut), "{}", answer.text());
}

/// headroom #746 #1158 #1779, claude-code #72749 #76653: what a base URL switches off must reach its own host.
#[tokio::test]
async fn r63_what_asks_no_model_passes_to_the_host_itself_and_back_unchanged() {
    let full = Full::new(Script::error(500, "api_error", "down"), &[]).await;
    let mut inside = full.inside().await;
    for (method, target) in [
        ("GET", "/api/claude_code/settings"),
        ("GET", "/api/x?next=https%3A%2F%2Fclaude.ai%2F..%2F&a=//b"),
        ("POST", "/api/event_logging/batch"),
        ("GET", "/v1/models?limit=1000"),
        ("GET", "/v1/messages"),
        ("DELETE", "/v1//files/%2e%2e/x"),
        ("GET", "/hotspare/status"),
        ("PUT", "/metrics"),
    ] {
        let mut ask = Ask::new(method, target).header("Authorization", "Bearer sk-ant-test-login").header("Cookie", "a=1; b=2");
        ask = ask
            .header("Accept-Encoding", "br")
            .header("X-Odd-Case", "kept")
            .header("Connection", "keep-alive, X-Drop")
            .header("X-Drop", "1");
        if method != "GET" {
            ask = ask.body("{\"a\":1}");
        }
        let answer = asks(&mut inside, &ask).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, format!("{method} {target}").as_str()));
        let headers: Vec<_> =
            answer.headers.iter().map(|(name, value)| format!("{name}: {value}")).filter(|line| !line.starts_with("Content-L")).collect();
        assert_eq!(headers, ["X-Origin: yes", "Set-Cookie: a=1", "Content-Encoding: br"], "nothing is added, nothing is lost");
    }
    let raw = String::from_utf8_lossy(&full.origin.requests()[2].raw_head).into_owned();
    let expected = "POST /api/event_logging/batch HTTP/1.1\r\nHost: api.anthropic.com\r\nAuthorization: Bearer sk-ant-test-login\r\n\
                    Cookie: a=1; b=2\r\nAccept-Encoding: br\r\nX-Odd-Case: kept\r\nContent-Length: 7\r\n\r\n";
    assert_eq!(raw, expected, "as the client sent it, without what is this connection's or ours");
    assert!(full.primary.requests().is_empty() && full.spare.requests().is_empty(), "never to a profile");
    let status = full.gateway.status();
    assert_eq!(status.exchanges, 0, "none of it is an exchange");
}

#[tokio::test]
async fn what_passes_streams_and_a_broken_answer_is_seen_to_break() {
    let gate = hotspare_testkit::Gate::new();
    let opened = gate.clone();
    let origin = Upstream::start(move |request| match request.path() {
        "/stream" => Script::new().sse().chunk("data: 1\n\n").gate(&opened).chunk("data: 2\n\n").end(),
        _ => Script::new().sse().chunk("data: 1\n\n").rst(),
    });
    let full = Full::with_origin(Script::new(), origin.await.expect("started"), &[]).await;
    let mut inside = full.inside().await;
    inside.send(Ask::new("GET", "/stream").head(HOST)).await;
    inside.wait_for("data: 1\n\n").await;
    gate.open();
    let whole = inside.answer().await;
    assert_eq!((whole.text().as_str(), whole.end), ("data: 1\n\ndata: 2\n\n", End::Whole));
    let cut = asks(&mut inside, &Ask::new("GET", "/cut")).await;
    assert_eq!((cut.text().as_str(), cut.end), ("data: 1\n\n", End::Cut));
}

#[tokio::test]
async fn when_the_host_cannot_be_reached_what_passes_is_told_so_and_models_are_asked_all_the_same() {
    let full = Full::new(streamed(&text("Hello")), &[]).await;
    let (gateway, primary) = (full.gateway.clone(), &full.primary);
    let gone = hotspare_testkit::refused_addr().expect("a port");
    let names = BTreeMap::from([(format!("{HOST}:443"), gone)]);
    let network = Arc::new(Mapped { real: Connector::new(None), names });
    let config = pair(&primary.url(), &full.spare.url(), &json!({}));
    let (proxy, other) = Proxy::start_with(&config, Options { outside: Outside::default().with_network(network), ..options() }).await;
    other.offer_full_mode(Terminator::of(full.authority.clone()));
    drop(gateway);
    let cut_off = Full { proxy, gateway: other, ..full };
    let mut inside = cut_off.inside().await;
    let answer = asks(&mut inside, &Ask::new("GET", "/api/x")).await;
    assert_eq!(answer.status, 424, "a 5xx holds the client's start up for 17 s (measured)");
    assert!(answer.text().contains("api.anthropic.com cannot be reached: connection refused"), "{}", answer.text());
    assert_eq!(asks(&mut inside, &turn()).await.status, 200);
}

#[tokio::test]
async fn t3_without_the_token_there_is_no_tunnel_and_nothing_is_reached() {
    let full = Full::new(Script::new(), &[]).await;
    let wrong = format!("{}0", &TOKEN[..TOKEN.len() - 1]);
    for to in ["api.anthropic.com:443", "example.com:443", "127.0.0.1:22"] {
        for given in [None, Some(credentials(&wrong)), Some(credentials("")), Some(format!("Bearer {TOKEN}")), Some(TOKEN.to_owned())] {
            let (status, answer) = full.answered(&connect(to, given.as_deref())).await;
            assert_eq!(status, 407, "{to} {given:?}");
            assert!(answer.contains("proxy-authenticate: Basic realm=\"hotspare\"\r\n") && !answer.contains(TOKEN), "{answer}");
        }
    }
    // The token in another place opens nothing either.
    let header = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nx-hotspare-token: {TOKEN}\r\n\r\n");
    assert_eq!(full.answered(&header).await.0, 407);
    assert_eq!(full.origin.connections() + full.primary.connections(), 0);
}

#[tokio::test]
async fn t12_what_two_readers_could_take_differently_opens_nothing() {
    let full = Full::new(Script::new(), &[]).await;
    let auth = format!("Proxy-Authorization: {}\r\n", credentials(TOKEN));
    let host = format!("Host: {HOST}:443\r\n");
    for (head, expected) in [
        (format!("CONNECT {HOST} HTTP/1.1\r\nHost: {HOST}\r\n{auth}\r\n"), 400),
        (format!("CONNECT https://{HOST}:443 HTTP/1.1\r\n{host}{auth}\r\n"), 400),
        (format!("CONNECT user@{HOST}:443 HTTP/1.1\r\n{host}{auth}\r\n"), 400),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\n{auth}\r\n"), 400),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: evil.example:443\r\n{auth}\r\n"), 400),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\n{host}{host}{auth}\r\n"), 400),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\n{host}{auth}{auth}\r\n"), 400),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\n{host}{auth}Content-Length: 4\r\n\r\nevil"), 400),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\n{host}{auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (format!("CONNECT {HOST}:443 HTTP/1.1\n{host}{auth}\r\n"), 400),
        (format!("CONNECT  {HOST}:443 HTTP/1.1\r\n{host}{auth}\r\n"), 400),
        (format!("CONNECT {HOST}:443 HTTP/2.0\r\n{host}{auth}\r\n"), 400),
        (format!("connect {HOST}:443 HTTP/1.1\r\n{host}{auth}\r\n"), 400),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\n{host}{auth}X: {}\r\n\r\n", "x".repeat(70_000)), 431),
    ] {
        let (status, answer) = full.answered(&head).await;
        assert_eq!(status, expected, "{:?}", &head[..head.len().min(120)]);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one answer and the end: {answer}");
    }
    assert_eq!(full.origin.connections(), 0);
}

/// A tunnel is the first thing on a connection or it is none: behind a request it is another method that nobody serves.
#[tokio::test]
async fn t12_a_tunnel_behind_a_request_is_refused_as_ever() {
    let full = Full::new(streamed(&text("Hello")), &[]).await;
    let mut connection = Connection::open(full.proxy.addr).await;
    connection.ask(&Ask::turn()).await;
    assert_eq!(connection.answer().await.status, 200);
    connection.send(connect(&format!("{HOST}:443"), Some(&credentials(TOKEN)))).await;
    assert!(connection.rest().await.starts_with(b"HTTP/1.1 405"));
}

#[tokio::test]
async fn without_full_mode_there_are_no_tunnels() {
    let primary = healthy("Hello").await;
    let proxy = Proxy::lone(&primary).await;
    let mut connection = Connection::open(proxy.addr).await;
    connection.send(connect(&format!("{HOST}:443"), Some(&credentials(TOKEN)))).await;
    assert!(connection.rest().await.starts_with(b"HTTP/1.1 405"));
}

#[tokio::test]
async fn t25_no_tunnel_leads_to_this_machine() {
    let full = Full::new(Script::new(), &[]).await;
    let own = full.proxy.addr.port();
    for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "[::ffff:127.0.0.1]"] {
        let (status, answer) = full.answered(&connect(&format!("{host}:{own}"), Some(&credentials(TOKEN)))).await;
        assert_eq!(status, 403, "{host}: {answer}");
    }
    let (status, _) = full.answered(&connect("169.254.169.254:80", Some(&credentials(TOKEN)))).await;
    assert_eq!(status, 403, "where clouds tell of themselves");
}

#[tokio::test]
async fn whoever_names_another_host_or_speaks_another_protocol_gets_no_handshake() {
    let full = Full::new(Script::new(), &[]).await;
    let trusting_us = || trusting(&full.authority);
    let to = format!("{HOST}:443");
    let other_name = TlsConnector::from(Arc::new(trusting_us())).connect(name("example.com"), full.tunnel(&to).await).await;
    assert!(other_name.is_err(), "no certificate for another name");
    let mut nameless = trusting_us();
    nameless.enable_sni = false;
    assert!(TlsConnector::from(Arc::new(nameless)).connect(name(HOST), full.tunnel(&to).await).await.is_err(), "no name, no certificate");
    let mut h2 = trusting_us();
    h2.alpn_protocols = vec![b"h2".to_vec()];
    assert!(TlsConnector::from(Arc::new(h2)).connect(name(HOST), full.tunnel(&to).await).await.is_err(), "HTTP/1.1 alone");
    let mut plain = full.tunnel(&to).await;
    plain.write_all(b"POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    // An alert or a reset: no HTTP in any case.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(full.origin.connections() + full.primary.connections(), 0);
}

/// A second process of the same user, without the certificate: it notices, and its credential stays with it.
#[tokio::test]
async fn t20_who_does_not_trust_the_authority_breaks_off_before_anything_is_sent() {
    let full = Full::new(Script::new(), &[]).await;
    let stranger = Authority::make(SystemTime::now()).expect("made");
    let tunnel = full.tunnel(&format!("{HOST}:443")).await;
    let outcome = TlsConnector::from(Arc::new(trusting(&stranger))).connect(name(HOST), tunnel).await;
    let error = outcome.map(drop).expect_err("refused").to_string();
    assert!(error.contains("certificate"), "{error}");
    // Who trusts it is served as before.
    let answer = asks(&mut full.inside().await, &Ask::new("GET", "/api/x")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn t1_t12_inside_a_tunnel_only_the_host_is_served_and_heads_are_judged_as_ever() {
    let full = Full::new(Script::new(), &[]).await;
    let cases = [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: api.anthropic.com\r\nHost: api.anthropic.com\r\n\r\n", 400),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n", 400),
        ("CONNECT example.com:443 HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n", 405),
        ("POST / HTTP/1.1\r\nHost: api.anthropic.com\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: api.anthropic.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: api.anthropic.com\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", 501),
        ("GET / HTTP/1.1\nHost: api.anthropic.com\r\n\r\n", 400),
    ];
    for (head, expected) in cases {
        let mut inside = full.inside().await;
        inside.send(head).await;
        let answer = String::from_utf8_lossy(&inside.rest().await).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{head:?}: {answer}");
    }
    assert_eq!(full.origin.connections(), 0);
    let with_port = "GET /api/x HTTP/1.1\r\nHost: API.Anthropic.com:443\r\n\r\n";
    let mut inside = full.inside().await;
    inside.send(with_port).await;
    assert_eq!(inside.answer().await.status, 200);
}

/// A program that was given the token as its key: the host itself must never hear of it.
#[tokio::test]
async fn t5_the_local_token_never_leaves_whatever_it_is_taken_for() {
    let full = Full::new(streamed(&text("Hello")), &[]).await;
    let mut inside = full.inside().await;
    let ask = Ask::new("GET", "/api/x").header("Authorization", &format!("Bearer {TOKEN}")).header("x-api-key", TOKEN);
    asks(&mut inside, &ask).await;
    let raw = String::from_utf8_lossy(&full.origin.requests()[0].raw_head).into_owned();
    assert_eq!(raw, "GET /api/x HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n");
    let upgrade =
        format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let mut inside = full.inside().await;
    inside.send(upgrade).await;
    assert!(inside.rest().await.starts_with(b"HTTP/1.1 400"));
    assert_eq!(full.origin.requests().len(), 1);
}

/// Remote Control and its like speak over `WebSocket`s.
#[tokio::test]
async fn another_protocol_of_the_host_passes_byte_for_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin_addr = listener.local_addr().expect("bound");
    let head = "GET /v1/sessions/ws?x=%2F HTTP/1.1\r\nHost: api.anthropic.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: aGk=\r\n\r\n";
    let origin = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut got = vec![0; head.len() + 5];
        stream.read_exact(&mut got).await.expect("read");
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi").await.expect("sent");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("read");
        (got, rest)
    });
    let full = Full::new(Script::new(), &[]).await;
    let names = BTreeMap::from([(format!("{HOST}:443"), origin_addr)]);
    let network = Arc::new(Mapped { real: Connector::new(None), names });
    let config = pair(&full.primary.url(), &full.spare.url(), &json!({}));
    let (proxy, gateway) = Proxy::start_with(&config, Options { outside: Outside::default().with_network(network), ..options() }).await;
    gateway.offer_full_mode(Terminator::of(full.authority.clone()));
    let full = Full { proxy, gateway, ..full };
    let mut inside = full.inside().await;
    inside.send(format!("{head}early")).await;
    inside.wait_for("\u{2}hi").await;
    inside.send("late").await;
    drop(inside);
    let (got, rest) = origin.await.expect("ended");
    assert_eq!(String::from_utf8_lossy(&got), format!("{head}early"));
    assert_eq!(rest, b"late");
}

/// An origin with a certificate of its own: the client sees that one, and nobody else's.
#[tokio::test]
async fn t20_other_hosts_show_their_own_certificate_through_the_tunnel() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::new(["other.example".to_owned()]).expect("params").self_signed(&key).expect("signed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let acceptor = TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut tls = acceptor.accept(stream).await.expect("the handshake");
            tls.write_all(b"the origin's own words").await.expect("sent");
            tls.shutdown().await.expect("ended");
        }
    });
    // Another port of the terminated host is another service.
    let full = Full::new(Script::new(), &[("other.example:443", address), ("api.anthropic.com:8443", address)]).await;
    for to in ["other.example:443", "api.anthropic.com:8443"] {
        let connector = TlsConnector::from(Arc::new(trusting_only(certificate.der().clone())));
        let mut tls = connector.connect(name("other.example"), full.tunnel(to).await).await.expect("the handshake");
        assert_eq!(tls.get_ref().1.peer_certificates().expect("one")[0], *certificate.der(), "{to}");
        let mut said = String::new();
        tls.read_to_string(&mut said).await.expect("read");
        assert_eq!(said, "the origin's own words");
    }
}

/// teamclaude #75, claude-code #3971: a proxy's variables caught what was none of its business. Bytes both ways at once, in odd portions, with
/// an end on one side long before the other.
#[tokio::test]
async fn r65_a_blind_tunnel_changes_no_byte_and_passes_each_end_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let bytes = |seed: u32, count: u32| {
        (0..count).map(move |at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13).to_le_bytes()[0]).collect::<Vec<u8>>()
    };
    let (up, down) = (bytes(1, 3_000_001), bytes(2, 2_000_003));
    let sent = down.clone();
    let origin = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.expect("read to the client's end");
        for part in sent.chunks(7919) {
            stream.write_all(part).await.expect("sent");
        }
        got
    });
    let full = Full::new(Script::new(), &[("other.example:443", address)]).await;
    // The first bytes come along with the head.
    let mut connection = Connection::open(full.proxy.addr).await;
    let mut first = connect("other.example:443", Some(&credentials(TOKEN))).into_bytes();
    first.extend_from_slice(&up[..1000]);
    connection.send(first).await;
    assert_eq!(connection.answer_to("HEAD").await.expect("an answer").status, 200);
    let mut stream = connection.into_stream();
    for part in up[1000..].chunks(6113) {
        stream.write_all(part).await.expect("sent");
    }
    stream.shutdown().await.expect("ended");
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.expect("read");
    assert!(got == down, "{} of {} bytes came down", got.len(), down.len());
    let got = origin.await.expect("ended");
    assert!(got == up, "{} of {} bytes came up", got.len(), up.len());
}

#[tokio::test]
async fn when_one_side_of_a_tunnel_is_gone_the_other_learns_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let full = Full::new(Script::new(), &[("other.example:443", listener.local_addr().expect("bound"))]).await;
    let client = full.tunnel("other.example:443").await;
    let (mut origin, _) = listener.accept().await.expect("a connection");
    drop(client);
    assert_eq!(origin.read(&mut [0; 8]).await.expect("read"), 0, "the client's end is the origin's");
    let mut client = full.tunnel("other.example:443").await;
    let (origin, _) = listener.accept().await.expect("a connection");
    drop(origin);
    assert_eq!(client.read(&mut [0; 8]).await.expect("read"), 0, "and the other way round");
}

/// A client that leaves in the middle of its handshake or of an answer harms nobody, and its provider hears of it.
#[tokio::test]
async fn a_client_that_leaves_harms_nobody() {
    let full = Full::new(Script::new().sse().events(upto(&text("Hello"), Position::InBlock(0))).hang(), &[]).await;
    let to = format!("{HOST}:443");
    let mut half = full.tunnel(&to).await;
    half.write_all(&[22, 3, 1, 2]).await.expect("sent");
    drop(half);
    let mut inside = full.inside().await;
    let ask = turn();
    inside.send(ask.head(HOST)).await;
    inside.send(&ask.body).await;
    full.primary.wait_for(1).await;
    drop(inside);
    full.primary.wait_hung_up(0).await;
    let mut cases = Vec::new();
    for _ in 0..8 {
        let mut inside = full.inside().await;
        cases.push(async move {
            assert_eq!(asks(&mut inside, &Ask::new("GET", "/api/x")).await.status, 200);
        });
    }
    together(cases).await;
}
