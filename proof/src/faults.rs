//! The ways in which a provider breaks, as scripts: thirty before the answer begins, twelve inside it at fourteen positions. Never says what
//! should follow from them.

use std::io::Write;
use std::time::Duration;

use hotspare_testkit::{Dial, Event, Script};

use crate::question::{Question, Shape};

/// A pause before a break: real ones do not come with the last bytes, and a client may lose what it has not read (measured).
const PAUSE: Duration = Duration::from_millis(300);

/// Bytes that come at one a second when a stream drips.
const DRIPS: usize = 200;

/// Padding of an event that no buffer for held events takes.
const OVERSIZE: usize = 300 * 1024;

/// A fault before the answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadFault {
    UnknownName,
    Refused,
    Unreachable,
    ConnectTimeout,
    TlsAlert,
    BadCertificate,
    TlsStall,
    Closed,
    Reset,
    HeadStall,
    HalfHead,
    BadStatusLine,
    S500,
    S502Html,
    S503,
    S504,
    S529,
    S429Short,
    S429Quota,
    S429Bare,
    S401,
    S403,
    Credit,
    S404,
    ProviderBound400,
    Plain400,
    S413,
    S307,
    Html200,
    GzippedError,
}

impl HeadFault {
    pub(crate) const ALL: [Self; 30] = [
        Self::UnknownName,
        Self::Refused,
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::TlsAlert,
        Self::BadCertificate,
        Self::TlsStall,
        Self::Closed,
        Self::Reset,
        Self::HeadStall,
        Self::HalfHead,
        Self::BadStatusLine,
        Self::S500,
        Self::S502Html,
        Self::S503,
        Self::S504,
        Self::S529,
        Self::S429Short,
        Self::S429Quota,
        Self::S429Bare,
        Self::S401,
        Self::S403,
        Self::Credit,
        Self::S404,
        Self::ProviderBound400,
        Self::Plain400,
        Self::S413,
        Self::S307,
        Self::Html200,
        Self::GzippedError,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::UnknownName => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect-timeout",
            Self::TlsAlert => "tls-alert",
            Self::BadCertificate => "bad-certificate",
            Self::TlsStall => "tls-stall",
            Self::Closed => "closed-before-head",
            Self::Reset => "reset-before-head",
            Self::HeadStall => "head-stall",
            Self::HalfHead => "half-head",
            Self::BadStatusLine => "bad-status-line",
            Self::S500 => "500",
            Self::S502Html => "502-html",
            Self::S503 => "503",
            Self::S504 => "504",
            Self::S529 => "529",
            Self::S429Short => "429-short",
            Self::S429Quota => "429-quota",
            Self::S429Bare => "429-bare",
            Self::S401 => "401",
            Self::S403 => "403",
            Self::Credit => "credit",
            Self::S404 => "404",
            Self::ProviderBound400 => "400-provider-bound",
            Self::Plain400 => "400",
            Self::S413 => "413",
            Self::S307 => "307",
            Self::Html200 => "200-html",
            Self::GzippedError => "gzipped-error",
        }
    }

    /// What becomes of connections to a provider with this fault.
    pub(crate) fn dial(self) -> Dial {
        match self {
            Self::UnknownName => Dial::UnknownName,
            Self::Refused => Dial::Refused,
            Self::Unreachable => Dial::Unreachable,
            Self::ConnectTimeout => Dial::Silent,
            Self::TlsAlert => Dial::TlsAlert,
            Self::BadCertificate => Dial::BadCertificate,
            Self::TlsStall => Dial::TlsSilent,
            _ => Dial::Works,
        }
    }

    /// What a provider with this fault does with a request.
    pub(crate) fn script(self) -> Script {
        let error = |status, kind| Script::error(status, kind, "scripted failure");
        match self {
            // Nothing is ever asked there.
            Self::UnknownName
            | Self::Refused
            | Self::Unreachable
            | Self::ConnectTimeout
            | Self::TlsAlert
            | Self::BadCertificate
            | Self::TlsStall => Script::new().fin(),
            Self::Closed => Script::new().fin(),
            Self::Reset => Script::new().rst(),
            Self::HeadStall => Script::new().hang(),
            Self::HalfHead => Script::new().raw("HTTP/1.1 200 OK\r\nContent-Type: text/ev").sleep(PAUSE).fin(),
            Self::BadStatusLine => Script::new().raw("HTP/9 what?\r\n\r\n").fin(),
            Self::S500 => error(500, "api_error"),
            Self::S502Html => html(502),
            Self::S503 => error(503, "api_error"),
            Self::S504 => error(504, "timeout_error"),
            Self::S529 => error(529, "overloaded_error"),
            Self::S429Short => limited(&[("retry-after", "20")]),
            Self::S429Quota => limited(&[
                ("anthropic-ratelimit-unified-status", "rejected"),
                ("anthropic-ratelimit-unified-5h-status", "rejected"),
                ("anthropic-ratelimit-unified-5h-reset", "1800007200"),
                ("anthropic-ratelimit-unified-reset", "1800007200"),
                ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
                ("retry-after", "7200"),
            ]),
            Self::S429Bare => limited(&[]),
            Self::S401 => error(401, "authentication_error"),
            Self::S403 => error(403, "permission_error"),
            Self::Credit => error(402, "billing_error"),
            Self::S404 => error(404, "not_found_error"),
            Self::ProviderBound400 => Script::error(400, "invalid_request_error", SIGNATURE),
            Self::Plain400 => error(400, "invalid_request_error"),
            Self::S413 => error(413, "request_too_large"),
            Self::S307 => Script::new().body(307, &[("Location", "https://elsewhere.test/v1/messages")], ""),
            Self::Html200 => html(200),
            Self::GzippedError => gzipped(),
        }
    }
}

