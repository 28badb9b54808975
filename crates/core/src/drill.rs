//! Names the faults that a drill injects, and marks what came of one. Never injects a fault: that is the gateway's business.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a drill makes of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Fault {
    /// 429 for some seconds: a throttle.
    #[serde(rename = "429")]
    Throttled,
    /// 429: the five-hour window of a subscription is used up.
    #[serde(rename = "5h")]
    FiveHours,
    /// 529 overloaded.
    #[serde(rename = "529")]
    Overloaded,
    /// 500.
    #[serde(rename = "500")]
    ServerError,
    /// 401: the credential is refused.
    #[serde(rename = "401")]
    Unauthorized,
    /// It takes the request and never answers.
    #[serde(rename = "timeout")]
    Timeout,
    /// It resets the connection before it answers.
    #[serde(rename = "reset")]
    Reset,
    /// It answers with pings and never says a word.
    #[serde(rename = "slow")]
    Slow,
    /// Its answer breaks in the middle of a sentence.
    #[serde(rename = "midstream")]
    Midstream,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 9] = [
        Self::Throttled,
        Self::FiveHours,
        Self::Overloaded,
        Self::ServerError,
        Self::Unauthorized,
        Self::Timeout,
        Self::Reset,
        Self::Slow,
        Self::Midstream,
    ];

    /// The word that stands for it on the command line, in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Throttled => "429",
            Self::FiveHours => "5h",
            Self::Overloaded => "529",
            Self::ServerError => "500",
            Self::Unauthorized => "401",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Slow => "slow",
            Self::Midstream => "midstream",
        }
    }

    /// The fault of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.word() == word)
    }

    /// What the profile does, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Throttled => "429, throttled for 20 s",
            Self::FiveHours => "429, the 5h window is used up",
            Self::Overloaded => "529 overloaded",
            Self::ServerError => "500 api error",
            Self::Unauthorized => "401, the credential is refused",
            Self::Timeout => "no answer at all",
            Self::Reset => "the connection is reset",
            Self::Slow => "pings, and never a word",
            Self::Midstream => "the answer breaks in the middle of a sentence",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Marks an exchange that a drill had a hand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct DrillMark {
    /// What was injected.
    pub fault: Fault,
    /// A real request met it, because the user said so. Else all of it was simulated, the spare's answer too, and no token was spent.
    pub live: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for fault in Fault::ALL {
            assert_eq!(Fault::of_word(fault.word()), Some(fault));
        }
        assert_eq!(Fault::of_word("404"), None);
    }
}
