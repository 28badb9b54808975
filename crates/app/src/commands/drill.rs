//! `hotspare drill`: breaks a profile of a gateway on purpose, and looks whether everything notices that has to. Never believes the gateway
//! alone: each proof is looked for where a user would look.

mod ask;
mod check;
mod client;
mod draw;
mod ground;
mod live;
mod proofs;

use std::process::ExitCode;
use std::time::Duration;

use hotspare_config::Locations;
use hotspare_core::Fault;
use hotspare_gateway::control;
use hotspare_gateway::drill::{ClientLogin, DrillAnswer, DrillEnded, DrillRequest, EndDrill, ModelCheck, SpareCheck};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::DrillArgs;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::gateways::{self, NoAnswer};
use crate::output::{self, Look};
use crate::state::Instance;
use check::Checks;
use client::Client;
use ground::Ground;

/// The version of the JSON's shape.
const DRILL_VERSION: u32 = 1;

/// Everything that has to notice must have done so after this time.
const PROOF_TIME: Duration = Duration::from_secs(1);

/// What `drill --json` prints.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DrillReport {
    /// The shape's version.
    version: u32,
    /// What broke.
    fault: Fault,
    /// The profile that broke.
    profile: String,
    /// Who would be asked after it, in order.
    spares: Vec<String>,
    /// Who was not asked, and why.
    skipped: Vec<String>,
    /// The gateway that it was tried on: `run` or `serve`; `drill` was started for it and has ended.
    gateway: String,
    /// Where that one listens.
    address: String,
    /// Whether real requests met the fault.
    live: bool,
    /// The exchanges that met it.
    exchanges: Vec<String>,
    /// Who answered the last of them; none: nobody.
    served_by: Option<String>,
    /// What was looked for.
    proofs: Vec<Proof>,
    /// Whether all of it was found, but for what could not be tried without cost.
    passed: bool,
    /// Whether a free request proved, for each model of the client, a spare that it would fall back on.
    #[serde(default)]
    proved: bool,
    /// Routing for each model of the client.
    #[serde(default)]
    models: Vec<ModelCheck>,
    /// Whether each spare would answer.
    #[serde(default)]
    checked: Vec<SpareCheck>,
}

/// One thing that was looked for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Proof {
    /// Its name.
    name: String,
    /// Whether it was there.
    held: bool,
    /// It could not be tried without cost. Then it does not hold, and the drill does not fail for it.
    #[serde(default)]
    unproved: bool,
    /// Milliseconds from the answer's end until it was seen; 0: it was there already.
    after_ms: Option<u64>,
    /// What was seen, or what was missing.
    words: String,
}

/// A drill that is set up, on its gateway.
struct Drill<'a> {
    instance: &'a Instance,
    locations: &'a Locations,
    request: &'a DrillRequest,
    login: ClientLogin,
    answer: DrillAnswer,
}

/// Runs `hotspare drill`.
pub(crate) fn drill(arguments: &DrillArgs) -> Result<ExitCode, CliError> {
    commands::logging("off");
    let locations = commands::locations(None)?;
    let client = Client::find(&locations, arguments.model.as_deref());
    let runtime = commands::runtime()?;
    let (faults, several) = match arguments.fault.0 {
        Some(fault) => (vec![fault], false),
        None if arguments.live.is_some() => return Err(CliError::new(Exit::Usage, "`--live` takes one fault, not `all`")),
        None => (Fault::ALL.to_vec(), true),
    };
    let mut worst = ExitCode::SUCCESS;
    // Spares are tested once, however many faults are injected.
    let mut checks: Option<Checks> = None;
    for fault in faults {
        let request = DrillRequest {
            fault,
            profile: arguments.at.clone(),
            model: client.models.first().cloned(),
            live: arguments.live,
            for_s: arguments.live.map(|_| arguments.time.as_secs()),
        };
        let words = format!("drill {fault}");
        // A live one tells by itself what it waits for.
        let report = if request.live.is_some() {
            runtime.block_on(run(&locations, &request, &client, &mut checks))?
        } else {
            runtime.block_on(output::patiently(&words, run(&locations, &request, &client, &mut checks)))?
        };
        let look = Look::of_stdout();
        output::data(&match (arguments.json, several) {
            (true, _) => {
                serde_json::to_string(&report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?
            }
            (false, true) => draw::line(&report, look),
            (false, false) => draw::drawn(&report, look),
        })?;
        if !report.passed {
            worst = exit(&report);
        }
    }
    if let Some(checks) = checks.filter(|_| several && !arguments.json) {
        output::data(&draw::checks(&checks.proofs, Look::of_stdout()))?;
    }
    Ok(worst)
}

async fn run(locations: &Locations, request: &DrillRequest, client: &Client, checks: &mut Option<Checks>) -> Result<DrillReport, CliError> {
    let ground = Ground::find(locations, request.live.is_some()).await?;
    let instance = &ground.instance;
    if request.live.is_none() && checks.is_none() {
        *checks = Some(Checks::make(instance, client, request.profile.as_deref()).await);
    }
    let report = match begin(instance, locations, request, client.login).await {
        Ok(drill) => {
            let report = if request.live.is_some() { live::report(&drill).await } else { proofs::report(&drill).await };
            // Also when a proof could not even be looked for. It would end by itself, but nobody needs it any more.
            end(&drill).await;
            report
        }
        Err(error) => Err(error),
    };
    ground.leave().await;
    report.map(|report| report.with(checks.as_ref()))
}

/// A drill for whoever has just set something up: in one sentence, and whether it passed. None: no drill could be run.
///
/// It has passed only where a free request has proved the spare, for every model that the client uses.
pub(crate) fn summary(locations: &Locations, fault: Fault) -> Option<(bool, String)> {
    let client = Client::find(locations, None);
    let request = DrillRequest { fault, profile: None, model: client.models.first().cloned(), live: None, for_s: None };
    let report = commands::runtime().ok()?.block_on(run(locations, &request, &client, &mut None)).ok()?;
    let words = format!("drill {fault}: {}", report.sentence());
    Some((report.passed && report.proved, words))
}

fn exit(report: &DrillReport) -> ExitCode {
    match report.passed {
        true => ExitCode::SUCCESS,
        false if report.spares.is_empty() => ExitCode::from(Exit::Exhausted as u8),
        false => ExitCode::FAILURE,
    }
}

async fn begin<'a>(
    instance: &'a Instance,
    locations: &'a Locations,
    request: &'a DrillRequest,
    login: ClientLogin,
) -> Result<Drill<'a>, CliError> {
    match told::<DrillAnswer>(instance, "/hotspare/drill", request).await {
        Ok(answer) => Ok(Drill { instance, locations, request, login, answer }),
        Err(NoAnswer::Gone | NoAnswer::Late) => {
            Err(CliError::new(Exit::NotRunning, format!("the gateway at {} does not answer", instance.address)))
        }
        Err(NoAnswer::Refused(status, words)) => {
            // A gateway older than this command has no such path.
            let old = status == http::StatusCode::NOT_FOUND && words.contains("nothing at this path");
            let exit = match status {
                http::StatusCode::UNPROCESSABLE_ENTITY => Exit::Exhausted,
                http::StatusCode::BAD_REQUEST => Exit::Usage,
                http::StatusCode::NOT_FOUND if !old => Exit::Usage,
                _ => Exit::Failed,
            };
            let error = CliError::new(exit, words);
            Err(if old { error.hint("what runs is older than this hotspare: restart it") } else { error })
        }
    }
}

