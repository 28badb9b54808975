//! Reads how long to wait from a header's value, from a field of a body and from words.
//!
//! Absolute times are taken relative to the answer's own clock, so that a machine whose clock is a day behind waits no day.

use std::time::{Duration, SystemTime};

use hotspare_core::policy::LONGEST_TRUST;

/// Fields of bodies that tell a time, without case and separators.
const TIMES: [&str; 20] = [
    "retryafter",
    "retryafterseconds",
    "retryafterms",
    "retryin",
    "retrydelay",
    "retrydelayms",
    "resetsinseconds",
    "resetseconds",
    "resetinseconds",
    "resetsin",
    "resetin",
    "resettime",
    "resetsat",
    "resetat",
    "nextresettime",
    "quotaresetdelay",
    "quotaresettimestamp",
    "xratelimitreset",
    "ratelimitreset",
    "cooldownseconds",
];

/// Words before a length of time. Each is looked for in lower case.
const BEFORE_LENGTH: [&str; 12] = [
    "try again in",
    "try again after",
    "retry in",
    "retry after",
    "reset after",
    "resets in",
    "reset in",
    "resets after",
    "please wait",
    "available in",
    "available again in",
    "back in",
];

/// Longest number that is believed, in digits.
const MAX_DIGITS: usize = 13;

/// Beijing is eight hours ahead of UTC the whole year round.
const BEIJING: i64 = 8 * 3600;

const DAY: i64 = 24 * 3600;

/// Whether a field of a body tells a time.
pub(super) fn is_time(field: &str) -> bool {
    TIMES.contains(&field)
}

/// The wait that a field's value stands for, whatever form it has. `field` is its name without case and separators.
pub(super) fn of_field(field: &str, value: &str, now: SystemTime) -> Option<Duration> {
    if field.ends_with("ms") {
        return value.trim().parse::<f64>().ok().and_then(|ms| seconds(ms / 1000.0));
    }
    of_value(value, now)
}

/// Seconds, an epoch in seconds or milliseconds, a length such as `1m30s`, or a date of RFC 3339 or HTTP. `None` if it is past or unreadable.
pub(crate) fn of_value(value: &str, now: SystemTime) -> Option<Duration> {
    /// Numbers above it are an epoch in seconds (2001), and above the other one in milliseconds.
    const EPOCH: f64 = 1e9;
    const EPOCH_MS: f64 = 1e12;
    let value = value.trim();
    if let Ok(number) = value.parse::<f64>() {
        return match number {
            number if number >= EPOCH_MS => until(number / 1000.0, now),
            number if number >= EPOCH => until(number, now),
            number => seconds(number),
        };
    }
    let lower = value.to_ascii_lowercase();
    length(&lower).filter(|(_, end)| *end == lower.len()).map(|(wait, _)| wait).or_else(|| {
        let http = httpdate::parse_http_date(value).ok().map(epoch_of);
        http.or_else(|| date(&lower, 0)).and_then(|at| until(at, now))
    })
}

/// The longest wait that words tell. `beijing`: a date without a zone is Beijing's.
pub(super) fn of_words(words: &str, beijing: bool, now: SystemTime) -> Option<Duration> {
    let lengths = BEFORE_LENGTH.iter().flat_map(|marker| words.match_indices(marker).map(|(place, marker)| place + marker.len()));
    let told = lengths.filter_map(|place| length(fillers_cut(&words[place..]))).map(|(wait, _)| wait);
    let zone = if beijing { BEIJING } else { 0 };
    told.chain(chinese_length(words)).chain(date_in(words, zone).and_then(|at| until(at, now))).chain(clock_in(words, now)).max()
}

/// Text from the first digit on, if only filling words stand before it.
fn fillers_cut(text: &str) -> &str {
    let mut text = text.trim_start();
    for filler in ["approximately ", "about ", "around ", "at least ", "another ", "~", ":"] {
        text = text.strip_prefix(filler).unwrap_or(text).trim_start();
    }
    text
}

