//! Writes to people: colour where it is wanted, plain text everywhere else. Never means anything by colour alone.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// Whether a stream gets colour: `CLICOLOR_FORCE`, `NO_COLOR`, `TERM=dumb` and being a terminal decide, in that order.
pub(crate) fn colored(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    if set("CLICOLOR_FORCE") {
        return true;
    }
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !set("NO_COLOR") && !dumb && stream.is_terminal()
}

/// Columns of a stream that is no terminal: nothing breaks its lines.
const UNBROKEN: usize = 140;

/// Columns to write for.
pub(crate) fn columns(stream: &impl AsFd) -> usize {
    rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(UNBROKEN)
}

/// A text style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Good news.
    Green,
    /// Bad news.
    Red,
    /// Look here.
    Yellow,
    /// What to type, and paths.
    Cyan,
    /// Headings.
    Bold,
    /// Less important.
    Dim,
}

/// Paints text, or leaves it plain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub bool);

impl Paint {
    /// The text in a style.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Green => "32",
            Style::Red => "31",
            Style::Yellow => "33",
            Style::Cyan => "36",
            Style::Bold => "1",
            Style::Dim => "2",
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// How stdout shows things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Colours.
    pub paint: Paint,
    /// Whether more than ASCII can be shown.
    pub unicode: bool,
    /// Columns; none where lines may be as long as they are.
    pub width: Option<usize>,
}

/// Columns of a terminal that does not say, and of pictures in a file.
pub(crate) const DEFAULT_WIDTH: usize = 80;

impl Look {
    /// Of this process's stdout.
    pub(crate) fn of_stdout() -> Self {
        let out = io::stdout();
        let columns = || rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col)).ok();
        let width = out.is_terminal().then(|| columns().filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH));
        Self { paint: Paint(colored(&out)), unicode: speaks_unicode(&|name| std::env::var(name).ok()), width }
    }

    /// Of a status line: Claude Code reads it from a pipe and shows its colours.
    pub(crate) fn of_status_line() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let plain = variable("NO_COLOR").is_some_and(|value| !value.is_empty()) || variable("TERM").is_some_and(|term| term == "dumb");
        let forced = variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        Self { paint: Paint(forced || !plain), unicode: speaks_unicode(&variable), width: None }
    }

    /// The sign, or what stands for it in ASCII.
    pub(crate) fn sign(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }
}

/// The locale's character set, as POSIX ranks the variables.
fn speaks_unicode(env: &dyn Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| env(name).filter(|value| !value.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8") || locale.contains("utf-8@") || locale.contains("utf8@")
}

/// Longest that work may take before a terminal is told that it goes on.
const SOON: Duration = Duration::from_millis(300);

/// Between two pictures of the wheel.
const TURN: Duration = Duration::from_millis(100);

/// Does the work. Where it takes long, and somebody looks on, a wheel turns beside the words until it is done, and leaves no trace.
pub(crate) async fn patiently<T>(words: &str, work: impl Future<Output = T>) -> T {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if dumb || !io::stderr().is_terminal() {
        return work.await;
    }
    let unicode = speaks_unicode(&|name| std::env::var(name).ok());
    let wheel: Vec<char> = if unicode { "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" } else { "|/-\\" }.chars().collect();
    let show = |text: &str| {
        let mut err = io::stderr().lock();
        // A picture that cannot be drawn is none.
        let _ = write!(err, "\r\u{1b}[K{text}").and_then(|()| err.flush());
    };
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SOON, TURN);
    let mut turns = wheel.iter().cycle();
    let mut shown = false;
    loop {
        // Cancel-safe: the work is polled on, and a tick that was not taken comes again.
        tokio::select! {
            biased;
            done = work.as_mut() => {
                if shown {
                    show("");
                }
                return done;
            }
            _ = ticks.tick() => {
                show(&format!("{} {words}", turns.next().unwrap_or(&' ')));
                shown = true;
            }
        }
    }
}

/// Writes one line to stderr: talk.
pub(crate) fn talk(line: &str) {
    // Nobody is left to be told when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes to stdout: data. A closed pipe is no error.
pub(crate) fn data(text: &str) -> io::Result<()> {
    still_read(text).map(|_| ())
}

/// Writes to stdout. Returns whether anybody still reads it.
pub(crate) fn still_read(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_what_can_be_shown() {
        let speaks =
            |vars: &[(&str, &str)]| speaks_unicode(&|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()));
        assert!(speaks(&[("LANG", "en_US.UTF-8")]));
        assert!(speaks(&[("LANG", "C"), ("LC_CTYPE", "C.utf8")]));
        assert!(speaks(&[("LC_ALL", ""), ("LANG", "de_DE.utf8@euro")]));
        assert!(!speaks(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(!speaks(&[("LANG", "en_US.ISO-8859-1")]));
        assert!(!speaks(&[]));
    }
}
