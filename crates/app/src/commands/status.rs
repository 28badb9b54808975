//! `hotspare status`: asks every running gateway of this user and shows what it says. Never starts one.

mod folders;
mod table;

use std::process::ExitCode;
use std::time::SystemTime;

use hotspare_config::Locations;
use hotspare_gateway::Status;
use hotspare_gateway::drill::DrillStatus;
use hotspare_gateway::status::{Chance, ConfigStatus, LoginStatus, ProfileStatus, WaitStatus};
use hotspare_store::{Reader, Total};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::StatusArgs;
use crate::commands;
use crate::commands::service;
use crate::error::{CliError, Exit};
use crate::folder_hooks::{FolderHooks, Trouble};
use crate::gateways;
use crate::output::{self, Look, Style};
use crate::state;
use crate::verdict::{self, Outlook, Verdict};
use crate::words;

/// The version of the JSON's shape.
const REPORT_VERSION: u32 = 1;

/// A request that has waited for fewer seconds is no news: a long turn thinks for a while.
const WAITING_FROM: u64 = 5;

/// A login that ends within so many seconds is worth a word.
const LOGIN_ENDS_SOON: u64 = 8 * 3600;

/// Columns of the words that begin a line.
const LABEL: usize = 6;

/// What `status --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StatusReport {
    /// The shape's version.
    version: u32,
    /// Every gateway that runs.
    gateways: Vec<GatewayReport>,
    /// What each profile did today, by this machine's time zone; none: the ledger cannot be read, or nothing was recorded yet.
    today: Option<Vec<Today>>,
}

/// One gateway that runs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct GatewayReport {
    /// `run` or `serve`.
    kind: String,
    /// True if a client sends its requests there: by its settings, or because one was seen lately.
    has_client: bool,
    /// What it says.
    status: Status,
}

/// What one profile did today. Tokens are as the provider counted them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Today {
    /// Its name.
    profile: String,
    /// Answers that a client got.
    served: u64,
    /// Tokens of every sort, the cache's too.
    tokens: u64,
    /// What those answers are estimated to cost, in millionths of a US dollar; none where no price is known.
    est_cost_micro_usd: Option<u64>,
}

/// Runs `hotspare status`.
pub(crate) fn status(arguments: &StatusArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let instances = state::instances(&locations.state_dir);
    let answers = commands::runtime()?.block_on(gateways::get::<Status>(&instances, "/hotspare/status"));
    let answered = instances.into_iter().zip(answers).filter_map(|(instance, answer)| Some((instance.kind, answer.ok()?)));
    let report_of = |(kind, status): (String, Status)| {
        let has_client = verdict::is_pointed(&kind, &status, &locations);
        GatewayReport { kind, has_client, status }
    };
    let gateways: Vec<GatewayReport> = answered.map(report_of).collect();
    // A ledger that cannot be read is no reason to be silent on the rest.
    let ledger = commands::ledger(&locations).ok().flatten();
    let today = ledger.as_ref().map(Reader::today).and_then(Result::ok).map(|totals| by_profile(&totals));
    let report = StatusReport { version: REPORT_VERSION, gateways, today };
    if arguments.json {
        let text = serde_json::to_string(&report).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    }
    if report.gateways.is_empty() {
        return Err(nothing_runs(&locations));
    }
    if !arguments.json {
        output::data(&drawn(&report, Look::of_stdout()))?;
    }
    let fails = |gateway: &GatewayReport| gateway.outlook().is_total_failure();
    Ok(if report.gateways.iter().any(fails) { ExitCode::from(Exit::Exhausted as u8) } else { ExitCode::SUCCESS })
}

impl GatewayReport {
    fn outlook(&self) -> Outlook {
        Outlook::of(&self.status, self.has_client)
    }
}

/// Where a service is installed, it has crashed or was stopped: a `run` beside it would not help the sessions that are pointed at it.
fn nothing_runs(locations: &Locations) -> CliError {
    let nothing = CliError::new(Exit::NotRunning, "nothing is running");
    if service::is_expected(locations) {
        nothing.hint("start the service: `hotspare service start`")
    } else {
        nothing.hint("protect a session: `hotspare run -- claude`")
    }
}

