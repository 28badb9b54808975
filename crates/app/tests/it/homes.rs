//! `init` in homes as people have them: what it says of each, the chain that it makes, and whether a real request then meets what was said.
//! And whatever a home holds: a credential reaches the host that it was named for, and no other.

use std::os::unix::fs::PermissionsExt;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::{Value, json};

use crate::user::{Ended, User};

/// A client that reads its settings as Claude Code ranks them, sends one message with its credential, and prints what came.
pub(crate) const CLIENT: &str = r#"#!/usr/bin/env python3
import json, os, sys, urllib.request, urllib.error
layers, arguments = [], sys.argv[1:]
if "--settings" in arguments:
    layers.append(json.load(open(arguments[arguments.index("--settings") + 1])).get("env", {}))
try:
    layers.append(json.load(open(os.path.expanduser("~/.claude/settings.json"))).get("env", {}))
except OSError:
    pass
layers.append(os.environ)
def value(name):
    return next((layer[name] for layer in layers if name in layer), "")
url = value("ANTHROPIC_BASE_URL")
if not url:
    print("direct"); sys.exit(0)
headers = dict(line.split(": ", 1) for line in value("ANTHROPIC_CUSTOM_HEADERS").splitlines() if line)
headers["authorization"] = "Bearer " + (value("ANTHROPIC_AUTH_TOKEN") or "sk-ant-oat01-test-login")
headers["content-type"] = "application/json"
model = value("ANTHROPIC_MODEL") or "claude-opus-5-5"
body = json.dumps({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    answer = opener.open(urllib.request.Request(url + "/v1/messages", body, headers), timeout=25)
    print(answer.status, answer.headers["x-hotspare-profile"]); answer.read()
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode()[:300])
except Exception as error:
    print("failed", error)
"#;

/// A provider that answers messages, accepts keys that begin with `good`, and rejects the others.
async fn provider() -> Upstream {
    let play = |request: &Received| {
        let key =
            request.header("authorization").or(request.header("x-api-key")).unwrap_or_default().trim_start_matches("Bearer ").to_owned();
        match request.target.as_str() {
            "/v1/key" | "/v1/models?limit=1" if key.starts_with("good") => {
                Script::new().body(200, &[("content-type", "application/json")], json!({ "data": {} }).to_string())
            }
            "/v1/key" | "/v1/models?limit=1" => Script::error(401, "authentication_error", "No such key"),
            _ => Script::new().sse().events(&text("fine")).end(),
        }
    };
    Upstream::start(play).await.expect("started")
}

async fn overloaded() -> Upstream {
    Upstream::start(|_| Script::error(529, "overloaded_error", "Overloaded")).await.expect("started")
}

pub(crate) fn with_client(user: User) -> User {
    let user = user.file("bin/claude", CLIENT).env("HTTPS_PROXY", "http://127.0.0.1:9");
    std::fs::set_permissions(user.path("bin/claude"), std::fs::Permissions::from_mode(0o755)).expect("mode set");
    user
}

fn login(user: User, folder: &str, plan: Option<&str>) -> User {
    let mut oauth = json!({ "accessToken": "sk-ant-oat01-test-login", "refreshToken": "x", "expiresAt": 4_000_000_000_000_u64 });
    if let Some(plan) = plan {
        oauth["subscriptionType"] = plan.into();
    }
    let name = format!("home/{folder}/.credentials.json");
    let user = user.file(&name, &json!({ "claudeAiOauth": oauth }).to_string());
    std::fs::set_permissions(user.path(&name), std::fs::Permissions::from_mode(0o600)).expect("mode set");
    user
}

/// One home, and what must be said of it.
struct Home {
    name: &'static str,
    user: User,
    /// The chain that `init` reports; empty: nothing can take over.
    chain: &'static [&'static str],
    /// What the screen says.
    says: &'static [&'static str],
    /// Who serves the client's own request after `init`, while the primary fails; `None` if nothing on loopback could.
    served_by: Option<&'static str>,
}

