//! `hotspare profile show`: one profile, with all that is known of it. Never shows its credential.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use hotspare_config::inspect;
use hotspare_gateway::control::unknown_profile;

use super::list::{place, tilde};
use super::report::{self, AuthReport, ProfileReport};
use crate::cli::Layers;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};
use crate::words;

/// Columns of the words that begin a line.
const LABEL: usize = 10;

/// Runs `hotspare profile show`.
pub(super) fn show(name: &str, layers: &Layers, json: bool) -> Result<ExitCode, CliError> {
    let locations = commands::locations(layers.config.clone())?;
    let inspection = inspect(&locations, &commands::context(layers)?).map_err(|errors| commands::invalid(&errors))?;
    let mut list = report::gather(&locations, &inspection)?;
    let names: Vec<String> = list.profiles.iter().map(|profile| profile.name.clone()).collect();
    list.profiles.retain(|profile| profile.name == name);
    let Some(profile) = list.profiles.first() else {
        return Err(CliError::new(Exit::Usage, unknown_profile(name, &names)));
    };
    if json {
        let text = serde_json::to_string(&list).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&drawn(profile, &locations.home, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn drawn(profile: &ProfileReport, home: &Path, look: Look) -> String {
    let mut text = look.paint.paint(Style::Bold, &profile.name);
    let mut row = |label: &str, value: &str| {
        let value = words::fit(value, usize::MAX, look.unicode);
        let lines = look.width.map_or_else(|| vec![value.clone()], |width| words::wrapped(&value, width.saturating_sub(LABEL + 3).max(20)));
        let labels = std::iter::once(words::padded(label, LABEL)).chain(std::iter::repeat(" ".repeat(LABEL)));
        for (label, line) in labels.zip(lines) {
            let _ = write!(text, "\n  {} {line}", look.paint.paint(Style::Dim, &label));
        }
    };
    let back = profile.back_in_s.map(|seconds| format!(", for {} more", words::span(seconds))).unwrap_or_default();
    row("state", &format!("{}{back}", profile.state.replace('_', " ")));
    let preset = profile.preset.as_ref().map(|preset| format!(" ({preset})")).unwrap_or_default();
    row("platform", &format!("{}{preset}", profile.platform));
    row("address", &profile.address);
    row("credential", &credential(&profile.auth, home));
    if let Some(problem) = &profile.auth.problem {
        row("", problem);
    }
    for (place, model) in profile.models.iter().enumerate() {
        let to = model.to.as_deref().map_or_else(|| "refused".to_owned(), |to| format!("{} {to}", look.sign("→", "->")));
        row(if place == 0 { "models" } else { "" }, &format!("{} {to}", model.pattern));
    }
    if profile.chains.is_empty() {
        row("chains", "none asks it");
    }
    for (line, at) in profile.chains.iter().enumerate() {
        let model = at.model.as_ref().map(|model| format!(" for {model}")).unwrap_or_default();
        row(if line == 0 { "chains" } else { "" }, &format!("{}, place {}{model}", at.chain, at.place));
    }
    row("defined in", &place(profile, home));
    for at in &profile.gateways {
        let failure = at.last_failure.as_ref().map(|failure| format!("; last failure: {failure}")).unwrap_or_default();
        let good = at.last_success_ago_s.map(|ago| format!("; last good answer {} ago", words::span(ago))).unwrap_or_default();
        let gateway = at.gateway.trim_start_matches("http://");
        row(&at.kind, &format!("{gateway}: {}{failure}{good}", at.state.replace('_', " ")));
    }
    text
}

fn credential(auth: &AuthReport, home: &Path) -> String {
    let from = auth.from.as_ref().map(|from| tilde(from, home)).unwrap_or_default();
    let kind = match auth.kind.as_str() {
        "client" => return "the client's own login or key, passed on".to_owned(),
        "none" => return "none is sent".to_owned(),
        "env" => format!("environment variable {from}"),
        "file" => format!("file {from}"),
        "command" => format!("what `{from}` prints"),
        "keychain" => format!("keychain entry {from}"),
        "claude_config_dir" => format!("Claude Code's login in {from}"),
        _ => "written in the configuration".to_owned(),
    };
    let header = auth.header.as_ref().map(|header| format!(", as {header}")).unwrap_or_default();
    let there = match auth.there {
        Some(true) => ", there",
        Some(false) if auth.ends_in_s == Some(0) => "",
        Some(false) => ", missing",
        None => ", not looked at: only its program can tell",
    };
    let ends = match auth.ends_in_s {
        Some(0) if auth.renewable => ", run out, renewed at need".to_owned(),
        Some(0) => ", run out".to_owned(),
        Some(left) => format!(", ends in {}", words::span(left)),
        None => String::new(),
    };
    format!("{kind}{header}{there}{ends}")
}
