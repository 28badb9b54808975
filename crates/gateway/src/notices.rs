//! Keeps what is told of moves between profiles, words it, and knows which session has heard what. Never shows anything: that is for whoever
//! runs the gateway, and for the client's own hooks.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hotspare_core::DrillMark;
use hotspare_core::notice::{ANSWERS_AGAIN, BUDGET_REACHED, FOLDER_RULES, LOGIN_ENDED, MOVED, Move, Notice, SWITCHED, WELL_AGAIN, Watch};
use hotspare_core::record::{client_id, id_text};
use hotspare_upstream::{Credential, clock, login_command};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::record::Event;
use crate::server::Gateway;
use crate::snapshot::Snapshot;

/// The version of these shapes.
pub const NOTICES_VERSION: u32 = 1;

/// Most notices kept; the quiet rule makes more than a few in an hour rare.
pub const MOST_KEPT: usize = 64;

/// Most sessions whose place is kept. Beyond it the one that is furthest behind is forgotten, and would be told again.
const MOST_SESSIONS: usize = 256;

/// A session that is not known hears of what is younger than this.
const NEWS: Duration = Duration::from_secs(600);

/// A time of day is named beside a wait of this length or more, and of less than [`CLOCK_REACH`], within which it names one time only.
const CLOCK_FROM: Duration = Duration::from_secs(600);
const CLOCK_REACH: Duration = Duration::from_secs(18 * 3600);

/// Longest wait between two looks at the counts that are due, so that a machine that slept tells them soon after.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Something that was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// Its number; later ones have higher ones.
    pub seq: u64,
    /// When, in seconds since 1970 (UTC).
    pub at: u64,
    /// Who served before, or should have.
    pub from: String,
    /// Who serves now; none: nobody could.
    pub to: Option<String>,
    /// A failure's word, `well_again`, `answers_again`, `switched`, `moved`, `budget_reached`, `login_ended`, or why `from` was not asked.
    pub reason: String,
    /// What `to` was asked for, where that is another model than the client's own.
    #[serde(default)]
    pub model: Option<String>,
    /// How many moves this stands for; more than one: a count of those since the last notice of the same.
    pub times: u64,
    /// The exchange in which it happened last, for `hotspare why`; empty for `switched`, which no exchange brought about.
    pub exchange: String,
    /// It was a drill; none: it was real.
    #[serde(default)]
    pub drill: Option<DrillMark>,
    /// For people: one line.
    pub text: String,
}

/// `GET` and `POST /hotspare/notices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoticesAnswer {
    /// [`NOTICES_VERSION`].
    pub version: u32,
    /// The oldest first.
    pub notices: Vec<Told>,
    /// Whether the configuration wants them on the desktop.
    #[serde(default)]
    pub desktop: bool,
    /// Whether it wants them in the terminal.
    #[serde(default)]
    pub terminal: bool,
}

/// `POST /hotspare/notices`: what a session has not heard yet, once.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NoticesRequest {
    /// The client's own session id.
    pub session: String,
}

/// What was told, and to whom.
#[derive(Default)]
pub(crate) struct Notices {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Default)]
struct Inner {
    watch: Watch,
    told: VecDeque<Told>,
    seq: u64,
    /// The last number that each session has heard.
    heard: HashMap<String, u64>,
}

impl Gateway {
    /// Watches what happens. Called on the data path: a short lock where something failed, a look-up where nothing did.
    pub(crate) fn watch(&self, event: &Event) {
        // What happens in a drill's shadow is told by the real gateway, when its exchange is over.
        if self.is_shadow() || matches!(event, Event::Arrived { .. } | Event::Asked { .. } | Event::Ending { .. }) {
            return;
        }
        let session = if let Event::Over(record) = event { record.session.as_deref() } else { None };
        let (now, snapshot) = (clock::now(), self.snapshot_of_session(session));
        let quiet = snapshot.notify.quiet;
        let notices = match event {
            Event::Failed { id, profile, model, failure } => {
                self.lock().watch.failed(*id, profile, model.as_deref(), failure);
                return;
            }
            Event::Committed { id, profile, model } => self.lock().watch.committed(now, quiet, *id, profile, model.as_deref()),
            Event::BudgetReached { id, profile, reached, .. } => {
                let detail = format!("{} of {} a {}", usd(reached.spent), usd(reached.limit), reached.period.word());
                self.lock().watch.budget_reached(now, quiet, *id, profile, detail)
            }
            Event::Over(record) => self.lock().watch.over(now, quiet, primary(&snapshot, &record.chain), record),
            Event::Arrived { .. } | Event::Asked { .. } | Event::Ending { .. } => return,
        };
        self.tell_notices(&snapshot, notices);
    }

    /// Reports that the login of a profile has ended.
    pub(crate) fn notice_ended_login(&self, snapshot: &Snapshot, id: u64, profile: &str, folder: &Path) {
        let (quiet, command) = (snapshot.notify.quiet, login_command(folder));
        let notices = self.lock().watch.login_ended(clock::now(), quiet, id, profile, command);
        self.tell_notices(snapshot, notices);
    }

