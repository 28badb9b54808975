//! Gives each profile a number that it keeps as long as the gateway lives, so that what was learned of it outlives a new configuration.
//! Never forgets one: exchanges on an older snapshot still speak of it.
//!
//! In a [`Config`] a [`ProfileId`] is a place in a list, and a new configuration may put another profile there. Here it stands for a name
//! and the way out behind it. A name whose address or credential changes is another way out: what the old one failed with says nothing
//! of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use hotspare_config::{AuthSource, Config, Profile};
use hotspare_core::ProfileId;
use secrecy::ExposeSecret;

/// The numbers given so far.
#[derive(Debug, Default)]
pub struct Identities(Mutex<Vec<Identity>>);

#[derive(Debug)]
struct Identity {
    name: Arc<str>,
    way: u64,
}

impl Identities {
    /// The lasting number of each profile of the configuration, in its order.
    ///
    /// After 65,536 ways out there are no more numbers; the last one then stands for all further ones, which costs them their separate
    /// health and nothing else.
    pub(crate) fn of(&self, config: &Config) -> Vec<ProfileId> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        config.profiles.iter().map(|profile| number(&mut known, profile)).collect()
    }
}

fn number(known: &mut Vec<Identity>, profile: &Profile) -> ProfileId {
    let way = way(profile);
    let place = known.iter().position(|identity| identity.name == profile.name && identity.way == way).unwrap_or_else(|| {
        if u16::try_from(known.len()).is_ok() {
            known.push(Identity { name: profile.name.clone(), way });
        }
        known.len() - 1
    });
    ProfileId(u16::try_from(place).unwrap_or(u16::MAX))
}

/// A fingerprint of platform, address and credential; it stays in memory.
fn way(profile: &Profile) -> u64 {
    let mut hasher = DefaultHasher::new();
    // `Debug` names every part but a secret, which is taken for itself.
    let auth = &profile.auth;
    format!("{:?} {:?} {:?} {:?} {:?}", profile.platform, profile.base_url, auth.source, auth.header, auth.command).hash(&mut hasher);
    if let AuthSource::Value(value) = &profile.auth.source {
        value.expose_secret().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(profiles: &str) -> Config {
        let text = format!(r#"{{ "failover_policy": {{ "primary_profile": "a" }}, "profiles": {{ {profiles} }} }}"#);
        hotspare_config::parse(&text, Path::new("c"), Path::new("/h")).expect("valid")
    }

    #[test]
    fn a_profile_keeps_its_number_wherever_it_stands() {
        let identities = Identities::default();
        let first = identities.of(&config(r#""a": {}, "b": { "auth": { "env": "B" } }"#));
        let moved = identities.of(&config(r#""c": { "auth": { "env": "C" } }, "b": { "auth": { "env": "B" } }, "a": {}"#));
        assert_eq!(first, [ProfileId(0), ProfileId(1)]);
        assert_eq!(moved, [ProfileId(2), ProfileId(1), ProfileId(0)]);
        assert_eq!(identities.of(&config(r#""a": {}, "b": { "auth": { "env": "B" } }"#)), first, "also after it was gone");
    }

    #[test]
    fn another_way_out_under_the_same_name_is_another_profile() {
        let identities = Identities::default();
        let spellings = [
            r#""a": {}"#,
            r#""a": { "base_url": "https://gateway.example" }"#,
            r#""a": { "auth": { "env": "A" } }"#,
            r#""a": { "auth": { "value": "sk-ant-test-1" } }"#,
            r#""a": { "auth": { "value": "sk-ant-test-2" } }"#,
        ];
        let numbers: Vec<ProfileId> = spellings.iter().flat_map(|profiles| identities.of(&config(profiles))).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4].map(ProfileId));
        // Clocks and model maps say how it is asked, not whom.
        assert_eq!(identities.of(&config(r#""a": { "clocks": { "head": "9s" }, "models": { "x": "y" } }"#)), [ProfileId(0)]);
    }

    #[test]
    fn nobody_sees_a_literal_credential() {
        let identities = Identities::default();
        identities.of(&config(r#""a": { "auth": { "value": "sk-ant-test-hunter2" } }"#));
        assert!(!format!("{identities:?}").contains("hunter2"));
    }
}
