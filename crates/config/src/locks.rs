//! Holds lower layers to what the administrator locked. Never decides a value: a locked key has the administrator's, or its default.

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};
use crate::key::KeyPath;
use crate::layers::Layer;
use crate::reader::{Field, Findings};
use crate::schema;
use crate::source::At;
use crate::tree::{Member, Node, Value};

const KEY: &str = "locked";

/// A key that only the administrator may set.
pub(crate) struct Lock {
    path: KeyPath,
    at: At,
}

/// Takes the locks out of the administrator's texts.
pub(crate) fn read<'n>(managed: impl Iterator<Item = &'n mut Node>, findings: &mut Findings) -> Vec<Lock> {
    let mut locks = Vec::new();
    for member in managed.filter_map(|node| node.take_member(KEY)) {
        let field = Field::member("", &member);
        for entry in field.list(findings).unwrap_or_default() {
            let Some(text) = entry.text(findings) else { continue };
            if let Some(path) = KeyPath::parse(text).filter(schema::knows) {
                locks.push(Lock { path, at: entry.at() });
            } else {
                let title = format!("no key is called `{}`", entry.at().quote());
                findings
                    .error(codes::NO_SUCH_KEY, &entry.at(), title, "not a key's path")
                    .help("write the whole path, e.g. `failover_policy.triggers` or `profiles.NAME`");
            }
        }
    }
    locks
}

/// Takes out of a lower layer's tree what is locked.
pub(crate) fn enforce(node: Node, locks: &[Lock], findings: &mut Findings) -> Node {
    if locks.is_empty() { node } else { without(node, None, locks, findings) }
}

fn without(node: Node, parent: Option<&KeyPath>, locks: &[Lock], findings: &mut Findings) -> Node {
    let Value::Object(members) = node.value else { return node };
    let mut kept = Vec::with_capacity(members.len());
    for member in members {
        let path = KeyPath::child(parent, member.key());
        match locks.iter().find(|lock| lock.path == path) {
            Some(lock) => report(&member, &path, lock, findings),
            None => kept.push(Member { node: without(member.node, Some(&path), locks, findings), ..member }),
        }
    }
    Node { at: node.at, value: Value::Object(kept) }
}

/// An argument was typed to have an effect; a file may be older than the lock.
fn report(member: &Member, path: &KeyPath, lock: &Lock, findings: &mut Findings) {
    let severity = if member.name_at.source.place.layer == Layer::Flags { Severity::Error } else { Severity::Warning };
    let title = format!("`{path}` is locked by the administrator, and has no effect here");
    let mut diagnostic = Diagnostic::at(severity, codes::LOCKED, &member.name_at, title, "has no effect");
    let (line, column) = lock.at.line_column();
    diagnostic.help("remove it here").note(format!("locked at {}:{line}:{column}", lock.at.source.place.path.display()));
    match severity {
        Severity::Error => findings.errors.push(diagnostic),
        Severity::Warning => findings.warnings.push(diagnostic),
    }
}

/// Locks below the administrator's layer are a mistake, not a wish.
pub(crate) fn refuse(node: &mut Node, findings: &mut Findings) {
    if let Some(member) = node.take_member(KEY) {
        findings
            .error(codes::LOCK_ELSEWHERE, &member.name_at, "only the managed configuration may lock keys", "no lock here")
            .help("remove it, or move it to the managed file of this machine");
    }
}
