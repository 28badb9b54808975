//! Reads what a provider's headers say about limits and waits. Never decides what to do about them.
//!
//! Partial header sets are normal: each reader takes what is there.

use std::time::{Duration, SystemTime};

use hotspare_core::policy::LONGEST_TRUST;
use hotspare_core::{LimitReading, WindowReading, WindowStatus};
use http::HeaderMap;

/// Begins the name of every header on limits.
const ANY: &str = "anthropic-ratelimit-";

const UNIFIED: &str = "anthropic-ratelimit-unified-";

/// The limits of a key each minute.
const MINUTE: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// Longest name of a window that is kept.
const NAME_CAP: usize = 32;

/// Reads everything that an answer's headers say of limits; none when they say nothing.
pub fn reading(headers: &HeaderMap, now: SystemTime) -> Option<LimitReading> {
    // Most providers' answers say nothing.
    headers.keys().find(|name| name.as_str().starts_with(ANY))?;
    let mut reading = LimitReading::default();
    for (name, value) in headers {
        let Some(window) = name.as_str().strip_prefix(UNIFIED).and_then(|rest| rest.strip_suffix("-status")) else { continue };
        // `overage` is policy, not a window (smithersai/smithers#1342); `slow` and `grace` are modes (Claude Code 2.1.332).
        if ["overage", "slow", "grace"].contains(&window) || window.len() > NAME_CAP {
            continue;
        }
        reading.windows.push(WindowReading {
            name: window.into(),
            status: value.to_str().ok().and_then(window_status),
            used: number(headers, &format!("{UNIFIED}{window}-utilization")),
            resets_in: epoch(headers, &format!("{UNIFIED}{window}-reset")).and_then(|at| until_epoch(at, now)),
        });
    }
    for kind in MINUTE {
        reading.windows.extend(minute_window(headers, kind, now));
    }
    let status = text(headers, "anthropic-ratelimit-unified-status").and_then(window_status);
    if status.is_none() && reading.windows.is_empty() {
        return None;
    }
    reading.rejected = status == Some(WindowStatus::Rejected);
    reading.family_only = is_family_claim(headers);
    let rejected = reading.windows.iter().filter(|window| window.status == Some(WindowStatus::Rejected));
    reading.resets_in = rejected
        .filter_map(|window| window.resets_in)
        .max()
        .or_else(|| epoch(headers, "anthropic-ratelimit-unified-reset").and_then(|at| until_epoch(at, now)));
    Some(reading)
}

fn window_status(text: &str) -> Option<WindowStatus> {
    match text.trim().to_ascii_lowercase().as_str() {
        "allowed" => Some(WindowStatus::Allowed),
        "allowed_warning" => Some(WindowStatus::Warning),
        "rejected" => Some(WindowStatus::Rejected),
        _ => None,
    }
}

/// One limit of a key; its reset is a date as RFC 3339 has it, which is not needed: it is always within the minute.
fn minute_window(headers: &HeaderMap, kind: &str, now: SystemTime) -> Option<WindowReading> {
    let limit = number(headers, &format!("anthropic-ratelimit-{kind}-limit")).filter(|limit| *limit > 0.0)?;
    let left = number(headers, &format!("anthropic-ratelimit-{kind}-remaining"))?;
    let until_next = 60 - now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % 60;
    Some(WindowReading {
        name: kind.into(),
        status: None,
        used: Some((1.0 - left / limit).clamp(0.0, 1.0)),
        resets_in: Some(Duration::from_secs(until_next)),
    })
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    text(headers, name)?.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// A weekly limit of one model family: the account as a whole is still allowed (router-for-me/CLIProxyAPI#5915, 33.7 h lost).
fn is_family_claim(headers: &HeaderMap) -> bool {
    match text(headers, "anthropic-ratelimit-unified-representative-claim") {
        Some("seven_day_opus" | "seven_day_sonnet" | "seven_day_fable") => true,
        Some("seven_day_overage_included") => {
            text(headers, "anthropic-ratelimit-unified-7d-status").is_some_and(|status| !status.eq_ignore_ascii_case("rejected"))
        }
        _ => false,
    }
}

/// `retry-after` in seconds or as a date. Negative, past or unreadable counts as absent; never more than is believed.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, "retry-after")?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(LONGEST_TRUST));
    }
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok().map(|time| time.min(LONGEST_TRUST));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    at.duration_since(now).ok().map(|time| time.min(LONGEST_TRUST))
}

