//! Makes the authority of full mode, and certificates in the name of the one host that is terminated. Never signs for another name, never
//! touches a file, and reads no clock: the time is an argument.
//!
//! Whoever trusts this authority trusts it for that one name alone: the certificate itself says so (a critical name constraint, no IP
//! address, no authority below it), so that a stolen key opens nothing else (security.md T20).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::HOST;

/// An authority lives so long: a forgotten one ends by itself.
const AUTHORITY_LIFE: Duration = Duration::from_secs(365 * DAY);

/// An authority with less than this left gets a successor, which is trusted beside it from then on: a session may go on for weeks.
const AUTHORITY_REST: Duration = Duration::from_secs(60 * DAY);

/// An authority with less than this left signs no more: what it signs must end before it does.
const LAST_SIGNATURE: Duration = Duration::from_secs(2 * LEAF_LIFE.as_secs());

/// A certificate for the host lives so long; it is made in memory, and its key is never written.
pub const LEAF_LIFE: Duration = Duration::from_secs(DAY);

/// Certificates hold from so long before they were made: the clocks of one machine may still be set back a little.
pub const BACKDATED: Duration = Duration::from_secs(3600);

const DAY: u64 = 24 * 3600;

/// A name that it must not vouch for.
const OTHER_NAME: &str = "example.com";

/// Of the file's shape.
const VERSION: u32 = 1;

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The kept one cannot be used.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The library refuses.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The library refuses.
    #[error("a certificate cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

/// A name-constrained authority with its key.
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    pem: String,
    /// Seconds since 1970 (UTC).
    not_before: u64,
    not_after: u64,
}

/// What is kept of an authority: key and certificate in one, so that neither is ever read without the other.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    not_before: u64,
    not_after: u64,
    certificate: String,
    key: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, with a key of its own.
    pub fn make(now: SystemTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (not_before, not_after) = (seconds(now - BACKDATED), seconds(now + AUTHORITY_LIFE));
        let certificate = authority_params(not_before, not_after).self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), certificate: certificate.der().clone(), key, not_before, not_after })
    }

    /// The one that [`Authority::to_text`] kept.
    pub fn from_text(text: &str) -> Result<Self, AuthorityError> {
        let unreadable = |reason: String| AuthorityError::Unreadable(reason);
        let kept: Kept = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        if kept.version != VERSION {
            return Err(unreadable(format!("version {} is not known", kept.version)));
        }
        let certificate = CertificateDer::from_pem_slice(kept.certificate.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
        let key = KeyPair::from_pem(&kept.key)?;
        // A key that is not the certificate's would sign what no client takes.
        certified(vec![certificate.clone()], &key)?.keys_match()?;
        Ok(Self { key, certificate, pem: kept.certificate, not_before: kept.not_before, not_after: kept.not_after })
    }

    /// All of it, to be kept where its owner alone can read it.
    pub fn to_text(&self) -> SecretString {
        let kept = Kept {
            version: VERSION,
            not_before: self.not_before,
            not_after: self.not_after,
            certificate: self.pem.clone(),
            key: self.key.serialize_pem(),
        };
        SecretString::from(serde_json::to_string(&kept).unwrap_or_default())
    }

    /// Whether it holds now, and long enough for what begins now.
    pub fn is_good(&self, now: SystemTime) -> bool {
        self.holds_for(AUTHORITY_REST, now)
    }

    /// Whether it holds now, and as long as what it signs now.
    pub fn may_sign(&self, now: SystemTime) -> bool {
        self.holds_for(LAST_SIGNATURE, now)
    }

    fn holds_for(&self, rest: Duration, now: SystemTime) -> bool {
        (self.not_before..self.not_after.saturating_sub(rest.as_secs())).contains(&seconds(now))
    }

    /// How long it still holds.
    pub fn left(&self, now: SystemTime) -> Duration {
        Duration::from_secs(self.not_after.saturating_sub(seconds(now)))
    }

    /// Whether who trusts it takes what it signs for the host, and nothing that it signs for another name.
    pub fn is_constrained(&self, now: SystemTime) -> bool {
        let taken = |name: &str| self.issue_for(name, now).is_ok_and(|leaf| self.vouches(&leaf, name, now).is_ok());
        taken(HOST) && !taken(OTHER_NAME)
    }

    /// What a client says that trusts this authority alone.
    fn vouches(&self, leaf: &CertifiedKey, name: &str, now: SystemTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let name = ServerName::try_from(name.to_owned()).map_err(|error| rustls::Error::General(error.to_string()))?;
        let (end, chain) = leaf.cert.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds(now)));
        verifier.verify_server_cert(end, chain, &name, &[], time).map(drop)
    }

    /// Its certificate, as `NODE_EXTRA_CA_CERTS` wants it (PEM).
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for the host with a fresh key, which holds for [`LEAF_LIFE`].
    pub fn issue(&self, now: SystemTime) -> Result<CertifiedKey, AuthorityError> {
        self.issue_for(HOST, now)
    }

    /// The name is an argument so that it can be shown: clients refuse every other one.
    fn issue_for(&self, name: &str, now: SystemTime) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = called(name);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds(now - BACKDATED));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds(now + LEAF_LIFE));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(authority_params(self.not_before, self.not_after), &self.key);
        let leaf = params.signed_by(&key, &issuer)?;
        certified(vec![leaf.der().clone(), self.certificate.clone()], &key)
    }
}

fn authority_params(not_before: u64, not_after: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called("hotspare, this machine only");
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(not_after);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(HOST.to_owned())],
        // A constraint on names says nothing of addresses: those are shut out one by one kind.
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)),
        ],
    });
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// Seconds since 1970 (UTC); what lies before is 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Result<CertifiedKey, AuthorityError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(chain, key))
}

#[cfg(test)]
mod tests;
