//! Cells of several requests in a row: waits, long blocks, side requests, clients that give up, forked conversations.
//! Each defines the required outcome of every request.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hotspare_testkit::{Received, Script};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::expect::Outcome;
use super::run::{LONGEST_TURN, Run, observed};
use crate::client::{Client, Session, Turn};
use crate::dates;
use crate::faults::{self, HeadFault, Position, StreamFault};
use crate::question::{Question, Shape, TOOL};
use crate::world::{Plan, Play, Profile, WALL, World, play_well};

/// A small model, for side requests.
const SMALL: &str = "claude-haiku-5-5";

/// Between two requests of different people.
const MOMENT: Duration = Duration::from_secs(1);

/// Interval of traffic in which a blocked profile is tried at least once.
const TRIAL_EVERY: Duration = Duration::from_secs(3600);

/// Where a refusal carries its wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    RetryAfter,
    RetryAfterDate,
    RetryAfterMs,
    ResetRequests,
    ResetSeconds,
    ResetMillis,
    ResetDelta,
    IetfReset,
    AnthropicReset,
    UnifiedReset,
    BodyTryAgain,
    BodyRetryAfterSeconds,
    BodyField,
    BodyResetsIn,
    BodyRetryInfo,
    BodyChinese,
    BodyBeijing,
    AheadDate,
    BehindDate,
    AheadUnified,
    BehindUnified,
}

impl Carrier {
    const ALL: [Self; 21] = [
        Self::RetryAfter,
        Self::RetryAfterDate,
        Self::RetryAfterMs,
        Self::ResetRequests,
        Self::ResetSeconds,
        Self::ResetMillis,
        Self::ResetDelta,
        Self::IetfReset,
        Self::AnthropicReset,
        Self::UnifiedReset,
        Self::BodyTryAgain,
        Self::BodyRetryAfterSeconds,
        Self::BodyField,
        Self::BodyResetsIn,
        Self::BodyRetryInfo,
        Self::BodyChinese,
        Self::BodyBeijing,
        Self::AheadDate,
        Self::BehindDate,
        Self::AheadUnified,
        Self::BehindUnified,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::RetryAfter => "retry-after",
            Self::RetryAfterDate => "retry-after-date",
            Self::RetryAfterMs => "retry-after-ms",
            Self::ResetRequests => "x-ratelimit-reset-requests",
            Self::ResetSeconds => "x-ratelimit-reset-seconds",
            Self::ResetMillis => "x-ratelimit-reset-ms",
            Self::ResetDelta => "x-ratelimit-reset-delta",
            Self::IetfReset => "ratelimit-reset",
            Self::AnthropicReset => "anthropic-requests-reset",
            Self::UnifiedReset => "anthropic-unified-reset",
            Self::BodyTryAgain => "body-try-again",
            Self::BodyRetryAfterSeconds => "body-retry-after-seconds",
            Self::BodyField => "body-field",
            Self::BodyResetsIn => "body-resets-in",
            Self::BodyRetryInfo => "body-retry-info",
            Self::BodyChinese => "body-chinese",
            Self::BodyBeijing => "body-beijing-time",
            Self::AheadDate => "clock-ahead-date",
            Self::BehindDate => "clock-behind-date",
            Self::AheadUnified => "clock-ahead-unified",
            Self::BehindUnified => "clock-behind-unified",
        }
    }

    /// Whether it reports a used-up usage window.
    fn is_window(self) -> bool {
        matches!(self, Self::UnifiedReset | Self::BodyBeijing | Self::AheadUnified | Self::BehindUnified)
    }

    /// Time from the end of the wait to the check that the profile is tried again. An absolute end carries up to 30 s of jitter.
    fn late(self) -> Duration {
        let absolute = self.is_window() || matches!(self, Self::AnthropicReset | Self::ResetSeconds | Self::ResetMillis);
        Duration::from_secs(if absolute { 40 } else { 15 })
    }

    fn wait(self) -> Duration {
        Duration::from_secs(if self.is_window() { 120 } else { 20 })
    }

    /// The provider's clock against ours, in seconds.
    fn skewed(self, now: u64) -> u64 {
        match self {
            Self::AheadDate | Self::AheadUnified => now + 86_400,
            Self::BehindDate | Self::BehindUnified => now - 86_400,
            _ => now,
        }
    }

    /// The refusal, sent at this second of our clock.
    fn script(self, now: u64) -> Script {
        let now = self.skewed(now);
        let wait = self.wait().as_secs();
        let at = now + wait;
        let plain = r#"{"type":"error","error":{"type":"rate_limit_error","message":"A limit was met."}}"#.to_owned();
        let refuse = |fields: &[(&str, &str)], body: String| {
            let script = Script::new().body(429, &[("Content-Type", "application/json")], body);
            fields.iter().fold(script, |script, (name, value)| script.field(name, value)).field("Date", &dates::http(now))
        };
        let with = |name: &str, value: String| refuse(&[(name, &value)], plain.clone());
        let body = |body: Value| refuse(&[], body.to_string());
        match self {
            Self::RetryAfter => with("retry-after", wait.to_string()),
            Self::RetryAfterDate | Self::AheadDate | Self::BehindDate => with("retry-after", dates::http(at)),
            Self::RetryAfterMs => with("retry-after-ms", (wait * 1000).to_string()),
            Self::ResetRequests => {
                refuse(&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", &format!("{wait}s"))], plain)
            }
            Self::ResetSeconds => refuse(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &at.to_string())], plain),
            Self::ResetMillis => refuse(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &(at * 1000).to_string())], plain),
            Self::ResetDelta => refuse(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &wait.to_string())], plain),
            Self::IetfReset => refuse(&[("ratelimit-remaining", "0"), ("ratelimit-reset", &wait.to_string())], plain),
            Self::AnthropicReset => refuse(
                &[
                    ("anthropic-ratelimit-requests-limit", "50"),
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", &dates::rfc3339(at)),
                ],
                plain,
            ),
            Self::UnifiedReset | Self::AheadUnified | Self::BehindUnified => {
                let at = at.to_string();
                refuse(
                    &[
                        ("anthropic-ratelimit-unified-status", "rejected"),
                        ("anthropic-ratelimit-unified-5h-status", "rejected"),
                        ("anthropic-ratelimit-unified-5h-reset", &at),
                        ("anthropic-ratelimit-unified-reset", &at),
                        ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
                    ],
                    plain,
                )
            }
            Self::BodyTryAgain => {
                body(json!({"error": {"message": format!("Too much at once, try again in {wait}s"), "code": "rate_limit"}}))
            }
            Self::BodyRetryAfterSeconds => body(json!({"message": format!("Slow down and retry after {wait} seconds")})),
            Self::BodyField => body(json!({"error": {"message": "Slow down", "retry_after": wait}})),
            Self::BodyResetsIn => body(json!({"detail": {"reason": "rate", "resets_in_seconds": wait}})),
            Self::BodyRetryInfo => body(json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Slow down", "details": [
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{wait}s")}]}})),
            Self::BodyChinese => body(json!({"error": {"message": format!("请求过于频繁,请在{wait}秒后重试")}})),
            Self::BodyBeijing => {
                let local = dates::plain(at + 8 * 3600);
                body(json!({"error": {"code": "1308", "message": format!("已达到使用上限,您的限额将在 {local} 重置")}}))
            }
        }
    }
}

