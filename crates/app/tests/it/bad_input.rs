//! Everything a user can get wrong: a message of its own, an exit code of its own, and nothing half-started.

use crate::user::{Ended, User};

const TWO: &str = r#"{
  "failover_policy": { "primary_profile": "work", "secondary_profile": "openrouter-bakcup" },
  "profiles": {
    "work": {},
    "openrouter-backup": { "auth": { "env": "OPENROUTER_API_KEY" } }
  }
}
"#;

/// `run` and `serve` with this input: neither starts anything, and neither leaves anything behind.
async fn neither_starts(user: &User) -> [Ended; 2] {
    let before = user.everything();
    let outcomes = [user.runs(&["run", "--", "claude", "-p", "hi"]).await, user.runs(&["serve", "--listen", "127.0.0.1:0"]).await];
    assert!(!user.client_was_started());
    assert_eq!(user.everything(), before, "something was left behind");
    outcomes
}

#[tokio::test]
async fn a_broken_configuration_is_drawn_with_its_line() {
    let user = User::new().config("{\n  \"profiles\": {\n    \"work\": {}\n    \"spare\": {}\n  }\n}\n");
    for ended in neither_starts(&user).await {
        ended.fails(5, &["error[HS0005]", ".config/hotspare/config.json:3:15", "^"]);
    }
    user.runs(&["config", "validate"]).await.fails(5, &["error[HS0005]"]);
    user.runs(&[]).await.fails(5, &["error[HS0005]"]);
}

#[tokio::test]
async fn an_unknown_profile_is_named_with_what_was_meant() {
    let user = User::new().config(TWO);
    for ended in neither_starts(&user).await {
        ended.fails(
            5,
            &[
                "error[HS0103]: unknown profile `openrouter-bakcup`",
                "config.json:2:72",
                "no profile has this name",
                "did you mean `openrouter-backup`?",
            ],
        );
    }
}

/// A spare without its key kept `run` and `serve` from starting, with exit code 4.
#[tokio::test]
async fn spare_without_its_key_is_named_and_skipped() {
    let user = User::new().config(
        &TWO.replace("bakcup", "backup").replace("{\n  \"failover", "{\n  \"server\": { \"listen\": \"127.0.0.1:0\" },\n  \"failover"),
    );
    let ended = user.runs(&["run", "--", "claude", "-p", "hi"]).await;
    let missing = "profile `openrouter-backup` is skipped: environment variable `OPENROUTER_API_KEY` is not set";
    assert!(ended.code == Some(0) && user.client_was_started() && ended.stderr.contains(missing), "{ended:?}");
    let (child, _, said) = user.serves().await;
    assert!(said.contains(missing), "{said}");
    crate::user::signalled(child, rustix::process::Signal::TERM).await;
}

#[tokio::test]
async fn primary_without_its_key_leaves_the_spare_to_serve() {
    let user = User::new().keyed_pair("http://127.0.0.1:9", "http://127.0.0.1:9").without("WORK_KEY");
    let ended = user.runs(&["run", "--", "claude", "-p", "hi"]).await;
    let missing = "primary `work` is skipped: environment variable `WORK_KEY` is not set; `backup` serves in its place";
    assert!(ended.code == Some(0) && user.client_was_started() && ended.stderr.contains(missing), "{ended:?}");
}

#[tokio::test]
async fn chain_without_any_key_is_refused_with_each_named() {
    let user = User::new().keyed_pair("http://127.0.0.1:9", "http://127.0.0.1:9").without("WORK_KEY").without("BACKUP_KEY");
    for ended in neither_starts(&user).await {
        ended.fails(
            4,
            &["profile `work` has no credential: environment variable `WORK_KEY` is not set", "profile `backup` neither", "hint: set it"],
        );
    }
}

