//! Holds which proxies are taken and how each kind is spoken to, on real sockets.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::connect::{Connector, Network};

#[test]
fn t25_our_own_port_is_no_proxy_for_us() {
    let own = "127.0.0.1:4117".parse().unwrap();
    for proxy in ["http://127.0.0.1:4117", "http://user:secret@localhost:4117/", "http://[::1]:4117", "http://127.8.8.8:4117"] {
        assert!(leads_to(&proxy.parse().unwrap(), own), "{proxy}");
    }
    for proxy in ["http://127.0.0.1:3128", "http://proxy.corp:4117", "http://10.0.0.1:4117"] {
        assert!(!leads_to(&proxy.parse().unwrap(), own), "{proxy}");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_never_passed_by_and_its_password_never_told() {
    for proxy in ["socks4://me:secret@proxy.corp:1080", "ftp://me:secret@proxy.corp", "http://", "socks5://me:secret@"] {
        let proxies = Proxies::new(Some(proxy), Some(".corp"));
        let refused = proxies.for_address(&"https://api.example/".parse().unwrap()).map(drop).unwrap_err();
        assert!(!format!("{refused}").contains("secret"), "{refused}");
        assert!(proxies.for_address(&"https://git.corp/".parse().unwrap()).unwrap().is_none(), "what goes past any proxy does so");
    }
    for proxy in ["proxy.corp:3128", "http://proxy.corp", "HTTPS://proxy.corp", "socks5://me:secret@proxy.corp", "socks5h://[::1]:9"] {
        assert_eq!(check(proxy), Ok(()), "{proxy}");
        let proxies = Proxies::new(Some(proxy), None);
        assert!(proxies.for_address(&"https://api.example/".parse().unwrap()).unwrap().is_some(), "{proxy}");
    }
    assert!(Proxies::new(Some(""), None).for_address(&"https://api.example/".parse().unwrap()).unwrap().is_none());
}

/// What goes through a tunnel, and what comes back.
const SENT: &[u8] = b"ping";
const BACK: &[u8] = b"pong";

async fn listens() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn answers(mut tunnel: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut sent = [0; SENT.len()];
    tunnel.read_exact(&mut sent).await.unwrap();
    assert_eq!(sent, SENT);
    tunnel.write_all(BACK).await.unwrap();
}

/// Through this proxy to a host that only the proxy could know.
async fn asks(proxy: &str, roots: Option<PathBuf>) {
    let connector = Connector::new(roots).through_proxy(Some(proxy), None);
    let mut tunnel = connector.dial("other.example", 8443).await.unwrap_or_else(|error| panic!("{proxy}: {error}"));
    tunnel.write_all(SENT).await.unwrap();
    let mut back = [0; BACK.len()];
    tunnel.read_exact(&mut back).await.unwrap();
    assert_eq!(back, BACK);
}

/// A SOCKS 5 proxy that wants a name and a password (RFC 1928 and 1929).
fn socks(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hears = async |expected: &[u8], answer: &[u8]| {
            let mut heard = vec![0; expected.len()];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, expected);
            stream.write_all(answer).await.unwrap();
        };
        hears(&[5, 1, 2], &[5, 2]).await;
        hears(b"\x01\x02me\x06secret", &[1, 0]).await;
        hears(b"\x05\x01\x00\x03\x0dother.example\x20\xfb", &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        answers(stream).await;
    })
}

#[tokio::test]
async fn a_socks_proxy_looks_the_name_up_and_gets_its_own_credentials() {
    for kind in ["socks5", "socks5h"] {
        let (listener, port) = listens().await;
        let proxy = socks(listener);
        asks(&format!("{kind}://me:secret@127.0.0.1:{port}"), None).await;
        proxy.await.unwrap();
    }
}

#[tokio::test]
async fn a_proxy_that_is_reached_by_tls_shows_a_certificate_before_it_gets_its_credentials() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("company.pem");
    std::fs::write(&roots, certificate.pem()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let (listener, port) = listens().await;
    let proxy = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(stream).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tls.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("CONNECT other.example:8443 HTTP/1.1\r\n") && head.contains("Basic bWU6c2VjcmV0\r\n"), "{head}");
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        answers(tls).await;
        // Whoever is not trusted hears nothing.
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop).unwrap_err();
    });
    let address = format!("https://me:secret@localhost:{port}");
    asks(&address, Some(roots)).await;
    let stranger = Connector::new(None).through_proxy(Some(&address), None);
    let refused = stranger.dial("other.example", 8443).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("through the proxy"), "{refused}");
    proxy.await.unwrap();
}
