//! Calls the user's hooks: those that a request waits for, and in the background those that are only told. Never delays a request beyond a
//! hook's timeout, and never fails one: whatever a hook does wrong, the request goes on and the log says so.

mod command;
mod http;
pub mod input;
pub mod word;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use hotspare_config::{BaseUrl, Hook, HookCall};
use hotspare_core::{HookEvent, ProfileId};
use hotspare_upstream::connect::Network;
use hotspare_upstream::{Upstreams, clock};
use http_body_util::Full;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::input::HookInput;
use self::word::{Said, said};
use crate::notices::usd;
use crate::record::{Event, id_text};
use crate::server::Gateway;

/// Hooks that run at one time, over all requests. Those that are only told take one place of these at most.
pub const AT_ONCE: usize = 2;

/// Events that wait to be told; then the oldest gives way.
pub const WAITING: usize = 256;

/// Longest that the end of the process waits for hooks that are still to be told.
pub const LAST_WORDS: Duration = Duration::from_secs(2);

/// Most bytes of what a hook prints or answers, of each of its outputs (security.md T19). One that prints more is ended.
pub const OUTPUT_CAP: usize = 64 * 1024;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The program ended with this code.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// The address answered with this status.
    Answered(u16),
    /// It was not over in time, its wait for a place included.
    TimedOut,
    /// It printed more than [`OUTPUT_CAP`].
    Flooded,
    /// It could not be called; why.
    Failed(String),
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// How it ended.
    pub ending: Ending,
    /// What it printed or answered.
    pub output: Vec<u8>,
    /// What it printed to standard error.
    pub errors: Vec<u8>,
    /// How long it took, with the wait for a place.
    pub took: Duration,
}

impl Called {
    fn ended(ending: Ending) -> Self {
        Self { ending, output: Vec::new(), errors: Vec::new(), took: Duration::ZERO }
    }
}

/// Calls hooks, a few at a time.
pub struct Runner {
    addresses: Upstreams<Full<Bytes>>,
    places: Semaphore,
}

impl Runner {
    /// Posts go out over this network.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self { addresses: Upstreams::new(network), places: Semaphore::new(AT_ONCE) }
    }

    /// Calls one hook and waits for its end, at most until its timeout or `until`. Dropping the future ends the hook.
    pub async fn call(&self, hook: &Hook, input: &Bytes, until: Option<Instant>) -> Called {
        let began = clock::now();
        let own = began + hook.timeout;
        let deadline = until.map_or(own, |until| until.min(own));
        let work = async {
            // The semaphore lives as long as this runner and is never closed.
            let _place = self.places.acquire().await;
            match &hook.call {
                HookCall::Command { argv, env } => command::run(argv, env, input).await,
                HookCall::Http(url) => http::post(&self.addresses, url, input.clone()).await,
            }
        };
        // Boxed: a request carries room for this only while it waits.
        let ended = tokio::time::timeout_at(deadline.into(), Box::pin(work)).await;
        Called { took: clock::since(began), ..ended.unwrap_or_else(|_| Called::ended(Ending::TimedOut)) }
    }
}

/// What a hook is called in records and logs: its program's name, or the address that is posted to.
pub fn label(hook: &Hook) -> String {
    match &hook.call {
        HookCall::Command { argv, .. } => {
            let program = argv.first().map_or("", String::as_str);
            program.rsplit('/').next().unwrap_or(program).to_owned()
        }
        // The path may hold a key.
        HookCall::Http(url) => BaseUrl { prefix: String::new(), ..url.clone() }.to_string(),
    }
}

/// What keeps a hook's program from being run, as far as that can be seen without running it.
pub fn cannot_run(hook: &Hook) -> Option<String> {
    match &hook.call {
        HookCall::Command { argv, .. } => command::found(argv.first().map_or("", String::as_str)).err(),
        HookCall::Http(_) => None,
    }
}

/// The hooks that are called for this.
pub fn matching<'h>(hooks: &'h [Hook], input: &HookInput) -> impl Iterator<Item = &'h Hook> + use<'h> {
    let (event, class) = (input.hook_event_name, input.class);
    hooks.iter().filter(move |hook| hook.event == event && hook.matcher.fits(class))
}

/// What one hook said to a question.
pub(crate) struct Word {
    pub(crate) hook: String,
    pub(crate) said: Said,
    pub(crate) asked: Instant,
    pub(crate) took: Duration,
}

