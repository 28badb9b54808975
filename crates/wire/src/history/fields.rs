//! Decides which fields beside the messages another company gets: those of the public format, and none that tells who the client is. Never
//! sends it a field that it does not know.

use hotspare_core::{Platform, Preset};

use crate::betas;
use crate::splice::{self, Fate};

use super::draft::Draft;
use super::view::{self, Object};
use super::{Target, Unfit, content, paths, thinking};

/// How the block begins in which Claude Code accounts for itself. Anthropic's API takes it out by its place; for others it is prompt.
const BILLING: &str = "x-anthropic-billing-header";

/// What every endpoint in Anthropic's format knows.
const COMMON: [&str; 12] = [
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
    "thinking",
];

/// What OpenRouter knows beside it.
const OPENROUTER: [&str; 5] = ["models", "provider", "plugins", "session_id", "route"];

/// Puts the target's model in the client's place, without the client's own suffix.
pub(super) fn model(draft: &mut Draft<'_, '_>, target: &Target<'_>) {
    let view = draft.view;
    let Some(member) = view.top("model") else { return };
    let Some(asked) = splice::string(member.value) else { return };
    let wanted = target.model.or_else(|| hotspare_core::models::without_long_context(&asked));
    if let Some(model) = wanted.filter(|model| **model != *asked) {
        draft.splices.replace(view.span(member.value), serde_json::Value::from(model).to_string());
    }
}

/// Most tokens of one answer, by how a model's name begins; only where the limit was seen in a refusal or is published for the model now. A
/// model that is not here keeps the client's number, and a refusal that names a limit is repaired.
const MAX_OUTPUT: [(&str, u64); 3] = [
    // Refusal: `the valid range of max_tokens is [1, 393216]` (`MoonshotAI/kimi-code#509`, 2026-06).
    ("deepseek-v4", 393_216),
    // Model page of Vercel's gateway for the maker's own endpoint, 2026-11.
    ("glm-4.5", 96_000),
    // Model page of OpenRouter, 2026-11.
    ("glm-5", 131_072),
];

/// Most tokens that a model answers with. `None` if it is not known.
fn max_output(draft: &Draft<'_, '_>, target: &Target<'_>) -> Option<u64> {
    if let Some(model) = target.claude_model(draft.view) {
        return (!target.is_unchanged()).then(|| model.max_output());
    }
    let name = target.model_of(draft.view)?.to_ascii_lowercase();
    let name = name.rsplit('/').next().unwrap_or_default();
    MAX_OUTPUT.iter().find(|(start, _)| name.starts_with(start)).map(|(_, limit)| *limit)
}

/// Keeps a request within what the model takes that it goes to, as far as that is known or was named in a refusal.
pub(super) fn bounds(draft: &mut Draft<'_, '_>, target: &Target<'_>) {
    let view = draft.view;
    if !target.is_unchanged() && target.claude_model(view).is_some_and(|model| !model.has_effort()) {
        paths::remove(draft, "output_config.effort");
    }
    let named = target.repair.and_then(|repair| repair.max_tokens);
    let Some(limit) = max_output(draft, target).into_iter().chain(named).min() else { return };
    if let Some(member) = view.top("max_tokens")
        && member.value.get().parse().is_ok_and(|wanted: u64| wanted > limit)
    {
        draft.splices.replace(view.span(member.value), limit.to_string());
        draft.note("max_tokens above the model's");
        thinking::budget(draft, limit);
    }
}

/// Takes out what tells who the client is.
pub(super) fn private(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    draft.drop_top("safeguards");
    if let Some(object) = view.top("metadata").and_then(|member| Object::of(view.text, member.value)) {
        let others = object.members.iter().any(|member| member.name != "user_id");
        if others {
            draft.drop_members(&object, |name| name == "user_id", |_| Some("metadata.user_id".to_owned()));
        } else {
            draft.drop_top("metadata");
        }
    }
    billing_block(draft);
}

