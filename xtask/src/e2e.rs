//! `cargo xtask e2e`: the real clients through the real binary, with a provider that breaks and a spare that does not. Never talks to
//! anything but this machine, once the pinned clients are fetched.

mod authority;
mod background;
mod canary;
mod cases;
mod client;
mod companies;
mod dead_service;
mod faults;
mod first_run;
mod folders;
mod full;
mod inside;
mod lab;
mod logins;
mod plugin;
mod presence;
mod renewal;
mod sdk;
mod systemd;
mod talk;
mod tui;
mod version;
mod world;

use std::pin::Pin;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use cases::{Case, Lead, Mode};
use world::Tools;

/// How the client is used, in the order of the report.
const MODES: [Mode; 2] = [Mode::Print, Mode::Interactive];

const USAGE: &str = "\
  --bin PATH        test this binary; build none
  --dev             build and test the unoptimised binary
  --client VERSION  use this version of Claude Code instead of the pinned one
  --direct          run the client without hotspare, to show that the cases can fail
  --mode base|full  run every case in one mode";

/// What the developer asks for.
#[derive(Debug, Default)]
struct Options<'a> {
    /// `--bin PATH`: this binary is judged, and none is built.
    binary: Option<&'a str>,
    /// `--dev`: the unoptimised build is judged. Cases that promise a time may fail with it.
    dev: bool,
    /// `--client VERSION`: this Claude Code instead of the pinned one.
    client: Option<&'a str>,
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
                "--dev" => options.dev = true,
                "--client" => options.client = Some(rest.next().context("`--client` needs a version")?),
                "--direct" => options.direct = true,
                "--mode" => {
                    options.lead = Some(match rest.next().copied() {
                        Some("base") => Lead::Base,
                        Some("full") => Lead::Full,
                        _ => bail!("`--mode` needs `base` or `full`"),
                    });
                }
                flag if flag.starts_with("--") => {
                    bail!("unknown option `{flag}`; usage: cargo xtask e2e [OPTIONS] [PART OF A CASE'S NAME]\n{USAGE}")
                }
                name => options.wanted = name,
            }
        }
        Ok(options)
    }
}

/// Runs the cases, or those whose name contains a given text; prints a line for each and `N passed, N failed`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    if args.iter().any(|argument| matches!(*argument, "--help" | "-h")) {
        println!("usage: cargo xtask e2e [OPTIONS] [PART OF A CASE'S NAME]\n{USAGE}");
        return Ok(());
    }
    let options = Options::parse(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio")?;
    let tools = Tools::fetch(&options)?;
    let is_lab = lab::is_inside()?;
    let (mut passed, mut failed) = (0_usize, 0_usize);
    let table = if is_lab { lab::table(&tools) } else { table(&tools, &options) };
    for Run { name, mode, play } in table.into_iter().filter(|run| run.is_wanted(&options)) {
        let started = Instant::now();
        let outcome = runtime.block_on(play);
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(Played::Passed) => {
                passed += 1;
                println!("ok      {name:<52} {mode:<16} {seconds:>5.1} s");
            }
            Ok(Played::Skipped(reason)) => println!("skipped {name:<52} {reason}"),
            Err(error) => {
                failed += 1;
                println!("FAILED  {name:<52} {mode:<16} {seconds:>5.1} s\n        {error:#}");
            }
        }
    }
    let has_lab = !is_lab && options.lead.is_none() && !options.direct;
    if has_lab && lab::table(&tools).iter().any(|run| run.is_wanted(&options)) {
        match lab::enter(&tools.arguments(&options))? {
            lab::Entered::Ran { passed: more_passed, failed: more_failed } => {
                passed += more_passed;
                failed += more_failed;
            }
            lab::Entered::LeftOut(reason) => println!("skipped {:<52} {reason}", "the lab, which needs namespaces"),
        }
    }
    let is_whole = options.wanted.is_empty() && has_lab;
    let canary = canary::search(tools.worlds(), is_whole);
    println!("{passed} passed, {failed} failed");
    ensure!(passed + failed > 0, "no case is named `{}`, or it cannot be run here", options.wanted);
    ensure!(failed == 0, "{failed} end-to-end cases failed");
    canary
}

/// How a run went that did not fail.
enum Played {
    Passed,
    /// This machine has not what it takes, and what that is.
    Skipped(String),
}

