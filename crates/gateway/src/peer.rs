//! Finds out whether a connection comes from Claude Code itself or from a program that it has started: a command of its tools, an MCP
//! server, a hook. Those inherit what leads the client here, and are not meant.
//!
//! Linux alone: `/proc/net/tcp` gives the socket's inode, `/proc/PID/fd` its process. Claude Code starts each program with `CLAUDECODE=1`
//! (measured, 2.1.332: commands of the Bash tool, hooks and MCP servers alike). Where a process cannot be found, it counts as the client.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OnceCell;

/// The other end of a client's connection. What is found is kept for the connection's life.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    address: Option<SocketAddr>,
    is_inside: Arc<OnceCell<bool>>,
}

impl Peer {
    /// The process at this address of this machine.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address: Some(address), is_inside: Arc::default() }
    }

    /// A process that nothing is known of.
    pub(crate) fn unknown() -> Self {
        Self { address: None, is_inside: Arc::default() }
    }

    /// True if the process is one that Claude Code has started, and not Claude Code. `local` is our end of the connection.
    pub(crate) async fn is_inside_session(&self, local: SocketAddr) -> bool {
        let Some(address) = self.address.filter(|address| address.ip().is_loopback() && local.ip().is_loopback()) else { return false };
        let look = || async move { tokio::task::spawn_blocking(move || find::is_inside(address, local)).await.unwrap_or_default() };
        *self.is_inside.get_or_init(look).await
    }
}

#[cfg(not(target_os = "linux"))]
mod find {
    use std::net::SocketAddr;

    pub(super) fn is_inside(_: SocketAddr, _: SocketAddr) -> bool {
        false
    }
}