fn by_profile(totals: &[Total]) -> Vec<Today> {
    let mut today: Vec<Today> = Vec::new();
    for total in totals {
        let place = today.iter().position(|one| one.profile == total.profile).unwrap_or_else(|| {
            today.push(Today { profile: total.profile.clone(), ..Today::default() });
            today.len() - 1
        });
        let one = &mut today[place];
        one.served += total.served;
        one.tokens += total.input + total.output + total.cache_read + total.cache_write;
        if total.priced > 0 {
            one.est_cost_micro_usd = Some(one.est_cost_micro_usd.unwrap_or_default() + total.est_cost_micro_usd);
        }
    }
    today
}

/// Everything that is known, for people.
fn drawn(report: &StatusReport, look: Look) -> String {
    let today = report.today.as_deref();
    let texts: Vec<String> = report.gateways.iter().map(|gateway| gateway_text(gateway, today, look)).collect();
    texts.join("\n\n")
}

fn gateway_text(gateway: &GatewayReport, today: Option<&[Today]>, look: Look) -> String {
    let status = &gateway.status;
    let outlook = gateway.outlook();
    let mut lines = headline(&gateway.kind, status, &outlook, look);
    let mut told: Vec<(&str, Style, String)> = Vec::new();
    if outlook.verdict == Verdict::Unpointed {
        told.push(("next", Style::Cyan, format!("point a client here: {}", verdict::POINT_A_CLIENT)));
    }
    told.extend(
        status.waiting.iter().filter(|waiting| waiting.for_s >= WAITING_FROM).map(|one| ("waits", Style::Yellow, waiting_words(one))),
    );
    if let Some(switch) = &status.switch {
        let time = switch.for_s.map_or_else(|| "until you take it back".to_owned(), |seconds| format!("for {} more", words::span(seconds)));
        told.push(("switch", Style::Yellow, format!("{} is asked first {time}; undo: hotspare switch auto", switch.profile)));
    }
    told.extend(status.drill.as_ref().map(|drill| ("drill", Style::Yellow, drill_words(drill))));
    for pause in &status.pauses {
        let time = pause.for_s.map_or_else(|| "until you resume it".to_owned(), |seconds| format!("for {} more", words::span(seconds)));
        let words =
            if pause.without_effect { "is paused without effect: nobody else is left".to_owned() } else { format!("is not asked {time}") };
        told.push(("paused", Style::Yellow, format!("{} {words}; undo: hotspare profile resume {}", pause.profile, pause.profile)));
    }
    if let Some(seconds) = status.offline_for_s {
        told.push(("net", Style::Red, format!("this machine's network is down; tried again in {}", words::span(seconds))));
    }
    told.extend(why(status, &outlook).map(|words| ("why", Style::Dim, words)));
    told.extend(back(status, &outlook).map(|words| ("back", Style::Dim, words)));
    told.extend(status.profiles.iter().skip(1).filter_map(blocked_spare).map(|words| ("spare", Style::Yellow, words)));
    told.extend(status.profiles.iter().filter_map(given_up).map(|words| ("slow", Style::Yellow, words)));
    if told.iter().all(|(label, ..)| matches!(*label, "switch" | "drill" | "paused"))
        && let Some(last) = &status.last_failover
    {
        let to = last.to.as_deref().map_or_else(|| "nobody could answer".to_owned(), |to| format!("{to} took over"));
        told.push(("last", Style::Dim, format!("{}: {}; {to}, {}", last.from, last.why, ago(last.ago_s))));
    }
    for profile in &status.profiles {
        told.extend(missing_words(profile, &gateway.kind).map(|words| ("key", Style::Red, words)));
        told.extend(profile.left_out.as_ref().map(|why| ("auth", Style::Yellow, format!("{} is left out: {why}", profile.name))));
        if let Some((style, words)) = profile.login.as_ref().and_then(|login| login_words(login, profile.login_ends_in_s)) {
            told.push(("login", style, format!("{}: {words}", profile.name)));
        }
        match profile.login_ends_in_s.filter(|_| profile.login.is_none()) {
            Some(0) => {
                told.push(("login", Style::Yellow, format!("{}: it has run out; start Claude Code with its folder once", profile.name)));
            }
            Some(left) if left < LOGIN_ENDS_SOON => {
                told.push(("login", Style::Dim, format!("{}: it ends in {}", profile.name, words::span(left))));
            }
            Some(_) | None => {}
        }
    }
    let home = std::env::home_dir();
    let has_rules = gateway.kind != "run" && status.folders.as_ref().is_some_and(|folders| folders.has_rules);
    let trouble = if has_rules { folder_hooks() } else { None };
    let home = home.as_deref().and_then(std::path::Path::to_str);
    let of_folders = folders::lines(status.folders.as_ref(), trouble.as_ref(), home, look);
    told.extend(of_folders.into_iter().map(|(style, words)| ("folder", style, words)));
    if let Some(trouble) = &status.ledger {
        told.push(("ledger", Style::Yellow, trouble.clone()));
    }
    for (label, style, words) in &told {
        lines.extend(labelled(label, *style, words, look));
    }
    if let Some(config) = &status.config {
        lines.extend(config_lines(config, look));
    }
    let counts = format!(
        "{}, {} served by a spare, {} in flight",
        words::several(status.exchanges, "request", "requests"),
        status.failovers,
        status.in_flight
    );
    let indent = if told.is_empty() { 2 } else { LABEL + 3 };
    lines.push(look.paint.paint(Style::Dim, &format!("{}{counts}", " ".repeat(indent))));
    lines.extend(table::drawn(status, today, look));
    lines.join("\n")
}

