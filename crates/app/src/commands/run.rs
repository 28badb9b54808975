//! `hotspare run -- CMD…`: protects one command and ends with it. Never writes to the user's files, and never lets a token into argv.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::SystemTime;

use hotspare_config::{BaseUrl, Config, Context, Fingerprint, Locations, Mode};
use hotspare_gateway::{Authority, Gateway, Options, Outside, Snapshot, Terminator};
use hotspare_upstream::{ClaudeClient, Renewals};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::authority;
use crate::background::Background;
use crate::claude::inside::Children;
use crate::claude::outer::Outer;
use crate::claude::{Injection, Lead, UserSetup};
use crate::cli::{self, Run};
use crate::commands;
use crate::destination;
use crate::error::{CliError, Exit};
use crate::notices::{Screen, Shower};
use crate::wiring::outward::Outward;
use crate::wiring::{self, receipt};
use crate::{output, state};

/// Runs `hotspare run`.
pub(crate) fn run(arguments: Run) -> Result<ExitCode, CliError> {
    // The child owns the terminal: logs only where they are asked for.
    commands::logging("off");
    let locations = commands::locations(arguments.layers.config.clone())?;
    if let Some(background) = Background::of(&arguments.command) {
        return beside(&locations, background, &arguments.command);
    }
    let environment: HashMap<OsString, OsString> = std::env::vars_os().collect();
    let user = UserSetup::read(&arguments.command, &environment, &locations.claude_settings)
        .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?
        .with_kept(Outward::kept(&locations.state_dir))
        .with_displaced(wiring::displaced(&locations));
    let user = match std::env::current_dir() {
        Ok(folder) => user.in_project(&folder),
        Err(_) => user,
    };
    let names_another = arguments.mode.is_some() || !arguments.layers.is_default();
    if let Some(outer) = Outer::of(&environment).filter(|_| !names_another)
        && outer.answers()
    {
        return within(&outer, user, &arguments.command);
    }
    let context = commands::context_for(&arguments.layers, commands::client_base_url(&user, &locations)?)?;
    let seen = commands::fingerprint(&locations, &context);
    let config = commands::load(&locations, &context)?;
    if let Some(existing) = user.existing_base_url().and_then(|url| BaseUrl::parse(url).ok()).filter(|_| !config.implicit) {
        destination::refuse_elsewhere(&config, &existing, &destination::place_of(&user, &locations))?;
    }
    let mode = arguments.mode.map_or(config.server.mode, Mode::from);
    commands::runtime()?.block_on(protect(&locations, &context, (config, seen), mode, (user, arguments.command)))
}

/// Starts the command behind the hotspare that this process runs behind already. A second one in front of it would refuse the first as a
/// loop, or go past it to the provider with a credential that may be a gateway's.
fn within(outer: &Outer, user: UserSetup, command: &[OsString]) -> Result<ExitCode, CliError> {
    output::talk(&format!("hotspare: already behind the hotspare on http://{}, which protects this command too", outer.address()));
    let user = if Screen::of(command) == Screen::Theirs { with_presence(user) } else { user };
    let folder = tempfile::Builder::new().prefix("hotspare-run-").tempdir()?;
    // Whether a key is needed in the child's environment, the outer one has decided: it is there.
    let injection = user.with_inside(Children::Direct, folder.path()).inject(outer.address(), outer.token(), true, outer.lead());
    commands::runtime()?.block_on(run_child(injection, folder.path(), 0))
}

/// A session in the background outlives this run, so it is the service's, as every session where hotspare is installed; else nobody's, and
/// nothing is started. What merely looks at such sessions is started as it is.
fn beside(locations: &Locations, background: Background<'_>, command: &[OsString]) -> Result<ExitCode, CliError> {
    let address = receipt::look(&locations.state_dir).ok().and_then(|receipt| wiring::wired_address(&receipt, locations));
    match address {
        _ if !background.runs => {}
        Some(address) => {
            output::talk(&format!(
                "hotspare: sessions in the background outlive this run: they go through the service on http://{address}"
            ));
        }
        None => {
            let why = format!("`{}` is for sessions in the background, which outlive `hotspare run`: they would lose it", background.word);
            return Err(CliError::new(Exit::Usage, why)
                .hint("to protect them, as every session: `hotspare install`, then `claude` as usual")
                .hint("without hotspare: leave `hotspare run --` out"));
        }
    }
    let injection = Injection::none(command.to_vec());
    commands::runtime()?.block_on(run_child(injection, Path::new(""), 0))
}

