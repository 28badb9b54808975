//! Proves the proxy's promises by numbers: the fault matrix, the simulation, real sockets, the soak. Started by `cargo xtask`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the developer who runs it")]

mod client;
mod dates;
mod faults;
mod labels;
mod matrix;
mod question;
mod reading;
mod refusals;
mod sim;
mod soak;
mod sockets;
mod trace;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["matrix"] => matrix::run(false),
        ["matrix", "--check"] => matrix::run(true),
        ["matrix", "--cell", name] => matrix::replay(name),
        ["matrix", "--only", prefix] => matrix::run_only(prefix),
        ["sim"] => sim::run(None),
        ["sim", "--seeds", count] if count.parse::<u64>().is_ok() => sim::run(count.parse().ok()),
        ["sim", "--seed", seed] if seed.parse::<u64>().is_ok() => sim::replay(seed.parse().unwrap_or_default()),
        ["soak", minutes, hotspare] if minutes.parse::<u64>().is_ok() => soak::run(minutes.parse().unwrap_or(1), hotspare.as_ref()),
        ["sockets"] => sockets::run(),
        ["sockets", "--lossy"] => sockets::run_lossy(),
        ["provider", signal, position] => sockets::provider(signal, position),
        _ => {
            eprintln!("usage: cargo xtask matrix [--check | --cell NAME | --only PREFIX]");
            eprintln!("       cargo xtask sim [--seeds COUNT | --seed SEED]");
            eprintln!("       cargo xtask sockets");
            eprintln!("       cargo xtask soak --minutes MINUTES [--dev]");
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
