//! Sends one attempt to one profile and gives its answer, or the failure with the stage it came at. Never retries, never follows a
//! redirect, never joins URLs: host and port come from the configuration alone (security.md T6, T7).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hotspare_core::{Clocks, Failure, FailureKind, Platform, Stage};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;

use crate::auth::{Fingerprint, SharedCredential};
use crate::clock;
use crate::connect::{Network, Stream};
use crate::descriptors;
use crate::headers::{self, ClientCredential};
use crate::pool::{Lease, OriginKey, Pool};

/// Most header bytes of an answer (security.md T13).
const HEAD_CAP: usize = 64 * 1024;

/// Most informational answers (1xx) before the real one (security.md T13).
const INFORMATIONAL_CAP: usize = 8;

/// One profile's address and credential: chosen together or not at all (security.md T8).
#[derive(Clone)]
pub struct Target {
    /// The profile's name.
    pub name: Arc<str>,
    /// What it speaks.
    pub platform: Platform,
    /// TLS or plain.
    pub https: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Goes before every path; empty, or starting with `/` and not ending with it.
    pub prefix: String,
    /// What it authenticates with.
    pub credential: SharedCredential,
}

impl Target {
    /// Whether its address is this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// As the `host` header names it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default_port = if self.https { 443 } else { 80 };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }

    pub(crate) fn origin_uri(&self) -> Uri {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let scheme = if self.https { "https" } else { "http" };
        Uri::builder()
            .scheme(scheme)
            .authority(format!("{host}:{}", self.port))
            .path_and_query("/")
            .build()
            .expect("the configuration holds only hosts and ports that make an address")
    }

    fn key(&self) -> OriginKey {
        OriginKey(format!("{}://{}", if self.https { "https" } else { "http" }, self.authority()).into())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}{}", self.name, self.origin_uri(), self.prefix)
    }
}

/// What the client asked, as far as it goes up.
pub struct Outgoing<'a, B> {
    /// The client's method.
    pub method: Method,
    /// The client's path and query, validated, byte for byte.
    pub path_and_query: String,
    /// The client's headers as they came.
    pub headers: Cow<'a, HeaderMap>,
    /// The spelling of the client's header names, where the server kept it.
    pub extensions: Extensions,
    /// The credential the client sent of its own.
    pub client_credential: ClientCredential,
    /// The body, from its start.
    pub body: B,
    /// The body's length, where it is known.
    pub length: Option<u64>,
    /// Whether the answer must be readable on its way.
    pub read_answer: bool,
}

/// When the connection stood, in the extensions of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected(pub Instant);

/// In the extensions of an answer: the login was renewed while the attempt waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginRenewed;

/// An upstream's answer. Its extensions hold the [`Fingerprint`] of the profile's own credential, if it was sent.
pub type Received<B> = Response<UpstreamBody<B>>;

/// An answer's body; the connection goes back to the pool when it was read to its end, and closes when it is dropped before.
pub struct UpstreamBody<B> {
    incoming: Incoming,
    lease: Option<Lease<B>>,
}

