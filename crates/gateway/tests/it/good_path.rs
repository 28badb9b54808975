//! All is well: what passes is the client's and the provider's own, byte for byte.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use hotspare_testkit::answers::text;
use hotspare_testkit::{Gate, Script, Upstream};

use crate::client::{Ask, Connection, End, WHOLE};
use crate::proxy::{CLIENT_KEY, FROM_SPARE, Proxy, healthy, plays, streamed};

/// Nothing that a parser would write so.
const ODD_BODY: &str =
    "{ \"model\" : \"claude-opus-5-5\",\r\n\t\"n\":1.50e3,  \"n\":2, \"text\":\"h\\u00e9 \u{e9}\",\"messages\" :[ ] ,\"stream\":true }\n\n";

/// Comments, pings, an event nobody knows, three kinds of line ends, fields without a space.
const ODD_STREAM: &str = ": hello\n\nevent: message_start\ndata: {\"type\":\"message_start\",  \"message\":{\"usage\":{\"output_tokens\":1}}}\n\n\
    event: ping\ndata: {\"type\": \"ping\"}\n\nevent:weather\ndata:{\"type\":\"weather\",\"sky\":\"blue\"}\nid: 7\nretry: 10\n\n\
    event: content_block_start\r\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\r\n\r\n\
    :\n: keep-alive\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\ndata: \"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n\
    event: content_block_stop\ndata: {\"index\":0,\"type\":\"content_block_stop\"}\n\n\
    event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n: bye";

async fn nobody() -> Upstream {
    plays(Script::not_found()).await
}

/// Unknown fields, betas and x-claude-code-* headers lost on the way up (three builds, measured).
#[tokio::test]
async fn r44_a_request_goes_up_byte_for_byte_with_its_headers_as_they_were_spelled() {
    let (primary, spare) = (plays(streamed(&text("Hello"))).await, nobody().await);
    let proxy = Proxy::pair(&primary, &spare).await;
    let sent = [
        ("aCCept", "application/json"),
        ("User-Agent", "claude-cli/2.1.330 (external, cli)"),
        ("X-Stainless-Retry-Count", "0"),
        ("anthropic-BETA", "claude-code-20250219,unknown-beta-2031-01-01"),
        ("x-Unknown", "  kept as it is, mostly  "),
        ("X-Claude-Code-Session-Id", "session-1"),
        ("x-api-key", CLIENT_KEY),
    ];
    let mut ask = Ask::new("POST", "/v1/messages?beta=true&odd=%7e~a+b").body(ODD_BODY);
    ask = sent.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
    // What must not pass.
    for (name, value) in
        [("Connection", "keep-alive, x-hop"), ("X-Hop", "1"), ("Cookie", "a=b"), ("X-Forwarded-For", "1.2.3.4"), ("TE", "gzip")]
    {
        ask = ask.header(name, value);
    }
    assert_eq!(proxy.ask(&ask).await.status, 200);
    let got = &primary.messages()[0];
    assert_eq!(got.body, ODD_BODY);
    assert_eq!((&*got.method, &*got.target), ("POST", "/v1/messages?beta=true&odd=%7e~a+b"));
    let names: Vec<&str> = got.headers.iter().map(|(name, _)| name.as_str()).collect();
    let kept: Vec<&str> = sent.iter().map(|(name, _)| *name).collect();
    assert_eq!(names[..kept.len()], kept, "{names:?}");
    for (name, value) in sent {
        assert_eq!(got.header(name), Some(value.trim()), "{name}");
    }
    let ours: Vec<String> = names[kept.len()..].iter().map(|name| name.to_ascii_lowercase()).collect();
    assert_eq!(ours, ["accept-encoding", "via", "host", "content-length"]);
    assert_eq!((got.header("accept-encoding"), got.header("via")), (Some("identity"), Some("1.1 hotspare")));
    assert_eq!(got.header("host"), Some(&*primary.addr().to_string()));
    assert!(spare.requests().is_empty());
}

/// headroom #1833, claude-code #679 #16785: a stream rendered anew, with a usage of zero or no stop reason.
#[tokio::test]
async fn r21_a_stream_comes_down_byte_for_byte() {
    let primary = plays(Script::new().sse().chunk(ODD_STREAM).end()).await;
    let proxy = Proxy::pair(&primary, &nobody().await).await;
    let answer = proxy.ask(&Ask::turn()).await;
    assert_eq!((answer.status, answer.end), (200, End::Whole));
    assert_eq!(answer.text(), ODD_STREAM);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
}

