//! The chain that is proposed for what was found, and the edits that bring a configuration to it.
//!
//! A paid profile without a ceiling, or a login of another folder, needs the user's word. A profile that is in the configuration is edited key
//! by key and never replaced.

use std::path::Path;

use hotspare_config::{AuthSource, BaseUrl, Config, Mapped, Profile, stand_ins};
use hotspare_core::{ClaudeModel, Platform};
use serde_json::{Map, Value, json};

use crate::commands::profile::test::Verdict;
use crate::found::{Found, Login, OwnModel};
use crate::words;

/// What the client's own login is called in a configuration, where its plan is not known.
const SUBSCRIPTION: &str = "subscription";

/// What the client's own key or token is called.
const OWN_KEY: &str = "api";

/// The key that Claude Code sends by itself wherever it goes.
const CLIENT_KEY: &str = "ANTHROPIC_API_KEY";

/// What a gateway that the client goes to today is called.
const GATEWAY: &str = "gateway";

/// Longest name of a plan that names a profile.
const MAX_PLAN: usize = 20;

/// What a spare that costs money may take in one day unless the user says otherwise.
const CEILING_USD: u32 = 10;

const PAID: &str = "paid per token, at most $10 a day";

/// No price is known for other companies' models, so no ceiling could be kept.
const PAID_WITHOUT_CEILING: &str = "paid per token, and hotspare knows no price, so it can keep no ceiling";

/// Something that can serve.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// The profile's name.
    pub name: String,
    /// What it is, for people.
    pub what: String,
    /// What it costs, or what to mind.
    pub costs: &'static str,
    /// The profile as it stands in a configuration; empty for one that is there already.
    pub profile: Map<String, Value>,
    /// The variable whose key is stored for it.
    pub key_of: Option<String>,
    /// Whether it is proposed, or only listed.
    pub proposed: bool,
    /// True if the configuration has it.
    pub is_there: bool,
    /// What is set in a profile that the configuration has, by its keys below the profile.
    pub edits: Vec<(String, Value)>,
    /// Why it cannot take over as it is; such a profile is not counted in the chain.
    pub problem: Option<String>,
    /// What the free test said of its key; `None` if there is nothing to test.
    pub verdict: Option<Verdict>,
}

/// What was found and cannot serve with this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusable {
    /// What it is.
    pub what: String,
    /// Why not, and what to do instead.
    pub why: String,
}

/// A profile of the configuration that is there.
#[derive(Debug, Clone)]
pub(super) struct Existing {
    /// As it is compiled.
    pub profile: Profile,
    /// Why its credential cannot be had here.
    pub missing: Option<String>,
    /// The variable that has its key in this shell and not in the service.
    pub only_in_shell: Option<String>,
}

/// The configuration that is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Current {
    /// Its profiles, in its order; without the one that stands for a user who has none.
    pub profiles: Vec<Existing>,
    /// The default chain; empty if no policy names one.
    pub chain: Vec<String>,
}

impl Current {
    /// The names of a configuration's default chain; empty if none is configured.
    pub(super) fn chain_of(config: &Config) -> Vec<String> {
        let entries = config.rules.last().map(|rule| rule.chain.entries.as_slice()).unwrap_or_default();
        let names = entries.iter().filter_map(|entry| Some(config.profiles.get(usize::from(entry.profile.0))?.name.to_string()));
        if config.implicit { Vec::new() } else { names.collect() }
    }
}

/// A proposal.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// In the proposed order; those that are not proposed come last.
    pub candidates: Vec<Candidate>,
    pub unusable: Vec<Unusable>,
    /// What else to mind.
    pub notes: Vec<String>,
    current: Current,
}

impl Plan {
    /// The proposal for what was found.
    pub(super) fn of(found: &Found, home: &Path, now: u64, current: &Current) -> Self {
        let mut plan = Self { current: current.clone(), ..Self::default() };
        plan.add_own(found, home, now);
        plan.add_keys(found);
        for login in found.logins.iter().filter(|login| !login.own) {
            let short = folder(&login.folder, home);
            let name = short.rsplit(".claude").next().unwrap_or_default().trim_matches(['-', '_', '.']).to_owned();
            let profile = json!({ "auth": { "claude_config_dir": short } });
            let name = if name.is_empty() { "other".to_owned() } else { name };
            plan.add(&name, format!("{} in {short}", words(login, now)), "mind the provider's terms for such use", profile, None, false);
        }
        plan.meet_configuration(found, home);
        plan.map_models(found);
        plan.unusable = unusable(found);
        plan.add_notes(found);
        plan
    }

