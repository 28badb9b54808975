//! `hotspare profile list`: every profile in one line. Never needs anything to run.

use std::path::Path;
use std::process::ExitCode;

use hotspare_config::inspect;

use super::grid::{self, Cell};
use super::report::{self, AuthReport, ProfileReport};
use crate::cli::Layers;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};
use crate::words;

/// A login that ends within so many seconds is worth a look.
const ENDS_SOON: u64 = 8 * 3600;

/// Runs `hotspare profile list`.
pub(super) fn list(layers: &Layers, json: bool) -> Result<ExitCode, CliError> {
    let locations = commands::locations(layers.config.clone())?;
    let inspection = inspect(&locations, &commands::context(layers)?).map_err(|errors| commands::invalid(&errors))?;
    let list = report::gather(&locations, &inspection)?;
    if json {
        let text = serde_json::to_string(&list).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&drawn(&list.profiles, &locations.home, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn drawn(profiles: &[ProfileReport], home: &Path, look: Look) -> String {
    let heading =
        ["PROFILE", "STATE", "PLATFORM", "ADDRESS", "CREDENTIAL", "DEFINED IN"].map(|text| Cell::styled(text, Style::Dim)).to_vec();
    let row = |profile: &ProfileReport| {
        vec![
            Cell::styled(&profile.name, Style::Bold),
            state(&profile.state, profile.back_in_s, look),
            Cell::plain(profile.preset.as_ref().unwrap_or(&profile.platform)),
            Cell::plain(profile.address.trim_start_matches("https://")),
            credential(&profile.auth, home, look),
            Cell::styled(place(profile, home), Style::Dim),
        ]
    };
    let rows: Vec<Vec<Cell>> = std::iter::once(heading).chain(profiles.iter().map(row)).collect();
    match look.width {
        Some(width) if grid::width(&rows) > width => stacked(profiles, home, look, width),
        _ => grid::drawn(&rows, &[], look),
    }
}

/// Two lines for each profile, where one has no room for an address.
fn stacked(profiles: &[ProfileReport], home: &Path, look: Look, width: usize) -> String {
    let heading = ["PROFILE", "STATE", "CREDENTIAL"].map(|text| Cell::styled(text, Style::Dim)).to_vec();
    let row = |profile: &ProfileReport| {
        vec![
            Cell::styled(&profile.name, Style::Bold),
            state(&profile.state, profile.back_in_s, look),
            credential(&profile.auth, home, look),
        ]
    };
    let rows: Vec<Vec<Cell>> = std::iter::once(heading).chain(profiles.iter().map(row)).collect();
    let heads = grid::drawn(&rows, &[2, 0], look);
    let details = std::iter::once(None).chain(profiles.iter().map(Some));
    let lines = heads.lines().zip(details).flat_map(|(head, profile)| {
        let detail = profile.map(|profile| detail_lines(profile, home, look, width));
        std::iter::once(head.to_owned()).chain(detail.into_iter().flatten())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Where a profile's requests go, and where it is defined.
fn detail_lines(profile: &ProfileReport, home: &Path, look: Look, width: usize) -> Vec<String> {
    const INDENT: usize = 4;
    let address = profile.address.trim_start_matches("https://");
    let kind = profile.preset.as_ref().unwrap_or(&profile.platform);
    let words = words::fit(&format!("{kind} {address} {}", place(profile, home)), usize::MAX, look.unicode);
    let lines = words::wrapped(&words, width.saturating_sub(INDENT).max(20));
    lines.iter().map(|line| format!("{}{}", " ".repeat(INDENT), look.paint.paint(Style::Dim, line))).collect()
}

/// A state in one word with its sign, and when it is over.
pub(super) fn state(word: &str, back_in_s: Option<u64>, look: Look) -> Cell {
    let (sign, style) = match word {
        "serving" => (look.sign("●", "*"), Style::Green),
        "ready" => (look.sign("○", "o"), Style::Green),
        "cooling" | "half_open" => (look.sign("◐", "~"), Style::Yellow),
        "paused" => (look.sign("○", "o"), Style::Yellow),
        "open" | "blocked" | "offline" | "no_credential" => (look.sign("✖", "x"), Style::Red),
        _ => (look.sign("○", "o"), Style::Dim),
    };
    let shown = if word == "no_credential" { "key missing".to_owned() } else { word.replace('_', " ") };
    let back = back_in_s.map(|seconds| format!(" {}", words::short_span(seconds))).unwrap_or_default();
    Cell::styled(format!("{sign} {shown}{back}"), style)
}

/// Where the credential comes from and whether it is there.
pub(super) fn credential(auth: &AuthReport, home: &Path, look: Look) -> Cell {
    let from = auth.from.as_ref().map(|from| format!(" {}", tilde(from, home))).unwrap_or_default();
    let text = match auth.kind.as_str() {
        "client" => return Cell::plain("the client's own"),
        "none" => return Cell::plain("none needed"),
        "claude_config_dir" => format!("login{from}"),
        "value" => "in the file".to_owned(),
        kind => format!("{kind}{from}"),
    };
    let (yes, no) = (look.sign("✔", "ok"), look.sign("✖", "missing"));
    match (auth.there, auth.ends_in_s) {
        _ if auth.renewable => Cell::plain(format!("{text} {yes} renewed at need")),
        (Some(false), Some(0)) => Cell::styled(format!("{text} {}ran out", look.sign("✖ ", "")), Style::Red),
        (Some(false), _) => Cell::styled(format!("{text} {no}"), Style::Red),
        (_, Some(left)) if left < ENDS_SOON => Cell::styled(format!("{text} {yes} ends in {}", words::short_span(left)), Style::Yellow),
        (Some(true), _) => Cell::plain(format!("{text} {yes}")),
        (None, _) => Cell::plain(text),
    }
}

/// `~/.config/hotspare/config.json:3`
pub(super) fn place(profile: &ProfileReport, home: &Path) -> String {
    profile.origin.as_ref().map_or_else(|| "built in".to_owned(), |origin| format!("{}:{}", tilde(&origin.file, home), origin.line))
}

/// A path as people write it.
pub(super) fn tilde(path: &str, home: &Path) -> String {
    match Path::new(path).strip_prefix(home) {
        Ok(rest) if !rest.as_os_str().is_empty() => format!("~/{}", rest.display()),
        _ => path.to_owned(),
    }
}
