//! `hotspare service`: starts, stops and replaces the process that serves in the background; by systemd or launchd where one of them runs
//! this user's services, else by itself. Never ends a process that is not ours.

mod manager;
pub(crate) mod notify;
mod units;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use hotspare_config::{Config, Locations, Server};
use rustix::process::{Pid, Signal, kill_process};
use schemars::JsonSchema;
use serde::Serialize;

use crate::claude;
use crate::cli::ServiceCommand;
use crate::commands;
use crate::commands::install;
use crate::commands::serve::{RETIRE_IDLE, RETIRE_TIME, SERVICE_DRAIN};
use crate::error::{CliError, Exit};
use crate::output;
use crate::state::{self, Instance};
use crate::wiring::listener::{Listener, probe};
use crate::wiring::outward::{OF_FULL_MODE, Outward};
use crate::wiring::patch::{Change, Place};
use crate::wiring::{self, Mode, Outcome, Part, WiringError};
pub(crate) use manager::Manager;
use manager::{launchd_domain, launchd_target, ordered, ordered_within, systemd_has_port, systemd_port};

/// Longest that a listener may take to prove that it is ours. It is a millisecond's work; a service that systemd starts for this very
/// connection takes longer.
pub(crate) const LISTENER_TIME: Duration = Duration::from_secs(2);

/// Longest that a new process may take until it answers.
pub(crate) const START_TIME: Duration = Duration::from_secs(10);

/// Longest that the port of a process which has ended may stay open.
const PORT_TIME: Duration = Duration::from_secs(1);

/// Between two looks at a process that starts or ends.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A log of a service that runs by itself is begun anew beyond so many bytes.
const LOG_CAP: u64 = 1024 * 1024;

/// The version of the JSON.
const VERSION: u32 = 1;

/// `hotspare service status --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ServiceStatus {
    /// Of this shape.
    pub version: u32,
    /// Whether a hotspare of this user answers at the address.
    pub running: bool,
    /// The configured address.
    pub address: String,
    /// Its process; none where it does not run.
    pub pid: Option<i32>,
    /// The process that starts it again when it crashes. `None` if systemd or launchd does, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<i32>,
    /// Who runs services here.
    pub manager: Manager,
    /// Whether it is installed there, and so comes back at the next login.
    pub installed: bool,
    /// Whether another program has the port.
    pub port_taken: bool,
}

/// Runs `hotspare service`.
pub(crate) fn service(command: &ServiceCommand) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let config = commands::load(&locations, &commands::context(&crate::cli::Layers::default())?);
    // A broken configuration is no reason not to stop, and the service itself starts with one.
    let address = match &config {
        Ok(config) => address(config)?,
        Err(_) => known_address(&wiring::receipt::look(&locations.state_dir)?, &locations),
    };
    match command {
        ServiceCommand::Start | ServiceCommand::Restart if config.is_ok() && has_moved(&locations, address) => install::again(&locations),
        ServiceCommand::Start => start_and_tell(&locations, address),
        ServiceCommand::Stop => stop_and_tell(&locations, address),
        ServiceCommand::Restart => restart(&locations, address),
        ServiceCommand::Status { json } => status(&locations, address, *json),
    }
}

/// The address that a service may have: clients are told it once, so it must be the same tomorrow.
pub(crate) fn address(config: &Config) -> Result<SocketAddr, CliError> {
    let address = config.server.listen;
    if address.port() == 0 {
        return Err(CliError::new(Exit::ConfigInvalid, "`server.listen` names port 0, which is another one at every start")
            .hint("name a port: `hotspare config set server.listen 127.0.0.1:4117`"));
    }
    Ok(address)
}

/// The address that was installed; where nothing was, the one that is configured, or would be without a configuration.
pub(crate) fn known_address(receipt: &wiring::receipt::Open, locations: &Locations) -> SocketAddr {
    let configured = || {
        let context = commands::context(&crate::cli::Layers::default()).ok()?;
        hotspare_config::load(locations, &context).ok().map(|config| config.server.listen)
    };
    wiring::wired_address(receipt, locations).or_else(configured).unwrap_or_else(|| Server::default().listen)
}

/// Whether clients, or the service itself, are at another address than this one, which is configured.
fn has_moved(locations: &Locations, address: SocketAddr) -> bool {
    let wired = wiring::receipt::look(&locations.state_dir).ok().and_then(|receipt| wiring::wired_address(&receipt, locations));
    let elsewhere = |at: &SocketAddr| *at != address;
    wired.as_ref().is_some_and(elsewhere) || (!is_running(locations, address) && addresses(locations).iter().any(elsewhere))
}