    /// Where Claude Code goes today, with its own credential.
    fn add_own(&mut self, found: &Found, home: &Path, now: u64) {
        if let Some(url) = &found.gateway {
            let from = found.gateway_from.as_ref().map(|from| format!(" ({from})")).unwrap_or_default();
            let what = format!("{url}, where Claude Code goes today{from}");
            self.add(GATEWAY, what, "costs what it costs today", json!({ "base_url": url, "auth": "client" }), None, true);
        } else if let Some(login) = found.own_login() {
            let what = format!("{} in {}", words(login, now), folder(&login.folder, home));
            self.add(&own_name(login), what, "what you pay already", json!({}), None, true);
        }
    }

    fn add_keys(&mut self, found: &Found) {
        // A key that goes to a gateway today is the gateway's: it is sent nowhere else.
        let is_gateway_s = |variable: &str| found.gateway.is_some() && variable == CLIENT_KEY;
        for key in found.keys.iter().filter(|key| key.provider == "anthropic" && !is_gateway_s(&key.variable)) {
            if self.candidates.is_empty() {
                // Claude Code sends this key by itself.
                self.add(OWN_KEY, format!("Claude Code's own key, {}", key.variable), "paid per token", json!({}), None, true);
                continue;
            }
            let profile = json!({ "auth": { "keychain": "console" }, "budget": { "per_day_usd": CEILING_USD } });
            self.add("console", format!("Anthropic's API with {}", key.variable), PAID, profile, Some(&key.variable), true);
        }
        for key in found.keys.iter().filter(|key| key.provider == "openrouter") {
            let mut profile =
                json!({ "platform": "openrouter", "auth": { "keychain": "openrouter" }, "budget": { "per_day_usd": CEILING_USD } });
            if let Some(url) = &key.base_url {
                profile["base_url"] = url.as_str().into();
            }
            self.add("openrouter", format!("OpenRouter with {}", key.variable), PAID, profile, Some(&key.variable), true);
        }
        for key in found.keys.iter().filter(|key| !stand_ins(&key.provider).is_empty()) {
            let models: Map<String, Value> =
                stand_ins(&key.provider).iter().map(|(claude, own)| ((*claude).to_owned(), (*own).into())).collect();
            let names: Vec<String> = stand_ins(&key.provider).iter().map(|(claude, own)| format!("{own} for {claude}")).collect();
            let what = format!("{} with {}, other models than Claude's ({})", company(&key.provider), key.variable, names.join(", "));
            let profile = json!({ "preset": key.provider, "auth": { "keychain": key.provider }, "models": models });
            self.add(&key.provider, what, PAID_WITHOUT_CEILING, profile, Some(&key.variable), false);
        }
    }

    /// Adds a candidate under a name that is free.
    fn add(&mut self, name: &str, what: String, costs: &'static str, profile: Value, key_of: Option<&str>, proposed: bool) {
        let name = self.free_name(name);
        let Value::Object(mut profile) = profile else { return };
        if let Some(Value::Object(auth)) = profile.get_mut("auth")
            && auth.contains_key("keychain")
        {
            auth.insert("keychain".to_owned(), name.as_str().into());
        }
        let key_of = key_of.map(str::to_owned);
        let (is_there, edits) = (false, Vec::new());
        self.candidates.push(Candidate { name, what, costs, profile, key_of, proposed, is_there, edits, problem: None, verdict: None });
    }

    fn free_name(&self, name: &str) -> String {
        let is_taken = |name: &str| self.candidates.iter().any(|candidate| candidate.name == name);
        let mut free = name.to_owned();
        for number in 2.. {
            if !is_taken(&free) {
                break;
            }
            free = format!("{name}-{number}");
        }
        free
    }

