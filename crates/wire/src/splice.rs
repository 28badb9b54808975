//! Changes places of a JSON text and no other byte: spans come from borrowed values, changes are cut in between slices of the original.
//! Never re-serialises, and never parses deeper than it is asked to.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The place of a value in the text that it borrows from.
pub fn span(text: &[u8], value: &RawValue) -> Range<usize> {
    let start = (value.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + value.get().len()
}

/// A key and its value in an object.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The key, unescaped.
    pub name: Cow<'a, str>,
    /// From the key's first quote to the value's last byte.
    pub at: Range<usize>,
    /// The value, not parsed.
    pub value: &'a RawValue,
}

/// The members of an object, in order; none where the value is no object. `text` is what the value borrows from.
pub fn members<'a>(text: &[u8], value: &'a RawValue) -> Option<Vec<Member<'a>>> {
    let pairs = serde_json::from_str::<Pairs<'a>>(value.get()).ok()?;
    let member = |(key, value): (&'a RawValue, &'a RawValue)| {
        let at = span(text, key).start..span(text, value).end;
        Member { name: string(key).unwrap_or_default(), at, value }
    };
    Some(pairs.0.into_iter().map(member).collect())
}

/// The items of a list; none where the value is no list.
pub fn items(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// What stands between a string's quotes, escaped as it came; none where the value is no string.
pub fn inner(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

/// A string's text; none where the value is no string.
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = inner(value)?;
    if inner.contains('\\') { serde_json::from_str(value.get()).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Reader<'a> {
            type Value = Pairs<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'a>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader(std::marker::PhantomData))
    }
}

/// What becomes of one item of a list, or of one member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is, but for changes inside it.
    Keep,
    /// It goes, with one of the commas beside it.
    Drop,
    /// This stands in its place.
    Replace(String),
}

/// Changes to one text, gathered in any order. A change inside a place that goes as a whole is void.
#[derive(Debug, Clone, Default)]
pub struct Splices {
    edits: Vec<(Range<usize>, Bytes)>,
}

impl Splices {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Puts other bytes in a place.
    pub fn replace(&mut self, at: Range<usize>, with: impl Into<Bytes>) {
        self.edits.push((at, with.into()));
    }

    /// Takes a place out.
    pub fn remove(&mut self, at: Range<usize>) {
        self.replace(at, Bytes::new());
    }

    /// Puts bytes in before a place.
    pub fn insert(&mut self, at: usize, what: impl Into<Bytes>) {
        self.replace(at..at, what);
    }

    /// Changes the items of one list or object: `at` are their places in order, `fates` what becomes of each, and `more` comes behind them.
    /// `close` is the place of the closing bracket. What results is a well-formed list of what is left.
    pub fn list(&mut self, at: &[Range<usize>], fates: &[Fate], more: &[String], close: usize) {
        let is_kept = |index: usize| fates.get(index) != Some(&Fate::Drop);
        let mut any_kept = false;
        for (index, place) in at.iter().enumerate() {
            match fates.get(index) {
                Some(Fate::Drop) if any_kept => self.remove(at[index - 1].end..place.end),
                Some(Fate::Drop) => self.remove(place.start..at.get(index + 1).map_or(place.end, |next| next.start)),
                Some(Fate::Replace(with)) => self.replace(place.clone(), with.clone()),
                Some(Fate::Keep) | None => {}
            }
            any_kept |= is_kept(index);
        }
        if !more.is_empty() {
            let comma = if any_kept { "," } else { "" };
            self.insert(at.last().map_or(close, |last| last.end), format!("{comma}{}", more.join(",")));
        }
    }

