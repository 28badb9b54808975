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

/// The same of the one that comes after it.
fn next_file(state_dir: &Path) -> PathBuf {
    folder(state_dir).join("next.json")
}

/// The certificates alone, for `NODE_EXTRA_CA_CERTS`.
pub(crate) fn certificate_file(state_dir: &Path) -> PathBuf {
    folder(state_dir).join("ca.pem")
}

/// What a client's `NODE_EXTRA_CA_CERTS` names that had `own` there before: our certificates alone, or a file with both.
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
    let lasting = lasting(state_dir)?;
    let unreadable = own.map(|own| write_trusted(state_dir, &lasting, own)).transpose()?.flatten();
    Ok((trusted_file(state_dir, own), unreadable))
}

fn write_trusted(state_dir: &Path, lasting: &Lasting, own: &Path) -> io::Result<Option<io::Error>> {
    let (bundle, unreadable) = bundle(&lasting.certificates(), Some(own));
    write_anew(&trusted_file(state_dir, Some(own)), &bundle)?;
    Ok(unreadable)
}

/// Writes a text unless it stands there already.
fn write_anew(file: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(file).ok().as_deref() == Some(text) { Ok(()) } else { write_private(file, text.as_bytes()) }
}

/// This machine's authority, and, when it nears its end, the one that comes after it.
#[derive(Debug)]
pub(crate) struct Lasting {
    /// It signs.
    pub signs: Authority,
    /// It will sign, when every session that may still be open trusts it.
    next: Option<Authority>,
}

impl Lasting {
    /// What a client must trust: whoever begins now goes on over the change.
    fn certificates(&self) -> String {
        let next = self.next.as_ref().map_or("", Authority::certificate_pem);
        format!("{}{next}", self.signs.certificate_pem())
    }
}

/// This machine's authority, made at the first use, and anew when it cannot be read, or others could have read it. Near its end it gets a
/// successor, which takes over in its last days. What clients trust follows.
pub(crate) fn lasting(state_dir: &Path) -> io::Result<Lasting> {
    lasting_at(state_dir, SystemTime::now())
}

fn lasting_at(state_dir: &Path, now: SystemTime) -> io::Result<Lasting> {
    let (file, next_file) = (key_file(state_dir), next_file(state_dir));
    let current = kept(&file)?;
    if matches!(current, Kept::Open) {
        tracing::warn!("`{}` could be read by others: another authority takes its place", file.display());
    }
    let signs = match (current, kept(&next_file)?) {
        (Kept::Good(current), _) if current.may_sign(now) => current,
        (_, Kept::Good(next)) if next.may_sign(now) => {
            match fs::rename(&next_file, &file) {
                // Another process was quicker: it is in its place already.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => next,
            }
        }
        _ => make(&file, now)?,
    };
    let next = match kept(&next_file)? {
        _ if signs.is_good(now) => None,
        Kept::Good(next) if next.is_good(now) => Some(next),
        _ => Some(make(&next_file, now)?),
    };
    let lasting = Lasting { signs, next };
    spread(state_dir, &lasting)?;
    Ok(lasting)
}

