//! `profile list`, `show`, `add` and `remove`: what they print, what they change, and what they leave alone.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::home::Home;
use crate::lasting::assert_described;

const FILE: &str = ".config/hotspare/config.json";

const TEXT: &str = r#"{
  // who is asked
  "failover_policy": { "primary_profile": "work", "secondary_profile": ["spare", "glm"] },
  "profiles": {
    "work": {}, // mine
    "spare": { "auth": { "env": "SPARE" } },
    "glm": { "preset": "zai", "auth": { "command": ["sh", "-c", "echo hunter2"] }, "models": { "claude-*": "glm-5" } },
    "idle": { "auth": { "file": "~/key" } }
  }
}
"#;

fn home() -> Home {
    let home = Home::new().env("SPARE", "sk-ant-test-spare");
    home.write(FILE, TEXT);
    home
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_profile_is_listed_with_its_place_and_whether_its_credential_is_there() {
    let home = home();
    let list = home.runs(&["profile", "list"]).out;
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[1],
        ["work", "o", "ready", "anthropic", "api.anthropic.com", "the", "client's", "own", "~/.config/hotspare/config.json:5"]
    );
    assert_eq!(lines[2][..6], ["spare", "o", "ready", "anthropic", "api.anthropic.com", "env"]);
    assert_eq!(lines[3], ["glm", "o", "ready", "zai", "api.z.ai/api/anthropic", "command", "sh", "~/.config/hotspare/config.json:7"]);
    assert_eq!(lines[4][..4], ["idle", "x", "no", "credential"]);
    let listed = json_of(&home.runs(&["profile", "list", "--json"]).out);
    let published: Value = json_of(&home.runs(&["schema", "profiles"]).out);
    assert_described(&published, &published, &listed, "profiles");
    let states: Vec<&Value> = listed["profiles"].as_array().expect("a list").iter().map(|profile| &profile["state"]).collect();
    assert_eq!(states, ["ready", "ready", "ready", "no_credential"]);
    let spare = &listed["profiles"][1];
    assert_eq!((&spare["auth"]["there"], &spare["auth"]["from"]), (&json!(true), &json!("SPARE")));
    assert_eq!((&spare["origin"]["line"], &spare["chains"]), (&json!(6), &json!([{ "chain": "default", "place": 2, "model": null }])));
    assert_eq!(listed["profiles"][2]["models"], json!([{ "pattern": "claude-*", "to": "glm-5" }]));
    assert!(!home.path(".local").exists(), "reading makes nothing");
}

