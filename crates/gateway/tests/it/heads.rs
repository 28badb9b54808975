//! Failures of which the client has seen nothing: each goes on to the spare without a trace; what is the request's own fault does not.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use hotspare_testkit::answers::{message_json, text};
use hotspare_testkit::{Script, Upstream, refused_addr};
use serde_json::json;

use crate::client::{Answer, Ask, Connection, End, WHOLE};
use crate::proxy::{COUNT, FROM_SPARE, Proxy, healthy, options, plays, wire};

/// Long enough for a loaded machine, short enough for a test.
const SHORT: &str = "400ms";

/// A header.
type Field = (&'static str, &'static str);

fn gzip(text: &str) -> Bytes {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).expect("in memory");
    packed.finish().expect("in memory").into()
}

fn error(kind: &str, message: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": message}}).to_string()
}

fn status(status: u16, kind: &str) -> Script {
    Script::error(status, kind, "scripted failure")
}

fn with(status: u16, headers: &[Field], body: impl Into<Bytes>) -> Script {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    Script::new().body(status, &all, body)
}

const JSON: Field = ("Content-Type", "application/json");
const GZIP: Field = ("Content-Encoding", "gzip");

/// Every class of failover.md section 2 that comes with or before the head, and 200s that are none.
fn head_failures() -> Vec<(&'static str, Script)> {
    let limit = error("rate_limit_error", "slow down");
    let credit = error("invalid_request_error", "Your credit balance is too low to access the Anthropic API.");
    vec![
        ("RST before the head", Script::new().rst()),
        ("FIN before the head", Script::new().fin()),
        ("half a head", Script::new().raw("HTTP/1.1 200 OK\r\nContent-Ty").fin()),
        ("half a head, then RST", Script::new().raw("HTTP/1.1 200 OK\r\nContent-Ty").rst()),
        ("no HTTP", Script::new().raw("SSH-2.0-OpenSSH_9.9\r\n\r\n").fin()),
        ("a bad status line", Script::new().raw("HTTP/1.1 2OO OK\r\n\r\n").fin()),
        ("a head that does not come", Script::new().hang()),
        ("half a head that hangs", Script::new().raw("HTTP/1.1 200 OK\r\n").hang()),
        ("500", status(500, "api_error")),
        ("500 without a body", Script::new().body(500, &[], "")),
        ("501", status(501, "api_error")),
        ("502 with HTML", Script::new().body(502, &[("Content-Type", "text/html")], "<html>Bad Gateway</html>")),
        ("503", status(503, "api_error")),
        ("504", status(504, "timeout_error")),
        ("408", status(408, "timeout_error")),
        ("520 of a middle box", Script::new().body(520, &[("Content-Type", "text/plain")], "error code: 520")),
        ("529", status(529, "overloaded_error")),
        ("529, packed", Script::new().body(529, &[JSON, GZIP], gzip(&error("overloaded_error", "Overloaded")))),
        ("429 for some seconds", with(429, &[("retry-after", "20")], limit.clone())),
        ("429 of a minute's tokens", with(429, &[("anthropic-ratelimit-tokens-remaining", "0")], limit.clone())),
        ("429 without a word", with(429, &[], limit.clone())),
        (
            "429 of a used-up window",
            with(
                429,
                &[("anthropic-ratelimit-unified-status", "rejected"), ("anthropic-ratelimit-unified-5h-reset", "4000000000")],
                limit.clone(),
            ),
        ),
        ("429 of a spend cap", with(429, &[("x-should-retry", "false")], limit)),
        ("401", status(401, "authentication_error")),
        ("402", status(402, "billing_error")),
        ("403", status(403, "permission_error")),
        ("404 for the model", status(404, "not_found_error")),
        ("400 for want of credit", with(400, &[], credit.clone())),
        ("400 for want of credit, packed", Script::new().body(400, &[JSON, GZIP], gzip(&credit))),
        ("200 with HTML", Script::new().body(200, &[("Content-Type", "text/html")], "<html>Sign in to the network</html>")),
        ("200 with plain text", Script::new().body(200, &[("Content-Type", "text/plain")], "ok")),
        ("200 without a content type", Script::new().body(200, &[], "{}")),
        ("200 with nothing", with(200, &[], "")),
        ("200 with white space", with(200, &[], " \n ")),
        ("200 with an error in JSON", with(200, &[], error("overloaded_error", "Overloaded"))),
        ("200 with half a JSON", with(200, &[], "{\"type\":\"mess")),
        ("200 with a JSON that breaks off", Script::new().head(200, &[JSON, ("Content-Length", "50")]).raw("{\"type\"").fin()),
        ("an empty stream", Script::new().sse().end()),
    ]
}