    /// The text with its changes, as cheap slices of the original around what is new.
    pub fn apply(mut self, text: &Bytes) -> Vec<Bytes> {
        // At one place, what is put in comes before what is taken out, and the larger change covers the smaller.
        self.edits.sort_by_key(|(at, _)| (at.start, !at.is_empty(), Reverse(at.end)));
        let mut parts = Vec::with_capacity(2 * self.edits.len() + 1);
        let mut from = 0;
        for (at, with) in self.edits {
            if at.start < from || at.end > text.len() {
                continue;
            }
            parts.push(text.slice(from..at.start));
            parts.push(with);
            from = at.end;
        }
        parts.push(text.slice(from..));
        parts.retain(|part| !part.is_empty());
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    /// Applies fates, written as one letter each: k, d or r.
    fn listed(text: &str, fates: &str, more: &[&str]) -> String {
        let value = whole(text);
        let at: Vec<_> = match members(text.as_bytes(), value) {
            Some(members) => members.into_iter().map(|member| member.at).collect(),
            None => items(value).unwrap().into_iter().map(|item| span(text.as_bytes(), item)).collect(),
        };
        let fates: Vec<_> = fates
            .chars()
            .map(|letter| match letter {
                'd' => Fate::Drop,
                'r' => Fate::Replace("\"R\":0".to_owned()),
                _ => Fate::Keep,
            })
            .collect();
        let mut splices = Splices::default();
        let more: Vec<_> = more.iter().map(|more| (*more).to_owned()).collect();
        splices.list(&at, &fates, &more, text.len() - 1);
        String::from_utf8(splices.apply(&Bytes::copy_from_slice(text.as_bytes())).concat()).unwrap()
    }

    #[test]
    fn members_have_their_places() {
        let text = r#" { "a" : 1 , "b\n": [2, {"c":3}] } "#;
        let members = members(text.as_bytes(), whole(text)).unwrap();
        let shown: Vec<_> = members.iter().map(|member| (&*member.name, &text[member.at.clone()], member.value.get())).collect();
        assert_eq!(shown, [("a", r#""a" : 1"#, "1"), ("b\n", r#""b\n": [2, {"c":3}]"#, r#"[2, {"c":3}]"#)]);
    }

    #[test]
    fn items_go_with_one_comma_each() {
        assert_eq!(listed("[1, 2 , 3]", "kdk", &[]), "[1 , 3]");
        assert_eq!(listed("[1, 2 , 3]", "ddk", &[]), "[3]");
        assert_eq!(listed("[1, 2 , 3]", "kdd", &[]), "[1]");
        assert_eq!(listed("[ 1, 2 ]", "dd", &[]), "[  ]");
        assert_eq!(listed("[1]", "d", &["7", "8"]), "[7,8]");
        assert_eq!(listed("[1, 2]", "kd", &["7"]), "[1,7]");
        assert_eq!(listed("[]", "", &["7"]), "[7]");
        assert_eq!(listed(r#"{"a":1, "b":2}"#, "dr", &[]), r#"{"R":0}"#);
    }

    #[test]
    fn a_change_inside_what_goes_is_void() {
        let mut splices = Splices::default();
        splices.replace(3..4, "inner");
        splices.remove(2..6);
        splices.insert(2, "before");
        assert_eq!(splices.apply(&Bytes::from_static(b"0123456789")).concat(), b"01before6789");
    }

    proptest! {
        #[test]
        fn what_is_left_is_a_list_of_what_was_kept(
            items in proptest::collection::vec((0u8..200, proptest::sample::select(vec!["k", "d"])), 0..9),
            space in proptest::sample::select(vec!["", " ", " \n\t"]),
            more in proptest::collection::vec(0u8..9, 0..3),
        ) {
            let text = format!("[{space}{}{space}]", items.iter().map(|(n, _)| format!("{n}{space}")).collect::<Vec<_>>().join(&format!(",{space}")));
            let fates: String = items.iter().map(|(_, fate)| *fate).collect();
            let shown: Vec<_> = more.iter().map(u8::to_string).collect();
            let changed = listed(&text, &fates, &shown.iter().map(String::as_str).collect::<Vec<_>>());
            let expected: Vec<u8> = items.iter().filter(|(_, fate)| *fate == "k").map(|(n, _)| *n).chain(more).collect();
            prop_assert_eq!(serde_json::from_str::<Vec<u8>>(&changed).unwrap(), expected);
        }
    }
}
