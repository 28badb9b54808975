//! Files on disk: hotspare's own, and Claude Code's settings below it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use hotspare_config::{Context, Severity, codes, load};

use crate::home::{Home, names};

const REQUEST: &str = r#"{ "failover_policy": { "enabled": true, "primary_profile": "work", "secondary_profile": "openrouter-backup",
    "triggers": [500, 502, 503, 504, 429], "max_failover_attempts": 1 } }"#;

const PROFILES: &str = r#"{ "profiles": { "work": {}, "openrouter-backup": { "auth": { "env": "BACKUP_KEY" } } } }"#;

#[test]
fn without_any_file_the_clients_login_is_used() {
    let config = Home::new().config_of();
    assert!(config.implicit && config.sources.is_empty() && config.warnings.is_empty());
    assert_eq!(names(&config), ["claude"]);
}

#[test]
fn the_request_works_in_either_file() {
    let own = format!("{},{}", REQUEST.strip_suffix('}').expect("an object"), PROFILES.strip_prefix('{').expect("an object"));
    for home in [Home::new().config(own), Home::new().config(PROFILES).claude(REQUEST)] {
        let config = home.config_of();
        assert_eq!(names(&config), ["work", "openrouter-backup"]);
        assert_eq!(config.policy.max_hops, 1);
        assert!(!config.implicit);
    }
}

#[test]
fn the_request_alone_is_told_what_is_missing_and_where() {
    let home = Home::new().claude(REQUEST);
    let errors = home.fails_with(codes::NO_PROFILES);
    assert!(errors.0[0].file.ends_with(".claude/settings.json"));
    assert!(errors.0[0].help[0].contains(".config/hotspare/config.json"), "{errors}");
}

#[test]
fn own_file_wins_key_by_key_and_lists_replace() {
    let own = r#"{ "failover_policy": { "secondary_profile": ["b"], "triggers": [529], "clocks": { "head": "3s" } },
                   "profiles": { "a": {}, "b": {}, "c": {} } }"#;
    let claude = r#"{ "model": "opus", "failover_policy": { "primary_profile": "a", "secondary_profile": ["b", "c"], "triggers": [500, 429],
                      "clocks": { "head": "9s", "connect": "1s" } } }"#;
    let home = Home::new().config(own).claude(claude);
    let config = home.config_of();
    assert_eq!(names(&config), ["a", "b"]);
    assert!(config.policy.triggers.covers_overload());
    assert_eq!((config.policy.clocks.head.as_secs(), config.policy.clocks.connect.as_secs()), (3, 1));
    let locations = home.locations(None);
    assert_eq!(config.sources, [locations.config_file, locations.claude_settings]);
}

#[test]
fn faults_name_the_file_they_are_in() {
    let home = Home::new()
        .config("{\n \"failover_policy\": { \"max_failover_attempts\": 7 },\n \"profiles\": { \"a\": {} } }")
        .claude("{\n \"env\": { \"ANTHROPIC_API_KEY\": \"sk-ant-test-hunter2\" }, \"failover_policy\": { \"primary_profile\": \"b\" } }");
    let errors = home.load().expect_err("two faults");
    let places: Vec<_> = errors.0.iter().map(|error| (error.code, error.file.ends_with("settings.json"), error.line_column())).collect();
    assert_eq!(places, [(codes::OUT_OF_RANGE.id, false, Some((2, 48))), (codes::UNKNOWN_PROFILE.id, true, Some((2, 97)))], "{errors}");
    assert!(!format!("{errors}{errors:?}").contains("hunter2"), "the line it stands on holds a key:\n{errors}");
}

#[test]
fn other_keys_of_the_settings_are_none_of_our_business() {
    let settings = r#"{ "permissions": { "allow": ["Bash(ls)"] }, "hooks": 5, "model": "x", "model": "y" }"#;
    let config = Home::new().claude(settings).config_of();
    assert!(config.implicit && config.sources.is_empty() && config.warnings.is_empty());
    // Also when the policy stands beside them.
    let settings = r#"{ "hooks": 5, "model": "x", "model": "y", "failover_policy": { "enabled": false } }"#;
    let config = Home::new().claude(settings).config_of();
    assert!(!config.policy.enabled && config.warnings.is_empty());
}

