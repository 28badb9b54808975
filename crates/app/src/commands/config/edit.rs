//! `config set`, `unset`, `undo` and `edit`: a change is judged with everything that lies over and under it before a byte is written. Never
//! keeps a copy of what may be a credential.

use std::fs;
use std::io::{self, IsTerminal, Write, stderr, stdin};
use std::path::{Path, PathBuf};
use std::process::Command;

use hotspare_config::edit::{self, Edit, EditError, Undo};
use hotspare_config::{Config, Context, Errors, KeyPath, Layer, Locations, Origin, Severity, explain, inspect, replace};
use serde::{Deserialize, Serialize};

use super::{key as parsed, order, unknown};
use crate::cli::{Layers, Target};
use crate::commands;
use crate::error::{CliError, Exit};
use crate::{output, state};

/// The file of the state folder that takes the last change back.
const RECEIPT: &str = "last-edit.json";

/// The version of its shape.
const VERSION: u32 = 1;

/// Most texts that are tried in one `config edit`.
const MOST_TRIES: usize = 20;

/// What takes the last change back.
#[derive(Serialize, Deserialize)]
struct Receipt {
    version: u32,
    file: PathBuf,
    digest: String,
    from: usize,
    to: usize,
    taken_out: String,
}

/// One file that is to be changed.
pub(crate) struct Subject {
    pub(crate) locations: Locations,
    context: Context,
    pub(crate) file: PathBuf,
    layer: Layer,
    pub(crate) text: String,
}

impl Subject {
    pub(crate) fn open(target: &Target) -> Result<Self, CliError> {
        let locations = commands::locations(target.config.clone())?;
        let context = commands::context(&Layers::default())?;
        let (file, layer) = if target.project || target.local {
            let folder = std::env::current_dir()?.canonicalize()?;
            let name = if target.local { "config.local.json" } else { "config.json" };
            (folder.join(".hotspare").join(name), if target.local { Layer::LocalProject } else { Layer::Project })
        } else {
            (locations.config_file.clone(), locations.named_in.unwrap_or(Layer::User))
        };
        let text = read(&file)?;
        Ok(Self { locations, context, file, layer, text })
    }

    /// Judges the text as it would be, with all other layers.
    pub(crate) fn judge(&self, text: &str) -> Result<Config, CliError> {
        self.with(text).map_err(|errors| commands::invalid(&errors).hint("nothing was changed"))
    }

    /// What would be wrong with the text.
    pub(crate) fn faults(&self, text: &str) -> Option<Errors> {
        self.with(text).err()
    }

    fn with(&self, text: &str) -> Result<Config, Errors> {
        let context = self.context.clone().with_text(&self.file, text);
        hotspare_config::load(&self.locations, &context).map_err(|Errors(mut found)| {
            found.retain(|diagnostic| diagnostic.severity == Severity::Error);
            Errors(found)
        })
    }

    pub(crate) fn write(&self, edit: &Edit) -> Result<(), CliError> {
        let after = self.judge(&edit.text)?;
        let before = self.with(&self.text).ok();
        replace(&self.file, &self.text, &edit.text).map_err(|error| failed(&self.file, &error))?;
        self.keep(&edit.undo);
        if let Some(words) = before.and_then(|before| order::change(&before, &after))
            && state::instances(&self.locations.state_dir).iter().any(state::Instance::serves_all)
        {
            output::talk(&format!("  {words}"));
        }
        Ok(())
    }

    /// A full disk is no reason to take the change back.
    fn keep(&self, undo: &Undo) {
        let file = self.locations.state_dir.join(RECEIPT);
        let _ = fs::remove_file(&file);
        let Ok(path) = self.file.canonicalize() else { return };
        if undo.is_delicate {
            return;
        }
        let receipt = Receipt {
            version: VERSION,
            file: path,
            digest: undo.digest.clone(),
            from: undo.put_in.start,
            to: undo.put_in.end,
            taken_out: undo.taken_out.clone(),
        };
        let kept = serde_json::to_string(&receipt).map_err(io::Error::other).and_then(|text| state::write_private(&file, text.as_bytes()));
        if let Err(error) = kept {
            output::talk(&format!("  `hotspare config undo` will not work: {error}"));
        }
    }

    /// What else a person must know of a change that was made.
    pub(crate) fn told(&self, undo: &Undo, key: Option<&KeyPath>) {
        if undo.is_delicate {
            output::talk("  no undo is kept: what was replaced may be a credential");
        } else {
            output::talk("  undo: `hotspare config undo`");
        }
        if matches!(self.layer, Layer::Project | Layer::LocalProject) {
            output::talk("  the project's file is another text now: what needs trust needs `hotspare trust` again");
        }
        let Some(key) = key else { return };
        let origin = inspect(&self.locations, &self.context).ok().and_then(|inspection| inspection.origin(key).cloned());
        if let Some(Origin::Text { layer, place, line, .. }) = origin
            && layer > self.layer
        {
            output::talk(&format!("  it has no effect now: {}:{line} ({layer}) has the last word", place.display()));
        }
    }
}

fn read(file: &Path) -> Result<String, CliError> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        outcome => outcome.map_err(|error| failed(file, &error)),
    }
}

