//! Reads a client's request off a socket, whole. Never judges it: a scripted provider takes whatever comes.

use std::io;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest head that is read, in bytes.
const HEAD_CAP: usize = 256 * 1024;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its target, query included.
    pub target: String,
    /// Its fields in order, names as they were spelled.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Everything up to the empty line, with it.
    pub raw_head: Bytes,
    /// Its body, unchunked.
    pub body: Bytes,
    /// The number of its connection.
    pub connection: u64,
    /// When its head was whole.
    pub at: Instant,
}

impl Received {
    /// The first field of this name, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Reads the next head; none when the connection ends before one.
pub(crate) async fn read_head(io: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, connection: u64) -> io::Result<Option<Received>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > HEAD_CAP {
            return Err(io::Error::other("the request head is too long"));
        }
        if io.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let raw_head = buffer.split_to(end).freeze();
    parse(&raw_head, connection).map(Some)
}

fn parse(raw_head: &Bytes, connection: u64) -> io::Result<Received> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(raw_head).map_err(io::Error::other)?;
    let headers = request.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    Ok(Received {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers,
        raw_head: raw_head.clone(),
        body: Bytes::new(),
        connection,
        at: tokio::time::Instant::now().into_std(),
    })
}

/// Reads the body that belongs to a head.
pub(crate) async fn read_body(io: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, head: &Received) -> io::Result<Bytes> {
    if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return read_chunks(io, buffer).await;
    }
    let length = head.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    fill(io, buffer, length).await?;
    Ok(buffer.split_to(length).freeze())
}

async fn fill(io: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, length: usize) -> io::Result<()> {
    while buffer.len() < length {
        if io.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

async fn read_chunks(io: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<Bytes> {
    let mut body = BytesMut::new();
    loop {
        let line_end = loop {
            if let Some(end) = buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                break end;
            }
            fill(io, buffer, buffer.len() + 1).await?;
        };
        let line = String::from_utf8_lossy(&buffer[..line_end]).into_owned();
        buffer.advance(line_end + 2);
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).map_err(io::Error::other)?;
        fill(io, buffer, size + 2).await?;
        body.extend_from_slice(&buffer[..size]);
        buffer.advance(size + 2);
        if size == 0 {
            return Ok(body.freeze());
        }
    }
}