    /// Puts the profiles of the configuration in the place of what was found of the same kind, and adds the others.
    fn meet_configuration(&mut self, found: &Found, home: &Path) {
        if self.current.profiles.is_empty() {
            return;
        }
        let existing = self.current.profiles.clone();
        let has_chain = !self.current.chain.is_empty();
        let in_chain = |name: &str| self.current.chain.iter().any(|known| known == name);
        let mut rest: Vec<&Existing> = existing.iter().collect();
        let mut candidates = std::mem::take(&mut self.candidates);
        for candidate in &mut candidates {
            let same = compiled(candidate, home).and_then(|new| rest.iter().position(|known| is_same(&known.profile, &new, found)));
            let Some(same) = same.map(|at| rest.remove(at)) else { continue };
            candidate.name = same.profile.name.to_string();
            if matches!(same.profile.auth.source, AuthSource::Client) && !same.profile.base_url.is_anthropic() && found.gateway.is_none() {
                candidate.what = format!("{}, at {}", candidate.what, same.profile.base_url.authority());
            }
            (candidate.is_there, candidate.profile) = (true, Map::new());
            // A key that the configuration finds needs no second copy.
            candidate.key_of = candidate.key_of.take().filter(|_| same.missing.is_some());
            if let (Some(_), AuthSource::Keychain(_)) = (&candidate.key_of, &same.profile.auth.source) {
                continue;
            }
            candidate.key_of = None;
            own_credential(candidate, same);
        }
        for known in &rest {
            let name = known.profile.name.to_string();
            let url = &known.profile.base_url;
            let mut candidate = Candidate {
                what: format!("{}, of your configuration", url.authority()),
                costs: "as you have set it",
                profile: Map::new(),
                key_of: None,
                // The client's credential belongs to one host, and that has its place already.
                proposed: !has_chain || in_chain(&name),
                is_there: true,
                edits: Vec::new(),
                problem: None,
                verdict: None,
                name,
            };
            if matches!(known.profile.auth.source, AuthSource::Client) {
                let owner = found.gateway.as_deref().and_then(|url| BaseUrl::parse(url).ok());
                match owner {
                    Some(owner) if owner.host != url.host || owner.port != url.port => {
                        candidate.proposed = false;
                        candidate.problem = Some(format!("Claude Code's credential belongs to {}", owner.authority()));
                    }
                    _ if !in_chain(&candidate.name) => candidate.proposed = false,
                    _ => {}
                }
            }
            own_credential(&mut candidate, known);
            candidate.proposed &= candidate.problem.is_none() || in_chain(&candidate.name);
            candidates.push(candidate);
        }
        if has_chain {
            let gateway = candidates.first().filter(|_| found.gateway.is_some()).map(|candidate| candidate.name.clone());
            let moved = gateway.filter(|name| !self.goes_to_gateway(found, name));
            let is_moved = |name: &str| moved.as_deref() == Some(name);
            for candidate in &mut candidates {
                // A chain that has a spare stays as it is, and so does the place of the client's login: what is new is the user's to name.
                let is_wanted = candidate.key_of.is_some() && self.current.chain.len() < 2;
                candidate.proposed &= in_chain(&candidate.name) || is_moved(&candidate.name) || is_wanted;
            }
            let place = |name: &str| self.current.chain.iter().position(|known| known == name).map_or(usize::MAX, |place| place + 1);
            candidates.sort_by_key(|candidate| if is_moved(&candidate.name) { 0 } else { place(&candidate.name) });
        }
        candidates.sort_by_key(|candidate| !candidate.proposed);
        // Names that the configuration has are taken, whatever they are.
        let mut taken: Vec<String> = candidates.iter().filter(|one| one.is_there).map(|one| one.name.clone()).collect();
        for candidate in candidates.iter_mut().filter(|candidate| !candidate.is_there) {
            let base = candidate.name.clone();
            for number in 2.. {
                if !taken.contains(&candidate.name) {
                    break;
                }
                candidate.name = format!("{base}-{number}");
            }
            taken.push(candidate.name.clone());
            if let Some(Value::Object(auth)) = candidate.profile.get_mut("auth")
                && auth.contains_key("keychain")
            {
                auth.insert("keychain".to_owned(), candidate.name.as_str().into());
            }
        }
        self.candidates = candidates;
    }

    /// True if the chain sends the client's credential to the gateway in use, or goes there with a credential of its own.
    fn goes_to_gateway(&self, found: &Found, gateway: &str) -> bool {
        let chain = &self.current.chain;
        let profile = |name: &String| self.current.profiles.iter().find(|known| *known.profile.name == **name).map(|known| &known.profile);
        let mut profiles = chain.iter().filter_map(profile);
        let first = profiles.clone().find(|profile| matches!(profile.auth.source, AuthSource::Client));
        let url = found.gateway.as_deref().and_then(|url| BaseUrl::parse(url).ok());
        match (first, url) {
            (Some(first), _) => *first.name == *gateway,
            (None, Some(url)) => profiles.any(|profile| profile.base_url.host == url.host && profile.base_url.port == url.port),
            (None, None) => true,
        }
    }

