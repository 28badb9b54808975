//! Requests that not every profile can take go where they fit, and nowhere else.

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};

use crate::client::{Answer, Ask};
use crate::proxy::{FROM_SPARE, Proxy, SPARE_KEY, plays, streamed};

/// Two spares of another company: a limited one before one that takes everything. Returns who was asked, and the answer.
async fn asked(primary: Script, supports: Value, last: bool, body: &Value) -> (usize, usize, Answer, Upstream) {
    let primary = plays(primary).await;
    let small = plays(streamed(&text("From the small one."))).await;
    let large = plays(streamed(&text(FROM_SPARE))).await;
    let compatible = |url: String| json!({ "platform": "anthropic_compatible", "base_url": url, "auth": { "value": SPARE_KEY }, "models": { "*": "other-1" } });
    let mut limited = compatible(small.url());
    limited["supports"] = supports;
    let spares = if last { json!(["small"]) } else { json!(["small", "large"]) };
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": spares },
        "profiles": { "work": { "base_url": primary.url() }, "small": limited, "large": compatible(large.url()) },
    }))
    .await;
    let answer = proxy.ask(&Ask::turn().body(body.to_string())).await;
    (small.messages().len(), large.messages().len(), answer, small)
}

fn overloaded() -> Script {
    Script::error(529, "overloaded_error", "Overloaded")
}

fn spent() -> Script {
    let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "limit reached"}}).to_string();
    Script::new().body(429, &[("Content-Type", "application/json"), ("Retry-After", "7200")], body)
}

/// A request of so many bytes.
fn of_length(bytes: usize) -> Value {
    let body =
        |fill: usize| json!({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "x".repeat(fill)}], "stream": true});
    let bare = body(0).to_string().len();
    body(bytes - bare)
}

/// cc-switch-cli #284: a conversation that had outgrown the next profile was sent there all the same, and never came back.
#[tokio::test]
async fn r48_a_conversation_goes_where_its_window_is_wide_enough() {
    let window = json!({ "context": 10_000 });
    let (small, large, answer, _upstream) = asked(overloaded(), window.clone(), false, &of_length(40_003)).await;
    assert_eq!((small, large, answer.profile()), (1, 0, Some("small")), "to the last token");
    let (small, large, answer, _upstream) = asked(overloaded(), window, false, &of_length(40_004)).await;
    assert_eq!((small, large, answer.profile()), (0, 1, Some("large")), "and not one beyond");
}

/// openclaw #60947: the next model could not read what the conversation held.
#[tokio::test]
async fn r48_pictures_and_tools_go_to_nobody_who_does_not_take_them() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    let seen = json!({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": [image]}], "stream": true});
    let mut tools = of_length(200);
    tools["tools"] = json!([{"name": "Bash", "input_schema": {"type": "object"}}]);
    for (supports, body, fits) in [
        (json!({ "images": false }), &seen, false),
        (json!({ "tools": false }), &tools, false),
        (json!({ "images": false }), &tools, true),
        (json!({ "tools": false }), &seen, true),
    ] {
        let (small, large, answer, _upstream) = asked(overloaded(), supports.clone(), false, body).await;
        assert_eq!((small, large), if fits { (1, 0) } else { (0, 1) }, "{supports}: {}", answer.text());
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn whoever_does_not_think_is_not_asked_to() {
    let mut body = of_length(200);
    body["thinking"] = json!({"type": "enabled", "budget_tokens": 2000});
    let (small, _, _, upstream) = asked(overloaded(), json!({ "thinking": false }), false, &body).await;
    assert_eq!(small, 1);
    let sent: Value = serde_json::from_slice(&upstream.messages()[0].body).expect("JSON");
    assert_eq!(sent.get("thinking"), None);
    let (_, _, _, upstream) = asked(overloaded(), json!({}), false, &body).await;
    let sent: Value = serde_json::from_slice(&upstream.messages()[0].body).expect("JSON");
    assert_eq!(sent["thinking"]["budget_tokens"], 2000);
}

/// Alishahryar1/free-claude-code#1215: only these words make the client shorten its conversation.
#[tokio::test]
async fn r48_where_nothing_fits_the_client_is_told_by_how_much() {
    let window = json!({ "context": 10_000 });
    let unpaid = Script::error(402, "billing_error", "Your account has no credit.");
    let (small, _, answer, _upstream) = asked(unpaid, window.clone(), true, &of_length(80_000)).await;
    assert_eq!((small, answer.status), (0, 400), "{}", answer.text());
    let error: Value = serde_json::from_str(&answer.text()).expect("JSON");
    assert_eq!(error["error"]["type"], "invalid_request_error");
    assert_eq!(error["error"]["message"], "prompt is too long: 20000 tokens > 10000 maximum");
    // A login of the client's own that is used up has words of its own: the client goes on by itself at the reset.
    let (small, _, answer, _upstream) = asked(spent(), window.clone(), true, &of_length(80_000)).await;
    assert_eq!((small, answer.status), (0, 429), "{}", answer.text());
    // Who is only busy is well again before the client has given up a word.
    let (small, _, answer, _upstream) = asked(overloaded(), window, true, &of_length(80_000)).await;
    assert_eq!((small, answer.status), (0, 529), "{}", answer.text());
}

/// hermes #109698. The first profile may be the small one: then its request is looked at before anybody is asked.
#[tokio::test]
async fn r48_a_small_first_profile_is_passed_over() {
    let small = plays(streamed(&text("From the small one."))).await;
    let large = plays(streamed(&text(FROM_SPARE))).await;
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "small", "secondary_profile": "large" },
        "profiles": {
            "small": { "base_url": small.url(), "auth": { "value": SPARE_KEY }, "supports": { "context": 10_000 } },
            "large": { "base_url": large.url() },
        },
    }))
    .await;
    for (bytes, profile) in [(40_003, "small"), (40_004, "large")] {
        let answer = proxy.ask(&Ask::turn().session(profile).body(of_length(bytes).to_string())).await;
        assert_eq!((answer.status, answer.profile()), (200, Some(profile)), "{}", answer.text());
    }
    assert_eq!((small.messages().len(), large.messages().len()), (1, 1));
}
