//! Finds out what a request needs, when somebody is to be asked who may not be able to take it. Never reads a body for a profile that takes
//! everything.

use hotspare_core::{Endpoint, Plan, RequestFacts};
use hotspare_wire::history;

use super::Driver;
use crate::replay::{Broken, Replay};

/// Looks at the body before the first profile is asked, where that one is known to take less than the client believes and the body's
/// length does not already tell that it fits.
pub(super) async fn look_first(plan: &Plan, facts: &mut RequestFacts, body: &Replay) -> Result<(), Broken> {
    let limited = plan.candidates.first().is_some_and(|first| first.terms.takes.asks_for_a_look(facts.length));
    if limited && facts.endpoint == Endpoint::Messages && !plan.lone {
        facts.needs = body.text().await?.and_then(|text| history::needs(&text, has_foreign(plan)));
    }
    Ok(())
}

fn has_foreign(plan: &Plan) -> bool {
    plan.candidates.iter().any(|candidate| candidate.terms.takes.foreign)
}

impl Driver {
    /// Before another profile is asked: once, and only where one of those that are left is limited.
    pub(super) fn find_needs(&mut self) {
        if self.exchange.facts().endpoint != Endpoint::Messages || !self.exchange.asks_for_needs() {
            return;
        }
        let elsewhere = has_foreign(self.exchange.plan());
        let needs = self.request.body.text_if_here().and_then(|text| history::needs(&text, elsewhere));
        if let Some(needs) = needs {
            self.exchange.on_needs(needs);
        }
    }
}
