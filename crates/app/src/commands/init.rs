//! `hotspare init`: from what is on this machine to a proved chain, with one question. A paid profile is named before it is taken, nothing is
//! written before the answer, and a configuration that is there is edited and never replaced.

mod draw;
mod keys;
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
use hotspare_config::{BaseUrl, Config, KeyPath, Locations};
use hotspare_upstream::Keychain;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;

use crate::claude::{BASE_URL, UserSetup};
use crate::cli::{InitArgs, Layers, Target};
use crate::commands;
use crate::commands::config::edit::Subject;
use crate::destination::{self, Named};
use crate::error::{CliError, Exit};
use crate::found::{Elsewhere, Found, OwnModel};
use crate::output::{self, Look};
use crate::wiring::outward::Outward;
use crate::wiring::{Mode, receipt};
use draw::Done;
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
    /// What the free test said of each key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<keys::KeyReport>,
    /// Profiles that are found and not counted, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_counted: Vec<String>,
    /// Commands that take it back, in this order.
    undo: Vec<String>,
}

/// What is about to be done.
struct Proposal {
    chain: Vec<usize>,
    edit: Edit,
}

/// What one call works on.
struct Init<'a> {
    arguments: &'a InitArgs,
    locations: Locations,
    config: Config,
    found: Found,
    plan: Plan,
    subject: Subject,
    look: Look,
    /// Notes of `install` that were shown before the question.
    read: Vec<String>,
}

/// Runs `hotspare init`.
pub(crate) fn init(arguments: &InitArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let found = look(&locations)?;
    let layers = Layers { no_project: true, ..Layers::default() };
    let config = commands::load(&locations, &commands::context(&layers)?)?;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let current = commands::runtime()?.block_on(keys::current(&locations, &config, !arguments.no_install));
    let mut plan = Plan::of(&found, &locations.home, now, &current);
    commands::runtime()?.block_on(output::patiently("init", keys::test(&mut plan, &config, &locations)));
    let subject = Subject::open(&Target { config: None, project: false, local: false })?;
    let init = Init { arguments, locations, config, found, plan, subject, look: Look::of_stdout(), read: Vec::new() };
    init.run()
}

