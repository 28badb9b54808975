//! Serves clients and drives exchanges. Never decides what a failure means (`core` does) and never reads a format itself (`wire` does).
//!
//! To follow a request open [`forward`]; what is refused before it is in [`guard`] and [`admission`].

pub mod admission;
pub mod answer;
mod body;
mod bound;
pub mod challenge;
mod coding;
mod connections;
pub mod control;
mod credential_files;
pub mod drill;
pub mod forward;
pub mod guard;
mod headers;
mod history;
pub mod holdback;
pub mod hooks;
pub mod identity;
pub mod in_flight;
pub mod intercept;
pub mod lasting;
mod limits;
mod logins;
pub mod metrics;
pub mod notices;
mod outlook;
pub mod outside;
mod peer;
pub mod proof;
mod recent;
pub mod record;
pub mod reload;
pub mod replay;
pub mod server;
pub mod session_folder;
pub mod sessions;
pub mod snapshot;
pub mod status;

pub use connections::{serve, serve_connection};
pub use intercept::{Authority, Terminator};
pub use outside::Outside;
pub use record::{Event, Observer};
pub use reload::Reload;
pub use server::{DirectOrigin, Gateway, Options, ServeError};
pub use snapshot::Snapshot;
pub use status::Status;
