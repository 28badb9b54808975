//! Where a test may end this process: between two steps of a change. Never does anything in a release.

/// One more step is done. Where `HOTSPARE_TEST_DIE_AT_STEP` names its number, a debug build ends here as by `kill -9`.
#[cfg(debug_assertions)]
pub(crate) fn reached() {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static DONE: AtomicU32 = AtomicU32::new(0);
    let step = DONE.fetch_add(1, Ordering::Relaxed) + 1;
    let wanted = std::env::var("HOTSPARE_TEST_DIE_AT_STEP").ok().and_then(|wanted| wanted.parse().ok());
    if wanted == Some(step) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn reached() {}