#[cfg(target_os = "linux")]
mod find {
    use std::fs::{self, File};
    use std::io::Read as _;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};

    /// Most bytes of one file of `/proc` that are read: some 25,000 sockets, or the largest environment that Linux allows by default.
    const MAX_FILE: u64 = 4 * 1024 * 1024;

    /// Most processes that are looked at.
    const MAX_PROCESSES: usize = 16 * 1024;

    /// Most open files of one process that are looked at.
    const MAX_OPEN_FILES: usize = 4096;

    /// What Claude Code puts into the environment of each program that it starts.
    const MARK: &[u8] = b"CLAUDECODE=1";

    pub(super) fn is_inside(peer: SocketAddr, local: SocketAddr) -> bool {
        let Some(inode) = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|file| inode(&read(Path::new(file))?, peer, local)) else {
            return false;
        };
        let holders = holders(inode);
        // A program may have inherited a socket of the client's.
        holders.iter().any(|process| is_marked(process)) && !holders.iter().any(|process| is_client(process))
    }

    fn read(file: &Path) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(file).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The inode of the socket that is bound to `peer` and connected to `local`, in a table of the kernel.
    pub(super) fn inode(table: &[u8], peer: SocketAddr, local: SocketAddr) -> Option<u64> {
        let text = std::str::from_utf8(table).ok()?;
        text.lines().skip(1).find_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let is_ours = address(fields.next()?)? == canonical(peer) && address(fields.next()?)? == canonical(local);
            // Behind both addresses: state, queues, timer, retransmissions, user, timeout.
            if is_ours { fields.nth(6)?.parse().ok() } else { None }
        })
    }

    fn canonical(address: SocketAddr) -> (IpAddr, u16) {
        (address.ip().to_canonical(), address.port())
    }

    /// `0100007F:1F90`: each group of four bytes in the machine's own order.
    fn address(text: &str) -> Option<(IpAddr, u16)> {
        let (ip, port) = text.split_once(':')?;
        let words: Option<Vec<u8>> = (0..ip.len() / 8)
            .map(|word| u32::from_str_radix(ip.get(word * 8..word * 8 + 8)?, 16).ok())
            .collect::<Option<Vec<u32>>>()
            .map(|words| words.into_iter().flat_map(u32::to_ne_bytes).collect());
        let bytes = words?;
        let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(bytes) => IpAddr::V4(Ipv4Addr::from(bytes)),
            Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
        };
        Some((ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
    }

    /// The processes of this user that hold a socket.
    fn holders(inode: u64) -> Vec<PathBuf> {
        let wanted = PathBuf::from(format!("socket:[{inode}]"));
        let Ok(own) = fs::metadata("/proc/self") else { return Vec::new() };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let processes = entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
        let of_user = processes.take(MAX_PROCESSES).filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == own.uid()));
        let holds = |process: &PathBuf| {
            let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
            files.flatten().take(MAX_OPEN_FILES).any(|file| fs::read_link(file.path()).is_ok_and(|target| target == wanted))
        };
        of_user.map(|entry| entry.path()).filter(holds).collect()
    }

    fn is_marked(process: &Path) -> bool {
        read(&process.join("environ")).is_some_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == MARK))
    }

    fn is_client(process: &Path) -> bool {
        let program = fs::read_link(process.join("exe")).unwrap_or_default();
        let arguments = read(&process.join("cmdline")).unwrap_or_default();
        names_client(&program.to_string_lossy())
            || arguments.split(|byte| *byte == 0).take(2).any(|argument| names_client(&String::from_utf8_lossy(argument)))
    }

    /// Whether a path is the client's: its own name, a version in its own folder, or the script of its package.
    pub(super) fn names_client(path: &str) -> bool {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        matches!(name, "claude" | "claude.exe") || path.contains("/claude/versions/") || path.contains("/@anthropic-ai/claude-code")
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use tokio::net::TcpListener;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1015 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0\n   1: 0100007F:9C40 0100007F:1015 01 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 20 4 30 10 -1\n   2: 0000000000000000FFFF00000100007F:9C41 0000000000000000FFFF00000100007F:1015 01 00000000:00000000 00:00000000 00000000     0        0 4343 1 0\n";

    #[test]
    fn inode_is_that_of_the_client_end() {
        let local = "127.0.0.1:4117".parse().unwrap();
        let inode = |peer: &str| find::inode(TABLE.as_bytes(), peer.parse().unwrap(), local);
        assert_eq!((inode("127.0.0.1:40000"), inode("127.0.0.1:40001"), inode("127.0.0.1:40002")), (Some(4242), Some(4343), None));
        assert_eq!(find::inode(b"garbage", local, local), None);
    }

    #[test]
    fn client_is_known_by_its_path() {
        for path in [
            "/usr/local/bin/claude",
            "/home/u/.local/share/claude/versions/2.1.332",
            "/home/u/.local/share/claude/versions/2.1.331 (deleted)",
            "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js",
        ] {
            assert!(find::names_client(path), "{path}");
        }
        for path in ["/usr/bin/python3.12", "/usr/bin/node", "/home/u/claude/tool", "/usr/bin/claude-trace", ""] {
            assert!(!find::names_client(path), "{path}");
        }
    }

    /// Connects with a program that holds the connection until its standard input ends.
    async fn connects(marked: bool) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let local = listener.local_addr().expect("an address");
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; read -r line", local.port());
        let mut command = Command::new("bash");
        command.args(["-c", &script]).env_remove("CLAUDECODE").stdin(Stdio::piped());
        if marked {
            command.env("CLAUDECODE", "1");
        }
        let mut child = command.spawn().expect("every machine has bash");
        let (_stream, address) = listener.accept().await.expect("it connects");
        let found = Peer::at(address).is_inside_session(local).await;
        drop(child.stdin.take());
        child.wait().expect("it ended");
        found
    }

    #[tokio::test]
    async fn program_that_the_client_started_is_inside() {
        assert!(connects(true).await);
        assert!(!connects(false).await);
        assert!(!Peer::unknown().is_inside_session("127.0.0.1:1".parse().unwrap()).await);
    }
}
