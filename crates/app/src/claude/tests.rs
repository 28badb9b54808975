//! Holds how a user's Claude Code set-up is found, and what is put over it. Never starts a client.

use super::*;

const URL: &str = "http://127.0.0.1:4117";
const BASE: Lead<'_> = Lead::Base;

fn at() -> SocketAddr {
    "127.0.0.1:4117".parse().expect("an address")
}

const TOKEN: &str = "hs-test";

fn setup(command: &[&str], environment: &[(&str, &str)], user_settings: &str) -> UserSetup {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("settings.json");
    std::fs::write(&file, user_settings).expect("written");
    let command: Vec<OsString> = command.iter().map(OsString::from).collect();
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    UserSetup::read(&command, &environment, &file).expect("read")
}

fn settings(injection: &Injection) -> Value {
    serde_json::from_str(injection.settings.as_deref().expect("Claude Code gets a settings file")).expect("JSON")
}

#[test]
fn claude_gets_a_settings_file_first_and_its_own_arguments_untouched() {
    let injection = setup(&["/usr/bin/claude", "-p", "hi", "--", "--settings", "x"], &[], "").inject(at(), TOKEN, true, BASE);
    let argv = injection.argv_with(Path::new("/run/s.json"));
    let expected = ["/usr/bin/claude", "--settings", "/run/s.json", "-p", "hi", "--", "--settings", "x"];
    assert_eq!(argv, expected.map(OsString::from));
    assert!(argv.iter().all(|argument| !argument.to_string_lossy().contains(TOKEN)), "a token never stands in argv");
    assert_eq!(injection.environment, HashMap::from([("CLAUDE_CODE_DISABLE_AGENT_VIEW".into(), "1".into())]));
}

#[test]
fn t18_everything_that_decides_where_and_as_whom_is_pinned() {
    let json = settings(&setup(&["claude"], &[("ANTHROPIC_API_KEY", "sk-ant-test")], "").inject(at(), TOKEN, true, BASE));
    let env = &json["env"];
    assert_eq!(env["ANTHROPIC_BASE_URL"], URL);
    assert_eq!(env["ANTHROPIC_CUSTOM_HEADERS"], "x-hotspare-token: hs-test");
    assert_eq!(env["ANTHROPIC_API_KEY"], "sk-ant-test");
    assert_eq!(json["apiKeyHelper"], "");
    let empty =
        ["ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_GATEWAY"];
    let proxies = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NODE_EXTRA_CA_CERTS"];
    for name in empty.iter().chain(&proxies).chain(&["NODE_TLS_REJECT_UNAUTHORIZED", "ANTHROPIC_UNIX_SOCKET"]) {
        assert_eq!(env[name], "", "{name}");
    }
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(env[name], "127.0.0.1,localhost");
    }
}

/// teamclaude #75, claude-code #3971: proxy variables without effect, or for local addresses too.
#[test]
fn r65_one_spelling_of_a_proxy_stands_for_both() {
    let shell = [("HTTPS_PROXY", "http://corp:3128"), ("no_proxy", ".corp")];
    let env = &settings(&setup(&["claude"], &shell, "").inject(at(), TOKEN, true, BASE))["env"];
    for (name, value) in [("HTTPS_PROXY", "http://corp:3128"), ("https_proxy", "http://corp:3128"), ("http_proxy", "")] {
        assert_eq!(env[name], value, "{name}");
    }
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(env[name], ".corp,127.0.0.1,localhost", "{name}");
    }
}

