//! The canary run: every place for a secret holds one of its own, everything is used and shown, and then nothing that was written, printed
//! or sent holds any of them, but the place itself and the provider that it belongs to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Received, Script, Upstream};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::user::{User, asks, signalled};

/// The profiles, each with the secret that only its provider may see. `+` and `/` look different in each encoding.
const SECRETS: [(&str, &str); 5] = [
    ("env", "sk-ant-test-canary+env/1111111111"),
    ("file", "sk-ant-test-canary+file/2222222222"),
    ("command", "sk-ant-test-canary+command/3333333333"),
    ("folder", "sk-ant-test-canary+folder/4444444444"),
    ("value", "sk-ant-test-canary+value/5555555555"),
];

/// The client's own login, which no profile here passes on.
const CLIENT: &str = "sk-ant-test-canary+client/6666666666";

/// In the variable that the hook is given.
const HOOK: &str = "sk-ant-test-canary+hook/7777777777";

fn secret(name: &str) -> &'static str {
    SECRETS.iter().find(|(known, _)| *known == name).expect("a profile").1
}

/// A provider that fails, and says in its error whatever it was told.
fn echo(request: &Received) -> Script {
    let told: Vec<&str> = ["authorization", "x-api-key"].into_iter().filter_map(|name| request.header(name)).collect();
    Script::error(500, &format!("api_error {}", told.concat()), &format!("I was told {told:?}"))
}

/// Everything that was said or written, by where it stands.
#[derive(Default)]
struct Heap(BTreeMap<String, Vec<u8>>);

impl Heap {
    fn put(&mut self, place: &str, bytes: impl Into<Vec<u8>>) {
        self.0.entry(place.to_owned()).or_default().extend(bytes.into());
    }

