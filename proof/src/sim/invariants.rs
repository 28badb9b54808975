//! Judges a simulated run by what both sides saw: the invariants I1 to I12 of the design, and I16. Never looks into the proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use hotspare_core::{Ending, Outcome};
use hotspare_gateway::Event;
use tokio::time::Instant;

use super::Scene;
use super::diary::{Diary, Page};
use super::people::is_side;
use super::weather::{Mood, POISONED, Served, Sky};
use crate::client::{Client, End, Got, is_message};
use crate::faults::HeadFault;
use crate::world::{Told, World};

/// Most upstream requests for one of a client's.
const MOST_ATTEMPTS: usize = 4;

/// Most upstream requests for one recognised request within [`KEY_TIME`].
const MOST_PER_KEY: usize = 12;

/// Interval at which every blocked profile is tried.
const HOURLY: Duration = Duration::from_secs(3600);

/// Least time between two trials of a blocked profile as the last resort.
const LAST_RESORT_INTERVAL: Duration = Duration::from_secs(60);

/// How long a request is recognised.
const KEY_TIME: Duration = Duration::from_secs(120);

/// Everything that went against an invariant.
pub(crate) fn check(world: &World, scene: &Scene, sky: &Sky, diary: &Diary) -> Vec<String> {
    let told = world.told();
    let served = sky.served();
    let pages = diary.pages();
    let mut wrong = diary.complaints();
    for (id, told) in &told {
        exchange(*id, told, scene, &mut wrong);
    }
    for page in &pages {
        turn(page, scene, diary, &mut wrong);
        for got in page.turn.iter().flat_map(|turn| &turn.requests) {
            answer(page, got, scene, &mut wrong);
            if let Some(told) = got.exchange().and_then(|id| told.get(&id)) {
                bytes(page, got, told, &served, &mut wrong);
            }
        }
    }
    per_key(&pages, &told, &mut wrong);
    wrong.extend(world.strayed_credentials().into_iter().map(|stray| format!("I4: {stray}")));
    if !scene.sleeps {
        hard_blocks(scene, &told, &served, &mut wrong);
    }
    if scene.calm {
        calm(&pages, scene, &mut wrong);
    }
    wrong
}

/// I1 and I3: after a commit at most one more request, a resume; never more than four in all. I7: a cancel is nobody's failure.
fn exchange(id: u64, told: &Told, scene: &Scene, wrong: &mut Vec<String>) {
    let id = id & 0xffff;
    let asked = told.attempts().len();
    // An answer that is kept open tries again until somebody recovers; only the request's own limit holds for it.
    if asked > if scene.holds { MOST_PER_KEY } else { MOST_ATTEMPTS } {
        wrong.push(format!("I3: exchange #{id} made {asked} upstream requests"));
    }
    let committed = told.events.iter().position(|event| matches!(event, Event::Committed { .. }));
    let after: Vec<String> = committed
        .map(|at| Told { events: told.events[at..].to_vec(), times: told.times[at..].to_vec(), last: told.last }.kinds())
        .unwrap_or_default();
    if after.len() > 1 || after.iter().any(|kind| kind != "Resume") {
        wrong.push(format!("I1: exchange #{id} asked again after its commit: {after:?}"));
    }
    let ends = told.events.iter().filter(|event| matches!(event, Event::Ending { ending: Ending::HandBack, .. })).count();
    if ends > 1 {
        wrong.push(format!("I5: exchange #{id} was handed back {ends} times"));
    }
    if let Some(Event::Over(record)) = told.events.last()
        && record.outcome == Outcome::Cancelled
        && matches!(told.events.iter().rev().nth(1), Some(Event::Failed { .. }))
        && asked > 0
        && committed.is_some()
    {
        wrong.push(format!("I7: exchange #{id} was cancelled, and an attempt of it is called a failure"));
    }
}

/// The promise itself: while one profile is well, the person sees no error, and the answer is the right one.
fn turn(page: &Page, scene: &Scene, diary: &Diary, wrong: &mut Vec<String>) {
    let Some(turn) = &page.turn else { return };
    match &turn.answer {
        Ok(answer) => {
            if let Err(what) = page.question.is_answered_by(&answer.text, &answer.calls) {
                wrong.push(format!("{} got a wrong answer: {what}", page.person));
            }
        }
        Err(error) if (scene.anchor.is_some() || scene.calm) && page.question.number < POISONED => {
            diary.saw_an_error();
            wrong.push(format!("{} ({}) saw an error while a profile is well: {error}", page.person, page.client.word()));
        }
        Err(_) => {}
    }
}

