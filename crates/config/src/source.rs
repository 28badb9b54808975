//! Reads a configuration file's text and remembers where each piece of it stands. Never interprets it, and never shows its text
//! unmasked.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};
use crate::layers::Layer;
use crate::mask::mask;

/// Largest file that is read. A configuration has a few KB.
const LARGEST: u64 = 1024 * 1024;

/// Longest piece of the user's text that a title quotes, in characters.
const LONGEST_QUOTE: usize = 60;

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) layer: Layer,
    /// A file, or what stands for one: `--set`, `$HOTSPARE_SERVER`.
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new(layer: Layer, path: impl Into<PathBuf>) -> Self {
        Self { layer, path: path.into() }
    }
}

/// A file as far as diagnostics may know it.
pub(crate) struct Source {
    pub(crate) place: Place,
    /// As long as the file's text, byte for byte, with everything that could be a credential masked.
    pub(crate) masked: Arc<str>,
    /// Where the first string opens that its line does not close.
    pub(crate) unclosed_string: Option<usize>,
}

impl Source {
    pub(crate) fn new(place: &Place, text: &str) -> Arc<Self> {
        let masked = mask(text);
        Arc::new(Self { place: place.clone(), masked: masked.text.into(), unclosed_string: masked.unclosed_string })
    }

    /// With a text that is masked already.
    pub(crate) fn with_masked(place: &Place, masked: &str) -> Arc<Self> {
        Arc::new(Self { place: place.clone(), masked: masked.into(), unclosed_string: None })
    }
}

/// A place in a file.
#[derive(Clone)]
pub(crate) struct At {
    pub(crate) source: Arc<Source>,
    pub(crate) span: Range<usize>,
}

impl At {
    pub(crate) fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        Self { source: source.clone(), span }
    }

    /// The same place, but no more than its first line: a caret under forty lines helps nobody.
    pub(crate) fn first_line(&self) -> Self {
        let text = self.source.masked.get(self.span.clone()).unwrap_or_default();
        let length = text.find(['\n', '\r']).unwrap_or(text.len());
        Self { source: self.source.clone(), span: self.span.start..self.span.start + length }
    }

    /// Line and column, both from 1; the column counts characters.
    pub(crate) fn line_column(&self) -> (usize, usize) {
        line_column(&self.source.masked, self.span.start)
    }

    /// The file and the line: `/home/me/.config/hotspare/config.json:14`.
    pub(crate) fn file_and_line(&self) -> String {
        format!("{}:{}", self.source.place.path.display(), self.line_column().0)
    }

    /// The text here, masked, without quotes and cut to a length that fits a title.
    pub(crate) fn quote(&self) -> String {
        let text = self.source.masked.get(self.span.clone()).unwrap_or_default();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let mut quote: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_QUOTE).collect();
        if text.chars().nth(LONGEST_QUOTE).is_some() {
            quote.push('…');
        }
        quote
    }
}

/// Line and column of a byte, both from 1; the column counts characters.
pub(crate) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Reads a file's text. `Ok(None)`: there is no such file.
pub(crate) fn read(place: &Place) -> Result<Option<String>, Box<Diagnostic>> {
    let opened = match open(place) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(place, &error)),
    };
    text_of(place, opened).map(Some)
}

/// Opens a file that the user or the administrator wrote. Where its path is given by us it must be a plain file, or a link to one: a
/// pipe would hold every run for ever. What the user named may be a pipe (`--config <(…)`).
fn open(place: &Place) -> io::Result<File> {
    if matches!(place.layer, Layer::Flags | Layer::Environment) {
        return File::open(&place.path);
    }
    let meta = std::fs::metadata(&place.path)?;
    if !meta.is_file() && !meta.is_dir() {
        return Err(io::Error::other("it is a device or a pipe, no plain file"));
    }
    File::open(&place.path)
}

/// The text of an open file.
pub(crate) fn text_of(place: &Place, opened: File) -> Result<String, Box<Diagnostic>> {
    let mut bytes = Vec::new();
    opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(place, &error))?;
    if bytes.len() as u64 > LARGEST {
        let title = "the file is larger than 1 MiB, which no configuration needs";
        return Err(whole(codes::TOO_LARGE, place, title, "is this the right file?"));
    }
    decode(place, bytes)
}

/// Turns a file's bytes into text, or says why they are none.
fn decode(place: &Place, bytes: Vec<u8>) -> Result<String, Box<Diagnostic>> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(whole(codes::NOT_UTF8, place, "the file is UTF-16 text", "save it as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = String::from_utf8_lossy(&error.as_bytes()[..at]).matches('\n').count() + 1;
        whole(codes::NOT_UTF8, place, &format!("the file is not UTF-8 text (line {line}, byte {at})"), "save it as UTF-8")
    })
}

pub(crate) fn unreadable(place: &Place, error: &io::Error) -> Box<Diagnostic> {
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => "make the file readable for your user",
        io::ErrorKind::IsADirectory => "name the file, not its folder",
        _ => "check the path",
    };
    whole(codes::UNREADABLE, place, &format!("cannot read the file: {error}"), help)
}

/// The diagnostic for a file that was named but does not exist.
pub(crate) fn absent(place: &Place) -> Box<Diagnostic> {
    let mut diagnostic = whole(codes::UNREADABLE, place, "the configuration file does not exist", "check the path");
    diagnostic.note("it was named by `--config` or `HOTSPARE_CONFIG`; without either, a missing file is no error");
    diagnostic
}

fn whole(code: codes::Code, place: &Place, title: &str, help: &str) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::about(Severity::Error, code, &place.path, title).in_layer(place.layer);
    diagnostic.help(help);
    Box::new(diagnostic)
}
