//! A gateway of our own on a free port, configured as a user would. Never shared between tests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hotspare_config::Config;
use hotspare_gateway::{Gateway, Options, Outside};
use hotspare_testkit::answers::{message_json, text};
use hotspare_testkit::{Event, Script, Upstream};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::client::{Answer, Ask, Connection};

pub(crate) const TOKEN: &str = "hs-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The client's own: the primary passes it on.
pub(crate) const CLIENT_KEY: &str = "sk-ant-test-client";

pub(crate) const SPARE_KEY: &str = "sk-ant-test-spare";

/// What a healthy spare says.
pub(crate) const FROM_SPARE: &str = "An answer from the spare.";

/// A count of tokens.
pub(crate) const COUNT: &str = r#"{"input_tokens":42}"#;

/// A running gateway, ended when dropped.
pub(crate) struct Proxy {
    pub addr: SocketAddr,
    pub task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(config: &Value) -> Self {
        Self::start_with(config, options()).await.0
    }

    /// The same with options of the test's own; and the gateway itself.
    pub(crate) async fn start_with(config: &Value, options: Options) -> (Self, Arc<Gateway>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let gateway = Gateway::new(&parse(config), &listener, options).expect("a gateway");
        let (addr, kept) = (gateway.local(), gateway.clone());
        let task = tokio::spawn(hotspare_gateway::serve(gateway, listener, std::future::pending())).abort_handle();
        (Self { addr, task }, kept)
    }

    /// A primary with the client's own key, and a spare with one of its own.
    pub(crate) async fn pair(primary: &Upstream, spare: &Upstream) -> Self {
        Self::start(&pair(&primary.url(), &spare.url(), &json!({}))).await
    }

    /// The same with more to say in the policy.
    pub(crate) async fn pair_with(primary: &str, spare: &Upstream, policy: &Value) -> Self {
        Self::start(&pair(primary, &spare.url(), policy)).await
    }

    /// One profile alone, with the client's own key.
    pub(crate) async fn lone(primary: &Upstream) -> Self {
        Self::start(
            &json!({ "failover_policy": { "primary_profile": "primary" }, "profiles": { "primary": { "base_url": primary.url() } } }),
        )
        .await
    }

    /// A primary whose only spare cannot serve the model: it is the last candidate, but not a profile without a spare.
    pub(crate) async fn last_candidate(primary: &Upstream, hooks: &Value, options: Options) -> (Self, Arc<Gateway>) {
        let spare = json!({ "preset": "zai", "auth": { "value": "test-key" }, "models": { "other-*": "glm-5" } });
        let config = json!({
            "failover_policy": { "primary_profile": "primary", "secondary_profile": "spare" },
            "profiles": { "primary": { "base_url": primary.url() }, "spare": spare },
            "hooks": hooks,
        });
        Self::start_with(&config, options).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, ask: &Ask) -> Answer {
        let mut connection = Connection::open(self.addr).await;
        connection.ask(ask).await;
        connection.answer_to(&ask.method).await.expect("an answer")
    }
}

pub(crate) fn options() -> Options {
    Options { token: SecretString::from(TOKEN), extra_roots: None, observer: None, outside: Outside::default(), store: None }
}

pub(crate) fn parse(config: &Value) -> Config {
    hotspare_config::parse(&config.to_string(), Path::new("test.json"), Path::new("/")).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(crate) fn pair(primary: &str, spare: &str, more: &Value) -> Value {
    let mut policy = json!({ "primary_profile": "primary", "secondary_profile": "spare" });
    for (key, value) in more.as_object().expect("an object") {
        policy[key] = value.clone();
    }
    json!({
        "failover_policy": policy,
        "profiles": { "primary": { "base_url": primary }, "spare": { "base_url": spare, "auth": { "value": SPARE_KEY } } },
    })
}

/// A provider that always does the same.
pub(crate) async fn plays(script: Script) -> Upstream {
    Upstream::start(move |_| script.clone()).await.expect("started")
}

/// A provider that answers well, streamed or whole as it is asked.
pub(crate) async fn healthy(words: &'static str) -> Upstream {
    // The body comes after the script is chosen, so the accept header cannot tell: the test's own does.
    Upstream::start(move |request| match request.header("anthropic-test-wants") {
        _ if request.path().ends_with("/count_tokens") => Script::new().body(200, &[("Content-Type", "application/json")], COUNT),
        Some("whole") => whole(words),
        _ => streamed(&text(words)),
    })
    .await
    .expect("started")
}

/// A whole stream.
pub(crate) fn streamed(events: &[Event]) -> Script {
    Script::new().sse().events(events).end()
}

pub(crate) fn whole(words: &str) -> Script {
    Script::new().body(200, &[("Content-Type", "application/json")], message_json(words))
}

/// The bytes of events as a client gets them.
pub(crate) fn wire(events: &[Event]) -> String {
    events.iter().map(|event| String::from_utf8_lossy(&event.bytes()).into_owned()).collect()
}

/// Plays independent cases at the same time; each failure is told with its own words.
pub(crate) async fn together(cases: Vec<impl Future<Output = ()> + Send + 'static>) {
    let mut running = JoinSet::new();
    for case in cases {
        running.spawn(case);
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a case failed");
    }
}
