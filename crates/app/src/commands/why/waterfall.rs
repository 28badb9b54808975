//! Draws one exchange: a bar for each attempt on a common axis, and under it what was decided and why. Never decides anything itself.

use std::path::Path;

use hotspare_core::attempt::AttemptKind;
use hotspare_core::record::{AttemptEntry, Decision, ExchangeRecord, HookWord, Reception, RulingEntry, id_text};
use hotspare_core::{ClientKind, Outcome, Tokens};
use hotspare_store::Row;

use crate::commands::why::shortened_path;
use crate::output::{DEFAULT_WIDTH, Look, Style};
use crate::words;

/// Widest column of profile names.
const NAME_CAP: usize = 20;

/// Columns for an attempt's time.
const TIME_COLUMNS: usize = 8;

/// Columns for what came of an attempt.
const RESULT_COLUMNS: usize = 20;

/// Narrowest bar that still says something.
const BAR_LEAST: usize = 10;

/// Widest picture: longer bars say nothing more.
const WIDEST: usize = 110;

/// Draws it.
pub(super) fn draw(row: &Row, look: Look, home: Option<&Path>) -> String {
    let record = &row.record;
    let picture = Picture::new(record, look);
    let mut lines = vec![picture.headline(record)];
    lines.extend(picture.facts(row));
    lines.push(String::new());
    if !record.attempts.is_empty() {
        lines.push(picture.axis());
    }
    for attempt in &record.attempts {
        lines.extend(picture.attempt(attempt));
    }
    if record.attempts.is_empty() {
        lines.push("  no profile was asked".to_owned());
    }
    lines.push(String::new());
    lines.extend(picture.footnotes(record, home));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// Its measures.
struct Picture {
    look: Look,
    width: usize,
    name: usize,
    bar: usize,
    /// What the whole bar stands for, in microseconds.
    span: u64,
}

impl Picture {
    fn new(record: &ExchangeRecord, look: Look) -> Self {
        let width = look.width.unwrap_or(DEFAULT_WIDTH).min(WIDEST);
        let longest = record.attempts.iter().map(|attempt| attempt.profile.chars().count()).max().unwrap_or_default();
        let name = longest.clamp(4, NAME_CAP);
        let bar = width.saturating_sub(2 + name + 1 + 1 + TIME_COLUMNS + 2 + RESULT_COLUMNS).max(BAR_LEAST);
        let ends = record.attempts.iter().filter_map(|attempt| attempt.ended_us);
        let span = ends.chain([record.took_us, 1]).max().unwrap_or(1);
        Self { look, width, name, bar, span }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        self.look.paint.paint(style, text)
    }

    fn fit(&self, text: &str, columns: usize) -> String {
        words::fit(text, columns, self.look.unicode)
    }

    /// Any text that came from outside.
    fn shown(&self, text: &str) -> String {
        self.fit(text, usize::MAX)
    }

    /// How it ended, in one sentence.
    fn headline(&self, record: &ExchangeRecord) -> String {
        let who = record.served_by.as_deref().map_or_else(|| "no profile".to_owned(), |name| self.shown(name));
        let (yes, no, half) = (self.look.sign("✔", "+"), self.look.sign("✖", "x"), self.look.sign("⇄", "~"));
        let (style, sentence) = match record.outcome {
            Outcome::Served if record.on_spare => (Style::Green, format!("{yes} Served by the spare {who}")),
            Outcome::Served => (Style::Green, format!("{yes} Served by {who}")),
            Outcome::Relayed => self.relayed(record, half, no),
            Outcome::Cut => (Style::Red, format!("{no} Broke off at {who} and was cut")),
            Outcome::HandedBack => (Style::Yellow, format!("{half} Broke off at {who}, handed back to the client")),
            Outcome::Exhausted => (Style::Red, format!("{no} No profile could answer")),
            Outcome::Cancelled => (Style::Dim, format!("{} The client went away", self.look.sign("○", "o"))),
        };
        let attempts = match record.attempts.len() {
            0 | 1 => String::new(),
            count => format!(", {count} attempts"),
        };
        format!("{}{attempts}, {}", self.paint(style, &sentence), words::time(record.took_us))
    }

    /// A refusal of the request itself, or the end of a request that no profile answered.
    fn relayed(&self, record: &ExchangeRecord, half: &str, no: &str) -> (Style, String) {
        let refuser = record.refuser().map(|name| self.shown(name));
        match (record.reception(), refuser) {
            (Reception::Refused(profile), _) => (Style::Yellow, format!("{half} Refused by {}, passed on as it came", self.shown(profile))),
            (_, Some(profile)) if record.profiles().len() < 2 => {
                (Style::Red, format!("{no} Failed at {profile}, passed on as it came; no spare is in the chain"))
            }
            (_, Some(profile)) => (Style::Red, format!("{no} No profile could answer; the client got the refusal of {profile}")),
            (_, None) => (Style::Red, format!("{no} No profile could answer")),
        }
    }

    /// Which request it was.
    fn facts(&self, row: &Row) -> Vec<String> {
        let record = &row.record;
        let model = record.model.as_deref().map(|model| self.shown(model));
        let first = [Some(id_text(record.id)), Some(row.local_time.clone()), model];
        let client = match record.client {
            ClientKind::ClaudeInteractive => "Claude Code",
            ClientKind::ClaudePrint => "Claude Code -p",
            ClientKind::Program => "a program",
        };
        let session = record.session.as_deref().map(|id| format!("session {}", self.fit(id, 9)));
        let agent = record.agent.as_deref().map(|id| format!("agent {}", self.fit(id, 9)));
        let status = record.status.map(|status| format!("status {status}"));
        let sizes = format!("{} up, {} down", words::bytes(record.request_bytes), words::bytes(record.response_bytes));
        let second = [Some(client.to_owned()), session, agent, status, Some(sizes)];
        let dot = self.look.sign(" · ", ", ");
        let mut lines = vec![format!("  {}", first.into_iter().flatten().collect::<Vec<_>>().join("  "))];
        lines.extend(self.indented(2, &second.into_iter().flatten().collect::<Vec<_>>().join(dot), Some(Style::Dim)));
        lines
    }

    /// What the bars' two ends stand for.
    fn axis(&self) -> String {
        let end = words::time(self.span);
        let line = format!("{:indent$}0 s{end:>room$}", "", indent = 2 + self.name + 1, room = self.bar - 3);
        self.paint(Style::Dim, &line)
    }

    fn attempt(&self, attempt: &AttemptEntry) -> Vec<String> {
        let (sign, style, result) = self.result(attempt);
        let took = attempt.ended_us.map_or_else(String::new, |ended| words::time(ended.saturating_sub(attempt.started_us)));
        let name = words::padded(&self.fit(&attempt.profile, self.name), self.name);
        let bar = self.paint(style, &self.bar(attempt));
        let result = self.fit(&result, RESULT_COLUMNS - 2);
        let line = format!("  {name} {bar} {took:>TIME_COLUMNS$}  {}", self.paint(style, &format!("{sign} {result}")));
        let mut lines = vec![line];
        let indent = 2 + self.name + 1;
        if let Some(detail) = attempt.detail.as_deref().filter(|detail| detail.chars().count() > RESULT_COLUMNS - 2) {
            lines.extend(self.indented(indent, &self.shown(detail), Some(style)));
        }
        let numbers = numbers(attempt);
        if !numbers.is_empty() {
            lines.extend(self.indented(indent, &numbers.join(self.look.sign(" · ", ", ")), None));
        }
        lines.extend(self.indented(indent, &self.decision(attempt), Some(Style::Dim)));
        lines
    }

    /// The sign, colour and words for what came of it.
    fn result(&self, attempt: &AttemptEntry) -> (&'static str, Style, String) {
        let status = attempt.status.map(|status| status.to_string());
        match (attempt.class, attempt.decision) {
            (Some(class), _) => {
                // Words that are too long for the column get a line of their own.
                let told = attempt.detail.clone().filter(|detail| (1..=RESULT_COLUMNS - 2).contains(&detail.chars().count()));
                (self.look.sign("✖", "x"), Style::Red, told.unwrap_or_else(|| class.word().replace('_', " ")))
            }
            (None, Decision::Drop) => (self.look.sign("○", "o"), Style::Dim, "dropped".to_owned()),
            (None, _) => (self.look.sign("✔", "+"), Style::Green, status.unwrap_or_default()),
        }
    }

    /// Waiting is light, content is full. An attempt of no length is seen all the same.
    fn bar(&self, attempt: &AttemptEntry) -> String {
        let (wait, content) = if self.look.unicode { ('░', '█') } else { ('.', '#') };
        let from = self.column(attempt.started_us).min(self.bar - 1);
        let to = self.column(attempt.ended_us.unwrap_or(self.span)).max(from + 1);
        let content_from = attempt.first_content_us.map_or(usize::MAX, |at| self.column(at).min(to - 1));
        (0..self.bar)
            .map(|column| match column {
                column if column < from || column >= to => ' ',
                column if column >= content_from => content,
                _ => wait,
            })
            .collect()
    }

    /// The bar's column for a time, rounded to the nearest.
    fn column(&self, us: u64) -> usize {
        let columns = self.bar as u64;
        let column = (us.min(self.span).saturating_mul(columns) + self.span / 2) / self.span;
        usize::try_from(column).unwrap_or(self.bar).min(self.bar)
    }

    fn decision(&self, attempt: &AttemptEntry) -> String {
        let kind = match attempt.kind {
            AttemptKind::Initial | AttemptKind::Failover => "",
            AttemptKind::Retry => "second try; ",
            AttemptKind::Resume => "went on with the broken answer; ",
            AttemptKind::Hedge => "beside a slow one; ",
            AttemptKind::Probe => "a trial; ",
        };
        let decision = match attempt.decision {
            Decision::Commit => "the client got this answer",
            Decision::Retry => "same profile again",
            Decision::NextProfile => "next profile",
            Decision::Resume => "another profile goes on",
            Decision::Cut => "cut: the client asks again",
            Decision::HandBack => "handed back: the client asks for the rest",
            Decision::Relay => "the client got this refusal",
            Decision::GiveUp => "no profile was left",
            Decision::Drop => "dropped",
        };
        let reason = attempt.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", self.shown(reason)));
        format!("{} {kind}{decision}{reason}", self.look.sign("→", "->"))
    }

    /// Where its course came from and what it cost.
    fn footnotes(&self, record: &ExchangeRecord, home: Option<&Path>) -> Vec<String> {
        let dot = self.look.sign(" · ", ", ");
        let origin = record.rule.as_deref().map_or_else(String::new, |rule| format!(", {}", self.shown(&shortened_path(rule, home))));
        let mut notes = vec![("rule", format!("chain `{}`{origin}", self.shown(&record.chain)))];
        notes.extend(record.folder.as_deref().map(|folder| ("folder", self.shown(&shortened_path(folder, home)))));
        notes.extend(record.limited.as_deref().map(|why| ("limit", self.shown(why))));
        if let Some(drill) = record.drill {
            let what = if drill.live {
                "live: this request was real, and so was who answered; the fault was not"
            } else {
                "all of it was played: no provider was asked, no token spent"
            };
            notes.insert(0, ("drill", format!("{}; {what}", drill.fault)));
        }
        if !record.changed.is_empty() {
            notes.push(("changed", record.changed.iter().map(|text| self.shown(text)).collect::<Vec<_>>().join(dot)));
        }
        for skipped in &record.skipped {
            notes.push(("skipped", format!("{}: {}", self.shown(&skipped.profile), self.shown(&skipped.reason))));
        }
        notes.extend(record.rulings.iter().map(|ruling| ("hook", self.ruling(ruling))));
        if let Some(cost) = record.est_cost_micro_usd {
            notes.push(("cost", format!("about {}", words::money(cost))));
        }
        if let Some(cold) = record.cold_prefix_tokens {
            notes.push(("cache", format!("{} tokens of context had to be read anew, without the prompt cache", words::count(cold))));
        }
        notes.iter().flat_map(|(name, text)| self.note(name, text)).collect()
    }

    /// ``PreFailover to `spare`: `may-switch` blocked it: not at night (0.02 s)``
    fn ruling(&self, ruling: &RulingEntry) -> String {
        let named = ruling.profile.as_deref().map_or_else(String::new, |name| format!(" `{}`", self.shown(name)));
        let word = match ruling.word {
            HookWord::Allow => "allowed it".to_owned(),
            HookWord::Block => "blocked it".to_owned(),
            HookWord::Use => format!("named{named} instead"),
            HookWord::Nothing => "had no say".to_owned(),
        };
        let reason = ruling.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", self.shown(reason)));
        let (event, to, hook) = (ruling.event.word(), self.shown(&ruling.to), self.shown(&ruling.hook));
        format!("{event} to `{to}`: `{hook}` {word}{reason} ({})", words::time(ruling.took_us))
    }

    fn note(&self, name: &str, text: &str) -> Vec<String> {
        let mut lines = self.indented(11, text, None);
        if let Some(first) = lines.first_mut() {
            *first = format!("  {}{}", self.paint(Style::Dim, &words::padded(name, 9)), first.trim_start());
        }
        lines
    }

    fn indented(&self, columns: usize, text: &str, style: Option<Style>) -> Vec<String> {
        let room = self.width.saturating_sub(columns).max(BAR_LEAST);
        let paint = |line: &String| style.map_or_else(|| line.clone(), |style| self.paint(style, line));
        words::wrapped(text, room).iter().map(|line| format!("{}{}", " ".repeat(columns), paint(line))).collect()
    }
}

/// What is known of its speed and size.
fn numbers(attempt: &AttemptEntry) -> Vec<String> {
    let mut numbers = Vec::new();
    if let Some(first) = attempt.first_content_us {
        numbers.push(format!("TTFT {}", words::time(first.saturating_sub(attempt.started_us))));
    }
    if let Some(speed) = speed(attempt) {
        numbers.push(format!("{speed} tok/s"));
    }
    numbers.extend(tokens(&attempt.tokens));
    match attempt.cost_micro_usd {
        Some(cost) => numbers.push(words::money(cost)),
        None if attempt.on_plan && attempt.tokens != Tokens::default() => numbers.push("on the plan".to_owned()),
        None => {}
    }
    if attempt.wasted {
        numbers.push("paid for and thrown away".to_owned());
    }
    if attempt.maybe_billed {
        numbers.push("may be billed all the same".to_owned());
    }
    numbers
}

/// Tokens a second from the first content on, where both are known and mean something.
fn speed(attempt: &AttemptEntry) -> Option<u64> {
    let (from, to) = (attempt.first_content_us?, attempt.ended_us?);
    let took = to.checked_sub(from).filter(|took| *took >= 100_000)?;
    Some(attempt.tokens.output.filter(|tokens| *tokens > 1)?.saturating_mul(1_000_000) / took)
}

fn tokens(tokens: &Tokens) -> Option<String> {
    if *tokens == Tokens::default() {
        return None;
    }
    let input = tokens.input.unwrap_or_default() + tokens.cache_read.unwrap_or_default() + tokens.cache_write.unwrap_or_default();
    let cached =
        tokens.cache_read.filter(|cached| *cached > 0).map_or_else(String::new, |cached| format!(" ({} cached)", words::count(cached)));
    Some(format!("{} in{cached}, {} out", words::count(input), words::count(tokens.output.unwrap_or_default())))
}

#[cfg(test)]
mod tests;
