//! Draws what happens while it happens: two lanes and the answer so far on a terminal, one line for each event elsewhere. Never decides
//! what happened: it is told.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use hotspare_core::Ending;
use hotspare_gateway::Event;

use crate::output::{Look, Style};

/// Columns of a lane: what is left of the narrowest terminal holds its label.
const COLUMNS: usize = 28;

/// Time that one column stands for.
const COLUMN: Duration = Duration::from_millis(120);

/// Columns before a lane, and before the answer.
const NAME_COLUMNS: usize = 11;

/// Columns of a terminal that does not say.
const DEFAULT_WIDTH: usize = 80;

const LANES: [&str; 2] = ["primary", "spare"];

/// One try on a lane.
struct Bar {
    from: Duration,
    answers_from: Option<Duration>,
    to: Option<Duration>,
}

#[derive(Default)]
struct Lane {
    bars: Vec<Bar>,
    words: Cow<'static, str>,
    failed: bool,
    /// When the last try ended.
    ended: Option<Duration>,
}

/// One act's picture.
pub(super) struct Timeline {
    live: bool,
    look: Look,
    start: Instant,
    lanes: [Lane; 2],
    /// What the client did by itself.
    notes: Vec<String>,
    drawn: bool,
}

impl Timeline {
    /// An empty picture. `live`: it is redrawn in place.
    pub(super) fn new(live: bool, look: Look) -> Self {
        Self { live, look, start: Instant::now(), lanes: [Lane::default(), Lane::default()], notes: Vec::new(), drawn: false }
    }

    fn lane(&mut self, profile: &str) -> Option<&mut Lane> {
        let at = LANES.iter().position(|lane| *lane == profile)?;
        self.lanes.get_mut(at)
    }

    /// Takes an event in and shows it.
    pub(super) fn on_event(&mut self, event: &Event, answer: &str) -> io::Result<()> {
        let now = self.start.elapsed();
        match event {
            Event::Asked { profile, .. } => {
                if let Some(lane) = self.lane(profile) {
                    lane.bars.push(Bar { from: now, answers_from: None, to: None });
                    lane.words = "asked".into();
                    lane.failed = false;
                }
                self.line(now, profile, "asked")?;
            }
            Event::Committed { profile, .. } => {
                if let Some(lane) = self.lane(profile) {
                    lane.words = "answers".into();
                    if let Some(bar) = lane.bars.last_mut() {
                        bar.answers_from = Some(now);
                    }
                }
                self.line(now, profile, "answers")?;
            }
            Event::Failed { profile, failure, .. } => {
                if let Some(lane) = self.lane(profile) {
                    lane.words = failure.to_string().into();
                    lane.failed = true;
                    lane.close(now);
                }
                self.line(now, profile, &format!("failed: {failure}"))?;
            }
            Event::Ending { ending: Ending::HandBack, .. } => {
                self.line(now, "hotspare", "ends the first part so that the client asks for the rest")?;
            }
            Event::Ending { .. } => self.line(now, "hotspare", "cuts the connection so that the client asks again")?,
            Event::Over(record) => {
                if let Some(served_by) =
                    record.served_by.clone().filter(|_| record.attempts.last().is_some_and(|last| last.class.is_none()))
                {
                    if let Some(lane) = self.lane(&served_by) {
                        lane.words = "answered".into();
                        lane.close(now);
                    }
                    self.line(now, &served_by, "answered")?;
                }
            }
            Event::Arrived { .. } | Event::BudgetReached { .. } => {}
        }
        self.draw(answer)
    }

