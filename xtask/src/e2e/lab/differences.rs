//! Where two model calls differ, by place: ids, paths of the case and checksums are no difference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hotspare_testkit::Received;
use serde_json::Value;

/// Headers that differ from run to run: lengths of bodies with paths, and how long a tool took.
const VOLATILE: [&str; 2] = ["content-length", "x-claude-code-prev-tool-durations"];

/// Characters of a line that name it.
const LINE_NAME: usize = 60;

/// The folder that is created for one `hotspare run`, before its random end.
const RUN_FOLDER: &str = "hotspare-run-";

/// The billing block's checksum of the prompt, before its value.
const CHECKSUM: &str = "cch=";

/// A model call with what is random taken out.
pub(super) struct Call {
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Call {
    /// `folder` is where the case lives.
    pub(super) fn new(request: &Received, folder: &Path) -> Self {
        let stable = |text: &[u8]| stable(&String::from_utf8_lossy(text), folder);
        let headers = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), stable(value)));
        let headers = headers.filter(|(name, _)| !VOLATILE.contains(&name.as_str())).collect();
        let mut body: Value = serde_json::from_str(&stable(&request.body)).unwrap_or_default();
        body["messages"].as_array_mut().into_iter().flatten().for_each(join_texts);
        Self { headers, body }
    }

    /// Every place where the two differ.
    pub(super) fn differences(&self, other: &Self) -> BTreeSet<String> {
        let mut places = BTreeSet::new();
        for name in self.headers.keys().chain(other.headers.keys()) {
            let [one, two] = [self, other].map(|call| call.headers.get(name).map(String::as_str));
            match (one, two) {
                (Some(one), Some(two)) if name == "anthropic-beta" => {
                    let [one, two] = [one, two].map(|betas| betas.split(',').map(str::trim).collect::<BTreeSet<_>>());
                    places.extend(one.symmetric_difference(&two).map(|beta| format!("beta {beta}")));
                }
                (one, two) if one != two => drop(places.insert(format!("header {name}"))),
                _ => {}
            }
        }
        compare(&self.body, &other.body, "body", &mut places);
        places
    }
}

/// Takes a message's texts as one, however the client cuts them into blocks.
fn join_texts(message: &mut Value) {
    let content = message["content"].take();
    let is_text = |block: &&Value| block["type"] == "text";
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = blocks.iter().filter(is_text).filter_map(|block| block["text"].as_str()).chain(content.as_str()).collect();
    message["text"] = texts.join("\n").into();
    message["content"] = blocks.iter().filter(|block| !is_text(block)).cloned().collect();
}

fn compare(one: &Value, two: &Value, place: &str, places: &mut BTreeSet<String>) {
    match (one, two) {
        (Value::Object(one), Value::Object(two)) => {
            for name in one.keys().chain(two.keys()) {
                compare(one.get(name).unwrap_or(&Value::Null), two.get(name).unwrap_or(&Value::Null), &format!("{place}.{name}"), places);
            }
        }
        (Value::Array(one), Value::Array(two)) if named(one).is_some() && named(two).is_some() => {
            let (one, two) = (named(one).unwrap_or_default(), named(two).unwrap_or_default());
            for name in one.keys().chain(two.keys()) {
                match (one.get(name), two.get(name)) {
                    (Some(one), Some(two)) => compare(one, two, &format!("{place}.*"), places),
                    _ => drop(places.insert(format!("{place}.{name}"))),
                }
            }
        }
        (Value::Array(one), Value::Array(two)) if one.len() == two.len() => {
            one.iter().zip(two).for_each(|(one, two)| compare(one, two, &format!("{place}.*"), places));
        }
        (Value::String(one), Value::String(two)) => {
            let [one, two] = [one, two].map(|text| text.lines().collect::<BTreeSet<_>>());
            let name = |line: &str| line.chars().take(LINE_NAME).collect::<String>();
            places.extend(one.symmetric_difference(&two).map(|line| format!("{place}: {}", name(line))));
        }
        _ if one != two => drop(places.insert(place.to_owned())),
        _ => {}
    }
}

/// The items by their names; `None` if one has no name.
fn named(items: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    items.iter().map(|item| Some((item["name"].as_str()?, item))).collect()
}

/// The text without ids, checksums and the case's own paths.
fn stable(text: &str, folder: &Path) -> String {
    let folder = folder.to_string_lossy();
    // The client names a project's folder by its path, with dashes.
    let text = text.replace(&*folder, "FOLDER").replace(&folder.replace(['/', '.'], "-"), "FOLDER");
    let mut stable = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let (name, length) = match random(rest) {
            Some(length) => ("ID", length),
            None => (&rest[..first.len_utf8()], first.len_utf8()),
        };
        stable.push_str(name);
        rest = &rest[length..];
    }
    stable
}

/// The length of what is random at the start of the text.
fn random(text: &str) -> Option<usize> {
    let hex = |length: usize| text.as_bytes().get(..length).is_some_and(|part| part.iter().all(u8::is_ascii_hexdigit));
    if text.starts_with(CHECKSUM) {
        return text.find(';');
    }
    if text.starts_with(RUN_FOLDER) {
        return Some(text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').unwrap_or(text.len()));
    }
    if hex(64) {
        return Some(64);
    }
    let uuid = text.as_bytes().get(..36)?;
    let is_uuid = uuid.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    is_uuid.then_some(36)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn random_parts_are_no_difference() {
        let text = "at /tmp/case-1/x, /tmp-case, cch=a1b2c; 0a0a0a0a-0000-4000-8000-000000000001 in hotspare-run-Ab3.";
        assert_eq!(stable(text, Path::new("/tmp/case-1")), "at FOLDER/x, /tmp-case, ID; ID in ID.");
    }

    #[test]
    fn differences_are_named_by_their_place() {
        let mut places = BTreeSet::new();
        let one = json!({ "tools": [{ "name": "A" }, { "name": "B", "x": 1 }], "system": "one\ntwo", "only": 1, "same": [1] });
        let two = json!({ "tools": [{ "name": "B", "x": 2 }], "system": "one\nthree", "same": [1] });
        compare(&one, &two, "body", &mut places);
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        assert_eq!(places, ["body.only", "body.system: three", "body.system: two", "body.tools.*.x", "body.tools.A"]);
    }
}
