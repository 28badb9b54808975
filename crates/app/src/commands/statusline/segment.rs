//! Decides what the segment says: one thing, the gravest, in at most forty columns, a word beside every colour. Never looks anything up.

use hotspare_gateway::Status;
use hotspare_gateway::status::{ProfileStatus, WindowReport};

use crate::output::{Look, Style};
use crate::words;

/// Most columns.
pub(super) const COLUMNS: usize = 40;

/// From this share on a usage window is told, also where the provider does not warn yet.
const NEARLY: f64 = 0.9;

/// A time of day is told for what is nearer than this; beyond, how long it takes.
const CLOCK_REACH: u64 = 18 * 3600;

/// Most columns of a failure: the profile's name has to fit beside it.
const REASON_COLUMNS: usize = 14;

/// Most columns of a window's name.
const WINDOW_COLUMNS: usize = 8;

/// Most columns of a model's name.
const MODEL_COLUMNS: usize = 10;

/// Most columns of the primary's name beside the spare's.
const PRIMARY_COLUMNS: usize = 12;

/// Fewest columns of a name; where even that is too much, the end is cut.
const FEWEST_NAME_COLUMNS: usize = 4;

/// What is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) text: String,
    style: Style,
}

impl Segment {
    fn new(style: Style, text: impl Into<String>) -> Self {
        Self { text: text.into(), style }
    }

    /// A name of any length within a frame of words.
    fn around(style: Style, before: &str, name: &str, after: &str, look: Look) -> Self {
        let taken = before.chars().count() + after.chars().count();
        let name = words::fit(name, COLUMNS.saturating_sub(taken).max(FEWEST_NAME_COLUMNS), look.unicode);
        Self::new(style, words::fit(&format!("{before}{name}{after}"), COLUMNS, look.unicode))
    }

    /// Nothing of ours runs where the client goes.
    pub(super) fn down(look: Look) -> Self {
        let (sign, dot) = (look.sign("✖", "x"), look.sign("·", "-"));
        Self::new(Style::Red, format!("{sign} hotspare down {dot} hotspare doctor"))
    }

    /// It runs, and does not answer in time.
    pub(super) fn silent(look: Look) -> Self {
        let (sign, dot) = (look.sign("✖", "x"), look.sign("·", "-"));
        Self::new(Style::Red, format!("{sign} hotspare silent {dot} hotspare doctor"))
    }

    /// The client goes to another address: it is not protected.
    pub(super) fn past(look: Look) -> Self {
        let (sign, dot) = (look.sign("✖", "x"), look.sign("·", "-"));
        Self::new(Style::Red, format!("{sign} hotspare bypassed {dot} hotspare doctor"))
    }

    pub(super) fn painted(&self, look: Look) -> String {
        look.paint.paint(self.style, &self.text)
    }
}

