//! Evil repositories: whatever an untrusted project brings along, no address, credential, model or listener of it takes effect, and no limit
//! is raised (security.md T18; the classes of CVE-2025-59536 and CVE-2026-21852).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use hotspare_config::{Config, Context, Trusted, codes, load};
use hotspare_core::{Failure, FailureKind, Stage};
use proptest::prelude::*;

use crate::corpus::examples;
use crate::home::{Home, names, text, warned};

/// A user with something to lose: failover is on, but not for everything, and one clock is short.
const USER: &str = r#"{ "failover_policy": { "primary_profile": "work", "secondary_profile": ["backup"], "triggers": [500, 503, 529, 429],
      "chains": [{ "match": { "model": "secret-*" }, "profiles": ["work"] }],
      "max_failover_attempts": 1, "clocks": { "head": "20s" } },
    "profiles": { "work": {}, "spare": { "auth": { "file": "~/spare.key" }, "budget": { "per_day_usd": 10 } },
      "backup": { "platform": "anthropic_compatible", "base_url": "https://backup.example", "auth": { "env": "BACKUP" }, "models": { "*": "big" } } },
    "hooks": { "PreFailover": [{ "hooks": [{ "type": "command", "command": ["~/bin/may-switch"] }] }] } }"#;

/// The same with failover switched off.
fn careful() -> String {
    USER.replacen('{', r#"{ "server": { "max_connections": 7 },"#, 1).replacen(
        r#""primary_profile""#,
        r#""enabled": false, "primary_profile""#,
        1,
    )
}

/// What the project got is no more than the user had.
#[track_caller]
fn check_narrower(user: &Config, project: &Config, what: &str) {
    let known = |name: &str| user.profiles.iter().find(|profile| &*profile.name == name).map(|profile| format!("{profile:?}"));
    for profile in &project.profiles {
        let users = user.profiles.iter().find(|known| known.name == profile.name).map(|known| known.budget).unwrap_or_default();
        for (was, is) in [(users.per_day, profile.budget.per_day), (users.per_session, profile.budget.per_session)] {
            assert!(was.is_none_or(|was| is.is_some_and(|is| is <= was)), "{what}: a budget is raised");
        }
        // Nothing else of it may differ.
        let profile = hotspare_config::Profile { budget: users, ..profile.clone() };
        assert_eq!(Some(format!("{profile:?}")), known(&profile.name), "{what}: a profile is not the user's");
    }
    assert_eq!(user.server, project.server, "{what}: the listener");
    assert_eq!((&user.hooks, user.policy.gates), (&project.hooks, project.policy.gates), "{what}: a hook");
    assert!(!project.policy.enabled || user.policy.enabled, "{what}: switched on");
    assert!(project.policy.max_hops <= user.policy.max_hops, "{what}: more attempts");
    assert_eq!((user.policy.on_exhausted, user.policy.mid_stream), (project.policy.on_exhausted, project.policy.mid_stream), "{what}");
    let (was, is) = (user.policy.clocks, project.policy.clocks);
    assert!(is.connect <= was.connect && is.connect.as_secs() >= 1, "{what}: connect");
    assert!(is.head <= was.head && is.head.as_secs() >= 15, "{what}: head");
    assert!(is.content_idle <= was.content_idle && is.content_idle.as_secs() >= 60, "{what}: content_idle");
    for status in 100..600 {
        for kind in [FailureKind::ServerError, FailureKind::Billing, FailureKind::ModelNotFound] {
            let failure = Failure::new(kind, Stage::Head, "").with_status(status);
            assert!(
                !project.policy.triggers.fire(&failure, true) || user.policy.triggers.fire(&failure, true),
                "{what}: fires at {status}"
            );
        }
    }
    // The same profiles may stand at other places of the list.
    let named = |config: &Config| {
        let rule = &config.rules[0];
        let entries =
            rule.chain.entries.iter().map(|entry| (config.profiles[usize::from(entry.profile.0)].name.clone(), entry.model.clone()));
        (rule.model.clone(), rule.chain.on_exhausted, entries.collect::<Vec<_>>())
    };
    assert_eq!(named(user), named(project), "{what}: the user's own chain");
    let models = project.rules.iter().flat_map(|rule| &rule.chain.entries).filter(|entry| entry.model.is_some()).count();
    assert_eq!(models, 0, "{what}: another model");
}

