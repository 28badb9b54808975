//! Shows requests that have no answer yet: where each one is, for how long, and where it goes next. They are in no ledger.

use hotspare_config::Locations;
use hotspare_gateway::in_flight::{InFlightAnswer, WaitingRequest};

use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{Look, Style};
use crate::{gateways, state, words};

/// A request that waits for longer than this is shown before the last one that ended. A model that thinks takes seconds to its first word.
const SHOWN_FROM_MS: u64 = 3000;

/// Requests that wait at the gateways of this user.
pub(super) fn find(locations: &Locations) -> Result<Vec<WaitingRequest>, CliError> {
    let instances = state::instances(&locations.state_dir);
    if instances.is_empty() {
        return Ok(Vec::new());
    }
    let answers = commands::runtime()?.block_on(gateways::get::<InFlightAnswer>(&instances, "/hotspare/in_flight"));
    Ok(answers.into_iter().flatten().flat_map(|answer| answer.waiting).collect())
}

/// Those that hang.
pub(super) fn hanging(waiting: Vec<WaitingRequest>) -> Vec<WaitingRequest> {
    waiting.into_iter().filter(|request| request.waits_ms >= SHOWN_FROM_MS).collect()
}

/// The one with this id, or its first or last digits.
pub(super) fn by_id(waiting: Vec<WaitingRequest>, id: &str) -> Option<WaitingRequest> {
    waiting.into_iter().find(|request| request.id.starts_with(id) || request.id.ends_with(id))
}

/// Draws one.
pub(super) fn draw(request: &WaitingRequest, look: Look) -> String {
    let time = |ms: u64| words::time(ms.saturating_mul(1000));
    let (sign, dot) = (look.sign("…", "..."), look.sign(" · ", ", "));
    let place = match (&request.profile, request.sent_ago_ms) {
        (Some(profile), Some(sent)) => format!("{profile} has had it for {}", time(sent)),
        _ => "it waits until a profile can be tried".to_owned(),
    };
    let next = match (request.goes_on_in_ms, &request.next) {
        (Some(ms), Some(next)) => format!("goes on to {next} in {} if nothing comes", time(ms)),
        (Some(ms), None) if request.profile.is_some() => format!("gives up in {} if nothing comes: no further profile is left", time(ms)),
        (Some(ms), None) => format!("looks again in {}", time(ms)),
        (None, _) => "no limit ends the wait".to_owned(),
    };
    let facts = [
        Some(format!("came {} ago", time(request.waits_ms))),
        request.model.clone(),
        request.session.clone().map(|id| format!("session {id}")),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    let fit = |text: &str| words::fit(text, look.width.map_or(usize::MAX, |width| width.saturating_sub(2)), look.unicode);
    let head = format!("{sign} Under way: {place}");
    let mut lines =
        vec![look.paint.paint(Style::Yellow, &fit(&head)), format!("  {}", fit(&format!("{}  {}", request.id, facts.join(dot))))];
    lines.extend(request.failed.iter().map(|failed| format!("  {}", fit(&format!("{} {failed}", look.sign("✖", "x"))))));
    lines.push(format!("  {}", fit(&format!("{} {next}", look.sign("→", "->")))));
    lines.join("\n")
}

/// One on one line of JSON.
pub(super) fn json(request: &WaitingRequest) -> Result<String, CliError> {
    serde_json::to_string(request).map_err(|error| CliError::new(Exit::Failed, format!("the request cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Paint;

    fn request() -> WaitingRequest {
        WaitingRequest {
            id: "hs_006b066a39da0001".to_owned(),
            session: Some("s1".to_owned()),
            model: Some("claude-opus-5-5".to_owned()),
            waits_ms: 12_400,
            profile: Some("work".to_owned()),
            sent_ago_ms: Some(12_400),
            goes_on_in_ms: Some(47_600),
            next: Some("backup".to_owned()),
            failed: vec!["third: 529 overloaded".to_owned()],
        }
    }

    fn plain(request: &WaitingRequest) -> String {
        draw(request, Look { paint: Paint(false), unicode: true, width: Some(80) })
    }

    #[test]
    fn waiting_request_names_place_time_and_next() {
        let text = plain(&request());
        assert_eq!(
            text,
            "… Under way: work has had it for 12.4 s\n  hs_006b066a39da0001  came 12.4 s ago · claude-opus-5-5 · session s1\n  \
             ✖ third: 529 overloaded\n  → goes on to backup in 47.6 s if nothing comes"
        );
        assert!(plain(&WaitingRequest { next: None, ..request() }).contains("gives up in 47.6 s if nothing comes"));
        let held = WaitingRequest { profile: None, sent_ago_ms: None, next: None, ..request() };
        assert!(plain(&held).contains("waits until a profile can be tried") && plain(&held).contains("looks again in 47.6 s"));
    }

    #[test]
    fn request_that_just_came_does_not_hang() {
        let young = WaitingRequest { waits_ms: 2_999, ..request() };
        assert_eq!(hanging(vec![young, request()]), [request()]);
        assert_eq!(by_id(vec![request()], "0001"), Some(request()));
        assert_eq!(by_id(vec![request()], "0002"), None);
    }
}
