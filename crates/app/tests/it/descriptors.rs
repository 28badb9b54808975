//! `serve` with as few file descriptors as its system allows it: what cannot be opened is told as what it is, and no profile is the worse for it.

use std::net::SocketAddr;
use std::time::Duration;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::user::{User, asks, wait_for};

/// Descriptors that it may have, hard: it cannot raise them by itself.
const MOST: usize = 40;

/// Longest until the ledger knows.
const PATIENCE: Duration = Duration::from_secs(20);

const BODY: &str = r#"{"model":"claude-opus-5-5","max_tokens":9,"messages":[],"stream":true}"#;

/// Connections that ask nothing, until no descriptor is left: the last one is not even taken.
async fn take_all(proxy: SocketAddr) -> Vec<TcpStream> {
    let mut taken = Vec::new();
    for _ in 0..MOST {
        taken.push(TcpStream::connect(proxy).await.expect("the port has room for who waits"));
    }
    taken
}

#[tokio::test]
async fn out_of_descriptors_no_profile_is_blamed_and_the_client_hears_why() {
    let well = |words: &str| Script::new().sse().events(&text(words)).end();
    let primary = Upstream::sequence(vec![well("from the primary")]).await.expect("started");
    let spare = Upstream::sequence(vec![well("from the spare")]).await.expect("started");
    let user = User::new().pair(&primary.url(), &spare.url()).env("HOTSPARE_LOG", "info");
    let script = format!("ulimit -n {MOST}; exec {} serve", env!("CARGO_BIN_EXE_hotspare"));
    let mut child = user.shell(&script);
    let mut stderr = child.stderr.take().expect("piped");
    let said = wait_for(&mut stderr, "client ").await;
    let proxy: SocketAddr = said
        .split("listening on http://")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("told")
        .parse()
        .expect("an address");
    let headers = format!("x-hotspare-token: {}\r\nx-api-key: sk-ant-test", user.local_token().trim());

    let mut asking = TcpStream::connect(proxy).await.expect("it listens");
    let taken = take_all(proxy).await;
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: {proxy}\r\n{headers}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    // Until the last descriptor is gone.
    let log = wait_for(&mut stderr, "a connection could not be accepted").await;
    asking.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    asking.read_to_string(&mut answer).await.expect("answered");
    for words in ["503", "retry-after: 1", "No profile could be asked: hotspare has no file descriptor left", "None of them is to blame"] {
        assert!(answer.to_ascii_lowercase().contains(&words.to_ascii_lowercase()), "{words:?} is not in:\n{answer}\n{log}");
    }
    assert_eq!((primary.connections(), spare.connections()), (0, 0));
    let log = wait_for(&mut stderr, "no file descriptor left").await;
    assert!(log.contains("attempt failed"), "{log}");

    drop(taken);
    let next = asks(proxy, &headers, BODY).await;
    assert!(next.to_ascii_lowercase().contains("x-hotspare-profile: work"), "it is the first one's turn, as ever: {next}");
    // The ledger could not be written either; it is as soon as it can be.
    let kept = async {
        while !user.runs(&["logs", "--json"]).await.stdout.contains("out_of_descriptors") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.expect("the ledger knows");
    let status = user.runs(&["status", "--json"]).await.stdout;
    assert!(!status.contains("out_of_descriptors"), "nobody's state: {status}");
    child.kill().await.expect("ended");
}
