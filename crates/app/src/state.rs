//! Keeps the local token and the list of running gateways in the state folder. Never readable by others, never torn by a crash.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// Bytes of chance in a token: 256 bit (security.md T3).
const TOKEN_BYTES: usize = 32;

/// A fresh local token.
pub(crate) fn new_token() -> io::Result<SecretString> {
    Ok(SecretString::from(format!("hs-{}", chance()?)))
}

/// 256 bit of chance, in hex digits.
pub(crate) fn chance() -> io::Result<String> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The token that `serve` uses at every start, made at the first. Of two processes that make it at the same moment, one does.
pub(crate) fn lasting_token(state_dir: &Path) -> io::Result<SecretString> {
    let file = state_dir.join("token");
    if let Some(token) = kept_token(&file)? {
        return Ok(token);
    }
    let token = new_token()?;
    match temporary(&file, token.expose_secret().as_bytes())?.persist_noclobber(&file) {
        Ok(_) => Ok(token),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => match kept_token(&file)? {
            Some(token) => Ok(token),
            // What is there is no token, so nobody can be using it.
            None => error.file.persist(&file).map(|_| token).map_err(|error| error.error),
        },
        Err(error) => Err(io::Error::new(error.error.kind(), format!("`{}`: {}", file.display(), error.error))),
    }
}

fn kept_token(file: &Path) -> io::Result<Option<SecretString>> {
    match fs::read_to_string(file) {
        Ok(text) if is_token(text.trim()) => {
            private_mode(file, 0o600)?;
            Ok(Some(SecretString::from(text.trim().to_owned())))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("`{}`: {error}", file.display()))),
    }
}

/// The folder where a process that serves keeps its token: the state folder, or one for this boot where that cannot be written.
pub(crate) fn writable_dir(state_dir: &Path) -> io::Result<PathBuf> {
    match lasting_token(state_dir) {
        Ok(_) => Ok(state_dir.to_owned()),
        Err(error) => stand_in().map_err(|_| error),
    }
}

/// A private folder that stands in for a state folder on a read-only or full disk: `$XDG_RUNTIME_DIR/hotspare`, else `hotspare-UID` in the
/// folder for temporary files. In the latter others may have made something of that name first, so it counts only as a real folder of
/// this user's that nobody else may enter.
fn stand_in() -> io::Result<PathBuf> {
    let folder = stand_in_path();
    if let Err(error) = fs::DirBuilder::new().mode(0o700).create(&folder)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    if is_private(&folder) { Ok(folder) } else { Err(io::Error::other(format!("`{}` is not private", folder.display()))) }
}

fn stand_in_path() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute() && folder.is_dir());
    let user = rustix::process::geteuid().as_raw();
    runtime.map_or_else(|| std::env::temp_dir().join(format!("hotspare-{user}")), |folder| folder.join("hotspare"))
}

fn is_private(folder: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(folder).is_ok_and(|seen| seen.is_dir() && seen.uid() == user && seen.mode().trailing_zeros() >= 6)
}

/// File that holds the place of Claude Code.
const CLIENT: &str = "claude-path";

/// Records where Claude Code is, for a service whose search path is shorter than the user's.
pub(crate) fn keep_client(state_dir: &Path, program: &Path) -> io::Result<()> {
    write_private(&state_dir.join(CLIENT), program.as_os_str().as_bytes())
}

/// Where Claude Code was when it was last recorded.
pub(crate) fn kept_client(state_dir: &Path) -> Option<PathBuf> {
    let program = PathBuf::from(OsString::from_vec(fs::read(state_dir.join(CLIENT)).ok()?));
    program.is_absolute().then_some(program)
}

