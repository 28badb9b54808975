//! Starts a service again when it crashes, where neither systemd nor launchd does.
//!
//! The supervisor opens the port and gives it to a worker, which is `hotspare serve` itself. It keeps the port open while no worker runs: what
//! clients send then waits for the next worker and is not refused. On the worker's standard output it reads two lines: that the worker is
//! ready, and that it takes no more connections, so that its end is no crash.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{self, SignalKind, signal};

use super::{ENDING, READY};
use crate::cli::Serve;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::{output, state, wiring};

/// Wait before the second restart in a row; the first one is immediate. It doubles up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Longest wait before a restart. Claude Code waits 360 s for an answer (measured, 2.1.330).
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A worker that has lived so long has not crashed in a row with the one before.
const STABLE_TIME: Duration = Duration::from_secs(60);

/// Most starts in a row without a ready worker. Then the port is closed: a client that is refused knows more than one that waits.
const MAX_FAILED_STARTS: u32 = 8;

/// Runs `hotspare serve --service --supervised`.
pub(super) fn supervise(arguments: &Serve) -> Result<ExitCode, CliError> {
    let locations = commands::locations(arguments.layers.config.clone())?;
    commands::runtime()?.block_on(async {
        let listener = match arguments.listen {
            Some(address) => super::listener(arguments, address).await?.into_std()?,
            None => return Err(CliError::new(Exit::Usage, "a supervised service needs `--listen`")),
        };
        let address = listener.local_addr()?;
        // `service stop` and hooks find the supervisor by it. On a full disk they find the worker alone.
        let _entry = state::register_supervisor(&locations.state_dir, address)
            .inspect_err(|error| output::talk(&format!("hotspare: the supervisor is not recorded: {error}")));
        let mut supervisor = Supervisor {
            program: wiring::program()?,
            arguments: worker_arguments(),
            listener: Some(OwnedFd::from(listener)),
            signals: Signals::new()?,
            is_ending: false,
            reports_ready: arguments.take_over,
        };
        supervisor.keep().await
    })
}

/// This process's own arguments, as those of a worker.
fn worker_arguments() -> Vec<OsString> {
    let own = std::env::args_os().skip(1).filter(|argument| argument != "--take-over");
    let worker = own.map(|argument| if argument == "--supervised" { "--worker".into() } else { argument });
    worker.chain(["--take-over".into()]).collect()
}

struct Supervisor {
    program: String,
    arguments: Vec<OsString>,
    /// The port. `None` once no further worker will have it.
    listener: Option<OwnedFd>,
    signals: Signals,
    /// The worker ends on purpose, or is going to.
    is_ending: bool,
    /// Somebody waits for our own report that the service is ready.
    reports_ready: bool,
}

struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    retire: unix::Signal,
    handover: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            retire: signal(SignalKind::user_defined1())?,
            handover: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Signal {
        // Cancel-safe: a signal that was not received stays pending.
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.retire.recv() => Signal::USR1,
            _ = self.handover.recv() => Signal::USR2,
        }
    }
}

/// How a worker ended.
struct Ended {
    status: ExitStatus,
    was_ready: bool,
    lived: Duration,
}

impl Supervisor {
    async fn keep(&mut self) -> Result<ExitCode, CliError> {
        let (mut crashes, mut failed_starts, mut was_ever_ready) = (0_u32, 0_u32, false);
        loop {
            let ended = self.one_worker().await?;
            was_ever_ready |= ended.was_ready;
            if self.is_ending || ended.status.success() {
                return Ok(ExitCode::SUCCESS);
            }
            failed_starts = if ended.was_ready { 0 } else { failed_starts + 1 };
            if !was_ever_ready || failed_starts >= MAX_FAILED_STARTS {
                return Ok(ExitCode::from(ended.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Failed as u8)));
            }
            crashes = if ended.lived >= STABLE_TIME { 0 } else { crashes };
            let wait = backoff(crashes);
            crashes += 1;
            output::talk(&format!("hotspare: the service ended ({}) and is started again", ended.status));
            if self.is_told_to_end(wait).await {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// Waits before a restart. True if the service has to end meanwhile.
    async fn is_told_to_end(&mut self, wait: Duration) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                signal = self.signals.next() => if matches!(signal, Signal::TERM | Signal::USR1) { return true },
                () = tokio::time::sleep_until(until) => return false,
            }
        }
    }

    /// Starts a worker and follows it to its end.
    async fn one_worker(&mut self) -> Result<Ended, CliError> {
        let begun = Instant::now();
        let (mut worker, mut lines) = self.start()?;
        let (mut was_ready, mut may_say_more) = (false, true);
        loop {
            tokio::select! {
                status = worker.wait() => return Ok(Ended { status: status?, was_ready, lived: begun.elapsed() }),
                line = lines.next_line(), if may_say_more => match line {
                    Ok(Some(line)) if line.as_bytes() == READY.trim_ascii_end() => {
                        was_ready = true;
                        self.report_ready();
                    }
                    Ok(Some(line)) if line.as_bytes() == ENDING.trim_ascii_end() => self.end(),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => may_say_more = false,
                },
                signal = self.signals.next() => {
                    match signal {
                        Signal::TERM => self.end(),
                        // The worker takes connections for a while yet; it is not started again.
                        Signal::USR1 => self.is_ending = true,
                        _ => {}
                    }
                    if let Some(pid) = worker.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                        // A worker that has just ended needs no signal.
                        let _ = kill_process(pid, signal);
                    }
                }
            }
        }
    }

    fn start(&self) -> Result<(Child, Lines<BufReader<ChildStdout>>), CliError> {
        let listener = self.listener.as_ref().ok_or_else(|| CliError::new(Exit::Failed, "the port is closed"))?;
        let failed = |error: io::Error| CliError::new(Exit::Failed, format!("cannot start `{}`: {error}", self.program));
        let mut worker = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::from(listener.as_fd().try_clone_to_owned()?))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdout = worker.stdout.take().ok_or_else(|| failed(io::Error::other("it has no output")))?;
        Ok((worker, BufReader::new(stdout).lines()))
    }

    /// No further worker is started, and nothing waits at the port any more.
    fn end(&mut self) {
        self.is_ending = true;
        self.listener = None;
    }

    /// Tells the process that hands over to this one.
    fn report_ready(&mut self) {
        if std::mem::take(&mut self.reports_ready) {
            // It goes on by itself where it has not waited so long.
            let _ = io::stdout().write_all(READY).and_then(|()| io::stdout().flush());
        }
    }
}

/// The wait before a restart, after so many others in a row.
fn backoff(crashes: u32) -> Duration {
    match crashes {
        0 => Duration::ZERO,
        more => FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(more - 1)).min(MAX_BACKOFF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_is_none_at_first_and_bounded() {
        let waits: Vec<u128> = (0..9).map(|crashes| backoff(crashes).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff(u32::MAX), MAX_BACKOFF);
    }
}
