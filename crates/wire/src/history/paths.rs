//! Takes a place out of a request that a provider has named in its refusal. Never takes the request itself apart: the messages, the model
//! and what tools are made of stay.

use serde_json::value::RawValue;

use crate::splice;

use super::draft::Draft;
use super::view::Object;

/// Takes out what stands at `path`: keys from the top, `*` for every item of a list. A key that is not there is skipped: providers put the
/// name of a variant between two keys.
pub(super) fn remove(draft: &mut Draft<'_, '_>, path: &str) {
    let keys: Vec<&str> = path.split('.').collect();
    let view = draft.view;
    let Some(start) = keys.iter().position(|key| view.top(key).is_some()) else { return };
    match &keys[start..] {
        [first, rest @ ..] if !rest.is_empty() => {
            if let Some(member) = view.top(first).filter(|_| draft.has_top(first)) {
                inside(draft, member.value, rest, path);
            }
        }
        [only, ..] => draft.drop_top(only),
        [] => {}
    }
}

fn inside(draft: &mut Draft<'_, '_>, value: &RawValue, keys: &[&str], path: &str) {
    let view = draft.view;
    let Some((key, rest)) = keys.split_first() else { return };
    if let Some(items) = splice::items(value) {
        let rest = if *key == "*" { rest } else { keys };
        return items.into_iter().for_each(|item| inside(draft, item, rest, path));
    }
    let Some(object) = Object::of(view.text, value) else { return };
    match object.get(key) {
        Some(_) if rest.is_empty() => draft.drop_members(&object, |name| name == *key, |_| Some(path.to_owned())),
        Some(next) => inside(draft, next, rest, path),
        None => inside(draft, value, rest, path),
    }
}
