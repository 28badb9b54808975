//! Sets TLS up: rustls with the operating system's trust store. Never relaxes verification, whatever a provider presents.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The file of extra authorities cannot be used.
    #[error("extra certificate authorities in `{}`: {reason}", file.display())]
    ExtraRoots {
        /// The file that `NODE_EXTRA_CA_CERTS` names.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The trust store or the provider cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A connector that trusts what the operating system trusts, and the authorities in `extra_roots` (a PEM file), which companies that
/// inspect TLS already give to Claude Code.
pub fn connector(extra_roots: Option<&Path>) -> Result<TlsConnector, TlsSetupError> {
    witnessed(extra_roots, |verifier| verifier)
}

/// The same connector, with somebody who looks on while its verifier judges.
pub(crate) fn witnessed(
    extra_roots: Option<&Path>,
    witness: impl FnOnce(Arc<dyn ServerCertVerifier>) -> Arc<dyn ServerCertVerifier>,
) -> Result<TlsConnector, TlsSetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(read_roots(extra_roots)?, provider.clone())?;
    with_verifier(provider, witness(Arc::new(verifier)))
}

fn with_verifier(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Result<TlsConnector, TlsSetupError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous() // rustls names every verifier of one's own so; this one is the platform's
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn read_roots(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let fail = |reason: String| TlsSetupError::ExtraRoots { file: file.to_owned(), reason };
    CertificateDer::pem_file_iter(file)
        .map_err(|error| fail(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| fail(error.to_string()))
}
