//! Holds what is said of the ways that Claude Code's requests can go. Reads no file and no environment.

use super::*;
use crate::commands::doctor::check::Mark;

const OURS: &str = "127.0.0.1:4117";
const TOKEN: &str = "hs-0123";

fn address() -> SocketAddr {
    OURS.parse().expect("an address")
}

#[track_caller]
fn wired(sources: &[(Kind, &[(&str, &str)])], running: bool, mark: Mark, words: &str) {
    let running = if running { vec![address()] } else { Vec::new() };
    let check = wiring(&Setup::of(sources, false), Some(address()), &running, Some(TOKEN));
    let told = format!("{} {}", check.found, check.cause.clone().unwrap_or_default());
    assert!(check.mark == mark && told.contains(words), "{check:?}");
    assert!(mark == Mark::Ok || check.command.is_some(), "{check:?}");
}

/// cc-switch #5120: the settings named a proxy that was not there. What is written is held against what listens.
#[test]
fn r62_where_sessions_go_is_told_by_what_is_there_and_not_by_what_is_written() {
    let url: (&str, &str) = (BASE_URL, "http://127.0.0.1:4117");
    let token: (&str, &str) = (CUSTOM_HEADERS, "x-other: 1\nX-Hotspare-Token: hs-0123");
    wired(&[], false, Mark::Note, "not pointed at hotspare");
    wired(&[(Kind::User, &[url, token])], true, Mark::Ok, "it is there");
    wired(&[(Kind::Shell, &[url, token])], true, Mark::Ok, "the environment");
    wired(&[(Kind::User, &[url, token])], false, Mark::Fail, "nothing of hotspare listens there");
    wired(&[(Kind::User, &[url])], true, Mark::Fail, "the local token is missing");
    wired(&[(Kind::User, &[url, (CUSTOM_HEADERS, "x-hotspare-token: hs-old")])], true, Mark::Fail, "an old one");
    wired(&[(Kind::User, &[(BASE_URL, "http://127.0.0.1:9000")])], true, Mark::Warn, "another program on this machine");
    wired(&[(Kind::User, &[(BASE_URL, "https://gateway.example/key/sk-secret")])], true, Mark::Warn, "gateway.example");
    wired(&[(Kind::User, &[(BASE_URL, "")]), (Kind::Shell, &[url, token])], true, Mark::Note, "not pointed");
    wired(&[(Kind::User, &[(BASE_URL, "http://localhost:4117"), token])], true, Mark::Ok, "it is there");
}

/// claude-code #65871: what runs in the background goes where its supervisor was once pointed.
#[test]
fn r64_background_sessions_that_are_pointed_at_nobody_are_told() {
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 4118));
    assert!(background(&[], &[]).is_none());
    assert!(background(&[(7, address())], &[elsewhere, address()]).is_none(), "it is there");
    let check = background(&[(7, address()), (8, elsewhere)], &[address()]).expect("it is told");
    assert!(check.mark == Mark::Warn && check.found.contains("process 8") && check.found.contains("4118"), "{check:?}");
    assert_eq!(check.command.as_deref(), Some("claude daemon stop --any"));
}

#[test]
fn an_address_is_shown_without_what_may_be_secret() {
    assert_eq!(shown("https://user:secret@gateway.example/key/sk-secret?k=sk"), "gateway.example");
    assert_eq!(shown("not an address"), "an address that cannot be read");
}

#[test]
fn t18_a_project_that_says_where_requests_go_is_named() {
    let of = |env: &[(&str, &str)]| overrides(&Setup::of(&[(Kind::Project, env), (Kind::User, &[])], true));
    assert_eq!(of(&[("EDITOR", "vi")]).mark, Mark::Ok);
    for name in [BASE_URL, API_KEY, AUTH_TOKEN, CUSTOM_HEADERS, "CLAUDE_CODE_USE_VERTEX"] {
        let check = of(&[(name, "x")]);
        assert!(check.mark == Mark::Fail && check.found.contains(name), "{check:?}");
    }
    let mut setup = Setup::of(&[(Kind::Project, &[])], true);
    setup.sources[0].helper = true;
    assert!(overrides(&setup).found.contains("apiKeyHelper"));
}

