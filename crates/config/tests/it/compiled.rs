//! What a file means, in the core's own types.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hotspare_config::{AuthHeader, AuthSource, Config, Mapped, Platform, Preset, Supports, parse};
use hotspare_core::{Budget, ChainEntry, Failure, FailureKind, MidStream, OnExhausted, Policy, ProfileId, Stage};

use crate::corpus::examples;

fn good(name: &str) -> Config {
    let example = examples("good").into_iter().find(|example| example.name == name).expect("the example");
    example.parse().expect("a good example")
}

fn chain_of(config: &Config, name: &str) -> Vec<String> {
    let rule = config.rules.iter().find(|rule| &*rule.chain.name == name).expect("the chain");
    let show = |entry: &ChainEntry| {
        let profile = &config.profiles[usize::from(entry.profile.0)].name;
        entry.model.as_ref().map_or_else(|| profile.to_string(), |model| format!("{profile} as {model}"))
    };
    rule.chain.entries.iter().map(show).collect()
}

#[test]
fn the_request_works_as_it_stands() {
    let config = good("request_as_it_stands");
    assert!(config.policy.enabled && !config.implicit);
    assert_eq!(config.policy.max_hops, 1);
    assert_eq!(chain_of(&config, "default"), ["work", "openrouter-backup"]);
    assert!(!config.policy.triggers.covers_overload(), "statuses are exactly those listed");
    assert_eq!(config.profiles[1].base_url.to_string(), "https://openrouter.ai/api");
    assert_eq!(config.profiles[1].platform, Platform::OpenRouter, "the host says who it is");
    assert_eq!(config.profiles[1].models.map("claude-opus-5-5"), Mapped::To("anthropic/claude-opus-5.5".into()));
}

#[test]
fn every_key_takes_effect() {
    let config = good("every_key");
    assert_eq!(chain_of(&config, "chains[0]"), ["glm", "work"]);
    assert_eq!(chain_of(&config, "chains[1]"), ["work", "work as claude-sonnet-5-5", "company"]);
    assert_eq!(chain_of(&config, "default"), ["work", "company", "glm"]);
    assert_eq!(config.rules[0].chain.on_exhausted, Some(OnExhausted::Fail));
    assert_eq!((config.policy.max_hops, config.policy.mid_stream), (2, MidStream::Cut));
    assert_eq!(config.policy.on_exhausted, OnExhausted::Wait);
    assert_eq!(config.policy.clocks.connect, Duration::from_millis(250));
    assert_eq!(config.policy.clocks.content_idle, Duration::from_secs(3600));

    let [work, company, glm, local, kept, asked, personal, console, plan, env] = &config.profiles[..] else { panic!("ten profiles") };
    assert!(matches!(work.auth.source, AuthSource::Client) && work.base_url.is_anthropic());
    assert_eq!(company.base_url.to_string(), "http://gateway.internal:8080/llm");
    assert!(matches!(&company.auth.source, AuthSource::File(path) if path == Path::new("/home/me/gateway.key")));
    assert_eq!(company.auth.header, AuthHeader::Bearer);
    assert!(matches!(&glm.auth.source, AuthSource::Command(argv) if argv == &["pass", "show", "zai"]));
    assert_eq!(glm.auth.header, AuthHeader::ApiKey);
    assert_eq!(glm.clocks.head, Some(Duration::from_secs(30)));
    assert_eq!(glm.models.map("claude-haiku-4-5"), Mapped::To("glm-5-air".into()));
    assert_eq!(glm.models.map("claude-opus-5-5"), Mapped::To("glm-5".into()));
    assert_eq!(glm.models.map("other"), Mapped::Rejected);
    assert_eq!(local.supports, Supports { context: Some(32_768), thinking: false, images: false, tools: true });
    assert_eq!(work.supports, Supports::default());
    assert_eq!(env.budget, Budget { per_day: Some(10_500_000), per_session: Some(3_000_000) });
    assert!(work.budget.is_empty());
    assert!(matches!(local.auth.source, AuthSource::None));
    assert_eq!(local.base_url.to_string(), "http://127.0.0.1:11434");
    assert!(matches!(&kept.auth.source, AuthSource::Keychain(name) if name == "kept"));
    assert_eq!((asked.auth.command.timeout, asked.auth.command.ttl), (Duration::from_secs(3), Duration::from_secs(3600)));
    assert!(matches!(&personal.auth.source, AuthSource::ClaudeConfigDir(path) if path == Path::new("/home/me/.claude-personal")));
    assert!(!personal.auth.renew && work.auth.renew);
    assert!(matches!(console.auth.source, AuthSource::Value(_)));
    assert!(matches!(plan.auth.source, AuthSource::Client));
    assert!(matches!(&env.auth.source, AuthSource::Env(name) if name == "KEY"));
    assert_eq!(config.server.listen.to_string(), "[::1]:4118");
    assert_eq!((config.server.max_body, config.server.max_connections), (64 * 1024 * 1024, 512));
    assert_eq!(config.warnings.len(), 2, "the literal credential and the folder's login alone: {:?}", config.warnings);
}

