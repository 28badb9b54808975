//! `hotspare profile test`: proves a profile step by step, from its credential to an answer. Never spends tokens without being told to, and
//! never shows a credential or what it read.

use std::borrow::Cow;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hotspare_config::inspect;
use hotspare_core::{Clocks, Endpoint, Failure, FailureKind, Platform};
use hotspare_gateway::Snapshot;
use hotspare_gateway::control::unknown_profile;
use hotspare_upstream::connect::Network;
use hotspare_upstream::{ClientCredential, Outgoing, Target, Upstreams};
use hotspare_wire::failure::{is_error_body, of_response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::profile::TestArgs;
use crate::commands;
use crate::commands::explain::cure;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};
use crate::words;

/// The version of the JSON's shape.
const TEST_VERSION: u32 = 1;

/// Longest that each step may take.
const STEP_TIME: Duration = Duration::from_secs(15);

/// Most bytes of an answer that are read.
const ANSWER_CAP: usize = 1024 * 1024;

/// What a request that is paid for asks: a word, answered by one token.
const WORD: &str = "Hi";

/// What `profile test --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TestReport {
    /// The shape's version.
    version: u32,
    /// The profile.
    profile: String,
    /// What was done, in order; the first that failed is the last.
    steps: Vec<Step>,
    /// Whether the profile is proven: its credential was accepted by an answer.
    proven: bool,
    /// What is missing for a proof, where nothing failed.
    missing: Option<String>,
}

/// One step.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Step {
    /// `credential`, `connect` (name, TCP and TLS), `models`, `key`, `count_tokens` or `message`.
    name: String,
    /// `ok`, `failed` or `unknown` (it says neither).
    outcome: String,
    /// What came of it, in words.
    words: String,
    /// How long it took, in milliseconds.
    took_ms: u64,
}

/// Runs `hotspare profile test`.
pub(super) fn test(arguments: &TestArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(arguments.layers.config.clone())?;
    let inspection = inspect(&locations, &commands::context(&arguments.layers)?).map_err(|errors| commands::invalid(&errors))?;
    let config = inspection.config;
    let snapshot = Snapshot::compile_with(&config, &commands::renewals_here());
    let names: Vec<String> = config.profiles.iter().map(|profile| profile.name.to_string()).collect();
    let target = snapshot.id(&arguments.name).and_then(|id| snapshot.target(id)).cloned();
    let target = target.ok_or_else(|| CliError::new(Exit::Usage, unknown_profile(&arguments.name, &names)))?;
    let models = config.profiles.iter().find(|profile| *profile.name == *arguments.name).map(|profile| profile.models.clone());
    let asked = models.map(|models| match models.map(&arguments.model) {
        hotspare_config::Mapped::To(name) => name.to_string(),
        _ => arguments.model.clone(),
    });
    let model = asked.unwrap_or_else(|| arguments.model.clone());
    let (steps, exit) = commands::runtime()?.block_on(run(&target, &model, arguments.spend));
    let proven = exit.is_none() && steps.iter().any(Step::proves);
    let missing = (exit.is_none() && !proven).then(|| missing(&target, &model));
    let report = TestReport { version: TEST_VERSION, profile: arguments.name.clone(), steps, proven, missing };
    if arguments.json {
        let text = serde_json::to_string(&report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&drawn(&report, &target, Look::of_stdout()))?;
    }
    Ok(match exit {
        Some(exit) => ExitCode::from(exit as u8),
        None if proven => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    })
}

impl Step {
    fn proves(&self) -> bool {
        self.outcome == "ok" && matches!(self.name.as_str(), "models" | "key" | "count_tokens" | "message")
    }
}

fn missing(target: &Target, model: &str) -> String {
    if target.credential.is_client() {
        return "it passes the client's own login on: only a request of the client proves it; `hotspare run -- claude`".to_owned();
    }
    format!("nothing that is free proves it here: `--spend` sends one message to {model}, about 10 tokens in and 1 out")
}

/// What the steps that cost nothing say of a profile's credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The provider accepted it.
    Accepted,
    /// Nothing free says; why.
    Unproved(String),
    /// It is missing, or the provider rejected it; why.
    Rejected(String),
}

