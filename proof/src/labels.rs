//! Answers under odd labels and in odd wrappings: those that a client takes for an answer all the same, and those that it does not.

use hotspare_testkit::{Event, Script};

use crate::question::Question;

/// How an answer with status 200 is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Label {
    /// A good stream labelled `application/json`.
    StreamAsJson,
    /// A good stream labelled `text/plain`.
    StreamAsText,
    /// A good stream labelled `application/octet-stream`.
    StreamAsBytes,
    /// A good stream without a label.
    StreamUnlabelled,
    /// A ping whose data is not JSON, before the first content.
    PlainPing,
    /// The same inside the text.
    PlainPingInText,
    /// An event of an unknown name whose data is not JSON.
    UnknownEvent,
    /// Data without an event name that is not JSON.
    UnnamedData,
    /// A JSON error labelled as a stream.
    ErrorAsStream,
    /// A page labelled as a stream.
    PageAsStream,
    /// A page without a label.
    PageUnlabelled,
    /// An error as the data of an event without a name.
    UnnamedError,
    /// `{}`.
    EmptyObject,
    /// A code and a message, as z.ai sends them.
    CodeMessage,
    /// `base_resp`, as MiniMax sends it.
    BaseResponse,
    /// A stream for a request without streaming.
    StreamForWhole,
    /// A whole message for a streaming request.
    MessageForStream,
    /// A stream that begins with a block.
    NoMessageStart,
    /// A message that ends well and holds no block.
    NoBlock,
}

impl Label {
    pub(crate) const ALL: [Self; 19] = [
        Self::StreamAsJson,
        Self::StreamAsText,
        Self::StreamAsBytes,
        Self::StreamUnlabelled,
        Self::PlainPing,
        Self::PlainPingInText,
        Self::UnknownEvent,
        Self::UnnamedData,
        Self::ErrorAsStream,
        Self::PageAsStream,
        Self::PageUnlabelled,
        Self::UnnamedError,
        Self::EmptyObject,
        Self::CodeMessage,
        Self::BaseResponse,
        Self::StreamForWhole,
        Self::MessageForStream,
        Self::NoMessageStart,
        Self::NoBlock,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::StreamAsJson => "stream-as-json",
            Self::StreamAsText => "stream-as-text",
            Self::StreamAsBytes => "stream-as-bytes",
            Self::StreamUnlabelled => "stream-unlabelled",
            Self::PlainPing => "plain-ping",
            Self::PlainPingInText => "plain-ping-in-text",
            Self::UnknownEvent => "unknown-event",
            Self::UnnamedData => "unnamed-data",
            Self::ErrorAsStream => "error-as-stream",
            Self::PageAsStream => "page-as-stream",
            Self::PageUnlabelled => "page-unlabelled",
            Self::UnnamedError => "unnamed-error",
            Self::EmptyObject => "empty-object",
            Self::CodeMessage => "code-and-message",
            Self::BaseResponse => "base-response",
            Self::StreamForWhole => "stream-for-whole",
            Self::MessageForStream => "message-for-stream",
            Self::NoMessageStart => "no-message-start",
            Self::NoBlock => "no-block",
        }
    }

    /// Whether it can answer a request with or without streaming.
    pub(crate) fn fits(self, streaming: bool) -> bool {
        match self {
            Self::StreamForWhole => !streaming,
            Self::EmptyObject | Self::CodeMessage | Self::BaseResponse | Self::ErrorAsStream | Self::PageUnlabelled => true,
            _ => streaming,
        }
    }

    /// Whether the clients take it for an answer.
    pub(crate) fn is_answer(self) -> bool {
        self <= Self::UnnamedData
    }

    /// The response to a question, and the bytes of its body.
    pub(crate) fn script(self, question: Question, said: &str) -> (Script, Vec<u8>) {
        let events = question.rest(said).unwrap_or_default();
        let whole = || question.rest_whole(said).unwrap_or_default();
        match self {
            Self::StreamAsJson => stream(Some("application/json"), &events),
            Self::StreamAsText => stream(Some("text/plain; charset=utf-8"), &events),
            Self::StreamAsBytes => stream(Some("application/octet-stream"), &events),
            Self::StreamUnlabelled => stream(None, &events),
            Self::PlainPing => stream(SSE, &with(&events, "content_block_start", "ping", "still here")),
            Self::PlainPingInText => stream(SSE, &with(&events, "content_block_stop", "ping", "still here")),
            Self::UnknownEvent => stream(SSE, &with(&events, "content_block_start", "weather", "cloudy")),
            Self::UnnamedData => raw_stream(&events, "data: cloudy\n\n"),
            Self::ErrorAsStream => {
                body(Some("text/event-stream"), r#"{"type":"error","error":{"type":"overloaded_error","message":"scripted"}}"#)
            }
            Self::PageAsStream => body(Some("text/event-stream"), "<html><body>Sign in</body></html>"),
            Self::PageUnlabelled => body(None, "<html><body>Sign in</body></html>"),
            Self::UnnamedError => body(Some("text/event-stream"), "data: {\"message\":\"insufficient_user_quota\",\"code\":429}\n\n"),
            Self::EmptyObject => body(Some("application/json"), "{}"),
            Self::CodeMessage => body(Some("application/json"), r#"{"code":500,"msg":"nothing here","success":false}"#),
            Self::BaseResponse => {
                body(Some("application/json"), r#"{"base_resp":{"status_code":2056,"status_msg":"the window is used up"}}"#)
            }
            Self::StreamForWhole => stream(SSE, &events),
            Self::MessageForStream => body(Some("application/json"), &whole()),
            Self::NoMessageStart => stream(SSE, &events.into_iter().filter(|event| event.name != "message_start").collect::<Vec<_>>()),
            Self::NoBlock => stream(SSE, &events.into_iter().filter(|event| !event.name.starts_with("content_block_")).collect::<Vec<_>>()),
        }
    }
}

const SSE: Option<&str> = Some("text/event-stream; charset=utf-8");

/// The events with one more before the first of the name `before`.
fn with(events: &[Event], before: &str, name: &str, data: &str) -> Vec<Event> {
    let at = events.iter().position(|event| event.name == before).unwrap_or(events.len());
    let mut all = events.to_vec();
    all.insert(at, Event { name: name.to_owned(), data: data.to_owned() });
    all
}

fn head(label: Option<&str>) -> Script {
    let label = label.map(|label| ("Content-Type", label));
    let fields: Vec<(&str, &str)> = label.into_iter().chain([("Transfer-Encoding", "chunked")]).collect();
    Script::new().head(200, &fields)
}

fn stream(label: Option<&str>, events: &[Event]) -> (Script, Vec<u8>) {
    let sent = events.iter().flat_map(|event| event.bytes().to_vec()).collect();
    (head(label).events(events).end(), sent)
}

/// The events with these bytes behind the first.
fn raw_stream(events: &[Event], extra: &str) -> (Script, Vec<u8>) {
    let mut pieces: Vec<Vec<u8>> = events.iter().map(|event| event.bytes().to_vec()).collect();
    pieces.insert(1, extra.as_bytes().to_vec());
    let script = pieces.iter().fold(head(SSE), |script, piece| script.chunk(piece.clone()));
    (script.end(), pieces.concat())
}

fn body(label: Option<&str>, body: &str) -> (Script, Vec<u8>) {
    let fields: Vec<(&str, &str)> = label.map(|label| ("Content-Type", label)).into_iter().collect();
    (Script::new().body(200, &fields, body.to_owned()), body.as_bytes().to_vec())
}
