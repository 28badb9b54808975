//! Decides what becomes of each entry: a profile of its own, part of one that is there, or nothing with the reason. Pure: what is stored
//! and what the configuration makes of a profile are asked of the caller.
//!
//! Invariant: no name that is taken, in the configuration or in the keychain, is ever given to something else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hotspare_config::{Auth, AuthHeader, AuthSource, BaseUrl, MAX_PROFILES, Profile};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::model::{ANTHROPIC, Entry, Key, KeyId, OPENROUTER, Provider, State, host, is_anthropic, is_openrouter};
use super::names;

/// The name that the client's own login has where no policy names one: never an imported profile's.
const OWN_LOGIN: &str = "claude";

/// What a name of the keychain holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    /// Nothing.
    Absent,
    /// A credential.
    Held(KeyId),
    /// Something that cannot be read.
    Occupied,
}

/// Where the plan looks, and what takes its profiles in.
pub(super) trait Ground {
    /// What the keychain holds under a name.
    fn stored(&mut self, name: &str) -> Stored;

    /// Adds a profile to the configuration that is being made, or says why it cannot be one.
    fn add(&mut self, name: &str, profile: &Map<String, Value>, entry: &Entry) -> Result<(), String>;

    /// Lets a profile use another entry of the keychain, or says why not.
    fn point(&mut self, name: &str, entry: &str) -> Result<(), String>;
}

/// A credential that will be stored under a name that is free.
pub(super) struct NewKey {
    pub entry: String,
    pub secret: SecretString,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A profile of its own, with the name of the keychain's entry that has its key.
    Imported { name: String, kept: Option<String> },
    /// A profile that is there uses this key from now on, kept under this entry.
    Replaced { name: String, kept: String },
    /// It is the same as a profile.
    Merged { with: String },
    /// Nothing.
    Skipped { why: String },
}

/// An entry's outcome with what else is to be said.
pub(super) struct Decision {
    pub outcome: Outcome,
    pub notes: Vec<String>,
}

/// The credential of a profile, as far as two can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Credential {
    Client,
    None,
    Env(String),
    File(PathBuf),
    Command(Vec<String>),
    Folder(PathBuf),
    Key(KeyId),
    Unknown,
}

/// A profile that is there or will be.
struct Known {
    name: String,
    address: String,
    credential: Credential,
    is_api_key_header: bool,
    models: Vec<(String, Option<String>)>,
    /// The keychain's entry that it uses.
    kept: Option<String>,
    is_new: bool,
}

/// The plan as it grows.
pub(super) struct Plan<'a> {
    ground: &'a mut dyn Ground,
    home: &'a Path,
    replaces: bool,
    known: Vec<Known>,
    looked: HashMap<String, Stored>,
    /// Names of the user's file, also of profiles that are dropped.
    written: Vec<String>,
    /// Credentials to store.
    pub keys: Vec<NewKey>,
}

impl<'a> Plan<'a> {
    /// A plan beside these profiles; `written` are the names in the file. `replaces` lets a new key take the place of another in a profile.
    pub(super) fn new(ground: &'a mut dyn Ground, home: &'a Path, profiles: &[Profile], written: &[String], replaces: bool) -> Self {
        let mut plan =
            Self { ground, home, replaces, known: Vec::new(), looked: HashMap::new(), written: written.to_vec(), keys: Vec::new() };
        for profile in profiles {
            let kept = if let AuthSource::Keychain(entry) = &profile.auth.source { Some(entry.clone()) } else { None };
            let known = Known {
                name: profile.name.to_string(),
                address: profile.base_url.to_string(),
                credential: plan.credential(&profile.auth),
                is_api_key_header: profile.auth.header == AuthHeader::ApiKey,
                models: profile.models.entries().map(|(pattern, to)| (pattern.to_owned(), to.map(str::to_owned))).collect(),
                kept,
                is_new: false,
            };
            plan.known.push(known);
        }
        plan
    }

    /// Decides on all entries, in their order.
    pub(super) fn decide(&mut self, entries: &[Entry]) -> Vec<Decision> {
        // Keys that a source still has are no key's predecessors.
        let current: Vec<KeyId> =
            entries.iter().filter_map(|entry| entry.content.as_ref().ok()).filter_map(|provider| key_id(&provider.key)).collect();
        entries.iter().map(|entry| self.one(entry, &current)).collect()
    }

