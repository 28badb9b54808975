//! Decides which profiles are asked, in which order, and why one is left out. Never sends anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::affinity::Stay;
use crate::facts::{ModelFamily, RequestFacts, SlowRequest};
use crate::failure::{FailureKind, Grip};
use crate::fit::{Misfit, Takes};
use crate::health::Standing;
use crate::pause::left_out;
use crate::policy::{CLIENT_WAIT, Clocks, HEDGE_DELAY, OnExhausted, Policy, WINDOW_NEARLY_FULL};
use crate::price::Price;
use crate::spend::{Budget, Reached};
use crate::world::World;

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
    /// How. Shared: an exchange names its candidates in several places for as long as its answer flows.
    pub terms: Arc<Terms>,
    /// It is asked whatever its standing says: nobody else is there to ask.
    pub insist: bool,
    /// Blocked, or it refused this conversation: tried only when no other candidate is left.
    pub last_resort: bool,
}

/// What holds for one request at one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The model to put in place of the client's, if any.
    pub model: Option<Arc<str>>,
    /// The policy's clocks with the profile's own put over them.
    pub clocks: Clocks,
    /// Whether `clocks.head` may be fitted to what was measured: nobody has named it.
    pub fits_head: bool,
    /// How long its start may take before it is raced, where races are on.
    pub hedge_delay: Duration,
    /// Whether it passes the client's own login on: then its 401 and its limit are the client's to see.
    pub client_login: bool,
    /// Whether its credential can be read anew after a 401.
    pub rereadable: bool,
    /// Its address, hashed: profiles with the same may share a limit.
    pub origin: u64,
    /// Its host, hashed, where that is not this machine: what fails there may be the network.
    pub host: Option<u64>,
    /// What it takes of requests.
    pub takes: Takes,
    /// What its tokens cost; none: nobody has told.
    pub price: Option<Price>,
    /// How much money it may take.
    pub budget: Budget,
}

impl Default for Terms {
    /// The client's own model on the default clocks, at an unknown address, with a credential of the profile's own.
    fn default() -> Self {
        Self {
            model: None,
            clocks: Clocks::default(),
            fits_head: false,
            hedge_delay: HEDGE_DELAY,
            client_login: false,
            rereadable: false,
            origin: 0,
            host: None,
            takes: Takes::default(),
            price: None,
            budget: Budget::default(),
        }
    }
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
    /// It refused this conversation with a 4xx of its own and is skipped for it.
    Refused {
        /// Until when.
        until: Instant,
        /// What it refused with.
        because: FailureKind,
    },
    /// Its model map rejects the model.
    NoModel,
    /// Nothing says what the model is called there, and nothing is guessed.
    UnknownModel,
    /// It does not serve requests of this kind.
    NotServed,
    /// It passes the client's own credential on, and the client sent none.
    NoClientCredential,
    /// It passes the client's own credential on, and that one was issued by another host; the text says which.
    CredentialElsewhere(Arc<str>),
    /// Its own credential cannot be had; the text says why.
    NoCredential(Arc<str>),
    /// This machine's network is down.
    Offline,
    /// The user has paused it.
    Paused,
    /// The request does not fit it.
    Misfit(Misfit),
    /// A hook of the user's ruled it out for this request.
    Vetoed,
    /// Its budget is used up.
    Budget(Reached),
    /// It has a budget, and nobody has told what the model costs there.
    NoPrice,
}

/// Why a profile that stands before another in the chain is asked after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOver {
    /// The user has switched to another.
    Switched,
    /// The session is at home with another, whose prompt cache is warm.
    AtHomeElsewhere,
    /// It failed this session or this request a moment ago.
    Avoided,
    /// Its breaker waits for a trial, and this request is none.
    OnTrial,
    /// A usage window is nearly used up.
    NearlyFull,
    /// It was down, and takes its sessions back little by little.
    ComesBack,
}