/// The wording that the client knows.
const SIGNATURE: &str = "messages.1.content.0: Invalid `signature` in `thinking` block";

fn html(status: u16) -> Script {
    Script::new().body(status, &[("Content-Type", "text/html")], "<html><body>Please sign in to the network</body></html>")
}

fn limited(headers: &[(&str, &str)]) -> Script {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed a limit."}}"#;
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    Script::new().body(429, &all, body)
}

/// A usage window that ends after so long, told by the provider's own clock alone.
pub(crate) fn window_used_up(provider_now: u64, ends_in: Duration) -> Script {
    let at = (provider_now + ends_in.as_secs()).to_string();
    limited(&[
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-5h-status", "rejected"),
        ("anthropic-ratelimit-unified-5h-reset", &at),
        ("anthropic-ratelimit-unified-reset", &at),
        ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
    ])
}

/// Credit is used up, and only who unpacks the body can know it.
fn gzipped() -> Script {
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(body.as_bytes()).expect("a vector takes everything");
    let packed = packed.finish().expect("a vector takes everything");
    Script::new().body(400, &[("Content-Type", "application/json"), ("Content-Encoding", "gzip")], packed)
}

/// A fault inside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamFault {
    Reset,
    Truncated,
    CleanEof,
    ErrorEvent,
    Stall,
    StallWithPings,
    Garbage,
    SplitUtf8,
    Oversize,
    Drip,
    Duplicate,
    WrongLength,
}

impl StreamFault {
    pub(crate) const ALL: [Self; 12] = [
        Self::Reset,
        Self::Truncated,
        Self::CleanEof,
        Self::ErrorEvent,
        Self::Stall,
        Self::StallWithPings,
        Self::Garbage,
        Self::SplitUtf8,
        Self::Oversize,
        Self::Drip,
        Self::Duplicate,
        Self::WrongLength,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::CleanEof => "clean-eof",
            Self::ErrorEvent => "error-event",
            Self::Stall => "stall",
            Self::StallWithPings => "stall-with-pings",
            Self::Garbage => "garbage",
            Self::SplitUtf8 => "split-utf8",
            Self::Oversize => "oversize-event",
            Self::Drip => "slow-drip",
            Self::Duplicate => "duplicate-event",
            Self::WrongLength => "wrong-length",
        }
    }

    /// Whether the answer never becomes whole: the client gives an answer up at an event that it cannot parse.
    pub(crate) fn kills(self) -> bool {
        !matches!(self, Self::Oversize | Self::Drip | Self::Duplicate)
    }
}