    /// Reports that a request did not reach every profile of its chain, or none, because of rules that hold in some folders alone.
    pub(crate) fn notice_limited(&self, snapshot: &Snapshot, id: u64, why: &str, is_refused: bool) {
        let first = snapshot.rules.last().and_then(|rule| rule.chain.entries.first()).map(|entry| snapshot.name(entry.profile));
        let (quiet, first) = (snapshot.notify.quiet, first.unwrap_or_default().to_owned());
        let detail = if is_refused { format!("a request was refused: {why}, and that is nothing") } else { why.to_owned() };
        let notices = self.lock().watch.limited(clock::now(), quiet, id, &first, detail);
        self.tell_notices(snapshot, notices);
    }

    /// Reports that the user has switched: `to` is tried first from now on.
    pub(crate) fn notice_switch(&self, snapshot: &Snapshot, from: &str, to: &str) {
        let notice = self.lock().watch.switched(from, to);
        self.tell_notices(snapshot, vec![notice]);
    }

    /// Everything that is kept, the oldest first.
    pub fn notices(&self) -> NoticesAnswer {
        self.tell_due();
        let notices = self.lock().told.iter().cloned().collect();
        self.answer(notices)
    }

    /// What this session has not heard yet. A session that is not known hears of the last ten minutes.
    pub fn notices_for(&self, request: &NoticesRequest) -> NoticesAnswer {
        self.tell_due();
        let news = seconds(self.outside().wall()).saturating_sub(NEWS.as_secs());
        let session = client_id(&request.session).unwrap_or_default();
        let mut inner = self.lock();
        let heard = inner.heard.get(&session).copied();
        let is_new = |told: &&Told| heard.map_or(told.at >= news, |heard| told.seq > heard);
        let notices: Vec<Told> = inner.told.iter().filter(is_new).cloned().collect();
        inner.make_room_for(&session);
        let last = inner.seq;
        inner.heard.insert(session, last);
        drop(inner);
        self.answer(notices)
    }

    fn answer(&self, notices: Vec<Told>) -> NoticesAnswer {
        let notify = self.snapshot().notify;
        NoticesAnswer { version: NOTICES_VERSION, notices, desktop: notify.desktop, terminal: notify.terminal }
    }

