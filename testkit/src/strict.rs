//! A provider that minds what the real ones mind: signatures that it did not mint or that stand behind another prefix, unknown betas and
//! fields, roles, names and pairs of tool calls, empty messages, and what another company must never see. Never forgives, and keeps every
//! fault that it found.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::answers::{Turn, turn};
use crate::request::Received;
use crate::script::Script;

/// Which company it plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Anthropic: checks signatures and their prefix, knows the betas of Claude Code.
    Anthropic,
    /// OpenRouter with a Claude model: the same checks of what it minted itself, few betas, the public fields.
    OpenRouter,
    /// A GLM-like endpoint: no betas, no messages of the system, signatures of 24 hex digits that nobody else knows.
    Glm,
}

/// The betas that Claude Code 2.1.332 sends, in both of its modes.
const BETAS: [&str; 21] = [
    "claude-code-20250219",
    "interleaved-thinking-2025-05-14",
    "context-management-2025-06-27",
    "per-turn-control-2026-07-01",
    "mid-conversation-tool-changes-2026-07-01",
    "thinking-token-count-2026-05-13",
    "advanced-tool-use-2025-11-20",
    "effort-2025-11-24",
    "thinking-display-updates-2026-08-18",
    "dangerous-tool-use-2026-09-03",
    "afk-mode-2026-01-31",
    "oauth-2025-04-20",
    "extended-cache-ttl-2025-04-11",
    "prompt-caching-scope-2026-01-05",
    "thinking-binding-controls-2026-08-01",
    "mid-conversation-system-clear-at-2026-08-21",
    "cache-diagnosis-2026-04-07",
    "tool-provenance-2026-10-26",
    "structured-outputs-2025-12-15",
    "redact-thinking-2026-02-12",
    "claude-code-side-query-2026-09-29",
];

/// What OpenRouter takes of them.
const FEW_BETAS: [&str; 4] =
    ["context-1m-2025-08-07", "fine-grained-tool-streaming-2025-05-14", "interleaved-thinking-2025-05-14", "structured-outputs-2025-11-13"];

/// The fields of the public format.
const FIELDS: [&str; 13] = [
    "model",
    "messages",
    "system",
    "max_tokens",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
];

/// A refusal: status and words.
type Refusal = (u16, String);

/// One strict provider. Cheap to clone: clones are the same provider.
#[derive(Clone)]
pub struct Strict(Arc<State>);

struct State {
    company: Company,
    /// What its answers begin with, so that a test knows them.
    name: &'static str,
    /// Which tool it calls in the first answer of a turn, and with what.
    tool: (&'static str, &'static str),
    down: AtomicBool,
    minted: Mutex<HashMap<String, u64>>,
    count: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

impl Strict {
    /// A provider that is up. It answers a user's words with thinking, a text and a call of `tool` (its name and input), and the tool's
    /// result with thinking and a text.
    pub fn new(company: Company, name: &'static str, tool: (&'static str, &'static str)) -> Self {
        Self(Arc::new(State {
            company,
            name,
            tool,
            down: AtomicBool::new(false),
            minted: Mutex::default(),
            count: AtomicUsize::new(0),
            faults: Mutex::default(),
        }))
    }

    /// Whether it answers 529 from now on.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// True if it answers 529.
    pub fn is_down(&self) -> bool {
        self.0.down.load(Ordering::SeqCst)
    }

    /// Everything that it has refused, in order.
    pub fn faults(&self) -> Vec<String> {
        lock(&self.0.faults).clone()
    }

    /// How many answers it has given.
    pub fn answered(&self) -> usize {
        self.0.count.load(Ordering::SeqCst)
    }

    /// What it does with a request whose body is here.
    pub fn play(&self, request: &Received) -> Script {
        if request.method != "POST" || request.path() != "/v1/messages" {
            return Script::not_found();
        }
        if self.0.down.load(Ordering::SeqCst) {
            return Script::error(529, "overloaded_error", "Overloaded");
        }
        let body = request.json();
        match self.judge(request, &body) {
            Ok(()) => self.answer(&body),
            Err((status, words)) => {
                lock(&self.0.faults).push(format!("{} {words}", self.0.name));
                Script::error(status, "invalid_request_error", &words)
            }
        }
    }

    /// Says what is wrong with a request, in the words of the real ones.
    ///
    /// # Errors
    ///
    /// When anything is wrong with it.
    pub fn judge(&self, request: &Received, body: &Value) -> Result<(), Refusal> {
        self.betas(request)?;
        self.fields(request, body)?;
        let messages = body["messages"].as_array().ok_or_else(|| bad("messages: Field required"))?;
        if messages.is_empty() {
            return Err(bad("messages: at least one message is required"));
        }
        self.roles(messages)?;
        contents(messages)?;
        tool_pairs(messages, self.0.company != Company::Glm)?;
        self.thinking(body, messages)
    }

