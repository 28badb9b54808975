//! A home folder on disk, with projects in it, and what loads from there.

use std::fs;
use std::path::{Path, PathBuf};

use hotspare_config::{Config, Context, Errors, Locations, TrustStore, codes, load};
use tempfile::TempDir;

/// A home folder of its own.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Absolute and without links.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().canonicalize().expect("it is there").join(path)
    }

    pub(crate) fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(path, content);
        self
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    pub(crate) fn config(self, content: impl AsRef<[u8]>) -> Self {
        self.with(".config/hotspare/config.json", content)
    }

    pub(crate) fn claude(self, content: impl AsRef<[u8]>) -> Self {
        self.with(".claude/settings.json", content)
    }

    pub(crate) fn locations(&self, explicit: Option<&str>) -> Locations {
        let home = self.0.path().as_os_str().to_owned();
        let env = |name: &str| (name == "HOME").then(|| home.clone());
        let found = Locations::find(&env, explicit.map(|path| self.path(path))).expect("a home");
        // What this machine's administrator wrote is no part of a test.
        Locations { managed_file: self.path("etc/managed.json"), claude_managed: self.path("etc/managed-settings.json"), ..found }
    }

    pub(crate) fn config_file_gone(&self) {
        fs::remove_file(self.path(".config/hotspare/config.json")).expect("removed");
    }

    /// Without a working directory.
    pub(crate) fn load(&self) -> Result<Config, Errors> {
        load(&self.locations(None), &Context::default())
    }

    /// In a folder below home.
    pub(crate) fn load_in(&self, folder: &str) -> Result<Config, Errors> {
        load(&self.locations(None), &Context::new(self.path(folder)))
    }

    pub(crate) fn config_of(&self) -> Config {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    pub(crate) fn config_in(&self, folder: &str) -> Config {
        self.load_in(folder).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Trusts what stands in the file now, as the command does: by what was read.
    pub(crate) fn trust(&self, folder: &str) -> usize {
        let context = Context::new(self.path(folder)).trusting_all();
        let projects = load(&self.locations(None), &context).unwrap_or_else(|errors| panic!("{errors}")).projects;
        let store = self.store();
        for project in &projects {
            store.pin(&project.file, &project.digest).expect("pinned");
        }
        projects.len()
    }

    pub(crate) fn store(&self) -> TrustStore {
        TrustStore::new(&self.locations(None).state_dir)
    }

    #[track_caller]
    pub(crate) fn fails_with(&self, code: codes::Code) -> Errors {
        let errors = self.load().expect_err("an error");
        assert_eq!(errors.0[0].code, code.id, "{errors}");
        assert!(!errors.0[0].help.is_empty(), "{errors}");
        errors
    }
}

/// The profiles of the last chain, by name.
pub(crate) fn names(config: &Config) -> Vec<&str> {
    let last = &config.rules.last().expect("a chain").chain;
    last.entries.iter().map(|entry| &*config.profiles[usize::from(entry.profile.0)].name).collect()
}

/// The codes of the warnings, in their order.
pub(crate) fn warned(config: &Config) -> Vec<&'static str> {
    config.warnings.iter().map(|warning| warning.code).collect()
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
