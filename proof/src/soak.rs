//! The long run: the real binary as its own process on real sockets, fifty people at work, a fault every two seconds. Counts what people saw,
//! what is left over when they have gone, and whether the ledger knows of every request that the providers had.

mod process;
mod providers;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use crate::client::{Client, Session};
use crate::question::{Question, Shape};
use crate::world::Door;
use process::{Proxy, Sockets};
use providers::Providers;

/// People at work at the same time.
const STREAMS: usize = 50;

/// From one fault to the next.
const FAULT_EVERY: Duration = Duration::from_secs(2);

/// How long the last answers may take after the time is over.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// How long the proxy may take to let go of what its clients have left.
const SETTLE: Duration = Duration::from_secs(10);

/// Memory may grow by so much between the first part of the run and the last.
const MOST_DRIFT: f64 = 0.05;

/// The allocator keeps what the busiest moment so far needed, and busier ones come for some minutes: what is in use stays the same (7.3 MiB after one minute
/// and after five, 6.0 MiB after seven, by a heap profiler), while what is resident rises from 6.8 to 8.2 MiB in eight minutes and to 8.3 MiB in thirty.
const WARM_UP: Duration = Duration::from_secs(300);

/// A run that is shorter sees hardly more than the warm-up instead of a drift.
const SHORT: Duration = Duration::from_secs(180);

/// More than this is too much even so.
const WARM_UP_GROWTH: f64 = 8.0 * 1024.0 * 1024.0;

/// What people saw.
#[derive(Default)]
struct Seen {
    turns: AtomicU64,
    errors: AtomicU64,
}

/// Runs for so many minutes with this build of hotspare.
pub(crate) fn run(minutes: u64, hotspare: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(soak(Duration::from_secs(60 * minutes), hotspare))
}

async fn soak(time: Duration, hotspare: &Path) -> anyhow::Result<()> {
    let providers = Arc::new(Providers::start().await?);
    let proxy = Proxy::start(hotspare, &providers)?;
    let idle = proxy.sockets()?;
    let until = Instant::now() + time;
    let seen = Arc::new(Seen::default());
    let mut people = JoinSet::new();
    for number in 0..STREAMS {
        people.spawn(work(proxy.door(), number as u64, until, seen.clone()));
    }
    let faults = tokio::spawn(providers::break_now_and_then(providers.clone(), until, FAULT_EVERY));
    let memory = watch_memory(&proxy, until).await?;
    let ended = tokio::time::timeout(LAST_ANSWERS, async { while people.join_next().await.is_some() {} }).await;
    let stuck = if ended.is_err() { people.len() } else { 0 };
    people.shutdown().await;
    faults.await?;
    let left = settled(&proxy, &providers, idle).await?;
    let ledger = proxy.ledger(&providers).await?;
    report(time, &seen, stuck, &providers, &memory, &left, &ledger)
}

/// One person at work until the time is over.
async fn work(door: Door, number: u64, until: Instant, seen: Arc<Seen>) {
    let mut dice = SmallRng::seed_from_u64(number);
    let client = Client::ALL[usize::try_from(number).unwrap_or_default() % Client::ALL.len()];
    let mut session = Session::new(&door, client, format!("person-{number}"));
    let mut asked = 0;
    while Instant::now() < until {
        asked += 1;
        let question = Question { number: number * 1_000_000 + asked, shape: Shape::ALL[dice.random_range(0..Shape::ALL.len())] };
        let turn = session.ask(question, dice.random_bool(0.95)).await;
        let wrong = match turn.answer {
            Ok(answer) => question.is_answered_by(&answer.text, &answer.calls).err(),
            Err(error) => Some(error),
        };
        if let Some(wrong) = wrong {
            seen.errors.fetch_add(1, Ordering::Relaxed);
            println!("FAILED person-{number} ({}), question {}: {wrong}", client.word(), question.number);
            for got in &turn.requests {
                println!("         {} from `{}`, ended {:?}", got.status, got.profile(), got.end);
            }
        }
        seen.turns.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(dice.random_range(50..500))).await;
    }
}

/// Resident memory in bytes: early in the run and at its end.
struct Memory {
    early: f64,
    late: f64,
}

async fn watch_memory(proxy: &Proxy, until: Instant) -> anyhow::Result<Memory> {
    let mut samples = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    while Instant::now() < until {
        tick.tick().await;
        samples.push(proxy.resident()?);
    }
    let warm_up = usize::try_from(WARM_UP.as_secs()).unwrap_or_default().min(samples.len() / 3);
    let warm = &samples[warm_up..];
    let quarter = warm.len().div_ceil(4);
    let (early, late) = (&warm[..quarter], &warm[warm.len() - quarter..]);
    Ok(Memory { early: median(early), late: median(late) })
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// What is left when everyone has gone.
struct Left {
    /// Sockets toward clients.
    clients: usize,
    /// Sockets toward providers on which something is still going on, or more than are kept for the next request.
    providers: usize,
    /// Kept for the next request.
    kept: usize,
    in_flight: u64,
    threads: i64,
}

async fn settled(proxy: &Proxy, providers: &Providers, idle: Sockets) -> anyhow::Result<Left> {
    let begun = Instant::now();
    loop {
        let now = proxy.sockets()?;
        let busy = providers.playing();
        let left = Left {
            clients: now.clients,
            providers: busy + now.providers.saturating_sub(providers.most_kept()),
            kept: now.providers,
            in_flight: proxy.in_flight().await?,
            threads: now.threads - idle.threads,
        };
        if left.clients + left.providers == 0 && left.in_flight == 0 || begun.elapsed() > SETTLE {
            return Ok(left);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn report(
    time: Duration,
    seen: &Seen,
    stuck: usize,
    providers: &Providers,
    memory: &Memory,
    left: &Left,
    ledger: &process::Ledger,
) -> anyhow::Result<()> {
    let turns = seen.turns.load(Ordering::Relaxed);
    let errors = seen.errors.load(Ordering::Relaxed) + stuck as u64;
    let growth = memory.late - memory.early;
    println!(
        "soak: {} s, {STREAMS} streams, {turns} turns, {} upstream requests, {} faults met, errors seen: {errors}, left over: {} client sockets, \
         {} upstream sockets (and {} kept for the next request), {} exchanges, {} threads, memory {:.1} MiB then {:.1} MiB ({:+.1} %), {ledger}",
        time.as_secs(),
        providers.requests(),
        providers.faults(),
        left.clients,
        left.providers,
        left.kept,
        left.in_flight,
        left.threads,
        memory.early / 1_048_576.0,
        memory.late / 1_048_576.0,
        100.0 * growth / memory.early,
    );
    ensure!(errors == 0, "{errors} errors were seen");
    ensure!(left.clients + left.providers == 0 && left.in_flight == 0, "something is left over");
    let most_growth = if time < SHORT { WARM_UP_GROWTH } else { MOST_DRIFT * memory.early };
    ensure!(growth < most_growth, "memory grows");
    ensure!(turns > 0 && providers.faults() > 0, "nothing happened");
    ledger.check()
}