/// lean-ctx #1638: limit headers and request ids lost on the way down.
#[tokio::test]
async fn r45_a_provider_s_headers_come_down_but_those_that_bind_to_its_origin() {
    let fields = [
        ("Content-Type", "application/json"),
        ("Request-ID", "req_1"),
        ("anthropic-ratelimit-unified-status", "allowed"),
        ("X-Unknown-Header", "kept"),
        ("Set-Cookie", "a=b"),
        ("Location", "https://elsewhere.example/"),
        ("Strict-Transport-Security", "max-age=1"),
        ("Alt-Svc", "h3"),
        ("Access-Control-Allow-Origin", "*"),
        ("X-Hotspare-Profile", "forged"),
        ("Connection", "x-hop"),
        ("X-Hop", "1"),
    ];
    let primary = plays(Script::new().body(200, &fields, r#"{ "content":[{}], "usage":{} }"#)).await;
    let proxy = Proxy::pair(&primary, &nobody().await).await;
    let answer = proxy.ask(&Ask::turn().body(WHOLE)).await;
    let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    for (name, value) in &fields[..4] {
        assert!(names.contains(name), "{name} is spelled as the provider spells it: {names:?}");
        assert_eq!(answer.header(name), Some(*value));
    }
    for (name, _) in &fields[4..] {
        assert!(*name == "X-Hotspare-Profile" || answer.header(name).is_none(), "{name}: {names:?}");
    }
    assert_eq!((answer.profile(), answer.header("x-hotspare-attempts")), (Some("primary"), Some("1")));
    assert_eq!(answer.header("via"), Some("1.1 hotspare"));
    assert!(answer.header("x-hotspare-request-id").is_some_and(|id| id.starts_with("hs_")));
}

#[tokio::test]
async fn whole_answers_pass_byte_for_byte_with_their_length() {
    let odd = "{ \"id\" : \"msg_1\",\n  \"n\": 1.0e2, \"input_tokens\":3, \"usage\":{}, \"content\":[ {} ]  }\n";
    let primary = plays(Script::new().body(200, &[("Content-Type", "application/json")], odd)).await;
    let proxy = Proxy::pair(&primary, &nobody().await).await;
    for ask in [
        Ask::turn().body(WHOLE),
        Ask { target: "/v1/messages/count_tokens?beta=true".into(), ..Ask::turn().body(WHOLE) },
        Ask::new("GET", "/v1/models?limit=1000").header("x-api-key", CLIENT_KEY),
    ] {
        let answer = proxy.ask(&ask).await;
        assert_eq!((answer.status, answer.end, answer.text().as_str()), (200, End::Whole, odd), "{}", ask.target);
        assert_eq!(answer.header("content-length"), Some(&*odd.len().to_string()));
        assert_eq!(answer.header("transfer-encoding"), None);
        let got = primary.requests().pop().expect("asked");
        assert_eq!((&got.method, &got.target, &got.body), (&ask.method, &ask.target, &ask.body));
    }
}

#[tokio::test]
async fn paths_nobody_knows_pass_in_both_directions() {
    let blob: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let reply = blob.clone();
    let primary = plays(Script::new().head(201, &[("Content-Type", "application/x-tar"), ("Content-Length", "70000")]).raw(reply)).await;
    let proxy = Proxy::pair(&primary, &nobody().await).await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let ask = Ask::new(method, "/v1/files/f_1?beta=true").header("x-api-key", CLIENT_KEY).body(blob.clone());
        let answer = proxy.ask(&ask).await;
        assert_eq!((answer.status, &answer.body[..], answer.end), (201, &blob[..], End::Whole));
        assert_eq!(
            (&*primary.requests().pop().expect("asked").method, &*primary.requests().pop().expect("asked").body),
            (method, &blob[..])
        );
    }
    let primary = plays(Script::not_found()).await;
    let proxy = Proxy::pair(&primary, &nobody().await).await;
    let answer = proxy.ask(&Ask::new("GET", "/v1/nothing").header("x-api-key", CLIENT_KEY)).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("not_found_error"), "the provider's own words: {}", answer.text());
}