impl PassedOver {
    /// Why, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Switched => "asked later, `hotspare switch` names another",
            Self::AtHomeElsewhere => "asked later, this session is at home with another",
            Self::Avoided => "asked later, it failed this session or request a moment ago",
            Self::OnTrial => "asked later, it is on trial with other requests",
            Self::NearlyFull => "asked later, a usage window is nearly used up",
            Self::ComesBack => "asked later, it takes its sessions back little by little",
        }
    }
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
    /// Left out, or asked only if nobody else is left.
    pub skipped: Vec<Skipped>,
    /// Candidates that stand before the first one in the chain, and why they are asked after it.
    pub passed_over: Vec<(ProfileId, PassedOver)>,
    /// The chain's primary, usable or not.
    pub primary: ProfileId,
    /// What the client hears when nothing is left.
    pub on_exhausted: OnExhausted,
    /// No other profile stands behind the primary.
    pub lone: bool,
    /// A profile that passes the client's own login on and is blocked: its last refusal is the client's to see when nobody can answer.
    pub blocked_login: Option<ProfileId>,
}

/// What a profile can do for one request, told by whoever holds the profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made; a box would be an allocation for each profile of a plan"
)]
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

/// How ready a profile is; the order is the order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    /// Well.
    Ready,
    /// Well, but not for this session now: it is nearly used up, or comes back slowly, or is on trial with others.
    Reluctant,
    /// It failed this session or this request a moment ago.
    Avoided,
}

struct Ranked {
    /// Its place in the chain.
    place: usize,
    readiness: Readiness,
    /// Its breaker waits for a trial.
    on_trial: bool,
    /// It is blocked and was not looked at for [`crate::policy::LOOK_INTERVAL`]: this request looks.
    is_look: bool,
    candidate: Candidate,
}

/// Orders the chain's profiles for one request. The session's own profile comes first while it is well, unless the session may go home to
/// a better one; then the chain's order, the well ones before those that failed a moment ago, and last those that cool down by a guess of
/// ours. A profile that is blocked is left out, and so is one whose breaker is open. Where nobody is well, a request now and then tries the
/// one that is back soonest. Whom the user has paused is as if it did not stand in the chain.
pub fn plan(
    now: Instant,
    facts: &RequestFacts,
    chain: &Chain,
    policy: &Policy,
    world: &mut World,
    request_key: Option<u64>,
    fit: impl Fn(&ChainEntry) -> Fit,
) -> Plan {
    let entries = if policy.enabled { &chain.entries[..] } else { &chain.entries[..1] };
    let paused = left_out(now, world, entries);
    let mut plan = Plan {
        chain: chain.name.clone(),
        candidates: Vec::with_capacity(entries.len()),
        skipped: paused.iter().map(|profile| Skipped { profile: *profile, reason: SkipReason::Paused }).collect(),
        passed_over: Vec::new(),
        primary: chain.entries.first().map_or(ProfileId(0), |entry| entry.profile),
        on_exhausted: chain.on_exhausted.unwrap_or(policy.on_exhausted),
        lone: entries.len() == paused.len() + 1,
        blocked_login: None,
    };
    let stay = world.affinity.stay(now, facts.stay_key()).cloned();
    let detours = world.retries.detours(now, facts.detour_key(), request_key);
    let mut ranked: Vec<Ranked> = Vec::with_capacity(entries.len());
    let mut closed: Vec<(Grip, Instant, Candidate)> = Vec::new();
    let mut refused: Vec<Candidate> = Vec::new();
    for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| !paused.contains(&entry.profile)) {
        let mut terms = match fit(entry) {
            Fit::Fits(terms) => terms,
            Fit::Cannot(reason) => {
                plan.skipped.push(Skipped { profile: entry.profile, reason });
                continue;
            }
        };
        if terms.fits_head {
            terms.clocks.head = world.health.head_clock(entry.profile, terms.clocks.head);
        }
        if policy.hedge {
            terms.hedge_delay = world.health.hedge_delay(entry.profile);
        }
        if plan.lone {
            terms.clocks = terms.clocks.as_patient_as_the_client(terms.fits_head);
        }
        let candidate = Candidate { profile: entry.profile, terms: Arc::new(terms), insist: plan.lone, last_resort: false };
        let family = candidate.family(facts);
        if let Some((until, because)) = detours.refused(now, entry.profile).filter(|_| !plan.lone) {
            plan.skipped.push(Skipped { profile: entry.profile, reason: SkipReason::Refused { until, because } });
            refused.push(Candidate { last_resort: true, ..candidate });
            continue;
        }
        let standing = world.health.standing(now, entry.profile, family, facts.own_credential);
        match standing.for_slow(facts.slow, candidate.terms.client_login) {
            standing @ (Standing::Usable | Standing::Trial) if detours.avoids(now, entry.profile) => {
                let on_trial = standing == Standing::Trial;
                ranked.push(Ranked { place, readiness: Readiness::Avoided, on_trial, is_look: false, candidate });
            }
            standing @ (Standing::Usable | Standing::Trial) => {
                let is_look = world.health.is_look_due(now, entry.profile, family, facts.own_credential);
                let welcome = is_look || welcomes(now, facts, policy, world, stay.as_ref(), &candidate, standing);
                let readiness = if welcome { Readiness::Ready } else { Readiness::Reluctant };
                ranked.push(Ranked { place, readiness, on_trial: standing == Standing::Trial, is_look, candidate });
            }
            Standing::Cooling { until, because, grip } => {
                plan.skipped.push(Skipped { profile: entry.profile, reason: SkipReason::Cooling { until, because } });
                if grip >= Grip::Hard && candidate.terms.client_login {
                    plan.blocked_login = Some(entry.profile);
                }
                closed.push((grip, until, candidate));
            }
        }
    }
    // Stable: within one readiness the chain's order stays.
    ranked.sort_by_key(|ranked| ranked.readiness);
    prefer(now, policy, world, stay.as_ref(), &mut ranked);
    if facts.slow == SlowRequest::Asked {
        // The user has chosen the login over whatever the session has moved to.
        ranked.sort_by_key(|ranked| !ranked.candidate.terms.client_login);
    }
    plan.passed_over = passed_over(now, facts, world, &ranked);
    let only_trials = !ranked.is_empty() && !plan.lone && ranked.iter().all(|ranked| ranked.on_trial);
    let waits_for_trial = only_trials && !world.health.admit_trial(now);
    if only_trials {
        ranked.truncate(usize::from(!waits_for_trial));
    }
    plan.candidates.extend(ranked.into_iter().map(|ranked| ranked.candidate));
    closed.sort_by_key(|(_, until, _)| *until);
    // Who cools down only by our own guess is a last resort: it may be well all the same, and a few failures more open its breaker.
    let (last, firm): (Vec<_>, Vec<_>) = closed.into_iter().partition(|(grip, ..)| *grip == Grip::Loose || plan.lone);
    plan.candidates.extend(last.into_iter().map(|(_, _, candidate)| candidate));
    let (blocked, firm): (Vec<_>, Vec<_>) = firm.into_iter().partition(|(grip, ..)| *grip >= Grip::Hard);
    // A profile that comes back while the client waits is worth the wait.
    let comes_back = firm.first().is_some_and(|(_, until, _)| until.saturating_duration_since(now) <= CLIENT_WAIT);
    if plan.candidates.is_empty() {
        plan.candidates.extend(in_panic(now, world, firm));
    }
    if !comes_back && !waits_for_trial {
        add_last_resorts(now, facts, world, &mut plan, blocked, refused);
    }
    leave_out_unreachable(now, world, &mut plan);
    plan
}

