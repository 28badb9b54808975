//! Holds which chain is proposed for what was found, and that nothing dear or delicate comes by itself.

use std::path::PathBuf;

use super::*;
use crate::commands::init::draw;
use crate::found::{Cloud, Key};
use crate::output::{Look, Paint};

const HOME: &str = "/h";

fn login(folder: &str, own: bool, plan: Option<&str>) -> Login {
    Login {
        folder: PathBuf::from(HOME).join(folder),
        own,
        auth: "login".to_owned(),
        account: Some("me@example.com".to_owned()),
        plan: plan.map(str::to_owned),
        expires: Some(if own { 1_018_000 } else { 1 }),
    }
}

fn key(variable: &str, provider: &str) -> Key {
    Key { variable: variable.to_owned(), provider: provider.to_owned(), base_url: None }
}

fn names(plan: &Plan) -> Vec<(&str, bool)> {
    plan.candidates.iter().map(|candidate| (candidate.name.as_str(), candidate.proposed)).collect()
}

fn plan(found: &Found) -> Plan {
    Plan::of(found, Path::new(HOME), 1_000_000, &Current::default())
}

#[test]
fn a_login_and_a_key_are_first_and_spare() {
    let found = Found {
        logins: vec![login(".claude", true, Some("max"))],
        keys: vec![key("OPENROUTER_API_KEY", "openrouter")],
        ..Found::default()
    };
    let plan = plan(&found);
    assert_eq!(names(&plan), [("max", true), ("openrouter", true)]);
    let (policy, profiles) = plan.configuration(&plan.proposed());
    assert_eq!(policy, json!({"enabled": true, "primary_profile": "max", "secondary_profile": ["openrouter"]}));
    assert_eq!(
        profiles,
        json!({"max": {}, "openrouter": {"platform": "openrouter", "auth": {"keychain": "openrouter"}, "budget": {"per_day_usd": CEILING_USD}}})
    );
}

#[test]
fn what_costs_money_has_a_ceiling_and_says_so() {
    assert!(PAID.contains(&format!("${CEILING_USD} a day")));
    for candidate in rich().candidates.iter().filter(|candidate| candidate.key_of.is_some() && candidate.proposed) {
        assert_eq!((&candidate.profile["budget"]["per_day_usd"], candidate.costs), (&CEILING_USD.into(), PAID), "{candidate:?}");
    }
}

/// Its models are weaker than what is asked for, and its price is not known: both are the user's to judge.
#[test]
fn another_company_s_key_is_named_as_paid_with_its_map_and_never_taken_by_itself() {
    let keys = vec![
        key("DEEPSEEK_API_KEY", "deepseek"),
        key("MOONSHOT_API_KEY", "kimi"),
        key("MINIMAX_API_KEY", "minimax"),
        key("ZAI_API_KEY", "zai"),
    ];
    let plan = plan(&Found { logins: vec![login(".claude", true, None)], keys, ..Found::default() });
    assert_eq!(names(&plan), [("subscription", true), ("deepseek", false)]);
    assert!(plan.candidates[1].costs.starts_with("paid per token"), "{:?}", plan.candidates[1]);
    let (_, profiles) = plan.configuration(&plan.ordered("1 2").expect("both"));
    assert_eq!(
        profiles["deepseek"].to_string(),
        r#"{"preset":"deepseek","auth":{"keychain":"deepseek"},"models":{"claude-opus-*":"deepseek-v4-pro","claude-*":"deepseek-flash"}}"#,
        "in the order in which the first that fits decides"
    );
    assert_eq!(plan.unusable.len(), 3, "no model's name is guessed");
    for (one, [variable, preset]) in
        plan.unusable.iter().zip([["MOONSHOT_API_KEY", "kimi"], ["MINIMAX_API_KEY", "minimax"], ["ZAI_API_KEY", "zai"]])
    {
        assert!(
            one.what.starts_with(variable) && one.why.starts_with("paid") && one.why.contains(&format!("--preset {preset} ")),
            "{one:?}"
        );
    }
}