/// I5 and I10: what a client may be told.
fn answer(page: &Page, got: &Got, scene: &Scene, wrong: &mut Vec<String>) {
    let who = &page.person;
    if got.reading.error.is_some() {
        wrong.push(format!("I5: an error event reached {who}"));
    }
    // With no other profile left a whole message goes to the client, which then sends the request without streaming.
    let is_message = is_message(&got.reading.raw);
    if got.status == 200 && got.streaming && got.end == End::Proper && !got.reading.is_whole() && !is_message {
        wrong.push(format!("I5: an incomplete answer to {who} ended properly"));
    }
    if got.reading.stop_reason.as_deref() == Some("max_tokens") && page.client == Client::Program {
        wrong.push(format!("I5: {who} is a program, and was handed back to"));
    }
    wrong.extend(got.reading.violations.iter().map(|violation| format!("I5: {who}: {violation}")));
    let wait = got.retry_after();
    let allowed = match got.status {
        0 | 200 => true,
        429 => wait.is_none_or(|wait| (1..=59).contains(&wait)) || scene.login,
        500.. => wait.is_some_and(|wait| (1..=59).contains(&wait)),
        401 => scene.login,
        403 => false,
        _ => true,
    };
    if !allowed {
        wrong.push(format!("I10: {who} was answered {} with retry-after {wait:?}", got.status));
    }
}

/// I2: the bytes after a commit are those of exactly one upstream, in order; what we add is the ending of a hand back, and pings.
fn bytes(page: &Page, got: &Got, told: &Told, served: &[Served], wrong: &mut Vec<String>) {
    if got.status != 200 || !got.streaming || told.resumes() || got.reading.raw.is_empty() {
        return;
    }
    let had = crate::reading::without_pings(&got.reading.raw);
    let handed_back = got.reading.stop_reason.as_deref() == Some("max_tokens");
    if had.is_empty() {
        return;
    }
    // The head of an answer that is kept open goes out before anybody knows who will answer.
    let own = |served: &&Served| (served.profile == got.profile() || got.profile().is_empty()) && served.person == page.person;
    let fits = served.iter().filter(own).any(|served| {
        let sent = crate::reading::without_pings(&served.sent);
        let same = had.iter().zip(&sent).take_while(|(one, other)| one == other).count();
        let rest = &had[same..];
        rest.is_empty() || (handed_back && is_hand_back(&had, &sent))
    });
    if !fits {
        wrong.push(format!("I2: what {} got is not what `{}` sent", page.person, got.profile()));
    }
}

/// Whole events of the upstream's, then the three that end a message.
fn is_hand_back(had: &[u8], sent: &[u8]) -> bool {
    let had = crate::reading::events(had);
    let sent = crate::reading::events(sent);
    let same = had.iter().zip(&sent).take_while(|(one, other)| one == other).count();
    let names = had[same..].iter().map(|event| event.lines().next().unwrap_or_default()).collect::<Vec<_>>();
    let ending = ["event: content_block_stop", "event: message_delta", "event: message_stop"];
    names == ending || names == ending[1..]
}

/// I3: a request that is sent again and again does not wear providers out.
fn per_key(pages: &[Page], told: &BTreeMap<u64, Told>, wrong: &mut Vec<String>) {
    let mut by_key: BTreeMap<&str, Vec<Instant>> = BTreeMap::new();
    for got in pages.iter().filter_map(|page| page.turn.as_ref()).flat_map(|turn| &turn.requests) {
        let attempts = got.exchange().and_then(|id| told.get(&id)).map(Told::attempts).unwrap_or_default();
        by_key.entry(&got.key).or_default().extend(attempts);
    }
    for (key, mut attempts) in by_key {
        attempts.sort();
        let most = |first: &Instant| attempts.iter().filter(|at| *at >= first && at.duration_since(*first) < KEY_TIME).count();
        let count = attempts.iter().map(most).max().unwrap_or_default();
        if count > MOST_PER_KEY {
            wrong.push(format!("I3: {count} upstream requests within {KEY_TIME:?} for {key}"));
        }
    }
}

