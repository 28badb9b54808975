//! Puts the parts of a configuration together and decides whether the whole is usable. Never reads a file.

use std::path::{Path, PathBuf};

use hotspare_core::route::ProfileId;
use hotspare_core::{ChainEntry, ChainRule, Policy};

use crate::auth::AuthSource;
use crate::base_url::BaseUrl;
use crate::chains::{Chains, FolderRules, chain};
use crate::codes;
use crate::context::ClientBaseUrl;
use crate::diagnostic::Diagnostic;
use crate::hooks::{self, Hook};
use crate::log::{self, Log};
use crate::notify::{self, Notify};
use crate::policy;
use crate::profiles::{self, Names, Profile};
use crate::projects::Project;
use crate::reader::{Field, Findings};
use crate::server::{self, Server};
use crate::tree::{Node, Value};

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// What holds for every request.
    pub policy: Policy,
    /// Which profiles for which request, in order; never empty, the last one matches everything.
    pub rules: Vec<ChainRule>,
    /// For each chain that names folders, what holds there; also for folders other than this working directory.
    pub folder_rules: Vec<FolderRules>,
    /// The chains that name no folder; what holds where none of the others does.
    pub everywhere_rules: Vec<ChainRule>,
    /// Every profile; a [`ProfileId`] is a place in this list. Never empty. Where [`Config::implicit`] the first is the client's own login,
    /// and whoever else is defined is in no chain.
    pub profiles: Vec<Profile>,
    /// What is called at which moment, event by event.
    pub hooks: Vec<Hook>,
    /// The listener.
    pub server: Server,
    /// What is remembered.
    pub log: Log,
    /// How a move to another profile is told.
    pub notify: Notify,
    /// The name of each chain that stands somewhere, and the file and line where it does.
    pub origins: Vec<(String, String)>,
    /// What is valid but probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// The files that had a say, the one with the last word first.
    pub sources: Vec<PathBuf>,
    /// The project files that had a say, and what they wanted without trust.
    pub projects: Vec<Project>,
    /// No chain is configured: the client's own login is all that is asked, and nothing can take over from it.
    pub implicit: bool,
    /// The client's own base URL; all `None` if unknown.
    pub client: ClientBaseUrl,
}

/// Whose the client's credential is: it was issued for the host that the client's own base URL names, and no other host is sent it.
///
/// hotspare stands where that base URL pointed, so it has to be known from elsewhere. In this order: what the client's environment and
/// settings name now; a profile that says `"auth": "client"` in so many words, first in its chain, which is the user's own statement; what
/// stood in the settings before `install`; the first profile of the chain that takes the client's credential without saying so, because its
/// `base_url` was moved there from the client's settings.
impl Config {
    /// Takes the client's own base URL over: as the address of the implicit profile, so that a gateway stays in the path.
    pub(crate) fn adopt(&mut self, client: &ClientBaseUrl) {
        let elsewhere = |url: &Option<BaseUrl>| url.clone().filter(|url| !url.points_at(self.server.listen));
        self.client = ClientBaseUrl {
            current: elsewhere(&client.current),
            before_install: elsewhere(&client.before_install),
            named: client.named.clone(),
        };
        let adopted = self.client.current.clone().or_else(|| self.client.before_install.clone());
        if let (true, Some(url), Some(profile)) = (self.implicit, adopted, self.profiles.first_mut()) {
            profile.base_url = url;
        }
    }

    /// The host that the client's credential belongs to, if it is another one than the profile's, which then cannot use it; `None` if the
    /// profile may have it, or takes no credential of the client's.
    pub fn withheld_from(&self, profile: &Profile) -> Option<&BaseUrl> {
        let takes_it = matches!(profile.auth.source, AuthSource::Client);
        let owner = if takes_it { self.credential_owner()? } else { return None };
        let same_host = owner.host == profile.base_url.host && owner.port == profile.base_url.port;
        (!same_host).then_some(owner)
    }

    fn credential_owner(&self) -> Option<&BaseUrl> {
        let first = self.first_with_client_credential();
        let named = first.filter(|profile| profile.auth.is_written).map(|profile| &profile.base_url);
        let client = &self.client;
        client.current.as_ref().or(named).or(client.before_install.as_ref()).or(first.map(|profile| &profile.base_url))
    }

    /// The first profile that is sent the client's credential, unless it is withheld: the chain that holds always comes first, then the
    /// others in their order.
    pub fn first_with_client_credential(&self) -> Option<&Profile> {
        let rules = self.rules.last().into_iter().chain(&self.rules);
        let mut profiles = rules.flat_map(|rule| &rule.chain.entries).filter_map(|entry| self.profiles.get(usize::from(entry.profile.0)));
        profiles.find(|profile| matches!(profile.auth.source, AuthSource::Client))
    }
}

/// Where a configuration comes from.
pub(crate) struct Setting<'a> {
    /// hotspare's own file, whether it exists or not.
    pub(crate) file: &'a Path,
    /// What `~` stands for.
    pub(crate) home: &'a Path,
    /// The working directory; empty where none is known.
    pub(crate) cwd: &'a Path,
}

