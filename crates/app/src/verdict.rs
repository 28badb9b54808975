//! What the screens may claim of a gateway, in one place: `status`, the status line, `doctor`, `profile list`, `install` and `init` all take
//! their words from here.
//!
//! The claims follow from what the user's own next request would meet in the process that serves it (`hotspare_gateway::status`).

use std::net::SocketAddr;
use std::path::Path;

use hotspare_config::Locations;
use hotspare_gateway::Status;
use hotspare_gateway::status::{Chance, NextRequest, ProfileStatus, Prospect};
use serde_json::Value;

use crate::claude::{BASE_URL, HTTPS_PROXY, our_proxy};
use crate::commands::service::{self, Manager};
use crate::gateways;
use crate::state::{self, Instance};
use crate::wiring::vscode;

/// A client that was seen within so many seconds still counts as pointed here. Longer than the pauses of a working day, shorter than a night.
const CLIENT_SEEN_TTL: u64 = 3600;

/// Largest settings file that is read.
const MAX_SETTINGS: u64 = 4 * 1024 * 1024;

/// What the headline says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Failover is switched off.
    Off,
    /// No profile can serve the next request.
    Nothing,
    /// Every profile that would be tried failed the last time.
    Failed,
    /// Profiles can serve, but no client sends its requests here.
    Unpointed,
    /// One profile can serve, and no spare can take over.
    Alone,
    /// The first profile serves no more, or may not; a spare can take over.
    Failing,
    /// A spare serves.
    OnSpare,
    /// The first profile serves, and a spare can take over.
    Protected,
}

/// What the next request would meet, with the claims that follow from it.
pub(crate) struct Outlook {
    pub(crate) verdict: Verdict,
    pub(crate) next: NextRequest,
}

impl Outlook {
    /// Of a running gateway. `is_pointed` says whether any client sends its requests there.
    pub(crate) fn of(status: &Status, is_pointed: bool) -> Self {
        let next = status.next.clone().unwrap_or_else(|| derived(status));
        let verdict = verdict(status, &next, is_pointed);
        Self { verdict, next }
    }

    /// True if no profile can serve the next request, or every one failed the last time.
    pub(crate) fn is_total_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Nothing | Verdict::Failed)
    }

    /// Spares that could take over now, in the chain's order.
    pub(crate) fn usable_spares(&self) -> Vec<&str> {
        let spares = self.next.profiles.iter().skip(1);
        spares.filter(|prospect| prospect.verdict == Chance::Usable).map(|prospect| prospect.profile.as_str()).collect()
    }

    /// Profiles that cannot serve the next request, or may not, each with the reason.
    pub(crate) fn faults(&self) -> Vec<(&str, &str)> {
        let at_fault = self.next.profiles.iter().filter(|prospect| prospect.verdict != Chance::Usable);
        at_fault.map(|prospect| (prospect.profile.as_str(), prospect.why.as_deref().unwrap_or("not usable"))).collect()
    }

    /// The faults of spares: `backup: key missing; third: limit reached`. `None` if every spare can take over.
    pub(crate) fn spare_faults(&self) -> Option<String> {
        let first = self.next.profiles.first().map(|prospect| prospect.profile.as_str());
        joined(self.faults().into_iter().filter(|(name, _)| Some(*name) != first))
    }

    /// The faults of every profile. `None` if there are none.
    pub(crate) fn all_faults(&self) -> Option<String> {
        joined(self.faults().into_iter())
    }

    /// The prospect of a profile.
    pub(crate) fn prospect(&self, name: &str) -> Option<&Prospect> {
        self.next.profiles.iter().find(|prospect| prospect.profile == name)
    }
}

fn joined<'a>(faults: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let faults: Vec<String> = faults.map(|(name, why)| format!("{name}: {why}")).collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

