//! Names a place in the format: `failover_policy.clocks.head`, `profiles."a.b".models."claude-*"`. Never knows which keys exist.

use std::fmt;
use std::ops::Range;

/// Most keys of a path. The format has six levels.
const DEEPEST: usize = 16;

/// The keys that lead to a value, from the root. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// Reads keys that are separated by dots; a key in double quotes may hold dots itself.
    pub fn parse(text: &str) -> Option<Self> {
        let ranges = Self::ranges(text)?;
        Some(Self(ranges.into_iter().map(|range| unquoted(&text[range]).to_owned()).collect()))
    }

    /// Where each key stands in the text, quotes included.
    pub(crate) fn ranges(text: &str) -> Option<Vec<Range<usize>>> {
        let mut ranges = Vec::new();
        let mut start = 0;
        loop {
            let rest = &text[start..];
            let length = match rest.strip_prefix('"') {
                Some(quoted) => quoted.find('"')? + 2,
                None => rest.find('.').unwrap_or(rest.len()),
            };
            if unquoted(&rest[..length]).is_empty() || ranges.len() == DEEPEST {
                return None;
            }
            ranges.push(start..start + length);
            match text[start + length..].chars().next() {
                None => return Some(ranges),
                Some('.') => start += length + 1,
                Some(_) => return None,
            }
        }
    }

    /// The keys, from the root.
    pub fn keys(&self) -> &[String] {
        &self.0
    }

    /// One level deeper.
    pub(crate) fn child(parent: Option<&Self>, key: &str) -> Self {
        let mut keys = parent.map(|parent| parent.0.clone()).unwrap_or_default();
        keys.push(key.to_owned());
        Self(keys)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, key) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(".")?;
            }
            let is_plain = !key.is_empty() && !key.contains(['.', '"', '=', ' ']);
            if is_plain { f.write_str(key)? } else { write!(f, "\"{key}\"")? }
        }
        Ok(())
    }
}

fn unquoted(key: &str) -> &str {
    key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_separate_and_quotes_hold_together() {
        let keys = |text| KeyPath::parse(text).map(|path| path.0);
        assert_eq!(keys("a.b.c").as_deref(), Some(&["a".to_owned(), "b".into(), "c".into()][..]));
        assert_eq!(keys(r#"profiles."a.b".models."claude-*""#).map(|keys| keys.len()), Some(4));
        assert_eq!(keys("\"a b\".c").map(|keys| keys[0].clone()).as_deref(), Some("a b"));
        for wrong in ["", ".", "a.", ".a", "a..b", "\"a", "\"a\"b", "\"\"", "a.\"\".b"] {
            assert_eq!(keys(wrong), None, "{wrong}");
        }
        assert_eq!(keys(&["a"; 17].join(".")), None);
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["a.b", r#"profiles."a.b".x"#, r#""a=b""#, r#""a b""#] {
            assert_eq!(KeyPath::parse(text).expect("a path").to_string(), text);
        }
    }
}
