//! Says numbers the way people read them, and reads durations the way people write them. Never decides what is shown.

use std::time::Duration;

/// Longest duration that a question may reach back.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// `90s`, `15m`, `2h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a whole number and a unit: 90s, 15m, 2h, 7d".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let count: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let duration = count.checked_mul(unit).map(Duration::from_secs).filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| "that is more than ten years".to_owned())
}

/// `0.4 ms`, `410 ms`, `1.25 s`, `12.3 s`, `2m 03s`: never more than eight columns below an hour and a half.
pub(crate) fn time(us: u64) -> String {
    let ms = us / 1000;
    match ms {
        0 => format!("0.{} ms", us / 100),
        1..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{}.{:02} s", ms / 1000, ms % 1000 / 10),
        10_000..100_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{}m {:02}s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// `28 s`, `3 min 12 s`, `2 h 3 min`, `4 d 2 h`: at most ten columns.
pub(crate) fn span(seconds: u64) -> String {
    let two = |unit: u64, name: &str, part: u64, less: &str| match seconds % unit / part {
        0 => format!("{} {name}", seconds / unit),
        rest => format!("{} {name} {rest} {less}", seconds / unit),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(60, "min", 1, "s"),
        3600..86_400 => two(3600, "h", 60, "min"),
        _ => two(86_400, "d", 3600, "h"),
    }
}

/// A time of day names one time only within this.
const CLOCK_REACH: u64 = 18 * 3600;

/// `at 15:40 (in 2 h 3 min)` by this machine's clock and time zone, `in 28 s` where the clock would say less.
pub(crate) fn at_or_in(seconds: u64) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let clock = hotspare_store::local_clock(now.saturating_add(seconds)).filter(|_| (600..CLOCK_REACH).contains(&seconds));
    clock.map_or_else(|| format!("in {}", span(seconds)), |clock| format!("at {clock} (in {})", span(seconds)))
}

/// `28s`, `3m 12s`, `2h 3m`, `4d 2h`: the same where room is short.
pub(crate) fn short_span(seconds: u64) -> String {
    span(seconds).replace(" min", "m").replace(" s", "s").replace(" h", "h").replace(" d", "d")
}

/// `940`, `21.4k`, `1.3M`: at most six columns.
pub(crate) fn count(number: u64) -> String {
    let tenth = |unit: u64| format!("{}.{}", number / unit, number % unit * 10 / unit);
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{}k", tenth(1000)),
        1_000_000..1_000_000_000 => format!("{}M", tenth(1_000_000)),
        _ => format!("{}G", tenth(1_000_000_000)),
    }
}

/// `87 B`, `85.4 KiB`, `36.6 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    let tenth = |unit: u64| format!("{}.{}", number / unit, number % unit * 10 / unit);
    match number {
        0..1024 => format!("{number} B"),
        1024..1_048_576 => format!("{} KiB", tenth(1024)),
        1_048_576..1_073_741_824 => format!("{} MiB", tenth(1_048_576)),
        _ => format!("{} GiB", tenth(1_073_741_824)),
    }
}

/// `$0.093`, `$12.40`, `under $0.001`.
pub(crate) fn money(micro_usd: u64) -> String {
    match micro_usd {
        0 => "$0".to_owned(),
        1..1000 => "<$0.001".to_owned(),
        1000..1_000_000 => format!("$0.{:03}", micro_usd / 1000),
        _ => format!("${}.{:02}", micro_usd / 1_000_000, micro_usd % 1_000_000 / 10_000),
    }
}

/// `1 answer`, `2 answers`.
pub(crate) fn several(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// Cut to so many columns, with a sign that something is missing; nothing that could move the cursor is let through.
pub(crate) fn fit(text: &str, columns: usize, unicode: bool) -> String {
    let text = if unicode { text.to_owned() } else { text.replace('→', "->") };
    let shown: String = text.chars().map(|char| if char.is_control() || (!unicode && !char.is_ascii()) { '?' } else { char }).collect();
    if shown.chars().count() <= columns {
        return shown;
    }
    let mark = if unicode { "…" } else { "~" };
    let start: String = shown.chars().take(columns.saturating_sub(1)).collect();
    format!("{start}{mark}")
}

/// Filled up to so many columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

/// Broken between words into lines of at most so many columns; a longer word gets a line of its own.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "5", "h", "-1h", "1.5h", "2 h", "2w", "99999999999999999999d", "999999d", "٥s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let times: Vec<String> = [0, 9_999, 410_000, 9_999_999, 12_345_678, 99_999_999, 123_000_000, 5_000_000_000].map(time).to_vec();
        assert_eq!(times, ["0.0 ms", "9 ms", "410 ms", "9.99 s", "12.3 s", "99.9 s", "2m 03s", "83m 20s"]);
        assert_eq!(
            [0, 999, 1000, 21_449, 999_999, 1_300_000, 38_000_000_000].map(count),
            ["0", "999", "1.0k", "21.4k", "999.9k", "1.3M", "38.0G"]
        );
        assert_eq!([87, 1024, 87_461, 5_000_000, 39_300_000_000].map(bytes), ["87 B", "1.0 KiB", "85.4 KiB", "4.7 MiB", "36.6 GiB"]);
        assert_eq!([0, 999, 93_000, 12_400_000].map(money), ["$0", "<$0.001", "$0.093", "$12.40"]);
    }

    #[test]
    fn spans_have_two_units_at_most() {
        assert_eq!(
            [0, 59, 60, 192, 3600, 7380, 86_400, 353_000].map(span),
            ["0 s", "59 s", "1 min", "3 min 12 s", "1 h", "2 h 3 min", "1 d", "4 d 2 h"]
        );
        assert_eq!([28, 192, 7380, 353_000].map(short_span), ["28s", "3m 12s", "2h 3m", "4d 2h"]);
    }

    #[test]
    fn nothing_that_moves_the_cursor_is_shown() {
        assert_eq!(fit("a\u{1b}[2Jb\r\n", 20, true), "a?[2Jb??");
        assert_eq!(fit("naïve → plain", 20, false), "na?ve -> plain");
        assert_eq!(fit("openrouter-backup", 10, true), "openroute…");
        assert_eq!(fit("openrouter-backup", 10, false), "openroute~");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("immeasurable", 5), ["immeasurable"]);
        assert!(wrapped("", 5).is_empty());
    }
}
