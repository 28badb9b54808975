//! Judges whether any move between profiles was silent (I13): each one that the events show is in a notice, told or counted, and the same
//! is not told again within the quiet time. Never looks at how the notices are made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotspare_core::notice::ANSWERS_AGAIN;
use hotspare_core::record::Reception;
use hotspare_core::{ExchangeRecord, ModelFamily, Outcome};
use hotspare_gateway::notices::Told as Notice;
use hotspare_gateway::{Event, Gateway};
use tokio::time::Instant;

use super::Scene;
use crate::world::Told;

/// The default of `notify.quiet`.
const QUIET: Duration = Duration::from_secs(600);

/// Who gave way, and to whom.
type Move = (String, Option<String>);

/// Session, agent, chain and model family.
type Home<'a> = (Option<&'a str>, Option<&'a str>, &'a str, Option<ModelFamily>);

/// Everything that was told, and when.
#[derive(Clone, Default)]
pub(super) struct Listener(Arc<Mutex<Vec<(Instant, Notice)>>>);

impl Listener {
    /// Listens until it is dropped.
    pub(super) async fn listen(self, gateway: Arc<Gateway>) {
        let mut seen = 0;
        loop {
            for notice in gateway.notices_after(seen).await {
                seen = notice.seq;
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), notice));
            }
        }
    }

    /// Counts are told when their quiet time is over.
    pub(super) async fn wait_for_counts() {
        tokio::time::sleep(QUIET + Duration::from_secs(120)).await;
    }

    pub(super) fn check(&self, scene: &Scene, told: &BTreeMap<u64, Told>) -> (u64, Vec<String>) {
        let notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wrong = Vec::new();
        let mut in_notices: BTreeMap<Move, u64> = BTreeMap::new();
        let mut last: BTreeMap<(&str, Option<&str>, &str), Instant> = BTreeMap::new();
        let ends = Ends::of(told);
        for (at, notice) in notices.iter() {
            if notice.reason != ANSWERS_AGAIN {
                *in_notices.entry((notice.from.clone(), notice.to.clone())).or_default() += notice.times;
            }
            let before = last.insert((&notice.from, notice.to.as_deref(), &notice.reason), *at);
            // A total failure and its end are news again once the other has come between.
            let is_news = |before: Instant| match &notice.to {
                None => ends.answered_within(before, *at),
                Some(_) if notice.reason == ANSWERS_AGAIN => ends.unanswered_within(before, *at),
                Some(_) => false,
            };
            if before.is_some_and(|before| at.duration_since(before) < QUIET && !is_news(before)) {
                wrong.push(format!("I13: told twice within {QUIET:?}: {}", notice.text));
            }
            if !notice.text.contains(&notice.from) || notice.to.as_ref().is_some_and(|to| !notice.text.contains(to)) {
                wrong.push(format!("I13: a notice without its names: {}", notice.text));
            }
        }
        let made = moves(scene, told);
        if made != in_notices {
            wrong.push(format!("I13: moves {made:?}, in notices {in_notices:?}"));
        }
        (made.values().sum(), wrong)
    }
}

/// When exchanges ended with an answer, and when without one.
struct Ends {
    answered: Vec<Instant>,
    unanswered: Vec<Instant>,
}

impl Ends {
    fn of(told: &BTreeMap<u64, Told>) -> Self {
        let mut ends = Self { answered: Vec::new(), unanswered: Vec::new() };
        for told in told.values() {
            let (Some(Event::Over(record)), Some(at)) = (told.events.last(), told.times.last()) else { continue };
            match record.reception() {
                Reception::Answered(_) => ends.answered.push(*at),
                Reception::Unanswered => ends.unanswered.push(*at),
                Reception::Refused(_) | Reception::Abandoned => {}
            }
        }
        ends
    }

    fn answered_within(&self, from: Instant, to: Instant) -> bool {
        self.answered.iter().any(|at| (from..=to).contains(at))
    }

