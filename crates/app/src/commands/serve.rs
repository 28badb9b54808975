//! `hotspare serve`: the proxy in the foreground. Never starts unless it can serve whole.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use hotspare_config::Folders;
use hotspare_gateway::{Gateway, Options, Outside, ServeError};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::cli::Serve;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::notices::{Screen, Shower};
use crate::{output, state};

/// Runs `hotspare serve`.
pub(crate) fn serve(arguments: &Serve) -> Result<ExitCode, CliError> {
    commands::logging("info");
    let locations = commands::locations(arguments.layers.config.clone())?;
    let context = commands::context(&arguments.layers)?;
    let config = commands::load(&locations, &context)?;
    let address = arguments.listen.unwrap_or(config.server.listen);
    commands::runtime()?.block_on(async {
        commands::check_credentials(&config).await?;
        let refused = |error: ServeError| CliError::new(Exit::Failed, error.to_string());
        // Before the port is open, and again with the port that was given: nothing is made for what cannot be served.
        Gateway::check(&config, address).map_err(refused)?;
        let listener = bind(address).await?;
        Gateway::check(&config, listener.local_addr()?).map_err(refused)?;
        let token = state::lasting_token(&locations.state_dir)?;
        let store = commands::store(&locations, &config);
        let options = Options {
            token: token.clone(),
            extra_roots: commands::extra_roots(),
            observer: None,
            outside: Outside::default(),
            store: Some(store),
        };
        let gateway = Gateway::new(&config, &listener, options).map_err(refused)?;
        let _registration = state::register(&locations.state_dir, "serve", gateway.local(), &token)?;
        output::talk(&format!("hotspare {} listening on http://{}", env!("CARGO_PKG_VERSION"), gateway.local()));
        output::talk(&format!("  chain  {}", commands::chain_line(&config)));
        output::talk(&format!(
            "  client ANTHROPIC_BASE_URL=http://{} ANTHROPIC_CUSTOM_HEADERS=\"x-hotspare-token: $(cat {})\"",
            gateway.local(),
            locations.state_dir.join("token").display()
        ));
        gateway.bind_folders(Folders::new(locations.clone(), context.clone()));
        let reload = commands::reload(gateway.clone(), &locations, &context, |_| Ok(()));
        let watching = tokio::spawn(reload.watch(hangups()?));
        let shower = Shower::start(gateway.clone(), Screen::Ours);
        hotspare_gateway::serve(gateway, listener, stop_signal()?).await;
        shower.end();
        watching.abort();
        Ok(ExitCode::SUCCESS)
    })
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

/// Ends on SIGINT or SIGTERM.
fn stop_signal() -> Result<impl Future<Output = ()>, CliError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        // Cancel-safe: a signal that was not received stays pending.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