/// Where services of this user listen.
pub(crate) fn addresses(locations: &Locations) -> Vec<SocketAddr> {
    let services = state::instances(&locations.state_dir).into_iter().filter(|instance| instance.kind == "service");
    let supervisors = state::supervisors(&locations.state_dir).into_iter().map(|supervisor| supervisor.address);
    let mut addresses: Vec<SocketAddr> = services.map(|instance| instance.address).chain(supervisors).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Lets services at other addresses go once no client uses them; what a person must know of that.
pub(crate) fn retire_others(locations: &Locations, address: SocketAddr) -> Vec<String> {
    let others = state::instances(&locations.state_dir).into_iter().filter(|instance| instance.address != address && instance.serves_all());
    others.filter_map(|instance| retired(locations, &instance)).collect()
}

fn retired(locations: &Locations, instance: &Instance) -> Option<String> {
    let at = instance.address;
    if instance.kind == "serve" {
        return Some(format!("process {} goes on at http://{at}: `hotspare serve` started it", instance.pid));
    }
    let process = supervisor(locations, at).or_else(|| Pid::from_raw(instance.pid))?;
    // An older version does not know the order to retire, and would end at once; this one records when it started.
    let order = if instance.started.is_some() { Signal::USR1 } else { Signal::TERM };
    kill_process(process, order).ok()?;
    Some(format!(
        "http://{at} stays for open sessions: until it was unused for {} s, {} min at most",
        RETIRE_IDLE.as_secs(),
        RETIRE_TIME.as_secs() / 60
    ))
}

/// Ends services that are at none of these addresses: an `install` that has failed started them.
pub(crate) fn end_all_but(locations: &Locations, addresses: &[SocketAddr]) {
    let is_new = |at: &SocketAddr| !addresses.contains(at);
    let supervisors = state::supervisors(&locations.state_dir).into_iter().map(|supervisor| (supervisor.pid, supervisor.address));
    let workers = state::instances(&locations.state_dir).into_iter().filter(|instance| instance.kind == "service");
    let all = supervisors.chain(workers.map(|instance| (instance.pid, instance.address)));
    let ours: Vec<Pid> = all.filter(|(_, at)| is_new(at)).filter_map(|(pid, _)| Pid::from_raw(pid)).collect();
    for pid in &ours {
        let _ = kill_process(*pid, Signal::TERM);
    }
    let deadline = Instant::now() + START_TIME;
    while ours.iter().any(|pid| state::is_alive(*pid)) && Instant::now() < deadline {
        commands::rest(LOOK_EVERY);
    }
}

/// Whether a service or a `serve` of this user has this address.
pub(crate) fn is_running(locations: &Locations, address: SocketAddr) -> bool {
    running(locations, address).is_some()
}

/// Somebody else has our port.
pub(crate) fn taken(address: SocketAddr) -> CliError {
    CliError::new(Exit::Failed, format!("another program listens on {address}"))
        .hint(format!("find it: `ss -ltnp 'sport = :{}'`", address.port()))
        .hint("or take another port: `hotspare config set server.listen 127.0.0.1:PORT`, then `hotspare install`")
}

/// How a start went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Started {
    /// It ran already.
    Already,
    /// It runs now.
    Now(Manager),
    /// It has been started, and does not answer yet.
    Soon,
}

