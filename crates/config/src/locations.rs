//! Decides where the configuration, Claude Code's settings and the state folder are. Never opens any of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::codes;
use crate::diagnostic::{Diagnostic, Errors, Severity};
use crate::layers::Layer;

/// Where an administrator's files are. No variable moves them: they bind the user.
const MANAGED: &str = if cfg!(target_os = "macos") {
    "/Library/Application Support/hotspare/managed.json"
} else if cfg!(windows) {
    r"C:\Program Files\hotspare\managed.json"
} else {
    "/etc/hotspare/managed.json"
};

/// The same of Claude Code.
const CLAUDE_MANAGED: &str = if cfg!(target_os = "macos") {
    "/Library/Application Support/ClaudeCode/managed-settings.json"
} else if cfg!(windows) {
    r"C:\Program Files\ClaudeCode\managed-settings.json"
} else {
    "/etc/claude-code/managed-settings.json"
};

/// Where everything is for this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// hotspare's own configuration.
    pub config_file: PathBuf,
    /// The layer that named it, so that it must exist and stands in place of the user's own; none: it is the user's own.
    pub named_in: Option<Layer>,
    /// Claude Code's user settings.
    pub claude_settings: PathBuf,
    /// The administrator's configuration.
    pub managed_file: PathBuf,
    /// The administrator's settings for Claude Code.
    pub claude_managed: PathBuf,
    /// For the local token and other state; made with mode 0700 by whoever first needs it.
    pub state_dir: PathBuf,
    /// What `~` stands for.
    pub home: PathBuf,
}

impl Locations {
    /// Looks at the environment; `explicit` is what `--config` named.
    ///
    /// # Errors
    ///
    /// When `HOME` is not an absolute path.
    pub fn find(env: &dyn Fn(&str) -> Option<OsString>, explicit: Option<PathBuf>) -> Result<Self, Errors> {
        let variable = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The base directory specification has relative paths ignored.
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        let home = absolute("HOME").ok_or_else(no_home)?;
        let named = explicit.map(|file| (Layer::Flags, file)).or_else(|| Some((Layer::Environment, variable("HOTSPARE_CONFIG")?)));
        let config_home = absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let state_home = absolute("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state"));
        Ok(Self {
            named_in: named.as_ref().map(|(layer, _)| *layer),
            config_file: named.map_or_else(|| config_home.join("hotspare/config.json"), |(_, file)| file),
            claude_settings: variable("CLAUDE_CONFIG_DIR").unwrap_or_else(|| home.join(".claude")).join("settings.json"),
            managed_file: MANAGED.into(),
            claude_managed: CLAUDE_MANAGED.into(),
            state_dir: state_home.join("hotspare"),
            home,
        })
    }
}

fn no_home() -> Errors {
    let mut diagnostic = Diagnostic::about(Severity::Error, codes::NO_HOME, Path::new("$HOME"), "`HOME` is not set to an absolute path");
    diagnostic.help("set `HOME` to your home folder, e.g. `HOME=/home/me`");
    Box::new(diagnostic).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(vars: &[(&str, &str)], explicit: Option<&str>) -> Result<Locations, Errors> {
        let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Locations::find(&env, explicit.map(PathBuf::from))
    }

    #[test]
    fn defaults_are_below_home() {
        let found = find(&[("HOME", "/h")], None).expect("home is set");
        assert_eq!(found.config_file, Path::new("/h/.config/hotspare/config.json"));
        assert_eq!(found.claude_settings, Path::new("/h/.claude/settings.json"));
        assert_eq!(found.state_dir, Path::new("/h/.local/state/hotspare"));
        assert_eq!(found.named_in, None);
    }

    #[test]
    fn the_environment_moves_them_and_the_flag_wins() {
        let vars = [
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_STATE_HOME", "/s"),
            ("CLAUDE_CONFIG_DIR", "/claude"),
            ("HOTSPARE_CONFIG", "env.json"),
        ];
        let found = find(&vars, None).expect("home is set");
        assert_eq!((found.config_file.as_path(), found.named_in), (Path::new("env.json"), Some(Layer::Environment)));
        assert_eq!(found.claude_settings, Path::new("/claude/settings.json"));
        assert_eq!(found.state_dir, Path::new("/s/hotspare"));
        let named = find(&vars, Some("flag.json")).expect("home is set");
        assert_eq!((named.config_file.as_path(), named.named_in), (Path::new("flag.json"), Some(Layer::Flags)));
        assert_eq!(find(&vars[..2], None).expect("home is set").config_file, Path::new("/c/hotspare/config.json"));
    }

    #[test]
    fn empty_and_relative_values_are_as_if_unset() {
        let found = find(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "rel"), ("HOTSPARE_CONFIG", "")], None).expect("home is set");
        assert_eq!((found.config_file.as_path(), found.named_in), (Path::new("/h/.config/hotspare/config.json"), None));
    }

    #[test]
    fn without_a_home_nothing_can_be_found() {
        for vars in [&[][..], &[("HOME", "")], &[("HOME", "rel")]] {
            assert_eq!(find(vars, None).expect_err("no home").0[0].code, codes::NO_HOME.id);
        }
    }
}