    /// Where the secret stands in any of its forms.
    fn places(&self, secret: &str) -> Vec<&str> {
        let forms = forms(secret);
        let holds = |bytes: &[u8]| forms.iter().any(|form| contains(bytes, form.as_bytes()));
        self.0.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
    }
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

/// Plain, percent-encoded, as JSON and Base64 have it: the middle of it, wherever it begins in what was encoded.
fn forms(secret: &str) -> Vec<String> {
    let percent: String = secret
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() || byte == b'-' { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let mut forms = vec![secret.to_owned(), secret.replace('/', "\\/"), percent.clone(), percent.to_ascii_lowercase()];
    for shift in 0..3 {
        let encoded = base64(&[&vec![0; shift], secret.as_bytes()].concat());
        // The ends share their letters with whatever stands beside them.
        forms.push(encoded[4..encoded.len() - 6].to_owned());
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = |group: &[u8]| {
        let bits = group.iter().enumerate().fold(0_usize, |bits, (place, byte)| bits | usize::from(*byte) << (16 - 8 * place));
        (0..=group.len()).map(|place| char::from(LETTERS[bits >> (18 - 6 * place) & 63])).collect::<String>()
    };
    bytes.chunks(3).map(letters).collect()
}

fn user(broken: &str, good: &str) -> User {
    let user = User::new().env("CANARY_KEY", secret("env")).env("CANARY_HOOK", HOOK).env("ANTHROPIC_API_KEY", CLIENT);
    let place = |name: &str| user.path(name).display().to_string();
    let (key, login, program) = (place("home/key"), place("home/.claude-other"), place("bin/print-key"));
    let (hook, heard) = (place("bin/hook"), place("home/heard"));
    let config = json!({
        "failover_policy": {
            "primary_profile": "env", "secondary_profile": ["file", "command", "folder", "value"], "max_failover_attempts": 3
        },
        "profiles": {
            "env": { "base_url": broken, "auth": { "env": "CANARY_KEY" } },
            "file": { "base_url": broken, "auth": { "file": key } },
            "command": { "base_url": broken, "auth": { "command": [program] } },
            "folder": { "base_url": broken, "auth": { "claude_config_dir": login } },
            "value": { "base_url": good, "auth": { "value": secret("value") } },
        },
        "hooks": { "PreFailover": [{ "hooks": [{ "type": "command", "command": [hook], "env": ["CANARY_HOOK"] }] }] },
        "server": { "listen": "127.0.0.1:0" },
    });
    let user = user
        .config(&config.to_string())
        .file("home/key", secret("file"))
        .file("home/.claude-other/.credentials.json", &json!({ "claudeAiOauth": { "accessToken": secret("folder") } }).to_string())
        .file("bin/print-key", &format!("#!/bin/sh\necho '{}'\n", secret("command")))
        .file("bin/hook", &format!("#!/bin/sh\ncat >> '{heard}'\n"));
    for (name, mode) in
        [("home/key", 0o600), ("home/.claude-other/.credentials.json", 0o600), ("bin/print-key", 0o755), ("bin/hook", 0o755)]
    {
        std::fs::set_permissions(user.path(name), std::fs::Permissions::from_mode(mode)).expect("mode set");
    }
    user
}

async fn get(proxy: SocketAddr, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy listens");
    let head = format!("GET {path} HTTP/1.1\r\nHost: {proxy}\r\nx-hotspare-token: {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

/// Runs a command and keeps all that it says.
async fn shows(heap: &mut Heap, user: &User, arguments: &[&str]) {
    let ended = user.runs(arguments).await;
    heap.put(&format!("what `{}` prints", arguments.join(" ")), ended.stdout + &ended.stderr);
}

const COMMANDS: [&[&str]; 16] = [
    &["status"],
    &["status", "--json"],
    &["why"],
    &["why", "--json"],
    &["logs"],
    &["logs", "--json"],
    &["usage", "--json"],
    &["config", "show", "--origin"],
    &["config", "show", "--json"],
    &["config", "validate", "--json"],
    &["config", "get", "profiles.value.auth"],
    &["config", "explain", "profiles.value.auth"],
    &["profile", "list", "--json"],
    &["profile", "show", "value", "--json"],
    &["hook", "test", "PreFailover", "--json"],
    &["notices", "--json"],
];

/// Everything that a whole life of the product leaves behind; the local token is with it.
async fn life() -> (Heap, String, Vec<Received>, Vec<Received>) {
    let broken = Upstream::start(echo).await.expect("started");
    let good = Upstream::start(|_| Script::new().sse().events(&text("fine")).end()).await.expect("started");
    let user = user(&broken.url(), &good.url()).env("HOTSPARE_LOG", "trace");
    let mut heap = Heap::default();

    let (child, proxy, said) = user.serves().await;
    heap.put("what `serve` says", said);
    let token = user.local_token().trim().to_owned();
    let headers = format!("x-hotspare-token: {token}\r\nauthorization: Bearer {CLIENT}");
    // The first request meets four who fail, and nobody else may be asked for it; the second begins at the one who is left. The first one's
    // answer is not searched: it is a provider's own refusal as it came, and this provider says back what it was told.
    let ask = || asks(proxy, &headers, r#"{"model":"claude-opus-5-5","stream":true}"#);
    assert!(ask().await.contains("I was told"), "a refusal is relayed as it came");
    let answer = ask().await;
    assert!(answer.contains("message_stop"), "{answer}");
    heap.put("the client's answer", answer);
    heap.put("the client's refusal", asks(proxy, "x-hotspare-token: wrong", "{}").await);
    for path in ["/metrics", "/hotspare/status", "/hotspare/notices"] {
        heap.put(path, get(proxy, path, &token).await);
    }
    for arguments in COMMANDS {
        shows(&mut heap, &user, arguments).await;
    }
    let last = signalled(child, Signal::TERM).await;
    heap.put("what `serve` says", last.stdout + &last.stderr);
    for (path, bytes) in user.everything() {
        if !is_a_secret_s_own_place(&path) {
            heap.put(&path.display().to_string(), bytes);
        }
    }
    (heap, token, broken.messages(), good.messages())
}

/// Where the user put a secret, or where the local token lives.
fn is_a_secret_s_own_place(path: &std::path::Path) -> bool {
    const PLACES: [&str; 4] = ["home/key", ".claude-other/.credentials.json", "home/.config/hotspare/config.json", "state/hotspare/token"];
    PLACES.iter().any(|place| path.ends_with(place))
}

#[tokio::test]
async fn no_secret_is_left_anywhere_but_where_it_belongs() {
    let (heap, token, broken, good) = life().await;
    // Each place was live: its provider got its secret, and no other's.
    for (name, secret) in SECRETS {
        let provider = if name == "value" { &good } else { &broken };
        let head = |request: &Received| String::from_utf8_lossy(&request.raw_head).into_owned();
        assert!(provider.iter().any(|request| head(request).contains(secret)), "`{name}` never reached its provider");
    }
    let heads = broken.iter().chain(&good).map(|request| String::from_utf8_lossy(&request.raw_head).into_owned());
    let strays = heads.filter(|head| head.contains(CLIENT) || head.contains(HOOK) || head.contains(&token)).count();
    assert_eq!(strays, 0, "a secret that is no provider's reached one");
    let others = [("the client's login", CLIENT), ("the hook's variable", HOOK), ("the local token", token.as_str())];
    let hits: Vec<String> = SECRETS
        .iter()
        .copied()
        .chain(others)
        .flat_map(|(name, secret)| heap.places(secret).into_iter().map(move |place| format!("`{name}` is in {place}")))
        .collect();
    let bytes: usize = heap.0.values().map(Vec::len).sum();
    println!("canary: {} secrets in {} places of {bytes} bytes: {} hits", SECRETS.len() + others.len(), heap.0.len(), hits.len());
    assert!(hits.is_empty(), "{hits:#?}");
    let ledger = heap.0.keys().any(|place| place.ends_with("ledger.db"));
    let heard = heap.0.keys().any(|place| place.ends_with("heard"));
    assert!(ledger && heard && heap.0["/metrics"].len() > 500, "there was something to search in: {:?}", heap.0.keys());
}

#[test]
fn the_search_finds_what_is_planted() {
    let planted = secret("env");
    for (form, bytes) in [
        ("plain", format!("x {planted} x")),
        ("URL", "key=sk-ant-test-canary%2Benv%2F1111111111&".to_owned()),
        ("Base64", base64(format!("user:{planted}@").as_bytes())),
        ("Base64, moved", base64(format!("users:{planted}@").as_bytes())),
        ("Base64, moved again", base64(format!("{planted} and more").as_bytes())),
    ] {
        let mut heap = Heap::default();
        heap.put("here", bytes);
        assert_eq!(heap.places(planted), ["here"], "{form}");
        assert!(heap.places(secret("file")).is_empty(), "{form}");
    }
}

/// A line with a secret on it is where errors are drawn.
#[tokio::test]
async fn a_broken_line_is_shown_without_its_secret() {
    let planted = secret("value");
    for broken in [
        format!(r#"{{ "profiles": {{ "a": {{ "auth": {{ "value": "{planted}", "valeu": "{planted}" }} }} }} }}"#),
        format!(r#"{{ "profiles": {{ "a": {{ "auth": {{ "value": ["{planted}"] }} }} }} }}"#),
        format!(r#"{{ "profiles": {{ "a": {{ "auth": "{planted}" }} }} }}"#),
        format!(r#"{{ "profiles": {{ "a": {{ "base_url": "https://user:{planted}@provider.example" }} }} }}"#),
        format!(r#"{{ "profiles": {{ "a": {{ "auth": {{ "value": "{planted}" }} }} "#),
    ] {
        let user = User::new().config(&broken);
        let mut heap = Heap::default();
        for arguments in
            [&["config", "validate"][..], &["config", "validate", "--json"], &["serve"], &["run", "--", "claude"], &["config", "show"]]
        {
            shows(&mut heap, &user, arguments).await;
        }
        assert_eq!(heap.places(planted), Vec::<&str>::new(), "{broken}");
    }
}
