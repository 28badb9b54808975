//! Reads what a hook said: its exit code, its JSON, its reason. Never believes more than the format has, and never fails.

use hotspare_core::HookEvent;
use hotspare_core::record::{HookWord, words};
use serde::Deserialize;

use super::{Called, Ending, OUTPUT_CAP};

/// The exit code that blocks, as in Claude Code's hooks.
const BLOCKS: i32 = 2;

/// Most characters of a profile's name in a hook's answer; a configuration has shorter ones.
const NAME_CAP: usize = 60;

/// What a hook said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Go on.
    Allow {
        /// Why, in its own words.
        reason: Option<String>,
    },
    /// Not this retry, or not this profile.
    Block {
        /// Why, in its own words.
        reason: Option<String>,
    },
    /// Another profile.
    Use {
        /// Its name.
        profile: String,
        /// Why, in the hook's own words.
        reason: Option<String>,
    },
    /// Nothing that counts; what was wrong. The request goes on.
    Nothing(String),
}

/// What all of them together mean: any veto counts, else the first other profile that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Not this retry, or not this profile.
    Block,
    /// This profile instead.
    Use(String),
}

impl Verdict {
    /// Of what each hook said, in their order.
    pub fn of<'s>(said: impl Iterator<Item = &'s Said>) -> Self {
        let mut verdict = Self::Allow;
        for one in said {
            match one {
                Said::Block { .. } => return Self::Block,
                Said::Use { profile, .. } if verdict == Self::Allow => verdict = Self::Use(profile.clone()),
                Said::Use { .. } | Said::Allow { .. } | Said::Nothing(_) => {}
            }
        }
        verdict
    }
}

impl Said {
    /// The same, but a profile that may not be asked is nothing that counts.
    #[must_use]
    pub fn within(self, candidates: &[String]) -> Self {
        match self {
            Self::Use { profile, .. } if !candidates.contains(&profile) => {
                Self::Nothing(format!("named `{profile}`, which is no candidate"))
            }
            said => said,
        }
    }

    /// The word for records, the profile and the reason.
    pub fn parts(self) -> (HookWord, Option<String>, Option<String>) {
        match self {
            Self::Allow { reason } => (HookWord::Allow, None, reason),
            Self::Block { reason } => (HookWord::Block, None, reason),
            Self::Use { profile, reason } => (HookWord::Use, Some(profile), reason),
            Self::Nothing(problem) => (HookWord::Nothing, None, Some(problem)),
        }
    }
}

/// `{"decision": …}`. What else stands there is for others.
#[derive(Deserialize)]
struct Answer {
    decision: Option<String>,
    profile: Option<String>,
    reason: Option<String>,
}

/// What a hook of this event said.
pub fn said(event: HookEvent, called: &Called) -> Said {
    match &called.ending {
        Ending::Exited(0) | Ending::Answered(200..=299) => answer(event, &called.output),
        Ending::Exited(BLOCKS) if event.rules() => Said::Block { reason: line(&String::from_utf8_lossy(&called.errors)) },
        Ending::Exited(code) => {
            let words = line(&String::from_utf8_lossy(&called.errors)).map_or_else(String::new, |words| format!(": {words}"));
            Said::Nothing(format!("ended with exit code {code}{words}"))
        }
        Ending::Signalled(signal) => Said::Nothing(format!("was ended by signal {signal}")),
        Ending::Answered(status) => Said::Nothing(format!("answered {status}")),
        Ending::TimedOut => Said::Nothing(format!("was not over after {:.1} s", called.took.as_secs_f64())),
        Ending::Flooded => Said::Nothing(format!("printed more than {} KiB", OUTPUT_CAP / 1024)),
        Ending::Failed(why) => Said::Nothing(why.clone()),
    }
}