async fn protect(
    locations: &Locations,
    context: &Context,
    (config, seen): (Config, Fingerprint),
    mode: Mode,
    (user, command): (UserSetup, Vec<OsString>),
) -> Result<ExitCode, CliError> {
    let screen = Screen::of(&command);
    let outward = user.outward();
    let renewals = Renewals::by(claude_client(&command, &outward));
    commands::check_credentials(&config, &renewals).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let token = state::new_token()?;
    let store = commands::store(locations, &config);
    if let Some(why) = commands::unusable(&outward) {
        output::talk(&format!("hotspare: {why}; no provider beyond this machine can be reached"));
    }
    let network = commands::connector(&outward).without_proxy_at(listener.local_addr()?);
    let options = Options {
        token: token.clone(),
        extra_roots: None,
        observer: None,
        outside: Outside::default().with_network(Arc::new(network)).with_renewals(renewals),
        store: Some(store),
    };
    let gateway = Gateway::new(&config, &listener, options).map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
    let uses_client_login = Snapshot::compile(&config).uses_client_login();
    // The folder is made with mode 0700 and its files with 0600; all go with this function.
    let folder = tempfile::Builder::new().prefix("hotspare-run-").tempdir()?;
    let certificates = if is_full(mode, &user) { Some(full_mode(&gateway, &user, folder.path())?) } else { None };
    let lead = match &certificates {
        Some(file) => Lead::Full(file),
        None => Lead::Base,
    };
    let registration = register(locations, &gateway, &token);
    // Status line and hooks find this run by its entry.
    let user = if screen == Screen::Theirs && registration.is_some() { with_presence(user) } else { user };
    if user.is_client() && config.server.children == hotspare_config::Children::Direct {
        let origin = user.existing_base_url().and_then(|url| BaseUrl::parse(url).ok());
        gateway.send_children_directly(Box::new(move || origin.clone()));
    }
    let user = user.with_inside(config.server.children.into(), folder.path());
    let injection = user.inject(gateway.local(), token.expose_secret(), uses_client_login, lead);
    greet(&config);
    if let Some(switch) = user.bypass() {
        output::talk(&format!("hotspare: `{switch}` is set, so the client goes to that cloud and past hotspare; unset it to be protected"));
    }
    let reload = commands::reload(gateway.clone(), locations, context).since(seen);
    // The terminal's SIGHUP belongs to the child: here only saving a file counts.
    let watching = tokio::spawn(reload.watch(Arc::new(Notify::new())));
    let serving = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending()));
    let shower = Shower::start(gateway.clone(), screen);
    let status = run_child(injection, folder.path(), config.server.max_connections).await;
    shower.end();
    watching.abort();
    serving.abort();
    gateway.finish_hooks().await;
    gateway.keep_all();
    drop(registration);
    status
}

impl From<cli::Mode> for Mode {
    fn from(mode: cli::Mode) -> Self {
        match mode {
            cli::Mode::Auto => Self::Auto,
            cli::Mode::Base => Self::Base,
            cli::Mode::Full => Self::Full,
        }
    }
}

/// The Claude Code that renews logins: the one that is run here, where its path is given.
fn claude_client(command: &[OsString], outward: &Outward) -> ClaudeClient {
    let client = commands::claude_client(outward);
    let given = command.first().map(PathBuf::from).filter(|path| path.is_absolute() && path.file_name() == Some("claude".as_ref()));
    match given {
        Some(program) => client.first_at(program),
        None => client,
    }
}

fn greet(config: &Config) {
    let spares = config.rules.iter().map(|rule| rule.chain.entries.len()).max().unwrap_or_default();
    if spares < 2 {
        output::talk("hotspare: no spare is configured, so failures of the primary reach you; `hotspare init` finds one");
    } else if stderr().is_terminal() {
        output::talk(&format!("hotspare: {}", commands::chain_line(config)));
    }
}

/// Without a way to call ourselves, the client shows nothing of us; what moved is told when it has ended.
fn with_presence(user: UserSetup) -> UserSetup {
    match (wiring::program(), std::env::current_dir()) {
        (Ok(program), Ok(folder)) => user.with_presence(&program, &folder),
        _ => user,
    }
}

