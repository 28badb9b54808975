//! The proxy as a process: starts it, reads what the kernel and its own ledger know of it, and ends it. Never touches a process that it did
//! not start.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hotspare_core::record::AttemptEntry;
use hotspare_core::{Endpoint, Stage};
use hotspare_store::{Filter, Reader};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::providers::Providers;
use crate::world::{Door, credential};

/// How far behind the answers the ledger may be.
const LEDGER_LAG: Duration = Duration::from_secs(5);

/// Exchanges that are read from the ledger at once.
const PAGE: u32 = 1000;

/// One running `hotspare serve`; ended when dropped.
pub(super) struct Proxy {
    child: Child,
    address: SocketAddr,
    token: String,
    folder: TempDir,
    provider_ports: Vec<u16>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kernel knows of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sockets {
    /// Toward clients.
    pub clients: usize,
    /// Toward providers.
    pub providers: usize,
    pub threads: i64,
}

impl Proxy {
    pub(super) fn start(hotspare: &Path, providers: &Providers) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.json");
        fs::write(&config, configuration(providers).to_string())?;
        let mut command = Command::new(hotspare);
        command.args(["serve", "--config"]).arg(&config).args(["--listen", "127.0.0.1:0"]).env_clear();
        for variable in ["HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, folder.path());
        }
        let log = fs::File::create(folder.path().join("log"))?;
        let mut child = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::piped()).spawn().context("hotspare does not start")?;
        let mut said = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let address = said
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on http://").map(|(_, address)| address.trim().to_owned()))
            .context("hotspare does not listen")?;
        // The rest is read, so that it never waits for a reader.
        std::thread::spawn(move || said.map_while(Result::ok).for_each(drop));
        let token = fs::read_to_string(folder.path().join("hotspare/token")).context("no token file")?;
        let address = address.parse()?;
        Ok(Self { child, address, token: token.trim().to_owned(), folder, provider_ports: providers.ports() })
    }

    pub(super) fn door(&self) -> Door {
        Door::to_process(self.address, self.token.clone())
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        Ok(1024.0 * self.status("VmRSS:")?)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a number of threads")]
    fn threads(&self) -> anyhow::Result<i64> {
        Ok(self.status("Threads:")? as i64)
    }

    fn status(&self, field: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let value = status.lines().find_map(|line| line.strip_prefix(field)).context("the kernel does not say")?;
        Ok(value.trim().trim_end_matches(" kB").parse()?)
    }

    /// The open sockets by who is at their other end.
    pub(super) fn sockets(&self) -> anyhow::Result<Sockets> {
        let mut own = Vec::new();
        for entry in fs::read_dir(self.proc("fd"))?.flatten() {
            if let Ok(target) = fs::read_link(entry.path())
                && let Some(inode) = target.to_string_lossy().strip_prefix("socket:[").and_then(|text| text.strip_suffix(']'))
            {
                own.push(inode.to_owned());
            }
        }
        let mut sockets = Sockets { clients: 0, providers: 0, threads: self.threads()? };
        let table = fs::read_to_string(self.proc("net/tcp"))?;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(remote), Some(inode)) = (fields.get(1), fields.get(2), fields.get(9)) else { continue };
            if !own.iter().any(|mine| mine == inode) {
                continue;
            }
            if self.provider_ports.contains(&port(remote)) {
                sockets.providers += 1;
            } else if port(local) == self.address.port() && port(remote) != 0 {
                sockets.clients += 1;
            }
        }
        Ok(sockets)
    }

    /// Exchanges under way, as the proxy itself says.
    pub(super) async fn in_flight(&self) -> anyhow::Result<u64> {
        let io = self.door().connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get("/hotspare/status").header("host", self.address.to_string()).header("x-hotspare-token", &self.token);
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        serde_json::from_slice::<Value>(&body)?["in_flight"].as_u64().context("the status does not say what is in flight")
    }

    /// What the ledger knows, against what the providers had. It is written a little behind the answers.
    pub(super) async fn ledger(&self, providers: &Providers) -> anyhow::Result<Ledger> {
        let begun = Instant::now();
        loop {
            let ledger = Ledger { upstream: providers.requests(), kept: self.kept()? };
            if ledger.check().is_ok() || begun.elapsed() > LEDGER_LAG {
                return Ok(ledger);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Attempts in the ledger that reached a provider; none without a ledger.
    fn kept(&self) -> anyhow::Result<Option<u64>> {
        let Some(reader) = Reader::open(&self.folder.path().join("hotspare"))? else { return Ok(None) };
        let (mut after, mut count) = (Some(-1), 0);
        loop {
            let listing = reader.list(&Filter { since_ms: 0, failovers: false, after, limit: PAGE })?;
            let attempts = listing.rows.iter().filter(|row| row.record.endpoint == Endpoint::Messages).flat_map(|row| &row.record.attempts);
            count += attempts.filter(|attempt| reached(attempt)).count() as u64;
            match listing.last_seq {
                Some(last) => after = Some(last),
                None => return Ok(Some(count)),
            }
        }
    }
}

/// Whether a provider had the request: not when there was no connection. A kept one that dies is counted: these providers close none before
/// they have read what was sent on it.
fn reached(attempt: &AttemptEntry) -> bool {
    attempt.stage != Some(Stage::Connect)
}

/// The port of an address as the kernel's table has it.
fn port(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok()).unwrap_or_default()
}

fn configuration(providers: &Providers) -> Value {
    let urls = providers.urls();
    let names: Vec<&str> = urls.iter().map(|(name, _)| *name).collect();
    let profiles: serde_json::Map<String, Value> =
        urls.iter().map(|(name, url)| ((*name).to_owned(), json!({"base_url": url, "auth": {"value": credential(name)}}))).collect();
    let mut policy = json!({"chains": [{"profiles": names}]});
    policy["clocks"] = crate::sockets::short_clocks()["clocks"].clone();
    json!({"failover_policy": policy, "profiles": profiles})
}

/// Attempts as the ledger counts them, and as the providers do.
pub(super) struct Ledger {
    upstream: u64,
    /// None: this build keeps no ledger yet.
    kept: Option<u64>,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kept {
            Some(kept) => write!(f, "ledger {kept} of the providers' {}", self.upstream),
            None => f.write_str("no ledger in this build"),
        }
    }
}

impl Ledger {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.kept.is_none_or(|kept| kept == self.upstream), "the ledger and the providers count differently");
        Ok(())
    }
}
