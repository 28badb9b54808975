//! Whatever a request's target looks like, it goes to the configured authority with exactly its own bytes, or it is refused (T7).

use hotspare_testkit::Script;
use serde_json::json;

use crate::client::{Ask, Connection};
use crate::proxy::{CLIENT_KEY, Proxy, TOKEN, plays};

/// Fewest entries (security.md T7).
const ENTRIES: usize = 200;

/// Ways to leave a path, or to be read differently by two readers.
const ESCAPES: [&str; 26] = [
    "..",
    ".",
    "%2e%2e",
    "%2E%2e",
    ".%2e",
    "%2e.",
    "%2e",
    "%252e%252e",
    "..%2f",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "\\",
    "..\\",
    "%00",
    "%0d%0a",
    "%0A",
    "//",
    "%25",
    "%2525",
    "..;",
    "%c0%ae%c0%ae",
    "%ef%bc%8f",
    "..%00",
    "%2e%2e%2f",
];

/// Where they may stand.
const PLACES: [&str; 7] = ["/{}", "/{}/", "/{}/v1/messages", "/v1/{}/messages", "/v1/messages/{}", "/v1/messages/{}/x", "/v1/messages{}"];

/// Forms that name another authority, or no path at all.
const ELSEWHERE: [&str; 40] = [
    "http://evil.example/",
    "http://evil.example/v1/messages",
    "https://evil.example/v1/messages",
    "HTTP://evil.example/v1/messages",
    "ftp://evil.example/",
    "//evil.example/v1/messages",
    "///evil.example/v1/messages",
    "/\\evil.example/v1/messages",
    "\\\\evil.example\\v1",
    "\\evil.example",
    "evil.example:80",
    "evil.example/v1/messages",
    "@evil.example/v1/messages",
    "/@evil.example//x",
    ":80/v1/messages",
    "*",
    "v1/messages",
    "?x",
    "/v1/messages#fragment",
    "/v1/messages?x#fragment",
    "#",
    "/v1/mess\u{e4}ges",
    "/v1/messages?q=\u{20ac}",
    "/\u{ff0f}evil.example",
    "/\u{2215}evil",
    "/v1/messages\u{7f}",
    "/v1/messages\u{1}",
    "/v1/messages\u{b}",
    "/v1/messages\u{0}",
    "/v1/messages\t",
    "/v1/\r/messages",
    "/v1/messages?x=\\",
    "/v1/messages?u=http://evil.example//x",
    "/v1/messages?u=//evil.example",
    "/http://evil.example/",
    "/https:%2f%2fevil.example",
    "/v1/messages;x=y",
    "/v1/messages:80",
    "/v1/messages@evil.example",
    "/v1/[::1]/x",
];

/// Ordinary targets: they must pass as they are.
const ORDINARY: [&str; 20] = [
    "/v1/messages",
    "/v1/messages?beta=true",
    "/v1/messages?a=1&a=2&b=%7B%22x%22%3A1%7D",
    "/v1/messages?",
    "/v1/messages/batches/msgbatch_1/results",
    "/v1/files/f%20name",
    "/v1/models?limit=1000&after_id=claude-opus-5-5",
    "/v1/models/claude-opus-5-5",
    "/V1/Messages",
    "/v1/messages/",
    "/v1/messages?x=a/../b",
    "/v1/messages?x=a//b",
    "/v1/...",
    "/v1/..x/.y",
    "/v1/a.b/c~d_e-f!$&'()*+,;=:@",
    "/v1/%41%7e%F0%9F%98%80",
    "/v1/messages?x=%0d%0ahost:evil.example",
    "/v1/messages?x=%00",
    "/v1/messages?x=..%2f..%2f",
    "/v1/messages?x=%5c",
];

fn corpus() -> Vec<String> {
    let mut corpus: Vec<String> = ELSEWHERE.iter().map(ToString::to_string).collect();
    corpus.extend(ESCAPES.iter().flat_map(|escape| PLACES.iter().map(|place| place.replace("{}", escape))));
    corpus.extend(ORDINARY.iter().map(ToString::to_string));
    corpus
}

/// teamclaude #285 #305 #342: a path that led to another authority, or past the check.
#[tokio::test]
async fn t7_every_target_goes_to_the_configured_authority_unchanged_or_nowhere() {
    let primary = plays(Script::new().body(200, &[("Content-Type", "application/json")], "{}")).await;
    let config = json!({
        "failover_policy": { "primary_profile": "primary" },
        "profiles": { "primary": { "base_url": format!("{}/base", primary.url()) } },
    });
    let proxy = Proxy::start(&config).await;
    let corpus = corpus();
    assert!(corpus.len() >= ENTRIES, "{}", corpus.len());
    let (mut passed, mut refused) = (0, 0);
    for target in &corpus {
        let before = primary.requests().len();
        let mut connection = Connection::open(proxy.addr).await;
        let head = Ask::new("GET", target).header("x-api-key", CLIENT_KEY).header("Connection", "close").head(proxy.addr);
        connection.send(head).await;
        let status = connection.answer_to("GET").await.map(|answer| answer.status);
        let requests = primary.requests();
        if status == Some(200) {
            passed += 1;
            let got = &requests[before];
            assert_eq!(got.target, format!("/base{target}"));
            assert_eq!(got.header("host"), Some(&*primary.addr().to_string()), "{target:?}");
        } else {
            refused += 1;
            assert!(matches!(status, Some(400..=499)), "{target:?}: {status:?}");
            assert_eq!(requests.len(), before, "{target:?} was refused and sent all the same");
            assert!(!ORDINARY.contains(&target.as_str()), "{target:?} is ordinary");
        }
        assert!(!dangerous(target) || status != Some(200), "{target:?} passed");
    }
    assert!(passed >= ORDINARY.len() && refused > 150, "{passed} passed, {refused} refused");
    assert!(primary.requests().iter().all(|request| !String::from_utf8_lossy(&request.raw_head).contains(TOKEN)));
}

/// What no reading may let through, told in another way than the guard's own.
fn dangerous(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let mut decoded = path.to_ascii_lowercase();
    for _ in 0..3 {
        for (code, letter) in [("%25", "%"), ("%2e", "."), ("%2f", "/"), ("%5c", "\\"), ("%00", "\0")] {
            decoded = decoded.replace(code, letter);
        }
    }
    let climbs = decoded.split(['/', '\\']).any(|segment| segment == ".." || segment == ".");
    !target.starts_with('/')
        || !target.is_ascii()
        || climbs
        || decoded.contains("//")
        || decoded.contains(['\\', '\0'])
        || target.contains('#')
}
