//! The ways in which the primary breaks, as scripts. Never says what should follow from them.

use std::time::Duration;

use hotspare_testkit::answers::{self, Position};
use hotspare_testkit::{Event, Script};

/// The primary's words: a client that has lost them has lost text.
pub(super) const FIRST: &str = "FIRST-PART of the answer.";

/// The spare's words.
pub(super) const SECOND: &str = "SECOND-PART from the spare.";

/// A break without a pause before it can make a client lose what it has already been sent (measured); real ones come later.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) fn healthy(words: &str) -> Script {
    Script::new().sse().events(&answers::text(words)).end()
}

pub(super) fn status(status: u16, kind: &str) -> Script {
    Script::error(status, kind, "scripted failure")
}

/// A subscription whose five-hour window is used up.
pub(super) fn quota() -> Script {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your account's rate limit."}}"#;
    Script::new().body(
        429,
        &[
            ("content-type", "application/json"),
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-reset", "4000000000"),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
            ("retry-after", "3600"),
        ],
        body,
    )
}

pub(super) fn html() -> Script {
    Script::new().body(200, &[("content-type", "text/html")], "<html><body>Sign in to the network</body></html>")
}

const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;

const API_ERROR: &str = r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#;

const BASH: &str = r#"{"command":"echo never","description":"Say never"}"#;

/// A refusal in Anthropic's shape with headers of its own.
pub(super) fn refusal(status: u16, kind: &str, message: &str, headers: &[(&str, &str)]) -> Script {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    let body = serde_json::json!({"type": "error", "error": {"type": kind, "message": message}});
    Script::new().body(status, &all, body.to_string())
}

/// A page of a middle box.
pub(super) fn bad_gateway() -> Script {
    Script::new().body(502, &[("content-type", "text/html")], "<html><body>502 Bad Gateway</body></html>")
}

pub(super) fn json_error_under_200() -> Script {
    Script::new().body(200, &[("content-type", "application/json")], API_ERROR)
}

/// A message, and no stream, where a stream was asked for.
pub(super) fn whole_message() -> Script {
    Script::new().body(200, &[("content-type", "application/json")], answers::message_json(FIRST))
}

pub(super) fn redirect() -> Script {
    Script::new().body(307, &[("location", "/elsewhere")], "")
}

/// A good head, and nothing of the message.
pub(super) fn head_alone() -> Script {
    Script::new().sse().sleep(PAUSE)
}

pub(super) fn message_start_alone() -> Script {
    started(&answers::text(FIRST), Position::AfterMessageStart).sleep(PAUSE)
}

pub(super) fn error_event(error: ErrorEvent) -> Script {
    started(&answers::text(FIRST), Position::AfterMessageStart).event("error", error.data()).end()
}

/// What an `error` event says.
#[derive(Debug, Clone, Copy)]
pub(super) enum ErrorEvent {
    Overloaded,
    Api,
}

impl ErrorEvent {
    fn data(self) -> &'static str {
        match self {
            Self::Overloaded => OVERLOADED,
            Self::Api => API_ERROR,
        }
    }
}

pub(super) fn error_in_first_text(error: ErrorEvent) -> Script {
    in_first_text().event("error", error.data()).end()
}

pub(super) fn error_after_text() -> Script {
    after_text().event("error", OVERLOADED).end()
}

/// No event stream at all, though the head says so.
pub(super) fn garbage() -> Script {
    Script::new().sse().event("message", "\u{1}garbage{").end()
}

/// Signs of life without any content.
pub(super) fn pings() -> Script {
    (0..40).fold(message_start_alone(), |script, _| script.event("ping", r#"{"type":"ping"}"#).sleep(PAUSE)).hang()
}

pub(super) fn comments() -> Script {
    (0..40).fold(message_start_alone(), |script, _| script.chunk(": alive\n\n").sleep(PAUSE)).hang()
}

pub(super) fn in_first_thinking() -> Script {
    started(&answers::thinking_text("A short thought.", "never said"), Position::InBlock(0)).sleep(PAUSE)
}

pub(super) fn after_thinking() -> Script {
    started(&answers::thinking_text("A short thought.", "never said"), Position::AfterBlock(0)).sleep(PAUSE)
}

pub(super) fn after_text() -> Script {
    started(&answers::text(FIRST), Position::AfterBlock(0)).sleep(PAUSE)
}

pub(super) fn in_tool_call_alone() -> Script {
    started(&answers::tool("Bash", BASH), Position::InBlock(0)).sleep(PAUSE)
}

/// The call is whole, the message is not: it must not be run.
pub(super) fn after_tool_call_alone() -> Script {
    started(&answers::tool("Bash", BASH), Position::AfterBlock(0)).sleep(PAUSE)
}

pub(super) fn after_text_and_tool_call() -> Script {
    started(&answers::text_tool(FIRST, "Bash", BASH), Position::AfterBlock(1)).sleep(PAUSE)
}

/// Everything that counts has come.
pub(super) fn before_message_stop() -> Script {
    started(&answers::text(FIRST), Position::BeforeMessageStop).sleep(PAUSE)
}

/// Comments, unknown events and fields, many pings: odd, and well.
pub(super) fn odd() -> Script {
    let odd = |script: Script| {
        script.chunk(": a comment\n\n").event("ping", r#"{"type":"ping"}"#).event("weather", r#"{"type":"weather","sky":"blue"}"#)
    };
    answers::text(FIRST).iter().fold(odd(Script::new().sse()), |script, event| odd(script.chunk(event.bytes()))).end()
}

fn started(events: &[Event], position: Position) -> Script {
    Script::new().sse().events(answers::upto(events, position))
}

pub(super) fn in_first_text() -> Script {
    started(&answers::text(FIRST), Position::InBlock(0)).sleep(PAUSE)
}

/// Thinking is closed; all of the text has come, and its block is still open.
pub(super) fn in_text_after_thinking() -> Script {
    let events = answers::thinking_text("A short thought.", FIRST);
    let whole_text = answers::upto(&events, Position::AfterBlock(1));
    Script::new().sse().events(&whole_text[..whole_text.len() - 1]).sleep(PAUSE)
}

/// The text is closed, and a tool call has begun.
pub(super) fn in_tool_call_after_text() -> Script {
    started(&answers::text_tool(FIRST, "Bash", BASH), Position::InBlock(1)).sleep(PAUSE)
}
