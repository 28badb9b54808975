//! Faulty project files: each is left out alone, or its last good text stays in force, and none of it loosens anything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hotspare_config::{Config, Context, FolderConfig, Folders, load_leniently};
use proptest::prelude::*;

use crate::home::{Home, names};

/// `a` with `b` behind it; in `~/bank` and below `a` alone.
const USER: &str = r#"{ "failover_policy": { "primary_profile": "a", "secondary_profile": ["b"],
    "chains": [{ "match": { "project": "~/bank/**" }, "profiles": ["a"] }] },
    "profiles": { "a": {}, "b": { "auth": { "env": "B" } } } }"#;

fn in_folder(home: &Home, folder: &str) -> FolderConfig {
    Folders::new(home.locations(None), Context::default()).look(Instant::now(), &home.path(folder))
}

/// The profiles of the chain that holds for any model.
fn led(config: &Config) -> Vec<&str> {
    let rule = config.rules.iter().find(|rule| rule.model.is_none()).expect("a chain");
    rule.chain.entries.iter().map(|entry| &*config.profiles[usize::from(entry.profile.0)].name).collect()
}

#[test]
fn broken_project_file_keeps_the_user_s_own_chain() {
    for text in ["{", "", "\u{0}", "[1]", r#"{ "profiles": { "b": nul } }"#, r#"{ "failover_policy": { "primary_profile": "nobody" } }"#] {
        let home = Home::new().config(USER).with("bank/.hotspare/config.json", text);
        let known = in_folder(&home, "bank");
        assert_eq!(led(known.config.as_deref().expect("a configuration")), ["a"], "{text}");
    }
}

#[test]
fn broken_project_file_is_named_with_its_line() {
    let home = Home::new().config(USER).with("bank/.hotspare/config.json", "{\n  \"profiles\": {\n    \"b\": nul }}");
    let known = in_folder(&home, "bank");
    let [fault] = &*known.left_out else { panic!("{:?}", known.left_out) };
    assert_eq!(
        (fault.file.as_path(), fault.line, fault.keeps_last_good),
        (home.path("bank/.hotspare/config.json").as_path(), Some(3), false)
    );
}