async fn end(drill: &Drill<'_>) {
    // A gateway that is gone has ended it too.
    let _ = told::<DrillEnded>(drill.instance, "/hotspare/drill/end", &EndDrill { id: drill.answer.id.clone() }).await;
}

async fn told<A: serde::de::DeserializeOwned>(instance: &Instance, path: &str, request: &impl Serialize) -> Result<A, NoAnswer> {
    gateways::post(std::slice::from_ref(instance), path, request).await.pop().unwrap_or(Err(NoAnswer::Gone))
}

/// What `status` says, as it came.
async fn status(instance: &Instance) -> Option<Value> {
    gateways::get::<Value>(std::slice::from_ref(instance), "/hotspare/status").await.pop()?.ok()
}

impl Drill<'_> {
    fn report(&self, exchanges: Vec<String>, served_by: Option<String>, proofs: Vec<Proof>) -> DrillReport {
        let passed = !proofs.is_empty() && proofs.iter().all(|proof| proof.held || proof.unproved);
        DrillReport {
            version: DRILL_VERSION,
            fault: self.answer.fault,
            profile: self.answer.profile.clone(),
            spares: self.answer.spares.clone(),
            skipped: self.answer.skipped.clone(),
            gateway: self.instance.kind.clone(),
            address: self.instance.address.to_string(),
            live: self.request.live.is_some(),
            exchanges,
            served_by,
            proofs,
            passed,
            proved: false,
            models: Vec::new(),
            checked: Vec::new(),
        }
    }
}

impl DrillReport {
    /// The same with what was found of the spares: a chain whose spares would not answer has not passed.
    fn with(mut self, checks: Option<&Checks>) -> Self {
        let Some(checks) = checks else { return self };
        self.proofs.extend(checks.proofs.iter().cloned());
        self.passed &= checks.proofs.iter().all(|proof| proof.held || proof.unproved);
        self.proved = checks.proved;
        (self.models, self.checked) = (checks.models.clone(), checks.spares.clone());
        self
    }

    /// What came of it, in one sentence that claims no more than was proved.
    fn sentence(&self) -> String {
        let broken = format!("{} was broken on purpose", self.profile);
        let failed: Vec<&str> =
            self.proofs.iter().filter(|proof| !proof.held && !proof.unproved).map(|proof| proof.words.as_str()).collect();
        if !failed.is_empty() {
            return format!("{broken}; it failed: {}", failed.join("; "));
        }
        let who = self.served_by.as_deref().unwrap_or("no profile");
        let unproved: Vec<&str> = self.proofs.iter().filter(|proof| proof.unproved).map(|proof| proof.words.as_str()).collect();
        let played = format!("{broken}, and failover went to {who} in a played answer");
        match (self.proved, unproved.as_slice()) {
            (true, []) => format!("{played}; the spare accepts its key; no token was spent"),
            (true, unproved) => format!("{played}; the spare accepts its key; not proved: {}", unproved.join("; ")),
            (false, unproved) => format!("{played}; that a spare would answer is not proved: {}", unproved.join("; ")),
        }
    }
}

// Both ends speak of one version.
const _: () = assert!(control::CONTROL_VERSION == 1);
