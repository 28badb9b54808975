//! Holds what one running proxy knows, and hands each request to its room. Never listens beyond this machine, and never lets one panic harm
//! another request.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use hotspare_config::{BaseUrl, Config, Folders, Hook, HookCall};
use hotspare_core::{Endpoint, ExchangeRecord, ProfileId, World};
use hotspare_store::Store;
use hotspare_upstream::connect::{Connector, Network};
use hotspare_upstream::{Renewals, Upstreams, clock};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;

use crate::admission::{self, Room};
use crate::answer;
use crate::body::ClientBody;
use crate::bound::Bound;
use crate::challenge;
use crate::coding::Coding;
use crate::control;
use crate::credential_files::CredentialFiles;
use crate::drill::{Armed, Lane, Way};
use crate::forward::{self, ClientRequest, Kept};
use crate::headers;
use crate::history::Histories;
use crate::hooks::Hooks;
use crate::identity::Identities;
use crate::in_flight::Waiting;
use crate::intercept::{self, Terminator};
use crate::lasting::Kept as Remembered;
use crate::metrics::{self, Metrics};
use crate::notices::Notices;
use crate::outlook::Clients;
use crate::outside::Outside;
use crate::peer::Peer;
use crate::recent::{Glance, Recent};
use crate::record::{Event, Observer};
use crate::replay::{Replay, RequestBody};
use crate::snapshot::Snapshot;
use crate::status::{ConfigState, ConfigStatus};

/// Old sessions and requests are forgotten at most this often.
const FORGET_EVERY: Duration = Duration::from_secs(30);

/// What a gateway needs besides its configuration.
pub struct Options {
    /// The local token that every request must carry.
    pub token: SecretString,
    /// A PEM file of further certificate authorities.
    pub extra_roots: Option<PathBuf>,
    /// Is told what happens.
    pub observer: Option<Arc<dyn Observer>>,
    /// The wall clock, chance and the network; tests give their own.
    pub outside: Outside,
    /// Where exchanges are remembered; none: nowhere.
    pub store: Option<Store>,
}

/// Most refusals that are remembered.
const MOST_REFUSALS: usize = 16;

#[derive(Default)]
struct Counts {
    /// Shared with drills, so that no two exchanges have one id.
    next_id: Arc<AtomicU64>,
    exchanges: AtomicU64,
    failovers: AtomicU64,
    /// Requests whose session's folder was not known where that mattered, and those of them that no profile might answer.
    unknown_folder: AtomicU64,
    refused_folder: AtomicU64,
    in_flight: Arc<AtomicU64>,
}

#[derive(Default)]
struct Last {
    served_by: Option<Serving>,
    /// The model that a client asked for last.
    model: Option<String>,
    failover: Option<(Instant, Arc<ExchangeRecord>)>,
}

/// Who served last.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub name: String,
    /// Since when nobody else did.
    pub since: Instant,
    /// A model that a client asked for since then, and the other one that this profile was asked for in its place.
    pub other: Option<(String, String)>,
    /// It has not served yet: it is tried first as long as this switch holds.
    pub by_switch: Option<ProfileId>,
}

impl Last {
    fn served(&mut self, now: Instant, name: &str, record: &ExchangeRecord) {
        let is_new = self.served_by.as_ref().is_none_or(|last| last.name != name);
        if is_new {
            self.served_by = Some(Serving { name: name.to_owned(), since: now, other: None, by_switch: None });
        }
        if let Some(last) = &mut self.served_by {
            last.by_switch = None;
        }
        let (Some(last), Some(asked)) = (&mut self.served_by, &record.model) else { return };
        match record.other_model(name) {
            Some(sent) => last.other = Some((asked.clone(), sent.to_owned())),
            // A side request with a model of its own says nothing of the conversation's.
            None if last.other.as_ref().is_some_and(|(other, _)| other == asked) => last.other = None,
            None => {}
        }
    }
}

/// A refusal that is the client's to see, by profile and login.
type Refusal = ((ProfileId, Option<u64>), Kept);

/// The base URL that a program inside a session would use without us, asked for each request; `None` if it is the provider's own.
pub type DirectOrigin = Box<dyn Fn() -> Option<BaseUrl> + Send + Sync>;

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// It was sent to our own address.
    Port,
    /// It was sent to the host that we terminate, through a tunnel.
    Tunnel,
}

