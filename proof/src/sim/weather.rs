//! Providers that break and recover, and a network that tears, as the seed has it. Keeps a record of what each provider did with each request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotspare_testkit::{Dial, Received, Script};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::Scene;
use crate::dates;
use crate::faults::{self, HeadFault, Position, StreamFault};
use crate::labels::Label;
use crate::question::Question;
use crate::refusals::{Blame, REFUSALS, Refusal};
use crate::world::{Play, WALL, World, host};

/// Questions from here on, up to the refused ones, are side requests.
pub(crate) const SIDE: u64 = 500_000;

/// The model of side requests.
pub(crate) const SMALL: &str = "claude-haiku-5-5";

/// Questions from here on are refused by every provider: the request's own fault.
pub(crate) const POISONED: u64 = 900_000;

/// Between two events of an answer, so that things can happen in the middle of one.
const PACE: Duration = Duration::from_millis(400);

/// What a provider does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Well, after so many seconds.
    Slow(u64),
    Head(HeadFault),
    Stream(StreamFault, Position, usize),
    /// Refuses in the words of another company, which speak of the profile.
    Refuses(&'static Refusal),
    /// Answers under an odd label, or in a wrapping that no client takes for an answer.
    Labels(Label),
}

impl Mood {
    /// Whether every request is refused before an answer begins.
    pub(crate) fn refuses(self) -> bool {
        matches!(self, Self::Head(_) | Self::Refuses(_))
    }
}

/// What a provider did with one request.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub profile: &'static str,
    pub person: String,
    pub at: Instant,
    pub mood: Mood,
    /// The body's bytes, where it was a stream.
    pub sent: Vec<u8>,
}

/// The moods of all providers, and what they did.
pub(crate) struct Sky {
    inside: Mutex<Inside>,
}

struct Inside {
    moods: BTreeMap<&'static str, Mood>,
    served: Vec<Served>,
}

