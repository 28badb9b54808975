//! An answer is what the client takes as one: judged by its bytes, and by the events that the client reads, never by its label.
//!
//! What the client takes was measured with Claude Code 2.1.332 (`-p`) against a scripted upstream.

use std::io::Write;

use bytes::Bytes;
use hotspare_testkit::answers::{Position, message_json, text, text_tool, upto};
use hotspare_testkit::{Event, Script, Upstream};
use serde_json::{Value, json};

use crate::client::{Answer, Ask, End, INTERACTIVE, PRINT, PROGRAM, STREAMED, WHOLE};
use crate::proxy::{COUNT, FROM_SPARE, Proxy, SPARE_KEY, healthy, plays, together, wire};

/// Labels under which providers and what stands before them send an event stream.
const LABELS: [Option<&str>; 10] = [
    None,
    Some("application/json"),
    Some("text/plain; charset=utf-8"),
    Some("text/html"),
    Some("application/octet-stream"),
    Some("application/x-ndjson"),
    Some("Text/Event-Stream"),
    Some("text/event-stream; charset=iso-8859-1"),
    Some(""),
    Some("nonsense"),
];

/// A chunked body under any status and label.
fn labelled(status: u16, label: Option<&str>, body: impl Into<Bytes>) -> Script {
    let mut fields = vec![("Transfer-Encoding", "chunked")];
    fields.extend(label.map(|label| ("Content-Type", label)));
    Script::new().head(status, &fields).chunk(body).end()
}

fn sse(body: impl Into<Bytes>) -> Script {
    labelled(200, Some("text/event-stream"), body)
}

fn json_body(body: impl Into<Bytes>) -> Script {
    labelled(200, Some("application/json"), body)
}

fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn start() -> String {
    wire(upto(&text("x"), Position::AfterMessageStart))
}

/// The end of an answer, with the tokens that it counts.
fn ending(reason: &str, tokens: u32) -> String {
    let delta =
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": tokens}});
    event("message_delta", &delta.to_string()) + &event("message_stop", r#"{"type":"message_stop"}"#)
}

fn empty_message(reason: &str, tokens: u32) -> String {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5", "content": [], "stop_reason": reason,
        "usage": {"input_tokens": 9, "output_tokens": tokens},
    })
    .to_string()
}

fn gzip(text: &str) -> Bytes {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).expect("in memory");
    packed.finish().expect("in memory").into()
}

fn counting() -> Ask {
    Ask { target: "/v1/messages/count_tokens?beta=true".into(), ..Ask::turn().body(WHOLE) }
}

/// Asks a pair of which the primary plays this.
async fn pair_answers(script: Script, ask: &Ask) -> (Answer, Upstream) {
    let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
    let answer = Proxy::pair(&primary, &spare).await.ask(ask).await;
    (answer, spare)
}

async fn lone_answers(script: Script, ask: &Ask) -> Answer {
    Proxy::lone(&plays(script).await).await.ask(ask).await
}

#[track_caller]
fn is_the_primary_s(name: &str, answer: &Answer, body: impl AsRef<[u8]>) {
    assert_eq!((answer.profile(), answer.end), (Some("primary"), End::Whole), "{name}: {}", answer.text());
    assert!(answer.body == body.as_ref(), "{name}: {}", answer.text());
}

#[track_caller]
fn is_the_spare_s(name: &str, answer: &Answer, body: &str) {
    assert_eq!((answer.status, answer.profile(), answer.end), (200, Some("spare"), End::Whole), "{name}: {}", answer.text());
    assert_eq!(answer.text(), body, "{name}");
}

