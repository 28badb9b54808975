//! The moments of an exchange at which the user's hooks are called: asks those that have a say, and tells the others. Never decides what
//! their word means for the exchange.

use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};

use hotspare_config::Hook;
use hotspare_core::attempt::AttemptRecord;
use hotspare_core::price::Price;
use hotspare_core::record::{self, ExchangeRecord, RulingEntry};
use hotspare_core::{AttemptId, AttemptKind, Consultation, FailureKind, HookEvent, Outcome, ProfileId, Ruling, UsageWindow};
use hotspare_upstream::clock;

use super::Driver;
use super::report::micros;
use crate::hooks::input::HookInput;
use crate::hooks::word::Verdict;
use crate::hooks::{Word, matching};

/// Hooks that are being asked.
pub(super) struct Consulting {
    asked: Consultation,
    words: Pin<Box<dyn Future<Output = Vec<Word>> + Send>>,
}

impl Driver {
    /// Asks the user's hooks. Where none is called for this failure, nobody has anything to say.
    pub(super) fn consult(&mut self, asked: &Consultation) {
        let mut input = self.input(asked.event).failed(asked.failure, asked.status);
        input = input.between(self.snapshot.name(asked.from), Some(self.snapshot.name(asked.to)));
        input.candidates = asked.candidates.iter().map(|profile| self.snapshot.name(*profile).to_owned()).collect();
        input.attempt = Some(asked.attempt as u64);
        // Whoever has a say must be able to tell; whoever is only told hears nothing of a drill.
        input.detail = self.gateway.is_shadow().then(|| "a drill: the failure is not real".to_owned());
        if asked.model.is_some() {
            input = input.with_model(asked.model.as_deref());
        }
        input.est_cost_usd = self.price_of_a_move(asked);
        let hooks: Vec<Hook> = matching(&self.snapshot.hooks, &input).cloned().collect();
        if hooks.is_empty() {
            return self.with_exchange(|exchange, at| exchange.on_ruling(clock::now(), Ruling::Allow, at));
        }
        let words = self.gateway.hooks().clone().ask(hooks, input, asked.until);
        self.consulting = Some(Consulting { asked: asked.clone(), words: Box::pin(words) });
    }

    /// Waits for what the hooks say, and tells the exchange.
    pub(super) fn poll_word(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(consulting) = &mut self.consulting else { return Poll::Pending };
        let words = ready!(consulting.words.as_mut().poll(cx));
        let asked = consulting.asked.clone();
        self.consulting = None;
        let ruling = self.rule(&asked, words);
        self.with_exchange(|exchange, at| exchange.on_ruling(clock::now(), ruling, at));
        Poll::Ready(())
    }

    /// One ruling from all words. All of them stand in the record.
    fn rule(&mut self, asked: &Consultation, words: Vec<Word>) -> Ruling {
        let names: Vec<String> = asked.candidates.iter().map(|profile| self.snapshot.name(*profile).to_owned()).collect();
        let words: Vec<Word> = words.into_iter().map(|word| Word { said: word.said.within(&names), ..word }).collect();
        let ruling = match Verdict::of(words.iter().map(|word| &word.said)) {
            Verdict::Allow => Ruling::Allow,
            Verdict::Block => Ruling::Block,
            Verdict::Use(name) => self.snapshot.id(&name).map_or(Ruling::Allow, Ruling::Use),
        };
        for word in words {
            let (said, profile, reason) = word.said.parts();
            self.notes.rulings.push(RulingEntry {
                event: asked.event,
                from: self.snapshot.name(asked.from).to_owned(),
                to: self.snapshot.name(asked.to).to_owned(),
                hook: word.hook,
                word: said,
                profile,
                reason,
                asked_us: micros(word.asked.saturating_duration_since(self.exchange.started())),
                took_us: micros(word.took),
            });
        }
        ruling
    }