impl Sky {
    pub(crate) fn new(scene: &Scene) -> Self {
        let moods = scene.names.iter().map(|name| (*name, Mood::Well)).collect();
        Self { inside: Mutex::new(Inside { moods, served: Vec::new() }) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn served(&self) -> Vec<Served> {
        self.inside().served.clone()
    }

    pub(crate) fn faults_met(&self) -> u64 {
        self.inside().served.iter().filter(|served| !matches!(served.mood, Mood::Well | Mood::Slow(_))).count() as u64
    }
}

/// Who asks, as every provider can read it.
pub(crate) fn person_of(request: &Received) -> String {
    let session = request.header("x-claude-code-session-id").unwrap_or_default();
    format!("{session}/{}", request.header("x-claude-code-agent-id").unwrap_or_default())
}

/// Longest that a usage window lasts which is told in the provider's own time.
const QUOTA: Duration = Duration::from_secs(7200);

fn refuses_a_field() -> Script {
    Script::error(400, "invalid_request_error", "messages.0.content: Field required")
}

/// A provider under this sky.
pub(crate) fn play(name: &'static str, scene: &Scene, sky: &Arc<Sky>) -> Play {
    let sky = sky.clone();
    let begun = Instant::now();
    let small_fails = scene.small_fails && name == scene.names[0];
    let skew = scene.names.iter().position(|known| *known == name).and_then(|at| scene.skew.get(at)).copied().unwrap_or_default();
    Arc::new(move |request| {
        let Some((question, said, streaming)) = Question::asked_by(request) else { return Script::not_found() };
        let mut inside = sky.inside();
        let mood = match inside.moods.get(name).copied().unwrap_or(Mood::Well) {
            // The request's own fault says nothing of the provider.
            _ if question.number >= POISONED => Mood::Head(HeadFault::Plain400),
            _ if small_fails && request.json()["model"] == SMALL => Mood::Head(HeadFault::S529),
            mood => mood,
        };
        let now = (WALL + begun.elapsed()).as_secs().saturating_add_signed(skew);
        let (script, sent) = match mood {
            // Without a wait in seconds the end of the window is in the provider's own time.
            Mood::Head(HeadFault::S429Quota) if skew != 0 && question.number < POISONED => (faults::window_used_up(now, QUOTA), Vec::new()),
            mood => act(mood, question, &said, streaming),
        };
        inside.served.push(Served { profile: name, person: person_of(request), at: Instant::now(), mood, sent });
        if skew == 0 { script } else { script.field("Date", &dates::http(now)) }
    })
}

fn act(mood: Mood, question: Question, said: &str, streaming: bool) -> (Script, Vec<u8>) {
    // Half of them in words that name the request, half in words that nobody knows.
    if question.number >= POISONED {
        return (if question.number.is_multiple_of(2) { HeadFault::Plain400.script() } else { refuses_a_field() }, Vec::new());
    }
    let well = || {
        let events = question.rest(said).unwrap_or_default();
        let sent = events.iter().flat_map(|event| event.bytes().to_vec()).collect();
        (faults::answer(question, said, streaming, PACE), sent)
    };
    match mood {
        Mood::Well => well(),
        Mood::Slow(seconds) => {
            let (script, sent) = well();
            (script.after(Duration::from_secs(seconds)), sent)
        }
        Mood::Head(fault) => (fault.script(), Vec::new()),
        Mood::Refuses(refusal) => (refusal.script("somebody"), Vec::new()),
        Mood::Labels(label) if label.fits(streaming) && question.rest(said).is_some() => label.script(question, said),
        Mood::Labels(_) => well(),
        Mood::Stream(..) if !streaming => (HeadFault::S500.script(), Vec::new()),
        Mood::Stream(fault, position, variant) => match question.rest(said) {
            None => well(),
            Some(events) => {
                let broken = faults::broken(&events, fault, position, variant, PACE);
                (broken.script, broken.sent)
            }
        },
    }
}

/// Changes the weather until it is stopped.
pub(crate) async fn change(world: Arc<World>, scene: Arc<Scene>, sky: Arc<Sky>, seed: u64) {
    let mut dice = SmallRng::seed_from_u64(seed ^ 0x57ea_7e12);
    loop {
        if scene.calm {
            return;
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(500..30_000))).await;
        let name = scene.names[dice.random_range(0..scene.names.len())];
        let anchored = scene.anchor == Some(name);
        match dice.random_range(0..100) {
            0..70 if !anchored => set_mood(&world, &sky, name, mood(&mut dice)),
            70..78 if !anchored => sever(&world, name, dice.random_bool(0.5)),
            78..86 => {
                let latency = Duration::from_millis(dice.random_range(0..400));
                world.trace.line("weather", format_args!("latency of {name}: {latency:?}"));
                world.network.set_latency(&host(name), latency);
            }
            // Who wants to be told at once is told of the one break that the last good profile has, too.
            86..93 if !(anchored && scene.fails) => {
                world.trace.line("weather", format_args!("connections of {name} are reset"));
                world.network.reset_connections(&host(name));
            }
            93..96 if scene.sleeps && !scene.fails => {
                world.trace.line("weather", "the machine slept");
                world.wall_jumps(Duration::from_secs(dice.random_range(60..8 * 3600)));
                for name in &scene.names {
                    world.network.reset_connections(&host(name));
                }
            }
            96..98 => world.reload(),
            _ => {}
        }
    }
}

fn set_mood(world: &World, sky: &Sky, name: &'static str, mood: Mood) {
    world.trace.line("weather", format_args!("{name} is {mood:?}"));
    sky.inside().moods.insert(name, mood);
    let dial = if let Mood::Head(fault) = mood { fault.dial() } else { Dial::Works };
    world.network.set_dial(&host(name), dial);
}

fn sever(world: &World, name: &'static str, severed: bool) {
    world.trace.line("weather", format_args!("{name} is {}", if severed { "severed" } else { "joined again" }));
    world.network.set_severed(&host(name), severed);
}

/// Any mood; being well is the most frequent. What the request itself is to blame for is no weather.
fn mood(dice: &mut SmallRng) -> Mood {
    match dice.random_range(0..12) {
        0..3 => Mood::Well,
        3 => Mood::Slow(dice.random_range(1..30)),
        // What a second profile must judge, or the client alone, is for the matrix.
        10 => loop {
            let refusal = &REFUSALS[dice.random_range(0..REFUSALS.len())];
            if matches!(refusal.blame, Blame::Profile(_)) {
                break Mood::Refuses(refusal);
            }
        },
        11 => loop {
            let label = Label::ALL[dice.random_range(0..Label::ALL.len())];
            if label != Label::NoBlock {
                break Mood::Labels(label);
            }
        },
        4..7 => loop {
            let fault = HeadFault::ALL[dice.random_range(0..HeadFault::ALL.len())];
            if !matches!(fault, HeadFault::Plain400 | HeadFault::S413 | HeadFault::ProviderBound400) {
                break Mood::Head(fault);
            }
        },
        _ => loop {
            let fault = StreamFault::ALL[dice.random_range(0..StreamFault::ALL.len())];
            let position = Position::ALL[dice.random_range(0..Position::ALL.len())];
            // What the design passes on as it came is for the matrix.
            if faults::fits(fault, position) && !matches!(fault, StreamFault::Duplicate | StreamFault::Garbage) {
                break Mood::Stream(fault, position, dice.random_range(0..3));
            }
        },
    }
}
