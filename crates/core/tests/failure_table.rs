//! Keeps the failure table in `ARCHITECTURE.md` the code's own: it is written from here, and a difference fails.
//!
//! To write it anew: `HOTSPARE_WRITE=1 cargo nextest run -p hotspare-core --test failure_table`.
#![expect(clippy::disallowed_methods, reason = "the document is read from disk, by a test alone")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use hotspare_core::{Failure, FailureKind, Grip, NextStep, Scope, Stage, Strike, Verdict};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
const BEGIN: &str = "<!-- failure table: written by crates/core/tests/failure_table.rs -->\n";
const END: &str = "<!-- end of the failure table -->";

#[test]
fn the_failure_table_in_architecture_md_is_the_code_s_own() {
    let document = std::fs::read_to_string(DOCUMENT).expect("ARCHITECTURE.md is there");
    let begin = document.find(BEGIN).expect("the table's first line") + BEGIN.len();
    let end = begin + document[begin..].find(END).expect("the table's last line");
    let table = table();
    if std::env::var_os("HOTSPARE_WRITE").is_some() {
        let written = format!("{}{table}{}", &document[..begin], &document[end..]);
        return std::fs::write(Path::new(DOCUMENT), written).expect("written");
    }
    let advice = "run `HOTSPARE_WRITE=1 cargo nextest run -p hotspare-core --test failure_table`, and look at the difference";
    assert!(document[begin..end] == table, "the failure table in ARCHITECTURE.md is not the code's: {advice}");
}

fn table() -> String {
    let mut table =
        "| failure | what it is | next for the request | the profile is not asked | its breaker counts | once the client has bytes |\n\
        | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for kind in FailureKind::ALL {
        let meaning = kind.meaning();
        let (plain, committed) = (Failure::new(kind, Stage::Head, ""), Failure::new(kind, Stage::Committed, ""));
        let counts = strike(plain.verdict().strike);
        let _ = writeln!(
            table,
            "| `{}` | {meaning} | {} | {} | {counts} | {} |",
            kind.word(),
            next(kind),
            benched(&plain),
            benched(&committed)
        );
    }
    table
}

/// What follows for the request, apart where the primary differs from a spare, or where the client mends the request.
fn next(kind: FailureKind) -> String {
    let plain = Failure::new(kind, Stage::Head, "");
    let mended = Failure { client_mends: true, ..plain.clone() };
    let (primary, spare) = (step(plain.next_step(true)), step(plain.next_step(false)));
    let relayed = step(mended.next_step(true));
    if primary != relayed {
        format!("{primary}; from the primary, where the client mends its request: {relayed}")
    } else if primary == spare {
        primary.to_owned()
    } else {
        format!("from the primary: {primary}; from a spare: {spare}")
    }
}

fn step(step: NextStep) -> &'static str {
    match step {
        NextStep::SameFresh => "the same profile on a fresh connection",
        NextStep::NextProfile => "the next profile",
        NextStep::NextElsewhere => "the next profile; after one, only at another address",
        NextStep::Relay => "relayed as it is",
    }
}

fn strike(strike: Strike) -> &'static str {
    match strike {
        Strike::None => "nothing",
        Strike::Soft => "in its rate",
        Strike::Hard => "in its rate and in a row",
    }
}

/// The bench, without and with a wish of the provider's.
fn benched(plain: &Failure) -> String {
    let asked = plain.clone().with_retry_after(Some(Duration::from_secs(7)));
    let own = bench(plain.verdict());
    if plain.verdict().bench == asked.verdict().bench { own } else { format!("{own}, or as long as it says") }
}

fn bench(verdict: Verdict) -> String {
    let Some((time, grip)) = verdict.bench else { return "—".to_owned() };
    let whom = match verdict.scope {
        Scope::Profile => "",
        Scope::Family => "the model's family: ",
    };
    let how = match grip {
        Grip::Loose => "first ",
        Grip::Firm => "",
        Grip::Hard => "at all ",
        Grip::Credential => "with this credential ",
    };
    format!("{whom}{how}for {}", words(time))
}

fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