    /// What a budget would set aside for it, in US dollars; none where no price is known, or the client's own login pays.
    fn price_of_a_move(&self, asked: &Consultation) -> Option<f64> {
        let target = self.snapshot.target(asked.to).filter(|target| !target.credential.is_client())?;
        let model = asked.model.as_ref().or(self.exchange.facts().model.as_ref())?;
        let micro = Price::of(target.platform, model)?.reserve(Some(self.request.body.received()));
        Some(f64::from(u32::try_from(micro).ok()?) / 1e6)
    }

    /// What is known of this exchange whatever happens.
    fn input(&self, event: HookEvent) -> HookInput {
        let mut input = HookInput::new(event).with_model(self.exchange.facts().model.as_deref());
        input.session_id.clone_from(&self.notes.session);
        input.request_id = Some(record::id_text(self.id));
        input.config.clone_from(&self.snapshot.config_file);
        input
    }

    fn tell_hooks(&self, input: &HookInput) {
        if self.gateway.is_shadow() {
            return;
        }
        self.gateway.hooks().tell(&self.snapshot.hooks, input);
    }

    /// Attempts that have failed since there were `before` failures.
    pub(super) fn tell_of_failures(&self, before: usize) {
        if !self.snapshot.has_hooks(HookEvent::AttemptFailure) {
            return;
        }
        let mut failed: Vec<(usize, &AttemptRecord)> =
            self.exchange.attempts().iter().enumerate().filter(|(_, attempt)| attempt.failure.is_some()).collect();
        failed.sort_by_key(|(_, attempt)| attempt.ended);
        for (place, attempt) in failed.into_iter().skip(before) {
            let mut input = self.input(HookEvent::AttemptFailure).between(self.snapshot.name(attempt.profile), None);
            input = with_failure_of(input, attempt);
            if attempt.model.is_some() {
                input = input.with_model(attempt.model.as_deref());
            }
            input.attempt = Some(place as u64 + 1);
            self.tell_hooks(&input);
        }
    }

    /// The client gets this attempt's answer: whether that is another profile's.
    pub(super) fn tell_of_a_move(&self, id: AttemptId) {
        let place = usize::from(id.0);
        let Some(attempt) = self.exchange.attempts().get(place).filter(|_| self.snapshot.has_hooks(HookEvent::PostFailover)) else {
            return;
        };
        let left = self.exchange.attempts()[..place].iter().rev().find(|earlier| earlier.profile != attempt.profile);
        let from = match (attempt.kind, left) {
            (AttemptKind::Failover | AttemptKind::Resume | AttemptKind::Hedge | AttemptKind::Retry, Some(left)) => left.profile,
            _ if self.exchange.began_elsewhere() => self.exchange.plan().primary,
            _ => return,
        };
        let mut input = self.input(HookEvent::PostFailover).between(self.snapshot.name(from), Some(self.snapshot.name(attempt.profile)));
        if let Some(left) = left {
            input = with_failure_of(input, left);
        }
        if attempt.model.is_some() {
            input = input.with_model(attempt.model.as_deref());
        }
        input.attempt = Some(place as u64 + 1);
        self.tell_hooks(&input);
    }

    /// The windows of an attempt's profile that are nearly used up; none: nobody wants to know.
    pub(super) fn windows_near(&self, id: AttemptId) -> Option<Vec<UsageWindow>> {
        let profile = self.exchange.attempts().get(usize::from(id.0))?.profile;
        self.snapshot.has_hooks(HookEvent::LimitWarning).then(|| {
            let report = self.gateway.with_world(|world| world.health.report(clock::now(), profile));
            report.windows.into_iter().filter(UsageWindow::is_near).collect()
        })
    }

    /// Windows that have come near their end by what an answer said, and those that are used up now.
    pub(super) fn tell_of_limits(&self, id: AttemptId, before: Option<&[UsageWindow]>) {
        let (Some(before), Some(after)) = (before, self.windows_near(id)) else { return };
        let told = |window: &UsageWindow| before.iter().any(|known| known.name == window.name && known.status == window.status);
        let Some(attempt) = self.exchange.attempts().get(usize::from(id.0)) else { return };
        for window in after.iter().filter(|window| !told(window)) {
            let mut input = self.input(HookEvent::LimitWarning).between(self.snapshot.name(attempt.profile), None);
            input.detail = Some(window_words(window));
            self.tell_hooks(&input);
        }
    }