/// Appends what is tried only when nothing else is left: blocked profiles that were not tried for [`LAST_RESORT_INTERVAL`], and profiles
/// that refused this conversation where no other could answer it.
///
/// [`LAST_RESORT_INTERVAL`]: crate::policy::LAST_RESORT_INTERVAL
fn add_last_resorts(
    now: Instant,
    facts: &RequestFacts,
    world: &World,
    plan: &mut Plan,
    blocked: Vec<(Grip, Instant, Candidate)>,
    refused: Vec<Candidate>,
) {
    let is_due = |candidate: &Candidate| world.health.is_last_resort(now, candidate.profile, candidate.family(facts), facts.own_credential);
    let blocked = blocked.into_iter().map(|(_, _, candidate)| candidate).filter(is_due);
    plan.candidates.extend(blocked.map(|candidate| Candidate { last_resort: true, ..candidate }));
    if plan.candidates.is_empty() {
        plan.candidates.extend(refused);
    }
}

/// Whether a session that is not at home with this profile may begin there, or come back to it.
fn welcomes(
    now: Instant,
    facts: &RequestFacts,
    policy: &Policy,
    world: &World,
    stay: Option<&Stay>,
    candidate: &Candidate,
    standing: Standing,
) -> bool {
    let profile = candidate.profile;
    if stay.is_some_and(|stay| stay.profile == profile) {
        return true;
    }
    let leaves = stay.is_none_or(|stay| stay.may_return(now, profile, &policy.failback));
    let room = world.health.window_used(now, profile, candidate.family(facts)) < WINDOW_NEARLY_FULL;
    let ramped = facts.session.is_none_or(|session| share_of(session) < world.health.ramp(now, profile));
    match standing {
        // A trial costs the session its cache only where it would have come back anyway.
        Standing::Trial => leaves && room,
        Standing::Usable | Standing::Cooling { .. } => room && ramped,
    }
}

