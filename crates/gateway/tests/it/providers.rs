//! Conversations that go from company to company and back. The providers mind what the real ones mind; the client sends back what it got,
//! as Claude Code does.

use hotspare_testkit::strict::{Company, Strict};
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};

use crate::client::{Answer, Ask, INTERACTIVE, PROGRAM};
use crate::proxy::{CLIENT_KEY, Proxy, SPARE_KEY, options, parse, plays, streamed};

const BETAS: &str = "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,per-turn-control-2026-07-01,\
    mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,effort-2025-11-24,\
    thinking-display-updates-2026-08-18,dangerous-tool-use-2026-09-03";

/// A client that keeps its history as it came, like Claude Code.
struct Client {
    agent: &'static str,
    session: Option<String>,
    messages: Vec<Value>,
    /// What it was told, answer by answer.
    heard: Vec<String>,
}

impl Client {
    fn new(session: &str) -> Self {
        Self { agent: INTERACTIVE, session: Some(session.to_owned()), messages: Vec::new(), heard: Vec::new() }
    }

    fn request(&self) -> Ask {
        let body = json!({
            "model": "claude-opus-5-5", "messages": self.messages,
            "system": [
                {"type": "text", "text": format!("x-anthropic-billing-header: cc_version=2.1.330; n={}", self.messages.len())},
                {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
            ],
            "tools": [{"name": "Bash", "input_schema": {"type": "object"}}, {"name": "Later", "input_schema": {"type": "object"}, "defer_loading": true}],
            "metadata": {"user_id": "{\"account_uuid\":\"a\"}"}, "max_tokens": 128_000,
            "thinking": {"type": "adaptive", "display": "updates"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "medium"}, "safeguards": [{"type": "dangerous_tool_use", "classifier_context": {}}], "stream": true,
        });
        let ask = Ask::turn().agent(self.agent).header("anthropic-beta", BETAS).body(body.to_string());
        ask.with("X-Claude-Code-Session-Id", self.session.as_deref())
    }

    /// One turn: the user's words, and answers until no tool is called any more. Who served each answer.
    async fn turn(&mut self, proxy: &Proxy, words: &str) -> Vec<String> {
        self.messages.push(json!({"role": "user", "content": [{"type": "text", "text": words}]}));
        if self.messages.len() == 1 {
            self.messages.push(json!({"role": "system", "content": "Be brief."}));
        }
        let mut served = Vec::new();
        loop {
            let answer = proxy.ask(&self.request()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            served.push(answer.profile().unwrap_or_default().to_owned());
            let blocks = self.take(&answer);
            let calls: Vec<Value> = blocks.iter().filter(|block| block["type"] == "tool_use").cloned().collect();
            self.messages.push(json!({"role": "assistant", "content": blocks}));
            if calls.is_empty() {
                return served;
            }
            let results = calls.iter().map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "ran"}));
            self.messages.push(json!({"role": "user", "content": results.collect::<Vec<_>>()}));
        }
    }

    /// The blocks of a streamed answer.
    fn take(&mut self, answer: &Answer) -> Vec<Value> {
        let mut blocks: Vec<Value> = Vec::new();
        for line in answer.text().lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event: Value = serde_json::from_str(line).expect("an event");
            if event["type"] == "content_block_start" {
                blocks.push(event["content_block"].clone());
            }
            let (Some(block), delta) = (blocks.last_mut(), &event["delta"]) else { continue };
            for (from, into) in [("thinking", "thinking"), ("text", "text"), ("signature", "signature")] {
                if let Some(more) = delta[from].as_str() {
                    block[into] = Value::from(format!("{}{more}", block[into].as_str().unwrap_or_default()));
                }
            }
            if let Some(more) = delta["partial_json"].as_str() {
                let so_far = block["raw"].as_str().unwrap_or_default().to_owned();
                block["raw"] = Value::from(so_far + more);
            }
        }
        for block in &mut blocks {
            if let Some(Value::String(raw)) = block.as_object_mut().and_then(|block| block.remove("raw")) {
                block["input"] = serde_json::from_str(&raw).expect("a tool's input");
            }
        }
        self.heard.extend(blocks.iter().filter_map(|block| block["text"].as_str().map(str::to_owned)));
        blocks
    }
}

