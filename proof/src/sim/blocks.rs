//! Judges whether a profile stayed blocked without a trial for longer than an hour of traffic (I15), from the records of the exchanges.
//! A provider that recovers without telling anybody must be found by trying it.

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

/// Everything that happened to one profile, in order.
enum News {
    /// A request was sent to it.
    Asked,
    /// A request of its chain left it out.
    LeftOut,
}

pub(super) fn check(scene: &Scene, told: &BTreeMap<u64, Told>) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in &scene.names {
        // When traffic first left it out since it was last asked.
        let mut since: Option<Instant> = None;
        for (at, news) in news_of(name, told) {
            match news {
                News::Asked => since = None,
                News::LeftOut => {
                    let blocked = at - *since.get_or_insert(at);
                    if blocked > LONGEST + SLACK {
                        wrong.push(format!("I15: `{name}` was left out for {blocked:.0?} of traffic without a trial"));
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
                Event::Asked { profile, .. } if **profile == *name => news.push((*at, News::Asked)),
                Event::Over(record) if record.skipped.iter().any(|skipped| skipped.profile == name) => news.push((*at, News::LeftOut)),
                _ => {}
            }
        }
    }
    news.sort_by_key(|(at, _)| *at);
    news
}
