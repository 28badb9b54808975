//! The answer breaks after the client has begun to read it: it is cut without a proper end, or handed back, as position and client want it
//! (failover.md section 3). No byte of another upstream follows, and no end is made up but the hand back.

use std::time::Duration;

use hotspare_testkit::answers::{Position, text, text_tool, thinking_text, tool, upto};
use hotspare_testkit::{Event, Gate, Script, Upstream};
use serde_json::{Value, json};

use crate::client::{Answer, Ask, Connection, End, INTERACTIVE, PRINT, PROGRAM, WHOLE};
use crate::proxy::{FROM_SPARE, Proxy, healthy, plays, together, wire};

const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// What the client is to see of a broken answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// A part, and no proper end.
    Cut,
    /// A part, then the end that makes Claude Code ask for the rest.
    HandBack,
    /// Everything that came, and a proper end.
    Complete,
}

fn ways_to_break(script: &Script) -> Vec<(&'static str, Script)> {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
    // A break on the heels of the last bytes may overtake them: the provider waits until they are through.
    let script = script.clone().sleep(Duration::from_millis(30));
    vec![
        ("RST", script.clone().rst()),
        ("FIN", script.clone().fin()),
        ("a proper end", script.clone().end()),
        ("half an event, then FIN", script.clone().chunk("event: content_block_delta\ndata: {\"ty").fin()),
        ("half a chunk", script.clone().raw("ff\r\nevent: ping").fin()),
        ("an error event", script.clone().event("error", error).end()),
        ("silence", script.clone().hang()),
        ("pings without an end", (0..50).fold(script, |script, _| script.event("ping", r#"{"type":"ping"}"#)).hang()),
    ]
}

fn clocks() -> Value {
    json!({ "clocks": { "bytes_idle": "300ms", "content_idle": "400ms" } })
}

/// The events that may have reached the client, as its own grammar sees them.
fn seen(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

/// The answer is what came from the provider, and after it what we made up: nothing, or a hand back.
#[track_caller]
fn check(label: &str, answer: &Answer, came: &[Event], expect: Expect) {
    let came = wire(came);
    let text = answer.text();
    match expect {
        // Behind the stop reason nothing can do harm: half an event and pings pass, an error does not.
        Expect::Complete => assert!(text.starts_with(&came) && answer.end == End::Whole, "{label}: {text}"),
        Expect::Cut => {
            assert_eq!(answer.end, End::Cut, "{label}: {text}");
            assert_eq!(text.replace(PING, ""), came.replace(PING, ""), "{label}");
        }
        Expect::HandBack => {
            assert_eq!(answer.end, End::Whole, "{label}: {text}");
            let events = seen(answer);
            let [.., delta, stop] = &events[..] else { panic!("{label}: {text}") };
            assert_eq!(delta["delta"]["stop_reason"], "max_tokens", "{label}");
            assert_eq!(stop["type"], "message_stop", "{label}");
            grammatical(label, &events);
        }
    }
    assert!(text.matches("message_start\"").count() <= 1, "{label}: {text}");
    assert!(!text.contains(FROM_SPARE) && !text.contains("overloaded_error"), "{label}: {text}");
}

/// A text block is never left open, and an open tool call is never closed for it.
#[track_caller]
fn grammatical(label: &str, events: &[Value]) {
    let mut open: Option<(u64, String)> = None;
    let mut next = 0;
    for event in events {
        match event["type"].as_str().expect("a type") {
            "content_block_start" => {
                assert_eq!(event["index"], next, "{label}");
                next += 1;
                open = Some((next - 1, event["content_block"]["type"].as_str().expect("a type").to_owned()));
            }
            "content_block_stop" => {
                let (index, kind) = open.take().unwrap_or_else(|| panic!("{label}: no block is open"));
                assert_eq!(event["index"], index, "{label}");
                assert_ne!(kind, "tool_use", "{label}: a cut tool call would be run");
            }
            "message_delta" => assert!(open.as_ref().is_none_or(|(_, kind)| kind == "tool_use"), "{label}: {open:?} is left open"),
            _ => {}
        }
    }
}

/// A place in an answer, and what the interactive client is to see of a break there.
#[derive(Clone)]
struct Place {
    name: &'static str,
    /// What comes from the provider.
    came: Vec<Event>,
    /// How much of it reaches the client: the end of a tool call waits for the message's own.
    visible: usize,
    expect: Expect,
}

fn places() -> Vec<Place> {
    let words = text("First words and some more of them.");
    let thought = thinking_text("A thought.", "Then words, some of them.");
    let call = text_tool("I look.", "Bash", r#"{"command":"ls"}"#);
    let bare = tool("Bash", r#"{"command":"ls"}"#);
    let place = |name, events: &[Event], position, expect| {
        let came = upto(events, position).to_vec();
        Place { name, visible: came.len(), came, expect }
    };
    let withheld = |name, events: &[Event], position, expect| {
        let place = place(name, events, position, expect);
        Place { visible: place.visible - 1, ..place }
    };
    vec![
        place("a text block has begun", &words, Position::AfterBlockStart(0), Expect::Cut),
        place("in the first text block", &words, Position::InBlock(0), Expect::Cut),
        place("after a text block", &words, Position::AfterBlock(0), Expect::HandBack),
        place("before message_stop", &words, Position::BeforeMessageStop, Expect::Complete),
        place("in a thinking block", &thought, Position::InBlock(0), Expect::Cut),
        place("after thinking alone", &thought, Position::AfterBlock(0), Expect::Cut),
        place("text not begun after thinking", &thought, Position::AfterBlockStart(1), Expect::Cut),
        place("in text after thinking", &thought, Position::InBlock(1), Expect::HandBack),
        place("after thinking and text", &thought, Position::AfterBlock(1), Expect::HandBack),
        place("a tool call has begun after text", &call, Position::AfterBlockStart(1), Expect::HandBack),
        place("in a tool call after text", &call, Position::InBlock(1), Expect::HandBack),
        withheld("after text and a tool call", &call, Position::AfterBlock(1), Expect::HandBack),
        place("the stop reason of a tool call has come", &call, Position::BeforeMessageStop, Expect::Complete),
        place("in a tool call alone", &bare, Position::InBlock(0), Expect::Cut),
        withheld("after a tool call alone", &bare, Position::AfterBlock(0), Expect::Cut),
    ]
}

/// `CLIProxyAPI` #4884, Portkey #1797, routatic #59, litellm #40404: a broken or stalled answer that ended as if it were whole.
#[tokio::test]
async fn r15_r16_r19_the_interactive_client_sees_a_cut_or_a_hand_back_by_position() {
    let mut cells = Vec::new();
    for place in places() {
        for (way, script) in ways_to_break(&Script::new().sse().events(&place.came)) {
            let place = place.clone();
            cells.push(async move {
                let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
                let proxy = Proxy::pair_with(&primary.url(), &spare, &clocks()).await;
                let answer = proxy.ask(&Ask::turn().agent(INTERACTIVE)).await;
                let label = format!("{way} {}", place.name);
                check(&label, &answer, &place.came[..place.visible], place.expect);
                assert_eq!((answer.status, answer.profile(), spare.connections()), (200, Some("primary"), 0), "{label}");
            });
        }
    }
    together(cells).await;
}

/// routatic #59, Portkey #1797: the wrong ending for this client.
/// With nobody to resume from: a program is never lied to, `claude -p` asks for the rest of what it has.
#[tokio::test]
async fn r16_programs_are_cut_and_print_mode_keeps_its_first_part() {
    let mut cells = Vec::new();
    for place in places() {
        for (way, script) in ways_to_break(&Script::new().sse().events(&place.came)) {
            for client in [PRINT, PROGRAM] {
                let (place, script) = (place.clone(), script.clone());
                cells.push(async move {
                    let primary = plays(script).await;
                    let answer = Proxy::start(&lone(&primary)).await.ask(&Ask::turn().agent(client)).await;
                    let label = format!("{way} {}, {client}", place.name);
                    // To a program every byte goes live.
                    let visible = if client == PROGRAM { &place.came[..] } else { &place.came[..place.visible] };
                    let cut = client == PROGRAM && place.expect == Expect::HandBack;
                    check(&label, &answer, visible, if cut { Expect::Cut } else { place.expect });
                });
            }
        }
    }
    together(cells).await;
}

fn lone(primary: &Upstream) -> Value {
    json!({
        "failover_policy": { "primary_profile": "primary", "clocks": clocks()["clocks"] },
        "profiles": { "primary": { "base_url": primary.url() } },
    })
}

#[tokio::test]
async fn mid_stream_cut_always_cuts() {
    for place in places() {
        let script = Script::new().sse().events(&place.came).sleep(Duration::from_millis(30)).fin();
        let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair_with(&primary.url(), &spare, &json!({ "mid_stream": "cut" })).await;
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!(answer.end, if place.expect == Expect::Complete { End::Whole } else { End::Cut }, "{}", place.name);
        assert!(!answer.text().contains("max_tokens"), "{}", place.name);
    }
}

#[tokio::test]
async fn a_tool_call_streams_live_but_its_end_waits_for_the_message_s_own() {
    let events = text_tool("I look.", "Bash", r#"{"command":"ls"}"#);
    let (call_done, over) = (Gate::new(), Gate::new());
    let at = upto(&events, Position::AfterBlock(1)).len();
    let script = Script::new()
        .sse()
        .events(&events[..at])
        .gate(&call_done)
        .event("ping", r#"{"type":"ping","n":1}"#)
        .gate(&over)
        .events(&events[at..])
        .end();
    let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    let mut connection = Connection::open(proxy.addr).await;
    connection.ask(&Ask::turn()).await;
    connection.wait_for(&events[at - 2].data).await;
    call_done.open();
    over.open();
    let mut expected = wire(&events[..at]);
    expected += "event: ping\ndata: {\"type\":\"ping\",\"n\":1}\n\n";
    expected += &wire(&events[at..]);
    assert_eq!(connection.answer().await.text(), expected);
}

/// `CLIProxyAPI` #4884: an end that was made up.
#[tokio::test]
async fn r15_a_whole_answer_that_breaks_never_looks_whole() {
    let script = Script::new().head(200, &[("Content-Type", "application/json"), ("Content-Length", "100")]).raw("{\"type\":").fin();
    let primary = plays(script).await;
    let answer = Proxy::lone(&primary).await.ask(&Ask::turn().body(WHOLE)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let file = Script::new().head(200, &[("Content-Type", "application/x-tar"), ("Content-Length", "100")]).raw("some of it").fin();
    let primary = plays(file).await;
    let answer = Proxy::lone(&primary).await.ask(&Ask::new("GET", "/v1/files/f/content").header("x-api-key", "sk-ant-test-client")).await;
    assert_eq!((answer.status, answer.end, answer.text().as_str()), (200, End::Cut, "some of it"));
}

#[tokio::test]
async fn what_breaks_after_the_stop_reason_harms_nobody() {
    let events = text("All of it.");
    for (way, script) in ways_to_break(&Script::new().sse().events(&events)) {
        if way == "an error event" || way == "pings without an end" {
            continue;
        }
        let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair_with(&primary.url(), &spare, &clocks()).await;
        for _ in 0..2 {
            let answer = proxy.ask(&Ask::turn()).await;
            assert!(answer.text().starts_with(&wire(&events)), "{way}: {}", answer.text());
            assert_eq!((answer.end, answer.profile()), (End::Whole, Some("primary")), "{way}: a whole answer is no failure");
        }
    }
}

/// What only asking needs is let go when an answer flows, but not where somebody may still have to go on with it.
#[tokio::test]
async fn whoever_goes_on_with_a_broken_answer_gets_the_client_s_own_headers() {
    let events = text("Half of it");
    let primary = plays(Script::new().sse().events(upto(&events, Position::InBlock(0))).sleep(Duration::from_millis(30)).rst()).await;
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    proxy.ask(&Ask::turn().agent(PROGRAM).header("X-Stainless-OS", "Linux")).await;
    let (first, rest) = (&primary.messages()[0], &spare.messages()[0]);
    let body = String::from_utf8_lossy(&rest.body);
    assert!(body.contains(r#""text":"Hal""#), "it goes on: {body}");
    for name in ["content-type", "user-agent"] {
        assert_eq!(rest.header(name), first.header(name), "{name}");
        assert!(rest.header(name).is_some(), "{name}");
    }
    assert!(rest.headers.iter().any(|(name, _)| name == "Content-Type"), "spelled as it came: {:?}", rest.headers);
}