/// Tries a profile's credential without spending a token.
pub(crate) async fn verdict(target: &Arc<Target>, model: &str) -> Verdict {
    let (steps, exit) = run(target, model, false).await;
    let words = steps.last().map(|step| step.words.clone()).unwrap_or_default();
    match exit {
        Some(Exit::LoginNeeded) => Verdict::Rejected(words),
        Some(_) => Verdict::Unproved(words),
        None if steps.iter().any(Step::proves) => Verdict::Accepted,
        None => Verdict::Unproved("nothing that is free proves it".to_owned()),
    }
}

/// Every step until one fails; with the exit code that stands for the failure.
async fn run(target: &Arc<Target>, model: &str, spend: bool) -> (Vec<Step>, Option<Exit>) {
    let mut steps = Vec::new();
    if let Err((step, exit)) = credential(target).await.map(|step| steps.push(step)) {
        steps.push(step);
        return (steps, Some(exit));
    }
    if let Err((step, exit)) = connect(target).await.map(|step| steps.push(step)) {
        steps.push(step);
        return (steps, Some(exit));
    }
    if target.credential.is_client() {
        return (steps, None);
    }
    let mut questions = free(target.platform, model);
    questions.extend(spend.then(|| message(model)));
    for question in questions {
        let is_paid = question.name == "message";
        if !is_paid && steps.iter().any(Step::proves) {
            continue;
        }
        match ask(target, question).await {
            Ok(step) => steps.push(step),
            Err((step, exit)) => {
                steps.push(step);
                return (steps, Some(exit));
            }
        }
    }
    (steps, None)
}

/// A request that proves something.
struct Question {
    name: &'static str,
    method: Method,
    path: &'static str,
    body: Option<Value>,
    endpoint: Endpoint,
}

/// What costs nothing, the surest first. OpenRouter shows its models to everybody: there the key itself is asked about.
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
        Platform::Anthropic => vec![count, get("models", "/v1/models?limit=1")],
        Platform::Compatible(_) if platform.counts_tokens() => vec![count, get("models", "/v1/models?limit=1")],
        Platform::Compatible(_) => vec![get("models", "/v1/models?limit=1")],
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

fn step(name: &str, outcome: &str, words: impl Into<String>, begun: Instant) -> Step {
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Step { name: name.to_owned(), outcome: outcome.to_owned(), words: words.into(), took_ms }
}

async fn credential(target: &Target) -> Result<Step, (Step, Exit)> {
    let begun = Instant::now();
    match target.credential.header_renewed().await {
        Ok(Some((name, _))) => {
            let is_renewed = target.credential.renewed().is_some_and(|renewed| renewed.at.is_some());
            let renewed = if is_renewed { ", renewed by Claude Code just now" } else { "" };
            Ok(step("credential", "ok", format!("there{renewed}, sent as {name}"), begun))
        }
        Ok(None) if target.credential.is_client() => Ok(step("credential", "ok", "the client's own is passed on", begun)),
        Ok(None) => Ok(step("credential", "ok", "none is needed", begun)),
        Err(error) => Err((step("credential", "failed", error.to_string(), begun), Exit::LoginNeeded)),
    }
}

fn clocks() -> Clocks {
    Clocks { connect: STEP_TIME, tls: STEP_TIME, ..Clocks::default() }
}

async fn connect(target: &Target) -> Result<Step, (Step, Exit)> {
    let begun = Instant::now();
    let connector = commands::connector_here();
    match connector.connect(target, &clocks()).await {
        Ok(_) => Ok(step("connect", "ok", if target.https { "name, TCP and TLS" } else { "TCP" }, begun)),
        Err(failure) => {
            let exit = exit_of(&failure);
            Err((step("connect", "failed", failure.detail.to_string(), begun), exit))
        }
    }
}

/// Sends it as an exchange would: the credential only to the profile's own address, and no redirect followed.
async fn ask(target: &Arc<Target>, question: Question) -> Result<Step, (Step, Exit)> {
    let begun = Instant::now();
    let name = question.name;
    let upstreams: Upstreams<Full<Bytes>> = Upstreams::new(Arc::new(commands::connector_here()));
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
    let late =
        || Err(Failure::new(FailureKind::HeadTimeout, hotspare_core::Stage::Head, format!("no answer within {} s", STEP_TIME.as_secs())));
    match tokio::time::timeout(STEP_TIME, sent).await.unwrap_or_else(|_| late()) {
        Ok((status, headers, body)) => judged(name, question.endpoint, status, &headers, &body, begun),
        Err(failure) => {
            let exit = exit_of(&failure);
            Err((step(name, "failed", failure.detail.to_string(), begun), exit))
        }
    }
}

