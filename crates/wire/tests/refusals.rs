//! Classifies collected refusals: the project's own rows, and the shared collection where it lies beside the workspace.
//!
//! `CONTRIBUTING.md` says how to add a row.
#![expect(clippy::print_stderr, reason = "a notice for people")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hotspare_core::{Endpoint, Failure, FailureKind, NextStep, Stage, Triggers};
use hotspare_wire::failure::{of_error_event, of_no_answer, of_response, under_good_status};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

/// 2026-11-30 21:00:00 UTC: when the shared collection was made.
const NOW: u64 = 1_796_072_400;

/// One refusal of a collection, and what is right for it.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    id: String,
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: String,
    /// Whether it came as an event inside a good answer.
    #[serde(default)]
    stream: bool,
    class: String,
    #[serde(default)]
    next_for_user: String,
    #[serde(default)]
    client_recovers: bool,
    #[serde(default)]
    source: String,
    /// The wait in seconds that it tells, where a row of the project's own holds it.
    #[serde(default)]
    wait: Option<u64>,
}

fn rows(path: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(path).expect("the collection can be read");
    let row = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error} in {line}", path.display()));
    text.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

/// The shared collection; `None`, with a notice, where it is not there. `HOTSPARE_SHARED` names its folder, else it lies beside the workspace.
fn shared() -> Option<Vec<Row>> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = std::env::var_os("HOTSPARE_SHARED").map_or_else(beside, PathBuf::from).join("fixtures/refusals/open.jsonl");
    if !path.exists() {
        eprintln!("skipped: there is no ../shared/fixtures/refusals/open.jsonl beside the workspace");
        return None;
    }
    Some(rows(&path))
}

fn own() -> Vec<Row> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refusals");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().flat_map(|path| rows(path)).collect()
}

/// The failure that the row is; `None` if it is taken for an answer.
fn failure(row: &Row) -> Option<Failure> {
    let name = |name: &str| name.parse::<HeaderName>().expect("a header's name");
    let value = |value: &str| HeaderValue::from_str(value).expect("a header's value");
    let headers: HeaderMap = row.headers.iter().map(|(key, text)| (name(key), value(text))).collect();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let body = row.body.as_bytes();
    if row.stream {
        let data: String = row.body.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        return Some(if data.is_empty() {
            of_no_answer(Endpoint::Messages, &headers, body, now)
        } else {
            of_error_event(data.as_bytes(), Stage::Held, now)
        });
    }
    if (200..300).contains(&row.status) {
        let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok();
        return match under_good_status(Endpoint::Messages, body, now) {
            None if !is_json => Some(of_no_answer(Endpoint::Messages, &headers, body, now)),
            failure => failure,
        };
    }
    Some(of_response(Endpoint::Messages, StatusCode::from_u16(row.status).expect("a status"), &headers, body, now))
}

/// Whether a kind is a right one for a class of the shared collection.
fn is_of_class(kind: FailureKind, row: &Row) -> bool {
    use FailureKind as Kind;
    match row.class.as_str() {
        "bad_gateway" | "timeout" | "waf_or_challenge" => kind == Kind::BadGateway,
        "billing" => kind == Kind::Billing,
        // A proxy's limit on one request's size benches nobody.
        "config_of_operator" => kind == Kind::Misconfigured || row.status == 413 && kind == Kind::TooLarge,
        "content_policy" => kind == Kind::ContentPolicy,
        "context_too_long" => kind == Kind::TooLarge,
        "forbidden_account" | "forbidden_region_or_policy" => kind == Kind::Forbidden,
        "model_not_found" => kind == Kind::ModelNotFound,
        "not_llm_answer" => matches!(kind, Kind::BadGateway | Kind::WrongContent | Kind::Redirect),
        "overloaded" => kind == Kind::Overloaded,
        "provider_bound_request" => kind == Kind::ProviderBound,
        "quota_window" => kind == Kind::QuotaExhausted,
        "request_fault" => kind == Kind::BadRequest,
        "resource_not_found" => kind == Kind::ResourceNotFound,
        "server_error" => kind == Kind::ServerError,
        "spend_cap" => kind == Kind::SpendCap,
        "throttled" => matches!(kind, Kind::Throttled | Kind::BareRateLimit),
        "unauthorized" => kind == Kind::Unauthorized,
        "refused" => kind == Kind::Refused,
        class => panic!("{}: `{class}` is no class", row.id),
    }
}

/// What follows from the primary: a refusal that triggers nothing is relayed.
fn step(failure: &Failure, from_primary: bool) -> NextStep {
    if Triggers::default().fire(failure, from_primary) { failure.next_step(from_primary) } else { NextStep::Relay }
}

fn goes_on(row: &Row) -> bool {
    row.next_for_user.starts_with("next profile") || row.next_for_user.starts_with("same profile")
}

/// Whether what follows is what the row asks for. A login that the client renews is passed on to the spare meanwhile.
fn has_right_step(failure: Option<&Failure>, row: &Row) -> bool {
    let Some(failure) = failure else { return !goes_on(row) };
    let relayed = step(failure, true) == NextStep::Relay;
    let renewed = failure.kind == FailureKind::Unauthorized && failure.client_mends && row.client_recovers;
    relayed != goes_on(row) || renewed
}

