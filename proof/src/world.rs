//! A gateway between clients and scripted providers, in memory or on real sockets: the real proxy code, with nothing of the machine in it
//! that a test does not give. Never judges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use hotspare_core::{Clocks, Failure, FailureKind, Stage};
use hotspare_gateway::{Event, Gateway, Observer, Options, Outside};
use hotspare_store::Store;
use hotspare_testkit::{Dial, Network, Pipe, Received, Script, Upstream};
use hotspare_upstream::Target;
use hotspare_upstream::connect::{Connecting, Io, Stream};
use hyper_util::rt::TokioIo;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::faults;
use crate::question::Question;
use crate::trace::Trace;

/// Opens the gateway to clients.
pub(crate) const TOKEN: &str = "hs-proof";

/// Where the wall clock stands when a world begins: the runs of a seed must not depend on the day.
pub(crate) const WALL: Duration = Duration::from_secs(1_800_000_000);

/// Decides what a provider does with a request.
pub(crate) type Play = Arc<dyn Fn(&Received) -> Script + Send + Sync>;

/// One profile and who stands behind it.
pub(crate) struct Profile {
    pub name: &'static str,
    pub play: Play,
    /// Whether it passes the client's own login on instead of a credential of its own.
    pub login: bool,
    /// What becomes of connections to it; in memory only.
    pub dial: Dial,
    /// Where it is, when it is not played here; on sockets only.
    pub url: Option<String>,
}

impl Profile {
    /// One with a credential of its own, that can be reached.
    pub(crate) fn new(name: &'static str, play: Play) -> Self {
        Self { name, play, login: false, dial: Dial::Works, url: None }
    }
}

/// A provider without a fault.
pub(crate) fn play_well() -> Play {
    Arc::new(|request| match Question::asked_by(request) {
        Some((question, said, streaming)) => faults::answer(question, &said, streaming, Duration::ZERO),
        None => Script::not_found(),
    })
}

/// What a world is made of.
pub(crate) struct Plan {
    pub profiles: Vec<Profile>,
    /// Put into `failover_policy`.
    pub policy: Value,
    /// For all that is left to chance.
    pub seed: u64,
    /// Whether everything that happens is written down.
    pub traced: bool,
    /// Where exchanges are remembered.
    pub ledger: Option<PathBuf>,
}

/// What the gateway told of each exchange, by its id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub events: Vec<Event>,
    /// When each of them was told.
    pub times: Vec<Instant>,
    /// Place of the last one among the events of all exchanges: several may end at one instant of the paused clock.
    pub last: usize,
}

impl Told {
    /// The kinds of the attempts, in order.
    pub(crate) fn kinds(&self) -> Vec<String> {
        let kind = |event: &Event| if let Event::Asked { kind, .. } = event { Some(format!("{kind:?}")) } else { None };
        self.events.iter().filter_map(kind).collect()
    }

    /// When each attempt began that counts: one on a kept connection that turned out dead reached nobody.
    pub(crate) fn attempts(&self) -> Vec<Instant> {
        let mut begun = Vec::new();
        for (event, at) in self.events.iter().zip(&self.times) {
            match event {
                Event::Asked { .. } => begun.push(*at),
                Event::Failed { failure, .. } if failure.kind == FailureKind::StaleConnection => drop(begun.pop()),
                _ => {}
            }
        }
        begun
    }

    /// Whether another profile went on in the same message.
    pub(crate) fn resumes(&self) -> bool {
        self.kinds().iter().any(|kind| kind == "Resume")
    }
}

/// A gateway between clients and providers.
pub(crate) struct World {
    pub gateway: Arc<Gateway>,
    pub network: Network,
    pub trace: Trace,
    pub providers: BTreeMap<&'static str, Upstream>,
    config: hotspare_config::Config,
    logins: BTreeSet<&'static str>,
    told: Arc<Watch>,
    wall_ahead: Arc<AtomicU64>,
    pub door: Door,
    /// Where exchanges are remembered.
    pub ledger: Option<Store>,
    serving: Option<AbortHandle>,
}

/// Where clients come in.
#[derive(Clone)]
pub(crate) struct Door {
    way: Way,
    pub token: String,
    pub trace: Trace,
}