/// Starts the service unless it runs, and waits for its first answer until the deadline.
pub(crate) fn start(locations: &Locations, address: SocketAddr, deadline: Instant) -> Result<Started, CliError> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let manager = if is_installed(locations) { Manager::find() } else { Manager::Background };
    match probe(&locations.state_dir, address, left())? {
        Listener::Ours => return Ok(Started::Already),
        // A busy machine: whoever has entered itself there and lives is no stranger.
        Listener::Stranger if running(locations, address).is_some() => return Ok(Started::Soon),
        // A service that has just crashed: its supervisor holds the port and starts it again.
        Listener::Stranger if supervisor(locations, address).is_some() => return Ok(Started::Soon),
        // Whoever comes wakes the service, as we have just done.
        Listener::Stranger if manager == Manager::Systemd && systemd_has_port(address) => return Ok(Started::Soon),
        Listener::Stranger => return Err(taken(address)),
        Listener::Nobody => {}
    }
    let mut child = None;
    match manager {
        // Ends when the service is ready, or cannot be; a service that starts goes on starting when the time is up.
        Manager::Systemd => {
            let orders = ["--user", "start", "hotspare.socket", "hotspare.service"];
            if ordered_within("systemctl", &orders, left().max(LOOK_EVERY))?.is_none() {
                return Ok(Started::Soon);
            }
        }
        Manager::Launchd => {
            ordered("launchctl", &["kickstart", &launchd_target()])?;
        }
        Manager::Background => child = Some(spawn(locations, address)?),
    }
    loop {
        if probe(&locations.state_dir, address, left().max(LOOK_EVERY))? == Listener::Ours {
            return Ok(Started::Now(manager));
        }
        if let Some(status) = child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            // Two sessions that begin at the same moment both start it; the port lets one live.
            return match probe(&locations.state_dir, address, LISTENER_TIME)? {
                Listener::Ours => Ok(Started::Now(manager)),
                Listener::Stranger => Err(taken(address)),
                Listener::Nobody => {
                    Err(CliError::new(Exit::Failed, format!("the service ended at once ({status}): {}", last_words(locations)))
                        .hint(format!("its log: {}", log_file(locations).display())))
                }
            };
        }
        if left().is_zero() {
            return Ok(Started::Soon);
        }
        commands::rest(LOOK_EVERY);
    }
}

/// Starts a process that outlives us.
fn spawn(locations: &Locations, address: SocketAddr) -> Result<Child, CliError> {
    let log = state::private_file(&log_file(locations))?;
    if log.metadata()?.len() > LOG_CAP {
        log.set_len(0)?;
    }
    let program = wiring::program()?;
    let mut command = Command::new(&program);
    command.args(["serve", "--service", "--supervised", "--listen", &address.to_string()]);
    own_environment(&mut command, locations);
    let child = command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // No Ctrl-C of this terminal shall reach it, even before it has a session of its own.
        .process_group(0)
        .spawn();
    child.map_err(|error| CliError::new(Exit::Failed, format!("cannot start `{program}`: {error}")))
}

/// A client that we are the proxy of may have started us: what leads to ourselves is taken out of the environment, and what the client had
/// of its own is put there again.
fn own_environment(command: &mut Command, locations: &Locations) {
    command.env_remove(claude::BASE_URL).env_remove(claude::CUSTOM_HEADERS);
    let is_ours = |name: &str| std::env::var(name).is_ok_and(|url| claude::is_our_proxy(&url));
    if claude::HTTPS_PROXY.into_iter().any(is_ours) {
        for name in OF_FULL_MODE {
            command.env_remove(name);
        }
        command.envs(Outward::kept(&locations.state_dir).unwrap_or_default().variables());
    }
}

fn log_file(locations: &Locations) -> PathBuf {
    locations.state_dir.join("service.log")
}

/// The last line that a service said.
fn last_words(locations: &Locations) -> String {
    let said = fs::read(log_file(locations)).unwrap_or_default();
    let tail = String::from_utf8_lossy(&said[said.len().saturating_sub(4096)..]).into_owned();
    let line =
        tail.lines().rev().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with("hint:")).unwrap_or("it said nothing");
    line.trim().trim_start_matches("hotspare: ").to_owned()
}