/// The session's fixed place between 0.0 and 1.0.
fn share_of(session: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are place enough")]
    let share = (session >> 11) as f64 / (1_u64 << 53) as f64;
    share
}

/// Puts the profile first that this session is at home with, or the one that the user switched to.
fn prefer(now: Instant, policy: &Policy, world: &World, stay: Option<&Stay>, ranked: &mut [Ranked]) {
    if let Some(wanted) = world.switched_to(now)
        && let Some(at) = ranked.iter().position(|ranked| ranked.candidate.profile == wanted)
    {
        return ranked[..=at].rotate_right(1);
    }
    let Some(stay) = stay else { return };
    prefer_home(now, policy, stay, ranked);
    // The look has the rest of the chain behind it: it costs one round trip an hour.
    let first = ranked.first().map_or(0, |first| first.place);
    let look = ranked.iter().position(|ranked| ranked.is_look && ranked.place < first);
    if let Some(look) = look.filter(|_| !stay.mid_turn) {
        ranked[..=look].rotate_right(1);
    }
}

/// Puts the session's own profile first, unless the session may return to a better one.
fn prefer_home(now: Instant, policy: &Policy, stay: &Stay, ranked: &mut [Ranked]) {
    let home = ranked.iter().position(|ranked| ranked.readiness == Readiness::Ready && ranked.candidate.profile == stay.profile);
    let Some(home) = home else { return };
    let goes_home =
        |ranked: &Ranked| ranked.readiness == Readiness::Ready && stay.may_return(now, ranked.candidate.profile, &policy.failback);
    match ranked[..home].iter().position(goes_home) {
        Some(better) => ranked[..=better].rotate_right(1),
        None => ranked[..=home].rotate_right(1),
    }
}

/// Whom the order of asking puts behind one that stands after it in the chain.
fn passed_over(now: Instant, facts: &RequestFacts, world: &World, ranked: &[Ranked]) -> Vec<(ProfileId, PassedOver)> {
    let Some((first, others)) = ranked.split_first() else { return Vec::new() };
    let switched = world.switched_to(now) == Some(first.candidate.profile);
    let why = |ranked: &Ranked| match ranked.readiness {
        _ if switched => PassedOver::Switched,
        Readiness::Ready => PassedOver::AtHomeElsewhere,
        Readiness::Avoided => PassedOver::Avoided,
        Readiness::Reluctant if ranked.on_trial => PassedOver::OnTrial,
        Readiness::Reluctant => {
            let used = world.health.window_used(now, ranked.candidate.profile, ranked.candidate.family(facts));
            if used < WINDOW_NEARLY_FULL { PassedOver::ComesBack } else { PassedOver::NearlyFull }
        }
    };
    others.iter().filter(|ranked| ranked.place < first.place).map(|ranked| (ranked.candidate.profile, why(ranked))).collect()
}

/// Nobody is well: the one that is back soonest is tried now and then. `closed` has the soonest first.
fn in_panic(now: Instant, world: &mut World, closed: Vec<(Grip, Instant, Candidate)>) -> Option<Candidate> {
    // Blocks never join: a login does not come back by asking.
    let (_, _, candidate) = closed.into_iter().find(|(grip, ..)| *grip < Grip::Hard)?;
    world.health.admit_panic(now).then_some(Candidate { insist: true, ..candidate })
}

/// With the network down only this machine's own profiles are asked, and now and then one request tries the others.
fn leave_out_unreachable(now: Instant, world: &mut World, plan: &mut Plan) {
    if plan.lone || plan.candidates.iter().all(|candidate| candidate.terms.host.is_none()) || world.health.network().admit_probe(now) {
        return;
    }
    let out = plan.candidates.iter().filter(|candidate| candidate.terms.host.is_some());
    plan.skipped.extend(out.map(|candidate| Skipped { profile: candidate.profile, reason: SkipReason::Offline }));
    plan.candidates.retain(|candidate| candidate.terms.host.is_none());
}

#[cfg(test)]
mod tests;
