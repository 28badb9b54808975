//! Decides which thinking blocks a target may see, and in which form it is asked to think. Never lets one through that it would refuse, and
//! never changes one.
//!
//! Toward Claude a turn's thinking goes whole or not at all: a provider that checks it minds a gap, and nothing where there is none.

use hotspare_core::{ClaudeModel, Platform, Preset};

use crate::betas;
use crate::mint::{self, Issuer, Mark};
use crate::splice::Fate;

use super::Target;
use super::draft::Draft;
use super::view::{self, Block, Object};

/// Takes out the thinking that the target cannot know.
pub(super) fn blocks(draft: &mut Draft<'_, '_>, target: &Target<'_>, issuer_of: impl Fn(Mark) -> Option<Issuer>) {
    let all = target.repair.is_some_and(|repair| repair.strip_thinking);
    let whole_turns = target.is_claude(draft.view);
    select(draft, whole_turns, |draft, block| {
        let issuer = mark(block).and_then(&issuer_of);
        note_issuer(draft, target, issuer.as_ref());
        !all && is_known(block, target, issuer.as_ref())
    });
}

/// Takes out the turns of thinking in which something is not signed: Anthropic refuses it for good.
pub(super) fn unsigned(draft: &mut Draft<'_, '_>) {
    select(draft, true, |_, block| is_signed(block));
}

/// Keeps the thinking that `keeps` accepts. `whole_turns`: a turn's thinking goes whole or not at all.
fn select(draft: &mut Draft<'_, '_>, whole_turns: bool, mut keeps: impl FnMut(&mut Draft<'_, '_>, &Block<'_>) -> bool) {
    let view = draft.view;
    let mut turn_start = 0;
    for end in 1..=view.messages.len() {
        let ends = view.messages.get(end).is_none_or(|next| next.role == "user" && !next.has_tool_result());
        if !ends {
            continue;
        }
        let turn = turn_start..end;
        turn_start = end;
        let mut foreign = Vec::new();
        let mut own = Vec::new();
        for message in turn {
            for (index, block) in view.messages[message].blocks().iter().enumerate().filter(|(_, block)| block.is_thinking()) {
                let kept = keeps(draft, block);
                if kept { &mut own } else { &mut foreign }.push((message, index));
            }
        }
        if whole_turns && !foreign.is_empty() {
            foreign.append(&mut own);
        }
        draft.changes.thinking += foreign.len();
        for (message, index) in foreign {
            draft.blocks[message][index] = Fate::Drop;
        }
    }
}

/// Puts thinking of the target's own back before the calls that it led to. It was left out of the answers that the client has.
pub(super) fn restored(draft: &mut Draft<'_, '_>, thoughts_before: impl Fn(&str) -> Vec<(usize, String)>) {
    let view = draft.view;
    for (index, message) in view.messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
        let blocks = message.blocks();
        let has_own = blocks.iter().zip(&draft.blocks[index]).any(|(block, fate)| block.is_thinking() && *fate != Fate::Drop);
        if has_own || draft.messages[index] != Fate::Keep {
            continue;
        }
        for (place, block) in blocks.iter().enumerate().filter(|(_, block)| block.kind == "tool_use") {
            let Some(call) = block.fields.string("id") else { continue };
            for (before, thought) in thoughts_before(&call) {
                let wanted = place.saturating_sub(before);
                let kept = (wanted..=place).find(|place| draft.blocks[index][*place] != Fate::Drop).unwrap_or(place);
                draft.splices.insert(blocks[kept].at.start, format!("{thought},"));
                draft.restored.push(index);
            }
        }
    }
}

fn mark(block: &Block<'_>) -> Option<Mark> {
    match &*block.kind {
        "redacted_thinking" => block.fields.string("data").as_deref().map(Mark::of_redacted),
        _ => mint::mark_of_thinking(block.fields.string("thinking").as_deref(), block.fields.string("signature").as_deref()),
    }
}

