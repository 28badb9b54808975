//! The `wire` crate; its rooms follow.
