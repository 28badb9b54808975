//! `hotspare why` while a request hangs: it is in no ledger yet, and the user wants to know where it is.

use std::time::{Duration, Instant};

use hotspare_testkit::{Script, Upstream};
use rustix::process::Signal;
use serde_json::Value;

use crate::user::{User, asks, provider, signalled};

/// Longest that the hang may take to be shown; it is from 3 s on.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn request_that_hangs_is_shown_with_place_and_next() {
    let primary = Upstream::start(|_| Script::new().hang()).await.expect("started");
    let spare = provider("spare").await;
    let user = User::new().pair(&primary.url(), &spare.url());
    let (child, address, _) = user.serves().await;
    user.runs(&["why"]).await.fails(1, &["no exchange is recorded"]);
    let headers = format!("x-hotspare-token: {}\r\nx-api-key: sk-ant-test", user.local_token());
    let body = "{\"model\":\"claude-opus-5-5\",\"stream\":true}";
    let hangs = tokio::spawn(async move { asks(address, &headers, body).await });
    let begun = Instant::now();
    let why = loop {
        let why = user.runs(&["why"]).await;
        if why.code == Some(0) {
            break why.stdout;
        }
        assert!(begun.elapsed() < PATIENCE, "{why:?}");
    };
    assert!(begun.elapsed() >= Duration::from_secs(3), "a request that has just come does not hang: {why}");
    assert!(why.contains("Under way: work has had it for ") && why.contains("→ goes on to backup in "), "{why}");
    let id = why.split_whitespace().find(|word| word.starts_with("hs_")).expect("an id").to_owned();
    let one: Value = serde_json::from_str(&user.runs(&["why", &id, "--json"]).await.stdout).expect("JSON");
    assert_eq!((one["id"].as_str(), one["profile"].as_str(), one["next"].as_str()), (Some(&*id), Some("work"), Some("backup")), "{one}");
    hangs.abort();
    assert!(hangs.await.is_err_and(|ended| ended.is_cancelled()));
    let gone = async { while user.runs(&["why"]).await.stdout.contains("Under way") {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("a client that is gone waits for nothing");
    assert_eq!(signalled(child, Signal::TERM).await.code, Some(0));
}
