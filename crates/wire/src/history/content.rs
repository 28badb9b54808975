//! Decides what becomes of blocks that only one provider can read: results of its own tools, its files, its encrypted text. Never touches
//! a tool call of the client or its result.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use crate::splice::{self, Fate};

use super::draft::Draft;
use super::view::{self, Block, Content, Object};
use super::{Target, Unfit};
use crate::betas;

/// Most results of one web search that are named in the text that stands for it.
const MOST_RESULTS: usize = 20;

/// Stands for a user's turn that says nothing: Claude Code itself uses these words.
const NOTHING_SAID: &str = r#"{"role":"user","content":"(no content)"}"#;

/// Takes out blank text, which Claude refuses: of the assistant, the user, the system, and in results of tools.
pub(super) fn empty_text(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    for (index, message) in view.messages.iter().enumerate() {
        for (place, block) in message.blocks().iter().enumerate() {
            if block.is_blank_text() {
                draft.blocks[index][place] = Fate::Drop;
            } else if block.kind == "tool_result" {
                empty_text_of_result(draft, block);
            }
        }
    }
    let Some(system) = view.top("system") else { return };
    let Some(blocks) = view::blocks(view.text, system.value) else { return };
    if !blocks.is_empty() && blocks.iter().all(Block::is_blank_text) {
        draft.drop_top("system");
    } else {
        drop_blank(draft, &blocks, view.span(system.value).end - 1);
    }
}

fn empty_text_of_result(draft: &mut Draft<'_, '_>, block: &Block<'_>) {
    let view = draft.view;
    let Some(content) = block.fields.get("content").filter(|content| content.get().starts_with('[')) else { return };
    let Some(inner) = view::blocks(view.text, content) else { return };
    drop_blank(draft, &inner, view.span(content).end - 1);
}

