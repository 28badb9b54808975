//! Reads a provider's status page in Statuspage's JSON, and remembers it for a minute so that nobody asks it in a loop. What it says is one
//! witness among several; it never decides where a request goes.

use std::path::Path;
use std::time::Duration;

use hotspare_config::Locations;
use hotspare_core::blame::{Level, Page};
use hotspare_upstream::probe::{Address, Probed, probe};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::gather::PROBE_TIME;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::state;

/// Anthropic's.
const ANTHROPIC: &str = "https://status.claude.com/api/v2/summary.json";

/// A page that was read so long ago at most is not read again.
const FRESH: Duration = Duration::from_secs(60);

/// Where it is remembered, in the state folder.
const FILE: &str = "status-page.json";

/// The version of that file; another one is not read.
const FILE_VERSION: u32 = 1;

/// Most incidents that are told, and most characters of one's name.
const INCIDENTS: usize = 5;
const NAME_COLUMNS: usize = 120;

/// The page that is asked.
pub(super) struct PageAddress {
    url: String,
    address: Address,
    /// The user named it.
    pub named: bool,
}

impl PageAddress {
    pub(super) fn address(&self) -> Address {
        self.address.clone()
    }
}

/// What the report says of the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Looked {
    /// Its address.
    pub url: String,
    /// Seconds since it was read; 0: just now. None: it could not be.
    pub age_s: Option<u64>,
    /// Unresolved incidents, by name.
    pub incidents: Vec<String>,
    /// Why nothing could be read from it.
    pub trouble: Option<String>,
}

/// What was found there.
pub(super) struct Found {
    pub page: Page,
    pub looked: Looked,
    /// How it was reached; none: it was not asked.
    pub probed: Option<Probed>,
}

/// What is remembered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    version: u32,
    url: String,
    read_ms: u64,
    summary: Summary,
}

/// What counts of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Summary {
    api: Level,
    login: Level,
    incidents: Vec<String>,
}

/// The page to ask: the user's word, else Anthropic's.
pub(super) fn address(named: Option<&str>) -> Result<PageAddress, CliError> {
    let url = named.unwrap_or(ANTHROPIC);
    let wrong = |why: &str| CliError::new(Exit::Usage, format!("`--page {url}`: {why}"));
    let uri: http::Uri = url.parse().map_err(|_| wrong("that is no address"))?;
    let host = uri.host().ok_or_else(|| wrong("that is no address"))?.trim_matches(['[', ']']).to_owned();
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if loopback => false,
        _ => return Err(wrong("`https` is needed; `http` only on this machine")),
    };
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    Ok(PageAddress { url: url.to_owned(), address: Address { https, host, port, path, method: Method::GET }, named: named.is_some() })
}

/// What it says: as it was a moment ago, or now.
pub(super) async fn look(locations: &Locations, page: Option<&PageAddress>) -> Found {
    let Some(page) = page else {
        let looked = Looked { url: String::new(), age_s: None, incidents: Vec::new(), trouble: None };
        return Found { page: Page::Unreachable, looked, probed: None };
    };
    let file = locations.state_dir.join(FILE);
    let now_ms = commands::ms_ago(Duration::ZERO);
    if let Some((summary, age)) = kept(&file, &page.url, now_ms) {
        let looked = Looked { url: page.url.clone(), age_s: Some(age.as_secs()), incidents: summary.incidents, trouble: None };
        return Found { page: Page::Says { api: summary.api, login: summary.login }, looked, probed: None };
    }
    let probed = probe(page.address(), commands::extra_roots(), PROBE_TIME).await;
    let mut looked = Looked { url: page.url.clone(), age_s: None, incidents: Vec::new(), trouble: None };
    let said = match &probed.answer {
        Err(failure) => {
            looked.trouble = Some(failure.detail.to_string());
            Page::Unreachable
        }
        Ok(head) => match (head.status, read(&head.body)) {
            (200, Some(summary)) => {
                remember(&file, &page.url, now_ms, &summary);
                looked.age_s = Some(0);
                looked.incidents = summary.incidents;
                Page::Says { api: summary.api, login: summary.login }
            }
            (200, None) => {
                looked.trouble = Some("what came is no status page".to_owned());
                Page::Wrong
            }
            (status, _) => {
                looked.trouble = Some(format!("it answered {status}"));
                Page::Wrong
            }
        },
    };
    Found { page: said, looked, probed: Some(probed) }
}