/// What keeps the rules of folders from having their effect behind the service.
fn folder_hooks() -> Option<Trouble> {
    FolderHooks::read(&commands::locations(None).ok()?).trouble()
}

/// The state of a login that Claude Code renews. `None` if it was not renewed yet and needs nothing.
fn login_words(login: &LoginStatus, ends_in_s: Option<u64>) -> Option<(Style, String)> {
    if let Some(command) = &login.log_in {
        return Some((Style::Red, format!("it has ended; log in again: {command}")));
    }
    if let Some(problem) = &login.problem {
        return Some((Style::Yellow, format!("it was not renewed: {problem}")));
    }
    match (login.renewed_ago_s, ends_in_s) {
        (Some(seconds), _) => Some((Style::Dim, format!("renewed {}", ago(seconds)))),
        (None, Some(0)) => Some((Style::Dim, "it has run out, and is renewed at need".to_owned())),
        (None, _) => None,
    }
}

/// Where a request waits, for how long, and what follows.
pub(crate) fn waiting_words(waiting: &WaitStatus) -> String {
    let whom = waiting.profile.as_deref().unwrap_or("a profile that cools down");
    let next = match (&waiting.to, waiting.goes_on_in_s) {
        (Some(to), Some(seconds)) => format!("; goes on to {to} in {}", words::span(seconds)),
        (None, Some(seconds)) => format!("; ends in {}, no other profile is left", words::span(seconds)),
        _ => String::new(),
    };
    format!("a request waits {} for {whom}{next}", words::span(waiting.for_s))
}

/// That the process which serves cannot read the profile's credential.
fn missing_words(profile: &ProfileStatus, kind: &str) -> Option<String> {
    let credential = profile.credential.as_ref().filter(|credential| credential.is_missing() && !profile.has_ended_login())?;
    if profile.left_out.is_some() || credential.source == "claude_config_dir" {
        return None;
    }
    let variable = credential.from.as_ref().filter(|_| credential.source == "env");
    let in_shell = variable.filter(|name| std::env::var(name).is_ok_and(|value| !value.trim().is_empty()));
    Some(match in_shell {
        Some(name) => format!("{}: `{name}` is set in this shell, but not in the {kind}; see hotspare doctor", profile.name),
        None => format!("{}: {}; see hotspare doctor", profile.name, credential.problem.as_deref().unwrap_or("it cannot be read")),
    })
}

/// Why a spare is blocked, when it is tried again, and the command that ends the block.
fn blocked_spare(profile: &ProfileStatus) -> Option<String> {
    if profile.state != "blocked" {
        return None;
    }
    let cause = profile.last_failure.as_deref().or(profile.because.as_deref()).unwrap_or("failed");
    let when = profile.last_failure_ago_s.map(ago).unwrap_or_default();
    let next = words::span(profile.next_look_in_s.or(profile.back_in_s)?);
    Some(format!("{name}: {cause}, {when}; next try in {next}, or after `hotspare reset {name}`", name = profile.name))
}

/// That clients gave up waiting for the profile.
fn given_up(profile: &ProfileStatus) -> Option<String> {
    let times = match profile.given_up {
        0 => return None,
        1 => "the last client".to_owned(),
        clients => format!("the last {clients} clients"),
    };
    Some(format!("{}: {times} gave up before any content came", profile.name))
}

