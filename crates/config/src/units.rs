//! Reads durations and sizes as people write them. Never rounds: a form it does not know is an error.

use std::time::Duration;

use crate::codes;
use crate::reader::{Field, Findings};

/// Longest duration that means anything here.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long exchanges may be remembered.
const RETENTION_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(365 * 24 * 3600);

/// Smallest and largest request body that may be set as the limit.
const BODY_RANGE: std::ops::RangeInclusive<u64> = 64 * 1024..=64 * 1024 * 1024;

/// A duration field: `"250ms"`, `"5s"`, `"2m"`, `"1h"`; over 0, at most 24 h.
pub(crate) fn duration(field: &Field<'_>, findings: &mut Findings) -> Option<Duration> {
    let parsed = parse_duration(field.string_such_as("a duration such as `\"5s\"`", findings)?);
    if parsed.is_none() {
        let title = format!("`{}` is not a duration: `{}`", field.path, field.at().quote());
        findings
            .error(codes::BAD_DURATION, &field.at(), title, "not a duration in the range")
            .help("write a whole number and a unit: `\"250ms\"`, `\"5s\"`, `\"2m\"`, `\"1h\"`; from 1 ms to 24 h");
    }
    parsed
}

/// A field that says how long something is kept: `"12h"`, `"14d"`.
pub(crate) fn retention(field: &Field<'_>, findings: &mut Findings) -> Option<Duration> {
    let parsed = parse_retention(field.string_such_as("a time such as `\"14d\"`", findings)?).filter(|time| RETENTION_RANGE.contains(time));
    if parsed.is_none() {
        let title = format!("`{}` is not a time in the allowed range: `{}`", field.path, field.at().quote());
        findings
            .error(codes::BAD_DURATION, &field.at(), title, "not a time in the range")
            .help("write a whole number and a unit: `\"12h\"`, `\"14d\"`; from 1 h to 365 d");
    }
    parsed
}

/// A size field for request bodies, in bytes: `"512KiB"`, `"32MiB"`.
pub(crate) fn body_size(field: &Field<'_>, findings: &mut Findings) -> Option<u64> {
    let parsed = parse_size(field.string_such_as("a size such as `\"32MiB\"`", findings)?).filter(|size| BODY_RANGE.contains(size));
    if parsed.is_none() {
        let title = format!("`{}` is not a size in the allowed range: `{}`", field.path, field.at().quote());
        findings
            .error(codes::BAD_SIZE, &field.at(), title, "not a size in the range")
            .help("write a whole number and a unit: `\"512KiB\"`, `\"32MiB\"`; from 64KiB to 64MiB");
    }
    parsed
}

/// The same of a text; none where it is no duration in the range.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (count, unit) = split(text)?;
    let duration = match unit {
        "ms" => Duration::from_millis(count),
        "s" => Duration::from_secs(count),
        "m" => Duration::from_secs(count.checked_mul(60)?),
        "h" => Duration::from_secs(count.checked_mul(3600)?),
        _ => return None,
    };
    (duration <= LONGEST).then_some(duration)
}

fn parse_retention(text: &str) -> Option<Duration> {
    let (count, unit) = split(text)?;
    match unit {
        "h" => count.checked_mul(3600).map(Duration::from_secs),
        "d" => count.checked_mul(24 * 3600).map(Duration::from_secs),
        _ => None,
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (count, unit) = split(text)?;
    match unit {
        "KiB" => count.checked_mul(1024),
        "MiB" => count.checked_mul(1024 * 1024),
        _ => None,
    }
}

/// A whole number over 0 without leading zeros, and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if text.starts_with('0') {
        return None;
    }
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_range() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("24h"), Some(LONGEST));
        for wrong in [
            "",
            "5",
            "s",
            "0s",
            "05s",
            "-5s",
            "+5s",
            "1.5s",
            "5 s",
            " 5s",
            "5S",
            "5sec",
            "25h",
            "99999999999999999999s",
            "9999999999999999999h",
            "٥s",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_kept_is_kept_for_hours_or_days() {
        assert_eq!(parse_retention("12h"), Some(Duration::from_secs(43_200)));
        assert_eq!(parse_retention("14d"), Some(Duration::from_secs(1_209_600)));
        for wrong in ["", "14", "d", "0d", "014d", "14 d", "14D", "2w", "90m", "99999999999999999999d", "9999999999999999999d"] {
            assert_eq!(parse_retention(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("64KiB"), Some(65536));
        assert_eq!(parse_size("32MiB"), Some(33_554_432));
        for wrong in ["", "32", "32MB", "32M", "32mib", "0MiB", "1GiB", "18446744073709551615MiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }
}
