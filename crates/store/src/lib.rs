//! Remembers: the record of every exchange, and what was learned from them, in one SQLite file that several processes share. Never fails
//! or delays a request: while the file cannot be written, everything goes on in memory and [`Store::trouble`] says why.
//!
//! [`Store`] is the one that writes, held by whoever serves; [`Reader`] looks at the same file from any other process.

mod database;
mod pending;
mod reader;
mod rows;
mod state;
mod store;
mod writer;

pub use database::{FILE, Fault};
pub use reader::{Filter, FindError, Listing, Reader, Row, Split, Total, local_clock, local_day};
pub use state::{Change, LONGEST_LIFE, StateEntry};
pub use store::{DEFAULT_RETAIN, Options, Store, Trouble};

use std::time::SystemTime;

/// Milliseconds since 1970 (UTC). A clock that stands before 1970 counts as 1970.
fn now_ms() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
