//! What is remembered from one request to the next: a client's own retry goes to another profile, and so do its neighbours' requests for as
//! long as the profile cools down, no longer.

use std::time::{Duration, Instant};

use hotspare_testkit::answers::{Position, text, thinking_text, upto};
use hotspare_testkit::{Received, Script, Upstream};

use crate::client::{Ask, End, INTERACTIVE, PRINT, STREAMED, WHOLE};
use crate::proxy::{CLIENT_KEY, FROM_SPARE, Proxy, healthy, plays, streamed};

/// Dies in the client's hands the first time, and is well from then on.
async fn dies_once(first: Script) -> Upstream {
    Upstream::sequence(vec![first.sleep(Duration::from_millis(30)).rst(), streamed(&text("from the primary"))]).await.expect("started")
}

fn in_first_block() -> Script {
    Script::new().sse().events(upto(&text("never finished"), Position::InBlock(0)))
}

/// claude-code #2728: nobody knows the client's own retries; routatic #59: the retry must land elsewhere.
#[tokio::test]
async fn r7_r16_the_client_s_own_retry_goes_to_another_profile() {
    let after_thinking = Script::new().sse().events(upto(&thinking_text("A thought.", "words"), Position::AfterBlock(0)));
    for script in [in_first_block(), after_thinking] {
        for client in [INTERACTIVE, PRINT] {
            let (primary, spare) = (dies_once(script.clone()).await, healthy(FROM_SPARE).await);
            let proxy = Proxy::pair(&primary, &spare).await;
            let turn = Ask::turn().agent(client);
            assert_eq!(proxy.ask(&turn).await.end, End::Cut);
            for retry in 0..3 {
                let answer = proxy.ask(&turn).await;
                assert_eq!((answer.end, answer.profile()), (End::Whole, Some("spare")), "retry {retry}, {client}");
            }
            assert_eq!(primary.messages().len(), 1);
        }
    }
}

