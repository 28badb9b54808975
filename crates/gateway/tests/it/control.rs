//! The user's own word to a running gateway: who may say it, and what is heard.

use hotspare_testkit::Script;
use serde_json::{Value, json};

use crate::client::{Answer, Ask};
use crate::proxy::{FROM_SPARE, Proxy, healthy, pair, plays};

fn post(path: &str, body: &Value) -> Ask {
    Ask::new("POST", path).header("Content-Type", "application/json").body(body.to_string())
}

fn said(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// Nobody is asked for these: the providers do not exist.
async fn alone() -> Proxy {
    Proxy::start(&pair("http://127.0.0.1:1", "http://127.0.0.1:1", &json!({}))).await
}

#[tokio::test]
async fn t2_t3_nobody_but_the_user_s_own_programs_is_heard() {
    let proxy = alone().await;
    let spare = json!({ "profile": "spare", "for_s": null });
    let paths = ["/hotspare/reset", "/hotspare/switch", "/hotspare/pause", "/hotspare/resume", "/hotspare/drill", "/hotspare/drill/end"];
    for path in paths {
        let ask = post(path, &spare);
        let cases = [
            (ask.clone().with("x-hotspare-token", None), 401),
            (ask.clone().with("x-hotspare-token", Some("hs-wrong")), 401),
            (ask.clone().header("Origin", "http://evil.example"), 403),
            (ask.clone().header("Sec-Fetch-Site", "cross-site"), 403),
            (ask.clone().with("Content-Type", Some("text/plain")), 415),
            (ask.clone().with("Content-Type", None), 415),
            (Ask { method: "GET".to_owned(), ..ask.clone() }, 404),
            (Ask { method: "DELETE".to_owned(), ..ask }, 404),
        ];
        for (ask, status) in cases {
            assert_eq!(proxy.ask(&ask).await.status, status, "{} {:?}", ask.method, ask.headers);
        }
    }
    let switched = said(&proxy.ask(&Ask::new("GET", "/hotspare/status")).await);
    assert_eq!(switched["switch"], Value::Null, "none of them was heard");
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let proxy = alone().await;
    let cases = [
        ("/hotspare/reset", json!({ "profile": "spaer" }), 404, "did you mean `spare`?"),
        ("/hotspare/switch", json!({ "profile": "spaer", "for_s": null }), 404, "did you mean `spare`?"),
        ("/hotspare/switch", json!({ "profile": "nobody-like-that" }), 404, "there are primary, spare"),
        ("/hotspare/switch", json!({ "profile": "spare", "for_s": 0 }), 400, "`for_s` is from 1"),
        ("/hotspare/switch", json!({ "profile": "spare", "for_s": 691_201 }), 400, "`for_s` is from 1"),
        ("/hotspare/switch", json!({ "profile": "spare", "for_s": -1 }), 400, "no such request"),
        ("/hotspare/switch", json!({ "profile": null }), 400, "no such request"),
        ("/hotspare/switch", json!({ "profile": "spare", "fro_s": 9 }), 400, "unknown field `fro_s`"),
        ("/hotspare/pause", json!({ "profile": "spaer" }), 404, "did you mean `spare`?"),
        ("/hotspare/pause", json!({ "profile": "spare", "for_s": 0 }), 400, "`for_s` is from 1"),
        ("/hotspare/pause", json!({ "profile": "spare", "even_lats": true }), 400, "unknown field `even_lats`"),
        ("/hotspare/resume", json!({ "profile": "spaer" }), 404, "did you mean `spare`?"),
        ("/hotspare/reset", json!([]), 400, "no such request"),
        ("/hotspare/reset", json!({ "profile": "x".repeat(20_000) }), 400, "no such request"),
        ("/hotspare/nothing", json!({}), 404, "nothing at this path"),
    ];
    for (path, body, status, words) in cases {
        let answer = proxy.ask(&post(path, &body)).await;
        let message = said(&answer)["error"]["message"].as_str().expect("words").to_owned();
        assert!(answer.status == status && message.contains(words), "{} {message}", answer.status);
    }
}

#[tokio::test]
async fn the_answers_are_typed_and_versioned() {
    let primary = plays(Script::error(402, "billing_error", "no credit")).await;
    let spare = healthy(FROM_SPARE).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    proxy.ask(&Ask::turn()).await;
    let reset = async |profile: Value| said(&proxy.ask(&post("/hotspare/reset", &json!({ "profile": profile }))).await);
    assert_eq!(reset(json!("spare")).await, json!({ "version": 1, "freed": [], "kept": [] }));
    assert_eq!(reset(Value::Null).await, json!({ "version": 1, "freed": ["primary"], "kept": [] }));
    let switch = async |body: Value| said(&proxy.ask(&post("/hotspare/switch", &body)).await);
    let first = switch(json!({ "profile": "spare", "for_s": 60 })).await;
    assert_eq!(first, json!({ "version": 1, "profile": "spare", "for_s": 60, "before": null, "serving": "spare", "not_now": null }));
    let status = said(&proxy.ask(&Ask::new("GET", "/hotspare/status")).await);
    assert_eq!(status["serving"], "spare", "before the next request");
    assert_eq!(status["switch"], json!({ "profile": "spare", "for_s": 60 }));
    let back = switch(json!({ "profile": "auto" })).await;
    assert_eq!(back, json!({ "version": 1, "profile": null, "for_s": null, "before": "spare", "serving": "primary", "not_now": null }));
    let status = said(&proxy.ask(&Ask::new("GET", "/hotspare/status")).await);
    assert_eq!(status["serving"], "primary");
}
