//! `hotspare schema`: describes what the read commands print with `--json`. Never edits a schema: they come from the types.

use std::process::ExitCode;

use hotspare_core::ExchangeRecord;
use hotspare_gateway::control::{PauseAnswer, ResetAnswer, ResumeAnswer, SwitchAnswer};
use hotspare_gateway::notices::NoticesAnswer;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::cli::Shape;
use crate::commands::control::Outcome;
use crate::commands::doctor::DoctorReport;
use crate::commands::drill::DrillReport;
use crate::commands::env::Environment;
use crate::commands::explain::Index;
use crate::commands::hook::HookReport;
use crate::commands::init::InitReport;
use crate::commands::install::Report;
use crate::commands::manual::Build;
use crate::commands::outage::OutageReport;
use crate::commands::profile::report::ProfileList;
use crate::commands::profile::test::TestReport;
use crate::commands::service::ServiceStatus;
use crate::commands::status::StatusReport;
use crate::commands::usage::Usage;
use crate::error::{CliError, Exit};
use crate::output;

/// Runs `hotspare schema`.
pub(crate) fn schema(of: Shape) -> Result<ExitCode, CliError> {
    let schema = match of {
        Shape::Exchange => schema_of::<ExchangeRecord>("hotspare exchange"),
        Shape::Usage => schema_of::<Usage>("hotspare usage"),
        Shape::Status => schema_of::<StatusReport>("hotspare status"),
        Shape::Reset => schema_of::<Outcome<ResetAnswer>>("hotspare reset"),
        Shape::Drill => schema_of::<DrillReport>("hotspare drill"),
        Shape::Init => schema_of::<InitReport>("hotspare init"),
        Shape::Explain => schema_of::<Index>("hotspare explain"),
        Shape::Version => schema_of::<Build>("hotspare version"),
        Shape::Hook => schema_of::<HookReport>("hotspare hook test"),
        Shape::Notices => schema_of::<NoticesAnswer>("hotspare notices"),
        Shape::Doctor => schema_of::<DoctorReport>("hotspare doctor"),
        Shape::Outage => schema_of::<OutageReport>("hotspare outage"),
        Shape::Switch => schema_of::<Outcome<SwitchAnswer>>("hotspare switch"),
        Shape::Test => schema_of::<TestReport>("hotspare profile test"),
        Shape::Profiles => schema_of::<ProfileList>("hotspare profiles"),
        Shape::Pause => schema_of::<Outcome<PauseAnswer>>("hotspare profile pause"),
        Shape::Resume => schema_of::<Outcome<ResumeAnswer>>("hotspare profile resume"),
        Shape::Install => schema_of::<Report>("hotspare install"),
        Shape::Service => schema_of::<ServiceStatus>("hotspare service status"),
        Shape::Env => schema_of::<Environment>("hotspare env"),
    };
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| CliError::new(Exit::Failed, format!("the schema cannot be written: {error}")))?;
    output::data(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn schema_of<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schemars::transform::Transform::transform(&mut RecursiveTransform(unwrapped), &mut schema);
    schema.to_value()
}

/// The line ends of a doc comment are no part of what it says.
fn unwrapped(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}
