//! The way out through a company's proxy: which addresses go through it, and how it is asked. A proxy that cannot be used is an error, and
//! never passed by: whoever set it may have no other way out, or must not take one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hotspare_core::{Failure, FailureKind, Stage};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::connect::{Io, Resolver};
use crate::descriptors;

/// The kinds of proxies that can be used. Names are looked up by the proxy, for `socks5` too.
const KINDS: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// Where a SOCKS proxy listens whose address has no port.
const SOCKS_PORT: u16 = 1080;

/// Stands in the place of a proxy that cannot be used, so that what would have gone through it is known.
const PLACEHOLDER: &str = "http://proxy.invalid";

/// The variables that name a proxy for `https`, the first one first.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Why a proxy cannot be used. Says nothing of what else is in its address: there may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableProxy {
    /// Of another kind.
    #[error("a proxy of the kind `{0}` cannot be used; http, https, socks5 and socks5h can")]
    Kind(String),
    /// Not to be understood.
    #[error("the proxy's address cannot be understood; it is like `http://proxy.example:3128`")]
    NoAddress,
}

/// Whether a proxy with this address can be used; an empty one is none.
pub fn check(proxy: &str) -> Result<(), UnusableProxy> {
    if proxy.is_empty() {
        return Ok(());
    }
    if let Some((kind, _)) = proxy.split_once("://")
        && !KINDS.contains(&kind.to_ascii_lowercase().as_str())
    {
        return Err(UnusableProxy::Kind(kind.to_owned()));
    }
    let address: Result<Uri, _> = proxy.parse();
    address.ok().and_then(|uri| uri.authority().map(drop)).ok_or(UnusableProxy::NoAddress)
}

/// What goes through a proxy, and through which.
pub(crate) struct Proxies {
    matcher: Matcher,
    unusable: Option<UnusableProxy>,
    /// Where we are a proxy ourselves.
    own: Option<SocketAddr>,
}

impl Proxies {
    /// As the environment has it.
    pub(crate) fn of_environment() -> Self {
        let set = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        Self::new(set(&VARIABLES).as_deref(), set(&["NO_PROXY", "no_proxy"]).as_deref())
    }

    /// `no` is as in `NO_PROXY`.
    pub(crate) fn new(proxy: Option<&str>, no: Option<&str>) -> Self {
        let proxy = proxy.unwrap_or_default();
        let unusable = check(proxy).err();
        let asked = if unusable.is_some() { PLACEHOLDER } else { proxy };
        let matcher = Matcher::builder().all(asked).no(no.unwrap_or_default()).build();
        Self { matcher, unusable, own: None }
    }

    /// Never through a proxy that is ourselves: a client that we are the proxy of may have started us.
    pub(crate) fn without(self, own: SocketAddr) -> Self {
        Self { own: Some(own), ..self }
    }

    /// The proxy for this address, if any.
    pub(crate) fn for_address(&self, uri: &Uri) -> Result<Option<Intercept>, Failure> {
        let proxy = self.matcher.intercept(uri).filter(|proxy| !self.own.is_some_and(|own| leads_to(proxy.uri(), own)));
        match &self.unusable {
            Some(why) if proxy.is_some() => Err(unreachable(why.to_string())),
            _ => Ok(proxy),
        }
    }
}

/// A way through the proxy, whose credentials go to it alone. `tls` is for a proxy that is itself reached by TLS.
pub(crate) async fn through(
    proxy: &Intercept,
    http: HttpConnector<Resolver>,
    tls: impl FnOnce() -> Result<TlsConnector, Failure>,
    uri: Uri,
) -> Result<Box<dyn Io>, Failure> {
    let is_socks = proxy.uri().scheme_str().is_some_and(|kind| kind.starts_with("socks"));
    let tls = if proxy.uri().scheme_str() == Some("https") { Some(tls()?) } else { None };
    let to_proxy = ToProxy { http, tls };
    let opened = if is_socks {
        let mut socks = SocksV5::new(with_port(proxy.uri(), SOCKS_PORT), to_proxy);
        if let Some((user, password)) = proxy.raw_auth() {
            socks = socks.with_auth(user.to_owned(), password.to_owned());
        }
        socks.call(uri).await.map_err(|error| error.to_string())
    } else {
        let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        tunnel.call(uri).await.map_err(|error| error.to_string())
    };
    let told = |error| descriptors::failure_now().unwrap_or_else(|| unreachable(format!("through the proxy: {error}")));
    opened.map(TokioIo::into_inner).map_err(told)
}

/// Opens the connection to the proxy itself.
#[derive(Clone)]
struct ToProxy {
    http: HttpConnector<Resolver>,
    tls: Option<TlsConnector>,
}

impl Service<Uri> for ToProxy {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.http.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, proxy: Uri) -> Self::Future {
        let (connecting, tls) = (self.http.call(proxy.clone()), self.tls.clone());
        Box::pin(async move {
            let tcp = connecting.await.map_err(io::Error::other)?.into_inner();
            let Some(tls) = tls else { return Ok(TokioIo::new(Box::new(tcp) as Box<dyn Io>)) };
            let name = ServerName::try_from(bare_host(&proxy).to_owned()).map_err(io::Error::other)?;
            Ok(TokioIo::new(Box::new(tls.connect(name, tcp).await?) as Box<dyn Io>))
        })
    }
}

/// The same address with a port, for kinds whose usual one is not known below.
fn with_port(proxy: &Uri, port: u16) -> Uri {
    let host = proxy.host().unwrap_or_default();
    let authority = format!("{host}:{}", proxy.port_u16().unwrap_or(port));
    Uri::builder().scheme("http").authority(authority).path_and_query("/").build().unwrap_or_else(|_| proxy.clone())
}

/// Without the brackets of an IPv6 address.
fn bare_host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn leads_to(proxy: &Uri, own: SocketAddr) -> bool {
    let host = bare_host(proxy);
    let here = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    here && proxy.port_u16() == Some(own.port())
}

fn unreachable(detail: String) -> Failure {
    Failure::new(FailureKind::Unreachable, Stage::Connect, detail)
}

#[cfg(test)]
mod tests;
