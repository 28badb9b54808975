//! Answers the user's own word to a running gateway: `reset`, `switch`, `pause` and `resume`. Never believes a request that has not passed the checks of every
//! other one, and never changes the configuration.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hotspare_core::pause::left_out;
use hotspare_core::policy::LONGEST_TRUST;
use hotspare_core::route::Skipped;
use hotspare_core::{Chain, Pause, ProfileId, Switch, World};
use hotspare_upstream::clock;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::answer;
use crate::body::ClientBody;
use crate::drill::{ClientLogin, LIVE_REQUESTS, LIVE_TIME};
use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// The version of these shapes.
pub const CONTROL_VERSION: u32 = 1;

/// Takes every switch back.
pub const AUTO: &str = "auto";

/// Most bytes of a request.
const REQUEST_CAP: usize = 16 * 1024;

/// Longest that a request may take to come.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// `POST /hotspare/reset`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// Whom; none: every one.
    pub profile: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct ResetAnswer {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// The profiles that were not asked before and may be asked now.
    pub freed: Vec<String>,
    /// The profiles that stay blocked: a usage window is used up.
    #[serde(default)]
    pub kept: Vec<KeptWindow>,
}

/// A usage window that is used up, which `reset` does not change.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct KeptWindow {
    /// The profile.
    pub profile: String,
    /// Seconds until the window resets; `None` if the provider did not say.
    pub resets_in_s: Option<u64>,
}

/// `POST /hotspare/switch`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// Who is asked first; [`AUTO`]: whoever the chains say.
    pub profile: String,
    /// For so many seconds; none: until it is taken back.
    #[serde(default)]
    pub for_s: Option<u64>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct SwitchAnswer {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Who is asked first now; none: whoever the chains say.
    pub profile: Option<String>,
    /// Seconds until that is over; none: until it is taken back.
    pub for_s: Option<u64>,
    /// Who was asked first before, by an earlier word.
    pub before: Option<String>,
    /// The profile that the next request goes to; `None` if no profile can be tried now, or nothing runs.
    #[serde(default)]
    pub serving: Option<String>,
    /// Why that is not the profile that the user switched to; `None` if it is.
    #[serde(default)]
    pub not_now: Option<String>,
}

/// `POST /hotspare/pause`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Who is left alone.
    pub profile: String,
    /// For so many seconds; none: until it is taken back.
    #[serde(default)]
    pub for_s: Option<u64>,
    /// Also where nobody else is left to ask.
    #[serde(default)]
    pub even_last: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct PauseAnswer {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Who is left alone now.
    pub profile: String,
    /// Seconds until that is over; none: until it is taken back.
    pub for_s: Option<u64>,
    /// What that means for those who are left, where it must be known.
    pub warning: Option<String>,
}

/// `POST /hotspare/resume`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// Whom; none: every one.
    pub profile: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct ResumeAnswer {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// The profiles that were paused and may be asked now.
    pub resumed: Vec<String>,
}

/// Why a word was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No profile has this name.
    #[error("{}", unknown_profile(.name, .names))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Whom there is.
        names: Vec<String>,
    },
    /// The time makes no sense.
    #[error("`for_s` is from 1 to {} seconds (8 days)", LONGEST_TRUST.as_secs())]
    BadTime,
    /// A drill that has no end, or too much of one.
    #[error("a live drill touches `live` = 1 to {LIVE_REQUESTS} requests within `for_s` = 1 to {} seconds; any other has neither", LIVE_TIME.as_secs())]
    BadDrill,
    /// Nobody is there to be broken.
    #[error("{0}")]
    NothingToDrill(Box<str>),
    /// Another drill runs.
    #[error("{0}")]
    Busy(Box<str>),
    /// A chain would be left with nobody to ask.
    #[error("{}", last_one(.profile, .chain))]
    LastOne {
        /// Who was to be paused.
        profile: String,
        /// The chain that it is the last of.
        chain: String,
    },
    /// What names a session or its folder is no such thing.
    #[error("`session` is the client's id of 1 to 64 visible ASCII characters, `folder` an absolute path of at most 4096 bytes")]
    BadFolder,
    /// Whoever is paused is not asked first.
    #[error("`{0}` is paused: `hotspare profile resume {0}` first")]
    IsPaused(String),
}

