//! Puts the ways to the upstream in place: straight, through hotspare, through nginx. Decides how each is configured; measures nothing.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::body::{Play, Request};
use super::process::Process;
use crate::workspace;

/// Where the bench unpacks nginx when the machine has none.
const NGINX_FOLDER: &str = "target/tools/nginx";

/// The token of a target that needs none; every request is of the same length.
const NO_TOKEN: &str = "hs-0000000000000000000000000000000000000000000000000000000000000000";

/// Where hotspare keeps its state, in its home.
const STATE: &str = "state";

/// Where hotspare finds its profiles' credential.
const KEY_VARIABLE: &str = "BENCH_KEY";

/// The process that plays the provider.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Answers as asked.
    pub(super) good: SocketAddr,
    /// Answers 500.
    pub(super) failing: SocketAddr,
    _process: Process,
}

impl Upstream {
    pub(super) fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let (process, line) = Process::start_and_read(command.arg("bench-upstream")).context("the bench's upstream does not start")?;
        let ports: Vec<u16> = line.split(' ').map(str::parse).collect::<Result<_, _>>().context("odd ports")?;
        let &[good, failing] = ports.as_slice() else { bail!("odd ports: {line}") };
        Ok(Self { good: loopback(good), failing: loopback(failing), _process: process })
    }
}

/// One way to the upstream.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// None when nothing stands between.
    pub(super) process: Option<Process>,
    token: String,
    /// What it was started with: its home, for one.
    folder: Option<TempDir>,
}

impl Target {
    /// A request of this size that the target takes.
    pub(super) fn request(&self, play: Play, size: usize) -> Request {
        Request::new(&self.address.to_string(), &self.token, play, size)
    }

    /// A command of the user for whom this hotspare runs.
    pub(super) fn command(&self, program: &Path) -> anyhow::Result<Command> {
        Ok(at_home(program, self.folder.as_ref().context("nothing runs between")?.path()))
    }

    /// The process; asked for only where there is one.
    pub(super) fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("nothing runs between")
    }
}

/// The ways that the bench compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Hotspare,
    Nginx,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Hotspare => "hotspare",
            Self::Nginx => "nginx",
        }
    }
}

/// The programs to measure.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) hotspare: Option<PathBuf>,
    pub(super) nginx: Option<PathBuf>,
}

impl Programs {
    /// Which ways there are.
    pub(super) fn ways(&self) -> Vec<Way> {
        let mut ways = vec![Way::Direct];
        ways.extend(self.hotspare.as_ref().map(|_| Way::Hotspare));
        ways.extend(self.nginx.as_ref().map(|_| Way::Nginx));
        ways
    }

    /// Starts a fresh process, if the way has one.
    pub(super) fn start(&self, way: Way, upstream: SocketAddr) -> anyhow::Result<Target> {
        match way {
            Way::Direct => Ok(Target { address: upstream, process: None, token: NO_TOKEN.to_owned(), folder: None }),
            Way::Hotspare => self.hotspare(&[upstream]),
            Way::Nginx => start_nginx(self.nginx.as_ref().context("no nginx")?, upstream),
        }
    }

    /// Starts hotspare with one profile per address, at most three, the first one the primary.
    pub(super) fn hotspare(&self, upstreams: &[SocketAddr]) -> anyhow::Result<Target> {
        start_hotspare(self.hotspare.as_ref().context("no hotspare")?, upstreams).context("`hotspare serve` does not start")
    }
}

fn start_hotspare(program: &Path, upstreams: &[SocketAddr]) -> anyhow::Result<Target> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.json");
    fs::write(&config, hotspare_config(upstreams).to_string())?;
    let mut command = at_home(program, folder.path());
    command.args(["serve", "--config"]).arg(&config).args(["--listen", "127.0.0.1:0"]);
    command.env(KEY_VARIABLE, "sk-ant-test-bench");
    let (process, line) = Process::start_and_listen(&mut command, "listening on")?;
    let (_, address) = line.rsplit_once("http://").with_context(|| format!("said `{line}`"))?;
    let token = fs::read_to_string(folder.path().join(STATE).join("hotspare/token")).context("no token file")?;
    Ok(Target { address: address.trim().parse()?, process: Some(process), token: token.trim().to_owned(), folder: Some(folder) })
}

