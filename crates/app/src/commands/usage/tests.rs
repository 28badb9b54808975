//! Holds the table of `usage` as people read it. Never opens a ledger of the user's.

use super::*;
use crate::output::Paint;

const LOOK: Look = Look { paint: Paint(false), unicode: true, width: Some(80) };
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn total(day: &str, profile: &str, model: &str) -> UsageTotal {
    UsageTotal {
        day: day.to_owned(),
        profile: profile.to_owned(),
        model: Some(model.to_owned()),
        session: None,
        project: None,
        attempts: 5,
        failed: 1,
        served: 4,
        wasted: 0,
        maybe_billed: 0,
        counted: 4,
        input_tokens: 1234,
        output_tokens: 56_789,
        cache_read_tokens: 38_000_000,
        cache_write_tokens: 210_000,
        priced: 0,
        est_cost_micro_usd: None,
    }
}

#[test]
fn a_profile_s_models_are_added_up_and_days_stay_apart() {
    let spare = UsageTotal {
        priced: 3,
        est_cost_micro_usd: Some(12_400_000),
        wasted: 1,
        maybe_billed: 2,
        counted: 3,
        ..total("2026-01-31", "openrouter-backup", "m")
    };
    let totals = [total("2026-01-30", "work", "a"), total("2026-01-31", "work", "a"), total("2026-01-31", "work", "b"), spare];
    let text = table(&totals, UsageKey::Profile, WEEK, LOOK);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn without_a_price_no_money_is_named() {
    let text = table(&[total("2026-01-31", "work", "a")], UsageKey::Profile, WEEK, LOOK);
    assert!(!text.contains('$'), "{text}");
    assert!(text.contains("does not mean they were free"), "{text}");
}

#[test]
fn nothing_is_said_of_nothing() {
    assert_eq!(table(&[], UsageKey::Profile, WEEK, LOOK), "no request in that time");
}

#[test]
fn another_key_adds_up_what_it_joins() {
    let session = |id: &str, mut total: UsageTotal| {
        total.session = Some(id.to_owned());
        total
    };
    let totals = [
        session("s-one", total("2026-01-31", "work", "a")),
        session("s-two", total("2026-01-31", "work", "a")),
        session("s-one", total("2026-01-31", "spare", "b")),
    ];
    let rows = |key| by_day_and_key(&totals, key).into_iter().map(|row| (key.of(&row).to_owned(), row.served)).collect::<Vec<_>>();
    assert_eq!(rows(UsageKey::Model), [("a".to_owned(), 8), ("b".to_owned(), 4)]);
    assert_eq!(rows(UsageKey::Session), [("s-one".to_owned(), 8), ("s-two".to_owned(), 4)]);
    assert!(table(&totals, UsageKey::Session, WEEK, LOOK).starts_with("  SESSION"));
}
