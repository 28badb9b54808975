//! Where Claude Code goes without hotspare stays where it goes with it: by settings, an editor, the environment or a shell's alias. Each
//! flow here sent another provider's credential to the first profile's host.

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::homes::with_client;
use crate::user::{Ended, User, asks, ended, signalled};

const BODY: &str = r#"{"model":"claude-opus-5-5","max_tokens":9,"messages":[],"stream":true}"#;

/// A relay's token in the form of Anthropic's keys, which the form alone does not tell from one of Anthropic's.
const TOKEN: &str = "sk-ant-test-of-another-provider";

async fn answers() -> Upstream {
    Upstream::start(move |_| Script::new().sse().events(&text("fine")).end()).await.expect("started")
}

/// The first profile takes the client's credential and is at Anthropic; what would go out of this machine comes to `outside`.
fn work_at_anthropic(outside: &Upstream, port: u16) -> User {
    let config = json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "backup" },
        "profiles": { "work": {}, "backup": { "base_url": "http://127.0.0.1:9", "auth": { "env": "BACKUP_KEY" } } },
        "server": { "listen": format!("127.0.0.1:{port}") },
    });
    User::new().config(&config.to_string()).env("BACKUP_KEY", "sk-ant-test-backup").env("HTTPS_PROXY", &outside.url())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn settings(gateway: &str) -> String {
    json!({ "env": { "ANTHROPIC_BASE_URL": gateway, "ANTHROPIC_AUTH_TOKEN": TOKEN } }).to_string()
}

#[track_caller]
fn refused(ended: &Ended, gateway: &str, profile: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for words in [&format!("Claude Code goes to `{gateway}` today"), profile, "hotspare init"] {
        assert!(ended.stderr.contains(words), "{words:?} is not in:\n{}", ended.stderr);
    }
}

/// Flow 1: `run` with a configured `work: {}` beside a gateway in the settings.
#[tokio::test]
async fn run_stops_where_settings_name_another_host() {
    let (gateway, outside) = (answers().await, answers().await);
    let user = work_at_anthropic(&outside, 0).file("home/.claude/settings.json", &settings(&gateway.url()));
    let ended = user.runs(&["run", "--", "claude"]).await;
    refused(&ended, &gateway.url(), "profile `work`, which would be sent its credential, is at api.anthropic.com");
    assert!(!user.client_was_started() && outside.requests().is_empty());
}

/// Flow 2: `install` where the gateway is in the chain, but not before a profile that is sent its token.
#[tokio::test]
async fn install_wants_the_gateway_first_not_somewhere() {
    let (gateway, outside) = (answers().await, answers().await);
    let user = work_at_anthropic(&outside, free_port()).file("home/.claude/settings.json", &settings(&gateway.url()));
    let user = user.file("home/glm.json", &settings(&gateway.url()));
    let added = user.runs(&["profile", "add", "glm", "--base-url", &gateway.url(), "--env", "BACKUP_KEY", "--spare"]).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    let before = user.everything();
    refused(&user.runs(&["install"]).await, &gateway.url(), "profile `work`");
    refused(&user.runs(&["install", "--dry-run"]).await, &gateway.url(), "profile `work`");
    assert_eq!(user.everything(), before, "nothing is written");
}

/// Flow 3: the extension's own variables, whose URL was replaced and whose token was kept.
#[tokio::test]
async fn install_stops_where_an_editor_names_another_host() {
    let (gateway, outside) = (answers().await, answers().await);
    let variables = json!({ "claudeCode.environmentVariables": [
        { "name": "ANTHROPIC_BASE_URL", "value": gateway.url() },
        { "name": "ANTHROPIC_AUTH_TOKEN", "value": TOKEN },
    ] });
    let user = work_at_anthropic(&outside, free_port())
        .file("home/.vscode/extensions/anthropic.claude-code-2.0.0/package.json", "{}")
        .file("home/.config/Code/User/settings.json", &variables.to_string());
    let before = user.everything();
    let ended = user.runs(&["install"]).await;
    refused(&ended, &gateway.url(), "Code/User/settings.json:1");
    assert_eq!(user.everything(), before, "nothing is written");
    // As the first profile it is what `init` makes of it, and the token stays there.
    let done = user.runs(&["init", "--yes", "--json"]).await;
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let off = user.runs(&["uninstall"]).await;
    assert_eq!(report["found"]["gateway"], gateway.url(), "{report}");
    assert_eq!(report["chain"][0], "gateway", "{report}");
    assert_eq!(report["wired"], true, "{report} {}", done.stderr);
    assert_eq!(off.code, Some(0), "{off:?}");
}

