//! `hotspare profile import`: turns what other tools and other folders of Claude Code hold into profiles. Reads them only; a key stays where
//! it is where that can be said in a profile, and goes into the keychain only with the user's word.

mod litellm;
mod sources;
mod yaml;

use std::io::{self, IsTerminal, Write, stderr, stdin};
use std::path::Path;
use std::process::ExitCode;

use hotspare_config::edit::{self, Edit};
use hotspare_config::{Diagnostic, Errors, KeyPath, inspect};
use serde_json::{Map, Value, json};

use self::sources::{Found, Key, Look as Looked};
use super::add::changed;
use super::{diff, list, secret};
use crate::cli::Target;
use crate::cli::profile::ImportArgs;
use crate::commands;
use crate::commands::config::edit::Subject;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};

/// Most names that are tried for one profile.
const MOST_NAMES: usize = 50;

/// A profile that would be added.
struct Candidate {
    name: String,
    profile: Map<String, Value>,
    from: String,
    /// The credential that goes into the keychain under the name.
    kept: Option<secrecy::SecretString>,
}

/// Runs `hotspare profile import`.
pub(super) fn import(arguments: &ImportArgs) -> Result<ExitCode, CliError> {
    let subject = Subject::open(&Target { config: arguments.config.clone(), project: false, local: false })?;
    let look = Look::of_stdout();
    let mut looked = Looked::default();
    if arguments.paths.is_empty() {
        looked.everywhere(&subject.locations.home);
    }
    for path in &arguments.paths {
        looked.at(&std::path::absolute(path)?, &subject.locations.home);
    }
    let (candidates, mut skipped) = candidates(&subject, looked)?;
    let mut text = subject.text.clone();
    let mut added: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let next = changed(&text, &candidate.name, &candidate.profile, arguments.spare)?.text;
        match subject.faults(&next) {
            None => {
                text = next;
                added.push(candidate);
            }
            Some(Errors(faults)) => skipped.push((candidate.from, unusable(&candidate.name, &faults))),
        }
    }
    for (from, why) in &skipped {
        // It may quote a file that comes from anywhere.
        let line = format!("skipped  {}: {why}", list::tilde(from, &subject.locations.home));
        output::talk(&line.replace(char::is_control, "?"));
    }
    if added.is_empty() {
        output::talk("nothing to import");
        return Ok(ExitCode::SUCCESS);
    }
    for candidate in &added {
        let kept = if candidate.kept.is_some() { "; its key goes into the keychain" } else { "" };
        let from = list::tilde(&candidate.from, &subject.locations.home);
        output::data(&format!("{}  from {from}{kept}", look.paint.paint(Style::Bold, &candidate.name)))?;
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
    for candidate in &added {
        if let Some(key) = &candidate.kept {
            output::talk(&format!("  the key of {} is {}", candidate.name, secret::keep(&candidate.name, key)?));
        }
    }
    written(&subject, &change, &added, arguments.spare)
}

/// Why what was found makes no valid profile, and how to make one.
fn unusable(name: &str, faults: &[Diagnostic]) -> String {
    let first = faults.first();
    let title = first.map_or("it would make no valid profile", |fault| fault.title.as_str());
    let help = first.and_then(|fault| fault.help.first()).map(|help| format!(": {help}")).unwrap_or_default();
    format!("{title}{help}; add it by hand: `hotspare profile add {name} …`")
}

fn written(subject: &Subject, change: &Edit, added: &[Candidate], spare: bool) -> Result<ExitCode, CliError> {
    let config = subject.judge(&change.text)?;
    subject.write(change)?;
    output::data(&format!(
        "imported {} into {}",
        crate::words::several(added.len() as u64, "profile", "profiles"),
        subject.file.display()
    ))?;
    let names: Vec<&str> = added.iter().map(|candidate| candidate.name.as_str()).collect();
    super::add::tell_warnings(&config, &names);
    subject.told(&change.undo, None);
    if spare {
        output::talk(&format!("  chain: {}", commands::chain_line(&config)));
    } else {
        output::talk("  no chain asks them yet: name them in `failover_policy.secondary_profile` (`hotspare config edit`),");
        output::talk("  or `hotspare config undo` and import them with `--spare`");
    }
    Ok(ExitCode::SUCCESS)
}

fn agreed(subject: &Subject) -> io::Result<bool> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Ok(false);
    }
    write!(stderr(), "add these to {}? [y/N] ", subject.file.display())?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_ascii_lowercase().starts_with('y'))
}

type Skipped = Vec<(String, String)>;

/// What was found as profiles with free names; what is there already is not added again.
fn candidates(subject: &Subject, looked: Looked) -> Result<(Vec<Candidate>, Skipped), CliError> {
    let context = commands::context(&crate::cli::Layers::default())?;
    let inspection = inspect(&subject.locations, &context).map_err(|errors| commands::invalid(&errors))?;
    let home = &subject.locations.home;
    let key = |name: &str| KeyPath::parse(&format!("profiles.\"{name}\""));
    let mut taken: Vec<(String, Value)> = Vec::new();
    let profiles = KeyPath::parse("profiles").expect("a plain key");
    for name in edit::keys(&subject.text, &profiles).map_err(|error| crate::commands::config::edit::told(&error))? {
        let mut value = key(&name).and_then(|path| inspection.get(&path)).unwrap_or_default();
        if let Some(auth) = value.get_mut("auth") {
            write_short(auth, home);
        }
        taken.push((name, value));
    }
    let mut skipped = looked.skipped;
    let mut candidates = Vec::new();
    for found in looked.found {
        let from = found.from.clone();
        let base = plain(&found.name);
        let names = (1..=MOST_NAMES).map(|number| if number == 1 { base.clone() } else { format!("{base}-{number}") });
        let mut outcome = None;
        for name in names {
            let candidate = candidate(&found, &name, home);
            let value = Value::Object(candidate.profile.clone());
            // Under whatever name.
            if let Some((known, _)) = taken.iter().find(|(_, known)| *known == value) {
                skipped.push((from.clone(), format!("`{known}` is there already")));
                break;
            }
            if taken.iter().all(|(known, _)| *known != name) {
                taken.push((name, value));
                outcome = Some(candidate);
                break;
            }
        }
        candidates.extend(outcome);
    }
    Ok((candidates, skipped))
}

/// A folder or file below home as people write it.
fn write_short(auth: &mut Value, home: &Path) {
    for key in ["claude_config_dir", "file"] {
        if let Some(path) = auth.get_mut(key)
            && let Some(text) = path.as_str()
        {
            *path = list::tilde(text, home).into();
        }
    }
}

fn candidate(found: &Found, name: &str, home: &Path) -> Candidate {
    let mut profile = found.profile.clone();
    let (mut auth, kept) = match &found.key {
        Key::Reference(auth) => (auth.clone(), None),
        Key::Literal(secret) => (json!({ "keychain": name }), Some(secret.clone())),
    };
    if let Some(header) = found.header {
        auth["header"] = header.into();
    }
    write_short(&mut auth, home);
    profile.insert("auth".to_owned(), auth);
    if !found.models.is_empty() {
        profile.insert("models".to_owned(), Value::Object(found.models.clone()));
    }
    Candidate { name: name.to_owned(), profile, from: found.from.clone(), kept }
}

/// A name as a profile may have it.
fn plain(name: &str) -> String {
    let kept: String = name
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "._-".contains(char) { char.to_ascii_lowercase() } else { '-' })
        .collect();
    let kept: String = kept.trim_matches(['-', '.', '_']).chars().take(50).collect();
    if kept.is_empty() { "imported".to_owned() } else { kept }
}
