//! `profile test`: what it asks, what it says, and with which code it ends.

use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};

use crate::user::{Ended, User};

const KEY: &str = "sk-ant-test-proving";

fn user(profile: &Value) -> User {
    let config = json!({ "failover_policy": { "primary_profile": "x" }, "profiles": { "x": profile } });
    User::new().config(&config.to_string()).env("X_KEY", KEY)
}

fn at(url: &str, more: &Value) -> User {
    let mut profile = json!({ "base_url": url, "auth": { "env": "X_KEY" } });
    for (key, value) in more.as_object().expect("an object") {
        profile[key] = value.clone();
    }
    user(&profile)
}

async fn answers(status: u16, body: &'static str) -> Upstream {
    Upstream::start(move |_| Script::new().body(status, &[("content-type", "application/json")], body)).await.expect("started")
}

async fn tested(user: &User, more: &[&str]) -> Ended {
    let ended = user.runs(&[&["profile", "test", "x"][..], more].concat()).await;
    assert!(!format!("{ended:?}").contains(KEY), "{ended:?}");
    ended
}

#[tokio::test]
async fn a_key_is_proven_without_a_token() {
    let upstream = answers(200, r#"{"input_tokens":8}"#).await;
    let user = at(&upstream.url(), &json!({}));
    let ended = tested(&user, &[]).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("accepted; 8 tokens counted, none spent"), "{ended:?}");
    let paths: Vec<String> = upstream.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(paths, ["/v1/messages/count_tokens"], "and nothing else is asked");
    let report: Value = serde_json::from_str(&tested(&user, &["--json"]).await.stdout).expect("JSON");
    assert_eq!((&report["proven"], &report["steps"][1]["name"], &report["missing"]), (&json!(true), &json!("connect"), &Value::Null));
    let schema: Value = serde_json::from_str(&user.runs(&["schema", "test"]).await.stdout).expect("JSON");
    crate::lasting::assert_described(&schema, &schema, &report, "test");
}

#[tokio::test]
async fn openrouter_s_key_is_asked_about_for_its_models_are_for_everybody() {
    let upstream = answers(200, r#"{"data":{"label":"k","limit_remaining":4.5}}"#).await;
    let ended = tested(&at(&upstream.url(), &json!({ "platform": "openrouter" })), &[]).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("$4.50 of the key's limit left"), "{ended:?}");
    assert_eq!(upstream.requests()[0].target, "/v1/key");
}

#[tokio::test]
async fn where_nothing_free_proves_it_the_price_is_said_and_paid_only_when_told() {
    let upstream = Upstream::start(|request| {
        if request.target == "/v1/messages" {
            Script::new().body(
                200,
                &[("content-type", "application/json")],
                r#"{"model":"glm-5","usage":{"input_tokens":7,"output_tokens":1}}"#,
            )
        } else {
            Script::new().body(404, &[("content-type", "application/json")], "{}")
        }
    })
    .await
    .expect("started");
    let user = at(&upstream.url(), &json!({ "preset": "zai", "models": { "claude-*": "glm-5" } }));
    let ended = tested(&user, &[]).await;
    assert!(ended.code == Some(1) && ended.stdout.contains("`--spend` sends one message to glm-5"), "{ended:?}");
    assert!(upstream.requests().iter().all(|request| request.target != "/v1/messages"));
    let ended = tested(&user, &["--spend"]).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("answered by glm-5; 7 tokens in, 1 out"), "{ended:?}");
}

#[tokio::test]
async fn each_failure_ends_with_the_code_of_whoever_must_act() {
    for (status, body, code, words) in [
        (401, r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#, 4, "(unauthorized): log in again"),
        (402, r#"{"type":"error","error":{"type":"billing_error","message":"no credit"}}"#, 9, "billing"),
        (429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#, 9, "429"),
        (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#, 7, "overloaded"),
        (500, r#"{"type":"error","error":{"type":"api_error","message":"oops"}}"#, 7, "server error"),
        (200, "<html>welcome</html>", 1, "is the address right?"),
    ] {
        let upstream = answers(status, body).await;
        let ended = tested(&at(&upstream.url(), &json!({})), &[]).await;
        assert!(ended.code == Some(code) && ended.stdout.contains(words), "{status}: {ended:?}");
        assert_eq!(upstream.requests().len(), 1, "the first failure is the last step");
    }
    let ended = tested(&at("http://127.0.0.1:1", &json!({})), &[]).await;
    assert!(ended.code == Some(8) && ended.stdout.contains("connection refused"), "{ended:?}");
    let ended = tested(&user(&json!({ "auth": { "env": "NOT_SET" } })), &[]).await;
    assert!(ended.code == Some(4) && ended.stdout.contains("`NOT_SET` is not set"), "{ended:?}");
    user(&json!({})).runs(&["profile", "test", "y"]).await.fails(2, &["no profile is named `y`"]);
}

/// The client's own login never comes near this: only an address is looked at.
#[tokio::test]
async fn t6_a_login_of_the_client_is_not_tested_and_a_redirect_not_followed() {
    let upstream = answers(200, "{}").await;
    let ended = tested(&user(&json!({ "base_url": upstream.url() })), &[]).await;
    assert!(ended.code == Some(1) && ended.stdout.contains("only a request of the client proves it"), "{ended:?}");
    assert!(upstream.requests().is_empty());
    let elsewhere = answers(200, r#"{"input_tokens":8}"#).await;
    let location: &'static str = Box::leak(elsewhere.url().into_boxed_str());
    let upstream = Upstream::start(move |_| Script::new().body(307, &[("location", location)], "")).await.expect("started");
    let ended = tested(&at(&upstream.url(), &json!({})), &[]).await;
    assert!(ended.code == Some(1) && elsewhere.requests().is_empty(), "{ended:?}");
}
