//! Finds which Claude Code is installed, and whether hotspare was tried with it. Never starts a session: it only asks for the version.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::super::check::Check;

/// The client may take so long to say its version.
const VERSION_TIME: Duration = Duration::from_secs(3);

/// Most bytes of that.
const VERSION_CAP: usize = 200;

/// The version that the end-to-end tests run with, and that everything was measured on.
pub(crate) const TESTED: Version = Version([2, 1, 332]);

/// Older ones mark no prompt cache behind a gateway.
const OLDEST: Version = Version([2, 1, 237]);

/// Versions that broke with every gateway, and the one that mended it.
const BROKEN: [(Version, Version); 3] = [
    (Version([2, 1, 265]), Version([2, 1, 268])),
    (Version([2, 1, 275]), Version([2, 1, 276])),
    (Version([2, 1, 304]), Version([2, 1, 305])),
];

/// `2.1.332`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version([u32; 3]);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0[0], self.0[1], self.0[2])
    }
}

impl Version {
    /// The first word that is three numbers.
    fn read(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let mut numbers = word.split('.').map(|part| part.parse::<u32>().ok());
            let three = [numbers.next()??, numbers.next()??, numbers.next()??];
            numbers.next().is_none().then_some(Self(three))
        })
    }
}

/// Whether hotspare was tried with the client that is installed.
pub(crate) async fn version() -> Check {
    let child = Command::new("claude").arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(VERSION_TIME, child).await {
        Err(_) => Check::warn("client", "`claude --version` does not answer", "its version cannot be told", "claude --version"),
        Ok(Err(_)) => Check::note("client", "Claude Code is not on the path; any program with an Anthropic SDK works too"),
        Ok(Ok(output)) => judged(&String::from_utf8_lossy(&output.stdout[..output.stdout.len().min(VERSION_CAP)])),
    }
}

fn judged(said: &str) -> Check {
    let Some(version) = Version::read(said) else {
        return Check::note("client", "`claude --version` says no version that can be read");
    };
    let found = format!("Claude Code {version}");
    if let Some((_, mended)) = BROKEN.iter().find(|(broken, mended)| (*broken..*mended).contains(&version)) {
        let cause = format!("this version failed behind every gateway; {mended} mended it");
        return Check::fail("client", found, cause, "claude update");
    }
    if version < OLDEST {
        let cause =
            format!("hotspare was tried with {TESTED}; before {OLDEST} long conversations lose their prompt cache behind a gateway");
        return Check::warn("client", found, cause, "claude update");
    }
    if version.0[..2] != TESTED.0[..2] {
        let cause = format!("hotspare was tried with {TESTED}: a new series may have other ways; a drill shows whether all is well");
        return Check::warn("client", found, cause, "hotspare drill 529");
    }
    Check::ok(
        "client",
        if version == TESTED { format!("{found}, the one that hotspare was tried with") } else { format!("{found}; tried with {TESTED}") },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::Mark;

    /// The client that the end-to-end tests install.
    const PINNED: &str = include_str!("../../../../../../xtask/e2e/package.json");

    #[test]
    fn tested_version_is_the_pinned_client() {
        let pin = format!("\"@anthropic-ai/claude-code\": \"{TESTED}\"");
        assert!(PINNED.contains(&pin), "{pin} is not in {PINNED}");
    }

    #[test]
    fn versions_are_judged_by_what_is_known_of_them() {
        let cases = [
            ("2.1.332 (Claude Code)\n", Mark::Ok),
            ("2.1.340 (Claude Code)", Mark::Ok),
            ("2.1.268", Mark::Ok),
            ("2.1.265 (Claude Code)", Mark::Fail),
            ("2.1.267", Mark::Fail),
            ("2.1.275", Mark::Fail),
            ("2.1.304", Mark::Fail),
            ("2.1.305", Mark::Ok),
            ("2.1.100", Mark::Warn),
            ("1.0.0", Mark::Warn),
            ("2.2.0", Mark::Warn),
            ("3.0.1", Mark::Warn),
            ("claude: a wrapper", Mark::Note),
            ("", Mark::Note),
        ];
        for (said, mark) in cases {
            assert_eq!(judged(said).mark, mark, "{said}");
        }
    }
}
