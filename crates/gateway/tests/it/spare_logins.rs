//! Spares whose login has run out: renewed by Claude Code at the hop or ahead of it, and left out once the login has ended. A script plays
//! Claude Code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hotspare_gateway::status::LoginStatus;
use hotspare_gateway::{Gateway, Options, Outside};
use hotspare_testkit::answers::text;
use hotspare_testkit::{Received, Script, Upstream};
use hotspare_upstream::{ClaudeClient, Renewals};
use serde_json::{Value, json};

use crate::client::Ask;
use crate::proxy::{Proxy, SPARE_KEY, options, plays, streamed};

/// The token of the second login before and after its renewal.
const OLD: &str = "sk-ant-oat01-test-old";
const NEW: &str = "sk-ant-oat01-test-new";

/// Does what Claude Code 2.1.332 does when the token endpoint refuses the refresh token.
const DIES: &str = r#"echo '{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0}}' > $CLAUDE_CONFIG_DIR/.credentials.json"#;

/// A second login, and a program that renews it.
struct Lab {
    root: tempfile::TempDir,
}

impl Lab {
    /// The login's token ran out a day ago. `act` is what the program does for it; `renew` renews it for an hour.
    fn new(act: &str) -> Self {
        let lab = Self { root: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir(lab.folder()).expect("made");
        lab.write_login(OLD, SystemTime::now() - Duration::from_secs(86_400));
        let script = format!(
            "#!/bin/sh\n\
             if [ \"$1\" = --version ]; then echo '2.1.332 (Claude Code)'; exit; fi\n\
             echo run >> '{runs}'\n\
             renew() {{ cp '{renewed}' $CLAUDE_CONFIG_DIR/.new; chmod 600 $CLAUDE_CONFIG_DIR/.new; \
             mv $CLAUDE_CONFIG_DIR/.new $CLAUDE_CONFIG_DIR/.credentials.json; }}\n\
             {act}\n",
            runs = lab.path("runs").display(),
            renewed = lab.path("renewed").display(),
        );
        fs::write(lab.path("renewed"), login(NEW, SystemTime::now() + Duration::from_secs(3600))).expect("written");
        fs::write(lab.path("claude"), script).expect("written");
        fs::set_permissions(lab.path("claude"), fs::Permissions::from_mode(0o755)).expect("mode set");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn folder(&self) -> PathBuf {
        self.path("login")
    }

    fn write_login(&self, token: &str, expires: SystemTime) {
        write_private(&self.folder().join(".credentials.json"), &login(token, expires));
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count()
    }

    /// The client's own login, then the second one, then a key.
    async fn proxy(&self, primary: &Upstream, second: &Upstream, third: &Upstream, more: Value) -> (Proxy, std::sync::Arc<Gateway>) {
        let mut login = json!({ "base_url": second.url(), "auth": { "claude_config_dir": self.folder() } });
        login.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let config = json!({
            "failover_policy": { "primary_profile": "primary", "secondary_profile": ["second", "third"] },
            "profiles": {
                "primary": { "base_url": primary.url() },
                "second": login,
                "third": { "base_url": third.url(), "auth": { "value": SPARE_KEY } },
            },
        });
        let outside = Outside::default().with_dice(|| 0.0).with_renewals(Renewals::by(ClaudeClient::at([self.path("claude")])));
        Proxy::start_with(&config, Options { outside, ..options() }).await
    }
}

fn login(token: &str, expires: SystemTime) -> String {
    let millis = expires.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    format!(r#"{{"claudeAiOauth":{{"accessToken":"{token}","refreshToken":"sk-ant-ort01-test","expiresAt":{millis}}}}}"#)
}

fn write_private(file: &Path, text: &str) {
    fs::write(file, text).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("mode set");
}

async fn spent() -> Upstream {
    let headers = [
        ("Content-Type", "application/json"),
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-reset", "4000000000"),
    ];
    plays(Script::new().body(429, &headers, r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#)).await
}

/// Serves the renewed token alone.
async fn second() -> Upstream {
    Upstream::start(|request: &Received| match request.header("authorization") {
        Some(token) if token.ends_with(NEW) => streamed(&text("from the second login")),
        _ => Script::error(401, "authentication_error", "invalid token"),
    })
    .await
    .expect("started")
}

async fn third() -> Upstream {
    plays(streamed(&text("from the key"))).await
}

fn of_second(gateway: &Gateway) -> (String, Option<LoginStatus>) {
    let profile = gateway.status().profiles.into_iter().find(|profile| profile.name == "second").expect("the second profile");
    (profile.state, profile.login)
}

/// A second login's token lives for 8 hours, so a spare login is nearly always expired when it is needed.
#[tokio::test]
async fn field_20_expired_second_login_is_renewed_at_the_hop() {
    let lab = Lab::new("renew");
    let (primary, second, third) = (spent().await, second().await, third().await);
    let (proxy, gateway) = lab.proxy(&primary, &second, &third, json!({})).await;
    for _ in 0..2 {
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("second")), "{}", answer.text());
    }
    assert_eq!((lab.runs(), second.messages().len(), third.messages().len()), (1, 2, 0), "never sent with the old token");
    let (state, login) = of_second(&gateway);
    let login = login.expect("it is renewed");
    assert!(state == "serving" && login.renewed_ago_s.is_some() && login.problem.is_none() && login.log_in.is_none(), "{login:?}");
}

#[tokio::test]
async fn ten_exchanges_at_once_are_one_renewal() {
    let lab = Lab::new("sleep 0.2; renew");
    let (primary, second, third) = (spent().await, second().await, third().await);
    let (proxy, _gateway) = lab.proxy(&primary, &second, &third, json!({})).await;
    let asks = (0..10).map(|number| {
        let (ask, proxy) = (Ask::turn().session(&format!("session-{number}")), &proxy);
        async move { proxy.ask(&ask).await }
    });
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!((answer.status, answer.profile()), (200, Some("second")), "{}", answer.text());
    }
    assert_eq!((lab.runs(), third.messages().len()), (1, 0));
}

#[tokio::test]
async fn dead_refresh_token_gives_way_to_the_third_profile_with_one_notice() {
    let lab = Lab::new(DIES);
    let (primary, second, third) = (spent().await, second().await, third().await);
    let (proxy, gateway) = lab.proxy(&primary, &second, &third, json!({})).await;
    for _ in 0..3 {
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("third")), "{}", answer.text());
    }
    assert_eq!((lab.runs(), second.messages().len()), (1, 0));
    let command = format!("CLAUDE_CONFIG_DIR={} claude auth login", lab.folder().display());
    let told: Vec<String> =
        gateway.notices().notices.into_iter().filter(|told| told.reason == "login_ended").map(|told| told.text).collect();
    assert_eq!(told, [format!("the login of second has ended; log in again: {command}")]);
    let (state, login) = of_second(&gateway);
    assert_eq!((state.as_str(), login.expect("a login").log_in), ("blocked", Some(command)));
    // The user has logged in again.
    lab.write_login(NEW, SystemTime::now() + Duration::from_secs(3600));
    assert_eq!(of_second(&gateway).1.expect("a login").log_in, None);
    let answer = proxy.ask(&Ask::turn().session("another")).await;
    assert_eq!((answer.status, lab.runs()), (200, 1), "{}", answer.text());
}