    fn betas(&self, request: &Received) -> Result<(), Refusal> {
        let known: &[&str] = match self.0.company {
            Company::Anthropic => &BETAS,
            Company::OpenRouter => &FEW_BETAS,
            Company::Glm => &[],
        };
        let values = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("anthropic-beta"));
        let sent =
            values.flat_map(|(_, value)| String::from_utf8_lossy(value).split(',').map(|beta| beta.trim().to_owned()).collect::<Vec<_>>());
        match sent.filter(|beta| !known.contains(&beta.as_str())).collect::<Vec<_>>() {
            unknown if unknown.is_empty() => Ok(()),
            unknown => Err(bad(&format!("Unexpected value(s) `{}` for the `anthropic-beta` header", unknown.join("`, `")))),
        }
    }

    fn fields(&self, request: &Received, body: &Value) -> Result<(), Refusal> {
        let has_beta = |family: &str| request.header("anthropic-beta").is_some_and(|betas| betas.contains(family));
        let company = self.0.company;
        let known = |field: &str| match field {
            "output_config" => company == Company::OpenRouter || company == Company::Anthropic && has_beta("effort-"),
            "context_management" => company == Company::Anthropic && has_beta("context-management-"),
            "diagnostics" => company == Company::Anthropic && has_beta("cache-diagnosis-"),
            "safeguards" => company == Company::Anthropic && has_beta("dangerous-tool-use-"),
            field => FIELDS.contains(&field),
        };
        for field in body.as_object().into_iter().flatten().map(|(name, _)| name) {
            if !known(field) {
                return Err(bad(&format!("{field}: Extra inputs are not permitted")));
            }
        }
        if body["thinking"]["display"] == "updates" && !(company == Company::Anthropic && has_beta("thinking-display-updates-")) {
            return Err(bad("thinking.adaptive.display: Input should be 'summarized' or 'omitted'"));
        }
        if company == Company::Glm && body["thinking"]["type"] == "adaptive" {
            return Err(bad("thinking: Input tag 'adaptive' found using 'type' does not match any of the expected tags"));
        }
        for (index, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
            if tool.get("defer_loading").is_some() && !(company == Company::Anthropic && has_beta("advanced-tool-use-")) {
                return Err(bad(&format!("tools.{index}.custom.defer_loading: Extra inputs are not permitted")));
            }
        }
        self.model(body)?;
        if company == Company::Anthropic { Ok(()) } else { private(request, body) }
    }

    fn model(&self, body: &Value) -> Result<(), Refusal> {
        let model = body["model"].as_str().unwrap_or_default();
        let start = match self.0.company {
            Company::Anthropic => "claude-",
            Company::OpenRouter => "anthropic/claude-",
            Company::Glm => "glm-",
        };
        if model.starts_with(start) && !model.contains('[') { Ok(()) } else { Err((404, format!("model: {model}"))) }
    }

    fn roles(&self, messages: &[Value]) -> Result<(), Refusal> {
        for (index, message) in messages.iter().enumerate() {
            match message["role"].as_str() {
                Some("user" | "assistant") => {}
                Some("system") if self.0.company == Company::Anthropic && index > 0 => {}
                _ => return Err(bad(&format!("messages.{index}.role: Input should be 'user' or 'assistant'"))),
            }
        }
        if messages[0]["role"] == "user" { Ok(()) } else { Err(bad("messages: first message must use the \"user\" role")) }
    }

