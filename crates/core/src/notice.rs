//! Decides which moves between profiles are told at once, and which are counted and told later. Never words or shows a notice, and never
//! drops one: whatever is not told at once is in a count.
//!
//! A move is told when the client gets the next profile's first byte, not when its answer ends: that may be minutes later.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::drill::DrillMark;
use crate::exchange::Outcome;
use crate::facts::ModelFamily;
use crate::failure::Failure;
use crate::record::{AttemptEntry, ExchangeRecord, Reception, words};

/// Default of `notify.quiet`: the same move is told once in so long.
pub const QUIET: Duration = Duration::from_secs(600);

/// Most moves told apart at one time. Beyond it the oldest is told with its count, and forgotten.
pub const MOST_MOVES: usize = 256;

/// Most sessions whose profile is remembered; beyond it the longest unused is forgotten.
pub const MOST_SESSIONS: usize = 1024;

/// Most exchanges under way that have met a failure; a gateway has 256 connections unless told otherwise.
const MOST_OPEN: usize = 4096;

/// The reason of a way home.
pub const WELL_AGAIN: &str = "well_again";

/// No move: after a request that no profile could answer, the profile that would have been tried answers.
pub const ANSWERS_AGAIN: &str = "answers_again";

/// `hotspare switch`: another profile is tried first from now on.
pub const SWITCHED: &str = "switched";

/// The reason of a move that no failure explains: the user's own word, or another chain.
pub const MOVED: &str = "moved";

/// No move yet: a profile has spent its budget, and is not asked until that begins anew.
pub const BUDGET_REACHED: &str = "budget_reached";

/// No move yet: the login of a profile has ended, and the profile is skipped until the user logs in again.
pub const LOGIN_ENDED: &str = "login_ended";

/// No move: a request did not reach every profile of its chain, because of rules that hold in some folders alone.
pub const FOLDER_RULES: &str = "folder_rules";

/// Who gave way to whom, and why: what is told once in a while.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Move {
    /// Who served before, or should have.
    pub from: String,
    /// Who serves now; none: nobody could.
    pub to: Option<String>,
    /// A failure's word, [`WELL_AGAIN`], [`ANSWERS_AGAIN`], [`SWITCHED`], [`MOVED`], [`BUDGET_REACHED`], [`LOGIN_ENDED`], or why `from` was
    /// not asked.
    pub reason: String,
    /// What `to` was asked for, where that is another model than the client's own.
    pub model: Option<String>,
}

impl Move {
    /// Whether no profile could answer a request.
    pub fn is_total_failure(&self) -> bool {
        self.to.is_none() && self.reason != BUDGET_REACHED && self.reason != LOGIN_ENDED
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What moved.
    pub what: Move,
    /// The failure in short words; empty where there was none. Where no profile could answer: why each of them did not.
    pub detail: String,
    /// How many moves this stands for. More than one: a count of those since the last notice of the same.
    pub times: u64,
    /// The exchange in which it happened last.
    pub exchange: u64,
    /// A drill's, with whether real requests met it.
    pub drill: Option<DrillMark>,
}

/// Tells the same move once in a while, and counts it between.
#[derive(Debug, Default)]
struct Quiet {
    known: HashMap<Move, Entry>,
}

#[derive(Debug)]
struct Entry {
    told: Instant,
    /// Moves since then.
    count: u64,
    detail: String,
    exchange: u64,
}

impl Quiet {
    fn note(&mut self, now: Instant, quiet: Duration, what: Move, detail: String, exchange: u64) -> Vec<Notice> {
        if let Some(entry) = self.known.get_mut(&what) {
            entry.count += 1;
            (entry.detail, entry.exchange) = (detail, exchange);
            if now.saturating_duration_since(entry.told) < quiet {
                return Vec::new();
            }
            let times = std::mem::take(&mut entry.count);
            entry.told = now;
            let notice = Notice { what, detail: entry.detail.clone(), times, exchange, drill: None };
            return vec![notice];
        }
        let mut notices: Vec<Notice> = self.make_room().into_iter().collect();
        self.known.insert(what.clone(), Entry { told: now, count: 0, detail: detail.clone(), exchange });
        notices.push(Notice { what, detail, times: 1, exchange, drill: None });
        notices
    }

    /// The oldest goes where all places are taken, with its count.
    fn make_room(&mut self) -> Option<Notice> {
        if self.known.len() < MOST_MOVES {
            return None;
        }
        let oldest = self.known.iter().min_by_key(|(_, entry)| entry.told).map(|(what, _)| what.clone())?;
        let entry = self.known.remove(&oldest)?;
        (entry.count > 0).then(|| entry.counted(oldest))
    }