fn judged(
    name: &str,
    endpoint: Endpoint,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    begun: Instant,
) -> Result<Step, (Step, Exit)> {
    let is_json = serde_json::from_slice::<Value>(body).is_ok_and(|body| body.is_object());
    if status.is_success() && is_json && !is_error_body(body) {
        return Ok(step(name, "ok", told(name, body), begun));
    }
    // What it does not serve says nothing of the credential.
    if matches!(status.as_u16(), 404 | 405 | 501) && name != "message" {
        return Ok(step(name, "unknown", format!("{} is not served there", status.as_u16()), begun));
    }
    if status.is_success() {
        let words = if is_json { "an error under a good status" } else { "a good status without JSON: is the address right?" };
        return Err((step(name, "failed", words, begun), Exit::Failed));
    }
    let failure = of_response(endpoint, status, headers, body, SystemTime::now());
    let exit = exit_of(&failure);
    let words = format!("{} ({}): {}", failure.detail, failure.kind.word().replace('_', " "), cure(failure.kind));
    Err((step(name, "failed", words, begun), exit))
}

/// What a good answer tells.
fn told(name: &str, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match name {
        "count_tokens" => format!("accepted; {} tokens counted, none spent", body["input_tokens"].as_u64().unwrap_or_default()),
        "key" => match body["data"]["limit_remaining"].as_f64() {
            Some(left) => format!("accepted; ${left:.2} of the key's limit left"),
            None => "accepted; the key has no limit of its own".to_owned(),
        },
        "message" => {
            let tokens = |key: &str| body["usage"][key].as_u64().unwrap_or_default();
            let model: String = body["model"].as_str().unwrap_or("a model").chars().filter(|char| !char.is_control()).take(60).collect();
            format!("answered by {model}; {} tokens in, {} out", tokens("input_tokens"), tokens("output_tokens"))
        }
        _ => "accepted; no token spent".to_owned(),
    }
}

/// Whose fault it is.
fn exit_of(failure: &Failure) -> Exit {
    match failure.kind {
        FailureKind::Dns
        | FailureKind::Unreachable
        | FailureKind::ConnectRefused
        | FailureKind::OutOfDescriptors
        | FailureKind::TlsCertificate
        | FailureKind::TlsHandshake => Exit::LocalNetwork,
        FailureKind::ConnectTimeout
        | FailureKind::ClosedBeforeHead
        | FailureKind::StaleConnection
        | FailureKind::HeadTimeout
        | FailureKind::ServerError
        | FailureKind::BadGateway
        | FailureKind::Overloaded => Exit::ProviderOutage,
        FailureKind::Unauthorized | FailureKind::NoCredential => Exit::LoginNeeded,
        FailureKind::Forbidden
        | FailureKind::Billing
        | FailureKind::Throttled
        | FailureKind::QuotaExhausted
        | FailureKind::BareRateLimit
        | FailureKind::SpendCap => Exit::AccountLimit,
        _ => Exit::Failed,
    }
}

fn drawn(report: &TestReport, target: &Target, look: Look) -> String {
    let width = report.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or_default();
    let host = if target.https {
        format!("{}{}", target.host, target.prefix)
    } else {
        format!("{}:{}{}", target.host, target.port, target.prefix)
    };
    let mut lines = vec![format!("{}  {host}", look.paint.paint(Style::Bold, &report.profile))];
    for step in &report.steps {
        let (sign, style) = match step.outcome.as_str() {
            "ok" => (look.sign("✔", "ok"), Style::Green),
            "failed" => (look.sign("✖", "x"), Style::Red),
            _ => (look.sign("–", "-"), Style::Dim),
        };
        let words = words::fit(&step.words, usize::MAX, look.unicode);
        let took = look.paint.paint(Style::Dim, &words::time(step.took_ms * 1000));
        lines.push(format!("  {} {}  {took}  {words}", look.paint.paint(style, sign), words::padded(&step.name, width)));
    }
    if let Some(missing) = &report.missing {
        lines.push(format!("  {} {missing}", look.paint.paint(Style::Yellow, "not proven:")));
    }
    lines.join("\n")
}
