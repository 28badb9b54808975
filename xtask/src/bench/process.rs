//! Starts what is measured, reads what the kernel knows of it, and ends it. Never touches a process that it did not start.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Longest time for a process to say that it is ready.
const START: Duration = Duration::from_secs(15);

/// The kernel counts processor time for user space in hundredths of a second, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process that ends with this value.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts a process and reads the first line with `marker` that it says on standard error.
    pub(super) fn start_and_listen(command: &mut Command, marker: &'static str) -> anyhow::Result<(Self, String)> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let process = Self { child };
        let line = first_line(stderr, marker)?;
        Ok((process, line))
    }

    /// Starts a process that lives as long as its standard input is open, and reads the first line it prints.
    pub(super) fn start_and_read(command: &mut Command) -> anyhow::Result<(Self, String)> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let process = Self { child };
        let line = first_line(stdout, "")?;
        Ok((process, line))
    }

    /// Starts a process and asks `ready` until it says yes.
    pub(super) fn start_until(command: &mut Command, ready: impl Fn() -> bool) -> anyhow::Result<Self> {
        let mut process = Self { child: command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()? };
        let begun = Instant::now();
        while !ready() {
            if let Some(status) = process.child.try_wait()? {
                bail!("ended at once with {status}");
            }
            if begun.elapsed() > START {
                bail!("not ready after {} s", START.as_secs());
            }
            thread::yield_now();
        }
        Ok(process)
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        self.status_bytes("VmRSS:")
    }

    /// The most resident memory so far, in bytes.
    pub(super) fn peak(&self) -> anyhow::Result<f64> {
        self.status_bytes("VmHWM:")
    }

    /// Processor time so far, in seconds, of all threads.
    pub(super) fn processor(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name, in brackets, and may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("an odd /proc/PID/stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("an odd /proc/PID/stat");
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    fn status_bytes(&self, key: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key} in /proc/PID/status"))?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing that is measured here has anything to put in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of a stream that contains `marker`; the rest is read and thrown away, so that the writer never stalls.
fn first_line(stream: impl std::io::Read + Send + 'static, marker: &'static str) -> anyhow::Result<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        // A receiver that is gone has given up waiting.
        let _ = sender.send(lines.find(|line| line.contains(marker)));
        lines.for_each(drop);
    });
    receiver.recv_timeout(START).context("said nothing")?.with_context(|| format!("ended without a line with `{marker}`"))
}