#[tokio::test]
async fn failed_renewal_gives_way_to_the_third_profile_and_is_not_repeated() {
    let lab = Lab::new("exit 1");
    let (primary, second, third) = (spent().await, second().await, third().await);
    let (proxy, gateway) = lab.proxy(&primary, &second, &third, json!({})).await;
    for number in 0..3 {
        let answer = proxy.ask(&Ask::turn().session(&format!("session-{number}"))).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("third")), "{}", answer.text());
    }
    assert_eq!((lab.runs(), second.messages().len()), (1, 0));
    let login = of_second(&gateway).1.expect("a login");
    assert!(login.problem.is_some_and(|problem| problem.contains("exit status: 1")) && login.log_in.is_none());
}

#[tokio::test]
async fn renew_false_leaves_an_expired_login_alone() {
    let lab = Lab::new("renew");
    let (primary, second, third) = (spent().await, second().await, third().await);
    let (proxy, gateway) = lab.proxy(&primary, &second, &third, json!({ "renew": false })).await;
    let answer = proxy.ask(&Ask::turn()).await;
    assert_eq!((answer.status, answer.profile()), (200, Some("third")), "{}", answer.text());
    assert_eq!((lab.runs(), of_second(&gateway).1), (0, None));
}

#[tokio::test]
async fn login_is_renewed_ahead_where_the_window_before_it_nears_its_end() {
    for (used, renewed) in [("0.95", true), ("0.50", false)] {
        let lab = Lab::new("renew");
        let primary = plays(
            Script::new()
                .head(
                    200,
                    &[
                        ("Content-Type", "text/event-stream"),
                        ("Transfer-Encoding", "chunked"),
                        ("anthropic-ratelimit-unified-5h-status", "allowed"),
                        ("anthropic-ratelimit-unified-5h-utilization", used),
                        ("anthropic-ratelimit-unified-5h-reset", "4000000000"),
                    ],
                )
                .events(&text("well"))
                .end(),
        )
        .await;
        let (second, third) = (second().await, third().await);
        let (proxy, gateway) = lab.proxy(&primary, &second, &third, json!({})).await;
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("primary")), "{}", answer.text());
        let renewed_at = || of_second(&gateway).1.expect("a login").renewed_ago_s;
        while renewed && renewed_at().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(lab.runs(), usize::from(renewed), "{used}");
        assert!(second.messages().is_empty(), "{used}: nothing is sent for it");
    }
}

/// A client that hangs up while the login is renewed must not cost the login: the renewal goes on.
#[tokio::test]
async fn renewal_outlives_the_client_that_waits_for_it() {
    let lab = Lab::new("while [ ! -e $CLAUDE_CONFIG_DIR/../go ]; do sleep 0.01; done; renew");
    let (primary, second, third) = (spent().await, second().await, third().await);
    let (proxy, gateway) = lab.proxy(&primary, &second, &third, json!({})).await;
    let mut impatient = crate::client::Connection::open(proxy.addr).await;
    impatient.ask(&Ask::turn()).await;
    while lab.runs() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(impatient);
    fs::write(lab.path("go"), "").expect("written");
    while of_second(&gateway).1.expect("a login").renewed_ago_s.is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let answer = proxy.ask(&Ask::turn()).await;
    assert_eq!((answer.status, answer.profile(), lab.runs()), (200, Some("second"), 1), "{}", answer.text());
}
