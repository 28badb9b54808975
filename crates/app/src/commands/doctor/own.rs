//! Looks at hotspare's own set-up: configuration, chain, credentials, ledger, disk. Never changes any of it, and never runs a credential's
//! command: that may ask the user.

use std::path::Path;
use std::time::{Duration, SystemTime};

use hotspare_config::{AuthSource, Config, Errors, Locations, Trusted};
use hotspare_gateway::{Snapshot, hooks};
use hotspare_store::{FILE, Reader};
use hotspare_upstream::{CredentialError, Presence, login_command};

use super::Running;
use super::check::Check;
use crate::{commands, verdict, words};

/// A login that ends within this is worth a word.
const LOGIN_SOON: Duration = Duration::from_secs(24 * 3600);

/// With less than this much room the ledger stops soon.
const LITTLE_ROOM: u64 = 200 * 1024 * 1024;

/// With less than this much it cannot be written.
const NO_ROOM: u64 = 10 * 1024 * 1024;

/// Whether it can be read, and what is probably not meant.
pub(super) fn config(locations: &Locations, loaded: &Result<Config, Errors>) -> Check {
    let file = locations.config_file.display();
    match loaded {
        Err(errors) => {
            let first = errors.0.first().map_or_else(|| "it is not valid".to_owned(), |error| format!("{}: {}", error.code, error.title));
            let more = errors.0.len().saturating_sub(1);
            let found = if more == 0 { first } else { format!("{first}, and {more} more") };
            Check::fail("config", found, "nothing starts with it; what runs goes on with the last good one", "hotspare config validate")
        }
        Ok(config) if config.implicit => {
            Check::note("config", format!("none at {file}: one profile, the client's own login")).with_command("hotspare init")
        }
        Ok(config) => {
            let profiles = words::several(config.profiles.len() as u64, "profile", "profiles");
            let found = format!("{file}, {profiles}");
            match config.warnings.as_slice() {
                [] => Check::ok("config", found),
                [first, ..] => Check::warn("config", found, first.title.clone(), "hotspare config validate"),
            }
        }
    }
}

/// Whether anybody stands behind the primary. "On" that protects nobody is the worst of all set-ups.
pub(super) fn chain(config: &Config) -> Vec<Check> {
    let line = commands::chain_line(config);
    let spares = config.rules.last().map_or(0, |rule| rule.chain.entries.len().saturating_sub(1));
    let mut checks = Vec::new();
    checks.push(if !config.policy.enabled {
        let cause = "failover is off: an error of the first profile is yours to see";
        Check::warn("chain", line, cause, "hotspare config set failover_policy.enabled true")
    } else if spares == 0 {
        let cause = "there is no spare: when it fails, nobody takes over";
        Check::fail("chain", line, cause, "hotspare config set failover_policy.secondary_profile NAME")
    } else {
        Check::ok("chain", line)
    });
    // One address twice is one outage for both.
    let hosts: Vec<_> = config.profiles.iter().map(|profile| &profile.base_url).collect();
    let same = hosts.len() > 1 && hosts.windows(2).all(|two| two[0].host == two[1].host && two[0].port == two[1].port);
    if same && spares > 0 {
        checks.push(
            Check::note("chain", "all profiles go to one host: they help with limits and logins, not when that host is down")
                .with_command("hotspare profile add"),
        );
    }
    checks
}

/// Spares that are paid by use and have no ceiling. The first profile is what the user pays anyway.
pub(super) fn budget(config: &Config) -> Check {
    let entries = config.rules.last().map(|rule| rule.chain.entries.as_slice()).unwrap_or_default();
    let spares = entries.iter().skip(1).filter_map(|entry| config.profiles.get(usize::from(entry.profile.0)));
    let own_key = |auth: &AuthSource| !matches!(auth, AuthSource::Client | AuthSource::None | AuthSource::ClaudeConfigDir(_));
    let open: Vec<&str> =
        spares.filter(|profile| own_key(&profile.auth.source) && profile.budget.is_empty()).map(|profile| &*profile.name).collect();
    match open.first() {
        None => Check::ok("budget", "every spare that is paid by use has a ceiling"),
        Some(first) => Check::note("budget", format!("no ceiling in money: {}", open.join(", ")))
            .with_command(format!("hotspare config set profiles.{first}.budget.per_day_usd 10")),
    }
}

