//! Holds the screen at 80 and 120 columns, with and without colour and more than ASCII; and that each check has its place in the docs.

use super::*;
use crate::commands::doctor::features;
use crate::commands::doctor::settings::Setup;
use crate::output::Paint;

const LOOKS: [(&str, Look); 4] = [
    ("80", Look { paint: Paint(false), unicode: true, width: Some(80) }),
    ("120", Look { paint: Paint(false), unicode: true, width: Some(120) }),
    ("80 ascii", Look { paint: Paint(false), unicode: false, width: Some(80) }),
    ("80 color", Look { paint: Paint(true), unicode: true, width: Some(80) }),
];

fn report() -> DoctorReport {
    let checks = vec![
        Check::ok("config", "/home/me/.config/hotspare/config.json, 2 profiles"),
        Check::ok("chain", "work → openrouter-backup"),
        Check::ok("credentials", "work the client's own"),
        Check::fail(
            "credentials",
            "openrouter-backup: environment variable `OPENROUTER_API_KEY` is not set",
            "openrouter-backup is left out of every chain",
            "hotspare profile show openrouter-backup",
        ),
        Check::note("drill", "no drill has proven the way to a spare yet").with_command("hotspare drill 529"),
        Check {
            fixed: vec!["/home/me/.local/state/hotspare/token: mode 644 is now 600; undo: chmod 644 it".to_owned()],
            ..Check::ok("files", "yours alone now")
        },
        Check::warn(
            "key",
            "the environment sets ANTHROPIC_API_KEY, and there is a login",
            "Claude Code then uses the key, which is billed",
            "unset ANTHROPIC_API_KEY",
        ),
        Check::ok("clock", "right"),
    ];
    DoctorReport { version: 1, checks, led: Led::Base, features: features::of(&Setup::default(), Led::Base), failed: 1, warned: 1 }
}

#[test]
fn screens() {
    for (name, look) in LOOKS {
        insta::assert_snapshot!(name, drawn(&report(), false, Path::new("/home/me"), look));
    }
    let full = DoctorReport { led: Led::Full, features: features::of(&Setup::default(), Led::Full), ..report() };
    insta::assert_snapshot!("full 80", drawn(&full, false, Path::new("/home/me"), LOOKS[0].1));
    insta::assert_snapshot!("all 80", drawn(&report(), true, Path::new("/home/me"), LOOKS[0].1));
}

#[test]
fn no_line_is_wider_than_the_screen() {
    for (_, look) in LOOKS.into_iter().filter(|(name, _)| !name.contains("color")) {
        let text = drawn(&report(), true, Path::new("/home/me"), look);
        assert!(text.lines().all(|line| line.chars().count() <= look.width.unwrap_or(usize::MAX)), "{text}");
        assert!(look.unicode || text.is_ascii(), "{text}");
    }
}
