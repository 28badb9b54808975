//! Asks and takes the time: one blocking keep-alive connection, as little as possible between the clock and the socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use super::http1::{AnswerReader, header};
use super::upstream::SENT_AT;

/// Nothing here takes longer; a proxy that hangs must not hang the bench.
const PATIENCE: Duration = Duration::from_secs(30);

/// When an answer came, counted from before its request was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) first_byte: Duration,
    pub(super) whole: Duration,
}

/// A connection to a proxy, or straight to the upstream.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    reader: AnswerReader,
    scratch: Vec<u8>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Self::with_scratch(address, 64 * 1024)
    }

    /// A connection with a small buffer, for many at a time.
    pub(super) fn small(address: SocketAddr) -> anyhow::Result<Self> {
        Self::with_scratch(address, 4 * 1024)
    }

    fn with_scratch(address: SocketAddr, scratch: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, reader: AnswerReader::new(), scratch: vec![0; scratch] })
    }

    /// Sends the request and reads the whole answer, which must be a 200.
    pub(super) fn ask(&mut self, request: &[u8]) -> anyhow::Result<Timing> {
        self.reader.start();
        let begun = Instant::now();
        self.stream.write_all(request)?;
        let mut first_byte = None;
        loop {
            let complete = self.read()?;
            let now = begun.elapsed();
            let first_byte = *first_byte.get_or_insert(now);
            if complete {
                self.expect_ok()?;
                return Ok(Timing { first_byte, whole: now });
            }
        }
    }

    /// Sends a request for paced events and says how long each was on its way.
    pub(super) fn delays(&mut self, request: &[u8]) -> anyhow::Result<Vec<Duration>> {
        self.reader.start();
        self.stream.write_all(request)?;
        let mut delays = Vec::new();
        let mut seen = 0;
        loop {
            let complete = self.read()?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            while let Some((sent, end)) = next_sent(&self.reader.body()[seen..]) {
                delays.push(now.saturating_sub(sent));
                seen += end;
            }
            if complete {
                self.expect_ok()?;
                return Ok(delays);
            }
        }
    }

    /// Sends the request and reads until the first content of an answer that stays open.
    pub(super) fn ask_until_content(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.reader.start();
        self.stream.write_all(request)?;
        while !self.reader.body().windows(10).any(|window| window == b"text_delta") {
            if self.read()? {
                bail!("the answer ended that should stay open: {}", String::from_utf8_lossy(self.reader.body()));
            }
        }
        self.expect_ok()
    }

    /// The last answer's body.
    pub(super) fn body(&self) -> &[u8] {
        self.reader.body()
    }

    /// A header of the last answer.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(self.reader.head(), name)
    }

    fn read(&mut self) -> anyhow::Result<bool> {
        let count = self.stream.read(&mut self.scratch)?;
        if count == 0 {
            bail!("the connection was closed within an answer: {}", String::from_utf8_lossy(self.reader.head()));
        }
        self.reader.feed(&self.scratch[..count])
    }

    fn expect_ok(&self) -> anyhow::Result<()> {
        match self.reader.status() {
            Some(200) => Ok(()),
            other => bail!("answered {other:?}: {}", String::from_utf8_lossy(self.reader.body())),
        }
    }
}

/// The first complete time of sending in the bytes, and where it ends.
fn next_sent(bytes: &[u8]) -> Option<(Duration, usize)> {
    let start = bytes.windows(SENT_AT.len()).position(|window| window == SENT_AT)? + SENT_AT.len();
    let end = start + bytes[start..].iter().position(|byte| *byte == b';')?;
    let nanos: u64 = std::str::from_utf8(&bytes[start..end]).ok()?.parse().ok()?;
    Some((Duration::from_nanos(nanos), end + 1))
}