impl<B> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some(lease) = &mut this.lease
        {
            lease.drive(cx);
            frame = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        match ready!(frame) {
            None => {
                if let Some(lease) = this.lease.take() {
                    lease.finish();
                }
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                this.lease = None;
                Poll::Ready(Some(Err(error)))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Every connection to every provider.
pub struct Upstreams<B> {
    network: Arc<dyn Network>,
    pool: Pool<B>,
}

impl<B> Upstreams<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// No connections yet; they will come from `network`.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self { network, pool: Pool::default() }
    }

    /// Closes idle connections, for instance after the machine slept.
    pub fn close_idle(&self) {
        self.pool.clear();
    }

    /// Closes the idle connections that are dead or have been idle for too long.
    pub fn sweep(&self) {
        self.pool.sweep();
    }

    /// Sends one attempt and waits for the head of its answer. Dropping the future closes the connection.
    pub async fn send(&self, target: &Target, outgoing: Outgoing<'_, B>, clocks: &Clocks, fresh: bool) -> Result<Received<B>, Failure> {
        let renewed_before = target.credential.renewed_at();
        let own = match target.credential.header_renewed().await {
            Ok(own) => own,
            // A program or a file that cannot be opened now says nothing about the profile's set-up.
            Err(error) => {
                let missing = || Failure::new(FailureKind::NoCredential, Stage::Connect, error.to_string());
                return Err(descriptors::failure_now().unwrap_or_else(missing));
            }
        };
        let is_renewed = target.credential.renewed_at() != renewed_before;
        let fingerprint = own.as_ref().map(|(_, value)| Fingerprint::of(value));
        let lease = self.lease(target, clocks, fresh).await?;
        let connected = Connected(clock::now());
        let request = request(target, outgoing, own)?;
        let mut response = ask(lease, request).await?;
        response.extensions_mut().insert(connected);
        if is_renewed {
            response.extensions_mut().insert(LoginRenewed);
        }
        if let Some(fingerprint) = fingerprint {
            response.extensions_mut().insert(fingerprint);
        }
        Ok(response)
    }

    /// Sends a request as it is, and gives its answer as it is. It is told apart by nothing from one that came straight from the client.
    pub async fn pass(&self, target: &Target, request: Request<B>, clocks: &Clocks, fresh: bool) -> Result<Received<B>, Failure> {
        let lease = self.lease(target, clocks, fresh).await?;
        ask(lease, request).await
    }

    async fn lease(&self, target: &Target, clocks: &Clocks, fresh: bool) -> Result<Lease<B>, Failure> {
        let key = target.key();
        if !fresh && let Some(lease) = self.pool.take(&key) {
            return Ok(lease);
        }
        match self.network.connect(target, clocks).await? {
            Stream::Plain(io) => self.handshake(key, io).await,
            Stream::Tls(io) => self.handshake(key, io).await,
            Stream::Other(io) => self.handshake(key, io).await,
        }
    }

    async fn handshake<I>(&self, key: OriginKey, io: I) -> Result<Lease<B>, Failure>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_header_size(HEAD_CAP)
            .handshake(io)
            .await
            .map_err(|error| Failure::new(FailureKind::Unreachable, Stage::Connect, error.to_string()))?;
        Ok(self.pool.adopt(key, sender, Box::pin(connection)))
    }
}

/// Sends one request on a connection and waits for the head of its answer.
async fn ask<B>(mut lease: Lease<B>, mut request: Request<B>) -> Result<Received<B>, Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let hints = count_informational(&mut request);
    let reused = lease.reused();
    let mut head = pin!(lease.sender().send_request(request));
    let head = std::future::poll_fn(|cx| {
        let mut answer = head.as_mut().poll(cx);
        if answer.is_pending() {
            lease.drive(cx);
            answer = head.as_mut().poll(cx);
        }
        if answer.is_pending() && hints.load(Ordering::Relaxed) > INFORMATIONAL_CAP {
            return Poll::Ready(Err(bad_head("too many informational answers")));
        }
        answer.map_err(|error| send_failure(&error, reused))
    });
    let response = head.await?;
    if response.status().is_informational() {
        // Only 101 ends as an answer: a switch that nobody asked for.
        return Err(bad_head("101 where an answer was due"));
    }
    Ok(response.map(|incoming| UpstreamBody { incoming, lease: Some(lease) }))
}

fn request<B>(target: &Target, outgoing: Outgoing<'_, B>, own: Option<crate::auth::AuthHeader>) -> Result<Request<B>, Failure> {
    let uri: Uri = format!("{}{}", target.prefix, outgoing.path_and_query)
        .parse()
        .map_err(|_| Failure::new(FailureKind::BadRequest, Stage::Connect, "the path cannot be sent"))?;
    let client_credential = target.credential.is_client().then_some(&outgoing.client_credential);
    let mut headers = headers::for_attempt(target.platform, &outgoing.headers, client_credential, own, outgoing.read_answer);
    let host = HeaderValue::from_str(&target.authority())
        .map_err(|_| Failure::new(FailureKind::BadRequest, Stage::Connect, "the host cannot be sent"))?;
    headers.insert(header::HOST, host);
    if let Some(length) = outgoing.length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut request = Request::new(outgoing.body);
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    *request.extensions_mut() = outgoing.extensions;
    Ok(request)
}

/// Counts the answers that come before the real one; they are not passed on.
fn count_informational<B>(request: &mut Request<B>) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    hyper::ext::on_informational(request, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    count
}

fn bad_head(words: &str) -> Failure {
    Failure::new(FailureKind::BadHead, Stage::Head, words)
}

fn send_failure(error: &hyper::Error, reused: bool) -> Failure {
    if error.is_user() {
        // Our own body broke off: the client stopped sending. The exchange is dropped with its client.
        return Failure::new(FailureKind::CannotReplay, Stage::Send, "the request body broke off");
    }
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return bad_head("no valid HTTP answer");
    }
    if reused {
        return Failure::new(FailureKind::StaleConnection, Stage::Send, "kept-alive connection was dead");
    }
    Failure::new(FailureKind::ClosedBeforeHead, Stage::Send, "connection closed before an answer")
}
