//! cc-switch (farion1231/cc-switch): its database since version 3.8, the dump that it exports, and the JSON file of before.

use std::path::Path;

use serde_json::Value;

use super::model::{Entry, Foreign, Provider, State};
use super::settings;
use super::tables::{Row, is_set, text};

/// Providers of other programs, by the name that cc-switch gives the program.
const OTHERS: [(&str, &str); 9] = [
    ("claude-desktop", "Claude Desktop"),
    ("codex", "Codex"),
    ("gemini", "Gemini CLI"),
    ("grokbuild", "Grok"),
    ("hermes", "Hermes"),
    ("openclaw", "OpenClaw"),
    ("opencode", "OpenCode"),
    ("pi", "Pi"),
    ("omo", "OMO"),
];

/// A provider as both stores have it.
struct Stored<'a> {
    app: &'a str,
    name: &'a str,
    settings: Value,
    meta: Value,
    is_queued: bool,
}

/// The rows of `providers`, in the order that cc-switch shows them.
pub(super) fn of_rows(file: &Path, mut rows: Vec<Row>) -> Vec<Entry> {
    let number = |row: &Row, column: &str| text(row, column).parse::<i64>().unwrap_or(i64::MAX);
    rows.sort_by(|one, other| {
        let place = |row: &Row| (number(row, "sort_index"), number(row, "created_at"));
        place(one).cmp(&place(other))
    });
    let json = |row: &Row, column: &str| serde_json::from_str(text(row, column)).unwrap_or_default();
    let stored = rows.iter().map(|row| Stored {
        app: text(row, "app_type"),
        name: text(row, "name"),
        settings: json(row, "settings_config"),
        meta: json(row, "meta"),
        is_queued: is_set(row, "in_failover_queue"),
    });
    entries(file, stored.collect())
}

/// The JSON file of before: `claude.providers`, and in the first version `providers` alone.
pub(super) fn of_json(file: &Path, value: &Value) -> Vec<Entry> {
    let apps = std::iter::once("claude").chain(OTHERS.iter().map(|(app, _)| *app));
    let mut stored = Vec::new();
    for app in apps {
        let providers = &value[app]["providers"];
        let providers = if app == "claude" && providers.is_null() { &value["providers"] } else { providers };
        let mut providers: Vec<(&String, &Value)> = providers.as_object().into_iter().flatten().collect();
        let number = |provider: &Value, key: &str| provider[key].as_i64().unwrap_or(i64::MAX);
        providers.sort_by_key(|(_, provider)| (number(provider, "sortIndex"), number(provider, "createdAt")));
        stored.extend(providers.into_iter().map(|(id, provider)| Stored {
            app,
            name: provider["name"].as_str().unwrap_or(id),
            settings: provider["settingsConfig"].clone(),
            meta: provider["meta"].clone(),
            is_queued: provider["inFailoverQueue"].as_bool().unwrap_or(false),
        }));
    }
    entries(file, stored)
}

/// Whether a JSON file is one of cc-switch's.
pub(super) fn is_json(value: &Value) -> bool {
    value["claude"]["providers"].is_object() || (value["providers"].is_object() && value["current"].is_string())
}

fn entries(file: &Path, stored: Vec<Stored<'_>>) -> Vec<Entry> {
    let has_queue = stored.iter().any(|provider| provider.app == "claude" && provider.is_queued);
    let entry = |provider: Stored<'_>| Entry {
        name: provider.name.to_owned(),
        from: file.to_owned(),
        content: content(&provider).map(|content| {
            let is_out = has_queue && !provider.is_queued;
            content.with_state(if is_out { State::Resting("it is not in cc-switch's failover queue".to_owned()) } else { State::Enabled })
        }),
    };
    stored.into_iter().map(entry).collect()
}

fn content(provider: &Stored<'_>) -> Result<Provider, String> {
    if provider.app != "claude" {
        let program = OTHERS.iter().find(|(app, _)| *app == provider.app).map_or("another program", |(_, program)| *program);
        return Err(format!("is for {program}, not for Claude Code"));
    }
    if let Some(foreign) = format(provider) {
        return Err(foreign.into());
    }
    match provider.meta["providerType"].as_str() {
        Some("github_copilot") => return Err("is a GitHub Copilot login that cc-switch keeps".to_owned()),
        Some("codex_oauth" | "xai_oauth") => return Err(Foreign::OpenAiResponses.into()),
        _ => {}
    }
    let mut found = settings::of_settings(&provider.settings)?;
    if provider.meta["isFullUrl"].as_bool() == Some(true) {
        let address = found.address.trim_end_matches('/');
        let Some(base) = address.strip_suffix("/v1/messages") else {
            return Err("has a whole endpoint for its address that does not end in `/v1/messages`".to_owned());
        };
        found.address = base.to_owned();
    }
    Ok(found)
}

/// The format of a provider, read as cc-switch reads it (`get_claude_api_format` in `src-tauri/src/proxy/providers/claude.rs`).
fn format(provider: &Stored<'_>) -> Option<Foreign> {
    let word = |value: &Value| match value.as_str()? {
        "openai_chat" => Some(Foreign::OpenAiChat),
        "openai_responses" => Some(Foreign::OpenAiResponses),
        "gemini_native" => Some(Foreign::Gemini),
        _ => None,
    };
    if provider.meta["apiFormat"].is_string() {
        return word(&provider.meta["apiFormat"]);
    }
    if provider.settings["api_format"].is_string() {
        return word(&provider.settings["api_format"]);
    }
    let compat = match &provider.settings["openrouter_compat_mode"] {
        Value::Bool(is_on) => *is_on,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => matches!(text.trim().to_lowercase().as_str(), "true" | "1"),
        _ => false,
    };
    compat.then_some(Foreign::OpenAiChat)
}
