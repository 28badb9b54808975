//! Runs drills: a fault at the network's seam, on live routing. Never lets a drill teach the real world anything, never lets one go on for
//! ever, and never touches a request that is not the drill's own unless the user says so.
//!
//! A drill has a *shadow* of the gateway: the same configuration, ledger, figures and observer, but a copy of what is known of the world,
//! connections of its own, and a network in which one profile is broken. So its requests go through the whole data path and the real
//! decisions, and when it is over the shadow is dropped, and with it all that was learned in it. Undoing a drill in the one world instead
//! would have to tell its traces from those of real requests that ran at the same time.
//!
//! The drill's own request names it in a header. In its shadow nothing leaves this process: the broken profile and the spares are played
//! (`simulated`), so no token is spent. In a live drill the next real requests meet the broken profile, and the spares are real.

mod check;
mod simulated;

pub use check::{CheckAnswer, CheckRequest, MAX_MODELS, ModelCheck, ProofState, SpareCheck};

use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use hotspare_core::policy::CACHE_LIFE;
use hotspare_core::{ClientKind, DrillMark, Endpoint, ExchangeRecord, Fault, Plan, ProfileId, RequestFacts, SlowRequest, Switch};
use hotspare_upstream::clock;
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::{AUTO, CONTROL_VERSION, Refused};
use crate::record::id_text;
use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// A drill's own request carries its id here. Such a request is never sent to a provider, also when its drill is over.
pub const DRILL_HEADER: HeaderName = HeaderName::from_static("x-hotspare-drill");

/// Longest life of a drill with a request of its own.
pub const OWN_TIME: Duration = Duration::from_secs(30);

/// Longest life of a live drill.
pub const LIVE_TIME: Duration = Duration::from_secs(600);

/// Most real requests that one live drill touches.
pub const LIVE_REQUESTS: u32 = 20;

/// Most requests of its own that one drill may send: the request, and the tries after a cut that a client makes.
const OWN_REQUESTS: u32 = 4;

/// The broken profile is given up after so long without a head, or without content: a drill is no place for a minute's patience.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// `POST /hotspare/drill`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct DrillRequest {
    /// What breaks.
    pub fault: Fault,
    /// Whom it breaks; none: whoever is asked first.
    #[serde(default)]
    pub profile: Option<String>,
    /// The model that the request will ask for.
    #[serde(default)]
    pub model: Option<String>,
    /// So many of the next real requests meet the fault; none: the drill's own request alone.
    #[serde(default)]
    pub live: Option<u32>,
    /// A live drill ends after so many seconds.
    #[serde(default)]
    pub for_s: Option<u64>,
}

/// The credential that the client sends with its requests. What it is worth is not known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientLogin {
    /// A login or key of Anthropic's.
    #[default]
    Anthropic,
    /// Another provider's key.
    Other,
    /// None.
    None,
}

/// What is set up.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct DrillAnswer {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Goes into `x-hotspare-drill` of the drill's own request, and ends the drill.
    pub id: String,
    /// What breaks.
    pub fault: Fault,
    /// Whom it breaks.
    pub profile: String,
    /// Who is asked after that one, in order.
    pub spares: Vec<String>,
    /// Who is not asked now, and why.
    pub skipped: Vec<String>,
    /// The drill ends by itself after so many seconds.
    pub ends_in_s: u64,
}

/// `POST /hotspare/drill/end`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct EndDrill {
    /// The drill; one that is over already is no error.
    pub id: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct DrillEnded {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Whether it ran until now.
    pub ended: bool,
}

/// A drill that runs, as `status` tells of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct DrillStatus {
    /// What breaks.
    pub fault: Fault,
    /// Whom it breaks.
    pub profile: String,
    /// Whether real requests meet it.
    pub live: bool,
    /// Requests that may still meet it.
    pub left: u32,
    /// Exchanges that have met it and go on.
    #[serde(default)]
    pub under_way: u32,
    /// Seconds until it ends by itself.
    pub ends_in_s: u64,
    /// The last exchange that met it.
    pub exchange: Option<String>,
    /// What that one's broken profile failed with, in words.
    pub why: Option<String>,
    /// Who answered it in the broken profile's stead.
    pub to: Option<String>,
}

/// A drill that is set up.
pub(crate) struct Armed {
    id: String,
    mark: DrillMark,
    profile: Arc<str>,
    until: Instant,
    left: u32,
    under_way: u32,
    shadow: Arc<Gateway>,
    last: Option<Arc<ExchangeRecord>>,
}

/// What makes a gateway the shadow of another.
pub(crate) struct Lane {
    /// The real one. Weak, because that one holds the shadow.
    base: Weak<Gateway>,
    mark: DrillMark,
    victim: ProfileId,
    /// The victim's name.
    profile: Arc<str>,
}

