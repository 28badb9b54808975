//! Finds out who listens at our address. Never shows the token to a stranger: the listener has to prove that it knows it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use hotspare_gateway::challenge::{CHALLENGE, PROOF, proof};
use secrecy::ExposeSecret;

use crate::state;

/// Most bytes of an answer's head.
const HEAD_CAP: u64 = 8 * 1024;

/// Longest that a process which was killed may take to let go of its port.
const ENDING_TIME: Duration = Duration::from_millis(100);

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// A hotspare of this user.
    Ours,
    /// Somebody else.
    Stranger,
    /// Nobody.
    Nobody,
}

/// Whether anything accepts connections at an address of this machine.
pub(crate) fn is_open(address: SocketAddr, patience: Duration) -> bool {
    address.ip().is_loopback() && TcpStream::connect_timeout(&address, patience).is_ok()
}

/// Asks whoever listens at this address for a proof, for so long at most.
pub(crate) fn probe(state_dir: &Path, address: SocketAddr, patience: Duration) -> io::Result<Listener> {
    if !address.ip().is_loopback() {
        // Whoever is on another machine is nobody of ours, and is not asked.
        return Ok(Listener::Stranger);
    }
    let begun = Instant::now();
    let deadline = begun + patience;
    loop {
        let Ok(stream) = TcpStream::connect_timeout(&address, patience) else { return Ok(Listener::Nobody) };
        // Only now: a token is made for somebody, or not at all.
        let (token, challenge) = (state::lasting_token(state_dir)?, state::chance()?);
        let head = ask(stream, address, &challenge, deadline).unwrap_or_default();
        if proves(&head, &proof(token.expose_secret(), address, &challenge)) {
            return Ok(Listener::Ours);
        }
        // Whoever hangs up without a word may be a process of ours that is just ending: its port is free in a moment.
        if !head.is_empty() || begun.elapsed() > ENDING_TIME.min(patience) {
            return Ok(Listener::Stranger);
        }
        std::thread::yield_now();
    }
}

/// Whether the process at this loopback address knows the token. The token itself is not sent.
pub(crate) fn knows_token(address: SocketAddr, token: &str, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let Ok(stream) = TcpStream::connect_timeout(&address, patience) else { return false };
    let Ok(challenge) = state::chance() else { return false };
    ask(stream, address, &challenge, deadline).is_ok_and(|head| proves(&head, &proof(token, address, &challenge)))
}

/// Whether an answer's head holds the proof.
fn proves(head: &str, wanted: &str) -> bool {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.any(|(name, value)| name.trim().eq_ignore_ascii_case(PROOF) && value.trim() == wanted)
}

fn ask(mut stream: TcpStream, address: SocketAddr, challenge: &str, deadline: Instant) -> io::Result<String> {
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_write_timeout(Some(left()))?;
    let request = format!("HEAD /api/hello HTTP/1.1\r\nHost: {address}\r\n{CHALLENGE}: {challenge}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.set_read_timeout(Some(left()))?;
    let mut head = Vec::new();
    // A stranger that says nothing, or too much, is one all the same.
    let _ = stream.take(HEAD_CAP).read_to_end(&mut head);
    Ok(String::from_utf8_lossy(&head).into_owned())
}
