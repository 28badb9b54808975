//! Dates in the forms that headers and bodies carry, for scripted providers whose clock may be wrong.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Year, month (from 1) and day of a count of days since 1970, by the Gregorian calendar.
fn day_of(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut left = days;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

/// `Fri, 15 Jan 2027 08:00:00 GMT`, of seconds since 1970.
pub(crate) fn http(seconds: u64) -> String {
    let (year, month, day) = day_of(seconds / 86_400);
    let weekday = DAYS[usize::try_from(seconds / 86_400 % 7).unwrap_or_default()];
    let month = MONTHS[usize::try_from(month - 1).unwrap_or_default()];
    format!("{weekday}, {day:02} {month} {year} {} GMT", time(seconds))
}

/// `2027-01-15T08:00:00Z`, of seconds since 1970.
pub(crate) fn rfc3339(seconds: u64) -> String {
    format!("{}Z", plain(seconds).replace(' ', "T"))
}

/// `2027-01-15 08:00:00`, of seconds since 1970.
pub(crate) fn plain(seconds: u64) -> String {
    let (year, month, day) = day_of(seconds / 86_400);
    format!("{year}-{month:02}-{day:02} {}", time(seconds))
}

fn time(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(http(1_800_000_000), "Fri, 15 Jan 2027 08:00:00 GMT");
        assert_eq!(http(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(plain(0), "1970-01-01 00:00:00");
    }
}