    /// Every thought must be its own, and stand where it stood when it was minted.
    fn thinking(&self, body: &Value, messages: &[Value]) -> Result<(), Refusal> {
        let minted = lock(&self.0.minted);
        for (index, message) in messages.iter().enumerate() {
            for (place, block) in blocks(message).enumerate() {
                let at = format!("messages.{index}.content.{place}");
                let known = match block["type"].as_str() {
                    Some("thinking") => {
                        let Some(signature) = block["signature"].as_str().filter(|signature| !signature.is_empty()) else {
                            return Err(bad(&format!("{at}.thinking.signature: Field required")));
                        };
                        minted.get(signature)
                    }
                    Some("redacted_thinking") => minted.get(block["data"].as_str().unwrap_or_default()),
                    _ => continue,
                };
                match known {
                    None => return Err(bad(&format!("{at}: Invalid `signature` in `thinking` block"))),
                    Some(prefix) if self.0.company != Company::Glm && *prefix != prefix_of(body, &messages[..index]) => {
                        return Err(bad(&format!(
                            "{at}: Invalid `signature` in `thinking` block. The block is bound to a different conversation"
                        )));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    fn answer(&self, body: &Value) -> Script {
        let number = self.0.count.fetch_add(1, Ordering::SeqCst);
        let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let signature = match self.0.company {
            Company::Glm => format!("{:024x}", 0x0a11_ce00_u64 + number as u64),
            Company::Anthropic | Company::OpenRouter => format!("Erq{}{number}+/{}==", self.0.name, "Q".repeat(40)),
        };
        lock(&self.0.minted).insert(signature.clone(), prefix_of(body, messages));
        let last_user = messages.iter().rfind(|message| message["role"] == "user");
        let goes_on = last_user.is_some_and(|message| blocks(message).any(|block| block["type"] == "tool_result"));
        let id = match self.0.company {
            // As some models name their calls: Claude refuses it.
            Company::Glm => format!("functions.{}:{number}", self.0.tool.0),
            Company::Anthropic | Company::OpenRouter => format!("toolu_{}_{number}", self.0.name),
        };
        let text = if goes_on { format!("{} done {number}.", self.0.name) } else { format!("{} works {number}.", self.0.name) };
        let events = turn(&Turn {
            id: &format!("msg_{}_{number}", self.0.name),
            model: body["model"].as_str().unwrap_or_default(),
            thinking: Some(("A thought.", Some(&signature))),
            text: &text,
            tool: (!goes_on).then_some((&*id, self.0.tool.0, self.0.tool.1)),
        });
        Script::new().sse().events(&events).end()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bad(words: &str) -> Refusal {
    (400, words.to_owned())
}

fn blocks(message: &Value) -> impl Iterator<Item = &Value> {
    message["content"].as_array().into_iter().flatten()
}

/// What a company that is not Anthropic must not see.
fn private(request: &Received, body: &Value) -> Result<(), Refusal> {
    let text = body.to_string();
    for told in ["x-anthropic-billing-header", "account_uuid", "classifier_context", "\"safeguards\"", "encrypted_content"] {
        if text.contains(told) {
            return Err(bad(&format!("privacy: {told} reached another company")));
        }
    }
    let told = request.headers.iter().find(|(name, _)| name.to_ascii_lowercase().starts_with("x-claude-code-"));
    told.map_or(Ok(()), |(name, _)| Err(bad(&format!("privacy: {name} reached another company"))))
}

fn contents(messages: &[Value]) -> Result<(), Refusal> {
    for (index, message) in messages.iter().enumerate() {
        let content = &message["content"];
        let empty = content.as_str().is_some_and(str::is_empty) || content.as_array().is_some_and(Vec::is_empty) || content.is_null();
        if empty {
            return Err(bad(&format!("messages.{index}: all messages must have non-empty content")));
        }
        for block in blocks(message) {
            if block["type"] == "text" && block["text"].as_str().is_none_or(|text| text.trim().is_empty()) {
                return Err(bad("messages: text content blocks must be non-empty"));
            }
        }
    }
    Ok(())
}

/// Every call has its result in the next message of the user, and at Claude a good name of its own.
fn tool_pairs(messages: &[Value], claude: bool) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    let mut open: HashSet<&str> = HashSet::new();
    for (index, message) in messages.iter().enumerate().filter(|(_, message)| message["role"] != "system") {
        let mut answered = HashSet::new();
        for block in blocks(message) {
            match block["type"].as_str() {
                Some("tool_result") => {
                    let id = block["tool_use_id"].as_str().unwrap_or_default();
                    if !open.contains(id) {
                        return Err(bad(&format!("messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {id}")));
                    }
                    answered.insert(id);
                }
                Some("tool_use") => {
                    let id = block["id"].as_str().unwrap_or_default();
                    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
                    if claude && (id.is_empty() || id.len() > 64 || !id.chars().all(plain)) {
                        return Err(bad(&format!("messages.{index}.content.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")));
                    }
                    if !seen.insert(id) && claude {
                        return Err(bad("messages: `tool_use` ids must be unique"));
                    }
                }
                _ => {}
            }
        }
        if answered.len() != open.len() {
            return Err(bad(&format!("messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after")));
        }
        open = blocks(message).filter(|block| block["type"] == "tool_use").filter_map(|block| block["id"].as_str()).collect();
    }
    Ok(())
}

/// What stands before a place: the system prompt and the messages, without marks for caching and without the block that is for accounts.
fn prefix_of(body: &Value, messages: &[Value]) -> u64 {
    let system = body["system"].as_array().into_iter().flatten();
    let prompt: Vec<Value> = system
        .filter(|block| !block["text"].as_str().is_some_and(|text| text.starts_with("x-anthropic-billing-header")))
        .map(without_cache_marks)
        .collect();
    let before: Vec<Value> = messages.iter().map(without_cache_marks).map(as_blocks).collect();
    let mut hasher = DefaultHasher::new();
    (Value::from(prompt).to_string(), Value::from(before).to_string()).hash(&mut hasher);
    hasher.finish()
}

/// A string and a list with one text are the same content.
fn as_blocks(mut message: Value) -> Value {
    if let Some(text) = message["content"].as_str() {
        message["content"] = serde_json::json!([{"type": "text", "text": text}]);
    }
    message
}

fn without_cache_marks(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(name, _)| *name != "cache_control")
                .map(|(name, value)| (name.clone(), without_cache_marks(value)))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(without_cache_marks).collect(),
        other => other.clone(),
    }
}
