//! Reads `failover_policy.chains`: which profiles, in which order, for which model and in which folder. Never orders them: that is routing's.

use std::sync::Arc;

use hotspare_core::{Chain, ChainEntry, ChainRule, ModelPattern, OnExhausted};

use crate::codes;
use crate::compile::Setting;
use crate::policy::on_exhausted;
use crate::profiles::{Names, model};
use crate::projects;
use crate::reader::{Field, Findings};
use crate::tree::Value;

/// The chains as they hold in the folders that one of them names: it and those for every folder, in their order, without the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRules {
    /// What names the folders, as written in `match.project`.
    pub pattern: String,
    /// Whether the configuration's own working directory is one of them.
    pub is_here: bool,
    /// The last one matches everything.
    pub rules: Vec<ChainRule>,
}

/// The chains of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    /// Those that hold in this working directory.
    pub(crate) here: Vec<ChainRule>,
    /// Those that hold in every folder.
    pub(crate) everywhere: Vec<ChainRule>,
    /// For each chain that names folders, what holds there.
    pub(crate) of_folders: Vec<FolderRules>,
}

impl Chains {
    /// Adds the chain that holds when no other does.
    pub(crate) fn push_last(&mut self, rule: &ChainRule) {
        self.here.push(rule.clone());
        self.everywhere.push(rule.clone());
        self.of_folders.iter_mut().for_each(|folder| folder.rules.push(rule.clone()));
    }
}

/// Reads every chain, named by its place.
pub(crate) fn read(field: &Field<'_>, names: &Names<'_>, setting: &Setting<'_>, findings: &mut Findings) -> Chains {
    let mut read: Vec<Read> = Vec::new();
    for (index, field) in field.list(findings).unwrap_or_default().iter().enumerate() {
        let Some(chain) = one(index, field, names, setting, findings) else { continue };
        // A chain of one folder says nothing of the others.
        if let Some(earlier) = read.iter().find(|earlier| earlier.folder.is_none() && covers(&earlier.rule, &chain.rule)) {
            let label = format!("`{}` always matches first", earlier.rule.chain.name);
            findings
                .warning(codes::UNREACHABLE, &field.key_at, format!("`{}` is never used", field.path), label)
                .help("put the narrower chain first");
        }
        read.push(chain);
    }
    let bound = read.iter().enumerate().filter_map(|(place, chain)| Some((place, chain, chain.folder.clone()?)));
    let of_folders = bound.map(|(place, chain, pattern)| {
        let holds = |(other, chain): &(usize, &Read)| *other == place || chain.folder.is_none();
        let rules = read.iter().enumerate().filter(holds).map(|(_, chain)| chain.rule.clone()).collect();
        FolderRules { pattern, is_here: chain.is_here, rules }
    });
    let of_folders = of_folders.collect();
    let everywhere = read.iter().filter(|chain| chain.folder.is_none()).map(|chain| chain.rule.clone()).collect();
    Chains { here: read.into_iter().filter(|chain| chain.is_here).map(|chain| chain.rule).collect(), everywhere, of_folders }
}

/// A chain, and where it holds.
struct Read {
    rule: ChainRule,
    /// What it says of folders; `None` if it holds in all of them.
    folder: Option<String>,
    /// It holds in this one.
    is_here: bool,
}

fn one(index: usize, field: &Field<'_>, names: &Names<'_>, setting: &Setting<'_>, findings: &mut Findings) -> Option<Read> {
    let mut table = field.table(findings)?;
    let (pattern, folder) = table.take("match").map(|field| pattern(&field, findings)).unwrap_or_default();
    let profiles = table.take("profiles");
    let answer = table.take("on_exhausted").and_then(|field| on_exhausted(&field, findings));
    if profiles.is_none() {
        table.missing("profiles", "list the profiles in the order in which they are asked: `\"profiles\": [\"…\"]`", findings);
    }
    let entries = profiles.map(|field| entries(&field, names, findings)).unwrap_or_default();
    table.finish(findings);
    let is_here = folder.as_ref().is_none_or(|folder| projects::is_within(setting.cwd, folder, setting.home));
    let rule = ChainRule { model: pattern, chain: chain(&format!("chains[{index}]"), entries, answer) };
    Some(Read { rule, folder, is_here })
}

