//! `hotspare config`: checks and describes the configuration. Never changes it.

use std::io::stdout;
use std::process::ExitCode;

use crate::cli::{ConfigCommand, Layers};
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Paint, Style};

/// Runs `hotspare config …`.
pub(crate) fn config(command: ConfigCommand) -> Result<ExitCode, CliError> {
    match command {
        ConfigCommand::Validate { layers } => validate(&layers)?,
        ConfigCommand::Path => output::data(&commands::locations(None)?.config_file.display().to_string())?,
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&hotspare_config::schema())
                .map_err(|error| CliError::new(Exit::Failed, format!("the schema cannot be written: {error}")))?;
            output::data(&schema)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn validate(layers: &Layers) -> Result<(), CliError> {
    let locations = commands::locations(layers.config.clone())?;
    let config = commands::load(&locations, &commands::context(layers)?)?;
    let paint = Paint(output::colored(&stdout()));
    if config.implicit {
        return Ok(output::data(&format!(
            "{} no configuration: the client's own login, no spare\n  write one at {}",
            paint.paint(Style::Green, "ok"),
            locations.config_file.display()
        ))?);
    }
    let files: Vec<String> = config.sources.iter().map(|file| file.display().to_string()).collect();
    output::data(&format!("{} {}\n  chain  {}", paint.paint(Style::Green, "ok"), files.join(", "), commands::chain_line(&config)))?;
    Ok(())
}
