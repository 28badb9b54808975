//! Decides which text has a say, and the order in which texts lie over each other. Never looks at what keys mean: `locks` and `narrow`
//! take out what a layer may not set, and `compile` judges the whole.

use std::fmt;
use std::path::PathBuf;

use crate::assign;
use crate::claude;
use crate::context::Context;
use crate::diagnostic::Errors;
use crate::locations::Locations;
use crate::locks;
use crate::narrow;
use crate::projects::{self, Project};
use crate::reader::Findings;
use crate::source::{self, Place};
use crate::tree::{self, Node};
use crate::trust::{TRUST_FOLDER, TrustStore};

/// Where a value comes from, from the lowest to the highest: the precedence is the order of these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The user's own file, and Claude Code's user settings below it.
    User,
    /// A project's file, shared by all who work on it, and Claude Code's project settings below it.
    Project,
    /// A project's file of this user alone, and Claude Code's local project settings below it.
    LocalProject,
    /// `HOTSPARE_*`.
    Environment,
    /// `--config` and `--set`.
    Flags,
    /// The machine's administrator's file, and Claude Code's managed settings below it.
    Managed,
}

impl Layer {
    /// Every layer, the lowest first.
    pub const ALL: [Self; 6] = [Self::User, Self::Project, Self::LocalProject, Self::Environment, Self::Flags, Self::Managed];

    /// As in `config show --json`.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
            Self::LocalProject => "local_project",
            Self::Environment => "environment",
            Self::Flags => "flags",
            Self::Managed => "managed",
        }
    }

    /// What a diagnostic says of it.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::User => "this is your own configuration",
            Self::Project => "this is the project's file; `--no-project` leaves it out",
            Self::LocalProject => "this is your file for the project; `--no-project` leaves it out",
            Self::Environment => "this comes from the environment",
            Self::Flags => "this comes from the command line",
            Self::Managed => "this comes from the administrator of this machine",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// All layers laid over each other.
pub(crate) struct Gathered {
    /// None: no text has anything to say.
    pub(crate) root: Option<Node>,
    /// The texts that had a say, the lowest first.
    pub(crate) sources: Vec<PathBuf>,
    /// The project files that were found, with what an untrusted one wanted beyond narrowing.
    pub(crate) projects: Vec<Project>,
}

/// One text's tree.
struct Part {
    place: Place,
    node: Node,
    /// Only for project files.
    project: Option<Project>,
}

/// Reads every layer and lays them over each other.
///
/// What cannot be parsed ends the run: judging the rest without it would only mislead.
pub(crate) fn gather(locations: &Locations, context: &Context, findings: &mut Findings) -> Result<Gathered, Errors> {
    let mut parts = Vec::new();
    user(locations, context, &mut parts, findings)?;
    if context.reads_projects() {
        project_files(locations, context, &mut parts, findings)?;
    }
    environment(locations, context, &mut parts, findings)?;
    flags(locations, context, &mut parts, findings)?;
    let managed_from = parts.len();
    managed(locations, context, &mut parts, findings)?;
    let locks = locks::read(parts[managed_from..].iter_mut().map(|part| &mut part.node), findings);
    let mut gathered = Gathered { root: None, sources: Vec::new(), projects: Vec::new() };
    for (index, mut part) in parts.into_iter().enumerate() {
        if index < managed_from {
            part.node = locks::enforce(part.node, &locks, findings);
        }
        lay(part, &mut gathered, findings);
    }
    Ok(gathered)
}

/// Lays one part over all that came before.
fn lay(part: Part, gathered: &mut Gathered, findings: &mut Findings) {
    let mut node = part.node;
    if let Some(mut project) = part.project {
        let mut refused = Findings::default();
        let narrowed = narrow::narrow(node, gathered.root.as_ref(), project.trusted, &mut refused);
        project.refused = refused.warnings.iter().map(|warning| warning.title.clone()).collect();
        findings.warnings.extend(refused.warnings);
        gathered.projects.push(project);
        node = narrowed;
    }
    locks::refuse(&mut node, findings);
    tree::check_appends(&node, findings);
    gathered.sources.push(part.place.path);
    gathered.root = Some(match gathered.root.take() {
        None => tree::settle(node),
        Some(below) => tree::merge(below, node),
    });
}

fn user(locations: &Locations, context: &Context, parts: &mut Vec<Part>, findings: &mut Findings) -> Result<(), Errors> {
    claude_policy(&Place::new(Layer::User, &locations.claude_settings), context, parts, findings);
    if locations.named_in.is_none() {
        own_file(&Place::new(Layer::User, &locations.config_file), context, parts, findings)?;
    }
    Ok(())
}

/// From the outermost folder to the innermost; in each folder Claude Code's settings first.
fn project_files(locations: &Locations, context: &Context, parts: &mut Vec<Part>, findings: &mut Findings) -> Result<(), Errors> {
    let trust = context.trust_store(locations);
    let folders = projects::folders(context.cwd(), &locations.home);
    for layer in [Layer::Project, Layer::LocalProject] {
        for folder in &folders {
            let files = projects::Files::of(layer, folder);
            if let Some(part) = project_claude(&files, context, &trust, findings) {
                parts.push(part);
            }
            let place = Place::new(layer, &files.own);
            let Some(text) = projects::read(folder, &files.own, context, layer, findings)? else { continue };
            let node = tree_of(&place, &text, findings)?;
            let project = Project::new(&files.own, layer, (&text, &text), &trust, findings);
            parts.push(Part { place, node, project: Some(project) });
        }
    }
    Ok(())
}

