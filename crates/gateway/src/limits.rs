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
