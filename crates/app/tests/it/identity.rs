//! Whose the client's credential is: it reaches the host that the client's own base URL names, and no other.

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use rustix::process::Signal;
use serde_json::json;

use crate::user::{User, asks, signalled};

const BODY: &str = r#"{"model":"claude-opus-5-5","max_tokens":9,"messages":[],"stream":true}"#;

/// What a gateway has issued; it has not the form of Anthropic's keys.
const GATEWAY_TOKEN: &str = "sk-gateway-test-1";

/// A child that sends one message as a client would, and writes the answer's status line and profile.
const ASK: &str = r#"python3 - <<'PY'
import os, urllib.request, urllib.error
headers = dict(line.split(": ", 1) for line in os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines())
headers["authorization"] = "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"]
body = b'{"model":"claude-opus-5-5","max_tokens":9,"messages":[],"stream":true}'
request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", body, headers)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    answer = opener.open(request, timeout=20)
    print(answer.status, answer.headers["x-hotspare-profile"])
    answer.read()
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
PY"#;

async fn answers(words: &'static str) -> Upstream {
    Upstream::start(move |_| Script::new().sse().events(&text(words)).end()).await.expect("started")
}

/// `hotspare run` inside a `hotspare run`, without a configuration, with a gateway in the environment: hotspare 0.1.0 took the inner one's
/// upstream for `api.anthropic.com`, and sent the gateway's token there. (Of the same
/// kind: NVIDIA/SkillSpector#281, a tool that goes past the gateway in its environment.)
#[tokio::test]
async fn field_15_run_in_a_run_reaches_the_gateway_alone() {
    let gateway = answers("from the gateway").await;
    let outside = answers("from outside").await;
    let user =
        User::new().env("ANTHROPIC_BASE_URL", &gateway.url()).env("ANTHROPIC_AUTH_TOKEN", GATEWAY_TOKEN).env("HTTPS_PROXY", &outside.url());
    let hotspare = env!("CARGO_BIN_EXE_hotspare");
    let commands: [&[&str]; 3] = [
        &["run", "--", "sh", "-c", ASK],
        &["run", "--", hotspare, "run", "--", "sh", "-c", ASK],
        &["run", "--", hotspare, "run", "--", hotspare, "run", "--", "sh", "-c", ASK],
    ];
    for (count, command) in commands.into_iter().enumerate() {
        let ended = user.runs(command).await;
        assert!(ended.stdout.starts_with("200"), "{count} inner runs: {ended:?}");
        let requests = gateway.messages();
        assert_eq!(requests.len(), count + 1, "each request comes once");
        let last = requests.last().expect("one");
        assert_eq!(last.header("authorization"), Some(&*format!("Bearer {GATEWAY_TOKEN}")));
        assert_eq!(last.header("x-hotspare-token"), None);
    }
    assert!(outside.requests().is_empty(), "nothing went out of the machine");
}