/// Whether each profile that is tried has its credential in the process that serves, and whether this shell sees the same.
pub(super) async fn credentials(config: &Config, running: &[Running], locations: &Locations) -> Vec<Check> {
    let snapshot = Snapshot::compile_with(config, &commands::renewals_here());
    let missing = snapshot.missing_credentials().await;
    let service = running.iter().filter(|one| one.instance.serves_all()).find_map(|one| Some((&one.instance, one.status.as_ref()?)));
    let in_service = service.map(|(instance, status)| verdict::missing_credentials(instance, status, locations)).unwrap_or_default();
    let told_by_service = |name: &str| {
        let profiles = service.iter().flat_map(|(_, status)| &status.profiles);
        profiles
            .into_iter()
            .any(|profile| profile.name == name && profile.credential.as_ref().is_some_and(|found| found.readable.is_some()))
    };
    let missing: Vec<_> = [missing.lasting, missing.passing].concat();
    let only_here: Vec<&str> = missing
        .iter()
        .map(|(name, _)| &**name)
        .filter(|name| told_by_service(name) && !in_service.iter().any(|missing| missing.profile == *name))
        .collect();
    let is_login = |error: &CredentialError| matches!(error, CredentialError::LoginEnded { .. } | CredentialError::ClientElsewhere { .. });
    let of_shell = |name: &str, error: &CredentialError| is_login(error) || !told_by_service(name);
    let (missing, of_service): (Vec<_>, Vec<_>) = missing.iter().cloned().partition(|(name, error)| of_shell(name, error));
    let show = |name: &str| format!("hotspare profile show {name}");
    let mut checks: Vec<Check> = missing
        .iter()
        .map(|(name, error)| {
            let command = match error {
                CredentialError::LoginEnded { folder } => login_command(folder),
                _ => show(name),
            };
            Check::fail("credentials", format!("{name}: {error}"), format!("{name} is left out of every chain"), command)
        })
        .collect();
    for one in in_service.iter().filter(|one| !missing.iter().any(|(name, _)| **name == *one.profile)) {
        checks.push(Check::fail("credentials", one.words(), format!("{} is left out of every chain", one.profile), one.mend.clone()));
    }
    let by_env = config.profiles.iter().any(|profile| matches!(profile.auth.source, AuthSource::Env(_)));
    if service.is_none() && by_env {
        checks.push(Check::note("credentials", "no service runs: variables are looked for in this shell"));
    }
    let now = SystemTime::now();
    let mut told: Vec<String> = only_here.iter().map(|name| format!("{name} in the service, not in this shell")).collect();
    let left_out = |name: &str| {
        missing.iter().chain(&of_service).any(|(other, _)| **other == *name) || in_service.iter().any(|one| one.profile == name)
    };
    for id in snapshot.ids() {
        let Some(target) = snapshot.target(id).filter(|target| !left_out(&target.name)) else { continue };
        let is_renewed = target.credential.renewed().is_some();
        match target.credential.expires().map(|at| at.duration_since(now).unwrap_or_default()) {
            Some(left) if is_renewed && left.is_zero() => told.push(format!("{} run out, renewed at need", target.name)),
            Some(left) if is_renewed => told.push(format!("{} for {}, then renewed", target.name, words::span(left.as_secs()))),
            Some(left) if left < LOGIN_SOON => checks.push(Check::warn(
                "credentials",
                format!("{}: its login ends in {}", target.name, words::span(left.as_secs())),
                "only Claude Code itself renews it, when it is started with that folder",
                "claude",
            )),
            Some(left) => told.push(format!("{} for {}", target.name, words::span(left.as_secs()))),
            None if target.credential.presence().await == Presence::Unasked => {
                told.push(format!("{} by a command, not run now", target.name));
            }
            None if target.credential.is_client() => told.push(format!("{} the client's own", target.name)),
            None => told.push(target.name.to_string()),
        }
    }
    if !told.is_empty() {
        checks.insert(0, Check::ok("credentials", told.join(", ")));
    }
    checks
}

