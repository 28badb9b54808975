//! Reads a credential from a file that nobody but its owner may read. Never writes one, and never follows up on a part of it.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{CredentialError, SECRET_CAP};

/// Longest file that holds a credential among other things, in bytes.
pub(super) const FILE_CAP: usize = 256 * 1024;

/// Read at each use, so that a rotated key is used at once. Small and local: not worth a thread.
pub(super) fn secret(file: &Path) -> Result<SecretString, CredentialError> {
    text(file, SECRET_CAP)?.ok_or_else(|| unreadable(file, &"there is no such file"))
}

/// The text of a private file; none where it does not exist.
pub(super) fn text(file: &Path, cap: usize) -> Result<Option<SecretString>, CredentialError> {
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(file, &error)),
    };
    if let Some(mode) = too_open(&metadata) {
        return Err(CredentialError::FileTooOpen { file: file.to_owned(), mode });
    }
    if metadata.len() > cap as u64 {
        return Err(CredentialError::Unusable("the file"));
    }
    std::fs::read_to_string(file).map(|text| Some(SecretString::from(text))).map_err(|error| unreadable(file, &error))
}

pub(super) fn unreadable(file: &Path, reason: &dyn std::fmt::Display) -> CredentialError {
    CredentialError::FileUnreadable { file: PathBuf::from(file), reason: reason.to_string() }
}

#[cfg(unix)]
fn too_open(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn too_open(_metadata: &std::fs::Metadata) -> Option<u32> {
    None
}
