//! Runs one cell for every client and compares. An error that a user would see while a healthy profile is left is never forgiven.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hotspare_testkit::{Dial, Script};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cell::{Cell, Fleet};
use super::expect::{self, Outcome};
use super::{alone, story};
use crate::client::{Client, End, Got, Session, Turn, is_message};
use crate::faults::{self, ERROR_TYPES, HeadFault, Position, StreamFault};
use crate::question::{Question, Shape};
use crate::reading::without_pings;
use crate::refusals::{Blame, Refusal};
use crate::world::{Plan, Play, Profile, Told, World};

/// Longest that a turn may take on the paused clock: no client waits so long.
pub(super) const LONGEST_TURN: Duration = Duration::from_secs(24 * 3600);

/// Interval at which a profile that is known to refuse is tried as the last resort.
const LAST_RESORT_INTERVAL: Duration = Duration::from_secs(60);

/// What a cell came to.
pub(crate) struct Verdict {
    pub cell: Cell,
    /// Of an outage: how long the turn took without a gateway and with one; `None` where the client alone sees an error.
    pub times: BTreeMap<&'static str, Option<(Duration, Duration)>>,
    /// By client, and for every variant of the fault.
    pub outcomes: BTreeMap<&'static str, Vec<Outcome>>,
    pub failures: Vec<String>,
    pub visible_errors: usize,
    pub runs: usize,
    pub trace: String,
}

impl Verdict {
    fn new(cell: Cell) -> Self {
        Self {
            cell,
            times: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            failures: Vec::new(),
            visible_errors: 0,
            runs: 0,
            trace: String::new(),
        }
    }

    fn add(&mut self, client: Client, kind: &str, run: Run) {
        self.runs += 1;
        if !run.trace.is_empty() {
            let _ = writeln!(self.trace, "── {} {kind}\n{}", client.word(), run.trace);
        }
        self.visible_errors += usize::from(run.visible_error);
        self.failures.extend(run.failures.into_iter().map(|failure| format!("{}: {failure}", client.word())));
        self.outcomes.entry(client.word()).or_default().push(run.outcome);
    }
}

/// How many forms of its fault a cell has.
fn variants(cell: Cell) -> usize {
    if matches!(cell, Cell::Stream { fault: StreamFault::ErrorEvent, .. }) { ERROR_TYPES.len() } else { 1 }
}

/// Runs one cell in memory, on a paused clock.
pub(crate) fn judge(cell: Cell, traced: bool) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new(cell);
    for client in Client::ALL {
        for (variant, kind) in ERROR_TYPES.iter().enumerate().take(variants(cell)) {
            let context = || format!("cell {cell}");
            match cell {
                Cell::Story(story) if !story.has(client) => {}
                Cell::Story(story) => verdict.add(client, "", paused()?.block_on(story::run(story, client, traced)).with_context(context)?),
                Cell::Alone(outage) => {
                    let direct = paused()?.block_on(alone::direct(outage, client));
                    let (run, through) = paused()?.block_on(alone::through(outage, client, direct, traced)).with_context(context)?;
                    verdict.times.insert(client.word(), direct.map(|direct| (direct, through)));
                    verdict.add(client, "", run);
                }
                _ => verdict.add(client, kind, paused()?.block_on(in_memory(cell, client, variant, traced)).with_context(context)?),
            }
        }
    }
    Ok(verdict)
}

fn paused() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()
}

/// Runs one cell on real sockets; no turn may take longer than `longest`.
pub(crate) async fn judge_on_sockets(cell: Cell, longest: Duration) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::new(cell);
    for client in Client::ALL {
        for (variant, kind) in ERROR_TYPES.iter().enumerate().take(variants(cell)) {
            let sent = Sent::default();
            let policy = crate::sockets::short_clocks();
            let plan = Plan { profiles: profiles(cell, variant, &sent), policy, seed: 1, traced: false, ledger: None };
            let world = Arc::new(World::on_sockets(&plan).await.with_context(|| format!("cell {cell}"))?);
            verdict.add(client, kind, turn(&world, cell, client, &sent, longest).await);
        }
    }
    Ok(verdict)
}

