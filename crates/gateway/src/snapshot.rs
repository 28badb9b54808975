//! Turns a valid configuration into what an exchange needs, whole and unchangeable. Never changes while an exchange holds it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hotspare_config::{
    Auth, AuthHeader, AuthSource, BaseUrl, Config, FolderRules, Hook, Mapped, ModelMap, NamedCredential, Notify, Supports, Trusted,
};
use hotspare_core::policy::{ClockOverrides, HEDGE_DELAY};
use hotspare_core::route::{Fit, SkipReason};
use hotspare_core::{
    Budget, Chain, ChainEntry, ChainRule, ClaudeModel, Endpoint, HookEvent, Policy, Price, ProfileId, RequestFacts, Takes, Terms,
};
use hotspare_upstream::{ClaudeClient, Credential, CredentialError, HeaderForm, Keychain, Limits, Presence, Renewals, Source, Target};

use crate::identity::Identities;
use crate::limits::{self, Limit, Limited, Reason};

/// One configuration, compiled.
#[derive(Clone)]
pub struct Snapshot {
    /// The user's wishes.
    pub policy: Arc<Policy>,
    /// Chains and when they hold; the last holds always.
    pub rules: Vec<ChainRule>,
    /// For each chain that names folders, what holds there.
    folder_rules: Vec<FolderRules>,
    /// The chains that name no folder.
    everywhere: Vec<ChainRule>,
    /// Project files had a say, each with whether the user trusts it.
    projects: Vec<bool>,
    /// The folder that it was compiled for, for people; `None` if for none in particular.
    pub folder: Option<Arc<str>>,
    /// What keeps requests from profiles of their chains.
    limits: Option<Arc<Limited>>,
    /// Where chains stand, by their names.
    origins: Vec<(String, String)>,
    /// By the numbers that [`Identities`] gave them.
    profiles: BTreeMap<ProfileId, Profile>,
    /// What is called at which moment.
    pub hooks: Vec<Hook>,
    /// The configuration file that has the last word, for hooks.
    pub config_file: Option<String>,
    /// Most bytes of a request body.
    pub max_body: u64,
    has_budgets: bool,
    /// Credentials of the client's that belong to a host of their own.
    named: Arc<[NamedCredential]>,
    /// How a move to another profile is told.
    pub notify: Notify,
}

#[derive(Clone)]
struct Profile {
    target: Arc<Target>,
    models: ModelMap,
    clocks: ClockOverrides,
    supports: Supports,
    budget: Budget,
    /// Anthropic's own API, which is sent no credential of another issuer.
    is_anthropic: bool,
}

/// Why the client's credential is not sent to Anthropic.
const NOT_ANTHROPICS: &str = "the client's credential is not one of Anthropic's (`sk-ant-…`)";

/// Profiles of the chains without a credential, each with the reason.
#[derive(Debug, Default)]
pub struct Missing {
    /// All of the chains' profiles, where no one of them can authenticate: such a configuration serves no request.
    pub lasting: Vec<(Arc<str>, CredentialError)>,
    /// Those that are skipped at each request until their credential is there, while another profile serves.
    pub passing: Vec<(Arc<str>, CredentialError)>,
}

impl Snapshot {
    /// Compiles a configuration that nothing was learned of before.
    pub fn compile(config: &Config) -> Self {
        Self::compile_with(config, &Renewals::by(ClaudeClient::default()))
    }

    /// Like [`Snapshot::compile`], with these renewals for the logins of folders.
    pub fn compile_with(config: &Config, renewals: &Arc<Renewals>) -> Self {
        Self::with_identities(config, &Identities::default(), renewals)
    }