/// One running proxy.
pub struct Gateway {
    snapshot: RwLock<Arc<Snapshot>>,
    identities: Identities,
    config: Mutex<ConfigState>,
    bound: OnceLock<Bound>,
    network: Arc<dyn Network>,
    /// Where we are a proxy of clients too (full mode): what ends their TLS.
    terminator: OnceLock<Terminator>,
    /// Where requests of programs inside a session go past the chain; not set: they are requests like any other.
    direct: OnceLock<DirectOrigin>,
    upstreams: Upstreams<RequestBody>,
    world: Mutex<World>,
    /// The last refusal of each blocked profile that passes a client's own login on, by profile and login.
    refusals: Mutex<Vec<Refusal>>,
    forgot: Mutex<Instant>,
    token: SecretString,
    observer: Option<Arc<dyn Observer>>,
    outside: Outside,
    histories: Arc<Histories>,
    hooks: Arc<Hooks>,
    store: Option<Store>,
    /// What the store has of what was learned.
    pub(crate) kept: Mutex<Remembered>,
    recent: Mutex<Recent>,
    /// Which requests clients sent, and how they fared.
    pub(crate) clients: Mutex<Clients>,
    metrics: Metrics,
    pub(crate) notices: Notices,
    /// Requests that have no answer yet.
    pub(crate) waiting: Waiting,
    kept_bodies: Arc<AtomicUsize>,
    counts: Counts,
    last: Mutex<Last>,
    /// The last client that sent a credential of its own sent the login of a plan.
    client_on_plan: AtomicBool,
    /// The drill that runs.
    pub(crate) drill: Mutex<Option<Armed>>,
    /// This is a drill's shadow of another gateway.
    pub(crate) lane: Option<Lane>,
    local: SocketAddr,
    pub(crate) max_connections: usize,
    started: Instant,
    /// When the logins of spares were last looked at, to renew them ahead of need.
    pub(crate) looked_at_logins: Mutex<Option<Instant>>,
    credential_files: Mutex<CredentialFiles>,
}

/// Counts an exchange as long as it lives.
pub(crate) struct InFlight(Arc<AtomicU64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One world with the money of another, until it is dropped.
struct Borrowed<'a> {
    world: &'a mut World,
    lender: &'a mut World,
}

impl<'a> Borrowed<'a> {
    fn spending(world: &'a mut World, lender: &'a mut World) -> Self {
        std::mem::swap(&mut world.spending, &mut lender.spending);
        Self { world, lender }
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        std::mem::swap(&mut self.world.spending, &mut self.lender.spending);
    }
}

