//! Hands a notice to the desktop with the program that it brings. Never through a shell, and no text of others is ever an option, markup
//! or part of a script: it is one argument, cleaned (security.md T19).

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Longest that the desktop's program may take.
const DESKTOP_TIME: Duration = Duration::from_secs(5);

/// Most characters of a notice.
const TEXT_CAP: usize = 240;

const TITLE: &str = "hotspare";

/// All that the program gets of our environment: how to reach the desktop. No key is among it.
const ENVIRONMENT: [&str; 10] = [
    "PATH",
    "HOME",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "XDG_DATA_DIRS",
    "DBUS_SESSION_BUS_ADDRESS",
    "LANG",
    "LC_ALL",
];

/// Shows it, where there is a desktop; a desktop that refuses is no news for anybody.
pub(super) async fn show(text: &str) {
    let Some(argv) = argv(text, std::env::consts::OS, &|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) else {
        return;
    };
    let environment = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let started = Command::new(&argv[0])
        .args(&argv[1..])
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(DESKTOP_TIME, started).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(ended) => tracing::debug!(?ended, "the desktop shows no notice"),
        Err(_) => tracing::debug!("the desktop's program did not end in time"),
    }
}

/// Whether there is a desktop that we know how to reach.
pub(crate) fn has_desktop() -> bool {
    argv("", std::env::consts::OS, &is_set).is_some()
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The program and its arguments; none: there is no desktop, or none that we know how to reach.
fn argv(text: &str, os: &str, is_set: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
    let text = clean(text);
    let arguments: &[&str] = match os {
        "macos" => &[
            "osascript",
            "-e",
            "on run argv",
            "-e",
            "display notification (item 1 of argv) with title (item 2 of argv)",
            "-e",
            "end run",
            &text,
            TITLE,
        ],
        "windows" => return None,
        _ if is_set("DISPLAY") || is_set("WAYLAND_DISPLAY") => &["notify-send", "--app-name", TITLE, "--", TITLE, &text],
        _ => return None,
    };
    Some(arguments.iter().map(|argument| (*argument).to_owned()).collect())
}

/// One line that no desktop takes for markup and no program for an option.
fn clean(text: &str) -> String {
    let cleaned: String = text
        .chars()
        .map(|char| match char {
            '<' => '‹',
            '>' => '›',
            '&' => '+',
            '\\' => '/',
            char if char.is_control() => ' ',
            char => char,
        })
        .take(TEXT_CAP)
        .collect();
    cleaned.trim_start_matches(['-', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAUGHTY: [&str; 8] = [
        "--help",
        "-e do shell script \"true\"",
        "<b>bold</b> & <a href='http://example.com'>link</a>",
        "a\u{1b}]0;title\u{7}b\r\nc\u{0}d",
        "\" & (do shell script \"touch /tmp/x\") & \"",
        "$(touch /tmp/x) `touch /tmp/x`; touch /tmp/x",
        "{{template}} %s %n \\u0000",
        "",
    ];

    #[test]
    fn t19_a_text_of_others_is_one_argument_and_never_an_option() {
        for text in NAUGHTY {
            for (os, at, of) in [("linux", 5, 6), ("macos", 7, 9)] {
                let argv = argv(text, os, &|_| true).expect("a desktop");
                assert_eq!(argv.len(), of, "{argv:?}");
                assert!(
                    !argv[at].starts_with('-') && !argv[at].chars().any(|char| char.is_control() || "<>&\\".contains(char)),
                    "{argv:?}"
                );
                let plain = self::argv("x", os, &|_| true).expect("a desktop");
                let others = |argv: &[String]| {
                    argv.iter().enumerate().filter(|(place, _)| *place != at).map(|(_, argument)| argument.clone()).collect::<Vec<_>>()
                };
                assert_eq!(others(&argv), others(&plain), "nothing else depends on the text");
            }
        }
    }

    #[test]
    fn without_a_desktop_nothing_is_started() {
        assert_eq!(argv("x", "linux", &|_| false), None);
        assert!(argv("x", "linux", &|name| name == "WAYLAND_DISPLAY").is_some());
        assert_eq!(argv("x", "windows", &|_| true), None);
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(clean(&"x".repeat(1000)).chars().count(), TEXT_CAP);
    }
}