#[tokio::test]
async fn the_client_s_warm_up_is_answered_here_without_a_token() {
    let (primary, spare) = (nobody().await, nobody().await);
    let proxy = Proxy::pair(&primary, &spare).await;
    for (method, path) in [("HEAD", "/"), ("HEAD", "/api/hello"), ("GET", "/api/hello")] {
        let ask = Ask { method: method.into(), target: path.into(), headers: Vec::new(), body: "".into() };
        let answer = proxy.ask(&ask).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{method} {path}");
    }
    assert_eq!(primary.connections() + spare.connections(), 0);
}

/// durallm answers a stream when all of it has come, Portkey sleeps 25 ms before the first chunk (measured).
#[tokio::test]
async fn r22_events_reach_the_client_as_they_come() {
    let events = text("A text in four pieces");
    let gates: Vec<Gate> = events.iter().map(|_| Gate::new()).collect();
    let script = events.iter().zip(&gates).fold(Script::new().sse(), |script, (event, gate)| script.chunk(event.bytes()).gate(gate)).end();
    let primary = plays(script).await;
    let proxy = Proxy::pair(&primary, &nobody().await).await;
    let mut connection = Connection::open(proxy.addr).await;
    connection.ask(&Ask::turn()).await;
    for (event, gate) in events.iter().zip(&gates) {
        // The first content releases what was held before it.
        if event.name != "message_start" && event.name != "ping" {
            connection.wait_for(&event.data).await;
        }
        gate.open();
    }
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.end), (200, End::Whole));
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let (primary, spare) = (healthy("Hello").await, nobody().await);
    let proxy = Proxy::pair(&primary, &spare).await;
    let mut connection = Connection::open(proxy.addr).await;
    for _ in 0..5 {
        connection.ask(&Ask::turn()).await;
        assert_eq!(connection.answer().await.end, End::Whole);
    }
    assert_eq!((primary.messages().len(), primary.connections()), (5, 1));
}

#[tokio::test]
async fn a_kept_connection_that_has_died_is_replaced_without_a_hop() {
    let primary = plays(streamed(&text("Hello")).fin()).await;
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("primary"));
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("primary"));
    assert!(spare.requests().is_empty());
}

/// teamclaude #106 #78, claude-code #37078 #32116 #47059 #78966: dead sockets after a sleep.
#[tokio::test]
async fn r10_a_kept_connection_that_dies_under_a_request_is_replaced_without_a_hop() {
    let count = AtomicUsize::new(0);
    let second_dies = move |_: &_| if count.fetch_add(1, Ordering::SeqCst) == 1 { Script::new().rst() } else { streamed(&text("Hello")) };
    let primary = Upstream::start(second_dies).await.expect("started");
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    for _ in 0..2 {
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.end, answer.profile()), (End::Whole, Some("primary")));
    }
    assert_eq!((primary.messages().len(), primary.connections()), (3, 2));
    assert!(spare.requests().is_empty());
}

#[tokio::test]
async fn a_chunked_and_a_packed_request_arrive_whole() {
    let primary = healthy("Hello").await;
    let proxy = Proxy::pair(&primary, &nobody().await).await;
    let ask = Ask::turn().header("Transfer-Encoding", "chunked").body("");
    let mut connection = Connection::open(proxy.addr).await;
    connection.ask(&ask).await;
    for piece in ["{\"model\":", "\"claude-opus-5-5\"", ",\"stream\":true}"] {
        connection.send(format!("{:x};ext=1\r\n{piece}\r\n", piece.len())).await;
    }
    connection.send("0\r\nx-trailer: 1\r\n\r\n").await;
    assert_eq!(connection.answer().await.end, End::Whole);
    assert_eq!(primary.messages()[0].body, "{\"model\":\"claude-opus-5-5\",\"stream\":true}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(ODD_BODY.as_bytes()).expect("in memory");
    let packed = packed.finish().expect("in memory");
    let answer = proxy.ask(&Ask::turn().header("Content-Encoding", "gzip").body(packed.clone())).await;
    assert_eq!(answer.end, End::Whole);
    assert_eq!(primary.messages()[1].body, packed);
    assert_eq!(primary.messages()[1].header("content-encoding"), Some("gzip"));
}