#[test]
fn a_broken_settings_file_is_a_warning() {
    let home = Home::new().claude(r#"{ "failover_policy": { "enabled": false }"#);
    let config = home.config_of();
    assert!(config.policy.enabled && config.implicit);
    assert_eq!(config.warnings.len(), 1);
    assert_eq!((config.warnings[0].code, config.warnings[0].severity), (codes::CLAUDE_SETTINGS_UNUSABLE.id, Severity::Warning));
    // Broken, but without the key: not worth a word.
    assert!(Home::new().claude("{ oops").config_of().warnings.is_empty());
    assert_eq!(Home::new().claude(b"\xff\xfefailover_policy").config_of().warnings.len(), 1);
}

#[test]
fn a_fault_in_the_settings_policy_is_an_error() {
    Home::new().claude(r#"{ "failover_policy": { "trigger": [] } }"#).fails_with(codes::UNKNOWN_KEY);
    Home::new().claude(r#"{ "failover_policy": [] }"#).fails_with(codes::WRONG_TYPE);
    Home::new().claude(r#"{ "failover_policy": { "enabled": true, "enabled": false } }"#).fails_with(codes::DUPLICATE_KEY);
}

#[test]
fn warnings_come_along_with_errors() {
    let errors = Home::new().config(r#"{ "failover_policy": { "triggers": [500, 9000] } }"#).load().expect_err("a fault");
    assert_eq!(errors.0.iter().map(|error| error.severity).collect::<Vec<_>>(), [Severity::Error, Severity::Warning], "{errors}");
}

#[test]
fn a_named_file_must_exist() {
    let home = Home::new().config(PROFILES);
    let errors = load(&home.locations(Some("other.json")), &Context::default()).expect_err("no such file");
    assert_eq!(errors.0[0].code, codes::UNREADABLE.id);
    assert!(errors.render(false).contains("other.json"), "{errors}");
}

#[test]
fn a_named_file_is_read_in_place_of_the_usual_one() {
    let home = Home::new().config("{ broken").with("ci.json", r#"{ "server": { "max_connections": 7 } }"#);
    assert_eq!(load(&home.locations(Some("ci.json")), &Context::default()).expect("valid").server.max_connections, 7);
}

#[test]
fn what_is_no_text_is_said_clearly() {
    let errors = Home::new().config(b"{\n \"a\": \"\xe9\" }").fails_with(codes::NOT_UTF8);
    assert!(errors.render(false).contains("line 2, byte 9"), "{errors}");
    let errors = Home::new().config(b"\xff\xfe{\0}\0").fails_with(codes::NOT_UTF8);
    assert!(errors.render(false).contains("UTF-16"), "{errors}");
    Home::new().config(b"\xef\xbb\xbf{}").fails_with(codes::BYTE_ORDER_MARK);
    Home::new().config("").fails_with(codes::EMPTY);
    Home::new().config(" ".repeat(1024 * 1024 + 1)).fails_with(codes::TOO_LARGE);
}

#[test]
fn a_folder_in_place_of_the_file_is_said_clearly() {
    let home = Home::new();
    fs::create_dir_all(home.locations(None).config_file).expect("made");
    home.fails_with(codes::UNREADABLE);
}

/// What no text of the corpus can show: faults of the files themselves, each as a person reads it.
#[test]
fn faults_of_files_read_well() {
    let user = r#"{ "failover_policy": { "primary_profile": "work" }, "profiles": { "work": {} } }"#;
    let project = "p/.hotspare/config.json";
    let with_project = || Home::new().config(user).with(project, r#"{ "failover_policy": { "enabled": false } }"#);
    let mut book = String::new();
    let mut put = |what: &str, home: &Home, outcome: Result<hotspare_config::Config, hotspare_config::Errors>| {
        let shown = outcome.map_or_else(|errors| errors, |config| hotspare_config::Errors(config.warnings)).render(false);
        let pins = home.locations(None).state_dir.join("trust");
        let pins = fs::read_dir(pins).into_iter().flatten().flatten().map(|pin| pin.file_name().to_string_lossy().into_owned());
        let shown = pins.fold(shown, |shown, pin| shown.replace(&pin, "PIN"));
        let shown = shown.replace(crate::home::text(&home.path("")).trim_end_matches('/'), "~");
        write!(book, "──── {what}\n\n{shown}\n\n").expect("a string takes all");
    };
    let home = Home::new();
    put("absent", &home, load(&home.locations(Some("other.json")), &Context::default()));
    let home = Home::new().config(b"{\n \"a\": \"\xe9\" }");
    put("latin_1", &home, home.load());
    let home = Home::new().config(b"\xff\xfe{\0}\0");
    put("utf_16", &home, home.load());
    let home = Home::new().config(" ".repeat(1024 * 1024 + 1));
    put("too_large", &home, home.load());
    put("no_home", &home, hotspare_config::Locations::find(&|_| None, None).map(|_| unreachable!("no home is set")));
    let home = with_project();
    fs::rename(home.path(project), home.path("p/real.json"))
        .and_then(|()| symlink(home.path("p/real.json"), home.path(project)))
        .expect("linked");
    put("a_link", &home, home.load_in("p"));
    let home = with_project();
    home.trust("p");
    for pin in fs::read_dir(home.locations(None).state_dir.join("trust")).expect("pins") {
        fs::set_permissions(pin.expect("a pin").path(), fs::Permissions::from_mode(0o666)).expect("loosened");
    }
    put("loose_pin", &home, home.load_in("p"));
    insta::assert_snapshot!("files", book);
}

/// Only the administrator can give a file away; anybody else sees no snapshot of it.
#[test]
fn another_user_s_file_reads_well() {
    let home = Home::new().with("p/.hotspare/config.json", "{}");
    if chown(home.path("p/.hotspare/config.json"), Some(12345), None).is_ok() {
        let shown = hotspare_config::Errors(home.config_in("p").warnings).render(false);
        insta::assert_snapshot!("foreign_file", shown.replace(crate::home::text(&home.path("")).trim_end_matches('/'), "~"));
    }
}

#[test]
fn hotspare_own_broken_file_stops_the_run_with_its_own_fault_only() {
    let errors = Home::new().config("{ \"profiles\": ").claude(REQUEST).fails_with(codes::SYNTAX);
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert!(errors.0[0].file.ends_with(Path::new("hotspare/config.json")));
}