/// Where a request goes.
pub(crate) enum Way {
    /// On as it came.
    Real,
    /// Through a drill.
    Through(Arc<Gateway>),
    /// Nowhere: its drill is over.
    Over,
}

impl Gateway {
    /// `hotspare drill`.
    pub fn drill(self: &Arc<Self>, request: &DrillRequest) -> Result<DrillAnswer, Refused> {
        let now = clock::now();
        let (requests, time) = bounds(request)?;
        let snapshot = self.snapshot();
        let chosen = request.profile.as_deref().filter(|name| *name != AUTO).map(|name| crate::control::id(&snapshot, name)).transpose()?;
        let mut world = self.with_world(|world| world.clone());
        if let Some(profile) = chosen {
            world.switch = Some(Switch { profile, until: None });
        }
        let plan = plan(&snapshot, request.model.as_deref(), now, &mut world, ClientLogin::Anthropic)
            .ok_or_else(|| Refused::NothingToDrill("no chain matches".into()))?;
        let skipped = skipped(&snapshot, &plan);
        let victim =
            plan.candidates.first().map(|candidate| candidate.profile).filter(|first| chosen.is_none_or(|chosen| chosen == *first));
        let Some(victim) = victim else {
            let whom = chosen.map_or("no profile", |chosen| snapshot.name(chosen));
            return Err(Refused::NothingToDrill(format!("{whom} can take a request now ({})", skipped.join("; ")).into()));
        };
        let mark = DrillMark { fault: request.fault, live: request.live.is_some() };
        let name = |id: ProfileId| snapshot.name(id).to_owned();
        let profile: Arc<str> = name(victim).into();
        let network = simulated::Network::new(profile.clone(), request.fault, self.outside().wall(), mark.live.then(|| self.network()));
        let lane = Lane { base: Arc::downgrade(self), mark, victim, profile: profile.clone() };
        let shadow = Self::shadow(self, lane, world, Arc::new(network));
        let id = id_text(self.next_id());
        let mut place = self.drill.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = place.as_ref().filter(|armed| armed.runs(now)) {
            return Err(Refused::Busy(running.words(now).into()));
        }
        tracing::info!(fault = %request.fault, profile = %profile, live = mark.live, "a drill begins");
        *place = Some(Armed { id: id.clone(), mark, profile, until: now + time, left: requests, under_way: 0, shadow, last: None });
        Ok(DrillAnswer {
            version: CONTROL_VERSION,
            id,
            fault: request.fault,
            profile: name(victim),
            spares: plan.candidates.iter().map(|candidate| name(candidate.profile)).filter(|spare| *spare != name(victim)).collect(),
            skipped,
            ends_in_s: time.as_secs(),
        })
    }

    /// Ends a drill before its time.
    pub fn end_drill(&self, request: &EndDrill) -> DrillEnded {
        let mut place = self.drill.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = place.take_if(|armed| armed.id == request.id).is_some_and(|armed| clock::now() < armed.until);
        DrillEnded { version: CONTROL_VERSION, ended }
    }

    /// What `status` says of the drill that runs. One whose time is over is dropped here and whenever a request comes.
    pub(crate) fn drill_status(&self) -> Option<DrillStatus> {
        let now = clock::now();
        let mut place = self.drill.lock().unwrap_or_else(PoisonError::into_inner);
        drop(place.take_if(|armed| now >= armed.until));
        place.as_ref().map(|armed| armed.status(now))
    }

    /// Where a request goes that has been admitted. The drill's header is taken off.
    pub(crate) fn way(&self, endpoint: Endpoint, headers: &mut HeaderMap<HeaderValue>) -> Way {
        let named = headers.remove(&DRILL_HEADER);
        let now = clock::now();
        let mut place = self.drill.lock().unwrap_or_else(PoisonError::into_inner);
        drop(place.take_if(|armed| now >= armed.until));
        let nowhere = if named.is_some() { Way::Over } else { Way::Real };
        let Some(armed) = place.as_mut().filter(|armed| armed.left > 0 && endpoint == Endpoint::Messages) else { return nowhere };
        let meets = match &named {
            Some(id) => !armed.mark.live && id.as_bytes() == armed.id.as_bytes(),
            None => armed.mark.live,
        };
        if !meets {
            return nowhere;
        }
        armed.left -= 1;
        armed.under_way += 1;
        Way::Through(armed.shadow.clone())
    }

    /// What marks the records of this gateway, where it is a drill's shadow.
    pub(crate) fn drill_mark(&self) -> Option<DrillMark> {
        self.lane.as_ref().map(|lane| lane.mark)
    }

