//! Recognises what an answer's body is by its first bytes, whatever its head claims.
//!
//! Claude Code does not look at the content type: an event stream labelled `application/json`, `text/plain` or not at all works, and so
//! does a whole message labelled `text/event-stream` (measured with 2.1.332).

use crate::sse::BOM;

/// Most bytes of white space that are skipped in search of the first that says something.
pub const MAX_SNIFFED: usize = 4 * 1024;

/// What a body is by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An event stream.
    Events,
    /// A JSON object or list.
    Json,
    /// A web page.
    Markup,
    /// Anything else. The readers of event streams skip lines that they do not know, so that one may still follow.
    Other,
}

/// Names of fields with which a line of an event stream can begin.
const FIELDS: [&[u8]; 4] = [b"event", b"data", b"id", b"retry"];

/// Recognises a body by its first bytes. `None` if they are too few: more may come, and if none do there is nothing to read.
pub fn form(first: &[u8]) -> Option<Form> {
    if first.len() < BOM.len() && BOM.starts_with(first) {
        return None;
    }
    let text = first.strip_prefix(BOM).unwrap_or(first).trim_ascii_start();
    match text.first() {
        None if first.len() < MAX_SNIFFED => None,
        None => Some(Form::Other),
        Some(b'{' | b'[') => Some(Form::Json),
        Some(b'<') => Some(Form::Markup),
        Some(b':') => Some(Form::Events),
        Some(_) => field(text),
    }
}

fn field(line: &[u8]) -> Option<Form> {
    let begun = |field: &&&[u8]| field.starts_with(line);
    let whole = |field: &&&[u8]| line.strip_prefix(**field).and_then(<[u8]>::first).is_some_and(|next| b":\r\n".contains(next));
    match FIELDS.iter().find(begun) {
        Some(_) => None,
        None if FIELDS.iter().any(|field| whole(&field)) => Some(Form::Events),
        None => Some(Form::Other),
    }
}

/// Whether a body can be what its `Content-Encoding` claims. `None` if its first bytes are too few. Brotli has no mark of its own, and
/// `deflate` has two forms, one of them without a mark.
pub fn fits_coding(coding: &str, first: &[u8]) -> Option<bool> {
    let mark: &[u8] = match coding {
        "gzip" | "x-gzip" => b"\x1f\x8b",
        "zstd" => b"\x28\xb5\x2f\xfd",
        _ => return Some(true),
    };
    if first.len() < mark.len() && mark.starts_with(first) { None } else { Some(first.starts_with(mark)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn body_is_recognised_by_its_first_bytes() {
        for (body, expected) in [
            ("event: message_start\ndata: {}\n\n", Form::Events),
            ("event:message_start\r\n", Form::Events),
            ("data: {}\n\n", Form::Events),
            ("data:{}", Form::Events),
            ("data\n\n", Form::Events),
            ("id: 1\n", Form::Events),
            ("retry: 3\r", Form::Events),
            (": a comment\n\n", Form::Events),
            (":\n", Form::Events),
            ("\u{feff}event: ping\n", Form::Events),
            ("\n\r\n\n: c\nevent: ping\n", Form::Events),
            ("{\"type\":\"message\"}", Form::Json),
            (" \n\t{", Form::Json),
            ("\u{feff}[", Form::Json),
            ("<!doctype html>", Form::Markup),
            ("\n<?xml", Form::Markup),
            ("events are none", Form::Other),
            ("dating", Form::Other),
            ("idea", Form::Other),
            ("ok", Form::Other),
            ("null", Form::Other),
            ("\"event: x\"", Form::Other),
            ("upstream error", Form::Other),
        ] {
            assert_eq!(form(body.as_bytes()), Some(expected), "{body:?}");
        }
    }

    #[test]
    fn too_few_bytes_leave_it_open() {
        for body in [&b""[..], b"\n", b" \r\n", b"\xef", b"\xef\xbb", b"\xef\xbb\xbf", b"e", b"event", b"d", b"data", b"i", b"retry"] {
            assert_eq!(form(body), None, "{body:?}");
        }
        assert_eq!(form(&[b' '; MAX_SNIFFED]), Some(Form::Other), "white space without an end");
    }

    #[test]
    fn coding_is_recognised_by_its_mark() {
        for (coding, first, fits) in [
            ("gzip", &b"\x1f\x8b\x08"[..], Some(true)),
            ("x-gzip", b"\x1f\x8b", Some(true)),
            ("gzip", b"event", Some(false)),
            ("gzip", b"\x1f", None),
            ("gzip", b"", None),
            ("gzip", b"{", Some(false)),
            ("zstd", b"\x28\xb5\x2f\xfd", Some(true)),
            ("zstd", b"\x28\xb5\x2f", None),
            ("zstd", b"event", Some(false)),
            ("br", b"event", Some(true)),
            ("deflate", b"x", Some(true)),
        ] {
            assert_eq!(fits_coding(coding, first), fits, "{coding} {first:?}");
        }
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_what_was_recognised(
            start in proptest::sample::select(vec!["", "\u{feff}", "\n\n", "\r\n", " ", "\u{feff}\n"]),
            body in proptest::sample::select(vec!["event: a\n", "data:x\n", ": c\n", "id\n", "retry: 1\n", "{\"a\":1}", "[1]", "<html>", "text", "ev il", "\u{e9}"]),
            cut in 0usize..24,
        ) {
            let whole = format!("{start}{body}");
            let cut = cut.min(whole.len());
            if let Some(early) = form(&whole.as_bytes()[..cut]) {
                prop_assert_eq!(Some(early), form(whole.as_bytes()));
            }
        }

        #[test]
        fn any_bytes_are_recognised_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (form(&bytes), fits_coding("gzip", &bytes), fits_coding("zstd", &bytes));
        }
    }
}