/// Which type the error event names.
pub(crate) const ERROR_TYPES: [&str; 3] = ["overloaded_error", "api_error", "unheard_of_error"];

/// A place in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Position {
    AfterHead,
    InMessageStart,
    AfterMessageStart,
    AfterPing,
    InBlockStart,
    FirstDelta,
    MidText,
    MidChar,
    BetweenBlocks,
    MidThinking,
    AfterThinking,
    MidTool,
    BeforeMessageDelta,
    BeforeMessageStop,
}

impl Position {
    pub(crate) const ALL: [Self; 14] = [
        Self::AfterHead,
        Self::InMessageStart,
        Self::AfterMessageStart,
        Self::AfterPing,
        Self::InBlockStart,
        Self::FirstDelta,
        Self::MidText,
        Self::MidChar,
        Self::BetweenBlocks,
        Self::MidThinking,
        Self::AfterThinking,
        Self::MidTool,
        Self::BeforeMessageDelta,
        Self::BeforeMessageStop,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::AfterHead => "after-head",
            Self::InMessageStart => "in-message-start",
            Self::AfterMessageStart => "after-message-start",
            Self::AfterPing => "after-ping",
            Self::InBlockStart => "in-block-start",
            Self::FirstDelta => "first-delta",
            Self::MidText => "mid-text",
            Self::MidChar => "mid-character",
            Self::BetweenBlocks => "between-blocks",
            Self::MidThinking => "mid-thinking",
            Self::AfterThinking => "after-thinking",
            Self::MidTool => "mid-tool-json",
            Self::BeforeMessageDelta => "before-message-delta",
            Self::BeforeMessageStop => "before-message-stop",
        }
    }

    /// Whether answers of this shape have the place.
    pub(crate) fn is_in(self, shape: Shape) -> bool {
        match self {
            Self::BetweenBlocks => shape != Shape::Text,
            Self::MidThinking | Self::AfterThinking => shape == Shape::ThinkingText,
            Self::MidTool => shape == Shape::TextTool,
            _ => true,
        }
    }

    /// Whether the place is inside an event.
    fn is_inside(self) -> bool {
        matches!(self, Self::InMessageStart | Self::InBlockStart | Self::MidChar)
    }

    /// So many whole events, and so many bytes of the next; none when the answer has no such place.
    fn find(self, events: &[Event]) -> Option<(usize, usize)> {
        let first = |name: &str| events.iter().position(|event| event.name == name);
        let with = |text: &str| events.iter().position(|event| event.data.contains(text));
        let nth = |delta: &str, count: usize| {
            let full = |event: &&Event| event.data.contains(delta) && !event.data.contains(r#""partial_json":"""#);
            let last = events.iter().filter(full).nth(count - 1)?;
            events.iter().position(|event| std::ptr::eq(event, last)).map(|at| (at + 1, 0))
        };
        match self {
            Self::AfterHead => Some((0, 0)),
            Self::InMessageStart => Some((0, 40)),
            Self::AfterMessageStart => Some((first("message_start")? + 1, 0)),
            Self::AfterPing => Some((first("ping")? + 1, 0)),
            Self::InBlockStart => Some((first("content_block_start")?, 30)),
            Self::FirstDelta => Some((first("content_block_delta")? + 1, 0)),
            Self::MidText => nth("text_delta", 2),
            Self::MidChar => {
                let at = with("text_delta")?;
                let (at, event) = events.iter().enumerate().skip(at).find(|(_, event)| !event.bytes().is_ascii())?;
                // After the first byte of the character.
                Some((at, event.bytes().iter().position(|byte| !byte.is_ascii())? + 1))
            }
            // Where thinking stands before the text, its place is AfterThinking, and this one is after the next block's start.
            Self::BetweenBlocks if with("thinking_delta").is_some() => {
                events.iter().rposition(|event| event.name == "content_block_start").map(|at| (at + 1, 0))
            }
            Self::BetweenBlocks | Self::AfterThinking => Some((first("content_block_stop")? + 1, 0)),
            Self::MidThinking => nth("thinking_delta", 2),
            Self::MidTool => nth("input_json_delta", 2),
            Self::BeforeMessageDelta => Some((first("message_delta")?, 0)),
            Self::BeforeMessageStop => Some((first("message_stop")?, 0)),
        }
    }
}