/// What the client gets before it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    BeforeHead,
    AfterHead,
    Pings,
}

impl Silence {
    const ALL: [Self; 3] = [Self::BeforeHead, Self::AfterHead, Self::Pings];

    fn word(self) -> &'static str {
        match self {
            Self::BeforeHead => "head-stall",
            Self::AfterHead => "after-head",
            Self::Pings => "pings",
        }
    }

    fn script(self, question: Question, said: &str) -> Script {
        let events = question.rest(said).unwrap_or_default();
        match self {
            Self::BeforeHead => HeadFault::HeadStall.script(),
            Self::AfterHead => faults::broken(&events, StreamFault::Stall, Position::AfterHead, 0, Duration::ZERO).script,
            Self::Pings => faults::broken(&events, StreamFault::StallWithPings, Position::AfterPing, 0, Duration::ZERO).script,
        }
    }
}

/// When the side request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Just before the session's first turn, and beside it.
    Beside,
    /// Between two turns.
    Between,
    /// Between two turns, a probe without streaming.
    Probe,
}

/// What is wrong by form in a history that came from another conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    DottedId,
    BarredId,
    EmptyId,
    EmptyText,
    EmptyContent,
}

impl Damage {
    const ALL: [Self; 5] = [Self::DottedId, Self::BarredId, Self::EmptyId, Self::EmptyText, Self::EmptyContent];

