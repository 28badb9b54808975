//! How `claude` is pointed at the proxy: our settings merged with the user's own, which win wherever they do not lead past us.

use serde_json::json;

use crate::user::User;

const OWN: &str = r#"{
  "model": "opus", "permissions": { "allow": ["Bash(ls)"] }, "apiKeyHelper": "my-helper",
  "env": { "FOO": "bar", "ANTHROPIC_CUSTOM_HEADERS": "x-team: 7\nx-cost: a", "ANTHROPIC_BASE_URL": "https://gateway.example", "ANTHROPIC_API_KEY": "sk-ant-test-own" }
}"#;

#[tokio::test]
async fn a_settings_file_and_inline_json_are_merged_with_ours() {
    for inline in [false, true] {
        let user = User::new().file("work/mine.json", OWN).pair("https://gateway.example", "https://spare.example");
        let settings = if inline { OWN.to_owned() } else { "mine.json".to_owned() };
        for arguments in [vec!["--settings".to_owned(), settings.clone()], vec![format!("--settings={settings}")]] {
            let mut command = vec!["run", "--", "claude", "-p"];
            command.extend(arguments.iter().map(String::as_str));
            command.push("a prompt");
            let before = user.everything();
            assert_eq!(user.runs(&command).await.code, Some(0));
            assert_eq!(user.everything(), before, "the user's own file is not written to");
            let argv = user.report("argv");
            let lines: Vec<&str> = argv.lines().collect();
            assert_eq!((lines[0], &lines[2..]), ("--settings", &["-p", "a prompt"][..]), "one settings file, ours, first: {argv}");
            let merged = user.settings();
            assert_eq!((&merged["model"], &merged["permissions"]), (&json!("opus"), &json!({ "allow": ["Bash(ls)"] })));
            assert_eq!(merged["apiKeyHelper"], "my-helper");
            let env = &merged["env"];
            assert_eq!((&env["FOO"], &env["ANTHROPIC_API_KEY"]), (&json!("bar"), &json!("sk-ant-test-own")));
            assert!(env["ANTHROPIC_BASE_URL"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{env}");
            let headers = env["ANTHROPIC_CUSTOM_HEADERS"].as_str().expect("headers");
            assert!(headers.starts_with("x-team: 7\nx-cost: a\nx-hotspare-token: hs-"), "{headers}");
        }
    }
}

#[tokio::test]
async fn what_a_project_could_set_is_pinned() {
    let user = User::new();
    assert_eq!(user.runs(&["run", "--", "claude"]).await.code, Some(0));
    let settings = user.settings();
    assert_eq!(settings["apiKeyHelper"], "");
    for name in ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "NODE_TLS_REJECT_UNAUTHORIZED"] {
        assert_eq!(settings["env"][name], "", "{name}");
    }
}

/// Names that other programs read too, and that they may take for set when they are empty.
const READ_BY_OTHERS: [&str; 6] =
    ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"];

#[tokio::test]
async fn variable_that_nobody_sets_is_not_set_to_nothing() {
    let user = User::new();
    assert_eq!(user.runs(&["run", "--", "claude"]).await.code, Some(0));
    let settings = user.settings();
    for name in READ_BY_OTHERS {
        assert_eq!(settings["env"].get(name), None, "{name}");
    }
}

#[tokio::test]
async fn variable_that_a_project_sets_is_pinned() {
    let env: serde_json::Map<_, _> = READ_BY_OTHERS.iter().map(|name| ((*name).to_owned(), "evil".into())).collect();
    // One that cannot be read may set any of them.
    for (file, text) in [("settings.json", serde_json::json!({ "env": env }).to_string()), ("settings.local.json", "{ broken".to_owned())] {
        let user = User::new();
        let folder = user.path("work/.claude");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join(file), text).expect("written");
        assert_eq!(user.runs(&["run", "--", "claude"]).await.code, Some(0));
        let settings = user.settings();
        for name in READ_BY_OTHERS {
            assert_eq!(settings["env"][name], "", "{name} in {file}");
        }
    }
}

#[tokio::test]
async fn a_login_is_not_hidden_by_a_placeholder() {
    let with_login = User::new().pair("https://primary.example", "https://spare.example");
    assert_eq!(with_login.runs(&["run", "--", "claude"]).await.code, Some(0));
    assert_eq!(with_login.settings()["env"].get("ANTHROPIC_AUTH_TOKEN"), None);
    // Where every profile has a key of its own the client needs something to show.
    let keys = r#"{ "failover_policy": { "primary_profile": "a" }, "profiles": { "a": { "auth": { "env": "KEY_A" } } } }"#;
    let without = User::new().config(keys).env("KEY_A", "sk-ant-test-a");
    assert_eq!(without.runs(&["run", "--", "claude"]).await.code, Some(0));
    let env = &without.settings()["env"];
    let token = env["ANTHROPIC_AUTH_TOKEN"].as_str().expect("text");
    assert_eq!(env["ANTHROPIC_CUSTOM_HEADERS"], format!("x-hotspare-token: {token}"));
}

#[tokio::test]
async fn another_program_is_pointed_at_us_by_its_environment() {
    let keys = r#"{ "failover_policy": { "primary_profile": "a" }, "profiles": { "a": { "auth": { "env": "KEY_A" } } } }"#;
    let user = User::new().config(keys).env("KEY_A", "sk-ant-test-a").env("ANTHROPIC_CUSTOM_HEADERS", "x-team: 7");
    let ended = user.runs(&["run", "--", "sh", "-c", "env; echo \"argv: $*\"", "sh", "--settings", "mine"]).await;
    assert_eq!(ended.code, Some(0));
    for line in ["ANTHROPIC_BASE_URL=http://127.0.0.1:", "ANTHROPIC_API_KEY=hs-", "x-hotspare-token: hs-", "NO_PROXY=127.0.0.1,localhost"] {
        assert!(ended.stdout.contains(line), "{line} is not in:\n{}", ended.stdout);
    }
    assert!(
        ended.stdout.contains("ANTHROPIC_CUSTOM_HEADERS=x-team: 7\n") && ended.stdout.contains("argv: --settings mine"),
        "{}",
        ended.stdout
    );
}