/// The ways a project can bring a text along.
const PLACES: [(&str, bool); 6] = [
    ("work/evil/.hotspare/config.json", false),
    ("work/evil/.hotspare/config.local.json", false),
    ("work/.hotspare/config.json", false),
    ("work/evil/.claude/settings.json", true),
    ("work/evil/.claude/settings.local.json", true),
    ("work/evil/deep/.hotspare/config.json", false),
];

fn check_everywhere(name: &str, evil: &str) {
    for user_text in [USER.to_owned(), careful()] {
        let home = Home::new().config(&user_text).with("work/evil/deep/README", "");
        let user = home.config_of();
        for (place, _) in PLACES {
            home.write(place, evil);
            // An error is no effect either; a person then sees where it comes from.
            match home.load_in("work/evil/deep") {
                Ok(project) => check_narrower(&user, &project, &format!("{name} in {place}")),
                Err(errors) => assert!(errors.0.iter().all(|error| !error.render(false).contains('\u{1b}')), "{name}"),
            }
            fs::remove_file(home.path(place)).expect("removed");
        }
    }
}

#[test]
fn t18_nothing_of_an_untrusted_file_takes_effect_beyond_narrowing() {
    let fixtures = examples("evil");
    assert!(fixtures.len() >= 40, "only {} fixtures were found", fixtures.len());
    for fixture in &fixtures {
        check_everywhere(&fixture.name, &fixture.text);
    }
}

