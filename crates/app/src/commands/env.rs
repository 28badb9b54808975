//! `hotspare env`: what a shell or another program sets to go through the running service. Never points anybody at a port where nobody of
//! ours listens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use hotspare_config::{BaseUrl, Config, Locations, Settings};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::claude::{BASE_URL, EXTRA_CERTIFICATES, Lead, UserSetup};
use crate::cli::{EnvArgs, Layers, Mode};
use crate::commands;
use crate::commands::service::{LISTENER_TIME, address};
use crate::destination;
use crate::error::{CliError, Exit};
use crate::state::Instance;
use crate::wiring::listener::{Listener, knows_token, probe};
use crate::wiring::outward::Outward;
use crate::wiring::{claude, shell::Shell};
use crate::{authority, output, state};

/// The version of the JSON.
const VERSION: u32 = 1;

/// `hotspare env --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Environment {
    /// Of this shape.
    pub version: u32,
    /// Each variable and its value. The custom headers, or the proxy, hold the local token: whoever can read it can use the port.
    pub env: BTreeMap<String, String>,
    /// Variables that must not be set beside them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
}

/// Runs `hotspare env`.
pub(crate) fn env(arguments: &EnvArgs) -> Result<ExitCode, CliError> {
    let layers = Layers { config: arguments.config.clone(), ..Layers::default() };
    let locations = commands::locations(arguments.config.clone())?;
    let config = commands::load(&locations, &commands::context(&layers)?)?;
    let (address, token) = running(&locations, &config)?;
    // The shell's own variables count here, not the settings.
    let empty = Settings::parse(&locations.claude_settings, "").map_err(|errors| commands::invalid(&errors))?;
    let setup = claude::setup(&empty, &locations.state_dir);
    // The variables replace the shell's URL and leave the credential beside it.
    let existing = setup.existing_base_url().and_then(|url| BaseUrl::parse(url).ok()).filter(|url| !url.points_at(address));
    if let Some(existing) = existing {
        destination::refuse_elsewhere(&config, &existing, &destination::place_of(&setup, &locations))?;
    }
    let (env, unset) = if arguments.mode == Some(Mode::Full) {
        of_full_mode(&locations, &setup, address, token.expose_secret())?
    } else {
        (setup.lasting_env(address, token.expose_secret(), Lead::Base), Vec::new())
    };
    if arguments.json {
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let unset = unset.into_iter().map(str::to_owned).collect();
        output::data(&serde_json::to_string(&Environment { version: VERSION, env, unset }).map_err(std::io::Error::from)?)?;
    } else {
        let shell = arguments.shell.or_else(Shell::of_user).unwrap_or(Shell::Bash);
        let mut lines: Vec<String> = env.iter().map(|(name, value)| shell.export(name, value)).collect();
        lines.extend(unset.iter().map(|name| shell.unset(name)));
        output::data(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a hotspare of this user serves whoever comes, and what opens it: the configured address, else any that the state folder records.
fn running(locations: &Locations, config: &Config) -> Result<(SocketAddr, SecretString), CliError> {
    let configured = address(config);
    let listener = match &configured {
        Ok(address) => probe(&locations.state_dir, *address, LISTENER_TIME)?,
        Err(_) => Listener::Nobody,
    };
    if let (Listener::Ours, Ok(address)) = (listener, &configured) {
        return Ok((*address, state::lasting_token(&locations.state_dir)?));
    }
    let instances = state::instances(&locations.state_dir).into_iter().filter(Instance::serves_all);
    if let Some(instance) = instances.into_iter().find(|instance| knows_token(instance.address, &instance.token, LISTENER_TIME)) {
        return Ok((instance.address, SecretString::from(instance.token)));
    }
    let address = configured?;
    Err(match listener {
        Listener::Stranger => commands::service::taken(address),
        Listener::Ours | Listener::Nobody => {
            CliError::new(Exit::NotRunning, format!("no hotspare listens on {address}")).hint("start it: `hotspare service start`")
        }
    })
}

/// A variable and its value, and what must not be set beside them.
type Variables = (Vec<(&'static str, String)>, Vec<&'static str>);

/// What makes the service the HTTPS proxy of whoever has these variables. What has no value is not set at all, and the
/// base URL neither: the provider's own is what every program uses without one.
fn of_full_mode(locations: &Locations, setup: &UserSetup, address: SocketAddr, token: &str) -> Result<Variables, CliError> {
    if let Some(existing) = setup.gateway() {
        return Err(CliError::new(
            Exit::Failed,
            format!("`{BASE_URL}` is `{existing}` here, and full mode stands for api.anthropic.com alone"),
        )
        .hint("by base URL: `hotspare env --mode base`"));
    }
    let own = setup.outward();
    let (certificates, unreadable) = authority::trusted(&locations.state_dir, own.certificates.as_deref())?;
    if let Some(error) = unreadable {
        output::talk(&format!("hotspare: your own `{EXTRA_CERTIFICATES}` is left out: {error}"));
    }
    authority_is_shown(address, token, &certificates)?;
    if own.proxy.is_some() && Outward::kept(&locations.state_dir).is_none_or(|kept| kept.proxy != own.proxy) {
        output::talk(
            "hotspare: the service goes through the proxy that it was started with; `hotspare install --mode full` teaches it yours",
        );
    }
    let env = setup.lasting_env(address, token, Lead::Full(&certificates));
    let (unset, env): (Vec<_>, Vec<_>) = env.into_iter().partition(|(name, value)| value.is_empty() || *name == BASE_URL);
    Ok((env, unset.into_iter().map(|(name, _)| name).collect()))
}

fn authority_is_shown(address: SocketAddr, token: &str, certificates: &Path) -> Result<(), CliError> {
    commands::runtime()?.block_on(authority::proven(address, token, certificates)).map_err(|why| {
        CliError::new(Exit::Failed, format!("full mode does not work on {address}: {why}"))
            .hint("a service of another version or mode: `hotspare service restart`")
    })
}