impl Init<'_> {
    fn run(mut self) -> Result<ExitCode, CliError> {
        if !self.arguments.json {
            output::data(&draw::found(&self.plan, self.look))?;
        }
        let proposed = self.plan.proposed();
        // Without a spare in the proposal there is a chain only where the user names one.
        let is_short = self.config.implicit && self.plan.able(&proposed) < 2;
        let cannot_ask = self.arguments.yes || self.arguments.dry_run || !stdin().is_terminal();
        if is_short && (cannot_ask || self.able() < 2) {
            return self.nothing();
        }
        let proposed = Some(proposed).filter(|_| !is_short);
        let Some(proposal) = self.agreed(proposed)? else {
            output::talk("nothing was changed");
            return Ok(ExitCode::SUCCESS);
        };
        if self.config.implicit && self.plan.able(&proposal.chain) < 2 {
            return self.nothing();
        }
        let names = self.names(&proposal.chain);
        let kept = proposal.edit.text == self.subject.text;
        if self.arguments.dry_run {
            return self.dry(&proposal, names, kept);
        }
        self.write(&proposal)?;
        let undo = if kept { Vec::new() } else { vec!["hotspare config undo".to_owned()] };
        self.finish(names, kept, undo)
    }

    /// How many of all that is listed can serve.
    fn able(&self) -> usize {
        self.plan.candidates.iter().filter(|candidate| candidate.problem.is_none()).count()
    }

    fn names(&self, chain: &[usize]) -> Vec<String> {
        chain.iter().map(|place| self.plan.candidates[*place].name.clone()).collect()
    }

    /// What would change for a chain.
    fn proposal(&self, chain: Vec<usize>) -> Result<Proposal, CliError> {
        let port = if self.arguments.no_install { None } else { wire::other_port(&self.locations, &self.config) };
        let edit = configured(&self.subject.text, &self.plan, &chain, port)?;
        self.subject.judge(&edit.text)?;
        Ok(Proposal { chain, edit })
    }

    /// Shows everything that would change, in the configuration, the keychain and Claude Code's settings. True if anything would.
    fn show(&mut self, proposal: &Proposal) -> Result<bool, CliError> {
        let is_edited = proposal.edit.text != self.subject.text;
        let keys = draw::kept_keys(&self.plan, &proposal.chain, &self.locations.state_dir, self.look);
        let mut texts = Vec::new();
        if is_edited {
            texts.push(draw::change(&self.subject.text, &proposal.edit.text, &self.subject.file, self.look));
        } else {
            texts.push(format!("\nThe configuration stays as it is: {}", self.subject.file.display()));
        }
        texts.extend(Some(keys).filter(|keys| !keys.is_empty()));
        let wired = if self.arguments.no_install { None } else { Some(wire::preview(&self.locations, &proposal.edit.text)) };
        let is_wired = matches!(&wired, Some(Ok(report)) if report.changes());
        match wired {
            Some(Ok(report)) => {
                texts.push(format!("\n{}", report.drawn(false, "Claude Code goes through hotspare already")));
                self.read = report.notes;
            }
            Some(Err(error)) => texts.push(format!("\nClaude Code will not be pointed at hotspare:\n{error}")),
            None => {}
        }
        if !self.arguments.json {
            output::data(&texts.join("\n"))?;
        }
        Ok(is_edited || is_wired)
    }

    /// The chain: as proposed with `--yes`, else as the one question is answered. `None` if the answer is no.
    fn agreed(&mut self, proposed: Option<Vec<usize>>) -> Result<Option<Proposal>, CliError> {
        let mut proposal = proposed.map(|chain| self.proposal(chain)).transpose()?;
        let is_change = match &proposal {
            Some(proposal) => self.show(proposal)?,
            None => true,
        };
        if self.arguments.yes || self.arguments.dry_run || !is_change {
            return Ok(proposal);
        }
        if !stdin().is_terminal() {
            return Err(CliError::new(Exit::Usage, "nothing was changed: stdin is no terminal, so the question cannot be asked")
                .hint("take the proposal: `hotspare init --yes`")
                .hint("only look: `hotspare init --dry-run`"));
        }
        for _ in 0..MOST_TRIES {
            // Standard error, so that stdout stays data.
            write!(stderr(), "\n{} ", draw::question(&self.plan, proposal.as_ref().map(|proposal| proposal.chain.as_slice()), self.look))?;
            stderr().flush()?;
            let mut answer = String::new();
            let mut limited = stdin().lock().take(ANSWER_CAP);
            if limited.read_line(&mut answer)? == 0 {
                return Ok(None);
            }
            match answer.trim().to_ascii_lowercase().as_str() {
                "" | "y" | "yes" if proposal.is_some() => return Ok(proposal),
                "n" | "no" | "q" | "quit" => return Ok(None),
                order => match self.plan.ordered(order) {
                    Ok(chain) => {
                        let next = self.proposal(chain)?;
                        self.show(&next)?;
                        proposal = Some(next);
                    }
                    Err(wrong) => output::talk(&format!("{wrong}: type numbers in your order, such as `2 1`, Enter, or `n`")),
                },
            }
        }
        Err(CliError::new(Exit::Usage, "no answer that could be understood; nothing was changed"))
    }

    /// Keys first: a profile whose credential could not be stored is none.
    fn write(&self, proposal: &Proposal) -> Result<(), CliError> {
        self.subject.judge(&proposal.edit.text)?;
        for candidate in proposal.chain.iter().map(|place| &self.plan.candidates[*place]) {
            keep_key(candidate)?;
        }
        if proposal.edit.text == self.subject.text { Ok(()) } else { self.subject.write(&proposal.edit) }
    }

    /// Wires in, proves, and says how to take it back.
    fn finish(&self, chain: Vec<String>, kept: bool, mut undo: Vec<String>) -> Result<ExitCode, CliError> {
        let (wired, failed) = self.wired()?;
        if wired {
            undo.insert(0, "hotspare uninstall".to_owned());
        }
        let (passed, proof) = proof::prove(&self.locations);
        let written = !kept || wired;
        if !self.arguments.json {
            output::data(&draw::done(
                &Done { passed, proof: &proof, unproved: self.plan.unproved(&chain), wired, undo: &undo },
                self.look,
            ))?;
        }
        let report = InitReport { written, wired, passed, proof: Some(proof), undo, ..self.report(chain, kept) };
        print(self.arguments, &report)?;
        Ok(failed.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.code())))
    }

    /// Whether Claude Code goes through hotspare now. What keeps it from that is reported; the configuration is good for `run` all the same.
    fn wired(&self) -> Result<(bool, Option<CliError>), CliError> {
        if self.arguments.no_install {
            return Ok((false, None));
        }
        match wire::wire(&self.locations, Mode::Write) {
            Ok(report) => {
                let outcome = report.outcome(&self.read);
                if !self.arguments.json && !outcome.is_empty() {
                    output::data(&format!("\n{outcome}"))?;
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

    fn dry(&self, proposal: &Proposal, names: Vec<String>, kept: bool) -> Result<ExitCode, CliError> {
        self.subject.judge(&proposal.edit.text)?;
        if !self.arguments.json {
            output::talk("nothing was changed (--dry-run); make it so: `hotspare init`");
        }
        print(self.arguments, &self.report(names, kept))
    }

    /// No profile could take over: said first, with three choices and what each costs.
    fn nothing(&self) -> Result<ExitCode, CliError> {
        if self.arguments.json {
            print(self.arguments, &self.report(Vec::new(), false))?;
        } else {
            output::data(&draw::choices(&self.plan, self.look))?;
        }
        Ok(ExitCode::from(Exit::Exhausted as u8))
    }

    fn report(&self, chain: Vec<String>, kept: bool) -> InitReport {
        let file = self.locations.config_file.display().to_string();
        let not_counted = self.plan.candidates.iter().filter_map(|one| Some(format!("{}: {}", one.name, one.problem.as_ref()?)));
        InitReport {
            version: INIT_VERSION,
            found: self.found.clone(),
            chain,
            file,
            kept,
            written: false,
            wired: false,
            passed: false,
            proof: None,
            keys: keys::reports(&self.plan),
            not_counted: not_counted.collect(),
            undo: Vec::new(),
        }
    }
}

fn look(locations: &Locations) -> Result<Found, CliError> {
    let environment: HashMap<OsString, OsString> = std::env::vars_os().collect();
    let setup = UserSetup::read(&[OsString::from("claude")], &environment, &locations.claude_settings)
        .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?
        .with_kept(Outward::kept(&locations.state_dir));
    let variable = |name: &str| std::env::var(name).ok();
    let receipt = receipt::look(&locations.state_dir)?;
    let mut named = destination::in_editors(locations, &receipt);
    named.extend(destination::in_shell_files(&locations.home, &variable));
    named.retain(|named| !named.url.is_anthropic());
    let before = || commands::client_base_url(&setup, locations).unwrap_or_default().before_install.filter(|url| !url.is_anthropic());
    let own = setup.gateway().map(|url| (url.to_owned(), destination::place_of(&setup, locations)));
    let own = own.or_else(|| Some((before()?.to_string(), "before hotspare was installed".to_owned())));
    let mut found = Found::look(locations, &variable, own.as_ref().map(|(url, _)| url.as_str()));
    found.gateway_from = own.map(|(_, from)| from);
    found.models = OwnModel::of(&setup.own_models());
    // Settings outrank what an editor or a shell gives the process.
    if setup.names_in_settings(BASE_URL) {
        return Ok(found);
    }
    let is_alone = found.gateway.is_none() && found.own_login().is_none();
    if let Some(only) = named.iter().find(|named| named.is_exported).filter(|_| is_alone) {
        found.gateway = Some(only.url.to_string());
        found.gateway_from = Some(only.place(locations));
    }
    let in_use = found.gateway.as_deref().and_then(|url| BaseUrl::parse(url).ok());
    let elsewhere = |named: &Named| Elsewhere { url: named.url.to_string(), from: named.place(locations), always: named.is_exported };
    found.elsewhere = named.iter().filter(|named| in_use.as_ref() != Some(&named.url)).map(elsewhere).collect();
    Ok(found)
}

/// The text with the chain and its profiles in it; what else stands there stays.
fn configured(text: &str, plan: &Plan, chain: &[usize], port: Option<SocketAddr>) -> Result<Edit, CliError> {
    let set = |text: &str, key: &str, value: &Value| {
        let path = KeyPath::parse(key).ok_or_else(|| CliError::new(Exit::Failed, format!("`{key}` is no key of a configuration")))?;
        edit::set(text, &path, &if plan.is_edit() { draw::inline(value) } else { draw::json(value) })
            .map(|edit| edit.text)
            .map_err(|error| commands::config::edit::told(&error))
    };
    let mut whole = text.to_owned();
    if plan.is_edit() {
        for (key, value) in plan.edits(chain) {
            whole = set(&whole, &key, &value)?;
        }
    } else {
        let (policy, profiles) = plan.configuration(chain);
        whole = set(&set(&whole, "failover_policy", &policy)?, "profiles", &profiles)?;
    }
    if let Some(port) = port {
        whole = set(&whole, "server.listen", &port.to_string().into())?;
    }
    Ok(edit::changed(text, whole))
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

fn print(arguments: &InitArgs, report: &InitReport) -> Result<ExitCode, CliError> {
    if arguments.json {
        let text = serde_json::to_string(report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}