    fn unanswered_within(&self, from: Instant, to: Instant) -> bool {
        self.unanswered.iter().any(|at| (from..=to).contains(at))
    }
}

/// Every move that the events show, in the order in which exchanges ended.
fn moves(scene: &Scene, told: &BTreeMap<u64, Told>) -> BTreeMap<Move, u64> {
    let over =
        told.values().filter_map(|told| if let Event::Over(record) = told.events.last()? { Some((told, record.as_ref())) } else { None });
    let mut over: Vec<(&Told, &ExchangeRecord)> = over.collect();
    over.sort_by_key(|(told, _)| told.last);
    let mut made: BTreeMap<Move, u64> = BTreeMap::new();
    // A side request on another model family has a home of its own.
    let mut homes: BTreeMap<Home, String> = BTreeMap::new();
    for (told, record) in over {
        let session =
            (record.session.as_deref(), record.agent.as_deref(), record.chain.as_str(), record.model.as_deref().map(ModelFamily::of));
        let ways = within(scene, told, record, homes.get(&session));
        let left = ways.last().map(|(from, _)| from.clone());
        for way in ways {
            *made.entry(way).or_default() += 1;
        }
        if !record.endpoint.moves_health() {
            continue;
        }
        match record.reception() {
            Reception::Answered(profile) => {
                homes.insert(session, profile.to_owned());
            }
            Reception::Unanswered if !is_lone_relay(record) => {
                homes.entry(session).or_insert_with(|| left.unwrap_or_default());
            }
            Reception::Unanswered | Reception::Refused(_) | Reception::Abandoned => {}
        }
    }
    made
}

/// Whether the client got the failure of its chain's only profile as it came, which it reports itself.
fn is_lone_relay(record: &ExchangeRecord) -> bool {
    record.outcome == Outcome::Relayed && record.profiles().len() < 2
}

fn within(scene: &Scene, told: &Told, record: &ExchangeRecord, home: Option<&String>) -> Vec<Move> {
    let failed = |event: &Event| if let Event::Failed { profile, .. } = event { Some(profile.to_string()) } else { None };
    let committed = |event: &Event| if let Event::Committed { profile, .. } = event { Some(profile.to_string()) } else { None };
    let first_answer = told.events.iter().position(|event| committed(event).is_some());
    let before = &told.events[..first_answer.unwrap_or(told.events.len())];
    let first_failed = before.iter().find_map(failed);
    let first_answer = first_answer.and_then(|at| committed(&told.events[at]));
    let mut ways = Vec::new();
    let mut at = None;
    if let (Some(failed), Some(answer)) = (&first_failed, &first_answer)
        && failed != answer
    {
        ways.push((failed.clone(), Some(answer.clone())));
        at = Some(answer.clone());
    }
    let end = match record.reception() {
        Reception::Answered(profile) => Some(profile.to_owned()),
        Reception::Unanswered if !is_lone_relay(record) => None,
        // What the request itself is to blame for moves nobody.
        Reception::Unanswered | Reception::Refused(_) | Reception::Abandoned => return ways,
    };
    if at.is_some() && at == end {
        return ways;
    }
    let any_failed = told.events.iter().filter_map(failed).find(|failed| Some(failed) != end.as_ref());
    let from = at.or(any_failed).or_else(|| home.cloned().filter(|_| record.endpoint.moves_health())).or_else(|| {
        // A session that begins on a spare, or finds nobody.
        (record.on_spare || end.is_none()).then(|| primary(scene, &record.chain)).flatten()
    });
    ways.extend(from.filter(|from| Some(from) != end.as_ref()).map(|from| (from, end)));
    ways
}

/// The first profile of `chains[N]`.
fn primary(scene: &Scene, chain: &str) -> Option<String> {
    let number: usize = chain.strip_prefix("chains[")?.strip_suffix(']')?.parse().ok()?;
    scene.policy["chains"][number]["profiles"][0].as_str().map(str::to_owned)
}