/// Why a gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not on this machine alone.
    #[error("`{0}` is not a loopback address: the local port is never open to others")]
    NotLoopback(SocketAddr),
    /// A profile leads back to this very port (security.md T25).
    #[error("profile `{0}` has this proxy's own address as its `base_url`: requests would go in circles")]
    SelfLoop(Arc<str>),
    /// A hook leads back to this very port.
    #[error("a hook of `{0}` has this proxy's own address as its `url`: it would tell itself")]
    HookLoop(&'static str),
    /// The socket cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Gateway {
    /// A gateway that will serve on `listener`'s address.
    pub fn new(config: &Config, listener: &TcpListener, options: Options) -> Result<Arc<Self>, ServeError> {
        Self::at(config, listener.local_addr()?, options)
    }

    /// Whether this configuration may be served at `local`: what is known before anything is made.
    pub fn check(config: &Config, local: SocketAddr) -> Result<(), ServeError> {
        if !local.ip().is_loopback() {
            return Err(ServeError::NotLoopback(local));
        }
        leads_elsewhere(config, local)
    }

    /// A gateway that will be reached at `local`, whoever brings it its connections.
    pub fn at(config: &Config, local: SocketAddr, options: Options) -> Result<Arc<Self>, ServeError> {
        Self::check(config, local)?;
        let identities = Identities::default();
        let snapshot = snapshot_at(config, local, &identities, options.outside.renewals())?;
        let network = options.outside.network().unwrap_or_else(|| Arc::new(Connector::new(options.extra_roots).without_proxy_at(local)));
        let config_state = ConfigState::new(config, options.outside.wall());
        let gateway = Arc::new(Self {
            snapshot: RwLock::new(snapshot),
            identities,
            bound: OnceLock::new(),
            terminator: OnceLock::new(),
            direct: OnceLock::new(),
            config: Mutex::new(config_state),
            hooks: Hooks::new(network.clone()),
            upstreams: Upstreams::new(network.clone()),
            network,
            world: Mutex::default(),
            refusals: Mutex::default(),
            forgot: Mutex::new(clock::now()),
            token: options.token,
            observer: options.observer,
            outside: options.outside,
            histories: Arc::default(),
            store: options.store,
            kept: Mutex::default(),
            recent: Mutex::default(),
            clients: Mutex::default(),
            metrics: Metrics::default(),
            notices: Notices::default(),
            waiting: Waiting::default(),
            kept_bodies: Arc::default(),
            counts: Counts::default(),
            last: Mutex::default(),
            client_on_plan: AtomicBool::default(),
            drill: Mutex::default(),
            lane: None,
            local,
            max_connections: config.server.max_connections,
            started: clock::now(),
            looked_at_logins: Mutex::default(),
            credential_files: Mutex::default(),
        });
        gateway.recall();
        Ok(gateway)
    }

    /// A drill's shadow of a gateway: it serves by the same configuration and tells the same watchers, but has a world and connections of its
    /// own, and keeps nothing that it learns.
    pub(crate) fn shadow(base: &Arc<Self>, lane: Lane, world: World, network: Arc<dyn Network>) -> Arc<Self> {
        let real = lane.is_live();
        let counts = Counts { next_id: base.counts.next_id.clone(), in_flight: base.counts.in_flight.clone(), ..Counts::default() };
        Arc::new(Self {
            snapshot: RwLock::new(base.snapshot()),
            identities: Identities::default(),
            bound: OnceLock::new(),
            terminator: OnceLock::new(),
            direct: OnceLock::new(),
            config: Mutex::new(base.config.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            upstreams: Upstreams::new(network.clone()),
            network,
            world: Mutex::new(world),
            refusals: Mutex::default(),
            forgot: Mutex::new(clock::now()),
            token: base.token.clone(),
            observer: base.observer.clone(),
            outside: base.outside.clone(),
            // Who minted what in a real conversation must be known when the drill is over.
            histories: if real { base.histories.clone() } else { Arc::default() },
            // A veto holds in a drill too.
            hooks: base.hooks.clone(),
            store: None,
            kept: Mutex::default(),
            recent: Mutex::default(),
            clients: Mutex::default(),
            metrics: Metrics::default(),
            notices: Notices::default(),
            waiting: Waiting::default(),
            kept_bodies: base.kept_bodies.clone(),
            counts,
            last: Mutex::default(),
            client_on_plan: AtomicBool::default(),
            drill: Mutex::default(),
            lane: Some(lane),
            local: base.local,
            max_connections: base.max_connections,
            started: base.started,
            looked_at_logins: Mutex::default(),
            credential_files: Mutex::default(),
        })
    }

    /// Whether this is a drill's.
    pub(crate) fn is_shadow(&self) -> bool {
        self.lane.is_some()
    }

    /// The way to the providers.
    pub(crate) fn network(&self) -> Arc<dyn Network> {
        self.network.clone()
    }

    /// The address served.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// When it started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What the next exchange gets; it keeps it for its whole life.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compiles another configuration for this gateway, without putting it in place. What is known of a profile holds in it too.
    pub fn compile(&self, config: &Config) -> Result<Arc<Snapshot>, ServeError> {
        snapshot_at(config, self.local, &self.identities, self.outside.renewals())
    }

    /// Puts a snapshot in place for every exchange that begins from now on.
    pub fn replace(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        if let Some(bound) = self.bound() {
            bound.folders.look_again();
        }
    }

    /// Lets requests of sessions whose folder is known have that folder's configuration. Only the first call counts.
    pub fn bind_folders(&self, folders: Folders) {
        if self.bound.set(Bound::new(folders)).is_ok() {
            self.recall_sessions();
        }
    }

    /// A request of a session whose folder is not known, where that matters.
    pub(crate) fn count_limited(&self, is_refused: bool) {
        self.counts.unknown_folder.fetch_add(1, Ordering::Relaxed);
        self.counts.refused_folder.fetch_add(u64::from(is_refused), Ordering::Relaxed);
    }

    /// Requests of sessions whose folder was not known, and those of them that were refused.
    pub(crate) fn limited_counts(&self) -> (u64, u64) {
        (self.counts.unknown_folder.load(Ordering::Relaxed), self.counts.refused_folder.load(Ordering::Relaxed))
    }

    /// Lets clients have us as their HTTPS proxy (full mode). Only the first call counts.
    pub fn offer_full_mode(&self, terminator: Terminator) {
        let _ = self.terminator.set(terminator);
    }

    /// Sends what programs inside a session ask past the chain, to where they would go without us, and terminates no TLS of theirs. Only
    /// the first call counts.
    pub fn send_children_directly(&self, origin: DirectOrigin) {
        let _ = self.direct.set(origin);
    }

    /// True if a connection comes from a program inside a session, which goes past the chain.
    pub(crate) async fn is_direct(&self, peer: &Peer) -> bool {
        self.direct.get().is_some() && peer.is_inside_session(self.local).await
    }

    pub(crate) fn terminator(&self) -> Option<&Terminator> {
        self.terminator.get()
    }

    /// The local token.
    pub(crate) fn token(&self) -> &str {
        self.token.expose_secret()
    }

    pub(crate) fn bound(&self) -> Option<&Bound> {
        self.bound.get()
    }

    /// Takes note of a configuration that was read anew: what `replace` put in place, or why nothing was.
    pub(crate) fn note_config(&self, outcome: Result<Config, String>) {
        if let (Some(store), Ok(config)) = (&self.store, &outcome) {
            store.set_retain(config.log.retain);
        }
        self.config.lock().unwrap_or_else(PoisonError::into_inner).note(outcome, self.outside.wall());
    }

    /// What `status` says of the configuration.
    pub(crate) fn config_status(&self) -> ConfigStatus {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).status.clone()
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }

    pub(crate) fn upstreams(&self) -> &Upstreams<RequestBody> {
        &self.upstreams
    }

    pub(crate) fn hooks(&self) -> &Arc<Hooks> {
        &self.hooks
    }

    /// Waits a moment for hooks that are still to be told of something: this is the end.
    pub async fn finish_hooks(&self) {
        self.hooks.finish().await;
    }

    pub(crate) fn histories(&self) -> &Histories {
        &self.histories
    }

    pub(crate) fn credential_files(&self) -> MutexGuard<'_, CredentialFiles> {
        self.credential_files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Short, and never held across a wait.
    pub(crate) fn with_world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        match self.lane.as_ref().filter(|lane| lane.is_live()).and_then(Lane::base) {
            None => act(&mut world),
            // Real money is spent in a live drill: it counts where all of it does. The real world never waits for a shadow's.
            Some(base) => act(Borrowed::spending(&mut world, &mut base.world.lock().unwrap_or_else(PoisonError::into_inner)).world),
        }
    }

    pub(crate) fn next_id(&self) -> u64 {
        // Unique within a start, over restarts and beside other processes: seconds above, then a part of the process, a counter below.
        let count = self.counts.next_id.fetch_add(1, Ordering::Relaxed);
        let since = self.outside.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        (since << 24) | (u64::from(std::process::id() & 0xff) << 16) | (count & 0xffff)
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.watch(event);
        self.tell_hooks_of_budgets(event);
        if let Some(observer) = &self.observer {
            observer.on_event(event);
        }
    }

    /// Takes note of what a client's own credential is.
    pub(crate) fn note_login(&self, on_plan: bool) {
        self.client_on_plan.store(on_plan, Ordering::Relaxed);
    }

    pub(crate) fn client_is_on_plan(&self) -> bool {
        self.client_on_plan.load(Ordering::Relaxed)
    }

    /// Looks whether time has jumped; then kept connections are dead.
    pub(crate) fn look_at_clocks(&self) {
        let (now, wall) = (clock::now(), self.outside.wall());
        if self.with_world(|world| world.look_at_clocks(now, wall)) {
            tracing::info!("the clock jumped: kept connections are closed");
            self.upstreams.close_idle();
        }
    }

    /// Keeps a refusal that is the client's to see for as long as its profile is blocked.
    pub(crate) fn remember_refusal(&self, profile: ProfileId, credential: Option<u64>, kept: &Kept) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.retain(|(key, _)| *key != (profile, credential));
        if refusals.len() == MOST_REFUSALS {
            refusals.remove(0);
        }
        refusals.push(((profile, credential), kept.clone()));
    }

    /// The refusal that was kept for this profile and this login.
    pub(crate) fn remembered_refusal(&self, profile: ProfileId, credential: Option<u64>) -> Option<Kept> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().find(|(key, _)| *key == (profile, credential)).map(|(_, kept)| kept.clone())
    }

    pub(crate) fn over(&self, record: Arc<ExchangeRecord>) {
        if let Some(lane) = &self.lane {
            // A gateway that has ended keeps no books.
            if let Some(base) = lane.base() {
                base.drill_over(record);
            }
            return;
        }
        self.counts.exchanges.fetch_add(1, Ordering::Relaxed);
        let failed = record.attempts.iter().any(|attempt| attempt.class.is_some());
        if record.on_spare {
            self.counts.failovers.fetch_add(1, Ordering::Relaxed);
        }
        if record.endpoint.moves_health() {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(name) = &record.served_by {
                last.served(clock::now(), name, &record);
            }
            last.model.clone_from(&record.model);
            if failed {
                last.failover = Some((clock::now(), record.clone()));
            }
        }
        self.note_results(clock::now(), &record);
        self.metrics.count(&record);
        if let Some(store) = &self.store {
            store.record(record.clone());
        }
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(clock::now(), &record);
        self.keep_learned(failed);
        self.keep_mints();
        self.forget_old();
        let id = record.id;
        self.tell(&Event::Over(record));
        self.look_after_logins(id);
    }

    /// An exchange of a drill is over. It says nothing of any profile's health, and nothing of it lasts; a live one has moved a real request.
    fn drill_over(&self, record: Arc<ExchangeRecord>) {
        self.metrics.count_drill(&record);
        if !record.is_simulated() {
            self.counts.exchanges.fetch_add(1, Ordering::Relaxed);
            self.counts.failovers.fetch_add(u64::from(record.on_spare), Ordering::Relaxed);
            self.metrics.count(&record);
            // The shadow has booked it here, and has no store.
            self.keep_spending();
        }
        if let Some(store) = &self.store {
            store.record(record.clone());
        }
        self.note_drill(&record);
        self.tell(&Event::Over(record));
    }

    fn forget_old(&self) {
        let now = clock::now();
        let mut forgot = self.forgot.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*forgot) >= FORGET_EVERY {
            *forgot = now;
            self.with_world(|world| world.forget_old(now));
        }
    }

    pub(crate) fn serving(&self) -> Option<Serving> {
        let switched = self.with_world(|world| world.switched_to(clock::now()));
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.served_by.clone().filter(|serving| serving.by_switch.is_none_or(|profile| switched == Some(profile)))
    }

    /// Lets `status` name the profile that the next request goes to, as long as the switch holds that leads it there.
    pub(crate) fn set_serving(&self, now: Instant, name: &str, by_switch: Option<ProfileId>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.served_by.as_ref().is_none_or(|serving| serving.name != name) {
            last.served_by = Some(Serving { name: name.to_owned(), since: now, other: None, by_switch });
        }
    }

    /// The model that a client asked for last.
    pub(crate) fn last_model(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).model.clone()
    }

    pub(crate) fn last_failover_record(&self) -> Option<(Instant, Arc<ExchangeRecord>)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).failover.clone()
    }

    /// What a profile did in the last minutes.
    pub(crate) fn glance(&self, now: Instant, name: &str) -> Glance {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).glance(now, name)
    }

    /// Exchanges, failovers, in flight.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.counts.exchanges), read(&self.counts.failovers), read(&self.counts.in_flight))
    }

    fn in_flight(&self) -> InFlight {
        self.counts.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.counts.in_flight.clone())
    }

    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>, entrance: Entrance, peer: &Peer) -> Response<ClientBody> {
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        // A bug of ours in one exchange is answered, and harms no other. Boxed: the connection keeps this future's place as long as an
        // answer flows, and what it needs until there is an answer is 4 KiB.
        let routed = match entrance {
            Entrance::Port => AssertUnwindSafe(Box::pin(self.route(request, peer))).catch_unwind().await,
            Entrance::Tunnel => AssertUnwindSafe(Box::pin(intercept::route(self, request))).catch_unwind().await,
        };
        let mut response = routed.unwrap_or_else(|_| {
            let mut response = answer::error(StatusCode::INTERNAL_SERVER_ERROR, "api_error", "hotspare: a bug of ours; please report it");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        });
        if chunked {
            // The guard lets nothing unread hide behind a chunked body: the connection ends with its answer.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route(self: Arc<Self>, request: Request<Incoming>, peer: &Peer) -> Response<ClientBody> {
        let room = admission::room(request.method(), request.uri());
        if room == Room::Hello {
            let mut hello = Response::new(ClientBody::full(Bytes::new()));
            if let Some(proof) = challenge::answer(request.headers(), self.token.expose_secret(), self.local) {
                hello.headers_mut().insert(challenge::PROOF, proof);
            }
            return hello;
        }
        if matches!(room, Room::Upstream(_)) && admission::may_be_inside(request.headers()) && self.is_direct(peer).await {
            let origin = self.direct.get().and_then(|origin| origin());
            return intercept::pass_directly(&self, request, origin.as_ref()).await;
        }
        let admitted = match admission::admit(request.headers(), self.token.expose_secret()) {
            Ok(admitted) => admitted,
            Err(refusal) => return unsent(refusal).map(|body| body.draining(request.into_body())),
        };
        match room {
            Room::Hello | Room::Status => {
                let status = serde_json::to_string(&self.status_for(asked_model(request.headers()))).unwrap_or_default();
                answer::json(StatusCode::OK, status)
            }
            Room::Metrics => self.metrics(),
            Room::InFlight => answer::json(StatusCode::OK, serde_json::to_string(&self.requests_waiting()).unwrap_or_default()),
            Room::Notices => answer::json(StatusCode::OK, serde_json::to_string(&self.notices()).unwrap_or_default()),
            Room::NoticesFor => {
                let (head, body) = request.into_parts();
                control::heard(&head.headers, body, |request| Ok(self.notices_for(request))).await
            }
            Room::Reset => {
                let (head, body) = request.into_parts();
                control::heard(&head.headers, body, |request| self.reset(request)).await
            }
            Room::Switch => {
                let (head, body) = request.into_parts();
                control::heard(&head.headers, body, |request| self.switch(request)).await
            }
            Room::Session => {
                let (head, body) = request.into_parts();
                control::heard_in_time(&head.headers, body, async |request| self.enter_folder(request).await).await
            }
            Room::Drill => {
                let (head, body) = request.into_parts();
                control::heard(&head.headers, body, |request| self.drill(request)).await
            }
            Room::CheckSpares => {
                let (head, body) = request.into_parts();
                match control::read(&head.headers, body).await {
                    Ok(request) => control::answered(self.check_spares(&request).await),
                    Err(refused) => refused,
                }
            }
            Room::EndDrill => {
                let (head, body) = request.into_parts();
                control::heard(&head.headers, body, |request| Ok(self.end_drill(request))).await
            }
            Room::Pause => {
                let (head, body) = request.into_parts();
                control::heard(&head.headers, body, |request| self.pause(request)).await
            }
            Room::Resume => {
                let (head, body) = request.into_parts();
                control::heard(&head.headers, body, |request| self.resume(request)).await
            }
            Room::Nowhere => {
                unsent(answer::error(StatusCode::NOT_FOUND, "not_found_error", "hotspare: there is nothing at this path for this method"))
                    .map(|answer| answer.draining(request.into_body()))
            }
            Room::Upstream(endpoint) => self.ask(endpoint, request, admitted.credential).await,
        }
    }

    /// Carries a request from profile to profile, or through a drill.
    pub(crate) async fn ask(
        self: Arc<Self>,
        endpoint: Endpoint,
        mut request: Request<Incoming>,
        credential: hotspare_upstream::ClientCredential,
    ) -> Response<ClientBody> {
        self.look_at_folders(request.headers()).await;
        match self.way(endpoint, request.headers_mut()) {
            Way::Real => self.forward(endpoint, request, credential).await,
            Way::Through(shadow) => shadow.forward(endpoint, request, credential).await,
            Way::Over => unsent(answer::error(StatusCode::GONE, "not_found_error", "hotspare: this drill is over; nothing was sent"))
                .map(|answer| answer.draining(request.into_body())),
        }
    }

    fn metrics(&self) -> Response<ClientBody> {
        match self.metrics.text(&self.present()) {
            Some(text) => answer::text(metrics::CONTENT_TYPE, text),
            None => answer::error(StatusCode::INTERNAL_SERVER_ERROR, "api_error", "hotspare: the figures cannot be written"),
        }
    }

    async fn forward(
        self: Arc<Self>,
        endpoint: Endpoint,
        request: Request<Incoming>,
        credential: hotspare_upstream::ClientCredential,
    ) -> Response<ClientBody> {
        let limit = self.snapshot().max_body;
        let length = request.body().size_hint().exact();
        if length.is_some_and(|length| length > limit) {
            return unsent(too_large(limit)).map(|body| body.draining(request.into_body()));
        }
        let coding = match Coding::of(request.headers()) {
            Ok(coding) => coding,
            Err(unknown) => {
                let response = unsent(unknown_coding(unknown));
                return response.map(|body| body.draining(request.into_body()));
            }
        };
        let upload_ahead = request.headers().contains_key("x-claude-code-upload-ahead");
        let facts = admission::facts(endpoint, request.headers(), &credential);
        let (head, body) = request.into_parts();
        let path_and_query = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let client = ClientRequest {
            method: head.method,
            path_and_query,
            headers: head.headers,
            extensions: head.extensions,
            credential,
            body: Replay::new(body, limit, self.kept_bodies.clone(), clock::now()).with_coding(coding).with_upload_ahead(upload_ahead),
            length: length.filter(|length| *length > 0),
            is_messages: matches!(endpoint, Endpoint::Messages | Endpoint::CountTokens),
        };
        let in_flight = self.in_flight();
        forward::serve(self, facts, client, in_flight).await
    }
}