/// The segment for what a gateway says. `clock` gives the time of day in so many seconds.
pub(super) fn of(status: &Status, cost_today: Option<u64>, clock: &dyn Fn(u64) -> Option<String>, look: Look) -> Option<Segment> {
    let primary = status.profiles.first()?;
    let dot = look.sign("·", "-");
    let when = |seconds: u64| {
        let time = if seconds < CLOCK_REACH { clock(seconds) } else { None };
        time.unwrap_or_else(|| words::short_span(seconds))
    };
    if !status.enabled {
        return Some(Segment::new(Style::Yellow, format!("{} failover is off {dot} no spare is asked", look.sign("○", "o"))));
    }
    if let Some(seconds) = status.offline_for_s {
        return Some(Segment::new(Style::Red, format!("{} network down {dot} next {}", look.sign("✖", "x"), when(seconds))));
    }
    if status.profiles.iter().all(is_held) {
        let next = status.profiles.iter().filter_map(|profile| profile.back_in_s).min();
        let next = next.map(|seconds| format!(" {dot} next {}", when(seconds))).unwrap_or_default();
        return Some(Segment::new(Style::Red, format!("{} no profile{next}", look.sign("✖", "x"))));
    }
    if let Some(drill) = &status.drill {
        let before = format!("{} {}drill {}: ", look.sign("⚑", "!"), if drill.live { "live " } else { "" }, drill.fault);
        let Some(to) = &drill.to else { return Some(Segment::around(Style::Yellow, &before, &drill.profile, "", look)) };
        let from = words::fit(&drill.profile, PRIMARY_COLUMNS, look.unicode);
        return Some(Segment::around(Style::Yellow, &format!("{before}{from} {} ", look.sign("→", "->")), to, "", look));
    }
    let arrows = look.sign("⇄ ", "~ ");
    if let Some(switch) = status.switch.as_ref().filter(|switch| switch.profile == status.serving) {
        let time = switch.for_s.map(|seconds| format!(" until {}", when(seconds))).unwrap_or_default();
        return Some(Segment::around(Style::Yellow, arrows, &status.serving, &format!(" (switch{time})"), look));
    }
    if status.serving != primary.name || status.serving_model.is_some() {
        let cost = cost_today.map(|cost| format!(" {}", words::money(cost))).unwrap_or_default();
        let because = reason(primary).map(|reason| format!("{} {reason}", words::fit(&primary.name, PRIMARY_COLUMNS, look.unicode)));
        let because = because.map(|because| format!(" ({because})")).unwrap_or_default();
        let model = status.serving_model.as_deref().map(|model| format!(" as {}", model_name(model, look))).unwrap_or_default();
        return Some(Segment::around(Style::Yellow, arrows, &status.serving, &format!("{model}{because}{cost}"), look));
    }
    let shield = look.sign("⛨ ", "! ");
    let spare = if status.profiles[1..].iter().any(|profile| !is_held(profile)) { "spare ready" } else { "no spare" };
    let next = format!(" {} {spare}", look.sign("→", "->"));
    if is_held(primary) {
        let reason = reason(primary).unwrap_or_else(|| primary.state.clone());
        return Some(Segment::around(Style::Yellow, shield, &primary.name, &format!(" {reason}{next}"), look));
    }
    if let Some(window) = fullest(&primary.windows) {
        let until = |seconds: u64| look.sign("↻", if seconds < CLOCK_REACH { "until " } else { "for " });
        let resets = window.resets_in_s.map(|seconds| format!(" {}{}", until(seconds), when(seconds))).unwrap_or_default();
        let after = format!(
            " {} {}%{resets}{next}",
            words::fit(&window.name.replace('_', " "), WINDOW_COLUMNS, look.unicode),
            percent(window.used)
        );
        return Some(Segment::around(Style::Yellow, shield, &primary.name, &after, look));
    }
    let refused = status.config.as_ref().is_some_and(|config| config.error.is_some());
    refused.then(|| Segment::new(Style::Yellow, format!("{} config not used {dot} hotspare status", look.sign("⚠", "!"))))
}

/// A model's name without what is the same of many.
fn model_name(model: &str, look: Look) -> String {
    let name = model.rsplit('/').next().unwrap_or_default();
    words::fit(name.strip_prefix("claude-").unwrap_or(name), MODEL_COLUMNS, look.unicode)
}

fn is_held(profile: &ProfileStatus) -> bool {
    matches!(profile.state.as_str(), "cooling" | "open" | "blocked" | "offline" | "paused") && profile.family.is_none()
}

/// Why the primary does not serve: the status where there is one, else the failure's short name.
fn reason(primary: &ProfileStatus) -> Option<String> {
    if primary.state == "paused" {
        return Some("paused".to_owned());
    }
    let told = primary.last_failure.as_deref()?;
    let first = told.split(' ').next().unwrap_or_default();
    let is_status = first.len() == 3 && first.bytes().all(|byte| byte.is_ascii_digit());
    let words = if is_status { first.to_owned() } else { primary.because.as_ref().map_or(told.to_owned(), |word| word.replace('_', " ")) };
    Some(words::fit(&words, REASON_COLUMNS, true))
}

/// The window that is nearest to its end, when that is worth a word.
fn fullest(windows: &[WindowReport]) -> Option<&WindowReport> {
    let near = windows.iter().filter(|window| window.used >= NEARLY || window.status != "allowed");
    near.max_by(|left, right| left.used.total_cmp(&right.used))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn percent(used: f64) -> u64 {
    (used * 100.0).clamp(0.0, 999.0) as u64
}