/// Only the policy is ours, so only the policy is pinned: the client writes the rest of the file all the time.
fn project_claude(files: &projects::Files, context: &Context, trust: &TrustStore, findings: &mut Findings) -> Option<Part> {
    let place = Place::new(files.layer, &files.claude);
    let text = projects::read_foreign(&files.folder, &files.claude, context)?;
    let (member, text_of_policy) = claude_member(&place, &text, findings)?;
    let project = Project::new(&files.claude, files.layer, (&text_of_policy, &text), trust, findings);
    Some(Part { place, node: member, project: Some(project) })
}

fn claude_member(place: &Place, text: &str, findings: &mut Findings) -> Option<(Node, String)> {
    match claude::policy_in(place, text) {
        Ok(policy) => {
            let (member, faults) = policy?;
            findings.errors.extend(faults);
            let policy = text.get(member.node.at.span.clone()).unwrap_or_default().to_owned();
            Some((member.into_root(), policy))
        }
        Err(warning) => {
            findings.warnings.push(*warning);
            None
        }
    }
}

fn environment(locations: &Locations, context: &Context, parts: &mut Vec<Part>, findings: &mut Findings) -> Result<(), Errors> {
    named_file(Layer::Environment, locations, context, parts, findings)?;
    for (place, node) in assign::variables(context.variables(), findings) {
        parts.push(Part { place, node, project: None });
    }
    Ok(())
}

fn flags(locations: &Locations, context: &Context, parts: &mut Vec<Part>, findings: &mut Findings) -> Result<(), Errors> {
    named_file(Layer::Flags, locations, context, parts, findings)?;
    for (place, node) in assign::arguments(context.assignments(), findings) {
        parts.push(Part { place, node, project: None });
    }
    Ok(())
}

/// The file that stands in place of the user's own.
fn named_file(
    layer: Layer,
    locations: &Locations,
    context: &Context,
    parts: &mut Vec<Part>,
    findings: &mut Findings,
) -> Result<(), Errors> {
    if locations.named_in != Some(layer) {
        return Ok(());
    }
    let place = Place::new(layer, &locations.config_file);
    if own_file(&place, context, parts, findings)? { Ok(()) } else { Err(source::absent(&place).into()) }
}

fn managed(locations: &Locations, context: &Context, parts: &mut Vec<Part>, findings: &mut Findings) -> Result<(), Errors> {
    claude_policy(&Place::new(Layer::Managed, &locations.claude_managed), context, parts, findings);
    own_file(&Place::new(Layer::Managed, &locations.managed_file), context, parts, findings)?;
    Ok(())
}

/// One of hotspare's own files; whether it is there.
fn own_file(place: &Place, context: &Context, parts: &mut Vec<Part>, findings: &mut Findings) -> Result<bool, Errors> {
    let text = match context.text_in_place_of(&place.path) {
        Some(text) => Some(text.to_owned()),
        None => source::read(place)?,
    };
    let Some(text) = text else { return Ok(false) };
    let node = tree_of(place, &text, findings)?;
    parts.push(Part { place: place.clone(), node, project: None });
    Ok(true)
}

/// The policy in Claude Code's settings, in the place that it has in hotspare's own file.
fn claude_policy(place: &Place, context: &Context, parts: &mut Vec<Part>, findings: &mut Findings) {
    let text = match context.text_in_place_of(&place.path) {
        Some(text) => Some(text.to_owned()),
        None => match source::read(place) {
            Ok(text) => text,
            Err(fault) => {
                findings.warnings.push(*claude::soften(place, &fault));
                None
            }
        },
    };
    let Some((node, _)) = text.and_then(|text| claude_member(place, &text, findings)) else { return };
    parts.push(Part { place: place.clone(), node, project: None });
}

/// The tree of a text; faults that leave it readable go to the findings.
pub(crate) fn tree_of(place: &Place, text: &str, findings: &mut Findings) -> Result<Node, Errors> {
    let (node, faults) = tree::parse(place, text)?;
    findings.errors.extend(faults);
    Ok(node)
}

/// Everything on disk that may have a say, whether it exists or not, in the order of the layers.
pub(crate) fn candidates(locations: &Locations, context: &Context) -> Vec<PathBuf> {
    let mut files = vec![locations.claude_settings.clone(), locations.config_file.clone()];
    if context.reads_projects() {
        for folder in projects::folders(context.cwd(), &locations.home) {
            for layer in [Layer::Project, Layer::LocalProject] {
                let of = projects::Files::of(layer, &folder);
                files.extend([of.claude, of.own]);
            }
        }
    }
    files.extend([locations.claude_managed.clone(), locations.managed_file.clone()]);
    // Not a file, but what is in it decides what a project may do.
    files.push(locations.state_dir.join(TRUST_FOLDER));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_precedence_is_the_order_of_the_words() {
        assert!(Layer::ALL.is_sorted());
        assert!(Layer::Managed > Layer::Flags && Layer::Flags > Layer::LocalProject && Layer::Project > Layer::User);
    }
}