async fn to_spare(primary: &Upstream, ask: &Ask) -> (Answer, Upstream) {
    to_spare_from(&primary.url(), ask).await
}

async fn to_spare_from(primary: &str, ask: &Ask) -> (Answer, Upstream) {
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair_with(primary, &spare, &json!({ "clocks": { "head": SHORT, "first_content": SHORT } })).await;
    (proxy.ask(ask).await, spare)
}

#[track_caller]
fn is_the_spare_s_own(name: &str, answer: &Answer, expected: &str) {
    assert_eq!((answer.status, answer.end, answer.text().as_str()), (200, End::Whole, expected), "{name}");
    assert_eq!((answer.profile(), answer.header("x-hotspare-attempts")), (Some("spare"), Some("2")), "{name}");
    assert_eq!(answer.header("location"), None, "{name}");
    assert_eq!(answer.header("retry-after"), None, "{name}");
}

/// teamclaude #156 #21 #106 #193 #412, subrouter #16, better-ccflare #465, cc-switch #4637: each came to the client. `CLIProxyAPI` #1763:
/// errors that were packed were taken for the request's own fault.
#[tokio::test]
async fn r1_r2_r9_r14_every_failure_before_the_answer_goes_to_the_spare_unseen() {
    for (name, script) in head_failures() {
        let primary = plays(script).await;
        let (answer, spare) = to_spare(&primary, &Ask::turn()).await;
        is_the_spare_s_own(name, &answer, &wire(&text(FROM_SPARE)));
        assert_eq!((primary.messages().len(), spare.messages().len()), (1, 1), "{name}");
        assert_eq!(spare.messages()[0].body, Ask::turn().body, "{name}");
    }
}

#[tokio::test]
async fn the_same_for_whole_answers() {
    for (name, script) in head_failures() {
        let primary = plays(script).await;
        let (answer, _) = to_spare(&primary, &Ask::turn().body(WHOLE).header("anthropic-test-wants", "whole")).await;
        is_the_spare_s_own(name, &answer, &message_json(FROM_SPARE));
    }
}

#[tokio::test]
async fn the_same_for_count_tokens_and_models() {
    for script in [Script::new().rst(), status(500, "api_error"), status(529, "overloaded_error"), status(401, "authentication_error")] {
        let listing = Ask::new("GET", "/v1/models").header("anthropic-test-wants", "whole").header("x-api-key", "sk-ant-test-client");
        for (ask, expected) in
            [(Ask { target: "/v1/messages/count_tokens?beta=true".into(), ..Ask::turn() }, COUNT), (listing, &*message_json(FROM_SPARE))]
        {
            let primary = plays(script.clone()).await;
            let (answer, _) = to_spare(&primary, &ask).await;
            is_the_spare_s_own(&ask.target, &answer, expected);
        }
    }
}

#[tokio::test]
async fn a_refused_connection_goes_to_the_spare() {
    let refused = format!("http://{}", refused_addr().expect("an address"));
    let (answer, _) = to_spare_from(&refused, &Ask::turn()).await;
    is_the_spare_s_own("refused", &answer, &wire(&text(FROM_SPARE)));
}

