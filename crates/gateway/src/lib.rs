//! The `gateway` crate; its rooms follow.
