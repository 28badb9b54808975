//! `hotspare status`: asks every running gateway of this user and shows what it says. Never starts one.

mod folders;
mod table;

use std::process::ExitCode;
use std::time::SystemTime;

use hotspare_config::Locations;
use hotspare_gateway::Status;
use hotspare_gateway::drill::DrillStatus;
use hotspare_gateway::status::{ConfigStatus, LoginStatus, ProfileStatus};
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
use crate::words;

/// The version of the JSON's shape.
const REPORT_VERSION: u32 = 1;

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
    let gateways: Vec<GatewayReport> = answered.map(|(kind, status)| GatewayReport { kind, status }).collect();
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
    Ok(ExitCode::SUCCESS)
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
    let mut lines = headline(&gateway.kind, status, look);
    let mut told: Vec<(&str, Style, String)> = Vec::new();
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
    told.extend(why(status).map(|words| ("why", Style::Dim, words)));
    told.extend(back(status).map(|words| ("back", Style::Dim, words)));
    told.extend(status.profiles.iter().skip(1).filter_map(blocked_spare).map(|words| ("spare", Style::Yellow, words)));
    told.extend(status.profiles.iter().filter_map(given_up).map(|words| ("slow", Style::Yellow, words)));
    if told.iter().all(|(label, ..)| matches!(*label, "switch" | "drill" | "paused"))
        && let Some(last) = &status.last_failover
    {
        let to = last.to.as_deref().map_or_else(|| "nobody could answer".to_owned(), |to| format!("{to} took over"));
        told.push(("last", Style::Dim, format!("{}: {}; {to}, {}", last.from, last.why, ago(last.ago_s))));
    }
    for profile in &status.profiles {
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

fn is_held(profile: &ProfileStatus) -> bool {
    profile.has_ended_login()
        || profile.left_out.is_some()
        || profile.back_in_s.is_some()
        || matches!(profile.state.as_str(), "offline" | "paused")
}

/// Whether the next request may fail at a profile that still serves.
fn is_failing(profile: &ProfileStatus) -> bool {
    is_held(profile) || profile.given_up > 0
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

/// Whether any profile may be asked, where the traffic goes, and for how long.
fn headline(kind: &str, status: &Status, look: Look) -> Vec<String> {
    let primary = status.profiles.first().map_or("", |profile| &profile.name);
    let (sign, word, style) = if !status.enabled {
        (look.sign("○", "o"), "Failover is off", Style::Yellow)
    } else if status.profiles.iter().all(is_held) {
        (look.sign("✖", "x"), "No profile is usable", Style::Red)
    } else if status.profiles.iter().filter(|profile| profile.state != "paused" && !profile.has_ended_login()).count() < 2 {
        (look.sign("○", "o"), "No spare", Style::Yellow)
    } else if status.serving == primary && status.profiles.first().is_some_and(is_failing) {
        (look.sign("⚠", "!"), "Primary is failing", Style::Yellow)
    } else if status.serving == primary {
        (look.sign("●", "*"), "Protected", Style::Green)
    } else {
        (look.sign("⇄", "~"), "On the spare", Style::Yellow)
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
    let facts = facts.join(look.sign(" · ", ", "));
    let columns = [sign, " ", word, "   ", &way, &status.serving, "   ", &facts].iter().map(|part| part.chars().count()).sum::<usize>();
    let left = format!("{}   {way}{}", look.paint.paint(style, &format!("{sign} {word}")), look.paint.paint(Style::Bold, &status.serving));
    let right = look.paint.paint(Style::Dim, &facts);
    if look.width.is_none_or(|width| columns <= width) { vec![format!("{left}   {right}")] } else { vec![left, format!("  {right}")] }
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
fn why(status: &Status) -> Option<String> {
    let primary = status.profiles.first()?;
    if (status.serving == primary.name && !is_held(primary)) || primary.state == "paused" {
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
fn back(status: &Status) -> Option<String> {
    let primary = status.profiles.first()?;
    let away = status.serving != primary.name;
    if !status.enabled || (!away && !is_held(primary)) || primary.state == "paused" {
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