/// cc-switch #4637: what is no stream was passed on as one.
#[tokio::test]
async fn r14_a_whole_answer_where_a_stream_was_asked_for_goes_to_the_spare() {
    let primary = plays(crate::proxy::whole("not a stream")).await;
    let (answer, _) = to_spare(&primary, &Ask::turn()).await;
    is_the_spare_s_own("whole", &answer, &wire(&text(FROM_SPARE)));
}

#[tokio::test]
async fn t6_a_redirect_is_never_followed_and_never_passed_on() {
    let evil = plays(Script::not_found()).await;
    for status in [300, 301, 302, 303, 307, 308] {
        for location in [format!("{}/v1/messages", evil.url()), "/v1/elsewhere".to_owned(), "//127.0.0.1/x".to_owned(), String::new()] {
            for ask in [Ask::turn(), Ask::new("GET", "/v1/models").header("x-api-key", "sk-ant-test-client")] {
                let primary = plays(Script::new().body(status, &[("Location", &location)], "")).await;
                let (answer, _) =
                    to_spare(&primary, &ask.clone().header("anthropic-test-wants", if ask.method == "GET" { "whole" } else { "stream" }))
                        .await;
                assert_eq!((answer.status, answer.profile()), (200, Some("spare")), "{status} {location} {}", ask.target);
                assert_eq!(primary.requests().len(), 1, "{status} {location}");
            }
            // On a path that nobody knows, and with nobody else to ask.
            for ask in [Ask::turn(), Ask::new("POST", "/v1/files").header("x-api-key", "sk-ant-test-client").body("x")] {
                let primary = plays(Script::new().body(status, &[("Location", &location)], "")).await;
                let answer = Proxy::lone(&primary).await.ask(&ask).await;
                assert_eq!((answer.status, answer.header("location")), (424, None), "{status} {location} {}", ask.target);
                assert_eq!(primary.requests().len(), 1);
            }
        }
    }
    assert_eq!(evil.connections(), 0);
}

/// teamclaude #390 (323 useless hops a day), lean-ctx #1638, squeezr #4: a hop for the caller's own fault, and its words rewritten.
#[tokio::test]
async fn r5_r45_the_request_s_own_fault_is_relayed_byte_for_byte_without_a_hop() {
    let prompt = error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum");
    let odd = "{ \"type\" : \"error\",\n\t\"error\":{\"type\":\"invalid_request_error\",\"message\":\"messages.1.role: Unexpected role \\\"system\\\"\"} }\n";
    let signature = error("invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block");
    let tool = error("invalid_request_error", "messages.3: `tool_use` ids must be unique");
    let cases: [(u16, &[Field], Bytes); 7] = [
        (400, &[("request-id", "req_9")], odd.into()),
        (400, &[], prompt.into()),
        (400, &[("x-should-retry", "false")], tool.into()),
        (400, &[GZIP], gzip(odd)),
        (400, &[], signature.into()),
        (413, &[], error("request_too_large", "Request exceeds the maximum size").into()),
        (422, &[], error("invalid_request_error", "temperature: must be a number").into()),
    ];
    for (status, headers, body) in cases {
        let primary = plays(with(status, headers, body.clone())).await;
        let (answer, spare) = to_spare(&primary, &Ask::turn()).await;
        assert_eq!((answer.status, &answer.body, answer.end), (status, &body, End::Whole), "{headers:?}");
        for (name, value) in headers {
            assert_eq!(answer.header(name), Some(*value));
        }
        assert_eq!((primary.messages().len(), spare.connections()), (1, 0), "{status}");
        assert_eq!(answer.profile(), Some("primary"));
    }
}

