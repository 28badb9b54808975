//! Shows what a gateway tells of moves between profiles: on standard error where no program owns the screen, and by the desktop. Never
//! writes between a program and its terminal: a sequence in the middle of one of its own would garble the screen.

mod desktop;

pub(crate) use desktop::has_desktop;

use std::ffi::OsString;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::Arc;

use hotspare_gateway::Gateway;
use hotspare_gateway::notices::Told;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::output;

/// Most notices that are told together when the screen is ours again.
const MOST_AT_THE_END: usize = 3;

/// Who writes to the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screen {
    /// Nobody but us, or somebody who only adds lines.
    Ours,
    /// A program that draws on it.
    Theirs,
}

impl Screen {
    /// Whose it is while this command runs: a program that talks to a terminal draws on it, unless it is told to print.
    pub(crate) fn of(command: &[OsString]) -> Self {
        let prints = command.iter().any(|argument| argument == "-p" || argument == "--print");
        if prints || !stdout().is_terminal() || !stderr().is_terminal() { Self::Ours } else { Self::Theirs }
    }
}

/// Shows notices as they come.
pub(crate) struct Shower {
    gateway: Arc<Gateway>,
    /// The number of the last notice that standard error has.
    written: watch::Receiver<u64>,
    showing: JoinHandle<()>,
}

impl Shower {
    /// Until it is dropped or ended.
    pub(crate) fn start(gateway: Arc<Gateway>, screen: Screen) -> Self {
        let (sender, written) = watch::channel(0);
        let showing = tokio::spawn(show(gateway.clone(), screen, sender));
        Self { gateway, written, showing }
    }

    /// The screen is ours again: what it has not seen is told now.
    pub(crate) fn end(self) {
        self.showing.abort();
        if !self.gateway.snapshot().notify.terminal {
            return;
        }
        let seen = *self.written.borrow();
        let unseen: Vec<Told> = self.gateway.notices().notices.into_iter().filter(|told| told.seq > seen).collect();
        let more = unseen.len().saturating_sub(MOST_AT_THE_END);
        for told in &unseen[more..] {
            output::talk(&line(told));
        }
        if more > 0 {
            output::talk(&format!("hotspare: and {more} more before: hotspare logs --failovers"));
        }
    }
}

impl Drop for Shower {
    fn drop(&mut self) {
        self.showing.abort();
    }
}

async fn show(gateway: Arc<Gateway>, screen: Screen, written: watch::Sender<u64>) {
    let mut seen = 0;
    loop {
        let notices = gateway.notices_after(seen).await;
        let notify = gateway.snapshot().notify;
        // More came at once than are kept: they are in the log, and this says so.
        let lost = notices.first().map_or(0, |first| first.seq.saturating_sub(seen + 1));
        seen = notices.last().map_or(seen, |last| last.seq);
        if screen == Screen::Ours && notify.terminal {
            if lost > 0 {
                output::talk(&format!("hotspare: {lost} more moves: hotspare logs --failovers"));
            }
            for told in &notices {
                output::talk(&line(told));
            }
            let _ = written.send(seen);
        }
        if notify.desktop {
            for told in &notices {
                desktop::show(&told.text).await;
            }
        }
    }
}

fn line(told: &Told) -> String {
    format!("hotspare: {}", told.text)
}