#[test]
fn broken_inner_file_leaves_the_outer_one_in_force() {
    let home = Home::new()
        .config(USER)
        .with("src/.hotspare/config.json", r#"{ "profiles": { "b": null } }"#)
        .with("src/inner/.hotspare/config.json", "{")
        .with("src/inner/.hotspare/config.local.json", "[");
    let known = in_folder(&home, "src/inner");
    assert_eq!((led(known.config.as_deref().expect("valid")), known.left_out.len()), (vec!["a"], 2));
}

#[test]
fn broken_file_keeps_its_last_good_text_in_force() {
    let home = Home::new().config(USER).with("p/.hotspare/config.json", r#"{ "profiles": { "b": null } }"#);
    let folders = Folders::new(home.locations(None), Context::default());
    let start = Instant::now();
    let look = |seconds| folders.look(start + Duration::from_secs(seconds), &home.path("p"));
    assert_eq!(led(look(0).config.as_deref().expect("valid")), ["a"]);
    home.write("p/.hotspare/config.json", "{");
    let broken = look(2);
    assert_eq!((led(broken.config.as_deref().expect("valid")), broken.left_out[0].keeps_last_good), (vec!["a"], true));
    // The user's own configuration is still read.
    home.write(
        ".config/hotspare/config.json",
        USER.replace(r#""secondary_profile": ["b"]"#, r#""secondary_profile": ["c"]"#).replace("\"b\": {", "\"c\": {"),
    );
    assert_eq!(led(look(4).config.as_deref().expect("valid")), ["a", "c"]);
    home.write("p/.hotspare/config.json", "{ }");
    assert!(look(6).left_out.is_empty());
}

#[test]
fn broken_user_file_keeps_the_folder_s_last_good_configuration() {
    let home = Home::new().config(USER).with("bank/x", "");
    let folders = Folders::new(home.locations(None), Context::default());
    let look = |folder: &str| folders.look(Instant::now(), &home.path(folder));
    assert_eq!(led(look("bank").config.as_deref().expect("valid")), ["a"]);
    home.write(".config/hotspare/config.json", "{");
    let known = look("bank");
    assert!(known.errors.is_some() && known.config.is_some_and(|config| led(&config) == ["a"]));
    assert!(look("never-seen").config.is_none(), "nothing is assumed");
}

#[test]
fn too_many_faulty_files_are_no_configuration() {
    let home = Home::new().config(USER);
    let mut folder = "x".to_owned();
    home.write(&format!("{}/leaf", "x/".repeat(21)), "");
    for _ in 0..20 {
        home.write(&format!("{folder}/.hotspare/config.json"), "{");
        folder += "/x";
    }
    assert!(in_folder(&home, &folder).config.is_none());
}

#[test]
fn chains_of_other_folders_are_known() {
    let home = Home::new().config(USER).with("p/x", "");
    let config = home.config_in("p");
    let [folder] = config.folder_rules.as_slice() else { panic!("{:?}", config.folder_rules) };
    let chains: Vec<&str> = folder.rules.iter().map(|rule| &*rule.chain.name).collect();
    assert_eq!((folder.pattern.as_str(), folder.is_here, chains), ("~/bank/**", false, vec!["chains[0]", "default"]));
    assert_eq!(names(&config), ["a", "b"]);
    assert!(home.config_in("bank").folder_rules[0].is_here);
}

#[cfg(unix)]
#[test]
fn hostile_project_folders_change_nothing() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let home = Home::new().config(USER).with("bank/x", "").with("evil.json", r#"{ "failover_policy": { "primary_profile": "b" } }"#);
    let check = |what: &str| {
        let known = in_folder(&home, "bank");
        assert_eq!(led(known.config.as_deref().unwrap_or_else(|| panic!("{what}"))), ["a"], "{what}");
        std::fs::remove_file(home.path("bank/.hotspare"))
            .or_else(|_| std::fs::remove_dir_all(home.path("bank/.hotspare")))
            .expect("removed");
    };
    rustix::fs::mknodat(
        rustix::fs::CWD,
        home.path("bank/.hotspare"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a pipe");
    check("a pipe named .hotspare");
    symlink(home.path("bank"), home.path("bank/.hotspare")).expect("linked");
    check("a link to the folder itself");
    home.write("bank/.hotspare/x", "");
    symlink(home.path("evil.json"), home.path("bank/.hotspare/config.json")).expect("linked");
    check("a link to a file");
    home.write("bank/.hotspare/config.json", vec![b' '; 2 << 20]);
    check("a huge file");
    home.write("bank/.hotspare/config.json", "{ \"\u{1b}]0;evil\u{7}\": ");
    check("escape sequences");
    home.write("bank/.hotspare", "no folder");
    check("a plain file named .hotspare");
    home.write("bank/.hotspare/config.json/x", "");
    check("a folder in place of the file");
    home.write("bank/.hotspare/config.json", "{");
    std::fs::set_permissions(home.path("bank/.hotspare/config.json"), std::fs::Permissions::from_mode(0o000)).expect("closed");
    check("an unreadable file");
}

#[test]
fn folder_named_by_detours_has_its_own_chain() {
    let home = Home::new().config(USER).with("bank/deep/x", "").with("other/x", "");
    assert_eq!(led(in_folder(&home, "other/../bank/./deep").config.as_deref().expect("valid")), ["a"]);
    assert_eq!(led(in_folder(&home, "bank/../other").config.as_deref().expect("valid")), ["a", "b"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(home.path("bank"), home.path("other/link")).expect("linked");
        assert_eq!(led(in_folder(&home, "other/link/deep").config.as_deref().expect("valid")), ["a"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever untrusted files say, good or broken, in a folder that the user keeps to `a`: no other profile is reached, for any model.
    #[test]
    fn no_project_file_loosens_the_user_s_chain(
        texts in prop::collection::vec(
            prop_oneof![
                Just("{".to_owned()),
                Just(r#"{ "failover_policy": { "primary_profile": "b", "secondary_profile": [] } }"#.to_owned()),
                Just(r#"{ "failover_policy": { "chains": [{ "profiles": ["b"] }] } }"#.to_owned()),
                Just(r#"{ "failover_policy": { "+chains": [{ "match": { "model": "x" }, "profiles": ["b"] }] } }"#.to_owned()),
                Just(r#"{ "profiles": { "a": null } }"#.to_owned()),
                Just(r#"{ "profiles": { "a": { "base_url": "https://evil.example" } } }"#.to_owned()),
                Just(r#"{ "failover_policy": { "enabled": true, "primary_profile": 7 } }"#.to_owned()),
                "\\PC{0,60}",
                "[\\[\\]{}\":,a-c ]{0,40}",
            ],
            3,
        ),
    ) {
        let home = Home::new()
            .config(USER)
            .with("bank/.hotspare/config.json", &texts[0])
            .with("bank/deep/.hotspare/config.json", &texts[1])
            .with("bank/deep/.claude/settings.local.json", &texts[2]);
        let context = Context::new(home.path("bank/deep"));
        if let Ok((config, _)) = load_leniently(&home.locations(None), &context, &[]) {
            let reached: BTreeSet<&str> = led(&config).into_iter().collect();
            prop_assert!(reached.iter().all(|name| *name == "a"), "{reached:?}");
            let first = &config.rules[0];
            prop_assert!(first.model.is_none(), "the user's own chain comes first");
            prop_assert!(config.profiles.iter().all(|profile| profile.base_url.is_anthropic()));
        }
    }
}
