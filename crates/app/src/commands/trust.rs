//! `hotspare trust` and `untrust`: what the user agrees to, by the very text that was read. Never trusts what is broken or was not looked
//! at: the text that is shown, hashed and judged is one.

use std::io::stdout;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hotspare_config::{Context, Locations, Project, TrustStore, Trusted};

use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Paint, Style};

/// Runs `hotspare trust`.
pub(crate) fn trust(folder: Option<PathBuf>) -> Result<ExitCode, CliError> {
    let (locations, context) = place(folder)?;
    // First as it would be with trust: a broken file is not pinned.
    let trusting = commands::load(&locations, &context.clone().trusting_all())?.projects;
    if trusting.is_empty() {
        return Err(CliError::new(Exit::Failed, "no project file was found").hint("it is called `.hotspare/config.json`"));
    }
    let untrusted = hotspare_config::load(&locations, &context).map(|config| config.projects).unwrap_or_default();
    let store = TrustStore::new(&locations.state_dir);
    let paint = Paint(output::colored(&stdout()));
    for project in &trusting {
        pin(&store, project)?;
        output::data(&format!("{} {}", paint.paint(Style::Green, "trusted"), project.file.display()))?;
        let before = untrusted.iter().find(|known| known.file == project.file && known.digest == project.digest);
        for refused in before.into_iter().flat_map(|known| &known.refused) {
            output::data(&format!("  now in force: {}", refused.split(" has no effect").next().unwrap_or_default()))?;
        }
    }
    output::talk("  until a file changes; undo: `hotspare untrust`");
    Ok(ExitCode::SUCCESS)
}

fn pin(store: &TrustStore, project: &Project) -> Result<(), CliError> {
    store
        .pin(&project.file, &project.digest)
        .map_err(|error| CliError::new(Exit::Failed, format!("`{}` cannot be trusted: {error}", project.file.display())))
}

/// Runs `hotspare untrust`.
pub(crate) fn untrust(folder: Option<PathBuf>) -> Result<ExitCode, CliError> {
    let (locations, context) = place(folder)?;
    let store = TrustStore::new(&locations.state_dir);
    let mut count = 0;
    // By name, not by what is in them: a file that is gone or broken is forgotten too.
    for file in hotspare_config::candidates(&locations, &context) {
        if store.unpin(&file)? {
            count += 1;
            output::data(&format!("no longer trusted {}", file.display()))?;
        }
    }
    if count == 0 {
        return Err(CliError::new(Exit::Failed, "no file of this folder is trusted"));
    }
    output::talk("  undo: `hotspare trust`");
    Ok(ExitCode::SUCCESS)
}

fn place(folder: Option<PathBuf>) -> Result<(Locations, Context), CliError> {
    let folder = match folder {
        None => std::env::current_dir()?,
        Some(folder) => canonical(&folder)?,
    };
    Ok((commands::locations(None)?, Context::new(folder).with_variables(std::env::vars_os())))
}

fn canonical(folder: &Path) -> Result<PathBuf, CliError> {
    folder.canonicalize().map_err(|error| CliError::new(Exit::Failed, format!("`{}`: {error}", folder.display())))
}

/// What `config show` says of a project's file.
pub(crate) fn words(trusted: Trusted) -> &'static str {
    match trusted {
        Trusted::Yes => "trusted",
        Trusted::No => "not trusted: narrows only",
        Trusted::Changed => "changed since it was trusted: narrows only",
    }
}