fn verdict(status: &Status, next: &NextRequest, is_pointed: bool) -> Verdict {
    let has = |wanted: Chance| next.profiles.iter().any(|prospect| prospect.verdict == wanted);
    let primary = next.profiles.first().map(|prospect| prospect.profile.as_str()).unwrap_or_default();
    let chance = |name: &str| next.profiles.iter().find(|prospect| prospect.profile == name).map(|prospect| prospect.verdict);
    let served_by = next.served_by.as_deref().unwrap_or_default();
    let usable_beside = next.profiles.iter().any(|prospect| prospect.profile != served_by && prospect.verdict == Chance::Usable);
    let given_up = status.profiles.first().is_some_and(|profile| profile.given_up > 0);
    match () {
        () if next.served_by.is_none() || !(has(Chance::Usable) || has(Chance::Unproven)) => Verdict::Nothing,
        () if !has(Chance::Usable) => Verdict::Failed,
        () if !status.enabled => Verdict::Off,
        () if !is_pointed => Verdict::Unpointed,
        () if served_by != primary && status.serving == primary => Verdict::Failing,
        () if served_by != primary => Verdict::OnSpare,
        () if !usable_beside => Verdict::Alone,
        () if given_up || chance(primary) != Some(Chance::Usable) => Verdict::Failing,
        () => Verdict::Protected,
    }
}

/// What can be told from the states alone, of a gateway that is older than its forecast.
fn derived(status: &Status) -> NextRequest {
    let prospect = |profile: &ProfileStatus| {
        let held = is_held(profile);
        let why = held.then(|| profile.last_failure.clone().unwrap_or_else(|| profile.state.replace('_', " ")));
        let verdict = if held { Chance::Unusable } else { Chance::Usable };
        Prospect { profile: profile.name.clone(), verdict, why, back_in_s: profile.back_in_s }
    };
    let profiles: Vec<Prospect> = status.profiles.iter().map(prospect).collect();
    let usable = |prospect: &&Prospect| prospect.verdict == Chance::Usable;
    let serving = profiles.iter().filter(usable).find(|prospect| prospect.profile == status.serving);
    let served_by = serving.or_else(|| profiles.iter().find(usable)).map(|prospect| prospect.profile.clone());
    NextRequest { model: None, served_by, profiles }
}

/// True if the state keeps every request from the profile. A bench of one model family does not.
pub(crate) fn is_held(profile: &ProfileStatus) -> bool {
    profile.has_ended_login()
        || profile.left_out.is_some()
        || profile.back_in_s.is_some() && profile.family.is_none()
        || matches!(profile.state.as_str(), "offline" | "paused" | "no_credential")
}

/// Whether a client sends its requests to this gateway: the one that `run` started, one that was seen lately, or one that its settings or
/// this environment point here.
pub(crate) fn is_pointed(kind: &str, status: &Status, locations: &Locations) -> bool {
    let address = status.address.trim_start_matches("http://").parse().ok();
    matches!(kind, "run" | "drill")
        || status.client_seen_ago_s.is_some_and(|ago| ago < CLIENT_SEEN_TTL)
        || address.is_some_and(|address| leads_here(locations, address))
}

/// Whether Claude Code's settings, an editor's, or this process's environment lead to this address.
pub(crate) fn leads_here(locations: &Locations, address: SocketAddr) -> bool {
    let leads = |url: &str| authority(url) == Some(address) || our_proxy(url) == Some(address);
    let names = || std::iter::once(BASE_URL).chain(HTTPS_PROXY);
    let of_settings = |file: &Path| {
        let settings: Value = read(file).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        names().any(|name| settings["env"][name].as_str().is_some_and(leads))
    };
    // Editors allow comments in theirs, so the text is searched for what `install` writes.
    let of_editor = |file: &Path| read(file).is_some_and(|text| text.contains(&format!("http://{address}")));
    [&locations.claude_settings, &locations.claude_managed].into_iter().any(|file| of_settings(file))
        || names().any(|name| std::env::var(name).is_ok_and(|url| leads(&url)))
        || vscode::settings_files(&locations.home).iter().any(|file| of_editor(file))
}

fn read(file: &Path) -> Option<String> {
    let data = std::fs::metadata(file).ok()?;
    (data.is_file() && data.len() <= MAX_SETTINGS).then(|| std::fs::read_to_string(file).ok()).flatten()
}

