//! The canary run: every place for a secret holds one of its own, everything is used and shown, and then nothing that was written, printed
//! or sent holds any eight characters of them, but the place itself and the provider that it belongs to.

mod full;
mod house;

use std::net::SocketAddr;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hotspare_testkit::canary::{Heap, Needles};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::house::{House, PROFILES, is_a_secret_s_own_place, needles, random, secret};
use crate::user::{User, asks, ended, signal, signalled};

/// Longest that a reload may take to be told.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests until every profile has been asked: four each, and those that failed are asked last.
const ROUNDS: usize = 6;

async fn asked(proxy: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy listens");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {proxy}\r\nx-hotspare-token: {token}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await.expect("sent");
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("answered");
    answer
}

/// Runs a command and keeps all that it says.
async fn shows(heap: &mut Heap, user: &User, arguments: &[&str]) -> String {
    let ended = user.runs(arguments).await;
    let said = ended.stdout + &ended.stderr;
    heap.put(&format!("what `{}` prints", arguments.join(" ")), said.clone());
    said
}

/// Whatever shows something. `env` is not among them: printing the local token is what it is for.
const COMMANDS: [&[&str]; 47] = [
    &["status"],
    &["status", "--json"],
    &["statusline"],
    &["why"],
    &["why", "--json"],
    &["why", "last"],
    &["logs"],
    &["logs", "--json"],
    &["logs", "--failovers"],
    &["usage"],
    &["usage", "--json"],
    &["notices"],
    &["notices", "--json"],
    &["config", "show"],
    &["config", "show", "--origin"],
    &["config", "show", "--json"],
    &["config", "validate"],
    &["config", "validate", "--json"],
    &["config", "get", "profiles"],
    &["config", "get", "profiles.value.auth"],
    &["config", "get", "hooks"],
    &["config", "explain", "profiles.value.auth"],
    &["config", "explain", "profiles"],
    &["config", "explain", "hooks"],
    &["profile", "list"],
    &["profile", "list", "--json"],
    &["profile", "show", "value"],
    &["profile", "show", "value", "--json"],
    &["profile", "show", "login", "--json"],
    &["profile", "import", "--dry-run"],
    &["profile", "pause", "file", "--for", "1h"],
    &["profile", "resume", "--json"],
    &["switch", "env", "--for", "1m", "--json"],
    &["switch", "auto"],
    &["reset", "--json"],
    &["hook", "test", "PreFailover"],
    &["hook", "test", "PostFailover", "--json"],
    &["install", "--dry-run"],
    &["init", "--dry-run"],
    &["init", "--dry-run", "--json"],
    &["drill", "529"],
    &["drill", "529", "--json"],
    &["doctor"],
    &["doctor", "--json"],
    &["outage"],
    &["outage", "--json"],
    &["service", "status"],
];

/// Messages until one is answered, a broken one, a count of tokens, a list of models, and what is refused.
async fn traffic(heap: &mut Heap, proxy: SocketAddr, token: &str) {
    let headers = format!("x-hotspare-token: {token}\r\nx-api-key: {}\r\nx-company-key: {}", secret("client"), secret("company"));
    let body = json!({ "model": "claude-opus-5-5", "stream": true, "max_tokens": 9, "messages": [{ "role": "user", "content": secret("prompt") }] });
    let body = body.to_string();
    // What the client gets is not searched: it is a provider's own refusal as it came, and these say back what they were told.
    let mut answers = Vec::new();
    for _ in 0..ROUNDS {
        answers.push(asks(proxy, &headers, &body).await);
    }
    assert!(answers[0].contains("I was told"), "a refusal is relayed as it came: {}", answers[0]);
    assert!(answers.iter().any(|answer| answer.contains("message_stop")), "{answers:#?}");
    asked(proxy, "POST", "/v1/messages/count_tokens", token, &body).await;
    asked(proxy, "GET", "/v1/models", token, "").await;
    heap.put("a refusal of ours", asks(proxy, "x-hotspare-token: wrong", "{}").await);
    heap.put("a refusal of ours", asked(proxy, "GET", "/hotspare/nothing", token, "").await);
}

