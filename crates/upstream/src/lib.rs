//! The `upstream` crate; its rooms follow.
