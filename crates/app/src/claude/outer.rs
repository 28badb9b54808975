//! Finds the hotspare that this process runs behind already, by the environment that it was started with.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{BASE_URL, CUSTOM_HEADERS, EXTRA_CERTIFICATES, HTTPS_PROXY, Lead, OWN_URL, is_token_line, our_proxy, proxy_token};
use crate::state::Instance;
use crate::wiring::listener;

/// Longest that an outer hotspare may take to prove that it knows the token.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);

/// A hotspare around this process: an outer `run`, or the service behind which the client that started us runs.
#[derive(Debug)]
pub(crate) struct Outer {
    instance: Instance,
    /// The certificates that the client trusts, in full mode; `None` if it is led by its base URL.
    certificates: Option<PathBuf>,
}

impl Outer {
    /// `None` if the environment leads to no hotspare of this machine.
    pub(crate) fn of(environment: &HashMap<OsString, OsString>) -> Option<Self> {
        let variable = |name: &str| environment.get(OsStr::new(name)).and_then(|value| value.to_str()).filter(|value| !value.is_empty());
        if let Some(url) = variable(BASE_URL).filter(|url| *url != OWN_URL) {
            let address: SocketAddr = url.strip_prefix("http://")?.trim_end_matches('/').parse().ok()?;
            let line = variable(CUSTOM_HEADERS)?.lines().find(|line| is_token_line(line))?;
            let (_, token) = line.split_once(':')?;
            return address.ip().is_loopback().then(|| Self::at(address, token.trim(), None));
        }
        let proxy = HTTPS_PROXY.iter().find_map(|name| variable(name).filter(|url| our_proxy(url).is_some()))?;
        let certificates = variable(EXTRA_CERTIFICATES)?;
        Some(Self::at(our_proxy(proxy)?, proxy_token(proxy)?, Some(certificates.into())))
    }

    fn at(address: SocketAddr, token: &str, certificates: Option<PathBuf>) -> Self {
        let instance = Instance { version: 1, pid: 0, kind: "run".to_owned(), address, token: token.to_owned(), started: None };
        Self { instance, certificates }
    }

    /// True if it runs and proves that it knows the token. Variables may outlive the process that they name, and another user's process may
    /// have its port by then.
    pub(crate) fn answers(&self) -> bool {
        listener::knows_token(self.instance.address, &self.instance.token, PROOF_TIMEOUT)
    }

    /// Its port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.instance.address
    }

    /// Its local token.
    pub(crate) fn token(&self) -> &str {
        &self.instance.token
    }

    /// How it leads a client to itself.
    pub(crate) fn lead(&self) -> Lead<'_> {
        self.certificates.as_deref().map_or(Lead::Base, Lead::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Outer> {
        Outer::of(&variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect())
    }

    #[test]
    fn outer_is_known_by_its_token() {
        let base = (BASE_URL, "http://127.0.0.1:5001");
        let token = (CUSTOM_HEADERS, "x-own: 1\nX-Hotspare-Token: hs-test");
        let found = of(&[base, token]).expect("an outer hotspare");
        assert_eq!((found.address().port(), found.token()), (5001, "hs-test"));
        assert!(matches!(found.lead(), Lead::Base));
        assert!(of(&[base]).is_none(), "a gateway of the user's own");
        assert!(of(&[(BASE_URL, "https://gateway.example"), token]).is_none());
        assert!(of(&[(BASE_URL, "http://192.0.2.1:5001"), token]).is_none(), "no token leaves this machine");
        assert!(of(&[]).is_none());
    }

    #[test]
    fn outer_in_full_mode_is_known_by_its_proxy() {
        let proxy = ("HTTPS_PROXY", "http://hotspare:hs-test@127.0.0.1:5001");
        let found = of(&[proxy, (EXTRA_CERTIFICATES, "/tmp/ca.pem")]).expect("an outer hotspare");
        assert_eq!((found.address().port(), found.token()), (5001, "hs-test"));
        assert!(matches!(found.lead(), Lead::Full(_)));
        assert!(of(&[("HTTPS_PROXY", "http://proxy.example:3128"), (EXTRA_CERTIFICATES, "/tmp/ca.pem")]).is_none());
    }
}
