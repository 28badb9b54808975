//! `hotspare profile add`: one profile more in the user's file, and nothing else of it changed. Never takes a credential from an argument, and
//! never writes one into the file.

use std::path::Path;
use std::process::ExitCode;

use hotspare_config::edit::{self, Edit};
use hotspare_config::{Config, KeyPath};
use hotspare_upstream::Keychain;
use serde_json::{Map, Value, json};

use super::{diff, secret};
use crate::cli::Target;
use crate::cli::profile::AddArgs;
use crate::commands;
use crate::commands::config::edit::{Subject, told};
use crate::error::{CliError, Exit};
use crate::output::{self, Look};

/// What a file without a policy calls the client's own login.
const OWN_LOGIN: &str = "claude";

/// Runs `hotspare profile add`.
pub(super) fn add(arguments: &AddArgs) -> Result<ExitCode, CliError> {
    let subject = Subject::open(&Target { config: arguments.config.clone(), project: false, local: false })?;
    let name = &arguments.name;
    let entry = keychain_entry(arguments)?;
    let profile = profile(arguments, entry.as_deref())?;
    let change = changed(&subject.text, name, &profile, arguments.spare)?;
    let config = subject.judge(&change.text)?;
    if arguments.dry_run {
        output::data(&diff::drawn(&subject.text, &change.text, Look::of_stdout()))?;
        output::talk("nothing was changed (--dry-run)");
        return Ok(ExitCode::SUCCESS);
    }
    // Before the file names it: a profile whose credential could not be kept is none.
    let kept = entry.map(|entry| secret::read(name).and_then(|secret| secret::keep(&entry, &secret, arguments.replace))).transpose()?;
    subject.write(&change)?;
    output::data(&format!("added profile {name} to {}", subject.file.display()))?;
    if let Some(kept) = kept {
        output::talk(&format!("  its credential is {kept}"));
    }
    tell_warnings(&config, &[name]);
    tell_place(&config, name);
    if change.undo.is_delicate {
        // Between the two places of the change stands what may be a credential: this comes to the same.
        output::talk(&format!("  undo: `hotspare profile remove {name} --from-policy`"));
    } else {
        subject.told(&change.undo, None);
    }
    output::talk(&format!("  prove it: `hotspare profile test {name}`"));
    Ok(ExitCode::SUCCESS)
}

fn keychain_entry(arguments: &AddArgs) -> Result<Option<String>, CliError> {
    let Some(entry) = &arguments.keychain else { return Ok(None) };
    let entry = if entry.is_empty() { &arguments.name } else { entry };
    if Keychain::is_name(entry) {
        return Ok(Some(entry.clone()));
    }
    Err(CliError::new(Exit::Usage, format!("`{entry}` cannot be a name in the keychain"))
        .hint("use up to 100 letters, digits, `.`, `_`, `@` and `-`, first a letter, a digit, `_` or `@`"))
}

/// The profile as it stands in a file.
fn profile(arguments: &AddArgs, entry: Option<&str>) -> Result<Map<String, Value>, CliError> {
    let mut profile = Map::new();
    let platform = match (&arguments.platform, &arguments.preset, &arguments.base_url) {
        (Some(platform), ..) => Some(platform.as_str()),
        // Of an address alone nobody knows what is behind it: it gets no more than another company does.
        (None, None, Some(url)) if !url.starts_with("https://api.anthropic.com") => Some("anthropic_compatible"),
        _ => None,
    };
    profile.extend(platform.map(|platform| ("platform".to_owned(), platform.into())));
    profile.extend(arguments.preset.as_ref().map(|preset| ("preset".to_owned(), preset.as_str().into())));
    profile.extend(arguments.base_url.as_ref().map(|url| ("base_url".to_owned(), url.as_str().into())));
    profile.extend(arguments.allow_http.then(|| ("allow_http".to_owned(), true.into())));
    let mut auth = Map::new();
    auth.extend(arguments.env.as_ref().map(|name| ("env".to_owned(), name.as_str().into())));
    auth.extend(arguments.file.as_ref().map(|file| path(file)).transpose()?.map(|file| ("file".to_owned(), file)));
    let folder = arguments.claude_config_dir.as_ref().map(|folder| path(folder)).transpose()?;
    auth.extend(folder.map(|folder| ("claude_config_dir".to_owned(), folder)));
    auth.extend(entry.map(|entry| ("keychain".to_owned(), entry.into())));
    auth.extend((!arguments.program.is_empty()).then(|| ("command".to_owned(), json!(arguments.program))));
    if let Some(header) = &arguments.header {
        if auth.is_empty() {
            return Err(CliError::new(Exit::Usage, "`--header` says how a credential is sent, and none is named")
                .hint("name one: `--env`, `--file`, `--keychain`, `--claude-config-dir`, or a program after `--`"));
        }
        auth.insert("header".to_owned(), header.as_str().into());
    }
    if !auth.is_empty() {
        profile.insert("auth".to_owned(), Value::Object(auth));
    }
    if !arguments.models.is_empty() {
        let models = arguments.models.iter().map(|(pattern, name)| (pattern.clone(), Value::from(name.as_str())));
        profile.insert("models".to_owned(), Value::Object(models.collect()));
    }
    Ok(profile)
}

