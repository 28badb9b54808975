//! What happens in an exchange, told as it happens. Never holds a prompt, an answer's text or a credential.

use std::sync::Arc;

use hotspare_core::attempt::AttemptKind;
pub use hotspare_core::record::id_text;
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
        /// How.
        failure: Failure,
    },
    /// The client gets this profile's answer.
    Committed {
        /// The exchange's id.
        id: u64,
        /// The profile's name.
        profile: Arc<str>,
    },
    /// A broken answer ends so.
    Ending {
        /// The exchange's id.
        id: u64,
        /// How.
        ending: Ending,
    },
    /// It is over.
    Over(Arc<ExchangeRecord>),
}

/// Is told what happens. Must not block: it is called on the data path.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: &Event);
}
