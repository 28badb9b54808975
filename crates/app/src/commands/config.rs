//! `hotspare config`: checks, describes and changes the configuration. Never writes a file that would not load afterwards.

pub(crate) mod edit;
mod order;
mod show;

use std::io::stdout;
use std::process::ExitCode;

use hotspare_config::KeyPath;

use crate::cli::{ConfigCommand, Layers};
use crate::commands;
use crate::error::{CliError, Exit};
use crate::folder_hooks;
use crate::output::{self, Paint, Style};

/// Runs `hotspare config …`.
pub(crate) fn config(command: ConfigCommand) -> Result<ExitCode, CliError> {
    match command {
        ConfigCommand::Validate { layers, json } => return validate(&layers, json),
        ConfigCommand::Path => output::data(&commands::locations(None)?.config_file.display().to_string())?,
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&hotspare_config::schema())
                .map_err(|error| CliError::new(Exit::Failed, format!("the schema cannot be written: {error}")))?;
            output::data(&schema)?;
        }
        ConfigCommand::Show { layers, origin, json } => show::show(&layers, origin, json)?,
        ConfigCommand::Get { key, layers, json } => show::get(&key, &layers, json)?,
        ConfigCommand::Explain { key, json } => show::explain(&key, json)?,
        ConfigCommand::Set { key, value, target } => edit::set(&key, &value, &target)?,
        ConfigCommand::Unset { key, target } => edit::unset(&key, &target)?,
        ConfigCommand::Undo => edit::undo()?,
        ConfigCommand::Edit { target } => edit::edit(&target)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn validate(layers: &Layers, json: bool) -> Result<ExitCode, CliError> {
    let locations = commands::locations(layers.config.clone())?;
    let context = commands::context(layers)?;
    if json {
        let outcome = hotspare_config::load(&locations, &context);
        let diagnostics = outcome.as_ref().map_or_else(|errors| errors.0.as_slice(), |config| config.warnings.as_slice());
        let told: Vec<serde_json::Value> = diagnostics.iter().map(show::diagnostic).collect();
        output::data(&serde_json::json!({ "version": 1, "valid": outcome.is_ok(), "diagnostics": told }).to_string())?;
        return Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(Exit::ConfigInvalid as u8) });
    }
    let config = commands::load_quietly(&locations, &context)?;
    // Here each is drawn in full.
    config.warnings.iter().for_each(|warning| output::talk(&commands::drawn(warning)));
    let paint = Paint(output::colored(&stdout()));
    if config.implicit && !config.sources.is_empty() {
        let files: Vec<String> = config.sources.iter().map(|file| file.display().to_string()).collect();
        output::data(&format!(
            "{} {}\n  no policy names a profile: the client's own login, no spare",
            paint.paint(Style::Green, "ok"),
            files.join(", ")
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    if config.implicit {
        output::data(&format!(
            "{} no configuration: the client's own login, no spare\n  write one at {}",
            paint.paint(Style::Green, "ok"),
            locations.config_file.display()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let files: Vec<String> = config.sources.iter().map(|file| file.display().to_string()).collect();
    output::data(&format!("{} {}\n  chain  {}", paint.paint(Style::Green, "ok"), files.join(", "), commands::chain_line(&config)))?;
    if let Some(told) = folder_hooks::told(&config, &locations) {
        output::data(&format!("  folder {told}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A key as typed.
fn key(text: &str) -> Result<KeyPath, CliError> {
    KeyPath::parse(text).ok_or_else(|| {
        CliError::new(Exit::Failed, format!("`{text}` is not a key"))
            .hint("write it with dots: `failover_policy.clocks.head`; a key with a dot in it in double quotes")
    })
}

/// The format has no such key.
fn unknown(key: &KeyPath, meant: Option<&KeyPath>) -> CliError {
    let error = CliError::new(Exit::Failed, format!("no key is called `{key}`"));
    match meant {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error.hint("`hotspare config explain failover_policy` lists the keys of the policy"),
    }
}