/// Something to be told.
struct News {
    hooks: Vec<Hook>,
    event: HookEvent,
    input: Bytes,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<News>,
    given_way: u64,
    teller: Option<JoinHandle<()>>,
}

/// A gateway's hooks at work.
pub(crate) struct Hooks {
    runner: Runner,
    queue: Mutex<Queue>,
    /// Profiles that are out of use, as far as hooks were told.
    pub(crate) down: Mutex<HashSet<ProfileId>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

impl Hooks {
    pub(crate) fn new(network: Arc<dyn Network>) -> Arc<Self> {
        Arc::new(Self { runner: Runner::new(network), queue: Mutex::default(), down: Mutex::default() })
    }

    /// Asks every hook that is to be asked, all at the same time.
    pub(crate) async fn ask(self: Arc<Self>, hooks: Vec<Hook>, input: HookInput, until: Instant) -> Vec<Word> {
        let text = input.bytes();
        let asked = clock::now();
        join_all(hooks.iter().map(async |hook| {
            let called = self.runner.call(hook, &text, Some(until)).await;
            let word = Word { hook: label(hook), said: said(hook.event, &called), asked, took: called.took };
            log(hook.event, &word);
            word
        }))
        .await
    }

    /// Lets hooks be told of something in the background. Never waits.
    pub(crate) fn tell(self: &Arc<Self>, hooks: &[Hook], input: &HookInput) {
        let hooks: Vec<Hook> = matching(hooks, input).cloned().collect();
        // Without a runtime this is the process's very end.
        let Some(runtime) = Handle::try_current().ok().filter(|_| !hooks.is_empty()) else { return };
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() == WAITING {
            queue.waiting.pop_front();
            queue.given_way += 1;
        }
        queue.waiting.push_back(News { hooks, event: input.hook_event_name, input: input.bytes() });
        if queue.teller.as_ref().is_none_or(JoinHandle::is_finished) {
            queue.teller = Some(runtime.spawn(self.clone().tell_all()));
        }
    }

    /// Tells one thing after the other until nothing waits.
    async fn tell_all(self: Arc<Self>) {
        while let Some(news) = self.next() {
            for hook in &news.hooks {
                let called = self.runner.call(hook, &news.input, None).await;
                let said = said(news.event, &called);
                log(news.event, &Word { hook: label(hook), said, asked: clock::now(), took: called.took });
            }
        }
    }

    fn next(&self) -> Option<News> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let given_way = std::mem::take(&mut queue.given_way);
        if given_way > 0 {
            tracing::warn!(events = given_way, "hooks are too slow: events were dropped before they could be told");
        }
        let news = queue.waiting.pop_front();
        if news.is_none() {
            // Under the lock: whoever comes next starts another.
            queue.teller = None;
        }
        news
    }

    /// Waits until everything is told, at most [`LAST_WORDS`].
    pub(crate) async fn finish(&self) {
        let teller = self.queue.lock().unwrap_or_else(PoisonError::into_inner).teller.take();
        if let Some(mut teller) = teller
            && tokio::time::timeout(LAST_WORDS, &mut teller).await.is_err()
        {
            // With it the hook that runs just now ends.
            teller.abort();
        }
    }
}

impl Gateway {
    /// A budget is the user's, whichever exchange spent the last of it.
    pub(crate) fn tell_hooks_of_budgets(&self, event: &Event) {
        let Event::BudgetReached { id, session, profile, reached } = event else { return };
        let snapshot = self.snapshot();
        let mut input = HookInput::new(HookEvent::BudgetReached).between(profile, None);
        input.request_id = Some(id_text(*id));
        input.session_id = session.as_deref().map(str::to_owned);
        input.config.clone_from(&snapshot.config_file);
        input.detail = Some(format!("{} of {} a {} is spent", usd(reached.spent), usd(reached.limit), reached.period.word()));
        self.hooks().tell(&snapshot.hooks, &input);
    }
}

fn log(event: HookEvent, word: &Word) {
    let (event, hook, took_ms) = (event.word(), &word.hook, word.took.as_millis());
    match &word.said {
        Said::Nothing(problem) => tracing::warn!(event, hook, took_ms, "hook: {problem}"),
        Said::Block { reason } => tracing::info!(event, hook, took_ms, "hook blocked: {}", reason.as_deref().unwrap_or("no reason given")),
        Said::Use { profile, .. } => tracing::info!(event, hook, took_ms, profile, "hook named another profile"),
        Said::Allow { .. } => tracing::debug!(event, hook, took_ms, "hook"),
    }
}

#[cfg(test)]
mod tests;
