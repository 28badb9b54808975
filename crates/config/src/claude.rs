//! Finds `failover_policy` in Claude Code's own settings file. Never reads anything else of it, and never fails because of it: the
//! file belongs to another program.

use std::path::Path;

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};
use crate::source;
use crate::tree::{self, Member};

/// The policy in the settings file, if it has one; or a warning if the file cannot be read.
pub(crate) fn policy(settings: &Path) -> Result<Option<(Member, Vec<Diagnostic>)>, Box<Diagnostic>> {
    let Some(text) = source::read(settings).map_err(|fault| soften(settings, &fault))? else {
        return Ok(None);
    };
    if !text.contains("failover_policy") {
        // Whatever is wrong with the file, it is none of our business.
        return Ok(None);
    }
    let (root, mut faults) = tree::parse(settings, &text).map_err(|fault| soften(settings, &fault))?;
    let Some(member) = root.into_member("failover_policy") else {
        return Ok(None);
    };
    let ours = member.node.at.span.clone();
    faults.retain(|fault| fault.span.as_ref().is_some_and(|span| ours.contains(&span.start)));
    Ok(Some((member, faults)))
}

fn soften(settings: &Path, fault: &Diagnostic) -> Box<Diagnostic> {
    let title = "Claude Code's settings file is not used: it cannot be read";
    let mut warning = Diagnostic::about(Severity::Warning, codes::CLAUDE_SETTINGS_UNUSABLE, settings, title);
    warning.note(match fault.line_column() {
        Some((line, column)) => format!("{} at line {line}, column {column}", fault.title),
        None => fault.title.clone(),
    });
    warning.help("mend the file, or move `failover_policy` into hotspare's own configuration");
    Box::new(warning)
}
