//! Full mode: we are the HTTPS proxy of one client. Its provider's host is terminated, every other one tunnelled blindly. Never trusted by
//! anyone but that client, and never open without the local token.

pub mod authority;
pub mod terminator;

/// The one host that is terminated.
pub const HOST: &str = "api.anthropic.com";
