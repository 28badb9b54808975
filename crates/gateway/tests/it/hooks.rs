//! The user's hooks as they are called: real programs and real addresses, that veto, redirect, hang, flood and crash, and what they are told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hotspare_core::record::{HookWord, RulingEntry};
use hotspare_core::{ExchangeRecord, HookEvent};
use hotspare_gateway::{Event, Gateway, Observer, Options};
use hotspare_testkit::answers::{Position, text, upto};
use hotspare_testkit::{Script, Upstream};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Ask, Connection, PROGRAM};
use crate::proxy::{CLIENT_KEY, FROM_SPARE, Proxy, SPARE_KEY, TOKEN, healthy, options, plays, streamed};

/// Longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the record of every exchange.
#[derive(Default)]
struct Records(Mutex<Vec<Arc<ExchangeRecord>>>);

impl Observer for Records {
    fn on_event(&self, event: &Event) {
        if let Event::Over(record) = event {
            self.0.lock().expect("not poisoned").push(record.clone());
        }
    }
}

/// A primary that fails, two spares that are well, and a folder for hooks.
struct House {
    primary: Upstream,
    spare: Upstream,
    third: Upstream,
    folder: TempDir,
    records: Arc<Records>,
}

fn overloaded() -> Script {
    Script::error(529, "overloaded_error", "busy")
}