/// What the next request would meet, and where it goes.
fn headline(kind: &str, status: &Status, outlook: &Outlook, look: Look) -> Vec<String> {
    let primary = status.profiles.first().map_or("", |profile| &profile.name);
    let faults = |all: bool| if all { outlook.all_faults() } else { outlook.spare_faults() };
    let with = |head: &str, faults: Option<String>| faults.map_or_else(|| head.to_owned(), |faults| format!("{head}: {faults}"));
    let beside = |head: &str| faults(false).map_or_else(|| head.to_owned(), |faults| format!("{head}; {faults}"));
    let (sign, word, style) = match outlook.verdict {
        Verdict::Nothing => (look.sign("✖", "x"), with("No profile is usable", faults(true)), Style::Red),
        Verdict::Failed => (look.sign("✖", "x"), with("Every profile failed", faults(true)), Style::Red),
        Verdict::Off => (look.sign("○", "o"), "Failover is off".to_owned(), Style::Yellow),
        Verdict::Unpointed => (look.sign("○", "o"), beside("Not protected: no client goes through hotspare"), Style::Yellow),
        Verdict::Alone if status.profiles.len() < 2 => (look.sign("○", "o"), "No spare".to_owned(), Style::Yellow),
        Verdict::Alone => (look.sign("○", "o"), with("Not protected", faults(false)), Style::Yellow),
        Verdict::Failing => (look.sign("⚠", "!"), beside("Primary is failing"), Style::Yellow),
        Verdict::OnSpare => (look.sign("⇄", "~"), beside("On the spare"), Style::Yellow),
        Verdict::Protected => {
            let by = faults(false).map(|faults| format!("Protected by {}; {faults}", outlook.usable_spares().join(", ")));
            (look.sign("●", "*"), by.unwrap_or_else(|| "Protected".to_owned()), Style::Green)
        }
    };
    let mut facts = Vec::new();
    if let Some(seconds) = status.serving_for_s.filter(|_| status.serving != primary) {
        facts.push(format!("for {}", words::span(seconds)));
    }
    if let Some(model) = &status.serving_model {
        facts.push(format!("as {model}"));
    }
    if status.sessions > 0 {
        facts.push(words::several(status.sessions, "session", "sessions"));
    }
    facts.push(format!("up {}", words::span(status.uptime_s)));
    let arrow = look.sign("→", "->");
    let address = status.address.trim_start_matches("http://");
    let way = format!("{kind} {arrow} {address} {arrow} ");
    let target = outlook.next.served_by.as_deref().unwrap_or("none");
    let facts = facts.join(look.sign(" · ", ", "));
    let width_of = |parts: &[&str]| parts.iter().map(|part| part.chars().count()).sum::<usize>();
    let fits = |parts: &[&str]| look.width.is_none_or(|width| width_of(parts) <= width);
    let heads = words::fit(&format!("{sign} {word}"), usize::MAX, look.unicode);
    let goes = format!("{way}{}", look.paint.paint(Style::Bold, target));
    let right = look.paint.paint(Style::Dim, &facts);
    if fits(&[&heads, "   ", &way, target, "   ", &facts]) {
        return vec![format!("{}   {goes}   {right}", look.paint.paint(style, &heads))];
    }
    if fits(&[&heads, "   ", &way, target]) {
        return vec![format!("{}   {goes}", look.paint.paint(style, &heads)), format!("  {right}")];
    }
    let heads = look.width.map_or_else(|| vec![heads.clone()], |width| words::wrapped(&heads, width.saturating_sub(2).max(20)));
    let heads = heads.iter().enumerate().map(|(at, line)| format!("{}{}", if at == 0 { "" } else { "  " }, look.paint.paint(style, line)));
    heads.chain([format!("  {goes}   {right}")]).collect()
}

/// What a drill does, so that nobody takes it for an outage.
pub(crate) fn drill_words(drill: &DrillStatus) -> String {
    let whom = if drill.live {
        words::several(u64::from(drill.left), "real request meets it yet", "real requests meet it yet")
    } else {
        "simulated".to_owned()
    };
    let came = drill.to.as_ref().map_or_else(String::new, |to| format!("; {to} answered"));
    format!("{} at {}, {whom}{came}; it ends in {} at the latest", drill.fault, drill.profile, words::span(drill.ends_in_s))
}

