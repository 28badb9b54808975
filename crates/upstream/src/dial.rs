//! Opens plain connections for blind tunnels. Never to this machine or its link: what asks could not get there by another way, or can get
//! there without us (security.md T25).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use hotspare_core::Failure;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::connect::{Io, LookupFailed, Resolver};

/// Why there is no connection for a tunnel.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The place is this machine or its link.
    #[error("no tunnel leads to this machine or its own link")]
    Forbidden,
    /// It cannot be reached.
    #[error("{0}")]
    Failed(Failure),
}

/// A connection on its way, or why there will be none.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Io>, DialError>> + Send + 'a>>;

/// Whether an address is this machine, its link (metadata services of clouds are there), or no single place at all.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.octets()[0] == 0 || address.is_loopback() || address.is_link_local() || address.is_multicast() || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            address.is_unspecified() || address.is_loopback() || address.is_unicast_link_local() || address.is_multicast()
        }
    }
}

/// Whether the host is forbidden by what it is called, before anything is looked up.
pub(crate) fn is_forbidden_name(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    literal.is_ok_and(is_forbidden) || name == "localhost" || name.ends_with(".localhost")
}

/// The system's resolver without forbidden addresses: what it gives is what is connected to, so no second look-up can say otherwise.
#[derive(Clone)]
pub(crate) struct Outward(pub Resolver);

/// Every address of the name is forbidden.
#[derive(Debug, thiserror::Error)]
#[error("every address of the name is forbidden")]
pub(crate) struct AllForbidden;

/// Why a name gives no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAddress {
    #[error(transparent)]
    LookupFailed(#[from] LookupFailed),
    #[error(transparent)]
    AllForbidden(#[from] AllForbidden),
}

impl Service<Name> for Outward {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = NoAddress;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoAddress>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoAddress>> {
        self.0.poll_ready(cx).map_err(NoAddress::from)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.0.call(name);
        Box::pin(async move { Ok(allowed(lookup.await?)?) })
    }
}

fn allowed(found: impl Iterator<Item = SocketAddr>) -> Result<vec::IntoIter<SocketAddr>, AllForbidden> {
    let allowed: Vec<_> = found.filter(|address| !is_forbidden(address.ip())).collect();
    if allowed.is_empty() { Err(AllForbidden) } else { Ok(allowed.into_iter()) }
}

/// Whether a failure to connect comes from a forbidden address.
pub(crate) fn was_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(inner) = source {
        let wrapped = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is::<AllForbidden>()
            || matches!(inner.downcast_ref(), Some(NoAddress::AllForbidden(_)))
            || wrapped.is_some_and(<dyn std::error::Error + Send + Sync>::is::<AllForbidden>)
        {
            return true;
        }
        source = inner.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t25_this_machine_and_its_link_are_forbidden_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "localhost",
            "LOCALHOST.",
            "x.localhost",
            "[::1]",
        ] {
            assert!(is_forbidden_name(host), "{host}");
        }
        for host in
            ["10.0.0.7", "192.168.1.1", "1.1.1.1", "2001:db8::1", "fd00::1", "api.anthropic.com", "localhost.example", "mylocalhost"]
        {
            assert!(!is_forbidden_name(host), "{host}");
        }
    }

    #[test]
    fn t25_a_name_leads_only_to_its_allowed_addresses() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mixed = [address("127.0.0.1:443"), address("10.0.0.7:443"), address("[::1]:443")];
        assert_eq!(allowed(mixed.into_iter()).unwrap().collect::<Vec<_>>(), [address("10.0.0.7:443")]);
        assert!(allowed([address("127.0.0.1:443")].into_iter()).is_err());
    }
}