/// A gateway that remembers in this folder.
async fn remembering(config: &Value, folder: &std::path::Path) -> (Proxy, hotspare_store::Store) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let store = hotspare_store::Store::open(folder, hotspare_store::Options::default());
    let options = hotspare_gateway::Options { store: Some(store.clone()), ..options() };
    let gateway = hotspare_gateway::Gateway::new(&parse(config), &listener, options).expect("a gateway");
    let addr = gateway.local();
    let task = tokio::spawn(hotspare_gateway::serve(gateway, listener, std::future::pending())).abort_handle();
    (Proxy { addr, task }, store)
}

/// Anthropic, OpenRouter and a GLM-like endpoint behind one proxy.
struct Fleet {
    work: Strict,
    openrouter: Strict,
    glm: Strict,
    upstreams: Vec<Upstream>,
    config: Value,
    proxy: Proxy,
}

impl Fleet {
    async fn start() -> Self {
        let strict = |company, name| Strict::new(company, name, ("Bash", r#"{"command":"true"}"#));
        let (work, openrouter, glm) =
            (strict(Company::Anthropic, "work"), strict(Company::OpenRouter, "openrouter"), strict(Company::Glm, "glm"));
        let mut upstreams = Vec::new();
        for provider in [&work, &openrouter, &glm] {
            let provider = provider.clone();
            upstreams.push(Upstream::start_reading(move |request| provider.play(request)).await.expect("started"));
        }
        let key = json!({ "value": SPARE_KEY });
        let config = json!({
            "failover_policy": { "primary_profile": "work", "secondary_profile": ["openrouter", "glm"] },
            "profiles": {
                "work": { "base_url": upstreams[0].url() },
                "openrouter": { "platform": "openrouter", "base_url": upstreams[1].url(), "auth": key },
                "glm": { "preset": "zai", "base_url": upstreams[2].url(), "auth": key, "models": { "claude-*": "glm-5" } },
            },
        });
        let proxy = Proxy::start(&config).await;
        Self { work, openrouter, glm, upstreams, config, proxy }
    }

    /// From now on only this one is up.
    fn only(&self, name: &str) {
        for (provider, known) in [(&self.work, "work"), (&self.openrouter, "openrouter"), (&self.glm, "glm")] {
            provider.set_down(known != name);
        }
    }

    fn faults(&self) -> Vec<String> {
        [&self.work, &self.openrouter, &self.glm].into_iter().flat_map(Strict::faults).collect()
    }
}

/// `CLIProxyAPI` #1584 #2172, better-ccflare #52, cc-switch #991 #3930, sub2api #2380: signatures refused after a switch.
#[tokio::test]
async fn r46_a_conversation_goes_through_three_companies_and_back_without_a_refusal() {
    let fleet = Fleet::start().await;
    let mut client = Client::new("wandering");
    // No longer: providers that fail more often than they serve are rightly not asked for a while.
    for (number, name) in ["work", "work", "openrouter", "work", "glm", "work"].into_iter().enumerate() {
        fleet.only(name);
        let served = client.turn(&fleet.proxy, &format!("turn {number}")).await;
        assert_eq!(served, [name, name], "turn {number}");
    }
    assert_eq!(fleet.faults(), Vec::<String>::new());
    assert_eq!([fleet.work.answered(), fleet.openrouter.answered(), fleet.glm.answered()], [8, 2, 2]);
    assert_eq!(client.heard.len(), 12);
    let sent = fleet.upstreams[0].messages();
    assert!(sent.iter().all(|request| request.json()["safeguards"].is_array()), "toward Anthropic nothing is taken out but thinking");
}

/// better-ccflare #52: a spare's fake signatures wedged the session at home; also when hotspare was started anew between the two.
#[tokio::test]
async fn r46_the_way_back_is_known_after_a_restart() {
    let fleet = Fleet::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut client = Client::new("over-a-restart");
    let (proxy, store) = remembering(&fleet.config, folder.path()).await;
    fleet.only("glm");
    assert_eq!(client.turn(&proxy, "one").await, ["glm", "glm"]);
    assert!(store.flush(std::time::Duration::from_secs(20)), "{:?}", store.trouble());
    drop((proxy, store));
    fleet.only("work");
    let (proxy, store) = remembering(&fleet.config, folder.path()).await;
    // What cools down is remembered too: this test is about the way back alone.
    proxy.ask(&Ask::new("POST", "/hotspare/reset").body("{}")).await;
    for words in ["two", "three"] {
        assert_eq!(client.turn(&proxy, words).await, ["work", "work"]);
    }
    assert_eq!(fleet.faults(), Vec::<String>::new(), "nothing that is no signature of its own reached Anthropic");
    assert_eq!(fleet.work.answered(), 4);
    // Hashes alone are kept.
    let ledger = std::fs::read(folder.path().join(hotspare_store::FILE)).expect("readable");
    let log = std::fs::read(folder.path().join(format!("{}-wal", hotspare_store::FILE))).unwrap_or_default();
    let signatures = client.messages.iter().flat_map(|message| message["content"].as_array().cloned().unwrap_or_default());
    for signature in signatures.filter_map(|block| block["signature"].as_str().map(str::to_owned)) {
        let kept = |bytes: &[u8]| bytes.windows(signature.len()).any(|part| part == signature.as_bytes());
        assert!(!kept(&ledger) && !kept(&log), "{signature}");
    }
    drop(store);
}

/// op7418/CodePilot#427, litellm #13373, nguyenphutrong/quotio#188: thinking and tools broke at another company.
#[tokio::test]
async fn r49_a_switch_in_the_middle_of_a_tool_loop_holds_too() {
    let fleet = Fleet::start().await;
    let mut client = Client::new("loops");
    client.messages.push(json!({"role": "user", "content": "go"}));
    for name in ["work", "glm", "work", "openrouter", "work"] {
        fleet.only(name);
        let answer = fleet.proxy.ask(&client.request()).await;
        assert_eq!((answer.status, answer.profile()), (200, Some(name)), "{}", answer.text());
        let mut blocks = client.take(&answer);
        if !blocks.iter().any(|block| block["type"] == "tool_use") {
            let id = if name == "glm" { "call:1".to_owned() } else { format!("toolu_{}", client.messages.len()) };
            blocks.push(json!({"type": "tool_use", "id": id, "name": "Bash", "input": {}}));
        }
        let id = blocks.last().expect("a call")["id"].clone();
        client.messages.push(json!({"role": "assistant", "content": blocks}));
        client.messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "ran"}]}));
    }
    assert_eq!(fleet.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn a_resumed_session_under_another_name_is_known_by_its_thinking() {
    let fleet = Fleet::start().await;
    let mut client = Client::new("before");
    fleet.only("glm");
    client.turn(&fleet.proxy, "one").await;
    fleet.only("work");
    for session in [Some("after".to_owned()), None] {
        client.session = session;
        client.agent = PROGRAM;
        for words in ["two", "three"] {
            assert_eq!(client.turn(&fleet.proxy, words).await, ["work", "work"]);
        }
    }
    assert_eq!(fleet.faults(), Vec::<String>::new());
}

/// krouter #11: bodies rewritten although nothing asked for it.
#[tokio::test]
async fn r44_toward_the_only_company_that_answered_bytes_stay() {
    let fleet = Fleet::start().await;
    fleet.only("work");
    let mut client = Client::new("home");
    client.turn(&fleet.proxy, "one").await;
    let ask = client.request();
    fleet.proxy.ask(&ask).await;
    let sent = fleet.upstreams[0].messages();
    assert_eq!(sent.last().expect("asked").body, ask.body);
}

/// A history with a signature that nobody knows any more, as after a restart.
fn stale(client: &mut Client) {
    client.messages.push(json!({"role": "user", "content": "one"}));
    let thought = json!({"type": "thinking", "thinking": "", "signature": "from-another-life"});
    client.messages.push(json!({"role": "assistant", "content": [thought, {"type": "text", "text": "earlier"}]}));
    client.messages.push(json!({"role": "user", "content": "two"}));
}

/// better-ccflare #52, 9router #2227, codex2api #613: a refused signature stopped the conversation for good.
#[tokio::test]
async fn r46_a_program_s_refused_signature_is_repaired_once_and_remembered() {
    let fleet = Fleet::start().await;
    fleet.only("work");
    let mut client = Client::new("program");
    client.agent = PROGRAM;
    stale(&mut client);
    let answer = fleet.proxy.ask(&client.request()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(fleet.faults().len(), 1, "the first try was refused");
    assert_eq!(answer.header("x-hotspare-attempts"), Some("2"));
    fleet.proxy.ask(&client.request()).await;
    assert_eq!(fleet.faults().len(), 1, "the next turn skips the failing try");
}

/// lean-ctx #1638, squeezr #4: Claude Code heals itself on the provider's words, which must come unchanged.
#[tokio::test]
async fn r45_claude_code_mends_its_own_request_at_its_primary() {
    let fleet = Fleet::start().await;
    fleet.only("work");
    let mut client = Client::new("claude");
    stale(&mut client);
    let answer = fleet.proxy.ask(&client.request()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("Invalid `signature` in `thinking` block"), "word for word: {}", answer.text());
    assert_eq!(fleet.upstreams[0].messages().len(), 1);
}

#[tokio::test]
async fn a_repair_that_does_not_help_gives_the_first_refusal_back() {
    let first = r#"{"type":"error","error":{"type":"invalid_request_error","message":"speed: Extra inputs are not permitted"},"request_id":"req_1"}"#;
    let second = r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages: something else"},"request_id":"req_2"}"#;
    let script = |body: &str| Script::new().body(400, &[("Content-Type", "application/json")], body.to_owned());
    let primary = Upstream::sequence(vec![script(first), script(second)]).await.expect("started");
    let spare = plays(Script::not_found()).await;
    let proxy = Proxy::pair(&primary, &spare).await;
    let answer = proxy
        .ask(&Ask::turn().agent(PROGRAM).body(r#"{"model":"m","speed":"fast","messages":[{"role":"user","content":"x"}],"stream":true}"#))
        .await;
    assert_eq!((answer.status, answer.text().as_str()), (400, first));
    let sent = primary.messages();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1].body, r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#);
    assert!(spare.messages().is_empty());
}

#[tokio::test]
async fn what_the_first_profile_cannot_take_goes_to_the_next() {
    let openrouter = plays(Script::not_found()).await;
    let work = plays(streamed(&hotspare_testkit::answers::text("searched"))).await;
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "openrouter", "secondary_profile": "work" },
        "profiles": {
            "openrouter": { "platform": "openrouter", "base_url": openrouter.url(), "auth": { "value": SPARE_KEY } },
            "work": { "base_url": work.url() },
        },
    }))
    .await;
    let search = r#"{"model":"claude-opus-5-5","messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search_20250305","name":"web_search"}],"stream":true}"#;
    let answer = proxy.ask(&Ask::turn().body(search)).await;
    assert_eq!((answer.status, answer.profile()), (200, Some("work")), "{}", answer.text());
    assert!(openrouter.messages().is_empty());
    assert_eq!(work.messages()[0].body, search);
}

