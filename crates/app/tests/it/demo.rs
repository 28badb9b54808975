//! `hotspare demo`: three failovers, no account, an honest end.

use crate::user::User;

fn is_complete(stdout: &str) {
    for words in [
        "1/3  the primary answers 529 overloaded",
        "2/3  the primary stalls",
        "3/3  the primary's connection breaks",
        "failed: 529 overloaded",
        "Three failures, three whole answers, no error.",
    ] {
        assert!(stdout.contains(words), "{words:?} is not in:\n{stdout}");
    }
    assert_eq!(stdout.matches("client    has the whole answer: \"Retries alone would not have helped").count(), 3, "{stdout}");
    assert_eq!(stdout.matches("and the tests pass.\"").count(), 3, "{stdout}");
}

#[tokio::test]
async fn into_a_pipe_it_writes_plain_lines_and_leaves_nothing() {
    let user = User::new();
    let ended = user.runs(&["demo"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    is_complete(&ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}'), "no colour, no cursor movement: {:?}", ended.stdout);
    assert!(user.everything().is_empty());
}

#[tokio::test]
async fn colour_comes_where_it_is_forced_and_nowhere_else() {
    let forced = User::new().env("CLICOLOR_FORCE", "1").runs(&["demo"]).await;
    assert!(forced.stdout.contains("\u{1b}[1mhotspare demo\u{1b}[0m"), "{:?}", forced.stdout);
    assert!(!forced.stdout.contains("\u{1b}[2K"), "a pipe is not redrawn");
    let plain = User::new().env("NO_COLOR", "1").env("TERM", "xterm-256color").runs(&["demo"]).await;
    assert_eq!(plain.code, Some(0));
    assert!(!plain.stdout.contains('\u{1b}'));
}

/// It needs no home, and takes no notice of a broken configuration.
#[tokio::test]
async fn it_needs_nothing_of_the_user_s() {
    let broken = User::new().config("{ broken").env("ANTHROPIC_BASE_URL", "nonsense").env("HTTPS_PROXY", "http://127.0.0.1:1");
    let homeless = User::new().env("HOME", "");
    for user in [broken, homeless] {
        let ended = user.runs(&["demo"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        is_complete(&ended.stdout);
    }
}
