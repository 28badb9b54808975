//! `hotspare serve`: the proxy in the foreground, and what the user service runs. In the foreground it never starts unless it can serve
//! whole. As a service it never stands in the way: with a configuration that cannot be read it passes everything on to where the client
//! would go without us, until the configuration is mended.

mod supervisor;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotspare_config::{BaseUrl, Children, Config, Folders, Locations, Mode};
use hotspare_gateway::{Gateway, Options, Outside, ServeError, Terminator};
use hotspare_upstream::{ClaudeClient, Renewals};
use listenfd::ListenFd;
use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::authority;
use crate::claude::UserSetup;
use crate::cli::Serve;
use crate::commands;
use crate::commands::service::notify;
use crate::error::{CliError, Exit};
use crate::notices::{Screen, Shower};
use crate::verdict;
use crate::wiring;
use crate::wiring::outward::Outward;
use crate::{output, state};

/// In the foreground, answers in flight have so long to end: whoever pressed Ctrl-C waits for it.
const FOREGROUND_DRAIN: Duration = Duration::from_secs(5);

/// A service that is stopped gives answers in flight so long: less than the 360 s that the client waits for the next process, which under
/// systemd begins only then.
pub(crate) const SERVICE_DRAIN: Duration = Duration::from_secs(120);

/// A service that has handed its port over harms nobody by staying: so long may the longest answer take.
const HANDED_OVER_DRAIN: Duration = Duration::from_secs(600);

/// Longest that the next process may take until it is ready.
const HANDOVER_TIME: Duration = Duration::from_secs(10);

/// What the next process says when it is ready.
const READY: &[u8] = b"ready\n";

/// What a worker says to its supervisor when it takes no more connections.
const ENDING: &[u8] = b"ending\n";

/// A service whose clients have been pointed to another port stays for those that have not followed yet: until it was unused for so long.
/// Claude Code reads its settings again a second after they change, and never during an answer (measured, 2.1.330).
pub(crate) const RETIRE_IDLE: Duration = Duration::from_secs(60);

/// Longest that it stays.
pub(crate) const RETIRE_TIME: Duration = Duration::from_secs(15 * 60);

/// How often it looks whether it is used.
const RETIRE_INTERVAL: Duration = Duration::from_secs(1);

/// Runs `hotspare serve`.
pub(crate) fn serve(arguments: &Serve) -> Result<ExitCode, CliError> {
    commands::logging(if arguments.service { "warn" } else { "info" });
    if arguments.service && !arguments.worker {
        // Apart from the terminal that it was started in; where systemd started it, it is that already.
        let _ = rustix::process::setsid();
    }
    if arguments.supervised {
        return supervisor::supervise(arguments);
    }
    let locations = commands::locations(arguments.layers.config.clone())?;
    let user = UserSetup::of_environment(std::env::vars_os().collect(), &locations.claude_settings);
    let client = match commands::client_base_url(&user, &locations) {
        Err(fault) if !arguments.service => return Err(fault),
        client => client.unwrap_or_default(),
    };
    let context = commands::context_for(&arguments.layers, client)?;
    let seen = commands::fingerprint(&locations, &context);
    let (config, fault) = match commands::load(&locations, &context) {
        Ok(config) => (config, None),
        Err(fault) if arguments.service => (pass_through(&locations)?, Some(fault)),
        Err(fault) => return Err(fault),
    };
    commands::allow_connections(config.server.max_connections);
    let address = arguments.listen.unwrap_or(config.server.listen);
    commands::runtime()?.block_on(async {
        let outward = commands::outward(&locations);
        let renewals = Renewals::by(claude_client(&outward, &locations.state_dir));
        if let Err(missing) = commands::check_credentials(&config, &renewals).await {
            if !arguments.service {
                return Err(missing);
            }
            output::talk(&missing.to_string());
        }
        let refused = |error: ServeError| CliError::new(Exit::Failed, error.to_string());
        // Before the port is open, and again with the port that was given: nothing is made for what cannot be served.
        Gateway::check(&config, address).map_err(refused)?;
        let listener = listener(arguments, address).await?;
        Gateway::check(&config, listener.local_addr()?).map_err(refused)?;
        let state_dir = state::writable_dir(&locations.state_dir)?;
        if state_dir != locations.state_dir {
            output::talk(&format!(
                "hotspare: `{}` cannot be written: what is learned and the ledger stay in memory, the token is in `{}`",
                locations.state_dir.display(),
                state_dir.display()
            ));
        }
        let token = state::lasting_token(&state_dir)?;
        let store = commands::store(&locations, &config);
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
        let gateway = Gateway::new(&config, &listener, options).map_err(refused)?;
        let registration = registered(arguments, &locations, &gateway, &token)?;
        announce(&gateway, &config, fault.as_ref(), &state_dir, arguments.service || verdict::leads_here(&locations, gateway.local()));
        offer_full_mode(&gateway, config.server.mode, &state_dir)?;
        if config.server.children == Children::Direct {
            let locations = locations.clone();
            gateway.send_children_directly(Box::new(move || own_base_url(&locations)));
        }
        gateway.bind_folders(Folders::new(locations.clone(), context.clone()));
        let reload = commands::reload(gateway.clone(), &locations, &context).since(seen);
        if fault.is_some() {
            // It fails as it just has; `status` then says why.
            reload.now().await;
        }
        let watching = tokio::spawn(reload.watch(hangups()?));
        let shower = Shower::start(gateway.clone(), Screen::Ours);
        let end = End {
            listener: listener.as_fd().try_clone_to_owned()?,
            registration,
            gateway: gateway.clone(),
            is_service: arguments.service,
            is_worker: arguments.worker,
        };
        let stopped = stopped(end)?;
        if arguments.take_over {
            // Whoever hands over tells systemd: it believes the process that it knows.
            io::stdout().write_all(READY).and_then(|()| io::stdout().flush())?;
        } else {
            notify::ready();
        }
        hotspare_gateway::serve(gateway, listener, stopped).await;
        shower.end();
        watching.abort();
        Ok(ExitCode::SUCCESS)
    })
}

