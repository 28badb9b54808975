//! `hotspare env`: what a shell or another program sets to go through the running service. Never points anybody at a port where nobody of
//! ours listens.

use std::collections::BTreeMap;
use std::process::ExitCode;

use hotspare_config::Settings;
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::cli::EnvArgs;
use crate::commands;
use crate::commands::service::{LISTENER_TIME, address};
use crate::error::{CliError, Exit};
use crate::wiring::listener::{Listener, probe};
use crate::wiring::{claude, shell::Shell};
use crate::{output, state};

/// The version of the JSON.
const VERSION: u32 = 1;

/// `hotspare env --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Environment {
    /// Of this shape.
    pub version: u32,
    /// Each variable and its value. The custom headers hold the local token: whoever can read it can use the port.
    pub env: BTreeMap<String, String>,
}

/// Runs `hotspare env`.
pub(crate) fn env(arguments: &EnvArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let config = commands::load(&locations, &commands::context(&crate::cli::Layers::default())?)?;
    let address = address(&config)?;
    match probe(&locations.state_dir, address, LISTENER_TIME)? {
        Listener::Ours => {}
        Listener::Stranger => return Err(commands::service::taken(address)),
        Listener::Nobody => {
            return Err(
                CliError::new(Exit::NotRunning, format!("no hotspare listens on {address}")).hint("start it: `hotspare service start`")
            );
        }
    }
    let token = state::lasting_token(&locations.state_dir)?;
    // The shell's own variables count here, not the settings.
    let setup = claude::setup(&Settings::parse(&locations.claude_settings, "").map_err(|errors| commands::invalid(&errors))?);
    let env = setup.lasting_env(&format!("http://{address}"), token.expose_secret());
    if arguments.json {
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        output::data(&serde_json::to_string(&Environment { version: VERSION, env }).map_err(std::io::Error::from)?)?;
    } else {
        let shell = arguments.shell.or_else(Shell::of_user).unwrap_or(Shell::Bash);
        let lines: Vec<String> = env.iter().map(|(name, value)| shell.export(name, value)).collect();
        output::data(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
