//! Reads what a provider's headers say about limits and waits. Never decides what to do about them.
//!
//! Partial header sets are normal: each reader takes what is there.

use std::time::{Duration, SystemTime};

use hotspare_core::policy::LONGEST_TRUST;
use http::HeaderMap;

/// What the `anthropic-ratelimit-unified-*` headers say of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unified {
    /// Whether the request was rejected because a window is used up.
    pub rejected: bool,
    /// Time until the last rejected window starts anew.
    pub resets_in: Option<Duration>,
    /// Whether the claim is on one model family and not on the account.
    pub family_only: bool,
}

const PREFIX: &str = "anthropic-ratelimit-unified-";

/// Reads the unified headers; none when there is no status.
pub fn unified(headers: &HeaderMap, now: SystemTime) -> Option<Unified> {
    let status = text(headers, "anthropic-ratelimit-unified-status")?;
    let rejected = status.eq_ignore_ascii_case("rejected");
    let mut reset: Option<u64> = None;
    for (name, value) in headers {
        let Some(window) = name.as_str().strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix("-status")) else {
            continue;
        };
        // `overage` is policy, not a window (smithersai/smithers#1342).
        let is_rejected = value.as_bytes().eq_ignore_ascii_case(b"rejected") && window != "overage";
        if is_rejected {
            reset = reset.max(epoch(headers, &format!("{PREFIX}{window}-reset")));
        }
    }
    let reset = reset.or_else(|| epoch(headers, "anthropic-ratelimit-unified-reset"));
    Some(Unified { rejected, resets_in: reset.and_then(|at| until_epoch(at, now)), family_only: is_family_claim(headers) })
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
    ["requests", "tokens", "input-tokens", "output-tokens"]
        .iter()
        .any(|kind| text(headers, &format!("anthropic-ratelimit-{kind}-remaining")) == Some("0"))
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let unified = |pairs: &[(&'static str, &str)]| unified(&headers(pairs), now());
        assert_eq!(unified(&[]), None);
        let both = unified(&[
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-reset", "1000100"),
            ("anthropic-ratelimit-unified-7d-status", "rejected"),
            ("anthropic-ratelimit-unified-7d-reset", "1000900"),
        ]);
        assert_eq!(both.and_then(|unified| unified.resets_in), Some(Duration::from_secs(900)));
        let overage =
            unified(&[("anthropic-ratelimit-unified-status", "allowed"), ("anthropic-ratelimit-unified-overage-status", "rejected")]);
        assert!(overage.is_some_and(|unified| !unified.rejected));
        let bare = unified(&[("anthropic-ratelimit-unified-status", "rejected"), ("anthropic-ratelimit-unified-reset", "1000060")]);
        assert_eq!(bare, Some(Unified { rejected: true, resets_in: Some(Duration::from_secs(60)), family_only: false }));
    }

    #[test]
    fn a_model_family_s_limit_is_not_the_account_s() {
        let claim = |claim: &str| {
            unified(
                &headers(&[
                    ("anthropic-ratelimit-unified-status", "rejected"),
                    ("anthropic-ratelimit-unified-representative-claim", claim),
                    ("anthropic-ratelimit-unified-7d-status", "allowed"),
                ]),
                now(),
            )
            .is_some_and(|unified| unified.family_only)
        };
        assert!(claim("seven_day_opus"));
        assert!(claim("seven_day_overage_included"));
        assert!(!claim("five_hour"));
        assert!(!claim("seven_day"));
    }
}
