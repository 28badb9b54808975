//! Tells systemd how it stands with the service that it has started: ready, or that another process is the service now. Where nobody has
//! asked for that, nothing is told; never fails.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixDatagram;

/// Where systemd wants to be told, as `sd_notify(3)` has it.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Requests are answered from now on.
pub(crate) fn ready() {
    tell("READY=1");
}

/// The service is this process from now on, and not the one that tells it.
pub(crate) fn handed_over_to(pid: u32) {
    tell(&format!("MAINPID={pid}"));
}

fn tell(state: &str) {
    if let Some(socket) = std::env::var_os(SOCKET) {
        // A service that cannot say that it is ready serves all the same.
        let _ = send(&socket, state);
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::unix::ffi::OsStrExt::as_bytes(socket).strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        sender.send_to_addr(state.as_bytes(), &address)?;
        return Ok(());
    }
    sender.send_to(state.as_bytes(), socket)?;
    Ok(())
}