/// `nobody else is left to ask in chain `default`: …`
pub fn last_one(profile: &str, chain: &str) -> String {
    format!("nobody but `{profile}` is left to ask in chain `{chain}`: requests would fail; `--even-last` pauses it all the same")
}

/// `no profile is named `wrok`; did you mean `work`?`
pub fn unknown_profile(name: &str, names: &[String]) -> String {
    let close = names.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match close.filter(|(distance, known)| *distance <= 1 + known.chars().count() / 4) {
        Some((_, known)) => format!("no profile is named `{name}`; did you mean `{known}`?"),
        None => format!("no profile is named `{name}`; there are {}", names.join(", ")),
    }
}

impl Gateway {
    /// `hotspare reset`.
    pub fn reset(&self, request: &ResetRequest) -> Result<ResetAnswer, Refused> {
        let now = clock::now();
        let snapshot = self.snapshot();
        let only = request.profile.as_deref().map(|name| id(&snapshot, name)).transpose()?;
        let (freed, kept) = self.with_world(|world| {
            let held: Vec<ProfileId> = snapshot.ids().filter(|id| only.is_none_or(|only| only == *id)).collect();
            let held: Vec<ProfileId> = held.into_iter().filter(|id| world.health.report(now, *id).is_held()).collect();
            world.reset(only);
            let bench = |id: &ProfileId| world.health.report(now, *id).bench;
            let kept: Vec<(ProfileId, Instant)> = held.iter().filter_map(|id| Some((*id, bench(id)?.until))).collect();
            let freed: Vec<ProfileId> = held.into_iter().filter(|id| !kept.iter().any(|(kept, _)| kept == id)).collect();
            (freed, kept)
        });
        self.keep_learned(true);
        self.forget_results(only.map(|id| snapshot.name(id)));
        let name = |id: ProfileId| snapshot.name(id).to_owned();
        let window = |(id, until): (ProfileId, Instant)| {
            let left = until.saturating_duration_since(now).as_millis().div_ceil(1000);
            KeptWindow { profile: name(id), resets_in_s: u64::try_from(left).ok() }
        };
        Ok(ResetAnswer {
            version: CONTROL_VERSION,
            freed: freed.into_iter().map(name).collect(),
            kept: kept.into_iter().map(window).collect(),
        })
    }

    /// `hotspare switch`.
    pub fn switch(&self, request: &SwitchRequest) -> Result<SwitchAnswer, Refused> {
        let now = clock::now();
        let snapshot = self.snapshot();
        let profile = if request.profile == AUTO { None } else { Some(id(&snapshot, &request.profile)?) };
        let time = time(request.for_s)?.filter(|_| profile.is_some());
        if profile.is_some_and(|profile| self.with_world(|world| world.paused(now, profile).is_some())) {
            return Err(Refused::IsPaused(request.profile.clone()));
        }
        let was_first = self.first_now(&snapshot, now).0;
        let before = self.with_world(|world| {
            let before = world.switched_to(now);
            world.switch = profile.map(|profile| Switch { profile, until: time.map(|time| now + time) });
            if profile.is_none() {
                // Sessions that followed the switch have no reason of their own to stay there.
                if let Some(left) = before {
                    world.affinity.leave(left);
                }
            }
            before
        });
        self.keep_learned(true);
        let (first, skipped) = self.first_now(&snapshot, now);
        self.show_switch(&snapshot, now, was_first, first);
        let name = |id: ProfileId| snapshot.name(id).to_owned();
        let not_now = profile.filter(|wanted| first != Some(*wanted)).map(|wanted| {
            let why = skipped.iter().find(|skipped| skipped.profile == wanted).map(|skipped| answer::skip_words(&skipped.reason));
            why.unwrap_or_else(|| "no chain has it".to_owned())
        });
        Ok(SwitchAnswer {
            version: CONTROL_VERSION,
            profile: profile.map(name),
            for_s: time.map(|time| time.as_secs()),
            before: before.map(name),
            serving: first.map(name),
            not_now,
        })
    }