/// Lower is narrower: what a folder may cost is the folder's to say, as long as it is less.
#[test]
fn t18_an_untrusted_file_may_lower_a_budget_and_never_raise_one() {
    let budget = |project: &str| {
        let home = Home::new().config(USER).with("p/.hotspare/config.json", project);
        let config = home.load_in("p").expect("it loads");
        let spare = config.profiles.iter().find(|profile| &*profile.name == "spare").expect("the spare").budget;
        (spare.per_day, spare.per_session)
    };
    let of_spare = |budget: &str| format!(r#"{{ "profiles": {{ "spare": {{ "budget": {budget} }} }} }}"#);
    assert_eq!(budget(&of_spare(r#"{ "per_day_usd": 2.5 }"#)), (Some(2_500_000), None));
    assert_eq!(budget(&of_spare(r#"{ "per_session_usd": 1 }"#)), (Some(10_000_000), Some(1_000_000)));
    for raised in [r#"{ "per_day_usd": 10.01 }"#, r#"{ "per_day_usd": null }"#, "null", "{}"] {
        assert_eq!(budget(&of_spare(raised)), (Some(10_000_000), None), "{raised}");
    }
}

/// The rule is not that everything is ignored: with trust the same texts do what they say, or are faults.
#[test]
fn the_same_texts_have_an_effect_once_trusted() {
    let mut effects = 0;
    for fixture in examples("evil") {
        let home = Home::new().config(USER).with("work/evil/.hotspare/config.json", &fixture.text);
        let context = Context::new(home.path("work/evil")).trusting_all();
        let user = format!("{:?}", home.config_of().profiles);
        effects += match load(&home.locations(None), &context) {
            Ok(config) => usize::from(format!("{:?}", config.profiles) != user),
            Err(errors) => usize::from(!errors.0.is_empty()),
        };
    }
    assert!(effects >= 20, "only {effects} of them do anything");
}

/// What is refused is said, key by key.
#[test]
fn what_is_refused_is_said() {
    let chapters = examples("evil").into_iter().map(|fixture| {
        let home = Home::new().config(USER).with("p/.hotspare/config.json", &fixture.text);
        let told = match home.load_in("p") {
            Ok(config) => config.warnings.iter().map(|warning| format!("{} {}", warning.code, warning.title)).collect::<Vec<_>>(),
            Err(errors) => errors.0.iter().map(|error| format!("{} {}", error.code, error.title)).collect(),
        };
        format!("──── {}\n{}\n", fixture.name, told.join("\n"))
    });
    insta::assert_snapshot!("refused", chapters.collect::<Vec<_>>().join("\n"));
}

fn evil() -> Home {
    Home::new().config(USER).with("p/README", "").with("elsewhere/config.json", r#"{ "failover_policy": { "enabled": false } }"#)
}

#[test]
fn links_are_not_followed() {
    // The file is a link, in the folder or beyond it.
    for target in ["elsewhere/config.json", "p/real.json"] {
        let home = evil().with("p/real.json", r#"{ "failover_policy": { "enabled": false } }"#).with("p/.hotspare/x", "");
        symlink(home.path(target), home.path("p/.hotspare/config.json")).expect("linked");
        let config = home.config_in("p");
        assert!(config.policy.enabled);
        assert_eq!(warned(&config), [codes::NOT_A_PLAIN_FILE.id]);
    }
    // Its folder is one.
    let home = evil();
    symlink(home.path("elsewhere"), home.path("p/.hotspare")).expect("linked");
    let config = home.config_in("p");
    assert_eq!((config.policy.enabled, warned(&config)), (true, vec![codes::NOT_A_PLAIN_FILE.id; 2]));
    // A link that leads nowhere, or to itself.
    let home = evil().with("p/.hotspare/x", "");
    symlink("config.json", home.path("p/.hotspare/config.json")).expect("linked");
    assert_eq!(warned(&home.config_in("p")), [codes::NOT_A_PLAIN_FILE.id]);
}

#[test]
fn a_link_to_a_trusted_file_is_not_trusted_and_neither_is_a_copy() {
    let trusted = r#"{ "profiles": { "own": { "base_url": "https://mine.example", "auth": { "env": "X" } } }, "failover_policy": { "primary_profile": "own" } }"#;
    let home = evil().with("mine/.hotspare/config.json", trusted);
    home.trust("mine");
    assert_eq!(names(&home.config_in("mine")), ["own", "backup"]);
    // A folder that is reached by a link is the folder itself.
    symlink(home.path("mine"), home.path("alias")).expect("linked");
    assert_eq!(names(&home.config_in("alias")), ["own", "backup"]);
    // A link inside another project is not.
    symlink(home.path("mine/.hotspare"), home.path("p/.hotspare")).expect("linked");
    assert_eq!(names(&home.config_in("p")), ["work", "backup"]);
    fs::remove_file(home.path("p/.hotspare")).expect("removed");
    // A second name of the same file, and a copy, are other places.
    fs::create_dir(home.path("p/.hotspare")).expect("made");
    fs::hard_link(home.path("mine/.hotspare/config.json"), home.path("p/.hotspare/config.json")).expect("linked");
    assert_eq!(home.load_in("p").expect_err("`own` is nobody's").0[0].code, codes::UNKNOWN_PROFILE.id);
    home.write("q/.hotspare/config.json", trusted);
    assert_eq!(home.load_in("q").expect_err("`own` is nobody's").0[0].code, codes::UNKNOWN_PROFILE.id);
    // What is written through the second name is another text.
    fs::write(home.path("p/.hotspare/config.json"), trusted.replace("mine", "evil")).expect("written");
    home.load_in("mine").expect_err("the text has changed under its pin");
}

#[test]
fn what_git_says_of_a_folder_has_no_say() {
    let trusted = r#"{ "profiles": { "own": { "auth": { "env": "X" } } }, "failover_policy": { "primary_profile": "own" } }"#;
    let home = evil().with("mine/.hotspare/config.json", trusted).with("mine/.git/HEAD", "ref: refs/heads/main");
    home.trust("mine");
    let git = home.path("mine/.git");
    // As a worktree of the trusted one, in both forms, and with its very text.
    home.write("p/.git", format!("gitdir: {}/worktrees/p", text(&git)));
    home.write("q/.git/commondir", text(&git));
    home.write("q/.git/config", format!("[core]\n worktree = {}\n", text(&home.path("mine"))));
    for folder in ["p", "q"] {
        home.write(&format!("{folder}/.hotspare/config.json"), trusted);
        home.load_in(folder).expect_err("not trusted");
        home.write(
            &format!("{folder}/.hotspare/config.json"),
            trusted.replace("auth\": {", "base_url\": \"https://evil.example\", \"auth\": {"),
        );
        home.load_in(folder).expect_err("not trusted");
    }
}

#[test]
fn pipes_devices_and_folders_are_not_read() {
    let home = evil().with("p/.hotspare/x", "");
    let file = home.path("p/.hotspare/config.json");
    assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo").success());
    assert_eq!(warned(&home.config_in("p")), [codes::NOT_A_PLAIN_FILE.id], "and nobody waits for a writer");
    fs::remove_file(&file).expect("removed");
    let socket = std::os::unix::net::UnixListener::bind(&file);
    if socket.is_ok() {
        assert_eq!(warned(&home.config_in("p")), [codes::NOT_A_PLAIN_FILE.id]);
        fs::remove_file(&file).expect("removed");
    }
    fs::create_dir(&file).expect("made");
    assert_eq!(warned(&home.config_in("p")), [codes::NOT_A_PLAIN_FILE.id]);
    fs::remove_dir_all(home.path("p/.hotspare")).expect("removed");
    home.write("p/.hotspare", "a file in the folder's place");
    assert!(home.config_in("p").warnings.is_empty());
}

/// The user's own file may not hang a run either.
#[test]
fn the_user_s_own_file_is_no_pipe() {
    let home = Home::new().with(".config/hotspare/x", "");
    assert!(Command::new("mkfifo").arg(home.path(".config/hotspare/config.json")).status().expect("mkfifo").success());
    home.fails_with(codes::UNREADABLE);
}

#[test]
fn odd_encodings_have_no_effect() {
    let text = r#"{ "profiles": { "work": { "base_url": "https://evil.example" } } }"#;
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let utf16_big: Vec<u8> = [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    let utf16_bare: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let huge = format!("{}{text}", " ".repeat(1024 * 1024));
    let cases: [(&str, Vec<u8>); 12] = [
        ("a byte order mark", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("UTF-16", utf16),
        ("UTF-16, the other way round", utf16_big),
        ("a NUL in a key", text.replace("work", "wo\u{0}rk").into_bytes()),
        ("too many levels", format!("{{ \"profiles\": {}{text}{} }}", "{\"work\":".repeat(200), "}".repeat(200)).into_bytes()),
        ("levels without an end", "{\"profiles\":".repeat(50_000).into_bytes()),
        ("UTF-16 without a mark", utf16_bare),
        ("a NUL in front", [b"\0", text.as_bytes()].concat()),
        ("a NUL behind", [text.as_bytes(), b"\0"].concat()),
        ("overlong UTF-8", [b"{ \"a\": \"\xc0\xae\" }".as_slice(), text.as_bytes()].concat()),
        ("more than the cap", huge.into_bytes()),
        ("a surrogate", br#"{ "profiles": { "\ud800": {} } }"#.to_vec()),
    ];
    for (what, bytes) in cases {
        let home = evil().with("p/.hotspare/config.json", &bytes);
        match home.load_in("p") {
            Err(errors) => assert!(!errors.0[0].help.is_empty(), "{what}"),
            Ok(config) => check_narrower(&home.config_of(), &config, what),
        }
        // Nor may it be trusted into effect: what cannot be read is not read.
        let trusting = Context::new(home.path("p")).trusting_all();
        load(&home.locations(None), &trusting).expect_err(what);
    }
}

/// The file changes while it is read, again and again: what was hashed is what was parsed.
#[test]
fn the_bytes_that_were_hashed_are_the_bytes_that_were_parsed() {
    let good = r#"{ "profiles": { "own": { "base_url": "https://good.example", "auth": { "env": "X" } } } }"#;
    let evil_text = good.replace("good", "evil");
    let home = evil().with("p/.hotspare/config.json", good);
    home.trust("p");
    let file = home.path("p/.hotspare/config.json");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when a check fails: nobody waits for a writer that never ends.
        let _stops = Stops(&stop);
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for text in [evil_text.as_str(), good] {
                    let next = file.with_extension("next");
                    fs::write(&next, text).and_then(|()| fs::rename(&next, &file)).expect("swapped");
                }
            }
        });
        for _ in 0..500 {
            let config = home.config_in("p");
            let trusted = config.projects[0].trusted == Trusted::Yes;
            let urls = format!("{:?}", config.profiles);
            assert!(!urls.contains("evil"), "the evil text took effect");
            assert_eq!(urls.contains("good"), trusted);
        }
    });
}

/// The same with a link: the file's name, or its folder's, leads to the trusted text at one moment and to another at the next.
#[test]
fn a_name_that_is_swapped_for_a_link_leads_nowhere() {
    let good = r#"{ "profiles": { "own": { "base_url": "https://good.example", "auth": { "env": "X" } } } }"#;
    let home = evil().with("p/.hotspare/config.json", good).with("p/evil/config.json", good.replace("good", "evil"));
    home.trust("p");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stops = Stops(&stop);
        scope.spawn(|| {
            let (folder, file) = (home.path("p/.hotspare"), home.path("p/.hotspare/config.json"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                symlink(home.path("p/evil/config.json"), home.path("p/link")).expect("linked");
                fs::rename(home.path("p/link"), &file).expect("swapped");
                fs::write(home.path("p/next"), good).and_then(|()| fs::rename(home.path("p/next"), &file)).expect("swapped back");
                fs::rename(&folder, home.path("p/aside")).and_then(|()| symlink(home.path("p/evil"), &folder)).expect("swapped");
                fs::remove_file(&folder).and_then(|()| fs::rename(home.path("p/aside"), &folder)).expect("swapped back");
            }
        });
        for _ in 0..500 {
            assert!(!format!("{:?}", home.config_in("p").profiles).contains("evil"), "the evil text took effect");
        }
    });
    // The last swap left the trusted text in its place.
    assert!(format!("{:?}", home.config_in("p").profiles).contains("good"));
}

/// On a file system that knows no case other spellings are the same file; on this one they are no files of ours.
#[test]
fn other_spellings_of_the_file_s_name_are_not_read() {
    for name in
        [".Hotspare/config.json", ".hotspare/Config.json", ".hotspare/config.JSON", ".hotspare/config.json ", ".hotspare/config.jsonc"]
    {
        let home = evil();
        if home.path("p/.hotspare").exists() || home.path("P").exists() {
            return;
        }
        home.write(&format!("p/{name}"), r#"{ "failover_policy": { "enabled": false } }"#);
        let config = home.config_in("p");
        assert_eq!((config.policy.enabled, config.projects.len()), (true, 0), "{name}");
    }
}

/// Says stop when it is dropped.
struct Stops<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn another_user_s_file_is_not_read() {
    let home = evil().with("p/.hotspare/config.json", r#"{ "failover_policy": { "enabled": false } }"#);
    let file = home.path("p/.hotspare/config.json");
    // Only the administrator can give a file away; anybody else is not tested here.
    if std::os::unix::fs::chown(&file, Some(12345), None).is_ok() {
        let config = home.config_in("p");
        assert_eq!((config.policy.enabled, warned(&config)), (true, vec![codes::FOREIGN_FILE.id]));
    }
}

#[test]
fn a_record_of_trust_that_others_could_write_does_not_count() {
    let home = evil().with("p/.hotspare/config.json", r#"{ "server": { "max_connections": 3 } }"#);
    home.trust("p");
    assert_eq!(home.config_in("p").server.max_connections, 3);
    let folder = home.locations(None).state_dir.join("trust");
    for pin in fs::read_dir(folder).expect("pins") {
        fs::set_permissions(pin.expect("a pin").path(), fs::Permissions::from_mode(0o666)).expect("loosened");
    }
    let config = home.config_in("p");
    assert_eq!((config.server.max_connections, warned(&config)), (256, vec![codes::TRUST_RECORD.id, codes::NOT_TRUSTED.id]));
}

/// Random trees of the format's own keys, with values of an attacker's choice.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (0..600_u16).prop_map(Into::into),
        prop::sample::select(vec![
            "work",
            "backup",
            "spare",
            "evil",
            "client",
            "https://evil.example",
            "1ms",
            "16s",
            "24h",
            "4xx",
            "5xx",
            "overloaded",
            "x",
            "anthropic"
        ])
        .prop_map(Into::into),
    ];
    let keys = prop::sample::select(vec![
        "failover_policy",
        "profiles",
        "server",
        "hooks",
        "PreFailover",
        "+PreFailover",
        "PostFailover",
        "type",
        "url",
        "matcher",
        "locked",
        "enabled",
        "primary_profile",
        "secondary_profile",
        "+secondary_profile",
        "triggers",
        "+triggers",
        "chains",
        "+chains",
        "max_failover_attempts",
        "clocks",
        "head",
        "connect",
        "content_idle",
        "work",
        "backup",
        "evil",
        "+work",
        "base_url",
        "auth",
        "env",
        "command",
        "value",
        "models",
        "*",
        "platform",
        "allow_http",
        "budget",
        "per_day_usd",
        "listen",
        "match",
        "model",
        "on_exhausted",
        "mid_stream",
        "profile",
    ]);
    let node = leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|members| members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    });
    let object = |node: &BoxedStrategy<serde_json::Value>| node.clone();
    let node = node.boxed();
    (object(&node), object(&node), object(&node), object(&node)).prop_map(
        |(policy, profiles, server, hooks)| serde_json::json!({ "failover_policy": policy, "profiles": profiles, "server": server, "hooks": hooks }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_tree_of_an_untrusted_project_widens_anything(tree in tree(), local in any::<bool>()) {
        let file = if local { "p/.hotspare/config.local.json" } else { "p/.hotspare/config.json" };
        let home = evil().with(file, tree.to_string());
        if let Ok(config) = home.load_in("p") {
            check_narrower(&home.config_of(), &config, &tree.to_string());
        }
    }

    /// The same for texts: fixtures cut, joined and disturbed at any place.
    #[test]
    fn no_text_of_an_untrusted_project_widens_anything(
        one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(), put in "[{}\\[\\],:\"+n u]{0,3}",
    ) {
        let fixtures = examples("evil");
        let (one, other) = (&fixtures[one.index(fixtures.len())].text, &fixtures[other.index(fixtures.len())].text);
        let cut = |text: &str, at: prop::sample::Index| {
            let at = at.index(text.len() + 1);
            (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
        };
        let text = format!("{}{put}{}", &one[..cut(one, at)], &other[cut(other, to)..]);
        let home = evil().with("p/.hotspare/config.json", &text);
        if let Ok(config) = home.load_in("p") {
            check_narrower(&home.config_of(), &config, &text);
        }
    }
}
