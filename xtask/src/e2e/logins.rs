//! One conversation of the real client on two logins and a key of one provider: each window is spent in the middle of a turn, the next one
//! carries on, and the first comes back after its reset. Never lets a login's folder change, or a spent window be asked before its reset.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hotspare_testkit::strict::{Company, Strict};
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::{Value, json};

use super::canary::{self, Secret};
use super::faults;
use super::talk::Client;
use super::world::{Login, Tools, World, history};

pub(super) const NAME: &str = "two logins and a key: spent in mid-turn, and back";

/// How long the first login's window stays spent. The way back may take half a minute more: resets are spread out.
const WINDOW: Duration = Duration::from_secs(12);

/// Longest until the first login serves again.
const PATIENCE: Duration = Duration::from_secs(90);

/// Pause between two turns while everybody waits for the reset.
const PAUSE: Duration = Duration::from_secs(2);

/// What the client's tool call does, so that it can be counted.
const CALL: (&str, &str) = ("Bash", r#"{"command":"echo ran >> calls.txt","description":"Notes that it ran"}"#);

/// A way to pay for requests: how many answers are in it, and what became of it.
struct Account {
    name: &'static str,
    secret: &'static str,
    /// Answers until the window is spent; the first of these turns takes two.
    answers: usize,
    /// How long it stays spent.
    spent_for: Duration,
    served: AtomicUsize,
    refused: AtomicUsize,
    /// Seconds since 1970; 0: it was never spent.
    reset: AtomicU64,
}

impl Account {
    fn new(name: &'static str, secret: &'static str, answers: usize, spent_for: Duration) -> Self {
        Self { name, secret, answers, spent_for, served: AtomicUsize::new(0), refused: AtomicUsize::new(0), reset: AtomicU64::new(0) }
    }

    /// None: it pays. Else the refusal of a spent window.
    fn refuses(&self) -> Option<Script> {
        let reset = self.reset.load(Ordering::SeqCst);
        if reset == 0 && self.served.load(Ordering::SeqCst) == self.answers {
            self.reset.store(seconds() + self.spent_for.as_secs(), Ordering::SeqCst);
        }
        let reset = self.reset.load(Ordering::SeqCst);
        if seconds() >= reset {
            self.served.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Some(faults::refusal(
            429,
            "rate_limit_error",
            "This request would exceed your account's rate limit.",
            &[
                ("anthropic-ratelimit-unified-status", "rejected"),
                ("anthropic-ratelimit-unified-5h-status", "rejected"),
                ("anthropic-ratelimit-unified-5h-reset", &reset.to_string()),
                ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
                ("retry-after", &(reset - seconds()).to_string()),
            ],
        ))
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// One provider, three accounts at the same address, and who paid for each answer, in order.
struct Provider {
    strict: Strict,
    accounts: [Account; 3],
    strangers: AtomicUsize,
    paid: Mutex<Vec<&'static str>>,
}

impl Provider {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            strict: Strict::new(Company::Anthropic, "provider", CALL),
            accounts: [
                Account::new("work", Secret::Work.text(), 3, WINDOW),
                Account::new("personal", Secret::Personal.text(), 2, Duration::from_secs(3600)),
                Account::new("console", Secret::Spare.text(), usize::MAX, Duration::ZERO),
            ],
            strangers: AtomicUsize::new(0),
            paid: Mutex::default(),
        })
    }

    fn play(&self, request: &Received) -> Script {
        if request.method != "POST" || request.path() != "/v1/messages" {
            return Script::not_found();
        }
        let head = String::from_utf8_lossy(&request.raw_head);
        let Some(account) = self.accounts.iter().find(|account| head.contains(account.secret)) else {
            self.strangers.fetch_add(1, Ordering::SeqCst);
            return Script::error(401, "authentication_error", "invalid bearer token");
        };
        if let Some(refusal) = account.refuses() {
            return refusal;
        }
        self.paid.lock().unwrap_or_else(PoisonError::into_inner).push(account.name);
        self.strict.play(request)
    }

    fn paid(&self) -> Vec<&'static str> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refused(&self) -> [usize; 3] {
        std::array::from_fn(|index| self.accounts[index].refused.load(Ordering::SeqCst))
    }
}

