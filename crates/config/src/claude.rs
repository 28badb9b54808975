//! Finds `failover_policy` in Claude Code's own settings. Never reads anything else of them, and never fails because of them: the
//! file belongs to another program.

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};
use crate::source::Place;
use crate::tree::{self, Member};

const KEY: &str = "failover_policy";

/// The policy in the text of a settings file, if it has one; or a warning if the text cannot be read.
pub(crate) fn policy_in(place: &Place, text: &str) -> Result<Option<(Member, Vec<Diagnostic>)>, Box<Diagnostic>> {
    if !text.contains(KEY) {
        // Whatever is wrong with the file, it is none of our business.
        return Ok(None);
    }
    let (root, mut faults) = tree::parse(place, text).map_err(|fault| soften(place, &fault))?;
    let Some(member) = root.into_member(KEY) else {
        return Ok(None);
    };
    let ours = member.node.at.span.clone();
    faults.retain(|fault| fault.span.as_ref().is_some_and(|span| ours.contains(&span.start)));
    Ok(Some((member, faults)))
}

/// A fault of the whole file, told as a warning.
pub(crate) fn soften(place: &Place, fault: &Diagnostic) -> Box<Diagnostic> {
    let title = "Claude Code's settings file is not used: it cannot be read";
    let mut warning = Diagnostic::about(Severity::Warning, codes::CLAUDE_SETTINGS_UNUSABLE, &place.path, title).in_layer(place.layer);
    warning.note(match fault.line_column() {
        Some((line, column)) => format!("{} at line {line}, column {column}", fault.title),
        None => fault.title.clone(),
    });
    warning.help("mend the file, or move `failover_policy` into hotspare's own configuration");
    Box::new(warning)
}
