//! What each cell must come to: the design's tables of failure classes and of broken streams, in plain data.

use super::cell::{Cell, Fleet};
use crate::client::Client;
use crate::faults::{HeadFault, Position, StreamFault};
use crate::labels::Label;
use crate::question::Shape;
use crate::refusals::{Blame, Refusal};

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
    /// A whole message for a streaming request, as it came.
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
        Cell::Head { fault, fleet: Fleet::NoneHealthy, .. } => vec![all_failed(fault)],
        Cell::Head { fault, fleet, .. } => vec![head(fault, fleet, client)],
        Cell::Stream { fault, position, shape, fleet } => {
            let outcomes = stream(fault, position, shape, client);
            // A stream that ends without a byte is an empty answer, not one that broke.
            let is_empty = fault == StreamFault::CleanEof && position == Position::AfterHead;
            match fleet {
                Fleet::NoneHealthy if is_empty => vec![Outcome::Refused(502)],
                _ => outcomes.into_iter().flat_map(|outcome| in_fleet(outcome, fault, fleet)).collect(),
            }
        }
        Cell::Refusal { refusal, fleet, .. } => vec![refused(refusal, fleet)],
        Cell::Label { label, fleet, .. } => vec![labelled(label, fleet)],
        // They judge themselves.
        Cell::Story(_) | Cell::Alone(_) => Vec::new(),
    }
}

/// Whether the refusal that the client gets is the request's own fault, so that the user sees it although a healthy profile may be left.
pub(crate) fn is_request_bound(cell: Cell) -> bool {
    match cell {
        Cell::Head { fault: HeadFault::S413, .. } | Cell::Head { fault: HeadFault::Plain400, fleet: Fleet::TwoBackups, .. } => true,
        Cell::Refusal { refusal, fleet, .. } => is_relayed(refusal, fleet),
        _ => false,
    }
}

/// Whether the client gets the primary's own words, byte for byte.
pub(crate) fn is_relayed(refusal: &Refusal, fleet: Fleet) -> bool {
    match refusal.blame {
        Blame::Request => fleet.hits_primary(),
        // Two profiles say the same of it.
        Blame::Unknown => matches!(fleet, Fleet::TwoBackups | Fleet::NoneHealthy),
        Blame::Profile(_) => false,
    }
}

fn refused(refusal: &Refusal, fleet: Fleet) -> Outcome {
    match (refusal.blame, fleet) {
        _ if is_relayed(refusal, fleet) => Outcome::Refused(refusal.status),
        // A spare's words are never the client's: it gets the primary's overload.
        (_, Fleet::OnlySpare) => Outcome::Refused(529),
        (Blame::Profile(none_left), Fleet::NoneHealthy) => Outcome::Refused(none_left),
        _ => Outcome::Hop,
    }
}

fn labelled(label: Label, fleet: Fleet) -> Outcome {
    match fleet {
        _ if label.is_answer() => {
            if fleet.hits_primary() {
                Outcome::Passed
            } else {
                Outcome::Hop
            }
        }
        Fleet::OnlySpare => Outcome::Refused(529),
        // What the words inside stand for, where there are any.
        Fleet::NoneHealthy => Outcome::Refused(match label {
            Label::UnnamedError => 424,
            Label::ErrorAsStream | Label::BaseResponse | Label::CodeMessage => 503,
            _ => 502,
        }),
        _ => Outcome::Hop,
    }
}

fn head(fault: HeadFault, fleet: Fleet, client: Client) -> Outcome {
    use Outcome::{Hop, Passed, Refused};
    match fault {
        // The request's own fault: no other profile is asked, and the client reads the provider's words.
        HeadFault::S413 => Refused(413),
        // Unknown words: a second profile is asked, and where it refuses too, the client reads the primary's words.
        HeadFault::Plain400 if fleet == Fleet::TwoBackups => Refused(400),
        // From the primary: Claude Code heals itself on the wording; for a program the request is repaired.
        HeadFault::ProviderBound400 if fleet != Fleet::TwoBackups && client == Client::Program => Passed,
        HeadFault::ProviderBound400 if fleet != Fleet::TwoBackups => Refused(400),
        _ => Hop,
    }
}

/// What the client hears when every profile has the fault.
fn all_failed(fault: HeadFault) -> Outcome {
    use HeadFault as F;
    Outcome::Refused(match fault {
        F::UnknownName | F::Refused | F::Unreachable | F::ConnectTimeout | F::TlsAlert | F::TlsStall => 503,
        F::Closed | F::Reset | F::HalfHead => 503,
        F::BadCertificate | F::S307 => 424,
        F::HeadStall => 504,
        F::BadStatusLine | F::Html200 => 502,
        F::S500 => 500,
        F::S502Html | F::S503 | F::S504 => 503,
        F::S529 => 529,
        F::S429Short | F::S429Bare => 429,
        F::S429Quota => 503,
        F::S401 | F::S403 | F::Credit | F::GzippedError => 424,
        F::S404 => 404,
        F::ProviderBound400 | F::Plain400 => 400,
        F::S413 => 413,
    })
}

fn stream(fault: StreamFault, position: Position, shape: Shape, client: Client) -> Vec<Outcome> {
    use Outcome::{Hop, Passed};
    let held = position <= Position::InBlockStart;
    match fault {
        StreamFault::Oversize | StreamFault::Duplicate => vec![Passed],
        // The clocks may call a dripping start dead; both are right.
        StreamFault::Drip if held => vec![Passed, Hop],
        StreamFault::Drip => vec![Passed],
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

/// What the fleet makes of it: the next profile may have the same fault.
fn in_fleet(outcome: Outcome, fault: StreamFault, fleet: Fleet) -> Vec<Outcome> {
    use Outcome::{Cut, Hop, Refused, Resume};
    match (outcome, fleet, fault) {
        // Two providers in a row that never come to their content use up the time for which a head may be held back. The client's next try
        // reaches the third; if the time is enough for the third at once, so much the better.
        (Hop, Fleet::TwoBackups, StreamFault::Stall) => vec![Hop, Refused(503)],
        (Hop, Fleet::TwoBackups, StreamFault::StallWithPings) => vec![Hop, Cut],
        (Hop, Fleet::NoneHealthy, StreamFault::StallWithPings) => vec![Cut],
        (Hop, Fleet::NoneHealthy, fault) if fault != StreamFault::Drip => vec![Refused(503)],
        // The answer that goes on breaks as well.
        (Resume, Fleet::TwoBackups | Fleet::NoneHealthy, _) => vec![Cut],
        _ => vec![outcome],
    }
}