    /// What was played costs nothing, also where a provider might have billed it although no tokens were seen.
    pub(crate) fn forgive_played(&self, record: &mut ExchangeRecord) {
        let Some(lane) = &self.lane else { return };
        for attempt in record.attempts.iter_mut().filter(|attempt| !lane.mark.live || attempt.profile == *lane.profile) {
            (attempt.maybe_billed, attempt.cost_micro_usd) = (false, None);
        }
        record.est_cost_micro_usd = record.attempts.iter().filter_map(|attempt| attempt.cost_micro_usd).reduce(u64::saturating_add);
    }

    /// The last exchange of a drill, for `status`.
    pub(crate) fn note_drill(&self, record: &Arc<ExchangeRecord>) {
        if let Some(armed) = self.drill.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            armed.under_way = armed.under_way.saturating_sub(1);
            armed.last = Some(record.clone());
        }
    }
}

impl Lane {
    pub(crate) fn is_live(&self) -> bool {
        self.mark.live
    }

    pub(crate) fn base(&self) -> Option<Arc<Gateway>> {
        self.base.upgrade()
    }

    /// The real gateway's configuration, impatient with the broken profile.
    pub(crate) fn snapshot(&self, headers: &HeaderMap) -> Option<Arc<Snapshot>> {
        let base = self.base()?;
        // The drill's own request belongs to no session.
        let snapshot = if self.is_live() { base.snapshot_for(headers) } else { base.snapshot() };
        Some(Arc::new(snapshot.impatient_with(self.victim, PATIENCE)))
    }
}

impl Armed {
    fn runs(&self, now: Instant) -> bool {
        now < self.until && (self.left > 0 || !self.mark.live)
    }

    fn words(&self, now: Instant) -> String {
        let left = self.until.saturating_duration_since(now).as_secs() + 1;
        format!("a drill runs already: {} at `{}`; it ends in {left} s", self.mark.fault, self.profile)
    }

    fn status(&self, now: Instant) -> DrillStatus {
        let last = self.last.as_deref();
        let failed = last.and_then(|record| record.attempts.iter().find(|attempt| attempt.profile == *self.profile));
        DrillStatus {
            fault: self.mark.fault,
            profile: self.profile.to_string(),
            live: self.mark.live,
            left: self.left,
            under_way: self.under_way,
            ends_in_s: self.until.saturating_duration_since(now).as_secs() + 1,
            exchange: last.map(|record| id_text(record.id)),
            why: failed.and_then(|attempt| attempt.detail.clone()),
            to: last.and_then(|record| record.served_by.clone()),
        }
    }
}

/// How many requests, and for how long.
fn bounds(request: &DrillRequest) -> Result<(u32, Duration), Refused> {
    let Some(requests) = request.live else {
        return if request.for_s.is_none() { Ok((OWN_REQUESTS, OWN_TIME)) } else { Err(Refused::BadDrill) };
    };
    let time = request.for_s.map_or(Duration::from_secs(60), Duration::from_secs);
    let fits = (1..=LIVE_REQUESTS).contains(&requests) && !time.is_zero() && time <= LIVE_TIME;
    if fits { Ok((requests, time)) } else { Err(Refused::BadDrill) }
}

/// Which profiles would be tried for a request of this model in a new session, in order.
pub(crate) fn plan(
    snapshot: &Snapshot,
    model: Option<&str>,
    now: Instant,
    world: &mut hotspare_core::World,
    login: ClientLogin,
) -> Option<Plan> {
    let facts = facts(model, login);
    let chain = hotspare_core::route::chain_for(&snapshot.rules, &facts)?;
    let fit = |entry: &_| snapshot.fit(entry, &facts);
    Some(hotspare_core::route::plan(now, &facts, chain, &snapshot.policy, world, None, fit))
}

/// What routing knows of such a request.
fn facts(model: Option<&str>, login: ClientLogin) -> RequestFacts {
    RequestFacts {
        endpoint: Endpoint::Messages,
        model: model.map(Into::into),
        client: ClientKind::Program,
        session: None,
        own_credential: (login != ClientLogin::None).then_some(0),
        credential_digests: Vec::new(),
        anthropic_credential: login == ClientLogin::Anthropic,
        slow: SlowRequest::Unable,
        cache_life: CACHE_LIFE,
        whole_session: None,
        on_plan: false,
        length: None,
        needs: None,
        side: false,
        patience: None,
        hedgeable: false,
    }
}

fn skipped(snapshot: &Snapshot, plan: &Plan) -> Vec<String> {
    plan.skipped.iter().map(|one| format!("{}: {}", snapshot.name(one.profile), crate::answer::skip_words(&one.reason))).collect()
}

#[cfg(test)]
mod tests;
