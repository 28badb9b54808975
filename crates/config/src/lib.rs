//! The `config` crate; its rooms follow.