fn drop_blank(draft: &mut Draft<'_, '_>, blocks: &[Block<'_>], close: usize) {
    let fates: Vec<_> = blocks.iter().map(|block| if block.is_blank_text() { Fate::Drop } else { Fate::Keep }).collect();
    if fates.contains(&Fate::Drop) {
        let places: Vec<_> = blocks.iter().map(|block| block.at.clone()).collect();
        draft.splices.list(&places, &fates, &[], close);
    }
}

/// Puts words into a user's turn of which nothing is left, and takes out any other message that says nothing.
pub(super) fn empty_messages(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    for (index, message) in view.messages.iter().enumerate() {
        let empty = match &message.content {
            Content::Text(text) => splice::string(text).is_some_and(|text| text.trim().is_empty()),
            Content::Blocks(..) => !draft.is_left(index),
            Content::Other => false,
        };
        if empty && draft.messages[index] == Fate::Keep {
            draft.messages[index] = if message.role == "user" { Fate::Replace(NOTHING_SAID.to_owned()) } else { Fate::Drop };
        }
    }
}

/// Fits every block to a provider that is not Anthropic's own API.
pub(super) fn foreign_blocks(draft: &mut Draft<'_, '_>, target: &Target<'_>) -> Result<(), Unfit> {
    let view = draft.view;
    for (index, message) in view.messages.iter().enumerate() {
        draft.drop_members(&message.fields, |name| !matches!(name, "role" | "content"), |name| Some(format!("messages.{name}")));
        for (place, block) in message.blocks().iter().enumerate() {
            if draft.blocks[index][place] != Fate::Keep {
                continue;
            }
            let fate = one(draft, target, block, &message.role)?;
            if fate != Fate::Keep {
                draft.changes.blocks += usize::from(!block.is_blank_text());
                draft.blocks[index][place] = fate;
            }
        }
    }
    Ok(())
}

/// Puts text in the place of each result of a tool whose call is not in the assistant's message before it, or has its result already: the
/// provider has refused the conversation for one.
pub(super) fn orphans(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    let mut open: HashSet<Cow<'_, str>> = HashSet::new();
    let mut is_after_assistant = false;
    for (index, message) in view.messages.iter().enumerate() {
        let is_assistant = message.role == "assistant";
        if is_assistant && !is_after_assistant {
            open.clear();
        }
        is_after_assistant = is_assistant;
        for (place, block) in message.blocks().iter().enumerate() {
            match &*block.kind {
                "tool_use" => open.extend(block.fields.string("id")),
                "tool_result" if !block.fields.string("tool_use_id").is_some_and(|id| open.remove(&id)) => {
                    draft.note("orphaned tool results");
                    draft.blocks[index][place] = text_block(&text_of_result(view.text, block));
                }
                _ => {}
            }
        }
    }
}

fn text_of_result(text: &[u8], block: &Block<'_>) -> String {
    let mut said = "Result of an earlier tool call:".to_owned();
    let content = block.fields.get("content");
    let inner = content.and_then(|content| view::blocks(text, content)).unwrap_or_default();
    let texts = inner.iter().filter_map(|block| block.fields.string("text"));
    for part in content.and_then(splice::string).into_iter().chain(texts) {
        said.push('\n');
        said.push_str(&part);
    }
    said
}

/// What becomes of one block, in a message or in a tool's result.
fn one(draft: &mut Draft<'_, '_>, target: &Target<'_>, block: &Block<'_>, role: &str) -> Result<Fate, Unfit> {
    let known: &[&str] = match &*block.kind {
        "text" if block.is_blank_text() => return Ok(Fate::Drop),
        // Citations of a search point into text that its provider encrypted.
        "text" => &["text"],
        "thinking" => &["thinking", "signature"],
        "redacted_thinking" => &["data"],
        "image" => &["source"],
        "document" => &["source", "title", "context", "citations"],
        "search_result" => &["source", "title", "content", "citations"],
        "tool_use" => &["id", "name", "input"],
        "tool_result" => &["tool_use_id", "content", "is_error"],
        "tool_reference" => return Ok(text_block(&format!("The tool {} is available.", name_of(block)))),
        "web_search_tool_result" => return Ok(search_results(draft.view.text, block).map_or(Fate::Drop, |text| text_block(&text))),
        "compaction" => return block.fields.string("content").map(|text| text_block(&text)).ok_or(Unfit::Compaction),
        "container_upload" if role == "user" => return Err(Unfit::File),
        // Calls and results of tools that ran at another provider, and whatever is newer than this list.
        _ => return Ok(Fate::Drop),
    };
    if matches!(&*block.kind, "image" | "document") && source_is_a_file(draft.view.text, &block.fields) {
        return Err(Unfit::File);
    }
    let drop = |name: &str| !matches!(name, "type" | "cache_control") && !known.contains(&name);
    draft.drop_members(&block.fields, drop, |_| None);
    cache_control(draft, target, &block.fields);
    if block.kind == "tool_result" {
        result(draft, target, block)?;
    }
    Ok(Fate::Keep)
}

/// The blocks inside a tool's result. It stays even when nothing is left in it: its call needs it.
fn result(draft: &mut Draft<'_, '_>, target: &Target<'_>, block: &Block<'_>) -> Result<(), Unfit> {
    let view = draft.view;
    let Some(content) = block.fields.get("content").filter(|content| content.get().starts_with('[')) else { return Ok(()) };
    let Some(inner) = view::blocks(view.text, content) else { return Ok(()) };
    let fates = inner.iter().map(|block| one(draft, target, block, "user")).collect::<Result<Vec<_>, _>>()?;
    draft.changes.blocks += fates.iter().filter(|fate| **fate != Fate::Keep).count();
    let places: Vec<_> = inner.iter().map(|block| block.at.clone()).collect();
    draft.splices.list(&places, &fates, &[], view.span(content).end - 1);
    Ok(())
}

/// `scope` is Anthropic's own.
pub(super) fn cache_control(draft: &mut Draft<'_, '_>, target: &Target<'_>, fields: &Object<'_>) {
    let view = draft.view;
    let Some(object) = fields.get("cache_control").and_then(|value| Object::of(view.text, value)) else { return };
    let scope = betas::allows(target.platform, "cache_control.scope");
    draft.drop_members(&object, |name| name == "scope" && !scope, |_| Some("cache_control.scope".to_owned()));
}

fn source_is_a_file(text: &[u8], fields: &Object<'_>) -> bool {
    let source = fields.get("source").and_then(|source| Object::of(text, source));
    source.is_some_and(|source| source.string("type").is_some_and(|kind| kind == "file") || source.get("file_id").is_some())
}

fn name_of(block: &Block<'_>) -> String {
    block.fields.string("tool_name").unwrap_or_default().into_owned()
}

/// Titles and addresses of what was found; none where the search failed.
fn search_results(text: &[u8], block: &Block<'_>) -> Option<String> {
    let found: &RawValue = block.fields.get("content")?;
    let mut shown = "Web search results:".to_owned();
    let mut any = false;
    for result in splice::items(found)?.into_iter().take(MOST_RESULTS) {
        let result = Object::of(text, result)?;
        let (title, url) = (result.string("title").unwrap_or_default(), result.string("url").unwrap_or_default());
        let _ = write!(shown, "\n- {title} <{url}>");
        any = true;
    }
    any.then_some(shown)
}

fn text_block(text: &str) -> Fate {
    Fate::Replace(format!(r#"{{"type":"text","text":{}}}"#, serde_json::Value::from(text)))
}