#[test]
fn t11_neither_list_nor_show_nor_a_diff_tells_a_credential() {
    let home = home();
    home.write("key", "sk-ant-test-in-file");
    std::fs::set_permissions(home.path("key"), std::fs::Permissions::from_mode(0o600)).expect("mode set");
    home.write(FILE, &TEXT.replace(r#"{ "file": "~/key" }"#, r#"{ "value": "sk-ant-test-literal" }"#));
    let mut told = String::new();
    for arguments in [
        &["profile", "list"][..],
        &["profile", "list", "--json"],
        &["profile", "show", "glm"],
        &["profile", "show", "idle", "--json"],
        &["profile", "show", "spare"],
        &["profile", "remove", "idle", "--dry-run"],
        &["profile", "add", "more", "--env", "MORE", "--dry-run"],
    ] {
        let ended = home.runs(arguments);
        told += &(ended.out + &ended.err);
    }
    for secret in ["sk-ant-test", "hunter2"] {
        assert!(!told.contains(secret), "{told}");
    }
    assert!(told.contains("in the file") || told.contains("written in the configuration"), "{told}");
}

#[test]
fn one_profile_is_shown_with_all_that_is_known_and_a_wrong_name_is_mended() {
    let home = home();
    let shown = home.runs(&["profile", "show", "glm"]).out;
    for line in [
        "  models     claude-* -> glm-5",
        "  chains     default, place 3",
        "  address    https://api.z.ai/api/anthropic",
        "what `sh` prints",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let wrong = home.run(&["profile", "show", "glmm"]);
    assert!(wrong.code == 2 && wrong.err.contains("did you mean `glm`?"), "{}", wrong.err);
}

#[test]
fn a_profile_is_added_in_its_place_and_undo_takes_it_back_byte_for_byte() {
    let home = home();
    let text = TEXT.replace(r#"{ "command": ["sh", "-c", "echo hunter2"] }"#, r#"{ "env": "GLM" }"#);
    home.write(FILE, &text.replace(r#"{ "file": "~/key" }"#, r#"{ "env": "IDLE" }"#).replace(" // mine", ""));
    let before = home.read(FILE);
    let added = home.runs(&["profile", "add", "or", "--platform", "openrouter", "--env", "OPENROUTER_API_KEY", "--spare"]);
    assert_eq!(added.out, "added profile or to ~/.config/hotspare/config.json\n");
    assert!(added.err.contains("chain: work → spare → glm → or") && added.err.contains("undo: `hotspare config undo`"), "{}", added.err);
    let expect = before.replace(r#""glm"] },"#, r#""glm", "or"] },"#).replace(
        "{ \"env\": \"IDLE\" } }\n",
        "{ \"env\": \"IDLE\" } },\n    \"or\": { \"platform\": \"openrouter\", \"auth\": { \"env\": \"OPENROUTER_API_KEY\" } }\n",
    );
    assert_eq!(home.read(FILE), expect);
    home.runs(&["config", "undo"]);
    assert_eq!(home.read(FILE), before);
}

#[test]
fn the_first_profile_of_all_gets_the_client_s_own_login_before_it() {
    let home = Home::new();
    home.runs(&["profile", "add", "glm", "--preset", "zai", "--model", "claude-*=glm-5", "--spare", "--", "pass", "show", "zai"]);
    assert_eq!(
        home.read(FILE),
        "{\n  \"profiles\": {\n    \"glm\": { \"preset\": \"zai\", \"auth\": { \"command\": [\"pass\", \"show\", \"zai\"] }, \"models\": { \"claude-*\": \"glm-5\" } },\n    \"claude\": {}\n  },\n  \"failover_policy\": { \"primary_profile\": \"claude\", \"secondary_profile\": \"glm\" }\n}\n"
    );
    // Whoever no chain asks is told so, and is listed all the same.
    let home = Home::new();
    let added = home.runs(&["profile", "add", "gw", "--base-url", "https://gateway.example", "--env", "GW"]);
    assert!(added.err.contains("no chain asks it yet"), "{}", added.err);
    let listed = json_of(&home.runs(&["profile", "list", "--json"]).out);
    assert_eq!((&listed["profiles"][1]["name"], &listed["profiles"][1]["platform"]), (&json!("gw"), &json!("anthropic_compatible")));
}

#[test]
fn a_profile_that_would_not_load_or_is_there_already_is_not_added() {
    let home = home();
    for (arguments, code, words) in [
        (&["profile", "add", "spare", "--env", "X"][..], 1, "there is a profile `spare` already, in line 6"),
        (&["profile", "add", "x", "--platform", "openrouter"], 5, "HS0402"),
        (&["profile", "add", "x", "--platform", "bedrock"], 5, "bedrock"),
        (&["profile", "add", "a b", "--env", "X"], 5, "cannot be a profile's name"),
        (&["profile", "add", "x", "--env", "X", "--file", "y"], 2, "cannot be used with"),
        (&["profile", "add", "x", "--model", "claude"], 2, "claude-*=name-at-the-provider"),
        (&["profile", "add", "x", "--header", "bearer"], 2, "`--header` says how a credential is sent"),
        (&["profile", "add", "x", "--keychain", "../x"], 2, "cannot be a name in the keychain"),
    ] {
        let ended = home.run(arguments);
        assert!(ended.code == code && ended.err.contains(words), "{arguments:?}: {} {}", ended.code, ended.err);
    }
    assert_eq!(home.read(FILE), TEXT);
}

#[test]
fn t9_a_keychain_s_credential_comes_by_stdin_and_goes_into_a_private_file() {
    let home = home();
    let add_with = |arguments: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hotspare"))
            .args(["profile", "add", "console", "--keychain"])
            .args(arguments)
            .env_clear()
            .env("HOME", home.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
        child.wait_with_output().expect("ended")
    };
    let add = |input: &str| add_with(&[], input);
    assert_eq!(add("").status.code(), Some(2), "nothing came");
    assert_eq!(add("one\ntwo\n").status.code(), Some(2), "more than one line");
    assert_eq!(home.read(FILE), TEXT);
    let added = add("sk-ant-test-console\n");
    assert!(added.status.success(), "{added:?}");
    let told = String::from_utf8_lossy(&added.stderr).into_owned();
    assert!(told.contains("its credential is kept in") && !told.contains("sk-ant"), "{told}");
    assert!(home.read(FILE).contains(r#""console": { "auth": { "keychain": "console" } }"#));
    let file = home.path(".local/state/hotspare/keychain/console");
    assert_eq!(std::fs::read_to_string(&file).expect("kept"), "sk-ant-test-console");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(json_of(&home.runs(&["profile", "show", "console", "--json"]).out)["profiles"][0]["auth"]["there"], true);
    // What is stored stays, whoever stored it.
    home.runs(&["profile", "remove", "console"]);
    let config = home.read(FILE);
    let refused = add("sk-ant-test-other\n");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && told.contains("another credential under `console`") && told.contains("`--replace`"),
        "{told}"
    );
    let kept = || std::fs::read_to_string(&file).expect("kept");
    assert_eq!((kept().as_str(), home.read(FILE)), ("sk-ant-test-console", config));
    assert!(add("sk-ant-test-console\n").status.success(), "the same is no other");
    home.runs(&["profile", "remove", "console"]);
    assert!(add_with(&["--replace"], "sk-ant-test-other\n").status.success());
    assert_eq!(kept(), "sk-ant-test-other");
}

#[test]
fn whoever_the_policy_asks_is_removed_only_with_a_word_for_it() {
    let home = home();
    let refused = home.run(&["profile", "remove", "spare"]);
    assert!(
        refused.code == 1 && refused.err.contains("config.json:3 (secondary_profile)") && refused.err.contains("--from-policy"),
        "{}",
        refused.err
    );
    let shown = home.runs(&["profile", "remove", "spare", "--from-policy", "--dry-run"]).out;
    assert!(shown.contains(r#"-   "failover_policy""#) && shown.contains(r#"["glm"]"#), "{shown}");
    assert_eq!(home.read(FILE), TEXT);
    home.runs(&["profile", "remove", "idle"]);
    let removed = home.runs(&["profile", "remove", "work", "--from-policy"]);
    assert!(removed.err.contains("taken out of") && removed.err.contains("`spare` is the primary now"), "{}", removed.err);
    assert!(home.read(FILE).contains(r#""primary_profile": "spare", "secondary_profile": ["glm"]"#), "{}", home.read(FILE));
    let wrong = home.run(&["profile", "remove", "glmm"]);
    assert!(wrong.code == 2 && wrong.err.contains("did you mean `glm`?"), "{}", wrong.err);
    home.runs(&["profile", "remove", "glm", "--from-policy"]);
    let last = home.run(&["profile", "remove", "spare", "--from-policy"]);
    assert!(last.code == 1 && last.err.contains("names nobody who could take its place"), "{}", last.err);
}
