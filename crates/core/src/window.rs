//! Remembers what a profile's answers told about its usage windows. Never asks for them: limits are read as answers pass by.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::facts::ModelFamily;
use crate::policy::{LONGEST_TRUST, WINDOW_WARNING};

/// Most windows remembered for one profile.
pub const MOST_WINDOWS: usize = 16;

/// What a window's own status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowStatus {
    /// Room is left.
    Allowed,
    /// Room is left, but not much.
    Warning,
    /// It is used up.
    Rejected,
}

/// What one answer said of one window. Every part may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowReading {
    /// `5h`, `7d`, `7d_opus`, …, or `requests`, `tokens` of a key's limits each minute.
    pub name: Box<str>,
    /// Its status.
    pub status: Option<WindowStatus>,
    /// The used part, 0.0 to 1.0; more where the account pays for more.
    pub used: Option<f64>,
    /// Time until it begins anew.
    pub resets_in: Option<Duration>,
}

/// What one answer said of all limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LimitReading {
    /// Window by window.
    pub windows: Vec<WindowReading>,
    /// `unified-status: rejected`: the account is over its limit, whatever the answer's own status.
    pub rejected: bool,
    /// The rejection names a model family and not the account.
    pub family_only: bool,
    /// Time until the last rejected window begins anew.
    pub resets_in: Option<Duration>,
}

/// A window as it is known now.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageWindow {
    /// See [`WindowReading::name`].
    pub name: Box<str>,
    /// The last status told.
    pub status: WindowStatus,
    /// The used part, 0.0 to 1.0 and above.
    pub used: f64,
    /// When it begins anew.
    pub resets_at: Option<Instant>,
}

impl UsageWindow {
    /// Whether it is nearly or wholly used up.
    pub fn is_near(&self) -> bool {
        self.status != WindowStatus::Allowed || self.used >= WINDOW_WARNING
    }

    fn is_over(&self, now: Instant) -> bool {
        self.resets_at.is_some_and(|at| at <= now)
    }

    /// Whether it counts for a model family.
    fn is_about(&self, family: ModelFamily) -> bool {
        window_family(&self.name).is_none_or(|about| about == family)
    }
}

/// The model family that a window is about; none: all of them.
pub fn window_family(name: &str) -> Option<ModelFamily> {
    match name.strip_prefix("7d_")? {
        "opus" => Some(ModelFamily::Opus),
        "sonnet" => Some(ModelFamily::Sonnet),
        "haiku" => Some(ModelFamily::Haiku),
        // Seen for Fable (router-for-me/CLIProxyAPI#5915).
        "oi" | "fable" => Some(ModelFamily::Fable),
        _ => None,
    }
}

/// The usage windows of one profile.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    known: Vec<UsageWindow>,
}

impl Windows {
    /// Takes note of a reading; what it does not name stays as it was.
    pub fn note(&mut self, now: Instant, reading: &LimitReading) {
        self.known.retain(|window| !window.is_over(now));
        for told in &reading.windows {
            let resets_at = told.resets_in.map(|after| now + after.min(LONGEST_TRUST));
            if let Some(window) = self.known.iter_mut().find(|window| window.name == told.name) {
                window.status = told.status.unwrap_or(window.status);
                window.used = told.used.unwrap_or(window.used);
                window.resets_at = resets_at.or(window.resets_at);
            } else if self.known.len() < MOST_WINDOWS {
                self.known.push(UsageWindow {
                    name: told.name.clone(),
                    status: told.status.unwrap_or(WindowStatus::Allowed),
                    used: told.used.unwrap_or(0.0),
                    resets_at,
                });
            }
        }
    }

    /// The used part of the fullest window that counts for this model family.
    pub fn used(&self, now: Instant, family: ModelFamily) -> f64 {
        let counting = self.known.iter().filter(|window| !window.is_over(now) && window.is_about(family));
        counting.map(|window| if window.status == WindowStatus::Rejected { window.used.max(1.0) } else { window.used }).fold(0.0, f64::max)
    }

    /// Every window that has not begun anew, for people.
    pub fn all(&self, now: Instant) -> impl Iterator<Item = &UsageWindow> {
        self.known.iter().filter(move |window| !window.is_over(now))
    }

    /// A window that was remembered over a restart.
    pub fn restore(&mut self, window: UsageWindow) {
        if self.known.len() < MOST_WINDOWS && !self.known.iter().any(|known| known.name == window.name) {
            self.known.push(window);
        }
    }

