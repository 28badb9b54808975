//! Holds the lines of `logs` as people read them. Never opens a ledger of the user's.

use super::*;
use crate::commands::why::samples;
use crate::output::Paint;

fn printed(look: Look) -> String {
    let mut lines = Lines { look, json: false, day: String::new() };
    let rows = [samples::served(), samples::served_by_a_spare(), samples::handed_back(), samples::exhausted(), samples::hostile()];
    rows.iter().map(|row| lines.text(row).expect("text")).collect::<Vec<_>>().join("\n")
}

#[test]
fn on_a_terminal_each_exchange_takes_one_line_that_fits() {
    let text = printed(Look { paint: Paint(false), unicode: true, width: Some(80) });
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn in_a_file_each_line_stands_alone_and_nothing_is_cut() {
    let text = printed(Look { paint: Paint(false), unicode: false, width: None });
    assert!(text.is_ascii(), "{text}");
    assert_eq!(text.lines().count(), 5);
    insta::assert_snapshot!(text);
}

#[test]
fn json_is_one_record_a_line() {
    let mut lines = Lines { look: Look { paint: Paint(true), unicode: true, width: Some(80) }, json: true, day: String::new() };
    let row = samples::served_by_a_spare();
    let text = lines.text(&row).expect("text");
    assert_eq!(text.lines().count(), 1);
    assert_eq!(serde_json::from_str::<ExchangeRecord>(&text).expect("a record"), row.record);
}