    fn word(self) -> &'static str {
        match self {
            Self::DottedId => "dotted-id",
            Self::BarredId => "barred-id",
            Self::EmptyId => "empty-id",
            Self::EmptyText => "empty-text",
            Self::EmptyContent => "empty-content",
        }
    }

    /// A history that holds it.
    fn history(self) -> Vec<Value> {
        let id = match self {
            Self::DottedId => "functions.Bash:0",
            Self::BarredId => "call|abc.1",
            Self::EmptyId => "",
            Self::EmptyText | Self::EmptyContent => "toolu_01",
        };
        let text = if self == Self::EmptyText { "" } else { "Let me look." };
        let mut history = vec![
            json!({"role": "user", "content": "Hello."}),
            json!({"role": "assistant", "content": [{"type": "text", "text": text}, {"type": "tool_use", "id": id, "name": TOOL, "input": {}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "a file"}]}),
        ];
        let last = if self == Self::EmptyContent { json!([]) } else { json!([{"type": "text", "text": "A file."}]) };
        history.push(json!({"role": "assistant", "content": last}));
        history
    }
}

/// One story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// The primary's refusal carries a wait: it is tried neither earlier nor much later.
    Wait(Carrier),
    /// The primary refuses for hours: no user sees it, and it is tried once an hour.
    Bench(HeadFault),
    /// A blocked profile is the last resort when the other one breaks.
    LastResort(HeadFault),
    /// A side request on another model family fails at the primary: the session stays there.
    Side(HeadFault, Place),
    /// The primary refuses every request without saying why: after some of them it is left alone for a while.
    BareLimit,
    /// A side answer inside a tool loop does not end the turn's hold on the spare.
    ToolLoop,
    /// The client gives up after so many seconds without content: its next try is answered by the spare.
    GivesUp(Silence, u64),
    /// The same with two silent profiles and a third: its third try is answered.
    GivesUpTwice(Silence, u64),
    /// The client announces its timeout: the spare answers before it.
    AnnouncesTimeout(Silence, u64),
    /// The client leaves an answer that flows: nothing follows from it.
    Leaves,
    /// A conversation under another session id, with what a spare left in it.
    Fork(Damage),
}

/// Failures of a side request that are no evidence about another model family.
const SIDE_FAULTS: [HeadFault; 9] = [
    HeadFault::S529,
    HeadFault::S500,
    HeadFault::S503,
    HeadFault::S429Bare,
    HeadFault::S404,
    HeadFault::Plain400,
    HeadFault::HeadStall,
    HeadFault::Reset,
    HeadFault::Html200,
];

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(carrier) => write!(f, "wait/{}", carrier.word()),
            Self::Bench(fault) => write!(f, "bench/{}", fault.word()),
            Self::LastResort(fault) => write!(f, "last-resort/{}", fault.word()),
            Self::Side(fault, Place::Beside) => write!(f, "side/{}/beside", fault.word()),
            Self::Side(fault, Place::Between) => write!(f, "side/{}/between", fault.word()),
            Self::Side(fault, Place::Probe) => write!(f, "side/{}/probe", fault.word()),
            Self::BareLimit => write!(f, "bench/429-bare"),
            Self::ToolLoop => write!(f, "side/tool-loop"),
            Self::GivesUp(silence, seconds) => write!(f, "gives-up/{}/{seconds}s", silence.word()),
            Self::GivesUpTwice(silence, seconds) => write!(f, "gives-up/two-{}/{seconds}s", silence.word()),
            Self::AnnouncesTimeout(silence, seconds) => write!(f, "announces-timeout/{}/{seconds}s", silence.word()),
            Self::Leaves => write!(f, "leaves/flowing-answer"),
            Self::Fork(damage) => write!(f, "fork/{}", damage.word()),
        }
    }
}

impl Story {
    pub(crate) fn all() -> Vec<Self> {
        let mut all: Vec<Self> = Carrier::ALL.into_iter().map(Self::Wait).collect();
        all.extend([HeadFault::Credit, HeadFault::S403, HeadFault::S401, HeadFault::S429Quota].map(Self::Bench));
        all.extend([HeadFault::Credit, HeadFault::S403, HeadFault::S401].map(Self::LastResort));
        all.extend(
            SIDE_FAULTS.into_iter().flat_map(|fault| [Place::Beside, Place::Between, Place::Probe].map(|place| Self::Side(fault, place))),
        );
        all.extend([Self::BareLimit, Self::ToolLoop]);
        all.extend(Silence::ALL.into_iter().flat_map(|silence| [8, 20, 45].map(|seconds| Self::GivesUp(silence, seconds))));
        all.extend(Silence::ALL.map(|silence| Self::GivesUpTwice(silence, 8)));
        all.extend(Silence::ALL.into_iter().flat_map(|silence| [15, 40].map(|seconds| Self::AnnouncesTimeout(silence, seconds))));
        all.push(Self::Leaves);
        all.extend(Damage::ALL.map(Self::Fork));
        all
    }

