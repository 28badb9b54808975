//! Says from when a changed order of the chain holds for conversations that are open.

use hotspare_config::Config;
use hotspare_core::ProfileId;
use hotspare_core::policy::FailbackAt;

use crate::words;

/// When the new order holds. `None` if no chain has another order than before.
pub(super) fn change(before: &Config, after: &Config) -> Option<String> {
    if order(before) == order(after) {
        return None;
    }
    let failback = &after.policy.failback;
    let open = match failback.at {
        FailbackAt::Manual => "open ones stay where they are until `hotspare switch` or `reset`".to_owned(),
        FailbackAt::Turn => {
            format!("open ones follow between turns, after {} where they are", words::span(failback.min_stay.as_secs()))
        }
        FailbackAt::ColdCache => {
            "open ones stay with their profile while only its prompt cache is warm (5 min, or 1 h, after the last answer) and it answers"
                .to_owned()
        }
    };
    Some(format!("new conversations use the new order as soon as the service has read it; {open}; at once: `hotspare switch NAME`"))
}

/// The profiles of each chain by name.
fn order(config: &Config) -> Vec<Vec<&str>> {
    let name = |id: ProfileId| config.profiles.get(usize::from(id.0)).map_or("", |profile| &*profile.name);
    config.rules.iter().map(|rule| rule.chain.entries.iter().map(|entry| name(entry.profile)).collect()).collect()
}