/// A program with a home of its own. Apart, as users have them: the folder of the configuration is watched, that of the ledger is written to.
fn at_home(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("XDG_STATE_HOME", home.join(STATE)).env("XDG_CONFIG_HOME", home.join("config"));
    command
}

fn hotspare_config(upstreams: &[SocketAddr]) -> serde_json::Value {
    let profile = |address: &SocketAddr| json!({"base_url": format!("http://{address}"), "auth": {"env": KEY_VARIABLE}});
    let names = ["a", "b", "c"];
    let mut policy = json!({"enabled": true, "primary_profile": names[0]});
    if upstreams.len() > 1 {
        policy["secondary_profile"] = names[1..upstreams.len()].into();
    }
    let profiles: serde_json::Map<_, _> =
        names.iter().zip(upstreams).map(|(name, address)| ((*name).to_owned(), profile(address))).collect();
    // More than the 500 streams that the bench holds open.
    json!({"failover_policy": policy, "profiles": profiles, "server": {"max_connections": 1024}})
}

fn start_nginx(program: &Path, upstream: SocketAddr) -> anyhow::Result<Target> {
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let config = folder.path().join("nginx.conf");
    fs::write(&config, nginx_config(folder.path(), address, upstream))?;
    let mut command = Command::new(program);
    command.arg("-c").arg(&config).arg("-p").arg(folder.path()).arg("-e").arg(folder.path().join("error.log"));
    let process = Process::start_until(&mut command, || TcpStream::connect(address).is_ok())
        .with_context(|| format!("nginx does not start: {}", fs::read_to_string(folder.path().join("error.log")).unwrap_or_default()))?;
    Ok(Target { address, process: Some(process), token: NO_TOKEN.to_owned(), folder: Some(folder) })
}

/// A plain streaming reverse proxy with one worker, in one process so that what is measured is all of it.
fn nginx_config(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    tcp_nodelay on;
    keepalive_requests 10000000;
    upstream provider {{ server {upstream}; keepalive 64; keepalive_requests 10000000; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_request_buffering off;
        }}
    }}
}}
"
    )
}

/// The nginx of this machine, or Debian's, unpacked beside the build: its service is not installed and nothing runs but what we start.
pub(super) fn find_nginx() -> anyhow::Result<PathBuf> {
    let unpacked = workspace::root().join(NGINX_FOLDER).join("usr/sbin/nginx");
    for program in [PathBuf::from("nginx"), PathBuf::from("/usr/sbin/nginx"), unpacked.clone()] {
        if Command::new(&program).arg("-v").output().is_ok_and(|output| output.status.success()) {
            return Ok(program);
        }
    }
    println!("bench: unpacking Debian's nginx into {NGINX_FOLDER}");
    unpack_nginx().context("no nginx: install it (on Debian: apt-get install nginx-light), or leave it out with `--without nginx`")?;
    Ok(unpacked)
}

fn unpack_nginx() -> anyhow::Result<()> {
    let folder = workspace::root().join(NGINX_FOLDER);
    fs::create_dir_all(&folder)?;
    let download = || Command::new("apt-get").args(["download", "nginx"]).current_dir(&folder).status();
    if !download()?.success() {
        // The package lists may be missing or old; refreshing them needs root.
        ensure!(Command::new("apt-get").args(["update", "--quiet"]).status()?.success(), "the package lists cannot be refreshed");
        ensure!(download()?.success(), "nginx cannot be downloaded");
    }
    let packages = fs::read_dir(&folder)?.filter_map(Result::ok).map(|entry| entry.path());
    let package = packages.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb")).context("no package came")?;
    ensure!(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&folder).status()?.success(), "the package cannot be unpacked");
    Ok(())
}

/// An address that nobody listens on at this moment.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
