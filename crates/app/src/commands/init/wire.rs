//! Points Claude Code at hotspare for good, and finds a free port for that. `install` writes the files.

use std::net::{IpAddr, SocketAddr, TcpListener};

use hotspare_config::{Config, Locations};

use crate::commands::install::{self, Report};
use crate::commands::service::LISTENER_TIME;
use crate::error::CliError;
use crate::wiring::Mode;
use crate::wiring::listener::{Listener, probe};

/// Most ports that are tried after a taken one.
const MAX_PORTS: u16 = 100;

/// The background service, Claude Code's settings and its status line.
pub(super) fn wire(locations: &Locations, mode: Mode) -> Result<Report, CliError> {
    install::usual(locations, mode)
}

/// What [`wire`] would change with this text as the configuration.
pub(super) fn preview(locations: &Locations, text: &str) -> Result<Report, CliError> {
    install::preview(locations, text)
}

/// Another port than the configured one if another program has that: the next free one, so that a dry run shows the port that is written.
pub(super) fn other_port(locations: &Locations, config: &Config) -> Option<SocketAddr> {
    let listen = config.server.listen;
    let taken = probe(&locations.state_dir, listen, LISTENER_TIME).is_ok_and(|listener| listener == Listener::Stranger);
    if taken { next_free(listen.ip(), listen.port()) } else { None }
}

/// Free a moment ago is as good as it gets; `install` proves the listener before it points the client there.
fn next_free(ip: IpAddr, taken: u16) -> Option<SocketAddr> {
    let after = (1..=MAX_PORTS).map(|distance| taken.checked_add(distance).unwrap_or(1024 + distance));
    after.map(|port| SocketAddr::new(ip, port)).find(|address| TcpListener::bind(address).is_ok())
}