/// Every file below a folder with its bytes and the time of its last change.
type Contents = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

fn contents(folder: &Path) -> Result<Contents> {
    let mut files = Contents::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(contents(&path)?);
        } else {
            files.insert(path.clone(), (fs::read(&path)?, fs::metadata(&path)?.modified()?));
        }
    }
    Ok(files)
}

/// A folder as Claude Code leaves it after a login.
fn log_in(folder: &Path, token: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let login = json!({ "claudeAiOauth": {
        "accessToken": token, "refreshToken": Secret::Refresh.text(), "expiresAt": (seconds() + 3600) * 1000,
        "scopes": ["user:inference", "user:profile"], "subscriptionType": "max",
    }});
    let file = folder.join(".credentials.json");
    fs::write(&file, login.to_string())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn config(url: &str, world: &World) -> Value {
    let login = |name: &str| json!({ "base_url": url, "auth": { "claude_config_dir": world.path(name) } });
    json!({
        "failover_policy": {
            "primary_profile": "work", "secondary_profile": ["personal", "console"],
            "failback": { "min_stay": "1s", "at": "turn" },
        },
        "profiles": {
            "work": login("logins/work"),
            "personal": login("logins/personal"),
            "console": { "base_url": url, "auth": { "env": "SPARE_KEY" } },
        },
    })
}

pub(super) async fn run(tools: &Tools) -> Result<()> {
    let provider = Provider::new();
    let playing = provider.clone();
    let upstream = Upstream::start_reading(move |request| playing.play(request)).await?;
    let world = World::new(tools, &upstream.url(), &upstream.url(), Login::None).await?;
    for account in &provider.accounts[..2] {
        log_in(&world.path(&format!("logins/{}", account.name)), account.secret)?;
    }
    fs::write(&world.config, serde_json::to_string_pretty(&config(&upstream.url(), &world))?)?;
    let before = contents(&world.path("logins"))?;

    let mut client = Client::start(tools, &world)?;
    let talked = talk(&mut client, &provider).await;
    let faults = provider.strict.faults();
    ensure!(faults.is_empty(), "the provider minded: {faults:#?}");
    let turns = talked?;
    client.leave().await?;
    canary::look_around(tools, &world)?;

    ensure!(contents(&world.path("logins"))? == before, "a login's folder was changed");
    ensure!(provider.strangers.load(Ordering::SeqCst) == 0, "a credential that is nobody's reached the provider");
    ensure!(provider.refused() == [1, 1, 0], "spent windows were asked again: {:?} refusals", provider.refused());
    let last = upstream.messages().pop().context("no request came")?;
    let kept = history(&last);
    let lost: Vec<usize> = (0..turns).filter(|number| !kept.contains(&words(*number))).collect();
    ensure!(lost.is_empty(), "turns {lost:?} are not in the history that the first login got back");
    let calls = fs::read_to_string(world.path("project/calls.txt")).unwrap_or_default().lines().count();
    ensure!(calls == turns, "{calls} of {turns} tool calls ran");
    Ok(())
}

fn words(number: usize) -> String {
    format!("Turn {number}: go on.")
}

/// Takes turns until the first login pays again for a whole one. How many it took.
async fn talk(client: &mut Client, provider: &Provider) -> Result<usize> {
    let expected = ["work", "work", "work", "personal", "personal", "console"];
    for number in 0..3 {
        client.turn(&words(number)).await.with_context(|| format!("turn {number}"))?;
    }
    ensure!(provider.paid() == expected, "paid by {:?}, not by {expected:?}", provider.paid());
    let begun = Instant::now();
    let mut number = 3;
    loop {
        client.turn(&words(number)).await.with_context(|| format!("turn {number}"))?;
        let paid = provider.paid();
        if paid.ends_with(&["work", "work"]) {
            ensure!(paid[expected.len()..paid.len() - 2].iter().all(|name| *name == "console"), "paid by {paid:?}");
            return Ok(number + 1);
        }
        ensure!(begun.elapsed() < PATIENCE, "the first login did not come back: paid by {paid:?}");
        tokio::time::sleep(PAUSE).await;
        number += 1;
    }
}
