//! Reads `server`: the listener and its limits. Never binds anything.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::codes;
use crate::reader::{Field, Findings};
use crate::units::body_size;

/// How clients are led through hotspare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// As is best known to work: by the base URL today.
    #[default]
    Auto,
    /// By their base URL alone; the port is no proxy.
    Base,
    /// As their HTTPS proxy, with an authority of our own for their provider's host.
    Full,
}

/// Where the requests go of programs that Claude Code starts: commands of its tools, MCP servers, hooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Children {
    /// Where they would go without hotspare.
    #[default]
    Direct,
    /// Through the chain, as those of Claude Code itself.
    Protected,
}

/// The listener and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A loopback address; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Largest request body in bytes.
    pub max_body: u64,
    /// Most client connections at one time.
    pub max_connections: usize,
    /// How clients are led through.
    pub mode: Mode,
    /// Where requests of programs inside a session go.
    pub children: Children,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4117),
            max_body: 32 * 1024 * 1024,
            max_connections: 256,
            mode: Mode::default(),
            children: Children::default(),
        }
    }
}

/// Reads the section; what is missing or faulty keeps its default.
pub(crate) fn read(field: &Field<'_>, findings: &mut Findings) -> Server {
    let mut server = Server::default();
    let Some(mut table) = field.table(findings) else { return server };
    if let Some(listen) = table.take("listen").and_then(|field| listen(&field, findings)) {
        server.listen = listen;
    }
    if let Some(size) = table.take("max_body").and_then(|field| body_size(&field, findings)) {
        server.max_body = size;
    }
    if let Some(count) = table.take("max_connections").and_then(|field| field.number(1, 10_000, findings)) {
        server.max_connections = usize::try_from(count).expect("at most 10,000");
    }
    let modes = [("auto", Mode::Auto), ("base", Mode::Base), ("full", Mode::Full)];
    if let Some(mode) = table.take("mode").and_then(|field| field.word(&modes, &[], findings)) {
        server.mode = mode;
    }
    let children = [("direct", Children::Direct), ("protected", Children::Protected)];
    if let Some(children) = table.take("children").and_then(|field| field.word(&children, &[], findings)) {
        server.children = children;
    }
    table.finish(findings);
    server
}

fn listen(field: &Field<'_>, findings: &mut Findings) -> Option<SocketAddr> {
    let text = field.text(findings)?;
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    match numeric.as_deref().unwrap_or(text).parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Some(address),
        Ok(_) => {
            findings
                .error(codes::BAD_LISTEN, &field.at(), format!("`{}` is open to other machines", field.path), "not a loopback address")
                .help("use `127.0.0.1:PORT` or `[::1]:PORT`: this version serves its own machine only");
            None
        }
        Err(_) => {
            let title = format!("`{}` is not an address with a port: `{}`", field.path, field.at().quote());
            findings
                .error(codes::BAD_LISTEN, &field.at(), title, "not an address")
                .help("write it as `127.0.0.1:4117`; port 0 picks a free one");
            None
        }
    }
}
