//! Plays the provider for the bench, in its own process: one blocking thread per connection, nothing parsed that need not be. Ends when its standard input
//! closes, so it never outlives the bench.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};

use super::body::Play;
use super::http1::{head_end, header};

/// Deltas of a whole answer.
const DELTAS: usize = 20;

/// Events of a paced answer, and the time between two.
pub(super) const PACED_EVENTS: usize = 100;
const PACE: Duration = Duration::from_millis(3);

/// Stands before the time in a paced event.
pub(super) const SENT_AT: &[u8] = b"sent=";

/// Enough for a thread that holds a scratch buffer on the heap.
const STACK: usize = 128 * 1024;

/// What a listener's connections get.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// What the request's model asks for.
    AsAsked,
    /// 500, always.
    Failing,
}

/// Serves until standard input closes. Prints the good port, then the failing one.
pub(crate) fn serve() -> anyhow::Result<()> {
    let good = listen(Manner::AsAsked)?;
    let failing = listen(Manner::Failing)?;
    println!("{} {}", good.port(), failing.port());
    std::io::stdout().flush()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn listen(manner: Manner) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the proxy's business: the bench sees it at its own end.
            let serving = thread::Builder::new().stack_size(STACK).spawn(move || converse(stream, manner));
            if serving.is_err() {
                eprintln!("bench upstream: no thread for a connection");
            }
        }
    });
    Ok(address)
}

/// Serves one connection until the peer closes it.
fn converse(mut stream: TcpStream, manner: Manner) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let plain = plain_answer();
    let mut scratch = vec![0; 256 * 1024];
    while let Some(play) = read_request(&mut stream, &mut scratch)? {
        match (manner, play) {
            (Manner::Failing, _) => stream.write_all(FAILURE)?,
            (Manner::AsAsked, Play::Plain) => stream.write_all(&plain)?,
            (Manner::AsAsked, Play::Paced) => play_paced(&mut stream)?,
            (Manner::AsAsked, Play::Held) => {
                stream.write_all(&[HEAD, &opening(), &chunk(&delta("still here"))].concat())?;
                // Nothing more comes until the proxy hangs up.
                while stream.read(&mut scratch)? > 0 {}
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads one whole request, its body thrown away but for the model's name; `None` when the peer is done.
fn read_request(stream: &mut TcpStream, scratch: &mut [u8]) -> anyhow::Result<Option<Play>> {
    let mut filled = 0;
    let end = loop {
        let count = stream.read(&mut scratch[filled..])?;
        if count == 0 {
            return if filled == 0 { Ok(None) } else { bail!("a request cut short") };
        }
        filled += count;
        if let Some(end) = head_end(&scratch[..filled]) {
            break end;
        }
    };
    let length: usize = header(&scratch[..end], "content-length").context("a request without content-length")?.parse()?;
    // The model stands at the body's very beginning; wait for those bytes, if the body has them.
    while filled < (end + 64).min(end + length) {
        filled += some(stream.read(&mut scratch[filled..])?)?;
    }
    let beginning = &scratch[end..filled.min(end + 64)];
    let play = Play::ALL.into_iter().find(|play| contains(beginning, play.model().as_bytes())).unwrap_or(Play::Plain);
    let mut left = (end + length).checked_sub(filled).context("bytes after a request")?;
    while left > 0 {
        let room = left.min(scratch.len());
        left -= some(stream.read(&mut scratch[..room])?)?;
    }
    Ok(Some(play))
}

fn some(count: usize) -> anyhow::Result<usize> {
    ensure!(count > 0, "a request cut short");
    Ok(count)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn play_paced(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(&[HEAD, &opening()].concat())?;
    for _ in 0..PACED_EVENTS {
        pause();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        stream.write_all(&chunk(&delta(&format!("{}{now};", std::str::from_utf8(SENT_AT)?))))?;
    }
    stream.write_all(&[&closing()[..], b"0\r\n\r\n"].concat())?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the pace is what is played, nothing waits for it")]
fn pause() {
    thread::sleep(PACE);
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: text/event-stream; charset=utf-8\r\n\
    cache-control: no-cache\r\n\
    request-id: req_bench\r\n\
    anthropic-organization-id: 00000000-0000-0000-0000-000000000000\r\n\
    transfer-encoding: chunked\r\n\r\n";

const FAILURE: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\n\
    content-type: application/json\r\n\
    request-id: req_bench\r\n\
    content-length: 79\r\n\r\n\
    {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"Internal server error\"}}";

/// A whole answer as it goes over the wire, an event per chunk.
fn plain_answer() -> Vec<u8> {
    let mut wire = [HEAD, &opening()].concat();
    for _ in 0..DELTAS {
        wire.extend(chunk(&delta("a few words of an answer, ")));
    }
    wire.extend(closing());
    wire.extend(b"0\r\n\r\n");
    wire
}

/// The events up to the first block.
fn opening() -> Vec<u8> {
    let message = r#"{"type":"message_start","message":{"id":"msg_bench","type":"message","role":"assistant","model":"claude-sonnet-4-6","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":100,"output_tokens":1}}}"#;
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    [chunk(&event("message_start", message)), chunk(&event("content_block_start", block)), chunk(&event("ping", r#"{"type": "ping"}"#))]
        .concat()
}

/// The events after the last delta.
fn closing() -> Vec<u8> {
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":120}}"#;
    [
        chunk(&event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#)),
        chunk(&event("message_delta", delta)),
        chunk(&event("message_stop", r#"{"type":"message_stop"}"#)),
    ]
    .concat()
}

fn delta(text: &str) -> Vec<u8> {
    event("content_block_delta", &format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#))
}

fn event(name: &str, data: &str) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::super::http1::AnswerReader;
    use super::*;

    #[test]
    fn the_failure_is_as_long_as_it_says() {
        let mut reader = AnswerReader::new();
        assert!(reader.feed(FAILURE).unwrap());
        assert_eq!(reader.status(), Some(500));
        assert!(reader.body().ends_with(b"}}"));
    }

    #[test]
    fn the_plain_answer_is_complete_and_ends_with_message_stop() {
        let mut reader = AnswerReader::new();
        assert!(reader.feed(&plain_answer()).unwrap());
        assert!(reader.body().ends_with(b"data: {\"type\":\"message_stop\"}\n\n"));
    }
}
