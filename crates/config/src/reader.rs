//! Walks the tree with types: hands out fields by key and says what is wrong with them, where. Never decides what a key means.

use crate::codes::{self, Code};
use crate::diagnostic::{Diagnostic, Severity};
use crate::source::At;
use crate::tree::{Member, Node, Value};

/// What was found wrong so far. Reading goes on after a fault, so that one run shows all of them.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Findings {
    /// Notes an error; the returned diagnostic takes help and notes.
    pub(crate) fn error(&mut self, code: Code, at: &At, title: impl Into<String>, label: impl Into<String>) -> &mut Diagnostic {
        push(&mut self.errors, Diagnostic::at(Severity::Error, code, at, title, label))
    }

    /// Notes a warning; the returned diagnostic takes help and notes.
    pub(crate) fn warning(&mut self, code: Code, at: &At, title: impl Into<String>, label: impl Into<String>) -> &mut Diagnostic {
        push(&mut self.warnings, Diagnostic::at(Severity::Warning, code, at, title, label))
    }
}

fn push(list: &mut Vec<Diagnostic>, diagnostic: Diagnostic) -> &mut Diagnostic {
    list.push(diagnostic);
    list.last_mut().expect("one was just pushed")
}

/// A value with the path that leads to it.
#[derive(Clone)]
pub(crate) struct Field<'t> {
    /// From the root, e.g. `profiles.work.auth`; empty for the root itself.
    pub(crate) path: String,
    /// Where its key stands; for a list's entries and the root where the value starts.
    pub(crate) key_at: At,
    pub(crate) node: &'t Node,
}

impl<'t> Field<'t> {
    /// The whole file.
    pub(crate) fn root(node: &'t Node) -> Self {
        Self { path: String::new(), key_at: opening(&node.at), node }
    }

    /// A value that stands under a key.
    pub(crate) fn member(parent: &str, member: &'t Member) -> Self {
        let key = member.name_at.quote();
        let key = key.strip_prefix('+').filter(|key| !key.is_empty()).unwrap_or(&key);
        // In a variable's name it stands in capitals.
        let key = if key.eq_ignore_ascii_case(&member.name) { &member.name } else { key };
        Self { path: joined(parent, key), key_at: member.name_at.clone(), node: &member.node }
    }

    /// Where the value stands, at most one line of it.
    pub(crate) fn at(&self) -> At {
        self.node.at.first_line()
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    pub(crate) fn bool(&self, findings: &mut Findings) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            _ => self.wrong_type("`true` or `false`", findings),
        }
    }

    pub(crate) fn string(&self, findings: &mut Findings) -> Option<&'t str> {
        self.string_such_as("a string", findings)
    }

    /// The same, where people are told more of what is expected.
    pub(crate) fn string_such_as(&self, expected: &str, findings: &mut Findings) -> Option<&'t str> {
        match &self.node.value {
            Value::String(value) => Some(value),
            _ => self.wrong_type(expected, findings),
        }
    }

    /// A string that is not empty or blank.
    pub(crate) fn text(&self, findings: &mut Findings) -> Option<&'t str> {
        let text = self.string(findings)?;
        if text.trim().is_empty() {
            findings
                .error(codes::EMPTY_VALUE, &self.at(), format!("`{}` is empty", self.path), "nothing stands here")
                .help("give it a value, or remove the key");
            return None;
        }
        Some(text)
    }

    /// A whole number in the range, ends included.
    pub(crate) fn number(&self, from: u64, to: u64, findings: &mut Findings) -> Option<u64> {
        let Value::Number(text) = &self.node.value else {
            return self.wrong_type("a whole number", findings);
        };
        match text.parse() {
            Ok(number) if (from..=to).contains(&number) => Some(number),
            _ => {
                findings
                    .error(codes::OUT_OF_RANGE, &self.at(), format!("`{}` is out of range", self.path), "not a whole number in the range")
                    .help(format!("write a whole number from {from} to {to}"));
                None
            }
        }
    }

    pub(crate) fn list(&self, findings: &mut Findings) -> Option<Vec<Field<'t>>> {
        let Value::List(nodes) = &self.node.value else {
            return self.wrong_type("a list", findings);
        };
        let entry = |(index, node): (usize, &'t Node)| Field { path: format!("{}[{index}]", self.path), key_at: opening(&node.at), node };
        Some(nodes.iter().enumerate().map(entry).collect())
    }

    pub(crate) fn table(&self, findings: &mut Findings) -> Option<Table<'t>> {
        match &self.node.value {
            Value::Object(members) => Some(Table { path: self.path.clone(), at: self.key_at.clone(), members, known: Vec::new() }),
            _ => self.wrong_type("an object", findings),
        }
    }

    /// One of a few words; `not_yet` are words of the published format that this version does not carry out, with what to use instead.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)], not_yet: &[(&str, &str)], findings: &mut Findings) -> Option<T> {
        let text = self.string(findings)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        if let Some((_, instead)) = not_yet.iter().find(|(word, _)| *word == text) {
            self.value_not_yet(instead, findings);
            return None;
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let title = format!("`{}` cannot be `{}`", self.path, self.at().quote());
        let diagnostic = findings.error(codes::UNKNOWN_WORD, &self.at(), title, "not one of the allowed words");
        suggest(diagnostic, text, &known);
        diagnostic.note(format!("allowed: {}", listed(&known)));
        None
    }

    /// Says that the value is part of the format but not of this version.
    pub(crate) fn value_not_yet(&self, instead: &str, findings: &mut Findings) {
        let title = format!("this version does not carry out `{}` for `{}` yet", self.at().quote(), self.path);
        findings.error(codes::VALUE_NOT_YET, &self.at(), title, "not yet carried out").help(instead);
    }

    /// Says that something else was expected; always `None`.
    pub(crate) fn wrong_type<T>(&self, expected: &str, findings: &mut Findings) -> Option<T> {
        let name = if self.path.is_empty() { "the configuration".to_owned() } else { format!("`{}`", self.path) };
        let label = format!("this is {}", self.node.value.kind());
        let diagnostic = findings.error(codes::WRONG_TYPE, &self.at(), format!("{name} must be {expected}"), label);
        match &self.node.value {
            Value::Null if !self.path.is_empty() => diagnostic.help("remove the key to get its default"),
            Value::String(text) if expected != "a string" && is_bare_word(text) => diagnostic.help("remove the quotes"),
            _ => diagnostic.help(format!("write {expected} here")),
        };
        None
    }
}

