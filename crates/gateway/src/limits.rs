//! Decides which profiles a request may reach whose folder is not the only one that counts: those that every set of rules concerned
//! allows. Never adds a profile to a chain, and never reorders one.

use std::borrow::Cow;

use hotspare_core::{Chain, ChainRule, RequestFacts};

/// Chains that limit others: a request reaches only profiles that these would ask for it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The last one matches everything.
    pub(crate) rules: Vec<ChainRule>,
    /// Whether failover is on there: otherwise the first profile of a chain is all of it.
    pub(crate) enabled: bool,
    /// Whether the user stands behind it. What a project brought along unasked limits only as long as a profile is left.
    pub(crate) is_firm: bool,
}

/// Why a request is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nobody has said in which folder its session works.
    UnknownFolder,
    /// The configuration that holds in this folder cannot be read, and never could.
    Unreadable(String),
    /// Its session has worked in more than one folder with rules: in this one before.
    SeveralFolders(String),
}

impl Reason {
    /// In words, for `why` and for an answer.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::UnknownFolder => "the session's folder is not known: only what every chain allows".to_owned(),
            Self::Unreadable(folder) => format!("the configuration for {folder} is not valid: only what every chain allows"),
            Self::SeveralFolders(folder) => format!("the session has also worked in {folder}: only what its rules allow too"),
        }
    }
}

/// What limits the chains of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limited {
    pub(crate) reason: Reason,
    pub(crate) of: Vec<Limit>,
}

/// The chain for these facts as far as the limits allow; `None` if nothing of it is left.
pub(crate) fn chain_for<'s>(
    rules: &'s [ChainRule],
    enabled: bool,
    limits: Option<&Limited>,
    facts: &RequestFacts,
) -> Option<Cow<'s, Chain>> {
    let chain = hotspare_core::route::chain_for(rules, facts)?;
    let Some(limits) = limits else { return Some(Cow::Borrowed(chain)) };
    let mut entries = reach(chain, enabled).to_vec();
    for limit in &limits.of {
        let allowed = hotspare_core::route::chain_for(&limit.rules, facts).map(|chain| reach(chain, limit.enabled)).unwrap_or_default();
        let left: Vec<_> = entries.iter().filter(|entry| allowed.iter().any(|other| other.profile == entry.profile)).cloned().collect();
        if limit.is_firm || !left.is_empty() {
            entries = left;
        }
    }
    (!entries.is_empty()).then(|| Cow::Owned(Chain { entries, ..chain.clone() }))
}

/// The entries of a chain that can be asked at all.
fn reach(chain: &Chain, enabled: bool) -> &[hotspare_core::ChainEntry] {
    if enabled { &chain.entries } else { chain.entries.get(..1).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hotspare_core::{ChainEntry, Endpoint, ModelPattern, ProfileId};
    use proptest::prelude::*;

    use super::*;

    fn facts(model: &str) -> RequestFacts {
        let credential = hotspare_upstream::ClientCredential::default();
        let facts = crate::admission::facts(Endpoint::Messages, &http::HeaderMap::new(), &credential);
        RequestFacts { model: Some(model.into()), ..facts }
    }

    fn rule() -> impl Strategy<Value = ChainRule> {
        let pattern = prop_oneof![Just(None), Just(Some("x*")), Just(Some("y"))];
        (pattern, prop::collection::vec(0..5_u16, 1..5)).prop_map(|(pattern, profiles)| {
            let entries = profiles.into_iter().map(|profile| ChainEntry { profile: ProfileId(profile), model: None }).collect();
            ChainRule { model: pattern.map(ModelPattern::new), chain: Chain { name: Arc::from("c"), entries, on_exhausted: None } }
        })
    }

    fn limit() -> impl Strategy<Value = Limit> {
        (prop::collection::vec(rule(), 1..4), any::<bool>(), any::<bool>()).prop_map(|(rules, enabled, is_firm)| Limit {
            rules,
            enabled,
            is_firm,
        })
    }

    fn profiles(rules: &[ChainRule], enabled: bool, facts: &RequestFacts) -> Vec<ProfileId> {
        let chain = hotspare_core::route::chain_for(rules, facts);
        chain.map(|chain| reach(chain, enabled).iter().map(|entry| entry.profile).collect()).unwrap_or_default()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the rules: nothing is reached that the own chain or a firm limit would not reach, the order stays, and limits that are not
        /// firm never take the last profile.
        #[test]
        fn limits_only_take_away(
            rules in prop::collection::vec(rule(), 1..4),
            enabled in any::<bool>(),
            of in prop::collection::vec(limit(), 0..4),
            model in prop_oneof![Just("x1"), Just("y"), Just("z")],
        ) {
            let facts = facts(model);
            let own = profiles(&rules, enabled, &facts);
            let limited = |of: Vec<Limit>| {
                let limited = Limited { reason: Reason::UnknownFolder, of };
                let chain = chain_for(&rules, enabled, Some(&limited), &facts);
                chain.map(|chain| chain.entries.iter().map(|entry| entry.profile).collect::<Vec<_>>()).unwrap_or_default()
            };
            let reached = limited(of.clone());
            let mut rest = own.iter();
            prop_assert!(reached.iter().all(|profile| rest.any(|other| other == profile)), "{reached:?} of {own:?}");
            for limit in of.iter().filter(|limit| limit.is_firm) {
                let allowed = profiles(&limit.rules, limit.enabled, &facts);
                prop_assert!(reached.iter().all(|profile| allowed.contains(profile)), "{reached:?} and {allowed:?}");
            }
            let firm: Vec<Limit> = of.into_iter().filter(|limit| limit.is_firm).collect();
            if firm.is_empty() {
                prop_assert_eq!(reached.is_empty(), own.is_empty());
            }
        }
    }
}
