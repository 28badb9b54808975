//! Holds what packagers, shells and people in doubt ask for: completions, manual pages, the version, codes.

use serde_json::Value;

use crate::user::User;

#[tokio::test]
async fn completions_manual_and_version_come_from_the_one_command_line() {
    let user = User::new().env("HOME", "");
    for (shell, words) in [
        ("bash", "complete -o"),
        ("zsh", "#compdef hotspare"),
        ("fish", "complete --keep-order"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = user.runs(&["completions", shell]).await;
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(script.stdout.contains(words) && script.stdout.contains("HOTSPARE_COMPLETE"), "{shell}: {}", script.stdout);
    }
    user.runs(&["completions", "tcsh"]).await.fails(2, &["bash"]);
    let page = user.runs(&["man"]).await.stdout;
    assert!(page.contains(".TH hotspare 1") && page.contains("hotspare\\-statusline(1)"), "{page}");
    let page = user.runs(&["man", "run"]).await.stdout;
    assert!(page.contains(".TH hotspare-run 1") && page.contains("\\-\\-config"), "{page}");
    user.runs(&["man", "wrong"]).await.fails(2, &["no command is named `wrong`", "--help"]);
    let version = user.runs(&["version"]).await;
    assert_eq!((version.code, version.stdout), (Some(0), user.runs(&["--version"]).await.stdout));
    let json: Value = serde_json::from_str(&user.runs(&["version", "--json"]).await.stdout).expect("JSON");
    assert_eq!((&json["version"], json["hotspare"].as_str()), (&1.into(), Some(env!("CARGO_PKG_VERSION"))), "{json}");
}

#[tokio::test]
async fn a_code_is_explained_as_it_is_met() {
    let user = User::new().env("HOME", "");
    let told = user.runs(&["explain", "error[HS0103]"]).await;
    assert!(told.code == Some(0) && told.stdout.contains("no profile has this name") && told.stdout.contains("do "), "{told:?}");
    let json: Value = serde_json::from_str(&user.runs(&["explain", "overloaded", "--json"]).await.stdout).expect("JSON");
    assert_eq!((&json["codes"][0]["code"], &json["codes"][0]["kind"]), (&"overloaded".into(), &"failure".into()), "{json}");
    let all = user.runs(&["explain"]).await.stdout;
    for code in ["HS0001", "quota_exhausted", "127"] {
        assert!(all.contains(code), "{all}");
    }
    user.runs(&["explain", "overlaoded"]).await.fails(2, &["did you mean `overloaded`?"]);
    user.runs(&["explain", "\u{1b}[2J"]).await.fails(2, &["hotspare explain"]);
}

#[tokio::test]
async fn a_shell_completes_the_user_s_own_names() {
    let mut user = User::new().config(
        r#"{ "profiles": { "work": {}, "spare": { "base_url": "https://api.example.com", "auth": { "env": "NO_SUCH_KEY" } } },
        "failover_policy": { "primary_profile": "work", "secondary_profile": "spare" } }"#,
    );
    for (words, wanted) in [
        (&["switch", ""][..], &["work", "spare", "auto"][..]),
        (&["profile", "pause", "w"], &["work"]),
        (&["drill", "mid"], &["midstream"]),
        (&["hook", "test", "Pre"], &["PreRetry", "PreFailover"]),
        (&["explain", "HS010"], &["HS0103"]),
        (&["explain", "cool"], &["cooling"]),
        (&["config", "set", "failover_policy.clocks.h"], &["failover_policy.clocks.head"]),
        (&["he"], &["help"]),
    ] {
        user = user.env("HOTSPARE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", &words.len().to_string());
        let line: Vec<&str> = ["--", "hotspare"].into_iter().chain(words.iter().copied()).collect();
        let found = user.runs(&line).await;
        let names: Vec<&str> = found.stdout.lines().collect();
        for name in wanted {
            assert!(names.contains(name), "{words:?}: {found:?}");
        }
    }
}

#[tokio::test]
async fn help_shows_pages_and_explains_words() {
    let user = User::new();
    let page = user.runs(&["help", "run"]).await;
    assert!(page.code == Some(0) && page.stdout.contains("hotspare run -- claude"), "{page:?}");
    assert!(user.runs(&["help", "profile", "add"]).await.stdout.contains("--keychain"));
    assert_eq!(user.runs(&["help"]).await.stdout.trim(), user.runs(&["--help"]).await.stdout.trim());
    assert!(user.runs(&["help", "cooling"]).await.stdout.contains("cooldown"));
    user.runs(&["help", "wrong"]).await.fails(2, &["`wrong`"]);
}