    /// Compiles a configuration; profiles known from earlier ones keep their numbers, and folders what is known of their logins.
    pub fn with_identities(config: &Config, identities: &Identities, renewals: &Arc<Renewals>) -> Self {
        let ids = identities.of(config);
        let rules = numbered(&config.rules, &ids);
        let folder_rules =
            config.folder_rules.iter().map(|folder| FolderRules { rules: numbered(&folder.rules, &ids), ..folder.clone() }).collect();
        Self {
            policy: Arc::new(config.policy.clone()),
            rules,
            folder_rules,
            everywhere: numbered(&config.everywhere_rules, &ids),
            projects: config.projects.iter().map(|project| project.trusted == Trusted::Yes).collect(),
            folder: None,
            limits: None,
            origins: config.origins.clone(),
            profiles: ids.into_iter().zip(config.profiles.iter().map(|one| profile(config, one, renewals))).collect(),
            hooks: config.hooks.clone(),
            config_file: config.sources.first().map(|file| file.display().to_string()),
            max_body: config.server.max_body,
            has_budgets: config.profiles.iter().any(|profile| !profile.budget.is_empty()),
            notify: config.notify,
            named: config.client.named.as_slice().into(),
        }
    }

    /// The chain for these facts, without the profiles that rules of other folders keep it from; `None` if no profile is left.
    pub(crate) fn chain_for(&self, facts: &RequestFacts) -> Option<Cow<'_, Chain>> {
        limits::chain_for(&self.rules, self.policy.enabled, self.limits.as_deref(), facts)
    }

    /// Why requests may not reach every profile of their chains; `None` if they do.
    pub(crate) fn limited(&self) -> Option<&Reason> {
        self.limits.as_deref().map(|limits| &limits.reason)
    }

    /// Why this request does not reach every profile of its chain; `None` if it does.
    pub(crate) fn limited_for(&self, facts: &RequestFacts) -> Option<&Reason> {
        let entries = |limits| limits::chain_for(&self.rules, self.policy.enabled, limits, facts).map_or(0, |chain| chain.entries.len());
        let unlimited = if self.policy.enabled { entries(None) } else { entries(None).min(1) };
        self.limited().filter(|_| entries(self.limits.as_deref()) < unlimited)
    }

    /// The same with these limits.
    pub(crate) fn with_limits(&self, limits: Limited) -> Self {
        Self { limits: Some(Arc::new(limits)), ..self.clone() }
    }

    /// The same, told of as compiled for this folder.
    pub(crate) fn in_folder(self, folder: &Path) -> Self {
        Self { folder: Some(folder.display().to_string().into()), ..self }
    }

    /// Whether a chain names folders, whichever.
    pub fn has_folder_rules(&self) -> bool {
        !self.folder_rules.is_empty()
    }

    /// Whether rules hold here that do not hold in every folder.
    pub(crate) fn is_ruled(&self) -> bool {
        self.has_project_files() || self.folder_rules.iter().any(|folder| folder.is_here)
    }

    /// Whether project files had a say.
    pub(crate) fn has_project_files(&self) -> bool {
        !self.projects.is_empty()
    }

    /// Whether another snapshot leads every request along the same profiles.
    pub(crate) fn leads_as(&self, other: &Self) -> bool {
        self.rules == other.rules && self.policy.enabled == other.policy.enabled
    }

    /// What its own chains allow, as a limit for others.
    pub(crate) fn as_limit(&self) -> Limit {
        let is_firm = self.projects.iter().all(|is_trusted| *is_trusted);
        Limit { rules: self.rules.clone(), enabled: self.policy.enabled, is_firm }
    }

    /// What each chain that names folders allows, as limits; `wanted` gets its place and itself. A chain that has lost every profile is no
    /// limit: its folder has no valid configuration.
    pub(crate) fn folder_limits<'s>(&'s self, wanted: impl Fn(usize, &FolderRules) -> bool + 's) -> impl Iterator<Item = Limit> + 's {
        let is_usable = |folder: &FolderRules| folder.rules.iter().all(|rule| !rule.chain.entries.is_empty());
        let enabled = self.policy.enabled;
        let folders = self.folder_rules.iter().enumerate().filter(move |(place, folder)| is_usable(folder) && wanted(*place, folder));
        folders.map(move |(_, folder)| Limit { rules: folder.rules.clone(), enabled, is_firm: true })
    }

    /// What holds in a folder that no chain names, as a limit. `None` if that is nothing: then there is no valid configuration there.
    pub(crate) fn elsewhere_limit(&self) -> Option<Limit> {
        let is_whole = self.everywhere.last().is_some_and(|rule| rule.model.is_none());
        let is_usable = is_whole && self.everywhere.iter().all(|rule| !rule.chain.entries.is_empty());
        is_usable.then(|| Limit { rules: self.everywhere.clone(), enabled: self.policy.enabled, is_firm: true })
    }

    /// Whether the chain at this place that names folders is the same one there, and holds in the folder of `other`.
    pub(crate) fn holds_in(&self, place: usize, other: &Self) -> bool {
        let (own, there) = (self.folder_rules.get(place), other.folder_rules.get(place));
        own.zip(there).is_some_and(|(own, there)| there.is_here && own.pattern == there.pattern)
    }

    /// A profile's address and credential.
    pub fn target(&self, id: ProfileId) -> Option<&Arc<Target>> {
        self.profiles.get(&id).map(|profile| &profile.target)
    }

    /// A profile's name.
    pub fn name(&self, id: ProfileId) -> &str {
        self.target(id).map_or("unknown", |target| &target.name)
    }

    /// The file and line where the chain of this name stands, where it stands anywhere.
    pub fn origin(&self, chain: &str) -> Option<&str> {
        self.origins.iter().find(|(name, _)| name == chain).map(|(_, origin)| origin.as_str())
    }

    /// A profile's name; none: this configuration does not have it.
    pub fn known_name(&self, id: ProfileId) -> Option<&str> {
        self.target(id).map(|target| &*target.name)
    }

    /// The profile of this name.
    pub fn id(&self, name: &str) -> Option<ProfileId> {
        self.ids().find(|id| self.name(*id) == name)
    }

    /// Whether anything is called at this moment.
    pub fn has_hooks(&self, event: HookEvent) -> bool {
        self.hooks.iter().any(|hook| hook.event == event)
    }

    /// Whether one profile stands before another in the chain of this name.
    pub fn is_better(&self, chain: &str, one: ProfileId, other: ProfileId) -> bool {
        let rule = self.rules.iter().find(|rule| &*rule.chain.name == chain);
        let place = |id| rule.and_then(|rule| rule.chain.entries.iter().position(|entry| entry.profile == id));
        match (place(one), place(other)) {
            (Some(one), Some(other)) => one < other,
            (one, None) => one.is_some(),
            (None, Some(_)) => false,
        }
    }

    /// Every profile.
    pub fn ids(&self) -> impl Iterator<Item = ProfileId> + use<'_> {
        self.profiles.keys().copied()
    }

    /// Whether the model must be known before a profile can be chosen.
    pub fn routes_by_model(&self) -> bool {
        let limits = self.limits.iter().flat_map(|limits| &limits.of).flat_map(|limit| &limit.rules);
        self.rules.iter().chain(limits).any(|rule| rule.model.is_some()) || self.profiles.values().any(|profile| !profile.models.is_empty())
    }

    /// Whether any profile may take only so much money.
    pub fn has_budgets(&self) -> bool {
        self.has_budgets
    }

    /// Whether the profile goes to Anthropic's own API.
    pub fn is_anthropic(&self, id: ProfileId) -> bool {
        self.profiles.get(&id).is_some_and(|profile| profile.is_anthropic)
    }

    /// How much money a profile may take.
    pub fn budget(&self, id: ProfileId) -> Budget {
        self.profiles.get(&id).map(|profile| profile.budget).unwrap_or_default()
    }

    /// Whether a plan pays for this request at the profile, and not tokens.
    pub fn is_on_plan(&self, id: ProfileId, facts: &RequestFacts) -> bool {
        let credential = self.target(id).map(|target| &target.credential);
        credential.is_some_and(|credential| credential.is_folder() || credential.is_client() && facts.on_plan)
    }

    /// What a request's tokens cost at a profile for the model that it is asked for; none where nobody has told.
    pub fn price(&self, id: ProfileId, model: &str) -> Option<Price> {
        Price::of(self.target(id)?.platform, model)
    }

    /// Whether any profile passes the client's own credential on.
    pub fn uses_client_login(&self) -> bool {
        self.profiles.values().any(|profile| profile.target.credential.is_client())
    }

    /// Whether any profile is another company's, so that who said what must be kept apart.
    pub fn has_foreign(&self) -> bool {
        self.profiles.values().any(|profile| !profile.target.platform.is_native())
    }

    /// The profiles of the chains that cannot authenticate now. Commands are not run for it: they may ask the user.
    pub async fn missing_credentials(&self) -> Missing {
        let (mut missing, mut able) = (Missing::default(), false);
        let asked = |id: ProfileId| self.rules.iter().any(|rule| rule.chain.entries.iter().any(|entry| entry.profile == id));
        for id in self.ids().filter(|id| asked(*id)) {
            let Some(target) = self.target(id) else { continue };
            match target.credential.presence().await {
                Presence::Missing(error) => missing.passing.push((target.name.clone(), error)),
                Presence::NotOurs | Presence::There | Presence::Unasked | Presence::Renewable => able = true,
            }
        }
        if !able {
            missing.lasting.append(&mut missing.passing);
        }
        missing
    }

    /// The same, giving one profile up after so long without a head or without content.
    #[must_use]
    pub fn impatient_with(&self, id: ProfileId, patience: Duration) -> Self {
        let mut snapshot = self.clone();
        if let Some(profile) = snapshot.profiles.get_mut(&id) {
            let limit = |own: Option<Duration>, policy: Duration| Some(own.unwrap_or(policy).min(patience));
            let (own, policy) = (profile.clocks, &self.policy.clocks);
            profile.clocks = ClockOverrides {
                head: limit(own.head, policy.head),
                first_content: limit(own.first_content, policy.first_content),
                bytes_idle: limit(own.bytes_idle, policy.bytes_idle),
                content_idle: limit(own.content_idle, policy.content_idle),
                ..own
            };
        }
        snapshot
    }

    /// The host that the client's credential was named for, if it is another one than the profile's; `None` if it was named for none.
    fn owner_elsewhere(&self, facts: &RequestFacts, target: &Target) -> Option<&BaseUrl> {
        let named = self.named.iter().find(|named| facts.credential_digests.contains(&named.digest))?;
        let is_there = named.base_url.host == target.host && named.base_url.port == target.port;
        (!is_there).then_some(&named.base_url)
    }

    /// Whether, and on which terms, a chain's entry can take this request.
    pub fn fit(&self, entry: &ChainEntry, facts: &RequestFacts) -> Fit {
        let Some(profile) = self.profiles.get(&entry.profile) else {
            return Fit::Cannot(SkipReason::NoModel);
        };
        let platform = profile.target.platform;
        let served = match facts.endpoint {
            Endpoint::CountTokens => platform.counts_tokens(),
            // Files, batches and what is not known here belong to the company that the client speaks to.
            Endpoint::Other => platform.is_native(),
            Endpoint::Messages | Endpoint::Models => true,
        };
        if !served {
            return Fit::Cannot(SkipReason::NotServed);
        }
        let client_login = profile.target.credential.is_client();
        if let Some(withheld) = profile.target.credential.withheld() {
            return Fit::Cannot(SkipReason::CredentialElsewhere(withheld.to_string().into()));
        }
        if client_login && facts.own_credential.is_none() {
            return Fit::Cannot(SkipReason::NoClientCredential);
        }
        if let Some(ended) = profile.target.credential.ended() {
            return Fit::Cannot(SkipReason::NoCredential(ended.to_string().into()));
        }
        if client_login && let Some(owner) = self.owner_elsewhere(facts, &profile.target) {
            let withheld = CredentialError::ClientElsewhere { owner: owner.authority().into() };
            return Fit::Cannot(SkipReason::CredentialElsewhere(withheld.to_string().into()));
        }
        if client_login && profile.is_anthropic && !facts.anthropic_credential {
            return Fit::Cannot(SkipReason::CredentialElsewhere(NOT_ANTHROPICS.into()));
        }
        let asked = entry.model.as_ref().or(facts.model.as_ref());
        let model = match asked.map(|model| profile.models.map(model)) {
            Some(Mapped::Rejected) => return Fit::Cannot(SkipReason::NoModel),
            Some(Mapped::To(model)) => Some(model),
            // A model that the chain itself names is the user's word; any other is not guessed.
            Some(Mapped::Unknown) if entry.model.is_none() => return Fit::Cannot(SkipReason::UnknownModel),
            Some(Mapped::Unknown) => entry.model.clone(),
            Some(Mapped::Same) | None => entry.model.clone(),
        };
        let on_plan = self.is_on_plan(entry.profile, facts);
        let billed = model.as_deref().or(facts.model.as_deref());
        let price = billed.and_then(|model| Price::of(platform, model));
        let takes = takes(profile, facts.model.as_deref(), model.as_deref());
        Fit::Fits(Terms {
            model,
            clocks: self.policy.clocks.overridden(&profile.clocks),
            fits_head: !self.policy.head_is_named && profile.clocks.head.is_none(),
            hedge_delay: HEDGE_DELAY,
            client_login,
            rereadable: profile.target.credential.is_rereadable(),
            origin: hashed(&(&profile.target.host, profile.target.port)),
            host: (!profile.target.is_loopback()).then(|| hashed(&profile.target.host)),
            takes,
            price,
            budget: if on_plan { Budget::default() } else { profile.budget },
        })
    }
}