/// Of 414 collected refusals 81 were relayed although another profile would have answered: the wordings were an open set.
#[tokio::test]
async fn refusal_of_unknown_wording_is_answered_by_the_spare() {
    let cases: [(u16, Bytes); 5] = [
        (400, "not even json".into()),
        (400, Bytes::new()),
        (400, error("invalid_request_error", "a sentence that no list has").into()),
        (422, error("invalid_request_error", "unprocessable").into()),
        (451, r#"{"detail":"a sentence that no list has"}"#.into()),
    ];
    for (status, body) in cases {
        let primary = plays(with(status, &[], body.clone())).await;
        let (answer, _) = to_spare(&primary, &Ask::turn()).await;
        assert_eq!((answer.status, answer.profile(), primary.messages().len()), (200, Some("spare"), 1), "{status} {body:?}");
    }
}

/// agentgateway #2350 (2 MiB, whatever was configured) and its 64 KiB for a second try (measured): past them no failover, without a word.
#[tokio::test]
async fn r4_the_largest_body_goes_to_the_spare_whole() {
    const LARGEST: usize = 32 * 1024 * 1024;
    let begin = r#"{"model":"claude-opus-5-5","stream":true,"messages":[{"role":"user","content":""#;
    let words = (0..).flat_map(|number: u32| format!("{number} ").into_bytes()).take(LARGEST - begin.len() - 4);
    let body: Bytes = begin.bytes().chain(words).chain(*br#""}]}"#).collect();
    assert_eq!(body.len(), LARGEST);
    let primary = plays(status(529, "overloaded_error")).await;
    let spare = healthy(FROM_SPARE).await;
    let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn().body(body.clone())).await;
    is_the_spare_s_own("32 MiB", &answer, &wire(&text(FROM_SPARE)));
    assert!(primary.messages()[0].body == body && spare.messages()[0].body == body, "each got every byte");
}

#[tokio::test]
async fn an_unknown_path_hops_only_while_nothing_was_sent() {
    let post = Ask::new("POST", "/v1/files").header("x-api-key", "sk-ant-test-client").body("a file");
    let primary = plays(status(500, "api_error")).await;
    let (answer, spare) = to_spare(&primary, &post).await;
    assert_eq!((answer.status, spare.connections()), (500, 0), "it may have had an effect");
    let (answer, spare) = to_spare(&plays(Script::new().rst()).await, &post).await;
    assert_eq!((answer.status, spare.connections()), (503, 0));
    assert!(answer.text().contains("1 of 2 profiles failed: primary "), "nobody says that all were asked: {}", answer.text());
    let refused = format!("http://{}", refused_addr().expect("an address"));
    let (answer, spare) = to_spare_from(&refused, &post).await;
    assert_eq!((answer.status, spare.requests()[0].body.clone()), (200, post.body));
}

/// link-assistant/hive-mind#1438: some 500s come with `x-should-retry: false`, and were asked again all the same.
#[tokio::test]
async fn r1_r7_a_provider_that_says_not_to_ask_again_is_not_asked_again() {
    for (headers, asked) in [(&[][..], 2), (&[("x-should-retry", "true")], 2), (&[("x-should-retry", "false")], 1)] {
        let primary = plays(with(500, headers, error("api_error", "scripted"))).await;
        let (proxy, _) = Proxy::last_candidate(&primary, &json!({}), options()).await;
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, primary.messages().len()), (500, asked), "{headers:?}");
        assert_eq!(answer.header("x-should-retry"), headers.first().map(|(_, value)| *value), "the client hears it too");
    }
    // Another profile is another matter.
    let primary = plays(with(500, &[("x-should-retry", "false")], error("api_error", "scripted"))).await;
    let (answer, _) = to_spare(&primary, &Ask::turn()).await;
    is_the_spare_s_own("500 that is final", &answer, &wire(&text(FROM_SPARE)));
}

