//! Draws what `init` has to say. Never decides anything, and never shows a credential.

use std::path::Path;

use serde_json::Value;

use super::plan::{Candidate, Plan};
use crate::commands::profile::diff;
use crate::commands::profile::test::Verdict;
use crate::output::{Look, Style};
use crate::words;

/// Columns that an object may take to stand on one line, its key not counted.
const LINE: usize = 60;

/// What is there, with the number that the question uses.
pub(super) fn found(plan: &Plan, look: Look) -> String {
    let bold = |text: &str| look.paint.paint(Style::Bold, text);
    let mut lines = Vec::new();
    if !plan.candidates.is_empty() {
        lines.push(bold("Can answer Claude Code"));
    }
    let columns = plan.candidates.iter().map(|candidate| candidate.name.chars().count()).max().unwrap_or_default();
    let proposed = plan.proposed();
    for (place, candidate) in plan.candidates.iter().enumerate() {
        let rank = proposed.iter().position(|one| *one == place);
        let (sign, style) = match (rank, &candidate.problem) {
            (_, Some(_)) => (look.sign("✖", "x"), Style::Red),
            (Some(_), None) => (look.sign("●", "*"), Style::Green),
            (None, None) => (look.sign("○", "o"), Style::Dim),
        };
        let role = match (rank, &candidate.problem) {
            (_, Some(_)) => "not counted: ",
            (Some(0), None) => "first: ",
            (Some(_), None) => "spare: ",
            (None, None) => "only if you say so: ",
        };
        let name = words::padded(&candidate.name, columns);
        let head = format!("  {} {} {}  ", look.paint.paint(style, sign), place + 1, look.paint.paint(Style::Cyan, &name));
        let indent = " ".repeat(columns + 8);
        let end = ending(candidate);
        lines.extend(told(&head, &indent, &format!("{role}{}; {end}", candidate.what), look));
    }
    if !plan.unusable.is_empty() {
        lines.extend([String::new(), bold("Found, and not usable as it is")]);
    }
    for one in &plan.unusable {
        let head = format!("  {} ", look.paint.paint(Style::Dim, look.sign("·", "-")));
        lines.extend(told(&head, "    ", &format!("{}: {}", one.what, one.why), look));
    }
    if !plan.notes.is_empty() {
        lines.push(String::new());
    }
    for note in &plan.notes {
        let head = format!("  {} ", look.paint.paint(Style::Yellow, look.sign("⚠", "!")));
        lines.extend(told(&head, "    ", note, look));
    }
    lines.join("\n")
}

/// What it costs and whether its key is proved, or what is wrong with it.
fn ending(candidate: &Candidate) -> String {
    if let Some(problem) = &candidate.problem {
        return problem.clone();
    }
    let verdict = match &candidate.verdict {
        None => String::new(),
        Some(Verdict::Accepted) => "; its key is accepted".to_owned(),
        Some(Verdict::Unproved(why) | Verdict::Rejected(why)) => format!("; its key is not proved ({why})"),
    };
    format!("{}{verdict}", candidate.costs)
}

/// Text behind its head, broken where the terminal ends.
fn told(head: &str, indent: &str, text: &str, look: Look) -> Vec<String> {
    let text = words::fit(text, usize::MAX, look.unicode);
    let room = look.width.map(|width| width.saturating_sub(indent.chars().count()).max(24));
    let lines = room.map_or_else(|| vec![text.clone()], |room| words::wrapped(&text, room));
    let heads = std::iter::once(head.to_owned()).chain(std::iter::repeat(indent.to_owned()));
    heads.zip(lines).map(|(head, line)| format!("{head}{line}")).collect()
}

/// The one question; `chain` is `None` if there is nothing to propose.
pub(super) fn question(plan: &Plan, chain: Option<&[usize]>, look: Look) -> String {
    let Some(chain) = chain else {
        return "Which of them, in which order? Numbers such as `1 2`, or n: no\n>".to_owned();
    };
    let names: Vec<String> = chain.iter().map(|place| look.paint.paint(Style::Cyan, &plan.candidates[*place].name)).collect();
    let dot = look.sign(" · ", ", ");
    format!("Apply? chain: {}\nEnter: yes{dot}numbers such as `2 1`: another order{dot}n: no\n>", names.join(look.sign(" → ", " -> ")))
}

/// Where keys are copied to, and why.
pub(super) fn kept_keys(plan: &Plan, chain: &[usize], state_dir: &Path, look: Look) -> String {
    let mut lines = Vec::new();
    for candidate in chain.iter().map(|place| &plan.candidates[*place]) {
        let Some(variable) = &candidate.key_of else { continue };
        let file = state_dir.join("keychain").join(&candidate.name);
        lines.push(look.paint.paint(Style::Bold, &file.display().to_string()));
        lines.extend(told(
            &format!("{} ", look.paint.paint(Style::Green, "+")),
            "  ",
            &format!("a copy of {variable}, readable by you alone: a service does not see your shell's variables"),
            look,
        ));
    }
    lines.join("\n")
}