/// Flow 4: a shell's alias with a URL and a token, whose URL Claude Code's settings outrank. The token comes to the service all the same.
#[tokio::test]
async fn alias_s_token_is_sent_to_its_own_host_alone() {
    let (gateway, first, outside) = (answers().await, answers().await, answers().await);
    let port = free_port();
    let config = json!({
        "failover_policy": { "primary_profile": "work" },
        "profiles": { "work": { "base_url": first.url(), "auth": "client" } },
        "server": { "listen": format!("127.0.0.1:{port}") },
    });
    let alias = format!("alias glm='ANTHROPIC_BASE_URL={} ANTHROPIC_AUTH_TOKEN={TOKEN} claude'\n", gateway.url());
    let user = User::new().config(&config.to_string()).env("HTTPS_PROXY", &outside.url()).file("home/.zshrc", &alias);
    let installed = user.runs(&["install"]).await;
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let token = user.local_token();
    let with = |credential: &str| format!("x-hotspare-token: {token}\r\nauthorization: Bearer {credential}");
    let of_alias = asks(address, &with(TOKEN), BODY).await;
    let of_login = asks(address, &with("sk-ant-oat01-test-login"), BODY).await;
    let off = user.runs(&["uninstall"]).await;
    assert_eq!(installed.code, Some(0), "{installed:?}");
    for words in ["~/.zshrc:1 starts Claude Code with", "is sent to no other host", "claude --settings"] {
        assert!(installed.stdout.contains(words), "{words:?} is not in:\n{}", installed.stdout);
    }
    assert!(!installed.stdout.contains(TOKEN), "{installed:?}");
    assert!(of_alias.contains(&format!("the client's credential belongs to {}", gateway.addr())), "{of_alias}");
    assert!(of_login.starts_with("HTTP/1.1 200"), "{of_login}");
    let sent: Vec<_> = first.messages().iter().map(|request| request.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, [Some("Bearer sk-ant-oat01-test-login".to_owned())]);
    assert!(gateway.requests().is_empty() && outside.requests().is_empty());
    assert_eq!(off.code, Some(0), "{off:?}");
}

/// What `env` prints replaces the shell's URL and leaves the token beside it.
#[tokio::test]
async fn env_stops_where_the_shell_names_another_host() {
    let (gateway, outside) = (answers().await, answers().await);
    let port = free_port();
    let user = work_at_anthropic(&outside, port);
    let child = user.starts(&["serve"]);
    let user = user.env("ANTHROPIC_BASE_URL", &gateway.url()).env("ANTHROPIC_AUTH_TOKEN", TOKEN);
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::task::yield_now().await;
    }
    let ended = user.runs(&["env"]).await;
    signalled(child, Signal::TERM).await;
    refused(&ended, &gateway.url(), "profile `work`");
    assert_eq!(ended.stdout, "");
}

/// Numbers that look like chance and are the same in each run (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        let place = self.below(of.len() as u64);
        of[usize::try_from(place).expect("small")]
    }
}

/// Two gateways, and what goes out of this machine.
struct Hosts {
    one: Upstream,
    other: Upstream,
    outside: Upstream,
}

/// Each token in the form of Anthropic's keys, so that the form tells nothing.
const ONE: &str = "sk-ant-test-named-for-one";
const OTHER: &str = "sk-ant-test-named-for-other";

impl Hosts {
    fn variables(&self, which: &str) -> Vec<(&'static str, String)> {
        match which {
            "one" => vec![("ANTHROPIC_BASE_URL", self.one.url()), ("ANTHROPIC_AUTH_TOKEN", ONE.to_owned())],
            "other" => vec![("ANTHROPIC_BASE_URL", self.other.url()), ("ANTHROPIC_AUTH_TOKEN", OTHER.to_owned())],
            _ => Vec::new(),
        }
    }

