//! Finds the events of an event stream, and where in the bytes each ends. Never changes, holds back or re-renders a byte of the stream.
//!
//! Reads a copy by the WHATWG rules (HTML 9.2.6): CR, LF and CRLF end a line, one leading BOM is dropped, one space after the colon is
//! dropped, comments are skipped, an event without a blank line at the end of the stream is none.

use memchr::memchr2;

/// Longest single event that is read. A longer one is passed on unread (security.md T14).
pub const EVENT_CAP: usize = 16 * 1024 * 1024;

/// A byte order mark in UTF-8.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event, borrowed from the scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event:` field; empty when there is none.
    pub name: &'a [u8],
    /// The `data:` lines, joined by LF.
    pub data: &'a [u8],
    /// Where in the stream the blank line after it ends.
    pub end: u64,
}

/// Reads an event stream in pieces of any size.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Bytes of the stream seen so far.
    seen: u64,
    /// The last place at which the stream can be cut between events.
    boundary: u64,
    /// The line that the last piece left unfinished.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    in_event: bool,
    /// The last piece ended in CR: an LF at the start of the next belongs to it.
    after_cr: bool,
    started: bool,
    gave_up: bool,
}

impl Scanner {
    /// A scanner at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the stream can last be cut without cutting an event. All bytes before it may go on.
    pub fn boundary(&self) -> u64 {
        if self.gave_up { self.seen } else { self.boundary }
    }

