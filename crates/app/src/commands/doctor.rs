//! `hotspare doctor`: looks at the whole set-up and says of each thing whether it is well, else why, what to type, and where to read on.
//! Never changes anything without `--fix`, and then only modes of hotspare's own files, each with its way back.

mod check;
mod client;
mod draw;
mod features;
mod files;
mod folders;
mod full;
mod installed;
mod own;
mod running;
mod settings;
mod world;

use std::process::ExitCode;

use futures_util::future;
use hotspare_config::{Config, Mode};
use hotspare_gateway::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::{DoctorArgs, Layers};
use crate::error::{CliError, Exit};
use crate::output::{self, Look};
use crate::state::Instance;
use crate::{commands, gateways, state};
use check::{Check, Mark};

/// The version of the JSON's shape.
const DOCTOR_VERSION: u32 = 1;

/// Where the details stand.
const DOCS: &str = "docs/doctor.md";

/// What `doctor --json` prints.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DoctorReport {
    /// The shape's version.
    version: u32,
    /// Everything that was looked at, in order.
    checks: Vec<Check>,
    /// How Claude Code is led to hotspare.
    led: features::Led,
    /// What Claude Code can and cannot do the way it is led.
    features: Vec<features::Feature>,
    /// How many must be mended.
    failed: usize,
    /// How many are worth a look.
    warned: usize,
}

/// A gateway that runs, and what it says.
struct Running {
    instance: Instance,
    /// None: it does not answer.
    status: Option<Status>,
}

/// Runs `hotspare doctor`.
pub(crate) fn doctor(arguments: &DoctorArgs) -> Result<ExitCode, CliError> {
    commands::logging("off");
    let locations = commands::locations(None)?;
    let context = commands::context(&Layers::default())?;
    let loaded = hotspare_config::load(&locations, &context);
    let instances = state::instances(&locations.state_dir);
    let runtime = commands::runtime()?;
    let statuses = runtime.block_on(gateways::get::<Status>(&instances, "/hotspare/status"));
    let running: Vec<Running> =
        instances.into_iter().zip(statuses).map(|(instance, status)| Running { instance, status: status.ok() }).collect();
    let setup = settings::Setup::read(&locations, context.cwd());
    let mut checks = vec![own::config(&locations, &loaded)];
    if let Ok(config) = &loaded {
        checks.extend(own::chain(config));
        checks.push(own::budget(config));
        checks.extend(runtime.block_on(own::credentials(config, &running, &locations)));
        checks.push(own::projects(config));
        checks.extend(folders::check(config, &running, &locations));
        checks.extend(own::hooks(config));
        checks.extend(running::service(config, &running, &locations));
        checks.push(running::proven(&locations));
    }
    // Before the modes are mended: what others could have read is replaced, not hidden.
    checks.extend(runtime.block_on(full::checks(&setup, &running, &locations, arguments.fix)));
    checks.push(files::modes(&locations, arguments.fix));
    checks.push(own::store(&locations, &running));
    checks.push(own::disk(&locations));
    checks.extend(own::proxy(&locations));
    checks.extend(client::checks(&setup, loaded.as_ref().ok(), &running, &locations));
    checks.extend(installed::checks(&locations));
    let statuses: Vec<Status> = running.iter().filter_map(|one| one.status.clone()).collect();
    let beyond = async {
        match &loaded {
            Ok(config) => world::checks(config, &locations, &statuses).await,
            Err(_) => Vec::new(),
        }
    };
    let looks = output::patiently("looking at the providers", future::join(client::version(), beyond));
    let (version, beyond) = runtime.block_on(looks);
    checks.push(version);
    checks.extend(beyond);
    let count = |mark: Mark| checks.iter().filter(|check| check.mark == mark).count();
    let (failed, warned) = (count(Mark::Fail), count(Mark::Warn));
    let led = features::led(&setup, loaded.as_ref().map_or(Mode::Auto, |config| config.server.mode));
    let report = DoctorReport { version: DOCTOR_VERSION, features: features::of(&setup, led), led, failed, warned, checks };
    if arguments.json {
        let text = serde_json::to_string(&report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&draw::drawn(&report, arguments.all, &locations.home, Look::of_stdout()))?;
    }
    Ok(exit(&report, &loaded))
}

fn exit(report: &DoctorReport, loaded: &Result<Config, hotspare_config::Errors>) -> ExitCode {
    match (report.failed, loaded) {
        (0, _) => ExitCode::SUCCESS,
        (_, Err(_)) => ExitCode::from(Exit::ConfigInvalid as u8),
        _ => ExitCode::FAILURE,
    }
}
