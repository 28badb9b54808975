//! Reads a configuration in spite of faulty project files. Leaves out such a file alone, and never one of the user's own or the
//! administrator's: without those nothing may be assumed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::compile::Config;
use crate::context::Context;
use crate::diagnostic::{Diagnostic, Errors, Severity};
use crate::layers::Layer;
use crate::locations::Locations;

/// Most faulty project files that are left out. A folder with more of them has no configuration at all, so that a stranger's tree cannot
/// make the reading of it long.
const MAX_FAULTY_FILES: usize = 16;

/// A project file that is faulty as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Absolute, without links.
    pub file: PathBuf,
    /// Of the first fault, from 1; `None` if the file as a whole is meant.
    pub line: Option<usize>,
    /// What is wrong with it, in one line.
    pub title: String,
    /// Whether its last good text is still in force; otherwise nothing of it is.
    pub keeps_last_good: bool,
}

/// The configuration of a working directory as [`crate::load`] reads it, without the project files that are faulty. In place of one of
/// those stands its text in `kept`, where there is any and that is valid now.
///
/// # Errors
///
/// Everything that is wrong in what no project brought along, or more than 16 faulty project files.
pub fn load_leniently(locations: &Locations, context: &Context, kept: &[(PathBuf, Arc<str>)]) -> Result<(Config, Vec<LeftOut>), Errors> {
    let mut context = context.clone();
    let mut left_out: Vec<LeftOut> = Vec::new();
    loop {
        let errors = match crate::load(locations, &context) {
            Ok(config) => return Ok((config, left_out)),
            Err(errors) => errors,
        };
        let mut is_other = false;
        for fault in errors.0.iter().filter(|fault| is_of_project(fault)) {
            if let Some(known) = left_out.iter_mut().find(|known| known.file == fault.file) {
                // What was good once need not fit the rest of today.
                if std::mem::take(&mut known.keeps_last_good) {
                    context = context.leaving_out(&fault.file);
                    is_other = true;
                }
            } else if left_out.len() < MAX_FAULTY_FILES {
                let text = text_of(kept, &fault.file);
                left_out.push(of_fault(fault, text.is_some()));
                context = match text {
                    Some(text) => context.with_text(&fault.file, text),
                    None => context.leaving_out(&fault.file),
                };
                is_other = true;
            }
        }
        if !is_other {
            return Err(errors);
        }
    }
}

fn is_of_project(fault: &Diagnostic) -> bool {
    fault.severity == Severity::Error && matches!(fault.layer, Some(Layer::Project | Layer::LocalProject))
}

fn text_of(kept: &[(PathBuf, Arc<str>)], file: &Path) -> Option<String> {
    kept.iter().find(|(known, _)| known == file).map(|(_, text)| text.to_string())
}

fn of_fault(fault: &Diagnostic, keeps_last_good: bool) -> LeftOut {
    LeftOut { file: fault.file.clone(), line: fault.line_column().map(|(line, _)| line), title: fault.title.clone(), keeps_last_good }
}