/// The Claude Code that renews logins: a service has not the search path that the user had at `install`.
fn claude_client(outward: &Outward, state_dir: &Path) -> ClaudeClient {
    let client = commands::claude_client(outward);
    match state::kept_client(state_dir) {
        Some(program) => client.or_at(program),
        None => client,
    }
}

/// Enters this process among those that `hotspare status` asks. A full disk shall not stop the service.
fn registered(
    arguments: &Serve,
    locations: &Locations,
    gateway: &Gateway,
    token: &SecretString,
) -> Result<Option<state::Registration>, CliError> {
    let kind = if arguments.service { "service" } else { "serve" };
    match state::register(&locations.state_dir, kind, gateway.local(), token) {
        Ok(registration) => Ok(Some(registration)),
        Err(error) if arguments.service => {
            output::talk(&format!("hotspare: `hotspare status` will not see this service: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says where it listens, whom it asks, and how a client comes to it.
fn announce(gateway: &Gateway, config: &Config, fault: Option<&CliError>, state_dir: &Path, is_pointed: bool) {
    output::talk(&format!("hotspare {} listening on http://{}", env!("CARGO_PKG_VERSION"), gateway.local()));
    match fault {
        None => output::talk(&format!("  chain  {}", commands::chain_line(config))),
        Some(fault) => {
            output::talk(&format!("{fault}\n  everything is passed on to {} until that is mended", config.profiles[0].base_url));
        }
    }
    if config.implicit && !config.profiles[0].base_url.is_anthropic() {
        output::talk(&format!("  to     {}, the client's own base URL", config.profiles[0].base_url));
    }
    output::talk(&format!(
        "  client ANTHROPIC_BASE_URL=http://{} ANTHROPIC_CUSTOM_HEADERS=\"x-hotspare-token: $(cat {})\"",
        gateway.local(),
        state_dir.join("token").display()
    ));
    if !is_pointed {
        output::talk(&format!("  next   no client goes here yet: {}", verdict::POINT_A_CLIENT));
    }
}

/// What serves while nothing can be read: the client's own login, to where the client would go without us.
fn pass_through(locations: &Locations) -> Result<Config, CliError> {
    let mut config = hotspare_config::parse("{}", &locations.config_file, &locations.home).map_err(|errors| commands::invalid(&errors))?;
    if let (Some(profile), Some(url)) = (config.profiles.first_mut(), own_base_url(locations)) {
        profile.base_url = url;
    }
    Ok(config)
}

/// The base URL that Claude Code's settings had before ours; `None` if they had none.
fn own_base_url(locations: &Locations) -> Option<BaseUrl> {
    let receipt = wiring::receipt::look(&locations.state_dir).ok()?;
    BaseUrl::parse(&wiring::prior_base_url(&receipt, locations)?).ok()
}

/// The socket that somebody else has opened for us, or one of our own.
async fn listener(arguments: &Serve, address: SocketAddr) -> Result<TcpListener, CliError> {
    let given = if arguments.take_over {
        Some(std::net::TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?))
    } else if arguments.service {
        ListenFd::from_env().take_tcp_listener(0)?
    } else {
        None
    };
    let Some(given) = given else { return bind(address).await };
    given.set_nonblocking(true)?;
    Ok(TcpListener::from_std(given)?)
}

/// The port is an HTTPS proxy too, unless the configuration says otherwise. The authority is made when it is first needed.
fn offer_full_mode(gateway: &Gateway, mode: Mode, state_dir: &Path) -> Result<(), CliError> {
    if mode == Mode::Base {
        return Ok(());
    }
    if mode == Mode::Full {
        authority::lasting(state_dir)?;
        output::talk(&format!(
            "  full   HTTPS_PROXY=\"http://hotspare:$(cat {})@{}\" NODE_EXTRA_CA_CERTS={}",
            state_dir.join("token").display(),
            gateway.local(),
            authority::certificate_file(state_dir).display()
        ));
    }
    let state_dir = state_dir.to_owned();
    gateway.offer_full_mode(Terminator::new(Box::new(move || {
        authority::lasting(&state_dir).map(|lasting| Arc::new(lasting.signs)).map_err(|error| error.to_string())
    })));
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).await.map_err(|error| {
        let told = CliError::new(Exit::Failed, format!("cannot listen on {address}: {error}"));
        if error.kind() == io::ErrorKind::AddrInUse {
            told.hint("`hotspare status` shows whether it is ours").hint("another port: `hotspare serve --listen 127.0.0.1:0`")
        } else {
            told
        }
    })
}

/// A notice for each SIGHUP, which asks a service to read its configuration anew.
fn hangups() -> Result<Arc<Notify>, CliError> {
    let mut hangup = signal(SignalKind::hangup())?;
    let asked = Arc::new(Notify::new());
    let notice = asked.clone();
    // Ends with the process.
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notice.notify_one();
        }
    });
    Ok(asked)
}

