//! Layers on disk: who has the last word, what is locked, what trust changes, and where each fault is said to be.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotspare_config::{Config, Context, Errors, Folders, Layer, Severity, Trusted, candidates, codes, load};

use crate::home::{Home, names, warned};

/// The user's own: three profiles, `a` with `b` behind it.
const USER: &str = r#"{ "failover_policy": { "primary_profile": "a", "secondary_profile": ["b"], "clocks": { "head": "40s" } },
    "profiles": { "a": {}, "b": { "auth": { "env": "B" } }, "c": { "auth": { "env": "C" } } } }"#;

fn user() -> Home {
    Home::new().config(USER).with("work/project/README", "")
}

const PROJECT: &str = "work/project";

fn with(home: &Home, assignments: &[&str], variables: &[(&str, &str)]) -> Result<Config, Errors> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let context = Context::new(home.path(PROJECT))
        .with_assignments(assignments.iter().map(|text| (*text).to_owned()).collect())
        .with_variables(variables);
    load(&home.locations(None), &context)
}

#[test]
fn each_layer_lies_over_the_one_below() {
    let head = |home: &Home| with(home, &[], &[]).expect("valid").policy.clocks.head.as_secs();
    let clocks = |head: &str| format!(r#"{{ "failover_policy": {{ "clocks": {{ "head": "{head}" }} }} }}"#);
    let home = user();
    assert_eq!(head(&home), 40);
    home.write("work/.hotspare/config.json", clocks("39s"));
    assert_eq!(head(&home), 39);
    home.write("work/project/.claude/settings.json", clocks("38s"));
    assert_eq!(head(&home), 38);
    home.write("work/project/.hotspare/config.json", clocks("37s"));
    assert_eq!(head(&home), 37);
    home.write("work/project/.claude/settings.local.json", clocks("36s"));
    assert_eq!(head(&home), 36);
    home.write("work/project/.hotspare/config.local.json", clocks("35s"));
    assert_eq!(head(&home), 35);
    let variable = ("HOTSPARE_FAILOVER_POLICY__CLOCKS__HEAD", "34s");
    let head_of = |config: Result<Config, Errors>| config.expect("valid").policy.clocks.head.as_secs();
    assert_eq!(head_of(with(&home, &[], &[variable])), 34);
    let set = "failover_policy.clocks.head=33s";
    assert_eq!(head_of(with(&home, &[set], &[variable])), 33);
    assert_eq!(head_of(with(&home, &[set, "failover_policy.clocks.head=32s"], &[variable])), 32, "the later one wins");
    home.write("etc/managed-settings.json", clocks("31s"));
    assert_eq!(head_of(with(&home, &[set], &[variable])), 31);
    home.write("etc/managed.json", clocks("30s"));
    let config = with(&home, &[set], &[variable]).expect("valid");
    assert_eq!(config.policy.clocks.head.as_secs(), 30);
    let sources: Vec<String> = config.sources.iter().map(|file| file.display().to_string()).collect();
    assert_eq!(sources.len(), 10, "{sources:?}");
    assert!(sources[0].ends_with("etc/managed.json") && sources[2] == "--set" && sources[9].ends_with("hotspare/config.json"));
}

#[test]
fn a_project_below_another_lies_over_it_and_home_is_no_project() {
    let home = user()
        .with(".hotspare/config.json", r#"{ "failover_policy": { "enabled": false } }"#)
        .with("work/.hotspare/config.json", r#"{ "failover_policy": { "primary_profile": "b", "secondary_profile": "c" } }"#)
        .with("work/project/.hotspare/config.json", r#"{ "failover_policy": { "secondary_profile": "a" } }"#);
    assert_eq!(names(&home.config_in(PROJECT)), ["b", "a"]);
    assert_eq!(names(&home.config_in("work")), ["b", "c"]);
    assert_eq!(names(&home.config_in("")), ["a", "b"]);
    assert!(home.config_in("").policy.enabled && home.config_in(PROJECT).policy.enabled);
    let context = Context::new(home.path(PROJECT)).without_projects();
    assert_eq!(names(&load(&home.locations(None), &context).expect("valid")), ["a", "b"]);
}

#[test]
fn lists_replace_and_a_plus_appends() {
    let home = user().with("work/project/.hotspare/config.json", r#"{ "failover_policy": { "+secondary_profile": ["c"] } }"#);
    assert_eq!(names(&home.config_in(PROJECT)), ["a", "b", "c"]);
    home.write("work/project/.hotspare/config.local.json", r#"{ "failover_policy": { "secondary_profile": ["c"] } }"#);
    assert_eq!(names(&home.config_in(PROJECT)), ["a", "c"]);
    let errors = with(&home, &[r#"failover_policy.+clocks={"head":"1s"}"#], &[]).expect_err("no list");
    assert_eq!((errors.0[0].code, errors.0[0].layer), (codes::NOT_APPENDABLE.id, Some(Layer::Flags)), "{errors}");
}

#[test]
fn the_request_s_own_json_works_in_a_project_s_settings() {
    let request = r#"{ "failover_policy": { "enabled": true, "primary_profile": "b", "secondary_profile": "c",
        "triggers": [500, 502, 503, 504, 429], "max_failover_attempts": 1 } }"#;
    let home = user().with("work/project/.claude/settings.json", request);
    let config = home.config_in(PROJECT);
    assert_eq!((names(&config), config.policy.max_hops), (vec!["b", "c"], 1));
    assert_eq!(warned(&config), [codes::NO_OVERLOAD.id], "it narrows, and needs no trust");
    assert_eq!((config.projects.len(), config.projects[0].trusted), (1, Trusted::No));
}

#[test]
fn dropped_profiles_are_not_asked_by_anybody() {
    let user = r#"{ "failover_policy": { "primary_profile": "a", "secondary_profile": ["b", "c"],
        "chains": [{ "match": { "model": "y*" }, "profiles": ["b", "c"] }] },
        "profiles": { "a": {}, "b": { "auth": { "env": "B" } }, "c": { "auth": { "env": "C" } } } }"#;
    let home = Home::new().config(user).with("p/.hotspare/config.json", r#"{ "profiles": { "b": null, "unheard-of": null } }"#);
    let config = home.config_in("p");
    assert_eq!(names(&config), ["a", "c"]);
    assert_eq!((config.rules.len(), config.rules[0].chain.entries.len(), config.profiles.len()), (2, 1, 2));
    // A chain without anybody left does not give way to the next: that may ask whom this one leaves out.
    home.write("p/.hotspare/config.json", r#"{ "profiles": { "b": null, "c": null } }"#);
    assert_eq!(home.load_in("p").expect_err("nobody for `y*`").0[0].code, codes::NOBODY_LEFT.id);
    home.write("p/.hotspare/config.json", r#"{ "profiles": { "a": null, "b": null, "c": null } }"#);
    let errors = home.load_in("p").expect_err("nobody is left");
    assert_eq!(errors.0[0].code, codes::NOBODY_LEFT.id, "{errors}");
}

#[test]
fn a_chain_may_be_for_one_folder() {
    let user = r#"{ "failover_policy": { "primary_profile": "a", "secondary_profile": "b",
        "chains": [{ "match": { "project": "~/bank/**" }, "profiles": ["a"] }, { "match": { "project": "~/bank/**", "model": "x" }, "profiles": ["b"] }] },
        "profiles": { "a": {}, "b": { "auth": { "env": "B" } } } }"#;
    let home = Home::new().config(user).with("bank/deep/x", "").with("p/x", "");
    let rules = |folder: &str| home.config_in(folder).rules.iter().map(|rule| rule.chain.name.to_string()).collect::<Vec<_>>();
    assert_eq!(rules("p"), ["default"]);
    assert_eq!(rules("bank/deep"), ["chains[0]", "chains[1]", "default"]);
    assert_eq!(home.config_of().rules.len(), 1, "no folder is known");
    // A project cannot shake that off; the chains that it adds come behind.
    home.write("bank/.hotspare/config.json", r#"{ "failover_policy": { "chains": [{ "profiles": ["b"] }] } }"#);
    assert_eq!((rules("bank/deep").len(), warned(&home.config_in("bank"))), (3, vec![codes::NOT_TRUSTED.id]));
    home.write("bank/.hotspare/config.json", r#"{ "failover_policy": { "+chains": [{ "profiles": ["b"] }] } }"#);
    assert_eq!(rules("bank/deep"), ["chains[0]", "chains[1]", "chains[2]", "default"]);
}

#[test]
fn locked_keys_are_the_administrator_s() {
    let managed = r#"{ "locked": ["failover_policy.secondary_profile", "profiles.b", "server"], "profiles": { "b": { "auth": { "env": "MB" } } },
        "failover_policy": { "secondary_profile": "b" } }"#;
    let user = r#"{ "failover_policy": { "primary_profile": "a", "+secondary_profile": ["c"] }, "server": { "max_connections": 9 },
        "profiles": { "a": {}, "b": null, "c": { "auth": { "env": "C" } } } }"#;
    let home = Home::new().config(user).with("etc/managed.json", managed).with("work/project/x", "");
    let config = home.config_of();
    assert_eq!((names(&config), config.server.max_connections), (vec!["a", "b"], 256));
    assert_eq!(warned(&config), [codes::LOCKED.id; 3]);
    assert!(config.warnings[0].notes[0].contains("etc/managed.json:1:"), "{:?}", config.warnings[0].notes);
    let errors = with(&home, &["server.max_connections=8"], &[]).expect_err("typed to have an effect");
    assert_eq!((errors.0[0].code, errors.0[0].severity), (codes::LOCKED.id, Severity::Error));
    // A variable may be older than the lock.
    assert_eq!(with(&home, &[], &[("HOTSPARE_SERVER__MAX_CONNECTIONS", "8")]).expect("valid").server.max_connections, 256);
}

#[test]
fn locks_are_checked_and_are_nobody_else_s() {
    Home::new().config(r#"{ "locked": ["server"] }"#).fails_with(codes::LOCK_ELSEWHERE);
    Home::new().with("etc/managed.json", r#"{ "locked": ["server.colour"] }"#).fails_with(codes::NO_SUCH_KEY);
    Home::new().with("etc/managed.json", r#"{ "locked": "server" }"#).fails_with(codes::WRONG_TYPE);
    Home::new().with("etc/managed.json", "{ oops").fails_with(codes::SYNTAX);
}

#[test]
fn a_named_file_stands_in_place_of_the_user_s_and_above_the_project_s() {
    let home = user().with("ci.json", r#"{ "failover_policy": { "primary_profile": "z" }, "profiles": { "z": {} } }"#);
    home.write("work/project/.hotspare/config.json", r#"{ "failover_policy": { "enabled": false, "primary_profile": "q" } }"#);
    let config = load(&home.locations(Some("ci.json")), &Context::new(home.path(PROJECT))).expect("valid");
    assert_eq!((names(&config), config.policy.enabled), (vec!["z"], false));
}

#[test]
fn faults_of_arguments_and_variables_are_drawn_like_those_of_files() {
    let home = user();
    let drawn = |config: Result<Config, Errors>| config.expect_err("a fault").render(false);
    insta::assert_snapshot!(
        "arguments",
        [
            drawn(with(&home, &["failover_policy.max_failover_attempts=7"], &[])),
            drawn(with(&home, &["failover_policy.primary_profile=aa"], &[])),
            drawn(with(&home, &["failover_policy.colour=red"], &[])),
            drawn(with(&home, &["server={\"max_connections\": }"], &[])),
            drawn(with(&home, &["profiles.x.base_url=https://me:hunter2@host"], &[])),
            drawn(with(&home, &["profiles.x.auth.value=hunter2"], &[])),
            drawn(with(&home, &["nothing"], &[])),
            drawn(with(&home, &["=5"], &[])),
            drawn(with(&home, &[], &[("HOTSPARE_FAILOVER_POLICY__CLOCKS__HEAD", "soon")])),
            drawn(with(&home, &[], &[("HOTSPARE_FAILOVER_POLICY__HAED", "5s")])),
            drawn(with(&home, &[], &[("HOTSPARE_SERVER", "{")])),
        ]
        .join("\n\n")
    );
}

#[test]
fn other_variables_of_ours_are_none_of_the_configuration_s() {
    let config = with(&user(), &[], &[("HOTSPARE_LOG", "debug"), ("HOTSPARE_E2E", "1"), ("PATH", "/bin"), ("HOTSPARE_ENABLED", "0")]);
    assert_eq!(warned(&config.expect("valid")), [codes::NO_SUCH_KEY.id], "the one that seems to be meant");
}

#[test]
fn faults_in_a_project_s_file_name_its_layer() {
    let home = user().with("work/project/.hotspare/config.json", "{\n \"failover_policy\": { \"primary_profile\": \"bb\" }\n}");
    let errors = home.load_in(PROJECT).expect_err("a fault");
    assert_eq!(
        (errors.0[0].code, errors.0[0].layer, errors.0[0].line_column()),
        (codes::UNKNOWN_PROFILE.id, Some(Layer::Project), Some((2, 42)))
    );
    assert!(errors.render(false).contains("--no-project"), "{errors}");
}

#[test]
fn trust_lets_a_project_set_anything_until_the_file_changes() {
    let text = r#"{ "profiles": { "p": { "auth": { "env": "P" } } }, "failover_policy": { "primary_profile": "p" } }"#;
    let home = user().with("work/project/.hotspare/config.json", text);
    assert_eq!(home.load_in(PROJECT).expect_err("`p` is not the user's").0[0].code, codes::UNKNOWN_PROFILE.id);
    assert_eq!(home.trust(PROJECT), 1);
    let config = home.config_in(PROJECT);
    assert_eq!((names(&config), config.projects[0].trusted), (vec!["p", "b"], Trusted::Yes));
    home.write("work/project/.hotspare/config.json", format!("{text} "));
    let errors = home.load_in(PROJECT).expect_err("one byte more is another text");
    assert!(errors.0.iter().any(|error| error.notes.iter().any(|note| note.contains("changed since"))), "{errors}");
    home.write("work/project/.hotspare/config.json", text);
    assert_eq!(names(&home.config_in(PROJECT)), ["p", "b"]);
    assert!(home.store().unpin(&home.path("work/project/.hotspare/config.json")).expect("removed"));
    home.load_in(PROJECT).expect_err("no trust");
}

#[test]
fn of_claude_code_s_settings_the_policy_alone_is_pinned() {
    let settings = |model: &str, extra: &str| {
        format!(r#"{{ "model": "{model}", "failover_policy": {{ "primary_profile": "c", "on_exhausted": "fail"{extra} }} }}"#)
    };
    let home = user().with("work/project/.claude/settings.local.json", settings("opus", ""));
    assert_eq!(warned(&home.config_in(PROJECT)), [codes::NOT_TRUSTED.id]);
    home.trust(PROJECT);
    assert!(home.config_in(PROJECT).warnings.is_empty());
    home.write("work/project/.claude/settings.local.json", settings("haiku", ""));
    assert!(home.config_in(PROJECT).warnings.is_empty(), "the client writes the rest of the file");
    home.write("work/project/.claude/settings.local.json", settings("haiku", r#", "mid_stream": "cut""#));
    assert_eq!(warned(&home.config_in(PROJECT)), [codes::NOT_TRUSTED.id; 2]);
}

#[test]
fn each_folder_has_a_configuration_of_its_own_and_it_is_read_when_it_changes() {
    let home = user()
        .with("p/.hotspare/config.json", r#"{ "failover_policy": { "primary_profile": "b", "secondary_profile": "c" } }"#)
        .with("q/.hotspare/config.json", "{ broken");
    let folders = Folders::new(home.locations(None), Context::default());
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let of = |seconds, folder: &str| folders.compile_for(at(seconds), &home.path(folder));
    let first = of(0, "p").expect("valid");
    assert_eq!((names(&first), names(&of(0, "work").expect("valid"))), (vec!["b", "c"], vec!["a", "b"]));
    assert_eq!(names(&of(0, "gone").expect("valid")), ["a", "b"], "a folder that does not exist has no project");
    assert_eq!(names(&of(0, "q").expect("valid")), ["a", "b"], "a broken project file is left out alone");
    let left_out = |folder: &str| folders.known(at(0), &home.path(folder)).expect("known").0.left_out;
    assert_eq!((left_out("q").len(), left_out("p").len()), (1, 0));
    assert!(Arc::ptr_eq(&first, &of(5, "p").expect("valid")), "nothing has changed");
    home.write("p/.hotspare/config.json", r#"{ "failover_policy": { "primary_profile": "c" } }"#);
    assert!(Arc::ptr_eq(&first, &of(5, "p").expect("valid")), "not looked at within the second");
    assert_eq!(names(&of(6, "p").expect("valid")), ["c", "b"]);
    home.config_file_gone();
    assert!(of(7, "work").expect("valid").implicit, "the user's own file counts in every folder");
    // More folders than are remembered: all of them work.
    for number in 0..200 {
        of(8, &format!("many/{number}")).expect("valid");
    }
    assert!(of(8, "q").expect("valid").implicit);
}

#[test]
fn every_file_that_may_have_a_say_is_a_candidate() {
    let home = user();
    let files = candidates(&home.locations(None), &Context::new(home.path(PROJECT)));
    for file in [
        ".claude/settings.json",
        ".config/hotspare/config.json",
        "work/.hotspare/config.json",
        "work/project/.hotspare/config.local.json",
        "work/project/.claude/settings.local.json",
        "etc/managed.json",
    ] {
        assert!(files.iter().any(|known| known.ends_with(file)), "{file} is missing: {files:?}");
    }
}

#[test]
fn each_chain_knows_its_file_and_line() {
    let home = Home::new().config(
        "{ \"failover_policy\": {\n  \"chains\": [\n    { \"match\": { \"model\": \"x\" }, \"profiles\": [\"b\"] }],\n  \"primary_profile\": \"a\" },\n  \
         \"profiles\": { \"a\": {}, \"b\": { \"auth\": { \"env\": \"B\" } } } }",
    );
    let config = with(&home.with("work/project/README", ""), &[], &[]).expect("valid");
    let told: Vec<(&str, &str)> =
        config.origins.iter().map(|(name, origin)| (name.as_str(), origin.rsplit('/').next().unwrap_or_default())).collect();
    assert_eq!(told, [("chains[0]", "config.json:3"), ("default", "config.json:4")]);
}
