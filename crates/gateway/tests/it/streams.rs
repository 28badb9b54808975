//! Event streams are passed, not rebuilt: however they are split and however large an event is, the client gets the provider's bytes (T14).

use bytes::Bytes;
use hotspare_testkit::answers::{text, text_tool, thinking_text};
use hotspare_testkit::{Event, Gate, Script, Upstream};

use crate::client::{Ask, Connection, End, INTERACTIVE, PROGRAM};
use crate::proxy::{FROM_SPARE, Proxy, healthy, plays, together, wire};

/// Comments and all three line ends between the events.
fn mixed(events: &[Event]) -> String {
    let ends = ["\n", "\r\n", "\r"].into_iter().cycle();
    let events = events.iter().zip(ends).map(|(event, end)| format!("event: {}{end}data: {}{end}{end}", event.name, event.data));
    std::iter::once(": a comment with \u{1f980}\n\n".to_owned()).chain(events).collect()
}

/// praxis #739: a character or a CRLF split between two chunks.
#[tokio::test]
async fn t14_a_stream_split_at_any_byte_passes_unchanged() {
    let streams = [wire(&thinking_text("Gedanke \u{1f980}", "W\u{f6}rter")), mixed(&text_tool("I look.", "Bash", r#"{"command":"ls"}"#))];
    for stream in streams {
        for client in [INTERACTIVE, PROGRAM] {
            let stream = Bytes::from(stream.clone());
            let played = stream.clone();
            let primary = Upstream::start(move |request| {
                let at = request.header("x-split").and_then(|at| at.parse().ok()).unwrap_or(0);
                let (before, after) = (played.slice(..at), played.slice(at..));
                Script::new().sse().chunk(before).chunk(after).end()
            })
            .await
            .expect("started");
            let proxy = Proxy::pair(&primary, &healthy(FROM_SPARE).await).await;
            let mut connection = Connection::open(proxy.addr).await;
            for at in 1..stream.len() {
                connection.ask(&Ask::turn().agent(client).header("x-split", &at.to_string())).await;
                let answer = connection.answer().await;
                assert_eq!((answer.end, answer.profile()), (End::Whole, Some("primary")), "split at {at}");
                assert_eq!(answer.body, stream, "split at {at}");
            }
        }
    }
}

#[tokio::test]
async fn t14_a_stream_in_single_bytes_passes_unchanged() {
    let cases = [wire(&text("byte by byte, \u{1f980}")), mixed(&thinking_text("a thought", "byte by byte"))];
    let cases = cases.map(|stream| async move {
        let script = stream.bytes().fold(Script::new().sse(), |script, byte| script.chunk(vec![byte])).end();
        let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
        let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
        assert_eq!((answer.end, answer.text()), (End::Whole, stream));
    });
    together(cases.into()).await;
}

#[tokio::test]
async fn t14_what_looks_like_an_event_inside_another_is_none() {
    // A line end inside of JSON is written as an escape: nothing of this is an event of its own.
    let words = "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\nevent: error\ndata: {}\r\r: \u{0}";
    let events = text(words);
    let (primary, spare) = (plays(Script::new().sse().events(&events).end()).await, healthy(FROM_SPARE).await);
    let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
    assert_eq!((answer.end, answer.text()), (End::Whole, wire(&events)));
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a figure");
    line.split_whitespace().nth(1).and_then(|figure| figure.parse::<usize>().ok()).expect("kilobytes") * 1024
}

#[tokio::test]
async fn t14_an_event_of_64_mib_passes_in_bounded_memory() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 1024;
    const MOST: usize = 32 * 1024 * 1024;
    let events = text("before");
    // One chunk's bytes, shared by all: the provider itself needs no memory for them.
    let chunk = [format!("{PIECE:x}\r\n").into_bytes(), vec![b'x'; PIECE], b"\r\n".to_vec()].concat();
    let chunk = Bytes::from(chunk);
    let gate = Gate::new();
    let mut script = Script::new().sse().events(&events[..4]).chunk("event: content_block_delta\ndata: ").gate(&gate);
    script = (0..PIECES).fold(script, |script, _| script.raw(chunk.clone()));
    let script = script.chunk("\n\n").events(&events[4..]).end();
    let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    let mut connection = Connection::open(proxy.addr).await;
    connection.ask(&Ask::turn()).await;
    connection.wait_for("content_block_delta").await;
    let before = resident();
    gate.open();
    let (mut most, mut passed) = (0, 0);
    while let Some(count) = connection.skip().await {
        passed += count;
        most = most.max(resident().saturating_sub(before));
    }
    assert!(passed > PIECE * PIECES, "{passed} bytes came through");
    assert!(most < MOST, "it took {} MiB", most / 1024 / 1024);
}
