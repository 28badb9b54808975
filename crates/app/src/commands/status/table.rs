//! Draws the profiles of one gateway as a table that fits. Never leaves a profile or its state out: what does not fit is shortened.

use hotspare_gateway::Status;
use hotspare_gateway::status::{ProfileStatus, WindowReport};

use super::Today;
use crate::output::{Look, Style};
use crate::words;

/// Cells of a usage bar.
const BAR: usize = 10;

/// From this share on a window is worth a look.
const NEARLY: f64 = 0.8;

/// Fewest columns of a name.
const NAME_FLOOR: usize = 8;

const GAP: &str = "  ";

/// What stands in one place of the table.
struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: None }
    }

    fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style: Some(style) }
    }

    fn columns(&self) -> usize {
        self.text.chars().count()
    }
}

/// How much room there is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Wide,
    Narrow,
}

/// The table's lines, with an empty one before.
pub(super) fn drawn(status: &Status, today: Option<&[Today]>, look: Look) -> Vec<String> {
    let mut table = rows(status, today, Room::Wide, look);
    let too_wide = |table: &[Vec<Cell>]| look.width.map_or(0, |width| columns(table).saturating_sub(width));
    if too_wide(&table) > 0 {
        table = rows(status, today, Room::Narrow, look);
    }
    let excess = too_wide(&table);
    if excess > 0 {
        let name = width_of(&table, 1).saturating_sub(excess).max(NAME_FLOOR);
        for row in table.iter_mut().skip(1) {
            row[1].text = words::fit(&row[1].text, name, look.unicode);
        }
    }
    let widths: Vec<usize> = (0..table[0].len()).map(|place| width_of(&table, place)).collect();
    let lines = table.iter().map(|row| line(row, &widths, look));
    std::iter::once(String::new()).chain(lines).collect()
}

fn width_of(table: &[Vec<Cell>], place: usize) -> usize {
    table.iter().map(|row| row[place].columns()).max().unwrap_or_default()
}

fn columns(table: &[Vec<Cell>]) -> usize {
    let places = table[0].len();
    (0..places).map(|place| width_of(table, place)).sum::<usize>() + GAP.len() * places.saturating_sub(1)
}

fn line(row: &[Cell], widths: &[usize], look: Look) -> String {
    let mut text = String::new();
    for (place, (cell, width)) in row.iter().zip(widths).enumerate() {
        let fill = " ".repeat(width.saturating_sub(cell.columns()));
        let shown = cell.style.map_or_else(|| cell.text.clone(), |style| look.paint.paint(style, &cell.text));
        // Numbers stand at the right of their column.
        let cell = if place >= 4 { format!("{fill}{shown}") } else { format!("{shown}{fill}") };
        text.push_str(if place == 0 { "" } else { GAP });
        text.push_str(&cell);
    }
    text.trim_end().to_owned()
}

fn rows(status: &Status, today: Option<&[Today]>, room: Room, look: Look) -> Vec<Vec<Cell>> {
    let ttft = if room == Room::Wide { "TTFT p50 / p95" } else { "TTFT" };
    let errors = if room == Room::Wide { "ERR 5m" } else { "ERR" };
    let budgets = status.profiles.iter().any(|profile| profile.budget.is_some());
    let limits = if budgets && room == Room::Wide { "5h / 7d or BUDGET" } else { "5h / 7d" };
    let heading = ["  #", "PROFILE", "STATE", limits, ttft, errors, "TODAY"];
    let heading = heading.into_iter().map(|text| Cell::styled(text, Style::Dim)).collect();
    let rows = status.profiles.iter().enumerate().map(|(place, profile)| {
        let serves = profile.name == status.serving;
        let mark = if serves { look.sign("▶", ">") } else { " " };
        let name = words::fit(&profile.name, usize::MAX, look.unicode);
        vec![
            Cell::plain(format!("{mark} {}", place + 1)),
            if serves { Cell::styled(name, Style::Bold) } else { Cell::plain(name) },
            state(profile, look),
            limits_of(profile, room, look),
            first_content(profile, room, look),
            failed(profile, look),
            used_today(profile, today, room, look),
        ]
    });
    std::iter::once(heading).chain(rows).collect()
}

fn state(profile: &ProfileStatus, look: Look) -> Cell {
    let back = profile.back_in_s.map(|seconds| format!(" {}", words::short_span(seconds))).unwrap_or_default();
    let family = profile.family.as_ref().map(|family| format!(" {family}")).unwrap_or_default();
    let (sign, style) = match profile.state.as_str() {
        "serving" => (look.sign("●", "*"), Style::Green),
        "cooling" => (look.sign("◐", "~"), Style::Yellow),
        "open" | "blocked" => (look.sign("✖", "x"), Style::Red),
        "half_open" => (look.sign("◑", "~"), Style::Yellow),
        "offline" | "no_credential" => (look.sign("✖", "x"), Style::Red),
        "spent" => (look.sign("✖", "x"), Style::Yellow),
        _ => (look.sign("○", "o"), Style::Dim),
    };
    let word = if profile.state == "no_credential" { "key missing".to_owned() } else { profile.state.replace('_', "-") };
    Cell::styled(format!("{sign} {word}{family}{back}"), style)
}

