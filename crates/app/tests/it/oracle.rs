//! One oracle for every screen: what the user's own next request meets decides what each screen may say.
//!
//! A situation is made with a real gateway and scripted providers, the screens are read, and only then two requests are sent: the user's next
//! one, and one more with the first profile down. Who answers them is the outcome; the claims that it forbids and requires stand in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use serde_json::json;

use crate::user::{User, asks};

/// What a provider does.
const WELL: u8 = 0;
const OVERLOADED: u8 = 1;
const NO_CREDIT: u8 = 2;
const RATE_LIMITED: u8 = 3;
const BROKEN: u8 = 4;

fn script(mode: u8) -> Script {
    match mode {
        OVERLOADED => Script::error(529, "overloaded_error", "Overloaded"),
        NO_CREDIT => Script::error(402, "billing_error", "no credit is left"),
        RATE_LIMITED => Script::error(429, "rate_limit_error", "slow down").field("retry-after", "600"),
        BROKEN => Script::error(500, "api_error", "internal error"),
        _ => Script::new().sse().events(&text("Hello")).end(),
    }
}

async fn provider() -> (Upstream, Arc<AtomicU8>) {
    let mode = Arc::new(AtomicU8::new(WELL));
    let played = mode.clone();
    (Upstream::start(move |_| script(played.load(Ordering::SeqCst))).await.expect("started"), mode)
}

/// How a situation comes about. Each request is sent before the screens are read.
#[derive(Debug, Clone, Copy)]
enum Step {
    Primary(u8),
    Spare(u8),
    Ask,
    LoseSpareKey,
    Command(&'static [&'static str]),
}

use Step::{Ask, Command, LoseSpareKey, Primary, Spare};

const SITUATIONS: &[(&str, &[Step])] = &[
    ("nobody pointed here", &[]),
    ("all well", &[Ask]),
    ("spare key missing", &[Ask, LoseSpareKey]),
    ("spare key missing, nobody pointed here", &[LoseSpareKey]),
    ("primary overloaded", &[Ask, Primary(OVERLOADED), Ask]),
    ("primary out of credit", &[Primary(NO_CREDIT), Ask]),
    ("primary limited", &[Primary(RATE_LIMITED), Ask]),
    ("primary limited, spare key missing", &[LoseSpareKey, Primary(RATE_LIMITED), Ask]),
    ("spare out of credit", &[Spare(NO_CREDIT), Primary(BROKEN), Ask, Primary(WELL), Ask]),
    ("spare limited", &[Spare(RATE_LIMITED), Primary(BROKEN), Ask, Primary(WELL), Ask]),
    ("everybody out of credit", &[Spare(NO_CREDIT), Primary(NO_CREDIT), Ask]),
    ("everybody broken", &[Spare(BROKEN), Primary(BROKEN), Ask]),
    ("primary paused", &[Ask, Command(&["profile", "pause", "work"])]),
    ("spare paused", &[Ask, Command(&["profile", "pause", "backup"])]),
    ("switched to the spare", &[Ask, Command(&["switch", "backup"])]),
    ("switched to the spare without its key", &[Ask, LoseSpareKey, Command(&["switch", "backup"])]),
    ("reset after everybody was out of credit", &[Spare(NO_CREDIT), Primary(NO_CREDIT), Ask, Command(&["reset"])]),
];

/// Who answered; `None` if the client got an error.
fn served_by(answer: &str) -> Option<String> {
    let is_good = answer.starts_with("HTTP/1.1 200");
    let profile = answer.lines().find_map(|line| line.strip_prefix("x-hotspare-profile: "));
    profile.filter(|_| is_good).map(|profile| profile.trim().to_owned())
}

/// What the screens said before the requests were sent.
#[derive(Debug)]
struct Screens {
    status: String,
    headline: String,
    code: Option<i32>,
    line: String,
    list: String,
}

/// What happened then.
#[derive(Debug)]
struct Outcome {
    next: Option<String>,
    with_primary_down: Option<String>,
    /// A client had sent requests before the screens were read.
    has_client: bool,
}