#[derive(Clone)]
enum Way {
    Memory(Arc<Gateway>),
    Socket(SocketAddr),
    /// To a host of the network in memory, with no gateway in between.
    Direct(Network, String),
}

impl Door {
    /// To a gateway in another process.
    pub(crate) fn to_process(address: SocketAddr, token: String) -> Self {
        Self { way: Way::Socket(address), token, trace: Trace::begin(false) }
    }

    /// What a client puts into `host`.
    pub(crate) fn host(&self) -> String {
        match &self.way {
            Way::Memory(gateway) => gateway.local().to_string(),
            Way::Socket(address) => address.to_string(),
            Way::Direct(_, host) => host.clone(),
        }
    }

    /// A client's connection to the gateway.
    pub(crate) async fn connect(&self) -> std::io::Result<Box<dyn Io>> {
        match &self.way {
            Way::Memory(gateway) => {
                let (near, far) = Pipe::pair();
                tokio::spawn(hotspare_gateway::serve_connection(gateway.clone(), far, std::future::pending()));
                Ok(Box::new(near))
            }
            Way::Socket(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Way::Direct(network, host) => {
                let pipe = network.connect(host).await.map_err(|dial| std::io::Error::other(format!("{dial:?}")))?;
                Ok(Box::new(pipe))
            }
        }
    }
}

/// A client's way to one provider with no gateway in between, in memory.
pub(crate) struct Bare {
    pub network: Network,
    pub door: Door,
    _provider: Upstream,
}

impl Bare {
    /// One provider, as a world with a gateway would hold it.
    pub(crate) fn new(name: &'static str, play: Play) -> Self {
        let network = Network::new();
        let host = host(name);
        network.set_dial(&host, Dial::Works);
        let provider = Upstream::in_memory(&network, &host, move |request| play(request));
        let door = Door { way: Way::Direct(network.clone(), host), token: TOKEN.to_owned(), trace: Trace::begin(false) };
        Self { network, door, _provider: provider }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// How a profile is called on the network in memory.
pub(crate) fn host(name: &str) -> String {
    format!("{name}.test")
}

/// The login that every client sends along.
pub(crate) const LOGIN: &str = "sk-ant-test-login";

/// The credential of a profile, which nobody else may ever see.
pub(crate) fn credential(name: &str) -> String {
    format!("sk-ant-test-{name}")
}

impl World {
    /// In memory: every wait goes by the runtime's clock, which is best paused.
    pub(crate) fn in_memory(plan: &Plan) -> anyhow::Result<Self> {
        let trace = Trace::begin(plan.traced);
        let network = Network::new();
        let mut providers = BTreeMap::new();
        let mut urls = BTreeMap::new();
        for profile in &plan.profiles {
            let host = host(profile.name);
            network.set_dial(&host, profile.dial);
            let upstream = Upstream::in_memory(&network, &host, told_play(profile, &trace));
            urls.insert(profile.name, upstream.url());
            providers.insert(profile.name, upstream);
        }
        let outside = Outside::default().with_network(Arc::new(InMemory(network.clone())));
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 4117));
        let told = Arc::new(Watch { trace: trace.clone(), told: Mutex::default() });
        let (outside, wall_ahead) = with_wall_and_dice(outside, plan.seed);
        let options = options(outside, &told, plan.ledger.as_deref());
        let ledger = options.store.clone();
        let config = config(plan, &urls)?;
        let gateway = Gateway::at(&config, local, options)?;
        let door = Door { way: Way::Memory(gateway.clone()), token: TOKEN.to_owned(), trace: trace.clone() };
        Ok(Self { gateway, network, trace, providers, config, logins: logins(plan), told, wall_ahead, door, ledger, serving: None })
    }