/// Lines for people: each class with the kinds that its rows became, and each row that is wrong.
fn confusion(rows: &[Row]) -> (String, usize) {
    let mut table: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut wrong, mut lines) = (0, String::new());
    for row in rows {
        let failure = failure(row);
        let word = failure.as_ref().map_or("an answer", |failure| failure.kind.word());
        *table.entry((row.class.as_str(), word)).or_default() += 1;
        let right_class = match &failure {
            Some(failure) => is_of_class(failure.kind, row),
            // `stop_reason: refusal` is an answer that is relayed.
            None => row.class == "content_policy",
        };
        let right_mends = failure.as_ref().is_none_or(|failure| failure.client_mends == row.client_recovers);
        let right_step = has_right_step(failure.as_ref(), row);
        if !(right_class && right_step) {
            wrong += 1;
        }
        if !(right_class && right_step && right_mends) {
            let what = format!("class {right_class}, step {right_step}, mends {right_mends}");
            let _ = writeln!(lines, "{} {} is {word}, for {} ({what}): {:.160}", row.id, row.status, row.class, row.body);
        }
    }
    for ((class, word), count) in table {
        let _ = writeln!(lines, "{count:>4} {class} -> {word}");
    }
    (lines, wrong)
}

#[test]
fn shared_refusals_have_the_right_class_and_next_step() {
    let Some(rows) = shared() else { return };
    let (lines, wrong) = confusion(&rows);
    println!("{wrong} of {} wrong\n{lines}", rows.len());
    assert!(wrong * 50 <= rows.len(), "{wrong} of {} wrong\n{lines}", rows.len());
}

#[test]
fn no_shared_refusal_ends_a_turn_that_a_spare_can_serve() {
    let Some(rows) = shared() else { return };
    for row in &rows {
        let Some(failure) = failure(row) else { continue };
        assert!(!goes_on(row) || has_right_step(Some(&failure), row), "{}: {:?} is relayed", row.id, failure.kind);
        assert_ne!(step(&failure, false), NextStep::Relay, "{}: {:?} of a spare", row.id, failure.kind);
    }
}

/// A row with every letter and digit of its wordings replaced, the same from run to run.
fn with_unknown_words(row: &Row) -> Row {
    /// Fields whose strings are words, not names.
    const WORDS: [&str; 9] = ["message", "msg", "detail", "error", "title", "status_msg", "raw", "remedy_hint", "Message"];
    struct Dice(u64);
    impl Dice {
        fn letter(&mut self) -> char {
            // A linear congruential generator (Knuth's MMIX numbers): it is only to be the same each time.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + u8::try_from((self.0 >> 33) % 26).expect("below 26"))
        }
        fn words(&mut self, text: &str) -> String {
            text.chars().map(|letter| if letter.is_whitespace() { ' ' } else { self.letter() }).collect()
        }
        fn value(&mut self, field: &str, value: &mut serde_json::Value) {
            match value {
                serde_json::Value::String(text) if WORDS.contains(&field) => *text = self.words(text),
                serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.value(field, item)),
                serde_json::Value::Object(fields) => fields.iter_mut().for_each(|(field, value)| self.value(field, value)),
                _ => {}
            }
        }
    }
    let mut dice = Dice(row.id.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))));
    let mut blind = row.clone();
    let (before, json) = match row.body.find("data:") {
        Some(place) if row.stream => row.body.split_at(place + "data:".len()),
        _ => ("", row.body.as_str()),
    };
    if let Ok(mut value) = serde_json::from_str::<serde_json::Value>(json) {
        dice.value("message", &mut value);
        blind.body = format!("{before}{value}");
    } else if !row.body.trim_start().starts_with('<') {
        blind.body = dice.words(&row.body);
    }
    blind
}

#[test]
fn unknown_words_leave_the_turn_to_a_spare() {
    let Some(rows) = shared() else { return };
    let due: Vec<&Row> = rows.iter().filter(|row| goes_on(row)).collect();
    let lost: Vec<String> = due
        .iter()
        .filter_map(|row| {
            let failure = failure(&with_unknown_words(row));
            let word = failure.as_ref().map_or("an answer", |failure| failure.kind.word());
            let survives = failure.as_ref().is_some_and(|failure| step(failure, true) != NextStep::Relay);
            if let Some(failure) = &failure {
                assert_ne!(step(failure, false), NextStep::Relay, "{}: {word} of a spare", row.id);
            }
            (!survives).then(|| format!("{}: {word}", row.id))
        })
        .collect();
    println!("{} of {} survive unknown words; lost: {lost:#?}", due.len() - lost.len(), due.len());
    assert!(lost.len() * 10 <= due.len(), "{} of {} are lost: {lost:#?}", lost.len(), due.len());
}

#[test]
fn own_refusals_are_read_right() {
    let rows = own();
    let (lines, wrong) = confusion(&rows);
    assert_eq!(wrong, 0, "of {}\n{lines}", rows.len());
    for row in &rows {
        assert!(!row.source.is_empty(), "{}: its source", row.id);
        let Some(failure) = failure(row) else { continue };
        assert_eq!(failure.client_mends, row.client_recovers, "{}: whether the client mends it", row.id);
        assert_ne!(step(&failure, false), NextStep::Relay, "{}: {:?} of a spare", row.id, failure.kind);
        if let Some(wait) = row.wait {
            assert_eq!(failure.retry_after.map(|wait| wait.as_secs()), Some(wait), "{}: its wait", row.id);
        }
    }
}
