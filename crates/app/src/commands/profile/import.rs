//! `hotspare profile import`: turns what other tools, shells and other folders of Claude Code hold into profiles. Sources are only read; a key
//! stays where it is if a profile can point at it, and goes into the keychain only with the user's agreement.
//!
//! Invariant: every entry of a source is in the report, and nothing that is stored is replaced.

mod ccflare;
mod drawn;
mod litellm;
mod model;
mod names;
mod plan;
mod router;
mod settings;
mod shell;
mod sources;
mod switch;
mod tables;
mod yaml;

use std::io::{self, IsTerminal, Write, stderr, stdin};
use std::process::ExitCode;

use hotspare_config::edit::{self, Edit};
use hotspare_config::{Config, Diagnostic, Errors, KeyPath, codes};
use hotspare_upstream::{Keychain, Looked, Place};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use self::model::{Entry, KeyId, State, is_odd};
use self::plan::{Decision, Ground, NewKey, Outcome, Plan, Stored};
use self::sources::Sources;
use super::add::{inline, with_profile};
use super::diff;
use crate::cli::Target;
use crate::cli::profile::ImportArgs;
use crate::commands;
use crate::commands::config::edit::{Subject, told};
use crate::error::{CliError, Exit};
use crate::output::{self, Look};

/// Runs `hotspare profile import`.
pub(super) fn import(arguments: &ImportArgs) -> Result<ExitCode, CliError> {
    let subject = Subject::open(&Target { config: arguments.config.clone(), project: false, local: false })?;
    let home = &subject.locations.home;
    let mut sources = Sources::default();
    if arguments.paths.is_empty() {
        sources.everywhere(home);
    }
    for path in &arguments.paths {
        sources.at(&std::path::absolute(path)?, home);
    }
    // What is wrong before the import is no entry's fault.
    let config = subject.judge(if subject.text.trim().is_empty() { "{}" } else { &subject.text })?;
    let written = profile_names(&subject.text)?;
    let keychain = Keychain::of_user();
    let runtime = commands::runtime()?;
    let mut draft = Draft { subject: &subject, text: subject.text.clone(), spare: arguments.spare, keychain: &keychain, runtime: &runtime };
    let profiles = if written.is_empty() { &[][..] } else { &config.profiles[..] };
    let mut plan = Plan::new(&mut draft, home, profiles, &written, arguments.replace);
    let decisions = plan.decide(&sources.entries);
    let keys = std::mem::take(&mut plan.keys);
    let text = draft.text;
    let look = Look::of_stdout();
    let report = drawn::report(&sources, &decisions, home, look);
    if !report.is_empty() {
        output::data(&report)?;
    }
    if text == subject.text {
        output::talk("nothing to import");
        return Ok(ExitCode::SUCCESS);
    }
    let change = edit::changed(&subject.text, text);
    if arguments.dry_run {
        output::data(&diff::drawn(&subject.text, &change.text, look))?;
        output::talk("nothing was changed (--dry-run)");
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes && !agreed(&subject)? {
        return Err(CliError::new(Exit::Failed, "nothing was changed").hint("`--dry-run` shows what would change; `--yes` agrees to it"));
    }
    let config = subject.judge(&change.text)?;
    let kept = store(&keychain, &runtime, keys)?;
    if let Err(error) = subject.write(&change) {
        return Err(taken_back(&keychain, &runtime, &kept, error));
    }
    say_done(&subject, &config, &change, &decisions, &kept, arguments.spare)?;
    Ok(ExitCode::SUCCESS)
}

fn profile_names(text: &str) -> Result<Vec<String>, CliError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let profiles = KeyPath::parse("profiles").expect("a plain key");
    edit::keys(text, &profiles).map_err(|error| told(&error))
}

/// The configuration with what is imported so far, and the keychain that it is imported beside.
struct Draft<'a> {
    subject: &'a Subject,
    text: String,
    spare: bool,
    keychain: &'a Keychain,
    runtime: &'a Runtime,
}

impl Draft<'_> {
    fn take(&mut self, name: &str, text: String) -> Result<(), String> {
        match self.subject.faults(&text) {
            None => {
                self.text = text;
                Ok(())
            }
            Some(Errors(faults)) => Err(unusable(name, &faults)),
        }
    }
}

impl Ground for Draft<'_> {
    fn stored(&mut self, name: &str) -> Stored {
        match self.runtime.block_on(self.keychain.look(name)) {
            Looked::Absent => Stored::Absent,
            Looked::Held(secret) => Stored::Held(KeyId::of(&secret)),
            Looked::Occupied => Stored::Occupied,
        }
    }

    fn add(&mut self, name: &str, profile: &Map<String, Value>, entry: &Entry) -> Result<(), String> {
        let is_resting = entry.content.as_ref().is_ok_and(|provider| provider.state != State::Enabled);
        let value = format!("{}{}", comment(&entry.name), inline(&Value::Object(profile.clone())));
        let text = with_profile(&self.text, name, &value, self.spare && !is_resting).map_err(|error| error.to_string())?.text;
        self.take(name, text)
    }

    fn point(&mut self, name: &str, entry: &str) -> Result<(), String> {
        let path = KeyPath::parse(&format!("profiles.\"{name}\".auth.keychain")).ok_or_else(|| format!("`{name}` is no profile's name"))?;
        let is_here = edit::line_of(&self.text, &path).ok().flatten().is_some();
        if !is_here {
            return Err(format!("has a key for `{name}`, which another file defines"));
        }
        let text = edit::set(&self.text, &path, &Value::from(entry).to_string()).map_err(|error| error.to_string())?.text;
        self.take(name, text)
    }
}