/// A whole path: one from here means nothing to a service. What the shell left of `~` stays.
fn path(path: &Path) -> Result<Value, CliError> {
    if path.is_absolute() || path.starts_with("~") {
        return Ok(path.display().to_string().into());
    }
    Ok(std::env::current_dir()?.join(path).display().to_string().into())
}

/// The text with one profile more.
pub(super) fn changed(text: &str, name: &str, profile: &Map<String, Value>, spare: bool) -> Result<Edit, CliError> {
    with_profile(text, name, &inline(&Value::Object(profile.clone())), spare)
}

/// The text with one profile more, whose value is put in as it is written.
pub(super) fn with_profile(text: &str, name: &str, value: &str, spare: bool) -> Result<Edit, CliError> {
    let path = KeyPath::parse(&format!("profiles.\"{name}\""));
    let path = path.filter(|path| path.keys().len() == 2 && path.keys()[1] == name).ok_or_else(|| {
        CliError::new(Exit::Usage, format!("`{name}` cannot be a profile's name"))
            .hint("use letters, digits, `.`, `_` and `-`, first a letter or a digit")
    })?;
    if let Some(line) = edit::line_of(text, &path).map_err(|error| told(&error))? {
        return Err(CliError::new(Exit::Failed, format!("there is a profile `{name}` already, in line {line}"))
            .hint(format!("change it: `hotspare config set profiles.{name}.KEY VALUE`, or `hotspare config edit`"))
            .hint(format!("or `hotspare profile remove {name}` first")));
    }
    let profiles = KeyPath::parse("profiles").expect("a plain key");
    let is_first =
        edit::line_of(text, &profiles).map_err(|error| told(&error))?.is_none() && (text.trim().is_empty() || text.contains('\n'));
    // The first one gives those that follow a line each.
    let set = if is_first {
        edit::set(text, &profiles, &format!("{{\n    {}: {value}\n  }}", Value::from(name)))
    } else {
        edit::set(text, &path, value)
    };
    let mut now = set.map_err(|error| told(&error))?.text;
    if spare {
        now = with_primary(&now, name)?;
        if !named_first(&now, name)? {
            now = edit::add_spare(&now, name).map_err(|error| told(&error))?.text;
        }
    }
    Ok(edit::changed(text, now))
}

/// A spare needs somebody to stand behind: where no policy names a primary, the client's own login is it.
fn with_primary(text: &str, name: &str) -> Result<String, CliError> {
    let key = |key: &str| KeyPath::parse(key).expect("a plain key");
    let has = |text: &str, path: &str| edit::line_of(text, &key(path)).map(|line| line.is_some()).map_err(|error| told(&error));
    if has(text, "failover_policy.primary_profile")? || name == OWN_LOGIN {
        return Ok(text.to_owned());
    }
    let mut now = text.to_owned();
    if !has(&now, &format!("profiles.{OWN_LOGIN}"))? {
        now = edit::set(&now, &key(&format!("profiles.{OWN_LOGIN}")), "{}").map_err(|error| told(&error))?.text;
    }
    let set = edit::set(&now, &key("failover_policy.primary_profile"), &Value::from(OWN_LOGIN).to_string());
    Ok(set.map_err(|error| told(&error))?.text)
}

fn named_first(text: &str, name: &str) -> Result<bool, CliError> {
    let mentions = edit::mentions(text, name).map_err(|error| told(&error))?;
    Ok(mentions.iter().any(|mention| mention.key.ends_with("primary_profile") || mention.key.ends_with("secondary_profile")))
}

/// `{ "env": "NAME" }`: on one line, as people write short ones.
pub(super) fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), inline(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(entries) => format!("[{}]", entries.iter().map(inline).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

/// What the configuration warns of that is about these profiles.
pub(super) fn tell_warnings(config: &Config, names: &[&str]) {
    let about: Vec<String> = names.iter().map(|name| format!("`profiles.{name}")).collect();
    let is_about = |title: &str| about.iter().any(|about| title.contains(&format!("{about}.")) || title.contains(&format!("{about}`")));
    commands::tell_warnings(config.warnings.iter().filter(|warning| is_about(&warning.title)));
}

/// Who asks it, or how somebody comes to.
fn tell_place(config: &Config, name: &str) {
    let id = config.profiles.iter().position(|profile| &*profile.name == name);
    let asks = |chain: &hotspare_core::Chain| chain.entries.iter().any(|entry| Some(usize::from(entry.profile.0)) == id);
    if config.rules.iter().any(|rule| asks(&rule.chain)) {
        output::talk(&format!("  chain: {}", commands::chain_line(config)));
    } else {
        output::talk(&format!("  no chain asks it yet: `hotspare config set failover_policy.secondary_profile '[…, \"{name}\"]'`"));
    }
}