/// Whether one of the per-minute limits of an API key is at zero.
pub fn minute_limit_reached(headers: &HeaderMap) -> bool {
    MINUTE.iter().any(|kind| text(headers, &format!("anthropic-ratelimit-{kind}-remaining")) == Some("0"))
}

/// The coding a body came in; none where it can be read as it is.
pub fn content_coding(headers: &HeaderMap) -> Option<&str> {
    text(headers, "content-encoding").map(str::trim).filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
}

fn epoch(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

fn until_epoch(at: u64, now: SystemTime) -> Option<Duration> {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at))?;
    at.duration_since(now).ok().map(|time| time.min(LONGEST_TRUST))
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What the service says of slower service at an account's 5-hour limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowService {
    /// The user may continue now, slower and on the weekly limit: `/low-priority` in Claude Code.
    Offered,
    /// The request asked for it, and there is no room yet. The client waits `…-slow-retry-after` and sends it again.
    Busy,
}

/// The offer in a refusal, as Claude Code 2.1.332 reads it: `…-slow-offer` is `treatment` or `control`, and `control` is not shown;
/// `…-slow-status` answers a request that carried `anthropic-usage-limit: slow`.
pub fn slow_service(headers: &HeaderMap) -> Option<SlowService> {
    if text(headers, "anthropic-ratelimit-unified-slow-status") == Some("slot_busy") {
        return Some(SlowService::Busy);
    }
    (text(headers, "anthropic-ratelimit-unified-slow-offer") == Some("treatment")).then_some(SlowService::Offered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_nonsense_is_none() {
        let read = |value| retry_after(&headers(&[("retry-after", value)]), now());
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(read("Mon, 12 Jan 1970 13:46:50 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("99999999999"), Some(LONGEST_TRUST));
        for nonsense in ["-1", "", "soon", "nan", "inf", "Mon, 12 Jan 1970 13:46:30 GMT"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_last_rejected_window_counts_and_overage_alone_does_not() {
        let read = |pairs: &[(&'static str, &str)]| reading(&headers(pairs), now());
        assert_eq!(read(&[]), None);
        let both = read(&[
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-reset", "1000100"),
            ("anthropic-ratelimit-unified-7d-status", "rejected"),
            ("anthropic-ratelimit-unified-7d-reset", "1000900"),
        ]);
        assert_eq!(both.and_then(|reading| reading.resets_in), Some(Duration::from_secs(900)));
        let overage =
            read(&[("anthropic-ratelimit-unified-status", "allowed"), ("anthropic-ratelimit-unified-overage-status", "rejected")]);
        assert!(overage.is_some_and(|reading| !reading.rejected && reading.windows.is_empty()));
        let bare = read(&[("anthropic-ratelimit-unified-status", "rejected"), ("anthropic-ratelimit-unified-reset", "1000060")]).unwrap();
        assert_eq!((bare.rejected, bare.resets_in, bare.family_only), (true, Some(Duration::from_secs(60)), false));
    }

    /// Claude Code 2.1.332: at the 5-hour limit the service may offer slower service, and only one arm of its trial is shown.
    #[test]
    fn field_19_slow_service_is_read_as_the_client_reads_it() {
        let offer = |value: &str| slow_service(&headers(&[("anthropic-ratelimit-unified-slow-offer", value)]));
        assert_eq!((offer("treatment"), offer("control"), offer("")), (Some(SlowService::Offered), None, None));
        let status = |value: &str| slow_service(&headers(&[("anthropic-ratelimit-unified-slow-status", value)]));
        assert_eq!((status("slot_busy"), status("active"), status("weekly_limit")), (Some(SlowService::Busy), None, None));
        let told = headers(&[
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-slow-status", "off"),
            ("anthropic-ratelimit-unified-grace-status", "rejected"),
        ]);
        assert!(reading(&told, now()).is_some_and(|reading| reading.windows.is_empty()), "a mode is not a window");
    }

    #[test]
    fn each_window_is_read_with_what_there_is_of_it() {
        let read = reading(
            &headers(&[
                ("anthropic-ratelimit-unified-status", "allowed_warning"),
                ("anthropic-ratelimit-unified-5h-status", "allowed_warning"),
                ("anthropic-ratelimit-unified-5h-utilization", "0.93"),
                ("anthropic-ratelimit-unified-5h-reset", "1000100"),
                ("anthropic-ratelimit-unified-7d-status", "something new"),
                ("anthropic-ratelimit-unified-7d-utilization", "-1"),
                ("anthropic-ratelimit-tokens-limit", "1000"),
                ("anthropic-ratelimit-tokens-remaining", "250"),
            ]),
            now(),
        )
        .unwrap();
        assert_eq!(read.windows.len(), 3);
        let window = |name: &str| read.windows.iter().find(|window| *window.name == *name).unwrap();
        assert_eq!((window("5h").status, window("5h").used), (Some(WindowStatus::Warning), Some(0.93)));
        assert_eq!(window("5h").resets_in, Some(Duration::from_secs(100)));
        assert_eq!((window("7d").status, window("7d").used, window("7d").resets_in), (None, None, None));
        assert_eq!(window("tokens").used, Some(0.75));
        assert!(!read.rejected);
    }

    #[test]
    fn a_minute_s_limit_comes_back_with_the_next_minute_and_one_of_nothing_is_none() {
        let read = |limit: &str, left: &str| {
            let pairs = [("anthropic-ratelimit-requests-limit", limit), ("anthropic-ratelimit-requests-remaining", left)];
            reading(&headers(&pairs), now()).and_then(|reading| reading.windows.into_iter().next())
        };
        // The second 1,000,000 is the 40th of its minute.
        assert_eq!(read("10", "1").and_then(|window| window.resets_in), Some(Duration::from_secs(20)));
        assert_eq!(read("0", "0"), None);
        assert_eq!(read("1", "0").and_then(|window| window.used), Some(1.0));
    }

    #[test]
    fn a_window_s_name_is_kept_up_to_its_cap() {
        let read = |length: usize| {
            let name = format!("{UNIFIED}{}-status", "w".repeat(length));
            let mut headers = HeaderMap::new();
            headers.insert(http::HeaderName::try_from(name).unwrap(), http::HeaderValue::from_static("allowed"));
            reading(&headers, now()).map(|reading| reading.windows.len())
        };
        assert_eq!((read(NAME_CAP - 1), read(NAME_CAP), read(NAME_CAP + 1)), (Some(1), Some(1), None));
    }

    #[test]
    fn a_body_s_coding_is_none_where_it_reads_as_it_is() {
        let read = |coding: &str| content_coding(&headers(&[("content-encoding", coding)])).map(str::to_owned);
        assert_eq!(read(" gzip "), Some("gzip".to_owned()));
        assert_eq!((read("identity"), read("Identity"), read("")), (None, None, None));
        assert_eq!(content_coding(&HeaderMap::new()), None);
    }

    /// `CLIProxyAPI` #5915 #5920: one model family's limit took the account out.
    #[test]
    fn r28_a_model_family_s_limit_is_not_the_account_s() {
        let claim = |claim: &str| {
            reading(
                &headers(&[
                    ("anthropic-ratelimit-unified-status", "rejected"),
                    ("anthropic-ratelimit-unified-representative-claim", claim),
                    ("anthropic-ratelimit-unified-7d-status", "allowed"),
                ]),
                now(),
            )
            .is_some_and(|reading| reading.family_only)
        };
        assert!(claim("seven_day_opus"));
        assert!(claim("seven_day_overage_included"));
        assert!(!claim("five_hour"));
        assert!(!claim("seven_day"));
    }

    proptest! {
        #[test]
        fn any_headers_are_read_without_a_panic(values in proptest::collection::vec("[ -~]{0,20}", 8)) {
            let names = [
                "anthropic-ratelimit-unified-status", "anthropic-ratelimit-unified-5h-status", "anthropic-ratelimit-unified-5h-reset",
                "anthropic-ratelimit-unified-5h-utilization", "anthropic-ratelimit-unified-reset", "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining", "retry-after",
            ];
            let pairs: Vec<_> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
            let headers = headers(&pairs);
            if let Some(reading) = reading(&headers, now()) {
                prop_assert!(reading.windows.iter().all(|window| window.used.is_none_or(|used| used >= 0.0)));
                prop_assert!(reading.resets_in.is_none_or(|time| time <= LONGEST_TRUST));
            }
            prop_assert!(retry_after(&headers, now()).is_none_or(|time| time <= LONGEST_TRUST));
        }
    }
}
