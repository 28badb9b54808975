//! `hotspare profile remove`: one profile less in the user's file. Never takes it from under a policy without being told to.

use std::process::ExitCode;

use hotspare_config::KeyPath;
use hotspare_config::edit::{self, EditError, Mention};
use hotspare_gateway::control::unknown_profile;

use super::diff;
use crate::cli::Target;
use crate::cli::profile::RemoveArgs;
use crate::commands::config::edit::{Subject, told};
use crate::error::{CliError, Exit};
use crate::output::{self, Look};

/// Runs `hotspare profile remove`.
pub(super) fn remove(arguments: &RemoveArgs) -> Result<ExitCode, CliError> {
    let subject = Subject::open(&Target { config: arguments.config.clone(), project: false, local: false })?;
    let name = &arguments.name;
    check_known(&subject, name)?;
    let file = subject.file.display();
    let mentions = edit::mentions(&subject.text, name).map_err(|error| told(&error))?;
    if !mentions.is_empty() && !arguments.from_policy {
        return Err(CliError::new(Exit::Failed, format!("the policy asks `{name}`: {}", listed(&file.to_string(), &mentions)))
            .hint("`--from-policy` takes it out of there too; `--dry-run` shows what that changes")
            .hint("nothing was changed"));
    }
    let (change, taken_out, heir) = edit::without_profile(&subject.text, name).map_err(|error| match error {
        EditError::LastProfile(_) => CliError::new(Exit::Failed, error.to_string())
            .hint("name another first: `hotspare config set failover_policy.primary_profile NAME`")
            .hint("nothing was changed"),
        error => told(&error),
    })?;
    // Another layer may name it too: then this says so, with the place.
    subject.judge(&change.text)?;
    if arguments.dry_run {
        output::data(&diff::drawn(&subject.text, &change.text, Look::of_stdout()))?;
        output::talk("nothing was changed (--dry-run)");
        return Ok(ExitCode::SUCCESS);
    }
    subject.write(&change)?;
    output::data(&format!("removed profile {name} from {file}"))?;
    if !taken_out.is_empty() {
        output::talk(&format!("  taken out of {}", listed(&file.to_string(), &taken_out)));
    }
    if let Some(heir) = heir {
        output::talk(&format!("  `{heir}` is the primary now"));
    }
    output::talk("  its credential stays where it is");
    subject.told(&change.undo, None);
    Ok(ExitCode::SUCCESS)
}

fn check_known(subject: &Subject, name: &str) -> Result<(), CliError> {
    let profiles = KeyPath::parse("profiles").expect("a plain key");
    let names = edit::keys(&subject.text, &profiles).map_err(|error| told(&error))?;
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let file = subject.file.display();
    let words = if names.is_empty() { format!("{file} defines no profile") } else { format!("{} ({file})", unknown_profile(name, &names)) };
    Err(CliError::new(Exit::Usage, words).hint("`hotspare profile list` shows where each is defined"))
}

/// `config.json:14 (primary_profile), :16 (chains[0])`
fn listed(file: &str, mentions: &[Mention]) -> String {
    let places: Vec<String> = mentions
        .iter()
        .enumerate()
        .map(|(place, mention)| format!("{}:{} ({})", if place == 0 { file } else { "" }, mention.line, mention.key))
        .collect();
    places.join(", ")
}
