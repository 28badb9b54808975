//! Remembers which profile minted which thinking block, so that none is ever shown to a provider that would not know it. Never keeps a
//! thought or a signature: only hashes, and never forges either.
//!
//! A client sends thinking back as it got it, whichever provider it came from, and a foreign signature is a 400 that wedges a session. So
//! each signature that goes to a client is noted here with its issuer, and [`crate::history`] asks for it when it comes back.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, LazyLock};

use memchr::memmem;
use serde::Deserialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::sse::Event;

/// Conversations that are remembered; the one that was quiet longest is forgotten first.
pub const CONVERSATIONS: usize = 1024;

/// Thinking blocks that are remembered of one conversation, the newest.
pub const BLOCKS: usize = 4096;

/// Issuers that are told apart in one conversation.
pub const ISSUERS: usize = 64;

/// The fingerprint of a thinking block: of its signature, of its encrypted data, or of its text where it was not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(u128);

impl Mark {
    /// As it is kept.
    pub fn number(self) -> u128 {
        self.0
    }

    /// Back from [`Mark::number`].
    pub fn from_number(number: u128) -> Self {
        Self(number)
    }

    /// Of a `signature`.
    pub fn of_signature(signature: &str) -> Self {
        Self(xxh3_128(signature.as_bytes()))
    }

    /// Of a `redacted_thinking` block's `data`.
    pub fn of_redacted(data: &str) -> Self {
        Self::of_signature(data)
    }

    /// Of the text of thinking that nobody signed.
    pub fn of_unsigned(thinking: &str) -> Self {
        let mut text = UnsignedText::default();
        text.add(thinking);
        text.mark()
    }
}

/// The text of an unsigned thought as it comes, hashed on its way.
#[derive(Default)]
struct UnsignedText {
    hash: Option<Box<Xxh3>>,
}

impl fmt::Debug for UnsignedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnsignedText")
    }
}

impl UnsignedText {
    fn add(&mut self, text: &str) {
        // Apart from signatures, should a provider ever repeat one as text.
        self.hash.get_or_insert_with(|| Box::new(Xxh3::with_seed(1))).update(text.as_bytes());
    }

    fn mark(&self) -> Mark {
        Mark(self.hash.as_ref().map_or(0, |hash| hash.digest128()))
    }
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The profile's name.
    pub profile: Arc<str>,
    /// Whether it is Anthropic's own API, to which history goes unchanged.
    pub native: bool,
}

#[derive(Debug, Default)]
struct Conversation {
    issuers: Vec<Issuer>,
    order: VecDeque<Mark>,
    last_use: u64,
}

impl Conversation {
    fn has_foreign(&self) -> bool {
        self.issuers.iter().any(|issuer| !issuer.native)
    }
}

/// Who minted what, by conversation. Bounded by [`CONVERSATIONS`] and [`BLOCKS`].
#[derive(Debug, Default)]
pub struct MintBook {
    conversations: HashMap<u64, Conversation>,
    marks: HashMap<Mark, (u64, u8)>,
    uses: u64,
}

impl MintBook {
    /// Notes that the issuer has answered in this conversation. Returns whether that is news.
    pub fn answered(&mut self, conversation: u64, issuer: &Issuer) -> bool {
        let known = self.conversations.get(&conversation).is_some_and(|known| known.issuers.contains(issuer));
        self.issuer(conversation, issuer).is_some() && !known
    }

    /// Notes that the issuer has minted a block in this conversation. The first to mint a mark keeps it. Returns whether that is news.
    pub fn minted(&mut self, conversation: u64, issuer: &Issuer, mark: Mark) -> bool {
        let Some(number) = self.issuer(conversation, issuer) else { return false };
        if self.marks.contains_key(&mark) {
            return false;
        }
        self.marks.insert(mark, (conversation, number));
        let Some(known) = self.conversations.get_mut(&conversation) else { return false };
        known.order.push_back(mark);
        if known.order.len() > BLOCKS
            && let Some(oldest) = known.order.pop_front()
        {
            self.marks.remove(&oldest);
        }
        true
    }

    /// Who minted the block, in whichever conversation: a resumed session has another name and the same history.
    pub fn issuer_of(&self, mark: Mark) -> Option<&Issuer> {
        let (conversation, number) = self.marks.get(&mark)?;
        self.conversations.get(conversation)?.issuers.get(usize::from(*number))
    }

    /// Whether only Anthropic's own API has ever answered.
    pub fn is_native(&self) -> bool {
        !self.conversations.values().any(Conversation::has_foreign)
    }

    /// Whether a conversation's history must be looked at before it goes to Anthropic's own API: another provider has had a part in it, or
    /// nothing is known of it while others have answered somewhere.
    pub fn may_hold_foreign(&self, conversation: u64) -> bool {
        self.conversations.get(&conversation).map_or_else(|| !self.is_native(), Conversation::has_foreign)
    }