#[tokio::test]
async fn errors_in_openrouter_s_envelope_move_on() {
    let error = |code: u16| json!({"error": {"code": code, "message": "x", "metadata": {}}}).to_string();
    let whole = |status: u16, body: String| Script::new().body(status, &[("Content-Type", "application/json")], body);
    let streamed_error = Script::new().sse().chunk(format!("data: {}\n\n", error(502))).end();
    for (what, script) in
        [("402", whole(402, error(402))), ("an error under 200", whole(200, error(402))), ("an error in the stream", streamed_error)]
    {
        let openrouter = plays(script).await;
        let work = plays(streamed(&hotspare_testkit::answers::text("served"))).await;
        let proxy = Proxy::start(&json!({
            "failover_policy": { "primary_profile": "openrouter", "secondary_profile": "work" },
            "profiles": {
                "openrouter": { "platform": "openrouter", "base_url": openrouter.url(), "auth": { "value": SPARE_KEY } },
                "work": { "base_url": work.url() },
            },
        }))
        .await;
        let answer = proxy.ask(&Ask::turn()).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("work")), "{what}: {}", answer.text());
        assert_eq!(openrouter.messages().len(), 1, "{what}");
    }
}

/// SaladDay/cc-switch-cli#284, openclaw #60947, NousResearch/hermes-agent#109698: a hop to who could not take the request.
#[tokio::test]
async fn r48_what_only_one_company_can_serve_stays_there() {
    let primary = plays(Script::error(529, "overloaded_error", "Overloaded")).await;
    let spare = plays(streamed(&hotspare_testkit::answers::text("from the spare"))).await;
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "openrouter" },
        "profiles": {
            "work": { "base_url": primary.url() },
            "openrouter": { "platform": "openrouter", "base_url": spare.url(), "auth": { "value": SPARE_KEY } },
        },
    }))
    .await;
    let ask = |body: &str| Ask::turn().body(body.to_owned());
    for bound in [
        r#"{"model":"claude-opus-5-5","messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}],"stream":true}"#,
        r#"{"model":"claude-opus-5-5","messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search_20250305","name":"web_search"}],"stream":true}"#,
        r#"{"model":"claude-opus-99","messages":[{"role":"user","content":"x"}],"stream":true}"#,
    ] {
        let answer = proxy.ask(&ask(bound)).await;
        assert_ne!(answer.status, 200, "{bound}");
    }
    assert!(spare.messages().is_empty(), "it was never asked what it cannot do");
    let answer = proxy.ask(&ask(r#"{"model":"claude-opus-5-5","messages":[{"role":"user","content":"x"}],"stream":true}"#)).await;
    assert_eq!((answer.status, answer.profile()), (200, Some("openrouter")));
    let count =
        Ask::new("POST", "/v1/messages/count_tokens").body(r#"{"model":"claude-opus-5-5","messages":[{"role":"user","content":"x"}]}"#);
    let answer = proxy.ask(&count).await;
    assert_eq!(answer.status, 404, "the client counts by itself: {}", answer.text());
}

/// cc-switch #7547 #3486, litellm #39144, omlx #26: the next provider got the last one's model, address or key.
#[tokio::test]
async fn r47_a_hop_changes_address_credential_and_model_together() {
    let primary = plays(Script::error(529, "overloaded_error", "Overloaded")).await;
    let spare = plays(streamed(&hotspare_testkit::answers::text("from the spare"))).await;
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "glm" },
        "profiles": {
            "work": { "base_url": format!("{}/first", primary.url()) },
            "glm": { "preset": "zai", "base_url": format!("{}/second", spare.url()), "auth": { "value": SPARE_KEY }, "models": { "claude-*": "glm-5" } },
        },
    }))
    .await;
    let fields = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "x" }], "stream": true });
    // The second time the spare is the first to be asked.
    for session in ["one", "two"] {
        let answer = proxy.ask(&Ask::turn().session(session).body(fields("claude-opus-5-5").to_string())).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("glm")), "{}", answer.text());
    }
    for (upstream, path, model, key) in
        [(&primary, "/first/v1/messages", "claude-opus-5-5", CLIENT_KEY), (&spare, "/second/v1/messages", "glm-5", SPARE_KEY)]
    {
        for request in upstream.requests() {
            assert_eq!((request.path(), request.json()["model"].as_str()), (path, Some(model)));
            let head = String::from_utf8_lossy(&request.raw_head).into_owned();
            let keys = [CLIENT_KEY, SPARE_KEY].into_iter().filter(|key| head.contains(key));
            assert_eq!(keys.collect::<Vec<_>>(), [key], "{path}");
        }
    }
    assert_eq!((primary.requests().len(), spare.requests().len()), (1, 2));
}

