//! `cargo xtask e2e`: the real clients through the real binary, with a provider that breaks and a spare that does not. Never talks to
//! anything but this machine, once the pinned clients are fetched.

mod cases;
mod client;
mod companies;
mod dead_service;
mod faults;
mod first_run;
mod logins;
mod plugin;
mod sdk;
mod systemd;
mod talk;
mod tui;
mod world;

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use cases::{Lead, Mode};
use world::Tools;

/// What the developer asks for.
#[derive(Debug, Default)]
struct Options<'a> {
    /// `--bin PATH`: this binary is judged, and none is built.
    binary: Option<&'a str>,
    /// `--direct`: the client goes to the primary itself. Every case in which that breaks must fail then.
    direct: bool,
    /// `--mode base|full`: the client is led in this way alone, through every case. Otherwise by base URL, and through some in full mode.
    lead: Option<Lead>,
    /// Only cases whose name and mode contain this.
    wanted: &'a str,
}

impl<'a> Options<'a> {
    fn parse(args: &[&'a str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = args.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--bin" => options.binary = Some(rest.next().context("`--bin` needs a path")?),
                "--direct" => options.direct = true,
                "--mode" => {
                    options.lead = Some(match rest.next().copied() {
                        Some("base") => Lead::Base,
                        Some("full") => Lead::Full,
                        _ => bail!("`--mode` needs `base` or `full`"),
                    });
                }
                flag if flag.starts_with("--") => {
                    bail!("unknown option `{flag}`: `--bin PATH`, `--direct`, `--mode base|full`, or a part of a case's name")
                }
                name => options.wanted = name,
            }
        }
        Ok(options)
    }
}

/// Runs the cases, or those whose name contains a given text; prints a line for each and `N passed, N failed`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let Options { binary, direct, lead, wanted } = Options::parse(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio")?;
    let tools = Tools::fetch(binary, direct)?;
    let (mut passed, mut failed) = (0_usize, 0_usize);
    let mut report = |name: &str, mode: &str, started: Instant, outcome: Result<()>| {
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("ok      {name:<52} {mode:<16} {seconds:>5.1} s");
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  {name:<52} {mode:<16} {seconds:>5.1} s\n        {error:#}");
            }
        }
    };
    for case in cases::all() {
        for mode in [Mode::Print, Mode::Interactive] {
            let label = mode.label();
            if !format!("{} {label}", case.name).contains(wanted) {
                continue;
            }
            let started = Instant::now();
            report(case.name, label, started, runtime.block_on(cases::run(&tools, &case, mode, lead.unwrap_or_default())));
        }
    }
    // Without a word on it, the telling ones in full mode too.
    for case in cases::all().iter().filter(|case| lead.is_none() && !direct && case.tells_of_full_mode()) {
        for mode in [Mode::Print, Mode::Interactive] {
            let label = format!("{} full", mode.label());
            if format!("{} {label}", case.name).contains(wanted) {
                let started = Instant::now();
                report(case.name, &label, started, runtime.block_on(cases::run(&tools, case, mode, Lead::Full)));
            }
        }
    }
    if lead == Some(Lead::Full) {
        return verdict(passed, failed, wanted);
    }
    for mode in [Mode::Print, Mode::Interactive] {
        let label = mode.label();
        if !direct && format!("{} {label}", companies::NAME).contains(wanted) {
            let started = Instant::now();
            report(companies::NAME, label, started, runtime.block_on(companies::run(&tools, mode)));
        }
    }
    if !direct && format!("{} {}", logins::NAME, Mode::Print.label()).contains(wanted) {
        let started = Instant::now();
        report(logins::NAME, Mode::Print.label(), started, runtime.block_on(logins::run(&tools)));
    }
    if !direct && format!("{} {}", plugin::NAME, Mode::Interactive.label()).contains(wanted) {
        let started = Instant::now();
        report(plugin::NAME, Mode::Interactive.label(), started, runtime.block_on(plugin::run(&tools)));
    }
    if !direct && format!("{} {}", first_run::NAME, Mode::Print.label()).contains(wanted) {
        let started = Instant::now();
        report(first_run::NAME, Mode::Print.label(), started, runtime.block_on(first_run::run(&tools)));
    }
    for mode in [Mode::Print, Mode::Interactive] {
        let label = mode.label();
        if !direct && format!("{} {label}", dead_service::NAME).contains(wanted) {
            let started = Instant::now();
            report(dead_service::NAME, label, started, runtime.block_on(dead_service::run(&tools, mode)));
        }
        if !direct && format!("{} {label}", dead_service::TAKEN).contains(wanted) {
            let started = Instant::now();
            report(dead_service::TAKEN, label, started, runtime.block_on(dead_service::run_taken(&tools, mode)));
        }
    }
    if !direct && systemd::NAME.contains(wanted) {
        let started = Instant::now();
        match runtime.block_on(systemd::run(&tools.hotspare)) {
            Ok(Some(reason)) => println!("skipped {:<52} {reason}", systemd::NAME),
            outcome => report(systemd::NAME, "", started, outcome.map(|_| ())),
        }
    }
    for case in sdk::all() {
        if !direct && format!("{} sdk", case.name).contains(wanted) {
            let started = Instant::now();
            report(case.name, "sdk", started, runtime.block_on(sdk::run(&tools, &case)));
        }
    }
    verdict(passed, failed, wanted)
}

fn verdict(passed: usize, failed: usize, wanted: &str) -> Result<()> {
    println!("{passed} passed, {failed} failed");
    ensure!(passed + failed > 0, "no case is named `{wanted}`");
    ensure!(failed == 0, "{failed} end-to-end cases failed");
    Ok(())
}