/// The primary's first body.
type Sent = Arc<Mutex<Option<Vec<u8>>>>;

pub(super) struct Run {
    pub outcome: Outcome,
    pub failures: Vec<String>,
    pub visible_error: bool,
    pub trace: String,
}

async fn in_memory(cell: Cell, client: Client, variant: usize, traced: bool) -> anyhow::Result<Run> {
    let sent = Sent::default();
    let world =
        Arc::new(World::in_memory(&Plan { profiles: profiles(cell, variant, &sent), policy: json!({}), seed: 1, traced, ledger: None })?);
    Ok(turn(&world, cell, client, &sent, LONGEST_TURN).await)
}

async fn turn(world: &Arc<World>, cell: Cell, client: Client, sent: &Sent, longest: Duration) -> Run {
    let shape = if let Cell::Stream { shape, .. } = cell { shape } else { Shape::Text };
    let question = Question { number: 17, shape };
    let streaming = !matches!(
        cell,
        Cell::Head { streaming: false, .. } | Cell::Refusal { streaming: false, .. } | Cell::Label { streaming: false, .. }
    );
    let mut session = Session::new(&world.door, client, client.word());
    if let Cell::Head { fault: HeadFault::ProviderBound400, .. } = cell {
        session.history = earlier_thinking();
    }
    let turn = tokio::time::timeout(longest, session.ask(question, streaming)).await;
    let Ok(turn) = turn else {
        return Run { outcome: Outcome::Cut, failures: vec!["the turn hangs".into()], visible_error: true, trace: world.trace.text() };
    };
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    compare(cell, client, question, world, &turn, sent.as_deref())
}

/// An earlier turn whose thinking another provider signed.
fn earlier_thinking() -> Vec<Value> {
    let thinking = json!({"type": "thinking", "thinking": "An old thought.", "signature": "Zm9yZWlnbg=="});
    vec![
        json!({"role": "user", "content": "Hello."}),
        json!({"role": "assistant", "content": [thinking, {"type": "text", "text": "Hello."}]}),
    ]
}

fn profiles(cell: Cell, variant: usize, sent: &Sent) -> Vec<Profile> {
    let faulty = |name, primary| Profile { dial: dial(cell), ..Profile::new(name, faulty(cell, variant, primary, sent.clone())) };
    let healthy = |name, delay| Profile::new(name, healthy(delay));
    let overloaded = || Profile::new("a", Arc::new(|_| HeadFault::S529.script()));
    match cell.fleet().unwrap_or(Fleet::NoneHealthy) {
        Fleet::Backup => vec![faulty("a", true), healthy("b", Duration::ZERO)],
        Fleet::SlowBackup => vec![faulty("a", true), healthy("b", Duration::from_secs(3))],
        Fleet::TwoBackups => vec![faulty("a", true), faulty("b", false), healthy("c", Duration::ZERO)],
        Fleet::NoneHealthy => vec![faulty("a", true), faulty("b", false)],
        Fleet::FirstSpare => vec![overloaded(), faulty("b", false), healthy("c", Duration::ZERO)],
        Fleet::OnlySpare => vec![overloaded(), faulty("b", false)],
    }
}

fn dial(cell: Cell) -> Dial {
    if let Cell::Head { fault, .. } = cell { fault.dial() } else { Dial::Works }
}

fn healthy(delay: Duration) -> Play {
    Arc::new(move |request| {
        let Some((question, said, streaming)) = Question::asked_by(request) else { return Script::not_found() };
        let answer = faults::answer(question, &said, streaming, Duration::ZERO);
        if delay.is_zero() { answer } else { answer.after(delay) }
    })
}

