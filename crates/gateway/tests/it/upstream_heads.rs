//! Heads from a hostile or broken provider: bounded, never half-understood, and never a way into the client's own connection (T13).

use std::time::{Duration, Instant};

use hotspare_testkit::Script;
use hotspare_testkit::answers::text;
use serde_json::json;

use crate::client::{Ask, End};
use crate::proxy::{FROM_SPARE, Proxy, healthy, plays, wire};

fn head(fields: &str) -> Script {
    Script::new().raw(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{fields}\r\n"))
}

#[tokio::test]
async fn t13_a_head_that_is_too_much_or_broken_goes_to_the_spare() {
    let many = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let cases = [
        ("NUL in a value", head("X-A: a\0b\r\n")),
        ("CR in a value", head("X-A: a\rX-B: b\r\n")),
        ("a bare LF that starts a header", head("X-A: a\nSet-Cookie: evil\u{1}=1\r\n")),
        ("a space before the colon", head("X-A : a\r\n")),
        ("an empty name", head(": a\r\n")),
        ("a line without a colon", head("nonsense\r\n")),
        ("ten thousand headers", head(&many)),
        ("one header of 1 MiB", head(&format!("X-A: {}\r\n", "a".repeat(1024 * 1024)))),
        (
            "a head without an end",
            (0..200).fold(Script::new().raw("HTTP/1.1 200 OK\r\n"), |script, _| script.raw(format!("X-A: {}\r\n", "a".repeat(1024)))),
        ),
        ("a status beyond three digits", Script::new().raw("HTTP/1.1 2000 OK\r\n\r\n")),
        ("a status below 100", Script::new().raw("HTTP/1.1 099 OK\r\n\r\n")),
        ("another protocol", Script::new().raw("HTTP/3 200 OK\r\n\r\n")),
        ("two different lengths", head("Content-Length: 5\r\nContent-Length: 6\r\n").raw("hello!")),
        ("a negative length", head("Content-Length: -1\r\n")),
        ("a length that is no number", head("Content-Length: five\r\n")),
        ("a chunk's size that is no number", head("Transfer-Encoding: chunked\r\n").raw("zz\r\nhello\r\n")),
        ("a chunk's size beyond numbers", head("Transfer-Encoding: chunked\r\n").raw("ffffffffffffffffff\r\nhello\r\n")),
        (
            "a switch of protocols",
            Script::new().raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").hang(),
        ),
    ];
    for (name, script) in cases {
        let (primary, spare) = (plays(script.hang()).await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair_with(&primary.url(), &spare, &json!({ "clocks": { "head": "2s" } })).await;
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.end, answer.profile()), (200, End::Whole, Some("spare")), "{name}");
        assert_eq!(answer.text(), wire(&text(FROM_SPARE)), "{name}");
        assert_eq!(answer.header("set-cookie"), None, "{name}");
    }
}

#[tokio::test]
async fn t13_a_flood_of_informational_answers_ends() {
    for status in [100, 102, 103] {
        let flood = (0..500).fold(Script::new(), |script, _| script.raw(format!("HTTP/1.1 {status} Wait\r\nLink: </x>\r\n\r\n"))).hang();
        let (primary, spare) = (plays(flood).await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair(&primary, &spare).await;
        let asked = Instant::now();
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.end, answer.profile()), (End::Whole, Some("spare")), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{status}: only its clock ended it");
    }
    // Some are fine: they are not passed on.
    let some = (0..8).fold(Script::new(), |script, _| script.raw("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"));
    let events = text("after eight hints");
    let (primary, spare) = (plays(some.sse().events(&events).end()).await, healthy(FROM_SPARE).await);
    let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
    assert_eq!((answer.status, answer.profile(), answer.text()), (200, Some("primary"), wire(&events)));
    assert_eq!(answer.header("link"), None);
}

#[tokio::test]
async fn t13_bytes_that_are_no_text_pass_in_values_without_splitting_anything() {
    let odd = Script::new()
        .raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Odd: caf\xe9 \"\\t\"\r\nContent-Length: 27\r\n\r\n".to_vec())
        .raw(r#"{"content":[{}],"usage":{}}"#);
    let (primary, spare) = (plays(odd).await, healthy(FROM_SPARE).await);
    let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn().body(crate::client::WHOLE)).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"content":[{}],"usage":{}}"#));
    assert_eq!(answer.header("x-odd"), Some("caf\u{fffd} \"\\t\""));
}
