//! Writes the answers that are our own, in Anthropic's error shape. Never puts a secret, a prompt or an upstream's free text into one.

use bytes::Bytes;
use hotspare_core::attempt::AttemptRecord;
use hotspare_core::exchange::TOO_LONG_STATUS;
use hotspare_core::route::{Plan, SkipReason};
use hotspare_core::spend::{Period, Reached};
use hotspare_core::{Failure, LocalAnswer, Misfit};
use hotspare_wire::failure;
use http::{HeaderValue, Response, StatusCode, header};

use crate::body::ClientBody;
use crate::guard::Refusal;
use crate::snapshot::Snapshot;

/// `512 B`, `300 KiB`, `32 MiB`: whole units, as `server.max_body` is written.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("MiB", 1024 * 1024), ("KiB", 1024)];
    let whole = units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{} {name}", bytes / unit))
}

/// An error body in Anthropic's shape.
pub fn error_json(kind: &str, message: &str) -> String {
    serde_json::json!({"type": "error", "error": {"type": kind, "message": message}}).to_string()
}

/// A whole error answer of our own.
pub fn error(status: StatusCode, kind: &str, message: &str) -> Response<ClientBody> {
    json(status, error_json(kind, message))
}

/// A whole JSON answer of our own.
pub fn json(status: StatusCode, body: String) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Text of our own that is no JSON.
pub fn text(content_type: &'static str, body: String) -> Response<ClientBody> {
    let mut response = json(StatusCode::OK, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The bytes written for a head that never reached the HTTP library. The connection closes after it.
pub fn raw_refusal(refusal: &Refusal) -> Vec<u8> {
    raw_error(refusal.status, "", "invalid_request_error", refusal.reason)
}

/// An error answer as bytes, for a connection that the HTTP library never gets. `fields` are whole lines; the connection closes after it.
pub(crate) fn raw_error(status: u16, fields: &str, kind: &str, message: &str) -> Vec<u8> {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Refused");
    let body = error_json(kind, message);
    format!(
        "HTTP/1.1 {status} {reason}\r\n{fields}content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The answer to a request that no profile could serve.
pub fn exhausted(shape: LocalAnswer, snapshot: &Snapshot, plan: &Plan, attempts: &[AttemptRecord]) -> Response<ClientBody> {
    let status = StatusCode::from_u16(shape.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let body = match too_long(shape, plan) {
        Some(words) => error_json(shape.error_type, &words),
        None if shape.status == TOO_LONG_STATUS => failure::shortening_body("no profile can take this request"),
        None => error_json(shape.error_type, &sentence(shape, snapshot, plan, attempts)),
    };
    let mut response = json(status, body);
    if let Some(seconds) = shape.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The words on which Claude Code makes its conversation shorter: those of Anthropic's API. The largest window is the one to fit into.
fn too_long(shape: LocalAnswer, plan: &Plan) -> Option<String> {
    let misfits = plan.skipped.iter().filter_map(|skipped| match skipped.reason {
        SkipReason::Misfit(Misfit::TooLong { tokens, most }) => Some((most, tokens)),
        _ => None,
    });
    let (most, tokens) = misfits.max().filter(|_| shape.status == TOO_LONG_STATUS)?;
    Some(format!("prompt is too long: {tokens} tokens > {most} maximum"))
}

/// Where no attempt could even be begun, since this process or this machine is out of descriptors: that, and nobody's name.
fn own_want(attempts: &[AttemptRecord]) -> Option<&Failure> {
    let failures = || attempts.iter().filter_map(|attempt| attempt.failure.as_ref());
    failures().next().filter(|_| failures().all(Failure::is_our_own))
}

/// `All 2 profiles failed: work 529 overloaded, spare connection refused. Next try in 12 s. Run: hotspare why last`
fn sentence(shape: LocalAnswer, snapshot: &Snapshot, plan: &Plan, attempts: &[AttemptRecord]) -> String {
    let next = shape.retry_after.map_or(String::new(), |seconds| format!(" Next try in {seconds} s."));
    if let Some(want) = own_want(attempts) {
        return format!("No profile could be asked: {want}. None of them is to blame.{next} Run: hotspare why last");
    }
    let mut told = Vec::new();
    let mut lines = Vec::new();
    for attempt in attempts.iter().rev() {
        if let Some(failure) = &attempt.failure
            && !told.contains(&attempt.profile)
        {
            told.push(attempt.profile);
            lines.push(format!("{} {failure}", snapshot.name(attempt.profile)));
        }
    }
    lines.reverse();
    for skipped in plan.skipped.iter().filter(|skipped| !told.contains(&skipped.profile)) {
        lines.push(format!("{} {}", snapshot.name(skipped.profile), skip_words(&skipped.reason)));
    }
    let is_told = |profile| told.contains(&profile) || plan.skipped.iter().any(|skipped| skipped.profile == profile);
    let unasked = plan.candidates.iter().filter(|candidate| !is_told(candidate.profile)).count();
    let head = match (lines.len(), unasked) {
        (0, _) => "No profile can take this request".to_owned(),
        (1, 0) => "The only profile failed".to_owned(),
        (count, 0) => format!("All {count} profiles failed"),
        (count, unasked) => format!("{count} of {} profiles failed", count + unasked),
    };
    let list = if lines.is_empty() { String::new() } else { format!(": {}", lines.join(", ")) };
    format!("{head}{list}.{next} Run: hotspare why last")
}

/// `$10`, `$0.50`, `$0.000001`: a limit as its owner wrote it.
fn usd(micro: u64) -> String {
    let (whole, part) = (micro / 1_000_000, format!("{:06}", micro % 1_000_000));
    match part.trim_end_matches('0') {
        "" => format!("${whole}"),
        part => format!("${whole}.{part:0<2}"),
    }
}

pub(crate) fn skip_words(reason: &SkipReason) -> String {
    match reason {
        SkipReason::Cooling { because, .. } => format!("not asked, {} a moment ago", because.word().replace('_', " ")),
        SkipReason::Refused { because, .. } => format!("not tried, it refused this conversation ({})", because.word().replace('_', " ")),
        SkipReason::NoModel => "not asked, its model map rejects the model".to_owned(),
        SkipReason::UnknownModel => "not asked, its model map has no name for the model".to_owned(),
        SkipReason::NotServed => "not asked, it does not serve requests of this kind".to_owned(),
        SkipReason::NoClientCredential => "not asked, the client sent no login or key of its own".to_owned(),
        SkipReason::CredentialElsewhere(why) => format!("left out, {why}"),
        SkipReason::NoCredential(why) => format!("not asked, {why}"),
        SkipReason::Budget(Reached { period: Period::Day, limit, .. }) => format!("daily budget {} reached", usd(*limit)),
        SkipReason::Budget(Reached { period: Period::Session, limit, .. }) => format!("budget {} of this session reached", usd(*limit)),
        SkipReason::NoPrice => "not asked, no price is known for the model, so its budget could not be kept".to_owned(),
        SkipReason::Misfit(misfit) => format!("not asked, {misfit}"),
        SkipReason::Offline => "not asked, this machine's network is down".to_owned(),
        SkipReason::Paused => "paused (`hotspare profile resume`)".to_owned(),
        SkipReason::Vetoed => "not asked, a hook ruled it out".to_owned(),
    }
}
