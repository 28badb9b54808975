//! Runs the project's own tasks: `cargo xtask ci`, `e2e`, `bench`, `schema`. Decides which task; never does the work itself.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the developer who runs it")]

mod bench;
mod ci;
mod e2e;
mod schema;
mod workspace;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND

  ci                what must hold before a change lands, in order, stopping at the first failure
  e2e [ARGS]        the real clients through the real binary, with broken providers; `--client VERSION` takes
                    another Claude Code than the pinned one, `--help` prints all options
  bench [OPTIONS]   what hotspare costs, beside nginx and no proxy at all (not part of ci)
                    --quick · --only latency|memory|hop|commands · --without hotspare|nginx · --hotspare BINARY (another build)
  matrix [--check]  every fault at every place on a paused clock; writes docs/fault-matrix.md, or says whether it is
                    up to date; `--cell NAME` runs one cell and shows all that happens in it, `--only PREFIX` runs those
                    whose name begins so and writes nothing
  sim               1,000 simulated days from as many seeds, with the design's invariants checked;
                    `--seeds COUNT`, or `--seed SEED` for one day with all that happens in it
  sockets           the matrix's cells that real sockets can play, and providers stopped or killed as processes
  soak --minutes N  the real binary, 50 streams, a fault every 2 s: errors, leaks, memory, ledger; `--dev` takes the
                    unoptimised build
  schema [--check]  write docs/*.schema.json, or say whether they are up to date
  help              this text
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["ci"] => ci::run(),
        ["e2e", options @ ..] => e2e::run(options),
        ["bench", options @ ..] => bench::run(options),
        ["bench-upstream"] => bench::upstream::serve(),
        ["matrix" | "sim" | "sockets", ..] => workspace::proof(&args),
        ["soak", "--minutes", minutes] => soak(minutes, true),
        ["soak", "--minutes", minutes, "--dev"] => soak(minutes, false),
        ["schema"] => schema::write(),
        ["schema", "--check"] => schema::check(),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak(minutes: &str, release: bool) -> anyhow::Result<()> {
    let hotspare = workspace::hotspare(release)?;
    workspace::proof(&["soak", minutes, &hotspare.to_string_lossy()])
}