fn pattern(field: &Field<'_>, findings: &mut Findings) -> (Option<ModelPattern>, Option<String>) {
    let Some(mut table) = field.table(findings) else { return (None, None) };
    let pattern = table.take("model").and_then(|field| model(&field, findings));
    let folder = table.take("project").and_then(|field| folder(&field, findings));
    table.finish(findings);
    (pattern.map(|pattern| ModelPattern::new(&pattern)), folder)
}

/// An absolute path, or one below `~`; `*` stands for one folder's name, `**` for any number of folders.
fn folder(field: &Field<'_>, findings: &mut Findings) -> Option<String> {
    let text = field.text(findings)?;
    if text.starts_with('/') || text == "~" || text.starts_with("~/") {
        return Some(text.to_owned());
    }
    let title = format!("`{}` is not a whole path: `{}`", field.path, field.at().quote());
    findings.error(codes::BAD_PATH, &field.at(), title, "relative to what?").help("start it with `/` or `~/`, e.g. `~/src/bank/**`");
    None
}

fn entries(field: &Field<'_>, names: &Names<'_>, findings: &mut Findings) -> Vec<ChainEntry> {
    let fields = field.list(findings).unwrap_or_default();
    if fields.is_empty() && matches!(field.node.value, Value::List(_)) {
        findings
            .error(codes::EMPTY_VALUE, &field.at(), format!("`{}` is empty", field.path), "nobody would be asked")
            .help("list at least one profile");
    }
    let mut entries: Vec<ChainEntry> = Vec::new();
    for field in fields {
        let Some(entry) = entry(&field, names, findings) else { continue };
        if entries.contains(&entry) {
            report_twice(&field, findings);
        } else {
            entries.push(entry);
        }
    }
    entries
}

/// A name, or a name with the model to ask for.
fn entry(field: &Field<'_>, names: &Names<'_>, findings: &mut Findings) -> Option<ChainEntry> {
    match &field.node.value {
        Value::String(_) => Some(ChainEntry { profile: names.find(field, findings)?, model: None }),
        Value::Object(_) => {
            let mut table = field.table(findings)?;
            let profile = table.take("profile");
            let model = table.take("model").and_then(|field| model(&field, findings));
            if profile.is_none() {
                table.missing("profile", "name the profile: `{ \"profile\": \"…\", \"model\": \"…\" }`", findings);
            }
            table.finish(findings);
            Some(ChainEntry { profile: names.find(&profile?, findings)?, model })
        }
        _ => field.wrong_type("a profile's name, or `{ \"profile\": \"…\", \"model\": \"…\" }`", findings),
    }
}

/// The same profile with the same model twice in one chain helps nobody: it just failed.
pub(crate) fn report_twice(field: &Field<'_>, findings: &mut Findings) {
    let title = format!("`{}` lists a profile a second time", field.path);
    findings
        .error(codes::LISTED_TWICE, &field.at(), title, "already asked before")
        .help("remove it, or name another profile: a profile cannot be its own spare");
}

/// A chain with a name for people.
pub(crate) fn chain(name: &str, entries: Vec<ChainEntry>, on_exhausted: Option<OnExhausted>) -> Chain {
    Chain { name: Arc::from(name), entries, on_exhausted }
}

/// Whether every request for `later` is already taken by `earlier`. A pattern's own text stands for all names it matches: no
/// literal part of another pattern can match its `*`.
fn covers(earlier: &ChainRule, later: &ChainRule) -> bool {
    match (&earlier.model, &later.model) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => earlier.matches(later.as_str()),
    }
}