fn faulty(cell: Cell, variant: usize, primary: bool, sent: Sent) -> Play {
    Arc::new(move |request| {
        let Some((question, said, streaming)) = Question::asked_by(request) else { return Script::not_found() };
        match cell {
            Cell::Head { fault: HeadFault::ProviderBound400, fleet, .. } => match fleet {
                // The primary is down, so that the spare's refusal is what counts.
                Fleet::TwoBackups if primary => HeadFault::S503.script(),
                Fleet::NoneHealthy => HeadFault::ProviderBound400.script(),
                _ if request.json()["messages"].to_string().contains(r#""type":"thinking""#) => HeadFault::ProviderBound400.script(),
                _ => faults::answer(question, &said, streaming, Duration::ZERO),
            },
            Cell::Head { fault, .. } => fault.script(),
            Cell::Refusal { refusal, .. } => refusal.script(if primary { "a" } else { "b" }),
            Cell::Label { label, streaming: asked, .. } if streaming == asked => {
                let (script, body) = label.script(question, &said);
                if primary {
                    sent.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(body);
                }
                script
            }
            Cell::Label { .. } => faults::answer(question, &said, streaming, Duration::ZERO),
            Cell::Story(_) | Cell::Alone(_) => Script::not_found(),
            // The fault is the stream's; asked without one, this provider is plainly down.
            Cell::Stream { .. } if !streaming => HeadFault::S500.script(),
            Cell::Stream { fault, position, .. } => {
                let Some(events) = question.rest(&said) else { return faults::answer(question, &said, streaming, Duration::ZERO) };
                let broken = faults::broken(&events, fault, position, variant, Duration::ZERO);
                if primary {
                    sent.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(broken.sent);
                }
                broken.script
            }
        }
    })
}

fn compare(cell: Cell, client: Client, question: Question, world: &World, turn: &Turn, sent: Option<&[u8]>) -> Run {
    let mut failures = Vec::new();
    let outcome = turn.requests.first().map_or(Outcome::Refused(0), |first| observed(first, world));
    let expected = expect::outcomes(cell, client);
    if !expected.contains(&outcome) {
        failures.push(format!("first request: {}, expected {}", outcome.word(), words(&expected)));
    }
    let visible_error = judge_answer(cell, client, question, turn, &mut failures);
    if let (Outcome::Passed, Some(sent), Some(first)) = (outcome, sent, turn.requests.first()) {
        let had = without_pings(&first.reading.raw);
        let same = if kills(cell) { sent.starts_with(&had) } else { sent == had };
        if !same {
            failures.push("the client's bytes are not the primary's".into());
        }
    }
    if let Cell::Refusal { refusal, fleet, .. } = cell {
        judge_refusal(refusal, fleet, world, turn, &mut failures);
    }
    for got in &turn.requests {
        judge_request(cell, got, &mut failures);
    }
    failures.extend(world.strayed_credentials().into_iter().map(|stray| format!("a credential strayed: {stray}")));
    Run { outcome, failures, visible_error, trace: world.trace.text() }
}

/// Relayed words are the primary's, byte for byte; and no other profile is asked more often than it can help.
fn judge_refusal(refusal: &Refusal, fleet: Fleet, world: &World, turn: &Turn, failures: &mut Vec<String>) {
    let asked = world.providers.get("b").map(|provider| provider.messages().len()).unwrap_or_default();
    let times: Vec<Instant> = world.told().values().flat_map(|told| told.times.clone()).collect();
    let took = times.iter().max().zip(times.iter().min()).map_or(Duration::ZERO, |(last, first)| *last - *first);
    let relayed = expect::is_relayed(refusal, fleet);
    if relayed && turn.requests.iter().any(|got| got.status == refusal.status && got.body != refusal.body_of("a")) {
        failures.push("the client's bytes are not the primary's".into());
    }
    let most = match (refusal.blame, fleet) {
        (Blame::Request, _) if relayed => 0,
        (Blame::Unknown, _) if relayed => 1,
        // What a page of the way stands for passes by itself.
        (Blame::Profile(503), Fleet::OnlySpare) => return,
        (_, Fleet::OnlySpare) => 2 + usize::try_from(took.as_secs() / LAST_RESORT_INTERVAL.as_secs()).unwrap_or_default(),
        _ => return,
    };
    if asked > most {
        failures.push(format!("{asked} requests to `b` in {took:.0?}, at most {most} can help"));
    }
}

fn kills(cell: Cell) -> bool {
    matches!(cell, Cell::Stream { fault, .. } if fault.kills())
}

fn words(outcomes: &[Outcome]) -> String {
    outcomes.iter().map(|outcome| outcome.word()).collect::<Vec<_>>().join(" or ")
}

/// What a request came to, as seen from both sides.
pub(super) fn observed(got: &Got, world: &World) -> Outcome {
    if got.status != 200 {
        return Outcome::Refused(got.status);
    }
    let resumed = got.exchange().and_then(|id| world.told().get(&id).map(Told::resumes)).unwrap_or(false);
    let whole = got.reading.is_whole() || (!got.streaming && got.end == End::Proper && is_message(&got.body));
    if is_message_for_stream(got) {
        Outcome::AsIs
    } else if got.reading.stop_reason.as_deref() == Some("max_tokens") {
        Outcome::HandBack
    } else if !whole {
        Outcome::Cut
    } else if resumed {
        Outcome::Resume
    } else if got.profile() == "a" {
        Outcome::Passed
    } else {
        Outcome::Hop
    }
}

/// Whether a whole message came for a streaming request: Claude Code then sends the request without streaming.
fn is_message_for_stream(got: &Got) -> bool {
    got.streaming && is_message(&got.reading.raw)
}

/// Whether the turn ended as it must. True: the user saw an error that a healthy profile could have spared them.
fn judge_answer(cell: Cell, client: Client, question: Question, turn: &Turn, failures: &mut Vec<String>) -> bool {
    let request_bound = expect::is_request_bound(cell);
    // A doubled event of the provider's is the provider's answer.
    let doubled = matches!(cell, Cell::Stream { fault: StreamFault::Duplicate, .. });
    match &turn.answer {
        Ok(answer) => {
            if let Err(wrong) = question.is_answered_by(&answer.text, &answer.calls)
                && !doubled
            {
                failures.push(wrong);
            }
            let text = question.text();
            if must_print(cell, client) && answer.printed != text {
                failures.push(format!("`-p` prints only {:?}", answer.printed));
            }
            false
        }
        Err(error) if cell.has_healthy() && !request_bound => {
            failures.push(format!("visible error: {error}"));
            true
        }
        Err(_) => false,
    }
}

/// Whether `claude -p` must print the whole text: it prints the last block alone, which a resume continues.
fn must_print(cell: Cell, client: Client) -> bool {
    let Cell::Stream { fault, position, shape, fleet } = cell else { return false };
    client == Client::Print
        && fault.kills()
        && shape != Shape::TextTool
        && position != Position::BeforeMessageDelta
        && matches!(fleet, Fleet::Backup | Fleet::SlowBackup)
}

/// What holds for every single answer.
fn judge_request(cell: Cell, got: &Got, failures: &mut Vec<String>) {
    let attempts = got.headers.get("x-hotspare-attempts").and_then(|count| count.to_str().ok()?.parse::<u32>().ok());
    if attempts.is_some_and(|attempts| attempts > 4) {
        failures.push(format!("{attempts:?} upstream requests for one of the client's"));
    }
    let is_doubled = matches!(cell, Cell::Stream { fault: StreamFault::Duplicate, .. });
    if !is_doubled {
        failures.extend(got.reading.violations.iter().map(|violation| format!("stream grammar: {violation}")));
    }
    if got.reading.error.is_some() {
        failures.push("an `error` event reached the client".into());
    }
    if got.streaming && got.status == 200 && got.end == End::Proper && !got.reading.is_whole() && !is_message_for_stream(got) {
        failures.push("an incomplete answer ended properly".into());
    }
    let bare = matches!(cell, Cell::Head { fault: HeadFault::S429Bare, .. });
    match (got.status, got.retry_after()) {
        (429 | 500.., None) if !bare => failures.push(format!("{} without retry-after", got.status)),
        (429 | 500.., Some(wait)) if !(1..=59).contains(&wait) => failures.push(format!("{} with retry-after {wait}", got.status)),
        (401 | 403, _) => failures.push(format!("{} reached the client", got.status)),
        _ => {}
    }
}
