//! Keeps who minted which thinking block, over a restart too, and for the time that the gateway lives what each profile has refused; and has requests changed
//! accordingly. Never waits, and leaves a request alone as long as nobody but Anthropic has answered. Thinking that was left out of another
//! company's answers is kept in memory alone ([`left_out`]).

mod left_out;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hotspare_core::lasting::Entry;
use hotspare_core::policy::LONGEST_TRUST;
use hotspare_core::{Endpoint, Failure, FailureKind, Stage};
use hotspare_upstream::Target;
use hotspare_wire::history::{self, Adapted, Memory};
use hotspare_wire::mint::{Issuer, Mark, MintBook};
use hotspare_wire::repair::{Repair, RepairMemory};
use hotspare_wire::transcript::Left;
use serde::{Deserialize, Serialize};

use left_out::LeftOuts;

/// What was learned of all conversations.
#[derive(Debug, Default)]
pub(crate) struct Histories(Mutex<Learned>);

#[derive(Debug, Default)]
struct Learned {
    mints: MintBook,
    repairs: RepairMemory,
    left_out: LeftOuts,
    /// What another company has minted and the store does not have yet.
    fresh: Vec<Minted>,
    /// Pairs of models, asked for and served, that people were told of.
    told: HashSet<u64>,
}

/// Most pairs of models that are told of in the log.
const MOST_TOLD: usize = 64;

/// Most of it that waits to be kept; what comes on top is only known until the end. One exchange brings a handful.
const MOST_FRESH: usize = 1024;

/// How long it is remembered who minted a block of another company. A conversation that rests for longer is repaired once, as before.
const REMEMBERED: Duration = LONGEST_TRUST;

/// Another company has answered in a conversation, with this block where one is named. Anthropic's own blocks need no record: what nobody is
/// known to have minted goes to Anthropic and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Minted {
    /// The conversation, hashed.
    conversation: u64,
    /// Who answered.
    profile: String,
    /// The block's mark, 32 hexadecimal digits; none: it has answered.
    mark: Option<String>,
    /// When it is forgotten, in milliseconds since 1970 (UTC).
    #[serde(default)]
    ends_at_ms: u64,
}

impl Entry for Minted {
    const KIND: &'static str = "mint";

    fn key(&self) -> String {
        format!("{:016x}/{}/{}", self.conversation, self.profile, self.mark.as_deref().unwrap_or("-"))
    }

    fn profile(&self) -> &str {
        &self.profile
    }

    fn ends_at_ms(&self) -> u64 {
        self.ends_at_ms
    }
}

/// What [`history::adapt`] asks for, about one company.
struct Recall<'a> {
    learned: &'a Mutex<Learned>,
    company: &'a str,
}

impl Recall<'_> {
    fn left_out<T>(&self, call: &str, pick: impl Fn(&left_out::LeftOut) -> Option<T>) -> Option<T> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.left_out.of(self.company, call).and_then(pick)
    }
}

impl Memory for Recall<'_> {
    fn issuer_of(&self, mark: Mark) -> Option<Issuer> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).mints.issuer_of(mark).cloned()
    }

    fn original_of(&self, call: &str) -> Option<String> {
        self.left_out(call, |left| left.id.clone())
    }

    fn thoughts_before(&self, call: &str) -> Vec<(usize, String)> {
        self.left_out(call, |left| left.thoughts.clone()).map(|thoughts| thoughts.to_vec()).unwrap_or_default()
    }
}

impl Learned {
    /// The issuer has answered with these blocks.
    fn note(&mut self, conversation: u64, issuer: &Issuer, marks: &[Mark]) {
        let mut news: Vec<Option<Mark>> = Vec::new();
        if self.mints.answered(conversation, issuer) {
            news.push(None);
        }
        news.extend(marks.iter().filter(|mark| self.mints.minted(conversation, issuer, **mark)).copied().map(Some));
        if issuer.native {
            return;
        }
        let room = MOST_FRESH.saturating_sub(self.fresh.len());
        self.fresh.extend(news.into_iter().take(room).map(|mark| Minted {
            conversation,
            profile: issuer.profile.to_string(),
            mark: mark.map(|mark| format!("{:032x}", mark.number())),
            ends_at_ms: 0,
        }));
    }
}

/// How one request has to be changed for one profile.
#[derive(Debug, Clone)]
pub(crate) struct Adaptation {
    conversation: u64,
    target: Arc<Target>,
    model: Option<Arc<str>>,
    repair: Option<Repair>,
}

/// What was changed, in the extensions of the answer.
#[derive(Debug, Clone)]
pub(crate) struct Changed(pub Arc<str>);