/// A full or read-only disk must not stop the command: `status` is then blind to this run, and that is all.
fn register(locations: &Locations, gateway: &Gateway, token: &SecretString) -> Option<state::Registration> {
    state::register(&locations.state_dir, "run", gateway.local(), token)
        .inspect_err(|error| output::talk(&format!("hotspare: `hotspare status` will not see this run: {error}")))
        .ok()
}

/// Whether this run is in full mode, which stands for the client's own provider alone: what the client has for a gateway must not reach it.
fn is_full(mode: Mode, user: &UserSetup) -> bool {
    let wanted = mode == Mode::Full;
    if wanted && user.gateway().is_some() {
        output::talk("hotspare: `ANTHROPIC_BASE_URL` is set, so this run goes by base URL: full mode stands for api.anthropic.com alone");
        return false;
    }
    wanted
}

/// Lets the gateway be the client's HTTPS proxy, and writes what the client must trust. The authority is this run's own: its key is never
/// written, and nothing is left of it.
fn full_mode(gateway: &Gateway, user: &UserSetup, folder: &Path) -> Result<PathBuf, CliError> {
    let authority = Authority::make(SystemTime::now()).map_err(|error| CliError::new(Exit::Failed, format!("full mode: {error}")))?;
    let (bundle, unreadable) = authority::bundle(authority.certificate_pem(), user.own_certificates());
    if let (Some(error), Some(file)) = (unreadable, user.own_certificates()) {
        output::talk(&format!("hotspare: `NODE_EXTRA_CA_CERTS={}` is left out: {error}", file.display()));
    }
    let file = folder.join("ca.pem");
    state::write_private(&file, bundle.as_bytes())?;
    gateway.offer_full_mode(Terminator::of(Arc::new(authority)));
    Ok(file)
}

async fn run_child(injection: Injection, folder: &Path, connections: usize) -> Result<ExitCode, CliError> {
    for (file, text) in &injection.files {
        state::write_private(file, text.as_bytes())?;
    }
    let argv = match &injection.settings {
        None => injection.argv.clone(),
        Some(settings) => {
            let file = folder.join("settings.json");
            state::write_private(&file, settings.as_bytes())?;
            injection.argv_with(&file)
        }
    };
    let (program, arguments) = argv.split_first().ok_or_else(|| CliError::new(Exit::CannotStart, "no command"))?;
    // Registered before the child starts, so that no signal of the terminal can end us first.
    let mut signals = Signals::new()?;
    let mut command = Command::new(program);
    for name in &injection.removed {
        command.env_remove(name);
    }
    let mut child = command
        .args(arguments)
        .envs(&injection.environment)
        .spawn()
        .map_err(|error| CliError::new(Exit::CannotStart, format!("cannot start `{}`: {error}", program.display())))?;
    commands::allow_connections(connections);
    let status = signals.pass_on_until_end(&mut child).await?;
    Ok(exit_code(status))
}

/// What the terminal and the system send us belongs to the child.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn pass_on_until_end(&mut self, child: &mut Child) -> Result<ExitStatus, CliError> {
        loop {
            // Cancel-safe: signals stay pending and `wait` may be called again.
            let passed = tokio::select! {
                status = child.wait() => return Ok(status?),
                _ = self.interrupt.recv() => Some(Signal::INT).filter(|_| !terminal_signals_child()),
                _ = self.quit.recv() => Some(Signal::QUIT).filter(|_| !terminal_signals_child()),
                _ = self.terminate.recv() => Some(Signal::TERM),
                _ = self.hangup.recv() => Some(Signal::HUP),
            };
            let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            if let (Some(signal), Some(pid)) = (passed, pid) {
                // The child may have ended by itself a moment ago.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

/// True if the keys of a terminal send SIGINT and SIGQUIT to this process: it is in the foreground group of its controlling terminal. The
/// child is in the same group, so it has received the signal already, and a second one would count as a second key. In CI, in a container
/// without a terminal and in a background job such a signal comes from a program, usually to this process alone.
fn terminal_signals_child() -> bool {
    let terminal = std::fs::File::options().read(true).open("/dev/tty");
    terminal.is_ok_and(|terminal| rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp()))
}

/// The child's own code; 128 and the signal's number where a signal ended it, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