impl House {
    async fn new(primary: Script) -> Self {
        let third = healthy("An answer from the third.").await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { primary: plays(primary).await, spare: healthy(FROM_SPARE).await, third, folder, records: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a file has at least so many lines.
    async fn lines(&self, name: &str, count: usize) -> Vec<String> {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let text = self.read(name);
                if text.ends_with('\n') && text.lines().count() >= count {
                    return text.lines().map(str::to_owned).collect();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{name} has not {count} lines: {:?}", self.read(name)))
    }

    /// A hook that runs this script in the house's folder.
    fn script(&self, script: &str) -> Value {
        let file = self.path(&format!("{:x}.sh", script.len() * 31 + script.bytes().map(usize::from).sum::<usize>()));
        std::fs::write(&file, format!("cd '{}'\n{script}\n", self.folder.path().display())).expect("written");
        json!({ "type": "command", "command": ["sh", file], "timeout": "10s" })
    }

    fn config(&self, hooks: &Value) -> Value {
        json!({
            "failover_policy": { "primary_profile": "primary", "secondary_profile": ["spare", "third"] },
            "profiles": {
                "primary": { "base_url": self.primary.url() },
                "spare": { "base_url": self.spare.url(), "auth": { "value": SPARE_KEY } },
                "third": { "base_url": self.third.url(), "auth": { "value": "sk-ant-test-third" } },
            },
            "hooks": hooks,
        })
    }

    fn options(&self) -> Options {
        Options { observer: Some(self.records.clone()), ..options() }
    }

    async fn serve(&self, hooks: &Value) -> (Proxy, Arc<Gateway>) {
        Proxy::start_with(&self.config(hooks), self.options()).await
    }

    /// Serves with one hook for one event.
    async fn with(&self, event: &str, hook: Value) -> Proxy {
        self.serve(&json!({ event: [{ "hooks": [hook] }] })).await.0
    }

    fn record(&self) -> Arc<ExchangeRecord> {
        self.records.0.lock().expect("not poisoned").last().expect("an exchange is over").clone()
    }

    fn ruling(&self) -> RulingEntry {
        self.record().rulings.last().expect("a hook was asked").clone()
    }

    /// How often each was asked for a message.
    fn asked(&self) -> [usize; 3] {
        [self.primary.messages().len(), self.spare.messages().len(), self.third.messages().len()]
    }
}

fn is_alive(pid: &str) -> bool {
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a process");
    // A zombie that nobody has waited for yet is no running program.
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_ok() && !state.contains(") Z ")
}

async fn until_dead(pid: &str) {
    let dead = async {
        while is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dead).await.unwrap_or_else(|_| panic!("{pid} lives on"));
}

// Decisions.

/// claude-code #46959 #48665, musistudio/claude-code-router#1179: nobody could have a say in a failover.
#[tokio::test]
async fn r66_a_veto_keeps_the_spare_from_being_asked_and_stands_in_the_record() {
    let house = House::new(overloaded()).await;
    let proxy = house.with("PreFailover", house.script("cat > input; echo 'not at night' >&2; exit 2")).await;
    let answer = proxy.ask(&Ask::turn()).await;
    assert_eq!((answer.status, house.asked()), (529, [1, 0, 0]));
    let wait: u64 = answer.header("retry-after").expect("the client waits").parse().expect("seconds");
    assert!((1..=59).contains(&wait));
    let record = house.record();
    let told: Vec<_> = record.rulings.iter().map(|ruling| (&*ruling.from, &*ruling.to, ruling.word, ruling.reason.as_deref())).collect();
    let expected =
        [("primary", "spare", HookWord::Block, Some("not at night")), ("primary", "third", HookWord::Block, Some("not at night"))];
    assert_eq!(told, expected);
    assert!(record.skipped.iter().all(|skipped| skipped.reason.contains("a hook ruled it out")) && record.skipped.len() == 2);
    assert_eq!((&*record.rulings[0].hook, record.rulings[0].event), ("sh", HookEvent::PreFailover));
}

#[tokio::test]
async fn what_a_hook_is_told() {
    let house = House::new(overloaded()).await;
    let proxy = house.with("PreFailover", house.script("cat >> input")).await;
    let answer = proxy.ask(&Ask::turn()).await;
    assert_eq!(answer.profile(), Some("spare"));
    let input: Value = serde_json::from_str(&house.read("input")).expect("one line of JSON");
    let expected = json!({
        "hook_event_name": "PreFailover", "session_id": "session-1", "request_id": answer.header("x-hotspare-request-id"),
        "error": "overloaded", "class": "overloaded", "status": 529, "from": "primary", "to": "spare", "candidates": ["spare", "third"],
        "model": "claude-opus-5-5", "attempt": 2, "est_cost_usd": input["est_cost_usd"], "detail": null, "config": "test.json",
    });
    assert_eq!(input, expected);
    // 4000 tokens of an answer and few of a request, at the list price.
    let cost = input["est_cost_usd"].as_f64().expect("a price is known");
    assert!((0.08..0.09).contains(&cost), "{cost}");
    assert_eq!((house.ruling().word, house.ruling().reason), (HookWord::Allow, None));
}

/// musistudio/claude-code-router#1179.
#[tokio::test]
async fn r66_a_hook_sends_a_request_to_another_candidate_and_to_nobody_else() {
    for (named, serves, word) in [
        ("third", "third", HookWord::Use),
        ("spare", "spare", HookWord::Use),
        ("primary", "spare", HookWord::Nothing),
        ("evil", "spare", HookWord::Nothing),
    ] {
        let house = House::new(overloaded()).await;
        let script = house.script(&format!(r#"echo '{{"decision":"use","profile":"{named}","reason":"cheaper"}}'"#));
        let proxy = house.with("PreFailover", script).await;
        assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some(serves), "{named}");
        let ruling = house.ruling();
        assert_eq!((ruling.word, ruling.profile.as_deref()), (word, (word == HookWord::Use).then_some(named)));
        assert!(word == HookWord::Use || ruling.reason.is_some_and(|reason| reason.contains("is no candidate")));
    }
}

#[tokio::test]
async fn any_veto_counts_before_the_first_other_profile_that_is_named() {
    let house = House::new(overloaded()).await;
    let say = |text: &str| house.script(&format!("echo '{text}'"));
    let name_third = say(r#"{"decision":"use","profile":"third"}"#);
    let block = house.script("grep -q '\"to\":\"spare\"' && exit 2; exit 0");
    let hooks = json!({ "PreFailover": [{ "matcher": "overloaded", "hooks": [name_third, say(r#"{"decision":"allow"}"#)] },
        { "matcher": "rate_limit|server_error", "hooks": [house.script("exit 2")] }, { "hooks": [block] }] });
    let (proxy, _) = house.serve(&hooks).await;
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("third"));
    let words: Vec<HookWord> = house.record().rulings.iter().map(|ruling| ruling.word).collect();
    let (allow, block, another) = (HookWord::Allow, HookWord::Block, HookWord::Use);
    assert_eq!(words, [another, allow, block, another, allow, allow], "the matcher of the one that would block does not fit");
}

#[tokio::test]
async fn a_retry_is_asked_for_and_may_be_ruled_out() {
    let house = House::new(overloaded()).await;
    let hooks = json!({ "PreRetry": [{ "hooks": [house.script("cat >> retries; exit 2")] }] });
    let (proxy, _) = Proxy::last_candidate(&house.primary, &hooks, house.options()).await;
    assert_eq!(proxy.ask(&Ask::turn()).await.status, 529);
    assert_eq!(house.asked(), [1, 0, 0]);
    let input: Value = serde_json::from_str(&house.read("retries")).expect("one line");
    assert_eq!((&input["hook_event_name"], &input["from"], &input["to"]), (&json!("PreRetry"), &json!("primary"), &json!("primary")));
    let (proxy, _) = Proxy::last_candidate(&house.primary, &json!({}), house.options()).await;
    proxy.ask(&Ask::turn()).await;
    assert_eq!(house.asked(), [3, 0, 0], "without a hook it is tried once more");
}

#[tokio::test]
async fn a_request_that_begins_at_a_spare_is_asked_for_until_its_session_is_there() {
    let house = House::new(Script::error(401, "authentication_error", "no")).await;
    let proxy = house.with("PreFailover", house.script("cat >> input")).await;
    for _ in 0..3 {
        assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
    }
    assert_eq!(house.lines("input", 1).await.len(), 1, "the session is there");
    assert_eq!(proxy.ask(&Ask::turn().session("another")).await.profile(), Some("spare"));
    let inputs = house.lines("input", 2).await;
    let input: Value = serde_json::from_str(&inputs[1]).expect("JSON");
    assert_eq!(
        (&input["from"], &input["to"], &input["attempt"], &input["class"]),
        (&json!("primary"), &json!("spare"), &json!(1), &json!("unauthorized"))
    );
}

#[tokio::test]
async fn a_broken_answer_is_not_resumed_where_a_hook_rules_it_out() {
    let house = House::new(Script::new().sse().events(upto(&text("Half of it"), Position::InBlock(0))).rst()).await;
    for (script, resumed) in [("exit 0", 1), ("exit 2", 0)] {
        let before = house.asked()[1];
        let proxy = house.with("PreFailover", house.script(script)).await;
        proxy.ask(&Ask::turn().agent(PROGRAM).session(script)).await;
        assert_eq!(house.asked()[1] - before, resumed, "{script}");
        assert_eq!(house.asked()[2], 0);
    }
}

// Hooks that go wrong.

#[tokio::test]
async fn i12_whatever_a_hook_does_wrong_the_request_goes_on() {
    let house = House::new(overloaded()).await;
    let writable = house.path("writable");
    std::fs::write(&writable, "#!/bin/sh\nexit 2\n").expect("written");
    std::fs::set_permissions(&writable, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("set");
    let program = |path: &Path| json!({ "type": "command", "command": [path] });
    for (hook, problem) in [
        (house.script("kill -9 $$"), "was ended by signal 9"),
        (house.script("echo no >&2; exit 1"), "ended with exit code 1: no"),
        (house.script("yes"), "printed more than 64 KiB"),
        (house.script("yes >&2"), "printed more than 64 KiB"),
        (house.script("echo block"), "printed no JSON with a decision"),
        (house.script("exec <&-; exec >&-; exec 2>&-; exit 3"), "ended with exit code 3"),
        (program(&house.path("nothing")), "there is no"),
        (program(house.folder.path()), "is no file"),
        (program(&writable), "others may write"),
        (json!({ "type": "command", "command": ["no-such-program-of-ours"] }), "there is no"),
        (json!({ "type": "http", "url": format!("http://{}", hotspare_testkit::refused_addr().expect("a port")) }), "could not be reached"),
    ] {
        let proxy = house.with("PreFailover", hook).await;
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("spare")), "{problem}");
        let ruling = house.ruling();
        assert_eq!(ruling.word, HookWord::Nothing, "{problem}");
        assert!(ruling.reason.as_deref().is_some_and(|reason| reason.contains(problem)), "{problem}: {ruling:?}");
    }
}

#[tokio::test]
async fn a_hook_that_hangs_delays_a_request_by_its_timeout_and_ends_with_all_that_it_started() {
    let house = House::new(overloaded()).await;
    let mut hook = house.script("sleep 60 & echo $! >> pids; echo $$ >> pids; wait");
    hook["timeout"] = json!("500ms");
    let proxy = house.with("PreFailover", hook).await;
    let began = Instant::now();
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
    let took = began.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert!(house.ruling().reason.is_some_and(|reason| reason.contains("was not over after 0.5 s")));
    for pid in house.lines("pids", 2).await {
        until_dead(&pid).await;
    }
}

#[tokio::test]
async fn what_a_hook_leaves_behind_ends_with_it_and_holds_nobody_up() {
    let house = House::new(overloaded()).await;
    // It keeps the pipe open, and would outlive its parent.
    let proxy = house.with("PreFailover", house.script("sleep 60 & echo $! > left; exit 2")).await;
    let began = Instant::now();
    assert_eq!(proxy.ask(&Ask::turn()).await.status, 529);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    until_dead(&house.lines("left", 1).await[0]).await;
}

/// What leaves its group on purpose is not followed. It must not hold the request: neither with the pipes that it holds open after its
/// hook's end, nor when its hook waits for it.
#[tokio::test]
async fn what_leaves_a_hook_s_group_holds_nobody_up() {
    for (ends, timeout) in [("exit 0", "15s"), ("wait", "500ms")] {
        let house = House::new(overloaded()).await;
        let leaves = "setsid sh -c 'echo $$ > left; exec sleep 60' & until [ -s left ]; do sleep 0.01; done";
        let mut hook = house.script(&format!("{leaves}; {ends}"));
        hook["timeout"] = json!(timeout);
        let proxy = house.with("PreFailover", hook).await;
        let began = Instant::now();
        assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
        assert!(began.elapsed() < Duration::from_secs(5), "{ends}: {:?}", began.elapsed());
        let pid = house.lines("left", 1).await.remove(0);
        assert!(is_alive(&pid), "{ends}: it was ended, so this shows nothing");
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::KILL).expect("it is ours");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_hook_that_its_request_waits_for() {
    let house = House::new(overloaded()).await;
    let proxy = house.with("PreFailover", house.script("echo $$ > pid; sleep 60")).await;
    let mut client = Connection::open(proxy.addr).await;
    client.ask(&Ask::turn()).await;
    let pid = house.lines("pid", 1).await.remove(0);
    assert!(is_alive(&pid));
    client.hang_up();
    until_dead(&pid).await;
    assert_eq!(house.asked(), [1, 0, 0]);
}

#[tokio::test]
async fn a_hundred_failovers_at_once_run_two_hooks_at_a_time() {
    let house = House::new(overloaded()).await;
    let mut hook = house.script("echo + >> log; cat > /dev/null; echo - >> log");
    hook["timeout"] = json!("30s");
    let proxy = Arc::new(house.with("PreFailover", hook).await);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..100 {
        let proxy = proxy.clone();
        // Programs without a session: each begins at the spare anew, or fails over to it.
        clients.spawn(async move {
            let body = json!({ "model": "claude-opus-5-5", "max_tokens": 10, "stream": true, "messages": [{ "role": "user", "content": number.to_string() }] });
            let ask = Ask::turn().agent(PROGRAM).with("X-Claude-Code-Session-Id", None).body(body.to_string());
            proxy.ask(&ask).await.profile().map(str::to_owned)
        });
    }
    let served = clients.join_all().await;
    assert!(served.iter().all(|profile| profile.as_deref() == Some("spare")), "{served:?}");
    let log = house.lines("log", 200).await;
    let mut running = 0;
    for line in &log {
        running += if line == "+" { 1 } else { -1 };
        assert!((0..=2).contains(&running), "{running} at once");
    }
    assert_eq!(log.len(), 200, "each was asked for once");
    let records = house.records.0.lock().expect("not poisoned");
    assert!(records.iter().all(|record| record.rulings.len() == 1 && record.rulings[0].word == HookWord::Allow));
}

// Addresses.

#[tokio::test]
async fn an_address_is_posted_to_and_its_word_counts() {
    let answers = [(200, r#"{"decision":"block","reason":"closed"}"#), (200, r#"{"decision":"use","profile":"third"}"#), (204, "")];
    for ((status, body), expected) in answers.into_iter().zip([(529, None), (200, Some("third")), (200, Some("spare"))]) {
        let house = House::new(overloaded()).await;
        let listener = plays(Script::new().body(status, &[("Content-Type", "application/json")], body)).await;
        let proxy = house.with("PreFailover", json!({ "type": "http", "url": format!("{}/hooks/may-switch", listener.url()) })).await;
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!(answer.status, expected.0);
        assert!(expected.1.is_none_or(|profile| answer.profile() == Some(profile)));
        let asked = &listener.requests()[0];
        assert_eq!((&*asked.method, &*asked.target, asked.header("content-type")), ("POST", "/hooks/may-switch", Some("application/json")));
        assert_eq!(asked.json()["hook_event_name"], "PreFailover");
        for name in ["authorization", "x-api-key", "cookie", "x-hotspare-token"] {
            assert_eq!(asked.header(name), None);
        }
        assert_eq!(house.ruling().hook, listener.url(), "the path may hold a key");
    }
}

#[tokio::test]
async fn t6_an_address_that_redirects_floods_or_hangs_says_nothing() {
    let elsewhere = plays(Script::new().body(200, &[], r#"{"decision":"block"}"#)).await;
    let flood = vec![b' '; 128 * 1024];
    for (script, problem) in [
        (Script::new().body(307, &[("Location", &elsewhere.url())], ""), "answered 307"),
        (Script::new().body(500, &[], r#"{"decision":"block"}"#), "answered 500"),
        (Script::new().body(200, &[], flood), "printed more than 64 KiB"),
        (Script::new().hang(), "was not over after 0.3 s"),
        (Script::new().rst(), "could not be reached"),
    ] {
        let house = House::new(overloaded()).await;
        let listener = plays(script).await;
        let proxy = house.with("PreFailover", json!({ "type": "http", "url": listener.url(), "timeout": "300ms" })).await;
        assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"), "{problem}");
        assert!(house.ruling().reason.is_some_and(|reason| reason.contains(problem)), "{problem}: {:?}", house.ruling());
    }
    assert!(elsewhere.requests().is_empty(), "no redirect is followed");
}

// What must never reach a hook's arguments or environment.

#[tokio::test]
async fn t19_naughty_strings_reach_a_hook_on_its_standard_input_alone() {
    let naughty: Vec<String> = include_str!("../naughty.jsonl").lines().map(|line| serde_json::from_str(line).expect("a string")).collect();
    assert!(naughty.len() >= 80, "{}", naughty.len());
    let house = House::new(overloaded()).await;
    let texts = naughty.clone();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let primary = Upstream::start_reading(move |_| {
        let text = &texts[count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % texts.len()];
        Script::error(529, text, text)
    });
    let primary = primary.await.expect("started");
    let script = "tr '\\0' '\\n' < /proc/$$/cmdline >> argv; echo . >> argv; env >> env; echo . >> env; cat >> input";
    let mut config = house.config(&json!({ "PreFailover": [{ "hooks": [house.script(script)] }] }));
    config["profiles"]["primary"]["base_url"] = primary.url().into();
    let (proxy, _) = Proxy::start_with(&config, house.options()).await;
    for text in &naughty {
        let body =
            json!({ "model": text, "max_tokens": 10, "stream": true, "messages": [{ "role": "user", "content": "sk-ant-test-prompt" }] });
        let visible: String = text.chars().filter(char::is_ascii_graphic).collect();
        let session = if visible.is_empty() { None } else { Some(visible.as_str()) };
        let answer = proxy.ask(&Ask::turn().agent(PROGRAM).with("X-Claude-Code-Session-Id", session).body(body.to_string())).await;
        assert_eq!(answer.profile(), Some("spare"), "{text:?}");
    }
    let blocks = |name: &str| house.read(name).split("\n.\n").map(str::to_owned).filter(|block| !block.is_empty()).collect::<Vec<_>>();
    let (argv, env, input) = (blocks("argv"), blocks("env"), house.read("input"));
    assert_eq!(argv.len(), naughty.len());
    assert!(argv.iter().all(|one| one == &argv[0]) && env.iter().all(|one| one == &env[0]), "no call differs from the others");
    assert!(!house.path("OWNED").exists() && !Path::new("OWNED").exists(), "nothing was run");
    let allowed = ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER", "PWD", "OLDPWD", "SHLVL", "_"];
    for line in env[0].lines() {
        assert!(allowed.contains(&line.split('=').next().unwrap_or_default()), "{line}");
    }
    let inputs: Vec<Value> = input.lines().map(|line| serde_json::from_str(line).expect("JSON, one line each")).collect();
    assert_eq!(inputs.len(), naughty.len());
    for (input, text) in inputs.iter().zip(&naughty) {
        let told = input["model"].as_str().unwrap_or_default();
        assert_eq!(told, hotspare_core::record::words(text), "told as it is, but on one line");
        let candidates: Vec<&str> = input["candidates"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert_eq!((&input["to"], &candidates[..2]), (&json!("spare"), &["spare", "third"][..]));
    }
    for secret in [CLIENT_KEY, SPARE_KEY, "sk-ant-test-third", "sk-ant-test-prompt", TOKEN] {
        assert!(!input.contains(secret) && !env[0].contains(secret) && !argv[0].contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn t19_no_profile_has_a_naughty_name() {
    let house = House::new(overloaded()).await;
    for line in include_str!("../naughty.jsonl").lines() {
        let name: String = serde_json::from_str(line).expect("a string");
        let mut config = house.config(&json!({ "PreFailover": [{ "hooks": [house.script("exit 0")] }] }));
        config["profiles"][&name] = json!({});
        config["failover_policy"]["secondary_profile"] = json!([name]);
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) && name.len() <= 60;
        let loaded = hotspare_config::parse(&config.to_string(), Path::new("test.json"), Path::new("/")).is_ok();
        assert!(!loaded || plain, "{name:?}");
    }
}

#[tokio::test]
async fn a_hook_gets_the_variables_that_it_is_allowed_and_runs_at_home() {
    let house = House::new(overloaded()).await;
    let mut hook = house.script("env > env; echo $OLDPWD > from");
    // The test runner sets this one.
    hook["env"] = json!(["CARGO_MANIFEST_DIR", "NO_SUCH_VARIABLE_OF_OURS"]);
    let proxy = house.with("PreFailover", hook).await;
    proxy.ask(&Ask::turn()).await;
    let env = house.read("env");
    assert!(env.lines().any(|line| line == format!("CARGO_MANIFEST_DIR={}", env!("CARGO_MANIFEST_DIR"))), "{env}");
    assert!(!env.contains("NO_SUCH") && !env.contains("CARGO_PKG_NAME"), "{env}");
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    assert_eq!(house.read("from").trim(), home, "not where hotspare was started");
}

// What is only told.

/// What an address was told, once so much has come.
async fn told(listener: &Upstream, count: usize) -> Vec<Value> {
    tokio::time::timeout(PATIENCE, listener.wait_for(count)).await.expect("it is told");
    listener.requests().iter().map(hotspare_testkit::Received::json).collect()
}

fn tells(listener: &Upstream, events: &[&str]) -> Value {
    let hook = json!([{ "hooks": [{ "type": "http", "url": listener.url() }] }]);
    events.iter().map(|event| ((*event).to_owned(), hook.clone())).collect::<serde_json::Map<_, _>>().into()
}

async fn listens() -> Upstream {
    plays(Script::new().body(200, &[("Content-Type", "application/json")], "")).await
}

#[tokio::test]
async fn a_failover_is_told_when_it_is_made() {
    let house = House::new(overloaded()).await;
    let listener = listens().await;
    let (proxy, _) = house.serve(&tells(&listener, &["AttemptFailure", "PostFailover"])).await;
    let answer = proxy.ask(&Ask::turn()).await;
    let events = told(&listener, 2).await;
    let [failed, moved] = &events[..] else { panic!("two of them: {events:?}") };
    let fields =
        |event: &Value| json!([event["hook_event_name"], event["from"], event["to"], event["error"], event["status"], event["attempt"]]);
    assert_eq!(fields(failed), json!(["AttemptFailure", "primary", null, "overloaded", 529, 1]));
    assert_eq!(fields(moved), json!(["PostFailover", "primary", "spare", "overloaded", 529, 2]));
    assert!(events.iter().all(|event| event["request_id"].as_str() == answer.header("x-hotspare-request-id")));
    assert!(events.iter().all(|event| event["session_id"] == "session-1"));
}

#[tokio::test]
async fn it_is_told_when_nobody_could_answer() {
    let house = House::new(overloaded()).await;
    let listener = listens().await;
    let mut config = house.config(&tells(&listener, &["Exhausted", "PostFailover"]));
    for profile in ["spare", "third"] {
        config["profiles"][profile]["base_url"] = house.primary.url().into();
    }
    let (proxy, _) = Proxy::start_with(&config, house.options()).await;
    assert_eq!(proxy.ask(&Ask::turn()).await.status, 529);
    let events = told(&listener, 1).await;
    assert_eq!(
        (&events[0]["hook_event_name"], &events[0]["error"], &events[0]["to"]),
        (&json!("Exhausted"), &json!("overloaded"), &Value::Null)
    );
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn who_is_out_of_use_and_who_is_back_is_told_once_each() {
    let house = House::new(Script::new()).await;
    let listener = listens().await;
    let primary = Upstream::sequence(vec![Script::error(401, "authentication_error", "no"), streamed(&text("well again"))]);
    let primary = primary.await.expect("started");
    let mut config = house.config(&tells(&listener, &["ProfileDown", "ProfileUp"]));
    config["profiles"]["primary"] = json!({ "base_url": primary.url(), "auth": { "value": "sk-ant-test-primary" } });
    let (proxy, gateway) = Proxy::start_with(&config, house.options()).await;
    for _ in 0..3 {
        assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
    }
    let events = told(&listener, 1).await;
    let fields = |event: &Value| json!([event["hook_event_name"], event["from"], event["error"], event["class"], event["status"]]);
    assert_eq!(fields(&events[0]), json!(["ProfileDown", "primary", "authentication_failed", "unauthorized", 401]));
    gateway.reset(&hotspare_gateway::control::ResetRequest { profile: None }).expect("reset");
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("primary"));
    let events = told(&listener, 2).await;
    assert_eq!(fields(&events[1]), json!(["ProfileUp", "primary", null, null, null]));
    assert_eq!(events.len(), 2);
}

#[tokio::test]
async fn a_session_that_comes_home_is_told_of() {
    let house = House::new(overloaded()).await;
    let listener = listens().await;
    let primary = Upstream::sequence(vec![overloaded(), streamed(&text("well again"))]).await.expect("started");
    let mut config = house.config(&tells(&listener, &["Failback"]));
    config["profiles"]["primary"]["base_url"] = primary.url().into();
    config["failover_policy"]["failback"] = json!({ "min_stay": "1ms", "at": "turn" });
    let (proxy, gateway) = Proxy::start_with(&config, house.options()).await;
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
    gateway.reset(&hotspare_gateway::control::ResetRequest { profile: Some("primary".to_owned()) }).expect("reset");
    // A session stays for a millisecond at least.
    let home = async { while proxy.ask(&Ask::turn()).await.profile() != Some("primary") {} };
    tokio::time::timeout(PATIENCE, home).await.expect("it comes home");
    let events = told(&listener, 1).await;
    assert_eq!(json!([events[0]["hook_event_name"], events[0]["from"], events[0]["to"]]), json!(["Failback", "spare", "primary"]));
}

#[tokio::test]
async fn a_budget_that_is_used_up_is_told_once() {
    let house = House::new(overloaded()).await;
    let listener = listens().await;
    let mut config = house.config(&tells(&listener, &["BudgetReached"]));
    config["profiles"]["spare"]["budget"] = json!({ "per_day_usd": 0.0001 });
    let (proxy, gateway) = Proxy::start_with(&config, house.options()).await;
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
    assert_eq!(proxy.ask(&Ask::turn().session("another")).await.profile(), Some("third"), "its money is spent");
    gateway.finish_hooks().await;
    let events = told(&listener, 1).await;
    assert_eq!(json!([events[0]["hook_event_name"], events[0]["from"]]), json!(["BudgetReached", "spare"]));
    assert!(events[0]["detail"].as_str().is_some_and(|detail| detail.ends_with("a day is spent")), "{events:?}");
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn a_window_that_comes_near_its_end_is_told_of_once() {
    let house = House::new(Script::new()).await;
    let listener = listens().await;
    let used = |share: &str| {
        let headers = format!(
            "anthropic-ratelimit-unified-5h-utilization: {share}\r\nanthropic-ratelimit-unified-5h-status: allowed\r\n\
             anthropic-ratelimit-unified-status: allowed\r\n"
        );
        let body: Vec<u8> = text("fine").iter().flat_map(|event| event.bytes().to_vec()).collect();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Script::new().raw([head.into_bytes(), body].concat())
    };
    let primary = Upstream::sequence(vec![used("0.5"), used("0.91"), used("0.95"), used("0.97")]).await.expect("started");
    let mut config = house.config(&tells(&listener, &["LimitWarning", "AttemptFailure"]));
    config["profiles"]["primary"]["base_url"] = primary.url().into();
    let (proxy, gateway) = Proxy::start_with(&config, house.options()).await;
    for _ in 0..4 {
        assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("primary"));
    }
    gateway.finish_hooks().await;
    let events = told(&listener, 1).await;
    assert_eq!(
        json!([events[0]["hook_event_name"], events[0]["from"], events[0]["detail"]]),
        json!(["LimitWarning", "primary", "5h window 91 % used"])
    );
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn hooks_that_are_only_told_delay_nobody_and_one_runs_at_a_time() {
    let house = House::new(overloaded()).await;
    let mut slow = house.script("echo + >> told; sleep 60");
    slow["timeout"] = json!("30s");
    let (proxy, gateway) = house
        .serve(&json!({ "AttemptFailure": [{ "hooks": [slow] }], "PostFailover": [{ "hooks": [house.script("echo p >> told")] }] }))
        .await;
    let began = Instant::now();
    for number in 0..40 {
        assert_eq!(proxy.ask(&Ask::turn().session(&format!("session {number}"))).await.profile(), Some("spare"));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(house.lines("told", 1).await, ["+"], "one of them runs, the others wait");
    let began = Instant::now();
    gateway.finish_hooks().await;
    assert!(began.elapsed() < Duration::from_secs(10), "the end does not wait for them either: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_matcher_keeps_a_hook_from_other_failures() {
    let house = House::new(overloaded()).await;
    let listener = listens().await;
    let hook = |matcher: &str| json!({ "matcher": matcher, "hooks": [{ "type": "http", "url": listener.url() }] });
    let hooks = json!({ "AttemptFailure": [hook("rate_limit|dns"), hook("overloaded")], "PreFailover": [hook("rate_limit")] });
    let (proxy, gateway) = house.serve(&hooks).await;
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
    gateway.finish_hooks().await;
    assert_eq!(listener.requests().len(), 1);
    assert!(house.record().rulings.is_empty(), "nobody was asked");
}

#[tokio::test]
async fn new_hooks_hold_for_the_requests_that_begin_after_them() {
    let house = House::new(overloaded()).await;
    let (proxy, gateway) = house.serve(&json!({})).await;
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("spare"));
    let config = house.config(&json!({ "PreFailover": [{ "hooks": [house.script("exit 2")] }] }));
    gateway.replace(gateway.compile(&crate::proxy::parse(&config)).expect("compiled"));
    assert_eq!(proxy.ask(&Ask::turn().session("another")).await.profile(), Some("primary"), "the veto holds");
    gateway.replace(gateway.compile(&crate::proxy::parse(&house.config(&json!({})))).expect("compiled"));
    assert_eq!(proxy.ask(&Ask::turn().session("a third")).await.profile(), Some("spare"));
}

#[tokio::test]
async fn a_drill_asks_hooks_and_says_so_and_tells_nobody() {
    let house = House::new(Script::new()).await;
    let listener = listens().await;
    let mut hooks = tells(&listener, &["AttemptFailure", "PostFailover", "ProfileDown", "Exhausted"]);
    hooks["PreFailover"] = json!([{ "hooks": [house.script("cat >> input; exit 2")] }]);
    let (proxy, gateway) = house.serve(&hooks).await;
    let begin = Ask::new("POST", "/hotspare/drill").header("Content-Type", "application/json").body(r#"{"fault":"529"}"#);
    let drill: Value = serde_json::from_slice(&proxy.ask(&begin).await.body).expect("JSON");
    let id = drill["id"].as_str().expect("an id");
    let answer = proxy.ask(&Ask::turn().agent(PROGRAM).header(hotspare_gateway::drill::DRILL_HEADER.as_str(), id)).await;
    assert_eq!(answer.status, 529, "the veto holds: {}", answer.text());
    let input: Value = serde_json::from_str(&house.lines("input", 1).await[0]).expect("JSON");
    assert_eq!(input["detail"], "a drill: the failure is not real");
    gateway.finish_hooks().await;
    assert!(listener.requests().is_empty());
}

#[tokio::test]
async fn a_hook_that_would_post_to_ourselves_is_refused() {
    let house = House::new(overloaded()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/x", listener.local_addr().expect("bound"));
    let config = house.config(&json!({ "ProfileUp": [{ "hooks": [{ "type": "http", "url": url }] }] }));
    let error = Gateway::new(&crate::proxy::parse(&config), &listener, options()).err().expect("refused").to_string();
    assert!(error.contains("ProfileUp") && error.contains("own address"), "{error}");
}
