//! Writes to people: colour where it is wanted, plain text everywhere else. Never means anything by colour alone.

use std::io::{self, IsTerminal, Write};

/// Whether a stream gets colour: `CLICOLOR_FORCE`, `NO_COLOR`, `TERM=dumb` and being a terminal decide, in that order.
pub(crate) fn colored(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    if set("CLICOLOR_FORCE") {
        return true;
    }
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !set("NO_COLOR") && !dumb && stream.is_terminal()
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

/// Writes one line to stderr: talk.
pub(crate) fn talk(line: &str) {
    // Nobody is left to be told when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes to stdout: data. A closed pipe is no error.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}
