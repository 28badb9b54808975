//! Settles what budgets had set aside for an exchange's attempts, by what they have cost. Never decides what a budget leaves.

use std::sync::Arc;

use hotspare_core::ExchangeRecord;
use hotspare_core::spend::Reservation;

use super::Driver;
use crate::record::Event;

impl Driver {
    /// Once for each exchange, when it is over. An answer that may be billed although nobody counted it costs what was set aside: a ceiling
    /// holds for what is seen last on the bill too.
    pub(super) fn settle(&mut self, record: &ExchangeRecord) {
        let reservations = self.exchange.take_reservations();
        if reservations.is_empty() {
            return;
        }
        let cost = |place: usize, reservation: &Reservation| match record.attempts.get(place) {
            Some(attempt) if attempt.maybe_billed => reservation.amount,
            attempt => attempt.and_then(|attempt| attempt.cost_micro_usd).unwrap_or_default(),
        };
        let mut news = Vec::new();
        self.gateway.with_world(|world| {
            for (place, reservation) in &reservations {
                let reached = world.spending.settle(reservation, cost(*place, reservation));
                news.extend(reached.into_iter().map(|reached| (reservation.profile, reached)));
            }
        });
        self.gateway.keep_spending();
        for (profile, reached) in news {
            let profile: Arc<str> = self.snapshot.name(profile).into();
            tracing::warn!(%profile, limit = reached.limit, spent = reached.spent, "a budget is used up (millionths of a US dollar)");
            let session = self.notes.session.as_deref().map(Arc::from);
            self.gateway.tell(&Event::BudgetReached { id: self.id, session, profile, reached });
        }
    }
}
