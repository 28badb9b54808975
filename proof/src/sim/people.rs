//! People at work: they ask, read, think, and now and then do not wait for the end.

use std::sync::Arc;
use std::time::Duration;

use hotspare_gateway::{Event, Status};
use hotspare_testkit::Received;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::Scene;
use super::diary::{Diary, Page};
use super::weather::{POISONED, SIDE, SMALL, person_of};
use crate::client::{Client, Session};
use crate::question::{Question, Shape};
use crate::world::World;

/// An upstream request must be over so long after its client went (invariant I6).
const CANCEL_TIME: Duration = Duration::from_millis(100);

/// One person's working day.
pub(crate) async fn live(world: Arc<World>, scene: Arc<Scene>, diary: Arc<Diary>, seed: u64, number: usize) {
    let mut dice = SmallRng::seed_from_u64(seed ^ (0x9e0_9133 + number as u64));
    let client = Client::ALL[dice.random_range(0..Client::ALL.len())];
    let agent = dice.random_bool(0.2).then(|| "agent-1".to_owned());
    let model = if dice.random_bool(0.2) && !scene.small_fails { "claude-haiku-4-5" } else { "claude-opus-5-5" };
    // One of several sets a time limit of its own, after which it sends the same again.
    let limit = dice.random_bool(0.15).then(|| Duration::from_secs(dice.random_range(15..60)));
    // Titles and probes are Claude Code's, and belong to its main conversation.
    let side = client != Client::Program && agent.is_none() && (dice.random_bool(0.6) || scene.small_fails);
    // One of several asks for what no provider can take.
    let poisoned = number == 3;
    let begin = || {
        let mut session = Session::new(&world.door, client, format!("person-{number}"));
        session.agent.clone_from(&agent);
        session.model = model;
        session.patience = limit;
        session
    };
    let mut beside = tokio::task::JoinSet::new();
    let (turns, longest) = if scene.long { (dice.random_range(10..=16_u64), 900_000) } else { (dice.random_range(2..=7_u64), 120_000) };
    let mut session = begin();
    for turn in 0..turns {
        tokio::time::sleep(Duration::from_millis(dice.random_range(10..longest))).await;
        if side && dice.random_bool(0.5) {
            let probe = dice.random_bool(0.2);
            let question = Question { number: SIDE + number as u64 * 100 + turn, shape: Shape::Text };
            beside.spawn(ask_beside(world.clone(), diary.clone(), (client, format!("person-{number}")), question, probe));
        }
        let shape = Shape::ALL[dice.random_range(0..Shape::ALL.len())];
        let base = if poisoned { POISONED } else { 1000 };
        let question = Question { number: base + number as u64 * 100 + turn, shape };
        let streaming = dice.random_bool(0.9);
        let patience = dice.random_bool(0.2).then(|| Duration::from_millis(dice.random_range(1..12_000)));
        let ended = match patience {
            None => Some(session.ask(question, streaming).await),
            Some(patience) => tokio::time::timeout(patience, session.ask(question, streaming)).await.ok(),
        };
        let left = ended.is_none();
        diary.write(Page { person: format!("{}/{}", session.id, agent.as_deref().unwrap_or_default()), client, question, turn: ended });
        if left {
            session = begin();
            leave(&world, &scene, &diary, &format!("person-{number}/{}", agent.as_deref().unwrap_or_default())).await;
        }
    }
    while beside.join_next().await.is_some() {}
}

/// A title request, or a probe of the account's limits, of the same session.
async fn ask_beside(world: Arc<World>, diary: Arc<Diary>, (client, id): (Client, String), question: Question, probe: bool) {
    let mut session = Session::new(&world.door, client, &id);
    session.model = SMALL;
    session.title = !probe;
    let turn = session.ask(question, !probe).await;
    diary.write(Page { person: format!("{id}/"), client, question, turn: Some(turn) });
}

/// After a client has gone: its upstream request must be over at once, and nobody is the worse for it.
async fn leave(world: &World, scene: &Scene, diary: &Diary, person: &str) {
    world.trace.line(person, "leaves");
    let before = (standings(&world.gateway.status()), failures(world));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let after = (standings(&world.gateway.status()), failures(world));
    if before.1 == after.1 && before.0 != after.0 {
        diary.complain(format!("I7: {person} left, and profiles changed from {:?} to {:?}", before.0, after.0));
    }
    tokio::time::sleep(CANCEL_TIME).await;
    for name in &scene.names {
        let playing = world.providers.get(name).map(hotspare_testkit::Upstream::playing).unwrap_or_default();
        // What runs beside the turn goes on.
        let of_turn = |request: &Received| Question::asked_by(request).is_some_and(|(question, ..)| !is_side(question));
        let orphans = playing.iter().filter(|request| person_of(request) == person && of_turn(request)).count();
        if orphans > 0 && !world.network.is_severed(&crate::world::host(name)) {
            diary.complain(format!("I6: {person} left {CANCEL_TIME:?} ago, and {name} still answers"));
        }
    }
}

/// Whether it is a title or a probe.
pub(super) fn is_side(question: Question) -> bool {
    (SIDE..POISONED).contains(&question.number)
}

/// Every profile's state without its times.
fn standings(status: &Status) -> Vec<(String, String)> {
    status.profiles.iter().map(|profile| (profile.name.clone(), profile.state.replace("serving", "ready"))).collect()
}

/// How many failures and ends have been told.
fn failures(world: &World) -> usize {
    let told = world.told();
    let events = told.values().flat_map(|told| &told.events);
    events.filter(|event| matches!(event, Event::Failed { .. } | Event::Committed { .. } | Event::Asked { .. })).count()
}
