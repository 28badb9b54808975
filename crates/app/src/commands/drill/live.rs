//! Waits for the real requests that a live drill touches, and tells of each. Never waits longer than the drill lives; an interrupt ends it.

use std::time::Duration;

use hotspare_gateway::drill::DrillStatus;
use hotspare_store::{Filter, Reader};
use tokio::signal::unix::{SignalKind, signal};

use super::{Drill, DrillReport, Proof};
use crate::commands::logs;
use crate::error::CliError;
use crate::output;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Most rows that are looked at in the end.
const ROWS: u32 = 1000;

/// Waits until the drill has met all its requests, its time is over, or the user has had enough.
pub(super) async fn report(drill: &Drill<'_>) -> Result<DrillReport, CliError> {
    let answer = &drill.answer;
    // From here on an interrupt ends the drill and not only this process.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let count = drill.request.live.unwrap_or_default();
    output::talk(&format!(
        "The next {count} real request{} find {} broken ({}). Spares answer for real and cost what they cost.\nIt ends after that, in {} s, or with Ctrl-C.",
        if count == 1 { "" } else { "s" },
        answer.profile,
        answer.fault.summary(),
        answer.ends_in_s
    ));
    let reader = || Reader::open(&drill.locations.state_dir).ok().flatten();
    let before = reader().and_then(|ledger| ledger.last_seq().ok().flatten());
    // Cancel-safe: the drill is ended by the caller, whichever branch wins.
    tokio::select! {
        () = met(drill) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let filter = Filter { since_ms: 0, failovers: false, after: Some(before.unwrap_or(-1)), limit: ROWS };
    let rows = reader().and_then(|ledger| ledger.list(&filter).ok()).unwrap_or_default().rows;
    let touched: Vec<_> = rows.iter().filter(|row| row.record.drill.is_some_and(|mark| mark.live)).collect();
    let proofs = touched
        .iter()
        .map(|row| Proof {
            name: "request".to_owned(),
            held: row.record.status == Some(200) && row.record.served_by.as_ref() != Some(&answer.profile),
            unproved: false,
            after_ms: None,
            words: logs::plain_line(row),
        })
        .collect();
    let ids = touched.iter().map(|row| hotspare_core::record::id_text(row.record.id)).collect();
    let served = touched.last().and_then(|row| row.record.served_by.clone());
    Ok(drill.report(ids, served, proofs))
}

/// Ends when no request may meet the drill any more, and those that did have ended.
async fn met(drill: &Drill<'_>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(status) = super::status(drill.instance).await else { return };
        let Ok(running) = serde_json::from_value::<DrillStatus>(status["drill"].clone()) else { return };
        if running.left == 0 && running.under_way == 0 {
            return;
        }
    }
}
