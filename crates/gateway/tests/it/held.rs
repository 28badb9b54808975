//! A good head is not a good answer: until the first content nothing has reached the client, and another profile may take over unseen.

use hotspare_testkit::answers::{Position, text, thinking_text, tool, upto};
use hotspare_testkit::{Event, Gate, Script};
use serde_json::json;

use crate::client::{Ask, Connection, End, INTERACTIVE, PRINT, PROGRAM};
use crate::proxy::{FROM_SPARE, Proxy, healthy, plays, together, wire};

fn breaks(script: &Script) -> Vec<(&'static str, Script)> {
    let error = |kind: &str| format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"m"}}}}"#);
    let event = |kind: &str| script.clone().event("error", &error(kind)).end();
    vec![
        ("RST", script.clone().rst()),
        ("FIN", script.clone().fin()),
        ("a proper end", script.clone().end()),
        ("half an event, then FIN", script.clone().chunk("event: content_block_start\ndata: {\"type\":\"content_bl").fin()),
        ("overloaded", event("overloaded_error")),
        ("api_error", event("api_error")),
        ("rate limit", event("rate_limit_error")),
        ("an error nobody knows", event("novel_error")),
        ("garbage", script.clone().event("message", "\u{1}garbage{").end()),
        ("silence", script.clone().hang()),
        ("pings without an end", (0..200).fold(script.clone(), |script, _| script.event("ping", r#"{"type":"ping"}"#)).hang()),
        ("comments without an end", (0..200).fold(script.clone(), |script, _| script.chunk(": alive\n\n")).hang()),
    ]
}

/// cc-switch #7425 #5545 #6672, better-ccflare #114 #344, ccflare #60, `CLIProxyAPI` #2189, teamclaude #391, litellm #24004.
#[tokio::test]
async fn r12_whatever_breaks_before_the_first_content_is_never_seen() {
    let events = text("never seen");
    let mut cells = Vec::new();
    let positions: [&[Event]; 3] = [&[], upto(&events, Position::AfterMessageStart), &events[..2]];
    for client in [INTERACTIVE, PRINT, PROGRAM] {
        for begun in positions {
            for (name, script) in breaks(&Script::new().sse().events(begun)) {
                let label = format!("{name} after {} events, {client}", begun.len());
                cells.push(async move {
                    let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
                    let clocks = json!({ "clocks": { "first_content": "300ms", "bytes_idle": "200ms" } });
                    let proxy = Proxy::pair_with(&primary.url(), &spare, &clocks).await;
                    let answer = proxy.ask(&Ask::turn().agent(client)).await;
                    assert_eq!((answer.status, answer.end, answer.profile()), (200, End::Whole, Some("spare")), "{label}");
                    assert_eq!(answer.text(), wire(&text(FROM_SPARE)), "{label}");
                    assert_eq!(primary.messages().len(), 1, "{label}");
                });
            }
        }
    }
    together(cells).await;
}

#[tokio::test]
async fn a_break_at_any_byte_before_the_first_content_is_never_seen() {
    let script = Script::new().sse().events(&text("never seen")[..2]);
    let spare = healthy(FROM_SPARE).await;
    for bytes in 1..=script.wire_len() {
        for script in [script.clone().truncate_after(bytes), script.clone().reset_after(bytes)] {
            let primary = plays(script.hang()).await;
            let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
            assert_eq!((answer.end, answer.profile()), (End::Whole, Some("spare")), "cut after {bytes} bytes");
        }
    }
}

#[tokio::test]
async fn an_error_that_comes_along_with_the_first_content_is_not_seen_either() {
    let mut burst = wire(upto(&text("never seen"), Position::InBlock(0)));
    burst += "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
    let (primary, spare) = (plays(Script::new().sse().chunk(burst).end()).await, healthy(FROM_SPARE).await);
    let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
    assert_eq!((answer.end, answer.profile()), (End::Whole, Some("spare")));
}

/// The request's own fault, or what the primary alone minds, told inside a stream: the client heals itself on the provider's words.
#[tokio::test]
async fn the_request_s_own_fault_in_a_stream_is_relayed_as_it_came() {
    let own = r#"{"type":"error",  "error":{"type":"invalid_request_error","message":"messages: at least one message is required"}}"#;
    let bound = r#"{"type":"error",  "error":{"type":"invalid_request_error","message":"messages.1.content.0: Invalid `signature` in `thinking` block"}}"#;
    for (error, begun) in [(own, &[][..]), (own, &text("never")[..2]), (bound, &[]), (bound, &text("never")[..2])] {
        let script = Script::new().sse().events(begun).event("error", error).end();
        let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
        let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.profile(), spare.connections()), (200, Some("primary"), 0));
        assert!(answer.text().ends_with(&format!("event: error\ndata: {error}\n\n")), "{}", answer.text());
    }
}

/// A spare's refusal means "not here", also inside a stream, and also where it speaks of the request.
#[tokio::test]
async fn spare_s_refusal_in_a_stream_goes_on_to_the_next() {
    for message in
        ["messages.1.content.0: Invalid `signature` in `thinking` block", "messages: at least one message is required", "flagged"]
    {
        let refusal = serde_json::json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).to_string();
        let spare = plays(Script::new().sse().event("error", &refusal).end()).await;
        let primary = plays(Script::error(529, "overloaded_error", "busy")).await;
        let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
        assert_eq!((answer.status, spare.messages().len()), (529, 1), "{message}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_first_block_of_any_kind_lets_the_answer_go() {
    for events in [text("words"), thinking_text("a thought", "words"), tool("Bash", r#"{"command":"ls"}"#)] {
        let gate = Gate::new();
        let at = events.iter().position(|event| event.name == "content_block_start").expect("a block") + 1;
        let script = Script::new().sse().events(&events[..at]).gate(&gate).events(&events[at..]).end();
        let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair(&primary, &spare).await;
        let mut connection = Connection::open(proxy.addr).await;
        connection.ask(&Ask::turn()).await;
        connection.wait_for("content_block_start").await;
        gate.open();
        assert_eq!(connection.answer().await.text(), wire(&events));
    }
}

#[tokio::test]
async fn what_is_held_has_a_bound() {
    let comment = format!(": {}\n\n", "x".repeat(32 * 1024));
    let gate = Gate::new();
    // Twelve times 32 KiB without any content: more than is ever held.
    let script = (0..12).fold(Script::new().sse(), |script, _| script.chunk(comment.clone())).gate(&gate).events(&text("late")).end();
    let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    let mut connection = Connection::open(proxy.addr).await;
    connection.ask(&Ask::turn()).await;
    connection.wait_for("xxxx\n\n").await;
    gate.open();
    let answer = connection.answer().await;
    assert_eq!((answer.end, answer.profile()), (End::Whole, Some("primary")));
    assert_eq!(answer.text(), comment.repeat(12) + &wire(&text("late")));
}
