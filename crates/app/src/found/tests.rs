//! Holds what is found in a home, and that no credential comes along.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

fn write(home: &Path, name: &str, text: &str) {
    let file = home.join(name);
    fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode set");
}

fn look(home: &Path, variables: &[(&str, &str)], gateway: Option<&str>) -> Found {
    let env = |name: &str| if name == "HOME" { Some(home.as_os_str().to_owned()) } else { None };
    let locations = Locations::find(&env, None).expect("a home");
    let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Found::look(&locations, &variable, gateway)
}

#[test]
fn logins_keys_clouds_and_the_status_line_are_found_and_no_credential() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let login = json!({"claudeAiOauth": {"accessToken": "sk-ant-oat01-CANARY", "refreshToken": "CANARY", "expiresAt": 1_900_000_000_000_u64, "subscriptionType": "max"}});
    write(home, ".claude/.credentials.json", &login.to_string());
    write(home, ".claude.json", r#"{"oauthAccount":{"emailAddress":"me@example.com\u001b[2J"},"projects":{}}"#);
    write(home, ".claude/settings.json", r#"{"statusLine":{"type":"command","command":"~/line.sh"}}"#);
    write(home, ".claude-personal/settings.json", r#"{"env":{"ANTHROPIC_AUTH_TOKEN":"CANARY"}}"#);
    write(home, ".claude-empty/other.json", "{}");
    write(home, ".claudette/.credentials.json", &login.to_string());
    write(home, ".aws/config", "[profile x]");
    let variables = [
        ("OPENROUTER_API_KEY", "sk-or-CANARY"),
        ("ANTHROPIC_API_KEY", " "),
        ("ZAI_API_KEY", "CANARY"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/x"),
    ];
    let found = look(home, &variables, Some("https://gateway.example.com"));
    let mut shown = serde_json::to_string_pretty(&found).expect("JSON");
    shown = shown.replace(&home.display().to_string(), "HOME");
    assert!(!shown.contains("CANARY") && !format!("{found:?}").contains("CANARY"), "{shown}");
    insta::assert_snapshot!(shown);
    assert!(found.own_login().is_some_and(|login| login.plan.as_deref() == Some("max")));
}

#[test]
fn an_empty_home_has_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    assert_eq!(look(home.path(), &[], None), Found::default());
}
