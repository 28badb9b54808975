//! Simulates whole days: several people at work, providers that break and recover, a network that tears, a machine that sleeps. Everything
//! follows from a seed, through the real proxy code; the same seed is the same run to the letter.

mod agreement;
mod blocks;
mod diary;
mod invariants;
mod people;
mod silence;
mod weather;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::world::{Plan, Profile, World};
use diary::Diary;
use weather::Sky;

/// Seeds of a run in continuous integration.
const SEEDS: u64 = 1000;

/// So many requests of clients such a run must make, or its zeroes say too little.
const FEWEST_REQUESTS: u64 = 10_000;

/// Every so many seeds one is run twice and its two traces are compared.
const TWICE_EVERY: u64 = 20;

/// Every so many seeds the exchanges are remembered on disk too; a file for each seed costs more than the seed.
const LEDGER_EVERY: u64 = 4;

/// Most that a provider's clock is ahead of ours or behind it, in seconds: a day, as a machine has it whose date is wrong.
const MOST_SKEW: i64 = 86_400;

/// Longest simulated time: nobody asks for so long.
const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// What there is in one seed's world.
pub(crate) struct Scene {
    pub names: Vec<&'static str>,
    /// A profile that is never down.
    pub anchor: Option<&'static str>,
    /// The primary passes the client's login on.
    pub login: bool,
    /// Nothing ever breaks but one person's own requests.
    pub calm: bool,
    /// The primary fails every request on the small model, which is for side requests alone.
    pub small_fails: bool,
    /// People's pauses are long, so that the day has hours of traffic.
    pub long: bool,
    /// Each provider's clock against ours, in seconds.
    pub skew: Vec<i64>,
    /// The machine sleeps now and then, and its wall clock jumps.
    pub sleeps: bool,
    /// With nobody left the client is told at once and for good, instead of to wait.
    pub fails: bool,
    /// With nobody left the answer is kept open until somebody recovers.
    pub holds: bool,
    pub people: usize,
    policy: Value,
}

impl Scene {
    fn of_seed(seed: u64) -> Self {
        let mut dice = SmallRng::seed_from_u64(seed);
        let count = dice.random_range(2..=4);
        let names = ["a", "b", "c", "d"][..count].to_vec();
        let anchor = dice.random_bool(0.7).then(|| names[dice.random_range(0..count)]);
        let mut chains = Vec::new();
        if dice.random_bool(0.3) {
            let mut other = names.clone();
            other.rotate_left(1);
            chains.push(json!({"match": {"model": "claude-haiku*"}, "profiles": other}));
        }
        chains.push(json!({"profiles": names}));
        let calm = dice.random_bool(0.05);
        let skewed = dice.random_bool(0.3);
        let skew = names.iter().map(|_| if skewed { dice.random_range(-MOST_SKEW..=MOST_SKEW) } else { 0 }).collect();
        let on_exhausted = ["wait", "wait", "wait", "hold", "fail"][dice.random_range(0..5)];
        let hedge = dice.random_bool(0.2);
        Self {
            anchor,
            login: dice.random_bool(0.25),
            calm,
            small_fails: calm && dice.random_bool(0.6),
            long: dice.random_bool(0.05),
            skew,
            sleeps: dice.random_bool(0.3),
            holds: on_exhausted == "hold",
            fails: on_exhausted == "fail",
            people: dice.random_range(1..=4),
            policy: json!({"chains": chains, "on_exhausted": on_exhausted, "hedge": hedge}),
            names,
        }
    }
}

/// What one seed came to.
#[derive(Default)]
struct Outcome {
    violations: Vec<String>,
    turns: u64,
    requests: u64,
    upstream: u64,
    faults: u64,
    aborts: u64,
    visible_errors: u64,
    moves: u64,
    trace: String,
}

/// Runs many seeds.
pub(crate) fn run(seeds: Option<u64>) -> anyhow::Result<()> {
    let seeds = seeds.unwrap_or(SEEDS);
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let total: Mutex<Outcome> = Mutex::default();
    let failed: Mutex<Vec<u64>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = one(seed);
                    if !outcome.violations.is_empty() {
                        failed.lock().expect("nobody panics with the lock").push(seed);
                        report(seed, &outcome.violations);
                    }
                    add(&mut total.lock().expect("nobody panics with the lock"), outcome);
                }
            });
        }
    });
    let total = total.into_inner().expect("nobody panics with the lock");
    let failed = failed.into_inner().expect("nobody panics with the lock");
    println!(
        "sim: {seeds} seeds, {} turns, {} requests of clients, {} upstream, {} faults met, {} aborts, {} violations of I1-I16, \
         client-visible errors while a healthy profile is left: {}, {} moves, silent ones: {}, {} seeds failed, {:.1} s",
        total.turns,
        total.requests,
        total.upstream,
        total.faults,
        total.aborts,
        total.violations.len(),
        total.visible_errors,
        total.moves,
        total.violations.iter().filter(|violation| violation.starts_with("I13")).count(),
        failed.len(),
        begun.elapsed().as_secs_f64()
    );
    ensure!(failed.is_empty(), "{} seeds failed", failed.len());
    ensure!(seeds < SEEDS || total.requests >= FEWEST_REQUESTS, "{} requests are too few to say that no move is silent", total.requests);
    Ok(())
}

