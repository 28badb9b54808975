//! Measures the commands that people wait for again and again: `statusline`, which Claude Code draws after each turn, and `status`. Each time a fresh
//! process, beside a service that has worked: three profiles, the first of them benched, some thousand exchanges of today in the ledger.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::body::Play;
use super::client::Connection;
use super::report::{Aim, number, table};
use super::stats::quantile;
use super::target::{Programs, Target, Upstream};

/// What the ledger holds of one day of hard work.
const EXCHANGES: usize = 4000;

/// The broken profile is asked again now and then, so that it never comes off the bench.
const RUNS_PER_REQUEST: usize = 10;

const REQUEST_SIZE: usize = 2 * 1024;

/// One command, and how long it may take.
struct Case {
    name: &'static str,
    aim: &'static str,
    quantile: f64,
    at_most: f64,
    /// What it must say: a command that is fast but says nothing is not fast.
    says: &'static str,
}

const CASES: [Case; 2] = [
    Case { name: "statusline", aim: "`statusline`, p95", quantile: 0.95, at_most: 20.0, says: "b (a 500)" },
    Case { name: "status", aim: "`status`, p50", quantile: 0.5, at_most: 50.0, says: "b" },
];

/// What a process of ours costs on this machine that does nothing.
const NOTHING: &str = "version";

/// Runs each command so many times, all of them in turn.
pub(super) fn measure(programs: &Programs, upstream: &Upstream, runs: usize, aims: &mut Vec<Aim>) -> anyhow::Result<()> {
    let program = programs.hotspare.as_ref().context("no hotspare")?;
    let service = programs.hotspare(&[upstream.failing, upstream.good, upstream.good])?;
    let mut connection = Connection::open(service.address)?;
    let mut request = service.request(Play::Plain, REQUEST_SIZE);
    for _ in 0..EXCHANGES {
        connection.ask(request.next())?;
    }
    let mut times: [Vec<f64>; CASES.len()] = Default::default();
    let mut nothing = Vec::with_capacity(runs);
    for run in 0..runs {
        if run % RUNS_PER_REQUEST == 0 {
            connection.ask(request.next())?;
        }
        for (case, times) in CASES.iter().zip(&mut times) {
            times.push(timed(program, &service, case.name, case.says)?);
        }
        nothing.push(timed(program, &service, NOTHING, "")?);
    }
    for (case, times) in CASES.iter().zip(&times) {
        let beside = format!(" (a process that does nothing: {:.2} ms)", quantile(&nothing, case.quantile));
        aims.push(Aim { measured: quantile(times, case.quantile), beside, ..Aim::new(case.aim, case.at_most, " ms") });
    }
    let row = |name: &str, times: &[f64]| [vec![name.to_owned()], [0.5, 0.95, 1.0].map(|q| number(quantile(times, q))).to_vec()].concat();
    let mut rows: Vec<_> = CASES.iter().zip(&times).map(|(case, times)| row(case.name, times)).collect();
    rows.push(row(NOTHING, &nothing));
    let title = format!("Commands (a fresh process each, {EXCHANGES} exchanges in the ledger, one of three profiles benched)");
    table(&title, &["command", "p50 ms", "p95", "max"], &rows);
    Ok(())
}

/// How long one run took, in milliseconds.
fn timed(program: &Path, service: &Target, name: &str, says: &str) -> anyhow::Result<f64> {
    let mut command = service.command(program)?;
    command.arg(name);
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("`hotspare {name}` does not start"))?;
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains(says), "`hotspare {name}` ended with {} and `{said}`", output.status);
    Ok(took.as_secs_f64() * 1000.0)
}
