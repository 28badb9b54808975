//! `uninstall --purge`: removes copied keys and all that was recorded, and lists what stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hotspare_config::{AuthSource, Locations};

use crate::cli::Layers;
use crate::commands;
use crate::commands::install::tilde;
use crate::error::{CliError, Exit};
use crate::state;

/// The folder of the state folder that stands for a keychain.
const KEYCHAIN: &str = "keychain";

/// Removes the state folder, which is all ours. Says what was removed and what stays.
pub(super) fn purge(locations: &Locations) -> Result<Vec<String>, CliError> {
    if let Some(instance) = state::instances(&locations.state_dir).first() {
        let words = format!("nothing was purged: process {} (`hotspare {}`) still runs", instance.pid, instance.kind);
        return Err(CliError::new(Exit::Failed, words));
    }
    let keys = entries(&locations.state_dir.join(KEYCHAIN)).len();
    // Read before the state is gone: where a key is kept stands in the configuration.
    let kept = system_keys(locations);
    match fs::remove_dir_all(&locations.state_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CliError::new(Exit::Failed, format!("`{}`: {error}", locations.state_dir.display())));
        }
        _ => {}
    }
    let copied = if keys == 1 { "1 copied key".to_owned() } else { format!("{keys} copied keys") };
    let mut told = vec![format!("removed: {} with {copied}, the ledger and the local token", tilde(locations, &locations.state_dir))];
    let folder = locations.config_file.parent().unwrap_or(&locations.config_file);
    told.extend(entries(folder).iter().map(|path| format!("stays, as it is yours: {}", tilde(locations, path))));
    told.extend(kept.iter().map(|name| format!("may stay in the operating system's keychain: the entry `{name}` of `hotspare`")));
    Ok(told)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Names that profiles look up in a keychain and that no file of ours stands for.
fn system_keys(locations: &Locations) -> Vec<String> {
    let config = commands::context(&Layers::default()).ok().and_then(|context| hotspare_config::load(locations, &context).ok());
    let profiles = config.map(|config| config.profiles).unwrap_or_default();
    let names = profiles.into_iter().filter_map(|profile| match profile.auth.source {
        AuthSource::Keychain(name) => Some(name),
        _ => None,
    });
    names.filter(|name| !locations.state_dir.join(KEYCHAIN).join(name).exists()).collect()
}
