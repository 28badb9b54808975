//! Slow, huge and packed bodies, slow heads, too many connections: bounded, and nobody else notices (T15 to T17).

use std::io::Write;
use std::time::{Duration, Instant};

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};

use crate::client::{Ask, Connection, End};
use crate::proxy::{FROM_SPARE, Proxy, TOKEN, healthy, plays, whole, wire};

const MIB: usize = 1024 * 1024;

async fn lone_with(primary: &Upstream, server: Value) -> Proxy {
    Proxy::start(&json!({
        "failover_policy": { "primary_profile": "primary" },
        "profiles": { "primary": { "base_url": primary.url() } },
        "server": server,
    }))
    .await
}

#[tokio::test]
async fn t15_a_body_that_says_it_is_too_large_is_refused_before_it_is_read() {
    let primary = healthy("never asked").await;
    for (server, most) in [(json!({}), 32 * MIB), (json!({ "max_body": "64MiB" }), 64 * MIB), (json!({ "max_body": "1MiB" }), MIB)] {
        let proxy = lone_with(&primary, server).await;
        let mut connection = Connection::open(proxy.addr).await;
        let head = Ask::turn().body("").header("Content-Length", &(most + 1).to_string()).head(proxy.addr);
        connection.send(head).await;
        connection.wait_for("HTTP/1.1 413").await;
        connection.wait_for("max_body").await;
        connection.hang_up();
    }
    assert_eq!(primary.connections(), 0);
}

#[tokio::test]
async fn refusal_of_our_own_names_its_limit_and_its_origin() {
    let primary = healthy("never asked").await;
    let proxy = lone_with(&primary, json!({ "max_body": "64KiB" })).await;
    let answer = proxy.ask(&Ask::turn().body(vec![b' '; 64 * 1024 + 1])).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("larger than 64 KiB (`server.max_body`)"), "{}", answer.text());
    for answer in
        [answer, proxy.ask(&Ask::new("PUT", "/hotspare/status")).await, proxy.ask(&Ask::turn().header("Content-Encoding", "lzma")).await]
    {
        assert_eq!((answer.header("via"), answer.header("x-hotspare-attempts")), (Some("1.1 hotspare"), Some("0")), "{}", answer.status);
        assert_eq!((answer.header("x-hotspare-profile"), answer.header("x-hotspare-request-id")), (None, None));
    }
    assert_eq!(primary.connections(), 0);
}

#[tokio::test]
async fn t15_a_body_that_does_not_say_so_is_refused_where_it_passes_the_limit() {
    let primary = healthy("never served").await;
    let proxy = lone_with(&primary, json!({ "max_body": "1MiB" })).await;
    let mut connection = Connection::open(proxy.addr).await;
    connection.send(Ask::turn().body("").header("Transfer-Encoding", "chunked").head(proxy.addr)).await;
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 64 * 1024], b"\r\n".to_vec()].concat();
    for _ in 0..17 {
        connection.send(&chunk).await;
    }
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.end), (413, End::Whole), "{}", answer.text());
    assert!(primary.messages().is_empty(), "it never got a whole request");
}

#[tokio::test]
async fn t15_the_largest_body_allowed_passes() {
    let primary = healthy("fine").await;
    let proxy = lone_with(&primary, json!({ "max_body": "2MiB" })).await;
    let ask = Ask::turn().body(vec![b' '; 2 * MIB]);
    assert_eq!(proxy.ask(&ask).await.status, 200);
    assert_eq!(primary.messages()[0].body.len(), 2 * MIB);
}

/// Silent, or one byte and then silent: closed after ten seconds of the paused clock.
#[tokio::test(start_paused = true)]
async fn t15_a_head_that_does_not_end_is_closed_after_ten_seconds() {
    let primary = healthy("never asked").await;
    let proxy = Proxy::lone(&primary).await;
    for begun in ["", "P", "POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let opened = tokio::time::Instant::now();
        let mut connection = Connection::open(proxy.addr).await;
        connection.send(begun).await;
        assert!(connection.rest_however_slow().await.is_empty(), "{begun:?}");
        let took = opened.elapsed();
        assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(12), "{begun:?}: {took:?}");
    }
    assert_eq!(primary.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn t15_a_body_that_does_not_come_is_given_up() {
    let primary = healthy("never served").await;
    let proxy = Proxy::lone(&primary).await;
    let opened = tokio::time::Instant::now();
    let mut connection = Connection::open(proxy.addr).await;
    connection.send(Ask::turn().body("").header("Content-Length", "1000000").head(proxy.addr)).await;
    let rest = connection.rest_however_slow().await;
    assert!(rest.starts_with(b"HTTP/1.1 408 "), "{rest:?}");
    // 30 s to begin with, and what it has earned.
    assert!(opened.elapsed() >= Duration::from_secs(30) && opened.elapsed() < Duration::from_secs(60), "{:?}", opened.elapsed());
}

#[tokio::test]
async fn t15_slow_clients_do_not_hold_others_up() {
    let primary = healthy("fine").await;
    let proxy = Proxy::lone(&primary).await;
    let mut slow = Vec::new();
    for count in 0..250 {
        let mut connection = Connection::open(proxy.addr).await;
        connection.send(["", "POST /v1", "POST /v1/messages HTTP/1.1\r\nX: "][count % 3]).await;
        slow.push(connection);
    }
    let mut connection = Connection::open(proxy.addr).await;
    let mut worst = Duration::ZERO;
    for _ in 0..100 {
        let asked = Instant::now();
        connection.ask(&Ask::turn()).await;
        assert_eq!(connection.answer().await.text(), wire(&text("fine")));
        worst = worst.max(asked.elapsed());
    }
    assert!(worst < Duration::from_millis(500), "{worst:?}");
    drop(slow);
}

#[tokio::test]
async fn t15_connections_beyond_the_limit_are_closed_and_the_others_served() {
    let primary = healthy("fine").await;
    let proxy = lone_with(&primary, json!({ "max_connections": 4 })).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(proxy.addr).await;
        connection.ask(&Ask::turn()).await;
        assert_eq!(connection.answer().await.status, 200);
        held.push(connection);
    }
    let mut fifth = Connection::open(proxy.addr).await;
    fifth.ask(&Ask::turn()).await;
    assert!(fifth.answer_to("POST").await.is_none());
    for connection in &mut held {
        connection.ask(&Ask::turn()).await;
        assert_eq!(connection.answer().await.status, 200);
    }
}