/// What the local port itself says.
async fn port(heap: &mut Heap, proxy: SocketAddr, token: &str) {
    for path in ["/metrics", "/hotspare/status", "/hotspare/notices"] {
        heap.put(path, asked(proxy, "GET", path, token, "").await);
    }
    for (path, body) in [("/hotspare/pause", r#"{"profile":"nobody"}"#), ("/hotspare/switch", "{"), ("/hotspare/reset", "[]")] {
        heap.put(path, asked(proxy, "POST", path, token, body).await);
    }
}

/// A saved configuration with a fault, until `status` tells of it.
async fn broken_reload(heap: &mut Heap, house: &House) {
    house.break_config();
    let told = async {
        while !house.user.runs(&["status"]).await.stdout.contains("HS0") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a broken reload is told");
    for arguments in [&["status"][..], &["status", "--json"], &["config", "validate"], &["config", "show"], &["doctor"], &["serve"]] {
        shows(heap, &house.user, arguments).await;
    }
}

/// Everything that a whole life of the product leaves behind, and its local token.
async fn life(house: &House) -> (Heap, String) {
    let mut heap = Heap::default();
    let user = &house.user;
    let (child, proxy, said) = user.serves().await;
    heap.put("what `serve` says", said);
    let token = user.local_token().trim().to_owned();
    traffic(&mut heap, proxy, &token).await;
    port(&mut heap, proxy, &token).await;
    for arguments in COMMANDS {
        shows(&mut heap, user, arguments).await;
    }
    for (name, _) in PROFILES {
        shows(&mut heap, user, &["profile", "test", name, "--spend"]).await;
        shows(&mut heap, user, &["profile", "test", name, "--json"]).await;
    }
    shows(&mut heap, user, &["run", "--", "claude", "-p", "x"]).await;
    heap.put("how the client was started", user.report("argv") + &user.report("parent"));
    broken_reload(&mut heap, house).await;
    signal(&child, Signal::HUP);
    let last = signalled(child, Signal::TERM).await;
    heap.put("what `serve` says", last.stdout + &last.stderr);
    (heap, token)
}

/// Another life, ended as a crash ends one.
async fn crash(heap: &mut Heap, house: &House) {
    house.mend_config();
    let (child, proxy, said) = house.user.serves().await;
    heap.put("what a crashing `serve` says", said);
    traffic(heap, proxy, house.user.local_token().trim()).await;
    signal(&child, Signal::ABORT);
    let last = ended(child).await;
    assert_eq!(last.code, None, "a signal ended it");
    heap.put("what a crashing `serve` says", last.stdout + &last.stderr);
}

fn files(heap: &mut Heap, user: &User) {
    for (path, bytes) in user.everything() {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        assert!(!name.starts_with("core"), "a crash leaves no picture of the memory: {}", path.display());
        if !is_a_secret_s_own_place(&path) {
            heap.put(&path.display().to_string(), bytes);
        }
    }
}

/// Each provider gets its own secret, and no head that it gets holds a part of another one.
fn check_providers(house: &House, needles: &Needles) {
    for (name, provider) in &house.providers {
        let heads: Vec<u8> = provider.requests().iter().flat_map(|request| request.raw_head.to_vec()).collect();
        let found = needles.found(&heads);
        // What the user makes the client send beside its credential goes where that goes.
        let own = match *name {
            "abroad" => vec![],
            "client" => vec!["client", "company"],
            name => vec![name],
        };
        assert_eq!(found.into_iter().collect::<Vec<_>>(), own, "what the provider of `{name}` was told");
    }
    let heads = |upstream: &hotspare_testkit::Upstream| -> Vec<u8> {
        upstream.requests().iter().flat_map(|request| [request.raw_head.to_vec(), request.body.to_vec()].concat()).collect()
    };
    let at_the_proxy = heads(&house.proxy);
    assert!(
        String::from_utf8_lossy(&at_the_proxy).contains(&BASE64_STANDARD.encode(format!("me:{}", secret("proxy")))[..40]),
        "the proxy was asked"
    );
    assert_eq!(needles.found(&at_the_proxy).into_iter().collect::<Vec<_>>(), ["proxy"]);
    assert_eq!(needles.found(&heads(&house.hook)).into_iter().collect::<Vec<_>>(), ["hook_url"]);
}

#[tokio::test]
async fn t11_no_secret_is_left_anywhere_but_where_it_belongs() {
    let house = House::new().await;
    let (mut heap, token) = life(&house).await;
    crash(&mut heap, &house).await;
    files(&mut heap, &house.user);
    let mut needles = needles();
    needles.add("the local token", &token);
    check_providers(&house, &needles);
    let hits = heap.hits(&needles);
    println!("canary: {} secrets in {} places of {} bytes: {} hits", needles.secrets(), heap.0.len(), heap.bytes(), hits.len());
    assert!(hits.is_empty(), "{hits:#?}");
    let (ledger, heard) = (heap.0.keys().any(|place| place.ends_with("ledger.db")), heap.0.keys().find(|place| place.ends_with("heard")));
    let heard = heard.map(|place| String::from_utf8_lossy(&heap.0[place]).into_owned()).unwrap_or_default();
    assert!(ledger && heap.0["/metrics"].len() > 500, "there was something to search in: {:?}", heap.0.keys());
    assert!(heard.contains("an argument") && heard.contains("PATH=") && heard.contains("hook_event_name"), "{heard}");
}

/// A line with a secret on it is where errors are drawn.
#[tokio::test]
async fn a_broken_line_is_shown_without_its_secret() {
    let planted = secret("value");
    let mut needles = Needles::default();
    needles.add("value", random("value"));
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
        assert!(heap.hits(&needles).is_empty(), "{broken}");
    }
}
