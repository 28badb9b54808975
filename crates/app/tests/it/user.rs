//! A user with a home, a temporary folder and a `claude` of their own. Never sees anything of the developer's but PATH.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Received, Script, Upstream};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Longest that a process may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a provider answers to the requests that cost nothing; `None` if it is another request.
pub(crate) fn free_answer(request: &Received) -> Option<Script> {
    let body = match request.path() {
        "/v1/messages/count_tokens" => r#"{"input_tokens":9}"#,
        "/v1/models" => r#"{"data":[{"id":"deepseek-v4-pro","type":"model"},{"id":"deepseek-flash","type":"model"}],"has_more":false}"#,
        "/v1/key" => r#"{"data":{"label":"test","limit_remaining":null}}"#,
        _ => return None,
    };
    Some(Script::new().body(200, &[("content-type", "application/json")], body))
}

/// A provider that is well, and says this.
pub(crate) async fn provider(words: &'static str) -> Upstream {
    let answer = move |request: &Received| free_answer(request).unwrap_or_else(|| Script::new().sse().events(&text(words)).end());
    Upstream::start(answer).await.expect("started")
}

/// Tells how it was started, waits for a line where it is told to, and ends with the code it is told.
const FAKE_CLAUDE: &str = r#"#!/bin/sh
printf '%s\n' "$@" > "$REPORT/argv"
env > "$REPORT/env"
tr '\0' ' ' < "/proc/$PPID/cmdline" > "$REPORT/parent"
for argument in "$@"; do
    if [ "$before" = --settings ]; then
        stat -c %a "$argument" "$(dirname "$argument")" > "$REPORT/modes"
        cp "$argument" "$REPORT/settings.json"
    fi
    before=$argument
done
touch "$REPORT/started"
[ -n "$WAIT" ] && read -r _
exit "${CODE:-0}"
"#;

/// One user.
pub(crate) struct User {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// It failed with this code, said nothing on stdout, and named all of this on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, named: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "errors are no data");
        for words in named {
            assert!(self.stderr.contains(words), "{words:?} is not in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains('\u{1b}'), "no colour into a pipe: {:?}", self.stderr);
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("RUST_BACKTRACE"), "{}", self.stderr);
    }
}

impl User {
    /// A home without any configuration.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["home/.claude", "tmp", "bin", "report", "work"] {
            fs::create_dir_all(folder.path().join(name)).expect("made");
        }
        let claude = folder.path().join("bin/claude");
        fs::write(&claude, FAKE_CLAUDE).expect("written");
        fs::set_permissions(&claude, fs::Permissions::from_mode(0o755)).expect("executable");
        let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let user = Self { folder, variables: BTreeMap::new() };
        let report = user.path("report").display().to_string();
        let (home, tmp) = (user.path("home").display().to_string(), user.path("tmp").display().to_string());
        user.env("PATH", &path).env("HOME", &home).env("TMPDIR", &tmp).env("REPORT", &report).env("LANG", "C.UTF-8")
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// The user's own configuration.
    pub(crate) fn config(self, config: &str) -> Self {
        self.file("home/.config/hotspare/config.json", config)
    }

    /// A primary with the client's login and a spare with a key of its own, both at these addresses.
    pub(crate) fn pair(self, primary: &str, spare: &str) -> Self {
        let config = json!({
            "failover_policy": { "primary_profile": "work", "secondary_profile": "backup" },
            "profiles": { "work": { "base_url": primary }, "backup": { "base_url": spare, "auth": { "env": "BACKUP_KEY" } } },
            "server": { "listen": "127.0.0.1:0" },
        });
        self.config(&config.to_string()).env("BACKUP_KEY", "sk-ant-test-backup")
    }

    /// The same with a key of its own for each.
    pub(crate) fn keyed_pair(self, primary: &str, spare: &str) -> Self {
        let config = json!({
            "failover_policy": { "primary_profile": "work", "secondary_profile": "backup" },
            "profiles": {
                "work": { "base_url": primary, "auth": { "env": "WORK_KEY" } },
                "backup": { "base_url": spare, "auth": { "env": "BACKUP_KEY" } },
            },
            "server": { "listen": "127.0.0.1:0" },
        });
        self.config(&config.to_string()).env("WORK_KEY", "sk-ant-test-work").env("BACKUP_KEY", "sk-ant-test-backup")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
        command.args(arguments).env_clear().envs(&self.variables).current_dir(self.path("work")).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) async fn runs(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).spawn().expect("started")).await
    }

    /// Starts it with an open stdin.
    pub(crate) fn starts(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdin(Stdio::piped()).spawn().expect("started")
    }

    /// Starts a shell with this script.
    pub(crate) fn shell(&self, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env_clear().envs(&self.variables).current_dir(self.path("work")).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    }

    /// Like [`User::shell`], with an open stdin.
    pub(crate) fn shell_with_input(&self, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env_clear().envs(&self.variables).current_dir(self.path("work")).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    }

    /// Starts `serve`: the process, its address, and what it has said until it was ready.
    pub(crate) async fn serves(&self) -> (Child, SocketAddr, String) {
        let mut child = self.starts(&["serve"]);
        let said = wait_for(child.stderr.as_mut().expect("piped"), "client ").await;
        let address = said.split("listening on http://").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
        (child, address.parse().expect("an address"), said)
    }

    /// What opens the local port, once something has been served.
    pub(crate) fn local_token(&self) -> String {
        fs::read_to_string(self.path("home/.local/state/hotspare/token")).expect("made")
    }

    /// What the fake client has told, once it has started.
    pub(crate) fn report(&self, name: &str) -> String {
        fs::read_to_string(self.path("report").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn settings(&self) -> Value {
        serde_json::from_str(&self.report("settings.json")).expect("JSON")
    }

    /// Whether the fake client was started at all.
    pub(crate) fn client_was_started(&self) -> bool {
        self.path("report/started").exists()
    }

    /// Waits until a file is there.
    pub(crate) async fn wait_for(&self, name: &str) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !self.path(name).exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{name} did not come"));
    }

    /// Every file of the home and the temporary folder, with its content.
    pub(crate) fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for name in ["home", "tmp", "work"] {
            collect(&self.path(name), &mut found);
        }
        found
    }
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            collect(&entry, found);
        } else {
            found.insert(entry.clone(), fs::read(&entry).expect("read"));
        }
    }
}

/// Waits for the end of a process.
pub(crate) async fn ended(child: Child) -> Ended {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("it ran");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Sends a process a signal.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().expect("it runs").cast_signed()).expect("a process"), signal).expect("sent");
}

/// Sends a process a signal, and waits for its end.
pub(crate) async fn signalled(child: Child, with: Signal) -> Ended {
    signal(&child, with);
    ended(child).await
}

/// Reads a stream until this text has come, and gives everything so far.
pub(crate) async fn wait_for(stream: &mut (impl AsyncReadExt + Unpin), words: &str) -> String {
    let mut so_far = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&so_far).contains(words) {
            assert!(stream.read_buf(&mut so_far).await.expect("read") > 0, "it ended: {}", String::from_utf8_lossy(&so_far));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{words:?} did not come"));
    String::from_utf8(so_far).expect("UTF-8")
}

/// Asks the proxy one thing as a client would, and gives the whole answer as it came.
pub(crate) async fn asks(proxy: SocketAddr, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy listens");
    let head =
        format!("POST /v1/messages HTTP/1.1\r\nHost: {proxy}\r\n{headers}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.expect("sent");
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("answered");
    answer
}
