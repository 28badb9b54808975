//! A conversation with tools and thinking over three companies, then `hotspare uninstall`, then `claude -c` without it: an upstream as strict as
//! Anthropic takes the transcript that the user has kept.

use std::fs;

use anyhow::{Context, Result, ensure};
use hotspare_testkit::strict::{Company, Strict};
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::{Value, json};

use super::super::cases::Mode;
use super::super::world::Tools;
use super::provider;
use super::user::{Account, Lab, PERMISSIONS, Turn, Way, turn};

pub(super) const NAME: &str = "three companies, uninstall, `claude -c`";

/// The one company that is up in each turn.
const TURNS: [&str; 4] = ["work", "openrouter", "glm", "work"];

/// The tool call of each turn, so that it can be counted.
const CALL: (&str, &str) = ("Bash", r#"{"command":"echo ran >> calls.txt","description":"Notes that it ran"}"#);

/// Strict about turns of the user; titles are good anywhere. A company that is down refuses both.
fn play(strict: &Strict, is_down: impl Fn() -> bool, request: &Received) -> Script {
    if is_down() { strict.play(request) } else { provider::model(request, || strict.play(request)) }
}

/// Three companies that are strict, of which one is up.
#[derive(Clone)]
struct Companies([(&'static str, Strict); 3]);

impl Companies {
    fn new() -> Self {
        let strict = |company, name| (name, Strict::new(company, name, CALL));
        Self([strict(Company::Anthropic, "work"), strict(Company::OpenRouter, "openrouter"), strict(Company::Glm, "glm")])
    }

    fn strict(&self, name: &str) -> Strict {
        let (_, strict) = self.0.iter().find(|(known, _)| *known == name).expect("each name is one of the three");
        strict.clone()
    }

    fn only(&self, name: &str) {
        for (known, strict) in &self.0 {
            strict.set_down(*known != name);
        }
    }

    fn faults(&self) -> Vec<String> {
        self.0.iter().flat_map(|(_, strict)| strict.faults()).collect()
    }

    async fn listen(&self, name: &str) -> Result<Upstream> {
        let strict = self.strict(name);
        Ok(Upstream::start_reading(move |request| play(&strict, || strict.is_down(), request)).await?)
    }
}

pub(super) async fn run(tools: &Tools, mode: Mode) -> Result<()> {
    let companies = Companies::new();
    let (openrouter, glm) = (companies.listen("openrouter").await?, companies.listen("glm").await?);
    let key = json!({ "env": "SPARE_KEY" });
    let spares: [(&str, Value); 2] = [
        ("openrouter", json!({ "platform": "openrouter", "base_url": openrouter.url(), "auth": key })),
        ("glm", json!({ "preset": "zai", "base_url": glm.url(), "auth": key, "models": { "claude-*": "glm-5" } })),
    ];
    let work = companies.strict("work");
    let lab = Lab::open(tools, Account::Key, move |request| play(&work, || work.is_down(), request), &spares).await?;
    let turns = turns();
    let talk = lab.talk_with(mode, Way::Installed, &PERMISSIONS, &turns, |number| companies.only(TURNS[number]));
    // Full mode keeps the client's prompt what it is without hotspare, so that signatures stay bound to it.
    let talked = lab.while_installed(&["--mode", "full"], talk).await;
    ensure!(companies.faults().is_empty(), "refused with hotspare: {:#?}", companies.faults());
    talked.context("with hotspare")?;
    lab.look_around()?;

    let works = TURNS.iter().filter(|name| **name == "work").count();
    let after = [turn("Last turn: go on.", &done("work", works))];
    companies.only("work");
    let talked = lab.talk_with(mode, Way::Direct, &[&["-c"], &PERMISSIONS[..]].concat(), &after, |_| ()).await;
    ensure!(companies.faults().is_empty(), "refused without hotspare: {:#?}", companies.faults());
    talked.context("without hotspare")?;
    let calls = fs::read_to_string(lab.world.path("project/calls.txt")).unwrap_or_default().lines().count();
    ensure!(calls == TURNS.len() + after.len(), "{calls} tool calls ran");
    Ok(())
}

fn turns() -> Vec<Turn> {
    let turn_of = |(number, name): (usize, &&str)| {
        let earlier = TURNS[..number].iter().filter(|other| *other == name).count();
        turn(&format!("Turn {number}: go on."), &done(name, earlier))
    };
    TURNS.iter().enumerate().map(turn_of).collect()
}

/// How a company ends a turn after so many of its own: each takes two answers.
fn done(name: &str, earlier: usize) -> String {
    format!("{name} done {}.", 2 * earlier + 1)
}
