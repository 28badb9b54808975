//! Holds what packagers, shells and people in doubt ask for: completions, manual pages, the version, codes.

use serde_json::Value;

use crate::user::User;

#[tokio::test]
async fn completions_manual_and_version_come_from_the_one_command_line() {
    let user = User::new().env("HOME", "");
    for (shell, words) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef hotspare"),
        ("fish", "complete -c hotspare"),
        ("elvish", "hotspare"),
        ("powershell", "hotspare"),
    ] {
        let script = user.runs(&["completions", shell]).await;
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(script.stdout.contains(words) && script.stdout.contains("statusline"), "{shell}");
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