#[test]
fn another_folder_s_login_is_listed_and_never_taken_by_itself() {
    let logins = vec![login(".claude", true, Some("max")), login(".claude-personal", false, Some("pro")), login(".claude_", false, None)];
    let plan = plan(&Found { logins, ..Found::default() });
    assert_eq!(names(&plan), [("max", true), ("personal", false), ("other", false)]);
    assert_eq!(plan.ordered("2 1"), Ok(vec![1, 0]));
    let (policy, profiles) = plan.configuration(&[1, 0]);
    assert_eq!(
        (&policy["primary_profile"], &profiles["personal"]["auth"]["claude_config_dir"]),
        (&"personal".into(), &"~/.claude-personal".into())
    );
    for wrong in ["", "0", "4", "1 1", "x", "1;2"] {
        assert!(plan.ordered(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_gateway_stays_first_and_its_key_goes_nowhere_else() {
    let found = Found {
        gateway: Some("https://gateway.example.com/llm".to_owned()),
        logins: vec![login(".claude", true, None)],
        keys: vec![key("ANTHROPIC_API_KEY", "anthropic"), key("ANTHROPIC_BACKUP_KEY", "anthropic")],
        ..Found::default()
    };
    let plan = plan(&found);
    assert_eq!(names(&plan), [("gateway", true), ("console", true)]);
    assert_eq!(plan.candidates[0].profile["base_url"], "https://gateway.example.com/llm");
    assert_eq!(plan.candidates[1].key_of.as_deref(), Some("ANTHROPIC_BACKUP_KEY"));
}

#[test]
fn without_a_login_the_client_s_own_key_is_first_and_no_spare_of_itself() {
    let found = Found { keys: vec![key("ANTHROPIC_API_KEY", "anthropic")], ..Found::default() };
    let plan = plan(&found);
    assert_eq!((names(&plan), plan.candidates[0].key_of.as_deref()), (vec![("api", true)], None));
    assert_eq!(names(&self::plan(&Found::default())), []);
}

#[test]
fn names_are_told_apart() {
    let keys =
        vec![key("OPENROUTER_API_KEY", "openrouter"), key("ANTHROPIC_BACKUP_KEY", "anthropic"), key("ANTHROPIC_API_KEY", "anthropic")];
    let plan = plan(&Found { logins: vec![login(".claude", true, None)], keys, ..Found::default() });
    assert_eq!(names(&plan), [("subscription", true), ("console", true), ("console-2", true), ("openrouter", true)]);
    assert_eq!(plan.candidates[2].profile["auth"]["keychain"], "console-2");
    assert_eq!(plan.notes.len(), 1, "the key is sent in place of the login");
}

fn existing(text: &str) -> Current {
    let config = hotspare_config::parse(text, Path::new("config.json"), Path::new(HOME)).expect("valid");
    let profiles = config.profiles.iter().skip(usize::from(config.implicit));
    let profiles = profiles.map(|profile| Existing { profile: profile.clone(), missing: None, only_in_shell: None });
    Current { profiles: profiles.collect(), chain: Current::chain_of(&config) }
}

fn edits(found: &Found, text: &str) -> Vec<(String, String)> {
    let plan = Plan::of(found, Path::new(HOME), 1_000_000, &existing(text));
    plan.edits(&plan.proposed()).into_iter().map(|(key, value)| (key, value.to_string())).collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn configured_profile_is_not_edited_where_a_spare_is_added() {
    let found = Found {
        logins: vec![login(".claude", true, Some("max"))],
        keys: vec![key("ANTHROPIC_BACKUP_KEY", "anthropic")],
        ..Found::default()
    };
    let edits = edits(&found, r#"{ "profiles": { "claude": { "base_url": "https://gateway.example" } } }"#);
    let keys: Vec<&str> = edits.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, [r#"profiles."console""#, "failover_policy.primary_profile", "failover_policy.secondary_profile"]);
    assert_eq!(edits[1].1, r#""claude""#);
}

#[test]
fn whole_chain_is_left_as_it_is() {
    let found = Found {
        logins: vec![login(".claude", true, Some("max"))],
        keys: vec![key("OPENROUTER_API_KEY", "openrouter")],
        ..Found::default()
    };
    let text = r#"{ "failover_policy": { "primary_profile": "work", "secondary_profile": "b" },
        "profiles": { "work": {}, "b": { "auth": { "env": "B" } } } }"#;
    assert_eq!(edits(&found, text), []);
}

#[test]
fn gateway_in_use_goes_before_a_chain_that_leaves_it_out() {
    let found = Found { gateway: Some("https://gateway.example".to_owned()), ..Found::default() };
    let text = r#"{ "failover_policy": { "primary_profile": "work", "secondary_profile": "b" },
        "profiles": { "work": {}, "b": { "auth": { "env": "B" } } } }"#;
    let expected = [
        pair(r#"profiles."gateway""#, r#"{"base_url":"https://gateway.example","auth":"client"}"#),
        pair("failover_policy.primary_profile", r#""gateway""#),
        pair("failover_policy.secondary_profile", r#"["b"]"#),
    ];
    assert_eq!(edits(&found, text), expected);
}

#[test]
fn spare_of_the_configuration_gets_a_name_for_a_model() {
    let models = OwnModel::of(&[("ANTHROPIC_MODEL", "glm-5[1m]"), ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "haiku")]);
    let found = Found { gateway: Some("https://gateway.example".to_owned()), models, ..Found::default() };
    let text = r#"{ "failover_policy": { "primary_profile": "gateway", "secondary_profile": ["b", "c"] }, "profiles": {
        "gateway": { "base_url": "https://gateway.example" },
        "b": { "auth": { "env": "B" } },
        "c": { "platform": "openrouter", "auth": { "env": "C" }, "models": { "glm-5": "z-ai/glm-5" } } } }"#;
    assert_eq!(edits(&found, text), [pair(r#"profiles."b".models."glm-5""#, r#""claude-sonnet-5-5""#)], "what has a name keeps it");
}

#[test]
fn spare_without_a_name_for_the_model_is_not_counted() {
    let models = OwnModel::of(&[("ANTHROPIC_MODEL", "qwen3-max")]);
    let found = Found { gateway: Some("https://gateway.example".to_owned()), models, ..Found::default() };
    let text = r#"{ "failover_policy": { "primary_profile": "gateway", "secondary_profile": ["b"] }, "profiles": {
        "gateway": { "base_url": "https://gateway.example" },
        "b": { "preset": "zai", "auth": { "env": "B" }, "models": { "claude-*": "glm-5" } } } }"#;
    let plan = Plan::of(&found, Path::new(HOME), 1_000_000, &existing(text));
    assert_eq!(plan.able(&plan.proposed()), 1);
    assert!(plan.candidates[1].problem.as_ref().is_some_and(|why| why.contains("no name for qwen3-max")), "{:?}", plan.candidates[1]);
}

#[test]
fn claude_s_own_names_need_no_map() {
    let named = [
        ("ANTHROPIC_MODEL", "claude-opus-5-5"),
        ("ANTHROPIC_DEFAULT_OPUS_MODEL", "opus"),
        ("CLAUDE_CODE_SUBAGENT_MODEL", "claude-sonnet-4-5@20250929"),
    ];
    assert_eq!(OwnModel::of(&named), []);
    let others =
        OwnModel::of(&[("ANTHROPIC_DEFAULT_SONNET_MODEL", "anthropic/claude-sonnet-4.5"), ("ANTHROPIC_DEFAULT_OPUS_MODEL", "glm-5")]);
    let pairs: Vec<_> = others.iter().map(|model| (model.name.as_str(), model.stand_in.as_str())).collect();
    assert_eq!(pairs, [("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"), ("glm-5", "claude-opus-5-5")]);
}

fn rich() -> Plan {
    plan(&Found {
        logins: vec![login(".claude", true, Some("max")), login(".claude-personal", false, Some("pro"))],
        keys: vec![
            key("OPENROUTER_API_KEY", "openrouter"),
            key("ZAI_API_KEY", "zai"),
            key("DEEPSEEK_API_KEY", "deepseek"),
            key("ANTHROPIC_API_KEY", "anthropic"),
        ],
        clouds: vec![Cloud { platform: "bedrock".to_owned(), by: "AWS_PROFILE".to_owned() }],
        ..Found::default()
    })
}

/// Every screen of `init`, one after the other.
fn screens(look: Look) -> String {
    let plan = rich();
    let (policy, profiles) = plan.configuration(&plan.proposed());
    let after = format!("{{\n  \"failover_policy\": {},\n  \"profiles\": {}\n}}", draw::json(&policy), draw::json(&profiles));
    let undo = ["hotspare uninstall".to_owned(), "hotspare config undo".to_owned()];
    let proof = "drill 529: max was broken on purpose, console answered; 8 of 8 proofs held, no token was spent";
    [
        draw::found(&plan, look),
        draw::question(&plan, Some(&plan.proposed()), look),
        draw::change("{\n}", &after, Path::new("/h/.config/hotspare/config.json"), look),
        draw::kept_keys(&plan, &plan.proposed(), Path::new("/h/.local/state/hotspare"), look),
        draw::done(&draw::Done { passed: true, proof, unproved: vec!["console"], wired: true, undo: &undo }, look),
        draw::choices(&self::plan(&Found { logins: vec![login(".claude", true, Some("max"))], ..Found::default() }), look),
    ]
    .join("\n────\n")
}

#[test]
fn the_screens_fit_80_columns_and_120_with_and_without_colour_and_unicode() {
    for (name, width, colour, unicode) in
        [("80", 80, false, true), ("120", 120, false, true), ("ascii", 80, false, false), ("colour", 80, true, true)]
    {
        let text = screens(Look { paint: Paint(colour), unicode, width: Some(width) });
        if !colour {
            let long = text.lines().find(|line| line.chars().count() > width);
            assert_eq!(long, None);
        }
        assert!(unicode || text.replace('─', "").is_ascii(), "{text}");
        insta::assert_snapshot!(name, text);
    }
}