    /// Whether an event was longer than [`EVENT_CAP`], so that nothing is read any more.
    pub fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Reads the next piece and hands over every event that it completes.
    pub fn feed(&mut self, piece: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let start = self.seen;
        self.seen += piece.len() as u64;
        if self.gave_up {
            return;
        }
        let mut at = self.skip_split_line_end(piece);
        while at < piece.len() {
            let Some(length) = memchr2(b'\n', b'\r', &piece[at..]) else {
                self.keep_for_later(&piece[at..]);
                return;
            };
            let line_end = at + length;
            let mut next = line_end + 1;
            if piece[line_end] == b'\r' {
                match piece.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if self.line.is_empty() {
                self.line(&piece[at..line_end], start + next as u64, &mut on_event);
            } else {
                self.keep_for_later(&piece[at..line_end]);
                let line = std::mem::take(&mut self.line);
                self.line(&line, start + next as u64, &mut on_event);
                self.line = line;
                self.line.clear();
            }
            if self.gave_up {
                return;
            }
            at = next;
        }
    }

    fn skip_split_line_end(&mut self, piece: &[u8]) -> usize {
        if !std::mem::take(&mut self.after_cr) {
            return 0;
        }
        if piece.is_empty() {
            self.after_cr = true;
            return 0;
        }
        if piece[0] != b'\n' {
            return 0;
        }
        if !self.in_event {
            self.boundary += 1;
        }
        1
    }

    fn keep_for_later(&mut self, part: &[u8]) {
        self.line.extend_from_slice(part);
        self.give_up_if_too_long();
    }

    fn give_up_if_too_long(&mut self) {
        if self.line.len() + self.data.len() > EVENT_CAP {
            self.gave_up = true;
            self.line = Vec::new();
            self.data = Vec::new();
        }
    }

    fn line(&mut self, line: &[u8], end: u64, on_event: &mut impl FnMut(Event<'_>)) {
        let line = if std::mem::replace(&mut self.started, true) { line } else { line.strip_prefix(BOM).unwrap_or(line) };
        if line.is_empty() {
            self.boundary = end;
            self.dispatch(end, on_event);
        } else if line[0] == b':' {
            if !self.in_event {
                self.boundary = end;
            }
        } else {
            self.in_event = true;
            self.field(line);
        }
    }

    fn field(&mut self, line: &[u8]) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
            None => (line, &[][..]),
        };
        match name {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
                self.give_up_if_too_long();
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, end: u64, on_event: &mut impl FnMut(Event<'_>)) {
        if self.has_data && !self.data.is_empty() {
            on_event(Event { name: &self.name, data: &self.data, end });
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.in_event = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Seen = Vec<(String, String, u64)>;

    fn scan(pieces: &[&[u8]]) -> (Seen, u64) {
        let mut scanner = Scanner::new();
        let mut seen = Vec::new();
        for piece in pieces {
            scanner.feed(piece, |event| {
                seen.push((String::from_utf8_lossy(event.name).into_owned(), String::from_utf8_lossy(event.data).into_owned(), event.end));
            });
        }
        (seen, scanner.boundary())
    }

    #[track_caller]
    fn check(stream: &str, expected: &[(&str, &str)], boundary: usize) {
        let (seen, at) = scan(&[stream.as_bytes()]);
        let seen: Vec<_> = seen.iter().map(|(name, data, _)| (name.as_str(), data.as_str())).collect();
        assert_eq!(seen, expected);
        assert_eq!(at, boundary as u64);
    }

    #[test]
    fn events_are_read_by_the_rules() {
        check("event: ping\ndata: {}\n\n", &[("ping", "{}")], 22);
        check("event:ping\r\ndata:{}\r\n\r\n", &[("ping", "{}")], 23);
        check("data: a\rdata: b\r\r", &[("", "a\nb")], 17);
        check("\u{feff}data: a\n\n", &[("", "a")], 12);
        check("data:  two spaces\n\n", &[("", " two spaces")], 19);
        check("id: 7\nretry: 3\ndata: x\n\n", &[("", "x")], 24);
        check("event: empty\n\n", &[], 14);
        check("data\n\n", &[], 6);
    }

    #[test]
    fn a_cut_never_falls_into_an_event_but_may_follow_a_comment() {
        check("data: a\n\n: keep-alive\n", &[("", "a")], 22);
        check("data: a\n\ndata: b\n: comment inside\n", &[("", "a")], 9);
        check("data: a\n\nevent: x", &[("", "a")], 9);
        check(": half a comm", &[], 0);
    }

    #[test]
    fn an_event_longer_than_the_cap_is_passed_on_unread() {
        let mut scanner = Scanner::new();
        let piece = vec![b'x'; 1024 * 1024];
        scanner.feed(b"data: ", |_| panic!("no event yet"));
        for _ in 0..=16 {
            scanner.feed(&piece, |_| panic!("no event yet"));
        }
        assert!(scanner.gave_up());
        assert_eq!(scanner.boundary(), 6 + 17 * 1024 * 1024);
        assert!(scanner.line.capacity() == 0, "the copy is let go");
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let part = proptest::sample::select(vec![
            &b"\n"[..],
            b"\r",
            b"\r\n",
            b"\n\n",
            b"data: {\"a\":\"\xc3\xa9\"}",
            b"data",
            b"event: ping",
            b": c",
            b"\xef\xbb\xbf",
            b"id: 1",
        ]);
        proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        /// praxis #739: a character or a CRLF split between two chunks.
        #[test]
        fn r25_a_stream_reads_the_same_however_it_is_split(stream in stream(), cuts in proptest::collection::vec(0usize..200, 0..8)) {
            let whole = scan(&[&stream]);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&stream[from..cut]);
                from = cut;
            }
            pieces.push(&stream[from..]);
            let split = scan(&pieces);
            // Only an event's end may differ: an LF that arrives later belongs to the CR before it.
            let strip = |seen: &Seen| seen.iter().map(|(name, data, _)| (name.clone(), data.clone())).collect::<Vec<_>>();
            prop_assert_eq!(strip(&whole.0), strip(&split.0));
            prop_assert_eq!(whole.1, split.1);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (seen, boundary) = scan(&[&bytes]);
            prop_assert!(boundary <= bytes.len() as u64);
            prop_assert!(seen.iter().all(|(_, _, end)| *end <= boundary));
        }
    }
}
