//! The service under a real systemd of its own: the units are what systemd takes, the first request starts the service, and neither a crash
//! nor an upgrade loses a connection or cuts a stream. Never touches the developer's own systemd; where none can be started, it says why.

use std::cell::Cell;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hotspare_testkit::answers::text;
use hotspare_testkit::{Gate, Script, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::Played;
use super::canary::Secret;
use super::faults::{self, SECOND};
use super::first_run::NewUser;
use super::world::{Login, Tools, World};

pub(super) const NAME: &str = "the service, kept by a real systemd";

/// Where distributions have the manager itself.
const PROGRAMS: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];

/// Longest that systemd may take to begin.
const START: Duration = Duration::from_secs(15);

/// Longest that one request may take; a good one takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests that come at once.
const BURST: usize = 20;

/// Longest that a request may wait while the port is handed over, on a busy machine.
const HANDOVER: Duration = Duration::from_secs(2);

/// In a view of the file system of its own: what says that systemd runs this machine, a tree of control groups, and systemd for one user.
/// The group goes with it.
const SCRIPT: &str = r#"
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group="/sys/fs/cgroup/hotspare-e2e-$$"
mkdir "$group"
sh -c 'echo $$ > "$1/cgroup.procs"; exec "$2" --user' sh "$group" "$1" || true
find "$group" -depth -type d -exec rmdir {} +
"#;

