//! One conversation of the real client that goes from company to company and back, with tools and thinking. The providers mind what the
//! real ones mind. Never forgives a refusal, a call that did not run, or an error on the client's side.

use anyhow::{Context, Result, ensure};
use hotspare_testkit::Upstream;
use hotspare_testkit::strict::{Company, Strict};
use serde_json::{Value, json};

use super::canary::{self, Secret};
use super::cases::Mode;
use super::talk::Client;
use super::tui;
use super::world::{Login, Tools, World};

pub(super) const NAME: &str = "a conversation across three companies and back";

/// Who alone is up in each turn. No longer: providers that fail more often than they serve are rightly not asked for a while.
const TURNS: [&str; 6] = ["work", "work", "openrouter", "work", "glm", "work"];

/// What each tool call does, so that it can be counted.
const CALL: (&str, &str) = ("Bash", r#"{"command":"echo ran >> calls.txt","description":"Notes that it ran"}"#);

struct Fleet {
    providers: [(&'static str, Strict, Upstream); 3],
}

impl Fleet {
    async fn start() -> Result<Self> {
        let start = async |company, name| {
            let strict = Strict::new(company, name, CALL);
            let playing = strict.clone();
            anyhow::Ok((name, strict, Upstream::start_reading(move |request| playing.play(request)).await?))
        };
        let providers =
            [start(Company::Anthropic, "work").await?, start(Company::OpenRouter, "openrouter").await?, start(Company::Glm, "glm").await?];
        Ok(Self { providers })
    }

    fn url(&self, name: &str) -> String {
        self.providers.iter().find(|(known, ..)| *known == name).map(|(.., upstream)| upstream.url()).unwrap_or_default()
    }

    fn only(&self, name: &str) {
        for (known, strict, _) in &self.providers {
            strict.set_down(*known != name);
        }
    }

    fn config(&self) -> Value {
        let key = json!({ "env": "SPARE_KEY" });
        json!({
            "failover_policy": { "primary_profile": "work", "secondary_profile": ["openrouter", "glm"] },
            "profiles": {
                "work": { "base_url": self.url("work") },
                "openrouter": { "platform": "openrouter", "base_url": self.url("openrouter"), "auth": key },
                "glm": { "preset": "zai", "base_url": self.url("glm"), "auth": key, "models": { "claude-*": "glm-5" } },
            },
        })
    }

    /// What each saw: its own credential, no other company's, and nothing that it minds.
    fn judge(&self) -> Result<()> {
        for (name, strict, upstream) in &self.providers {
            let (own, foreign) = if *name == "work" { (Secret::Client, Secret::Spare) } else { (Secret::Spare, Secret::Client) };
            for request in upstream.messages() {
                let head = String::from_utf8_lossy(&request.raw_head);
                ensure!(head.contains(own.text()) && !head.contains(foreign.text()), "a credential went astray at {name}:\n{head}");
            }
            let faults = strict.faults();
            ensure!(faults.is_empty(), "{name} refused: {faults:#?}");
            let turns = TURNS.iter().filter(|turn| *turn == name).count();
            ensure!(strict.answered() == 2 * turns, "{name} answered {} times in {turns} turns", strict.answered());
        }
        Ok(())
    }
}

pub(super) async fn run(tools: &Tools, mode: Mode) -> Result<()> {
    let fleet = Fleet::start().await?;
    let world = World::new(tools, &fleet.url("work"), &fleet.url("openrouter"), Login::Key).await?;
    std::fs::write(&world.config, serde_json::to_string_pretty(&fleet.config())?)?;
    let talked = match mode {
        Mode::Print => print(tools, &world, &fleet).await,
        Mode::Interactive => interactive(tools, &world, &fleet).await,
    };
    // What a provider minded says more than what the client made of it.
    fleet.judge()?;
    canary::look_around(tools, &world)?;
    talked?;
    let calls = std::fs::read_to_string(world.path("project/calls.txt")).unwrap_or_default().lines().count();
    ensure!(calls == TURNS.len(), "{calls} of {} tool calls ran", TURNS.len());
    Ok(())
}

async fn print(tools: &Tools, world: &World, fleet: &Fleet) -> Result<()> {
    let mut client = Client::start(tools, world)?;
    for (number, name) in TURNS.into_iter().enumerate() {
        fleet.only(name);
        let said = client.turn(&format!("Turn {number}: go on.")).await.with_context(|| format!("turn {number}, at {name}"))?;
        let by_whom = |part: &String, does: &str| part.starts_with(&format!("{name} {does} "));
        let whole = matches!(&said[..], [first, last] if by_whom(first, "works") && by_whom(last, "done"));
        ensure!(whole, "turn {number} was to be {name}'s: {said:?}");
    }
    client.leave().await
}

async fn interactive(tools: &Tools, world: &World, fleet: &Fleet) -> Result<()> {
    let turn = |(number, name): (usize, &&str)| {
        let earlier = TURNS[..number].iter().filter(|other| *other == name).count();
        (format!("Turn {number}: go on."), format!("{name} done {}.", 2 * earlier + 1))
    };
    let turns: Vec<(String, String)> = TURNS.iter().enumerate().map(turn).collect();
    tui::talk(tools, world, &["--allowedTools", "Bash", "--permission-mode", "acceptEdits"], &turns, |number| fleet.only(TURNS[number]))
        .await
        .map(drop)
}
