//! Writes the matrix as a table for people: fault by place, and what the user's client gets. Never writes a time or a machine's name, so that
//! the same code gives the same file.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::alone::Trouble;
use super::cell::{Cell, Fleet};
use super::run::Verdict;
use crate::faults::{HeadFault, Position, StreamFault};
use crate::labels::Label;
use crate::question::Shape;
use crate::refusals::REFUSALS;

const HEAD: &str = "\
# The fault matrix

Written by `cargo xtask matrix`; `cargo xtask ci` fails when the code does something else. Each cell runs the real proxy in one process, with a
primary that breaks in the cell's way, on a clock that is paused, for three clients: interactive Claude Code, `claude -p`, and a program on an
SDK. In every cell with a healthy backup the client must end with the whole answer, no word of ours lost or doubled, and no error shown, but
where the request itself is refused.

- **hop**: another profile answered, and the client never knew. **primary**: the primary's own answer, byte for byte.
- **cut**: the connection was cut without a proper end; the client asked again by itself and got the whole answer from the next profile.
- **hand back**: the message ended as if its length were used up; Claude Code asked for the rest, which came from the next profile.
- **resume**: the next profile went on in the same message.
- **400**, **413**: the request's own fault, relayed word for word: the client mends it by these words, or two profiles refuse it.
- `–`: answers of this shape have no such place, or the fault cannot come there. Clients that differ are named in the order interactive · `-p` · program.
";

/// The whole file.
pub(crate) fn markdown(cells: &[Cell], verdicts: &[Verdict]) -> String {
    let mut text = HEAD.to_owned();
    let runs: usize = verdicts.iter().map(|verdict| verdict.runs).sum();
    let _ = writeln!(
        text,
        "\n{} cells, {} applicable, {runs} turns of a client; errors shown while a healthy profile is left: 0.",
        cells.len(),
        verdicts.len()
    );
    heads(&mut text, verdicts);
    refusals(&mut text, verdicts);
    labels(&mut text, verdicts);
    stories(&mut text, verdicts);
    alone(&mut text, verdicts);
    for shape in Shape::ALL {
        stream(&mut text, shape, verdicts);
    }
    text
}

fn heads(text: &mut String, verdicts: &[Verdict]) {
    *text += "\n## Before the answer begins\n\nStreaming and not, the backup healthy or slow or second in line.\n\n";
    *text += "| fault | a healthy profile is left | none is left |\n| --- | --- | --- |\n";
    for fault in HeadFault::ALL {
        let with = |healthy: bool| {
            let chosen = verdicts.iter().filter(
                |verdict| matches!(verdict.cell, Cell::Head { fault: this, fleet, .. } if this == fault && fleet.has_healthy() == healthy),
            );
            words(&chosen)
        };
        let _ = writeln!(text, "| {} | {} | {} |", fault.word(), with(true), with(false));
    }
}

fn refusals(text: &mut String, verdicts: &[Verdict]) {
    *text += "\n## Refusals in the words of other companies\n\nStreaming and not. With a spare: the primary refuses so, and the spare is healthy. \
              From two: so do both, and a third is healthy. From a spare: the primary is overloaded, the first spare refuses so, and a second is \
              healthy or there is none.\n\n";
    *text +=
        "| refusal | with a spare | from two | from a spare | from the only spare | from all |\n| --- | --- | --- | --- | --- | --- |\n";
    for refusal in &REFUSALS {
        let with = |fleet: Fleet| {
            words(&verdicts.iter().filter(
                move |verdict| matches!(verdict.cell, Cell::Refusal { refusal: this, fleet: of, .. } if this == refusal && of == fleet),
            ))
        };
        let columns = [Fleet::Backup, Fleet::TwoBackups, Fleet::FirstSpare, Fleet::OnlySpare, Fleet::NoneHealthy].map(with);
        let _ = writeln!(text, "| {} | {} |", refusal.word, columns.join(" | "));
    }
}