    /// Waits for notices with higher numbers than this, and gives them, the oldest first.
    pub async fn notices_after(&self, seen: u64) -> Vec<Told> {
        loop {
            // Made before the look, so that nothing falls between.
            let news = self.notices.news.notified();
            self.tell_due();
            let fresh: Vec<Told> = self.lock().told.iter().filter(|told| told.seq > seen).cloned().collect();
            if !fresh.is_empty() {
                return fresh;
            }
            let quiet = self.snapshot().notify.quiet;
            let due = self.lock().watch.next_due(quiet).map(|due| due.saturating_duration_since(clock::now()));
            // Cancel-safe: a wake-up that was lost is found again by the next look.
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(due.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)) => {}
            }
        }
    }

    /// Tells the counts whose time has come.
    fn tell_due(&self) {
        let snapshot = self.snapshot();
        let due = self.lock().watch.due(clock::now(), snapshot.notify.quiet);
        self.tell_notices(&snapshot, due);
    }

    fn tell_notices(&self, snapshot: &Snapshot, notices: Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        let at = seconds(self.outside().wall());
        for notice in notices {
            let text = self.text_of(snapshot, &notice);
            let mut inner = self.lock();
            inner.seq += 1;
            let Notice { what: Move { from, to, reason, model }, times, exchange, drill, .. } = notice;
            let exchange = if reason == SWITCHED { String::new() } else { id_text(exchange) };
            tracing::debug!(exchange, times, "{text}");
            let told = Told { seq: inner.seq, at, from, to, reason, model, times, exchange, drill, text };
            if inner.told.len() == MOST_KEPT {
                inner.told.pop_front();
            }
            inner.told.push_back(told);
        }
        self.notices.news.notify_waiters();
    }

    /// Who, why, what it costs and when it ends, on one line.
    fn text_of(&self, snapshot: &Snapshot, notice: &Notice) -> String {
        let Move { from, to, reason, model } = &notice.what;
        let model = model.as_deref().map(|model| format!("; another model answers, {model}")).unwrap_or_default();
        let because = if notice.detail.is_empty() { String::new() } else { format!(": {}", notice.detail) };
        let again = if notice.times > 1 { format!(" {} more times", notice.times) } else { String::new() };
        let drill = match notice.drill {
            None => "",
            Some(mark) if mark.live => "drill: ",
            Some(_) => "drill, nothing real: ",
        };
        let text = match to {
            None if reason == FOLDER_RULES => format!("{}{again}. Run: hotspare status", notice.detail),
            None if reason == LOGIN_ENDED => format!("the login of {from} has ended; log in again{because}"),
            None if reason == BUDGET_REACHED => format!("{from} is not asked any more, its budget is used up{because}"),
            None => format!(
                "no profile could answer{}{again}{because}{}. Run: hotspare why last",
                unlisted(from, &notice.detail),
                self.next_return(snapshot)
            ),
            Some(to) if reason == ANSWERS_AGAIN => format!("{to} answers again{again}"),
            Some(to) if reason == SWITCHED => format!("{to} is tried first from now on, in place of {from} (`hotspare switch`)"),
            Some(to) if to == from => {
                let model = notice
                    .what
                    .model
                    .as_deref()
                    .map_or("the model that is asked for".to_owned(), |model| format!("another model, {model}"));
                format!("{to} answers with {model}{again}{because}")
            }
            Some(to) if reason == WELL_AGAIN => format!("{to} serves again{again}, in place of {from}{model}"),
            Some(to) => {
                let ends = if reason == MOVED { String::new() } else { self.asked_again(snapshot, from) };
                format!("{to} took over from {from}{again}{because}{model}{}{ends}", cost(snapshot, from, to))
            }
        };
        format!("{drill}{text}")
    }

    fn asked_again(&self, snapshot: &Snapshot, name: &str) -> String {
        let Some(id) = snapshot.id(name) else { return String::new() };
        let now = clock::now();
        let bench = self.with_world(|world| world.health.report(now, id).bench);
        let until = bench.map(|bench| bench.until.saturating_duration_since(now));
        until.map_or_else(String::new, |time| format!("; {name} is tried again {}", self.when(time)))
    }

    /// The profile that may be tried again first.
    fn next_return(&self, snapshot: &Snapshot) -> String {
        let now = clock::now();
        let held = self.with_world(|world| {
            let held = snapshot.ids().filter_map(|id| Some((world.health.report(now, id).bench?, id)));
            held.map(|(bench, id)| (if bench.hard { bench.next_look } else { bench.until }, id)).min()
        });
        held.map_or_else(String::new, |(at, id)| {
            format!("; {} is tried again {}", snapshot.name(id), self.when(at.saturating_duration_since(now)))
        })
    }

    /// `in 28 s`, `at 15:40 (in 2 h 3 min)`, by this machine's clock and time zone.
    fn when(&self, time: Duration) -> String {
        let at = seconds(self.outside().wall() + time);
        match hotspare_store::local_clock(at).filter(|_| (CLOCK_FROM..CLOCK_REACH).contains(&time)) {
            Some(clock) => format!("at {clock} (in {})", span(time)),
            None => format!("in {}", span(time)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.notices.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn make_room_for(&mut self, session: &str) {
        if self.heard.len() >= MOST_SESSIONS && !self.heard.contains_key(session) {
            let behind = self.heard.iter().min_by_key(|(_, heard)| **heard).map(|(session, _)| session.clone());
            behind.and_then(|session| self.heard.remove(&session));
        }
    }
}

/// The chain's first profile.
fn primary<'a>(snapshot: &'a Snapshot, chain: &str) -> Option<&'a str> {
    let rule = snapshot.rules.iter().find(|rule| &*rule.chain.name == chain)?;
    rule.chain.entries.first().map(|entry| snapshot.name(entry.profile))
}

/// Leaving the client's own login is leaving what that account has paid for.
fn cost(snapshot: &Snapshot, from: &str, to: &str) -> &'static str {
    let is = |name: &str, matches: fn(&Credential) -> bool| {
        snapshot.id(name).and_then(|id| snapshot.target(id)).is_some_and(|target| matches(&target.credential))
    };
    let leaves = is(from, Credential::is_client) && is(to, |credential| matches!(credential, Credential::Own(_)));
    if leaves { "; its own account pays" } else { "" }
}

/// `28 s`, `3 min`, `2 h 5 min`: rounded up, so that nothing is promised too early.
fn span(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1000);
    let minutes = seconds.div_ceil(60);
    match (seconds, minutes / 60, minutes % 60) {
        (0..120, ..) => format!("{seconds} s"),
        (120..7200, ..) => format!("{minutes} min"),
        (_, hours @ 48.., _) => format!("{} d {} h", hours / 24, hours % 24),
        (_, hours, 0) => format!("{hours} h"),
        (_, hours, rest) => format!("{hours} h {rest} min"),
    }
}

/// `$9.98`
pub(crate) fn usd(micro_usd: u64) -> String {
    format!("${}.{:02}", micro_usd / 1_000_000, micro_usd % 1_000_000 / 10_000)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
/// Names the profile that the session was at, where the list of failures does not.
fn unlisted(from: &str, failures: &str) -> String {
    let is_listed = failures.split(", ").any(|failure| failure.starts_with(&format!("{from} (")));
    if is_listed { String::new() } else { format!(" in place of {from}") }
}