    /// On real sockets of the loopback device. Profiles whose dial does not work are refused.
    pub(crate) async fn on_sockets(plan: &Plan) -> anyhow::Result<Self> {
        let trace = Trace::begin(plan.traced);
        let mut providers = BTreeMap::new();
        let mut urls = BTreeMap::new();
        for profile in &plan.profiles {
            if let Some(url) = &profile.url {
                urls.insert(profile.name, url.clone());
                continue;
            }
            if profile.dial != Dial::Works {
                urls.insert(profile.name, format!("http://{}", hotspare_testkit::refused_addr()?));
                continue;
            }
            let upstream = Upstream::start_reading(told_play(profile, &trace)).await?;
            urls.insert(profile.name, upstream.url());
            providers.insert(profile.name, upstream);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let told = Arc::new(Watch { trace: trace.clone(), told: Mutex::default() });
        let config = config(plan, &urls)?;
        let options = options(Outside::default(), &told, plan.ledger.as_deref());
        let ledger = options.store.clone();
        let gateway = Gateway::new(&config, &listener, options)?;
        let serving = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending())).abort_handle();
        let wall_ahead = Arc::default();
        let network = Network::new();
        let door = Door { way: Way::Socket(gateway.local()), token: TOKEN.to_owned(), trace: trace.clone() };
        Ok(Self {
            gateway,
            network,
            trace,
            providers,
            config,
            logins: logins(plan),
            told,
            wall_ahead,
            door,
            ledger,
            serving: Some(serving),
        })
    }

    /// Takes the same configuration anew, as after a save. Requests under way must not notice.
    pub(crate) fn reload(&self) {
        match self.gateway.compile(&self.config) {
            Ok(snapshot) => self.gateway.replace(snapshot),
            Err(error) => self.trace.line("weather", format_args!("the configuration is refused: {error}")),
        }
        self.trace.line("weather", "the configuration is read anew");
    }

    /// Lets the wall clock jump ahead of the time that passes.
    pub(crate) fn wall_jumps(&self, by: Duration) {
        self.wall_ahead.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What the gateway told of its exchanges so far.
    pub(crate) fn told(&self) -> BTreeMap<u64, Told> {
        self.told.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Credentials that came to a provider other than their own (invariant I4).
    pub(crate) fn strayed_credentials(&self) -> Vec<String> {
        let mut strayed = Vec::new();
        for (name, provider) in &self.providers {
            let own = if self.logins.contains(name) { LOGIN.to_owned() } else { credential(name) };
            for request in provider.requests() {
                let head = String::from_utf8_lossy(&request.raw_head).into_owned();
                let foreign = head.match_indices("sk-ant-test-").any(|(at, _)| !head[at..].starts_with(&own));
                if foreign || head.contains(TOKEN) || !head.contains(&own) {
                    strayed.push(format!("{name} got {}", head.lines().next().unwrap_or_default()));
                }
            }
        }
        strayed
    }
}

fn logins(plan: &Plan) -> BTreeSet<&'static str> {
    plan.profiles.iter().filter(|profile| profile.login).map(|profile| profile.name).collect()
}

fn told_play(profile: &Profile, trace: &Trace) -> impl Fn(&Received) -> Script + Send + Sync + 'static {
    let (name, play, trace) = (profile.name, profile.play.clone(), trace.clone());
    move |request| {
        trace.line(
            format_args!("provider {name}"),
            format_args!("{} {}, {} bytes", request.method, request.target, request.header("content-length").unwrap_or("?")),
        );
        play(request)
    }
}

fn config(plan: &Plan, urls: &BTreeMap<&'static str, String>) -> anyhow::Result<hotspare_config::Config> {
    let names: Vec<&str> = plan.profiles.iter().map(|profile| profile.name).collect();
    let mut policy = json!({"chains": [{"profiles": names}]});
    if let (Value::Object(policy), Value::Object(more)) = (&mut policy, plan.policy.clone()) {
        policy.extend(more);
    }
    let profiles: serde_json::Map<String, Value> = plan
        .profiles
        .iter()
        .map(|profile| {
            let url = urls.get(profile.name).cloned().unwrap_or_default();
            let auth = if profile.login { json!("client") } else { json!({"value": credential(profile.name)}) };
            (profile.name.to_owned(), json!({"base_url": url, "auth": auth}))
        })
        .collect();
    let text = json!({"failover_policy": policy, "profiles": profiles}).to_string();
    hotspare_config::parse(&text, Path::new("proof.json"), Path::new("/"))
        .map_err(|errors| anyhow!(errors.render(false)))
        .context("the proof's own configuration")
}