    /// A home of chance.
    fn home(&self, chance: &mut Chance, port: u16) -> (User, String) {
        let [in_settings, in_shell, in_editor, in_alias] = [(); 4].map(|()| chance.one(&["none", "none", "one", "other"]));
        let first = chance.one(&["none", "anthropic", "one", "one-client", "other", "other-client"]);
        let second = chance.one(&["none", "keyed", "anthropic", "one", "other"]);
        let profile = |which: &str| {
            let mut profile = json!({});
            match which.trim_end_matches("-client") {
                "one" => profile["base_url"] = self.one.url().into(),
                "other" => profile["base_url"] = self.other.url().into(),
                "keyed" => return json!({ "base_url": self.other.url(), "auth": { "env": "KEYED" } }),
                _ => {}
            }
            if which.ends_with("-client") {
                profile["auth"] = "client".into();
            }
            profile
        };
        let mut config = json!({ "server": { "listen": format!("127.0.0.1:{port}") } });
        if first != "none" {
            config["profiles"]["first"] = profile(first);
            config["failover_policy"] = json!({ "primary_profile": "first" });
            if second != "none" {
                config["profiles"]["second"] = profile(second);
                config["failover_policy"]["secondary_profile"] = "second".into();
            }
        }
        let as_object = |which: &str| {
            let env: serde_json::Map<String, Value> =
                self.variables(which).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            json!({ "env": env }).to_string()
        };
        let entries: Vec<Value> =
            self.variables(in_editor).into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let alias: Vec<String> = self.variables(in_alias).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut user = with_client(User::new())
            .config(&config.to_string())
            .file("home/.claude/settings.json", &as_object(in_settings))
            .file("home/.vscode/extensions/anthropic.claude-code-2.0.0/package.json", "{}")
            .file("home/.config/Code/User/settings.json", &json!({ "claudeCode.environmentVariables": entries }).to_string())
            .file("home/.bashrc", &format!("alias other='{} claude'\n", alias.join(" ")))
            .env("KEYED", "sk-ant-test-keyed")
            .env("HTTPS_PROXY", &self.outside.url());
        for (name, value) in self.variables(in_shell) {
            user = user.env(name, &value);
        }
        let words = format!("settings {in_settings}, shell {in_shell}, editor {in_editor}, alias {in_alias}, chain {first} {second}");
        (user, words)
    }
}

/// What a shell's function that starts the client has before it.
fn prefix(variables: &[(&str, String)]) -> String {
    variables.iter().map(|(name, value)| format!("{name}='{value}' ")).collect()
}

/// Settings, environment, editor, alias, configuration and command of chance: whatever a command says or does, and however a session is
/// started then, a credential that was named for one host never comes to another.
#[tokio::test]
async fn credential_reaches_its_own_host_in_homes_of_chance() {
    let hosts = Hosts { one: answers().await, other: answers().await, outside: answers().await };
    let mut chance = Chance(13);
    let mut served = 0;
    for case in 0..16 {
        let (user, words) = hosts.home(&mut chance, free_port());
        let command = chance.one(&["run", "install", "init"]);
        let sessions: Vec<String> = ["none", "one", "other"].iter().map(|which| prefix(&hosts.variables(which))).collect();
        match command {
            "run" => {
                for session in &sessions {
                    let connects = hosts.outside.requests().len();
                    let script = format!("{session}'{}' run -- claude", env!("CARGO_BIN_EXE_hotspare"));
                    served += usize::from(ended(user.shell(&script)).await.stdout.starts_with("200"));
                    let is_named = !session.is_empty() || !words.starts_with("settings none, shell none");
                    let went = hosts.outside.requests().len() - connects;
                    assert!(!is_named || went == 0, "case {case}, {words}, {session}: to Anthropic");
                }
            }
            command => {
                let arguments: &[&str] = if command == "init" { &["init", "--yes"] } else { &["install"] };
                let done = user.runs(arguments).await;
                let is_wired =
                    std::fs::read_to_string(user.path("home/.claude/settings.json")).is_ok_and(|text| text.contains("x-hotspare-token"));
                // A session of the user's own variables; those of the editor and the alias are what the home names.
                let editor = std::fs::read_to_string(user.path("home/.config/Code/User/settings.json")).expect("there");
                let of = |text: &str, which: &str| {
                    if text.contains(if which == "one" { ONE } else { OTHER }) { prefix(&hosts.variables(which)) } else { String::new() }
                };
                let alias = std::fs::read_to_string(user.path("home/.bashrc")).expect("there");
                let starts = [String::new(), of(&editor, "one"), of(&editor, "other"), of(&alias, "one"), of(&alias, "other")];
                for session in starts.iter().filter(|_| is_wired) {
                    let connects = hosts.outside.requests().len();
                    served += usize::from(ended(user.shell(&format!("{session}claude"))).await.stdout.starts_with("200"));
                    let is_named = !session.is_empty() || !words.starts_with("settings none, shell none");
                    let went = hosts.outside.requests().len() - connects;
                    assert!(!is_named || went == 0, "case {case}, {words}, {command}, {session}: to Anthropic");
                }
                let off = user.runs(&["uninstall"]).await;
                assert!(off.code == Some(0) || !is_wired, "case {case}, {words}, {command}: {off:?} {done:?}");
            }
        }
        for (host, name, foreign) in [(&hosts.one, "one", OTHER), (&hosts.other, "other", ONE)] {
            let leak = host.requests().into_iter().find(|request| {
                ["authorization", "x-api-key"].iter().any(|header| request.header(header).is_some_and(|value| value.contains(foreign)))
            });
            assert!(leak.is_none(), "case {case}, {words}, {command}: {foreign} came to {name}: {leak:?}");
        }
    }
    assert!(served > 8, "only {served} sessions were served: the property says little");
}
