//! Candidates for a shell's completion: names of profiles, faults, events, codes and keys. Reads the configuration, and reports no error: a
//! shell that completes has no place for one.

use clap_complete::CompletionCandidate;
use hotspare_core::{Fault, HookEvent};

use super::Layers;
use crate::commands;

/// Names of the configuration's profiles.
pub(crate) fn profiles() -> Vec<CompletionCandidate> {
    profile_names().into_iter().map(CompletionCandidate::new).collect()
}

/// Names of the configuration's profiles, and `auto`.
pub(crate) fn profiles_or_auto() -> Vec<CompletionCandidate> {
    let mut names = profiles();
    names.push(CompletionCandidate::new("auto").help(Some("back to the chain".into())));
    names
}

fn profile_names() -> Vec<String> {
    let load = || {
        let locations = commands::locations(None).ok()?;
        commands::load_quietly(&locations, &commands::context(&Layers::default()).ok()?).ok()
    };
    load().map(|config| config.profiles.iter().map(|profile| profile.name.to_string()).collect()).unwrap_or_default()
}

/// Faults that a drill simulates, and `all`.
pub(crate) fn faults() -> Vec<CompletionCandidate> {
    Fault::ALL.map(Fault::word).into_iter().chain(["all"]).map(CompletionCandidate::new).collect()
}

/// Events that call hooks.
pub(crate) fn events() -> Vec<CompletionCandidate> {
    HookEvent::ALL.map(HookEvent::word).into_iter().map(CompletionCandidate::new).collect()
}

/// Everything that `explain` knows, with its meaning.
pub(crate) fn codes() -> Vec<CompletionCandidate> {
    let entries = commands::explain::index();
    entries.into_iter().map(|entry| CompletionCandidate::new(entry.code).help(Some(entry.meaning.into()))).collect()
}

/// Keys of the configuration.
pub(crate) fn keys() -> Vec<CompletionCandidate> {
    hotspare_config::all_keys().into_iter().map(CompletionCandidate::new).collect()
}
