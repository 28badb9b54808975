//! Reads a configuration file's text and remembers where each piece of it stands. Never interprets it, and never shows its text
//! unmasked.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};
use crate::mask::mask;

/// Largest file that is read. A configuration has a few KB.
const LARGEST: u64 = 1024 * 1024;

/// Longest piece of the user's text that a title quotes, in characters.
const LONGEST_QUOTE: usize = 60;

/// A file as far as diagnostics may know it.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// As long as the file's text, byte for byte, with everything that could be a credential masked.
    pub(crate) masked: Arc<str>,
    /// Where the first string opens that its line does not close.
    pub(crate) unclosed_string: Option<usize>,
}

impl Source {
    pub(crate) fn new(path: &Path, text: &str) -> Arc<Self> {
        let masked = mask(text);
        Arc::new(Self { path: path.to_owned(), masked: masked.text.into(), unclosed_string: masked.unclosed_string })
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

/// Reads a file's text. `Ok(None)`: there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Box<Diagnostic>> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    };
    if bytes.len() as u64 > LARGEST {
        return Err(whole(
            codes::TOO_LARGE,
            path,
            "the file is larger than 1 MiB, which no configuration needs",
            "is this the right file?",
        ));
    }
    decode(path, bytes).map(Some)
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Turns a file's bytes into text, or says why they are none.
pub(crate) fn decode(path: &Path, bytes: Vec<u8>) -> Result<String, Box<Diagnostic>> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(whole(codes::NOT_UTF8, path, "the file is UTF-16 text", "save it as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = String::from_utf8_lossy(&error.as_bytes()[..at]).matches('\n').count() + 1;
        whole(codes::NOT_UTF8, path, &format!("the file is not UTF-8 text (line {line}, byte {at})"), "save it as UTF-8")
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Box<Diagnostic> {
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => "make the file readable for your user",
        io::ErrorKind::IsADirectory => "name the file, not its folder",
        _ => "check the path",
    };
    whole(codes::UNREADABLE, path, &format!("cannot read the file: {error}"), help)
}

/// The diagnostic for a file that was named but does not exist.
pub(crate) fn absent(path: &Path) -> Box<Diagnostic> {
    let mut diagnostic = whole(codes::UNREADABLE, path, "the configuration file does not exist", "check the path");
    diagnostic.note("it was named by `--config` or `HOTSPARE_CONFIG`; without either, a missing file is no error");
    diagnostic
}

fn whole(code: codes::Code, path: &Path, title: &str, help: &str) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::about(Severity::Error, code, path, title);
    diagnostic.help(help);
    Box::new(diagnostic)
}
