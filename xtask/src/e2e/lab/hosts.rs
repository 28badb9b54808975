//! The hosts that the client knows, all on this machine: one TLS end leads the provider's host to the scripted provider, every other one to
//! a server that answers 404 and keeps a record.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::super::authority::Authority;

/// The provider's host.
pub(super) const PROVIDER: &str = "api.anthropic.com";

/// Hosts that Claude Code 2.1.332 connects to or names, besides the provider's.
const OTHERS: [&str; 19] = [
    "platform.claude.com",
    "console.anthropic.com",
    "claude.ai",
    "www.claude.ai",
    "claude.com",
    "code.claude.com",
    "downloads.claude.ai",
    "statsig.anthropic.com",
    "mcp-proxy.anthropic.com",
    "www.anthropic.com",
    "anthropic.com",
    "docs.anthropic.com",
    "status.claude.com",
    "storage.googleapis.com",
    "github.com",
    "api.github.com",
    "raw.githubusercontent.com",
    "http-intake.logs.us5.datadoghq.com",
    "browser-intake-us5-datadoghq.com",
];

const ADDRESS: &str = "127.0.0.1:443";

/// Times that the runtime gets to drop tasks before the port counts as taken.
const MAX_YIELDS: usize = 100;

/// The contents of `/etc/hosts`.
pub(super) fn file() -> String {
    format!("127.0.0.1 localhost\n127.0.0.1 {PROVIDER} {}\n", OTHERS.join(" "))
}

/// The TLS end on port 443, until dropped.
pub(super) struct TlsEnd(AbortHandle);

impl Drop for TlsEnd {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl TlsEnd {
    /// Leads the provider's host to `provider`, and the other hosts to `others`.
    pub(super) async fn start(authority: &Authority, provider: SocketAddr, others: SocketAddr) -> Result<Self> {
        let names: Vec<&str> = OTHERS.into_iter().chain([PROVIDER]).collect();
        let acceptor = authority.acceptor(&names)?;
        let listener = bind().await.context("127.0.0.1:443")?;
        let task = tokio::spawn(async move {
            // Dropping the set with this task ends every connection.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // A client that rejects the certificate sends no request.
                    let Ok(mut tls) = acceptor.accept(stream).await else { return };
                    let behind = if tls.get_ref().1.server_name() == Some(PROVIDER) { provider } else { others };
                    let Ok(mut plain) = TcpStream::connect(behind).await else { return };
                    let _ = copy_bidirectional(&mut tls, &mut plain).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self(task.abort_handle()))
    }
}

/// The earlier case's end lets go of the port when the runtime drops its aborted task.
async fn bind() -> io::Result<TcpListener> {
    for _ in 0..MAX_YIELDS {
        match TcpListener::bind(ADDRESS).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
    TcpListener::bind(ADDRESS).await
}
