//! `hotspare config` and the words that need no configuration.

use crate::user::User;

const GOOD: &str = r#"{
  // comments are fine
  "failover_policy": { "primary_profile": "work", "secondary_profile": "backup", "triggers": [500, 502, 503, 504, 429] },
  "profiles": { "work": {}, "backup": { "auth": { "env": "BACKUP_KEY" } }, },
}
"#;

/// cc-switch #612 #1487 #6687, oh-my-openagent #5109, agentgateway #1087: failover configured, and off.
#[tokio::test]
async fn r62_validate_names_the_files_and_the_chain() {
    let user = User::new().config(GOOD);
    let ended = user.runs(&["config", "validate"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("ok ") && ended.stdout.contains("config.json\n  chain  work → backup\n"), "{}", ended.stdout);
    // A list of statuses without 529 is allowed, and worth a word.
    assert!(ended.stderr.contains("warning[") && ended.stderr.contains("529"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_request_s_json_works_in_claude_code_s_own_settings() {
    let policy = r#"{ "failover_policy": { "enabled": true, "primary_profile": "work", "secondary_profile": "backup", "triggers": [500, 502, 503, 504, 529, 429], "max_failover_attempts": 1 } }"#;
    let user = User::new()
        .config(r#"{ "profiles": { "work": {}, "backup": { "auth": { "env": "K" } } } }"#)
        .file("home/.claude/settings.json", policy);
    let ended = user.runs(&["config", "validate"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(
        ended.stdout.contains("config.json") && ended.stdout.contains(".claude/settings.json") && ended.stdout.contains("work → backup")
    );
}

#[tokio::test]
async fn validate_without_a_file_says_what_then_holds() {
    let ended = User::new().runs(&["config", "validate"]).await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stdout.contains("no configuration: the client's own login, no spare")
            && ended.stdout.contains(".config/hotspare/config.json")
    );
}

#[tokio::test]
async fn the_example_in_the_readme_is_valid() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).expect("there");
    let example = readme.split("```jsonc\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let ended = User::new().config(example).runs(&["config", "validate"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout.contains("work → console → openrouter"), "{}", ended.stdout);
}

#[tokio::test]
async fn path_is_one_line_that_a_script_can_use() {
    let user = User::new();
    let expected = format!("{}\n", user.path("home/.config/hotspare/config.json").display());
    assert_eq!(user.runs(&["config", "path"]).await.stdout, expected);
    let elsewhere = User::new().env("XDG_CONFIG_HOME", "/elsewhere");
    assert_eq!(elsewhere.runs(&["config", "path"]).await.stdout, "/elsewhere/hotspare/config.json\n");
}

#[tokio::test]
async fn schema_is_the_published_one() {
    let printed = User::new().runs(&["config", "schema"]).await.stdout;
    let published = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.schema.json")).expect("published");
    assert_eq!(printed.trim(), published.trim());
}

#[tokio::test]
async fn help_and_version_need_nothing() {
    let user = User::new().env("HOME", "");
    let version = user.runs(&["--version"]).await;
    assert_eq!((version.code, version.stdout), (Some(0), format!("hotspare {}\n", env!("CARGO_PKG_VERSION"))));
    // The overview has a line for each command; the page of one command fits a screen.
    for (arguments, most) in [
        (&["--help"][..], 60),
        (&["run", "--help"], 24),
        (&["serve", "--help"], 24),
        (&["status", "--help"], 24),
        (&["config", "--help"], 24),
        (&["demo", "--help"], 24),
    ] {
        let help = user.runs(arguments).await;
        assert_eq!(help.code, Some(0), "{arguments:?}");
        assert!(help.stdout.lines().count() <= most, "a help page fits a screen: {arguments:?}\n{}", help.stdout);
        assert!(help.stdout.lines().all(|line| line.chars().count() <= 80), "{}", help.stdout);
    }
}

#[tokio::test]
async fn without_a_word_and_a_configuration_it_says_where_to_begin() {
    let ended = User::new().runs(&[]).await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 3), "{ended:?}");
    for words in ["hotspare demo", "hotspare init"] {
        assert!(ended.stdout.contains(words), "{}", ended.stdout);
    }
}