fn kept(file: &Path, url: &str, now_ms: u64) -> Option<(Summary, Duration)> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    // A clock that was set back makes it no fresher.
    let age = Duration::from_millis(now_ms.checked_sub(kept.read_ms)?);
    (kept.version == FILE_VERSION && kept.url == url && age <= FRESH).then_some((kept.summary, age))
}

fn remember(file: &Path, url: &str, now_ms: u64, summary: &Summary) {
    let kept = Kept { version: FILE_VERSION, url: url.to_owned(), read_ms: now_ms, summary: summary.clone() };
    // Best effort: without it the page is asked again.
    let _ = serde_json::to_vec(&kept).map(|text| state::write_private(file, &text));
}

/// Reads `/api/v2/summary.json`. None: it is something else.
fn read(body: &[u8]) -> Option<Summary> {
    let page: Value = serde_json::from_slice(body).ok()?;
    let indicator = page["status"]["indicator"].as_str()?;
    let components = page["components"].as_array()?;
    page["page"].as_object()?;
    let named = |is: fn(&str) -> bool| {
        let of_name = components.iter().filter(|one| one["name"].as_str().is_some_and(|name| is(&name.to_lowercase())));
        of_name.map(|one| level(one["status"].as_str().unwrap_or_default())).max()
    };
    let incidents: Vec<&Value> = page["incidents"].as_array().map(|list| list.iter().collect()).unwrap_or_default();
    let logins = incidents.iter().filter(|incident| is_login_incident(incident)).map(|incident| impact(incident)).max();
    Some(Summary {
        // A page without the names we know is believed as a whole.
        api: named(|name| name.contains("api.anthropic.com") || name.contains("claude api") || name == "claude code")
            .unwrap_or_else(|| of_indicator(indicator)),
        login: named(|name| name == "claude.ai" || name.contains("platform.claude.com") || name.contains("console.anthropic.com"))
            .unwrap_or_default()
            .max(logins.unwrap_or_default()),
        incidents: incidents.iter().filter_map(|incident| Some(shown(incident["name"].as_str()?))).take(INCIDENTS).collect(),
    })
}

fn level(status: &str) -> Level {
    match status {
        "under_maintenance" => Level::Maintenance,
        "degraded_performance" => Level::Degraded,
        "partial_outage" => Level::Partial,
        "major_outage" => Level::Major,
        _ => Level::Operational,
    }
}

fn of_indicator(indicator: &str) -> Level {
    match indicator {
        "minor" => Level::Degraded,
        "major" => Level::Partial,
        "critical" => Level::Major,
        "maintenance" => Level::Maintenance,
        _ => Level::Operational,
    }
}

/// An incident by its name, where no component stands for logins.
fn is_login_incident(incident: &Value) -> bool {
    let name = incident["name"].as_str().unwrap_or_default().to_lowercase();
    ["login", "log in", "logging in", "sign in", "sign-in", "signing in", "authentication", "oauth"].iter().any(|word| name.contains(word))
}

fn impact(incident: &Value) -> Level {
    match incident["impact"].as_str().unwrap_or_default() {
        "minor" | "major" => Level::Partial,
        "critical" => Level::Major,
        _ => Level::Operational,
    }
}

/// Words of a page, for a screen.
fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(NAME_COLUMNS).collect()
}

#[cfg(test)]
mod tests;
