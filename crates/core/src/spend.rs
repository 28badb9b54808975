//! Decides whether a profile's budget in money has room for one more request. Never knows a price, and never takes the client's own login
//! for something that is paid by the token.
//!
//! An attempt reserves what it will probably cost before it is sent, and what it did cost is settled when it is over. Nobody is refused
//! while money is left that nobody has reserved, so spending goes beyond a limit by at most what the last request that was let in costs.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::route::ProfileId;

/// Sessions whose spending is remembered at one profile or another; beyond it the one that spent longest ago is forgotten.
const MOST_SESSIONS: usize = 1024;

/// How much money a profile may take, in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// In one day of this machine's calendar.
    pub per_day: Option<u64>,
    /// In one session, with all its agents.
    pub per_session: Option<u64>,
}

impl Budget {
    /// Whether it limits nothing.
    pub fn is_empty(&self) -> bool {
        self.per_day.is_none() && self.per_session.is_none()
    }
}

/// For how long a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Until midnight, by this machine's calendar.
    Day,
    /// As long as the session lasts.
    Session,
}

impl Period {
    /// The word that stands for it in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Session => "session",
        }
    }
}

/// A budget that is used up. Money is in millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Which of its limits.
    pub period: Period,
    /// The limit.
    pub limit: u64,
    /// What was spent, with what is reserved for requests under way.
    pub spent: u64,
}

/// One day of this machine's calendar, in milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Its midnight.
    pub begins_ms: u64,
    /// The next one.
    pub ends_ms: u64,
}

/// What an attempt has set aside. Whoever holds it settles it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Whose money it is.
    pub profile: ProfileId,
    /// The session that spends it, where that is known.
    pub session: Option<u64>,
    /// How much is set aside, in millionths of a US dollar.
    pub amount: u64,
    /// What it was measured against.
    pub budget: Budget,
}

/// What was spent of one limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// By this process.
    pub(crate) own: u64,
    /// By earlier processes, and by others as far as that was told.
    pub(crate) elsewhere: u64,
    reserved: u64,
    /// When it last changed, in milliseconds since 1970 (UTC).
    pub(crate) used_ms: u64,
}

impl Account {
    fn spent(&self) -> u64 {
        self.own.saturating_add(self.elsewhere)
    }

    fn committed(&self) -> u64 {
        self.spent().saturating_add(self.reserved)
    }
}

/// What was spent of all budgets. Profiles without a budget have no account.
#[derive(Debug, Clone, Default)]
pub struct Spending {
    /// Tells this process's part from that of others, in what lasts.
    pub writer: u64,
    pub(crate) day: Option<Day>,
    pub(crate) days: HashMap<ProfileId, Account>,
    pub(crate) sessions: HashMap<(ProfileId, u64), Account>,
    now_ms: u64,
}

impl Spending {
    /// Time goes on. False: the day is over or none is known, and [`Spending::begin_day`] must be told which one it is.
    pub fn look_at_calendar(&mut self, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        self.day.is_some_and(|day| (day.begins_ms..day.ends_ms).contains(&now_ms))
    }

    /// A day begins: what was spent on another one counts no more. What is reserved stays so.
    pub fn begin_day(&mut self, day: Day) {
        if self.day.replace(day) != Some(day) {
            self.days.retain(|_, account| account.reserved > 0);
            for account in self.days.values_mut() {
                (account.own, account.elsewhere) = (0, 0);
            }
        }
    }

    /// The day that counts now.
    pub fn day(&self) -> Option<Day> {
        self.day
    }

    /// What was spent at the profile today, without what is reserved.
    pub fn today(&self, profile: ProfileId) -> u64 {
        self.days.get(&profile).map_or(0, Account::spent)
    }

