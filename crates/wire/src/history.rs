//! Makes a conversation valid at another provider: takes out of a request what only the provider that made it can read, and what must not
//! leave its company. Never forges a signature, never re-serialises, and changes nothing toward Anthropic's own API while nobody else has
//! had a part in the conversation.
//!
//! Everything here is a function of the request, the target and the record of who minted what. The same history gives the same bytes on
//! every turn, so a provider's prompt cache and its check of a conversation's prefix hold.
//!
//! - `view` finds the places, `draft` gathers what becomes of them.
//! - `thinking` judges thinking blocks and the `thinking` field; `content` all other blocks; `fields` what stands beside the messages;
//!   `fold` messages of the system; `ids` the names of tool calls; `form` finds what is invalid whoever minted it; `needs` tells beforehand
//!   which profiles could take the request.

mod content;
mod draft;
mod fields;
mod fold;
mod form;
pub(crate) mod ids;
mod needs;
mod paths;
mod thinking;
mod view;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use hotspare_core::{ClaudeModel, ModelFamily, Platform};
use xxhash_rust::xxh3::xxh3_64;

use crate::mint::{Issuer, Mark};
use crate::repair::Repair;
use crate::tool_id::Tag;

pub use form::mend;
pub use needs::needs;

use draft::Draft;
use view::View;

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The profile's name: what it minted itself it gets back.
    pub profile: &'a str,
    /// Whose it is, by the host of its API: ids that this company minted are turned back.
    pub company: &'a str,
    /// What it speaks.
    pub platform: Platform,
    /// The model it is asked for in place of the client's, if any.
    pub model: Option<&'a str>,
    /// What it has already refused in this conversation.
    pub repair: Option<&'a Repair>,
}

/// What was changed, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Thinking blocks that were taken out.
    pub thinking: usize,
    /// Other blocks that were taken out or turned into text.
    pub blocks: usize,
    /// Messages of the system that were put into the user's turn.
    pub folded: usize,
    /// Tool calls that got another name.
    pub renamed: usize,
    /// Fields and tools that were taken out, each once.
    pub fields: Vec<Box<str>>,
    /// Everyone beside the target who has minted thinking in this history.
    pub issuers: Vec<Issuer>,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
        let parts = [
            counted(self.thinking, "foreign thinking block").map(|part| part + " removed"),
            counted(self.blocks, "provider-bound block").map(|part| part + " removed"),
            counted(self.folded, "system message").map(|part| part + " folded"),
            counted(self.renamed, "tool call").map(|part| part + " renamed"),
            (!self.fields.is_empty()).then(|| format!("without {}", self.fields.join(", "))),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(" · "))
    }
}

/// Why a request cannot go to a target at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It names a file that another provider keeps.
    File,
    /// Earlier turns exist only in a form that another provider encrypted.
    Compaction,
    /// Nothing is left of its tools: they all run at another provider.
    ServerTools,
    /// It goes on a conversation that another provider keeps.
    Thread,
    /// It is compressed, or no request at all.
    Unreadable,
}

impl Unfit {
    /// The same for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::File => "the request names a file that another provider keeps",
            Self::Compaction => "earlier turns are encrypted by another provider",
            Self::ServerTools => "all tools of the request run at another provider",
            Self::Thread => "the conversation is kept by another provider",
            Self::Unreadable => "the request cannot be read",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// A request as it goes to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adapted {
    /// As it came.
    Same,
    /// With changes: slices of the original around what is new.
    Changed(Vec<Bytes>, Changes),
}

/// What is known of a history beside the request itself.
pub trait Memory {
    /// The issuer of a thinking block. `None` if it is not known.
    fn issuer_of(&self, mark: Mark) -> Option<Issuer>;

    /// The id that the target minted for a call, where it cannot be read from the client's id.
    fn original_of(&self, _call: &str) -> Option<String> {
        None
    }

    /// The thinking of the target that led to a call and was left out of the answer: each block as JSON, with the number of visible blocks
    /// between it and the call.
    fn thoughts_before(&self, _call: &str) -> Vec<(usize, String)> {
        Vec::new()
    }
}

impl<F: Fn(Mark) -> Option<Issuer>> Memory for F {
    fn issuer_of(&self, mark: Mark) -> Option<Issuer> {
        self(mark)
    }
}

/// Makes the body of a Messages request valid at the target.
///
/// A body that is no such request stays as it came toward Anthropic's own API, which will say what is wrong with it.
///
/// # Errors
///
/// When the request cannot be served there without losing what it is about.
pub fn adapt(body: &Bytes, target: &Target<'_>, memory: &impl Memory) -> Result<Adapted, Unfit> {
    let Some(view) = View::of(body) else {
        // What cannot be read cannot be cleaned of what must not leave its company.
        return if target.platform.is_native() { Ok(Adapted::Same) } else { Err(Unfit::Unreadable) };
    };
    let mut draft = Draft::new(&view);
    fields::model(&mut draft, target);
    thinking::blocks(&mut draft, target, |mark| memory.issuer_of(mark));
    if !target.platform.is_native() {
        if target.repair.is_some_and(|repair| repair.no_orphans) {
            content::orphans(&mut draft);
        }
        content::foreign_blocks(&mut draft, target)?;
        fields::private(&mut draft);
        fields::foreign(&mut draft, target)?;
    }
    if target.is_claude(&view) {
        form::by_form(&mut draft);
    } else {
        ids::restored(&mut draft, Tag::of(target.company), |call| memory.original_of(call));
        content::empty_messages(&mut draft);
    }
    if !target.platform.is_native() && !target.repair.is_some_and(|repair| repair.strip_thinking) {
        thinking::restored(&mut draft, |call| memory.thoughts_before(call));
    }
    if fold::is_needed(&draft, target) {
        fold::system_messages(&mut draft);
    }
    thinking::field(&mut draft, target);
    fields::bounds(&mut draft, target);
    if let Some(repair) = target.repair {
        repair.fields.iter().for_each(|field| paths::remove(&mut draft, field));
    }
    Ok(draft.finish(body))
}

/// What tells one conversation from another where the client does not: how it began. None: it is no such request.
pub fn opening(body: &[u8]) -> Option<u64> {
    let view = View::of(body)?;
    let first = view.messages.first()?;
    Some(xxh3_64(&body[first.at.clone()]))
}

impl<'a> Target<'a> {
    /// The model it will be asked for.
    fn model_of<'v>(&self, view: &View<'v>) -> Option<Cow<'v, str>>
    where
        'a: 'v,
    {
        match self.model {
            Some(model) => Some(model.into()),
            None => view.top("model").and_then(|model| crate::splice::string(model.value)),
        }
    }

    /// Whether a Claude model answers there, with Claude's rules for what it is shown.
    fn is_claude(&self, view: &View<'_>) -> bool {
        self.platform.is_native() || self.model_of(view).is_some_and(|model| ModelFamily::of(&model) != ModelFamily::Other)
    }

    /// Whether it is asked for the very model that the client wants, at the API that the client speaks.
    fn is_unchanged(&self) -> bool {
        self.platform.is_native() && self.model.is_none()
    }

    /// The Claude model it will be asked for, where the name is known.
    fn claude_model(&self, view: &View<'_>) -> Option<ClaudeModel> {
        self.model_of(view).and_then(|model| ClaudeModel::of(&model))
    }
}

#[cfg(test)]
mod tests;
