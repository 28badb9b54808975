//! `hotspare outage`: me, them or my account? Gathers what can be seen from here, has `core::blame` judge it, and says what to do. Never asks
//! a provider for an answer, never sends a credential, and never changes what is routed where.

mod draw;
mod gather;
mod page;
mod words;

use std::process::ExitCode;

use hotspare_config::{Config, Locations};
use hotspare_core::blame::{self, Cause, Observations, Party};
use hotspare_gateway::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::{Layers, OutageArgs};
use crate::error::{CliError, Exit};
use crate::output::{self, Look};
use crate::{commands, gateways, state};

/// The version of the JSON's shape.
const OUTAGE_VERSION: u32 = 1;

/// What `outage --json` prints.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct OutageReport {
    /// The shape's version.
    version: u32,
    /// Whose it is.
    party: Party,
    /// What is wrong.
    cause: Cause,
    /// Whether what was seen leaves no other reading.
    sure: bool,
    /// The verdict in one sentence.
    verdict: String,
    /// What to do, most useful first.
    advice: Vec<String>,
    /// Profiles that may be asked now, besides the first.
    spares: Vec<String>,
    /// Profiles besides the first that cannot answer now.
    #[serde(default)]
    held: Vec<gather::HeldSpare>,
    /// Whether no profile can answer now.
    #[serde(default)]
    is_total: bool,
    /// What was seen.
    seen: Observations,
    /// The status page that was looked at.
    page: page::Looked,
    /// How long looking took, in milliseconds.
    took_ms: u64,
}

/// Runs `hotspare outage`.
pub(crate) fn outage(arguments: &OutageArgs) -> Result<ExitCode, CliError> {
    commands::logging("off");
    let locations = commands::locations(None)?;
    let config = commands::load(&locations, &commands::context(&Layers::default())?)?;
    let address = page::address(arguments.page.as_deref())?;
    let begun = std::time::Instant::now();
    let look = async {
        let instances = state::instances(&locations.state_dir);
        let statuses: Vec<Status> =
            gateways::get::<Status>(&instances, "/hotspare/status").await.into_iter().filter_map(Result::ok).collect();
        gather::gather(&config, &locations, &statuses, Some(&address)).await
    };
    let gathered = commands::runtime()?.block_on(output::patiently("looking at this machine, the providers and their status page", look));
    let verdict = blame::verdict(&gathered.seen);
    let subject = words::Subject::of(&gathered);
    // What speaks against the requests themselves, or against nothing, leaves the first profile to answer.
    let first_fails = !matches!(verdict.cause, Cause::AllWell | Cause::Request | Cause::PageSays | Cause::LoginOutage);
    let is_total = first_fails && gathered.spares.is_empty() && !gathered.held.is_empty();
    let report = OutageReport {
        version: OUTAGE_VERSION,
        party: verdict.party(),
        cause: verdict.cause,
        sure: verdict.sure,
        verdict: words::sentence(verdict.cause, is_total, &subject),
        advice: words::advice(verdict.cause, &subject),
        spares: gathered.spares,
        held: gathered.held,
        is_total,
        seen: gathered.seen,
        page: gathered.page,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    if arguments.json {
        let text = serde_json::to_string(&report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&draw::drawn(&report, Look::of_stdout()))?;
    }
    Ok(exit(report.party))
}

/// What can be seen without a status page, for `doctor`.
pub(crate) async fn seen(config: &Config, locations: &Locations, statuses: &[Status]) -> Observations {
    gather::gather(config, locations, statuses, None).await.seen
}

fn exit(party: Party) -> ExitCode {
    match party {
        Party::Nobody => ExitCode::SUCCESS,
        Party::Provider => ExitCode::from(Exit::ProviderOutage as u8),
        Party::You => ExitCode::from(Exit::LocalNetwork as u8),
        Party::Account => ExitCode::from(Exit::AccountLimit as u8),
    }
}
