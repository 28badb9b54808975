//! Draws a verdict and what it rests on. Never decides it.

use hotspare_core::blame::{HostSeen, Level, Page, Party, Portal, Reach, Traffic};
use hotspare_core::failure::Grip;
use hotspare_core::{Failure, FailureKind, Stage};

use super::OutageReport;
use super::gather::HeldSpare;
use crate::output::{Look, Style};
use crate::words;

/// Columns of the words that begin a line.
const LABEL: usize = 8;

/// Columns before what stands behind them.
const INDENT: usize = 2 + LABEL;

pub(super) fn drawn(report: &OutageReport, look: Look) -> String {
    let (sign, word, style) = match report.party {
        Party::Nobody => (look.sign("●", "*"), "Nobody", Style::Green),
        Party::You => (look.sign("✖", "x"), "Your side", Style::Red),
        Party::Provider => (look.sign("✖", "x"), "The provider", Style::Red),
        Party::Account => (look.sign("✖", "x"), "Your account", Style::Yellow),
    };
    let who = format!("{sign} {word}{}:", if report.sure { "" } else { ", most likely" });
    let head = words::fit(&format!("{who} {}", report.verdict), usize::MAX, look.unicode);
    let mut lines = broken(&head, 2, look);
    if let Some(first) = lines.first_mut() {
        // Who it is stands at the beginning of the first line, which is wide enough for it.
        *first = first.strip_prefix(&who).map_or_else(|| first.clone(), |rest| format!("{}{rest}", look.paint.paint(style, &who)));
    }
    lines.push(String::new());
    let mut told: Vec<(&str, String)> = Vec::new();
    told.extend(report.advice.iter().map(|advice| ("do", advice.clone())));
    told.extend(report.held.iter().map(|spare| ("spare", held_words(spare))));
    told.extend(report.seen.hosts.iter().map(|host| ("host", host_words(host))));
    if report.seen.portal == Portal::Found {
        told.push(("network", "somebody else answers plain requests: a login page".to_owned()));
    }
    told.extend(report.seen.skew_s.map(|skew| ("clock", clock_words(skew))));
    told.extend(report.seen.traffic.iter().map(|traffic| ("traffic", traffic_words(traffic))));
    told.extend(page_words(report).map(|text| ("page", text)));
    let mut last = "";
    for (label, text) in told {
        lines.extend(labelled(if label == last { "" } else { label }, &text, look));
        last = label;
    }
    lines.join("\n")
}

/// Why a spare cannot stand in, when it is tried again, and the command that ends the block.
fn held_words(spare: &HeldSpare) -> String {
    let back = spare.back_in_s.map(|seconds| format!("; tried again {}", words::at_or_in(seconds))).unwrap_or_default();
    // A usage window is not reset by hand.
    let blocks = |because: FailureKind| {
        because != FailureKind::QuotaExhausted
            && Failure::new(because, Stage::Head, "").verdict().bench.is_some_and(|(_, grip)| grip >= Grip::Hard)
    };
    let reset = spare.because.filter(|because| blocks(*because)).map(|_| format!(", or after `hotspare reset {}`", spare.profile));
    format!("{} cannot stand in: {}{back}{}", spare.profile, spare.why, reset.filter(|_| !back.is_empty()).unwrap_or_default())
}

/// How far a probe came.
pub(super) fn reached(reach: Reach) -> &'static str {
    match reach {
        Reach::Answered => "reached",
        Reach::Dns => "its name is not known",
        Reach::Refused => "nobody listens there",
        Reach::Unreachable => "no route",
        Reach::ConnectTimeout => "no connection within 3 s",
        Reach::TlsFailed => "TLS breaks",
        Reach::BadCertificate => "its certificate is refused",
        Reach::NoAnswer => "connected, then silence",
    }
}

fn host_words(host: &HostSeen) -> String {
    let whose = if host.profiles.is_empty() { String::new() } else { format!(" ({})", host.profiles.join(", ")) };
    let found = reached(host.reach);
    let private = host.issuer.as_ref().filter(|_| host.public == Some(false));
    let issuer = private.map_or_else(String::new, |issuer| format!("; certificate by {issuer}, no public authority"));
    let status = host.status.filter(|status| *status >= 500).map_or_else(String::new, |status| format!(", it answers {status}"));
    format!("{}{whose}: {found}{status}{issuer}", host.host)
}

fn clock_words(skew: i64) -> String {
    let by = skew.unsigned_abs();
    if by < 5 { "right".to_owned() } else { format!("{} {}", words::span(by), if skew < 0 { "behind" } else { "ahead" }) }
}

fn traffic_words(traffic: &Traffic) -> String {
    let good = traffic.good_ago_s.map(|ago| format!("good {} ago", words::span(ago)));
    let failures = traffic.failures.iter().map(|failure| {
        format!("{} {} times, last {} ago", failure.class.word().replace('_', " "), failure.count, words::span(failure.ago_s))
    });
    let blocked = traffic.blocked.map(|because| format!("not asked now ({})", because.word().replace('_', " ")));
    let parts: Vec<String> = good.into_iter().chain(failures).chain(blocked).collect();
    let parts = if parts.is_empty() { "nothing in the last 15 min".to_owned() } else { parts.join("; ") };
    format!("{}: {parts}", traffic.profile)
}

fn page_words(report: &OutageReport) -> Option<String> {
    let host = report.page.url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let says = match report.seen.page.as_ref()? {
        Page::Unreachable | Page::Wrong => format!("nothing to be had ({})", report.page.trouble.as_deref().unwrap_or("no words")),
        Page::Says { api, login } => format!("API {}, logins {}", level(*api), level(*login)),
    };
    let age = report.page.age_s.filter(|age| *age > 0).map_or_else(String::new, |age| format!(", {} ago", words::span(age)));
    let incidents = report.page.incidents.iter().map(|incident| format!("; \"{incident}\"")).collect::<String>();
    Some(format!("{host}: {says}{age}{incidents}"))
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Operational => "well",
        Level::Maintenance => "under maintenance",
        Level::Degraded => "degraded",
        Level::Partial => "partly out",
        Level::Major => "out",
    }
}

fn labelled(label: &str, text: &str, look: Look) -> Vec<String> {
    let text = words::fit(text, usize::MAX, look.unicode);
    let mut lines = broken(&text, INDENT, look).into_iter();
    let first = lines.next().unwrap_or_default();
    let head = format!("  {}{first}", look.paint.paint(Style::Dim, &words::padded(label, LABEL)));
    std::iter::once(head).chain(lines.map(|line| format!("{}{line}", " ".repeat(INDENT)))).collect()
}

/// On as many lines as the width needs, `indent` columns being taken.
fn broken(text: &str, indent: usize, look: Look) -> Vec<String> {
    look.width.map_or_else(|| vec![text.to_owned()], |width| words::wrapped(text, width.saturating_sub(indent).max(20)))
}

#[cfg(test)]
mod tests;