    /// Whether a client of this kind does such a thing.
    pub(super) fn has(self, client: Client) -> bool {
        match self {
            // Claude Code has titles and a session id of its own.
            Self::Side(..) | Self::ToolLoop => client != Client::Program,
            Self::Bench(_) | Self::BareLimit => client == Client::Interactive,
            _ => true,
        }
    }

    /// In words, for the table.
    pub(super) fn must(self) -> &'static str {
        match self {
            Self::Wait(_) => "tried again when the wait ends, neither earlier nor later",
            Self::Bench(_) => "no error for three hours, one trial an hour, failback after it recovers",
            Self::BareLimit => "at most four requests in a minute, failback within 15 minutes of its recovery",
            Self::LastResort(_) => "tried when no other profile is left, at most once a minute, and answers once it can",
            Self::Side(..) => "the session stays at the primary",
            Self::ToolLoop => "the tool loop stays where it is",
            Self::GivesUp(..) => "the second try is answered by the spare; the primary's health stays",
            Self::GivesUpTwice(..) => "the third try is answered by the third profile",
            Self::AnnouncesTimeout(..) => "the spare answers before the client's timeout",
            Self::Leaves => "the primary answers the next try",
            Self::Fork(_) => "each turn is valid at the primary",
        }
    }
}

/// Plays one story for one client.
pub(super) async fn run(story: Story, client: Client, traced: bool) -> anyhow::Result<Run> {
    match story {
        Story::Wait(carrier) => wait(carrier, client, traced).await,
        Story::Bench(fault) => bench(fault, client, traced).await,
        Story::LastResort(fault) => last_resort(fault, client, traced).await,
        Story::Side(fault, place) => side(fault, place, client, traced).await,
        Story::BareLimit => bare_limit(client, traced).await,
        Story::ToolLoop => tool_loop(client, traced).await,
        Story::GivesUp(silence, seconds) => gives_up(silence, seconds, client, traced).await,
        Story::GivesUpTwice(silence, seconds) => gives_up_twice(silence, seconds, client, traced).await,
        Story::AnnouncesTimeout(silence, seconds) => announces_timeout(silence, seconds, client, traced).await,
        Story::Leaves => leaves(client, traced).await,
        Story::Fork(damage) => fork(damage, client, traced).await,
    }
}

/// A world with its profiles, and the failures found in it.
struct Stage {
    world: Arc<World>,
    client: Client,
    failures: Vec<String>,
    visible_error: bool,
    questions: u64,
}

/// One turn, and the outcome of its last request.
struct Reply {
    turn: Turn,
    outcome: Outcome,
    took: Duration,
}

impl Stage {
    fn new(a: Play, b: Play, client: Client, traced: bool) -> anyhow::Result<Self> {
        Self::of(vec![Profile::new("a", a), Profile::new("b", b)], client, traced)
    }

    fn of(profiles: Vec<Profile>, client: Client, traced: bool) -> anyhow::Result<Self> {
        let world = Arc::new(World::in_memory(&Plan { profiles, policy: json!({}), seed: 1, traced, ledger: None })?);
        Ok(Self { world, client, failures: Vec::new(), visible_error: false, questions: 0 })
    }

    fn session(&self, id: &str) -> Session {
        Session::new(&self.world.door, self.client, id)
    }

    /// A side request of the same session.
    fn title(&self, id: &str) -> Session {
        let mut session = self.session(id);
        session.model = SMALL;
        session.title = true;
        session
    }

    fn question(&mut self, shape: Shape) -> Question {
        self.questions += 1;
        Question { number: 100 + self.questions, shape }
    }

    /// Runs one turn to its end and checks its answer.
    async fn send(&mut self, session: &mut Session, shape: Shape) -> Reply {
        let question = self.question(shape);
        let begun = Instant::now();
        let turn = tokio::time::timeout(LONGEST_TURN, session.ask(question, true)).await;
        let reply = Reply::new(turn, begun, &self.world);
        self.check(question, &reply);
        if let Ok(answer) = &reply.turn.answer {
            remember(session, question, &answer.text, &answer.calls);
        }
        reply
    }