    /// The profile that a new session's next request would be sent to, and the profiles that would be skipped.
    fn first_now(&self, snapshot: &Snapshot, now: Instant) -> (Option<ProfileId>, Vec<Skipped>) {
        let model = self.last_model();
        let mut world = self.with_world(|world| world.clone());
        let plan = crate::drill::plan(snapshot, model.as_deref(), now, &mut world, ClientLogin::Anthropic);
        plan.map(|plan| (plan.candidates.first().map(|candidate| candidate.profile), plan.skipped)).unwrap_or_default()
    }

    /// Lets `status` and the notices name the profile that the next request goes to, before it does.
    fn show_switch(&self, snapshot: &Snapshot, now: Instant, from: Option<ProfileId>, to: Option<ProfileId>) {
        let Some(to) = to else { return };
        let by_switch = self.with_world(|world| world.switched_to(now)).filter(|switched| *switched == to);
        self.set_serving(now, snapshot.name(to), by_switch);
        if let Some(from) = from.filter(|from| *from != to) {
            self.notice_switch(snapshot, snapshot.name(from), snapshot.name(to));
        }
    }
}

impl Gateway {
    /// `hotspare profile pause`.
    pub fn pause(&self, request: &PauseRequest) -> Result<PauseAnswer, Refused> {
        let now = clock::now();
        let snapshot = self.snapshot();
        let profile = id(&snapshot, &request.profile)?;
        let time = time(request.for_s)?;
        let warning = self.with_world(|world| {
            if let Some(chain) = chain_of_last(now, &snapshot, world, profile).filter(|_| !request.even_last) {
                return Err(Refused::LastOne { profile: request.profile.clone(), chain });
            }
            world.pauses.insert(profile, Pause { until: time.map(|time| now + time), even_last: request.even_last });
            Ok(warning(now, &snapshot, world, profile))
        })?;
        self.keep_learned(true);
        Ok(PauseAnswer { version: CONTROL_VERSION, profile: request.profile.clone(), for_s: time.map(|time| time.as_secs()), warning })
    }

    /// `hotspare profile resume`.
    pub fn resume(&self, request: &ResumeRequest) -> Result<ResumeAnswer, Refused> {
        let now = clock::now();
        let snapshot = self.snapshot();
        let only = request.profile.as_deref().map(|name| id(&snapshot, name)).transpose()?;
        let resumed: Vec<ProfileId> = self.with_world(|world| {
            let paused: Vec<ProfileId> = snapshot.ids().filter(|id| world.paused(now, *id).is_some()).collect();
            let resumed = paused.into_iter().filter(|id| only.is_none_or(|only| only == *id)).collect();
            world.pauses.retain(|id, _| only.is_some_and(|only| only != *id));
            resumed
        });
        self.keep_learned(true);
        Ok(ResumeAnswer { version: CONTROL_VERSION, resumed: resumed.into_iter().map(|id| snapshot.name(id).to_owned()).collect() })
    }
}

fn time(for_s: Option<u64>) -> Result<Option<Duration>, Refused> {
    let time = for_s.map(Duration::from_secs);
    if time.is_some_and(|time| time.is_zero() || time > LONGEST_TRUST) { Err(Refused::BadTime) } else { Ok(time) }
}

/// The first chain that would have nobody to ask without this profile.
fn chain_of_last(now: Instant, snapshot: &Snapshot, world: &World, profile: ProfileId) -> Option<String> {
    let is_last = |chain: &&Chain| {
        let others = || chain.entries.iter().filter(|entry| entry.profile != profile);
        others().count() < chain.entries.len() && others().all(|entry| world.paused(now, entry.profile).is_some())
    };
    snapshot.rules.iter().map(|rule| &rule.chain).find(is_last).map(|chain| chain.name.to_string())
}

