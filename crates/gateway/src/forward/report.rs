//! Gathers what is told of an exchange when it is over. Never keeps a prompt, an answer's text or a credential.

use std::time::{Duration, Instant};

use hotspare_core::attempt::AttemptRecord;
use hotspare_core::record::{
    AttemptEntry, Decision, ExchangeRecord, RECORD_VERSION, RulingEntry, SESSION_ID_CAP, SkippedEntry, Tokens, words,
};
use hotspare_core::{AttemptId, DrillMark, Exchange, FailureKind, Plan, ProfileId, Stage};
use http::HeaderMap;

use crate::answer;
use crate::snapshot::Snapshot;

/// What is known of one attempt beside the core's own record.
#[derive(Debug, Clone, Default)]
pub(super) struct Note {
    pub connected: Option<Instant>,
    pub status: Option<u16>,
    pub tokens: Tokens,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub changed: Vec<String>,
}

/// What is known of an exchange beside the core's own state.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    /// The client's own ids of its session and of who asks in it.
    pub session: Option<String>,
    pub agent: Option<String>,
    pub attempts: Vec<Note>,
    /// The status that the client got.
    pub status: Option<u16>,
    /// The profile whose refusal was relayed, from this exchange or an earlier one.
    pub refused_by: Option<ProfileId>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub stream: bool,
    /// A drill had a hand in it.
    pub drill: Option<DrillMark>,
    /// What the user's hooks said.
    pub rulings: Vec<RulingEntry>,
}

impl Notes {
    /// What is known before anybody was asked.
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        Self {
            session: own_id(headers, "x-claude-code-session-id"),
            agent: own_id(headers, "x-claude-code-agent-id"),
            attempts: Vec::with_capacity(1),
            ..Self::default()
        }
    }

    /// The note of an attempt, made when it is first asked for.
    pub(super) fn of(&mut self, id: AttemptId) -> &mut Note {
        let place = usize::from(id.0);
        if self.attempts.len() <= place {
            self.attempts.resize_with(place + 1, Note::default);
        }
        &mut self.attempts[place]
    }
}

/// The one record of an exchange. None: it has not ended.
pub(super) fn record(
    id: u64,
    at_ms: u64,
    took: Duration,
    exchange: &Exchange,
    snapshot: &Snapshot,
    notes: &Notes,
) -> Option<ExchangeRecord> {
    let outcome = exchange.outcome()?;
    let facts = exchange.facts();
    let plan = exchange.plan();
    let attempts = exchange.attempts();
    let served = attempts.iter().rposition(|attempt| attempt.first_content.is_some() || attempt.decision == Some(Decision::Commit));
    let served_by = served.map(|place| attempts[place].profile);
    // No provider was asked, so nobody is owed.
    let played = notes.drill.is_some_and(|drill| !drill.live);
    let entries: Vec<AttemptEntry> = attempts
        .iter()
        .enumerate()
        .map(|(place, attempt)| entry(attempt, exchange, snapshot, &notes.attempts.get(place).cloned().unwrap_or_default(), played))
        .collect();
    Some(ExchangeRecord {
        version: RECORD_VERSION,
        id,
        at_ms,
        took_us: micros(took),
        endpoint: facts.endpoint,
        client: facts.client,
        session: notes.session.clone(),
        agent: notes.agent.clone(),
        model: facts.model.as_ref().map(ToString::to_string),
        stream: notes.stream,
        chain: plan.chain.to_string(),
        rule: snapshot.origin(&plan.chain).map(str::to_owned),
        folder: snapshot.folder.as_deref().map(words),
        limited: snapshot.limited_for(facts).map(|reason| words(&reason.words())),
        outcome,
        status: notes.status,
        served_by: served_by.map(|profile| snapshot.name(profile).to_owned()),
        on_spare: served_by.is_some_and(|profile| profile != plan.primary),
        refused_by: notes.refused_by.map(|profile| snapshot.name(profile).to_owned()),
        request_bytes: notes.request_bytes,
        response_bytes: notes.response_bytes,
        changed: served.and_then(|place| notes.attempts.get(place)).map(|note| note.changed.clone()).unwrap_or_default(),
        skipped: skipped(plan, attempts, snapshot),
        cold_prefix_tokens: served.and_then(|place| cold_prefix(&attempts[place], &entries[place].tokens)),
        est_cost_micro_usd: entries.iter().filter_map(|entry| entry.cost_micro_usd).reduce(u64::saturating_add),
        drill: notes.drill,
        attempts: entries,
        rulings: notes.rulings.clone(),
    })
}

