//! Tests a profile step by step, from its credential to an answer. Costs nothing unless told to.
//!
//! It runs in the process that would serve: the environment, proxy and certificates there decide whether a request arrives.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hotspare_core::{Clocks, Endpoint, Failure, FailureKind, Platform, Stage};
use hotspare_upstream::connect::Network;
use hotspare_upstream::{ClientCredential, Outgoing, Target, Upstreams};
use hotspare_wire::failure::{is_error_body, of_response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};

/// Longest that each step may take.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(15);

/// Most bytes of an answer that are read.
const ANSWER_CAP: usize = 1024 * 1024;

/// Most names of models that are kept of a list.
const MAX_LISTED_MODELS: usize = 2000;

/// Content of the test message, which one token answers.
const WORD: &str = "Hi";

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Passed,
    /// It failed; no further step was tried.
    Failed(FailureKind),
    /// It proves neither.
    Unknown,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `credential`, `connect` (name, TCP and TLS), `models`, `key`, `count_tokens` or `message`.
    pub name: &'static str,
    /// Whether it succeeded.
    pub outcome: Outcome,
    /// What came of it.
    pub words: String,
    /// How long it took.
    pub took: Duration,
    /// Names of models that the answer listed.
    pub listed: Vec<String>,
}

impl Step {
    fn new(name: &'static str, outcome: Outcome, words: impl Into<String>, begun: Instant) -> Self {
        Self { name, outcome, words: words.into(), took: begun.elapsed(), listed: Vec::new() }
    }

    /// Whether an answer of the provider has accepted the credential.
    pub fn proves(&self) -> bool {
        self.outcome == Outcome::Passed && matches!(self.name, "models" | "key" | "count_tokens" | "message")
    }

    /// What it failed with.
    pub fn failure(&self) -> Option<FailureKind> {
        if let Outcome::Failed(kind) = self.outcome { Some(kind) } else { None }
    }
}

/// Runs every step until one fails. `spend` adds a message of about 10 tokens.
pub async fn test(target: &Arc<Target>, network: &Arc<dyn Network>, model: &str, spend: bool) -> Vec<Step> {
    let mut steps = vec![credential(target).await];
    if steps.iter().all(|step| step.failure().is_none()) {
        steps.push(connect(target, network).await);
    }
    if target.credential.is_client() || steps.iter().any(|step| step.failure().is_some()) {
        return steps;
    }
    let mut questions = free(target.platform, model);
    questions.extend(spend.then(|| message(model)));
    for question in questions {
        if question.name != "message" && steps.iter().any(Step::proves) {
            continue;
        }
        let step = ask(target, network, question, model).await;
        let is_over = step.failure().is_some();
        steps.push(step);
        if is_over {
            break;
        }
    }
    steps
}

/// A request that proves something.
struct Question {
    name: &'static str,
    method: Method,
    path: &'static str,
    body: Option<Value>,
    endpoint: Endpoint,
}

/// Requests that cost nothing, the surest first. OpenRouter lists its models without a key: there the key itself is queried.
fn free(platform: Platform, model: &str) -> Vec<Question> {
    let get = |name, path| Question { name, method: Method::GET, path, body: None, endpoint: Endpoint::Models };
    let count = Question {
        name: "count_tokens",
        method: Method::POST,
        path: "/v1/messages/count_tokens",
        body: Some(json!({ "model": model, "messages": [{ "role": "user", "content": WORD }] })),
        endpoint: Endpoint::CountTokens,
    };
    match platform {
        Platform::OpenRouter => vec![get("key", "/v1/key")],
        Platform::Anthropic => vec![count, get("models", "/v1/models?limit=1000")],
        Platform::Compatible(_) if platform.counts_tokens() => vec![count, get("models", "/v1/models?limit=1000")],
        Platform::Compatible(_) => vec![get("models", "/v1/models?limit=1000")],
    }
}

fn message(model: &str) -> Question {
    Question {
        name: "message",
        method: Method::POST,
        path: "/v1/messages",
        body: Some(json!({ "model": model, "max_tokens": 1, "messages": [{ "role": "user", "content": WORD }] })),
        endpoint: Endpoint::Messages,
    }
}

async fn credential(target: &Target) -> Step {
    let begun = Instant::now();
    let passed = |words: String| Step::new("credential", Outcome::Passed, words, begun);
    match target.credential.header_renewed().await {
        Ok(Some((name, _))) => {
            let is_renewed = target.credential.renewed().is_some_and(|renewed| renewed.at.is_some());
            let renewed = if is_renewed { ", renewed by Claude Code just now" } else { "" };
            passed(format!("there{renewed}, sent as {name}"))
        }
        Ok(None) if target.credential.is_client() => passed("the client's own is passed on".to_owned()),
        Ok(None) => passed("none is needed".to_owned()),
        Err(error) => Step::new("credential", Outcome::Failed(FailureKind::NoCredential), error.to_string(), begun),
    }
}

