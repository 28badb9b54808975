//! `hotspare init`: from what is there to protected, with one question. Never takes a paid profile without naming it, never writes before
//! the answer, and says how to take everything back.

mod draw;
mod plan;
mod proof;
mod wire;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::SystemTime;

use hotspare_config::edit::{self, Edit};
use hotspare_config::{KeyPath, Locations};
use hotspare_upstream::Keychain;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;

use crate::claude::UserSetup;
use crate::cli::{InitArgs, Layers, Target};
use crate::commands;
use crate::commands::config::edit::Subject;
use crate::error::{CliError, Exit};
use crate::found::Found;
use crate::output::{self, Look};
use crate::wiring::Mode;
use plan::{Candidate, Plan};

/// The version of the JSON's shape.
const INIT_VERSION: u32 = 1;

/// Longest answer to the question, in bytes.
const ANSWER_CAP: u64 = 1024;

/// So often a wrong answer is asked again.
const MOST_TRIES: usize = 3;

/// What `init --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InitReport {
    /// The shape's version.
    version: u32,
    /// What is there.
    found: Found,
    /// The names of the chain's profiles, in order; empty where nothing can take over and nothing was written.
    chain: Vec<String>,
    /// The configuration file.
    file: String,
    /// Whether it was there already, and stays as it is.
    kept: bool,
    /// Whether anything was written.
    written: bool,
    /// Whether Claude Code goes through hotspare from now on; otherwise `hotspare run -- claude` protects a session.
    wired: bool,
    /// Whether the drill passed.
    passed: bool,
    /// What the drill showed; none: there was none.
    proof: Option<String>,
    /// Commands that take it back, in this order.
    undo: Vec<String>,
}

/// What is about to be done.
struct Proposal {
    subject: Subject,
    plan: Plan,
    chain: Vec<usize>,
    edit: Edit,
}

/// Runs `hotspare init`.
pub(crate) fn init(arguments: &InitArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let found = look(&locations)?;
    let config = commands::load(&locations, &commands::context(&Layers::default())?)?;
    if !config.implicit {
        return keep(arguments, &locations, found, &commands::chain_line(&config));
    }
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let plan = Plan::of(&found, &locations.home, now);
    let look = Look::of_stdout();
    if !arguments.json {
        output::data(&draw::found(&plan, look))?;
    }
    if plan.proposed().len() < 2 && plan.candidates.len() < 2 {
        return nothing(arguments, &locations, found, &plan);
    }
    let Some(chain) = chosen(arguments, &plan)? else {
        output::talk("nothing was changed");
        return Ok(ExitCode::SUCCESS);
    };
    if chain.len() < 2 {
        return nothing(arguments, &locations, found, &plan);
    }
    let subject = Subject::open(&Target { config: None, project: false, local: false })?;
    let port = if arguments.no_install { None } else { wire::other_port(&locations, &config) };
    let edit = configured(&subject.text, &plan, &chain, port)?;
    let proposal = Proposal { subject, plan, chain, edit };
    if !arguments.json {
        output::data(&draw::change(&proposal.subject.text, &proposal.edit.text, &proposal.subject.file, look))?;
        let keys = draw::kept_keys(&proposal.plan, &proposal.chain, &locations.state_dir, look);
        if !keys.is_empty() {
            output::data(&keys)?;
        }
    }
    if arguments.dry_run {
        return dry(arguments, &locations, found, &proposal);
    }
    write(&proposal)?;
    let names = proposal.chain.iter().map(|place| proposal.plan.candidates[*place].name.clone()).collect();
    finish(arguments, &locations, found, names, false, vec!["hotspare config undo".to_owned()])
}

fn look(locations: &Locations) -> Result<Found, CliError> {
    let environment: HashMap<OsString, OsString> = std::env::vars_os().collect();
    let setup = UserSetup::read(&[OsString::from("claude")], &environment, &locations.claude_settings)
        .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
    Ok(Found::look(locations, &|name| std::env::var(name).ok(), setup.existing_base_url()))
}

/// The chain: as proposed with `--yes`, else as the one question is answered. None: the answer is no.
fn chosen(arguments: &InitArgs, plan: &Plan) -> Result<Option<Vec<usize>>, CliError> {
    if arguments.yes || arguments.dry_run {
        return Ok(Some(plan.proposed()));
    }
    if !stdin().is_terminal() {
        return Err(CliError::new(Exit::Usage, "nobody can be asked here: stdin is no terminal")
            .hint("take the proposal: `hotspare init --yes`")
            .hint("only look: `hotspare init --dry-run`"));
    }
    for _ in 0..MOST_TRIES {
        // Standard error, so that stdout stays data.
        write!(stderr(), "\n{} ", draw::question(plan, Look::of_stdout()))?;
        stderr().flush()?;
        let mut answer = String::new();
        let mut limited = stdin().lock().take(ANSWER_CAP);
        if limited.read_line(&mut answer)? == 0 {
            return Ok(None);
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "" | "y" | "yes" => return Ok(Some(plan.proposed())),
            "n" | "no" | "q" | "quit" => return Ok(None),
            order => match plan.ordered(order) {
                Ok(chain) => return Ok(Some(chain)),
                Err(wrong) => output::talk(&format!("{wrong}: type numbers in your order, such as `2 1`, Enter, or `n`")),
            },
        }
    }
    Err(CliError::new(Exit::Usage, "no answer that could be understood; nothing was changed"))
}

