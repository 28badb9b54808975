//! Holds what a run knows besides its files: the working directory, `--set`, `HOTSPARE_*`. Never looks at the process itself: whoever
//! starts a run says what holds for it, so that one process can hold the configurations of several folders.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base_url::BaseUrl;
use crate::locations::Locations;
use crate::trust::{TrustStore, digest};

/// Begins the name of every variable of ours.
const PREFIX: &str = "HOTSPARE_";

/// What a configuration is read for.
#[derive(Debug, Clone, Default)]
pub struct Context {
    cwd: PathBuf,
    assignments: Vec<String>,
    variables: Vec<(String, String)>,
    without_projects: bool,
    instead: Vec<(PathBuf, String)>,
    left_out: Vec<PathBuf>,
    trusts_all: bool,
    client: ClientBaseUrl,
}

/// Where the client would send its requests without hotspare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientBaseUrl {
    /// Its base URL as its environment and settings name it now; `None` if they name none, or hotspare.
    pub current: Option<BaseUrl>,
    /// What stood there before `install`, by the receipt.
    pub before_install: Option<BaseUrl>,
    /// Credentials that the user's files name together with a host, such as a shell alias with a provider's URL and token. Claude Code's
    /// settings outrank the alias's URL and not its token, so the token comes here, and belongs there.
    pub named: Vec<NamedCredential>,
}

/// A credential that was named for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCredential {
    /// See [`credential_digest`].
    pub digest: u64,
    /// The host that it was named for.
    pub base_url: BaseUrl,
}

/// Fingerprint of a credential, which does not contain it: the first 64 bits of its SHA-256.
pub fn credential_digest(credential: &[u8]) -> u64 {
    digest(credential)
        .bytes()
        .take(16)
        .fold(0, |so_far, digit| (so_far << 4) | u64::from(char::from(digit).to_digit(16).unwrap_or_default()))
}

impl Context {
    /// For a working directory: an absolute path, or empty where none is known and no project file counts.
    pub fn new(cwd: impl Into<PathBuf>) -> Self {
        Self { cwd: cwd.into(), ..Self::default() }
    }

    /// With `--set key=value`, as typed; a later one wins.
    #[must_use]
    pub fn with_assignments(mut self, assignments: Vec<String>) -> Self {
        self.assignments = assignments;
        self
    }

    /// With the environment, of which only `HOTSPARE_*` is kept.
    #[must_use]
    pub fn with_variables(mut self, variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        self.variables = variables.filter_map(ours).collect();
        self.variables.sort();
        self
    }

    /// With the client's own base URL, which says whose credential it brings.
    #[must_use]
    pub fn with_client_base_url(mut self, client: ClientBaseUrl) -> Self {
        self.client = client;
        self
    }

    /// Without any project's files (`--no-project`).
    #[must_use]
    pub fn without_projects(mut self) -> Self {
        self.without_projects = true;
        self
    }

    /// As if the file held this text: to see what an edit would do before it is made.
    #[must_use]
    pub fn with_text(mut self, file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.instead.push((file.into(), text.into()));
        self
    }

    /// Without this project file, whatever stands in it.
    #[must_use]
    pub(crate) fn leaving_out(mut self, file: impl Into<PathBuf>) -> Self {
        self.left_out.push(file.into());
        self
    }

    /// As if every project file were trusted: to see what trust would do before it is given.
    #[must_use]
    pub fn trusting_all(mut self) -> Self {
        self.trusts_all = true;
        self
    }

    /// The same for another working directory.
    #[must_use]
    pub fn in_folder(&self, cwd: impl Into<PathBuf>) -> Self {
        Self { cwd: cwd.into(), ..self.clone() }
    }

    /// The working directory.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    pub(crate) fn reads_projects(&self) -> bool {
        !self.without_projects && self.cwd.is_absolute()
    }

    pub(crate) fn client_base_url(&self) -> &ClientBaseUrl {
        &self.client
    }

    pub(crate) fn assignments(&self) -> &[String] {
        &self.assignments
    }

    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    pub(crate) fn leaves_out(&self, file: &Path) -> bool {
        self.left_out.iter().any(|known| known == file)
    }

    pub(crate) fn text_in_place_of(&self, file: &Path) -> Option<&str> {
        self.instead.iter().find(|(known, _)| known == file).map(|(_, text)| text.as_str())
    }

    pub(crate) fn trust_store(&self, locations: &Locations) -> TrustStore {
        if self.trusts_all { TrustStore::of_everything() } else { TrustStore::new(&locations.state_dir) }
    }
}

/// Ours, with what is no text replaced: such a value is a wrong value, and is told as one.
fn ours((name, value): (OsString, OsString)) -> Option<(String, String)> {
    let name = name.into_string().ok()?;
    name.starts_with(PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
}
