//! Finds the gateway that a drill is tried on, or starts one for it that ends with it. Never starts one for a live drill: nobody's requests
//! would come there.

use std::sync::Arc;
use std::time::Duration;

use hotspare_config::Locations;
use hotspare_gateway::{Gateway, Options, Outside};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cli::Layers;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::state::{self, Instance, Registration};

/// A drill has its answers by then: whatever is still under way may go.
const DRAIN: Duration = Duration::from_secs(5);

/// A gateway, and what keeps it alive when it is our own.
pub(super) struct Ground {
    pub instance: Instance,
    own: Option<Own>,
}

struct Own {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _registration: Registration,
}

impl Ground {
    /// The service where one runs, else the youngest of the others, else one for this alone.
    pub(super) async fn find(locations: &Locations, live: bool) -> Result<Self, CliError> {
        let mut running = state::instances(&locations.state_dir);
        running.sort_by_key(|instance| (instance.serves_all(), instance.pid));
        match running.pop() {
            Some(instance) => Ok(Self { instance, own: None }),
            None if live => Err(CliError::new(Exit::NotRunning, "nothing is running: no real request could meet the fault")
                .hint("without `--live` a gateway is started for the drill")),
            None => Self::start(locations).await,
        }
    }

    async fn start(locations: &Locations) -> Result<Self, CliError> {
        let config = commands::load(locations, &commands::context(&Layers::default())?)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let token = state::new_token()?;
        let options = Options {
            token: token.clone(),
            extra_roots: None,
            observer: None,
            outside: Outside::default().with_network(Arc::new(commands::connector_here())).with_renewals(commands::renewals_here()),
            store: Some(commands::store(locations, &config)),
        };
        let gateway = Gateway::new(&config, &listener, options).map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
        let registration = state::register(&locations.state_dir, "drill", gateway.local(), &token)?;
        let instance = registration.instance().clone();
        let (stop, stopped) = oneshot::channel();
        // Ended and awaited by `leave`; dropped with the runtime at the latest.
        let serving = tokio::spawn(hotspare_gateway::serve(gateway, listener, async move {
            let _ = stopped.await;
            DRAIN
        }));
        Ok(Self { instance, own: Some(Own { stop, serving, _registration: registration }) })
    }

    /// Ends what was started for the drill.
    pub(super) async fn leave(self) {
        if let Some(own) = self.own {
            let _ = own.stop.send(());
            let _ = own.serving.await;
        }
    }
}
