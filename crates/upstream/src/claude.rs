//! Finds the user's own Claude Code and runs it for a login: only a program that others cannot replace, of a known version, in a clean
//! environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::auth::claude_dir;

/// Name of the program.
const PROGRAM: &str = "claude";

/// Where installers put it, below the home folder: the native one, the old local one, npm with a prefix of the user's own, Volta, Bun.
const BELOW_HOME: [&str; 5] =
    [".local/bin/claude", ".claude/local/claude", ".npm-global/bin/claude", ".volta/bin/claude", ".bun/bin/claude"];

/// Versions of node that are looked through.
const MAX_NODE_VERSIONS: usize = 32;

/// Where installers put it for all users.
const FOR_ALL: [&str; 3] = ["/opt/homebrew/bin/claude", "/usr/local/bin/claude", "/usr/bin/claude"];

/// Search path of a client whose own process has none: an npm client needs its interpreter.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Oldest version for which `auth status` was measured to renew a login. A version without that command would take it for a prompt.
const OLDEST: Version = [2, 1, 237];

/// Longest that `claude --version` may take; 0.1 s is usual.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of its output that are read.
const MAX_VERSION_OUTPUT: u64 = 200;

/// A run for a login is killed after this. The client's own request ends after 8 s (measured, 2.1.332).
const RUN_TIMEOUT: Duration = Duration::from_secs(30);

/// Variables of this process that the client gets. None of them holds a secret. macOS looks its keychain up by `USER`.
const PASSED: [&str; 7] = ["HOME", "LANG", "LC_ALL", "LOGNAME", "TMPDIR", "TZ", "USER"];

/// The way out: taken from this process, and from the settings of the login's own folder where they have it.
const OUTWARD: [&str; 13] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CLAUDE_CODE_CLIENT_CERT",
    "CLAUDE_CODE_CLIENT_KEY",
];

/// Nothing but the renewal: no telemetry, no update, no title request, no error report.
const QUIET: [(&str, &str); 4] = [
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
];

/// The user of a proxy's address that stands for hotspare itself (full mode).
const OUR_PROXY_USER: &str = "hotspare";

type Version = [u32; 3];

/// The user's own Claude Code: where it may be, and how it gets out of this machine.
#[derive(Debug)]
pub struct ClaudeClient {
    candidates: Vec<PathBuf>,
    outward: BTreeMap<String, OsString>,
    /// A run for a login is killed after this.
    pub(crate) run_timeout: Duration,
    /// The program whose version is known to do, with its file's state.
    checked: Mutex<Option<(PathBuf, (SystemTime, u64))>>,
}

impl Default for ClaudeClient {
    /// On the search path of this process, or where installers put it.
    fn default() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_the_path = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(PROGRAM));
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let below_home = BELOW_HOME.iter().filter_map(|place| Some(home.as_ref()?.join(place)));
        let of_nvm = home.as_ref().map(|home| of_nvm(home)).unwrap_or_default();
        Self::at(on_the_path.chain(below_home).chain(FOR_ALL.iter().map(PathBuf::from)).chain(of_nvm))
    }
}

/// Where npm puts it for each version of node that nvm has installed, in no order of importance.
fn of_nvm(home: &Path) -> Vec<PathBuf> {
    let versions = std::fs::read_dir(home.join(".nvm/versions/node")).into_iter().flatten().flatten();
    versions.take(MAX_NODE_VERSIONS).map(|version| version.path().join("bin").join(PROGRAM)).collect()
}

