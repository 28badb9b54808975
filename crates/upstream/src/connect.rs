//! Opens connections, and says at which step one failed. Never reuses one, and never tries again.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use hotspare_core::{Clocks, Failure, FailureKind, Stage};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::clock;
use crate::descriptors;
use crate::dial::{DialError, Dialing, NoAddress, Outward, is_forbidden_name, was_forbidden};
use crate::proxy::{Proxies, through};
use crate::send::Target;
use crate::tls;

/// Idle connections are probed by the kernel from then on: a laptop that slept notices its dead sockets.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Sent bytes that nobody acknowledges for so long break the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest that a blind tunnel may take to stand, look-up and a proxy included. More than for a profile: nobody else can answer.
const TUNNEL_CONNECT: Duration = Duration::from_secs(30);

/// An open connection to an origin.
pub enum Stream {
    /// Plain, to loopback or where the user allowed it.
    Plain(TokioIo<TcpStream>),
    /// TLS.
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
    /// Whatever another network than the machine's opens.
    Other(TokioIo<Box<dyn Io>>),
}

impl Stream {
    /// The connection as bytes, whatever it is made of.
    pub fn into_io(self) -> Box<dyn Io> {
        match self {
            Self::Plain(io) => Box::new(io.into_inner()),
            Self::Tls(io) => Box::new(io.into_inner()),
            Self::Other(io) => io.into_inner(),
        }
    }
}

/// Both directions of a connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection on its way, or why there will be none.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Stream, Failure>> + Send + 'a>>;

/// Where connections come from: the machine's network ([`Connector`]), or one that a test makes up.
pub trait Network: Send + Sync {
    /// Opens a connection to the target's origin within its clocks.
    fn connect<'a>(&'a self, target: &'a Target, clocks: &'a Clocks) -> Connecting<'a>;

    /// Opens a plain connection for a blind tunnel. A network that knows none has no way there.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a> {
        let nowhere = failure(FailureKind::Unreachable, format!("{host}:{port} is not on this network"));
        Box::pin(async move { Err(DialError::Failed(nowhere)) })
    }
}

/// Opens connections for every profile over the machine's network.
pub struct Connector {
    http: HttpConnector<Resolver>,
    /// For tunnels: not to this machine.
    outward: HttpConnector<Outward>,
    proxies: Proxies,
    tls: OnceLock<TlsConnector>,
    extra_roots: Option<PathBuf>,
}

impl Connector {
    /// A connector that honours `HTTPS_PROXY` and `NO_PROXY` of the environment. TLS is set up at its first use.
    pub fn new(extra_roots: Option<PathBuf>) -> Self {
        let resolver = Resolver(GaiResolver::new());
        let http = connector(resolver.clone());
        let outward = connector(Outward(resolver));
        Self { http, outward, proxies: Proxies::of_environment(), tls: OnceLock::new(), extra_roots }
    }

    /// By this proxy, in place of the environment's: the environment may be that of a client which we are the proxy of. `no` is as in
    /// `NO_PROXY`.
    #[must_use]
    pub fn through_proxy(self, proxy: Option<&str>, no: Option<&str>) -> Self {
        Self { proxies: Proxies::new(proxy, no), ..self }
    }

    /// Never goes through a proxy that is ourselves: a client that we are the proxy of may have started us.
    #[must_use]
    pub fn without_proxy_at(self, own: SocketAddr) -> Self {
        Self { proxies: self.proxies.without(own), ..self }
    }

    /// The same with TLS that is set up already.
    pub(crate) fn with_tls(tls: TlsConnector) -> Self {
        Self { tls: OnceLock::from(tls), ..Self::new(None) }
    }

    async fn open(&self, target: &Target, clocks: &Clocks) -> Result<Stream, Failure> {
        let opened = clock::timeout(clocks.connect, self.reach(target, clocks))
            .await
            .unwrap_or_else(|| Err(failure(FailureKind::ConnectTimeout, format!("no connection within {:?}", clocks.connect))))?;
        if !target.https {
            return Ok(opened.plain());
        }
        let handshake = self.handshake(target, opened);
        clock::timeout(clocks.tls, handshake)
            .await
            .unwrap_or_else(|| Err(failure(FailureKind::TlsHandshake, format!("no TLS handshake within {:?}", clocks.tls))))
    }

    async fn reach(&self, target: &Target, clocks: &Clocks) -> Result<Opened, Failure> {
        let mut http = self.http.clone();
        http.set_connect_timeout(Some(clocks.connect));
        let uri = target.origin_uri();
        // A loopback address is never somebody else's business, and plain http is loopback or what the user allowed.
        let proxy = if target.https && !target.is_loopback() { self.proxies.for_address(&uri)? } else { None };
        match proxy {
            None => http.call(uri).await.map(|tcp| Opened::Tcp(tcp.into_inner())).map_err(|error| tcp_failure(&error)),
            Some(proxy) => through(&proxy, http, || self.tls(), uri).await.map(Opened::Proxied),
        }
    }

