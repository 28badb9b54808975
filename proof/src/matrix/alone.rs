//! Short outages of the only profile: the time until the client has its answer through the proxy, against the same client with nothing in
//! between.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hotspare_testkit::{Dial, Network, Script};
use serde_json::json;
use tokio::time::Instant;

use super::expect::Outcome;
use super::run::{LONGEST_TURN, Run};
use crate::client::{Client, Session};
use crate::faults::{self, HeadFault, Position, StreamFault};
use crate::question::{Question, Shape};
use crate::world::{Bare, Plan, Play, Profile, World, host};

/// Longest time through the proxy, in percent of the time without it.
const MOST_PERCENT: u128 = 110;

/// How long the outages last, in seconds. Claude Code 2.1.330 retries for about three minutes (measured); a program for about 1.5 s, or as
/// long as `retry-after` says.
const LASTS: [u64; 5] = [1, 5, 25, 60, 120];

/// What the only profile does while it is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A fault before the answer begins.
    Head(HeadFault),
    /// This status, and a `retry-after` of so many seconds where there is one.
    Status(u16, Option<u64>),
    /// An answer that breaks.
    Stream(StreamFault, Position),
}

/// One outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage {
    pub trouble: Trouble,
    pub lasts: u64,
}

impl Trouble {
    /// Every failure that Claude Code 2.1.330 retries by itself (measured).
    pub(crate) const ALL: [Self; 26] = [
        Self::Head(HeadFault::Refused),
        Self::Head(HeadFault::Closed),
        Self::Head(HeadFault::Reset),
        Self::Head(HeadFault::HeadStall),
        Self::Head(HeadFault::HalfHead),
        Self::Head(HeadFault::S502Html),
        Self::Status(401, None),
        Self::Status(408, None),
        Self::Status(409, None),
        Self::Status(429, None),
        Self::Status(429, Some(3)),
        Self::Status(429, Some(20)),
        Self::Status(500, None),
        Self::Status(500, Some(5)),
        Self::Status(501, None),
        Self::Status(503, None),
        Self::Status(503, Some(45)),
        Self::Status(504, None),
        Self::Status(508, None),
        Self::Status(529, None),
        Self::Status(529, Some(10)),
        Self::Stream(StreamFault::Reset, Position::AfterHead),
        Self::Stream(StreamFault::Truncated, Position::AfterMessageStart),
        Self::Stream(StreamFault::Truncated, Position::FirstDelta),
        Self::Stream(StreamFault::ErrorEvent, Position::AfterMessageStart),
        Self::Stream(StreamFault::Stall, Position::AfterHead),
    ];

    /// For the table.
    pub(crate) fn word(self) -> String {
        match self {
            Self::Head(fault) => fault.word().to_owned(),
            Self::Status(status, None) => status.to_string(),
            Self::Status(status, Some(wait)) => format!("{status}-wait-{wait}"),
            Self::Stream(fault, position) => format!("{}-{}", fault.word(), position.word()),
        }
    }

    fn script(self, question: Question, said: &str, streaming: bool) -> Script {
        match self {
            Self::Head(fault) => fault.script(),
            Self::Status(status, wait) => {
                let script = Script::error(status, "api_error", "scripted failure");
                wait.map_or(script.clone(), |wait| script.field("retry-after", &wait.to_string()))
            }
            Self::Stream(..) if !streaming => HeadFault::S500.script(),
            Self::Stream(fault, position) => {
                let events = question.rest(said).unwrap_or_default();
                faults::broken(&events, fault, position, 0, Duration::ZERO).script
            }
        }
    }

    fn dial(self) -> Dial {
        if let Self::Head(fault) = self { fault.dial() } else { Dial::Works }
    }
}

impl Outage {
    pub(crate) fn all() -> Vec<Self> {
        Trouble::ALL.into_iter().flat_map(|trouble| LASTS.map(|lasts| Self { trouble, lasts })).collect()
    }

    fn lasts(self) -> Duration {
        Duration::from_secs(self.lasts)
    }

    /// A provider that is out from now on, as long as the outage lasts.
    fn play(self) -> Play {
        let over = Instant::now() + self.lasts();
        Arc::new(move |request| match Question::asked_by(request) {
            None => Script::not_found(),
            Some((question, said, streaming)) if Instant::now() < over => self.trouble.script(question, &said, streaming),
            Some((question, said, streaming)) => faults::answer(question, &said, streaming, Duration::ZERO),
        })
    }

    /// Lets connections fail as long as it lasts.
    fn block(self, network: &Network) {
        if self.trouble.dial() == Dial::Works {
            return;
        }
        network.set_dial(&host("a"), self.trouble.dial());
        let network = network.clone();
        tokio::spawn(async move {
            tokio::time::sleep(self.lasts()).await;
            network.set_dial(&host("a"), Dial::Works);
        });
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alone/{}/{}s", self.trouble.word(), self.lasts)
    }
}

const QUESTION: Question = Question { number: 17, shape: Shape::Text };

async fn turn(session: &mut Session) -> (Result<(), String>, Duration) {
    let begun = Instant::now();
    let turn = tokio::time::timeout(LONGEST_TURN, session.ask(QUESTION, true)).await;
    let answer = turn.map_err(|_| "the turn hangs".to_owned()).and_then(|turn| turn.answer);
    let right = answer.and_then(|answer| QUESTION.is_answered_by(&answer.text, &answer.calls));
    (right, begun.elapsed())
}

/// How long the client alone takes; `None` when its user sees an error.
pub(super) async fn direct(outage: Outage, client: Client) -> Option<Duration> {
    let bare = Bare::new("a", outage.play());
    outage.block(&bare.network);
    let (answer, took) = turn(&mut Session::new(&bare.door, client, client.word())).await;
    answer.is_ok().then_some(took)
}

/// The same through the proxy, with this one profile.
pub(super) async fn through(outage: Outage, client: Client, direct: Option<Duration>, traced: bool) -> anyhow::Result<(Run, Duration)> {
    let profiles = vec![Profile::new("a", outage.play())];
    let world = Arc::new(World::in_memory(&Plan { profiles, policy: json!({}), seed: 1, traced, ledger: None })?);
    outage.block(&world.network);
    let (answer, took) = turn(&mut Session::new(&world.door, client, client.word())).await;
    let mut failures = Vec::new();
    if let Some(direct) = direct {
        match &answer {
            Err(error) => failures.push(format!("visible error after {took:.1?}, without the proxy an answer after {direct:.1?}: {error}")),
            Ok(()) if took.as_millis() * 100 > direct.as_millis() * MOST_PERCENT => {
                failures.push(format!("answered after {took:.1?}, without the proxy after {direct:.1?}"));
            }
            Ok(()) => {}
        }
    }
    let visible_error = direct.is_some() && answer.is_err();
    Ok((Run { outcome: Outcome::Passed, failures, visible_error, trace: world.trace.text() }, took))
}