#[tokio::test]
async fn the_non_streaming_try_of_the_same_request_is_recognised() {
    let (primary, spare) = (dies_once(in_first_block()).await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    // Without a session only the request itself is recognised.
    let turn = Ask::turn().with("X-Claude-Code-Session-Id", None);
    assert_eq!(proxy.ask(&turn).await.end, End::Cut);
    let answer = proxy.ask(&turn.clone().body(WHOLE).header("anthropic-test-wants", "whole")).await;
    assert_eq!((answer.end, answer.profile()), (End::Whole, Some("spare")));
    let other = STREAMED.replace("Say something.", "Say something else.");
    assert_eq!(proxy.ask(&turn.body(other)).await.profile(), Some("primary"), "another request is none of its business");
}

/// teamclaude #306, relay #1007 #1008, codex-lb #217: a detour that moved others.
#[tokio::test]
async fn r37_a_death_in_one_session_s_hands_moves_no_other_session() {
    let (primary, spare) = (dies_once(in_first_block()).await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    assert_eq!(proxy.ask(&Ask::turn().session("unlucky")).await.end, End::Cut);
    let other = STREAMED.replace("Say something.", "Say something else.");
    let unlucky = proxy.ask(&Ask::turn().session("unlucky").body(other.clone())).await;
    assert_eq!(unlucky.profile(), Some("spare"), "the session stays away for a while");
    assert_eq!(proxy.ask(&Ask::turn().session("lucky").body(other)).await.profile(), Some("primary"));
}

/// cc-switch #7425 (19 requests in 4 minutes to the same provider) #6672, litellm #39703 #40404: answers that broke off counted as good ones,
/// and the next requests went the same way.
#[tokio::test]
async fn r12_r35_answers_that_break_off_count_until_nobody_is_sent_there() {
    let error = r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#;
    let begun = || in_first_block().sleep(Duration::from_millis(30));
    for (way, script) in [("RST", begun().rst()), ("a proper end", begun().end()), ("an error", begun().event("error", error).end())] {
        let (primary, spare) = (plays(script).await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair(&primary, &spare).await;
        let mut served = Vec::new();
        for count in 0..5 {
            let turn = Ask::turn().session(&format!("session-{count}")).body(STREAMED.replace("Say", &format!("{count}: say")));
            served.push(proxy.ask(&turn).await.profile().map(str::to_owned));
        }
        let served: Vec<_> = served.iter().flatten().collect();
        assert_eq!(served, ["primary", "primary", "primary", "spare", "spare"], "{way}");
    }
}

/// TsinHzl/kiro2cc-proxy#27 (all sessions were one), `CLIProxyAPI` #5016 (a suffix of the model made another).
#[tokio::test]
async fn r38_a_session_is_its_id_and_its_agent_whatever_the_model() {
    let (primary, spare) = (dies_once(in_first_block()).await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    let turn = |words: &str| Ask::turn().body(STREAMED.replace("Say something.", words));
    let of_agent = |agent: &str, words: &str| turn(words).header("x-claude-code-agent-id", agent);
    assert_eq!(proxy.ask(&of_agent("one", "first")).await.end, End::Cut);
    let mut suffixed = of_agent("one", "second");
    suffixed.body = String::from_utf8_lossy(&suffixed.body).replace("claude-opus-5-5", "claude-opus-5-5[1m]").into();
    assert_eq!(proxy.ask(&suffixed).await.profile(), Some("spare"), "the same session, whatever the model's name");
    for other in [of_agent("two", "third"), turn("fourth"), of_agent("one", "fifth").session("session-2")] {
        assert_eq!(proxy.ask(&other).await.profile(), Some("primary"), "another agent, or another session");
    }
}

/// hermes #22277, local-operator #198: every request paid for the dead target again.
#[tokio::test]
async fn r34_a_profile_that_just_failed_is_not_asked_first_and_is_tried_again_after_its_cooldown() {
    let down = Script::new().body(503, &[("Content-Type", "application/json"), ("retry-after", "1")], "{}");
    let primary = Upstream::sequence(vec![down, streamed(&text("well again"))]).await.expect("started");
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    let session = |count: usize| Ask::turn().session(&format!("session-{count}")).body(STREAMED.replace("Say", &format!("{count}: say")));
    let failed = Instant::now();
    assert_eq!(proxy.ask(&session(0)).await.profile(), Some("spare"));
    // Each request is another one, of another session: what keeps them away is the profile's own cooldown.
    let mut count = 0;
    loop {
        count += 1;
        let answer = proxy.ask(&session(count)).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        if answer.profile() == Some("primary") {
            break;
        }
        assert_eq!(primary.messages().len(), 1, "it is not asked while it cools down");
        assert!(failed.elapsed() < Duration::from_secs(10), "it is never asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(failed.elapsed() >= Duration::from_secs(1), "it was asked again after {:?}", failed.elapsed());
    assert!(count > 1, "nothing was asked in between");
}

/// teamclaude #412: 4,124 refusals of one dead login relayed in 20 h with three healthy accounts idle; teamclaude #193 #407.
#[tokio::test]
async fn r2_a_dead_login_is_not_asked_until_another_one_comes() {
    let primary = Upstream::start(|request| {
        if request.header("x-api-key") == Some("sk-ant-test-new") {
            streamed(&text("welcome"))
        } else {
            Script::error(401, "authentication_error", "no")
        }
    })
    .await
    .expect("started");
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    for _ in 0..3 {
        assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
    }
    assert_eq!(primary.messages().len(), 1, "asked once with a key that is refused");
    let renewed = Ask::turn().with("x-api-key", Some("sk-ant-test-new")).session("session-2");
    assert_eq!(proxy.ask(&renewed).await.profile(), Some("primary"));
}

#[tokio::test]
async fn overload_of_one_model_family_leaves_the_others_alone() {
    let primary = Upstream::start(|request| {
        // The body is read after the script is chosen: the test says in a header which model it asks for.
        if request.header("x-model") == Some("opus") {
            Script::error(529, "overloaded_error", "Overloaded")
        } else {
            streamed(&text("fine"))
        }
    })
    .await
    .expect("started");
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    for _ in 0..2 {
        assert_eq!(proxy.ask(&Ask::turn().header("x-model", "opus")).await.profile(), Some("spare"));
    }
    let haiku = Ask::turn().session("session-2").body(STREAMED.replace("claude-opus-5-5", "claude-haiku-4-5"));
    assert_eq!(proxy.ask(&haiku).await.profile(), Some("primary"));
}

/// relay #731, litellm #13252, better-ccflare #199, teamclaude #110 #148: counting tokens or probing benched the account.
#[tokio::test]
async fn r42_side_traffic_moves_no_health() {
    // Counting has limits of its own: that they are used up says nothing about asking.
    let counted_out = [
        ("Content-Type", "application/json"),
        ("anthropic-ratelimit-requests-limit", "100"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-unified-status", "rejected"),
    ];
    let faults = [
        Script::error(500, "api_error", "x"),
        Script::error(401, "authentication_error", "x"),
        Script::new().rst(),
        Script::new().body(429, &counted_out, "{}"),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let side = move |request: &Received| if request.path() == "/v1/messages" { streamed(&text("fine")) } else { fault.clone() };
        let (primary, spare) = (Upstream::start(side).await.expect("started"), healthy(FROM_SPARE).await);
        let proxy = Proxy::pair(&primary, &spare).await;
        for count in 0..5 {
            let counting = Ask { target: "/v1/messages/count_tokens".into(), ..Ask::turn() }.header("anthropic-test-wants", "whole");
            let listing = Ask::new("GET", "/v1/models").header("anthropic-test-wants", "whole").header("x-api-key", CLIENT_KEY);
            for ask in [counting.session(&format!("session-{count}")), listing] {
                assert_eq!(proxy.ask(&ask).await.profile(), Some("spare"), "fault {number}: it hops like any other");
            }
        }
        assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("primary"), "fault {number}");
    }
}
