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

pub(super) fn error_event() -> Script {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    started(&answers::text(FIRST), Position::AfterMessageStart).event("error", error).end()
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
    started(&answers::text_tool(FIRST, "Bash", r#"{"command":"echo never","description":"Say never"}"#), Position::InBlock(1)).sleep(PAUSE)
}