#[tokio::test]
async fn a_key_file_that_others_may_read_is_refused() {
    let config = r#"{ "failover_policy": { "primary_profile": "work" }, "profiles": { "work": { "auth": { "file": "~/key" } } } }"#;
    let user = User::new().config(config).file("home/key", "sk-ant-test-file");
    for ended in neither_starts(&user).await {
        ended.fails(4, &["profile `work` has no credential", "may be read by others", "chmod 600"]);
        assert!(!ended.stderr.contains("sk-ant"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_configuration_that_is_named_must_be_there() {
    let user = User::new();
    for arguments in [
        &["run", "--config", "ci.json", "--", "claude"][..],
        &["serve", "--config", "ci.json"],
        &["config", "validate", "--config", "ci.json"],
    ] {
        user.runs(arguments).await.fails(5, &["error[HS0001]", "ci.json"]);
    }
    assert!(!user.client_was_started());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_two_ways_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let user = User::new().config(&format!(r#"{{ "server": {{ "listen": "{address}" }} }}"#));
    let before = user.everything();
    user.runs(&["serve"]).await.fails(1, &[&format!("cannot listen on {address}"), "hint: `hotspare status`", "hint: another port"]);
    assert_eq!(user.everything(), before, "not even a token is made");
}

/// better-ccflare and `CLIProxyAPI` listen on all interfaces; 1rgs #112, sandboxed.sh #907: an open port with credentials behind it.
#[tokio::test]
async fn r56_an_address_that_others_can_reach_is_refused() {
    let user = User::new();
    let before = user.everything();
    user.runs(&["serve", "--listen", "0.0.0.0:0"]).await.fails(1, &["0.0.0.0", "is not a loopback address"]);
    assert_eq!(user.everything(), before);
    let user = User::new().config(r#"{ "server": { "listen": "0.0.0.0:4117" } }"#);
    user.runs(&["serve"]).await.fails(5, &["error[HS0306]", "127.0.0.1:PORT"]);
}

#[tokio::test]
async fn a_command_that_is_not_there_is_127_as_in_a_shell() {
    let user = User::new();
    let before = user.everything();
    for command in ["no-such-command", "./missing", "/no/such/claude"] {
        user.runs(&["run", "--", command]).await.fails(127, &[&format!("cannot start `{command}`"), "No such file"]);
    }
    user.runs(&["run", "--", "/tmp"]).await.fails(127, &["cannot start `/tmp`", "ermission denied"]);
    assert_eq!(user.everything(), before);
}

#[tokio::test]
async fn usage_errors_are_2_and_say_what_is_meant() {
    let user = User::new();
    let cases: [(&[&str], &str); 7] = [
        (&["stauts"], "status"),
        (&["run"], "<CMD>"),
        (&["run", "--no-projct", "claude"], "--no-project"),
        (&["demo", "--fast"], "--fast"),
        (&["serve", "--listen", "nowhere"], "--listen"),
        (&["status", "--jsno"], "--json"),
        (&["config", "vaildate"], "validate"),
    ];
    for (arguments, named) in cases {
        user.runs(arguments).await.fails(2, &["error:", named]);
    }
    assert_eq!(user.runs(&["config"]).await.code, Some(2));
}

#[tokio::test]
async fn status_of_nothing_is_3() {
    let user = User::new();
    user.runs(&["status"]).await.fails(3, &["nothing is running", "hint: protect a session: `hotspare run -- claude`"]);
    let json = user.runs(&["status", "--json"]).await;
    assert_eq!((json.code, json.stdout.as_str()), (Some(3), "{\"version\":1,\"gateways\":[],\"today\":null}\n"));
}

/// cc-switch #4947 #6017: a proxy that led to itself.
#[tokio::test]
async fn r59_our_own_listener_is_no_provider() {
    let own = r#"{ "failover_policy": { "primary_profile": "work" }, "profiles": { "work": { "base_url": "http://localhost:4117" } } }"#;
    for ended in neither_starts(&User::new().config(own)).await {
        ended.fails(5, &["error[HS0303]", "hotspare's own listener", "^"]);
    }
    // The port that is asked for on the command line is seen as well.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").to_string();
    let user = User::new().config(&own.replace("localhost:4117", &free)).env("ANTHROPIC_API_KEY", "sk-ant-test");
    user.runs(&["serve", "--listen", &free]).await.fails(1, &["profile `work` has this proxy's own address", "in circles"]);
}

#[tokio::test]
async fn settings_that_cannot_be_merged_are_named_and_nothing_starts() {
    let user = User::new().file("work/broken.json", "{ oops").file("work/list.json", "[]");
    let before = user.everything();
    for (settings, named) in
        [("broken.json", "`--settings broken.json`"), ("list.json", "no JSON object"), ("none.json", "none.json"), ("{oops", "--settings")]
    {
        let ended = user.runs(&["run", "--", "claude", "--settings", settings]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(named), "{}", ended.stderr);
    }
    assert!(!user.client_was_started());
    assert_eq!(user.everything(), before);
}

#[tokio::test]
async fn a_base_url_that_cannot_be_used_is_named() {
    let user = User::new().env("ANTHROPIC_BASE_URL", "gateway.example");
    let ended = user.runs(&["run", "--", "claude"]).await;
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("ANTHROPIC_BASE_URL `gateway.example` cannot be used"), "{}", ended.stderr);
    assert!(!user.client_was_started());
}

#[tokio::test]
async fn without_a_home_it_says_so() {
    let user = User::new().env("HOME", "");
    user.runs(&["run", "--", "claude"]).await.fails(5, &["error[HS0010]", "HOME"]);
}
