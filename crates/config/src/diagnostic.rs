//! Holds what is wrong with a configuration and draws it at the line. Never prints, and never sees a credential: the text it draws
//! has been masked before (see [`crate::mask`]).

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use crate::codes::Code;
use crate::layers::Layer;
use crate::source::{At, line_column};

/// Columns where nobody says how wide the terminal is.
const WIDTH: usize = 140;

/// Columns before the words of a `help` or a `note`.
const ADVICE_INDENT: usize = 14;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably does not do what was meant.
    Warning,
}

/// One thing that is wrong, where it is, and what to do about it.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// Stable, e.g. `HS0103`; [`crate::codes`] has the meanings.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub title: String,
    /// The file it is about, or what stands for one: `--set`, `$HOTSPARE_SERVER`.
    pub file: PathBuf,
    /// The layer that the file belongs to, where one is known.
    pub layer: Option<Layer>,
    /// Bytes of the file's text; none when the file as a whole is meant.
    pub span: Option<Range<usize>>,
    /// Words beside the caret.
    pub label: String,
    /// A second place in the same file, with its words.
    pub also: Option<(Range<usize>, String)>,
    /// What to do.
    pub help: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// The file's text with every possible credential masked, byte for byte as long as the file.
    masked: Option<Arc<str>>,
}

impl Diagnostic {
    /// About a place in a file.
    pub(crate) fn at(severity: Severity, code: Code, at: &At, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            span: Some(at.span.clone()),
            label: label.into(),
            masked: Some(at.source.masked.clone()),
            layer: Some(at.source.place.layer),
            ..Self::about(severity, code, &at.source.place.path, title)
        }
    }

    /// About a whole file.
    pub(crate) fn about(severity: Severity, code: Code, file: &Path, title: impl Into<String>) -> Self {
        Self {
            code: code.id,
            severity,
            title: title.into(),
            file: file.to_owned(),
            layer: None,
            span: None,
            label: String::new(),
            also: None,
            help: Vec::new(),
            notes: Vec::new(),
            masked: None,
        }
    }

    /// The same, told of a layer.
    pub(crate) fn in_layer(mut self, layer: Layer) -> Self {
        self.layer = Some(layer);
        self
    }

    /// The same with what to do.
    pub(crate) fn with_help(mut self, text: impl Into<String>) -> Self {
        self.help(text);
        self
    }

    /// Adds what to do.
    pub(crate) fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help.push(text.into());
        self
    }

    /// Adds what else is worth knowing.
    pub(crate) fn note(&mut self, text: impl Into<String>) -> &mut Self {
        self.notes.push(text.into());
        self
    }

    /// Line and column of the caret, both from 1; the column counts characters.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        Some(line_column(self.masked.as_deref()?, self.span.as_ref()?.start))
    }

    /// The diagnostic as people read it, without a line end. Colour is the caller's choice (`NO_COLOR`, not a terminal).
    pub fn render(&self, color: bool) -> String {
        self.render_within(color, WIDTH)
    }

    /// The same for a terminal of so many columns.
    pub fn render_within(&self, color: bool, columns: usize) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let path = self.file.to_string_lossy();
        let mut group = Group::with_title(level.primary_title(self.title.as_str()).id(self.code));
        group = match (&self.masked, &self.span) {
            (Some(text), Some(span)) => group.element(self.snippet(text, span, &path)),
            _ => group.element(Origin::path(path.as_ref())),
        };
        for text in &self.help {
            group = group.element(Level::HELP.message(wrapped(text, columns)));
        }
        for text in &self.notes {
            group = group.element(Level::NOTE.message(wrapped(text, columns)));
        }
        // The user's own layer is what people expect; any other is worth a word.
        if let Some(layer) = self.layer.filter(|layer| *layer != Layer::User) {
            group = group.element(Level::NOTE.message(layer.told()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.decor_style(DecorStyle::Ascii).term_width(columns).render(&[group])
    }

    /// Only the lines in question go to the renderer: it looks at every character that it gets.
    fn snippet<'a>(&'a self, text: &'a str, span: &Range<usize>, path: &'a str) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let second = self.also.as_ref();
        let start = second.map_or(span.start, |(also, _)| also.start.min(span.start));
        let end = second.map_or(span.end, |(also, _)| also.end.max(span.end));
        let start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[end..].find('\n').map_or(text.len(), |at| end + at);
        let shifted = |span: &Range<usize>| span.start - start..span.end - start;
        Snippet::source(&text[start..end])
            .line_start(text[..start].matches('\n').count() + 1)
            .path(path.to_owned())
            .annotation(AnnotationKind::Primary.span(shifted(span)).label(self.label.as_str()))
            .annotations(second.map(|(also, label)| AnnotationKind::Context.span(shifted(also)).label(label.as_str())))
    }
}

/// Advice in lines that a terminal need not break; the first and the others stand behind about as much.
fn wrapped(text: &str, columns: usize) -> String {
    let room = columns.saturating_sub(ADVICE_INDENT).max(ADVICE_INDENT);
    let mut lines: Vec<String> = Vec::new();
    for line in normalized(text).lines() {
        lines.push(String::new());
        for word in line.split(' ') {
            let last = lines.last_mut().expect("pushed above");
            if last.is_empty() {
                word.clone_into(last);
            } else if last.chars().count() + 1 + word.chars().count() <= room {
                last.push(' ');
                last.push_str(word);
            } else {
                lines.push(word.to_owned());
            }
        }
    }
    lines.join("\n")
}

/// The renderer trusts messages, and some quote the user's file: control characters must not reach a terminal.
fn normalized(text: &str) -> String {
    text.lines().map(normalize_untrusted_str).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Everything that is wrong: first the errors, of which there is at least one, then the warnings, each in the order of the file.
#[derive(Debug, Clone)]
pub struct Errors(pub Vec<Diagnostic>);

impl Errors {
    /// All diagnostics as people read them, an empty line between two.
    pub fn render(&self, color: bool) -> String {
        self.render_within(color, WIDTH)
    }

    /// The same for a terminal of so many columns.
    pub fn render_within(&self, color: bool, columns: usize) -> String {
        self.0.iter().map(|diagnostic| diagnostic.render_within(color, columns)).collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Errors {}

impl From<Box<Diagnostic>> for Errors {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Self(vec![*diagnostic])
    }
}
