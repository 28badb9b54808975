//! Runs a hook's program with what happened on its standard input. Never through a shell, never with data in its arguments or environment,
//! and never leaves anything of it behind: its whole process group ends with it.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use super::{Called, Ending, OUTPUT_CAP};

/// Variables of ours that every hook gets. None of them holds a secret.
const VARIABLES: [&str; 8] = ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"];

/// When the program has ended, what it printed is here within so long; something that has left its group may hold the pipe open.
const PIPES_CLOSE: Duration = Duration::from_millis(200);

/// Bits of a file's mode that let others than its owner write to it.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Bits of a file's mode that let anybody run it.
const EXECUTABLE: u32 = 0o111;

/// Runs it to its end. Whoever calls limits the time: dropping the future ends the whole group.
pub(super) async fn run(argv: &[String], env: &[String], input: &[u8]) -> Called {
    let failed = |why: String| Called::ended(Ending::Failed(why));
    let Some((program, arguments)) = argv.split_first() else { return failed("is empty".to_owned()) };
    let program = match found(program) {
        Ok(program) => program,
        Err(why) => return failed(why),
    };
    let mut command = Command::new(&program);
    command.args(arguments).env_clear().envs(environment(env)).current_dir(folder()).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => until_the_end(child, input).await,
        Err(error) => failed(format!("cannot be started: {error}")),
    }
}

/// The program, where nobody else can put another in its place (security.md T19).
pub(super) fn found(program: &str) -> Result<PathBuf, String> {
    let path = Path::new(program);
    let candidates = if path.is_absolute() { vec![path.to_owned()] } else { on_the_path(program) };
    let Some((path, file)) = candidates.into_iter().find_map(|path| std::fs::metadata(&path).ok().map(|file| (path, file))) else {
        return Err(format!("cannot be started: there is no `{program}`"));
    };
    if !file.is_file() {
        return Err(format!("cannot be started: `{}` is no file", path.display()));
    }
    let owner = file.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(format!("is not run: `{}` belongs to another user", path.display()));
    }
    if file.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!("is not run: others may write to `{}`; run `chmod go-w` on it", path.display()));
    }
    if file.mode() & EXECUTABLE == 0 {
        return Err(format!("cannot be started: `{}` is no program; run `chmod +x` on it", path.display()));
    }
    Ok(path)
}

/// Where a bare name may be found. A folder that depends on where one stands is left out.
fn on_the_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).collect()
}

fn environment(names: &[String]) -> Vec<(String, OsString)> {
    let all = VARIABLES.into_iter().chain(names.iter().map(String::as_str));
    all.filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?))).collect()
}

/// Home: the folder that hotspare was started in may hold somebody else's files.
fn folder() -> PathBuf {
    std::env::home_dir().filter(|home| home.is_absolute() && home.is_dir()).unwrap_or_else(|| PathBuf::from("/"))
}

/// The program and all that it started, as long as that has not left its group. Ends with this value.
struct Group(Option<Pid>);

impl Group {
    fn end(&mut self) {
        if let Some(group) = self.0.take() {
            // Nobody may be left in it, and that is all right.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// It printed too much.
struct Flood;

async fn until_the_end(mut child: Child, input: &[u8]) -> Called {
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (status, talked) = {
        let mut talk = pin!(async { tokio::try_join!(feed(stdin, input), read(stdout, &mut output), read(stderr, &mut errors)) });
        let mut talked = None;
        let status = loop {
            // Cancel-safe: `wait` may be called again, and the talk goes on where it was.
            tokio::select! {
                status = child.wait() => break status,
                done = &mut talk, if talked.is_none() => {
                    if done.is_err() {
                        return Called::ended(Ending::Flooded);
                    }
                    talked = Some(done);
                }
            }
        };
        // Whoever is left of it holds the pipes open, and would outlive it.
        group.end();
        let talked = match talked {
            Some(talked) => talked,
            None => tokio::time::timeout(PIPES_CLOSE, talk).await.unwrap_or(Ok(((), (), ()))),
        };
        (status, talked)
    };
    match talked {
        Ok(_) => Called { output, errors, ..Called::ended(ending(status)) },
        Err(Flood) => Called::ended(Ending::Flooded),
    }
}

fn ending(status: io::Result<ExitStatus>) -> Ending {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exited(code),
            (None, Some(signal)) => Ending::Signalled(signal),
            (None, None) => Ending::Failed(format!("ended with {status}")),
        },
        Err(error) => Ending::Failed(format!("was lost: {error}")),
    }
}

/// A hook need not read what it is told.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) -> Result<(), Flood> {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
    Ok(())
}

/// Cancel-safe: what has come is in `text`.
async fn read(from: Option<impl AsyncRead + Unpin>, text: &mut Vec<u8>) -> Result<(), Flood> {
    let Some(mut from) = from else { return Ok(()) };
    // What came before a fault of the pipe counts.
    while matches!(from.read_buf(text).await, Ok(count) if count > 0) {
        if text.len() > OUTPUT_CAP {
            return Err(Flood);
        }
    }
    Ok(())
}
