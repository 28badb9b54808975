//! Probes real sockets on this machine: a server that is well, nobody, one that is silent, and one whose certificate nobody here trusts.

use rcgen::{CertificateParams, DnType, Issuer as Authority, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(3);

fn address(https: bool, port: u16) -> Address {
    Address { https, host: "127.0.0.1".to_owned(), port, path: "/".to_owned(), method: Method::GET }
}

/// Answers one connection with these bytes, and gives what it was sent.
async fn answers(words: String) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        stream.write_all(words.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, heard)
}

#[tokio::test]
async fn t6_an_answer_is_told_with_the_clock_and_nothing_secret_was_sent() {
    let hour_ago = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(3600));
    let (port, heard) = answers(format!("HTTP/1.1 404 Not Found\r\ndate: {hour_ago}\r\ncontent-length: 5\r\n\r\nwords")).await;
    let probed = probe(address(false, port), None, LIMIT).await;
    let head = probed.answer.expect("an answer");
    assert_eq!((head.status, &head.body[..]), (404, &b"words"[..]));
    assert!(head.skew_s.is_some_and(|skew| (3599..=3605).contains(&skew)), "{:?}", head.skew_s);
    let heard = heard.await.unwrap().to_lowercase();
    for secret in ["authorization", "x-api-key", "cookie", "x-hotspare", "proxy-"] {
        assert!(!heard.contains(secret), "{heard}");
    }
}

#[tokio::test]
async fn nobody_and_silence_are_told_apart_and_bounded() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = taken.local_addr().unwrap().port();
    drop(taken);
    assert_eq!(probe(address(false, free), None, LIMIT).await.answer.unwrap_err().kind, FailureKind::ConnectRefused);
    // The kernel takes the connection; nobody ever speaks.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limit = Duration::from_millis(50);
    let probed = probe(address(false, silent.local_addr().unwrap().port()), None, limit).await;
    assert_eq!(probed.answer.unwrap_err().kind, FailureKind::HeadTimeout);
    assert!(probed.took >= limit && probed.took < LIMIT, "{:?}", probed.took);
}

#[tokio::test]
async fn t20_a_certificate_that_nobody_trusts_is_refused_and_its_issuer_named() {
    let authority = KeyPair::generate().unwrap();
    let mut about = CertificateParams::new(Vec::new()).unwrap();
    about.distinguished_name.push(DnType::OrganizationName, "Example Corp Inspection");
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Authority::new(about, &authority)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(stream).await.is_ok()
    });
    let probed = probe(address(true, port), None, LIMIT).await;
    assert_eq!(probed.answer.unwrap_err().kind, FailureKind::TlsCertificate);
    assert_eq!(probed.issuer, Some(Issuer { name: "Example Corp Inspection".to_owned(), public: false }));
    assert!(!server.await.unwrap(), "nothing was said to it");
}