/// Whether the text would be a JSON value without its quotes.
fn is_bare_word(text: &str) -> bool {
    matches!(text, "true" | "false") || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An object whose keys are handed out one by one. [`Table::finish`] reports those nobody asked for.
pub(crate) struct Table<'t> {
    pub(crate) path: String,
    /// The key that the object stands under.
    pub(crate) at: At,
    members: &'t [Member],
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    /// The value under the key, if there is one.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Field<'t>> {
        self.known.push(key);
        self.find(key)
    }

    /// Every member in file order, for objects whose keys are the user's own names.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'t Member, Field<'t>)> {
        self.members.iter().map(|member| (member, Field::member(&self.path, member)))
    }

    /// A key of the published format that this version does not carry out: never ignored, because a limit that nobody keeps is a lie.
    pub(crate) fn not_yet(&mut self, key: &'static str, instead: &str, findings: &mut Findings) {
        let Some(field) = self.find(key) else { return };
        self.known.push(key);
        let title = format!("this version does not carry out `{}` yet", field.path);
        findings.error(codes::KEY_NOT_YET, &field.key_at, title, "not yet carried out").help(instead);
    }

    /// Says that a key is missing.
    pub(crate) fn missing(&self, key: &str, help: impl Into<String>, findings: &mut Findings) {
        let title = format!("`{}` is missing", joined(&self.path, key));
        findings.error(codes::MISSING_KEY, &self.at, title, format!("needs `{key}`")).help(help);
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self, findings: &mut Findings) {
        self.finish_with(|_| None, findings);
    }

    /// The same, with better advice for some unknown keys than the nearest known one.
    pub(crate) fn finish_with(self, advice: impl Fn(&str) -> Option<String>, findings: &mut Findings) {
        for member in self.members.iter().filter(|member| !self.known.contains(&member.name.as_str())) {
            let title = format!("unknown key `{}`", joined(&self.path, &member.name_at.quote()));
            let diagnostic = findings.error(codes::UNKNOWN_KEY, &member.name_at, title, "no such key here");
            match advice(&member.name) {
                Some(text) => {
                    diagnostic.help(text);
                }
                None => suggest(diagnostic, &member.name, &self.known),
            }
            diagnostic.note(format!("known here: {}", listed(&self.known)));
        }
    }

    fn find(&self, key: &str) -> Option<Field<'t>> {
        self.members.iter().find(|member| member.name == key).map(|member| Field::member(&self.path, member))
    }
}

/// Adds "did you mean", or that the value can go.
fn suggest(diagnostic: &mut Diagnostic, given: &str, known: &[&str]) {
    match nearest(given, known.iter().copied()) {
        Some(name) => diagnostic.help(format!("did you mean `{name}`?")),
        None => diagnostic.help("remove it, or use one of those below"),
    };
}

/// The known name that the given one was probably meant to be.
pub(crate) fn nearest<'k>(given: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let given = folded(given);
    known
        .map(|name| (strsim::damerau_levenshtein(&given, &folded(name)), name))
        .filter(|(distance, name)| *distance <= name.len().max(given.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Case, `_` and `-` are what people mix up most. Long texts are no misspelling of anything.
fn folded(name: &str) -> String {
    name.chars().take(64).filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// `` `a`, `b` `` for people.
pub(crate) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn joined(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// The first character: where an object or a list opens.
fn opening(at: &At) -> At {
    At::new(&at.source, at.span.start..(at.span.start + 1).min(at.span.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_find_the_one_that_was_meant() {
        let known = ["primary_profile", "secondary_profile", "triggers", "clocks"];
        let meant = |given| nearest(given, known.into_iter());
        assert_eq!(meant("primaryProfile"), Some("primary_profile"));
        assert_eq!(meant("secondry-profile"), Some("secondary_profile"));
        assert_eq!(meant("trigger"), Some("triggers"));
        assert_eq!(meant("colour"), None);
        assert_eq!(nearest("c", ["a"].into_iter()), None, "a short name is no misspelling of another");
        assert_eq!(meant(""), None);
    }
}
