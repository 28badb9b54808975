//! Ends the TLS of the one host: a short-lived certificate in its name, renewed in time. Never answers for another name, and speaks
//! nothing but HTTP/1.1.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::HOST;
use super::authority::{Authority, BACKDATED, LEAF_LIFE};

/// A certificate is replaced when this much of its life has passed.
const RENEW_AFTER: Duration = Duration::from_secs(LEAF_LIFE.as_secs() / 2);

/// Where the authority comes from: it is read or made when it is first needed, and read anew for each certificate.
pub type AuthoritySource = Box<dyn Fn() -> Result<Arc<Authority>, String> + Send + Sync>;

/// What ends TLS, with the time it was made at.
struct Made {
    at: SystemTime,
    config: Arc<ServerConfig>,
}

/// Ends TLS for the one host.
pub struct Terminator {
    authority: AuthoritySource,
    made: Mutex<Option<Made>>,
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator").finish_non_exhaustive()
    }
}

impl Terminator {
    /// With certificates of this authority.
    pub fn new(authority: AuthoritySource) -> Self {
        Self { authority, made: Mutex::default() }
    }

    /// With certificates of an authority that is here already.
    pub fn of(authority: Arc<Authority>) -> Self {
        Self::new(Box::new(move || Ok(authority.clone())))
    }

    /// What accepts a handshake now, or why none can be accepted.
    pub fn acceptor(&self, now: SystemTime) -> Result<TlsAcceptor, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref().filter(|made| made.is_fresh(now)) {
            return Ok(made.config.clone().into());
        }
        let leaf = (self.authority)()?.issue(now).map_err(|error| error.to_string())?;
        let config = Arc::new(server_config(leaf).map_err(|error| error.to_string())?);
        *made = Some(Made { at: now, config: config.clone() });
        Ok(config.into())
    }

    /// A client does not trust the certificate: the authority may have been replaced, and is read anew for the next one.
    pub fn distrusted(&self) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Made {
    /// Also when the clock was set back.
    fn is_fresh(&self, now: SystemTime) -> bool {
        match now.duration_since(self.at) {
            Ok(age) => age < RENEW_AFTER,
            Err(ahead) => ahead.duration() < BACKDATED,
        }
    }
}

fn server_config(leaf: CertifiedKey) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OneName(Arc::new(leaf))));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate for whoever asks for its name, and nothing for anybody else.
#[derive(Debug)]
struct OneName(Arc<CertifiedKey>);

impl ResolvesServerCert for OneName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().is_some_and(|name| name.eq_ignore_ascii_case(HOST));
        named.then(|| self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(terminator: &Terminator, now: SystemTime) -> Arc<ServerConfig> {
        terminator.acceptor(now).unwrap().config().clone()
    }

    #[test]
    fn a_certificate_is_kept_for_half_its_life_and_made_anew_after_it_or_when_the_clock_was_set_back() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let terminator = Terminator::of(Arc::new(Authority::make(start).unwrap()));
        let first = made(&terminator, start);
        assert!(Arc::ptr_eq(&first, &made(&terminator, start + RENEW_AFTER - Duration::from_secs(1))));
        assert!(Arc::ptr_eq(&first, &made(&terminator, start - BACKDATED + Duration::from_secs(1))));
        let second = made(&terminator, start + RENEW_AFTER);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &made(&terminator, start)), "the clock was set back by twelve hours");
    }

    #[test]
    fn where_no_authority_can_be_had_the_reason_is_told() {
        let terminator = Terminator::new(Box::new(|| Err("the disk is full".to_owned())));
        assert_eq!(terminator.acceptor(SystemTime::UNIX_EPOCH).map(drop), Err("the disk is full".to_owned()));
    }

    #[test]
    fn who_is_not_trusted_reads_the_authority_anew() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let terminator = Terminator::of(Arc::new(Authority::make(start).unwrap()));
        let first = made(&terminator, start);
        terminator.distrusted();
        assert!(!Arc::ptr_eq(&first, &made(&terminator, start)));
    }
}
