//! A user with a secret in every place that can hold one, and providers of which each may see one of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hotspare_testkit::answers::{Position, text, upto};
use hotspare_testkit::canary::{self, Needles, percent_encoded};
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::{Value, json};

use crate::user::User;

/// Profiles with what their provider answers, in the order in which they are asked. The last but one is behind a proxy that refuses, and the
/// last one answers.
pub(super) const PROFILES: [(&str, u16); 11] = [
    ("client", 529),
    ("env", 500),
    ("file", 401),
    ("command", 401),
    ("keychain", 402),
    ("login", 429),
    ("helper", 503),
    ("settings", 403),
    ("company_of_its_own", 500),
    ("abroad", 0),
    ("value", 200),
];

/// Secrets that no provider of a profile may see in a head.
const OTHERS: [&str; 8] = ["refresh", "proxy", "hook_env", "hook_url", "unused", "company", "prompt", "answer"];

/// What is random of a secret.
pub(super) fn random(name: &str) -> String {
    let random = canary::random(name, 0);
    // A path takes no other letters.
    if name == "hook_url" { random.replace('+', "-").replace('/', "_") } else { random }
}

/// The secret as it stands in its place.
pub(super) fn secret(name: &str) -> String {
    format!("sk-ant-test-{}", random(name))
}

/// Those that are known from the start.
pub(super) fn needles() -> Needles {
    let mut needles = Needles::default();
    for name in PROFILES.iter().map(|(name, _)| *name).chain(OTHERS) {
        needles.add(name, random(name));
    }
    needles
}