/// Claude Code 2.1.265, 2.1.275, 2.1.304: a beta that a new release sends is refused by a provider that does not know it yet.
#[tokio::test]
async fn r50_a_beta_that_a_spare_refuses_is_left_out_there_once_and_for_all() {
    const NEW: &str = "brand-new-2027-01-01";
    let refuses = |request: &hotspare_testkit::Received| match request.header("anthropic-beta") {
        Some(betas) if betas.contains(NEW) => {
            let words = format!("Unexpected value(s) `{NEW}` for the `anthropic-beta` header. Please consult the documentation.");
            Script::error(400, "invalid_request_error", &words)
        }
        _ => streamed(&hotspare_testkit::answers::text("from the spare")),
    };
    let primary = plays(Script::error(529, "overloaded_error", "Overloaded")).await;
    let spare = Upstream::start(refuses).await.expect("started");
    let proxy = Proxy::pair(&primary, &spare).await;
    let ask = |words: &str| {
        let body = json!({ "model": "claude-opus-5-5", "messages": [{ "role": "user", "content": words }], "stream": true });
        Ask::turn().header("anthropic-beta", &format!("effort-2025-11-24,{NEW}")).body(body.to_string())
    };
    for (words, asked) in [("one", 2), ("one", 3)] {
        let answer = proxy.ask(&ask(words)).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("spare")), "{}", answer.text());
        assert_eq!(spare.messages().len(), asked);
        assert_eq!(spare.messages().last().and_then(|request| request.header("anthropic-beta")), Some("effort-2025-11-24"));
    }
    assert!(primary.messages().iter().all(|request| request.header("anthropic-beta").is_some_and(|betas| betas.contains(NEW))));
    // The primary's refusal is the client's own business: it mends its request itself.
    let proxy = Proxy::lone(&spare).await;
    let refused = proxy.ask(&ask("three")).await;
    assert!(refused.status == 400 && refused.text().contains(NEW), "{}", refused.text());
}