#[test]
fn each_preset_knows_its_address_its_header_and_its_models() {
    let config = good("presets");
    let shown: Vec<_> = config.profiles[1..].iter().map(|profile| (profile.base_url.to_string(), profile.auth.header)).collect();
    assert_eq!(shown[0], ("https://api.deepseek.com/anthropic".to_owned(), AuthHeader::Bearer));
    assert_eq!(shown[2], ("https://api.kimi.com/coding".to_owned(), AuthHeader::ApiKey));
    assert_eq!(shown[8], ("http://127.0.0.1:4000".to_owned(), AuthHeader::Bearer));
    assert_eq!(config.profiles[1].models.map("claude-haiku-5-5"), Mapped::Unknown, "nothing is guessed");
    assert_eq!(config.profiles[9].models.map("claude-haiku-5-5"), Mapped::Same, "a gateway knows the client's names");
    assert_eq!(config.profiles[2].platform, Platform::Compatible(Preset::Zai));
    let none = |index: usize| matches!(config.profiles[index].auth.source, AuthSource::None);
    assert!((5..=8).all(none) && !none(9));
}

#[test]
fn triggers_are_exactly_those_listed() {
    let fired_by = |triggers: &str| {
        let text = format!(r#"{{ "failover_policy": {{ "triggers": {triggers} }} }}"#);
        let triggers = parse(&text, Path::new("c"), Path::new("/h")).expect("valid").policy.triggers;
        let fires = |status: &u16| triggers.fire(&Failure::new(FailureKind::ServerError, Stage::Head, "").with_status(*status), true);
        [401, 404, 429, 499, 500, 503, 529, 599].into_iter().filter(fires).collect::<Vec<u16>>()
    };
    assert!(fired_by("[]").is_empty());
    assert_eq!(fired_by("[503, 401]"), [401, 503]);
    assert_eq!(fired_by(r#"["5xx"]"#), [500, 503, 529, 599]);
    assert_eq!(fired_by(r#"["4xx"]"#), [401, 404, 429, 499]);
    assert_eq!(fired_by(r#"["overloaded", "rate_limit", "authentication_failed"]"#), [401, 429, 529]);
    assert_eq!(fired_by(r#"["server_error"]"#), [500, 503, 599]);
}

#[test]
fn nothing_configured_is_the_clients_own_login() {
    let config = good("empty_object");
    assert!(config.implicit);
    assert_eq!(config.policy, Policy::default());
    assert_eq!(chain_of(&config, "default"), ["claude"]);
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:4117");
    assert_eq!((config.server.max_body, config.server.max_connections), (32 * 1024 * 1024, 256));
    assert_eq!(config.sources, [PathBuf::from("config.json")]);
}

#[test]
fn a_policy_may_be_tuned_without_profiles() {
    let config = good("policy_without_profiles");
    assert!(config.implicit);
    assert_eq!(config.policy.clocks.head, Duration::from_secs(10));
    assert!(!good("disabled").policy.enabled);
}

#[test]
fn a_chain_that_matches_everything_needs_no_pair() {
    let config = good("chains_alone");
    assert_eq!(config.rules.len(), 2);
    assert_eq!(chain_of(&config, "chains[1]"), ["a", "b"]);
    assert_eq!(config.rules[0].chain.entries, [ChainEntry { profile: ProfileId(1), model: None }]);
}

#[test]
fn a_credential_stays_hidden_but_can_be_used() {
    use secrecy::ExposeSecret as _;
    let config = good("warn_value_in_file");
    let AuthSource::Value(value) = &config.profiles[1].auth.source else { panic!("a literal credential") };
    assert_eq!(value.expose_secret(), "sk-ant-test-hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn order_in_the_file_is_order_of_the_profiles() {
    let text = r#"{ "failover_policy": { "primary_profile": "z" }, "profiles": { "z": {}, "a": {}, "m": {} } }"#;
    let config = parse(text, Path::new("c"), Path::new("/h")).expect("valid");
    assert_eq!(config.profiles.iter().map(|profile| &*profile.name).collect::<Vec<_>>(), ["z", "a", "m"]);
}

/// A configuration with two profiles that take the client's credential.
fn shared(first: &str, second: &str, current: Option<&str>, before_install: Option<&str>) -> Vec<String> {
    let home = tempfile::tempdir().expect("a temporary folder");
    let env = |name: &str| (name == "HOME").then(|| home.path().into());
    let file = home.path().join("config.json");
    let text = format!(
        r#"{{ "failover_policy": {{ "primary_profile": "a", "secondary_profile": "b" }}, "profiles": {{ "a": {first}, "b": {second} }} }}"#
    );
    std::fs::write(&file, text).expect("written");
    let locations = hotspare_config::Locations::find(&env, Some(file)).expect("a home");
    let url = |url: Option<&str>| url.map(|url| hotspare_config::BaseUrl::parse(url).expect("a URL"));
    let client = hotspare_config::ClientBaseUrl { current: url(current), before_install: url(before_install), named: Vec::new() };
    let config = hotspare_config::load(&locations, &hotspare_config::Context::default().with_client_base_url(client)).expect("valid");
    config.profiles.iter().filter(|profile| config.withheld_from(profile).is_none()).map(|profile| profile.name.to_string()).collect()
}

#[test]
fn client_credential_belongs_to_one_host() {
    let at = |host: &str| format!(r#"{{ "base_url": "https://{host}" }}"#);
    let written = |host: &str| format!(r#"{{ "base_url": "https://{host}", "auth": "client" }}"#);
    let (x, y) = (at("x.example"), at("y.example"));
    // Unknown: the first profile that takes it.
    assert_eq!(shared(&x, &y, None, None), ["a"]);
    assert_eq!(shared(&x, &at("x.example/other"), None, None), ["a", "b"], "the path does not matter");
    assert_eq!(shared(&x, &at("x.example:8443"), None, None), ["a"], "the port does");
    // The client's environment outranks all else.
    assert_eq!(shared(&x, &y, Some("https://y.example"), None), ["b"]);
    assert_eq!(shared(&written("x.example"), &y, Some("https://y.example"), None), ["b"]);
    assert!(shared(&x, &y, Some("https://z.example"), None).is_empty());
    // What `install` found outranks a profile that says nothing, and is outranked by one that does.
    assert_eq!(shared(&x, &y, None, Some("https://y.example")), ["b"]);
    assert_eq!(shared(&written("x.example"), &y, None, Some("https://y.example")), ["a"]);
    // hotspare's own listener is nobody's gateway.
    assert_eq!(shared(&x, &y, Some("http://127.0.0.1:4117"), None), ["a"]);
    // A profile with its own credential is none of it.
    assert_eq!(shared(r#"{ "auth": { "env": "KEY" } }"#, &y, None, None), ["a", "b"]);
}
