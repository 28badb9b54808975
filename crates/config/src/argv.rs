//! Reads a program with its arguments. Never hands either to a shell, and never looks for the program.

use std::path::{Path, PathBuf};

use crate::codes;
use crate::reader::{Field, Findings};
use crate::tree::Value;

/// Program and arguments, one by one; `example` is a list in the right form.
pub(crate) fn argv(field: &Field<'_>, example: &str, home: &Path, findings: &mut Findings) -> Option<Vec<String>> {
    if matches!(field.node.value, Value::String(_)) {
        let title = format!("`{}` must be a list", field.path);
        findings
            .error(codes::WRONG_TYPE, &field.at(), title, "no shell takes this apart")
            .help(format!("write the program and its arguments one by one: `{example}`"));
        return None;
    }
    let entries = field.list(findings)?;
    let Some(program) = entries.first() else {
        findings
            .error(codes::EMPTY_VALUE, &field.at(), format!("`{}` is empty", field.path), "no program")
            .help(format!("write the program and its arguments: `{example}`"));
        return None;
    };
    let program = expand(program.text(findings)?, home).to_string_lossy().into_owned();
    let arguments: Option<Vec<_>> = entries[1..].iter().map(|entry| entry.string(findings).map(str::to_owned)).collect();
    Some([vec![program], arguments?].concat())
}

/// `~` and `~/…` are the home folder; another user's is not looked up.
pub(crate) fn expand(text: &str, home: &Path) -> PathBuf {
    match text.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_folder() {
        let home = Path::new("/home/u");
        assert_eq!(expand("~", home), Path::new("/home/u"));
        assert_eq!(expand("~/a/b", home), Path::new("/home/u/a/b"));
        assert_eq!(expand("~//etc/passwd", home), Path::new("/home/u/etc/passwd"));
        assert_eq!(expand("~other/x", home), Path::new("~other/x"));
        assert_eq!(expand("/a/~", home), Path::new("/a/~"));
    }
}