fn clocks() -> Clocks {
    Clocks { connect: STEP_TIMEOUT, tls: STEP_TIMEOUT, ..Clocks::default() }
}

async fn connect(target: &Target, network: &Arc<dyn Network>) -> Step {
    let begun = Instant::now();
    match network.connect(target, &clocks()).await {
        Ok(_) => Step::new("connect", Outcome::Passed, if target.https { "name, TCP and TLS" } else { "TCP" }, begun),
        Err(failure) => Step::new("connect", Outcome::Failed(failure.kind), failure.detail, begun),
    }
}

/// Sends the request as an exchange would: the credential only to the profile's own address, and no redirect followed.
async fn ask(target: &Arc<Target>, network: &Arc<dyn Network>, question: Question, model: &str) -> Step {
    let begun = Instant::now();
    let name = question.name;
    let upstreams: Upstreams<Full<Bytes>> = Upstreams::new(network.clone());
    let body = question.body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("hotspare/", env!("CARGO_PKG_VERSION"))));
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    if question.method == Method::POST {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let outgoing = Outgoing {
        length: (question.method == Method::POST).then_some(body.len() as u64),
        method: question.method,
        path_and_query: question.path.to_owned(),
        headers: Cow::Owned(headers),
        extensions: http::Extensions::default(),
        client_credential: ClientCredential::default(),
        body: Full::new(body),
        read_answer: true,
    };
    let sent = async {
        let response = upstreams.send(target, outgoing, &clocks(), true).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_CAP).collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Ok::<_, Failure>((head.status, head.headers, body))
    };
    let late = || Failure::new(FailureKind::HeadTimeout, Stage::Head, format!("no answer within {} s", STEP_TIMEOUT.as_secs()));
    match tokio::time::timeout(STEP_TIMEOUT, sent).await.unwrap_or_else(|_| Err(late())) {
        Ok((status, headers, body)) => {
            let (outcome, words) = judged(name, question.endpoint, model, status, &headers, &body);
            let listed = if name == "models" && outcome == Outcome::Passed { listed(&body) } else { Vec::new() };
            Step { listed, ..Step::new(name, outcome, words, begun) }
        }
        Err(failure) => Step::new(name, Outcome::Failed(failure.kind), failure.detail, begun),
    }
}

/// Names of models in a list of them.
fn listed(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let ids = body["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
    ids.take(MAX_LISTED_MODELS).map(str::to_owned).collect()
}

fn judged(name: &str, endpoint: Endpoint, model: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> (Outcome, String) {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    if status.is_success() && !is_error_body(body) {
        if !json.is_object() {
            return (Outcome::Failed(FailureKind::WrongContent), "a good status without JSON: is the address right?".to_owned());
        }
        return report(name, &json);
    }
    if status.is_success() {
        return (Outcome::Failed(FailureKind::WrongContent), "an error under a good status".to_owned());
    }
    let failure = of_response(endpoint, status, headers, body, SystemTime::now());
    // What it does not serve says nothing of the credential, but a model that it does not know is an answer.
    let names_model = status == StatusCode::NOT_FOUND && json["error"]["message"].as_str().is_some_and(|message| message.contains(model));
    if names_model && name == "count_tokens" {
        return (Outcome::Failed(FailureKind::ModelNotFound), format!("it has no model `{model}`"));
    }
    let is_unserved = matches!(status.as_u16(), 404 | 405 | 501) && name != "message";
    if is_unserved {
        return (Outcome::Unknown, format!("{} is not served there", status.as_u16()));
    }
    (Outcome::Failed(failure.kind), failure.to_string())
}

/// What a good answer says.
fn report(name: &str, body: &Value) -> (Outcome, String) {
    let words = match name {
        "count_tokens" => format!("accepted; {} tokens counted, none spent", body["input_tokens"].as_u64().unwrap_or_default()),
        "key" => match body["data"]["limit_remaining"].as_f64() {
            Some(left) if left <= 0.0 => return (Outcome::Failed(FailureKind::SpendCap), "nothing is left of the key's limit".to_owned()),
            Some(left) => format!("accepted; ${left:.2} of the key's limit left"),
            None => "accepted; the key has no limit of its own".to_owned(),
        },
        "message" => {
            let tokens = |key: &str| body["usage"][key].as_u64().unwrap_or_default();
            let model: String = body["model"].as_str().unwrap_or("a model").chars().filter(|char| !char.is_control()).take(60).collect();
            format!("answered by {model}; {} tokens in, {} out", tokens("input_tokens"), tokens("output_tokens"))
        }
        _ => "accepted; no token spent".to_owned(),
    };
    (Outcome::Passed, words)
}