    fn check(&mut self, question: Question, reply: &Reply) {
        match &reply.turn.answer {
            Ok(answer) => self.failures.extend(question.is_answered_by(&answer.text, &answer.calls).err()),
            Err(error) => {
                self.visible_error = true;
                self.failures.push(format!("visible error: {error}"));
            }
        }
    }

    /// Requests that a profile has received.
    fn count(&self, name: &str) -> usize {
        self.world.providers.get(name).map(|provider| provider.messages().len()).unwrap_or_default()
    }

    fn require(&mut self, holds: bool, words: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(words());
        }
    }

    fn require_outcome(&mut self, what: &str, reply: &Reply, wanted: Outcome) {
        self.require(reply.outcome == wanted, || format!("{what}: {}, expected {}", reply.outcome.word(), wanted.word()));
    }

    fn end(mut self, outcome: Outcome) -> Run {
        self.failures.extend(self.world.strayed_credentials().into_iter().map(|stray| format!("a credential strayed: {stray}")));
        Run { outcome, failures: self.failures, visible_error: self.visible_error, trace: self.world.trace.text() }
    }
}

impl Reply {
    fn new(turn: Result<Turn, tokio::time::error::Elapsed>, begun: Instant, world: &World) -> Self {
        let turn = turn.unwrap_or_else(|_| Turn { answer: Err("the turn hangs".into()), requests: Vec::new() });
        let outcome = turn.requests.last().map_or(Outcome::Refused(0), |last| observed(last, world));
        Self { turn, outcome, took: begun.elapsed() }
    }
}

/// Puts a turn into the session's history, and the results of its tools before the next question.
fn remember(session: &mut Session, question: Question, text: &str, calls: &[(String, String)]) {
    let id = |at: usize| format!("toolu_{}_{at}", question.number);
    let mut content = session.results.clone();
    content.push(json!({"type": "text", "text": question.prompt()}));
    session.history.push(json!({"role": "user", "content": content}));
    let mut blocks = vec![json!({"type": "text", "text": text})];
    for (at, (name, input)) in calls.iter().enumerate() {
        let input: Value = serde_json::from_str(input).unwrap_or_default();
        blocks.push(json!({"type": "tool_use", "id": id(at), "name": name, "input": input}));
    }
    session.history.push(json!({"role": "assistant", "content": blocks}));
    session.results = (0..calls.len()).map(|at| json!({"type": "tool_result", "tool_use_id": id(at), "content": "It is so."})).collect();
}

/// A provider that does this with questions.
fn play(act: impl Fn(&Received, Question, &str, bool) -> Script + Send + Sync + 'static) -> Play {
    Arc::new(move |request| match Question::asked_by(request) {
        Some((question, said, streaming)) => act(request, question, &said, streaming),
        None => Script::not_found(),
    })
}

fn well(question: Question, said: &str, streaming: bool) -> Script {
    faults::answer(question, said, streaming, Duration::ZERO)
}

async fn wait(carrier: Carrier, client: Client, traced: bool) -> anyhow::Result<Run> {
    let begun = Instant::now();
    let first: OnceLock<Instant> = OnceLock::new();
    let a = play(move |_, question, said, streaming| {
        let first = *first.get_or_init(Instant::now);
        let now = (WALL + begun.elapsed()).as_secs();
        if first.elapsed() < carrier.wait() { carrier.script(now) } else { well(question, said, streaming) }
    });
    let mut stage = Stage::new(a, play_well(), client, traced)?;
    let refused = stage.send(&mut stage.session("one"), Shape::Text).await;
    stage.require_outcome("the first turn", &refused, Outcome::Hop);
    let sent = stage.count("a");
    tokio::time::sleep_until(begun + carrier.wait() - Duration::from_secs(6)).await;
    let early = stage.send(&mut stage.session("two"), Shape::Text).await;
    stage.require_outcome("before the wait is over", &early, Outcome::Hop);
    let again = stage.count("a") - sent;
    stage.require(again == 0, || format!("{again} requests before the wait is over"));
    tokio::time::sleep_until(begun + carrier.wait() + carrier.late()).await;
    let after = stage.send(&mut stage.session("three"), Shape::Text).await;
    stage.require_outcome("after the wait is over", &after, Outcome::Passed);
    Ok(stage.end(refused.outcome))
}

