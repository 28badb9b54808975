//! A key that is rotated under running requests: read once more for all who met the old one, and no client sees it.

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::json;

use crate::client::Ask;
use crate::proxy::{Proxy, plays, streamed};

/// Prints `old` the first time, then `new`, and counts in a file.
#[cfg(unix)]
fn rotating(count: &std::path::Path) -> serde_json::Value {
    let script = format!(
        "n=$(cat '{0}' 2>/dev/null | wc -l); echo x >> '{0}'; [ $n = 0 ] && echo sk-ant-test-old || echo sk-ant-test-new",
        count.display()
    );
    json!({ "command": ["sh", "-c", script] })
}

#[cfg(unix)]
#[tokio::test]
async fn two_hundred_401s_at_once_are_one_refresh_and_no_401_for_any_client() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let count = folder.path().join("count");
    let primary = Upstream::start(|request| match request.header("x-api-key") {
        Some("sk-ant-test-new") => streamed(&text("welcome")),
        _ => Script::error(401, "authentication_error", "invalid x-api-key"),
    })
    .await
    .expect("started");
    let spare = plays(Script::not_found()).await;
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "console", "secondary_profile": "spare" },
        "profiles": {
            "console": { "base_url": primary.url(), "auth": rotating(&count) },
            "spare": { "base_url": spare.url(), "auth": { "value": "sk-ant-test-spare" } },
        },
    }))
    .await;
    let asks = (0..200).map(|number| {
        let ask = Ask::turn().session(&format!("session-{number}"));
        let proxy = &proxy;
        async move { proxy.ask(&ask).await }
    });
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!((answer.status, answer.profile()), (200, Some("console")), "{}", answer.text());
    }
    assert_eq!(std::fs::read_to_string(&count).expect("counted").lines().count(), 2, "the key was read twice: at first, and once anew");
    assert!(spare.messages().is_empty());
}
