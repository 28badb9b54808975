//! The deterministic fault matrix: every fault at every place, for every client and fleet, through the real proxy on a paused clock. Says what
//! each cell must come to (the tables of the design) and what it came to; never loosens one to fit the other.

mod alone;
mod cell;
mod expect;
mod report;
mod run;
mod story;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{bail, ensure};

use cell::all;
pub(crate) use cell::{Cell, Fleet, all as all_cells};
pub(crate) use run::{Verdict, judge_on_sockets};

/// Where the table is kept, from the workspace's root.
const FILE: &str = "docs/fault-matrix.md";

/// Runs the whole matrix and writes the table; with `check` only says whether it is current.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    let cells = all();
    let applicable: Vec<Cell> = cells.iter().copied().filter(|cell| cell.applies()).collect();
    let verdicts = judge(&applicable)?;
    let failed = show_failed(&verdicts);
    let errors: usize = verdicts.iter().map(|verdict| verdict.visible_errors).sum();
    let runs: usize = verdicts.iter().map(|verdict| verdict.runs).sum();
    println!(
        "matrix: {} cells, {} applicable ({runs} turns of a client), {} failed, client-visible errors while a healthy profile is left: {errors}, {:.1} s",
        cells.len(),
        applicable.len(),
        failed,
        begun.elapsed().as_secs_f64()
    );
    ensure!(failed == 0, "{failed} cells of the fault matrix failed");
    let table = report::markdown(&cells, &verdicts);
    if check {
        let kept = std::fs::read_to_string(FILE).unwrap_or_default();
        ensure!(kept == table, "`{FILE}` is not what the code does: run `cargo xtask matrix`");
    } else {
        std::fs::write(FILE, table)?;
        println!("matrix: wrote {FILE}");
    }
    Ok(())
}

/// Runs the cells whose name begins so, and writes nothing.
pub(crate) fn run_only(prefix: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    let chosen: Vec<Cell> = all().into_iter().filter(|cell| cell.applies() && cell.to_string().starts_with(prefix)).collect();
    ensure!(!chosen.is_empty(), "no cell's name begins with `{prefix}`");
    let verdicts = judge(&chosen)?;
    let failed = show_failed(&verdicts);
    println!("matrix: {} of {} cells failed, {:.1} s", failed, chosen.len(), begun.elapsed().as_secs_f64());
    ensure!(failed == 0, "{failed} cells of the fault matrix failed");
    Ok(())
}

/// Prints what failed, and counts the cells.
fn show_failed(verdicts: &[Verdict]) -> usize {
    let failed: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.failures.is_empty()).collect();
    for verdict in &failed {
        for failure in verdict.failures.iter().take(3) {
            println!("FAILED {}: {failure}", verdict.cell);
        }
        println!("       replay: cargo xtask matrix --cell {}", verdict.cell);
    }
    failed.len()
}

/// Runs one cell and shows everything that happened in it.
pub(crate) fn replay(name: &str) -> anyhow::Result<()> {
    let Some(cell) = all().into_iter().find(|cell| cell.to_string() == name) else {
        bail!("there is no cell `{name}`");
    };
    let verdict = run::judge(cell, true)?;
    println!("{}", verdict.trace);
    for failure in &verdict.failures {
        println!("FAILED: {failure}");
    }
    ensure!(verdict.failures.is_empty(), "`{name}` failed");
    println!("{name}: as it must be: {:?}", verdict.outcomes);
    Ok(())
}

fn judge(cells: &[Cell]) -> anyhow::Result<Vec<Verdict>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, anyhow::Result<Verdict>)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cell) = cells.get(at) else { return };
                    let verdict = run::judge(*cell, false);
                    done.lock().expect("no judge panics with the lock").push((at, verdict));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no judge panics with the lock");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, verdict)| verdict).collect()
}
