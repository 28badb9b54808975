//! Checks that no profile stayed blocked without a trial for longer than an hour of traffic (I15), from the records of the exchanges.
//! A provider that recovers without a signal can only be found by trying it.

use std::collections::BTreeMap;
use std::time::Duration;

use hotspare_gateway::Event;
use tokio::time::Instant;

use super::Scene;
use crate::world::Told;

/// Longest time of traffic without a trial.
const LONGEST: Duration = Duration::from_secs(3600);

/// What jitter and a trial under way may add.
const SLACK: Duration = Duration::from_secs(300);

/// One event of a profile.
enum News {
    /// An attempt began.
    Tried,
    /// An exchange skipped it.
    Skipped,
}

pub(super) fn check(scene: &Scene, told: &BTreeMap<u64, Told>) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in &scene.names {
        // When an exchange first skipped it since its last attempt.
        let mut since: Option<Instant> = None;
        for (at, news) in news_of(name, told) {
            match news {
                News::Tried => since = None,
                News::Skipped => {
                    let blocked = at - *since.get_or_insert(at);
                    if blocked > LONGEST + SLACK {
                        wrong.push(format!("I15: `{name}` was skipped for {blocked:.0?} of traffic without a trial"));
                        since = None;
                    }
                }
            }
        }
    }
    wrong
}

fn news_of(name: &str, told: &BTreeMap<u64, Told>) -> Vec<(Instant, News)> {
    let mut news = Vec::new();
    for told in told.values() {
        for (event, at) in told.events.iter().zip(&told.times) {
            match event {
                Event::Asked { profile, .. } if **profile == *name => news.push((*at, News::Tried)),
                Event::Over(record) if record.skipped.iter().any(|skipped| skipped.profile == name) => news.push((*at, News::Skipped)),
                _ => {}
            }
        }
    }
    news.sort_by_key(|(at, _)| *at);
    news
}
