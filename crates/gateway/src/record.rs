//! What happens in an exchange, told as it happens. Never holds a prompt, an answer's text or a credential.

use std::sync::Arc;

use hotspare_core::attempt::AttemptKind;
pub use hotspare_core::record::id_text;
use hotspare_core::spend::Reached;
use hotspare_core::{Ending, ExchangeRecord, Failure};

/// Something that happened in an exchange, as it happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request came.
    Arrived {
        /// The exchange's id.
        id: u64,
    },
    /// A profile is asked.
    Asked {
        /// The exchange's id.
        id: u64,
        /// The profile's name.
        profile: Arc<str>,
        /// Why it is asked.
        kind: AttemptKind,
    },
    /// It failed.
    Failed {
        /// The exchange's id.
        id: u64,
        /// The profile's name.
        profile: Arc<str>,
        /// The model that it was asked for, where that is not the client's own.
        model: Option<Arc<str>>,
        /// How.
        failure: Failure,
    },
    /// The client gets this profile's answer.
    Committed {
        /// The exchange's id.
        id: u64,
        /// The profile's name.
        profile: Arc<str>,
        /// The model that it was asked for, where that is not the client's own.
        model: Option<Arc<str>>,
    },
    /// A broken answer ends so.
    Ending {
        /// The exchange's id.
        id: u64,
        /// How.
        ending: Ending,
    },
    /// A profile has no money left: it is not asked until its budget begins anew. Told once for each day, or for each session, just before
    /// the exchange's [`Event::Over`].
    BudgetReached {
        /// The exchange that spent the last of it.
        id: u64,
        /// The client's session id in that exchange.
        session: Option<Arc<str>>,
        /// The profile's name.
        profile: Arc<str>,
        /// Which of its limits, how high it is and what was spent, in millionths of a US dollar.
        reached: Reached,
    },
    /// It is over.
    Over(Arc<ExchangeRecord>),
}

/// Is told what happens. Must not block: it is called on the data path.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: &Event);
}
