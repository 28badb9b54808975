//! Holds the events of a stream until they may go on, and knows what the client has seen. Never changes their bytes or their order.
//!
//! Three things are held: everything before the commit, a half-received event always, and, toward Claude Code, the end of a tool call until
//! the message's own end is known (a break is then always a break with the tool call open).

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use hotspare_core::Position;
use hotspare_core::commitment::BlockKind;
use hotspare_wire::mint::{Mark, MintWatch};
use hotspare_wire::resume;
use hotspare_wire::sse::Scanner;
use hotspare_wire::stream::{self, Fact, UsageSoFar};

/// Most bytes withheld behind the end of a tool call; then it is released.
pub const WITHHELD_CAP: usize = 32 * 1024 * 1024;

/// A stream on its way to the client.
#[derive(Debug)]
pub struct Holdback {
    scanner: Scanner,
    usage: UsageSoFar,
    /// Bytes received and not yet released; the first stands at `released` in the stream.
    bytes: VecDeque<Bytes>,
    held: usize,
    released: u64,
    /// Events received. The first `judged` were handed out by [`Holdback::next_fact`].
    facts: VecDeque<Received>,
    judged: usize,
    received: Position,
    delivered: Position,
    last_event_end: u64,
    withholds_tool_calls: bool,
    withheld_from: Option<u64>,
    barrier: Option<u64>,
    /// The text that the client has, block by block; none: it is not kept, or has grown too long.
    texts: Option<Vec<String>>,
    watch: MintWatch,
    /// Of thinking blocks that came and were not asked about yet.
    marks: Vec<Mark>,
    served: Option<Box<str>>,
}

#[derive(Debug)]
struct Received {
    end: u64,
    fact: Fact,
    /// The text it brings, where texts are kept.
    text: Option<String>,
}

/// What a stream's client needs of its holdback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// The end of a tool call waits for the message's end: for Claude Code.
    pub whole_tool_calls: bool,
    /// The delivered text is kept, so that another profile can go on from it.
    pub text: bool,
}

impl Holdback {
    /// Nothing received.
    pub fn new(wants: Wants) -> Self {
        Self {
            scanner: Scanner::new(),
            usage: UsageSoFar::default(),
            bytes: VecDeque::new(),
            held: 0,
            released: 0,
            facts: VecDeque::new(),
            judged: 0,
            received: Position::default(),
            delivered: Position::default(),
            last_event_end: 0,
            withholds_tool_calls: wants.whole_tool_calls,
            withheld_from: None,
            barrier: None,
            texts: wants.text.then(Vec::new),
            watch: MintWatch::default(),
            marks: Vec::new(),
            served: None,
        }
    }

    /// Takes the next bytes in.
    pub fn receive(&mut self, piece: Bytes) {
        let Self { scanner, usage, facts, texts, watch, marks, served, .. } = self;
        scanner.feed(&piece, |event| {
            marks.extend(watch.on_event(&event));
            let (fact, text) = match texts {
                Some(_) => stream::read_with_text(&event, usage),
                None => (stream::read(&event, usage), None),
            };
            if let Fact::Start { model } = &fact {
                served.get_or_insert_with(|| model.clone());
            }
            facts.push_back(Received { end: event.end, fact, text });
        });
        self.held += piece.len();
        self.bytes.push_back(piece);
        if self.held > WITHHELD_CAP {
            self.withheld_from = None;
            self.withholds_tool_calls = false;
        }
    }

