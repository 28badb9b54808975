//! Passes answers of other companies through [`hotspare_wire::transcript`], so that what the client keeps of them is valid at Anthropic.
//!
//! The order matters: an answer is made valid first, and everything else (resuming, holding back, judging) reads what the client will see.

use std::time::Duration;

use bytes::Bytes;
use hotspare_upstream::{Target, clock};
use hotspare_wire::tool_id::Tag;
use hotspare_wire::transcript::{self, Rules, TakenIds, Transcript};

use super::Driver;
use crate::history::company;

/// Longest that an answer is held while it only thinks and the client sees nothing of it. Until then another profile may still answer; the
/// clock for the first content would run out some time later.
const MAX_HIDDEN_HOLD: Duration = Duration::from_secs(30);

/// Anthropic's own API.
const ANTHROPIC: &str = "api.anthropic.com";

impl Driver {
    /// How an attempt's answer is made valid. `None` if it goes on byte for byte.
    fn rules(&self, place: usize) -> Option<Rules> {
        let attempt = self.attempts.get(place)?;
        let target: &Target = &attempt.target;
        let is_primary = self.exchange.attempts().get(usize::from(attempt.id.0))?.profile == self.exchange.plan().primary;
        let native = target.platform.is_native();
        if !self.request.is_messages || native && (is_primary || target.host == ANTHROPIC) {
            return None;
        }
        Some(Rules { tag: Tag::of(&company(target)), foreign: !native })
    }

    /// Whether anything of an attempt's answer may have to change: then a compressed one is decoded first.
    pub(super) fn is_made_valid(&self, place: usize) -> bool {
        self.rules(place).is_some()
    }

    fn taken_ids(&self) -> TakenIds {
        self.request.body.text_if_here().map(|text| TakenIds::of(&text)).unwrap_or_default()
    }

    /// Takes the next bytes of an event stream in.
    pub(super) fn take_in(&mut self, place: usize, data: &Bytes) {
        if self.attempts[place].transcript.is_none() {
            let transcript = self.rules(place).map(|rules| Box::new(Transcript::new(rules, self.taken_ids())));
            self.attempts[place].transcript = Some((clock::now(), transcript));
        }
        let attempt = &mut self.attempts[place];
        let Some((began, Some(transcript))) = &mut attempt.transcript else { return attempt.receive(data.clone()) };
        let (began, valid) = (*began, transcript.feed(data));
        let (left, thinks) = (transcript.take_left(), transcript.take_thinking());
        self.gateway.histories().remember_left(&attempt.target, left);
        if !valid.is_empty() {
            attempt.receive(valid);
        }
        if thinks {
            self.on_hidden_thinking(place, began);
        }
    }

    /// The company is at work, although the client sees nothing of it.
    fn on_hidden_thinking(&mut self, place: usize, began: std::time::Instant) {
        let (now, attempt) = (clock::now(), &self.attempts[place]);
        let id = attempt.id;
        let hold = MAX_HIDDEN_HOLD.min(attempt.first_content / 2);
        if self.exchange.is_flowing(id) {
            self.exchange.on_content(now, id);
        } else if now.saturating_duration_since(began) >= hold && !attempt.hold.error_is_coming() {
            self.with_world(|exchange, at| exchange.on_first_content(now, id, at));
        }
    }

    /// The stream has ended: what is left of it goes on.
    pub(super) fn finish_transcript(&mut self, place: usize) {
        let attempt = &mut self.attempts[place];
        if let Some((_, Some(transcript))) = &mut attempt.transcript {
            let rest = transcript.finish();
            if !rest.is_empty() {
                attempt.receive(rest);
            }
        }
    }

    /// A whole answer as the client gets it. `unpacked` is the body as it reads; an answer that changes goes on uncompressed.
    pub(super) fn valid_whole(&mut self, place: usize, unpacked: &Bytes) -> Option<Bytes> {
        let rules = self.rules(place)?;
        let (body, left) = transcript::whole(unpacked, rules, self.taken_ids())?;
        self.gateway.histories().remember_left(&self.attempts[place].target, left);
        Some(body)
    }

    /// The body that goes on is not the one that the head describes.
    pub(super) fn drop_coding(&mut self, place: usize) {
        if let Some(head) = &mut self.attempts[place].head {
            hotspare_upstream::headers::drop_body_description(&mut head.headers);
            head.headers.remove(http::header::ETAG);
        }
    }
}
