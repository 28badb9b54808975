//! What each command does, one file each, and what they share. Never reads the command line.

pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod env;
pub(crate) mod explain;
pub(crate) mod help;
pub(crate) mod hook;
pub(crate) mod init;
pub(crate) mod install;
pub(crate) mod logs;
pub(crate) mod manual;
pub(crate) mod notices;
pub(crate) mod outage;
pub(crate) mod profile;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod service;
mod session_environment;
pub(crate) mod session_folder;
pub(crate) mod session_start;
pub(crate) mod status;
pub(crate) mod statusline;
pub(crate) mod trust;
pub(crate) mod uninstall;
pub(crate) mod usage;
pub(crate) mod why;

use std::fmt::Write as _;
use std::io::stderr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hotspare_config::{BaseUrl, ClientBaseUrl, Config, Context, Diagnostic, Fingerprint, Locations, TrustStore};
use hotspare_core::ChainEntry;
use hotspare_gateway::{Gateway, Reload, Snapshot};
use hotspare_store::{Reader, Store};
use hotspare_upstream::connect::Connector;
use hotspare_upstream::{ClaudeClient, CredentialError, Renewals, proxy};
use tokio::runtime::Runtime;

use crate::claude::UserSetup;
use crate::cli;
use crate::destination::Record;
use crate::error::{CliError, Exit};
use crate::output;
use crate::wiring::outward::Outward;
use crate::wiring::{self, receipt};