/// Why the primary does not serve.
fn why(status: &Status, outlook: &Outlook) -> Option<String> {
    let primary = status.profiles.first()?;
    let is_well = outlook.prospect(&primary.name).is_none_or(|prospect| prospect.verdict == Chance::Usable);
    if (status.serving == primary.name && is_well) || matches!(primary.state.as_str(), "paused" | "no_credential") {
        return None;
    }
    let failure = primary.last_failure.as_ref()?;
    let when = primary.last_failure_ago_s.map(ago).unwrap_or_default();
    let now = match (primary.state.as_str(), &primary.family) {
        ("blocked", None) => "; it is not asked",
        ("open", _) => "; its circuit breaker is open",
        ("half_open", _) => "; it is on trial",
        ("cooling" | "blocked", Some(family)) => return Some(format!("{}: {failure}, {when}; it is not asked for {family}", primary.name)),
        ("cooling", None) => "; it cools down",
        _ => "",
    };
    Some(format!("{}: {failure}, {when}{now}", primary.name))
}

/// When the primary is asked again, and when sessions go home to it.
fn back(status: &Status, outlook: &Outlook) -> Option<String> {
    let primary = status.profiles.first()?;
    let away = status.serving != primary.name;
    let prospect = outlook.prospect(&primary.name);
    let is_well = prospect.is_none_or(|prospect| prospect.verdict == Chance::Usable);
    let is_trial = primary.state == "half_open";
    if !status.enabled || (!away && is_well && !is_trial) || matches!(primary.state.as_str(), "paused" | "no_credential") {
        return None;
    }
    let failback = status.failback.as_ref()?;
    let home = match failback.at.as_str() {
        "manual" => "sessions return with `hotspare switch` or `reset`".to_owned(),
        "turn" => "sessions return between turns".to_owned(),
        _ => "sessions return between turns, while it costs no warm cache".to_owned(),
    };
    let name = &primary.name;
    let good = match failback.after_good {
        1 => "a good answer".to_owned(),
        good => format!("{good} good answers"),
    };
    let first = match (primary.state.as_str(), primary.back_in_s) {
        ("offline", _) => format!("{name} is asked when the network is up"),
        ("blocked", Some(seconds)) => {
            let next = primary.next_look_in_s.unwrap_or(seconds).min(seconds);
            format!("{name} is tried again in {}, or after `hotspare reset {name}`", words::span(next))
        }
        ("open", Some(seconds)) => format!("{name} is tried again in {}, back after {good}", words::span(seconds)),
        ("half_open", _) => format!("{name} is on trial, {} of {good}", primary.good_trials.unwrap_or_default()),
        (_, Some(seconds)) => format!("{name} is asked again in {}", words::span(seconds)),
        // Its bench is over; nobody has been answered by it since it failed.
        _ if primary.last_failure_ago_s.is_some_and(|failed| primary.last_success_ago_s.is_none_or(|well| well >= failed)) => {
            format!("{name} may be asked again")
        }
        // Its last answer to such a request was a failure, or it has none to give.
        _ if !is_well => {
            let why = prospect.and_then(|prospect| prospect.why.as_deref()).unwrap_or("it is not usable");
            format!("{name} does not serve the next request: {why}")
        }
        _ => format!("{name} is well again"),
    };
    Some(if away || failback.at != "cold_cache" { format!("{first}; {home}") } else { first })
}

/// Text behind its label, on as many lines as it needs.
fn labelled(label: &str, style: Style, text: &str, look: Look) -> Vec<String> {
    let text = words::fit(text, usize::MAX, look.unicode);
    let lines = look.width.map_or_else(|| vec![text.clone()], |width| words::wrapped(&text, width.saturating_sub(LABEL + 3).max(20)));
    let heads = std::iter::once(look.paint.paint(style, &words::padded(label, LABEL))).chain(std::iter::repeat(" ".repeat(LABEL)));
    heads.zip(lines).map(|(head, line)| format!("  {head} {line}")).collect()
}

/// Only what is worth a word: a newer configuration that is not used, or only in part.
fn config_lines(config: &ConfigStatus, look: Look) -> Vec<String> {
    let since = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs().saturating_sub(config.loaded_at));
    let mut lines = Vec::new();
    if let Some(error) = &config.error {
        let head = format!("the new configuration is not used; the last good one, read {}, goes on:", ago(since));
        lines.extend(labelled("config", Style::Red, &head, look));
        // Drawn with its line: as it is.
        lines.extend(error.trim_end().lines().map(|line| format!("    {line}")));
    }
    if let Some(keys) = &config.needs_restart {
        lines.extend(labelled("config", Style::Yellow, &format!("a new value of {keys} waits for a restart"), look));
    }
    lines
}

fn ago(seconds: u64) -> String {
    if seconds == 0 { "just now".to_owned() } else { format!("{} ago", words::span(seconds)) }
}

#[cfg(test)]
mod tests;
