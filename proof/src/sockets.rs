//! The same cells on real sockets: resets and orderly ends from the kernel, and providers that are stopped or killed as processes. Where the
//! machine allows it, some of them again over a network that loses packets.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hotspare_testkit::{Dial, Script, Upstream};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::{Client, Session};
use crate::faults::{self, Position, StreamFault};
use crate::matrix::{Cell, Fleet, Verdict, all_cells, judge_on_sockets};
use crate::question::{Question, Shape};
use crate::world::{Plan, Profile, World, play_well};

/// Cells that run at the same time: most of their time is waiting.
const AT_ONCE: usize = 24;

/// Longest that one turn may take.
const LONGEST: Duration = Duration::from_secs(60);

/// From a provider's last bytes to its signal.
const BEFORE_SIGNAL: Duration = Duration::from_millis(300);

/// A way to lose packets in a network of one's own.
struct Loss {
    how: &'static str,
    /// Makes it so.
    set_up: &'static str,
    /// Prints how many were lost.
    count: &'static str,
}

/// The best way first. Not every kernel has it.
const LOSSES: [Loss; 2] = [
    Loss {
        how: "loss 2% delay 5ms 2ms",
        set_up: "tc qdisc add dev lo root netem loss 2% delay 5ms 2ms",
        count: r"tc -s qdisc show dev lo | sed -n 's/.*dropped \([0-9]*\).*/\1/p'",
    },
    Loss {
        how: "loss 2%",
        set_up: "nft 'add table ip lossy; add chain ip lossy in { type filter hook input priority 0; }; \
                 add rule ip lossy in meta l4proto tcp numgen random mod 100 < 2 counter drop'",
        count: r"nft list table ip lossy | sed -n 's/.*counter packets \([0-9]*\).*/\1/p'",
    },
];

/// Every clock short, so that a stall is noticed while somebody waits for the test.
pub(crate) fn short_clocks() -> serde_json::Value {
    json!({"clocks": {"head": "3s", "first_content": "3s", "bytes_idle": "3s", "content_idle": "3s"}})
}

/// Runs all of them.
pub(crate) fn run() -> anyhow::Result<()> {
    let begun = Instant::now();
    let cells: Vec<Cell> = all_cells().into_iter().filter(|cell| is_real(*cell)).collect();
    let verdicts = runtime()?.block_on(play(&cells))?;
    let signals = runtime()?.block_on(signals())?;
    let lossy = lossy()?;
    let turns: usize = verdicts.iter().map(|verdict| verdict.runs).sum();
    let failed: Vec<String> = failures(&verdicts).into_iter().chain(signals.failures).collect();
    for failure in &failed {
        println!("FAILED {failure}");
    }
    let errors: usize = verdicts.iter().map(|verdict| verdict.visible_errors).sum::<usize>() + signals.visible_errors;
    println!(
        "sockets: {} cells ({turns} turns of a client) and {} with a provider stopped or killed, {lossy}, {} failed, \
         client-visible errors while a healthy profile is left: {errors}, {:.1} s",
        cells.len(),
        signals.cells,
        failed.len(),
        begun.elapsed().as_secs_f64()
    );
    ensure!(failed.is_empty(), "{} cells on real sockets failed", failed.len());
    Ok(())
}

/// What runs inside a network that loses packets: fewer cells, the same rules.
pub(crate) fn run_lossy() -> anyhow::Result<()> {
    let cells: Vec<Cell> = all_cells().into_iter().filter(|cell| is_real(*cell)).step_by(6).collect();
    let verdicts = runtime()?.block_on(play(&cells))?;
    let failed = failures(&verdicts);
    for failure in &failed {
        println!("FAILED {failure}");
    }
    println!("{} cells over a lossy network, {} failed", cells.len(), failed.len());
    ensure!(failed.is_empty(), "{} cells over a lossy network failed", failed.len());
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Whether real sockets can play the cell, in a time that somebody waits for.
fn is_real(cell: Cell) -> bool {
    let backup = cell.fleet() == Some(Fleet::Backup) && cell.applies();
    backup
        && match cell {
            Cell::Head { fault, .. } => matches!(fault.dial(), Dial::Works | Dial::Refused),
            Cell::Stream { fault, .. } => fault.kills() && fault != StreamFault::StallWithPings || fault == StreamFault::Oversize,
            Cell::Refusal { streaming, .. } | Cell::Label { streaming, .. } => streaming,
            Cell::Story(_) | Cell::Alone(_) => false,
        }
}

fn failures(verdicts: &[Verdict]) -> Vec<String> {
    verdicts.iter().flat_map(|verdict| verdict.failures.iter().map(|failure| format!("{} on sockets: {failure}", verdict.cell))).collect()
}

async fn play(cells: &[Cell]) -> anyhow::Result<Vec<Verdict>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for cell in cells {
        let (cell, places) = (*cell, places.clone());
        running.spawn(async move {
            let _place = places.acquire().await.expect("the semaphore is never closed");
            judge_on_sockets(cell, LONGEST).await
        });
    }
    let mut verdicts = Vec::new();
    while let Some(verdict) = running.join_next().await {
        verdicts.push(verdict.context("a cell panicked")??);
    }
    verdicts.sort_by_key(|verdict| verdict.cell.to_string());
    Ok(verdicts)
}