    /// Time has passed that nobody saw.
    pub fn shift_back(&mut self, by: Duration) {
        for at in self.known.iter_mut().filter_map(|window| window.resets_at.as_mut()) {
            *at = at.checked_sub(by).unwrap_or(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotspare_testkit::VirtualClock;

    fn reading(name: &str, used: f64, resets_in: u64) -> LimitReading {
        let window = WindowReading { name: name.into(), status: None, used: Some(used), resets_in: Some(Duration::from_secs(resets_in)) };
        LimitReading { windows: vec![window], ..LimitReading::default() }
    }

    #[test]
    fn a_window_is_forgotten_at_its_reset() {
        let now = VirtualClock::new().now();
        let mut windows = Windows::default();
        windows.note(now, &reading("5h", 0.99, 100));
        assert!(windows.used(now, ModelFamily::Opus) > 0.98);
        assert!(windows.used(now + Duration::from_secs(100), ModelFamily::Opus) < f64::EPSILON);
        assert_eq!(windows.all(now + Duration::from_secs(100)).count(), 0);
    }

    #[test]
    fn a_window_is_near_its_end_by_the_provider_s_word_or_by_its_number() {
        let near = |status, used| UsageWindow { name: "5h".into(), status, used, resets_at: None }.is_near();
        assert!(!near(WindowStatus::Allowed, WINDOW_WARNING - 0.01));
        assert!(near(WindowStatus::Allowed, WINDOW_WARNING));
        assert!(near(WindowStatus::Warning, 0.1) && near(WindowStatus::Rejected, 0.1));
    }

    #[test]
    fn a_model_family_s_window_counts_for_it_alone() {
        let now = VirtualClock::new().now();
        let mut windows = Windows::default();
        windows.note(now, &reading("7d_oi", 1.0, 100));
        assert!(windows.used(now, ModelFamily::Fable) >= 1.0);
        assert!(windows.used(now, ModelFamily::Sonnet) < f64::EPSILON);
    }

    #[test]
    fn which_family_a_window_is_about() {
        for (name, family) in [
            ("7d_opus", Some(ModelFamily::Opus)),
            ("7d_sonnet", Some(ModelFamily::Sonnet)),
            ("7d_haiku", Some(ModelFamily::Haiku)),
            ("7d_fable", Some(ModelFamily::Fable)),
            ("7d_oi", Some(ModelFamily::Fable)),
            ("7d_new", None),
            ("7d", None),
            ("5h", None),
        ] {
            assert_eq!(window_family(name), family, "{name}");
        }
    }

    #[test]
    fn what_is_remembered_never_takes_the_place_of_what_is_known_and_keeps_the_bound() {
        let now = VirtualClock::new().now();
        let remembered = |name: &str| UsageWindow { name: name.into(), status: WindowStatus::Allowed, used: 0.1, resets_at: None };
        let mut windows = Windows::default();
        windows.note(now, &reading("5h", 0.5, 100));
        windows.restore(remembered("5h"));
        assert_eq!(windows.all(now).map(|window| window.used).collect::<Vec<_>>(), [0.5]);
        (0..2 * MOST_WINDOWS).for_each(|number| windows.restore(remembered(&format!("w{number}"))));
        assert_eq!(windows.all(now).count(), MOST_WINDOWS);
    }

    #[test]
    fn time_that_nobody_saw_brings_the_reset_nearer() {
        let now = VirtualClock::new().now();
        let mut windows = Windows::default();
        windows.note(now, &reading("5h", 0.5, 100));
        windows.shift_back(Duration::from_secs(40));
        assert_eq!(windows.all(now).next().and_then(|window| window.resets_at), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn a_partial_reading_leaves_the_rest_as_it_was() {
        let now = VirtualClock::new().now();
        let mut windows = Windows::default();
        windows.note(now, &reading("5h", 0.5, 100));
        let bare = WindowReading { name: "5h".into(), status: Some(WindowStatus::Rejected), used: None, resets_in: None };
        windows.note(now, &LimitReading { windows: vec![bare], ..LimitReading::default() });
        let window = windows.all(now).next().unwrap();
        assert_eq!((window.status, window.resets_at), (WindowStatus::Rejected, Some(now + Duration::from_secs(100))));
        assert!((window.used - 0.5).abs() < f64::EPSILON);
        assert!(windows.used(now, ModelFamily::Opus) >= 1.0, "a used-up window is full, whatever its share says");
    }

    #[test]
    fn the_windows_are_bounded_and_their_resets_trusted_no_longer_than_eight_days() {
        let now = VirtualClock::new().now();
        let mut windows = Windows::default();
        for number in 0..3 * MOST_WINDOWS {
            windows.note(now, &reading(&format!("w{number}"), 0.5, u64::from(u32::MAX)));
        }
        assert_eq!(windows.all(now).count(), MOST_WINDOWS);
        assert!(windows.all(now).all(|window| window.resets_at <= Some(now + LONGEST_TRUST)));
    }
}
