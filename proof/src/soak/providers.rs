//! Five providers on real sockets, each well but for single requests that a fault waits for. At no time are two of them broken for one client.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hotspare_testkit::{Received, Script, Upstream};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::faults::{self, HeadFault, Position, StreamFault};
use crate::question::Question;

/// Their names, in the chain's order.
pub(super) const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Between two events of an answer.
const PACE: Duration = Duration::from_millis(100);

/// Connections that the proxy keeps for the next request to one provider.
const KEPT_FOR_EACH: usize = 32;

/// Heads that break. Those that bench a profile for long are not among them: soon nobody would ask it any more.
const HEADS: [HeadFault; 13] = [
    HeadFault::Closed,
    HeadFault::Reset,
    HeadFault::HeadStall,
    HeadFault::HalfHead,
    HeadFault::BadStatusLine,
    HeadFault::S500,
    HeadFault::S502Html,
    HeadFault::S503,
    HeadFault::S504,
    HeadFault::S529,
    HeadFault::S429Short,
    HeadFault::S429Bare,
    HeadFault::Html200,
];

/// Streams that break.
const STREAMS: [StreamFault; 7] = [
    StreamFault::Reset,
    StreamFault::Truncated,
    StreamFault::CleanEof,
    StreamFault::ErrorEvent,
    StreamFault::Stall,
    StreamFault::SplitUtf8,
    StreamFault::WrongLength,
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    Head(HeadFault),
    Stream(StreamFault, Position),
}

#[derive(Default)]
struct Weather {
    waiting: Mutex<BTreeMap<&'static str, Fault>>,
    last_asked: Mutex<BTreeMap<&'static str, Instant>>,
    requests: AtomicU64,
    met: AtomicU64,
}

/// All of them.
pub(super) struct Providers {
    upstreams: Vec<(&'static str, Upstream)>,
    weather: Arc<Weather>,
}

impl Providers {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let weather = Arc::new(Weather::default());
        let mut upstreams = Vec::new();
        for name in NAMES {
            let weather = weather.clone();
            upstreams.push((name, Upstream::start_reading(move |request| play(name, &weather, request)).await?));
        }
        Ok(Self { upstreams, weather })
    }

    /// Names and addresses.
    pub(super) fn urls(&self) -> Vec<(&'static str, String)> {
        self.upstreams.iter().map(|(name, upstream)| (*name, upstream.url())).collect()
    }

    /// Ports they listen on.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.upstreams.iter().map(|(_, upstream)| upstream.addr().port()).collect()
    }

    /// Requests for an answer that were read.
    pub(super) fn requests(&self) -> u64 {
        self.weather.requests.load(Ordering::Relaxed)
    }

    /// Of those, broken ones.
    pub(super) fn faults(&self) -> u64 {
        self.weather.met.load(Ordering::Relaxed)
    }

    /// Answers under way.
    pub(super) fn playing(&self) -> usize {
        self.upstreams.iter().map(|(_, upstream)| upstream.playing().len()).sum()
    }

    /// Most connections that may be kept while nothing is going on.
    pub(super) fn most_kept(&self) -> usize {
        KEPT_FOR_EACH * self.upstreams.len()
    }
}

fn play(name: &'static str, weather: &Weather, request: &Received) -> Script {
    let Some((question, said, streaming)) = Question::asked_by(request) else { return Script::not_found() };
    weather.requests.fetch_add(1, Ordering::Relaxed);
    weather.last_asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
    let waiting = &mut *weather.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let fault = if matches!(waiting.get(name), Some(Fault::Stream(..))) && !streaming { None } else { waiting.remove(name) };
    let broken = match fault {
        None => None,
        Some(Fault::Head(fault)) => Some(fault.script()),
        Some(Fault::Stream(fault, position)) => {
            let variant = usize::try_from(question.number).unwrap_or_default();
            question.rest(&said).map(|events| faults::broken(&events, fault, position, variant, PACE).script)
        }
    };
    if broken.is_some() {
        weather.met.fetch_add(1, Ordering::Relaxed);
    }
    broken.unwrap_or_else(|| faults::answer(question, &said, streaming, PACE))
}

/// Lets a fault wait for the next request to a provider that is being asked, again and again.
pub(super) async fn break_now_and_then(providers: Arc<Providers>, until: Instant, every: Duration) {
    let mut dice = SmallRng::seed_from_u64(5);
    while Instant::now() < until {
        tokio::time::sleep(every).await;
        let asked = providers.weather.last_asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let busy: Vec<_> = asked.iter().filter(|(_, at)| at.elapsed() < every).map(|(name, _)| *name).collect();
        if let Some(name) = busy.get(dice.random_range(0..busy.len().max(1))) {
            let fault = fault(&mut dice);
            providers.weather.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(name, fault);
        }
    }
}

fn fault(dice: &mut SmallRng) -> Fault {
    if dice.random_bool(0.4) {
        return Fault::Head(HEADS[dice.random_range(0..HEADS.len())]);
    }
    loop {
        let fault = STREAMS[dice.random_range(0..STREAMS.len())];
        let position = Position::ALL[dice.random_range(0..Position::ALL.len())];
        if faults::fits(fault, position) {
            return Fault::Stream(fault, position);
        }
    }
}