/// Whether a fault can come at a place: what stands between two events cannot come inside one.
pub(crate) fn fits(fault: StreamFault, position: Position) -> bool {
    match fault {
        StreamFault::ErrorEvent | StreamFault::StallWithPings | StreamFault::Garbage | StreamFault::Oversize => !position.is_inside(),
        StreamFault::Duplicate => !position.is_inside() && position != Position::AfterHead,
        StreamFault::SplitUtf8 => !position.is_inside() || position == Position::MidChar,
        _ => true,
    }
}

/// An answer that breaks, and the bytes of its body that come before and after.
pub(crate) struct Broken {
    pub script: Script,
    /// Every byte of the body that is sent.
    pub sent: Vec<u8>,
}

/// An answer that breaks at a place. Where the answer has no such place, as the rest of one may, it breaks at its first content.
pub(crate) fn broken(events: &[Event], fault: StreamFault, position: Position, variant: usize, pace: Duration) -> Broken {
    let (whole, part) = position.find(events).or_else(|| Position::FirstDelta.find(events)).unwrap_or((0, 0));
    let pieces: Vec<Vec<u8>> = events.iter().map(|event| event.bytes().to_vec()).collect();
    let mut writer = Writer::new(fault == StreamFault::WrongLength, pieces.iter().map(Vec::len).sum(), pace);
    for piece in &pieces[..whole] {
        writer.write(piece);
    }
    let (before, after) = pieces.get(whole).map_or((&[][..], &[][..]), |next| next.split_at(part));
    writer.write(before);
    let mut rest = vec![after.to_vec()];
    rest.extend(pieces.iter().skip(whole + 1).cloned());
    let paused = |writer: Writer| Writer { script: writer.script.sleep(PAUSE), ..writer };
    match fault {
        StreamFault::Reset => paused(writer).finish(Script::rst),
        StreamFault::Truncated | StreamFault::WrongLength => paused(writer).finish(Script::fin),
        StreamFault::CleanEof => paused(writer).finish(Script::end),
        StreamFault::ErrorEvent => {
            let kind = ERROR_TYPES[variant % ERROR_TYPES.len()];
            let mut writer = paused(writer);
            writer.write(
                format!("event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"scripted\"}}}}\n\n")
                    .as_bytes(),
            );
            writer.finish(Script::end)
        }
        StreamFault::Stall => writer.finish(Script::hang),
        StreamFault::StallWithPings => {
            for _ in 0..70 {
                writer.script = writer.script.sleep(Duration::from_secs(10));
                writer.write(b"event: ping\ndata: {\"type\": \"ping\"}\n\n");
            }
            writer.finish(Script::hang)
        }
        StreamFault::Garbage => {
            writer.write(b"event: content_block_delta\ndata: {\"type\":\"content_bl\xff\xfe\n\n");
            writer.write_all(&rest);
            writer.finish(Script::end)
        }
        StreamFault::SplitUtf8 => {
            if part == 0 {
                writer.write(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"\xe4\xb8");
            }
            paused(writer).finish(Script::fin)
        }
        StreamFault::Oversize => {
            let pad = "p".repeat(OVERSIZE);
            writer.write(format!("event: ping\ndata: {{\"type\":\"ping\",\"pad\":\"{pad}\"}}\n\n").as_bytes());
            writer.write_all(&rest);
            writer.finish(Script::end)
        }
        StreamFault::Drip => {
            let mut left = DRIPS;
            for piece in &rest {
                let (slow, fast) = piece.split_at(piece.len().min(left));
                left -= slow.len();
                writer.drip(slow);
                writer.write(fast);
            }
            writer.finish(Script::end)
        }
        StreamFault::Duplicate => {
            if let Some(last) = whole.checked_sub(1) {
                writer.write(&pieces[last]);
            }
            writer.write_all(&rest);
            writer.finish(Script::end)
        }
    }
}

