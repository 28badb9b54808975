//! Points Claude Code at hotspare for good, and finds a port for that which nobody else has. Never writes a file itself: `install` does.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use hotspare_config::{Config, Locations};

use crate::commands::install::{self, Report};
use crate::commands::service::LISTENER_TIME;
use crate::error::CliError;
use crate::wiring::Mode;
use crate::wiring::listener::{Listener, probe};

/// The background service, Claude Code's settings and its status line.
pub(super) fn wire(locations: &Locations, mode: Mode) -> Result<Report, CliError> {
    install::usual(locations, mode)
}

/// Another port than the configured one where that is somebody else's; none: it is free, or ours.
pub(super) fn other_port(locations: &Locations, config: &Config) -> Option<SocketAddr> {
    let taken = probe(&locations.state_dir, config.server.listen, LISTENER_TIME).is_ok_and(|listener| listener == Listener::Stranger);
    // Free a moment ago is as good as it gets; `install` proves the listener before it points anybody there.
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).ok();
    if taken { free() } else { None }
}