async fn bench(fault: HeadFault, client: Client, traced: bool) -> anyhow::Result<Run> {
    const SICK: Duration = Duration::from_secs(3 * 3600);
    const EVERY: Duration = Duration::from_secs(360);
    let begun = Instant::now();
    let a = play(move |_, question, said, streaming| if begun.elapsed() < SICK { fault.script() } else { well(question, said, streaming) });
    let mut stage = Stage::new(a, play_well(), client, traced)?;
    let mut last = begun;
    let mut home = None;
    let mut first = Outcome::Refused(0);
    for number in 0.. {
        let seen = stage.count("a");
        let reply = stage.send(&mut stage.session(&format!("person-{number}")), Shape::Text).await;
        if number == 0 {
            first = reply.outcome;
        }
        stage.require(reply.turn.requests.len() == 1, || format!("request {number}: the client had to retry"));
        if reply.outcome == Outcome::Passed {
            home = Some(Instant::now());
            break;
        }
        if stage.count("a") > seen {
            last = Instant::now();
        }
        let quiet = last.elapsed();
        stage.require(quiet <= TRIAL_EVERY + EVERY, || format!("not tried for {quiet:.0?}"));
        if begun.elapsed() > SICK + 2 * TRIAL_EVERY {
            break;
        }
        tokio::time::sleep(EVERY).await;
    }
    let back = home.map(|home| home.saturating_duration_since(begun + SICK));
    stage.require(back.is_some_and(|back| back <= TRIAL_EVERY + EVERY), || format!("home again {back:?} after it recovered"));
    // Every trial costs its request a failover.
    let trials = stage.count("a");
    stage.require(trials <= 20, || format!("{trials} requests to a profile that is known to refuse"));
    Ok(stage.end(first))
}

async fn bare_limit(client: Client, traced: bool) -> anyhow::Result<Run> {
    const SICK: Duration = Duration::from_secs(60);
    const MOST_IN_A_MINUTE: usize = 4;
    const HOME_AGAIN: Duration = Duration::from_secs(15 * 60);
    let begun = Instant::now();
    let a = play(
        move |_, question, said, streaming| {
            if begun.elapsed() < SICK { HeadFault::S429Bare.script() } else { well(question, said, streaming) }
        },
    );
    let mut stage = Stage::new(a, play_well(), client, traced)?;
    let mut last = Outcome::Refused(0);
    for number in 0..30 {
        let reply = stage.send(&mut stage.session(&format!("person-{number}")), Shape::Text).await;
        stage.require_outcome("a turn under the limit", &reply, Outcome::Hop);
        last = reply.outcome;
        tokio::time::sleep(Duration::from_millis(1900)).await;
    }
    let sent = stage.count("a");
    stage.require(sent <= MOST_IN_A_MINUTE, || format!("{sent} requests in a minute"));
    tokio::time::sleep_until(begun + SICK + HOME_AGAIN).await;
    let home = stage.send(&mut stage.session("later"), Shape::Text).await;
    stage.require_outcome("after the limit", &home, Outcome::Passed);
    Ok(stage.end(last))
}

async fn last_resort(fault: HeadFault, client: Client, traced: bool) -> anyhow::Result<Run> {
    const MINUTE: Duration = Duration::from_secs(60);
    let (a_sick, b_sick) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let sick = |flag: &Arc<AtomicBool>, fault: HeadFault| {
        let flag = flag.clone();
        play(
            move |_, question, said, streaming| if flag.load(Ordering::Relaxed) { fault.script() } else { well(question, said, streaming) },
        )
    };
    let mut stage = Stage::new(sick(&a_sick, fault), sick(&b_sick, HeadFault::S503), client, traced)?;
    let first = stage.send(&mut stage.session("one"), Shape::Text).await;
    stage.require_outcome("the first turn", &first, Outcome::Hop);
    tokio::time::sleep(MINUTE).await;
    // No profile can answer: the blocked one is tried, but not with every request.
    b_sick.store(true, Ordering::Relaxed);
    let seen = stage.count("a");
    let begun = Instant::now();
    for number in 0..20 {
        let question = stage.question(Shape::Text);
        let mut session = stage.session(&format!("tries-{number}"));
        let _ = session.send(question, &[], true).await;
        tokio::time::sleep(Duration::from_secs(9)).await;
    }
    let looks = stage.count("a") - seen;
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60).unwrap_or_default();
    stage.require((1..=minutes + 2).contains(&looks), || format!("{looks} trials in {minutes} minutes"));
    // Topped up, without a `reset`.
    a_sick.store(false, Ordering::Relaxed);
    tokio::time::sleep(MINUTE).await;
    let topped_up = stage.send(&mut stage.session("two"), Shape::Text).await;
    stage.require_outcome("after it was topped up", &topped_up, Outcome::Passed);
    Ok(stage.end(topped_up.outcome))
}