/// What came of providers as processes.
#[derive(Default)]
struct Signalled {
    cells: usize,
    failures: Vec<String>,
    visible_errors: usize,
}

/// A provider that runs as a process of its own; killed when dropped, stopped or not.
struct Process {
    child: Child,
    url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(signal: &str, position: Position) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["provider", signal, position.word()])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()?;
        let mut url = String::new();
        let out = child.stdout.take().context("the provider has no output")?;
        BufReader::new(out).read_line(&mut url)?;
        Ok(Self { child, url: url.trim().to_owned() })
    }
}

async fn signals() -> anyhow::Result<Signalled> {
    let mut done = Signalled::default();
    let mut running = JoinSet::new();
    for signal in ["stop", "kill"] {
        for position in [Position::AfterHead, Position::AfterPing, Position::FirstDelta, Position::MidText, Position::BeforeMessageDelta] {
            for shape in Shape::ALL {
                for client in Client::ALL {
                    done.cells += 1;
                    running.spawn(signalled(signal, position, shape, client));
                }
            }
        }
        // A few dozen processes at a time are enough.
        while let Some(ended) = running.join_next().await {
            if let Some(failure) = ended.context("a cell panicked")?? {
                done.visible_errors += 1;
                done.failures.push(failure);
            }
        }
    }
    Ok(done)
}

async fn signalled(signal: &'static str, position: Position, shape: Shape, client: Client) -> anyhow::Result<Option<String>> {
    let process = tokio::task::spawn_blocking(move || Process::start(signal, position)).await??;
    let profiles = vec![Profile { url: Some(process.url.clone()), ..Profile::new("a", play_well()) }, Profile::new("b", play_well())];
    let world = Arc::new(World::on_sockets(&Plan { profiles, policy: short_clocks(), seed: 1, traced: false, ledger: None }).await?);
    let question = Question { number: 17, shape };
    let mut session = Session::new(&world.door, client, client.word());
    let name = format!("{signal}/{}/{}/{}", position.word(), shape.word(), client.word());
    let Ok(turn) = tokio::time::timeout(LONGEST, session.ask(question, true)).await else {
        return Ok(Some(format!("{name}: the turn hangs")));
    };
    Ok(match turn.answer {
        Ok(answer) => question.is_answered_by(&answer.text, &answer.calls).err().map(|wrong| format!("{name}: {wrong}")),
        Err(error) => Some(format!("{name}: visible error: {error}")),
    })
}

/// Is a provider: answers up to a place, then stops or kills itself. Never returns but by a signal.
pub(crate) fn provider(signal: &str, position: &str) -> anyhow::Result<()> {
    let signal = match signal {
        "stop" => Signal::STOP,
        "kill" => Signal::KILL,
        other => bail!("`{other}` is no signal of ours"),
    };
    let position = Position::ALL.into_iter().find(|known| known.word() == position).context("no such place")?;
    runtime()?.block_on(async move {
        let upstream = Upstream::start_reading(move |request| {
            let Some((question, said, _)) = Question::asked_by(request) else { return Script::not_found() };
            tokio::spawn(async move {
                tokio::time::sleep(BEFORE_SIGNAL).await;
                let _ = kill_process(getpid(), signal);
            });
            let events = question.rest(&said).unwrap_or_default();
            faults::broken(&events, StreamFault::Stall, position, 0, Duration::ZERO).script
        })
        .await?;
        println!("{}", upstream.url());
        std::future::pending().await
    })
}

/// Some of the cells once more in a network of their own that loses packets; where there can be none, says why.
fn lossy() -> anyhow::Result<String> {
    let mut reasons = Vec::new();
    for Loss { how, set_up, count } in LOSSES {
        let in_namespace = |then: &str| {
            let mut command = Command::new("unshare");
            let script = format!("ip link set lo up && {set_up} && {then}");
            command.args(["--map-root-user", "--net", "sh", "-c", &script]).stdin(Stdio::null());
            command
        };
        match in_namespace("true").output() {
            Err(error) => reasons.push(format!("`unshare`: {error}")),
            Ok(output) if output.status.success() => {
                let program = std::env::current_exe()?;
                let played =
                    in_namespace(&format!("'{}' sockets --lossy && {count}", program.display())).stderr(Stdio::inherit()).output()?;
                let said = String::from_utf8_lossy(&played.stdout);
                print!("{said}");
                ensure!(played.status.success(), "cells over a lossy network ({how}) failed");
                let lost: u64 = said.lines().last().unwrap_or_default().parse().context("nobody counted what was lost")?;
                ensure!(lost > 0, "cells over a lossy network ({how}): nothing was lost");
                return Ok(format!("some again with {how} ({lost} packets lost)"));
            }
            Ok(output) => reasons.push(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("unshare failed").to_owned()),
        }
    }
    Ok(format!("none over a lossy network (this machine has none: {})", reasons.join("; ")))
}