    /// The marks of the thinking blocks that came since this was last asked.
    pub fn take_marks(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks)
    }

    /// The model that the answer itself names.
    pub fn served(&self) -> Option<&str> {
        self.served.as_deref().filter(|model| !model.is_empty())
    }

    /// The next event that was not judged yet.
    pub fn next_fact(&mut self) -> Option<Fact> {
        let received = self.facts.get(self.judged)?;
        let (end, fact) = (received.end, received.fact.clone());
        self.judged += 1;
        self.withhold(end, &fact);
        fact.apply(&mut self.received);
        self.last_event_end = end;
        Some(fact)
    }

    fn withhold(&mut self, end: u64, fact: &Fact) {
        match fact {
            Fact::BlockStop if self.withholds_tool_calls && self.tool_call_is_open() => {
                self.withheld_from.get_or_insert(self.last_event_end);
            }
            Fact::MessageDelta { .. } | Fact::Stop => self.withheld_from = None,
            // Neither is passed on after the commit: what follows is decided, not relayed.
            Fact::Error { .. } | Fact::Malformed => {
                self.barrier.get_or_insert(self.last_event_end);
            }
            _ => {}
        }
        debug_assert!(end > self.last_event_end, "events come in order");
    }

    fn tool_call_is_open(&self) -> bool {
        self.received.open.is_some_and(|open| open.kind == BlockKind::ToolCall)
    }

    /// Whether an error is among the events that came but were not judged yet.
    pub fn error_is_coming(&self) -> bool {
        self.facts.iter().skip(self.judged).any(|received| matches!(received.fact, Fact::Error { .. }))
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether the end of a tool call is being withheld.
    pub fn is_withholding(&self) -> bool {
        self.withheld_from.is_some()
    }

    /// What the client has seen.
    pub fn delivered(&self) -> &Position {
        &self.delivered
    }

    /// What of the message has come and was judged, released or not.
    pub fn received(&self) -> &Position {
        &self.received
    }

    /// Whether the stream has grown past reading.
    pub fn gave_up(&self) -> bool {
        self.scanner.gave_up()
    }

    /// The token counts told so far.
    pub fn usage(&self) -> &UsageSoFar {
        &self.usage
    }

    /// An error event that was judged harmless is passed on like any other.
    pub fn lift_barrier(&mut self) {
        self.barrier = None;
    }

    /// Moves what may go on into `out`. Only judged events go.
    pub fn release(&mut self, out: &mut impl Extend<Bytes>) {
        let unjudged = if self.judged < self.facts.len() { self.last_event_end } else { u64::MAX };
        let limit = self.scanner.boundary().min(self.withheld_from.unwrap_or(u64::MAX)).min(self.barrier.unwrap_or(u64::MAX)).min(unjudged);
        self.release_to(limit, out);
    }

    /// Moves everything into `out`, half events too: the stream is complete.
    pub fn release_all(&mut self, out: &mut impl Extend<Bytes>) {
        self.release_to(self.barrier.unwrap_or(u64::MAX), out);
    }

    fn release_to(&mut self, limit: u64, out: &mut impl Extend<Bytes>) {
        while self.released < limit {
            let Some(front) = self.bytes.front_mut() else { break };
            let room = usize::try_from(limit - self.released).unwrap_or(usize::MAX);
            let piece = if front.len() <= room { self.bytes.pop_front().unwrap_or_default() } else { front.copy_to_bytes(room) };
            self.released += piece.len() as u64;
            self.held -= piece.len();
            if !piece.is_empty() {
                out.extend([piece]);
            }
        }
        while let Some(received) = self.facts.pop_front_if(|received| received.end <= self.released) {
            received.fact.apply(&mut self.delivered);
            self.judged = self.judged.saturating_sub(1);
            self.keep_text(&received);
        }
    }

    fn keep_text(&mut self, received: &Received) {
        let Some(texts) = &mut self.texts else { return };
        match (&received.fact, &received.text) {
            (Fact::BlockStart { kind: BlockKind::Text, .. }, _) => texts.push(String::new()),
            (_, Some(text)) => {
                if let Some(last) = texts.last_mut() {
                    last.push_str(text);
                }
            }
            _ => {}
        }
        if texts.iter().map(String::len).sum::<usize>() > resume::TEXT_CAP {
            self.texts = None;
        }
    }

    /// The text that the client has, block by block; none where it was not kept.
    pub fn texts(&self) -> Option<&[String]> {
        self.texts.as_deref()
    }

    /// Another provider goes on: what the first one's client has not seen is forgotten, and its events are the next to come.
    pub fn splice(&mut self) {
        self.scanner = Scanner::new();
        self.bytes.clear();
        self.facts.clear();
        (self.held, self.released, self.judged, self.last_event_end) = (0, 0, 0, 0);
        (self.withheld_from, self.barrier) = (None, None);
        self.received = self.delivered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLAUDE: Wants = Wants { whole_tool_calls: true, text: false };

    fn event(name: &str, data: &str) -> String {
        format!("event: {name}\ndata: {data}\n\n")
    }

    fn tool_answer() -> Vec<String> {
        vec![
            event("message_start", r#"{"type":"message_start","message":{"usage":{"output_tokens":1}}}"#),
            event("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
            event("content_block_delta", r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#),
            event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
            event(
                "content_block_start",
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}"#,
            ),
            event(
                "content_block_delta",
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            ),
            event("content_block_stop", r#"{"type":"content_block_stop","index":1}"#),
            event("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#),
            event("message_stop", r#"{"type":"message_stop"}"#),
        ]
    }

    fn drain(hold: &mut Holdback) -> String {
        while hold.next_fact().is_some() {}
        let mut out = VecDeque::new();
        hold.release(&mut out);
        String::from_utf8(out.iter().flat_map(|piece| piece.to_vec()).collect()).unwrap()
    }

    #[test]
    fn the_end_of_a_tool_call_waits_for_the_message_s_end_toward_claude_code() {
        let events = tool_answer();
        let mut hold = Holdback::new(CLAUDE);
        hold.receive(events[..6].concat().into());
        assert_eq!(drain(&mut hold), events[..6].concat());
        hold.receive(events[6].clone().into());
        assert_eq!(drain(&mut hold), "");
        assert!(hold.is_withholding());
        assert!(hold.delivered().open.is_some_and(|open| open.kind == BlockKind::ToolCall));
        hold.receive(events[7].clone().into());
        assert_eq!(drain(&mut hold), events[6..8].concat());
        assert!(!hold.is_withholding() && hold.delivered().closed_tool_call && hold.delivered().stop_reason);
    }

    #[test]
    fn programs_get_every_byte_live() {
        let events = tool_answer();
        let mut hold = Holdback::new(Wants::default());
        hold.receive(events[..7].concat().into());
        assert_eq!(drain(&mut hold), events[..7].concat());
    }

    #[test]
    fn half_an_event_is_never_passed_on() {
        let mut hold = Holdback::new(CLAUDE);
        hold.receive("event: ping\ndata: {}\n\nevent: content_block_de".into());
        assert_eq!(drain(&mut hold), "event: ping\ndata: {}\n\n");
        assert_eq!(hold.held(), 23);
    }

    #[test]
    fn an_error_event_stops_the_stream_before_it() {
        let events = tool_answer();
        let mut hold = Holdback::new(CLAUDE);
        let error = event("error", r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#);
        hold.receive((events[..3].concat() + &error).into());
        assert!(hold.error_is_coming());
        assert_eq!(drain(&mut hold), events[..3].concat());
        let mut out = VecDeque::new();
        hold.release_all(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn the_delivered_text_is_kept_where_it_is_wanted_and_no_more_of_it() {
        let events = tool_answer();
        let mut hold = Holdback::new(Wants { text: true, ..CLAUDE });
        hold.receive(events[..2].concat().into());
        drain(&mut hold);
        assert_eq!(hold.texts().map(<[String]>::concat), Some(String::new()));
        hold.receive(events[2].clone().into());
        assert_eq!(hold.texts().map(<[String]>::concat), Some(String::new()), "not delivered yet");
        drain(&mut hold);
        assert_eq!(hold.texts().map(<[String]>::concat), Some("Hi".to_owned()));
        let mut unwanted = Holdback::new(CLAUDE);
        unwanted.receive(events.concat().into());
        drain(&mut unwanted);
        assert_eq!(unwanted.texts(), None);
    }

    #[test]
    fn a_splice_forgets_what_was_not_delivered_and_goes_on_from_what_was() {
        let events = tool_answer();
        let mut hold = Holdback::new(Wants { text: true, ..CLAUDE });
        hold.receive((events[..3].concat() + "event: content_block_del").into());
        drain(&mut hold);
        hold.splice();
        assert_eq!(hold.held(), 0);
        hold.receive(events[2..4].concat().into());
        assert_eq!(drain(&mut hold), events[2..4].concat());
        assert!(hold.delivered().closed_text && hold.delivered().open.is_none());
        assert_eq!(hold.texts().map(<[String]>::concat), Some("HiHi".to_owned()));
    }

    proptest! {
        #[test]
        fn whatever_the_splits_the_bytes_are_the_upstream_s_own(cuts in proptest::collection::vec(0usize..1200, 0..12), claude in any::<bool>()) {
            let stream = tool_answer().concat();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.push(stream.len());
            cuts.sort_unstable();
            let mut hold = Holdback::new(Wants { whole_tool_calls: claude, text: true });
            let mut sent = String::new();
            let mut from = 0;
            for cut in cuts {
                hold.receive(Bytes::copy_from_slice(&stream.as_bytes()[from..cut]));
                from = cut;
                sent += &drain(&mut hold);
                prop_assert!(stream.starts_with(&sent));
                prop_assert!(sent.is_empty() || sent.ends_with("\n\n") || sent.ends_with('\n'));
            }
            prop_assert_eq!(sent, stream);
        }
    }
}
