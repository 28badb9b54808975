//! Keeps the local token and the list of running gateways in the state folder. Never readable by others, never torn by a crash.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// Bytes of chance in a token: 256 bit (security.md T3).
const TOKEN_BYTES: usize = 32;

/// A fresh local token.
pub(crate) fn new_token() -> io::Result<SecretString> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("no randomness: {error}")))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(SecretString::from(format!("hs-{hex}")))
}

/// The token that `serve` uses at every start, made at the first.
pub(crate) fn lasting_token(state_dir: &Path) -> io::Result<SecretString> {
    let file = state_dir.join("token");
    match fs::read_to_string(&file) {
        Ok(text) if is_token(text.trim()) => {
            private_mode(&file, 0o600)?;
            return Ok(SecretString::from(text.trim().to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io::Error::new(error.kind(), format!("`{}`: {error}", file.display()))),
    }
    let token = new_token()?;
    write_private(&file, token.expose_secret().as_bytes())?;
    Ok(token)
}

fn is_token(text: &str) -> bool {
    text.strip_prefix("hs-").is_some_and(|hex| hex.len() == 2 * TOKEN_BYTES && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A gateway that runs now, as other processes of this user find it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// Of this shape.
    pub version: u32,
    /// Its process.
    pub pid: i32,
    /// `run`, `serve`, or `drill` for the time of one.
    pub kind: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What opens it; the file is readable by its owner alone.
    pub token: String,
}

/// The entry of this process; gone when dropped.
pub(crate) struct Registration {
    file: PathBuf,
    instance: Instance,
}

impl Registration {
    /// What it says.
    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // A left-over is recognised by its dead process.
        let _ = fs::remove_file(&self.file);
    }
}

/// Enters this process in the list.
pub(crate) fn register(state_dir: &Path, kind: &str, address: SocketAddr, token: &SecretString) -> io::Result<Registration> {
    let pid = std::process::id().cast_signed();
    let instance = Instance { version: 1, pid, kind: kind.to_owned(), address, token: token.expose_secret().to_owned() };
    let file = state_dir.join("instances").join(format!("{pid}.json"));
    write_private(&file, serde_json::to_string(&instance)?.as_bytes())?;
    Ok(Registration { file, instance })
}

/// The gateways of this user that run now; entries of dead processes are removed.
pub(crate) fn instances(state_dir: &Path) -> Vec<Instance> {
    let Ok(entries) = fs::read_dir(state_dir.join("instances")) else {
        return Vec::new();
    };
    let mut running: Vec<Instance> = entries.flatten().filter_map(|entry| read_instance(&entry.path())).collect();
    running.sort_by_key(|instance| instance.pid);
    running
}

fn read_instance(file: &Path) -> Option<Instance> {
    let instance: Instance = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let alive = Pid::from_raw(instance.pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    if !alive {
        let _ = fs::remove_file(file);
    }
    alive.then_some(instance)
}

/// Writes a file that only its owner may read, in a folder that only its owner may enter: whole or not at all.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let folder = file.parent().ok_or_else(|| io::Error::other("the file has no folder"))?;
    let told = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", file.display()));
    fs::create_dir_all(folder).map_err(told)?;
    private_mode(folder, 0o700)?;
    // The temporary file is made with mode 0600 whatever the umask says.
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(told)?;
    temporary.write_all(content).and_then(|()| temporary.as_file().sync_all()).map_err(told)?;
    temporary.persist(file).map_err(|error| told(error.error))?;
    Ok(())
}

#[cfg(unix)]
fn private_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn private_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn t9_the_token_lasts_and_is_nobody_else_s() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        let first = lasting_token(&state).expect("made");
        assert_eq!((mode(&state), mode(&state.join("token"))), (0o700, 0o600));
        fs::set_permissions(state.join("token"), fs::Permissions::from_mode(0o644)).expect("loosened");
        let again = lasting_token(&state).expect("read");
        assert_eq!(first.expose_secret(), again.expose_secret());
        assert_eq!(mode(&state.join("token")), 0o600);
        fs::write(state.join("token"), "short").expect("damaged");
        assert_ne!(lasting_token(&state).expect("made anew").expose_secret(), first.expose_secret());
    }

    #[test]
    fn a_registration_is_found_while_it_lives_and_the_dead_are_forgotten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let token = new_token().expect("randomness");
        let address = "127.0.0.1:4117".parse().expect("an address");
        let registration = register(folder.path(), "serve", address, &token).expect("entered");
        assert_eq!(instances(folder.path()).len(), 1);
        let dead = Instance { version: 1, pid: i32::MAX, kind: "run".into(), address, token: String::new() };
        let file = folder.path().join("instances/dead.json");
        fs::write(&file, serde_json::to_string(&dead).expect("JSON")).expect("written");
        assert_eq!(instances(folder.path()).len(), 1);
        assert!(!file.exists());
        drop(registration);
        assert!(instances(folder.path()).is_empty());
    }
}
