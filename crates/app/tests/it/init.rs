//! Holds that `init` goes from what is there to a proven chain without a file edited by hand, writes nothing before the answer, keeps no
//! key where others could read it, and is honest where nothing can take over.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::user::{User, provider};

const KEY: &str = "sk-or-test-CANARY";

/// A fake login, and one key for the spare at this address.
fn with_login_and_key(spare: &str) -> User {
    let login = json!({"claudeAiOauth": {"accessToken": "sk-ant-oat01-test", "refreshToken": "x", "expiresAt": 4_000_000_000_000_u64, "subscriptionType": "max"}});
    let user = User::new()
        .file("home/.claude/.credentials.json", &login.to_string())
        .file("home/.claude.json", r#"{"oauthAccount":{"emailAddress":"me@example.com"}}"#)
        .env("OPENROUTER_API_KEY", KEY)
        .env("OPENROUTER_BASE_URL", spare);
    std::fs::set_permissions(user.path("home/.claude/.credentials.json"), std::fs::Permissions::from_mode(0o600)).expect("mode set");
    user
}

fn config_of(user: &User) -> Value {
    serde_json::from_str(&std::fs::read_to_string(user.path("home/.config/hotspare/config.json")).expect("written")).expect("JSON")
}

#[tokio::test]
async fn with_a_login_and_one_key_a_single_command_sets_a_proven_chain_up() {
    let spare = provider("fine").await;
    let user = with_login_and_key(&spare.url());
    let before = user.everything();
    let dry = user.runs(&["init", "--dry-run"]).await;
    assert!(
        dry.code == Some(0) && dry.stdout.contains("the max login of me@example.com") && dry.stdout.contains("paid per token"),
        "{dry:?}"
    );
    assert!(dry.stdout.contains("+ ") && dry.stderr.contains("--dry-run"), "{dry:?}");
    assert_eq!(user.everything(), before, "a dry run writes nothing");
    let asked = user.runs(&["init"]).await;
    assert!(asked.code == Some(2) && asked.stderr.contains("stdin is no terminal") && asked.stderr.contains("--yes"), "{asked:?}");
    assert_eq!(user.everything(), before, "nothing before the answer");
    let done = user.runs(&["init", "--yes", "--no-install"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    for words in ["max was broken on purpose, and failover went to openrouter", "undo:", "hotspare config undo"] {
        assert!(done.stdout.contains(words), "{words:?} is not in:\n{}", done.stdout);
    }
    assert!(!done.stdout.contains("CANARY") && !done.stderr.contains("CANARY"), "{done:?}");
    let config = config_of(&user);
    assert_eq!(config["failover_policy"]["secondary_profile"], json!(["openrouter"]));
    assert_eq!(config["profiles"]["openrouter"]["auth"], json!({"keychain": "openrouter"}));
    let kept = user.path("home/.local/state/hotspare/keychain/openrouter");
    assert_eq!(std::fs::read_to_string(&kept).expect("kept"), KEY);
    assert_eq!(std::fs::metadata(&kept).expect("kept").permissions().mode() & 0o777, 0o600);
    assert!(!config.to_string().contains("CANARY"));
    let asked: Vec<String> = spare.requests().iter().map(|request| request.target.clone()).collect();
    assert!(asked.iter().all(|target| target == "/v1/key"), "the key is tested, and nothing is spent: {asked:?}");
    let valid = user.runs(&["config", "validate"]).await;
    assert_eq!(valid.code, Some(0), "{valid:?}");
    // Once more: what is there stays.
    let text = std::fs::read_to_string(user.path("home/.config/hotspare/config.json")).expect("there");
    let again = user.runs(&["init", "--yes", "--no-install", "--json"]).await;
    let report: Value = serde_json::from_str(&again.stdout).unwrap_or_else(|_| panic!("{again:?}"));
    assert_eq!(
        (&report["kept"], &report["chain"], &report["passed"]),
        (&true.into(), &json!(["max", "openrouter"]), &true.into()),
        "{report}"
    );
    assert_eq!(std::fs::read_to_string(user.path("home/.config/hotspare/config.json")).expect("there"), text);
}

#[tokio::test]
async fn what_else_stands_in_the_file_stays_and_config_undo_takes_the_chain_back() {
    let before = "{\n  // mine\n  \"log\": { \"retain\": \"3d\" },\n}\n";
    let user = with_login_and_key("http://127.0.0.1:9").config(before);
    let done = user.runs(&["init", "--yes", "--no-install"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let text = std::fs::read_to_string(user.path("home/.config/hotspare/config.json")).expect("there");
    assert!(text.starts_with("{\n  // mine\n  \"log\": { \"retain\": \"3d\" },\n  \"failover_policy\": {\n"), "{text}");
    assert_eq!(user.runs(&["config", "undo"]).await.code, Some(0));
    assert_eq!(std::fs::read_to_string(user.path("home/.config/hotspare/config.json")).expect("there"), before);
}

#[tokio::test]
async fn claude_code_is_wired_in_and_taken_out_again_and_a_stranger_s_port_is_left_to_it() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = stranger.local_addr().expect("an address");
    let before = format!("{{\n  \"server\": {{ \"listen\": \"{taken}\" }}\n}}\n");
    let spare = provider("fine").await;
    let user = with_login_and_key(&spare.url())
        .config(&before)
        .file("home/.claude/settings.json", r#"{"statusLine":{"type":"command","command":"echo mine"}}"#);
    let done = user.runs(&["init", "--yes", "--json"]).await;
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let settings = std::fs::read_to_string(user.path("home/.claude/settings.json")).expect("there");
    let check = user.runs(&["install", "--check"]).await;
    let uninstalled = user.runs(&["uninstall"]).await;
    assert_eq!((&report["wired"], &report["passed"]), (&true.into(), &true.into()), "{report} {}", done.stderr);
    assert_eq!(report["undo"], json!(["hotspare uninstall", "hotspare config undo"]));
    assert!(
        settings.contains("ANTHROPIC_BASE_URL") && settings.contains("statusline --wrap") && !settings.contains(&taken.to_string()),
        "{settings}"
    );
    assert_eq!(check.code, Some(0), "{check:?}");
    assert_ne!(config_of(&user)["server"]["listen"], taken.to_string());
    assert_eq!(uninstalled.code, Some(0), "{uninstalled:?}");
    let settings = std::fs::read_to_string(user.path("home/.claude/settings.json")).expect("there");
    assert_eq!(settings, r#"{"statusLine":{"type":"command","command":"echo mine"}}"#);
}

#[tokio::test]
async fn a_gateway_in_use_becomes_the_first_profile() {
    let user = with_login_and_key("http://127.0.0.1:9").file(
        "home/.claude/settings.json",
        r#"{"env":{"ANTHROPIC_BASE_URL":"http://127.0.0.1:7"},"statusLine":{"type":"command","command":"echo mine"}}"#,
    );
    let dry = user.runs(&["init", "--dry-run", "--json"]).await;
    let report: Value = serde_json::from_str(&dry.stdout).unwrap_or_else(|_| panic!("{dry:?}"));
    assert_eq!(
        (&report["found"]["gateway"], &report["chain"]),
        (&"http://127.0.0.1:7".into(), &json!(["gateway", "openrouter"])),
        "{report}"
    );
    assert_eq!(report["found"]["status_line"], "echo mine");
    let done = user.runs(&["init", "--yes", "--no-install"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(config_of(&user)["profiles"]["gateway"]["base_url"], "http://127.0.0.1:7");
}

/// With the one question answered as a user answers it, in a terminal.
#[tokio::test]
async fn another_company_s_key_stands_in_only_where_the_user_names_it() {
    // Nothing of the free test leaves this machine.
    let user = with_login_and_key("").env("OPENROUTER_API_KEY", "").env("HTTPS_PROXY", "http://127.0.0.1:9");
    let user = user.env("DEEPSEEK_API_KEY", KEY).env("MOONSHOT_API_KEY", KEY);
    let user = user.file("home/.aws/credentials", "[default]\n");
    let before = user.everything();
    let told = user.runs(&["init", "--yes", "--no-install"]).await;
    assert_eq!(told.code, Some(6), "{told:?}");
    for words in [
        "only if you say so: DeepSeek with DEEPSEEK_API_KEY",
        "paid per token",
        "deepseek-flash for claude-*",
        "MOONSHOT_API_KEY (Moonshot): paid",
        "--preset kimi --keychain --spare",
        "bedrock (~/.aws/credentials): this version does not speak it",
        "Nobody takes over for max unless you say so",
        "Nothing was changed",
    ] {
        assert!(told.stdout.contains(words), "{words:?} is not in:\n{}", told.stdout);
    }
    assert_eq!(user.everything(), before);
    let terminal = format!("printf '1 2\\n\\n' | script -qec '{} init --no-install' /dev/null", env!("CARGO_BIN_EXE_hotspare"));
    let done = user.shell(&terminal).wait_with_output().await.expect("it ran");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("max was broken on purpose") && !said.contains("CANARY"), "{said}");
    let config = config_of(&user);
    assert_eq!(config["failover_policy"]["secondary_profile"], json!(["deepseek"]));
    assert_eq!(config["profiles"]["deepseek"]["models"], json!({ "claude-opus-*": "deepseek-v4-pro", "claude-*": "deepseek-flash" }));
    assert_eq!(std::fs::read_to_string(user.path("home/.local/state/hotspare/keychain/deepseek")).expect("kept"), KEY);
    let valid = user.runs(&["config", "validate"]).await;
    assert_eq!(valid.code, Some(0), "{valid:?}");
}

#[tokio::test]
async fn with_nobody_to_take_over_it_says_so_and_names_three_ways() {
    for (user, words) in [
        (User::env(with_login_and_key(""), "OPENROUTER_API_KEY", ""), "Nobody could take over: max is all there is"),
        (User::new(), "Nothing was found that could answer Claude Code"),
    ] {
        let before = user.everything();
        let told = user.runs(&["init", "--yes", "--no-install"]).await;
        assert_eq!(told.code, Some(6), "{told:?}");
        for words in [words, "you pay per token", "its monthly price", "OPENROUTER_API_KEY", "Nothing was changed"] {
            assert!(told.stdout.contains(words), "{words:?} is not in:\n{}", told.stdout);
        }
        assert_eq!(user.everything(), before);
        let json = user.runs(&["init", "--yes", "--no-install", "--json"]).await;
        let report: Value = serde_json::from_str(&json.stdout).unwrap_or_else(|_| panic!("{json:?}"));
        assert_eq!((json.code, &report["written"], &report["chain"]), (Some(6), &false.into(), &json!([])));
    }
}
