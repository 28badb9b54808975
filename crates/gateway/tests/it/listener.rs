//! What the port refuses before anything else happens: other names, web pages, strangers, proxies' tales (T1 to T4).

use hotspare_testkit::{Script, Upstream};

use crate::client::{Ask, Connection, End};
use crate::proxy::{CLIENT_KEY, Proxy, TOKEN, plays};

/// Every room that a request can go to.
const ROUTES: [(&str, &str); 10] = [
    ("POST", "/v1/messages?beta=true"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/v1/models"),
    ("POST", "/v1/files"),
    ("DELETE", "/v1/files/f"),
    ("GET", "/"),
    ("HEAD", "/api/hello"),
    ("GET", "/hotspare/status"),
    ("GET", "/metrics"),
    ("OPTIONS", "/v1/messages"),
];

async fn world() -> (Upstream, Proxy) {
    let upstream = plays(Script::new().body(200, &[("Content-Type", "application/json")], "{}")).await;
    let proxy = Proxy::lone(&upstream).await;
    (upstream, proxy)
}

#[tokio::test]
async fn t1_another_host_is_refused_on_every_route() {
    let (upstream, proxy) = world().await;
    let port = proxy.addr.port();
    let hosts = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("evil.localhost:{port}"),
        "127.0.0.1".to_owned(),
        "localhost".to_owned(),
        format!("127.0.0.1:{}", port ^ 1),
        "127.0.0.1:80".to_owned(),
        format!("0.0.0.0:{port}"),
        format!("127.0.0.2:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("127.1:{port}"),
        format!("[::]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("user@127.0.0.1:{port}"),
        format!("127.0.0.1:{port}@evil.example"),
        format!("127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}"),
        format!("127.0.0.1:{port}:{port}"),
        format!("127.0.0.1:{port} evil"),
        format!("127.0.0.1.:{port}"),
        String::new(),
    ];
    for host in &hosts {
        for (method, target) in ROUTES {
            let mut connection = Connection::open(proxy.addr).await;
            // With the token: it is the name that is refused, before anything else is looked at.
            connection
                .send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nx-hotspare-token: {TOKEN}\r\nx-api-key: {CLIENT_KEY}\r\n\r\n"))
                .await;
            let answer = connection.answer_to(method).await.unwrap_or_else(|| panic!("{host} {target}: no answer"));
            assert_eq!(answer.status, 421, "{method} {target} at {host:?}");
            let _ = connection.rest().await; // it closes
        }
    }
    assert_eq!(upstream.connections(), 0);
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("LOCALHOST:{port}"), format!("[::1]:{port}")] {
        let mut connection = Connection::open(proxy.addr).await;
        connection
            .send(format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nx-hotspare-token: {TOKEN}\r\nx-api-key: {CLIENT_KEY}\r\n\r\n"))
            .await;
        assert_eq!(connection.answer().await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn t2_web_pages_are_refused_on_every_route_and_never_given_a_cors_header() {
    let (upstream, proxy) = world().await;
    let pages = [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Origin", ""),
        ("origin", "http://127.0.0.1:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("sec-fetch-site", "nonsense"),
    ];
    for (name, value) in pages {
        for (method, target) in ROUTES.iter().filter(|(method, _)| *method != "HEAD") {
            let answer = proxy.ask(&Ask::new(method, target).header("x-api-key", CLIENT_KEY).header(name, value)).await;
            assert_eq!(answer.status, 403, "{method} {target} {name}: {value}");
            let opens = answer.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("access-control-"));
            assert!(!opens, "{:?}", answer.headers);
        }
    }
    // What a page can send without asking first: a form's content types, and no header of its own.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let form = Ask { headers: Vec::new(), ..Ask::new("POST", "/v1/messages") }.header("Content-Type", kind).body("{}");
        assert_eq!(proxy.ask(&form).await.status, 401, "{kind}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn t3_without_the_token_nothing_is_served_and_the_token_goes_nowhere() {
    let (upstream, proxy) = world().await;
    let almost = &TOKEN[..TOKEN.len() - 1];
    let wrong: [&[(&str, &str)]; 9] = [
        &[],
        &[("x-api-key", CLIENT_KEY)],
        &[("Authorization", "Bearer sk-ant-oat01-test")],
        &[("x-hotspare-token", almost)],
        &[("x-hotspare-token", "")],
        &[("x-hotspare-token", "freecc")],
        &[("Authorization", TOKEN)],
        &[("Authorization", "Bearer ")],
        &[("Cookie", TOKEN)],
    ];
    for headers in wrong {
        for (method, target) in ROUTES.iter().filter(|(method, _)| *method != "HEAD") {
            let mut ask = Ask { headers: Vec::new(), ..Ask::new(method, target) };
            ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
            let answer = proxy.ask(&ask).await;
            assert_eq!(answer.status, 401, "{method} {target} {headers:?}");
            assert_eq!(answer.header("x-should-retry"), Some("false"), "the client would ask for three minutes");
            assert!(!answer.text().contains("hs-"), "{}", answer.text());
        }
    }
    assert_eq!(upstream.connections(), 0);
    let forms: [&[(&str, &str)]; 3] = [
        &[("x-hotspare-token", TOKEN), ("x-api-key", CLIENT_KEY)],
        &[("x-api-key", TOKEN), ("Authorization", "Bearer sk-ant-oat01-test")],
        &[("Authorization", &format!("Bearer {TOKEN}")), ("x-api-key", CLIENT_KEY)],
    ];
    for headers in forms {
        let ask = Ask { headers: Vec::new(), ..Ask::new("GET", "/v1/models?a=b") };
        assert_eq!(proxy.ask(&headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value))).await.status, 200, "{headers:?}");
    }
    for request in upstream.requests() {
        assert!(!String::from_utf8_lossy(&request.raw_head).contains(TOKEN));
    }
}

#[tokio::test]
async fn t3_a_stranger_is_refused_before_a_byte_of_the_body_is_read() {
    let (upstream, proxy) = world().await;
    let mut connection = Connection::open(proxy.addr).await;
    connection.send(format!("POST /v1/messages HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\n", proxy.addr)).await;
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.end, upstream.connections()), (401, End::Whole, 0));
}

/// teamclaude #332: behind another proxy everyone came from this machine.
#[tokio::test]
async fn t4_no_tale_of_another_proxy_opens_the_port() {
    let (upstream, proxy) = world().await;
    for name in
        ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-User", "Via", "True-Client-IP", "X-Client-IP"]
    {
        for value in ["127.0.0.1", "::1", "for=127.0.0.1;by=127.0.0.1", "localhost", "127.0.0.1, 127.0.0.1"] {
            let ask = Ask { headers: Vec::new(), ..Ask::new("GET", "/v1/models") }.header("x-api-key", CLIENT_KEY).header(name, value);
            assert_eq!(proxy.ask(&ask).await.status, 401, "{name}: {value}");
        }
    }
    assert_eq!(upstream.connections(), 0);
}
