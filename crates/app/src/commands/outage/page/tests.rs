//! Holds how a status page is read, believed and remembered. Never asks one.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn page(indicator: &str, components: &[(&str, &str)], incidents: &[(&str, &str)]) -> Vec<u8> {
    let components: Vec<Value> = components.iter().map(|(name, status)| json!({ "name": name, "status": status })).collect();
    let incidents: Vec<Value> =
        incidents.iter().map(|(name, impact)| json!({ "name": name, "impact": impact, "status": "investigating" })).collect();
    let page = json!({
        "page": { "id": "made-up", "name": "Claude", "url": "https://status.example" },
        "status": { "indicator": indicator, "description": "" }, "components": components, "incidents": incidents
    });
    page.to_string().into_bytes()
}

const API: &str = "Claude API (api.anthropic.com)";

#[track_caller]
fn says(body: &[u8], api: Level, login: Level) {
    let summary = read(body).expect("a page");
    assert_eq!((summary.api, summary.login), (api, login));
}

#[test]
fn components_are_told_apart_by_their_names() {
    let well = [("claude.ai", "operational"), (API, "operational"), ("Claude Code", "operational")];
    says(&page("none", &well, &[]), Level::Operational, Level::Operational);
    let login = [("claude.ai", "major_outage"), (API, "operational"), ("Claude Code", "operational")];
    says(&page("major", &login, &[]), Level::Operational, Level::Major);
    let api = [("claude.ai", "operational"), (API, "partial_outage"), ("Claude Code", "degraded_performance")];
    says(&page("minor", &api, &[]), Level::Partial, Level::Operational);
    let code = [("claude.ai", "operational"), (API, "operational"), ("Claude Code", "major_outage")];
    says(&page("major", &code, &[]), Level::Major, Level::Operational);
    let night = [(API, "under_maintenance")];
    says(&page("maintenance", &night, &[]), Level::Maintenance, Level::Operational);
}

#[test]
fn an_incident_about_logins_counts_without_a_component() {
    let well = [(API, "operational")];
    says(&page("minor", &well, &[("Elevated errors on login", "minor")]), Level::Operational, Level::Partial);
    says(&page("major", &well, &[("Users cannot sign in to Claude Code", "critical")]), Level::Operational, Level::Major);
    says(&page("minor", &well, &[("Delayed invoices", "minor")]), Level::Operational, Level::Operational);
}

#[test]
fn a_page_with_other_names_is_believed_as_a_whole() {
    for (indicator, level) in [
        ("none", Level::Operational),
        ("minor", Level::Degraded),
        ("major", Level::Partial),
        ("critical", Level::Major),
        ("new", Level::Operational),
    ] {
        says(&page(indicator, &[("Inference", "operational")], &[]), level, Level::Operational);
    }
}

#[test]
fn anything_else_is_no_page() {
    for body in ["", "<html>", "{}", "[]", r#"{"status":"ok"}"#, r#"{"page":{},"status":{"indicator":"none"}}"#] {
        assert_eq!(read(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn it_is_remembered_for_a_minute_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(FILE);
    let summary = Summary { api: Level::Major, ..Summary::default() };
    remember(&file, "https://a.example", 1_000_000, &summary);
    assert_eq!(std::fs::metadata(&file).expect("made").permissions().mode() & 0o777, 0o600);
    assert_eq!(kept(&file, "https://a.example", 1_060_000), Some((summary, FRESH)));
    assert_eq!(kept(&file, "https://a.example", 1_060_001), None, "too old");
    assert_eq!(kept(&file, "https://a.example", 999_999), None, "from the future");
    assert_eq!(kept(&file, "https://b.example", 1_000_001), None, "another page");
    std::fs::write(&file, "{").expect("damaged");
    assert_eq!(kept(&file, "https://a.example", 1_000_001), None);
}

#[test]
fn only_tls_or_this_machine_is_asked() {
    for (url, port) in [("https://status.example/x?y", 443), ("http://127.0.0.1:81/", 81), ("http://[::1]:82/", 82)] {
        assert_eq!(address(Some(url)).map(|page| page.address.port).ok(), Some(port), "{url}");
    }
    for url in ["http://status.example/", "ftp://127.0.0.1/", "status", ""] {
        assert!(address(Some(url)).is_err(), "{url}");
    }
}

proptest! {
    #[test]
    fn no_page_breaks_the_reader(body in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&body);
    }

    #[test]
    fn names_stay_on_the_screen(name in "(?s).{0,300}") {
        let body = page("minor", &[], &[(&name, "minor")]);
        let incidents = read(&body).expect("a page").incidents;
        prop_assert!(incidents.iter().all(|name| name.chars().count() <= NAME_COLUMNS && !name.chars().any(char::is_control)));
    }
}