/// A length of time at the beginning of the text, and where it ends: `1h53m56s`, `33.5s`, `2 hours and 5 minutes`, `86400 seconds`.
fn length(text: &str) -> Option<(Duration, usize)> {
    let (mut total, mut end) = (None, 0);
    loop {
        let rest = &text[end..];
        let skipped = rest.len() - rest.trim_start_matches([' ', ',']).trim_start_matches("and ").len();
        let rest = &rest[skipped..];
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        if digits == 0 || digits > MAX_DIGITS {
            break;
        }
        let Ok(number) = rest[..digits].parse::<f64>() else { break };
        let after = &rest[digits..];
        let space = after.len() - after.trim_start_matches(' ').len();
        let letters = after[space..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let Some(unit) = unit(&after[space..space + letters]) else { break };
        total = Some(total.unwrap_or(0.0) + number * unit);
        end += skipped + digits + space + letters;
    }
    Some((seconds(total?)?, end))
}

fn unit(name: &str) -> Option<f64> {
    Some(match name {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    })
}

/// `30秒后`, `5 分钟后`, `2小时后`.
fn chinese_length(words: &str) -> Option<Duration> {
    [("秒后", 1.0), ("分钟后", 60.0), ("小时后", 3600.0), ("天后", 86_400.0)].into_iter().find_map(|(unit, length)| {
        let before = words[..words.find(unit)?].trim_end();
        let digits = before.bytes().rev().take_while(u8::is_ascii_digit).take(MAX_DIGITS).count();
        seconds(before[before.len() - digits..].parse::<f64>().ok()? * length)
    })
}

/// The first date in words, as an epoch.
fn date_in(words: &str, zone: i64) -> Option<f64> {
    words.match_indices("20").find_map(|(place, _)| date(&words[place..], zone))
}

/// `2026-03-06 22:19:54`, `2026-04-01 at 00:00 UTC`, `2026-04-01T00:00:00Z`, `…+08:00`: an epoch. `zone` holds where none is named.
fn date(text: &str, zone: i64) -> Option<f64> {
    let year = digits(text, 0, 4)?;
    let month = digits(text, 5, 2)?;
    let day = digits(text, 8, 2)?;
    let separated = matches!(text.as_bytes()[4], b'-' | b'/') && text.as_bytes()[7] == text.as_bytes()[4];
    if !separated || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let rest = text.get(10..)?;
    let time = rest.trim_start_matches(['t', ' ', ',']).trim_start_matches("at ");
    let (in_day, after) = time_of_day(time).unwrap_or((0, rest));
    let zone = zone_of(after).unwrap_or(zone);
    #[expect(clippy::cast_precision_loss, reason = "a date of four digits is far below 2^52 seconds")]
    Some((days_before(year, month, day) * DAY + in_day - zone) as f64)
}

/// `hh:mm`, with or without seconds and their fraction.
fn time_of_day(text: &str) -> Option<(i64, &str)> {
    let (hour, minute) = (digits(text, 0, 2)?, digits(text, 3, 2)?);
    if text.as_bytes()[2] != b':' || hour > 24 || minute > 59 {
        return None;
    }
    let has_seconds = text.as_bytes().get(5) == Some(&b':');
    let second = digits(text, 6, 2).filter(|_| has_seconds);
    let rest = text.get(if second.is_some() { 8 } else { 5 }..)?;
    let rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    Some((hour * 3600 + minute * 60 + second.unwrap_or(0), rest))
}

/// Seconds east of UTC; `None` if no zone is named that is known.
fn zone_of(text: &str) -> Option<i64> {
    let text = text.trim_start_matches([' ', '(']);
    if text.starts_with("utc+8") || text.starts_with("gmt+8") {
        return Some(BEIJING);
    }
    if text.starts_with('z') || text.starts_with("utc") || text.starts_with("gmt") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let minutes = digits(text, 4, 2).or_else(|| digits(text, 3, 2)).unwrap_or(0);
    Some(sign * (digits(text, 1, 2)? * 3600 + minutes * 60))
}

/// `resets at 10:00 UTC`: the next time that it is so late.
fn clock_in(words: &str, now: SystemTime) -> Option<Duration> {
    let place = words.find("resets at ").map(|place| place + "resets at ".len())?;
    let (in_day, rest) = time_of_day(words.get(place..)?)?;
    let zone = zone_of(rest)?;
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds")]
    let now = epoch_of(now) as i64;
    u64::try_from((in_day - zone - now).rem_euclid(DAY)).ok().map(Duration::from_secs)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // March begins the year, so that the leap day ends it.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

fn digits(text: &str, from: usize, count: usize) -> Option<i64> {
    let digits = text.as_bytes().get(from..from + count)?;
    digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

fn epoch_of(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn until(epoch: f64, now: SystemTime) -> Option<Duration> {
    seconds(epoch - epoch_of(now)).filter(|wait| !wait.is_zero())
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().map(|wait| wait.min(LONGEST_TRUST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-03-06 14:00:00 UTC.
    const NOW: u64 = 1_772_805_600;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    #[test]
    fn value_of_any_form_is_a_wait() {
        for (value, expected) in [
            ("7", Some(7.0)),
            ("1.5", Some(1.5)),
            ("120ms", Some(0.12)),
            ("2.5s", Some(2.5)),
            ("1m30s", Some(90.0)),
            ("6h0m0s", Some(21_600.0)),
            ("29m56s", Some(1796.0)),
            ("1772805660", Some(60.0)),
            ("1772805660000", Some(60.0)),
            ("2026-03-06T14:01:00Z", Some(60.0)),
            ("2026-03-06T14:01:00.000Z", Some(60.0)),
            ("2026-03-06T22:01:00+08:00", Some(60.0)),
            ("Fri, 06 Mar 2026 14:01:00 GMT", Some(60.0)),
            ("2026-03-06T13:59:00Z", None),
            ("1772805000", None),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("5 parsecs", None),
        ] {
            assert_eq!(of_value(value, now()), expected.map(Duration::from_secs_f64), "{value}");
        }
        assert_eq!(of_field("retryafterms", "2500", now()), Some(Duration::from_millis(2500)));
    }

    #[test]
    fn wait_is_read_from_words() {
        for (words, beijing, expected) in [
            ("please try again in 1h53m56s.", false, Some(6836)),
            ("retry after 86400 seconds", false, Some(86_400)),
            ("please try again after 1 seconds", false, Some(1)),
            ("please wait 23 seconds before trying again", false, Some(23)),
            ("your quota will reset after 1h43m56s.", false, Some(6236)),
            ("try again in about 2 hours and 5 minutes", false, Some(7500)),
            ("your limit will reset at 2026-03-06 22:19:54", true, Some(1194)),
            ("access is back on 2026-03-07 at 00:00 utc.", false, Some(36_000)),
            ("limit (daily; resets 2026-03-07 00:00 utc)", false, Some(36_000)),
            ("resets at 15:00 utc.", false, Some(3600)),
            ("请在 30 秒后重试", false, Some(30)),
            ("请 2小时后再试", false, Some(7200)),
            ("please wait a moment", false, None),
            ("within the last 5 minutes, please wait a moment and try again", false, None),
            ("error 2026-13-99", false, None),
        ] {
            assert_eq!(of_words(words, beijing, now()), expected.map(Duration::from_secs), "{words}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read_within_what_is_trusted(words in ".{0,200}", value in ".{0,40}", number in any::<f64>()) {
            let words = format!("try again in {words} resets at {words} 2026-{words}");
            for wait in [of_words(&words, true, now()), of_value(&value, now()), of_value(&number.to_string(), now())].into_iter().flatten() {
                prop_assert!(wait <= LONGEST_TRUST);
            }
        }
    }
}