#[tokio::test]
async fn t16_an_unknown_packing_of_a_request_is_refused() {
    let primary = healthy("never asked").await;
    let proxy = Proxy::lone(&primary).await;
    for coding in ["compress", "gzip, gzip", "x-evil"] {
        let answer = proxy.ask(&Ask::turn().header("Content-Encoding", coding)).await;
        assert_eq!(answer.status, 415, "{coding}");
    }
    assert_eq!(primary.connections(), 0);
}

#[tokio::test]
async fn t16_a_bomb_is_relayed_packed_and_never_unpacked_whole() {
    // 256 MiB of nothing in a quarter of a megabyte.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..256 {
        packed.write_all(&vec![b' '; MIB]).expect("in memory");
    }
    let bomb = packed.finish().expect("in memory");
    let fields = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let primary = plays(Script::new().body(400, &fields, bomb.clone())).await;
    let proxy = Proxy::lone(&primary).await;
    let started = Instant::now();
    let answer = proxy.ask(&Ask::turn()).await;
    assert_eq!((answer.status, &answer.body[..]), (400, &bomb[..]));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn t17_bodies_that_break_parsers_pass_unchanged() {
    let deep = "[".repeat(1_000_000);
    let bodies = [
        deep.clone(),
        format!(r#"{{"model":"m","messages":{deep}"#),
        format!(r#"{{"a":{}1{},"model":"m"}}"#, "[".repeat(100_000), "]".repeat(100_000)),
        format!(r#"{{"n":1{},"model":"m"}}"#, "0".repeat(100_000)),
        r#"{"n":1e999999999,"n":-0,"model":"m","model":"n"}"#.to_owned(),
        "{\"model\":\"\\ud800\"}".to_owned(),
        "\u{feff}{}".to_owned(),
        "\0\0\0".to_owned(),
        "not json".to_owned(),
    ];
    // None of them asks for a stream.
    let primary = plays(whole("fine")).await;
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    for (count, body) in bodies.iter().enumerate() {
        let answer = proxy.ask(&Ask::turn().body(body.clone())).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("primary")), "body {count}");
        assert!(primary.messages()[count].body == body.as_bytes(), "body {count} was changed");
    }
    assert!(primary.messages().iter().all(|request| !String::from_utf8_lossy(&request.raw_head).contains(TOKEN)));
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("in memory");
    encoder.finish().expect("in memory")
}

/// Claude Code with `CLAUDE_CODE_GZIP_REQUEST_BODIES=1` behind a proxy (2.1.332).
#[tokio::test]
async fn field_11_compressed_body_is_readable_for_each_profile() {
    let overloaded = || Script::error(529, "overloaded_error", "Overloaded");
    let (primary, second) = (plays(overloaded()).await, plays(overloaded()).await);
    let glm = healthy(FROM_SPARE).await;
    let key = json!({ "value": crate::proxy::SPARE_KEY });
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": ["second", "glm"] },
        "profiles": {
            "work": { "base_url": primary.url() },
            "second": { "base_url": second.url(), "auth": key },
            "glm": { "preset": "zai", "base_url": glm.url(), "auth": key, "models": { "claude-*": "glm-5" } },
        },
    }))
    .await;
    let text = json!({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "hello"}], "stream": true}).to_string();
    let packed = gzip(text.as_bytes());
    let ask = || Ask::turn().header("Content-Encoding", "gzip").header("Content-Language", "en");
    let answer = proxy.ask(&ask().body(packed.clone())).await;
    assert_eq!((answer.status, answer.profile()), (200, Some("glm")), "{}", answer.text());
    for native in [&primary, &second] {
        let got = &native.messages()[0];
        assert_eq!(
            (&got.body[..], got.header("content-encoding"), got.header("content-language")),
            (&packed[..], Some("gzip"), Some("en"))
        );
    }
    let got = &glm.messages()[0];
    assert_eq!((got.json()["model"].as_str(), got.header("content-encoding")), (Some("glm-5"), None));
    assert_eq!(got.header("content-length"), Some(&*got.body.len().to_string()));
    // What cannot be decoded goes where nothing has to be changed in it, and nowhere else.
    let answer = proxy.ask(&ask().body(packed[..packed.len() / 2].to_vec())).await;
    assert_ne!(answer.status, 200);
    assert_eq!((primary.messages().len() + second.messages().len() > 2, glm.messages().len()), (true, 1));
}

#[tokio::test]
async fn compressed_body_that_is_invalid_by_form_is_mended_and_sent_plain() {
    let primary = healthy("fine").await;
    let proxy = Proxy::lone(&primary).await;
    let text =
        r#"{"model":"claude-opus-5-5","messages":[{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":"x"}]}]}"#;
    let answer = proxy.ask(&Ask::turn().header("Content-Encoding", "gzip").header("Digest", "sha-256=x").body(gzip(text.as_bytes()))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = &primary.messages()[0];
    assert_eq!((got.header("content-encoding"), got.header("digest")), (None, None));
    assert_eq!(got.body, r#"{"model":"claude-opus-5-5","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}"#);
}
