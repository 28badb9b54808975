//! Holds what the status line shows of a running gateway, beside the user's own command, and how long it takes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use tokio::io::AsyncWriteExt;

use crate::user::{Ended, User, asks, ended};

/// `hotspare statusline` with this on its stdin, as the client calls it.
async fn line(user: &User, arguments: &[&str], stdin: &str) -> Ended {
    let mut child = user.command(&[&["statusline"], arguments].concat()).stdin(Stdio::piped()).spawn().expect("started");
    let mut pipe = child.stdin.take().expect("piped");
    // It may have ended without reading.
    let _ = pipe.write_all(stdin.as_bytes()).await;
    drop(pipe);
    ended(child).await
}

fn is(ended: &Ended, expected: &str) {
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), expected, ""));
}

#[tokio::test]
async fn it_tells_of_the_spare_and_of_nothing_while_all_is_well() {
    let primary = Upstream::sequence(vec![Script::error(529, "overloaded_error", "Overloaded")]).await.expect("a primary");
    let spare = Upstream::sequence(vec![Script::new().sse().events(&text("Hello")).end()]).await.expect("a spare");
    let user = User::new().pair(&primary.url(), &spare.url()).env("NO_COLOR", "1");
    is(&line(&user, &[], "{}").await, "✖ hotspare down · hotspare doctor\n");
    let (mut serve, address, _) = user.serves().await;
    is(&line(&user, &[], "{}").await, "");
    let token = user.local_token();
    let headers = format!("x-hotspare-token: {token}\r\nauthorization: Bearer sk-ant-test\r\ncontent-type: application/json");
    // A model without a price: what an answer costs is in the ledger a moment later.
    let body = r#"{"model":"claude-opus-99","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let answer = asks(address, &headers, body).await;
    assert!(answer.contains("x-hotspare-profile: backup"), "{answer}");
    is(&line(&user, &[], "{}").await, "⇄ backup (work 529)\n");
    let coloured = User::env(user, "NO_COLOR", "");
    is(&line(&coloured, &[], "{}").await, "\u{1b}[33m⇄ backup (work 529)\u{1b}[0m\n");
    serve.kill().await.expect("ended");
    is(&line(&coloured, &["--wrap", "cat"], "main").await, "\u{1b}[31m✖ hotspare down · hotspare doctor\u{1b}[0m │ main\n");
}

#[tokio::test]
async fn the_user_s_own_line_gets_the_same_stdin_and_a_broken_one_hides_nothing() {
    let user = User::new().env("NO_COLOR", "1");
    let down = "✖ hotspare down · hotspare doctor";
    let json = r#"{"session_id":"5f0c","model":{"display_name":"Opus"}}"#;
    is(&line(&user, &["--wrap", "cat; echo; echo second"], json).await, &format!("{down} │ {json}\nsecond\n"));
    for broken in ["exit 3", "no-such-command", "echo half; exit 1", "kill -9 $$", "'"] {
        is(&line(&user, &["--wrap", broken], json).await, &format!("{down}\n"));
    }
    let large = "head -c 300000 /dev/zero | tr '\\0' x";
    let ended = line(&user, &["--wrap", large], json).await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.starts_with(down) && ended.stdout.len() < 70_000, "{}", ended.stdout.len());
}

#[tokio::test]
async fn a_line_that_never_ends_is_ended_with_all_that_it_started() {
    let user = User::new().env("NO_COLOR", "1");
    let wrap = format!("sleep 300 & echo $! > {}; wait", user.path("pid").display());
    let begun = Instant::now();
    is(&line(&user, &["--wrap", &wrap], "{}").await, "✖ hotspare down · hotspare doctor\n");
    assert!(begun.elapsed() >= Duration::from_secs(5) && begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let pid = std::fs::read_to_string(user.path("pid")).expect("it ran");
    let gone = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    // It was killed; on a busy machine it takes a moment to go.
    let dies = async {
        while !gone(pid.trim()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dies).await.unwrap_or_else(|_| panic!("{pid} outlived its status line"));
}