/// Gateways label their streams `application/json` or `text/plain`; Claude Code does not look at the label.
#[tokio::test]
async fn field_06_stream_passes_under_any_label() {
    let body = wire(&text_tool("I look.", "Bash", r#"{"command":"ls"}"#));
    let mut cells = Vec::new();
    for client in [INTERACTIVE, PRINT, PROGRAM] {
        for label in LABELS {
            let (script, body) = (labelled(200, label, body.clone()), body.clone());
            cells.push(async move {
                let name = format!("{label:?} to {client}");
                let ask = Ask::turn().agent(client);
                let (answer, spare) = pair_answers(script.clone(), &ask).await;
                is_the_primary_s(&name, &answer, &body);
                assert_eq!(answer.header("content-type"), label, "{name}");
                assert_eq!(spare.connections(), 0, "{name}");
                is_the_primary_s(&name, &lone_answers(script, &ask).await, &body);
            });
        }
    }
    together(cells).await;
}

#[tokio::test]
async fn stream_passes_under_any_good_status() {
    let body = wire(&text("words"));
    for status in [200, 201, 202, 203, 206, 299] {
        let (answer, _) = pair_answers(labelled(status, Some("text/event-stream"), body.clone()), &Ask::turn()).await;
        assert_eq!(answer.status, status);
        is_the_primary_s(&status.to_string(), &answer, &body);
    }
}

/// Every way to begin a stream that the client's SDK reads.
#[tokio::test]
async fn stream_is_read_however_it_begins() {
    let plain = wire(&text("words"));
    let openings = [
        format!("\u{feff}{plain}"),
        format!("\n\n\r\n{plain}"),
        format!(": keep-alive\n\n: another\n{plain}"),
        format!("id: 1\nretry: 3000\n{plain}"),
        format!("hello world\n{plain}"),
        format!("foo: bar\n\n{plain}"),
        plain.replace('\n', "\r\n"),
        plain.replace('\n', "\r"),
        plain.replace("data: ", "data:").replace("event: ", "event:"),
        // The name of an event need not be that of its type.
        plain.lines().map(|line| if line.starts_with("event: ") { "event: message\n".to_owned() } else { format!("{line}\n") }).collect(),
    ];
    let mut cells = Vec::new();
    for body in openings {
        for label in [Some("text/event-stream"), Some("application/json"), None] {
            let body = body.clone();
            cells.push(async move {
                let (answer, _) = pair_answers(labelled(200, label, body.clone()), &Ask::turn()).await;
                is_the_primary_s(&format!("{label:?} {body:?}"), &answer, &body);
            });
        }
    }
    together(cells).await;
}

#[tokio::test]
async fn stream_split_at_any_byte_is_recognised() {
    let body = format!("\u{feff}\r\n{}", wire(&text("words")));
    let primary = {
        let body = Bytes::from(body.clone());
        let play = move |request: &hotspare_testkit::Received| {
            let at = request.header("x-split").and_then(|at| at.parse().ok()).unwrap_or(0);
            let (before, after) = (body.slice(..at), body.slice(at..));
            let fields = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
            Script::new().head(200, &fields).chunk(before).chunk(after).end()
        };
        Upstream::start(play).await.expect("started")
    };
    let proxy = Proxy::pair(&primary, &healthy(FROM_SPARE).await).await;
    for at in 1..body.len() {
        let answer = proxy.ask(&Ask::turn().header("x-split", &at.to_string())).await;
        is_the_primary_s(&format!("split at {at}"), &answer, &body);
    }
}

/// A ping whose data is not JSON, and other events that the client does not parse, whatever they hold.
#[tokio::test]
async fn field_07_events_that_the_client_skips_never_harm() {
    let skipped = [
        event("ping", "ping"),
        event("ping", ""),
        event("ping", "{"),
        event("keepalive", "not JSON"),
        event("OPENROUTER", "[1"),
        "event: heartbeat\n\n".to_owned(),
        "data: x\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
        "data: {\"choices\":[]}\n\n".to_owned(),
        event("message_delta", "[]"),
        event("message_delta", r#"{"type":"something_new"}"#),
    ];
    let events: Vec<String> = text("words").iter().map(|event| String::from_utf8_lossy(&event.bytes()).into_owned()).collect();
    let mut cells = Vec::new();
    for odd in skipped {
        for place in 0..=events.len() {
            let body = [&events[..place], std::slice::from_ref(&odd), &events[place..]].concat().concat();
            cells.push(async move {
                let (answer, _) = pair_answers(sse(body.clone()), &Ask::turn()).await;
                is_the_primary_s(&format!("at {place}: {body}"), &answer, &body);
            });
        }
    }
    together(cells).await;
}

#[tokio::test]
async fn stream_with_trailers_passes() {
    let fields = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), ("Trailer", "X-Checksum")];
    let script = Script::new().head(200, &fields).events(&text("words")).raw("0\r\nX-Checksum: 1\r\n\r\n");
    let (answer, _) = pair_answers(script, &Ask::turn()).await;
    is_the_primary_s("trailers", &answer, wire(&text("words")));
}

/// What a request for a stream cannot be answered with. Each ended the client's turn, or cost it a second request, without hotspare.
fn no_streams() -> Vec<(&'static str, Script)> {
    let named = wire(&text("words"));
    let nameless: String = named.lines().filter(|line| !line.starts_with("event:")).map(|line| format!("{line}\n")).collect();
    let typeless =
        named.replace("\"type\":\"message_", "\"kind\":\"message_").replace("\"type\":\"content_block_", "\"kind\":\"content_block_");
    let block = wire(&text("words")[1..]);
    let delta: String =
        text("words").iter().filter(|event| event.name == "content_block_delta").map(|event| wire(std::slice::from_ref(event))).collect();
    vec![
        ("an error", sse(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#)),
        ("a code", sse(r#"{"code":500,"msg":"404 NOT_FOUND","success":false}"#)),
        ("a base_resp", json_body(r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#)),
        ("a web page", sse("<!DOCTYPE html><html>Sign in</html>")),
        ("a web page without an end", Script::new().sse().chunk("\n<html>").hang()),
        ("a whole message", sse(message_json("whole"))),
        ("a whole message behind white space", json_body(format!("\n\n  {}", message_json("whole")))),
        ("a list", sse("[]")),
        ("an empty object", sse("{}")),
        ("a string", sse("\"words\"")),
        ("words", sse("upstream connect error")),
        ("nothing", Script::new().head(200, &[("Transfer-Encoding", "chunked")]).end()),
        ("a length of nothing", Script::new().body(200, &[("Content-Type", "text/event-stream")], "")),
        ("204", Script::new().head(204, &[])),
        ("events of JSON lines", json_body(named.lines().filter_map(|line| line.strip_prefix("data: ")).collect::<Vec<_>>().join("\n"))),
        ("events without a name", sse(nameless)),
        ("events without a type", sse(typeless)),
        ("pings alone", sse(event("ping", "{}").repeat(3))),
        ("no start", sse(block)),
        ("no block", sse(start() + &delta + &ending("end_turn", 7))),
        ("a start and an end", sse(start() + &event("message_stop", r#"{"type":"message_stop"}"#))),
        ("an event that is not JSON", sse(start() + &event("content_block_start", "{oops") + &wire(&text("words")[1..]))),
        ("an event that is null", sse(start() + &event("content_block_start", "null") + &wire(&text("words")[1..]))),
        ("an error that is not JSON", sse(start() + &event("error", "oops"))),
        (
            "a stream labelled gzip",
            Script::new()
                .head(200, &[("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked"), ("Content-Type", "text/event-stream")])
                .chunk(named.clone())
                .end(),
        ),
        (
            "a stream labelled zstd",
            Script::new().head(200, &[("Content-Encoding", "zstd"), ("Transfer-Encoding", "chunked")]).chunk(named).end(),
        ),
    ]
}

#[tokio::test]
async fn what_is_not_a_stream_goes_to_the_spare() {
    let cells = no_streams().into_iter().map(|(name, script)| async move {
        let (answer, _) = pair_answers(script, &Ask::turn()).await;
        is_the_spare_s(name, &answer, &wire(&text(FROM_SPARE)));
    });
    together(cells.collect()).await;
}

/// What a request for a whole answer cannot be answered with.
fn no_messages() -> Vec<(&'static str, Script)> {
    let message = message_json("whole");
    vec![
        ("a stream", sse(wire(&text("words")))),
        ("a stream labelled JSON", json_body(wire(&text("words")))),
        ("a stream without an end", Script::new().sse().events(&text("words")[..3]).hang()),
        ("a code", json_body(r#"{"code":500,"msg":"404 NOT_FOUND","success":false}"#)),
        ("a base_resp", json_body(r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#)),
        ("an empty object", json_body("{}")),
        ("a list", json_body("[]")),
        ("a list of messages", json_body(format!("[{message}]"))),
        ("a string", json_body("\"words\"")),
        ("null", json_body("null")),
        ("a web page", json_body("<html></html>")),
        ("words", json_body("upstream connect error")),
        ("a count", json_body(COUNT)),
        ("content that is null", json_body(r#"{"content":null,"usage":{}}"#)),
        ("content that is text", json_body(r#"{"content":"words","usage":{}}"#)),
        ("a message without usage", json_body(r#"{"content":[{"type":"text","text":"words"}]}"#)),
        ("a message that breaks off", json_body(message[..message.len() - 9].to_owned())),
        ("204", Script::new().head(204, &[])),
        (
            "a message labelled gzip",
            Script::new().body(200, &[("Content-Encoding", "gzip"), ("Content-Type", "application/json")], message),
        ),
    ]
}

/// A request without streaming answered 200 with an event stream, or with JSON that is no message: the client ends the turn on either.
#[tokio::test]
async fn field_05_what_is_not_a_message_goes_to_the_spare() {
    let cells = no_messages().into_iter().map(|(name, script)| async move {
        let ask = Ask::turn().body(WHOLE).header("anthropic-test-wants", "whole");
        let (answer, _) = pair_answers(script, &ask).await;
        is_the_spare_s(name, &answer, &message_json(FROM_SPARE));
    });
    together(cells.collect()).await;
}

#[tokio::test]
async fn message_passes_under_any_label() {
    let message = message_json("whole");
    let odd = ["application/problem+json", "Application/JSON", "application/json; charset=utf-8", "text/event-stream"];
    for label in LABELS.into_iter().chain(odd.map(Some)) {
        for body in [message.clone(), format!("\u{feff}{message}"), format!("\n {message}\n")] {
            for status in [200, 201, 206] {
                let (answer, _) = pair_answers(labelled(status, label, body.clone()), &Ask::turn().body(WHOLE)).await;
                is_the_primary_s(&format!("{label:?}"), &answer, &body);
            }
        }
    }
}

/// The client's wish is read from a packed request too.
#[tokio::test]
async fn packed_request_for_a_stream_is_understood() {
    let ask = Ask::turn().header("Content-Encoding", "gzip").body(gzip(STREAMED));
    let (answer, _) = pair_answers(json_body(message_json("whole")), &ask).await;
    is_the_spare_s("a message", &answer, &wire(&text(FROM_SPARE)));
    let ask = Ask::turn().header("Content-Encoding", "gzip").body(gzip(WHOLE)).header("anthropic-test-wants", "whole");
    let (answer, _) = pair_answers(sse(wire(&text("words"))), &ask).await;
    is_the_spare_s("a stream", &answer, &message_json(FROM_SPARE));
}

#[tokio::test]
async fn packed_message_passes() {
    let packed = gzip(&message_json("whole"));
    let fields = [("Content-Encoding", "gzip"), ("Content-Type", "application/json")];
    let (answer, _) = pair_answers(Script::new().body(200, &fields, packed.clone()), &Ask::turn().body(WHOLE)).await;
    is_the_primary_s("gzip", &answer, &packed);
}

#[tokio::test]
async fn packed_stream_passes_as_it_is() {
    let packed = gzip(&wire(&text("words")));
    for label in ["text/event-stream", "application/json", "text/plain"] {
        let fields = [("Content-Encoding", "gzip"), ("Content-Type", label)];
        let (answer, _) = pair_answers(Script::new().body(200, &fields, packed.clone()), &Ask::turn()).await;
        is_the_primary_s(label, &answer, &packed);
    }
}

#[tokio::test]
async fn what_is_not_a_count_goes_to_the_spare() {
    for body in ["{}", "[]", "42", r#"{"code":500}"#, r#"{"input_tokens":null}"#, &message_json("x"), "<html>", "event: ping\ndata: {}\n\n"]
    {
        let (answer, _) = pair_answers(json_body(body.to_owned()), &counting()).await;
        is_the_spare_s(body, &answer, COUNT);
    }
    for label in [None, Some("text/plain")] {
        let (answer, _) = pair_answers(labelled(200, label, COUNT), &counting()).await;
        is_the_primary_s("a count", &answer, COUNT);
    }
}

/// A profile without a spare: the client gets what it would get without hotspare, and does what it would do.
#[tokio::test]
async fn lone_profile_s_odd_answers_pass_as_they_came() {
    const SSE: Option<&str> = Some("text/event-stream");
    const JSON: Option<&str> = Some("application/json");
    let bodies = [
        (SSE, message_json("whole")),
        (JSON, message_json("whole")),
        (SSE, "<html>Sign in</html>".to_owned()),
        (JSON, "{\"code\":500,\"msg\":\"x\"}".to_owned()),
        (JSON, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#.to_owned()),
        (JSON, "[]".to_owned()),
        (JSON, String::new()),
        (SSE, event("ping", "{}")),
        (SSE, "data: {\"type\":\"message_start\"}\n\n".to_owned()),
        (SSE, start() + &ending("end_turn", 7)),
        (SSE, start() + &event("content_block_start", "{oops") + &wire(&text("words")[1..])),
        (SSE, wire(&text("words")[1..])),
    ];
    for (label, body) in bodies {
        let script = if body.is_empty() { Script::new().body(200, &[], "") } else { labelled(200, label, body.clone()) };
        let answer = lone_answers(script, &Ask::turn()).await;
        assert_eq!((answer.status, answer.end, answer.text()), (200, End::Whole, body));
    }
    let answer = lone_answers(sse(wire(&text("words"))), &Ask::turn().body(WHOLE)).await;
    assert_eq!((answer.status, answer.text()), (200, wire(&text("words"))));
}

/// A gateway that cannot stream works for Claude Code, which asks again without a stream; where its spare is of no use, it goes on doing so.
#[tokio::test]
async fn whole_message_passes_where_no_spare_is_usable() {
    let (primary, spare) = (plays(json_body(message_json("whole"))).await, plays(Script::error(401, "authentication_error", "no")).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    proxy.ask(&Ask::turn()).await;
    let answer = proxy.ask(&Ask::turn()).await;
    is_the_primary_s("whole", &answer, message_json("whole"));
}

async fn three(primary: &Upstream, first: &Upstream, second: &Upstream) -> Proxy {
    let spare = |upstream: &Upstream| json!({ "base_url": upstream.url(), "auth": { "value": SPARE_KEY } });
    let profiles: Value = json!({ "primary": { "base_url": primary.url() }, "first": spare(first), "spare": spare(second) });
    Proxy::start(
        &json!({ "failover_policy": { "primary_profile": "primary", "secondary_profile": ["first", "spare"] }, "profiles": profiles }),
    )
    .await
}

#[tokio::test]
async fn spare_s_empty_answer_goes_to_the_next() {
    for (streamed_body, whole_body) in [
        (start() + &ending("end_turn", 0), empty_message("end_turn", 0)),
        (start() + &ending("end_turn", 2), empty_message("end_turn", 2)),
        (start() + &ending("end_turn", 7), empty_message("end_turn", 7)),
        (start() + &ending("tool_use", 7), empty_message("tool_use", 7)),
        (start() + &ending("network_error", 1), empty_message("network_error", 1)),
    ] {
        let primary = plays(Script::error(529, "overloaded_error", "busy")).await;
        let last = healthy(FROM_SPARE).await;
        let (first, name) = (plays(sse(streamed_body.clone())).await, &*streamed_body);
        is_the_spare_s(name, &three(&primary, &first, &last).await.ask(&Ask::turn()).await, &wire(&text(FROM_SPARE)));
        let first = plays(json_body(whole_body)).await;
        let ask = Ask::turn().body(WHOLE).header("anthropic-test-wants", "whole");
        is_the_spare_s(name, &three(&primary, &first, &last).await.ask(&ask).await, &message_json(FROM_SPARE));
    }
}

/// An empty turn of two or three tokens is one that the model meant, and that Claude Code asks for at times. More tokens without a block, or
/// none at all, are an answer that was lost.
#[tokio::test]
async fn primary_s_empty_answer_passes_only_if_it_was_meant() {
    for (reason, tokens, passes) in [
        ("end_turn", 1, true),
        ("end_turn", 3, true),
        ("refusal", 0, true),
        ("max_tokens", 0, true),
        ("stop_sequence", 1, true),
        ("pause_turn", 9, true),
        ("model_context_window_exceeded", 0, true),
        ("end_turn", 0, false),
        ("end_turn", 90, false),
        ("tool_use", 2, false),
        ("network_error", 2, false),
    ] {
        let name = format!("{reason} with {tokens} tokens");
        let body = start() + &ending(reason, tokens);
        let (answer, _) = pair_answers(sse(body.clone()), &Ask::turn()).await;
        let message = empty_message(reason, tokens);
        let ask = Ask::turn().body(WHOLE).header("anthropic-test-wants", "whole");
        let (whole, _) = pair_answers(json_body(message.clone()), &ask).await;
        if passes {
            is_the_primary_s(&name, &answer, &body);
            is_the_primary_s(&name, &whole, &message);
        } else {
            is_the_spare_s(&name, &answer, &wire(&text(FROM_SPARE)));
            is_the_spare_s(&name, &whole, &message_json(FROM_SPARE));
        }
    }
}

#[tokio::test]
async fn spare_s_refusal_passes() {
    let body = start() + &ending("refusal", 0);
    let (primary, spare) = (plays(Script::error(529, "overloaded_error", "busy")).await, plays(sse(body.clone())).await);
    let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
    is_the_spare_s("refusal", &answer, &body);
}

/// Claude Code shows an error in place of the rest when an event is not JSON: it never gets to see it.
#[tokio::test]
async fn malformed_event_in_a_flowing_answer_is_a_break() {
    let events: Vec<Event> = upto(&text("words that come"), Position::InBlock(0)).to_vec();
    let script = Script::new().sse().events(&events).event("content_block_delta", "{oops").events(&text("x")[3..]).end();
    let (primary, spare) = (plays(script.clone()).await, healthy(FROM_SPARE).await);
    let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
    assert_eq!((answer.end, answer.text()), (End::Cut, wire(&events)), "the client sends it again");
    let lone = lone_answers(script, &Ask::turn()).await;
    assert_eq!((lone.end, lone.text()), (End::Cut, wire(&events)));
}

#[tokio::test]
async fn malformed_event_behind_a_whole_answer_harms_nothing() {
    let events = text("words");
    let body = wire(&events[..events.len() - 1]) + &event("message_stop", "oops");
    let (answer, _) = pair_answers(sse(body), &Ask::turn()).await;
    is_the_primary_s("a bad end", &answer, wire(&events[..events.len() - 1]));
}
