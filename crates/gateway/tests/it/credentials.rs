//! A credential reaches its own origin and no other, whatever the chain, the failures and the client's own headers are (T5, T8).

use std::sync::{Arc, Mutex};

use hotspare_testkit::answers::text;
use hotspare_testkit::{Received, Script, Upstream};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::client::{Ask, End};
use crate::proxy::{COUNT, Proxy, TOKEN, streamed};

/// Fewest random chains (security.md T5).
const CHAINS: u32 = 10_000;

/// What a profile authenticates with: a header's name, and its whole value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Auth {
    Client,
    Own { header: &'static str, value: &'static str, config: &'static str },
}

/// Four profiles, each with its own path and its own canary; the first passes the client's on.
const PROFILES: [(&str, Auth); 4] = [
    ("first", Auth::Client),
    ("key", Auth::Own { header: "x-api-key", value: "sk-ant-test-canary-key", config: r#"{"value":"sk-ant-test-canary-key"}"# }),
    (
        "login",
        Auth::Own {
            header: "authorization",
            value: "Bearer sk-ant-oat01-canary-login",
            config: r#"{"value":"sk-ant-oat01-canary-login"}"#,
        },
    ),
    (
        "bearer",
        Auth::Own {
            header: "authorization",
            value: "Bearer sk-test-canary-bearer",
            config: r#"{"value":"sk-test-canary-bearer","header":"bearer"}"#,
        },
    ),
];

/// The client's own, in each form that Claude Code and programs send it (client.md 2.3).
const CLIENT: [&[(&str, &str)]; 5] = [
    &[("x-api-key", "sk-ant-test-canary-client")],
    &[("Authorization", "Bearer sk-ant-oat01-canary-client")],
    &[("Authorization", "Bearer canary-client-token"), ("x-api-key", "sk-ant-test-canary-client")],
    &[("Authorization", "Basic Y2FuYXJ5LWNsaWVudA==")],
    &[],
];

/// Ways in which a client may carry a credential where none belongs.
const STRAY: [(&str, &str); 5] = [
    ("Proxy-Authorization", "Basic canary-stray"),
    ("Cookie", "session=canary-stray"),
    ("X-Forwarded-Authorization", "Bearer canary-stray"),
    ("Referer", "http://x/?key=canary-stray"),
    ("Forwarded", "for=canary-stray"),
];

/// What every profile does when it is asked, but the last of the chain.
const FAULTS: [&str; 8] = ["500", "529", "401", "403", "307", "html", "rst", "error"];

#[derive(Debug, Clone)]
struct Chain {
    /// Indexes into [`PROFILES`], in order.
    order: Vec<usize>,
    /// What each of them does, by profile.
    faults: Vec<&'static str>,
    client: usize,
    stray: usize,
    with_key_token: bool,
    count_tokens: bool,
}

fn chain() -> impl Strategy<Value = Chain> {
    let order = Just(vec![0, 1, 2, 3]).prop_shuffle().prop_flat_map(|all| (1..=4usize).prop_map(move |count| all[..count].to_vec()));
    let faults = proptest::collection::vec(proptest::sample::select(&FAULTS[..]), 4);
    (order, faults, 0..CLIENT.len(), 0..STRAY.len(), any::<bool>(), any::<bool>()).prop_map(
        |(order, faults, client, stray, with_key_token, count_tokens)| Chain { order, faults, client, stray, with_key_token, count_tokens },
    )
}

/// Plays what the client's own header says, and notes everything that should not have come.
fn play(index: usize, request: &Received, wrong: &Mutex<Vec<String>>) -> Script {
    let (name, auth) = PROFILES[index];
    let plan: Value = request.header("anthropic-test-plan").and_then(|plan| serde_json::from_str(plan).ok()).unwrap_or_default();
    let head = String::from_utf8_lossy(&request.raw_head).into_owned();
    let note = |what: &str| wrong.lock().expect("no panic").push(format!("{name}: {what}:\n{head}"));
    let expected: Vec<(String, String)> = match auth {
        Auth::Own { header, value, .. } => vec![(header.to_owned(), value.to_owned())],
        Auth::Client => {
            let own = CLIENT[usize::try_from(plan["client"].as_u64().unwrap_or_default()).unwrap_or_default()];
            own.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect()
        }
    };
    let credentials = ["authorization", "x-api-key"];
    let came: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(value).into_owned()))
        .filter(|(name, _)| credentials.contains(&name.as_str()))
        .collect();
    if came != expected {
        note("not exactly its own credential");
    }
    if head.matches("canary").count() != expected.iter().filter(|(_, value)| value.contains("canary")).count() {
        note("a foreign canary");
    }
    if head.contains(TOKEN) || head.contains("x-hotspare-token") {
        note("the local token");
    }
    // One profile is one address: path and host are never another's (T8).
    if !request.target.starts_with(&format!("/{name}/v1/messages")) {
        note("a foreign path");
    }
    if plan["serves"] == name {
        return if plan["count"] == true {
            Script::new().body(200, &[("Content-Type", "application/json")], COUNT)
        } else {
            streamed(&text(name))
        };
    }
    let status = |status, kind| Script::error(status, kind, "scripted");
    match plan[name].as_str().unwrap_or_default() {
        "529" => status(529, "overloaded_error"),
        "401" => status(401, "authentication_error"),
        "403" => status(403, "permission_error"),
        "307" => Script::new().body(307, &[("Location", "/stolen")], ""),
        "html" => Script::new().body(200, &[("Content-Type", "text/html")], "<html>"),
        "rst" => Script::new().rst(),
        "error" => Script::new().sse().event("error", r#"{"type":"error","error":{"type":"api_error"}}"#).end(),
        _ => status(500, "api_error"),
    }
}

struct Fleet {
    upstreams: Vec<Upstream>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Fleet {
    async fn start() -> Self {
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let mut upstreams = Vec::new();
        for index in 0..PROFILES.len() {
            let wrong = wrong.clone();
            upstreams.push(Upstream::start(move |request| play(index, request, &wrong)).await.expect("started"));
        }
        Self { upstreams, wrong }
    }

    /// A proxy of its own for each chain, so that what failed before leaves no trace.
    async fn run(&self, chain: &Chain) {
        let client = CLIENT[chain.client];
        // Without a credential of its own the client's profile is passed over, and the one before it serves.
        let able: Vec<usize> =
            chain.order.iter().copied().filter(|index| PROFILES[*index].1 != Auth::Client || !client.is_empty()).collect();
        let Some(last) = able.last() else { return };
        let names: Vec<&str> = chain.order.iter().map(|index| PROFILES[*index].0).collect();
        let profiles: serde_json::Map<String, Value> =
            chain.order.iter().map(|index| (PROFILES[*index].0.to_owned(), self.profile(*index))).collect();
        let config = json!({
            "failover_policy": { "primary_profile": names[0], "secondary_profile": names[1..] },
            "profiles": profiles,
        });
        let mut plan: Value = PROFILES.iter().zip(&chain.faults).map(|((name, _), fault)| ((*name).to_owned(), json!(fault))).collect();
        plan["serves"] = json!(PROFILES[*last].0);
        plan["client"] = json!(chain.client);
        plan["count"] = json!(chain.count_tokens);
        let target = if chain.count_tokens { "/v1/messages/count_tokens" } else { "/v1/messages" };
        let mut ask = Ask { target: target.into(), ..Ask::turn() }.with("x-api-key", None).header("anthropic-test-plan", &plan.to_string());
        ask = client.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
        ask = ask.header(STRAY[chain.stray].0, STRAY[chain.stray].1);
        if chain.with_key_token && client.iter().all(|(name, _)| *name != "x-api-key") {
            // SDK programs give the local token as their key.
            ask = ask.with("x-hotspare-token", None).header("x-api-key", TOKEN);
        }
        let proxy = Proxy::start(&config).await;
        let answer = proxy.ask(&ask).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole), "{chain:?}: {}", answer.text());
        assert_eq!(answer.profile(), Some(PROFILES[*last].0), "{chain:?}");
        assert!(!answer.text().contains("canary"));
    }

    fn profile(&self, index: usize) -> Value {
        let (name, auth) = PROFILES[index];
        let mut profile = json!({ "base_url": format!("{}/{name}", self.upstreams[index].url()) });
        if let Auth::Own { config, .. } = auth {
            profile["auth"] = serde_json::from_str(config).expect("JSON");
        }
        profile
    }

    #[track_caller]
    fn nothing_wrong(&self) {
        let wrong = self.wrong.lock().expect("no panic");
        assert!(wrong.is_empty(), "{} requests were wrong, the first:\n{}", wrong.len(), wrong[0]);
    }
}

/// teamclaude #311, `LiteLLM` #32202, cc-switch #3486: a credential at another's address.
#[test]
fn t5_t8_in_random_chains_each_upstream_sees_its_own_credential_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let fleet = runtime.block_on(Fleet::start());
    let mut runner = TestRunner::new(Config { cases: CHAINS, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&chain(), |chain| {
        runtime.block_on(fleet.run(&chain));
        fleet.nothing_wrong();
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let hops: usize = fleet.upstreams.iter().map(|upstream| upstream.requests().len()).sum();
    assert!(hops > 2 * CHAINS as usize, "only {hops} attempts: the chains did not hop");
}
