//! `hotspare demo`: two simulated providers, a primary that breaks on cue in three ways, and the real data path between. Never leaves this
//! machine, and never claims a failover that did not happen.

mod stage;
mod timeline;

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::Duration;

use hotspare_testkit::answers::{self, Position};
use hotspare_testkit::{Event, Script};

use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};
use stage::Stage;
use timeline::Timeline;

/// What the simulated model says, whichever provider says it.
const ANSWER: [&str; 2] = [
    "Retries alone would not have helped: the queue was full because ",
    "each worker waited for a lock that the reaper held. I moved the reaper out of the critical section, and the tests pass.",
];

/// Between two pieces of an answer, so that it can be watched.
const PACE: Duration = Duration::from_millis(110);

/// One way for the primary to break.
struct Act {
    title: &'static str,
    primary: Script,
    spare: Script,
}

/// Runs `hotspare demo`.
pub(crate) fn demo() -> Result<ExitCode, CliError> {
    commands::logging("off");
    let look = Look::of_stdout();
    let paint = look.paint;
    let live = stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    output::data(&format!(
        "{}\nTwo simulated providers on this machine, the real data path between them.\nNo account, no network.",
        paint.paint(Style::Bold, "hotspare demo")
    ))?;
    let runtime = commands::runtime()?;
    let acts = acts();
    let count = acts.len();
    for (number, act) in acts.into_iter().enumerate() {
        output::data(&format!("\n{}", paint.paint(Style::Bold, &format!("{}/{count}  {}", number + 1, act.title))))?;
        let timeline = Timeline::new(live, look);
        runtime.block_on(play(act, timeline))?;
    }
    output::data(&format!("\nThree failures, three whole answers, no error. Next: {}", paint.paint(Style::Cyan, "hotspare init")))?;
    Ok(ExitCode::SUCCESS)
}

fn acts() -> Vec<Act> {
    let whole = || paced(Script::new().sse(), &answers::text(&ANSWER.concat())).end();
    let thinking = answers::thinking_text("The lock, then.", ANSWER[0]);
    // The text has begun, and its block is still open when the connection breaks.
    let begun = answers::upto(&thinking, Position::AfterBlock(1));
    vec![
        Act { title: "the primary answers 529 overloaded", primary: Script::new().sleep(3 * PACE).raw(overloaded()), spare: whole() },
        Act {
            title: "the primary stalls: a good status, then silence",
            primary: Script::new().sse().events(answers::upto(&thinking, Position::AfterMessageStart)).hang(),
            spare: whole(),
        },
        Act {
            title: "the primary's connection breaks in the middle of its answer",
            primary: paced(Script::new().sse(), &begun[..begun.len() - 1]).sleep(PACE).rst(),
            spare: paced(Script::new().sse(), &answers::text(ANSWER[1])).end(),
        },
    ]
}

fn paced(script: Script, events: &[Event]) -> Script {
    events.iter().fold(script, |script, event| script.chunk(event.bytes()).sleep(PACE))
}

fn overloaded() -> String {
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    format!("HTTP/1.1 529 Overloaded\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn play(act: Act, mut timeline: Timeline) -> Result<(), CliError> {
    let stage = Stage::set(act.primary, act.spare).await?;
    let answer = stage.converse(&mut timeline).await?;
    timeline.finish(&answer)?;
    if answer == ANSWER.concat() {
        return Ok(());
    }
    Err(CliError::new(Exit::Failed, format!("the demo's answer is not whole: {answer:?}; please report this")))
}
