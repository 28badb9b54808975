//! Runs the user's own status line as Claude Code would, and puts ours before it. Never lets a broken one hide ours, or hold it back for
//! long.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::output::Look;

/// Longest that the user's own command may take; Claude Code itself gives up a status line after so long.
const WRAP_TIME: Duration = Duration::from_secs(5);

/// Most bytes of its output: a few lines.
const OUTPUT_CAP: u64 = 64 * 1024;

/// What the user's own command prints; nothing when it cannot be run, fails or does not end.
pub(super) async fn output(command: &str) -> String {
    // Through a shell, with the client's own stdin: what it writes there reaches the command byte for byte. In a group of its own, so that
    // whatever it has started goes with it.
    let shell = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = shell else { return String::new() };
    let ended = tokio::time::timeout(WRAP_TIME, until_its_end_or_ours(&mut child)).await.ok().flatten();
    end_group(&child);
    ended.unwrap_or_default()
}

/// None: it failed, or we are told to stop; the client does that when a newer status line is due.
async fn until_its_end_or_ours(child: &mut Child) -> Option<String> {
    let mut terminate = signal(SignalKind::terminate()).ok()?;
    let stdout = child.stdout.take()?;
    // Cancel-safe: whichever wins, the other is not needed any more.
    tokio::select! {
        text = read(stdout) => child.wait().await.ok().filter(std::process::ExitStatus::success).map(|_| text),
        _ = terminate.recv() => None,
    }
}

async fn read(stdout: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let mut capped = stdout.take(OUTPUT_CAP);
    // What came before an error counts.
    let _ = capped.read_to_end(&mut bytes).await;
    // What is beyond the cap is drained, so that the command ends by itself.
    let _ = tokio::io::copy(&mut capped.into_inner(), &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nothing of it outlives us.
fn end_group(child: &Child) {
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    if let Some(group) = group {
        // It may have ended a moment ago.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// Ours before the first line of theirs: what is too long for the terminal is cut at its right end.
pub(super) fn joined(own: Option<&str>, theirs: &str, look: Look) -> String {
    let theirs = theirs.trim_end_matches(['\n', '\r']);
    match own {
        None => theirs.to_owned(),
        Some(own) if theirs.is_empty() => own.to_owned(),
        Some(own) => format!("{own} {} {theirs}", look.sign("│", "|")),
    }
}
