//! The scripted upstream itself: it plays what it is told and keeps what it is sent. Never stands in for a test of the product.

use super::*;
use crate::Gate;
use std::time::Duration;
use tokio::io::AsyncReadExt;

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

async fn ask(upstream: &Upstream, request: &[u8]) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut stream = TcpStream::connect(upstream.addr()).await.expect("connected");
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).await.err().map(|error| error.kind());
    (answer, error)
}

#[tokio::test]
async fn a_cut_comes_at_exactly_the_byte_that_was_named() {
    let reply = || Script::new().body(200, &[("X", "y")], "hello");
    for length in 1..=reply().wire_len() {
        for reset in [false, true] {
            let script = if reset { reply().reset_after(length) } else { reply().truncate_after(length) };
            let upstream = Upstream::start(move |_| script.clone()).await.expect("started");
            let (answer, error) = ask(&upstream, GET).await;
            if reset {
                assert!(error == Some(io::ErrorKind::ConnectionReset) || answer.len() == length, "{length}: {error:?}");
            } else {
                assert_eq!((answer.len(), error), (length, None));
            }
        }
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_chunked_bodies_are_read() {
    let upstream = Upstream::start(|_| Script::new().body(200, &[], "ok")).await.expect("started");
    let mut stream = TcpStream::connect(upstream.addr()).await.expect("connected");
    for _ in 0..2 {
        stream
            .write_all(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n")
            .await
            .expect("sent");
        let mut answer = [0; 40];
        stream.read_exact(&mut answer).await.expect("answered");
        assert!(answer.ends_with(b"\r\n\r\nok"), "{}", String::from_utf8_lossy(&answer));
    }
    let messages = upstream.messages();
    assert_eq!(messages.iter().map(|message| &message.body[..]).collect::<Vec<_>>(), [b"abc", b"abc"]);
    assert_eq!((upstream.connections(), upstream.open_connections()), (1, 1));
}

#[tokio::test]
async fn a_reset_and_an_orderly_end_look_different() {
    let upstream = Upstream::sequence(vec![Script::new().rst(), Script::new().raw("x").fin()]).await.expect("started");
    let post = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(ask(&upstream, post).await, (Vec::new(), Some(io::ErrorKind::ConnectionReset)));
    assert_eq!(ask(&upstream, post).await, (b"x".to_vec(), None));
}

#[tokio::test]
async fn a_peer_that_goes_is_noticed_in_every_wait() {
    let gate = Gate::new();
    let scripts = [Script::new().hang(), Script::new().sleep(Duration::from_secs(600)), Script::new().gate(&gate)];
    for script in scripts {
        let upstream = Upstream::start(move |_| script.clone()).await.expect("started");
        let mut stream = TcpStream::connect(upstream.addr()).await.expect("connected");
        stream.write_all(GET).await.expect("sent");
        upstream.wait_for(1).await;
        drop(stream);
        upstream.wait_hung_up(0).await;
        upstream.wait(|_| (upstream.open_connections() == 0).then_some(())).await;
    }
}

#[tokio::test]
async fn a_gate_holds_until_it_is_opened() {
    let gate = Gate::new();
    let script = Script::new().raw("a").gate(&gate).raw("b").fin();
    let upstream = Upstream::start(move |_| script.clone()).await.expect("started");
    let mut stream = TcpStream::connect(upstream.addr()).await.expect("connected");
    stream.write_all(GET).await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("first"), b'a');
    gate.open();
    assert_eq!(stream.read_u8().await.expect("second"), b'b');
}

#[tokio::test]
async fn nobody_listens_on_a_refused_address() {
    let addr = refused_addr().expect("an address");
    assert_eq!(TcpStream::connect(addr).await.map_err(|error| error.kind()).err(), Some(io::ErrorKind::ConnectionRefused));
}
