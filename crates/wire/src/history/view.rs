//! Finds the places of a Messages request: its fields, messages and blocks. Never copies a text, and never judges.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use crate::splice::{self, Member};

/// A request.
pub(super) struct View<'a> {
    pub(super) text: &'a [u8],
    pub(super) top: Object<'a>,
    pub(super) messages: Vec<Message<'a>>,
    /// The place of the bracket that closes the messages.
    pub(super) messages_close: usize,
}

/// An object's members.
pub(super) struct Object<'a> {
    pub(super) members: Vec<Member<'a>>,
    /// The place of the brace that closes it.
    pub(super) close: usize,
}

/// One message.
pub(super) struct Message<'a> {
    pub(super) at: Range<usize>,
    pub(super) role: Cow<'a, str>,
    pub(super) fields: Object<'a>,
    pub(super) content: Content<'a>,
}

/// What a message says.
pub(super) enum Content<'a> {
    /// One string.
    Text(&'a RawValue),
    /// A list of blocks.
    Blocks(Vec<Block<'a>>, usize),
    /// Neither; left alone.
    Other,
}

/// One block.
pub(super) struct Block<'a> {
    pub(super) at: Range<usize>,
    pub(super) kind: Cow<'a, str>,
    pub(super) fields: Object<'a>,
}

impl<'a> Object<'a> {
    pub(super) fn of(text: &[u8], value: &'a RawValue) -> Option<Self> {
        let members = splice::members(text, value)?;
        Some(Self { members, close: splice::span(text, value).end - 1 })
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|member| member.name == name).map(|member| member.value)
    }

    pub(super) fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(splice::string)
    }

    /// The places of its members.
    pub(super) fn places(&self) -> Vec<Range<usize>> {
        self.members.iter().map(|member| member.at.clone()).collect()
    }
}

impl<'a> View<'a> {
    /// None: it is no object with a list of messages.
    pub(super) fn of(text: &'a [u8]) -> Option<Self> {
        let whole: &'a RawValue = serde_json::from_slice(text).ok()?;
        let top = Object::of(text, whole)?;
        let messages = top.get("messages")?;
        let messages_close = splice::span(text, messages).end - 1;
        let messages = splice::items(messages)?.into_iter().map(|message| Message::of(text, message)).collect::<Option<_>>()?;
        Some(Self { text, top, messages, messages_close })
    }

    pub(super) fn top(&self, name: &str) -> Option<&Member<'a>> {
        self.top.members.iter().find(|member| member.name == name)
    }

    pub(super) fn span(&self, value: &RawValue) -> Range<usize> {
        splice::span(self.text, value)
    }
}

impl<'a> Message<'a> {
    fn of(text: &[u8], value: &'a RawValue) -> Option<Self> {
        let fields = Object::of(text, value)?;
        let role = fields.string("role")?;
        let content = match fields.get("content") {
            Some(content) if content.get().starts_with('"') => Content::Text(content),
            Some(content) => match blocks(text, content) {
                Some(blocks) => Content::Blocks(blocks, splice::span(text, content).end - 1),
                None => Content::Other,
            },
            None => Content::Other,
        };
        Some(Self { at: splice::span(text, value), role, fields, content })
    }

    pub(super) fn blocks(&self) -> &[Block<'a>] {
        match &self.content {
            Content::Blocks(blocks, _) => blocks,
            Content::Text(_) | Content::Other => &[],
        }
    }

    /// Whether it brings results of tools, so that it goes on a turn and does not begin one.
    pub(super) fn has_tool_result(&self) -> bool {
        self.role == "user" && self.blocks().iter().any(|block| block.kind == "tool_result")
    }
}

/// The blocks of a list; none where any is no object with a type.
pub(super) fn blocks<'a>(text: &[u8], list: &'a RawValue) -> Option<Vec<Block<'a>>> {
    splice::items(list)?.into_iter().map(|block| Block::of(text, block)).collect()
}

impl<'a> Block<'a> {
    fn of(text: &[u8], value: &'a RawValue) -> Option<Self> {
        let fields = Object::of(text, value)?;
        Some(Self { at: splice::span(text, value), kind: fields.string("type")?, fields })
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(&*self.kind, "thinking" | "redacted_thinking")
    }

    /// Whether it is text without a visible letter, which Claude refuses.
    pub(super) fn is_blank_text(&self) -> bool {
        self.kind == "text" && self.fields.string("text").is_some_and(|text| text.trim().is_empty())
    }
}