pub(super) struct House {
    pub(super) user: User,
    /// By the profile's name.
    pub(super) providers: Vec<(&'static str, Upstream)>,
    pub(super) proxy: Upstream,
    pub(super) hook: Upstream,
}

/// A provider that fails, and says in its error whatever it was told.
async fn echo(status: u16) -> Upstream {
    let play = move |request: &Received| {
        let told: Vec<&str> = ["authorization", "x-api-key"].into_iter().filter_map(|name| request.header(name)).collect();
        Script::error(status, &format!("api_error {}", told.concat()), &format!("I was told {told:?}"))
    };
    Upstream::start(play).await.expect("started")
}

/// Its first answer is whole, the second breaks off, and so on.
async fn well() -> Upstream {
    let events = text(&secret("answer"));
    let whole = || Script::new().sse().events(&events).end();
    let broken = Script::new().sse().events(upto(&events, Position::InBlock(0))).rst();
    Upstream::sequence(vec![whole(), broken, whole()]).await.expect("started")
}

impl House {
    pub(super) async fn new() -> Self {
        let mut providers = Vec::new();
        for (name, status) in PROFILES {
            providers.push((name, if status == 200 { well().await } else { echo(status).await }));
        }
        let proxy = Upstream::start(|_| Script::error(407, "proxy", "who are you?")).await.expect("started");
        let hook = Upstream::start(|_| Script::new().body(200, &[], "")).await.expect("started");
        let user = User::new();
        let config = config(&user, &providers, &hook).to_string();
        let proxy_url = proxy.url().replace("http://", &format!("http://me:{}@", percent_encoded(secret("proxy"))));
        let user = user
            .config(&config)
            .env("ANTHROPIC_API_KEY", &secret("client"))
            .env("CANARY_KEY", &secret("env"))
            .env("CANARY_OTHER", &secret("company_of_its_own"))
            .env("CANARY_ABROAD", &secret("abroad"))
            .env("CANARY_HOOK", &secret("hook_env"))
            .env("OPENROUTER_API_KEY", &secret("unused"))
            .env("HTTPS_PROXY", &proxy_url)
            .env("HOTSPARE_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        let house = Self { user: in_their_places(user), providers, proxy, hook };
        modes(&house.user);
        house
    }

    /// The same with a client that takes hotspare for its HTTPS proxy.
    pub(super) fn in_full_mode(self) -> Self {
        Self { user: self.user.env("HOTSPARE_SERVER__MODE", "full").env("WAIT", "1"), ..self }
    }

    /// The configuration with a fault beside the credential that stands in it.
    pub(super) fn break_config(&self) {
        let file = self.user.path(CONFIG);
        let text = fs::read_to_string(&file).expect("it is there");
        fs::write(&file, text.replace(r#""value":"#, r#""valeu":"#)).expect("written");
    }

    /// The configuration as it was.
    pub(super) fn mend_config(&self) {
        let file = self.user.path(CONFIG);
        let text = fs::read_to_string(&file).expect("it is there");
        fs::write(&file, text.replace(r#""valeu":"#, r#""value":"#)).expect("written");
    }
}

pub(super) const CONFIG: &str = "home/.config/hotspare/config.json";

const LOGIN: &str = "home/.claude-login/.credentials.json";
const HELPER: &str = "home/.claude-helper/settings.json";
const SETTINGS: &str = "home/.claude-settings/settings.json";
const KEYCHAIN: &str = "home/.local/state/hotspare/keychain/kept";
pub(super) const AUTHORITY: &str = "home/.local/state/hotspare/ca/authority.json";

/// Where the user put a secret, or where the local token lives: its own file, and the list of what runs, where a crash leaves its entry.
pub(super) fn is_a_secret_s_own_place(path: &Path) -> bool {
    let in_the_list = path.parent().is_some_and(|folder| folder.ends_with("state/hotspare/instances"));
    in_the_list
        || ["home/key", CONFIG, LOGIN, HELPER, SETTINGS, KEYCHAIN, AUTHORITY, "state/hotspare/token"]
            .iter()
            .any(|place| path.ends_with(place))
}

fn config(user: &User, providers: &[(&'static str, Upstream)], hook: &Upstream) -> Value {
    let place = |name: &str| user.path(name).display().to_string();
    let auth = |name: &str| match name {
        "env" => json!({ "env": "CANARY_KEY" }),
        "file" => json!({ "file": place("home/key") }),
        "command" => json!({ "command": [place("bin/print-key"), "an argument"] }),
        "keychain" => json!({ "keychain": "kept" }),
        "login" | "helper" | "settings" => json!({ "claude_config_dir": place(&format!("home/.claude-{name}")) }),
        "company_of_its_own" => json!({ "env": "CANARY_OTHER" }),
        "abroad" => json!({ "env": "CANARY_ABROAD" }),
        "value" => json!({ "value": secret("value") }),
        _ => json!("client"),
    };
    let profile = |(name, provider): &(&'static str, Upstream)| {
        let url = if *name == "abroad" { "https://provider.example".to_owned() } else { provider.url() };
        let platform = if *name == "company_of_its_own" { "anthropic_compatible" } else { "anthropic" };
        ((*name).to_owned(), json!({ "platform": platform, "base_url": url, "auth": auth(name) }))
    };
    let spares: Vec<&str> = PROFILES.iter().skip(1).map(|(name, _)| *name).collect();
    let program = json!({ "type": "command", "command": [place("bin/hook"), "an argument"], "env": ["CANARY_HOOK"] });
    let post = json!({ "type": "http", "url": format!("{}/services/{}", hook.url(), secret("hook_url")) });
    json!({
        "failover_policy": { "primary_profile": "client", "secondary_profile": spares, "max_failover_attempts": 3 },
        "profiles": providers.iter().map(profile).collect::<serde_json::Map<_, _>>(),
        "hooks": {
            "PreFailover": [{ "hooks": [program] }],
            "AttemptFailure": [{ "hooks": [program, post] }],
            "PostFailover": [{ "hooks": [program, post] }],
            "ProfileDown": [{ "hooks": [program] }],
        },
        "server": { "listen": "127.0.0.1:0" },
    })
}

/// What the programs are told is kept where it is searched: arguments, environment (but the one variable) and input.
fn in_their_places(user: User) -> User {
    let heard = user.path("home/heard").display().to_string();
    let listen = format!("printf '%s\\n' \"$0\" \"$@\" >> '{heard}'; env | grep -v '^CANARY_HOOK=' >> '{heard}'");
    let login = json!({ "claudeAiOauth": { "accessToken": secret("login"), "refreshToken": secret("refresh") } });
    let helper = json!({ "apiKeyHelper": format!("echo '{}'", secret("helper")) });
    let settings = json!({ "env": { "ANTHROPIC_AUTH_TOKEN": secret("settings") } });
    user.file("home/key", &secret("file"))
        .file(KEYCHAIN, &secret("keychain"))
        .file(LOGIN, &login.to_string())
        .file(HELPER, &helper.to_string())
        .file(SETTINGS, &settings.to_string())
        .file("bin/print-key", &format!("#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\" >> '{heard}'\necho '{}'\n", secret("command")))
        .file("bin/hook", &format!("#!/bin/sh\n{listen}\ncat >> '{heard}'\n"))
}

fn modes(user: &User) {
    let keychain = Path::new(KEYCHAIN).parent().and_then(Path::to_str).expect("a folder");
    let state = Path::new(keychain).parent().and_then(Path::to_str).expect("a folder");
    for (name, mode) in [
        (state, 0o700),
        (keychain, 0o700),
        ("home/key", 0o600),
        (KEYCHAIN, 0o600),
        (LOGIN, 0o600),
        (HELPER, 0o600),
        (SETTINGS, 0o600),
        (CONFIG, 0o600),
        ("bin/print-key", 0o755),
        ("bin/hook", 0o755),
    ] {
        fs::set_permissions(user.path(name), fs::Permissions::from_mode(mode)).expect("mode set");
    }
}