/// A primary that fails requests on the small model and no others.
fn fails_small(fault: HeadFault) -> Play {
    play(
        move |request, question, said, streaming| {
            if request.json()["model"] == SMALL { fault.script() } else { well(question, said, streaming) }
        },
    )
}

async fn side(fault: HeadFault, place: Place, client: Client, traced: bool) -> anyhow::Result<Run> {
    let mut stage = Stage::new(fails_small(fault), play_well(), client, traced)?;
    let mut main = stage.session("one");
    let beside = place == Place::Beside;
    if !beside {
        let turn = stage.send(&mut main, Shape::Text).await;
        stage.require_outcome("the turn before", &turn, Outcome::Passed);
        tokio::time::sleep(MOMENT).await;
    }
    let question = stage.question(Shape::Text);
    let (mut title, world, begun) = (stage.title("one"), stage.world.clone(), Instant::now());
    title.title = place != Place::Probe;
    let streaming = title.title;
    let side = tokio::spawn(async move {
        let turn = tokio::time::timeout(LONGEST_TURN, title.ask(question, streaming)).await;
        Reply::new(turn, begun, &world)
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut side = Some(side);
    if !beside {
        stage.finish(question, side.take()).await?;
    }
    let turn = stage.send(&mut main, Shape::Text).await;
    stage.require_outcome("the turn beside or after it", &turn, Outcome::Passed);
    stage.finish(question, side.take()).await?;
    tokio::time::sleep(MOMENT).await;
    let turn = stage.send(&mut main, Shape::Text).await;
    stage.require_outcome("the next turn", &turn, Outcome::Passed);
    Ok(stage.end(turn.outcome))
}

impl Stage {
    /// Waits for a side request and checks its answer.
    async fn finish(&mut self, question: Question, side: Option<tokio::task::JoinHandle<Reply>>) -> anyhow::Result<()> {
        let Some(side) = side else { return Ok(()) };
        let reply = side.await?;
        self.check(question, &reply);
        Ok(())
    }
}

async fn tool_loop(client: Client, traced: bool) -> anyhow::Result<Run> {
    let down = Arc::new(AtomicBool::new(false));
    let flag = down.clone();
    let a = play(
        move |_, question, said, streaming| {
            if flag.load(Ordering::Relaxed) { HeadFault::S529.script() } else { well(question, said, streaming) }
        },
    );
    let mut stage = Stage::new(a, play_well(), client, traced)?;
    let mut main = stage.session("one");
    let home = stage.send(&mut main, Shape::Text).await;
    stage.require_outcome("the turn before", &home, Outcome::Passed);
    down.store(true, Ordering::Relaxed);
    tokio::time::sleep(MOMENT).await;
    let call = stage.send(&mut main, Shape::TextTool).await;
    stage.require_outcome("the tool call", &call, Outcome::Hop);
    down.store(false, Ordering::Relaxed);
    // Long enough that only the tool loop holds the session, short enough that its cache at home is alive.
    tokio::time::sleep(Duration::from_secs(150)).await;
    stage.send(&mut stage.title("one"), Shape::Text).await;
    tokio::time::sleep(MOMENT).await;
    let result = stage.send(&mut main, Shape::Text).await;
    stage.require_outcome("the tool's result", &result, Outcome::Hop);
    Ok(stage.end(result.outcome))
}

fn silent(silence: Silence) -> Play {
    play(move |_, question, said, streaming| if streaming { silence.script(question, said) } else { HeadFault::HeadStall.script() })
}

async fn gives_up(silence: Silence, seconds: u64, client: Client, traced: bool) -> anyhow::Result<Run> {
    let mut stage = Stage::new(silent(silence), play_well(), client, traced)?;
    let mut session = stage.session("one");
    session.patience = Some(Duration::from_secs(seconds));
    let reply = stage.send(&mut session, Shape::Text).await;
    let tries = reply.turn.requests.len();
    stage.require(tries <= 2, || format!("answered at the {tries}th try"));
    stage.require(stage.count("a") <= 1, || "the silent profile was tried again".into());
    stage.require(reply.outcome == Outcome::Hop, || format!("the answer: {}, expected hop", reply.outcome.word()));
    let status = stage.world.gateway.status();
    let state = status.profiles.first().map(|profile| profile.state.clone()).unwrap_or_default();
    stage.require(matches!(state.as_str(), "ready" | "serving"), || format!("the silent profile is {state} although nothing is proven"));
    Ok(stage.end(reply.outcome))
}

async fn gives_up_twice(silence: Silence, seconds: u64, client: Client, traced: bool) -> anyhow::Result<Run> {
    let profiles = vec![Profile::new("a", silent(silence)), Profile::new("b", silent(silence)), Profile::new("c", play_well())];
    let mut stage = Stage::of(profiles, client, traced)?;
    let mut session = stage.session("one");
    session.patience = Some(Duration::from_secs(seconds));
    let reply = stage.send(&mut session, Shape::Text).await;
    let tries = reply.turn.requests.len();
    stage.require(tries <= 3, || format!("answered at the {tries}th try"));
    stage.require_outcome("the answer", &reply, Outcome::Hop);
    Ok(stage.end(reply.outcome))
}

async fn announces_timeout(silence: Silence, seconds: u64, client: Client, traced: bool) -> anyhow::Result<Run> {
    let mut stage = Stage::new(silent(silence), play_well(), client, traced)?;
    let mut session = stage.session("one");
    session.patience = Some(Duration::from_secs(seconds));
    session.announced_timeout = Some(seconds);
    let reply = stage.send(&mut session, Shape::Text).await;
    let tries = reply.turn.requests.len();
    stage.require(tries == 1, || format!("answered at the {tries}th try"));
    stage.require(reply.took < Duration::from_secs(seconds), || format!("answered after {:.1?}", reply.took));
    stage.require_outcome("the answer", &reply, Outcome::Hop);
    Ok(stage.end(reply.outcome))
}

async fn leaves(client: Client, traced: bool) -> anyhow::Result<Run> {
    let a = play(|_, question, said, streaming| faults::answer(question, said, streaming, Duration::from_secs(2)));
    let mut stage = Stage::new(a, play_well(), client, traced)?;
    let question = stage.question(Shape::Text);
    // A second text event has come by then, and the client has its content.
    let mut session = stage.session("one");
    let left = tokio::time::timeout(Duration::from_secs(13), session.ask(question, true)).await;
    stage.require(left.is_err(), || "the answer was over before the client left".into());
    drop(session);
    tokio::time::sleep(MOMENT).await;
    let begun = Instant::now();
    let turn = tokio::time::timeout(LONGEST_TURN, stage.session("one").ask(question, true)).await;
    let reply = Reply::new(turn, begun, &stage.world);
    stage.check(question, &reply);
    stage.require_outcome("the same again", &reply, Outcome::Passed);
    Ok(stage.end(reply.outcome))
}

/// Checks the form of a request as strictly as Anthropic.
fn minds_form(request: &Received) -> Result<(), String> {
    let body = request.json();
    let plain = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    for (at, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        if message["content"].as_array().is_some_and(Vec::is_empty) {
            return Err(format!("messages.{at}: all messages must have non-empty content"));
        }
        for (place, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            let id = if block["type"] == "tool_use" { &block["id"] } else { &block["tool_use_id"] };
            if id.as_str().is_some_and(|id| !plain(id)) {
                return Err(format!("messages.{at}.content.{place}.id: String should match pattern '^[a-zA-Z0-9_-]+$'"));
            }
            if block["type"] == "text" && block["text"] == "" {
                return Err("messages: text content blocks must be non-empty".into());
            }
        }
    }
    Ok(())
}

async fn fork(damage: Damage, client: Client, traced: bool) -> anyhow::Result<Run> {
    let strict = || {
        play(|request, question, said, streaming| match minds_form(request) {
            Ok(()) => well(question, said, streaming),
            Err(words) => Script::error(400, "invalid_request_error", &words),
        })
    };
    let mut stage = Stage::new(strict(), strict(), client, traced)?;
    let mut outcome = Outcome::Refused(0);
    for agent in [None, Some("agent-7".to_owned())] {
        let mut session = stage.session(if agent.is_none() { "a-fork" } else { "another" });
        session.agent = agent;
        session.history = damage.history();
        for turn in ["the first turn", "the second turn"] {
            let reply = stage.send(&mut session, Shape::Text).await;
            stage.require_outcome(turn, &reply, Outcome::Passed);
            let tries = reply.turn.requests.len();
            stage.require(tries == 1, || format!("{turn}: the client needed {tries} requests"));
            outcome = reply.outcome;
            tokio::time::sleep(MOMENT).await;
        }
    }
    Ok(stage.end(outcome))
}