    /// Gives each spare names for the models that the client asks for, or says that it has none.
    fn map_models(&mut self, found: &Found) {
        let models = &found.models;
        let gateway = found.gateway.as_deref().and_then(|url| BaseUrl::parse(url).ok());
        if models.is_empty() {
            return;
        }
        let existing = &self.current.profiles;
        for candidate in self.candidates.iter_mut().skip(1) {
            let known = existing.iter().find(|known| *known.profile.name == candidate.name).filter(|_| candidate.is_there);
            let mut missing = Vec::new();
            for model in models {
                match (known, StandIn::of(candidate, known, gateway.as_ref(), model)) {
                    (_, StandIn::Mapped) => {}
                    (_, StandIn::Unknown) => missing.push(model.name.as_str()),
                    (Some(_), StandIn::Name(name)) => candidate.edits.push((format!("models.\"{}\"", model.name), name.into())),
                    (None, StandIn::Name(name)) => {
                        let map = candidate.profile.entry("models").or_insert_with(|| Value::Object(Map::new()));
                        if let Value::Object(map) = map {
                            // Before the patterns: the first entry that matches decides.
                            let rest = std::mem::take(map);
                            let (own, patterns): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(key, _)| !key.contains('*'));
                            map.extend(own);
                            map.insert(model.name.clone(), name.into());
                            map.extend(patterns);
                        }
                    }
                }
            }
            if let Some(first) = missing.first() {
                candidate
                    .problem
                    .get_or_insert_with(|| format!("it has no name for {first}: set `profiles.{}.models.\"{first}\"`", candidate.name));
            }
        }
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        self.notes.push(format!("Claude Code asks for {}: a spare's `models` names what stands in for it there", names.join(", ")));
    }

    fn add_notes(&mut self, found: &Found) {
        if found.gateway.is_none() && found.own_login().is_some() && found.keys.iter().any(|key| key.variable == CLIENT_KEY) {
            self.notes.push(format!(
                "{CLIENT_KEY} is set, so Claude Code sends that key and not your login: take it out of your shell to have the login first"
            ));
        }
        for elsewhere in &found.elsewhere {
            self.notes.push(if elsewhere.always {
                format!(
                    "{} sends Claude Code to {}, and its other sessions go elsewhere: hotspare can stand for one of them",
                    elsewhere.from, elsewhere.url
                )
            } else {
                format!(
                    "{} starts Claude Code with {}: its settings outrank that once hotspare is in them; the credential there is sent to no \
                     other host",
                    elsewhere.from, elsewhere.url
                )
            });
        }
        for tool in &found.tools {
            self.notes.push(format!("{} has providers of yours: `hotspare profile import --spare {}`", tool.tool, tool.file));
        }
    }

    /// The proposed chain, as numbers of candidates.
    pub(super) fn proposed(&self) -> Vec<usize> {
        (0..self.candidates.len()).filter(|place| self.candidates[*place].proposed).collect()
    }

    /// How many profiles of a chain can serve.
    pub(super) fn able(&self, chain: &[usize]) -> usize {
        chain.iter().filter(|place| self.candidates[**place].problem.is_none()).count()
    }

    /// The profiles of a chain whose keys the free test did not prove.
    pub(super) fn unproved(&self, chain: &[String]) -> Vec<&str> {
        let is_unproved = |candidate: &&Candidate| matches!(candidate.verdict, Some(Verdict::Unproved(_)));
        let in_chain = |candidate: &&Candidate| chain.contains(&candidate.name);
        self.candidates.iter().filter(is_unproved).filter(in_chain).map(|candidate| candidate.name.as_str()).collect()
    }

    /// The order that the user typed, `1 3 2`: each number once, all of them known.
    pub(super) fn ordered(&self, text: &str) -> Result<Vec<usize>, String> {
        let mut order = Vec::new();
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            let number: usize = word.parse().map_err(|_| format!("`{word}` is no number"))?;
            let place = number.checked_sub(1).filter(|place| *place < self.candidates.len());
            let place = place.ok_or_else(|| format!("there is no {number}, only 1 to {}", self.candidates.len()))?;
            if order.contains(&place) {
                return Err(format!("{number} is there twice"));
            }
            order.push(place);
        }
        if order.is_empty() { Err("name at least one".to_owned()) } else { Ok(order) }
    }

    /// Takes a key that its provider rejected out of the proposal.
    pub(super) fn judge(&mut self, place: usize, verdict: Verdict) {
        let candidate = &mut self.candidates[place];
        if let Verdict::Rejected(why) = &verdict {
            candidate.problem = Some(format!("its key is rejected: {why}"));
            // One that the configuration has keeps its place: the key is what has to change.
            candidate.proposed &= candidate.is_there;
        }
        candidate.verdict = Some(verdict);
    }

    /// `failover_policy` and `profiles` for a chain, where the configuration has neither.
    pub(super) fn configuration(&self, chain: &[usize]) -> (Value, Value) {
        let members: Vec<&Candidate> = chain.iter().map(|place| &self.candidates[*place]).collect();
        let mut policy = Map::new();
        policy.insert("enabled".to_owned(), true.into());
        policy.extend(chain_keys(&members));
        let profiles: Map<String, Value> =
            members.iter().map(|candidate| (candidate.name.clone(), Value::Object(candidate.profile.clone()))).collect();
        (Value::Object(policy), Value::Object(profiles))
    }

    /// What is set in a configuration that has profiles: keys, and nothing that stands there already.
    pub(super) fn edits(&self, chain: &[usize]) -> Vec<(String, Value)> {
        let members: Vec<&Candidate> = chain.iter().map(|place| &self.candidates[*place]).collect();
        let mut edits = Vec::new();
        for candidate in &members {
            if !candidate.is_there {
                edits.push((format!("profiles.\"{}\"", candidate.name), Value::Object(candidate.profile.clone())));
            }
            edits.extend(candidate.edits.iter().map(|(key, value)| (format!("profiles.\"{}\".{key}", candidate.name), value.clone())));
        }
        let names: Vec<&str> = members.iter().map(|candidate| candidate.name.as_str()).collect();
        if names != self.current.chain.iter().map(String::as_str).collect::<Vec<_>>() {
            edits.extend(chain_keys(&members).into_iter().map(|(key, value)| (format!("failover_policy.{key}"), value)));
        }
        edits
    }

    /// True if the configuration has profiles or a chain, so that it is edited key by key.
    pub(super) fn is_edit(&self) -> bool {
        !self.current.profiles.is_empty()
    }
}

