//! Knows the formats of the Messages API: bytes in, facts out. Never opens a socket, and never rewrites a byte it was not asked to.

pub mod betas;
pub mod failure;
pub mod history;
pub mod limits;
pub mod messages;
pub mod mint;
mod refusal;
pub mod repair;
pub mod resume;
pub mod side_traffic;
pub mod sniff;
pub mod splice;
pub mod sse;
pub mod stream;
pub mod tool_id;
pub mod transcript;