/// Compiles the whole tree. `None` always comes with an error among the findings.
pub(crate) fn compile(root: &Node, origin: &Setting<'_>, findings: &mut Findings) -> Option<Config> {
    let mut table = Field::root(root).table(findings)?;
    table.take("$schema");
    let policy_field = table.take("failover_policy");
    let profiles_field = table.take("profiles");
    let server = table.take("server").map(|field| server::read(&field, findings)).unwrap_or_default();
    let hooks = table.take("hooks").map(|field| hooks::read(&field, server.listen, origin.home, findings)).unwrap_or_default();
    let notify = table.take("notify").map(|field| notify::read(&field, findings)).unwrap_or_default();
    let log = table.take("log").map(|field| log::read(&field, findings)).unwrap_or_default();
    table.finish_with(misplaced, findings);
    let names = Names::of(profiles_field.as_ref(), origin.file);
    let profiles = profiles_field.as_ref().map(|field| profiles::read(field, server.listen, origin.home, findings)).unwrap_or_default();
    let (policy, chains) = match (&policy_field, &profiles_field) {
        (Some(field), _) => policy::read(field, &names, origin, findings)?,
        (None, Some(field)) if !names.is_empty() => {
            warn_of_missing_policy(field, findings);
            (Policy::default(), Chains::default())
        }
        (None, _) => (Policy::default(), Chains::default()),
    };
    if names.any_dropped() && findings.errors.is_empty() {
        report_nobody_left(&chains.here, profiles_field.as_ref()?, findings);
    }
    let origins = policy_field.as_ref().map(|field| origins(field.node)).unwrap_or_default();
    let policy = Policy { gates: hooks::gates(&hooks), ..policy };
    Some(Config {
        hooks,
        notify,
        origins,
        folder_rules: chains.of_folders,
        everywhere_rules: chains.everywhere,
        ..finish(policy, chains.here, profiles, server, log)
    })
}

/// Where each chain stands, by its name.
fn origins(policy: &Node) -> Vec<(String, String)> {
    let mut origins = Vec::new();
    if let Some(Value::List(chains)) = policy.member("chains").map(|chains| &chains.node.value) {
        origins.extend(chains.iter().enumerate().map(|(index, chain)| (format!("chains[{index}]"), chain.at.file_and_line())));
    }
    origins.extend(policy.member("primary_profile").map(|primary| ("default".to_owned(), primary.name_at.file_and_line())));
    origins
}

/// A chain without anybody left does not give way to the next one: that may ask whom this one was written to leave out.
fn report_nobody_left(rules: &[ChainRule], profiles: &Field<'_>, findings: &mut Findings) {
    let Some(rule) = rules.iter().find(|rule| rule.chain.entries.is_empty()) else { return };
    let members = if let Value::Object(members) = &profiles.node.value { members.as_slice() } else { &[] };
    let dropped = members.iter().find(|member| matches!(member.node.value, Value::Null));
    let at = dropped.map_or(&profiles.key_at, |member| &member.name_at);
    let title = format!("every profile that chain `{}` asks is dropped", rule.chain.name);
    findings.error(codes::NOBODY_LEFT, at, title, "dropped here").help("take a `null` away, or name another profile in the chain");
}

fn warn_of_missing_policy(profiles: &Field<'_>, findings: &mut Findings) {
    findings
        .warning(codes::NO_POLICY, &profiles.key_at, "profiles are defined, but no `failover_policy` uses them", "not used")
        .help("add `\"failover_policy\": { \"primary_profile\": \"…\", \"secondary_profile\": \"…\" }`");
}

/// What the client's own login is called where nobody has named it.
const IMPLICIT: &str = "claude";

/// The same, where the user gave that name to another profile which no chain asks.
const IMPLICIT_ELSE: &str = "client-login";

/// The configuration of a user who has none.
pub(crate) fn implicit() -> Config {
    finish(Policy::default(), Vec::new(), Vec::new(), Server::default(), Log::default())
}

/// Without a chain the client's own login is all there is.
fn finish(policy: Policy, mut rules: Vec<ChainRule>, mut profiles: Vec<Profile>, server: Server, log: Log) -> Config {
    let implicit = rules.is_empty();
    if implicit {
        let is_taken = profiles.iter().any(|profile| &*profile.name == IMPLICIT);
        profiles.insert(0, Profile::client_login(if is_taken { IMPLICIT_ELSE } else { IMPLICIT }));
        let entry = ChainEntry { profile: ProfileId(0), model: None };
        rules = vec![ChainRule { model: None, chain: chain("default", vec![entry], None) }];
    }
    Config {
        policy,
        rules,
        folder_rules: Vec::new(),
        everywhere_rules: Vec::new(),
        profiles,
        hooks: Vec::new(),
        server,
        log,
        notify: Notify::default(),
        origins: Vec::new(),
        warnings: Vec::new(),
        sources: Vec::new(),
        projects: Vec::new(),
        implicit,
        client: ClientBaseUrl::default(),
    }
}

/// Keys of the policy that stand one level too high, as in other tools.
fn misplaced(key: &str) -> Option<String> {
    const POLICY_KEYS: [&str; 10] = [
        "enabled",
        "primary_profile",
        "secondary_profile",
        "triggers",
        "max_failover_attempts",
        "chains",
        "on_exhausted",
        "mid_stream",
        "failback",
        "hedge",
    ];
    POLICY_KEYS.contains(&key).then(|| format!("put `{key}` into `\"failover_policy\": {{ … }}`"))
}