/// What it may take in money, or else what its answers told of its limits.
#[expect(clippy::cast_precision_loss, reason = "a share of a budget is shown in three shades")]
fn limits_of(profile: &ProfileStatus, room: Room, look: Look) -> Cell {
    let Some(budget) = &profile.budget else { return windows(&profile.windows, room, look) };
    let (spent, most) = (words::money(budget.spent_micro_usd), words::money(budget.per_day_micro_usd));
    let text = if room == Room::Wide { format!("{spent} of {most} a day") } else { format!("{spent}/{most}") };
    shaded(text, budget.spent_micro_usd as f64 / budget.per_day_micro_usd.max(1) as f64)
}

/// The account's two windows with a bar for the first, or the fullest of a key's limits.
fn windows(windows: &[WindowReport], room: Room, look: Look) -> Cell {
    let named = |name: &str| windows.iter().find(|window| window.name == name);
    let (five, seven) = (named("5h"), named("7d"));
    let fullest = |windows: &mut dyn Iterator<Item = &WindowReport>| windows.map(|window| window.used).fold(0.0, f64::max);
    if five.is_some() || seven.is_some() {
        let bar = five.filter(|_| room == Room::Wide).map(|window| format!(" {}", bar(window.used, look))).unwrap_or_default();
        let text = format!("{}{bar} / {}", percent(five, look), percent(seven, look));
        return shaded(text, fullest(&mut five.into_iter().chain(seven)));
    }
    let limit = windows.iter().max_by(|left, right| left.used.total_cmp(&right.used));
    let Some(limit) = limit else { return Cell::styled(look.sign("—", "-"), Style::Dim) };
    let name = limit.name.replace('_', " ");
    let bar = if room == Room::Wide { format!(" {}", bar(limit.used, look)) } else { String::new() };
    shaded(format!("{}{bar} {}", percent(Some(limit), look), words::fit(&name, 12, look.unicode)), limit.used)
}

fn shaded(text: String, used: f64) -> Cell {
    match used {
        used if used >= 1.0 => Cell::styled(text, Style::Red),
        used if used >= NEARLY => Cell::styled(text, Style::Yellow),
        _ => Cell::plain(text),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn percent(window: Option<&WindowReport>, look: Look) -> String {
    window.map_or_else(|| look.sign("—", "-").to_owned(), |window| format!("{}%", (window.used * 100.0).clamp(0.0, 999.0) as u64))
}

/// `▕██████░░░░▏`
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "at most ten cells")]
fn bar(used: f64, look: Look) -> String {
    let full = (used.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let cells = look.sign("█", "#").repeat(full) + &look.sign("░", ".").repeat(BAR - full);
    format!("{}{cells}{}", look.sign("▕", "["), look.sign("▏", "]"))
}

fn first_content(profile: &ProfileStatus, room: Room, look: Look) -> Cell {
    let time = |ms: u64| words::time(ms.saturating_mul(1000));
    match (profile.ttft_p50_ms, profile.ttft_p95_ms) {
        (Some(p50), Some(p95)) if room == Room::Wide => Cell::plain(format!("{} / {}", time(p50), time(p95))),
        (Some(p50), _) => Cell::plain(time(p50)),
        (None, _) => Cell::styled(look.sign("—", "-"), Style::Dim),
    }
}

fn failed(profile: &ProfileStatus, look: Look) -> Cell {
    let Some(share) = (profile.failed_5m * 100).checked_div(profile.attempts_5m) else {
        return Cell::styled(look.sign("—", "-"), Style::Dim);
    };
    let text = format!("{share}%");
    if profile.failed_5m > 0 { Cell::styled(text, Style::Yellow) } else { Cell::plain(text) }
}

fn used_today(profile: &ProfileStatus, today: Option<&[Today]>, room: Room, look: Look) -> Cell {
    let Some(today) = today.and_then(|today| today.iter().find(|one| one.profile == profile.name)) else {
        return Cell::styled(look.sign("—", "-"), Style::Dim);
    };
    let tokens = if room == Room::Wide { format!("{} tok", words::count(today.tokens)) } else { words::count(today.tokens) };
    Cell::plain(match today.est_cost_micro_usd {
        Some(cost) if room == Room::Wide => format!("{tokens} {}", words::money(cost)),
        Some(cost) => words::money(cost),
        None if profile.on_plan && room == Room::Wide => format!("{tokens} plan"),
        None if profile.on_plan => "plan".to_owned(),
        None => tokens,
    })
}