/// The keys of a policy that name a chain.
fn chain_keys(members: &[&Candidate]) -> Vec<(String, Value)> {
    let Some((primary, spares)) = members.split_first() else { return Vec::new() };
    let mut keys = vec![("primary_profile".to_owned(), Value::from(primary.name.as_str()))];
    let names: Vec<Value> = spares.iter().map(|spare| spare.name.as_str().into()).collect();
    if !names.is_empty() {
        keys.push(("secondary_profile".to_owned(), Value::Array(names)));
    }
    keys
}

/// What a profile of the configuration lacks to serve behind a service.
fn own_credential(candidate: &mut Candidate, known: &Existing) {
    if let Some(why) = &known.missing {
        candidate.problem = Some(format!("its credential is missing: {why}"));
    } else if let Some(variable) = &known.only_in_shell {
        candidate.key_of = Some(variable.clone());
        candidate.edits.push(("auth".to_owned(), json!({ "keychain": candidate.name })));
    }
}

/// The candidate as a configuration compiles it.
fn compiled(candidate: &Candidate, home: &Path) -> Option<Profile> {
    let text = json!({ "profiles": { candidate.name.as_str(): candidate.profile } }).to_string();
    let config = hotspare_config::parse(&text, Path::new("config.json"), home).ok()?;
    config.profiles.into_iter().find(|profile| *profile.name == candidate.name)
}

/// True if a profile of the configuration is what was found: the client's own credential wherever the configuration sends it, or an account
/// of the same kind at the same host.
fn is_same(known: &Profile, new: &Profile, found: &Found) -> bool {
    let is_host = known.base_url.host == new.base_url.host && known.base_url.port == new.base_url.port;
    match (&known.auth.source, &new.auth.source) {
        // Without a gateway in use the configuration's address is the user's statement.
        (AuthSource::Client, AuthSource::Client) => is_host || found.gateway.is_none(),
        (AuthSource::ClaudeConfigDir(known), AuthSource::ClaudeConfigDir(new)) => known == new,
        (AuthSource::Client | AuthSource::None | AuthSource::ClaudeConfigDir(_), _) => false,
        (_, AuthSource::Client | AuthSource::None | AuthSource::ClaudeConfigDir(_)) => false,
        _ => is_host,
    }
}

/// What a spare calls a model of the client's own.
enum StandIn {
    /// Its map says so already.
    Mapped,
    /// This name is to be put into its map.
    Name(String),
    /// Only the user can say.
    Unknown,
}

