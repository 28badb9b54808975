//! Holds the waterfall of `why` as people read it. Never opens a ledger of the user's.

use std::path::Path;

use super::*;
use crate::commands::why::samples;
use crate::output::Paint;

const PLAIN: Look = Look { paint: Paint(false), unicode: true, width: None };

fn drawn(row: &Row, look: Look) -> String {
    let text = draw(row, look, Some(Path::new("/home/me")));
    let width = look.width.unwrap_or(DEFAULT_WIDTH);
    for line in text.lines() {
        assert!(line.chars().count() <= width, "{} columns: {line}", line.chars().count());
    }
    text
}

/// No peer explains a request (measured; coderouter comes nearest).
#[test]
fn r67_a_failover_is_told_whole() {
    insta::assert_snapshot!(drawn(&samples::served_by_a_spare(), PLAIN));
}

#[test]
fn the_same_in_ascii() {
    let text = drawn(&samples::served_by_a_spare(), Look { unicode: false, ..PLAIN });
    assert!(text.is_ascii(), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn the_same_on_a_narrow_terminal() {
    insta::assert_snapshot!(drawn(&samples::served_by_a_spare(), Look { width: Some(72), ..PLAIN }));
}

#[test]
fn an_exchange_without_trouble_is_short() {
    insta::assert_snapshot!(drawn(&samples::served(), PLAIN));
}

#[test]
fn a_broken_answer_says_how_it_ended() {
    insta::assert_snapshot!(drawn(&samples::handed_back(), PLAIN));
}

#[test]
fn what_hooks_said_is_told() {
    insta::assert_snapshot!(drawn(&samples::ruled(), PLAIN));
}

#[test]
fn when_nobody_could_every_reason_is_there() {
    insta::assert_snapshot!(drawn(&samples::exhausted(), PLAIN));
}

#[test]
fn text_from_outside_cannot_move_the_cursor() {
    for unicode in [true, false] {
        let text = drawn(&samples::hostile(), Look { unicode, ..PLAIN });
        assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{text:?}");
    }
}

#[test]
fn colour_adds_nothing_but_colour() {
    let plain = drawn(&samples::served_by_a_spare(), PLAIN);
    let painted = draw(&samples::served_by_a_spare(), Look { paint: Paint(true), ..PLAIN }, Some(Path::new("/home/me")));
    let mut stripped = String::new();
    let mut rest = painted.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        stripped.push_str(before);
        rest = after.split_once('m').expect("a colour ends").1;
    }
    stripped.push_str(rest);
    let trimmed: Vec<&str> = stripped.lines().map(str::trim_end).collect();
    assert_eq!(trimmed.join("\n"), plain);
}
