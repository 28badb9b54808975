//! Reads just as much HTTP/1.1 as the bench needs: one head, one body with a length or in chunks. Never writes; never copes with a peer that is
//! not ours (nginx, hotspare, our own upstream and client).

use anyhow::{Context, bail};

/// Where a head ends, counted with its blank line.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header, looked up without regard to case.
pub(super) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(head).ok()?;
    let lines = text.split("\r\n").skip(1);
    let mut pairs = lines.filter_map(|line| line.split_once(':'));
    pairs.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// What the body's next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Sized(usize),
    ChunkSize,
    Chunk(usize),
    Trailer,
    Done,
}

/// Reads one answer after the other from the bytes of one connection.
#[derive(Debug)]
pub(super) struct AnswerReader {
    state: State,
    /// Bytes read but not yet understood.
    pending: Vec<u8>,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl AnswerReader {
    pub(super) fn new() -> Self {
        Self { state: State::Head, pending: Vec::with_capacity(64 * 1024), head: Vec::new(), body: Vec::with_capacity(64 * 1024) }
    }

    /// Forgets the last answer; its buffers are used again.
    pub(super) fn start(&mut self) {
        self.state = State::Head;
        self.pending.clear();
        self.head.clear();
        self.body.clear();
    }

    /// The answer's head, once it has come.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The answer's body so far, without its chunk frames.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The status code.
    pub(super) fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.head.get(9..12)?).ok()?.parse().ok()
    }

    /// Takes the next bytes of the connection; true when the answer is complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<bool> {
        self.pending.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(step) = self.step(used)? {
            used += step;
        }
        self.pending.drain(..used);
        Ok(self.state == State::Done)
    }

    /// Understands one more piece from `at` on and says how long it was; `None` when more bytes are needed, or nothing is left to do.
    fn step(&mut self, at: usize) -> anyhow::Result<Option<usize>> {
        let rest = &self.pending[at..];
        match self.state {
            State::Done => Ok(None),
            State::Head => {
                let Some(end) = head_end(rest) else { return Ok(None) };
                self.head.extend_from_slice(&rest[..end]);
                self.state = match (header(&self.head, "transfer-encoding"), header(&self.head, "content-length")) {
                    (Some("chunked"), _) => State::ChunkSize,
                    (_, Some(length)) => sized(length.parse().context("an odd content-length")?),
                    _ => bail!("an answer without a length"),
                };
                Ok(Some(end))
            }
            State::Sized(left) | State::Chunk(left) => {
                let chunk = matches!(self.state, State::Chunk(_));
                let now = left.min(rest.len());
                if now == 0 {
                    return Ok(None);
                }
                self.body.extend_from_slice(&rest[..now]);
                self.state = match (chunk, left - now) {
                    (true, 0) => State::ChunkSize,
                    (true, left) => State::Chunk(left),
                    (false, left) => sized(left),
                };
                Ok(Some(now))
            }
            State::ChunkSize => {
                // The line end of the chunk before is still there, but for the first chunk.
                let skip = if rest.starts_with(b"\r\n") { 2 } else { 0 };
                let Some(end) = rest[skip..].windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
                let line = std::str::from_utf8(&rest[skip..skip + end]).context("an odd chunk")?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).with_context(|| format!("an odd chunk size: {line:?}"))?;
                self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
                Ok(Some(skip + end + 2))
            }
            State::Trailer => {
                if !rest.starts_with(b"\r\n") {
                    return if rest.len() < 2 { Ok(None) } else { bail!("a trailer, which nobody here sends") };
                }
                self.state = State::Done;
                Ok(Some(2))
            }
        }
    }
}

fn sized(left: usize) -> State {
    if left == 0 { State::Done } else { State::Sized(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00a;x=1\r\n0123456789\r\n0\r\n\r\n";

    /// Feeds the answer in pieces of the given size and gives back the body, complete exactly at the last piece.
    fn read(answer: &[u8], piece: usize) -> Vec<u8> {
        let mut reader = AnswerReader::new();
        reader.start();
        let mut pieces = answer.chunks(piece).peekable();
        while let Some(bytes) = pieces.next() {
            assert_eq!(reader.feed(bytes).unwrap(), pieces.peek().is_none(), "complete at the wrong piece of {piece}");
        }
        assert_eq!(reader.status(), Some(200));
        reader.body().to_vec()
    }

    #[test]
    fn a_chunked_answer_reads_the_same_at_every_split() {
        for piece in 1..=CHUNKED.len() {
            assert_eq!(read(CHUNKED, piece), b"abc0123456789");
        }
    }

    #[test]
    fn a_sized_answer_reads_the_same_at_every_split() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        for piece in 1..=answer.len() {
            assert_eq!(read(answer, piece), b"hello");
        }
    }

    #[test]
    fn an_answer_without_a_length_or_with_a_bad_chunk_is_refused() {
        assert!(AnswerReader::new().feed(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(AnswerReader::new().feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").is_err());
    }
}
