//! `hotspare profile test`: proves a profile step by step, from its credential to an answer. Never spends tokens without being told to, and
//! never shows a credential or what it read.

use std::process::ExitCode;
use std::sync::Arc;

use hotspare_config::inspect;
use hotspare_core::FailureKind;
use hotspare_gateway::Snapshot;
use hotspare_gateway::control::unknown_profile;
use hotspare_gateway::proof::{self, Outcome};
use hotspare_upstream::Target;
use hotspare_upstream::connect::Network;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::profile::TestArgs;
use crate::commands;
use crate::commands::explain::cure;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};
use crate::words;

/// The version of the JSON's shape.
const TEST_VERSION: u32 = 1;

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
    let network: Arc<dyn Network> = Arc::new(commands::connector_here());
    let steps = commands::runtime()?.block_on(proof::test(&target, &network, &model, arguments.spend));
    let exit = steps.iter().find_map(proof::Step::failure).map(exit_of);
    let proven = exit.is_none() && steps.iter().any(proof::Step::proves);
    let steps = steps.iter().map(shown).collect();
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
    let network: Arc<dyn Network> = Arc::new(commands::connector_here());
    let steps = proof::test(target, &network, model, false).await;
    let words = steps.last().map(|step| step.words.clone()).unwrap_or_default();
    match steps.iter().find_map(proof::Step::failure).map(exit_of) {
        Some(Exit::LoginNeeded) => Verdict::Rejected(words),
        Some(_) => Verdict::Unproved(words),
        None if steps.iter().any(proof::Step::proves) => Verdict::Accepted,
        None => Verdict::Unproved("nothing that is free proves it".to_owned()),
    }
}

/// A step of the test as JSON has it.
fn shown(step: &proof::Step) -> Step {
    let (outcome, words) = match step.outcome {
        Outcome::Passed => ("ok", step.words.clone()),
        Outcome::Unknown => ("unknown", step.words.clone()),
        // What the process itself could not do says by itself how to mend it.
        Outcome::Failed(_) if matches!(step.name, "credential" | "connect") => ("failed", step.words.clone()),
        Outcome::Failed(FailureKind::WrongContent) => ("failed", step.words.clone()),
        Outcome::Failed(kind) => ("failed", format!("{} ({}): {}", step.words, kind.word().replace('_', " "), cure(kind))),
    };
    let took_ms = u64::try_from(step.took.as_millis()).unwrap_or(u64::MAX);
    Step { name: step.name.to_owned(), outcome: outcome.to_owned(), words, took_ms }
}

/// Whose fault it is.
fn exit_of(kind: FailureKind) -> Exit {
    match kind {
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