/// Names the model that a look at the status is about.
pub const STATUS_MODEL: &str = "x-hotspare-model";

fn asked_model(headers: &http::HeaderMap) -> Option<&str> {
    headers.get(STATUS_MODEL)?.to_str().ok().filter(|model| !model.is_empty())
}

/// No profile and no hook leads back to this very port.
fn leads_elsewhere(config: &Config, local: SocketAddr) -> Result<(), ServeError> {
    let back = config.profiles.iter().find(|profile| profile.base_url.points_at(local));
    if let Some(profile) = back {
        return Err(ServeError::SelfLoop(profile.name.clone()));
    }
    let leads_back = |hook: &&Hook| matches!(&hook.call, HookCall::Http(url) if url.points_at(local));
    config.hooks.iter().find(leads_back).map_or(Ok(()), |hook| Err(ServeError::HookLoop(hook.event.word())))
}

/// Compiles; a profile that leads back to this very port is refused.
fn snapshot_at(config: &Config, local: SocketAddr, identities: &Identities, renewals: &Arc<Renewals>) -> Result<Arc<Snapshot>, ServeError> {
    leads_elsewhere(config, local)?;
    Ok(Arc::new(Snapshot::with_identities(config, identities, renewals)))
}

/// Marks an answer of ours to a request that no profile received.
fn unsent(mut response: Response<ClientBody>) -> Response<ClientBody> {
    headers::mark(response.headers_mut(), "", 0, "");
    response
}

fn too_large(limit: u64) -> Response<ClientBody> {
    let message = format!("hotspare: the request body is larger than {} (`server.max_body`)", answer::size(limit));
    let mut response = answer::error(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", &message);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn unknown_coding(coding: &str) -> Response<ClientBody> {
    let message = format!("hotspare: request content-encoding `{coding}` is not supported");
    let mut response = answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", &message);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
