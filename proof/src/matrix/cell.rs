//! The cells of the matrix: which there are, and which apply.

use std::fmt;

use crate::faults::{HeadFault, Position, StreamFault, fits};
use crate::question::Shape;

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
}

impl Fleet {
    pub(crate) const ALL: [Self; 4] = [Self::Backup, Self::SlowBackup, Self::TwoBackups, Self::NoneHealthy];

    fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::SlowBackup => "slow-backup",
            Self::TwoBackups => "two-backups",
            Self::NoneHealthy => "none-healthy",
        }
    }

    pub(crate) fn has_healthy(self) -> bool {
        self != Self::NoneHealthy
    }
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// A fault before the answer begins.
    Head { fault: HeadFault, streaming: bool, fleet: Fleet },
    /// A fault inside it.
    Stream { fault: StreamFault, position: Position, shape: Shape, fleet: Fleet },
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
        }
    }
}

impl Cell {
    /// Whether its answers have its place, and its fault can come there.
    pub(crate) fn applies(self) -> bool {
        match self {
            Self::Head { .. } => true,
            Self::Stream { fault, position, shape, .. } => position.is_in(shape) && fits(fault, position),
        }
    }

    pub(crate) fn fleet(self) -> Fleet {
        match self {
            Self::Head { fleet, .. } | Self::Stream { fleet, .. } => fleet,
        }
    }
}

/// Every cell, applicable or not.
pub(crate) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for fault in HeadFault::ALL {
        for streaming in [true, false] {
            cells.extend(Fleet::ALL.map(|fleet| Cell::Head { fault, streaming, fleet }));
        }
    }
    for fault in StreamFault::ALL {
        for position in Position::ALL {
            for shape in Shape::ALL {
                cells.extend(Fleet::ALL.map(|fleet| Cell::Stream { fault, position, shape, fleet }));
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No peer publishes what it does at which fault (measured): the matrix must be whole before its numbers mean anything.
    #[test]
    fn r70_there_are_as_many_cells_as_the_design_counts() {
        let cells = all();
        assert_eq!(cells.len(), 240 + 2016);
        let names: std::collections::BTreeSet<String> = cells.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), cells.len());
    }
}