    /// The issuer's number in the conversation; none when there are too many to be real.
    fn issuer(&mut self, conversation: u64, issuer: &Issuer) -> Option<u8> {
        self.uses += 1;
        if !self.conversations.contains_key(&conversation) && self.conversations.len() >= CONVERSATIONS {
            self.forget_quietest();
        }
        let known = self.conversations.entry(conversation).or_default();
        known.last_use = self.uses;
        let number = known.issuers.iter().position(|other| other == issuer).or_else(|| {
            (known.issuers.len() < ISSUERS).then(|| {
                known.issuers.push(issuer.clone());
                known.issuers.len() - 1
            })
        })?;
        u8::try_from(number).ok()
    }

    fn forget_quietest(&mut self) {
        let quietest = self.conversations.iter().min_by_key(|(_, known)| known.last_use).map(|(key, _)| *key);
        if let Some(known) = quietest.and_then(|key| self.conversations.remove(&key)) {
            for mark in known.order {
                self.marks.remove(&mark);
            }
        }
    }
}

/// Watches one streamed answer for the marks of its thinking blocks.
#[derive(Debug, Default)]
pub struct MintWatch {
    open: Option<Open>,
}

#[derive(Debug, Default)]
struct Open {
    signed: bool,
    text: UnsignedText,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    content_block: Option<RawBlock<'a>>,
    #[serde(borrow, default)]
    delta: Option<RawBlock<'a>>,
}

/// A block, or a part of one.
#[derive(Deserialize)]
struct RawBlock<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
}

impl RawBlock<'_> {
    fn signature(&self) -> Option<&str> {
        self.signature.as_deref().filter(|signature| !signature.is_empty())
    }
}

/// Made once: that costs more than to look through an event.
static THINKING: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"thinking"));

impl MintWatch {
    /// Reads one event; a mark is what its issuer has to be noted for.
    pub fn on_event(&mut self, event: &Event<'_>) -> Option<Mark> {
        // Text and tool calls are most of what comes: they are told apart without being parsed.
        let is_delta = event.data.starts_with(br#"{"type":"content_block_delta""#);
        let matters = self.open.is_some() || !is_delta && THINKING.find(event.data).is_some();
        if !matters {
            return None;
        }
        let event: RawEvent<'_> = serde_json::from_slice(event.data).ok()?;
        match &*event.kind {
            "content_block_start" => self.start(&event.content_block?),
            "content_block_delta" => self.delta(&event.delta?),
            "content_block_stop" => self.open.take().filter(|open| !open.signed && open.text.hash.is_some()).map(|open| open.text.mark()),
            _ => None,
        }
    }

    fn start(&mut self, block: &RawBlock<'_>) -> Option<Mark> {
        self.open = None;
        match &*block.kind {
            "thinking" => {
                self.open = Some(Open::default());
                self.part(block)
            }
            "redacted_thinking" => block.data.as_deref().map(Mark::of_redacted),
            _ => None,
        }
    }

    fn delta(&mut self, delta: &RawBlock<'_>) -> Option<Mark> {
        if matches!(&*delta.kind, "thinking_delta" | "signature_delta") { self.part(delta) } else { None }
    }

    fn part(&mut self, part: &RawBlock<'_>) -> Option<Mark> {
        let open = self.open.as_mut()?;
        if let Some(text) = part.thinking.as_deref().filter(|text| !text.is_empty()) {
            open.text.add(text);
        }
        let signature = part.signature()?;
        open.signed = true;
        Some(Mark::of_signature(signature))
    }
}

/// The marks of all thinking blocks of a whole JSON answer.
pub fn marks_of_answer(body: &[u8]) -> Vec<Mark> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow, default)]
        content: Vec<RawBlock<'a>>,
    }
    let content = serde_json::from_slice::<Answer<'_>>(body).map(|answer| answer.content).unwrap_or_default();
    content.iter().filter_map(mark_of_block).collect()
}

fn mark_of_block(block: &RawBlock<'_>) -> Option<Mark> {
    match &*block.kind {
        "thinking" => mark_of_thinking(block.thinking.as_deref(), block.signature.as_deref()),
        "redacted_thinking" => block.data.as_deref().map(Mark::of_redacted),
        _ => None,
    }
}

