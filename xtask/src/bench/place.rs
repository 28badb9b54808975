//! Decides which processor core runs what, so that two proxies are compared on equal terms. Never changes anything but this process and what it starts.
//!
//! Left alone, the kernel sometimes keeps client, proxy and upstream together and sometimes apart, by chance and for minutes. Waking another core costs more
//! than all the work of a proxy, so figures from different placements say nothing about each other.

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the proxy runs. Client and upstream always share a core: one of them sleeps while the other works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// Beside them: what is added is the proxy's own work, and the switches to it.
    Together,
    /// On another core: as on a machine with cores to spare, waking up included.
    Apart,
}

impl Placement {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Together => "one core",
            Self::Apart => "two cores",
        }
    }
}

/// The cores that this process may use.
#[derive(Debug)]
pub(super) struct Cores {
    all: CpuSet,
    first: CpuSet,
    second: Option<CpuSet>,
}

impl Cores {
    /// Asks the kernel.
    pub(super) fn find() -> anyhow::Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).map(only);
        let first = usable.next().context("no processor core")?;
        let second = usable.next();
        Ok(Self { all, first, second })
    }

    /// The placements that this machine has cores for.
    pub(super) fn placements(&self) -> Vec<Placement> {
        let mut placements = vec![Placement::Together];
        placements.extend(self.second.map(|_| Placement::Apart));
        placements
    }

    /// Moves this process to the client's core. What it starts from now on runs there too.
    pub(super) fn gather(&self) -> anyhow::Result<()> {
        Ok(sched_setaffinity(None, &self.first)?)
    }

    /// Lets this process, and what it starts from now on, run anywhere again.
    pub(super) fn scatter(&self) -> anyhow::Result<()> {
        Ok(sched_setaffinity(None, &self.all)?)
    }

    /// Starts a proxy on its core; this process is back on the client's afterwards.
    pub(super) fn start<T>(&self, placement: Placement, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        if let (Placement::Apart, Some(second)) = (placement, &self.second) {
            sched_setaffinity(None, second)?;
        }
        let started = start();
        self.gather()?;
        started
    }
}

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}
