//! Gathers what becomes of each part of a request, and turns it into splices at the end. Never judges what should become of it.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::splice::{Fate, Splices};

use super::view::{Content, Object, View};
use super::{Adapted, Changes};

/// What is known so far.
pub(super) struct Draft<'v, 'a> {
    pub(super) view: &'v View<'a>,
    pub(super) splices: Splices,
    /// Of the fields beside the messages.
    pub(super) top: Vec<Fate>,
    pub(super) messages: Vec<Fate>,
    /// By message.
    pub(super) blocks: Vec<Vec<Fate>>,
    /// Blocks that come behind a message's own.
    pub(super) more: Vec<Vec<String>>,
    /// Members that come behind the request's own.
    pub(super) top_more: Vec<String>,
    /// Messages that got thinking of the target back.
    pub(super) restored: Vec<usize>,
    /// Members of objects, by the object's end.
    members: BTreeMap<usize, (Vec<Range<usize>>, Vec<Fate>)>,
    pub(super) changes: Changes,
}

impl<'v, 'a> Draft<'v, 'a> {
    pub(super) fn new(view: &'v View<'a>) -> Self {
        Self {
            view,
            splices: Splices::default(),
            top: vec![Fate::Keep; view.top.members.len()],
            messages: vec![Fate::Keep; view.messages.len()],
            blocks: view.messages.iter().map(|message| vec![Fate::Keep; message.blocks().len()]).collect(),
            more: vec![Vec::new(); view.messages.len()],
            top_more: Vec::new(),
            restored: Vec::new(),
            members: BTreeMap::new(),
            changes: Changes::default(),
        }
    }

    /// Takes a field beside the messages out.
    pub(super) fn drop_top(&mut self, name: &str) {
        for (member, fate) in self.view.top.members.iter().zip(&mut self.top) {
            if member.name == name && *fate != Fate::Drop {
                *fate = Fate::Drop;
                note(&mut self.changes, name);
            }
        }
    }

    pub(super) fn has_top(&self, name: &str) -> bool {
        self.view.top.members.iter().zip(&self.top).any(|(member, fate)| member.name == name && *fate != Fate::Drop)
    }

    /// Takes members out of an object. `what` names each for people; none leaves it unsaid.
    pub(super) fn drop_members(&mut self, object: &Object<'_>, drop: impl Fn(&str) -> bool, what: impl Fn(&str) -> Option<String>) {
        for (index, member) in object.members.iter().enumerate().filter(|(_, member)| drop(&member.name)) {
            let kept = || (object.places(), vec![Fate::Keep; object.members.len()]);
            let (_, fates) = self.members.entry(object.close).or_insert_with(kept);
            fates[index] = Fate::Drop;
            if let Some(name) = what(&member.name) {
                note(&mut self.changes, &name);
            }
        }
    }

    /// Notes that something is missing, for people.
    pub(super) fn note(&mut self, what: &str) {
        note(&mut self.changes, what);
    }

    /// Whether anything of a message is left.
    pub(super) fn is_left(&self, message: usize) -> bool {
        let said_nothing = match &self.view.messages[message].content {
            Content::Blocks(..) => self.blocks[message].iter().all(|fate| *fate == Fate::Drop) && self.more[message].is_empty(),
            Content::Text(_) | Content::Other => false,
        };
        self.messages[message] != Fate::Drop && !said_nothing
    }

    /// The changed body. Messages of which nothing is left go.
    pub(super) fn finish(mut self, body: &Bytes) -> Adapted {
        let Self { view, .. } = self;
        for (index, message) in view.messages.iter().enumerate() {
            let Content::Blocks(blocks, close) = &message.content else { continue };
            let places: Vec<_> = blocks.iter().map(|block| block.at.clone()).collect();
            if self.messages[index] != Fate::Keep {
                continue;
            }
            if !blocks.is_empty() && !self.is_left(index) {
                self.messages[index] = Fate::Drop;
            } else {
                self.splices.list(&places, &self.blocks[index], &self.more[index], *close);
            }
        }
        for (close, (places, fates)) in &self.members {
            self.splices.list(places, fates, &[], *close);
        }
        let places: Vec<_> = view.messages.iter().map(|message| message.at.clone()).collect();
        self.splices.list(&places, &self.messages, &[], view.messages_close);
        self.splices.list(&view.top.places(), &self.top, &self.top_more, view.top.close);
        if self.splices.is_empty() { Adapted::Same } else { Adapted::Changed(self.splices.apply(body), self.changes) }
    }
}

fn note(changes: &mut Changes, what: &str) {
    if !changes.fields.iter().any(|known| &**known == what) {
        changes.fields.push(what.into());
    }
}
