//! `hotspare status`: asks every running gateway of this user and shows what it says. Never starts one.

use std::fmt::Write as _;
use std::io::stdout;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hotspare_gateway::Status;
use hotspare_gateway::status::{ConfigStatus, ProfileStatus};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cli::StatusArgs;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Paint, Style};
use crate::state::{self, Instance};

/// Longest a gateway may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Most bytes of its answer.
const ANSWER_CAP: usize = 1024 * 1024;

/// Runs `hotspare status`.
pub(crate) fn status(arguments: &StatusArgs) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let instances = state::instances(&locations.state_dir);
    let answers = commands::runtime()?.block_on(async {
        let mut answers = Vec::new();
        for instance in &instances {
            if let Ok(Ok(status)) = tokio::time::timeout(ANSWER_TIME, ask(instance)).await {
                answers.push((instance, status));
            }
        }
        answers
    });
    if arguments.json {
        let gateways: Vec<serde_json::Value> =
            answers.iter().map(|(instance, status)| serde_json::json!({ "kind": instance.kind, "status": status })).collect();
        output::data(&serde_json::json!({ "version": 1, "gateways": gateways }).to_string())?;
    }
    if answers.is_empty() {
        return Err(CliError::new(Exit::NotRunning, "nothing is running").hint("protect a session: `hotspare run -- claude`"));
    }
    if !arguments.json {
        let paint = Paint(output::colored(&stdout()));
        let texts: Vec<String> = answers.iter().map(|(instance, status)| text(instance, status, paint)).collect();
        output::data(&texts.join("\n\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(instance: &Instance) -> Result<Status, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(instance.address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get("/hotspare/status")
        .header(http::header::HOST, instance.address.to_string())
        .header("x-hotspare-token", &instance.token)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let body = Limited::new(response.into_body(), ANSWER_CAP).collect().await?.to_bytes();
    connection.abort();
    Ok(serde_json::from_slice(&body)?)
}

fn text(instance: &Instance, status: &Status, paint: Paint) -> String {
    let primary = status.profiles.first().map_or("", |profile| &profile.name);
    let (sign, word, style) = if !status.enabled {
        ("○", "Failover is off", Style::Yellow)
    } else if status.profiles.iter().all(|profile| profile.back_in_s.is_some()) {
        ("✖", "No profile is usable", Style::Red)
    } else if status.profiles.len() < 2 {
        ("○", "No spare", Style::Yellow)
    } else if status.serving == primary {
        ("●", "Protected", Style::Green)
    } else {
        ("⇄", "On the spare", Style::Yellow)
    };
    let mut text = format!(
        "{}   {} → {}   ({}, up {})",
        paint.paint(style, &format!("{sign} {word}")),
        status.address.trim_start_matches("http://"),
        paint.paint(Style::Bold, &status.serving),
        instance.kind,
        duration(status.uptime_s)
    );
    if let Some(last) = &status.last_failover {
        let to = last.to.as_deref().map_or_else(|| "nobody could answer".to_owned(), |to| format!("{to} took over"));
        let _ = write!(text, "\n  last  {}: {}, {to}, {}", last.from, last.why, ago(last.ago_s));
    }
    let _ = write!(text, "\n  {} requests, {} served by a spare, {} in flight\n", status.exchanges, status.failovers, status.in_flight);
    if let Some(config) = &status.config {
        text.push_str(&config_lines(config, paint));
    }
    if let Some(trouble) = &status.ledger {
        let _ = write!(text, "\n  {} {trouble}\n", paint.paint(Style::Yellow, "ledger"));
    }
    let width = status.profiles.iter().map(|profile| profile.name.chars().count()).max().unwrap_or(7).max(7);
    let states: Vec<(String, Style)> = status.profiles.iter().map(state_words).collect();
    let state_width = states.iter().map(|(words, _)| words.chars().count()).max().unwrap_or(5).max(20);
    let _ = write!(text, "{}", paint.paint(Style::Dim, &format!("\n  #  {:<width$}  {:<state_width$}  LAST FAILURE", "PROFILE", "STATE")));
    for (place, (profile, (state, style))) in status.profiles.iter().zip(states).enumerate() {
        let mark = if profile.name == status.serving { "▶" } else { " " };
        let failure = match (&profile.last_failure, profile.last_failure_ago_s) {
            (Some(words), Some(ago)) => format!("{words}, {}", self::ago(ago)),
            _ => paint.paint(Style::Dim, "none"),
        };
        let state = paint.paint(style, &format!("{state:<state_width$}"));
        let _ = write!(text, "\n{mark} {:<2} {:<width$}  {state}  {failure}", place + 1, profile.name);
        match profile.login_ends_in_s {
            Some(0) => text.push_str(&paint.paint(Style::Yellow, " · its login has run out: start Claude Code with its folder once")),
            Some(left) => {
                let _ = write!(text, " · its login ends in {}", duration(left));
            }
            None => {}
        }
    }
    text
}

/// Only what is worth a word: a newer configuration that is not used, or only in part.
fn config_lines(config: &ConfigStatus, paint: Paint) -> String {
    let since = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs().saturating_sub(config.loaded_at));
    let mut lines = String::new();
    if let Some(error) = &config.error {
        let head = format!("the new configuration is not used; the last good one, read {} ago, goes on:", duration(since));
        let error = error.trim_end().replace('\n', "\n    ");
        let _ = write!(lines, "\n  {} {head}\n    {error}\n", paint.paint(Style::Red, "config"));
    }
    if let Some(keys) = &config.needs_restart {
        let _ = write!(lines, "\n  {} a new value of {keys} waits for a restart\n", paint.paint(Style::Yellow, "config"));
    }
    lines
}

fn state_words(profile: &ProfileStatus) -> (String, Style) {
    let back = profile.back_in_s.map(duration).unwrap_or_default();
    match profile.state.as_str() {
        "serving" => ("● serving".to_owned(), Style::Green),
        "cooling" => (format!("◐ cooling, {back} left"), Style::Yellow),
        "blocked" => (format!("✖ blocked, {back} left"), Style::Red),
        _ => ("○ ready".to_owned(), Style::Dim),
    }
}

fn ago(seconds: u64) -> String {
    if seconds == 0 { "just now".to_owned() } else { format!("{} ago", duration(seconds)) }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