#[test]
fn the_user_s_own_values_stay_as_the_client_ranks_them() {
    let user = r#"{"apiKeyHelper":"own-helper","env":{"ANTHROPIC_CUSTOM_HEADERS":"x-team: 7","ANTHROPIC_BASE_URL":"https://gw.example"}}"#;
    let shell = [("ANTHROPIC_BASE_URL", "https://shell.example"), ("ANTHROPIC_CUSTOM_HEADERS", "x-shell: 1"), ("NO_PROXY", "corp")];
    let setup = setup(&["claude", "--settings", r#"{"model":"opus","env":{"A":"1"}}"#], &shell, user);
    assert_eq!(setup.existing_base_url(), Some("https://gw.example"));
    let json = settings(&setup.inject(at(), TOKEN, true, BASE));
    assert_eq!(json["model"], "opus");
    assert_eq!(json["env"]["A"], "1");
    assert_eq!(json["env"]["ANTHROPIC_CUSTOM_HEADERS"], "x-team: 7\nx-hotspare-token: hs-test");
    assert_eq!(json["env"]["NO_PROXY"], "corp,127.0.0.1,localhost");
    assert_eq!(json["apiKeyHelper"], "own-helper");
}

#[test]
fn of_several_settings_the_last_counts_in_every_spelling() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("mine.json");
    std::fs::write(&file, r#"{"env":{"ANTHROPIC_BASE_URL":"https://file.example"}}"#).expect("written");
    let path = file.to_string_lossy();
    let both = setup(&["claude", r#"--settings={"x":1}"#, "--settings", &path], &[], "");
    assert_eq!(both.existing_base_url(), Some("https://file.example"));
    let json = settings(&both.inject(at(), TOKEN, true, BASE));
    assert_eq!(json.get("x"), None);
}

#[test]
fn settings_that_cannot_be_merged_are_named() {
    let read = |arguments: &[&str]| {
        let command: Vec<OsString> = ["claude"].iter().chain(arguments).map(OsString::from).collect();
        UserSetup::read(&command, &HashMap::new(), Path::new("/none"))
    };
    assert!(matches!(read(&["--settings", "{broken"]), Err(ClaudeError::NotAnObject { .. })));
    assert!(matches!(read(&["-p", "--settings"]), Err(ClaudeError::NoValue)));
    let missing = read(&["--settings", "/no/such/file.json"]).expect_err("missing").to_string();
    assert!(missing.contains("/no/such/file.json"), "{missing}");
    read(&["--settings", ""]).expect("the client takes an empty one for none");
}

#[test]
fn every_value_in_env_is_text_to_the_client() {
    let user = r#"{"env":{"CLAUDE_CODE_USE_BEDROCK":1,"ANTHROPIC_AUTH_TOKEN":12345}}"#;
    let setup = setup(&["claude"], &[], user);
    assert_eq!(setup.bypass(), Some("CLAUDE_CODE_USE_BEDROCK"));
    assert_eq!(settings(&setup.inject(at(), TOKEN, true, BASE))["env"]["ANTHROPIC_AUTH_TOKEN"], "12345");
}

#[test]
fn an_address_that_came_with_a_local_token_is_ourselves() {
    let url = ("ANTHROPIC_BASE_URL", "http://127.0.0.1:5000");
    let around = [url, ("ANTHROPIC_CUSTOM_HEADERS", "x-team: 7\nX-Hotspare-Token: hs-outer")];
    let within = setup(&["claude"], &around, "");
    assert_eq!(within.existing_base_url(), None);
    let json = settings(&within.inject(at(), TOKEN, true, BASE));
    assert_eq!(json["env"]["ANTHROPIC_CUSTOM_HEADERS"], "x-team: 7\nx-hotspare-token: hs-test");
    assert_eq!(setup(&["claude"], &[url], "").existing_base_url(), Some("http://127.0.0.1:5000"));
}

#[test]
fn claude_is_known_by_its_file_and_as_a_fetched_package() {
    let argv = |command: &[&str]| {
        let injection = setup(command, &[], "").inject(at(), TOKEN, true, BASE);
        injection
            .settings
            .is_some()
            .then(|| injection.argv_with(Path::new("S")).iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(argv(&["claude.exe", "mcp", "list"]).as_deref(), Some("claude.exe --settings S mcp list"));
    assert_eq!(
        argv(&["npx", "-y", "@anthropic-ai/claude-code@2.1.330", "-p", "hi"]).as_deref(),
        Some("npx -y @anthropic-ai/claude-code@2.1.330 --settings S -p hi")
    );
    assert_eq!(argv(&["npx", "@anthropic-ai/claude-code-router"]), None);
    assert_eq!(argv(&["npx", "-y"]), None);
    assert_eq!(argv(&["claude-wrapper", "-p"]), None);
}

#[test]
fn words_that_must_come_first_keep_their_place() {
    let injection = setup(&["claude", "remote-control", "--settings", "mine"], &[], "").inject(at(), TOKEN, true, BASE);
    assert_eq!(injection.settings, None);
    assert_eq!(injection.argv, ["claude", "remote-control", "--settings", "mine"].map(OsString::from));
}

#[test]
fn a_placeholder_stands_in_only_where_nobody_needs_the_client_s_login() {
    let token = |uses_login, shell: &[(&str, &str)]| {
        settings(&setup(&["claude"], shell, "").inject(at(), TOKEN, uses_login, BASE))["env"]["ANTHROPIC_AUTH_TOKEN"].clone()
    };
    assert_eq!(token(true, &[]), "");
    assert_eq!(token(false, &[]), TOKEN);
    assert_eq!(token(false, &[("ANTHROPIC_API_KEY", "sk-ant-test")]), "");
}

#[test]
fn another_program_gets_variables_and_the_token_as_its_key() {
    let injection =
        setup(&["python3", "x.py", "--settings", "mine"], &[("ANTHROPIC_CUSTOM_HEADERS", "a: b")], "").inject(at(), TOKEN, false, BASE);
    assert_eq!(injection.settings, None);
    assert_eq!(injection.argv, ["python3", "x.py", "--settings", "mine"].map(OsString::from));
    let get = |name: &str| injection.environment.get(OsStr::new(name)).map(|value| value.to_string_lossy().into_owned());
    assert_eq!(get("ANTHROPIC_BASE_URL").as_deref(), Some(URL));
    assert_eq!(get("ANTHROPIC_CUSTOM_HEADERS").as_deref(), Some("a: b\nx-hotspare-token: hs-test"));
    assert_eq!(get("ANTHROPIC_API_KEY").as_deref(), Some(TOKEN));
}

#[test]
fn a_user_who_goes_to_another_cloud_is_told() {
    assert_eq!(setup(&["claude"], &[("CLAUDE_CODE_USE_BEDROCK", "1")], "").bypass(), Some("CLAUDE_CODE_USE_BEDROCK"));
    assert_eq!(setup(&["claude"], &[("CLAUDE_CODE_USE_BEDROCK", "0")], "").bypass(), None);
    assert_eq!(setup(&["claude"], &[], "").bypass(), None);
}

const CERTIFICATES: &str = "/run/ca.pem";

fn full() -> Lead<'static> {
    Lead::Full(Path::new(CERTIFICATES))
}

#[test]
fn t18_in_full_mode_the_proxy_and_its_certificates_are_pinned_and_no_other_base_url_is_left() {
    let shell = [("ANTHROPIC_API_KEY", "sk-ant-test"), ("ANTHROPIC_CUSTOM_HEADERS", "x-team: 7"), ("HTTPS_PROXY", "http://corp:3128")];
    let injection = setup(&["claude"], &shell, "").inject(at(), TOKEN, true, full());
    let env = &settings(&injection)["env"];
    for name in ["HTTPS_PROXY", "https_proxy"] {
        assert_eq!(env[name], "http://hotspare:hs-test@127.0.0.1:4117", "{name}");
    }
    assert_eq!(env["NODE_EXTRA_CA_CERTS"], CERTIFICATES);
    assert_eq!(env["ANTHROPIC_CUSTOM_HEADERS"], "x-team: 7", "the token goes to the proxy alone");
    assert_eq!(env["ANTHROPIC_BASE_URL"], "https://api.anthropic.com", "an empty one breaks Python's SDK in an MCP server");
    for name in ["NODE_TLS_REJECT_UNAUTHORIZED", "CLAUDE_CODE_HTTPS_PROXY", "ANTHROPIC_AUTH_TOKEN"] {
        assert_eq!(env[name], "", "{name}");
    }
    let expected: HashMap<OsString, OsString> =
        HashMap::from([("NODE_EXTRA_CA_CERTS".into(), CERTIFICATES.into()), ("CLAUDE_CODE_DISABLE_AGENT_VIEW".into(), "1".into())]);
    assert_eq!(injection.environment, expected, "claude-code #10458; and no token in the environment");
    assert!(LEVERS.iter().all(|(name, _)| env.get(*name).is_none()), "nothing was switched off");
}

#[test]
fn in_full_mode_the_user_s_no_proxy_stays_but_for_what_would_lead_past_us() {
    for (own, expected) in [
        ("", LOOPBACK.to_owned()),
        (".corp, 10.0.0.0/8", format!(".corp,10.0.0.0/8,{LOOPBACK}")),
        ("*", LOOPBACK.to_owned()),
        ("corp,anthropic.com,x", format!("corp,x,{LOOPBACK}")),
        (".anthropic.com", LOOPBACK.to_owned()),
        ("*.Anthropic.com:443,api.anthropic.com", LOOPBACK.to_owned()),
        ("com", LOOPBACK.to_owned()),
        ("xanthropic.com,api.anthropic.com.evil", format!("xanthropic.com,api.anthropic.com.evil,{LOOPBACK}")),
    ] {
        let env = &settings(&setup(&["claude"], &[("NO_PROXY", own)], "").inject(at(), TOKEN, true, full()))["env"];
        assert_eq!((&env["NO_PROXY"], &env["no_proxy"]), (&Value::from(expected.clone()), &Value::from(expected)), "{own:?}");
    }
}

#[test]
fn another_program_in_full_mode_gets_the_proxy_and_loses_its_base_url() {
    let shell = [("ANTHROPIC_BASE_URL", "https://gw.example"), ("NO_PROXY", "corp")];
    let injection = setup(&["python", "app.py"], &shell, "").inject(at(), TOKEN, true, full());
    let value = |name: &str| injection.environment.get(OsStr::new(name)).and_then(|value| value.to_str());
    assert_eq!(value("HTTPS_PROXY"), Some("http://hotspare:hs-test@127.0.0.1:4117"));
    assert_eq!((value("NODE_EXTRA_CA_CERTS"), value("NO_PROXY")), (Some(CERTIFICATES), Some("corp,127.0.0.1,localhost")));
    assert_eq!((value("ANTHROPIC_BASE_URL"), value("ANTHROPIC_CUSTOM_HEADERS"), value("ANTHROPIC_API_KEY")), (None, None, None));
    assert_eq!(injection.removed, ["ANTHROPIC_BASE_URL"]);
}

/// What `install` has put into the settings.
const WIRED: &str = r#"{"env":{"ANTHROPIC_BASE_URL":"","HTTPS_PROXY":"http://hotspare:hs-1@127.0.0.1:4117","https_proxy":"http://hotspare:hs-1@127.0.0.1:4117","NO_PROXY":"127.0.0.1,localhost","NODE_EXTRA_CA_CERTS":"/state/ca/ca.pem"}}"#;

#[test]
fn what_full_mode_has_put_in_its_place_is_not_taken_for_the_user_s_own() {
    let kept = || Outward { proxy: Some("http://corp:3128".to_owned()), no_proxy: Some(".corp".to_owned()), certificates: None };
    let run = |settings: &str, kept: Option<Outward>| setup(&["claude"], &[], settings).with_kept(kept);
    let env = &settings(&run(WIRED, Some(kept())).inject(at(), TOKEN, true, BASE))["env"];
    assert_eq!((&env["HTTPS_PROXY"], &env["NODE_EXTRA_CA_CERTS"]), (&json("http://corp:3128"), &json("")));
    assert_eq!(env["NO_PROXY"], ".corp,127.0.0.1,localhost");
    assert_eq!(run(WIRED, Some(kept())).outward(), kept());
    // Around another run nothing is kept, and the way out is that run's.
    assert_eq!(run(WIRED, None).outward().proxy.as_deref(), Some("http://hotspare:hs-1@127.0.0.1:4117"));
    let own = r#"{"env":{"HTTPS_PROXY":"http://other:3128"}}"#;
    assert_eq!(run(own, Some(kept())).outward().proxy.as_deref(), Some("http://other:3128"), "a value of the user's own is newer");
}

fn json(text: &str) -> Value {
    text.into()
}

#[test]
fn only_a_hotspare_on_this_machine_is_our_proxy() {
    assert_eq!(our_proxy(&proxy_url(at(), "hs-1")), Some(at()));
    assert_eq!(our_proxy("http://hotspare:hs-1@[::1]:4117/"), "[::1]:4117".parse().ok());
    for other in [
        "http://corp:3128",
        "http://hotspare:secret@127.0.0.1:3128",
        "http://hotspare:hs-1@10.0.0.1:4117",
        "http://hotspare@127.0.0.1:1",
        "",
    ] {
        assert_eq!(our_proxy(other), None, "{other}");
    }
}

/// The client waits 180 s for a head where it knows no gateway; one is held back for longer (measured, 2.1.330).
#[test]
fn in_full_mode_the_client_waits_as_long_as_behind_a_base_url() {
    let name = "CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS";
    let value = |shell: &[(&str, &str)], lead: Lead<'_>| {
        settings(&setup(&["claude"], shell, "").inject(at(), TOKEN, true, lead))["env"][name].clone()
    };
    assert_eq!(value(&[], full()), "360000");
    assert_eq!(value(&[(name, "600000")], full()), "600000", "the user's own word stays");
    assert_eq!(value(&[], BASE), Value::Null);
}