fn answer(event: HookEvent, output: &[u8]) -> Said {
    // Whoever is only told has nothing to decide.
    if !event.rules() || output.iter().all(u8::is_ascii_whitespace) {
        return Said::Allow { reason: None };
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(output) else {
        return Said::Nothing("printed no JSON with a decision".to_owned());
    };
    let reason = answer.reason.as_deref().and_then(line);
    match (answer.decision.as_deref(), answer.profile) {
        (None | Some("allow"), _) => Said::Allow { reason },
        (Some("block"), _) => Said::Block { reason },
        (Some("use"), Some(profile)) => Said::Use { profile: words(&profile).chars().take(NAME_CAP).collect(), reason },
        (Some("use"), None) => Said::Nothing("said `use` and no `profile`".to_owned()),
        (Some(other), _) => Said::Nothing(format!("said `{}`, which is no decision", words(other))),
    }
}

/// One line for people; none: nothing is left.
fn line(text: &str) -> Option<String> {
    let line = words(text.trim());
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn called(ending: Ending, output: &str, errors: &str) -> Called {
        Called { ending, output: output.as_bytes().to_vec(), errors: errors.as_bytes().to_vec(), took: Duration::from_millis(2500) }
    }

    fn to(ending: Ending, output: &str, errors: &str) -> Said {
        said(HookEvent::PreFailover, &called(ending, output, errors))
    }

    fn allow(reason: Option<&str>) -> Said {
        Said::Allow { reason: reason.map(str::to_owned) }
    }

    fn block(reason: Option<&str>) -> Said {
        Said::Block { reason: reason.map(str::to_owned) }
    }

    #[test]
    fn a_decision_is_json_after_exit_code_0() {
        let ok = |output| to(Ending::Exited(0), output, "");
        assert_eq!(ok(""), allow(None));
        assert_eq!(ok(" \n"), allow(None));
        assert_eq!(ok("{}"), allow(None));
        assert_eq!(ok(r#"{"decision":"allow","reason":"cheap"}"#), allow(Some("cheap")));
        assert_eq!(ok(r#"{"decision":"block","reason":" at\nnight ","more":[1]}"#), block(Some("at night")));
        let meant = Said::Use { profile: "local".to_owned(), reason: Some("free".to_owned()) };
        assert_eq!(ok(r#"{"decision":"use","profile":"local","reason":"free"}"#), meant);
        assert_eq!(to(Ending::Answered(204), "", ""), allow(None));
        assert_eq!(to(Ending::Answered(200), r#"{"decision":"block"}"#, ""), block(None));
    }

    #[test]
    fn exit_code_2_blocks_where_something_can_be_blocked() {
        assert_eq!(to(Ending::Exited(2), r#"{"decision":"allow"}"#, "not at night\n"), block(Some("not at night")));
        assert_eq!(to(Ending::Exited(2), "", ""), block(None));
        let told = said(HookEvent::PostFailover, &called(Ending::Exited(2), "", "no"));
        assert_eq!(told, Said::Nothing("ended with exit code 2: no".to_owned()));
        let told = said(HookEvent::PostFailover, &called(Ending::Exited(0), r#"{"decision":"block"}"#, ""));
        assert_eq!(told, allow(None), "there is nothing to block any more");
    }

    #[test]
    fn anything_else_says_nothing_that_counts() {
        for (ending, output, errors, problem) in [
            (Ending::Exited(1), r#"{"decision":"block"}"#, "boom", "ended with exit code 1: boom"),
            (Ending::Exited(0), "block", "", "printed no JSON with a decision"),
            (Ending::Exited(0), "[]", "", "printed no JSON with a decision"),
            (Ending::Exited(0), r#"{"decision":true}"#, "", "printed no JSON with a decision"),
            (Ending::Exited(0), r#"{"decision":"deny"}"#, "", "said `deny`, which is no decision"),
            (Ending::Exited(0), r#"{"decision":"use"}"#, "", "said `use` and no `profile`"),
            (Ending::Answered(307), r#"{"decision":"block"}"#, "", "answered 307"),
            (Ending::Answered(500), "", "", "answered 500"),
            (Ending::Signalled(9), "", "", "was ended by signal 9"),
            (Ending::TimedOut, "", "", "was not over after 2.5 s"),
            (Ending::Flooded, "", "", "printed more than 64 KiB"),
            (Ending::Failed("cannot be started: no such file".to_owned()), "", "", "cannot be started: no such file"),
        ] {
            assert_eq!(to(ending, output, errors), Said::Nothing(problem.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_printed_is_read_without_harm(output in prop::collection::vec(any::<u8>(), 0..200), errors in prop::collection::vec(any::<u8>(), 0..400), code in 0..4) {
            let called = Called { ending: Ending::Exited(code), output, errors, took: Duration::ZERO };
            let text = match said(HookEvent::PreRetry, &called) {
                Said::Allow { reason } | Said::Block { reason } => reason.unwrap_or_default(),
                Said::Use { profile, reason } => profile + &reason.unwrap_or_default(),
                Said::Nothing(problem) => problem,
            };
            prop_assert!(!text.chars().any(char::is_control) && text.chars().count() <= 300);
        }
    }
}