/// Claude Code 2.1.332: after one turn on a spare that mints `functions.Bash:0`, `claude -c` without hotspare ended in a 400 for good.
#[tokio::test]
async fn field_13_transcript_of_a_spare_is_valid_at_home() {
    let fleet = Fleet::start().await;
    let mut client = Client::new("uninstalled");
    for (name, words) in [("glm", "one"), ("openrouter", "two"), ("glm", "three")] {
        fleet.only(name);
        assert_eq!(client.turn(&fleet.proxy, words).await, [name, name]);
    }
    assert_eq!(fleet.faults(), Vec::<String>::new(), "each company got its own ids and its own thinking back");
    client.messages.push(json!({"role": "user", "content": "four"}));
    fleet.only("work");
    let direct = Proxy { addr: fleet.upstreams[0].addr(), task: tokio::spawn(async {}).abort_handle() };
    let answer = direct.ask(&client.request()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(fleet.faults(), Vec::<String>::new());
    let text = Value::from(client.messages.clone()).to_string();
    assert!(!text.contains("functions.") && !text.contains("thinking"), "{text}");
    let back = fleet.upstreams[2].messages();
    assert!(back.last().is_some_and(|request| request.json().to_string().contains("functions.Bash:")), "the id that it minted");
    assert!(back.last().is_some_and(|request| request.json().to_string().contains("A thought.")), "the thinking that it minted");
}

/// A fork has another session id and the same history; so has an agent. What is invalid is in the body, and only there.
#[tokio::test]
async fn bad_history_is_mended_at_home_in_every_turn_of_a_fork() {
    let fleet = Fleet::start().await;
    fleet.only("work");
    let mut client = Client::new("fork");
    let call = json!({"type": "tool_use", "id": "call|abc.1", "name": "Bash", "input": {}});
    let empty = json!({"type": "text", "text": ""});
    client.messages = vec![
        json!({"role": "user", "content": "hi"}),
        json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, empty, call]}),
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call|abc.1", "content": "a"}, empty]}),
        json!({"role": "assistant", "content": []}),
    ];
    for (session, words) in [("fork", "one"), ("fork", "two"), ("again", "three")] {
        client.session = Some(session.to_owned());
        assert_eq!(client.turn(&fleet.proxy, words).await, ["work", "work"]);
    }
    assert_eq!(fleet.faults(), Vec::<String>::new());
    let ids = |request: &hotspare_testkit::Received| request.json()["messages"][1]["content"][0]["id"].clone();
    let sent = fleet.upstreams[0].messages();
    assert!(sent.iter().all(|request| ids(request) == ids(&sent[0])), "the same id on every turn");
}