fn authority(url: &str) -> Option<SocketAddr> {
    let uri: http::Uri = url.parse().ok()?;
    uri.authority()?.as_str().replace("localhost:", "127.0.0.1:").parse().ok()
}

/// What to do so that a client goes through a gateway.
pub(crate) const POINT_A_CLIENT: &str = "hotspare install, hotspare run -- claude, or eval \"$(hotspare env)\"";

/// A profile's credential as the process sees it that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The profile.
    pub(crate) profile: String,
    /// Why the process that serves cannot read it.
    pub(crate) problem: String,
    /// The variable, where this shell has it and the process that serves does not.
    pub(crate) only_in_shell: Option<String>,
    /// The command that mends it.
    pub(crate) mend: String,
}

impl Missing {
    /// For people, in one sentence.
    pub(crate) fn words(&self) -> String {
        match &self.only_in_shell {
            Some(variable) => format!("{}: key missing: `{variable}` is set in this shell, but not in the service", self.profile),
            None => format!("{}: key missing: {}", self.profile, self.problem),
        }
    }
}

/// Credentials that the gateway with this status cannot read. Compares its environment with that of this process.
pub(crate) fn missing_credentials(instance: &Instance, status: &Status, locations: &Locations) -> Vec<Missing> {
    let missing = |profile: &ProfileStatus| {
        let credential = profile.credential.as_ref().filter(|credential| credential.is_missing())?;
        let variable = credential.from.as_ref().filter(|_| credential.source == "env");
        let only_in_shell = variable.filter(|name| std::env::var(name).is_ok_and(|value| !value.trim().is_empty())).cloned();
        let mend = match &variable {
            Some(name) => mend_variable(name, &instance.kind, only_in_shell.is_some(), locations),
            None => format!("hotspare profile show {}", profile.name),
        };
        Some(Missing {
            profile: profile.name.clone(),
            problem: credential.problem.clone().unwrap_or_else(|| "it cannot be read".to_owned()),
            only_in_shell,
            mend,
        })
    };
    status.profiles.iter().filter_map(missing).collect()
}

/// How a variable comes into the environment of a process that serves.
fn mend_variable(name: &str, kind: &str, in_shell: bool, locations: &Locations) -> String {
    let set = if in_shell { String::new() } else { format!("export {name}=…; ") };
    match kind {
        "service" if Manager::find() == Manager::Systemd && service::is_installed(locations) => {
            let file = locations.config_file.with_file_name("environment");
            let file = file.display();
            format!("{set}(umask 077; printf '{name}=%s\\n' \"${name}\" >> {file}) && systemctl --user restart hotspare")
        }
        "service" => format!("{set}hotspare service stop && hotspare service start"),
        kind => format!("{set}start `hotspare {kind}` again from this shell"),
    }
}

/// What the running service says of the configured spares, for `install` and `init`, which end with it.
pub(crate) struct ServiceView {
    /// What the service cannot read.
    pub(crate) missing: Vec<Missing>,
    /// What its next request would meet.
    pub(crate) outlook: Outlook,
}

/// The service's own view. `None` if no service runs, or it does not answer: the caller then says that its view is that of this shell.
pub(crate) async fn of_service(locations: &Locations) -> Option<ServiceView> {
    let instance = state::instances(&locations.state_dir).into_iter().find(Instance::serves_all)?;
    let status = gateways::get::<Status>(std::slice::from_ref(&instance), "/hotspare/status").await.pop()?.ok()?;
    let is_pointed = is_pointed(&instance.kind, &status, locations);
    Some(ServiceView { missing: missing_credentials(&instance, &status, locations), outlook: Outlook::of(&status, is_pointed) })
}

impl ServiceView {
    /// Lines for the end of a command that has just set something up: what is still missing, and the command that mends it.
    pub(crate) fn closing_lines(&self) -> Vec<String> {
        self.missing.iter().flat_map(|missing| [missing.words(), format!("  mend it: {}", missing.mend)]).collect()
    }
}