fn report(seed: u64, violations: &[String]) {
    for violation in violations.iter().take(3) {
        println!("FAILED seed {seed}: {violation}");
    }
    println!("       replay: cargo xtask sim --seed {seed}");
}

/// Runs one seed and shows everything that happened in it.
pub(crate) fn replay(seed: u64) -> anyhow::Result<()> {
    let outcome = live(seed, true);
    println!("{}", outcome.trace);
    report(seed, &outcome.violations);
    ensure!(outcome.violations.is_empty(), "seed {seed} failed");
    Ok(())
}

/// One seed; now and then twice, to see that nothing but the seed decides.
fn one(seed: u64) -> Outcome {
    if !seed.is_multiple_of(TWICE_EVERY) {
        return live(seed, false);
    }
    let (mut first, second) = (live(seed, true), live(seed, true));
    if first.trace != second.trace {
        let at = first.trace.lines().zip(second.trace.lines()).position(|(one, other)| one != other);
        first.violations.push(format!("two runs of the seed differ, first in line {at:?} of the trace"));
    }
    first
}

fn add(total: &mut Outcome, one: Outcome) {
    total.violations.extend(one.violations);
    total.turns += one.turns;
    total.requests += one.requests;
    total.upstream += one.upstream;
    total.faults += one.faults;
    total.aborts += one.aborts;
    total.visible_errors += one.visible_errors;
    total.moves += one.moves;
}

fn live(seed: u64, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let lived = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(days(seed, traced)));
    lived.unwrap_or_else(|error| Outcome { violations: vec![format!("the world does not begin: {error:#}")], ..Outcome::default() })
}

async fn days(seed: u64, traced: bool) -> anyhow::Result<Outcome> {
    let scene = Arc::new(Scene::of_seed(seed));
    let sky = Arc::new(Sky::new(&scene));
    let profile = |name: &'static str| Profile {
        login: scene.login && name == scene.names[0],
        ..Profile::new(name, weather::play(name, &scene, &sky))
    };
    let profiles = scene.names.iter().map(|name| profile(name)).collect();
    let ledger = seed.is_multiple_of(LEDGER_EVERY).then(tempfile::tempdir).transpose()?;
    let folder = ledger.as_ref().map(|folder| folder.path().to_owned());
    let world = Arc::new(World::in_memory(&Plan { profiles, policy: scene.policy.clone(), seed, traced, ledger: folder.clone() })?);
    let diary = Arc::new(Diary::default());
    let weather = tokio::spawn(weather::change(world.clone(), scene.clone(), sky.clone(), seed));
    let listener = silence::Listener::default();
    let listening = tokio::spawn(listener.clone().listen(world.gateway.clone()));
    let mut people = tokio::task::JoinSet::new();
    for number in 0..scene.people {
        people.spawn(people::live(world.clone(), scene.clone(), diary.clone(), seed, number));
    }
    let lived = tokio::time::timeout(LONGEST, async { while people.join_next().await.is_some() {} }).await;
    weather.abort();
    silence::Listener::wait_for_counts().await;
    listening.abort();
    let mut violations = invariants::check(&world, &scene, &sky, &diary);
    let (moves, silent) = listener.check(&scene, &world.told());
    violations.extend(silent);
    violations.extend(blocks::check(&scene, &world.told()));
    violations.extend(agreement::check(&world, folder.as_deref()).await);
    if lived.is_err() {
        violations.push("somebody waits for ever".into());
    }
    let counts = diary.counts();
    Ok(Outcome {
        violations,
        turns: counts.turns,
        requests: counts.requests,
        aborts: counts.aborts,
        visible_errors: counts.visible_errors,
        upstream: world.providers.values().map(|provider| provider.requests().len() as u64).sum(),
        faults: sky.faults_met(),
        moves,
        trace: world.trace.text(),
    })
}
