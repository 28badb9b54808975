//! Decides where the configuration, Claude Code's settings and the state folder are. Never opens any of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::codes;
use crate::diagnostic::{Diagnostic, Errors, Severity};

/// Where everything is for this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// hotspare's own configuration.
    pub config_file: PathBuf,
    /// The user named it, so it must exist.
    pub explicit: bool,
    /// Claude Code's user settings.
    pub claude_settings: PathBuf,
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
        let named = explicit.or_else(|| variable("HOTSPARE_CONFIG"));
        let config_home = absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let state_home = absolute("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state"));
        Ok(Self {
            explicit: named.is_some(),
            config_file: named.unwrap_or_else(|| config_home.join("hotspare/config.json")),
            claude_settings: variable("CLAUDE_CONFIG_DIR").unwrap_or_else(|| home.join(".claude")).join("settings.json"),
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
        assert!(!found.explicit);
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
        assert_eq!((found.config_file.as_path(), found.explicit), (Path::new("env.json"), true));
        assert_eq!(found.claude_settings, Path::new("/claude/settings.json"));
        assert_eq!(found.state_dir, Path::new("/s/hotspare"));
        assert_eq!(find(&vars, Some("flag.json")).expect("home is set").config_file, Path::new("flag.json"));
        assert_eq!(find(&vars[..2], None).expect("home is set").config_file, Path::new("/c/hotspare/config.json"));
    }

    #[test]
    fn empty_and_relative_values_are_as_if_unset() {
        let found = find(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "rel"), ("HOTSPARE_CONFIG", "")], None).expect("home is set");
        assert_eq!((found.config_file.as_path(), found.explicit), (Path::new("/h/.config/hotspare/config.json"), false));
    }

    #[test]
    fn without_a_home_nothing_can_be_found() {
        for vars in [&[][..], &[("HOME", "")], &[("HOME", "rel")]] {
            assert_eq!(find(vars, None).expect_err("no home").0[0].code, codes::NO_HOME.id);
        }
    }
}