impl StandIn {
    fn of(candidate: &Candidate, known: Option<&Existing>, gateway: Option<&BaseUrl>, model: &OwnModel) -> Self {
        let named = |preset: &str| pattern_stand_in(preset, &model.stand_in).map_or(Self::Unknown, Self::Name);
        let platform = match known {
            Some(known) => {
                // Another account at the gateway knows the gateway's names.
                let is_gateway =
                    gateway.is_some_and(|url| url.host == known.profile.base_url.host && url.port == known.profile.base_url.port);
                if is_gateway || matches!(known.profile.models.map(&model.name), Mapped::To(_) | Mapped::Rejected) {
                    return Self::Mapped;
                }
                known.profile.platform
            }
            None if candidate.profile.contains_key("preset") => return named(candidate.profile["preset"].as_str().unwrap_or_default()),
            None if candidate.profile.get("platform").is_some_and(|platform| platform == "openrouter") => Platform::OpenRouter,
            None => Platform::Anthropic,
        };
        match platform {
            Platform::Anthropic => Self::Name(model.stand_in.clone()),
            Platform::OpenRouter => {
                ClaudeModel::of(&model.stand_in).and_then(ClaudeModel::openrouter_name).map_or(Self::Unknown, Self::Name)
            }
            Platform::Compatible(_) => platform.preset_word().map_or(Self::Unknown, named),
        }
    }
}

/// The name that a company with models of its own gives for one of Claude's.
fn pattern_stand_in(preset: &str, claude: &str) -> Option<String> {
    let matches = |pattern: &str| claude.starts_with(pattern.trim_end_matches('*'));
    stand_ins(preset).iter().find(|(pattern, _)| matches(pattern)).map(|(_, own)| (*own).to_owned())
}

/// What the client's own login is called: by its plan, where that can be a profile's name.
fn own_name(login: &Login) -> String {
    if !matches!(login.auth.as_str(), "login" | "keychain") {
        return OWN_KEY.to_owned();
    }
    let plan: String = login.plan.as_deref().unwrap_or_default().to_ascii_lowercase();
    let is_name = (1..=MAX_PLAN).contains(&plan.len()) && plan.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_name { plan } else { SUBSCRIPTION.to_owned() }
}

fn words(login: &Login, now: u64) -> String {
    let account = login.account.as_ref().map(|account| format!(" of {account}")).unwrap_or_default();
    let ends = login.expires.map(|end| match end.checked_sub(now) {
        Some(left) => format!(" (good for {})", words::span(left / 60 * 60)),
        None => " (ran out; Claude Code renews it when it runs there)".to_owned(),
    });
    let account = format!("{account}{}", ends.unwrap_or_default());
    match (login.auth.as_str(), &login.plan) {
        ("login" | "keychain", Some(plan)) => format!("the {plan} login{account}"),
        ("login" | "keychain", None) => format!("the login{account}"),
        ("helper", _) => format!("the key of its `apiKeyHelper`{account}"),
        _ => format!("the token of its settings{account}"),
    }
}

/// `~/.claude-personal`
fn folder(path: &Path, home: &Path) -> String {
    path.strip_prefix(home).map_or_else(|_| path.display().to_string(), |below| format!("~/{}", below.display()))
}

/// Whose preset it is, for people.
fn company(preset: &str) -> &str {
    match preset {
        "deepseek" => "DeepSeek",
        "kimi" => "Moonshot",
        "minimax" => "MiniMax",
        "zai" => "Z.ai",
        other => other,
    }
}

fn unusable(found: &Found) -> Vec<Unusable> {
    let known = |provider: &str| ["anthropic", "openrouter"].contains(&provider) || !stand_ins(provider).is_empty();
    let others = found.keys.iter().filter(|key| !known(&key.provider)).map(|key| Unusable {
        what: format!("{} ({})", key.variable, company(&key.provider)),
        why: format!(
            "paid, and its models are others than Claude's, with names that change: only you can say which may stand in, with `printenv {0} | hotspare profile add {1} --preset {1} --keychain --spare --model 'claude-*=NAME'`",
            key.variable, key.provider
        ),
    });
    let clouds = found.clouds.iter().map(|cloud| Unusable {
        what: format!("{} ({})", cloud.platform, cloud.by),
        why: "this version does not speak it yet; through a gateway in Anthropic's format it can be a profile".to_owned(),
    });
    others.chain(clouds).collect()
}

#[cfg(test)]
mod tests;