/// A whole answer, with a pause before each event.
fn healthy(events: &[Event], pace: Duration) -> Script {
    let mut writer = Writer::new(false, 0, pace);
    for event in events {
        writer.write(&event.bytes());
    }
    writer.finish(Script::end).script
}

/// Writes body bytes, chunked or not, and keeps them.
struct Writer {
    script: Script,
    chunked: bool,
    pace: Duration,
    sent: Vec<u8>,
}

impl Writer {
    fn new(wrong_length: bool, length: usize, pace: Duration) -> Self {
        let script = if wrong_length {
            let length = (length + 1000).to_string();
            Script::new().head(200, &[("Content-Type", "text/event-stream"), ("Content-Length", &length)])
        } else {
            Script::new().sse()
        };
        Self { script, chunked: !wrong_length, pace, sent: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.sent.extend_from_slice(bytes);
        let mut script = std::mem::take(&mut self.script);
        if !self.pace.is_zero() {
            script = script.sleep(self.pace);
        }
        self.script = if self.chunked { script.chunk(bytes.to_vec()) } else { script.raw(bytes.to_vec()) };
    }

    fn write_all(&mut self, pieces: &[Vec<u8>]) {
        for piece in pieces {
            self.write(piece);
        }
    }

    /// One chunk, byte by byte.
    fn drip(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.sent.extend_from_slice(bytes);
        let script = std::mem::take(&mut self.script);
        self.script = script.raw(format!("{:x}\r\n", bytes.len())).drip(bytes.to_vec(), Duration::from_secs(1)).raw("\r\n");
    }

    fn finish(self, end: impl FnOnce(Script) -> Script) -> Broken {
        Broken { script: end(self.script), sent: self.sent }
    }
}

/// What a provider without a fault does with a question.
pub(crate) fn answer(question: Question, said: &str, streaming: bool, pace: Duration) -> Script {
    let confused = || Script::error(400, "invalid_request_error", "what was said before is no beginning of the answer");
    if streaming {
        question.rest(said).map_or_else(confused, |events| healthy(&events, pace))
    } else {
        let body = question.rest_whole(said);
        body.map_or_else(confused, |body| Script::new().body(200, &[("Content-Type", "application/json")], body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_where_its_shape_says_and_nowhere_else() {
        for shape in Shape::ALL {
            let events = Question { number: 1, shape }.rest("").unwrap();
            for position in Position::ALL {
                if position.is_in(shape) {
                    let (whole, part) = position.find(&events).unwrap_or_else(|| panic!("{position:?} is in {shape:?}"));
                    assert_eq!(part > 0, position.is_inside(), "{position:?} in {shape:?}");
                    assert!(whole < events.len(), "{position:?} in {shape:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_sent_is_what_the_answer_has_up_to_the_place() {
        let events = Question { number: 1, shape: Shape::TextTool }.rest("").unwrap();
        let all: Vec<u8> = events.iter().flat_map(|event| event.bytes().to_vec()).collect();
        for position in Position::ALL.into_iter().filter(|position| position.is_in(Shape::TextTool)) {
            let broken = broken(&events, StreamFault::Truncated, position, 0, Duration::ZERO);
            assert!(all.starts_with(&broken.sent) && broken.sent.len() < all.len(), "{position:?}");
        }
        let cut = broken(&events, StreamFault::Truncated, Position::MidChar, 0, Duration::ZERO);
        assert!(std::str::from_utf8(&cut.sent).is_err());
    }
}
