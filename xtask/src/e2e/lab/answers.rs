//! Answers with the wrong label and odd events work as they do direct; a body under 200 that is no message is a failure.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use hotspare_testkit::{Script, answers};

use super::super::cases::Mode;
use super::super::world::Tools;
use super::provider::{self, Purpose};
use super::user::{Account, Lab, SPARE, Turn, Way, calls, good_spare, spare, turn};

pub(super) const NAME: &str = "mislabelled stream, odd pings, no message under 200";

const LABELLED_JSON: &str = "Labelled as JSON.";
const LABELLED_TEXT: &str = "Labelled as text.";
const ODD_PINGS: &str = "With odd pings.";

fn turns() -> [Turn; 4] {
    [
        turn("Turn 0.", LABELLED_JSON),
        turn("Turn 1.", LABELLED_TEXT),
        turn("Turn 2.", ODD_PINGS),
        turn("Turn 3.", &provider::numbered(SPARE, 0)),
    ]
}

/// What the primary does in each turn.
fn scripts() -> [Script; 4] {
    [
        stream("application/json").events(&answers::text(LABELLED_JSON)).end(),
        stream("text/plain; charset=utf-8").events(&answers::text(LABELLED_TEXT)).end(),
        odd_pings(),
        Script::new().body(200, &[("content-type", "application/json")], r#"{"code":1302,"msg":"busy","success":false}"#),
    ]
}

fn stream(label: &str) -> Script {
    Script::new().head(200, &[("content-type", label), ("transfer-encoding", "chunked")])
}

/// The SDK reads no data of a ping.
fn odd_pings() -> Script {
    let events = answers::text(ODD_PINGS);
    let odd = ["", "[DONE]", "not json", r#""just a string""#];
    let script = events
        .iter()
        .zip(odd.iter().cycle())
        .fold(Script::new().sse(), |script, (event, data)| script.event("ping", data).chunk(event.bytes()));
    script.end()
}

/// Without hotspare, the first three turns: what must work through it works direct.
pub(super) async fn run_direct(tools: &Tools, mode: Mode) -> Result<()> {
    let lab = open(tools, &[]).await?;
    lab.talk(mode, Way::Direct, &turns()[..3], |_| ()).await.map(drop)
}

pub(super) const NAME_DIRECT: &str = "mislabelled stream, odd pings: direct";

pub(super) async fn run(tools: &Tools, mode: Mode) -> Result<()> {
    let second = good_spare().await?;
    let lab = open(tools, &[("spare", spare(&second))]).await?;
    let talked = lab.talk(mode, Way::Run, &turns(), |_| ()).await;
    lab.look_around()?;
    talked?;
    ensure!(
        lab.main_calls() == 4 && calls(&second, Purpose::Main) == 1,
        "{} and {} turns",
        lab.main_calls(),
        calls(&second, Purpose::Main)
    );
    Ok(())
}

async fn open<'t>(tools: &'t Tools, spares: &[(&str, serde_json::Value)]) -> Result<Lab<'t>> {
    let next = AtomicUsize::new(0);
    let main = move || scripts().get(next.fetch_add(1, Ordering::SeqCst)).cloned().unwrap_or_default();
    Lab::open(tools, Account::Key, move |request| provider::model(request, &main), spares).await
}