/// `hotspare` alone: the status if there is a configuration, else what to do first.
pub(crate) fn bare() -> Result<ExitCode, CliError> {
    let locations = locations(None)?;
    let config = load(&locations, &context(&cli::Layers::default())?)?;
    if !config.implicit {
        return status::status(&cli::StatusArgs { json: false });
    }
    output::data(
        "hotspare keeps Claude Code working when its API does not.\n  \
         hotspare init    find your logins and keys, name a spare, set it up, prove it\n  \
         hotspare demo    see three failovers first, no account needed",
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Where everything is for this user.
pub(crate) fn locations(config: Option<PathBuf>) -> Result<Locations, CliError> {
    let variable = |name: &str| match (std::env::var_os(name), name) {
        // Containers and units of the system often have none. It is then what the password database has.
        (None, "HOME") => std::env::home_dir().map(Into::into),
        (value, _) => value,
    };
    Locations::find(&variable, config).map_err(|errors| invalid(&errors))
}

/// What a configuration is read for: this folder, this environment, these arguments.
pub(crate) fn context(layers: &cli::Layers) -> Result<Context, CliError> {
    let locations = locations(layers.config.clone())?;
    let user = UserSetup::of_environment(std::env::vars_os().collect(), &locations.claude_settings);
    // A base URL that cannot be used is reported by the commands that serve.
    context_for(layers, client_base_url(&user, &locations).unwrap_or_default())
}

/// Like [`context`], for a client whose own base URL is this one.
pub(crate) fn context_for(layers: &cli::Layers, client: ClientBaseUrl) -> Result<Context, CliError> {
    let context = Context::new(std::env::current_dir()?)
        .with_variables(std::env::vars_os())
        .with_assignments(layers.set.clone())
        .with_client_base_url(client);
    Ok(if layers.no_project { context.without_projects() } else { context })
}

/// Where the client would send its requests without hotspare, which is the host that its credential belongs to.
pub(crate) fn client_base_url(user: &UserSetup, locations: &Locations) -> Result<ClientBaseUrl, CliError> {
    let current = user.existing_base_url().map(|url| {
        BaseUrl::parse(url)
            .map_err(|error| CliError::new(Exit::ConfigInvalid, format!("ANTHROPIC_BASE_URL `{url}` cannot be used: {error}")))
    });
    let receipt = receipt::look(&locations.state_dir).ok();
    let record = Record::read(&locations.state_dir);
    let of_settings = receipt.as_ref().and_then(|receipt| wiring::prior_base_url(receipt, locations));
    // What an uninstalled hotspare recorded is out of date.
    let recorded = || record.base_url().filter(|_| receipt.as_ref().is_some_and(|receipt| wiring::led(receipt, locations).is_some()));
    let before_install = of_settings.and_then(|url| BaseUrl::parse(&url).ok()).or_else(recorded);
    Ok(ClientBaseUrl { current: current.transpose()?, before_install, named: record.named() })
}

/// The configuration, whole and valid, with its warnings told.
pub(crate) fn load(locations: &Locations, context: &Context) -> Result<Config, CliError> {
    let config = load_quietly(locations, context)?;
    tell_warnings(&config.warnings);
    Ok(config)
}

/// The same for a command that is about something else.
pub(crate) fn load_quietly(locations: &Locations, context: &Context) -> Result<Config, CliError> {
    hotspare_config::load(locations, context).map_err(|errors| invalid(&errors))
}

/// Warnings as people read them; a second one of a kind in one line, since its advice was just given.
pub(crate) fn tell_warnings<'w>(warnings: impl IntoIterator<Item = &'w Diagnostic>) {
    // A command reads the configuration more than once, also after it has moved the line.
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut told: Vec<&str> = Vec::new();
    for warning in warnings {
        let whole = drawn(warning);
        let mut said = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        let said_as = format!("{} {}", warning.code, warning.title);
        if said.contains(&said_as) {
            continue;
        }
        said.push(said_as);
        let is_new = !told.contains(&warning.code);
        told.push(warning.code);
        output::talk(if is_new { &whole } else { whole.lines().next().unwrap_or_default() });
    }
}

/// As it is drawn on standard error.
pub(crate) fn drawn(diagnostic: &Diagnostic) -> String {
    diagnostic.render_within(output::colored(&stderr()), output::columns(&stderr())).trim_end().to_owned()
}

/// What is wrong with it, drawn.
pub(crate) fn invalid(errors: &hotspare_config::Errors) -> CliError {
    CliError::drawn(Exit::ConfigInvalid, errors.render_within(output::colored(&stderr()), output::columns(&stderr())))
}

/// One thread carries the whole data path: a wake-up across threads costs more than the work between two.
pub(crate) fn runtime() -> Result<Runtime, CliError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Sockets and files that a connection needs: its own, that to the provider, and one more where two race.
const DESCRIPTORS_PER_CONNECTION: u64 = 3;

/// Files, pipes and the ledger besides.
const DESCRIPTORS_BESIDES: u64 = 128;

/// Raises the soft limit of open files to what so many connections need, where it is lower: some systems begin with 256. A program that is
/// started before keeps the limit that it would have without us.
pub(crate) fn allow_connections(most: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = DESCRIPTORS_PER_CONNECTION.saturating_mul(most as u64).saturating_add(DESCRIPTORS_BESIDES);
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(needed, |maximum| needed.min(maximum));
    if limit.current.is_some_and(|current| current < wanted) {
        // Best effort: without it fewer connections are served at a time.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// Waits in a command that has no runtime of its own.
pub(crate) fn rest(time: Duration) {
    // Without a runtime nothing would work; a look too many is then the least trouble.
    if let Ok(runtime) = runtime() {
        runtime.block_on(async { tokio::time::sleep(time).await });
    }
}

/// Reports each profile of a chain that cannot authenticate now, and fails only where no profile can: a spare without its key must not take
/// the primary's requests with it, and with the primary's key gone the spare is what is left.
pub(crate) async fn check_credentials(config: &Config, renewals: &Arc<Renewals>) -> Result<(), CliError> {
    let snapshot = Snapshot::compile_with(config, renewals);
    let missing = snapshot.missing_credentials().await;
    for line in skipped_lines(config, &missing.passing) {
        output::talk(&line);
    }
    let Some(((name, error), others)) = missing.lasting.split_first() else {
        return Ok(());
    };
    let mut told = format!("profile `{name}` has no credential: {error}");
    for (name, error) in others {
        let _ = write!(told, "\n          profile `{name}` neither: {error}");
    }
    let hint = format!("set it, or change `auth` of profile `{name}` in the configuration (`hotspare config path`)");
    Err(CliError::new(Exit::LoginNeeded, told).hint(hint).hint("what is on this machine: `hotspare init`"))
}

/// A line for each profile that is skipped until its credential is there, the primary's with what serves in its place.
fn skipped_lines(config: &Config, missing: &[(Arc<str>, CredentialError)]) -> Vec<String> {
    let chain = config.rules.last().map(|rule| rule.chain.entries.as_slice()).unwrap_or_default();
    let name = |entry: &ChainEntry| config.profiles.get(usize::from(entry.profile.0)).map(|profile| profile.name.clone());
    let chain: Vec<Arc<str>> = chain.iter().filter_map(name).collect();
    let is_missing = |name: &str| missing.iter().any(|(missing, _)| **missing == *name);
    let instead = chain.iter().find(|name| !is_missing(name));
    let line = |(name, error): &(Arc<str>, CredentialError)| {
        let role = if chain.first() == Some(name) { "primary" } else { "profile" };
        let serves = instead.filter(|_| role == "primary").map(|instead| format!("; `{instead}` serves in its place"));
        format!("hotspare: {role} `{name}` is skipped: {error}{}", serves.unwrap_or_default())
    };
    missing.iter().map(line).collect()
}

/// Where a gateway remembers: a ledger that cannot be written is told by `status`, and stops nothing.
pub(crate) fn store(locations: &Locations, config: &Config) -> Store {
    Store::open(&locations.state_dir, hotspare_store::Options { retain: config.log.retain })
}

/// The ledger of this user, whether or not anything runs; none when nothing was ever recorded.
pub(crate) fn ledger(locations: &Locations) -> Result<Option<Reader>, CliError> {
    Ok(Reader::open(&locations.state_dir)?)
}

/// The time so long ago, in milliseconds since 1970 (UTC).
pub(crate) fn ms_ago(time: Duration) -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.saturating_sub(time).as_millis()).unwrap_or(u64::MAX)
}

/// What to say where nothing was ever recorded.
pub(crate) fn nothing_recorded() -> CliError {
    CliError::new(Exit::Failed, "no exchange is recorded yet").hint("protect a session: `hotspare run -- claude`")
}

/// `work → spare`, as the default chain has it.
pub(crate) fn chain_line(config: &Config) -> String {
    let name = |id: hotspare_core::ProfileId| config.profiles.get(usize::from(id.0)).map_or("?", |profile| &profile.name);
    let names: Vec<&str> =
        config.rules.last().map(|rule| rule.chain.entries.iter().map(|entry| name(entry.profile)).collect()).unwrap_or_default();
    names.join(" → ")
}

/// How the configuration's files are now. Taken before they are read, so that no change of them is missed.
pub(crate) fn fingerprint(locations: &Locations, context: &Context) -> Fingerprint {
    // Only what is there can be watched. In place of the pins' folder it would be the one above, where the ledger is written to with every request; and
    // a state folder that cannot be written has no ledger.
    let _ = TrustStore::new(&locations.state_dir).make();
    Fingerprint::of(&hotspare_config::candidates(locations, context))
}

/// Keeps the gateway's configuration up to date.
pub(crate) fn reload(gateway: Arc<Gateway>, locations: &Locations, context: &Context) -> Reload {
    let (files_of, files_in) = (locations.clone(), context.clone());
    let (locations, context) = (locations.clone(), context.clone());
    let load = move || hotspare_config::load(&locations, &context).map_err(|errors| errors.render(false));
    Reload::new(gateway, Arc::new(load), Arc::new(move || hotspare_config::candidates(&files_of, &files_in)))
}

/// How this process leaves the machine: by its environment, unless that leads back to us.
pub(crate) fn outward(locations: &Locations) -> Outward {
    Outward::of_service(&locations.state_dir, &|name| std::env::var(name).ok())
}

/// Opens connections on that way. Authorities in a file that is gone are left out, as Claude Code does.
pub(crate) fn connector(outward: &Outward) -> Connector {
    let roots = outward.certificates.clone().filter(|file| file.exists());
    Connector::new(roots).through_proxy(outward.proxy.as_deref(), outward.no_proxy.as_deref())
}

/// The user's Claude Code on that way out, which renews the logins of folders.
pub(crate) fn claude_client(outward: &Outward) -> ClaudeClient {
    ClaudeClient::default().through(outward.variables())
}

/// Renewals by that Claude Code.
pub(crate) fn renewals(outward: &Outward) -> Arc<Renewals> {
    Renewals::by(claude_client(outward))
}

/// Why nothing will get out on that way.
pub(crate) fn unusable(outward: &Outward) -> Option<String> {
    proxy::check(outward.proxy.as_deref()?).err().map(|why| why.to_string())
}

/// The same for a command that asks once.
pub(crate) fn connector_here() -> Connector {
    connector(&outward_here())
}

/// Like [`renewals`], for a command that renews at most once.
pub(crate) fn renewals_here() -> Arc<Renewals> {
    renewals(&outward_here())
}

fn outward_here() -> Outward {
    locations(None).map(|locations| outward(&locations)).unwrap_or_default()
}

/// The file of further certificate authorities that this process trusts.
pub(crate) fn extra_roots() -> Option<PathBuf> {
    locations(None).ok().and_then(|locations| outward(&locations).certificates)
}

/// Logs go to stderr where `HOTSPARE_LOG` asks for them; `default` holds where it does not.
pub(crate) fn logging(default: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("HOTSPARE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // A second call in one process keeps the first: nothing is lost. A log that nobody reads any more must not be complained of where nobody
    // reads either: that would panic.
    let _ = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}