impl ClaudeClient {
    /// At one of these places, the first at which there is one that may be run.
    pub fn at(candidates: impl IntoIterator<Item = PathBuf>) -> Self {
        let outward = OUTWARD.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?))).collect();
        Self { candidates: candidates.into_iter().collect(), outward, run_timeout: RUN_TIMEOUT, checked: Mutex::default() }
    }

    /// With a place that is looked at first.
    #[must_use]
    pub fn first_at(mut self, program: PathBuf) -> Self {
        self.candidates.insert(0, program);
        self
    }

    /// With a place that is looked at last.
    #[must_use]
    pub fn or_at(mut self, program: PathBuf) -> Self {
        self.candidates.push(program);
        self
    }

    /// With these proxy variables and certificates instead of those of this process.
    #[must_use]
    pub fn through(mut self, outward: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let is_replaced = |name: &str| name.to_ascii_lowercase().ends_with("_proxy") || name == "NODE_EXTRA_CA_CERTS";
        self.outward.retain(|name, _| !is_replaced(name));
        self.outward.extend(outward.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
        self
    }

    /// Where the first program is that may be run. A link stays one: an update of the client leads it elsewhere.
    pub fn place(&self) -> Option<&Path> {
        self.found().ok().map(|found| found.place)
    }

    /// The first program that may be run.
    pub(crate) fn find(&self) -> Result<PathBuf, String> {
        self.found().map(|found| found.program)
    }

    fn found(&self) -> Result<Found<'_>, String> {
        let mut refused = None;
        for path in &self.candidates {
            let Some(file) = std::fs::metadata(path).ok().filter(Metadata::is_file) else { continue };
            match trusted(path, &file) {
                Ok(program) => return Ok(Found { place: path, program, file }),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Err(refused.unwrap_or_else(|| "Claude Code is not found, which renews it".to_owned()))
    }

    /// The program, once its version is known to do. It is asked once per version of the file.
    pub(crate) async fn checked(&self) -> Result<Runnable<'_>, String> {
        let Found { program, file, .. } = self.found()?;
        let state = (file.modified().unwrap_or(SystemTime::UNIX_EPOCH), file.len());
        let mut checked = self.checked.lock().await;
        if checked.as_ref().is_none_or(|known| *known != (program.clone(), state)) {
            let version = version(&program).await?;
            if version < OLDEST {
                let [major, minor, patch] = version;
                let [oldest_major, oldest_minor, oldest_patch] = OLDEST;
                return Err(format!(
                    "Claude Code {major}.{minor}.{patch} is older than {oldest_major}.{oldest_minor}.{oldest_patch}: run `claude update`"
                ));
            }
            *checked = Some((program.clone(), state));
        }
        Ok(Runnable { program, client: self })
    }
}

/// A program that may be run, and its file.
struct Found<'a> {
    place: &'a Path,
    program: PathBuf,
    file: Metadata,
}

/// A program that may be run, of a version that is known to do.
pub(crate) struct Runnable<'a> {
    program: PathBuf,
    client: &'a ClaudeClient,
}

impl Runnable<'_> {
    /// Lets the client look at the login of this folder, which renews it where it has run out. The client's output is not read.
    pub(crate) async fn auth_status(&self, folder: &Path) -> Result<(), String> {
        let mut command = command(&self.program);
        // The folder's settings may lead through hotspare itself, and to programs: what is needed of them is in the environment.
        command.args(["--setting-sources", "", "auth", "status", "--json"]).envs(self.outward_of(folder)).stdout(Stdio::null());
        // Where this is not set the client has other places for its state and its keychain entry: set, it would leave a second copy.
        if !is_default(folder) {
            command.env("CLAUDE_CONFIG_DIR", folder);
        }
        let mut child = Group::start(&mut command)?;
        let status = child.end_within(self.client.run_timeout).await?;
        if status.success() { Ok(()) } else { Err(format!("ended with {status}")) }
    }

    /// The way out of this process, with what the folder sets in its place.
    fn outward_of(&self, folder: &Path) -> BTreeMap<String, OsString> {
        let mut of_folder = claude_dir::variables(folder);
        of_folder.retain(|name, value| OUTWARD.contains(&name.as_str()) && !is_our_proxy(value));
        let mut variables = self.client.outward.clone();
        // Both spellings of a name go: the client prefers the small one, whichever of the two is newer.
        let is_replaced = |name: &str| of_folder.keys().any(|own| own.eq_ignore_ascii_case(name));
        variables.retain(|name, value| !is_our_proxy(&value.to_string_lossy()) && !is_replaced(name));
        variables.extend(of_folder.into_iter().map(|(name, value)| (name, value.into())));
        variables
    }
}

/// Whether this is the address of a hotspare as a proxy.
fn is_our_proxy(url: &str) -> bool {
    url.parse::<http::Uri>().ok().and_then(|uri| {
        let authority = uri.authority()?.as_str();
        Some(authority.split_once('@')?.0.split(':').next()? == OUR_PROXY_USER)
    }) == Some(true)
}

/// Whether the client uses this folder where nothing names another.
pub(crate) fn is_default(folder: &Path) -> bool {
    let default = std::env::home_dir().and_then(|home| home.join(".claude").canonicalize().ok());
    default.is_some_and(|default| folder.canonicalize().is_ok_and(|folder| folder == default))
}