/// What Anthropic's own API minted, or what nobody is known to have minted but is signed, its servers judge best themselves: they drop
/// what they cannot read. To any other it goes only where it came from there.
fn is_known(block: &Block<'_>, target: &Target<'_>, issuer: Option<&Issuer>) -> bool {
    match (target.platform, issuer) {
        (Platform::Anthropic, Some(issuer)) => issuer.native,
        (Platform::Anthropic, None) => is_signed(block),
        (_, issuer) => issuer.is_some_and(|issuer| *issuer.profile == *target.profile),
    }
}

fn is_signed(block: &Block<'_>) -> bool {
    let key = if block.kind == "redacted_thinking" { "data" } else { "signature" };
    block.fields.string(key).is_some_and(|proof| !proof.is_empty())
}

fn note_issuer(draft: &mut Draft<'_, '_>, target: &Target<'_>, issuer: Option<&Issuer>) {
    if let Some(issuer) = issuer.filter(|issuer| *issuer.profile != *target.profile)
        && !draft.changes.issuers.contains(issuer)
    {
        draft.changes.issuers.push(issuer.clone());
    }
}

/// Turns thinking off at a company that demands its own thinking back and finds a call without it in the history.
const OFF: &str = r#""thinking":{"type":"disabled"}"#;

/// Fits the `thinking` field to the model and to the history as it will be sent.
pub(super) fn field(draft: &mut Draft<'_, '_>, target: &Target<'_>) {
    let view = draft.view;
    if must_be_off(draft, target) {
        match view.top.members.iter().position(|member| member.name == "thinking") {
            Some(at) => draft.top[at] = Fate::Replace(OFF.to_owned()),
            None => draft.top_more.push(OFF.to_owned()),
        }
        draft.note("thinking");
        return drop_clear_thinking(draft);
    }
    let Some((at, field)) = view.top.members.iter().enumerate().find(|(_, member)| member.name == "thinking") else { return };
    let Some(object) = Object::of(view.text, field.value) else { return };
    let form = object.string("type").unwrap_or_default();
    match fitting(draft, target, &form) {
        Form::Same => trim(draft, target, &object),
        Form::Adaptive => {
            draft.top[at] = Fate::Replace(r#""thinking":{"type":"adaptive"}"#.to_owned());
            draft.note("thinking budget");
        }
        Form::Absent => {
            draft.drop_top("thinking");
            drop_clear_thinking(draft);
        }
    }
}

enum Form {
    Same,
    Adaptive,
    Absent,
}

fn fitting(draft: &Draft<'_, '_>, target: &Target<'_>, form: &str) -> Form {
    if target.repair.is_some_and(|repair| repair.no_thinking) {
        return Form::Absent;
    }
    if !target.is_claude(draft.view) {
        return match (form, target.platform) {
            // Some GLM models refuse it; they think as they are set up to.
            ("disabled", Platform::Compatible(Preset::Zai)) => Form::Absent,
            ("enabled" | "disabled", _) => Form::Same,
            // Others than Claude do not know it.
            _ => Form::Absent,
        };
    }
    let forms = target.claude_model(draft.view).map(ClaudeModel::thinking).filter(|_| !target.is_unchanged());
    match (form, forms) {
        ("adaptive", Some(forms)) if !forms.adaptive => Form::Absent,
        ("disabled", Some(forms)) if !forms.disabled => Form::Absent,
        ("enabled", Some(forms)) if !forms.enabled => Form::Adaptive,
        // With a budget, Claude 4.5 and older demand that a turn that goes on begins with thinking.
        ("enabled", _) if goes_on_without_thinking(draft) => Form::Absent,
        _ => Form::Same,
    }
}

/// DeepSeek and Kimi think where nothing is said, and refuse a call in the history whose thinking is missing
/// (`NousResearch/hermes-agent#22313`, `SuperJJ007/CSSwitch#73`, 2026-08); others may say so in a refusal.
fn must_be_off(draft: &Draft<'_, '_>, target: &Target<'_>) -> bool {
    let demands_it = matches!(target.platform, Platform::Compatible(Preset::DeepSeek | Preset::Kimi));
    let was_refused = target.repair.is_some_and(|repair| repair.thinking_off) && !target.platform.is_native();
    let is_off = || draft.view.top("thinking").is_some_and(|member| member.value.get().contains("disabled"));
    was_refused || demands_it && !target.is_claude(draft.view) && !is_off() && has_bare_call(draft)
}

/// Whether any call, as it will be sent, stands in a message without thinking.
fn has_bare_call(draft: &Draft<'_, '_>) -> bool {
    draft.view.messages.iter().enumerate().any(|(index, message)| {
        let left = || message.blocks().iter().zip(&draft.blocks[index]).filter(|(_, fate)| **fate != Fate::Drop);
        message.role == "assistant"
            && left().any(|(block, _)| block.kind == "tool_use")
            && !left().any(|(block, _)| block.is_thinking())
            && !draft.restored.contains(&index)
    })
}

/// Whether a tool loop goes on whose last answer, as it will be sent, does not begin with thinking.
fn goes_on_without_thinking(draft: &Draft<'_, '_>) -> bool {
    let left = || draft.view.messages.iter().enumerate().rev().filter(|(index, _)| draft.is_left(*index));
    if !left().next().is_some_and(|(_, message)| message.has_tool_result()) {
        return false;
    }
    let Some((index, answer)) = left().find(|(_, message)| message.role == "assistant") else { return false };
    let first = answer.blocks().iter().zip(&draft.blocks[index]).find(|(_, fate)| **fate != Fate::Drop);
    first.is_some_and(|(block, _)| !block.is_thinking())
}

/// Least budget for thinking that Claude takes (Messages API, `thinking.budget_tokens`).
const MIN_BUDGET: u64 = 1024;

/// Keeps the budget for thinking below a lowered `max_tokens`.
pub(super) fn budget(draft: &mut Draft<'_, '_>, max_tokens: u64) {
    let view = draft.view;
    let Some((at, field)) = view.top.members.iter().enumerate().find(|(_, member)| member.name == "thinking") else { return };
    let Some(budget) = Object::of(view.text, field.value).and_then(|object| object.get("budget_tokens")) else { return };
    if draft.top[at] != Fate::Keep || budget.get().parse::<u64>().is_ok_and(|budget| budget < max_tokens) {
        return;
    }
    if max_tokens > MIN_BUDGET {
        draft.splices.replace(view.span(budget), (max_tokens - 1).max(MIN_BUDGET).to_string());
    } else {
        draft.drop_top("thinking");
    }
}

/// What another company's endpoint does not know of the field.
fn trim(draft: &mut Draft<'_, '_>, target: &Target<'_>, object: &Object<'_>) {
    if target.platform.is_native() {
        return;
    }
    let claude = target.is_claude(draft.view);
    // Only the newest value of `display` is bound to a beta.
    let display = claude && object.string("display").is_none_or(|display| display != "updates");
    let binding = claude && betas::allows(target.platform, "thinking.block_binding");
    let foreign = |name: &str| match name {
        "type" | "budget_tokens" => false,
        "display" => !display,
        "block_binding" => !binding,
        _ => true,
    };
    draft.drop_members(object, foreign, |name| Some(format!("thinking.{name}")));
}

/// The edit of the context that is refused without thinking.
fn drop_clear_thinking(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    let edits = view
        .top("context_management")
        .filter(|_| draft.has_top("context_management"))
        .and_then(|member| Object::of(view.text, member.value))
        .and_then(|object| object.get("edits"))
        .and_then(|edits| Some((view::blocks(view.text, edits)?, view.span(edits).end - 1)));
    let Some((edits, close)) = edits else { return };
    let fates: Vec<_> = edits.iter().map(|edit| if edit.kind.starts_with("clear_thinking") { Fate::Drop } else { Fate::Keep }).collect();
    if !fates.contains(&Fate::Drop) {
        return;
    }
    if fates.contains(&Fate::Keep) {
        let places: Vec<_> = edits.iter().map(|edit| edit.at.clone()).collect();
        draft.splices.list(&places, &fates, &[], close);
        draft.note("clear_thinking");
    } else {
        draft.drop_top("context_management");
    }
}