fn labels(text: &mut String, verdicts: &[Verdict]) {
    *text += "\n## Answers under odd labels\n\nThe same columns.\n\n";
    *text +=
        "| answer | with a spare | from two | from a spare | from the only spare | from all |\n| --- | --- | --- | --- | --- | --- |\n";
    for label in Label::ALL {
        let with =
            |fleet: Fleet| {
                words(&verdicts.iter().filter(
                    move |verdict| matches!(verdict.cell, Cell::Label { label: this, fleet: of, .. } if this == label && of == fleet),
                ))
            };
        let columns = [Fleet::Backup, Fleet::TwoBackups, Fleet::FirstSpare, Fleet::OnlySpare, Fleet::NoneHealthy].map(with);
        let _ = writeln!(text, "| {} | {} |", label.word(), columns.join(" | "));
    }
}

fn stories(text: &mut String, verdicts: &[Verdict]) {
    *text += "\n## Several requests in a row\n\nThe last column is what the turn in question came to.\n\n";
    *text += "| situation | what must be | turn |\n| --- | --- | --- |\n";
    for verdict in verdicts {
        if let Cell::Story(story) = verdict.cell {
            let _ = writeln!(text, "| {story} | {} | {} |", story.must(), words(&std::iter::once(verdict)));
        }
    }
}

fn alone(text: &mut String, verdicts: &[Verdict]) {
    *text += "\n## Short outages of the only profile\n\nSeconds until the client has its answer, without hotspare and with it: at most 1.1 times as \
              long. Interactive Claude Code, then a program; `-p` is as the former. `–`: the client alone sees an error.\n\n";
    *text += "| outage | client | 1 s | 5 s | 25 s | 60 s | 120 s |\n| --- | --- | --- | --- | --- | --- | --- |\n";
    for trouble in Trouble::ALL {
        for client in ["interactive", "program"] {
            let of_trouble = verdicts.iter().filter(|verdict| matches!(verdict.cell, Cell::Alone(outage) if outage.trouble == trouble));
            let times = of_trouble.map(|verdict| match verdict.times.get(client).copied().flatten() {
                Some((direct, through)) => format!("{:.1} → {:.1}", direct.as_secs_f64(), through.as_secs_f64()),
                None => "–".to_owned(),
            });
            let _ = writeln!(text, "| {} | {client} | {} |", trouble.word(), times.collect::<Vec<_>>().join(" | "));
        }
    }
}

fn stream(text: &mut String, shape: Shape, verdicts: &[Verdict]) {
    let _ = writeln!(text, "\n## Inside an answer: {}\n", shape.word());
    let faults: Vec<&str> = StreamFault::ALL.iter().map(|fault| fault.word()).collect();
    let _ = writeln!(text, "| place | {} |\n| --- |{}", faults.join(" | "), " --- |".repeat(faults.len()));
    for position in Position::ALL {
        let columns: Vec<String> = StreamFault::ALL
            .iter()
            .map(|fault| {
                let chosen = verdicts.iter().filter(|verdict| {
                    matches!(verdict.cell, Cell::Stream { fault: f, position: p, shape: s, fleet: Fleet::Backup }
                        if f == *fault && p == position && s == shape)
                });
                words(&chosen)
            })
            .collect();
        let _ = writeln!(text, "| {} | {} |", position.word(), columns.join(" | "));
    }
}

/// One word where every client and fleet came to the same, else one for each client.
fn words<'a>(verdicts: &(impl Iterator<Item = &'a Verdict> + Clone)) -> String {
    let by_client: Vec<String> = crate::client::Client::ALL
        .iter()
        .map(|client| {
            let outcomes: BTreeSet<_> = verdicts.clone().filter_map(|verdict| verdict.outcomes.get(client.word())).flatten().collect();
            outcomes.iter().map(|outcome| outcome.word()).collect::<Vec<_>>().join(", ")
        })
        .collect();
    match by_client.as_slice() {
        [first, rest @ ..] if rest.iter().all(|word| word == first) => {
            if first.is_empty() {
                "–".to_owned()
            } else {
                first.clone()
            }
        }
        _ => by_client.join(" · "),
    }
}