/// Somebody else may know the token: whoever serves or asks next makes another. What runs keeps the one that it has.
pub(crate) fn forget_token(state_dir: &Path) -> io::Result<()> {
    match fs::remove_file(state_dir.join("token")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// That token, or what stands for it where it is not made yet.
pub(crate) fn known_token(state_dir: &Path) -> SecretString {
    let kept = fs::read_to_string(state_dir.join("token")).unwrap_or_default();
    SecretString::from(if is_token(kept.trim()) { kept.trim().to_owned() } else { "hs-made-at-the-first-start".to_owned() })
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
    /// `run`, `serve`, `service` for one in the background, or `drill` for the time of one.
    pub kind: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What opens it; the file is readable by its owner alone.
    pub token: String,
    /// When the process started, in the system's clock ticks since boot. `None` where the system does not say, or an older version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

impl Instance {
    /// Whether it serves whoever comes, and not one command alone.
    pub(crate) fn serves_all(&self) -> bool {
        matches!(self.kind.as_str(), "serve" | "service")
    }
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
    let started = start_time(pid);
    let instance = Instance { version: 1, pid, kind: kind.to_owned(), address, token: token.expose_secret().to_owned(), started };
    let content = serde_json::to_string(&instance)?;
    let file = |folder: &Path| folder.join("instances").join(format!("{pid}.json"));
    let entered = |folder: &Path| write_private(&file(folder), content.as_bytes()).map(|()| file(folder));
    let file = entered(state_dir).or_else(|error| stand_in().and_then(|folder| entered(&folder)).map_err(|_| error))?;
    Ok(Registration { file, instance })
}

/// The gateways of this user that run now; entries of dead processes are removed.
pub(crate) fn instances(state_dir: &Path) -> Vec<Instance> {
    let stand_in = Some(stand_in_path()).filter(|folder| is_private(folder));
    let folders = [Some(state_dir.to_owned()), stand_in].into_iter().flatten();
    let entries = folders.filter_map(|folder| fs::read_dir(folder.join("instances")).ok()).flatten();
    let mut running: Vec<Instance> = entries.flatten().filter_map(|entry| read_instance(&entry.path())).collect();
    running.sort_by_key(|instance| instance.pid);
    running
}

fn read_instance(file: &Path) -> Option<Instance> {
    let instance: Instance = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let alive = is_same_process(instance.pid, instance.started);
    if !alive {
        let _ = fs::remove_file(file);
    }
    alive.then_some(instance)
}

/// The process that starts a service again when it crashes, where no systemd or launchd does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Supervisor {
    /// Of this shape.
    version: u32,
    /// Its process.
    pub pid: i32,
    /// Like [`Instance::started`].
    #[serde(default)]
    started: Option<u64>,
    /// The port that it holds open.
    pub address: SocketAddr,
}

/// The entry of a supervisor; removed on drop.
pub(crate) struct SupervisorEntry(PathBuf);

impl Drop for SupervisorEntry {
    fn drop(&mut self) {
        // An entry of a dead process is recognised and removed by the next reader.
        let _ = fs::remove_file(&self.0);
    }
}

/// The folder of their entries.
fn supervisors_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("supervisors")
}

/// Records this process as a supervisor.
pub(crate) fn register_supervisor(state_dir: &Path, address: SocketAddr) -> io::Result<SupervisorEntry> {
    let pid = std::process::id().cast_signed();
    let entry = Supervisor { version: 1, pid, started: start_time(pid), address };
    let file = supervisors_dir(state_dir).join(format!("{pid}.json"));
    write_private(&file, serde_json::to_string(&entry)?.as_bytes())?;
    Ok(SupervisorEntry(file))
}

/// The supervisors of this state folder that run now. Entries of dead processes are removed.
pub(crate) fn supervisors(state_dir: &Path) -> Vec<Supervisor> {
    let entries = fs::read_dir(supervisors_dir(state_dir)).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let supervisor: Supervisor = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            let alive = is_same_process(supervisor.pid, supervisor.started);
            if !alive {
                let _ = fs::remove_file(entry.path());
            }
            alive.then_some(supervisor)
        })
        .collect()
}

/// True if the process lives and started then. A process number is used again after a restart of the machine, and in time without one.
fn is_same_process(pid: i32, started: Option<u64>) -> bool {
    let is_same = || started.is_none_or(|started| start_time(pid).is_none_or(|now| now == started));
    Pid::from_raw(pid).is_some_and(is_alive) && is_same()
}

/// When a process started, in clock ticks since boot (field 22 of `proc_pid_stat(5)`). `None` where the system does not say.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything; the third field follows it.
    stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()
}

