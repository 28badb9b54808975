//! The one record of an exchange, and the events on the way to it. Never holds a prompt, an answer's text or a credential.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hotspare_core::attempt::AttemptKind;
pub use hotspare_core::record::id_text;
use hotspare_core::{Ending, Failure, Outcome};

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

/// How one exchange went.
#[derive(Debug, Clone)]
pub struct ExchangeRecord {
    /// Its id.
    pub id: u64,
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// The chain it followed.
    pub chain: Arc<str>,
    /// Who served it, if anyone did.
    pub served_by: Option<Arc<str>>,
    /// Whether that was another profile than the chain's first.
    pub on_spare: bool,
    /// Every attempt: who, why, and what it failed with.
    pub attempts: Vec<(Arc<str>, AttemptKind, Option<Failure>)>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Is told what happens. Must not block: it is called on the data path.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: &Event);
}