/// `router-for-me/CLIProxyAPI#599`: Claude Code asks for more tokens than the spare's model gives.
#[tokio::test]
async fn named_limit_of_tokens_is_kept_by_a_spare() {
    let judge = |request: &hotspare_testkit::Received| match request.json()["max_tokens"].as_u64() {
        Some(..=8192) => streamed(&hotspare_testkit::answers::text("short")),
        _ => Script::error(400, "invalid_request_error", "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
    };
    let primary = plays(Script::error(529, "overloaded_error", "Overloaded")).await;
    let spare = Upstream::start_reading(judge).await.expect("started");
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "spare" },
        "profiles": {
            "work": { "base_url": primary.url() },
            "spare": { "platform": "anthropic_compatible", "base_url": spare.url(), "auth": { "value": SPARE_KEY }, "models": { "claude-*": "m" } },
        },
    }))
    .await;
    for (words, asked) in [("one", 2), ("two", 3)] {
        let body =
            json!({"model": "claude-opus-5-5", "max_tokens": 64_000, "messages": [{"role": "user", "content": words}], "stream": true});
        let answer = proxy.ask(&Ask::turn().session("limits").body(body.to_string())).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("spare")), "{}", answer.text());
        assert_eq!(spare.messages().len(), asked, "the next turn skips the failing try");
    }
}

