//! Looks up what a text has at a key, whether or not the text as a whole is valid. Never looks at what keys mean.

use super::{EditError, parse};
use crate::key::KeyPath;
use crate::tree::Value;

/// The line, from 1, in which a key stands; none where the text does not have it.
///
/// # Errors
///
/// When the text is broken.
pub fn line_of(text: &str, path: &KeyPath) -> Result<Option<usize>, EditError> {
    Ok(member(text, path)?.map(|(line, _)| line))
}

/// The keys of an object; none where the text does not have it.
///
/// # Errors
///
/// When the text is broken.
pub fn keys(text: &str, path: &KeyPath) -> Result<Vec<String>, EditError> {
    Ok(member(text, path)?.map(|(_, keys)| keys).unwrap_or_default())
}

/// The line of a key, and the keys in it.
fn member(text: &str, path: &KeyPath) -> Result<Option<(usize, Vec<String>)>, EditError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let root = parse(text)?;
    let mut node = &root;
    let mut line = 0;
    for key in path.keys() {
        let Some(member) = node.member(key) else { return Ok(None) };
        (node, line) = (&member.node, member.name_at.line_column().0);
    }
    let keys = match &node.value {
        Value::Object(members) => members.iter().map(|member| member.name.clone()).collect(),
        _ => Vec::new(),
    };
    Ok(Some((line, keys)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_with_its_line_and_what_is_in_it() {
        let text = "{\n  // profiles\n  \"profiles\": {\n    \"a\": {},\n    \"b\": { \"auth\": 1 }\n  }\n}";
        let path = |text: &str| KeyPath::parse(text).expect("a path");
        assert_eq!(line_of(text, &path("profiles.b")).expect("whole"), Some(5));
        assert_eq!(line_of(text, &path("profiles.c")).expect("whole"), None);
        assert_eq!(keys(text, &path("profiles")).expect("whole"), ["a", "b"]);
        assert!(keys("", &path("profiles")).expect("nothing").is_empty() && keys("{", &path("a")).is_err());
    }
}
