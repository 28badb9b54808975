//! Situations that people met, from `docs/field-cases.md`. Each test plays one on real sockets.

use std::time::Duration;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::json;

use crate::client::{Answer, Ask, Connection, PROGRAM};
use crate::proxy::{FROM_SPARE, Proxy, SPARE_KEY, healthy, options, plays};

fn refusal(status: u16, message: &str) -> Script {
    Script::error(status, "invalid_request_error", message)
}

fn overloaded() -> Script {
    Script::error(529, "overloaded_error", "Overloaded")
}

/// A primary and two spares in a row.
async fn three(primary: &Upstream, first: &Upstream, second: &Upstream) -> Proxy {
    let own = json!({ "value": SPARE_KEY });
    Proxy::start(&json!({
        "failover_policy": { "primary_profile": "primary", "secondary_profile": ["spare", "third"] },
        "profiles": {
            "primary": { "base_url": primary.url() },
            "spare": { "base_url": first.url(), "auth": own },
            "third": { "base_url": second.url(), "auth": own },
        },
    }))
    .await
}

#[track_caller]
fn is_served_by(name: &str, answer: &Answer, profile: &str) {
    assert_eq!((answer.status, answer.profile()), (200, Some(profile)), "{name}: {}", answer.text());
}

/// Refusals of the account under a 400: another profile answers, and the next session does not meet the refusal again.
#[tokio::test]
async fn field_01_refused_account_is_left_alone() {
    for words in [
        "Third-party apps now draw from your extra usage, not your plan limits.",
        "You're out of extra usage. Add more and keep going.",
        "This organization has been disabled.",
    ] {
        let (primary, spare) = (plays(refusal(400, words)).await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair(&primary, &spare).await;
        is_served_by(words, &proxy.ask(&Ask::turn().session("one")).await, "spare");
        is_served_by(words, &proxy.ask(&Ask::turn().session("two")).await, "spare");
        assert_eq!(primary.messages().len(), 1, "{words}");
    }
}

/// A 400 in words that nobody has listed: another profile shows whose fault it was.
#[tokio::test]
async fn field_01_unknown_words_get_a_second_opinion() {
    let words = "quorble frunt desmopic 17 of 20";
    let (primary, spare) = (plays(refusal(400, words)).await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    is_served_by("unknown words", &proxy.ask(&Ask::turn()).await, "spare");
    let (primary, spare) = (plays(refusal(400, words)).await, plays(refusal(400, "also no")).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    for _ in 0..3 {
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.profile()), (400, Some("primary")), "{}", answer.text());
        assert!(answer.text().contains(words), "the primary's own words: {}", answer.text());
    }
    assert_eq!(spare.messages().len(), 1, "one opinion for all tries");
}

/// A spare's own dislike ended the chain, or took the place of the primary's 529.
#[tokio::test]
async fn field_02_spare_s_refusal_ends_no_chain() {
    let dislike = || refusal(400, "invalid thinking: only type=enabled is allowed for this model");
    let (primary, spare, third) = (plays(overloaded()).await, plays(dislike()).await, healthy(FROM_SPARE).await);
    is_served_by("a third is well", &three(&primary, &spare, &third).await.ask(&Ask::turn()).await, "third");
    let (primary, spare) = (plays(overloaded()).await, plays(dislike()).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    for turn in 0..3 {
        let answer = proxy.ask(&Ask::turn()).await;
        assert!(matches!(answer.status, 503 | 529), "try {turn}: {} {}", answer.status, answer.text());
    }
}

/// A 404 about a file says nothing of the model.
#[tokio::test]
async fn field_03_missing_file_blocks_no_model() {
    let missing = Script::error(404, "not_found_error", "File not found: file_011CTest");
    let (primary, spare) = (plays(overloaded()).await, Upstream::sequence(vec![missing, streamed()]).await.expect("started"));
    let proxy = Proxy::pair(&primary, &spare).await;
    proxy.ask(&Ask::turn().session("one")).await;
    is_served_by("another session", &proxy.ask(&Ask::turn().session("two")).await, "spare");
}

fn streamed() -> Script {
    Script::new().sse().events(&text(FROM_SPARE)).end()
}

/// A challenge page of the edge is not the provider's answer.
#[tokio::test]
async fn field_04_challenge_page_blocks_for_seconds() {
    let page = [("Content-Type", "text/html; charset=UTF-8"), ("cf-mitigated", "challenge")];
    let primary = plays(Script::new().body(403, &page, "<!DOCTYPE html><title>Just a moment...</title>")).await;
    let spare = healthy(FROM_SPARE).await;
    let config = crate::proxy::pair(&primary.url(), &spare.url(), &json!({}));
    let (proxy, gateway) = Proxy::start_with(&config, options()).await;
    is_served_by("challenge", &proxy.ask(&Ask::turn()).await, "spare");
    let status = gateway.status();
    assert_ne!(status.profiles[0].state, "blocked", "{:?}", status.profiles[0]);
    assert!(status.profiles[0].back_in_s.is_none_or(|seconds| seconds <= 60), "{:?}", status.profiles[0]);
}

/// The client's own limit is shorter than ours: its identical next request goes elsewhere.
#[tokio::test]
async fn field_08_client_that_gave_up_is_served_elsewhere() {
    let (primary, spare) = (plays(Script::new().hang()).await, healthy(FROM_SPARE).await);
    let config = crate::proxy::pair(&primary.url(), &spare.url(), &json!({}));
    let (proxy, gateway) = Proxy::start_with(&config, options()).await;
    let ask = Ask::turn().agent(PROGRAM);
    let mut connection = Connection::open(proxy.addr).await;
    connection.ask(&ask).await;
    tokio::time::timeout(Duration::from_millis(5_100), connection.answer()).await.expect_err("the primary hangs");
    connection.hang_up();
    let gone = async {
        while gateway.status().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the exchange ends with its client");
    assert!(gateway.status().profiles[0].given_up > 0, "status shows it");
    is_served_by("the second try", &proxy.ask(&ask).await, "spare");
    assert_eq!(primary.messages().len(), 1);
}

/// Without a spare nothing is added to the client's own timetable.
#[tokio::test]
async fn field_09_lone_profile_costs_no_tries_and_no_waits() {
    let primary = plays(overloaded()).await;
    let proxy = Proxy::lone(&primary).await;
    for tries in 1..=15 {
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.header("retry-after"), primary.messages().len()), (529, None, tries));
    }
}

/// The provider's clock is a day ahead of ours: two minutes stay two minutes.
#[tokio::test]
async fn field_10_reset_is_relative_to_the_answer_s_date() {
    let ahead = std::time::SystemTime::now() + Duration::from_secs(86_400);
    let seconds = ahead.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let (date, reset) = (httpdate::fmt_http_date(ahead), (seconds + 120).to_string());
    let headers = [
        ("Content-Type", "application/json"),
        ("Date", date.as_str()),
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-5h-status", "rejected"),
        ("anthropic-ratelimit-unified-5h-reset", reset.as_str()),
    ];
    let primary =
        plays(Script::new().body(429, &headers, r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#)).await;
    let config = crate::proxy::pair(&primary.url(), &healthy(FROM_SPARE).await.url(), &json!({}));
    let (proxy, gateway) = Proxy::start_with(&config, options()).await;
    proxy.ask(&Ask::turn()).await;
    let back = gateway.status().profiles[0].back_in_s.expect("the window is used up");
    assert!((60..=180).contains(&back), "{back} s");
}

/// An account without money that says so under 429.
#[tokio::test]
async fn field_12_empty_account_under_429_is_blocked() {
    let body =
        json!({ "type": "error", "error": { "type": "1113", "message": "Insufficient balance or no resource package. Please recharge." } });
    let primary = plays(Script::new().body(429, &[("Content-Type", "application/json")], body.to_string())).await;
    let spare = healthy(FROM_SPARE).await;
    let config = crate::proxy::pair(&primary.url(), &spare.url(), &json!({}));
    let (proxy, gateway) = Proxy::start_with(&config, options()).await;
    for session in ["one", "two", "three"] {
        is_served_by(session, &proxy.ask(&Ask::turn().session(session)).await, "spare");
    }
    assert_eq!((primary.messages().len(), gateway.status().profiles[0].state.as_str()), (1, "blocked"));
}

/// However often the client comes back, it is told to wait for the primary.
#[tokio::test]
async fn field_14_spare_s_refusal_never_reaches_the_client() {
    let moderated = json!({ "error": { "code": 403, "message": "flagged", "metadata": { "reasons": ["x"], "flagged_input": "y" } } });
    for (name, script) in [
        ("moderation", Script::new().body(403, &[("Content-Type", "application/json")], moderated.to_string())),
        ("a body limit", Script::error(413, "RequestEntityTooLarge", "Request body size exceeds maximum allowed size: 10485760 bytes")),
        ("a window", refusal(400, "prompt is too long: 210000 tokens > 131072 maximum")),
        ("a key", Script::error(401, "authentication_error", "invalid x-api-key")),
    ] {
        let (primary, spare) = (plays(overloaded()).await, plays(script).await);
        let proxy = Proxy::pair(&primary, &spare).await;
        for turn in 0..4 {
            let answer = proxy.ask(&Ask::turn()).await;
            assert!(matches!(answer.status, 503 | 529), "{name}, try {turn}: {} {}", answer.status, answer.text());
        }
    }
}

/// A title request that failed beside a conversation sent the conversation to the spare.
#[tokio::test]
async fn field_22_failed_title_moves_no_conversation() {
    let title = r#"{"model":"claude-haiku-5-5","stream":true,"max_tokens":64,"messages":[{"role":"user","content":"hi"}],"output_config":{"format":{"type":"json_schema","schema":{}}}}"#;
    for model in ["claude-haiku-5-5", "claude-opus-5-5"] {
        let home = Upstream::sequence(vec![overloaded(), streamed()]).await.expect("started");
        let spare = healthy(FROM_SPARE).await;
        let proxy = Proxy::pair(&home, &spare).await;
        let body = title.replace("claude-haiku-5-5", model);
        is_served_by("the title", &proxy.ask(&Ask::turn().session("one").body(body)).await, "spare");
        is_served_by("the turn", &proxy.ask(&Ask::turn().session("one")).await, "primary");
    }
}

/// The user logs in again right after the refusal, before any other request could look at the old file.
#[tokio::test]
async fn new_credential_ends_a_block_with_the_next_request() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let key = home.path().join("key");
    let write = |text: &str, at: u64| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&key, text).expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
        std::fs::File::options().write(true).open(&key).and_then(|file| file.set_modified(written)).expect("time set");
    };
    write("sk-test-old", 1_700_000_000);
    let primary = Upstream::start(|request| match request.header("x-api-key") {
        Some("sk-test-new") => streamed(),
        _ => Script::error(403, "permission_error", "This organization has been disabled."),
    })
    .await
    .expect("started");
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "primary", "secondary_profile": "spare" },
        "profiles": {
            "primary": { "base_url": primary.url(), "auth": { "file": key } },
            "spare": { "base_url": spare.url(), "auth": { "value": "sk-test-spare" } },
        },
    }))
    .await;
    assert_eq!(proxy.ask(&Ask::turn().session("one")).await.profile(), Some("spare"));
    write("sk-test-new", 1_700_000_100);
    assert_eq!(proxy.ask(&Ask::turn().session("two")).await.profile(), Some("primary"));
}
