//! One thing that was looked at. Never looks itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DOCS;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// Well.
    Ok,
    /// Good to know; nothing is wrong.
    Note,
    /// It works, and may not for long, or not as meant.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Check {
    /// Its name; also its heading in `docs/doctor.md`.
    pub name: String,
    /// How it is.
    pub mark: Mark,
    /// What was found.
    pub found: String,
    /// Why that matters; none where all is well.
    pub cause: Option<String>,
    /// What to type.
    pub command: Option<String>,
    /// Where to read on.
    pub docs: String,
    /// What `--fix` has done, and its way back.
    pub fixed: Vec<String>,
}

impl Check {
    fn new(name: &str, mark: Mark, found: impl Into<String>) -> Self {
        let docs = format!("{DOCS}#{name}");
        Self { name: name.to_owned(), mark, found: found.into(), cause: None, command: None, docs, fixed: Vec::new() }
    }

    /// All is well.
    pub(super) fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Mark::Ok, found)
    }

    /// Good to know.
    pub(super) fn note(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Mark::Note, found)
    }

    /// Worth a look.
    pub(super) fn warn(name: &str, found: impl Into<String>, cause: impl Into<String>, command: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), command: Some(command.into()), ..Self::new(name, Mark::Warn, found) }
    }

    /// To be mended.
    pub(super) fn fail(name: &str, found: impl Into<String>, cause: impl Into<String>, command: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), command: Some(command.into()), ..Self::new(name, Mark::Fail, found) }
    }

    /// With what to type, where nothing is wrong.
    pub(super) fn with_command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}