/// The text with the policy and the profiles in it; what else stands there stays.
fn configured(text: &str, plan: &Plan, chain: &[usize], port: Option<SocketAddr>) -> Result<Edit, CliError> {
    let (policy, profiles) = plan.configuration(chain);
    let set = |text: &str, key: &str, value: &Value| {
        let path = KeyPath::parse(key).expect("a plain key");
        edit::set(text, &path, &draw::json(value)).map(|edit| edit.text).map_err(|error| commands::config::edit::told(&error))
    };
    let with_policy = set(text, "failover_policy", &policy)?;
    let mut whole = set(&with_policy, "profiles", &profiles)?;
    if let Some(port) = port {
        whole = set(&whole, "server.listen", &port.to_string().into())?;
    }
    Ok(edit::changed(text, whole))
}

/// Keys first: a profile whose credential could not be kept is none.
fn write(proposal: &Proposal) -> Result<(), CliError> {
    proposal.subject.judge(&proposal.edit.text)?;
    for candidate in proposal.chain.iter().map(|place| &proposal.plan.candidates[*place]) {
        keep_key(candidate)?;
    }
    proposal.subject.write(&proposal.edit)
}

/// A service does not see the shell's variables: the key is kept where every hotspare of this user finds it.
fn keep_key(candidate: &Candidate) -> Result<(), CliError> {
    let Some(variable) = &candidate.key_of else { return Ok(()) };
    let value = std::env::var(variable).map_err(|_| CliError::new(Exit::LoginNeeded, format!("`{variable}` is not readable any more")))?;
    let secret = SecretString::from(value.trim().to_owned());
    Keychain::of_user()
        .keep(&candidate.name, &secret)
        .map_err(|error| CliError::new(Exit::Failed, format!("the key of `{variable}` cannot be kept: {error}")))
}

/// There is a configuration: it stays, and what is missing around it is done.
fn keep(arguments: &InitArgs, locations: &Locations, found: Found, chain: &str) -> Result<ExitCode, CliError> {
    if !arguments.json {
        output::data(&format!(
            "A configuration is there already and stays as it is: {}\n  chain  {chain}",
            locations.config_file.display()
        ))?;
    }
    let names = chain.split(" → ").map(str::to_owned).collect();
    if arguments.dry_run {
        return report(arguments, &InitReport::of(locations, found, names, true));
    }
    finish(arguments, locations, found, names, true, Vec::new())
}

/// Wires in, proves, and says how to take it back.
fn finish(
    arguments: &InitArgs,
    locations: &Locations,
    found: Found,
    chain: Vec<String>,
    kept: bool,
    mut undo: Vec<String>,
) -> Result<ExitCode, CliError> {
    let (wired, failed) = wired(arguments, locations)?;
    if wired {
        undo.insert(0, "hotspare uninstall".to_owned());
    }
    let (passed, proof) = proof::prove(locations);
    let written = !kept || wired;
    if !arguments.json {
        output::data(&draw::done(passed, &proof, wired, &undo, Look::of_stdout()))?;
    }
    let report = InitReport { written, wired, passed, proof: Some(proof), undo, ..InitReport::of(locations, found, chain, kept) };
    self::report(arguments, &report)?;
    Ok(failed.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.code())))
}

/// Whether Claude Code goes through hotspare now. What keeps it from that is told; the configuration is good for `run` all the same.
fn wired(arguments: &InitArgs, locations: &Locations) -> Result<(bool, Option<CliError>), CliError> {
    if arguments.no_install {
        return Ok((false, None));
    }
    match wire::wire(locations, Mode::Write) {
        Ok(report) => {
            if !arguments.json {
                output::data(&format!("\n{}", report.drawn(false, "Claude Code goes through hotspare already")))?;
            }
            Ok((true, None))
        }
        Err(error) => {
            output::talk(&error.to_string());
            output::talk("  Claude Code is not wired in: `hotspare install` tries again");
            Ok((false, Some(error)))
        }
    }
}

fn dry(arguments: &InitArgs, locations: &Locations, found: Found, proposal: &Proposal) -> Result<ExitCode, CliError> {
    proposal.subject.judge(&proposal.edit.text)?;
    let names = proposal.chain.iter().map(|place| proposal.plan.candidates[*place].name.clone()).collect();
    // With a gateway in use what is wired depends on the configuration that is not written yet.
    if !arguments.json
        && !arguments.no_install
        && found.gateway.is_none()
        && let Ok(report) = wire::wire(locations, Mode::DryRun)
    {
        output::data(&format!("\n{}", report.drawn(false, "Claude Code goes through hotspare already")))?;
    }
    if !arguments.json {
        output::talk("nothing was changed (--dry-run); make it so: `hotspare init`");
    }
    report(arguments, &InitReport::of(locations, found, names, false))
}

/// Nobody could take over: said first, with three choices and what each costs.
fn nothing(arguments: &InitArgs, locations: &Locations, found: Found, plan: &Plan) -> Result<ExitCode, CliError> {
    if arguments.json {
        report(arguments, &InitReport::of(locations, found, Vec::new(), false))?;
    } else {
        output::data(&draw::choices(plan, Look::of_stdout()))?;
    }
    Ok(ExitCode::from(Exit::Exhausted as u8))
}

fn report(arguments: &InitArgs, report: &InitReport) -> Result<ExitCode, CliError> {
    if arguments.json {
        let text = serde_json::to_string(report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl InitReport {
    fn of(locations: &Locations, found: Found, chain: Vec<String>, kept: bool) -> Self {
        let file = locations.config_file.display().to_string();
        Self { version: INIT_VERSION, found, chain, file, kept, written: false, wired: false, passed: false, proof: None, undo: Vec::new() }
    }
}
