//! What each cell must come to: the design's tables of failure classes and of broken streams, in plain data.

use super::cell::{Cell, Fleet};
use crate::client::Client;
use crate::faults::{HeadFault, Position, StreamFault};
use crate::question::Shape;

/// What became of a turn's first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The primary's own answer, byte for byte.
    Passed,
    /// Another profile's answer, and the client never knew.
    Hop,
    /// The connection was cut; the client asked again.
    Cut,
    /// The message ended as if its length were used up; the client asked for the rest.
    HandBack,
    /// Another profile went on in the same message.
    Resume,
    /// The primary's bytes, broken as they came.
    AsIs,
    /// A refusal.
    Refused(u16),
}

impl Outcome {
    /// For the table.
    pub(crate) fn word(self) -> String {
        match self {
            Self::Passed => "primary".into(),
            Self::Hop => "hop".into(),
            Self::Cut => "cut".into(),
            Self::HandBack => "hand back".into(),
            Self::Resume => "resume".into(),
            Self::AsIs => "as is".into(),
            Self::Refused(status) => status.to_string(),
        }
    }
}

/// What the first request of a turn may come to.
pub(crate) fn outcomes(cell: Cell, client: Client) -> Vec<Outcome> {
    match cell {
        Cell::Head { fault, fleet: Fleet::NoneHealthy, .. } => all_failed(fault).to_vec(),
        Cell::Head { fault, fleet, .. } => head(fault, fleet, client),
        Cell::Stream { fault, position, shape, fleet } => {
            let outcomes = stream(fault, position, shape, client);
            outcomes.into_iter().flat_map(|outcome| in_fleet(outcome, fault, fleet)).collect()
        }
    }
}

fn head(fault: HeadFault, fleet: Fleet, client: Client) -> Vec<Outcome> {
    use Outcome::{Hop, Passed, Refused};
    match fault {
        // The request's own fault: no other profile is asked, and the client reads the provider's words.
        HeadFault::Plain400 => vec![Refused(400)],
        HeadFault::S413 => vec![Refused(413)],
        // From the primary: Claude Code heals itself on the wording; for a program the request is repaired.
        HeadFault::ProviderBound400 if fleet != Fleet::TwoBackups && client == Client::Program => vec![Passed],
        HeadFault::ProviderBound400 if fleet != Fleet::TwoBackups => vec![Refused(400)],
        // One hop only in one exchange; the client's own retry goes on to the third.
        HeadFault::S429Short | HeadFault::S429Bare if fleet == Fleet::TwoBackups => vec![Hop, Refused(429)],
        HeadFault::HeadStall if fleet == Fleet::TwoBackups => vec![Hop, Refused(504)],
        _ => vec![Hop],
    }
}

/// What the client hears when every profile has the fault.
fn all_failed(fault: HeadFault) -> &'static [Outcome] {
    use HeadFault as F;
    use Outcome::Refused;
    match fault {
        F::UnknownName | F::Refused | F::Unreachable | F::ConnectTimeout | F::TlsAlert | F::TlsStall => &[Refused(503)],
        F::Closed | F::Reset => &[Refused(503)],
        F::BadCertificate | F::S307 => &[Refused(424)],
        F::HeadStall => &[Refused(504)],
        F::HalfHead => &[Refused(502), Refused(503)],
        F::BadStatusLine | F::Html200 => &[Refused(502)],
        F::S500 => &[Refused(500)],
        F::S502Html | F::S503 => &[Refused(503)],
        F::S504 => &[Refused(503), Refused(504)],
        F::S529 => &[Refused(529)],
        F::S429Short | F::S429Bare => &[Refused(429)],
        F::S429Quota => &[Refused(503)],
        F::S401 | F::S403 | F::Credit | F::GzippedError => &[Refused(424)],
        F::S404 => &[Refused(404)],
        F::ProviderBound400 | F::Plain400 => &[Refused(400)],
        F::S413 => &[Refused(413)],
    }
}

fn stream(fault: StreamFault, position: Position, shape: Shape, client: Client) -> Vec<Outcome> {
    use Outcome::{AsIs, Hop, Passed};
    let held = position <= Position::InBlockStart;
    match fault {
        StreamFault::Oversize | StreamFault::Duplicate => vec![Passed],
        // The clocks may call a dripping start dead; both are right.
        StreamFault::Drip if held => vec![Passed, Hop],
        StreamFault::Drip => vec![Passed],
        StreamFault::Garbage if held => vec![Hop],
        // What the client has had stands, and what is garbage is garbage: it is not ours to judge.
        StreamFault::Garbage => vec![AsIs],
        _ if held => vec![Hop],
        // Everything that counts has come.
        _ if position == Position::BeforeMessageStop => vec![Passed],
        _ => death(position, shape, client),
    }
}

/// The table of broken streams: by what the client has seen closed, what is open, and who the client is.
fn death(position: Position, shape: Shape, client: Client) -> Vec<Outcome> {
    use Outcome::{Cut, HandBack, Resume};
    let claude = client != Client::Program;
    let text_in_hands = match client {
        Client::Interactive => vec![HandBack],
        Client::Print | Client::Program => vec![Resume],
    };
    match (shape, position) {
        (Shape::Text | Shape::TextTool, Position::FirstDelta | Position::MidText | Position::MidChar) => {
            if claude {
                vec![Cut]
            } else {
                vec![Resume]
            }
        }
        (Shape::ThinkingText, Position::MidText | Position::MidChar) => text_in_hands,
        (Shape::Text | Shape::ThinkingText, Position::BeforeMessageDelta) | (Shape::TextTool, Position::BetweenBlocks) => text_in_hands,
        // The end of a tool call is withheld from Claude Code, so that it is open here too.
        (Shape::TextTool, Position::MidTool | Position::BeforeMessageDelta) => {
            if claude {
                vec![HandBack]
            } else {
                vec![Cut]
            }
        }
        // Thinking, open or closed, and nothing that would be lost.
        _ => vec![Cut],
    }
}

/// What the fleet makes of it: who would go on may have the same fault.
fn in_fleet(outcome: Outcome, fault: StreamFault, fleet: Fleet) -> Vec<Outcome> {
    let slow = matches!(fault, StreamFault::Stall | StreamFault::StallWithPings | StreamFault::Drip);
    match (outcome, fleet) {
        // Two providers in a row that never come to their content use up the time for which a head may be held back.
        (Outcome::Hop, Fleet::TwoBackups) if slow => vec![Outcome::Hop, Outcome::Cut, Outcome::Refused(503), Outcome::Refused(504)],
        (Outcome::Hop, Fleet::NoneHealthy) if slow => {
            [Outcome::Hop, Outcome::Cut].into_iter().chain([503, 504].map(Outcome::Refused)).collect()
        }
        (Outcome::Resume, Fleet::TwoBackups | Fleet::NoneHealthy) => vec![Outcome::Resume, Outcome::Cut],
        (Outcome::Hop, Fleet::NoneHealthy) => [500, 502, 503, 504, 529].map(Outcome::Refused).to_vec(),
        (outcome, _) => vec![outcome],
    }
}