/// A systemd for one user who exists only here.
struct Manager {
    child: Child,
    environment: Vec<(&'static str, OsString)>,
}

impl Manager {
    /// None with the reason where this machine has no systemd that could be started.
    async fn start(user: &NewUser<'_>, runtime: &Path) -> Result<Result<Self, String>> {
        let Some(program) = PROGRAMS.into_iter().find(|program| Path::new(program).exists()) else {
            return Ok(Err("systemd is not installed".to_owned()));
        };
        if !rustix::process::geteuid().is_root() {
            return Ok(Err("only root can start a systemd of its own".to_owned()));
        }
        std::fs::create_dir_all(runtime)?;
        let spawned = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-e", "-c", SCRIPT, "sh", program])
            .env_clear()
            .envs(user.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(child) = spawned else { return Ok(Err("there is no `unshare`".to_owned())) };
        let mut manager = Self { child, environment: user.environment.clone() };
        let until = Instant::now() + START;
        while manager.orders(&["show", "--property=Version"]).await.is_err() {
            if let Some(status) = manager.child.try_wait()? {
                let mut said = String::new();
                manager.child.stderr.take().context("stderr is piped")?.read_to_string(&mut said).await?;
                return Ok(Err(format!("no systemd of its own here ({status}): {}", said.trim().replace('\n', "; "))));
            }
            if Instant::now() > until {
                manager.end().await?;
                return Ok(Err(format!("a systemd of its own does not answer within {START:?} here")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Ok(manager))
    }

    async fn orders(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(arguments).env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null());
        let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await.context("systemctl did not end")??;
        ensure!(output.status.success(), "systemctl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    async fn end(mut self) -> Result<()> {
        let _ = self.orders(&["exit"]).await;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("systemd did not end")??;
        Ok(())
    }
}

/// Runs the case, or says why it cannot be run here.
pub(super) async fn run(tools: &Tools) -> Result<Played> {
    let hotspare = &tools.hotspare;
    let gate = Gate::new();
    let held = gate.clone();
    let events = text("a long answer");
    let half = events.len() / 2;
    let primary = Upstream::start_reading(move |request| {
        if request.json().to_string().contains("slowly") {
            Script::new().sse().events(&events[..half]).gate(&held).events(&events[half..]).end()
        } else {
            faults::healthy(SECOND)
        }
    })
    .await?;
    let world = World::new(tools, &primary.url(), &primary.url(), Login::Key).await?;
    let address = hotspare_testkit::refused_addr()?;
    let runtime = world.path("run");
    let mut environment = world.environment();
    environment.push(("HOTSPARE_CONFIG", world.config.clone().into()));
    environment.push(("HOTSPARE_SERVER__LISTEN", address.to_string().into()));
    environment.push(("XDG_RUNTIME_DIR", runtime.clone().into()));
    // The answer that is held here shall not look like a stall.
    for clock in ["HOTSPARE_FAILOVER_POLICY__CLOCKS__BYTES_IDLE", "HOTSPARE_FAILOVER_POLICY__CLOCKS__CONTENT_IDLE"] {
        environment.push((clock, "120s".into()));
    }
    let user = NewUser { world: &world, environment };
    let manager = match Manager::start(&user, &runtime).await? {
        Ok(manager) => manager,
        Err(reason) => return Ok(Played::Skipped(reason)),
    };
    let outcome = lives(hotspare, &user, &manager, address, &gate).await;
    // Whatever happened: nothing of it stays behind.
    let left = user.runs(hotspare, &["uninstall"]).await;
    let units = manager.orders(&["list-unit-files", "--no-legend", "hotspare*"]).await;
    manager.end().await?;
    outcome?;
    left?;
    // Older ones count none as a failure.
    let units = units.unwrap_or_default();
    ensure!(units.is_empty(), "systemd still knows {units}");
    user.runs(hotspare, &["uninstall", "--all", "--check"]).await?;
    Ok(Played::Passed)
}

/// Installed, asked, killed, upgraded, stopped.
async fn lives(hotspare: &Path, user: &NewUser<'_>, manager: &Manager, address: SocketAddr, gate: &Gate) -> Result<()> {
    user.runs(hotspare, &["install", "service"]).await?;
    let units = user.world.path("home/.config/systemd/user");
    let files: Vec<PathBuf> = ["hotspare.socket", "hotspare.service"].map(|name| units.join(name)).to_vec();
    verify(user, &files).await?;
    let port = Port { address, token: std::fs::read_to_string(user.world.path("state/hotspare/token")).context("the local token")? };
    manager.orders(&["stop", "hotspare.service"]).await?;
    let woken = port.burst().await.context("the first requests, which wake the service")?;
    let pid = manager.orders(&["show", "--property=MainPID", "--value", "hotspare.service"]).await?;
    ensure!(Command::new("kill").args(["-9", &pid]).status().await?.success(), "process {pid} could not be killed");
    let back = port.burst().await.context("after a crash")?;
    let asked = upgraded(hotspare, user, manager, &port, gate).await?;
    println!("        woken in {} ms, back after SIGKILL in {} ms, {asked}", woken.as_millis(), back.as_millis());
    let status = user.runs(hotspare, &["service", "status", "--json"]).await?;
    ensure!(status.contains("\"running\":true") && status.contains("systemd"), "{status}");
    user.runs(hotspare, &["service", "stop"]).await?;
    ensure!(TcpStream::connect(address).await.is_err(), "the port is open after `service stop`");
    user.runs(hotspare, &["service", "start"]).await?;
    port.ask("").await?;
    Ok(())
}

/// systemd's own check of unit files, where its package brings it.
async fn verify(user: &NewUser<'_>, files: &[PathBuf]) -> Result<()> {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--user"]).args(files).env_clear().envs(user.environment.iter().cloned()).stdin(Stdio::null());
    let Ok(output) = command.output().await else {
        println!("        there is no `systemd-analyze`: the units are not verified");
        return Ok(());
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim().is_empty(), "systemd-analyze verify: {said}");
    Ok(())
}

/// The next process takes over while one answer flows and others ask: it ends whole, and nobody waits for it.
async fn upgraded(hotspare: &Path, user: &NewUser<'_>, manager: &Manager, port: &Port, gate: &Gate) -> Result<String> {
    let mut stream = port.send("slowly").await?;
    let mut begun = vec![0; 16];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut begun)).await.context("the stream did not begin")??;
    let is_over = Cell::new(false);
    let restarting = async {
        let restarted = user.runs(hotspare, &["service", "restart"]).await;
        is_over.set(true);
        restarted
    };
    let asking = async {
        let (mut asked, mut longest) = (0_usize, Duration::ZERO);
        while !is_over.get() {
            longest = longest.max(port.ask("").await?);
            asked += 1;
        }
        anyhow::Ok((asked, longest))
    };
    let before = manager.orders(&["show", "--property=MainPID", "--value", "hotspare.service"]).await?;
    let (restarted, asked) = tokio::join!(restarting, asking);
    restarted?;
    let (asked, longest): (usize, Duration) = asked.context("while the port was handed over")?;
    let after = manager.orders(&["show", "--property=MainPID", "--value", "hotspare.service"]).await?;
    ensure!(after != before && after != "0", "systemd takes process {after} for the service; before it was {before}");
    gate.open();
    let mut rest = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut rest)).await.context("the stream did not end")??;
    ensure!(rest.contains("message_stop") && rest.ends_with("0\r\n\r\n"), "the stream was cut: {rest}");
    ensure!(longest < HANDOVER, "a request waited {longest:?} while the port was handed over");
    Ok(format!("{asked} requests over a handover, the longest {} ms", longest.as_millis()))
}

/// Our port, and what opens it.
#[derive(Clone)]
struct Port {
    address: SocketAddr,
    token: String,
}

impl Port {
    async fn send(&self, prompt: &str) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.context("refused")?;
        let body = format!(r#"{{"model":"claude-opus-5-5","stream":true,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nHost: {}\r\nx-hotspare-token: {}\r\nx-api-key: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.token.trim(),
            Secret::Client.text(),
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(stream)
    }

    /// How long a whole answer took.
    async fn ask(&self, prompt: &str) -> Result<Duration> {
        let begun = Instant::now();
        let mut answer = String::new();
        let mut stream = self.send(prompt).await?;
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.context("no answer")??;
        if !answer.starts_with("HTTP/1.1 200") || !answer.contains("message_stop") {
            bail!("the answer is not whole: {answer}");
        }
        Ok(begun.elapsed())
    }

    /// Many at once; how long the last of them waited.
    async fn burst(&self) -> Result<Duration> {
        let begun = Instant::now();
        let mut asked = JoinSet::new();
        for _ in 0..BURST {
            let port = self.clone();
            asked.spawn(async move { port.ask("").await });
        }
        while let Some(answer) = asked.join_next().await {
            answer??;
        }
        Ok(begun.elapsed())
    }
}