/// What a profile takes: what its configuration says, and what is known of the model that stands in for the client's own.
fn takes(profile: &Profile, asked: Option<&str>, model: Option<&str>) -> Takes {
    let claude = |name: Option<&str>| name.and_then(ClaudeModel::of);
    let another = claude(model).filter(|model| claude(asked) != Some(*model));
    Takes {
        context: profile.supports.context.or_else(|| another.map(ClaudeModel::context)),
        images: profile.supports.images,
        tools: profile.supports.tools,
        thinking: profile.supports.thinking,
        foreign: !profile.target.platform.is_native(),
    }
}

/// With the lasting numbers of the profiles. A configuration names its own profiles alone; one that it does not have cannot be asked.
fn numbered(rules: &[ChainRule], ids: &[ProfileId]) -> Vec<ChainRule> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        rule.chain.entries.retain_mut(|entry| {
            let id = ids.get(usize::from(entry.profile.0)).copied();
            entry.profile = id.unwrap_or(entry.profile);
            id.is_some()
        });
    }
    rules
}

fn hashed(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn profile(config: &Config, one: &hotspare_config::Profile, renewals: &Arc<Renewals>) -> Profile {
    let credential = match config.withheld_from(one) {
        Some(owner) => Credential::Withheld(owner.authority().into()),
        None => credential(&one.auth, renewals),
    };
    let target = Target {
        name: one.name.clone(),
        platform: one.platform,
        https: one.base_url.https,
        host: one.base_url.host.clone(),
        port: one.base_url.port,
        prefix: one.base_url.prefix.clone(),
        credential: Arc::new(credential),
    };
    Profile {
        target: Arc::new(target),
        models: one.models.clone(),
        clocks: one.clocks,
        supports: one.supports,
        budget: one.budget,
        is_anthropic: one.base_url.is_anthropic(),
    }
}

fn credential(auth: &Auth, renewals: &Arc<Renewals>) -> Credential {
    let form = match auth.header {
        AuthHeader::ApiKey => Some(HeaderForm::ApiKey),
        AuthHeader::Bearer => Some(HeaderForm::Bearer),
        AuthHeader::Auto => None,
    };
    let source = match &auth.source {
        AuthSource::Client => return Credential::Client,
        AuthSource::None => return Credential::None,
        AuthSource::Env(name) => Source::Env(name.clone()),
        AuthSource::File(file) => Source::File(file.clone()),
        AuthSource::Command(argv) => Source::Command(argv.clone()),
        AuthSource::Keychain(name) => Source::Keychain(Keychain::of_user(), name.clone()),
        AuthSource::ClaudeConfigDir(folder) => Source::ClaudeConfigDir(folder.clone()),
        AuthSource::Value(value) => Source::Value(value.clone()),
    };
    let credential = Credential::limited(source, form, Limits { timeout: auth.command.timeout, ttl: auth.command.ttl });
    if auth.renew { credential.renewed_by(renewals.clone()) } else { credential }
}