/// What is to be known of the chains that this profile stands in: nobody else of them can be asked just now.
fn warning(now: Instant, snapshot: &Snapshot, world: &World, profile: ProfileId) -> Option<String> {
    let mut chains =
        snapshot.rules.iter().map(|rule| &rule.chain).filter(|chain| chain.entries.iter().any(|entry| entry.profile == profile));
    chains.find_map(|chain| {
        let out = left_out(now, world, &chain.entries);
        let mut left: Vec<ProfileId> = chain.entries.iter().map(|entry| entry.profile).filter(|id| !out.contains(id)).collect();
        left.dedup();
        if left.is_empty() {
            return Some(format!("nobody is left to ask in chain `{}`: requests fail until somebody is resumed", chain.name));
        }
        let benched = left.iter().all(|id| world.health.report(now, *id).bench.is_some_and(|bench| bench.hard || bench.open));
        let names: Vec<&str> = left.iter().map(|id| snapshot.name(*id)).collect();
        if left.iter().any(|id| world.paused(now, *id).is_some()) {
            return Some(format!("of chain `{}` only {} is left: that pause has no effect now", chain.name, names.join(" and ")));
        }
        benched.then(|| format!("of chain `{}` only {} is left, and cannot be asked just now", chain.name, names.join(" and ")))
    })
}

pub(crate) fn id(snapshot: &Snapshot, name: &str) -> Result<ProfileId, Refused> {
    let unknown = || Refused::Unknown { name: name.to_owned(), names: snapshot.ids().map(|id| snapshot.name(id).to_owned()).collect() };
    snapshot.id(name).ok_or_else(unknown)
}

/// Reads a request as JSON, hears it and answers as JSON.
pub(crate) async fn heard<Q: DeserializeOwned, A: Serialize>(
    headers: &HeaderMap,
    body: Incoming,
    hear: impl FnOnce(&Q) -> Result<A, Refused>,
) -> Response<ClientBody> {
    heard_in_time(headers, body, async |request| hear(request)).await
}

/// The same where the answer takes a moment.
pub(crate) async fn heard_in_time<Q: DeserializeOwned, A: Serialize>(
    headers: &HeaderMap,
    body: Incoming,
    hear: impl AsyncFnOnce(&Q) -> Result<A, Refused>,
) -> Response<ClientBody> {
    match read(headers, body).await {
        Ok(request) => answered(hear(&request).await),
        Err(refused) => refused,
    }
}

/// Reads a request as JSON.
///
/// # Errors
///
/// The answer to one that is not such a request.
pub(crate) async fn read<Q: DeserializeOwned>(headers: &HeaderMap, body: Incoming) -> Result<Q, Response<ClientBody>> {
    // A web page can send a form without asking first, but not this.
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        let message = "hotspare: `content-type: application/json` is missing";
        let refused = answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message);
        return Err(refused.map(|answer| answer.draining(body)));
    }
    let bytes = match tokio::time::timeout(REQUEST_TIME, Limited::new(body, REQUEST_CAP).collect()).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    serde_json::from_slice::<Q>(&bytes).map_err(|error| {
        let message = format!("hotspare: this is no such request: {error}");
        closing(answer::error(StatusCode::BAD_REQUEST, "invalid_request_error", &message))
    })
}

/// Writes what came of a request as JSON.
pub(crate) fn answered<A: Serialize>(outcome: Result<A, Refused>) -> Response<ClientBody> {
    match outcome {
        Ok(answer) => answer::json(StatusCode::OK, serde_json::to_string(&answer).unwrap_or_default()),
        Err(refused) => {
            let (status, kind) = match refused {
                Refused::Unknown { .. } => (StatusCode::NOT_FOUND, "not_found_error"),
                Refused::BadTime | Refused::BadDrill | Refused::BadFolder => (StatusCode::BAD_REQUEST, "invalid_request_error"),
                Refused::NothingToDrill(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error"),
                Refused::Busy(_) | Refused::LastOne { .. } | Refused::IsPaused(_) => (StatusCode::CONFLICT, "invalid_request_error"),
            };
            answer::error(status, kind, &format!("hotspare: {refused}"))
        }
    }
}

/// What could not be read to its end is no place for the next request.
fn closing(mut response: Response<ClientBody>) -> Response<ClientBody> {
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_with_what_was_meant() {
        let names = ["work".to_owned(), "openrouter-backup".to_owned()];
        assert_eq!(unknown_profile("wrok", &names), "no profile is named `wrok`; did you mean `work`?");
        assert_eq!(
            unknown_profile("openrouter-bakcup", &names),
            "no profile is named `openrouter-bakcup`; did you mean `openrouter-backup`?"
        );
        assert_eq!(unknown_profile("x", &names), "no profile is named `x`; there are work, openrouter-backup");
    }
}
