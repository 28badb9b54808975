//! Several logins that Claude Code keeps in folders of their own, and a key after them: spent one after the other, and none of the folders
//! is touched.

use std::path::Path;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::json;

use crate::client::Ask;
use crate::proxy::{Proxy, streamed};

/// A folder as Claude Code leaves it, with a login for an hour.
#[cfg(unix)]
fn folder(root: &Path, name: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let folder = root.join(name);
    std::fs::create_dir(&folder).expect("made");
    let hour = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    let millis = hour.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let login = format!(
        r#"{{"claudeAiOauth":{{"accessToken":"sk-ant-oat01-test-{name}","refreshToken":"sk-ant-test-refresh","expiresAt":{millis}}}}}"#
    );
    let file = folder.join(".credentials.json");
    std::fs::write(&file, login).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    folder
}

/// Everything in a folder, with its times.
fn state(folder: &Path) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let entries = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = entries
        .map(|path| {
            let changed = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("its time");
            (path.display().to_string(), std::fs::read(&path).expect("its bytes"), changed)
        })
        .collect();
    found.sort();
    found
}

/// Account pools know no keys, gateways refuse logins (measured): here a login, another and a key are one chain.
#[cfg(unix)]
#[tokio::test]
async fn r68_two_logins_and_a_key_are_spent_one_after_the_other_and_no_login_is_touched() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (folder(root.path(), "first"), folder(root.path(), "second"));
    let before = (state(&first), state(&second));
    let spent = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let seen = spent.clone();
    let anthropic = Upstream::start(move |request: &Received| {
        let who = request.header("authorization").or(request.header("x-api-key")).unwrap_or_default().to_owned();
        let spent = seen.lock().expect("not poisoned").iter().any(|name| who.ends_with(name));
        let headers = [
            ("Content-Type", "application/json"),
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-reset", "4000000000"),
        ];
        let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#;
        if spent { Script::new().body(429, &headers, body) } else { streamed(&text("served")) }
    })
    .await
    .expect("started");
    let login = |folder: &Path| json!({ "base_url": anthropic.url(), "auth": { "claude_config_dir": folder } });
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "first", "secondary_profile": ["second", "key"] },
        "profiles": {
            "first": login(&first),
            "second": login(&second),
            "key": { "base_url": anthropic.url(), "auth": { "value": "sk-ant-test-key" } },
        },
    }))
    .await;
    for (name, spends) in [("first", None), ("second", Some("first")), ("key", Some("second"))] {
        spent.lock().expect("not poisoned").extend(spends.map(str::to_owned));
        for _ in 0..2 {
            let answer = proxy.ask(&Ask::turn()).await;
            assert_eq!((answer.status, answer.profile()), (200, Some(name)), "{}", answer.text());
        }
    }
    assert_eq!((state(&first), state(&second)), before, "never refreshed, copied or written");
    for request in anthropic.messages() {
        assert!(!String::from_utf8_lossy(&request.raw_head).contains("refresh"), "the refresh token stays where it is");
    }
    assert_eq!(anthropic.messages().len(), 6 + 2, "a spent window is asked once");
}
