//! Reads configuration and says what is wrong with it, where. Never prints, never changes a file, never fetches a credential.
//!
//! A file goes through four hands: `source` reads it, `tree` parses it, `reader` walks it with types, and `compile` puts the parts
//! together into a [`Config`] that holds the core's own types. Every fault on the way becomes a [`Diagnostic`] with a code, a place
//! and advice; a run shows all of them.

mod auth;
mod base_url;
mod chains;
mod claude;
pub mod codes;
mod compile;
mod diagnostic;
mod locations;
mod mask;
mod policy;
mod profiles;
mod reader;
mod schema;
mod server;
mod source;
mod tree;
mod units;

use std::path::{Path, PathBuf};

pub use auth::{Auth, AuthHeader, AuthSource};
pub use base_url::{BaseUrl, BaseUrlError};
pub use compile::Config;
pub use diagnostic::{Diagnostic, Errors, Severity};
pub use locations::Locations;
pub use profiles::{Mapped, ModelMap, Platform, Profile};
pub use schema::schema;
pub use server::Server;

use compile::Origin;
use reader::Findings;
use tree::Node;

/// Most diagnostics of one run.
const MOST_SHOWN: usize = 50;

/// Reads this user's configuration: hotspare's own file, and below it the policy in Claude Code's user settings.
///
/// Without either there is still a configuration: one profile, the client's own login ([`Config::implicit`]).
///
/// # Errors
///
/// Everything that is wrong in hotspare's file and in the policy; a file that was named and does not exist. Whatever else is wrong
/// with Claude Code's file is a warning.
pub fn load(locations: &Locations) -> Result<Config, Errors> {
    let mut findings = Findings::default();
    let mut sources = Vec::new();
    let own = own_file(locations, &mut sources, &mut findings)?;
    let below = claude_settings(locations, &mut sources, &mut findings);
    let root = match (below, own) {
        (Some(below), Some(own)) => Some(tree::merge(below, own)),
        (below, own) => below.or(own),
    };
    let origin = Origin { file: &locations.config_file, home: &locations.home };
    let mut config = finish(root.as_ref(), &origin, findings)?;
    config.sources = sources;
    Ok(config)
}

/// The tree of hotspare's own file. What cannot be parsed ends the run: judging the rest without it would only mislead.
fn own_file(locations: &Locations, sources: &mut Vec<PathBuf>, findings: &mut Findings) -> Result<Option<Node>, Errors> {
    let file = &locations.config_file;
    match source::read(file)? {
        None if locations.explicit => Err(source::absent(file).into()),
        None => Ok(None),
        Some(text) => {
            sources.push(file.clone());
            Ok(Some(tree_of(&text, file, findings)?))
        }
    }
}

/// The policy in Claude Code's settings, in the place that it has in hotspare's own file.
fn claude_settings(locations: &Locations, sources: &mut Vec<PathBuf>, findings: &mut Findings) -> Option<Node> {
    match claude::policy(&locations.claude_settings) {
        Ok(policy) => {
            let (member, faults) = policy?;
            sources.push(locations.claude_settings.clone());
            findings.errors.extend(faults);
            Some(member.into_root())
        }
        Err(warning) => {
            findings.warnings.push(*warning);
            None
        }
    }
}

/// Reads one file's text, as if it were all there is; `home` is what `~` stands for.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &Path, home: &Path) -> Result<Config, Errors> {
    let mut findings = Findings::default();
    let root = tree_of(text, file, &mut findings)?;
    let mut config = finish(Some(&root), &Origin { file, home }, findings)?;
    config.sources = vec![file.to_owned()];
    Ok(config)
}

/// The tree of a text; faults that leave it readable go to the findings.
fn tree_of(text: &str, file: &Path, findings: &mut Findings) -> Result<Node, Errors> {
    let (node, faults) = tree::parse(file, text)?;
    findings.errors.extend(faults);
    Ok(node)
}

fn finish(root: Option<&Node>, origin: &Origin<'_>, mut findings: Findings) -> Result<Config, Errors> {
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
fn in_file_order(found: &mut [Diagnostic], origin: &Origin<'_>) {
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