/// One line of the report; nothing of it happens before it is polled.
struct Run<'t> {
    name: &'static str,
    mode: &'static str,
    play: Pin<Box<dyn Future<Output = Result<Played>> + 't>>,
}

impl<'t> Run<'t> {
    fn is_wanted(&self, options: &Options<'_>) -> bool {
        format!("{} {}", self.name, self.mode).contains(options.wanted)
    }

    fn new(name: &'static str, mode: &'static str, play: impl Future<Output = Result<()>> + 't) -> Self {
        Self { name, mode, play: Box::pin(async { play.await.map(|()| Played::Passed) }) }
    }
}

/// Everything that there is for these options, in order.
fn table<'t>(tools: &'t Tools, options: &Options<'_>) -> Vec<Run<'t>> {
    let mut table = conversations(tools, options.lead.unwrap_or_default(), |_| true);
    // Without a word on it, the telling ones in full mode too.
    if options.lead.is_none() && !options.direct {
        table.extend(conversations(tools, Lead::Full, Case::tells_of_full_mode));
    }
    if options.lead != Some(Lead::Full) && !options.direct {
        table.extend(stories(tools));
    }
    table
}

/// One turn each, with a provider that breaks in one way.
fn conversations(tools: &Tools, lead: Lead, wanted: impl Fn(&Case) -> bool) -> Vec<Run<'_>> {
    let cases = cases::all().into_iter().filter(wanted);
    let both = |case: Case| MODES.map(|mode| (case.clone(), mode));
    let run = |(case, mode): (Case, Mode)| Run::new(case.name, mode.label(lead), async move { cases::run(tools, &case, mode, lead).await });
    cases.flat_map(both).map(run).collect()
}

/// What takes more than one turn, or another set-up.
fn stories(tools: &Tools) -> Vec<Run<'_>> {
    let [print, interactive] = MODES.map(|mode| mode.label(Lead::Base));
    let mut table = vec![
        Run::new(logins::NAME, print, logins::run(tools)),
        Run::new(renewal::RENEWED, print, renewal::renewed(tools)),
        Run::new(renewal::ENDED, print, renewal::ended(tools)),
        Run::new(plugin::NAME, interactive, plugin::run(tools)),
        Run::new(presence::NAME, interactive, presence::run(tools, Lead::Base)),
        Run::new(presence::NAME, Mode::Interactive.label(Lead::Full), presence::run(tools, Lead::Full)),
        Run::new(background::NAME, print, background::run(tools)),
        Run::new(first_run::NAME, print, first_run::run(tools)),
        Run::new(folders::NAME, print, folders::run(tools)),
        Run::new(folders::NAME, interactive, folders::run_interactive(tools)),
        Run::new(full::NAME, Mode::Print.label(Lead::Full), full::run(tools)),
        Run { name: systemd::NAME, mode: "", play: Box::pin(systemd::run(tools)) },
    ];
    for mode in MODES {
        table.push(Run::new(companies::NAME, mode.label(Lead::Base), companies::run(tools, mode)));
        table.push(Run::new(dead_service::TAKEN, mode.label(Lead::Base), dead_service::run_taken(tools, mode, Lead::Base)));
        table.push(Run::new(dead_service::MID_TURN, mode.label(Lead::Base), dead_service::run_mid_turn(tools, mode)));
        for lead in [Lead::Base, Lead::Full] {
            table.push(Run::new(dead_service::NAME, mode.label(lead), dead_service::run(tools, mode, lead)));
        }
    }
    table.push(Run::new(dead_service::TAKEN, Mode::Print.label(Lead::Full), dead_service::run_taken(tools, Mode::Print, Lead::Full)));
    for (mode, lead) in MODES.into_iter().flat_map(|mode| [Lead::Base, Lead::Full].map(|lead| (mode, lead))) {
        for (name, start) in [(inside::BY_RUN, inside::Start::Run), (inside::BY_INSTALL, inside::Start::Installed)] {
            table.push(Run::new(name, mode.label(lead), inside::run(tools, mode, lead, start)));
        }
    }
    table.extend(sdk::all().into_iter().map(|case| Run::new(case.name, "sdk", async move { sdk::run(tools, &case).await })));
    table
}