#[test]
fn an_administrator_s_word_is_not_worked_around() {
    let check = managed(&Setup::of(&[(Kind::Managed, &[(BASE_URL, "https://gateway.corp.example")])], false));
    assert!(check.mark == Mark::Fail && check.found.contains("gateway.corp.example"), "{check:?}");
    let key = managed(&Setup::of(&[(Kind::Managed, &[(API_KEY, "sk-ant-test")])], false));
    assert!(key.mark == Mark::Fail && key.found.contains(API_KEY) && !key.found.contains("sk-ant"), "{key:?}");
    assert_eq!(managed(&Setup::default()).mark, Mark::Ok);
}

#[test]
fn a_login_that_is_needed_and_not_there_is_told() {
    let of = |env: &[(&str, &str)], there, wanted| login(&Setup::of(&[(Kind::Shell, env)], there), wanted).map(|check| check.mark);
    let missing = (!cfg!(target_os = "macos")).then_some(Mark::Warn);
    assert_eq!(of(&[], false, true), missing);
    assert_eq!((of(&[], true, true), of(&[], false, false)), (None, None));
    for name in [API_KEY, AUTH_TOKEN, OAUTH_TOKEN] {
        assert_eq!(of(&[(name, "made-up")], false, true), None, "{name}");
    }
}

#[test]
fn a_key_that_hides_a_login_is_told() {
    let of = |kind, name, login| key(&Setup::of(&[(kind, &[(name, "sk-ant-test")])], login));
    assert_eq!(of(Kind::Shell, API_KEY, true).command.as_deref(), Some("unset ANTHROPIC_API_KEY"));
    assert_eq!((of(Kind::User, AUTH_TOKEN, true).mark, of(Kind::User, AUTH_TOKEN, false).mark), (Mark::Warn, Mark::Ok));
    assert!(!format!("{:?}", of(Kind::User, API_KEY, true)).contains("sk-ant"), "no credential is shown");
    // Set to nothing by whoever has the last word.
    let hidden = Setup::of(&[(Kind::User, &[(API_KEY, "")]), (Kind::Shell, &[(API_KEY, "sk-ant-test")])], true);
    assert_eq!(key(&hidden).mark, Mark::Ok);
}

#[test]
fn other_clouds_and_gateways_are_told() {
    let of = |sources: &[(Kind, &[(&str, &str)])]| gateway(&Setup::of(sources, false));
    assert_eq!(of(&[(Kind::Shell, &[("CLAUDE_CODE_USE_BEDROCK", "1")])]).mark, Mark::Warn);
    assert_eq!(of(&[(Kind::Shell, &[("CLAUDE_CODE_USE_BEDROCK", "0")])]).mark, Mark::Ok);
    let both: &[(Kind, &[(&str, &str)])] =
        &[(Kind::User, &[(BASE_URL, "http://127.0.0.1:4117")]), (Kind::Shell, &[(BASE_URL, "https://gateway.example")])];
    assert_eq!(of(both).mark, Mark::Note);
}

#[test]
fn t21_a_proxy_without_an_exemption_for_this_machine_is_told() {
    let of = |env: &[(&str, &str)]| proxy(&Setup::of(&[(Kind::Shell, env)], false)).mark;
    assert_eq!(of(&[("HTTP_PROXY", "http://proxy.example:3128")]), Mark::Warn);
    for exempt in ["127.0.0.1", "localhost,.corp", ".corp localhost", "*"] {
        assert_eq!(of(&[("HTTP_PROXY", "http://proxy.example:3128"), ("NO_PROXY", exempt)]), Mark::Ok, "{exempt}");
    }
    assert_eq!(of(&[("HTTP_PROXY", "http://proxy.example:3128"), ("NO_PROXY", ".corp")]), Mark::Warn);
    assert_eq!(of(&[("HTTPS_PROXY", "http://proxy.example:3128")]), Mark::Ok, "our port speaks plain HTTP");
}