/// Whether each hook's program can be run. None where there are no hooks.
pub(super) fn hooks(config: &Config) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for hook in &config.hooks {
        let Some(why) = hooks::cannot_run(hook) else { continue };
        let (event, label) = (hook.event.word(), hooks::label(hook));
        let found = format!("{event}: `{label}` {why}");
        let command = format!("hotspare hook test {event}");
        checks.push(if hook.event.rules() {
            Check::fail("hooks", found, "requests go on as if it had said yes", command)
        } else {
            Check::warn("hooks", found, "it is not told of anything", command)
        });
    }
    if checks.is_empty() && !config.hooks.is_empty() {
        checks.push(Check::ok("hooks", words::several(config.hooks.len() as u64, "hook", "hooks")));
    }
    checks
}

/// Whether a project wants more than it gets.
pub(super) fn projects(config: &Config) -> Check {
    let refused: Vec<String> = config.projects.iter().flat_map(|project| project.refused.iter().cloned()).collect();
    let changed = config.projects.iter().any(|project| project.trusted == Trusted::Changed);
    match (refused.as_slice(), changed) {
        ([], _) => Check::ok("project", "no project file asks for more than it may"),
        (_, true) => Check::warn(
            "project",
            "a project file that you trusted has changed since",
            format!("until you look at it, it only narrows; left out: {}", refused.join(", ")),
            "hotspare trust",
        ),
        (refused, false) => {
            Check::note("project", format!("not trusted, so left out: {}", refused.join(", "))).with_command("hotspare trust")
        }
    }
}

/// Whether exchanges can be remembered.
pub(super) fn store(locations: &Locations, running: &[Running]) -> Check {
    let file = locations.state_dir.join(FILE);
    if let Some(trouble) = running.iter().find_map(|one| one.status.as_ref()?.ledger.clone()) {
        return Check::fail("store", trouble, "`why`, `logs` and `usage` miss what happens now", "hotspare status");
    }
    match Reader::open(&locations.state_dir) {
        Err(fault) => {
            Check::fail("store", fault.to_string(), "`why`, `logs` and `usage` cannot be shown", format!("ls -l {}", file.display()))
        }
        Ok(None) => Check::note("store", "nothing is recorded yet"),
        Ok(Some(_)) => {
            let size = std::fs::metadata(&file).map_or(0, |data| data.len());
            match broken_copies(&locations.state_dir).as_slice() {
                [] => Check::ok("store", format!("{}, {}", file.display(), words::bytes(size))),
                [first, ..] => Check::warn(
                    "store",
                    format!("a damaged ledger was put aside: {first}"),
                    "a fresh one was begun; what the old one held is missing from `why`, `logs` and `usage`",
                    format!("rm {first}"),
                ),
            }
        }
    }
}

/// The files that a damaged ledger was moved to.
fn broken_copies(state_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.path()).filter(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(FILE) && name.contains(".broken-"))
    });
    let mut names: Vec<String> = names.map(|path| path.display().to_string()).collect();
    names.sort_unstable();
    names
}

/// A proxy that hotspare cannot go through. None where there is none, or it can.
pub(super) fn proxy(locations: &Locations) -> Option<Check> {
    let why = commands::unusable(&commands::outward(locations))?;
    Some(Check::fail("proxy", why, "no provider beyond this machine can be reached", "export HTTPS_PROXY=http://HOST:PORT"))
}

/// Whether there is room to write.
pub(super) fn disk(locations: &Locations) -> Check {
    // The state folder is made at the first start: until then its parents tell.
    let place = locations.state_dir.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let Ok(stat) = rustix::fs::statvfs(place) else {
        return Check::note("disk", format!("the room in {} cannot be told", place.display()));
    };
    let room = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} free in {}", words::bytes(room), place.display());
    let command = format!("df -h {}", place.display());
    match room {
        0..NO_ROOM => Check::fail("disk", found, "the ledger and settings cannot be written", command),
        NO_ROOM..LITTLE_ROOM => Check::warn("disk", found, "the ledger stops when it is full; requests go on", command),
        _ => Check::ok("disk", found),
    }
}
