//! Reads `budget`: how much money a profile may take. Never counts any, and never takes a limit for kept that cannot be.

use hotspare_core::{Budget, Platform, Price};

use crate::auth::{Auth, AuthSource};
use crate::codes;
use crate::profiles::ModelMap;
use crate::reader::{Field, Findings};
use crate::tree::Value;

/// Highest limit, in US dollars: more is no limit.
const MOST_USD: u64 = 1_000_000;

/// Digits behind the point: a millionth of a dollar is the least that is counted.
const DIGITS: usize = 6;

const MICRO: u64 = 1_000_000;

/// Reads the section; what is missing or faulty limits nothing, and a fault is an error.
pub(crate) fn read(field: &Field<'_>, findings: &mut Findings) -> Budget {
    let Some(mut table) = field.table(findings) else { return Budget::default() };
    let mut limit = |key| table.take(key).and_then(|field| usd(&field, findings));
    let budget = Budget { per_day: limit("per_day_usd"), per_session: limit("per_session_usd") };
    table.finish(findings);
    budget
}

/// An amount in US dollars, as millionths of one.
fn usd(field: &Field<'_>, findings: &mut Findings) -> Option<u64> {
    let Value::Number(text) = &field.node.value else {
        return field.wrong_type("a number", findings);
    };
    let amount = parse(text);
    if amount.is_none() {
        findings
            .error(codes::OUT_OF_RANGE, &field.at(), format!("`{}` is out of range", field.path), "not an amount in the range")
            .help(format!("write US dollars from 0 to {MOST_USD}, with at most {DIGITS} digits behind the point"));
    }
    amount
}

/// Exactly as written: no float comes between.
fn parse(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > DIGITS {
        return None;
    }
    let part: u64 = format!("{part:0<DIGITS$}").parse().ok()?;
    let amount = whole.parse::<u64>().ok()?.checked_mul(MICRO)?.checked_add(part)?;
    (amount <= MOST_USD * MICRO).then_some(amount)
}

/// Says where a budget cannot be kept, or has nothing to keep.
pub(crate) fn warn(field: &Field<'_>, budget: Budget, platform: Platform, auth: &Auth, models: &ModelMap, findings: &mut Findings) {
    if budget.is_empty() {
        return;
    }
    if matches!(auth.source, AuthSource::ClaudeConfigDir(_)) {
        let title = format!("`{}` limits nothing: the plan of the login pays for it", field.path);
        findings.warning(codes::BUDGET_WITHOUT_PRICE, &field.key_at, title, "no money is spent here").help("remove it");
        return;
    }
    let mut unpriced: Vec<&str> = models.targets().filter(|model| Price::of(platform, model).is_none()).collect();
    unpriced.dedup();
    if let Some(first) = unpriced.first() {
        let more = match unpriced.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let title = format!("`{}` cannot be kept for `{first}`{more}: no price is known", field.path);
        findings
            .warning(codes::BUDGET_WITHOUT_PRICE, &field.key_at, title, "what is spent cannot be counted")
            .help("such a model is not asked for while the budget stands; set the limit at the provider instead, and remove it here");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_exact() {
        for (text, amount) in [("0", 0), ("10", 10 * MICRO), ("0.1", 100_000), ("3.000001", 3_000_001), ("1000000", MOST_USD * MICRO)] {
            assert_eq!(parse(text), Some(amount), "{text}");
        }
        for wrong in ["-1", "1e3", "0.0000001", "1000000.000001", "99999999999999999999", ".5", "", "1.2.3", "+1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_cents_read_back(dollars in 0_u64..1_000_000, cents in 0_u64..100) {
            prop_assert_eq!(parse(&format!("{dollars}.{cents:02}")), Some(dollars * MICRO + cents * 10_000));
        }
    }
}
