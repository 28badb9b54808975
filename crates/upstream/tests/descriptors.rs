//! Holds that a want of file descriptors is told as that, whatever it was that could not be opened. In a process of its own: it takes every
//! descriptor that this one may have.
#![cfg(unix)]

use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use hotspare_core::{Clocks, FailureKind, Platform};
use hotspare_upstream::connect::{Connector, Network};
use hotspare_upstream::{ClientCredential, Credential, Outgoing, Source, Target, Upstreams};
use http::Method;
use http_body_util::Full;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

/// Few are taken in little time.
const MOST: u64 = 64;

fn target(https: bool, host: &str, port: u16, credential: Credential) -> Target {
    Target {
        name: "work".into(),
        platform: Platform::Anthropic,
        https,
        host: host.into(),
        port,
        prefix: String::new(),
        credential: credential.into(),
    }
}

/// Every descriptor that is left.
fn all_that_are_left() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

async fn connected(connector: &Connector, target: &Target) -> Result<(), FailureKind> {
    connector.connect(target, &Clocks::default()).await.map(drop).map_err(|failure| failure.kind)
}

async fn sent(upstreams: &Upstreams<Full<Bytes>>, target: &Target) -> Result<(), FailureKind> {
    let outgoing = Outgoing {
        method: Method::POST,
        path_and_query: "/v1/messages".into(),
        headers: Cow::Owned(http::HeaderMap::new()),
        extensions: http::Extensions::new(),
        client_credential: ClientCredential { headers: Vec::new() },
        body: Full::default(),
        length: Some(0),
        read_answer: false,
    };
    upstreams.send(target, outgoing, &Clocks::default(), true).await.map(drop).map_err(|failure| failure.kind)
}

#[tokio::test]
async fn without_a_descriptor_left_no_provider_and_no_credential_is_blamed() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(MOST), maximum: limit.maximum }).expect("a lower limit");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let direct = Connector::new(None).through_proxy(None, None);
    let proxied = Connector::new(None).through_proxy(Some(&format!("http://127.0.0.1:{port}")), None);
    let client = || Credential::Client;
    let own = |source| Credential::own(source, None);
    let upstreams = Upstreams::new(Arc::new(Connector::new(None).through_proxy(None, None)));
    let program = target(false, "127.0.0.1", port, own(Source::Command(vec!["echo".into(), "sk-ant-test".into()])));
    let file = target(false, "127.0.0.1", port, own(Source::File("/dev/null".into())));

    let taken = all_that_are_left();
    let by_address = connected(&direct, &target(false, "127.0.0.1", port, client())).await;
    let by_name = connected(&direct, &target(false, "localhost", port, client())).await;
    let through_a_proxy = connected(&proxied, &target(true, "provider.example", 443, client())).await;
    let (by_program, by_file) = (sent(&upstreams, &program).await, sent(&upstreams, &file).await);
    drop(taken);

    for (what, outcome) in [
        ("an address", by_address),
        ("a name", by_name),
        ("a proxy", through_a_proxy),
        ("a credential from a program", by_program),
        ("a credential from a file", by_file),
    ] {
        assert_eq!(outcome, Err(FailureKind::OutOfDescriptors), "{what}");
    }
    assert_eq!(connected(&direct, &target(false, "127.0.0.1", port, client())).await, Ok(()), "and it passes");
    assert_eq!(connected(&direct, &target(false, "127.0.0.1", 1, client())).await, Err(FailureKind::ConnectRefused));
    assert_eq!(sent(&upstreams, &file).await, Err(FailureKind::NoCredential));
}
