//! Tells a want of file descriptors from a failure of anybody else's. Never frees one, and never raises a limit.

use std::fs::File;
use std::io;

use hotspare_core::{Failure, FailureKind, Stage};

/// `EMFILE` and `ENFILE`, the same on Linux and macOS; Windows' `WSAEMFILE`. The standard library has no kind for them.
#[cfg(not(windows))]
const OF_PROCESS: i32 = 24;
#[cfg(not(windows))]
const OF_MACHINE: i32 = 23;
#[cfg(windows)]
const OF_PROCESS: i32 = 10024;
#[cfg(windows)]
const OF_MACHINE: i32 = 4;

/// The failure, where an error says that no descriptor is left.
pub(crate) fn failure_of(error: &io::Error) -> Option<Failure> {
    let words = match error.raw_os_error()? {
        OF_PROCESS => "hotspare has no file descriptor left (`ulimit -n`)",
        OF_MACHINE => "this machine has no file descriptor left",
        _ => return None,
    };
    Some(Failure::new(FailureKind::OutOfDescriptors, Stage::Connect, words))
}

/// The same where an error lost its cause on the way, as the system's look-up of names and programs do: opens one, and looks.
pub(crate) fn failure_now() -> Option<Failure> {
    let nothing = if cfg!(windows) { "NUL" } else { "/dev/null" };
    File::open(nothing).err().as_ref().and_then(failure_of)
}