/// The program, resolved, if neither other users nor the folder that hotspare was started in decide what it is.
fn trusted(path: &Path, file: &Metadata) -> Result<PathBuf, String> {
    /// Bits of a mode that let others than the owner write.
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    /// Bits of a mode that let anyone run it.
    const EXECUTABLE: u32 = 0o111;
    let refused = |why: &str| Err(format!("`{}` is not run for it: {why}", path.display()));
    let Ok(real) = path.canonicalize() else { return refused("it cannot be resolved") };
    if file.uid() != 0 && file.uid() != geteuid().as_raw() {
        return refused("it belongs to another user");
    }
    if file.mode() & WRITABLE_BY_OTHERS != 0 {
        return refused("others may write to it, run `chmod go-w` on it");
    }
    if file.mode() & EXECUTABLE == 0 {
        return refused("it is not executable");
    }
    if project().is_some_and(|project| path.starts_with(&project) || real.starts_with(&project)) {
        return refused("it belongs to the folder that hotspare was started in");
    }
    Ok(real)
}

/// The folder that this process was started in. `None` for home and what is above it: programs below those are the user's own.
fn project() -> Option<PathBuf> {
    let working = std::env::current_dir().and_then(|folder| folder.canonicalize()).ok()?;
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    home.is_none_or(|home| !home.starts_with(&working)).then_some(working)
}

/// Apart from the session: a clean environment, no terminal, and a folder without anyone's settings.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
    let project = project();
    // A script's interpreter is looked up here: no project's folder may name it (`npm run` puts `node_modules/.bin` first).
    let is_own = |folder: &PathBuf| {
        let in_project = project.as_ref().is_some_and(|project| folder.starts_with(project));
        folder.is_absolute() && !in_project && folder.components().all(|part| part.as_os_str() != "node_modules")
    };
    let path = std::env::join_paths(std::env::split_paths(&path).filter(is_own)).unwrap_or(USUAL_PATH.into());
    let passed = PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(passed).env("PATH", path).envs(QUIET).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

async fn version(program: &Path) -> Result<Version, String> {
    let unknown = |why: &str| format!("`{} --version` {why}", program.display());
    let mut command = command(program);
    let mut child = Group::start(command.arg("--version").stdout(Stdio::piped()))?;
    let mut output = Vec::new();
    let stdout = child.0.stdout.take().expect("stdout was piped two lines above");
    let read = tokio::time::timeout(VERSION_TIMEOUT, stdout.take(MAX_VERSION_OUTPUT).read_to_end(&mut output)).await;
    // A version that was read is all that is needed of it.
    child.kill();
    read.map_err(|_| unknown("does not answer"))?.map_err(|error| unknown(&error.to_string()))?;
    read_version(&String::from_utf8_lossy(&output)).ok_or_else(|| unknown("names no version"))
}

/// The first three numbers of `2.1.332 (Claude Code)`.
fn read_version(text: &str) -> Option<Version> {
    let mut numbers = text.split_whitespace().next()?.split('.').map(|part| part.parse().ok());
    let version = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(version)
}

/// A program with all that it started. It outlives this process, and this value.
struct Group(Child);

impl Group {
    fn start(command: &mut Command) -> Result<Self, String> {
        command.spawn().map(Self).map_err(|error| format!("cannot be started: {error}"))
    }

    async fn end_within(&mut self, time: Duration) -> Result<ExitStatus, String> {
        if let Ok(ended) = tokio::time::timeout(time, self.0.wait()).await {
            return ended.map_err(|error| error.to_string());
        }
        self.kill();
        Err(format!("did not end within {} s", time.as_secs()))
    }

    fn kill(&self) {
        // `None` once it has ended and was waited for: its number may belong to another process by then.
        if let Some(group) = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // Nothing of it may be left, and that is well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_the_client_output() {
        assert_eq!(read_version("2.1.332 (Claude Code)\n"), Some([2, 1, 332]));
        for other in ["", "claude", "2.1", "2.1.3.4", "v2.1.3", "{ 2.1.332"] {
            assert_eq!(read_version(other), None, "{other}");
        }
        assert!(OLDEST < [2, 1, 332] && OLDEST > [2, 1, 99] && OLDEST < [3, 0, 0]);
    }

    #[test]
    fn proxy_of_hotspare_is_recognised() {
        assert!(is_our_proxy("http://hotspare:hs-1@127.0.0.1:4117"));
        for other in ["http://corp:3128", "http://user:hotspare@corp:3128", "http://hotspare.corp:3128", "/etc/ca.pem", ""] {
            assert!(!is_our_proxy(other), "{other}");
        }
    }
}