/// Who was left out, and who was passed over and not asked later either.
fn skipped(plan: &Plan, attempts: &[AttemptRecord], snapshot: &Snapshot) -> Vec<SkippedEntry> {
    let left_out = plan.skipped.iter().map(|skipped| (skipped.profile, answer::skip_words(&skipped.reason)));
    let asked = |profile: ProfileId| attempts.iter().any(|attempt| attempt.profile == profile);
    let passed_over =
        plan.passed_over.iter().filter(|(profile, _)| !asked(*profile)).map(|(profile, why)| (*profile, why.words().to_owned()));
    left_out.chain(passed_over).map(|(profile, reason)| SkippedEntry { profile: snapshot.name(profile).to_owned(), reason }).collect()
}

fn entry(attempt: &AttemptRecord, exchange: &Exchange, snapshot: &Snapshot, note: &Note, played: bool) -> AttemptEntry {
    let since = |at: Instant| micros(at.saturating_duration_since(exchange.started()));
    let failure = attempt.failure.as_ref();
    // Sent, and no head came back: the provider may have worked all the same.
    let unheard = failure.is_some_and(|failure| {
        failure.stage > Stage::Connect && matches!(failure.kind, FailureKind::HeadTimeout | FailureKind::Stalled | FailureKind::StreamDied)
    });
    let model = attempt.model.as_ref().or(exchange.facts().model.as_ref());
    let on_plan = !played && snapshot.is_on_plan(attempt.profile, exchange.facts());
    let price = model.filter(|_| !on_plan && !played).and_then(|model| snapshot.price(attempt.profile, model));
    AttemptEntry {
        profile: snapshot.name(attempt.profile).to_owned(),
        model: model.map(ToString::to_string),
        kind: attempt.kind,
        started_us: since(attempt.started),
        connect_us: note.connected.map(since),
        head_us: attempt.head.map(since),
        first_content_us: attempt.first_content.map(since),
        ended_us: attempt.ended.map(since),
        status: note.status.or(failure.and_then(|failure| failure.status)),
        class: failure.map(|failure| failure.kind),
        stage: failure.map(|failure| failure.stage),
        detail: failure.map(ToString::to_string),
        decision: attempt.decision.unwrap_or(Decision::Drop),
        reason: failure.map(|failure| failure.kind.word().to_owned()),
        tokens: note.tokens,
        bytes_up: note.bytes_up,
        bytes_down: note.bytes_down,
        wasted: attempt.wasted,
        maybe_billed: (unheard || attempt.wasted) && note.tokens == Tokens::default(),
        cost_micro_usd: price.and_then(|price| price.cost(&note.tokens)),
        on_plan,
    }
}

/// What of the context a move away from a warm prompt cache had to read anew, as the provider counted it.
fn cold_prefix(attempt: &AttemptRecord, tokens: &Tokens) -> Option<u64> {
    let counted = tokens.input.is_some() || tokens.cache_write.is_some();
    let read = tokens.input.unwrap_or_default().saturating_add(tokens.cache_write.unwrap_or_default());
    (attempt.cold && counted).then_some(read)
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The client's own id as it was sent, cut to what is kept.
fn own_id(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    let id: String = text.chars().filter(char::is_ascii_graphic).take(SESSION_ID_CAP).collect();
    (!id.is_empty()).then_some(id)
}
