//! Keeps the authority of full mode in the state folder. Never in a system's trust store, and never with a key that others may have read.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hotspare_config::digest;
use hotspare_gateway::Authority;
use hotspare_gateway::intercept::proof::{self, Unproven};
use secrecy::ExposeSecret;

use crate::state::write_private;
use crate::wiring::outward::Outward;

/// Characters of a digest that tell one file of the user's own certificates from another.
const TELLING: usize = 12;

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("ca")
}

/// Key and certificate, for us alone.
pub(crate) fn key_file(state_dir: &Path) -> PathBuf {
    folder(state_dir).join("authority.json")
}

/// The certificate alone, for `NODE_EXTRA_CA_CERTS`.
pub(crate) fn certificate_file(state_dir: &Path) -> PathBuf {
    folder(state_dir).join("ca.pem")
}

/// What a client's `NODE_EXTRA_CA_CERTS` names that had `own` there before: the certificate alone, or a file with both.
pub(crate) fn trusted_file(state_dir: &Path, own: Option<&Path>) -> PathBuf {
    match own {
        None => certificate_file(state_dir),
        Some(own) => {
            let digest = digest(own.as_os_str().as_encoded_bytes());
            folder(state_dir).join(format!("trusted-{}.pem", &digest[..TELLING.min(digest.len())]))
        }
    }
}

/// Whether a file of certificates is one that we have made.
pub(crate) fn is_ours(state_dir: &Path, file: &Path) -> bool {
    file.parent() == Some(&folder(state_dir))
}

/// The same file, written. What of the user's own cannot be read is left out, and the reason told.
pub(crate) fn trusted(state_dir: &Path, own: Option<&Path>) -> io::Result<(PathBuf, Option<io::Error>)> {
    let authority = lasting(state_dir)?;
    let unreadable = own.map(|own| write_trusted(state_dir, &authority, own)).transpose()?.flatten();
    Ok((trusted_file(state_dir, own), unreadable))
}

fn write_trusted(state_dir: &Path, authority: &Authority, own: &Path) -> io::Result<Option<io::Error>> {
    let (bundle, unreadable) = bundle(authority, Some(own));
    write_anew(&trusted_file(state_dir, Some(own)), &bundle)?;
    Ok(unreadable)
}

/// Writes a text unless it stands there already.
fn write_anew(file: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(file).ok().as_deref() == Some(text) { Ok(()) } else { write_private(file, text.as_bytes()) }
}

/// This machine's authority, made at the first use, and anew when it nears its end, cannot be read, or others could have read it. What
/// clients trust follows it.
pub(crate) fn lasting(state_dir: &Path) -> io::Result<Authority> {
    let now = SystemTime::now();
    let authority = match kept(state_dir)? {
        Kept::Good(authority) if authority.is_good(now) => authority,
        other => {
            if matches!(other, Kept::Open) {
                tracing::warn!("`{}` could be read by others: a new authority is made", key_file(state_dir).display());
            }
            make(state_dir, now)?
        }
    };
    spread(state_dir, &authority)?;
    Ok(authority)
}

/// A new authority in the place of the one that is kept, whatever that is.
pub(crate) fn renewed(state_dir: &Path) -> io::Result<Authority> {
    let authority = make(state_dir, SystemTime::now())?;
    spread(state_dir, &authority)?;
    Ok(authority)
}

fn make(state_dir: &Path, now: SystemTime) -> io::Result<Authority> {
    let made = Authority::make(now).map_err(io::Error::other)?;
    write_private(&key_file(state_dir), made.to_text().expose_secret().as_bytes())?;
    // Another process may have made one at the same time: the one that is kept counts.
    Ok(match kept(state_dir)? {
        Kept::Good(kept) => kept,
        _ => made,
    })
}

/// Writes its certificate where clients read it.
fn spread(state_dir: &Path, authority: &Authority) -> io::Result<()> {
    write_anew(&certificate_file(state_dir), authority.certificate_pem())?;
    if let Some(own) = Outward::kept(state_dir).and_then(|kept| kept.certificates) {
        write_trusted(state_dir, authority, &own)?;
    }
    Ok(())
}

