//! Looks from outside whether a port is the proxy of full mode: whether it opens a tunnel to the terminated host, and ends TLS there with a
//! certificate that a client's own authorities vouch for. Asks nothing within the tunnel, and trusts nobody else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{HOST, PORT};

/// Longest that all of it may take. It is some milliseconds' work; the first certificate after a start is made meanwhile.
const PROOF_TIME: Duration = Duration::from_secs(5);

/// Most bytes of the answer that opens a tunnel, or refuses it.
const HEAD_CAP: usize = 8 * 1024;

/// Why a client would not get through.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// Nobody listens, or the connection broke.
    #[error("no tunnel: {0}")]
    Broken(#[from] io::Error),
    /// The port does not open a tunnel.
    #[error("no tunnel: the port answers {0}")]
    Refused(String),
    /// The file holds no certificate that can be used.
    #[error("it holds no certificate")]
    NoCertificates,
    /// What the port shows is not vouched for by the given authorities.
    #[error("the port's certificate is refused: {0}")]
    Distrusted(String),
    /// It took too long.
    #[error("no handshake within {PROOF_TIME:?}")]
    Late,
}

/// Opens a tunnel with the token, and shakes hands as a client that trusts the authorities in `pem` and no others.
pub async fn prove(address: SocketAddr, token: &str, pem: &str) -> Result<(), Unproven> {
    tokio::time::timeout(PROOF_TIME, shake_hands(address, token, pem)).await.unwrap_or(Err(Unproven::Late))
}

async fn shake_hands(address: SocketAddr, token: &str, pem: &str) -> Result<(), Unproven> {
    let connector = connector(pem)?;
    let stream = tunnel(address, token).await?;
    let name = ServerName::try_from(HOST).expect("the host is a name");
    let mut tls = connector.connect(name, stream).await.map_err(|error| Unproven::Distrusted(error.to_string()))?;
    // An end in due form, so that nobody takes it for a broken client.
    let _ = tls.shutdown().await;
    Ok(())
}

/// Whether a file of authorities holds this one.
pub fn holds(pem: &str, certificate: &str) -> bool {
    let Some(Ok(wanted)) = CertificateDer::pem_slice_iter(certificate.as_bytes()).next() else { return false };
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().any(|known| known == wanted)
}

fn connector(pem: &str) -> Result<TlsConnector, Unproven> {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be used is left out, as clients do.
    let (usable, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
    if usable == 0 {
        return Err(Unproven::NoCertificates);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn tunnel(address: SocketAddr, token: &str) -> Result<TcpStream, Unproven> {
    let mut stream = TcpStream::connect(address).await?;
    let credentials = STANDARD.encode(format!("hotspare:{token}"));
    let head = format!("CONNECT {HOST}:{PORT} HTTP/1.1\r\nHost: {HOST}:{PORT}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte for byte: what comes behind the head is TLS.
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < HEAD_CAP {
        answer.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.lines().next().unwrap_or_default().split_once(' ').map_or("", |(_, status)| status);
    if status.starts_with("200") { Ok(stream) } else { Err(Unproven::Refused(status.to_owned())) }
}