/// What a process lets go of as soon as it takes no more connections.
struct End {
    /// The socket, to hand it over: it outlives whoever opened it.
    listener: OwnedFd,
    registration: Option<state::Registration>,
    /// What it serves.
    gateway: Arc<Gateway>,
    is_service: bool,
    /// Whether a supervisor reads its standard output.
    is_worker: bool,
}

/// Waits until a gateway has not been used for [`RETIRE_IDLE`], for [`RETIRE_TIME`] at most.
async fn unused(gateway: Arc<Gateway>) {
    let begun = Instant::now();
    let (mut served, mut used) = (gateway.status().exchanges, begun);
    while used.elapsed() < RETIRE_IDLE && begun.elapsed() < RETIRE_TIME {
        tokio::time::sleep(RETIRE_INTERVAL).await;
        let status = gateway.status();
        if status.in_flight > 0 || status.exchanges != served {
            (served, used) = (status.exchanges, Instant::now());
        }
    }
}

/// Ends on SIGINT or SIGTERM, on SIGUSR2 when the next process has taken the port over, or after SIGUSR1 when it is unused; says how long
/// answers may take to end.
fn stopped(end: End) -> Result<impl Future<Output = Duration>, CliError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut handover = signal(SignalKind::user_defined2())?;
    let mut retire = signal(SignalKind::user_defined1())?;
    // Before an upgrade puts another file there: the path is then the new program's.
    let program = wiring::program()?;
    Ok(async move {
        let mut retired: Pin<Box<dyn Future<Output = ()>>> = Box::pin(std::future::pending());
        let drain = loop {
            // Cancel-safe: a signal that was not received stays pending.
            tokio::select! {
                _ = interrupt.recv() => break FOREGROUND_DRAIN,
                _ = terminate.recv() => break if end.is_service { SERVICE_DRAIN } else { FOREGROUND_DRAIN },
                _ = retire.recv(), if end.is_service => retired = Box::pin(unused(end.gateway.clone())),
                () = &mut retired => break SERVICE_DRAIN,
                _ = handover.recv(), if end.is_service => match hand_over(&program, &end.listener).await {
                    Ok(()) => break HANDED_OVER_DRAIN,
                    Err(error) => output::talk(&format!("hotspare: the next process did not take over, this one goes on: {error}")),
                },
            }
        };
        drop(end.registration);
        drop(end.listener);
        if end.is_worker {
            // A supervisor that is gone needs no report.
            let _ = io::stdout().write_all(ENDING).and_then(|()| io::stdout().flush());
        }
        drain
    })
}

/// Starts the program again with our socket, and waits until it is ready. Both may take connections for a moment; nobody is refused.
async fn hand_over(program: &str, listener: &OwnedFd) -> io::Result<()> {
    let own = std::env::args_os().skip(1).filter(|argument| argument != "--take-over");
    // A worker hands over to a supervisor of the next version, with a worker of its own.
    let own = own.map(|argument| if argument == "--worker" { "--supervised".into() } else { argument });
    let mut next = Command::new(program)
        .args(own)
        .arg("--take-over")
        .stdin(Stdio::from(listener.try_clone()?))
        .stdout(Stdio::piped())
        .kill_on_drop(false)
        .spawn()?;
    let mut said = [0; READY.len()];
    let stdout = next.stdout.as_mut().ok_or_else(|| io::Error::other("it has no output"))?;
    let ready = tokio::time::timeout(HANDOVER_TIME, stdout.read_exact(&mut said)).await;
    if ready.is_ok_and(|read| read.is_ok()) && said == READY {
        if let Some(pid) = next.id() {
            notify::handed_over_to(pid);
        }
        return Ok(());
    }
    let _ = next.kill().await;
    Err(io::Error::other("it did not start"))
}