fn options(outside: Outside, told: &Arc<Watch>, ledger: Option<&Path>) -> Options {
    let store = ledger.map(|folder| Store::open(folder, hotspare_store::Options::default()));
    Options { token: SecretString::from(TOKEN), extra_roots: None, observer: Some(told.clone()), outside, store }
}

/// The wall clock goes with the runtime's, and may be moved ahead of it.
fn with_wall_and_dice(outside: Outside, seed: u64) -> (Outside, Arc<AtomicU64>) {
    let ahead: Arc<AtomicU64> = Arc::default();
    let begun = Instant::now();
    let jumps = ahead.clone();
    let wall = move || -> SystemTime { UNIX_EPOCH + WALL + begun.elapsed() + Duration::from_millis(jumps.load(Ordering::Relaxed)) };
    let dice = Mutex::new(SmallRng::seed_from_u64(seed));
    let throw = move || dice.lock().unwrap_or_else(PoisonError::into_inner).random();
    (outside.with_wall(wall).with_dice(throw), ahead)
}

/// The profiles that an exchange skipped, with the reasons.
fn skipped(record: &hotspare_core::ExchangeRecord) -> String {
    record.skipped.iter().map(|skipped| format!(", {} skipped: {}", skipped.profile, skipped.reason)).collect()
}

struct Watch {
    trace: Trace,
    told: Mutex<BTreeMap<u64, Told>>,
}

impl Observer for Watch {
    fn on_event(&self, event: &Event) {
        let (id, words) = match event {
            Event::Arrived { id } => (*id, "arrived".to_owned()),
            Event::Asked { id, profile, kind } => (*id, format!("asks {profile} ({kind:?})")),
            Event::Failed { id, profile, failure, .. } => (*id, format!("{profile} failed: {failure}")),
            Event::Committed { id, profile, .. } => (*id, format!("commits to {profile}")),
            Event::Ending { id, ending } => (*id, format!("ends: {ending:?}")),
            Event::BudgetReached { id, profile, reached, .. } => (*id, format!("{profile} has no money left: {reached:?}")),
            Event::Over(record) => (record.id, format!("over: {:?}{}", record.outcome, skipped(record))),
        };
        self.trace.line("gateway", format_args!("#{} {words}", id & 0xffff));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let last = told.values().map(|told| told.last).max().unwrap_or_default() + 1;
        let told = told.entry(id).or_default();
        told.last = last;
        told.events.push(event.clone());
        told.times.push(Instant::now());
    }
}

/// The network in memory, as the gateway dials it.
struct InMemory(Network);

impl hotspare_upstream::connect::Network for InMemory {
    fn connect<'a>(&'a self, target: &'a Target, clocks: &'a Clocks) -> Connecting<'a> {
        Box::pin(async move {
            let failed = |kind, words: &str| Err(Failure::new(kind, Stage::Connect, words));
            let dialled = tokio::time::timeout(clocks.connect, self.0.connect(&target.host)).await.unwrap_or(Err(Dial::Silent));
            match dialled {
                Ok(pipe) => Ok(Stream::Other(TokioIo::new(Box::new(pipe)))),
                Err(Dial::UnknownName) => failed(FailureKind::Dns, "name could not be looked up"),
                Err(Dial::Refused | Dial::Works) => failed(FailureKind::ConnectRefused, "connection refused"),
                Err(Dial::Unreachable) => failed(FailureKind::Unreachable, "unreachable"),
                Err(Dial::Silent) => {
                    tokio::time::sleep(clocks.connect).await;
                    failed(FailureKind::ConnectTimeout, "no connection in time")
                }
                Err(Dial::TlsAlert) => failed(FailureKind::TlsHandshake, "TLS handshake failed: alert"),
                Err(Dial::BadCertificate) => failed(FailureKind::TlsCertificate, "certificate is not valid"),
                Err(Dial::TlsSilent) => {
                    tokio::time::sleep(clocks.tls).await;
                    failed(FailureKind::TlsHandshake, "no TLS handshake in time")
                }
            }
        })
    }
}
