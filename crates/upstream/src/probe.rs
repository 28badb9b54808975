//! Looks how far one address can be reached: its name, TCP, TLS and who issued its certificate, an answer. Never sends a credential, never
//! follows a redirect, never trusts more than a real request would, and never waits longer than it is told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hotspare_core::{Clocks, Failure, FailureKind, Platform, Stage};
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::auth::Credential;
use crate::connect::{Connector, Network, Stream};
use crate::send::Target;
use crate::tls;

/// Most bytes of an answer; a status page has about 30 KiB.
pub const ANSWER_CAP: usize = 512 * 1024;

/// What the issuers of public certificates call themselves, in part. Whoever else issued one is asked about: it may be a proxy that opens TLS.
const PUBLIC_ISSUERS: [&str; 17] = [
    "google trust services",
    "let's encrypt",
    "internet security research group",
    "amazon",
    "digicert",
    "cloudflare",
    "microsoft",
    "globalsign",
    "sectigo",
    "comodo",
    "entrust",
    "identrust",
    "ssl corp",
    "godaddy",
    "starfield",
    "certum",
    "buypass",
];

/// What to look at.
#[derive(Debug, Clone)]
pub struct Address {
    /// TLS or plain.
    pub https: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// `HEAD` or `GET`.
    pub method: Method,
}

/// Who issued a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Organisation, else common name.
    pub name: String,
    /// Whether that is a public authority, as far as names tell.
    pub public: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`ANSWER_CAP`] bytes; empty where it was longer or broke off.
    pub body: Bytes,
    /// How many seconds this machine's clock is ahead of the server's; negative: behind. Exact to a second or two.
    pub skew_s: Option<i64>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The answer, or how far it came.
    pub answer: Result<Head, Failure>,
    /// Who issued the certificate that was presented, valid or not.
    pub issuer: Option<Issuer>,
    /// How long it took.
    pub took: Duration,
}

/// Looks at one address, for so long at most.
pub async fn probe(address: Address, extra_roots: Option<PathBuf>, limit: Duration) -> Probed {
    let begun = Instant::now();
    let witness = Arc::new(Mutex::default());
    let late = || Err(failure(FailureKind::HeadTimeout, format!("no answer within {} s", limit.as_secs())));
    let answer = tokio::time::timeout(limit, reach(&address, extra_roots, &witness, limit)).await.unwrap_or_else(|_| late());
    let issuer = witness.lock().unwrap_or_else(PoisonError::into_inner).take();
    Probed { answer, issuer, took: begun.elapsed() }
}

type Seen = Arc<Mutex<Option<Issuer>>>;

async fn reach(address: &Address, extra_roots: Option<PathBuf>, seen: &Seen, limit: Duration) -> Result<Head, Failure> {
    let connector = if address.https {
        let tls = tls::witnessed(extra_roots.as_deref(), |inner| Arc::new(Witness { inner, seen: seen.clone() }));
        Connector::with_tls(tls.map_err(|error| failure(FailureKind::TlsHandshake, error.to_string()))?)
    } else {
        Connector::new(None)
    };
    let target = Target {
        name: "probe".into(),
        platform: Platform::Anthropic,
        https: address.https,
        host: address.host.clone(),
        port: address.port,
        prefix: String::new(),
        credential: Arc::new(Credential::None),
    };
    let clocks = Clocks { connect: limit, tls: limit, ..Clocks::default() };
    match connector.connect(&target, &clocks).await? {
        Stream::Plain(io) => ask(address, io).await,
        Stream::Tls(io) => ask(address, io).await,
        Stream::Other(io) => ask(address, io).await,
    }
}

async fn ask<I>(address: &Address, io: I) -> Result<Head, Failure>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let broke = |error: hyper::Error| failure(FailureKind::ClosedBeforeHead, format!("connected, and then: {error}"));
    let (mut sender, connection) = http1::handshake(io).await.map_err(broke)?;
    let connection = tokio::spawn(connection);
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    let default_port = if address.https { 443 } else { 80 };
    let authority = if address.port == default_port { host } else { format!("{host}:{}", address.port) };
    let request = Request::builder()
        .method(&address.method)
        .uri(&address.path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("hotspare/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failure(FailureKind::BadRequest, error.to_string()))?;
    let response = sender.send_request(request).await.map_err(broke);
    let now = SystemTime::now();
    let read = match response {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_CAP).collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Ok(Head { status: head.status.as_u16(), skew_s: skew(&head.headers, now), headers: head.headers, body })
        }
        Err(error) => Err(error),
    };
    connection.abort();
    read
}

/// What the `date` header says of this machine's clock.
fn skew(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let theirs = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Some(match now.duration_since(theirs) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    })
}

fn failure(kind: FailureKind, words: impl Into<Box<str>>) -> Failure {
    Failure::new(kind, Stage::Connect, words)
}

/// Verifies as every connection does, and notes who issued the certificate before it judges.
#[derive(Debug)]
struct Witness {
    inner: Arc<dyn ServerCertVerifier>,
    seen: Seen,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = issuer(end_entity);
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Who issued it; none: it cannot be read.
fn issuer(certificate: &CertificateDer<'_>) -> Option<Issuer> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.issuer();
    let mut words = name.iter_organization().chain(name.iter_common_name()).filter_map(|word| word.as_str().ok());
    // Shown on a screen, and chosen by whoever is in the way.
    let name: String = words.next().unwrap_or("nobody named").chars().filter(|char| !char.is_control()).take(60).collect();
    let lower = name.to_lowercase();
    Some(Issuer { public: PUBLIC_ISSUERS.iter().any(|known| lower.contains(known)), name })
}

#[cfg(test)]
mod tests;
