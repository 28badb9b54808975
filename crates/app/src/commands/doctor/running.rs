//! Looks at what runs: whether the port is ours, whether it serves what is configured, and whether anybody has ever proven it. What a
//! screen says and what happens must be the same.

use std::io;
use std::net::{SocketAddr, TcpListener};

use hotspare_config::{Config, Locations};
use hotspare_store::{Filter, Reader};

use super::Running;
use super::check::Check;
use crate::commands::service::{self, Manager};
use crate::{commands, words};

/// Most rows of the ledger that are searched for a drill.
const ROWS: u32 = 5000;

/// The service, its port and what it serves.
pub(super) fn service(config: &Config, running: &[Running], locations: &Locations) -> Vec<Check> {
    let listen = config.server.listen;
    let installed = service::is_installed(locations);
    let Some(serving) = running.iter().find(|one| one.instance.serves_all()) else {
        let runs = running.iter().filter(|one| one.instance.kind == "run").count() as u64;
        let beside = if runs == 0 { String::new() } else { format!("; {} under `run`", words::several(runs, "session", "sessions")) };
        if !taken(listen) {
            let found = format!("none runs on {listen}{beside}");
            return vec![if installed {
                Check::fail("service", found, "it is installed, and clients are pointed there", "hotspare service start")
            } else {
                Check::note("service", found).with_command("hotspare install service")
            }];
        }
        if installed && Manager::find() == Manager::Systemd {
            return vec![Check::ok("service", format!("systemd holds {listen} and starts it with the first request"))];
        }
        let found = format!("another program listens on {listen}");
        let cause = "the service cannot have its port, and clients pointed there speak to that program";
        return vec![Check::fail("service", found, cause, format!("ss -ltnp 'sport = :{}'", listen.port()))];
    };
    let others = running.iter().filter(|one| one.instance.serves_all() && one.instance.pid != serving.instance.pid);
    let others =
        others.map(|one| Check::note("service", format!("another one serves on {}, process {}", one.instance.address, one.instance.pid)));
    let address = serving.instance.address;
    let Some(status) = &serving.status else {
        let found = format!("it listens on {address} and does not answer");
        return vec![Check::fail("service", found, "sessions that go there hang", format!("kill {}", serving.instance.pid))];
    };
    let mut checks = vec![Check::ok("service", format!("{} on {address}, process {}", status.hotspare, status.pid))];
    if status.hotspare != env!("CARGO_PKG_VERSION") {
        let cause = format!("this command is {}", env!("CARGO_PKG_VERSION"));
        checks.push(Check::warn("service", format!("{} runs", status.hotspare), cause, "hotspare service restart"));
    }
    if listen.port() != 0 && listen != address {
        let cause = "`server.listen` names another address than it has";
        checks.push(Check::warn("service", format!("it listens on {address}, configured is {listen}"), cause, "hotspare service restart"));
    }
    let trouble = status.config.as_ref().and_then(|config| config.error.as_ref());
    if trouble.is_some() {
        let cause = "it goes on with the last good one";
        checks.push(Check::fail("service", "it does not use the configuration as it is now", cause, "hotspare config validate"));
    }
    // What is configured and what is done, side by side.
    let names: Vec<&str> = status.profiles.iter().map(|profile| profile.name.as_str()).collect();
    let configured = commands::chain_line(config);
    if trouble.is_none() && (names.join(" → ") != configured || status.enabled != config.policy.enabled) {
        let on = |enabled: bool| if enabled { "on" } else { "off" };
        let found = format!("it serves {} with failover {}", names.join(" → "), on(status.enabled));
        let cause = format!("configured for this folder is {configured} with failover {}", on(config.policy.enabled));
        checks.push(Check::warn("service", found, cause, "hotspare config show --origin"));
    }
    checks.extend(benched(status));
    checks.extend(others);
    checks
}

/// Spares that could not stand in now.
fn benched(status: &hotspare_gateway::Status) -> Option<Check> {
    let spares = status.profiles.get(1..).unwrap_or_default();
    let held: Vec<String> = spares
        .iter()
        .filter(|profile| matches!(profile.state.as_str(), "blocked" | "open" | "cooling" | "offline" | "no_credential"))
        .map(|profile| format!("{} ({})", profile.name, why_not(profile)))
        .collect();
    let cause = if held.len() == spares.len() { "no spare can stand in now" } else { "it cannot stand in now" };
    (!held.is_empty()).then(|| Check::warn("service", format!("spare not usable: {}", held.join(", ")), cause, "hotspare status"))
}

fn why_not(profile: &hotspare_gateway::status::ProfileStatus) -> String {
    match profile.state.as_str() {
        "no_credential" => "key missing".to_owned(),
        state => profile.last_failure.clone().unwrap_or_else(|| state.to_owned()),
    }
}

fn taken(listen: SocketAddr) -> bool {
    listen.port() != 0 && TcpListener::bind(listen).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// When a drill has last gone well, as far as the ledger remembers.
pub(super) fn proven(locations: &Locations) -> Check {
    let filter = Filter { since_ms: 0, failovers: true, after: None, limit: ROWS };
    let rows = Reader::open(&locations.state_dir).ok().flatten().and_then(|ledger| ledger.list(&filter).ok()).unwrap_or_default().rows;
    let last = rows.iter().rev().find(|row| row.record.drill.is_some() && row.record.on_spare);
    match last {
        Some(row) => {
            let fault = row.record.drill.map_or("", |drill| drill.fault.word());
            let to = row.record.served_by.as_deref().unwrap_or("a spare");
            Check::ok("drill", format!("a drill ({fault}) went to {to} at {}", row.local_time))
        }
        None => Check::note("drill", "no drill has proven the way to a spare yet").with_command("hotspare drill 529"),
    }
}