impl Home {
    #[track_caller]
    fn new(name: &'static str, user: User, chain: &'static [&'static str], says: &'static [&'static str]) -> Self {
        Self { name, user: with_client(user), chain, says, served_by: None }
    }

    fn served_by(mut self, profile: &'static str) -> Self {
        self.served_by = Some(profile);
        self
    }
}

fn openrouter(user: User, spare: &Upstream, key: &str) -> User {
    user.env("OPENROUTER_API_KEY", key).env("OPENROUTER_BASE_URL", &spare.url())
}

fn gateway(user: User, url: &str, more: &[(&str, &str)]) -> User {
    let mut env = json!({ "ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "gateway-token" });
    for (name, value) in more {
        env[*name] = (*value).into();
    }
    user.file("home/.claude/settings.json", &json!({ "env": env }).to_string())
}

fn configured(user: User, profiles: &Value, policy: Option<&Value>) -> User {
    let mut config = json!({ "profiles": profiles });
    if let Some(policy) = policy {
        config["failover_policy"] = policy.clone();
    }
    user.config(&serde_json::to_string_pretty(&config).expect("JSON"))
}

fn homes(spare: &Upstream, down: &Upstream) -> Vec<Home> {
    let url = down.url();
    let max = || login(User::new(), ".claude", Some("max"));
    let pair = json!({ "primary_profile": "work", "secondary_profile": ["backup"] });
    let work_and_backup = json!({ "work": { "base_url": url, "auth": "client" }, "backup": { "platform": "openrouter", "base_url": spare.url(), "auth": { "env": "BACKUP" } } });
    vec![
        Home::new("nothing", User::new(), &[], &["Nothing was found that could answer"]),
        Home::new("login alone", max(), &[], &["Nobody could take over: max is all"]),
        Home::new("login and key", openrouter(max(), spare, "good-1"), &["max", "openrouter"], &["its key is accepted"]).served_by("openrouter"),
        Home::new("login and a rejected key", openrouter(max(), spare, "bad-1"), &[], &["not counted: OpenRouter", "its key is rejected"]),
        Home::new(
            "login and a key that cannot be proved",
            max().env("OPENROUTER_API_KEY", "good-1").env("OPENROUTER_BASE_URL", "http://127.0.0.1:9"),
            &["max", "openrouter"],
            &["its key is not proved"],
        ),
        Home::new("login without a plan", openrouter(login(User::new(), ".claude", None), spare, "good-1"), &["subscription", "openrouter"], &[])
            .served_by("openrouter"),
        Home::new("own key alone", User::new().env("ANTHROPIC_API_KEY", "sk-ant-test-1"), &[], &["Nobody could take over: api is all"]),
        Home::new("own key and another", openrouter(User::new().env("ANTHROPIC_API_KEY", "sk-ant-test-1"), spare, "good-1"), &["api", "openrouter"], &[])
            .served_by("openrouter"),
        Home::new("gateway alone", gateway(User::new(), &url, &[]), &[], &["Nobody could take over: gateway is all"]),
        Home::new("gateway and key", openrouter(gateway(max(), &url, &[]), spare, "good-1"), &["gateway", "openrouter"], &["where Claude Code goes today"])
            .served_by("openrouter"),
        Home::new(
            "gateway with its own models",
            openrouter(gateway(User::new(), &url, &[("ANTHROPIC_MODEL", "glm-5"), ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "glm-5-air")]), spare, "good-1"),
            &["gateway", "openrouter"],
            &["Claude Code asks for glm-5, glm-5-air"],
        )
        .served_by("openrouter"),
        Home::new(
            "gateway in the environment",
            openrouter(User::new().env("ANTHROPIC_BASE_URL", &url).env("ANTHROPIC_AUTH_TOKEN", "gateway-token"), spare, "good-1"),
            &["gateway", "openrouter"],
            &["in the environment"],
        )
        .served_by("openrouter"),
        Home::new(
            "alias beside a login",
            openrouter(max(), spare, "good-1").file("home/.bashrc", &format!("alias glm='ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN=t claude'\n")),
            &["max", "openrouter"],
            &["~/.bashrc:1 starts Claude Code with", "no other host"],
        )
        .served_by("openrouter"),
        Home::new("two logins", login(max(), ".claude-second", Some("pro")), &[], &["only if you say so: the pro login"]),
        Home::new("login and a cloud", max().file("home/.aws/credentials", "[default]\n"), &[], &["bedrock (~/.aws/credentials)"]),
        Home::new(
            "files of other tools",
            openrouter(max(), spare, "good-1").file("home/.cc-switch/config.json", "{}").file("home/litellm_config.yaml", "model_list: []\n"),
            &["max", "openrouter"],
            &["hotspare profile import --spare ~/.cc-switch/config.json", "LiteLLM has providers"],
        )
        .served_by("openrouter"),
        Home::new(
            "profiles without a policy",
            openrouter(configured(max(), &json!({ "claude": { "base_url": url, "auth": "client" } }), None), spare, "good-1"),
            &["claude", "openrouter"],
            &["+ "],
        )
        .served_by("openrouter"),
        Home::new(
            "a chain without a spare",
            openrouter(configured(max(), &json!({ "work": { "base_url": url, "auth": "client" } }), Some(&json!({ "primary_profile": "work" }))), spare, "good-1"),
            &["work", "openrouter"],
            &["+ "],
        )
        .served_by("openrouter"),
        Home::new("a whole chain", configured(max(), &work_and_backup, Some(&pair)).env("BACKUP", "good-2"), &["work", "backup"], &["stays as it is"])
            .served_by("backup"),
        Home::new(
            "a chain whose spare has no key",
            configured(max(), &work_and_backup, Some(&pair)),
            &["work", "backup"],
            &["not counted", "environment variable `BACKUP` is not set"],
        ),
        Home::new(
            "a chain past the gateway in use",
            openrouter(gateway(configured(User::new(), &json!({ "work": {}, "backup": { "platform": "openrouter", "base_url": spare.url(), "auth": { "env": "BACKUP" } } }), Some(&pair)), &url, &[]), spare, "good-1")
                .env("BACKUP", "good-2"),
            &["gateway", "backup"],
            &["Claude Code's credential belongs to"],
        )
        .served_by("backup"),
    ]
}

fn report(ended: &Ended, home: &str) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{home}: {ended:?}"))
}

#[tokio::test]
async fn init_is_true_in_twenty_homes() {
    let (spare, down) = (provider().await, overloaded().await);
    for home in homes(&spare, &down) {
        let name = home.name;
        let before = home.user.everything();
        let dry = home.user.runs(&["init", "--dry-run", "--no-install", "--json"]).await;
        assert_eq!(home.user.everything(), before, "{name}: a dry run writes nothing");
        let screen = home.user.runs(&["init", "--dry-run", "--no-install"]).await.stdout;
        for words in home.says {
            assert!(screen.contains(words), "{name}: {words:?} is not in:\n{screen}");
        }
        let done = home.user.runs(&["init", "--yes", "--no-install", "--json"]).await;
        let (dry, done) = (report(&dry, name), report(&done, name));
        assert_eq!(done["chain"], json!(home.chain), "{name}: {screen}");
        assert_eq!(dry["chain"], done["chain"], "{name}: a dry run says what is done");
        let Some(served_by) = home.served_by else {
            let is_green = done["passed"] == true && name != "login and a key that cannot be proved";
            assert!(!is_green, "{name}: nothing takes over, and the drill passed: {done}");
            continue;
        };
        assert_eq!(done["passed"], true, "{name}: {done}");
        let ran = home.user.runs(&["run", "--", "claude"]).await;
        assert_eq!(ran.stdout, format!("200 {served_by}\n"), "{name}: {ran:?}");
        let text = std::fs::read_to_string(home.user.path("home/.config/hotspare/config.json")).expect("written");
        let again = report(&home.user.runs(&["init", "--yes", "--no-install", "--json"]).await, name);
        assert_eq!(again["chain"], done["chain"], "{name}: once more");
        let now = std::fs::read_to_string(home.user.path("home/.config/hotspare/config.json")).expect("there");
        assert_eq!(now, text, "{name}: once more, nothing changes");
    }
    let models: Vec<Value> = spare.messages().iter().map(Received::json).collect();
    assert!(models.iter().all(|body| body["model"].as_str().is_some_and(|model| model.starts_with("anthropic/"))), "{models:?}");
}

/// A profile that `init` finds is edited and not replaced: it dropped `base_url`.
#[tokio::test]
async fn init_edits_a_profile_and_keeps_its_keys() {
    let spare = provider().await;
    let before = "{\n  // mine\n  \"profiles\": {\n    \"claude\": { \"base_url\": \"http://127.0.0.1:9\", \"clocks\": { \"head\": \"20s\" } }\n  }\n}\n";
    let user = with_client(openrouter(login(User::new(), ".claude", Some("max")).config(before), &spare, "good-1"));
    let done = user.runs(&["init", "--yes", "--no-install"]).await;
    let text = std::fs::read_to_string(user.path("home/.config/hotspare/config.json")).expect("there");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        text.contains("// mine\n")
            && text.contains("\"claude\": { \"base_url\": \"http://127.0.0.1:9\", \"clocks\": { \"head\": \"20s\" } }"),
        "{text}"
    );
    assert!(text.contains("\"primary_profile\": \"claude\""), "{text}");
    assert_eq!(done.stderr.matches("HS0407").count(), 1, "{}", done.stderr);
}

/// A key of the shell alone is not in the service: it is stored, and the profile reads it from there.
#[tokio::test]
async fn init_stores_a_key_that_only_the_shell_has() {
    let (spare, down) = (provider().await, overloaded().await);
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let config = json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": ["backup"] },
        "profiles": {
            "work": { "base_url": down.url(), "auth": "client" },
            "backup": { "platform": "openrouter", "base_url": spare.url(), "auth": { "env": "BACKUP" } },
        },
        "server": { "listen": format!("127.0.0.1:{port}") },
    });
    let user = with_client(User::new()).config(&serde_json::to_string_pretty(&config).expect("JSON")).env("BACKUP", "good-2");
    let dry = user.runs(&["init", "--dry-run"]).await;
    assert!(dry.stdout.contains("a copy of BACKUP") && dry.stdout.contains("- "), "{dry:?}");
    let done = user.runs(&["init", "--yes", "--json"]).await;
    let user = user.without("BACKUP");
    let served = crate::user::ended(user.shell("claude")).await.stdout;
    let off = user.runs(&["uninstall"]).await;
    let report = report(&done, "a key of the shell");
    assert_eq!(report["wired"], true, "{report} {}", done.stderr);
    assert_eq!(served, "200 backup\n", "{done:?}");
    assert_eq!(off.code, Some(0), "{off:?}");
}