    /// It is over: whether nobody could answer, whether a session came home, and who is in use now.
    pub(super) fn tell_of_the_end(&self, record: &ExchangeRecord) {
        if self.exchange.found_nobody() && record.outcome != Outcome::Cancelled {
            let best = self.exchange.attempts().iter().filter(|attempt| attempt.failure.is_some());
            let best = best.max_by_key(|attempt| attempt.failure.as_ref().map(hotspare_core::Failure::recoverability));
            let primary = self.snapshot.name(best.map_or(self.exchange.plan().primary, |attempt| attempt.profile));
            let mut input = self.input(HookEvent::Exhausted).between(primary, None);
            if let Some(attempt) = best {
                input = with_failure_of(input, attempt);
            }
            input.attempt = Some(record.attempts.len() as u64);
            self.tell_hooks(&input);
        }
        if let Some((from, to)) = self.exchange.left().zip(record.served_by.as_deref().and_then(|name| self.snapshot.id(name)))
            && record.outcome == Outcome::Served
            && self.snapshot.is_better(&record.chain, to, from)
        {
            self.tell_hooks(&self.input(HookEvent::Failback).between(self.snapshot.name(from), Some(self.snapshot.name(to))));
        }
        self.tell_who_is_in_use();
    }

    /// The HTTP status with which the profile last failed so in this exchange.
    fn status_of(&self, profile: ProfileId, kind: FailureKind) -> Option<u16> {
        let failures = self.exchange.attempts().iter().filter(|attempt| attempt.profile == profile);
        failures.filter_map(|attempt| attempt.failure.as_ref()).rfind(|failure| failure.kind == kind)?.status
    }

    fn tell_who_is_in_use(&self) {
        let wanted = self.snapshot.has_hooks(HookEvent::ProfileDown) || self.snapshot.has_hooks(HookEvent::ProfileUp);
        if !wanted || self.gateway.is_shadow() {
            return;
        }
        let now = clock::now();
        let mut down = self.gateway.hooks().down.lock().unwrap_or_else(PoisonError::into_inner);
        for id in self.snapshot.ids() {
            let report = self.gateway.with_world(|world| world.health.report(now, id));
            let out = report.bench.filter(|bench| bench.open || bench.hard);
            let (event, bench) = match out {
                Some(bench) if down.insert(id) => (HookEvent::ProfileDown, Some(bench)),
                None if !report.is_held() && down.remove(&id) => (HookEvent::ProfileUp, None),
                _ => continue,
            };
            let mut input = self.input(event).between(self.snapshot.name(id), None);
            if let Some(bench) = bench {
                input = input.failed(Some(bench.because), self.status_of(id, bench.because));
                let seconds = bench.until.saturating_duration_since(now).as_secs();
                input.detail =
                    Some(format!("{} for {seconds} s", if bench.open { "its circuit breaker is open" } else { "it is not asked" }));
            }
            self.tell_hooks(&input);
        }
    }
}

fn with_failure_of(input: HookInput, attempt: &AttemptRecord) -> HookInput {
    let failure = attempt.failure.as_ref();
    input.failed(failure.map(|failure| failure.kind), failure.and_then(|failure| failure.status))
}

/// `5h window 91 % used, begins anew in 40 min`
fn window_words(window: &UsageWindow) -> String {
    let used = (window.used * 100.0).clamp(0.0, 999.0).round();
    let left = window.resets_at.map(|at| at.saturating_duration_since(clock::now()).as_secs().div_ceil(60));
    let again = left.map_or_else(String::new, |minutes| format!(", begins anew in {minutes} min"));
    format!("{} window {used} % used{again}", record::words(&window.name))
}