    /// The limit that leaves nothing for this session at the profile, if any does.
    pub fn reached(&self, profile: ProfileId, session: Option<u64>, budget: &Budget) -> Option<Reached> {
        let committed = |account: Option<&Account>| account.map_or(0, Account::committed);
        let session = session.and_then(|session| self.sessions.get(&(profile, session)));
        let limits =
            [(Period::Day, budget.per_day, committed(self.days.get(&profile))), (Period::Session, budget.per_session, committed(session))];
        limits.into_iter().find_map(|(period, limit, spent)| {
            let limit = limit.filter(|limit| spent >= *limit)?;
            Some(Reached { period, limit, spent })
        })
    }

    /// Sets money aside for one attempt.
    ///
    /// # Errors
    ///
    /// When a limit leaves nothing.
    pub fn reserve(&mut self, profile: ProfileId, session: Option<u64>, budget: Budget, amount: u64) -> Result<Reservation, Reached> {
        if let Some(reached) = self.reached(profile, session, &budget) {
            return Err(reached);
        }
        Ok(self.set_aside(profile, session, budget, amount))
    }

    /// The same for one that was found to have room already.
    pub fn set_aside(&mut self, profile: ProfileId, session: Option<u64>, budget: Budget, amount: u64) -> Reservation {
        for account in self.accounts(profile, session) {
            account.reserved = account.reserved.saturating_add(amount);
        }
        Reservation { profile, session, amount, budget }
    }

    /// The attempt is over and has cost so much. Returns the limits that are reached by it and were not before.
    pub fn settle(&mut self, reservation: &Reservation, cost: u64) -> Vec<Reached> {
        let Reservation { profile, session, amount, budget } = *reservation;
        let limits = [(Period::Day, budget.per_day), (Period::Session, budget.per_session)];
        let mut reached = Vec::new();
        for (account, (period, limit)) in self.accounts(profile, session).into_iter().zip(limits) {
            let before = account.spent();
            account.reserved = account.reserved.saturating_sub(amount);
            account.own = account.own.saturating_add(cost);
            let spent = account.spent();
            let crossed = limit.filter(|limit| before < *limit && spent >= *limit);
            reached.extend(crossed.map(|limit| Reached { period, limit, spent }));
        }
        reached
    }

    /// The day's account, and the session's where one is known.
    fn accounts(&mut self, profile: ProfileId, session: Option<u64>) -> Vec<&mut Account> {
        let now_ms = self.now_ms;
        if let Some(session) = session {
            self.make_room(profile, session);
        }
        let day = self.days.entry(profile).or_default();
        let session = session.map(|session| self.sessions.entry((profile, session)).or_default());
        let mut accounts: Vec<&mut Account> = std::iter::once(day).chain(session).collect();
        for account in &mut accounts {
            account.used_ms = now_ms;
        }
        accounts
    }

    fn make_room(&mut self, profile: ProfileId, session: u64) {
        if self.sessions.len() < MOST_SESSIONS || self.sessions.contains_key(&(profile, session)) {
            return;
        }
        // Money that is set aside comes back to its account: that one stays.
        let idle = self.sessions.iter().filter(|(_, account)| account.reserved == 0);
        if let Some(oldest) = idle.min_by_key(|(key, account)| (account.used_ms, **key)).map(|(key, _)| *key) {
            self.sessions.remove(&oldest);
        }
    }

    /// What others have spent is told anew.
    pub(crate) fn forget_elsewhere(&mut self) {
        for account in self.days.values_mut().chain(self.sessions.values_mut()) {
            account.elsewhere = 0;
        }
    }

    /// What another process has spent.
    pub(crate) fn add_elsewhere(&mut self, profile: ProfileId, session: Option<u64>, amount: u64, used_ms: u64) {
        let account = match session {
            None => self.days.entry(profile).or_default(),
            Some(session) => {
                self.make_room(profile, session);
                self.sessions.entry((profile, session)).or_default()
            }
        };
        account.elsewhere = account.elsewhere.saturating_add(amount);
        account.used_ms = account.used_ms.max(used_ms);
    }
}

#[cfg(test)]
mod tests;