/// What is in the authority's place.
#[derive(Debug)]
pub(crate) enum Kept {
    /// One that can be read and is nobody else's; it may be near its end.
    Good(Authority),
    /// None yet.
    Missing,
    /// One that others can read.
    Open,
    /// Something that is none, and why.
    Broken(String),
}

/// Looks, and makes nothing.
pub(crate) fn look(state_dir: &Path) -> Kept {
    kept(state_dir).unwrap_or_else(|error| Kept::Broken(error.to_string()))
}

fn kept(state_dir: &Path) -> io::Result<Kept> {
    let file = key_file(state_dir);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::Missing),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Kept::Broken(error.to_string())),
        Err(error) => return Err(io::Error::new(error.kind(), format!("`{}`: {error}", file.display()))),
    };
    if !is_private(&file)? {
        return Ok(Kept::Open);
    }
    Ok(Authority::from_text(&text).map_or_else(|error| Kept::Broken(error.to_string()), Kept::Good))
}

/// Whether a client that trusts what is in this file gets through to the host by this port; else why not. A service that still shows a
/// certificate of an authority before this one reads the new one when it is refused, so it is asked twice.
pub(crate) async fn proven(address: SocketAddr, token: &str, trusted: &Path) -> Result<(), String> {
    let pem = fs::read_to_string(trusted).map_err(|error| format!("`{}`: {error}", trusted.display()))?;
    let first = proof::prove(address, token, &pem).await;
    let outcome = if matches!(first, Err(Unproven::Distrusted(_))) { proof::prove(address, token, &pem).await } else { first };
    outcome.map_err(|error| error.to_string())
}

#[cfg(unix)]
fn is_private(file: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let others = fs::metadata(file)?.permissions().mode() & 0o077;
    Ok(others == 0)
}

#[cfg(not(unix))]
fn is_private(_file: &Path) -> io::Result<bool> {
    Ok(true)
}

/// What a client must trust: our certificate, and what the user's own file holds. A file that cannot be read is the reason.
pub(crate) fn bundle(authority: &Authority, own: Option<&Path>) -> (String, Option<io::Error>) {
    let mut bundle = authority.certificate_pem().to_owned();
    let unreadable = match own.map(fs::read_to_string) {
        Some(Ok(text)) => {
            bundle.push('\n');
            bundle.push_str(&text);
            None
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    (bundle, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn t9_the_authority_lasts_its_key_is_nobody_else_s_and_one_that_others_could_read_is_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = lasting(folder.path()).expect("made");
        let file = key_file(folder.path());
        assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
        let public = fs::read_to_string(certificate_file(folder.path())).expect("there");
        assert_eq!(public, first.certificate_pem());
        assert!(!public.contains("PRIVATE"));
        let again = lasting(folder.path()).expect("read");
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        for loose in [0o640, 0o604, 0o644] {
            let before = lasting(folder.path()).expect("read");
            fs::set_permissions(&file, fs::Permissions::from_mode(loose)).expect("loosened");
            let after = lasting(folder.path()).expect("made anew");
            assert_ne!(before.certificate_pem(), after.certificate_pem(), "{loose:o}");
            assert_eq!(mode(&file), 0o600);
        }
        fs::write(&file, "{").expect("damaged");
        let mended = lasting(folder.path()).expect("made anew");
        assert_eq!(fs::read_to_string(certificate_file(folder.path())).expect("there"), mended.certificate_pem());
    }

    #[test]
    fn the_user_s_own_certificates_are_trusted_beside_ours_and_a_missing_file_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority = lasting(folder.path()).expect("made");
        let own = folder.path().join("corp.pem");
        fs::write(&own, "corp").expect("written");
        let (both, error) = bundle(&authority, Some(&own));
        assert_eq!((both, error.is_none()), (format!("{}\ncorp", authority.certificate_pem()), true));
        let (ours, error) = bundle(&authority, Some(Path::new("/no/such.pem")));
        assert_eq!((ours.as_str(), error.is_some()), (authority.certificate_pem(), true));
    }
}