/// Every claim that an outcome forbids or requires.
fn wrong_claims(screens: &Screens, outcome: &Outcome) -> Vec<String> {
    let Screens { status, headline, code, line, list } = screens;
    let protected = headline.starts_with("● Protected");
    let total = headline.contains("No profile is usable") || headline.contains("Every profile failed");
    let is_covered = outcome.next.is_some() && outcome.with_primary_down.as_deref() == Some("backup");
    let is_primary = outcome.next.as_deref() == Some("work");
    let rules = [
        (protected && !is_covered, "protected, but no spare took over"),
        (protected && !outcome.has_client, "protected, but no client goes there"),
        (protected && !is_primary, "protected by the first profile, which did not answer"),
        (!protected && is_covered && is_primary && outcome.has_client, "not protected, but the spare took over"),
        (total && outcome.next.is_some(), "total failure, but the request was served"),
        (!total && outcome.next.is_none(), "no word of total failure, but nobody answered"),
        ((*code == Some(6)) != outcome.next.is_none(), "exit code 6 stands for total failure, and for nothing else"),
        (
            outcome.next.is_none() && !line.contains("no profile") && !line.contains("every profile failed"),
            "status line without the failure",
        ),
        (outcome.next.is_some() && line.contains("no profile"), "status line with a failure that is none"),
        (line.contains("spare ready") && outcome.with_primary_down.is_none(), "a spare is ready, but none took over"),
        (line.is_empty() && !is_covered, "an empty status line, but no spare took over"),
        (status.contains("is well again") && !is_primary, "well again, but it did not answer"),
        (outcome.next.as_ref().is_some_and(|name| !status.contains(&format!("→ {name}"))), "the headline leads elsewhere"),
        (
            list.lines().any(|line| line.starts_with("backup") && line.contains("○ ready"))
                && outcome.with_primary_down.is_none()
                && is_primary,
            "a spare is listed as ready, but did not take over",
        ),
    ];
    rules.iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, words)| (*words).to_owned()).collect()
}

async fn play(name: &str, steps: &[Step]) -> Vec<String> {
    let ((primary, primary_mode), (spare, spare_mode)) = (provider().await, provider().await);
    let user = User::new();
    let key = user.path("backup.key");
    let config = json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "backup" },
        "profiles": {
            "work": { "base_url": primary.url() },
            "backup": { "base_url": spare.url(), "auth": { "file": key.display().to_string() } },
        },
        "server": { "listen": "127.0.0.1:0" },
    });
    let user = user.config(&config.to_string()).file("backup.key", "sk-ant-test-backup\n").env("NO_COLOR", "1");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
    let (mut serve, address, _) = user.serves().await;
    let token = user.local_token();
    let headers = format!("x-hotspare-token: {token}\r\nauthorization: Bearer sk-ant-test\r\ncontent-type: application/json");
    let sent = std::sync::atomic::AtomicU32::new(0);
    // Each turn says something else, so that none of them is taken for the client's own retry.
    let ask = async || {
        let turn = sent.fetch_add(1, Ordering::SeqCst);
        let body =
            format!(r#"{{"model":"claude-opus-5-5","max_tokens":9,"stream":true,"messages":[{{"role":"user","content":"Turn {turn}"}}]}}"#);
        served_by(&asks(address, &headers, &body).await)
    };
    for step in steps {
        match step {
            Primary(mode) => primary_mode.store(*mode, Ordering::SeqCst),
            Spare(mode) => spare_mode.store(*mode, Ordering::SeqCst),
            Ask => {
                ask().await;
            }
            LoseSpareKey => std::fs::remove_file(&key).expect("removed"),
            Command(arguments) => assert_eq!(user.runs(arguments).await.code, Some(0), "{name}: {arguments:?}"),
        }
    }
    let status = user.runs(&["status"]).await;
    let screens = Screens {
        headline: status.stdout.lines().next().unwrap_or_default().to_owned(),
        code: status.code,
        line: user.runs(&["statusline"]).await.stdout.trim().to_owned(),
        list: user.runs(&["profile", "list"]).await.stdout,
        status: status.stdout,
    };
    let next = ask().await;
    primary_mode.store(OVERLOADED, Ordering::SeqCst);
    let outcome = Outcome { next, with_primary_down: ask().await, has_client: steps.iter().any(|step| matches!(step, Ask)) };
    serve.kill().await.expect("ended");
    wrong_claims(&screens, &outcome).into_iter().map(|wrong| format!("{name}: {wrong}\n{screens:#?}\n{outcome:?}")).collect()
}

#[tokio::test]
async fn screens_claim_what_the_next_request_meets() {
    let mut wrong = Vec::new();
    for (name, steps) in SITUATIONS {
        wrong.extend(play(name, steps).await);
    }
    assert!(wrong.is_empty(), "{} claims are false:\n{}", wrong.len(), wrong.join("\n"));
}