/// A new authority in the place of what is kept, whatever that is.
pub(crate) fn renewed(state_dir: &Path) -> io::Result<()> {
    match fs::remove_file(next_file(state_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let signs = make(&key_file(state_dir), SystemTime::now())?;
    spread(state_dir, &Lasting { signs, next: None })
}

fn make(file: &Path, now: SystemTime) -> io::Result<Authority> {
    let made = Authority::make(now).map_err(io::Error::other)?;
    write_private(file, made.to_text().expose_secret().as_bytes())?;
    // Another process may have made one at the same time: the one that is kept counts.
    Ok(match kept(file)? {
        Kept::Good(kept) => kept,
        _ => made,
    })
}

/// Writes the certificates where clients read them.
fn spread(state_dir: &Path, lasting: &Lasting) -> io::Result<()> {
    write_anew(&certificate_file(state_dir), &lasting.certificates())?;
    if let Some(own) = Outward::kept(state_dir).and_then(|kept| kept.certificates) {
        write_trusted(state_dir, lasting, &own)?;
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
    kept(&key_file(state_dir)).unwrap_or_else(|error| Kept::Broken(error.to_string()))
}

/// Whether clients trust already what comes after an authority that nears its end.
pub(crate) fn has_successor(state_dir: &Path, now: SystemTime) -> bool {
    matches!(kept(&next_file(state_dir)), Ok(Kept::Good(next)) if next.is_good(now))
}

fn kept(file: &Path) -> io::Result<Kept> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::Missing),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Kept::Broken(error.to_string())),
        Err(error) => return Err(io::Error::new(error.kind(), format!("`{}`: {error}", file.display()))),
    };
    if !is_private(file)? {
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

/// What a client must trust: our certificates, and what the user's own file holds. A file that cannot be read is the reason.
pub(crate) fn bundle(certificates: &str, own: Option<&Path>) -> (String, Option<io::Error>) {
    let mut bundle = certificates.to_owned();
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
    use std::time::Duration;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    /// The certificate that signs now.
    fn signing(state_dir: &Path) -> String {
        lasting(state_dir).expect("made or read").signs.certificate_pem().to_owned()
    }

    #[test]
    fn t9_the_authority_lasts_its_key_is_nobody_else_s_and_one_that_others_could_read_is_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = signing(folder.path());
        let file = key_file(folder.path());
        assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
        let public = fs::read_to_string(certificate_file(folder.path())).expect("there");
        assert_eq!(public, first);
        assert!(!public.contains("PRIVATE"));
        assert_eq!(signing(folder.path()), first);
        for loose in [0o640, 0o604, 0o644] {
            let before = signing(folder.path());
            fs::set_permissions(&file, fs::Permissions::from_mode(loose)).expect("loosened");
            assert_ne!(before, signing(folder.path()), "{loose:o}");
            assert_eq!(mode(&file), 0o600);
        }
        fs::write(&file, "{").expect("damaged");
        let mended = signing(folder.path());
        assert_eq!(fs::read_to_string(certificate_file(folder.path())).expect("there"), mended);
    }

    /// A session reads what it trusts when it begins, and may be open for weeks.
    #[test]
    fn a_session_goes_on_while_one_authority_takes_over_from_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs((20_800 + days) * 24 * 3600);
        // What a session trusts that begins on this day, and who signs then.
        let begins = |days: u64| {
            let signs = lasting_at(folder.path(), day(days)).expect("made or read").signs;
            (fs::read_to_string(certificate_file(folder.path())).expect("there"), signs.certificate_pem().to_owned())
        };
        let (early, first) = begins(0);
        assert_eq!((&begins(304).0, early.matches("BEGIN").count()), (&early, 1), "there is time");
        let (both, signs) = begins(306);
        assert_eq!((&signs, both.matches("BEGIN").count()), (&first, 2), "who trusts the first one alone is not cut off");
        assert_eq!(begins(362), (both.clone(), first.clone()));
        assert_eq!((mode(&next_file(folder.path())), mode(&key_file(folder.path()))), (0o600, 0o600));
        let (late, second) = begins(363);
        assert_ne!(second, first);
        assert!(proof::holds(&both, &second) && proof::holds(&late, &second), "trusted for weeks before it signs");
        assert!(!proof::holds(&late, &first) && !next_file(folder.path()).exists());
        assert_eq!(begins(600).1, second);
        let (_, third) = begins(363 + 10 * 365);
        assert!(third != second && third != first, "after a long pause a new one is made at once");
    }

    #[test]
    fn what_comes_after_an_authority_takes_its_place_when_that_is_lost_and_goes_with_one_that_is_made_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let near_its_end = SystemTime::now() - Duration::from_secs(320 * 24 * 3600);
        make(&key_file(folder.path()), near_its_end).expect("made");
        let next = lasting(folder.path()).expect("read").next.expect("there").certificate_pem().to_owned();
        assert!(has_successor(folder.path(), SystemTime::now()));
        fs::write(key_file(folder.path()), "{").expect("damaged");
        assert_eq!(signing(folder.path()), next);
        make(&key_file(folder.path()), near_its_end).expect("made");
        lasting(folder.path()).expect("read");
        renewed(folder.path()).expect("made");
        assert!(!has_successor(folder.path(), SystemTime::now()));
        assert_ne!(signing(folder.path()), next);
    }

    #[test]
    fn the_user_s_own_certificates_are_trusted_beside_ours_and_a_missing_file_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ours = signing(folder.path());
        let own = folder.path().join("corp.pem");
        fs::write(&own, "corp").expect("written");
        let (both, error) = bundle(&ours, Some(&own));
        assert_eq!((both, error.is_none()), (format!("{ours}\ncorp"), true));
        let (alone, error) = bundle(&ours, Some(Path::new("/no/such.pem")));
        assert_eq!((alone.as_str(), error.is_some()), (ours.as_str(), true));
    }
}
