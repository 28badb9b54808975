//! `config`, `trust` and `untrust`: what they print, what they change, and what they leave alone.

use serde_json::{Value, json};

use crate::home::Home;

const FILE: &str = ".config/hotspare/config.json";

/// Comments, odd blanks, tabs.
const TEXT: &str = "{\n\t// who is asked\n\t\"failover_policy\": { \"primary_profile\": \"work\", \"secondary_profile\" : \"spare\" }, // the pair\n\t\"profiles\": {\n\t\t\"work\": {},\n\t\t\"spare\": { \"auth\": { \"env\": \"SPARE\" } }\n\t}\n}\n";

fn home() -> Home {
    let home = Home::new();
    home.write(FILE, TEXT);
    home
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn set_changes_one_place_and_undo_takes_it_back_byte_for_byte() {
    let home = home();
    let set = home.runs(&["config", "set", "profiles.spare.clocks.head", "30s"]);
    assert_eq!(set.out, "set profiles.spare.clocks.head in ~/.config/hotspare/config.json\n");
    assert!(set.err.contains("undo: `hotspare config undo`"), "{}", set.err);
    let changed = TEXT.replace("{ \"env\": \"SPARE\" } }", "{ \"env\": \"SPARE\" }, \"clocks\": { \"head\": \"30s\" } }");
    assert_eq!(home.read(FILE), changed);
    assert_eq!(home.runs(&["config", "get", "profiles.spare.clocks"]).out, "{\"head\":\"30s\"}\n");
    home.runs(&["config", "undo"]);
    assert_eq!(home.read(FILE), TEXT);
    assert_eq!(home.run(&["config", "undo"]).code, 1);
}

#[test]
fn undo_of_the_first_change_leaves_no_empty_file() {
    let home = Home::new();
    home.runs(&["config", "set", "server.max_connections", "7"]);
    assert_eq!(home.runs(&["config", "undo"]).out, "~/.config/hotspare/config.json is gone again\n");
    assert!(!home.path(FILE).exists());
    home.runs(&["config", "validate"]);
}

#[test]
fn a_change_that_would_break_something_is_not_made() {
    let home = home();
    let set = home.run(&["config", "set", "failover_policy.secondary_profile", "spaer"]);
    assert_eq!(set.code, 5);
    assert!(
        set.err.contains("HS0103") && set.err.contains("did you mean `spare`?") && set.err.contains("nothing was changed"),
        "{}",
        set.err
    );
    assert_eq!(home.run(&["config", "unset", "profiles.spare"]).code, 5);
    assert_eq!(home.run(&["config", "unset", "server"]).code, 1);
    let unknown = home.run(&["config", "set", "failover_policy.trigers", "[500]"]);
    assert!(unknown.err.contains("did you mean `failover_policy.triggers`?"), "{}", unknown.err);
    assert_eq!(home.read(FILE), TEXT);
}

#[test]
fn an_undo_never_overwrites_what_came_after_it() {
    let home = home();
    home.runs(&["config", "set", "server.max_connections", "9"]);
    home.write(FILE, &home.read(FILE).replace('9', "8"));
    let undo = home.run(&["config", "undo"]);
    assert!(undo.code == 1 && undo.err.contains("was changed since"), "{}", undo.err);
    assert!(home.read(FILE).contains('8'));
}

#[test]
fn a_credential_is_neither_taken_from_the_command_line_nor_kept_for_an_undo() {
    let home = home();
    home.write(FILE, &TEXT.replace(r#"{ "env": "SPARE" }"#, r#"{ "value": "hunter2" }"#));
    for arguments in [["profiles.spare.auth.value", "hunter3"], ["profiles.spare.auth", r#"{"value":"hunter3"}"#]] {
        let set = home.run(&["config", "set", arguments[0], arguments[1]]);
        assert!(set.code == 1 && set.err.contains("can be read by every user"), "{}", set.err);
    }
    let set = home.runs(&["config", "set", "profiles.spare.auth", r#"{ "env": "X" }"#]);
    assert!(set.err.contains("no undo is kept"), "{}", set.err);
    let state = home.path(".local/state/hotspare/last-edit.json");
    assert!(!state.exists());
    assert!(!format!("{}{}", home.runs(&["config", "show"]).out, set.err).contains("hunter"));
}

#[test]
fn show_says_where_each_value_comes_from() {
    let home = home().env("HOTSPARE_SERVER__MAX_CONNECTIONS", "5");
    home.write("project/.hotspare/config.json", r#"{ "failover_policy": { "enabled": false }, "server": { "listen": "127.0.0.1:1" } }"#);
    let show = home.runs(&["config", "show", "--origin", "--set", "failover_policy.mid_stream=cut"]);
    for line in [
        "failover_policy.primary_profile = \"work\"  ~/.config/hotspare/config.json:3:23 (user)",
        "failover_policy.enabled = false  ~/project/.hotspare/config.json:1:24 (project)",
        "failover_policy.mid_stream = \"cut\"  --set:1:17 (flags)",
        "server.max_connections = 5  $HOTSPARE_SERVER__MAX_CONNECTIONS:1:18 (environment)",
        "server.listen = \"127.0.0.1:4117\"  default",
    ] {
        assert!(show.out.lines().any(|known| known == line), "{line} is missing:\n{}", show.out);
    }
    assert!(show.err.contains("~/project/.hotspare/config.json: not trusted: narrows only"), "{}", show.err);
    let shown = json_of(&home.runs(&["config", "show", "--json"]).out);
    assert_eq!(shown["version"], 1);
    assert_eq!(shown["projects"][0]["refused"], json!(["`server` has no effect: the project's file is not trusted"]));
    let validated = json_of(&home.runs(&["config", "validate", "--json"]).out);
    assert_eq!((&validated["valid"], &validated["diagnostics"][0]["code"]), (&json!(true), &json!("HS0801")));
    let broken = home.run(&["config", "validate", "--json", "--set", "server.max_connections=0"]);
    let diagnostic = &json_of(&broken.out)["diagnostics"][0];
    assert_eq!((broken.code, &diagnostic["layer"], &diagnostic["column"]), (5, &json!("flags"), &json!(24)));
}

#[test]
fn trust_is_for_one_text_and_can_be_taken_back() {
    let home = home();
    home.write("project/.hotspare/config.json", r#"{ "server": { "max_connections": 7 } }"#);
    let connections = || home.runs(&["config", "get", "server.max_connections"]).out;
    assert_eq!(connections(), "256\n");
    let trust = home.runs(&["trust"]);
    assert_eq!(trust.out, "trusted ~/project/.hotspare/config.json\n  now in force: `server`\n");
    assert_eq!(connections(), "7\n");
    home.write("project/.hotspare/config.json", r#"{ "server": { "max_connections": 8 } }"#);
    assert_eq!(connections(), "256\n");
    home.runs(&["trust", "."]);
    assert_eq!(connections(), "8\n");
    home.runs(&["untrust"]);
    assert_eq!(connections(), "256\n");
    assert_eq!(home.run(&["untrust"]).code, 1);
    // What is broken is not trusted.
    home.write("project/.hotspare/config.json", r#"{ "server": { "max_connections": 0 } }"#);
    assert_eq!(home.run(&["trust"]).code, 5);
    home.write("project/.hotspare/config.json", "{}");
    assert!(!home.runs(&["config", "show"]).err.contains(": trusted"));
}

#[test]
fn a_project_s_file_is_edited_too_and_says_what_that_means() {
    let home = home();
    let set = home.runs(&["config", "set", "--local", "failover_policy.enabled", "false"]);
    assert!(set.err.contains("`hotspare trust` again"), "{}", set.err);
    assert_eq!(home.read("project/.hotspare/config.local.json"), "{\n  \"failover_policy\": { \"enabled\": false }\n}\n");
    let set = home.runs(&["config", "set", "failover_policy.enabled", "true"]);
    assert!(set.err.contains("it has no effect now: ~/project/.hotspare/config.local.json:2 (local_project)"), "{}", set.err);
}

#[test]
fn the_editor_works_on_a_copy() {
    let home = home().env("EDITOR", "sed -i s/secondary_profile/secondary_profil/");
    let edit = home.run(&["config", "edit"]);
    assert!(edit.code == 5 && edit.err.contains("your text is kept in"), "{}", edit.err);
    assert_eq!(home.read(FILE), TEXT);
    let kept = edit.err.split("your text is kept in ").nth(1).expect("a path").trim();
    assert!(std::fs::read_to_string(kept).expect("kept").contains("secondary_profil\""));
    std::fs::remove_dir_all(std::path::Path::new(kept).parent().expect("a folder")).expect("removed");
    let home = home.env("VISUAL", "sed -i s/work\":.{}/work\":{}/");
    home.runs(&["config", "edit"]);
    assert_eq!(home.read(FILE), TEXT.replace("\"work\": {}", "\"work\":{}"));
    assert!(home.runs(&["config", "undo"]).out.contains("is as it was"));
    let home = home.env("VISUAL", "false");
    assert_eq!(home.run(&["config", "edit"]).code, 1);
    assert_eq!(home.read(FILE), TEXT);
}

#[test]
fn a_key_is_explained() {
    let home = home();
    let explained = home.runs(&["config", "explain", "failover_policy.clocks.head"]).out;
    assert_eq!(
        explained,
        "failover_policy.clocks.head\n  From the request to the answer's head.\n\n  takes    a duration: a whole number and `ms`, `s`, `m` or `h`, at most 24 h\n  default  60s\n  now      \"60s\"  default\n"
    );
    let unknown = home.run(&["config", "explain", "failover_policy.hedges"]);
    assert!(unknown.code == 1 && unknown.err.contains("no key is called"), "{}", unknown.err);
    assert_eq!(json_of(&home.runs(&["config", "explain", "server", "--json"]).out)["keys"][0]["key"], "listen");
}