    fn one(&mut self, entry: &Entry, current: &[KeyId]) -> Decision {
        match &entry.content {
            Err(why) => Decision { outcome: Outcome::Skipped { why: why.clone() }, notes: Vec::new() },
            Ok(provider) => {
                let mut notes = provider.notes.clone();
                let outcome = self.provider(entry, provider, current, &mut notes);
                Decision { outcome, notes }
            }
        }
    }

    fn provider(&mut self, entry: &Entry, provider: &Provider, current: &[KeyId], notes: &mut Vec<String>) -> Outcome {
        let address = canonical(&provider.address);
        let base = names::plain(&entry.name, host(&address));
        let credential = self.of_key(&provider.key);
        let header = header(provider);
        let is_api_key_header = header.is_some();
        let same =
            |known: &&Known| known.address == address && known.credential == credential && known.is_api_key_header == is_api_key_header;
        if let Some(known) = self.known.iter().find(|known| same(known) && known.models == provider.models) {
            return Outcome::Merged { with: known.name.clone() };
        }
        // A profile that was imported before and changed by its owner stays as the owner has it.
        if let Some(known) = self.known.iter().find(|known| same(known) && !known.is_new && names::is_of(&base, &known.name)) {
            notes.push(format!("the models of `{}` stay as they are in your file", known.name));
            return Outcome::Merged { with: known.name.clone() };
        }
        if let State::Resting(why) = &provider.state {
            notes.push(format!("{why}: it is in no chain"));
        }
        let rival = self.rival(&base, &address, current).map(|known| known.name.clone());
        if let (Some(name), Key::Literal(secret), true) = (&rival, &provider.key, self.replaces) {
            return self.replaced(name.clone(), secret);
        }
        if self.known.len() >= MAX_PROFILES {
            return Outcome::Skipped { why: format!("has no room: a configuration holds {MAX_PROFILES} profiles, and there are as many") };
        }
        let name = names::free(&base, |name| self.is_taken(name));
        let (auth, new_key) = match &provider.key {
            Key::Reference(auth) => (auth.clone(), None),
            Key::Literal(secret) => {
                let (kept, is_new) = self.entry_for(&name, &KeyId::of(secret));
                (json!({ "keychain": kept.clone() }), Some((kept, is_new, secret)))
            }
        };
        let profile = profile(&address, auth, header, &provider.models, self.home);
        if let Err(why) = self.ground.add(&name, &profile, entry) {
            return Outcome::Skipped { why };
        }
        if let Some(rival) = rival.filter(|_| matches!(provider.key, Key::Literal(_))) {
            notes.push(format!("`{rival}` has another key for the same address: if this one takes its place, import with `--replace`"));
        }
        let kept = new_key.as_ref().map(|(kept, ..)| kept.clone());
        if let Some((kept, true, secret)) = new_key {
            if kept != name {
                notes.push(format!("the keychain's entry `{name}` holds something else and stays as it is"));
            }
            self.keep(kept, secret);
        }
        let known = Known {
            name: name.clone(),
            address,
            credential,
            is_api_key_header,
            models: provider.models.clone(),
            kept: kept.clone(),
            is_new: true,
        };
        self.known.push(known);
        Outcome::Imported { name, kept }
    }

    /// A profile that may have had this entry's key before: of the same name and address, with a key that no source has any more.
    fn rival(&self, base: &str, address: &str, current: &[KeyId]) -> Option<&Known> {
        self.known.iter().find(|known| {
            let is_old = matches!(&known.credential, Credential::Key(id) if !current.contains(id)) && known.kept.is_some();
            !known.is_new && is_old && known.address == address && names::is_of(base, &known.name)
        })
    }

    /// Lets a profile use another key; the one it had stays where it is, under its own name.
    fn replaced(&mut self, name: String, secret: &SecretString) -> Outcome {
        let id = KeyId::of(secret);
        let (kept, is_new) = self.entry_for(&name, &id);
        if let Err(why) = self.ground.point(&name, &kept) {
            return Outcome::Skipped { why };
        }
        if is_new {
            self.keep(kept.clone(), secret);
        }
        if let Some(known) = self.known.iter_mut().find(|known| known.name == name) {
            known.credential = Credential::Key(id);
            known.kept = Some(kept.clone());
        }
        Outcome::Replaced { name, kept }
    }

    fn keep(&mut self, entry: String, secret: &SecretString) {
        self.looked.insert(entry.clone(), Stored::Held(KeyId::of(secret)));
        self.keys.push(NewKey { entry, secret: secret.clone() });
    }

