//! Draws what a drill has found, one line for each proof. Never decides whether it passed.

use super::{DrillReport, Proof};
use crate::output::{Look, Style};
use crate::words;

/// Columns of a proof's name.
const NAME: usize = 9;

/// Columns before a proof's words.
const INDENT: usize = 2 + 2 + NAME;

pub(super) fn drawn(report: &DrillReport, look: Look) -> String {
    let paint = |style, text: &str| look.paint.paint(style, text);
    let mut lines = vec![paint(Style::Bold, &format!("Drill {}: {} breaks ({})", report.fault, report.profile, report.fault.summary()))];
    let whose =
        if report.gateway == "drill" { "a gateway started for it".to_owned() } else { format!("{} at {}", report.gateway, report.address) };
    let cost = if report.live { "real requests, real spares" } else { "answers are played, no token is spent" };
    lines.extend(text(2, &format!("on {whose}; {cost}"), look).into_iter().map(|line| paint(Style::Dim, &line)));
    lines.push(String::new());
    lines.extend(report.proofs.iter().flat_map(|proof| proof_lines(proof, look)));
    if report.checked.is_empty() {
        lines.extend(report.skipped.iter().flat_map(|skipped| text(2, skipped, look)));
    }
    lines.push(String::new());
    lines.extend(verdict(report, look));
    lines.join("\n")
}

/// The whole drill on one line, where several run one after another.
pub(super) fn line(report: &DrillReport, look: Look) -> String {
    let (sign, style) = if report.passed { (look.sign("✔", "+"), Style::Green) } else { (look.sign("✖", "x"), Style::Red) };
    let own: Vec<&Proof> = report.proofs.iter().filter(|proof| !proof.unproved).collect();
    let held = own.iter().filter(|proof| proof.held).count();
    let who = report.served_by.as_deref().unwrap_or("nobody");
    let missing: Vec<&str> = report.proofs.iter().filter(|proof| !proof.held && !proof.unproved).map(|proof| proof.name.as_str()).collect();
    let last = report.proofs.iter().filter_map(|proof| proof.after_ms).max().unwrap_or_default().max(1);
    let missing = if missing.is_empty() { format!(" within {last} ms") } else { format!("; missing: {}", missing.join(", ")) };
    let fault = words::padded(report.fault.word(), NAME);
    let text = format!("{fault} {} → {who}; {held} of {} held{missing}", report.profile, own.len());
    let text = words::fit(&text, look.width.map_or(usize::MAX, |width| width.saturating_sub(2)), look.unicode);
    format!("{} {text}", look.paint.paint(style, sign))
}

/// What was found of the spares, behind the lines of several drills.
pub(super) fn checks(proofs: &[Proof], look: Look) -> String {
    proofs.iter().flat_map(|proof| proof_lines(proof, look)).collect::<Vec<_>>().join("\n")
}

fn proof_lines(proof: &Proof, look: Look) -> Vec<String> {
    let (sign, style) = match (proof.held, proof.unproved) {
        (true, _) => (look.sign("✔", "+"), Style::Green),
        (false, true) => (look.sign("–", "-"), Style::Yellow),
        (false, false) => (look.sign("✖", "x"), Style::Red),
    };
    let mut lines = text(INDENT, &proof.words, look);
    if let Some(first) = lines.first_mut() {
        let name = words::padded(&proof.name, NAME);
        *first = format!("  {} {}{}", look.paint.paint(style, sign), name, first.trim_start());
    }
    lines
}

fn verdict(report: &DrillReport, look: Look) -> Vec<String> {
    let held = report.proofs.iter().filter(|proof| proof.held).count();
    let count = report.proofs.iter().filter(|proof| !proof.unproved).count();
    let mut unproved: Vec<&str> = report.proofs.iter().filter(|proof| proof.unproved).map(|proof| proof.name.as_str()).collect();
    unproved.dedup();
    let unproved = unproved.join(", ");
    let (style, sentence) = match (report.passed, count) {
        (true, _) if report.live => (
            Style::Green,
            format!("Passed: {} met the fault and got its answer.", words::several(count as u64, "real request", "real requests")),
        ),
        (true, _) if !report.proved => {
            (Style::Yellow, format!("Failover works, {held} of {count} held; that a spare would answer is not proved ({unproved})."))
        }
        (true, _) if !unproved.is_empty() => {
            (Style::Yellow, format!("Passed: {held} of {count}{}. Not proved: {unproved}.", latest(report)))
        }
        (true, _) => (Style::Green, format!("Passed: {held} of {count}{}. For your own requests nothing has changed.", latest(report))),
        (false, 0) => (Style::Yellow, "No real request came while it lasted; nothing was touched.".to_owned()),
        (false, _) if report.spares.is_empty() => (
            Style::Red,
            format!(
                "Failed: nobody stands behind {}. Name a spare: hotspare config explain failover_policy.secondary_profile",
                report.profile
            ),
        ),
        (false, _) => (Style::Red, format!("Failed: {held} of {count} held. `hotspare doctor` looks at the set-up.")),
    };
    text(0, &sentence, look).into_iter().map(|line| look.paint.paint(style, &line)).collect()
}

/// When the last of it was seen.
fn latest(report: &DrillReport) -> String {
    let latest = report.proofs.iter().filter_map(|proof| proof.after_ms).max();
    latest.map_or_else(String::new, |ms| format!(", seen within {} ms", ms.max(1)))
}

/// Words behind so many columns, on as many lines as they need.
fn text(indent: usize, text: &str, look: Look) -> Vec<String> {
    let text = words::fit(text, usize::MAX, look.unicode);
    let lines = look.width.map_or_else(|| vec![text.clone()], |width| words::wrapped(&text, width.saturating_sub(indent).max(20)));
    lines.into_iter().map(|line| format!("{}{line}", " ".repeat(indent))).collect()
}

#[cfg(test)]
mod tests;
