//! Holds the screen at 80 and 120 columns, with and without colour and more than ASCII.

use hotspare_core::Fault;
use hotspare_gateway::drill::{ProofState, SpareCheck};

use super::*;
use crate::output::Paint;

const LOOKS: [(&str, Look); 4] = [
    ("80", Look { paint: Paint(false), unicode: true, width: Some(80) }),
    ("120", Look { paint: Paint(false), unicode: true, width: Some(120) }),
    ("80 ascii", Look { paint: Paint(false), unicode: false, width: Some(80) }),
    ("80 color", Look { paint: Paint(true), unicode: true, width: Some(80) }),
];

fn proof(name: &str, words: &str) -> Proof {
    Proof { name: name.to_owned(), held: true, unproved: false, after_ms: Some(4), words: words.to_owned() }
}

fn passed() -> DrillReport {
    let proofs = vec![
        proof("answer", "whole: openrouter-backup went on where work broke off; 57 ms"),
        proof("why", "work: connection broke before the answer was complete, then openrouter-backup; hotspare why hs_006b066a3cce0001"),
        proof("log", "one row, no token: midstream: work stream died → openrouter-backup"),
        proof("line", "the status line says `⚑ drill midstream: work → openrouter-backup`"),
    ];
    DrillReport {
        version: 1,
        fault: Fault::Midstream,
        profile: "work".to_owned(),
        spares: vec!["openrouter-backup".to_owned()],
        skipped: vec!["bedrock-eu: not asked, unauthorized a moment ago".to_owned()],
        gateway: "serve".to_owned(),
        address: "127.0.0.1:4117".to_owned(),
        live: false,
        exchanges: vec!["hs_006b066a3cce0001".to_owned()],
        served_by: Some("openrouter-backup".to_owned()),
        proofs,
        passed: true,
        proved: true,
        models: Vec::new(),
        checked: vec![SpareCheck {
            profile: "openrouter-backup".to_owned(),
            state: ProofState::Proved,
            words: "accepts its key".to_owned(),
            took_ms: Some(12),
            unproved_models: Vec::new(),
        }],
    }
}

/// Failover works, but nothing that is free proves the spare.
fn unproved() -> DrillReport {
    let not = |name: &str, words: &str| Proof { held: false, unproved: true, after_ms: None, ..proof(name, words) };
    let proofs = [
        passed().proofs,
        vec![
            Proof { after_ms: None, ..proof("model", "claude-opus-5-5: openrouter-backup as anthropic/claude-opus-5.5") },
            not("spare", "openrouter-backup: reached, but nothing that is free proves its key"),
            not("client", "Claude Code's settings name no hotspare; `hotspare install`, or `hotspare run -- claude`"),
        ],
    ];
    DrillReport { proofs: proofs.concat(), proved: false, ..passed() }
}

fn failed() -> DrillReport {
    let missing = Proof { held: false, after_ms: None, ..proof("metric", "no counter has moved") };
    DrillReport { proofs: [passed().proofs, vec![missing]].concat(), passed: false, ..passed() }
}

fn without_a_spare() -> DrillReport {
    let refused = Proof { held: false, ..proof("answer", "played by a drill: overloaded") };
    DrillReport { spares: Vec::new(), served_by: None, proofs: vec![refused], passed: false, ..passed() }
}

#[test]
fn screens() {
    for (name, look) in LOOKS {
        insta::assert_snapshot!(format!("passed {name}"), drawn(&passed(), look));
    }
    insta::assert_snapshot!("unproved", drawn(&unproved(), LOOKS[0].1));
    insta::assert_snapshot!("failed", drawn(&failed(), LOOKS[0].1));
    insta::assert_snapshot!("without a spare", drawn(&without_a_spare(), LOOKS[0].1));
}

#[test]
fn no_line_is_wider_than_the_screen() {
    for (_, look) in LOOKS.into_iter().filter(|(name, _)| !name.contains("color")) {
        for report in [passed(), unproved(), failed(), without_a_spare()] {
            let text = drawn(&report, look);
            assert!(text.lines().all(|line| line.chars().count() <= look.width.unwrap_or(usize::MAX)), "{text}");
            assert!(look.unicode || text.is_ascii(), "{text}");
        }
    }
}