/// subrouter #26: paid overage answers well and says `rejected`, at which Claude Code stops, although others could serve.
#[tokio::test]
async fn r27_a_good_answer_s_rejected_stops_nobody_while_another_profile_is_well() {
    let fields = [
        ("Content-Type", "text/event-stream"),
        ("Transfer-Encoding", "chunked"),
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-7d-status", "rejected"),
        ("anthropic-ratelimit-unified-7d-reset", "4000000000"),
        ("anthropic-ratelimit-unified-overage-in-use", "true"),
    ];
    let over = || plays(Script::new().head(200, &fields).events(&text("on overage")).end());
    let told = |answer: &Answer| answer.header("anthropic-ratelimit-unified-status").map(str::to_owned);
    let (primary, spare) = (over().await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    let first = proxy.ask(&Ask::turn()).await;
    assert_eq!((first.profile(), first.text(), told(&first)), (Some("primary"), wire(&text("on overage")), None));
    let next = proxy.ask(&Ask::turn().session("session-2")).await;
    assert_eq!((next.profile(), primary.messages().len()), (Some("spare"), 1));
    // With nobody else to ask, the client is told what is so.
    let alone = over().await;
    assert_eq!(told(&Proxy::lone(&alone).await.ask(&Ask::turn()).await).as_deref(), Some("rejected"));
}

/// juspay/neurolink#1605, dhkts1/teamclaude-rs#174, teamclaude #407: the wrong failure told, or one the client cannot wait out.
/// What the client hears when both fail: never a 3xx, never another account's limits, and a wait that it sits out.
#[tokio::test]
async fn r32_r33_when_all_fail_the_client_hears_what_makes_it_come_back() {
    let quota = || {
        with(
            429,
            &[
                ("anthropic-ratelimit-unified-status", "rejected"),
                ("anthropic-ratelimit-unified-5h-reset", "4000000000"),
                ("retry-after", "3600"),
            ],
            error("rate_limit_error", "limit"),
        )
    };
    let cases: Vec<(&str, Script, Script, &[u16])> = vec![
        ("500 and 503", status(500, "api_error"), status(503, "api_error"), &[500, 503]),
        ("529 and 529", status(529, "overloaded_error"), status(529, "overloaded_error"), &[529, 503]),
        ("503 and a spare's 400", status(503, "api_error"), status(400, "invalid_request_error"), &[503]),
        ("503 and a spare's 401", status(503, "api_error"), status(401, "authentication_error"), &[503]),
        ("503 and a spare's window", status(503, "api_error"), quota(), &[503]),
    ];
    for (name, first, second, allowed) in cases {
        let (primary, spare) = (plays(first).await, plays(second).await);
        let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
        assert!(allowed.contains(&answer.status), "{name}: {}", answer.status);
        let wait: u64 = answer.header("retry-after").expect(name).parse().expect(name);
        assert!((1..=59).contains(&wait), "{name}: {wait}");
        let limits = answer.headers.iter().any(|(known, _)| known.starts_with("anthropic-ratelimit-"));
        assert!(!limits, "{name}: a spare's limits describe another account");
    }
    // Its own login's words are for the client: it renews the login, or waits for the window.
    for (script, status) in [(status(401, "authentication_error"), 401), (quota(), 429)] {
        let (primary, spare) = (plays(script).await, plays(Script::error(401, "authentication_error", "spare's key")).await);
        let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
        assert_eq!(answer.status, status);
        assert!(!answer.text().contains("spare's key"));
    }
    // A spare's 401 alone never reaches it: it would log the user out.
    let (primary, spare) = (plays(status(403, "permission_error")).await, plays(status(401, "authentication_error")).await);
    let answer = Proxy::pair(&primary, &spare).await.ask(&Ask::turn()).await;
    assert_eq!(answer.status, 424, "{}", answer.text());
}

/// The head says enough: the client does not wait out the head's clock for words that do not come.
#[tokio::test]
async fn a_refusal_whose_body_never_comes_goes_on_to_the_spare() {
    let head = [("Content-Type", "application/json"), ("Content-Length", "100")];
    for script in [Script::new().head(529, &head).hang(), Script::new().head(529, &head).raw("{").hang()] {
        let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair(&primary, &spare).await;
        let mut connection = Connection::open(proxy.addr).await;
        connection.ask(&Ask::turn()).await;
        primary.wait_for(1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(6)).await;
        tokio::time::resume();
        let answer = connection.answer().await;
        assert_eq!((answer.end, answer.profile()), (End::Whole, Some("spare")));
    }
}