    /// The total failure that is known already. Its next request finds the profiles benched: another reason, but not another failure.
    fn known_total_failure(&self, from: &str) -> Option<Move> {
        self.known.keys().find(|what| what.is_total_failure() && what.from == from).cloned()
    }

    /// Forgets moves, so that the next one is news again, and returns the counts that were not told yet.
    fn forget(&mut self, is_over: impl Fn(&Move) -> bool) -> Vec<Notice> {
        let over: Vec<Move> = self.known.keys().filter(|what| is_over(what)).cloned().collect();
        let entries = over.into_iter().filter_map(|what| self.known.remove_entry(&what));
        entries.filter(|(_, entry)| entry.count > 0).map(|(what, entry)| entry.counted(what)).collect()
    }

    /// The counts whose time has come.
    fn due(&mut self, now: Instant, quiet: Duration) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.known.retain(|what, entry| {
            if now.saturating_duration_since(entry.told) < quiet {
                return true;
            }
            if entry.count == 0 {
                return false;
            }
            notices.push(entry.counted(what.clone()));
            (entry.told, entry.count) = (now, 0);
            true
        });
        notices.sort_by_key(|notice| notice.exchange);
        notices
    }

    fn next_due(&self, quiet: Duration) -> Option<Instant> {
        self.known.values().filter(|entry| entry.count > 0).map(|entry| entry.told + quiet).min()
    }
}

impl Entry {
    fn counted(&self, what: Move) -> Notice {
        Notice { what, detail: self.detail.clone(), times: self.count, exchange: self.exchange, drill: None }
    }
}

/// Watches exchanges for moves.
#[derive(Debug, Default)]
pub struct Watch {
    /// Exchanges under way in which something failed.
    open: HashMap<u64, Open>,
    /// Who served each session last.
    sessions: HashMap<String, Home>,
    quiet: Quiet,
}

#[derive(Debug, Default)]
struct Open {
    /// Who failed first, and how.
    failed: Option<Left>,
    /// To whom a move was told already.
    told: Option<String>,
}

/// Who was left.
#[derive(Debug, Clone)]
struct Left {
    profile: String,
    /// What it was asked for, where that was another model than the client's own.
    model: Option<String>,
    reason: String,
    detail: String,
}

impl Left {
    fn is(&self, server: &str, model: Option<&str>) -> bool {
        self.profile == server && self.model.as_deref() == model
    }
}

/// Who served a session last.
#[derive(Debug)]
struct Home {
    profile: String,
    /// A model that the session asked for, and the other one that this profile was asked for in its place.
    other: Option<(String, String)>,
    /// What it failed with in the end, where its last answer broke.
    broke: Option<(String, String)>,
    /// No profile could answer the session's last request.
    unanswered: bool,
    used: Instant,
}

impl Watch {
    /// A profile failed in an exchange. `model` is the one that it was asked for, where that is not the client's own.
    pub fn failed(&mut self, id: u64, profile: &str, model: Option<&str>, failure: &Failure) {
        if self.open.len() >= MOST_OPEN && !self.open.contains_key(&id) {
            return;
        }
        let open = self.open.entry(id).or_default();
        open.failed.get_or_insert_with(|| Left {
            profile: profile.to_owned(),
            model: model.map(str::to_owned),
            reason: failure.kind.word().to_owned(),
            detail: words(&failure.detail),
        });
    }

    /// The client begins to get a profile's answer. `model` is the one that it was asked for, where that is not the client's own.
    pub fn committed(&mut self, now: Instant, quiet: Duration, id: u64, profile: &str, model: Option<&str>) -> Vec<Notice> {
        let Some(open) = self.open.get_mut(&id).filter(|open| open.told.is_none()) else { return Vec::new() };
        let Some(Left { profile: from, reason, detail, .. }) = open.failed.clone().filter(|left| !left.is(profile, model)) else {
            return Vec::new();
        };
        open.told = Some(profile.to_owned());
        self.quiet.note(now, quiet, Move { from, to: Some(profile.to_owned()), reason, model: model.map(str::to_owned) }, detail, id)
    }