    /// The keychain's entry for a key: the one that has it, else a new one named like the profile. The second part: whether it is new.
    fn entry_for(&mut self, name: &str, id: &KeyId) -> (String, bool) {
        let has_it = |known: &&Known| known.credential == Credential::Key(id.clone());
        if let Some(kept) = self.known.iter().filter(has_it).find_map(|known| known.kept.clone()) {
            return (kept, false);
        }
        let mut number = 1_u32;
        loop {
            let entry = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let is_used = self.known.iter().any(|known| known.kept.as_deref().is_some_and(|kept| kept.eq_ignore_ascii_case(&entry)));
            match self.stored(&entry) {
                Stored::Held(held) if held == *id => return (entry, false),
                Stored::Absent if !is_used => return (entry, true),
                _ => number += 1,
            }
        }
    }

    fn stored(&mut self, name: &str) -> Stored {
        if let Some(stored) = self.looked.get(name) {
            return stored.clone();
        }
        let stored = self.ground.stored(name);
        self.looked.insert(name.to_owned(), stored.clone());
        stored
    }

    fn is_taken(&self, name: &str) -> bool {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        is(OWN_LOGIN) || self.known.iter().any(|known| is(&known.name)) || self.written.iter().any(|other| is(other))
    }

    fn credential(&mut self, auth: &Auth) -> Credential {
        match &auth.source {
            AuthSource::Client => Credential::Client,
            AuthSource::None => Credential::None,
            AuthSource::Env(name) => Credential::Env(name.clone()),
            AuthSource::File(file) => Credential::File(file.clone()),
            AuthSource::Command(argv) => Credential::Command(argv.clone()),
            AuthSource::ClaudeConfigDir(folder) => Credential::Folder(folder.clone()),
            AuthSource::Value(secret) => Credential::Key(KeyId::of(secret)),
            AuthSource::Keychain(entry) => match self.stored(entry) {
                Stored::Held(id) => Credential::Key(id),
                Stored::Absent | Stored::Occupied => Credential::Unknown,
            },
        }
    }

    fn of_key(&self, key: &Key) -> Credential {
        let auth = match key {
            Key::Literal(secret) => return Credential::Key(KeyId::of(secret)),
            Key::Reference(auth) => auth,
        };
        let path = |name: &str| {
            auth[name].as_str().map(|text| text.strip_prefix("~/").map_or_else(|| PathBuf::from(text), |rest| self.home.join(rest)))
        };
        if let Some(name) = auth["env"].as_str() {
            return Credential::Env(name.to_owned());
        }
        if let Some(file) = path("file") {
            return Credential::File(file);
        }
        if let Some(folder) = path("claude_config_dir") {
            return Credential::Folder(folder);
        }
        let argv = auth["command"].as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect();
        Credential::Command(argv)
    }
}

/// The identity of a key that stands in a source.
fn key_id(key: &Key) -> Option<KeyId> {
    match key {
        Key::Literal(secret) => Some(KeyId::of(secret)),
        Key::Reference(_) => None,
    }
}

/// The header to name, where the platform's own is another.
fn header(provider: &Provider) -> Option<&'static str> {
    provider.header.filter(|_| !is_anthropic(&provider.address) && !is_openrouter(&provider.address))
}

/// An address as a configuration has it.
fn canonical(address: &str) -> String {
    if is_anthropic(address) {
        return ANTHROPIC.to_owned();
    }
    if is_openrouter(address) {
        return OPENROUTER.to_owned();
    }
    let address = address.trim().trim_end_matches('/');
    BaseUrl::parse(address).map_or_else(|_| address.to_owned(), |url| url.to_string())
}

/// The profile as it stands in a file.
fn profile(address: &str, auth: Value, header: Option<&str>, models: &[(String, Option<String>)], home: &Path) -> Map<String, Value> {
    let mut profile = Map::new();
    if address == OPENROUTER {
        profile.insert("platform".to_owned(), "openrouter".into());
    } else if address != ANTHROPIC {
        profile.insert("platform".to_owned(), "anthropic_compatible".into());
        profile.insert("base_url".to_owned(), address.into());
    }
    let mut auth = auth;
    for key in ["claude_config_dir", "file"] {
        if let Some(path) = auth.get_mut(key)
            && let Some(text) = path.as_str()
        {
            *path = super::super::list::tilde(text, home).into();
        }
    }
    if let Some(header) = header {
        auth["header"] = header.into();
    }
    profile.insert("auth".to_owned(), auth);
    if !models.is_empty() {
        let models = models.iter().map(|(pattern, to)| (pattern.clone(), to.as_deref().map_or(Value::Null, Value::from)));
        profile.insert("models".to_owned(), Value::Object(models.collect()));
    }
    profile
}

#[cfg(test)]
mod tests;
