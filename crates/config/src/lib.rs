//! Reads configuration and says what is wrong with it, where. Never prints, never fetches a credential, and changes a file only where it
//! is asked to.
//!
//! A text goes through these hands: `source` reads it, `tree` parses it, `layers` lays all of them over each other, `reader` walks the
//! whole with types, and `compile` puts the parts together into a [`Config`] that holds the core's own types. Before it is laid over the
//! others, `locks` takes out what the administrator locked, and `narrow` what a project may not set untrusted. Every value keeps its place
//! on the way, and every fault becomes a [`Diagnostic`] with a code, a place and advice; a run shows all of them.

mod argv;
mod assign;
mod auth;
mod base_url;
mod budget;
mod chains;
mod claude;
pub mod codes;
mod compile;
mod context;
mod diagnostic;
pub mod edit;
mod effective;
mod explain;
mod fingerprint;
mod folders;
mod foreign;
mod hooks;
mod key;
mod layers;
mod lenient;
mod locations;
mod locks;
mod log;
mod lookup;
mod mask;
mod narrow;
mod notify;
mod platforms;
mod policy;
mod profiles;
mod projects;
mod reader;
mod replace;
mod schema;
mod server;
mod source;
mod supports;
mod tree;
mod trust;
mod units;

use std::path::{Path, PathBuf};

pub use auth::{Auth, AuthHeader, AuthSource, CommandLimits};
pub use base_url::{BaseUrl, BaseUrlError};
pub use chains::FolderRules;
pub use compile::Config;
pub use context::{ClientBaseUrl, Context, NamedCredential, credential_digest};
pub use diagnostic::{Diagnostic, Errors, Severity};
pub use effective::{Effective, Inspection, Origin, inspect};
pub use explain::{Explained, all_keys, explain};
pub use fingerprint::Fingerprint;
pub use folders::{FOLDER_HEADER, FolderConfig, Folders, folder_from_header, folder_to_header};
pub use foreign::{Settings, json5};
pub use hooks::{HOOK_TIMEOUT, Hook, HookCall, LONGEST_HOOK_TIMEOUT};
pub use hotspare_core::{Platform, Preset};
pub use key::KeyPath;
pub use layers::Layer;
pub use lenient::{LeftOut, load_leniently};
pub use locations::Locations;
pub use log::Log;
pub use notify::Notify;
pub use platforms::stand_ins;
pub use profiles::{MAX_PROFILES, Mapped, ModelMap, Profile};
pub use projects::Project;
pub use replace::{Replacement, is_leftover, replace, target as link_target};
pub use schema::schema;
pub use server::{Children, Mode, Server};
pub use supports::Supports;
pub use trust::{TrustStore, Trusted, digest};

use compile::Setting;
use reader::Findings;
use source::Place;
use tree::Node;

/// Most diagnostics of one run.
const MOST_SHOWN: usize = 50;

/// Reads the configuration that holds in a working directory: every layer laid over the one below (see [`Layer`]).
///
/// Without any there is still a configuration: one profile, the client's own login ([`Config::implicit`]).
///
/// # Errors
///
/// Everything that is wrong in hotspare's files, in the policies of Claude Code's settings, on the command line and in the environment; a
/// file that was named and does not exist. Whatever else is wrong with Claude Code's files is a warning, and so is what a project's file
/// wants without trust.
pub fn load(locations: &Locations, context: &Context) -> Result<Config, Errors> {
    load_with_root(locations, context).map(|(config, _)| config)
}

/// The same with the merged tree, where any text has a say.
fn load_with_root(locations: &Locations, context: &Context) -> Result<(Config, Option<Node>), Errors> {
    let mut findings = Findings::default();
    let gathered = layers::gather(locations, context, &mut findings)?;
    let origin = Setting { file: &locations.config_file, home: &locations.home, cwd: context.cwd() };
    let mut config = finish(gathered.root.as_ref(), &origin, findings)?;
    config.adopt(context.client_base_url());
    config.sources = gathered.sources.into_iter().rev().collect();
    config.projects = gathered.projects;
    Ok((config, gathered.root))
}

/// A text of ours as it may be shown: every possible credential in it is masked, byte for byte as long.
pub fn masked(text: &str) -> String {
    mask::mask(text).text
}

/// Everything on disk that may have a say in this working directory, whether it exists or not.
pub fn candidates(locations: &Locations, context: &Context) -> Vec<PathBuf> {
    layers::candidates(locations, context)
}

/// Reads one file's text, as if it were all there is; `home` is what `~` stands for.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &Path, home: &Path) -> Result<Config, Errors> {
    let mut findings = Findings::default();
    let mut node = layers::tree_of(&Place::new(Layer::User, file), text, &mut findings)?;
    locks::refuse(&mut node, &mut findings);
    tree::check_appends(&node, &mut findings);
    let mut config = finish(Some(&tree::settle(node)), &Setting { file, home, cwd: Path::new("") }, findings)?;
    config.sources = vec![file.to_owned()];
    Ok(config)
}

fn finish(root: Option<&Node>, origin: &Setting<'_>, mut findings: Findings) -> Result<Config, Errors> {
    let config = match root {
        Some(root) => compile::compile(root, origin, &mut findings),
        None => Some(compile::implicit()),
    };
    match config {
        Some(mut config) if findings.errors.is_empty() => {
            in_file_order(&mut findings.warnings, origin);
            cut(&mut findings.warnings);
            config.warnings = findings.warnings;
            Ok(config)
        }
        _ => {
            in_file_order(&mut findings.errors, origin);
            in_file_order(&mut findings.warnings, origin);
            let mut found = [findings.errors, findings.warnings].concat();
            cut(&mut found);
            Err(Errors(found))
        }
    }
}

/// hotspare's own file first, and each file from top to bottom, as a person mends it.
fn in_file_order(found: &mut [Diagnostic], origin: &Setting<'_>) {
    found.sort_by_key(|diagnostic| (diagnostic.file != origin.file, diagnostic.span.as_ref().map(|span| span.start)));
}

/// Nobody reads a thousand faults, and most of them follow from the first.
fn cut(found: &mut Vec<Diagnostic>) {
    let more = found.len().saturating_sub(MOST_SHOWN);
    found.truncate(MOST_SHOWN);
    if let (1.., Some(last)) = (more, found.last_mut()) {
        last.note(format!("{more} more are not shown"));
    }
}