/// A comment with the name that a person gave, where the profile's own name cannot say it.
fn comment(name: &str) -> String {
    if name.is_ascii() {
        return String::new();
    }
    let name: String = name.chars().map(|char| if is_odd(char) { ' ' } else { char }).collect();
    format!("/* {} */ ", name.trim().replace("*/", "* /"))
}

/// Why what was found makes no valid profile, and how to make one.
fn unusable(name: &str, faults: &[Diagnostic]) -> String {
    let first = faults.first();
    if first.is_some_and(|fault| fault.code == codes::OWN_LISTENER.id) {
        return "goes to hotspare itself: nothing to import".to_owned();
    }
    let title = first.map_or("it would make no valid profile", |fault| fault.title.as_str());
    let help = first.and_then(|fault| fault.help.first()).map(|help| format!(": {help}")).unwrap_or_default();
    format!("makes no valid profile: {title}{help}; add it by hand: `hotspare profile add {name} …`")
}

/// A credential that was stored.
struct Kept {
    key: NewKey,
    place: Place,
}

/// Stores all credentials, or none.
fn store(keychain: &Keychain, runtime: &Runtime, keys: Vec<NewKey>) -> Result<Vec<Kept>, CliError> {
    let mut kept = Vec::new();
    for key in keys {
        match runtime.block_on(keychain.add(&key.entry, &key.secret)) {
            Ok(place) => kept.push(Kept { key, place }),
            Err(error) => {
                let error = CliError::new(Exit::Failed, format!("the key `{}` cannot be stored: {error}", key.entry));
                return Err(taken_back(keychain, runtime, &kept, error));
            }
        }
    }
    Ok(kept)
}

/// Removes the credentials that were stored before something failed.
fn taken_back(keychain: &Keychain, runtime: &Runtime, kept: &[Kept], error: CliError) -> CliError {
    let left: Vec<&str> = kept
        .iter()
        .filter(|kept| runtime.block_on(keychain.take_back(&kept.key.entry, &kept.key.secret, &kept.place)).is_err())
        .map(|kept| kept.key.entry.as_str())
        .collect();
    if left.is_empty() {
        return error.hint("nothing was imported: configuration and keychain are as they were");
    }
    error.hint(format!("the configuration is as it was; left in the keychain, and unused: {}", left.join(", ")))
}

fn say_done(subject: &Subject, config: &Config, change: &Edit, decisions: &[Decision], kept: &[Kept], spare: bool) -> Result<(), CliError> {
    for kept in kept {
        let place = match &kept.place {
            Place::System(program) => format!("in the system's keychain (by {program})"),
            Place::File(file) => format!("in {} (mode 0600: there is no keychain here)", file.display()),
        };
        output::talk(&format!("  key `{}` is kept {place}", kept.key.entry));
    }
    let names: Vec<&str> = decisions
        .iter()
        .filter_map(|decision| match &decision.outcome {
            Outcome::Imported { name, .. } | Outcome::Replaced { name, .. } => Some(name.as_str()),
            Outcome::Merged { .. } | Outcome::Skipped { .. } => None,
        })
        .collect();
    output::data(&format!(
        "imported {} into {}",
        crate::words::several(names.len() as u64, "profile", "profiles"),
        subject.file.display()
    ))?;
    super::add::tell_warnings(config, &names);
    subject.told(&change.undo, None);
    if spare {
        output::talk(&format!("  chain: {}", commands::chain_line(config)));
    } else if decisions.iter().any(|decision| matches!(decision.outcome, Outcome::Imported { .. })) {
        output::talk("  no chain asks them yet: name them in `failover_policy.secondary_profile` (`hotspare config edit`),");
        output::talk("  or `hotspare config undo` and import them with `--spare`");
    }
    output::talk("  prove each: `hotspare profile test NAME`");
    Ok(())
}

fn agreed(subject: &Subject) -> io::Result<bool> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Ok(false);
    }
    write!(stderr(), "change {} so? [y/N] ", subject.file.display())?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_ascii_lowercase().starts_with('y'))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn key(entry: &str) -> NewKey {
        NewKey { entry: entry.to_owned(), secret: SecretString::from(format!("sk-\"test\"-{entry}")) }
    }

    #[test]
    fn store_takes_back_all_keys_where_one_fails() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keychain = Keychain::in_folder(folder.path());
        let runtime = commands::runtime().expect("a runtime");
        let names = || std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
        assert_eq!(store(&keychain, &runtime, vec![key("mine")]).expect("stored").len(), 1);
        // A name that no keychain takes, and one that is taken.
        for last in ["../x", "mine"] {
            let error = store(&keychain, &runtime, vec![key("a"), key("b"), key(last)]).err().expect("one fails");
            assert!(error.to_string().contains(&format!("the key `{last}` cannot be stored")), "{error}");
            assert_eq!(names(), ["mine"], "{last}");
        }
    }

    #[test]
    fn comment_keeps_a_name_and_ends_where_it_should() {
        assert_eq!([comment("GLM"), comment("智谱 */ x\n"), comment("é\u{202e}")], ["", "/* 智谱 * / x */ ", "/* é */ "]);
    }
}
