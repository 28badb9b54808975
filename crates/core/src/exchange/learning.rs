//! Says what a failure means for the memory of everybody: the profile's health, and whom this request and this session do better without
//! for a while. Never decides what follows for the request.

use std::time::{Duration, Instant};

use super::Exchange;
use super::run::{Phase, Run};
use crate::commitment::Position;
use crate::failure::{Failure, FailureKind, Grip, Stage, Strike};
use crate::health::{Standing, Victim};
use crate::policy::{DETOUR_CAP, IMPATIENCE_DETOUR, SESSION_DETOUR, SESSION_DETOUR_AFTER_THINKING};
use crate::route::{Candidate, ProfileId};
use crate::world::Surroundings;

impl Exchange {
    pub(super) fn victim(&self, now: Instant, candidate: &Candidate, at: &Surroundings<'_>) -> Victim {
        Victim {
            profile: candidate.profile,
            family: candidate.family(&self.facts),
            credential: if candidate.terms.client_login { self.facts.own_credential } else { None },
            host: candidate.terms.host,
            another_usable: self.other_usable(now, candidate.profile, at),
            asked: None,
            request: at.request_key,
        }
    }

    /// Learns from a client that left, or is about to leave, while this attempt had no content for it.
    pub(super) fn learn_from_impatience(&self, now: Instant, run: &Run, at: &mut Surroundings<'_>) {
        if !self.facts.endpoint.moves_health() || !run.keeps_client_waiting(now) && !run.is_cut_short(now) {
            return;
        }
        let profile = run.candidate.profile;
        at.world.health.abandon(profile, run.candidate.family(&self.facts));
        if run.phase != Phase::Flowing {
            at.world.health.on_given_up(profile);
        }
        if let Some(key) = at.request_key {
            at.world.retries.avoid_for_request(now, key, profile, IMPATIENCE_DETOUR);
        }
    }

    /// Learns from an answer what it says of a refusal before it: another profile took what the first one refused, so the refusal was the
    /// account's or the provider's.
    pub(super) fn learn_from_answer(&self, now: Instant, served_by: ProfileId, at: &mut Surroundings<'_>) {
        let refusals = self.attempts.iter().filter(|attempt| attempt.profile != served_by);
        let refusals = refusals.filter_map(|attempt| Some((attempt.profile, attempt.failure.as_ref()?.kind)));
        for (profile, kind) in refusals.filter(|(_, kind)| kind.is_refusal()) {
            self.skip_for_conversation(now, profile, kind, at);
            if kind == FailureKind::Refused {
                at.world.health.on_overruled(now, profile, self.facts.whole_session);
            }
        }
    }

    /// Skips the profile for this conversation, or for this request where it is side traffic or has no session.
    fn skip_for_conversation(&self, now: Instant, profile: ProfileId, because: FailureKind, at: &mut Surroundings<'_>) {
        match self.facts.detour_key() {
            Some(session) => at.world.retries.refused_session(now, session, profile, because),
            None => {
                if let Some(key) = at.request_key {
                    at.world.retries.refused_request(now, key, profile, because);
                }
            }
        }
    }

    /// Whether the credential is read anew before this rejection is believed.
    pub(super) fn rereads(&self, run: &Run, failure: &Failure) -> bool {
        failure.kind == FailureKind::Unauthorized && run.candidate.terms.rereadable && !self.reread_used && self.may_try_again()
    }

    /// Counts what has begun against the request's limit. Only a session tells a client's own retry from another client's same words.
    pub(super) fn count_attempts(&mut self, now: Instant, at: &mut Surroundings<'_>) {
        let (Some(key), Some(_), true) = (at.request_key, self.facts.session, self.facts.endpoint.moves_health()) else { return };
        for record in &self.attempts[self.counted..] {
            at.world.retries.count_attempt(now, key, record.started);
        }
        self.counted = self.attempts.len();
    }

    pub(super) fn learn(&self, now: Instant, run: &Run, failure: &Failure, position: &Position, at: &mut Surroundings<'_>) {
        // A key that was rotated is no fault of the profile: others go on asking it while the new one is read.
        if !self.facts.endpoint.moves_health() || self.rereads(run, failure) {
            return;
        }
        let will_be_repaired = failure.repaired && !self.repair_used;
        if failure.kind.is_refusal() && !will_be_repaired && !self.is_primary(run.candidate.profile) {
            self.skip_for_conversation(now, run.candidate.profile, failure.kind, at);
        }
        let victim = Victim { asked: Some(run.began), ..self.victim(now, &run.candidate, at) };
        let verdict = failure.verdict();
        let is_of_the_account = verdict.bench.is_some_and(|(_, grip)| grip >= Grip::Hard);
        if self.facts.side && !is_of_the_account {
            // A failed title says nothing of the turns beside it, whatever model it was for.
            at.world.health.abandon(victim.profile, victim.family);
        } else {
            at.world.health.on_failure(now, &victim, failure, at.dice);
        }
        if verdict.bench.is_none() && verdict.strike == Strike::None {
            return;
        }
        let least = if position.closed_thinking { SESSION_DETOUR_AFTER_THINKING } else { SESSION_DETOUR };
        let lost = if failure.timed_out() { now.saturating_duration_since(run.began) } else { Duration::ZERO };
        let time = least.max(lost * 2).min(DETOUR_CAP);
        if let Some(key) = at.request_key {
            at.world.retries.avoid_for_request(now, key, victim.profile, time);
        }
        if let (Stage::Committed, Some(session)) = (failure.stage, self.facts.detour_key()) {
            at.world.retries.avoid_for_session(now, session, victim.profile, time);
        }
    }

    pub(super) fn other_usable(&self, now: Instant, profile: ProfileId, at: &Surroundings<'_>) -> bool {
        let others = self.plan.candidates.iter().filter(|candidate| candidate.profile != profile);
        others.map(|candidate| self.standing(now, candidate, at)).any(|standing| standing == Standing::Usable)
    }
}
