//! ccflare (snipeship/ccflare) and better-ccflare (tombii/better-ccflare): the table of accounts.

use std::path::Path;

use serde_json::Value;

use super::model::{ANTHROPIC, API_KEY, Entry, Foreign, OPENROUTER, Provider, State, key};
use super::tables::{Row, is_set, text};

/// Words for every model of a family.
const FAMILIES: [&str; 4] = ["fable", "opus", "sonnet", "haiku"];

/// The accounts by priority: the lowest number is the first one there.
pub(super) fn of_rows(file: &Path, mut rows: Vec<Row>) -> Vec<Entry> {
    rows.sort_by_key(|row| text(row, "priority").parse::<i64>().unwrap_or(0));
    let entry = |row: &Row| Entry { name: text(row, "name").to_owned(), from: file.to_owned(), content: content(row) };
    rows.iter().map(entry).collect()
}

/// An account as better-ccflare uses it (`packages/types/src/provider-config.ts`, `packages/providers/src/providers/`).
fn content(row: &Row) -> Result<Provider, String> {
    let provider = match text(row, "provider") {
        "" => "anthropic",
        provider => provider,
    };
    let custom = Custom::of(text(row, "custom_endpoint"));
    // What is not said is the provider's own; MiniMax is always there.
    let (usual, header) = match provider {
        "anthropic" | "claude-console-api" | "anthropic-compatible" => (ANTHROPIC, Some(API_KEY)),
        "zai" => ("https://api.z.ai/api/anthropic", Some(API_KEY)),
        "minimax" => ("https://api.minimax.io/anthropic", Some(API_KEY)),
        "deepseek" => ("https://api.deepseek.com/anthropic", Some(API_KEY)),
        "alibaba-coding-plan" => ("https://coding-intl.dashscope.aliyuncs.com/apps/anthropic", Some(API_KEY)),
        "nanogpt" => ("https://nano-gpt.com/api", Some(API_KEY)),
        "openrouter" => (OPENROUTER, None),
        "muse-spark" => ("https://api.meta.ai", None),
        "ollama" => ("http://localhost:11434", None),
        "ollama-cloud" => ("https://ollama.com", None),
        "bedrock" => return Err(Foreign::Bedrock.into()),
        "vertex-ai" => return Err(Foreign::Vertex.into()),
        "codex" => return Err(Foreign::OpenAiResponses.into()),
        "openai-compatible" | "kilo" | "qwen" | "xai" => return Err(Foreign::OpenAiChat.into()),
        _ => return Err("is of a kind that is not known here".to_owned()),
    };
    let address = match custom.endpoint.as_deref() {
        Some(endpoint) if !matches!(provider, "minimax" | "deepseek" | "ollama-cloud" | "openrouter") => endpoint,
        _ => usual,
    };
    let credential = match (text(row, "api_key"), text(row, "refresh_token")) {
        // Older versions keep a key where a login's token is.
        ("", token) if !matches!(provider, "anthropic" | "claude-console-api") => token,
        (key, _) => key,
    };
    if credential.is_empty() {
        return Err(match provider {
            "anthropic" => "is a login that its tool keeps and renews: two who renew one login end it",
            "ollama" => "is a server without a key: `hotspare profile add ollama --preset ollama --model 'claude-*=…'`",
            _ => "has no key",
        }
        .to_owned());
    }
    let state = if is_set(row, "paused") { State::Resting("it is paused there".to_owned()) } else { State::Enabled };
    let key = key(credential)?;
    let models = models(serde_json::from_str(text(row, "model_mappings")).unwrap_or_default());
    let models = if models.is_empty() { custom.models } else { models };
    Ok(Provider::new(address, key).with_header(header).with_state(state).with_models(models))
}

/// `custom_endpoint`: an address, or an object with one and a model map.
struct Custom {
    endpoint: Option<String>,
    models: Vec<(String, String)>,
}

impl Custom {
    fn of(text: &str) -> Self {
        if !text.starts_with('{') {
            return Self { endpoint: (!text.is_empty()).then(|| text.to_owned()), models: Vec::new() };
        }
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let endpoint = value["endpoint"].as_str().map(|endpoint| endpoint.trim().to_owned()).filter(|endpoint| !endpoint.is_empty());
        Self { endpoint, models: models(value["modelMappings"].clone()) }
    }
}

/// A model map: whole names, and words such as `opus` for every model with the word in its name. Of several models the first is tried.
fn models(value: Value) -> Vec<(String, String)> {
    let Value::Object(map) = value else { return Vec::new() };
    let entry = |(from, to): (String, Value)| {
        let to = to.as_str().or_else(|| to[0].as_str())?.to_owned();
        let from =
            if FAMILIES.contains(&from.to_ascii_lowercase().as_str()) { format!("claude-{}-*", from.to_ascii_lowercase()) } else { from };
        Some((from, to))
    };
    map.into_iter().filter_map(entry).collect()
}