fn start_and_tell(locations: &Locations, address: SocketAddr) -> Result<ExitCode, CliError> {
    match start(locations, address, Instant::now() + START_TIME)? {
        Started::Already => output::data(&format!("hotspare runs already on http://{address}"))?,
        Started::Now(Manager::Background) => {
            output::data(&format!("hotspare runs on http://{address}, in the background"))?;
            match Manager::find() {
                Manager::Background => output::talk(
                    "  neither systemd nor launchd runs services here: after a restart of the machine start it again, or let\n  \
                     Claude Code's hook do it (`hotspare install claude`)",
                ),
                manager => output::talk(&format!("  to have {} start it at login: `hotspare install service`", manager.words())),
            }
            output::talk("  stop it: `hotspare service stop`");
        }
        Started::Now(manager) => {
            output::data(&format!("hotspare runs on http://{address}, kept by {}", manager.words()))?;
            output::talk("  stop it: `hotspare service stop`");
        }
        Started::Soon => {
            return Err(CliError::new(Exit::Failed, format!("the service was started and does not answer on {address} yet"))
                .hint(format!("its log: {}", log_file(locations).display())));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The process that serves at this address.
fn running(locations: &Locations, address: SocketAddr) -> Option<Instance> {
    state::instances(&locations.state_dir).into_iter().find(|instance| instance.address == address && instance.serves_all())
}

/// The process that keeps the service at this address alive, if it is not systemd or launchd.
fn supervisor(locations: &Locations, address: SocketAddr) -> Option<Pid> {
    let supervisors = state::supervisors(&locations.state_dir);
    supervisors.into_iter().find(|supervisor| supervisor.address == address).and_then(|supervisor| Pid::from_raw(supervisor.pid))
}

/// The processes of the service, wherever it listens: supervisors first. A `serve` is one at this address alone, as the user started it.
fn processes(locations: &Locations, address: SocketAddr) -> Vec<Pid> {
    let supervisors = state::supervisors(&locations.state_dir).into_iter().map(|supervisor| supervisor.pid);
    let is_service = |instance: &Instance| instance.kind == "service" || (instance.kind == "serve" && instance.address == address);
    let workers = state::instances(&locations.state_dir).into_iter().filter(is_service).map(|instance| instance.pid);
    supervisors.chain(workers).filter_map(Pid::from_raw).collect()
}

/// Stops the service, wherever it listens; whether one ran.
pub(crate) fn stop(locations: &Locations, address: SocketAddr) -> Result<bool, CliError> {
    let (processes, held) = (processes(locations, address), addresses(locations));
    if is_installed(locations) {
        match Manager::find() {
            Manager::Systemd => {
                ordered("systemctl", &["--user", "stop", "hotspare.socket", "hotspare.service"])?;
            }
            Manager::Launchd => {
                // It is not loaded where it does not run.
                let _ = ordered("launchctl", &["bootout", &launchd_target()]);
            }
            Manager::Background => {}
        }
    }
    for pid in &processes {
        // Gone already where the manager has stopped it.
        let _ = kill_process(*pid, Signal::TERM);
    }
    let deadline = Instant::now() + SERVICE_DRAIN + Duration::from_secs(5);
    let told_at = Instant::now() + Duration::from_millis(300);
    let mut told = false;
    while let Some(pid) = processes.iter().find(|pid| state::is_alive(**pid)) {
        if !told && Instant::now() > told_at {
            told = true;
            output::talk(&format!("waiting for the answers in flight to end, at most {} s", SERVICE_DRAIN.as_secs()));
        }
        if Instant::now() > deadline {
            return Err(CliError::new(Exit::Failed, format!("process {} does not end", pid.as_raw_nonzero())));
        }
        commands::rest(LOOK_EVERY);
    }
    // The main thread of a process may be gone a moment before its sockets are.
    let deadline = Instant::now() + PORT_TIME;
    while held.iter().any(|at| TcpStream::connect_timeout(at, PORT_TIME).is_ok()) && Instant::now() < deadline {
        commands::rest(LOOK_EVERY);
    }
    Ok(!processes.is_empty())
}

fn stop_and_tell(locations: &Locations, address: SocketAddr) -> Result<ExitCode, CliError> {
    if !stop(locations, address)? {
        return Err(CliError::new(Exit::NotRunning, format!("no service of yours runs on {address}")));
    }
    output::data("hotspare is stopped")?;
    let receipt = wiring::receipt::look(&locations.state_dir)?;
    if wiring::wired_address(&receipt, locations).is_some() {
        output::talk("  Claude Code's settings still point at it: the next session starts it again; `hotspare uninstall` takes them out");
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a new process in the place of the one that runs, without refusing a connection or cutting an answer.
fn restart(locations: &Locations, address: SocketAddr) -> Result<ExitCode, CliError> {
    let Some(before) = running(locations, address) else { return start_and_tell(locations, address) };
    let next = replaced(locations, address, &before)?;
    output::data(&format!("process {next} serves on http://{address} now"))?;
    output::talk(&format!("  process {} ends with its last answer", before.pid));
    if is_installed(locations) && Manager::find() == Manager::Systemd {
        // The new process has the old one's variables. systemd itself can only end the one before it begins the next.
        output::talk("  keys in hotspare's `environment` file are read by `systemctl --user restart hotspare`, which waits for answers");
    }
    Ok(ExitCode::SUCCESS)
}

/// The same where something has changed that a service reads at its start. What somebody else must do is said.
pub(crate) fn renew(locations: &Locations, address: SocketAddr) -> Result<Option<String>, CliError> {
    match running(locations, address) {
        Some(before) if before.kind == "service" => replaced(locations, address, &before).map(|_| None),
        Some(before) => {
            Ok(Some(format!("process {} was started by `hotspare serve`: it knows of your proxy when it is started anew", before.pid)))
        }
        None => Ok(None),
    }
}

/// Has this process hand its port over to a new one; the new one's number.
fn replaced(locations: &Locations, address: SocketAddr, before: &Instance) -> Result<i32, CliError> {
    let pid = Pid::from_raw(before.pid).filter(|_| before.kind == "service").ok_or_else(|| {
        CliError::new(Exit::Failed, format!("process {} was started by `hotspare serve`", before.pid)).hint("end it there, with Ctrl-C")
    })?;
    kill_process(pid, Signal::USR2).map_err(io::Error::from)?;
    let deadline = Instant::now() + START_TIME;
    loop {
        let instances = state::instances(&locations.state_dir);
        let is_there = |pid: i32| instances.iter().any(|instance| instance.pid == pid && instance.address == address);
        let next =
            instances.iter().find(|instance| instance.pid != before.pid && instance.address == address && instance.kind == "service");
        // The old one leaves the list when it takes no more connections.
        if let Some(next) = next.filter(|_| !is_there(before.pid)) {
            return Ok(next.pid);
        }
        if Instant::now() > deadline {
            return Err(CliError::new(Exit::Failed, format!("no new process took over; process {} goes on", before.pid))
                .hint(format!("its log: {}", log_file(locations).display())));
        }
        commands::rest(LOOK_EVERY);
    }
}

fn status(locations: &Locations, address: SocketAddr, json: bool) -> Result<ExitCode, CliError> {
    let listener = probe(&locations.state_dir, address, LISTENER_TIME)?;
    let status = ServiceStatus {
        version: VERSION,
        running: listener == Listener::Ours,
        address: format!("http://{address}"),
        pid: running(locations, address).map(|instance| instance.pid),
        supervisor: supervisor(locations, address).map(|pid| pid.as_raw_nonzero().get()),
        manager: Manager::find(),
        installed: is_installed(locations),
        port_taken: listener == Listener::Stranger,
    };
    if json {
        output::data(&serde_json::to_string(&status).map_err(io::Error::from)?)?;
    } else {
        let kept = if status.installed { format!(", kept by {}", status.manager.words()) } else { String::new() };
        let pid = status.pid.map(|pid| format!(" as process {pid}")).unwrap_or_default();
        match listener {
            Listener::Ours => output::data(&format!("hotspare runs on http://{address}{pid}{kept}"))?,
            Listener::Stranger => output::data(&format!("hotspare does not run: another program listens on {address}"))?,
            Listener::Nobody => output::data(&format!("hotspare does not run{kept}; start it: `hotspare service start`"))?,
        }
    }
    Ok(if status.running { ExitCode::SUCCESS } else { ExitCode::from(Exit::NotRunning as u8) })
}

/// The files of this machine's manager, with what they hold; none where nobody runs services.
fn unit_files(locations: &Locations, program: &str, address: SocketAddr) -> Vec<(PathBuf, String)> {
    let log = log_file(locations);
    let service = units::Service { program, address, log: &log };
    match Manager::find() {
        Manager::Systemd => {
            let folder = units::systemd_folder(&config_home(locations));
            let file = |ending: &str| folder.join(format!("{}.{ending}", units::UNIT));
            vec![(file("socket"), units::systemd_socket(&service)), (file("service"), units::systemd_service(&service))]
        }
        Manager::Launchd => {
            let file = locations.home.join("Library/LaunchAgents").join(format!("{}.plist", units::LABEL));
            vec![(file, units::launchd(&service))]
        }
        Manager::Background => Vec::new(),
    }
}

fn config_home(locations: &Locations) -> PathBuf {
    let named = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.unwrap_or_else(|| locations.home.join(".config"))
}

/// Whether the receipt knows files of the service.
pub(crate) fn is_installed(locations: &Locations) -> bool {
    wiring::receipt::look(&locations.state_dir)
        .is_ok_and(|receipt| receipt.paths().any(|path| receipt.wired(&path).parts().any(|part| part == Part::Service)))
}

/// Whether a service should run: its files are installed, or Claude Code's settings point at one.
pub(crate) fn is_expected(locations: &Locations) -> bool {
    let is_wired = || wiring::receipt::look(&locations.state_dir).is_ok_and(|receipt| wiring::led(&receipt, locations).is_some());
    is_installed(locations) || is_wired()
}

/// Writes the manager's files. A file of that name that is not ours stays, and nothing is installed.
pub(crate) fn write_units(
    receipt: &mut wiring::receipt::Open,
    locations: &Locations,
    address: SocketAddr,
    mode: Mode,
) -> Result<Vec<Outcome>, CliError> {
    if mode == Mode::Write {
        // All of them can be written, or none is.
        write_units(receipt, locations, address, Mode::DryRun)?;
    }
    let program = wiring::program()?;
    let mut outcomes = Vec::new();
    for (path, text) in unit_files(locations, &program, address) {
        let plan = |base: &str, _: &[_]| {
            if !base.is_empty() {
                return Err(CliError::from(WiringError::Foreign(path.clone())));
            }
            Ok(vec![Change { part: Part::Service, place: Place::Whole, value: text.clone() }])
        };
        outcomes.push(wiring::rewire(receipt, &path, mode, plan)?);
    }
    Ok(outcomes)
}

/// Has the manager take note of its files and start the service; or starts it by itself.
pub(crate) fn enable(locations: &Locations, address: SocketAddr) -> Result<Started, CliError> {
    let manager = Manager::find();
    match manager {
        Manager::Systemd => {
            if systemd_port().is_some_and(|port| port != address.to_string()) {
                // The socket keeps its old address until it is stopped, and with it the service. Answers in flight end first.
                ordered("systemctl", &["--user", "stop", "hotspare.socket", "hotspare.service"])?;
            }
            if running(locations, address).is_some_and(|instance| instance.kind == "service") {
                // Whoever has the port must let go before systemd can have it.
                stop_background(locations, address)?;
            }
            ordered("systemctl", &["--user", "daemon-reload"])?;
            ordered("systemctl", &["--user", "enable", "--now", "hotspare.socket"])?;
            ordered("systemctl", &["--user", "enable", "hotspare.service"])?;
        }
        Manager::Launchd => {
            stop_background(locations, address)?;
            let file = locations.home.join("Library/LaunchAgents").join(format!("{}.plist", units::LABEL));
            let _ = ordered("launchctl", &["bootout", &launchd_target()]);
            ordered("launchctl", &["bootstrap", &launchd_domain(), &file.display().to_string()])?;
        }
        Manager::Background => {}
    }
    let started = start(locations, address, Instant::now() + START_TIME)?;
    // Asking a port of systemd's is what starts it.
    Ok(if started == Started::Already && manager != Manager::Background { Started::Now(manager) } else { started })
}

/// Ends a service that runs by itself, so that the manager's can have the port. One that systemd keeps is not touched.
fn stop_background(locations: &Locations, address: SocketAddr) -> Result<(), CliError> {
    let instance = running(locations, address).filter(|instance| instance.kind == "service");
    let Some(pid) = instance.and_then(|instance| Pid::from_raw(instance.pid)) else { return Ok(()) };
    let pid = supervisor(locations, address).unwrap_or(pid);
    let is_kept = ordered("systemctl", &["--user", "show", "--property=MainPID", "--value", "hotspare.service"])
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == pid.as_raw_nonzero().to_string());
    if is_kept {
        return Ok(());
    }
    let _ = kill_process(pid, Signal::TERM);
    // It lets the port go at once, and ends with its last answer.
    let deadline = Instant::now() + START_TIME;
    while probe(&locations.state_dir, address, LISTENER_TIME)? != Listener::Nobody && Instant::now() < deadline {
        commands::rest(LOOK_EVERY);
    }
    Ok(())
}

/// Has the manager forget the service. The files are still there, so that it knows which.
pub(crate) fn disable(locations: &Locations, address: SocketAddr) -> Result<bool, CliError> {
    if is_installed(locations) && Manager::find() == Manager::Systemd {
        ordered("systemctl", &["--user", "disable", "hotspare.socket", "hotspare.service"])?;
    }
    stop(locations, address)
}

/// After its files are gone.
pub(crate) fn forget() {
    if Manager::find() == Manager::Systemd {
        // What it knows of files that are gone harms nobody.
        let _ = ordered("systemctl", &["--user", "daemon-reload"]);
    }
}

/// Beside what the receipt knows: files of the manager that are there although they should not be.
pub(crate) fn leftovers(locations: &Locations) -> Vec<PathBuf> {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let files = unit_files(locations, "", address).into_iter().map(|(path, _)| path);
    files.filter(|path| Path::new(path).exists()).collect()
}