    /// An exchange is over. `primary` is its chain's first profile.
    pub fn over(&mut self, now: Instant, quiet: Duration, primary: Option<&str>, record: &ExchangeRecord) -> Vec<Notice> {
        let open = self.open.remove(&record.id).unwrap_or_default();
        let server = match record.reception() {
            Reception::Answered(profile) => Some(profile),
            // A chain of one profile: what it sent is relayed, and the client itself reports it.
            Reception::Unanswered if record.outcome == Outcome::Relayed && record.profiles().len() < 2 => return Vec::new(),
            Reception::Unanswered => None,
            // A refusal of the request moves no session, and says nothing of a profile.
            Reception::Refused(_) | Reception::Abandoned => return Vec::new(),
        };
        let key = key(record);
        let model = server.and_then(|server| record.other_model(server)).map(str::to_owned);
        let moved = self.moved(&key, &open, (server, model.as_deref()), primary, record);
        if record.drill.is_some() {
            // A drill is no news twice, and teaches nothing: neither the quiet time nor the sessions know of it.
            let notice = |Left { profile: from, reason, detail, .. }| {
                let what = Move { from, to: server.map(str::to_owned), reason, model: model.clone() };
                Notice { what, detail, times: 1, exchange: record.id, drill: record.drill }
            };
            return moved.into_iter().map(notice).collect();
        }
        let was_unanswered = self.sessions.get(&key).is_some_and(|home| home.unanswered);
        match server {
            Some(server) if record.endpoint.moves_health() => self.remember(now, key, server, record),
            None if record.endpoint.moves_health() => self.remember_unanswered(now, key, moved.as_ref()),
            Some(_) | None => {}
        }
        let mut notices = Vec::new();
        let moved = match (server, moved) {
            (None, Some(left)) => {
                // The way out of the last total failure was reported: the next one will be reported again.
                notices.extend(self.quiet.forget(|what| what.reason == ANSWERS_AGAIN));
                Left { detail: record.failures(), ..left }
            }
            (Some(server), moved) if was_unanswered => {
                notices.extend(self.quiet.forget(Move::is_total_failure));
                let again = || Left { profile: server.to_owned(), model: None, reason: ANSWERS_AGAIN.to_owned(), detail: String::new() };
                moved.unwrap_or_else(again)
            }
            (_, Some(left)) => left,
            (_, None) => return notices,
        };
        let Left { profile: from, reason, detail, .. } = moved;
        let what = Move { from, to: server.map(str::to_owned), reason, model };
        let what = if what.is_total_failure() { self.quiet.known_total_failure(&what.from).unwrap_or(what) } else { what };
        notices.extend(self.quiet.note(now, quiet, what, detail, record.id));
        notices
    }

    /// The user has switched: `to` is tried first from now on, in place of `from`. Sessions that follow are no further news.
    pub fn switched(&mut self, from: &str, to: &str) -> Notice {
        for home in self.sessions.values_mut() {
            to.clone_into(&mut home.profile);
            home.broke = None;
        }
        let what = Move { from: from.to_owned(), to: Some(to.to_owned()), reason: SWITCHED.to_owned(), model: None };
        Notice { what, detail: String::new(), times: 1, exchange: 0, drill: None }
    }

    /// A profile has spent its budget.
    pub fn budget_reached(&mut self, now: Instant, quiet: Duration, id: u64, profile: &str, detail: String) -> Vec<Notice> {
        let what = Move { from: profile.to_owned(), to: None, reason: BUDGET_REACHED.to_owned(), model: None };
        self.quiet.note(now, quiet, what, detail, id)
    }

    /// The login of a profile has ended.
    pub fn login_ended(&mut self, now: Instant, quiet: Duration, id: u64, profile: &str, detail: String) -> Vec<Notice> {
        let what = Move { from: profile.to_owned(), to: None, reason: LOGIN_ENDED.to_owned(), model: None };
        self.quiet.note(now, quiet, what, detail, id)
    }

    /// A request did not reach every profile of its chain, because of rules that hold in some folders alone.
    pub fn limited(&mut self, now: Instant, quiet: Duration, id: u64, profile: &str, detail: String) -> Vec<Notice> {
        let what = Move { from: profile.to_owned(), to: None, reason: FOLDER_RULES.to_owned(), model: None };
        self.quiet.note(now, quiet, what, detail, id)
    }

    /// The counts whose time has come.
    pub fn due(&mut self, now: Instant, quiet: Duration) -> Vec<Notice> {
        self.quiet.due(now, quiet)
    }

    /// When the next count is to be told.
    pub fn next_due(&self, quiet: Duration) -> Option<Instant> {
        self.quiet.next_due(quiet)
    }