/// An inner `run` pins the client's settings as an outer one does: a project's file must not pull the traffic away.
#[tokio::test]
async fn inner_run_pins_the_client_to_the_outer_one() {
    let gateway = answers("from the gateway").await;
    let user = User::new().env("ANTHROPIC_BASE_URL", &gateway.url()).env("ANTHROPIC_AUTH_TOKEN", GATEWAY_TOKEN);
    let hotspare = env!("CARGO_BIN_EXE_hotspare");
    let ended = user.runs(&["run", "--", hotspare, "run", "--", "claude"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("already behind the hotspare on http://127.0.0.1:"), "{}", ended.stderr);
    let env = user.settings()["env"].clone();
    let url = env["ANTHROPIC_BASE_URL"].as_str().expect("pinned").to_owned();
    assert!(ended.stderr.contains(&url) && url != gateway.url(), "{url}");
    assert_eq!(env["ANTHROPIC_AUTH_TOKEN"], GATEWAY_TOKEN);
}

/// Variables outlive the process that they name: a run that is left of nothing is a run like any other.
#[tokio::test]
async fn outer_that_is_gone_does_not_count() {
    let user = User::new().env("ANTHROPIC_BASE_URL", "http://127.0.0.1:1").env("ANTHROPIC_CUSTOM_HEADERS", "x-hotspare-token: hs-test");
    let ended = user.runs(&["run", "--", "claude"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_ne!(user.settings()["env"]["ANTHROPIC_BASE_URL"], "http://127.0.0.1:1");
}

/// A gateway in the environment, and a configuration with profiles elsewhere.
fn with_profiles(gateway: &Upstream, elsewhere: &Upstream) -> User {
    let config = json!({
        "failover_policy": { "primary_profile": "company", "secondary_profile": "elsewhere" },
        "profiles": { "elsewhere": { "base_url": elsewhere.url(), "auth": "client" }, "company": { "base_url": gateway.url(), "auth": "client" } },
        "server": { "listen": "127.0.0.1:0" },
    });
    User::new().config(&config.to_string()).env("ANTHROPIC_BASE_URL", &gateway.url()).env("ANTHROPIC_AUTH_TOKEN", GATEWAY_TOKEN)
}

#[tokio::test]
async fn credential_reaches_the_host_of_its_base_url_alone() {
    let (gateway, elsewhere) = (answers("from the gateway").await, answers("from elsewhere").await);
    let user = with_profiles(&gateway, &elsewhere);
    let ended = user.runs(&["run", "--", "sh", "-c", ASK]).await;
    assert_eq!(ended.stdout, "200 company\n", "{ended:?}");
    let owner = gateway.addr().to_string();
    assert!(ended.stderr.contains(&format!("the client's credential belongs to {owner}")), "{}", ended.stderr);
    assert!(elsewhere.requests().is_empty());
    let why = user.runs(&["why", "last"]).await;
    assert!(why.stdout.contains("the client's credential belongs to") && why.stdout.contains(&owner), "{why:?}");
    let listed = user.runs(&["profile", "show", "elsewhere"]).await;
    assert!(listed.stdout.contains(&format!("belongs to {owner}")), "{listed:?}");
    let listed = user.runs(&["profile", "list", "--json"]).await;
    assert!(listed.stdout.contains(&format!("belongs to {owner}")), "{listed:?}");
    let status = user.runs(&["run", "--", env!("CARGO_BIN_EXE_hotspare"), "status"]).await;
    assert!(status.stdout.contains(&format!("elsewhere is left out: the client's credential belongs to {owner}")), "{status:?}");
    let doctor = user.runs(&["doctor"]).await;
    assert!(doctor.stdout.contains("elsewhere: the client's credential belongs to"), "{doctor:?}");
}

/// Where nothing is left that may have it, nothing is started: the words say why.
#[tokio::test]
async fn run_refuses_where_no_profile_may_have_the_credential() {
    let (gateway, elsewhere) = (answers("from the gateway").await, answers("from elsewhere").await);
    let config = json!({ "failover_policy": { "primary_profile": "work" }, "profiles": { "work": { "base_url": elsewhere.url() } } });
    let user = User::new().config(&config.to_string()).env("ANTHROPIC_BASE_URL", &gateway.url());
    let ended = user.runs(&["run", "--", "claude"]).await;
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains(&format!("the client's credential belongs to {}", gateway.addr())), "{}", ended.stderr);
    assert!(!user.client_was_started());
}

#[tokio::test]
async fn serve_adopts_a_gateway_in_its_environment() {
    let gateway = answers("from the gateway").await;
    let config = json!({ "server": { "listen": "127.0.0.1:0" } });
    let user = User::new().config(&config.to_string()).env("ANTHROPIC_BASE_URL", &format!("{}/team", gateway.url()));
    let (child, address, said) = user.serves().await;
    assert!(said.contains(&format!("{}/team, the client's own base URL", gateway.url())), "{said}");
    let headers = format!("x-hotspare-token: {}\r\nauthorization: Bearer {GATEWAY_TOKEN}", user.local_token());
    let answer = asks(address, &headers, BODY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(gateway.requests()[0].target, "/team/v1/messages");
    let ended = signalled(child, Signal::TERM).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Without a base URL of the client's own the first profile that takes its credential names the host; a second host does not get it.
#[tokio::test]
async fn serve_keeps_the_credential_at_the_first_profile() {
    let refuses = Upstream::start(|_| Script::error(529, "overloaded_error", "Overloaded")).await.expect("started");
    let elsewhere = answers("from elsewhere").await;
    let config = json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "elsewhere" },
        "profiles": { "work": { "base_url": refuses.url() }, "elsewhere": { "base_url": elsewhere.url() } },
        "server": { "listen": "127.0.0.1:0" },
    });
    let user = User::new().config(&config.to_string());
    let (child, address, _) = user.serves().await;
    let headers = format!("x-hotspare-token: {}\r\nx-api-key: sk-ant-test-client", user.local_token());
    let answer = asks(address, &headers, BODY).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(refuses.messages()[0].header("x-api-key"), Some("sk-ant-test-client"));
    assert!(elsewhere.requests().is_empty());
    drop(child);
}

/// A gateway's token is not Anthropic's: the profile at `api.anthropic.com` is left out before a connection is made.
#[tokio::test]
async fn gateway_token_is_not_sent_to_anthropic() {
    let outside = answers("from outside").await;
    let config = json!({ "server": { "listen": "127.0.0.1:0" } });
    let user = User::new().config(&config.to_string()).env("HTTPS_PROXY", &outside.url());
    let (child, address, _) = user.serves().await;
    let headers = format!("x-hotspare-token: {}\r\nauthorization: Bearer {GATEWAY_TOKEN}", user.local_token());
    let answer = asks(address, &headers, BODY).await;
    assert!(answer.contains("not one of Anthropic's"), "{answer}");
    assert!(outside.requests().is_empty());
    signalled(child, Signal::TERM).await;
    let why = user.runs(&["why", "last"]).await;
    assert!(why.stdout.contains("not one of Anthropic's"), "{why:?}");
}
