//! Puts messages of the system into the user's turn before them, as tagged text, for providers that know only users and assistants. Never
//! moves one to another place in the conversation.

use crate::splice::{self, Fate};

use super::Target;
use super::draft::Draft;
use super::view::{Content, Message};

/// The tag that Claude Code itself uses for such text.
const TAG: &str = "system-reminder";

/// Whether the target knows no such messages.
pub(super) fn is_needed(draft: &Draft<'_, '_>, target: &Target<'_>) -> bool {
    let unknown_to_model = || target.claude_model(draft.view).is_some_and(|model| !model.knows_system_messages());
    !target.platform.is_native() || target.repair.is_some_and(|repair| repair.fold_system) || !target.is_unchanged() && unknown_to_model()
}

/// Folds every message of the system.
pub(super) fn system_messages(draft: &mut Draft<'_, '_>) {
    let view = draft.view;
    // The user's message that takes the next one in, if nobody has answered since.
    let mut user = None;
    for (index, message) in view.messages.iter().enumerate() {
        match &*message.role {
            "user" if draft.messages[index] == Fate::Keep && draft.is_left(index) => user = Some(index),
            "user" => user = None,
            "system" => {
                fold(draft, index, user);
                draft.changes.folded += 1;
            }
            "assistant" if draft.is_left(index) => user = None,
            _ => {}
        }
    }
}

fn fold(draft: &mut Draft<'_, '_>, index: usize, user: Option<usize>) {
    let view = draft.view;
    let message = &view.messages[index];
    let said = words(message);
    if said.is_empty() {
        draft.messages[index] = Fate::Drop;
        return;
    }
    // `said` is escaped as it came, and so are the line ends around it.
    let tagged = format!(r"<{TAG}>\n{said}\n</{TAG}>");
    let into = user.filter(|user| !matches!(view.messages[*user].content, Content::Other));
    match into {
        Some(user) => {
            draft.messages[index] = Fate::Drop;
            match &view.messages[user].content {
                Content::Text(text) => draft.splices.insert(view.span(text).end - 1, format!(r"\n\n{tagged}")),
                Content::Blocks(..) => draft.more[user].push(format!(r#"{{"type":"text","text":"{tagged}"}}"#)),
                Content::Other => {}
            }
        }
        None => draft.messages[index] = Fate::Replace(format!(r#"{{"role":"user","content":"{tagged}"}}"#)),
    }
}

/// Everything it says, escaped as it came.
fn words(message: &Message<'_>) -> String {
    let inner = |value: &serde_json::value::RawValue| splice::inner(value).map(str::to_owned);
    match &message.content {
        Content::Text(text) => inner(text).unwrap_or_default(),
        Content::Blocks(blocks, _) => {
            let texts = blocks.iter().filter(|block| block.kind == "text").filter_map(|block| inner(block.fields.get("text")?));
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(r"\n\n")
        }
        Content::Other => String::new(),
    }
}
