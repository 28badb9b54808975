//! Decides which chain is proposed for what was found. Never takes a paid profile, or a login of another folder, without the user's word,
//! and never reads or writes anything.

use std::path::Path;

use hotspare_config::stand_ins;
use serde_json::{Map, Value, json};

use crate::found::{Found, Login};
use crate::words;

/// What the client's own login or key is called in a configuration.
const OWN: &str = "claude";

/// The key that Claude Code sends by itself wherever it goes.
const CLIENT_KEY: &str = "ANTHROPIC_API_KEY";

/// What a gateway that the client goes to today is called.
const GATEWAY: &str = "gateway";

/// What a spare that costs money may take in one day unless the user says otherwise.
const CEILING_USD: u32 = 10;

const PAID: &str = "paid per token, at most $10 a day";

/// No price is known for other companies' models, so no ceiling could be kept.
const PAID_WITHOUT_CEILING: &str = "paid per token, and hotspare knows no price, so it can keep no ceiling";

/// Something that can be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// The profile's name.
    pub name: String,
    /// What it is, for people.
    pub what: String,
    /// What it costs, or what to mind.
    pub costs: &'static str,
    /// The profile as it stands in a configuration.
    pub profile: Map<String, Value>,
    /// The variable whose key is kept for it.
    pub key_of: Option<String>,
    /// Whether it is proposed, or only listed.
    pub proposed: bool,
}

/// What was found and cannot be asked by this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusable {
    /// What it is.
    pub what: String,
    /// Why not, and what to do instead.
    pub why: String,
}

/// A proposal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Plan {
    /// In the proposed order; those that are not proposed come last.
    pub candidates: Vec<Candidate>,
    pub unusable: Vec<Unusable>,
    /// What else to mind.
    pub notes: Vec<String>,
}

impl Plan {
    /// The proposal for what was found.
    pub(super) fn of(found: &Found, home: &Path, now: u64) -> Self {
        let mut plan = Self::default();
        if let Some(url) = &found.gateway {
            plan.add(
                GATEWAY,
                format!("{url}, where Claude Code goes today"),
                "costs what it costs today",
                json!({ "base_url": url }),
                None,
                true,
            );
        } else if let Some(login) = found.own_login() {
            plan.add(
                OWN,
                format!("{} in {}", words(login, now), folder(&login.folder, home)),
                "what you pay already",
                json!({}),
                None,
                true,
            );
        }
        // A key that goes to a gateway today is the gateway's: it is nobody else's business.
        let is_gateway_s = |variable: &str| found.gateway.is_some() && variable == CLIENT_KEY;
        for key in found.keys.iter().filter(|key| key.provider == "anthropic" && !is_gateway_s(&key.variable)) {
            if plan.candidates.is_empty() {
                // Claude Code sends this key by itself.
                plan.add(OWN, format!("Claude Code's own key, {}", key.variable), "paid per token", json!({}), None, true);
                continue;
            }
            let profile = json!({ "auth": { "keychain": "console" }, "budget": { "per_day_usd": CEILING_USD } });
            plan.add("console", format!("Anthropic's API with {}", key.variable), PAID, profile, Some(&key.variable), true);
        }
        for key in found.keys.iter().filter(|key| key.provider == "openrouter") {
            let mut profile =
                json!({ "platform": "openrouter", "auth": { "keychain": "openrouter" }, "budget": { "per_day_usd": CEILING_USD } });
            if let Some(url) = &key.base_url {
                profile["base_url"] = url.as_str().into();
            }
            plan.add("openrouter", format!("OpenRouter with {}", key.variable), PAID, profile, Some(&key.variable), true);
        }
        for key in found.keys.iter().filter(|key| !stand_ins(&key.provider).is_empty()) {
            let models: Map<String, Value> =
                stand_ins(&key.provider).iter().map(|(claude, own)| ((*claude).to_owned(), (*own).into())).collect();
            let names: Vec<String> = stand_ins(&key.provider).iter().map(|(claude, own)| format!("{own} for {claude}")).collect();
            let what = format!("{} with {}, other models than Claude's ({})", company(&key.provider), key.variable, names.join(", "));
            let profile = json!({ "preset": key.provider, "auth": { "keychain": key.provider }, "models": models });
            plan.add(&key.provider, what, PAID_WITHOUT_CEILING, profile, Some(&key.variable), false);
        }
        for login in found.logins.iter().filter(|login| !login.own) {
            let short = folder(&login.folder, home);
            let name = short.rsplit(".claude").next().unwrap_or_default().trim_matches(['-', '_', '.']).to_owned();
            let profile = json!({ "auth": { "claude_config_dir": short } });
            let name = if name.is_empty() { "other".to_owned() } else { name };
            plan.add(&name, format!("{} in {short}", words(login, now)), "mind the provider's terms for such use", profile, None, false);
        }
        plan.unusable = unusable(found);
        if found.gateway.is_none() && found.own_login().is_some() && found.keys.iter().any(|key| key.variable == CLIENT_KEY) {
            plan.notes.push(format!(
                "{CLIENT_KEY} is set, so Claude Code sends that key and not your login: take it out of your shell to have the login first"
            ));
        }
        plan
    }

    fn add(&mut self, name: &str, what: String, costs: &'static str, profile: Value, key_of: Option<&str>, proposed: bool) {
        let alike =
            self.candidates.iter().filter(|candidate| candidate.name == name || candidate.name.starts_with(&format!("{name}-"))).count();
        let name = if alike == 0 { name.to_owned() } else { format!("{name}-{}", alike + 1) };
        let Value::Object(mut profile) = profile else { return };
        if let Some(Value::Object(auth)) = profile.get_mut("auth")
            && auth.contains_key("keychain")
        {
            auth.insert("keychain".to_owned(), name.as_str().into());
        }
        self.candidates.push(Candidate { name, what, costs, profile, key_of: key_of.map(str::to_owned), proposed });
    }

    /// The proposed chain, as numbers of candidates.
    pub(super) fn proposed(&self) -> Vec<usize> {
        (0..self.candidates.len()).filter(|place| self.candidates[*place].proposed).collect()
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

    /// `failover_policy` and `profiles` for a chain.
    pub(super) fn configuration(&self, chain: &[usize]) -> (Value, Value) {
        let members: Vec<&Candidate> = chain.iter().map(|place| &self.candidates[*place]).collect();
        let mut policy = Map::new();
        policy.insert("enabled".to_owned(), true.into());
        if let Some((primary, spares)) = members.split_first() {
            policy.insert("primary_profile".to_owned(), primary.name.as_str().into());
            let names: Vec<Value> = spares.iter().map(|spare| spare.name.as_str().into()).collect();
            if !names.is_empty() {
                policy.insert("secondary_profile".to_owned(), Value::Array(names));
            }
        }
        let profiles: Map<String, Value> =
            members.iter().map(|candidate| (candidate.name.clone(), Value::Object(candidate.profile.clone()))).collect();
        (Value::Object(policy), Value::Object(profiles))
    }
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
