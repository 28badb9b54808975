//! The same life with hotspare as the client's HTTPS proxy: its credentials, and the key of the authority that the client trusts, are two more
//! secrets, and the head of every tunnel holds one.

use std::net::SocketAddr;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hotspare_testkit::canary::Heap;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::house::{AUTHORITY, House, needles, secret};
use super::{COMMANDS, PATIENCE, ROUNDS, check_providers, files, port, shows};
use crate::full::{asking, ends, led, openssl, starts};
use crate::user::{ended, signal, signalled};

/// Where the private number begins in a PKCS #8 text of a key on P-256, and how long it is. What follows it is public.
const PRIVATE: std::ops::Range<usize> = 36..68;

const HOST: &str = "api.anthropic.com";

/// What a listener says to this, and to whatever follows it in a tunnel.
async fn tunnel(proxy: SocketAddr, host: &str, credentials: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy listens");
    let basic = BASE64_STANDARD.encode(format!("hotspare:{credentials}"));
    let head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: Basic {basic}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), bytes].concat()).await.expect("sent");
    stream.shutdown().await.expect("nothing more is sent");
    let mut said = Vec::new();
    // A reset is an answer too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("in time");
    said
}

/// Messages until one is answered, what asks no model, tunnels to another host, and what is refused.
async fn traffic(heap: &mut Heap, proxy: SocketAddr, token: &str, trusted: &Path) {
    let headers = format!("x-api-key: {}\r\nx-company-key: {}", secret("client"), secret("company"));
    let body = json!({ "model": "claude-opus-5-5", "stream": true, "max_tokens": 9, "messages": [{ "role": "user", "content": secret("prompt") }] });
    let question = asking(&headers, &body.to_string());
    let mut answers = Vec::new();
    for _ in 0..ROUNDS {
        // Not searched: what comes back is a provider's own, and says what it was told.
        answers.push(openssl(proxy, token, HOST, Some(trusted), &question).await);
    }
    assert!(answers.iter().any(|answer| answer.contains("message_stop")), "{answers:#?}");
    let models = format!("GET /v1/models HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\nConnection: close\r\n\r\n");
    heap.put("what does not get out", openssl(proxy, token, HOST, Some(trusted), &models).await);
    heap.put("a client that does not trust us", openssl(proxy, token, HOST, None, &question).await);
    heap.put("a tunnel to nowhere", tunnel(proxy, "other.example", token, b"").await);
    heap.put("a tunnel for a stranger", tunnel(proxy, HOST, &secret("unused"), b"").await);
    heap.put("a tunnel without TLS", tunnel(proxy, HOST, token, question.as_bytes()).await);
    heap.put("a tunnel of garbage", tunnel(proxy, HOST, token, secret("client").as_bytes()).await);
}

/// A run that has an authority of its own.
async fn run(heap: &mut Heap, house: &House) {
    // `doctor` has asked the client for its version.
    let _ = std::fs::remove_file(house.user.path("report/started"));
    let child = starts(&house.user, &["run", "--", "claude", "-p", "x"]).await;
    let (proxy, token) = led(&house.user);
    let trusted = house.user.settings()["env"]["NODE_EXTRA_CA_CERTS"].as_str().map(std::path::PathBuf::from).expect("a file");
    traffic(heap, proxy, &token, &trusted).await;
    let last = ends(child).await;
    heap.put("what `run` says", last.stdout + &last.stderr);
    heap.put("how the client was started", house.user.report("argv") + &house.user.report("parent"));
}

async fn life(house: &House, end: Signal) -> Heap {
    let mut heap = Heap::default();
    let (child, proxy, said) = house.user.serves().await;
    heap.put("what `serve` says", said);
    let token = house.user.local_token().trim().to_owned();
    let trusted = house.user.path(AUTHORITY).with_file_name("ca.pem");
    // It is written in the same breath as the port is told.
    house.user.wait_for(trusted.strip_prefix(house.user.path("")).expect("of this user").to_str().expect("UTF-8")).await;
    traffic(&mut heap, proxy, &token, &trusted).await;
    port(&mut heap, proxy, &token).await;
    if end == Signal::TERM {
        for arguments in COMMANDS {
            shows(&mut heap, &house.user, arguments).await;
        }
        run(&mut heap, house).await;
        let last = signalled(child, end).await;
        heap.put("what `serve` says", last.stdout + &last.stderr);
    } else {
        signal(&child, end);
        let last = ended(child).await;
        heap.put("what a crashing `serve` says", last.stdout + &last.stderr);
    }
    heap
}

/// What is private of the authority's key.
fn private_number(house: &House) -> Vec<u8> {
    let kept: Value = serde_json::from_slice(&std::fs::read(house.user.path(AUTHORITY)).expect("made")).expect("JSON");
    let pem = kept["key"].as_str().expect("PEM");
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = BASE64_STANDARD.decode(text).expect("Base64");
    assert_eq!(&key[PRIVATE.start - 2..PRIVATE.start], [0x04, 0x20], "32 bytes follow");
    key[PRIVATE].to_vec()
}

#[tokio::test]
async fn t11_no_secret_is_left_in_full_mode_either() {
    let house = House::new().await.in_full_mode();
    let mut heap = life(&house, Signal::TERM).await;
    for (place, bytes) in life(&house, Signal::ABORT).await.0 {
        heap.put(&place, bytes);
    }
    files(&mut heap, &house.user);
    let mut needles = needles();
    needles.add("the local token", house.user.local_token().trim());
    needles.add("the authority's key", private_number(&house));
    check_providers(&house, &needles);
    let hits = heap.hits(&needles);
    println!("canary, full mode: {} secrets in {} places of {} bytes: {} hits", needles.secrets(), heap.0.len(), heap.bytes(), hits.len());
    assert!(hits.is_empty(), "{hits:#?}");
    let said = |place: &str| String::from_utf8_lossy(&heap.0[place]).into_owned();
    assert!(heap.0.keys().any(|place| place.ends_with("ca/ca.pem")), "there was an authority: {:?}", heap.0.keys());
    assert!(said("a tunnel for a stranger").contains("407"), "{}", said("a tunnel for a stranger"));
    assert!(said("what `serve` says").contains("TRACE"), "at its most talkative");
}
