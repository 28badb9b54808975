//! The `core` crate; its rooms follow.