    /// From whom, and why; none: nothing moved, or it was told already.
    fn moved(
        &self,
        session: &str,
        open: &Open,
        (server, model): (Option<&str>, Option<&str>),
        primary: Option<&str>,
        record: &ExchangeRecord,
    ) -> Option<Left> {
        let told = open.told.as_deref();
        if told.is_some() && told == server {
            return None;
        }
        let is_other = |left: &Left| server.is_none_or(|server| !left.is(server, model));
        let mut failed = record.attempts.iter().filter(|attempt| attempt.class.is_some()).map(|attempt| of_attempt(attempt, record));
        let failure = match (told, &open.failed) {
            (Some(told), _) => failed.rev().filter(is_other).find(|left| left.profile == told),
            // Who failed first in time: attempts that race need not fail in their order.
            (None, Some(first)) if is_other(first) => Some(first.clone()),
            (None, _) => failed.find(is_other),
        };
        if failure.is_some() {
            return failure;
        }
        let home = self.sessions.get(session).filter(|_| record.endpoint.moves_health());
        let at_home = home.map(|home| (home.profile.as_str(), home.other_for(record.model.as_deref())));
        let is_away = record.on_spare || server.is_none() || model.is_some();
        let (from, _) =
            at_home.or(primary.filter(|_| is_away).map(|primary| (primary, None))).filter(|at| (Some(at.0), at.1) != (server, model))?;
        let (reason, detail) = reason_to_leave(from, model, home, record);
        Some(Left { profile: from.to_owned(), model: None, reason, detail })
    }

    fn make_room_for(&mut self, key: &str) {
        if self.sessions.len() >= MOST_SESSIONS && !self.sessions.contains_key(key) {
            let oldest = self.sessions.iter().min_by_key(|(_, home)| home.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.sessions.remove(&key));
        }
    }

    /// Records that no profile could answer a session's request; it stays at home where it was.
    fn remember_unanswered(&mut self, now: Instant, key: String, left: Option<&Left>) {
        self.make_room_for(&key);
        let profile = left.map(|left| left.profile.clone()).unwrap_or_default();
        let home = self.sessions.entry(key).or_insert(Home { profile, other: None, broke: None, unanswered: true, used: now });
        (home.unanswered, home.used) = (true, now);
    }

    fn remember(&mut self, now: Instant, key: String, server: &str, record: &ExchangeRecord) {
        self.make_room_for(&key);
        let last = record.attempts.iter().rev().find(|attempt| attempt.profile == server && attempt.class.is_some());
        let broke = last.map(|attempt| of_attempt(attempt, record)).map(|left| (left.reason, left.detail));
        let before = self.sessions.remove(&key).filter(|home| home.profile == server).and_then(|home| home.other);
        let other = match (&record.model, record.other_model(server)) {
            (Some(asked), Some(sent)) => Some((asked.clone(), sent.to_owned())),
            // A side request with a model of its own says nothing of the conversation's.
            (asked, _) => before.filter(|(other, _)| Some(other) != asked.as_ref()),
        };
        self.sessions.insert(key, Home { profile: server.to_owned(), other, broke, unanswered: false, used: now });
    }
}

impl Home {
    /// What was asked for last in place of this model, if another one was.
    fn other_for(&self, asked: Option<&str>) -> Option<&str> {
        self.other.as_ref().filter(|(other, _)| Some(other.as_str()) == asked).map(|(_, sent)| sent.as_str())
    }
}

/// What stays with one profile: a session's own chain and model family. A sub-agent or a side request may be elsewhere all the time.
fn key(record: &ExchangeRecord) -> String {
    let (session, agent) = (record.session.as_deref().unwrap_or_default(), record.agent.as_deref().unwrap_or_default());
    let family = record.model.as_deref().map(ModelFamily::of);
    format!("{session}\n{agent}\n{}\n{family:?}", record.chain)
}

fn of_attempt(attempt: &AttemptEntry, record: &ExchangeRecord) -> Left {
    Left {
        profile: attempt.profile.clone(),
        model: record.other_model_of(attempt).map(str::to_owned),
        reason: attempt.class.map_or(MOVED, |class| class.word()).to_owned(),
        detail: attempt.detail.as_deref().map(words).unwrap_or_default(),
    }
}

/// Why a session that was at `from` is elsewhere, where nothing failed in the exchange itself.
fn reason_to_leave(from: &str, model: Option<&str>, home: Option<&Home>, record: &ExchangeRecord) -> (String, String) {
    if record.outcome == Outcome::Served && !record.on_spare && model.is_none() {
        return (WELL_AGAIN.to_owned(), String::new());
    }
    if let Some(broke) = home.and_then(|home| home.broke.clone()) {
        return broke;
    }
    let skipped = record.skipped.iter().find(|skipped| skipped.profile == from);
    let reason = skipped.map_or_else(|| MOVED.to_owned(), |skipped| words(&skipped.reason));
    (reason.clone(), if skipped.is_some() { reason } else { String::new() })
}

#[cfg(test)]
mod tests;