/// When a blocked profile was tried although it was, because every other profile had failed the same request or was skipped.
fn last_resorts(scene: &Scene, told: &BTreeMap<u64, Told>, name: &str) -> Vec<Instant> {
    let mut found = Vec::new();
    for told in told.values() {
        let Some(Event::Over(record)) = told.events.last() else { continue };
        let asked = |event: &Event| if let Event::Asked { profile, .. } = event { Some(profile.to_string()) } else { None };
        let mut before: Vec<String> = record.skipped.iter().map(|skipped| skipped.profile.clone()).collect();
        for (event, at) in told.events.iter().zip(&told.times) {
            let Some(profile) = asked(event) else { continue };
            if profile == name && scene.names.iter().all(|other| *other == name || before.iter().any(|gone| gone == other)) {
                found.push(*at);
            }
            before.push(profile);
        }
    }
    found
}

/// I9: a profile that refused for long is not tried before that time is over, but as the last resort, once a minute.
fn hard_blocks(scene: &Scene, told: &BTreeMap<u64, Told>, served: &[Served], wrong: &mut Vec<String>) {
    let resorts: BTreeMap<&str, Vec<Instant>> = scene.names.iter().map(|name| (*name, last_resorts(scene, told, name))).collect();
    // From the attempt to the provider's record of it: a connection over a slow network.
    let is_resort = |name: &str, at: Instant| {
        let near = |resort: &Instant| *resort <= at && at.duration_since(*resort) < Duration::from_secs(5);
        resorts.get(name).is_some_and(|resorts| resorts.iter().any(near))
    };
    let began = served.first().map(|served| served.at);
    for (at, block) in served.iter().enumerate() {
        // A login of the client's is another credential with each client that sends another.
        if scene.login && block.profile == scene.names[0] {
            continue;
        }
        let Mood::Head(fault) = block.mood else { continue };
        let time = match fault {
            HeadFault::S401 => Duration::from_secs(15 * 60),
            HeadFault::S403 | HeadFault::Credit | HeadFault::GzippedError => HOURLY,
            HeadFault::S307 => Duration::from_secs(600),
            // However far its end, a block is tried once an hour.
            HeadFault::S429Quota => {
                let left = Duration::from_secs(7200).saturating_sub(began.map_or(Duration::ZERO, |began| block.at - began));
                left.saturating_sub(Duration::from_secs(600)).min(HOURLY)
            }
            _ => continue,
        };
        // A request that was under way may still come, and its good answer counts.
        let earlier = served[..at].iter().any(|other| other.profile == block.profile && block.at - other.at < Duration::from_secs(600));
        // A good answer, as the last resort or on trial, ends the block.
        let later = served[at + 1..].iter().filter(|other| other.profile == block.profile).take_while(|other| other.mood.refuses());
        let again = later.into_iter().find(|other| {
            let after = other.at - block.at;
            let last_resort = after >= LAST_RESORT_INTERVAL && is_resort(other.profile, other.at);
            after > Duration::from_secs(1) && after + Duration::from_secs(1) < time && !last_resort
        });
        if let (Some(again), false) = (again, earlier) {
            wrong.push(format!("I9: `{}` said {}, and was asked again {:?} later", block.profile, fault.word(), again.at - block.at));
        }
    }
}

/// I11: what one person's own request is to blame for moves nobody. I16: nor does a side request that fails on a model of its own.
fn calm(pages: &[Page], scene: &Scene, wrong: &mut Vec<String>) {
    for page in pages.iter().filter(|page| page.question.number < POISONED && !(scene.small_fails && is_side(page.question))) {
        for got in page.turn.iter().flat_map(|turn| &turn.requests) {
            let attempts = got.headers.get("x-hotspare-attempts").map(http::HeaderValue::as_bytes);
            if attempts != Some(b"1") {
                wrong.push(format!("I11: nothing is broken, and `{}` answered after {attempts:?} attempts", got.profile()));
            }
            if scene.small_fails && got.profile() != scene.names[0] {
                wrong.push(format!("I16: a side request failed, and {} was answered by `{}`", page.person, got.profile()));
            }
        }
    }
}