/// The mark of a `thinking` block: of its signature, else of its text; none where it has neither.
pub fn mark_of_thinking(thinking: Option<&str>, signature: Option<&str>) -> Option<Mark> {
    let given = |text: Option<&'_ str>| text.is_some_and(|text| !text.is_empty());
    match (signature, thinking) {
        (Some(signature), _) if given(Some(signature)) => Some(Mark::of_signature(signature)),
        (_, Some(text)) if given(Some(text)) => Some(Mark::of_unsigned(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Scanner;
    use proptest::prelude::*;

    fn issuer(name: &str, native: bool) -> Issuer {
        Issuer { profile: name.into(), native }
    }

    fn watched(stream: &str) -> Vec<Mark> {
        let mut watch = MintWatch::default();
        let mut marks = Vec::new();
        Scanner::new().feed(stream.as_bytes(), |event| marks.extend(watch.on_event(&event)));
        marks
    }

    fn event(data: &serde_json::Value) -> String {
        format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
    }

    fn block(start: &serde_json::Value, deltas: &[serde_json::Value]) -> String {
        let mut stream = event(&serde_json::json!({"type": "content_block_start", "index": 0, "content_block": start}));
        for delta in deltas {
            stream += &event(&serde_json::json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
        stream + &event(&serde_json::json!({"type": "content_block_stop", "index": 0}))
    }

    #[test]
    fn a_signed_thought_is_known_by_its_signature() {
        use serde_json::json;
        let stream = block(
            &json!({"type": "thinking", "thinking": "", "signature": ""}),
            &[json!({"type": "thinking_delta", "thinking": "hm"}), json!({"type": "signature_delta", "signature": "sig/=="})],
        ) + &block(&json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": "no thinking here"})]);
        assert_eq!(watched(&stream), [Mark::of_signature("sig/==")]);
        assert_eq!(watched(&stream.replace("sig/==", r"sig\/\u003d=")), [Mark::of_signature("sig/==")], "escapes are no difference");
    }

    #[test]
    fn an_unsigned_thought_is_known_by_its_text_and_a_redacted_one_by_its_data() {
        use serde_json::json;
        let thought = |parts: &[&str]| {
            let deltas: Vec<_> = parts.iter().map(|part| json!({"type": "thinking_delta", "thinking": part})).collect();
            watched(&block(&json!({"type": "thinking", "thinking": ""}), &deltas))
        };
        assert_eq!(thought(&["a longer", " thought"]), [Mark::of_unsigned("a longer thought")]);
        assert_eq!(thought(&[]), []);
        assert_eq!(watched(&block(&json!({"type": "redacted_thinking", "data": "xyz"}), &[])), [Mark::of_redacted("xyz")]);
        assert_ne!(Mark::of_unsigned("x"), Mark::of_signature("x"));
    }

    #[test]
    fn a_whole_answer_has_the_same_marks() {
        let body = br#"{"type":"message","content":[{"type":"thinking","thinking":"a","signature":"s"},{"type":"thinking","thinking":"b"},
            {"type":"thinking","thinking":"","signature":""},{"type":"redacted_thinking","data":"r"},{"type":"text","text":"t"}]}"#;
        assert_eq!(marks_of_answer(body), [Mark::of_signature("s"), Mark::of_unsigned("b"), Mark::of_redacted("r")]);
        assert_eq!(marks_of_answer(b"[]"), []);
    }

    #[test]
    fn a_conversation_needs_a_look_once_a_stranger_has_answered() {
        let mut book = MintBook::default();
        assert!(!book.may_hold_foreign(1));
        book.answered(1, &issuer("work", true));
        assert!(!book.may_hold_foreign(1));
        book.minted(2, &issuer("glm", false), Mark::of_signature("fake"));
        assert!(!book.may_hold_foreign(1), "another conversation is another history");
        assert!(book.may_hold_foreign(2));
        assert!(book.may_hold_foreign(3), "an unknown one may be a resumed one");
        assert_eq!(book.issuer_of(Mark::of_signature("fake")), Some(&issuer("glm", false)));
        assert_eq!(book.issuer_of(Mark::of_signature("other")), None);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_quietest_goes_first() {
        let mut book = MintBook::default();
        let work = issuer("work", true);
        let mark = |n: usize| Mark::of_signature(&n.to_string());
        for n in 0..=BLOCKS {
            book.minted(0, &work, mark(n));
        }
        assert_eq!((book.marks.len(), book.issuer_of(mark(0))), (BLOCKS, None));
        for conversation in 1..CONVERSATIONS as u64 {
            book.answered(conversation, &work);
        }
        book.answered(0, &work);
        book.answered(5000, &work);
        assert_eq!(book.conversations.len(), CONVERSATIONS);
        assert!(book.conversations.contains_key(&0) && !book.conversations.contains_key(&1));
        book.minted(1, &work, mark(BLOCKS + 1));
        for conversation in 0..2 * CONVERSATIONS as u64 {
            book.answered(10_000 + conversation, &work);
        }
        assert_eq!((book.conversations.len(), book.marks.len()), (CONVERSATIONS, 0), "marks go with their conversation");
    }

    proptest! {
        #[test]
        fn the_text_of_a_thought_is_one_however_it_is_split(parts in proptest::collection::vec(".{0,40}", 1..6)) {
            let mut text = UnsignedText::default();
            for part in &parts {
                text.add(part);
            }
            prop_assert_eq!(text.mark(), Mark::of_unsigned(&parts.concat()));
        }

        #[test]
        fn any_event_is_watched_without_a_panic(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut watch = MintWatch::default();
            let _ = watch.on_event(&Event { name: b"", data: &[b"thinking", &data[..]].concat(), end: 0 });
            let _ = marks_of_answer(&data);
        }
    }
}
