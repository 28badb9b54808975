//! What Claude Code had of its own where full mode now has ours: the way out through a company's proxy, and the authorities that it
//! trusted. Kept for the service, whose environment may be that of a client which we are the proxy of. Never holds anything of ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::claude::{EXTRA_CERTIFICATES, is_our_proxy};
use crate::state;

/// The file of the state folder that holds it. A proxy's address may hold a password: its owner alone reads it.
const FILE: &str = "outward.json";

/// The version of its shape.
const VERSION: u32 = 1;

/// The variables of a client that full mode sets, and whose own values are kept here.
pub(crate) const OF_FULL_MODE: [&str; 5] = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", EXTRA_CERTIFICATES];

/// What led out of this machine before us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outward {
    /// The proxy for `https`.
    pub proxy: Option<String>,
    /// What goes past it, as in `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// The file of further authorities.
    pub certificates: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    #[serde(flatten)]
    outward: Outward,
}

impl Outward {
    /// What `install` has kept; none where full mode is not installed.
    pub(crate) fn kept(state_dir: &Path) -> Option<Self> {
        let kept: Kept = serde_json::from_slice(&fs::read(state_dir.join(FILE)).ok()?).ok()?;
        (kept.version == VERSION).then_some(kept.outward)
    }

    /// Keeps it; whether that changes anything for a service that runs.
    pub(crate) fn keep(&self, state_dir: &Path) -> io::Result<bool> {
        let before = Self::kept(state_dir);
        if before.as_ref() != Some(self) {
            let kept = Kept { version: VERSION, outward: self.clone() };
            state::write_private(&state_dir.join(FILE), &serde_json::to_vec(&kept).map_err(io::Error::other)?)?;
        }
        Ok(before.unwrap_or_default() != *self)
    }

    /// Where nothing of ours stands in its place any more.
    pub(crate) fn forget(state_dir: &Path) -> io::Result<()> {
        match fs::remove_file(state_dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// The way out of a process that serves: by its environment, unless that says nothing or leads back to us.
    pub(crate) fn of_service(state_dir: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let proxy = set(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let leads_back = proxy.as_deref().is_some_and(is_our_proxy);
        let own = Self { proxy, no_proxy: set(&["NO_PROXY", "no_proxy"]), certificates: set(&[EXTRA_CERTIFICATES]).map(PathBuf::from) };
        match (Self::kept(state_dir), leads_back) {
            (Some(kept), true) => kept,
            (None, true) => Self::default(),
            (Some(kept), false) if own.proxy.is_none() => {
                let certificates = own.certificates.or(kept.certificates);
                Self { certificates, ..kept }
            }
            (_, false) => own,
        }
    }

    /// One of the client's variables; none where it is not one of these, empty where it had none.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let own = match name {
            "HTTPS_PROXY" | "https_proxy" => self.proxy.as_deref(),
            "NO_PROXY" | "no_proxy" => self.no_proxy.as_deref(),
            EXTRA_CERTIFICATES => self.certificates.as_deref().and_then(Path::to_str),
            _ => return None,
        };
        Some(own.unwrap_or_default())
    }

    /// As variables, for a process that shall have them in place of ours.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let both = |names: [&'static str; 2], value: &Option<String>| {
            names.into_iter().filter_map(|name| Some((name, value.clone()?))).collect::<Vec<_>>()
        };
        let certificates = self.certificates.as_ref().map(|file| (EXTRA_CERTIFICATES, file.display().to_string()));
        let mut variables = both(["HTTPS_PROXY", "https_proxy"], &self.proxy);
        variables.extend(both(["NO_PROXY", "no_proxy"], &self.no_proxy));
        variables.extend(certificates);
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: (&str, &str) = ("HTTPS_PROXY", "http://hotspare:hs-1@127.0.0.1:4117");

    fn corp() -> Outward {
        Outward { proxy: Some("http://corp:3128".to_owned()), no_proxy: Some(".corp".to_owned()), certificates: Some("/corp.pem".into()) }
    }

    #[test]
    fn a_service_leaves_by_its_own_environment_unless_that_says_nothing_or_leads_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let of = |variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            Outward::of_service(folder.path(), &variable)
        };
        let other = [("https_proxy", "http://other:1"), ("NO_PROXY", "x")];
        assert_eq!(of(&[OURS, ("NO_PROXY", "127.0.0.1")]), Outward::default(), "nothing is kept");
        assert_eq!(of(&other).proxy.as_deref(), Some("http://other:1"));
        assert!(corp().keep(folder.path()).expect("kept"), "that is news");
        assert!(!corp().keep(folder.path()).expect("kept"), "that is none");
        assert_eq!((of(&[]), of(&[OURS, ("NODE_EXTRA_CA_CERTS", "/state/ca/ca.pem")])), (corp(), corp()));
        assert_eq!(of(&other), Outward { proxy: Some("http://other:1".to_owned()), no_proxy: Some("x".to_owned()), certificates: None });
        Outward::forget(folder.path()).expect("forgotten");
        assert_eq!(of(&[]), Outward::default());
        Outward::forget(folder.path()).expect("nothing is there, and that is well");
    }
}
