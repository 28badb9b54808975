//! The cells of the matrix: which there are, and which apply.

use std::fmt;

use super::alone::Outage;
use super::story::Story;
use crate::faults::{HeadFault, Position, StreamFault, fits};
use crate::labels::Label;
use crate::question::Shape;
use crate::refusals::{REFUSALS, Refusal};

/// Who stands behind the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fleet {
    /// One healthy backup.
    Backup,
    /// One whose head takes three seconds.
    SlowBackup,
    /// Two, of which the first has the primary's fault.
    TwoBackups,
    /// One with the primary's fault.
    NoneHealthy,
    /// The primary is overloaded, the first of two has the fault.
    FirstSpare,
    /// The primary is overloaded, the only one has the fault.
    OnlySpare,
}

impl Fleet {
    /// Those of the faults of a connection, a head or a stream.
    const OF_FAULTS: [Self; 4] = [Self::Backup, Self::SlowBackup, Self::TwoBackups, Self::NoneHealthy];

    /// Those of refusals and labels, where it matters whether the primary or a spare has them.
    const OF_WORDS: [Self; 5] = [Self::Backup, Self::TwoBackups, Self::FirstSpare, Self::OnlySpare, Self::NoneHealthy];

    fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::SlowBackup => "slow-backup",
            Self::TwoBackups => "two-backups",
            Self::NoneHealthy => "none-healthy",
            Self::FirstSpare => "first-spare",
            Self::OnlySpare => "only-spare",
        }
    }

    pub(crate) fn has_healthy(self) -> bool {
        !matches!(self, Self::NoneHealthy | Self::OnlySpare)
    }

    /// Whether the primary has the fault.
    pub(crate) fn hits_primary(self) -> bool {
        !matches!(self, Self::FirstSpare | Self::OnlySpare)
    }
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// A fault before the answer begins.
    Head { fault: HeadFault, streaming: bool, fleet: Fleet },
    /// A fault inside it.
    Stream { fault: StreamFault, position: Position, shape: Shape, fleet: Fleet },
    /// A refusal in the words of another company.
    Refusal { refusal: &'static Refusal, streaming: bool, fleet: Fleet },
    /// An answer under an odd label or in an odd wrapping.
    Label { label: Label, streaming: bool, fleet: Fleet },
    /// Several requests in a row.
    Story(Story),
    /// A short outage of the only profile, against the client alone.
    Alone(Outage),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head { fault, streaming, fleet } => {
                write!(f, "{}/{}/{}", fault.word(), if *streaming { "stream" } else { "whole" }, fleet.word())
            }
            Self::Stream { fault, position, shape, fleet } => {
                write!(f, "{}/{}/{}/{}", fault.word(), position.word(), shape.word(), fleet.word())
            }
            Self::Refusal { refusal, streaming, fleet } => {
                write!(f, "refusal/{}/{}/{}", refusal.word, if *streaming { "stream" } else { "whole" }, fleet.word())
            }
            Self::Label { label, streaming, fleet } => {
                write!(f, "label/{}/{}/{}", label.word(), if *streaming { "stream" } else { "whole" }, fleet.word())
            }
            Self::Story(story) => write!(f, "{story}"),
            Self::Alone(outage) => write!(f, "{outage}"),
        }
    }
}

impl Cell {
    /// Whether its answers have its place, and its fault can come there.
    pub(crate) fn applies(self) -> bool {
        match self {
            Self::Head { .. } | Self::Refusal { .. } | Self::Story(_) | Self::Alone(_) => true,
            Self::Stream { fault, position, shape, .. } => position.is_in(shape) && fits(fault, position),
            // Without a block the primary's answer is the client's business (it asks again by itself).
            Self::Label { label: Label::NoBlock, fleet, .. } if fleet.hits_primary() => false,
            Self::Label { label, streaming, .. } => label.fits(streaming),
        }
    }

    /// `None` where the cell says itself who stands there.
    pub(crate) fn fleet(self) -> Option<Fleet> {
        match self {
            Self::Head { fleet, .. } | Self::Stream { fleet, .. } | Self::Refusal { fleet, .. } | Self::Label { fleet, .. } => Some(fleet),
            Self::Story(_) | Self::Alone(_) => None,
        }
    }

    /// Whether a profile is left that could answer.
    pub(crate) fn has_healthy(self) -> bool {
        self.fleet().is_none_or(Fleet::has_healthy)
    }
}

/// Every cell, applicable or not.
pub(crate) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for fault in HeadFault::ALL {
        for streaming in [true, false] {
            cells.extend(Fleet::OF_FAULTS.map(|fleet| Cell::Head { fault, streaming, fleet }));
        }
    }
    for fault in StreamFault::ALL {
        for position in Position::ALL {
            for shape in Shape::ALL {
                cells.extend(Fleet::OF_FAULTS.map(|fleet| Cell::Stream { fault, position, shape, fleet }));
            }
        }
    }
    for refusal in &REFUSALS {
        for streaming in [true, false] {
            cells.extend(Fleet::OF_WORDS.map(|fleet| Cell::Refusal { refusal, streaming, fleet }));
        }
    }
    for label in Label::ALL {
        for streaming in [true, false] {
            cells.extend(Fleet::OF_WORDS.map(|fleet| Cell::Label { label, streaming, fleet }));
        }
    }
    cells.extend(Story::all().into_iter().map(Cell::Story));
    cells.extend(Outage::all().into_iter().map(Cell::Alone));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No peer publishes what it does at which fault (measured): the matrix must be whole before its numbers mean anything.
    #[test]
    fn r70_there_are_as_many_cells_as_the_design_counts() {
        let cells = all();
        let words = 2 * Fleet::OF_WORDS.len() * (REFUSALS.len() + Label::ALL.len());
        assert_eq!(cells.len(), 240 + 2016 + words + Story::all().len() + Outage::all().len());
        let names: std::collections::BTreeSet<String> = cells.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), cells.len());
    }
}