    async fn tunnel_end(&self, host: &str, port: u16) -> Result<Box<dyn Io>, DialError> {
        if is_forbidden_name(host) {
            return Err(DialError::Forbidden);
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let uri: Uri = format!("https://{host}:{port}/")
            .parse()
            .map_err(|_| DialError::Failed(failure(FailureKind::Dns, "this is no name of a host")))?;
        if let Some(proxy) = self.proxies.for_address(&uri).map_err(DialError::Failed)? {
            return through(&proxy, self.http.clone(), || self.tls(), uri).await.map_err(DialError::Failed);
        }
        let opened = self.outward.clone().call(uri).await;
        let told = |error| if was_forbidden(&error) { DialError::Forbidden } else { DialError::Failed(tcp_failure(&error)) };
        Ok(Box::new(opened.map_err(told)?.into_inner()))
    }

    /// TLS as it was set up at its first use. What kept it from that then may be over now.
    fn tls(&self) -> Result<TlsConnector, Failure> {
        if let Some(known) = self.tls.get() {
            return Ok(known.clone());
        }
        let made = tls::connector(self.extra_roots.as_deref())
            .map_err(|error| descriptors::failure_now().unwrap_or_else(|| failure(FailureKind::TlsHandshake, error.to_string())))?;
        Ok(self.tls.get_or_init(|| made).clone())
    }

    async fn handshake(&self, target: &Target, opened: Opened) -> Result<Stream, Failure> {
        let connector = self.tls()?;
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| failure(FailureKind::TlsCertificate, format!("`{}` is no name a certificate can hold", target.host)))?;
        let told = |error| tls_failure(&error, &target.host);
        Ok(match opened {
            Opened::Tcp(tcp) => Stream::Tls(Box::new(TokioIo::new(connector.connect(name, tcp).await.map_err(told)?))),
            Opened::Proxied(io) => Stream::Other(TokioIo::new(Box::new(connector.connect(name, io).await.map_err(told)?))),
        })
    }
}

/// A connection on which nothing was said yet.
enum Opened {
    /// To the host itself.
    Tcp(TcpStream),
    /// To the host, through a proxy.
    Proxied(Box<dyn Io>),
}

impl Opened {
    fn plain(self) -> Stream {
        match self {
            Self::Tcp(tcp) => Stream::Plain(TokioIo::new(tcp)),
            Self::Proxied(io) => Stream::Other(TokioIo::new(io)),
        }
    }
}

impl Network for Connector {
    fn connect<'a>(&'a self, target: &'a Target, clocks: &'a Clocks) -> Connecting<'a> {
        Box::pin(self.open(target, clocks))
    }

    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a> {
        let dialing = clock::timeout(TUNNEL_CONNECT, self.tunnel_end(host, port));
        Box::pin(async move {
            let late = || DialError::Failed(failure(FailureKind::ConnectTimeout, format!("no connection within {TUNNEL_CONNECT:?}")));
            dialing.await.unwrap_or_else(|| Err(late()))
        })
    }
}

fn connector<R>(resolver: R) -> HttpConnector<R> {
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(TCP_KEEPALIVE));
    http.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    http
}

fn failure(kind: FailureKind, detail: impl Into<Box<str>>) -> Failure {
    Failure::new(kind, Stage::Connect, detail)
}

fn tls_failure(error: &io::Error, host: &str) -> Failure {
    let certificate = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
    if certificate {
        failure(FailureKind::TlsCertificate, format!("certificate of {host} is not valid: {error}"))
    } else {
        failure(FailureKind::TlsHandshake, format!("TLS handshake failed: {error}"))
    }
}

/// An error that says that no descriptor is left.
fn own_want(error: &(dyn StdError + 'static)) -> Option<Failure> {
    let mut source = Some(error);
    while let Some(inner) = source {
        if let Some(own) = inner.downcast_ref().and_then(descriptors::failure_of) {
            return Some(own);
        }
        source = inner.source();
    }
    None
}

fn tcp_failure(error: &(dyn StdError + 'static)) -> Failure {
    if let Some(own) = own_want(error) {
        return own;
    }
    let mut source = Some(error);
    while let Some(inner) = source {
        if inner.is::<LookupFailed>() || inner.is::<NoAddress>() {
            return descriptors::failure_now().unwrap_or_else(|| failure(FailureKind::Dns, "name could not be looked up"));
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::ConnectionRefused => failure(FailureKind::ConnectRefused, "connection refused"),
                io::ErrorKind::TimedOut => failure(FailureKind::ConnectTimeout, "connection timed out"),
                _ => failure(FailureKind::Unreachable, format!("unreachable: {io}")),
            };
        }
        source = inner.source();
    }
    failure(FailureKind::Unreachable, format!("unreachable: {error}"))
}

/// The system's resolver, with a failure of its own type.
#[derive(Clone)]
pub(crate) struct Resolver(GaiResolver);

/// A name could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("name look-up failed")]
pub(crate) struct LookupFailed(#[source] io::Error);

impl Service<Name> for Resolver {
    type Response = <GaiResolver as Service<Name>>::Response;
    type Error = LookupFailed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, LookupFailed>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LookupFailed>> {
        self.0.poll_ready(cx).map_err(LookupFailed)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.0.call(name);
        Box::pin(async move { lookup.await.map_err(LookupFailed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Credential;
    use hotspare_core::Platform;

    #[tokio::test]
    async fn t25_no_tunnel_leads_to_this_machine_by_address_or_by_name() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connector = Connector::new(None);
        // The last ones are understood by the system's resolver alone.
        for host in ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "127.1", "2130706433", "0x7f.1"] {
            let outcome = connector.dial(host, port).await.map(drop);
            assert!(matches!(outcome, Err(DialError::Forbidden)), "{host}: {outcome:?}");
        }
    }

    /// claude-code-mux took 44 ms for each answer without it (measured).
    #[tokio::test]
    async fn r10_what_is_written_to_a_provider_goes_out_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target {
            name: "work".into(),
            platform: Platform::Anthropic,
            https: false,
            host: address.ip().to_string(),
            port: address.port(),
            prefix: String::new(),
            credential: Credential::Client.into(),
        };
        let Opened::Tcp(stream) = Connector::new(None).reach(&target, &Clocks::default()).await.unwrap() else { panic!("no proxy") };
        assert!(stream.nodelay().unwrap());
    }
}