impl Histories {
    /// Whether people were not told yet that this model was served where that one was asked for. Each request tells its own record.
    pub(crate) fn is_news(&self, asked: &str, served: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (asked, served).hash(&mut hasher);
        let told = &mut self.lock().told;
        told.len() < MOST_TOLD && told.insert(hasher.finish())
    }

    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a request must be changed for a profile; none: it goes there as it came. `conversation` is asked for only where it matters.
    /// `thinks`: whether the profile may be asked to.
    pub(crate) fn adaptation(
        &self,
        endpoint: Endpoint,
        conversation: impl FnOnce() -> u64,
        target: &Arc<Target>,
        model: Option<&Arc<str>>,
        thinks: bool,
    ) -> Option<Adaptation> {
        if !matches!(endpoint, Endpoint::Messages | Endpoint::CountTokens) {
            return None;
        }
        let learned = self.lock();
        // A conversation may be a fork, a resumed one or an agent's: only what the body holds tells whether others had a part in it.
        let unmixed = target.platform.is_native() && learned.mints.is_native();
        if unmixed && thinks && model.is_none() && learned.repairs.is_empty() {
            return None;
        }
        let conversation = conversation();
        let mut repair = learned.repairs.of(conversation, &target.name).cloned();
        if !thinks {
            repair.get_or_insert_default().no_thinking = true;
        }
        if unmixed && model.is_none() && repair.is_none() {
            return None;
        }
        Some(Adaptation { conversation, target: target.clone(), model: model.cloned(), repair })
    }

    /// The body as it goes to the profile.
    ///
    /// # Errors
    ///
    /// If the request cannot be served there.
    pub(crate) fn adapt(&self, body: &Bytes, adaptation: &Adaptation) -> Result<Adapted, Failure> {
        let Adaptation { target, model, repair, .. } = adaptation;
        let company = company(target);
        let to = history::Target {
            profile: &target.name,
            company: &company,
            platform: target.platform,
            model: model.as_deref(),
            repair: repair.as_ref(),
        };
        let adapted = history::adapt(body, &to, &Recall { learned: &self.0, company: &company })
            .map_err(|unfit| Failure::new(FailureKind::ProviderBound, Stage::Connect, unfit.to_string()))?;
        if let Adapted::Changed(_, changes) = &adapted {
            // A resumed session has another name, and the same history.
            let mut learned = self.lock();
            for issuer in changes.issuers.iter().filter(|issuer| !issuer.native) {
                learned.note(adaptation.conversation, issuer, &[]);
            }
        }
        Ok(adapted)
    }

    /// Remembers what was left out of an answer, for the company that gave it.
    pub(crate) fn remember_left(&self, target: &Target, left: Left) {
        if left.thoughts.is_empty() && left.ids.is_empty() {
            return;
        }
        let company = company(target);
        let mut learned = self.lock();
        for thoughts in left.thoughts {
            learned.left_out.add(&company, &thoughts.call, |left| left.thoughts = Some(thoughts.blocks.into()));
        }
        for (call, original) in left.ids {
            learned.left_out.add(&company, &call, |left| left.id = Some(original));
        }
    }

    /// The profile has answered in the conversation, with these thinking blocks.
    pub(crate) fn answered(&self, conversation: u64, target: &Target, marks: &[Mark]) {
        let issuer = Issuer { profile: target.name.clone(), native: target.platform.is_native() };
        self.lock().note(conversation, &issuer, marks);
    }

    /// What other companies have minted since the last time, to be kept from now on.
    pub(crate) fn take_fresh(&self, now_ms: u64) -> Vec<Minted> {
        let ends_at_ms = now_ms.saturating_add(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX));
        let fresh = std::mem::take(&mut self.lock().fresh);
        fresh.into_iter().map(|minted| Minted { ends_at_ms, ..minted }).collect()
    }

    /// What was kept of earlier processes. What makes no sense is left out.
    pub(crate) fn remember(&self, mut kept: Vec<Minted>) {
        // The newest stay where there are too many.
        kept.sort_by_key(|minted| minted.ends_at_ms);
        let mut learned = self.lock();
        for Minted { conversation, profile, mark, .. } in kept {
            let issuer = Issuer { profile: profile.into(), native: false };
            learned.mints.answered(conversation, &issuer);
            if let Some(number) = mark.and_then(|mark| u128::from_str_radix(&mark, 16).ok()) {
                learned.mints.minted(conversation, &issuer, Mark::from_number(number));
            }
        }
    }

    /// The profile has refused a request: whether there is a change that was not tried yet. It is remembered for the turns that follow.
    pub(crate) fn repair(&self, conversation: u64, target: &Target, refusal: &[u8], betas: &[String]) -> bool {
        let Some(repair) = Repair::of_refusal(refusal, betas.iter().map(String::as_str)) else { return false };
        self.lock().repairs.note(conversation, &target.name, &repair)
    }

    /// The change did not help.
    pub(crate) fn repair_failed(&self, conversation: u64, target: &Target) {
        self.lock().repairs.forget(conversation, &target.name);
    }
}

/// What tells companies apart: the host of the API, with its port where that is not the one of TLS.
pub(crate) fn company(target: &Target) -> String {
    const TLS: u16 = 443;
    if target.port == TLS { target.host.clone() } else { format!("{}:{}", target.host, target.port) }
}

impl Adaptation {
    /// Whether a beta still goes with the request.
    pub(crate) fn keeps_beta(&self, beta: &str) -> bool {
        self.repair.as_ref().is_none_or(|repair| repair.keeps_beta(beta))
    }

    /// Whether any beta is taken out.
    pub(crate) fn changes_betas(&self) -> bool {
        self.repair.as_ref().is_some_and(|repair| repair.no_betas || !repair.betas.is_empty())
    }
}
