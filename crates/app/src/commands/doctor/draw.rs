//! Draws what was found: what is well on one line each, what is not with its cause, what to type and where to read on. Never judges.

use std::path::Path;

use super::DoctorReport;
use super::check::{Check, Mark};
use super::features::Led;
use crate::output::{Look, Style};
use crate::words;

/// Columns of a check's name.
const NAME: usize = 11;

/// Columns before what was found.
const INDENT: usize = 2 + 2 + NAME + 1;

/// Columns of the words before a cause, a command, a place.
const LABEL: usize = 5;

/// `all` has each thing that is well on a line of its own; else their names share one.
pub(super) fn drawn(report: &DoctorReport, all: bool, home: &Path, look: Look) -> String {
    let mut lines = sum(report, look);
    if !all {
        lines.extend(well(report, look));
    }
    let mut last = "";
    for check in report.checks.iter().filter(|check| all || is_told(check)) {
        lines.extend(check_lines(check, if check.name == last { "" } else { &check.name }, home, look));
        last = &check.name;
    }
    lines.push(String::new());
    lines.extend(features(report, look));
    lines.join("\n")
}

/// Whether there is more to say of it than that it is well.
fn is_told(check: &Check) -> bool {
    check.mark != Mark::Ok || !check.fixed.is_empty()
}

/// The names of what is well and only that.
fn well(report: &DoctorReport, look: Look) -> Vec<String> {
    let mut names: Vec<&str> = report.checks.iter().filter(|check| !is_told(check)).map(|check| check.name.as_str()).collect();
    names.retain(|name| !report.checks.iter().any(|check| check.name == *name && is_told(check)));
    names.dedup();
    if names.is_empty() {
        return Vec::new();
    }
    let mut lines = text(INDENT, &names.join(", "), look);
    if let Some(first) = lines.first_mut() {
        let sign = look.paint.paint(Style::Green, look.sign("✔", "+"));
        *first = format!("  {sign} {} {}", words::padded("well", NAME), first.trim_start());
    }
    lines
}

fn check_lines(check: &Check, name: &str, home: &Path, look: Look) -> Vec<String> {
    let (sign, style) = match check.mark {
        Mark::Ok => (look.sign("✔", "+"), Style::Green),
        Mark::Note => (look.sign("○", "o"), Style::Dim),
        Mark::Warn => (look.sign("⚠", "!"), Style::Yellow),
        Mark::Fail => (look.sign("✖", "x"), Style::Red),
    };
    let mut found = text(INDENT, &shortened(&check.found, home), look).into_iter();
    let first = found.next().unwrap_or_default();
    let head = format!("  {} {} {}", look.paint.paint(style, sign), words::padded(name, NAME), first.trim_start());
    let mut lines: Vec<String> = std::iter::once(head).chain(found).collect();
    let is_well = matches!(check.mark, Mark::Ok | Mark::Note);
    let told = [
        ("why", check.cause.clone(), None),
        ("do", check.command.clone(), Some(Style::Cyan)),
        ("read", (!is_well).then(|| format!("hotspare explain {}", check.name)), Some(Style::Dim)),
    ];
    for (label, words, style) in told {
        lines.extend(words.into_iter().flat_map(|words| labelled(label, &shortened(&words, home), style, look)));
    }
    lines.extend(check.fixed.iter().flat_map(|fixed| labelled("done", &shortened(fixed, home), None, look)));
    lines
}

fn labelled(label: &str, words: &str, style: Option<Style>, look: Look) -> Vec<String> {
    let lines = text(INDENT + LABEL, words, look).into_iter().enumerate();
    lines
        .map(|(number, line)| {
            let head = if number == 0 { label } else { "" };
            let line = style.map_or_else(|| line.trim_start().to_owned(), |style| look.paint.paint(style, line.trim_start()));
            format!("{}{}{line}", " ".repeat(INDENT), look.paint.paint(Style::Dim, &words::padded(head, LABEL)))
        })
        .collect()
}

/// What the way through hotspare changes, in two lines: the details are in the docs.
fn features(report: &DoctorReport, look: Look) -> Vec<String> {
    let names = |on: bool| {
        report.features.iter().filter(|feature| feature.on == on).map(|feature| feature.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let title = match report.led {
        Led::Base => "Claude Code through hotspare, by its base URL",
        Led::Full => "Claude Code through hotspare, in full mode",
    };
    let mut lines = vec![look.paint.paint(Style::Bold, title)];
    for (label, on) in [("on", true), ("off", false)] {
        let names = names(on);
        if !names.is_empty() {
            let wrapped = text(2 + LABEL, &names, look).into_iter().enumerate();
            lines
                .extend(wrapped.map(|(number, line)| {
                    format!("  {}{}", words::padded(if number == 0 { label } else { "" }, LABEL), line.trim_start())
                }));
        }
    }
    if report.features.iter().all(|feature| feature.on) {
        return lines;
    }
    let more = "what brings some back: hotspare explain features";
    lines.extend(text(2, more, look).into_iter().map(|line| look.paint.paint(Style::Dim, &line)));
    lines
}

fn sum(report: &DoctorReport, look: Look) -> Vec<String> {
    let fixed: usize = report.checks.iter().map(|check| check.fixed.len()).sum();
    let done = if fixed == 0 { String::new() } else { format!(" {} mended.", words::several(fixed as u64, "file was", "files were")) };
    let (style, sentence) = match (report.failed, report.warned) {
        (0, 0) => (Style::Green, "All is well.".to_owned()),
        (0, warned) => (Style::Yellow, format!("It works; {} worth a look.", words::several(warned as u64, "thing is", "things are"))),
        (failed, 0) => (Style::Red, format!("{} to be mended.", words::several(failed as u64, "thing has", "things have"))),
        (failed, warned) => {
            (Style::Red, format!("{} to be mended, {warned} worth a look.", words::several(failed as u64, "thing has", "things have")))
        }
    };
    text(0, &format!("{sentence}{done}"), look).into_iter().map(|line| look.paint.paint(style, &line)).collect()
}

/// Paths below home with `~`.
fn shortened(text: &str, home: &Path) -> String {
    let home = home.to_str().filter(|home| home.len() > 1).unwrap_or("\0");
    text.replace(&format!("{home}/"), "~/")
}

/// Words behind so many columns, on as many lines as they need.
fn text(indent: usize, text: &str, look: Look) -> Vec<String> {
    let text = words::fit(text, usize::MAX, look.unicode);
    let lines = look.width.map_or_else(|| vec![text.clone()], |width| words::wrapped(&text, width.saturating_sub(indent).max(20)));
    lines.into_iter().map(|line| format!("{}{line}", " ".repeat(indent))).collect()
}

#[cfg(test)]
mod tests;
