//! What went wrong, for people, with the exit code that stands for it. Never holds a secret.

use std::fmt;

/// Exit codes, a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It failed.
    Failed = 1,
    /// What was typed makes no sense.
    Usage = 2,
    /// Nothing of ours is running.
    NotRunning = 3,
    /// A login or key is missing.
    LoginNeeded = 4,
    /// The configuration is not valid.
    ConfigInvalid = 5,
    /// Every profile has failed, or there is none to go on to.
    Exhausted = 6,
    /// A provider is down.
    ProviderOutage = 7,
    /// This machine, its network or its set-up.
    LocalNetwork = 8,
    /// The account: a limit, a bill or a login.
    AccountLimit = 9,
    /// The command could not be started.
    CannotStart = 127,
}

impl Exit {
    /// Every one.
    pub(crate) const ALL: [Self; 10] = [
        Self::Failed,
        Self::Usage,
        Self::NotRunning,
        Self::LoginNeeded,
        Self::ConfigInvalid,
        Self::Exhausted,
        Self::ProviderOutage,
        Self::LocalNetwork,
        Self::AccountLimit,
        Self::CannotStart,
    ];

    /// What it means, and what to do.
    pub(crate) fn explained(self) -> (&'static str, &'static str) {
        match self {
            Self::Failed => ("failed", "read the message: it says what, where and what to do"),
            Self::Usage => ("wrong usage", "`hotspare COMMAND --help`"),
            Self::NotRunning => ("nothing is running", "`hotspare run -- claude`, or `hotspare service start`"),
            Self::LoginNeeded => ("a login or key is missing", "log in, or set the variable that the message names"),
            Self::ConfigInvalid => ("the configuration is not valid", "`hotspare config validate` draws what is wrong"),
            Self::Exhausted => ("no profile is left that could answer", "`hotspare status` says when the next one is tried"),
            Self::ProviderOutage => ("a provider is down (`outage`)", "wait, or name a spare elsewhere"),
            Self::LocalNetwork => ("it is this machine, its network or its set-up (`outage`)", "`hotspare doctor` says what to mend"),
            Self::AccountLimit => ("it is the account: a limit, a bill or a login (`outage`)", "do what `hotspare outage` names for it"),
            Self::CannotStart => ("the command cannot be started", "look whether it is installed and on the PATH"),
        }
    }
}

/// What went wrong.
#[derive(Debug)]
pub(crate) struct CliError {
    exit: Exit,
    message: String,
    hints: Vec<String>,
    /// Already laid out over several lines: printed as it is.
    drawn: bool,
}

impl CliError {
    /// One sentence, without a full stop.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new(), drawn: false }
    }

    /// A drawn report, such as a configuration error with its line.
    pub(crate) fn drawn(exit: Exit, report: String) -> Self {
        Self { exit, message: report, hints: Vec::new(), drawn: true }
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What went wrong, alone.
    pub(crate) fn message(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The code to exit with.
    pub(crate) fn code(&self) -> u8 {
        self.exit as u8
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.drawn {
            write!(f, "{}", self.message.trim_end())?;
        } else {
            write!(f, "hotspare: {}", self.message)?;
        }
        for hint in &self.hints {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

impl From<hotspare_store::Fault> for CliError {
    fn from(fault: hotspare_store::Fault) -> Self {
        Self::new(Exit::Failed, fault.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}