fn billing_block(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    let Some(system) = view.top("system") else { return };
    if let Some(text) = splice::string(system.value) {
        if text.starts_with(BILLING) {
            let rest = text.split_once('\n').map(|(_, rest)| rest.trim_start_matches('\n')).unwrap_or_default();
            let whole = view.span(system.value);
            if rest.is_empty() {
                draft.drop_top("system");
            } else {
                draft.splices.replace(whole, serde_json::Value::from(rest).to_string());
                draft.note("billing block");
            }
        }
        return;
    }
    let Some(blocks) = view::blocks(view.text, system.value) else { return };
    let accounts = |text: Option<std::borrow::Cow<'_, str>>| text.is_some_and(|text| text.starts_with(BILLING));
    let fates: Vec<_> = blocks.iter().map(|block| if accounts(block.fields.string("text")) { Fate::Drop } else { Fate::Keep }).collect();
    if !fates.contains(&Fate::Drop) {
        return;
    }
    if fates.contains(&Fate::Keep) {
        let places: Vec<_> = blocks.iter().map(|block| block.at.clone()).collect();
        draft.splices.list(&places, &fates, &[], view.span(system.value).end - 1);
    } else {
        draft.drop_top("system");
    }
    draft.note("billing block");
}

/// Fits all other fields to another company's endpoint.
pub(super) fn foreign(draft: &mut Draft<'_, '_>, target: &Target<'_>) -> Result<(), Unfit> {
    let view = draft.view;
    if view.top("thread").is_some_and(|thread| thread.value.get().contains("continue")) {
        return Err(Unfit::Thread);
    }
    for member in &view.top.members {
        if !is_known(draft, target, &member.name) {
            draft.drop_top(&member.name);
        }
    }
    system_blocks(draft, target);
    tools(draft, target)
}

fn is_known(draft: &Draft<'_, '_>, target: &Target<'_>, name: &str) -> bool {
    let gateway = matches!(target.platform, Platform::OpenRouter | Platform::Compatible(Preset::LiteLlm));
    match name {
        "tool_choice" => target.platform != Platform::Compatible(Preset::Ollama),
        // What Claude knows, and those who pass it on to Claude.
        "output_config" => gateway && target.claude_model(draft.view).is_some_and(hotspare_core::ClaudeModel::has_effort),
        "context_management" => betas::allows(target.platform, name) && target.is_claude(draft.view),
        name if OPENROUTER.contains(&name) => target.platform == Platform::OpenRouter,
        name => COMMON.contains(&name),
    }
}

fn system_blocks(draft: &mut Draft<'_, '_>, target: &Target<'_>) {
    let view = draft.view;
    let blocks = view.top("system").and_then(|system| view::blocks(view.text, system.value)).unwrap_or_default();
    for block in &blocks {
        draft.drop_members(&block.fields, |name| !matches!(name, "type" | "text" | "cache_control"), |name| Some(format!("system.{name}")));
        content::cache_control(draft, target, &block.fields);
    }
}

/// Tools of the client stay, those that the provider would have to run go.
fn tools(draft: &mut Draft<'_, '_>, target: &Target<'_>) -> Result<(), Unfit> {
    let view = draft.view;
    let Some(list) = view.top("tools").map(|member| member.value) else { return Ok(()) };
    let Some(items) = splice::items(list) else { return Ok(()) };
    let Some(tools) = items.iter().map(|tool| Object::of(view.text, tool)).collect::<Option<Vec<_>>>() else { return Ok(()) };
    let is_clients = |tool: &Object<'_>| tool.string("type").is_none_or(|kind| kind == "custom");
    let fates: Vec<_> = tools.iter().map(|tool| if is_clients(tool) { Fate::Keep } else { Fate::Drop }).collect();
    if fates.contains(&Fate::Drop) && !fates.contains(&Fate::Keep) {
        return Err(Unfit::ServerTools);
    }
    for (tool, fate) in tools.iter().zip(&fates) {
        match fate {
            Fate::Keep => one_tool(draft, target, tool),
            _ => draft.note(&format!("tool {}", tool.string("type").unwrap_or_default())),
        }
    }
    let places: Vec<_> = items.iter().map(|tool| view.span(tool)).collect();
    draft.splices.list(&places, &fates, &[], view.span(list).end - 1);
    Ok(())
}

fn one_tool(draft: &mut Draft<'_, '_>, target: &Target<'_>, tool: &Object<'_>) {
    let platform = target.platform;
    let foreign = |name: &str| match name {
        "name" | "description" | "input_schema" | "cache_control" => false,
        "type" => platform == Platform::Compatible(Preset::DeepSeek),
        "strict" => !betas::allows(platform, "tools.*.strict"),
        "eager_input_streaming" => !betas::allows(platform, "tools.*.eager_input_streaming"),
        _ => true,
    };
    draft.drop_members(tool, foreign, |name| (name != "type").then(|| format!("tools.{name}")));
    content::cache_control(draft, target, tool);
}