/// Whether a process is there and has not ended. One that nobody has asked for its end keeps its number.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let has_ended = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    };
    test_kill_process(pid).is_ok() && !has_ended()
}

/// Writes a file that only its owner may read, in a folder that only its owner may enter: whole or not at all.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", file.display()));
    temporary(file, content)?.persist(file).map_err(|error| told(error.error))?;
    Ok(())
}

/// The content beside the place that it is for.
fn temporary(file: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = file.parent().ok_or_else(|| io::Error::other("the file has no folder"))?;
    let told = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", file.display()));
    fs::create_dir_all(folder).map_err(told)?;
    private_mode(folder, 0o700)?;
    // Made with mode 0600 whatever the umask says; named so that what a crash leaves is known.
    let mut temporary = tempfile::Builder::new().prefix(".hotspare-").suffix(".tmp").tempfile_in(folder).map_err(told)?;
    temporary.write_all(content).and_then(|()| temporary.as_file().sync_all()).map_err(told)?;
    Ok(temporary)
}

/// Opens a file that only its owner may read, and makes it where it is missing. What is in it stays.
pub(crate) fn private_file(file: &Path) -> io::Result<fs::File> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", file.display()));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).and_then(|()| private_mode(folder, 0o700)).map_err(told)?;
    }
    let opened = fs::File::options().create(true).truncate(false).append(true).open(file).map_err(told)?;
    private_mode(file, 0o600).map_err(told)?;
    Ok(opened)
}

#[cfg(unix)]
fn private_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // On a read-only disk what is private already is as good as made private.
    if fs::metadata(path)?.mode() & 0o777 == mode {
        return Ok(());
    }
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
    fn two_that_make_the_token_at_the_same_moment_have_the_same() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let start = std::sync::Barrier::new(4);
            let make = || {
                start.wait();
                lasting_token(folder.path()).expect("made").expose_secret().to_owned()
            };
            let tokens: Vec<String> = std::thread::scope(|scope| {
                let makers: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
                makers.into_iter().map(|maker| maker.join().expect("it ends")).collect()
            });
            assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
        }
    }

    #[test]
    fn a_registration_is_found_while_it_lives_and_the_dead_are_forgotten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let token = new_token().expect("randomness");
        let address = "127.0.0.1:4117".parse().expect("an address");
        let registration = register(folder.path(), "serve", address, &token).expect("entered");
        assert_eq!(instances(folder.path()).len(), 1);
        let dead = Instance { version: 1, pid: i32::MAX, kind: "run".into(), address, token: String::new(), started: None };
        let file = folder.path().join("instances/dead.json");
        fs::write(&file, serde_json::to_string(&dead).expect("JSON")).expect("written");
        assert_eq!(instances(folder.path()).len(), 1);
        assert!(!file.exists());
        drop(registration);
        assert!(instances(folder.path()).is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn entry_with_another_start_time_is_stale() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = "127.0.0.1:4117".parse().expect("an address");
        let pid = std::process::id().cast_signed();
        let mut entry = Instance { version: 1, pid, kind: "service".into(), address, token: String::new(), started: start_time(pid) };
        assert!(entry.started.is_some());
        let file = folder.path().join("instances/1.json");
        fs::create_dir(folder.path().join("instances")).expect("made");
        fs::write(&file, serde_json::to_string(&entry).expect("JSON")).expect("written");
        assert_eq!(instances(folder.path()).len(), 1);
        entry.started = entry.started.map(|ticks| ticks + 1);
        fs::write(&file, serde_json::to_string(&entry).expect("JSON")).expect("written");
        assert!(instances(folder.path()).is_empty(), "another process has this number now");
        assert!(!file.exists());
    }

    #[test]
    fn place_of_the_client_is_found_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(kept_client(folder.path()), None);
        keep_client(folder.path(), Path::new("/home/me/.asdf/shims/claude")).expect("kept");
        assert_eq!(kept_client(folder.path()), Some(PathBuf::from("/home/me/.asdf/shims/claude")));
        keep_client(folder.path(), Path::new("node_modules/.bin/claude")).expect("kept");
        assert_eq!(kept_client(folder.path()), None, "a place depends on no working directory");
    }
}
