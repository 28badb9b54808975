//! `hotspare notices`: what was told of moves lately, for people, and to Claude Code's hooks. Never makes a notice, and as a hook never
//! fails and never holds the client up.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use hotspare_gateway::notices::{NOTICES_VERSION, NoticesAnswer, NoticesRequest, Told};
use serde::Deserialize;
use serde_json::json;

use crate::cli::NoticesArgs;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::gateways;
use crate::notices;
use crate::output::{self, Look, Style};
use crate::state;
use crate::way::Way;
use crate::words;

/// Longest that a hook waits for the gateway: the client waits for the hook.
const HOOK_TIME: Duration = Duration::from_millis(300);

/// Most bytes of what the client tells a hook.
const HOOK_CAP: u64 = 4 * 1024 * 1024;

/// Columns of the time of day.
const CLOCK: usize = 5;

/// What Claude Code tells every hook, as far as it matters here.
#[derive(Deserialize)]
struct HookInput {
    session_id: String,
}

/// Runs `hotspare notices`.
pub(crate) fn notices(arguments: &NoticesArgs) -> Result<ExitCode, CliError> {
    if arguments.hook {
        hook();
        return Ok(ExitCode::SUCCESS);
    }
    let locations = commands::locations(None)?;
    let instances = state::instances(&locations.state_dir);
    let answers = commands::runtime()?.block_on(gateways::get::<NoticesAnswer>(&instances, "/hotspare/notices"));
    let answered: Vec<NoticesAnswer> = answers.into_iter().flatten().collect();
    if answered.is_empty() {
        return Err(CliError::new(Exit::NotRunning, "nothing is running").hint("what happened earlier: `hotspare logs --failovers`"));
    }
    let (desktop, terminal) = (answered.iter().any(|answer| answer.desktop), answered.iter().any(|answer| answer.terminal));
    let mut notices: Vec<Told> = answered.into_iter().flat_map(|answer| answer.notices).collect();
    notices.sort_by_key(|told| told.at);
    if arguments.json {
        let report = NoticesAnswer { version: NOTICES_VERSION, notices, desktop, terminal };
        let text = serde_json::to_string(&report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else if notices.is_empty() {
        output::talk("hotspare: nothing has moved since the start");
    } else {
        output::data(&drawn(&notices, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn drawn(notices: &[Told], look: Look) -> String {
    let lines = notices.iter().flat_map(|told| {
        let clock = hotspare_store::local_clock(told.at).unwrap_or_default();
        let text = words::fit(&told.text, usize::MAX, look.unicode);
        let lines = look.width.map_or_else(|| vec![text.clone()], |width| words::wrapped(&text, width.saturating_sub(CLOCK + 2).max(20)));
        let heads =
            std::iter::once(look.paint.paint(Style::Dim, &words::padded(&clock, CLOCK))).chain(std::iter::repeat(" ".repeat(CLOCK)));
        heads.zip(lines).map(|(head, line)| format!("{head}  {line}")).collect::<Vec<_>>()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Says what the session has not heard yet. Whatever goes wrong, the client goes on: the status line and the log tell it too.
fn hook() {
    let Some(answer) = unheard() else { return };
    if answer.notices.is_empty() {
        return;
    }
    let lines: Vec<String> = answer.notices.iter().map(|told| format!("hotspare: {}", words::fit(&told.text, usize::MAX, true))).collect();
    let mut told = json!({ "systemMessage": lines.join("\n") });
    if answer.terminal && !(answer.desktop && notices::has_desktop()) {
        // The client itself writes it, between its own sequences. No control character is left in a line, so that none ends it early.
        told["terminalSequence"] = format!("\u{1b}]9;{}\u{7}", lines[lines.len() - 1]).into();
    }
    // A client that is gone needs no message.
    let _ = output::data(&told.to_string());
}

fn unheard() -> Option<NoticesAnswer> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(HOOK_CAP).read_to_end(&mut text).ok()?;
    let input: HookInput = serde_json::from_slice(&text).ok()?;
    let locations = commands::locations(None).ok()?;
    let Way::Through(instance) = Way::of_this_process(&locations) else { return None };
    let request = NoticesRequest { session: input.session_id };
    let asked = gateways::post_within::<NoticesAnswer>(HOOK_TIME, std::slice::from_ref(&instance), "/hotspare/notices", &request);
    commands::runtime().ok()?.block_on(asked).pop()?.ok()
}
