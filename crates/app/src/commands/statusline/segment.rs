//! Decides what the segment says: one thing, the gravest, in at most forty columns, a word beside every colour. Never looks anything up.

use hotspare_gateway::Status;
use hotspare_gateway::status::{Chance, ProfileStatus, WaitStatus, WindowReport};

use crate::output::{Look, Style};
use crate::verdict::{Outlook, Verdict};
use crate::words;

/// Most columns where the client does not say how many there are.
pub(super) const COLUMNS: usize = 40;

/// Most columns of a wide terminal: the line is read at a glance.
const MAX_COLUMNS: usize = 100;

/// A request that has waited for fewer seconds is no news: a long turn thinks for a while.
const WAITING_FROM: u64 = 10;

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

/// Most columns of what is wrong with a spare.
const WHY_COLUMNS: usize = 18;

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
        let name = words::fit(name, columns(look).saturating_sub(taken).max(FEWEST_NAME_COLUMNS), look.unicode);
        Self::text(style, &format!("{before}{name}{after}"), look)
    }

    /// Text of any length, cut to the columns that there are.
    fn text(style: Style, text: &str, look: Look) -> Self {
        Self::new(style, words::fit(text, columns(look), look.unicode))
    }

    /// Nothing of ours runs where the client goes.
    pub(super) fn down(look: Look) -> Self {
        let (sign, dot) = (look.sign("✖", "x"), look.sign("·", "-"));
        Self::new(Style::Red, format!("{sign} hotspare down {dot} hotspare doctor"))
    }

    /// It runs, and has not answered within so many seconds.
    pub(super) fn late(seconds: u64, look: Look) -> Self {
        let (sign, dot) = (look.sign("⚠", "!"), look.sign("·", "-"));
        Self::new(Style::Yellow, format!("{sign} no answer in {seconds} s {dot} hotspare doctor"))
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
    let outlook = Outlook::of(status, true);
    let cross = look.sign("✖", "x");
    if let Some(seconds) = status.offline_for_s {
        return Some(Segment::new(Style::Red, format!("{cross} network down {dot} next {}", when(seconds))));
    }
    if outlook.is_total_failure() {
        let next = outlook.next.profiles.iter().filter_map(|prospect| prospect.back_in_s).min();
        let next = next.map(|seconds| format!(" {dot} next {}", when(seconds))).unwrap_or_default();
        let head = if outlook.verdict == Verdict::Failed { "every profile failed" } else { "no profile" };
        let faults = outlook.all_faults().map(|faults| format!(" {dot} {faults}")).unwrap_or_default();
        // Why is told where there is room for it.
        let whole = format!("{cross} {head}{next}{faults}");
        let short = if whole.chars().count() <= columns(look) { whole } else { format!("{cross} {head}{next}") };
        return Some(Segment::text(Style::Red, &short, look));
    }
    if !status.enabled {
        return Some(Segment::new(Style::Yellow, format!("{} failover is off {dot} no spare is asked", look.sign("○", "o"))));
    }
    if let Some(waiting) = status.waiting.iter().find(|waiting| waiting.for_s >= WAITING_FROM) {
        return Some(Segment::text(Style::Yellow, &waiting_text(waiting, look), look));
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
    let spare = if outlook.usable_spares().is_empty() { "no spare" } else { "spare ready" };
    let next = format!(" {} {spare}", look.sign("→", "->"));
    let prospect = outlook.prospect(&primary.name).filter(|prospect| prospect.verdict != Chance::Usable);
    if let Some(prospect) = prospect {
        let family = primary.family.as_ref().map(|family| format!(" {family}")).unwrap_or_default();
        let told = reason(primary).or_else(|| prospect.why.clone()).unwrap_or_else(|| primary.state.replace('_', " "));
        return Some(Segment::around(Style::Yellow, shield, &primary.name, &format!("{family} {told}{next}"), look));
    }
    if outlook.verdict == Verdict::Alone
        && let Some((name, why)) = outlook.faults().first()
    {
        let (circle, why) = (look.sign("○ no spare: ", "o no spare: "), words::fit(why, WHY_COLUMNS, look.unicode));
        return Some(Segment::around(Style::Yellow, circle, name, &format!(" {why}"), look));
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

/// Columns that there are.
fn columns(look: Look) -> usize {
    look.width.map_or(COLUMNS, |width| width.clamp(COLUMNS, MAX_COLUMNS))
}

/// Where a request waits, and what follows.
fn waiting_text(waiting: &WaitStatus, look: Look) -> String {
    let (sign, arrow) = (look.sign("⧗", "~"), look.sign("→", "->"));
    let at = waiting.profile.as_deref().unwrap_or("a cooldown");
    let (at, to) =
        (words::fit(at, PRIMARY_COLUMNS, look.unicode), waiting.to.as_deref().map(|to| words::fit(to, PRIMARY_COLUMNS, look.unicode)));
    let time = words::short_span(waiting.for_s);
    match (to, waiting.goes_on_in_s.map(words::short_span)) {
        (Some(to), Some(next)) => format!("{sign} {at} {time} {arrow} {to} in {next}"),
        (None, Some(next)) => format!("{sign} {at} {time}, ends in {next}"),
        _ => format!("{sign} {at} {time}"),
    }
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