    /// A remark on what the client does.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        let now = self.start.elapsed();
        self.notes.push(format!("{} s: {text}", tenths(now)));
        self.line(now, "client", text)
    }

    fn line(&self, now: Duration, who: &str, what: &str) -> io::Result<()> {
        if self.live {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "  {:>5.2} s  {who:<9} {what}", now.as_secs_f64())?;
        out.flush()
    }

    /// Redraws the picture, where it is live.
    pub(super) fn draw(&mut self, answer: &str) -> io::Result<()> {
        if !self.live {
            return Ok(());
        }
        let now = self.start.elapsed();
        let width = width();
        // One write for the whole picture, so that it does not flicker.
        let mut picture = Vec::new();
        if self.drawn {
            write!(picture, "\u{1b}[{}A", LANES.len() + 1)?;
        }
        for line in self.picture(now, answer, width) {
            writeln!(picture, "\u{1b}[2K{line}")?;
        }
        self.drawn = true;
        let mut out = io::stdout().lock();
        out.write_all(&picture)?;
        out.flush()
    }

    /// The lanes, and the answer so far.
    fn picture(&self, now: Duration, answer: &str, width: usize) -> Vec<String> {
        let room = width.saturating_sub(NAME_COLUMNS + COLUMNS + 3);
        let lanes = LANES.iter().zip(&self.lanes);
        let mut lines: Vec<String> =
            lanes.map(|(name, lane)| format!("  {name:<9}{}  {}", lane.bar(now, self.look), lane.label(self.look, room))).collect();
        let client = self.look.paint.paint(Style::Dim, "client   ");
        lines.push(format!("  {client}{}", tail(answer, width.saturating_sub(NAME_COLUMNS + 1), self.look)));
        lines
    }

    /// The act is over.
    pub(super) fn finish(&mut self, answer: &str) -> io::Result<()> {
        self.draw(answer)?;
        if !self.live {
            let now = self.start.elapsed();
            return self.line(now, "client", &format!("has the whole answer: \"{answer}\""));
        }
        let mut out = io::stdout().lock();
        for note in &self.notes {
            writeln!(out, "{:NAME_COLUMNS$}{}", "", self.look.paint.paint(Style::Dim, note))?;
        }
        out.flush()
    }
}

impl Lane {
    fn close(&mut self, now: Duration) {
        self.ended = Some(now);
        if let Some(bar) = self.bars.last_mut() {
            bar.to = Some(now);
        }
    }

    fn bar(&self, now: Duration, look: Look) -> String {
        let mut cells = String::new();
        for column in 0..COLUMNS {
            let at = COLUMN * u32::try_from(column).unwrap_or(u32::MAX);
            cells.push_str(self.bars.iter().rev().find_map(|bar| bar.cell(at, now, look)).unwrap_or(" "));
        }
        let style = match (self.failed, self.bars.is_empty()) {
            (_, true) => Style::Dim,
            (true, false) => Style::Red,
            (false, false) => Style::Green,
        };
        look.paint.paint(style, &cells)
    }

    /// What is going on there, and since when it is over: never longer than the room for it.
    fn label(&self, look: Look, room: usize) -> String {
        let ended = self.ended.map_or_else(String::new, |at| format!(" at {} s", tenths(at)));
        let (sign, style) = match (&*self.words, self.failed) {
            ("", _) => return look.paint.paint(Style::Dim, "ready"),
            (_, true) => (look.sign("✖ ", "x "), Style::Red),
            ("answered", false) => (look.sign("✔ ", "+ "), Style::Green),
            (words, false) => return words.to_owned(),
        };
        let words = shortened(&self.words, room.saturating_sub(sign.chars().count() + ended.len()), look);
        look.paint.paint(style, &format!("{sign}{words}{ended}"))
    }
}

impl Bar {
    fn cell(&self, at: Duration, now: Duration, look: Look) -> Option<&'static str> {
        let end = self.to.unwrap_or(now);
        // A bar shorter than a column is seen all the same.
        let shown_to = end.max(self.from + COLUMN);
        if at + COLUMN <= self.from || at >= shown_to {
            return None;
        }
        Some(if self.answers_from.is_some_and(|from| at + COLUMN > from) { look.sign("█", "#") } else { look.sign("░", ".") })
    }
}

/// Columns of the terminal: a line that wraps would spoil the picture.
fn width() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(DEFAULT_WIDTH, |size| usize::from(size.ws_col)).max(NAME_COLUMNS + COLUMNS + 8)
}

/// The end of the answer, as far as the line has room.
fn tail(answer: &str, room: usize, look: Look) -> String {
    let letters: Vec<char> = answer.chars().collect();
    if letters.len() <= room {
        return answer.to_owned();
    }
    let end: String = letters[letters.len() + 1 - room..].iter().collect();
    format!("{}{end}", look.sign("…", "~"))
}

/// The start of a label, as far as the line has room, cut between two words.
fn shortened(words: &str, room: usize, look: Look) -> String {
    if words.chars().count() <= room {
        return words.to_owned();
    }
    let start: String = words.chars().take(room.saturating_sub(1)).collect();
    let whole_words = start.rsplit_once(' ').map_or(start.as_str(), |(whole, _)| whole);
    format!("{whole_words}{}", look.sign("…", "~"))
}

/// `1.2`.
fn tenths(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

#[cfg(test)]
mod tests;