fn failed(file: &Path, error: &io::Error) -> CliError {
    CliError::new(Exit::Failed, format!("`{}`: {error}", file.display()))
}

/// Sets a key.
pub(crate) fn set(key: &str, value: &str, target: &Target) -> Result<(), CliError> {
    let key = parsed(key)?;
    explain(&key).map_err(|meant| unknown(&key, meant.as_ref()))?;
    let value = edit::value_text(value);
    if edit::is_credential(&key, &value) {
        return Err(CliError::new(Exit::Failed, "a credential on the command line can be read by every user of this machine")
            .hint(r#"name where it comes from: `hotspare config set profiles.NAME.auth '{"env":"NAME_OF_A_VARIABLE"}'`"#)
            .hint("or write it into the file: `hotspare config edit`"));
    }
    let subject = Subject::open(target)?;
    let change = edit::set(&subject.text, &key, &value).map_err(|error| told(&error))?;
    if change.text == subject.text {
        output::talk(&format!("`{key}` is that already in {}", subject.file.display()));
        return Ok(());
    }
    subject.write(&change)?;
    output::data(&format!("set {key} in {}", subject.file.display()))?;
    subject.told(&change.undo, Some(&key));
    Ok(())
}

/// Removes a key.
pub(crate) fn unset(key: &str, target: &Target) -> Result<(), CliError> {
    let key = parsed(key)?;
    let subject = Subject::open(target)?;
    let change = edit::unset(&subject.text, &key).map_err(|error| told(&error))?;
    subject.write(&change)?;
    output::data(&format!("removed {key} from {}", subject.file.display()))?;
    subject.told(&change.undo, None);
    Ok(())
}

pub(crate) fn told(error: &EditError) -> CliError {
    match error {
        EditError::Broken(errors) | EditError::Value(errors) => commands::invalid(errors).hint("nothing was changed"),
        other => CliError::new(Exit::Failed, other.to_string()).hint("nothing was changed"),
    }
}

/// Takes the last change back.
pub(crate) fn undo() -> Result<(), CliError> {
    let nothing = || CliError::new(Exit::Failed, "there is no change to take back");
    let file = commands::locations(None)?.state_dir.join(RECEIPT);
    let receipt: Receipt = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(nothing)?;
    if receipt.version != VERSION {
        return Err(nothing());
    }
    let text = read(&receipt.file)?;
    let undo = Undo { digest: receipt.digest, put_in: receipt.from..receipt.to, taken_out: receipt.taken_out, is_delicate: false };
    let Some(before) = edit::undo(&text, &undo) else {
        return Err(CliError::new(Exit::Failed, format!("`{}` was changed since: nothing was taken back", receipt.file.display())));
    };
    // Before the change there was no file: an empty one would be a fault.
    let back = if before.is_empty() { fs::remove_file(&receipt.file) } else { replace(&receipt.file, &text, &before) };
    back.map_err(|error| failed(&receipt.file, &error))?;
    fs::remove_file(&file)?;
    let now = if before.is_empty() { "is gone again" } else { "is as it was" };
    output::data(&format!("{} {now}", receipt.file.display()))?;
    Ok(())
}

/// Opens the editor on a copy, and puts the copy in place when it is valid.
pub(crate) fn edit(target: &Target) -> Result<(), CliError> {
    let subject = Subject::open(target)?;
    let folder = tempfile::Builder::new().prefix("hotspare-edit-").tempdir()?;
    let copy = folder.path().join("config.json");
    let start = if subject.text.is_empty() { "{\n}\n" } else { &subject.text };
    // For its owner alone: the file may hold a credential.
    state::write_private(&copy, start.as_bytes())?;
    for _ in 0..MOST_TRIES {
        open_editor(&copy)?;
        let text = read(&copy)?;
        if text == start || text == subject.text {
            output::talk("nothing was changed");
            return Ok(());
        }
        match subject.judge(&text) {
            Ok(_) => {
                let change = edit::changed(&subject.text, text);
                replace(&subject.file, &subject.text, &change.text).map_err(|error| failed(&subject.file, &error))?;
                subject.keep(&change.undo);
                output::data(&format!("changed {}", subject.file.display()))?;
                subject.told(&change.undo, None);
                return Ok(());
            }
            Err(error) if !wants_another_try(&error)? => {
                let kept = folder.keep().join("config.json");
                return Err(error.hint(format!("your text is kept in {}", kept.display())));
            }
            Err(_) => {}
        }
    }
    Err(CliError::new(Exit::Failed, "nothing was changed"))
}

fn wants_another_try(error: &CliError) -> Result<bool, CliError> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Ok(false);
    }
    output::talk(&error.to_string());
    write!(stderr(), "edit again? [Y/n] ")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(!answer.trim().to_ascii_lowercase().starts_with('n'))
}

/// `$VISUAL`, `$EDITOR`, `vi`; with its own arguments, without a shell.
fn open_editor(file: &Path) -> Result<(), CliError> {
    let named = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let line = named.unwrap_or_else(|| "vi".to_owned());
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(file).status().map_err(|error| {
        CliError::new(Exit::Failed, format!("cannot start the editor `{program}`: {error}")).hint("name one in `$EDITOR`")
    })?;
    if status.success() { Ok(()) } else { Err(CliError::new(Exit::Failed, "the editor failed; nothing was changed")) }
}