/// What changes in the configuration's file, lines that go included.
pub(super) fn change(before: &str, after: &str, file: &Path, look: Look) -> String {
    let head = look.paint.paint(Style::Bold, &file.display().to_string());
    format!("\n{head}\n{}", diff::drawn(before, after, look))
}

/// As people write it: a member on each line, and what is short on one.
pub(super) fn json(value: &Value) -> String {
    lines(value, 1)
}

fn lines(value: &Value, depth: usize) -> String {
    let (indent, outdent) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    let short = inline(value);
    match value {
        Value::Object(members) if !members.is_empty() && (depth == 1 || indent.len() + short.chars().count() > LINE) => {
            let members = members.iter().map(|(key, value)| format!("{indent}{}: {}", Value::from(key.as_str()), lines(value, depth + 1)));
            format!("{{\n{}\n{outdent}}}", members.collect::<Vec<_>>().join(",\n"))
        }
        _ => short,
    }
}

/// On one line, as `profile add` writes a profile beside others.
pub(super) fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), inline(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// How it ended.
pub(super) struct Done<'a> {
    /// Whether the drill passed.
    pub passed: bool,
    /// What the drill showed.
    pub proof: &'a str,
    /// Profiles of the chain whose keys are not proved.
    pub unproved: Vec<&'a str>,
    /// Whether Claude Code goes through hotspare now.
    pub wired: bool,
    /// Commands that take it back.
    pub undo: &'a [String],
}

/// The end: proof, what is not proved, what to do now, how to take it back.
pub(super) fn done(done: &Done<'_>, look: Look) -> String {
    let Done { passed, proof, unproved, wired, undo } = done;
    let (sign, style) = match (passed, unproved.is_empty()) {
        (false, _) => (look.sign("✖", "x"), Style::Red),
        (true, true) => (look.sign("✔", "+"), Style::Green),
        (true, false) => (look.sign("⚠", "!"), Style::Yellow),
    };
    let mut lines = vec![String::new()];
    lines.extend(told(&format!("{} ", look.paint.paint(style, sign)), "  ", proof, look));
    for name in unproved {
        lines.extend(told("  ", "  ", &format!("the key of {name} is not proved: `hotspare profile test {name}`"), look));
    }
    let arrow = look.sign("→", "->");
    lines.push(if *wired {
        format!("{arrow} start Claude Code as always; `hotspare status` shows who serves")
    } else {
        format!("{arrow} protect a session: hotspare run -- claude")
    });
    if !undo.is_empty() {
        lines.push(format!("  undo: {}", undo.join(", then ")));
    }
    lines.join("\n")
}

/// Nothing to fail over to: what there is, and what each way out costs.
pub(super) fn choices(plan: &Plan, look: Look) -> String {
    let bold = |text: &str| look.paint.paint(Style::Bold, text);
    let cyan = |text: &str| look.paint.paint(Style::Cyan, text);
    let able: Vec<&Candidate> = plan.candidates.iter().filter(|candidate| candidate.problem.is_none()).collect();
    let head = match &able[..] {
        [only] => format!("Nobody could take over: {} is all there is. Nothing was changed.", only.name),
        [first, ..] if plan.proposed().len() == 1 => format!(
            "Nobody takes over for {} unless you say so: `hotspare init`, and the numbers of those that you want. Nothing was changed.",
            first.name
        ),
        [first, ..] => format!("{} alone has nobody that could take over. Nothing was changed.", first.name),
        [] => "Nothing was found that could answer Claude Code: no login and no key. Nothing was changed.".to_owned(),
    };
    let mut lines =
        vec![String::new(), bold(&words::fit(&head, usize::MAX, look.unicode)), "Three ways to a spare, and what each costs:".to_owned()];
    let ways = [
        (
            "1",
            "a key of OpenRouter",
            "the same Claude models; you pay per token, and only while it stands in; no monthly price",
            "export OPENROUTER_API_KEY=sk-or-...; hotspare init",
        ),
        (
            "2",
            "a key of Anthropic's API",
            "per token as well, with the limits of an API account; it fails with Anthropic itself",
            "export ANTHROPIC_BACKUP_KEY=sk-ant-...; hotspare init",
        ),
        (
            "3",
            "a second login of Claude",
            "its monthly price; it helps when a limit is reached, not in an outage; mind the provider's terms",
            "CLAUDE_CONFIG_DIR=~/.claude-second claude, then hotspare init",
        ),
    ];
    for (number, what, costs, command) in ways {
        lines.extend(told(&format!("  {number}  "), "     ", &format!("{what}: {costs}"), look));
        lines.push(format!("     {}", cyan(&words::fit(command, usize::MAX, look.unicode))));
    }
    lines.join("\n")
}
