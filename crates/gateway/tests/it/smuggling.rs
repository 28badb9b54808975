//! Raw requests that two HTTP readers could understand differently: each is refused and the connection closes, before anything behind it is
//! taken for a request (T12).

use std::time::Duration;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Gate, Script, Upstream};

use crate::client::{Ask, Connection, End};
use crate::proxy::{CLIENT_KEY, Proxy, TOKEN, plays, wire};

/// Fewest cases (security.md T12).
const CASES: usize = 40;

/// `{host}` and `{auth}` stand for lines that are well.
const REFUSED: [(&str, &str, u16); 58] = [
    ("no Host", "POST /v1/messages HTTP/1.1\r\n{auth}Content-Length: 2\r\n\r\n{}", 400),
    ("two Hosts", "POST /v1/messages HTTP/1.1\r\n{host}{host}{auth}\r\n", 400),
    ("two different Hosts", "POST /v1/messages HTTP/1.1\r\n{host}Host: evil.example\r\n{auth}\r\n", 400),
    ("a Host of garbage", "POST /v1/messages HTTP/1.1\r\nHost: a b\r\n{auth}\r\n", 421),
    ("a Host with bytes beyond ASCII", "POST /v1/messages HTTP/1.1\r\nHost: \u{e4}\r\n{auth}\r\n", 421),
    ("a space before Host's colon", "POST /v1/messages HTTP/1.1\r\nHost : 127.0.0.1\r\n{auth}\r\n", 400),
    ("absolute form", "POST http://127.0.0.1/v1/messages HTTP/1.1\r\n{host}{auth}\r\n", 400),
    ("absolute form elsewhere", "GET http://evil.example/ HTTP/1.1\r\n{host}{auth}\r\n", 400),
    ("asterisk form", "OPTIONS * HTTP/1.1\r\n{host}{auth}\r\n", 400),
    ("authority form", "CONNECT evil.example:443 HTTP/1.1\r\n{host}{auth}\r\n", 405),
    ("CONNECT with a path", "CONNECT /v1/messages HTTP/1.1\r\n{host}{auth}\r\n", 405),
    ("TRACE", "TRACE /v1/messages HTTP/1.1\r\n{host}{auth}\r\n", 405),
    ("TRACK", "TRACK /v1/messages HTTP/1.1\r\n{host}{auth}\r\n", 405),
    ("an upgrade", "GET /v1/models HTTP/1.1\r\n{host}{auth}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
    (
        "an upgrade to h2c",
        "GET /v1/models HTTP/1.1\r\n{host}{auth}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
        501,
    ),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("TE and length", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("length and TE", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    (
        "TE twice",
        "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    ("TE of two codings", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("TE chunked, chunked", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
    ("TE identity", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: identity\r\n\r\n", 501),
    ("TE xchunked", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("TE with a parameter", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 501),
    ("TE in quotes", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501),
    ("TE empty", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding:\r\n\r\n", 501),
    ("TE with a vertical tab", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", 400),
    ("TE with a space before the colon", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("TE folded", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    ("two lengths", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 400),
    ("twice the same length", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
    ("a list of lengths", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: 2, 2\r\n\r\n{}", 400),
    ("a length with a sign", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: +2\r\n\r\n{}", 400),
    ("a negative length", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: -1\r\n\r\n", 400),
    ("a length in hex", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: 0x2\r\n\r\n{}", 400),
    ("a length with a point", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: 2.0\r\n\r\n{}", 400),
    ("an empty length", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length:\r\n\r\n", 400),
    ("a length beyond numbers", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: 99999999999999999999\r\n\r\n", 400),
    ("a length with a space before the colon", "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length : 2\r\n\r\n{}", 400),
    ("bare LF in the request line", "POST /v1/messages HTTP/1.1\n{host}{auth}\r\n", 400),
    ("bare LF in a header", "POST /v1/messages HTTP/1.1\r\n{host}{auth}X-A: b\nX-C: d\r\n\r\n", 400),
    ("bare LF at the end", "POST /v1/messages HTTP/1.1\r\n{host}{auth}\n", 400),
    ("bare CR in a value", "POST /v1/messages HTTP/1.1\r\n{host}{auth}X-A: b\rX-C: d\r\n\r\n", 400),
    ("bare CR in the request line", "POST /v1/messages\r HTTP/1.1\r\n{host}{auth}\r\n", 400),
    ("NUL in a value", "POST /v1/messages HTTP/1.1\r\n{host}{auth}X-A: b\u{0}c\r\n\r\n", 400),
    ("NUL in a name", "POST /v1/messages HTTP/1.1\r\n{host}{auth}X\u{0}A: b\r\n\r\n", 400),
    ("an empty name", "POST /v1/messages HTTP/1.1\r\n{host}{auth}: b\r\n\r\n", 400),
    ("a line without a colon", "POST /v1/messages HTTP/1.1\r\n{host}{auth}nonsense\r\n\r\n", 400),
    ("a folded header", "POST /v1/messages HTTP/1.1\r\n{host}{auth}X-A: b\r\n c: d\r\n\r\n", 400),
    ("a header folded at the start", "POST /v1/messages HTTP/1.1\r\n {host}{auth}\r\n", 400),
    ("two spaces in the request line", "POST  /v1/messages HTTP/1.1\r\n{host}{auth}\r\n", 400),
    ("a tab in the request line", "POST\t/v1/messages HTTP/1.1\r\n{host}{auth}\r\n", 400),
    ("empty lines before the request", "\r\n\r\nPOST /v1/messages HTTP/1.1\r\n{host}{auth}\r\n", 400),
    ("HTTP/1.0", "POST /v1/messages HTTP/1.0\r\n{host}{auth}\r\n", 400),
    ("HTTP/0.9", "GET /v1/models\r\n\r\n", 400),
    ("HTTP/1.2", "POST /v1/messages HTTP/1.2\r\n{host}{auth}\r\n", 400),
    ("HTTP/2", "POST /v1/messages HTTP/2\r\n{host}{auth}\r\n", 400),
    ("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n", 400),
];

/// What would come next if the first request were misread.
const HIDDEN: &str = "GET /v1/hidden HTTP/1.1\r\n{host}{auth}\r\n";

async fn world() -> (Upstream, Proxy) {
    let upstream = plays(Script::new().body(200, &[("Content-Type", "application/json")], "{}")).await;
    let proxy = Proxy::lone(&upstream).await;
    (upstream, proxy)
}

fn filled(template: &str, proxy: &Proxy) -> String {
    let auth = format!("x-hotspare-token: {TOKEN}\r\nx-api-key: {CLIENT_KEY}\r\n");
    template.replace("{host}", &format!("Host: {}\r\n", proxy.addr)).replace("{auth}", &auth)
}

#[tokio::test]
async fn t12_what_can_be_read_in_two_ways_is_refused_and_the_connection_closes() {
    let (upstream, proxy) = world().await;
    const { assert!(REFUSED.len() >= CASES) };
    for (name, raw, status) in REFUSED {
        let mut connection = Connection::open(proxy.addr).await;
        connection.send(filled(raw, &proxy) + &filled(HIDDEN, &proxy)).await;
        let answer = connection.answer_to("GET").await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(answer.text().contains(r#""type":"error""#), "{name}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{name}");
        assert!(connection.rest().await.is_empty(), "{name}: something behind it was answered");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn t12_a_head_in_pieces_is_judged_like_a_whole_one() {
    let (upstream, proxy) = world().await;
    for (name, raw, status) in REFUSED {
        let raw = filled(raw, &proxy);
        for cut in [1, raw.len() / 3, raw.len() / 2, raw.len() - 1] {
            let mut connection = Connection::open(proxy.addr).await;
            connection.send(&raw.as_bytes()[..cut]).await;
            // The halves may still be joined on their way: then it is the whole that is judged.
            tokio::task::yield_now().await;
            connection.send(&raw.as_bytes()[cut..]).await;
            connection.send(filled(HIDDEN, &proxy)).await;
            let answer = connection.answer_to("GET").await.unwrap_or_else(|| panic!("{name}: no answer"));
            assert_eq!(answer.status, status, "{name} cut at {cut}: {}", answer.text());
        }
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn t12_chunk_framing_of_the_client_s_is_never_passed_on_and_nothing_hides_behind_it() {
    let (upstream, proxy) = world().await;
    let bodies = [
        "2\r\n{}\r\n0\r\n\r\n",
        "2;ext=\"a\"\r\n{}\r\n0\r\n\r\n",
        "02\r\n{}\r\n000\r\n\r\n",
        "2\r\n{}\r\n0\r\nContent-Length: 5\r\nHost: evil\r\n\r\n",
        "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    ];
    for (count, body) in bodies.into_iter().enumerate() {
        let mut connection = Connection::open(proxy.addr).await;
        let head = "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: chunked\r\n\r\n";
        connection.send(filled(head, &proxy) + body + &filled(HIDDEN, &proxy)).await;
        assert_eq!(connection.answer().await.status, 200, "{body:?}");
        assert!(connection.rest().await.is_empty(), "{body:?}: nothing is served behind a chunked body");
        let requests = upstream.requests();
        assert_eq!(requests.len(), count + 1, "{body:?}");
        let got = &requests[count];
        assert_eq!((&*got.target, &got.body[..]), ("/v1/messages", &b"{}"[..]));
        assert!(got.headers.iter().all(|(_, value)| value != b"evil"), "{body:?}");
    }
    let broken = [
        "z\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\n{}\n0\n\n",
        "ffffffffffffffffff\r\n{}\r\n",
        " 2\r\n{}\r\n0\r\n\r\n",
    ];
    for body in broken {
        let mut connection = Connection::open(proxy.addr).await;
        let head = "POST /v1/messages HTTP/1.1\r\n{host}{auth}Transfer-Encoding: chunked\r\n\r\n";
        connection.send(filled(head, &proxy) + body + &filled(HIDDEN, &proxy)).await;
        let status = connection.answer_to("POST").await.map(|answer| answer.status);
        assert!(matches!(status, None | Some(400..=499)), "{body:?}: {status:?}");
        assert!(connection.rest().await.is_empty(), "{body:?}");
    }
    let served = upstream.requests().iter().filter(|request| request.target == "/v1/hidden").count();
    assert_eq!(served, 0);
}

#[tokio::test]
async fn t12_a_body_longer_than_it_says_is_never_taken_for_more_of_it() {
    let (upstream, proxy) = world().await;
    let mut connection = Connection::open(proxy.addr).await;
    let first = "POST /v1/messages HTTP/1.1\r\n{host}{auth}Content-Length: 2\r\n\r\n{}";
    // Two honest requests in one packet: both are served, apart from each other.
    connection.send(filled(first, &proxy) + &filled(HIDDEN, &proxy)).await;
    assert_eq!((connection.answer().await.status, connection.answer().await.status), (200, 200));
    let requests = upstream.requests();
    assert_eq!(requests.iter().map(|request| &*request.target).collect::<Vec<_>>(), ["/v1/messages", "/v1/hidden"]);
    assert_eq!(requests[0].body, "{}");
    // And what follows that is no request is refused, not appended.
    connection.send("smuggled\r\n\r\n").await;
    assert_eq!(connection.answer().await.status, 400);
    assert_eq!(upstream.requests().len(), 2);
}

/// What a client sends while it is answered is not looked at: no refusal is written into an answer, and nothing ends one.
#[tokio::test]
async fn t12_what_comes_during_an_answer_waits_until_it_has_gone_out() {
    let events = text("not disturbed");
    let second = "GET /v1/second HTTP/1.1\r\n{host}{auth}\r\n";
    for (next, expected) in
        [(second, Some(200)), ("GET //evil HTTP/1.1\r\n{host}\r\n", Some(400)), ("\r\n", Some(400)), ("GET /v1/sec", None)]
    {
        let gate = Gate::new();
        let script = Script::new().sse().events(&events[..4]).gate(&gate).events(&events[4..]).end();
        let upstream = Upstream::start(move |request| match &*request.target {
            "/v1/second" => Script::new().body(200, &[("Content-Type", "text/plain")], "second"),
            _ => script.clone(),
        })
        .await
        .expect("started");
        let proxy = Proxy::lone(&upstream).await;
        let mut connection = Connection::open(proxy.addr).await;
        connection.ask(&Ask::turn()).await;
        connection.wait_for("not ").await;
        connection.send(filled(next, &proxy)).await;
        // Longer than a head may take.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
        tokio::time::resume();
        gate.open();
        let answer = connection.answer().await;
        assert_eq!((answer.end, answer.text()), (End::Whole, wire(&events)), "{next:?}");
        if next.ends_with("\r\n") {
            assert_eq!(connection.answer_to("GET").await.map(|answer| answer.status), expected, "{next:?}");
        }
    }
}