/// A foreign spare behind a primary that is overloaded.
async fn behind_overload(spare: &Upstream) -> (Proxy, Upstream) {
    let primary = plays(Script::error(529, "overloaded_error", "Overloaded")).await;
    let proxy = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "spare" },
        "profiles": {
            "work": { "base_url": primary.url() },
            "spare": { "platform": "anthropic_compatible", "base_url": spare.url(), "auth": { "value": SPARE_KEY }, "models": { "claude-*": "m" } },
        },
    }))
    .await;
    (proxy, primary)
}

/// No profile is asked for compression; a server that compresses all the same must not put its own ids into the transcript.
#[tokio::test]
async fn packed_stream_of_a_spare_is_made_valid() {
    use std::io::Write as _;
    let events = [
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"functions.Bash:0","name":"Bash","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for event in events {
        let name = serde_json::from_str::<Value>(event).expect("JSON")["type"].as_str().expect("a type").to_owned();
        write!(packer, "event: {name}\ndata: {event}\n\n").expect("in memory");
    }
    let packed = packer.finish().expect("in memory");
    let fields = [("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")];
    let spare = plays(Script::new().body(200, &fields, packed)).await;
    let (proxy, _primary) = behind_overload(&spare).await;
    let answer = proxy.ask(&Ask::turn()).await;
    assert_eq!((answer.status, answer.profile(), answer.header("content-encoding")), (200, Some("spare"), None));
    let text = answer.text();
    assert!(text.contains("toolu_hs_") && text.contains("message_stop") && !text.contains("functions."), "{text}");
}
