//! Decides which profiles are asked, in which order, and why one is left out. Never sends anything.

use std::sync::Arc;
use std::time::Instant;

use crate::facts::{ModelFamily, RequestFacts};
use crate::failure::FailureKind;
use crate::health::{Health, Standing};
use crate::policy::{Clocks, OnExhausted, Policy};
use crate::retries::Detours;

/// A profile: its place in a configuration's list, and in a snapshot the number that it keeps from one configuration to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub u16);

/// One profile of a chain, with the model it is asked for where the chain names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainEntry {
    /// Who is asked.
    pub profile: ProfileId,
    /// The model written in the chain; none: the client's own.
    pub model: Option<Arc<str>>,
}

/// Ordered profiles for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// For people: `default`, or the rule's number.
    pub name: Arc<str>,
    /// First is asked first.
    pub entries: Vec<ChainEntry>,
    /// Overrides the policy's.
    pub on_exhausted: Option<OnExhausted>,
}

/// A chain and when it holds. The first match wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainRule {
    /// None: any model, or no model at all.
    pub model: Option<ModelPattern>,
    /// The profiles.
    pub chain: Chain,
}

/// A model name with `*` for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPattern(Arc<str>);

impl ModelPattern {
    /// Takes the pattern as it stands in configuration.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole name fits.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// One profile that may be asked, and on which terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub profile: ProfileId,
    /// How.
    pub terms: Terms,
}

/// What holds for one request at one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The model to put in place of the client's, if any.
    pub model: Option<Arc<str>>,
    /// The policy's clocks with the profile's own put over them.
    pub clocks: Clocks,
    /// Whether it passes the client's own login on: then its 401 and its limit are the client's to see.
    pub client_login: bool,
}

impl Candidate {
    /// The model family it will be asked for.
    pub fn family(&self, facts: &RequestFacts) -> ModelFamily {
        self.terms.model.as_deref().map_or_else(|| facts.family(), ModelFamily::of)
    }
}

/// Why a profile of the chain is not a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// It failed lately and is not asked before this instant.
    Cooling {
        /// When it may be asked again.
        until: Instant,
        /// What it failed with.
        because: FailureKind,
    },
    /// Its model map rejects the model.
    NoModel,
    /// It passes the client's own credential on, and the client sent none.
    NoClientCredential,
    /// Its own credential cannot be had; the text says why.
    NoCredential(Arc<str>),
}

/// A profile left out, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Who.
    pub profile: ProfileId,
    /// Why.
    pub reason: SkipReason,
}

/// Ordered candidates for one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The chain it came from.
    pub chain: Arc<str>,
    /// Asked in this order.
    pub candidates: Vec<Candidate>,
    /// Left out.
    pub skipped: Vec<Skipped>,
    /// The chain's primary, usable or not.
    pub primary: ProfileId,
    /// What the client hears when nothing is left.
    pub on_exhausted: OnExhausted,
    /// No other profile stands behind the primary.
    pub lone: bool,
}

/// What a profile can do for one request, told by whoever holds the profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It can take the request on these terms.
    Fits(Terms),
    /// It cannot.
    Cannot(SkipReason),
}

/// Chooses the chain for these facts. The last rule must match everything.
pub fn chain_for<'a>(rules: &'a [ChainRule], facts: &RequestFacts) -> Option<&'a Chain> {
    rules
        .iter()
        .find(|rule| match (&rule.model, &facts.model) {
            (None, _) => true,
            (Some(pattern), Some(model)) => pattern.matches(model),
            (Some(_), None) => false,
        })
        .map(|rule| &rule.chain)
}

/// Orders the chain's profiles: the usable ones as the chain has them, then those that this session or this request avoids, then those
/// that cool down, soonest first. A profile that is blocked (login, billing, used-up window) is left out unless it is all there is.
pub fn plan(
    now: Instant,
    facts: &RequestFacts,
    chain: &Chain,
    policy: &Policy,
    health: &Health,
    detours: &Detours,
    fit: impl Fn(&ChainEntry) -> Fit,
) -> Plan {
    let mut usable = Vec::new();
    let mut avoided = Vec::new();
    let mut cooling = Vec::new();
    let mut blocked = Vec::new();
    let mut skipped = Vec::new();
    let entries = if policy.enabled { &chain.entries[..] } else { &chain.entries[..1] };
    for entry in entries {
        let terms = match fit(entry) {
            Fit::Fits(terms) => terms,
            Fit::Cannot(reason) => {
                skipped.push(Skipped { profile: entry.profile, reason });
                continue;
            }
        };
        let candidate = Candidate { profile: entry.profile, terms };
        match health.standing(now, entry.profile, candidate.family(facts), facts.own_credential) {
            Standing::Usable if detours.avoids(now, entry.profile) => avoided.push(candidate),
            Standing::Usable => usable.push(candidate),
            Standing::Cooling { until, because, hard } => {
                skipped.push(Skipped { profile: entry.profile, reason: SkipReason::Cooling { until, because } });
                if hard { &mut blocked } else { &mut cooling }.push((until, candidate));
            }
        }
    }
    cooling.sort_by_key(|(until, _)| *until);
    let mut candidates = usable;
    candidates.extend(avoided);
    candidates.extend(cooling.into_iter().map(|(_, candidate)| candidate));
    if candidates.is_empty() {
        // Never leave the user without a try or an honest answer: the block that ends first gives the provider's own words.
        candidates.extend(blocked.into_iter().min_by_key(|(until, _)| *until).map(|(_, candidate)| candidate));
    }
    Plan {
        chain: chain.name.clone(),
        candidates,
        skipped,
        primary: chain.entries.first().map_or(ProfileId(0), |entry| entry.profile),
        on_exhausted: chain.on_exhausted.unwrap_or(policy.on_exhausted),
        lone: entries.len() == 1,
    }
}
